//! `metrics` of a query → ours. Those of a summary need a statement of their own, which counts and adds up what that exporter
//! observes row by row.

use std::collections::HashMap;

use super::tags;
use crate::commands::import::drivers::{SourceDriver, quoted_column};
use crate::commands::import::families::PYTHON_BUCKETS;
use crate::commands::import::model::{Entry, Value};
use crate::commands::import::section::{Section, indented};

/// The column with the number of rows, in a statement for summaries.
const ROWS: &str = "observations";

/// The metrics by name.
pub(super) struct Metrics<'d>(HashMap<&'d str, MetricDefinition<'d>>);

struct MetricDefinition<'d> {
    kind: String,
    labels: Vec<String>,
    entry: Entry,
    section: Section<'d>,
}

/// Summaries with the same labels.
pub(super) struct Summaries {
    labels: Vec<String>,
    columns: Vec<String>,
    pub(super) metrics: Vec<Entry>,
}

/// What a query makes.
#[derive(Default)]
pub(super) struct OfQuery {
    pub(super) metrics: Vec<Entry>,
    pub(super) summaries: Vec<Summaries>,
}

impl<'d> Metrics<'d> {
    pub(super) fn new(sections: Vec<(&'d str, Section<'d>)>) -> Metrics<'d> {
        let metrics =
            sections.into_iter().map(|(name, section)| (name, MetricDefinition::new(name, section)));
        Metrics(metrics.collect())
    }

    /// Whether any of them has labels.
    pub(super) fn have_labels(&self) -> bool {
        self.0.values().any(|metric| !metric.labels.is_empty())
    }

    /// Whether the exporter adds series with the time when one began.
    pub(super) fn have_created(&self) -> bool {
        self.0.values().any(|metric| !matches!(metric.kind.as_str(), "gauge" | "enum"))
    }

    /// Those that a query names.
    pub(super) fn of(&self, query: &Section<'_>) -> OfQuery {
        let names = query.texts("metrics");
        let mut found = OfQuery::default();
        let metrics: Vec<&MetricDefinition<'_>> = names
            .iter()
            .filter_map(|name| {
                let metric = self.0.get(name.as_str());
                if metric.is_none() {
                    query.left_out("metrics", format!("there is no metric {name}"));
                }
                metric
            })
            .collect();
        let mut columns: Vec<&String> = metrics.iter().flat_map(|metric| &metric.labels).collect();
        columns.sort_unstable();
        columns.dedup();
        let mut by_labels: HashMap<&[String], usize> = HashMap::new();
        let is_observed =
            |metric: &&MetricDefinition<'_>| matches!(metric.kind.as_str(), "histogram" | "summary");
        let has_observations = metrics.iter().any(is_observed);
        for metric in metrics {
            if !query.may_keep(&metric.entry) {
                return OfQuery::default();
            }
            if metric.kind != "summary" {
                found.metrics.push(metric.beside(columns.len(), has_observations));
                continue;
            }
            let at = *by_labels.entry(&metric.labels).or_insert(found.summaries.len());
            if at == found.summaries.len() {
                let (labels, columns, metrics) = (metric.labels.clone(), Vec::new(), Vec::new());
                found.summaries.push(Summaries { labels, columns, metrics });
            }
            if let Some(summaries) = found.summaries.get_mut(at) {
                summaries.columns.extend(metric.entry.text("value_column").map(str::to_owned));
                summaries.metrics.push(metric.summary());
            }
        }
        found
    }
}

