//! The keys of a Prometheus web-config file. The files of other exporters work unchanged; what is not supported here is
//! refused by name, never ignored.

use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

use rustls::SupportedProtocolVersion;

use crate::error::{Error, Result};
use crate::file::FileFingerprint;
use crate::yaml::document::Document;
use crate::yaml::keys::{Keys, LoadFindings, Reader, process_environment};

use super::auth::Users;
use super::tls::{self, CURVES, ClientAuth, PemSource, TlsSection, VERSIONS};
use super::web_config::WebConfig;

/// Headers that a file may set, as in the Prometheus exporters.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];
/// bcrypt knows no lower cost; a login of a higher one takes seconds of CPU.
const BCRYPT_COSTS: RangeInclusive<u32> = 4..=16;

const CLIENT_AUTH: &[(&str, Option<ClientAuth>)] = &[
    ("NoClientCert", Some(ClientAuth::None)),
    ("VerifyClientCertIfGiven", Some(ClientAuth::IfGiven)),
    ("RequireAndVerifyClientCert", Some(ClientAuth::Required)),
    ("RequestClientCert", None),
    ("RequireAnyClientCert", None),
];

/// Reads the file and the certificates it names. The fingerprint is of all of them, also where that fails.
pub(super) fn read(path: &Path) -> (FileFingerprint, Result<WebConfig, Vec<Error>>) {
    let mut fingerprint = FileFingerprint::default();
    fingerprint.add(path);
    let document = match Document::open(&path.display().to_string(), path) {
        Ok(document) => document,
        // As in the Prometheus exporters: an empty file sets nothing.
        Err(error) if error.message() == "the file is empty" => {
            return (fingerprint, Ok(WebConfig::default()));
        }
        Err(error) => return (fingerprint, Err(vec![error])),
    };
    let reader = Reader::new(&process_environment);
    let config = Keys::root(&document, &reader).map(|keys| root(keys, &mut fingerprint));
    let LoadFindings { faults, warnings, .. } = reader.finish();
    warnings.iter().for_each(|warning| log::warn!("{}", warning.headline()));
    match config {
        Some(config) if faults.is_empty() => (fingerprint, Ok(config)),
        _ => (fingerprint, Err(faults)),
    }
}

fn root(mut keys: Keys<'_>, fingerprint: &mut FileFingerprint) -> WebConfig {
    let mut config = WebConfig::default();
    if let Some(mut inner) = keys.inner("tls_server_config") {
        let section = tls_section(&mut inner, fingerprint);
        if let Some(section) = section.filter(|_| !inner.faulted()) {
            match tls::configure(&section) {
                Ok(tls) => {
                    config.requires_certificate = section.client_auth == ClientAuth::Required;
                    config.tls = Some(Arc::new(tls));
                }
                Err((key, message)) => inner.fault(key, message),
            }
        }
        inner.finish();
    }
    if let Some(mut inner) = keys.inner("http_server_config") {
        config.headers = headers(&mut inner);
        // Every client that offers HTTP/2 supports HTTP/1.1 too.
        let _ = inner.flag("http2");
        inner.finish();
    }
    config.users = Arc::new(users(&mut keys));
    keys.forbid("rate_limit", "`rate_limit` is not supported: exporter.http.max_connections limits the load");
    keys.finish();
    config
}

/// `None` without a certificate, which is a fault unless the section is empty.
fn tls_section(keys: &mut Keys<'_>, fingerprint: &mut FileFingerprint) -> Option<TlsSection> {
    let certificates = source(keys, "cert_file", "cert", fingerprint);
    let key = source(keys, "key_file", "key", fingerprint);
    let client_ca = source(keys, "client_ca_file", "client_ca", fingerprint);
    let client_auth = client_auth(keys);
    keys.forbid(
        "client_allowed_sans",
        "`client_allowed_sans` is not supported: every certificate that client_ca signed is accepted",
    );
    let versions = versions(keys);
    let ciphers = named(&tls::cipher_suites(), keys, "cipher_suites");
    let curves = named(CURVES, keys, "curve_preferences");
    // Without effect since Go 1.17: the server chooses.
    let _ = keys.flag("prefer_server_cipher_suites");
    if client_ca.is_some() && client_auth == ClientAuth::None {
        keys.fault_with_hint(
            "",
            "has a client CA, but client_auth_type requires no certificate",
            "write `client_auth_type: RequireAndVerifyClientCert`",
        );
    }
    match (certificates, key) {
        (Some(certificates), Some(key)) => {
            Some(TlsSection { certificates, key, client_auth, client_ca, versions, ciphers, curves })
        }
        (None, None) if client_ca.is_none() && client_auth == ClientAuth::None => None,
        (certificates, _) => {
            let missing = if certificates.is_none() { "`cert_file`" } else { "`key_file`" };
            keys.fault("", format!("has no {missing}"));
            None
        }
    }
}

