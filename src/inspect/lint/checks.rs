//! One function a lint: looks at a metric, or at the whole configuration.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::units::{self, Unit};
use super::{FindingSink, LintMessage, metrics};
use crate::config::Config;
use crate::config::foreach::Foreach;
use crate::config::query::Query;
use crate::driver::connection::tls::TlsRequirement;
use crate::driver::statement::{Dialect, swallowing_comment};
use crate::driver::{AllowedStatements, Endpoint};
use crate::exposition::FamilyKind;
use crate::inspect::sql_compare::{Select, moving, select, tokens};
use crate::metric::Metric;
use crate::metric::labels::LabelSource;
use crate::yaml::folds::Folded;

fn lint_message(message: String, hint: impl Into<String>) -> LintMessage {
    (message, hint.into())
}

pub(super) fn counter_without_total(_: &Query, metric: &Metric) -> Option<LintMessage> {
    let name = metric.naming.text();
    let is_found = metric.naming.kind() == FamilyKind::Counter && !name.ends_with("_total");
    is_found.then(|| {
        let hint = format!("name it {name}_total, or leave out `type: counter` if it also falls");
        lint_message(format!("the counter {name} does not end in `_total`"), hint)
    })
}

pub(super) fn total_without_counter(_: &Query, metric: &Metric) -> Option<LintMessage> {
    let name = metric.naming.text();
    let stem = name.strip_suffix("_total").filter(|_| metric.naming.kind() == FamilyKind::Gauge)?;
    let hint = format!("write `type: counter` if it only grows, else name it {stem}");
    Some(lint_message(format!("{name} is a gauge, and `_total` promises a counter"), hint))
}

pub(super) fn base_unit(_: &Query, metric: &Metric) -> Option<LintMessage> {
    let name = metric.naming.text();
    let (unit, word) = units::of_name(name).filter(|(unit, _)| !unit.is_base())?;
    let better = match name.rsplit_once(&format!("_{word}")) {
        Some((before, after)) => format!("{before}_{}{after}", unit.base),
        None => name.to_owned(),
    };
    let own = metric.recipe.measures.first().map_or(1.0, |(_, scale)| *scale);
    let scale = own * unit.factor;
    let mut hint = format!("name it {better}");
    if metric.naming.unit().is_some() {
        hint += &format!(", with `unit: {}`,", unit.base);
    }
    match metric.recipe.unscaled {
        Some("value") => hint += &format!(" and multiply `value` by {}", units::number(unit.factor)),
        _ if !units::is_same(scale, 1.0) => hint += &format!(" and write `scale: {}`", units::number(scale)),
        _ if !units::is_same(own, 1.0) => hint += " and leave `scale` out",
        _ => {}
    }
    hint += &bounds_too(metric, unit.base_in_words());
    Some(lint_message(
        format!("{name} is in {}, and the base unit is {}", unit.name(), unit.base_in_words()),
        hint,
    ))
}

pub(super) fn unit_disagrees(_: &Query, metric: &Metric) -> Option<LintMessage> {
    let (unit, _) = units::of_name(metric.naming.text())?;
    unit_of_column(metric, unit).or_else(|| unit_of_help(metric, unit))
}

/// What else changes with `scale`.
fn bounds_too(metric: &Metric, unit: &str) -> String {
    let key = metric.recipe.unscaled.filter(|key| *key != "value");
    key.map_or_else(String::new, |key| format!("; the bounds in `{key}` are in {unit} then"))
}

/// The first column whose unit, after `scale`, is not that of the name.
fn unit_of_column(metric: &Metric, unit: &Unit) -> Option<LintMessage> {
    metric.recipe.measures.iter().find_map(|&(ref column, scale)| {
        let of_column = units::of_column(column).filter(|from| from.base == unit.base)?;
        let wanted = of_column.factor / unit.factor;
        if units::is_same(scale, wanted) {
            return None;
        }
        let (name, current) = (metric.naming.text(), units::number(scale));
        if units::is_same(wanted, 1.0) {
            let both = format!("{name} and its column `{column}` are both in {}", unit.name());
            let hint = format!("leave `scale` out{}", bounds_too(metric, unit.name()));
            return Some(lint_message(format!("{both}, and `scale` is {current}"), hint));
        }
        let instead =
            if units::is_same(scale, 1.0) { String::new() } else { format!(" instead of {current}") };
        Some(lint_message(
            format!("{name} says {}, and its column `{column}` {}", unit.name(), of_column.name()),
            format!("write `scale: {}`{instead}{}", units::number(wanted), bounds_too(metric, unit.name())),
        ))
    })
}

