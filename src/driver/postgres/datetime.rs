//! Dates, times and intervals as PostgreSQL writes them in text, with `DateStyle` ISO and `IntervalStyle` iso_8601 or
//! postgres.
//!
//! Each function returns `None` for a text that is not one. `infinity` is a number, with a sign.

use crate::value::Cell;

/// `2026-01-02`, `0044-03-15 BC`.
pub fn date(text: &str) -> Option<Cell<'static>> {
    finite(text, |scan| Some(Cell::Date(scan.dated(|_| Some(0))?.0)))
}

/// `03:04:05.5`; with a zone `03:04:05.5+05:30`, as the time of day it is then in UTC.
pub(super) fn time(text: &str, zoned: bool) -> Option<Cell<'static>> {
    finite(text, |scan| {
        let local = scan.time()?;
        let offset = if zoned { scan.offset()? } else { 0 };
        // In UTC it may be the day before or after; `24:00:00` of UTC itself stays.
        Some(Cell::Time(if offset == 0 { local } else { (local - offset).rem_euclid(DAY) }))
    })
}

/// `2026-01-02 03:04:05.5`; with a zone `2026-01-02 03:04:05.5+05:30`.
pub fn timestamp(text: &str, zoned: bool) -> Option<Cell<'static>> {
    finite(text, |scan| {
        let (days, within) = scan.dated(|scan| {
            scan.eat(b' ')?;
            let local = scan.time()?;
            Some(if zoned { local - scan.offset()? } else { local })
        })?;
        Some(moment(i128::from(days) * i128::from(DAY) + i128::from(within), zoned))
    })
}

/// A moment by its microseconds since 1970, for which 64 bits do not suffice in the last thirty years that PostgreSQL knows:
/// there it is a number of seconds.
pub(super) fn moment(micros: i128, zoned: bool) -> Cell<'static> {
    i64::try_from(micros)
        .map_or(Cell::Float(micros as f64 / SECOND as f64), |micros| Cell::DateTime { micros, zoned })
}

/// `P1Y2M3DT4H5M6.7S`.
pub(super) fn interval(text: &str) -> Option<Cell<'static>> {
    finite(text, Scan::interval)
}

/// `1 year 2 mons 3 days 04:05:06.7`, each part with a sign of its own: `IntervalStyle` postgres.
pub(super) fn plain_interval(text: &str) -> Option<Cell<'static>> {
    finite(text, Scan::plain_interval)
}

/// What `read` finds in the whole text, or an infinity.
fn finite<'a>(
    text: &'a str,
    read: impl FnOnce(&mut Scan<'a>) -> Option<Cell<'static>>,
) -> Option<Cell<'static>> {
    match text {
        "infinity" => return Some(Cell::Float(f64::INFINITY)),
        "-infinity" => return Some(Cell::Float(f64::NEG_INFINITY)),
        _ => {}
    }
    let mut scan = Scan(text.as_bytes());
    let cell = read(&mut scan)?;
    scan.0.is_empty().then_some(cell)
}

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// A day in microseconds.
const DAY: i64 = 24 * HOUR;

