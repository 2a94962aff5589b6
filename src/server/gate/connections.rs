//! How many connections are open: counts them, closes an unserved one in favour of a new one, drains at the stop.
//!
//! Beside the usual slots there are a few reserved ones, for clients that arrive when every usual slot is taken by a
//! connection that is being served. They may request the paths of health checks only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use crate::config::exporter::HttpLimits;
use crate::deadline::Deadline;
use crate::server::{OnRejected, Peer};

/// Descriptors that a request takes at most: the public socket, the private one, tiny_http's two, a session.
const DESCRIPTORS_PER_REQUEST: u64 = 5;
/// Descriptors for everything else: listeners, runtime, log, files, idle sessions.
const OTHER_DESCRIPTORS: u64 = 64;
/// Slots beside `max_connections`, and never more than those.
pub(in crate::server) const RESERVED_SLOTS: usize = 8;
/// A head or a handshake that takes longer is the first to be closed.
const USUAL_ARRIVAL: Duration = Duration::from_secs(1);
/// 503 answers that are written at once; beyond, connections close without one.
const MAX_REFUSALS: usize = 64;
/// At most this fraction of the descriptors that the process may open is spent on them.
const REFUSALS_FRACTION: u64 = 8;

/// Raises the soft descriptor limit to the hard one and lowers `max_connections` to what it allows.
pub(in crate::server) fn within_descriptors(mut limits: HttpLimits) -> HttpLimits {
    let Ok(descriptors) = rlimit::increase_nofile_limit(u64::MAX) else { return limits };
    let most = (descriptors.saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_PER_REQUEST).max(1);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most < limits.max_connections {
        log::warn!(
            "exporter.http.max_connections is lowered from {} to {most}: the process may open {descriptors} files \
             (ulimit -n, LimitNOFILE), and a request needs {DESCRIPTORS_PER_REQUEST}",
            limits.max_connections
        );
        limits.max_connections = most;
    }
    limits
}

/// The connections that are open, and how many there may be.
pub(super) struct Connections {
    max: usize,
    max_per_address: usize,
    reserved: usize,
    /// The 503 answers that may be written at once.
    refusals: Arc<Semaphore>,
    table: Mutex<ConnectionTable>,
    closed: Notify,
    on_rejected: Arc<OnRejected>,
}

#[derive(Default)]
struct ConnectionTable {
    open: HashMap<u64, OpenConnection>,
    next_id: u64,
    draining: bool,
}

struct OpenConnection {
    peer: Peer,
    task: Option<AbortHandle>,
    state: ConnectionState,
    is_reserved: bool,
}

/// What a connection does, and since when. One that is served stays; the others may be closed for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    /// Nothing of its next request has arrived, or it has got its last answer.
    Idle(Instant),
    /// A part of a handshake or of a head has arrived.
    Arriving(Instant),
    /// A whole head has arrived; its answer is not sent.
    Served,
}

impl OpenConnection {
    /// The order in which connections are closed for others; `None` while it is served. Heads that take longer than
    /// usual are the first.
    fn eviction_order(&self) -> Option<(bool, Instant)> {
        match self.state {
            ConnectionState::Served => None,
            ConnectionState::Idle(since) => Some((true, since)),
            ConnectionState::Arriving(since) => Some((since.elapsed() < USUAL_ARRIVAL, since)),
        }
    }
}

impl ConnectionTable {
    /// Makes sure that fewer than `max` of the connections that `among` selects are open: closes one of them if it
    /// must. Returns how many requests that cut off; `None` where all of them are being served.
    fn make_room(&mut self, max: usize, among: impl Fn(&OpenConnection) -> bool) -> Option<usize> {
        if self.open.values().filter(|open| among(open)).count() < max { Some(0) } else { self.evict(among) }
    }

    /// Closes the first of some, if one of them is not being served; returns as [`Self::make_room`].
    fn evict(&mut self, among: impl Fn(&OpenConnection) -> bool) -> Option<usize> {
        let candidates = self.open.iter().filter(|(_, open)| among(open));
        let unserved = candidates.filter_map(|(id, open)| open.eviction_order().map(|order| (order, *id)));
        let (_, id) = unserved.min()?;
        self.close(id).map(|state| usize::from(matches!(state, ConnectionState::Arriving(_))))
    }

    fn close(&mut self, id: u64) -> Option<ConnectionState> {
        let closed = self.open.remove(&id)?;
        if let Some(task) = closed.task {
            task.abort();
        }
        Some(closed.state)
    }
}

