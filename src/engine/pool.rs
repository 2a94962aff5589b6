//! The sessions of one target: at most `max_connections`, kept while they are good. The only file with r2d2.
//!
//! Idle sessions are in r2d2's slots. A new slot is empty, so r2d2's thread never waits for a network: whoever leases the slot
//! opens its session, under that scrape's deadline. How many leases and sessions there may be is counted here, so that a reload
//! can change it. A session that did not come back clean (`guarded_session`) goes to `disposal` and is never used again. It counts
//! as one of the target's sessions until the server is done with it, so that the server never has more of them than
//! `max_connections`. The place that it has on a server which several targets share goes with it.
//! One job a pool closes old sessions; r2d2's own would look at all pools at one moment, and at those that are gone for ever.
//! Knows no query and no retry rule.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use scheduled_thread_pool::ScheduledThreadPool;

use super::disposal::{Disposal, server_work};
use super::guarded_session::{GuardedSession, catching_panics};
use super::session_bound::SessionPlace;
use crate::config::target::MAX_SESSIONS;
use crate::deadline::Deadline;
use crate::driver::{Endpoint, ServerWork};
use crate::error::{Error, Reason, Result};
use crate::telemetry::SessionCounts;

/// The shortest wait for a lease: r2d2's thread makes new slots.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// The fewest slots that r2d2 has room for.
const LEAST_ROOM: u32 = 8;
/// How long after its deadline a lease counts as late: a session that is just coming back is not.
const GRACE: Duration = Duration::from_millis(100);
/// How often a lane that waits for the end of another session looks again.
const RESERVE_POLL: Duration = Duration::from_millis(50);
/// How often idle sessions are looked at.
const REAP_INTERVAL: Duration = Duration::from_secs(30);
/// How long after its cancel a session that goes on in the server counts as late: a cancel takes a moment.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// What gives a target more sessions.
pub(super) const RAISE_MAX_CONNECTIONS: &str =
    "raise max_connections (of a database that was discovered also discover.max_connections)";

/// The one thread that all pools share; it makes empty slots and closes old ones. Cheap to clone.
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
    /// Sessions at once, at least 1.
    pub max_connections: u32,
    /// An idle session is closed after this, within half a minute. With zero, whoever leases sessions closes them earlier
    /// by [`Pool::close_idle`].
    pub idle_timeout: Duration,
    /// A session is closed after this ± 10 %, within half a minute, when it is idle.
    pub max_lifetime: Duration,
}

/// One target's sessions. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Pool {
    /// One more, twice as large or larger, where a reload allows more than the last one has room for. The others keep their
    /// sessions.
    slots: Arc<RwLock<Vec<Slots>>>,
    shared: Arc<PoolState>,
}

type Slots = r2d2::Pool<SlotFactory>;

/// What the pool, its slots and its leases have in common.
struct PoolState {
    endpoint: Arc<dyn Endpoint>,
    scheduler: Scheduler,
    disposal: Disposal,
    /// Locked while an idle session is looked for: none is out of sight meanwhile.
    counts: Mutex<PoolCounts>,
    /// A lease or a session has ended, or a session is idle.
    freed: Condvar,
}

struct PoolCounts {
    limits: PoolLimits,
    /// Sessions that are open.
    open: usize,
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

impl PoolCounts {
    fn most(&self) -> usize {
        self.limits.max_connections.max(1) as usize
    }

    fn note(&mut self, number: u64, change: impl Fn(&mut SessionHolder)) {
        self.holders.iter_mut().filter(|holder| holder.number == number).for_each(change);
    }

    fn set_holding(&mut self, number: u64, holds: Holding) {
        self.note(number, |own| own.holds = holds);
    }

    fn with(&self, holds: Holding) -> usize {
        self.holders.iter().filter(|holder| holder.holds == holds).count()
    }

    fn leases(&self) -> usize {
        self.holders.len() - self.with(Holding::GivenUp)
    }

    fn late(&self) -> impl Iterator<Item = &SessionHolder> {
        self.holders.iter().filter(|holder| holder.late.passed())
    }

    /// Open sessions that are not leased.
    fn idle(&self) -> usize {
        self.open - self.with(Holding::Session)
    }

    /// True where the server may get another session: it never has more than `max_connections`.
    fn allow_another(&self) -> bool {
        self.open + self.with(Holding::Place) + self.with(Holding::GivenUp) < self.most()
    }

    fn refuse_when_wedged(&self) -> Result<()> {
        if self.late().count() < self.most() { Ok(()) } else { Err(wedged(self.limits.max_connections)) }
    }

