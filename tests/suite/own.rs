//! The exporter's own metrics: each by name, type, labels and closed sets of their values; which page shows which; and
//! that there is no other. `docs/metrics.md` lists them, made from [`families`].

use std::collections::{BTreeSet, HashMap};

use crate::checker::{Page, checked};
use crate::command::setup;
use crate::exporter::{Exporter, Setup};

/// Where a metric stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Of a target or query: on every page that shows its target.
    Target,
    /// Of the process: on the whole of `/metrics` and on `/-/metrics`.
    Process,
    /// Of the scrape: wherever there was one.
    Scrape,
}

use Group::{Process, Scrape, Target};

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// Name without the prefix, type, labels, group.
const TABLE: &[(&str, &str, &[&str], Group)] = &[
    ("target_up", GAUGE, &["target"], Target),
    ("target_info", GAUGE, &["target", "driver", "version", "role", "tls"], Target),
    ("target_backoff_seconds", GAUGE, &["target"], Target),
    ("query_success", GAUGE, &["target", "query", "collector"], Target),
    ("query_duration_seconds", GAUGE, &["target", "query", "collector"], Target),
    ("query_rows", GAUGE, &["target", "query", "collector"], Target),
    ("query_series", GAUGE, &["target", "query", "collector"], Target),
    ("query_last_success_timestamp_seconds", GAUGE, &["target", "query", "collector"], Target),
    ("query_failure_reason", GAUGE, &["target", "query", "collector", "reason"], Target),
    ("query_skipped", GAUGE, &["target", "query", "collector", "reason"], Target),
    ("query_errors_total", COUNTER, &["target", "query", "collector", "reason"], Process),
    ("values_skipped_total", COUNTER, &["target", "query", "reason"], Process),
    ("target_connect_failures_total", COUNTER, &["target", "reason"], Process),
    ("scrapes_total", COUNTER, &["outcome"], Process),
    ("runs_joined_total", COUNTER, &[], Process),
    ("late_workers", GAUGE, &[], Process),
    ("workers", GAUGE, &["state"], Process),
    ("workers_limit", GAUGE, &[], Process),
    ("discovery_success", GAUGE, &["target"], Process),
    ("discovery_targets", GAUGE, &["target"], Process),
    ("discovery_dropped", GAUGE, &["target"], Process),
    ("discovery_timestamp_seconds", GAUGE, &["target"], Process),
    ("target_file_success", GAUGE, &["file"], Process),
    ("sessions", GAUGE, &["target", "state"], Process),
    ("sessions_limit", GAUGE, &["target"], Process),
    ("http_requests_total", COUNTER, &["path", "code"], Process),
    ("http_requests_rejected_total", COUNTER, &["reason"], Process),
    ("config_last_reload_successful", GAUGE, &[], Process),
    ("config_last_reload_success_timestamp_seconds", GAUGE, &[], Process),
    ("build_info", GAUGE, &["version", "revision"], Process),
    ("scrape_duration_seconds", GAUGE, &[], Scrape),
    ("scrape_timeout_seconds", GAUGE, &[], Scrape),
    ("scrape_series", GAUGE, &[], Scrape),
    ("scrape_series_limit", GAUGE, &[], Scrape),
];

/// The closed sets of label values, by metric and label.
const SETS: &[(&str, &str, &str)] = &[
    ("query_failure_reason", "reason", REASONS),
    ("query_errors_total", "reason", REASONS),
    ("target_connect_failures_total", "reason", REASONS),
    ("query_skipped", "reason", "when disabled permission"),
    ("values_skipped_total", "reason", "null invalid duplicate"),
    ("scrapes_total", "outcome", "complete partial failed"),
    ("sessions", "state", "idle busy late"),
    ("workers", "state", "busy waiting"),
    (
        "http_requests_total",
        "path",
        "/ /metrics /probe /sd /config /-/metrics /-/healthy /-/ready /-/reload other",
    ),
    (
        "http_requests_rejected_total",
        "reason",
        "auth body connections head_size head_timeout header_lines host malformed memory method tls write_timeout",
    ),
    ("target_info", "role", "primary replica"),
];

const REASONS: &str = "connect resolve auth tls lost timeout wedged locked conflict sql permission read_only type value \
                       missing_column duplicate limit protocol server cancelled panic";

/// Something of every kind: a good query, failing ones, skipped ones, values left out, targets that are down, one of which
/// discovers others, and a file of targets.
fn everything() -> Setup {
    setup(
        "databases:
  shop: {driver: sqlite, database: shop.db, labels: {env: prod}}
  gone: {driver: sqlite, database: nowhere/gone.db}
  srv: {driver: postgres, host: 127.0.0.1, port: 1, tls: {mode: disable}, discover: {}}
target_files: [more.yaml]
queries:
- {name: good, database: shop, sql: SELECT 1 AS value, metrics: [{name: good}]}
- {name: left, database: shop, sql: SELECT NULL AS value UNION ALL SELECT 'x' UNION ALL SELECT 1 UNION ALL SELECT 1,
   metrics: [{name: left, invalid: skip, duplicates: first}]}
- {name: broken, database: shop, sql: SELECT nothing, metrics: [{name: broken}]}
- {name: off, database: shop, enabled: false, sql: SELECT 1 AS value, metrics: [{name: off}]}
- {name: elsewhere, database: shop, when: {role: replica}, sql: SELECT 1 AS value, metrics: [{name: elsewhere}]}
- {name: lost, database: gone, sql: SELECT 1 AS value, metrics: [{name: lost}]}
",
    )
    .file("more.yaml", "databases: {}\n")
}

