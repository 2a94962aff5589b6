//! The bytes between us and one server: a socket whose every read and write ends by a deadline, plain or encrypted, and
//! a budget until the login's end.
//!
//! tokio-postgres' login and rustls are made of futures; the session after the login blocks. One socket serves both
//! without a runtime: to a future, a read is pending until [`drive`] has seen bytes waiting. Blocking inside a poll
//! instead would hang: tokio-rustls reads on until it is told "pending". Writes block; a round of messages fits any
//! socket's buffer.

use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::deadline::Deadline;
use crate::driver::connection::socket::TimedSocket;

/// How many bytes a server may send until the end of its login, encryption included: notices, settings and errors are
/// held by the library that logs in.
const LOGIN_BYTES: usize = 1 << 20;

/// One socket, shared by the code that speaks on it and the code that sets its deadline.
#[derive(Clone)]
pub(super) struct SharedSocket(Arc<(TimedSocket, Mutex<SocketState>)>);

struct SocketState {
    by: Deadline,
    /// How many bytes the server may still send; `None` after the login, where messages have bounds of their own.
    budget: Option<usize>,
    /// [`drive`] saw bytes that no future has read.
    is_readable: bool,
    /// A message that must not be written: the password in clear text.
    forbidden: Option<Vec<u8>>,
}

impl SharedSocket {
    /// Takes over a connected socket.
    pub(super) fn new(socket: TimedSocket, by: Deadline) -> Self {
        let state = SocketState { by, budget: Some(LOGIN_BYTES), is_readable: false, forbidden: None };
        SharedSocket(Arc::new((socket, Mutex::new(state))))
    }

    /// Connects to a Unix socket; an `@` in front is Linux' abstract namespace.
    pub(super) fn to_unix(path: &Path, by: Deadline) -> io::Result<Self> {
        Ok(SharedSocket::new(TimedSocket::to_unix(path, by)?, by))
    }

    fn socket(&self) -> &TimedSocket {
        &self.0.0
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, SocketState> {
        self.0.1.lock()
    }

    /// From now on a write of exactly `message` fails with `PermissionDenied`. Encrypted bytes never equal it.
    pub(super) fn forbid(&self, message: Vec<u8>) {
        self.state().forbidden = Some(message);
    }

    /// Reads what is there, waiting for it until the deadline: `TimedOut` then. `QuotaExceeded` beyond the budget.
    pub(super) fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let by = self.state().by;
        let count = self.socket().read(buffer, by)?;
        if let Some(left) = &mut self.state().budget {
            *left = left.checked_sub(count).ok_or(io::ErrorKind::QuotaExceeded)?;
        }
        Ok(count)
    }

    /// Writes what the socket takes, waiting for room until the deadline.
    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let state = self.state();
        if state.forbidden.as_deref() == Some(bytes) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let by = state.by;
        drop(state);
        self.socket().write(bytes, by)
    }
}

/// Runs a future whose only waits are reads of `socket`, at most until `by`.
///
/// # Errors
/// `TimedOut` at the deadline.
pub(super) fn drive<F: Future>(socket: &SharedSocket, by: Deadline, future: F) -> io::Result<F::Output> {
    socket.state().by = by;
    let mut context = Context::from_waker(Waker::noop());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        socket.socket().wait_readable(by)?;
        socket.state().is_readable = true;
    }
}

impl AsyncRead for SharedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::take(&mut self.state().is_readable) {
            return Poll::Pending;
        }
        Poll::Ready(self.read_now(buffer.initialize_unfilled()).map(|count| buffer.advance(count)))
    }
}

impl AsyncWrite for SharedSocket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write_now(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket().end_writing())
    }
}

impl TlsStream for SharedSocket {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// A socket, and the encryption on it.
pub(super) struct Stream {
    socket: SharedSocket,
    /// The socket itself, or TLS over it.
    inner: Box<dyn TlsStream + Send + Unpin>,
    is_encrypted: bool,
}

impl Stream {
    /// Bytes as they are.
    pub(super) fn plain(socket: SharedSocket) -> Self {
        Stream { inner: Box::new(socket.clone()), socket, is_encrypted: false }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// `TimedOut`, or rustls' error inside an `InvalidData`.
    pub(super) fn encrypted(
        socket: SharedSocket,
        mut tls: MakeRustlsConnect,
        name: &str,
        by: Deadline,
    ) -> io::Result<Self> {
        let Ok(connect) = MakeTlsConnect::<SharedSocket>::make_tls_connect(&mut tls, name);
        let encrypted = drive(&socket, by, connect.connect(socket.clone()))??;
        Ok(Stream { inner: Box::new(encrypted), socket, is_encrypted: true })
    }

    /// True behind TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// The socket beneath.
    pub(super) fn socket(&self) -> &SharedSocket {
        &self.socket
    }

    /// The login is over: from now on anything may be written, and the reader bounds messages.
    pub(super) fn end_login(&self) {
        let mut state = self.socket.state();
        (state.forbidden, state.budget) = (None, None);
    }

    /// From now on what would have to wait ends with `TimedOut` at once.
    pub(super) fn do_not_wait(&self) -> io::Result<()> {
        self.socket.socket().do_not_wait()
    }

    /// Reads what is there, waiting until `by` for at least one byte; none at the end of the stream.
    pub(super) fn read(&mut self, buffer: &mut [u8], by: Deadline) -> io::Result<usize> {
        if !self.is_encrypted {
            self.socket.state().by = by;
            return self.socket.read_now(buffer);
        }
        let mut buffer = ReadBuf::new(buffer);
        let inner = &mut self.inner;
        drive(&self.socket, by, poll_fn(|context| Pin::new(&mut *inner).poll_read(context, &mut buffer)))??;
        Ok(buffer.filled().len())
    }

    /// Writes all of it, waiting for room until `by`.
    pub(super) fn write_all(&mut self, bytes: &[u8], by: Deadline) -> io::Result<()> {
        let (inner, mut left) = (&mut self.inner, bytes);
        while !left.is_empty() {
            let write = poll_fn(|context| Pin::new(&mut *inner).poll_write(context, left));
            let count = drive(&self.socket, by, write)??;
            left = left.get(count..).unwrap_or_default();
        }
        drive(&self.socket, by, poll_fn(|context| Pin::new(&mut *inner).poll_flush(context)))?
    }
}

/// A stream that the login holds while we keep a second handle: tokio-postgres does not return it.
#[derive(Clone)]
pub(super) struct SharedStream(Arc<Mutex<Stream>>);

impl SharedStream {
    /// Wraps it.
    pub(super) fn new(stream: Stream) -> Self {
        SharedStream(Arc::new(Mutex::new(stream)))
    }

    /// The stream, once every other handle is gone.
    pub(super) fn into_stream(self) -> Option<Stream> {
        Arc::into_inner(self.0).map(Mutex::into_inner)
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.lock().inner).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().inner).poll_flush(context)
    }

    /// Sends what is left and closes nothing: tokio-postgres closes its half right after a cancel request, and
    /// PgBouncer forgets a cancel whose client leaves before it was passed on.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

impl TlsStream for SharedStream {
    fn channel_binding(&self) -> ChannelBinding {
        self.0.lock().inner.channel_binding()
    }
}

/// Tells tokio-postgres that a stream is encrypted already, so that its SCRAM binds to the channel.
pub(super) struct AlreadyEncrypted;

impl TlsConnect<SharedStream> for AlreadyEncrypted {
    type Stream = SharedStream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<SharedStream>>;

    fn connect(self, stream: SharedStream) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}
