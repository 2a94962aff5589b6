//! burningalchemist/sql_exporter, free/sql_exporter from which it comes, peekjef72/sql_exporter, and Grafana's `query_config`.
//!
//! Facts, from burningalchemist bc4f8f3, free 6f96b0d and peekjef72 7b97ed4: a target of a job has the labels `job` and
//! `target`, a target with a name `target`. NULL makes no sample, and an empty label; in peekjef72's it fails the row. Rows
//! that cannot be read fail alone. `min_interval` is the age of a result that is shown again, for all of a collector.

mod collectors;
mod targets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::collectors::Collector;
use self::targets::{FoundTarget, TargetFinder};
use super::assemble;
use super::dialect::{ImportDialect, ImportSource, child, items};
use super::drivers::SourceDriver;
use super::durations;
use super::families;
use super::input::Input;
use super::model::{Imported, ImportedQuery, OutputFile, Value};
use super::report::Report;
use super::section::Section;
use super::unique_names::UniqueNames;
use crate::deadline::duration_text;
use crate::driver::sql_lexer::{self, code};
use crate::yaml::document::Node;

pub(super) const DIALECT: ImportDialect = ImportDialect { name: "burningalchemist", signs, convert };

/// The most ends of a path that are tried.
const MOST_ENDS: usize = 20;
/// Lists of the dialect, and a key that their items have.
const LISTS: [(&str, &str); 7] = [
    ("metrics", "metric_name"),
    ("queries", "query_name"),
    ("jobs", "job_name"),
    ("collectors", "collector_name"),
    ("targets", "data_source_name"),
    ("targets", "dsn"),
    ("targets", "targets_files"),
];

fn signs(tree: &Node) -> Vec<String> {
    let mut signs = Vec::new();
    for (list, key) in LISTS {
        // Metrics of OpenTelemetry's `sqlquery` also have a `value_column`.
        let is_item = |item: &Node| child(item, key).is_some() && child(item, "value_column").is_none();
        if child(tree, list).map(items).unwrap_or_default().iter().any(is_item) {
            signs.push(format!("items of `{list}` have a `{key}`"));
        }
    }
    for key in ["collector_name", "collector_files", "data_source_name", "auth_configs"] {
        if child(tree, key).is_some() {
            signs.push(format!("it has `{key}`"));
        }
    }
    for (section, key) in [("target", "data_source_name"), ("global", "scrape_timeout_offset")] {
        if child(tree, section).and_then(|section| child(section, key)).is_some() {
            signs.push(format!("it has `{section}.{key}`"));
        }
    }
    signs
}

fn convert(source: &ImportSource<'_>) -> Imported {
    let ImportSource { inputs, options, report } = *source;
    let further: Vec<Input> = inputs.iter().flat_map(|input| named_files(input, inputs, report)).collect();
    let mut parts = SourceParts::default();
    inputs.iter().chain(&further).for_each(|input| parts.read(input, report));
    parts.settle_names();
    let found = TargetFinder { parts: &parts, options, report }.find();
    let mut imported = Imported::default();
    let mut names = UniqueNames::default();
    let mut users: Vec<Vec<&FoundTarget>> = vec![Vec::new(); parts.collectors.len()];
    for target in &found {
        for index in &target.collectors {
            users.get_mut(*index).into_iter().for_each(|users| users.push(target));
        }
    }
    let supported = found.iter().filter(|target| target.driver.is_ok()).count();
    for (collector, users) in parts.collectors.iter().zip(users) {
        match driver(collector, &users, parts.has_targets(), options.url.as_deref()) {
            None => collector.section.note("collector_name", "no target uses the collector: it is left out"),
            Some(Err(why)) => collector.leave_out(&why),
            Some(Ok(driver)) => {
                let mut file = collector.file(&mut names, parts.global.interval.as_deref());
                // In one file, each query names them.
                let copies = if options.is_folder { 1 } else { file.queries.len() };
                let bytes: usize = names_of(&users).map(|name| name.len() + 2).sum();
                let is_listed =
                    names_of(&users).count() < supported || names_of(&users).any(|name| name.contains('/'));
                if is_listed && !collector.section.may_copy(bytes * copies) {
                    continue;
                }
                select(&mut file, &users, supported, driver);
                without_consoles(&mut file.queries, &users, report);
                imported.included.extend(Some(file).filter(|file| !file.queries.is_empty()));
            }
        }
    }
    if !imported.included.is_empty() {
        parts.note_rules(report);
    }
    families::unite(imported.included.iter_mut().flat_map(|file| &mut file.queries), report);
    let has_targets = parts.has_targets();
    let (mut main, above) = (parts.main, parts.above_targets);
    main.databases =
        found.into_iter().filter(|found| found.driver.is_ok()).map(|found| found.target).collect();
    if let Some(target) = main.databases.first_mut() {
        target.entry.comments.splice(0..0, above);
    }
    if let Some(url) = options.url.as_deref().filter(|_| main.databases.is_empty() && !has_targets) {
        main.databases.push(assemble::target(url, report));
    }
    imported.main = Some(main).filter(|main| !main.databases.is_empty());
    if !options.is_folder && (imported.main.is_some() || imported.included.len() > 1) {
        imported.included.iter_mut().for_each(comments_on_first_query);
    }
    imported
}