/// What is left to read of a date, a time or an interval.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    fn eat(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    /// One or more digits.
    fn digits(&mut self) -> Option<i64> {
        let mut value = None;
        while let [digit @ b'0'..=b'9', rest @ ..] = self.0 {
            value = Some(value.unwrap_or(0_i64).checked_mul(10)?.checked_add(i64::from(digit - b'0'))?);
            self.0 = rest;
        }
        value
    }

    /// `.5` as 500,000 microseconds; nothing as 0.
    fn fraction(&mut self) -> Option<i64> {
        if self.eat(b'.').is_none() {
            return Some(0);
        }
        let before = self.0.len();
        let digits = self.digits()?;
        let missing = u32::try_from(before - self.0.len()).ok().and_then(|count| 6_u32.checked_sub(count))?;
        Some(digits * 10_i64.pow(missing))
    }

    /// `2026-01-02`, what `rest` reads after it, and perhaps ` BC`: days since 1970 and what `rest` found.
    fn dated(&mut self, rest: impl FnOnce(&mut Self) -> Option<i64>) -> Option<(i64, i64)> {
        let year = self.digits()?;
        self.eat(b'-')?;
        let month = self.digits()?;
        self.eat(b'-')?;
        let day = self.digits()?;
        let within = rest(self)?;
        let year = match self.0.strip_prefix(b" BC") {
            // The year before 1 AD is 1 BC; there is no year 0.
            Some(after) => {
                self.0 = after;
                1 - year
            }
            None => year,
        };
        Some((days_from_civil(year, month, day)?, within))
    }

    /// `03:04:05.5` in microseconds, `24:00:00` included.
    fn time(&mut self) -> Option<i64> {
        let hours = self.digits()?;
        self.eat(b':')?;
        let minutes = self.digits()?;
        self.eat(b':')?;
        let seconds = self.digits()?;
        let fraction = self.fraction()?;
        let in_range = hours <= 24 && minutes < 60 && seconds <= 60;
        in_range.then(|| hours * HOUR + minutes * MINUTE + seconds * SECOND + fraction)
    }

    /// `+05`, `+05:30`, `-00:00:30` east of UTC, in microseconds.
    fn offset(&mut self) -> Option<i64> {
        let sign = if self.eat(b'+').is_some() { 1 } else { self.eat(b'-').map(|()| -1)? };
        let mut offset = self.digits()?.min(100) * HOUR;
        for unit in [MINUTE, SECOND] {
            if self.eat(b':').is_some() {
                offset += self.digits()?.min(60) * unit;
            }
        }
        Some(sign * offset)
    }

    /// A sign, or none for plus.
    fn sign(&mut self) -> i64 {
        match self.eat(b'-') {
            Some(()) => -1,
            None => self.eat(b'+').map_or(1, |()| 1),
        }
    }

    /// `1 year 2 mons 3 days 04:05:06.7`.
    fn plain_interval(&mut self) -> Option<Cell<'static>> {
        const UNITS: [(&[u8], i64, bool); 6] = [
            (b" years", 12, true),
            (b" year", 12, true),
            (b" mons", 1, true),
            (b" mon", 1, true),
            (b" days", 1, false),
            (b" day", 1, false),
        ];
        let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
        loop {
            let sign = self.sign();
            let number = self.digits()?;
            if self.eat(b':').is_some() {
                let minutes = self.digits()?;
                self.eat(b':')?;
                let seconds = self.digits()?;
                let rest = minutes.checked_mul(MINUTE)?.checked_add(seconds.checked_mul(SECOND)?)?;
                let time = number.checked_mul(HOUR)?.checked_add(rest)?.checked_add(self.fraction()?)?;
                micros = sign * time;
                break;
            }
            let unit = UNITS
                .iter()
                .find_map(|(name, size, long)| self.0.strip_prefix(*name).map(|rest| (rest, size, long)));
            let (rest, size, of_months) = unit?;
            self.0 = rest;
            let part = if *of_months { &mut months } else { &mut days };
            *part = part.checked_add(sign * number.checked_mul(*size)?)?;
            if self.0.is_empty() {
                break;
            }
            self.eat(b' ')?;
        }
        Some(Cell::Interval { months: i32::try_from(months).ok()?, days: i32::try_from(days).ok()?, micros })
    }

    /// `P1Y2M3DT4H5M6.7S`, each part with a sign of its own.
    fn interval(&mut self) -> Option<Cell<'static>> {
        self.eat(b'P')?;
        let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
        let mut timed = false;
        while !self.0.is_empty() {
            if !timed && self.eat(b'T').is_some() {
                timed = true;
                continue;
            }
            let sign = if self.eat(b'-').is_some() { -1 } else { 1 };
            let whole = self.digits()?;
            let fraction = self.fraction()?;
            let (&unit, rest) = self.0.split_first()?;
            self.0 = rest;
            let (part, size) = match (timed, unit) {
                (false, b'Y') => (&mut months, 12),
                (false, b'M') => (&mut months, 1),
                (false, b'D') => (&mut days, 1),
                (true, b'H') => (&mut micros, HOUR),
                (true, b'M') => (&mut micros, MINUTE),
                (true, b'S') => (&mut micros, SECOND),
                _ => return None,
            };
            // Only seconds have a fraction.
            if fraction != 0 && size != SECOND {
                return None;
            }
            *part = part.checked_add(sign * whole.checked_mul(size)?.checked_add(fraction)?)?;
        }
        Some(Cell::Interval { months: i32::try_from(months).ok()?, days: i32::try_from(days).ok()?, micros })
    }
}

