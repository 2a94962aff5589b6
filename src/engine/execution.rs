//! The runs of a batch on one open session: their conditions, then their statements, or a ping.
//!
//! Ends what the server answers. What did not end, or needs a session for itself, goes back to the caller (`lane`), who owns
//! the retry rule. Catches panics of drivers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::conditions::{self, WhenAnswer};
use super::database_list;
use super::guarded_session::{GuardedSession, catching_panics};
use super::lane;
use super::query_sink;
use super::question::NoAnswer;
use super::run::{Run, RunEnd, RunSpec, is_server_answer};
use super::sessions::TargetSessions;
use super::value_batch;
use crate::config::conditions::When;
use crate::config::foreach::Foreach;
use crate::config::query::Query;
use crate::deadline::Deadline;
use crate::driver::{Health, Job, RowSink, Sql};
use crate::error::{Error, Reason};

/// The server's own time that each query of a batch has. One that needs more runs again alone: otherwise one slow query
/// would delay its whole batch.
const BATCH_ALLOWANCE: Duration = Duration::from_millis(100);

/// A session at work for runs of one deadline.
pub(super) struct BatchExecution<'a> {
    pub(super) sessions: &'a Arc<TargetSessions>,
    pub(super) live: &'a mut GuardedSession,
    pub(super) by: Deadline,
    /// It was opened for these runs: the target is up, whatever becomes of them.
    pub(super) fresh: bool,
}

