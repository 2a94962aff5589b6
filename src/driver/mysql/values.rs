//! From the protocol's values to cells: what each column type is, in the binary and the text format.
//!
//! Owns the table of types; knows no connection. A new column type is one line in [`MySqlValueKind::of`] and [`type_name`].

use std::sync::Arc;

use jiff::civil::Date;
use mysql_common::constants::{ColumnFlags, ColumnType};

use crate::driver::advice::{find, written};
use crate::driver::{Column, ColumnContent, Row, value_too_long};
use crate::error::{Error, Reason, Result};
use crate::value::Cell;

use super::advice;
use super::packet::{ColumnDefinition, MySqlValueSpans, RowError, RowFormat, longest_row};
use super::time_zone::{SessionZone, days_since_1970};

/// The number of MySQL's `binary` character set: bytes, not text.
const BINARY: u16 = 63;

/// How much longer than one value a row may be: its packet is in memory before its values are known.
const MAX_ROW_OVERHEAD: usize = 16 << 20;

/// How the bytes of a value are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MySqlValueKind {
    Decimal,
    Integer {
        unsigned: bool,
    },
    /// An integer that is never negative, and as many digits as the server shows of it.
    ZeroFilled(usize),
    /// With the decimal places that the server shows.
    Double(Option<u8>),
    Float,
    /// So many bits, most significant byte first.
    Bits(u32),
    /// The same, or the number in decimal digits: what servers make of a `BIT` in `COALESCE`, and MariaDB in `MAX` and `IF`.
    BitsOrDigits(u32),
    Date,
    /// A date and time of day as somebody wrote it.
    DateTime,
    /// A point in time, which the server writes in the session's time zone.
    Timestamp,
    Time,
    Text,
    Bytes,
    /// Text without a meaning as a number.
    Json,
}

impl MySqlValueKind {
    fn of(column: &ColumnDefinition) -> Self {
        use ColumnType as T;
        match column.column_type {
            // MariaDB says of each expression that it is binary.
            T::MYSQL_TYPE_BIT if column.of_table && !column.flags.contains(ColumnFlags::BINARY_FLAG) => {
                MySqlValueKind::Bits(column.width)
            }
            T::MYSQL_TYPE_BIT => MySqlValueKind::BitsOrDigits(column.width),
            T::MYSQL_TYPE_DATE => MySqlValueKind::Date,
            T::MYSQL_TYPE_DATETIME => MySqlValueKind::DateTime,
            T::MYSQL_TYPE_TIMESTAMP => MySqlValueKind::Timestamp,
            T::MYSQL_TYPE_TIME => MySqlValueKind::Time,
            T::MYSQL_TYPE_JSON => MySqlValueKind::Json,
            T::MYSQL_TYPE_GEOMETRY | T::MYSQL_TYPE_VECTOR => MySqlValueKind::Bytes,
            T::MYSQL_TYPE_DECIMAL | T::MYSQL_TYPE_NEWDECIMAL => MySqlValueKind::Decimal,
            T::MYSQL_TYPE_FLOAT => MySqlValueKind::Float,
            T::MYSQL_TYPE_DOUBLE => MySqlValueKind::Double(column.decimals),
            other if other.is_numeric_type() && column.flags.contains(ColumnFlags::ZEROFILL_FLAG) => {
                MySqlValueKind::ZeroFilled(column.width as usize)
            }
            other if other.is_numeric_type() => {
                MySqlValueKind::Integer { unsigned: column.flags.contains(ColumnFlags::UNSIGNED_FLAG) }
            }
            _ if column.character_set == BINARY => MySqlValueKind::Bytes,
            _ => MySqlValueKind::Text,
        }
    }

    fn has_date(self) -> bool {
        matches!(self, MySqlValueKind::Date | MySqlValueKind::DateTime | MySqlValueKind::Timestamp)
    }

    fn may_lack_text(self) -> bool {
        self.has_date() || matches!(self, MySqlValueKind::ZeroFilled(_))
    }

