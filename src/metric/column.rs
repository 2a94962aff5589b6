//! Columns of a result, found by name, and the errors about cells that cannot be used.

use crate::driver::advice::{Advice, LENGTH, written};
use crate::driver::{Column, Row, bounded_text};
use crate::error::{Error, Reason, Result};
use crate::plain_text;
use crate::value::{Cell, LocalTimeError, Number};

/// In Unix seconds, the end of the year 9999.
const LAST_MOMENT: f64 = 253_402_300_800.0;

/// What to do with texts that are not numbers.
pub const OF_TEXT: &str =
    "use the column as a label, give its texts numbers with `map`, or set `invalid: skip`";

const NO_OFFSET: &str = "the offset of the session's time_zone is not known for it";

/// Bytes of a value that an error shows.
const SHOWN: usize = 32;

/// Bytes of a column's name that an error shows: SQLite calls a column without AS by its whole expression.
const LONGEST_NAME: usize = 64;

/// The position of the column called `name`: an exact match, else a case-insensitive one if there is only one.
///
/// # Errors
/// `missing_column`, listing the columns found; also where several columns match.
pub fn find(columns: &[Column], name: &str) -> Result<usize> {
    /// The positions of the first two that fit.
    fn first_two(columns: &[Column], fits: impl Fn(&str) -> bool) -> (Option<usize>, Option<usize>) {
        let mut fitting =
            columns.iter().enumerate().filter(|(_, column)| fits(&column.name)).map(|(at, _)| at);
        (fitting.next(), fitting.next())
    }
    let mut found = first_two(columns, |found| found == name);
    if found.0.is_none() {
        let lower = name.to_lowercase();
        found = first_two(columns, |found| found.to_lowercase() == lower);
    }
    match found {
        (Some(position), None) => Ok(position),
        (None, _) => Err(missing(columns, name)),
        (Some(_), Some(_)) => {
            Err(Error::new(Reason::MissingColumn, format!("more than one column is called `{name}`"))
                .with_hint("give each its own name with AS"))
        }
    }
}

fn missing(columns: &[Column], name: &str) -> Error {
    /// More columns than this do not fit on a line that somebody reads.
    const LISTED: usize = 40;
    let shown = |column: &Column| format!("`{}`", bounded_text::cut(&column.name, LONGEST_NAME));
    let found: Vec<String> = columns.iter().take(LISTED).map(shown).collect();
    let mut found = if found.is_empty() { "no columns at all".to_owned() } else { found.join(", ") };
    if columns.len() > LISTED {
        found += &format!(" and {} more", columns.len() - LISTED);
    }
    Error::new(Reason::MissingColumn, format!("the result has no column `{name}`; it has {found}"))
}

/// One column of a bound query, with what an error needs to describe it.
#[derive(Debug, Clone)]
pub struct BoundColumn {
    index: usize,
    column: Column,
}

