//! The effective configuration as `/config` shows it: what was written with defaults merged in, and what was left out with
//! the value that holds. Secrets never come this far: `yaml::writer` hides them.

use std::collections::BTreeMap;

use crate::yaml::writer::YamlValue;

use super::exporter::Exporter;
use super::query::Query;
use super::settings::Settings;
use super::target::TargetConfig;

/// The whole of it.
pub fn redacted_config<'t>(
    exporter: &Exporter,
    targets: impl Iterator<Item = &'t TargetConfig>,
) -> YamlValue {
    let mut databases = Vec::new();
    let mut queries: BTreeMap<usize, YamlValue> = BTreeMap::new();
    for target in targets {
        databases.push((&target.name, of_target(target)));
        for query in &target.queries {
            queries.entry(query.order).or_insert_with(|| of_query(query));
        }
    }
    YamlValue::map([
        ("exporter", exporter.redacted()),
        ("databases", YamlValue::map(databases)),
        ("queries", YamlValue::List(queries.into_values().collect())),
    ])
}

/// The entry, its defaults, and how each of its queries runs there.
fn of_target(target: &TargetConfig) -> YamlValue {
    let labels = target.labels.iter().map(|(name, value)| (name.as_str(), YamlValue::text(value)));
    let runs = target.queries.iter().map(|query| (&query.name, YamlValue::map(query.shown())));
    let mut redacted = target.redacted.clone();
    redacted.set("driver", YamlValue::text(target.driver), true);
    redacted.set("labels", YamlValue::map(labels), true);
    for (key, value) in target.shown() {
        redacted.set(key, value, true);
    }
    if !target.aliases.is_empty() {
        let aliases =
            target.aliases.iter().map(|alias| (&alias.family.name, YamlValue::text(alias.of.as_str())));
        redacted.set("aliases", YamlValue::map(aliases), true);
    }
    redacted.set("runs", YamlValue::map(runs), true);
    redacted
}

fn of_query(query: &Query) -> YamlValue {
    let mut redacted = query.redacted.as_ref().clone();
    redacted.set("collector", YamlValue::text(&query.collector), true);
    redacted.set("sql", YamlValue::text(query.sql.text()), true);
    redacted
}
