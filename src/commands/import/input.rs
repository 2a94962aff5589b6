//! The files of the source: read with bounds, split into documents, unwrapped from what Kubernetes and Helm put around them.
//!
//! Knows of a dialect only whether it recognises a tree.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::dialect::{child, entries, scalar};
use super::{address, foreign};
use crate::config;
use crate::error::{Error, SourcePosition};
use crate::file;
use crate::yaml::document::{Document, MAX_BYTES, MapEntry, Node, NodeValue};

/// The most documents of all files together.
const MOST_DOCUMENTS: usize = 1000;
/// How deep Helm values are searched.
const DEEPEST: usize = 8;

/// What stood around a document.
#[derive(Debug, Clone, Default)]
pub(super) struct Wrapper {
    /// `ConfigMap`, `Secret`, or empty.
    pub(super) kind: String,
    /// The labels of its metadata.
    pub(super) labels: Rc<[String]>,
    /// The last key above the document: `queries.yaml`, `customQueries`.
    pub(super) key: String,
}

/// One document of the source.
#[derive(Debug)]
pub(super) struct Input {
    /// The document with what stands around the tree.
    pub(super) document: Rc<Document>,
    /// What is to be converted.
    pub(super) tree: Node,
    /// The path of the tree in its file; empty where nothing stood around it.
    pub(super) path: String,
    /// Where the key of the tree stands.
    pub(super) at: Option<usize>,
    /// What stood around it.
    pub(super) wrapper: Wrapper,
    /// How many bytes the comments have that begin the file.
    head: usize,
    /// Where lines begin whose comments are given: of several keys on a line, the first one has them.
    given: Rc<RefCell<HashSet<usize>>>,
}

impl Input {
    fn new(document: Document) -> Input {
        let lines = document.text.split_inclusive('\n');
        let head = lines.take_while(|line| line.starts_with('#')).map(str::len).sum();
        // Comments right above the first key belong to it.
        let is_apart = line_at(&document.text, head).trim().is_empty();
        Input {
            tree: document.tree.clone(),
            path: String::new(),
            at: None,
            wrapper: Wrapper::default(),
            head: if is_apart { head } else { 0 },
            given: Rc::default(),
            document: Rc::new(document),
        }
    }

    /// A part of it, which stands at `position`.
    fn part(&self, tree: &Node, position: &Position, wrapper: &Wrapper) -> Input {
        Input {
            document: Rc::clone(&self.document),
            tree: tree.clone(),
            path: position.path.clone(),
            at: position.at,
            wrapper: wrapper.clone(),
            head: self.head,
            given: Rc::clone(&self.given),
        }
    }

    /// A name for what is made of it: that of its key, else of its file, without folder and suffix.
    pub(super) fn stem(&self) -> String {
        let name = if self.wrapper.kind.is_empty() { &self.document.file } else { &self.wrapper.key };
        let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        stem.filter(|stem| !stem.is_empty()).unwrap_or_else(|| "imported".to_owned())
    }

    /// The comments at the start of the file, up to an empty line.
    pub(super) fn head_comments(&self) -> Vec<String> {
        self.document.text.get(..self.head).unwrap_or_default().lines().map(comment).collect()
    }

    /// The comments at the end of the file, below the last key.
    pub(super) fn tail_comments(&self) -> Vec<String> {
        let lines = self.document.text.lines().rev();
        let tail = lines.take_while(|line| line.trim().is_empty() || line.starts_with('#'));
        let mut tail: Vec<String> = tail.filter(|line| line.starts_with('#')).map(comment).collect();
        tail.reverse();
        tail
    }

    /// The comments above the line of an offset, up to what is not a comment, at its depth or less: deeper ones are the end
    /// of a block. Those that begin the file are not among them. Each line has them once.
    pub(super) fn comments_above(&self, at: usize) -> Vec<String> {
        let text = &self.document.text;
        let start = line_start(text, at);
        if !self.given.borrow_mut().insert(start) {
            return Vec::new();
        }
        let depth = |text: &str| text.len() - text.trim_start().len();
        let own = depth(line_at(text, start));
        let is_comment = |text: &str| text.trim_start().starts_with('#') && depth(text) <= own;
        let above = text.get(self.head..start).unwrap_or_default().lines().rev();
        let above = above.take_while(|text| text.trim().is_empty() || is_comment(text));
        let mut comments: Vec<String> = above.filter(|text| is_comment(text)).map(comment).collect();
        comments.reverse();
        comments
    }

