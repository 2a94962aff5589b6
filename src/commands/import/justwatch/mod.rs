//! justwatch's sql_exporter: jobs with connections and queries.
//!
//! Facts, from sql_exporter 2d6a271: a query makes the gauge `sql_NAME`, with a sample for each of its `values`, which the label
//! `col` tells apart. NULL and what is not a number leave out their sample, and so does a label that is not text. A query without
//! rows has failed, unless `allow_zero_rows`; then, and after an error, its last samples stay. The labels `driver`, `host`,
//! `database`, `user` and `sql_job` are on every sample. `{{NAME}}` is a variable of the environment, in upper case.

mod connection;

use std::collections::{BTreeSet, HashMap};

use self::connection::{ConnectionEntry, WrittenConnection};
use super::cron;
use super::dialect::{ImportDialect, ImportSource, child, items};
use super::drivers::{SourceDriver, quoted_column};
use super::durations;
use super::model::{Entry, Imported, ImportedQuery, ImportedTarget, OutputFile, Value};
use super::report::{Report, TOO_LARGE};
use super::section::{Section, indented, without_semicolon};
use super::shared_queries::SharedQueries;
use super::unique_names::UniqueNames;
use crate::deadline::duration_text;
use crate::plain_text::counted;
use crate::yaml::document::Node;

pub(super) const DIALECT: ImportDialect = ImportDialect { name: "justwatch", signs, convert };

/// How many statements may tell a driver that nothing names, and how many drivers a message names; it counts the others.
const HINTS: usize = 4;
const ITERATOR: &str = "a value of `iterator` is bound, so it can only stand where a statement has a text: ";

fn signs(tree: &Node) -> Vec<String> {
    let jobs = child(tree, "jobs").map(items).unwrap_or_default();
    let has = |key: &str| jobs.iter().any(|job| child(job, key).is_some());
    let mut signs = Vec::new();
    if has("connections") {
        signs.push("`jobs` have `connections`".to_owned());
    }
    for key in ["startup_sql", "cron_schedule"].into_iter().filter(|key| has(key)) {
        signs.push(format!("`jobs` have `{key}`"));
    }
    let mut queries = jobs.iter().filter_map(|job| child(job, "queries")).flat_map(items);
    if has("connections") && queries.any(|query| child(query, "values").is_some()) {
        signs.push("the queries of `jobs` have `values`".to_owned());
    }
    signs
}

fn convert(source: &ImportSource<'_>) -> Imported {
    let mut main = OutputFile::default();
    let mut conversion = JustwatchConversion {
        report: source.report,
        statements: HashMap::new(),
        targets: ConnectionTargets {
            keep_labels: source.options.keep_labels,
            ..ConnectionTargets::default()
        },
        queries: SharedQueries::default(),
    };
    for input in source.inputs {
        main.top.comments.extend(input.head_comments());
        let Some(root) = Section::root(input, source.report) else { continue };
        conversion.statements.extend(root.pairs("queries"));
        if root.take("configuration").is_some() {
            root.note(
                "configuration",
                "the metrics about the exporter itself are others: see docs/metrics.md",
            );
        }
        if root.take("cloudsql_config").is_some() {
            root.note("cloudsql_config", "the key of Google Cloud is for the Cloud SQL Auth Proxy now");
        }
        root.sections("jobs").iter().for_each(|job| conversion.job(job));
        root.dead_keys();
        if !conversion.queries.is_empty() {
            conversion.general_notes(&root);
        }
    }
    let JustwatchConversion { targets, queries, .. } = conversion;
    main.databases = targets.list;
    let discovers = main.databases.iter().any(|target| target.entry.get("discover").is_some());
    let is_only = main.databases.len() == 1 && !discovers;
    main.queries = queries.finish(is_only);
    Imported { main: Some(main), ..Imported::default() }
}

/// The targets, and what is known of them.
#[derive(Default)]
struct ConnectionTargets {
    keep_labels: bool,
    list: Vec<ImportedTarget>,
    names: UniqueNames,
    /// By address and `startup_sql`: equal ones are one target.
    known: HashMap<String, HashMap<Vec<String>, Option<FoundConnection>>>,
}

/// A connection that was seen.
#[derive(Clone)]
struct FoundConnection {
    driver: SourceDriver,
    /// What `databases` of a query says.
    selected: String,
    /// The label `driver`; empty where it is not known.
    scheme: String,
}

