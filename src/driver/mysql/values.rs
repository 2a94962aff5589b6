//! From the protocol's values to our cells: what each column type is, in the binary and the text form.
//!
//! Owns the table of types; knows no connection. A new column type is one line in [`Shape::of`] and [`type_name`].

use std::sync::Arc;

use mysql_common::constants::{ColumnFlags, ColumnType};

use crate::driver::advice::find;
use crate::driver::{ColumnContent, Row, value_too_long};
use crate::error::{Error, Reason, Result};
use crate::value::Cell;

use super::advice;
use super::calendar::{days_of, days_since_1970};
use super::packet::{Column, Form, Misfit, Spans, Value, longest_row};
use super::time_zone::SessionZone;

/// The number of MySQL's `binary` character set: bytes, not text.
const BINARY: u16 = 63;

/// So much longer than one value a row may be; its packet is in memory before its values are known.
const LONGEST_ROW: usize = 16 << 20;

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
    /// A date and time of day as somebody wrote it.
    DateTime,
    /// A moment, which the server writes in the session's time zone.
    Timestamp,
    Time,
    Text,
    Bytes,
    /// Text without a meaning as a number.
    Json,
}

impl Shape {
    fn of(column: &Column) -> Self {
        use ColumnType as T;
        match column.column_type {
            T::MYSQL_TYPE_BIT => Shape::Bits,
            T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_NEWDATE => Shape::Date,
            T::MYSQL_TYPE_DATETIME | T::MYSQL_TYPE_DATETIME2 => Shape::DateTime,
            T::MYSQL_TYPE_TIMESTAMP | T::MYSQL_TYPE_TIMESTAMP2 => Shape::Timestamp,
            T::MYSQL_TYPE_TIME | T::MYSQL_TYPE_TIME2 => Shape::Time,
            T::MYSQL_TYPE_JSON => Shape::Json,
            T::MYSQL_TYPE_GEOMETRY | T::MYSQL_TYPE_VECTOR => Shape::Bytes,
            T::MYSQL_TYPE_DECIMAL | T::MYSQL_TYPE_NEWDECIMAL => Shape::Number,
            T::MYSQL_TYPE_FLOAT => Shape::Float,
            T::MYSQL_TYPE_DOUBLE => Shape::Double,
            other if other.is_numeric_type() => Shape::Integer,
            _ if column.character_set == BINARY => Shape::Bytes,
            _ => Shape::Text,
        }
    }
}

impl Shape {
    fn is_dated(self) -> bool {
        matches!(self, Shape::Date | Shape::DateTime | Shape::Timestamp)
    }

    fn content(self, zone: &SessionZone) -> ColumnContent {
        match self {
            Shape::Number | Shape::Integer | Shape::Double | Shape::Float | Shape::Bits | Shape::Time => {
                ColumnContent::Number
            }
            Shape::Date | Shape::DateTime | Shape::Timestamp if zone.is_unknown() => ColumnContent::LocalTime,
            Shape::Date | Shape::DateTime | Shape::Timestamp => ColumnContent::Moment,
            Shape::Text => ColumnContent::Text,
            Shape::Bytes => ColumnContent::Bytes,
            Shape::Json => ColumnContent::Other,
        }
    }
}

/// The columns of one result: for the sink, and for reading cells.
pub(super) struct Columns {
    pub(super) shown: Vec<crate::driver::Column>,
    columns: Vec<Column>,
    shapes: Vec<Shape>,
    form: Form,
    /// Columns that may hold a date that is in no calendar.
    dated: Vec<usize>,
    zone: Arc<SessionZone>,
}

impl Columns {
    pub(super) fn of(columns: Vec<Column>, form: Form, zone: &Arc<SessionZone>) -> Self {
        let shapes: Vec<Shape> = columns.iter().map(Shape::of).collect();
        let dated =
            shapes.iter().enumerate().filter(|(_, shape)| shape.is_dated()).map(|(at, _)| at).collect();
        let shown = columns
            .iter()
            .zip(&shapes)
            .map(|(column, shape)| {
                let type_name = type_name(column);
                crate::driver::Column {
                    name: column.name.as_str().into(),
                    advice: find(advice::TABLE, &type_name),
                    type_name: type_name.into(),
                    quote: '`',
                    content: match column.column_type {
                        ColumnType::MYSQL_TYPE_NULL => ColumnContent::Unknown,
                        _ => shape.content(zone),
                    },
                }
            })
            .collect();
        Columns { shown, columns, shapes, form, dated, zone: Arc::clone(zone) }
    }

    /// Finds the values of a row, of which none may be longer than `longest`.
    ///
    /// # Errors
    /// `protocol`, `limit`.
    pub(super) fn find(&self, packet: &[u8], spans: &mut Spans, longest: usize) -> Result<()> {
        spans.find(packet, &self.columns, self.form, longest).map_err(|misfit| match misfit {
            Misfit::Unreadable => {
                Error::new(Reason::Protocol, "the server sent a row that its columns do not fit")
            }
            Misfit::TooLong(column) => {
                let name = self.columns.get(column).map_or("", |column| column.name.as_str());
                value_too_long(&format!("the value of column `{name}`"), longest)
            }
        })
    }