    /// The comment behind a scalar on its line.
    pub(super) fn comment_behind(&self, at: usize, scalar: &str) -> Option<String> {
        let rest = line_at(&self.document.text, at + scalar.len());
        let rest = rest.trim_start_matches(['"', '\'']);
        let text = rest.trim_start();
        (text.len() < rest.len() && text.starts_with('#')).then(|| comment(text))
    }

    /// The lines of a literal block as they stand in the file, and how many lines are before them: a document that is
    /// indented as a whole is one all the same, and keeps its columns.
    fn literal_block(&self, entry: &MapEntry) -> Option<(String, usize)> {
        let at = entry.at.filter(|_| entry.node.at.is_none())?;
        let start = line_start(&self.document.text, at);
        let before = self.document.text.get(..start)?.matches('\n').count();
        let (head, body) = self.document.text.get(start..)?.split_once('\n')?;
        let (_, marker) = head.rsplit_once(':')?;
        if !matches!(marker.trim(), "|" | "|-" | "|+") {
            return None;
        }
        let depth = at - start;
        let is_inside =
            |line: &&str| line.trim().is_empty() || line.len() - line.trim_start_matches(' ').len() > depth;
        let raw: String = body.split_inclusive('\n').take_while(is_inside).collect();
        // The mark of a document stands at the start of a line only.
        let first = raw.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let raw = if first.trim() == "---" { raw.replacen("---", "   ", 1) } else { raw };
        Some((raw, before + 1))
    }

    /// The text of a file that the source names, relative to its own folder.
    pub(super) fn read_file(&self, name: &str) -> Result<String, String> {
        let path = self.document.folder.join(name);
        file::read_text(&path, MAX_BYTES as u64)
            .map_err(|unread| format!("the file {} {unread}", path.display()))
    }

    /// The documents of the files that a path or a pattern of the source means, in order of their names.
    pub(super) fn included(&self, pattern: &str) -> Result<Vec<Input>, Error> {
        let files = config::files_matching(&self.document.folder, pattern).map_err(Error::config)?;
        let mut inputs = Vec::new();
        for name in files {
            for document in documents(&self.document.folder.join(name))? {
                bounded(&mut inputs, Input::new(document))?;
            }
        }
        Ok(inputs)
    }
}

/// Where the line of an offset begins.
fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1)
}

/// What is left of a line from an offset on.
fn line_at(text: &str, at: usize) -> &str {
    text.get(at..).and_then(|rest| rest.lines().next()).unwrap_or_default()
}

/// The text of a comment line: without its first `#`, one blank, and passwords.
fn comment(line: &str) -> String {
    let text = line.trim();
    let text = text.strip_prefix('#').unwrap_or(text);
    address::without_secrets(text.strip_prefix(' ').unwrap_or(text))
}

/// Reads and unwraps the files; of a folder, those that end in `.yml` or `.yaml`. `recognises` tells whether a tree is one
/// to convert.
///
/// # Errors
/// A file cannot be read or is not YAML: with its place.
pub(super) fn read(paths: &[PathBuf], recognises: &dyn Fn(&Node) -> bool) -> Result<Vec<Input>, Vec<Error>> {
    let (mut inputs, mut errors) = (Vec::new(), Vec::new());
    let mut files = Vec::new();
    for path in paths {
        match files_of(path) {
            Ok(of_path) => files.extend(of_path),
            Err(error) => errors.push(error),
        }
    }
    for path in &files {
        match documents(path) {
            Ok(documents) => {
                errors.extend(unwrap(documents, recognises, &mut inputs).err());
            }
            Err(error) => errors.push(error),
        }
    }
    // A file of comments among others has nothing to convert.
    if errors.is_empty() && inputs.is_empty() {
        errors.extend(files.first().map(|path| empty(path)));
    }
    if errors.is_empty() { Ok(inputs) } else { Err(errors) }
}

/// A text as [`read`] takes it.
///
/// # Errors
/// It is not YAML.
pub(super) fn read_text(
    name: &str,
    folder: &Path,
    text: &str,
    recognises: &dyn Fn(&Node) -> bool,
) -> Result<Vec<Input>, Error> {
    let mut inputs = Vec::new();
    unwrap(documents_of(name, folder, text)?, recognises, &mut inputs)?;
    if inputs.is_empty() { Err(empty(Path::new(name))) } else { Ok(inputs) }
}

