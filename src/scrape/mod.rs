//! One scrape: asks each target for its queries' runs, waits until all have ended or the deadline is there,
//! and puts one page together. Best effort: what is missing is named on the page, nothing hides anything else.
//!
//! Knows no HTTP and no database.

pub mod merge;
pub mod report;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use crate::deadline::Deadline;
use crate::error::{Error, Reason};
use crate::exposition::page::Families;
use crate::fleet::{Chosen, Fleet, Selection};
use crate::target::Target;
use crate::target::memory::Asked;
use crate::target::run::{Outcome, Run, Told, Work};

/// Queries end this much before the page leaves, so that it can say `timeout` (DESIGN 4.1).
const RENDER: Duration = Duration::from_millis(50);
/// Where that is less, this part of the budget.
const RENDER_SHARE: f64 = 0.05;

/// When a scrape began and when its page must leave.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// The moment the deadline counts from.
    pub began: Instant,
    /// From there to the deadline.
    pub budget: Duration,
}

impl Time {
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

/// How a scrape ended: the label `outcome` of `scrapes_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every query is on the page.
    Complete,
    /// Some are.
    Partial,
    /// None is, though some should be.
    Failed,
}

impl Verdict {
    /// The label value.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Complete => "complete",
            Verdict::Partial => "partial",
            Verdict::Failed => "failed",
        }
    }
}

/// A page of samples, not yet in any format.
pub struct Page {
    /// The families, users' first.
    pub families: Families,
    /// How the scrape ended.
    pub verdict: Verdict,
    /// Why what is missing is missing, one a query and one a target.
    pub failures: Vec<Error>,
}

/// One target in a scrape: what was asked of it and what came back.
pub struct Asking {
    /// The target.
    pub target: Arc<Target>,
    /// Whether a session was opened or answered.
    pub up: Result<(), Error>,
    /// Its queries, in configuration order.
    pub queries: Vec<Answer>,
}

/// One query in a scrape.
pub struct Answer {
    /// Its index in the target.
    pub index: usize,
    /// `None` for a disabled query.
    pub outcome: Option<Outcome>,
}

/// Runs one scrape. Blocks until the page is complete, at most until the deadline.
///
/// # Errors
/// A configuration error for a name that does not exist; never for what a database does.
pub fn scrape(fleet: &Fleet, selection: &Selection, time: Time) -> Result<Page, Error> {
    let chosen = fleet.select(selection)?;
    let mut askings = gather(&chosen, time);
    let limits = merge::Limits { series: fleet.exporter.max_series, bytes: fleet.exporter.max_page_bytes };
    let labelled = !fleet.exporter.target_label.is_empty();
    let merge::Merged { mut families, losers, series } = merge::merge(&results(&askings), limits, labelled);
    for merge::Loser { target, query, error } in losers {
        lose(&mut askings, target, query, &error);
    }
    let failures = askings.iter().flat_map(note).collect();
    let verdict = verdict(&askings);
    families.extend(report::report(&askings, &fleet.exporter, &report::Facts { time, series }));
    Ok(Page { families, verdict, failures })
}

/// One run asked for, under the number that the channel tells.
struct Waiting {
    target: usize,
    work: Work,
    run: Option<Arc<Run>>,
    outcome: Option<Outcome>,
}

fn gather(chosen: &[Chosen], time: Time) -> Vec<Asking> {
    let mut waiting = ask_all(chosen, time);
    wait(&mut waiting, chosen, time);
    let pings = ask_again(&waiting, chosen, time);
    if !pings.is_empty() {
        waiting.extend(pings);
        wait(&mut waiting, chosen, time);
    }
    askings(chosen, waiting)
}

fn ask_all(chosen: &[Chosen], time: Time) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    let mut order: Vec<usize> = (0..chosen.len()).collect();
    // Targets that failed last time start last: a healthy one never waits behind them.
    order.sort_by_key(|&index| chosen[index].0.is_failing());
    for index in order {
        let (target, queries) = &chosen[index];
        let first = waiting.len();
        let enabled = queries.iter().copied().filter(|&query| target.plan.queries[query].enabled);
        waiting.extend(enabled.map(|query| ask(target, index, Work::Query(query), time)));
        let idle = waiting[first..].iter().all(|asked| asked.outcome.is_some());
        if idle {
            waiting.push(ask(target, index, Work::Ping, time));
        }
        target.start();
    }
    waiting
}

/// Pings for the targets that gave no sign of life but whose queries only ran out of their own time: their reused
/// results must not go for that.
fn ask_again(waiting: &[Waiting], chosen: &[Chosen], time: Time) -> Vec<Waiting> {
    let late = |asked: &Waiting| {
        let timeout = |error: &Error| error.reason() == Reason::Timeout;
        let outcome = asked.outcome.as_ref();
        outcome.is_some_and(|outcome| !outcome.reached && outcome.verdict.as_ref().is_err_and(timeout))
    };
    let is_doubtful = |of_target: &&[Waiting]| {
        of_target.iter().any(|asked| asked.run.is_none())
            && of_target.iter().all(|asked| asked.work != Work::Ping && (asked.run.is_none() || late(asked)))
    };
    let ping = |index: usize| {
        let target = &chosen[index].0;
        let asked = ask(target, index, Work::Ping, time);
        target.start();
        asked
    };
    if time.queries().passed() {
        return Vec::new();
    }
    let of_targets = waiting.chunk_by(|one, next| one.target == next.target);
    of_targets.filter(is_doubtful).map(|of_target| ping(of_target[0].target)).collect()
}

