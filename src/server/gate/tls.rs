//! TLS on the public sockets: the section of a web-config file as rustls' configuration, and the handshake.
//!
//! Names are Go's, as the files of the Prometheus exporters have them.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::head::Rejection;
use crate::file;
use crate::pem;
use crate::secret::Secret;
use crate::server::backend::upstream::ByteStream;

/// Protocol versions by Go's names; `None` is not supported.
pub(super) const VERSIONS: &[(&str, Option<&SupportedProtocolVersion>)] =
    &[("TLS10", None), ("TLS11", None), ("TLS12", Some(&version::TLS12)), ("TLS13", Some(&version::TLS13))];

/// The cipher suites that are supported, by Go's names. Those of TLS 1.3 are always enabled, as in Go.
pub(super) fn cipher_suites() -> Vec<(String, SupportedCipherSuite)> {
    let go_name =
        |suite: &SupportedCipherSuite| suite.suite().as_str().map(|name| name.replace("TLS13_", "TLS_"));
    ring::ALL_CIPHER_SUITES.iter().filter_map(|suite| Some((go_name(suite)?, *suite))).collect()
}

/// The curves that are supported, by Go's names.
pub(super) const CURVES: &[(&str, &dyn SupportedKxGroup)] = &[
    ("X25519", ring::kx_group::X25519),
    ("CurveP256", ring::kx_group::SECP256R1),
    ("CurveP384", ring::kx_group::SECP384R1),
];

/// What is required of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// No certificate.
    None,
    /// A certificate that `client_ca` signed, if it shows one.
    IfGiven,
    /// A certificate that `client_ca` signed.
    Required,
}

/// PEM, and the key of the configuration that it comes from.
pub(super) enum PemSource {
    File(&'static str, PathBuf),
    Inline(&'static str, Secret),
}

/// A section `tls_server_config` as read.
pub(super) struct TlsSection {
    pub(super) certificates: PemSource,
    pub(super) key: PemSource,
    pub(super) client_auth: ClientAuth,
    pub(super) client_ca: Option<PemSource>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    /// `None`: all that are supported.
    pub(super) ciphers: Option<Vec<SupportedCipherSuite>>,
    /// The same, the preferred one first.
    pub(super) curves: Option<Vec<&'static dyn SupportedKxGroup>>,
}

/// No chain of certificates is longer.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// The key to change and what is wrong with it.
type TlsFault = (&'static str, String);

impl PemSource {
    fn key(&self) -> &'static str {
        match self {
            PemSource::File(key, _) | PemSource::Inline(key, _) => key,
        }
    }

    fn fault(&self, why: &dyn std::fmt::Display) -> TlsFault {
        match self {
            PemSource::File(key, path) => (key, format!("{}: {why}", path.display())),
            PemSource::Inline(key, _) => (key, why.to_string()),
        }
    }

    fn bytes(&self) -> Result<Vec<u8>, TlsFault> {
        match self {
            PemSource::File(_, path) => {
                file::read_bytes(path, MAX_PEM_BYTES).map_err(|unread| self.fault(&unread))
            }
            PemSource::Inline(_, text) => Ok(text.expose().as_bytes().to_vec()),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
        pem::certificates(&self.bytes()?).map_err(|error| self.fault(&error))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsFault> {
        pem::private_key(&self.bytes()?).map_err(|error| self.fault(&error))
    }
}

/// Reads the files now.
///
/// # Errors
/// A file that cannot be read, a certificate and a key that do not belong together, suites and versions that do not.
pub(super) fn configure(section: &TlsSection) -> Result<ServerConfig, TlsFault> {
    let mut provider = ring::default_provider();
    if let Some(named) = &section.ciphers {
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || named.contains(suite));
    }
    if let Some(curves) = &section.curves {
        provider.kx_groups.clone_from(curves);
    }
    let provider = Arc::new(provider);
    let verifier = verifier(section, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&section.versions)
        .map_err(|error| ("min_version", format!("versions, suites and curves leave nothing: {error}")))?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let (certificates, key) = (section.certificates.certificates()?, section.key.private_key()?);
    let refused = |error: rustls::Error| section.key.fault(&format!("does not fit the certificate: {error}"));
    let mut config = builder.with_single_cert(certificates, key).map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Scrapers keep their connections: sessions to be resumed would only hold memory, and keep clients in that are no
    // longer trusted.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn verifier(
    section: &TlsSection,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsFault> {
    if section.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let Some(authority) = &section.client_ca else {
        return Err(("client_auth_type", "verifies nothing without `client_ca_file`".to_owned()));
    };
    let mut roots = RootCertStore::empty();
    for certificate in authority.certificates()? {
        roots.add(certificate).map_err(|error| authority.fault(&error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match section.client_auth {
        ClientAuth::IfGiven => builder.allow_unauthenticated(),
        _ => builder,
    };
    builder.build().map(Some).map_err(|error| (authority.key(), error.to_string()))
}

const FAILED: Rejection = Rejection::new(400, "tls", "the TLS handshake failed");
const PLAIN_TEXT: Rejection = Rejection::new(400, "tls", "this port speaks TLS: use https://");
/// The first byte of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// How a handshake ended.
pub(super) enum Handshake {
    /// `has_certificate`: the client showed one that was verified.
    Done { stream: Box<dyn ByteStream>, has_certificate: bool },
    /// The client left, as one does that only checks whether the port is open.
    Gone,
    /// TLS itself has told the client, or the client left.
    Failed(Rejection),
    /// The client does not use TLS, so it can read a plain answer.
    PlainText(Box<dyn ByteStream>, Rejection),
}

/// Shakes hands within `time`; `begun` is called when the first byte has arrived.
pub(super) async fn accept(
    mut stream: Box<dyn ByteStream>,
    config: Arc<ServerConfig>,
    time: Duration,
    begun: impl FnOnce(),
) -> Handshake {
    let whole = async {
        match stream.read_u8().await {
            Ok(HANDSHAKE) => begun(),
            Ok(_) => return Handshake::PlainText(stream, PLAIN_TEXT),
            Err(_) => return Handshake::Gone,
        }
        // The handshake reads that byte again.
        let (reader, writer) = tokio::io::split(stream);
        let stream = tokio::io::join((&[HANDSHAKE][..]).chain(reader), writer);
        match TlsAcceptor::from(config).accept(stream).await {
            Ok(stream) => {
                let has_certificate = stream.get_ref().1.peer_certificates().is_some();
                Handshake::Done { stream: Box::new(stream), has_certificate }
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

/// The client left amid the handshake, which is not a failure.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
