//! Our own rows of one scrape (docs/metrics.md): rendered from this scrape's outcomes, never from a registry, so that
//! two scrapes at once cannot overwrite each other.
//!
//! A new row is one line in [`ROWS`] and one call below it.

use std::sync::{Arc, LazyLock};

use crate::config::exporter::{Exporter, QueryMetrics};
use crate::config::query::Query;
use crate::engine::run::RunEnd;
use crate::engine::target::Target;
use crate::exposition::block::Block;
use crate::exposition::line::{LabelBytes, own_label};
use crate::exposition::page::Families;
use crate::exposition::{Family, FamilyKind};
use crate::name::MetricName;

use super::ask::{Answer, Asking, ScrapeTime};

macro_rules! rows {
    ($($row:ident = $name:literal, $help:literal;)*) => {
        #[derive(Clone, Copy)]
        enum Row { $($row,)* }

        const ALL: &[Row] = &[$(Row::$row,)*];

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

static FAMILIES: LazyLock<Vec<Arc<Family>>> = LazyLock::new(|| {
    let family = |&(name, help): &(&str, &str)| {
        let name = MetricName::new(name).ok()?;
        Some(Arc::new(Family::new(name, FamilyKind::Gauge, help)))
    };
    ROWS.iter().filter_map(family).collect()
});

/// What a report says of the scrape as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Its begin and budget.
    pub time: ScrapeTime,
    /// Series from queries.
    pub series: u64,
}

/// Bytes of a usual line about a query.
const LINE: usize = 128;

struct Report {
    blocks: Vec<Block>,
    /// The labels of the target or the query at hand; a row's own label goes into the gap.
    labels: LabelBytes,
    /// A row's own label.
    own: Vec<u8>,
}

impl Report {
    fn new(askings: &[Asking]) -> Self {
        let queries: usize = askings.iter().map(|asking| asking.queries.len()).sum();
        let room = |row: Row| match row {
            Row::QuerySuccess
            | Row::QueryDuration
            | Row::QueryRows
            | Row::QuerySeries
            | Row::QueryLastSuccess => queries * LINE,
            Row::TargetUp | Row::TargetInfo | Row::TargetBackoff => askings.len() * LINE,
            _ => 0,
        };
        let blocks = ALL.iter().zip(FAMILIES.iter());
        let blocks = blocks.map(|(row, family)| Block::with_capacity(Arc::clone(family), room(*row)));
        Report { blocks: blocks.collect(), labels: LabelBytes::default(), own: Vec::new() }
    }

    /// The rows that follow are about this target, or this query of it.
    fn about(&mut self, target: &Target, query: Option<&Query>) {
        self.labels.clear();
        let bytes = self.labels.bytes_mut();
        own_label("target", target.database.name.as_str(), bytes);
        if let Some(query) = query {
            own_label("query", &query.name, bytes);
            own_label("collector", &query.collector, bytes);
        }
        self.labels.mark_gap();
        for (name, value) in &target.database.labels {
            self.labels.push(name, value);
        }
    }

    /// A row about what [`Report::about`] said last, with labels of its own.
    fn row(&mut self, row: Row, own: &[(&'static str, &str)], value: f64) {
        self.own.clear();
        own.iter().for_each(|(name, text)| own_label(name, text, &mut self.own));
        self.blocks[row as usize].line(&self.labels, &self.own, value);
    }

    /// A row about the scrape.
    fn fact(&mut self, row: Row, value: f64) {
        self.blocks[row as usize].sample(&[], value);
    }
}

/// The rows of this scrape, each family with one block. Families without rows are left out.
#[must_use]
pub fn report(askings: &[Asking], exporter: &Exporter, facts: &Facts) -> Families {
    let mut report = Report::new(askings);
    for asking in askings {
        target_rows(asking, &mut report);
        for answer in &asking.queries {
            query_rows(asking, answer, exporter.query_metrics, &mut report);
        }
    }
    report.fact(Row::ScrapeDuration, facts.time.began.elapsed().as_secs_f64());
    report.fact(Row::ScrapeTimeout, facts.time.budget.as_secs_f64());
    report.fact(Row::ScrapeSeries, count(facts.series));
    report.fact(Row::ScrapeSeriesLimit, count(exporter.max_series));
    let filled = report.blocks.into_iter().filter(|block| block.series > 0);
    filled.map(|block| (Arc::clone(&block.family), vec![Arc::new(block)])).collect()
}

fn target_rows(asking: &Asking, report: &mut Report) {
    let target = &asking.target;
    report.about(target, None);
    report.row(Row::TargetUp, &[], truth(asking.up.is_ok()));
    if let Some(facts) = target.facts() {
        let (driver, tls) = (target.database.driver, facts.tls.as_str());
        let own = [("driver", driver), ("version", &facts.version), ("role", &facts.role), ("tls", tls)];
        report.row(Row::TargetInfo, &own, 1.0);
    }
    report.row(Row::TargetBackoff, &[], target.backoff().as_secs_f64());
}

fn query_rows(asking: &Asking, answer: &Answer, shown: QueryMetrics, report: &mut Report) {
    let target = &asking.target;
    let error = answer.outcome.as_ref().and_then(|outcome| outcome.end.error());
    if shown == QueryMetrics::Failing && error.is_none() {
        return;
    }
    report.about(target, Some(&target.database.queries[answer.index]));
    let mut because = |row, reason| report.row(row, &[("reason", reason)], 1.0);
    let Some(outcome) = &answer.outcome else { return because(Row::QuerySkipped, "disabled") };
    if let RunEnd::Skipped = outcome.end {
        return because(Row::QuerySkipped, "when");
    }
    if let Some(error) = error {
        because(Row::QueryFailure, error.reason().as_str());
    }
    report.row(Row::QuerySuccess, &[], truth(error.is_none()));
    report.row(Row::QueryDuration, &[], outcome.took.as_secs_f64());
    if let Some(moment) = target.past(answer.index).succeeded {
        report.row(Row::QueryLastSuccess, &[], moment.unix_seconds());
    }
    if let RunEnd::Good(rendered) = &outcome.end {
        report.row(Row::QueryRows, &[], count(rendered.rows));
        report.row(Row::QuerySeries, &[], count(rendered.series));
    }
}

fn truth(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// Counts on a page stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "bounded by max_rows and max_series")]
fn count(number: u64) -> f64 {
    number as f64
}
