//! One `metrics:` entry read and checked by itself: the keys that all types have in common.

use std::sync::Arc;

use crate::error::Place;
use crate::exposition::FamilyKind;
use crate::lint::{Silence, Subject};
use crate::name::LabelName;
use crate::yaml::keys::{Keys, nearest};

use super::labels::{Labels, Origin, label_name};
use super::naming::Naming;
use super::{Metric, MetricType, Recipe, TYPES, gauge};

/// Keys that only some types have, so that a wrong one is told where it belongs.
const KEYS_OF_TYPES: &[(&str, &[&str])] = &[
    ("value", &["gauge", "counter", "unknown"]),
    ("value_columns", &["gauge", "counter", "unknown"]),
    ("value_label", &["gauge", "counter", "unknown"]),
    ("value_column", &["gauge", "counter", "unknown", "histogram", "gaugehistogram"]),
    ("map", &["gauge", "counter", "unknown", "histogram", "gaugehistogram"]),
    ("scale", &["gauge", "counter", "unknown", "histogram", "gaugehistogram", "summary"]),
    ("null", &["gauge", "counter", "unknown", "histogram", "gaugehistogram", "stateset"]),
    ("invalid", &["gauge", "counter", "unknown", "histogram", "gaugehistogram", "stateset"]),
    ("buckets", &["histogram", "gaugehistogram"]),
    ("bucket_columns", &["histogram", "gaugehistogram"]),
    ("le_column", &["histogram", "gaugehistogram"]),
    ("cumulative", &["histogram", "gaugehistogram"]),
    ("sum_column", &["histogram", "gaugehistogram", "summary"]),
    ("count_column", &["histogram", "gaugehistogram", "summary"]),
    ("quantile_columns", &["summary"]),
    ("state_column", &["stateset"]),
    ("states", &["stateset"]),
];

/// Takes all keys of one entry.
pub(super) fn metric(mut keys: Keys<'_>) -> Option<Metric> {
    let metric = common(&mut keys, "name");
    let lint_off = Silence::read(&mut keys, Subject::Metric);
    keys.finish();
    metric.map(|metric| Metric { lint_off, ..metric })
}

/// Takes the keys of the mini form from a query's own mapping.
pub(super) fn mini(keys: &mut Keys<'_>) -> Option<Metric> {
    if keys.has("metric_name") { common(keys, "metric_name") } else { None }
}

fn common(keys: &mut Keys<'_>, name_key: &'static str) -> Option<Metric> {
    let name = read_name(keys, name_key);
    let place = keys.place(name_key);
    let help = keys.text("help").unwrap_or_default();
    let kind = read_type(keys);
    let labels = read_labels(keys);
    let labels_place = labels_place(keys);
    let recipe = kind.and_then(|kind| read_recipe(keys, kind, name.as_deref()));
    let unit = kind.and_then(|kind| read_unit(keys, kind.kind(), name.as_deref()));
    let timestamp_column = read_timestamp(keys, recipe.as_deref());
    let naming = name.zip(kind).and_then(|(name, kind)| {
        Naming::new(&name, kind.kind(), help, unit).map_err(|rule| keys.fault(name_key, rule)).ok()
    });
    let empty = read_empty(keys, recipe.as_deref(), &labels);
    if empty.is_some() && naming.as_ref().is_some_and(|naming| naming.fixed().is_none()) {
        keys.fault("empty", "a number for a result without rows needs a name without columns");
    }
    let keep_first = keys.choice("duplicates", &[("error", false), ("first", true)]).unwrap_or(false);

    let (naming, recipe) = (naming?, recipe?);
    let labels = with_own(keys, labels, recipe.own_label());
    Some(Metric {
        naming,
        label_names: labels.names().cloned().collect(),
        place,
        labels_place,
        lint_off: Silence::default(),
        labels,
        recipe,
        timestamp_column,
        empty,
        keep_first,
    })
}

fn read_name(keys: &mut Keys<'_>, key: &'static str) -> Option<String> {
    if key == "name" {
        keys.one_of(&["name"]);
    }
    let name = keys.text(key);
    if name.is_none() && !keys.has(key) {
        keys.fault("", format!("`{key}` is missing: the name of the metric"));
    }
    name
}

