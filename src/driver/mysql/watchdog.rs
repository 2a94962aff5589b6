//! Cuts a connection at its deadline: the `mysql` crate sets one timeout per *read* at connect, so a server that
//! sends a byte now and then would hold a query for ever, and a frozen one until that timeout.
//!
//! One thread for all MySQL sessions, started by the first armed one, gone when nothing is armed: it calls
//! `shutdown(2)` on the socket, which ends the blocked read or write at once. It knows descriptors only. The state
//! is the one static of the driver; a thread per session or target would be hundreds.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::{Condvar, Mutex};

use crate::deadline::Deadline;
use crate::error::{Error, Result};

struct Watched {
    socket: RawFd,
    at: Instant,
    struck: Arc<AtomicBool>,
}

struct Watchdog {
    armed: Vec<Watched>,
    /// When the thread looks next; `None` while there is no thread.
    wakes: Option<Instant>,
}

static WATCHDOG: Mutex<Watchdog> = Mutex::new(Watchdog { armed: Vec::new(), wakes: None });
static NEARER: Condvar = Condvar::new();

/// A watched socket. It must be dropped before the socket is closed: the number may then name another file.
pub(super) struct Armed {
    struck: Arc<AtomicBool>,
}

/// Cuts `socket` at `by`, unless what is returned is dropped before.
///
/// # Errors
/// A machine error, when no thread can be started.
pub(super) fn arm(socket: RawFd, by: Deadline) -> Result<Armed> {
    let at = by.moment();
    let struck = Arc::new(AtomicBool::new(false));
    let mut watchdog = WATCHDOG.lock();
    match watchdog.wakes {
        Some(wakes) if wakes <= at => {}
        Some(_) => {
            watchdog.wakes = Some(at);
            NEARER.notify_one();
        }
        None => {
            let thread = std::thread::Builder::new().name("mysql-watchdog".to_owned());
            thread.spawn(watch).map_err(|error| Error::machine(format!("cannot start a thread: {error}")))?;
            watchdog.wakes = Some(at);
        }
    }
    watchdog.armed.push(Watched { socket, at, struck: Arc::clone(&struck) });
    Ok(Armed { struck })
}

impl Armed {
    /// True when the deadline came and the socket was cut.
    pub(super) fn struck(&self) -> bool {
        self.struck.load(Ordering::Acquire)
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        WATCHDOG.lock().armed.retain(|watched| !Arc::ptr_eq(&watched.struck, &self.struck));
    }
}

/// Cuts `socket` now; every read and write on it fails from here on.
pub(super) fn cut(socket: RawFd) {
    // It fails on a socket that is no longer connected, which is what was wanted.
    let _ = shutdown(socket, Shutdown::Both);
}

fn watch() {
    let mut watchdog = WATCHDOG.lock();
    loop {
        let now = Instant::now();
        watchdog.armed.retain(|watched| {
            let due = watched.at <= now;
            if due {
                watched.struck.store(true, Ordering::Release);
                cut(watched.socket);
            }
            !due
        });
        watchdog.wakes = watchdog.armed.iter().map(|watched| watched.at).min();
        let Some(at) = watchdog.wakes else { return };
        NEARER.wait_until(&mut watchdog, at);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_blocked_read_ends_at_its_deadline_and_not_before() {
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        let far = arm(ours.as_raw_fd(), Deadline::within(Duration::from_secs(60))).unwrap();
        let start = Instant::now();
        let near = arm(ours.as_raw_fd(), Deadline::within(Duration::from_millis(50))).unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert!(near.struck() && !far.struck());
    }

    #[test]
    fn a_disarmed_socket_is_left_alone() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        drop(arm(ours.as_raw_fd(), Deadline::within(Duration::from_millis(20))).unwrap());
        let (mut other, _end) = UnixStream::pair().unwrap();
        // The other socket's deadline is later: once it struck, the first one's has passed.
        let _armed = arm(other.as_raw_fd(), Deadline::within(Duration::from_millis(60))).unwrap();
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
        std::io::Write::write_all(&mut theirs, b"x").unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap(), 1);
    }
}
