//! The sessions of one target: at most `max_connections`, kept while they are good. The only file with r2d2.
//!
//! r2d2 counts *slots*. A new slot is empty, so r2d2's thread never waits for a network: whoever leases the slot opens its
//! session, under that scrape's deadline. A session that did not come back clean (`guarded_session`) goes to `disposal` and
//! is never used again. It counts as one of the target's sessions until the server is done with it, so that the server never
//! has more of them than `max_connections`. The place that it has on a server which several targets share goes with it.
//! One job a pool closes old sessions; r2d2's own would look at all pools at one moment, and at those that are gone for ever.
//! A reload may change the limits: then the sessions move to another r2d2 pool, those in use when they come back.
//! Knows no query and no retry rule.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use scheduled_thread_pool::ScheduledThreadPool;

use super::disposal::{Disposal, server_work};
use super::guarded_session::GuardedSession;
use super::session_bound::SessionPlace;
use crate::config::target::MAX_SESSIONS;
use crate::deadline::Deadline;
use crate::driver::{Endpoint, ServerFacts, ServerWork};
use crate::error::{Error, Reason, Result};
use crate::telemetry::SessionCounts;

/// The shortest wait for a slot: r2d2's thread makes new ones.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// The longest wait for a slot for a session from one of earlier limits. On a busy machine r2d2's thread takes a while.
const ADOPTION_WAIT: Duration = Duration::from_secs(1);
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
    /// Sessions at once, from 1 to [`MAX_SESSIONS`]: r2d2 reserves memory for all of them.
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
    /// Others after a change of the bounds.
    slots: Arc<RwLock<Arc<SlotPool>>>,
    shared: Arc<PoolState>,
}

/// The slots within the bounds of one configuration.
struct SlotPool {
    settings: PoolLimits,
    pool: r2d2::Pool<SlotFactory>,
}

/// What the pool, its slots and its leases have in common.
struct PoolState {
    endpoint: Arc<dyn Endpoint>,
    scheduler: Scheduler,
    disposal: Disposal,
    counts: Mutex<PoolCounts>,
    /// A session has ended in the server, or is idle.
    freed: Condvar,
}

#[derive(Default)]
struct PoolCounts {
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

    fn with(&self, holds: Holding) -> usize {
        self.holders.iter().filter(|holder| holder.holds == holds).count()
    }

    fn late(&self) -> impl Iterator<Item = &SessionHolder> {
        self.holders.iter().filter(|holder| holder.late.passed())
    }

    /// Open sessions that are not leased.
    fn idle(&self) -> usize {
        self.open - self.with(Holding::Session)
    }

    /// True where the server has no more sessions than `most`, with another one.
    fn allow_another(&self, most: usize) -> bool {
        let given_up = self.with(Holding::GivenUp);
        given_up == 0 || self.open + self.with(Holding::Place) + given_up < most
    }
}

impl PoolState {
    /// Sends an open session to `disposal`. One whose server goes on with its statement is counted until it has ended
    /// there.
    fn discard(self: &Arc<Self>, open: PooledSession) {
        let PooledSession { guarded, place, .. } = open;
        let is_dirty = guarded.is_dirty();
        let mut session = guarded.into_inner();
        let work = server_work(&mut *session);
        let mut counts = self.counts.lock();
        counts.open -= 1;
        let running = (!work.has_ended()).then(|| StillRunning::new(self, &mut counts));
        drop(counts);
        // A cancel takes a connection more, for which a pooler may have no place.
        let cancel = is_dirty && work != ServerWork::Answered;
        self.disposal.discard_from(Box::new((running, place)), session, cancel);
    }
}

/// Counts a session that was given up while it goes on in the server.
struct StillRunning {
    number: u64,
    shared: Arc<PoolState>,
}

impl StillRunning {
    fn new(shared: &Arc<PoolState>, counts: &mut PoolCounts) -> Self {
        let number = counts.add(Deadline::within(CANCEL_GRACE), Holding::GivenUp);
        StillRunning { number, shared: Arc::clone(shared) }
    }
}

