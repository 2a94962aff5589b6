//! What is remembered of each query of a target: the run under way that others may join, and the last good result,
//! which `interval` lets a scrape reuse and `keep_last` lets stand in after a failure. One state machine: a query's
//! state is read and changed under one lock. A reload hands the state of an unchanged query to the target's next
//! configuration.
//!
//! Knows no session and no thread.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::query_sink::{RenderedResult, SizeHint};
use crate::clock::Timestamp;
use crate::config::query::Query;
use crate::deadline::Deadline;
use crate::error::{Error, Reason};

use super::run::{ExpectedCost, Run, RunEnd, RunOutcome, RunSpec, SkipCause};

/// A result is reused while younger than this part of its `interval` (docs/configuration.md): a scraper with the same
/// period as the interval then always gets a fresh one.
const REUSE_SHARE: f64 = 0.9;
/// A scrape joins a run whose deadline is earlier than its own by at most this part of its budget.
const JOIN_TOLERANCE: f64 = 0.1;
/// A query is quick when one of its last two runs took the server at most this long, and the last gave few rows.
const QUICK_TIME: Duration = Duration::from_millis(5);
const QUICK_ROWS: u64 = 1000;

/// A query that the server refused for lack of a privilege is asked again after this time: each refusal is a line in the
/// server's log (docs/configuration.md).
const REFUSAL_LIFETIME: Duration = Duration::from_secs(300);

/// What a scrape gets for one query of a target.
pub enum CacheLookup {
    /// A good result, or a refusal for lack of a privilege, that is young enough to be reused.
    Reused(RunOutcome),
    /// Somebody else's run.
    Joined(Arc<Run>),
    /// A new run, which the caller hands to the lanes.
    Started(Arc<Run>),
}

/// What is known of one query from earlier scrapes, for the page and for the order of starting.
#[derive(Debug, Clone, Default)]
pub struct QueryHistory {
    /// How long it took last time.
    pub took: Option<Duration>,
    /// The shorter of its last two times: a query that was slow once is still quick.
    usual: Option<Duration>,
    /// How long it had when it was stopped, if it was since it last succeeded.
    pub stopped: Option<Duration>,
    /// When it last succeeded.
    pub succeeded: Option<Timestamp>,
    /// Why it fails, while it does.
    pub failing: Option<Error>,
    /// Why it is skipped, while it is.
    pub skipped: Option<SkipCause>,
    /// How many rows the last good result had.
    pub rows: u64,
    /// How many series were made from it.
    pub series: u64,
}

impl QueryHistory {
    fn cost(&self) -> ExpectedCost {
        match (self.stopped, self.took) {
            (Some(stopped), _) => ExpectedCost::Stopped(Reverse(stopped)),
            (None, Some(took)) => ExpectedCost::Took(took),
            (None, None) => ExpectedCost::Unknown,
        }
    }

    /// A query that never ran is not quick: it runs alone, with all of its time.
    fn is_quick(&self) -> bool {
        self.usual.is_some_and(|usual| usual <= QUICK_TIME)
            && self.rows <= QUICK_ROWS
            && self.failing.is_none()
    }
}

/// How long a query's good result serves further scrapes.
#[derive(Debug, Clone, Copy, Default)]
pub struct CachePolicy {
    /// `interval`: instead of a run.
    pub interval: Duration,
    /// `keep_last`: instead of nothing, after a failure.
    pub keep_last: Duration,
}

impl CachePolicy {
    /// The policy of a query; a ping has none.
    pub fn of(query: Option<&Query>) -> Self {
        query.map_or_else(CachePolicy::default, |query| CachePolicy {
            interval: query.interval,
            keep_last: query.keep_last,
        })
    }
}

/// What is remembered of one query, or of a target's ping.
#[derive(Default)]
pub struct ResultCache(Mutex<CacheState>);

