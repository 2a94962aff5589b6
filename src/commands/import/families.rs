//! One name of a metric has one type, one help and one set of labels here. Other exporters allow more where no server makes
//! two of them: their entries are brought together, and what changes is noted.

use std::collections::HashMap;

use indexmap::IndexSet;

use super::model::{Entry, ImportedQuery, Value};
use super::report::Report;

/// A metric with more labels is not converted: each label stands at each metric of a query, and a file that is short would
/// become a long one.
pub(super) const MOST_LABELS: usize = 64;

/// The bounds of a histogram without any in Prometheus' client for Python.
pub(super) const PYTHON_BUCKETS: [&str; 14] =
    ["0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5", "10"];

/// All metrics of one name.
#[derive(Default)]
struct UnitedFamily {
    types: IndexSet<String>,
    /// Of the first metric that has one.
    help: Option<Value>,
    /// In the order of the source.
    labels: IndexSet<String>,
}

/// Brings metrics of one name together.
pub(super) fn unite<'q>(queries: impl IntoIterator<Item = &'q mut ImportedQuery>, report: &Report) {
    let mut metrics: Vec<&mut Entry> =
        queries.into_iter().flat_map(|query| query.metrics.iter_mut()).collect();
    let mut families: HashMap<String, UnitedFamily> = HashMap::new();
    for metric in &metrics {
        let family = families.entry(name(metric)).or_default();
        family.types.insert(kind(metric).to_owned());
        for label in labels(metric) {
            if family.labels.len() <= MOST_LABELS {
                family.labels.insert(label);
            }
        }
        family.help = family.help.take().or_else(|| metric.get("help").cloned());
    }
    for metric in &mut metrics {
        if let Some(family) = families.get(&name(metric)) {
            family.join(metric, report);
        }
    }
}

impl UnitedFamily {
    fn join(&self, metric: &mut Entry, report: &Report) {
        let place = metric.origin.clone();
        if self.types.len() > 1 && self.types.iter().all(|kind| matches!(kind.as_str(), "gauge" | "counter"))
        {
            metric.remove("type");
            let message = "another metric of this name is of another type: one name has one type here, and a gauge may \
                           be any number";
            report.note(place.clone(), message);
        }
        if self.help.as_ref() != metric.get("help") {
            metric.set_if("help", self.help.clone());
            report.note(
                place.clone(),
                "another metric of this name has another help: the first one stands here",
            );
        }
        let own = labels(metric);
        let missing: Vec<&String> = self.labels.iter().filter(|label| !own.contains(label)).collect();
        // Of too many the load says that they differ.
        if missing.is_empty() || self.labels.len() > MOST_LABELS {
            return;
        }
        let mut fixed = match metric.remove("static_labels") {
            Some(Value::Map(pairs)) => pairs,
            _ => Vec::new(),
        };
        fixed.extend(missing.into_iter().map(|label| (label.clone(), Value::from(""))));
        metric.set("static_labels", Value::Map(fixed));
        let message = "another metric of this name has more labels: they are empty here, which Prometheus takes for absent";
        report.note(place, message);
    }
}

fn name(metric: &Entry) -> String {
    metric.text("name").unwrap_or_default().to_owned()
}

fn kind(metric: &Entry) -> &str {
    metric.text("type").unwrap_or("gauge")
}

/// The names of all labels.
fn labels(metric: &Entry) -> Vec<String> {
    let names = |key: &str| match metric.get(key) {
        Some(Value::Map(pairs)) => pairs.iter().map(|(name, _)| name.clone()).collect(),
        Some(Value::List(items)) => items.iter().filter_map(text).collect(),
        Some(value) => text(value).into_iter().collect(),
        None => Vec::new(),
    };
    ["labels", "static_labels", "value_label"].into_iter().flat_map(names).collect()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}
