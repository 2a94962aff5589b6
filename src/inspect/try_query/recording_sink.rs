//! The sink between a session and the production sink: it keeps what people want to see of the rows, counts, and measures.
//! What it passes on is what the sink of a scrape gets.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::{ResultColumn, StepTimes};
use crate::driver::{Column, ColumnContent, Flow, Row, RowSink};
use crate::error::{Error, Reason, Result};
use crate::metric::column::find;
use crate::value::Cell;

/// The most rows of a statement without metrics: the default of `max_rows`.
const MAX_ROWS: u64 = 100_000;
/// The most bytes of values that are kept.
const MAX_BYTES: usize = 64 << 20;

/// What is known about the rows.
#[derive(Default)]
pub(super) struct RecordedRows {
    pub(super) columns: Vec<Column>,
    /// The first ones as text; `None` is NULL.
    pub(super) rows: Vec<Vec<Option<String>>>,
    /// How many came.
    pub(super) count: u64,
    /// The mapping failed and enough rows to show had come: there may be more.
    pub(super) stopped: bool,
    /// Which columns hold moments without a time zone.
    pub(super) unzoned: Vec<bool>,
    /// The hashes of the different values of each column that the caller asked for.
    pub(super) values: Vec<HashSet<u64>>,
    hasher: RandomState,
    /// All rows, where there is no production sink.
    pub(super) kept: Vec<Vec<OwnedValue>>,
    /// The size of what is kept.
    bytes: usize,
    /// When the first row came, or the end where none did.
    first: Option<Instant>,
    /// When the last one had come.
    last: Option<Instant>,
    /// Time in the production sink.
    pub(super) render: Duration,
    /// Of that, between the first row and the last.
    render_of_rows: Duration,
    /// How the session ended the job.
    pub(super) verdict: Option<Result<()>>,
}

impl RecordedRows {
    pub(super) fn result_columns(&self) -> Vec<ResultColumn> {
        let column = |column: &Column| ResultColumn {
            name: column.name.to_string(),
            type_name: column.type_name.to_string(),
        };
        self.columns.iter().map(column).collect()
    }

    pub(super) fn note_times(&self, start: Instant, times: &mut StepTimes) {
        times.first_row = self.first.map(|first| first.duration_since(start));
        let rows = self.first.zip(self.last).map(|(first, last)| last.duration_since(first));
        times.rows = rows.map(|rows| rows.saturating_sub(self.render_of_rows));
        times.render = self.last.map(|_| self.render);
    }
}

/// The sink. Without an inner one it keeps all rows.
pub(super) struct RecordingSink<'s> {
    inner: Option<Box<dyn RowSink + 's>>,
    /// How many rows to keep as text.
    shown: usize,
    /// Names of columns whose different values are counted.
    counted: &'s [String],
    counted_at: Vec<Option<usize>>,
    failed: Option<Error>,
    seen: &'s mut RecordedRows,
}

impl<'s> RecordingSink<'s> {
    /// A sink that records in `seen`.
    pub(super) fn new(
        inner: Option<Box<dyn RowSink + 's>>,
        shown: usize,
        counted: &'s [String],
        seen: &'s mut RecordedRows,
    ) -> RecordingSink<'s> {
        RecordingSink { inner, shown, counted, counted_at: Vec::new(), failed: None, seen }
    }

    /// Calls the production sink until it fails; the time is its own.
    fn pass_on(&mut self, call: impl FnOnce(&mut dyn RowSink) -> Result<Flow>) -> Duration {
        let Some(inner) = self.inner.as_deref_mut().filter(|_| self.failed.is_none()) else {
            return Duration::ZERO;
        };
        let began = Instant::now();
        self.failed = call(inner).err();
        let took = began.elapsed();
        self.seen.render += took;
        took
    }

    /// True while another row is kept as text.
    fn shows_more(&self) -> bool {
        self.seen.rows.len() < self.shown && self.seen.bytes < MAX_BYTES
    }

    fn record(&mut self, row: &dyn Row) -> Result<()> {
        let width = self.seen.columns.len();
        let mut scratch = String::new();
        if self.shows_more() {
            let text = |column| match row.cell(column)? {
                Cell::Null => Ok(None),
                cell => Ok(Some(cell.label(&mut String::new()).to_owned())),
            };
            let texts: Vec<Option<String>> = (0..width).map(text).collect::<Result<_>>()?;
            self.seen.bytes += texts.iter().flatten().map(String::len).sum::<usize>();
            self.seen.rows.push(texts);
        }
        for (place, values) in self.counted_at.iter().zip(&mut self.seen.values) {
            let Some(place) = place else { continue };
            values.insert(self.seen.hasher.hash_one(row.cell(*place)?.label(&mut scratch)));
        }
        for (place, column) in self.seen.columns.iter().enumerate() {
            if matches!(column.content, ColumnContent::Moment)
                && let Cell::DateTime { zoned: false, .. } = row.cell(place)?
                && let Some(unzoned) = self.seen.unzoned.get_mut(place)
            {
                *unzoned = true;
            }
        }
        if self.inner.is_none() {
            if self.seen.count > MAX_ROWS {
                let message = format!("more than {MAX_ROWS} rows");
                return Err(Error::new(Reason::Limit, message).with_hint("group or filter in the SQL"));
            }
            let kept = |column| row.cell(column).map(OwnedValue::of);
            let values: Vec<OwnedValue> = (0..width).map(kept).collect::<Result<_>>()?;
            self.seen.bytes += values.iter().map(OwnedValue::size).sum::<usize>();
            self.seen.kept.push(values);
            if self.seen.bytes > MAX_BYTES {
                let message = format!("more than {} MiB of values", MAX_BYTES >> 20);
                return Err(Error::new(Reason::Limit, message).with_hint("select fewer columns or rows"));
            }
        }
        Ok(())
    }
}

