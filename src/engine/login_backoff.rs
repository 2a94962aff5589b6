//! Back-off per login: a password that a server refused to one target is not tried again for the next one, which would
//! lock the account, or this host out of the server.
//!
//! Targets share a login when host, port, user and the way of encryption are the same (a user may be demanded to come
//! encrypted). It ends early for those who have another password. Until a server has taken a password, one target tries it
//! and the others wait for what comes of that. Knows no scrape; how long a target is left alone for other reasons is
//! `backoff`'s.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::deadline::Deadline;
use crate::driver::connection::ConnectionConfig;
use crate::driver::connection::tls::TlsMode;
use crate::driver::{Endpoint, Session};
use crate::error::{Error, Result};
use crate::secret::Secret;

use super::backoff::AUTH;

/// All logins that were tried. Shared by all targets.
#[derive(Default)]
pub struct LoginBackoff(Mutex<HashMap<AccountKey, Arc<Account>>>);

/// Whom a server knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct AccountKey {
    hosts: Vec<(String, u16)>,
    socket: Option<PathBuf>,
    user: Option<String>,
    mode: TlsMode,
}

impl AccountKey {
    fn of(login: &ConnectionConfig) -> Self {
        AccountKey {
            hosts: login.hosts.iter().map(|host| (host.host.to_ascii_lowercase(), host.port)).collect(),
            socket: login.socket.clone(),
            user: login.username.clone(),
            mode: login.tls.mode,
        }
    }
}

#[derive(Default)]
struct Account {
    state: Mutex<LoginState>,
    ended: Condvar,
}

#[derive(Default)]
struct LoginState {
    /// A password that the server took: whoever has it may log in without waiting for others.
    accepted: Option<Option<Secret>>,
    refusal: Option<LoginRefusal>,
    /// Somebody finds out whether the server takes the password.
    is_tried: bool,
    /// How many such attempts have ended.
    tried: u64,
}

/// The last refusal.
struct LoginRefusal {
    password: Option<Secret>,
    error: Error,
    target: String,
    pause: Duration,
    until: Instant,
}

/// Why a target must not log in now.
#[derive(Debug)]
pub struct LoginHeldBack {
    /// What the server said to the one who tried, or why there is no password.
    pub error: Error,
    /// Who tried, and how long it is until somebody may again; `None` where there is no password to try.
    pub by: Option<(String, Duration)>,
}

impl LoginBackoff {
    /// Lets `target` log in, or says why not. Waits for another target's attempt with a password that nobody knows to be
    /// right; at most half of what is left until `by`, so that a silent server leaves time for an attempt of one's own.
    ///
    /// # Errors
    /// The same password was refused lately; or there is none.
    pub fn admit(
        &self,
        login: &ConnectionConfig,
        target: &str,
        by: Deadline,
    ) -> Result<LoginAttempt, LoginHeldBack> {
        let password = login.password.read(by).map_err(|error| LoginHeldBack { error, by: None })?;
        let account = Arc::clone(self.0.lock().entry(AccountKey::of(login)).or_default());
        let patience = Deadline::within(by.left() / 2);
        let mut state = account.state.lock();
        let tried = state.tried;
        let leads = loop {
            if let Some(refusal) = state.refusal.as_ref().filter(|refusal| refusal.password == password) {
                let left = refusal.until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    let by = Some((refusal.target.clone(), left));
                    return Err(LoginHeldBack { error: refusal.error.clone(), by });
                }
            }
            let is_known = state.accepted.as_ref() == Some(&password);
            // An attempt that told nothing was made: the next ones need not queue for the same silence.
            if is_known || state.tried != tried {
                break false;
            }
            if !state.is_tried {
                state.is_tried = true;
                break true;
            }
            if account.ended.wait_until(&mut state, patience.moment()).timed_out() {
                break false;
            }
        };
        drop(state);
        Ok(LoginAttempt { account, password, target: target.to_owned(), leads })
    }

    /// Connects for `target` as [`LoginBackoff::admit`] lets it.
    ///
    /// # Errors
    /// What [`Endpoint::connect`] says; the refusal of the same password, with the target that tried it.
    pub fn connect(&self, endpoint: &dyn Endpoint, target: &str, by: Deadline) -> Result<Box<dyn Session>> {
        let Some(login) = endpoint.connection_config() else { return endpoint.connect(by) };
        let attempt = self.admit(login, target, by).map_err(|LoginHeldBack { error, by }| match by {
            Some((other, _)) => {
                error.with_hint(format!("tried for target {other}, and not again for this one"))
            }
            None => error,
        })?;
        let connected = endpoint.connect(by);
        attempt.end(connected.as_ref().err());
        connected
    }

    /// Forgets all refusals: what was wrong may have been mended.
    pub fn forgive(&self) {
        self.0.lock().clear();
    }
}

/// One login under way. Dropped without an end, it has told nothing.
pub struct LoginAttempt {
    account: Arc<Account>,
    password: Option<Secret>,
    target: String,
    /// Others wait for it.
    leads: bool,
}

