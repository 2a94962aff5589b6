//! What a scrape asks of each target and waits for: runs started, joined or reused, until all have ended or the
//! deadline is there.
//!
//! Knows no page: what came back is a list of [`Asking`]s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::engine::query_sink::RenderedResult;
use crate::engine::result_cache::CacheLookup;
use crate::engine::run::{CompletionLatch, Run, RunEnd, RunKind, RunOutcome};
use crate::engine::target::Target;
use crate::engine::targets::SelectedTarget;
use crate::error::{Error, Reason};

/// Queries end this much before the page leaves, so that it can say `timeout` (DESIGN 4.1).
const RENDER: Duration = Duration::from_millis(50);
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
    #[must_use]
    pub fn deadline(self) -> Deadline {
        Deadline::after(self.began, self.budget)
    }

    /// When the queries must have ended.
    #[must_use]
    pub fn queries(self) -> Deadline {
        self.deadline().earlier_by(RENDER.min(self.budget.mul_f64(RENDER_SHARE)))
    }
}

/// One target in a scrape: what was asked of it and what came back.
pub struct Asking {
    /// The target.
    pub target: Arc<Target>,
    /// Whether a session was opened or answered.
    pub up: Result<(), Error>,
    /// False when all of it waited in line for a worker: then `up` tells nothing of the target.
    pub tried: bool,
    /// Its queries, in configuration order.
    pub queries: Vec<Answer>,
}

/// One query in a scrape.
pub struct Answer {
    /// Its index in the target.
    pub index: usize,
    /// `None` for a disabled query.
    pub outcome: Option<RunOutcome>,
    /// What stands in for a failed one (`keep_last`).
    pub kept: Option<Arc<RenderedResult>>,
}

impl Answer {
    /// What the page shows of the query.
    #[must_use]
    pub fn rendered(&self) -> Option<&RenderedResult> {
        match self.outcome.as_ref().map(|outcome| &outcome.end) {
            Some(RunEnd::Good(rendered)) => Some(rendered),
            _ => self.kept.as_deref(),
        }
    }

    /// Why it failed.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.outcome.as_ref().and_then(|outcome| outcome.end.error())
    }
}

/// Asks all targets, does `meanwhile` and waits. Blocks until everything has ended, at most until the deadline.
#[must_use]
pub(super) fn gather(chosen: &[SelectedTarget], time: ScrapeTime, meanwhile: impl FnOnce()) -> Vec<Asking> {
    let mut waiting = ask_all(chosen, time);
    meanwhile();
    wait(&mut waiting, chosen, time);
    let pings = ask_again(&waiting, chosen, time);
    if !pings.is_empty() {
        waiting.extend(pings);
        wait(&mut waiting, chosen, time);
    }
    sort_out(chosen, waiting)
}

fn ask_all(chosen: &[SelectedTarget], time: ScrapeTime) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    let mut order: Vec<usize> = (0..chosen.len()).collect();
    // Targets that failed last time start last: a healthy one never waits behind them.
    // Each is asked once: another scrape may change it meanwhile.
    order.sort_by_cached_key(|&index| chosen[index].0.is_doubtful());
    for index in order {
        let (target, queries) = &chosen[index];
        let enabled = queries.iter().copied().filter(|&query| target.database.queries[query].enabled);
        let works: Vec<RunKind> = enabled.map(RunKind::Query).collect();
        let mut asked = ask(target, index, &works, time);
        if asked.iter().all(|asked| asked.outcome.is_some()) {
            asked.extend(ask(target, index, &[RunKind::Ping], time));
        }
        waiting.append(&mut asked);
        target.start();
    }
    waiting
}

/// Pings for the targets that gave no sign of life but whose queries only ran out of their own time: their reused
/// results must not go for that.
fn ask_again(waiting: &[Waiting], chosen: &[SelectedTarget], time: ScrapeTime) -> Vec<Waiting> {
    let late = |asked: &Waiting| {
        let timeout = |error: &Error| error.reason() == Reason::Timeout;
        let outcome = asked.outcome.as_ref();
        outcome.is_some_and(|outcome| !outcome.reached && outcome.end.error().is_some_and(timeout))
    };
    let is_doubtful = |of_target: &&[Waiting]| {
        of_target.iter().any(|asked| asked.run.is_none())
            && of_target
                .iter()
                .all(|asked| asked.work != RunKind::Ping && (asked.run.is_none() || late(asked)))
    };
    let ping = |index: usize| {
        let target = &chosen[index].0;
        let asked = ask(target, index, &[RunKind::Ping], time);
        target.start();
        asked
    };
    if time.queries().passed() {
        return Vec::new();
    }
    let of_targets = waiting.chunk_by(|one, next| one.target == next.target);
    of_targets.filter(is_doubtful).flat_map(|of_target| ping(of_target[0].target)).collect()
}

