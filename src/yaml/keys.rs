//! The strict reader: each key is taken by name and type; a key that nobody took is an error with the nearest key.
//!
//! Faults are collected in the [`Reader`], not returned: a method returns `None` for "absent or faulty".
//! One reader serves the configuration, web-config files, query tests and drivers.
//! Knows no key by name, nor what becomes of a value.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use crate::deadline::parse_duration;
use crate::error::{Error, SourcePosition};
use crate::secret::Secret;
use crate::value::written_number;

use super::document::{Document, MapEntry, Node, NodeValue};
use super::folds::{Folded, folded};
use super::lines::{cut, names_secret};
use super::recording::{MappingRecord, ValueKind};
use super::scalar::{self, expand};
use super::source::{FoundKey, MappingSource, join};
use super::writer::{Digest, YamlValue, digest_of, effective};

pub use super::nearest::{nearest, nearest_of};
pub use super::reader::{Environment, LoadFindings, Reader, file_order, process_environment};
pub use super::scalar::word;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The mapping being read.
    Own,
    /// The defaults of the mapping.
    Default,
}

/// One value of a row in a query test, as typed and never expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// `~` or nothing.
    Nothing,
    /// Without quotes: its look says what it is.
    Plain(String),
    /// In quotes or a block: text, whatever it looks like.
    Quoted(String),
}

/// A value that is written short, as a text, or long, as a mapping.
pub enum TextOrMapping<'d> {
    /// A scalar, expanded.
    Text(String),
    /// The keys of the mapping.
    Mapping(Keys<'d>),
}

/// Names with what stands under them, in the order written.
pub type Named<T> = Vec<(String, T)>;

/// A whole number that a key may hold.
pub trait KeyNumber: FromStr {
    /// As the schema has it.
    const KIND: ValueKind;
}

macro_rules! whole {
    ($($number:ty),*) => {$(
        impl KeyNumber for $number {
            const KIND: ValueKind = ValueKind::Whole(<$number>::MAX as u64);
        }
    )*};
}

whole!(u8, u16, u32, u64, usize);

/// One mapping being read. Take what you know, then call [`Keys::finish`].
pub struct Keys<'d> {
    /// What the mapping itself says.
    own: MappingSource<'d>,
    defaults: Option<MappingSource<'d>>,
    /// True where a mapping under a key is merged with the default of that key: `over` merges one level.
    merges: bool,
    /// True for a rehearsal: which keys it takes is recorded, its faults are not.
    silent: bool,
    /// Shared with the mappings below, but for those of a list or of names.
    faulted: Rc<Cell<bool>>,
    /// What is missing, unless one of these keys is there misspelt.
    lacking: RefCell<Vec<(&'static [&'static str], Error)>>,
    reader: &'d Reader<'d>,
}

impl<'d> Keys<'d> {
    /// The document's root mapping; `None` (and a fault) when it is something else.
    pub fn root(document: &'d Document, reader: &'d Reader<'d>) -> Option<Keys<'d>> {
        reader.loaded(Some(&document.file));
        document.faults.iter().for_each(|fault| reader.fault(fault.clone()));
        let record = if reader.for_schema { Rc::clone(&reader.root) } else { Rc::default() };
        match MappingSource::new(document, &document.tree, String::new(), Some(0), record) {
            Ok(own) => {
                let (faulted, lacking) = (Rc::default(), RefCell::default());
                Some(Keys { own, defaults: None, merges: false, silent: false, faulted, lacking, reader })
            }
            Err(kind) => {
                let place = document.place(document.tree.at, "");
                let message = format!("expected a mapping (`key: value`), found {kind}");
                reader.fault(Error::config(message).at(place));
                None
            }
        }
    }

    /// Another mapping that is read as part of this one.
    fn part(&self, own: MappingSource<'d>, defaults: Option<MappingSource<'d>>) -> Keys<'d> {
        let (faulted, lacking) = (Rc::clone(&self.faulted), RefCell::default());
        Keys { own, defaults, merges: false, silent: self.silent, faulted, lacking, reader: self.reader }
    }