    /// As the server writes a value of which [`cell`] makes nothing, or something else.
    fn made_text(self, bytes: &[u8], format: RowFormat) -> Option<String> {
        match (self, format) {
            (MySqlValueKind::ZeroFilled(_), RowFormat::Text) => None,
            (MySqlValueKind::ZeroFilled(width), RowFormat::Binary) => match binary_integer(bytes, true)? {
                Cell::Int(value) => Some(format!("{value:0width$}")),
                Cell::UInt(value) => Some(format!("{value:0width$}")),
                _ => None,
            },
            _ => DateParts::read(bytes, format)
                .filter(|date| date.days().is_none())
                .map(|date| date.text(self)),
        }
    }

    fn content(self, zone: &SessionZone) -> ColumnContent {
        match self {
            _ if self.has_date() && zone.is_unknown() => ColumnContent::LocalTime,
            _ if self.has_date() => ColumnContent::Moment,
            MySqlValueKind::Text => ColumnContent::Text,
            MySqlValueKind::Bytes => ColumnContent::Bytes,
            MySqlValueKind::Json => ColumnContent::Other,
            _ => ColumnContent::Number,
        }
    }
}

/// The columns of one result: for the sink, and for reading cells.
pub(super) struct ResultColumns {
    columns: Vec<Column>,
    definitions: Vec<ColumnDefinition>,
    kinds: Vec<MySqlValueKind>,
    format: RowFormat,
    zone: Arc<SessionZone>,
}

impl ResultColumns {
    pub(super) fn new(
        definitions: Vec<ColumnDefinition>,
        format: RowFormat,
        zone: &Arc<SessionZone>,
    ) -> Self {
        let kinds: Vec<MySqlValueKind> = definitions.iter().map(MySqlValueKind::of).collect();
        let column = |(definition, kind): (&ColumnDefinition, &MySqlValueKind)| {
            let type_name = type_name(definition);
            Column {
                name: definition.name.as_str().into(),
                advice: find(advice::TABLE, &type_name),
                type_name: type_name.into(),
                quote: '`',
                content: match definition.column_type {
                    ColumnType::MYSQL_TYPE_NULL => ColumnContent::Unknown,
                    _ => kind.content(zone),
                },
            }
        };
        let columns = definitions.iter().zip(&kinds).map(column).collect();
        ResultColumns { columns, definitions, kinds, format, zone: Arc::clone(zone) }
    }

    /// As the rest of the exporter sees them.
    pub(super) fn as_columns(&self) -> &[Column] {
        &self.columns
    }

    /// Finds the values of a row, of which none may be longer than `longest`.
    ///
    /// # Errors
    /// `protocol`, `limit`.
    pub(super) fn find(&self, packet: &[u8], spans: &mut MySqlValueSpans, longest: usize) -> Result<()> {
        spans.find(packet, &self.definitions, self.format, longest).map_err(|error| match error {
            RowError::Unreadable => {
                Error::new(Reason::Protocol, "the server sent a row that does not match its columns")
            }
            RowError::TooLong(column) => {
                let name = self.definitions.get(column).map_or("", |column| column.name.as_str());
                value_too_long(&format!("the value of column `{name}`"), longest)
            }
        })
    }

    /// The length of the longest row that is accepted.
    pub(super) fn longest_row(&self, longest: usize) -> usize {
        longest_row(self.definitions.len(), longest).min(longest.saturating_add(MAX_ROW_OVERHEAD))
    }

    /// The error of a row that is longer.
    pub(super) fn row_too_long(&self, longest: usize) -> Error {
        if let [column] = self.definitions.as_slice() {
            return value_too_long(&format!("the value of column `{}`", column.name), longest);
        }
        let message = format!("a row has more than {} bytes", self.longest_row(longest));
        Error::new(Reason::Limit, message).with_hint("select fewer or shorter columns")
    }
}

/// One row. A date that is in no calendar (`0000-00-00`, `2026-00-00`) and a zero-filled number have no text in a binary
/// packet: theirs are made here, the only ones that are.
pub(super) struct ResultRow<'r> {
    packet: &'r [u8],
    spans: &'r MySqlValueSpans,
    columns: &'r ResultColumns,
    made_texts: Vec<(usize, String)>,
}

impl<'r> ResultRow<'r> {
    /// `spans` are those of `packet`.
    pub(super) fn new(packet: &'r [u8], spans: &'r MySqlValueSpans, columns: &'r ResultColumns) -> Self {
        // An empty vector allocates nothing.
        let mut made_texts = Vec::new();
        for (index, kind) in columns.kinds.iter().enumerate().filter(|(_, kind)| kind.may_lack_text()) {
            let bytes = spans.value(packet, index).flatten();
            made_texts.extend(
                bytes.and_then(|bytes| kind.made_text(bytes, columns.format)).map(|text| (index, text)),
            );
        }
        ResultRow { packet, spans, columns, made_texts }
    }

