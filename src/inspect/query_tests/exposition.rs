//! Reads an exposition that a person wrote: samples and heads, in either format.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use indexmap::map::Entry;

use crate::exposition::sample_line::Sample;

/// An exposition.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ParsedExposition<'t> {
    /// In the order written.
    pub(super) samples: IndexMap<SeriesKey, ParsedSample<'t>>,
    /// `# HELP`, `# TYPE` and `# UNIT` lines, each with the name that it is about. Other comments are left out.
    pub(super) heads: Vec<(&'t str, &'t str)>,
    /// It ends as OpenMetrics does: timestamps are seconds.
    pub(super) is_openmetrics: bool,
}

/// One sample.
#[derive(Debug, PartialEq)]
pub(super) struct ParsedSample<'t> {
    value: f64,
    timestamp: Option<f64>,
    /// As written.
    pub(super) line: &'t str,
}

/// What is compared of a series: its name and labels; bounds and quantiles as numbers are written here, so that `1` is `1.0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SeriesKey {
    pub(super) name: String,
    labels: BTreeMap<String, String>,
}

impl ParsedSample<'_> {
    /// True when the two are one sample of their series; numbers count by value, NaN is NaN.
    pub(super) fn equals(&self, other: &ParsedSample<'_>) -> bool {
        let same = |left: f64, right: f64| left == right || (left.is_nan() && right.is_nan());
        let same_timestamps = match (self.timestamp, other.timestamp) {
            (Some(left), Some(right)) => same(left, right),
            (left, right) => left.is_none() && right.is_none(),
        };
        same(self.value, other.value) && same_timestamps
    }
}

/// Reads the lines of `text`.
///
/// # Errors
/// A sentence about the first line that is neither sample nor comment, or that repeats a series.
pub(super) fn read(text: &str) -> Result<ParsedExposition<'_>, String> {
    let mut read = ParsedExposition::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let wrong = |what: &str| format!("line {number} of `exposition`: {what}: {line}");
        if let Some(comment) = line.strip_prefix('#') {
            let mut words = comment.split_whitespace();
            match (words.next(), words.next()) {
                (Some("HELP" | "TYPE" | "UNIT"), Some(name)) => read.heads.push((name, line)),
                (Some("EOF"), None) => read.is_openmetrics = true,
                _ => {}
            }
        } else if !line.is_empty() {
            let (series, sample) =
                sample(line).ok_or_else(|| wrong("not a sample, `name{label=\"value\"} number`"))?;
            match read.samples.entry(series) {
                Entry::Occupied(_) => return Err(wrong("a second sample of one series")),
                Entry::Vacant(place) => drop(place.insert(sample)),
            }
        }
    }
    Ok(read)
}

fn sample(line: &str) -> Option<(SeriesKey, ParsedSample<'_>)> {
    let Sample { name, mut labels, value, timestamp } = Sample::read(line).ok()?;
    for bound in ["le", "quantile"] {
        if let Some(text) = labels.get_mut(bound)
            && let Ok(number) = text.parse::<f64>()
        {
            *text = number.to_string();
        }
    }
    Some((SeriesKey { name, labels }, ParsedSample { value, timestamp, line }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_one(left: &str, right: &str) -> bool {
        let one = |line| sample(line).unwrap_or_else(|| panic!("{line}"));
        let ((left_series, left), (right_series, right)) = (one(left), one(right));
        left_series == right_series && left.equals(&right)
    }

    #[test]
    fn order_of_labels_and_spelling_of_numbers_do_not_count() {
        for (left, right) in [
            (r#"x{a="1",b="2"} 1000"#, r#"x{ b="2", a="1", } 1e3"#),
            ("x NaN", "x nan"),
            ("x +Inf", "x{} inf"),
            (r#"x_bucket{le="1"} 1"#, r#"x_bucket{le="1.0"} 1.0"#),
            (r#"x{a="a\"b\\c\nd,}"} 1 5"#, r#"x{a="a\"b\\c\nd,}"}  1   5.0"#),
        ] {
            assert!(are_one(left, right), "{left} {right}");
        }
        for (left, right) in [
            (r#"x{a="1"} 1"#, r#"x{a="1.0"} 1"#),
            ("x 1", "y 1"),
            ("x 1", "x 2"),
            ("x 1", "x 1 5"),
            (r#"x{a=""} 1"#, "x 1"),
        ] {
            assert!(!are_one(left, right), "{left} {right}");
        }
    }

    #[test]
    fn what_is_no_sample_is_told_with_its_line() {
        for line in [
            "x",
            "x{a=\"1\" 1",
            "x{a=1} 1",
            "x one",
            "x 1 2 3",
            "{a=\"1\"} 1",
            "x{a=\"1\"b=\"2\"} 1",
            "x 1 soon",
        ] {
            assert_eq!(sample(line), None, "{line}");
        }
        let wrong = read("x 1\n# a comment\n\nx 2\n").unwrap_err();
        assert_eq!(wrong, "line 4 of `exposition`: a second sample of one series: x 2");
    }

    #[test]
    fn what_this_program_writes_is_read() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut count = 0;
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|suffix| suffix != "yaml") {
                let text = std::fs::read_to_string(&path).unwrap();
                let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
                assert_eq!(read(&text).map(|read| read.samples.len()), Ok(lines), "{}", path.display());
                count += 1;
            }
        }
        assert!(count >= 20);
    }

    /// How long this thread has run: other work of the machine does not count.
    fn cpu_time() -> std::time::Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
        std::time::Duration::from_nanos(nanoseconds.expect("a number"))
    }

    #[test]
    fn the_time_for_many_samples_is_in_proportion_to_their_number() {
        let text: String = (0..50_000).map(|number| format!("x{{n=\"{number}\"}} 1\n")).collect();
        let before = cpu_time();
        assert_eq!(read(&text).map(|read| read.samples.len()), Ok(50_000));
        let took = cpu_time() - before;
        assert!(took < std::time::Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn heads_are_kept_and_other_comments_are_not() {
        let read = read("# TYPE x counter\n# so\n#\nx 1\n# EOF\n").unwrap();
        assert_eq!(read.heads, [("x", "# TYPE x counter")]);
        assert!(read.is_openmetrics && read.samples.len() == 1);
    }
}