/// Days since 1970-01-01 of a day in the proleptic Gregorian calendar, year 0 being 1 BC.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year.abs() > 10_000_000 {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_all_ages() {
        let cases = [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11016),
            ("0001-01-01", -719_162),
            // The day before 0001-01-01, and the first day PostgreSQL knows.
            ("0001-12-31 BC", -719_163),
            ("4714-11-24 BC", -2_440_588),
            ("5874897-12-31", 2_145_042_905),
        ];
        for (text, days) in cases {
            assert_eq!(date(text), Some(Cell::Date(days)), "{text}");
        }
        assert_eq!(date("infinity"), Some(Cell::Float(f64::INFINITY)));
        assert_eq!(date("-infinity"), Some(Cell::Float(f64::NEG_INFINITY)));
        for text in
            ["", "2026-13-01", "2026-01-32", "2026-01", "2026-01-02 AD", "01/02/2026", "99999999999-01-01"]
        {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn times_with_fractions_offsets_and_midnight_at_the_end() {
        assert_eq!(time("24:00:00", false), Some(Cell::Time(DAY)));
        assert_eq!(time("03:04:05.5", false), Some(Cell::Time(11_045_500_000)));
        assert_eq!(time("00:00:00.000001", false), Some(Cell::Time(1)));
        assert_eq!(time("05:30:00+05:30", true), Some(Cell::Time(0)));
        assert_eq!(time("00:30:00+01", true), Some(Cell::Time(DAY - 30 * MINUTE)));
        assert_eq!(time("23:59:59-00:00:30", true), Some(Cell::Time(29 * SECOND)));
        assert_eq!(time("24:00:00+00", true), Some(Cell::Time(DAY)));
        for text in ["25:00:00", "00:60:00", "00:00", "00:00:00.", "00:00:00.1234567", "00:00:00+01"] {
            assert_eq!(time(text, false), None, "{text}");
        }
    }

    #[test]
    fn timestamps_with_and_without_a_zone() {
        let stamp = |micros, zoned| Some(Cell::DateTime { micros, zoned });
        assert_eq!(timestamp("1970-01-01 00:00:00.25", false), stamp(250_000, false));
        assert_eq!(timestamp("1970-01-01 05:30:00+05:30", true), stamp(0, true));
        assert_eq!(timestamp("1969-12-31 19:00:00-05", true), stamp(0, true));
        assert_eq!(timestamp("1970-01-01 00:00:00-00:00:30", true), stamp(30 * SECOND, true));
        assert_eq!(timestamp("0001-12-31 23:59:59 BC", false), stamp(-719_162 * DAY - SECOND, false));
        assert_eq!(timestamp("0044-03-15 12:00:00+00 BC", true), stamp(-735_160 * DAY + 12 * HOUR, true));
        assert_eq!(timestamp("294246-12-31 23:59:59.999999", false), stamp(9_223_371_244_799_999_999, false));
        assert_eq!(timestamp("294276-12-31 23:59:59", false), Some(Cell::Float(9_224_318_015_999.0)));
        assert_eq!(timestamp("infinity", true), Some(Cell::Float(f64::INFINITY)));
        assert_eq!(timestamp("1970-01-01T00:00:00", false), None);
        assert_eq!(timestamp("1970-01-01 00:00:00", true), None);
    }

    #[test]
    fn intervals_with_a_sign_for_each_part() {
        let parts = |months, days, micros| Some(Cell::Interval { months, days, micros });
        assert_eq!(interval("PT0S"), parts(0, 0, 0));
        assert_eq!(interval("PT1H30M"), parts(0, 0, 90 * MINUTE));
        assert_eq!(interval("P1Y2M3DT4H5M6.7S"), parts(14, 3, 4 * HOUR + 5 * MINUTE + 6_700_000));
        assert_eq!(interval("P-1Y-2M3DT-4H-5M-0.000001S"), parts(-14, 3, -245 * MINUTE - 1));
        assert_eq!(interval("P-178000000Y"), parts(-2_136_000_000, 0, 0));
        assert_eq!(interval("-infinity"), Some(Cell::Float(f64::NEG_INFINITY)));
        for text in ["1 day", "P1W", "PT1", "P1.5D", "P1H", "PT99999999999999999999S", "P1"] {
            assert_eq!(interval(text), None, "{text}");
        }
    }

    #[test]
    fn intervals_in_words() {
        let parts = |months, days, micros| Some(Cell::Interval { months, days, micros });
        assert_eq!(plain_interval("00:00:00"), parts(0, 0, 0));
        assert_eq!(plain_interval("1 day"), parts(0, 1, 0));
        assert_eq!(
            plain_interval("1 year 2 mons 3 days 04:05:06.7"),
            parts(14, 3, 4 * HOUR + 5 * MINUTE + 6_700_000)
        );
        assert_eq!(
            plain_interval("-1 years -2 mons +3 days -04:05:06"),
            parts(-14, 3, -(4 * HOUR + 5 * MINUTE + 6 * SECOND))
        );
        assert_eq!(plain_interval("1 mon +100:00:00.000001"), parts(1, 0, 100 * HOUR + 1));
        assert_eq!(plain_interval("infinity"), Some(Cell::Float(f64::INFINITY)));
        for text in ["", "1", "1 week", "1 day 2", "@ 1 day", "1-2", "04:05", "1 day ", "04:05:06 1 day"] {
            assert_eq!(plain_interval(text), None, "{text}");
        }
    }
}
