//! Targets that share a bound on their sessions: those that log in to one server as one user (`max_server_connections`, or
//! as many as the server allows where these are fewer), and the databases that one target discovered
//! (`discover.max_connections`).
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

/// How long no further session is tried on a full server while it has some of ours.
pub(crate) const FULL_PAUSE: Duration = Duration::from_secs(60);
/// How long a session may take to end in its server: then another one is closed, and a server that is full is so without it.
const SESSION_END_TIME: Duration = Duration::from_secs(1);
/// How often a lane that waits for a place looks whether one can come at all.
const POLL: Duration = Duration::from_millis(100);

/// Whose sessions a bound counts.
pub(crate) enum BoundScope {
    /// Those of the targets of one server and user. A target without a login is alone, and has no bound.
    Server,
    /// Those of the databases that the target of this name discovered.
    DiscoveredBy(String),
}

impl BoundScope {
    /// Why there is no place: all are `taken`.
    fn refusal(&self, reason: Reason, most: usize, taken: &str) -> Error {
        match self {
            BoundScope::Server => {
                let text =
                    format!("all {most} sessions that the targets of this server and user share are {taken}");
                Error::new(reason, text).with_hint("raise max_server_connections, or what the server allows")
            }
            BoundScope::DiscoveredBy(name) => {
                let text = format!("all {most} sessions of the databases of target {name} are {taken}");
                // Whatever the reason: the bound is the user's, and says nothing of the server.
                Error::new(Reason::Limit, text)
                    .with_hint("raise discover.max_connections, or the scrape interval")
            }
        }
    }
}

/// The bound of the sessions of several targets.
pub(crate) struct SessionBound {
    scope: BoundScope,
    state: Mutex<BoundState>,
}

/// One target among those that share a bound.
pub struct BoundMember {
    bound: Arc<SessionBound>,
    pool: Pool,
    queue: Arc<Mutex<Queue>>,
    /// How many sessions its configuration allows for all.
    most: AtomicUsize,
}

impl BoundMember {
    /// It has idle sessions, and no lane that would use them now.
    fn is_idle(&self) -> bool {
        self.pool.counts().idle > 0 && self.queue.lock().needs_no_idle_session()
    }
}

#[derive(Default)]
struct BoundState {
    members: Vec<Weak<BoundMember>>,
    /// Sessions that the server has, or is about to have.
    taken: usize,
    /// Those who wait for a place, first come first. Each is woken by its own: there may be hundreds.
    waiting: VecDeque<Arc<Condvar>>,
    shortfall: Option<ServerShortfall>,
    /// When a session ended last. Its server may count it for a moment more.
    last_end: Option<Instant>,
}

/// The server allowed fewer sessions than the targets may have.
struct ServerShortfall {
    /// So many.
    allowed: usize,
    /// No further one is tried before.
    until: Instant,
    pause: Duration,
    error: Error,
    /// The target that was refused.
    target: String,
}

/// One session's place within a bound, from before it is opened until it has ended in its server.
pub struct SessionPlace {
    bound: Arc<SessionBound>,
    /// Its place within another bound.
    other: Option<Box<SessionPlace>>,
    /// Its session was opened.
    is_filled: bool,
}

impl SessionPlace {
    /// Its session is open.
    pub fn fill(&mut self) {
        self.is_filled = true;
        self.other.iter_mut().for_each(|other| other.fill());
    }
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        let mut state = self.bound.state.lock();
        state.taken -= 1;
        if self.is_filled {
            state.last_end = Some(Instant::now());
        }
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

impl SessionBound {
    /// No target yet.
    pub(crate) fn new(scope: BoundScope) -> Arc<Self> {
        Arc::new(SessionBound { scope, state: Mutex::default() })
    }

    /// Adds a target with its sessions and its queue, which allows `most` sessions of all.
    pub(crate) fn join(
        self: &Arc<Self>,
        pool: &Pool,
        queue: &Arc<Mutex<Queue>>,
        most: usize,
    ) -> Arc<BoundMember> {
        let (pool, queue, most) = (pool.clone(), Arc::clone(queue), AtomicUsize::new(most));
        let member = Arc::new(BoundMember { bound: Arc::clone(self), pool, queue, most });
        let mut state = self.state.lock();
        state.members.retain(|member| member.strong_count() > 0);
        state.members.push(Arc::downgrade(&member));
        state.close_excess();
        drop(state);
        member
    }
}

impl BoundMember {
    /// Sets how many sessions its configuration allows for all, and forgets what the server refused: it may allow more now.
    pub fn renew(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
        let mut state = self.bound.state.lock();
        state.shortfall = None;
        state.wake_first();
        state.close_excess();
    }

