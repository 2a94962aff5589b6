//! The databases that targets find (`discover`), for commands: each list is made once, on a session of its own.

use std::sync::Arc;

use crate::config::Config;
use crate::config::discover::{DatabaseLists, FoundDatabase, is_meant};
use crate::config::target::TargetConfig;
use crate::deadline::Deadline;
use crate::driver::MAX_CELL_BYTES;
use crate::engine::database_list;
use crate::error::{Error, Reason, Result};
use crate::yaml::keys::Environment;

use super::runner::{OpenSession, Runner, WithoutThreads};

/// The configuration with the databases that its targets find, and why some found none. `wanted`: names of targets, which
/// may be those of databases; none means all. Blocks until `by` at most, and a moment.
pub fn run(
    config: Config,
    wanted: &[String],
    by: Deadline,
    environment: &Environment,
) -> (Config, Vec<Error>) {
    let is_parent = |target: &&Arc<TargetConfig>| {
        target.enabled && target.discover.is_some() && is_meant(wanted, &target.name)
    };
    let parents: Vec<Arc<TargetConfig>> = config.targets.iter().filter(is_parent).cloned().collect();
    let Some(sources) = config.sources.clone().filter(|_| !parents.is_empty()) else {
        return (config, Vec::new());
    };
    let found = Runner::default().on_each_target(&parents, by, WithoutThreads::RunHere, |_| {}, list);
    let (mut lists, mut failures) = (DatabaseLists::new(), Vec::new());
    for (parent, (found, _)) in parents.iter().zip(found) {
        let list =
            found.flatten().map(|found| parent.discover.as_ref().map(|discover| discover.choose(found)));
        match list {
            Ok(Some((list, _))) => drop(lists.insert(parent.name.clone(), list)),
            Ok(None) => {}
            Err(error) => failures.push(error.on_target(&parent.name).in_query("discover")),
        }
    }
    match sources.inherit(None, &lists, environment) {
        Ok(known) => (known.with_exporter(config.exporter), failures),
        Err(faults) => {
            failures.extend(faults);
            (config, failures)
        }
    }
}

/// The list of one target.
fn list(target: &TargetConfig, session: &mut OpenSession) -> Result<Vec<FoundDatabase>> {
    let Some(discover) = &target.discover else { return Ok(Vec::new()) };
    let mut result = None;
    let mut sink = database_list::sink(discover, Box::new(|end, _| result = Some(end)));
    let ended = session.run(&discover.query.sql, &[], None, MAX_CELL_BYTES, &mut *sink);
    drop(sink);
    match (result, ended) {
        (Some(end), _) => end.map(|result| result.databases),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(Error::new(Reason::Protocol, "the list of databases has no end")),
    }
}
