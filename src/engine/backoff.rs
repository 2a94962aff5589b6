//! When a connection is not attempted (docs/operations.md).
//!
//! [`TargetBackoff`] is one target's: refused or reset connects cost nothing and are tried at every scrape; a connect or
//! login that ran into its timeout, a full server and a refused password are left alone for a while, since more attempts
//! would pile up work on a sick server or lock an account.
//! [`LoginBackoff`] is for all targets: a password that a server refused to one target is not tried again for the next
//! one, which would lock the account, or this host out of the server. Targets share a login when host, port, user and TLS
//! mode are the same. Until a server has accepted a password, one target tries it and the others wait for the result.
//! Knows no scrape.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::deadline::Deadline;
use crate::driver::connection::ConnectionConfig;
use crate::driver::connection::tls::TlsMode;
use crate::driver::{Endpoint, Session};
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;

/// Connect and login timeouts, full servers: 1 s doubling to 30 s.
pub(crate) const TIMEOUT_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A refused user or password: 30 s doubling to 5 min.
const AUTH_PAUSES: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));

/// The state of one target's connection attempts.
#[derive(Debug, Default)]
pub struct TargetBackoff {
    failed: Option<FailedConnect>,
}

#[derive(Debug)]
struct FailedConnect {
    error: Error,
    pause: Duration,
    until: Instant,
}

impl TargetBackoff {
    /// A session was opened: the next failure starts from the shortest pause.
    pub fn succeeded(&mut self) {
        self.failed = None;
    }

    /// A session could not be opened.
    pub fn failed(&mut self, error: &Error) {
        let (first, longest) = match error.reason() {
            Reason::Auth if error.is_refused_login() => AUTH_PAUSES,
            // A password command without a password is a program that runs for nothing.
            Reason::Timeout | Reason::Auth => TIMEOUT_PAUSES,
            _ if error.is_server_full() => TIMEOUT_PAUSES,
            _ => (Duration::ZERO, Duration::ZERO),
        };
        // Several lanes fail at once: one failed attempt of the target, not several.
        if self.left().is_some() {
            return;
        }
        let before = self.failed.as_ref().map_or(Duration::ZERO, |failed| failed.pause);
        let pause = (before * 2).clamp(first, longest);
        self.failed = Some(FailedConnect { error: error.clone(), pause, until: Instant::now() + pause });
    }

    /// No session may be opened for so long: another target's attempt with the same password was refused.
    pub fn held(&mut self, error: &Error, left: Duration) {
        let pause = self.failed.as_ref().map_or(Duration::ZERO, |failed| failed.pause);
        self.failed = Some(FailedConnect { error: error.clone(), pause, until: Instant::now() + left });
    }

    /// Why the last attempt failed; `None` once one succeeded.
    pub fn last(&self) -> Option<&Error> {
        self.failed.as_ref().map(|failed| &failed.error)
    }

    /// The time until the next attempt and the reason of the last one's failure; `None` when it may be now.
    pub fn left(&self) -> Option<(Duration, &Error)> {
        let failed = self.failed.as_ref()?;
        let left = failed.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some((left, &failed.error))
    }
}

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
    /// The refusal of the server, or why there is no password.
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
        let wait_end = Deadline::within(by.left() / 2);
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
            // An attempt ended without a verdict on the password: the next ones need not wait for the same silence.
            if is_known || state.tried != tried {
                break false;
            }
            if !state.is_tried {
                state.is_tried = true;
                break true;
            }
            if account.ended.wait_until(&mut state, wait_end.moment()).timed_out() {
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

    /// Forgets what is known of logins that are not among these.
    pub fn keep_only<'l>(&self, logins: impl Iterator<Item = &'l ConnectionConfig>) {
        let kept: HashSet<AccountKey> = logins.map(AccountKey::of).collect();
        self.0.lock().retain(|key, _| kept.contains(key));
    }

    /// Forgets all refusals: what was wrong may have been mended.
    pub fn forgive(&self) {
        self.0.lock().clear();
    }
}

/// One login under way. Dropped without an end, it says nothing about the password.
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
                    Some(last) => (last.pause * 2).min(AUTH_PAUSES.1),
                    None => AUTH_PAUSES.0,
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

    fn pause_after(backoff: &mut TargetBackoff, reason: Reason) -> Duration {
        backoff.failed(&Error::new(reason, "no"));
        let pause = backoff.failed.as_ref().map_or(Duration::ZERO, |failed| failed.pause);
        if let Some(failed) = &mut backoff.failed {
            failed.until = Instant::now();
        }
        pause
    }

    #[test]
    fn login_timeouts_double_from_one_second_to_thirty() {
        let mut backoff = TargetBackoff::default();
        let pauses: Vec<u64> = (0..7).map(|_| pause_after(&mut backoff, Reason::Timeout).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        backoff.succeeded();
        assert_eq!(pause_after(&mut backoff, Reason::Timeout).as_secs(), 1);
    }

    #[test]
    fn refused_passwords_double_from_thirty_seconds_to_five_minutes() {
        let mut backoff = TargetBackoff::default();
        let pauses: Vec<u64> = (0..5).map(|_| pause_after(&mut backoff, Reason::Auth).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 300]);
    }

    #[test]
    fn a_full_server_is_left_alone_like_a_silent_one() {
        let mut backoff = TargetBackoff::default();
        backoff.failed(&Error::new(Reason::Server, "too many connections").with_full_server());
        let pause = backoff.left().expect("a pause").0;
        assert!(pause > Duration::from_millis(500) && pause <= Duration::from_secs(1), "{pause:?}");
    }

    #[test]
    fn a_password_that_is_not_there_is_looked_for_again_soon() {
        let mut backoff = TargetBackoff::default();
        backoff.failed(&Error::new(Reason::Auth, "no file").before_password());
        assert!(backoff.left().expect("a pause").0 <= Duration::from_secs(1));
    }

    #[test]
    fn a_target_is_held_as_long_as_the_login_that_it_shares() {
        let mut backoff = TargetBackoff::default();
        backoff.held(&Error::new(Reason::Auth, "refused"), Duration::from_secs(20));
        let (left, error) = backoff.left().expect("a pause");
        assert!(left > Duration::from_secs(15) && error.message() == "refused");
    }

    #[test]
    fn a_refused_connect_may_be_tried_again_at_once() {
        let mut backoff = TargetBackoff::default();
        backoff.failed(&Error::new(Reason::Connect, "refused"));
        assert!(backoff.left().is_none());
    }

    #[test]
    fn lanes_that_fail_together_count_once() {
        let mut backoff = TargetBackoff::default();
        backoff.failed(&Error::new(Reason::Timeout, "slow"));
        backoff.failed(&Error::new(Reason::Timeout, "slow"));
        assert!(backoff.left().expect("a pause").0 <= Duration::from_secs(1));
    }
}

#[cfg(test)]
mod login_tests {
    use super::*;
    use crate::driver::connection::HostPort;
    use crate::driver::connection::password::PasswordSource;
    use crate::driver::connection::tls::TlsConfig;

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
    fn a_login_that_no_target_has_any_more_is_forgotten_and_the_others_are_not() {
        let logins = LoginBackoff::default();
        let (gone, stays) = (login("gone", "x"), login("stays", "x"));
        for login in [&gone, &stays] {
            logins.admit(login, "a", soon()).unwrap().end(Some(&refused()));
        }
        logins.keep_only([&stays].into_iter());
        assert_eq!(logins.0.lock().len(), 1);
        assert!(held(&logins, &stays, "b").is_some());
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