    /// The length of the longest row that is taken.
    pub(super) fn longest_row(&self, longest: usize) -> usize {
        longest_row(self.columns.len(), longest).min(longest.saturating_add(LONGEST_ROW))
    }

    /// The error of a row that is longer.
    pub(super) fn row_too_long(&self, longest: usize) -> Error {
        match self.columns.as_slice() {
            [column] => value_too_long(&format!("the value of column `{}`", column.name), longest),
            _ => {
                let message = format!("a row has more than {} bytes", self.longest_row(longest));
                Error::new(Reason::Limit, message).with_hint("select less of it")
            }
        }
    }
}

/// One row, with the text of its dates that are in no calendar (`0000-00-00`, `2026-00-00`): they have no days since
/// 1970 and their parts are no text, so that theirs is the only text made here.
pub(super) struct Cells<'r> {
    packet: &'r [u8],
    spans: &'r Spans,
    columns: &'r Columns,
    no_dates: Vec<(usize, String)>,
}

impl<'r> Cells<'r> {
    /// `spans` are those of `packet`.
    pub(super) fn of(packet: &'r [u8], spans: &'r Spans, columns: &'r Columns) -> Self {
        let mut cells = Cells { packet, spans, columns, no_dates: Vec::new() };
        // An empty vector allocates nothing.
        let no_date = |at: &usize| {
            let (value, shape) = cells.value(*at)?;
            Some((*at, no_date(&value, shape)?))
        };
        cells.no_dates = columns.dated.iter().filter_map(no_date).collect();
        cells
    }

    fn value(&self, at: usize) -> Option<(Value<'r>, Shape)> {
        let value = match self.spans.value(self.packet, at)? {
            None => Value::Null,
            Some(bytes) => Value::read(bytes, self.columns.columns.get(at)?, self.columns.form)?,
        };
        Some((value, *self.columns.shapes.get(at)?))
    }
}

impl Row for Cells<'_> {
    fn cell(&self, column: usize) -> Result<Cell<'_>> {
        if let Some((_, text)) = self.no_dates.iter().find(|(at, _)| *at == column) {
            return Ok(Cell::NoDate(text));
        }
        let Some((value, shape)) = self.value(column) else {
            let message = format!("the server sent what column {} cannot hold", column + 1);
            return Err(Error::new(Reason::Protocol, message));
        };
        cell(&value, shape, &self.columns.zone)
    }
}

fn cell<'v>(value: &Value<'v>, shape: Shape, zone: &SessionZone) -> Result<Cell<'v>> {
    Ok(match *value {
        Value::Null => Cell::Null,
        Value::Int(number) => Cell::Int(number),
        Value::UInt(number) => Cell::UInt(number),
        Value::Float(number) => Cell::Float32(number),
        Value::Double(number) => Cell::Float(number),
        Value::Bytes(bytes) => from_bytes(bytes, shape, zone)?,
        Value::Date(..) | Value::Time(..) => moment_cell(value, shape, zone),
    })
}

/// A date or time.
fn moment_cell(value: &Value<'_>, shape: Shape, zone: &SessionZone) -> Cell<'static> {
    match *value {
        Value::Date(year, month, day, hour, minute, second, micros) => {
            date(shape, (year, month, day), (hour, minute, second, micros), zone)
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            time(negative, days, (hours, minutes, seconds, micros))
        }
        _ => Cell::Null,
    }
}

/// Hours, minutes, seconds, microseconds.
type Clock = (u8, u8, u8, u32);

fn date(shape: Shape, (year, month, day): (u16, u8, u8), clock: Clock, zone: &SessionZone) -> Cell<'static> {
    let days = days_since_1970(i64::from(year), i64::from(month), i64::from(day));
    let micros = micros(days, clock);
    let moment = zone.moment(micros, shape == Shape::Timestamp);
    match shape {
        Shape::Date => Cell::LocalDate { days, moment },
        _ => Cell::LocalDateTime { micros, moment },
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

fn from_bytes<'v>(bytes: &'v [u8], shape: Shape, zone: &SessionZone) -> Result<Cell<'v>> {
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
        Shape::Json => Cell::Other(text),
        // The rest comes as text in the text protocol only.
        Shape::Integer => integer(text).unwrap_or(Cell::Number(text)),
        Shape::Double => text.parse().map_or(Cell::Number(text), Cell::Float),
        Shape::Float => text.parse().map_or(Cell::Number(text), Cell::Float32),
        Shape::Date | Shape::DateTime | Shape::Timestamp | Shape::Time => {
            moment(text, shape).map_or(Cell::Other(text), |value| moment_cell(&value, shape, zone))
        }
    })
}

/// As it is in the binary form: unsigned only where it must be.
fn integer(text: &str) -> Option<Cell<'static>> {
    let signed = text.parse().map(Cell::Int);
    signed.or_else(|_| text.parse().map(Cell::UInt)).ok()
}

