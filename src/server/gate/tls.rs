//! TLS of our own port: what a web-config file wants as rustls' configuration, and the handshake.
//!
//! Names are Go's, as the files of the Prometheus exporters write them.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::head::Fault;
use crate::file;
use crate::secret::Secret;
use crate::server::backend::socket::Wire;

/// Go's names; `None` is not spoken here.
pub(crate) const VERSIONS: &[(&str, Option<&SupportedProtocolVersion>)] =
    &[("TLS10", None), ("TLS11", None), ("TLS12", Some(&version::TLS12)), ("TLS13", Some(&version::TLS13))];

/// Go's names of the cipher suites that we have. Those of TLS 1.3 are always there, as in Go.
pub(crate) const CIPHERS: &[(&str, SupportedCipherSuite)] = {
    use rustls::crypto::ring::cipher_suite as suite;
    &[
        ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
        ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
        ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        (
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ]
};

/// Go's names of the curves that we have.
pub(crate) const CURVES: &[(&str, &dyn SupportedKxGroup)] = &[
    ("X25519", ring::kx_group::X25519),
    ("CurveP256", ring::kx_group::SECP256R1),
    ("CurveP384", ring::kx_group::SECP384R1),
];

/// What is asked of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// No certificate.
    None,
    /// A certificate of `client_ca`, if it shows one.
    IfGiven,
    /// A certificate of `client_ca`.
    Required,
}

/// PEM, and the key that it stands under.
pub(crate) enum Source {
    File(&'static str, PathBuf),
    Inline(&'static str, Secret),
}

/// A section `tls_server_config` as read.
pub(crate) struct Wanted {
    pub(crate) certificates: Source,
    pub(crate) key: Source,
    pub(crate) client_auth: ClientAuth,
    pub(crate) client_ca: Option<Source>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    /// `None`: all that we have.
    pub(crate) ciphers: Option<Vec<SupportedCipherSuite>>,
    /// The same, the preferred one first.
    pub(crate) curves: Option<Vec<&'static dyn SupportedKxGroup>>,
}

/// No chain of certificates is longer.
const LONGEST: u64 = 1 << 20;

/// The key to change and what is wrong with it.
type Refused = (&'static str, String);

impl Source {
    fn key(&self) -> &'static str {
        match self {
            Source::File(key, _) | Source::Inline(key, _) => key,
        }
    }

    fn refused(&self, why: &dyn std::fmt::Display) -> Refused {
        match self {
            Source::File(key, path) => (key, format!("{}: {why}", path.display())),
            Source::Inline(key, _) => (key, why.to_string()),
        }
    }

    fn bytes(&self) -> Result<Vec<u8>, Refused> {
        match self {
            Source::File(_, path) => file::read_bytes(path, LONGEST).map_err(|unread| self.refused(&unread)),
            Source::Inline(_, text) => Ok(text.expose().as_bytes().to_vec()),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Refused> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes()?).collect();
        let found = found.map_err(|error| self.refused(&error))?;
        if found.is_empty() { Err(self.refused(&"holds no PEM certificate")) } else { Ok(found) }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, Refused> {
        PrivateKeyDer::from_pem_slice(&self.bytes()?).map_err(|error| match error {
            pem::Error::NoItemsFound => self.refused(&"holds no PEM private key"),
            error => self.refused(&error),
        })
    }
}

/// Reads the files now.
///
/// # Errors
/// A file that cannot be read, a certificate and a key that do not belong together, suites and versions that do not.
pub(crate) fn configure(wanted: &Wanted) -> Result<ServerConfig, Refused> {
    let mut provider = ring::default_provider();
    if let Some(named) = &wanted.ciphers {
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || named.contains(suite));
    }
    if let Some(curves) = &wanted.curves {
        provider.kx_groups.clone_from(curves);
    }
    let provider = Arc::new(provider);
    let verifier = verifier(wanted, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&wanted.versions)
        .map_err(|error| ("min_version", format!("versions, suites and curves leave nothing: {error}")))?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let (certificates, key) = (wanted.certificates.certificates()?, wanted.key.private_key()?);
    let refused =
        |error: rustls::Error| wanted.key.refused(&format!("does not fit the certificate: {error}"));
    let mut config = builder.with_single_cert(certificates, key).map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Scrapers keep their connections: sessions to be resumed would only hold memory, and clients that are no longer
    // trusted.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn verifier(
    wanted: &Wanted,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Refused> {
    if wanted.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let Some(authority) = &wanted.client_ca else {
        return Err(("client_auth_type", "verifies nothing without `client_ca_file`".to_owned()));
    };
    let mut roots = RootCertStore::empty();
    for certificate in authority.certificates()? {
        roots.add(certificate).map_err(|error| authority.refused(&error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match wanted.client_auth {
        ClientAuth::IfGiven => builder.allow_unauthenticated(),
        _ => builder,
    };
    builder.build().map(Some).map_err(|error| (authority.key(), error.to_string()))
}

const FAILED: Fault = Fault::new(400, "tls", "the TLS handshake failed");
const PLAIN: Fault = Fault::new(400, "tls", "this port speaks TLS: use https://");
/// The first byte of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// What became of a handshake.
pub(crate) enum Handshake {
    /// Both sides speak in private. `known`: the client showed a certificate that was verified.
    Done { stream: Box<dyn Wire>, known: bool },
    /// The client left: somebody looked whether the port is open.
    Gone,
    /// The client is told by TLS itself, or is gone.
    Failed(Fault),
    /// The client speaks no TLS, and can be told so.
    Plain(Box<dyn Wire>, Fault),
}

/// Shakes hands within `time`; `begun` is called when the first byte has come.
pub(crate) async fn accept(
    mut stream: Box<dyn Wire>,
    config: Arc<ServerConfig>,
    time: Duration,
    begun: impl FnOnce(),
) -> Handshake {
    let whole = async {
        match stream.read_u8().await {
            Ok(HANDSHAKE) => begun(),
            Ok(_) => return Handshake::Plain(stream, PLAIN),
            Err(_) => return Handshake::Gone,
        }
        match TlsAcceptor::from(config).accept(Peeked { first: Some(HANDSHAKE), stream }).await {
            Ok(stream) => {
                let known = stream.get_ref().1.peer_certificates().is_some();
                Handshake::Done { stream: Box::new(stream), known }
            }
            Err(error) if is_gone(&error) => Handshake::Gone,
            Err(error) => {
                log::debug!("a TLS handshake failed: {error}");
                Handshake::Failed(FAILED)
            }
        }
    };
    timeout(time, whole).await.unwrap_or(Handshake::Failed(FAILED))
}

/// The client left amid the handshake, which says nothing of it.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// A stream whose first byte was looked at.
struct Peeked {
    first: Option<u8>,
    stream: Box<dyn Wire>,
}

impl AsyncRead for Peeked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if into.remaining() > 0
            && let Some(first) = self.first.take()
        {
            into.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Peeked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
