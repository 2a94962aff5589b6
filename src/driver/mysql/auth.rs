//! The login plugins: the answers that prove the password to a server, and when none is given.
//!
//! Pure: bytes in, bytes or an error out. A plugin that shows the password to whoever listens, or to whoever holds the
//! key that it is encrypted with, is answered only where nobody else can be at the other end, or where the configuration
//! demands plain text.

use std::num::NonZeroU32;

use mysql_common::crypto::rsa::{GetRandom, Pkcs1OaepPadding, PublicKey};
use mysql_common::scramble::{create_response_for_ed25519, scramble_native, scramble_sha256};
use num_bigint::BigUint;
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::Ed25519KeyPair;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

use crate::driver::connection::tls::der_element;
use crate::error::{Error, Reason, Result};

use super::errors::unreadable;

/// What protects a password on its channel to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Tls,
    /// A Unix socket.
    UnixSocket,
    /// The server is on this machine.
    Loopback,
    /// Nothing, as the configuration demands.
    PlainTextConfigured,
    /// Nothing, as the server offers nothing better.
    Unprotected,
}

impl Channel {
    fn allows_clear_text(self) -> bool {
        self != Channel::Unprotected
    }
}

/// What a login is proved with, and what protects it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Credentials<'p> {
    pub(super) password: &'p str,
    pub(super) channel: Channel,
    /// The server's public key (PEM) as configured: whoever else answers cannot read what it encrypts.
    pub(super) server_key: Option<&'p [u8]>,
}

/// A login plugin that can be answered.
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

/// What `caching_sha2_password` sends when its cache holds the password's hash.
const FAST_AUTH_SUCCESS: &[u8] = &[3];
/// And when it needs the password itself.
const FULL_AUTH: &[u8] = &[4];

/// Twice as many rounds for each factor, from 1,024 on; a larger one would take a second of CPU and more.
const MAX_PARSEC_FACTOR: u8 = 8;

