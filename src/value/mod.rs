//! One SQL value, borrowed from the session's buffer: its number and its label text (docs/metrics.md).
//!
//! The same for all drivers: a driver decides *what* a value is, this file what becomes of it.
//! It knows no metric and no column; the caller adds those to an error.

pub mod float;
mod iso;

/// A value of one row. Drivers choose the variant by the column's type, not by its look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// SQL NULL.
    Null,
    /// A boolean: 0/1 as a number, `true`/`false` as a label.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer (MySQL).
    UInt(u64),
    /// A binary float; as a label written as in the exposition.
    Float(f64),
    /// A 4-byte float: the decimal that its shortest text is, as a number and as a label (1.1 is 1.1).
    Float32(f32),
    /// An integer or decimal of any width, as the database writes it (`NaN`, `Infinity` included).
    Number(&'a str),
    /// Text: parsed when a number is needed.
    Text(&'a str),
    /// Bytes of a binary column, or text in a broken encoding: as a label text where they are UTF-8 without control
    /// characters, else lower-case hexadecimal, so that different values stay different.
    Bytes(&'a [u8]),
    /// Days since 1970-01-01 (proleptic Gregorian).
    Date(i64),
    /// A time of day, or MySQL's signed TIME beyond a day: microseconds.
    Time(i64),
    /// A moment: microseconds since 1970-01-01T00:00:00, in UTC where `zoned`, else as written.
    DateTime {
        /// Microseconds since the epoch.
        micros: i64,
        /// The type has a time zone (the value is then in UTC, and its label ends in `Z`).
        zoned: bool,
    },
    /// A date in the session's time zone (MySQL): a label as it is written, a number as its moment.
    LocalDate {
        /// Days since 1970-01-01.
        days: i64,
        /// When that day begins.
        moment: UnixMicros,
    },
    /// A date and time of day in the session's time zone (MySQL).
    LocalDateTime {
        /// Microseconds since 1970-01-01T00:00:00 as written.
        micros: i64,
        /// When that is.
        moment: UnixMicros,
    },
    /// A value of a date type that is not in the calendar (`0000-00-00`, `2025-02-31`), as the database writes it.
    NoDate(&'a str),
    /// Text that the database's own date functions read (SQLite keeps dates so).
    TextDate(&'a str),
    /// An interval as PostgreSQL keeps it; as a number in seconds as `extract(epoch …)` returns it.
    Interval {
        /// Months (12 to a year of 365.25 days, else 30 days each, as `extract(epoch …)` counts).
        months: i32,
        /// Days of 86,400 s.
        days: i32,
        /// The rest in microseconds.
        micros: i64,
    },
    /// A type with no meaning as a number (arrays, JSON, points …): its text serves as a label only.
    Other(&'a str),
}

/// Microseconds since 1970-01-01T00:00:00 in UTC, or why they are not known.
pub type UnixMicros = Result<i64, LocalTimeError>;

/// Why a local date or time has no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalTimeError {
    /// The session's zone, or its offset at that time, is not known.
    UnknownOffset,
    /// The clock is set back there: the time occurs twice, and only the database knows which one is meant.
    Twice,
    /// Outside what the database can convert.
    OutOfRange,
}

/// What a cell is as a sample value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// SQL NULL: what `null:` says happens.
    Null,
    /// The nearest double.
    Value(f64),
    /// A finite number too large for a double.
    Overflow,
    /// The type, or this text, is not a number.
    NotNumber,
}

impl Cell<'_> {
    /// The value as a double (docs/metrics.md): bool 0/1, dates and times as Unix seconds or seconds, numeric text parsed.
    pub fn number(&self) -> Number {
        match *self {
            Cell::Null => Number::Null,
            Cell::Bool(value) => Number::Value(f64::from(value)),
            Cell::Int(value) => Number::Value(value as f64),
            Cell::UInt(value) => Number::Value(value as f64),
            Cell::Float(value) => Number::Value(value),
            Cell::Float32(value) => Number::Value(float::of_single(value)),
            Cell::Number(text) | Cell::Text(text) => parse(text),
            Cell::Bytes(bytes) => std::str::from_utf8(bytes).map_or(Number::NotNumber, parse),
            Cell::Date(days) => Number::Value(days as f64 * 86_400.0),
            Cell::Time(micros)
            | Cell::DateTime { micros, .. }
            | Cell::LocalDate { moment: Ok(micros), .. }
            | Cell::LocalDateTime { moment: Ok(micros), .. } => Number::Value(seconds(micros.into())),
            Cell::Interval { months, days, micros } => Number::Value(epoch(months, days, micros)),
            Cell::LocalDate { moment: Err(_), .. }
            | Cell::LocalDateTime { moment: Err(_), .. }
            | Cell::NoDate(_)
            | Cell::TextDate(_)
            | Cell::Other(_) => Number::NotNumber,
        }
    }

    /// True for bytes that are not text: their label is hexadecimal, which the database does not take for them.
    pub fn is_not_text(&self) -> bool {
        matches!(self, Cell::Bytes(bytes) if plain_text(bytes).is_none())
    }

    /// The label text, unescaped; NULL is empty. Text is lent as it is, the rest is written to `scratch`
    /// (whatever was there goes), so that a scratch kept from row to row costs no allocation.
    pub fn label<'t>(&'t self, scratch: &'t mut String) -> &'t str {
        scratch.clear();
        match *self {
            Cell::Null => {}
            Cell::Bool(value) => return if value { "true" } else { "false" },
            Cell::Number(text)
            | Cell::Text(text)
            | Cell::NoDate(text)
            | Cell::TextDate(text)
            | Cell::Other(text) => return text,
            Cell::Bytes(bytes) => match plain_text(bytes) {
                Some(text) => return text,
                None => hexadecimal(bytes, scratch),
            },
            Cell::Int(value) => scratch.push_str(itoa::Buffer::new().format(value)),
            Cell::UInt(value) => scratch.push_str(itoa::Buffer::new().format(value)),
            Cell::Float(value) => float::write(value, |piece| scratch.push_str(piece)),
            Cell::Float32(value) => float::write(float::of_single(value), |piece| scratch.push_str(piece)),
            Cell::Date(days) | Cell::LocalDate { days, .. } => iso::date(days, scratch),
            Cell::Time(micros) => iso::time(micros, scratch),
            Cell::DateTime { micros, zoned } => iso::moment(micros, zoned, scratch),
            Cell::LocalDateTime { micros, .. } => iso::moment(micros, false, scratch),
            Cell::Interval { months, days, micros } => iso::interval(months, days, micros, scratch),
        }
        scratch
    }
}

/// The text that bytes are, without control characters.
fn plain_text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

/// Two lower-case digits a byte.
fn hexadecimal(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    out.extend(digits.filter_map(|digit| DIGITS.get(usize::from(digit)).map(|digit| char::from(*digit))));
}

/// Decimal text of any width → the nearest double; `NaN`, `Infinity`, `inf` with a sign, any case. No hexadecimal.
fn parse(text: &str) -> Number {
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(value) if value.is_infinite() && text.contains(|c: char| c.is_ascii_digit()) => Number::Overflow,
        Ok(value) => Number::Value(value),
        Err(_) => Number::NotNumber,
    }
}

/// A number that a file holds, read as one of a database, or as YAML writes it (`.inf`, `.nan`).
///
/// # Errors
/// What it is instead.
pub fn written_number(text: &str) -> Result<f64, &'static str> {
    let is_of_yaml = matches!(&*text.trim_start_matches(['-', '+']).to_ascii_lowercase(), ".inf" | ".nan");
    let without_dot = text.replacen('.', "", 1);
    match parse(if is_of_yaml { &without_dot } else { text }) {
        Number::Value(value) => Ok(value),
        Number::NotNumber | Number::Null => Err("is not a number"),
        Number::Overflow => Err("is too large for a 64-bit float"),
    }
}