/// In one file, what a collector's file says of itself stands above its first query.
fn comments_on_first_query(file: &mut OutputFile) {
    if let Some(query) = file.queries.first_mut() {
        let comments = std::mem::take(&mut file.top.comments);
        query.entry.comments.splice(0..0, comments);
    }
}

/// The driver for a collector, or why there is none; `None` where no target runs it.
fn driver(
    collector: &Collector<'_>,
    users: &[&FoundTarget],
    has_targets: bool,
    url: Option<&str>,
) -> Option<Result<&'static str, String>> {
    if has_targets {
        let drivers = || users.iter().map(|target| &target.driver);
        return drivers().find(|driver| driver.is_ok()).or(drivers().next()).cloned();
    }
    let told = collector.told.clone();
    if let Some(Err(why)) = told.as_ref().map(SourceDriver::ours) {
        return Some(Err(why));
    }
    let scheme = url.and_then(|url| url.split(':').next()).and_then(SourceDriver::known);
    let told = scheme.or(told).unwrap_or_else(|| {
        collector.section.note("collector_name", "nothing tells the database: PostgreSQL is assumed");
        SourceDriver::Ours("postgres")
    });
    Some(told.ours())
}

/// Says on which targets a file runs, where there are several.
fn select(file: &mut OutputFile, users: &[&FoundTarget], supported: usize, driver: &'static str) {
    if supported == 0 {
        file.top.set("driver", driver);
    } else if supported > 1 {
        let names: Vec<&str> = names_of(users).collect();
        let all = names.len() == supported && names.iter().all(|name| !name.contains('/'));
        file.top.set("databases", Value::list(if all { vec!["*"] } else { names }));
    }
}

/// The targets that are in the result.
fn names_of<'f>(users: &[&'f FoundTarget]) -> impl Iterator<Item = &'f str> {
    users.iter().filter(|target| target.driver.is_ok()).map(|target| target.target.name.as_str())
}

/// Beside databases, PgBouncer's console gets the queries that it answers.
fn without_consoles(queries: &mut [ImportedQuery], users: &[&FoundTarget], report: &Report) {
    let databases: Vec<&FoundTarget> =
        users.iter().copied().filter(|target| target.driver != Ok("pgbouncer")).collect();
    if databases.len() == users.len() || names_of(&databases).next().is_none() {
        return;
    }
    let bytes: usize = names_of(&databases).map(|name| name.len() + 2).sum();
    for query in queries {
        let sql = query.entry.text("sql").unwrap_or_default();
        let first = code(sql, sql_lexer::Dialect::Postgres).into_iter().next();
        if !first.is_some_and(|word| word.is_word("show")) && report.may_copy(bytes) {
            query.entry.set("databases", Value::list(names_of(&databases)));
            let message =
                "the query does not run on PgBouncer's console, which answers SHOW alone; there it fails";
            report.note(query.entry.origin.clone(), message);
        }
    }
}

/// What `global` says for collectors and targets.
#[derive(Default)]
struct Global {
    /// `min_interval`, in our form.
    interval: Option<String>,
    /// peekjef72's prefix of all names.
    namespace: Option<String>,
    /// `scrape_timeout` is there.
    has_timeout: bool,
}

/// What all inputs hold.
#[derive(Default)]
struct SourceParts<'s> {
    collectors: Vec<Collector<'s>>,
    /// `target`, a file with one target, and items of `targets`.
    targets: Vec<Section<'s>>,
    jobs: Vec<Section<'s>>,
    /// peekjef72's logins.
    logins: Vec<(&'s str, Section<'s>)>,
    global: Global,
    /// Comments above all targets.
    above_targets: Vec<String>,
    /// The settings of the exporter.
    main: OutputFile,
    /// Names of columns and labels are read in lower case, and names of metrics have a prefix.
    is_peekjef72: bool,
}

