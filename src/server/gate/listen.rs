//! The public sockets: TCP on one family or both, Unix. Opening them is where most first starts fail, so each error
//! says what to change.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::listen::ListenAddress;
use crate::error::{Error, Result};
use crate::server::Peer;
use crate::server::backend::socket::Wire;

/// Connections that wait to be accepted; the kernel lowers it to its own bound.
const BACKLOG: i32 = 1024;

/// A public socket that listens already.
pub(crate) struct Listener {
    /// The address as users write it.
    pub(super) shown: String,
    /// A Unix socket's path, to be removed at the end.
    pub(super) path: Option<PathBuf>,
    pub(super) door: Closed,
}

/// Listens; nobody accepts yet.
pub(super) enum Closed {
    Tcp(Socket),
    Unix(Socket),
}

/// Accepts.
pub(super) enum Open {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Opens the socket. `scheme` is how its address is shown.
    ///
    /// # Errors
    /// In use, privileged, not an address of this machine: each with what to change.
    pub(crate) fn bind(listen: &ListenAddress, scheme: &str) -> Result<Self> {
        match listen {
            ListenAddress::AnyAddress(port) => {
                let both = tcp((Ipv6Addr::UNSPECIFIED, *port).into());
                let no_ipv6 = |error: &io::Error| {
                    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
                        || error.raw_os_error() == Some(NO_FAMILY)
                };
                let socket = match both {
                    Err(error) if no_ipv6(&error) => tcp((Ipv4Addr::UNSPECIFIED, *port).into()),
                    other => other,
                };
                Self::over_tcp(socket, &format!(":{port}"), scheme)
            }
            ListenAddress::Tcp(address) => Self::over_tcp(tcp(*address), &address.to_string(), scheme),
            ListenAddress::Unix(path) => unix(path).map_err(|error| unix_refused(path, &error)),
        }
    }

    fn over_tcp(socket: io::Result<Socket>, wanted: &str, scheme: &str) -> Result<Self> {
        let found = socket.and_then(|socket| socket.local_addr().map(|address| (socket, address)));
        let (socket, address) = found.map_err(|error| tcp_refused(wanted, &error))?;
        let shown = address.as_socket().map_or_else(|| wanted.to_owned(), |address| address.to_string());
        Ok(Listener { shown: format!("{scheme}://{shown}"), path: None, door: Closed::Tcp(socket) })
    }
}

/// `EAFNOSUPPORT`, for which `ErrorKind` has no stable word; 97 on Linux.
const NO_FAMILY: i32 = 97;

fn tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn tcp_refused(wanted: &str, error: &io::Error) -> Error {
    let (what, hint) = match error.kind() {
        ErrorKind::AddrInUse => (
            "the port is in use".to_owned(),
            "stop the process that holds it, or choose another port with --listen or exporter.listen",
        ),
        ErrorKind::PermissionDenied => {
            ("the port is privileged".to_owned(), "choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE")
        }
        ErrorKind::AddrNotAvailable => (
            "this machine does not have the address".to_owned(),
            "listen on an address of this machine, or on :PORT for all of them",
        ),
        _ => (error.to_string(), "check --listen and exporter.listen"),
    };
    Error::machine(format!("cannot listen on {wanted}: {what}")).with_hint(hint)
}

fn unix(path: &Path) -> io::Result<Listener> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    let shown = format!("unix:{}", path.display());
    Ok(Listener { shown, path: Some(path.to_owned()), door: Closed::Unix(socket) })
}

/// A socket file that nobody listens on is left over from a process that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(file) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let abandoned = file.file_type().is_socket()
        && std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    if abandoned { std::fs::remove_file(path) } else { Ok(()) }
}

fn unix_refused(path: &Path, error: &io::Error) -> Error {
    let (what, hint) = match error.kind() {
        ErrorKind::AddrInUse => (
            "a process listens there, or it is not a socket".to_owned(),
            "choose another path or remove the file",
        ),
        ErrorKind::PermissionDenied => {
            ("permission denied".to_owned(), "choose a folder that this user may write to")
        }
        ErrorKind::NotFound => ("the folder does not exist".to_owned(), "create it, or choose another path"),
        ErrorKind::InvalidInput => {
            ("the path is too long for a Unix socket".to_owned(), "choose one of at most 107 bytes")
        }
        _ => (error.to_string(), "check --listen and exporter.listen"),
    };
    Error::machine(format!("cannot listen on unix:{}: {what}", path.display())).with_hint(hint)
}

impl Closed {
    /// Hands the socket to the runtime that is entered.
    pub(super) fn open(self) -> io::Result<Open> {
        Ok(match self {
            Closed::Tcp(socket) => Open::Tcp(TcpListener::from_std(socket.into())?),
            Closed::Unix(socket) => Open::Unix(UnixListener::from_std(socket.into())?),
        })
    }
}

impl Open {
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Wire>, Peer)> {
        Ok(match self {
            Open::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // 20 KB take 44 ms without it: the last small segment waits for the client's delayed ACK. A client
                // that is gone already is found out at the first read.
                let _ = stream.set_nodelay(true);
                (Box::new(stream), Peer::Address(address.ip().to_canonical()))
            }
            Open::Unix(listener) => (Box::new(listener.accept().await?.0), Peer::Unix),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privileged_port_is_said_to_be_one() {
        let error = tcp_refused(":80", &ErrorKind::PermissionDenied.into());
        let expected = "cannot listen on :80: the port is privileged; choose a port from 1024 up, or grant \
                        CAP_NET_BIND_SERVICE";
        assert_eq!(error.to_string(), expected);
    }
}
