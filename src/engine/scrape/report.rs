//! The exporter's own rows about one scrape (docs/metrics.md): rendered from this scrape's outcomes, never from a
//! registry, so that two scrapes at once cannot overwrite each other.
//!
//! A new family is one line in [`ROWS`] and one call below it. Collectors may give some of the facts other names.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::config::aliases::AliasOf;
use crate::config::exporter::{Exporter, QueryMetrics};
use crate::config::query::Query;
use crate::engine::run::RunEnd;
use crate::engine::target::Target;
use crate::exposition::block::Block;
use crate::exposition::line::{self, LabelBytes};
use crate::exposition::page::Families;
use crate::exposition::{Family, FamilyKind};
use crate::value::float::of_count;

use super::ask::{ScrapeTime, ScrapedQuery, ScrapedTarget};

macro_rules! rows {
    ($($row:ident = $name:literal, $help:literal;)*) => {
        #[derive(Clone, Copy)]
        enum OwnFamily { $($row,)* }

        /// Name and help of each row, in the page's order. All are gauges.
        const ROWS: &[(&str, &str)] = &[$((concat!("sql_exporter_", $name), $help),)*];
    };
}

rows! {
    TargetUp = "target_up", "Whether a session was opened or answered in this scrape.";
    TargetInfo = "target_info", "What the target said of itself at its last login.";
    TargetBackoff = "target_backoff_seconds", "Time until the next attempt to connect, after one that failed.";
    QuerySuccess = "query_success", "Whether the query's samples are on this page.";
    QueryDuration = "query_duration_seconds", "Time the query took, its rows included.";
    QueryRows = "query_rows", "Rows of the query's result.";
    QuerySeries = "query_series", "Series made from the query's result.";
    QueryLastSuccess = "query_last_success_timestamp_seconds", "When the query last succeeded, in Unix time.";
    QueryFailure = "query_failure_reason", "Why the query's samples are not on this page.";
    QuerySkipped = "query_skipped", "Why the query did not run.";
    ScrapeDuration = "scrape_duration_seconds", "Time from the request to the rendering of this page.";
    ScrapeTimeout = "scrape_timeout_seconds", "Time this scrape had, from its header or the configuration.";
    ScrapeSeries = "scrape_series", "Series from queries on this page.";
    ScrapeSeriesLimit = "scrape_series_limit", "The limit max_series of one page.";
}

static FAMILIES: LazyLock<Vec<Arc<Family>>> =
    LazyLock::new(|| ROWS.iter().map(|(name, help)| Family::ours(name, FamilyKind::Gauge, help)).collect());

struct ReportBuilder {
    /// One a family.
    blocks: Vec<Block>,
    /// The labels of the target or the query at hand; those of a row go into the gap.
    labels: LabelBytes,
    /// The labels of one row.
    row_labels: Vec<u8>,
    /// Of names that collectors give, one a family.
    aliases: Vec<Block>,
}

impl ReportBuilder {
    fn new() -> Self {
        let blocks = FAMILIES.iter().map(|family| Block::new(Arc::clone(family))).collect();
        let (labels, row_labels, aliases) = Default::default();
        ReportBuilder { blocks, labels, row_labels, aliases }
    }

    /// The rows that follow are about this target, or this query of it.
    fn about(&mut self, target: &Target, query: Option<&Query>) {
        self.labels.clear();
        let bytes = self.labels.bytes_mut();
        line::label("target", target.config.name.as_str(), bytes);
        if let Some(query) = query {
            line::label("query", &query.name, bytes);
            line::label("collector", &query.collector, bytes);
        }
        self.labels.mark_gap();
        for (name, value) in &target.config.labels {
            self.labels.push(name, value);
        }
    }

