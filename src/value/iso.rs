//! Dates, times and intervals as ISO 8601 text. Pure arithmetic: no time zone, no clock.
//!
//! Years are astronomical (year 0 is 1 BC); one outside 0 to 9999 bears a sign, as ISO 8601's expanded form does.

use std::fmt::Write;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// `2026-01-02`; `days` since 1970-01-01.
pub(super) fn date(days: i64, out: &mut String) {
    let (year, month, day) = civil(days);
    // Writing to a String cannot fail.
    let _ = match year {
        0..=9999 => write!(out, "{year:04}"),
        _ => write!(out, "{year:+05}"),
    };
    let _ = write!(out, "-{month:02}-{day:02}");
}

/// `03:04:05.5`, `-838:59:59`: microseconds, hours without an upper end.
pub(super) fn time(micros: i64, out: &mut String) {
    if micros < 0 {
        out.push('-');
    }
    let (hour, minute, second) = (micros / HOUR, micros % HOUR / MINUTE, micros % MINUTE / SECOND);
    let _ =
        write!(out, "{:02}:{:02}:{:02}", hour.unsigned_abs(), minute.unsigned_abs(), second.unsigned_abs());
    fraction(micros, out);
}

/// `2026-01-02T03:04:05.5`, with a final `Z` where `zoned`; microseconds since the epoch.
pub(super) fn moment(micros: i64, zoned: bool, out: &mut String) {
    date(micros.div_euclid(DAY), out);
    out.push('T');
    time(micros.rem_euclid(DAY), out);
    if zoned {
        out.push('Z');
    }
}

/// `P1Y2M3DT4H5M6.5S`, each part with its own sign, `PT0S` for nothing: as PostgreSQL's `iso_8601` style.
pub(super) fn interval(months: i32, days: i32, micros: i64, out: &mut String) {
    let part = |number: i64, unit: char, out: &mut String| {
        if number != 0 {
            let _ = write!(out, "{number}{unit}");
        }
    };
    out.push('P');
    part(i64::from(months / 12), 'Y', out);
    part(i64::from(months % 12), 'M', out);
    part(i64::from(days), 'D', out);
    if micros == 0 {
        if months == 0 && days == 0 {
            out.push_str("T0S");
        }
        return;
    }
    out.push('T');
    part(micros / HOUR, 'H', out);
    part(micros % HOUR / MINUTE, 'M', out);
    let rest = micros % MINUTE;
    if rest != 0 {
        let _ = write!(out, "{}{}", if rest < 0 { "-" } else { "" }, (rest / SECOND).unsigned_abs());
        fraction(rest, out);
        out.push('S');
    }
}

/// `.5`: the part below a second without final zeros; nothing when there is none.
fn fraction(micros: i64, out: &mut String) {
    let rest = (micros % SECOND).unsigned_abs();
    if rest != 0 {
        let _ = write!(out, ".{rest:06}");
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// Days since 1970-01-01 → (year, month, day), proleptic Gregorian.
///
/// Counts in eras of 400 years that start on 1 March, so that the leap day is the last day of a year:
/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
fn civil(days: i64) -> (i64, i64, i64) {
    let since = days.saturating_add(719_468);
    let era = since.div_euclid(146_097);
    let of_era = since.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn dates_before_and_after_the_epoch() {
        let cases = [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (20_455, "2026-01-02"),
            (11_016, "2000-02-29"),
            (-25_508, "1900-03-01"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
            (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"),
            (-735_160, "-0043-03-15"),
        ];
        for (days, expected) in cases {
            assert_eq!(text(|out| date(days, out)), expected);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil(-800_000);
        for days in -799_999..800_000 {
            let (year, month, day) = civil(days);
            let next = (year, month, day) == (last.0, last.1, last.2 + 1);
            let month_ended = last.2 >= 28 && (year, month, day) == (last.0, last.1 + 1, 1);
            let year_ended = (last.1, last.2, month, day) == (12, 31, 1, 1) && year == last.0 + 1;
            assert!(next || month_ended || year_ended, "{last:?} then {:?}", (year, month, day));
            last = (year, month, day);
        }
    }

    #[test]
    fn times_drop_final_zeros_and_may_be_negative_or_longer_than_a_day() {
        let cases = [
            (0, "00:00:00"),
            (11_045_500_000, "03:04:05.5"),
            (11_045_000_001, "03:04:05.000001"),
            (-(838 * HOUR + 59 * MINUTE + 59 * SECOND), "-838:59:59"),
            (-500_000, "-00:00:00.5"),
            (DAY, "24:00:00"),
        ];
        for (micros, expected) in cases {
            assert_eq!(text(|out| time(micros, out)), expected);
        }
    }

    #[test]
    fn moments_end_in_z_where_they_have_a_zone() {
        let micros = 20_455 * DAY + 11_045_500_000;
        assert_eq!(text(|out| moment(micros, false, out)), "2026-01-02T03:04:05.5");
        assert_eq!(text(|out| moment(micros, true, out)), "2026-01-02T03:04:05.5Z");
        assert_eq!(text(|out| moment(-1, true, out)), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn intervals_as_postgresql_writes_them() {
        let cases = [
            ((0, 0, 0), "PT0S"),
            ((0, 0, 90 * MINUTE), "PT1H30M"),
            ((14, 3, 4 * HOUR + 5 * MINUTE + 6_500_000), "P1Y2M3DT4H5M6.5S"),
            ((-14, 3, -(4 * HOUR + 5 * MINUTE + 6 * SECOND)), "P-1Y-2M3DT-4H-5M-6S"),
            ((0, 0, -500_000), "PT-0.5S"),
            ((0, 1, 0), "P1D"),
            ((1, 0, 1), "P1MT0.000001S"),
        ];
        for ((months, days, micros), expected) in cases {
            assert_eq!(text(|out| interval(months, days, micros, out)), expected);
        }
    }

    #[test]
    fn the_ends_of_the_range_are_written_without_overflow() {
        for extreme in [i64::MIN, i64::MAX] {
            assert!(!text(|out| date(extreme, out)).is_empty());
            assert!(!text(|out| time(extreme, out)).is_empty());
            assert!(!text(|out| moment(extreme, true, out)).is_empty());
            assert!(!text(|out| interval(i32::MIN, i32::MIN, extreme, out)).is_empty());
        }
    }
}
