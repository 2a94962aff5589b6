//! The effective configuration as a page shows it: what was written with defaults merged in, and what was left out with
//! the value that holds. Secrets never come this far: `yaml::writer` hides them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::hosts::AllowedHosts;
use crate::deadline::duration_text;
use crate::yaml::writer::YamlValue;

use super::database::Database;
use super::exporter::{Exporter, LABELS_TOO_LONG, LOG_FORMATS, QUERY_METRICS, WHO};
use super::query::Query;

/// The whole of it.
#[must_use]
pub fn redacted_config<'t>(exporter: &Exporter, targets: impl Iterator<Item = &'t Database>) -> YamlValue {
    let mut databases = Vec::new();
    let mut queries: BTreeMap<usize, YamlValue> = BTreeMap::new();
    for target in targets {
        databases.push((target.name.clone(), of_target(target)));
        for query in &target.queries {
            queries.entry(query.order).or_insert_with(|| of_query(query));
        }
    }
    let queries = queries.into_values().collect();
    map([
        ("exporter", of_exporter(exporter)),
        ("databases", YamlValue::Map(databases)),
        ("queries", YamlValue::List(queries)),
    ])
}

fn map<const N: usize>(pairs: [(&str, YamlValue); N]) -> YamlValue {
    YamlValue::Map(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn time(duration: Duration) -> YamlValue {
    YamlValue::Text(duration_text(duration))
}

fn optional(duration: Option<Duration>) -> YamlValue {
    duration.map_or_else(|| YamlValue::text("none"), time)
}

/// The word that stands for a value in the table it was read by.
fn word<T: Copy + PartialEq>(table: &[(&str, T)], value: T) -> YamlValue {
    YamlValue::text(table.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| *word))
}

fn of_exporter(exporter: &Exporter) -> YamlValue {
    let http = &exporter.http;
    let file = exporter.web_config_file.as_ref();
    map([
        ("listen", YamlValue::List(exporter.listen.iter().map(YamlValue::text).collect())),
        ("log_level", YamlValue::text(exporter.log_level.as_str().to_ascii_lowercase())),
        ("log_format", word(LOG_FORMATS, exporter.log_format)),
        ("scrape_timeout", time(exporter.scrape_timeout)),
        ("max_scrape_timeout", optional(exporter.max_scrape_timeout)),
        ("scrape_timeout_offset", time(exporter.scrape_timeout_offset)),
        ("max_workers", YamlValue::text(exporter.max_workers)),
        ("max_series", YamlValue::text(exporter.max_series)),
        ("max_page_bytes", YamlValue::text(exporter.max_page_bytes)),
        ("max_cell_bytes", YamlValue::text(exporter.max_cell_bytes)),
        ("max_label_length", YamlValue::text(exporter.max_label_length)),
        ("labels_too_long", word(LABELS_TOO_LONG, exporter.labels_too_long)),
        ("target_label", YamlValue::text(&exporter.target_label)),
        ("query_metrics", word(QUERY_METRICS, exporter.query_metrics)),
        (
            "web_config_file",
            YamlValue::text(file.map_or_else(|| "none".into(), |file| file.display().to_string())),
        ),
        ("enable_pages", word(WHO, exporter.enable_pages)),
        ("enable_reload", word(WHO, exporter.enable_reload)),
        ("advertise", YamlValue::text(exporter.advertise.as_deref().unwrap_or("none"))),
        ("route_prefix", YamlValue::text(exporter.route_prefix.path("/"))),
        (
            "http",
            map([
                ("max_connections", YamlValue::text(http.max_connections)),
                ("max_connections_per_address", YamlValue::text(http.max_connections_per_address)),
                ("max_head_bytes", YamlValue::text(http.max_head_bytes)),
                ("max_header_lines", YamlValue::text(http.max_header_lines)),
                ("head_timeout", time(http.head_timeout)),
                ("write_timeout", time(http.write_timeout)),
                ("idle_timeout", time(http.idle_timeout)),
                ("max_inflight_bytes", YamlValue::text(http.max_inflight_bytes)),
                ("hosts", hosts(&exporter.hosts)),
            ]),
        ),
    ])
}

fn hosts(hosts: &AllowedHosts) -> YamlValue {
    match hosts {
        AllowedHosts::Machine => {
            YamlValue::text("addresses, localhost and this machine's names without a login; else any")
        }
        AllowedHosts::Listed(names) => YamlValue::List(names.iter().map(YamlValue::text).collect()),
    }
}

/// The entry, its defaults, and how each of its queries runs there.
fn of_target(target: &Database) -> YamlValue {
    let labels = target.labels.iter().map(|(name, value)| (name.as_str().to_owned(), YamlValue::text(value)));
    let mut shown = target.redacted.clone();
    let values = [
        ("driver", YamlValue::text(target.driver)),
        ("enabled", YamlValue::text(target.enabled)),
        ("labels", YamlValue::Map(labels.collect())),
        ("max_connections", YamlValue::text(target.max_connections)),
        ("idle_timeout", time(target.idle_timeout)),
        ("max_lifetime", time(target.max_lifetime)),
        ("snapshot", YamlValue::text(target.snapshot)),
    ];
    for (key, value) in values {
        shown.set(key, value, true);
    }
    let runs = target.queries.iter().map(|query| (query.name.to_string(), how_it_runs(query)));
    shown.set("runs", YamlValue::Map(runs.collect()), true);
    shown
}

fn how_it_runs(query: &Query) -> YamlValue {
    map([
        ("enabled", YamlValue::text(query.enabled)),
        ("timeout", optional(query.timeout)),
        ("interval", time(query.interval)),
        ("keep_last", time(query.keep_last)),
        ("max_rows", YamlValue::text(query.max_rows)),
        ("max_series", YamlValue::text(query.max_series)),
        ("max_families", YamlValue::text(query.max_families)),
    ])
}

fn of_query(query: &Query) -> YamlValue {
    let mut shown = query.redacted.as_ref().clone();
    shown.set("collector", YamlValue::text(&query.collector), true);
    shown.set("sql", YamlValue::text(query.sql.text()), true);
    shown
}
