//! Durations as Go and Prometheus write them: `1h30m`, `1.5s`, `1d`.

use std::time::Duration;

/// The units in seconds, a longer name before one that it begins with.
const UNITS: [(&str, f64); 11] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
    ("w", 604_800.0),
    ("y", 31_536_000.0),
];

/// The duration; `None` for what is not one, and for a negative one.
pub(super) fn read(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    match rest {
        "" => return None,
        "0" => return Some(Duration::ZERO),
        _ => {}
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit = UNITS.iter().find_map(|(unit, factor)| Some((after.strip_prefix(unit)?, factor)));
        let (after, factor) = unit?;
        sum += number.parse::<f64>().ok()? * factor;
        rest = after;
    }
    Duration::try_from_secs_f64(sum).ok()
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
            ("1d", "24h"),
            ("2w", "336h"),
            ("300s", "5m"),
            ("0", "0s"),
            ("0s", "0s"),
        ] {
            assert_eq!(read(text).map(duration_text).as_deref(), Some(ours), "{text}");
        }
        for text in ["", "10", "s", "1x", "1..5s", "-", "-5m", "5 parsecs", "1e400h"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
