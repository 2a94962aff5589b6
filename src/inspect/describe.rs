//! `check --connect`: each query is described on each of its targets, never run, and the columns are compared with what
//! its metrics do with them. What a scrape may accept is never an error here.

use std::sync::Arc;

use serde::Serialize;

use super::report::{Finding, Severity, error_text, without_secrets};
use super::runner::{OpenSession, Runner, WithoutThreads};
use super::source_position::place_of;
use super::sql_compare::{tokens, with_depth};
use crate::config::foreach::Foreach;
use crate::config::query::Query;
use crate::config::target::TargetConfig;
use crate::config::{Config, several};
use crate::deadline::Deadline;
use crate::driver::{Column, ColumnContent, ServerFacts};
use crate::engine::foreach::labels_of_columns;
use crate::engine::run::{RunEnd, SkipCause};
use crate::error::{Error, Reason, Result};
use crate::metric::column::{BoundColumn, OF_TEXT, find};
use crate::metric::{ColumnNeed, ColumnUse};
use crate::value::Cell;
use crate::yaml::keys::nearest;

/// What one target reports.
#[derive(Debug, Default, Serialize)]
pub struct DescribedTarget {
    /// Its name.
    pub target: String,
    /// From the login.
    pub flavor: Option<String>,
    /// From the login.
    pub version: Option<String>,
    /// From the login.
    pub role: Option<String>,
    /// Why its queries could not be described, or not all of them.
    #[serde(serialize_with = "error_text")]
    pub error: Option<Error>,
    /// How many of its queries were described.
    pub described: usize,
    /// Queries whose columns the server reports only when it runs them.
    pub untold: Vec<String>,
    /// Queries that would not run there.
    pub skipped: Vec<SkippedQuery>,
    /// About its queries, before it is known which other targets report the same.
    #[serde(skip)]
    findings: Vec<Finding>,
}

/// A query that would not run on a target.
#[derive(Debug, Serialize)]
pub struct SkippedQuery {
    /// Its name.
    pub query: String,
    /// The condition of `when` that does not hold, or what the server refuses.
    pub why: String,
}

/// What all targets report.
#[derive(Debug, Default)]
pub struct Description {
    /// The enabled targets, in configuration order.
    pub targets: Vec<DescribedTarget>,
    /// About queries; what several targets report of one is one finding.
    pub findings: Vec<Finding>,
}

/// Describes the queries on all enabled targets at once. Blocks until `by` at most; `progress` is called with the number of
/// targets done, and of all.
pub fn run(config: &Config, by: Deadline, progress: impl Fn(usize, usize)) -> Description {
    let targets: Vec<Arc<TargetConfig>> =
        config.targets.iter().filter(|target| target.enabled).cloned().collect();
    let work = |target: &TargetConfig, session: &mut OpenSession| {
        let mut described = DescribedTarget::default();
        described.error = described.describe_all(target, session).err();
        described
    };
    let progress = |done| progress(done, targets.len());
    let results = Runner::default().on_each_target(&targets, by, WithoutThreads::RunHere, progress, work);
    let unreached = |error| DescribedTarget { error: Some(error), ..DescribedTarget::default() };
    let mut described: Vec<DescribedTarget> =
        results.into_iter().map(|(result, _)| result.unwrap_or_else(unreached)).collect();
    for (target, described) in targets.iter().zip(&mut described) {
        described.target.clone_from(&target.name);
        described.error = described.error.take().map(|error| error.on_target(&target.name));
    }
    let mut findings = merge(config, &described);
    let failures = described.iter().filter_map(|target| target.error.clone());
    findings.extend(failures.map(|error| Finding::new(Severity::Error, error)));
    Description { targets: described, findings }
}

/// A finding at the place in the SQL that the error names, else at the SQL.
fn on_sql(query: &Query, severity: Severity, error: Error) -> Finding {
    let whole = &query.sql_place;
    let place = error
        .sql_position()
        .map_or_else(|| (**whole).clone(), |position| place_of(whole, query.sql.text(), position));
    Finding::new(severity, error.at(place).in_query(&query.name))
}

