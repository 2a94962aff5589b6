//! What only the whole configuration shows: families and labels that contradict each other, reserved names.
//!
//! Only what can run counts: a disabled query may stand beside the one that replaces it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::SourcePosition;
use crate::exposition::{FamilyKind, reserved_names};
use crate::metric::Metric;
use crate::metric::labels::reserved_label;
use crate::metric::naming::our_prefix;
use crate::yaml::keys::Reader;

use super::query::Query;
use super::target::TargetConfig;

/// Labels of our own rows: a target's `labels` stand beside them.
const OUR_LABELS: [&str; 9] =
    ["target", "query", "collector", "reason", "driver", "version", "role", "tls", "state"];

/// Records every clash.
pub(super) fn check(targets: &[TargetConfig], target_label: &str, reader: &Reader<'_>) {
    for target in targets {
        label_names(target, target_label, reader);
    }
    let metrics = running(targets);
    for (_, metric) in &metrics {
        names(metric, target_label, reader);
    }
    families(&metrics, reader);
    series(&metrics, reader);
    target_labels(targets, reader);
    if target_label.is_empty() {
        one_target_each(targets, reader);
    }
}

/// A metric and the collector of its query.
type OfCollector<'t> = (&'t str, &'t Metric);

/// Every metric of a query that is enabled on an enabled target, once, in configuration order.
pub(super) fn running(targets: &[TargetConfig]) -> Vec<OfCollector<'_>> {
    let mut queries: Vec<_> = targets.iter().flat_map(TargetConfig::running).collect();
    queries.sort_by_key(|query| query.order);
    queries.dedup_by_key(|query| query.order);
    queries
        .into_iter()
        .flat_map(|query| query.metrics.iter().map(|metric| (&*query.collector, metric)))
        .collect()
}

/// A target's labels among themselves and against those of our own rows.
fn label_names(target: &TargetConfig, target_label: &str, reader: &Reader<'_>) {
    let place = &target.source.labels;
    for (label, _) in &target.labels {
        let label = label.as_str();
        if OUR_LABELS.contains(&label) {
            let message = format!("the label {label} is used by the exporter's own metrics");
            reader.fault_at(place, message, "give it another name");
        } else if label == target_label {
            let message = format!("the label {label} already names the target (exporter.target_label)");
            reader.fault_at(place, message, "give one of them another name");
        } else if let Some(why) = reserved_label(label) {
            reader.fault_at(place, format!("the label {label} {why}"), "give it another name");
        }
    }
}

/// One metric's name and labels against ours.
fn names(metric: &Metric, target_label: &str, reader: &Reader<'_>) {
    let name = metric.naming.text();
    if let Some(prefix) = our_prefix(name) {
        let message = format!("metric {name}: names that begin with {prefix} are reserved for the exporter");
        reader.fault_at(&metric.place, message, "give it another name");
    }
    if metric.label_names.iter().any(|label| label.as_str() == target_label) {
        let message = format!("metric {name}: the label {target_label} names the target");
        let hint = "rename it with `labels: {NAME: COLUMN}`, or the target's by exporter.target_label";
        reader.fault_at(&metric.place, message, hint);
    }
}