#[derive(Default)]
struct CacheState {
    newest: Option<Arc<Run>>,
    good: Option<Good>,
    /// The outcome, when the server refused the last run for lack of a privilege.
    refusal: Option<RunOutcome>,
    history: QueryHistory,
    /// The sizes of the last good result.
    size_hint: SizeHint,
    /// Some of its series were left out because another collector has them, and the log says so.
    hides_series: bool,
}

/// The last good result.
struct Good {
    outcome: RunOutcome,
    /// Nothing failed since: `interval` may bring it back.
    reusable: bool,
}

impl CacheState {
    /// The run under way, where a scrape with this deadline and budget may join it. A run older than that budget is
    /// likely stuck: a scrape that joined it would get no result either.
    fn joinable(&self, by: Deadline, budget: Duration) -> Option<&Arc<Run>> {
        let serves = |run: &&Arc<Run>| {
            !run.is_over()
                && by.earlier_by(budget.mul_f64(JOIN_TOLERANCE)) <= run.by
                && run.began.elapsed() < budget
        };
        self.newest.as_ref().filter(serves)
    }

    /// The refusal that holds instead of a run.
    fn refused(&self) -> Option<CacheLookup> {
        let refusal = self.refusal.as_ref().filter(|refusal| refusal.began.elapsed() < REFUSAL_LIFETIME);
        refusal.cloned().map(CacheLookup::Reused)
    }

    fn begin(&mut self, spec: &RunSpec, by: Deadline, group: Option<u64>) -> Arc<Run> {
        // Each value of a `foreach` is a statement.
        let is_one_statement = spec.query.as_ref().is_some_and(|query| query.foreach.is_none());
        let quick = is_one_statement && self.history.is_quick();
        let run = Run::new(spec.clone(), by, self.history.cost(), quick, group);
        Arc::clone(self.newest.insert(Arc::new(run)))
    }
}

/// A change of state that deserves one line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// As before.
    None,
    /// It worked, or was new, and fails now; or fails for another reason.
    Fails,
    /// It is skipped now, as the user lacks a privilege.
    Lacks(Error),
    /// It failed and works again.
    Recovered,
}

/// Reuses a result, joins a run or starts one. `by` is the scrape's deadline for its queries, `budget` the time it had at its start.
pub fn lookup(spec: &RunSpec, policy: CachePolicy, by: Deadline, budget: Duration) -> CacheLookup {
    let mut state = spec.cache.0.lock();
    if let Some(good) = state.good.as_ref().filter(|good| good.reusable)
        && good.outcome.began.elapsed() < policy.interval.mul_f64(REUSE_SHARE)
    {
        return CacheLookup::Reused(good.outcome.clone());
    }
    if let Some(refused) = state.refused() {
        return refused;
    }
    match state.joinable(by, budget) {
        Some(run) => CacheLookup::Joined(Arc::clone(run)),
        None => CacheLookup::Started(state.begin(spec, by, None)),
    }
}

/// The same for the queries of one snapshot, which a scrape joins whole or not at all; nothing but a refusal is reused.
pub fn lookup_snapshot(specs: &[RunSpec], group: u64, by: Deadline, budget: Duration) -> Vec<CacheLookup> {
    // In the order of addresses: two scrapes cannot wait for each other, also when a reload between them changed the
    // order of the queries.
    let mut order: Vec<usize> = (0..specs.len()).collect();
    order.sort_by_key(|&place| Arc::as_ptr(&specs[place].cache));
    let mut locked: Vec<_> = order.into_iter().map(|place| (place, specs[place].cache.0.lock())).collect();
    locked.sort_by_key(|(place, _)| *place);
    let refused: Vec<Option<CacheLookup>> = locked.iter().map(|(_, state)| state.refused()).collect();
    let open = locked.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
    let under_way: Option<Vec<Arc<Run>>> =
        open.map(|((_, state), _)| state.joinable(by, budget).map(Arc::clone)).collect();
    let is_one = |runs: &Vec<Arc<Run>>| runs.windows(2).all(|pair| pair[0].group == pair[1].group);
    let mut joined = under_way.filter(is_one).map(Vec::into_iter);
    let each = specs.iter().zip(&mut locked).zip(refused);
    each.map(|((spec, (_, state)), refused)| {
        let join = || joined.as_mut().and_then(Iterator::next).map(CacheLookup::Joined);
        refused.or_else(join).unwrap_or_else(|| CacheLookup::Started(state.begin(spec, by, Some(group))))
    })
    .collect()
}

