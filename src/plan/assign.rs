//! Queries × targets: who runs what, with `collectors` and `overrides` applied; and the names that mean nothing.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Place};
use crate::yaml::keys::Reader;

use super::glob::{self, Pattern};
use super::overrides::Overrides;
use super::query::{self, Query};
use super::target::{self, Target};

/// Everything read, before it is put together.
pub(super) struct Parts {
    /// In configuration order.
    pub(super) targets: Vec<target::Draft>,
    /// In configuration order: the main file's, then those of each included file.
    pub(super) queries: Vec<query::Draft>,
    /// Those at top level.
    pub(super) overrides: Overrides,
    /// False when an included file could not be read: a name that is missing may stand in it.
    pub(super) whole: bool,
}

/// Gives each target its queries; also all queries, whether a target runs them or not, without what targets change.
/// Faults are recorded.
pub(super) fn assign(parts: Parts, reader: &Reader<'_>) -> (Vec<Target>, Vec<Query>) {
    same_names(&parts.queries, reader);
    // Without targets every query would be at fault, and none of them is to blame.
    if !parts.targets.is_empty() {
        aims(&parts, reader);
    }
    idle_names(&parts, reader);
    let queries: Vec<_> = parts.targets.iter().map(|target| queries_of(target, &parts)).collect();
    elsewhere(&parts, &queries, reader);
    intervals(&parts, &queries, reader);
    let cook = |(order, query): (usize, &query::Draft)| {
        query.cook(parts.overrides.apply(&query.name, query.settings), order)
    };
    let all = parts.queries.iter().enumerate().map(cook).collect();
    let targets = parts.targets.into_iter().zip(queries).map(|(target, queries)| target.cook(queries));
    (targets.collect(), all)
}

fn same_names(queries: &[query::Draft], reader: &Reader<'_>) {
    let mut seen = HashMap::new();
    for query in queries {
        if let Some(first) = seen.get(&query.name) {
            let first: &Arc<Place> = first;
            let message =
                format!("a query is called {:?} already, at {}:{}", query.name, first.file, first.line);
            let error = Error::config(message).at(query.place.as_ref().clone());
            reader.fault(error.with_hint("a query's name is unique in the whole configuration"));
        } else {
            seen.insert(query.name.clone(), Arc::clone(&query.place));
        }
    }
}

fn aims(parts: &Parts, reader: &Reader<'_>) {
    let targets: Vec<_> = parts.targets.iter().map(|target| (target.name.as_str(), target.driver)).collect();
    for query in &parts.queries {
        match &query.aim {
            Some(aim) => aim.check(&targets, reader),
            None if targets.len() > 1 => {
                let message = format!("query {} does not say where it runs", query.name);
                let names = glob::hint("", targets.iter().map(|(name, _)| *name));
                let error = Error::config(message).at(query.place.as_ref().clone());
                reader.fault(error.with_hint(format!("add `database: NAME`; {names}")));
            }
            None => {}
        }
    }
}

/// Patterns in `collectors` and `overrides` that mean nothing: a fault for a plain name, else a warning.
fn idle_names(parts: &Parts, reader: &Reader<'_>) {
    let mut collectors: Vec<&str> = parts.queries.iter().map(|query| &*query.collector).collect();
    collectors.sort_unstable();
    collectors.dedup();
    let all: Vec<&str> = parts.queries.iter().map(|query| &*query.name).collect();
    let note = |pattern: &Pattern, error: Error, known: &[&str]| {
        if !pattern.is_plain() {
            reader.warn(error);
        } else if parts.whole {
            reader.fault(error.with_hint(glob::hint(pattern.text(), known.iter().copied())));
        }
    };
    for target in &parts.targets {
        for pattern in target.collectors.idle(&collectors) {
            let error = Error::config(format!("no collector is called {:?}", pattern.text()));
            note(pattern, error.at(target.collectors.place.clone()), &collectors);
        }
        for entry in target.overrides.idle(&all) {
            let error = Error::config(format!("no query is called {:?}", entry.names.text()));
            note(&entry.names, error.at(entry.place.clone()), &all);
        }
    }
    for entry in parts.overrides.idle(&all) {
        let error = Error::config(format!("no query is called {:?}", entry.names.text()));
        note(&entry.names, error.at(entry.place.clone()), &all);
    }
}

fn queries_of(target: &target::Draft, parts: &Parts) -> Vec<Arc<Query>> {
    let runs = |query: &query::Draft| {
        let aimed = query.aim.as_ref().is_none_or(|aim| aim.means(&target.name, target.driver));
        aimed && target.collectors.takes(&query.collector)
    };
    let cook = |(order, query): (usize, &query::Draft)| {
        let settings = parts.overrides.apply(&query.name, query.settings);
        Arc::new(query.cook(target.overrides.apply(&query.name, settings), order))
    };
    parts.queries.iter().enumerate().filter(|(_, query)| runs(query)).map(cook).collect()
}

/// An `interval` on a target with `snapshot`: there every scrape is of one moment, nothing of an older one.
fn intervals(parts: &Parts, queries: &[Vec<Arc<Query>>], reader: &Reader<'_>) {
    for (target, queries) in parts.targets.iter().zip(queries).filter(|(target, _)| target.snapshot) {
        for query in queries.iter().filter(|query| !query.interval.is_zero()) {
            let place =
                parts.queries.get(query.order).map(|query| query.place.as_ref().clone()).unwrap_or_default();
            let message =
                format!("query {}: `interval` does not apply on target {}", query.name, target.name);
            let warning = Error::config(message).at(place);
            reader.warn(
                warning.with_hint("its `snapshot: true` makes all queries of a scrape run at one moment"),
            );
        }
    }
}

/// Targets of a driver that is not built in: a fault for each enabled query that needs one, else one warning.
fn elsewhere(parts: &Parts, queries: &[Vec<Arc<Query>>], reader: &Reader<'_>) {
    for (target, queries) in parts.targets.iter().zip(queries).filter(|(target, _)| target.elsewhere) {
        let mut needed = queries.iter().filter(|query| query.enabled && target.enabled).peekable();
        let message = format!("the driver {} is not built in", target.driver);
        if needed.peek().is_none() {
            let message = format!("{message}: target {} is not read, no query needs it", target.name);
            reader.warn(Error::config(message).at(target.driver_place.clone()));
        }
        for query in needed {
            let place = parts.queries.get(query.order).map(query::Draft::aim_place).unwrap_or_default();
            let message = format!("{message}, and query {} needs it on target {}", query.name, target.name);
            let hint = format!("write `enabled: false` on the query or on databases.{}", target.name);
            reader.fault(Error::config(message).at(place).with_hint(hint));
        }
    }
}
