//! The front door: our own gate owns the public sockets, tiny_http answers behind it (docs/architecture.md says why).
//!
//! Knows no metric, no plan: an [`Handler`] function gets our [`Request`] and gives our [`Response`]. A request's way:
//! `gate/listen` accepts, `gate/caps` admits, `door` knows who comes, `head` checks, `gate/relay` passes it on over one
//! of the `trunks` through the private `socket`, `backend` answers, `gate/relay` copies the answer out.

mod backend;
pub(crate) mod browser;
pub(crate) mod compress;
pub mod endpoints;
pub mod gate;
pub mod negotiate;
mod response_budget;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::exporter::HttpLimits;
use crate::config::listen::ListenAddress;
use crate::deadline::Deadline;
use crate::error::{Error, Result};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Over TCP.
    Address(IpAddr),
    /// Over a Unix socket: this machine.
    Unix,
}

impl Peer {
    /// True for this machine.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        match self {
            Peer::Address(address) => address.to_canonical().is_loopback(),
            Peer::Unix => true,
        }
    }
}

/// A request as the endpoints see it: small, checked, decoded.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD` or `POST`.
    pub method: Method,
    /// The path without the query, as sent.
    pub path: String,
    /// The query's pairs in order, percent-decoded.
    pub query: Vec<(String, String)>,
    /// Header names in lower case, values trimmed, in order.
    pub headers: Vec<(String, String)>,
    /// Who asks.
    pub peer: Peer,
    /// True for who has logged in or has shown a certificate.
    pub authenticated: bool,
    /// True over TLS.
    pub over_tls: bool,
    /// When the head's last byte had arrived: deadlines count from here.
    pub received: Instant,
}

impl Request {
    /// True for who may see what databases say: this machine, and who is known.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.authenticated || self.peer.is_loopback()
    }

    /// The header's values, in order.
    pub fn header<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The methods that pass the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: an answer without a body.
    Head,
    /// POST, without a body.
    Post,
}

impl Method {
    /// As in a request line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
        }
    }
}

