//! What targets on one server share: the defaults that depend on how many there are, and how many sessions they may have.

use std::collections::HashMap;

use crate::driver::connection::ConnectionConfig;

use super::target::{TargetConfig, TargetEntry};

/// With more targets than this on one server, each has one session unless `max_connections` is written.
const MANY_TARGETS: usize = 20;
/// Descriptors that one session on an SQLite file takes: the file, its log and the log's index.
const FILES_PER_DATABASE: usize = 3;

fn server(config: &TargetConfig) -> Option<String> {
    config.login().map(ConnectionConfig::server)
}

/// Sets the default of `max_connections` for targets on a server with many.
pub(super) fn set_defaults(entries: &mut [TargetEntry]) {
    let mut targets: HashMap<String, usize> = HashMap::new();
    for server in entries.iter().filter(|entry| entry.enabled).filter_map(|entry| server(entry)) {
        *targets.entry(server).or_default() += 1;
    }
    for entry in entries.iter_mut().filter(|entry| !entry.has_own_max_connections) {
        let others = server(entry).and_then(|server| targets.get(&server).copied());
        if others.is_some_and(|count| count > MANY_TARGETS) {
            entry.config.max_connections = 1;
        }
    }
}

/// How many files and sockets the sessions of all targets may take at once, with those of databases that are discovered
/// later.
pub fn descriptors<'d>(targets: impl IntoIterator<Item = &'d TargetConfig>) -> usize {
    let mut files = 0;
    // Of each server and user, what the targets may have each, and all together.
    let mut groups: HashMap<(String, Option<&str>), (usize, usize)> = HashMap::new();
    let configured = |target: &&TargetConfig| target.enabled && target.discovered_by.is_none();
    for target in targets.into_iter().filter(configured) {
        let discovered = target.discover.as_ref().map_or(0, |discover| discover.max_connections);
        let own = (target.max_connections + discovered) as usize;
        let login = target.login();
        let Some(login) = login else {
            files += own * FILES_PER_DATABASE;
            continue;
        };
        let most = target.max_server_connections as usize;
        let group = groups.entry((login.server(), login.username.as_deref())).or_insert((0, most));
        *group = (group.0 + own, group.1.min(most));
    }
    files + groups.into_values().map(|(each, most)| each.min(most)).sum::<usize>()
}
