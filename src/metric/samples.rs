//! Where a metric type puts its samples: one family's builder, with the limits and the counts of the whole query.

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use serde::Serialize;

use crate::driver::bounded_text::cut;
use crate::error::{Error, Reason, Result};
use crate::exposition::block::{BlockBuilder, Inserted, series_text};
use crate::exposition::line::LabelBytes;

/// What to do about a second sample of one label set.
const DISTINCT: &str =
    "group by the label columns, add a label that differs, or set `duplicates: first` or `duplicates: sum`";
/// The same where there is nothing to add up.
const DISTINCT_ROWS: &str =
    "group by the label columns, add a label that differs, or set `duplicates: first`";

/// What becomes of a second sample of one label set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Duplicates {
    /// It fails the query.
    #[default]
    Error,
    /// It is left out.
    First,
    /// It is added to the first.
    Sum,
}

/// Values left out of a good result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SkippedValues {
    /// NULL with `null: skip`.
    pub null: u64,
    /// Not usable, with `invalid: skip`.
    pub invalid: u64,
    /// A second sample of one label set, with `duplicates: first`.
    pub duplicate: u64,
}

/// What all metrics of one query count together.
#[derive(Debug)]
pub struct Tally {
    /// Series written.
    pub series: u64,
    /// More are an error.
    pub max_series: u64,
    /// Values left out.
    pub skipped: SkippedValues,
}

impl Tally {
    /// Counts one more series.
    ///
    /// # Errors
    /// `limit`.
    fn take_room(&mut self) -> Result<()> {
        self.check_room(1)?;
        self.series += 1;
        Ok(())
    }

    /// Fails when `more` series would be too many: for types that write their series at the end.
    ///
    /// # Errors
    /// `limit`.
    pub fn check_room(&self, more: u64) -> Result<()> {
        if self.series.saturating_add(more) <= self.max_series {
            return Ok(());
        }
        let message = format!("more than {} series (max_series)", self.max_series);
        Err(Error::new(Reason::Limit, message)
            .with_hint("group by fewer columns, add a LIMIT, or raise max_series"))
    }
}

/// The samples of one metric: the builder of its family and the query's tally.
#[derive(Debug)]
pub struct Samples<'b> {
    /// The family's lines so far.
    pub builder: &'b mut BlockBuilder,
    /// The query's counts and limits.
    pub tally: &'b mut Tally,
    /// What becomes of a second sample of one label set.
    pub duplicates: Duplicates,
    /// Where samples wait for others of their label set, with `duplicates: sum`.
    pub sums: Option<&'b mut Sums>,
    /// The explicit timestamp of what is written, in Unix milliseconds.
    pub timestamp: Option<i64>,
}

impl Samples<'_> {
    /// Writes one sample of the family's name with `suffix`; `type_label` is the one that the type adds as bytes, or empty.
    ///
    /// # Errors
    /// `duplicate`, naming the series; `limit`.
    pub fn add(
        &mut self,
        suffix: &'static str,
        labels: &LabelBytes,
        type_label: &[u8],
        value: f64,
    ) -> Result<()> {
        if let Some(sums) = &mut self.sums {
            return match sums.add(suffix, labels, type_label, value) {
                Summed::New => self.tally.take_room(),
                Summed::Added => Ok(()),
                Summed::Overflow => {
                    let series = self.shown(suffix, labels, type_label);
                    let message = format!("the sum of {series} is too large for a 64-bit float");
                    Err(Error::new(Reason::Value, message))
                }
            };
        }
        match self.builder.add(suffix, labels, type_label, value) {
            Inserted::New => {
                self.tally.take_room()?;
                if let Some(ms) = self.timestamp {
                    self.builder.timestamp(ms);
                }
                Ok(())
            }
            Inserted::Duplicate if self.duplicates == Duplicates::First => {
                self.tally.skipped.duplicate += 1;
                Ok(())
            }
            Inserted::Duplicate => Err(self.duplicate(suffix, labels, type_label)),
            Inserted::Full => Err(Samples::full()),
        }
    }

    /// A second row of labels that a type writes as one.
    ///
    /// # Errors
    /// `duplicate`, naming the series, unless the first row is kept.
    pub fn again(&mut self, labels: &LabelBytes) -> Result<()> {
        if self.duplicates == Duplicates::First {
            self.tally.skipped.duplicate += 1;
            return Ok(());
        }
        let message = format!("two rows of {}", self.shown("", labels, b""));
        Err(Error::new(Reason::Duplicate, message).with_hint(DISTINCT_ROWS))
    }

    /// A `limit` error: the lines are longer than their offsets can say.
    pub fn full() -> Error {
        Error::new(Reason::Limit, "more than 4 GiB of samples from one query")
    }

    /// A `value` error: why the rows of these labels are not what the type is.
    pub fn refused(&self, labels: &LabelBytes, why: &str) -> Error {
        Error::new(Reason::Value, format!("{}: {why}", self.shown("", labels, b"")))
    }

    /// A `duplicate` error: two rows of these labels have the same bound.
    pub fn twice(&self, labels: &LabelBytes, bound: f64) -> Error {
        let message = format!("two rows of {} have the bound {bound}", self.shown("", labels, b""));
        Error::new(Reason::Duplicate, message).with_hint(DISTINCT_ROWS)
    }

    fn duplicate(&self, suffix: &str, labels: &LabelBytes, type_label: &[u8]) -> Error {
        let message = format!("two samples of {}", self.shown(suffix, labels, type_label));
        Error::new(Reason::Duplicate, message).with_hint(DISTINCT)
    }

    /// A series as a message bears it.
    fn shown(&self, suffix: &str, labels: &LabelBytes, type_label: &[u8]) -> String {
        cut(&series_text(self.builder.family(), suffix, labels, type_label), 400)
    }
}

/// The samples of one metric in one family that wait to be added up (`duplicates: sum`), in the order first seen.
#[derive(Debug, Default)]
pub struct Sums {
    /// By suffix and labels, the one that the type adds among them.
    all: IndexMap<(&'static str, LabelBytes), f64, RandomState>,
    /// The series at hand; kept for its memory.
    series: (&'static str, LabelBytes),
}

enum Summed {
    /// It is the first of its series.
    New,
    Added,
    /// The sum of finite numbers is not finite.
    Overflow,
}

impl Sums {
    /// True when no sample waits.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds a sample to those of its series. NaN and infinities do as in any sum.
    fn add(&mut self, suffix: &'static str, labels: &LabelBytes, type_label: &[u8], value: f64) -> Summed {
        let Sums { all, series } = self;
        let (before, after) = labels.around_gap();
        series.0 = suffix;
        series.1.clear();
        [before, type_label, after].into_iter().for_each(|part| series.1.bytes_mut().extend_from_slice(part));
        match all.get_mut(series) {
            Some(sum) => {
                let is_finite = sum.is_finite() && value.is_finite();
                *sum += value;
                if is_finite && !sum.is_finite() { Summed::Overflow } else { Summed::Added }
            }
            None => {
                all.insert(series.clone(), value);
                Summed::New
            }
        }
    }

    /// Writes the sums.
    ///
    /// # Errors
    /// `limit` for the first one without room: its line would be longer than offsets can say.
    pub fn write(self, builder: &mut BlockBuilder) -> Result<()> {
        self.all.into_iter().try_for_each(|((suffix, labels), sum)| {
            match builder.add(suffix, &labels, b"", sum) {
                Inserted::New => Ok(()),
                Inserted::Duplicate | Inserted::Full => Err(Samples::full()),
            }
        })
    }
}
