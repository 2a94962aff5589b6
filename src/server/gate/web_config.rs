//! The Prometheus web-config file: <https://prometheus.io/docs/prometheus/latest/configuration/https/>. The files of
//! other exporters work unchanged; what is not supported here is refused by name, never passed over.
//!
//! A key of TLS is read in [`tls_keys`] and gets its meaning in `tls`.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::error::Error;
use crate::file::FileFingerprint;
use crate::yaml::document::Document;
use crate::yaml::keys::{Keys, Reader};

use super::auth::Users;
use super::tls;
use super::tls::{CIPHERS, CURVES, ClientAuth, Source, VERSIONS, Wanted};

/// What a file says. The default is a door that stands open.
#[derive(Default)]
pub(crate) struct WebConfig {
    /// `None`: plain text.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Nobody comes in without a certificate.
    client_certificates: bool,
    /// Nobody = everybody.
    pub(crate) users: Arc<Users>,
    /// Added to every answer; they replace ours of the same name.
    pub(crate) headers: Vec<(String, String)>,
}

impl WebConfig {
    /// The keys that keep strangers out, and whether these settings have them.
    fn protections(&self) -> [(&'static str, bool); 3] {
        [
            ("tls_server_config", self.tls.is_some()),
            ("client_auth_type: RequireAndVerifyClientCert", self.client_certificates),
            ("basic_auth_users", !self.users.is_empty()),
        ]
    }

    /// True when strangers are neither kept out nor kept from listening.
    pub(crate) fn is_open(&self) -> bool {
        self.protections().iter().all(|(_, protects)| !protects)
    }

    /// The kinds of protection that `new` does not have any more, by their keys.
    pub(crate) fn lost_in(&self, new: &WebConfig) -> Vec<&'static str> {
        let both = self.protections().into_iter().zip(new.protections());
        let lost = both.filter(|((_, before), (_, after))| *before && !after);
        lost.map(|((key, _), _)| key).collect()
    }
}

/// Headers that a file may set, as in the Prometheus exporters.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];
/// A login of a higher cost takes seconds of CPU.
const HIGHEST_COST: u32 = 16;

const CLIENT_AUTH: &[(&str, Option<ClientAuth>)] = &[
    ("NoClientCert", Some(ClientAuth::None)),
    ("VerifyClientCertIfGiven", Some(ClientAuth::IfGiven)),
    ("RequireAndVerifyClientCert", Some(ClientAuth::Required)),
    ("RequestClientCert", None),
    ("RequireAnyClientCert", None),
];

/// Reads the file and the certificates it names. The stamps are of all of them, whatever came of it.
pub(crate) fn read(path: &Path) -> (FileFingerprint, Result<WebConfig, Vec<Error>>) {
    let mut stamps = FileFingerprint::default();
    stamps.add(path);
    let document = match Document::open(&path.display().to_string(), path) {
        Ok(document) => document,
        // As the exporters of Prometheus take it: nothing is asked for.
        Err(error) if error.message() == "the file is empty" => return (stamps, Ok(WebConfig::default())),
        Err(error) => return (stamps, Err(vec![error])),
    };
    let reader = Reader::new(&|name| std::env::var(name).ok());
    let config = Keys::root(&document, &reader).map(|keys| root(keys, &mut stamps));
    let (faults, warnings) = reader.finish();
    for warning in warnings {
        log::warn!("{warning}");
    }
    match config {
        Some(config) if faults.is_empty() => (stamps, Ok(config)),
        _ => (stamps, Err(faults)),
    }
}

fn root(mut keys: Keys<'_>, stamps: &mut FileFingerprint) -> WebConfig {
    let mut config = WebConfig::default();
    if let Some(mut inner) = keys.inner("tls_server_config") {
        let wanted = tls_keys(&mut inner, stamps);
        if let Some(wanted) = wanted.filter(|_| !inner.faulted()) {
            match tls::configure(&wanted) {
                Ok(tls) => {
                    config.client_certificates = wanted.client_auth == ClientAuth::Required;
                    config.tls = Some(Arc::new(tls));
                }
                Err((key, message)) => inner.fault(key, message),
            }
        }
        inner.finish();
    }
    if let Some(mut inner) = keys.inner("http_server_config") {
        config.headers = headers(&mut inner);
        // We speak HTTP/1.1, which every client that offers HTTP/2 knows too.
        let _ = inner.flag("http2");
        inner.finish();
    }
    config.users = Arc::new(users(&mut keys));
    keys.forbid(
        "rate_limit",
        "`rate_limit` is not supported: exporter.http.max_connections bounds what is served",
    );
    keys.finish();
    config
}