/// What the queries of a job share.
struct JustwatchJob<'d> {
    name: String,
    /// What `databases` of its queries says.
    selected: Vec<String>,
    /// About how many bytes that is.
    weight: usize,
    /// The driver of the first of them.
    driver: Option<SourceDriver>,
    /// The drivers that we lack, for a message; empty where there are none.
    lacking: String,
    /// The label `driver` of its samples; `None` where it is not one and the same.
    scheme: Option<String>,
    interval: Option<String>,
    iterator: Option<JobIterator<'d>>,
}

/// `iterator`
struct JobIterator<'d> {
    section: Section<'d>,
    placeholder: String,
    label: String,
    sql: String,
}

impl ConnectionTargets {
    /// The target of a connection.
    fn find<'h>(
        &mut self,
        text: &str,
        startup: &[String],
        job: &Section<'_>,
        hints: impl FnOnce() -> Vec<&'h str>,
    ) -> Option<FoundConnection> {
        if let Some(known) = self.known.get(text).and_then(|known| known.get(startup)) {
            return known.clone();
        }
        let mut written = WrittenConnection {
            name: String::new(),
            place: job.place_of("connections"),
            report: job.report,
            address: connection::with_variables(text),
        };
        written.name = self.names.take_first(&written.names());
        if !job.report.may_copy(startup.iter().map(String::len).sum()) {
            job.left_out("startup_sql", TOO_LARGE);
            return None;
        }
        let found = written.read(hints).map(|connection| {
            let ConnectionEntry { driver, labels, .. } = &connection;
            let scheme = labels.iter().find(|(name, _)| *name == "driver").map(|(_, scheme)| scheme.clone());
            let selected =
                if connection.discovers() { format!("{}/*", written.name) } else { written.name.clone() };
            let found =
                FoundConnection { driver: driver.clone(), selected, scheme: scheme.unwrap_or_default() };
            if matches!(driver, SourceDriver::Ours(_)) {
                self.list.push(target(connection, written, startup, self.keep_labels));
            }
            found
        });
        self.known.entry(text.to_owned()).or_default().insert(startup.to_owned(), found.clone());
        found
    }
}

fn target(
    connection: ConnectionEntry,
    written: WrittenConnection<'_>,
    startup: &[String],
    keep_labels: bool,
) -> ImportedTarget {
    let discovers = connection.discovers();
    let ConnectionEntry { mut entry, labels, .. } = connection;
    let statements = startup.iter().map(|sql| connection::templated(without_semicolon(sql), written.report));
    let of_address = match entry.remove("session_sql") {
        Some(Value::List(of_address)) => of_address,
        _ => Vec::new(),
    };
    entry.set_nonempty("session_sql", Value::list(of_address.into_iter().chain(statements)));
    if keep_labels {
        // The label `driver` is one of our own rows, and the database of a target that discovers is not one.
        let kept = labels.iter().filter(|(name, value)| {
            *name != "driver" && !value.is_empty() && !(discovers && *name == "database")
        });
        entry.set("labels", Value::map(kept.map(|(name, value)| (*name, Value::Expanded(value.clone())))));
        if labels.is_empty() || discovers {
            let what = if discovers {
                "the label `database` is"
            } else {
                "the labels `host`, `database` and `user` are"
            };
            let message = format!("{what} not kept: the connection does not name it");
            written.report.left_out(written.place.clone(), message);
        }
    }
    ImportedTarget { name: written.name, entry }
}

struct JustwatchConversion<'s> {
    report: &'s Report,
    /// `queries` at the top, for `query_ref`.
    statements: HashMap<String, String>,
    targets: ConnectionTargets,
    queries: SharedQueries,
}

