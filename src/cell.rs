//! One SQL value, borrowed from the session's buffer: its number and its label text (DESIGN 3).
//!
//! The same for all drivers: a driver says *what* a value is, this file says what becomes of it.
//! It knows no metric and no column; the caller adds those to an error.

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
    /// A 4-byte float: as a label the shortest text of the *4-byte* value, as a number its exact double.
    Float32(f32),
    /// An integer or decimal of any width, as the database writes it (`NaN`, `Infinity` included).
    Number(&'a str),
    /// Text: parsed when a number is needed.
    Text(&'a str),
    /// Bytes: read as UTF-8, with U+FFFD for what is not.
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
    /// An interval as PostgreSQL keeps it; as a number in seconds as `extract(epoch …)` gives it.
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

/// What a cell is as a sample value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// SQL NULL: what `null:` says happens.
    Null,
    /// The nearest double.
    Value(f64),
    /// A finite number too large for a double.
    Overflow,
    /// The type, or this text, is no number.
    NotNumber,
}

impl Cell<'_> {
    /// The value as a double (DESIGN 3): bool 0/1, dates and times as Unix seconds or seconds, numeric text parsed.
    #[must_use]
    pub fn number(&self) -> Number {
        todo!()
    }

    /// Appends the label text of DESIGN 3 to `out`, unescaped. NULL appends nothing.
    pub fn label(&self, out: &mut String) {
        let _ = out;
        todo!()
    }
}
