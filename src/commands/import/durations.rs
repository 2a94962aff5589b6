//! Durations as the sources have them: numbers with units, which add up.

use std::time::Duration;

use jiff::civil::date;
use jiff::fmt::friendly::SpanParser;

use crate::deadline::parse_duration;

/// `1h30m`, `1.5s`, `2days`; `None` for what is not a duration, for a negative one, and for more than ours may be.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut sum, mut rest) = (Duration::ZERO, text);
    // One number at a time: in Go, each may have a fraction.
    loop {
        let unit = rest.find(char::is_alphabetic)?;
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let end = rest.get(unit..)?.find(is_number).map_or(rest.len(), |at| unit + at);
        let span = SpanParser::new().parse_span(rest.get(..end)?.trim()).ok()?;
        // A month has 31 days then, and a year 365.
        let part = Duration::try_from(span.to_duration(date(2025, 1, 1)).ok()?).ok()?;
        sum = sum.checked_add(part)?;
        rest = rest.get(end..)?;
        if rest.is_empty() {
            return parse_duration(&format!("{:.3}", sum.as_secs_f64())).ok();
        }
    }
}

/// A number of seconds, with its unit.
pub(super) fn seconds(text: String) -> String {
    if text.ends_with(|c: char| c.is_ascii_digit()) { format!("{text}s") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::duration_text;

    #[test]
    fn durations_of_several_units_become_one() {
        for (text, ours) in [
            ("10s", "10s"),
            ("1h30m", "90m"),
            ("1.5h", "90m"),
            ("500ms", "500ms"),
            ("1m500ms", "60500ms"),
            ("1.5h30m", "2h"),
            ("0.5m 0.5s", "30500ms"),
            ("0h0m", "0s"),
            ("2000us", "2ms"),
            ("2000µs", "2ms"),
            ("1d", "24h"),
            ("2w", "336h"),
            ("1y", "8760h"),
            ("300s", "5m"),
            ("0", "0s"),
            ("0s", "0s"),
        ] {
            assert_eq!(parse(text).map(duration_text).as_deref(), Some(ours), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "1x",
            "1..5s",
            "-",
            "-5m",
            "5 parsecs",
            "1e400h",
            "1000y",
            "1h30",
            "1h-30m",
            "1.5.5h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        let cases = [
            ("30s", 30_000),
            ("1h 30m", 5_400_000),
            ("500ms", 500),
            ("2days", 172_800_000),
            ("1month", 2_678_400_000),
            ("0", 0),
            ("1min", 60_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "1 parsec", "s", "-1s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
