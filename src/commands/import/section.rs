//! A mapping of the source, whose keys a dialect takes one by one. What has the wrong form is reported and left out; what
//! nobody took can be asked for at the end.

use std::cell::RefCell;
use std::collections::HashSet;

use super::input::Input;
use super::model::Entry;
use super::report::{Report, TOO_LARGE};
use crate::error::SourcePosition;
use crate::yaml::document::{MapEntry, Node, NodeValue};
use crate::yaml::folds::{Folded, folded};

/// One mapping.
pub(super) struct Section<'d> {
    /// Where it stands.
    pub(super) input: &'d Input,
    /// Where faults go.
    pub(super) report: &'d Report,
    entries: &'d [MapEntry],
    /// `jobs[0].queries[1]`; empty at the root.
    path: String,
    at: Option<usize>,
    taken: RefCell<HashSet<&'d str>>,
}

impl<'d> Section<'d> {
    /// The root of an input; `None`, reported, where it is not a mapping.
    pub(super) fn root(input: &'d Input, report: &'d Report) -> Option<Section<'d>> {
        Section::of(input, report, &input.tree, input.path.clone(), input.at)
    }

    /// The mapping in a node; nothing at all is a mapping without keys.
    pub(super) fn of(
        input: &'d Input,
        report: &'d Report,
        node: &'d Node,
        path: String,
        at: Option<usize>,
    ) -> Option<Section<'d>> {
        let at = at.or(node.at);
        let entries: &'d [MapEntry] = match &node.value {
            NodeValue::Map(entries) => entries,
            NodeValue::Null => &[],
            other => {
                let message = format!("expected a mapping, found {}", other.kind());
                report.left_out(input.document.place(at, &path), message);
                return None;
            }
        };
        Some(Section { input, report, entries, path, at, taken: RefCell::default() })
    }

    /// `jobs[0]`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Where the mapping stands.
    pub(super) fn place(&self) -> SourcePosition {
        self.input.document.place(self.at, &self.path)
    }

    /// Where the value of a key stands; the mapping where it is absent.
    pub(super) fn place_of(&self, key: &str) -> SourcePosition {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let of_mapping = || self.input.document.place(self.at, &self.path_of(key));
        entry.map_or_else(of_mapping, |entry| self.place_of_entry(entry))
    }

    fn place_of_entry(&self, entry: &MapEntry) -> SourcePosition {
        let at = entry.at.or(entry.node.at).or(self.at);
        self.input.document.place(at, &self.path_of(&entry.key))
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Reports that a key is not in the result.
    pub(super) fn left_out(&self, key: &str, message: impl Into<String>) {
        self.report.left_out(self.place_of(key), message);
    }

    /// Reports that the mapping is not in the result.
    pub(super) fn leave_out(&self, message: impl Into<String>) {
        self.report.left_out(self.place(), message);
    }

    /// Whether so many bytes of the mapping may be copied; it is reported where they may not.
    pub(super) fn may_copy(&self, bytes: usize) -> bool {
        let may_copy = self.report.may_copy(bytes);
        if !may_copy {
            self.leave_out(TOO_LARGE);
        }
        may_copy
    }

    /// As [`Section::may_copy`], for an entry that is made of it.
    pub(super) fn may_keep(&self, entry: &Entry) -> bool {
        self.may_copy(entry.bytes())
    }

    /// Notes a change at a key.
    pub(super) fn note(&self, key: &str, message: impl Into<String>) {
        self.report.note(self.place_of(key), message);
    }

    /// Whether a key has a value. It is still to be taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && entry.node.value != NodeValue::Null)
    }

    /// Takes a key, whatever its value is.
    pub(super) fn take(&self, key: &str) -> Option<&'d MapEntry> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        self.taken.borrow_mut().insert(&entry.key);
        Some(entry).filter(|entry| entry.node.value != NodeValue::Null)
    }

    /// Reports a value of another kind.
    fn wrong<T>(&self, entry: &MapEntry, expected: &str) -> Option<T> {
        let message = format!("expected {expected}, found {}", entry.node.value.kind());
        self.report.left_out(self.place_of_entry(entry), message);
        None
    }

    /// A text as typed.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        let entry = self.take(key)?;
        match &entry.node.value {
            NodeValue::Scalar(text) => Some(text.clone()),
            _ => self.wrong(entry, "text"),
        }
    }

    /// A statement, without `;` at its end. Lines that YAML joined are lines again where that changes nothing.
    pub(super) fn sql(&self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        let entry = self.take(key)?;
        let folds = entry.at.filter(|_| entry.node.at.is_none()).map_or_else(Vec::new, |at| {
            let after_key = at + entry.key.len();
            // No further than its text can reach, so that many keys take no longer than one.
            let window = 4 * text.len() + 4096;
            let whole = &self.input.document.text;
            let mut end = (after_key + window).min(whole.len());
            while !whole.is_char_boundary(end) {
                end -= 1;
            }
            let near = whole.get(after_key..end).unwrap_or_default();
            folded(near, 0, std::iter::once(text.as_str()))
        });
        Some(without_semicolon(&with_lines(&text, folds.first())).to_owned())
    }

    /// `true` or `false`, as YAML 1.1 and 1.2 write them.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        match self.text(key)?.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            other => {
                self.left_out(key, format!("{other:?} is neither true nor false"));
                None
            }
        }
    }

    /// A number.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        let finite = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        self.parsed(key, "a number", finite)
    }

    /// What `parse` makes of a text; one that is not `what` is reported.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        what: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(key)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.left_out(key, format!("{text:?} is not {what}"));
        }
        parsed
    }

    /// A list of texts, or one text.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        let Some(entry) = self.take(key) else { return Vec::new() };
        match &entry.node.value {
            NodeValue::Scalar(text) => vec![text.clone()],
            NodeValue::List(items) => items
                .iter()
                .filter_map(|item| match &item.value {
                    NodeValue::Scalar(text) => Some(text.clone()),
                    _ => self.wrong(entry, "a list of texts"),
                })
                .collect(),
            _ => self.wrong(entry, "a list of texts").unwrap_or_default(),
        }
    }

    /// A mapping of names to texts; nothing is an empty text.
    pub(super) fn pairs(&self, key: &str) -> Vec<(String, String)> {
        let Some(section) = self.section(key) else { return Vec::new() };
        let entries = section.entries.iter();
        entries
            .filter_map(|entry| match &entry.node.value {
                NodeValue::Scalar(text) => Some((entry.key.clone(), text.clone())),
                NodeValue::Null => Some((entry.key.clone(), String::new())),
                _ => section.wrong(entry, "text"),
            })
            .collect()
    }

    /// A mapping below a key.
    pub(super) fn section(&self, key: &str) -> Option<Section<'d>> {
        let entry = self.take(key)?;
        Section::of(self.input, self.report, &entry.node, self.path_of(key), entry.at)
    }

    /// A list of mappings below a key.
    pub(super) fn sections(&self, key: &str) -> Vec<Section<'d>> {
        let Some(entry) = self.take(key) else { return Vec::new() };
        match &entry.node.value {
            NodeValue::List(items) => {
                sections_of(self.input, self.report, items, &self.path_of(key), entry.at)
            }
            _ => self.wrong(entry, "a list of mappings").unwrap_or_default(),
        }
    }

    /// All keys with the mappings below them: those of names that the source chose. What is not a mapping is reported.
    pub(super) fn named(&self) -> Vec<(&'d str, Section<'d>)> {
        let named = |entry: &'d MapEntry| {
            self.taken.borrow_mut().insert(&entry.key);
            let section =
                Section::of(self.input, self.report, &entry.node, self.path_of(&entry.key), entry.at)?;
            Some((entry.key.as_str(), section))
        };
        self.entries.iter().filter_map(named).collect()
    }

    /// The keys that nobody took.
    pub(super) fn untaken(&self) -> Vec<&'d str> {
        self.untaken_entries().map(|entry| entry.key.as_str()).collect()
    }

    fn untaken_entries(&self) -> impl Iterator<Item = &'d MapEntry> {
        let taken = self.taken.borrow().clone();
        self.entries.iter().filter(move |entry| !taken.contains(entry.key.as_str()))
    }

    /// Notes the keys that nobody took.
    pub(super) fn dead_keys(&self) {
        for entry in self.untaken_entries() {
            self.report.note(self.place_of_entry(entry), "the other exporter does nothing with this key");
        }
    }

    /// Reports that the keys that nobody took are not in the result.
    pub(super) fn leave_out_untaken(&self, message: &str) {
        for entry in self.untaken_entries() {
            self.report.left_out(self.place_of_entry(entry), message);
        }
    }

    /// The comments above one of its keys.
    pub(super) fn comments_of(&self, key: &str) -> Vec<String> {
        let at = self.entries.iter().find(|entry| entry.key == key).and_then(|entry| entry.at);
        at.map(|at| self.input.comments_above(at)).unwrap_or_default()
    }

    /// The comments above the mapping, and above and behind those of its keys that hold a scalar.
    pub(super) fn comments(&self) -> Vec<String> {
        let (mut comments, behind) = self.all_comments();
        comments.extend(behind.into_iter().map(|(key, comment)| format!("{key}: {comment}")));
        comments
    }

    /// An entry that comes from here, with the comments.
    pub(super) fn entry(&self) -> Entry {
        let mut entry = Entry::at(self.place());
        (entry.comments, entry.behind) = self.all_comments();
        entry
    }

    /// The comments above, and those behind a key.
    fn all_comments(&self) -> (Vec<String>, Vec<(String, String)>) {
        let mut above = self.at.map(|at| self.input.comments_above(at)).unwrap_or_default();
        let mut behind = Vec::new();
        for entry in self.entries {
            let (Some(at), NodeValue::Scalar(text)) = (entry.at, &entry.node.value) else { continue };
            above.extend(self.input.comments_above(at));
            let comment = entry.node.at.and_then(|at| self.input.comment_behind(at, text));
            behind.extend(comment.map(|comment| (entry.key.clone(), comment)));
        }
        (above, behind)
    }
}

