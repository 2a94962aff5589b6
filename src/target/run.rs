//! One run of one query on one target: it ends once, and everybody who waits for it is told.
//!
//! Knows no session and no thread: `lane` makes a run end, `memory` decides who joins it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use crate::deadline::Deadline;
use crate::error::Error;
use crate::query::Rendered;

/// What a run came to.
#[derive(Debug, Clone)]
pub enum End {
    /// Its blocks.
    Good(Arc<Rendered>),
    /// It does not apply to the server as it is now (`when`).
    Skipped,
    /// Why there are none.
    Failed(Error),
}

impl End {
    /// Why there are no blocks, where that is a fault.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        match self {
            End::Failed(error) => Some(error),
            End::Good(_) | End::Skipped => None,
        }
    }
}

/// How a run ended. Shared by all scrapes that waited for it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What it came to.
    pub end: End,
    /// How long the query took; zero when it never started.
    pub took: Duration,
    /// True when a session was opened or answered for this run: the target is up.
    pub reached: bool,
    /// When the run began, on the monotonic clock: the age of its result.
    pub began: Instant,
    /// When the run ended, on the wall clock: for `query_last_success_timestamp_seconds`.
    pub ended: SystemTime,
}

/// What a run executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The target's query of this index.
    Query(usize),
    /// One protocol ping: no query needs the target, and somebody asks whether it is up.
    Ping,
}

/// A message to a scrape: the run it knows under this number has ended.
pub type Told = (usize, Outcome);

/// Where a scrape waits for its runs. It wakes once, when the last of them has ended: fifty runs are no fifty turns of
/// its thread.
#[derive(Default)]
pub struct Meeting {
    come: Mutex<Come>,
    all: Condvar,
}

#[derive(Default)]
struct Come {
    told: Vec<Told>,
    expected: usize,
}

impl Meeting {
    fn come(&self, number: usize, outcome: Outcome) {
        let mut come = self.come.lock();
        come.told.push((number, outcome));
        if come.told.len() >= come.expected {
            self.all.notify_one();
        }
    }

    /// Waits until as many runs as expected have ended, at most until `by`; gives those that have.
    #[must_use]
    pub fn wait(&self, expected: usize, by: Deadline) -> Vec<Told> {
        let mut come = self.come.lock();
        come.expected = expected;
        while come.told.len() < expected && !self.all.wait_until(&mut come, by.moment()).timed_out() {}
        std::mem::take(&mut come.told)
    }
}

/// What to do about a run that is late: cancel its statement, give its worker's permit back. One for all runs of a
/// batch: what it does a second time has no effect.
pub type Stop = Arc<dyn Fn() + Send + Sync>;

/// What is known of a query's time, in the order of the line: the greatest starts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// It was stopped after so long when it last ran. Such queries come last, or a few of them would hold every
    /// session and starve the others at each scrape; who was stopped soonest goes first.
    Stopped(Reverse<Duration>),
    /// It never ended.
    Unknown,
    /// It took so long: the longest starts first.
    Took(Duration),
}

impl Pace {
    /// How long it took last, where that is known.
    #[must_use]
    pub fn usual(self) -> Duration {
        match self {
            Pace::Took(took) => took,
            Pace::Stopped(_) | Pace::Unknown => Duration::ZERO,
        }
    }
}

struct State {
    outcome: Option<Outcome>,
    /// Who asked for it, under which number.
    first: Option<(usize, Arc<Meeting>)>,
    /// Those that joined.
    others: Vec<(usize, Arc<Meeting>)>,
    stop: Option<Stop>,
    /// Since when a lane works on it.
    since: Option<Instant>,
}

/// A run under way, or ended.
pub struct Run {
    /// What is executed.
    pub work: Work,
    /// When the query must have ended.
    pub by: Deadline,
    /// When the run was asked for.
    pub began: Instant,
    /// Its place in line.
    pub pace: Pace,
    /// The snapshot it belongs to: all runs of one number go to one session together. `None` = none.
    pub group: Option<u64>,
    /// It is believed to be cheap, so that it may share a batch.
    quick: AtomicBool,
    /// A session was opened for it.
    reached: AtomicBool,
    state: Mutex<State>,
}

