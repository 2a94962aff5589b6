//! The bytes between us and one server: a socket whose every read and write ends by a deadline, plain or encrypted.
//!
//! tokio-postgres' login and rustls' handshake are futures; the session after them blocks. One socket serves both
//! without a runtime: while a future is driven, a read is pending until [`drive`] has seen bytes waiting; after
//! the login a read blocks. Writes always block: a login's messages fit any socket's buffer.

use std::future::Future;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::deadline::Deadline;

/// What tokio-postgres-rustls makes of a [`Wire`].
type Encrypted = <<MakeRustlsConnect as MakeTlsConnect<Wire>>::TlsConnect as TlsConnect<Wire>>::Stream;

/// One socket, held by whoever speaks on it and by whoever sets its deadline.
#[derive(Clone)]
pub(super) struct Wire(Arc<Line>);

struct Line {
    socket: Socket,
    state: Mutex<State>,
}

struct State {
    by: Deadline,
    reading: Reading,
    /// A message that must not be written: the password in clear text.
    forbidden: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// A future is driven; bytes may be read once [`drive`] saw some.
    Driven { waiting: bool },
    /// A read blocks until there are bytes.
    Blocking,
}

impl Wire {
    /// Takes over a connected socket.
    pub(super) fn new(socket: Socket, by: Deadline) -> Self {
        let state = State { by, reading: Reading::Driven { waiting: false }, forbidden: None };
        Wire(Arc::new(Line { socket, state: Mutex::new(state) }))
    }

    /// Connects to a Unix socket.
    pub(super) fn to_unix(path: &Path, by: Deadline) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.connect_timeout(&SockAddr::unix(path)?, left(by)?)?;
        Ok(Wire::new(socket, by))
    }

    /// From now on a write of exactly `message` fails with `PermissionDenied`. Encrypted bytes never equal it.
    pub(super) fn forbid(&self, message: Vec<u8>) {
        self.0.state.lock().forbidden = Some(message);
    }

    /// Reads what is there, waiting for it until the deadline: `TimedOut` then.
    pub(super) fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let by = self.0.state.lock().by;
        loop {
            self.0.socket.set_read_timeout(Some(left(by)?))?;
            match (&self.0.socket).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                done => return done,
            }
        }
    }

    /// Writes what the socket takes, waiting for room until the deadline.
    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let state = self.0.state.lock();
        if state.forbidden.as_deref() == Some(bytes) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let by = state.by;
        drop(state);
        loop {
            self.0.socket.set_write_timeout(Some(left(by)?))?;
            match (&self.0.socket).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                done => return done,
            }
        }
    }

    /// Waits until a read would find something: bytes, an end or an error.
    fn wait(&self, by: Deadline) -> io::Result<()> {
        loop {
            self.0.socket.set_read_timeout(Some(left(by)?))?;
            match self.0.socket.peek(&mut [MaybeUninit::uninit()]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                // An error is the reader's to find.
                Ok(_) | Err(_) => break,
            }
        }
        self.0.state.lock().reading = Reading::Driven { waiting: true };
        Ok(())
    }

    /// True when bytes may be read now.
    fn take_turn(&self) -> bool {
        let mut state = self.0.state.lock();
        match &mut state.reading {
            Reading::Blocking => true,
            Reading::Driven { waiting } => std::mem::take(waiting),
        }
    }
}

fn late() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// What is left, never zero: zero would mean "no limit" to the socket.
fn left(by: Deadline) -> io::Result<std::time::Duration> {
    let left = by.left();
    if left.is_zero() { Err(late()) } else { Ok(left) }
}

/// Runs a future whose only waits are reads of `wire`, at most until `by`.
///
/// # Errors
/// `TimedOut` at the deadline.
pub(super) fn drive<F: Future>(wire: &Wire, by: Deadline, future: F) -> io::Result<F::Output> {
    wire.0.state.lock().by = by;
    let mut context = Context::from_waker(Waker::noop());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        wire.wait(by)?;
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.take_turn() {
            return Poll::Pending;
        }
        Poll::Ready(self.read_now(buffer.initialize_unfilled()).map(|count| buffer.advance(count)))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write_now(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.socket.shutdown(std::net::Shutdown::Write))
    }
}

