//! The login plugins: what we answer to a server that wants to know the password, and when we would rather not.
//!
//! Pure: bytes in, bytes or a refusal out. A plugin that shows the password to whoever listens, or to whoever holds the
//! key that it is encrypted with, is answered only where nobody else can be at the other end, or where the
//! configuration says that plain text is wanted.

use std::num::NonZeroU32;

use mysql_common::crypto::rsa::{GetRandom, Pkcs1OaepPadding, PublicKey};
use mysql_common::scramble::{create_response_for_ed25519, scramble_native, scramble_sha256};
use num_bigint::BigUint;
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::Ed25519KeyPair;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

use crate::error::{Error, Reason, Result};

/// How a password would travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Encrypted.
    Tls,
    /// Through a Unix socket.
    Socket,
    /// To this machine.
    Loopback,
    /// In plain text, as the configuration demands.
    PlainText,
    /// In plain text, as nothing better was offered.
    Open,
}

impl Way {
    fn takes_clear_text(self) -> bool {
        self != Way::Open
    }
}

/// What a login is proved with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proof<'p> {
    pub(super) password: &'p str,
    pub(super) way: Way,
    /// The server's public key (PEM) as configured: whoever else answers cannot read what it encrypts.
    pub(super) server_key: Option<&'p [u8]>,
}

/// A login plugin that we can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plugin {
    Native,
    CachingSha2,
    Sha256,
    ClearText,
    Ed25519,
    Parsec,
}

/// Each with its name on the wire.
const PLUGINS: [(&str, Plugin); 6] = [
    ("mysql_native_password", Plugin::Native),
    ("caching_sha2_password", Plugin::CachingSha2),
    ("sha256_password", Plugin::Sha256),
    ("mysql_clear_password", Plugin::ClearText),
    ("client_ed25519", Plugin::Ed25519),
    ("parsec", Plugin::Parsec),
];

/// What `caching_sha2_password` says when it knows the password already, and when it wants to see it.
const FAST: &[u8] = &[3];
const FULL: &[u8] = &[4];

/// Twice as many rounds for each factor, from 1,024 on; a larger one would take a second of CPU and more.
const LARGEST_FACTOR: u8 = 8;

impl Plugin {
    /// The plugin of a name.
    ///
    /// # Errors
    /// `auth`, naming it and what to do, for one that we cannot answer.
    pub(super) fn named(name: &str) -> Result<Self> {
        if let Some((_, plugin)) = PLUGINS.iter().find(|(known, _)| *known == name) {
            return Ok(*plugin);
        }
        let hint = match name {
            "dialog" => "set pam_use_cleartext_plugin in the server and use TLS, or",
            _ => "",
        };
        let shown: String = name.chars().filter(|c| !c.is_control()).collect();
        let message = format!("the account logs in by the plugin {shown}, which is not supported");
        let hint = format!(
            "{hint}{}give the exporter an account of caching_sha2_password, ed25519, parsec or mysql_native_password",
            if hint.is_empty() { "" } else { " " }
        );
        let error = Error::new(Reason::Auth, message).with_hint(hint);
        Err(error.with_meaning("the user's login plugin is not supported here").before_password())
    }

