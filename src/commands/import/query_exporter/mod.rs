//! query-exporter (albertodonato): databases, metrics and queries by name, where a query names the other two.
//!
//! Facts, from query-exporter 3370344 and prometheus_client 0.26: the value of a metric is the column of its name, NULL is 0,
//! and what is not a number leaves its series at the last value, at first 0; a time or an interval ends the run as well. A counter is shown with `_total`. Of rows with the same labels the
//! last one counts. Every sample has the label `database` and those of its database. A series stays when its row is gone.
//! Without `interval` and `schedule` a query runs when it is scraped.

mod address;
mod metrics;
mod parameters;
mod tags;

use std::collections::HashMap;

use self::metrics::Metrics;
use self::tags::{Includes, TaggedText};
use super::cron;
use super::dialect::{ImportDialect, ImportSource, child, entries, items, scalar};
use super::drivers::SourceDriver;
use super::durations;
use super::model::{Entry, Imported, ImportedQuery, ImportedTarget, OutputFile, Value};
use super::section::{Section, without_semicolon};
use super::unique_names::UniqueNames;
use crate::yaml::document::Node;

pub(super) const DIALECT: ImportDialect = ImportDialect { name: "query-exporter", signs, convert };

const TYPES: [&str; 5] = ["counter", "enum", "gauge", "histogram", "summary"];
/// How many statements may tell a driver that nothing names.
const HINTS: usize = 4;
const ENDS: &str = "a series ends when its row does: there it stays, or until its `expiration`";

fn signs(tree: &Node) -> Vec<String> {
    let below = |key: &str| child(tree, key).map(entries).unwrap_or_default().iter().map(|entry| &entry.node);
    let is_text = |node: &Node| scalar(node).is_some();
    let is_type = |node: &Node| scalar(node).is_some_and(|kind| TYPES.contains(&kind));
    let mut signs = Vec::new();
    if below("databases").any(|database| child(database, "dsn").is_some()) {
        signs.push("`databases` have a `dsn`".to_owned());
    }
    let names_metrics =
        |query: &Node| child(query, "metrics").and_then(|names| items(names).first()).is_some_and(is_text);
    if below("queries").any(|query| child(query, "sql").is_some() && names_metrics(query)) {
        signs.push("`queries` by name list their `metrics`".to_owned());
    }
    if below("metrics").any(|metric| child(metric, "type").is_some_and(is_type)) {
        signs.push("`metrics` by name have a `type`".to_owned());
    }
    let included = ["databases", "metrics", "queries"].into_iter().filter_map(|key| child(tree, key));
    if included.into_iter().any(tags::is_include) {
        signs.push("it has the tag `!include`".to_owned());
    }
    signs
}

fn convert(source: &ImportSource<'_>) -> Imported {
    let includes = Includes::of(source.inputs, source.report);
    let mut main = OutputFile::default();
    let mut read = Read::default();
    for input in source.inputs {
        main.top.comments.extend(input.head_comments());
        let Some(root) = Section::root(input, source.report) else { continue };
        for (key, list) in [
            ("databases", &mut read.databases),
            ("metrics", &mut read.metrics),
            ("queries", &mut read.queries),
        ] {
            let section = root.section(key).and_then(|section| includes.resolve(section));
            let named = section.iter().flat_map(Section::named);
            list.extend(named.filter_map(|(name, section)| Some((name, includes.resolve(section)?))));
        }
        if root.take("builtin-metrics").is_some() {
            root.note(
                "builtin-metrics",
                "the metrics about the exporter itself are others: see docs/metrics.md",
            );
        }
        root.dead_keys();
    }
    let statements: Vec<Statement<'_>> = read.queries.into_iter().filter_map(Statement::new).collect();
    let (databases, drivers) = targets(&read.databases, &statements);
    let metrics = Metrics::new(read.metrics);
    let conversion = QueryExporterConversion { drivers, metrics, has_one_target: databases.len() == 1 };
    let mut names = UniqueNames::default();
    main.databases = databases;
    main.queries =
        statements.iter().flat_map(|statement| conversion.queries(statement, &mut names)).collect();
    if !main.queries.is_empty() {
        general_notes(source, &conversion.metrics, &mut main);
    }
    Imported { main: Some(main), ..Imported::default() }
}