impl RowSink for RecordingSink<'_> {
    fn columns(&mut self, columns: &[Column]) -> Result<()> {
        self.seen.columns = columns.to_vec();
        // What the earlier values of a `foreach` have shown stays.
        self.seen.unzoned.resize(columns.len(), false);
        self.seen.values.resize(self.counted.len(), HashSet::new());
        let place = |name: &String| find(columns, name).ok();
        self.counted_at = self.counted.iter().map(place).collect();
        self.pass_on(|sink| sink.columns(columns).map(|()| Flow::Continue));
        Ok(())
    }

    /// After a failed mapping rows come until there are enough to show.
    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        self.seen.first.get_or_insert_with(Instant::now);
        if self.failed.is_some() && !self.shows_more() {
            self.seen.stopped = true;
            return Ok(Flow::Stop);
        }
        self.seen.count += 1;
        self.record(row)?;
        let took = self.pass_on(|sink| sink.row(row));
        self.seen.render_of_rows += took;
        Ok(Flow::Continue)
    }

    fn end(&mut self, verdict: Result<()>, took: Duration) {
        let now = Instant::now();
        // A statement that failed before its first row has no times.
        if verdict.is_ok() || self.seen.first.is_some() {
            self.seen.first.get_or_insert(now);
            self.seen.last = Some(now);
        }
        self.seen.verdict = Some(verdict.clone());
        let failed = self.failed.take();
        if let Some(inner) = &mut self.inner {
            let verdict = verdict.and_then(|()| failed.map_or(Ok(()), Err));
            inner.end(verdict, took);
            self.seen.render += now.elapsed();
        }
    }
}

/// A value that outlives its session.
#[derive(Debug)]
pub(super) enum OwnedValue {
    /// A value that borrows nothing.
    Plain(Cell<'static>),
    /// A text, and the kind of cell that holds it.
    Text(String, fn(&str) -> Cell<'_>),
    /// [`Cell::Bytes`].
    Bytes(Vec<u8>),
}

impl OwnedValue {
    /// A copy.
    fn of(cell: Cell<'_>) -> OwnedValue {
        let text = |text: &str, kind: fn(&str) -> Cell<'_>| OwnedValue::Text(text.to_owned(), kind);
        OwnedValue::Plain(match cell {
            Cell::Number(number) => return text(number, |text| Cell::Number(text)),
            Cell::Text(value) => return text(value, |text| Cell::Text(text)),
            Cell::NoDate(date) => return text(date, |text| Cell::NoDate(text)),
            Cell::TextDate(date) => return text(date, |text| Cell::TextDate(text)),
            Cell::Other(other) => return text(other, |text| Cell::Other(text)),
            Cell::Bytes(bytes) => return OwnedValue::Bytes(bytes.to_owned()),
            Cell::Null => Cell::Null,
            Cell::Bool(value) => Cell::Bool(value),
            Cell::Int(value) => Cell::Int(value),
            Cell::UInt(value) => Cell::UInt(value),
            Cell::Float(value) => Cell::Float(value),
            Cell::Float32(value) => Cell::Float32(value),
            Cell::Date(days) => Cell::Date(days),
            Cell::Time(micros) => Cell::Time(micros),
            Cell::DateTime { micros, zoned } => Cell::DateTime { micros, zoned },
            Cell::LocalDate { days, moment } => Cell::LocalDate { days, moment },
            Cell::LocalDateTime { micros, moment } => Cell::LocalDateTime { micros, moment },
            Cell::Interval { months, days, micros } => Cell::Interval { months, days, micros },
        })
    }

    /// The memory that it takes.
    fn size(&self) -> usize {
        let own = match self {
            OwnedValue::Plain(_) => 0,
            OwnedValue::Text(text, _) => text.len(),
            OwnedValue::Bytes(bytes) => bytes.len(),
        };
        own + size_of::<OwnedValue>()
    }

    /// As the session returned it.
    pub(super) fn cell(&self) -> Cell<'_> {
        match self {
            OwnedValue::Plain(cell) => *cell,
            OwnedValue::Text(text, kind) => kind(text),
            OwnedValue::Bytes(bytes) => Cell::Bytes(bytes),
        }
    }
}
