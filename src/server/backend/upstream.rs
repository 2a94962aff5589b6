//! The private socket between the gate and tiny_http: a Unix socket that no path leads to, or, where that is impossible,
//! a loopback port guarded by the token of the private header.
//!
//! The socket is made in a folder that only this user can enter. Folder and name are removed at once, and the gate
//! connects through the file that it holds open (`/proc/self/fd`), so nothing is left behind, however the process ends.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BufMut as _;
use nix::libc::O_PATH;
use parking_lot::Mutex;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::private_header::random_hex;
use crate::error::{Error, Result};

/// Threads that tiny_http always has.
const TINY_HTTP_THREADS: usize = 4;
/// One thread is left for the connections that are not kept.
const MAX_KEPT_CONNECTIONS: usize = TINY_HTTP_THREADS - 1;
/// Enough for a thread that does nothing.
const PROBE_STACK: usize = 64 << 10;
/// What an answer is copied through.
const CHUNK: usize = 64 << 10;
/// Space beside that for what the gate adds to an answer's head.
const ADDED_HEADERS: usize = 2 << 10;
/// More than requests can be under way, so that no connect finds the queue full.
const BACKLOG: i32 = 4096;

/// Both directions of a connection.
pub(in crate::server) trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// Where tiny_http listens.
#[derive(Debug)]
pub(super) enum UpstreamAddr {
    /// The socket, held open, and the path that leads to it in this process only.
    Unix { path: PathBuf, _socket: File },
    /// A loopback port.
    Tcp(SocketAddr),
}

/// tiny_http is dropped before its address, while it waits in `accept`. It cannot wake itself up, as the name is gone.
impl Drop for UpstreamAddr {
    fn drop(&mut self) {
        if let UpstreamAddr::Unix { path, .. } = self {
            let _ = std::os::unix::net::UnixStream::connect(path);
        }
    }
}

/// Connections to tiny_http: kept ones, which wait for the next request, and others for one request only. A kept one
/// saves a twelfth of the CPU time of a small scrape.
///
/// tiny_http has a thread per connection until that ends. It may queue two new connections for one thread that is free,
/// so fewer are kept than it always has threads: one thread is left, which the others take in turn.
pub(super) struct Upstream {
    // Dropped in this order: dropping the address wakes the server up.
    idle: Mutex<Vec<UpstreamConnection>>,
    addr: UpstreamAddr,
    /// One permit for each connection that is kept.
    places: Arc<Semaphore>,
    /// One permit for each thread that tiny_http has without starting one.
    threads: Arc<Semaphore>,
}

/// One connection to tiny_http.
pub(in crate::server) struct UpstreamConnection {
    pub(in crate::server) stream: Box<dyn ByteStream>,
    /// What is copied. Empty at first.
    pub(in crate::server) buffer: Vec<u8>,
    place: Option<OwnedSemaphorePermit>,
    _thread: Option<OwnedSemaphorePermit>,
}

impl Upstream {
    pub(super) fn new(addr: UpstreamAddr) -> Self {
        let places = Arc::new(Semaphore::new(MAX_KEPT_CONNECTIONS));
        let threads = Arc::new(Semaphore::new(TINY_HTTP_THREADS));
        Upstream { idle: Mutex::default(), addr, places, threads }
    }

    /// The kept connection that was used last, if one is idle: its thread is the warmest. Else a new one.
    ///
    /// # Errors
    /// The server is dead (`ConnectionRefused`, `NotFound`); there is no descriptor left, or no thread.
    pub(super) async fn connect(&self) -> io::Result<UpstreamConnection> {
        if let Some(connection) = self.idle.lock().pop() {
            return Ok(connection);
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        Ok(UpstreamConnection { place, ..self.connect_once().await? })
    }

    /// A new connection for one request.
    ///
    /// # Errors
    /// As [`Upstream::connect`].
    pub(super) async fn connect_once(&self) -> io::Result<UpstreamConnection> {
        let thread = Arc::clone(&self.threads).try_acquire_owned().ok();
        if thread.is_none() {
            probe_thread()?;
        }
        let stream: Box<dyn ByteStream> = match &self.addr {
            UpstreamAddr::Unix { path, .. } => Box::new(UnixStream::connect(path).await?),
            UpstreamAddr::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        let buffer = Vec::with_capacity(CHUNK + ADDED_HEADERS);
        Ok(UpstreamConnection { stream, buffer, place: None, _thread: thread })
    }

    /// Keeps a connection whose answer was read to its end; one for a single request is closed.
    pub(super) fn give_back(&self, mut connection: UpstreamConnection) {
        if connection.is_kept() {
            connection.buffer.clear();
            self.idle.lock().push(connection);
        }
    }

    #[cfg(test)]
    pub(super) fn addr(&self) -> &UpstreamAddr {
        &self.addr
    }

    /// Connections that are kept and idle, and all that are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.idle.lock().len(), MAX_KEPT_CONNECTIONS - self.places.available_permits())
    }
}

impl UpstreamConnection {
    /// It stays open after this request.
    pub(in crate::server) fn is_kept(&self) -> bool {
        self.place.is_some()
    }

