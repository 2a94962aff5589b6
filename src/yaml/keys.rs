//! The strict reader: each key is taken by name and type; what nobody took is an error with the nearest key.
//!
//! Faults are collected in the [`Reader`], not returned: a method answers `None` for "absent or faulty".
//! One reader serves the configuration, web-config files, query tests, imports and drivers.
//! Scalars, lists of them and pairs are taken in `values`, mappings here; `effective` shows what was read.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use crate::error::{Error, SourcePosition};

use super::audit::join;
use super::document::{Document, MapEntry, Node, NodeValue};
use super::record::{Note, Record};
use super::source::{Found, Source};

pub use super::hint::{nearest, nearest_of};
pub use super::reader::{Closed, Environment, Reader};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The mapping being read.
    Own,
    /// The defaults behind it.
    Default,
}

/// One mapping being read. Take what you know, then [`Keys::finish`].
pub struct Keys<'d> {
    pub(super) front: Source<'d>,
    pub(super) back: Option<Source<'d>>,
    /// True where a mapping under a key is merged with the one behind it: `over` merges one level.
    pub(super) merges: bool,
    /// True for a rehearsal: questions count, faults do not.
    silent: bool,
    /// Shared with the mappings below.
    faulted: Rc<Cell<bool>>,
    /// What is missing, unless one of these keys is there misspelt.
    lacking: RefCell<Vec<(&'static [&'static str], Error)>>,
    pub(super) reader: &'d Reader<'d>,
}

impl<'d> Keys<'d> {
    /// The document's root mapping; `None` (and a fault) when it is something else.
    pub fn root(document: &'d Document, reader: &'d Reader<'d>) -> Option<Keys<'d>> {
        reader.loaded(Some(&document.file));
        for fault in &document.faults {
            reader.fault(fault.clone());
        }
        match Source::new(document, &document.tree, String::new(), Some(0), Rc::default()) {
            Ok(front) => {
                if reader.surveys {
                    reader.roots.borrow_mut().push(Rc::clone(&front.record));
                }
                let (faulted, lacking) = (Rc::default(), RefCell::default());
                Some(Keys { front, back: None, merges: false, silent: false, faulted, lacking, reader })
            }
            Err(kind) => {
                let place = document.place(document.tree.at, "");
                reader.fault(
                    Error::config(format!("expected a mapping (`key: value`), found {kind}")).at(place),
                );
                None
            }
        }
    }

    /// The same mapping with `defaults` behind it: a key this one lacks is taken from there; maps merge one level.
    /// Places of values taken from the defaults point there. Unknown keys are looked for in this mapping only:
    /// those of the defaults by [`Keys::finish_defaults`], once every entry was read over them.
    #[must_use]
    pub fn over(mut self, defaults: Option<&Keys<'d>>) -> Keys<'d> {
        self.back = defaults.map(|defaults| defaults.front.clone());
        self.merges = self.back.is_some();
        self
    }

    /// The same mapping for a reading whose faults go nowhere and whose questions count: so that a key of the
    /// defaults that only an absent driver would read is not taken for unknown.
    #[must_use]
    pub fn rehearsal(&self) -> Keys<'d> {
        let (front, back) = (self.front.clone(), self.back.clone());
        let (merges, reader) = (self.merges, self.reader);
        Keys {
            front,
            back,
            merges,
            silent: true,
            faulted: Rc::default(),
            lacking: RefCell::default(),
            reader,
        }
    }

    /// `databases.shop`; empty at the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.front.path
    }

    /// The folder that relative paths start from (the folder of the file that holds `key`).
    #[must_use]
    pub fn folder(&self, key: &str) -> PathBuf {
        self.holder(key).document.folder.clone()
    }

