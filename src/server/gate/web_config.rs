//! The Prometheus web-config file in use: <https://prometheus.io/docs/prometheus/latest/configuration/https/>: TLS, users and
//! answer headers. `web_config_keys` reads it; the store has it read again when it or one of its certificates changes.
//!
//! A file that is being written, or that a full disk has cut, may require less than was meant. So a file that is read
//! again never takes a kind of protection away: that needs a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConfig;

use crate::error::{Error, Result};
use crate::file::FileFingerprint;

use super::auth::Users;
use super::web_config_keys::read;

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
    pub(super) requires_certificate: bool,
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