/// What the inputs hold, by name and in their order.
#[derive(Default)]
struct Read<'d> {
    databases: Vec<(&'d str, Section<'d>)>,
    metrics: Vec<(&'d str, Section<'d>)>,
    queries: Vec<(&'d str, Section<'d>)>,
}

/// What differs everywhere.
fn general_notes(source: &ImportSource<'_>, metrics: &Metrics<'_>, main: &mut OutputFile) {
    let Some(input) = source.inputs.first() else { return };
    let note = |message: &str| source.report.note(input.document.place(input.at, &input.path), message);
    match source.options.keep_labels {
        true => main.top.set("exporter", Value::map([("target_label", "database")])),
        false => {
            note("the label `database` of all samples is called `target` (--keep-labels keeps its name)");
        }
    }
    note(ENDS);
    note(
        "a value that is not a number, or two rows with the same labels, fail a query as a whole: there the series keeps its \
         last value, at first 0, and the last row counts",
    );
    note("a time or an interval as a value is its seconds: there it ends the run of its query");
    if metrics.have_labels() {
        note(
            "in labels NULL is empty, a boolean `true`, a time ISO 8601, a float `0.00001`: there they are `None`, `True` and \
             Python's form (`1e-05`)",
        );
    }
    if metrics.have_created() {
        note("the series that end in `_created` are left out");
    }
}

/// A query with its statement.
struct Statement<'d> {
    name: &'d str,
    section: Section<'d>,
    sql: String,
    databases: Vec<String>,
}

impl<'d> Statement<'d> {
    fn new((name, section): (&'d str, Section<'d>)) -> Option<Statement<'d>> {
        let sql = if section.take("sql").is_some_and(|sql| scalar(&sql.node).is_some()) {
            section.sql("sql")?
        } else {
            match tags::text(&section, "sql") {
                Some(TaggedText::File(file)) => {
                    if !section.may_copy(1) {
                        return None;
                    }
                    let text = tags::file(&section, "sql", &file)?;
                    if !section.may_copy(text.len()) {
                        return None;
                    }
                    without_semicolon(&text).to_owned()
                }
                Some(TaggedText::Variable(_)) => {
                    section
                        .left_out("sql", "a variable cannot hold a statement: write it, or use `sql_file`");
                    return None;
                }
                _ => String::new(),
            }
        };
        if sql.is_empty() {
            section.leave_out(format!("the query {name} has no statement"));
            return None;
        }
        let databases = section.texts("databases");
        Some(Statement { name, section, sql, databases })
    }
}

/// The targets, and the driver of each database by its name.
fn targets<'d>(
    databases: &[(&'d str, Section<'d>)],
    statements: &[Statement<'_>],
) -> (Vec<ImportedTarget>, HashMap<&'d str, SourceDriver>) {
    let mut of_database: HashMap<&str, Vec<&str>> = HashMap::new();
    for statement in statements {
        for database in &statement.databases {
            of_database.entry(database).or_default().push(&statement.sql);
        }
    }
    let (mut targets, mut drivers) = (Vec::new(), HashMap::new());
    for (name, section) in databases {
        let mut entry = section.entry();
        let sql = of_database.get(name).map(Vec::as_slice).unwrap_or_default();
        let hints = || sql.iter().take(HINTS).copied().collect();
        let Some(driver) = address::read(section, name, &mut entry, hints) else { continue };
        if let (SourceDriver::Lacking(lacking), []) = (&driver, sql) {
            let message = format!("the database {name} is left out: there is no driver for {lacking}");
            section.leave_out(message);
        }
        if matches!(driver, SourceDriver::Ours(_)) {
            settings(section, &mut entry);
            targets.push(ImportedTarget { name: (*name).to_owned(), entry });
        }
        drivers.insert(*name, driver);
    }
    (targets, drivers)
}

