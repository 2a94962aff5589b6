//! Basic auth (RFC 7617) against bcrypt hashes. A hash is slow on purpose: a login that succeeded is recognized by a keyed
//! digest, hashes are checked one at a time and off the gate's thread, and every login that fails costs the same: as many
//! rounds as the costliest hash of the file has, whether the user exists or not.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use ring::hmac;

use super::head::Rejection;
use super::login_queue::{LoginOrigin, LoginQueue};
use crate::error::{Error, Result};
use crate::server::Peer;

const MISSING: Rejection = Rejection::new(401, "auth", "log in with name and password");
const WRONG: Rejection = Rejection::new(401, "auth", "wrong name or password");
const BUSY: Rejection = Rejection::new(503, "auth", "too many logins are waiting; try again");

/// Names and bcrypt hashes.
#[derive(Default)]
pub(super) struct Users {
    hashes: HashMap<String, String>,
    /// The hash of the highest cost. An unknown user's password is checked against it.
    decoy: String,
}

impl Users {
    /// Users by name, with valid bcrypt hashes.
    pub(super) fn new(hashes: HashMap<String, String>) -> Users {
        let decoy = hashes.values().max_by_key(|hash| cost(hash)).cloned().unwrap_or_default();
        Users { hashes, decoy }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Checks a password, which is slow; equally slow for every login that fails.
    fn verify(&self, name: &str, password: &str) -> bool {
        let hash = self.hashes.get(name);
        let against = hash.unwrap_or(&self.decoy);
        // The decoy is a user's hash: an unknown name never logs in.
        if bcrypt::verify(password, against).unwrap_or(false) && hash.is_some() {
            return true;
        }
        for cost in padding_costs(cost(against), cost(&self.decoy)) {
            let _ = std::hint::black_box(bcrypt::hash_with_salt(password, cost, [0; 16]));
        }
        false
    }
}

/// The exponent of a hash's rounds.
fn cost(hash: &str) -> u32 {
    hash.parse::<bcrypt::HashParts>().map_or(0, |parts| parts.get_cost())
}

/// The costs of the hashes that, after one of cost `made`, bring the rounds to those of cost `highest`: each has as many
/// rounds as all before it together.
fn padding_costs(made: u32, highest: u32) -> Range<u32> {
    made..highest
}

/// Checks logins.
pub(super) struct Authenticator {
    key: hmac::Key,
    /// The digest of each user's last successful login. The hash is part of it, so that a changed password forgets it.
    verified: Mutex<HashMap<String, hmac::Tag>>,
    queue: Arc<LoginQueue>,
}

impl Authenticator {
    /// # Errors
    /// The system has no random bytes.
    pub(super) fn new() -> Result<Authenticator> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new())
            .map_err(|_| Error::machine("the system provides no random bytes"))?;
        Ok(Authenticator { key, verified: Mutex::default(), queue: Arc::default() })
    }

    /// Checks a login of `peer`. `authorization` is the header's value; without users it does not matter.
    ///
    /// # Errors
    /// The rejection.
    pub(super) async fn check(
        &self,
        users: &Arc<Users>,
        authorization: Option<&str>,
        peer: Peer,
    ) -> Result<(), Rejection> {
        if users.is_empty() {
            return Ok(());
        }
        let (name, password) = authorization.and_then(credentials).ok_or(MISSING)?;
        let hash = users.hashes.get(&name).map_or("", String::as_str);
        let message = [name.as_str(), hash, &password].join("\0");
        let origin = LoginOrigin::of(peer);
        if self.is_verified(&name, &message) {
            self.queue.succeeded(origin, &name);
            return Ok(());
        }
        let is_known_user = self.verified.lock().contains_key(&name);
        let permit = self.queue.enter(origin, &name, is_known_user).await.ok_or(BUSY)?;
        if self.is_verified(&name, &message) {
            return Ok(());
        }
        let (all, user) = (Arc::clone(users), name.clone());
        let check = tokio::task::spawn_blocking(move || {
            // Held until the hash is checked, also where the client has left.
            let _permit = permit;
            all.verify(&user, &password)
        });
        if check.await.unwrap_or(false) {
            self.queue.succeeded(origin, &name);
            self.verified.lock().insert(name, hmac::sign(&self.key, message.as_bytes()));
            return Ok(());
        }
        self.queue.failed(origin, &name);
        Err(WRONG)
    }

    fn is_verified(&self, name: &str, message: &str) -> bool {
        let tag = self.verified.lock().get(name).copied();
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
                let in_vain: u64 = padding_costs(made, highest).map(rounds).sum();
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
        assert!(users.verify("cheap", "pw") && users.verify("costly", "pw"));
        for (name, password) in
            [("cheap", "no"), ("costly", "no"), ("nobody", "pw"), ("nobody", "no"), ("", "")]
        {
            assert!(!users.verify(name, password), "{name}");
        }
    }
}