fn unit_of_help(metric: &Metric, unit: &Unit) -> Option<LintMessage> {
    let of_help = units::of_help(metric.naming.help())?;
    let disagrees = of_help.base == unit.base && !units::is_same(of_help.factor, unit.factor);
    disagrees.then(|| {
        lint_message(
            format!("{} says {}, and its help {}", metric.naming.text(), unit.name(), of_help.name()),
            format!("the help describes what is exported: {}", unit.name()),
        )
    })
}

pub(super) fn missing_help(_: &Query, metric: &Metric) -> Option<LintMessage> {
    let message = || format!("{} has no `help`", metric.naming.text());
    let hint = "add `help: …`: what it counts, and what not";
    metric.naming.help().trim().is_empty().then(|| lint_message(message(), hint))
}

pub(super) fn unbounded_label(config: &Config, sink: &mut FindingSink<'_>) {
    for (query, metric) in metrics(config) {
        let of_columns = metric.labels.iter().filter(|(_, origin)| matches!(origin, LabelSource::Column(_)));
        for label in of_columns.map(|(label, _)| label.as_str()).filter(|label| is_unbounded(label)) {
            let message =
                format!("the label `{label}` of {} may make one series per row", metric.naming.text());
            let hint = "leave it out and sum up in SQL, or write `lint_off: [L006]` where it has few values";
            sink.labels(query, metric, lint_message(message, hint));
        }
    }
}

fn is_unbounded(label: &str) -> bool {
    /// Last words of labels that have another value in each row.
    const WORDS: [&str; 7] = ["id", "uuid", "guid", "email", "mail", "url", "uri"];
    /// The same in camel case: `userId`, but not `paid`.
    const CAMEL_CASE: [&str; 7] = ["Id", "ID", "Uuid", "Guid", "Email", "Url", "Uri"];
    let word = label.rsplit('_').next().unwrap_or(label).to_lowercase();
    let is_camel_case =
        |end: &&str| label.strip_suffix(*end).is_some_and(|stem| stem.ends_with(char::is_lowercase));
    WORDS.contains(&word.as_str()) || CAMEL_CASE.iter().any(is_camel_case)
}

pub(super) fn prometheus_name(config: &Config, sink: &mut FindingSink<'_>) {
    /// The series that Prometheus adds to each scrape: <https://prometheus.io/docs/concepts/jobs_instances/>.
    const OF_SCRAPES: [&str; 8] = [
        "up",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
        "scrape_series_added",
        "scrape_timeout_seconds",
        "scrape_sample_limit",
        "scrape_body_size_bytes",
    ];
    let find = |label: &str, owner: &str| {
        let other = match label {
            "job" => "job_name",
            "instance" => "server",
            _ => return None,
        };
        let message = format!("the label `{label}` of {owner} is Prometheus' own");
        Some(lint_message(message, format!("use another name: {other}")))
    };
    for (query, metric) in metrics(config) {
        let name = metric.naming.text();
        if OF_SCRAPES.contains(&name) {
            let message = format!("Prometheus itself writes a metric {name} for each scrape");
            sink.metric(query, metric, lint_message(message, "begin the name with what it is about"));
        }
        let of_foreach = query.foreach.as_deref().map_or(&[][..], Foreach::labels);
        let own = metric.label_names.iter().filter(|label| !of_foreach.contains(label));
        let found = own.filter_map(|label| find(label.as_str(), name));
        found.for_each(|found| sink.labels(query, metric, found));
    }
    for query in &config.queries {
        let labels = query.foreach.iter().flat_map(|foreach| foreach.labels());
        let found = labels.filter_map(|label| find(label.as_str(), &format!("query {}", query.name)));
        found.for_each(|found| sink.query(query, &query.foreach_place, found));
    }
    for target in &config.targets {
        let owner = format!("target {}", target.name);
        let own = target.labels.iter().map(|(label, _)| (label, &target.source.labels));
        let discover = target.discover.as_deref();
        let of_databases =
            discover.iter().flat_map(|found| found.labels.iter().map(|label| (label, &found.labels_place)));
        for (label, place) in own.chain(of_databases) {
            let found = find(label.as_str(), &owner);
            found.into_iter().for_each(|found| sink.target(target, place, found));
        }
        // Once for all targets, unless each of them silences it.
        let found = find(&config.exporter.target_label, "every target");
        found.into_iter().for_each(|found| sink.target(target, &config.exporter.target_label_place, found));
    }
}

pub(super) fn moving_histogram(query: &Query, metric: &Metric) -> Option<LintMessage> {
    if metric.naming.kind() != FamilyKind::Histogram || !metric.recipe.observes_rows {
        return None;
    }
    let tokens = tokens(query.sql.text());
    let word = moving(&tokens)?;
    let name = metric.naming.text();
    let message =
        format!("the histogram {name} counts rows that leave the result again (`{word}` in its SQL)");
    Some(lint_message(message, "write `type: gaugehistogram`, or count all rows there ever were"))
}

