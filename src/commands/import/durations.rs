//! Durations as the sources have them: numbers with units, which add up.

use std::time::Duration;

use crate::deadline::parse_duration;

/// Names of a unit, and its seconds.
type Units = [(&'static [&'static str], f64)];

/// Go and Prometheus.
const GO: &Units = &[
    (&["ns"], 1e-9),
    (&["us", "µs", "μs"], 1e-6),
    (&["ms"], 1e-3),
    (&["s"], 1.0),
    (&["m"], 60.0),
    (&["h"], 3600.0),
    (&["d"], 86_400.0),
    (&["w"], 604_800.0),
    (&["y"], 31_536_000.0),
];
/// The crate `humantime`.
const HUMANTIME: &Units = &[
    (&["nsec", "ns"], 1e-9),
    (&["usec", "us"], 1e-6),
    (&["msec", "ms"], 1e-3),
    (&["seconds", "second", "secs", "sec", "s"], 1.0),
    (&["minutes", "minute", "mins", "min", "m"], 60.0),
    (&["hours", "hour", "hrs", "hr", "h"], 3600.0),
    (&["days", "day", "d"], 86_400.0),
    (&["weeks", "week", "w"], 604_800.0),
    (&["months", "month", "M"], 2_630_016.0),
    (&["years", "year", "y"], 31_557_600.0),
];

/// `1h30m`, `1.5s`, `1d`; `None` for what is not a duration, for a negative one, and for more than ours may be.
pub(super) fn go(text: &str) -> Option<Duration> {
    sum(text, GO)
}

/// `1h 30m`, `2days`; `None` as for [`go`].
pub(super) fn humantime(text: &str) -> Option<Duration> {
    sum(text, HUMANTIME)
}

/// A number of seconds, with its unit.
pub(super) fn seconds(text: String) -> String {
    if text.ends_with(|c: char| c.is_ascii_digit()) { format!("{text}s") } else { text }
}

fn sum(text: &str, units: &Units) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    loop {
        let (number, after) = rest.split_at_checked(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?)?;
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let (_, factor) = units.iter().find(|(names, _)| names.contains(&unit))?;
        seconds += number.parse::<f64>().ok()? * factor;
        rest = after.trim_start();
        if rest.is_empty() {
            return parse_duration(&format!("{seconds:.3}")).ok();
        }
    }
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
            ("300s", "5m"),
            ("0", "0s"),
            ("0s", "0s"),
        ] {
            assert_eq!(go(text).map(duration_text).as_deref(), Some(ours), "{text}");
        }
        for text in ["", "10", "s", "1x", "1..5s", "-", "-5m", "5 parsecs", "1e400h", "1000y"] {
            assert_eq!(go(text), None, "{text}");
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
        ];
        for (text, millis) in cases {
            assert_eq!(humantime(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "1 parsec", "s", "-1s"] {
            assert_eq!(humantime(text), None, "{text}");
        }
    }
}