impl DescribedTarget {
    /// # Errors
    /// The session died or ran out of time: the rest is not known.
    fn describe_all(&mut self, target: &TargetConfig, session: &mut OpenSession) -> Result<()> {
        for query in target.running() {
            if !session.is_usable() {
                let text = "not all queries were described: no time was left, or a `when.sql` or `foreach.sql` ended the session";
                return Err(Error::new(Reason::Timeout, text));
            }
            match query.when.as_ref().map(|when| session.unmet_condition(when)) {
                None | Some(Ok(None)) => {}
                Some(Ok(Some(cause))) => {
                    self.skip(query, &cause);
                    continue;
                }
                Some(Err(error)) if session.is_usable() => self.refuse(query, error),
                Some(Err(error)) => return Err(error),
            }
            let described =
                parameters(query, session).and_then(|parameters| session.describe(&query.sql, parameters));
            match described {
                Ok(None) => {
                    self.untold.push(query.name.to_string());
                    self.findings.push(on_sql(query, Severity::Note, unknown_columns(&query.name)));
                }
                Ok(Some(columns)) => {
                    self.described += 1;
                    self.findings.extend(compare(query, &columns));
                }
                Err(error) if session.is_usable() => self.refuse(query, error),
                Err(error) => return Err(error),
            }
        }
        let ServerFacts { flavor, version, role, .. } = session.facts().clone();
        self.flavor = Some(flavor);
        self.version = Some(version);
        self.role = Some(role);
        Ok(())
    }

    /// A scrape leaves the query out. What the user may not do is also a note: a grant changes it.
    fn skip(&mut self, query: &Query, cause: &SkipCause) {
        let (name, why) = (query.name.to_string(), cause.text().to_owned());
        self.skipped.push(SkippedQuery { query: name, why });
        if let Some(error) = cause.lacks() {
            let error =
                error.clone().with_hint("a scrape skips the query; docs/packs.md lists the grants of packs");
            self.findings.push(on_sql(query, Severity::Note, error));
        }
    }

    /// The server refuses a statement of the query: a scrape leaves it out, or fails.
    fn refuse(&mut self, query: &Query, error: Error) {
        match RunEnd::of_error(Some(query), error) {
            RunEnd::Skipped(cause) => self.skip(query, &cause),
            RunEnd::Failed(error) => self.findings.push(on_sql(query, Severity::Error, error)),
            RunEnd::Good(_) | RunEnd::Partial(..) => {}
        }
    }
}

/// How many parameters a query binds: the columns of its `foreach`.
///
/// # Errors
/// `foreach.sql` fails, or its columns cannot be labels; the session died.
fn parameters(query: &Query, session: &mut OpenSession) -> Result<usize> {
    match query.foreach.as_deref() {
        None => Ok(0),
        Some(Foreach::Values(values)) => Ok(values.labels.len()),
        Some(Foreach::Sql { sql, .. }) => {
            match session.describe(sql, 0).map_err(|error| error.about_key("foreach.sql"))? {
                Some(columns) => labels_of_columns(query, &columns, |_| false).map(|labels| labels.len()),
                // Some drivers tell the columns only when the statement runs.
                None => Ok(usize::MAX),
            }
        }
    }
}

fn unknown_columns(query: &str) -> Error {
    let text =
        "the server reports the columns only when it runs the query: they are not compared with its metrics";
    Error::new(Reason::Sql, text).with_hint(format!("`sql-exporter try --query {query}` runs it once"))
}

/// One finding for the same of several targets, in configuration order.
fn merge(config: &Config, targets: &[DescribedTarget]) -> Vec<Finding> {
    let mut merged: Vec<(&Finding, Vec<&str>)> = Vec::new();
    for DescribedTarget { target, findings, .. } in targets {
        for finding in findings {
            match merged.iter_mut().find(|(known, _)| *known == finding) {
                Some((_, targets)) => targets.push(target),
                None => merged.push((finding, vec![target])),
            }
        }
    }
    let finding = |(Finding { severity, error, .. }, targets): (&Finding, Vec<&str>)| {
        let place = without_secrets(config, error.place().cloned().unwrap_or_default());
        Finding::new(*severity, error.clone().at(place).on_target(&several(&targets)))
    };
    merged.into_iter().map(finding).collect()
}

