//! Encryption towards a server: the five modes and their files (DESIGN 2), and rustls' configuration of them.
//!
//! Owns which certificates are believed. Knows no protocol.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{self, CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, Reason, Result};

use super::TlsState;

/// How much is demanded. Names and meanings are libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Mode {
    /// Plain text, written out: a clear-text password is then allowed.
    Disable,
    /// Encrypted where the server offers it.
    #[default]
    Prefer,
    /// Encrypted, not verified.
    Require,
    /// The certificate chains to `ca` (or the system's roots).
    VerifyCa,
    /// And names the host.
    VerifyFull,
}

/// The names of [`Mode`] in a configuration.
pub const MODES: &[(&str, Mode)] = &[
    ("disable", Mode::Disable),
    ("prefer", Mode::Prefer),
    ("require", Mode::Require),
    ("verify-ca", Mode::VerifyCa),
    ("verify-full", Mode::VerifyFull),
];

/// The `tls` keys of a `databases:` entry.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// What is demanded.
    pub mode: Mode,
    /// Trusted certificates (PEM) instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate chain (PEM).
    pub cert: Option<PathBuf>,
    /// Our key (PEM).
    pub key: Option<PathBuf>,
    /// The name to verify instead of the host.
    pub server_name: Option<String>,
}

/// The least that a configuration demands of the way to a server, whatever a session gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Demand {
    /// Nothing leaves the machine: a file, a Unix socket, a loopback address.
    #[default]
    Local,
    /// Plain text was asked for.
    PlainText,
    /// Plain text where the server offers nothing better.
    WhatIsOffered,
    /// Encryption with whoever answers.
    Encryption,
    /// A certificate of some authority, for any name: everybody can have one of a public authority.
    Authority,
    /// A certificate of an authority of our own, or one that names the host.
    Identity,
}

/// What is checked of a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

impl Tls {
    /// As libpq: `require` with a `ca` verifies the chain.
    fn check(&self) -> Check {
        match self.mode {
            Mode::Disable | Mode::Prefer => Check::Nothing,
            Mode::Require if self.ca.is_none() => Check::Nothing,
            Mode::Require | Mode::VerifyCa => Check::Chain,
            Mode::VerifyFull => Check::ChainAndName,
        }
    }

    /// The least that is demanded of a server on the network.
    #[must_use]
    pub fn demand(&self) -> Demand {
        match (self.check(), self.mode) {
            (Check::ChainAndName, _) => Demand::Identity,
            (Check::Chain, _) if self.ca.is_some() => Demand::Identity,
            (Check::Chain, _) => Demand::Authority,
            (Check::Nothing, Mode::Disable) => Demand::PlainText,
            (Check::Nothing, Mode::Prefer) => Demand::WhatIsOffered,
            (Check::Nothing, _) => Demand::Encryption,
        }
    }

    /// How the bytes of a session travel once it is encrypted.
    #[must_use]
    pub fn state(&self) -> TlsState {
        if self.check() == Check::Nothing { TlsState::Encrypted } else { TlsState::Verified }
    }

    /// The rustls configuration; reads the files now, so that a renewed certificate serves the next session.
    ///
    /// # Errors
    /// `tls`: a file that cannot be read or holds nothing usable.
    pub fn client_config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(self, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert, "cert")?;
                let key_of = |error| unreadable(key, "key", &error);
                let key = PrivateKeyDer::from_pem_file(key).map_err(key_of)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| fault(&error))?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => {
                return Err(Error::new(
                    Reason::Tls,
                    "tls.cert and tls.key belong together: set both or none",
                ));
            }
        };
        // Sessions live long: tickets would only be memory.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn fault(error: &rustls::Error) -> Error {
    Error::new(Reason::Tls, format!("TLS: {error}"))
}

fn unreadable(file: &Path, key: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Reason::Tls, format!("tls.{key} {}: {error}", file.display()))
}

fn certificates(file: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(file, key, &error))?;
    if found.is_empty() { Err(unreadable(file, key, &"holds no PEM certificate")) } else { Ok(found) }
}

/// Decides whether a server's certificate is believed.
#[derive(Debug)]
struct Verifier {
    check: Check,
    roots: RootCertStore,
    /// The certificates of `ca`: one that the server shows itself needs no chain (a self-signed server).
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let check = tls.check();
        let mut roots = RootCertStore::empty();
        let mut trusted = Vec::new();
        match &tls.ca {
            _ if check == Check::Nothing => {}
            Some(file) => {
                trusted = certificates(file, "ca")?;
                for certificate in &trusted {
                    roots.add(certificate.clone()).map_err(|error| unreadable(file, "ca", &error))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    let message = "this system has no trusted certificates";
                    return Err(Error::new(Reason::Tls, message).with_hint("set tls.ca to a PEM file"));
                }
            }
        }
        Ok(Verifier { check, roots, trusted, provider: Arc::clone(provider) })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.check != Check::Nothing {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            if !self.trusted.contains(end_entity) {
                let algorithms = self.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(
                    &certificate,
                    &self.roots,
                    intermediates,
                    now,
                    algorithms,
                )?;
            }
            if self.check == Check::ChainAndName {
                verify_server_name(&certificate, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