    fn value(&self, index: usize) -> Option<Cell<'_>> {
        match self.spans.value(self.packet, index)? {
            None => Some(Cell::Null),
            Some(bytes) => {
                cell(bytes, *self.columns.kinds.get(index)?, self.columns.format, &self.columns.zone)
            }
        }
    }
}

impl Row for ResultRow<'_> {
    fn cell(&self, column: usize) -> Result<Cell<'_>> {
        if let Some((index, text)) = self.made_texts.iter().find(|(index, _)| *index == column) {
            let is_date = self.columns.kinds.get(*index).is_some_and(|kind| kind.has_date());
            return Ok(if is_date { Cell::NoDate(text) } else { Cell::Number(text) });
        }
        self.value(column).ok_or_else(|| {
            match (self.columns.kinds.get(column), self.columns.columns.get(column)) {
                (Some(MySqlValueKind::BitsOrDigits(_)), Some(Column { name, quote, .. })) => {
                    let message = format!(
                        "column `{name}` (BIT): its number cannot be told from what the server sends"
                    );
                    Error::new(Reason::Type, message)
                        .with_hint(format!("write `{}` in the SELECT", written("{} + 0", name, *quote)))
                }
                _ => {
                    let message =
                        format!("the server sent a value that the type of column {} cannot hold", column + 1);
                    Error::new(Reason::Protocol, message)
                }
            }
        })
    }
}

/// The value in `bytes`; `None` where they are not what the column's type says.
fn cell<'v>(
    bytes: &'v [u8],
    kind: MySqlValueKind,
    format: RowFormat,
    zone: &SessionZone,
) -> Option<Cell<'v>> {
    match (kind, format) {
        (MySqlValueKind::Bits(width), _) => bits(bytes, width).map(Cell::UInt),
        (MySqlValueKind::BitsOrDigits(width), _) => {
            let digits = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
            // Of both nobody can tell which it is.
            match (bits(bytes, width), digits) {
                (Some(number), None) | (None, Some(number)) => Some(Cell::UInt(number)),
                _ => None,
            }
        }
        (
            MySqlValueKind::Decimal | MySqlValueKind::Text | MySqlValueKind::Bytes | MySqlValueKind::Json,
            _,
        )
        | (_, RowFormat::Text) => Some(from_text(bytes, kind, zone)),
        (MySqlValueKind::ZeroFilled(_), RowFormat::Binary) => binary_integer(bytes, true),
        (MySqlValueKind::Integer { unsigned }, RowFormat::Binary) => binary_integer(bytes, unsigned),
        (MySqlValueKind::Double(decimals), RowFormat::Binary) => {
            Some(Cell::Float(rounded(f64::from_le_bytes(bytes.try_into().ok()?), decimals)))
        }
        (MySqlValueKind::Float, RowFormat::Binary) => {
            Some(Cell::Float32(f32::from_le_bytes(bytes.try_into().ok()?)))
        }
        (MySqlValueKind::Time, RowFormat::Binary) => binary_time(bytes).map(Cell::Time),
        (MySqlValueKind::Date | MySqlValueKind::DateTime | MySqlValueKind::Timestamp, RowFormat::Binary) => {
            DateParts::read(bytes, format)?.cell(kind, zone)
        }
    }
}

/// The number in the bytes of so many bits.
fn bits(bytes: &[u8], width: u32) -> Option<u64> {
    let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let has_length = width <= 64 && bytes.len() == width.div_ceil(8) as usize;
    (has_length && (width == 64 || number >> width == 0)).then_some(number)
}

/// A little-endian integer of any width; unsigned only where it must be.
fn binary_integer(bytes: &[u8], unsigned: bool) -> Option<Cell<'static>> {
    let is_negative = !unsigned && *bytes.last()? >= 0x80;
    let mut wide = if is_negative { [0xff; 8] } else { [0; 8] };
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let signed = i64::from_le_bytes(wide);
    Some(if unsigned && signed < 0 { Cell::UInt(u64::from_le_bytes(wide)) } else { Cell::Int(signed) })
}

