//! A value as the server sends it, and its type, as a [`Cell`].
//!
//! Owns the meaning of type OIDs, and which types are asked for in binary: those whose text depends on the session's
//! settings, which are the administrator's. Knows no message. A type that means more than its text is one more
//! [`ValueType`] and its line in [`ValueType::of`].

use postgres_types::Type;

use crate::driver::ColumnContent;
use crate::value::Cell;

use super::binary;
use super::datetime;

/// What the values of a column mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueType {
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

impl ValueType {
    /// Of a type that every server has; others need their category ([`ValueType::of_category`]).
    pub(super) fn of(oid: u32) -> Option<ValueType> {
        Some(match Type::from_oid(oid)? {
            Type::BOOL => ValueType::Bool,
            Type::INT2 | Type::INT4 | Type::INT8 => ValueType::Int,
            Type::OID | Type::XID | Type::CID | Type::XID8 => ValueType::UInt,
            Type::FLOAT4 => ValueType::Float4,
            Type::FLOAT8 => ValueType::Float8,
            Type::NUMERIC => ValueType::Number,
            Type::MONEY => ValueType::Money,
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR | Type::UNKNOWN => {
                ValueType::Text
            }
            Type::BYTEA => ValueType::Bytes,
            Type::DATE => ValueType::Date,
            Type::TIME => ValueType::Time,
            Type::TIMETZ => ValueType::TimeTz,
            Type::TIMESTAMP => ValueType::Timestamp { zoned: false },
            Type::TIMESTAMPTZ => ValueType::Timestamp { zoned: true },
            Type::INTERVAL => ValueType::Interval,
            _ => ValueType::Other,
        })
    }

    /// Of a type that only this server has, by `pg_type.typcategory`: strings (citext) and enums are text.
    pub(super) fn of_category(category: &str) -> ValueType {
        if matches!(category, "S" | "E") { ValueType::Text } else { ValueType::Other }
    }

    /// What its values can mean.
    pub(super) fn content(self) -> ColumnContent {
        match self {
            ValueType::Date | ValueType::Timestamp { .. } => ColumnContent::Moment,
            ValueType::Text => ColumnContent::Text,
            ValueType::Bytes => ColumnContent::Bytes,
            ValueType::Other => ColumnContent::Other,
            _ => ColumnContent::Number,
        }
    }

    /// True for a type that is asked for in binary: its text depends on settings, or loses digits.
    pub(super) fn is_binary(self) -> bool {
        matches!(
            self,
            ValueType::Float8
                | ValueType::Float4
                | ValueType::Bytes
                | ValueType::Date
                | ValueType::Time
                | ValueType::TimeTz
                | ValueType::Timestamp { .. }
                | ValueType::Interval
        )
    }

    /// True where [`rewrite`] must rewrite a text before [`ValueType::cell`] reads it.
    pub(super) fn is_rewritten(self) -> bool {
        matches!(self, ValueType::Bytes | ValueType::Money)
    }

    /// The setting that keeps a text of this type from being read exactly; `None` where it can be read.
    pub(super) fn unreadable_in(self, styles: &TextStyles) -> Option<String> {
        let (name, style) = match self {
            ValueType::Date | ValueType::Timestamp { .. } if !styles.dates.starts_with("ISO") => {
                ("DateStyle", &styles.dates)
            }
            ValueType::Interval if !matches!(styles.intervals.as_str(), POSTGRES | ISO_8601) => {
                ("IntervalStyle", &styles.intervals)
            }
            _ => return None,
        };
        Some(format!("{name} {style}"))
    }

