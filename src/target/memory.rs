//! What a target remembers of each query: the run under way that others may join, and the last good result
//! that `interval` lets a scrape reuse. Joining and reusing are one decision, made here under one lock.
//!
//! Knows no session and no thread. `keep_last` becomes a third answer of [`Memory::ask`].

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::deadline::Deadline;
use crate::error::{Error, Reason};

use super::run::{Outcome, Pace, Run, Work};

/// A result is reused while younger than this part of its `interval` (DESIGN 2): a scraper with the same
/// period as the interval then always gets a fresh one.
const REUSE: f64 = 0.9;
/// A scrape joins a run whose deadline is earlier than its own by at most this part of its budget (DESIGN 4.2).
const JOIN: f64 = 0.1;
/// A query is known to be quick when its last run took at most this long and gave at most [`QUICK_ROWS`].
const QUICK: Duration = Duration::from_millis(5);
const QUICK_ROWS: u64 = 1000;

/// What a scrape gets for one query.
pub enum Asked {
    /// A good result young enough to be reused.
    Reused(Outcome),
    /// Somebody else's run.
    Joined(Arc<Run>),
    /// A new run, which the caller hands to the lanes.
    Started(Arc<Run>),
}

/// What is known of one query from earlier scrapes, for the page and for the order of starting.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// How long it took last time.
    pub took: Option<Duration>,
    /// How long it had when it was stopped, if it was since it last succeeded.
    pub stopped: Option<Duration>,
    /// When it last succeeded.
    pub succeeded: Option<SystemTime>,
    /// Why it fails, while it does.
    pub failing: Option<Error>,
    /// How many rows the last good result had.
    pub rows: u64,
    /// How many series were made from it.
    pub series: u64,
}

impl Past {
    fn pace(&self) -> Pace {
        match (self.stopped, self.took) {
            (Some(stopped), _) => Pace::Stopped(Reverse(stopped)),
            (None, Some(took)) => Pace::Took(took),
            (None, None) => Pace::Unknown,
        }
    }

    fn is_quick(&self) -> bool {
        self.took.is_some_and(|took| took <= QUICK) && self.rows <= QUICK_ROWS && self.failing.is_none()
    }
}

#[derive(Default)]
struct Slot {
    newest: Option<Arc<Run>>,
    good: Option<Outcome>,
    past: Past,
}

/// A change of state that deserves one line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// As before.
    None,
    /// It worked, or was new, and fails now; or fails for another reason.
    Fails,
    /// It failed and works again.
    Recovered,
}

/// The memory of one target: a slot a query, and one for the ping.
pub struct Memory(Vec<Mutex<Slot>>);

impl Memory {
    /// For a target of so many queries.
    #[must_use]
    pub fn new(queries: usize) -> Self {
        Memory((0..=queries).map(|_| Mutex::default()).collect())
    }

    fn slot(&self, work: Work) -> &Mutex<Slot> {
        match work {
            Work::Query(index) => &self.0[index],
            Work::Ping => &self.0[self.0.len() - 1],
        }
    }

    /// Reuse, join or start. `by` is the scrape's deadline for its queries, `budget` the time it had at its start.
    pub fn ask(&self, work: Work, interval: Duration, by: Deadline, budget: Duration) -> Asked {
        let mut slot = self.slot(work).lock();
        if let Some(good) = &slot.good
            && good.began.elapsed() < interval.mul_f64(REUSE)
        {
            return Asked::Reused(good.clone());
        }
        if let Some(run) = &slot.newest
            && !run.is_over()
            && by.earlier_by(budget.mul_f64(JOIN)) <= run.by
        {
            return Asked::Joined(Arc::clone(run));
        }
        let quick = work != Work::Ping && slot.past.is_quick();
        let run = Arc::new(Run::new(work, by, slot.past.pace(), quick));
        slot.newest = Some(Arc::clone(&run));
        Asked::Started(run)
    }

    /// Keeps what a run that has ended leaves for later scrapes. A failed run leaves the last good result alone,
    /// but `interval` never brings back a result from before a failure.
    pub fn keep(&self, run: &Run, interval: Duration, outcome: &Outcome) {
        let mut slot = self.slot(run.work).lock();
        // Nobody joins it any more, and its page must not stay in memory until the next run.
        slot.newest.take_if(|newest| std::ptr::eq(Arc::as_ptr(newest), run));
        let newer = slot.good.as_ref().is_none_or(|good| good.began <= outcome.began);
        if let Err(error) = &outcome.verdict
            && error.reason() == Reason::Timeout
            && !outcome.took.is_zero()
        {
            slot.past.stopped = Some(outcome.took);
        }
        match &outcome.verdict {
            Ok(rendered) => {
                slot.past.took = Some(outcome.took);
                slot.past.stopped = None;
                slot.past.rows = rendered.rows;
                slot.past.series = rendered.series;
                slot.past.succeeded = slot.past.succeeded.max(Some(outcome.ended));
                if newer {
                    slot.good = (!interval.is_zero()).then(|| outcome.clone());
                }
            }
            Err(_) if newer => slot.good = None,
            Err(_) => {}
        }
    }

