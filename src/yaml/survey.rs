//! A survey: a file is read for the questions it is asked, not for what it says. Mappings, lists and names that are
//! absent are read as if an empty one were there, so that each question is asked; how it was asked is noted.

use std::rc::Rc;

use super::keys::Keys;
use super::reader::{Environment, Reader};
use super::record::{Note, Record};
use super::shape::{Key, Kind, Shape};
use super::source::Source;

impl<'e> Reader<'e> {
    /// A reader for a survey. Its faults mean nothing.
    #[must_use]
    pub fn survey(environment: &'e Environment) -> Self {
        let mut reader = Reader::new(environment);
        reader.surveys = true;
        reader
    }

    /// The shape of the files that were read.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let roots = self.roots.borrow();
        let mut shapes = roots.iter().map(|record| shape_of(record));
        let first = shapes.next().unwrap_or_default();
        shapes.fold(first, Shape::or)
    }
}

impl<'d> Keys<'d> {
    /// Says that the text of `key` is one of `words`, in any case: for words that the caller looks up itself.
    pub fn words(&self, key: &'static str, words: impl IntoIterator<Item = &'static str>) {
        if self.reader.surveys {
            self.note(key, &Kind::Words(words.into_iter().collect()));
        }
    }

    /// Says that exactly one of `keys` must be there. That none is, or two are, is the caller's fault to record.
    pub fn one_of(&self, keys: &'static [&'static str]) {
        self.noted(|| Note::OneOf(keys));
    }

    /// Notes what kind of value was asked for.
    pub(super) fn note(&self, key: &'static str, kind: &Kind) {
        self.noted(|| Note::Kind(key, kind.clone()));
    }

    pub(super) fn noted(&self, note: impl Fn() -> Note) {
        if self.reader.surveys {
            self.mark(|record| record.note_kind(note()));
        }
    }

    /// This mapping, noted in the one that holds it.
    pub(super) fn noted_as(self, note: impl Fn(Rc<Record>) -> Note, holder: &Keys<'d>) -> Keys<'d> {
        holder.noted(|| note(Rc::clone(&self.front.record)));
        self
    }

    /// The mapping under `key` that is not there, with what is behind it.
    pub(super) fn absent(&self, key: &'static str) -> Option<Keys<'d>> {
        if !self.reader.surveys {
            return None;
        }
        let mut keys = self.alone(nothing(&self.front, self.front.record.ask(key)));
        keys.back = self.back.as_ref().map(|back| nothing(back, back.record.ask(key)));
        Some(keys)
    }

    /// One mapping of a list or of names that is not there.
    pub(super) fn absent_one(&self) -> Option<Keys<'d>> {
        self.reader.surveys.then(|| self.alone(nothing(&self.front, Rc::default())))
    }
}

fn nothing<'d>(source: &Source<'d>, record: Rc<Record>) -> Source<'d> {
    Source { entries: &[], record, ..source.clone() }
}

/// What was asked of a mapping and of those below it.
fn shape_of(record: &Record) -> Shape {
    let key = |name| Key { name, kinds: Vec::new() };
    let mut shape = Shape { keys: record.offered().into_iter().map(key).collect(), one_of: Vec::new() };
    record.each_note(|note| match note {
        Note::Kind(key, kind) => shape.add(key, kind.clone()),
        Note::Mapping(key) => {
            let inner = record.asked(key).unwrap_or_default();
            shape.add(key, Kind::Mapping(shape_of(&inner)));
        }
        Note::Item(key, item) => shape.add(key, Kind::Items(shape_of(item))),
        Note::Entry(key, entry) => shape.add(key, Kind::Entries(shape_of(entry))),
        Note::OneOf(group) if shape.one_of.contains(group) => {}
        Note::OneOf(group) => shape.one_of.push(group),
    });
    shape
}
