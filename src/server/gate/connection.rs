//! One public connection: reads heads, has each request relayed, refuses with an answer, and closes in good order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{timeout, timeout_at};

use super::connections::ConnectionSlot;
use super::head::{Head, Rejection, find_end};
use super::relay::{RelayOutcome, RelayedRequest, relay};
use super::web_config::WebConfig;
use super::{GateState, TOO_MANY_CONNECTIONS};
use crate::config::exporter::HttpLimits;
use crate::deadline::Deadline;
use crate::server::backend::private_header::RequestFacts;
use crate::server::backend::upstream::ByteStream;
use crate::server::{Peer, header_lines, reason_phrase};

/// Enough for a usual head; the buffer grows by as much when a head needs more.
const READ_SIZE: usize = 1024;
/// How long a head on a reserved connection may take.
const RESERVED_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client may take to read a refusal, and to close after the last answer.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// At most so many bytes are read and discarded meanwhile.
const MAX_DISCARDED: usize = 256 << 10;

const SLOW_HEAD: Rejection = Rejection::new(408, "head_timeout", "the request head took too long");

/// A connection that was admitted.
pub(super) struct Connection {
    stream: Box<dyn ByteStream>,
    peer: Peer,
    has_certificate: bool,
    /// What has arrived and is not answered yet: the start of a head, or pipelined requests.
    bytes: Vec<u8>,
    slot: ConnectionSlot,
    state: Arc<GateState>,
}

impl Connection {
    /// `has_certificate`: the client has shown one that was verified.
    pub(super) fn new(
        stream: Box<dyn ByteStream>,
        peer: Peer,
        has_certificate: bool,
        slot: ConnectionSlot,
        state: Arc<GateState>,
    ) -> Self {
        Connection { stream, peer, has_certificate, bytes: Vec::new(), slot, state }
    }

    /// Answers requests in order until one side is done.
    pub(super) async fn serve(mut self) {
        loop {
            let (request, web) = match self.request().await {
                Ok(Some(request)) => request,
                Ok(None) => return,
                Err(rejection) => {
                    let head_only = self.bytes.starts_with(b"HEAD ");
                    return self.refuse(&rejection, head_only).await;
                }
            };
            match relay(&mut self.stream, &request, &web.headers, &self.state).await {
                RelayOutcome::KeepAlive => {}
                RelayOutcome::Close => {
                    self.slot.idle();
                    return close(self.stream).await;
                }
                RelayOutcome::Broken(rejection) => {
                    return rejection.iter().for_each(|rejection| self.state.count(rejection));
                }
                RelayOutcome::NotSent(rejection) => {
                    return self.refuse(&rejection, request.head_only).await;
                }
            }
        }
    }

    async fn refuse(self, rejection: &Rejection, head_only: bool) {
        self.state.count(rejection);
        self.slot.idle();
        refuse(self.stream, rejection, head_only, &self.state.web_config.last_read().headers).await;
    }

    /// The next request that may be relayed. `None`: the client left, or was idle too long.
    async fn request(&mut self) -> Result<Option<(RelayedRequest, Arc<WebConfig>)>, Rejection> {
        let Some(end) = self.read_head().await? else { return Ok(None) };
        let received = Instant::now();
        let web = self.state.web_config.current().await;
        let Some((head, end)) = Head::parse(self.bytes.get(..end).unwrap_or_default(), &self.state.limits)?
        else {
            return Ok(None);
        };
        let path = head.target.split('?').next().unwrap_or_default();
        let is_public = self.state.public_paths.iter().any(|public| public == path);
        let must_log_in = !web.users.is_empty() && !is_public;
        // A reserved slot is for a health check; for others if a usual slot has come free meanwhile.
        let is_reserved = self.slot.is_reserved() && !self.slot.promote();
        if is_reserved && !is_public {
            return Err(TOO_MANY_CONNECTIONS);
        }
        if must_log_in {
            let authorization = head.header("authorization");
            self.state.authenticator.check(&web.users, authorization, self.peer).await?;
        }
        let facts = RequestFacts {
            peer: self.peer,
            received,
            authenticated: self.has_certificate || must_log_in,
            over_tls: web.tls.is_some(),
        };
        let keep_alive = head.keep_alive && !is_reserved;
        let request = RelayedRequest::new(&head, keep_alive, &self.state.backend.token().header_line(&facts));
        self.bytes.drain(..end);
        Ok(Some((request, web)))
    }

