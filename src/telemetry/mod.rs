//! Metrics that live as long as the process: a value that is handed down, never a global registry.
//!
//! The only room with the prometheus crate. What a scrape finds out is never here (two scrapes would overwrite each
//! other): those rows are blocks of the scrape. A new metric is one field of [`Telemetry`], its line in
//! [`Telemetry::new`] and one method that counts.

mod process;
mod rows;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::Registry;
use prometheus::core::Collector;
use prometheus::proto::{MetricFamily, MetricType};

use crate::error::Reason;
use crate::exposition::block::Block;
use crate::exposition::page::Families;
use crate::exposition::{Family, FamilyKind};
use crate::name::{LabelName, MetricName};

use rows::Rows;

/// Whose row it is: a target with its own labels, which stand on its rows (DESIGN 9).
#[derive(Debug, Clone, Copy)]
pub struct Bearer<'a> {
    /// The value of the label `target`.
    pub target: &'a str,
    /// The target's `labels`.
    pub labels: &'a [(LabelName, String)],
}

impl<'a> Bearer<'a> {
    fn with(self, own: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let labels = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        std::iter::once(("target", self.target)).chain(own.iter().copied()).chain(labels).collect()
    }
}

/// Which query of a target a row is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its target.
    pub bearer: Bearer<'a>,
    /// Its name.
    pub query: &'a str,
    /// Its collector.
    pub collector: &'a str,
}

/// Values that a good result left out: the label `reason` of `values_skipped_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// NULL with `null: skip`.
    Null,
    /// Not a number, with `invalid: skip`.
    Invalid,
    /// A label set that was there already, with `duplicates: first`.
    Duplicate,
}

/// A target's sessions now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sessions {
    /// Open and waiting.
    pub idle: usize,
    /// Under a query.
    pub busy: usize,
    /// Past their deadline and not yet let go.
    pub late: usize,
    /// As many as there may be.
    pub limit: usize,
}

/// Why the gate refuses: every `reason` of `http_requests_rejected_total` that is built.
const REJECTED: [&str; 10] = [
    "auth",
    "body",
    "connections",
    "head_size",
    "head_timeout",
    "header_lines",
    "malformed",
    "method",
    "tls",
    "write_timeout",
];

/// Labels of ours on the rows of targets; no target may have one of these names.
const OWN: [&str; 5] = ["target", "query", "collector", "reason", "state"];

/// The counters. All methods are cheap and never block on I/O but [`Telemetry::render`], which reads `/proc`.
pub struct Telemetry {
    registry: Registry,
    query_errors: Rows,
    values_skipped: Rows,
    connect_failures: Rows,
    scrapes: Rows,
    runs_joined: Rows,
    late_workers: Rows,
    sessions: Rows,
    sessions_limit: Rows,
    http_requests: Rows,
    http_rejected: Rows,
    reload_successful: Rows,
    reload_timestamp: Rows,
}

