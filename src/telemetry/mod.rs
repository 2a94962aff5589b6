//! Metrics that live as long as the process: a value that is passed down, never a global registry.
//!
//! The only module with the prometheus crate. The results of a scrape are never here, as two scrapes would overwrite each
//! other: those rows are blocks of the scrape. A new metric is one line of `families!` below and one method that counts.

mod process;
mod rows;

use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::error::Reason;
use crate::exposition::FamilyKind;
use crate::exposition::block::Block;
use crate::exposition::page::Families;
use crate::name::LabelName;
use crate::value::float::of_count;

use self::rows::MetricRows;

/// A target with its own labels, which are on its rows (`docs/metrics.md`).
#[derive(Debug, Clone, Copy)]
pub struct TargetLabels<'a> {
    /// The value of the label `target`.
    pub name: &'a str,
    /// The target's `labels`.
    pub labels: &'a [(LabelName, String)],
}

impl<'a> TargetLabels<'a> {
    fn with(self, others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let labels = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        std::iter::once(("target", self.name)).chain(others.iter().copied()).chain(labels).collect()
    }
}

/// The query of a target that a row is about.
#[derive(Debug, Clone, Copy)]
pub struct QueryLabels<'a> {
    /// Its target.
    pub target: TargetLabels<'a>,
    /// Its name.
    pub query: &'a str,
    /// Its collector.
    pub collector: &'a str,
}

/// Why a good run left values out: the label `reason` of `values_skipped_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// NULL with `null: skip`.
    Null,
    /// Not usable, with `invalid: skip`.
    Invalid,
    /// A second sample of one label set, or a series that another collector has too.
    Duplicate,
}

/// A target's sessions by what they are doing: the label `state` of `sessions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionCounts {
    /// Open and waiting for the next scrape.
    pub idle: usize,
    /// Leased.
    pub busy: usize,
    /// Leased, and past the deadline of the lease; or given up, while the server goes on with its statement.
    pub late: usize,
}

/// The threads that run queries, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerCounts {
    /// Tasks that hold a permit.
    pub busy: usize,
    /// Tasks past their deadline that have not returned; not among the busy ones.
    pub late: usize,
    /// Tasks that wait for a permit.
    pub waiting: usize,
    /// Threads, idle ones included.
    pub threads: usize,
    /// Tasks that panicked, since the start.
    pub panics: u64,
}

/// What a target found with `discover`.
#[derive(Debug, Clone, Copy)]
pub struct DiscoveryGauges {
    /// The last attempt made a list.
    pub success: bool,
    /// Databases of the last list that are targets.
    pub targets: usize,
    /// Those that are not.
    pub dropped: usize,
    /// When the last list was made; `None` while there is none.
    pub timestamp: Option<Timestamp>,
}

/// Every `reason` of `http_requests_rejected_total`.
const REJECTION_REASONS: [&str; 12] = [
    "auth",
    "body",
    "connections",
    "head_size",
    "head_timeout",
    "header_lines",
    "host",
    "malformed",
    "memory",
    "method",
    "tls",
    "write_timeout",
];

/// Our labels on the rows of targets; no target may have a label of these names.
const OWN_LABELS: [&str; 5] = ["target", "query", "collector", "reason", "state"];

/// One line per family: its field, its type, its name after the prefix, its help.
macro_rules! families {
    ($($field:ident: $kind:ident $name:literal, $help:literal;)*) => {
        /// The counters, by name. All methods are cheap and never block.
        pub struct Telemetry {
            $($field: MetricRows,)*
            /// When the configuration was last loaded successfully.
            loaded: Mutex<Timestamp>,
        }

        impl Telemetry {
            fn empty() -> Self {
                Telemetry {
                    $($field: MetricRows::new(FamilyKind::$kind, concat!("sql_exporter_", $name), $help),)*
                    loaded: Mutex::new(Timestamp::now()),
                }
            }

            fn all(&self) -> impl Iterator<Item = &MetricRows> {
                [$(&self.$field,)*].into_iter()
            }
        }
    };
}