impl<'s> SourceParts<'s> {
    fn read(&mut self, input: &'s Input, report: &'s Report) {
        let Some(root) = Section::root(input, report) else { return };
        if root.has("collector_name") || root.has("metrics") {
            self.collectors.push(Collector::new(root));
            return;
        }
        if root.has("data_source_name") || root.has("dsn") {
            self.is_peekjef72 = true;
            self.targets.push(root);
            return;
        }
        self.main.top.comments.extend(input.head_comments());
        // Not items of a list that were taken out.
        let tail = input.tail_comments().into_iter().filter(|line| !line.trim_start().starts_with("- "));
        self.main.tail.extend(tail);
        let above = ["target", "jobs", "targets"].into_iter().flat_map(|key| root.comments_of(key));
        self.above_targets.extend(above);
        self.main.top.origin.get_or_insert_with(|| root.place());
        self.collectors.extend(root.sections("collectors").into_iter().map(Collector::new));
        self.jobs.extend(root.sections("jobs"));
        self.targets.extend(root.section("target"));
        if root.has("targets") || root.has("auth_configs") {
            self.is_peekjef72 = true;
        }
        self.targets.extend(root.sections("targets"));
        self.logins.extend(root.section("auth_configs").iter().flat_map(Section::named));
        root.take("collector_files");
        if let Some(global) = root.section("global") {
            self.global(&global);
        }
        root.dead_keys();
    }

    fn has_targets(&self) -> bool {
        !self.jobs.is_empty() || !self.targets.is_empty()
    }

    /// Settles what depends on the main file, and drops a second collector of a name.
    fn settle_names(&mut self) {
        let mut known = std::collections::HashSet::new();
        self.collectors.retain(|collector| {
            let is_new = known.insert(collector.name.clone());
            if !is_new {
                let message = format!("a second collector {}: sql_exporter refuses it", collector.name);
                collector.section.leave_out(message);
            }
            is_new
        });
        for collector in &mut self.collectors {
            collector.settle(self.is_peekjef72, self.global.namespace.as_deref());
        }
    }

    /// Notes what else happens to rows and scrapes.
    fn note_rules(&self, report: &Report) {
        let first = self.collectors.first().map(|collector| collector.section.place());
        report.note(
            first.clone(),
            "a row that cannot be read, or a second sample with the same labels, fails its whole query; there it alone is missing",
        );
        if self.is_peekjef72 {
            report.note(
                first,
                "NULL makes no sample or an empty label, text must be a number, dates are Unix seconds; there NULL fails the row, \
                 text is 0, dates are milliseconds",
            );
        }
        if self.has_targets() && !self.global.has_timeout {
            report.note(
                self.main.top.origin.clone(),
                "a scrape takes as long as Prometheus allows; there 10s at most (`exporter.max_scrape_timeout`)",
            );
        }
    }

    /// The settings of the exporter.
    fn global(&mut self, global: &Section<'_>) {
        let positive = |key: &str| duration(global, key).filter(|time| !time.is_zero());
        self.global.interval = positive("min_interval").map(duration_text);
        self.global.namespace = global.text("namespace");
        let mut exporter: Vec<(&str, Value)> = Vec::new();
        let address = global.text("web.listen-address").filter(|address| address.contains(':'));
        exporter.extend(address.map(|address| ("listen", address.into())));
        exporter.extend(global.text("log.level").map(|level| ("log_level", level.into())));
        self.global.has_timeout = global.has("scrape_timeout");
        if let Some(time) = positive("scrape_timeout") {
            // There it bounds what Prometheus asks for as well.
            let time = duration_text(time);
            exporter.extend((time != "10s").then(|| ("scrape_timeout", time.clone().into())));
            exporter.push(("max_scrape_timeout", time.into()));
        }
        let offset = positive("scrape_timeout_offset").map(duration_text).filter(|time| time != "500ms");
        exporter.extend(offset.map(|time| ("scrape_timeout_offset", time.into())));
        self.main.top.set_nonempty("exporter", Value::map(exporter));
        self.connections(global);
        for (key, message) in [
            ("scrape_error_drop_interval", "counters of errors are not dropped"),
            ("warmup_delay", "no collector runs before the first scrape"),
            ("ping_interval", "no ping is sent where a query shows that the target is up"),
        ] {
            if positive(key).is_some() {
                global.note(key, format!("`{key}` has no counterpart: {message}"));
            }
        }
        if global.flag("enable_query_metrics") == Some(true) {
            global.note(
                "enable_query_metrics",
                "`query_duration_seconds` and `query_rows_returned` are `sql_exporter_query_duration_seconds` and \
                 `sql_exporter_query_rows`",
            );
        }
        for key in ["exporter_name", "up_help", "scrape_duration_help", "collector_status_help"] {
            if global.take(key).is_some() {
                global.note(key, "names and helps of the exporter's own metrics are fixed");
            }
        }
        global.dead_keys();
    }

