//! The Prometheus web-config file: <https://prometheus.io/docs/prometheus/latest/configuration/https/>: TLS, users and
//! answer headers. The files of other exporters work unchanged; what is not supported here is refused by name, never
//! ignored. The store reads the file again when it or one of its certificates changes.
//!
//! A file that is being written, or that a full disk has cut, may require less than was meant. So a file that is read
//! again never takes a kind of protection away: that needs a restart.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::{ServerConfig, SupportedProtocolVersion};

use crate::error::{Error, Result};
use crate::file::FileFingerprint;
use crate::yaml::document::Document;
use crate::yaml::keys::{Keys, LoadFindings, Reader, process_environment};

use super::auth::Users;
use super::tls::{self, CURVES, ClientAuth, PemSource, TlsSection, VERSIONS};

/// The files are looked at when a client connects, and no more often than this.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// No client waits longer for the disk: the old configuration applies.
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);

/// The web configuration as it is now.
pub(in crate::server) struct WebConfigStore {
    /// `None`: neither TLS nor users.
    path: Option<PathBuf>,
    state: Mutex<WebConfigState>,
}

struct WebConfigState {
    config: Arc<WebConfig>,
    fingerprint: FileFingerprint,
    checked: Instant,
    is_checking: bool,
}

impl WebConfigStore {
    /// Reads the file. Without one everybody may connect, in plain text.
    ///
    /// # Errors
    /// All its faults.
    pub(in crate::server) fn open(path: Option<&Path>) -> Result<Arc<WebConfigStore>, Vec<Error>> {
        let (fingerprint, config) =
            path.map_or_else(|| (FileFingerprint::default(), Ok(WebConfig::default())), read);
        let config = Arc::new(config?);
        let state =
            Mutex::new(WebConfigState { config, fingerprint, checked: Instant::now(), is_checking: false });
        Ok(Arc::new(WebConfigStore { path: path.map(Path::to_owned), state }))
    }

    /// The configuration, at most [`CHECK_INTERVAL`] old. Files are looked at on another thread: a disk that hangs must
    /// not block the gate.
    pub(super) async fn current(self: &Arc<Self>) -> Arc<WebConfig> {
        if self.begin_check() {
            let store = Arc::clone(self);
            let check = tokio::task::spawn_blocking(move || store.check());
            let _ = tokio::time::timeout(CHECK_TIMEOUT, check).await;
        }
        self.last_read()
    }

    /// The configuration as it was read last.
    pub(in crate::server) fn last_read(&self) -> Arc<WebConfig> {
        Arc::clone(&self.state.lock().config)
    }

    /// Whether the caller is the one to look at the files now.
    fn begin_check(&self) -> bool {
        let mut state = self.state.lock();
        let is_due = self.path.is_some() && !state.is_checking && state.checked.elapsed() >= CHECK_INTERVAL;
        state.is_checking |= is_due;
        is_due
    }

    fn check(&self) {
        let Some(path) = &self.path else { return };
        let fingerprint = self.state.lock().fingerprint.clone();
        let found = fingerprint.changed().then(|| read(path));
        let mut state = self.state.lock();
        state.is_checking = false;
        state.checked = Instant::now();
        let Some((fingerprint, config)) = found else { return };
        // Of a faulty file too: until it changes again, reading it again would find the same.
        state.fingerprint = fingerprint;
        match config {
            Ok(new) => match state.config.refuse_change(&new) {
                Some(why) => log::warn!("{}: {why}", path.display()),
                None => {
                    log::info!("{}: read again", path.display());
                    state.config = Arc::new(new);
                }
            },
            Err(faults) => {
                let warn =
                    |fault: &Error| log::warn!("{}; the old settings stay in effect", fault.headline());
                faults.iter().for_each(warn);
            }
        }
    }
}

/// What a file contains. By default everybody may connect.
#[derive(Default)]
pub(in crate::server) struct WebConfig {
    /// `None`: plain text.
    pub(in crate::server) tls: Option<Arc<ServerConfig>>,
    /// No client is admitted without a certificate.
    requires_certificate: bool,
    /// None = everybody.
    pub(super) users: Arc<Users>,
    /// Added to every answer; they replace ours of the same name.
    pub(super) headers: Vec<(String, String)>,
}

impl WebConfig {
    /// The keys that keep strangers out, and whether they are set.
    fn protections(&self) -> [(&'static str, bool); 3] {
        [
            ("tls_server_config", self.tls.is_some()),
            ("client_auth_type: RequireAndVerifyClientCert", self.requires_certificate),
            ("basic_auth_users", !self.users.is_empty()),
        ]
    }

    /// True when strangers may send requests and read along.
    pub(in crate::server) fn is_open(&self) -> bool {
        self.protections().iter().all(|(_, protects)| !protects)
    }

    /// Why the running exporter does not change over to `new`, if so.
    fn refuse_change(&self, new: &WebConfig) -> Option<String> {
        let both = self.protections().into_iter().zip(new.protections());
        let lost: Vec<&str> =
            both.filter(|((_, before), (_, after))| *before && !after).map(|((key, _), _)| key).collect();
        if !lost.is_empty() {
            let (keys, verb) = (lost.join(", "), if lost.len() == 1 { "is" } else { "are" });
            return Some(format!("{keys} {verb} gone from the file; the old settings stay until a restart"));
        }
        (new.tls.is_some() && self.tls.is_none())
            .then(|| "switching TLS on needs a restart; the old settings stay in effect".to_owned())
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
fn read(path: &Path) -> (FileFingerprint, Result<WebConfig, Vec<Error>>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "basic_auth_users:
  alice: $2b$05$uRsCdU5FXxsmlmcBdO.ay.rvcP3Bcl4wUZXAuvFcutxQYdw2V4xxq
  bob: $2b$05$uRsCdU5FXxsmlmcBdO.ay.rvcP3Bcl4wUZXAuvFcutxQYdw2V4xxq
";
    const HEADERS: &str = "http_server_config: {headers: {X-Frame-Options: sameorigin}}
";

    /// Reads the file again, as if a client had connected after the interval.
    fn read_again(store: &WebConfigStore) -> Arc<WebConfig> {
        store.check();
        store.last_read()
    }

    #[test]
    fn no_cut_of_a_file_lets_strangers_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        for text in [format!("{USERS}{HEADERS}"), format!("# who\n{HEADERS}{USERS}")] {
            std::fs::write(&path, &text).unwrap();
            let store = WebConfigStore::open(Some(&path)).unwrap();
            for length in 0..text.len() {
                std::fs::write(&path, &text[..length]).unwrap();
                assert!(!read_again(&store).users.is_empty(), "cut after {:?}", &text[..length]);
            }
            std::fs::remove_file(&path).unwrap();
            assert!(!read_again(&store).users.is_empty());
            std::fs::write(&path, format!("# whole again\n{text}")).unwrap();
            assert_eq!(read_again(&store).headers.len(), 1);
        }
    }

    #[test]
    fn users_that_replace_others_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        std::fs::write(&path, "").unwrap();
        let store = WebConfigStore::open(Some(&path)).unwrap();
        assert!(store.last_read().is_open());
        std::fs::write(&path, USERS).unwrap();
        let first = read_again(&store);
        assert!(!first.is_open());
        std::fs::write(&path, USERS.replace("bob", "carol")).unwrap();
        assert!(!Arc::ptr_eq(&first, &read_again(&store)));
    }
}
