//! Basic auth (RFC 7617) against bcrypt hashes. A hash is slow on purpose: a login that succeeded is known again by a
//! keyed digest, hashes are made one at a time and off the gate's thread, and a user that does not exist costs the
//! same as a wrong password.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use ring::hmac;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};
use crate::http::head::Fault;

/// More logins than this do not wait for a hash.
const LINE: usize = 64;

const MISSING: Fault = Fault::new(401, "auth", "log in with name and password");
const WRONG: Fault = Fault::new(401, "auth", "wrong name or password");
const BUSY: Fault = Fault::new(503, "auth", "too many logins wait to be checked; try again");

/// Names and bcrypt hashes.
#[derive(Default)]
pub(in crate::http) struct Users {
    hashes: HashMap<String, String>,
    /// What an unknown user's password is held against: of the highest cost there is.
    decoy: String,
}

impl Users {
    /// Hashes that were found to be some.
    pub(super) fn new(hashes: HashMap<String, String>) -> Users {
        let cost = |hash: &&String| hash.parse::<bcrypt::HashParts>().map_or(0, |parts| parts.get_cost());
        let decoy = hashes.values().max_by_key(cost).cloned().unwrap_or_default();
        Users { hashes, decoy }
    }

    /// True when everybody may come in.
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// Judges logins.
pub(in crate::http) struct Guard {
    key: hmac::Key,
    /// The digest of each user's last good login; the hash is part of it, so that a changed password forgets it.
    known: Mutex<HashMap<String, hmac::Tag>>,
    one_hash: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Guard {
    /// A guard that knows nobody yet.
    ///
    /// # Errors
    /// The machine has no randomness to give.
    pub(in crate::http) fn new() -> Result<Guard> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new())
            .map_err(|_| Error::machine("the system gives no random bytes"))?;
        Ok(Guard {
            key,
            known: Mutex::default(),
            one_hash: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Lets a login in. `authorization` is the header's value; without users it does not matter.
    ///
    /// # Errors
    /// The refusal.
    pub(in crate::http) async fn admit(
        &self,
        users: &Arc<Users>,
        authorization: Option<&str>,
    ) -> Result<(), Fault> {
        if users.is_empty() {
            return Ok(());
        }
        let (name, password) = authorization.and_then(credentials).ok_or(MISSING)?;
        let hash = users.hashes.get(&name);
        let message = [name.as_str(), hash.map_or("", String::as_str), &password].join("\0");
        if self.knows(&name, &message) {
            return Ok(());
        }
        let _place = Place::take(&self.waiting).ok_or(BUSY)?;
        let turn = Arc::clone(&self.one_hash).acquire_owned().await;
        if self.knows(&name, &message) {
            return Ok(());
        }
        let against = hash.unwrap_or(&users.decoy).clone();
        let check = tokio::task::spawn_blocking(move || {
            // Held until the hash is made, also where the client has gone.
            let _turn = turn;
            bcrypt::verify(password, &against).unwrap_or(false)
        });
        let checked = check.await;
        // The decoy is somebody's hash: a name that is not there is never let in.
        if checked.unwrap_or(false) && hash.is_some() {
            self.known.lock().insert(name, hmac::sign(&self.key, message.as_bytes()));
            return Ok(());
        }
        Err(WRONG)
    }

    fn knows(&self, name: &str, message: &str) -> bool {
        let tag = self.known.lock().get(name).copied();
        tag.is_some_and(|tag| hmac::verify(&self.key, message.as_bytes(), tag.as_ref()).is_ok())
    }
}

/// A place in the line; given back when dropped, also where the client went away.
struct Place<'g>(&'g AtomicUsize);

impl Place<'_> {
    fn take(waiting: &AtomicUsize) -> Option<Place<'_>> {
        let place = Place(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < LINE).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Name and password of `Basic …`.
fn credentials(authorization: &str) -> Option<(String, String)> {
    let (scheme, coded) = authorization.split_once(' ')?;
    let plain = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(coded.trim()).ok()).flatten()?;
    let plain = String::from_utf8(plain).ok()?;
    let (name, password) = plain.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