impl Connections {
    pub(super) fn new(limits: &HttpLimits, on_rejected: Arc<OnRejected>) -> Self {
        let descriptors = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
        let fraction = usize::try_from(descriptors / REFUSALS_FRACTION).unwrap_or(usize::MAX);
        Connections {
            max: limits.max_connections,
            max_per_address: limits.max_connections_per_address,
            reserved: RESERVED_SLOTS.min(limits.max_connections),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS.min(fraction))),
            table: Mutex::default(),
            closed: Notify::new(),
            on_rejected,
        }
    }

    /// A slot for a new connection; at a limit an unserved one is closed for it. Where all are being served it is a
    /// reserved slot. `None`: those are all being served too.
    pub(super) fn admit(self: &Arc<Self>, peer: Peer) -> Option<ConnectionSlot> {
        let mut table = self.table.lock();
        let usual = self.make_usual_room(&mut table, peer);
        let is_reserved = usual.is_none();
        let cut = usual.or_else(|| table.make_room(self.reserved, |open| open.is_reserved))?;
        let id = table.next_id;
        table.next_id += 1;
        let state = ConnectionState::Idle(Instant::now());
        table.open.insert(id, OpenConnection { peer, task: None, state, is_reserved });
        drop(table);
        self.count_cut(cut);
        Some(ConnectionSlot { connections: Arc::clone(self), id })
    }

    /// Makes room among the usual slots, as [`ConnectionTable::make_room`].
    fn make_usual_room(&self, table: &mut ConnectionTable, peer: Peer) -> Option<usize> {
        let is_limited = self.max_per_address > 0 && peer != Peer::Unix;
        let max_of_peer = if is_limited { self.max_per_address } else { usize::MAX };
        let of_peer = table.make_room(max_of_peer, |open| !open.is_reserved && open.peer == peer)?;
        Some(of_peer + table.make_room(self.max, |open| !open.is_reserved)?)
    }

    /// Connections that were closed amid a head or a handshake count as rejected; idle ones do not.
    fn count_cut(&self, cut: usize) {
        (0..cut).for_each(|_| (self.on_rejected)("connections"));
    }

    /// Sets the task that serves a connection, so that it can be ended.
    pub(super) fn started(&self, id: u64, task: AbortHandle) {
        if let Some(open) = self.table.lock().open.get_mut(&id) {
            open.task = Some(task);
        }
    }

    /// Closes an unserved connection to free its descriptor.
    pub(super) fn evict(&self) {
        let cut = self.table.lock().evict(|_| true);
        self.count_cut(cut.unwrap_or(0));
    }

    /// The right to answer 503, held until the answer is written.
    pub(super) fn refusal(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refusals).try_acquire_owned().ok()
    }

    /// True once the stop has begun: connections close after the answer that is due.
    pub(super) fn draining(&self) -> bool {
        self.table.lock().draining
    }

    /// Closes idle connections now and waits for the others until `by`; returns how many it had to cut.
    pub(super) async fn drain(&self, by: Deadline) -> usize {
        {
            let mut table = self.table.lock();
            table.draining = true;
            while table.evict(|open| matches!(open.state, ConnectionState::Idle(_))).is_some() {}
        }
        while !self.table.lock().open.is_empty() {
            if tokio::time::timeout_at(by.moment().into(), self.closed.notified()).await.is_err() {
                break;
            }
        }
        let mut table = self.table.lock();
        let rest: Vec<u64> = table.open.keys().copied().collect();
        rest.into_iter().filter_map(|id| table.close(id)).count()
    }
}

/// One of the connections that may be open; free again when dropped.
pub(super) struct ConnectionSlot {
    connections: Arc<Connections>,
    id: u64,
}

impl ConnectionSlot {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// From now on the connection waits for a request, or for the client to close.
    pub(super) fn idle(&self) {
        self.set(ConnectionState::Idle(Instant::now()));
    }

    /// The first byte of a head or a handshake has arrived.
    pub(super) fn arriving(&self) {
        self.set(ConnectionState::Arriving(Instant::now()));
    }

    /// A whole head has arrived.
    pub(super) fn served(&self) {
        self.set(ConnectionState::Served);
    }

    pub(super) fn is_reserved(&self) -> bool {
        self.connections.table.lock().open.get(&self.id).is_some_and(|open| open.is_reserved)
    }

    /// Moves from a reserved slot to a usual one; false where there is none.
    pub(super) fn promote(&self) -> bool {
        let mut table = self.connections.table.lock();
        let Some(peer) = table.open.get(&self.id).map(|open| open.peer) else { return false };
        let room = self.connections.make_usual_room(&mut table, peer);
        if let Some(open) = table.open.get_mut(&self.id).filter(|_| room.is_some()) {
            open.is_reserved = false;
        }
        drop(table);
        self.connections.count_cut(room.unwrap_or(0));
        room.is_some()
    }

    fn set(&self, state: ConnectionState) {
        let mut table = self.connections.table.lock();
        if matches!(state, ConnectionState::Idle(_)) && table.draining {
            table.close(self.id);
        } else if let Some(open) = table.open.get_mut(&self.id) {
            open.state = state;
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.table.lock().open.remove(&self.id);
        self.connections.closed.notify_one();
    }
}
