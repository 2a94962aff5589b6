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
use crate::config::foreach::Foreach;
use crate::config::query_tests::{QueryTest, TestExpectation, TestInput};
use crate::deadline::Deadline;
use crate::driver::{Health, Job, Parameter, RowSink, Session, Sql, sqlite};
use crate::engine::foreach::{ForeachRun, values_sink};
use crate::engine::query_sink::{self, RenderedResult, SampleContext, SizeHint};
use crate::engine::run::RunEnd;
use crate::engine::targets::sample_context;
use crate::error::{Error, Reason, Result};
use crate::name::LabelName;

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
pub fn run(config: &Config) -> Vec<QueryTestResult> {
    // Neither the target's name nor its labels: a test says what a query makes, wherever it runs.
    let context = sample_context(&config.exporter, None);
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
    let query = &*test.query;
    let mut source = RowSource::new(test, context)?;
    let values = match (query.foreach.as_deref(), &test.foreach) {
        (None, _) => return Ok(source.run_query(&[], &[])?.0.map(Arc::new)),
        (Some(Foreach::Values(values)), _) | (_, Some(values)) => Arc::clone(values),
        (Some(Foreach::Sql { sql, .. }), None) => {
            let mut sink = values_sink(query, context);
            source.run(sql, &[], &mut sink)?;
            match sink.answer().unwrap_or_else(not_ended) {
                Ok(reader) => reader.into_values(),
                Err(error) => return Ok(Err(error.in_query(&query.name))),
            }
        }
    };
    let run = ForeachRun::new(values, context, source.by);
    for index in run.left() {
        let (result, took) = source.run_query(run.labels(index), run.parameters(index))?;
        run.end_value(query, index, result, took);
    }
    Ok(match run.end(query) {
        RunEnd::Good(rendered) => Ok(rendered),
        RunEnd::Failed(error) | RunEnd::Partial(_, error) => Err(error.in_query(&query.name)),
        RunEnd::Skipped(_) => not_ended(),
    })
}

fn not_ended<T>() -> Result<T> {
    Err(Error::new(Reason::Protocol, "the query was not ended"))
}

/// Where the rows of one test come from.
struct RowSource<'t> {
    test: &'t QueryTest,
    context: &'t SampleContext,
    by: Deadline,
    /// On the database that the test's script makes; `None` where the test writes the rows.
    session: Option<Box<dyn Session>>,
}

impl<'t> RowSource<'t> {
    /// # Errors
    /// The script fails.
    fn new(test: &'t QueryTest, context: &'t SampleContext) -> Result<Self> {
        let by = Deadline::within(TIMEOUT);
        let session = match &test.given {
            TestInput::Rows { .. } => None,
            TestInput::Sqlite(script) => Some(sqlite::session_in_memory(script, by)?),
        };
        Ok(RowSource { test, context, by, session })
    }

    /// What the query makes of its rows, all of which have these labels, and how long it took.
    ///
    /// # Errors
    /// The session died.
    fn run_query(
        &mut self,
        labels: &[(LabelName, String)],
        parameters: &[Parameter],
    ) -> Result<(Result<RenderedResult>, Duration)> {
        let (test, context) = (self.test, self.context);
        let mut ended = None;
        let on_end = Box::new(|result, took| ended = Some((result, took)));
        let mut sink = query_sink::sink(&test.query, context, labels, SizeHint::default(), on_end);
        match &test.given {
            TestInput::Rows { columns, rows } => rows::play(columns, rows, &mut *sink),
            TestInput::Sqlite(_) => self.run(&test.query.sql, parameters, &mut *sink)?,
        }
        drop(sink);
        // Invariant: who runs a sink ends it. A session that did not has a bug of its own.
        Ok(ended.unwrap_or_else(|| (not_ended(), Duration::ZERO)))
    }

    fn run(&mut self, sql: &Sql, parameters: &[Parameter], sink: &mut dyn RowSink) -> Result<()> {
        // A test with rows runs no statement.
        let Some(session) = &mut self.session else { return Ok(()) };
        let (allowance, max_cell_bytes) = (self.by.left(), self.context.max_cell_bytes);
        match session.run(&mut [Job { sql, parameters, allowance, max_cell_bytes, sink }], self.by) {
            Health::Clean | Health::Spent => Ok(()),
            Health::Lost(error) => Err(error),
        }
    }
}
