//! One request to the backend, one answer back: exactly as many bytes as announced, under one write deadline.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout_at;

use super::GateState;
use super::head::{Head, Rejection};
use crate::deadline::Deadline;
use crate::server::Method;
use crate::server::backend::HttpServer;
use crate::server::backend::private_header::is_private;
use crate::server::backend::upstream::{ByteStream, UpstreamConnection};

/// The longest head of an answer; ours are far shorter.
const MAX_ANSWER_HEAD: usize = 16 << 10;

const DOWN: Rejection = Rejection::internal(503, "the exporter is out of files or threads; try again");
const SLOW_READER: Rejection = Rejection::new(408, "write_timeout", "the answer was not read in time");
const UNREADABLE: Rejection =
    Rejection::internal(502, "the answer's head is malformed; this is a bug of the exporter");

/// A request on its way to the backend.
pub(super) struct RelayedRequest {
    /// Its head, without the empty line at the end.
    bytes: Vec<u8>,
    /// The answer has no body.
    pub(super) head_only: bool,
    keep_alive: bool,
    is_http_1_0: bool,
}

impl RelayedRequest {
    /// What is passed on, with the line of the private header. `keep_alive`: the connection stays open after the answer.
    pub(super) fn new(head: &Head<'_>, keep_alive: bool, private_header: &str) -> Self {
        let method = head.method.as_str();
        let mut text = format!("{method} {} HTTP/1.1\r\n{private_header}", head.target);
        for (name, value) in &head.headers {
            if !is_private(name) && !name.eq_ignore_ascii_case("authorization") {
                text.extend([name, ": ", value, "\r\n"]);
            }
        }
        let head_only = head.method == Method::Head;
        RelayedRequest { bytes: text.into_bytes(), head_only, keep_alive, is_http_1_0: head.is_http_1_0 }
    }
}

/// What became of the client's connection.
pub(super) enum RelayOutcome {
    /// The next request may come.
    KeepAlive,
    /// The answer is sent; the connection closes in good order.
    Close,
    /// The client left, or is too slow (which is counted), or has received half an answer: nothing more can be sent.
    Broken(Option<Rejection>),
    /// Nothing was sent yet.
    NotSent(Rejection),
}

/// Passes the request on and copies the answer back, with `headers` in place of the answer's own of these names.
pub(super) async fn relay(
    client: &mut Box<dyn ByteStream>,
    request: &RelayedRequest,
    headers: &[(String, String)],
    state: &GateState,
) -> RelayOutcome {
    let mut answer = match send(&request.bytes, state).await {
        Ok(answer) => answer,
        Err(rejection) => return RelayOutcome::NotSent(rejection),
    };
    // From here, not from the request: a scrape may take longer than its page.
    let by = Deadline::within(state.limits.write_timeout);
    let keep_alive = request.keep_alive && !state.connections.draining();
    let connection = match (keep_alive, request.is_http_1_0) {
        (false, _) => "Connection: close\r\n",
        (true, true) => "Connection: keep-alive\r\n",
        (true, false) => "",
    };
    let Some(announced) = answer.rewrite_head(connection, headers) else {
        answer.upstream.abandon();
        return RelayOutcome::NotSent(UNREADABLE);
    };
    let length = if request.head_only { 0 } else { announced };
    let outcome = match timeout_at(by.moment().into(), answer.copy(client, length)).await {
        Ok(Ok(())) if keep_alive => RelayOutcome::KeepAlive,
        Ok(Ok(())) => RelayOutcome::Close,
        Ok(Err(_)) => RelayOutcome::Broken(None),
        Err(_) => RelayOutcome::Broken(Some(SLOW_READER)),
    };
    match outcome {
        RelayOutcome::KeepAlive | RelayOutcome::Close => answer.server.give_back(answer.upstream),
        RelayOutcome::Broken(_) | RelayOutcome::NotSent(_) => answer.upstream.abandon(),
    }
    outcome
}