impl Drop for StillRunning {
    fn drop(&mut self) {
        self.shared.counts.lock().remove(self.number);
        self.shared.freed.notify_all();
    }
}

impl SlotPool {
    fn new(shared: &Arc<PoolState>, settings: &PoolLimits) -> Arc<Self> {
        let pool = r2d2::Pool::builder()
            .max_size(settings.max_connections.clamp(1, MAX_SESSIONS))
            .min_idle(Some(0))
            .test_on_check_out(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .thread_pool(Arc::clone(&shared.scheduler.0))
            .build_unchecked(SlotFactory(Arc::clone(shared)));
        Arc::new(SlotPool { settings: *settings, pool })
    }

    /// An idle slot that has a session, if there is one.
    fn idle(&self, shared: &PoolState) -> Option<r2d2::PooledConnection<SlotFactory>> {
        // They go back when one is found: not before, or the same ones would come again.
        let mut empty = Vec::new();
        while shared.counts.lock().idle() > 0 {
            let slot = self.pool.try_get()?;
            if slot.session.is_some() {
                return Some(slot);
            }
            empty.push(slot);
        }
        None
    }

    /// Closes the idle sessions that are `over`. Each slot is out of the pool for a moment only.
    fn reap(&self, shared: &PoolState, over: impl Fn(&PooledSession) -> bool) {
        let mut kept = Vec::new();
        while shared.counts.lock().idle() > 0 {
            let Some(mut slot) = self.pool.try_get() else { break };
            if slot.session.as_ref().is_some_and(&over) {
                slot.discard();
            }
            kept.push(slot);
        }
    }

    /// Takes over a session from a slot of earlier limits. It is closed where every slot has one.
    fn adopt(&self, session: PooledSession, shared: &Arc<PoolState>) {
        let mut taken = Vec::new();
        while taken.len() < self.pool.max_size() as usize
            && let Ok(mut slot) = self.pool.get_timeout(ADOPTION_WAIT)
        {
            if slot.session.is_none() {
                slot.session = Some(session);
                return;
            }
            taken.push(slot);
        }
        shared.discard(session);
    }
}

impl Pool {
    /// No session yet. Does not block.
    pub fn new(
        endpoint: Arc<dyn Endpoint>,
        settings: &PoolLimits,
        scheduler: &Scheduler,
        disposal: &Disposal,
    ) -> Self {
        let (scheduler, disposal) = (scheduler.clone(), disposal.clone());
        let shared = Arc::new(PoolState {
            endpoint,
            scheduler,
            disposal,
            counts: Mutex::default(),
            freed: Condvar::new(),
        });
        let slots = Arc::new(RwLock::new(SlotPool::new(&shared, settings)));
        let pool = Pool { slots, shared };
        pool.start_reaper();
        pool
    }

    /// Looks at idle sessions from now on, at moments that differ from those of other pools.
    fn start_reaper(&self) {
        let (slots, shared) = (Arc::downgrade(&self.slots), Arc::downgrade(&self.shared));
        let reap = move || {
            let (slots, shared) = (slots.upgrade()?, shared.upgrade()?);
            let slots = Arc::clone(&slots.read());
            slots.reap(&shared, |session| session.is_old(&slots.settings));
            Some(REAP_INTERVAL)
        };
        self.shared.scheduler.0.execute_at_dynamic_rate(REAP_INTERVAL.mul_f64(random_share()), reap);
    }

    /// Sets other limits. The sessions stay, as far as the limits allow. Blocks for some milliseconds, at most
    /// for a second a session.
    pub fn set(&self, settings: &PoolLimits) {
        let old = self.slots();
        if old.settings == *settings {
            return;
        }
        *self.slots.write() = SlotPool::new(&self.shared, settings);
        self.empty(old);
    }

    /// Moves the idle sessions out of slots that a change of the limits has replaced, until they are in those of now.
    fn empty(&self, mut old: Arc<SlotPool>) {
        loop {
            let new = self.slots();
            if Arc::ptr_eq(&old, &new) {
                return;
            }
            while let Some(mut slot) = old.idle(&self.shared) {
                if let Some(session) = slot.session.take() {
                    new.adopt(session, &self.shared);
                }
            }
            old = new;
        }
    }

