//! What a target remembers of each query: the run under way that others may join, and the last good result
//! that `interval` lets a scrape reuse and `keep_last` lets stand in after a failure. One state machine: a query's
//! slot is looked at and changed under its one lock.
//!
//! Knows no session and no thread.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::deadline::Deadline;
use crate::error::{Error, Reason};
use crate::query::Rendered;

use super::run::{End, Outcome, Pace, Run, Work};

/// A result is reused while younger than this part of its `interval` (DESIGN 2): a scraper with the same
/// period as the interval then always gets a fresh one.
const REUSE: f64 = 0.9;
/// A scrape joins a run whose deadline is earlier than its own by at most this part of its budget.
const JOIN: f64 = 0.1;
/// A query is quick when one of its last two runs took the server at most this long, and the last gave few rows.
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
    /// The shorter of its last two times: who was slow for once is still quick.
    usual: Option<Duration>,
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

    /// One that never ran is not: it has its whole time, alone.
    fn is_quick(&self) -> bool {
        self.usual.is_some_and(|usual| usual <= QUICK) && self.rows <= QUICK_ROWS && self.failing.is_none()
    }
}

/// How long a query's good result serves further scrapes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// `interval`: instead of a run.
    pub interval: Duration,
    /// `keep_last`: instead of nothing, after a failure.
    pub keep_last: Duration,
}

#[derive(Default)]
struct Slot {
    newest: Option<Arc<Run>>,
    good: Option<Good>,
    past: Past,
}

/// The last good result.
struct Good {
    outcome: Outcome,
    /// Nothing failed since: `interval` may bring it back.
    reusable: bool,
}

impl Slot {
    /// The run under way, when a scrape with this deadline and budget may join it. One that is older than all the time
    /// the scrape has is likely stuck: whoever joined it would get nothing either.
    fn joinable(&self, by: Deadline, budget: Duration) -> Option<&Arc<Run>> {
        let serves = |run: &&Arc<Run>| {
            !run.is_over() && by.earlier_by(budget.mul_f64(JOIN)) <= run.by && run.began.elapsed() < budget
        };
        self.newest.as_ref().filter(serves)
    }

    fn begin(&mut self, work: Work, by: Deadline, group: Option<u64>) -> Arc<Run> {
        let quick = work != Work::Ping && self.past.is_quick();
        let run = Run::new(work, by, self.past.pace(), quick, group);
        Arc::clone(self.newest.insert(Arc::new(run)))
    }
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
    pub fn ask(&self, work: Work, terms: Terms, by: Deadline, budget: Duration) -> Asked {
        let mut slot = self.slot(work).lock();
        if let Some(good) = slot.good.as_ref().filter(|good| good.reusable)
            && good.outcome.began.elapsed() < terms.interval.mul_f64(REUSE)
        {
            return Asked::Reused(good.outcome.clone());
        }
        match slot.joinable(by, budget) {
            Some(run) => Asked::Joined(Arc::clone(run)),
            None => Asked::Started(slot.begin(work, by, None)),
        }
    }

    /// The same for the queries of one snapshot, which a scrape joins whole or not at all; nothing is reused.
    pub fn ask_together(&self, works: &[Work], group: u64, by: Deadline, budget: Duration) -> Vec<Asked> {
        // In the order of the slots, always: two scrapes cannot wait for each other.
        let mut slots: Vec<_> = works.iter().map(|work| self.slot(*work).lock()).collect();
        let under_way: Option<Vec<Arc<Run>>> =
            slots.iter().map(|slot| slot.joinable(by, budget).map(Arc::clone)).collect();
        if let Some(runs) = under_way
            && runs.windows(2).all(|pair| pair[0].group == pair[1].group)
        {
            return runs.into_iter().map(Asked::Joined).collect();
        }
        let begin = works.iter().zip(&mut slots);
        begin.map(|(work, slot)| Asked::Started(slot.begin(*work, by, Some(group)))).collect()
    }

    /// The result that stands in for a failed one under `keep_last`.
    #[must_use]
    pub fn kept(&self, work: Work, terms: Terms) -> Option<Arc<Rendered>> {
        let slot = self.slot(work).lock();
        let good = slot.good.as_ref().filter(|good| good.outcome.began.elapsed() <= terms.keep_last)?;
        match &good.outcome.end {
            End::Good(rendered) => Some(Arc::clone(rendered)),
            End::Skipped | End::Failed(_) => None,
        }
    }

