//! Text format 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use super::{Family, FamilyKind, Format, line};

/// The format.
pub struct Text;

impl Format for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn media(&self) -> (&'static str, &'static str) {
        ("text/plain", "0.0.4")
    }

    fn content_type(&self) -> &'static str {
        "text/plain; version=0.0.4; charset=utf-8"
    }

    fn head(&self, family: &Family, out: &mut Vec<u8>) {
        let name = family.name.as_str();
        if !family.help.is_empty() {
            line::describe("HELP", name, out);
            line::help(&family.help, out);
            out.push(b'\n');
        }
        line::describe("TYPE", name, out);
        out.extend_from_slice(match family.kind {
            FamilyKind::Gauge | FamilyKind::Info | FamilyKind::StateSet => b"gauge\n",
            FamilyKind::Counter => b"counter\n",
            FamilyKind::Histogram => b"histogram\n",
            FamilyKind::Summary => b"summary\n",
            FamilyKind::Unknown | FamilyKind::GaugeHistogram => b"untyped\n".as_slice(),
        });
    }

    /// In whole milliseconds.
    fn timestamp(&self, ms: i64, out: &mut Vec<u8>) {
        out.push(b' ');
        out.extend_from_slice(itoa::Buffer::new().format(ms).as_bytes());
    }

    fn end(&self, _: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::MetricName;

    fn head(kind: FamilyKind, help: &str) -> String {
        let family = Family::new(MetricName::new("x").unwrap(), kind, help);
        let mut out = Vec::new();
        Text.head(&family, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_has_help_and_type() {
        assert_eq!(head(FamilyKind::Counter, "Two\nlines"), "# HELP x Two\\nlines\n# TYPE x counter\n");
        assert_eq!(head(FamilyKind::Histogram, ""), "# TYPE x histogram\n");
        assert_eq!(head(FamilyKind::Gauge, ""), "# TYPE x gauge\n");
    }

    #[test]
    fn types_that_the_format_does_not_know_are_its_nearest() {
        assert_eq!(head(FamilyKind::Unknown, ""), "# TYPE x untyped\n");
        assert_eq!(head(FamilyKind::GaugeHistogram, ""), "# TYPE x untyped\n");
        assert_eq!(head(FamilyKind::Info, ""), "# TYPE x gauge\n");
        assert_eq!(head(FamilyKind::StateSet, ""), "# TYPE x gauge\n");
    }
}
