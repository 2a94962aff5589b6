//! The HTTP server on real sockets: `server::serve` with a trivial answer, clients that misbehave.

mod child;
mod faults;
mod life;
mod limits;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sql_exporter::config::exporter::HttpLimits;
use sql_exporter::config::listen::ListenAddress;
use sql_exporter::deadline::Deadline;
use sql_exporter::server::{
    BodyPart, Handler, Method, OnRejected, Peer, Request, Response, ServeOptions, Server, serve,
};

use crate::process::wait_for;

/// Far longer than anything here takes, also on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// A server on a free loopback port.
struct Front {
    server: Server,
    port: u16,
    rejected: Arc<Mutex<Vec<&'static str>>>,
}

/// Answers with method and path.
fn echo(request: &Request) -> Response {
    Response::text(200, format!("{} {}\n", request.method.as_str(), request.path))
}

fn open(limits: HttpLimits, answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Front {
    let rejected = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&rejected);
    let listen = [ListenAddress::Tcp("127.0.0.1:0".parse().unwrap())];
    let reject = move |reason| seen.lock().unwrap().push(reason);
    let server = serve(plain(&listen, limits, Arc::new(answer), Arc::new(reject))).unwrap();
    let port = port(&server);
    Front { server, port, rejected }
}

/// Without TLS and users.
fn plain(
    listen: &[ListenAddress],
    limits: HttpLimits,
    answer: Arc<Handler>,
    rejected: Arc<OnRejected>,
) -> ServeOptions<'_> {
    ServeOptions {
        listen,
        limits,
        web_config: None,
        public_paths: Vec::new(),
        large_response: Arc::new(|_| None),
        handler: answer,
        on_rejected: rejected,
    }
}

fn port(server: &Server) -> u16 {
    server.addresses()[0].rsplit(':').next().unwrap().parse().unwrap()
}

impl Front {
    fn connect(&self) -> Client {
        Client::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap())
    }

    /// Sends bytes on a connection of their own and reads until the server closes.
    fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect();
        client.send(bytes);
        client.rest()
    }

    fn rejected(&self) -> Vec<&'static str> {
        self.rejected.lock().unwrap().clone()
    }

    fn stop(self) -> usize {
        stop(self.server, LONG)
    }
}

/// Stops a server; returns the number of connections that were cut.
fn stop(server: Server, within: Duration) -> usize {
    let by = Deadline::within(within);
    server.stop(by, by, || ())
}

/// One connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        Client(BufReader::new(stream))
    }

    fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    /// The server may have closed already: what it said counts.
    fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    fn get(&mut self, path: &str) {
        assert!(self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")));
    }

    /// True once something has arrived.
    fn has_answer(&self) -> bool {
        self.stream().set_nonblocking(true).unwrap();
        let arrived = self.stream().peek(&mut [0]).is_ok();
        self.stream().set_nonblocking(false).unwrap();
        arrived
    }

    /// One answer: status line, headers in lower case, body as long as announced.
    fn answer(&mut self) -> (String, String) {
        let mut head = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the connection ended after {head:?}");
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (head.to_lowercase(), String::from_utf8(body).unwrap())
    }

    /// What comes until the server closes or resets.
    fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// True when the server has closed within `LONG`.
    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

#[test]
fn a_request_is_answered_with_one_head_and_its_length() {
    let front = open(HttpLimits::default(), echo);
    let answer = front.say("GET /metrics?target=a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nContent-Length: 13\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(answer.contains("\r\nDate: "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nGET /metrics\n"), "{answer}");
    assert!(front.rejected().is_empty());
    assert_eq!(front.stop(), 0);
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let front = open(HttpLimits::default(), echo);
    let mut client = front.connect();
    for path in ["/a", "/b", "/c"] {
        client.get(path);
        let (head, body) = client.answer();
        assert_eq!(body, format!("GET {path}\n"));
        assert!(!head.contains("connection:"), "{head}");
    }
    client.send("GET /d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(client.answer().0.contains("connection: close"));
    assert!(client.is_closed());
}

#[test]
fn two_hundred_pipelined_requests_are_answered_in_order() {
    let front = open(HttpLimits::default(), echo);
    let mut client = front.connect();
    let request = |number: usize| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n");
    let all: String = (0..200).map(request).collect();
    client.send(all);
    for number in 0..200 {
        assert_eq!(client.answer().1, format!("GET /{number}\n"));
    }
}

#[test]
fn an_old_client_is_told_whether_its_connection_stays() {
    let front = open(HttpLimits::default(), echo);
    let answer = front.say("GET / HTTP/1.0\r\n\r\n");
    assert!(answer.contains("\r\nConnection: close\r\n") && answer.ends_with("GET /\n"), "{answer}");
    let mut client = front.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(client.answer().0.contains("connection: keep-alive"));
    }
}

