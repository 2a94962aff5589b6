//! A value as the server writes it in text, and its type, to a [`Cell`].
//!
//! Owns the meaning of type OIDs and of the texts that the session's settings fix (`DateStyle` ISO, `IntervalStyle`
//! iso_8601, `bytea_output` hex, `lc_monetary` C). Knows no message. A type that means more than its text is one
//! more [`Kind`] and its line in [`Kind::of`].

use tokio_postgres::types::Type;

use crate::cell::Cell;

/// What the text of a column means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    UInt,
    Float8,
    Float4,
    Number,
    Money,
    Text,
    Bytes,
    Date,
    Time,
    TimeTz,
    Timestamp { zoned: bool },
    Interval,
    Other,
}

impl Kind {
    /// Of a type that every server has; others need their category ([`Kind::of_category`]).
    pub(super) fn of(oid: u32) -> Option<Kind> {
        Some(match Type::from_oid(oid)? {
            Type::BOOL => Kind::Bool,
            Type::INT2 | Type::INT4 | Type::INT8 => Kind::Int,
            Type::OID | Type::XID | Type::CID | Type::XID8 => Kind::UInt,
            Type::FLOAT4 => Kind::Float4,
            Type::FLOAT8 => Kind::Float8,
            Type::NUMERIC => Kind::Number,
            Type::MONEY => Kind::Money,
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR | Type::UNKNOWN => Kind::Text,
            Type::BYTEA => Kind::Bytes,
            Type::DATE => Kind::Date,
            Type::TIME => Kind::Time,
            Type::TIMETZ => Kind::TimeTz,
            Type::TIMESTAMP => Kind::Timestamp { zoned: false },
            Type::TIMESTAMPTZ => Kind::Timestamp { zoned: true },
            Type::INTERVAL => Kind::Interval,
            _ => Kind::Other,
        })
    }

    /// Of a type that only this server has, by `pg_type.typcategory`: strings (citext) and enums are text.
    pub(super) fn of_category(category: &str) -> Kind {
        if matches!(category, "S" | "E") { Kind::Text } else { Kind::Other }
    }

    /// True where [`settle`] must rewrite the bytes before [`Kind::cell`] reads them.
    pub(super) fn is_rewritten(self) -> bool {
        matches!(self, Kind::Bytes | Kind::Money)
    }

    /// The cell; `None` when the bytes are not what the type says.
    pub(super) fn cell(self, bytes: &[u8]) -> Option<Cell<'_>> {
        if self == Kind::Bytes {
            return Some(Cell::Bytes(bytes));
        }
        // A database in SQL_ASCII may hold anything; then its text is bytes to us.
        let Ok(text) = std::str::from_utf8(bytes) else {
            return matches!(self, Kind::Text | Kind::Other).then_some(Cell::Bytes(bytes));
        };
        Some(match self {
            Kind::Text => Cell::Text(text),
            Kind::Other | Kind::Bytes => Cell::Other(text),
            Kind::Number | Kind::Money => Cell::Number(text),
            Kind::Bool => Cell::Bool(boolean(text)?),
            Kind::Int => Cell::Int(text.parse().ok()?),
            Kind::UInt => Cell::UInt(text.parse().ok()?),
            Kind::Float8 => Cell::Float(text.parse().ok()?),
            Kind::Float4 => Cell::Float32(text.parse().ok()?),
            Kind::Date | Kind::Timestamp { .. } | Kind::Interval => match infinity(text) {
                Some(infinite) => Cell::Float(infinite),
                None => self.moment(text)?,
            },
            Kind::Time | Kind::TimeTz => self.moment(text)?,
        })
    }

    fn moment(self, text: &str) -> Option<Cell<'static>> {
        let mut scan = Scan(text.as_bytes());
        let cell = match self {
            Kind::Date => Cell::Date(scan.dated(|_| Some(0))?.0),
            Kind::Time => Cell::Time(scan.time()?),
            Kind::TimeTz => {
                let local = scan.time()?;
                match scan.offset()? {
                    0 => Cell::Time(local),
                    // In UTC the time of day may fall on the day before or after.
                    offset => Cell::Time((local - offset).rem_euclid(DAY)),
                }
            }
            Kind::Timestamp { zoned } => {
                let (days, within) = scan.dated(|scan| {
                    scan.eat(b' ')?;
                    let local = scan.time()?;
                    Some(if zoned { local - scan.offset()? } else { local })
                })?;
                Cell::DateTime { micros: days.checked_mul(DAY)?.checked_add(within)?, zoned }
            }
            _ => scan.interval()?,
        };
        scan.0.is_empty().then_some(cell)
    }
}

