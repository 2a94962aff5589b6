//! How many connections there may be: counts them, closes one that is not served for a new one, drains at the stop.
//!
//! Beside the usual places there are a few in reserve, for those who come when every usual place is taken by a
//! connection that is served: they may ask for the probes' paths only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::config::exporter::HttpLimits;
use crate::deadline::Deadline;
use crate::server::{OnRejected, Peer};

/// Descriptors a request takes at most: the public socket, the private one, tiny_http's two, a session.
const PER_REQUEST: u64 = 5;
/// Descriptors for all else: listeners, runtime, log, files, idle sessions.
const RESERVE: u64 = 64;
/// Places beside `max_connections`, and no more than those.
pub(crate) const RESERVED: usize = 8;
/// A usual head or handshake is whole by then.
const USUAL: Duration = Duration::from_secs(1);
/// 503 answers on their way out at once; beyond, connections close without a word.
const REFUSALS: usize = 64;
/// Of the descriptors that the process may open, at most this part is spent on them.
const REFUSALS_SHARE: u64 = 8;

/// Raises the soft descriptor limit to the hard one and lowers `max_connections` to what it allows.
pub(crate) fn within_descriptors(mut limits: HttpLimits) -> HttpLimits {
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
    reserved: usize,
    max_refusals: usize,
    table: Mutex<Table>,
    left: Notify,
    rejected: Arc<OnRejected>,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, Entry>,
    next: u64,
    refusals: usize,
    draining: bool,
}

/// What a connection is at, and since when. One that is served stays; the others may be closed for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing of its next request has come, or it has got its last answer.
    Idle(Instant),
    /// A part of a handshake or of a head has come.
    Arriving(Instant),
    /// A whole head has come; the answer is not out.
    Served,
}

struct Entry {
    peer: Peer,
    task: Option<AbortHandle>,
    state: State,
    reserved: bool,
}

impl Entry {
    /// The place in the order in which connections close for others; `None` while it is served. Heads that take longer
    /// than usual are the first.
    fn order(&self) -> Option<(bool, Instant)> {
        match self.state {
            State::Served => None,
            State::Idle(since) => Some((true, since)),
            State::Arriving(since) => Some((since.elapsed() < USUAL, since)),
        }
    }
}

impl Table {
    fn count(&self, among: impl Fn(&Entry) -> bool) -> usize {
        self.open.values().filter(|entry| among(entry)).count()
    }

    /// Closes the first of some, if one is not served.
    fn evict(&mut self, among: impl Fn(&Entry) -> bool) -> Option<State> {
        let candidates = self.open.iter().filter(|(_, entry)| among(entry));
        let waiting = candidates.filter_map(|(id, entry)| entry.order().map(|order| (order, *id)));
        let (_, id) = waiting.min()?;
        self.end(id)
    }

    fn end(&mut self, id: u64) -> Option<State> {
        let entry = self.open.remove(&id)?;
        if let Some(task) = entry.task {
            task.abort();
        }
        Some(entry.state)
    }
}

/// Room for one more, as far as it could be made.
struct Room {
    made: bool,
    /// Connections that were closed for it amid a head or a handshake.
    cut: usize,
}

impl Room {
    /// No cap is reached.
    const FREE: Room = Room { made: true, cut: 0 };

    /// Somebody closed, or nobody could.
    fn by(evicted: Option<State>) -> Room {
        Room { made: evicted.is_some(), cut: usize::from(matches!(evicted, Some(State::Arriving(_)))) }
    }

    /// This, and then the other.
    fn and(self, then: impl FnOnce() -> Room) -> Room {
        if !self.made {
            return self;
        }
        let then = then();
        Room { made: then.made, cut: self.cut + then.cut }
    }
}

impl Caps {
    pub(super) fn new(limits: &HttpLimits, rejected: Arc<OnRejected>) -> Self {
        let descriptors = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
        let share = usize::try_from(descriptors / REFUSALS_SHARE).unwrap_or(usize::MAX);
        Caps {
            max: limits.max_connections,
            max_per_address: limits.max_connections_per_address,
            reserved: RESERVED.min(limits.max_connections),
            max_refusals: REFUSALS.min(share),
            table: Mutex::default(),
            left: Notify::new(),
            rejected,
        }
    }

