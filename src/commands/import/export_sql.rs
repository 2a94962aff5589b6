//! Du-gui/export-sql, from which this exporter started. Its files load as they are; an import also keeps the names and buckets
//! of its Python client, takes secrets out, and says what its background threads did.
//!
//! Facts, from its version without number (2025): each query runs in a thread, by default every 60 s. A gauge keeps the last
//! value of a row that is gone; a counter and a histogram add up what every run reads. `connection_string` and `timeout` are
//! read and not used. Only texts of `databases` hold variables.

use std::collections::HashMap;

use super::address::{self, sqlalchemy};
use super::dialect::{ImportDialect, ImportSource, child, entries, items};
use super::drivers::SourceDriver;
use super::durations::seconds;
use super::families::PYTHON_BUCKETS;
use super::model::{Entry, Imported, ImportedQuery, ImportedTarget, OutputFile, Value};
use super::report::Report;
use super::section::Section;
use crate::yaml::document::Node;

pub(super) const DIALECT: ImportDialect = ImportDialect { name: "export-sql", signs, convert };

/// The port that it listens on without a key.
const PORT: &str = "9090";

fn signs(tree: &Node) -> Vec<String> {
    let databases = child(tree, "databases").map(entries).unwrap_or_default();
    let queries = child(tree, "queries").map(items).unwrap_or_default();
    let has_driver = databases.iter().any(|database| child(&database.node, "driver").is_some());
    let has_sql = queries.iter().any(|query| child(query, "sql").is_some() && child(query, "name").is_some());
    if !has_driver || !has_sql {
        return Vec::new();
    }
    vec!["`databases` have a `driver`".to_owned(), "`queries` are a list with `name` and `sql`".to_owned()]
}

fn convert(source: &ImportSource<'_>) -> Imported {
    let report = source.report;
    let mut main = OutputFile::default();
    for input in source.inputs {
        let Some(root) = Section::root(input, report) else { continue };
        main.top.comments.extend(input.head_comments());
        main.tail.extend(input.tail_comments());
        for key in ["databases", "queries", "exporter"] {
            main.headings.extend(root.comments_of(key).into_iter().map(|comment| (key, comment)));
        }
        let mut lacking: HashMap<&str, String> = HashMap::new();
        for (name, section) in root.section("databases").iter().flat_map(Section::named) {
            let driver = section.text("driver").and_then(|driver| SourceDriver::known(&driver));
            match driver.map(|driver| driver.ours()) {
                Some(Err(why)) => {
                    section.leave_out(format!("the database {name} {why}"));
                    lacking.insert(name, why);
                }
                _ => main.databases.push(target(name, &section)),
            }
        }
        for section in root.sections("queries") {
            match lacking.get(section.text("database").unwrap_or_default().as_str()) {
                Some(why) => {
                    let name = section.text("name").unwrap_or_default();
                    section.left_out("database", format!("the query {name} {why}"));
                }
                None => main.queries.extend(query(&section)),
            }
        }
        main.top.set("exporter", exporter(root.section("exporter").as_ref()));
        root.dead_keys();
        changes(report);
    }
    Imported { main: Some(main).filter(|main| !main.databases.is_empty()), ..Imported::default() }
}

/// What changes for every file.
fn changes(report: &Report) {
    for message in [
        "queries run at every scrape, or after `interval`; there a thread ran each of them, by default every 60 s",
        "a row that is gone has no sample any more; there its last value stayed",
        "a value that is not a number fails its query; there its row was left out",
        "a label of NULL is empty; there it was `None`",
        "samples have the label `target`, with the name of the database",
    ] {
        report.note(None, message);
    }
}

fn target(name: &str, section: &Section<'_>) -> ImportedTarget {
    let report = section.report;
    let mut entry = section.entry();
    entry.set_if("driver", section.text("driver"));
    for key in ["host", "port", "database", "username"] {
        let value = section.text(key).filter(|text| !text.is_empty());
        entry.set_if(key, value.map(|text| expanded(&text, report)));
    }
    if let Some(password) = section.text("password").filter(|password| !password.is_empty()) {
        entry.set("password", Value::Expanded(address::variable(&password, name, "", report)));
    }
    if let Some(text) = section.text("connection_string") {
        let has_fields = ["host", "database"].iter().any(|key| entry.get(key).is_some());
        if has_fields {
            section.note(
                "connection_string",
                "export-sql does not use it beside the other keys: it is left out",
            );
        } else {
            for key in ["driver", "port", "username", "password"] {
                drop(entry.remove(key));
            }
            let url = sqlalchemy::as_url(&text, |message| section.left_out("connection_string", message));
            let url = address::without_password(&url, name, report);
            entry.set("url", Value::Expanded(url));
        }
    }
    section.dead_keys();
    ImportedTarget { name: name.to_owned(), entry }
}

/// A text in which variables are replaced, here as there.
fn expanded(text: &str, report: &Report) -> Value {
    report.uses(text);
    Value::Expanded(text.to_owned())
}

fn query(section: &Section<'_>) -> Option<ImportedQuery> {
    let mut entry = section.entry();
    entry.set_if("name", section.text("name"));
    entry.set_if("database", section.text("database"));
    entry.set_if("sql", section.sql("sql").map(Value::Sql));
    entry.set_if("timeout", section.text("timeout").map(seconds));
    entry.set_if("interval", section.text("interval").map(seconds));
    let mut metrics: Vec<Entry> = section.sections("metrics").iter().map(listed_metric).collect();
    // The short form, with one metric on the query itself.
    if let Some(name) = section.text("metric_name") {
        metrics.push(metric(section, Entry::at(section.place()), name));
    }
    section.dead_keys();
    if metrics.is_empty() {
        section.leave_out("the query has no metrics");
        return None;
    }
    Some(ImportedQuery { entry, metrics })
}

fn listed_metric(section: &Section<'_>) -> Entry {
    let entry = metric(section, section.entry(), section.text("name").unwrap_or_default());
    section.dead_keys();
    entry
}

fn metric(section: &Section<'_>, mut entry: Entry, name: String) -> Entry {
    let kind = section.text("type").unwrap_or_else(|| "gauge".to_owned());
    // The Python client ends the name of every counter in `_total`.
    let is_named = kind != "counter" || name.ends_with("_total");
    entry.set("name", if is_named { name } else { format!("{name}_total") });
    entry.set_if("help", section.text("help"));
    match kind.as_str() {
        "gauge" => {}
        "counter" => {
            section.note("type", "a counter is the value that was read; there each run added it to a sum");
            entry.set("type", "counter");
        }
        "histogram" => {
            section.note("type", "a histogram counts the rows of one result; there each run added its rows");
            entry.set("type", "histogram");
            entry.set("buckets", Value::list(PYTHON_BUCKETS));
        }
        other => entry.set("type", other),
    }
    let labels = section.texts("labels");
    if !labels.is_empty() {
        entry.set("labels", Value::list(labels));
    }
    // `value` is the default of both.
    entry.set_if("value_column", section.text("value_column").filter(|column| column != "value"));
    entry
}

fn exporter(section: Option<&Section<'_>>) -> Value {
    let text = |key: &str| section.and_then(|section| section.text(key));
    let port = text("port").unwrap_or_else(|| PORT.to_owned());
    let host = text("host").filter(|host| host != "0.0.0.0").map(|host| ("host", host));
    let level = text("log_level").map(|level| ("log_level", level.to_ascii_lowercase()));
    section.into_iter().for_each(Section::dead_keys);
    Value::map(host.into_iter().chain([("port", port)]).chain(level))
}
