//! From the `mysql` crate's values to our cells: what each column type is, in the binary and the text protocol.
//!
//! Owns the table of types; knows no connection. A new column type is one line in [`Shape::of`] and [`type_name`].

use mysql::Value;
use mysql::consts::{ColumnFlags, ColumnType};

use crate::cell::Cell;
use crate::driver::{Column, Content, Row};
use crate::error::{Error, Reason, Result};

/// The number of MySQL's `binary` character set: bytes, not text.
const BINARY: u16 = 63;

/// What the bytes of a column are where the value itself does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// DECIMAL.
    Number,
    Integer,
    Double,
    Float,
    /// Up to 64 bits, most significant byte first.
    Bits,
    Date,
    DateTime,
    Time,
    Text,
    Bytes,
    /// JSON: text without a meaning as a number.
    Other,
}

impl Shape {
    fn of(column: &mysql::Column) -> Self {
        use ColumnType as T;
        match column.column_type() {
            T::MYSQL_TYPE_BIT => Shape::Bits,
            T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_NEWDATE => Shape::Date,
            T::MYSQL_TYPE_DATETIME
            | T::MYSQL_TYPE_DATETIME2
            | T::MYSQL_TYPE_TIMESTAMP
            | T::MYSQL_TYPE_TIMESTAMP2 => Shape::DateTime,
            T::MYSQL_TYPE_TIME | T::MYSQL_TYPE_TIME2 => Shape::Time,
            T::MYSQL_TYPE_JSON => Shape::Other,
            T::MYSQL_TYPE_GEOMETRY | T::MYSQL_TYPE_VECTOR => Shape::Bytes,
            T::MYSQL_TYPE_DECIMAL | T::MYSQL_TYPE_NEWDECIMAL => Shape::Number,
            T::MYSQL_TYPE_FLOAT => Shape::Float,
            T::MYSQL_TYPE_DOUBLE => Shape::Double,
            other if other.is_numeric_type() => Shape::Integer,
            _ if column.character_set() == BINARY => Shape::Bytes,
            _ => Shape::Text,
        }
    }
}

impl Shape {
    fn content(self) -> Content {
        match self {
            Shape::Number | Shape::Integer | Shape::Double | Shape::Float | Shape::Bits | Shape::Time => {
                Content::Number
            }
            Shape::Date | Shape::DateTime => Content::Moment,
            Shape::Text => Content::Text,
            Shape::Bytes => Content::Bytes,
            Shape::Other => Content::Other,
        }
    }
}

/// The `decimals` of a double that is not rounded to some.
const NOT_FIXED: u8 = 31;

/// Whether the text protocol gives the same cell as the binary one. It writes a `FLOAT` with six digits, a
/// `DOUBLE(10,2)` and what `ROUND` gives with two decimals, and how it fills a number with zeros is its own matter.
fn is_same_as_text(column: &mysql::Column) -> bool {
    match Shape::of(column) {
        Shape::Float => false,
        Shape::Double => column.decimals() >= NOT_FIXED,
        Shape::Number => !column.flags().contains(ColumnFlags::ZEROFILL_FLAG),
        _ => true,
    }
}

/// The columns of one result: for the sink, and for reading cells.
pub(super) struct Columns {
    pub(super) shown: Vec<Column>,
    /// Every cell is the same in the text protocol as in the binary one.
    pub(super) same_as_text: bool,
    shapes: Vec<Shape>,
    /// Columns that may hold a date that is none.
    dated: Vec<usize>,
}

impl Columns {
    pub(super) fn of(columns: &[mysql::Column]) -> Self {
        let shapes: Vec<Shape> = columns.iter().map(Shape::of).collect();
        let dated = |shape: &Shape| matches!(shape, Shape::Date | Shape::DateTime);
        let dated = shapes.iter().enumerate().filter(|(_, shape)| dated(shape)).map(|(at, _)| at).collect();
        let shown = columns
            .iter()
            .zip(&shapes)
            .map(|(column, shape)| Column {
                name: column.name_str().into(),
                type_name: type_name(column).into(),
                cast: "CAST({} AS DOUBLE)",
                content: match column.column_type() {
                    ColumnType::MYSQL_TYPE_NULL => Content::Unknown,
                    _ => shape.content(),
                },
            })
            .collect();
        Columns { shown, same_as_text: columns.iter().all(is_same_as_text), shapes, dated }
    }
}