/// Adds what is recognised in the documents of one file.
fn unwrap(
    documents: Vec<Document>,
    recognises: &dyn Fn(&Node) -> bool,
    inputs: &mut Vec<Input>,
) -> Result<(), Error> {
    let before = inputs.len();
    let mut others = Vec::new();
    for whole in documents.into_iter().map(Input::new) {
        let known = inputs.len();
        if recognises(&whole.tree) {
            bounded(inputs, whole)?;
            continue;
        }
        let mut search = Unwrap { recognises, whole: &whole, found: inputs };
        search.search(&whole.tree, &Position::default(), &Wrapper::default())?;
        if inputs.len() == known {
            others.push(whole);
        }
    }
    // A file of which nothing is recognised is for the dialect that was named, or for the message that none was found.
    if inputs.len() == before {
        others.into_iter().try_for_each(|whole| bounded(inputs, whole))?;
    }
    Ok(())
}

/// The documents of a file.
fn documents(path: &Path) -> Result<Vec<Document>, Error> {
    let name = path.display().to_string();
    let text = Document::text_of(&name, path)?;
    documents_of(&name, file::folder(path), &text)
}

/// The documents of a text, without those that hold comments only.
fn documents_of(name: &str, folder: &Path, text: &str) -> Result<Vec<Document>, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut documents, mut lines_before) = (Vec::new(), 0);
    for part in parts(text) {
        let is_empty = part.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line.starts_with("---") || line == "..."
        });
        if !is_empty {
            bounded(&mut documents, parsed(name, folder, part, lines_before)?)?;
        }
        lines_before += part.matches('\n').count();
    }
    Ok(documents)
}

/// A document. One that is none because of values that somebody else puts in, such as `- {{DSN}}`, is read with quotes
/// around them.
fn parsed(name: &str, folder: &Path, text: &str, lines_before: usize) -> Result<Document, Error> {
    let parse = |text: String| Document::parse_foreign(name, folder, text, lines_before);
    parse(text.to_owned())
        .or_else(|error| parse(with_quoted_templates(text)).map_err(|_| foreign::unparsed(text, error)))
}

/// The text with quotes around each `{{NAME}}` that is all that a key or an item has. In SQL, `now() - {{AGE}}` is neither.
fn with_quoted_templates(text: &str) -> String {
    let quoted = |line: &str| {
        let (before, inside) = line.split_once(" {{")?;
        let (name, after) = inside.split_once("}}")?;
        let key = before.trim_start().trim_start_matches("- ");
        let is_front = key == "-" || (key.ends_with(':') && !key.contains(' '));
        let is_value = is_front && after.trim().is_empty() && !name.contains(['"', '\\']);
        is_value.then(|| format!("{before} \"{{{{{name}}}}}\"{after}"))
    };
    text.split_inclusive('\n').map(|line| quoted(line).unwrap_or_else(|| line.to_owned())).collect()
}

fn empty(path: &Path) -> Error {
    let place = SourcePosition { file: path.display().to_string(), ..SourcePosition::default() };
    Error::config("the file is empty").at(place)
}

/// The file itself, or the files of a folder by name.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unread = |error: std::io::Error| Error::config(format!("{}: {error}", path.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unread)? {
        let file = entry.map_err(unread)?.path();
        let is_yaml = file.extension().is_some_and(|suffix| suffix == "yml" || suffix == "yaml");
        if is_yaml && file.is_file() {
            bounded(&mut files, file)?;
        }
    }
    if files.is_empty() {
        let message = format!("{}: the folder has no file that ends in .yml or .yaml", path.display());
        return Err(Error::config(message));
    }
    files.sort();
    Ok(files)
}

fn bounded<T>(list: &mut Vec<T>, item: T) -> Result<(), Error> {
    if list.len() == MOST_DOCUMENTS {
        return Err(Error::config(format!("the source has more than {MOST_DOCUMENTS} documents")));
    }
    list.push(item);
    Ok(())
}

/// The text cut before each line that begins a document.
fn parts(text: &str) -> Vec<&str> {
    let is_marker = |line: &str| {
        line.starts_with("---") && matches!(line.as_bytes().get(3), None | Some(b' ' | b'\t' | b'\r' | b'\n'))
    };
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        if is_marker(line) && at > start {
            parts.extend(text.get(start..at));
            start = at;
        }
        at += line.len();
    }
    parts.extend(text.get(start..));
    parts
}

/// Looks for what the dialects recognise.
struct Unwrap<'u> {
    recognises: &'u dyn Fn(&Node) -> bool,
    /// The document that is searched.
    whole: &'u Input,
    found: &'u mut Vec<Input>,
}