/// One family has one type, one unit and one set of labels, wherever it is written. It has one help within a collector;
/// where collectors differ, the page has the help of the first.
fn families(metrics: &[OfCollector<'_>], reader: &Reader<'_>) {
    let mut first: HashMap<&str, OfCollector<'_>> = HashMap::new();
    let mut first_of_collector: HashMap<(&str, &str), &Metric> = HashMap::new();
    for &(collector, metric) in metrics {
        let name = metric.naming.text();
        let own = *first_of_collector.entry((collector, name)).or_insert(metric);
        let (owner, other) = *first.entry(name).or_insert((collector, metric));
        if std::ptr::eq(other, metric) {
            continue;
        }
        let at = file_and_line(&other.place);
        if metric.naming.kind() != other.naming.kind() {
            let (here, there) = (with_article(metric.naming.kind()), with_article(other.naming.kind()));
            let message = format!("metric {name} is {here} here and {there} at {at}");
            reader.fault_at(&metric.place, message, "one name has one type");
        } else if metric.naming.unit() != other.naming.unit() {
            let message = format!("metric {name} has a different unit at {at}");
            reader.fault_at(&metric.place, message, "write the same unit in both");
        } else if metric.naming.help() != own.naming.help() {
            let message = format!("metric {name} has a different help at {}", file_and_line(&own.place));
            reader.fault_at(&metric.place, message, "write the same help in both");
        } else if metric.naming.help() != other.naming.help() && std::ptr::eq(own, metric) {
            let message = format!("metric {name} has another help in collector {owner}, at {at}");
            let hint = "a page has the help of the first; write the same in both";
            reader.warn_at(&metric.place, message, hint);
        }
        let (here, there) = (label_set(metric), label_set(other));
        if here != there {
            let message = format!(
                "metric {name} has the labels {} here and {} at {at}",
                in_braces(&here),
                in_braces(&there)
            );
            reader.fault_at(&metric.place, message, "one name has one set of labels");
        }
    }
}

/// `FILE:LINE`
pub(super) fn file_and_line(place: &SourcePosition) -> String {
    format!("{}:{}", place.file, place.line)
}

fn with_article(kind: FamilyKind) -> &'static str {
    match kind {
        FamilyKind::Gauge => "a gauge",
        FamilyKind::Counter => "a counter",
        FamilyKind::Histogram => "a histogram",
        FamilyKind::GaugeHistogram => "a gaugehistogram",
        FamilyKind::Summary => "a summary",
        FamilyKind::Info => "an info",
        FamilyKind::StateSet => "a stateset",
        FamilyKind::Unknown => "of unknown type",
    }
}

fn label_set(metric: &Metric) -> BTreeSet<&str> {
    metric.label_names.iter().map(|label| label.as_str()).collect()
}

fn in_braces(labels: &BTreeSet<&str>) -> String {
    format!("{{{}}}", labels.iter().copied().collect::<Vec<_>>().join(", "))
}

/// No two families write, or in OpenMetrics reserve, one name.
fn series(metrics: &[OfCollector<'_>], reader: &Reader<'_>) {
    let mut owners: HashMap<String, &Metric> = HashMap::new();
    for &(_, metric) in metrics {
        let name = metric.naming.text();
        let taken = reserved_names(name, metric.naming.kind());
        let foreign = |taken: &String| owners.get(taken).copied().filter(|other| other.naming.text() != name);
        if let Some((taken, other)) = taken.iter().find_map(|taken| Some((taken, foreign(taken)?))) {
            let (kind, at) = (with_article(other.naming.kind()), file_and_line(&other.place));
            let message = format!(
                "metric {name} clashes with {} at {at}: as {kind} that also owns {taken}",
                other.naming.text()
            );
            reader.fault_at(&metric.place, message, "give one of them another name");
        }
        for taken in taken {
            owners.entry(taken).or_insert(metric);
        }
    }
}

/// The labels of targets against those of the metrics that run there; one fault a metric and label, whatever the
/// number of targets.
fn target_labels(targets: &[TargetConfig], reader: &Reader<'_>) {
    let mut known = HashSet::new();
    for target in targets.iter().filter(|target| !target.labels.is_empty()) {
        for query in target.running() {
            for (index, metric) in query.metrics.iter().enumerate() {
                for (label, _) in target.labels.iter().filter(|(label, _)| metric.label_names.contains(label))
                {
                    if known.insert((query.order, index, label.clone())) {
                        let name = metric.naming.text();
                        let message =
                            format!("metric {name}: target {} has the label {label} too", target.name);
                        reader.fault_at(&metric.place, message, "give one of them another name");
                    }
                }
            }
        }
    }
}

/// Without a label that names the target, two targets write the same series.
fn one_target_each(targets: &[TargetConfig], reader: &Reader<'_>) {
    let mut runs: BTreeMap<usize, (&Query, Vec<&str>)> = BTreeMap::new();
    for target in targets {
        for query in target.running() {
            runs.entry(query.order).or_insert((query, Vec::new())).1.push(&target.name);
        }
    }
    for (query, names) in runs.into_values() {
        let [first, second, more @ ..] = names.as_slice() else { continue };
        let place = query.metrics.first().map(|metric| metric.place.clone()).unwrap_or_default();
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        let message =
            format!("query {} runs on {first}, {second}{more}, and no label tells them apart", query.name);
        reader.fault_at(&place, message, "write exporter.target_label: target, or name one target");
    }
}