impl<'d> MetricDefinition<'d> {
    fn new(name: &'d str, section: Section<'d>) -> MetricDefinition<'d> {
        let kind = section.text("type").unwrap_or_default();
        let labels = section.texts("labels");
        let mut entry = section.entry();
        entry.set("name", name);
        entry.set_if(
            "help",
            section.text("description").map(|help| help.trim().to_owned()).filter(|help| !help.is_empty()),
        );
        entry.set_nonempty("labels", Value::list(labels.iter().cloned()));
        entry.set("value_column", name);
        entry.set("null", "0");
        let metric = MetricDefinition { kind, labels, entry, section };
        metric.typed(name)
    }

    /// With what its type needs.
    fn typed(mut self, name: &str) -> MetricDefinition<'d> {
        let MetricDefinition { kind, entry, section, .. } = &mut self;
        match kind.as_str() {
            "gauge" => {}
            "counter" => {
                entry.set("type", "counter");
                // The client adds it to what is shown.
                entry.set("name", format!("{}_total", name.strip_suffix("_total").unwrap_or(name)));
                if section.flag("increment") == Some(true) {
                    entry.set("duplicates", "sum");
                    section.note(
                        "increment",
                        "the counter is the value that the query returns: there each run added it. Let the SQL return the total",
                    );
                }
            }
            "histogram" => {
                let buckets = section.texts("buckets");
                entry.set("type", "histogram");
                match buckets.is_empty() {
                    true => entry.set("buckets", Value::list(PYTHON_BUCKETS)),
                    false => entry.set("buckets", Value::list(buckets)),
                }
                section.note("type", OBSERVATIONS);
            }
            "summary" => {
                entry.set("type", "summary");
                section.note("type", OBSERVATIONS);
            }
            "enum" => {
                entry.set("type", "stateset");
                entry.remove("value_column");
                entry.remove("null");
                entry.set("state_column", name);
                entry.set("states", Value::list(section.texts("states")));
                section.note(
                    "type",
                    "a state that is NULL makes no sample, and one that is not in `states` fails the query: there the last \
                     state stays, at first the first of `states`",
                );
            }
            other => entry.set("type", other),
        }
        if section.has("expiration") {
            let _ = tags::text(section, "expiration");
            section.note("expiration", super::ENDS);
        }
        section.dead_keys();
        self
    }

    /// In a query whose metrics have so many label columns. `has_observations`: others observe each of its rows.
    fn beside(&self, columns: usize, has_observations: bool) -> Entry {
        let mut entry = self.entry.clone();
        let has_several = self.labels.len() < columns || has_observations;
        if has_several && self.kind != "histogram" && entry.get("duplicates").is_none() {
            entry.set("duplicates", "first");
            self.section.report.note(
                self.section.place(),
                "other metrics of the query have more labels, or observe each row, so several rows have the labels of this \
                 one: the first one counts, there the last one",
            );
        }
        entry
    }

    fn summary(&self) -> Entry {
        let mut entry = self.entry.clone();
        entry.remove("null");
        if let Some(Value::Text(column)) = entry.remove("value_column") {
            entry.set("sum_column", format!("{column}_sum"));
        }
        entry.set("count_column", ROWS);
        entry
    }
}

const OBSERVATIONS: &str =
    "the rows of each run are what is observed: there the observations of all runs add up";

impl Summaries {
    /// The statement that adds up and counts the rows of another one.
    pub(super) fn sql(&self, sql: &str, driver: &SourceDriver) -> String {
        let column = |name: &str| quoted_column(name, driver);
        let labels: Vec<String> = self.labels.iter().map(|label| format!("q.{}", column(label))).collect();
        let sum = |name: &String| {
            format!("sum(coalesce(q.{}, 0)) AS {}", column(name), column(&format!("{name}_sum")))
        };
        let mut selected = labels.clone();
        selected.extend(self.columns.iter().map(sum));
        selected.push(format!("count(*) AS {ROWS}"));
        // Without rows nothing is observed.
        let groups = match labels.as_slice() {
            [] => "HAVING count(*) > 0".to_owned(),
            labels => format!("GROUP BY {}", labels.join(", ")),
        };
        let selected = match selected.len() {
            0..=2 => format!(" {}", selected.join(", ")),
            _ => format!("\n  {}", selected.join(",\n  ")),
        };
        format!("SELECT{selected}\nFROM (\n{}\n) AS q\n{groups}", indented(sql))
    }
}
