//! Lanes: at most `max_connections` workers of one target, each taking batches of runs to a session of its own.
//!
//! Owns the queue, the one retry rule (*not ended = repeat once on a fresh session*) and the catching of panics.
//! A lane holds `Arc`s only: a late one outlives its scrape and its plan without harm.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::deadline::Deadline;
use crate::driver::{Canceller, Health, Job, RowSink};
use crate::error::{Error, Reason};
use crate::plan::query::Query;
use crate::pool::Live;
use crate::query;

use super::Target;
use super::run::{Run, Work};

/// Quick queries handed to a session together.
const BATCH: usize = 10;
/// What each of several has; who needs more goes on alone, or one slow query would cost its neighbours.
const HURRY: Duration = Duration::from_millis(100);
/// A connect that its scrape stopped sooner than this says nothing of the server.
const FAIR: Duration = Duration::from_millis(500);

/// One worker's place in a target. Shared with whoever finds it late.
pub struct Lane {
    /// What it takes from the line must end by then: its worker's permit lasts no longer.
    pub by: Deadline,
    late: AtomicBool,
}

impl Lane {
    fn is_late(&self) -> bool {
        self.late.load(Ordering::Acquire)
    }
}

/// What waits for a session of one target, and who works on it.
#[derive(Default)]
pub struct Queue {
    waiting: Vec<Arc<Run>>,
    lanes: Vec<Arc<Lane>>,
}

impl Queue {
    /// Puts a run in line.
    pub fn push(&mut self, run: Arc<Run>) {
        self.waiting.push(run);
    }

    /// Takes a place for one more lane, when there is one and something waits.
    pub fn enter(&mut self, most: usize, started: usize) -> Option<Arc<Lane>> {
        if started >= self.waiting.len() || self.lanes.len() >= most {
            return None;
        }
        let by = self.waiting.iter().map(|run| run.by).max()?;
        let lane = Arc::new(Lane { by, late: AtomicBool::new(false) });
        self.lanes.push(Arc::clone(&lane));
        Some(lane)
    }

    /// Gives a place back.
    pub fn leave(&mut self, lane: &Arc<Lane>) {
        self.lanes.retain(|other| !Arc::ptr_eq(lane, other));
    }

    /// Gives a place back that got no worker; with no other lane left, hands out what would wait for ever.
    pub fn give_up(&mut self, lane: &Arc<Lane>) -> Vec<Arc<Run>> {
        self.leave(lane);
        if self.lanes.is_empty() { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    /// True when every place is held by a late lane.
    #[must_use]
    pub fn is_wedged(&self, most: usize) -> bool {
        self.lanes.len() >= most && self.lanes.iter().all(|lane| lane.is_late())
    }

    /// The next batch: the longest known run alone, or, when only quick ones are left, a fair share of those
    /// that have the same deadline.
    fn next(&mut self, lane: &Lane) -> Vec<Arc<Run>> {
        self.waiting.retain(|run| !run.is_over());
        self.waiting.sort_by_key(|run| run.pace);
        let Some(first) = self.waiting.pop_if(|run| run.by <= lane.by) else { return Vec::new() };
        let share = (self.waiting.len() + 1).div_ceil(self.lanes.len().max(1)).min(BATCH);
        let mut batch = vec![first];
        while batch.len() < share && batch[0].is_quick() {
            match self.waiting.pop_if(|run| run.is_quick() && run.by == batch[0].by) {
                Some(run) => batch.push(run),
                None => break,
            }
        }
        batch
    }
}

/// The life of one lane: batch after batch until nothing is left for it, or until it was found late.
pub fn work(target: &Arc<Target>, lane: &Arc<Lane>) {
    while !lane.is_late() {
        let batch = target.queue().lock().next(lane);
        let Some(first) = batch.first() else { break };
        Attempt { target, lane, batch: &batch, by: first.by, grip: Arc::default() }.run();
    }
    target.queue().lock().leave(lane);
    // What was pushed while this lane held the place, or must end later than its worker may: a new lane's.
    target.start();
}

/// One batch on its way through a session.
struct Attempt<'a> {
    target: &'a Arc<Target>,
    lane: &'a Arc<Lane>,
    batch: &'a [Arc<Run>],
    by: Deadline,
    grip: Grip,
}

/// What stops the session under a batch, while it is there to be stopped. Whoever takes it has the right to: a cancel
/// that comes after the session has gone back would strike the next scrape's query.
type Grip = Arc<Mutex<Option<Arc<dyn Canceller>>>>;

impl Attempt<'_> {
    fn run(&self) {
        if self.by.passed() {
            let text = "waited in line until its deadline: every session or worker was busy";
            let in_line = || Error::new(Reason::Timeout, text);
            return self.fail(&self.target.held_back().unwrap_or_else(in_line), false);
        }
        self.arm(None);
        let mut lease = match self.target.pool().lease(self.by) {
            Ok(lease) => lease,
            Err(error) => return self.fail(&error, false),
        };
        // Each turn but the first is on a fresh session, and a fresh one that dies ends its first run: the loop ends.
        loop {
            let left: Vec<&Arc<Run>> = self.left().collect();
            let Some(head) = left.first() else { return };
            // One refused password is enough; those in line behind it get its reason.
            if let (true, Some(error)) = (lease.is_empty(), self.target.held_back()) {
                return self.fail(&error, false);
            }
            let began = Instant::now();
            let mut live = match lease.session(self.by) {
                Ok(live) => live,
                Err(error) => {
                    let cut_short = self.by.passed() && began.elapsed() < FAIR;
                    self.target.refused(&error, !(cut_short && error.reason() == Reason::Timeout));
                    return self.fail(&error, false);
                }
            };
            let fresh = !live.reused();
            if fresh {
                left.iter().for_each(|run| run.reach());
                self.target.connected(live.facts());
            }
            self.arm(Some(&live));
            let health = self.execute(&mut live, &left, fresh);
            if self.grip.lock().take().is_none() {
                live.spoil();
            }
            match health {
                Health::Clean | Health::Spent => {
                    let odd = Error::new(Reason::Protocol, "the session left the query without an end");
                    return self.fail(&odd, true);
                }
                Health::Lost(_) if !self.left().any(|run| Arc::ptr_eq(run, head)) => {}
                Health::Lost(error) if fresh || error.reason() == Reason::Panic => {
                    self.target.finish(head, Err(error), Duration::ZERO, fresh);
                }
                Health::Lost(_) => {}
            }
        }
    }