/// A number of which the server shows so many decimal places. It stores -0.01 in a `DOUBLE(10,2)` as -0.010000000000000009: an
/// error of its arithmetic is left out, and no digit more, as an expression may have more places than are shown.
fn rounded(value: f64, decimals: Option<u8>) -> f64 {
    /// A `f64` holds 15 digits of any number. With more of them the server shows the error, too.
    const MOST_DECIMALS: u8 = 15;
    const MOST_UNITS: f64 = 1e15;
    let Some(decimals) = decimals.filter(|decimals| *decimals <= MOST_DECIMALS) else { return value };
    let unit = 10_f64.powi(decimals.into());
    let scaled = value * unit;
    let shown = scaled.round() / unit;
    // A sum of `FLOAT(7,2)` has the error of 4-byte floats.
    let tolerance = (f64::EPSILON * value.abs().max(1.0)).max(f64::from(f32::EPSILON) * value.abs());
    let is_error = scaled.abs() < MOST_UNITS && (shown - value).abs() <= tolerance;
    if is_error && shown != 0.0 { shown } else { value }
}

/// A value in the text format, or of a type that is text in both. What cannot be read is given as it is.
fn from_text<'v>(bytes: &'v [u8], kind: MySqlValueKind, zone: &SessionZone) -> Cell<'v> {
    // Text that is not UTF-8 (a column without a character set of its own) is still bytes.
    let (Ok(text), false) = (std::str::from_utf8(bytes), kind == MySqlValueKind::Bytes) else {
        return Cell::Bytes(bytes);
    };
    let read = match kind {
        MySqlValueKind::Decimal
        | MySqlValueKind::ZeroFilled(_)
        | MySqlValueKind::Bits(_)
        | MySqlValueKind::BitsOrDigits(_) => None,
        MySqlValueKind::Text | MySqlValueKind::Bytes => Some(Cell::Text(text)),
        MySqlValueKind::Json => Some(Cell::Other(text)),
        MySqlValueKind::Integer { .. } => {
            text.parse().map(Cell::Int).or_else(|_| text.parse().map(Cell::UInt)).ok()
        }
        MySqlValueKind::Double(_) => text.parse().map(Cell::Float).ok(),
        MySqlValueKind::Float => text.parse().map(Cell::Float32).ok(),
        MySqlValueKind::Time => return text_time(text).map_or(Cell::Other(text), Cell::Time),
        MySqlValueKind::Date | MySqlValueKind::DateTime | MySqlValueKind::Timestamp => {
            let date = DateParts::read(bytes, RowFormat::Text);
            return date.and_then(|date| date.cell(kind, zone)).unwrap_or(Cell::Other(text));
        }
    };
    read.unwrap_or(Cell::Number(text))
}

/// Hours, minutes, seconds, microseconds.
type TimeOfDay = (u8, u8, u8, u32);

fn micros(days: i64, (hours, minutes, seconds, micros): TimeOfDay) -> i64 {
    let minutes = (days * 24 + i64::from(hours)) * 60 + i64::from(minutes);
    (minutes * 60 + i64::from(seconds)) * 1_000_000 + i64::from(micros)
}

/// Microseconds. What is left out at the end is zero.
fn binary_time(bytes: &[u8]) -> Option<i64> {
    let mut padded = [0; 12];
    padded.get_mut(..bytes.len()).filter(|filled| matches!(filled.len(), 0 | 8 | 12))?.copy_from_slice(bytes);
    let [negative, d0, d1, d2, d3, hours, minutes, seconds, fraction @ ..] = padded;
    // 34 at most, from a server that keeps to its own range.
    let days = u16::try_from(u32::from_le_bytes([d0, d1, d2, d3])).ok()?;
    let micros = micros(days.into(), (hours, minutes, seconds, u32::from_le_bytes(fraction)));
    Some(if negative == 0 { micros } else { -micros })
}