/// What a database has beside its address.
fn settings(section: &Section<'_>, entry: &mut Entry) {
    let statements = section.texts("connect-sql");
    entry.set_nonempty("session_sql", Value::list(statements.iter().map(|sql| without_semicolon(sql))));
    if let Some(labels) = section.section("labels") {
        let keys = labels.untaken();
        let pairs = keys.into_iter().filter_map(|key| Some((key, tags::value(&labels, key)?)));
        entry.set("labels", Value::map(pairs));
    }
    if let Some(pool) = section.section("connection-pool") {
        let number = |key: &str, default: f64| pool.number(key).unwrap_or(default);
        let (size, overflow) = (number("size", 1.0), number("max-overflow", 0.0));
        entry.set("max_connections", format!("{}", (size + overflow).max(1.0)));
        if size == 0.0 {
            entry.set("idle_timeout", "0s");
        }
        pool.dead_keys();
    }
    if section.flag("keep-connected") == Some(false) {
        entry.set("idle_timeout", "0s");
    }
    if section.flag("autocommit").is_some() {
        section.note(
            "autocommit",
            "every query is a read-only transaction of its own: `autocommit` has no counterpart",
        );
    }
    section.dead_keys();
}

/// Queries on their way.
struct QueryExporterConversion<'d> {
    drivers: HashMap<&'d str, SourceDriver>,
    metrics: Metrics<'d>,
    has_one_target: bool,
}

impl QueryExporterConversion<'_> {
    /// The queries of a statement: one for each set of parameters, and one more for each label set of summaries.
    fn queries(&self, statement: &Statement<'_>, names: &mut UniqueNames) -> Vec<ImportedQuery> {
        let Statement { name, section, sql, .. } = statement;
        let databases = self.databases(statement);
        let Some(driver) = databases.first().and_then(|database| self.drivers.get(database.as_str())) else {
            return Vec::new();
        };
        let mut entry = section.entry();
        entry.run_on(&databases, self.has_one_target);
        pace(section, &mut entry);
        let mut made = self.metrics.of(section);
        let statements = parameters::statements(section, sql, driver);
        section.dead_keys();
        let mut queries = Vec::new();
        let mut add = |entry: &mut Entry, metrics: &mut [Entry], sql: String, suffix: &str| {
            let bytes = entry.bytes() + metrics.iter().map(Entry::bytes).sum::<usize>();
            if metrics.is_empty() || !section.may_copy(bytes) {
                return;
            }
            let mut query = ImportedQuery { entry: entry.clone(), metrics: metrics.to_vec() };
            query.entry.set("sql", Value::Sql(sql));
            query.entry.set("name", names.take(&format!("{name}{suffix}")));
            queries.push(query);
            // Comments stand above the first of several queries that one becomes.
            std::iter::once(entry).chain(metrics).for_each(Entry::clear_comments);
        };
        let suffix = if made.metrics.is_empty() { "" } else { "_summary" };
        for sql in statements {
            add(&mut entry, &mut made.metrics, sql.clone(), "");
            for summaries in &mut made.summaries {
                if !section.may_copy(sql.len()) {
                    break;
                }
                let of_summaries = summaries.sql(&sql, driver);
                add(&mut entry, &mut summaries.metrics, of_summaries, suffix);
            }
        }
        if made.metrics.is_empty() && made.summaries.is_empty() {
            section.leave_out(format!("the query {name} has no metrics"));
        }
        queries
    }

    /// The targets that a query runs on; those that it cannot are reported.
    fn databases(&self, statement: &Statement<'_>) -> Vec<String> {
        let Statement { name, section, databases, .. } = statement;
        let mut ours = Vec::new();
        for database in databases {
            match self.drivers.get(database.as_str()) {
                Some(SourceDriver::Ours(_)) => ours.push(database.clone()),
                Some(SourceDriver::Lacking(driver)) => section.left_out(
                    "databases",
                    format!("the query {name} does not run on {database}: there is no driver for {driver}"),
                ),
                None => section.left_out(
                    "databases",
                    format!("the query {name} does not run on {database}: it is not in the result"),
                ),
            }
        }
        ours
    }
}

/// `timeout`, `interval` and `schedule`.
fn pace(section: &Section<'_>, entry: &mut Entry) {
    let seconds = |value: Value| match value {
        Value::Text(text) => Value::Text(durations::seconds(text)),
        other => other,
    };
    entry.set_if("timeout", tags::value(section, "timeout").map(seconds));
    if let Some(interval) = tags::value(section, "interval") {
        entry.set("interval", seconds(interval));
        section.note(
            "interval",
            "`interval` is how long a scrape reuses a result: there the query runs in the background that often",
        );
    }
    entry.set_if("interval", cron::interval(section, "schedule"));
}