    /// Its name on the wire.
    pub(super) fn name(self) -> &'static str {
        PLUGINS.iter().find(|(_, plugin)| *plugin == self).map_or("", |(name, _)| name)
    }

    /// The first answer.
    ///
    /// # Errors
    /// `auth`, where the password would be shown.
    pub(super) fn begin(self, proof: Proof<'_>, nonce: &[u8]) -> Result<Vec<u8>> {
        let secret = proof.password.as_bytes();
        Ok(match self {
            Plugin::Native => scramble_native(nonce, secret).map(Vec::from).unwrap_or_default(),
            Plugin::CachingSha2 => scramble_sha256(nonce, secret).map(Vec::from).unwrap_or_default(),
            Plugin::Ed25519 => create_response_for_ed25519(secret, nonce).to_vec(),
            // It first tells how the password is hashed.
            Plugin::Parsec => Vec::new(),
            Plugin::ClearText if proof.way.takes_clear_text() => zero_ended(secret),
            Plugin::Sha256 if secret.is_empty() || proof.way == Way::Tls => zero_ended(secret),
            Plugin::Sha256 => match proof.server_key {
                Some(key) => encrypted(secret, nonce, key)?,
                // Asks for the server's key.
                None if proof.way.takes_clear_text() => vec![1],
                None => return Err(self.would_show()),
            },
            Plugin::ClearText => return Err(self.would_show()),
        })
    }

    /// The answer to something of the plugin's own; nothing where it only tells us.
    ///
    /// # Errors
    /// `auth`, where the password would be shown; `protocol`.
    pub(super) fn go_on(self, proof: Proof<'_>, nonce: &[u8], said: &[u8]) -> Result<Option<Vec<u8>>> {
        let secret = proof.password.as_bytes();
        match self {
            Plugin::CachingSha2 if said == FAST => Ok(None),
            Plugin::CachingSha2 if said == FULL => match (proof.way, proof.server_key) {
                (Way::Tls | Way::Socket, _) => Ok(Some(zero_ended(secret))),
                (_, Some(key)) => encrypted(secret, nonce, key).map(Some),
                // Asks for the server's key.
                (Way::Loopback | Way::PlainText, None) => Ok(Some(vec![2])),
                (Way::Open, None) => Err(self.would_show()),
            },
            Plugin::CachingSha2 | Plugin::Sha256 if proof.server_key.is_some() => {
                Err(strange("a public key, where another one is configured"))
            }
            Plugin::CachingSha2 | Plugin::Sha256 if proof.way.takes_clear_text() => {
                encrypted(secret, nonce, said).map(Some)
            }
            Plugin::CachingSha2 | Plugin::Sha256 => Err(self.would_show()),
            Plugin::Parsec => parsec(secret, nonce, said).map(Some),
            Plugin::Native | Plugin::ClearText | Plugin::Ed25519 => {
                Err(strange(&format!("more of {}", self.name())))
            }
        }
    }

    fn would_show(self) -> Error {
        let (message, key) = match self {
            Plugin::ClearText => {
                ("the server asks for a clear-text password on an unencrypted connection", "")
            }
            _ => (
                "the server asks for the password under a key of its own on an unencrypted connection",
                "name its public key by `server_public_key`; or ",
            ),
        };
        let hint = format!(
            "use tls; or {key}write tls: {{mode: disable}} to show the password to whoever answers at this address"
        );
        Error::new(Reason::Auth, message)
            .with_hint(hint)
            .with_meaning("the server asks to see the password, and others could read it")
            .before_password()
    }
}

/// Fails for what is no public key, as [`Proof::server_key`] is one.
///
/// # Errors
/// What it is not.
pub(super) fn check_key(pem: &[u8]) -> std::result::Result<(), &'static str> {
    rsa_key(pem).map(drop).ok_or("it holds no RSA key between `BEGIN PUBLIC KEY` and `END PUBLIC KEY`")
}

fn strange(what: &str) -> Error {
    Error::new(Reason::Protocol, format!("the server sent what the driver cannot read: {what}"))
}

fn zero_ended(secret: &[u8]) -> Vec<u8> {
    [secret, &[0]].concat()
}

/// The password under the server's RSA key.
fn encrypted(secret: &[u8], nonce: &[u8], pem: &[u8]) -> Result<Vec<u8>> {
    let (modulus, exponent) = rsa_key(pem).ok_or_else(|| strange("its public key"))?;
    // What the padding takes of the key's length.
    const PADDING: u64 = 42;
    let length = secret.len() as u64 + 1;
    if nonce.is_empty() || length + PADDING > modulus.bits() / 8 {
        return Err(Error::new(Reason::Auth, "the password is too long for the server's public key"));
    }
    let mixed: Vec<u8> =
        zero_ended(secret).iter().zip(nonce.iter().cycle()).map(|(byte, mix)| byte ^ mix).collect();
    Ok(PublicKey::new(modulus, exponent).encrypt_block(mixed, Pkcs1OaepPadding::new(GetRandom)))
}

