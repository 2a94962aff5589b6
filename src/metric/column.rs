//! Columns of a result: found by name, and what is said of a cell that cannot be used.

use crate::cell::{Cell, Number};
use crate::driver::{Column, Row};
use crate::error::{Error, Reason, Result};

/// In Unix seconds, the end of the year 9999.
const LAST_MOMENT: f64 = 253_402_300_800.0;

/// Bytes of a value that an error shows.
const SHOWN: usize = 32;

/// Bytes of a column's name that an error shows: SQLite calls a column without AS by its whole expression.
const LONGEST_NAME: usize = 64;

/// The position of the column called `name`: exactly, else case-insensitively if only one is meant.
///
/// # Errors
/// `missing_column`, listing the columns found; also where two columns are meant.
pub fn find(columns: &[Column], name: &str) -> Result<usize> {
    let exact = only(columns, |found| found == name);
    let found = match exact {
        Found::None => {
            let lower = name.to_lowercase();
            only(columns, |found| found.to_lowercase() == lower)
        }
        found => found,
    };
    match found {
        Found::One(position) => Ok(position),
        Found::None => Err(missing(columns, name)),
        Found::Many => {
            Err(Error::new(Reason::MissingColumn, format!("more than one column is called `{name}`"))
                .with_hint("give each its own name with AS"))
        }
    }
}

enum Found {
    None,
    One(usize),
    Many,
}

fn only(columns: &[Column], fits: impl Fn(&str) -> bool) -> Found {
    let mut fitting =
        (0..).zip(columns).filter(|(_, column)| fits(&column.name)).map(|(position, _)| position);
    match (fitting.next(), fitting.next()) {
        (None, _) => Found::None,
        (Some(position), None) => Found::One(position),
        (Some(_), Some(_)) => Found::Many,
    }
}

fn missing(columns: &[Column], name: &str) -> Error {
    /// More columns than this do not fit on a line that somebody reads.
    const LISTED: usize = 40;
    let shown = |column: &Column| {
        let start = cut(&column.name, LONGEST_NAME);
        format!("`{start}{}`", if start.len() < column.name.len() { "…" } else { "" })
    };
    let found: Vec<String> = columns.iter().take(LISTED).map(shown).collect();
    let mut found = if found.is_empty() { "no columns at all".to_owned() } else { found.join(", ") };
    if columns.len() > LISTED {
        found += &format!(" and {} more", columns.len() - LISTED);
    }
    Error::new(Reason::MissingColumn, format!("the result has no column `{name}`; it has {found}"))
}

/// One column of a bound query, with what an error says about it.
#[derive(Debug, Clone)]
pub struct Bound {
    index: usize,
    column: Column,
}

impl Bound {
    /// Finds `name` among `columns`.
    ///
    /// # Errors
    /// As [`find`].
    pub fn new(columns: &[Column], name: &str) -> Result<Bound> {
        let index = find(columns, name)?;
        // Invariant: `find` answers a position within `columns`.
        let column = columns.get(index).cloned().ok_or_else(|| missing(columns, name))?;
        Ok(Bound { index, column })
    }

