//! One scrape: runs the queries of each target, waits until all have ended or until the deadline, and puts one page
//! together. Best effort: the page names what is missing, and no failure hides anything else.
//!
//! Knows no HTTP and no database.

mod ask;
pub mod merge;
mod report;

use std::time::Duration;

use super::run::RunEnd;
use super::scrape_times::PastScrape;
use super::targets::{ScrapeSelection, Targets};
use crate::error::Error;
use crate::exposition::page::Families;

pub use self::ask::ScrapeTime;
use self::ask::{ScrapedQuery, ScrapedTarget, run_queries};

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
    pub fn as_str(self) -> &'static str {
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
    pub outcome: ScrapeOutcome,
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
    let selected = targets.select(selection)?;
    let mut scraped = run_queries(&selected, time, meanwhile);
    scraped.iter().for_each(|scraped| scraped.target.count_scrape());
    let limits =
        merge::PageLimits { series: targets.exporter.max_series, bytes: targets.exporter.max_page_bytes };
    let labelled = !targets.exporter.target_label.is_empty();
    let aliases = report::alias_families(&scraped);
    let merge::MergedPage { mut families, dropped, hidden, series } =
        merge::merge(&merge_entries(&scraped), limits, labelled, &aliases);
    for hidden in hidden {
        let ScrapedTarget { target, queries, .. } = &scraped[hidden.target];
        target.note_hidden(queries[hidden.query].index, hidden.count, &hidden.example, &hidden.shown);
    }
    for merge::DroppedQuery { target, query, error } in dropped {
        drop_result(&mut scraped[target], query, error);
    }
    let failures = scraped.iter().flat_map(|target| note(target, time.budget)).collect();
    let outcome = outcome(&scraped);
    families.extend(report::report(&scraped, &targets.exporter, time, series));
    Ok(ScrapedPage { families, outcome, failures })
}

fn merge_entries(scraped: &[ScrapedTarget]) -> Vec<merge::MergeEntry<'_>> {
    let mut entries = Vec::new();
    for (number, ScrapedTarget { target, queries, .. }) in scraped.iter().enumerate() {
        entries.extend(queries.iter().enumerate().map(|(query, result)| {
            let known = &target.config.queries[result.index];
            let (collector, metrics) = (&*known.collector, &*known.metrics);
            merge::MergeEntry { target: number, query, collector, metrics, rendered: result.rendered() }
        }));
    }
    entries
}

/// The query succeeded, and is not on the page.
fn drop_result(scraped: &mut ScrapedTarget, query: usize, error: Error) {
    let ScrapedTarget { target, queries, .. } = scraped;
    let result = &mut queries[query];
    if let Some(outcome) = &mut result.outcome {
        target.count_error(result.index, error.reason());
        let query = &target.config.queries[result.index];
        outcome.end = RunEnd::Failed(target.owner().named(Some(query), error));
        result.kept = None;
    }
}

/// Remembers how the scrape went, writes one log line for each change of state and returns what failed.
fn note(scraped: &ScrapedTarget, budget: Duration) -> Vec<Error> {
    let ScrapedTarget { target, up, tried, took, queries } = scraped;
    let down = up.as_ref().err();
    let failed = down.is_some() || queries.iter().any(|query| query.error().is_some());
    target.note_scrape(PastScrape { took: *took, failed });
    target.note_target(down, *tried);
    for query in queries {
        target.note_query(query.index, query.error(), query.skipped(), up.is_ok(), budget);
    }
    let of_target = down.filter(|_| queries.is_empty());
    of_target.into_iter().chain(queries.iter().filter_map(ScrapedQuery::error)).cloned().collect()
}

fn outcome(scraped: &[ScrapedTarget]) -> ScrapeOutcome {
    let ran = scraped.iter().flat_map(|target| &target.queries).filter(|query| query.outcome.is_some());
    let good: Vec<bool> = ran.map(|query| query.error().is_none()).collect();
    let is_up = |target: &ScrapedTarget| target.up.is_ok();
    let any_good = if good.is_empty() { scraped.iter().any(is_up) } else { good.contains(&true) };
    let all_good = !good.contains(&false) && scraped.iter().all(is_up);
    match (any_good, all_good) {
        (_, true) => ScrapeOutcome::Complete,
        (true, false) => ScrapeOutcome::Partial,
        (false, false) => ScrapeOutcome::Failed,
    }
}