    /// Keeps what a run that has ended leaves for later scrapes. A failed run leaves the last good result alone,
    /// but `interval` never brings back a result from before a failure; one that does not apply any more is forgotten.
    pub fn keep(&self, run: &Run, terms: Terms, outcome: &Outcome) {
        let mut slot = self.slot(run.work).lock();
        // Nobody joins it any more, and its page must not stay in memory until the next run.
        slot.newest.take_if(|newest| std::ptr::eq(Arc::as_ptr(newest), run));
        if let End::Failed(error) = &outcome.end
            && error.reason() == Reason::Timeout
            && !outcome.took.is_zero()
        {
            slot.past.stopped = Some(outcome.took);
        }
        if let End::Good(rendered) = &outcome.end {
            slot.past.usual = Some(slot.past.took.map_or(outcome.took, |before| before.min(outcome.took)));
            slot.past.took = Some(outcome.took);
            slot.past.stopped = None;
            slot.past.rows = rendered.rows;
            slot.past.series = rendered.series;
            slot.past.succeeded = slot.past.succeeded.max(Some(outcome.ended));
        }
        if slot.good.as_ref().is_some_and(|good| good.outcome.began > outcome.began) {
            // A run that was overtaken by a younger one.
            return;
        }
        match (&outcome.end, &mut slot.good) {
            (End::Good(_), _) => {
                let serves = !terms.interval.max(terms.keep_last).is_zero();
                slot.good = serves.then(|| Good { outcome: outcome.clone(), reusable: true });
            }
            (End::Failed(_), Some(good)) => good.reusable = false,
            (End::Skipped, _) => slot.good = None,
            (End::Failed(_), None) => {}
        }
    }

