//! A double as text, for sample values and for labels (docs/metrics.md).
//!
//! Integers below 2^63 plain, else the shortest text that reads back as the same value; `NaN`, `+Inf`, `-Inf`.

/// 2^63: from here on a double is written with an exponent.
const PLAIN_BELOW: f64 = 9_223_372_036_854_775_808.0;

/// Passes the text of `value` to `push`, in one piece or three. Allocates nothing.
pub fn write(value: f64, mut push: impl FnMut(&str)) {
    #[expect(clippy::cast_possible_truncation, reason = "looked at only where it is the same number")]
    let integer = value as i64;
    if integer as f64 == value && value.abs() < PLAIN_BELOW {
        return if integer == 0 && value.is_sign_negative() {
            push("-0");
        } else {
            push(itoa::Buffer::new().format(integer));
        };
    }
    match special(value) {
        Some(text) => push(text),
        None => shortest(zmij::Buffer::new().format_finite(value), push),
    }
}

/// A count as a double: of what this process can hold or meet, which is far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
pub fn of_count(count: u64) -> f64 {
    count as f64
}

/// The double that the shortest text of a 4-byte float means: 1.1, not the 1.10000002384185791015625 that is stored.
pub fn of_single(value: f32) -> f64 {
    /// 2^24: below it every integer is exact.
    const EXACT_BELOW: f32 = 16_777_216.0;
    let double = f64::from(value);
    if !value.is_finite() || (value.trunc() == value && value.abs() < EXACT_BELOW) {
        return double;
    }
    zmij::Buffer::new().format_finite(value).parse().unwrap_or(double)
}

fn special(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// zmij writes `1e+20` and `16777216.0`; we write `1e20` and `16777216`.
fn shortest(text: &str, mut push: impl FnMut(&str)) {
    match text.split_once('e') {
        Some((digits, exponent)) => {
            push(digits);
            push("e");
            push(exponent.strip_prefix('+').unwrap_or(exponent));
        }
        None => push(text.strip_suffix(".0").unwrap_or(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(value: f64) -> String {
        let mut text = String::new();
        write(value, |piece| text.push_str(piece));
        text
    }

    #[test]
    fn integers_below_two_to_the_63_are_plain_and_larger_ones_have_an_exponent() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-42.0, "-42"),
            (1e15, "1000000000000000"),
            (1e18, "1000000000000000000"),
            (9_223_372_036_854_774_784.0, "9223372036854774784"),
            (-9_223_372_036_854_774_784.0, "-9223372036854774784"),
            (9_223_372_036_854_775_808.0, "9.223372036854776e18"),
            (1e20, "1e20"),
            (-1e20, "-1e20"),
            (1.5e300, "1.5e300"),
        ];
        for (value, text) in cases {
            assert_eq!(double(value), text);
        }
    }

    #[test]
    fn fractions_are_the_shortest_text_that_reads_back() {
        let cases = [
            (0.1, "0.1"),
            (-0.5, "-0.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-7, "1e-7"),
            (5e-324, "5e-324"),
            (1.0 / 3.0, "0.3333333333333333"),
        ];
        for (value, text) in cases {
            assert_eq!(double(value), text);
            assert_eq!(text.parse(), Ok(value));
        }
    }

    #[test]
    fn what_is_not_finite_is_written_as_prometheus_writes_it() {
        assert_eq!(double(f64::NAN), "NaN");
        assert_eq!(double(-f64::NAN), "NaN");
        assert_eq!(double(f64::INFINITY), "+Inf");
        assert_eq!(double(f64::NEG_INFINITY), "-Inf");
    }

    #[test]
    fn a_four_byte_float_is_the_decimal_that_it_is_written_as() {
        for (value, text) in [
            (1.1, "1.1"),
            (0.1, "0.1"),
            (16_777_216.0, "16777216"),
            (123_456_789.0, "123456790"),
            (1e10, "10000000000"),
            (1e20, "1e20"),
            (3.4e38, "3.4e38"),
            (f32::from_bits(1), "1e-45"),
            (3.0, "3"),
            (-0.0, "-0"),
            (f32::NEG_INFINITY, "-Inf"),
            (f32::NAN, "NaN"),
        ] {
            assert_eq!(double(of_single(value)), text);
        }
    }
}
