//! The columns that a database promises, against what the metrics of a query do with them. What a scrape may take is never
//! an error here.

use super::Severity;
use crate::config::query::Query;
use crate::driver::{Column, Content};
use crate::error::{Error, Reason, SourcePosition};
use crate::inspect::sql_compare::tokens;
use crate::metric::column::{BoundColumn, OF_TEXT, find};
use crate::metric::{ColumnNeed, ColumnUse};
use crate::value::Cell;
use crate::yaml::keys::nearest;

/// What is wrong, or odd.
pub(super) struct Found {
    pub(super) severity: Severity,
    /// The metric's; none where the statement itself is meant.
    pub(super) place: Option<SourcePosition>,
    pub(super) error: Error,
}

/// Everything that does not fit.
pub(super) fn compare(query: &Query, columns: &[Column]) -> Vec<Found> {
    let chosen = chooses_columns(query.sql.text());
    let mut found: Vec<Found> = Vec::new();
    let mut used = vec![false; columns.len()];
    for metric in query.metrics.iter() {
        for taken in metric.uses() {
            let remark = match find(columns, &taken.column) {
                Ok(place) => {
                    used[place] = true;
                    misfit(&taken, columns, metric.naming.text(), chosen)
                }
                Err(error) => {
                    // Not called unused as well: which column was meant is what is wrong.
                    let meant = meant(&taken, columns);
                    let of_that_name =
                        columns.iter().zip(&mut used).filter(|(column, _)| meant == Some(&*column.name));
                    of_that_name.for_each(|(_, used)| *used = true);
                    Some((Severity::Error, missing(error, meant)))
                }
            };
            if let Some((severity, error)) = remark
                && !found.iter().any(|known| known.error == error)
                // The texts that packs read as numbers are known to be some.
                && !(severity == Severity::Note && query.sql.is_catalog_only())
            {
                found.push(Found { severity, place: Some(metric.place.clone()), error });
            }
        }
    }
    let unused = columns.iter().zip(used).filter(|(_, used)| !used).map(|(column, _)| &*column.name);
    let unused: Vec<String> = unused.map(|name| format!("`{name}`")).collect();
    if chosen && !unused.is_empty() {
        let (columns, are) = if unused.len() == 1 { ("column", "is") } else { ("columns", "are") };
        let text = format!("{columns} {} {are} selected and used by no metric", unused.join(", "));
        let hint = "leave it out of the SELECT, or make it a label or a value";
        let error = Error::new(Reason::Sql, text).with_hint(hint);
        found.push(Found { severity: Severity::Warning, place: None, error });
    }
    found
}

/// Whether the author of a statement decides which columns it has, and of which types.
fn chooses_columns(sql: &str) -> bool {
    let first = tokens(sql).into_iter().find(|token| token != "(");
    first.is_some_and(|word| matches!(word.as_str(), "select" | "with" | "values" | "table"))
}

/// The name of the column, or of the two, that was probably meant.
fn meant<'c>(taken: &ColumnUse, columns: &'c [Column]) -> Option<&'c str> {
    nearest(&taken.column, columns.iter().map(|column| &*column.name))
}

fn missing(error: Error, meant: Option<&str>) -> Error {
    match meant {
        Some(near) if error.hint().is_none() => error.with_hint(format!("did you mean `{near}`?")),
        _ => error,
    }
}

/// A column of a type that the metric cannot use, or of which nobody knows before there are rows.
fn misfit(taken: &ColumnUse, columns: &[Column], metric: &str, chosen: bool) -> Option<(Severity, Error)> {
    let bound = BoundColumn::new(columns, &taken.column).ok()?;
    let column = columns.iter().find(|column| *column.name == *bound.name())?;
    let (name, type_name, part) = (&column.name, &column.type_name, &taken.part);
    match (taken.needs, column.content) {
        (ColumnNeed::Anything, _) | (_, Content::Unknown | Content::Number | Content::Moment) => None,
        (ColumnNeed::Number | ColumnNeed::Moment, Content::LocalTime) => {
            Some((Severity::Error, bound.no_zone()))
        }
        (ColumnNeed::Number | ColumnNeed::Moment, Content::Other) => {
            let cell = Cell::Other("");
            Some((Severity::Error, bound.not_a_number(&cell, cell.number())))
        }
        (ColumnNeed::Number | ColumnNeed::Moment, Content::Text | Content::Bytes) => {
            let text = format!(
                "column `{name}` is of type {type_name}, and {part} of {metric} needs a number: each text must be one"
            );
            let error = Error::new(Reason::Type, text);
            Some((Severity::Note, if chosen { error.with_hint(OF_TEXT) } else { error }))
        }
    }
}