impl LoginAttempt {
    /// What came of it: `None` is a session.
    pub fn end(self, error: Option<&Error>) {
        let mut state = self.account.state.lock();
        match error {
            None => {
                state.refusal.take_if(|refusal| refusal.password == self.password);
                state.accepted = Some(self.password.clone());
            }
            Some(error) if error.is_refused_login() => {
                state.accepted.take_if(|accepted| *accepted == self.password);
                let last = state.refusal.as_ref().filter(|last| last.password == self.password);
                let pause = match last {
                    // It alone may be refused, for another reason: the others wait no longer for that.
                    Some(last) if last.target == self.target => last.pause,
                    Some(last) => (last.pause * 2).min(AUTH.1),
                    None => AUTH.0,
                };
                state.refusal = Some(LoginRefusal {
                    password: self.password.clone(),
                    error: error.clone(),
                    target: self.target.clone(),
                    pause,
                    until: Instant::now() + pause,
                });
            }
            Some(_) => {}
        }
    }
}

impl Drop for LoginAttempt {
    fn drop(&mut self) {
        if self.leads {
            let mut state = self.account.state.lock();
            state.is_tried = false;
            state.tried += 1;
            drop(state);
            self.account.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::connection::HostPort;
    use crate::driver::connection::password::PasswordSource;
    use crate::driver::connection::tls::TlsConfig;
    use crate::error::Reason;

    fn login(user: &str, password: &str) -> ConnectionConfig {
        ConnectionConfig {
            hosts: vec![HostPort { host: "DB".into(), port: 5432 }],
            socket: None,
            database: None,
            username: Some(user.into()),
            password: PasswordSource::Given(Secret::new(password.into())),
            tls: TlsConfig::default(),
            params: Vec::new(),
            read_only: true,
            session_sql: Vec::new(),
            connect_timeout: Duration::from_secs(3),
        }
    }

    fn soon() -> Deadline {
        Deadline::within(Duration::from_secs(20))
    }

    fn refused() -> Error {
        Error::new(Reason::Auth, "no")
    }

    fn held(logins: &LoginBackoff, login: &ConnectionConfig, target: &str) -> Option<String> {
        match logins.admit(login, target, soon()) {
            Ok(_) => None,
            Err(held) => held.by.map(|(target, _)| target),
        }
    }

    #[test]
    fn a_refusal_holds_all_who_have_the_same_login_and_password() {
        let logins = LoginBackoff::default();
        let wrong = login("exporter", "wrong");
        logins.admit(&wrong, "a", soon()).unwrap().end(Some(&refused()));
        for target in ["a", "b"] {
            assert_eq!(held(&logins, &wrong, target).as_deref(), Some("a"));
        }
        let mut other_database = wrong.clone();
        other_database.database = Some("x".into());
        other_database.hosts[0].host = "db".into();
        assert!(held(&logins, &other_database, "b").is_some());
        let mut other_port = wrong.clone();
        other_port.hosts[0].port = 1;
        for free in [login("exporter", "right"), login("somebody", "wrong"), other_port] {
            assert_eq!(held(&logins, &free, "b"), None);
        }
        logins.forgive();
        assert_eq!(held(&logins, &wrong, "b"), None);
    }

    #[test]
    fn a_failure_that_is_no_refusal_holds_nobody_and_a_success_ends_the_hold() {
        let logins = LoginBackoff::default();
        let it = login("exporter", "x");
        for error in [Error::new(Reason::Timeout, "no"), refused().before_password()] {
            logins.admit(&it, "a", soon()).unwrap().end(Some(&error));
            assert_eq!(held(&logins, &it, "b"), None);
        }
        let (early, late) = (logins.admit(&it, "a", soon()).unwrap(), login("exporter", "x"));
        early.end(None);
        let (one, two) =
            (logins.admit(&late, "b", soon()).unwrap(), logins.admit(&late, "c", soon()).unwrap());
        one.end(Some(&refused()));
        assert!(held(&logins, &late, "d").is_some());
        two.end(None);
        assert_eq!(held(&logins, &late, "d"), None);
    }

    #[test]
    fn the_pause_doubles_when_another_target_is_refused_and_not_for_the_same_one() {
        let logins = LoginBackoff::default();
        let it = login("exporter", "x");
        let mut pauses = Vec::new();
        for target in ["a", "a", "b", "a", "b", "a", "b"] {
            logins.admit(&it, target, soon()).unwrap().end(Some(&refused()));
            let account = Arc::clone(&logins.0.lock()[&AccountKey::of(&it)]);
            let mut state = account.state.lock();
            let refusal = state.refusal.as_mut().unwrap();
            pauses.push(refusal.pause.as_secs());
            refusal.until = Instant::now();
        }
        assert_eq!(pauses, [30, 30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn others_wait_for_the_first_attempt_and_share_what_came_of_it() {
        let logins = Arc::new(LoginBackoff::default());
        let it = login("exporter", "x");
        let first = logins.admit(&it, "a", soon()).unwrap();
        let waiting: Vec<_> = ["b", "c", "d"]
            .map(|target| {
                let (logins, it) = (Arc::clone(&logins), it.clone());
                std::thread::spawn(move || held(&logins, &it, target))
            })
            .into_iter()
            .collect();
        first.end(Some(&refused()));
        for thread in waiting {
            assert_eq!(thread.join().unwrap().as_deref(), Some("a"));
        }
    }

    #[test]
    fn nobody_waits_longer_than_half_of_the_time_for_a_silent_server() {
        let logins = LoginBackoff::default();
        let it = login("exporter", "x");
        let first = logins.admit(&it, "a", soon()).unwrap();
        let started = Instant::now();
        let second = logins.admit(&it, "b", Deadline::within(Duration::from_millis(400))).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
        assert!(first.leads && !second.leads);
    }
}
