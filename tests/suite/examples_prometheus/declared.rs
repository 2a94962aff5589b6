//! The metrics that there are: those of the native packs, of the demo, and the exporter's own, with their labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_yaml::Value;

use super::expressions::Words;
use super::read;

/// Labels that the exporter or Prometheus adds.
const ADDED: &[&str] = &["job", "instance", "target"];

#[derive(Default)]
pub(super) struct Declared {
    families: BTreeMap<String, BTreeSet<String>>,
    /// What stands before the first column of a name with columns in it, and its labels.
    prefixes: Vec<(String, BTreeSet<String>)>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn texts(value: &Value) -> Vec<String> {
    let texts: Vec<&Value> = match value {
        Value::Sequence(list) => list.iter().collect(),
        Value::Mapping(map) => map.keys().collect(),
        one => vec![one],
    };
    texts.into_iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Declared {
    pub(super) fn read() -> Self {
        let mut declared = Declared::default();
        for database in ["postgres", "mysql", "mariadb", "pgbouncer", "sqlite"] {
            let Ok(entries) = std::fs::read_dir(root().join("queries").join(database)) else { continue };
            for entry in entries {
                let path = entry.expect("an entry").path();
                if path.extension().is_some_and(|extension| extension == "yaml") {
                    declared.add_queries(&path);
                }
            }
        }
        declared.add_queries(&root().join("examples/demo/sql-exporter.yaml"));
        declared.add_own();
        for (name, labels) in [("up", &[][..]), ("ALERTS", &["alertname", "alertstate", "severity"])] {
            declared.add(name, labels.iter().map(|&label| label.to_owned()).collect());
        }
        declared
    }

    pub(super) fn add(&mut self, name: &str, labels: BTreeSet<String>) {
        self.families.entry(name.to_owned()).or_default().extend(labels);
    }

    /// The labels of a metric, where it exists.
    pub(super) fn labels(&self, metric: &str) -> Option<BTreeSet<String>> {
        let by_prefix = || self.prefixes.iter().find(|(prefix, _)| metric.starts_with(prefix.as_str()));
        self.families.get(metric).cloned().or_else(|| by_prefix().map(|(_, labels)| labels.clone()))
    }

    fn add_queries(&mut self, path: &Path) {
        let text = read(path);
        let file: Value =
            serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for query in file["queries"].as_sequence().expect("queries") {
            for metric in query["metrics"].as_sequence().expect("metrics") {
                self.add_metric(metric);
            }
        }
    }

    fn add_metric(&mut self, metric: &Value) {
        let name = metric["name"].as_str().expect("a name");
        let kind = metric["type"].as_str().unwrap_or_default();
        let mut labels = BTreeSet::new();
        for key in ["labels", "static_labels", "value_label"] {
            labels.extend(texts(&metric[key]));
        }
        let suffixes: &[&str] = match kind {
            "histogram" => &["_bucket", "_sum", "_count"],
            "gaugehistogram" => &["_bucket", "_gsum", "_gcount"],
            "summary" => &["", "_sum", "_count"],
            _ => &[""],
        };
        match kind {
            "histogram" | "gaugehistogram" => labels.extend(["le".to_owned()]),
            "summary" => labels.extend(["quantile".to_owned()]),
            "stateset" => labels.extend([name.to_owned()]),
            _ => {}
        }
        if let Some((prefix, _)) = name.split_once('{') {
            self.prefixes.push((prefix.to_owned(), labels));
            return;
        }
        suffixes.iter().for_each(|suffix| self.add(&format!("{name}{suffix}"), labels.clone()));
    }

    /// The tables of docs/metrics.md, which are made from the code.
    fn add_own(&mut self) {
        let text = read(&root().join("docs/metrics.md"));
        for row in text
            .lines()
            .filter(|line| line.starts_with("| `sql_exporter_") || line.starts_with("| `process_"))
        {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
            self.add(cells[1].trim_matches('`'), labels.filter(|label| !label.is_empty()).collect());
        }
        assert!(self.families.len() > 100, "{}", self.families.len());
    }

    /// What an expression names, or shows of its result, that does not exist.
    pub(super) fn unknown_in(&self, place: &str, words: &Words, shown: &BTreeSet<String>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut labels: BTreeSet<String> = ADDED.iter().map(|&label| label.to_owned()).collect();
        for metric in &words.metrics {
            match self.labels(metric) {
                Some(known) => labels.extend(known),
                None => wrong.push(format!("{place}: no pack has the metric {metric}")),
            }
        }
        for label in words.labels.iter().chain(shown).filter(|label| !labels.contains(*label)) {
            wrong.push(format!("{place}: none of its metrics has the label {label}"));
        }
        wrong
    }
}
