//! The private socket between gate and tiny_http: a Unix socket in a folder that only this user can enter, or, where
//! no folder can be written, a loopback port guarded by the token of the private header.

use std::fs::DirBuilder;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::private::random_hex;
use crate::error::{Error, Result};

/// Where tiny_http listens.
#[derive(Debug)]
pub(super) enum Door {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// Both directions of a connection.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

impl Door {
    /// Takes the socket and its folder out of the file system.
    pub(super) fn remove(&self) {
        if let Door::Unix(path) = self {
            let _ = std::fs::remove_file(path);
            let _ = path.parent().map(std::fs::remove_dir);
        }
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Wire>> {
        Ok(match self {
            Door::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Door::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }
}

/// A folder that goes away with its owner.
pub(super) struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A listener for tiny_http and the way to it.
pub(super) struct Private {
    pub(super) listener: tiny_http::Listener,
    pub(super) door: Door,
    pub(super) folder: Option<Folder>,
}

/// More than requests can be under way, so that no connect finds the queue full.
const BACKLOG: i32 = 4096;

/// Where a private folder may be made, the better first: containers often have a root that cannot be written, but
/// this one.
pub(super) fn folders() -> Vec<PathBuf> {
    vec![std::env::temp_dir(), PathBuf::from("/dev/shm")]
}

/// Opens a private socket in the first of `folders` that lets us, else on a loopback port.
///
/// # Errors
/// Neither is possible: the descriptors are used up.
pub(super) fn private(folders: &[PathBuf]) -> Result<Private> {
    if let Some(private) = folders.iter().find_map(|folder| in_folder(folder).ok()) {
        return Ok(private);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let found = listener.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    let (listener, address) =
        found.map_err(|error| Error::machine(format!("cannot open a private socket: {error}")))?;
    Ok(Private { listener: listener.into(), door: Door::Tcp(address), folder: None })
}

fn in_folder(parent: &Path) -> io::Result<Private> {
    let name = random_hex().map_err(io::Error::other)?;
    let path = parent.join(format!("sql-exporter-{name}"));
    DirBuilder::new().mode(0o700).create(&path)?;
    let folder = Folder(path);
    let path = folder.0.join("s");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(&path)?)?;
    socket.listen(BACKLOG)?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    Ok(Private { listener: listener.into(), door: Door::Unix(path), folder: Some(folder) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_socket_lies_in_a_folder_that_nobody_else_enters_and_goes_with_its_owner() {
        let private = private(&folders()).unwrap();
        let Door::Unix(path) = &private.door else { panic!("{:?}", private.door) };
        let folder = path.parent().unwrap().to_owned();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        private.door.remove();
        drop(private);
        assert!(!folder.exists());
    }

    #[test]
    fn without_a_folder_it_is_a_loopback_port() {
        let Door::Tcp(address) = private(&["/nonexistent".into()]).unwrap().door else { panic!("a folder") };
        assert!(address.ip().is_loopback());
    }
}
