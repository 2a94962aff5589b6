//! Queries as postgres_exporter and pg_exporter have them: `query`, and `metrics`, a list of columns with their `usage`.

use super::dialect::{child, entries, items};
use super::model::{Entry, Value};
use super::section::Section;
use crate::yaml::document::{MapEntry, Node, NodeValue};

/// One column of the result.
pub(super) struct QueryColumn<'s> {
    /// Its name in the result.
    pub(super) name: String,
    /// Its name as a label, or after that of the query in the name of a metric.
    pub(super) exported: String,
    /// `LABEL`, `GAUGE` and so on.
    pub(super) usage: String,
    pub(super) section: Section<'s>,
}

impl QueryColumn<'_> {
    /// False, reported, where the statement does not return all columns of these names: there it makes no metric, here the query
    /// would fail.
    pub(super) fn is_in(&self, returned: Option<&[String]>, mut names: impl Iterator<Item = String>) -> bool {
        let Some(returned) = returned.filter(|_| self.usage != "DISCARD") else { return true };
        let missing = names.find(|name| !returned.contains(name));
        if let Some(name) = &missing {
            let message =
                format!("the statement does not return the column {name}: it makes no metric and no label");
            self.section.leave_out(message);
        }
        missing.is_none()
    }

    /// A metric of it, still without a value; `None`, reported, where the result would be too large.
    pub(super) fn metric(&self, name: String, labels: &Value) -> Option<Entry> {
        if !self.section.may_copy(name.len()) {
            return None;
        }
        let mut metric = self.section.entry();
        metric.set_nonempty("labels", labels.clone());
        let is_kept = self.section.may_keep(&metric);
        metric.set("name", name);
        metric.set_if("help", self.section.text("description").filter(|help| !help.trim().is_empty()));
        is_kept.then_some(metric)
    }
}

/// The columns that a query lists, by their names.
pub(super) fn columns<'s>(query: &Section<'s>) -> Vec<(&'s str, Section<'s>)> {
    query.sections("metrics").iter().flat_map(Section::named).collect()
}

/// Those columns that have a usage.
pub(super) fn with_usage<'c, 's>(
    columns: &'c [QueryColumn<'s>],
    usage: &'static str,
) -> impl Iterator<Item = &'c QueryColumn<'s>> {
    columns.iter().filter(move |column| column.usage == usage)
}

/// Whether a node is such a query.
pub(super) fn is_custom_query(node: &Node) -> bool {
    let first = child(node, "metrics").and_then(|columns| items(columns).first()).map(entries);
    let column = first.and_then(<[MapEntry]>::first);
    let has_statement = child(node, "query").is_some_and(|query| !matches!(query.value, NodeValue::Map(_)));
    has_statement && column.is_some_and(|column| child(&column.node, "usage").is_some())
}

/// What speaks for one of their dialects: a query of that form, by its name, and the first time each of these keys.
pub(super) fn signs_of_query(signs: &mut Vec<String>, name: &str, keys: impl Iterator<Item = &'static str>) {
    if signs.is_empty() {
        signs.push(format!("`{name}` has a `query`, and `metrics` with `usage`"));
    }
    for sign in keys.map(|key| format!("it has the key `{key}`")) {
        if !signs.contains(&sign) {
            signs.push(sign);
        }
    }
}
