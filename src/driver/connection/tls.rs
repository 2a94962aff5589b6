//! Encryption towards a server: the five modes and their files (docs/configuration.md), and rustls' configuration of them.
//!
//! Owns which certificates are accepted. Knows no protocol.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, SignatureScheme,
};

use crate::error::{Error, Reason, Result};
use crate::file;
use crate::pem;

use crate::driver::TlsState;

/// No chain of certificates is longer.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// How much encryption is required. Names and meanings are libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TlsMode {
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

/// The names of [`TlsMode`] in a configuration.
pub const TLS_MODES: &[(&str, TlsMode)] = &[
    ("disable", TlsMode::Disable),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

/// The `tls` keys of a `databases:` entry.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// What is required.
    pub mode: TlsMode,
    /// Trusted certificates (PEM) instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate chain (PEM).
    pub cert: Option<PathBuf>,
    /// Our key (PEM).
    pub key: Option<PathBuf>,
    /// The name to verify instead of the host.
    pub server_name: Option<String>,
}

/// The least protection that a configuration requires of a connection, whatever a session gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsRequirement {
    /// Nothing leaves the machine: a file, a Unix socket, a loopback address.
    #[default]
    Local,
    /// Plain text is configured.
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
enum CertificateCheck {
    Nothing,
    Chain,
    ChainAndName,
}

impl TlsConfig {
    /// As libpq: `require` with a `ca` verifies the chain.
    fn check(&self) -> CertificateCheck {
        match self.mode {
            TlsMode::Disable | TlsMode::Prefer => CertificateCheck::Nothing,
            TlsMode::Require if self.ca.is_none() => CertificateCheck::Nothing,
            TlsMode::Require | TlsMode::VerifyCa => CertificateCheck::Chain,
            TlsMode::VerifyFull => CertificateCheck::ChainAndName,
        }
    }

    /// The least protection that is required of a server on the network.
    pub fn tls_requirement(&self) -> TlsRequirement {
        match (self.check(), self.mode) {
            (CertificateCheck::ChainAndName, _) => TlsRequirement::Identity,
            (CertificateCheck::Chain, _) if self.ca.is_some() => TlsRequirement::Identity,
            (CertificateCheck::Chain, _) => TlsRequirement::Authority,
            (CertificateCheck::Nothing, TlsMode::Disable) => TlsRequirement::PlainText,
            (CertificateCheck::Nothing, TlsMode::Prefer) => TlsRequirement::WhatIsOffered,
            (CertificateCheck::Nothing, _) => TlsRequirement::Encryption,
        }
    }

    /// How the bytes of a session travel once it is encrypted.
    pub fn state(&self) -> TlsState {
        if self.check() == CertificateCheck::Nothing { TlsState::Encrypted } else { TlsState::Verified }
    }

    /// The name that the server's certificate must have, and that it is asked for. A host that cannot be in a certificate, as
    /// an address with its interface, serves by its address where nobody verifies names.
    ///
    /// # Errors
    /// `tls`, where such a name would have to be verified.
    pub fn name_of(&self, host: &str, peer: IpAddr) -> Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        match ServerName::try_from(name.to_owned()) {
            Ok(name) => Ok(name),
            Err(_) if self.check() != CertificateCheck::ChainAndName => {
                Ok(ServerName::from(peer.to_canonical()))
            }
            Err(_) => Err(Error::new(Reason::Tls, format!("{name} cannot be the name in a certificate"))),
        }
    }

    /// The rustls configuration; reads the files now, so that a renewed certificate serves the next session.
    ///
    /// # Errors
    /// `tls`: a file that cannot be read or holds nothing usable.
    pub fn client_config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let verifier = CertificateVerifier::new(self, &provider)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let shown = client_certificate(cert, key, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
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

/// The certificates that this system trusts, or those that the variables of OpenSSL name instead.
///
/// # Errors
/// `tls`: they cannot be read.
pub fn system_certificates() -> Result<Vec<CertificateDer<'static>>> {
    let failed = |why: &dyn fmt::Display| {
        let message = format!("the system's trusted certificates cannot be read: {why}");
        Error::new(Reason::Tls, message).with_hint("set tls.ca to a PEM file")
    };
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from).unwrap_or_default();
    if let Some(what) = std::fs::metadata(&named).ok().and_then(|found| file::special_kind(found.file_type()))
    {
        return Err(failed(&format!("SSL_CERT_FILE is {what}")));
    }
    let read = || Ok(rustls_native_certs::load_native_certs().certs);
    file::read_with_timeout(&named, read).map_err(|unread| failed(&format!("one {unread}")))
}