impl JustwatchConversion<'_> {
    fn general_notes(&self, root: &Section<'_>) {
        let note = |message: &str| self.report.note(root.place(), message);
        if !self.targets.keep_labels {
            note(
                "the labels `driver`, `host`, `database`, `user` and `sql_job` of all samples are left out: the label `target` \
                 names the connection (--keep-labels)",
            );
        }
        note("a value that is not a number fails its query as a whole: there its sample alone is left out");
        note("a boolean, a time or an interval as a value is a number: there such a sample is left out");
        note(
            "a label that is NULL is empty, and one that is not text is shown: there such a sample is left out",
        );
        note(
            "a column that the result lacks fails its query: there a label of that name is empty, and a value is 0",
        );
        note(
            "a query that fails shows nothing (`keep_last` keeps its last samples): there its last samples stay",
        );
    }

    fn job(&mut self, section: &Section<'_>) {
        let name = section.text("name").unwrap_or_default();
        let startup = section.texts("startup_sql");
        let queries = section.sections("queries");
        let statements: Vec<Option<String>> = queries.iter().map(|query| self.statement(query)).collect();
        let hints = || statements.iter().flatten().map(String::as_str).take(HINTS).collect::<Vec<_>>();
        let mut found = Vec::new();
        for text in section.texts("connections") {
            found.extend(self.targets.find(&text, &startup, section, hints));
        }
        if found.is_empty() {
            section.leave_out(format!("the job {name} has no connection that can be converted"));
        }
        let job = JustwatchJob::new(name, &found, section);
        section.dead_keys();
        for (query, sql) in queries.iter().zip(statements) {
            self.query(&job, query, sql);
        }
    }

    /// `query`, or the statement that `query_ref` names.
    fn statement(&self, query: &Section<'_>) -> Option<String> {
        let sql = query.sql("query").filter(|sql| !sql.is_empty());
        let named = query.text("query_ref");
        sql.or_else(|| {
            let found = self.statements.get(&named?);
            if found.is_none() {
                query.left_out("query_ref", "there is no such entry of `queries`");
            }
            let found = found.map(|sql| without_semicolon(sql));
            if found.is_some_and(|sql| !self.report.may_copy(sql.len())) {
                query.left_out("query_ref", TOO_LARGE);
                return None;
            }
            found.map(str::to_owned)
        })
    }

    fn query(&mut self, job: &JustwatchJob<'_>, section: &Section<'_>, sql: Option<String>) {
        let name = section.text("name").unwrap_or_default();
        let mut entry = section.entry();
        entry.set_if("interval", job.interval.clone());
        let metric = self.metric(job, section, &name);
        let allows_zero_rows = section.flag("allow_zero_rows") == Some(true);
        section.dead_keys();
        let place = || section.place();
        let Some(sql) = sql else {
            return self.report.note(place(), "without a statement a query makes no metrics");
        };
        let Some(mut metric) = metric else {
            return self.report.note(place(), "without `values` a query makes no metrics");
        };
        if !allows_zero_rows {
            self.report.note(
                place(),
                "a query without rows succeeds: there it fails without `allow_zero_rows: true`",
            );
        }
        if !job.lacking.is_empty() {
            let JustwatchJob { name: job, lacking, .. } = job;
            let message = format!(
                "the query {name} does not run on connections of the job {job}: there is no driver for {lacking}"
            );
            section.leave_out(message);
        }
        let Some(driver) = &job.driver else { return };
        let iterator = job.iterator.as_ref().map_or(0, |iterator| iterator.sql.len());
        if !section.may_copy(job.weight + iterator) {
            return;
        }
        let Some(sql) = bound(job, section, sql, driver, &mut entry) else { return };
        entry.set("sql", Value::Sql(sql));
        // There, `labels` names the label of the iterator, too, and its value is not that of a column.
        if let (Some(iterator), Some(_)) = (&job.iterator, entry.get("foreach")) {
            metric.remove_item("labels", &Value::from(iterator.label.as_str()));
        }
        let query = ImportedQuery { entry, metrics: vec![metric] };
        self.queries.add(name, query, job.selected.iter().cloned());
    }

    /// The gauge of a query; `None` without `values`.
    fn metric(&self, job: &JustwatchJob<'_>, section: &Section<'_>, name: &str) -> Option<Entry> {
        let mut metric = Entry::at(section.place());
        let text = |text: String| connection::templated(&text, self.report);
        metric.set("name", connection::metric_name(name, self.report));
        metric.set_if("help", section.text("help").filter(|help| !help.trim().is_empty()).map(text));
        metric.set_nonempty("labels", Value::list(section.texts("labels").into_iter().map(text)));
        let timestamp = section.text("timestamp").filter(|column| !column.is_empty());
        metric.set_if("timestamp_column", timestamp.map(text));
        let mut fixed = if self.targets.keep_labels { job.fixed_labels(section) } else { Vec::new() };
        match section.texts("values").as_slice() {
            [] => return None,
            [value] => {
                metric.set("value_column", text(value.clone()));
                if self.targets.keep_labels {
                    fixed.push(("col", text(value.clone())));
                } else {
                    let message = "the label `col` of a query with one value is left out (--keep-labels)";
                    section.note("values", message);
                }
            }
            values => {
                metric.set("value_columns", Value::list(values.iter().cloned().map(text)));
                metric.set("value_label", "col");
            }
        }
        if !fixed.is_empty() {
            metric.set("static_labels", Value::map(fixed));
        }
        Some(metric)
    }
}