// In the order of the names.
families! {
    build: Gauge "build_info", "The exporter's version; always 1.";
    reload_timestamp: Gauge "config_last_reload_success_timestamp_seconds",
        "When the configuration was last loaded successfully, in Unix time.";
    reload_successful: Gauge "config_last_reload_successful",
        "Whether the last load of the configuration succeeded.";
    discovery_dropped: Gauge "discovery_dropped",
        "Databases that a target found and that are not targets: beyond max, or with a name that cannot be shown.";
    discovery_success: Gauge "discovery_success", "Whether the last attempt to find databases succeeded.";
    discovery_targets: Gauge "discovery_targets", "Databases that a target found and that are targets.";
    discovery_timestamp: Gauge "discovery_timestamp_seconds",
        "When a target last found its databases, in Unix time; 0 if it never did.";
    http_rejected: Counter "http_requests_rejected_total", "Requests and connections refused, by reason.";
    http_requests: Counter "http_requests_total", "HTTP requests answered, by path and status.";
    late_workers: Gauge "late_workers", "Threads held by a query past its scrape's deadline.";
    query_errors: Counter "query_errors_total", "Runs of a query that failed, by reason.";
    runs_joined: Counter "runs_joined_total", "Times a scrape joined a run already under way.";
    scrapes: Counter "scrapes_total", "Scrapes, by outcome.";
    sessions: Gauge "sessions", "Sessions of a target, by state.";
    sessions_limit: Gauge "sessions_limit", "The limit max_connections of a target.";
    target_file_success: Gauge "target_file_success",
        "Whether the present content of a target file is used.";
    connect_failures: Counter "target_connect_failures_total", "Attempts to open a session that failed, by reason.";
    values_skipped: Counter "values_skipped_total", "Values left out of good results, by reason.";
    workers: Gauge "workers", "Workers that run queries (busy), and work that waits for one (waiting).";
    workers_limit: Gauge "workers_limit", "The limit max_workers.";
}

impl Telemetry {
    /// Counters at zero, and a configuration that has just been loaded.
    pub fn new() -> Arc<Self> {
        let telemetry = Telemetry::empty();
        telemetry.begin();
        Arc::new(telemetry)
    }

    /// Rows that are there from the start, so that their first increase is seen.
    fn begin(&self) {
        let revision = option_env!("SQL_EXPORTER_REVISION").unwrap_or("unknown");
        self.build.set(&[("version", env!("CARGO_PKG_VERSION")), ("revision", revision)], 1.0);
        let outcomes = ["complete", "partial", "failed"];
        outcomes.iter().for_each(|outcome| self.scrapes.add(&[("outcome", outcome)], 0));
        REJECTION_REASONS.iter().for_each(|reason| self.http_rejected.add(&[("reason", reason)], 0));
        self.runs_joined.add(&[], 0);
        self.workers(WorkerCounts::default(), 0);
        self.reloaded(true);
    }

    /// A run of a query failed.
    pub fn failed(&self, subject: QueryLabels<'_>, reason: Reason) {
        let labels =
            [("query", subject.query), ("collector", subject.collector), ("reason", reason.as_str())];
        self.query_errors.add(&subject.target.with(&labels), 1);
    }

    /// A good run left `count` values out.
    pub fn skipped(&self, subject: QueryLabels<'_>, reason: SkipReason, count: u64) {
        if count > 0 {
            let reason = match reason {
                SkipReason::Null => "null",
                SkipReason::Invalid => "invalid",
                SkipReason::Duplicate => "duplicate",
            };
            let labels = [("query", subject.query), ("reason", reason)];
            self.values_skipped.add(&subject.target.with(&labels), count);
        }
    }

    /// A session could not be opened.
    pub fn connect_failed(&self, target: TargetLabels<'_>, reason: Reason) {
        self.connect_failures.add(&target.with(&[("reason", reason.as_str())]), 1);
    }

    /// A scrape ended: `complete`, `partial` or `failed`.
    pub fn scraped(&self, outcome: &str) {
        self.scrapes.add(&[("outcome", outcome)], 1);
    }

    /// A scrape joined a run that was under way.
    pub fn joined(&self) {
        self.runs_joined.add(&[], 1);
    }

    /// The workers now, and the most that may be busy.
    pub fn workers(&self, now: WorkerCounts, limit: usize) {
        self.workers.set(&[("state", "busy")], of_count(now.busy as u64));
        self.workers.set(&[("state", "waiting")], of_count(now.waiting as u64));
        self.workers_limit.set(&[], of_count(limit as u64));
        self.late_workers.set(&[], of_count(now.late as u64));
    }

    /// A target's sessions now, and the most that may be open.
    pub fn sessions(&self, target: TargetLabels<'_>, now: SessionCounts, limit: u32) {
        for (state, count) in [("idle", now.idle), ("busy", now.busy), ("late", now.late)] {
            self.sessions.set(&target.with(&[("state", state)]), of_count(count as u64));
        }
        self.sessions_limit.set(&target.with(&[]), f64::from(limit));
    }

