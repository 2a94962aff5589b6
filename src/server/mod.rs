//! The HTTP server: our own gate owns the public sockets, tiny_http answers behind it (`docs/architecture.md` says why).
//!
//! A request passes `gate` (limits, TLS, login), a private socket and `backend`, whose worker calls a [`Handler`]:
//! `endpoints`. `browser` refuses what the pages of other sites send, `negotiate` picks format and compression.

mod backend;
mod browser;
pub mod endpoints;
pub mod gate;
mod message;
pub mod negotiate;
mod response_budget;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::backend::upstream::private_folders;
use self::backend::{Backend, BackendOptions};
pub use self::gate::LivenessCheck;
use self::gate::web_config::WebConfigStore;
use self::gate::{Gate, GateState, Listener};
pub use self::message::{BodyPart, BodySize, Method, Peer, Request, Response, SharedBytes};
use self::message::{header_lines, reason_phrase};
use self::response_budget::ResponseBudget;
use crate::config::exporter::HttpLimits;
use crate::config::listen::ListenAddress;
use crate::deadline::Deadline;
use crate::error::{Error, Result};

/// Answers a request. Called on a worker of `backend`; may block until the scrape's deadline.
pub type Handler = dyn Fn(&Request) -> Response + Send + Sync;

/// A request whose response may be large.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LargeResponse {
    /// Its path: responses under one path are of like sizes.
    pub path: String,
    /// All that the response depends on: the next one to this request is about as large as the last one.
    pub request: String,
    /// Equal requests that come within this time share their rows.
    pub shared_for: Duration,
}

/// `None` for a request whose response is small.
pub type LargeResponseOf = dyn Fn(&Request) -> Option<LargeResponse> + Send + Sync;

/// Called with the label `reason` of each request or connection that is rejected.
pub type OnRejected = dyn Fn(&'static str) + Send + Sync;

/// A running server. Dropped without [`Server::stop`] it closes at once.
pub struct Server {
    gate: Gate,
    backend: Arc<Backend>,
}

/// What a server needs.
pub struct ServeOptions<'s> {
    /// The addresses it listens on; all at once.
    pub listen: &'s [ListenAddress],
    /// Its limits.
    pub limits: HttpLimits,
    /// TLS, users and response headers: a Prometheus web-config file, read again when it changes.
    pub web_config: Option<&'s Path>,
    /// Paths that need no login.
    pub public_paths: Vec<String>,
    /// Selects the requests whose responses may be large: memory is reserved for them before they are made.
    pub large_response: Arc<LargeResponseOf>,
    /// Answers requests.
    pub handler: Arc<Handler>,
    /// Called for each rejection.
    pub on_rejected: Arc<OnRejected>,
}

/// Listens and answers until stopped. Raises the process's soft descriptor limit to the hard one and lowers
/// `limits.max_connections` to what it allows.
///
/// # Errors
/// [`crate::error::ErrorKind::Machine`] with a hint: the port is in use or privileged, the address is not this machine's,
/// threads or descriptors are used up. Or all faults of the web-config file.
pub fn serve(options: ServeOptions<'_>) -> Result<Server, Vec<Error>> {
    let ServeOptions { listen, limits, public_paths, large_response, handler, on_rejected, .. } = options;
    let store = WebConfigStore::open(options.web_config)?;
    let web_config = store.last_read();
    if let Some(path) = options.web_config.filter(|_| web_config.is_open()) {
        log::warn!("{}: the file has neither TLS nor users: everybody has access", path.display());
    }
    if !listen.contains(&ListenAddress::Systemd) {
        gate::warn_of_unused_sockets();
    }
    let limits = gate::within_descriptors(limits);
    let scheme = if web_config.tls.is_some() { "https" } else { "http" };
    let start = || {
        let open = |listen| Listener::open(listen, scheme);
        let listeners = listen.iter().map(open).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let backend_options = BackendOptions {
            handler,
            max_workers: limits.max_connections + gate::RESERVED_SLOTS,
            budget: ResponseBudget::new(limits.max_inflight_bytes),
            large_response,
            on_rejected: Arc::clone(&on_rejected),
        };
        let backend = Backend::start(backend_options, private_folders())?;
        let state = GateState::new(limits, store, public_paths, Arc::clone(&backend), on_rejected)?;
        let gate = Gate::open(listeners, state)?;
        Ok(Server { gate, backend })
    };
    start().map_err(|error| vec![error])
}

/// Reads a web-config file and the certificates it names, to find their faults.
///
/// # Errors
/// All of them.
pub fn check_web_config(path: &Path) -> Result<(), Vec<Error>> {
    WebConfigStore::open(Some(path)).map(drop)
}

/// Whether a server with this web-config file uses TLS; false where the file cannot be read.
pub fn enables_tls(path: &Path) -> bool {
    WebConfigStore::open(Some(path)).is_ok_and(|store| store.last_read().tls.is_some())
}

impl Server {
    /// The addresses as users write them, in the order of `listen`: `http://127.0.0.1:9399`, `unix:/run/x.sock`.
    /// Port 0 is shown as the port that the system chose.
    pub fn addresses(&self) -> &[String] {
        self.gate.addresses()
    }

    /// Checks that the thread that serves all connections responds; usable also once the server has stopped.
    pub fn liveness_check(&self) -> LivenessCheck {
        self.gate.liveness_check()
    }

    /// Stops accepting, closes idle connections and lets requests in flight finish until `by`; blocks until then.
    /// Returns the number of connections that were cut. `interrupt` is called at `late` if not all have finished by then.
    /// Starts no thread.
    pub fn stop(mut self, by: Deadline, late: Deadline, interrupt: impl FnOnce()) -> usize {
        self.gate.stop(by, late, interrupt)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.backend.stop();
    }
}