/// The type's name as SQL writes it; `type 16412` for one that only this server has.
pub(super) fn type_name(oid: u32) -> String {
    match Type::from_oid(oid) {
        None => format!("type {oid}"),
        Some(known) => match known.name() {
            "bool" => "boolean",
            "int2" => "smallint",
            "int4" => "integer",
            "int8" => "bigint",
            "float4" => "real",
            "float8" => "double precision",
            "bpchar" => "character",
            name => name,
        }
        .to_owned(),
    }
}

/// Rewrites a value in place to what [`Kind::cell`] reads, and answers its new length: bytea from `\x…` to its bytes,
/// money from `-$1,234.50` to `-1234.50`. `None` when the bytes are not what the type says.
pub(super) fn settle(kind: Kind, bytes: &mut [u8]) -> Option<usize> {
    let mut length = 0;
    if kind == Kind::Money {
        for at in 0..bytes.len() {
            let byte = *bytes.get(at)?;
            if matches!(byte, b'0'..=b'9' | b'-' | b'.') {
                *bytes.get_mut(length)? = byte;
                length += 1;
            }
        }
        return Some(length);
    }
    if !bytes.starts_with(b"\\x") || bytes.len() % 2 != 0 {
        return None;
    }
    for at in (2..bytes.len()).step_by(2) {
        let byte = hex(*bytes.get(at)?)? << 4 | hex(*bytes.get(at + 1)?)?;
        *bytes.get_mut(length)? = byte;
        length += 1;
    }
    Some(length)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "t" | "true" => Some(true),
        "f" | "false" => Some(false),
        _ => None,
    }
}

