//! The private header from the gate to the backend: what the gate knows of a request, and the proof that it comes from
//! the gate of this process.
//!
//! The gate drops every header that a client sends under this name or one that begins with it, so none can be forged.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::server::Peer;

/// The header's name, in lower case.
const NAME: &str = "x-sql-exporter-gate";

/// The secret that the gate and the backend of this process share.
pub(in crate::server) struct GateToken {
    token: String,
    /// Instants travel as nanoseconds since this one.
    epoch: Instant,
}

/// What the gate knows of a request.
pub(in crate::server) struct RequestFacts {
    pub(in crate::server) peer: Peer,
    pub(in crate::server) received: Instant,
    /// The client has logged in or has shown a certificate.
    pub(in crate::server) authenticated: bool,
    pub(in crate::server) over_tls: bool,
}

impl GateToken {
    pub(super) fn new() -> Result<Self> {
        Ok(GateToken { token: random_hex()?, epoch: Instant::now() })
    }

    /// The private header line.
    pub(in crate::server) fn header_line(&self, facts: &RequestFacts) -> String {
        let nanos = facts.received.saturating_duration_since(self.epoch).as_nanos();
        let peer = match facts.peer {
            Peer::Address(address) => address.to_string(),
            Peer::Unix => "unix".to_owned(),
        };
        let RequestFacts { authenticated, over_tls, .. } = facts;
        format!("{NAME}: {} {nanos} {peer} {authenticated} {over_tls}\r\n", self.token)
    }

    /// Reads the value of what [`GateToken::header_line`] wrote; `None` for a request that is not from our gate.
    pub(super) fn read(&self, value: &str) -> Option<RequestFacts> {
        let mut words = value.strip_prefix(&self.token)?.split(' ').skip(1);
        let (nanos, peer) = (words.next()?.parse().ok()?, words.next()?);
        Some(RequestFacts {
            received: self.epoch.checked_add(Duration::from_nanos(nanos))?,
            peer: if peer == "unix" { Peer::Unix } else { Peer::Address(peer.parse::<IpAddr>().ok()?) },
            authenticated: words.next()?.parse().ok()?,
            over_tls: words.next()?.parse().ok()?,
        })
    }
}

/// True for a name that only the gate may use.
pub(in crate::server) fn is_private(name: &str) -> bool {
    name.as_bytes().get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME.as_bytes()))
}

/// 128 random bits as hexadecimal digits.
///
/// # Errors
/// The system has no random bytes.
pub(super) fn random_hex() -> Result<String> {
    let bytes: [u8; 16] = ring::rand::generate(&ring::rand::SystemRandom::new())
        .map_err(|_| Error::machine("the system provides no random bytes"))?
        .expose();
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
