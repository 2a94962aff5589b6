//! Targets that log in to one server as one user share its sessions: `max_server_connections` for all of them together,
//! or as many as the server allows where these are fewer.
//!
//! Whoever opens a session takes a [`SessionPlace`] first, which ends with the session. Where all places are taken, an idle
//! session of another target is closed for a target that has none. A server that says that it is full is asked again after
//! a pause, by one target for all. Knows no query.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::pool::Pool;
use crate::deadline::Deadline;
use crate::error::{Error, Reason};

use super::backoff::TIMEOUT_PAUSES;
use super::queue::Queue;
use super::shared_bound::BoundPlace;

/// How long no further session is tried on a full server while it has some of ours.
pub(crate) const FULL_PAUSE: Duration = Duration::from_secs(60);
/// How long a session may take to end before another one is closed.
const SESSION_END_TIME: Duration = Duration::from_secs(1);
/// How often a lane that waits for a place looks whether one can come at all.
const POLL: Duration = Duration::from_millis(100);

/// One target of a group.
pub struct ServerGroupMember {
    pool: Pool,
    queue: Arc<Mutex<Queue>>,
    /// Its `max_server_connections`.
    most: AtomicUsize,
}

impl ServerGroupMember {
    /// It has idle sessions, and no lane that would use them now.
    fn is_idle(&self) -> bool {
        self.pool.counts().idle > 0 && self.queue.lock().at_work() == 0
    }

    /// Closes one idle session; false when there is none.
    pub fn close_idle(&self) -> bool {
        self.pool.close_idle()
    }
}

/// The targets of one server and user. A target without a login is alone in its group, which has no bound.
#[derive(Default)]
pub struct ServerGroup {
    state: Mutex<GroupState>,
}

#[derive(Default)]
struct GroupState {
    members: Vec<Weak<ServerGroupMember>>,
    /// What the configuration allows: of targets that differ, the least.
    most: usize,
    /// Sessions that the server has, or is about to have.
    taken: usize,
    /// Those who wait for a place, first come first. Each is woken by its own: there may be hundreds.
    waiting: VecDeque<Arc<Condvar>>,
    shortfall: Option<GroupShortfall>,
}

/// The server allowed fewer sessions than the targets may have.
struct GroupShortfall {
    /// So many.
    allowed: usize,
    /// No further one is tried before.
    until: Instant,
    pause: Duration,
    error: Error,
    /// The target that was refused.
    target: String,
}

/// One session's place on its server, from before it is opened until it has ended there.
pub struct SessionPlace {
    group: Arc<ServerGroup>,
    /// Where the target was discovered.
    _bound: Option<BoundPlace>,
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        let mut state = self.group.state.lock();
        state.taken -= 1;
        state.wake_first();
    }
}

/// Why a session has no place.
pub enum NoPlace {
    /// All are taken, and the target has other lanes.
    NotNow(Error),
    /// The server refused another target; nobody asks it for so long.
    Held(Error, Duration),
    /// None came free in time, or none will.
    Failed(Error),
}

impl ServerGroup {
    /// Adds a target with its sessions and its queue.
    pub fn join(&self, pool: Pool, queue: Arc<Mutex<Queue>>, most: usize) -> Arc<ServerGroupMember> {
        let member = Arc::new(ServerGroupMember { pool, queue, most: AtomicUsize::new(most) });
        let mut state = self.state.lock();
        state.members.retain(|member| member.strong_count() > 0);
        state.members.push(Arc::downgrade(&member));
        state.learn_most();
        drop(state);
        member
    }