#[test]
fn head_has_the_length_and_no_body_and_none_where_the_page_is_not_made() {
    let front =
        open(HttpLimits::default(), |request: &Request| match (request.method, request.path.as_str()) {
            (Method::Head, "/unmade") => Response::new(200, Vec::new(), Vec::new()),
            _ => echo(request),
        });
    let mut client = front.connect();
    client.send(
        "HEAD /made HTTP/1.1\r\nHost: a\r\n\r\nHEAD /unmade HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    let answers = client.rest();
    let (made, unmade) = answers.split_once("\r\n\r\n").unwrap();
    assert!(made.contains("Content-Length: 11"), "{made}");
    assert!(unmade.starts_with("HTTP/1.1 200 OK") && !unmade.contains("Content-Length"), "{unmade}");
    assert!(unmade.ends_with("\r\n\r\n"), "{unmade}");
}

#[test]
fn expect_is_answered_by_the_answer_itself() {
    let front = open(HttpLimits::default(), echo);
    let answer = front.say("GET /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("GET /a\n"), "{answer}");
}

#[test]
fn a_large_answer_arrives_byte_for_byte() {
    let block: Arc<Vec<u8>> = Arc::new((0..10_000_000u32).map(|number| b'a' + (number % 23) as u8).collect());
    let shared = Arc::clone(&block);
    let front = open(HttpLimits::default(), move |_: &Request| {
        let body = vec![
            BodyPart::Owned(b"<".to_vec()),
            BodyPart::Shared(shared.clone()),
            BodyPart::Owned(b">".to_vec()),
        ];
        Response::new(200, Vec::new(), body)
    });
    let mut client = front.connect();
    for _ in 0..2 {
        client.get("/");
        let (head, body) = client.answer();
        assert!(head.contains("content-length: 10000002\r\n"), "{head}");
        assert!(
            body.starts_with('<') && body.ends_with('>') && body.as_bytes()[1..=block.len()] == block[..]
        );
    }
}

#[test]
fn the_request_is_decoded_and_bears_its_peer_and_nothing_private() {
    let front = open(HttpLimits::default(), |request: &Request| {
        Response::text(200, format!("{:?} {:?} {:?}", request.query, request.headers, request.peer))
    });
    let answer = front.say(
        "GET /p?collect%5B%5D=a+b&x=%C3%A9&y HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nConnection: close\r\n\
         X-SQL-Exporter-Gate: 0 0 192.0.2.1 true true\r\nX-SQL-Exporter-Gate-Other: 1\r\n\r\n",
    );
    let expected = "[(\"collect[]\", \"a b\"), (\"x\", \"é\"), (\"y\", \"\")] \
                    [(\"host\", \"a\"), (\"x-one\", \"1\")] Address(127.0.0.1)";
    assert!(answer.ends_with(expected), "{answer}");
}

#[test]
fn the_clock_starts_at_the_last_byte_of_the_head() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Mutex::new(tell);
    let front = open(HttpLimits::default(), move |request: &Request| {
        tell.lock().unwrap().send(request.received).unwrap();
        Response::text(200, "")
    });
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHo");
    std::thread::sleep(Duration::from_millis(50));
    let before = Instant::now();
    client.send("st: a\r\n\r\n");
    client.answer();
    let received = told.recv().unwrap();
    assert!(received >= before, "early by {:?}", before - received);
    assert!(received <= Instant::now());
}

#[test]
fn a_panic_in_the_answer_is_a_500_and_the_next_request_is_fine() {
    let front = open(HttpLimits::default(), |request: &Request| {
        assert_ne!(request.path, "/panic");
        echo(request)
    });
    let mut client = front.connect();
    client.get("/panic");
    assert!(client.answer().0.starts_with("http/1.1 500 "));
    client.get("/fine");
    assert_eq!(client.answer().1, "GET /fine\n");
}

#[test]
fn forty_answers_that_do_not_come_hold_nobody_up() {
    let (release, held) =
        (Arc::new(std::sync::Barrier::new(41)), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let (barrier, count) = (Arc::clone(&release), Arc::clone(&held));
    let front = open(HttpLimits::default(), move |request: &Request| {
        if request.path == "/stuck" {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            barrier.wait();
        }
        echo(request)
    });
    let mut stuck: Vec<Client> = (0..40).map(|_| front.connect()).collect();
    stuck.iter_mut().for_each(|client| client.get("/stuck"));
    wait_for("forty answers under way", || {
        (held.load(std::sync::atomic::Ordering::SeqCst) == 40).then_some(())
    });
    let mut client = front.connect();
    client.get("/free");
    assert_eq!(client.answer().1, "GET /free\n");
    release.wait();
    for client in &mut stuck {
        assert_eq!(client.answer().1, "GET /stuck\n");
    }
    assert_eq!(front.stop(), 0);
}

/// What a Unix peer is.
fn is_unix(request: &Request) -> Response {
    Response::text(200, format!("{}", request.peer == Peer::Unix && request.peer.is_loopback()))
}

/// Closes without a word, so that the other side gets a reset.
fn reset(client: Client) {
    let stream = client.0.into_inner();
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// Says that nothing more comes, as `nc -N` does.
fn half_close(client: &Client) {
    client.stream().shutdown(Shutdown::Write).unwrap();
}
