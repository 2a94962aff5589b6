//! `tests:` of files with queries: rows go through the code that the rows of a scrape go through, and the result is
//! compared with what the test expects. No configured database takes part.
//!
//! `rows` plays the rows that a test writes, `exposition` reads an exposition, `compare` finds how two differ.

mod compare;
mod exposition;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::config::Config;
use crate::config::exporter::LabelsTooLong;
use crate::config::foreach::Foreach;
use crate::config::query_tests::{QueryTest, TestExpectation, TestInput};
use crate::deadline::Deadline;
use crate::driver::{Health, Job, Parameter, RowSink, Session, Sql, sqlite};
use crate::engine::foreach::{ForeachRun, ValuesSink};
use crate::engine::query_sink::{RenderedResult, SampleContext, sink, sink_of_value};
use crate::engine::run::RunEnd;
use crate::error::{Error, Reason, Result};
use crate::metric::labels::LabelLimit;

/// For a script, and the query on its database.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueryTestResult {
    /// What it shows.
    pub name: String,
    /// The query's name.
    pub query: String,
    /// Where the test is.
    pub file: String,
    /// Where the test is.
    pub line: usize,
    /// Whether the result is as expected.
    pub passed: bool,
    /// Why not, in lines: samples that are missing begin with `-`, those that came instead with `+`.
    pub why: Vec<String>,
}

/// Runs all tests of a configuration in the order of its files. Blocks for up to ten seconds a test.
#[must_use]
pub fn run(config: &Config) -> Vec<QueryTestResult> {
    let limit = LabelLimit {
        bytes: config.exporter.max_label_length,
        truncate: config.exporter.labels_too_long == LabelsTooLong::Truncate,
    };
    // Neither the target's name nor its labels: a test says what a query makes, wherever it runs.
    let context = SampleContext::new(None, &[], limit).with_max_cell_bytes(config.exporter.max_cell_bytes);
    config.query_tests.iter().map(|test| run_one(test, &context)).collect()
}

fn run_one(test: &QueryTest, context: &SampleContext) -> QueryTestResult {
    let why = match (render(test, context), &test.expected) {
        (Err(unfit), _) => vec![unfit.to_string()],
        (Ok(Ok(rendered)), TestExpectation::Exposition(text)) => {
            compare::differences(&test.query, &rendered, text).unwrap_or_else(|unreadable| vec![unreadable])
        }
        (Ok(Err(error)), TestExpectation::Exposition(_)) => vec![error.to_string()],
        (Ok(Ok(rendered)), TestExpectation::Error(part)) => {
            let series = rendered.series;
            let samples = if series == 1 { "sample" } else { "samples" };
            vec![format!("- error: {part}"), format!("+ no error; {series} {samples} made")]
        }
        (Ok(Err(error)), TestExpectation::Error(part)) => match error.to_string() {
            text if text.contains(part.trim()) => Vec::new(),
            text => vec![format!("- error: {part}"), format!("+ error: {text}")],
        },
    };
    QueryTestResult {
        name: test.name.clone(),
        query: test.query.name.to_string(),
        file: test.place.file.clone(),
        line: test.place.line,
        passed: why.is_empty(),
        why,
    }
}

/// What the query makes of the test's rows.
///
/// # Errors
/// What keeps the query from being run at all: the script failed. The query's own error is inside.
fn render(test: &QueryTest, context: &SampleContext) -> Result<Result<Arc<RenderedResult>>> {
    if let Some(foreach) = test.query.foreach.as_deref() {
        return render_values(test, foreach, context);
    }
    let mut result = None;
    let ended = Box::new(|rendered, _| result = Some(rendered));
    let mut sink = sink(&test.query, context, ended);
    match &test.given {
        TestInput::Rows { columns, rows } => rows::play(columns, rows, &mut *sink),
        TestInput::Sqlite(script) => run_on_sqlite(script, test, context, &mut *sink)?,
    }
    drop(sink);
    // Invariant: who runs a sink ends it. A session that did not has a bug of its own.
    Ok(result.unwrap_or_else(not_ended).map(Arc::new))
}

fn not_ended<T>() -> Result<T> {
    Err(Error::new(Reason::Protocol, "the query was not ended"))
}

/// The same for a query with `foreach`: each value gets the rows of the test, or those that its script makes for it.
fn render_values(
    test: &QueryTest,
    foreach: &Foreach,
    context: &SampleContext,
) -> Result<Result<Arc<RenderedResult>>> {
    let (query, by) = (&*test.query, Deadline::within(TIMEOUT));
    let mut session = match &test.given {
        TestInput::Rows { .. } => None,
        TestInput::Sqlite(script) => Some(sqlite::session_in_memory(script, by)?),
    };
    let values = match (foreach, &test.foreach, &mut session) {
        (Foreach::Values(values), ..) | (_, Some(values), _) => Arc::clone(values),
        (Foreach::Sql { sql, .. }, None, Some(session)) => {
            let mut sink = ValuesSink::new(query, context);
            run_on(&mut **session, by, sql, &[], context, &mut sink)?;
            match sink.result().unwrap_or_else(not_ended) {
                Ok(values) => Arc::new(values),
                Err(error) => return Ok(Err(error.in_query(&query.name))),
            }
        }
        // Such a test has a fault.
        (Foreach::Sql { .. }, None, None) => return Ok(not_ended()),
    };
    let run = ForeachRun::new(values, context, by);
    for index in run.left() {
        let mut ended = None;
        let on_end = Box::new(|result, took| ended = Some((result, took)));
        let mut sink = sink_of_value(query, context, run.labels(index), on_end);
        match (&test.given, &mut session) {
            (TestInput::Rows { columns, rows }, _) => rows::play(columns, rows, &mut *sink),
            (_, Some(session)) => {
                run_on(&mut **session, by, &query.sql, run.parameters(index), context, &mut *sink)?;
            }
            (TestInput::Sqlite(_), None) => {}
        }
        drop(sink);
        let (result, took) = ended.unwrap_or_else(|| (not_ended(), Duration::ZERO));
        run.end_value(query, index, result, took);
    }
    Ok(match run.end(query) {
        RunEnd::Good(rendered) => Ok(rendered),
        RunEnd::Failed(error) | RunEnd::Partial(_, error) => Err(error.in_query(&query.name)),
        RunEnd::Skipped(_) => not_ended(),
    })
}

fn run_on_sqlite(
    script: &str,
    test: &QueryTest,
    context: &SampleContext,
    sink: &mut dyn RowSink,
) -> Result<()> {
    let by = Deadline::within(TIMEOUT);
    let mut session = sqlite::session_in_memory(script, by)?;
    run_on(&mut *session, by, &test.query.sql, &[], context, sink)
}

fn run_on(
    session: &mut dyn Session,
    by: Deadline,
    sql: &Sql,
    parameters: &[Parameter],
    context: &SampleContext,
    sink: &mut dyn RowSink,
) -> Result<()> {
    let max_cell_bytes = context.max_cell_bytes;
    let job = Job { sql, parameters, allowance: by.left(), max_cell_bytes, sink };
    match session.run(&mut [job], by) {
        Health::Clean | Health::Spent => Ok(()),
        Health::Lost(error) => Err(error),
    }
}