    /// Sets the `max_server_connections` of a target, and forgets what the server refused: it may allow more now.
    pub fn renew(&self, member: &ServerGroupMember, most: usize) {
        member.most.store(most, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.learn_most();
        state.shortfall = None;
        state.wake_first();
    }

    /// Takes a place for a session of `member`, which has `bound` already. `waits`: until `by` for a place that another
    /// target leaves; an idle session of one that is at rest is closed.
    ///
    /// # Errors
    /// There is no place.
    pub fn place(
        self: &Arc<Self>,
        member: &Arc<ServerGroupMember>,
        bound: Option<BoundPlace>,
        waits: bool,
        by: Deadline,
    ) -> Result<SessionPlace, NoPlace> {
        let mut state = self.state.lock();
        let own = Arc::new(Condvar::new());
        state.waiting.push_back(Arc::clone(&own));
        let mut closed: Option<Instant> = None;
        let place = loop {
            let is_first = state.waiting.front().is_some_and(|first| Arc::ptr_eq(first, &own));
            match state.look(is_first, waits, by) {
                Ok(true) => break Ok(SessionPlace { group: Arc::clone(self), _bound: bound }),
                Ok(false) => {}
                Err(none) => break Err(none),
            }
            if is_first
                && closed.is_none_or(|when| when.elapsed() > SESSION_END_TIME)
                && state.close_idle(member)
            {
                closed = Some(Instant::now());
            }
            let until = if is_first { by.or_within(POLL) } else { by };
            own.wait_until(&mut state, until.moment());
        };
        state.waiting.retain(|waiting| !Arc::ptr_eq(waiting, &own));
        state.wake_first();
        place
    }

    /// The server let a session in.
    pub fn opened(&self) {
        let mut state = self.state.lock();
        let (taken, most) = (state.taken, state.most);
        let Some(shortfall) = state.shortfall.as_mut().filter(|known| taken > known.allowed) else { return };
        // It may allow more than that: the next one is tried at once.
        (shortfall.allowed, shortfall.until) = (taken, Instant::now());
        if taken >= most {
            state.shortfall = None;
        }
        state.wake_first();
    }

    /// The server refused `target` a session, as it is full. True where targets of the group have sessions that may be
    /// closed for it.
    pub fn refused(&self, place: Option<SessionPlace>, error: &Error, target: &str) -> bool {
        let mut state = self.state.lock();
        let allowed = state.taken - usize::from(place.is_some());
        let (first, longest) = TIMEOUT_PAUSES;
        let pause = match &state.shortfall {
            _ if allowed > 0 => FULL_PAUSE,
            // Several lanes are refused at once: that is one refusal.
            Some(known) if known.allowed == 0 && known.until > Instant::now() => known.pause,
            Some(known) if known.allowed == 0 => (known.pause * 2).clamp(first, longest),
            _ => first,
        };
        let (until, error, target) = (Instant::now() + pause, error.clone(), target.to_owned());
        state.shortfall = Some(GroupShortfall { allowed, until, pause, error, target });
        // With no session left, all learn of it.
        for waiting in state.waiting.iter().filter(|_| allowed == 0) {
            waiting.notify_one();
        }
        drop(state);
        drop(place);
        allowed > 0
    }

    /// A target has no lane any more: its idle sessions are for others that wait.
    pub fn no_longer_busy(&self) {
        self.state.lock().wake_first();
    }
}

impl GroupState {
    fn members(&self) -> impl Iterator<Item = Arc<ServerGroupMember>> {
        self.members.iter().filter_map(Weak::upgrade)
    }

    fn learn_most(&mut self) {
        let most = self.members().map(|member| member.most.load(Ordering::Relaxed)).min();
        self.most = most.unwrap_or(usize::MAX);
    }

    fn wake_first(&self) {
        if let Some(first) = self.waiting.front() {
            first.notify_one();
        }
    }

    /// Takes a place if there is one. False: there may be one soon.
    fn look(&mut self, is_first: bool, waits: bool, by: Deadline) -> Result<bool, NoPlace> {
        let allowed = self.allowed()?;
        if is_first && self.taken < allowed {
            self.taken += 1;
            return Ok(true);
        }
        let error = |reason, what| {
            let text =
                format!("all {allowed} sessions that the targets of this server and user share are {what}");
            Error::new(reason, text).with_hint("raise max_server_connections, or what the server allows")
        };
        if !waits {
            return Err(NoPlace::NotNow(error(Reason::Timeout, "taken")));
        }
        if is_first && self.late() >= allowed {
            return Err(NoPlace::Failed(error(Reason::Wedged, "held by queries that do not end")));
        }
        if by.passed() {
            return Err(NoPlace::Failed(error(Reason::Timeout, "busy")));
        }
        Ok(false)
    }

    /// How many sessions there may be now. After the pause of a full server, one more than it had.
    fn allowed(&self) -> Result<usize, NoPlace> {
        let most = self.most;
        let Some(GroupShortfall { allowed, until, error, target, .. }) = &self.shortfall else {
            return Ok(most);
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok((allowed + 1).min(most));
        }
        if *allowed == 0 {
            let next = left.as_secs_f64().ceil();
            let hint = format!("tried for target {target}; next attempt in {next:.0} s");
            return Err(NoPlace::Held(error.clone().with_hint(hint), left));
        }
        Ok((*allowed).min(most))
    }

    /// Sessions that are held past their deadline.
    fn late(&self) -> usize {
        self.members().map(|member| member.pool.late()).sum()
    }

    /// Closes an idle session of another target than `member`. Of those at rest the one that was used last: targets that are
    /// scraped in turn need it last.
    fn close_idle(&self, member: &Arc<ServerGroupMember>) -> bool {
        let others = self.members().filter(|other| !Arc::ptr_eq(other, member) && other.is_idle());
        others.max_by_key(|other| other.pool.last_used()).is_some_and(|other| other.pool.close_idle())
    }
}
