//! The stream of a login, as tokio-postgres wants it: it reads and writes in futures, and our stream blocks.
//!
//! Each read and write ends by the login's deadline before it returns. So no future has anything to wait for, and there
//! is no runtime.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use ring::digest;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use crate::deadline::Deadline;
use crate::driver::connection::stream::ServerStream;
use crate::driver::connection::tls::der_element;

/// A stream that the login holds while we keep a second handle: tokio-postgres does not return it.
#[derive(Clone)]
pub(super) struct LoginStream(Arc<Mutex<LoginState>>);

struct LoginState {
    stream: ServerStream,
    by: Deadline,
    /// A message that must not be written: the password in clear text.
    forbidden: Option<Vec<u8>>,
}

impl LoginStream {
    /// All that is done on it ends at `by`. A write of exactly `forbidden` fails with `PermissionDenied`.
    pub(super) fn new(stream: ServerStream, by: Deadline, forbidden: Option<Vec<u8>>) -> Self {
        LoginStream(Arc::new(Mutex::new(LoginState { stream, by, forbidden })))
    }

    /// The stream, once every other handle is gone.
    pub(super) fn into_stream(self) -> Option<ServerStream> {
        Arc::into_inner(self.0).map(|state| state.into_inner().stream)
    }
}

/// Runs a future that waits for nothing but [`LoginStream`]s.
///
/// # Errors
/// One that waits for something else.
pub(super) fn run<F: Future>(future: F) -> io::Result<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(io::Error::other("the login waits for more than its connection")),
    }
}

impl AsyncRead for LoginStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let LoginState { stream, by, .. } = &mut *self.0.lock();
        Poll::Ready(stream.read(buffer.initialize_unfilled(), *by).map(|count| buffer.advance(count)))
    }
}

impl AsyncWrite for LoginStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let LoginState { stream, by, forbidden } = &mut *self.0.lock();
        if forbidden.as_deref() == Some(bytes) {
            return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
        }
        Poll::Ready(stream.write_all(bytes, *by).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closes nothing: tokio-postgres closes its half right after a cancel request, and PgBouncer forgets a cancel whose
    /// client leaves before it was passed on.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for LoginStream {
    fn channel_binding(&self) -> ChannelBinding {
        let state = self.0.lock();
        let hashed = state.stream.server_certificate().and_then(|certificate| {
            Some(digest::digest(end_point_hash(certificate)?, certificate).as_ref().to_vec())
        });
        hashed.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// The hash for `tls-server-end-point` (RFC 5929, section 4.1): the one that the certificate is signed with, SHA-256 instead
/// of MD5 and SHA-1. `None` where the signature has none of its own, as Ed25519.
fn end_point_hash(certificate: &[u8]) -> Option<&'static digest::Algorithm> {
    let (content, _) = der_element(certificate, 0x30)?;
    let (_signed, rest) = der_element(content, 0x30)?;
    let (algorithm, _) = der_element(rest, 0x30)?;
    let (identifier, _) = der_element(algorithm, 0x06)?;
    // PKCS #1 (RFC 8017, appendix C) and ECDSA (RFC 5758, section 3.2).
    Some(match identifier {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4 | 5 | 11]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] => &digest::SHA256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3] => {
            &digest::SHA384
        }
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4] => {
            &digest::SHA512
        }
        _ => return None,
    })
}

/// Tells tokio-postgres that a stream is encrypted already, so that its SCRAM binds to the channel.
pub(super) struct AlreadyEncrypted;

impl TlsConnect<LoginStream> for AlreadyEncrypted {
    type Stream = LoginStream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<LoginStream>>;

    fn connect(self, stream: LoginStream) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SEQUENCE { SEQUENCE {}, SEQUENCE { OID, NULL }, … }`.
    fn signed_by(identifier: &[u8]) -> Vec<u8> {
        let element =
            |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
        let algorithm = element(0x30, &[element(0x06, identifier), element(0x05, &[])].concat());
        element(0x30, &[element(0x30, &[]), algorithm, element(0x03, &[0, 1, 2])].concat())
    }

    #[test]
    fn a_channel_is_bound_by_the_hash_of_the_certificates_signature() {
        let rsa = |last| [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, last];
        let ecdsa = |last| [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, last];
        for (certificate, expected) in [
            (signed_by(&rsa(4)), Some(&digest::SHA256)),
            (signed_by(&rsa(5)), Some(&digest::SHA256)),
            (signed_by(&rsa(11)), Some(&digest::SHA256)),
            (signed_by(&rsa(12)), Some(&digest::SHA384)),
            (signed_by(&rsa(13)), Some(&digest::SHA512)),
            (signed_by(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]), Some(&digest::SHA256)),
            (signed_by(&ecdsa(2)), Some(&digest::SHA256)),
            (signed_by(&ecdsa(3)), Some(&digest::SHA384)),
            (signed_by(&ecdsa(4)), Some(&digest::SHA512)),
            // RSASSA-PSS, whose hash is in its parameters, and Ed25519.
            (signed_by(&rsa(10)), None),
            (signed_by(&[0x2b, 0x65, 0x70]), None),
            (Vec::new(), None),
        ] {
            assert_eq!(end_point_hash(&certificate), expected, "{certificate:?}");
        }
    }

    #[test]
    fn a_future_that_waits_for_something_else_is_an_error() {
        assert_eq!(run(std::future::ready(1)).unwrap(), 1);
        assert!(run(std::future::pending::<()>()).is_err());
    }
}