/// A piece of a body. Shared pieces are written without being copied together.
#[derive(Clone)]
pub enum BodyPart {
    /// Ours alone.
    Owned(Vec<u8>),
    /// Someone else's too: the blocks of a scrape.
    Shared(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

impl BodyPart {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            BodyPart::Owned(bytes) => bytes,
            BodyPart::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

/// An answer. The length is the sum of the parts and is always sent.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header names and values without line ends; `Content-Length` and `Date` are added by `backend`, `Connection`
    /// by the gate.
    pub headers: Vec<(&'static str, String)>,
    /// The body. For HEAD it is not sent; its length is, unless it is empty: then the length is not known.
    pub body: Vec<BodyPart>,
    /// What was held beside the body while it was made: the page before its compression.
    pub uncompressed: BodySize,
}

/// BodySize of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BodySize {
    /// Its own.
    pub own: usize,
    /// Those that other answers may hold too.
    pub shared: usize,
}

impl BodySize {
    /// All of them.
    #[must_use]
    pub fn sum(self) -> usize {
        self.own.saturating_add(self.shared)
    }
}

impl Response {
    /// An answer that is made of nothing larger than itself.
    #[must_use]
    pub fn new(status: u16, headers: Vec<(&'static str, String)>, body: Vec<BodyPart>) -> Self {
        Response { status, headers, body, uncompressed: BodySize::default() }
    }

    /// A short plain text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        let headers = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
        Response::new(status, headers, vec![BodyPart::Owned(text.into().into_bytes())])
    }
}

/// What every answer bears for the browser that shows it: it may load, send and frame nothing, guess no type, tell nobody
/// where it came from, keep nothing, and show nothing of it on a page of another site. An answer's own header of the same name counts instead.
const PROTECTION: &[(&str, &str)] = &[
    (
        "Content-Security-Policy",
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

/// Those of [`PROTECTION`] that are not among an answer's `own` headers.
fn protection<'o>(
    own: impl Iterator<Item = &'o str> + Clone,
) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    PROTECTION.iter().filter(move |(name, _)| !own.clone().any(|known| known.eq_ignore_ascii_case(name)))
}

/// What answers a request. Called on a worker of `backend`; may block until the scrape's deadline.
pub type Handler = dyn Fn(&Request) -> Response + Send + Sync;

/// A request whose answer may be large.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LargeResponse {
    /// Its path: answers under one path are of like sizes.
    pub path: String,
    /// All that the answer depends on: that to the same target takes what the last one took.
    pub target: String,
    /// Requests for the same target, with the same time for it, that come within this share their rows.
    pub together: Duration,
}

/// `None` for a request whose answer is small.
pub type LargeResponseOf = dyn Fn(&Request) -> Option<LargeResponse> + Send + Sync;

/// Called with the label `reason` of each request or connection that is refused (docs/configuration.md).
pub type OnRejected = dyn Fn(&'static str) + Send + Sync;

/// A front door that is open. Dropped without [`Server::stop`] it closes at once.
pub struct Server {
    gate: gate::Gate,
    backend: Arc<backend::Backend>,
}

/// What a front door is opened with.
pub struct ServeOptions<'s> {
    /// Where it listens; all at once.
    pub listen: &'s [ListenAddress],
    /// Its limits.
    pub limits: HttpLimits,
    /// TLS, users and answer headers: a Prometheus web-config file, read again when it changes.
    pub web_config: Option<&'s std::path::Path>,
    /// Paths that need no login.
    pub public_paths: Vec<String>,
    /// Tells the requests whose answers may be large: memory is reserved for them before they are made.
    pub large_response: Arc<LargeResponseOf>,
    /// Answers requests.
    pub handler: Arc<Handler>,
    /// Told of each refusal.
    pub on_rejected: Arc<OnRejected>,
}

/// Listens and answers until stopped. Raises the process's soft descriptor limit to the hard one and lowers
/// `limits.max_connections` to what it allows.
///
/// # Errors
/// [`crate::error::ErrorKind::Machine`] with a hint: the port is in use or privileged, the address is not this machine's,
/// threads or descriptors are used up. Or all faults of the web-config file.
pub fn serve(options: ServeOptions<'_>) -> Result<Server, Vec<Error>> {
    let door = gate::web_config_store::Door::open(options.web_config)?;
    if let Some(path) = options.web_config.filter(|_| door.known().is_open()) {
        log::warn!("{}: neither TLS nor a user is in the file: everybody may ask", path.display());
    }
    let limits = gate::within_descriptors(options.limits);
    let scheme = if door.known().tls.is_some() { "https" } else { "http" };
    let one = |error| vec![error];
    let bind = |listen| gate::Listener::bind(listen, scheme);
    let listeners = options.listen.iter().map(bind).collect::<Result<Vec<_>>>().map_err(one)?;
    let work = backend::Work {
        answer: options.handler,
        max_workers: limits.max_connections + gate::RESERVED,
        memory: response_budget::ResponseBudget::new(limits.max_inflight_bytes),
        large: options.large_response,
        rejected: Arc::clone(&options.on_rejected),
    };
    let backend = backend::Backend::start(work, backend::socket::folders()).map_err(one)?;
    let guards = gate::Guards { limits, door, open: options.public_paths, rejected: options.on_rejected };
    let gate = gate::Gate::open(listeners, guards, Arc::clone(&backend)).map_err(one)?;
    Ok(Server { gate, backend })
}

/// Reads a web-config file and the certificates it names, for nothing but its faults.
///
/// # Errors
/// All of them.
pub fn check_web_config(path: &std::path::Path) -> Result<(), Vec<Error>> {
    gate::web_config_store::Door::open(Some(path)).map(drop)
}

/// Whether a front door with this web-config file speaks TLS; false where the file cannot be read.
#[must_use]
pub fn enables_tls(path: &std::path::Path) -> bool {
    gate::web_config_store::Door::open(Some(path)).is_ok_and(|door| door.known().tls.is_some())
}

impl Server {
    /// The addresses as users write them, in the order of `listen`: `http://127.0.0.1:9399`, `unix:/run/x.sock`.
    /// A port 0 is shown as the port that was given.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        self.gate.addresses()
    }

    /// Stops accepting, closes idle connections and lets requests in flight finish until `by`; blocks until then.
    /// Gives the number of connections that were cut.
    pub fn stop(self, by: Deadline) -> usize {
        self.stop_with(by, by, || ())
    }

    /// The same; `hurry` is called at `late` if not all have finished by then. Starts no thread.
    pub fn stop_with(mut self, by: Deadline, late: Deadline, hurry: impl FnOnce()) -> usize {
        self.gate.stop(by, late, hurry)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.backend.stop();
    }
}

/// The reason phrase of the statuses that are in use here.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not AllowedStatements",
        408 => "Request Timeout",
        413 => "Content Too LargeResponse",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too LargeResponse",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}
