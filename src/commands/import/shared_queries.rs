//! Queries that a source repeats for each of several targets: equal ones are one query, which runs on all of them.

use std::collections::HashMap;

use indexmap::IndexSet;

use super::model::{Entry, ImportedQuery};
use super::unique_names::UniqueNames;

/// The queries so far.
#[derive(Default)]
pub(super) struct SharedQueries {
    list: Vec<SharedQuery>,
    /// Where a query of a name with these keys is.
    known: HashMap<String, usize>,
}

struct SharedQuery {
    name: String,
    query: ImportedQuery,
    targets: IndexSet<String>,
}

impl SharedQueries {
    /// Adds a query that is to have this name, or its targets to one that differs in nothing but where it runs.
    pub(super) fn add(
        &mut self,
        name: String,
        query: ImportedQuery,
        targets: impl IntoIterator<Item = String>,
    ) {
        // Of a folded text that an alias repeats, the lines are not known.
        let sql = query.entry.text("sql").unwrap_or_default().split_whitespace().collect::<Vec<_>>();
        let others = query.entry.keys().iter().filter(|(key, _)| *key != "sql");
        let metrics = query.metrics.iter().map(Entry::keys);
        let key =
            format!("{name} {sql:?} {:?} {:?}", others.collect::<Vec<_>>(), metrics.collect::<Vec<_>>());
        let at = *self.known.entry(key).or_insert(self.list.len());
        if at == self.list.len() {
            self.list.push(SharedQuery { name, query, targets: IndexSet::new() });
        }
        if let Some(known) = self.list.get_mut(at) {
            known.targets.extend(targets);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn queries(&mut self) -> impl Iterator<Item = &mut ImportedQuery> {
        self.list.iter_mut().map(|shared| &mut shared.query)
    }

    /// The queries with their names and targets. `is_only_target`: there is one, which runs everything.
    pub(super) fn finish(self, is_only_target: bool) -> Vec<ImportedQuery> {
        let mut names = UniqueNames::default();
        let finished = self.list.into_iter().map(|SharedQuery { name, mut query, targets }| {
            query.entry.set("name", names.take(&name));
            let targets: Vec<String> = targets.into_iter().collect();
            query.entry.run_on(&targets, is_only_target);
            query
        });
        finished.collect()
    }
}
