//! Collectors: a file of queries each. Metrics that refer to one query are metrics of it.

use std::collections::HashMap;

use super::super::drivers::SourceDriver;
use super::super::model::{Entry, ImportedQuery, OutputFile, Value};
use super::super::section::Section;
use super::super::unique_names::UniqueNames;
use super::{duration, list_comments};
use crate::deadline::duration_text;

/// A collector.
pub(super) struct Collector<'s> {
    pub(super) name: String,
    pub(super) section: Section<'s>,
    queries: Vec<Group<'s>>,
    /// In front of the names of metrics, where they do not begin with it.
    prefix: Option<String>,
    /// Names of columns are read in lower case.
    is_lower_case: bool,
    /// The database that its names or its SQL tell.
    pub(super) told: Option<SourceDriver>,
}

/// A query and what becomes of its rows.
struct Group<'s> {
    name: String,
    sql: String,
    /// The item of `queries`; without it the query stands in its only metric.
    named: Option<Section<'s>>,
    metrics: Vec<Section<'s>>,
}

impl<'s> Collector<'s> {
    pub(super) fn new(section: Section<'s>) -> Collector<'s> {
        let name = section.text("collector_name").unwrap_or_else(|| section.input.stem());
        let queries = groups(&section, &name);
        Collector { name, section, queries, prefix: None, is_lower_case: false, told: None }
    }

    /// Sets what depends on the main file.
    pub(super) fn settle(&mut self, is_lower_case: bool, namespace: Option<&str>) {
        let own = self.section.text("namespace").filter(|prefix| !prefix.is_empty());
        self.prefix = own.or_else(|| namespace.map(str::to_owned));
        self.is_lower_case = is_lower_case;
        self.told = self.driver();
    }

    fn driver(&self) -> Option<SourceDriver> {
        let input = self.section.input;
        // Grafana's exporter for SQL Server alone has this key.
        if input.wrapper.key == "query_config" {
            return SourceDriver::known("sqlserver");
        }
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let stem = input.stem();
        SourceDriver::told(
            [self.name.as_str(), &stem, prefix],
            self.queries.iter().map(|query| query.sql.as_str()),
        )
    }

    /// Reports each query that is not in the result.
    pub(super) fn leave_out(&self, why: &str) {
        for Group { name, named, metrics, .. } in &self.queries {
            let place = named.as_ref().or(metrics.first()).unwrap_or(&self.section).place();
            self.section.report.left_out(place, format!("the query {name} {why}"));
        }
    }

    /// The file.
    pub(super) fn file(&self, names: &mut UniqueNames, interval: Option<&str>) -> OutputFile {
        let section = &self.section;
        let is_safe = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        let stem: String = self.name.chars().map(|c| if is_safe(c) { c } else { '_' }).collect();
        let mut file = OutputFile { name: format!("collectors/{stem}.yaml"), ..OutputFile::default() };
        file.top = Entry::at(section.place());
        // An inline collector has none of its own.
        if section.path().is_empty() {
            file.top.comments = section.input.head_comments();
            file.tail = section.input.tail_comments();
        }
        let comments = section.comments();
        if !file.top.comments.is_empty() && !comments.is_empty() {
            file.top.comments.push(String::new());
        }
        file.top.comments.extend(comments);
        file.top.set("collector", self.name.as_str());
        let own = duration(section, "min_interval");
        let own = own.map(|time| Some(time).filter(|time| !time.is_zero()).map(duration_text));
        file.top.set_if("interval", own.unwrap_or_else(|| interval.map(str::to_owned)));
        file.queries = self.queries.iter().filter_map(|group| self.query(group, names)).collect();
        section.dead_keys();
        file
    }

    fn query(&self, group: &Group<'s>, names: &mut UniqueNames) -> Option<ImportedQuery> {
        let Group { name, sql, named, metrics } = group;
        let section = named.as_ref().or(metrics.first())?;
        if is_template(sql) {
            section.left_out("query", format!("the query {name} is a template"));
            return None;
        }
        let entry = named.as_ref().map_or_else(|| Entry::at(section.place()), Section::entry);
        let mut query = ImportedQuery { entry, metrics: Vec::new() };
        query.entry.set("sql", Value::Sql(sql.clone()));
        for section in named.iter().chain(metrics) {
            if section.flag("no_prepared_statement") == Some(true) {
                section.note(
                    "no_prepared_statement",
                    "`no_prepared_statement` is not needed for PgBouncer; `params: {protocol: simple}` on the target is the same",
                );
            }
        }
        query.metrics = metrics.iter().filter_map(|metric| self.metric(metric)).collect();
        if let (None, Some(metric)) = (named, query.metrics.first_mut()) {
            query.entry.comments = std::mem::take(&mut metric.comments);
        }
        named.iter().for_each(Section::dead_keys);
        query.entry.set("name", names.take(name));
        (!query.metrics.is_empty()).then_some(query)
    }

    fn metric(&self, section: &Section<'s>) -> Option<Entry> {
        let mut metric = section.entry();
        let name = section.text("metric_name").unwrap_or_default();
        let prefix = self.prefix.as_deref().filter(|prefix| !name.starts_with(prefix));
        metric.set("name", prefix.map_or_else(|| name.clone(), |prefix| format!("{prefix}_{name}")));
        metric.set_if("help", section.text("help"));
        match section.text("type").map(|kind| kind.to_ascii_lowercase()).as_deref() {
            None | Some("gauge") => {}
            Some("counter") => metric.set("type", "counter"),
            Some(other) => {
                section.left_out(
                    "type",
                    format!("the metric {name} has the type {other:?}, which sql_exporter refuses"),
                );
                return None;
            }
        }
        let names = |key: &str| -> Vec<String> {
            let names = section.texts(key).into_iter();
            names.map(|name| if self.is_lower_case { name.to_lowercase() } else { name }).collect()
        };
        metric.set_nonempty("labels", Value::list(names("key_labels")));
        metric.set_nonempty("static_labels", Value::map(section.pairs("static_labels")));
        let label = names("value_label").into_iter().next();
        let timestamp = section.text("timestamp_value");
        match (names("values").as_slice(), section.text("static_value")) {
            ([], Some(value)) => {
                metric.set("value", value);
                if timestamp.is_some() {
                    section.note("timestamp_value", "a `static_value` has no timestamp there either");
                }
            }
            ([], None) => {
                section.left_out("values", format!("the metric {name} has no `values`"));
                return None;
            }
            ([column], _) if label.is_none() => metric.set("value_column", column.as_str()),
            (columns, _) => {
                metric.set("value_columns", Value::list(columns.iter().map(String::as_str)));
                metric.set_if("value_label", label);
            }
        }
        if let Some(column) = timestamp.filter(|_| metric.get("value").is_none()) {
            metric.set("timestamp_column", column);
            section.note(
                "timestamp_value",
                "a timestamp that is NULL fails the query; there its row has no sample",
            );
        }
        for key in ["key_labels", "values", "static_labels"] {
            metric.comments.extend(list_comments(section, key));
        }
        section.dead_keys();
        Some(metric)
    }
}

/// Whether something fills a statement in before it runs: `{{ .Values.schema }}`, `{{ f "x" }}`; `'{{1,2},{3,4}}'` is an
/// array.
fn is_template(sql: &str) -> bool {
    const ACTIONS: [&str; 7] = ["- ", "if ", "range ", "with ", "define ", "template ", "block "];
    let begins = |inside: &str| {
        inside.starts_with(['.', '$', ' ', '\t', '\n'])
            || ACTIONS.iter().any(|action| inside.starts_with(action))
    };
    sql.split("{{").skip(1).any(begins)
}

/// The metrics of a collector by their query, in order.
fn groups<'s>(collector: &Section<'s>, collector_name: &str) -> Vec<Group<'s>> {
    let mut named: Vec<(String, Option<Section<'s>>)> = Vec::new();
    for section in collector.sections("queries") {
        named.push((section.text("query_name").unwrap_or_default(), Some(section)));
    }
    let index: HashMap<String, usize> =
        named.iter().enumerate().map(|(index, (name, _))| (name.clone(), index)).collect();
    let mut by_query: HashMap<usize, usize> = HashMap::new();
    let mut groups: Vec<Group<'s>> = Vec::new();
    for metric in collector.sections("metrics") {
        let Some(name) = metric.text("metric_name") else {
            metric.left_out("metric_name", "a metric has no name");
            continue;
        };
        let Some(reference) = metric.text("query_ref") else {
            match metric.sql("query") {
                Some(sql) => groups.push(Group { name, sql, named: None, metrics: vec![metric] }),
                None => metric.left_out("query", format!("the metric {name} has no query")),
            }
            continue;
        };
        let Some(query) = index.get(&reference) else {
            let message = format!("the collector {collector_name} has no query {reference}");
            metric.left_out("query_ref", message);
            continue;
        };
        if let Some(group) = by_query.get(query).and_then(|group| groups.get_mut(*group)) {
            group.metrics.push(metric);
        } else if let Some(section) = named.get_mut(*query).and_then(|(_, section)| section.take()) {
            by_query.insert(*query, groups.len());
            let sql = section.sql("query").unwrap_or_default();
            groups.push(Group { name: reference, sql, named: Some(section), metrics: vec![metric] });
        }
    }
    for query in named.iter().filter_map(|(_, query)| query.as_ref()) {
        query.note("query_name", "no metric refers to the query: it is left out");
    }
    groups
}
