//! The rows that a test writes, as a database would return them.

use crate::driver::advice::Advice;
use crate::driver::postgres::datetime;
use crate::driver::{Column, ColumnContent, RowSink};
use crate::inspect::replay::replay;
use crate::value::Cell;
use crate::yaml::keys::Literal;

/// Sends the rows to `sink` as a session does, its `end` included.
pub(super) fn play(names: &[String], rows: &[Vec<Literal>], sink: &mut dyn RowSink) {
    let column = |(index, name): (usize, &String)| {
        let values = || rows.iter().filter_map(|row| row.get(index)).map(cell);
        let first = values().find(|cell| *cell != Cell::Null);
        Column {
            name: name.as_str().into(),
            type_name: first.map_or("null", type_name).into(),
            advice: Advice::Label,
            quote: '"',
            content: ColumnContent::Unknown,
        }
    };
    let columns: Vec<Column> = names.iter().enumerate().map(column).collect();
    replay(&columns, rows, cell, sink);
}

/// The value that a database would return for a literal.
fn cell(literal: &Literal) -> Cell<'_> {
    let text = match literal {
        Literal::Nothing => return Cell::Null,
        Literal::Quoted(text) => return Cell::Text(text),
        Literal::Plain(text) => text.as_str(),
    };
    match text {
        "true" | "True" | "TRUE" => return Cell::Bool(true),
        "false" | "False" | "FALSE" => return Cell::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Cell::Float(f64::NAN),
        ".inf" | "+.inf" => return Cell::Float(f64::INFINITY),
        "-.inf" => return Cell::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if let Some(number) = text.parse::<i64>().ok().filter(|number| number.to_string() == text) {
        return Cell::Int(number);
    }
    if is_decimal(text) {
        return Cell::Number(text);
    }
    moment(text).unwrap_or(Cell::Text(text))
}

/// `1.50`, `-2e3`, and integers that no `i64` holds; not `007`, which is a code rather than a number.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_legal = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    let is_code =
        digits.starts_with('0') && digits.len() > 1 && !digits.starts_with("0.") && !digits.starts_with("0e");
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(is_legal)
        && !is_code
        && text.parse::<f64>().is_ok()
}

/// `2026-01-02`, `2026-01-02T03:04:05.5`, with a zone `2026-01-02T03:04:05Z` or `…+05:30`; a blank may replace the `T`.
fn moment(text: &str) -> Option<Cell<'static>> {
    let date = text.get(..10).filter(|date| date.starts_with(|c: char| c.is_ascii_digit()))?;
    let Some(time) = text.get(11..).filter(|_| matches!(text.as_bytes().get(10), Some(b'T' | b' '))) else {
        return datetime::date(text).filter(|_| text.len() == 10);
    };
    let zoned = time.ends_with('Z') || time.contains(['+', '-']);
    let time = time.strip_suffix('Z').map_or_else(|| time.to_owned(), |time| format!("{time}+00"));
    datetime::timestamp(&format!("{date} {time}"), zoned)
}

fn type_name(cell: Cell<'_>) -> &'static str {
    match cell {
        Cell::Bool(_) => "boolean",
        Cell::Int(_) => "integer",
        Cell::Number(_) | Cell::Float(_) => "decimal",
        Cell::Date(_) => "date",
        Cell::DateTime { zoned: true, .. } => "timestamp with time zone",
        Cell::DateTime { .. } => "timestamp",
        _ => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_value_is_what_it_looks_like_and_a_quoted_one_is_text() {
        let day = 20_455;
        let at = |micros: i64, zoned| Cell::DateTime {
            micros: (day * 86_400 + 11_045) * 1_000_000 + micros,
            zoned,
        };
        let cases = [
            ("true", Cell::Bool(true)),
            ("12", Cell::Int(12)),
            ("-3", Cell::Int(-3)),
            ("007", Cell::Text("007")),
            ("1.50", Cell::Number("1.50")),
            ("1e20", Cell::Number("1e20")),
            ("99999999999999999999", Cell::Number("99999999999999999999")),
            ("1.2.3", Cell::Text("1.2.3")),
            ("-.inf", Cell::Float(f64::NEG_INFINITY)),
            ("2026-01-02", Cell::Date(day)),
            ("2026-01-02T03:04:05", at(0, false)),
            ("2026-01-02 03:04:05.5", at(500_000, false)),
            ("2026-01-02T03:04:05Z", at(0, true)),
            ("2026-01-02T05:04:05+02:00", at(0, true)),
            ("2026-13-02", Cell::Text("2026-13-02")),
            ("2026-01-02x", Cell::Text("2026-01-02x")),
            ("north", Cell::Text("north")),
            ("", Cell::Text("")),
        ];
        for (text, expected) in cases {
            assert_eq!(cell(&Literal::Plain(text.into())), expected, "{text}");
            assert_eq!(cell(&Literal::Quoted(text.into())), Cell::Text(text));
        }
        assert_eq!(cell(&Literal::Nothing), Cell::Null);
    }
}
