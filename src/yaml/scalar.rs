//! Scalars' texts as values: flags and sizes. Durations are `deadline`'s.

/// `true` or `false`, `yes`/`no`, `on`/`off`, in any case.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// `64MiB`, `16KiB`, `1GB`, `1.5 GiB`, or a number of bytes; units in any case.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    // A fraction needs a unit: there is no half byte. A `f64` is exact far beyond any size that is meant.
    let bytes = number.parse::<f64>().ok().filter(|_| factor > 1)? * factor as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within u64's range")]
    (0.0..9e18).contains(&bytes).then_some(bytes.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_users_write_them() {
        let cases = [
            ("0", Some(0)),
            ("65536", Some(65536)),
            ("16KiB", Some(16384)),
            ("64MiB", Some(64 << 20)),
            ("64mib", Some(64 << 20)),
            ("1GB", Some(1_000_000_000)),
            ("2 MB", Some(2_000_000)),
            ("1.5GiB", Some(3 << 29)),
            ("1.5", None),
            ("-1", None),
            ("64M", None),
            ("MiB", None),
            ("", None),
            ("1e3", None),
            ("99999999999999999999", None),
            ("18446744073709551615GiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn flags_in_any_case() {
        for text in ["true", "True", "YES", "on"] {
            assert_eq!(flag(text), Some(true), "{text}");
        }
        for text in ["false", "no", "OFF"] {
            assert_eq!(flag(text), Some(false), "{text}");
        }
        for text in ["1", "", "y", "maybe"] {
            assert_eq!(flag(text), None, "{text}");
        }
    }
}