/// What does not fit between the columns that a database reports and the metrics of a query.
fn compare(query: &Query, columns: &[Column]) -> Vec<Finding> {
    let is_chosen = chooses_columns(query.sql.text());
    let mut findings: Vec<Finding> = Vec::new();
    let mut used = vec![false; columns.len()];
    for metric in query.metrics.iter() {
        for taken in metric.uses() {
            let found = match find(columns, &taken.column) {
                Ok(index) => {
                    used[index] = true;
                    unfit_type(&taken, columns, metric.naming.text(), is_chosen)
                }
                Err(error) => {
                    // The column that was probably meant is not reported as unused as well.
                    let near = nearest(&taken.column, columns.iter().map(|column| &*column.name));
                    for (column, used) in columns.iter().zip(&mut used) {
                        *used |= near == Some(&*column.name);
                    }
                    let hint = near.filter(|_| error.hint().is_none());
                    let hint = hint.map(|near| format!("did you mean `{near}`?"));
                    Some((Severity::Error, error.with_hint_if_any(hint)))
                }
            };
            if let Some((severity, error)) = found
                && !findings.iter().any(|known| known.error.message() == error.message())
                // The texts that built-in collectors read as numbers are known to be numbers.
                && !(severity == Severity::Note && query.sql.is_catalog_only())
            {
                findings.push(Finding::new(severity, error.at(metric.place.clone()).in_query(&query.name)));
            }
        }
    }
    let unused = columns.iter().zip(used).filter(|(_, used)| !used);
    let unused: Vec<String> = unused.map(|(column, _)| format!("`{}`", column.name)).collect();
    if is_chosen && !unused.is_empty() && !selects_all(query.sql.text()) {
        let (columns, are) = if unused.len() == 1 { ("column", "is") } else { ("columns", "are") };
        let text = format!("{columns} {} {are} selected and used by no metric", unused.join(", "));
        let error = Error::new(Reason::Sql, text);
        let error = error.with_hint("leave it out of the SELECT, or make it a label or a value");
        findings.push(on_sql(query, Severity::Warning, error));
    }
    findings
}

/// Whether the author of a statement decides which columns it has, and of which types.
fn chooses_columns(sql: &str) -> bool {
    let first = tokens(sql).into_iter().find(|token| token != "(");
    first.is_some_and(|word| matches!(word.as_str(), "select" | "with" | "values" | "table"))
}

/// Whether a statement names none of its columns: `SELECT *`, `SELECT t.*`, `TABLE t`. Unlike a product's, this asterisk has
/// no operand after it.
fn selects_all(sql: &str) -> bool {
    let tokens: Vec<String> = tokens(sql).into_iter().skip_while(|token| token == "(").collect();
    let has_asterisk = with_depth(&tokens).any(|(depth, at, token)| {
        let next = tokens.get(at + 1).map(String::as_str);
        depth == 0 && token == "*" && matches!(next, Some("from" | ","))
    });
    has_asterisk || tokens.first().is_some_and(|first| first == "table")
}

/// A column of a type that the metric cannot use, or of which only rows can show whether it can.
fn unfit_type(
    taken: &ColumnUse,
    columns: &[Column],
    metric: &str,
    is_chosen: bool,
) -> Option<(Severity, Error)> {
    let bound = BoundColumn::new(columns, &taken.column).ok()?;
    let column = columns.iter().find(|column| *column.name == *bound.name())?;
    let (name, type_name, part) = (&column.name, &column.type_name, &taken.part);
    match (taken.needs, column.content) {
        (ColumnNeed::Anything, _)
        | (_, ColumnContent::Unknown | ColumnContent::Number | ColumnContent::Moment) => None,
        (ColumnNeed::Number | ColumnNeed::Moment, ColumnContent::LocalTime) => {
            Some((Severity::Error, bound.no_zone()))
        }
        (ColumnNeed::Number | ColumnNeed::Moment, ColumnContent::Other) => {
            let cell = Cell::Other("");
            Some((Severity::Error, bound.not_a_number(&cell, cell.number())))
        }
        (ColumnNeed::Number | ColumnNeed::Moment, ColumnContent::Text | ColumnContent::Bytes) => {
            let text = format!(
                "column `{name}` is of type {type_name}, and {part} of {metric} needs a number: each text must be one"
            );
            let error = Error::new(Reason::Type, text);
            Some((Severity::Note, if is_chosen { error.with_hint(OF_TEXT) } else { error }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_of_the_select_list_takes_all_columns() {
        for sql in [
            "SELECT * FROM t",
            "(SELECT DISTINCT t.*, u.a FROM t, u)",
            "WITH x AS (SELECT a FROM t) SELECT b, * FROM x",
            "SELECT DISTINCT ON (a) * FROM t",
            "TABLE t",
        ] {
            assert!(selects_all(sql), "{sql}");
        }
        for sql in
            ["SELECT count(*), a * b FROM t", "SELECT a FROM (SELECT * FROM t) AS x", "SELECT '*', a FROM t"]
        {
            assert!(!selects_all(sql), "{sql}");
        }
    }
}