/// One row, with the text of its zero dates (`0000-00-00`, `2026-00-00`): they are no dates and their parts are no
/// text, so that theirs is the only text made here.
pub(super) struct Cells<'r> {
    row: &'r mysql::Row,
    columns: &'r Columns,
    zero_dates: Vec<(usize, String)>,
}

impl<'r> Cells<'r> {
    pub(super) fn of(row: &'r mysql::Row, columns: &'r Columns) -> Self {
        // An empty vector allocates nothing.
        let zero_dates = columns
            .dated
            .iter()
            .filter_map(|at| Some((*at, zero_date(row.as_ref(*at)?, *columns.shapes.get(*at)?)?)));
        Cells { row, columns, zero_dates: zero_dates.collect() }
    }
}

impl Row for Cells<'_> {
    fn cell(&self, column: usize) -> Result<Cell<'_>> {
        if let Some((_, text)) = self.zero_dates.iter().find(|(at, _)| *at == column) {
            return Ok(Cell::Other(text));
        }
        match (self.row.as_ref(column), self.columns.shapes.get(column)) {
            (Some(value), Some(shape)) => cell(value, *shape),
            _ => Err(Error::new(Reason::Protocol, format!("the row has no column {}", column + 1))),
        }
    }
}

fn cell(value: &Value, shape: Shape) -> Result<Cell<'_>> {
    Ok(match *value {
        Value::NULL => Cell::Null,
        Value::Int(number) => Cell::Int(number),
        Value::UInt(number) => Cell::UInt(number),
        Value::Float(number) => Cell::Float32(number),
        Value::Double(number) => Cell::Float(number),
        Value::Bytes(ref bytes) => from_bytes(bytes, shape)?,
        Value::Date(..) | Value::Time(..) => moment_cell(value, shape),
    })
}

/// A date or time.
fn moment_cell(value: &Value, shape: Shape) -> Cell<'static> {
    match *value {
        Value::Date(year, month, day, hour, minute, second, micros) => {
            date(shape, (year, month, day), (hour, minute, second, micros))
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            time(negative, days, (hours, minutes, seconds, micros))
        }
        _ => Cell::Null,
    }
}

/// Hours, minutes, seconds, microseconds.
type Clock = (u8, u8, u8, u32);

fn date(shape: Shape, (year, month, day): (u16, u8, u8), clock: Clock) -> Cell<'static> {
    let days = days_since_1970(i64::from(year), i64::from(month), i64::from(day));
    match shape {
        Shape::Date => Cell::Date(days),
        _ => Cell::DateTime { micros: micros(days, clock), zoned: false },
    }
}

fn time(negative: bool, days: u32, clock: Clock) -> Cell<'static> {
    let micros = micros(i64::from(days), clock);
    Cell::Time(if negative { -micros } else { micros })
}

fn micros(days: i64, (hours, minutes, seconds, micros): Clock) -> i64 {
    let minutes = (days * 24 + i64::from(hours)) * 60 + i64::from(minutes);
    (minutes * 60 + i64::from(seconds)) * 1_000_000 + i64::from(micros)
}

fn from_bytes(bytes: &[u8], shape: Shape) -> Result<Cell<'_>> {
    if shape == Shape::Bits {
        if bytes.len() > 8 {
            return Err(Error::new(Reason::Protocol, "the server sent a BIT of more than 64 bits"));
        }
        return Ok(Cell::UInt(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))));
    }
    // Text that is no UTF-8 (a column without a character set of its own) is still bytes.
    let (Ok(text), false) = (std::str::from_utf8(bytes), shape == Shape::Bytes) else {
        return Ok(Cell::Bytes(bytes));
    };
    Ok(match shape {
        Shape::Number => Cell::Number(text),
        Shape::Text | Shape::Bytes | Shape::Bits => Cell::Text(text),
        Shape::Other => Cell::Other(text),
        // The rest comes as text in the text protocol only.
        Shape::Integer => integer(text).unwrap_or(Cell::Number(text)),
        Shape::Double => text.parse().map_or(Cell::Number(text), Cell::Float),
        Shape::Float => text.parse().map_or(Cell::Number(text), Cell::Float32),
        Shape::Date | Shape::DateTime | Shape::Time => {
            moment(text, shape).map_or(Cell::Other(text), |value| moment_cell(&value, shape))
        }
    })
}

