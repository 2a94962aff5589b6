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
use crate::driver::{Canceller, Health, Job, RowSink, Sql};
use crate::error::{Error, Reason};
use crate::plan::query::Query;
use crate::plan::when::When;
use crate::pool::Live;
use crate::query;

use super::Target;
use super::apply::{self, Said, suits};
use super::run::{End, Run, Stop, Work};

/// Quick queries handed to a session together. A lane for less of them would cost CPU time, here and in the server: to
/// wake another thread and another session takes about as long as twenty such queries.
const BATCH: usize = 50;
/// Quick queries that took this long together last time are worth a lane in any case.
const LANE_TIME: Duration = Duration::from_millis(20);
/// What each of several has of the server's own time; who needs more goes on alone, or one slow query would cost its
/// neighbours.
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

    /// Takes a place for a new lane for each run that waits, as far as there are places. All at once: a lane that has
    /// begun takes its run out of the line, which must not look as if fewer lanes were needed. Also says whether all
    /// that waits is quick.
    pub fn enter(&mut self, most: usize) -> (Vec<Arc<Lane>>, bool) {
        let Some(by) = self.waiting.iter().map(|run| run.by).max() else { return (Vec::new(), true) };
        let quick = || self.waiting.iter().filter(|run| run.is_quick() && run.group.is_none());
        let count = quick().count();
        let time: Duration = quick().map(|run| run.pace.usual()).sum();
        let by_time = time.as_millis().div_ceil(LANE_TIME.as_millis()) as usize;
        let wanted = self.waiting.len() - count + count.div_ceil(BATCH).max(by_time.min(count));
        let count = wanted.min(most.saturating_sub(self.lanes.len()));
        let lanes: Vec<_> = (0..count).map(|_| Arc::new(Lane { by, late: AtomicBool::new(false) })).collect();
        self.lanes.extend(lanes.iter().cloned());
        (lanes, self.waiting.iter().all(|run| run.is_quick()))
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

    /// The next batch: all of a snapshot; else the first by rank alone, or, when it is quick, with a fair share of
    /// the other quick ones that have the same deadline.
    fn next(&mut self, lane: &Lane) -> Vec<Arc<Run>> {
        self.waiting.retain(|run| !run.is_over());
        let fit = self.waiting.iter().enumerate().filter(|(_, run)| run.by <= lane.by);
        // Of equals the first: `max_by_key` gives the last.
        let Some((place, _)) = fit.rev().max_by_key(|(_, run)| run.pace) else { return Vec::new() };
        let first = self.waiting.remove(place);
        let share = (self.waiting.len() + 1).div_ceil(self.lanes.len().max(1)).min(BATCH);
        let mut batch = vec![first];
        let mut place = 0;
        while let Some(run) = self.waiting.get(place) {
            if goes_with(run, &batch, share) {
                batch.push(self.waiting.remove(place));
            } else {
                place += 1;
            }
        }
        batch
    }

    /// The works of the runs that `lane` may take, if nobody takes them before.
    fn in_reach(&self, lane: &Lane) -> Vec<Work> {
        self.waiting.iter().filter(|run| run.by <= lane.by && !run.is_over()).map(|run| run.work).collect()
    }
}

