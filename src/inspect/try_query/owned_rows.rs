//! Rows that outlive their session: of a statement that has no metrics yet, and is run only once.

use std::time::Duration;

use crate::driver::{Column, Flow, Row, RowSink};
use crate::error::{Error, Reason, Result};
use crate::value::Cell;

/// One value.
#[derive(Debug)]
pub(super) enum OwnedValue {
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

impl OwnedValue {
    /// A copy.
    pub(super) fn of(cell: Cell<'_>) -> OwnedValue {
        match cell {
            Cell::Number(text) => OwnedValue::Number(text.to_owned()),
            Cell::Text(text) => OwnedValue::Text(text.to_owned()),
            Cell::Bytes(bytes) => OwnedValue::Bytes(bytes.to_owned()),
            Cell::NoDate(text) => OwnedValue::NoDate(text.to_owned()),
            Cell::TextDate(text) => OwnedValue::TextDate(text.to_owned()),
            Cell::Other(text) => OwnedValue::Other(text.to_owned()),
            Cell::Null => OwnedValue::Plain(Cell::Null),
            Cell::Bool(value) => OwnedValue::Plain(Cell::Bool(value)),
            Cell::Int(value) => OwnedValue::Plain(Cell::Int(value)),
            Cell::UInt(value) => OwnedValue::Plain(Cell::UInt(value)),
            Cell::Float(value) => OwnedValue::Plain(Cell::Float(value)),
            Cell::Float32(value) => OwnedValue::Plain(Cell::Float32(value)),
            Cell::Date(days) => OwnedValue::Plain(Cell::Date(days)),
            Cell::Time(micros) => OwnedValue::Plain(Cell::Time(micros)),
            Cell::DateTime { micros, zoned } => OwnedValue::Plain(Cell::DateTime { micros, zoned }),
            Cell::LocalDate { days, moment } => OwnedValue::Plain(Cell::LocalDate { days, moment }),
            Cell::LocalDateTime { micros, moment } => {
                OwnedValue::Plain(Cell::LocalDateTime { micros, moment })
            }
            Cell::Interval { months, days, micros } => {
                OwnedValue::Plain(Cell::Interval { months, days, micros })
            }
        }
    }

    /// As the session gave it.
    pub(super) fn cell(&self) -> Cell<'_> {
        match self {
            OwnedValue::Plain(cell) => *cell,
            OwnedValue::Number(text) => Cell::Number(text),
            OwnedValue::Text(text) => Cell::Text(text),
            OwnedValue::Bytes(bytes) => Cell::Bytes(bytes),
            OwnedValue::NoDate(text) => Cell::NoDate(text),
            OwnedValue::TextDate(text) => Cell::TextDate(text),
            OwnedValue::Other(text) => Cell::Other(text),
        }
    }
}

struct KeptRow<'r>(&'r [OwnedValue]);

impl Row for KeptRow<'_> {
    fn cell(&self, column: usize) -> Result<Cell<'_>> {
        let cell = self.0.get(column).map(OwnedValue::cell);
        cell.ok_or_else(|| Error::new(Reason::Protocol, "the row is too short"))
    }
}

/// Hands the rows to `sink` as the session did, its `end` included.
pub(super) fn replay(columns: &[Column], rows: &[Vec<OwnedValue>], sink: &mut dyn RowSink) {
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
