//! The YAML tags of query-exporter: `!env`, `!file` and `!include`.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::commands::import::dialect::{entries, items, scalar};
use crate::commands::import::input::Input;
use crate::commands::import::model::Value;
use crate::commands::import::report::Report;
use crate::commands::import::section::Section;
use crate::yaml::document::Node;

/// The most files that are included.
const MOST_FILES: usize = 100;

/// A text, or where it comes from.
pub(super) enum TaggedText {
    Plain(String),
    /// `!env`
    Variable(String),
    /// `!file`, relative to the file that names it.
    File(String),
}

/// The text under a key.
pub(super) fn text(section: &Section<'_>, key: &str) -> Option<TaggedText> {
    let entry = section.take(key)?;
    match tagged(&entry.node) {
        Some(("!env", name)) => Some(TaggedText::Variable(name.to_owned())),
        Some(("!file", name)) => Some(TaggedText::File(name.to_owned())),
        _ => section.text(key).map(TaggedText::Plain),
    }
}

/// The value of a key, whatever its text comes from.
pub(super) fn value(section: &Section<'_>, key: &str) -> Option<Value> {
    Some(match text(section, key)? {
        TaggedText::Plain(text) => Value::Text(text),
        TaggedText::Variable(name) => variable(section, &name, key),
        TaggedText::File(name) => Value::Text(file(section, key, &name)?.trim().to_owned()),
    })
}

/// `${NAME}`
pub(super) fn variable(section: &Section<'_>, name: &str, key: &str) -> Value {
    Value::Expanded(section.report.of_source(name, &format!("as before (`{key}`)"), "1"))
}

/// The content of a file; one that cannot be read is reported.
pub(super) fn file(section: &Section<'_>, key: &str, name: &str) -> Option<String> {
    section.input.read_file(name).map_err(|message| section.left_out(key, message)).ok()
}

/// The tag of a node and its text.
fn tagged(node: &Node) -> Option<(&str, &str)> {
    match entries(node) {
        [entry] if entry.key.starts_with('!') => Some((&entry.key, scalar(&entry.node)?)),
        _ => None,
    }
}

/// Whether a node stands for another file.
pub(super) fn is_include(node: &Node) -> bool {
    matches!(tagged(node), Some(("!include", _)))
}

/// The files that `!include` names, by the folder that the name is relative to; `None` while one is read, and where it
/// cannot be.
pub(super) struct Includes(HashMap<(PathBuf, String), Option<Input>>);

impl Includes {
    /// Reads all that the inputs include, and what that includes.
    pub(super) fn of(inputs: &[Input], report: &Report) -> Includes {
        let mut includes = Includes(HashMap::new());
        inputs.iter().for_each(|input| includes.add(input, report));
        includes
    }

    fn add(&mut self, input: &Input, report: &Report) {
        let mut found = Vec::new();
        names(&input.tree, &mut found);
        for (name, at) in found {
            let key = (input.document.folder.clone(), name.to_owned());
            // So files that include each other end.
            if self.0.contains_key(&key) {
                continue;
            }
            let place = || input.document.place(at, &input.path);
            if self.0.len() == MOST_FILES {
                return report.left_out(place(), format!("more than {MOST_FILES} files are included"));
            }
            self.0.insert(key.clone(), None);
            let files = input.included(name).map_err(|error| error.message().to_owned());
            let file =
                files.and_then(|files| files.into_iter().next().ok_or_else(|| format!("{name} is empty")));
            let file = file.map_err(|message| report.left_out(place(), message)).ok();
            file.iter().for_each(|file| self.add(file, report));
            self.0.insert(key, file);
        }
    }

    /// The mapping, or that of the file which stands for it.
    pub(super) fn resolve<'d>(&'d self, section: Section<'d>) -> Option<Section<'d>> {
        if !section.has("!include") {
            return Some(section);
        }
        let key = (section.input.document.folder.clone(), section.text("!include")?);
        Section::root(self.0.get(&key)?.as_ref()?, section.report)
    }
}

/// The names of the files that a tree includes, and where they stand.
fn names<'n>(node: &'n Node, found: &mut Vec<(&'n str, Option<usize>)>) {
    if let Some(("!include", name)) = tagged(node) {
        found.push((name, entries(node).first().and_then(|entry| entry.node.at.or(entry.at))));
    }
    entries(node).iter().for_each(|entry| names(&entry.node, found));
    items(node).iter().for_each(|item| names(item, found));
}