    /// The same mapping with `defaults` behind it: a key this one lacks is taken from there; maps merge one level.
    /// Places of values taken from the defaults point there. Unknown keys are looked for in this mapping only:
    /// those of the defaults by [`Keys::finish_defaults`], once every entry was read over them.
    #[must_use]
    pub fn over(mut self, defaults: Option<&Keys<'d>>) -> Keys<'d> {
        self.defaults = defaults.map(|defaults| defaults.own.clone());
        self.merges = self.defaults.is_some();
        self
    }

    /// The same mapping for a reading that records which keys it takes, and no faults: so that a key of the
    /// defaults that only an absent driver reads is not reported as unknown.
    pub fn rehearsal(&self) -> Keys<'d> {
        let part = self.part(self.own.clone(), self.defaults.clone());
        Keys { merges: self.merges, silent: true, faulted: Rc::default(), ..part }
    }

    /// The folder that relative paths start from (the folder of the file that holds `key`).
    pub fn folder(&self, key: &str) -> PathBuf {
        self.holder(key).document.folder.clone()
    }

    /// True when the key is there with a value, whatever it is (`~` and an empty value do not count). It is still
    /// unknown until it is taken.
    pub fn has(&self, key: &str) -> bool {
        self.look(key).is_some()
    }

    /// Which mapping has a value for `key`; `None` when neither does.
    pub fn origin(&self, key: &str) -> Option<Origin> {
        let own = self.own.find(key).map(|_| Origin::Own);
        own.or_else(|| self.default_of(key).map(|_| Origin::Default))
    }

    /// True when a fault was recorded here or in a mapping below that is not one of several: the sign to give up, once
    /// everything was read.
    pub fn faulted(&self) -> bool {
        self.faulted.get()
    }

    /// True when the value under `key` is a mapping (`labels` may be a list or a map).
    pub fn is_mapping(&self, key: &str) -> bool {
        self.look(key).is_some_and(|found| matches!(found.value(), NodeValue::Map(_)))
    }

    /// True when the value under `key` is a list.
    pub fn is_list(&self, key: &str) -> bool {
        self.look(key).is_some_and(|found| matches!(found.value(), NodeValue::List(_)))
    }

    /// How many elements the list or mapping under `key` has, whatever they are.
    pub fn count(&self, key: &str) -> usize {
        match self.look(key).map(|found| found.value()) {
            Some(NodeValue::List(items)) => items.len(),
            Some(NodeValue::Map(entries)) => entries.len(),
            _ => 0,
        }
    }