fn seconds(micros: i128) -> f64 {
    micros as f64 / 1e6
}

/// `extract(epoch from interval)`: years of 365.25 days, the other months of 30.
fn epoch(months: i32, days: i32, micros: i64) -> f64 {
    const DAY: i128 = 86_400_000_000;
    const YEAR: i128 = 31_557_600_000_000;
    let (years, months) = (i128::from(months / 12), i128::from(months % 12));
    seconds(years * YEAR + (months * 30 + i128::from(days)) * DAY + i128::from(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_writes_what_is_not_finite_with_a_dot() {
        for (text, value) in
            [(".inf", f64::INFINITY), ("-.Inf", f64::NEG_INFINITY), ("inf", f64::INFINITY), (".5", 0.5)]
        {
            assert_eq!(written_number(text), Ok(value), "{text}");
        }
        assert!(written_number(".NaN").is_ok_and(f64::is_nan));
        for text in [".", "..inf", "", "x.y", "1.2.3", "i.nf", "1.inf"] {
            assert!(written_number(text).is_err(), "{text}");
        }
    }

    fn label(cell: Cell<'_>) -> String {
        cell.label(&mut "what was there before".to_owned()).to_owned()
    }

    #[test]
    fn a_number_is_the_nearest_double() {
        let cases = [
            (Cell::Bool(true), 1.0),
            (Cell::Bool(false), 0.0),
            (Cell::Int(9_007_199_254_740_993), 9_007_199_254_740_992.0),
            (Cell::UInt(u64::MAX), 18_446_744_073_709_551_616.0),
            (Cell::Float32(1.1), 1.1),
            (Cell::Float32(f32::MAX), 3.402_823_5e38),
            (Cell::Number("1234567890123456789012345678901234567890"), 1.234_567_890_123_456_8e39),
            (Cell::Number("Infinity"), f64::INFINITY),
            (Cell::Number("-Infinity"), f64::NEG_INFINITY),
            (Cell::Text(" 12.50\n"), 12.5),
            (Cell::Text("1e-400"), 0.0),
            (Cell::Text("+7"), 7.0),
            (Cell::Bytes(b"42"), 42.0),
            (Cell::Date(1), 86_400.0),
            (Cell::Time(-1_500_000), -1.5),
            (Cell::DateTime { micros: 1_767_323_045_500_000, zoned: false }, 1_767_323_045.5),
            (Cell::LocalDate { days: 1, moment: Ok(68_400_000_000) }, 68_400.0),
            (Cell::LocalDateTime { micros: 0, moment: Ok(-1_500_000) }, -1.5),
            (Cell::Interval { months: 0, days: 0, micros: 5_400_000_000 }, 5400.0),
            (Cell::Interval { months: 14, days: 3, micros: 6_500_000 }, 31_557_600.0 + 63.0 * 86_400.0 + 6.5),
        ];
        for (cell, expected) in cases {
            assert_eq!(cell.number(), Number::Value(expected), "{cell:?}");
        }
        assert!(matches!(Cell::Number("NaN").number(), Number::Value(nan) if nan.is_nan()));
    }

    #[test]
    fn what_is_no_number_says_so() {
        assert_eq!(Cell::Null.number(), Number::Null);
        for text in ["1e400", "-1e400", &"9".repeat(400)] {
            assert_eq!(Cell::Text(text).number(), Number::Overflow, "{text}");
        }
        for text in ["", " ", "abc", "0x10", "1,5", "1_000", "12 EUR", "1e"] {
            assert_eq!(Cell::Text(text).number(), Number::NotNumber, "{text}");
        }
        assert_eq!(Cell::Other("1").number(), Number::NotNumber);
        assert_eq!(Cell::Bytes(b"\xff").number(), Number::NotNumber);
        assert_eq!(Cell::NoDate("0000-00-00").number(), Number::NotNumber);
        assert_eq!(Cell::TextDate("2026-01-02").number(), Number::NotNumber);
        for why in [LocalTimeError::UnknownOffset, LocalTimeError::Twice, LocalTimeError::OutOfRange] {
            assert_eq!(Cell::LocalDate { days: 0, moment: Err(why) }.number(), Number::NotNumber);
            assert_eq!(Cell::LocalDateTime { micros: 0, moment: Err(why) }.number(), Number::NotNumber);
        }
    }

    #[test]
    fn labels_are_the_same_for_all_drivers() {
        let cases = [
            (Cell::Null, ""),
            (Cell::Bool(true), "true"),
            (Cell::Int(-7), "-7"),
            (Cell::UInt(u64::MAX), "18446744073709551615"),
            (Cell::Float(1.0), "1"),
            (Cell::Float(0.1 + 0.2), "0.30000000000000004"),
            (Cell::Float32(0.1), "0.1"),
            (Cell::Float32(1e10), "10000000000"),
            (Cell::Number("1.10"), "1.10"),
            (Cell::Text(" as it is "), " as it is "),
            (Cell::Bytes("é".as_bytes()), "é"),
            (Cell::LocalDate { days: 20_455, moment: Err(LocalTimeError::Twice) }, "2026-01-02"),
            (Cell::LocalDateTime { micros: 1_767_323_045_500_000, moment: Ok(0) }, "2026-01-02T03:04:05.5"),
            (Cell::NoDate("0000-00-00"), "0000-00-00"),
            (Cell::Date(20_455), "2026-01-02"),
            (Cell::Time(11_045_500_000), "03:04:05.5"),
            (Cell::DateTime { micros: 1_767_323_045_500_000, zoned: true }, "2026-01-02T03:04:05.5Z"),
            (Cell::Interval { months: 0, days: 0, micros: 5_400_000_000 }, "PT1H30M"),
            (Cell::Other("{1,2}"), "{1,2}"),
        ];
        for (cell, expected) in cases {
            assert_eq!(label(cell), expected, "{cell:?}");
        }
    }

    #[test]
    fn bytes_are_text_or_hexadecimal_and_different_ones_stay_different() {
        let cases: [(&[u8], &str); 9] = [
            ("é \u{fffd}".as_bytes(), "é \u{fffd}"),
            (b"", ""),
            (b"a\xffb\xc3", "61ff62c3"),
            (b"caf\xe9", "636166e9"),
            (b"ab\0", "616200"),
            (b"a\tb", "610962"),
            (b"\x7f", "7f"),
            ("\u{85}".as_bytes(), "c285"),
            (b"\xed\xa0\x80", "eda080"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(label(Cell::Bytes(bytes)), expected);
        }
    }
}
