//! One mapping in one document, with its path: what [`Keys`](super::keys::Keys) looks keys up in.

use std::borrow::Cow;
use std::rc::Rc;

use crate::error::SourcePosition;

use super::document::{Document, MapEntry, Node, NodeValue};
use super::lines::cut;
use super::recording::MappingRecord;

/// A mapping and where it came from.
#[derive(Clone)]
pub(super) struct MappingSource<'d> {
    pub(super) document: &'d Document,
    pub(super) entries: &'d [MapEntry],
    pub(super) path: String,
    /// The mapping's own place: its name's, or its first key's.
    pub(super) at: Option<usize>,
    pub(super) record: Rc<MappingRecord>,
}

/// A key's value and the mapping it was found in.
pub(super) struct FoundKey<'s, 'd> {
    pub(super) source: &'s MappingSource<'d>,
    pub(super) entry: &'d MapEntry,
}

impl<'d> MappingSource<'d> {
    /// The mapping in `node`; nothing at all counts as a mapping without keys. The kind found when it is another.
    pub(super) fn new(
        document: &'d Document,
        node: &'d Node,
        path: String,
        at: Option<usize>,
        record: Rc<MappingRecord>,
    ) -> Result<MappingSource<'d>, &'static str> {
        let entries: &'d [MapEntry] = match &node.value {
            NodeValue::Map(entries) => entries,
            NodeValue::Null => &[],
            other => return Err(other.kind()),
        };
        record.begin();
        Ok(MappingSource { document, entries, path, at: at.or(node.at), record })
    }

    /// An empty mapping under a key that is not there.
    pub(super) fn empty(&self, key: &'static str) -> MappingSource<'d> {
        let record = self.record.ask(key);
        record.begin();
        MappingSource { entries: &[], record, ..self.clone() }
    }

    pub(super) fn entry(&self, key: &str) -> Option<&'d MapEntry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The key's value, unless it is `~` or empty.
    pub(super) fn find(&self, key: &str) -> Option<FoundKey<'_, 'd>> {
        let entry = self.entry(key).filter(|entry| entry.node.value != NodeValue::Null)?;
        Some(FoundKey { source: self, entry })
    }

    /// The place of a key's value; of the mapping where the key is absent or empty.
    pub(super) fn place(&self, key: &str) -> SourcePosition {
        if key.is_empty() {
            return self.document.place(self.at, &self.path);
        }
        let at = self.entry(key).and_then(|entry| entry.node.scalar_at().or(entry.at));
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

impl<'d> FoundKey<'_, 'd> {
    pub(super) fn value(&self) -> &'d NodeValue {
        &self.entry.node.value
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

/// `path.key`, or `key` at the root.
pub(super) fn join(path: &str, key: &str) -> String {
    let key = in_path(key);
    if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") }
}

/// A key as a path has it. It may be as long as its file, and the path of each value below it holds it: of a long one a path
/// has the start.
pub(super) fn in_path(key: &str) -> Cow<'_, str> {
    const LONGEST: usize = 200;
    cut(key, LONGEST)
}