/// The server's text of a date or time as the value that the binary protocol would have given.
fn moment(text: &str, shape: Shape) -> Option<Value<'static>> {
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

/// The text of a date that is in no calendar, as the server writes it: its month or day is zero, or the month has no
/// such day.
fn no_date(value: &Value<'_>, shape: Shape) -> Option<String> {
    let read;
    let value = match value {
        Value::Bytes(text) => {
            read = moment(std::str::from_utf8(text).ok()?, shape)?;
            &read
        }
        value => value,
    };
    let Value::Date(year, month, day, hour, minute, second, micros) = value else { return None };
    if (1..=12).contains(month) && (1..=days_of(*year, *month)).contains(day) {
        return None;
    }
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if shape != Shape::Date {
        text += &format!(" {hour:02}:{minute:02}:{second:02}");
        if *micros != 0 {
            text += &format!(".{micros:06}");
        }
    }
    Some(text)
}

/// The type as a `CREATE TABLE` would name it, without its length.
fn type_name(column: &Column) -> String {
    use ColumnType as T;
    let flags = column.flags;
    let binary = column.character_set == BINARY;
    let either = |bytes: &'static str, text: &'static str| if binary { bytes } else { text };
    let name = match column.column_type {
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
    let counts = column.column_type.is_numeric_type() && column.column_type != T::MYSQL_TYPE_YEAR;
    let unsigned = if counts && flags.contains(ColumnFlags::UNSIGNED_FLAG) { " UNSIGNED" } else { "" };
    format!("{name}{unsigned}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> SessionZone {
        SessionZone::unknown()
    }

    fn text_cell(text: &str, shape: Shape) -> Cell<'_> {
        from_bytes(text.as_bytes(), shape, &zone()).unwrap()
    }

    #[test]
    fn a_moment_is_the_same_in_both_protocols() {
        for (text, shape, value) in [
            ("2026-01-02", Shape::Date, Value::Date(2026, 1, 2, 0, 0, 0, 0)),
            ("2026-01-02 03:04:05.5", Shape::DateTime, Value::Date(2026, 1, 2, 3, 4, 5, 500_000)),
            ("2026-01-02 03:04:05", Shape::Timestamp, Value::Date(2026, 1, 2, 3, 4, 5, 0)),
            ("-838:59:58.000001", Shape::Time, Value::Time(true, 34, 22, 59, 58, 1)),
            ("00:00:01", Shape::Time, Value::Time(false, 0, 0, 0, 1, 0)),
        ] {
            assert_eq!(text_cell(text, shape), cell(&value, shape, &zone()).unwrap(), "{text}");
        }
        for (text, shape, shown) in [
            ("0000-00-00", Shape::Date, "0000-00-00"),
            ("2026-00-01 00:00:00.50", Shape::DateTime, "2026-00-01 00:00:00.500000"),
            ("2026-02-29 01:02:03", Shape::DateTime, "2026-02-29 01:02:03"),
            ("1900-02-29", Shape::Date, "1900-02-29"),
            ("2026-04-31", Shape::Date, "2026-04-31"),
        ] {
            let value = Value::Bytes(text.as_bytes());
            assert_eq!(no_date(&value, shape).as_deref(), Some(shown));
            let read = moment(text, shape).unwrap();
            assert_eq!(no_date(&read, shape).as_deref(), Some(shown));
        }
        for text in ["2000-02-29", "2026-12-31", "2028-02-29"] {
            assert_eq!(no_date(&Value::Bytes(text.as_bytes()), Shape::Date), None, "{text}");
        }
        assert_eq!(text_cell("x", Shape::Time), Cell::Other("x"));
    }

    #[test]
    fn a_number_is_the_same_in_both_protocols() {
        for (text, shape, value) in [
            ("-9223372036854775808", Shape::Integer, Value::Int(i64::MIN)),
            ("18446744073709551615", Shape::Integer, Value::UInt(u64::MAX)),
            ("00042", Shape::Integer, Value::Int(42)),
            ("1.7976931348623157e308", Shape::Double, Value::Double(f64::MAX)),
            ("-0", Shape::Double, Value::Double(-0.0)),
            ("1.50", Shape::Number, Value::Bytes(b"1.50")),
        ] {
            assert_eq!(text_cell(text, shape), cell(&value, shape, &zone()).unwrap(), "{text}");
        }
    }

    #[test]
    fn bits_are_a_number_and_text_that_is_none_stays_bytes() {
        assert_eq!(from_bytes(&[0xff; 8], Shape::Bits, &zone()).unwrap(), Cell::UInt(u64::MAX));
        assert_eq!(from_bytes(b"\x01\x02", Shape::Bits, &zone()).unwrap(), Cell::UInt(258));
        assert_eq!(from_bytes(&[0; 9], Shape::Bits, &zone()).unwrap_err().reason(), Reason::Protocol);
        assert_eq!(from_bytes(b"a\xff", Shape::Text, &zone()).unwrap(), Cell::Bytes(b"a\xff"));
        assert_eq!(from_bytes("é".as_bytes(), Shape::Text, &zone()).unwrap(), Cell::Text("é"));
    }
}
