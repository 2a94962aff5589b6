//! Names that are legal by construction: metric names and label names.
//!
//! The rules are the Prometheus data model's (classic character set, which both exposition formats accept):
//! <https://prometheus.io/docs/concepts/data_model/>.

use std::fmt;
use std::sync::Arc;

fn is_legal(text: &str, colon: bool) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(legal)
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $colon:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// # Errors
            /// The rule that the text breaks, as a sentence.
            pub fn new(text: &str) -> Result<Self, String> {
                if is_legal(text, $colon) { Ok($type(text.into())) } else { Err(format!("{text:?} is not a legal {}", $rule)) }
            }

            /// A name that stands in this program's code.
            pub(crate) fn of_code(text: &'static str) -> Self {
                // Invariant: it is legal, as every test that reads a page finds.
                $type(text.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*`
    MetricName,
    true,
    "metric name: letters, digits, `_` and `:`, not starting with a digit"
);
name!(
    /// `[a-zA-Z_][a-zA-Z0-9_]*`
    LabelName,
    false,
    "label name: letters, digits and `_`, not starting with a digit"
);

/// `name`, or with a number behind it, from 2 on: the first that is free.
pub fn unused(name: &str, separator: &str, mut is_free: impl FnMut(&str) -> bool) -> String {
    let mut numbered = (2_u64..).map(|number| format!("{name}{separator}{number}"));
    let mut unused = name.to_owned();
    while !is_free(&unused) {
        unused = numbered.next().unwrap_or_default();
    }
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_may_hold_colons_and_label_names_may_not() {
        assert!(MetricName::new("job:requests:rate5m").is_ok());
        assert!(LabelName::new("job:requests").is_err());
    }

    #[test]
    fn digits_do_not_lead_and_other_characters_are_illegal() {
        for text in ["", "1st", "a-b", "a b", "é", "a.b"] {
            assert!(MetricName::new(text).is_err(), "{text}");
            assert!(LabelName::new(text).is_err(), "{text}");
        }
        assert!(LabelName::new("_1").is_ok());
    }
}