impl ResultCache {
    /// The result that stands in for a failed one under `keep_last`.
    pub fn kept(&self, policy: CachePolicy) -> Option<Arc<RenderedResult>> {
        let state = self.0.lock();
        let good = state.good.as_ref().filter(|good| good.outcome.began.elapsed() <= policy.keep_last)?;
        good.outcome.end.rendered().cloned()
    }

    /// Records a run that has ended. A failed run leaves the last good result alone, but `interval` never reuses a result
    /// from before a failure. The result of a query that no longer applies is forgotten.
    pub fn record(&self, run: &Run, policy: CachePolicy, outcome: &RunOutcome) {
        let mut state = self.0.lock();
        // Nobody joins it any more, and its result must not stay in memory until the next run.
        state.newest.take_if(|newest| std::ptr::eq(Arc::as_ptr(newest), run));
        if let Some(error) = outcome.end.error()
            && error.reason() == Reason::Timeout
            && !outcome.took.is_zero()
        {
            state.history.stopped = Some(outcome.took);
        }
        if let RunEnd::Good(rendered) = &outcome.end {
            let history = &mut state.history;
            history.usual = Some(history.took.map_or(outcome.took, |before| before.min(outcome.took)));
            history.took = Some(outcome.took);
            history.stopped = None;
            history.rows = rendered.rows;
            history.series = rendered.series;
            history.succeeded = history.succeeded.max(Some(outcome.ended));
            state.size_hint.clone_from(&rendered.size_hint);
        }
        if state.good.as_ref().is_some_and(|good| good.outcome.began > outcome.began) {
            // A younger run has ended before.
            return;
        }
        state.refusal =
            matches!(outcome.end, RunEnd::Skipped(SkipCause::Refused(_))).then(|| outcome.clone());
        match (&outcome.end, &mut state.good) {
            (RunEnd::Good(_), _) => {
                let serves = !policy.interval.max(policy.keep_last).is_zero();
                state.good = serves.then(|| Good { outcome: outcome.clone(), reusable: true });
            }
            (RunEnd::Failed(_) | RunEnd::Partial(..), Some(good)) => good.reusable = false,
            (RunEnd::Skipped(_), _) => state.good = None,
            (RunEnd::Failed(_) | RunEnd::Partial(..), None) => {}
        }
    }

    /// Notes the state of a query on the page of a scrape with this budget, and returns what changed. That a good query
    /// does not end in less time than it took is not a change: beside a scraper with a long timeout, one with a short timeout
    /// would make it fail and recover for ever.
    pub fn note(&self, error: Option<&Error>, skipped: Option<&SkipCause>, budget: Duration) -> Change {
        let history = &mut self.0.lock().history;
        let before = std::mem::replace(&mut history.skipped, skipped.cloned());
        let has_lacked = before.is_some_and(|cause| cause.lacks().is_some());
        if let Some(lacks) = skipped.and_then(SkipCause::lacks) {
            history.failing = None;
            return if has_lacked { Change::None } else { Change::Lacks(lacks.clone()) };
        }
        let is_too_short = history.failing.is_none() && history.took.is_some_and(|took| took >= budget);
        if is_too_short && error.is_some_and(|error| error.reason() == Reason::Timeout) {
            return Change::None;
        }
        let before = std::mem::replace(&mut history.failing, error.cloned());
        match (before.as_ref().map(Error::reason), error.map(Error::reason)) {
            (Some(_), None) => Change::Recovered,
            (before, Some(now)) if before != Some(now) => Change::Fails,
            _ => Change::None,
        }
    }