    /// The cell of a value in binary; `None` when the bytes are not what the type says.
    pub(super) fn binary_cell(self, bytes: &[u8]) -> Option<Cell<'_>> {
        match self {
            ValueType::Float8 => binary::float8(bytes),
            ValueType::Float4 => binary::float4(bytes),
            ValueType::Bytes => Some(Cell::Bytes(bytes)),
            ValueType::Date => binary::date(bytes),
            ValueType::Time => binary::time(bytes),
            ValueType::TimeTz => binary::time_with_zone(bytes),
            ValueType::Timestamp { zoned } => binary::timestamp(bytes, zoned),
            ValueType::Interval => binary::interval(bytes),
            _ => None,
        }
    }

    /// The cell of a text; `None` when the bytes are not what the type says.
    pub(super) fn cell<'b>(self, bytes: &'b [u8], styles: &TextStyles) -> Option<Cell<'b>> {
        if self == ValueType::Bytes {
            return Some(Cell::Bytes(bytes));
        }
        // What a database in SQL_ASCII contains, where `session_sql` has set `client_encoding`; and names from other databases.
        let Ok(text) = std::str::from_utf8(bytes) else {
            return matches!(self, ValueType::Text | ValueType::Other).then_some(Cell::Bytes(bytes));
        };
        Some(match self {
            ValueType::Text => Cell::Text(text),
            ValueType::Other | ValueType::Bytes => Cell::Other(text),
            ValueType::Number | ValueType::Money => Cell::Number(text),
            ValueType::Bool => Cell::Bool(match text {
                "t" | "true" => true,
                "f" | "false" => false,
                _ => return None,
            }),
            ValueType::Int => Cell::Int(text.parse().ok()?),
            ValueType::UInt => Cell::UInt(text.parse().ok()?),
            // The text of a `real` is the number that people mean: 1.1, not the double nearest to its bits.
            ValueType::Float8 | ValueType::Float4 => match text.parse::<f64>().ok()? {
                // Servers before 12 write the largest double with fewer digits, rounded up.
                value if value.is_infinite() && !text.ends_with("Infinity") => Cell::Number(text),
                value => Cell::Float(value),
            },
            ValueType::Date => datetime::date(text)?,
            ValueType::Time => datetime::time(text, false)?,
            ValueType::TimeTz => datetime::time(text, true)?,
            ValueType::Timestamp { zoned } => datetime::timestamp(text, zoned)?,
            ValueType::Interval => match styles.intervals.as_str() {
                ISO_8601 => datetime::interval(text)?,
                POSTGRES => datetime::plain_interval(text)?,
                _ => return None,
            },
        })
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

/// Rewrites a text in place to what [`ValueType::cell`] reads, and returns its new length: bytea to its bytes, money from
/// `-$1,234.50` to `-1234.50`. `None` when the bytes are not what the type says, or the styles are not known.
pub(super) fn rewrite(kind: ValueType, styles: &TextStyles, bytes: &mut [u8]) -> Option<usize> {
    match kind {
        ValueType::Money => rewrite_money(styles.money?, bytes),
        _ if bytes.starts_with(b"\\x") => rewrite_hex(bytes),
        _ => rewrite_escapes(bytes),
    }
}

/// Whatever the locale writes around them, the digits and the sign are the number, and as many of its last digits as the
/// locale says are decimal places. Its own decimal point leaves room for ours.
fn rewrite_money(places: usize, bytes: &mut [u8]) -> Option<usize> {
    let is_negative = bytes.iter().any(|byte| matches!(byte, b'-' | b'('));
    let mut number: Vec<u8> = bytes.iter().copied().filter(u8::is_ascii_digit).collect();
    let whole = number.len().checked_sub(places).filter(|whole| *whole > 0)?;
    if places > 0 {
        number.insert(whole, b'.');
    }
    if is_negative {
        number.insert(0, b'-');
    }
    bytes.get_mut(..number.len())?.copy_from_slice(&number);
    Some(number.len())
}

/// `bytea_output` hex: `\x00ff`.
fn rewrite_hex(bytes: &mut [u8]) -> Option<usize> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let length = bytes.len().checked_sub(2).filter(|digits| digits.is_multiple_of(2))? / 2;
    for at in 0..length {
        let (high, low) = (*bytes.get(2 * at + 2)?, *bytes.get(2 * at + 3)?);
        *bytes.get_mut(at)? = digit(high)? << 4 | digit(low)?;
    }
    Some(length)
}