    /// Why there is no session in time.
    fn busy(&self, more: &str) -> Error {
        let message = format!("all {} sessions of the target are busy{more}", self.most());
        Error::new(Reason::Timeout, message).with_hint(RAISE_MAX_CONNECTIONS)
    }
}

/// One of the holders that a pool counts, while this lives.
struct CountedHolder {
    number: u64,
    shared: Arc<PoolState>,
}

impl CountedHolder {
    fn new(shared: &Arc<PoolState>, counts: &mut PoolCounts, late: Deadline, holds: Holding) -> Self {
        counts.last_number += 1;
        let number = counts.last_number;
        counts.holders.push(SessionHolder { number, late, holds });
        CountedHolder { number, shared: Arc::clone(shared) }
    }

    fn set_holding(&self, holds: Holding) {
        self.shared.counts.lock().set_holding(self.number, holds);
    }
}

impl Drop for CountedHolder {
    fn drop(&mut self) {
        self.shared.counts.lock().holders.retain(|holder| holder.number != self.number);
        self.shared.freed.notify_all();
    }
}

impl PoolState {
    fn make_slots(self: &Arc<Self>, limits: &PoolLimits) -> Slots {
        r2d2::Pool::builder()
            .max_size(limits.max_connections.clamp(LEAST_ROOM, MAX_SESSIONS).next_power_of_two())
            .min_idle(Some(0))
            .test_on_check_out(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .thread_pool(Arc::clone(&self.scheduler.0))
            .build_unchecked(SlotFactory(Arc::clone(self)))
    }

    /// Sends an open session to `disposal` that is not to be used again. One whose server goes on with its statement is
    /// counted until it has ended there.
    fn discard(self: &Arc<Self>, open: PooledSession) {
        let PooledSession { guarded, place, .. } = open;
        let is_dirty = guarded.is_dirty();
        let mut session = guarded.into_inner();
        let work = server_work(&mut *session);
        let mut counts = self.counts.lock();
        counts.open -= 1;
        let late = Deadline::within(CANCEL_GRACE);
        let running =
            (!work.has_ended()).then(|| CountedHolder::new(self, &mut counts, late, Holding::GivenUp));
        drop(counts);
        // A cancel takes a connection more, for which a pooler may have no place.
        let cancel = is_dirty && work != ServerWork::Answered;
        self.disposal.discard_from(Box::new((running, place)), session, cancel);
    }

    /// Sends a clean session to `disposal`, which is not counted any more.
    fn close(&self, PooledSession { guarded, place, .. }: PooledSession) {
        self.disposal.discard_from(Box::new(place), guarded.into_inner(), false);
        self.freed.notify_all();
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
        let counts =
            PoolCounts { limits: *limits, open: 0, holders: Vec::new(), last_number: 0, last_used: None };
        let shared = Arc::new(PoolState {
            endpoint,
            scheduler: scheduler.clone(),
            disposal: disposal.clone(),
            counts: Mutex::new(counts),
            freed: Condvar::new(),
        });
        let slots = Arc::new(RwLock::new(vec![shared.make_slots(limits)]));
        let pool = Pool { slots, shared };
        pool.start_reaper();
        pool
    }

    /// Looks at idle sessions from now on, at moments that differ from those of other pools.
    fn start_reaper(&self) {
        let (slots, shared) = (Arc::downgrade(&self.slots), Arc::downgrade(&self.shared));
        let reap = move || {
            let pool = Pool { slots: slots.upgrade()?, shared: shared.upgrade()? };
            pool.reap(PooledSession::is_old);
            Some(REAP_INTERVAL)
        };
        self.shared.scheduler.0.execute_at_dynamic_rate(REAP_INTERVAL.mul_f64(random_share()), reap);
    }

    /// Sets other limits. The sessions stay, as far as the limits allow. Does not block.
    pub fn set(&self, limits: &PoolLimits) {
        let mut counts = self.shared.counts.lock();
        counts.limits = *limits;
        if self.room() < limits.max_connections.min(MAX_SESSIONS) {
            self.slots.write().push(self.shared.make_slots(limits));
        }
        drop(counts);
        while self.open() > limits.max_connections as usize && self.close_idle() {}
    }

    /// How many leases the last slots have room for.
    fn room(&self) -> u32 {
        self.slots.read().last().map_or(0, r2d2::Pool::max_size)
    }

    /// A slot with an idle session, if there is one. Only while the counts are locked. An empty one is not kept.
    fn take_idle(&self) -> Option<r2d2::PooledConnection<SlotFactory>> {
        let all = self.slots.read();
        all.iter()
            .find_map(|slots| std::iter::from_fn(|| slots.try_get()).find(|slot| slot.session.is_some()))
    }

    /// Closes the idle sessions that are `over`.
    fn reap(&self, over: impl Fn(&PooledSession, &PoolLimits) -> bool) {
        let mut counts = self.shared.counts.lock();
        let mut slots: Vec<_> = std::iter::from_fn(|| self.take_idle()).collect();
        let limits = counts.limits;
        let old = slots.iter_mut().filter_map(|slot| slot.session.take_if(|session| over(session, &limits)));
        let old: Vec<PooledSession> = old.map(|session| *session).collect();
        counts.open -= old.len();
        drop(slots);
        drop(counts);
        old.into_iter().for_each(|session| self.shared.close(session));
    }

    /// Leases a session where one is idle, or the right to open one, waiting until `by` for it (at least 20 ms). The lease
    /// should be dropped by `by`.
    ///
    /// # Errors
    /// `wedged`, at once, when every session is held past its lease's deadline; `timeout` when none came free.
    pub fn lease(&self, by: Deadline) -> Result<Lease> {
        let (shared, until) = (&self.shared, by.max(Deadline::within(SHORTEST_WAIT)));
        let mut counts = shared.counts.lock();
        loop {
            counts.refuse_when_wedged()?;
            if counts.leases() < counts.most() {
                break;
            }
            if until.passed() {
                return Err(counts.busy(""));
            }
            shared.freed.wait_until(&mut counts, until.moment());
        }
        let idle = self.take_idle();
        let holds = if idle.is_some() { Holding::Session } else { Holding::Nothing };
        let late = Deadline::after(by.moment(), GRACE);
        let holder = CountedHolder::new(shared, &mut counts, late, holds);
        let busy = counts.busy("");
        let slots = self.slots.read().last().cloned();
        drop(counts);
        let slot = idle.or_else(|| slots?.get_timeout(until.left()).ok()).ok_or(busy)?;
        if slot.session.is_some() {
            holder.set_holding(Holding::Session);
        }
        Ok(Lease { slot, holder, pool: self.clone() })
    }

    /// Where its sessions end.
    pub fn disposal(&self) -> &Disposal {
        &self.shared.disposal
    }

    /// Closes one idle session: somebody else needs its place on the server. False when there is none.
    #[must_use]
    pub fn close_idle(&self) -> bool {
        let mut counts = self.shared.counts.lock();
        let Some(session) = self.take_idle().and_then(|mut slot| slot.session.take()) else { return false };
        counts.open -= 1;
        drop(counts);
        self.shared.close(*session);
        true
    }

    /// When a session was last used.
    pub fn last_used(&self) -> Option<Instant> {
        self.shared.counts.lock().last_used
    }

    /// How many sessions are open.
    pub fn open(&self) -> usize {
        self.shared.counts.lock().open
    }

    /// How many sessions were given up, and go on in the server longer than a cancel takes.
    pub fn running_on(&self) -> usize {
        self.shared.counts.lock().late().filter(|late| late.holds == Holding::GivenUp).count()
    }

    /// How many sessions are held past their deadline: leased, or given up and going on in the server longer than a cancel
    /// takes.
    pub fn late(&self) -> usize {
        self.shared.counts.lock().late().count()
    }

    /// Sessions by state. Those that `disposal` only closes are not counted.
    pub fn counts(&self) -> SessionCounts {
        let counts = self.shared.counts.lock();
        let is_busy = |holder: &&SessionHolder| holder.holds != Holding::GivenUp && !holder.late.passed();
        let busy = counts.holders.iter().filter(is_busy).count();
        SessionCounts { idle: counts.idle(), busy, late: counts.holders.len() - busy }
    }
}

/// Why nothing runs on a target of which every session is held past its deadline.
pub fn wedged(most: u32) -> Error {
    let message = format!(
        "all {most} sessions of the target are held by queries that do not end when they are cancelled"
    );
    Error::new(Reason::Wedged, message).with_hint("the next scrape after one of them ends goes on")
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

/// The right to a session; dropping it gives that back. A dirty session does not come back with it.
pub struct Lease {
    slot: r2d2::PooledConnection<SlotFactory>,
    /// Behind the slot: who waits for a lease is woken when that is back.
    holder: CountedHolder,
    pool: Pool,
}

impl Lease {
    /// The lease counts as late only after `by`: it serves a job with a later deadline.
    pub fn until(&mut self, by: Deadline) {
        let late = Deadline::after(by.moment(), GRACE);
        self.pool.shared.counts.lock().note(self.holder.number, |own| own.late = late);
    }

    /// The session, while there is one.
    pub fn opened(&self) -> Option<&GuardedSession> {
        self.slot.session.as_ref().map(|open| &open.guarded)
    }

    fn discard_unclean(&mut self) {
        if let Some(session) = self.slot.session.take_if(|open| !open.guarded.is_clean()) {
            self.holder.set_holding(Holding::Nothing);
            self.pool.shared.discard(*session);
        }
    }

    /// Waits until the target may open another session, until `by` at most: a session that was given up counts until the
    /// server is done with it. Takes a session that has become idle meanwhile. True where there is a session.
    ///
    /// # Errors
    /// `wedged`, at once, when no place will come free soon; `timeout` when none came free.
    pub fn reserve(&mut self, by: Deadline) -> Result<bool> {
        self.discard_unclean();
        let shared = Arc::clone(&self.pool.shared);
        let mut counts = shared.counts.lock();
        loop {
            let is_own = |holder: &&SessionHolder| holder.number == self.holder.number;
            if counts.holders.iter().find(is_own).is_none_or(|own| own.holds != Holding::Nothing) {
                return Ok(self.slot.session.is_some());
            }
            if counts.allow_another() {
                counts.set_holding(self.holder.number, Holding::Place);
                return Ok(false);
            }
            if let Some(slot) = self.pool.take_idle() {
                self.slot = slot;
                counts.set_holding(self.holder.number, Holding::Session);
                return Ok(true);
            }
            counts.refuse_when_wedged()?;
            if by.passed() {
                return Err(counts.busy(", or end in the server"));
            }
            shared.freed.wait_for(&mut counts, RESERVE_POLL.min(by.left()));
        }
    }

    /// Opens a session where there is none, or a dirty one; it takes `place` with it. True when it was there before. Blocks
    /// until `by` at most.
    ///
    /// # Errors
    /// What [`Lease::reserve`] and [`Endpoint::connect`] say; the place stays.
    pub fn open(&mut self, place: &mut Option<SessionPlace>, by: Deadline) -> Result<bool> {
        if self.reserve(by)? {
            return Ok(true);
        }
        let shared = &self.pool.shared;
        // Of a file, the new session may wait for the end of outdated ones, which nobody uses now.
        if shared.endpoint.connection_config().is_none() {
            self.pool.reap(|session, _| session.guarded.is_outdated());
        }
        let opened = catching_panics(|| shared.endpoint.connect(by)).flatten();
        let mut counts = shared.counts.lock();
        counts.open += usize::from(opened.is_ok());
        let holds = if opened.is_ok() { Holding::Session } else { Holding::Nothing };
        counts.set_holding(self.holder.number, holds);
        let lifetime = spread(counts.limits.max_lifetime);
        drop(counts);
        shared.freed.notify_all();
        let guarded = GuardedSession::new(opened?);
        let (opened, last_used, mut place) = (Instant::now(), Instant::now(), place.take());
        place.iter_mut().for_each(SessionPlace::fill);
        self.slot.session = Some(Box::new(PooledSession { guarded, lifetime, opened, last_used, place }));
        Ok(false)
    }

    /// The lease's session; opened now when there is none or the one there is dirty. Blocks until `by` at most.
    ///
    /// # Errors
    /// What [`Endpoint::connect`] says.
    pub fn session(&mut self, by: Deadline) -> Result<&mut GuardedSession> {
        self.open(&mut None, by)?;
        let open = self.slot.session.as_mut();
        open.map(|open| &mut open.guarded).ok_or_else(|| Error::new(Reason::Lost, "the session is gone"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.discard_unclean();
        let now = Instant::now();
        self.slot.session.iter_mut().for_each(|session| session.last_used = now);
        let mut counts = self.pool.shared.counts.lock();
        counts.last_used = Some(now);
        // Before the slot is back: then another lease may hold the session.
        counts.set_holding(self.holder.number, Holding::Nothing);
        // A reload may have lowered the limit.
        let excess = self.slot.session.take_if(|_| counts.open > counts.most());
        if let Some(session) = excess {
            counts.open -= 1;
            drop(counts);
            self.pool.shared.close(*session);
        }
    }
}

/// r2d2's view of the endpoint: it makes empty slots.
struct SlotFactory(Arc<PoolState>);

/// What r2d2 keeps: a clean session that is idle, but for a slot that it has just made.
struct Slot {
    session: Option<Box<PooledSession>>,
    shared: Arc<PoolState>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.shared.counts.lock().open -= 1;
            self.shared.close(*session);
        }
    }
}

impl r2d2::ManageConnection for SlotFactory {
    type Connection = Slot;
    type Error = std::convert::Infallible;

    fn connect(&self) -> std::result::Result<Slot, Self::Error> {
        Ok(Slot { session: None, shared: Arc::clone(&self.0) })
    }

    fn is_valid(&self, _slot: &mut Slot) -> std::result::Result<(), Self::Error> {
        Ok(())
    }

    /// An empty slot is not kept: whoever takes one finds a session in it.
    fn has_broken(&self, slot: &mut Slot) -> bool {
        slot.session.is_none()
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
