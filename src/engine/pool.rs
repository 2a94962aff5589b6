//! The sessions of one target: at most `max_connections`, kept while they are good. The only file with r2d2.
//!
//! A session is *leased*, or *idle* in a list of ours, or it was *given up* and goes on in the server. All of them count, so
//! that the server never has more of them than `max_connections`. The place that it has on a server which several targets
//! share goes with it.
//! r2d2 hands out *slots*, each the right to one lease. No session is in them: whoever leases opens it, under the deadline of its
//! scrape, and r2d2's thread never waits for a network. After a change of the limits there are other slots, and the same
//! sessions.
//! Knows no query and no retry rule.

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use scheduled_thread_pool::ScheduledThreadPool;

use super::disposal::{Disposal, has_ended};
use super::guarded_session::GuardedSession;
use super::session_bound::SessionPlace;
use crate::config::database::MAX_SESSIONS;
use crate::deadline::Deadline;
use crate::driver::{Endpoint, ServerFacts};
use crate::error::{Error, Reason, Result};
use crate::telemetry::SessionCounts;

/// The shortest wait for a slot: r2d2's thread makes new ones.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// How long after its deadline a lease counts as late: a session that is just coming back is not.
const GRACE: Duration = Duration::from_millis(100);
/// How often a lane that waits for the end of another session looks again.
const RESERVE_POLL: Duration = Duration::from_millis(50);
/// How often idle sessions are looked at.
const REAP_INTERVAL: Duration = Duration::from_secs(30);
/// How long after its cancel a session that goes on in the server counts as late: a cancel takes a moment.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// The one thread that all pools share; it makes slots and closes old sessions. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler(Arc<ScheduledThreadPool>);

impl Scheduler {
    /// Starts the thread.
    pub fn start() -> Self {
        Scheduler(Arc::new(ScheduledThreadPool::builder().num_threads(1).thread_name_pattern("pool").build()))
    }
}

/// The bounds of one target's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Sessions at once, from 1 to [`MAX_SESSIONS`]: r2d2 reserves memory for all slots.
    pub max_connections: u32,
    /// An idle session is closed after this, within half a minute. With zero, whoever leases sessions closes them earlier
    /// by [`Pool::close_idle`].
    pub idle_timeout: Duration,
    /// A session is closed after this ± 10 %, within half a minute, when it is idle.
    pub max_lifetime: Duration,
}

impl PoolLimits {
    fn most(&self) -> u32 {
        self.max_connections.clamp(1, MAX_SESSIONS)
    }
}

/// One target's sessions. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Pool(Arc<PoolState>);

/// What the pool and its leases have in common.
struct PoolState {
    endpoint: Arc<dyn Endpoint>,
    scheduler: Scheduler,
    disposal: Disposal,
    /// Others after a change of the limits.
    slots: RwLock<r2d2::Pool<SlotFactory>>,
    sessions: Mutex<PoolSessions>,
    /// A session has ended in the server, or is idle.
    freed: Condvar,
}

struct PoolSessions {
    limits: PoolLimits,
    /// The one that was used last is at the end, and is used next.
    idle: Vec<PooledSession>,
    holders: Vec<SessionHolder>,
    /// The number of the last one.
    last_number: u64,
    /// When the last lease ended.
    last_used: Option<Instant>,
}

/// A lease, or a session that was given up and goes on in the server.
struct SessionHolder {
    number: u64,
    /// It counts as late after this.
    late: Deadline,
    holds: Holding,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holding {
    /// A lease without a session.
    Nothing,
    /// A lease that is to open one.
    Place,
    /// A lease with an open one.
    Session,
    /// Not a lease.
    GivenUp,
}

/// A session, with all that ends with it.
struct PooledSession {
    guarded: GuardedSession,
    /// It is closed after this.
    lifetime: Duration,
    opened: Instant,
    last_used: Instant,
    /// Where several targets share the server.
    place: Option<SessionPlace>,
}

impl PooledSession {
    fn is_old(&self, limits: &PoolLimits) -> bool {
        self.opened.elapsed() >= self.lifetime || self.last_used.elapsed() >= limits.idle_timeout
    }
}

impl PoolSessions {
    fn add(&mut self, late: Deadline, holds: Holding) -> u64 {
        self.last_number += 1;
        self.holders.push(SessionHolder { number: self.last_number, late, holds });
        self.last_number
    }

    fn remove(&mut self, number: u64) {
        self.holders.retain(|holder| holder.number != number);
    }

    fn find(&mut self, number: u64) -> Option<&mut SessionHolder> {
        self.holders.iter_mut().find(|holder| holder.number == number)
    }

    fn set(&mut self, number: u64, holds: Holding) {
        self.find(number).into_iter().for_each(|own| own.holds = holds);
    }

