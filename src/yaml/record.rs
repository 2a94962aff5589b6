//! Which keys of a mapping were asked for: what a hint may suggest, and which keys of `defaults` anybody reads.
//!
//! A generator of the JSON Schema will read the same record.

use std::cell::RefCell;
use std::rc::Rc;

/// The questions asked of one mapping.
#[derive(Debug, Default)]
pub(super) struct Record(RefCell<Vec<Question>>);

#[derive(Debug)]
struct Question {
    key: &'static str,
    refused: bool,
    /// The questions asked of the mapping under the key.
    inner: Rc<Record>,
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

    fn note(&self, key: &'static str, refused: bool) -> Rc<Record> {
        let mut questions = self.0.borrow_mut();
        if let Some(question) = questions.iter().find(|question| question.key == key) {
            return Rc::clone(&question.inner);
        }
        let inner = Rc::new(Record::default());
        questions.push(Question { key, refused, inner: Rc::clone(&inner) });
        inner
    }

    /// The record of the mapping under `key`; `None` when nobody asked for the key.
    pub(super) fn asked(&self, key: &str) -> Option<Rc<Record>> {
        self.0.borrow().iter().find(|question| question.key == key).map(|question| Rc::clone(&question.inner))
    }

    /// The keys that a hint may suggest.
    pub(super) fn offered(&self) -> Vec<&'static str> {
        self.0.borrow().iter().filter(|question| !question.refused).map(|question| question.key).collect()
    }

    /// True when nobody asked anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}