/// `bytea_output` escape: `\\` is a backslash, `\ooo` a byte in octal, all else itself.
fn rewrite_escapes(bytes: &mut [u8]) -> Option<usize> {
    let (mut at, mut length) = (0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let (byte, taken) = match *rest {
            [b'\\', b'\\', ..] => (b'\\', 2),
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), 4)
            }
            [b'\\', ..] | [] => return None,
            [byte, ..] => (byte, 1),
        };
        *bytes.get_mut(length)? = byte;
        (at, length) = (at + taken, length + 1);
    }
    Some(length)
}

/// The columns that tell the styles of a session, in the order of [`TextStyles::read`]. A unit of money shows how many
/// decimal places the server's locale has.
pub(super) const STYLE_COLUMNS: &str = "pg_catalog.current_setting('DateStyle'), \
                                        pg_catalog.current_setting('IntervalStyle'), 1::pg_catalog.money";
/// How many columns these are.
pub(super) const STYLE_COLUMN_COUNT: u16 = 3;

/// How a server writes values as text, where they cannot be asked for in binary: in the simple protocol, and for money.
///
/// The settings are the administrator's, as they decide what the user's own SQL computes. A value whose style does not
/// tell it exactly is not read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TextStyles {
    /// `DateStyle` and `IntervalStyle`.
    dates: String,
    intervals: String,
    /// Decimal places of money.
    money: Option<usize>,
}

/// The values of `IntervalStyle` whose texts can be read: `1 day 02:03:04` and `P1DT2H3M4S`.
const POSTGRES: &str = "postgres";
const ISO_8601: &str = "iso_8601";

impl TextStyles {
    /// From the values of [`STYLE_COLUMNS`].
    pub(super) fn read(dates: &str, intervals: &str, unit: &str) -> Self {
        TextStyles { dates: dates.to_owned(), intervals: intervals.to_owned(), ..TextStyles::of_money(unit) }
    }

    /// Where only money is read as text: `$1.00` has two decimal places, `1 ¥` none.
    pub(super) fn of_money(unit: &str) -> Self {
        let digits = unit.bytes().filter(u8::is_ascii_digit).count();
        TextStyles { money: Some(digits.saturating_sub(1)), ..TextStyles::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: ValueType, text: &str) -> Option<Cell<'_>> {
        kind.cell(text.as_bytes(), &TextStyles::default())
    }

    #[test]
    fn numbers_and_texts_are_borrowed_as_written() {
        assert_eq!(
            read(ValueType::Number, "-12345678901234567890.10"),
            Some(Cell::Number("-12345678901234567890.10"))
        );
        assert_eq!(read(ValueType::Int, "-9223372036854775808"), Some(Cell::Int(i64::MIN)));
        assert_eq!(read(ValueType::Float8, "-Infinity"), Some(Cell::Float(f64::NEG_INFINITY)));
        assert_eq!(read(ValueType::Float4, "0.1"), Some(Cell::Float(0.1)));
        let rounded_up = "1.79769313486232e+308";
        assert_eq!(read(ValueType::Float8, rounded_up), Some(Cell::Number(rounded_up)));
        assert_eq!(read(ValueType::Bool, "t"), Some(Cell::Bool(true)));
        assert_eq!(read(ValueType::UInt, "4294967295"), Some(Cell::UInt(4_294_967_295)));
        assert_eq!(ValueType::Text.cell(b"caf\xe9", &TextStyles::default()), Some(Cell::Bytes(b"caf\xe9")));
        assert_eq!(ValueType::Int.cell(b"\xe9", &TextStyles::default()), None);
        assert_eq!(ValueType::of(2950), Some(ValueType::Other), "uuid");
        assert_eq!(ValueType::of(999_999), None);
    }