    fn with(&self, is_counted: impl Fn(Holding) -> bool) -> usize {
        self.holders.iter().filter(|holder| is_counted(holder.holds)).count()
    }

    fn late(&self) -> impl Iterator<Item = &SessionHolder> {
        self.holders.iter().filter(|holder| holder.late.passed())
    }

    fn most(&self) -> usize {
        self.limits.most() as usize
    }

    fn open(&self) -> usize {
        self.idle.len() + self.with(|holds| holds == Holding::Session)
    }

    /// Has the lease take the idle session that was used last.
    fn take_idle(&mut self, number: u64) -> Option<PooledSession> {
        let session = self.idle.pop()?;
        self.set(number, Holding::Session);
        Some(session)
    }

    /// Lets the lease open a session, where the server has fewer than the most.
    fn allow(&mut self, number: u64) -> bool {
        if self.find(number).is_some_and(|own| own.holds == Holding::Nothing) {
            if self.idle.len() + self.with(|holds| holds != Holding::Nothing) >= self.most() {
                return false;
            }
            self.set(number, Holding::Place);
        }
        true
    }

    /// Takes out the idle sessions that leave no room for the leases.
    fn take_excess(&mut self) -> Vec<PooledSession> {
        let leases = self.with(|holds| holds != Holding::GivenUp);
        let kept = self.most().saturating_sub(leases);
        self.idle.drain(..self.idle.len().saturating_sub(kept)).collect()
    }

    fn refuse_when_wedged(&self) -> Result<()> {
        let most = self.most();
        if self.late().count() < most {
            return Ok(());
        }
        let message = format!(
            "all {most} sessions of the target are held by queries that do not end when they are cancelled"
        );
        Err(Error::new(Reason::Wedged, message).with_hint("the next scrape after one of them ends goes on"))
    }
}

impl PoolState {
    /// Sends an open session to `disposal`, which the lease of this number had, if any. One whose server goes on with its
    /// statement is counted until it has ended there.
    fn discard(self: &Arc<Self>, session: PooledSession, lease: Option<u64>) {
        let PooledSession { guarded, place, .. } = session;
        let is_dirty = guarded.is_dirty();
        let mut session = guarded.into_inner();
        let goes_on = !has_ended(&mut *session);
        let mut sessions = self.sessions.lock();
        lease.into_iter().for_each(|number| sessions.set(number, Holding::Nothing));
        let running = goes_on.then(|| StillRunning::new(self, &mut sessions));
        drop(sessions);
        // A cancel takes a connection more, for which a pooler may have no place.
        let cancel = is_dirty && !session.is_answered();
        self.disposal.discard_from(Box::new((running, place)), session, cancel);
    }

    fn discard_idle(self: &Arc<Self>, idle: Vec<PooledSession>) {
        idle.into_iter().for_each(|session| self.discard(session, None));
    }

    /// Closes idle sessions that are too old.
    fn close_old(self: &Arc<Self>) {
        let mut sessions = self.sessions.lock();
        let limits = sessions.limits;
        let old = sessions.idle.extract_if(.., |session| session.is_old(&limits)).collect();
        drop(sessions);
        self.discard_idle(old);
    }

    /// Closes idle sessions whose file is gone. Not locked: that looks at files.
    fn close_outdated(self: &Arc<Self>) {
        let idle = std::mem::take(&mut self.sessions.lock().idle);
        let (outdated, kept) = idle.into_iter().partition(|session| session.guarded.is_outdated());
        self.sessions.lock().idle.extend::<Vec<_>>(kept);
        self.discard_idle(outdated);
    }
}

impl Drop for PoolState {
    fn drop(&mut self) {
        for PooledSession { guarded, place, .. } in self.sessions.get_mut().idle.drain(..) {
            self.disposal.discard_from(Box::new(place), guarded.into_inner(), false);
        }
    }
}

/// Counts a session that was given up while it goes on in the server.
struct StillRunning {
    number: u64,
    pool: Weak<PoolState>,
}

impl StillRunning {
    fn new(pool: &Arc<PoolState>, sessions: &mut PoolSessions) -> Self {
        let number = sessions.add(Deadline::within(CANCEL_GRACE), Holding::GivenUp);
        StillRunning { number, pool: Arc::downgrade(pool) }
    }
}

impl Drop for StillRunning {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.sessions.lock().remove(self.number);
            pool.freed.notify_all();
        }
    }
}

