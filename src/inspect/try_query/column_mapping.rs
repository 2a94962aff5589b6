//! What becomes of each column of a result: for people who write a query.

use serde::Serialize;

use crate::config::query::Query;
use crate::driver::advice::applied;
use crate::driver::{Column, ColumnContent};
use crate::metric::column::find;
use crate::metric::{ColumnNeed, ColumnUse};

/// What becomes of one column, in some metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MappedColumn {
    /// Its name in the result, or in the configuration where the result has no such column.
    pub column: String,
    /// The database's own name of its type; `None` where the result has no such column.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// "label `region`", "value"; `None` where no metric uses it.
    pub becomes: Option<String>,
    /// In which metrics.
    pub metrics: Vec<String>,
    /// What is done with its values: "× 0.001; NULL is skipped".
    pub rule: String,
}

/// One entry for each use of each column, in the order of the result; then the columns that it lacks. `unzoned` says
/// which columns hold moments without a zone, `epoch` how the database reads those by its own.
pub(super) fn mapping(
    query: &Query,
    columns: &[Column],
    unzoned: &[bool],
    epoch: Option<&str>,
) -> Vec<MappedColumn> {
    let uses: Vec<(Option<usize>, ColumnUse, &str)> = query
        .metrics
        .iter()
        .flat_map(|metric| metric.uses().into_iter().map(|taken| (taken, metric.naming.text())))
        .map(|(taken, metric)| (find(columns, &taken.column).ok(), taken, metric))
        .collect();
    let mut all = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let new = MappedColumn {
            column: column.name.to_string(),
            type_name: Some(column.type_name.to_string()),
            becomes: None,
            metrics: Vec::new(),
            rule: String::new(),
        };
        let mut found = Vec::new();
        for (_, taken, metric) in uses.iter().filter(|(at, ..)| *at == Some(index)) {
            let is_unzoned = unzoned.get(index).copied().unwrap_or(false);
            let rule = rule(taken, column, is_unzoned, epoch);
            add(&mut found, MappedColumn { becomes: Some(taken.part.clone()), rule, ..new.clone() }, metric);
        }
        if found.is_empty() {
            found.push(new);
        }
        all.append(&mut found);
    }
    for (_, taken, metric) in uses.iter().filter(|(at, ..)| at.is_none()) {
        let missing = MappedColumn {
            column: taken.column.clone(),
            type_name: None,
            becomes: Some(taken.part.clone()),
            metrics: Vec::new(),
            rule: "the result has no such column, or two".to_owned(),
        };
        add(&mut all, missing, metric);
    }
    all
}

/// Metrics that do the same with a column share an entry.
fn add(all: &mut Vec<MappedColumn>, new: MappedColumn, metric: &str) {
    let is_same = |known: &MappedColumn| {
        known.column == new.column && known.becomes == new.becomes && known.rule == new.rule
    };
    let index = all.iter().position(is_same).unwrap_or_else(|| {
        all.push(new);
        all.len() - 1
    });
    if let Some(known) = all.get_mut(index) {
        known.metrics.push(metric.to_owned());
    }
}

/// The rule of the configuration, and that of moments.
fn rule(taken: &ColumnUse, column: &Column, is_unzoned: bool, epoch: Option<&str>) -> String {
    let mut rules = vec![taken.rule.clone()];
    if taken.needs != ColumnNeed::Anything && column.content == ColumnContent::Moment {
        rules.insert(0, "Unix seconds".to_owned());
        if is_unzoned {
            rules.insert(1, "without a zone: read as UTC".to_owned());
            let cast = |epoch: &str| {
                format!("if it is local time, select {}", applied(epoch, &column.name, column.quote))
            };
            rules.extend(epoch.map(cast));
        }
    }
    rules.retain(|rule| !rule.is_empty());
    rules.join("; ")
}
