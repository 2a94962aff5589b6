//! Names to addresses and a TCP connection, both under a deadline.

use std::net::{SocketAddr, TcpStream};

use crate::deadline::Deadline;
use crate::error::Result;

/// Resolves `host` on a bounded set of threads; addresses in the resolver's order. An IP address needs no thread.
///
/// # Errors
/// `resolve`, when there is no address or no answer by then.
pub fn resolve(host: &str, port: u16, by: Deadline) -> Result<Vec<SocketAddr>> {
    let _ = (host, port, by);
    todo!()
}

/// Connects to the first address that answers, with `TCP_NODELAY`, keepalive 10 s/3 s/3 and `TCP_USER_TIMEOUT` 15 s.
///
/// # Errors
/// `resolve`, or `connect` with the last address's reason.
pub fn connect(host: &str, port: u16, by: Deadline) -> Result<TcpStream> {
    let _ = (host, port, by);
    todo!()
}