    /// Reads what is there into the buffer, 64 KiB at most in all. Returns the number of bytes, 0 at the end.
    ///
    /// # Errors
    /// The connection broke.
    pub(in crate::server) async fn read(&mut self) -> io::Result<usize> {
        let free = CHUNK.saturating_sub(self.buffer.len());
        self.stream.read_buf(&mut (&mut self.buffer).limit(free)).await
    }

    /// Closes a connection whose answer nobody reads. Its place is free when tiny_http's thread is: not before the
    /// answer is made.
    pub(in crate::server) fn abandon(mut self) {
        if self.is_kept() {
            tokio::spawn(async move {
                let _ = self.stream.shutdown().await;
                while self.read().await.is_ok_and(|count| count > 0) {
                    self.buffer.clear();
                }
            });
        }
    }
}

/// Fails where the system provides no thread: tiny_http starts one for a connection when none of its own is free, and
/// all of it dies where that fails.
///
/// # Errors
/// As the system says.
pub(super) fn probe_thread() -> io::Result<()> {
    std::thread::Builder::new().name("probe".to_owned()).stack_size(PROBE_STACK).spawn(|| ()).map(drop)
}

/// Where a private folder may be made, the better one first: in many containers the root file system is read-only, but
/// this one is not.
pub(in crate::server) fn private_folders() -> Vec<PathBuf> {
    vec![std::env::temp_dir(), PathBuf::from("/dev/shm")]
}

/// Opens a private socket in the first of `folders` that allows it, else on a loopback port.
///
/// # Errors
/// Neither is possible: the descriptors are used up.
pub(super) fn listen(folders: &[PathBuf]) -> Result<(tiny_http::Listener, UpstreamAddr)> {
    if let Some(opened) = folders.iter().find_map(|folder| listen_below(folder).ok()) {
        return Ok(opened);
    }
    let on_loopback = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        Ok((listener.into(), UpstreamAddr::Tcp(address)))
    };
    on_loopback().map_err(|error: io::Error| Error::machine(format!("cannot open a private socket: {error}")))
}

fn listen_below(parent: &Path) -> io::Result<(tiny_http::Listener, UpstreamAddr)> {
    let name = random_hex().map_err(io::Error::other)?;
    let folder = parent.join(format!("sql-exporter-{name}"));
    DirBuilder::new().mode(0o700).create(&folder)?;
    let path = folder.join("s");
    let opened = listen_at(&path);
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_dir(&folder);
    opened
}

fn listen_at(path: &Path) -> io::Result<(tiny_http::Listener, UpstreamAddr)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    // The one way to open a socket's file: as a location only.
    let held = OpenOptions::new().read(true).custom_flags(O_PATH).open(path)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    // Without `/proc` this fails, and a port is used.
    path.metadata()?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    Ok((listener.into(), UpstreamAddr::Unix { path, _socket: held }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_reached_though_no_name_leads_to_it() {
        let parent = tempfile::tempdir().unwrap();
        let (_listener, addr) = listen(&[parent.path().to_owned()]).unwrap();
        let UpstreamAddr::Unix { path, .. } = &addr else { panic!("{addr:?}") };
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
        std::os::unix::net::UnixStream::connect(path).unwrap();
    }

    #[test]
    fn without_a_folder_it_is_a_loopback_port() {
        let (_listener, addr) = listen(&["/nonexistent".into()]).unwrap();
        let UpstreamAddr::Tcp(address) = addr else { panic!("{addr:?}") };
        assert!(address.ip().is_loopback());
    }
}