/// `None` without a certificate, which a fault tells of unless the section is empty.
fn tls_keys(keys: &mut Keys<'_>, stamps: &mut FileFingerprint) -> Option<Wanted> {
    let certificates = source(keys, "cert_file", "cert", stamps);
    let key = source(keys, "key_file", "key", stamps);
    let client_ca = source(keys, "client_ca_file", "client_ca", stamps);
    let client_auth = client_auth(keys);
    keys.forbid(
        "client_allowed_sans",
        "`client_allowed_sans` is not supported: every certificate of client_ca is let in",
    );
    let versions = versions(keys);
    let (ciphers, curves) = (named(CIPHERS, keys, "cipher_suites"), named(CURVES, keys, "curve_preferences"));
    // Without a meaning since Go 1.17: the server chooses.
    let _ = keys.flag("prefer_server_cipher_suites");
    if client_ca.is_some() && client_auth == ClientAuth::None {
        keys.fault_with_hint(
            "",
            "has a client CA, and client_auth_type asks for no certificate",
            "write `client_auth_type: RequireAndVerifyClientCert`",
        );
    }
    match (certificates, key) {
        (Some(certificates), Some(key)) => {
            Some(Wanted { certificates, key, client_auth, client_ca, versions, ciphers, curves })
        }
        (None, None) if client_ca.is_none() && client_auth == ClientAuth::None => None,
        (certificates, _) => {
            let missing = if certificates.is_none() { "`cert_file`" } else { "`key_file`" };
            keys.fault("", format!("has no {missing}"));
            None
        }
    }
}

/// A file, or what would stand in it.
fn source(
    keys: &mut Keys<'_>,
    file: &'static str,
    inline: &'static str,
    stamps: &mut FileFingerprint,
) -> Option<Source> {
    let path = keys.file(file);
    let text = keys.secret(inline);
    if path.is_some() && text.is_some() {
        keys.fault(inline, format!("stands beside `{file}`: write one of them"));
    }
    if let Some(path) = &path {
        stamps.add(path);
    }
    path.map(|path| Source::File(file, path)).or_else(|| text.map(|text| Source::Inline(inline, text)))
}

fn client_auth(keys: &mut Keys<'_>) -> ClientAuth {
    match keys.choice("client_auth_type", CLIENT_AUTH) {
        None => ClientAuth::None,
        Some(Some(auth)) => auth,
        Some(None) => {
            let message = "a certificate that nobody verifies says nothing, and is not supported";
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
fn versions(keys: &mut Keys<'_>) -> Vec<&'static rustls::SupportedProtocolVersion> {
    let known: Vec<(&'static str, usize)> =
        VERSIONS.iter().zip(0..).map(|((name, _), at)| (*name, at)).collect();
    let lowest = keys.choice("min_version", &known);
    let highest = keys.choice("max_version", &known);
    let range = lowest.unwrap_or(2)..=highest.unwrap_or(VERSIONS.len() - 1);
    for (key, bound) in [("min_version", lowest), ("max_version", highest)] {
        if let Some((name, None)) = bound.and_then(|at| VERSIONS.get(at)) {
            keys.fault(
                key,
                format!("{name} is not supported: it is broken; TLS12 and TLS13 are spoken here"),
            );
        }
    }
    if range.is_empty() {
        keys.fault("min_version", "is above `max_version`");
    }
    VERSIONS.get(range).unwrap_or_default().iter().filter_map(|(_, version)| *version).collect()
}

/// What a list of names means, each of which must be in the table. `None`: there is no list, or an empty one.
fn named<T: Copy>(table: &[(&str, T)], keys: &mut Keys<'_>, key: &'static str) -> Option<Vec<T>> {
    let names = keys.texts(key).filter(|names| !names.is_empty())?;
    let find = |name: &String| {
        let found = table.iter().find(|(known, _)| known == name);
        if found.is_none() {
            let known: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
            keys.fault_with_hint(
                key,
                format!("{name:?} is not supported"),
                format!("known: {}", known.join(", ")),
            );
        }
        found.map(|(_, meaning)| *meaning)
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
        match bcrypt::HashParts::from_str(hash) {
            Ok(parts) if parts.get_cost() <= HIGHEST_COST => {}
            Ok(parts) => {
                let message =
                    format!("the cost {} of user {name:?} is above {HIGHEST_COST}", parts.get_cost());
                keys.fault("basic_auth_users", message);
            }
            Err(_) => keys.fault_with_hint(
                "basic_auth_users",
                format!("the password of user {name:?} is no bcrypt hash"),
                "make one with `htpasswd -nBC 10 NAME`",
            ),
        }
    }
    Users::new(pairs.into_iter().collect::<HashMap<_, _>>())
}