impl Telemetry {
    /// Counters at zero, and a configuration that has just been loaded well.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let counter = |name, help| Rows::new(MetricType::COUNTER, name, help);
        let gauge = |name, help| Rows::new(MetricType::GAUGE, name, help);
        let telemetry = Telemetry {
            registry: Registry::new(),
            query_errors: counter("query_errors_total", "Runs of a query that failed, by reason."),
            values_skipped: counter("values_skipped_total", "Values left out of good results, by reason."),
            connect_failures: counter(
                "target_connect_failures_total",
                "Attempts to open a session that failed, by reason.",
            ),
            scrapes: counter("scrapes_total", "Scrapes, by outcome."),
            runs_joined: counter("runs_joined_total", "Times a scrape took part in a run already under way."),
            late_workers: gauge("late_workers", "Threads held by a query past its scrape's deadline."),
            sessions: gauge("sessions", "Sessions of a target, by state."),
            sessions_limit: gauge("sessions_limit", "The limit max_connections of a target."),
            http_requests: counter("http_requests_total", "HTTP requests answered, by path and status."),
            http_rejected: counter(
                "http_requests_rejected_total",
                "Requests and connections refused, by reason.",
            ),
            reload_successful: gauge(
                "config_last_reload_successful",
                "Whether the last load of the configuration succeeded.",
            ),
            reload_timestamp: gauge(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration was last loaded well, in Unix time.",
            ),
        };
        telemetry.begin();
        telemetry.register();
        Arc::new(telemetry)
    }

    /// Rows that are there from the start, so that their first increase is seen.
    fn begin(&self) {
        ["complete", "partial", "failed"].iter().for_each(|word| self.scrapes.add(&[("outcome", word)], 0));
        REJECTED.iter().for_each(|reason| self.http_rejected.add(&[("reason", reason)], 0));
        self.runs_joined.add(&[], 0);
        self.late_workers.set(&[], 0.0);
        self.reloaded(true);
    }

    fn register(&self) {
        let revision = option_env!("SQL_EXPORTER_REVISION").unwrap_or("unknown");
        let build = Rows::new(MetricType::GAUGE, "build_info", "The exporter's version; always 1.");
        build.set(&[("version", env!("CARGO_PKG_VERSION")), ("revision", revision)], 1.0);
        let all = [
            &build,
            &self.reload_successful,
            &self.reload_timestamp,
            &self.query_errors,
            &self.values_skipped,
            &self.connect_failures,
            &self.scrapes,
            &self.runs_joined,
            &self.late_workers,
            &self.sessions,
            &self.sessions_limit,
            &self.http_requests,
            &self.http_rejected,
        ];
        for rows in all {
            let registered = self.registry.register(Box::new(rows.clone()));
            debug_assert!(registered.is_ok(), "{:?}", rows.desc());
        }
    }

    /// A run of a query failed.
    pub fn failed(&self, subject: Subject<'_>, reason: Reason) {
        let own = [("query", subject.query), ("collector", subject.collector), ("reason", reason.word())];
        self.query_errors.add(&subject.bearer.with(&own), 1);
    }

    /// A good run left `count` values out.
    pub fn skipped(&self, subject: Subject<'_>, left: Left, count: u64) {
        let reason = match left {
            Left::Null => "null",
            Left::Invalid => "invalid",
            Left::Duplicate => "duplicate",
        };
        if count > 0 {
            self.values_skipped
                .add(&subject.bearer.with(&[("query", subject.query), ("reason", reason)]), count);
        }
    }

    /// A session could not be opened.
    pub fn connect_failed(&self, bearer: Bearer<'_>, reason: Reason) {
        self.connect_failures.add(&bearer.with(&[("reason", reason.word())]), 1);
    }

    /// A scrape ended: `complete`, `partial` or `failed`.
    pub fn scraped(&self, outcome: &str) {
        self.scrapes.add(&[("outcome", outcome)], 1);
    }

    /// A scrape took part in a run that was under way.
    pub fn joined(&self) {
        self.runs_joined.add(&[], 1);
    }

    /// As many threads are late now.
    pub fn late_workers(&self, count: usize) {
        self.late_workers.set(&[], whole(count));
    }

    /// A target's sessions now.
    pub fn sessions(&self, bearer: Bearer<'_>, now: Sessions) {
        for (state, count) in [("idle", now.idle), ("busy", now.busy), ("late", now.late)] {
            self.sessions.set(&bearer.with(&[("state", state)]), whole(count));
        }
        self.sessions_limit.set(&bearer.with(&[]), whole(now.limit));
    }

    /// A request was answered. `path` is one of ours or `other`: never what a client made up.
    pub fn requested(&self, path: &str, status: u16) {
        self.http_requests.add(&[("path", path), ("code", itoa::Buffer::new().format(status))], 1);
    }

    /// A request or a connection was refused.
    pub fn rejected(&self, reason: &str) {
        self.http_rejected.add(&[("reason", reason)], 1);
    }

    /// The configuration was loaded again, well or not.
    pub fn reloaded(&self, successful: bool) {
        self.reload_successful.set(&[], f64::from(u8::from(successful)));
        if successful {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.reload_timestamp.set(&[], now.as_secs_f64());
        }
    }

    /// Forgets the rows of targets and queries that are gone: keeps those that `is_there`.
    pub fn keep(&self, is_there: impl Fn(&Subject<'_>) -> bool) {
        let of_targets = [
            &self.query_errors,
            &self.values_skipped,
            &self.connect_failures,
            &self.sessions,
            &self.sessions_limit,
        ];
        for rows in of_targets {
            rows.keep(|labels| {
                let own = |name: &str| {
                    labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
                };
                let theirs = |name: &str| !OWN.contains(&name);
                let labels: Vec<(LabelName, String)> = labels
                    .iter()
                    .filter(|(name, _)| theirs(name))
                    .filter_map(|(name, value)| Some((LabelName::new(name).ok()?, value.clone())))
                    .collect();
                let bearer = Bearer { target: own("target").unwrap_or_default(), labels: &labels };
                let (query, collector) =
                    (own("query").unwrap_or_default(), own("collector").unwrap_or_default());
                is_there(&Subject { bearer, query, collector })
            });
        }
    }

    /// All families that have rows, by name; with `process`, those of the process as well.
    #[must_use]
    pub fn render(&self, process: bool) -> Families {
        let gathered = self.registry.gather();
        let mut blocks: Vec<Block> = gathered.iter().filter_map(rendered).collect();
        if process {
            blocks.extend(process::read());
        }
        blocks.into_iter().map(|block| (Arc::clone(&block.family), vec![Arc::new(block)])).collect()
    }
}