/// The statement without blanks around it and `;` behind it.
pub(super) fn without_semicolon(sql: &str) -> &str {
    sql.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace())
}

/// The statement two blanks deeper, for a subquery; as it is where a line may begin inside a text.
pub(super) fn indented(sql: &str) -> String {
    let is_whole = |line: &str| line.matches('\'').count().is_multiple_of(2);
    if sql.contains("$$") || !sql.lines().all(is_whole) {
        return sql.to_owned();
    }
    sql.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// The text with an end of line in place of each blank that YAML made of one. In a text of SQL it stays a blank, and so it
/// does where a comment may have been joined with what follows it.
fn with_lines(text: &str, folded: Option<&Folded>) -> String {
    let Some(Folded { folds, .. }) = folded.filter(|_| !text.contains("--") && !text.contains('#')) else {
        return text.to_owned();
    };
    let (mut out, mut from, mut quotes) = (String::new(), 0, 0_usize);
    for fold in folds {
        let Some(piece) = text.get(from..*fold) else { continue };
        out.push_str(piece);
        quotes += piece.matches(['\'', '"']).count();
        from = *fold;
        if quotes.is_multiple_of(2) && text.get(from..).is_some_and(|rest| rest.starts_with(' ')) {
            out.push('\n');
            from += 1;
        }
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// The mappings of a list.
pub(super) fn sections_of<'d>(
    input: &'d Input,
    report: &'d Report,
    items: &'d [Node],
    path: &str,
    at: Option<usize>,
) -> Vec<Section<'d>> {
    let sections = items.iter().enumerate().filter_map(|(index, item)| {
        Section::of(input, report, item, format!("{path}[{index}]"), item.at.or(at))
    });
    sections.collect()
}
