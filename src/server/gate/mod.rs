//! The gate: owns the public sockets, lets bounded, well-formed requests through to `backend`, and copies the answers
//! out. One thread (a tokio runtime of one thread) for all connections: an idle one costs a kilobyte, not a thread.
//!
//! `listen` opens the sockets · `caps` counts connections, evicts, keeps a reserve and drains · `connection` reads one request after
//! another · `relay` passes each on · `refusal` says no. TLS is spoken before the first head ([`enter`]); who needs a
//! login is asked between head and relay (`connection`).

pub(crate) mod auth;
mod connection;
mod connections;
pub mod head;
mod listen;
pub(crate) mod login_queue;
mod refusal;
mod relay;
pub(crate) mod tls;
pub(crate) mod web_config;
pub(crate) mod web_config_store;

pub(super) use self::connections::{RESERVED, within_descriptors};
pub(super) use self::listen::Listener;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use self::auth::Guard;
use self::connection::Connection;
use self::connections::{Caps, Refusal, Ticket};
use self::head::Fault;
use self::tls::Handshake;
use self::web_config_store::Door;
use super::backend::Backend;
use super::backend::socket::Wire;
use super::{Peer, Rejected};
use crate::config::http::Limits;
use crate::deadline::Deadline;
use crate::error::{Error, Result};

/// How long accepting pauses after an error; one that lasts would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// No descriptor left, in the process or on the machine; the same numbers on every Unix.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
/// Threads for what must not stop the gate's own.
const SLOW_WORK: usize = 4;
/// They stay: the machine may have none left when the next one is needed.
const FOR_GOOD: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const FULL: Fault = Fault::new(503, "connections", "too many connections");

/// What the gate holds requests against.
pub(super) struct Guards {
    pub(super) limits: Limits,
    /// TLS and users.
    pub(super) door: Arc<Door>,
    /// Paths that need no login.
    pub(super) open: Vec<String>,
    /// Told of each refusal.
    pub(super) rejected: Arc<Rejected>,
}

/// What all connections share.
struct Shared {
    limits: Limits,
    caps: Arc<Caps>,
    door: Arc<Door>,
    guard: Guard,
    open: Vec<String>,
    backend: Arc<Backend>,
    rejected: Arc<Rejected>,
}

impl Shared {
    /// Whether a path is one for probes, who have no login.
    fn is_open(&self, path: &str) -> bool {
        self.open.iter().any(|open| open == path)
    }

    /// Counts a refusal.
    fn reject(&self, fault: &Fault) {
        if let Some(reason) = fault.reason {
            (self.rejected)(reason);
        }
    }
}

/// The open gate.
pub(super) struct Gate {
    addresses: Vec<String>,
    caps: Arc<Caps>,
    runtime: Handle,
    accepting: Vec<tokio::task::AbortHandle>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    paths: Vec<std::path::PathBuf>,
}