    /// Takes a place for a session that has `other` already. `waits`: until `by` for a place that another target leaves; an
    /// idle session of one that is at rest is closed.
    ///
    /// # Errors
    /// There is no place.
    pub fn place(
        &self,
        other: Option<SessionPlace>,
        waits: bool,
        by: Deadline,
    ) -> Result<SessionPlace, NoPlace> {
        let mut state = self.bound.state.lock();
        let own = Arc::new(Condvar::new());
        state.waiting.push_back(Arc::clone(&own));
        let mut closed: Option<Instant> = None;
        let place = loop {
            let is_first = state.waiting.front().is_some_and(|first| Arc::ptr_eq(first, &own));
            let allowed = match state.allowed() {
                Ok(allowed) => allowed,
                Err(held) => break Err(held),
            };
            if is_first && state.taken < allowed {
                state.taken += 1;
                let (bound, other) = (Arc::clone(&self.bound), other.map(Box::new));
                break Ok(SessionPlace { bound, other, is_filled: false });
            }
            let refusal = |reason, taken| self.bound.scope.refusal(reason, allowed, taken);
            if !waits {
                break Err(NoPlace::NotNow(refusal(Reason::Timeout, "taken")));
            }
            if by.passed() {
                break Err(NoPlace::Failed(refusal(Reason::Timeout, "busy")));
            }
            if is_first && closed.is_none_or(|when| when.elapsed() > SESSION_END_TIME) {
                if state.make_room(self) {
                    closed = Some(Instant::now());
                } else if state.members().map(|member| member.pool.late()).sum::<usize>() >= allowed {
                    break Err(NoPlace::Failed(refusal(Reason::Wedged, "held by queries that do not end")));
                }
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
        let mut state = self.bound.state.lock();
        let taken = state.taken;
        let Some(shortfall) = state.shortfall.as_mut().filter(|known| taken > known.allowed) else { return };
        // It may allow more than that: the next one is tried at once.
        (shortfall.allowed, shortfall.until) = (taken, Instant::now());
        if taken >= state.most() {
            state.shortfall = None;
        }
        state.wake_first();
    }

    /// The server refused `target` a session for which it had `place`, as it is full. True where it may let one in soon: targets
    /// of the server have sessions that may be closed for it, or one has just ended.
    pub fn refused(&self, place: SessionPlace, error: &Error, target: &str) -> bool {
        let mut state = self.bound.state.lock();
        // All but the one that was refused.
        let allowed = state.taken - 1;
        if allowed == 0 && state.last_end.is_some_and(|end| end.elapsed() < SESSION_END_TIME) {
            drop(state);
            return true;
        }
        let (first, longest) = TIMEOUT_PAUSES;
        let pause = match &state.shortfall {
            _ if allowed > 0 => FULL_PAUSE,
            // Several lanes are refused at once: that is one refusal.
            Some(known) if known.allowed == 0 && known.until > Instant::now() => known.pause,
            Some(known) if known.allowed == 0 => (known.pause * 2).clamp(first, longest),
            _ => first,
        };
        let (until, error, target) = (Instant::now() + pause, error.clone(), target.to_owned());
        state.shortfall = Some(ServerShortfall { allowed, until, pause, error, target });
        // With no session left, all learn of it.
        for waiting in state.waiting.iter().filter(|_| allowed == 0) {
            waiting.notify_one();
        }
        drop(state);
        drop(place);
        allowed > 0
    }

    /// Why a target that has `open` of its `most` sessions gets no other one, where all places are taken. With all that it may
    /// have it is not for want of a place, unless there are no more places either.
    pub fn refusal(&self, open: usize, most: usize) -> Option<Error> {
        let state = self.bound.state.lock();
        let allowed = state.allowed().ok().filter(|allowed| state.taken >= *allowed)?;
        let is_cause = open < most || allowed <= most;
        is_cause.then(|| self.bound.scope.refusal(Reason::Timeout, allowed, "busy"))
    }

    /// It has one lane less: idle sessions may be for others that wait.
    pub fn no_longer_busy(&self) {
        self.bound.state.lock().wake_first();
    }
}

impl BoundState {
    fn members(&self) -> impl Iterator<Item = Arc<BoundMember>> {
        self.members.iter().filter_map(Weak::upgrade)
    }

    /// What the configuration allows: of targets that differ, the least. It is not kept, because nothing says when a target is gone.
    fn most(&self) -> usize {
        self.members().map(|member| member.most.load(Ordering::Relaxed)).min().unwrap_or(usize::MAX)
    }

    fn wake_first(&self) {
        if let Some(first) = self.waiting.front() {
            first.notify_one();
        }
    }

    /// How many sessions there may be now. After the pause of a full server, one more than it had.
    fn allowed(&self) -> Result<usize, NoPlace> {
        let most = self.most();
        let Some(ServerShortfall { allowed, until, error, target, .. }) = &self.shortfall else {
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

    /// Closes idle sessions of other targets than `member`: one, and as many more as a reload has lowered the bound by. False
    /// when there is none.
    fn make_room(&self, member: &BoundMember) -> bool {
        let missing = self.allowed().map_or(0, |allowed| (self.taken + 1).saturating_sub(allowed));
        self.close_idle(missing, Some(member)) > 0
    }

    /// Closes idle sessions where there are more than the configuration allows. Those that are on their way out count no
    /// more: each target of a reload asks for this.
    fn close_excess(&self) {
        let open: usize = self.members().map(|member| member.pool.open()).sum();
        self.close_idle(open.saturating_sub(self.most()), None);
    }

    /// Closes up to `count` idle sessions of other targets than `member`, and returns how many. Of those at rest the one
    /// that was used last: targets that are scraped in turn need it last.
    fn close_idle(&self, count: usize, member: Option<&BoundMember>) -> usize {
        let is_other = |other: &BoundMember| member.is_none_or(|member| !std::ptr::eq(other, member));
        let close_one = |_: &usize| {
            let others = self.members().filter(|other| is_other(other) && other.is_idle());
            others.max_by_key(|other| other.pool.last_used()).is_some_and(|other| other.pool.close_idle())
        };
        (0..count).take_while(close_one).count()
    }
}
