//! `try`: one statement on one target, once and for people: its rows, what becomes of each column, the samples, the time.
//!
//! A configured query runs as a scrape runs it, through the production sink, on a session of its own. Any other SQL runs once;
//! a definition is proposed for its rows, which then go through that. `choose` finds the query and the target by name,
//! `recording_sink` watches the rows, `column_mapping` describes the columns, `statement` runs it all.

mod choose;
mod column_mapping;
mod proposal;
mod recording_sink;
mod statement;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::report::{error_object, without_secrets};
use super::runner::Runner;
use super::source_position::place_of;
use crate::config::Config;
use crate::config::query::Query;
use crate::config::target::TargetConfig;
use crate::deadline::Deadline;
use crate::driver::Sql;
use crate::error::{Error, Reason, SourcePosition};
use crate::metric::Metric;
use crate::metric::samples::SkippedValues;

pub use self::choose::{query, target};
pub use self::column_mapping::MappedColumn;

/// What to run.
pub enum TriedStatement {
    /// A query as it is configured for the target.
    Query(Arc<Query>),
    /// A statement without metrics.
    Sql(Sql),
}

/// What to do.
pub struct TryRequest<'c> {
    /// The configuration of the target.
    pub config: &'c Config,
    /// Where.
    pub target: &'c TargetConfig,
    /// What.
    pub statement: TriedStatement,
    /// How many rows to show.
    pub rows: usize,
    /// Whether to show the database's query plan too.
    pub explain: bool,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// One column of a result.
#[derive(Debug, Serialize)]
pub struct ResultColumn {
    /// Its name.
    pub name: String,
    /// The database's name of its type.
    #[serde(rename = "type")]
    pub type_name: String,
}

/// Rows as text; `None` is NULL.
#[derive(Debug, Serialize)]
pub struct ResultTable {
    /// The columns.
    pub columns: Vec<ResultColumn>,
    /// The first rows.
    pub rows: Vec<Vec<Option<String>>>,
}

/// How long each step took; `None` where it did not come to that.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct StepTimes {
    /// Connect and login.
    #[serde(serialize_with = "seconds")]
    pub connect: Option<Duration>,
    /// From the start of the statement to its first row.
    #[serde(serialize_with = "seconds")]
    pub first_row: Option<Duration>,
    /// From the first row to the last, without `render`.
    #[serde(serialize_with = "seconds")]
    pub rows: Option<Duration>,
    /// Rows to samples.
    #[serde(serialize_with = "seconds")]
    pub render: Option<Duration>,
}

fn seconds<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

/// The outcome.
#[derive(Debug, Default, Serialize)]
pub struct TryReport {
    /// The target's name.
    pub target: String,
    /// The target's driver.
    pub driver: String,
    /// The server's version.
    pub version: Option<String>,
    /// The query's name; `None` for other SQL.
    pub query: Option<String>,
    /// The statement.
    pub sql: String,
    /// Why a scrape would leave it out, in sentences.
    #[serde(rename = "skipped_because")]
    pub skipped: Vec<String>,
    /// The columns of the result; `None` where there was none.
    pub columns: Option<Vec<ResultColumn>>,
    /// The first rows.
    pub rows: Option<Vec<Vec<Option<String>>>>,
    /// How many rows came.
    pub row_count: Option<u64>,
    /// Not all rows were read.
    #[serde(skip)]
    pub stopped: bool,
    /// What becomes of the columns.
    pub mapping: Vec<MappedColumn>,
    /// The database's query plan; `None` where it was not asked for, or where there is none.
    pub plan: Option<ResultTable>,
    /// The samples as a page shows them; `None` after an error.
    pub exposition: Option<String>,
    /// How many samples.
    pub series: Option<u64>,
    /// How many metric families.
    pub families: Option<usize>,
    /// Values that make no sample.
    pub values_skipped: Option<SkippedValues>,
    /// An entry to copy below `queries:`.
    pub proposal: Option<String>,
    /// About the samples, in sentences.
    pub warnings: Vec<String>,
    /// How long each step took.
    #[serde(rename = "seconds")]
    pub times: StepTimes,
    /// What failed, with its place in the configuration.
    #[serde(serialize_with = "error_object")]
    pub error: Option<Error>,
}

/// Runs the statement. Blocks for its timeout at most, and a moment to close the session.
pub fn run(request: &TryRequest<'_>, runner: &Runner) -> TryReport {
    let mut report = TryReport {
        target: request.target.name.clone(),
        driver: request.target.driver.to_owned(),
        query: request.query().map(|query| query.name.to_string()),
        sql: request.sql().text().to_owned(),
        ..TryReport::default()
    };
    let start = Instant::now();
    let ended = runner.on_target(request.target, Deadline::within(request.timeout), |session| {
        report.times.connect = Some(start.elapsed());
        report.version = Some(session.facts().version.clone());
        statement::run(request, session, &mut report)
    });
    runner.close();
    if let Err(error) | Ok(Err(error)) = ended {
        report.error.get_or_insert(error);
    }
    report.error = report.error.take().map(|error| request.placed(error));
    report
}

impl TryRequest<'_> {
    fn sql(&self) -> &Sql {
        match &self.statement {
            TriedStatement::Query(query) => &query.sql,
            TriedStatement::Sql(sql) => sql,
        }
    }

    fn query(&self) -> Option<&Query> {
        match &self.statement {
            TriedStatement::Query(query) => Some(query),
            TriedStatement::Sql(_) => None,
        }
    }

    /// The error with its target and its place.
    fn placed(&self, error: Error) -> Error {
        let error = error.on_target(&self.target.name);
        if error.place().is_some() {
            return error;
        }
        let place = match (self.query(), error.sql_position()) {
            (Some(query), Some(position)) => Some(place_of(&query.sql_place, query.sql.text(), position)),
            (Some(query), None) => place_in_query(query, &error),
            (None, Some(position)) => {
                let at = position.line.saturating_sub(1);
                let source = self.sql().text().lines().nth(at).map(str::to_owned);
                let (line, column) = (position.line, position.column);
                Some(SourcePosition { file: "--sql".to_owned(), line, column, path: String::new(), source })
            }
            (None, None) => None,
        };
        match place {
            Some(place) => error.at(without_secrets(self.config, place)),
            None => error,
        }
    }
}

/// The part of the configuration that an error of rows or statements is about; `None` for one of the connection.
fn place_in_query(query: &Query, error: &Error) -> Option<SourcePosition> {
    match error.reason() {
        _ if error.message().starts_with("when.sql: ") => Some((*query.place).clone()),
        Reason::MissingColumn | Reason::Type | Reason::Value => {
            let is_named = |column: &str| error.message().contains(&format!("`{column}`"));
            let uses_it = |metric: &&Metric| metric.uses().iter().any(|taken| is_named(&taken.column));
            let metric = query.metrics.iter().find(uses_it);
            Some(metric.map_or_else(|| (*query.place).clone(), |metric| metric.place.clone()))
        }
        Reason::Duplicate | Reason::Limit => Some((*query.place).clone()),
        Reason::Sql | Reason::ReadOnly | Reason::Permission => Some((*query.sql_place).clone()),
        _ => None,
    }
}