impl Plugin {
    /// The plugin of a name.
    ///
    /// # Errors
    /// `auth`, naming it and what to do, for one that is not supported.
    pub(super) fn named(name: &str) -> Result<Self> {
        if let Some((_, plugin)) = PLUGINS.iter().find(|(known, _)| *known == name) {
            return Ok(*plugin);
        }
        let shown: String = name.chars().filter(|c| !c.is_control()).collect();
        let message = format!("the account logs in by the plugin {shown}, which is not supported");
        let mut hint =
            "give the exporter an account of caching_sha2_password, ed25519, parsec or mysql_native_password"
                .to_owned();
        if name == "dialog" {
            hint.insert_str(0, "set pam_use_cleartext_plugin in the server and use TLS, or ");
        }
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
    pub(super) fn first_answer(self, credentials: Credentials<'_>, nonce: &[u8]) -> Result<Vec<u8>> {
        let secret = credentials.password.as_bytes();
        Ok(match self {
            Plugin::Native => scramble_native(nonce, secret).map(Vec::from).unwrap_or_default(),
            Plugin::CachingSha2 => scramble_sha256(nonce, secret).map(Vec::from).unwrap_or_default(),
            Plugin::Ed25519 => create_response_for_ed25519(secret, nonce).to_vec(),
            // It first tells how the password is hashed.
            Plugin::Parsec => Vec::new(),
            Plugin::ClearText if credentials.channel.allows_clear_text() => zero_ended(secret),
            Plugin::Sha256 if secret.is_empty() || credentials.channel == Channel::Tls => zero_ended(secret),
            Plugin::Sha256 => match credentials.server_key {
                Some(key) => encrypted(secret, nonce, key)?,
                // Asks for the server's key.
                None if credentials.channel.allows_clear_text() => vec![1],
                None => return Err(self.would_show()),
            },
            Plugin::ClearText => return Err(self.would_show()),
        })
    }

    /// The answer to a message of the plugin; `None` where it needs none.
    ///
    /// # Errors
    /// `auth`, where the password would be shown; `protocol`.
    pub(super) fn next_answer(
        self,
        credentials: Credentials<'_>,
        nonce: &[u8],
        data: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let secret = credentials.password.as_bytes();
        match self {
            Plugin::CachingSha2 if data == FAST_AUTH_SUCCESS => Ok(None),
            Plugin::CachingSha2 if data == FULL_AUTH => match (credentials.channel, credentials.server_key) {
                (Channel::Tls | Channel::UnixSocket, _) => Ok(Some(zero_ended(secret))),
                (_, Some(key)) => encrypted(secret, nonce, key).map(Some),
                // Asks for the server's key.
                (Channel::Loopback | Channel::PlainTextConfigured, None) => Ok(Some(vec![2])),
                (Channel::Unprotected, None) => Err(self.would_show()),
            },
            Plugin::CachingSha2 | Plugin::Sha256 if credentials.server_key.is_some() => {
                Err(unreadable("a public key, where another one is configured"))
            }
            Plugin::CachingSha2 | Plugin::Sha256 if credentials.channel.allows_clear_text() => {
                encrypted(secret, nonce, data).map(Some)
            }
            Plugin::CachingSha2 | Plugin::Sha256 => Err(self.would_show()),
            Plugin::Parsec => parsec(secret, nonce, data).map(Some),
            Plugin::Native | Plugin::ClearText | Plugin::Ed25519 => {
                Err(unreadable(&format!("more of {}", self.name())))
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

/// Checks a public key for [`Credentials::server_key`].
///
/// # Errors
/// What it is not.
pub(super) fn check_key(pem: &[u8]) -> std::result::Result<(), &'static str> {
    rsa_key(pem).map(drop).ok_or("it holds no RSA key between `BEGIN PUBLIC KEY` and `END PUBLIC KEY`")
}

fn zero_ended(secret: &[u8]) -> Vec<u8> {
    [secret, &[0]].concat()
}

/// The password under the server's RSA key.
fn encrypted(secret: &[u8], nonce: &[u8], pem: &[u8]) -> Result<Vec<u8>> {
    let (modulus, exponent) = rsa_key(pem).ok_or_else(|| unreadable("its public key"))?;
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
    let (info, _) = der_element(&key, 0x30)?;
    let (_algorithm, rest) = der_element(info, 0x30)?;
    let (bits, _) = der_element(rest, 0x03)?;
    let (unused_bits, key) = bits.split_first()?;
    let (numbers, _) = der_element(key, 0x30)?;
    let (modulus, rest) = der_element(numbers, 0x02)?;
    let (exponent, _) = der_element(rest, 0x02)?;
    let (modulus, exponent) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
    let is_usual = *unused_bits == 0
        && (1024..=16_384).contains(&modulus.bits())
        && modulus.bits().is_multiple_of(8)
        && (2..=64).contains(&exponent.bits());
    is_usual.then_some((modulus, exponent))
}

/// MariaDB's `parsec`: a signature by a key that is made of the password, the account's salt and some rounds.
fn parsec(secret: &[u8], nonce: &[u8], data: &[u8]) -> Result<Vec<u8>> {
    let [b'P', factor @ 0..=MAX_PARSEC_FACTOR, salt @ ..] = data else {
        return Err(unreadable("parsec's salt"));
    };
    let rounds = NonZeroU32::new(1024 << *factor).ok_or_else(|| unreadable("parsec's rounds"))?;
    let mut seed = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, rounds, salt, secret, &mut seed);
    let mut ours = [0; 32];
    let no_random = |_| Error::new(Reason::Auth, "this machine has no random numbers");
    SystemRandom::new().fill(&mut ours).map_err(no_random)?;
    let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| unreadable("parsec's key"))?;
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

    fn credentials(channel: Channel) -> Credentials<'static> {
        Credentials { password: SECRET, channel, server_key: None }
    }

    fn shows(bytes: &[u8]) -> bool {
        bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
    }

    #[test]
    fn a_password_is_shown_only_where_nobody_else_listens() {
        for (plugin, channel, shown) in [
            (Plugin::ClearText, Channel::Tls, true),
            (Plugin::ClearText, Channel::UnixSocket, true),
            (Plugin::ClearText, Channel::Loopback, true),
            (Plugin::ClearText, Channel::PlainTextConfigured, true),
            (Plugin::Sha256, Channel::Tls, true),
            (Plugin::Sha256, Channel::UnixSocket, false),
            (Plugin::CachingSha2, Channel::Unprotected, false),
            (Plugin::Native, Channel::Unprotected, false),
            (Plugin::Ed25519, Channel::Unprotected, false),
            (Plugin::Parsec, Channel::Unprotected, false),
        ] {
            assert_eq!(
                shows(&plugin.first_answer(credentials(channel), &[7; 20]).unwrap()),
                shown,
                "{plugin:?} {channel:?}"
            );
        }
        for plugin in [Plugin::ClearText, Plugin::Sha256] {
            let error = plugin.first_answer(credentials(Channel::Unprotected), &[7; 20]).unwrap_err();
            assert_eq!(error.reason(), Reason::Auth);
            assert!(error.hint().is_some_and(|hint| hint.contains("mode: disable")), "{error}");
        }
    }

    #[test]
    fn a_stranger_s_key_gets_nothing_on_an_open_way() {
        let next_answer =
            |channel, said: &[u8]| Plugin::CachingSha2.next_answer(credentials(channel), &[7; 20], said);
        assert_eq!(next_answer(Channel::Unprotected, FAST_AUTH_SUCCESS), Ok(None));
        for said in [FULL_AUTH, KEY] {
            assert_eq!(next_answer(Channel::Unprotected, said).unwrap_err().reason(), Reason::Auth);
        }
        assert!(Plugin::Sha256.next_answer(credentials(Channel::Unprotected), &[7; 20], KEY).is_err());
        assert!(shows(&next_answer(Channel::Tls, FULL_AUTH).unwrap().unwrap()));
        assert_eq!(next_answer(Channel::Loopback, FULL_AUTH), Ok(Some(vec![2])));
        let sent = next_answer(Channel::Loopback, KEY).unwrap().unwrap();
        assert!(sent.len() == 256 && !shows(&sent));
    }

    /// With the server's key at hand nobody is asked for one, and no other one is taken.
    #[test]
    fn a_configured_key_is_the_only_one() {
        for channel in [Channel::Unprotected, Channel::Loopback, Channel::PlainTextConfigured] {
            let known = Credentials { server_key: Some(KEY), ..credentials(channel) };
            let first = Plugin::Sha256.first_answer(known, &[7; 20]).unwrap();
            let full = Plugin::CachingSha2.next_answer(known, &[7; 20], FULL_AUTH).unwrap().unwrap();
            for sent in [first, full] {
                assert!(sent.len() == 256 && !shows(&sent), "{channel:?}");
            }
            for plugin in [Plugin::Sha256, Plugin::CachingSha2] {
                assert!(plugin.next_answer(known, &[7; 20], KEY).is_err(), "{channel:?}");
            }
        }
        let cleartext = Credentials { server_key: Some(KEY), ..credentials(Channel::Unprotected) };
        assert!(Plugin::ClearText.first_answer(cleartext, &[7; 20]).is_err(), "the key is not used for it");
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
