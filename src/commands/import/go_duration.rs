//! Durations as Go and Prometheus write them (`1h30m`, `1.5s`, `1d`) → ours, which have one unit.

/// The units in milliseconds, the longer names first.
const UNITS: [(&str, f64); 8] = [
    ("ms", 1.0),
    ("us", 0.001),
    ("s", 1e3),
    ("m", 60e3),
    ("h", 3600e3),
    ("d", 86_400e3),
    ("w", 604_800e3),
    ("y", 31_536_000e3),
];

/// Milliseconds; `None` for what is not a duration.
pub(super) fn milliseconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    match rest {
        "" => return None,
        "0" => return Some(0),
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
    #[allow(clippy::cast_possible_truncation, reason = "a float too large becomes the largest integer")]
    Some((sign * sum) as i64)
}

/// Our form of a number of milliseconds: `90s`, `5m`, `500ms`.
pub(super) fn shown(milliseconds: i64) -> String {
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let fits = |(_, factor): &(&str, i64)| milliseconds % factor == 0 && milliseconds != 0;
    match units.into_iter().find(fits) {
        Some((unit, factor)) => format!("{}{unit}", milliseconds / factor),
        None => format!("{milliseconds}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_several_units_become_one() {
        for (text, ours) in [
            ("10s", "10s"),
            ("1h30m", "90m"),
            ("1.5h", "90m"),
            ("500ms", "500ms"),
            ("1m500ms", "60500ms"),
            ("1d", "24h"),
            ("2w", "336h"),
            ("300s", "5m"),
        ] {
            assert_eq!(milliseconds(text).map(shown).as_deref(), Some(ours), "{text}");
        }
        assert_eq!(milliseconds("0s"), Some(0));
        assert_eq!(milliseconds("-1s"), Some(-1000));
        for text in ["", "10", "s", "1x", "1..5s", "-"] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }
}
