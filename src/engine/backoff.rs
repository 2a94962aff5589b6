//! How long a target is left alone after its connection failed (DESIGN 4.6).
//!
//! Refused or reset connects cost nothing and are tried at every scrape; a connect or login that ran into its
//! timeout, one to a full server, and a refused password, would pile up work on a sick server or lock an account. What
//! targets with the same server and user have in common is `logins`'.

use std::time::{Duration, Instant};

use crate::error::{Error, Reason};

/// Connect and login timeouts, full servers: 1 s doubling to 30 s.
const TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A refused user or password: 30 s doubling to 5 min.
pub(crate) const AUTH: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));

/// The state of one target's connection attempts.
#[derive(Debug, Default)]
pub struct Backoff {
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    error: Error,
    pause: Duration,
    until: Instant,
}

impl Backoff {
    /// A session was opened: the next failure starts from the shortest pause.
    pub fn succeeded(&mut self) {
        self.failed = None;
    }

    /// A session could not be opened.
    pub fn failed(&mut self, error: &Error) {
        let (first, longest) = match error.reason() {
            Reason::Auth if error.is_refused_login() => AUTH,
            // A command that gives no password is a program that runs for nothing.
            Reason::Timeout | Reason::Auth => TIMEOUT,
            _ if error.is_server_full() => TIMEOUT,
            _ => (Duration::ZERO, Duration::ZERO),
        };
        // Several lanes fail at once: one failed attempt of the target, not several.
        if self.left().is_some() {
            return;
        }
        let before = self.failed.as_ref().map_or(Duration::ZERO, |failed| failed.pause);
        let pause = (before * 2).clamp(first, longest);
        self.failed = Some(Failed { error: error.clone(), pause, until: Instant::now() + pause });
    }

    /// No session may be opened for so long: another target's attempt with the same password was refused.
    pub fn held(&mut self, error: &Error, left: Duration) {
        let pause = self.failed.as_ref().map_or(Duration::ZERO, |failed| failed.pause);
        self.failed = Some(Failed { error: error.clone(), pause, until: Instant::now() + left });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pause_after(backoff: &mut Backoff, reason: Reason) -> Duration {
        backoff.failed(&Error::new(reason, "no"));
        let pause = backoff.failed.as_ref().map_or(Duration::ZERO, |failed| failed.pause);
        if let Some(failed) = &mut backoff.failed {
            failed.until = Instant::now();
        }
        pause
    }

    #[test]
    fn login_timeouts_double_from_one_second_to_thirty() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..7).map(|_| pause_after(&mut backoff, Reason::Timeout).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        backoff.succeeded();
        assert_eq!(pause_after(&mut backoff, Reason::Timeout).as_secs(), 1);
    }

    #[test]
    fn refused_passwords_double_from_thirty_seconds_to_five_minutes() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..5).map(|_| pause_after(&mut backoff, Reason::Auth).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 300]);
    }

    #[test]
    fn a_full_server_is_left_alone_like_a_silent_one() {
        let mut backoff = Backoff::default();
        backoff.failed(&Error::new(Reason::Server, "too many connections").with_full_server());
        let pause = backoff.left().expect("a pause").0;
        assert!(pause > Duration::from_millis(500) && pause <= Duration::from_secs(1), "{pause:?}");
    }

    #[test]
    fn a_password_that_is_not_there_is_looked_for_again_soon() {
        let mut backoff = Backoff::default();
        backoff.failed(&Error::new(Reason::Auth, "no file").before_password());
        assert!(backoff.left().expect("a pause").0 <= Duration::from_secs(1));
    }

    #[test]
    fn a_target_is_held_as_long_as_the_login_that_it_shares() {
        let mut backoff = Backoff::default();
        backoff.held(&Error::new(Reason::Auth, "refused"), Duration::from_secs(20));
        let (left, error) = backoff.left().expect("a pause");
        assert!(left > Duration::from_secs(15) && error.message() == "refused");
    }

    #[test]
    fn a_refused_connect_may_be_tried_again_at_once() {
        let mut backoff = Backoff::default();
        backoff.failed(&Error::new(Reason::Connect, "refused"));
        assert!(backoff.left().is_none());
    }

    #[test]
    fn lanes_that_fail_together_count_once() {
        let mut backoff = Backoff::default();
        backoff.failed(&Error::new(Reason::Timeout, "slow"));
        backoff.failed(&Error::new(Reason::Timeout, "slow"));
        assert!(backoff.left().expect("a pause").0 <= Duration::from_secs(1));
    }
}