/// Labels that say whose row it is come first, as on the rows of a scrape; the others by name.
const LEADING: [&str; 3] = ["target", "query", "collector"];

fn rendered(family: &MetricFamily) -> Option<Block> {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => FamilyKind::Counter,
        _ => FamilyKind::Gauge,
    };
    let name = MetricName::new(family.name()).ok()?;
    let mut block = Block::new(Arc::new(Family::new(name, kind, family.help())));
    for metric in family.get_metric() {
        let pairs = metric.get_label().iter();
        let mut labels: Vec<(&str, &str)> = pairs.map(|pair| (pair.name(), pair.value())).collect();
        labels.sort_by_key(|(name, _)| {
            LEADING.iter().position(|leading| leading == name).unwrap_or(LEADING.len())
        });
        let value = match kind {
            FamilyKind::Counter => metric.get_counter().get_value(),
            _ => metric.get_gauge().get_value(),
        };
        block.sample(&labels, value);
    }
    Some(block)
}

/// Counts of threads and sessions stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "bounded by what one process can hold")]
fn whole(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(telemetry: &Telemetry, process: bool) -> String {
        let families = telemetry.render(process);
        let lines = families.iter().flat_map(|(_, blocks)| blocks).map(|block| block.lines.clone());
        String::from_utf8(lines.collect::<Vec<_>>().concat()).unwrap()
    }

    #[test]
    fn rows_of_targets_with_different_labels_are_one_family() {
        let telemetry = Telemetry::new();
        let labels = [(LabelName::new("env").unwrap(), "prod".to_owned())];
        let (shop, local) =
            (Bearer { target: "shop", labels: &labels }, Bearer { target: "local", labels: &[] });
        telemetry.connect_failed(shop, Reason::Auth);
        telemetry.connect_failed(shop, Reason::Auth);
        telemetry.connect_failed(local, Reason::Connect);
        let subject = Subject { bearer: shop, query: "orders", collector: "default" };
        telemetry.failed(subject, Reason::Timeout);
        let families = telemetry.render(false);
        let name = "sql_exporter_target_connect_failures_total";
        let (family, blocks) = families.iter().find(|(family, _)| family.name.as_str() == name).unwrap();
        assert_eq!(family.kind, FamilyKind::Counter);
        assert_eq!(blocks[0].series, 2);
        let text = page(&telemetry, false);
        assert!(
            text.contains(&format!("{name}{{target=\"shop\",env=\"prod\",reason=\"auth\"}} 2\n")),
            "{text}"
        );
        assert!(text.contains(&format!("{name}{{target=\"local\",reason=\"connect\"}} 1\n")), "{text}");
        let error = "query_errors_total{target=\"shop\",query=\"orders\",collector=\"default\",env=\"prod\",\
                     reason=\"timeout\"} 1\n";
        assert!(text.contains(error), "{text}");
    }

    #[test]
    fn every_family_stands_once_and_process_rows_only_where_asked_for() {
        let telemetry = Telemetry::new();
        telemetry.requested("/metrics", 200);
        telemetry.rejected("method");
        telemetry
            .sessions(Bearer { target: "a", labels: &[] }, Sessions { idle: 1, busy: 2, late: 0, limit: 3 });
        let text = page(&telemetry, true);
        for line in [
            "sql_exporter_http_requests_total{code=\"200\",path=\"/metrics\"} 1\n",
            "sql_exporter_http_requests_rejected_total{reason=\"method\"} 1\n",
            "sql_exporter_http_requests_rejected_total{reason=\"body\"} 0\n",
            "sql_exporter_sessions{target=\"a\",state=\"busy\"} 2\n",
            "sql_exporter_sessions_limit{target=\"a\"} 3\n",
            "sql_exporter_scrapes_total{outcome=\"failed\"} 0\n",
            "sql_exporter_runs_joined_total 0\n",
            "sql_exporter_late_workers 0\n",
            "sql_exporter_config_last_reload_successful 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.contains("process_cpu_seconds_total "), "{text}");
        assert!(!page(&telemetry, false).contains("process_"));
        let mut names: Vec<String> =
            telemetry.render(true).iter().map(|(family, _)| family.name.to_string()).collect();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn values_left_out_are_counted_by_reason_and_none_makes_no_row() {
        let telemetry = Telemetry::new();
        let bearer = Bearer { target: "a", labels: &[] };
        let subject = Subject { bearer, query: "q", collector: "default" };
        telemetry.skipped(subject, Left::Null, 0);
        telemetry.skipped(subject, Left::Invalid, 2);
        let text = page(&telemetry, false);
        assert!(
            text.contains("values_skipped_total{target=\"a\",query=\"q\",reason=\"invalid\"} 2\n"),
            "{text}"
        );
        assert!(!text.contains("reason=\"null\""), "{text}");
    }
}
