//! Connections between gate and tiny_http: kept ones, which wait for the next request, and passing ones for one request.
//!
//! tiny_http gives each connection a thread until it ends, and its pool may queue two new connections for one free
//! thread: behind a kept one the other would wait for ever. So a kept one counts only once it was answered, and while
//! it waits for that no other is opened: a connection opened before it is served before it, as its one request ends it
//! when it was read, and one opened after it finds the pool's count of free threads right.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BufMut as _;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::RwLock;
use tokio::time::timeout;

use super::socket::{Door, Wire};

/// Connections that are kept: what a Prometheus or two and somebody at the status page need. Each holds a thread of
/// tiny_http's, which has four at least: one is left for others.
pub(crate) const KEPT: usize = 3;
/// A request that is no one's: the backend answers 403 as soon as it has a thread for it.
const HELLO: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
/// The answer to it is on its way after some 100 µs; without one after this, the trunk is given up.
const PATIENCE: Duration = Duration::from_millis(500);
/// A thread that does nothing needs no more than this.
const TRIED_STACK: usize = 64 << 10;
/// What an answer is copied through.
const CHUNK: usize = 64 << 10;
/// Room beside that for what the gate adds to an answer's head.
const MARGIN: usize = 2 << 10;

/// One connection to tiny_http.
pub(crate) struct Trunk {
    pub(crate) wire: Box<dyn Wire>,
    /// For what is copied. Empty at first.
    pub(crate) buffer: Vec<u8>,
    place: Option<Place>,
}

impl Trunk {
    fn new(wire: Box<dyn Wire>) -> Self {
        Trunk { wire, buffer: Vec::with_capacity(CHUNK + MARGIN), place: None }
    }

    /// Reads what is there into the buffer, 64 KiB at most in all. Gives the number of bytes, 0 at the end.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn read(&mut self) -> io::Result<usize> {
        let room = CHUNK.saturating_sub(self.buffer.len());
        self.wire.read_buf(&mut (&mut self.buffer).limit(room)).await
    }

    /// It stays open after this request, if all of the answer is read.
    pub(crate) fn is_kept(&self) -> bool {
        self.place.is_some()
    }
}

/// One of the places for kept trunks.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All trunks to one server.
pub(crate) struct Trunks {
    // Dropped in this order: the trunks before the door behind which the server waits.
    waiting: Mutex<Vec<Trunk>>,
    door: Door,
    places: Arc<AtomicUsize>,
    opening: RwLock<()>,
}

impl Trunks {
    pub(crate) fn new(door: Door) -> Self {
        Trunks { waiting: Mutex::default(), door, places: Arc::default(), opening: RwLock::default() }
    }

    /// A trunk for one request, the one that was used last if there is one: its thread is the warmest.
    ///
    /// # Errors
    /// The server is dead (`ConnectionRefused`, `NotFound`), or there is no descriptor left.
    pub(crate) async fn take(&self) -> io::Result<Trunk> {
        if let Some(trunk) = self.waiting.lock().pop() {
            return Ok(trunk);
        }
        if let Some(place) = self.place() {
            let _alone = self.opening.write().await;
            let mut trunk = Trunk::new(self.door.connect().await?);
            if matches!(timeout(PATIENCE, greet(&mut trunk)).await, Ok(Ok(()))) {
                trunk.place = Some(place);
                return Ok(trunk);
            }
        }
        self.passing().await
    }

    /// A trunk for one request only, which says so.
    ///
    /// # Errors
    /// As [`Trunks::take`]; there is no thread for it.
    pub(crate) async fn passing(&self) -> io::Result<Trunk> {
        thread_is_given()?;
        let _together = self.opening.read().await;
        self.door.connect().await.map(Trunk::new)
    }

    /// Takes a kept trunk back whose answer was read to its end; any other is closed.
    pub(crate) fn give_back(&self, mut trunk: Trunk) {
        if trunk.is_kept() {
            trunk.buffer.clear();
            self.waiting.lock().push(trunk);
        }
    }

    /// Kept trunks that wait, and all that there are.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> (usize, usize) {
        (self.waiting.lock().len(), self.places.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    fn place(&self) -> Option<Place> {
        if self.places.fetch_add(1, Ordering::Relaxed) >= KEPT {
            self.places.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place(Arc::clone(&self.places)))
    }
}

/// Whether the system gives a thread: tiny_http starts one for a connection where none of its own is free, and all of it
/// dies where it gets none.
pub(crate) fn thread_is_given() -> io::Result<()> {
    std::thread::Builder::new().name("given".to_owned()).stack_size(TRIED_STACK).spawn(|| ()).map(drop)
}

/// Waits until a thread has this connection: it has answered, without a body.
async fn greet(trunk: &mut Trunk) -> io::Result<()> {
    trunk.wire.write_all(HELLO).await?;
    while !trunk.buffer.ends_with(b"\r\n\r\n") {
        if trunk.read().await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    trunk.buffer.clear();
    Ok(())
}