/// A wire, and the encryption on it.
pub(super) struct Stream {
    wire: Wire,
    tls: Option<Box<Encrypted>>,
}

impl Stream {
    /// Bytes as they are.
    pub(super) fn plain(wire: Wire) -> Self {
        Stream { wire, tls: None }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// `TimedOut`, or rustls' error inside an `InvalidData`.
    pub(super) fn encrypted(
        wire: Wire,
        mut tls: MakeRustlsConnect,
        name: &str,
        by: Deadline,
    ) -> io::Result<Self> {
        let Ok(connect) = MakeTlsConnect::<Wire>::make_tls_connect(&mut tls, name);
        let encrypted = drive(&wire, by, connect.connect(wire.clone()))??;
        Ok(Stream { wire, tls: Some(Box::new(encrypted)) })
    }

    /// True behind TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// The wire beneath.
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The login is over: from now on a read blocks, and anything may be written.
    pub(super) fn block(&self) {
        let mut state = self.wire.0.state.lock();
        state.reading = Reading::Blocking;
        state.forbidden = None;
    }

    /// Sets the moment by which reads and writes end.
    pub(super) fn set_deadline(&self, by: Deadline) {
        self.wire.0.state.lock().by = by;
    }

    /// Reads what is there, at least one byte but at the end of the stream. After [`Stream::block`] only.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.wire.read_now(buffer) };
        let mut buffer = ReadBuf::new(buffer);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            // Pending means "ask again": the wire itself blocks.
            if let Poll::Ready(done) = Pin::new(&mut *tls).poll_read(&mut context, &mut buffer) {
                return done.map(|()| buffer.filled().len());
            }
        }
    }

    /// Writes all of it. After [`Stream::block`] only.
    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut context = Context::from_waker(Waker::noop());
        while !bytes.is_empty() {
            let count = match &mut self.tls {
                None => self.wire.write_now(bytes)?,
                Some(tls) => match Pin::new(&mut *tls).poll_write(&mut context, bytes) {
                    Poll::Ready(done) => done?,
                    Poll::Pending => 0,
                },
            };
            bytes = bytes.get(count..).unwrap_or_default();
        }
        match &mut self.tls {
            Some(tls) => match Pin::new(&mut *tls).poll_flush(&mut context) {
                Poll::Ready(done) => done,
                Poll::Pending => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// A stream that the login holds while we keep a second handle: tokio-postgres does not give one back.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Stream>>);

impl Shared {
    /// Wraps it.
    pub(super) fn new(stream: Stream) -> Self {
        Shared(Arc::new(Mutex::new(stream)))
    }

    /// The stream, once every other handle is gone.
    pub(super) fn into_stream(self) -> Option<Stream> {
        Arc::into_inner(self.0).map(Mutex::into_inner)
    }
}

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &mut *self.0.lock();
        match &mut stream.tls {
            Some(tls) => Pin::new(tls).poll_read(context, buffer),
            None => Pin::new(&mut stream.wire).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = &mut *self.0.lock();
        match &mut stream.tls {
            Some(tls) => Pin::new(tls).poll_write(context, bytes),
            None => Pin::new(&mut stream.wire).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0.lock().tls {
            Some(tls) => Pin::new(tls).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self.0.lock();
        match &mut stream.tls {
            Some(tls) => Pin::new(tls).poll_shutdown(context),
            None => Pin::new(&mut stream.wire).poll_shutdown(context),
        }
    }
}

impl TlsStream for Shared {
    fn channel_binding(&self) -> ChannelBinding {
        self.0.lock().tls.as_ref().map_or_else(ChannelBinding::none, |tls| tls.channel_binding())
    }
}

/// Tells tokio-postgres that a stream is encrypted already, so that its SCRAM binds to the channel.
pub(super) struct Done;

impl TlsConnect<Shared> for Done {
    type Stream = Shared;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Shared>>;

    fn connect(self, stream: Shared) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}
