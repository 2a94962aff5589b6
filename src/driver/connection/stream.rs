//! The bytes to and from one server: a socket with deadlines, plain or encrypted, and a bound on what the server may send
//! during a login.
//!
//! rustls reads and writes the socket under the deadline of the call. Knows no protocol.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection};

use crate::deadline::Deadline;

use super::socket::TimedSocket;

/// All that a server may send before the login has succeeded, encryption included: notices, settings and errors.
pub(crate) const MAX_LOGIN_BYTES: usize = 1 << 20;

/// How many bytes of unread answers are read and dropped when a session closes.
const MAX_UNREAD_BYTES: usize = 1 << 20;

/// A socket, and the encryption on it.
pub(crate) struct ServerStream {
    socket: BoundedSocket,
    tls: Option<Box<ClientConnection>>,
    /// How many more bytes are read and dropped after [`ServerStream::give_up`]; `None` before that.
    unread: Option<usize>,
}

/// The socket with the deadline and the byte budget of the current call.
struct BoundedSocket {
    socket: TimedSocket,
    /// How many bytes the server may still send; `None` while it sends rows.
    budget: Option<usize>,
    by: Deadline,
}

impl Read for BoundedSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(buffer, self.by)?;
        if let Some(left) = &mut self.budget {
            *left = left.checked_sub(count).ok_or(io::ErrorKind::QuotaExceeded)?;
        }
        Ok(count)
    }
}

impl Write for BoundedSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes, self.by)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ServerStream {
    /// An unencrypted stream; the server may send [`MAX_LOGIN_BYTES`] until [`ServerStream::set_budget`].
    pub(crate) fn new(socket: TimedSocket) -> Self {
        let budget = Some(MAX_LOGIN_BYTES);
        let socket = BoundedSocket { socket, budget, by: Deadline::within(Duration::ZERO) };
        ServerStream { socket, tls: None, unread: None }
    }

    /// True while there is a bound on what the server may send.
    pub(crate) fn has_budget(&self) -> bool {
        self.socket.budget.is_some()
    }

    /// How many bytes the server may send from now on; `None` for rows.
    pub(crate) fn set_budget(&mut self, budget: Option<usize>) {
        self.socket.budget = budget;
    }

    /// True behind TLS.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// The certificate that the server showed; `None` without TLS.
    pub(crate) fn server_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.as_ref()?.peer_certificates()?.first()
    }

    /// Performs a TLS handshake.
    ///
    /// # Errors
    /// `TimedOut`, `QuotaExceeded`, or rustls' error inside an `InvalidData`.
    pub(crate) fn encrypt(
        &mut self,
        config: ClientConfig,
        name: ServerName<'static>,
        by: Deadline,
    ) -> io::Result<()> {
        self.socket.by = by;
        let tls = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let tls = self.tls.insert(Box::new(tls));
        while tls.is_handshaking() {
            tls.complete_io(&mut self.socket)?;
        }
        Ok(())
    }

    /// Reads what is there, waiting until `by` for at least one byte; none at the end of the stream.
    ///
    /// # Errors
    /// As [`ServerStream::encrypt`].
    pub(crate) fn read(&mut self, buffer: &mut [u8], by: Deadline) -> io::Result<usize> {
        self.socket.by = by;
        let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
        match rustls::Stream::new(&mut **tls, &mut self.socket).read(buffer) {
            // An end without TLS' close_notify: servers leave that way.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            done => done,
        }
    }

    /// Writes all of it, waiting for room until `by`.
    ///
    /// # Errors
    /// As [`ServerStream::encrypt`].
    pub(crate) fn write_all(&mut self, bytes: &[u8], by: Deadline) -> io::Result<()> {
        self.socket.by = by;
        let Some(tls) = &mut self.tls else { return self.socket.write_all(bytes) };
        let mut stream = rustls::Stream::new(&mut **tls, &mut self.socket);
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// From now on a read or a write that would have to wait ends with `TimedOut` at once.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn do_not_wait(&self) -> io::Result<()> {
        self.socket.socket.do_not_wait()
    }

    /// Writes nothing any more: a server that has read to the end of what was sent closes the connection.
    pub(crate) fn give_up(&mut self) {
        if self.unread.is_none() {
            // A broken socket has nothing left to say.
            let _ = self.socket.socket.end_writing();
            self.unread = Some(MAX_UNREAD_BYTES);
        }
    }

    /// After [`ServerStream::give_up`]: whether the server has closed the connection. Reads what it has sent and does not
    /// wait. One that sends without end notices at its next write that nobody reads: that is an end as well.
    pub(crate) fn has_ended(&mut self) -> bool {
        loop {
            match self.socket.socket.discard() {
                Ok(0) => return true,
                Ok(count) => {
                    let Some(left) = self.unread.unwrap_or_default().checked_sub(count) else { return true };
                    self.unread = Some(left);
                }
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Sends TLS' close_notify, where there is TLS, and waits until the server has closed its side: a socket that is closed
    /// over unread bytes is reset, and the reset may overtake what was sent last.
    ///
    /// # Errors
    /// As [`ServerStream::encrypt`].
    pub(crate) fn close(&mut self, by: Deadline) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.write_all(&[], by)?;
        self.socket.socket.end_writing()?;
        self.socket.budget = Some(MAX_UNREAD_BYTES);
        while self.socket.read(&mut [0; 1024])? > 0 {}
        Ok(())
    }
}
