//! A value as the server writes it in text, and its type, to a [`Cell`].
//!
//! Owns the meaning of type OIDs and of the texts that the session's settings fix (`DateStyle` ISO, `IntervalStyle`
//! iso_8601, `bytea_output` hex, `lc_monetary` C). Knows no message. A type that means more than its text is one
//! more [`Kind`] and its line in [`Kind::of`].

use tokio_postgres::types::Type;

use crate::cell::Cell;
use crate::driver::Content;

use super::moments;

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

    /// What its values can mean.
    pub(super) fn content(self) -> Content {
        match self {
            Kind::Bool
            | Kind::Int
            | Kind::UInt
            | Kind::Float8
            | Kind::Float4
            | Kind::Number
            | Kind::Money
            | Kind::Time
            | Kind::TimeTz
            | Kind::Interval => Content::Number,
            Kind::Date | Kind::Timestamp { .. } => Content::Moment,
            Kind::Text => Content::Text,
            Kind::Bytes => Content::Bytes,
            Kind::Other => Content::Other,
        }
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
            // The text of a `real` is what it is to people: 1.1, not the double nearest to its bits.
            Kind::Float8 | Kind::Float4 => Cell::Float(text.parse().ok()?),
            Kind::Date => moments::date(text)?,
            Kind::Time => moments::time(text, false)?,
            Kind::TimeTz => moments::time(text, true)?,
            Kind::Timestamp { zoned } => moments::timestamp(text, zoned)?,
            Kind::Interval => moments::interval(text)?,
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
    if !bytes.starts_with(b"\\x") || !bytes.len().is_multiple_of(2) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> Option<Cell<'_>> {
        kind.cell(text.as_bytes())
    }

    #[test]
    fn numbers_and_texts_are_borrowed_as_written() {
        assert_eq!(
            read(Kind::Number, "-12345678901234567890.10"),
            Some(Cell::Number("-12345678901234567890.10"))
        );
        assert_eq!(read(Kind::Int, "-9223372036854775808"), Some(Cell::Int(i64::MIN)));
        assert_eq!(read(Kind::Float8, "-Infinity"), Some(Cell::Float(f64::NEG_INFINITY)));
        assert_eq!(read(Kind::Float4, "0.1"), Some(Cell::Float(0.1)));
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