/// One run asked for, under its number in the meeting.
struct Waiting {
    target: usize,
    work: RunKind,
    run: Option<Arc<Run>>,
    outcome: Option<RunOutcome>,
}

fn ask(target: &Arc<Target>, index: usize, works: &[RunKind], time: ScrapeTime) -> Vec<Waiting> {
    let asked = target.ask(works, time.queries(), time.budget);
    let waiting = works.iter().zip(asked).map(|(&work, asked)| match asked {
        CacheLookup::Reused(outcome) => Waiting { target: index, work, run: None, outcome: Some(outcome) },
        CacheLookup::Joined(run) | CacheLookup::Started(run) => {
            Waiting { target: index, work, run: Some(run), outcome: None }
        }
    });
    waiting.collect()
}

fn wait(waiting: &mut [Waiting], chosen: &[SelectedTarget], time: ScrapeTime) {
    let scrape = Arc::<CompletionLatch>::default();
    let mut open = 0;
    for (number, asked) in waiting.iter().enumerate().filter(|(_, asked)| asked.outcome.is_none()) {
        if let Some(run) = &asked.run {
            run.tell(number, &scrape);
            open += 1;
        }
    }
    // Half of what is left after the queries' own deadline is theirs to say `timeout`, the rest ours to render.
    let until =
        Deadline::after(time.queries().moment(), time.deadline().left().min(RENDER) / 2).min(time.deadline());
    for (number, outcome) in scrape.wait(open, until) {
        waiting[number].outcome = Some(outcome);
    }
    for asked in waiting.iter_mut().filter(|asked| asked.outcome.is_none()) {
        if let Some(run) = &asked.run {
            asked.outcome = Some(chosen[asked.target].0.abandon(run, time.budget));
        }
    }
}

fn sort_out(chosen: &[SelectedTarget], waiting: Vec<Waiting>) -> Vec<Asking> {
    let mut outcomes: Vec<Vec<(RunKind, RunOutcome, bool)>> = chosen.iter().map(|_| Vec::new()).collect();
    let mut tried = vec![false; chosen.len()];
    for Waiting { target, work, run, outcome } in waiting {
        tried[target] |= run.as_ref().is_some_and(|run| run.was_tried());
        outcomes[target].extend(outcome.map(|outcome| (work, outcome, run.is_none())));
    }
    let asking = |(((target, queries), mut outcomes), tried): ((&SelectedTarget, Vec<_>), bool)| {
        let up = up(&outcomes);
        if let Err(down) = &up {
            // A reused result of a target that is down is not served (DESIGN 4.7).
            for (_, outcome, _) in outcomes.iter_mut().filter(|(_, _, reused)| *reused) {
                outcome.end = RunEnd::Failed(down.clone());
            }
        }
        let mut by_query = by_query(outcomes);
        let answer = |&index: &usize| {
            let outcome = by_query.remove(&index);
            let failed = outcome.as_ref().is_some_and(|outcome| outcome.end.error().is_some());
            Answer { index, outcome, kept: if failed { target.kept(index) } else { None } }
        };
        Asking { queries: queries.iter().map(answer).collect(), up, tried, target: Arc::clone(target) }
    };
    chosen.iter().zip(outcomes).zip(tried).map(asking).collect()
}

/// The outcomes of queries by their index in the target.
fn by_query(outcomes: Vec<(RunKind, RunOutcome, bool)>) -> HashMap<usize, RunOutcome> {
    let of_query = |(work, outcome, _)| match work {
        RunKind::Query(index) => Some((index, outcome)),
        RunKind::Ping => None,
    };
    outcomes.into_iter().filter_map(of_query).collect()
}

/// Up when any run of this scrape reached the target; else the first reason why not.
fn up(outcomes: &[(RunKind, RunOutcome, bool)]) -> Result<(), Error> {
    let fresh = || outcomes.iter().filter(|(_, _, reused)| !reused);
    if fresh().any(|(_, outcome, _)| outcome.reached) {
        return Ok(());
    }
    let failure = fresh().find_map(|(_, outcome, _)| outcome.end.error().cloned());
    Err(failure.unwrap_or_else(|| Error::new(Reason::Timeout, "no answer")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn each_query_finds_its_own_outcome_and_a_ping_is_none() {
        let outcome = |millis| RunOutcome {
            end: RunEnd::Skipped,
            took: Duration::from_millis(millis),
            reached: true,
            began: Instant::now(),
            ended: Timestamp::now(),
        };
        let works = [RunKind::Query(7), RunKind::Ping, RunKind::Query(2)];
        let outcomes = works.into_iter().zip(1..).map(|(work, millis)| (work, outcome(millis), false));
        let by_query = by_query(outcomes.collect());
        let took = |index| by_query.get(&index).map(|outcome| outcome.took.as_millis());
        assert_eq!((took(7), took(2), took(0), by_query.len()), (Some(1), Some(3), None, 2));
    }
}