/// A file, or what would be in it.
fn source(
    keys: &mut Keys<'_>,
    file: &'static str,
    inline: &'static str,
    fingerprint: &mut FileFingerprint,
) -> Option<PemSource> {
    let path = keys.file(file);
    let text = keys.secret(inline);
    if path.is_some() && text.is_some() {
        keys.fault(inline, format!("conflicts with `{file}`: set only one of them"));
    }
    if let Some(path) = &path {
        fingerprint.add(path);
    }
    path.map(|path| PemSource::File(file, path)).or_else(|| text.map(|text| PemSource::Inline(inline, text)))
}

fn client_auth(keys: &mut Keys<'_>) -> ClientAuth {
    match keys.choice("client_auth_type", CLIENT_AUTH) {
        None => ClientAuth::None,
        Some(Some(auth)) => auth,
        Some(None) => {
            let message = "a certificate that is not verified proves nothing, and is not supported";
            keys.fault_with_hint(
                "client_auth_type",
                message,
                "write RequireAndVerifyClientCert or NoClientCert",
            );
            ClientAuth::None
        }
    }
}

/// The versions from `min_version` to `max_version`.
fn versions(keys: &mut Keys<'_>) -> Vec<&'static SupportedProtocolVersion> {
    let known: Vec<(&'static str, usize)> =
        VERSIONS.iter().zip(0..).map(|((name, _), at)| (*name, at)).collect();
    let lowest = keys.choice("min_version", &known);
    let highest = keys.choice("max_version", &known);
    let range = lowest.unwrap_or(2)..=highest.unwrap_or(VERSIONS.len() - 1);
    for (key, bound) in [("min_version", lowest), ("max_version", highest)] {
        if let Some((name, None)) = bound.and_then(|at| VERSIONS.get(at)) {
            keys.fault(key, format!("{name} is not supported: it is insecure; use TLS12 or TLS13"));
        }
    }
    if range.is_empty() {
        keys.fault("min_version", "is above `max_version`");
    }
    VERSIONS.get(range).unwrap_or_default().iter().filter_map(|(_, version)| *version).collect()
}

/// The values of a list of names, each of which must be in the table. `None`: there is no list, or an empty one.
fn named<N: AsRef<str>, T: Copy>(table: &[(N, T)], keys: &mut Keys<'_>, key: &'static str) -> Option<Vec<T>> {
    let names = keys.texts(key).filter(|names| !names.is_empty())?;
    let find = |name: &String| {
        let found = table.iter().find(|(known, _)| known.as_ref() == name);
        if found.is_none() {
            let known: Vec<&str> = table.iter().map(|(name, _)| name.as_ref()).collect();
            keys.fault_with_hint(
                key,
                format!("{name:?} is not supported"),
                format!("known: {}", known.join(", ")),
            );
        }
        found.map(|(_, value)| *value)
    };
    Some(names.iter().filter_map(find).collect())
}

fn headers(keys: &mut Keys<'_>) -> Vec<(String, String)> {
    let pairs = keys.pairs("headers").unwrap_or_default();
    for (name, value) in &pairs {
        if !HEADERS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            let message = format!("the header {name} cannot be set");
            keys.fault_with_hint("headers", message, format!("known: {}", HEADERS.join(", ")));
        }
        if value.chars().any(char::is_control) {
            keys.fault("headers", format!("the value of {name} is not one line of text"));
        }
    }
    // An empty value sets nothing, as in the other exporters.
    pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

fn users(keys: &mut Keys<'_>) -> Users {
    keys.conceal("basic_auth_users");
    let pairs = keys.pairs("basic_auth_users").unwrap_or_default();
    for (name, hash) in &pairs {
        if name.is_empty() {
            keys.fault("basic_auth_users", "has a user without a name");
        }
        if name.contains(':') {
            let message = format!("user {name:?} can never log in: a name ends at its first `:`");
            keys.fault_with_hint("basic_auth_users", message, "choose a name without `:`");
        }
        match bcrypt::HashParts::from_str(hash) {
            Ok(parts) if BCRYPT_COSTS.contains(&parts.get_cost()) => {}
            Ok(parts) => {
                let (cost, least, most) = (parts.get_cost(), BCRYPT_COSTS.start(), BCRYPT_COSTS.end());
                let message = format!("the cost {cost} of user {name:?} is not one from {least} to {most}");
                keys.fault("basic_auth_users", message);
            }
            Err(_) => keys.fault_with_hint(
                "basic_auth_users",
                format!("the password of user {name:?} is not a bcrypt hash"),
                "make one with `htpasswd -nBC 10 NAME`",
            ),
        }
    }
    Users::new(pairs.into_iter().collect())
}
