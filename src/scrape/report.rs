//! Our own rows of one scrape (DESIGN 9): rendered from this scrape's outcomes, never from a registry, so that
//! two scrapes at once cannot overwrite each other.
//!
//! A new row is one line in [`ROWS`] and one call below it.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use crate::exposition::block::Block;
use crate::exposition::page::Families;
use crate::exposition::{Family, FamilyKind};
use crate::name::MetricName;
use crate::plan::exporter::{Exporter, QueryMetrics};
use crate::target::run::{End, Work};

use super::gather::{Answer, Asking, Time};

macro_rules! rows {
    ($($row:ident = $name:literal, $help:literal;)*) => {
        #[derive(Clone, Copy)]
        enum Row { $($row,)* }

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
    pub time: Time,
    /// Series from queries.
    pub series: u64,
}

struct Report(Vec<Block>);

impl Report {
    fn row(&mut self, row: Row, labels: &[(&str, &str)], value: f64) {
        self.0[row as usize].sample(labels, value);
    }
}

/// The rows of this scrape, each family with one block. Families without rows are left out.
#[must_use]
pub fn report(askings: &[Asking], exporter: &Exporter, facts: &Facts) -> Families {
    let mut report = Report(FAMILIES.iter().map(|family| Block::new(Arc::clone(family))).collect());
    for asking in askings {
        target_rows(asking, &mut report);
        for answer in &asking.queries {
            query_rows(asking, answer, exporter.query_metrics, &mut report);
        }
    }
    report.row(Row::ScrapeDuration, &[], facts.time.began.elapsed().as_secs_f64());
    report.row(Row::ScrapeTimeout, &[], facts.time.budget.as_secs_f64());
    report.row(Row::ScrapeSeries, &[], count(facts.series));
    report.row(Row::ScrapeSeriesLimit, &[], count(exporter.max_series));
    let filled = report.0.into_iter().filter(|block| block.series > 0);
    filled.map(|block| (Arc::clone(&block.family), vec![Arc::new(block)])).collect()
}

fn target_rows(asking: &Asking, report: &mut Report) {
    let target = &asking.target;
    let mut row = |row, own: &[(&str, &str)], value| {
        let mut labels = vec![("target", target.plan.name.as_str())];
        labels.extend(own.iter().copied().chain(target.labels()));
        report.row(row, &labels, value);
    };
    row(Row::TargetUp, &[], truth(asking.up.is_ok()));
    if let Some(facts) = target.facts() {
        let own = [("driver", target.plan.driver), ("version", &facts.version), ("role", &facts.role)];
        row(Row::TargetInfo, &[&own[..], &[("tls", facts.tls.word())]].concat(), 1.0);
    }
    row(Row::TargetBackoff, &[], target.backoff().as_secs_f64());
}

fn query_rows(asking: &Asking, answer: &Answer, shown: QueryMetrics, report: &mut Report) {
    let target = &asking.target;
    let query = &target.plan.queries[answer.index];
    let mut row = |row, reason: Option<&'static str>, value| {
        let mut labels = vec![
            ("target", target.plan.name.as_str()),
            ("query", &*query.name),
            ("collector", &*query.collector),
        ];
        labels.extend(reason.map(|reason| ("reason", reason)));
        labels.extend(target.labels());
        report.row(row, &labels, value);
    };
    let error = answer.outcome.as_ref().and_then(|outcome| outcome.end.error());
    if shown == QueryMetrics::Failing && error.is_none() {
        return;
    }
    let Some(outcome) = &answer.outcome else { return row(Row::QuerySkipped, Some("disabled"), 1.0) };
    if let End::Skipped = outcome.end {
        return row(Row::QuerySkipped, Some("when"), 1.0);
    }
    row(Row::QuerySuccess, None, truth(error.is_none()));
    row(Row::QueryDuration, None, outcome.took.as_secs_f64());
    if let Some(moment) = target.past(Work::Query(answer.index)).succeeded {
        row(Row::QueryLastSuccess, None, unix_seconds(moment));
    }
    if let End::Good(rendered) = &outcome.end {
        row(Row::QueryRows, None, count(rendered.rows));
        row(Row::QuerySeries, None, count(rendered.series));
    }
    if let Some(error) = error {
        row(Row::QueryFailure, Some(error.reason().word()), 1.0);
    }
}

/// The seconds of a moment since the Unix epoch.
fn unix_seconds(moment: SystemTime) -> f64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |span| span.as_secs_f64())
}

fn truth(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// Counts on a page stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "bounded by max_rows and max_series")]
fn count(number: u64) -> f64 {
    number as f64
}