/// Whether `run` joins a batch that has room for `share`: the same snapshot, or quick ones that end together.
fn goes_with(run: &Run, batch: &[Arc<Run>], share: usize) -> bool {
    let first = &batch[0];
    match (first.group, run.group) {
        (None, None) => first.is_quick() && run.is_quick() && run.by == first.by && batch.len() < share,
        (first, other) => first == other,
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
            return self.fail(&self.target.last_refusal().unwrap_or_else(in_line), false);
        }
        let stop = self.stop();
        self.left().for_each(|run| run.when_late(Arc::clone(&stop)));
        let mut lease = match self.target.pool().lease(self.by) {
            Ok(lease) => lease,
            Err(error) => return self.fail(&error, false),
        };
        let mut prepared = false;
        // Each turn but the first is on a fresh session, and a fresh one that dies ends its first run: the loop ends.
        loop {
            let left: Vec<&Arc<Run>> = self.left().collect();
            let Some(head) = left.first() else { return };
            // One refused password is enough; those in line behind it get its reason.
            if lease.is_empty()
                && let Some(error) = self.target.locked_out(self.by)
            {
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
            *self.grip.lock() = Some(live.canceller());
            let ready = !fresh || std::mem::replace(&mut prepared, true) || self.prepare(&mut live, &left);
            let health = ready.then(|| self.execute(&mut live, &left, fresh));
            if self.grip.lock().take().is_none() {
                live.spoil();
            }
            let Some(health) = health else { continue };
            let any_ended = left.iter().any(|run| run.is_over());
            match health {
                Health::Clean | Health::Spent => {
                    let odd = Error::new(Reason::Protocol, "the session left the query without an end");
                    return self.fail(&odd, true);
                }
                // The rest of a snapshot cannot be read from another one.
                Health::Lost(error) if head.group.is_some() && any_ended => return self.fail(&error, true),
                Health::Lost(_) if !self.left().any(|run| Arc::ptr_eq(run, head)) => {}
                Health::Lost(error) if fresh || error.reason() == Reason::Panic => {
                    self.target.finish(head, End::Failed(error), Duration::ZERO, fresh);
                }
                Health::Lost(_) => {}
            }
        }
    }

    /// The runs of the batch that this lane still has to end.
    fn left(&self) -> impl Iterator<Item = &Arc<Run>> {
        let together = self.batch.len() > 1 && self.batch[0].group.is_none();
        self.batch.iter().filter(move |run| !run.is_over() && (run.is_quick() || !together))
    }

    /// What happens when the scrape gives up on runs of the batch while this lane still works on them.
    fn stop(&self) -> Stop {
        let (lane, grip) = (Arc::clone(self.lane), Arc::clone(&self.grip));
        let shared = Arc::clone(self.target.shared());
        Arc::new(move || {
            if !lane.late.swap(true, Ordering::AcqRel) {
                shared.workers.release_late();
            }
            if let Some(canceller) = grip.lock().take() {
                shared.disposal.cancel(canceller);
            }
        })
    }

    /// Has a fresh session prepare what it will likely run, the runs at hand and those that wait, so that each first
    /// run is one round trip. False when that cost the session.
    fn prepare(&self, live: &mut Live<'_>, runs: &[&Arc<Run>]) -> bool {
        let waiting = self.target.queue().lock().in_reach(self.lane);
        let works = runs.iter().map(|run| run.work).chain(waiting);
        let mut statements: Vec<&Sql> = works
            .filter(|work| !self.target.memory.is_failing(*work))
            .filter_map(|work| self.query_of(work))
            .filter(|query| is_known_to_apply(query, live))
            .map(|query| &*query.sql)
            .collect();
        statements.sort_unstable_by_key(|sql| sql.name());
        statements.dedup_by_key(|sql| sql.name());
        if statements.len() < 2 {
            return true;
        }
        // A table that somebody locks delays this, too: then there is time left to run the others unprepared.
        let by = self.by.or_within(self.by.left() / 2);
        matches!(guarded(|| live.prepare(&statements, by)), Health::Clean)
    }

    fn execute(&self, live: &mut Live<'_>, runs: &[&Arc<Run>], fresh: bool) -> Health {
        guarded(|| match runs {
            [run] if run.work == Work::Ping => self.ping(live, run),
            _ => match self.applying(live, runs, fresh) {
                Ok(runs) if runs.is_empty() => Health::Clean,
                Ok(runs) if runs[0].group.is_some() => self.snapshot(live, &runs, fresh),
                Ok(runs) => self.queries(live, &runs, fresh),
                Err(health) => health,
            },
        })
    }

    fn ping(&self, live: &mut Live<'_>, run: &Arc<Run>) -> Health {
        let health = live.ping(self.by);
        if let Health::Clean | Health::Spent = health {
            self.target.finish(run, End::Good(Arc::default()), Duration::ZERO, true);
        }
        health
    }

    /// Ends the runs whose `when` does not hold on this session, and gives the others.
    fn applying<'r>(
        &self,
        live: &mut Live<'_>,
        runs: &[&'r Arc<Run>],
        fresh: bool,
    ) -> Result<Vec<&'r Arc<Run>>, Health> {
        let when = |run: &Run| self.query(run).and_then(|query| query.when.as_deref());
        let mut answered = fresh;
        if runs.iter().any(|run| when(run).is_some_and(|when| when.role.is_some())) {
            // Once a session and scrape, however many batches it serves.
            let since = runs.iter().map(|run| run.began.elapsed()).min().unwrap_or_default();
            if !fresh && live.notes.get(apply::ROLE, since).is_none() {
                usable(live.refresh(self.by))?;
                live.notes.set(apply::ROLE, true);
                self.target.learned(live.facts());
            }
            answered = true;
        }
        let (mut apply, mut skipped) = (Vec::new(), Vec::new());
        for &run in runs {
            let said = match when(run) {
                None => Said::Answer { yes: true, asked: false },
                Some(when) if !suits(when, live.facts()) => Said::Answer { yes: false, asked: false },
                Some(When { sql: None, .. }) => Said::Answer { yes: true, asked: false },
                Some(When { sql: Some(sql), .. }) => apply::ask(live, sql, self.by),
            };
            match said {
                Said::Answer { yes, asked } => {
                    answered |= asked;
                    if yes { apply.push(run) } else { skipped.push(run) }
                }
                Said::Failed(error, health) => {
                    let reached = fresh || self::answered(&error);
                    self.target.finish(run, End::Failed(error), Duration::ZERO, reached);
                    usable(health)?;
                }
                Said::Broken(health) => usable(health)?,
            }
        }
        // Facts of an old session do not prove that the target is up.
        if !answered && apply.is_empty() && !skipped.is_empty() {
            usable(live.ping(self.by))?;
        }
        skipped.iter().for_each(|run| self.target.finish(run, End::Skipped, Duration::ZERO, true));
        Ok(apply)
    }

    fn snapshot(&self, live: &mut Live<'_>, runs: &[&Arc<Run>], fresh: bool) -> Health {
        match live.snapshot(true, self.by) {
            Health::Clean => {}
            other => return other,
        }
        match self.queries(live, runs, fresh) {
            Health::Clean => live.snapshot(false, self.by),
            other => other,
        }
    }

    fn query(&self, run: &Run) -> Option<&Query> {
        self.query_of(run.work)
    }

    fn query_of(&self, work: Work) -> Option<&Query> {
        match work {
            Work::Query(index) => self.target.plan.queries.get(index).map(|query| &**query),
            Work::Ping => None,
        }
    }

    fn queries(&self, live: &mut Live<'_>, runs: &[&Arc<Run>], fresh: bool) -> Health {
        let queries = runs.iter().filter_map(|run| Some((self.query(run)?, *run)));
        let together = runs.len() > 1 && runs[0].group.is_none();
        let whole = |query: &Query| query.timeout.unwrap_or(Duration::MAX).min(self.by.left());
        let mut sinks: Vec<(&Query, Box<dyn RowSink + '_>)> = queries
            .map(|(query, run)| {
                let hurried = together && whole(query) > HURRY;
                let ended: query::Ended<'_> = Box::new(move |verdict, took| {
                    if hurried && verdict.as_ref().is_err_and(|error| error.reason() == Reason::Timeout) {
                        return self.target.part(run);
                    }
                    let reached = fresh || verdict.as_ref().err().is_none_or(answered);
                    let end = verdict.map_or_else(End::Failed, |rendered| End::Good(Arc::new(rendered)));
                    self.target.finish(run, end, took, reached);
                });
                let room = self.target.rooms.of(run.work);
                (query, query::sink_like(query, &self.target.context, room, ended))
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
            self.target.finish(run, End::Failed(error.clone()), Duration::ZERO, reached);
        }
    }
}

/// Whether `when` is known to hold on this session: a statement for another server would be an error in this one's log.
fn is_known_to_apply(query: &Query, live: &Live<'_>) -> bool {
    let Some(when) = query.when.as_deref() else { return true };
    let said_yes = |sql: &Sql| live.notes.get(sql.name(), apply::MEMORY) == Some(true);
    suits(when, live.facts()) && when.sql.as_ref().is_none_or(said_yes)
}

/// A panic in a driver costs the session.
fn guarded(work: impl FnOnce() -> Health) -> Health {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Health::Lost(Error::new(Reason::Panic, panic_text(panic.as_ref()))))
}

/// Nothing for a session that can go on.
fn usable(health: Health) -> Result<(), Health> {
    match health {
        Health::Clean => Ok(()),
        Health::Spent => Err(Health::Lost(Error::new(Reason::Lost, "the session could not go on"))),
        lost => Err(lost),
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
