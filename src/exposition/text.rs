//! Text format 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use super::{Family, FamilyKind, Format, line};

/// The format.
pub struct Text;

impl Format for Text {
    fn content_type(&self) -> &'static str {
        "text/plain; version=0.0.4; charset=utf-8"
    }

    fn head(&self, family: &Family, out: &mut Vec<u8>) {
        let name = family.name.as_str().as_bytes();
        if !family.help.is_empty() {
            out.extend_from_slice(b"# HELP ");
            out.extend_from_slice(name);
            out.push(b' ');
            line::help(&family.help, out);
            out.push(b'\n');
        }
        out.extend_from_slice(b"# TYPE ");
        out.extend_from_slice(name);
        out.extend_from_slice(match family.kind {
            FamilyKind::Gauge => b" gauge\n",
            FamilyKind::Counter => b" counter\n",
            FamilyKind::Histogram => b" histogram\n",
            FamilyKind::Unknown => b" untyped\n".as_slice(),
        });
    }

    fn end(&self, _: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::MetricName;

    fn head(kind: FamilyKind, help: &str) -> String {
        let family = Family { name: MetricName::new("x").unwrap(), kind, help: help.to_owned() };
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
    fn a_type_that_is_not_said_is_untyped() {
        assert_eq!(head(FamilyKind::Unknown, ""), "# TYPE x untyped\n");
    }
}