fn read_type(keys: &mut Keys<'_>) -> Option<&'static dyn MetricType> {
    keys.words("type", TYPES.iter().map(|kind| kind.name()));
    if !keys.has("type") {
        return Some(&gauge::Gauge);
    }
    let text = keys.text("type")?;
    let word = text.to_lowercase();
    let found = TYPES.iter().copied().find(|kind| kind.name() == word);
    if found.is_none() {
        let names: Vec<&str> = TYPES.iter().map(|kind| kind.name()).collect();
        let message = format!("{text:?} is no metric type; there are {}", names.join(", "));
        match nearest(&word, names) {
            Some(near) => keys.fault_with_hint("type", message, format!("did you mean `{near}`?")),
            None => keys.fault("type", message),
        }
    }
    found
}

/// Takes the type's own keys; those of other types are faults.
fn read_recipe(
    keys: &mut Keys<'_>,
    kind: &'static dyn MetricType,
    name: Option<&str>,
) -> Option<Box<dyn Recipe>> {
    for (key, types) in KEYS_OF_TYPES.iter().filter(|(_, types)| !types.contains(&kind.name())) {
        keys.forbid(key, &format!("is a key of {}, not of {}", types.join(", "), kind.name()));
    }
    kind.read(keys, name)
}

/// The unit: the name's suffix (OpenMetrics, section Unit).
fn read_unit(keys: &mut Keys<'_>, kind: FamilyKind, name: Option<&str>) -> Option<Arc<str>> {
    let unit = keys.text("unit")?;
    if matches!(kind, FamilyKind::Info | FamilyKind::StateSet) {
        keys.fault("unit", "an info and a stateset have no unit");
        return None;
    }
    let name = name?;
    let counted =
        if kind == FamilyKind::Counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
    let is_suffix =
        counted.strip_suffix(unit.as_str()).is_some_and(|stem| stem.len() > 1 && stem.ends_with('_'));
    if !is_suffix || unit.is_empty() {
        let before = if counted.len() < name.len() { " (before `_total`)" } else { "" };
        keys.fault(
            "unit",
            format!("{unit:?} is not what {name} ends in: a unit is the name's suffix{before}"),
        );
        return None;
    }
    Some(unit.into())
}

fn read_timestamp(keys: &mut Keys<'_>, recipe: Option<&dyn Recipe>) -> Option<String> {
    let column = keys.text("timestamp_column")?;
    if recipe.is_some_and(Recipe::joins_rows) {
        let message = "several rows make one histogram here: no row's time is its time";
        keys.fault("timestamp_column", message);
    }
    Some(column)
}

fn read_labels(keys: &mut Keys<'_>) -> Vec<(LabelName, Origin)> {
    let mut labels: Vec<(LabelName, Origin)> = Vec::new();
    for (name, column) in keys.named_texts("labels").unwrap_or_default() {
        if let Some(name) = label_name(keys, "labels", &name) {
            add(keys, "labels", name, Origin::Column(column), &mut labels);
        }
    }
    for (name, value) in keys.pairs("static_labels").unwrap_or_default() {
        if let Some(name) = label_name(keys, "static_labels", &name) {
            add(keys, "static_labels", name, Origin::Fixed(value), &mut labels);
        }
    }
    labels
}

/// The first key that gives labels.
fn labels_place(keys: &Keys<'_>) -> Option<Place> {
    let key = ["labels", "static_labels", "value_label"].into_iter().find(|key| keys.has(key))?;
    Some(keys.place(key))
}

fn with_own(keys: &Keys<'_>, mut labels: Vec<(LabelName, Origin)>, own: Option<&LabelName>) -> Labels {
    if let Some(own) = own {
        let key = if keys.has("value_label") { "value_label" } else { "labels" };
        add(keys, key, own.clone(), Origin::Own, &mut labels);
    }
    Labels::new(labels)
}

fn add(keys: &Keys<'_>, key: &str, name: LabelName, origin: Origin, labels: &mut Vec<(LabelName, Origin)>) {
    if labels.iter().any(|(known, _)| *known == name) {
        keys.fault(key, format!("label `{name}` is given twice"));
    } else {
        labels.push((name, origin));
    }
}

fn read_empty(
    keys: &mut Keys<'_>,
    recipe: Option<&dyn Recipe>,
    labels: &[(LabelName, Origin)],
) -> Option<f64> {
    let number = keys.word_or_number("empty", &[("none", None)], Some)??;
    if labels.iter().any(|(_, origin)| matches!(origin, Origin::Column(_))) {
        keys.fault("empty", "a number for a result without rows needs a metric without label columns");
    }
    if let Some(why) = recipe.and_then(|recipe| recipe.refuses_empty(number)) {
        keys.fault("empty", format!("{number} {why}"));
    }
    Some(number)
}
