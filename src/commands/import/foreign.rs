//! Files that no dialect reads: what they are, and what to convert in their place.

use crate::error::{Error, SourcePosition};

/// How some of a file's lines begin, after blanks and dashes; what the file is; what to do.
type ForeignFormat = (&'static [&'static str], &'static str, &'static str);

const NOT_YAML: [ForeignFormat; 3] = [
    (
        &["prometheus.exporter."],
        "a configuration of Grafana Alloy",
        "convert the text of its `custom_queries_config_path` or `query_config`, and name a database of it with --url",
    ),
    (
        &["[client]"],
        "an option file of MySQL, as mysqld_exporter has it",
        "write its user, password and server under `databases`: docs/migrating.md#from-mysqld_exporter",
    ),
    (&["[[metric]]"], "a file of metrics of oracledb_exporter", "there is no driver for Oracle"),
];

const YAML: [ForeignFormat; 5] = [
    (
        &["integrations:", "data_source_name"],
        "a configuration of Grafana Agent",
        "convert the file of its `query_path` or `query_config`, and name a database of it with --url",
    ),
    (
        &["metric_name:", "value_column:", "sql:"],
        "a list of queries for the OpenTelemetry Collector (`sqlquery`)",
        "write each as a query: its `sql`, and a metric with `attribute_columns` as `labels`, and `type: counter` for \
         `data_type: sum`",
    ),
    (
        &["services:", "image:"],
        "a Compose file",
        "convert the files that it mounts or has under `configs`, and name a database of its environment with --url",
    ),
    (&["scrape_configs:"], "a configuration of Prometheus", "convert that of the exporter that it scrapes"),
    (
        &["apiVersion:", "kind:"],
        "a file of Kubernetes objects without a configuration in them",
        "convert the ConfigMap or the Secret that they name",
    ),
];

/// The error for texts that no dialect reads, where it is known what one of them is.
pub(super) fn error(texts: &[&str]) -> Option<Error> {
    known(NOT_YAML.iter().chain(&YAML), texts)
}

fn known<'f>(mut formats: impl Iterator<Item = &'f ForeignFormat>, texts: &[&str]) -> Option<Error> {
    let begins = |line: &str, mark: &str| line.trim_start_matches([' ', '-']).starts_with(mark);
    // Of a mapping on one line, each key begins one.
    let has_all = |marks: &[&str], text: &str| {
        marks.iter().all(|mark| text.split(['\n', '{', ',']).any(|line| begins(line, mark)))
    };
    let (_, what, hint) = formats.find(|(marks, ..)| texts.iter().any(|text| has_all(marks, text)))?;
    Some(Error::config(format!("this is {what}, which import does not read")).with_hint(*hint))
}

/// The error for a text that is not YAML.
pub(super) fn unparsed(text: &str, error: Error) -> Error {
    let line = error.place().and_then(|place| place.source.as_deref()).unwrap_or_default();
    if ["{{", "{%"].iter().any(|mark| line.contains(mark)) {
        let hint = "the file is a template: fill it in first (`helm template`), and convert what comes out";
        return error.with_hint(hint);
    }
    // Without the line, which may hold a password.
    let file = error.place().map(|place| place.file.clone()).unwrap_or_default();
    let at = |known: Error| known.at(SourcePosition { file, ..SourcePosition::default() });
    known(NOT_YAML.iter(), &[text]).map_or(error, at)
}
