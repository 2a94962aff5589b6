//! The bytes between us and one server: a socket with deadlines, plain or encrypted, and a budget while logging in.
//!
//! rustls does no reading of its own: it is handed the socket with the deadline of the call. Knows no packet.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::deadline::Deadline;
use crate::driver::connection::socket::TimedSocket;

/// A socket, and the encryption on it.
pub(super) struct Stream {
    socket: TimedSocket,
    tls: Option<Box<ClientConnection>>,
    /// How many bytes the server may still send; `None` while it sends rows.
    budget: Option<usize>,
    /// So many bytes of it are still taken after it was given up; `None` before that.
    unread: Option<usize>,
}

/// How many bytes of unread answers a goodbye waits for, and a session that was given up.
const UNREAD: usize = 1 << 20;

/// The socket with the deadline and the budget of one call, as rustls reads and writes it.
struct Timed<'a> {
    socket: &'a TimedSocket,
    budget: &'a mut Option<usize>,
    by: Deadline,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(buffer, self.by)?;
        if let Some(left) = self.budget {
            *left = left.checked_sub(count).ok_or(io::ErrorKind::QuotaExceeded)?;
        }
        Ok(count)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes, self.by)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// Bytes as they are, at most `budget` of them until [`Stream::set_budget`].
    pub(super) fn new(socket: TimedSocket, budget: usize) -> Self {
        Stream { socket, tls: None, budget: Some(budget), unread: None }
    }

    /// True while there is a bound on what the server may send.
    pub(super) fn has_budget(&self) -> bool {
        self.budget.is_some()
    }

    /// How many bytes the server may send from now on; `None` for rows.
    pub(super) fn set_budget(&mut self, budget: Option<usize>) {
        self.budget = budget;
    }

    /// True behind TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// `TimedOut`, `QuotaExceeded`, or rustls' error inside an `InvalidData`.
    pub(super) fn encrypt(
        &mut self,
        config: ClientConfig,
        name: ServerName<'static>,
        by: Deadline,
    ) -> io::Result<()> {
        let tls = ClientConnection::new(Arc::new(config), name).map_err(invalid)?;
        let tls = self.tls.insert(Box::new(tls));
        let mut timed = Timed { socket: &self.socket, budget: &mut self.budget, by };
        while tls.is_handshaking() {
            if tls.wants_write() {
                tls.write_tls(&mut timed)?;
            } else {
                receive(tls, &mut timed)?;
            }
        }
        Ok(())
    }

    /// Reads what is there, waiting until `by` for at least one byte; none at the end of the stream.
    ///
    /// # Errors
    /// As [`Stream::encrypt`].
    pub(super) fn read(&mut self, buffer: &mut [u8], by: Deadline) -> io::Result<usize> {
        let mut timed = Timed { socket: &self.socket, budget: &mut self.budget, by };
        let Some(tls) = &mut self.tls else { return timed.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An end without TLS' goodbye; servers leave that way.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            if receive(tls, &mut timed)? == 0 {
                return Ok(0);
            }
        }
    }

    /// Writes all of it, waiting for room until `by`.
    ///
    /// # Errors
    /// As [`Stream::encrypt`].
    pub(super) fn write_all(&mut self, bytes: &[u8], by: Deadline) -> io::Result<()> {
        let mut timed = Timed { socket: &self.socket, budget: &mut self.budget, by };
        let Some(tls) = &mut self.tls else { return timed.write_all(bytes) };
        let mut left = bytes;
        loop {
            // rustls buffers so much and no more.
            let taken = tls.writer().write(left)?;
            left = left.get(taken..).unwrap_or_default();
            while tls.wants_write() {
                tls.write_tls(&mut timed)?;
            }
            if left.is_empty() {
                return Ok(());
            }
        }
    }

    /// Nothing is written any more: a server that has read to the end of what was sent closes the connection.
    pub(super) fn give_up(&mut self) {
        if self.unread.is_none() {
            // A socket that is broken has nothing to say.
            let _ = self.socket.end_writing();
            self.unread = Some(UNREAD);
        }
    }

    /// After [`Stream::give_up`]: whether the server has closed the connection. Takes what it has sent and does not wait.
    /// One that sends on and on notices at its next write that nobody is there: that is an end as well.
    pub(super) fn has_ended(&mut self) -> bool {
        loop {
            match self.socket.discard() {
                Ok(0) => return true,
                Ok(count) => {
                    let Some(left) = self.unread.unwrap_or_default().checked_sub(count) else { return true };
                    self.unread = Some(left);
                }
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Says TLS' goodbye, where there is TLS, and waits until the server has closed its side: a socket that is closed over
    /// unread bytes is reset, and the reset may overtake what was sent last.
    ///
    /// # Errors
    /// As [`Stream::encrypt`].
    pub(super) fn close(&mut self, by: Deadline) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.write_all(&[], by)?;
        self.socket.end_writing()?;
        self.budget = Some(UNREAD);
        let mut timed = Timed { socket: &self.socket, budget: &mut self.budget, by };
        let mut discarded = [0; 1024];
        while timed.read(&mut discarded)? > 0 {}
        Ok(())
    }
}

/// Reads and decrypts once; gives the number of encrypted bytes, zero at the end of the stream.
fn receive(tls: &mut ClientConnection, timed: &mut Timed<'_>) -> io::Result<usize> {
    let count = tls.read_tls(timed)?;
    if let Err(error) = tls.process_new_packets() {
        // The alert that says why is worth a try.
        let _ = tls.write_tls(timed);
        return Err(invalid(error));
    }
    if count == 0 && tls.is_handshaking() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(count)
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