impl Unwrap<'_> {
    /// Searches a tree: Kubernetes' objects, the values of Helm, texts that hold YAML.
    fn search(&mut self, node: &Node, position: &Position, wrapper: &Wrapper) -> Result<(), Error> {
        if position.depth > DEEPEST {
            return Ok(());
        }
        if position.depth > 0 && (self.recognises)(node) {
            return bounded(self.found, self.whole.part(node, position, wrapper));
        }
        match &node.value {
            NodeValue::Map(entries) => {
                let wrapper = object(node).unwrap_or_else(|| wrapper.clone());
                for entry in entries {
                    let wrapper = Wrapper { key: entry.key.clone(), ..wrapper.clone() };
                    let encoded = wrapper.kind == "Secret" && last(&position.path) == "data";
                    match &entry.node.value {
                        NodeValue::Scalar(text) => {
                            let text = if encoded { decode(text) } else { Some(text.clone()) };
                            let position = position.key(entry);
                            self.text(entry, &text.unwrap_or_default(), &position, &wrapper)?;
                        }
                        _ => self.search(&entry.node, &position.key(entry), &wrapper)?,
                    }
                }
            }
            NodeValue::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.search(item, &position.item(index, item), wrapper)?;
                }
            }
            NodeValue::Null | NodeValue::Scalar(_) => {}
        }
        Ok(())
    }

    /// A text that may hold a document, or values of Helm with one in them.
    fn text(
        &mut self,
        entry: &MapEntry,
        text: &str,
        position: &Position,
        wrapper: &Wrapper,
    ) -> Result<(), Error> {
        if !text.trim_end().contains('\n') {
            return Ok(());
        }
        let document = &self.whole.document;
        let (text, lines_before, name) = match self.whole.literal_block(entry) {
            Some((raw, line)) => (raw, document.lines_before() + line, document.file.clone()),
            None => (text.to_owned(), 0, format!("{} ({})", document.file, position.path)),
        };
        // What does not parse is a text of another kind.
        let parsed = parsed(&name, &document.folder, &text, lines_before);
        let Ok(inner) = parsed else { return Ok(()) };
        let mut input = Input::new(inner);
        if !(self.recognises)(&input.tree) {
            let inside = Position { depth: position.depth, ..Position::default() };
            let mut search = Unwrap { recognises: self.recognises, whole: &input, found: self.found };
            return search.search(&input.tree, &inside, wrapper);
        }
        input.wrapper = Wrapper {
            kind: if wrapper.kind.is_empty() { "values".to_owned() } else { wrapper.kind.clone() },
            ..wrapper.clone()
        };
        bounded(self.found, input)
    }
}

/// Where a node stands in its document.
#[derive(Debug, Clone, Default)]
struct Position {
    path: String,
    at: Option<usize>,
    depth: usize,
}

impl Position {
    fn key(&self, entry: &MapEntry) -> Position {
        let path =
            if self.path.is_empty() { entry.key.clone() } else { format!("{}.{}", self.path, entry.key) };
        Position { path, at: entry.at, depth: self.depth + 1 }
    }

    fn item(&self, index: usize, item: &Node) -> Position {
        Position { path: format!("{}[{index}]", self.path), at: item.at.or(self.at), depth: self.depth + 1 }
    }
}

/// The wrapper that a mapping is, where it is an object of Kubernetes.
fn object(node: &Node) -> Option<Wrapper> {
    let text = |key: &str| scalar(child(node, key)?).map(str::to_owned);
    text("apiVersion")?;
    let labels = child(node, "metadata").and_then(|metadata| child(metadata, "labels"));
    let labels = labels.map(entries).unwrap_or_default().iter().map(|label| label.key.clone());
    Some(Wrapper { kind: text("kind")?, labels: labels.collect(), key: String::new() })
}

/// The last key of a path.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

fn decode(text: &str) -> Option<String> {
    let packed: String = text.split_whitespace().collect();
    String::from_utf8(STANDARD.decode(packed).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_for_values_of_yaml_not_for_sql() {
        for (line, quoted) in [
            ("interval: {{AGE}}\n", "interval: \"{{AGE}}\"\n"),
            ("  - {{DSN}}", "  - \"{{DSN}}\""),
            ("- dsn: {{DSN}} ", "- dsn: \"{{DSN}}\" "),
            ("  WHERE placed > now() - {{AGE}}", "  WHERE placed > now() - {{AGE}}"),
            ("  -- of: {{REGION}}", "  -- of: {{REGION}}"),
        ] {
            assert_eq!(with_quoted_templates(line), quoted, "{line}");
        }
    }
}