    /// True when the key is there with a value, whatever it is (`~` and an empty one are none). It still counts as
    /// unknown until taken.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.look(key).is_some()
    }

    /// Which mapping gives `key` a value; `None` when neither does (`~` and an empty value are none).
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<Origin> {
        let own = self.front.find(key).map(|_| Origin::Own);
        own.or_else(|| self.behind(key).map(|_| Origin::Default))
    }

    /// True when a fault was recorded here or in a mapping below: the sign to give up, once everything was read.
    #[must_use]
    pub fn faulted(&self) -> bool {
        self.faulted.get()
    }

    /// True when the value under `key` is a mapping (`labels` may be a list or a map).
    #[must_use]
    pub fn is_mapping(&self, key: &str) -> bool {
        self.look(key).is_some_and(|found| matches!(found.value(), NodeValue::Map(_)))
    }

    /// True when the value under `key` is a list (`metrics` may be one mapping or several).
    #[must_use]
    pub fn is_list(&self, key: &str) -> bool {
        self.look(key).is_some_and(|found| matches!(found.value(), NodeValue::List(_)))
    }

    /// How many elements the list or mapping under `key` has, whatever they are.
    #[must_use]
    pub fn count(&self, key: &str) -> usize {
        match self.look(key).map(|found| found.value()) {
            Some(NodeValue::List(items)) => items.len(),
            Some(NodeValue::Map(entries)) => entries.len(),
            _ => 0,
        }
    }

    /// A nested mapping.
    pub fn inner(&mut self, key: &'static str) -> Option<Keys<'d>> {
        self.ask(key);
        self.noted(|| Note::Mapping(key));
        let front = self.front.find(key);
        let back = self.back.as_ref().and_then(|back| back.find(key));
        let both = self.merges
            && matches!((&front, &back), (Some(front), Some(back)) if is_map(front) && is_map(back));
        let Some(found) = front.or_else(|| self.back.as_ref()?.find(key)) else { return self.absent(key) };
        let front = self.mapping(
            &found,
            &found.entry.tree,
            found.path(),
            found.entry.at,
            &found.source.record.ask(key),
        );
        let back = back.filter(|_| both).and_then(|back| {
            self.mapping(&back, &back.entry.tree, back.path(), back.entry.at, &back.source.record.ask(key))
        });
        Some(Keys { back, ..self.alone(front?) })
    }

    /// A list of mappings. Each has a record of its own: what one item may hold another may not.
    pub fn items(&mut self, key: &'static str) -> Option<Vec<Keys<'d>>> {
        self.ask(key);
        let Some(found) = self.look(key) else {
            return self.absent_one().map(|item| vec![item.noted_as(|record| Note::Item(key, record), self)]);
        };
        let NodeValue::List(items) = found.value() else {
            return self.wrong(&found, "a list of mappings");
        };
        let keys = items.iter().enumerate().filter_map(|(index, item)| {
            let path = format!("{}[{index}]", found.path());
            if item.value == NodeValue::Null {
                self.record(
                    Error::config("expected a mapping, found nothing").at(found.place_of(item.at, &path)),
                );
                return None;
            }
            let at = item.at.or(found.entry.at);
            let item = self.alone(self.mapping(&found, item, path, at, &Rc::default())?);
            Some(item.noted_as(|record| Note::Item(key, record), self))
        });
        Some(keys.collect())
    }

    /// A mapping of names to mappings, in file order. A name with nothing after it is an empty mapping.
    pub fn entries(&mut self, key: &'static str) -> Option<Vec<(String, Keys<'d>)>> {
        self.ask(key);
        let Some(found) = self.look(key) else {
            let entry = self.absent_one()?.noted_as(|record| Note::Entry(key, record), self);
            return Some(vec![("name".to_owned(), entry)]);
        };
        let NodeValue::Map(entries) = found.value() else {
            return self.wrong(&found, "a mapping of names to mappings");
        };
        let keys = entries.iter().filter_map(|entry| {
            let path = join(&found.path(), &entry.key);
            let keys = self.alone(self.mapping(&found, &entry.tree, path, entry.at, &Rc::default())?);
            Some((entry.key.clone(), keys.noted_as(|record| Note::Entry(key, record), self)))
        });
        Some(keys.collect())
    }

    /// Refuses a key that a later version brings: "`when` is not built yet", whatever its value.
    pub fn refuse(&mut self, key: &'static str) {
        let message = format!("`{key}` is not built yet");
        for source in [Some(&self.front), self.back.as_ref()].into_iter().flatten() {
            self.turn_away(source, key, &message);
        }
    }

    /// Refuses a key that has no business in this mapping; `message` says where it belongs. A default of that name
    /// is left alone: it is meant for others.
    pub fn forbid(&mut self, key: &'static str, message: &str) {
        self.turn_away(&self.front, key, message);
    }

    fn turn_away(&self, source: &Source<'d>, key: &'static str, message: &str) {
        source.record.refuse(key);
        if let Some(entry) = source.entry(key) {
            self.record(Error::config(message).at(source.key_place(entry)));
        }
    }

    /// Records a fault at `key` (or at this mapping, for "").
    pub fn fault(&self, key: &str, message: impl Into<String>) {
        self.record(Error::config(message).at(self.place(key)));
    }

    /// Records a fault at `key` with what to change.
    pub fn fault_with_hint(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.record(Error::config(message).at(self.place(key)).with_hint(hint));
    }

    /// Records at `key` (or at this mapping, for "") that it lacks what one of `keys` would say. [`Keys::finish`] tells it,
    /// unless an unknown key is a slip for one of them: that fault says enough.
    pub fn lacks(
        &self,
        key: &str,
        keys: &'static [&'static str],
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let error = Error::config(message).at(self.place(key));
        let error = hint.into_iter().fold(error, Error::with_hint);
        self.lacking.borrow_mut().push((keys, error));
    }

    /// Records a warning at `key`.
    pub fn warn(&self, key: &str, message: impl Into<String>) {
        if !self.silent {
            self.reader.warn(Error::config(message).at(self.place(key)));
        }
    }

    /// The place of `key` (or of this mapping, for ""), for errors that are raised later. Cheap to keep.
    #[must_use]
    pub fn place(&self, key: &str) -> SourcePosition {
        self.holder(key).place(key)
    }

    /// The last call: keys nobody took are faults, each with the nearest key that was asked for. Gives these nearest
    /// keys: what was probably meant to be there.
    pub fn finish(self) -> Vec<&'static str> {
        let meant = self.unknown(&self.front, false);
        for (keys, error) in self.lacking.take() {
            if !keys.iter().any(|key| meant.contains(key)) {
                self.record(error);
            }
        }
        meant
    }

    /// The last call on a mapping that others were read [`over`](Keys::over): keys that none of them took are
    /// faults, those in mappings that were merged included. Without any question asked there is no fault.
    pub fn finish_defaults(self) {
        if !self.front.record.is_empty() {
            self.unknown(&self.front, true);
        }
    }

    fn unknown(&self, source: &Source<'d>, deep: bool) -> Vec<&'static str> {
        let offered = source.record.offered();
        // What is there already was not meant.
        let free: Vec<&str> = offered.iter().copied().filter(|offer| source.entry(offer).is_none()).collect();
        let mut meant = Vec::new();
        for entry in source.entries() {
            let Some(record) = source.record.asked(&entry.key) else {
                // Nobody reads a hint that is not shown, and looking for it takes time.
                let near = if self.reader.is_server_full() {
                    None
                } else {
                    nearest(&entry.key, free.iter().copied())
                };
                self.record(unknown_key(source, entry, &offered, near));
                meant.extend(near);
                continue;
            };
            if deep && !record.is_empty() && matches!(entry.tree.value, NodeValue::Map(_)) {
                let path = join(&source.path, &entry.key);
                if let Ok(inner) = Source::new(source.document, &entry.tree, path, entry.at, record) {
                    self.unknown(&inner, true);
                }
            }
        }
        meant
    }

    /// Notes the question in the mapping and in what is behind it.
    pub(super) fn ask(&self, key: &'static str) {
        self.front.record.ask(key);
        if let Some(back) = &self.back {
            back.record.ask(key);
        }
    }

    /// Marks a question in the mapping and in what is behind it.
    pub(super) fn mark(&self, mark: impl Fn(&Record)) {
        mark(&self.front.record);
        if let Some(back) = &self.back {
            mark(&back.record);
        }
    }

    /// The value of `key`, from the defaults when this mapping has none.
    pub(super) fn look(&self, key: &str) -> Option<Found<'_, 'd>> {
        self.front.find(key).or_else(|| self.behind(key))
    }

    /// The value of `key` in the defaults.
    pub(super) fn behind(&self, key: &str) -> Option<Found<'_, 'd>> {
        self.back.as_ref()?.find(key)
    }

    /// The mapping that gives `key`'s value; this one when none does.
    fn holder(&self, key: &str) -> &Source<'d> {
        let from_back = self.front.find(key).is_none();
        self.back.as_ref().filter(|back| from_back && back.find(key).is_some()).unwrap_or(&self.front)
    }

    pub(super) fn alone(&self, front: Source<'d>) -> Keys<'d> {
        Keys {
            front,
            back: None,
            merges: false,
            silent: self.silent,
            faulted: Rc::clone(&self.faulted),
            lacking: RefCell::default(),
            reader: self.reader,
        }
    }

    fn mapping(
        &self,
        found: &Found<'_, 'd>,
        tree: &'d Node,
        path: String,
        at: Option<usize>,
        record: &Rc<Record>,
    ) -> Option<Source<'d>> {
        let place =
            found.place_of(tree.at.filter(|_| matches!(tree.value, NodeValue::Scalar(_))).or(at), &path);
        match Source::new(found.source.document, tree, path, at, Rc::clone(record)) {
            Ok(source) => Some(source),
            Err(kind) => {
                self.record(Error::config(format!("expected a mapping, found {kind}")).at(place));
                None
            }
        }
    }

    pub(super) fn wrong<T>(&self, found: &Found<'_, 'd>, expected: &str) -> Option<T> {
        let kind = found.value().kind();
        self.record(Error::config(format!("expected {expected}, found {kind}")).at(found.place()));
        None
    }

    pub(super) fn record(&self, error: Error) {
        self.faulted.set(true);
        if !self.silent {
            self.reader.fault(error);
        }
    }
}

fn is_map(found: &Found<'_, '_>) -> bool {
    matches!(found.value(), NodeValue::Map(_))
}

fn unknown_key(source: &Source<'_>, entry: &MapEntry, offered: &[&str], near: Option<&str>) -> Error {
    let error = Error::config("unknown key");
    if let Some(shown) = source.doubtful(entry) {
        let place =
            SourcePosition { path: join(&source.path, &format!("{shown}…")), ..source.key_place(entry) };
        return error
            .at(place)
            .with_hint("a key is one word, then `:` and a blank; a text with a comma needs quotes");
    }
    let error = error.at(source.key_place(entry));
    match near {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None if (1..=8).contains(&offered.len()) => {
            error.with_hint(format!("known here: {}", offered.join(", ")))
        }
        None => error,
    }
}