impl Run {
    /// A run that nobody executes yet.
    #[must_use]
    pub fn new(work: Work, by: Deadline, pace: Pace, quick: bool, group: Option<u64>) -> Self {
        let state =
            Mutex::new(State { outcome: None, first: None, others: Vec::new(), stop: None, since: None });
        let (quick, reached) = (AtomicBool::new(quick), AtomicBool::new(false));
        Run { work, by, began: Instant::now(), pace, group, quick, reached, state }
    }

    /// True while it may share a batch.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.quick.load(Ordering::Relaxed)
    }

    /// It was too slow for a batch: it waits in line again, for a session of its own.
    pub fn part(&self) {
        self.quick.store(false, Ordering::Relaxed);
        let mut state = self.state.lock();
        (state.stop, state.since) = (None, None);
    }

    /// A session was opened for this run: whatever becomes of it, its target is up.
    pub fn reach(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// How this run ended, ending now.
    #[must_use]
    pub fn outcome(&self, end: End, took: Duration, reached: bool) -> Outcome {
        let reached = reached || self.reached.load(Ordering::Relaxed);
        Outcome { end, took, reached, began: self.began, ended: SystemTime::now() }
    }

    /// Tells `scrape` under `number` when the run has ended; at once when it has.
    pub fn tell(&self, number: usize, scrape: &Arc<Meeting>) {
        let mut state = self.state.lock();
        match &state.outcome {
            Some(outcome) => scrape.come(number, outcome.clone()),
            None if state.first.is_none() => state.first = Some((number, Arc::clone(scrape))),
            None => state.others.push((number, Arc::clone(scrape))),
        }
    }

    /// Ends the run. The first call counts: a late one finds it ended and says `false`.
    pub fn end(&self, outcome: Outcome) -> bool {
        let mut state = self.state.lock();
        if state.outcome.is_some() {
            return false;
        }
        let others = std::mem::take(&mut state.others);
        for (number, scrape) in state.first.take().into_iter().chain(others) {
            scrape.come(number, outcome.clone());
        }
        state.outcome = Some(outcome);
        state.stop = None;
        true
    }

    /// True once the run has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.lock().outcome.is_some()
    }

    /// Remembers what to do when the run is late; a later call replaces an earlier one's.
    pub fn when_late(&self, stop: Stop) {
        let mut state = self.state.lock();
        if state.outcome.is_none() {
            state.stop = Some(stop);
            state.since.get_or_insert_with(Instant::now);
        }
    }

    /// For how long a lane has worked on it; zero while none does.
    #[must_use]
    pub fn worked(&self) -> Duration {
        self.state.lock().since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// True once a lane has taken it: its target was tried, and did not merely wait for a worker.
    #[must_use]
    pub fn was_taken(&self) -> bool {
        self.state.lock().since.is_some()
    }

    /// Takes what is to be done about a run that is late; `None` when it waits in line, has ended or was taken.
    #[must_use]
    pub fn take_stop(&self) -> Option<Stop> {
        self.state.lock().stop.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        Run::new(Work::Ping, Deadline::within(Duration::from_secs(1)), Pace::Unknown, false, None)
    }

    #[test]
    fn everybody_who_waits_is_told_once_and_late_comers_at_once() {
        let scrape = Arc::default();
        let run = run();
        run.tell(3, &scrape);
        assert!(run.end(run.outcome(End::Skipped, Duration::ZERO, true)));
        run.tell(4, &scrape);
        let told = scrape.wait(2, Deadline::within(Duration::from_secs(20)));
        let numbers: Vec<usize> = told.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [3, 4]);
    }

    #[test]
    fn only_the_first_end_counts() {
        let run = run();
        let late = Error::new(crate::error::Reason::Timeout, "late");
        assert!(run.end(run.outcome(End::Failed(late), Duration::ZERO, false)));
        assert!(!run.end(run.outcome(End::Skipped, Duration::ZERO, true)));
        let scrape = Arc::default();
        run.tell(0, &scrape);
        let told = scrape.wait(1, Deadline::within(Duration::from_secs(20)));
        assert!(told[0].1.end.error().is_some());
    }

    #[test]
    fn who_waits_leaves_at_the_deadline_with_what_has_come() {
        let scrape = Arc::default();
        let (one, other) = (run(), run());
        one.tell(0, &scrape);
        other.tell(1, &scrape);
        one.end(one.outcome(End::Skipped, Duration::ZERO, true));
        let told = scrape.wait(2, Deadline::within(Duration::from_millis(20)));
        assert_eq!(told.len(), 1);
    }
}
