//! The exposition formats: families, sample lines, heads. Knows no SQL, no target, no HTTP.
//!
//! One format is one file and one line in [`FORMATS`]. Sample lines are the same bytes in every format;
//! a format adds heads, explicit timestamps and the end of the page.

pub mod block;
pub mod line;
pub mod page;
pub mod series;
pub mod text;

use crate::name::MetricName;

/// What a family is, in the words of the exposition formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FamilyKind {
    /// Goes up and down.
    Gauge,
    /// Only grows; the absolute value read.
    Counter,
    /// Cumulative buckets with `_sum` and `_count`.
    Histogram,
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
}

/// One exposition format.
pub trait Format: Sync {
    /// The value of the header `Content-Type`.
    fn content_type(&self) -> &'static str;

    /// Appends the HELP and TYPE lines of a family.
    fn head(&self, family: &Family, out: &mut Vec<u8>);

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