/// As the crate reads it in the binary protocol: unsigned only where it must be.
fn integer(text: &str) -> Option<Cell<'static>> {
    let signed = text.parse().map(Cell::Int);
    signed.or_else(|_| text.parse().map(Cell::UInt)).ok()
}

/// The server's text of a date or time as the value that the binary protocol would have given.
fn moment(text: &str, shape: Shape) -> Option<Value> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = fraction.get(..fraction.len().min(6))?;
    let micros = digits.parse::<u32>().ok()? * 10_u32.pow(6 - u32::try_from(digits.len()).ok()?);
    let (negative, parts) = whole.strip_prefix('-').map_or((false, whole), |rest| (true, rest));
    let mut parts = parts.split(['-', ' ', ':']).map(str::parse::<u16>);
    let first = parts.next()?.ok()?;
    let mut next = || parts.next().unwrap_or(Ok(0)).ok().and_then(|part| u8::try_from(part).ok());
    if shape == Shape::Time {
        let hour = u8::try_from(first % 24).ok()?;
        return Some(Value::Time(negative, u32::from(first / 24), hour, next()?, next()?, micros));
    }
    Some(Value::Date(first, next()?, next()?, next()?, next()?, next()?, micros))
}

/// The text of a date whose month or day is zero, as the server writes it.
fn zero_date(value: &Value, shape: Shape) -> Option<String> {
    let read;
    let value = match value {
        Value::Bytes(text) => {
            read = moment(std::str::from_utf8(text).ok()?, shape)?;
            &read
        }
        value => value,
    };
    let Value::Date(year, month, day, hour, minute, second, micros) = value else { return None };
    if *month != 0 && *day != 0 {
        return None;
    }
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if shape == Shape::DateTime {
        text += &format!(" {hour:02}:{minute:02}:{second:02}");
        if *micros != 0 {
            text += &format!(".{micros:06}");
        }
    }
    Some(text)
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counted in 400-year cycles from 1 March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    cycle * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

/// The type as a `CREATE TABLE` would name it, without its length.
fn type_name(column: &mysql::Column) -> String {
    use ColumnType as T;
    let flags = column.flags();
    let binary = column.character_set() == BINARY;
    let either = |bytes: &'static str, text: &'static str| if binary { bytes } else { text };
    let name = match column.column_type() {
        _ if flags.contains(ColumnFlags::ENUM_FLAG) => "ENUM",
        _ if flags.contains(ColumnFlags::SET_FLAG) => "SET",
        T::MYSQL_TYPE_TINY => "TINYINT",
        T::MYSQL_TYPE_SHORT => "SMALLINT",
        T::MYSQL_TYPE_INT24 => "MEDIUMINT",
        T::MYSQL_TYPE_LONG => "INT",
        T::MYSQL_TYPE_LONGLONG => "BIGINT",
        T::MYSQL_TYPE_FLOAT => "FLOAT",
        T::MYSQL_TYPE_DOUBLE => "DOUBLE",
        T::MYSQL_TYPE_DECIMAL | T::MYSQL_TYPE_NEWDECIMAL => "DECIMAL",
        T::MYSQL_TYPE_YEAR => "YEAR",
        T::MYSQL_TYPE_BIT => "BIT",
        T::MYSQL_TYPE_NULL => "NULL",
        T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_NEWDATE => "DATE",
        T::MYSQL_TYPE_TIME | T::MYSQL_TYPE_TIME2 => "TIME",
        T::MYSQL_TYPE_DATETIME | T::MYSQL_TYPE_DATETIME2 => "DATETIME",
        T::MYSQL_TYPE_TIMESTAMP | T::MYSQL_TYPE_TIMESTAMP2 => "TIMESTAMP",
        T::MYSQL_TYPE_JSON => "JSON",
        T::MYSQL_TYPE_GEOMETRY => "GEOMETRY",
        T::MYSQL_TYPE_VECTOR => "VECTOR",
        T::MYSQL_TYPE_ENUM => "ENUM",
        T::MYSQL_TYPE_SET => "SET",
        T::MYSQL_TYPE_STRING => either("BINARY", "CHAR"),
        T::MYSQL_TYPE_VARCHAR | T::MYSQL_TYPE_VAR_STRING => either("VARBINARY", "VARCHAR"),
        T::MYSQL_TYPE_TINY_BLOB
        | T::MYSQL_TYPE_BLOB
        | T::MYSQL_TYPE_MEDIUM_BLOB
        | T::MYSQL_TYPE_LONG_BLOB => either("BLOB", "TEXT"),
        T::MYSQL_TYPE_TYPED_ARRAY | T::MYSQL_TYPE_UNKNOWN => "unknown",
    };
    let counts = column.column_type().is_numeric_type() && column.column_type() != T::MYSQL_TYPE_YEAR;
    let unsigned = if counts && flags.contains(ColumnFlags::UNSIGNED_FLAG) { " UNSIGNED" } else { "" };
    format!("{name}{unsigned}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        for (year, month, day, days) in [
            (1970, 1, 1, 0),
            (1969, 12, 31, -1),
            (2000, 2, 29, 11_016),
            (2000, 3, 1, 11_017),
            (2100, 3, 1, 47_541),
            (1, 1, 1, -719_162),
            (9999, 12, 31, 2_932_896),
        ] {
            assert_eq!(days_since_1970(year, month, day), days, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn a_moment_is_the_same_in_both_protocols() {
        for (text, shape, value) in [
            ("2026-01-02", Shape::Date, Value::Date(2026, 1, 2, 0, 0, 0, 0)),
            ("2026-01-02 03:04:05.5", Shape::DateTime, Value::Date(2026, 1, 2, 3, 4, 5, 500_000)),
            ("-838:59:58.000001", Shape::Time, Value::Time(true, 34, 22, 59, 58, 1)),
            ("00:00:01", Shape::Time, Value::Time(false, 0, 0, 0, 1, 0)),
        ] {
            assert_eq!(from_bytes(text.as_bytes(), shape).unwrap(), cell(&value, shape).unwrap(), "{text}");
        }
        for (text, shape, shown) in [
            ("0000-00-00", Shape::Date, "0000-00-00"),
            ("2026-00-01 00:00:00.50", Shape::DateTime, "2026-00-01 00:00:00.500000"),
        ] {
            let value = Value::Bytes(text.into());
            assert_eq!(zero_date(&value, shape).as_deref(), Some(shown));
            let read = moment(text, shape).unwrap();
            assert_eq!(zero_date(&read, shape).as_deref(), Some(shown));
        }
        assert_eq!(from_bytes(b"x", Shape::Time).unwrap(), Cell::Other("x"));
    }

    #[test]
    fn a_number_is_the_same_in_both_protocols() {
        for (text, shape, value) in [
            ("-9223372036854775808", Shape::Integer, Value::Int(i64::MIN)),
            ("18446744073709551615", Shape::Integer, Value::UInt(u64::MAX)),
            ("00042", Shape::Integer, Value::Int(42)),
            ("1.7976931348623157e308", Shape::Double, Value::Double(f64::MAX)),
            ("-0", Shape::Double, Value::Double(-0.0)),
            ("1.50", Shape::Number, Value::Bytes("1.50".into())),
        ] {
            assert_eq!(from_bytes(text.as_bytes(), shape).unwrap(), cell(&value, shape).unwrap(), "{text}");
        }
    }

    #[test]
    fn bits_are_a_number_and_text_that_is_none_stays_bytes() {
        assert_eq!(from_bytes(&[0xff; 8], Shape::Bits).unwrap(), Cell::UInt(u64::MAX));
        assert_eq!(from_bytes(b"\x01\x02", Shape::Bits).unwrap(), Cell::UInt(258));
        assert_eq!(from_bytes(&[0; 9], Shape::Bits).unwrap_err().reason(), Reason::Protocol);
        assert_eq!(from_bytes(b"a\xff", Shape::Text).unwrap(), Cell::Bytes(b"a\xff"));
        assert_eq!(from_bytes("é".as_bytes(), Shape::Text).unwrap(), Cell::Text("é"));
    }
}