    /// The runs of the batch that this lane still has to end.
    fn left(&self) -> impl Iterator<Item = &Arc<Run>> {
        let together = self.batch.len() > 1;
        self.batch.iter().filter(move |run| !run.is_over() && (run.is_quick() || !together))
    }

    /// What happens when the scrape gives up on these runs while this lane still works on them.
    fn arm(&self, live: Option<&Live<'_>>) {
        *self.grip.lock() = live.map(Live::canceller);
        for run in self.left() {
            let (lane, grip) = (Arc::clone(self.lane), Arc::clone(&self.grip));
            let shared = Arc::clone(self.target.shared());
            run.when_late(Box::new(move || {
                if !lane.late.swap(true, Ordering::AcqRel) {
                    shared.workers.release_late();
                }
                if let Some(canceller) = grip.lock().take() {
                    shared.disposal.cancel(canceller);
                }
            }));
        }
    }

    fn execute(&self, live: &mut Live<'_>, runs: &[&Arc<Run>], fresh: bool) -> Health {
        catch_unwind(AssertUnwindSafe(|| match runs {
            [run] if run.work == Work::Ping => self.ping(live, run),
            _ => self.queries(live, runs, fresh),
        }))
        .unwrap_or_else(|panic| Health::Lost(Error::new(Reason::Panic, panic_text(panic.as_ref()))))
    }

    fn ping(&self, live: &mut Live<'_>, run: &Arc<Run>) -> Health {
        let health = live.ping(self.by);
        if let Health::Clean | Health::Spent = health {
            self.target.finish(run, Ok(Arc::default()), Duration::ZERO, true);
        }
        health
    }

    fn queries(&self, live: &mut Live<'_>, runs: &[&Arc<Run>], fresh: bool) -> Health {
        let queries = runs.iter().filter_map(|run| match run.work {
            Work::Query(index) => Some((&*self.target.plan.queries[index], *run)),
            Work::Ping => None,
        });
        let together = runs.len() > 1;
        let whole = |query: &Query| query.timeout.unwrap_or(Duration::MAX).min(self.by.left());
        let mut sinks: Vec<(&Query, Box<dyn RowSink + '_>)> = queries
            .map(|(query, run)| {
                let hurried = together && whole(query) > HURRY;
                let ended: query::Ended<'_> = Box::new(move |verdict, took| {
                    if hurried && verdict.as_ref().is_err_and(|error| error.reason() == Reason::Timeout) {
                        return self.target.part(run);
                    }
                    let reached = fresh || verdict.as_ref().err().is_none_or(answered);
                    self.target.finish(run, verdict.map(Arc::new), took, reached);
                });
                (query, query::sink(query, &self.target.context, ended))
            })
            .collect();
        let jobs = sinks.iter_mut().map(|(query, sink)| Job {
            sql: &query.sql,
            allowance: if together { whole(query).min(HURRY) } else { whole(query) },
            sink: sink.as_mut(),
        });
        live.run(&mut jobs.collect::<Vec<_>>(), self.by)
    }

    /// Ends what has not ended. In the good case nothing is left.
    fn fail(&self, error: &Error, reached: bool) {
        for run in self.left() {
            self.target.finish(run, Err(error.clone()), Duration::ZERO, reached);
        }
    }
}

/// True for a failure that the server itself reported: it is there. A timeout with the server's own code is one.
fn answered(error: &Error) -> bool {
    match error.reason() {
        Reason::Timeout => error.sqlstate().is_some(),
        reason => !matches!(reason, Reason::Lost | Reason::Connect | Reason::Wedged | Reason::Panic),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("a bug in sql-exporter, please report it: {}", text.unwrap_or_else(|| "no message".to_owned()))
}
