//! How a lane gets a session where its lease has none: a place on the server, the right to log in, the login.
//!
//! Owns when a full server is asked again within one scrape. Tells the target's back-off what came of it. Knows no batch.

use std::time::Duration;

use super::backoff::LoginAttempt;
use super::pool::Lease;
use super::queue::{Lane, LaneWork};
use super::session_bound::{NoPlace, SessionPlace};
use super::sessions::TargetSessions;
use crate::deadline::Deadline;
use crate::error::Error;

/// The first and the last pause before a full server is asked again: it takes a moment to notice that a session has ended.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(640);
/// How many refusals of a full server one login survives, as others may take each session that was closed for it.
const MAX_REFUSALS: usize = 5;

/// Why a lane has no session.
pub(super) struct NoSession {
    pub(super) error: Error,
    pub(super) cause: NoSessionCause,
}

/// What it says about the target.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSessionCause {
    /// It gets no session now. The back-off knows it.
    OfTarget,
    /// A login failed while other lanes were at work. Counts for the back-off if none of them gets a session either.
    LoginBesideOthers,
    /// The server has no place for one more session, and the target has other lanes.
    NoPlaceBesideOthers,
}

impl From<Error> for NoSession {
    fn from(error: Error) -> Self {
        NoSession { error, cause: NoSessionCause::OfTarget }
    }
}

/// A lane that needs a session by then.
pub(super) struct SessionOpening<'a> {
    pub(super) sessions: &'a TargetSessions,
    pub(super) lane: &'a Lane,
    pub(super) by: Deadline,
}

impl SessionOpening<'_> {
    /// Opens a session where the lease has none; true when it was there before. A full server is asked again where another
    /// target of that server and user closes an idle session.
    pub(super) fn open(&self, lease: &mut Lease) -> Result<bool, NoSession> {
        // Where the target's own sessions fill the server, that says nothing about connecting.
        if lease.reserve(self.by)? {
            return Ok(true);
        }
        self.sessions.queue.lock().available_to(self.lane).iter().for_each(|run| run.note_try());
        let mut place = Some(self.place()?);
        // How often the server refused a place that was free, and the next pause for it to notice that it is.
        let (mut refusals, mut pause) = (0, FIRST_PAUSE);
        loop {
            // One refused password is enough: those that wait behind it fail with its reason.
            let attempt = self.sessions.admit(self.is_alone(), self.by)?;
            let error = match self.log_in(lease, &mut place, attempt) {
                Ok(reused) => return Ok(reused),
                Err(error) => error,
            };
            let alone = self.is_alone();
            let waits = refusals > 0 && pause <= LAST_PAUSE;
            // At its deadline the page would say `timeout`, and not what the server said.
            let has_time = if waits { pause <= self.by.left() / 2 } else { !self.by.passed() };
            if !error.is_server_full() || error.is_database_full() || !has_time {
                return Err(self.refused(error, alone));
            }
            if waits {
                std::thread::sleep(pause);
                pause *= 2;
                continue;
            }
            let name = &self.sessions.owner().config.name;
            let has_others =
                place.take().is_some_and(|place| self.sessions.on_server.refused(place, &error, name));
            if !alone || !has_others || refusals == MAX_REFUSALS {
                return Err(self.refused(error, alone));
            }
            place = Some(self.place()?);
            (refusals, pause) = (refusals + 1, FIRST_PAUSE);
        }
    }

    /// True when the target has no session for what waits, and no other lane that may get one.
    fn is_alone(&self) -> bool {
        self.sessions.pool.counts().idle == 0 && !self.sessions.queue.lock().has_other(self.lane)
    }

    /// A place for one more session on the server.
    fn place(&self) -> Result<SessionPlace, NoSession> {
        self.sessions.place(self.is_alone(), self.by).map_err(|none| match none {
            NoPlace::NotNow(error) => NoSession { error, cause: NoSessionCause::NoPlaceBesideOthers },
            NoPlace::Held(error, _) | NoPlace::Failed(error) => error.into(),
        })
    }

    /// Logs in once. A login goes on when the scrape that began it has left: the next one finds its session.
    fn log_in(
        &self,
        lease: &mut Lease,
        place: &mut Option<SessionPlace>,
        attempt: Option<LoginAttempt>,
    ) -> Result<bool, Error> {
        let login_by = self.by.max(Deadline::within(self.sessions.login_time()));
        lease.until(login_by);
        self.lane.begin(LaneWork::Login(login_by));
        let opened = lease.open(place, login_by);
        lease.until(self.by);
        self.lane.begin(LaneWork::Batch(self.by));
        if let Some(attempt) = attempt {
            attempt.end(opened.as_ref().err());
        }
        match &opened {
            Ok(_) => {
                self.sessions.on_server.opened();
                lease.opened().into_iter().for_each(|live| self.sessions.connected(live.facts()));
            }
            Err(error) => self.sessions.count_refusal(error),
        }
        opened
    }

    /// The server refused a session: counts for the back-off where the target has no other lane.
    fn refused(&self, error: Error, alone: bool) -> NoSession {
        let cause = if alone {
            self.sessions.backoff.lock().failed(&error);
            NoSessionCause::OfTarget
        } else if error.is_server_full() {
            NoSessionCause::NoPlaceBesideOthers
        } else {
            NoSessionCause::LoginBesideOthers
        };
        NoSession { error, cause }
    }
}
