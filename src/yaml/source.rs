//! One mapping in one document, with its path: what [`Keys`](super::keys::Keys) looks keys up in.

use std::rc::Rc;

use crate::error::SourcePosition;

use super::audit::join;
use super::document::{Document, MapEntry, Node, NodeValue};
use super::record::Record;

/// A mapping and where it came from.
#[derive(Clone)]
pub(super) struct Source<'d> {
    pub(super) document: &'d Document,
    pub(super) entries: &'d [MapEntry],
    pub(super) path: String,
    /// The mapping's own place: its name's, or its first key's.
    pub(super) at: Option<usize>,
    pub(super) record: Rc<Record>,
}

/// A key's value and the mapping it was found in.
pub(super) struct Found<'s, 'd> {
    pub(super) source: &'s Source<'d>,
    pub(super) entry: &'d MapEntry,
}

impl<'d> Source<'d> {
    /// The mapping in `tree`; nothing at all counts as a mapping without keys. The kind found when it is another.
    pub(super) fn new(
        document: &'d Document,
        tree: &'d Node,
        path: String,
        at: Option<usize>,
        record: Rc<Record>,
    ) -> Result<Source<'d>, &'static str> {
        let entries: &'d [MapEntry] = match &tree.value {
            NodeValue::Map(entries) => entries,
            NodeValue::Null => &[],
            other => return Err(other.kind()),
        };
        Ok(Source { document, entries, path, at: at.or(tree.at), record })
    }

    pub(super) fn entries(&self) -> &'d [MapEntry] {
        self.entries
    }

    pub(super) fn entry(&self, key: &str) -> Option<&'d MapEntry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The key's value, unless it is `~` or empty.
    pub(super) fn find(&self, key: &str) -> Option<Found<'_, 'd>> {
        let entry = self.entry(key).filter(|entry| entry.tree.value != NodeValue::Null)?;
        Some(Found { source: self, entry })
    }

    /// The place of a key's value; of the mapping where the key is absent or empty.
    pub(super) fn place(&self, key: &str) -> SourcePosition {
        if key.is_empty() {
            return self.document.place(self.at, &self.path);
        }
        let at = match self.entry(key) {
            Some(entry) if matches!(entry.tree.value, NodeValue::Scalar(_)) => entry.tree.at.or(entry.at),
            Some(entry) => entry.at,
            None => None,
        };
        self.document.place(at.or(self.at), &join(&self.path, key))
    }

    /// What may be shown of a key that was hardly meant as one: `{password:x}`, `{password x}` and
    /// `{password: a,x}` make keys of what may be a secret. `None` for an ordinary key.
    pub(super) fn doubtful<'e>(&self, entry: &'e MapEntry) -> Option<&'e str> {
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if let Some(end) = entry.key.find(|c| !word(c)) {
            return entry.key.get(..end);
        }
        let after = entry.at.and_then(|at| self.document.text.get(at + entry.key.len()..)).unwrap_or("");
        let alone = !after.trim_start_matches(['"', '\'', ' ']).starts_with(':');
        (alone && self.key_place(entry).source.is_none()).then_some("")
    }

    /// The place of a key itself.
    pub(super) fn key_place(&self, entry: &MapEntry) -> SourcePosition {
        self.document.place(entry.at.or(self.at), &join(&self.path, &entry.key))
    }
}

impl<'d> Found<'_, 'd> {
    pub(super) fn value(&self) -> &'d NodeValue {
        &self.entry.tree.value
    }

    pub(super) fn place(&self) -> SourcePosition {
        self.source.place(&self.entry.key)
    }

    /// The path of the value.
    pub(super) fn path(&self) -> String {
        join(&self.source.path, &self.entry.key)
    }

    /// The place of a value inside this one.
    pub(super) fn place_of(&self, at: Option<usize>, path: &str) -> SourcePosition {
        self.source.document.place(at.or(self.entry.at), path)
    }
}
