//! One scrape: asks each target for its queries' runs, waits until all have ended or the deadline is there,
//! and puts one page together. Best effort: what is missing is named on the page, nothing hides anything else.
//!
//! Knows no HTTP and no database.

mod ask;
pub mod merge;
pub mod report;

use std::time::Duration;

use super::run::End;
use super::targets::{Selection, Targets};
use crate::error::Error;
use crate::exposition::page::Families;

pub use self::ask::Time;
use self::ask::{Asking, gather};

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

/// Runs one scrape. Blocks until the page is complete, at most until the deadline.
///
/// # Errors
/// A configuration error for a name that does not exist; never for what a database does.
pub fn scrape(fleet: &Targets, selection: &Selection, time: Time) -> Result<Page, Error> {
    scrape_while(fleet, selection, time, || {})
}

/// The same; `meanwhile` is done while the databases work on the queries.
///
/// # Errors
/// As [`scrape`].
pub fn scrape_while(
    fleet: &Targets,
    selection: &Selection,
    time: Time,
    meanwhile: impl FnOnce(),
) -> Result<Page, Error> {
    let chosen = fleet.select(selection)?;
    let mut askings = gather(&chosen, time, meanwhile);
    let limits = merge::Limits { series: fleet.exporter.max_series, bytes: fleet.exporter.max_page_bytes };
    let labelled = !fleet.exporter.target_label.is_empty();
    let merge::Merged { mut families, losers, series } = merge::merge(&results(&askings), limits, labelled);
    for merge::Loser { target, query, error } in losers {
        lose(&mut askings, target, query, &error);
    }
    let failures = askings.iter().flat_map(|asking| note(asking, time.budget)).collect();
    let verdict = verdict(&askings);
    families.extend(report::report(&askings, &fleet.exporter, &report::Facts { time, series }));
    Ok(Page { families, verdict, failures })
}

fn results(askings: &[Asking]) -> Vec<merge::Entry<'_>> {
    let mut entries = Vec::new();
    for (target, asking) in askings.iter().enumerate() {
        for (query, answer) in asking.queries.iter().enumerate() {
            let metrics = &asking.target.plan.queries[answer.index].metrics;
            entries.push(merge::Entry { target, query, metrics, rendered: answer.rendered() });
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
        outcome.end = End::Failed(error);
        answer.kept = None;
    }
}

/// Writes one log line for each change of state and gives what failed.
fn note(asking: &Asking, budget: Duration) -> Vec<Error> {
    let mut failures = Vec::new();
    asking.target.note_target(asking.up.as_ref().err(), asking.tried);
    failures.extend(asking.up.as_ref().err().filter(|_| asking.queries.is_empty()).cloned());
    for answer in &asking.queries {
        asking.target.note_query(answer.index, answer.error(), asking.up.is_ok(), budget);
        failures.extend(answer.error().cloned());
    }
    failures
}

fn verdict(askings: &[Asking]) -> Verdict {
    let ran = askings.iter().flat_map(|asking| &asking.queries).filter(|answer| answer.outcome.is_some());
    let queries: Vec<bool> = ran.map(|answer| answer.error().is_none()).collect();
    let targets = || askings.iter().map(|asking| asking.up.is_ok());
    let any = if queries.is_empty() { targets().any(|up| up) } else { queries.contains(&true) };
    match (any, queries.contains(&false) || targets().any(|up| !up)) {
        (_, false) => Verdict::Complete,
        (true, true) => Verdict::Partial,
        (false, true) => Verdict::Failed,
    }
}
