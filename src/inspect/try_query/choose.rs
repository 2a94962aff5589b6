//! Finds the query and the target by the names that the user gives.

use std::sync::Arc;

use crate::config::Config;
use crate::config::query::Query;
use crate::config::target::TargetConfig;
use crate::engine::targets::check_names;
use crate::error::{Error, Result};

/// The target, and the query as it runs there. Without the name of a target there must be only one.
///
/// # Errors
/// A configuration error: an unknown name, with the nearest; no target, or several.
pub fn query<'c>(
    config: &'c Config,
    name: &str,
    target: Option<&str>,
) -> Result<(&'c TargetConfig, Arc<Query>)> {
    check_names("query", &[name.to_owned()], || config.queries.iter().map(|query| &*query.name))?;
    let runs: Vec<_> =
        config.targets.iter().filter_map(|target| Some((&**target, on(target, name)?))).collect();
    // Which databases there are, only the server tells.
    let parent = config.targets.iter().find(|target| target.discover.is_some()).filter(|_| runs.is_empty());
    let databases = parent.map(|parent| format!("name a database: --target {}/DATABASE", parent.name));
    let Some(target) = target else {
        let enabled = |pair: &&(&TargetConfig, Arc<Query>)| pair.0.enabled && pair.1.enabled;
        let one = only(runs.iter().filter(enabled)).or_else(|| only(runs.iter()));
        let names = || runs.iter().map(|(target, _)| target.name.as_str());
        let missing = || several(&format!("query `{name}` runs on"), names()).with_hint_if_any(databases);
        return one.cloned().ok_or_else(missing);
    };
    find(config, target)?;
    runs.iter().find(|(found, _)| found.name == target).cloned().ok_or_else(|| {
        let names: Vec<&str> = runs.iter().map(|(found, _)| found.name.as_str()).collect();
        let error = Error::config(format!("query `{name}` does not run on target `{target}`"));
        let known = (!names.is_empty()).then(|| format!("it runs on: {}", names.join(", ")));
        error.with_hint_if_any(known.or(databases))
    })
}

/// The target for other SQL: the named one, else the only one.
///
/// # Errors
/// As [`query`].
pub fn target<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c TargetConfig> {
    let all = || config.targets.iter().map(|target| &**target);
    match name {
        Some(name) => find(config, name),
        None => only(all().filter(|target| target.enabled))
            .or_else(|| only(all()))
            .ok_or_else(|| several("there are", all().map(|target| target.name.as_str()))),
    }
}

fn on(target: &TargetConfig, name: &str) -> Option<Arc<Query>> {
    target.queries.iter().find(|query| &*query.name == name).cloned()
}

fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    all.next().filter(|_| all.next().is_none())
}

fn find<'c>(config: &'c Config, name: &str) -> Result<&'c TargetConfig> {
    check_names("target", &[name.to_owned()], || config.targets.iter().map(|target| target.name.as_str()))?;
    let found = config.targets.iter().find(|target| target.name == name);
    found.map(|target| &**target).ok_or_else(|| Error::config(format!("unknown target `{name}`")))
}

fn several<'n>(what: &str, names: impl Iterator<Item = &'n str>) -> Error {
    let names: Vec<&str> = names.collect();
    match names.len() {
        0 => Error::config(format!("{what} no target")),
        count => Error::config(format!("{what} {count} targets"))
            .with_hint(format!("name one with --target: {}", names.join(", "))),
    }
}
