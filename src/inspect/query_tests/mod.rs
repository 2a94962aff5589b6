//! `tests:` of files with queries: rows go through the code that the rows of a scrape go through, and the result is
//! compared with what the test expects. No configured database takes part.
//!
//! `rows` plays the rows that a test writes, `exposition` reads an exposition, `compare` finds how two differ.

mod compare;
mod exposition;
mod rows;

use std::time::Duration;

use serde::Serialize;

use crate::config::Config;
use crate::config::exporter::LabelsTooLong;
use crate::config::query_tests::{QueryTest, TestExpectation, TestInput};
use crate::deadline::Deadline;
use crate::driver::{Health, Job, RowSink, sqlite};
use crate::engine::query_sink::{RenderedResult, SampleContext, sink};
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
        (Ok(Ok(RenderedResult { series, .. })), TestExpectation::Error(part)) => {
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
fn render(test: &QueryTest, context: &SampleContext) -> Result<Result<RenderedResult>> {
    let mut result = None;
    let ended = Box::new(|rendered, _| result = Some(rendered));
    let mut sink = sink(&test.query, context, ended);
    match &test.given {
        TestInput::Rows { columns, rows } => rows::play(columns, rows, &mut *sink),
        TestInput::Sqlite(script) => run_on_sqlite(script, test, context, &mut *sink)?,
    }
    drop(sink);
    // Invariant: who runs a sink ends it. A session that did not has a bug of its own.
    Ok(result.unwrap_or_else(|| Err(Error::new(Reason::Protocol, "the query was not ended"))))
}

fn run_on_sqlite(
    script: &str,
    test: &QueryTest,
    context: &SampleContext,
    sink: &mut dyn RowSink,
) -> Result<()> {
    let by = Deadline::within(TIMEOUT);
    let mut session = sqlite::session_in_memory(script, by)?;
    let max_cell_bytes = context.max_cell_bytes;
    match session.run(&mut [Job { sql: &test.query.sql, allowance: TIMEOUT, max_cell_bytes, sink }], by) {
        Health::Clean | Health::Spent => Ok(()),
        Health::Lost(error) => Err(error),
    }
}