    /// The limits of connections, for all targets.
    fn connections(&mut self, global: &Section<'_>) {
        let mut database: Vec<(&str, Value)> = Vec::new();
        let most = global.number("max_connections");
        match most {
            Some(most) if most < 1.0 => {
                global.note("max_connections", "without a limit there; 3 connections a target here");
            }
            Some(most) if most != 3.0 => database.push(("max_connections", most.to_string().into())),
            _ => {}
        }
        match global.number("max_idle_connections") {
            Some(idle) if idle < 1.0 => database.push(("idle_timeout", "0".into())),
            Some(idle) if Some(idle) != most => {
                global.note("max_idle_connections", "all connections stay open for `idle_timeout`");
            }
            _ => {}
        }
        let lifetime = duration(global, "max_connection_lifetime").filter(|time| !time.is_zero());
        database.extend(lifetime.map(|time| ("max_lifetime", duration_text(time).into())));
        if !database.is_empty() {
            self.main.top.set("defaults", Value::map([("database", Value::map(database))]));
        }
    }
}

/// A duration; what is not one is reported. A negative one means there what 0 does.
fn duration(section: &Section<'_>, key: &str) -> Option<Duration> {
    section.parsed(key, "a duration", |text| match text.trim().strip_prefix('-') {
        Some(positive) => durations::parse(positive).map(|_| Duration::ZERO),
        None => durations::parse(text),
    })
}

/// The comments above a list or mapping and its items.
fn list_comments(section: &Section<'_>, key: &str) -> Vec<String> {
    let Some(entry) = section.take(key) else { return Vec::new() };
    let own = entry.at;
    let below = items(&entry.node).iter().map(|item| item.at);
    let below = below.chain(super::dialect::entries(&entry.node).iter().map(|entry| entry.at));
    own.into_iter().chain(below.flatten()).flat_map(|at| section.input.comments_above(at)).collect()
}

/// The files that a source names, without those that are given as well: they may be copied from another machine.
fn named_files(input: &Input, given: &[Input], report: &Report) -> Vec<Input> {
    let Some(root) = Section::root(input, report) else { return Vec::new() };
    let mut patterns: Vec<(String, bool)> =
        root.texts("collector_files").into_iter().map(|pattern| (pattern, true)).collect();
    for target in root.sections("targets") {
        patterns.extend(target.texts("targets_files").into_iter().map(|pattern| (pattern, false)));
    }
    let mut files = Vec::new();
    for (pattern, of_collectors) in patterns {
        let base = Path::new(&pattern).file_name().map(|name| name.to_string_lossy().into_owned());
        let base = base.unwrap_or_default();
        // Of a path in a container, `collectors/a.yml` may be here.
        let ends = pattern.match_indices('/').filter_map(|(at, _)| pattern.get(at + 1..)).take(MOST_ENDS);
        let read = |pattern: &str| input.included(pattern).ok().filter(|found| !found.is_empty());
        let found = std::iter::once(&*pattern).chain(ends).find_map(read).unwrap_or_default();
        let is_plain = !pattern.contains(['*', '?', '[']);
        if found.is_empty() && is_plain && !given.iter().any(|given| file_name(given) == base) {
            let message = format!("there is no file {pattern}: name it on the command line as well");
            root.left_out("collector_files", message);
        }
        files.extend(found.into_iter().filter(|found| {
            let is_meant =
                if of_collectors { is_collector(&found.tree) } else { !signs(&found.tree).is_empty() };
            is_meant && !given.iter().any(|given| is_same_file(given, found))
        }));
    }
    files
}

fn is_collector(tree: &Node) -> bool {
    child(tree, "collector_name").is_some() || child(tree, "metrics").is_some()
}

/// The name of the file, or of the key that holds it in a ConfigMap.
fn file_name(input: &Input) -> String {
    if !input.wrapper.kind.is_empty() {
        return input.wrapper.key.clone();
    }
    let name = Path::new(&input.document.file).file_name();
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_same_file(one: &Input, other: &Input) -> bool {
    let path = |input: &Input| -> Option<PathBuf> { Path::new(&input.document.file).canonicalize().ok() };
    path(one).is_some_and(|one| Some(one) == path(other))
}