    /// The cell of this column in `row`.
    ///
    /// # Errors
    /// `protocol` where the server's bytes are not what the type says, naming the column.
    pub fn cell<'r>(&self, row: &'r dyn Row) -> Result<Cell<'r>> {
        row.cell(self.index)
    }

    /// The cell of this column in `row` as a number; `None` for NULL.
    ///
    /// # Errors
    /// `type` and `value` as [`Bound::no_number`] says, `protocol` from the row.
    pub fn number(&self, row: &dyn Row) -> Result<Option<f64>> {
        let cell = self.cell(row)?;
        match cell.number() {
            Number::Null => Ok(None),
            Number::Value(value) => Ok(Some(value)),
            other => Err(self.no_number(&cell, other)),
        }
    }

    /// The cell of this column in `row` as a moment, in Unix milliseconds: a date, a timestamp, or a number of seconds.
    ///
    /// # Errors
    /// `type` where the column holds no moment, `value` for NULL and for what lies beyond the calendar, `protocol` from
    /// the row.
    pub fn moment(&self, row: &dyn Row) -> Result<i64> {
        let cell = self.cell(row)?;
        if matches!(cell, Cell::Bool(_) | Cell::Time(_) | Cell::Interval { .. }) {
            let (name, type_name) = (&self.column.name, &self.column.type_name);
            let message = format!("column `{name}` is of type {type_name}, which is no moment");
            return Err(
                Error::new(Reason::Type, message).with_hint("a timestamp, a date or Unix seconds is one")
            );
        }
        let seconds = match cell.number() {
            Number::Value(seconds) => seconds,
            Number::Null => {
                return Err(self
                    .bad_value(&cell, "is NULL: the sample would seem to be of now")
                    .with_hint("leave such rows out in the SQL"));
            }
            other => return Err(self.no_number(&cell, other)),
        };
        if seconds.is_nan() || seconds.abs() >= LAST_MOMENT {
            return Err(self.bad_value(&cell, "is no moment that a sample can have"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "below 2^53 by the check above")]
        let ms = (seconds * 1000.0).round() as i64;
        Ok(ms)
    }

    /// The name as the database gives it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.column.name
    }

    /// Why `cell`, read as `number`, is no sample value: the type has no meaning as a number (`type`), or this one
    /// value has not (`value`).
    #[must_use]
    pub fn no_number(&self, cell: &Cell<'_>, number: Number) -> Error {
        let (name, type_name) = (&self.column.name, &self.column.type_name);
        let cast = || {
            format!(
                "write `{} AS {name}`, or name another value_column",
                self.column.cast.replace("{}", name)
            )
        };
        match (number, cell) {
            (Number::Overflow, _) => self.bad_value(cell, "is too large for a 64-bit float"),
            (_, Cell::Other(_) | Cell::Bytes(_)) => {
                let message = format!("column `{name}` is of type {type_name}, which is no number");
                Error::new(Reason::Type, message).with_hint(cast())
            }
            _ => self
                .bad_value(cell, "is no number")
                .with_hint("cast it in the SQL, add `map`, or set `invalid: skip`"),
        }
    }

    /// A `value` error: column, type, the value shortened, and `why`.
    #[must_use]
    pub fn bad_value(&self, cell: &Cell<'_>, why: &str) -> Error {
        let mut scratch = String::new();
        let shown = shorten(cell.label(&mut scratch));
        let (name, type_name) = (&self.column.name, &self.column.type_name);
        Error::new(Reason::Value, format!("column `{name}` ({type_name}): {shown} {why}"))
    }
}

/// A value as an error shows it: in quotes, control characters escaped, not longer than a line bears.
#[must_use]
pub fn shorten(text: &str) -> String {
    let start = cut(text, SHOWN);
    if start.len() < text.len() {
        format!("{start:?}… ({} bytes)", text.len())
    } else {
        format!("{text:?}")
    }
}

/// The start of `text`, at most `max` bytes, ending at a character's border.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    // Invariant: a border lies within the four bytes that a character takes, position 0 being one.
    (0..=max.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Content;

    fn columns(names: &[&str]) -> Vec<Column> {
        let column = |name: &&str| Column {
            name: (*name).into(),
            type_name: "jsonb".into(),
            cast: "{}::float8",
            content: Content::Unknown,
        };
        names.iter().map(column).collect()
    }

    #[test]
    fn a_column_matches_exactly_else_in_any_case_if_one_is_meant() {
        let found = columns(&["Region", "region", "Value"]);
        assert_eq!(find(&found, "region"), Ok(1));
        assert_eq!(find(&found, "Region"), Ok(0));
        assert_eq!(find(&found, "VALUE"), Ok(2));
        let error = find(&found, "REGION").unwrap_err();
        assert_eq!(error.reason(), Reason::MissingColumn);
        assert!(error.to_string().starts_with("more than one column is called `REGION`"), "{error}");
        assert!(find(&columns(&["a", "a"]), "a").is_err());
    }

    #[test]
    fn a_missing_column_lists_those_found() {
        let error = find(&columns(&["region", "orders"]), "value").unwrap_err();
        assert_eq!(error.to_string(), "the result has no column `value`; it has `region`, `orders`");
        assert!(find(&[], "value").unwrap_err().to_string().ends_with("it has no columns at all"));
    }

    #[test]
    fn a_type_that_is_no_number_names_the_cast() {
        let bound = Bound::new(&columns(&["doc"]), "doc").unwrap();
        let cell = Cell::Other("{}");
        let error = bound.no_number(&cell, cell.number());
        assert_eq!(error.reason(), Reason::Type);
        let expected = "column `doc` is of type jsonb, which is no number; write `doc::float8 AS doc`, or name another value_column";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_value_is_shown_shortened_and_without_control_characters() {
        let bound = Bound::new(&columns(&["doc"]), "doc").unwrap();
        let long = format!("a\n{}", "é".repeat(60));
        let error = bound.no_number(&Cell::Text(&long), Number::NotNumber);
        assert_eq!(error.reason(), Reason::Value);
        let start = format!("column `doc` (jsonb): \"a\\n{}\"… (122 bytes) is no number", "é".repeat(15));
        assert!(error.to_string().starts_with(&start), "{error}");
        let cell = Cell::Number("1e400");
        let error = bound.no_number(&cell, cell.number());
        assert_eq!(error.to_string(), "column `doc` (jsonb): \"1e400\" is too large for a 64-bit float");
    }
}
