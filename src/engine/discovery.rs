//! Databases of a server that become targets (`discover`): the last list of a target, and when it is made anew.
//!
//! The list is the result of one more query of the target: it runs on a session of the target, scrapes at once share its
//! run, and it is reused while it is younger than `interval`. Lists become targets in `targets`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::config::discover::{DatabaseList, Discover, is_meant};
use crate::deadline::Deadline;
use crate::error::{Error, Reason};
use crate::telemetry::DiscoveryGauges;
use crate::yaml::writer::Digest;

use super::result_cache::{CacheLookup, ResultCache};
use super::run::{CompletionLatch, Run, RunEnd, RunKind};
use super::scrape::ScrapeTime;
use super::target::Target;
use super::targets::{ScrapeSelection, Targets};

/// A scrape that has a list waits at most this part of its time for a new one, which then is the next scrape's.
const WAIT_SHARE: f64 = 0.25;
/// The same for one that has none: what is not known is not on its page.
const FIRST_WAIT_SHARE: f64 = 0.5;
/// A list of this age is made anew where one of its databases is gone.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(10);

/// What one target found.
#[derive(Default)]
pub struct Discovery {
    /// Of the runs of the query.
    pub cache: Arc<ResultCache>,
    state: Mutex<DiscoveryState>,
}

#[derive(Default)]
struct DiscoveryState {
    last: Option<LastList>,
    /// Why there is no newer list.
    error: Option<Error>,
}

struct LastList {
    list: DatabaseList,
    dropped: usize,
    at: Timestamp,
    /// Of the query that made it.
    digest: Digest,
}

impl Discovery {
    /// A run of the query of the target `name` has ended. After a failure the last list stays.
    pub fn learn(&self, name: &str, discover: &Discover, end: &RunEnd) {
        let mut state = self.state.lock();
        match end {
            RunEnd::Good(result) => {
                let (list, dropped) = discover.choose(result.databases.clone());
                let before = state.last.as_ref().map_or(0, |last| last.dropped);
                if dropped > 0 && before == 0 {
                    log::warn!(target = name; "target {name} finds more databases than are served: {dropped} are left out, \
                        as `discover.max` is {}, or as their names cannot be shown", discover.max);
                }
                let (at, digest) = (Timestamp::now(), discover.query.digest);
                state.last = Some(LastList { list, dropped, at, digest });
                if state.error.take().is_some() {
                    log::info!(target = name; "target {name} finds databases again");
                }
            }
            RunEnd::Failed(error) => {
                let before = state.error.replace(error.clone()).map(|before| before.reason());
                if before != Some(error.reason()) {
                    log::warn!(target = name, reason = error.reason().as_str();
                        "target {name} finds no databases, the last list stays: {}", error.summary());
                }
            }
            // It has no condition and no `foreach`.
            RunEnd::Skipped(_) | RunEnd::Partial(..) => {}
        }
    }

    /// The last list of this query.
    pub fn list(&self, discover: &Discover) -> Option<DatabaseList> {
        let state = self.state.lock();
        let last = state.last.as_ref().filter(|last| last.digest == discover.query.digest)?;
        Some(Arc::clone(&last.list))
    }

    /// Its figures; `None` before it was tried.
    pub fn gauges(&self) -> Option<DiscoveryGauges> {
        let state = self.state.lock();
        let (last, success) = (state.last.as_ref(), state.error.is_none());
        let was_tried = last.is_some() || !success;
        was_tried.then(|| DiscoveryGauges {
            success,
            targets: last.map_or(0, |last| last.list.len()),
            dropped: last.map_or(0, |last| last.dropped),
            timestamp: last.map(|last| last.at),
        })
    }

    /// Why there is no newer list.
    pub fn error(&self) -> Option<Error> {
        self.state.lock().error.clone()
    }

    fn age(&self) -> Option<Duration> {
        self.state.lock().last.as_ref().map(|last| last.at.age())
    }
}

/// Runs the discoveries that a scrape of these targets needs, as far as their lists are too old. Blocks for a part of the
/// scrape's time at most. Also for targets that are not known yet: `srv/db` may be one that `srv` finds.
pub fn run(targets: &Targets, selection: &ScrapeSelection, time: ScrapeTime) {
    let parents = targets.targets.iter().filter(|target| target.config.enabled);
    let meant = |parent: &&Arc<Target>| is_meant(&selection.targets, &parent.config.name);
    let mut awaited: Vec<Arc<Run>> = Vec::new();
    let mut share = WAIT_SHARE;
    for parent in parents.filter(meant) {
        let Some((discover, discovery)) = parent.discovery() else { continue };
        let list = discovery.list(discover);
        if list.is_none() || has_lost_one(targets, parent, discovery) {
            discovery.cache.expire();
        }
        // Nobody waits for a server that was down, unless one of its databases is asked for.
        let waits = !parent.is_doubtful() || (list.is_none() && !selection.targets.is_empty());
        for lookup in parent.request(&[RunKind::Discovery], time.queries(), time.budget) {
            if let (CacheLookup::Joined(run) | CacheLookup::Started(run), true) = (lookup, waits) {
                awaited.push(run);
                share = if list.is_none() { FIRST_WAIT_SHARE } else { share };
            }
        }
        parent.start();
    }
    if awaited.is_empty() {
        return;
    }
    let latch = Arc::<CompletionLatch>::default();
    awaited.iter().enumerate().for_each(|(number, run)| run.tell(number, &latch));
    let until = Deadline::after(time.began, time.budget.mul_f64(share)).min(time.queries());
    // What comes later is in the next list.
    latch.wait(awaited.len(), until);
}

/// True where a target has not found its databases yet: their names are not known.
pub fn is_outstanding(targets: &Targets) -> bool {
    targets.targets.iter().any(|target| target.config.enabled && target.awaits_databases())
}

/// True where a database of the list was dropped: the server said so when a session was opened.
fn has_lost_one(targets: &Targets, parent: &Target, discovery: &Discovery) -> bool {
    let is_its = |target: &&Arc<Target>| {
        target.config.discovered_by.as_ref().is_some_and(|by| by.target == parent.config.name)
    };
    let is_gone = |target: &Arc<Target>| {
        target.down().is_some_and(|error| {
            error.reason() == Reason::Connect && matches!(error.sqlstate(), Some("3D000" | "42000"))
        })
    };
    discovery.age().is_some_and(|age| age >= SHORTEST_INTERVAL)
        && targets.targets.iter().filter(is_its).any(is_gone)
}
