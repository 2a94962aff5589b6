//! The sink between a session and the production sink: it keeps what people want to see of the rows, counts, and takes
//! the times. What it hands on is what a scrape's sink gets.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::driver::{Column, ColumnContent, Flow, Row, RowSink};
use crate::error::{Error, Reason, Result};
use crate::value::Cell;

use super::owned_rows::OwnedValue;

/// A statement without metrics may bring so many rows: the default of `max_rows`.
const MAX_ROWS: u64 = 100_000;

/// What was seen of the rows.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) columns: Vec<Column>,
    /// The first ones as text; `None` is NULL.
    pub(super) rows: Vec<Vec<Option<String>>>,
    /// All that came.
    pub(super) count: u64,
    /// The mapping failed and enough rows to show had come: there may be more.
    pub(super) stopped: bool,
    /// Which columns hold moments without a zone.
    pub(super) unzoned: Vec<bool>,
    /// Of each column that the caller asked for: its values.
    pub(super) values: Vec<HashSet<String>>,
    /// All rows, where there is no production sink.
    pub(super) kept: Vec<Vec<OwnedValue>>,
    /// When the first row came, or the end where none did.
    pub(super) first: Option<Instant>,
    /// When the last one had come.
    pub(super) last: Option<Instant>,
    /// Spent in the production sink.
    pub(super) render: Duration,
    /// Of that, between the first row and the last.
    pub(super) render_of_rows: Duration,
    /// How the session ended the job.
    pub(super) verdict: Option<Result<()>>,
}

/// The sink. Without an inner one it keeps all rows.
pub(super) struct RecordingSink<'s> {
    inner: Option<Box<dyn RowSink + 's>>,
    /// How many rows to keep as text.
    shown: usize,
    /// Names of columns whose different values are counted.
    counted: &'s [String],
    places: Vec<Option<usize>>,
    failed: Option<Error>,
    seen: &'s mut Seen,
}

impl<'s> RecordingSink<'s> {
    /// A sink that notes in `seen`.
    pub(super) fn new(
        inner: Option<Box<dyn RowSink + 's>>,
        shown: usize,
        counted: &'s [String],
        seen: &'s mut Seen,
    ) -> RecordingSink<'s> {
        RecordingSink { inner, shown, counted, places: Vec::new(), failed: None, seen }
    }

    /// Calls the production sink until it fails; the time is its own.
    fn hand(&mut self, call: impl FnOnce(&mut dyn RowSink) -> Result<Flow>) -> Duration {
        let Some(inner) = self.inner.as_deref_mut().filter(|_| self.failed.is_none()) else {
            return Duration::ZERO;
        };
        let began = Instant::now();
        self.failed = call(inner).err();
        let took = began.elapsed();
        self.seen.render += took;
        took
    }

    fn note(&mut self, row: &dyn Row) -> Result<()> {
        let width = self.seen.columns.len();
        let mut scratch = String::new();
        if self.seen.rows.len() < self.shown {
            let text = |column| match row.cell(column)? {
                Cell::Null => Ok(None),
                cell => Ok(Some(cell.label(&mut String::new()).to_owned())),
            };
            self.seen.rows.push((0..width).map(text).collect::<Result<_>>()?);
        }
        for (place, values) in self.places.iter().zip(&mut self.seen.values) {
            let Some(place) = place else { continue };
            let cell = row.cell(*place)?;
            let text = cell.label(&mut scratch);
            if !values.contains(text) {
                values.insert(text.to_owned());
            }
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
            self.seen.kept.push((0..width).map(kept).collect::<Result<_>>()?);
        }
        Ok(())
    }
}

impl RowSink for RecordingSink<'_> {
    fn columns(&mut self, columns: &[Column]) -> Result<()> {
        self.seen.columns = columns.to_vec();
        self.seen.unzoned = vec![false; columns.len()];
        self.seen.values = vec![HashSet::new(); self.counted.len()];
        let place = |name: &String| crate::metric::column::find(columns, name).ok();
        self.places = self.counted.iter().map(place).collect();
        self.hand(|sink| sink.columns(columns).map(|()| Flow::Continue));
        Ok(())
    }

    /// After a failed mapping rows come until there are enough to show.
    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        self.seen.first.get_or_insert_with(Instant::now);
        if self.failed.is_some() && self.seen.rows.len() >= self.shown {
            self.seen.stopped = true;
            return Ok(Flow::Stop);
        }
        self.seen.count += 1;
        self.note(row)?;
        let took = self.hand(|sink| sink.row(row));
        self.seen.render_of_rows += took;
        Ok(Flow::Continue)
    }

    fn end(&mut self, verdict: Result<()>, took: Duration) {
        let now = Instant::now();
        // Of what failed before it gave a row there is no time to tell.
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