    #[test]
    fn a_text_is_read_only_in_a_style_that_tells_its_value() {
        let styles = |dates, intervals| TextStyles::read(dates, intervals, "1.00");
        let (iso, german) = (styles("ISO, DMY", "postgres"), styles("German, DMY", "sql_standard"));
        let stamp = ValueType::Timestamp { zoned: true };
        for kind in [ValueType::Date, stamp, ValueType::Interval] {
            assert_eq!(kind.unreadable_in(&iso), None, "{kind:?}");
            assert!(kind.unreadable_in(&german).is_some(), "{kind:?}");
        }
        assert_eq!(ValueType::Time.unreadable_in(&german), None);
        assert_eq!(ValueType::Date.unreadable_in(&german).as_deref(), Some("DateStyle German, DMY"));
        let day = Cell::Interval { months: 0, days: 1, micros: 0 };
        assert_eq!(ValueType::Interval.cell(b"1 day", &iso), Some(day));
        assert_eq!(ValueType::Interval.cell(b"P1D", &styles("", "iso_8601")), Some(day));
    }

    #[test]
    fn bytea_settles_in_place_in_both_formats() {
        let settled = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            rewrite(ValueType::Bytes, &TextStyles::default(), &mut bytes)
                .map(|length| bytes[..length].to_vec())
        };
        assert_eq!(settled("\\x00ff6a"), Some(vec![0, 255, b'j']));
        assert_eq!(settled("\\x"), Some(vec![]));
        assert_eq!(settled("\\x0"), None);
        assert_eq!(settled("a\\\\\\000\\377z"), Some(vec![b'a', b'\\', 0, 255, b'z']));
        assert_eq!(settled("\\9"), None);
        assert_eq!(settled(""), Some(vec![]));
    }

    #[test]
    fn money_settles_in_place_in_every_locale() {
        let settled = |unit, text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            let length = rewrite(ValueType::Money, &TextStyles::of_money(unit), &mut bytes)?;
            String::from_utf8(bytes[..length].to_vec()).ok()
        };
        let cases = [
            ("$1.00", "-$1,234,567.89", "-1234567.89"),
            ("1,00 \u{20ac}", "-1.234,50 \u{20ac}", "-1234.50"),
            ("1,00 kr.", "(1.234,50 kr.)", "-1234.50"),
            ("\u{a5}1", "\u{a5}-1,234", "-1234"),
            ("1.000", "0.001", "0.001"),
            ("Rs.1.00", "Rs.12,34,567.05", "1234567.05"),
            ("1.00", "5.00-", "-5.00"),
        ];
        for (unit, text, expected) in cases {
            assert_eq!(settled(unit, text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(settled("1.00", "$"), None);
        assert_eq!(rewrite(ValueType::Money, &TextStyles::default(), &mut b"1.00".to_vec()), None);
    }

    #[test]
    fn a_unit_of_money_shows_its_decimal_places() {
        for (unit, expected) in [("$1.00", 2), ("1,00 kr.", 2), ("\u{a5}1", 0), ("1.000", 3), ("", 0)] {
            assert_eq!(TextStyles::of_money(unit).money, Some(expected), "{unit}");
        }
    }

    #[test]
    fn only_styles_that_tell_a_value_exactly_are_read() {
        let styles = |dates, intervals| TextStyles::read(dates, intervals, "1.00");
        let is_read =
            |kind: ValueType, dates, intervals| kind.unreadable_in(&styles(dates, intervals)).is_none();
        assert!(is_read(ValueType::Date, "ISO, DMY", "") && !is_read(ValueType::Date, "SQL, DMY", ""));
        for (style, text) in
            [("postgres", Some("1 day")), ("postgres_verbose", None), ("iso_8601", Some("P1D")), ("", None)]
        {
            assert_eq!(is_read(ValueType::Interval, "", style), text.is_some(), "{style}");
            for written in ["1 day", "P1D"] {
                let cell = ValueType::Interval.cell(written.as_bytes(), &styles("", style));
                assert_eq!(cell.is_some(), text == Some(written), "{style}");
            }
        }
    }
}
