//! The private socket between gate and tiny_http: a Unix socket that no path leads to, or, where that cannot be, a
//! loopback port guarded by the token of the private header.
//!
//! The socket is made in a folder that only this user can enter; folder and name are removed at once, and the gate
//! connects through the file it holds open (`/proc/self/fd`). So nothing is left behind, whatever ends the process.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::private_headers::random_hex;
use crate::error::{Error, Result};

/// Where tiny_http listens.
#[derive(Debug)]
pub(crate) enum Door {
    /// The socket, held open, and the path that leads to it from here alone.
    Unix { path: PathBuf, _socket: File },
    /// A loopback port.
    Tcp(SocketAddr),
}

/// Both directions of a connection.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

impl Door {
    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Wire>> {
        Ok(match self {
            Door::Unix { path, .. } => Box::new(UnixStream::connect(path).await?),
            Door::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }
}

/// The server is dropped before its door and waits in `accept`; it cannot wake itself up, as the name is gone.
impl Drop for Door {
    fn drop(&mut self) {
        if let Door::Unix { path, .. } = self {
            let _ = std::os::unix::net::UnixStream::connect(path);
        }
    }
}

/// A listener for tiny_http and the way to it.
pub(crate) struct Private {
    pub(crate) listener: tiny_http::Listener,
    pub(crate) door: Door,
}

/// More than requests can be under way, so that no connect finds the queue full.
const BACKLOG: i32 = 4096;

/// Where a private folder may be made, the better first: containers often have a root that cannot be written, but
/// this one.
pub(crate) fn folders() -> Vec<PathBuf> {
    vec![std::env::temp_dir(), PathBuf::from("/dev/shm")]
}

/// Opens a private socket in the first of `folders` that lets us, else on a loopback port.
///
/// # Errors
/// Neither is possible: the descriptors are used up.
pub(crate) fn private(folders: &[PathBuf]) -> Result<Private> {
    if let Some(private) = folders.iter().find_map(|folder| in_folder(folder).ok()) {
        return Ok(private);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let found = listener.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    let (listener, address) =
        found.map_err(|error| Error::machine(format!("cannot open a private socket: {error}")))?;
    Ok(Private { listener: listener.into(), door: Door::Tcp(address) })
}

fn in_folder(parent: &Path) -> io::Result<Private> {
    let name = random_hex().map_err(io::Error::other)?;
    let folder = parent.join(format!("sql-exporter-{name}"));
    DirBuilder::new().mode(0o700).create(&folder)?;
    let path = folder.join("s");
    let opened = listen(&path);
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_dir(&folder);
    opened
}

fn listen(path: &Path) -> io::Result<Private> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    let held = OpenOptions::new().read(true).custom_flags(O_PATH).open(path)?;
    let through = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    // Without `/proc` this fails, and a port it is.
    through.metadata()?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    Ok(Private { listener: listener.into(), door: Door::Unix { path: through, _socket: held } })
}

/// Linux: a file as a place only, which is the one way to open a socket's.
const O_PATH: i32 = 0o10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_reached_though_no_name_leads_to_it() {
        let parent = tempfile::tempdir().unwrap();
        let private = private(&[parent.path().to_owned()]).unwrap();
        let Door::Unix { path, .. } = &private.door else { panic!("{:?}", private.door) };
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
        std::os::unix::net::UnixStream::connect(path).unwrap();
    }

    #[test]
    fn without_a_folder_it_is_a_loopback_port() {
        let Door::Tcp(address) = private(&["/nonexistent".into()]).unwrap().door else { panic!("a folder") };
        assert!(address.ip().is_loopback());
    }
}
