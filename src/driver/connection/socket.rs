//! A connected socket whose every read and write ends by a deadline, whatever the server does.
//!
//! The socket's own timeout is set before each call, so that bytes which trickle in do not move the end. Knows no
//! protocol and no encryption.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::deadline::Deadline;

/// A connected socket.
pub(crate) struct TimedSocket(Socket);

impl TimedSocket {
    /// Takes over a connected socket.
    pub(crate) fn new(socket: impl Into<Socket>) -> Self {
        TimedSocket(socket.into())
    }

    /// Connects to a Unix socket; an `@` in front is Linux' abstract namespace.
    ///
    /// # Errors
    /// What the system says; `TimedOut` at the deadline.
    pub(crate) fn to_unix(path: &Path, by: Deadline) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // The system writes the abstract namespace as a zero byte.
        let address = match path.as_os_str().as_bytes().strip_prefix(b"@") {
            Some(name) => SockAddr::unix(OsStr::from_bytes(&[b"\0", name].concat()))?,
            None => SockAddr::unix(path)?,
        };
        socket.connect_timeout(&address, left(by)?)?;
        Ok(TimedSocket(socket))
    }

    /// Takes what is there and forgets it, at most 16 KiB, without waiting: how many bytes, none at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there, and what the system says.
    pub(crate) fn discard(&self) -> io::Result<usize> {
        let mut forgotten = [MaybeUninit::uninit(); 16 * 1024];
        loop {
            match self.0.recv_with_flags(&mut forgotten, nix::libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Reads what is there, waiting for it until the deadline; nothing at the end of the stream.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, and what the system says.
    pub(crate) fn read(&self, buffer: &mut [u8], by: Deadline) -> io::Result<usize> {
        until_done(|| {
            self.0.set_read_timeout(Some(left(by)?))?;
            (&self.0).read(buffer)
        })
    }

    /// Writes what the socket takes, waiting for room until the deadline.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, and what the system says.
    pub(crate) fn write(&self, bytes: &[u8], by: Deadline) -> io::Result<usize> {
        until_done(|| {
            self.0.set_write_timeout(Some(left(by)?))?;
            (&self.0).write(bytes)
        })
    }

    /// From now on a read or a write that would have to wait ends with `TimedOut` at once.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn do_not_wait(&self) -> io::Result<()> {
        self.0.set_nonblocking(true)
    }

    /// Tells the peer that nothing more will be written.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn end_writing(&self) -> io::Result<()> {
        self.0.shutdown(std::net::Shutdown::Write)
    }
}

/// Calls again what a signal interrupted.
fn until_done(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            done => return done,
        }
    }
}

fn late() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

fn left(by: Deadline) -> io::Result<Duration> {
    by.socket_timeout().ok_or_else(late)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn pair() -> (TimedSocket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (TimedSocket::new(OwnedFd::from(ours)), theirs)
    }

    #[test]
    fn a_silent_peer_ends_a_read_at_its_deadline_and_not_before() {
        let (ours, _theirs) = pair();
        for span in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(50)] {
            let start = Instant::now();
            let error = ours.read(&mut [0], Deadline::within(span)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{span:?}");
            assert!(start.elapsed() >= span && start.elapsed() < Duration::from_secs(20), "{span:?}");
        }
    }

    #[test]
    fn what_is_discarded_is_not_waited_for() {
        let (ours, mut theirs) = pair();
        assert_eq!(ours.discard().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        theirs.write_all(b"unread").unwrap();
        assert_eq!(ours.discard().unwrap(), 6);
        drop(theirs);
        assert_eq!(ours.discard().unwrap(), 0);
    }

    #[test]
    fn a_peer_that_does_not_read_ends_a_write_at_its_deadline() {
        let (ours, _theirs) = pair();
        let by = Deadline::within(Duration::from_millis(50));
        let error = loop {
            if let Err(error) = ours.write(&[0; 65_536], by) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_peer_that_trickles_does_not_move_the_deadline() {
        let (ours, mut theirs) = pair();
        thread::spawn(move || {
            while theirs.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let by = Deadline::within(Duration::from_millis(60));
        let error = loop {
            if let Err(error) = ours.read(&mut [0], by) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(by.passed());
    }
}
