//! What a scrape needs of each target: runs started, joined or reused. Waits until all have ended, or until the deadline.
//!
//! Knows no page: what came back is a list of [`ScrapedTarget`]s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::engine::query_sink::RenderedResult;
use crate::engine::result_cache::CacheLookup;
use crate::engine::run::{CompletionLatch, Run, RunEnd, RunKind, RunOutcome, SkipCause};
use crate::engine::target::Target;
use crate::engine::targets::SelectedTarget;
use crate::error::{Error, Reason};

/// Queries end this much before the page leaves, so that it can say `timeout` (docs/scraping.md).
const RENDER_TIME: Duration = Duration::from_millis(50);
/// Where that is less, this part of the budget.
const RENDER_SHARE: f64 = 0.05;

/// When a scrape began and when its page must leave.
#[derive(Debug, Clone, Copy)]
pub struct ScrapeTime {
    /// The moment the deadline counts from.
    pub began: Instant,
    /// From there to the deadline.
    pub budget: Duration,
}

impl ScrapeTime {
    /// When the page must leave.
    pub fn deadline(self) -> Deadline {
        Deadline::after(self.began, self.budget)
    }

    /// When the queries must have ended.
    pub fn queries(self) -> Deadline {
        self.deadline().earlier_by(RENDER_TIME.min(self.budget.mul_f64(RENDER_SHARE)))
    }
}

/// One target in a scrape.
pub(super) struct ScrapedTarget {
    /// The target.
    pub target: Arc<Target>,
    /// Whether a session was opened or answered.
    pub up: Result<(), Error>,
    /// False when all of its runs waited for a worker: then `up` tells nothing of the target.
    pub tried: bool,
    /// From the start of the scrape until the last of its runs had ended.
    pub took: Duration,
    /// Its queries, in configuration order.
    pub queries: Vec<ScrapedQuery>,
}

/// One query in a scrape.
pub(super) struct ScrapedQuery {
    /// Its index in the target.
    pub index: usize,
    /// `None` for a disabled query.
    pub outcome: Option<RunOutcome>,
    /// What stands in for a failed one (`keep_last`).
    pub kept: Option<Arc<RenderedResult>>,
}

impl ScrapedQuery {
    /// What the page shows of the query.
    pub(super) fn rendered(&self) -> Option<&RenderedResult> {
        let shown = self.outcome.as_ref().and_then(|outcome| outcome.end.rendered());
        shown.or(self.kept.as_ref()).map(|rendered| &**rendered)
    }

    /// Why it was skipped.
    pub(super) fn skipped(&self) -> Option<&SkipCause> {
        match self.outcome.as_ref().map(|outcome| &outcome.end) {
            Some(RunEnd::Skipped(cause)) => Some(cause),
            _ => None,
        }
    }

    /// Why it failed.
    pub(super) fn error(&self) -> Option<&Error> {
        self.outcome.as_ref().and_then(|outcome| outcome.end.error())
    }
}

/// Starts what all targets need, does `meanwhile` and waits. Blocks until everything has ended, at most until the
/// deadline.
pub(super) fn run_queries(
    selected: &[SelectedTarget],
    time: ScrapeTime,
    meanwhile: impl FnOnce(),
) -> Vec<ScrapedTarget> {
    let began = Instant::now();
    let mut runs = start_all(selected, time);
    meanwhile();
    wait(selected, &mut runs, time);
    if !time.queries().passed() && ping_silent_targets(selected, &mut runs, time) {
        wait(selected, &mut runs, time);
    }
    selected.iter().zip(runs).map(|(target, runs)| scraped(target, runs, began)).collect()
}

/// One run that the scrape waits for.
struct PendingRun {
    kind: RunKind,
    /// `None` for a result that is reused.
    run: Option<Arc<Run>>,
    outcome: Option<RunOutcome>,
}

fn request(target: &Arc<Target>, kinds: &[RunKind], time: ScrapeTime) -> Vec<PendingRun> {
    let lookups = target.request(kinds, time.queries(), time.budget);
    let pending = kinds.iter().zip(lookups).map(|(&kind, lookup)| match lookup {
        CacheLookup::Reused(outcome) => PendingRun { kind, run: None, outcome: Some(outcome) },
        CacheLookup::Joined(run) | CacheLookup::Started(run) => {
            PendingRun { kind, run: Some(run), outcome: None }
        }
    });
    pending.collect()
}

/// The runs of each target, in the order of `selected`.
fn start_all(selected: &[SelectedTarget], time: ScrapeTime) -> Vec<Vec<PendingRun>> {
    let mut runs: Vec<Vec<PendingRun>> = selected.iter().map(|_| Vec::new()).collect();
    let mut order: Vec<usize> = (0..selected.len()).collect();
    // Targets that failed last time start last: a healthy one never waits behind them.
    // Cached, as another scrape may change the answer meanwhile.
    order.sort_by_cached_key(|&index| selected[index].0.is_doubtful());
    for index in order {
        let (target, queries) = &selected[index];
        let enabled = queries.iter().copied().filter(|&query| target.config.queries[query].enabled);
        let kinds: Vec<RunKind> = enabled.map(RunKind::Query).collect();
        let mut pending = request(target, &kinds, time);
        if pending.iter().all(|pending| pending.outcome.is_some()) {
            pending.extend(request(target, &[RunKind::Ping], time));
        }
        runs[index] = pending;
        target.start();
    }
    runs
}

