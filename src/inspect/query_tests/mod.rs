//! `tests:` of files with queries, run: rows go through the very code that a scrape's rows go through, and what comes out
//! is held against what the case says.
//!
//! `rows` plays a case's own rows, `samples` reads an exposition, `compare` tells how two differ, `report` puts outcomes
//! into lines and JSON. Nothing here touches a configured database.

mod compare;
mod report;
mod rows;
mod samples;

use std::time::Duration;

use crate::config::Config;
use crate::config::exporter::LabelsTooLong;
use crate::config::query_tests::{QueryTest, TestExpectation, TestInput};
use crate::deadline::Deadline;
use crate::driver::{Health, Job, RowSink, sqlite};
use crate::engine::query_sink::{RenderedResult, SampleContext, sink};
use crate::error::{Error, Reason, Result, SourcePosition};
use crate::metric::labels::LabelLimit;

pub use self::report::{json, lines};

/// A script and the query on its database have this long.
const LIMIT: Duration = Duration::from_secs(10);

/// How one case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it shows.
    pub name: String,
    /// The query's name.
    pub query: String,
    /// Where it stands.
    pub place: SourcePosition,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Pass,
    /// Not so: why, in lines. Of samples those expected and missing begin with `-`, those that came instead with `+`.
    Fail(Vec<String>),
}

/// Runs all cases of a plan in the order of its files. Blocks for up to ten seconds a case; asks no configured database.
#[must_use]
pub fn run(plan: &Config) -> Vec<Outcome> {
    let limit = LabelLimit {
        bytes: plan.exporter.max_label_length,
        truncate: plan.exporter.labels_too_long == LabelsTooLong::Truncate,
    };
    // Neither the target's name nor its labels: a case says what a query makes, wherever it runs.
    let context = SampleContext::new(None, &[], limit).with_max_cell_bytes(plan.exporter.max_cell_bytes);
    plan.query_tests.iter().map(|case| outcome(case, &context)).collect()
}

fn outcome(case: &QueryTest, context: &SampleContext) -> Outcome {
    let verdict = match (rendered(case, context), &case.expected) {
        (Err(unfit), _) => Verdict::Fail(vec![unfit.to_string()]),
        (Ok(Ok(rendered)), TestExpectation::Exposition(text)) => {
            compare::compare(&case.query, &rendered, text)
        }
        (Ok(Err(error)), TestExpectation::Exposition(_)) => Verdict::Fail(vec![error.to_string()]),
        (Ok(Ok(rendered)), TestExpectation::Error(part)) => Verdict::Fail(vec![
            format!("- error: {part}"),
            format!("+ no error; {} made", counted(rendered.series)),
        ]),
        (Ok(Err(error)), TestExpectation::Error(part)) => match error.to_string() {
            text if text.contains(part.trim()) => Verdict::Pass,
            text => Verdict::Fail(vec![format!("- error: {part}"), format!("+ error: {text}")]),
        },
    };
    let (name, query) = (case.name.clone(), case.query.name.to_string());
    Outcome { name, query, place: case.place.clone(), verdict }
}

/// What the query makes of the case's rows.
///
/// # Errors
/// What keeps the query from being run at all: the script failed. The query's own error is within.
fn rendered(case: &QueryTest, context: &SampleContext) -> Result<Result<RenderedResult>> {
    let mut told = None;
    let ended = Box::new(|result, _| told = Some(result));
    let mut sink = sink(&case.query, context, ended);
    match &case.given {
        TestInput::Rows { columns, rows } => rows::play(columns, rows, &mut *sink),
        TestInput::Sqlite(script) => on_scratch(script, case, context, &mut *sink)?,
    }
    drop(sink);
    // Invariant: whoever runs a sink ends it. A session that did not is a fault of its own.
    Ok(told.unwrap_or_else(|| Err(Error::new(Reason::Protocol, "the query was not ended"))))
}

fn on_scratch(script: &str, case: &QueryTest, context: &SampleContext, sink: &mut dyn RowSink) -> Result<()> {
    let by = Deadline::within(LIMIT);
    let mut session = sqlite::session_in_memory(script, by)?;
    let mut job =
        [Job { sql: &case.query.sql, allowance: LIMIT, max_cell_bytes: context.max_cell_bytes, sink }];
    match session.run(&mut job, by) {
        Health::Clean | Health::Spent => Ok(()),
        Health::Lost(error) => Err(error),
    }
}

fn counted(samples: u64) -> String {
    format!("{samples} {}", if samples == 1 { "sample" } else { "samples" })
}