pub(super) fn slow_counter(config: &Config, sink: &mut FindingSink<'_>) {
    /// With more, a window of five minutes has too few points.
    const LONGEST: Duration = Duration::from_secs(60);
    // Overrides may change the interval on a target: the longest one counts.
    let mut longest: HashMap<usize, Duration> = HashMap::new();
    for query in config.targets.iter().flat_map(|target| &target.queries) {
        let known = longest.entry(query.order).or_default();
        *known = query.interval.max(*known);
    }
    for (query, metric) in metrics(config).filter(|(_, metric)| metric.naming.kind() == FamilyKind::Counter) {
        let interval = longest.get(&query.order).copied().unwrap_or(query.interval);
        if interval > LONGEST {
            let seconds = interval.as_secs();
            let every =
                if seconds.is_multiple_of(60) { format!("{}m", seconds / 60) } else { format!("{seconds}s") };
            let message = format!("the counter {} is read every {every} only", metric.naming.text());
            let hint = "write `interval: 1m` or less, or make it a gauge without `_total`";
            sink.metric(query, metric, lint_message(message, hint));
        }
    }
}

pub(super) fn unverified_tls(config: &Config, sink: &mut FindingSink<'_>) {
    for target in &config.targets {
        let Some(endpoint) = &target.endpoint else { continue };
        let problem = match endpoint.tls_requirement() {
            TlsRequirement::Local | TlsRequirement::Identity => continue,
            TlsRequirement::PlainText => "uses a connection in plain text",
            TlsRequirement::WhatIsOffered => {
                "may use a connection in plain text, and its identity is not verified (`prefer`)"
            }
            TlsRequirement::Encryption => {
                "uses an encrypted connection to a server whose identity is not verified (`require`)"
            }
            TlsRequirement::Authority => "accepts a certificate of any public authority (`verify-ca`)",
        };
        let hint =
            "write `tls: {mode: verify-full, ca: FILE}`; without `ca` the public authorities are trusted";
        let found = lint_message(format!("target {} {problem}", target.name), hint);
        sink.target(target, &target.source.place, found);
    }
}

pub(super) fn written_password(config: &Config, sink: &mut FindingSink<'_>) {
    for target in &config.targets {
        for stored in target.source.secrets.iter().filter(|stored| stored.in_configuration) {
            let message = match stored.key {
                "password" => "this file holds a password".to_owned(),
                key => format!("this file holds a password, in the `{key}`"),
            };
            let hint =
                "write `password_file: FILE`, `password_command: [PROGRAM]` or `password: ${VARIABLE}`";
            sink.target(target, &stored.place, lint_message(message, hint));
        }
    }
}

pub(super) fn open_file(config: &Config, sink: &mut FindingSink<'_>) {
    // A file is reported once, at its first password that no `lint_off` silences.
    let mut reported = HashSet::new();
    for target in &config.targets {
        for stored in target.source.secrets.iter().filter(|stored| is_open(&stored.file)) {
            if !target.source.lint_off.contains(sink.code) && !reported.insert(&stored.file) {
                continue;
            }
            let file = stored.file.display();
            let message = if stored.in_configuration {
                format!("every user of this machine can read {file}, which holds a password")
            } else {
                format!("every user of this machine can read {file}, the file of `{}`", stored.key)
            };
            sink.target(target, &stored.place, lint_message(message, format!("chmod 0640 {file}")));
        }
    }
}

/// Whether every account may read the file and enter the folders above it.
fn is_open(file: &Path) -> bool {
    /// Where containers get their secrets.
    const MOUNTED: [&str; 2] = ["/run/secrets", "/var/run/secrets"];
    let Ok(real) = file.canonicalize() else { return false };
    if MOUNTED.iter().any(|folder| file.starts_with(folder) || real.starts_with(folder)) {
        return false;
    }
    let others_may = |path: &Path, bit: u32| {
        path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & bit != 0)
    };
    others_may(&real, 0o004) && real.ancestors().skip(1).all(|folder| others_may(folder, 0o001))
}

/// The index of a target, and how often a query runs there.
type QueryRun = (usize, Duration);

/// A query as it is compared with others: two with a run and the conditions in common could be one query.
struct ComparedQuery<'c> {
    query: &'c Query,
    tokens: Vec<String>,
    /// What `when` and `foreach` say.
    conditions: String,
    runs: Vec<QueryRun>,
}

fn compared(config: &Config) -> Vec<ComparedQuery<'_>> {
    let mut runs: HashMap<usize, Vec<QueryRun>> = HashMap::new();
    for (index, target) in config.targets.iter().enumerate() {
        for query in target.running() {
            runs.entry(query.order).or_default().push((index, query.interval));
        }
    }
    let queries = config.queries.iter().map(|query| ComparedQuery {
        query,
        tokens: tokens(query.sql.text()),
        conditions: format!("{:?} {:?}", query.when, query.foreach),
        runs: runs.remove(&query.order).unwrap_or_default(),
    });
    queries.collect()
}

