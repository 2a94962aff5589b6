//! Basic auth (RFC 7617) against bcrypt hashes. A hash is slow on purpose: a login that succeeded is known again by a
//! keyed digest, hashes are made one at a time and off the gate's thread, and every login that fails costs the same: as
//! many rounds as the costliest hash of the file has, whoever the user is and whether he exists.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use ring::hmac;

use super::head::Fault;
use super::login_queue::{Line, Origin};
use crate::error::{Error, Result};
use crate::server::Peer;

const MISSING: Fault = Fault::new(401, "auth", "log in with name and password");
const WRONG: Fault = Fault::new(401, "auth", "wrong name or password");
const BUSY: Fault = Fault::new(503, "auth", "too many logins wait to be checked; try again");

/// Names and bcrypt hashes.
#[derive(Default)]
pub(crate) struct Users {
    hashes: HashMap<String, String>,
    /// What an unknown user's password is held against: of the highest cost there is.
    decoy: String,
}

impl Users {
    /// Hashes that were found to be some.
    pub(crate) fn new(hashes: HashMap<String, String>) -> Users {
        let decoy = hashes.values().max_by_key(|hash| cost(hash)).cloned().unwrap_or_default();
        Users { hashes, decoy }
    }

    /// True when everybody may come in.
    pub(crate) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Makes the hash, which takes its time; the same time for every login that fails.
    fn let_in(&self, name: &str, password: &str) -> bool {
        let hash = self.hashes.get(name);
        let against = hash.unwrap_or(&self.decoy);
        // The decoy is somebody's hash: a name that is not there is never let in.
        if bcrypt::verify(password, against).unwrap_or(false) && hash.is_some() {
            return true;
        }
        for cost in missing(cost(against), cost(&self.decoy)) {
            let _ = std::hint::black_box(bcrypt::hash_with_salt(password, cost, [0; 16]));
        }
        false
    }
}

/// The exponent of a hash's rounds.
fn cost(hash: &str) -> u32 {
    hash.parse::<bcrypt::HashParts>().map_or(0, |parts| parts.get_cost())
}

/// The costs of the hashes that, after one of `made`, bring the rounds to those of one of `highest`: each has as many
/// rounds as all before it together.
fn missing(made: u32, highest: u32) -> Range<u32> {
    made..highest
}

/// Judges logins.
pub(crate) struct Guard {
    key: hmac::Key,
    /// The digest of each user's last good login; the hash is part of it, so that a changed password forgets it.
    known: Mutex<HashMap<String, hmac::Tag>>,
    line: Arc<Line>,
}

impl Guard {
    /// A guard that knows nobody yet.
    ///
    /// # Errors
    /// The machine has no randomness to give.
    pub(crate) fn new() -> Result<Guard> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new())
            .map_err(|_| Error::machine("the system gives no random bytes"))?;
        Ok(Guard { key, known: Mutex::default(), line: Arc::default() })
    }

    /// Lets a login of `peer` in. `authorization` is the header's value; without users it does not matter.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) async fn admit(
        &self,
        users: &Arc<Users>,
        authorization: Option<&str>,
        peer: Peer,
    ) -> Result<(), Fault> {
        if users.is_empty() {
            return Ok(());
        }
        let (name, password) = authorization.and_then(credentials).ok_or(MISSING)?;
        let hash = users.hashes.get(&name).map_or("", String::as_str);
        let message = [name.as_str(), hash, &password].join("\0");
        let origin = Origin::of(peer);
        if self.knows(&name, &message) {
            self.line.succeeded(origin, &name);
            return Ok(());
        }
        let known = self.known.lock().contains_key(&name);
        let turn = self.line.enter(origin, &name, known).await.ok_or(BUSY)?;
        if self.knows(&name, &message) {
            return Ok(());
        }
        let (all, who) = (Arc::clone(users), name.clone());
        let check = tokio::task::spawn_blocking(move || {
            // Held until the hash is made, also where the client has gone.
            let _turn = turn;
            all.let_in(&who, &password)
        });
        if check.await.unwrap_or(false) {
            self.line.succeeded(origin, &name);
            self.known.lock().insert(name, hmac::sign(&self.key, message.as_bytes()));
            return Ok(());
        }
        self.line.failed(origin, &name);
        Err(WRONG)
    }

    fn knows(&self, name: &str, message: &str) -> bool {
        let tag = self.known.lock().get(name).copied();
        tag.is_some_and(|tag| hmac::verify(&self.key, message.as_bytes(), tag.as_ref()).is_ok())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_login_that_fails_costs_the_rounds_of_the_highest_cost() {
        let rounds = |cost: u32| 1_u64 << cost;
        for highest in 4..=16 {
            for made in 4..=highest {
                let in_vain: u64 = missing(made, highest).map(rounds).sum();
                assert_eq!(rounds(made) + in_vain, rounds(highest), "{made} of {highest}");
            }
        }
    }

    #[test]
    fn an_unknown_user_is_held_against_the_costliest_hash_and_never_let_in() {
        let hash = |cost| bcrypt::hash("pw", cost).unwrap();
        let users = [("cheap".to_owned(), hash(4)), ("costly".to_owned(), hash(6))];
        let users = Users::new(users.into_iter().collect());
        assert_eq!(cost(&users.decoy), 6);
        assert!(users.let_in("cheap", "pw") && users.let_in("costly", "pw"));
        for (name, password) in
            [("cheap", "no"), ("costly", "no"), ("nobody", "pw"), ("nobody", "no"), ("", "")]
        {
            assert!(!users.let_in(name, password), "{name}");
        }
    }
}