    fn slots(&self) -> Arc<SlotPool> {
        Arc::clone(&self.slots.read())
    }

    /// Takes a slot, one with a session where there is one, waiting until `by` for it (at least 20 ms). The lease should
    /// be dropped by `by`.
    ///
    /// # Errors
    /// `wedged`, at once, when every slot is held past its lease's deadline; `timeout` when none came free.
    pub fn lease(&self, by: Deadline) -> Result<Lease> {
        let mut slots = self.slots();
        self.refuse_when_wedged(&slots)?;
        let Ok(mut slot) = slots.pool.get_timeout(by.left().max(SHORTEST_WAIT)) else {
            self.refuse_when_wedged(&slots)?;
            let message = format!("all {} sessions of the target are busy", slots.pool.max_size());
            return Err(Error::new(Reason::Timeout, message).with_hint(RAISE_MAX_CONNECTIONS));
        };
        // After a change of the limits meanwhile, sessions are in others.
        let now = self.slots();
        if slot.session.is_none()
            && let Some(other) = now.idle(&self.shared)
        {
            (slot, slots) = (other, now);
        }
        let holds = if slot.session.is_some() { Holding::Session } else { Holding::Nothing };
        let number = self.shared.counts.lock().add(Deadline::after(by.moment(), GRACE), holds);
        Ok(Lease { slot, number, origin: SlotOrigin { slots, pool: self.clone() } })
    }

    /// Where its sessions end.
    pub fn disposal(&self) -> &Disposal {
        &self.shared.disposal
    }