/// `-838:59:58.000001` in microseconds.
fn text_time(text: &str) -> Option<i64> {
    let (text, fraction) = split_fraction(text)?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let mut parts = text.split(':').map(|part| part.parse::<u16>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let seconds = (i64::from(hours) * 60 + i64::from(minutes)) * 60 + i64::from(seconds);
    let micros = seconds * 1_000_000 + i64::from(fraction);
    Some(if negative { -micros } else { micros })
}

/// A text without its fraction of a second, and that in microseconds.
fn split_fraction(text: &str) -> Option<(&str, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = fraction.get(..fraction.len().min(6))?;
    let micros = digits.parse::<u32>().ok()? * 10_u32.pow(6 - u32::try_from(digits.len()).ok()?);
    Some((whole, micros))
}

/// A date and time of day as the server writes it, which may be in no calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DateParts {
    year: u16,
    month: u8,
    day: u8,
    time: TimeOfDay,
}

impl DateParts {
    fn read(bytes: &[u8], format: RowFormat) -> Option<Self> {
        match format {
            RowFormat::Binary => Self::from_binary(bytes),
            RowFormat::Text => Self::from_text(std::str::from_utf8(bytes).ok()?),
        }
    }

    /// What is left out at the end is zero.
    fn from_binary(bytes: &[u8]) -> Option<Self> {
        let mut padded = [0; 11];
        let filled = padded.get_mut(..bytes.len()).filter(|filled| matches!(filled.len(), 0 | 4 | 7 | 11))?;
        filled.copy_from_slice(bytes);
        let [y0, y1, month, day, hour, minute, second, fraction @ ..] = padded;
        let time = (hour, minute, second, u32::from_le_bytes(fraction));
        Some(DateParts { year: u16::from_le_bytes([y0, y1]), month, day, time })
    }

    fn from_text(text: &str) -> Option<Self> {
        let (text, fraction) = split_fraction(text)?;
        let mut parts = text.split(['-', ' ', ':']);
        let year = parts.next()?.parse().ok()?;
        let mut next = || parts.next().map_or(Some(0), |part| part.parse::<u8>().ok());
        let (month, day) = (next()?, next()?);
        Some(DateParts { year, month, day, time: (next()?, next()?, next()?, fraction) })
    }

    /// Days since 1970-01-01 in the proleptic Gregorian calendar; `None` for what is in no calendar.
    fn days(&self) -> Option<i64> {
        let (month, day) = (i8::try_from(self.month).ok()?, i8::try_from(self.day).ok()?);
        let date = Date::new(i16::try_from(self.year).ok()?, month, day).ok()?;
        Some(days_since_1970(date))
    }

    fn cell(&self, kind: MySqlValueKind, zone: &SessionZone) -> Option<Cell<'static>> {
        let days = self.days()?;
        let micros = micros(days, self.time);
        let moment = zone.moment(micros, kind == MySqlValueKind::Timestamp);
        Some(match kind {
            MySqlValueKind::Date => Cell::LocalDate { days, moment },
            _ => Cell::LocalDateTime { micros, moment },
        })
    }

    /// As the server writes it.
    fn text(&self, kind: MySqlValueKind) -> String {
        let DateParts { year, month, day, time: (hour, minute, second, micros) } = self;
        let mut text = format!("{year:04}-{month:02}-{day:02}");
        if kind != MySqlValueKind::Date {
            text += &format!(" {hour:02}:{minute:02}:{second:02}");
            if *micros != 0 {
                text += &format!(".{micros:06}");
            }
        }
        text
    }
}