    /// Reads until a whole head has arrived and returns its end.
    async fn read_head(&mut self) -> Result<Option<usize>, Rejection> {
        let limits = &self.state.limits;
        // A reserved slot is for one request of a health check. Others wait for it.
        let is_reserved = self.slot.is_reserved();
        let at_most = |usual: Duration| if is_reserved { usual.min(RESERVED_TIMEOUT) } else { usual };
        let (idle_timeout, head_timeout) = (at_most(limits.idle_timeout), at_most(limits.head_timeout));
        if self.bytes.is_empty() {
            self.slot.idle();
            self.bytes = Vec::with_capacity(READ_SIZE);
            match timeout(idle_timeout, self.stream.read_buf(&mut self.bytes)).await {
                Ok(Ok(1..)) => {}
                Err(_) if is_reserved => return Err(TOO_MANY_CONNECTIONS),
                _ => return Ok(None),
            }
        }
        self.slot.arriving();
        let by = Deadline::within(head_timeout).moment().into();
        let mut seen = 0;
        loop {
            if let Some(end) = find_end(&self.bytes, seen, limits)? {
                self.slot.served();
                return Ok(Some(end));
            }
            seen = self.bytes.len();
            self.bytes.reserve(READ_SIZE);
            match timeout_at(by, self.stream.read_buf(&mut self.bytes)).await {
                Err(_) if is_reserved => return Err(TOO_MANY_CONNECTIONS),
                Err(_) => return Err(SLOW_HEAD),
                Ok(Ok(1..)) => {}
                Ok(_) => return Ok(None),
            }
        }
    }
}

/// Reads the head of a request that will be refused, for a second at most; true for a HEAD. An answer that leaves before
/// the request has arrived is unsolicited: Go's client drops it, and sees a closed connection instead.
pub(super) async fn read_before_refusal(stream: &mut Box<dyn ByteStream>, limits: &HttpLimits) -> bool {
    let mut bytes = Vec::with_capacity(READ_SIZE);
    let read = async {
        let mut seen = 0;
        while let Ok(None) = find_end(&bytes, seen, limits) {
            seen = bytes.len();
            bytes.reserve(READ_SIZE);
            if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                break;
            }
        }
    };
    let _ = timeout(CLOSE_TIMEOUT, read).await;
    bytes.starts_with(b"HEAD ")
}

/// Answers with the rejection and `headers`, to a HEAD without the body, and closes.
pub(super) async fn refuse(
    mut stream: Box<dyn ByteStream>,
    rejection: &Rejection,
    head_only: bool,
    headers: &[(String, String)],
) {
    let Rejection { status, message, .. } = rejection;
    let extra = match status {
        401 => "WWW-Authenticate: Basic realm=\"sql-exporter\", charset=\"UTF-8\"\r\n",
        503 => "Retry-After: 1\r\n",
        _ => "",
    };
    let mut answer = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n{extra}{}\r\n",
        reason_phrase(*status),
        message.len() + 1,
        header_lines(headers)
    );
    if !head_only {
        answer.extend([message, "\n"]);
    }
    if timeout(CLOSE_TIMEOUT, stream.write_all(answer.as_bytes())).await.is_ok_and(|written| written.is_ok())
    {
        close(stream).await;
    }
}

/// Closes our direction and waits a moment for the client to close the other: a socket closed over unread bytes is
/// reset, and the reset may overtake the answer.
async fn close(mut stream: Box<dyn ByteStream>) {
    let drained = async {
        stream.shutdown().await?;
        // Not in the future itself: each connection's would have this size all its life.
        let mut discarded = vec![0; 4096];
        let mut total = 0;
        while total < MAX_DISCARDED {
            match stream.read(&mut discarded).await? {
                0 => break,
                read => total += read,
            }
        }
        std::io::Result::Ok(())
    };
    let _ = timeout(CLOSE_TIMEOUT, drained).await;
}