    /// A place for a new connection; at a cap one that is not served closes for it. Where all are served it is a place in
    /// reserve. `None`: these are served too.
    pub(super) fn admit(self: &Arc<Self>, peer: Peer) -> Option<Ticket> {
        let mut table = self.table.lock();
        let usual = self.make_room(&mut table, peer);
        let reserved = !usual.made;
        let room = if reserved { self.make_reserve(&mut table) } else { Room::FREE };
        let id = table.next;
        if room.made {
            table.next += 1;
            let state = State::Idle(Instant::now());
            table.open.insert(id, Entry { peer, task: None, state, reserved });
        }
        drop(table);
        self.count_cut(usual.cut + room.cut);
        room.made.then(|| Ticket { caps: Arc::clone(self), id })
    }

    /// Room among the usual places.
    fn make_room(&self, table: &mut Table, peer: Peer) -> Room {
        let its = |entry: &Entry| !entry.reserved && entry.peer == peer;
        let bounded = self.max_per_address > 0 && peer != Peer::Unix;
        let of_address = match bounded && table.count(its) >= self.max_per_address {
            true => Room::by(table.evict(its)),
            false => Room::FREE,
        };
        let usual = |entry: &Entry| !entry.reserved;
        of_address.and(|| match table.count(usual) >= self.max {
            true => Room::by(table.evict(usual)),
            false => Room::FREE,
        })
    }

    fn make_reserve(&self, table: &mut Table) -> Room {
        let reserved = |entry: &Entry| entry.reserved;
        match table.count(reserved) >= self.reserved {
            true => Room::by(table.evict(reserved)),
            false => Room::FREE,
        }
    }

    /// Connections that were closed amid a head or a handshake are refused ones; idle ones are not.
    fn count_cut(&self, cut: usize) {
        (0..cut).for_each(|_| (self.rejected)("connections"));
    }

    /// The task that serves the connection, so that it can be ended.
    pub(super) fn started(&self, id: u64, task: AbortHandle) {
        if let Some(entry) = self.table.lock().open.get_mut(&id) {
            entry.task = Some(task);
        }
    }

    /// Closes a connection that is not served, to free its descriptor.
    pub(super) fn evict(&self) {
        let evicted = self.table.lock().evict(|_| true);
        self.count_cut(Room::by(evicted).cut);
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
            while table.evict(|entry| matches!(entry.state, State::Idle(_))).is_some() {}
        }
        while !self.table.lock().open.is_empty() {
            let left = self.left.notified();
            if tokio::time::timeout_at(by.moment().into(), left).await.is_err() {
                break;
            }
        }
        let mut table = self.table.lock();
        let rest: Vec<u64> = table.open.keys().copied().collect();
        for id in &rest {
            let _ = table.end(*id);
        }
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

    /// From now on the connection waits for a request, or for the client to close.
    pub(super) fn idle(&self) {
        self.set(State::Idle(Instant::now()));
    }

    /// A head or a handshake has begun.
    pub(super) fn arriving(&self) {
        self.set(State::Arriving(Instant::now()));
    }

    /// A whole head has come.
    pub(super) fn served(&self) {
        self.set(State::Served);
    }

    /// It has a place in reserve, and may ask for little.
    pub(super) fn is_reserved(&self) -> bool {
        self.caps.table.lock().open.get(&self.id).is_some_and(|entry| entry.reserved)
    }

    /// Moves from the reserve to a usual place; false where there is none.
    pub(super) fn promote(&self) -> bool {
        let mut table = self.caps.table.lock();
        let Some(peer) = table.open.get(&self.id).map(|entry| entry.peer) else { return false };
        let room = self.caps.make_room(&mut table, peer);
        if let Some(entry) = table.open.get_mut(&self.id).filter(|_| room.made) {
            entry.reserved = false;
        }
        drop(table);
        self.caps.count_cut(room.cut);
        room.made
    }

    fn set(&self, state: State) {
        let mut table = self.caps.table.lock();
        if matches!(state, State::Idle(_)) && table.draining {
            table.end(self.id);
        } else if let Some(entry) = table.open.get_mut(&self.id) {
            entry.state = state;
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
