//! The sink of the exporter's own statements, whose rows come to one answer: whether a condition holds, what a server has,
//! which tables there are, the values of a `foreach`.
//!
//! Owns when there is an answer: once the statement has ended well. What its rows mean is the business of who asks.

use std::time::Duration;

use super::{Column, Flow, Row, RowSink};
use crate::error::Result;

/// Reads what comes into an answer.
pub struct AnswerSink<A> {
    /// The key of the configuration that an error is about; empty where none is.
    key: &'static str,
    answer: A,
    columns: fn(&mut A, &[Column]) -> Result<()>,
    row: fn(&mut A, &dyn Row) -> Result<Flow>,
    verdict: Option<Result<()>>,
}

impl<A> AnswerSink<A> {
    /// Nothing has come yet.
    pub fn new(
        key: &'static str,
        answer: A,
        columns: fn(&mut A, &[Column]) -> Result<()>,
        row: fn(&mut A, &dyn Row) -> Result<Flow>,
    ) -> Self {
        AnswerSink { key, answer, columns, row, verdict: None }
    }

    /// The answer, or why there is none; `None` while the statement has not ended.
    pub fn answer(self) -> Option<Result<A>> {
        let AnswerSink { key, answer, verdict, .. } = self;
        verdict.map(|verdict| verdict.map(|()| answer).map_err(|error| error.about_key(key)))
    }
}

impl<A> RowSink for AnswerSink<A> {
    fn columns(&mut self, columns: &[Column]) -> Result<()> {
        (self.columns)(&mut self.answer, columns)
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        (self.row)(&mut self.answer, row)
    }

    fn end(&mut self, verdict: Result<()>, _: Duration) {
        self.verdict = Some(verdict);
    }
}
