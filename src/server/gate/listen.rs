//! The public sockets: TCP over one address family or both, Unix, or what systemd has opened. Opening them is where most first starts fail, so each
//! error says what to change.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use nix::libc::EAFNOSUPPORT;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::systemd_sockets;
use crate::config::listen::ListenAddress;
use crate::error::{Error, Result};
use crate::server::Peer;
use crate::server::backend::upstream::ByteStream;

/// Connections that wait to be accepted; the kernel lowers it to its own limit.
const BACKLOG: i32 = 1024;

/// A public socket that listens already.
pub(in crate::server) struct Listener {
    /// The address as users write it.
    shown: String,
    /// The path of a Unix socket that we have made, to be removed at the end.
    path: Option<PathBuf>,
    socket: Socket,
}

/// A public socket on the gate's runtime.
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Opens the socket, or takes all of systemd's. `scheme` is how addresses are shown.
    ///
    /// # Errors
    /// In use, privileged, not an address of this machine: each with what to change.
    pub(in crate::server) fn open(listen: &ListenAddress, scheme: &str) -> Result<Vec<Self>> {
        let on_tcp = |opened: io::Result<(Socket, SocketAddr)>| {
            let (socket, address) = opened.map_err(|error| tcp_error(&listen.to_string(), &error))?;
            Ok(vec![Listener { shown: format!("{scheme}://{address}"), path: None, socket }])
        };
        match listen {
            ListenAddress::AnyAddress(port) => {
                on_tcp(match bind_tcp((Ipv6Addr::UNSPECIFIED, *port).into()) {
                    Err(error) if is_without_ipv6(&error) => bind_tcp((Ipv4Addr::UNSPECIFIED, *port).into()),
                    both_families => both_families,
                })
            }
            ListenAddress::Tcp(address) => on_tcp(bind_tcp(*address)),
            ListenAddress::Unix(path) => match bind_unix(path) {
                Ok(socket) => {
                    Ok(vec![Listener { shown: listen.to_string(), path: Some(path.clone()), socket }])
                }
                Err(error) => Err(unix_error(path, &error)),
            },
            ListenAddress::Systemd => {
                let of_systemd = |socket| Listener { shown: shown(&socket, scheme), path: None, socket };
                Ok(systemd_sockets::take()?.into_iter().map(of_systemd).collect())
            }
        }
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Hands the socket to the runtime that is entered.
    pub(super) fn accept(self) -> io::Result<Acceptor> {
        Ok(match self.socket.domain()? {
            Domain::UNIX => Acceptor::Unix(UnixListener::from_std(self.socket.into())?),
            _ => Acceptor::Tcp(TcpListener::from_std(self.socket.into())?),
        })
    }
}

impl Acceptor {
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn ByteStream>, Peer)> {
        Ok(match self {
            Acceptor::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // 20 KB take 44 ms without it: the last small segment waits for the client's delayed ACK. The first
                // read shows whether the client has left already.
                let _ = stream.set_nodelay(true);
                (Box::new(stream), Peer::Address(address.ip().to_canonical()))
            }
            Acceptor::Unix(listener) => (Box::new(listener.accept().await?.0), Peer::Unix),
        })
    }
}

/// The address of a socket that we have not made.
fn shown(socket: &Socket, scheme: &str) -> String {
    let address = socket.local_addr().ok();
    match address.as_ref().map(|address| (address.as_socket(), address.as_pathname())) {
        Some((Some(address), _)) => format!("{scheme}://{address}"),
        Some((None, Some(path))) => format!("unix:{}", path.display()),
        _ => ListenAddress::Systemd.to_string(),
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
        || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn bind_tcp(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

fn bind_unix(path: &Path) -> io::Result<Socket> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// A socket file that nobody listens on is left over from a process that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(file) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let is_abandoned = file.file_type().is_socket()
        && std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    if is_abandoned { std::fs::remove_file(path) } else { Ok(()) }
}

fn tcp_error(address: &str, error: &io::Error) -> Error {
    let other = error.to_string();
    let (what, hint) = match error.kind() {
        ErrorKind::AddrInUse => (
            "the port is in use",
            "stop the process that holds it, or choose another port with --listen or exporter.listen",
        ),
        ErrorKind::PermissionDenied => {
            ("the port is privileged", "choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE")
        }
        ErrorKind::AddrNotAvailable => (
            "this machine does not have the address",
            "listen on an address of this machine, or on :PORT for all of them",
        ),
        _ => (other.as_str(), "check --listen and exporter.listen"),
    };
    Error::machine(format!("cannot listen on {address}: {what}")).with_hint(hint)
}

fn unix_error(path: &Path, error: &io::Error) -> Error {
    let other = error.to_string();
    let (what, hint) = match error.kind() {
        ErrorKind::AddrInUse => {
            ("a process listens there, or it is not a socket", "choose another path or remove the file")
        }
        ErrorKind::PermissionDenied => ("permission denied", "choose a folder that this user may write to"),
        ErrorKind::NotFound => ("the folder does not exist", "create it, or choose another path"),
        ErrorKind::InvalidInput => {
            ("the path is too long for a Unix socket", "choose one of at most 107 bytes")
        }
        _ => (other.as_str(), "check --listen and exporter.listen"),
    };
    Error::machine(format!("cannot listen on unix:{}: {what}", path.display())).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privileged_port_is_said_to_be_one() {
        let error = tcp_error(":80", &ErrorKind::PermissionDenied.into());
        let expected = "cannot listen on :80: the port is privileged; choose a port from 1024 up, or grant \
                        CAP_NET_BIND_SERVICE";
        assert_eq!(error.to_string(), expected);
    }
}