fn infinity(text: &str) -> Option<f64> {
    match text {
        "infinity" => Some(f64::INFINITY),
        "-infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
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

    fn read(kind: Kind, text: &str) -> Option<Cell<'_>> {
        kind.cell(text.as_bytes())
    }

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
            assert_eq!(read(Kind::Date, text), Some(Cell::Date(days)), "{text}");
        }
        assert_eq!(read(Kind::Date, "infinity"), Some(Cell::Float(f64::INFINITY)));
        assert_eq!(read(Kind::Date, "-infinity"), Some(Cell::Float(f64::NEG_INFINITY)));
        for text in
            ["", "2026-13-01", "2026-01-32", "2026-01", "2026-01-02 AD", "01/02/2026", "99999999999-01-01"]
        {
            assert_eq!(read(Kind::Date, text), None, "{text}");
        }
    }

    #[test]
    fn times_with_fractions_offsets_and_midnight_at_the_end() {
        assert_eq!(read(Kind::Time, "24:00:00"), Some(Cell::Time(DAY)));
        assert_eq!(read(Kind::Time, "03:04:05.5"), Some(Cell::Time(11_045_500_000)));
        assert_eq!(read(Kind::Time, "00:00:00.000001"), Some(Cell::Time(1)));
        assert_eq!(read(Kind::TimeTz, "05:30:00+05:30"), Some(Cell::Time(0)));
        assert_eq!(read(Kind::TimeTz, "00:30:00+01"), Some(Cell::Time(DAY - 30 * MINUTE)));
        assert_eq!(read(Kind::TimeTz, "23:59:59-00:00:30"), Some(Cell::Time(29 * SECOND)));
        assert_eq!(read(Kind::TimeTz, "24:00:00+00"), Some(Cell::Time(DAY)));
        for text in ["25:00:00", "00:60:00", "00:00", "00:00:00.", "00:00:00.1234567", "00:00:00+01"] {
            assert_eq!(read(Kind::Time, text), None, "{text}");
        }
    }

    #[test]
    fn timestamps_with_and_without_a_zone() {
        let stamp = |micros, zoned| Some(Cell::DateTime { micros, zoned });
        let (plain, zoned) = (Kind::Timestamp { zoned: false }, Kind::Timestamp { zoned: true });
        assert_eq!(read(plain, "1970-01-01 00:00:00.25"), stamp(250_000, false));
        assert_eq!(read(zoned, "1970-01-01 05:30:00+05:30"), stamp(0, true));
        assert_eq!(read(zoned, "1969-12-31 19:00:00-05"), stamp(0, true));
        assert_eq!(read(zoned, "1970-01-01 00:00:00-00:00:30"), stamp(30 * SECOND, true));
        assert_eq!(read(plain, "0001-12-31 23:59:59 BC"), stamp(-719_162 * DAY - SECOND, false));
        assert_eq!(read(zoned, "0044-03-15 12:00:00+00 BC"), stamp(-735_160 * DAY + 12 * HOUR, true));
        assert_eq!(read(plain, "294246-12-31 23:59:59.999999"), stamp(9_223_371_244_799_999_999, false));
        // The last thirty years that PostgreSQL knows are beyond 64 bits of microseconds since 1970.
        assert_eq!(read(plain, "294276-12-31 23:59:59.999999"), None);
        assert_eq!(read(zoned, "infinity"), Some(Cell::Float(f64::INFINITY)));
        assert_eq!(read(plain, "1970-01-01T00:00:00"), None);
        assert_eq!(read(zoned, "1970-01-01 00:00:00"), None);
    }

    #[test]
    fn intervals_with_a_sign_for_each_part() {
        let interval = |months, days, micros| Some(Cell::Interval { months, days, micros });
        assert_eq!(read(Kind::Interval, "PT0S"), interval(0, 0, 0));
        assert_eq!(read(Kind::Interval, "PT1H30M"), interval(0, 0, 90 * MINUTE));
        assert_eq!(
            read(Kind::Interval, "P1Y2M3DT4H5M6.7S"),
            interval(14, 3, 4 * HOUR + 5 * MINUTE + 6_700_000)
        );
        assert_eq!(read(Kind::Interval, "P-1Y-2M3DT-4H-5M-0.000001S"), interval(-14, 3, -245 * MINUTE - 1));
        assert_eq!(read(Kind::Interval, "P-178000000Y"), interval(-2_136_000_000, 0, 0));
        assert_eq!(read(Kind::Interval, "-infinity"), Some(Cell::Float(f64::NEG_INFINITY)));
        for text in ["1 day", "P1W", "PT1", "P1.5D", "P1H", "PT99999999999999999999S", "P1"] {
            assert_eq!(read(Kind::Interval, text), None, "{text}");
        }
    }

    #[test]
    fn numbers_and_texts_are_borrowed_as_written() {
        assert_eq!(
            read(Kind::Number, "-12345678901234567890.10"),
            Some(Cell::Number("-12345678901234567890.10"))
        );
        assert_eq!(read(Kind::Int, "-9223372036854775808"), Some(Cell::Int(i64::MIN)));
        assert_eq!(read(Kind::Float8, "-Infinity"), Some(Cell::Float(f64::NEG_INFINITY)));
        assert_eq!(read(Kind::Float4, "0.1"), Some(Cell::Float32(0.1)));
        assert_eq!(read(Kind::Bool, "t"), Some(Cell::Bool(true)));
        assert_eq!(read(Kind::UInt, "4294967295"), Some(Cell::UInt(4_294_967_295)));
        assert_eq!(Kind::Text.cell(b"caf\xe9"), Some(Cell::Bytes(b"caf\xe9")));
        assert_eq!(Kind::Int.cell(b"\xe9"), None);
        assert_eq!(Kind::of(2950), Some(Kind::Other), "uuid");
        assert_eq!(Kind::of(999_999), None);
    }

    #[test]
    fn bytea_and_money_settle_in_place() {
        let settled = |kind, text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            settle(kind, &mut bytes).map(|length| bytes[..length].to_vec())
        };
        assert_eq!(settled(Kind::Bytes, "\\x00ff6a"), Some(vec![0, 255, b'j']));
        assert_eq!(settled(Kind::Bytes, "\\x"), Some(vec![]));
        assert_eq!(settled(Kind::Bytes, "\\x0"), None);
        assert_eq!(settled(Kind::Bytes, "abc\\000"), None);
        assert_eq!(settled(Kind::Money, "-$1,234,567.89"), Some(b"-1234567.89".to_vec()));
    }
}
