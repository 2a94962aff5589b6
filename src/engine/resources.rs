//! What the targets of one process have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::disposal::Disposal;
use super::pool::Scheduler;
use super::workers::{ServerShare, Workers};
use crate::deadline::Deadline;
use crate::driver::connection::ConnectionConfig;
use crate::telemetry::Telemetry;

use super::backoff::LoginBackoff;
use super::session_bound::{BoundScope, SessionBound};
use super::sessions::TargetSessions;

/// How often sessions at work are looked at when the process ends.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What all targets share.
pub struct SharedResources {
    /// The threads that run queries.
    pub workers: Workers,
    /// Which passwords servers have refused.
    pub logins: LoginBackoff,
    /// Where sessions end.
    pub disposal: Disposal,
    /// The one thread of all pools.
    pub scheduler: Scheduler,
    /// Counters of the process's life.
    pub telemetry: Arc<Telemetry>,
    /// By server and user, and by the target that discovered others.
    bounds: Mutex<HashMap<String, Weak<SessionBound>>>,
    /// By server.
    server_shares: Mutex<HashMap<String, Weak<ServerShare>>>,
    /// The sessions of all targets, also of targets that a reload removed while a scrape holds them.
    sessions: Mutex<Vec<Weak<TargetSessions>>>,
    stopping: AtomicBool,
}

impl SharedResources {
    /// Threads for at most so many lanes at once. Starts one for the pools.
    pub fn new(max_workers: usize) -> Self {
        SharedResources {
            workers: Workers::new(max_workers),
            logins: LoginBackoff::default(),
            disposal: Disposal::new(),
            scheduler: Scheduler::start(),
            telemetry: Telemetry::new(),
            bounds: Mutex::default(),
            server_shares: Mutex::default(),
            sessions: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// The bound of the targets that log in to the same server as the same user. A target without a login has one alone.
    pub(crate) fn server_bound(&self, driver: &str, login: Option<&ConnectionConfig>) -> Arc<SessionBound> {
        let new = || SessionBound::new(BoundScope::Server);
        let key = |login: &ConnectionConfig| format!("{driver} {} {:?}", login.server(), login.username);
        login.map_or_else(new, |login| find_or_add(&self.bounds, key(login), new))
    }

    /// The bound of all databases that `target` discovered.
    pub(crate) fn discovery_bound(&self, target: &str) -> Arc<SessionBound> {
        let new = || SessionBound::new(BoundScope::DiscoveredBy(target.to_owned()));
        find_or_add(&self.bounds, format!("discovered by {target}"), new)
    }

    /// The workers of the targets of one server. A target without a login has a share of its own.
    pub(crate) fn server_share(&self, login: Option<&ConnectionConfig>) -> Arc<ServerShare> {
        let share = || self.workers.share();
        login.map_or_else(share, |login| find_or_add(&self.server_shares, login.server(), share))
    }

    /// Notes the sessions of another target.
    pub(crate) fn add(&self, sessions: &Arc<TargetSessions>) {
        let mut all = self.sessions.lock();
        all.retain(|sessions| sessions.strong_count() > 0);
        all.push(Arc::downgrade(sessions));
    }

    /// True once the process ends: no run begins any more.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Cancels all queries under way, on every target, and starts no more: the pages that wait for them leave with what is
    /// complete. Does not block.
    pub fn interrupt(&self) {
        self.stopping.store(true, Ordering::Release);
        self.all().iter().for_each(|sessions| sessions.interrupt());
    }

    /// Closes the sessions that are idle, and those at work as soon as they are idle; blocks until there is none, at most
    /// until `by`. A page can be complete before its session has read the last answer: a process that ended then would
    /// leave without a goodbye. `disposal` says when the closed ones have ended.
    pub fn close_sessions(&self, by: Deadline) {
        loop {
            let sessions = self.all();
            sessions.iter().for_each(|sessions| while sessions.pool.close_idle() {});
            let busy = sessions.iter().any(|sessions| sessions.pool.counts().busy > 0);
            if !busy || by.passed() {
                break;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn all(&self) -> Vec<Arc<TargetSessions>> {
        self.sessions.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

/// What is known under a key while somebody has it.
fn find_or_add<T>(
    known: &Mutex<HashMap<String, Weak<T>>>,
    key: String,
    add: impl FnOnce() -> Arc<T>,
) -> Arc<T> {
    let mut known = known.lock();
    if let Some(found) = known.get(&key).and_then(Weak::upgrade) {
        return found;
    }
    known.retain(|_, other| other.strong_count() > 0);
    let added = add();
    known.insert(key, Arc::downgrade(&added));
    added
}
