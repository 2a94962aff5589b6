//! Metric types: how rows become samples.
//!
//! A type is one line in [`TYPES`] and a function that reads its keys into a [`Recipe`]. [`Metric`] is one entry of
//! `metrics:` as read. This folder knows columns and cells, and no database and no target.

pub mod column;
pub mod column_text;
mod entry;
mod histogram;
pub mod labels;
pub mod lint_off;
pub mod naming;
pub mod samples;
mod simple;
mod stateset;
mod summary;
pub mod values;

use crate::driver::{Column, Row};
use crate::error::Result;
use crate::exposition::FamilyKind;
use crate::exposition::line::LabelBytes;
use crate::name::LabelName;
use crate::yaml::keys::Keys;

use self::samples::Samples;

pub use self::entry::Metric;

/// A type of metric.
pub struct MetricType {
    /// The value of `type:`.
    pub name: &'static str,
    /// What stands in the family's head.
    pub kind: FamilyKind,
    /// Takes the type's own keys of a `metrics:` entry. The text is the metric's name as written. `None` after a
    /// recorded fault.
    read: fn(&mut Keys<'_>, Option<&str>) -> Option<Recipe>,
}

/// The types inside the binary. The first one is the default.
pub static TYPES: &[MetricType] = &[
    MetricType { name: "gauge", kind: FamilyKind::Gauge, read: simple::read_gauge },
    MetricType { name: "counter", kind: FamilyKind::Counter, read: simple::read_counter },
    MetricType { name: "histogram", kind: FamilyKind::Histogram, read: histogram::read },
    MetricType { name: "gaugehistogram", kind: FamilyKind::GaugeHistogram, read: histogram::read_gauge },
    MetricType { name: "summary", kind: FamilyKind::Summary, read: summary::read },
    MetricType { name: "info", kind: FamilyKind::Info, read: simple::read_info },
    MetricType { name: "stateset", kind: FamilyKind::StateSet, read: stateset::read },
    MetricType { name: "unknown", kind: FamilyKind::Unknown, read: simple::read_gauge },
];

/// Says why a type cannot hold a number: "is negative, which a counter cannot be".
pub type NumberRule = fn(f64) -> Option<&'static str>;

/// What one metric makes of rows: read from the configuration, shared by all runs.
pub struct Recipe {
    /// The label that the type itself adds to samples.
    pub type_label: Option<LabelName>,
    /// Why a number cannot stand for a result without rows (`empty`).
    pub refuses_empty: NumberRule,
    /// Why samples of one label set cannot be added up (`duplicates: sum`).
    pub refuses_sums: Option<&'static str>,
    /// Several rows make one histogram: then no row's timestamp is its timestamp.
    pub joins_rows: bool,
    /// Each row is one observation, counted here: what leaves the result leaves the metric.
    pub observes_rows: bool,
    /// The columns whose numbers become the metric's own, each with its factor. Columns of counts are not among them.
    pub measures: Vec<(String, f64)>,
    /// The key whose numbers `scale` leaves as they are: bounds, a constant.
    pub unscaled: Option<&'static str>,
    /// The columns that it reads, in the order in which people would name them.
    pub uses: Vec<ColumnUse>,
    /// Finds the columns, once a run.
    pub binder: Box<dyn Bind>,
}

impl Recipe {
    /// A recipe that accepts every number, for samples that each stand for one row.
    fn new(uses: Vec<ColumnUse>, binder: impl Bind + 'static) -> Recipe {
        Recipe {
            type_label: None,
            refuses_empty: |_| None,
            refuses_sums: None,
            joins_rows: false,
            observes_rows: false,
            measures: Vec::new(),
            unscaled: None,
            uses,
            binder: Box::new(binder),
        }
    }
}

/// A recipe's way to the columns of a result.
pub trait Bind: Send + Sync {
    /// Finds the columns.
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
    fn has_pending_rows(&self) -> bool {
        false
    }

    /// Writes what only the last row completes.
    ///
    /// # Errors
    /// As [`Emit::row`].
    fn end(&mut self, _out: &mut Samples<'_>) -> Result<()> {
        Ok(())
    }
}

/// What a column must hold to be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnNeed {
    /// Anything becomes text.
    Anything,
    /// A number, or text that is one.
    Number,
    /// A date, a timestamp or Unix seconds.
    Moment,
}

/// What one metric does with one column: for people who write queries, not for scrapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnUse {
    /// The column as the configuration names it.
    pub column: String,
    /// What it is: "label `region`", "value", "bound", "part of the name".
    pub part: String,
    /// What is done with its values, where something is: "× 0.001; NULL is skipped".
    pub rule: String,
    /// What it must hold.
    pub needs: ColumnNeed,
}

impl ColumnUse {
    /// A column whose numbers are taken as they are.
    pub fn number(column: &str, part: impl Into<String>, rule: impl Into<String>) -> ColumnUse {
        ColumnUse {
            column: column.to_owned(),
            part: part.into(),
            rule: rule.into(),
            needs: ColumnNeed::Number,
        }
    }

    /// A column that may hold anything.
    pub fn anything(column: &str, part: impl Into<String>, rule: impl Into<String>) -> ColumnUse {
        ColumnUse { needs: ColumnNeed::Anything, ..ColumnUse::number(column, part, rule) }
    }
}