fn ask(target: &Arc<Target>, index: usize, work: Work, time: Time) -> Waiting {
    let (run, outcome) = match target.ask(work, time.queries(), time.budget) {
        Asked::Reused(outcome) => (None, Some(outcome)),
        Asked::Joined(run) | Asked::Started(run) => (Some(run), None),
    };
    Waiting { target: index, work, run, outcome }
}

fn wait(waiting: &mut [Waiting], chosen: &[Chosen], time: Time) {
    let (scrape, told) = channel::<Told>();
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
    while open > 0 {
        match told.recv_timeout(until.left()) {
            Ok((number, outcome)) => {
                waiting[number].outcome = Some(outcome);
                open -= 1;
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    for asked in waiting.iter_mut().filter(|asked| asked.outcome.is_none()) {
        if let Some(run) = &asked.run {
            asked.outcome = Some(chosen[asked.target].0.abandon(run, time.budget));
        }
    }
}

fn askings(chosen: &[Chosen], waiting: Vec<Waiting>) -> Vec<Asking> {
    let mut askings: Vec<Asking> = Vec::with_capacity(chosen.len());
    let mut outcomes: Vec<Vec<(Work, Outcome, bool)>> = chosen.iter().map(|_| Vec::new()).collect();
    for Waiting { target, work, run, outcome } in waiting {
        outcomes[target].extend(outcome.map(|outcome| (work, outcome, run.is_none())));
    }
    for ((target, queries), mut outcomes) in chosen.iter().zip(outcomes) {
        let up = up(&outcomes);
        if let Err(down) = &up {
            // A reused result of a target that is down is not served (DESIGN 4.7).
            for (_, outcome, reused) in &mut outcomes {
                if *reused {
                    outcome.verdict = Err(down.clone());
                }
            }
        }
        let find = |index| outcomes.iter().find(|(work, ..)| *work == Work::Query(index));
        let answer =
            |&index: &usize| Answer { index, outcome: find(index).map(|(_, outcome, _)| outcome.clone()) };
        let queries = queries.iter().map(answer).collect();
        askings.push(Asking { target: Arc::clone(target), up, queries });
    }
    askings
}

/// Up when any run of this scrape reached the target; else the first reason why not.
fn up(outcomes: &[(Work, Outcome, bool)]) -> Result<(), Error> {
    let fresh = || outcomes.iter().filter(|(_, _, reused)| !reused);
    if fresh().any(|(_, outcome, _)| outcome.reached) {
        return Ok(());
    }
    let failure = fresh().find_map(|(_, outcome, _)| outcome.verdict.as_ref().err().cloned());
    Err(failure.unwrap_or_else(|| Error::new(Reason::Timeout, "no answer")))
}

fn results(askings: &[Asking]) -> Vec<merge::Entry<'_>> {
    let mut entries = Vec::new();
    for (target, asking) in askings.iter().enumerate() {
        for (query, answer) in asking.queries.iter().enumerate() {
            let metrics = &asking.target.plan.queries[answer.index].metrics;
            let verdict = answer.outcome.as_ref().map(|outcome| outcome.verdict.as_deref());
            entries.push(merge::Entry { target, query, metrics, rendered: verdict.and_then(Result::ok) });
        }
    }
    entries
}

fn lose(askings: &mut [Asking], target: usize, query: usize, error: &Error) {
    let asking = &mut askings[target];
    let answer = &mut asking.queries[query];
    let name = &asking.target.plan.queries[answer.index].name;
    if let Some(outcome) = &mut answer.outcome {
        let error = error.clone().on_target(&asking.target.plan.name).in_query(name);
        asking.target.count_error(answer.index, error.reason());
        outcome.verdict = Err(error);
    }
}

/// Writes one log line for each change of state and gives what failed.
fn note(asking: &Asking) -> Vec<Error> {
    let mut failures = Vec::new();
    asking.target.note_target(asking.up.as_ref().err());
    failures.extend(asking.up.as_ref().err().filter(|_| asking.queries.is_empty()).cloned());
    for answer in &asking.queries {
        let Some(outcome) = &answer.outcome else { continue };
        let error = outcome.verdict.as_ref().err();
        asking.target.note_query(answer.index, error, asking.up.is_ok());
        failures.extend(error.cloned());
    }
    failures
}

fn verdict(askings: &[Asking]) -> Verdict {
    let outcomes =
        askings.iter().flat_map(|asking| &asking.queries).filter_map(|answer| answer.outcome.as_ref());
    let queries: Vec<bool> = outcomes.map(|outcome| outcome.verdict.is_ok()).collect();
    let targets = || askings.iter().map(|asking| asking.up.is_ok());
    let any = if queries.is_empty() { targets().any(|up| up) } else { queries.contains(&true) };
    match (any, queries.contains(&false) || targets().any(|up| !up)) {
        (_, false) => Verdict::Complete,
        (true, true) => Verdict::Partial,
        (false, true) => Verdict::Failed,
    }
}

/// The seconds of a moment since the Unix epoch.
#[must_use]
pub fn unix_seconds(moment: SystemTime) -> f64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |span| span.as_secs_f64())
}