    /// Closes one idle session: somebody else needs its place on the server. False when there is none.
    #[must_use]
    pub fn close_idle(&self) -> bool {
        let Some(mut slot) = self.slots().idle(&self.shared) else { return false };
        slot.discard();
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

    fn refuse_when_wedged(&self, slots: &SlotPool) -> Result<()> {
        let most = slots.pool.max_size();
        if self.late() < most as usize { Ok(()) } else { Err(wedged(most)) }
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

/// A slot taken out of the pool; dropping it gives it back. A dirty session does not come back with it.
pub struct Lease {
    slot: r2d2::PooledConnection<SlotFactory>,
    number: u64,
    /// Behind the slot: it is dropped when that is back.
    origin: SlotOrigin,
}

/// Where the slot of a lease is from, and goes back to.
struct SlotOrigin {
    slots: Arc<SlotPool>,
    pool: Pool,
}

impl Drop for SlotOrigin {
    /// Other limits may have come at any moment before: whoever sets them takes what is back by then.
    fn drop(&mut self) {
        self.pool.empty(Arc::clone(&self.slots));
    }
}

impl Lease {
    /// True when [`Lease::session`] has to open one.
    pub fn is_empty(&self) -> bool {
        self.slot.session.is_none() || self.slot.is_unclean()
    }

    /// The lease counts as late only after `by`: it serves a job with a later deadline.
    pub fn until(&mut self, by: Deadline) {
        self.note(|own| own.late = Deadline::after(by.moment(), GRACE));
    }

    fn note(&self, change: impl FnOnce(&mut SessionHolder)) {
        if let Some(own) = self.origin.pool.shared.counts.lock().find(self.number) {
            change(own);
        }
    }

    /// What the session learned at login, while there is one.
    pub fn facts(&self) -> Option<&ServerFacts> {
        self.slot.session.as_ref().map(|open| open.guarded.facts())
    }

    /// [`crate::driver::Session::round_trip_time`], while there is a session.
    pub fn round_trip_time(&self) -> Duration {
        self.slot.session.as_ref().map_or(Duration::ZERO, |open| open.guarded.round_trip_time())
    }

    /// Waits until the target may open another session, until `by` at most: a session that was given up counts until the
    /// server is done with it. Takes another slot whose session has become idle meanwhile.
    ///
    /// # Errors
    /// `wedged`, at once, when no place will come free soon; `timeout` when none came free.
    pub fn reserve(&mut self, by: Deadline) -> Result<()> {
        if self.slot.is_unclean() {
            self.note(|own| own.holds = Holding::Nothing);
            self.slot.discard();
        }
        let shared = Arc::clone(&self.origin.pool.shared);
        loop {
            let slots = self.origin.pool.slots();
            let mut counts = shared.counts.lock();
            let most = slots.pool.max_size() as usize;
            let allow_another = counts.allow_another(most);
            match counts.find(self.number) {
                Some(own) if own.holds != Holding::Nothing => return Ok(()),
                Some(own) if allow_another => {
                    own.holds = Holding::Place;
                    return Ok(());
                }
                _ => drop(counts),
            }
            if let Some(other) = slots.idle(&shared) {
                let pool = self.origin.pool.clone();
                (self.slot, self.origin) = (other, SlotOrigin { slots, pool });
                self.note(|own| own.holds = Holding::Session);
                return Ok(());
            }
            self.origin.pool.refuse_when_wedged(&slots)?;
            if by.passed() {
                let message = format!("all {most} sessions of the target are busy, or end in the server");
                return Err(Error::new(Reason::Timeout, message).with_hint(RAISE_MAX_CONNECTIONS));
            }
            shared.freed.wait_for(&mut shared.counts.lock(), RESERVE_POLL.min(by.left()));
        }
    }

    /// Opens a session where there is none, or a dirty one; it takes `place` with it. True when it was there before. Blocks
    /// until `by` at most.
    ///
    /// # Errors
    /// What [`Lease::reserve`] and [`Endpoint::connect`] say; the place stays.
    pub fn open(&mut self, place: &mut Option<SessionPlace>, by: Deadline) -> Result<bool> {
        self.reserve(by)?;
        if self.slot.session.is_some() {
            return Ok(true);
        }
        let shared = &self.origin.pool.shared;
        // Of a file, the new session may wait for the end of outdated ones, which nobody uses now.
        if shared.endpoint.connection_config().is_none() {
            self.origin.pool.slots().reap(shared, |session| session.guarded.is_outdated());
        }
        let opened = shared.endpoint.connect(by);
        shared.counts.lock().open += usize::from(opened.is_ok());
        self.note(|own| own.holds = if opened.is_ok() { Holding::Session } else { Holding::Nothing });
        shared.freed.notify_all();
        let lifetime = spread(self.origin.pool.slots().settings.max_lifetime);
        let guarded = GuardedSession::new(opened?);
        let (opened, last_used, mut place) = (Instant::now(), Instant::now(), place.take());
        place.iter_mut().for_each(SessionPlace::fill);
        self.slot.session = Some(PooledSession { guarded, lifetime, opened, last_used, place });
        Ok(false)
    }

    /// The slot's session; opened now when there is none or the one there is dirty. Blocks until `by` at most.
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
        let (slot, now) = (&mut *self.slot, Instant::now());
        let mut counts = slot.shared.counts.lock();
        counts.remove(self.number);
        counts.last_used = Some(now);
        drop(counts);
        if slot.is_unclean() {
            // Here and not by r2d2, which wakes nobody who waits for a slot when it drops a broken one.
            slot.discard();
        }
        slot.session.iter_mut().for_each(|session| session.last_used = now);
        self.origin.pool.shared.freed.notify_all();
    }
}

/// r2d2's view of the endpoint: it makes empty slots.
struct SlotFactory(Arc<PoolState>);

struct Slot {
    session: Option<PooledSession>,
    shared: Arc<PoolState>,
}

impl Slot {
    /// True where it has a session that must not be used again.
    fn is_unclean(&self) -> bool {
        self.session.as_ref().is_some_and(|open| !open.guarded.is_clean())
    }

    /// Sends the session to `disposal`.
    fn discard(&mut self) {
        if let Some(session) = self.session.take() {
            self.shared.discard(session);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Never here: r2d2 drops idle slots on the thread that all pools share.
        self.discard();
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

    fn has_broken(&self, slot: &mut Slot) -> bool {
        slot.is_unclean()
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
