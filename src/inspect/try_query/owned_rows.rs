//! Rows that outlive their session: of a statement that has no metrics yet, and is run only once.

use std::time::Duration;

use crate::driver::{Column, Flow, Row, RowSink};
use crate::error::{Error, Reason, Result};
use crate::value::Cell;

/// One value.
#[derive(Debug)]
pub(super) enum Kept {
    /// It borrows nothing.
    Plain(Cell<'static>),
    /// [`Cell::Number`].
    Number(String),
    /// [`Cell::Text`].
    Text(String),
    /// [`Cell::Bytes`].
    Bytes(Vec<u8>),
    /// [`Cell::NoDate`].
    NoDate(String),
    /// [`Cell::TextDate`].
    TextDate(String),
    /// [`Cell::Other`].
    Other(String),
}

impl Kept {
    /// A copy.
    pub(super) fn of(cell: Cell<'_>) -> Kept {
        match cell {
            Cell::Number(text) => Kept::Number(text.to_owned()),
            Cell::Text(text) => Kept::Text(text.to_owned()),
            Cell::Bytes(bytes) => Kept::Bytes(bytes.to_owned()),
            Cell::NoDate(text) => Kept::NoDate(text.to_owned()),
            Cell::TextDate(text) => Kept::TextDate(text.to_owned()),
            Cell::Other(text) => Kept::Other(text.to_owned()),
            Cell::Null => Kept::Plain(Cell::Null),
            Cell::Bool(value) => Kept::Plain(Cell::Bool(value)),
            Cell::Int(value) => Kept::Plain(Cell::Int(value)),
            Cell::UInt(value) => Kept::Plain(Cell::UInt(value)),
            Cell::Float(value) => Kept::Plain(Cell::Float(value)),
            Cell::Float32(value) => Kept::Plain(Cell::Float32(value)),
            Cell::Date(days) => Kept::Plain(Cell::Date(days)),
            Cell::Time(micros) => Kept::Plain(Cell::Time(micros)),
            Cell::DateTime { micros, zoned } => Kept::Plain(Cell::DateTime { micros, zoned }),
            Cell::LocalDate { days, moment } => Kept::Plain(Cell::LocalDate { days, moment }),
            Cell::LocalDateTime { micros, moment } => Kept::Plain(Cell::LocalDateTime { micros, moment }),
            Cell::Interval { months, days, micros } => Kept::Plain(Cell::Interval { months, days, micros }),
        }
    }

    /// As the session gave it.
    pub(super) fn cell(&self) -> Cell<'_> {
        match self {
            Kept::Plain(cell) => *cell,
            Kept::Number(text) => Cell::Number(text),
            Kept::Text(text) => Cell::Text(text),
            Kept::Bytes(bytes) => Cell::Bytes(bytes),
            Kept::NoDate(text) => Cell::NoDate(text),
            Kept::TextDate(text) => Cell::TextDate(text),
            Kept::Other(text) => Cell::Other(text),
        }
    }
}

struct KeptRow<'r>(&'r [Kept]);

impl Row for KeptRow<'_> {
    fn cell(&self, column: usize) -> Result<Cell<'_>> {
        let cell = self.0.get(column).map(Kept::cell);
        cell.ok_or_else(|| Error::new(Reason::Protocol, "the row is too short"))
    }
}

/// Hands the rows to `sink` as the session did, its `end` included.
pub(super) fn replay(columns: &[Column], rows: &[Vec<Kept>], sink: &mut dyn RowSink) {
    let mut feed = || {
        sink.columns(columns)?;
        for row in rows {
            if sink.row(&KeptRow(row))? == Flow::Stop {
                break;
            }
        }
        Ok(())
    };
    let verdict = feed();
    sink.end(verdict, Duration::ZERO);
}
