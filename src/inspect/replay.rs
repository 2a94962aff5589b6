//! Rows that are at hand, sent to a sink as a session sends them.

use std::time::Duration;

use crate::driver::{Column, Flow, Row, RowSink};
use crate::error::{Error, Reason, Result};
use crate::value::Cell;

/// The values of one row, and how each is read.
struct ValueRow<'r, V>(&'r [V], fn(&V) -> Cell<'_>);

impl<V> Row for ValueRow<'_, V> {
    fn cell(&self, column: usize) -> Result<Cell<'_>> {
        let value = self.0.get(column).map(self.1);
        value.ok_or_else(|| Error::new(Reason::Protocol, "the row is too short"))
    }
}

/// Sends the rows to `sink`, its `end` included.
pub(super) fn replay<V>(
    columns: &[Column],
    rows: &[Vec<V>],
    cell: fn(&V) -> Cell<'_>,
    sink: &mut dyn RowSink,
) {
    let mut send = || {
        sink.columns(columns)?;
        for row in rows {
            if sink.row(&ValueRow(row, cell))? == Flow::Stop {
                break;
            }
        }
        Ok(())
    };
    let verdict = send();
    sink.end(verdict, Duration::ZERO);
}
