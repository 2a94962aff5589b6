//! The values of a query's `foreach` on one session: reads them, runs those that have not ended, and finds the one under which
//! a session died.
//!
//! Owns no retry: `lane` brings what is left to another session.

use std::sync::Arc;
use std::time::Duration;

use super::foreach::{ForeachRun, values_sink};
use super::guarded_session::{GuardedSession, catching_panics};
use super::query_sink::{self, SampleContext, SizeHint};
use super::question::{self, NoAnswer};
use super::run::Run;
use crate::config::foreach::Foreach;
use crate::config::query::Query;
use crate::deadline::Deadline;
use crate::driver::{Health, Job, RowSink};
use crate::error::{Error, Reason};

/// How many sessions may die under the values before the rest of them fails.
const MAX_LOST_SESSIONS: usize = 3;

/// The values of a query that has not run yet.
///
/// # Errors
/// `foreach.sql` has no answer.
pub(super) fn read(
    live: &mut GuardedSession,
    query: &Query,
    foreach: &Foreach,
    context: &SampleContext,
    by: Deadline,
) -> Result<ForeachRun, NoAnswer> {
    let values = match foreach {
        Foreach::Values(values) => Arc::clone(values),
        Foreach::Sql { sql, .. } => {
            question::ask(live, sql, values_sink(query, context), context.max_cell_bytes, None, by)?
                .into_values()
        }
    };
    Ok(ForeachRun::new(values, context, by))
}

/// Runs the values that have not ended, until all have or the session is of no more use.
pub(super) fn run(
    live: &mut GuardedSession,
    run: &Run,
    query: &Query,
    values: &mut ForeachRun,
    fresh: bool,
) -> Health {
    if values.left().is_empty() {
        // Nothing to ask of the server: a ping tells whether it is there.
        return live.ping(values.by);
    }
    loop {
        // Together until a session dies under them; then one alone.
        let mut sent = values.left();
        if values.lost_sessions > 0 {
            sent.truncate(1);
        }
        let health = send(live, run, query, values, &sent);
        let left = values.left();
        let none_ended = sent.iter().all(|index| left.contains(index));
        match &health {
            // In a snapshot, another session would read the rest at another moment.
            Health::Lost(error) if run.group.is_some() || values.lost_sessions >= MAX_LOST_SESSIONS => {
                values.fail_rest(error);
            }
            Health::Lost(error) if fresh && none_ended && !error.is_server_full() => {
                values.lost_sessions += 1;
                if let [only] = sent[..] {
                    values.end_value(query, only, Err(error.clone()), Duration::ZERO);
                }
            }
            Health::Lost(_) => {}
            Health::Clean | Health::Spent => {
                let odd = Error::new(Reason::Protocol, "the session left the value without an end");
                for index in sent.into_iter().filter(|index| left.contains(index)) {
                    values.end_value(query, index, Err(odd.clone()), Duration::ZERO);
                }
            }
        }
        if values.left().is_empty() || !matches!(health, Health::Clean) {
            return health;
        }
    }
}

/// Runs these values in one batch.
fn send(live: &mut GuardedSession, run: &Run, query: &Query, values: &ForeachRun, sent: &[usize]) -> Health {
    let context = &run.spec.owner.context;
    let sink = |&index: &usize| {
        let on_end: query_sink::OnEnd<'_> =
            Box::new(move |result, took| values.end_value(query, index, result, took));
        (index, query_sink::sink(query, context, values.labels(index), SizeHint::default(), on_end))
    };
    let mut sinks: Vec<(usize, Box<dyn RowSink + '_>)> = sent.iter().map(sink).collect();
    let jobs = sinks.iter_mut().map(|(index, sink)| Job {
        sql: &query.sql,
        parameters: values.parameters(*index),
        allowance: values.by.left(),
        max_cell_bytes: context.max_cell_bytes,
        sink: sink.as_mut(),
    });
    let mut jobs: Vec<Job<'_>> = jobs.collect();
    catching_panics(|| live.run(&mut jobs, values.by)).unwrap_or_else(Health::Lost)
}