/// The type as a `CREATE TABLE` would name it, without its length.
fn type_name(column: &ColumnDefinition) -> String {
    use ColumnType as T;
    let either = |bytes, text| if column.character_set == BINARY { bytes } else { text };
    let protocol_name = format!("{:?}", column.column_type);
    let name = match column.column_type {
        _ if column.flags.contains(ColumnFlags::ENUM_FLAG) => "ENUM",
        _ if column.flags.contains(ColumnFlags::SET_FLAG) => "SET",
        T::MYSQL_TYPE_TINY => "TINYINT",
        T::MYSQL_TYPE_SHORT => "SMALLINT",
        T::MYSQL_TYPE_INT24 => "MEDIUMINT",
        T::MYSQL_TYPE_LONG => "INT",
        T::MYSQL_TYPE_LONGLONG => "BIGINT",
        T::MYSQL_TYPE_NEWDECIMAL => "DECIMAL",
        T::MYSQL_TYPE_STRING => either("BINARY", "CHAR"),
        T::MYSQL_TYPE_VARCHAR | T::MYSQL_TYPE_VAR_STRING => either("VARBINARY", "VARCHAR"),
        _ if protocol_name.ends_with("BLOB") => either("BLOB", "TEXT"),
        // The others are called the same in the protocol.
        _ => protocol_name.trim_start_matches("MYSQL_TYPE_"),
    };
    let counts = column.column_type.is_numeric_type() && column.column_type != T::MYSQL_TYPE_YEAR;
    let unsigned = counts && column.flags.contains(ColumnFlags::UNSIGNED_FLAG);
    if unsigned { format!("{name} UNSIGNED") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_zone<'v>(bytes: &'v [u8], kind: MySqlValueKind, format: RowFormat) -> Option<Cell<'v>> {
        cell(bytes, kind, format, &SessionZone::unknown())
    }

    fn text_cell(text: &str, kind: MySqlValueKind) -> Cell<'_> {
        in_zone(text.as_bytes(), kind, RowFormat::Text).unwrap()
    }

    const INTEGER: MySqlValueKind = MySqlValueKind::Integer { unsigned: false };

    #[test]
    fn a_moment_is_the_same_in_both_protocols() {
        for (text, kind, bytes) in [
            ("2026-01-02", MySqlValueKind::Date, &[0xea, 7, 1, 2][..]),
            ("2026-01-02 03:04:05.5", MySqlValueKind::DateTime, &[0xea, 7, 1, 2, 3, 4, 5, 0x20, 0xa1, 7, 0]),
            ("2026-01-02 03:04:05", MySqlValueKind::Timestamp, &[0xea, 7, 1, 2, 3, 4, 5]),
            ("-838:59:58.000001", MySqlValueKind::Time, &[1, 34, 0, 0, 0, 22, 59, 58, 1, 0, 0, 0]),
            ("00:00:01", MySqlValueKind::Time, &[0, 0, 0, 0, 0, 0, 0, 1]),
        ] {
            assert_eq!(text_cell(text, kind), in_zone(bytes, kind, RowFormat::Binary).unwrap(), "{text}");
        }
        let expected = Cell::Time(-((838 * 60 + 59) * 60 + 58) * 1_000_000 - 1);
        assert_eq!(text_cell("-838:59:58.000001", MySqlValueKind::Time), expected);
        assert_eq!(text_cell("x", MySqlValueKind::Time), Cell::Other("x"));
        assert_eq!(
            in_zone(&[0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0], MySqlValueKind::Time, RowFormat::Binary),
            None
        );
        for unfit in [&[1][..], &[0; 9], &[0; 13]] {
            for kind in [MySqlValueKind::Time, MySqlValueKind::DateTime] {
                assert_eq!(in_zone(unfit, kind, RowFormat::Binary), None, "{unfit:?}");
            }
        }
    }

    #[test]
    fn a_date_that_is_in_no_calendar_is_shown_as_the_server_writes_it() {
        for (text, kind, bytes, shown) in [
            ("0000-00-00", MySqlValueKind::Date, &[][..], "0000-00-00"),
            (
                "2026-00-01 00:00:00.50",
                MySqlValueKind::DateTime,
                &[0xea, 7, 0, 1, 0, 0, 0, 0x20, 0xa1, 7, 0],
                "2026-00-01 00:00:00.500000",
            ),
            (
                "2026-02-29 01:02:03",
                MySqlValueKind::DateTime,
                &[0xea, 7, 2, 29, 1, 2, 3],
                "2026-02-29 01:02:03",
            ),
            ("1900-02-29", MySqlValueKind::Date, &[0x6c, 7, 2, 29], "1900-02-29"),
            ("2026-04-31", MySqlValueKind::Date, &[0xea, 7, 4, 31], "2026-04-31"),
        ] {
            for (bytes, format) in [(text.as_bytes(), RowFormat::Text), (bytes, RowFormat::Binary)] {
                let date = DateParts::read(bytes, format).unwrap();
                assert_eq!((date.days(), date.text(kind).as_str()), (None, shown));
            }
        }
        for text in ["2000-02-29", "2026-12-31", "2028-02-29"] {
            assert!(DateParts::from_text(text).unwrap().days().is_some(), "{text}");
        }
    }

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
            let date = DateParts { year, month, day, time: (0, 0, 0, 0) };
            assert_eq!(date.days(), Some(days), "{year}-{month}-{day}");
        }
    }

    #[test]
    fn a_number_is_the_same_in_both_protocols() {
        for (text, kind, bytes) in [
            ("-9223372036854775808", INTEGER, &i64::MIN.to_le_bytes()[..]),
            ("18446744073709551615", MySqlValueKind::Integer { unsigned: true }, &u64::MAX.to_le_bytes()),
            ("00042", INTEGER, &[42, 0, 0, 0]),
            ("-2", INTEGER, &[0xfe]),
            ("254", MySqlValueKind::Integer { unsigned: true }, &[0xfe]),
            ("-32768", INTEGER, &[0, 0x80]),
            ("1.7976931348623157e308", MySqlValueKind::Double(None), &f64::MAX.to_le_bytes()),
            ("-0", MySqlValueKind::Double(None), &(-0.0_f64).to_le_bytes()),
            ("1.5", MySqlValueKind::Float, &1.5_f32.to_le_bytes()),
            ("1.50", MySqlValueKind::Decimal, b"1.50"),
        ] {
            assert_eq!(text_cell(text, kind), in_zone(bytes, kind, RowFormat::Binary).unwrap(), "{text}");
        }
        assert_eq!(text_cell("00042", INTEGER), Cell::Int(42));
        assert_eq!(text_cell("1.50", MySqlValueKind::Decimal), Cell::Number("1.50"));
    }

    #[test]
    fn an_error_of_the_servers_arithmetic_is_not_shown_and_no_digit_is_lost() {
        for (stored, decimals, expected) in [
            (-0.010_000_000_000_000_009, Some(2), -0.01),
            (-0.010_000_000_000_000_009, None, -0.010_000_000_000_000_009),
            (123_456_789_012.349_99, Some(2), 123_456_789_012.35),
            // SUM of 0.1 and 0.2 in FLOAT(7,2).
            (0.300_000_004_470_348_36, Some(2), 0.3),
            (2_387_266_624_647.994_6, Some(6), 2_387_266_624_647.994_6),
            // An average, a quotient.
            (0.333_333_333_333_333_3, Some(6), 0.333_333_333_333_333_3),
            (-1e-11, Some(6), -1e-11),
            (1e-17, Some(6), 1e-17),
            (f64::MAX, Some(30), f64::MAX),
            (f64::MAX, Some(2), f64::MAX),
            (1e300, Some(0), 1e300),
            (-0.0, Some(2), -0.0),
        ] {
            let bytes = f64::to_le_bytes(stored);
            let cell = in_zone(&bytes, MySqlValueKind::Double(decimals), RowFormat::Binary);
            assert_eq!(cell, Some(Cell::Float(expected)), "{stored} {decimals:?}");
        }
    }

    #[test]
    fn bits_are_a_number_and_text_that_is_none_stays_bytes() {
        let text = |bytes, kind| in_zone(bytes, kind, RowFormat::Text);
        assert_eq!(text(&[0xff; 8], MySqlValueKind::Bits(64)), Some(Cell::UInt(u64::MAX)));
        assert_eq!(text(b"\x01\x02", MySqlValueKind::Bits(16)), Some(Cell::UInt(258)));
        assert_eq!(text(b"7", MySqlValueKind::Bits(8)), Some(Cell::UInt(55)));
        assert_eq!(text(&[0; 9], MySqlValueKind::Bits(64)), None, "a protocol error");
        for (bytes, width, expected) in [
            (&b"\x01"[..], 1, Some(1)),
            (b"1", 1, Some(1)),
            (b"31", 5, Some(31)),
            (&[0x80], 8, Some(128)),
            (b"128", 8, Some(128)),
            (b"18446744073709551615", 64, Some(u64::MAX)),
            // 7 or 55; and 200 that was read as Latin-1 and sent as UTF-8.
            (b"7", 8, None),
            ("\u{c8}".as_bytes(), 8, None),
        ] {
            assert_eq!(
                text(bytes, MySqlValueKind::BitsOrDigits(width)),
                expected.map(Cell::UInt),
                "{bytes:?}"
            );
        }
        assert_eq!(text(b"a\xff", MySqlValueKind::Text), Some(Cell::Bytes(b"a\xff")));
        assert_eq!(text("é".as_bytes(), MySqlValueKind::Text), Some(Cell::Text("é")));
    }
}
