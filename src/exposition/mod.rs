//! The exposition formats: families, sample lines, heads. Knows no SQL, no target, no HTTP.
//!
//! One format is one file and one line in [`FORMATS`]. Sample lines are the same bytes in every format;
//! a format adds heads, explicit timestamps and the end of the page.

pub mod block;
pub mod line;
pub mod page;
pub mod series;
pub mod text;

use std::sync::Arc;

use crate::name::MetricName;

/// What a family is, in the words of the exposition formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FamilyKind {
    /// Goes up and down.
    Gauge,
    /// Only grows; the absolute value read.
    Counter,
    /// Cumulative buckets with `_sum` and `_count`; they only grow.
    Histogram,
    /// Cumulative buckets with `_gsum` and `_gcount` of what is there now; they go up and down.
    GaugeHistogram,
    /// Quantiles with `_sum` and `_count`.
    Summary,
    /// Facts as labels, the value 1.
    Info,
    /// One sample a state, 0 or 1; the state stands in a label of the family's own name.
    StateSet,
    /// Not said.
    Unknown,
}

/// A metric family: what stands in its head.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Family {
    /// The configured name: the name in Prometheus, in every format.
    pub name: MetricName,
    /// The type.
    pub kind: FamilyKind,
    /// The help text, unescaped; empty = no HELP line.
    pub help: String,
    /// What the value counts (`seconds`, `bytes`): the name's suffix, before a counter's `_total`. OpenMetrics' heads
    /// say it in a line of its own.
    pub unit: Option<Arc<str>>,
}

impl Family {
    /// A family without a unit.
    #[must_use]
    pub fn new(name: MetricName, kind: FamilyKind, help: impl Into<String>) -> Self {
        Family { name, kind, help: help.into(), unit: None }
    }
}

/// One exposition format.
pub trait Format: Sync {
    /// The value of the header `Content-Type`.
    fn content_type(&self) -> &'static str;

    /// Appends the lines that describe a family: HELP, TYPE and what else the format has.
    fn head(&self, family: &Family, out: &mut Vec<u8>);

    /// Appends a sample's explicit timestamp, the blank before it included. `ms` is Unix time in milliseconds.
    fn stamp(&self, ms: i64, out: &mut Vec<u8>);

    /// Appends what ends the page (OpenMetrics: `# EOF`).
    fn end(&self, out: &mut Vec<u8>);
}

/// What every scraper understands.
static DEFAULT: &dyn Format = &text::Text;

/// The formats inside the binary, the default first.
pub static FORMATS: &[&dyn Format] = &[DEFAULT];

/// The format for a request with this `Accept` header. While there is one format every request gets it, with its own
/// content type: an `Accept` that cannot be met is no reason to withhold a scrape.
#[must_use]
pub fn negotiate(_accept: Option<&str>) -> &'static dyn Format {
    DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accept_gets_the_text_format_under_its_own_name() {
        let accepts = [
            None,
            Some(""),
            Some("*/*"),
            Some("text/plain;version=0.0.4"),
            Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
            Some("application/openmetrics-text; version=1.0.0"),
            Some("image/png"),
            Some(";;,q=,"),
        ];
        for accept in accepts {
            let content_type = negotiate(accept).content_type();
            assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8", "{accept:?}");
        }
    }
}