/// Pings the targets that did not respond but whose queries only ran out of their own time: their reused results
/// must not be dropped for that. False when there is none.
fn ping_silent_targets(selected: &[SelectedTarget], runs: &mut [Vec<PendingRun>], time: ScrapeTime) -> bool {
    let timed_out = |outcome: &RunOutcome| {
        !outcome.reached && outcome.end.error().is_some_and(|error| error.reason() == Reason::Timeout)
    };
    let is_silent = |runs: &[PendingRun]| {
        runs.iter().any(|pending| pending.run.is_none())
            && runs.iter().all(|pending| {
                let is_silent = pending.run.is_none() || pending.outcome.as_ref().is_some_and(timed_out);
                is_silent && pending.kind != RunKind::Ping
            })
    };
    let mut any = false;
    for ((target, _), runs) in selected.iter().zip(runs).filter(|(_, runs)| is_silent(runs)) {
        runs.extend(request(target, &[RunKind::Ping], time));
        target.start();
        any = true;
    }
    any
}

fn wait(selected: &[SelectedTarget], runs: &mut [Vec<PendingRun>], time: ScrapeTime) {
    let latch = Arc::<CompletionLatch>::default();
    let of_targets = selected.iter().zip(runs);
    let mut open: Vec<(&Arc<Target>, &mut PendingRun)> = of_targets
        .flat_map(|((target, _), runs)| runs.iter_mut().map(move |pending| (target, pending)))
        .filter(|(_, pending)| pending.outcome.is_none())
        .collect();
    for (number, (_, pending)) in open.iter().enumerate() {
        pending.run.iter().for_each(|run| run.tell(number, &latch));
    }
    // Half of what is left after the queries' own deadline is theirs to say `timeout`, the rest ours to render.
    let grace = time.deadline().left().min(RENDER_TIME) / 2;
    let until = Deadline::after(time.queries().moment(), grace).min(time.deadline());
    for (number, outcome) in latch.wait(open.len(), until) {
        open[number].1.outcome = Some(outcome);
    }
    for (target, pending) in open.into_iter().filter(|(_, pending)| pending.outcome.is_none()) {
        pending.outcome = pending.run.as_ref().map(|run| target.abandon(run, time.budget));
    }
}

fn scraped((target, queries): &SelectedTarget, runs: Vec<PendingRun>, began: Instant) -> ScrapedTarget {
    let up = up(&runs);
    let took = fresh(&runs).map(|outcome| outcome.ended.since(began)).max().unwrap_or_default();
    let tried = runs.iter().filter_map(|pending| pending.run.as_ref()).any(|run| run.was_tried());
    let outcomes = runs.into_iter().filter_map(|PendingRun { kind, run, outcome }| match (outcome?, &up) {
        // A reused result of a target that is down is not served.
        (outcome, Err(down)) if run.is_none() => {
            Some((kind, RunOutcome { end: RunEnd::Failed(down.clone()), ..outcome }))
        }
        (outcome, _) => Some((kind, outcome)),
    });
    let mut by_query = by_query(outcomes);
    let query = |&index: &usize| {
        let outcome = by_query.remove(&index);
        let has_failed = outcome.as_ref().is_some_and(|outcome| outcome.end.error().is_some());
        ScrapedQuery { index, outcome, kept: if has_failed { target.kept(index) } else { None } }
    };
    let queries = queries.iter().map(query).collect();
    ScrapedTarget { target: Arc::clone(target), up, tried, took, queries }
}

/// The outcomes of queries by their index in the target.
fn by_query(outcomes: impl IntoIterator<Item = (RunKind, RunOutcome)>) -> HashMap<usize, RunOutcome> {
    let of_query = |(kind, outcome)| match kind {
        RunKind::Query(index) => Some((index, outcome)),
        RunKind::Ping | RunKind::Discovery => None,
    };
    outcomes.into_iter().filter_map(of_query).collect()
}

/// The outcomes of runs; a reused result has none.
fn fresh(runs: &[PendingRun]) -> impl Iterator<Item = &RunOutcome> {
    runs.iter().filter(|pending| pending.run.is_some()).filter_map(|pending| pending.outcome.as_ref())
}

/// Up when any run of this scrape reached the target; else the first reason why not.
fn up(runs: &[PendingRun]) -> Result<(), Error> {
    if fresh(runs).any(|outcome| outcome.reached) {
        return Ok(());
    }
    let failure = fresh(runs).find_map(|outcome| outcome.end.error().cloned());
    Err(failure.unwrap_or_else(|| Error::new(Reason::Timeout, "no answer")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn each_query_finds_its_own_outcome_and_a_ping_is_none() {
        let outcome = |millis| RunOutcome {
            end: RunEnd::Good(Arc::default()),
            took: Duration::from_millis(millis),
            reached: true,
            began: Instant::now(),
            ended: Timestamp::now(),
        };
        let works = [RunKind::Query(7), RunKind::Ping, RunKind::Query(2)];
        let outcomes = works.into_iter().zip(1..).map(|(work, millis)| (work, outcome(millis)));
        let by_query = by_query(outcomes);
        let took = |index| by_query.get(&index).map(|outcome| outcome.took.as_millis());
        assert_eq!((took(7), took(2), took(0), by_query.len()), (Some(1), Some(3), None, 2));
    }
}
