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
    let on = |target: &'c Arc<TargetConfig>| {
        let query = target.queries.iter().find(|query| &*query.name == name)?;
        Some((&**target, Arc::clone(query)))
    };
    let runs: Vec<_> = config.targets.iter().filter_map(on).collect();
    // Which databases there are, only the server tells.
    let parent = config.targets.iter().find(|target| target.discover.is_some()).filter(|_| runs.is_empty());
    let databases = parent.map(|parent| format!("name a database: --target {}/DATABASE", parent.name));
    let Some(target) = target else {
        let is_enabled = |(target, query): &(&TargetConfig, Arc<Query>)| target.enabled && query.enabled;
        let one = only(&format!("query `{name}` runs on"), &runs, is_enabled, |(target, _)| target);
        return one.map_err(|error| error.with_hint_if_any(databases));
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
    let all: Vec<&TargetConfig> = config.targets.iter().map(|target| &**target).collect();
    name.map_or_else(
        || only("there are", &all, |target| target.enabled, |target| target),
        |name| find(config, name),
    )
}

/// The only one that is enabled, else the only one.
fn only<T: Clone>(
    what: &str,
    all: &[T],
    is_enabled: impl Fn(&T) -> bool,
    target: impl Fn(&T) -> &TargetConfig,
) -> Result<T> {
    let enabled: Vec<&T> = all.iter().filter(|one| is_enabled(one)).collect();
    match (enabled.as_slice(), all) {
        ([one], _) => Ok((*one).clone()),
        (_, [one]) => Ok(one.clone()),
        (_, []) => Err(Error::config(format!("{what} no target"))),
        _ => {
            let names: Vec<&str> = all.iter().map(|one| target(one).name.as_str()).collect();
            let error = Error::config(format!("{what} {} targets", names.len()));
            Err(error.with_hint(format!("name one with --target: {}", names.join(", "))))
        }
    }
}

fn find<'c>(config: &'c Config, name: &str) -> Result<&'c TargetConfig> {
    check_names("target", &[name.to_owned()], || config.targets.iter().map(|target| target.name.as_str()))?;
    let found = config.targets.iter().find(|target| target.name == name);
    found.map(|target| &**target).ok_or_else(|| Error::config(format!("unknown target `{name}`")))
}
