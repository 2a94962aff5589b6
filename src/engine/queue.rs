//! The runs that wait for a session of one target, by expected cost, and the lanes that work on them.
//!
//! Knows no session and no thread.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::deadline::Deadline;

use super::run::Run;

/// Quick queries handed to a session together. More lanes for them would cost CPU time, here and in the server: to wake
/// another thread and another session takes about as long as twenty such queries.
const MAX_BATCH: usize = 50;
/// From this on, a round trip costs more than the risk that [`FIRST_RUN_BATCH`] names.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(10);
/// Queries that never ran, handed together to a session whose server is far away. A slow one among them delays those
/// behind it, once.
const FIRST_RUN_BATCH: usize = 4;
/// A lane is late when it has not come back so long after the deadline of what it does.
const GRACE: Duration = Duration::from_millis(100);

/// One worker of a target. Shared with whoever finds it late.
pub struct Lane {
    /// The latest deadline of the runs that it may take: its worker's permit lasts no longer.
    pub by: Deadline,
    /// Since when it has a worker.
    started: OnceLock<Instant>,
    /// A scrape gave up on it.
    given_up: AtomicBool,
    work: Mutex<LaneWork>,
}

/// What a lane does now, and when it must have ended.
#[derive(Clone, Copy, Default)]
pub enum LaneWork {
    /// It waits for a worker, or looks for more to do.
    #[default]
    None,
    /// It logs in, perhaps for longer than the scrape that it was started for.
    Login(Deadline),
    /// It waits for a session, or runs a batch on one.
    Batch(Deadline),
}

impl Lane {
    fn new(by: Deadline) -> Self {
        let (started, given_up, work) = Default::default();
        Lane { by, started, given_up, work }
    }

    /// It has a worker now.
    pub fn start(&self) {
        self.started.get_or_init(Instant::now);
    }

    /// It does this from now on.
    pub fn begin(&self, work: LaneWork) {
        *self.work.lock() = work;
    }

    /// True while it logs in, and is in time.
    fn logs_in(&self) -> bool {
        let work = *self.work.lock();
        matches!(work, LaneWork::Login(_)) && !self.is_late()
    }

    /// A scrape gives up on it. True for the first one that does.
    pub fn give_up(&self) -> bool {
        !self.given_up.swap(true, Ordering::AcqRel)
    }

    /// True when a scrape gave up on it, or should have.
    pub fn is_late(&self) -> bool {
        let work = *self.work.lock();
        let overdue = match work {
            LaneWork::None => false,
            LaneWork::Login(by) | LaneWork::Batch(by) => Deadline::after(by.moment(), GRACE).passed(),
        };
        overdue || self.given_up.load(Ordering::Acquire)
    }
}

/// What waits for a session of one target, and who works on it.
#[derive(Default)]
pub struct Queue {
    waiting: Vec<Arc<Run>>,
    lanes: Vec<Arc<Lane>>,
}

impl Queue {
    /// Adds a run.
    pub fn push(&mut self, run: Arc<Run>) {
        self.waiting.push(run);
    }

    /// Makes a new lane for each run that waits, up to `most` lanes in all, and `useful` ones that are not late. Sessions
    /// that are being opened are waited for: no lane opens another one in their stead. All at once: a lane that has begun takes
    /// its run out, and fewer lanes would seem to be needed.
    pub fn new_lanes(&mut self, most: usize, useful: usize) -> Vec<Arc<Lane>> {
        self.waiting.retain(|run| !run.is_over());
        let Some(by) = self.waiting.iter().map(|run| run.by).max() else { return Vec::new() };
        let (quick, slow): (Vec<_>, Vec<_>) =
            self.waiting.iter().filter(|run| run.group.is_none()).partition(|run| run.is_quick());
        let wanted = slow.len() + self.snapshots() + quick.len().div_ceil(MAX_BATCH);
        let places = most.saturating_sub(self.lanes.len());
        let in_time = self.lanes.iter().filter(|lane| !lane.is_late()).count();
        let arriving = self.lanes.iter().filter(|lane| lane.logs_in()).count();
        let count = wanted.saturating_sub(arriving).min(places).min(useful.saturating_sub(in_time));
        let lanes: Vec<_> = (0..count).map(|_| Arc::new(Lane::new(by))).collect();
        self.lanes.extend(lanes.iter().cloned());
        lanes
    }

    /// How many snapshots wait, each of which needs one session.
    fn snapshots(&self) -> usize {
        let mut groups: Vec<u64> = self.waiting.iter().filter_map(|run| run.group).collect();
        groups.sort_unstable();
        groups.dedup();
        groups.len()
    }

    /// Removes a lane that has ended.
    pub fn leave(&mut self, lane: &Arc<Lane>) {
        self.lanes.retain(|other| !Arc::ptr_eq(lane, other));
    }