impl Pool {
    /// No session yet. Does not block.
    pub fn new(
        endpoint: Arc<dyn Endpoint>,
        limits: &PoolLimits,
        scheduler: &Scheduler,
        disposal: &Disposal,
    ) -> Self {
        let sessions = PoolSessions {
            limits: *limits,
            idle: Vec::new(),
            holders: Vec::new(),
            last_number: 0,
            last_used: None,
        };
        let pool = Arc::new(PoolState {
            endpoint,
            scheduler: scheduler.clone(),
            disposal: disposal.clone(),
            slots: RwLock::new(slots(limits, scheduler)),
            sessions: Mutex::new(sessions),
            freed: Condvar::new(),
        });
        // At moments that differ from those of other pools. r2d2's own job would look at all of them at one moment, and at
        // those that are gone for ever.
        let own = Arc::downgrade(&pool);
        scheduler.0.execute_at_dynamic_rate(REAP_INTERVAL.mul_f64(random_share()), move || {
            own.upgrade()?.close_old();
            Some(REAP_INTERVAL)
        });
        Pool(pool)
    }

    /// Sets other limits. The sessions stay, as far as the limits allow.
    pub fn set(&self, limits: &PoolLimits) {
        let mut sessions = self.0.sessions.lock();
        let before = std::mem::replace(&mut sessions.limits, *limits);
        let excess = sessions.take_excess();
        drop(sessions);
        self.0.discard_idle(excess);
        if before.most() != limits.most() {
            *self.0.slots.write() = slots(limits, &self.0.scheduler);
        }
    }

    /// Takes a slot, with a session where one is idle, waiting until `by` for it (at least 20 ms). The lease should be
    /// dropped by `by`.
    ///
    /// # Errors
    /// `wedged`, at once, when every slot is held past its lease's deadline; `timeout` when none came free.
    pub fn lease(&self, by: Deadline) -> Result<Lease> {
        self.0.sessions.lock().refuse_when_wedged()?;
        let slots = self.0.slots.read().clone();
        let slot = slots.get_timeout(by.left().max(SHORTEST_WAIT));
        let mut sessions = self.0.sessions.lock();
        let Ok(slot) = slot else {
            sessions.refuse_when_wedged()?;
            let message = format!("all {} sessions of the target are busy", sessions.most());
            return Err(Error::new(Reason::Timeout, message)
                .with_hint("raise max_connections or the scrape's interval"));
        };
        let number = sessions.add(Deadline::after(by.moment(), GRACE), Holding::Nothing);
        let session = sessions.take_idle(number);
        Ok(Lease { session, number, pool: self.clone(), _slot: slot })
    }

    /// Where its sessions end.
    pub fn disposal(&self) -> &Disposal {
        &self.0.disposal
    }

    /// Closes one idle session: somebody else needs its place on the server. False when there is none.
    pub fn close_idle(&self) -> bool {
        let session = self.0.sessions.lock().idle.pop();
        session.map(|session| self.0.discard(session, None)).is_some()
    }

    /// When a session was last used.
    pub fn last_used(&self) -> Option<Instant> {
        self.0.sessions.lock().last_used
    }

    /// How many sessions are open.
    pub fn open(&self) -> usize {
        self.0.sessions.lock().open()
    }

    /// How many sessions were given up, and go on in the server longer than a cancel takes.
    pub fn running_on(&self) -> usize {
        self.0.sessions.lock().late().filter(|late| late.holds == Holding::GivenUp).count()
    }

    /// How many sessions are held past their deadline: leased, or given up and going on in the server longer than a cancel
    /// takes.
    pub fn late(&self) -> usize {
        self.0.sessions.lock().late().count()
    }

    /// Sessions by state. Those that `disposal` only closes are not counted.
    pub fn counts(&self) -> SessionCounts {
        let sessions = self.0.sessions.lock();
        let is_busy = |holder: &&SessionHolder| holder.holds != Holding::GivenUp && !holder.late.passed();
        let busy = sessions.holders.iter().filter(is_busy).count();
        SessionCounts { idle: sessions.idle.len(), busy, late: sessions.holders.len() - busy }
    }
}

/// ± 10 %, so that the sessions of many targets do not end together.
fn spread(span: Duration) -> Duration {
    span.mul_f64(0.9 + random_share() / 5.0)
}

/// A number from 0 to 1.
fn random_share() -> f64 {
    let random = foldhash::fast::RandomState::default().hash_one(0);
    f64::from(u32::try_from(random % 1_001).unwrap_or(500)) / 1_000.0
}

/// The right to one session, and that session while it is open. Dropping it gives both back; a dirty session does not come
/// back.
pub struct Lease {
    session: Option<PooledSession>,
    number: u64,
    pool: Pool,
    /// Last: it goes back when the session has.
    _slot: r2d2::PooledConnection<SlotFactory>,
}

impl Lease {
    /// True when [`Lease::session`] has to open one.
    pub fn is_empty(&self) -> bool {
        !self.session.as_ref().is_some_and(|session| session.guarded.is_clean())
    }

    /// The lease counts as late only after `by`: it serves a job with a later deadline.
    pub fn until(&mut self, by: Deadline) {
        if let Some(own) = self.pool.0.sessions.lock().find(self.number) {
            own.late = Deadline::after(by.moment(), GRACE);
        }
    }