    /// Notes how a query stood on the page of a scrape that had so much time, and says whether that is news. That a
    /// good query does not end in less time than it took is none: beside a patient scraper a hasty one would make it
    /// fail and recover for ever.
    pub fn note(&self, work: Work, error: Option<&Error>, budget: Duration) -> Change {
        let past = &mut self.slot(work).lock().past;
        let is_hasty = past.failing.is_none() && past.took.is_some_and(|took| took >= budget);
        if is_hasty && error.is_some_and(|error| error.reason() == Reason::Timeout) {
            return Change::None;
        }
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

    /// True while the query fails.
    #[must_use]
    pub fn is_failing(&self, work: Work) -> bool {
        self.slot(work).lock().past.failing.is_some()
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

    const BUDGET: Duration = Duration::from_secs(10);
    const QUERY: Work = Work::Query(0);
    const MINUTE: Duration = Duration::from_secs(60);

    fn outcome(end: End, age: Duration) -> Outcome {
        let began = Instant::now().checked_sub(age).expect("an uptime of some minutes");
        Outcome { end, took: Duration::from_millis(1), reached: true, began, ended: SystemTime::now() }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn good() -> End {
        End::Good(Arc::default())
    }

    fn bad() -> End {
        End::Failed(Error::new(Reason::Sql, "no"))
    }

    fn keep(memory: &Memory, end: End, age: Duration) {
        let run = Run::new(QUERY, Deadline::within(BUDGET), Pace::Unknown, false, None);
        memory.keep(&run, Terms { interval: MINUTE, keep_last: HOUR }, &outcome(end, age));
    }

    fn ask(memory: &Memory, interval: Duration, within: Duration) -> Asked {
        memory.ask(QUERY, Terms { interval, keep_last: Duration::ZERO }, Deadline::within(within), BUDGET)
    }

    fn kept(memory: &Memory, keep_last: Duration) -> bool {
        memory.kept(QUERY, Terms { interval: MINUTE, keep_last }).is_some()
    }

    #[test]
    fn the_last_good_result_stands_in_after_a_failure_while_it_is_young_enough() {
        let memory = Memory::new(1);
        keep(&memory, good(), Duration::from_secs(100));
        keep(&memory, bad(), Duration::from_secs(10));
        assert!(kept(&memory, HOUR) && kept(&memory, MINUTE * 2));
        assert!(!kept(&memory, MINUTE), "too old");
        assert!(!kept(&memory, Duration::ZERO), "not asked for");
    }

    #[test]
    fn a_result_that_does_not_apply_any_more_is_forgotten() {
        let memory = Memory::new(1);
        keep(&memory, good(), Duration::from_secs(10));
        keep(&memory, End::Skipped, Duration::ZERO);
        assert!(!kept(&memory, HOUR));
        assert!(matches!(ask(&memory, MINUTE, BUDGET), Asked::Started(_)));
    }

    #[test]
    fn a_run_that_was_overtaken_leaves_the_younger_result_alone() {
        let memory = Memory::new(1);
        keep(&memory, good(), Duration::from_secs(5));
        keep(&memory, bad(), Duration::from_secs(30));
        assert!(matches!(ask(&memory, MINUTE, BUDGET), Asked::Reused(_)));
    }

    #[test]
    fn a_snapshot_is_joined_whole_or_not_at_all() {
        let memory = Memory::new(2);
        let works = [Work::Query(0), Work::Query(1)];
        let by = Deadline::within(BUDGET);
        let first = memory.ask_together(&works, 1, by, BUDGET);
        assert!(first.iter().all(|asked| matches!(asked, Asked::Started(_))));
        let second = memory.ask_together(&works, 2, by, BUDGET);
        assert!(second.iter().all(|asked| matches!(asked, Asked::Joined(_))));
        if let Asked::Started(run) = &first[0] {
            run.end(outcome(good(), Duration::ZERO));
        }
        let third = memory.ask_together(&works, 3, by, BUDGET);
        assert!(third.iter().all(|asked| matches!(asked, Asked::Started(_))), "one of them is over");
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
        run.end(run.outcome(good(), Duration::ZERO, true));
        assert!(matches!(ask(&memory, Duration::ZERO, BUDGET), Asked::Started(_)));
    }

    #[test]
    fn a_good_result_is_reused_while_younger_than_nine_tenths_of_the_interval() {
        let memory = Memory::new(1);
        keep(&memory, good(), Duration::from_secs(50));
        assert!(matches!(ask(&memory, MINUTE, BUDGET), Asked::Reused(_)));
        let memory = Memory::new(1);
        keep(&memory, good(), Duration::from_secs(55));
        assert!(matches!(ask(&memory, MINUTE, BUDGET), Asked::Started(_)));
    }

    #[test]
    fn a_failure_ends_the_reuse_and_is_never_reused() {
        let memory = Memory::new(1);
        keep(&memory, good(), Duration::from_secs(5));
        keep(&memory, bad(), Duration::ZERO);
        assert!(matches!(ask(&memory, MINUTE, BUDGET), Asked::Started(_)));
    }

    #[test]
    fn a_hasty_scrape_of_a_slow_query_is_no_news() {
        let memory = Memory::new(1);
        let run = Run::new(QUERY, Deadline::within(BUDGET), Pace::Unknown, false, None);
        let slow = Outcome { took: Duration::from_secs(3), ..outcome(good(), Duration::ZERO) };
        memory.keep(&run, Terms::default(), &slow);
        let late = Error::new(Reason::Timeout, "no");
        let note = |error, seconds| memory.note(QUERY, error, Duration::from_secs(seconds));
        assert_eq!(note(Some(&late), 2), Change::None);
        assert_eq!(note(None, 10), Change::None);
        assert_eq!(note(Some(&late), 10), Change::Fails, "it had time enough");
        assert_eq!(note(None, 10), Change::Recovered);
    }

    #[test]
    fn news_is_a_change_of_state_only() {
        let memory = Memory::new(1);
        let notes = [None, Some(Reason::Sql), Some(Reason::Sql), Some(Reason::Timeout), None, None];
        let error = |reason: Option<Reason>| reason.map(|reason| Error::new(reason, "no"));
        let changes = notes.map(|reason| memory.note(QUERY, error(reason).as_ref(), BUDGET));
        let (same, fails, recovered) = (Change::None, Change::Fails, Change::Recovered);
        assert_eq!(changes, [same, fails, same, fails, recovered, same]);
    }
}