impl BatchExecution<'_> {
    /// Has a fresh session prepare what it will likely run, so that each first run is one round trip. False when that cost
    /// the session.
    pub(super) fn prepare<'r>(&mut self, runs: impl Iterator<Item = &'r Arc<Run>>) -> bool {
        let runs = runs.filter(|run| !run.spec.cache.is_failing());
        let queries = runs.filter_map(|run| run.query());
        // A statement for another server would be an error in this one's log.
        let is_known_to_apply = |query: &&Query| {
            query
                .when
                .as_deref()
                .is_none_or(|when| matches!(conditions::known(self.live, when), Some(Ok(()))))
        };
        let mut statements: Vec<&Sql> = queries.filter(is_known_to_apply).map(|query| &*query.sql).collect();
        statements.sort_unstable_by_key(|sql| sql.name());
        statements.dedup_by_key(|sql| sql.name());
        if statements.len() < 2 {
            return true;
        }
        // A locked table delays this, too. Half of the time stays for running the others unprepared.
        let by = self.by.or_within(self.by.left() / 2);
        matches!(catching_panics(|| self.live.prepare(&statements, by)), Ok(Health::Clean))
    }

    /// Runs all of them, one after another.
    pub(super) fn run(&mut self, runs: &[Arc<Run>]) -> Health {
        catching_panics(|| match runs {
            [run] if run.query().is_none() => self.ping(run),
            _ => match self.applying(runs) {
                Ok(runs) if runs.is_empty() => Health::Clean,
                Ok(runs) if runs[0].group.is_some() => self.snapshot(&runs),
                Ok(runs) => self.queries(&runs),
                Err(error) => Health::Lost(error),
            },
        })
        .unwrap_or_else(Health::Lost)
    }

    fn ping(&mut self, run: &Arc<Run>) -> Health {
        let health = self.live.ping(self.by);
        if let Health::Clean | Health::Spent = health {
            self.sessions.finish(run, RunEnd::Good(Arc::default()), Duration::ZERO, true);
        }
        health
    }

    /// Ends the runs whose `when` does not hold on this session, and returns the others.
    fn applying<'r>(&mut self, runs: &'r [Arc<Run>]) -> Result<Vec<&'r Arc<Run>>, Error> {
        let mut answered = self.fresh;
        if runs.iter().any(|run| when(run).is_some_and(|when| when.role.is_some())) {
            // Once a scrape on each session, however many batches it serves.
            let since = runs.iter().map(|run| run.began.elapsed()).min().unwrap_or_default();
            let asked = self.live.notes.role_asked;
            if !self.fresh && asked.is_none_or(|asked| asked.elapsed() > since) {
                self.live.refresh(self.by).usable()?;
                self.live.notes.role_asked = Some(Instant::now());
                self.sessions.learned(self.live.facts());
            }
            answered = true;
        }
        let (mut apply, mut skipped) = (Vec::new(), Vec::new());
        for run in runs {
            let applied = run.take_applies();
            let Some(when) = when(run).filter(|_| !applied) else {
                apply.push(run);
                continue;
            };
            let relations = || run.spec.owner.config.relations();
            match conditions::decide(self.live, when, relations, self.by) {
                Err(none) => self.without_answer(run, none).usable()?,
                Ok(WhenAnswer { applies, is_fresh }) => {
                    answered |= is_fresh;
                    match applies {
                        Ok(()) => apply.push(run),
                        Err(cause) => skipped.push((run, cause)),
                    }
                }
            }
            if !self.live.is_clean() {
                break;
            }
        }
        // Facts of an old session do not prove that the target is up.
        if !answered && apply.is_empty() && !skipped.is_empty() {
            self.live.ping(self.by).usable()?;
        }
        for (run, cause) in skipped {
            self.sessions.finish(run, RunEnd::Skipped(cause), Duration::ZERO, true);
        }
        if !self.live.is_clean() {
            // The session has ended with an answer, which holds on the next one.
            apply.iter().for_each(|run| run.keep_applies());
            Health::Spent.usable()?;
        }
        Ok(apply)
    }

    fn snapshot(&mut self, runs: &[&Arc<Run>]) -> Health {
        match self.live.snapshot(true, self.by) {
            Health::Clean => {}
            other => return other,
        }
        match self.queries(runs) {
            Health::Clean => self.live.snapshot(false, self.by),
            other => other,
        }
    }

    /// Runs of one statement go together, each with `foreach` by itself.
    fn queries(&mut self, runs: &[&Arc<Run>]) -> Health {
        let mut parts =
            runs.chunk_by(|one, other| foreach(one).is_none() && foreach(other).is_none()).peekable();
        while let Some(part) = parts.next() {
            let health = match (part, foreach(part[0])) {
                ([run], Some((query, values))) => self.values(run, query, values),
                _ => self.statements(part),
            };
            if parts.peek().is_none() {
                return health;
            }
            // The other parts go to another session.
            if let Err(error) = health.usable() {
                return Health::Lost(error);
            }
        }
        Health::Clean
    }

    /// Runs a query for each value of its `foreach`, but for those that have ended on a session before.
    fn values(&mut self, run: &Arc<Run>, query: &Query, foreach: &Foreach) -> Health {
        let by = self.by.or_within(query.timeout.unwrap_or(Duration::MAX));
        let context = &run.spec.owner.context;
        let mut values = match run.take_values() {
            Some(values) => values,
            None => match value_batch::read(self.live, query, foreach, context, by) {
                // The session has ended with the answer.
                Ok(values) if foreach.sql().is_some() && !self.live.is_clean() => {
                    run.keep_values(values);
                    return Health::Spent.or_lost();
                }
                Ok(values) => values,
                Err(none) => {
                    let health = self.without_answer(run, none);
                    // Else the values are read again, on another session.
                    return if run.is_over() { health } else { health.or_lost() };
                }
            },
        };
        if self.fresh || foreach.sql().is_some() {
            run.reach();
        }
        let has_none = values.left().is_empty();
        let health = value_batch::run(self.live, run, query, &mut values, self.fresh);
        let is_pinged = has_none && matches!(health, Health::Clean);
        if is_pinged || values.is_reached() {
            run.reach();
        }
        if values.left().is_empty() {
            let took = values.took();
            self.sessions.finish(run, values.end(query), took, false);
            return health;
        }
        run.keep_values(values);
        health.or_lost()
    }

    /// Ends a run for which a question failed. One whose session died under it goes on on another one.
    fn without_answer(&self, run: &Arc<Run>, NoAnswer { error, health }: NoAnswer) -> Health {
        if let Some(error) = error {
            let reached = self.fresh || is_server_answer(&error);
            let end = RunEnd::of_error(run.query(), error);
            self.sessions.finish(run, end, Duration::ZERO, reached);
        }
        health
    }

    fn statements(&mut self, runs: &[&Arc<Run>]) -> Health {
        let BatchExecution { sessions, by, fresh, .. } = *self;
        let together = runs.len() > 1 && runs[0].group.is_none();
        let whole = |query: &Query| query.timeout.unwrap_or(Duration::MAX).min(by.left());
        let queries = runs.iter().filter_map(|run| Some((run.query()?, *run)));
        let mut sinks: Vec<(&Query, Duration, Box<dyn RowSink + '_>)> = queries
            .map(|(query, run)| {
                let limited = together && run.has_run() && whole(query) > BATCH_ALLOWANCE;
                let ended: query_sink::OnEnd<'_> = Box::new(move |verdict, took| {
                    if limited && verdict.as_ref().is_err_and(|error| error.reason() == Reason::Timeout) {
                        return lane::requeue_alone(sessions, run);
                    }
                    let reached = fresh || verdict.as_ref().err().is_none_or(is_server_answer);
                    sessions.finish(run, RunEnd::of_result(query, verdict), took, reached);
                });
                let RunSpec { owner, cache, .. } = &run.spec;
                let allowance = if limited { BATCH_ALLOWANCE } else { whole(query) };
                let sink = match run.spec.discover() {
                    Some(discover) => database_list::sink(discover, ended),
                    None => query_sink::sink(query, &owner.context, &[], cache.size_hint(), ended),
                };
                (query, allowance, sink)
            })
            .collect();
        let max_cell_bytes = runs[0].spec.owner.context.max_cell_bytes;
        let jobs = sinks.iter_mut().map(|(query, allowance, sink)| Job {
            sql: &query.sql,
            allowance: *allowance,
            parameters: &[],
            max_cell_bytes,
            sink: sink.as_mut(),
        });
        self.live.run(&mut jobs.collect::<Vec<_>>(), by)
    }
}

fn foreach(run: &Run) -> Option<(&Query, &Foreach)> {
    run.query().and_then(|query| Some((query, query.foreach.as_deref()?)))
}

fn when(run: &Run) -> Option<&When> {
    run.query().and_then(|query| query.when.as_deref())
}
