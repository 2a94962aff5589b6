//! The exposition formats: families, sample lines, heads. Knows no SQL, no target, no HTTP.
//!
//! A format is one file and one line in [`FORMATS`]. Sample lines are the same bytes in every format; a format adds heads,
//! explicit timestamps and the end of the page.

pub mod accept;
pub mod block;
pub mod line;
pub mod openmetrics;
pub mod overlap;
pub mod page;
pub mod sample_line;
pub mod series;
pub mod text;

use std::sync::Arc;

use crate::name::MetricName;

/// The type of a family, in the terms of the exposition formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FamilyKind {
    /// Goes up and down.
    Gauge,
    /// Only grows; the value is the total.
    Counter,
    /// Cumulative buckets with `_sum` and `_count`; they only grow.
    Histogram,
    /// Cumulative buckets with `_gsum` and `_gcount` of the present state; they go up and down.
    GaugeHistogram,
    /// Quantiles with `_sum` and `_count`.
    Summary,
    /// Facts as labels, the value 1.
    Info,
    /// One sample per state, 0 or 1; the state is in a label with the family's name.
    StateSet,
    /// Not known.
    Unknown,
}

/// A metric family: what its head contains.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Family {
    /// The configured name: the name in Prometheus, in every format.
    pub name: MetricName,
    /// The type.
    pub kind: FamilyKind,
    /// The help text, unescaped; empty = no HELP line.
    pub help: String,
    /// What the value counts (`seconds`, `bytes`): the name's suffix, before a counter's `_total`. OpenMetrics has a
    /// line of its own for it.
    pub unit: Option<Arc<str>>,
}

impl Family {
    /// A family without a unit.
    pub fn new(name: MetricName, kind: FamilyKind, help: impl Into<String>) -> Self {
        Family { name, kind, help: help.into(), unit: None }
    }

    /// One of the exporter's own.
    pub(crate) fn ours(name: &'static str, kind: FamilyKind, help: &str) -> Arc<Self> {
        Arc::new(Family::new(MetricName::of_code(name), kind, help))
    }
}

/// The names that a family called `name` reserves: those of its samples, and those of OpenMetrics' table of suffixes. No
/// two families may share one.
pub fn reserved_names(name: &str, kind: FamilyKind) -> Vec<String> {
    // OpenMetrics names a counter without `_total`, an info without `_info`; it has no counter without that suffix.
    let (stem, suffixes): (Option<&str>, &[&str]) = match kind {
        FamilyKind::Counter => (name.strip_suffix("_total"), &["_created"]),
        FamilyKind::Info => (name.strip_suffix("_info"), &[]),
        FamilyKind::Histogram => (Some(name), &["_bucket", "_sum", "_count", "_created"]),
        FamilyKind::GaugeHistogram => (Some(name), &["_bucket", "_gsum", "_gcount"]),
        FamilyKind::Summary => (Some(name), &["_sum", "_count", "_created"]),
        FamilyKind::Gauge | FamilyKind::StateSet | FamilyKind::Unknown => (None, &[]),
    };
    let mut names = vec![name.to_owned()];
    names.extend(stem.filter(|stem| *stem != name).map(str::to_owned));
    names.extend(
        stem.into_iter().flat_map(|stem| suffixes.iter().map(move |suffix| format!("{stem}{suffix}"))),
    );
    names
}

/// One exposition format.
pub trait Format: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// The media type and the version that a client asks for.
    fn media(&self) -> (&'static str, &'static str);

    /// The value of the header `Content-Type`.
    fn content_type(&self) -> &'static str;

    /// Appends the lines that describe a family: HELP, TYPE and others of the format.
    fn head(&self, family: &Family, out: &mut Vec<u8>);

    /// Appends a sample's explicit timestamp, the blank before it included. `ms` is Unix time in milliseconds.
    fn timestamp(&self, ms: i64, out: &mut Vec<u8>);

    /// Appends what ends the page (OpenMetrics: `# EOF`).
    fn end(&self, out: &mut Vec<u8>);
}

/// What every scraper understands.
static DEFAULT: &dyn Format = &text::Text;

/// The formats inside the binary, the default first.
pub static FORMATS: &[&dyn Format] = &[DEFAULT, &openmetrics::OpenMetrics];

/// The format that this `Accept` header prefers: the earlier of [`FORMATS`] among equals, the default where it accepts
/// none of them. An `Accept` that cannot be met is not a reason to refuse a scrape.
pub fn negotiate(accept: &str) -> &'static dyn Format {
    let wanted = FORMATS.iter().map(|format| (accept::weight_of(accept, format.media()), *format));
    // The last of equal maxima wins, hence from the back.
    let best = wanted.rev().max_by_key(|(weight, _)| *weight);
    best.filter(|(weight, _)| *weight > 0).map_or(DEFAULT, |(_, format)| format)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Prometheus sends, from its sources (scrape/scrape.go, config/config.go): 2.40–2.48; 2.49 and later; 3.x;
    /// the last two with native histograms too.
    const PROMETHEUS: [&str; 6] = [
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
         text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
         application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
         text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,\
         application/openmetrics-text;version=1.0.0;q=0.4,application/openmetrics-text;version=0.0.1;q=0.3,\
         text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
         application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
         application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
         text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
    ];

    #[test]
    fn prometheus_gets_openmetrics() {
        for accept in PROMETHEUS {
            assert_eq!(negotiate(accept).name(), "openmetrics", "{accept}");
        }
    }

    #[test]
    fn a_scraper_that_is_told_to_take_text_gets_text() {
        let accepts = [
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.4",
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3",
            "application/openmetrics-text;version=1.0.0;q=0.2,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text;version=1.0.0;q=0,*/*",
            "application/openmetrics-text;version=0.0.1",
        ];
        for accept in accepts {
            assert_eq!(negotiate(accept).name(), "text", "{accept}");
        }
    }

    #[test]
    fn everything_else_gets_text() {
        let nonsense = ",;=q\"/\\*".repeat(1_250);
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for accept in
            ["", "*/*", "text/plain", "text/*", "image/png", ";;,q=,", "*/*;q=0", browser, &nonsense]
        {
            assert_eq!(negotiate(accept).name(), "text", "{accept}");
        }
        assert_eq!(negotiate("application/openmetrics-text").name(), "openmetrics");
        assert_eq!(negotiate("application/*").name(), "openmetrics");
    }
}
