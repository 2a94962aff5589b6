//! tiny_http behind the gate: a private socket, workers on demand, and a new server when one has died.
//!
//! tiny_http's accept thread ends for good at the first "too many open files" (docs/architecture.md). Each server is a
//! [`Generation`]; whoever sees one dead asks for the next by [`Backend::revive`]. The workers of a dead one drain
//! its queue and leave. Knows the private socket, not the public ones.

pub(crate) mod private_headers;
pub(crate) mod socket;
pub(crate) mod upstream;

use std::io::{self, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use self::private_headers::Pass;
use self::upstream::Trunks;
use super::response_budget::ResponseBudget;
use super::{Handler, LargeResponseOf, Method, OnRejected, Request, Response};
use crate::error::{Error, Result};

/// A worker nobody needs leaves after this; the last one stays.
const IDLE: Duration = Duration::from_secs(30);
/// A dead server's queue is drained until nothing came for this long.
const DRAIN: Duration = Duration::from_secs(1);
/// A server that dies sooner than this after its start is not replaced at once.
const REBUILD_PAUSE: Duration = Duration::from_millis(100);
/// Small parts leave together, in writes of this size; larger parts are written as they are.
const WRITE: usize = 64 << 10;

/// What the workers do, and within which bounds.
pub(super) struct Work {
    pub(super) answer: Arc<Handler>,
    pub(super) max_workers: usize,
    /// For all answers together.
    pub(super) memory: ResponseBudget,
    /// Tells the requests whose answers may be large.
    pub(super) large: Arc<LargeResponseOf>,
    /// Told of each refusal.
    pub(super) rejected: Arc<OnRejected>,
}

/// The way to the answers.
pub(super) struct Backend {
    pub(super) pass: Pass,
    work: Work,
    folders: Vec<PathBuf>,
    stopping: AtomicBool,
    current: Mutex<Option<Arc<Generation>>>,
}

/// One tiny_http server and its workers.
pub(super) struct Generation {
    // Dropped in this order: the trunks' door wakes the server that waits behind it.
    server: tiny_http::Server,
    pub(super) trunks: Trunks,
    born: Instant,
    /// Workers that take the next request, those that are just starting included: a slow start is no reason for
    /// another one.
    free: AtomicUsize,
    workers: AtomicUsize,
    dead: AtomicBool,
}

impl Generation {
    fn build(folders: &[PathBuf]) -> Result<Arc<Self>> {
        self::upstream::thread_is_given()
            .map_err(|error| Error::machine(format!("cannot start the HTTP server's threads: {error}")))?;
        let private = self::socket::private(folders)?;
        // tiny_http starts threads with `thread::spawn`, which panics where the machine has none left.
        let server = catch_unwind(|| tiny_http::Server::from_listener(private.listener, None));
        let server = match server {
            Ok(Ok(server)) => server,
            Ok(Err(error)) => return Err(Error::machine(format!("cannot start the HTTP server: {error}"))),
            Err(_) => return Err(Error::machine("cannot start the HTTP server's threads")),
        };
        Ok(Arc::new(Generation {
            server,
            trunks: Trunks::new(private.door),
            born: Instant::now(),
            free: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
        }))
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
    pub(super) fn start(work: Work, folders: Vec<PathBuf>) -> Result<Arc<Self>> {
        let backend = Arc::new(Backend {
            pass: Pass::new()?,
            work,
            folders,
            stopping: AtomicBool::new(false),
            current: Mutex::new(None),
        });
        let first = Generation::build(&backend.folders)?;
        backend.add_worker(&first)?;
        *backend.current.lock() = Some(first);
        Ok(backend)
    }

    /// Where requests go now; `None` after the stop.
    pub(super) fn current(&self) -> Option<Arc<Generation>> {
        self.current.lock().clone()
    }

    /// `seen` did not answer: gives its successor, which is built if nobody has done so.
    ///
    /// # Errors
    /// The machine has no socket or thread left, or `seen` is too young.
    pub(super) fn revive(self: &Arc<Self>, seen: &Arc<Generation>) -> Result<Arc<Generation>> {
        let mut current = self.current.lock();
        match &*current {
            Some(newer) if !Arc::ptr_eq(newer, seen) => return Ok(Arc::clone(newer)),
            Some(_) if seen.born.elapsed() >= REBUILD_PAUSE => {}
            _ => return Err(Error::machine("the HTTP server is down")),
        }
        let next = Generation::build(&self.folders)?;
        self.add_worker(&next)?;
        *current = Some(Arc::clone(&next));
        drop(current);
        log::warn!("the HTTP server behind the gate had died and was started anew");
        seen.end();
        Ok(next)
    }

    /// Takes no more requests; those in `answer` end by themselves, or with the process.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(last) = self.current.lock().take() {
            last.end();
        }
    }

    fn add_worker(self: &Arc<Self>, generation: &Arc<Generation>) -> Result<()> {
        let (backend, its) = (Arc::clone(self), Arc::clone(generation));
        generation.workers.fetch_add(1, Ordering::Relaxed);
        generation.free.fetch_add(1, Ordering::Relaxed);
        let started = thread::Builder::new().name("answer".to_owned()).spawn(move || {
            backend.work(&its);
            its.workers.fetch_sub(1, Ordering::Relaxed);
        });
        started.map(drop).map_err(|error| {
            generation.workers.fetch_sub(1, Ordering::Relaxed);
            generation.free.fetch_sub(1, Ordering::Relaxed);
            Error::machine(format!("cannot start a thread: {error}"))
        })
    }

    /// One worker's life: takes requests until nobody needs it. It begins free.
    fn work(self: &Arc<Self>, generation: &Arc<Generation>) {
        loop {
            let dead = generation.dead.load(Ordering::Relaxed);
            let received = generation.server.recv_timeout(if dead { DRAIN } else { IDLE });
            let others = generation.free.fetch_sub(1, Ordering::Relaxed) - 1;
            match received {
                Ok(Some(request)) => {
                    if others == 0 && generation.workers.load(Ordering::Relaxed) < self.work.max_workers {
                        // Without a thread the requests wait for this worker.
                        let _ = self.add_worker(generation);
                    }
                    // A panic in `answer` is caught nearer; this one keeps the worker whatever tiny_http does.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.serve(request)));
                }
                Ok(None) if dead || others > 0 || self.stopping.load(Ordering::Relaxed) => return,
                Ok(None) => {}
                Err(error) => {
                    log::debug!("the HTTP server behind the gate ended: {error}");
                    generation.dead.store(true, Ordering::Relaxed);
                    // The next request at the gate tries again if this does not succeed.
                    let _ = self.revive(generation);
                }
            }
            generation.free.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn serve(&self, request: tiny_http::Request) {
        let Some(ours) = self.read(&request) else {
            let _ = request.respond(tiny_http::Response::empty(403));
            return;
        };
        let is_head = ours.method == Method::Head;
        let memory = &self.work.memory;
        let large = (self.work.large)(&ours);
        let held = large.clone().map_or_else(|| Some(memory.nothing()), |large| memory.reserve(large));
        let Some(mut held) = held else {
            let _ = write(request.into_writer(), &self.no_memory(), is_head);
            return;
        };
        let mut response = catch_unwind(AssertUnwindSafe(|| (self.work.answer)(&ours)))
            .unwrap_or_else(|_| Response::text(500, "an internal error; the log says more\n"));
        if let Some(large) = large.filter(|_| response.status == 200) {
            memory.learn(&large, &response);
        }
        if !held.settle(&response) {
            response = self.no_memory();
        }
        // The client may have gone: that is no error.
        let _ = write(request.into_writer(), &response, is_head);
        // Not before it: the budget counts what is there.
        drop(response);
        drop(held);
    }

    /// 503, counted.
    fn no_memory(&self) -> Response {
        (self.work.rejected)("memory");
        let mut response = Response::text(
            503,
            "the answers that clients have not read yet hold exporter.http.max_inflight_bytes; try again\n",
        );
        response.headers.push(("Retry-After", "1".to_owned()));
        response
    }

    /// Our request out of tiny_http's; `None` when it did not come through the gate.
    fn read(&self, request: &tiny_http::Request) -> Option<Request> {
        let pass = request
            .headers()
            .iter()
            .find(|header| private_headers::is_pass(header.field.as_str().as_str()))?;
        let facts = self.pass.read(pass.value.as_str())?;
        let method = match request.method() {
            tiny_http::Method::Get => Method::Get,
            tiny_http::Method::Head => Method::Head,
            tiny_http::Method::Post => Method::Post,
            _ => return None,
        };
        let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
        let headers = request
            .headers()
            .iter()
            .map(|header| {
                (header.field.as_str().as_str().to_ascii_lowercase(), header.value.as_str().to_owned())
            })
            // `Connection` is the gate's own word to tiny_http.
            .filter(|(name, _)| !private_headers::is_private(name) && name != "connection")
            .collect();
        Some(Request {
            method,
            path: path.to_owned(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            headers,
            peer: facts.peer,
            authenticated: facts.known,
            over_tls: facts.secure,
            received: facts.received,
        })
    }
}

/// Writes head and body in as few writes as the parts allow.
fn write(to: Box<dyn Write + Send>, response: &Response, head_only: bool) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(WRITE, to);
    let date = httpdate::fmt_http_date(SystemTime::now());
    write!(out, "HTTP/1.1 {} {}\r\nDate: {date}\r\n", response.status, super::phrase(response.status))?;
    for (name, value) in &response.headers {
        write!(out, "{name}: {value}\r\n")?;
    }
    for (name, value) in super::protection(response.headers.iter().map(|(name, _)| *name)) {
        write!(out, "{name}: {value}\r\n")?;
    }
    let length: usize = response.body.iter().map(|part| part.bytes().len()).sum();
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

    use super::private_headers::Facts;
    use super::socket::Door;
    use super::upstream::KEPT;
    use super::*;
    use crate::server::Peer;

    fn start(answer: Arc<Handler>, max_workers: usize, folders: Vec<PathBuf>) -> Arc<Backend> {
        let (memory, large) = (ResponseBudget::new(1 << 20), Arc::new(|_: &Request| None));
        Backend::start(Work { answer, max_workers, memory, large, rejected: Arc::new(|_| {}) }, folders)
            .unwrap()
    }

    #[test]
    fn on_a_loopback_port_only_requests_with_our_token_are_answered() {
        let answer = |request: &Request| Response::text(200, format!("{:?}", request.peer));
        let backend = start(Arc::new(answer), 2, Vec::new());
        let generation = backend.current().unwrap();
        let Door::Tcp(address) = *generation.trunks.door() else { panic!("not a port") };
        let ask = |pass: &[u8]| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n").unwrap();
            stream.write_all(pass).unwrap();
            stream.write_all(b"\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let facts = Facts {
            peer: Peer::Address([192, 0, 2, 7].into()),
            received: Instant::now(),
            known: false,
            secure: false,
        };
        backend.pass.write(&facts, &mut ours);
        Pass::new().unwrap().write(&facts, &mut theirs);
        assert!(ask(&ours).ends_with("\r\n\r\nAddress(192.0.2.7)"));
        assert!(ask(&theirs).starts_with("HTTP/1.1 403 "));
        assert!(ask(b"").starts_with("HTTP/1.1 403 "));
        backend.stop();
    }

    /// More than there are kept trunks and threads that tiny_http starts with.
    const CROWD: usize = 12;

    async fn ask(backend: Arc<Backend>) {
        let generation = backend.current().unwrap();
        let mut trunk = generation.trunks.take().await.unwrap();
        let facts = Facts { peer: Peer::Unix, received: Instant::now(), known: false, secure: false };
        trunk.buffer.extend_from_slice(b"GET / HTTP/1.1\r\n");
        backend.pass.write(&facts, &mut trunk.buffer);
        trunk.buffer.extend_from_slice(if trunk.is_kept() { b"\r\n" } else { b"Connection: close\r\n\r\n" });
        trunk.wire.write_all(&trunk.buffer).await.unwrap();
        trunk.buffer.clear();
        while !trunk.buffer.ends_with(b"\r\n\r\nall here") {
            assert!(trunk.read().await.unwrap() > 0, "{:?}", String::from_utf8_lossy(&trunk.buffer));
        }
        generation.trunks.give_back(trunk);
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
                timeout(Duration::from_secs(30), one).await.expect("it hides behind another").unwrap();
            }
        });
        let trunks = &backend.current().unwrap().trunks;
        assert_eq!(trunks.kept(), (KEPT, KEPT));
        backend.stop();
    }

    #[test]
    fn no_request_waits_behind_a_trunk_that_is_kept() {
        (0..50).for_each(|_| crowd_together());
    }

    #[test]
    fn a_trunk_that_is_not_given_back_frees_its_place() {
        let backend = start(Arc::new(|_: &_| Response::text(200, "all here")), 2, vec![std::env::temp_dir()]);
        let generation = backend.current().unwrap();
        runtime().block_on(async {
            for _ in 0..2 * KEPT {
                let trunk = generation.trunks.take().await.unwrap();
                assert!(trunk.is_kept());
            }
        });
        assert_eq!(generation.trunks.kept(), (0, 0));
        backend.stop();
    }
}
