//! What the code that reads a mapping asked of it: which keys it took and whether their values may be shown. For the
//! schema also what each may hold: the JSON Schema and the documentation's tables are made from it.
//!
//! For the schema, a file is read for the keys that are asked for, not for what it says: mappings, lists and names that
//! are absent are read as if an empty one were there.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What a value may be. A scalar may also hold `${…}`, save in [`ValueKind::Cells`]. Of a key that holds mappings,
/// [`KeyRecord::inner`] says what these hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueKind {
    /// Any scalar.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number from 0 to this.
    Whole(u64),
    /// Any number.
    Number,
    /// `500ms`, or a number of seconds.
    Duration,
    /// `64MiB`, or a number of bytes.
    Size,
    /// One of these words, in any case.
    Words(Vec<&'static str>),
    /// A list of texts, or one.
    Texts,
    /// A mapping of names to texts.
    Pairs,
    /// A list of rows: each a mapping of columns to scalars or nothing.
    Cells,
    /// A mapping.
    Mapping,
    /// A list of mappings.
    Items,
    /// A mapping of any names to mappings.
    Entries,
    /// A mapping of names to texts and to mappings.
    PairsOrEntries,
}

/// One key that was asked for.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// As written.
    pub name: &'static str,
    /// For the schema: what its value may be, any of these.
    pub kinds: Vec<ValueKind>,
    /// What was asked of the mappings under it.
    pub inner: Rc<MappingRecord>,
    /// Known only to be refused.
    refused: bool,
    /// Its text is taken as typed.
    as_typed: bool,
    /// Its values are never shown.
    hidden: bool,
}

/// How the value of a key may be shown.
pub(super) enum Showing {
    /// Not at all.
    Hidden,
    /// As it stands in the file.
    AsTyped,
    /// With its variables replaced; what a mapping below was asked.
    Expanded(Rc<MappingRecord>),
}

/// What was asked of one mapping; for the schema of all mappings of one place, such as the items of `queries`.
#[derive(Debug, Default)]
pub struct MappingRecord {
    keys: RefCell<Vec<KeyRecord>>,
    /// For the schema: how many mappings were read here.
    mappings: Cell<usize>,
    /// For the schema: groups of keys of which exactly one must be there, and how many mappings need them.
    required: RefCell<Vec<(&'static [&'static str], usize)>>,
}

impl MappingRecord {
    /// The keys in the order in which they were asked for, without those that are only known to be refused.
    pub fn keys(&self) -> Vec<KeyRecord> {
        self.keys.borrow().iter().filter(|key| !key.refused).cloned().collect()
    }

    /// Groups of keys of which exactly one must be there, whatever else the mapping holds.
    pub fn required(&self) -> Vec<&'static [&'static str]> {
        let by_all = |(_, count): &&(&[&str], usize)| *count >= self.mappings.get();
        self.required.borrow().iter().filter(by_all).map(|(group, _)| *group).collect()
    }

    /// Notes that a mapping is read here.
    pub(super) fn begin(&self) {
        self.mappings.set(self.mappings.get() + 1);
    }

    /// Notes that exactly one of `group` must be there.
    pub(super) fn require(&self, group: &'static [&'static str]) {
        let mut required = self.required.borrow_mut();
        match required.iter_mut().find(|(known, _)| *known == group) {
            Some((_, count)) => *count += 1,
            None => required.push((group, 1)),
        }
    }

    /// Notes that `key` was asked for; returns the record of the mapping under it.
    pub(super) fn ask(&self, key: &'static str) -> Rc<MappingRecord> {
        self.change(key, |key| {
            key.refused = false;
            Rc::clone(&key.inner)
        })
    }

    /// Notes that `key` was refused: it is known, and no hint suggests it.
    pub(super) fn refuse(&self, key: &'static str) {
        if self.asked(key).is_none() {
            self.change(key, |key| key.refused = true);
        }
    }

    /// Notes what `key` may hold, and in `inner` what the mappings under it may.
    pub(super) fn add_kind(&self, key: &'static str, kind: ValueKind, inner: &Rc<MappingRecord>) {
        self.change(key, |key| {
            key.inner = Rc::clone(inner);
            if !key.kinds.contains(&kind) {
                key.kinds.push(kind);
            }
            // A closed set of words is more than "text".
            if key.kinds.iter().any(|kind| matches!(kind, ValueKind::Words(_))) {
                key.kinds.retain(|kind| *kind != ValueKind::Text);
            }
        });
    }

    /// Notes that the values of `key` are never shown.
    pub(super) fn hide(&self, key: &'static str) {
        self.change(key, |key| key.hidden = true);
    }

    /// Notes that the text of `key` is taken as typed, without expansion.
    pub(super) fn keep_as_typed(&self, key: &'static str) {
        self.change(key, |key| key.as_typed = true);
    }

    /// How a value may be shown; a key that nobody asked for is hidden.
    pub(super) fn showing(&self, key: &str) -> Showing {
        match self.keys.borrow().iter().find(|known| known.name == key) {
            None | Some(KeyRecord { hidden: true, .. }) => Showing::Hidden,
            Some(key) if key.as_typed => Showing::AsTyped,
            Some(key) => Showing::Expanded(Rc::clone(&key.inner)),
        }
    }

    /// The record of the mapping under `key`; `None` when nobody asked for the key.
    pub(super) fn asked(&self, key: &str) -> Option<Rc<MappingRecord>> {
        self.keys.borrow().iter().find(|known| known.name == key).map(|key| Rc::clone(&key.inner))
    }

    /// The keys that a hint may suggest.
    pub(super) fn offered(&self) -> Vec<&'static str> {
        self.keys.borrow().iter().filter(|key| !key.refused).map(|key| key.name).collect()
    }

    /// True when nobody asked for any key.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.borrow().is_empty()
    }

    fn change<T>(&self, name: &'static str, change: impl FnOnce(&mut KeyRecord) -> T) -> T {
        let mut keys = self.keys.borrow_mut();
        let at = keys.iter().position(|key| key.name == name).unwrap_or_else(|| {
            let (kinds, inner) = (Vec::new(), Rc::default());
            keys.push(KeyRecord { name, kinds, inner, refused: false, as_typed: false, hidden: false });
            keys.len() - 1
        });
        change(&mut keys[at])
    }
}
