//! OpenMetrics 1.0.0: <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.

use std::io::Write as _;

use super::{Family, FamilyKind, Format, line};

/// The format.
pub struct OpenMetrics;

impl Format for OpenMetrics {
    fn name(&self) -> &'static str {
        "openmetrics"
    }

    fn media(&self) -> (&'static str, &'static str) {
        ("application/openmetrics-text", "1.0.0")
    }

    fn content_type(&self) -> &'static str {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    }

    fn head(&self, family: &Family, out: &mut Vec<u8>) {
        let (name, kind) = described(family);
        line::describe("TYPE", name, out);
        out.extend_from_slice(kind.as_bytes());
        out.push(b'\n');
        if let Some(unit) = &family.unit {
            line::describe("UNIT", name, out);
            out.extend_from_slice(unit.as_bytes());
            out.push(b'\n');
        }
        if !family.help.is_empty() {
            line::describe("HELP", name, out);
            // Unlike 0.0.4, this format escapes quotes in a help text as in a label value.
            line::label_value(&family.help, out);
            out.push(b'\n');
        }
    }

    /// In seconds, with three decimals.
    fn timestamp(&self, ms: i64, out: &mut Vec<u8>) {
        let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
        // Writing into memory does not fail.
        let _ = write!(out, " {sign}{}.{:03}", ms / 1000, ms % 1000);
    }

    fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"# EOF\n");
    }
}

/// The family's name and type in this format. A sample's name is the same in both formats, so a counter's and an
/// info's suffix, which this format adds to the family's name, must be in the configured name; a counter without it
/// has no type here.
fn described(family: &Family) -> (&str, &'static str) {
    let name = family.name.as_str();
    match family.kind {
        FamilyKind::Gauge => (name, "gauge"),
        FamilyKind::Counter => stem(name, "_total").map_or((name, "unknown"), |stem| (stem, "counter")),
        FamilyKind::Histogram => (name, "histogram"),
        FamilyKind::GaugeHistogram => (name, "gaugehistogram"),
        FamilyKind::Summary => (name, "summary"),
        FamilyKind::Info => stem(name, "_info").map_or((name, "unknown"), |stem| (stem, "info")),
        FamilyKind::StateSet => (name, "stateset"),
        FamilyKind::Unknown => (name, "unknown"),
    }
}

/// What is before the suffix, if anything is.
fn stem<'n>(name: &'n str, suffix: &str) -> Option<&'n str> {
    name.strip_suffix(suffix).filter(|stem| !stem.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::name::MetricName;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn head(name: &str, kind: FamilyKind, help: &str, unit: Option<&str>) -> String {
        let mut family = Family::new(MetricName::new(name).unwrap(), kind, help);
        family.unit = unit.map(Arc::from);
        written(|out| OpenMetrics.head(&family, out))
    }

    #[test]
    fn a_head_names_a_counter_and_an_info_without_their_suffix() {
        assert_eq!(head("x_total", FamilyKind::Counter, "", None), "# TYPE x counter\n");
        assert_eq!(head("x_info", FamilyKind::Info, "", None), "# TYPE x info\n");
        assert_eq!(head("x_total", FamilyKind::Gauge, "", None), "# TYPE x_total gauge\n");
    }

    #[test]
    fn a_counter_without_total_is_of_unknown_type() {
        assert_eq!(head("requests", FamilyKind::Counter, "", None), "# TYPE requests unknown\n");
        assert_eq!(head("_total", FamilyKind::Counter, "", None), "# TYPE _total unknown\n");
    }

    #[test]
    fn help_and_unit_are_told_of_the_name_in_the_head() {
        assert_eq!(
            head("x_seconds_total", FamilyKind::Counter, "A \"b\" \\\nc", Some("seconds")),
            "# TYPE x_seconds counter\n# UNIT x_seconds seconds\n# HELP x_seconds A \\\"b\\\" \\\\\\nc\n"
        );
    }

    #[test]
    fn a_timestamp_is_in_seconds() {
        let cases =
            [(0, " 0.000"), (1_500, " 1.500"), (-1, " -0.001"), (1_700_000_000_042, " 1700000000.042")];
        for (ms, expected) in cases {
            assert_eq!(written(|out| OpenMetrics.timestamp(ms, out)), expected);
        }
        assert_eq!(written(|out| OpenMetrics.timestamp(i64::MIN, out)), " -9223372036854775.808");
    }
}
