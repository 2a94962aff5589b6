//! Metric types: how rows become samples. One type is one file and one line in [`TYPES`].
//!
//! [`Metric`] is one entry of `metrics:` as read; it knows columns and cells, no database and no target.

mod buckets;
pub mod column;
pub mod counter;
pub mod gauge;
pub mod gaugehistogram;
pub mod histogram;
pub mod info;
pub mod labels;
pub mod lint_off;
pub mod naming;
pub mod plain;
mod read;
pub mod samples;
pub mod stateset;
pub mod summary;
pub mod sums;
pub mod unknown;
mod uses;
pub mod value;

use self::lint_off::SilencedLints;
use crate::driver::{Column, Row};
use crate::error::{Result, SourcePosition};
use crate::exposition::FamilyKind;
use crate::exposition::line::LabelBytes;
use crate::name::LabelName;
use crate::yaml::keys::Keys;

use self::labels::Labels;
use self::naming::Naming;
use self::samples::{Duplicates, Samples};

pub use self::uses::{ColumnNeed, ColumnUse};

/// A type of metric, by its name in `type:`. A new one is one line in [`TYPES`].
pub trait MetricType: Sync {
    /// The value of `type:`.
    fn name(&self) -> &'static str;

    /// What stands in the family's head.
    fn kind(&self) -> FamilyKind;

    /// Takes the type's own keys of a `metrics:` entry; `name` is the metric's as written. `None` after
    /// a recorded fault.
    fn read(&self, keys: &mut Keys<'_>, name: Option<&str>) -> Option<Box<dyn Recipe>>;
}

/// The types inside the binary.
pub static TYPES: &[&dyn MetricType] = &[
    &gauge::Gauge,
    &counter::Counter,
    &histogram::Histogram,
    &gaugehistogram::GaugeHistogram,
    &summary::Summary,
    &info::Info,
    &stateset::StateSet,
    &unknown::Unknown,
];

/// What one metric makes of rows: read from the configuration, shared by all runs.
pub trait Recipe: Send + Sync {
    /// The label that the type itself adds to samples.
    fn own_label(&self) -> Option<&LabelName> {
        None
    }

    /// Why `value` cannot stand for a result without rows (`empty`).
    fn refuses_empty(&self, value: f64) -> Option<&'static str>;

    /// True when several rows make one sample or one histogram: then no row's timestamp is theirs.
    fn joins_rows(&self) -> bool {
        false
    }

    /// Why samples of one label set cannot be added up (`duplicates: sum`).
    fn refuses_sums(&self) -> Option<&'static str> {
        None
    }

    /// True when each row is one observation, counted here: what leaves the result leaves the metric.
    fn observes_rows(&self) -> bool {
        false
    }

    /// The columns whose numbers become the metric's own, each with its factor; none that are counts.
    fn measures(&self) -> Vec<(&str, f64)> {
        Vec::new()
    }

    /// The columns that it reads, in the order in which people would name them.
    fn uses(&self) -> Vec<ColumnUse>;

    /// Finds the columns, once a run.
    ///
    /// # Errors
    /// `missing_column`.
    fn bind<'r>(&'r self, columns: &[Column]) -> Result<Box<dyn Emit + 'r>>;
}

/// One metric in one run: `row` per row, then `empty` if there was none and the metric says so, then `end`.
pub trait Emit {
    /// Takes one row; `labels` are its labels as bytes.
    ///
    /// # Errors
    /// `type`, `value`, `protocol`, `duplicate`, `limit`: the whole query fails.
    fn row(&mut self, row: &dyn Row, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()>;

    /// Stands in for rows: there was none, and `empty` is a number.
    ///
    /// # Errors
    /// As [`Emit::row`].
    fn empty(&mut self, value: f64, labels: &LabelBytes, out: &mut Samples<'_>) -> Result<()>;

    /// True when rows wait for [`Emit::end`] to make samples of them.
    fn gathers(&self) -> bool {
        false
    }

    /// Writes what only the last row completes.
    ///
    /// # Errors
    /// As [`Emit::row`].
    fn end(&mut self, out: &mut Samples<'_>) -> Result<()> {
        let _ = out;
        Ok(())
    }
}

/// One entry of `metrics:`, read and checked by itself (clashes with others are `plan/clash`).
pub struct Metric {
    /// Name, type, help.
    pub naming: Naming,
    /// Label names in the order written on a sample: sorted, `le` last.
    pub label_names: Vec<LabelName>,
    /// Where it stands in the file.
    pub place: SourcePosition,
    /// The first key that gives it labels.
    pub labels_place: Option<SourcePosition>,
    /// The lints that it silences.
    pub lint_off: SilencedLints,
    /// Where its labels come from.
    pub labels: Labels,
    /// What becomes of a row.
    pub recipe: Box<dyn Recipe>,
    /// The column with the samples' explicit timestamps.
    pub timestamp_column: Option<String>,
    /// What a result without rows is, if anything. Only without label columns.
    pub empty: Option<f64>,
    /// What becomes of a second sample of one label set.
    pub duplicates: Duplicates,
}

impl Metric {
    /// Takes all keys of one `metrics:` entry. `None` after a recorded fault.
    #[must_use]
    pub fn read(keys: Keys<'_>) -> Option<Metric> {
        read::metric(keys)
    }

    /// The mini form: `metric_name`, `help`, `labels`, `value_column` (and `type`) taken from the query's own keys.
    /// `Some` only when `metric_name` is there.
    pub fn read_mini(keys: &mut Keys<'_>) -> Option<Metric> {
        read::mini(keys)
    }
}
