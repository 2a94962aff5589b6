//! Who may come in, and how: TLS, users and answer headers of a web-config file, read again when it or one of its
//! certificates changes. `webconfig` reads the file, `tls` makes rustls' configuration, `auth` judges a login.
//!
//! Knows no route and no target.

pub(super) mod auth;
pub(super) mod tls;
mod webconfig;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::stamp::Stamps;

pub(super) use webconfig::WebConfig;

/// The files are looked at when somebody comes, and no more often than this.
const PAUSE: Duration = Duration::from_millis(200);
/// Nobody waits longer for the disk: the old configuration serves.
const PATIENCE: Duration = Duration::from_millis(500);

/// The web configuration as it is now.
pub(super) struct Door {
    state: Mutex<State>,
}

struct State {
    /// `None`: nobody is asked for anything.
    path: Option<PathBuf>,
    now: Arc<WebConfig>,
    stamps: Stamps,
    looked: Instant,
    /// Somebody looks.
    busy: bool,
}

impl Door {
    /// Reads the file. Without one everybody may come in, in plain text.
    ///
    /// # Errors
    /// All its faults.
    pub(super) fn open(path: Option<&Path>) -> Result<Arc<Door>, Vec<Error>> {
        let (now, stamps) = match path {
            None => (WebConfig::default(), Stamps::default()),
            Some(path) => {
                let (stamps, config) = webconfig::read(path);
                (config?, stamps)
            }
        };
        let (path, now) = (path.map(Path::to_owned), Arc::new(now));
        let state = State { path, now, stamps, looked: Instant::now(), busy: false };
        Ok(Arc::new(Door { state: Mutex::new(state) }))
    }

    /// The configuration, at most [`PAUSE`] old. Files are looked at on a thread of their own: a disk that hangs must
    /// not stop the gate.
    pub(super) async fn now(self: &Arc<Self>) -> Arc<WebConfig> {
        let Some(path) = self.turn() else { return self.known() };
        let door = Arc::clone(self);
        let look = tokio::task::spawn_blocking(move || door.look(&path));
        let _ = tokio::time::timeout(PATIENCE, look).await;
        self.known()
    }

    /// The configuration as it was read last.
    pub(super) fn known(&self) -> Arc<WebConfig> {
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
        let found = stamps.changed().then(|| webconfig::read(path));
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
        if new.tls.is_some() == self.now.tls.is_some() {
            log::info!("{}: read again", path.display());
            self.now = Arc::new(new);
        } else {
            let path = path.display();
            log::warn!("{path}: to switch TLS on or off needs a restart; the old settings stay");
        }
    }
}