    /// What the session learned at login, while there is one.
    pub fn facts(&self) -> Option<&ServerFacts> {
        self.session.as_ref().map(|session| session.guarded.facts())
    }

    /// [`crate::driver::Session::round_trip_time`], while there is a session.
    pub fn round_trip_time(&self) -> Duration {
        self.session.as_ref().map_or(Duration::ZERO, |session| session.guarded.round_trip_time())
    }

    /// Waits until the lease has a session, as one has become idle, or may open another one; until `by` at most: a session that
    /// was given up counts until the server is done with it.
    ///
    /// # Errors
    /// `wedged`, at once, when no place will come free soon; `timeout` when none came free.
    pub fn reserve(&mut self, by: Deadline) -> Result<()> {
        if let Some(dirty) = self.session.take_if(|session| !session.guarded.is_clean()) {
            self.pool.0.discard(dirty, Some(self.number));
        }
        let mut sessions = self.pool.0.sessions.lock();
        while self.session.is_none() && !sessions.allow(self.number) {
            self.session = sessions.take_idle(self.number);
            if self.session.is_some() {
                break;
            }
            sessions.refuse_when_wedged()?;
            if by.passed() {
                let most = sessions.most();
                let message = format!("all {most} sessions of the target are busy, or end in the server");
                return Err(Error::new(Reason::Timeout, message).with_hint("raise max_connections"));
            }
            self.pool.0.freed.wait_for(&mut sessions, RESERVE_POLL.min(by.left()));
        }
        Ok(())
    }

    /// Opens a session where there is none, or a dirty one; it takes `place` with it. True when it was there before. Blocks
    /// until `by` at most.
    ///
    /// # Errors
    /// What [`Lease::reserve`] and [`Endpoint::connect`] say; the place stays.
    pub fn open(&mut self, place: &mut Option<SessionPlace>, by: Deadline) -> Result<bool> {
        self.reserve(by)?;
        if self.session.is_some() {
            return Ok(true);
        }
        let pool = &self.pool.0;
        // Of a file, the new session may wait for the end of outdated ones, which nobody uses now.
        if pool.endpoint.connection_config().is_none() {
            pool.close_outdated();
        }
        let guarded = GuardedSession::new(pool.endpoint.connect(by)?);
        let mut sessions = pool.sessions.lock();
        sessions.set(self.number, Holding::Session);
        let lifetime = spread(sessions.limits.max_lifetime);
        drop(sessions);
        let (now, mut place) = (Instant::now(), place.take());
        place.iter_mut().for_each(SessionPlace::fill);
        self.session = Some(PooledSession { guarded, lifetime, opened: now, last_used: now, place });
        Ok(false)
    }

    /// The session; opened now when there is none or the one there is dirty. Blocks until `by` at most.
    ///
    /// # Errors
    /// What [`Endpoint::connect`] says.
    pub fn session(&mut self, by: Deadline) -> Result<&mut GuardedSession> {
        self.open(&mut None, by)?;
        let session = self.session.as_mut().map(|session| &mut session.guarded);
        session.ok_or_else(|| Error::new(Reason::Lost, "the session is gone"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(dirty) = self.session.take_if(|session| !session.guarded.is_clean()) {
            self.pool.0.discard(dirty, Some(self.number));
        }
        let now = Instant::now();
        let mut sessions = self.pool.0.sessions.lock();
        sessions.remove(self.number);
        sessions.last_used = Some(now);
        sessions.idle.extend(self.session.take().map(|session| PooledSession { last_used: now, ..session }));
        let excess = sessions.take_excess();
        drop(sessions);
        self.pool.0.freed.notify_all();
        self.pool.0.discard_idle(excess);
    }
}

/// Slots for as many leases as there may be sessions.
fn slots(limits: &PoolLimits, scheduler: &Scheduler) -> r2d2::Pool<SlotFactory> {
    r2d2::Pool::builder()
        .max_size(limits.most())
        .min_idle(Some(0))
        .test_on_check_out(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .thread_pool(Arc::clone(&scheduler.0))
        .build_unchecked(SlotFactory)
}

/// Makes slots.
struct SlotFactory;

impl r2d2::ManageConnection for SlotFactory {
    type Connection = ();
    type Error = std::convert::Infallible;

    fn connect(&self) -> std::result::Result<(), Self::Error> {
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> std::result::Result<(), Self::Error> {
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_spread_by_a_tenth_and_not_always_the_same() {
        let span = Duration::from_secs(1_800);
        let spreads: Vec<Duration> = (0..100).map(|_| spread(span)).collect();
        assert!(spreads.iter().all(|found| (1_620..=1_980).contains(&found.as_secs())), "{spreads:?}");
        assert!(spreads.iter().any(|found| *found != spreads[0]), "{spreads:?}");
    }
}
