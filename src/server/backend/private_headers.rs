//! The private headers between gate and backend: who asks, since when, and the proof that it is the gate that says so.
//!
//! The gate drops every header with [`PREFIX`] that a client sends, so none can be forged.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::server::Peer;

/// Starts the name of every private header, in lower case.
pub(crate) const PREFIX: &str = "x-sql-exporter-gate-";

/// What only the gate and the backend of this process know.
pub(crate) struct Pass {
    token: String,
    epoch: Instant,
}

/// What the private headers say.
pub(crate) struct Facts {
    pub(crate) peer: Peer,
    pub(crate) received: Instant,
    /// The gate knows who it is: a login, or a certificate.
    pub(crate) known: bool,
    /// It came over TLS.
    pub(crate) secure: bool,
}

impl Pass {
    pub(crate) fn new() -> Result<Self> {
        Ok(Pass { token: random_hex()?, epoch: Instant::now() })
    }

    /// Appends the private header line: token, nanoseconds since the epoch, peer, known or not, TLS or not.
    pub(crate) fn write(&self, facts: &Facts, out: &mut Vec<u8>) {
        let nanos = facts.received.saturating_duration_since(self.epoch).as_nanos();
        let peer = match facts.peer {
            Peer::Address(address) => address.to_string(),
            Peer::Unix => "unix".to_owned(),
        };
        let known = if facts.known { "known" } else { "stranger" };
        let over = if facts.secure { "tls" } else { "plain" };
        out.extend_from_slice(
            format!("{PREFIX}pass: {} {nanos} {peer} {known} {over}\r\n", self.token).as_bytes(),
        );
    }

    /// Reads what [`Pass::write`] wrote. `None`: this did not come from our gate.
    pub(crate) fn read(&self, value: &str) -> Option<Facts> {
        let mut words = value.split(' ');
        let (token, nanos, peer, known) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let over = words.next()?;
        if token != self.token {
            return None;
        }
        let received = self.epoch.checked_add(Duration::from_nanos(nanos.parse().ok()?))?;
        let peer = if peer == "unix" { Peer::Unix } else { Peer::Address(peer.parse::<IpAddr>().ok()?) };
        Some(Facts { peer, received, known: known == "known", secure: over == "tls" })
    }
}

/// The name of the one private header.
pub(crate) fn is_pass(name: &str) -> bool {
    name.len() == PREFIX.len() + 4 && name.ends_with("pass") && is_private(name)
}

/// True for names that only the gate may use.
pub(crate) fn is_private(name: &str) -> bool {
    name.as_bytes().get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

/// 128 random bits as hexadecimal digits.
///
/// # Errors
/// The machine has no randomness to give.
pub(crate) fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Error::machine("the system gives no random bytes"))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