    /// A nested mapping.
    pub fn inner(&mut self, key: &'static str) -> Option<Keys<'d>> {
        self.ask(key, &ValueKind::Mapping);
        let Some(found) = self.look(key) else {
            let empty = |source: &MappingSource<'d>| source.empty(key);
            return self
                .reader
                .for_schema
                .then(|| self.part(empty(&self.own), self.defaults.as_ref().map(empty)));
        };
        let below = |found: &FoundKey<'_, 'd>| {
            let record = found.source.record.ask(key);
            self.mapping(found, &found.entry.node, &found.path(), found.entry.at, record)
        };
        let own = below(&found)?;
        let default = self.merged_default(key).filter(|default| matches!(default.value(), NodeValue::Map(_)));
        Some(self.part(own, default.and_then(|default| below(&default))))
    }

    /// A list of mappings. Each has a record of its own: what one item may hold another may not.
    pub fn items(&mut self, key: &'static str) -> Option<Vec<Keys<'d>>> {
        self.ask(key, &ValueKind::Items);
        let Some(found) = self.look(key) else { return Some(vec![self.empty_element(key)?]) };
        let NodeValue::List(items) = found.value() else {
            return self.wrong(&found, "a list of mappings (`- key: value`)");
        };
        let keys = items.iter().enumerate().filter_map(|(index, item)| {
            let path = format!("{}[{index}]", found.path());
            if item.value == NodeValue::Null {
                let error = Error::config("expected a mapping (`key: value`), found nothing");
                self.record(error.at(found.place_of(item.at, &path)));
                return None;
            }
            self.element(&found, key, item, &path, item.at.or(found.entry.at))
        });
        Some(keys.collect())
    }

    /// A mapping of names to mappings, in file order, behind those of the defaults that have other names. A name with nothing
    /// after it is an empty mapping.
    pub fn entries(&mut self, key: &'static str) -> Option<Named<Keys<'d>>> {
        self.ask(key, &ValueKind::Entries);
        if self.look(key).is_none() {
            return Some(vec![("name".to_owned(), self.empty_element(key)?)]);
        }
        let (own, mut entries) = self.merged(key, |found| {
            let NodeValue::Map(entries) = found.value() else {
                return self.wrong(found, "a mapping of names to mappings (`NAME: {key: value}`)");
            };
            let element = |entry: &'d MapEntry| {
                let path = join(&found.path(), &entry.key);
                Some((entry.key.clone(), self.element(found, key, &entry.node, &path, entry.at)?))
            };
            Some(entries.iter().filter_map(element).collect())
        })?;
        // The own ones behind: of several patterns that match, the last one counts.
        entries.extend(own);
        Some(entries)
    }

    /// A scalar, expanded. A list or mapping is a fault. `~` and an empty value count as absent.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let (found, text) = self.scalar(key, &ValueKind::Text)?;
        self.expanded(text, || found.place())
    }

    /// A scalar as typed, without expansion: for `sql`.
    pub fn literal(&mut self, key: &'static str) -> Option<String> {
        let (_, text) = self.scalar(key, &ValueKind::Text)?;
        self.mark(|record| record.keep_as_typed(key));
        Some(text.to_owned())
    }

    /// A scalar, expanded; its text never appears in a message.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        self.conceal(key);
        self.text(key).map(Secret::new)
    }

    /// Keeps the lines of `key` out of every message, for values that hold a secret among other things.
    pub fn conceal(&self, key: &'static str) {
        self.mark(|record| record.hide(key));
        let Some(found) = self.look(key) else { return };
        self.reader.hide(&found.place());
        self.reader.hide(&found.source.key_place(found.entry));
    }

