//! The gate: owns the public sockets, lets bounded, well-formed requests through to `backend`, and copies the answers
//! back. One thread (a tokio runtime) serves all connections: an idle one costs a kilobyte, not a thread.
//!
//! `listen` opens the sockets, `systemd_sockets` takes those of systemd, `connections` bounds and drains connections, `tls`
//! shakes hands, `connection` reads one request after another, `auth` checks the login, `relay` passes the request on.

pub(super) mod auth;
mod connection;
mod connections;
pub mod head;
mod listen;
mod login_queue;
mod relay;
mod systemd_sockets;
mod tls;
pub(super) mod web_config;
mod web_config_keys;

pub(super) use self::connections::{RESERVED_SLOTS, within_descriptors};
pub(super) use self::listen::Listener;
pub(super) use self::systemd_sockets::warn_of_unused as warn_of_unused_sockets;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use self::auth::Authenticator;
use self::connection::{CLOSE_TIMEOUT, Connection, read_before_refusal, refuse};
use self::connections::{ConnectionSlot, Connections};
use self::head::Rejection;
use self::tls::Handshake;
use self::web_config::WebConfigStore;
use super::backend::Backend;
use super::backend::upstream::ByteStream;
use super::{OnRejected, Peer};
use crate::config::exporter::HttpLimits;
use crate::deadline::Deadline;
use crate::error::{Error, Result};

/// How long accepting pauses after an error; an error that lasts would make it spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// No descriptor left, in the process or on the machine; the same numbers on every Unix.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
/// Threads for work that must not block the gate's own: reading files, hashing passwords.
const BLOCKING_THREADS: usize = 4;
/// They stay: the machine may have none left when the next one is needed.
const KEEP_THREADS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

const TOO_MANY_CONNECTIONS: Rejection = Rejection::new(503, "connections", "too many connections");

/// What all connections share.
pub(super) struct GateState {
    limits: HttpLimits,
    connections: Arc<Connections>,
    /// TLS, users and headers.
    web_config: Arc<WebConfigStore>,
    authenticator: Authenticator,
    /// Paths that need no login.
    public_paths: Vec<String>,
    backend: Arc<Backend>,
    on_rejected: Arc<OnRejected>,
}

impl GateState {
    /// # Errors
    /// The system has no random bytes.
    pub(super) fn new(
        limits: HttpLimits,
        web_config: Arc<WebConfigStore>,
        public_paths: Vec<String>,
        backend: Arc<Backend>,
        on_rejected: Arc<OnRejected>,
    ) -> Result<Arc<Self>> {
        let connections = Arc::new(Connections::new(&limits, Arc::clone(&on_rejected)));
        let authenticator = Authenticator::new()?;
        Ok(Arc::new(GateState {
            limits,
            connections,
            web_config,
            authenticator,
            public_paths,
            backend,
            on_rejected,
        }))
    }

    /// Counts a rejection that is the client's fault.
    fn count(&self, rejection: &Rejection) {
        if let Some(reason) = rejection.reason {
            (self.on_rejected)(reason);
        }
    }
}

/// The open gate.
pub(super) struct Gate {
    addresses: Vec<String>,
    state: Arc<GateState>,
    runtime: Handle,
    accepting: Vec<tokio::task::AbortHandle>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Unix sockets to remove at the end.
    paths: Vec<std::path::PathBuf>,
}

/// Checks that the gate's thread responds.
pub struct LivenessCheck(Handle);

impl LivenessCheck {
    /// Whether the thread gets to a new task within this time. False once the gate has closed. Blocks.
    pub fn responds_within(&self, time: Duration) -> bool {
        let (alive, answer) = std::sync::mpsc::sync_channel(1);
        self.0.spawn(async move {
            let _ = alive.send(());
        });
        answer.recv_timeout(time).is_ok()
    }
}

