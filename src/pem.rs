//! Certificates and private keys out of PEM text.
//!
//! Owns what is said of a text that is not PEM: the library's own errors hold lines of the text, and a key that has lost its line
//! breaks is one line.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const NO_CERTIFICATE: &str = "holds no PEM certificate";
/// A key behind a password cannot be read.
const NO_KEY: &str = "holds no PEM private key that can be read without a password: `openssl pkey -in FILE -out PLAIN` \
     writes one";
const BROKEN_LINES: &str = "has lost its line breaks, or is cut short: each `-----BEGIN …-----` and each `-----END …-----` is a \
     line of its own";
const NO_BASE64: &str =
    "is damaged: what stands between a `-----BEGIN …-----` and its `-----END …-----` is not base64";
/// A key of OpenSSL's old form has this line below its first one if it is behind a password.
const ENCRYPTED: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// All certificates of `text`; at least one.
///
/// # Errors
/// There is none, or one is damaged: a part of a sentence, without anything of the text.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| fault(&error, NO_CERTIFICATE))?;
    if found.is_empty() { Err(NO_CERTIFICATE) } else { Ok(found) }
}

/// The first private key of `text`.
///
/// # Errors
/// There is none, or it is damaged or behind a password: a part of a sentence, without anything of the text.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, &'static str> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        let is_encrypted = text.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED);
        if is_encrypted { NO_KEY } else { fault(&error, NO_KEY) }
    })
}

fn fault(error: &pem::Error, nothing_found: &'static str) -> &'static str {
    match error {
        pem::Error::NoItemsFound => nothing_found,
        pem::Error::MissingSectionEnd { .. } | pem::Error::IllegalSectionStart { .. } => BROKEN_LINES,
        pem::Error::Base64Decode(_) => NO_BASE64,
        _ => "cannot be read as PEM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nc3dvcmRmaXNo\n-----END PRIVATE KEY-----\n";

    #[test]
    fn a_key_is_read_and_none_that_cannot_be_read_is_shown() {
        assert!(private_key(KEY.as_bytes()).is_ok());
        let encrypted =
            KEY.replacen("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1);
        for (text, expected) in [
            (KEY.replace('\n', ""), BROKEN_LINES),
            (KEY.replace('\n', " "), BROKEN_LINES),
            (KEY.replace('\n', "\\n"), BROKEN_LINES),
            (KEY.replacen("-----\n", "-----", 1), BROKEN_LINES),
            (KEY.replacen("-----\n", "----\n", 1), BROKEN_LINES),
            (KEY.replace("-----END PRIVATE KEY-----\n", ""), BROKEN_LINES),
            (KEY.replace("c3", "%%"), NO_BASE64),
            (encrypted.replace(" PRIVATE", " RSA PRIVATE"), NO_KEY),
            (KEY.replace(" PRIVATE", " ENCRYPTED PRIVATE"), NO_KEY),
            (KEY.replace("PRIVATE KEY", "CERTIFICATE"), NO_KEY),
            (String::new(), NO_KEY),
        ] {
            assert_eq!(private_key(text.as_bytes()).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn certificates_are_read_all_or_none() {
        let one = KEY.replace("PRIVATE KEY", "CERTIFICATE");
        assert_eq!(certificates(format!("{one}{one}").as_bytes()).unwrap().len(), 2);
        for (text, expected) in [
            (KEY.to_owned(), NO_CERTIFICATE),
            (one.replace('\n', ""), BROKEN_LINES),
            (format!("{one}{}", one.replace("c3", "%%")), NO_BASE64),
        ] {
            assert_eq!(certificates(text.as_bytes()).unwrap_err(), expected, "{text}");
        }
    }
}
