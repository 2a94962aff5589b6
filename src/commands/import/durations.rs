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
    let span = SpanParser::new().parse_span(text).ok()?;
    let duration = Duration::try_from(span.to_duration(date(1970, 1, 1)).ok()?).ok()?;
    parse_duration(&format!("{:.3}", duration.as_secs_f64())).ok()
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
        for text in ["", "10", "s", "1x", "1..5s", "-", "-5m", "5 parsecs", "1e400h", "1000y"] {
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
            ("0", 0),
            ("1min", 60_000),
            ("1month", 2_678_400_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "1 parsec", "s", "-1s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