impl Gate {
    /// Starts the gate's thread and accepts on `listeners`.
    ///
    /// # Errors
    /// The machine refuses the thread or the runtime's descriptors.
    pub(super) fn open(listeners: Vec<Listener>, state: Arc<GateState>) -> Result<Self> {
        let failed = |error: io::Error| Error::machine(format!("cannot start the gate: {error}"));
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_io().enable_time().max_blocking_threads(BLOCKING_THREADS);
        let runtime = runtime.thread_keep_alive(KEEP_THREADS).build().map_err(failed)?;
        // One blocking thread that is always there: tokio panics where it has none and the machine provides none.
        let first = catch_unwind(AssertUnwindSafe(|| drop(runtime.spawn_blocking(|| ()))));
        first.map_err(|_| Error::machine("cannot start the gate: the system cannot start a thread"))?;
        let addresses = listeners.iter().map(|listener| listener.shown().to_owned()).collect();
        let paths = listeners.iter().filter_map(Listener::path).map(ToOwned::to_owned).collect();
        let entered = runtime.enter();
        let accept = |listener: Listener| {
            Ok(runtime.spawn(accept(listener.accept()?, Arc::clone(&state))).abort_handle())
        };
        let accepting = listeners.into_iter().map(accept).collect::<io::Result<_>>().map_err(failed)?;
        drop(entered);
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let serve = move || {
            // Sent or dropped, either means the end.
            let _ = runtime.block_on(ended);
            // A disk that hangs does not delay the end.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("gate".to_owned()).spawn(serve).map_err(failed)?;
        let (end, thread) = (Some(end), Some(thread));
        Ok(Gate { addresses, state, runtime: handle, accepting, end, thread, paths })
    }

    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(super) fn liveness_check(&self) -> LivenessCheck {
        LivenessCheck(self.runtime.clone())
    }

    /// Accepts no more, closes idle connections, waits for the rest until `by`, and calls `interrupt` if that takes
    /// until `late`. Returns the number of connections that were cut.
    pub(super) fn stop(&mut self, by: Deadline, late: Deadline, interrupt: impl FnOnce()) -> usize {
        self.remove_paths();
        self.accepting.iter().for_each(tokio::task::AbortHandle::abort);
        let state = Arc::clone(&self.state);
        let (done, cut) = std::sync::mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = done.send(state.connections.drain(by).await);
        });
        let cut = match cut.recv_timeout(late.left()) {
            Err(RecvTimeoutError::Timeout) => {
                interrupt();
                cut.recv().unwrap_or(0)
            }
            ended => ended.unwrap_or(0),
        };
        self.close();
        cut
    }

    /// While nobody else can listen there: once the sockets have closed, the next process may have put its own in their place.
    fn remove_paths(&mut self) {
        for path in self.paths.drain(..) {
            let _ = std::fs::remove_file(path);
        }
    }

    fn close(&mut self) {
        self.remove_paths();
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.close();
    }
}

/// Accepts until the task is aborted.
async fn accept(acceptor: listen::Acceptor, state: Arc<GateState>) {
    loop {
        match acceptor.accept().await {
            Ok((stream, peer)) => {
                admit(stream, peer, &state);
                // A connection that was admitted reads what has arrived with it, and one that was evicted closes,
                // before the next one: otherwise a burst evicts requests that are there already, and holds the
                // descriptors of the evicted.
                tokio::task::yield_now().await;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                log::debug!("cannot accept a connection: {error}");
                if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) {
                    state.connections.evict();
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Admits a new connection, or answers 503.
fn admit(stream: Box<dyn ByteStream>, peer: Peer, state: &Arc<GateState>) {
    if let Some(slot) = state.connections.admit(peer) {
        let id = slot.id();
        let task = tokio::spawn(serve(stream, peer, slot, Arc::clone(state)));
        state.connections.started(id, task.abort_handle());
        return;
    }
    state.count(&TOO_MANY_CONNECTIONS);
    if let Some(permit) = state.connections.refusal() {
        tokio::spawn(turn_away(stream, permit, Arc::clone(state)));
    }
}

/// Answers 503 once the request is there, after the handshake where TLS is configured.
async fn turn_away(stream: Box<dyn ByteStream>, _permit: OwnedSemaphorePermit, state: Arc<GateState>) {
    let web = state.web_config.last_read();
    let mut stream = match web.tls.clone() {
        None => stream,
        Some(tls) => match tls::accept(stream, tls, CLOSE_TIMEOUT, || {}).await {
            Handshake::Done { stream, .. } => stream,
            Handshake::Gone | Handshake::Failed(_) | Handshake::PlainText(..) => return,
        },
    };
    let head_only = read_before_refusal(&mut stream, &state.limits).await;
    refuse(stream, &TOO_MANY_CONNECTIONS, head_only, &web.headers).await;
}

/// Serves a connection that was admitted, after the handshake where TLS is configured.
async fn serve(stream: Box<dyn ByteStream>, peer: Peer, slot: ConnectionSlot, state: Arc<GateState>) {
    let web = state.web_config.current().await;
    let Some(tls) = web.tls.clone() else {
        return Connection::new(stream, peer, false, slot, state).serve().await;
    };
    match tls::accept(stream, tls, state.limits.head_timeout, || slot.arriving()).await {
        Handshake::Done { stream, has_certificate } => {
            Connection::new(stream, peer, has_certificate, slot, state).serve().await;
        }
        Handshake::Gone => {}
        Handshake::Failed(rejection) => state.count(&rejection),
        Handshake::PlainText(stream, rejection) => {
            state.count(&rejection);
            slot.idle();
            refuse(stream, &rejection, false, &web.headers).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_thread_does_not_respond() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let check = LivenessCheck(runtime.handle().clone());
        let (wedge, wedged) = std::sync::mpsc::channel();
        let (free, freed) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            // As a task that never waits for anything: nothing else runs on the thread meanwhile.
            runtime.spawn(async move {
                wedge.send(()).unwrap();
                freed.recv().unwrap();
            });
            let _ = runtime.block_on(ended);
        });
        wedged.recv().unwrap();
        assert!(!check.responds_within(Duration::from_millis(50)));
        free.send(()).unwrap();
        assert!(check.responds_within(Duration::from_secs(30)));
        end.send(()).unwrap();
        thread.join().unwrap();
        assert!(!check.responds_within(Duration::from_secs(30)), "the gate has closed");
    }
}