impl Gate {
    /// Starts the gate's thread and accepts on `listeners`.
    ///
    /// # Errors
    /// The machine refuses the thread or the runtime's descriptors.
    pub(super) fn open(listeners: Vec<Listener>, guards: Guards, backend: Arc<Backend>) -> Result<Self> {
        let refuse = |error: io::Error| Error::machine(format!("cannot start the gate: {error}"));
        // Beside its one thread it has those for slow work: a look at files, a password's hash.
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_io().enable_time().max_blocking_threads(SLOW_WORK);
        let runtime = runtime.thread_keep_alive(FOR_GOOD).build().map_err(refuse)?;
        // One that is always there: tokio panics where it has none and the machine gives none.
        let first = catch_unwind(AssertUnwindSafe(|| drop(runtime.spawn_blocking(|| ()))));
        first.map_err(|_| Error::machine("cannot start the gate: the system cannot start a thread"))?;
        let Guards { limits, door, open, rejected } = guards;
        let caps = Arc::new(Caps::new(&limits, Arc::clone(&rejected)));
        let guard = Guard::new()?;
        let shared = Shared { limits, caps: Arc::clone(&caps), door, guard, open, backend, rejected };
        let shared = Arc::new(shared);
        let addresses = listeners.iter().map(|listener| listener.shown.clone()).collect();
        let paths = listeners.iter().filter_map(|listener| listener.path.clone()).collect();
        let mut accepting = Vec::new();
        let entered = runtime.enter();
        for listener in listeners {
            let door = listener.door.open().map_err(refuse)?;
            accepting.push(runtime.spawn(accept(door, Arc::clone(&shared))).abort_handle());
        }
        drop(entered);
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("gate".to_owned());
        let thread = thread
            .spawn(move || {
                // Either word, sent or dropped, means the end.
                let _ = runtime.block_on(ended);
                // A disk that hangs does not hold up the end.
                runtime.shutdown_background();
            })
            .map_err(refuse)?;
        Ok(Gate { addresses, caps, runtime: handle, accepting, end: Some(end), thread: Some(thread), paths })
    }

    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Accepts no more, closes what is idle, waits for the rest until `by`, and calls `hurry` where that takes until
    /// `late`. Gives the number of those cut.
    pub(super) fn stop(&mut self, by: Deadline, late: Deadline, hurry: impl FnOnce()) -> usize {
        self.accepting.iter().for_each(tokio::task::AbortHandle::abort);
        let caps = Arc::clone(&self.caps);
        let (done, cut) = std::sync::mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = done.send(caps.drain(by).await);
        });
        let cut = match cut.recv_timeout(late.left()) {
            Err(RecvTimeoutError::Timeout) => {
                hurry();
                cut.recv().unwrap_or(0)
            }
            ended => ended.unwrap_or(0),
        };
        self.close();
        cut
    }

    fn close(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for path in self.paths.drain(..) {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
    }
}

/// Accepts for ever: only the stop ends it.
async fn accept(door: listen::Open, shared: Arc<Shared>) {
    loop {
        match door.accept().await {
            Ok((stream, peer)) => {
                welcome(stream, peer, &shared);
                // Who was let in reads what has come with the connection, and who was evicted closes, before the next
                // one: else a burst evicts requests that are there already, and holds descriptors of the evicted.
                tokio::task::yield_now().await;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                log::debug!("cannot accept a connection: {error}");
                if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) {
                    shared.caps.evict();
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Admits a new connection, or says 503.
fn welcome(stream: Box<dyn Wire>, peer: Peer, shared: &Arc<Shared>) {
    if let Some(ticket) = shared.caps.admit(peer) {
        let id = ticket.id();
        let task = tokio::spawn(enter(stream, peer, ticket, Arc::clone(shared)));
        shared.caps.started(id, task.abort_handle());
        return;
    }
    shared.reject(&FULL);
    if let Some(place) = shared.caps.refusal() {
        tokio::spawn(turn_away(stream, place, Arc::clone(shared)));
    }
}

/// Says 503, where TLS is spoken by TLS.
async fn turn_away(stream: Box<dyn Wire>, _place: Refusal, shared: Arc<Shared>) {
    let web = shared.door.known();
    let stream = match web.tls.clone() {
        None => stream,
        Some(tls) => match tls::accept(stream, tls, refusal::PATIENCE, || {}).await {
            Handshake::Done { stream, .. } => stream,
            Handshake::Gone | Handshake::Failed(_) | Handshake::Plain(..) => return,
        },
    };
    refusal::refuse(stream, &FULL, false, &web.headers).await;
}

/// Serves a connection that was admitted; where TLS is spoken, after the handshake.
async fn enter(stream: Box<dyn Wire>, peer: Peer, ticket: Ticket, shared: Arc<Shared>) {
    let web = shared.door.now().await;
    let Some(tls) = web.tls.clone() else {
        return Connection::new(stream, peer, false, ticket, shared).serve().await;
    };
    match tls::accept(stream, tls, shared.limits.head_timeout, || ticket.arriving()).await {
        Handshake::Done { stream, known } => {
            Connection::new(stream, peer, known, ticket, shared).serve().await;
        }
        Handshake::Gone => {}
        Handshake::Failed(fault) => shared.reject(&fault),
        Handshake::Plain(stream, fault) => {
            shared.reject(&fault);
            ticket.idle();
            refusal::refuse(stream, &fault, false, &web.headers).await;
        }
    }
}
