//! Who may come in, and how: TLS, users and answer headers of a web-config file, read again when it or one of its
//! certificates changes. `webconfig` reads the file, `tls` makes rustls' configuration, `auth` judges a login, `line`
//! says whose login is checked next.
//!
//! A file that is being written, or that a full disk has cut, may ask for less than was meant. So a file that is read
//! again takes away no kind of protection: that needs a restart.
//!
//! Knows no route and no target.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::file::FileFingerprint;

pub(crate) use super::web_config::WebConfig;

/// The files are looked at when somebody comes, and no more often than this.
const PAUSE: Duration = Duration::from_millis(200);
/// Nobody waits longer for the disk: the old configuration serves.
const PATIENCE: Duration = Duration::from_millis(500);

/// The web configuration as it is now.
pub(crate) struct Door {
    state: Mutex<State>,
}

struct State {
    /// `None`: nobody is asked for anything.
    path: Option<PathBuf>,
    now: Arc<WebConfig>,
    stamps: FileFingerprint,
    looked: Instant,
    /// Somebody looks.
    busy: bool,
}

impl Door {
    /// Reads the file. Without one everybody may come in, in plain text.
    ///
    /// # Errors
    /// All its faults.
    pub(crate) fn open(path: Option<&Path>) -> Result<Arc<Door>, Vec<Error>> {
        let (now, stamps) = match path {
            None => (WebConfig::default(), FileFingerprint::default()),
            Some(path) => {
                let (stamps, config) = super::web_config::read(path);
                (config?, stamps)
            }
        };
        let (path, now) = (path.map(Path::to_owned), Arc::new(now));
        let state = State { path, now, stamps, looked: Instant::now(), busy: false };
        Ok(Arc::new(Door { state: Mutex::new(state) }))
    }

    /// The configuration, at most [`PAUSE`] old. Files are looked at on a thread of their own: a disk that hangs must
    /// not stop the gate.
    pub(crate) async fn now(self: &Arc<Self>) -> Arc<WebConfig> {
        let Some(path) = self.turn() else { return self.known() };
        let door = Arc::clone(self);
        let look = tokio::task::spawn_blocking(move || door.look(&path));
        let _ = tokio::time::timeout(PATIENCE, look).await;
        self.known()
    }

    /// The configuration as it was read last.
    pub(crate) fn known(&self) -> Arc<WebConfig> {
        Arc::clone(&self.state.lock().now)
    }

    /// The file, for who is the one to look at it now.
    fn turn(&self) -> Option<PathBuf> {
        let mut state = self.state.lock();
        if state.busy || state.looked.elapsed() < PAUSE {
            return None;
        }
        state.busy = state.path.is_some();
        state.path.clone()
    }

    fn look(&self, path: &Path) {
        let stamps = self.state.lock().stamps.clone();
        let found = stamps.changed().then(|| super::web_config::read(path));
        let mut state = self.state.lock();
        state.busy = false;
        state.looked = Instant::now();
        if let Some((stamps, config)) = found {
            // Of a faulty file too: until it changes again nothing would be different.
            state.stamps = stamps;
            match config {
                Ok(new) => state.take(new, path),
                Err(faults) => faults.iter().for_each(|fault| log::warn!("{fault}; the old settings stay")),
            }
        }
    }
}

impl State {
    fn take(&mut self, new: WebConfig, path: &Path) {
        let path = path.display();
        let lost = self.now.lost_in(&new);
        if !lost.is_empty() {
            let (keys, are) = (lost.join(", "), if lost.len() == 1 { "is" } else { "are" });
            log::warn!("{path}: {keys} {are} gone from the file; the old settings stay until a restart");
        } else if new.tls.is_some() && self.now.tls.is_none() {
            log::warn!("{path}: to switch TLS on needs a restart; the old settings stay");
        } else {
            log::info!("{path}: read again");
            self.now = Arc::new(new);
        }
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

    /// Reads the file anew, as if somebody had come after the pause.
    fn look_again(door: &Door, path: &Path) -> Arc<WebConfig> {
        door.look(path);
        door.known()
    }

    #[test]
    fn no_cut_of_a_file_lets_strangers_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        for text in [format!("{USERS}{HEADERS}"), format!("# who\n{HEADERS}{USERS}")] {
            std::fs::write(&path, &text).unwrap();
            let door = Door::open(Some(&path)).unwrap();
            for length in 0..text.len() {
                std::fs::write(&path, &text[..length]).unwrap();
                assert!(!look_again(&door, &path).users.is_empty(), "cut after {:?}", &text[..length]);
            }
            std::fs::remove_file(&path).unwrap();
            assert!(!look_again(&door, &path).users.is_empty());
            std::fs::write(&path, format!("# whole again\n{text}")).unwrap();
            assert_eq!(look_again(&door, &path).headers.len(), 1);
        }
    }

    #[test]
    fn users_that_replace_others_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        std::fs::write(&path, "").unwrap();
        let door = Door::open(Some(&path)).unwrap();
        assert!(door.known().is_open());
        std::fs::write(&path, USERS).unwrap();
        let first = look_again(&door, &path);
        assert!(!first.is_open());
        std::fs::write(&path, USERS.replace("bob", "carol")).unwrap();
        assert!(!Arc::ptr_eq(&first, &look_again(&door, &path)));
    }
}