    /// Removes a lane that got no worker. Returns the runs that would wait for ever, where no other lane is left.
    pub fn give_up(&mut self, lane: &Arc<Lane>) -> Vec<Arc<Run>> {
        self.leave(lane);
        if self.lanes.is_empty() { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    /// True when there are `most` lanes and all are late.
    pub fn is_wedged(&self, most: usize) -> bool {
        self.lanes.len() >= most && self.lanes.iter().all(|lane| lane.is_late())
    }

    /// True where no lane would use an idle session now: nothing waits, or no lane has a worker and is in time.
    pub fn needs_no_idle_session(&self) -> bool {
        let is_at_work = |lane: &Arc<Lane>| lane.started.get().is_some() && !lane.is_late();
        !self.has_waiting() || !self.lanes.iter().any(is_at_work)
    }

    /// True while a run waits for a session.
    pub fn has_waiting(&self) -> bool {
        self.waiting.iter().any(|run| !run.is_over())
    }

    /// True where a lane had its worker before `by`, and was in time, or for runs until then. One that gets it later comes too
    /// late for these.
    pub fn had_worker_before(&self, by: Deadline) -> bool {
        let before = |lane: &Lane| lane.started.get().is_some_and(|started| *started < by.moment());
        self.lanes.iter().any(|lane| before(lane) && (lane.by >= by || !lane.is_late()))
    }

    /// True while a lane waits for a worker.
    pub fn has_lane_without_worker(&self) -> bool {
        self.lanes.iter().any(|lane| lane.started.get().is_none())
    }

    /// True while a lane opens a session.
    pub fn logs_in(&self) -> bool {
        self.lanes.iter().any(|lane| lane.logs_in())
    }

    /// True when another lane will take what waits.
    pub fn has_other(&self, lane: &Lane) -> bool {
        self.lanes.iter().any(|other| !std::ptr::eq(lane, &**other) && !other.is_late())
    }

    /// The index of the next run: the first by cost of those that `lane` has the time for.
    fn next_index(&mut self, lane: &Lane) -> Option<usize> {
        self.waiting.retain(|run| !run.is_over());
        let fit = self.waiting.iter().enumerate().filter(|(_, run)| run.by <= lane.by);
        // Of equals the first: `max_by_key` returns the last.
        fit.rev().max_by_key(|(_, run)| run.cost).map(|(index, _)| index)
    }

    /// The deadline of the next run.
    pub fn next_by(&mut self, lane: &Lane) -> Option<Deadline> {
        self.next_index(lane).map(|index| self.waiting[index].by)
    }

    /// The next batch for a session: all runs of a snapshot, those last that were stopped before; else the first run by
    /// cost, alone, or, when it is quick, with a fair share of the other quick ones that have the same deadline. On a server
    /// that is far away a few that never ran go together, too.
    pub fn next(&mut self, lane: &Lane, round_trip: Duration) -> Vec<Arc<Run>> {
        let Some(index) = self.next_index(lane) else { return Vec::new() };
        let first = self.waiting.remove(index);
        let most = match (first.is_quick(), first.has_run()) {
            (true, _) => MAX_BATCH,
            (false, false) if round_trip >= LONG_ROUND_TRIP => FIRST_RUN_BATCH,
            (false, _) => 1,
        };
        let share = (self.waiting.len() + 1).div_ceil(self.lanes.len().max(1)).min(most);
        let mut batch = vec![first];
        let mut index = 0;
        while let Some(run) = self.waiting.get(index) {
            if goes_with(run, &batch, share) {
                batch.push(self.waiting.remove(index));
            } else {
                index += 1;
            }
        }
        match batch[0].group {
            Some(_) => batch.sort_by_key(|run| Reverse(run.cost)),
            None if batch.len() > 1 => batch.iter().for_each(|run| run.join()),
            None => {}
        }
        batch
    }

    /// The runs that `lane` may take, unless another lane takes them first.
    pub fn available_to(&self, lane: &Lane) -> Vec<Arc<Run>> {
        self.waiting.iter().filter(|run| run.by <= lane.by && !run.is_over()).cloned().collect()
    }

    /// Takes out the runs that must end by then.
    pub fn take_until(&mut self, by: Deadline) -> Vec<Arc<Run>> {
        self.waiting.extract_if(.., |run| run.by <= by).collect()
    }
}

/// Whether `run` joins a batch of at most `share`: it is of the same snapshot; or it has the same deadline, and is quick,
/// or never ran, as the first one.
fn goes_with(run: &Run, batch: &[Arc<Run>], share: usize) -> bool {
    let first = &batch[0];
    let kind = |run: &Run| (run.is_quick(), run.has_run());
    match (first.group, run.group) {
        (None, None) => kind(run) == kind(first) && run.by == first.by && batch.len() < share,
        (first, other) => first == other,
    }
}