/// Modulus and exponent of a key of 1,024 to 16,384 bits; `None` for anything else.
fn rsa_key(pem: &[u8]) -> Option<(BigUint, BigUint)> {
    let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    let mut info = Der(Der(&key).element(0x30)?);
    let _algorithm = info.element(0x30)?;
    let (unused_bits, key) = info.element(0x03)?.split_first()?;
    let mut numbers = Der(Der(key).element(0x30)?);
    let modulus = BigUint::from_bytes_be(numbers.element(0x02)?);
    let exponent = BigUint::from_bytes_be(numbers.element(0x02)?);
    let usual = *unused_bits == 0
        && (1024..=16_384).contains(&modulus.bits())
        && modulus.bits().is_multiple_of(8)
        && (2..=64).contains(&exponent.bits());
    usual.then_some((modulus, exponent))
}

/// Reads the elements of a key one after the other.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    fn element(&mut self, tag: u8) -> Option<&'d [u8]> {
        let (length, rest) = match self.0 {
            [first, short @ 0..=0x7f, rest @ ..] if *first == tag => (usize::from(*short), rest),
            [first, 0x81, a, rest @ ..] if *first == tag => (usize::from(*a), rest),
            [first, 0x82, a, b, rest @ ..] if *first == tag => {
                (usize::from(u16::from_be_bytes([*a, *b])), rest)
            }
            _ => return None,
        };
        let (element, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(element)
    }
}