    /// What the targets found that look for databases, now.
    pub fn discovered(&self, now: &[(TargetLabels<'_>, DiscoveryGauges)]) {
        let set = |rows: &MetricRows, value: fn(&DiscoveryGauges) -> f64| {
            rows.replace(now.iter().map(|(target, gauges)| (target.with(&[]), value(gauges))));
        };
        set(&self.discovery_success, |now| f64::from(now.success));
        set(&self.discovery_targets, |now| of_count(now.targets as u64));
        set(&self.discovery_dropped, |now| of_count(now.dropped as u64));
        set(&self.discovery_timestamp, |now| now.timestamp.map_or(0.0, Timestamp::unix_seconds));
    }

    /// All target files now, each with whether its content is used.
    pub fn target_files<'f>(&self, files: &'f [(String, bool)]) {
        let row = |(name, success): &'f (String, bool)| (vec![("file", name.as_str())], f64::from(*success));
        self.target_file_success.replace(files.iter().map(row));
    }

    /// A request was answered. `path` is one of ours or `other`, never one that a client made up.
    pub fn requested(&self, path: &str, status: u16) {
        self.http_requests.add(&[("path", path), ("code", itoa::Buffer::new().format(status))], 1);
    }

    /// A request or a connection was refused.
    pub fn rejected(&self, reason: &str) {
        self.http_rejected.add(&[("reason", reason)], 1);
    }

    /// The configuration was loaded again, successfully or not.
    pub fn reloaded(&self, successful: bool) {
        self.reload_successful.set(&[], f64::from(successful));
        if successful {
            *self.loaded.lock() = Timestamp::now();
        }
    }

    /// Removes the rows of targets and queries that are gone: keeps those that `exist`.
    pub fn retain(&self, exist: impl Fn(&QueryLabels<'_>) -> bool) {
        let of_targets = [
            &self.query_errors,
            &self.values_skipped,
            &self.connect_failures,
            &self.sessions,
            &self.sessions_limit,
        ];
        for rows in of_targets {
            rows.retain(|labels| {
                let value_of = |name: &str| {
                    labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
                };
                let theirs = |name: &str| !OWN_LABELS.contains(&name);
                let labels: Vec<(LabelName, String)> = labels
                    .iter()
                    .filter(|(name, _)| theirs(name))
                    .filter_map(|(name, value)| Some((LabelName::new(name).ok()?, value.clone())))
                    .collect();
                let target = TargetLabels { name: value_of("target").unwrap_or_default(), labels: &labels };
                let (query, collector) =
                    (value_of("query").unwrap_or_default(), value_of("collector").unwrap_or_default());
                exist(&QueryLabels { target, query, collector })
            });
        }
    }

    /// All families that have rows, by name.
    pub fn render(&self) -> Families {
        self.reload_timestamp.set(&[], self.loaded.lock().unix_seconds());
        families(self.all().filter_map(MetricRows::block))
    }
}

/// The families `process_*` of this process. Reads `/proc`.
pub fn process() -> Families {
    families(process::read())
}

fn families(blocks: impl IntoIterator<Item = Block>) -> Families {
    blocks.into_iter().map(|block| (Arc::clone(&block.family), vec![Arc::new(block)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(telemetry: &Telemetry) -> String {
        text(&telemetry.render())
    }

    fn text(families: &Families) -> String {
        let lines = families.iter().flat_map(|(_, blocks)| blocks).map(|block| block.lines.clone());
        String::from_utf8(lines.collect::<Vec<_>>().concat()).unwrap()
    }

    #[test]
    fn rows_of_targets_with_different_labels_are_one_family() {
        let telemetry = Telemetry::new();
        let labels = [(LabelName::new("env").unwrap(), "prod".to_owned())];
        let (shop, local) =
            (TargetLabels { name: "shop", labels: &labels }, TargetLabels { name: "local", labels: &[] });
        telemetry.connect_failed(shop, Reason::Auth);
        telemetry.connect_failed(shop, Reason::Auth);
        telemetry.connect_failed(local, Reason::Connect);
        let subject = QueryLabels { target: shop, query: "orders", collector: "default" };
        telemetry.failed(subject, Reason::Timeout);
        let families = telemetry.render();
        let name = "sql_exporter_target_connect_failures_total";
        let (family, blocks) = families.iter().find(|(family, _)| family.name.as_str() == name).unwrap();
        assert_eq!(family.kind, FamilyKind::Counter);
        assert_eq!(blocks[0].series, 2);
        let text = page(&telemetry);
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
    fn every_family_stands_once_by_name() {
        let telemetry = Telemetry::new();
        telemetry.requested("/metrics", 200);
        telemetry.rejected("method");
        let counts = SessionCounts { idle: 1, busy: 2, late: 0 };
        telemetry.sessions(TargetLabels { name: "a", labels: &[] }, counts, 3);
        let text = page(&telemetry);
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
        for families in [telemetry.render(), process()] {
            let names: Vec<&str> = families.iter().map(|(family, _)| family.name.as_str()).collect();
            assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        }
        assert!(self::text(&process()).contains("process_cpu_seconds_total "));
    }

    #[test]
    fn values_left_out_are_counted_by_reason_and_none_makes_no_row() {
        let telemetry = Telemetry::new();
        let target = TargetLabels { name: "a", labels: &[] };
        let subject = QueryLabels { target, query: "q", collector: "default" };
        telemetry.skipped(subject, SkipReason::Null, 0);
        telemetry.skipped(subject, SkipReason::Invalid, 2);
        let text = page(&telemetry);
        assert!(
            text.contains("values_skipped_total{target=\"a\",query=\"q\",reason=\"invalid\"} 2\n"),
            "{text}"
        );
        assert!(!text.contains("reason=\"null\""), "{text}");
    }
}
