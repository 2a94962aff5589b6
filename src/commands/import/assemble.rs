//! Brings what a dialect made into the files that were asked for: one file, or a folder with a main file.

use std::collections::{HashMap, HashSet};

use super::dialect::Options;
use super::model::{Entry, Imported, OutputFile, Query, Target, Value};
use super::report::Report;
use super::url;
use crate::error::Error;

/// The main file in a folder.
const MAIN: &str = "sql-exporter.yaml";
/// Keys of an included file that each of its queries may have itself.
const INHERITED: [&str; 7] =
    ["database", "databases", "driver", "when", "timeout", "interval", "without_privilege"];

/// The files to write, the main one first.
///
/// # Errors
/// They do not fit one file.
pub(super) fn files(
    imported: Imported,
    options: &Options,
    report: &Report,
) -> Result<Vec<OutputFile>, Error> {
    let Imported { main, mut included, needs_files } = imported;
    let mut main = match (main, &options.url) {
        (Some(main), _) => Some(main),
        (None, Some(url)) => {
            Some(OutputFile { databases: vec![target(url, report)], ..OutputFile::default() })
        }
        (None, None) => None,
    };
    if options.is_folder {
        unique_names(&mut included);
        if let Some(main) = &mut main {
            main.name = MAIN.to_owned();
            if !included.is_empty() {
                main.top.set("include", Value::list(included.iter().map(|file| file.name.clone())));
            }
        }
        return Ok(main.into_iter().chain(included).collect());
    }
    if needs_files && !included.is_empty() {
        let message = "the result has several files";
        return Err(Error::config(message).with_hint("write them to a folder: -o DIR/"));
    }
    let mut whole = match main {
        Some(main) => main,
        None if included.len() == 1 => return Ok(included),
        None => OutputFile { name: "imported.yaml".to_owned(), ..OutputFile::default() },
    };
    let one_target = whole.databases.len() == 1;
    included.into_iter().for_each(|file| absorb(&mut whole, file, one_target));
    if whole.name.is_empty() {
        whole.name = MAIN.to_owned();
    }
    Ok(vec![whole])
}

/// The target of `--url`.
pub(super) fn target(text: &str, report: &Report) -> Target {
    let name = url::database(text).unwrap_or_else(|| "db".to_owned());
    let mut entry = Entry::default();
    entry.set("url", url::without_password(text, &name, report));
    Target { name, entry }
}

/// Adds the queries of a file, with what the file says for all of them.
fn absorb(whole: &mut OutputFile, file: OutputFile, one_target: bool) {
    let OutputFile { top, queries, databases, tail, .. } = file;
    whole.top.comments.extend(top.comments.iter().cloned());
    whole.tail.extend(tail);
    whole.databases.extend(databases);
    for mut query in queries {
        for (key, value) in top.keys().iter().filter(|(key, _)| INHERITED.contains(key)) {
            let selects = ["database", "databases", "driver"];
            let is_selected =
                selects.contains(key) && selects.iter().any(|key| query.entry.get(key).is_some());
            // The only target runs everything.
            let is_needless = one_target && *key == "driver";
            if query.entry.get(key).is_none() && !is_selected && !is_needless {
                query.entry.set(key, value.clone());
            }
        }
        whole.queries.push(query);
    }
}

/// Gives each file a name of its own.
fn unique_names(files: &mut [OutputFile]) {
    let mut known = HashSet::new();
    for file in files {
        let stem = file.name.trim_end_matches(".yaml").trim_end_matches(".yml").to_owned();
        let mut name = format!("{stem}.yaml");
        let mut number = 2;
        while !known.insert(name.clone()) {
            name = format!("{stem}_{number}.yaml");
            number += 1;
        }
        file.name = name;
    }
}

/// Names that the queries of one result have, with the last number behind each: a second query of a name gets a number.
#[derive(Debug, Default)]
pub(super) struct QueryNames {
    known: HashSet<String>,
    /// The next number of a name.
    next: HashMap<String, usize>,
}

impl QueryNames {
    /// Makes the name of a query unique.
    pub(super) fn name(&mut self, query: &mut Query, name: &str) {
        let mut unique = name.to_owned();
        while !self.known.insert(unique.clone()) {
            let number = self.next.entry(name.to_owned()).or_insert(2);
            unique = format!("{name}_{number}");
            *number += 1;
        }
        query.entry.set("name", unique);
    }
}
