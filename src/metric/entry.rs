//! One entry of `metrics:`, read and checked by itself. Clashes with other entries are `config/conflicts`.

use std::collections::HashSet;
use std::sync::Arc;

use super::lint_off::{LintSubject, SilencedLints};
use crate::error::SourcePosition;
use crate::exposition::FamilyKind;
use crate::name::LabelName;
use crate::yaml::keys::{Keys, TextOrMapping, nearest};

use super::column_text::ColumnText;
use super::labels::{LabelSource, Labels, label_name};
use super::naming::Naming;
use super::samples::Duplicates;
use super::{ColumnNeed, ColumnUse, MetricType, Recipe, TYPES};

/// One metric as configured.
pub struct Metric {
    /// Name, type, help.
    pub naming: Naming,
    /// The names of its labels, then those of its query's `foreach`.
    pub label_names: Vec<LabelName>,
    /// Where it stands in the file.
    pub place: SourcePosition,
    /// The first key that defines its labels.
    pub labels_place: Option<SourcePosition>,
    /// The lints that it silences.
    pub lint_off: SilencedLints,
    /// Where its labels come from.
    pub labels: Labels,
    /// What becomes of a row.
    pub recipe: Recipe,
    /// The column with the samples' explicit timestamps.
    pub timestamp_column: Option<String>,
    /// What a result without rows is, if anything. Only without label columns.
    pub empty: Option<f64>,
    /// What becomes of a second sample of one label set.
    pub duplicates: Duplicates,
}

impl Metric {
    /// Takes all keys of one `metrics:` entry. `None` after a recorded fault.
    pub fn read(mut keys: Keys<'_>) -> Option<Metric> {
        let metric = Metric::read_common(&mut keys, "name");
        let lint_off = SilencedLints::read(&mut keys, LintSubject::Metric);
        keys.finish();
        metric.map(|metric| Metric { lint_off, ..metric })
    }

    /// The mini form: `metric_name`, `help`, `labels`, `value_column` (and `type`) taken from the query's own keys.
    /// `Some` only when `metric_name` is there.
    pub fn read_mini(keys: &mut Keys<'_>) -> Option<Metric> {
        if keys.has("metric_name") { Metric::read_common(keys, "metric_name") } else { None }
    }

    fn read_common(keys: &mut Keys<'_>, name_key: &'static str) -> Option<Metric> {
        let name = read_name(keys, name_key);
        let place = keys.place(name_key);
        let help = keys.text("help").unwrap_or_default();
        let kind = read_type(keys);
        let given = read_labels(keys);
        let labels_place = labels_place(keys);
        let recipe = kind.and_then(|kind| read_recipe(keys, kind, name.as_deref()));
        let unit = kind.and_then(|kind| read_unit(keys, kind.kind, name.as_deref()));
        let duplicates = keys.choice("duplicates", DUPLICATES).unwrap_or_default();
        let timestamp_column = read_timestamp(keys, recipe.as_ref(), duplicates);
        if let Some(why) = recipe.as_ref().and_then(|recipe| recipe.refuses_sums)
            && duplicates == Duplicates::Sum
        {
            keys.fault("duplicates", why);
        }
        // Whatever the type is, the name is legal or not.
        let family = kind.map_or(FamilyKind::Gauge, |kind| kind.kind);
        let naming = name.and_then(|name| keys.valid(name_key, Naming::new(&name, family, help, unit)));
        let empty = read_empty(keys, recipe.as_ref(), &given);
        if empty.is_some() && naming.as_ref().is_some_and(|naming| naming.fixed().is_none()) {
            keys.fault("empty", "a number for a result without rows needs a name without columns");
        }
        let type_label = recipe.as_ref().and_then(|recipe| recipe.type_label.as_ref());
        let labels = all_labels(keys, given, type_label);
        Some(Metric {
            naming: naming?,
            label_names: labels.names().cloned().collect(),
            place,
            labels_place,
            lint_off: SilencedLints::default(),
            labels,
            recipe: recipe?,
            timestamp_column,
            empty,
            duplicates,
        })
    }

    /// Its columns: of its name, its labels, its type, its timestamp.
    pub fn uses(&self) -> Vec<ColumnUse> {
        let of_text = |text: &ColumnText, part: String| ColumnUse::anything(&text.column, part, text.rule());
        let name = self.naming.columns().map(|text| of_text(text, "part of the name".to_owned()));
        let label = |(name, source): (_, &LabelSource)| match source {
            LabelSource::Column(text) => Some(of_text(text, format!("label `{name}`"))),
            LabelSource::Fixed(_) | LabelSource::Type => None,
        };
        let timestamp = self.timestamp_column.as_deref().map(|column| ColumnUse {
            needs: ColumnNeed::Moment,
            ..ColumnUse::number(column, "timestamp", "")
        });
        let labels = self.labels.iter().filter_map(label);
        name.chain(labels).chain(self.recipe.uses.iter().cloned()).chain(timestamp).collect()
    }
}

/// Keys that only some types have, so that an error can name those types.
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

