//! One scrape: asks each target for its queries' runs, waits until all have ended or the deadline is there,
//! and puts one page together. Best effort: what is missing is named on the page, nothing hides anything else.
//!
//! Knows no HTTP and no database.

mod ask;
pub mod merge;
pub mod report;

use std::time::Duration;

use super::run::RunEnd;
use super::targets::{ScrapeSelection, Targets};
use crate::error::Error;
use crate::exposition::page::Families;

pub use self::ask::ScrapeTime;
use self::ask::{Asking, gather};

/// How a scrape ended: the label `outcome` of `scrapes_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrapeOutcome {
    /// Every query is on the page.
    Complete,
    /// Some are.
    Partial,
    /// None is, though some should be.
    Failed,
}

impl ScrapeOutcome {
    /// The label value.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ScrapeOutcome::Complete => "complete",
            ScrapeOutcome::Partial => "partial",
            ScrapeOutcome::Failed => "failed",
        }
    }
}

/// A page of samples, not yet in any format.
pub struct ScrapedPage {
    /// The families, users' first.
    pub families: Families,
    /// How the scrape ended.
    pub verdict: ScrapeOutcome,
    /// Why what is missing is missing, one a query and one a target.
    pub failures: Vec<Error>,
}

/// Runs one scrape. Blocks until the page is complete, at most until the deadline.
///
/// # Errors
/// A configuration error for a name that does not exist; never for what a database does.
pub fn scrape(
    targets: &Targets,
    selection: &ScrapeSelection,
    time: ScrapeTime,
) -> Result<ScrapedPage, Error> {
    scrape_while(targets, selection, time, || {})
}

/// The same; `meanwhile` is done while the databases work on the queries.
///
/// # Errors
/// As [`scrape`].
pub fn scrape_while(
    targets: &Targets,
    selection: &ScrapeSelection,
    time: ScrapeTime,
    meanwhile: impl FnOnce(),
) -> Result<ScrapedPage, Error> {
    let chosen = targets.select(selection)?;
    let mut askings = gather(&chosen, time, meanwhile);
    let limits =
        merge::PageLimits { series: targets.exporter.max_series, bytes: targets.exporter.max_page_bytes };
    let labelled = !targets.exporter.target_label.is_empty();
    let merge::MergedPage { mut families, dropped, series } =
        merge::merge(&results(&askings), limits, labelled);
    for merge::DroppedQuery { target, query, error } in dropped {
        lose(&mut askings, target, query, &error);
    }
    let failures = askings.iter().flat_map(|asking| note(asking, time.budget)).collect();
    let verdict = verdict(&askings);
    families.extend(report::report(&askings, &targets.exporter, &report::Facts { time, series }));
    Ok(ScrapedPage { families, verdict, failures })
}

fn results(askings: &[Asking]) -> Vec<merge::MergeEntry<'_>> {
    let mut entries = Vec::new();
    for (target, asking) in askings.iter().enumerate() {
        for (query, answer) in asking.queries.iter().enumerate() {
            let metrics = &asking.target.database.queries[answer.index].metrics;
            entries.push(merge::MergeEntry { target, query, metrics, rendered: answer.rendered() });
        }
    }
    entries
}

fn lose(askings: &mut [Asking], target: usize, query: usize, error: &Error) {
    let asking = &mut askings[target];
    let answer = &mut asking.queries[query];
    let name = &asking.target.database.queries[answer.index].name;
    if let Some(outcome) = &mut answer.outcome {
        let error = error.clone().on_target(&asking.target.database.name).in_query(name);
        asking.target.count_error(answer.index, error.reason());
        outcome.end = RunEnd::Failed(error);
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

fn verdict(askings: &[Asking]) -> ScrapeOutcome {
    let ran = askings.iter().flat_map(|asking| &asking.queries).filter(|answer| answer.outcome.is_some());
    let queries: Vec<bool> = ran.map(|answer| answer.error().is_none()).collect();
    let targets = || askings.iter().map(|asking| asking.up.is_ok());
    let any = if queries.is_empty() { targets().any(|up| up) } else { queries.contains(&true) };
    match (any, queries.contains(&false) || targets().any(|up| !up)) {
        (_, false) => ScrapeOutcome::Complete,
        (true, true) => ScrapeOutcome::Partial,
        (false, true) => ScrapeOutcome::Failed,
    }
}