/// MariaDB's `parsec`: a signature by a key that is made of the password, the account's salt and some rounds.
fn parsec(secret: &[u8], nonce: &[u8], said: &[u8]) -> Result<Vec<u8>> {
    let [b'P', factor @ 0..=LARGEST_FACTOR, salt @ ..] = said else { return Err(strange("parsec's salt")) };
    let rounds = NonZeroU32::new(1024 << *factor).ok_or_else(|| strange("parsec's rounds"))?;
    let mut seed = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, rounds, salt, secret, &mut seed);
    let mut ours = [0; 32];
    let no_random = |_| Error::new(Reason::Auth, "this machine gives no random numbers");
    SystemRandom::new().fill(&mut ours).map_err(no_random)?;
    let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| strange("parsec's key"))?;
    let signature = key.sign(&[nonce, &ours].concat());
    Ok([&ours, signature.as_ref()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxSKOcxiet8lLMn8ImyUE
bGGKob5EdRz/4wdiw12ED0GfKKTKhVnodFCfm1mdy7bKOX5QxL9skrvYodpW43eR
R5bfOzIgy1qIB8RYb6qOXRBw1oA4snBDqtUjDv/lbHLJN+IbzM4oU+e3Lt9rXyLX
VY289ewONPweXHqSCnTL91w+wkU1peIFV2QhZ+upUCdCtwOn5hnJPNgxtbklFoya
C8W3Z7Xx7He2QDJsEWAqX197efw0L6j8X8Tyd8Uwb7zUB1tfMGhHfm9EwejPAtzx
4GztQNtNMtGS2oGZLQBLV9hib4dDL92iiZeckg2LAf4GsJofLLR8mcHCRoqVbQJ1
YQIDAQAB
-----END PUBLIC KEY-----";
    const SECRET: &str = "c4nary-secret";

    fn proof(way: Way) -> Proof<'static> {
        Proof { password: SECRET, way, server_key: None }
    }

    fn shows(bytes: &[u8]) -> bool {
        bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
    }

    #[test]
    fn a_password_is_shown_only_where_nobody_else_listens() {
        for (plugin, way, shown) in [
            (Plugin::ClearText, Way::Tls, true),
            (Plugin::ClearText, Way::Socket, true),
            (Plugin::ClearText, Way::Loopback, true),
            (Plugin::ClearText, Way::PlainText, true),
            (Plugin::Sha256, Way::Tls, true),
            (Plugin::Sha256, Way::Socket, false),
            (Plugin::CachingSha2, Way::Open, false),
            (Plugin::Native, Way::Open, false),
            (Plugin::Ed25519, Way::Open, false),
            (Plugin::Parsec, Way::Open, false),
        ] {
            assert_eq!(shows(&plugin.begin(proof(way), &[7; 20]).unwrap()), shown, "{plugin:?} {way:?}");
        }
        for plugin in [Plugin::ClearText, Plugin::Sha256] {
            let error = plugin.begin(proof(Way::Open), &[7; 20]).unwrap_err();
            assert_eq!(error.reason(), Reason::Auth);
            assert!(error.hint().is_some_and(|hint| hint.contains("mode: disable")), "{error}");
        }
    }

    #[test]
    fn a_stranger_s_key_gets_nothing_on_an_open_way() {
        let go_on = |way, said: &[u8]| Plugin::CachingSha2.go_on(proof(way), &[7; 20], said);
        assert_eq!(go_on(Way::Open, FAST), Ok(None));
        for said in [FULL, KEY] {
            assert_eq!(go_on(Way::Open, said).unwrap_err().reason(), Reason::Auth);
        }
        assert!(Plugin::Sha256.go_on(proof(Way::Open), &[7; 20], KEY).is_err());
        assert!(shows(&go_on(Way::Tls, FULL).unwrap().unwrap()));
        assert_eq!(go_on(Way::Loopback, FULL), Ok(Some(vec![2])));
        let sent = go_on(Way::Loopback, KEY).unwrap().unwrap();
        assert!(sent.len() == 256 && !shows(&sent));
    }

    /// With the server's key at hand nobody is asked for one, and no other one is taken.
    #[test]
    fn a_configured_key_is_the_only_one() {
        for way in [Way::Open, Way::Loopback, Way::PlainText] {
            let known = Proof { server_key: Some(KEY), ..proof(way) };
            let first = Plugin::Sha256.begin(known, &[7; 20]).unwrap();
            let full = Plugin::CachingSha2.go_on(known, &[7; 20], FULL).unwrap().unwrap();
            for sent in [first, full] {
                assert!(sent.len() == 256 && !shows(&sent), "{way:?}");
            }
            for plugin in [Plugin::Sha256, Plugin::CachingSha2] {
                assert!(plugin.go_on(known, &[7; 20], KEY).is_err(), "{way:?}");
            }
        }
        let cleartext = Proof { server_key: Some(KEY), ..proof(Way::Open) };
        assert!(Plugin::ClearText.begin(cleartext, &[7; 20]).is_err(), "the key is not used for it");
        assert!(check_key(KEY).is_ok() && check_key(b"-----BEGIN CERTIFICATE-----").is_err());
    }

    #[test]
    fn a_key_that_is_none_is_no_panic() {
        let mut keys: Vec<Vec<u8>> = vec![Vec::new(), b"-----BEGIN PUBLIC KEY-----\n".to_vec()];
        // Each byte of the text of a good key changed: what is read then is another key, or none.
        keys.extend((0..KEY.len()).map(|at| {
            let mut key = KEY.to_vec();
            key[at] = b'A';
            key
        }));
        keys.extend((0..KEY.len()).map(|end| KEY[..end].to_vec()));
        for key in keys {
            let _ = encrypted(SECRET.as_bytes(), &[7; 20], &key);
        }
        let long = "x".repeat(300);
        let error = encrypted(long.as_bytes(), &[7; 20], KEY).unwrap_err();
        assert!(error.message().contains("too long"), "{error}");
        assert!(encrypted(SECRET.as_bytes(), &[], KEY).is_err());
    }

    #[test]
    fn parsec_signs_for_salts_of_sense_only() {
        let salt = [&b"P\0"[..], &[9; 18]].concat();
        assert_eq!(parsec(SECRET.as_bytes(), &[7; 32], &salt).unwrap().len(), 96);
        for said in [&b""[..], b"P", b"Q\0", b"P\x20"] {
            assert!(parsec(SECRET.as_bytes(), &[7; 32], said).is_err(), "{said:?}");
        }
    }

    #[test]
    fn an_unknown_plugin_is_named_with_what_to_do() {
        for name in ["auth_gssapi_client", "dialog", "authentication_webauthn_client", "x\x1b[31my"] {
            let error = Plugin::named(name).unwrap_err();
            assert_eq!(error.reason(), Reason::Auth);
            assert!(error.message().contains(&name[..1]) && error.hint().is_some(), "{error}");
            assert!(!error.message().contains('\x1b'), "{error}");
        }
        for (name, plugin) in PLUGINS {
            assert_eq!(Plugin::named(name).unwrap().name(), name);
            assert_eq!(Plugin::named(name).unwrap(), plugin);
        }
    }
}
