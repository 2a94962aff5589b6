//! One public connection: reads heads, has each request relayed, and closes in good order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::time::{timeout, timeout_at};

use super::connections::Ticket;
use super::head::{Fault, Head, Scanner};
use super::refusal;
use super::relay::{Order, Outcome, relay};
use super::web_config_store::WebConfig;
use super::{FULL, Shared};
use crate::deadline::Deadline;
use crate::server::Peer;
use crate::server::backend::private_headers::Facts;
use crate::server::backend::socket::Wire;

/// Room for a usual head; grown by as much when one needs more.
const READ: usize = 1024;

/// For a head on a connection in reserve.
const RESERVED_TIME: Duration = Duration::from_secs(1);

const SLOW: Fault = Fault::new(408, "head_timeout", "the request head took too long");

/// A connection that was admitted.
pub(super) struct Connection {
    stream: Box<dyn Wire>,
    peer: Peer,
    /// It has shown a certificate.
    known: bool,
    /// What has arrived and was not served yet: the start of a head, or pipelined requests.
    bytes: Vec<u8>,
    ticket: Ticket,
    /// The place is one in reserve: it is for one request of a probe.
    is_reserved: bool,
    shared: Arc<Shared>,
}

impl Connection {
    /// `known`: the client has shown a certificate.
    pub(super) fn new(
        stream: Box<dyn Wire>,
        peer: Peer,
        known: bool,
        ticket: Ticket,
        shared: Arc<Shared>,
    ) -> Self {
        let is_reserved = ticket.is_reserved();
        Connection { stream, peer, known, bytes: Vec::new(), ticket, is_reserved, shared }
    }

    /// Serves requests in order until one side is done.
    pub(super) async fn serve(mut self) {
        loop {
            let (order, web) = match self.order().await {
                Ok(Some(order)) => order,
                Ok(None) => return,
                Err(fault) => {
                    let head_only = self.bytes.starts_with(b"HEAD ");
                    return self.refuse(&fault, head_only).await;
                }
            };
            match relay(&mut self.stream, &order, &web.headers, &self.shared).await {
                Outcome::Stays => {}
                Outcome::Closes => {
                    self.ticket.idle();
                    return refusal::linger(self.stream).await;
                }
                Outcome::Broken(fault) => return fault.iter().for_each(|fault| self.shared.reject(fault)),
                Outcome::Failed(fault) => return self.refuse(&fault, order.head_only()).await,
            }
        }
    }

    async fn refuse(self, fault: &Fault, head_only: bool) {
        self.shared.reject(fault);
        self.ticket.idle();
        refusal::refuse(self.stream, fault, head_only, &self.shared.door.known().headers).await;
    }

    /// The next request, of somebody who may ask. `None`: the client left, or was idle too long.
    async fn order(&mut self) -> Result<Option<(Order, Arc<WebConfig>)>, Fault> {
        let Some(end) = self.head().await? else { return Ok(None) };
        let received = Instant::now();
        let web = self.shared.door.now().await;
        let head = Head::parse(self.bytes.get(..end).unwrap_or_default())?;
        let path = head.target.split('?').next().unwrap_or_default();
        let logged_in = !web.users.is_empty() && !self.shared.is_open(path);
        // A place in reserve is for a probe; for others where a usual place has come free meanwhile.
        let is_reserved = self.is_reserved && !self.ticket.promote();
        if is_reserved && !self.shared.is_open(path) {
            return Err(FULL);
        }
        if logged_in {
            self.shared.guard.admit(&web.users, head.header("authorization"), self.peer).await?;
        }
        let (known, secure) = (self.known || logged_in, web.tls.is_some());
        let facts = Facts { peer: self.peer, received, known, secure };
        let keep_alive = head.keep_alive && !is_reserved;
        let order = Order::of(&head, keep_alive, &facts, &self.shared.backend.pass);
        self.bytes.drain(..end);
        self.is_reserved = is_reserved;
        Ok(Some((order, web)))
    }

    /// How long the client may take; in reserve, where others wait, not for long.
    fn patience(&self, usual: Duration) -> Duration {
        if self.is_reserved { usual.min(RESERVED_TIME) } else { usual }
    }

    /// Reads until a whole head has arrived and gives its end.
    async fn head(&mut self) -> Result<Option<usize>, Fault> {
        let limits = &self.shared.limits;
        if self.bytes.is_empty() {
            self.ticket.idle();
            self.bytes = Vec::with_capacity(READ);
            let time = self.patience(limits.idle_timeout);
            match timeout(time, self.stream.read_buf(&mut self.bytes)).await {
                Ok(Ok(1..)) => {}
                Err(_) if self.is_reserved => return Err(FULL),
                _ => return Ok(None),
            }
        }
        self.ticket.arriving();
        let by = Deadline::within(self.patience(limits.head_timeout)).moment().into();
        let mut scanner = Scanner::default();
        loop {
            if let Some(end) = scanner.advance(&self.bytes, limits)? {
                self.ticket.served();
                return Ok(Some(end));
            }
            self.bytes.reserve(READ);
            match timeout_at(by, self.stream.read_buf(&mut self.bytes)).await {
                Err(_) if self.is_reserved => return Err(FULL),
                Err(_) => return Err(SLOW),
                Ok(Ok(1..)) => {}
                Ok(_) => return Ok(None),
            }
        }
    }
}