    /// A row about what [`ReportBuilder::about`] named last, with these labels besides.
    fn row(&mut self, family: OwnFamily, labels: &[(&'static str, &str)], value: f64) {
        self.row_labels.clear();
        labels.iter().for_each(|(name, text)| line::label(name, text, &mut self.row_labels));
        self.blocks[family as usize].line(&self.labels, &self.row_labels, value);
    }

    fn target_rows(&mut self, scraped: &ScrapedTarget) {
        let target = &scraped.target;
        self.about(target, None);
        self.row(OwnFamily::TargetUp, &[], f64::from(scraped.up.is_ok()));
        if let Some(facts) = target.facts() {
            let (driver, tls) = (target.config.driver, facts.tls.as_str());
            let labels =
                [("driver", driver), ("version", &facts.version), ("role", &facts.role), ("tls", tls)];
            self.row(OwnFamily::TargetInfo, &labels, 1.0);
        }
        self.row(OwnFamily::TargetBackoff, &[], target.backoff().as_secs_f64());
    }

    /// What stands under names that collectors give: of those with a query on this page.
    fn alias_rows(&mut self, scraped: &ScrapedTarget, took: Duration) {
        let config = &scraped.target.config;
        self.about(&scraped.target, None);
        for alias in &config.aliases {
            let is_named =
                |query: &&ScrapedQuery| alias.collectors.contains(&config.queries[query.index].collector);
            let mut queries = scraped.queries.iter().filter(is_named).peekable();
            if queries.peek().is_none() {
                continue;
            }
            let value = match alias.of {
                AliasOf::TargetUp => f64::from(scraped.up.is_ok()),
                AliasOf::ScrapeDuration => took.as_secs_f64(),
                AliasOf::Scrapes => of_count(scraped.target.scrapes()),
                AliasOf::ScrapeError => {
                    f64::from(scraped.up.is_err() || queries.any(|query| query.error().is_some()))
                }
            };
            let known = self.aliases.iter().position(|block| block.family.name == alias.family.name);
            let at = known.unwrap_or_else(|| {
                self.aliases.push(Block::new(Arc::clone(&alias.family)));
                self.aliases.len() - 1
            });
            self.aliases[at].line(&self.labels, &[], value);
        }
    }

    fn query_rows(&mut self, target: &Target, scraped: &ScrapedQuery, shown: QueryMetrics) {
        let error = scraped.error();
        if shown == QueryMetrics::Failing && error.is_none() {
            return;
        }
        self.about(target, Some(&target.config.queries[scraped.index]));
        let skipped = match scraped.outcome.as_ref().map(|outcome| &outcome.end) {
            None => Some("disabled"),
            Some(RunEnd::Skipped(cause)) => Some(cause.reason()),
            Some(_) => None,
        };
        if let Some(reason) = skipped {
            self.row(OwnFamily::QuerySkipped, &[("reason", reason)], 1.0);
        }
        let Some(outcome) = scraped.outcome.as_ref().filter(|_| skipped.is_none()) else { return };
        if let Some(error) = error {
            self.row(OwnFamily::QueryFailure, &[("reason", error.reason().as_str())], 1.0);
        }
        self.row(OwnFamily::QuerySuccess, &[], f64::from(error.is_none()));
        self.row(OwnFamily::QueryDuration, &[], outcome.took.as_secs_f64());
        if let Some(moment) = target.history(scraped.index).succeeded {
            self.row(OwnFamily::QueryLastSuccess, &[], moment.unix_seconds());
        }
        if let Some(rendered) = outcome.end.rendered() {
            self.row(OwnFamily::QueryRows, &[], of_count(rendered.rows));
            self.row(OwnFamily::QuerySeries, &[], of_count(rendered.series));
        }
    }
}

/// The families under names that collectors give to the exporter's own metrics, each once.
pub(super) fn alias_families(scraped: &[ScrapedTarget]) -> Vec<Arc<Family>> {
    let mut families: Vec<Arc<Family>> = Vec::new();
    for alias in scraped.iter().flat_map(|scraped| &scraped.target.config.aliases) {
        if families.iter().all(|known| known.name != alias.family.name) {
            families.push(Arc::clone(&alias.family));
        }
    }
    families
}

/// The rows of this scrape, each family with one block. Families without rows are left out.
pub(super) fn report(
    scraped: &[ScrapedTarget],
    exporter: &Exporter,
    time: ScrapeTime,
    series: u64,
) -> Families {
    let mut report = ReportBuilder::new();
    let took = time.began.elapsed();
    for target in scraped {
        report.target_rows(target);
        report.alias_rows(target, took);
        for query in &target.queries {
            report.query_rows(&target.target, query, exporter.query_metrics);
        }
    }
    for (family, value) in [
        (OwnFamily::ScrapeDuration, took.as_secs_f64()),
        (OwnFamily::ScrapeTimeout, time.budget.as_secs_f64()),
        (OwnFamily::ScrapeSeries, of_count(series)),
        (OwnFamily::ScrapeSeriesLimit, of_count(exporter.max_series)),
    ] {
        report.blocks[family as usize].sample(&[], value);
    }
    let filled = report.blocks.into_iter().filter(|block| block.series > 0);
    report
        .aliases
        .into_iter()
        .chain(filled)
        .map(|block| (Arc::clone(&block.family), vec![Arc::new(block)]))
        .collect()
}
