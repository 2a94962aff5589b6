//! One request to the backend, one answer back: exactly as many bytes as announced, under one write deadline.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout_at;

use super::Shared;
use super::head::{Fault, Head};
use crate::deadline::Deadline;
use crate::server::Method;
use crate::server::backend::Generation;
use crate::server::backend::private_headers;
use crate::server::backend::private_headers::{Facts, Pass};
use crate::server::backend::socket::Wire;
use crate::server::backend::upstream::Trunk;

/// The head of an answer: ours are far below.
const ANSWER_HEAD: usize = 16 << 10;

const DOWN: Fault = Fault::ours(503, "the exporter is out of files or threads; try again");
const SLOW_READER: Fault = Fault::new(408, "write_timeout", "the answer was not taken in time");
const UNREADABLE: Fault = Fault::ours(502, "the answer's head cannot be read; this is a bug of the exporter");

/// Says that a passing trunk has no second request.
const LAST: &[u8] = b"Connection: close\r\n";
const END: &[u8] = b"\r\n";

/// A request on its way to the backend.
pub(super) struct Order {
    /// Its head, without the empty line at the end.
    bytes: Vec<u8>,
    head_only: bool,
    keep_alive: bool,
    old: bool,
}

impl Order {
    /// What is passed on. `keep_alive`: the connection stays after the answer.
    pub(super) fn of(head: &Head<'_>, keep_alive: bool, facts: &Facts, pass: &Pass) -> Self {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", head.method.as_str(), head.target).into_bytes();
        pass.write(facts, &mut bytes);
        let for_us =
            |name: &str| private_headers::is_private(name) || name.eq_ignore_ascii_case("authorization");
        for (name, value) in head.headers.iter().filter(|(name, _)| !for_us(name)) {
            for piece in [name, ": ", value, "\r\n"] {
                bytes.extend_from_slice(piece.as_bytes());
            }
        }
        Order { bytes, head_only: head.method == Method::Head, keep_alive, old: head.old }
    }

    /// The answer has no body.
    pub(super) fn head_only(&self) -> bool {
        self.head_only
    }
}

/// What became of the connection.
pub(super) enum Outcome {
    /// The next request may come.
    Stays,
    /// The answer is out; the connection closes in good order.
    Closes,
    /// The client is gone, or too slow (which is counted), or has got half an answer: no more can be said.
    Broken(Option<Fault>),
    /// Nothing was sent yet.
    Failed(Fault),
}

/// Passes `order` on and copies the answer out, with `headers` instead of its own of these names.
pub(super) async fn relay(
    stream: &mut Box<dyn Wire>,
    order: &Order,
    headers: &[(String, String)],
    shared: &Shared,
) -> Outcome {
    let mut begun = match ask(&order.bytes, shared).await {
        Ok(begun) => begun,
        Err(fault) => return Outcome::Failed(fault),
    };
    // From here, not from the request: a scrape may take longer than its page.
    let by = Deadline::within(shared.limits.write_timeout);
    let keep = order.keep_alive && !shared.caps.draining();
    let Some(announced) = begun.rewrite_head(keep, order.old, headers) else {
        return Outcome::Failed(UNREADABLE);
    };
    let length = if order.head_only { 0 } else { announced };
    let copied = timeout_at(by.moment().into(), begun.copy(stream, length)).await;
    match copied {
        Ok(Ok(())) => begun.generation.trunks.give_back(begun.trunk),
        Ok(Err(_)) => return Outcome::Broken(None),
        Err(_) => return Outcome::Broken(Some(SLOW_READER)),
    }
    if keep { Outcome::Stays } else { Outcome::Closes }
}

/// An answer that has begun: the trunk, with what was read of it, and where its head ends.
struct Begun {
    generation: Arc<Generation>,
    trunk: Trunk,
    head: usize,
}

/// Sends the request and reads until the answer begins. A server that died is replaced, and the request repeated
/// once: nothing was answered yet, and every request is safe to repeat.
async fn ask(request: &[u8], shared: &Shared) -> Result<Begun, Fault> {
    let mut generation = shared.backend.current().ok_or(DOWN)?;
    let mut repeated = false;
    loop {
        let trunks = &generation.trunks;
        let trunk = if repeated { trunks.passing().await } else { trunks.take().await };
        let mut trunk = match trunk {
            Ok(trunk) => trunk,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
                generation = shared.backend.revive(&generation).map_err(|_| DOWN)?;
                continue;
            }
            // Out of descriptors ourselves: nobody died.
            Err(_) => return Err(DOWN),
        };
        match exchange(&mut trunk, request).await {
            Ok(head) => return Ok(Begun { generation, trunk, head }),
            Err(error) if error.kind() == ErrorKind::InvalidData => return Err(UNREADABLE),
            Err(error) if repeated => {
                log::warn!("a request got no answer from the HTTP server behind the gate: {error}");
                return Err(DOWN);
            }
            Err(_) => repeated = true,
        }
    }
}

/// Gives the end of the answer's head in the trunk's buffer.
async fn exchange(trunk: &mut Trunk, request: &[u8]) -> io::Result<usize> {
    // One write, so that the server's thread wakes up once.
    trunk.buffer.extend_from_slice(request);
    trunk.buffer.extend_from_slice(if trunk.is_kept() { b"" } else { LAST });
    trunk.buffer.extend_from_slice(END);
    trunk.wire.write_all(&trunk.buffer).await?;
    trunk.buffer.clear();
    while trunk.read().await? > 0 {
        if let Some(found) = trunk.buffer.windows(4).take(ANSWER_HEAD).position(|four| four == b"\r\n\r\n") {
            return Ok(found + 4);
        }
        if trunk.buffer.len() > ANSWER_HEAD {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    Err(ErrorKind::UnexpectedEof.into())
}

impl Begun {
    /// Puts our `Connection` and the configured headers into the head, and gives the announced length (0 where none is:
    /// only HEAD has none).
    fn rewrite_head(&mut self, keep: bool, old: bool, headers: &[(String, String)]) -> Option<usize> {
        let head = std::str::from_utf8(self.trunk.buffer.get(..self.head)?).ok()?;
        let mut length = 0;
        let mut out = String::with_capacity(self.head + 32);
        for line in head.trim_end().split("\r\n") {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
            let ours = headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            if !ours && !name.eq_ignore_ascii_case("connection") {
                out.push_str(line);
                out.push_str("\r\n");
            }
        }
        for (name, value) in headers {
            out.extend([name, ": ", value, "\r\n"]);
        }
        match (keep, old) {
            (false, _) => out.push_str("Connection: close\r\n"),
            (true, true) => out.push_str("Connection: keep-alive\r\n"),
            (true, false) => {}
        }
        out.push_str("\r\n");
        let old_end = std::mem::replace(&mut self.head, out.len());
        self.trunk.buffer.splice(..old_end, out.into_bytes());
        Some(length)
    }

    /// Writes the head and exactly `length` bytes of the body.
    async fn copy(&mut self, to: &mut Box<dyn Wire>, length: usize) -> io::Result<()> {
        let trunk = &mut self.trunk;
        let mut left = self.head.saturating_add(length);
        loop {
            // Of more than was announced nothing may stay for the next answer.
            left = left.checked_sub(trunk.buffer.len()).ok_or(ErrorKind::InvalidData)?;
            to.write_all(&trunk.buffer).await?;
            if left == 0 {
                return to.flush().await;
            }
            trunk.buffer.clear();
            if trunk.read().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