/// Holds every family of ours on a page against the table; gives their names.
fn hold(page: &Page, where_from: &str) -> BTreeSet<&'static str> {
    let known: HashMap<&str, _> = TABLE.iter().map(|row| (row.0, row)).collect();
    let sets: HashMap<(&str, &str), BTreeSet<&str>> = SETS
        .iter()
        .map(|(name, label, words)| ((*name, *label), words.split_whitespace().collect()))
        .collect();
    let mut found = BTreeSet::new();
    for (family, kind) in &page.types {
        let Some(name) = family.strip_prefix("sql_exporter_") else { continue };
        let (name, wanted, labels, _) =
            known.get(name).unwrap_or_else(|| panic!("{where_from}: {family} is not in the table"));
        assert_eq!(kind, wanted, "{where_from}: {name}");
        for sample in page.series(family) {
            let own: BTreeSet<&str> =
                sample.labels.keys().map(String::as_str).filter(|label| *label != "env").collect();
            assert_eq!(own, labels.iter().copied().collect(), "{where_from}: {sample:?}");
            let on_shop = sample.labels.get("target").is_some_and(|target| target == "shop");
            assert_eq!(sample.labels.contains_key("env"), on_shop, "the target's labels: {sample:?}");
            for (label, value) in &sample.labels {
                let set = sets.get(&(*name, label.as_str()));
                assert!(set.is_none_or(|set| set.contains(value.as_str())), "{where_from}: {sample:?}");
            }
        }
        found.insert(*name);
    }
    found
}

fn of(groups: &[Group]) -> BTreeSet<&'static str> {
    TABLE.iter().filter(|row| groups.contains(&row.3)).map(|row| row.0).collect()
}

fn page(exporter: &Exporter, path: &str) -> Page {
    checked(exporter.get(path).text())
}

#[test]
fn every_metric_of_ours_has_its_type_its_labels_and_its_pages() {
    let exporter = everything().serve();
    // The first page of all is still without what only the scrape counts.
    for path in ["/metrics", "/", "/nothing"] {
        exporter.get(path);
    }
    exporter.request("POST", "/metrics", &[]);
    assert_eq!(hold(&page(&exporter, "/metrics"), "/metrics"), of(&[Target, Process, Scrape]));
    assert_eq!(hold(&page(&exporter, "/-/metrics"), "/-/metrics"), of(&[Process]));
    let narrowed = "/metrics?target=shop";
    assert_eq!(hold(&page(&exporter, narrowed), narrowed), of(&[Target, Scrape]));
    let one = "/metrics?target=shop&query=good";
    let mut expected = of(&[Target, Scrape]);
    expected.retain(|name| !["query_failure_reason", "query_skipped"].contains(name));
    assert_eq!(hold(&page(&exporter, one), one), expected);
}

#[test]
fn one_scrape_shows_them_without_those_of_a_server_and_of_the_process() {
    let once = everything().once();
    let page = checked(once.text());
    let found = hold(&page, "--once");
    assert!(found.is_superset(&of(&[Target, Scrape])), "{found:?}");
    assert!(!page.types.keys().any(|family| family.starts_with("process_")), "{:?}", page.types);
    // As on a page of `/metrics` that is narrowed to one target.
    let narrowed = everything().args(&["collect", "--target", "shop"]).output();
    assert_eq!(hold(&checked(narrowed.text()), "--target"), of(&[Target, Scrape]));
    let without = everything().args(&["collect", "--no-self-metrics"]).output();
    assert!(hold(&checked(without.text()), "--no-self-metrics").is_empty());
}

/// A family as its page declares it.
pub(crate) struct Family {
    /// The whole name.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) labels: &'static [&'static str],
    /// `None` for `process_*`, which every Prometheus client has.
    pub(crate) group: Option<Group>,
}

/// Every family about the exporter, in the order of a page: names, types and helps are those that the page declares.
pub(crate) fn families() -> Vec<Family> {
    let exporter = everything().serve();
    for path in ["/metrics", "/", "/nothing"] {
        exporter.get(path);
    }
    let text = exporter.metrics();
    let types = checked(&text).types;
    let helps = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let family = |(name, help): (&str, &str)| {
        let own = name.strip_prefix("sql_exporter_");
        let row = own.and_then(|own| TABLE.iter().find(|row| row.0 == own));
        let (labels, group) = match row {
            Some(row) => (row.2, Some(row.3)),
            None if name.starts_with("process_") => (&[] as _, None),
            None => return None,
        };
        Some(Family {
            name: name.to_owned(),
            kind: types[name].clone(),
            help: help.to_owned(),
            labels,
            group,
        })
    };
    helps.filter_map(family).collect()
}

#[test]
fn the_documents_name_every_reason() {
    let page = crate::documents::read("docs/metrics.md");
    for reason in REASONS.split_whitespace() {
        assert!(page.contains(&format!("`{reason}`")), "{reason}");
    }
    assert!(TABLE.iter().all(|(name, ..)| page.contains(&format!("`sql_exporter_{name}`"))));
}