pub(super) fn shared_sql(config: &Config, sink: &mut FindingSink<'_>) {
    /// What two queries have in common that one could answer.
    #[derive(PartialEq, Eq, Hash)]
    struct SharedRows<'t> {
        /// Queries of two files are left alone: each file is complete by itself.
        file: &'t str,
        rows: &'t [String],
        is_one_row: bool,
        conditions: &'t str,
        run: QueryRun,
    }
    let queries = compared(config);
    // The first queries over some rows, with their lists of columns. Two are enough: every list differs from one of them.
    let mut known: HashMap<SharedRows<'_>, Vec<(usize, &[String])>> = HashMap::new();
    for (index, ComparedQuery { query, tokens, conditions, runs }) in queries.iter().enumerate() {
        let Some(parts) = select(tokens) else { continue };
        let is_one_row = parts.is_one_row();
        let Select { list, rows } = parts;
        let mut earliest: Option<usize> = None;
        for run in runs {
            let file = &*query.place.file;
            let first =
                known.entry(SharedRows { file, rows, is_one_row, conditions, run: *run }).or_default();
            let other = first.iter().find(|(_, known)| *known != list).map(|(other, _)| *other);
            earliest = earliest.into_iter().chain(other).min();
            if first.len() < 2 && first.iter().all(|(_, known)| *known != list) {
                first.push((index, list));
            }
        }
        if let Some(ComparedQuery { query: other, .. }) = earliest.and_then(|other| queries.get(other)) {
            let message = format!("query {} reads the same rows as {}", query.name, other.name);
            let hint = format!("select its columns in {} and move its metrics there", other.name);
            sink.query(query, &query.place, lint_message(message, hint));
        }
    }
}

pub(super) fn same_sql(config: &Config, sink: &mut FindingSink<'_>) {
    let queries = compared(config);
    let mut first: HashMap<(&[String], &str, QueryRun), usize> = HashMap::new();
    for (index, ComparedQuery { query, tokens, conditions, runs }) in queries.iter().enumerate() {
        let known = runs.iter().map(|run| *first.entry((tokens, conditions, *run)).or_insert(index));
        let earlier = known.filter(|other| *other < index).min();
        if let Some(ComparedQuery { query: other, .. }) = earlier.and_then(|other| queries.get(other)) {
            let message = format!("query {} is the same SQL as {}", query.name, other.name);
            let hint = format!("move its metrics to {}", other.name);
            sink.query(query, &query.place, lint_message(message, hint));
        }
    }
}

pub(super) fn hiding_comment(config: &Config, sink: &mut FindingSink<'_>) {
    const HINT: &str = "write `sql: |`, which keeps the lines, or `/* … */`";
    let dialects = dialects(config);
    for query in &config.queries {
        // A query that runs nowhere is read as most databases would read it.
        let default = BTreeSet::from([Dialect::Postgres]);
        let dialects = dialects.get(&query.order).unwrap_or(&default);
        let comment = |folded: &[Folded]| {
            folded.iter().find_map(|folded| {
                let find = |dialect: &Dialect| swallowing_comment(&folded.text, &folded.folds, *dialect);
                dialects.iter().find_map(find).map(str::to_owned)
            })
        };
        if let Some(comment) = comment(&query.folded) {
            let message = format!("the comment `{comment}` hides the lines of SQL that follow it");
            sink.query(query, &query.sql_place, lint_message(message, HINT));
        }
        let when = query.when.as_ref().map(|when| ("when.sql", &*when.folded));
        let foreach = query.foreach.as_ref().map(|foreach| ("foreach.sql", foreach.folded()));
        for (key, folded) in when.into_iter().chain(foreach) {
            let Some(comment) = comment(folded) else { continue };
            let message = format!(
                "the comment `{comment}` in `{key}` of query {} hides the lines that follow it",
                query.name
            );
            sink.query(query, &query.place, lint_message(message, HINT));
        }
    }
    for target in &config.targets {
        if let Some(place) = &target.source.swallowing {
            let message =
                format!("a comment in `session_sql` of target {} hides what follows it", target.name);
            sink.target(
                target,
                place,
                lint_message(message, "write it as a literal block (`|`), or `/* … */`"),
            );
        }
    }
}

/// The dialects in which each query is read, by its order.
fn dialects(config: &Config) -> BTreeMap<usize, BTreeSet<Dialect>> {
    let mut dialects: BTreeMap<usize, BTreeSet<Dialect>> = BTreeMap::new();
    for target in &config.targets {
        let Some(allowed) = target.endpoint.as_deref().and_then(Endpoint::allows) else { continue };
        for query in &target.queries {
            dialects.entry(query.order).or_default().insert(AllowedStatements::dialect(allowed));
        }
    }
    dialects
}
