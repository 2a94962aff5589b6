//! `exporter.http`: what bounds the clients of the public sockets.

use std::time::Duration;

/// The limits of DESIGN 6's last paragraph; `hosts` is none of the gate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; beyond, one that is not served closes, then 503. A few more are for probes.
    pub max_connections: usize,
    /// Per peer address; 0 = off.
    pub max_connections_per_address: usize,
    /// Bytes of a request head.
    pub max_head_bytes: usize,
    /// Header lines of a request head.
    pub max_header_lines: usize,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// For a whole answer.
    pub write_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// Bytes of answers that are made or not yet read by their clients; beyond, 503.
    pub max_inflight_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 256,
            max_connections_per_address: 0,
            max_head_bytes: 16 << 10,
            max_header_lines: 100,
            head_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            max_inflight_bytes: 256 << 20,
        }
    }
}