/// An answer whose head has arrived.
struct RelayedAnswer {
    server: Arc<HttpServer>,
    upstream: UpstreamConnection,
    /// Where the head ends in the connection's buffer.
    head: usize,
}

/// Sends the request and reads until the answer's head has arrived. A server that died is replaced, and the request
/// repeated once: nothing was answered yet, and every request is safe to repeat.
async fn send(request: &[u8], state: &GateState) -> Result<RelayedAnswer, Rejection> {
    let mut server = state.backend.current().ok_or(DOWN)?;
    let mut repeated = false;
    loop {
        let upstream = match server.connect(repeated).await {
            Ok(upstream) => upstream,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                server = state.backend.revive(&server).map_err(|_| DOWN)?;
                continue;
            }
            // The gate is out of descriptors: no server died.
            Err(_) => return Err(DOWN),
        };
        match begin(upstream, request).await {
            Ok((upstream, head)) => return Ok(RelayedAnswer { server, upstream, head }),
            Err(error) if error.kind() == ErrorKind::InvalidData => return Err(UNREADABLE),
            Err(error) if repeated => {
                log::warn!("a request got no answer from the HTTP server behind the gate: {error}");
                return Err(DOWN);
            }
            Err(_) => repeated = true,
        }
    }
}

/// Sends the request in one write, so that tiny_http's thread wakes up once, and returns where the answer's head ends.
async fn begin(mut upstream: UpstreamConnection, request: &[u8]) -> io::Result<(UpstreamConnection, usize)> {
    upstream.buffer.extend_from_slice(request);
    let end: &[u8] = if upstream.is_kept() { b"\r\n" } else { b"Connection: close\r\n\r\n" };
    upstream.buffer.extend_from_slice(end);
    upstream.stream.write_all(&upstream.buffer).await?;
    upstream.buffer.clear();
    while upstream.read().await? > 0 {
        let mut ends = upstream.buffer.windows(4).take(MAX_ANSWER_HEAD);
        if let Some(found) = ends.position(|four| four == b"\r\n\r\n") {
            return Ok((upstream, found + 4));
        }
        if upstream.buffer.len() > MAX_ANSWER_HEAD {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    Err(ErrorKind::UnexpectedEof.into())
}

impl RelayedAnswer {
    /// Puts the line `connection` and the configured headers into the head, and returns the announced length (0 where
    /// none is: only the answer to a HEAD has none).
    fn rewrite_head(&mut self, connection: &str, headers: &[(String, String)]) -> Option<usize> {
        let head = std::str::from_utf8(self.upstream.buffer.get(..self.head)?).ok()?;
        let mut length = 0;
        let mut rewritten = String::with_capacity(self.head + 32);
        for line in head.trim_end().split("\r\n") {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
            let is_configured = headers.iter().any(|(configured, _)| configured.eq_ignore_ascii_case(name));
            if !is_configured && !name.eq_ignore_ascii_case("connection") {
                rewritten.extend([line, "\r\n"]);
            }
        }
        for (name, value) in headers {
            rewritten.extend([name, ": ", value, "\r\n"]);
        }
        rewritten.extend([connection, "\r\n"]);
        let old = std::mem::replace(&mut self.head, rewritten.len());
        self.upstream.buffer.splice(..old, rewritten.into_bytes());
        Some(length)
    }

    /// Writes the head and exactly `length` bytes of the body.
    async fn copy(&mut self, client: &mut Box<dyn ByteStream>, length: usize) -> io::Result<()> {
        let upstream = &mut self.upstream;
        let mut left = self.head.saturating_add(length);
        loop {
            // More than announced would be read as the next answer.
            left = left.checked_sub(upstream.buffer.len()).ok_or(ErrorKind::InvalidData)?;
            client.write_all(&upstream.buffer).await?;
            if left == 0 {
                return client.flush().await;
            }
            upstream.buffer.clear();
            if upstream.read().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
