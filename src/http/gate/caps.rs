//! How many connections there may be: counts, evicts the longest idle, drains at the stop.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::deadline::Deadline;
use crate::http::{Limits, Peer};

/// Descriptors a request takes at most: the public socket, the private one, tiny_http's two, a session.
const PER_REQUEST: u64 = 5;
/// Descriptors for all else: listeners, runtime, log, files, idle sessions.
const RESERVE: u64 = 64;
/// 503 answers on their way out at once; beyond, connections close without a word.
const REFUSALS: usize = 64;
/// Of the descriptors that the process may open, at most this part is spent on them.
const REFUSALS_SHARE: u64 = 8;

/// Raises the soft descriptor limit to the hard one and lowers `max_connections` to what it allows.
pub(in crate::http) fn within_descriptors(mut limits: Limits) -> Limits {
    let Ok(descriptors) = rlimit::increase_nofile_limit(u64::MAX) else { return limits };
    let room =
        usize::try_from((descriptors.saturating_sub(RESERVE) / PER_REQUEST).max(1)).unwrap_or(usize::MAX);
    if room < limits.max_connections {
        log::warn!(
            "exporter.http.max_connections is lowered from {} to {room}: the process may open {descriptors} files \
             (ulimit -n, LimitNOFILE), and a request needs {PER_REQUEST}",
            limits.max_connections
        );
        limits.max_connections = room;
    }
    limits
}

/// The connections that are open.
pub(super) struct Caps {
    max: usize,
    max_per_address: usize,
    max_refusals: usize,
    table: Mutex<Table>,
    left: Notify,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, Entry>,
    next: u64,
    refusals: usize,
    draining: bool,
}

struct Entry {
    peer: Peer,
    task: Option<AbortHandle>,
    /// From when on the connection waits for its next request and may be closed for another; `None` while it serves one.
    idle: Option<Instant>,
}

impl Table {
    fn count(&self, address: IpAddr) -> usize {
        self.open.values().filter(|entry| entry.peer == Peer::Address(address)).count()
    }

    /// Ends the longest-idle connection.
    fn evict(&mut self, of: Option<Peer>) -> bool {
        let candidates = self.open.iter().filter(|(_, entry)| of.is_none_or(|peer| peer == entry.peer));
        let now = Instant::now();
        let idle = candidates.filter_map(|(id, entry)| entry.idle.map(|since| (since, *id)));
        let idle = idle.filter(|(since, _)| *since <= now);
        let Some((_, id)) = idle.min() else { return false };
        self.end(id);
        true
    }

    fn end(&mut self, id: u64) {
        if let Some(task) = self.open.remove(&id).and_then(|entry| entry.task) {
            task.abort();
        }
    }
}

impl Caps {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        let descriptors = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
        let share = usize::try_from(descriptors / REFUSALS_SHARE).unwrap_or(usize::MAX);
        let max_refusals = REFUSALS.min(share);
        Caps { max, max_per_address, max_refusals, table: Mutex::default(), left: Notify::new() }
    }

    /// A place for a new connection; at a cap the longest idle one closes for it. `None`: all are busy. The new one
    /// closes for no other within `grace`.
    pub(super) fn admit(self: &Arc<Self>, peer: Peer, grace: Duration) -> Option<Ticket> {
        let mut table = self.table.lock();
        if let Peer::Address(address) = peer
            && self.max_per_address > 0
            && table.count(address) >= self.max_per_address
            && !table.evict(Some(peer))
        {
            return None;
        }
        if table.open.len() >= self.max && !table.evict(None) {
            return None;
        }
        let id = table.next;
        table.next += 1;
        table.open.insert(id, Entry { peer, task: None, idle: Some(Instant::now() + grace) });
        Some(Ticket { caps: Arc::clone(self), id })
    }

    /// The task that serves the connection, so that it can be ended.
    pub(super) fn started(&self, id: u64, task: AbortHandle) {
        if let Some(entry) = self.table.lock().open.get_mut(&id) {
            entry.task = Some(task);
        }
    }

    /// Closes the longest-idle connection, to free its descriptor.
    pub(super) fn evict(&self) {
        self.table.lock().evict(None);
    }

    /// A place to say 503 from.
    pub(super) fn refusal(self: &Arc<Self>) -> Option<Refusal> {
        let mut table = self.table.lock();
        (table.refusals < self.max_refusals).then(|| {
            table.refusals += 1;
            Refusal(Arc::clone(self))
        })
    }

    /// True once the stop has begun: connections close after the answer they owe.
    pub(super) fn draining(&self) -> bool {
        self.table.lock().draining
    }

    /// Closes idle connections now and waits for the others until `by`; gives the number of those it had to cut.
    pub(super) async fn drain(&self, by: Deadline) -> usize {
        {
            let mut table = self.table.lock();
            table.draining = true;
            while table.evict(None) {}
        }
        while !self.table.lock().open.is_empty() {
            let left = self.left.notified();
            if tokio::time::timeout_at(by.moment().into(), left).await.is_err() {
                break;
            }
        }
        let mut table = self.table.lock();
        let rest: Vec<u64> = table.open.keys().copied().collect();
        rest.iter().for_each(|id| table.end(*id));
        rest.len()
    }
}

/// A connection's place; gone when dropped.
pub(super) struct Ticket {
    caps: Arc<Caps>,
    id: u64,
}

impl Ticket {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// From now on the connection waits for a request and may be closed for another.
    pub(super) fn idle(&self) {
        self.set(Some(Instant::now()));
    }

    /// From now on it serves one.
    pub(super) fn busy(&self) {
        self.set(None);
    }

    fn set(&self, idle: Option<Instant>) {
        let mut table = self.caps.table.lock();
        if idle.is_some() && table.draining {
            table.end(self.id);
        } else if let Some(entry) = table.open.get_mut(&self.id) {
            entry.idle = idle;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.caps.table.lock().open.remove(&self.id);
        self.caps.left.notify_one();
    }
}

/// A place to say 503 from; gone when dropped.
pub(super) struct Refusal(Arc<Caps>);

impl Drop for Refusal {
    fn drop(&mut self) {
        self.0.table.lock().refusals -= 1;
    }
}
