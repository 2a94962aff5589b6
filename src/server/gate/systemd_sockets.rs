//! The sockets that systemd has opened for this process, of which `LISTEN_FDS` tells the number (socket activation).

use std::io;
use std::os::fd::IntoRawFd as _;

use listenfd::ListenFd;
use socket2::Socket;

use crate::error::{Error, Result};

/// Takes all of them, once: a configuration with `systemd` twice does not load. They listen already, and no child process
/// inherits them.
///
/// # Errors
/// There is none, or one is not a socket that listens.
pub(super) fn take() -> Result<Vec<Socket>> {
    let failed = |what: &str, hint: &str| {
        Error::machine(format!("cannot listen on systemd's sockets: {what}")).with_hint(hint)
    };
    let mut passed = ListenFd::from_env();
    let sockets = (0..passed.len()).map(|index| take_one(&mut passed, index)).collect::<io::Result<Vec<_>>>();
    let sockets = sockets.map_err(|error| {
        failed(&error.to_string(), "use ListenStream= and leave out Accept= in the socket unit")
    })?;
    if sockets.is_empty() {
        let hint = "start the exporter by a socket unit (sql-exporter.socket), or listen on :9399";
        return Err(failed("it has passed none", hint));
    }
    Ok(sockets)
}

/// The usual mistake beside a socket unit: its port is in use then, by systemd.
pub(in crate::server) fn warn_of_unused() {
    // None is closed.
    let count = ListenFd::from_env().len();
    if count > 0 {
        log::warn!(
            "systemd has passed sockets ({count}), which are not used: write `listen: systemd` to serve on them"
        );
    }
}

fn take_one(passed: &mut ListenFd, index: usize) -> io::Result<Socket> {
    // A socket of another kind stays where it is.
    let tcp = passed.take_tcp_listener(index).ok().flatten().map(Socket::from);
    let unix = || passed.take_unix_listener(index).map(|unix| unix.map(Socket::from));
    let socket = tcp.map_or_else(unix, |tcp| Ok(Some(tcp)))?.ok_or(io::ErrorKind::NotFound)?;
    if !socket.is_listener()? {
        // It stays open: where `LISTEN_FDS` is too large, it is a descriptor of our own.
        let _ = socket.into_raw_fd();
        return Err(io::Error::other("a socket is a connection"));
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
