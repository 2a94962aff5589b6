//! Which keys of a mapping were asked for: what a hint may suggest, and which keys of `defaults` anybody reads. In a
//! survey also how each was asked: `shape` makes the JSON Schema's shapes of it.

use std::cell::RefCell;
use std::rc::Rc;

use super::shape::Kind;

/// The questions asked of one mapping.
#[derive(Debug, Default)]
pub(super) struct Record {
    questions: RefCell<Vec<Question>>,
    /// Keys whose values are shown to nobody.
    hidden: RefCell<Vec<&'static str>>,
    /// Of a survey: how keys were asked for.
    notes: RefCell<Vec<Note>>,
}

/// How a key was asked for.
#[derive(Debug)]
pub(super) enum Note {
    /// As a value of this kind.
    Kind(&'static str, Kind),
    /// As a mapping; its record is the question's.
    Mapping(&'static str),
    /// As a list of mappings, one of which was asked this.
    Item(&'static str, Rc<Record>),
    /// As a mapping of names to mappings, one of which was asked this.
    Entry(&'static str, Rc<Record>),
    /// Exactly one of these keys must be there.
    OneOf(&'static [&'static str]),
}

#[derive(Debug)]
struct Question {
    key: &'static str,
    refused: bool,
    /// Its text is taken as typed.
    literal: bool,
    /// The questions asked of the mapping under the key.
    inner: Rc<Record>,
}

/// How the value of a key may be shown.
pub(super) enum Showing {
    /// Not at all.
    Hidden,
    /// As it stands in the file.
    AsTyped,
    /// With its variables replaced; what a mapping below was asked.
    Expanded(Rc<Record>),
}

impl Record {
    /// Notes that `key` was asked for; gives the record of the mapping under it.
    pub(super) fn ask(&self, key: &'static str) -> Rc<Record> {
        self.note(key, false)
    }

    /// Notes that `key` was refused: it is known, and no hint suggests it.
    pub(super) fn refuse(&self, key: &'static str) {
        self.note(key, true);
    }

    /// Notes that the values of `key` are shown to nobody.
    pub(super) fn hide(&self, key: &'static str) {
        self.hidden.borrow_mut().push(key);
    }

    /// Notes that the text of `key` is taken as typed, without expansion.
    pub(super) fn leave(&self, key: &str) {
        if let Some(question) = self.questions.borrow_mut().iter_mut().find(|question| question.key == key) {
            question.literal = true;
        }
    }

    /// How a value may be shown; a key that nobody asked for is nobody's business.
    pub(super) fn showing(&self, key: &str) -> Showing {
        if self.hidden.borrow().contains(&key) {
            return Showing::Hidden;
        }
        match self.questions.borrow().iter().find(|question| question.key == key) {
            None => Showing::Hidden,
            Some(question) if question.literal => Showing::AsTyped,
            Some(question) => Showing::Expanded(Rc::clone(&question.inner)),
        }
    }

    fn note(&self, key: &'static str, refused: bool) -> Rc<Record> {
        let mut questions = self.questions.borrow_mut();
        if let Some(question) = questions.iter().find(|question| question.key == key) {
            return Rc::clone(&question.inner);
        }
        let inner = Rc::new(Record::default());
        questions.push(Question { key, refused, literal: false, inner: Rc::clone(&inner) });
        inner
    }

    /// The record of the mapping under `key`; `None` when nobody asked for the key.
    pub(super) fn asked(&self, key: &str) -> Option<Rc<Record>> {
        self.questions
            .borrow()
            .iter()
            .find(|question| question.key == key)
            .map(|question| Rc::clone(&question.inner))
    }

    /// The keys that a hint may suggest.
    pub(super) fn offered(&self) -> Vec<&'static str> {
        self.questions
            .borrow()
            .iter()
            .filter(|question| !question.refused)
            .map(|question| question.key)
            .collect()
    }

    /// Notes how a key was asked for.
    pub(super) fn note_kind(&self, note: Note) {
        self.notes.borrow_mut().push(note);
    }

    /// Hands each note to `read`.
    pub(super) fn each_note(&self, mut read: impl FnMut(&Note)) {
        self.notes.borrow().iter().for_each(&mut read);
    }

    /// True when nobody asked anything.
    pub(super) fn is_empty(&self) -> bool {
        self.questions.borrow().is_empty()
    }
}