    /// Notes how a query stood on a page and says whether that is news.
    pub fn note(&self, work: Work, error: Option<&Error>) -> Change {
        let past = &mut self.slot(work).lock().past;
        let before = std::mem::replace(&mut past.failing, error.cloned());
        match (before.as_ref().map(Error::reason), error.map(Error::reason)) {
            (Some(_), None) => Change::Recovered,
            (before, Some(now)) if before != Some(now) => Change::Fails,
            _ => Change::None,
        }
    }

    /// The newest runs that have not ended.
    #[must_use]
    pub fn running(&self) -> Vec<Arc<Run>> {
        let newest = self.0.iter().filter_map(|slot| slot.lock().newest.clone());
        newest.filter(|run| !run.is_over()).collect()
    }

    /// What is known of one query.
    #[must_use]
    pub fn past(&self, work: Work) -> Past {
        self.slot(work).lock().past.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::error::Reason;
    use crate::query::Rendered;

    const BUDGET: Duration = Duration::from_secs(10);
    const QUERY: Work = Work::Query(0);
    const MINUTE: Duration = Duration::from_secs(60);

    fn outcome(verdict: Result<Arc<Rendered>, Error>, age: Duration) -> Outcome {
        let began = Instant::now().checked_sub(age).expect("an uptime of some minutes");
        Outcome { verdict, took: Duration::from_millis(1), reached: true, began, ended: SystemTime::now() }
    }

    fn keep(memory: &Memory, verdict: Result<Arc<Rendered>, Error>, age: Duration) {
        let run = Run::new(QUERY, Deadline::within(BUDGET), Pace::Unknown, false);
        memory.keep(&run, MINUTE, &outcome(verdict, age));
    }

    fn ask(memory: &Memory, interval: Duration, within: Duration) -> Asked {
        memory.ask(QUERY, interval, Deadline::within(within), BUDGET)
    }

    #[test]
    fn a_scrape_joins_the_run_under_way_unless_its_deadline_is_much_later() {
        let memory = Memory::new(1);
        let Asked::Started(run) = ask(&memory, Duration::ZERO, BUDGET) else { panic!("the first starts") };
        let Asked::Joined(joined) = ask(&memory, Duration::ZERO, BUDGET) else { panic!("the second joins") };
        assert!(Arc::ptr_eq(&run, &joined));
        assert!(
            matches!(ask(&memory, Duration::ZERO, BUDGET / 10), Asked::Joined(_)),
            "an earlier deadline joins"
        );
        assert!(
            matches!(ask(&memory, Duration::ZERO, BUDGET * 3), Asked::Started(_)),
            "a later one does not"
        );
    }

    #[test]
    fn a_run_that_is_over_is_not_joined() {
        let memory = Memory::new(1);
        let Asked::Started(run) = ask(&memory, Duration::ZERO, BUDGET) else { panic!("the first starts") };
        run.end(run.outcome(Ok(Arc::default()), Duration::ZERO, true));
        assert!(matches!(ask(&memory, Duration::ZERO, BUDGET), Asked::Started(_)));
    }

    #[test]
    fn a_good_result_is_reused_while_younger_than_nine_tenths_of_the_interval() {
        let memory = Memory::new(1);
        keep(&memory, Ok(Arc::default()), Duration::from_secs(50));
        assert!(matches!(ask(&memory, MINUTE, BUDGET), Asked::Reused(_)));
        let memory = Memory::new(1);
        keep(&memory, Ok(Arc::default()), Duration::from_secs(55));
        assert!(matches!(ask(&memory, MINUTE, BUDGET), Asked::Started(_)));
    }

    #[test]
    fn a_failure_ends_the_reuse_and_is_never_reused() {
        let memory = Memory::new(1);
        keep(&memory, Ok(Arc::default()), Duration::from_secs(5));
        keep(&memory, Err(Error::new(Reason::Sql, "no")), Duration::ZERO);
        assert!(matches!(ask(&memory, MINUTE, BUDGET), Asked::Started(_)));
    }

    #[test]
    fn news_is_a_change_of_state_only() {
        let memory = Memory::new(1);
        let notes = [None, Some(Reason::Sql), Some(Reason::Sql), Some(Reason::Timeout), None, None];
        let error = |reason: Option<Reason>| reason.map(|reason| Error::new(reason, "no"));
        let changes = notes.map(|reason| memory.note(QUERY, error(reason).as_ref()));
        let (same, fails, recovered) = (Change::None, Change::Fails, Change::Recovered);
        assert_eq!(changes, [same, fails, same, fails, recovered, same]);
    }
}
