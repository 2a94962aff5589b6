//! One `metrics:` entry read and checked by itself: the keys that all types have in common.

use std::sync::Arc;

use crate::exposition::Family;
use crate::name::{LabelName, MetricName};
use crate::yaml::keys::{Keys, nearest};

use super::labels::{Labels, Origin, label_name};
use super::{LATER, Metric, MetricType, Recipe, TYPES, gauge};

/// Keys that a later version brings.
const LATER_KEYS: &[&str] = &[
    "unit",
    "timestamp_column",
    "bucket_columns",
    "le_column",
    "cumulative",
    "sum_column",
    "count_column",
    "quantile_columns",
    "state_column",
    "states",
    "lint_off",
];

/// Takes all keys of one entry.
pub(super) fn metric(mut keys: Keys<'_>) -> Option<Metric> {
    LATER_KEYS.iter().for_each(|key| keys.refuse(key));
    let metric = common(&mut keys, "name");
    keys.finish();
    metric
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
    let recipe = kind.and_then(|kind| kind.read(keys));
    let empty = read_empty(keys, recipe.as_deref(), &labels);
    let keep_first = keys.choice("duplicates", &[("error", false), ("first", true)]).unwrap_or(false);

    let (name, kind, recipe) = (name?, kind?, recipe?);
    let labels = with_own(keys, labels, recipe.own_label());
    Some(Metric {
        family: Arc::new(Family::new(name, kind.kind(), help)),
        label_names: labels.names().cloned().collect(),
        suffixes: recipe.suffixes(),
        place,
        labels,
        recipe,
        empty,
        keep_first,
    })
}

fn read_name(keys: &mut Keys<'_>, key: &'static str) -> Option<MetricName> {
    let Some(name) = keys.text(key) else {
        if !keys.has(key) {
            keys.fault("", format!("`{key}` is missing: the name of the metric"));
        }
        return None;
    };
    if name.contains('{') {
        keys.fault(key, format!("{name:?}: names that hold a column are not built yet"));
        return None;
    }
    MetricName::new(&name).map_err(|rule| keys.fault(key, rule)).ok()
}

fn read_type(keys: &mut Keys<'_>) -> Option<&'static dyn MetricType> {
    if !keys.has("type") {
        return Some(&gauge::Gauge);
    }
    let text = keys.text("type")?;
    let word = text.to_lowercase();
    let found = TYPES.iter().copied().find(|kind| kind.name() == word);
    if found.is_none() {
        if LATER.contains(&word.as_str()) {
            keys.fault("type", format!("`{word}` is not built yet"));
        } else {
            let names: Vec<&str> = TYPES.iter().map(|kind| kind.name()).collect();
            let message = format!("{text:?} is no metric type; there are {}", names.join(", "));
            match nearest(&word, names) {
                Some(near) => keys.fault_with_hint("type", message, format!("did you mean `{near}`?")),
                None => keys.fault("type", message),
            }
        }
    }
    found
}

fn read_labels(keys: &mut Keys<'_>) -> Vec<(LabelName, Origin)> {
    let columns: Vec<(String, String)> = if keys.is_mapping("labels") {
        keys.pairs("labels").unwrap_or_default()
    } else {
        let names = keys.texts("labels").unwrap_or_default();
        names.into_iter().map(|column| (column.clone(), column)).collect()
    };
    let mut labels: Vec<(LabelName, Origin)> = Vec::new();
    for (name, column) in columns {
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

fn with_own(keys: &Keys<'_>, mut labels: Vec<(LabelName, Origin)>, own: Option<&LabelName>) -> Labels {
    if let Some(own) = own {
        add(keys, "value_label", own.clone(), Origin::Own, &mut labels);
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
    let text = keys.text("empty")?;
    if text.trim().eq_ignore_ascii_case("none") {
        return None;
    }
    let Some(number) = text.trim().parse::<f64>().ok().filter(|number| number.is_finite()) else {
        keys.fault("empty", format!("expected none or a number, found {text:?}"));
        return None;
    };
    if labels.iter().any(|(_, origin)| matches!(origin, Origin::Column(_))) {
        keys.fault("empty", "a number for a result without rows needs a metric without label columns");
    }
    if let Some(why) = recipe.and_then(|recipe| recipe.refuses_empty(number)) {
        keys.fault("empty", format!("{number} {why}"));
    }
    Some(number)
}