const DUPLICATES: &[(&str, Duplicates)] =
    &[("error", Duplicates::Error), ("first", Duplicates::First), ("sum", Duplicates::Sum)];

fn read_name(keys: &mut Keys<'_>, key: &'static str) -> Option<String> {
    if key == "name" {
        keys.one_of(&["name"]);
    }
    let name = keys.text(key);
    if name.is_none() && !keys.has(key) {
        keys.lacks("", &["name"], format!("`{key}` is missing: the name of the metric"), None);
    }
    name
}

fn read_type(keys: &mut Keys<'_>) -> Option<&'static MetricType> {
    keys.words("type", TYPES.iter().map(|kind| kind.name));
    let text = keys.text("type");
    if !keys.has("type") {
        return TYPES.first();
    }
    let find = |name: &str| TYPES.iter().find(|kind| kind.name == name);
    if let Some(kind) = text.as_ref().and_then(|text| find(&text.to_lowercase())) {
        return Some(kind);
    }
    // A slip is read as what it was meant for, so that other faults of the entry come out as well.
    let meant = text.and_then(|text| {
        let names: Vec<&str> = TYPES.iter().map(|kind| kind.name).collect();
        let message = format!("{text:?} is not a metric type; the types are {}", names.join(", "));
        let near = nearest(&text, names);
        match near {
            Some(near) => keys.fault_with_hint("type", message, format!("did you mean `{near}`?")),
            None => keys.fault("type", message),
        }
        find(near?)
    });
    if meant.is_none() {
        // A key of any type is not an unknown key.
        for kind in TYPES {
            (kind.read)(&mut keys.rehearsal(), None);
        }
    }
    meant
}

/// Takes the type's own keys; those of other types are faults.
fn read_recipe(keys: &mut Keys<'_>, kind: &MetricType, name: Option<&str>) -> Option<Recipe> {
    for (key, types) in KEYS_OF_TYPES.iter().filter(|(_, types)| !types.contains(&kind.name)) {
        keys.forbid(key, &format!("is a key of {}, not of {}", types.join(", "), kind.name));
    }
    (kind.read)(keys, name)
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

fn read_timestamp(keys: &mut Keys<'_>, recipe: Option<&Recipe>, duplicates: Duplicates) -> Option<String> {
    let column = keys.text("timestamp_column")?;
    if recipe.is_some_and(|recipe| recipe.joins_rows) {
        let message = "several rows make one histogram here: no row's time is its time";
        keys.fault("timestamp_column", message);
    } else if duplicates == Duplicates::Sum {
        let message = "`duplicates: sum` adds several rows: no row's time is the time of their sum";
        keys.fault("timestamp_column", message);
    }
    Some(column)
}

/// A label that an entry names, after the key that names it.
type GivenLabel = (&'static str, LabelName, LabelSource);

fn read_labels(keys: &mut Keys<'_>) -> Vec<GivenLabel> {
    let mut labels = Vec::new();
    for (name, column) in keys.named_texts_or_mappings("labels").unwrap_or_default() {
        let text = match column {
            TextOrMapping::Text(column) => Some(ColumnText::whole(column)),
            TextOrMapping::Mapping(keys) => ColumnText::read(keys),
        };
        if let (Some(name), Some(text)) = (label_name(keys, "labels", &name), text) {
            labels.push(("labels", name, LabelSource::Column(text)));
        }
    }
    for (name, value) in keys.pairs("static_labels").unwrap_or_default() {
        let name = label_name(keys, "static_labels", &name);
        labels.extend(name.map(|name| ("static_labels", name, LabelSource::Fixed(value))));
    }
    labels
}

/// The labels with the one that the type adds, each once.
fn all_labels(keys: &Keys<'_>, mut given: Vec<GivenLabel>, type_label: Option<&LabelName>) -> Labels {
    let key = if keys.has("value_label") { "value_label" } else { "labels" };
    given.extend(type_label.map(|label| (key, label.clone(), LabelSource::Type)));
    let mut known = HashSet::new();
    given.retain(|(key, name, _)| {
        let is_new = known.insert(name.clone());
        if !is_new {
            keys.fault(key, format!("label `{name}` is given twice"));
        }
        is_new
    });
    Labels::new(given.into_iter().map(|(_, name, source)| (name, source)).collect())
}

/// The first key that defines labels.
fn labels_place(keys: &Keys<'_>) -> Option<SourcePosition> {
    let key = ["labels", "static_labels", "value_label"].into_iter().find(|key| keys.has(key))?;
    Some(keys.place(key))
}

fn read_empty(keys: &mut Keys<'_>, recipe: Option<&Recipe>, labels: &[GivenLabel]) -> Option<f64> {
    let number = keys.word_or_number("empty", &[("none", None)], Some)??;
    if labels.iter().any(|(.., source)| matches!(source, LabelSource::Column(_))) {
        keys.fault("empty", "a number for a result without rows needs a metric without label columns");
    }
    if let Some(why) = recipe.and_then(|recipe| (recipe.refuses_empty)(number)) {
        keys.fault("empty", format!("{number} {why}"));
    }
    Some(number)
}
