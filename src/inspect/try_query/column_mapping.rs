//! What becomes of each column of a result: for people who write a query.

use crate::config::query::Query;
use crate::driver::advice::applied;
use crate::driver::{Column, ColumnContent};
use crate::metric::column::find;
use crate::metric::{ColumnNeed, ColumnUse};

/// What becomes of one column, in some metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Its name as the database gives it; as the configuration names it where the result has none.
    pub column: String,
    /// The database's own name of its type; `None` where the result has no such column.
    pub type_name: Option<String>,
    /// "label `region`", "value"; empty where no metric uses it.
    pub becomes: String,
    /// In which.
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
) -> Vec<Mapped> {
    let uses: Vec<(Option<usize>, ColumnUse, &str)> = query
        .metrics
        .iter()
        .flat_map(|metric| metric.uses().into_iter().map(|taken| (taken, metric.naming.text())))
        .map(|(taken, metric)| (find(columns, &taken.column).ok(), taken, metric))
        .collect();
    let mut all = Vec::new();
    for (place, column) in columns.iter().enumerate() {
        let mut found = Vec::new();
        for (_, taken, metric) in uses.iter().filter(|(at, ..)| *at == Some(place)) {
            let is_unzoned = unzoned.get(place).copied().unwrap_or(false);
            let rule = rule(taken, column, is_unzoned.then_some(epoch));
            add(&mut found, &column.name, Some(&*column.type_name), taken, metric, rule);
        }
        if found.is_empty() {
            let (column, type_name) = (column.name.to_string(), Some(column.type_name.to_string()));
            let (becomes, rule) = (String::new(), String::new());
            found.push(Mapped { column, type_name, becomes, metrics: Vec::new(), rule });
        }
        all.append(&mut found);
    }
    for (_, taken, metric) in uses.iter().filter(|(at, ..)| at.is_none()) {
        let rule = "the result has no such column, or two".to_owned();
        add(&mut all, &taken.column, None, taken, metric, rule);
    }
    all
}

/// Metrics that do the same with a column share an entry.
fn add(
    all: &mut Vec<Mapped>,
    column: &str,
    type_name: Option<&str>,
    taken: &ColumnUse,
    metric: &str,
    rule: String,
) {
    let same =
        |known: &&mut Mapped| known.column == column && known.becomes == taken.part && known.rule == rule;
    if let Some(known) = all.iter_mut().find(same) {
        known.metrics.push(metric.to_owned());
        return;
    }
    let (column, type_name) = (column.to_owned(), type_name.map(str::to_owned));
    all.push(Mapped {
        column,
        type_name,
        becomes: taken.part.clone(),
        metrics: vec![metric.to_owned()],
        rule,
    });
}

/// The rule of the configuration, and that of moments; `unzoned` is there for a column without a zone.
fn rule(taken: &ColumnUse, column: &Column, unzoned: Option<Option<&str>>) -> String {
    let mut rules = vec![taken.rule.clone()];
    if taken.needs != ColumnNeed::Anything && column.content == ColumnContent::Moment {
        rules.insert(0, "Unix seconds".to_owned());
        if let Some(epoch) = unzoned {
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