fn unreadable(file: &Path, key: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Reason::Tls, format!("tls.{key} {}: {error}", file.display()))
        .with_meaning("a file below `tls` cannot be used")
        .with_hint(format!("check `tls.{key}`: a PEM file that the user of the exporter can read"))
}

/// What the server is shown. It is the judge of that: a certificate of X.509 version 1, as `openssl x509 -req` makes, cannot be
/// read here, and serves.
fn client_certificate(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey> {
    let unusable = |error: &dyn fmt::Display| unreadable(key, "key", error);
    let chain = certificates(cert, "cert")?;
    let text = file::read_bytes(key, MAX_FILE_BYTES).map_err(|error| unusable(&error))?;
    let private = pem::private_key(&text).map_err(|error| unusable(&error))?;
    let private = provider.key_provider.load_private_key(private);
    let private = private.map_err(|_| unusable(&"is not a key of RSA, ECDSA P-256 or P-384, or Ed25519"))?;
    let shown = CertifiedKey::new(chain, private);
    match shown.keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(unusable(&"does not fit `tls.cert`"))
        }
        Err(error @ rustls::Error::InvalidCertificate(_)) if !is_of_old_version(&error) => {
            Err(unreadable(cert, "cert", &error))
        }
        _ => Ok(shown),
    }
}

fn certificates(file: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>> {
    let text = file::read_bytes(file, MAX_FILE_BYTES).map_err(|error| unreadable(file, key, &error))?;
    pem::certificates(&text).map_err(|error| unreadable(file, key, &error))
}

fn is_out_of_date(error: &rustls::Error) -> bool {
    use CertificateError as Certificate;
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            Certificate::Expired
                | Certificate::ExpiredContext { .. }
                | Certificate::NotValidYet
                | Certificate::NotValidYetContext { .. }
        )
    )
}