impl BoundColumn {
    /// Finds `name` among `columns`.
    ///
    /// # Errors
    /// As [`find`].
    pub fn new(columns: &[Column], name: &str) -> Result<BoundColumn> {
        let index = find(columns, name)?;
        // Invariant: `find` returns a position within `columns`.
        let column = columns.get(index).cloned().ok_or_else(|| missing(columns, name))?;
        Ok(BoundColumn { index, column })
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
    /// `type` and `value` as [`BoundColumn::not_a_number`] says, `protocol` from the row.
    pub fn number(&self, row: &dyn Row) -> Result<Option<f64>> {
        let cell = self.cell(row)?;
        match cell.number() {
            Number::Null => Ok(None),
            Number::Value(value) => Ok(Some(value)),
            other => Err(self.not_a_number(&cell, other)),
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
            let message = format!("column `{name}` is of type {type_name}, which is not a time");
            return Err(
                Error::new(Reason::Type, message).with_hint("a timestamp, a date or Unix seconds is one")
            );
        }
        let seconds = match cell.number() {
            Number::Value(seconds) => seconds,
            Number::Null => {
                return Err(self
                    .bad_value(&cell, "is NULL, and its sample would seem to be current")
                    .with_hint("leave such rows out in the SQL"));
            }
            other => return Err(self.not_a_number(&cell, other)),
        };
        if seconds.is_nan() || seconds.abs() >= LAST_MOMENT {
            return Err(self.bad_value(&cell, "is not a time that a sample can have"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "below 2^53 by the check above")]
        let ms = (seconds * 1000.0).round() as i64;
        Ok(ms)
    }

    /// The name as the database returns it.
    pub fn name(&self) -> &str {
        &self.column.name
    }

    /// Why `cell`, read as `number`, is not a sample value: the type has no meaning as a number (`type`), or this one
    /// value has not (`value`).
    pub fn not_a_number(&self, cell: &Cell<'_>, number: Number) -> Error {
        if number == Number::Overflow {
            return self.bad_value(cell, "is too large for a 64-bit float");
        }
        match cell {
            Cell::Bytes(_) => self.not_a_number_type(Advice::Bytes),
            Cell::Other(_) => self.not_a_number_type(self.column.advice),
            Cell::LocalDate { moment: Err(why), .. } | Cell::LocalDateTime { moment: Err(why), .. } => {
                self.no_moment(cell, *why)
            }
            Cell::NoDate(_) => self.bad_value(cell, "is not a date").with_hint(self.or_null()),
            Cell::TextDate(_) => self
                .bad_value(cell, "is a date as text, not a number")
                .with_hint(self.help(self.column.advice)),
            _ => self.bad_value(cell, "is not a number").with_hint(OF_TEXT),
        }
    }

    /// A column of a type that has no meaning as a number.
    fn not_a_number_type(&self, advice: Advice) -> Error {
        let (name, type_name) = (&self.column.name, &self.column.type_name);
        let message = format!("column `{name}` is of type {type_name}, which is not a number");
        Error::new(Reason::Type, message).with_hint(self.help(advice))
    }

    /// A column of local times whose zone is not known.
    pub fn no_zone(&self) -> Error {
        let (name, type_name) = (&self.column.name, &self.column.type_name);
        let message = format!("column `{name}` is of type {type_name}, local time, and {NO_OFFSET}");
        Error::new(Reason::Type, message).with_hint(self.help(self.column.advice))
    }

    fn no_moment(&self, cell: &Cell<'_>, why: LocalTimeError) -> Error {
        match why {
            LocalTimeError::UnknownOffset => self
                .bad_value(cell, &format!("is local time, and {NO_OFFSET}"))
                .with_hint(self.help(self.column.advice)),
            LocalTimeError::Twice => self
                .bad_value(cell, "is local time that occurs twice, as the clock is set back then")
                .with_hint(self.help(self.column.advice)),
            LocalTimeError::OutOfRange => self
                .bad_value(cell, "is outside the range in which the database converts times")
                .with_hint(self.or_null()),
        }
    }

    /// How to use the values of the type.
    fn help(&self, advice: Advice) -> String {
        match advice {
            Advice::Write(expression) | Advice::Convert { moment: expression, .. } => {
                self.written(expression)
            }
            Advice::Bytes => format!("use it as a label, or {}", self.written(LENGTH)),
            Advice::Label => "use it as a label".to_owned(),
        }
    }

    /// How to turn dates that do not exist into NULL.
    fn or_null(&self) -> String {
        match self.column.advice {
            Advice::Convert { or_null, .. } => {
                format!("{} to make it NULL, or set `invalid: skip`", self.written(or_null))
            }
            _ => OF_TEXT.to_owned(),
        }
    }

    /// An expression of the column as advice: "write `coalesce(at, 0) AS at` in the SELECT".
    pub fn written(&self, expression: &str) -> String {
        let Column { name, quote, .. } = &self.column;
        format!("write `{}` in the SELECT", written(expression, name, *quote))
    }

    /// A `value` error: column, type, the value shortened, and `why`.
    pub fn bad_value(&self, cell: &Cell<'_>, why: &str) -> Error {
        let mut scratch = String::new();
        let shown = shorten(cell.label(&mut scratch));
        let (name, type_name) = (&self.column.name, &self.column.type_name);
        Error::new(Reason::Value, format!("column `{name}` ({type_name}): {shown} {why}"))
    }
}

/// A value as an error shows it: in quotes, control characters escaped, shortened.
pub fn shorten(text: &str) -> String {
    let start = plain_text::start(text, SHOWN);
    if start.len() < text.len() {
        format!("{start:?}… ({} bytes)", text.len())
    } else {
        format!("{text:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::ColumnContent;

    fn columns(names: &[&str]) -> Vec<Column> {
        let column = |name: &&str| Column {
            name: (*name).into(),
            type_name: "jsonb".into(),
            advice: Advice::Write("({} ->> 'FIELD')::numeric"),
            quote: '"',
            content: ColumnContent::Unknown,
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
    fn a_type_that_is_not_a_number_names_what_to_write() {
        let bound = BoundColumn::new(&columns(&["doc"]), "doc").unwrap();
        let cell = Cell::Other("{}");
        let error = bound.not_a_number(&cell, cell.number());
        assert_eq!(error.reason(), Reason::Type);
        let expected = "column `doc` is of type jsonb, which is not a number; \
                        write `(doc ->> 'FIELD')::numeric AS doc` in the SELECT";
        assert_eq!(error.to_string(), expected);
        let cell = Cell::Bytes(&[1, 255]);
        let expected = "column `doc` is of type jsonb, which is not a number; \
                        use it as a label, or write `length(doc) AS doc` in the SELECT";
        assert_eq!(bound.not_a_number(&cell, cell.number()).to_string(), expected);
    }

    #[test]
    fn a_date_without_a_moment_says_why_and_what_to_write() {
        let advice = Advice::Convert { moment: "UNIX({})", or_null: "NULLIF(UNIX({}), 0)" };
        let column = Column { advice, type_name: "DATETIME".into(), ..columns(&["at"]).remove(0) };
        let bound = BoundColumn::new(&[column], "at").unwrap();
        let said = |cell: Cell<'_>| bound.not_a_number(&cell, cell.number()).to_string();
        let at = |why| Cell::LocalDateTime { micros: 1_767_323_045_000_000, moment: Err(why) };
        let exact = "write `UNIX(at) AS at` in the SELECT";
        let or_null =
            "write `NULLIF(UNIX(at), 0) AS at` in the SELECT to make it NULL, or set `invalid: skip`";
        for (cell, why, help) in [
            (
                at(LocalTimeError::UnknownOffset),
                "\"2026-01-02T03:04:05\" is local time, and the offset of the session's \
              time_zone is not known for it",
                exact,
            ),
            (
                at(LocalTimeError::Twice),
                "\"2026-01-02T03:04:05\" is local time that occurs twice, as the clock is set back \
              then",
                exact,
            ),
            (
                at(LocalTimeError::OutOfRange),
                "\"2026-01-02T03:04:05\" is outside the range in which the database converts \
              times",
                or_null,
            ),
            (Cell::NoDate("0000-00-00"), "\"0000-00-00\" is not a date", or_null),
            (Cell::TextDate("2026-01-02"), "\"2026-01-02\" is a date as text, not a number", exact),
        ] {
            assert_eq!(said(cell), format!("column `at` (DATETIME): {why}; {help}"));
        }
    }

    #[test]
    fn a_value_is_shown_shortened_and_without_control_characters() {
        let bound = BoundColumn::new(&columns(&["doc"]), "doc").unwrap();
        let long = format!("a\n{}", "é".repeat(60));
        let error = bound.not_a_number(&Cell::Text(&long), Number::NotNumber);
        assert_eq!(error.reason(), Reason::Value);
        let start = format!("column `doc` (jsonb): \"a\\n{}\"… (122 bytes) is not a number", "é".repeat(15));
        assert!(error.to_string().starts_with(&start), "{error}");
        let cell = Cell::Number("1e400");
        let error = bound.not_a_number(&cell, cell.number());
        assert_eq!(error.to_string(), "column `doc` (jsonb): \"1e400\" is too large for a 64-bit float");
    }
}
