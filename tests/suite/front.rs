//! The front door against real sockets: a trivial answer behind `http::serve`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sql_exporter::deadline::Deadline;
use sql_exporter::http::{Limits, Listen, Request, Response, Server, serve};

/// A front door on a free port that answers with the path.
struct Front {
    server: Server,
    port: u16,
    rejected: Arc<Mutex<Vec<&'static str>>>,
}

fn echo(request: &Request) -> Response {
    Response::text(200, format!("{:?} {}\n", request.method, request.path))
}

fn front(limits: Limits, answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Front {
    let rejected = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&rejected);
    let listen = [Listen::Tcp("127.0.0.1:0".parse().unwrap())];
    let server =
        serve(&listen, limits, Arc::new(answer), Arc::new(move |reason| seen.lock().push(reason))).unwrap();
    let port = server.addresses()[0].rsplit(':').next().unwrap().parse().unwrap();
    Front { server, port, rejected }
}

impl Front {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends `bytes` and reads until the server closes.
    fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[test]
fn a_request_is_answered_through_gate_and_backend() {
    let front = front(Limits::default(), echo);
    let answer = front.say(b"GET /metrics?target=a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nContent-Length: 13\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nGet /metrics\n"), "{answer}");
    assert_eq!(front.rejected.lock().len(), 0);
    assert_eq!(front.server.stop(Deadline::within(Duration::from_secs(5))), 0);
}