    /// `true` or `false` (also yes/no, on/off, any case).
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, &ValueKind::Flag, |text| {
            scalar::flag(text).ok_or_else(|| format!("{text:?} is neither true nor false"))
        })
    }

    /// A number, expanded; `what` names it in the message: "a port from 1 to 65535".
    pub fn number<T: KeyNumber>(&mut self, key: &'static str, what: &str) -> Option<T> {
        self.read(key, &T::KIND, |text| text.trim().parse().map_err(|_| format!("{text:?} is not {what}")))
    }

    /// Any number, also one that is not finite.
    pub fn float(&mut self, key: &'static str) -> Option<f64> {
        self.read(key, &ValueKind::Number, |text| {
            written_number(text).map_err(|why| format!("{text:?} {why}"))
        })
    }

    /// `500ms`, `10s`, `5m`, `1h`, or a number of seconds.
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.read(key, &ValueKind::Duration, parse_duration)
    }

    /// `64MiB`, `16KiB`, `1GB`, or a number of bytes.
    pub fn size(&mut self, key: &'static str) -> Option<u64> {
        let refused =
            |text: &str| format!("{text:?} is not a size: write 64MiB, 16KiB, 1GB or a number of bytes");
        self.read(key, &ValueKind::Size, |text| scalar::size(text).ok_or_else(|| refused(text)))
    }

    /// One word of a closed set, case-insensitively; else a fault that lists them and hints at the nearest.
    pub fn choice<T: Copy>(&mut self, key: &'static str, table: &[(&'static str, T)]) -> Option<T> {
        self.words(key, table.iter().map(|(word, _)| *word));
        self.read(key, &ValueKind::Text, |text| word(text, table))
    }

    /// One word of a closed set, in any case, or a finite number.
    pub fn word_or_number<T: Copy>(
        &mut self,
        key: &'static str,
        table: &[(&'static str, T)],
        number: impl Fn(f64) -> T,
    ) -> Option<T> {
        let words = || table.iter().map(|(word, _)| *word);
        self.words(key, words());
        self.read(key, &ValueKind::Number, |text| {
            let parsed = || text.trim().parse().ok().filter(|number: &f64| number.is_finite()).map(&number);
            word(text, table).ok().or_else(parsed).ok_or_else(|| {
                format!("expected {} or a number, found {text:?}", words().collect::<Vec<_>>().join(", "))
            })
        })
    }

    /// A path, relative to the file that names it.
    pub fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        if text.is_empty() {
            self.fault(key, "the path is empty");
            return None;
        }
        Some(self.folder(key).join(text))
    }

    /// What the file itself says under `key`: variables left out, their defaults in. Does not take the key; for a
    /// check whether a secret stands in the file.
    pub fn written(&self, key: &str) -> Option<Secret> {
        self.in_environment(key, &|_| Some(String::new()))
    }

    /// A variable of the environment, as `${NAME}` has it.
    pub fn variable(&self, name: &str) -> Option<String> {
        (self.reader.environment)(name)
    }

    /// The text under `key` with its variables. Does not take the key and records no fault.
    pub fn peek(&self, key: &str) -> Option<Secret> {
        self.in_environment(key, self.reader.environment)
    }

    fn in_environment(&self, key: &str, environment: &Environment) -> Option<Secret> {
        let NodeValue::Scalar(text) = self.look(key)?.value() else { return None };
        expand(text, environment).ok().map(Secret::new)
    }

    /// A list of scalars, or one scalar; expanded.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.ask(key, &ValueKind::Texts);
        let found = self.look(key)?;
        let items = match found.value() {
            NodeValue::Scalar(text) => return self.expanded(text, || found.place()).map(|text| vec![text]),
            NodeValue::List(items) => items,
            _ => return self.wrong(&found, "a list of texts (`[A, B]`)"),
        };
        all(items.iter().enumerate().map(|(index, item)| {
            self.inner_text(&item.value, || found.place_of(item.at, &format!("{}[{index}]", found.path())))
        }))
    }

    /// A list of scalars, or one scalar, each read by `parse`. What it refuses is recorded and left out.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let texts = self.texts(key)?;
        Some(texts.iter().filter_map(|text| self.valid(key, parse(text))).collect())
    }

    /// The value, or a fault at `key` with the message.
    pub fn valid<T>(&self, key: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|message| self.fault(key, message)).ok()
    }

    /// A mapping of scalars in file order, then those of the defaults that have other names; values expanded, keys as typed.
    pub fn pairs(&mut self, key: &'static str) -> Option<Named<String>> {
        self.pairs_by_origin(key).map(|pairs| pairs.concat())
    }

    /// The same, those of the entry and those of the defaults apart.
    pub fn pairs_by_origin(&mut self, key: &'static str) -> Option<[Named<String>; 2]> {
        self.ask(key, &ValueKind::Pairs);
        let (pairs, others) = self.merged(key, |found| {
            let NodeValue::Map(entries) = found.value() else {
                return self.wrong(found, "a mapping of names to texts (`NAME: TEXT`)");
            };
            let path = found.path();
            all(entries.iter().map(|entry| Some((entry.key.clone(), self.text_of(found, entry, &path)?))))
        })?;
        let is_own = self.origin(key) == Some(Origin::Own);
        Some(if is_own { [pairs, others] } else { [others, pairs] })
    }

    /// What `read` makes of the names under `key`, and of those that the default alone has.
    fn merged<T>(
        &self,
        key: &str,
        read: impl Fn(&FoundKey<'_, 'd>) -> Option<Named<T>>,
    ) -> Option<(Named<T>, Named<T>)> {
        let own = read(&self.look(key)?)?;
        let mut others = self.merged_default(key).map_or(Some(Vec::new()), |default| read(&default))?;
        let names: HashSet<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
        others.retain(|(name, _)| !names.contains(name.as_str()));
        Some((own, others))
    }

    /// A list of texts, each standing for itself, or a mapping of names to texts and to mappings, in file order. Nothing is
    /// merged with defaults.
    pub fn named_texts_or_mappings(&mut self, key: &'static str) -> Option<Named<TextOrMapping<'d>>> {
        self.ask(key, &ValueKind::Texts);
        self.ask(key, &ValueKind::PairsOrEntries);
        let Some(found) = self.look(key) else {
            return Some(vec![("name".to_owned(), TextOrMapping::Mapping(self.empty_element(key)?))]);
        };
        let NodeValue::Map(entries) = found.value() else {
            let texts = self.texts(key)?.into_iter();
            return Some(texts.map(|text| (text.clone(), TextOrMapping::Text(text))).collect());
        };
        all(entries.iter().map(|entry| {
            let value = if let NodeValue::Map(_) = entry.node.value {
                let path = join(&found.path(), &entry.key);
                TextOrMapping::Mapping(self.element(&found, key, &entry.node, &path, entry.at)?)
            } else {
                TextOrMapping::Text(self.text_of(&found, entry, &found.path())?)
            };
            Some((entry.key.clone(), value))
        }))
    }

    /// A list of mappings of columns to scalars: what a query test says a database returns.
    pub fn rows(&mut self, key: &'static str) -> Option<Vec<Named<Literal>>> {
        self.ask(key, &ValueKind::Cells);
        let found = self.look(key)?;
        let text = &found.source.document.text;
        // A scalar in quotes stands behind its quote; a block, or a text with escapes, has no place.
        let is_plain = |at: Option<usize>| {
            at.and_then(|at| text.get(..at)).is_some_and(|before| !before.ends_with(['"', '\'']))
        };
        self.rows_of(&found, "columns", |entry, row| match &entry.node.value {
            NodeValue::Null => Some(Literal::Nothing),
            NodeValue::Scalar(typed) if is_plain(entry.node.at) => Some(Literal::Plain(typed.clone())),
            NodeValue::Scalar(typed) => Some(Literal::Quoted(typed.clone())),
            other => {
                let message = format!("expected a value, found {}", other.kind());
                let place = found.place_of(entry.at, &join(row, &entry.key));
                self.record(Error::config(message).at(place));
                None
            }
        })
    }

    /// A list of mappings of names to texts, in the order written; values expanded, `None` for `~`.
    pub fn named_rows(&mut self, key: &'static str) -> Option<Vec<Named<Option<String>>>> {
        self.ask(key, &ValueKind::Cells);
        let found = self.look(key)?;
        self.rows_of(&found, "names", |entry, row| match &entry.node.value {
            NodeValue::Null => Some(None),
            _ => self.text_of(&found, entry, row).map(Some),
        })
    }

    /// The mappings of a list, each value read by `read`, which also gets the path of its mapping.
    fn rows_of<T>(
        &self,
        found: &FoundKey<'_, 'd>,
        what: &str,
        read: impl Fn(&MapEntry, &str) -> Option<T>,
    ) -> Option<Vec<Named<T>>> {
        let NodeValue::List(items) = found.value() else {
            return self.wrong(found, "a list of mappings (`- key: value`)");
        };
        all(items.iter().enumerate().map(|(index, item)| {
            let path = format!("{}[{index}]", found.path());
            let NodeValue::Map(entries) = &item.value else {
                let message = format!("expected a mapping of {what} to values, found {}", item.value.kind());
                self.record(Error::config(message).at(found.place_of(item.at, &path)));
                return None;
            };
            all(entries.iter().map(|entry| Some((entry.key.clone(), read(entry, &path)?))))
        }))
    }

    /// The scalars under `key` (one, or a list of them) of which lines are joined. Does not take the key.
    pub fn folded(&self, key: &str) -> Vec<Folded> {
        let Some(found) = self.look(key) else { return Vec::new() };
        let scalars = match found.value() {
            NodeValue::List(items) => items,
            _ => std::slice::from_ref(&found.entry.node),
        };
        // A scalar with a place is a piece of the file as it stands: not folded.
        let moved = scalars.iter().filter_map(|node| match &node.value {
            NodeValue::Scalar(text) if node.at.is_none() => Some(&**text),
            _ => None,
        });
        let after_key = found.entry.at.map(|at| at + found.entry.key.len());
        after_key.map(|at| folded(&found.source.document.text, at, moved)).unwrap_or_default()
    }

    /// Refuses a key that has no business in this mapping; `message` says where it belongs. A default of that name
    /// is left alone: it is meant for others.
    pub fn forbid(&mut self, key: &'static str, message: &str) {
        self.own.record.refuse(key);
        if let Some(entry) = self.own.entry(key) {
            self.record(Error::config(message).at(self.own.key_place(entry)));
        }
    }

    /// Exactly one of `keys` must be there: a fault when two are; when none is, `message` with its hint, as
    /// [`Keys::lacks`] has it.
    pub fn require_one(&self, keys: &'static [&'static str], message: &str, hint: Option<&str>) {
        self.one_of(keys);
        let mut present = keys.iter().filter(|key| self.has(key));
        match (present.next(), present.next()) {
            (None, _) => self.lacks("", keys, message, hint.map(str::to_owned)),
            (Some(first), Some(second)) => {
                self.fault_with_hint(
                    second,
                    format!("cannot be combined with `{first}`"),
                    "write one of them",
                );
            }
            (Some(_), None) => {}
        }
    }

    /// Says that exactly one of `keys` must be there, for the schema. The caller records the fault itself.
    pub fn one_of(&self, keys: &'static [&'static str]) {
        if self.reader.for_schema {
            self.mark(|record| record.require(keys));
        }
    }

    /// Says that the text of `key` is one of `words`, in any case: for words that the caller looks up itself.
    pub fn words(&self, key: &'static str, words: impl IntoIterator<Item = &'static str>) {
        if self.reader.for_schema {
            self.ask(key, &ValueKind::Words(words.into_iter().collect()));
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

    /// Records at `key` (or at this mapping, for "") that one of `keys` is missing. [`Keys::finish`] reports it,
    /// unless an unknown key is a slip for one of them: that fault says enough.
    pub fn lacks(
        &self,
        key: &str,
        keys: &'static [&'static str],
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let error = Error::config(message).at(self.place(key)).with_hint_if_any(hint);
        self.lacking.borrow_mut().push((keys, error));
    }

    /// Records a warning at `key`.
    pub fn warn(&self, key: &str, message: impl Into<String>) {
        if !self.silent {
            self.reader.warn(Error::config(message).at(self.place(key)));
        }
    }

    /// The place of `key` (or of this mapping, for ""), for errors that are raised later. Cheap to keep.
    pub fn place(&self, key: &str) -> SourcePosition {
        self.holder(key).place(key)
    }

    /// The mapping with its secrets hidden. Call it once every key was taken: what nobody took is hidden too.
    pub fn redacted(&self) -> YamlValue {
        effective(&self.own, self.defaults.as_ref(), self.reader.environment, true)
    }

    /// The digest of the mapping, secrets included.
    pub fn digest(&self) -> Digest {
        self.digest_without(&[])
    }

    /// The digest of the mapping without some of its keys.
    pub fn digest_without(&self, left_out: &[&str]) -> Digest {
        let mut whole = effective(&self.own, self.defaults.as_ref(), self.reader.environment, false);
        if let YamlValue::Map(pairs) = &mut whole {
            pairs.retain(|(key, _)| !left_out.contains(&key.as_str()));
        }
        digest_of(&[whole.yaml().as_bytes()])
    }

    /// The last call: keys nobody took are faults, each with the nearest key that was asked for. Returns these
    /// nearest keys: what was probably meant to be there.
    pub fn finish(self) -> Vec<&'static str> {
        let meant = self.unknown(&self.own, false);
        for (keys, error) in self.lacking.take() {
            if !keys.iter().any(|key| meant.contains(key)) {
                self.record(error);
            }
        }
        meant
    }

    /// The last call on a mapping that others were read [`over`](Keys::over): keys that none of them took are
    /// faults, those in mappings that were merged included. If nobody asked for any key, there is no fault.
    pub fn finish_defaults(self) {
        if !self.own.record.is_empty() {
            self.unknown(&self.own, true);
        }
    }

    fn unknown(&self, source: &MappingSource<'d>, deep: bool) -> Vec<&'static str> {
        let offered = source.record.offered();
        // What is there already was not meant.
        let free: Vec<&str> = offered.iter().copied().filter(|offer| source.entry(offer).is_none()).collect();
        let mut meant = Vec::new();
        for entry in source.entries {
            let Some(record) = source.record.asked(&entry.key) else {
                // Nobody reads a hint that is not shown, and looking for it takes time.
                let near =
                    if self.reader.is_full() { None } else { nearest(&entry.key, free.iter().copied()) };
                self.record(unknown_key(source, entry, &offered, near));
                meant.extend(near);
                continue;
            };
            if deep && !record.is_empty() && matches!(entry.node.value, NodeValue::Map(_)) {
                let path = join(&source.path, &entry.key);
                if let Ok(inner) = MappingSource::new(source.document, &entry.node, path, entry.at, record) {
                    self.unknown(&inner, true);
                }
            }
        }
        meant
    }

    /// Records that `key` is taken, and for the schema as what, in the mapping and in its defaults.
    fn ask(&self, key: &'static str, kind: &ValueKind) {
        let inner = self.own.record.ask(key);
        if let Some(defaults) = &self.defaults {
            defaults.record.ask(key);
        }
        if self.reader.for_schema {
            // What is read below the defaults of a key has the shape of what is read below the key.
            self.mark(|record| record.add_kind(key, kind.clone(), &inner));
        }
    }

    fn mark(&self, mark: impl Fn(&MappingRecord)) {
        mark(&self.own.record);
        if let Some(defaults) = &self.defaults {
            mark(&defaults.record);
        }
    }

    /// The value of `key`, from the defaults when this mapping has none.
    fn look(&self, key: &str) -> Option<FoundKey<'_, 'd>> {
        self.own.find(key).or_else(|| self.default_of(key))
    }

    /// The default that is merged with the mapping's own value.
    fn merged_default(&self, key: &str) -> Option<FoundKey<'_, 'd>> {
        self.default_of(key).filter(|_| self.merges && self.own.find(key).is_some())
    }

    fn default_of(&self, key: &str) -> Option<FoundKey<'_, 'd>> {
        self.defaults.as_ref()?.find(key)
    }

    /// The mapping that has `key`'s value; this one when none does.
    fn holder(&self, key: &str) -> &MappingSource<'d> {
        self.look(key).map_or(&self.own, |found| found.source)
    }

    /// One mapping of a list or of names: a fault in it is not one of the next. Its record is its own, but for the schema one for
    /// all.
    fn element(
        &self,
        found: &FoundKey<'_, 'd>,
        key: &'static str,
        node: &'d Node,
        path: &str,
        at: Option<usize>,
    ) -> Option<Keys<'d>> {
        let record = if self.reader.for_schema { self.own.record.ask(key) } else { Rc::default() };
        let part = self.part(self.mapping(found, node, path, at, record)?, None);
        Some(Keys { faulted: Rc::default(), ..part })
    }

    /// For the schema: one element of a list or of names that is not there.
    fn empty_element(&self, key: &'static str) -> Option<Keys<'d>> {
        self.reader.for_schema.then(|| self.part(self.own.empty(key), None))
    }

    fn mapping(
        &self,
        found: &FoundKey<'_, 'd>,
        node: &'d Node,
        path: &str,
        at: Option<usize>,
        record: Rc<MappingRecord>,
    ) -> Option<MappingSource<'d>> {
        let wrong = |kind| {
            let place = found.place_of(node.scalar_at().or(at), path);
            self.record(Error::config(format!("expected a mapping (`key: value`), found {kind}")).at(place));
        };
        MappingSource::new(found.source.document, node, path.to_owned(), at, record).map_err(wrong).ok()
    }

    /// The text of an entry in a mapping below `found`, which has this path.
    fn text_of(&self, found: &FoundKey<'_, 'd>, entry: &MapEntry, mapping: &str) -> Option<String> {
        self.inner_text(&entry.node.value, || {
            found.place_of(entry.node.scalar_at().or(entry.at), &join(mapping, &entry.key))
        })
    }

    fn inner_text(&self, value: &NodeValue, place: impl Fn() -> SourcePosition) -> Option<String> {
        let NodeValue::Scalar(text) = value else {
            let error = Error::config(format!("expected text, found {}", value.kind())).at(place());
            let is_null = *value == NodeValue::Null;
            self.record(if is_null { error.with_hint("an empty text is written \"\"") } else { error });
            return None;
        };
        self.expanded(text, place)
    }

    /// The scalar under `key`, with its text as typed.
    fn scalar(&self, key: &'static str, kind: &ValueKind) -> Option<(FoundKey<'_, 'd>, &'d str)> {
        self.ask(key, kind);
        let found = self.look(key)?;
        match found.value() {
            NodeValue::Scalar(text) => Some((found, text)),
            _ => self.wrong(&found, "text"),
        }
    }

    fn read<T>(
        &self,
        key: &'static str,
        kind: &ValueKind,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (found, typed) = self.scalar(key, kind)?;
        let text = self.expanded(typed, || found.place())?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(message) => {
                // Neither `…` nor `${…}` is a value of any kind, so what is shown instead is refused as well.
                let shown = shown(typed, &text);
                let message = if shown == text { message } else { parse(&shown).err().unwrap_or_default() };
                self.record(Error::config(message).at(found.place()));
                None
            }
        }
    }

    /// The text with its variables replaced. The place is asked for a fault only: to make one takes longer than to read.
    fn expanded(&self, text: &str, place: impl Fn() -> SourcePosition) -> Option<String> {
        let refuse = |(message, hint): (String, String)| {
            self.record(Error::config(message).at(place()).with_hint(hint));
        };
        expand(text, self.reader.environment).map_err(|refused| refused.into_iter().for_each(refuse)).ok()
    }

    fn wrong<T>(&self, found: &FoundKey<'_, 'd>, expected: &str) -> Option<T> {
        let kind = found.value().kind();
        self.record(Error::config(format!("expected {expected}, found {kind}")).at(found.place()));
        None
    }

    fn record(&self, error: Error) {
        self.faulted.set(true);
        if !self.silent {
            self.reader.fault(error);
        }
    }
}

/// All values, or `None` where one is missing. All of them are read first, so that every fault is found.
fn all<T>(values: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    values.collect::<Vec<_>>().into_iter().collect()
}

/// What a message shows of a value: the variable instead of what it holds where that is likely a secret (a password
/// under the wrong key), and no more than fits a line.
fn shown(typed: &str, expanded: &str) -> String {
    const LONGEST: usize = 80;
    cut(if names_secret(typed) { typed } else { expanded }, LONGEST).into_owned()
}

fn unknown_key(source: &MappingSource<'_>, entry: &MapEntry, offered: &[&str], near: Option<&str>) -> Error {
    let error = Error::config("unknown key");
    if let Some(shown) = source.doubtful(entry) {
        let place =
            SourcePosition { path: join(&source.path, &format!("{shown}…")), ..source.key_place(entry) };
        let hint = "a key is one word, then `:` and a blank; a text with a comma needs quotes";
        return error.at(place).with_hint(hint);
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