impl<'d> JustwatchJob<'d> {
    fn new(name: String, found: &[FoundConnection], section: &Section<'d>) -> JustwatchJob<'d> {
        let mut job = JustwatchJob {
            name,
            selected: Vec::new(),
            weight: 0,
            driver: None,
            lacking: String::new(),
            scheme: None,
            interval: interval(section),
            iterator: iterator(section),
        };
        let (mut schemes, mut lacking) = (BTreeSet::new(), BTreeSet::new());
        for FoundConnection { driver, selected, scheme } in found {
            match driver {
                SourceDriver::Ours(_) => {
                    job.driver.get_or_insert_with(|| driver.clone());
                    job.selected.push(selected.clone());
                    schemes.insert(scheme.clone());
                }
                SourceDriver::Lacking(name) => {
                    lacking.insert(name.clone());
                }
            }
        }
        job.weight = job.selected.iter().map(|name| name.len() + 2).sum();
        let others = lacking.len().saturating_sub(HINTS);
        job.lacking = lacking.into_iter().take(HINTS).collect::<Vec<_>>().join(", ");
        if others > 0 {
            job.lacking += &format!(" and {}", counted(others, "other", "others"));
        }
        let scheme = schemes.pop_first().filter(|scheme| schemes.is_empty() && !scheme.is_empty());
        job.scheme = scheme;
        job
    }

    /// `sql_job` and `driver`, which a target cannot have.
    fn fixed_labels(&self, query: &Section<'_>) -> Vec<(&'static str, Value)> {
        let mut labels = vec![("sql_job", connection::templated(&self.name, query.report))];
        match &self.scheme {
            Some(scheme) => labels.push(("driver", Value::from(scheme.as_str()))),
            None => query.leave_out("the label `driver` is not kept: the connections differ, or hide it"),
        }
        labels
    }
}

/// How long a result of a job's queries is reused.
fn interval(job: &Section<'_>) -> Option<String> {
    let interval = job.text("interval");
    if job.has("cron_schedule") {
        return cron::interval(job, "cron_schedule");
    }
    let interval = interval?;
    // A number is in nanoseconds.
    let nanoseconds = interval.parse().ok().map(std::time::Duration::from_nanos);
    let Some(pause) = nanoseconds.or_else(|| durations::parse(&interval)) else {
        job.left_out("interval", format!("{interval:?} is not a duration: the queries run at every scrape"));
        return None;
    };
    if pause.as_millis() == 0 {
        return None;
    }
    job.note(
        "interval",
        "`interval` is how long a scrape reuses a result: there the queries run in the background that often",
    );
    Some(duration_text(pause))
}

fn iterator<'d>(job: &Section<'d>) -> Option<JobIterator<'d>> {
    let section = job.section("iterator")?;
    let text = |key: &str| section.text(key).unwrap_or_default();
    let (placeholder, label) = (text("placeholder"), text("label"));
    let sql = section.sql("sql").unwrap_or_default();
    section.dead_keys();
    Some(JobIterator { section, placeholder, label, sql }).filter(|iterator| !iterator.sql.is_empty())
}

/// The statement with a parameter for the value of `iterator`; `None`, reported, where it cannot be one.
fn bound(
    job: &JustwatchJob<'_>,
    section: &Section<'_>,
    sql: String,
    driver: &SourceDriver,
    entry: &mut Entry,
) -> Option<String> {
    let mark = |iterator: &JobIterator<'_>| format!("{{{{{}}}}}", iterator.placeholder);
    let Some(iterator) = job.iterator.as_ref().filter(|iterator| sql.contains(&mark(iterator))) else {
        return has_no_variable(section, sql);
    };
    let is_mysql = *driver == SourceDriver::Ours("mysql");
    let quoted = format!("'{}'", mark(iterator));
    let statement = sql.replace(&quoted, if is_mysql { "?" } else { "$1" });
    if statement.contains(&mark(iterator)) || (is_mysql && sql.matches(&quoted).count() > 1) {
        section.left_out("query", format!("{ITERATOR}write {quoted}, once on MySQL"));
        return None;
    }
    if iterator.label.is_empty() {
        iterator.section.left_out("label", "without a `label` the samples of its values are the same");
        return None;
    }
    let column = quoted_column(&iterator.label, driver);
    let values = format!("WITH q ({column}) AS (\n{}\n)\nSELECT {column}\nFROM q", indented(&iterator.sql));
    entry.set("foreach", Value::map([("sql", Value::Sql(values))]));
    has_no_variable(section, statement)
}

/// A statement holds no variables here.
fn has_no_variable(section: &Section<'_>, sql: String) -> Option<String> {
    let names = sql.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(name, _)| name);
    match names.into_iter().find(|name| connection::is_name(name)) {
        None => Some(sql),
        Some(name) => {
            let message =
                format!("a statement holds no variables: write the value of {{{{{name}}}}} into it");
            section.left_out("query", message);
            None
        }
    }
}