/// Decides whether a server's certificate is accepted.
#[derive(Debug)]
struct CertificateVerifier {
    check: CertificateCheck,
    roots: RootCertStore,
    /// The certificates of `ca`: one that the server shows itself needs no chain (a self-signed server), but is no better than
    /// others once it has expired.
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl CertificateVerifier {
    fn new(tls: &TlsConfig, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let check = tls.check();
        let mut roots = RootCertStore::empty();
        let mut trusted = Vec::new();
        match &tls.ca {
            _ if check == CertificateCheck::Nothing => {}
            Some(file) => {
                trusted = certificates(file, "ca")?;
                for certificate in &trusted {
                    roots.add(certificate.clone()).map_err(|error| unreadable(file, "ca", &error))?;
                }
            }
            None => {
                roots.add_parsable_certificates(system_certificates()?);
                if roots.is_empty() {
                    let message = "this system has no trusted certificates";
                    return Err(Error::new(Reason::Tls, message).with_hint("set tls.ca to a PEM file"));
                }
            }
        }
        Ok(CertificateVerifier { check, roots, trusted, provider: Arc::clone(provider) })
    }

    /// The handshake's signature proves that the server holds the key of its certificate. Where nobody checks whose
    /// certificate that is, anybody in between can show one of its own, so the proof is worth nothing; and to check it, the
    /// certificate would have to be one that the library can read.
    fn verify_signature(
        &self,
        verify: impl FnOnce(&WebPkiSupportedAlgorithms) -> Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.check == CertificateCheck::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify(&self.provider.signature_verification_algorithms)
    }

    fn verify_certificate(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let is_trusted = self.trusted.contains(end_entity);
        // Of a certificate that needs no chain, only its own dates count.
        let intermediates = if is_trusted { &[] } else { intermediates };
        let chain = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        );
        if let Err(error) = chain
            && (is_out_of_date(&error) || !is_trusted)
        {
            return Err(error);
        }
        if self.check == CertificateCheck::ChainAndName {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(())
    }
}

impl ServerCertVerifier for CertificateVerifier {
    /// Without verification every certificate is accepted, also one that cannot be read: of X.509 version 1, expired, with
    /// a weak signature, without a name.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.check != CertificateCheck::Nothing {
            self.verify_certificate(end_entity, intermediates, server_name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(|algorithms| crypto::verify_tls12_signature(message, cert, dss, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(|algorithms| crypto::verify_tls13_signature(message, cert, dss, algorithms))
    }

    /// A server signs with what its key can and the client accepts. Without verification everything is accepted.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        if self.check == CertificateCheck::Nothing {
            return ALL_SCHEMES.to_vec();
        }
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Every scheme that a server of TLS 1.2 or 1.3 may sign with.
const ALL_SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::ED448,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    // The same with a key that is for RSA-PSS alone; the library does not name them.
    SignatureScheme::Unknown(0x0809),
    SignatureScheme::Unknown(0x080a),
    SignatureScheme::Unknown(0x080b),
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::ECDSA_SHA1_Legacy,
    SignatureScheme::RSA_PKCS1_SHA1,
];

/// The server or the client shows a certificate of X.509 version 1 or 2, which the library does not read.
fn is_of_old_version(error: &rustls::Error) -> bool {
    use rustls::Error::InvalidCertificate;
    matches!(error, InvalidCertificate(CertificateError::Other(cause)) if cause.to_string() == "UnsupportedCertVersion")
}

/// The content of the DER element at the start of `bytes`, if it has this tag and is whole, and what follows it.
pub(crate) fn der_element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    if *found != tag {
        return None;
    }
    let (length, rest) = match length {
        0x80.. => {
            let (length, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (
                length
                    .iter()
                    .fold(0_usize, |sum, byte| sum.saturating_mul(256).saturating_add((*byte).into())),
                rest,
            )
        }
        length => (usize::from(*length), rest),
    };
    rest.split_at_checked(length)
}

/// Which certificates can be verified.
const VERIFIABLE: &str = "certificates of RSA (2,048 to 8,192 bits, SHA-256 to SHA-512), of ECDSA P-256 or P-384 (SHA-256 or \
     SHA-384) and of Ed25519 can be verified, and those of their authorities; or verify nothing: tls: {mode: require} without `ca`";

/// What went wrong in TLS, and what to do about it where that is known; `None` for an error of the socket.
pub fn explain(error: &io::Error) -> Option<(String, Option<&'static str>)> {
    use rustls::{AlertDescription as Alert, Error as Tls};
    let error = error.get_ref()?.downcast_ref::<Tls>()?;
    if is_of_old_version(error) {
        let message = "the server shows a certificate of X.509 version 1 or 2, which cannot be verified";
        let hint = "make it one of version 3 that names the host (`openssl x509 -req … -extfile FILE` with a line \
             `subjectAltName = DNS:HOST`), or verify nothing: tls: {mode: require} without `ca`";
        return Some((message.to_owned(), Some(hint)));
    }
    if let Tls::InvalidCertificate(
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
    ) = error
    {
        let message = "the server's certificate is signed in a way that cannot be verified";
        return Some((message.to_owned(), Some(VERIFIABLE)));
    }
    let hint = match error {
        Tls::InvalidCertificate(CertificateError::BadSignature) => VERIFIABLE,
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "connect by a name in the certificate's subjectAltName (a common name does not count), or verify the \
             authority alone: tls: {mode: verify-ca}"
        }
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "set tls.ca to the certificate of the authority that signed the server's"
        }
        _ if is_out_of_date(error) => "renew the server's certificate, or check this machine's clock",
        Tls::AlertReceived(
            Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity,
        )
        | Tls::PeerIncompatible(_) => {
            "this exporter supports TLS 1.3, and 1.2 with ECDHE, and verifies keys of RSA, ECDSA P-256 and P-384, and Ed25519; \
             check what the server allows and has"
        }
        Tls::AlertReceived(
            Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnsupportedCertificate,
        ) => "the server does not accept the client certificate: renew `tls.cert`",
        Tls::AlertReceived(Alert::CertificateRequired | Alert::BadCertificate) => {
            "the server requires a client certificate that it knows: set tls.cert and tls.key"
        }
        Tls::AlertReceived(Alert::UnknownCA) => {
            "the server trusts no authority of the client certificate (its ssl_ca_file or ssl_ca): take another `tls.cert`"
        }
        _ => return Some((error.to_string(), None)),
    };
    Some((error.to_string(), Some(hint)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const VERSION_1: &str = "MIHSMIGFAhRCmVMfCut2Oa9+z2sszSmSU4K2RDAFBgMrZXAwDDEKMAgGA1UEAwwBYTAeFw0yNjEyMDEwNDE1NTRaFw0yNjEyMTAwNDE1NTRaMA\
     wxCjAIBgNVBAMMAWEwKjAFBgMrZXADIQBQ7kqT3z2bTBGRG4PxZlton43qEsKCb7uXt8vSPX50xzAFBgMrZXADQQCIoqPmo1OoQp6JAmn8F5tx\
     lWNyCdvvnKVSCtHaftVGe3QqUwUt2nUow/78YQd+52394nNsG8gqXrabjrffbn0P";
    const VERSION_3: &str = "MIIBLDCB36ADAgECAhQ1JExhTTzRyVckWOi2/aMFKqTytTAFBgMrZXAwDDEKMAgGA1UEAwwBYTAeFw0yNjEyMDEwNDE1NTRaFw0yNjEyMTAwND\
     E1NTRaMAwxCjAIBgNVBAMMAWEwKjAFBgMrZXADIQBmSX5L0Y3tIq7GXgbab1g8bzGsMkk5w1OnsgTESP9opKNTMFEwHQYDVR0OBBYEFD8VoeEV\
     c4X5mNoqz8gHVhev434cMB8GA1UdIwQYMBaAFD8VoeEVc4X5mNoqz8gHVhev434cMA8GA1UdEwEB/wQFMAMBAf8wBQYDK2VwA0EAcdggdcu64/\
     lrOCqSv8lo9d3YS/eoiOPhGv1byBwfBbd4EiimwQ7/O6ilpsdjQsQ4xwCzfZsM1InPlVfm5i/uCQ==";

    /// From 2020 to 2040, signed by the next one.
    const LEAF: &str = "MIIBKTCB3KADAgECAhQL53d9Q/ZtsVJAosam/e0F4F/C6jAFBgMrZXAwDDEKMAgGA1UEAwwBaTAeFw0yMDAxMDEwMDAwMDBaFw\
     00MDAxMDEwMDAwMDBaMAwxCjAIBgNVBAMMAXMwKjAFBgMrZXADIQCTmMroRoeXnjGEwzD7SxCsB3T7TY4CuFn7gDLIC0kI4KNQME4wDAYDVR0RBAUwA\
     4IBczAdBgNVHQ4EFgQUGU4eFC+ByqLa+QxuqkTCvgEPVm8wHwYDVR0jBBgwFoAUNIYRqI+poOpQg2LBj5EhENGVF/4wBQYDK2VwA0EAYl7rMmppgh0k\
     53HJIPfyLxRfUfQioiMbHwqau024Hz8x8DlkJmLmjHvFKYEzfnz4Oz2s0wrWYvgxQs3tVnvECA==";
    /// From 2020 to 2021.
    const INTERMEDIATE: &str = "MIIBCDCBu6ADAgECAhQFQsl7lF/w6nxtTUGwTP5yRI3DZzAFBgMrZXAwDDEKMAgGA1UEAwwBaTAeFw0yMDAxMDEwMD\
     AwMDBaFw0yMTAxMDEwMDAwMDBaMAwxCjAIBgNVBAMMAWkwKjAFBgMrZXADIQDplNviIuMq7G34cfsk4l3jIAv6KkmmD6RHpIHhqcrxP6MvMC0wDAYDV\
     R0TBAUwAwEB/zAdBgNVHQ4EFgQUNIYRqI+poOpQg2LBj5EhENGVF/4wBQYDK2VwA0EAx1a5CXXw+UtrDyPwqAHwhyFTZ2NcfS7XoeaHS53qufEaGc6b\
     zHDsPvAbQ76oRijr4ovtztKUKEMwBd2/bN54CA==";

    #[test]
    fn of_a_certificate_that_is_trusted_itself_only_its_own_dates_count() {
        let [leaf, intermediate] =
            [LEAF, INTERMEDIATE].map(|text| CertificateDer::from(STANDARD.decode(text).unwrap()));
        let mut roots = RootCertStore::empty();
        roots.add(leaf.clone()).unwrap();
        let (check, trusted) = (CertificateCheck::ChainAndName, vec![leaf.clone()]);
        let provider = Arc::new(ring::default_provider());
        let verifier = CertificateVerifier { check, roots, trusted, provider };
        let verify = |year: u64| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600));
            let name = ServerName::try_from("s").unwrap();
            verifier.verify_certificate(&leaf, std::slice::from_ref(&intermediate), &name, now)
        };
        assert_eq!(verify(2030), Ok(()), "the other one has expired");
        assert!(is_out_of_date(&verify(2050).unwrap_err()));
        assert!(is_out_of_date(&verify(2010).unwrap_err()));
    }

    /// By rustls's words for it, which may change with its version.
    #[test]
    fn a_certificate_of_an_old_version_is_known_as_one() {
        let is_old = |certificate: Vec<u8>| {
            let read = ParsedCertificate::try_from(&CertificateDer::from(certificate)).map(|_| ());
            read.map_err(|error| is_of_old_version(&error))
        };
        let [one, three] = [VERSION_1, VERSION_3].map(|text| STANDARD.decode(text).unwrap());
        let mut two = three.clone();
        // The version is the first INTEGER of the content, less one.
        assert_eq!(std::mem::replace(&mut two[11], 1), 2);
        let broken = three[..20].to_vec();
        assert_eq!([one, two, three, broken].map(is_old), [Err(true), Err(true), Ok(()), Err(false)]);
    }
}
