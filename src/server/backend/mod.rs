//! tiny_http behind the gate: workers on demand, and a new server when one has died.
//!
//! tiny_http's accept thread ends for good at the first "too many open files" (`docs/architecture.md`). Whoever finds a
//! [`HttpServer`] dead asks for the next one by [`Backend::revive`]; the workers of a dead one drain its queue and end.
//! Knows the private socket, not the public ones.

pub(super) mod private_header;
pub(super) mod upstream;

use std::io::{self, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::private_header::{GateToken, is_private};
use self::upstream::{Upstream, UpstreamConnection};
use super::response_budget::ResponseBudget;
use super::{Handler, LargeResponseOf, Method, OnRejected, Request, Response};
use crate::error::{Error, Result};

/// A worker that is not needed ends after this time; the last one stays.
const IDLE_WORKER: Duration = Duration::from_secs(30);
/// The queue of a dead server is drained until nothing has come for this long.
const DRAIN: Duration = Duration::from_secs(1);
/// A server that dies sooner than this after its start is not replaced at once.
const MIN_LIFETIME: Duration = Duration::from_millis(100);
/// Small parts are written together, in writes of this size; larger parts are written as they are.
const WRITE_BUFFER: usize = 64 << 10;

/// What the workers do, and within which limits.
pub(super) struct BackendOptions {
    pub(super) handler: Arc<Handler>,
    pub(super) max_workers: usize,
    /// For all responses together.
    pub(super) budget: ResponseBudget,
    pub(super) large_response: Arc<LargeResponseOf>,
    pub(super) on_rejected: Arc<OnRejected>,
}

/// Answers what the gate passes on.
pub(super) struct Backend {
    token: GateToken,
    options: BackendOptions,
    /// Where the private socket may be made.
    folders: Vec<PathBuf>,
    stopping: AtomicBool,
    current: Mutex<Option<Arc<HttpServer>>>,
}

/// One tiny_http server and its workers.
pub(super) struct HttpServer {
    // Dropped in this order: dropping the upstream address wakes the server up.
    server: tiny_http::Server,
    upstream: Upstream,
    started: Instant,
    /// Workers that take the next request, those that are just starting included: a slow start is not a reason for
    /// another one.
    free: AtomicUsize,
    workers: AtomicUsize,
    spare: Mutex<SpareWorkers>,
    dead: AtomicBool,
}

/// How many workers are free all the time: a burst needed them. With regular requests none of them is ever idle for long,
/// as the queue wakes them in turn.
struct SpareWorkers {
    since: Instant,
    /// The fewest that were free since then.
    fewest: usize,
    /// So many may end.
    count: usize,
}

impl SpareWorkers {
    fn new() -> Self {
        SpareWorkers { since: Instant::now(), fewest: usize::MAX, count: 0 }
    }

    /// Notes how many workers are free beside one that takes a request. True where that one may end afterwards.
    fn take_one(&mut self, free: usize) -> bool {
        self.fewest = self.fewest.min(free);
        if self.since.elapsed() >= IDLE_WORKER {
            // One stays free for the next request.
            *self = SpareWorkers { count: self.fewest.saturating_sub(1), ..SpareWorkers::new() };
        }
        let is_spare = self.count > 0;
        self.count -= usize::from(is_spare);
        is_spare
    }
}

impl HttpServer {
    fn start(folders: &[PathBuf]) -> Result<Arc<Self>> {
        upstream::probe_thread()
            .map_err(|error| Error::machine(format!("cannot start the HTTP server's threads: {error}")))?;
        let (listener, addr) = upstream::listen(folders)?;
        // tiny_http starts threads with `thread::spawn`, which panics where the machine has none left.
        let server = match catch_unwind(|| tiny_http::Server::from_listener(listener, None)) {
            Ok(Ok(server)) => server,
            Ok(Err(error)) => return Err(Error::machine(format!("cannot start the HTTP server: {error}"))),
            Err(_) => return Err(Error::machine("cannot start the HTTP server's threads")),
        };
        Ok(Arc::new(HttpServer {
            server,
            upstream: Upstream::new(addr),
            started: Instant::now(),
            free: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            spare: Mutex::new(SpareWorkers::new()),
            dead: AtomicBool::new(false),
        }))
    }

    /// A connection for a request; a new one for a request that is `repeated`.
    ///
    /// # Errors
    /// As [`Upstream::connect`].
    pub(super) async fn connect(&self, repeated: bool) -> io::Result<UpstreamConnection> {
        if repeated { self.upstream.connect_once().await } else { self.upstream.connect().await }
    }

    /// As [`Upstream::give_back`].
    pub(super) fn give_back(&self, connection: UpstreamConnection) {
        self.upstream.give_back(connection);
    }

    fn end(&self) {
        self.dead.store(true, Ordering::Relaxed);
        for _ in 0..self.workers.load(Ordering::Relaxed) {
            self.server.unblock();
        }
    }
}

impl Backend {
    /// Starts tiny_http, on a private socket in one of `folders` if that is possible, and the first worker.
    ///
    /// # Errors
    /// No private socket, no threads, no random bytes.
    pub(super) fn start(options: BackendOptions, folders: Vec<PathBuf>) -> Result<Arc<Self>> {
        let backend = Arc::new(Backend {
            token: GateToken::new()?,
            options,
            folders,
            stopping: AtomicBool::new(false),
            current: Mutex::new(None),
        });
        let first = HttpServer::start(&backend.folders)?;
        backend.add_worker(&first)?;
        *backend.current.lock() = Some(first);
        Ok(backend)
    }

    /// By what the backend knows requests of its own gate.
    pub(super) fn token(&self) -> &GateToken {
        &self.token
    }

    /// The server that takes requests now; `None` after the stop.
    pub(super) fn current(&self) -> Option<Arc<HttpServer>> {
        self.current.lock().clone()
    }

    /// Returns the successor of `dead`, which did not answer; starts it if nobody has done so.
    ///
    /// # Errors
    /// The machine has no socket or thread left, or `dead` started a moment ago.
    pub(super) fn revive(self: &Arc<Self>, dead: &Arc<HttpServer>) -> Result<Arc<HttpServer>> {
        let mut current = self.current.lock();
        match &*current {
            Some(newer) if !Arc::ptr_eq(newer, dead) => return Ok(Arc::clone(newer)),
            Some(_) if dead.started.elapsed() >= MIN_LIFETIME => {}
            _ => return Err(Error::machine("the HTTP server is down")),
        }
        let next = HttpServer::start(&self.folders)?;
        self.add_worker(&next)?;
        *current = Some(Arc::clone(&next));
        drop(current);
        log::warn!("the HTTP server behind the gate had died and was restarted");
        dead.end();
        Ok(next)
    }

    /// Takes no more requests; handlers that still run end by themselves, or with the process.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(last) = self.current.lock().take() {
            last.end();
        }
    }

    fn add_worker(self: &Arc<Self>, server: &Arc<HttpServer>) -> Result<()> {
        let (backend, its) = (Arc::clone(self), Arc::clone(server));
        server.workers.fetch_add(1, Ordering::Relaxed);
        server.free.fetch_add(1, Ordering::Relaxed);
        let started = thread::Builder::new().name("answer".to_owned()).spawn(move || {
            backend.work(&its);
            its.workers.fetch_sub(1, Ordering::Relaxed);
        });
        started.map(drop).map_err(|error| {
            server.workers.fetch_sub(1, Ordering::Relaxed);
            server.free.fetch_sub(1, Ordering::Relaxed);
            Error::machine(format!("cannot start a thread: {error}"))
        })
    }

    /// One worker's life: takes requests until it is not needed. It starts free.
    fn work(self: &Arc<Self>, server: &Arc<HttpServer>) {
        loop {
            let dead = server.dead.load(Ordering::Relaxed);
            let received = match server.server.recv_timeout(if dead { DRAIN } else { IDLE_WORKER }) {
                // tiny_http also says so to a worker that was woken for a request near the end of its time: nobody else
                // is woken for that one. At the end each worker has one message of its own.
                Ok(None) if !server.dead.load(Ordering::Relaxed) => server.server.try_recv(),
                received => received,
            };
            let others = server.free.fetch_sub(1, Ordering::Relaxed) - 1;
            match received {
                Ok(Some(request)) => {
                    if others == 0 && server.workers.load(Ordering::Relaxed) < self.options.max_workers {
                        // Without a thread the requests wait for this worker.
                        let _ = self.add_worker(server);
                    }
                    let is_spare = server.spare.lock().take_one(others);
                    // A panic in a handler is caught nearer; this keeps the worker whatever tiny_http does.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.serve(request)));
                    if is_spare {
                        return;
                    }
                }
                Ok(None) if dead || others > 0 || self.stopping.load(Ordering::Relaxed) => return,
                Ok(None) => {}
                Err(error) => {
                    log::debug!("the HTTP server behind the gate ended: {error}");
                    server.dead.store(true, Ordering::Relaxed);
                    // If this fails, the next request at the gate tries again.
                    let _ = self.revive(server);
                }
            }
            server.free.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn serve(&self, request: tiny_http::Request) {
        let Some(ours) = self.read(&request) else {
            let _ = request.respond(tiny_http::Response::empty(403));
            return;
        };
        let is_head = ours.method == Method::Head;
        let large = (self.options.large_response)(&ours);
        let reservation = self.options.budget.reserve(large.clone());
        let Some(mut reservation) = reservation else {
            let _ = write(request.into_writer(), &self.out_of_budget(), is_head);
            return;
        };
        let mut response = catch_unwind(AssertUnwindSafe(|| (self.options.handler)(&ours)))
            .unwrap_or_else(|_| Response::text(500, "an internal error; see the log\n"));
        if let Some(large) = large.filter(|_| response.status == 200) {
            self.options.budget.learn(&large, &response);
        }
        if !reservation.settle(&response) {
            response = self.out_of_budget();
        }
        // The client may have left: that is not an error.
        let _ = write(request.into_writer(), &response, is_head);
        // Not before the response: the budget counts what is in memory.
        drop(response);
        drop(reservation);
    }

    /// 503, counted.
    fn out_of_budget(&self) -> Response {
        (self.options.on_rejected)("memory");
        let mut response = Response::text(
            503,
            "the answers that clients have not read yet use up exporter.http.max_inflight_bytes; try again\n",
        );
        response.headers.push(("Retry-After", "1".to_owned()));
        response
    }

    /// Our request from tiny_http's; `None` when it did not come through the gate.
    fn read(&self, request: &tiny_http::Request) -> Option<Request> {
        let headers = || {
            let all = request.headers().iter();
            all.map(|header| (header.field.as_str().as_str(), header.value.as_str()))
        };
        let (_, private) = headers().find(|(name, _)| is_private(name))?;
        let facts = self.token.read(private)?;
        let method = match request.method() {
            tiny_http::Method::Get => Method::Get,
            tiny_http::Method::Head => Method::Head,
            tiny_http::Method::Post => Method::Post,
            _ => Method::Other,
        };
        let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
        // `Connection` is from the gate to tiny_http.
        let of_client =
            headers().filter(|(name, _)| !is_private(name) && !name.eq_ignore_ascii_case("connection"));
        Some(Request {
            method,
            path: path.to_owned(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            headers: of_client.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
            peer: facts.peer,
            authenticated: facts.authenticated,
            over_tls: facts.over_tls,
            received: facts.received,
        })
    }
}

/// Writes head and body in as few writes as the parts allow.
fn write(to: Box<dyn Write + Send>, response: &Response, head_only: bool) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(WRITE_BUFFER, to);
    write!(
        out,
        "HTTP/1.1 {} {}\r\n{}",
        response.status,
        super::reason_phrase(response.status),
        super::header_lines(&response.headers)
    )?;
    let length = response.length();
    if !(head_only && length == 0) {
        write!(out, "Content-Length: {length}\r\n")?;
    }
    out.write_all(b"\r\n")?;
    if !head_only {
        for part in &response.body {
            out.write_all(part.bytes())?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;
    use std::sync::Barrier;

    use tokio::io::AsyncWriteExt as _;
    use tokio::time::timeout;

    use super::private_header::RequestFacts;
    use super::upstream::UpstreamAddr;
    use super::*;
    use crate::server::Peer;

    fn start(handler: Arc<Handler>, max_workers: usize, folders: Vec<PathBuf>) -> Arc<Backend> {
        let (budget, large_response) = (ResponseBudget::new(1 << 20), Arc::new(|_: &Request| None));
        let on_rejected: Arc<OnRejected> = Arc::new(|_| {});
        let options = BackendOptions { handler, max_workers, budget, large_response, on_rejected };
        Backend::start(options, folders).unwrap()
    }

    #[test]
    fn on_a_loopback_port_only_requests_with_our_token_are_answered() {
        let answer = |request: &Request| Response::text(200, format!("{:?}", request.peer));
        let backend = start(Arc::new(answer), 2, Vec::new());
        let server = backend.current().unwrap();
        let UpstreamAddr::Tcp(address) = *server.upstream.addr() else { panic!("not a port") };
        let ask = |private: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n").unwrap();
            stream.write_all(private.as_bytes()).unwrap();
            stream.write_all(b"\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let facts = RequestFacts {
            peer: Peer::Address([192, 0, 2, 7].into()),
            received: Instant::now(),
            authenticated: false,
            over_tls: false,
        };
        let (ours, theirs) =
            (backend.token.header_line(&facts), GateToken::new().unwrap().header_line(&facts));
        assert!(ask(&ours).ends_with("\r\n\r\nAddress(192.0.2.7)"));
        assert!(ask(&theirs).starts_with("HTTP/1.1 403 "));
        assert!(ask("").starts_with("HTTP/1.1 403 "));
        backend.stop();
    }

    /// More than the threads that tiny_http starts with.
    const CROWD: usize = 12;

    fn private_header(backend: &Backend) -> String {
        let (peer, received) = (Peer::Unix, Instant::now());
        backend.token.header_line(&RequestFacts { peer, received, authenticated: false, over_tls: false })
    }

    async fn ask(backend: Arc<Backend>) {
        let server = backend.current().unwrap();
        let mut upstream = server.connect(false).await.unwrap();
        let private = private_header(&backend);
        let end = if upstream.is_kept() { "" } else { "Connection: close\r\n" };
        let request = format!("GET / HTTP/1.1\r\n{private}{end}\r\n");
        upstream.stream.write_all(request.as_bytes()).await.unwrap();
        while !upstream.buffer.ends_with(b"\r\n\r\nall here") {
            assert!(upstream.read().await.unwrap() > 0, "{:?}", String::from_utf8_lossy(&upstream.buffer));
        }
        server.give_back(upstream);
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// All of a crowd come to a fresh server at once, and nobody gets an answer before all have asked.
    fn crowd_together() {
        let barrier = Barrier::new(CROWD);
        let answer = move |_: &_| {
            barrier.wait();
            Response::text(200, "all here")
        };
        let backend = start(Arc::new(answer), CROWD + 1, vec![std::env::temp_dir()]);
        runtime().block_on(async {
            let all: Vec<_> = (0..CROWD).map(|_| tokio::spawn(ask(Arc::clone(&backend)))).collect();
            for one in all {
                timeout(Duration::from_secs(30), one).await.expect("it waits behind another").unwrap();
            }
        });
        assert_eq!(backend.current().unwrap().upstream.kept(), (3, 3));
        backend.stop();
    }

    #[test]
    fn workers_that_were_free_for_a_while_end_but_for_one() {
        let mut spare = SpareWorkers::new();
        assert!([9, 5, 7].iter().all(|free| !spare.take_one(*free)), "too soon to say");
        let Some(before) = Instant::now().checked_sub(IDLE_WORKER) else { return };
        spare.since = before;
        let ended = (0..9).filter(|_| spare.take_one(8)).count();
        assert_eq!(ended, 4);
    }

    #[test]
    fn no_request_waits_behind_another() {
        (0..50).for_each(|_| crowd_together());
    }

    #[test]
    fn a_connection_that_is_abandoned_frees_its_place_when_its_thread_is_free() {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let answer = move |_: &_| {
            let _ = held.lock().recv();
            Response::text(200, "all here")
        };
        let backend = start(Arc::new(answer), 2, vec![std::env::temp_dir()]);
        runtime().block_on(async {
            let server = backend.current().unwrap();
            let mut upstream = server.connect(false).await.unwrap();
            let request = format!("GET / HTTP/1.1\r\n{}\r\n", private_header(&backend));
            upstream.stream.write_all(request.as_bytes()).await.unwrap();
            upstream.abandon();
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(server.upstream.kept(), (0, 1), "the answer is not made");
            hold.send(()).unwrap();
            let is_free = async {
                while server.upstream.kept() != (0, 0) {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            timeout(Duration::from_secs(30), is_free).await.expect("its place stays taken");
        });
        backend.stop();
    }
}