    /// The last good result is not reused.
    pub fn expire(&self) {
        self.0.lock().good.iter_mut().for_each(|good| good.reusable = false);
    }

    /// Notes that some series of the query are left out because another collector has them; true the first time.
    pub fn note_hidden_series(&self) -> bool {
        !std::mem::replace(&mut self.0.lock().hides_series, true)
    }

    /// Has the next scrape ask again what the server refused: a reload may follow a grant.
    pub fn forget_refusal(&self) {
        self.0.lock().refusal = None;
    }

    /// True while the query fails.
    pub fn is_failing(&self) -> bool {
        self.0.lock().history.failing.is_some()
    }

    /// The expected sizes of the next result.
    pub fn size_hint(&self) -> SizeHint {
        self.0.lock().size_hint.clone()
    }

    /// What is known of the query.
    pub fn history(&self) -> QueryHistory {
        self.0.lock().history.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::engine::run::spec as ping;

    const BUDGET: Duration = Duration::from_secs(10);
    const MINUTE: Duration = Duration::from_secs(60);

    fn outcome(end: RunEnd, age: Duration) -> RunOutcome {
        let began = Instant::now().checked_sub(age).expect("an uptime of some minutes");
        RunOutcome { end, took: Duration::from_millis(1), reached: true, began, ended: Timestamp::now() }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn good() -> RunEnd {
        RunEnd::Good(Arc::default())
    }

    fn bad() -> RunEnd {
        RunEnd::Failed(Error::new(Reason::Sql, "no"))
    }

    fn run(spec: &RunSpec) -> Run {
        Run::new(spec.clone(), Deadline::within(BUDGET), ExpectedCost::Unknown, false, None)
    }

    fn keep(spec: &RunSpec, end: RunEnd, age: Duration) {
        let policy = CachePolicy { interval: MINUTE, keep_last: HOUR };
        spec.cache.record(&run(spec), policy, &outcome(end, age));
    }

    fn ask(spec: &RunSpec, interval: Duration, within: Duration) -> CacheLookup {
        let policy = CachePolicy { interval, keep_last: Duration::ZERO };
        super::lookup(spec, policy, Deadline::within(within), BUDGET)
    }

    fn kept(spec: &RunSpec, keep_last: Duration) -> bool {
        spec.cache.kept(CachePolicy { interval: MINUTE, keep_last }).is_some()
    }

    fn end(run: &Run, end: RunEnd) {
        assert!(run.claim());
        run.end(run.outcome(end, Duration::ZERO, true));
    }

    #[test]
    fn the_last_good_result_stands_in_after_a_failure_while_it_is_young_enough() {
        let spec = ping();
        keep(&spec, good(), Duration::from_secs(100));
        keep(&spec, bad(), Duration::from_secs(10));
        assert!(kept(&spec, HOUR) && kept(&spec, MINUTE * 2));
        assert!(!kept(&spec, MINUTE), "too old");
        assert!(!kept(&spec, Duration::ZERO), "not asked for");
    }

    #[test]
    fn the_last_success_is_the_latest_one_though_the_clock_was_ahead() {
        let spec = ping();
        let (first, now) = (Instant::now(), SystemTime::now());
        let success = |began: Instant, wall| RunOutcome {
            ended: Timestamp::new(began, wall),
            ..outcome(good(), first.elapsed())
        };
        let keep = |outcome: &RunOutcome| spec.cache.record(&run(&spec), CachePolicy::default(), outcome);
        let (ahead, right) = (success(first, now + HOUR * 24), success(first + MINUTE, now));
        keep(&ahead);
        keep(&right);
        assert_eq!(spec.cache.history().succeeded, Some(right.ended));
        keep(&ahead);
        assert_eq!(spec.cache.history().succeeded, Some(right.ended), "a run that was overtaken");
    }

    #[test]
    fn a_result_that_does_not_apply_any_more_is_forgotten() {
        let spec = ping();
        keep(&spec, good(), Duration::from_secs(10));
        keep(&spec, RunEnd::Skipped(SkipCause::Condition("when.role".to_owned())), Duration::ZERO);
        assert!(!kept(&spec, HOUR));
        assert!(matches!(ask(&spec, MINUTE, BUDGET), CacheLookup::Started(_)));
    }

    fn refused() -> SkipCause {
        SkipCause::Refused(Error::new(Reason::Permission, "no"))
    }

    #[test]
    fn what_the_server_refused_is_asked_again_after_five_minutes_or_after_a_reload() {
        let spec = ping();
        keep(&spec, RunEnd::Skipped(refused()), Duration::from_secs(295));
        assert!(matches!(ask(&spec, Duration::ZERO, BUDGET), CacheLookup::Reused(_)));
        let others = [spec.clone(), ping()];
        let lookups = lookup_snapshot(&others, 1, Deadline::within(BUDGET), BUDGET);
        assert!(matches!(lookups[..], [CacheLookup::Reused(_), CacheLookup::Started(_)]));
        let lookups = lookup_snapshot(&others, 2, Deadline::within(BUDGET), BUDGET);
        assert!(matches!(lookups[..], [CacheLookup::Reused(_), CacheLookup::Joined(_)]));
        spec.cache.forget_refusal();
        assert!(matches!(ask(&spec, Duration::ZERO, BUDGET), CacheLookup::Started(_)));
        let spec = ping();
        keep(&spec, RunEnd::Skipped(refused()), Duration::from_secs(301));
        assert!(matches!(ask(&spec, Duration::ZERO, BUDGET), CacheLookup::Started(_)));
        let (spec, message) = (ping(), Error::new(Reason::Permission, "no"));
        keep(&spec, RunEnd::Skipped(SkipCause::Unreadable(message)), Duration::ZERO);
        assert!(matches!(ask(&spec, Duration::ZERO, BUDGET), CacheLookup::Started(_)), "its session knows");
    }

    #[test]
    fn a_refusal_is_news_once() {
        let spec = ping();
        let cause = refused();
        let error = cause.lacks().cloned().expect("an error");
        let skip = || spec.cache.note(None, Some(&cause), BUDGET);
        assert_eq!((skip(), skip()), (Change::Lacks(error.clone()), Change::None));
        assert_eq!(spec.cache.note(None, None, BUDGET), Change::None);
        assert_eq!(spec.cache.note(Some(&error), None, BUDGET), Change::Fails);
        assert_eq!(skip(), Change::Lacks(error), "and no recovery");
    }

    #[test]
    fn a_run_that_was_overtaken_leaves_the_younger_result_alone() {
        let spec = ping();
        keep(&spec, good(), Duration::from_secs(5));
        keep(&spec, bad(), Duration::from_secs(30));
        assert!(matches!(ask(&spec, MINUTE, BUDGET), CacheLookup::Reused(_)));
    }

    #[test]
    fn a_snapshot_is_joined_whole_or_not_at_all() {
        let specs = [ping(), ping()];
        let by = Deadline::within(BUDGET);
        let first = lookup_snapshot(&specs, 1, by, BUDGET);
        assert!(first.iter().all(|asked| matches!(asked, CacheLookup::Started(_))));
        let second = lookup_snapshot(&specs, 2, by, BUDGET);
        assert!(second.iter().all(|asked| matches!(asked, CacheLookup::Joined(_))));
        if let CacheLookup::Started(run) = &first[0] {
            end(run, good());
        }
        let third = lookup_snapshot(&specs, 3, by, BUDGET);
        assert!(third.iter().all(|asked| matches!(asked, CacheLookup::Started(_))), "one of them is over");
    }

    /// As a reload that changes the order makes it happen.
    #[test]
    fn snapshots_that_are_asked_for_in_different_orders_do_not_wait_for_each_other() {
        let specs: Vec<RunSpec> = (0..8).map(|_| ping()).collect();
        let turned: Vec<RunSpec> = specs.iter().rev().cloned().collect();
        let by = Deadline::within(BUDGET);
        std::thread::scope(|scope| {
            for specs in [&specs, &turned] {
                scope.spawn(move || {
                    for group in 0..2000 {
                        assert_eq!(lookup_snapshot(specs, group, by, BUDGET).len(), 8);
                    }
                });
            }
        });
    }

    #[test]
    fn a_scrape_joins_the_run_under_way_unless_its_deadline_is_much_later() {
        let spec = ping();
        let CacheLookup::Started(run) = ask(&spec, Duration::ZERO, BUDGET) else {
            panic!("the first starts")
        };
        let CacheLookup::Joined(joined) = ask(&spec, Duration::ZERO, BUDGET) else {
            panic!("the second joins")
        };
        assert!(Arc::ptr_eq(&run, &joined));
        assert!(
            matches!(ask(&spec, Duration::ZERO, BUDGET / 10), CacheLookup::Joined(_)),
            "an earlier deadline joins"
        );
        assert!(
            matches!(ask(&spec, Duration::ZERO, BUDGET * 3), CacheLookup::Started(_)),
            "a later one does not"
        );
    }

    #[test]
    fn a_run_that_is_over_is_not_joined() {
        let spec = ping();
        let CacheLookup::Started(run) = ask(&spec, Duration::ZERO, BUDGET) else {
            panic!("the first starts")
        };
        end(&run, good());
        assert!(matches!(ask(&spec, Duration::ZERO, BUDGET), CacheLookup::Started(_)));
    }

    #[test]
    fn a_good_result_is_reused_while_younger_than_nine_tenths_of_the_interval() {
        let spec = ping();
        keep(&spec, good(), Duration::from_secs(50));
        assert!(matches!(ask(&spec, MINUTE, BUDGET), CacheLookup::Reused(_)));
        let spec = ping();
        keep(&spec, good(), Duration::from_secs(55));
        assert!(matches!(ask(&spec, MINUTE, BUDGET), CacheLookup::Started(_)));
    }

    #[test]
    fn a_failure_ends_the_reuse_and_is_never_reused() {
        let spec = ping();
        keep(&spec, good(), Duration::from_secs(5));
        keep(&spec, bad(), Duration::ZERO);
        assert!(matches!(ask(&spec, MINUTE, BUDGET), CacheLookup::Started(_)));
    }

    #[test]
    fn a_hasty_scrape_of_a_slow_query_is_no_news() {
        let spec = ping();
        let slow = RunOutcome { took: Duration::from_secs(3), ..outcome(good(), Duration::ZERO) };
        spec.cache.record(&run(&spec), CachePolicy::default(), &slow);
        let late = Error::new(Reason::Timeout, "no");
        let note = |error, seconds| spec.cache.note(error, None, Duration::from_secs(seconds));
        assert_eq!(note(Some(&late), 2), Change::None);
        assert_eq!(note(None, 10), Change::None);
        assert_eq!(note(Some(&late), 10), Change::Fails, "it had time enough");
        assert_eq!(note(None, 10), Change::Recovered);
    }

    #[test]
    fn news_is_a_change_of_state_only() {
        let spec = ping();
        let notes = [None, Some(Reason::Sql), Some(Reason::Sql), Some(Reason::Timeout), None, None];
        let error = |reason: Option<Reason>| reason.map(|reason| Error::new(reason, "no"));
        let changes = notes.map(|reason| spec.cache.note(error(reason).as_ref(), None, BUDGET));
        let expected =
            [Change::None, Change::Fails, Change::None, Change::Fails, Change::Recovered, Change::None];
        assert_eq!(changes, expected);
    }
}
