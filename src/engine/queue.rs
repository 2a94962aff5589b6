//! What waits for a session of one target, in the order of its rank, and the places of the lanes that work on it.
//!
//! Knows no session and no thread.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::deadline::Deadline;

use super::run::Run;

/// Quick queries handed to a session together. A lane for less of them would cost CPU time, here and in the server: to
/// wake another thread and another session takes about as long as twenty such queries.
const BATCH: usize = 50;
/// From here on a round trip costs more than what is said against [`FIRST_RUNS`].
const FAR: Duration = Duration::from_millis(10);
/// Queries that never ran and are handed together to a session whose server is far away. A slow one among them delays those
/// behind it, once.
const FIRST_RUNS: usize = 4;
/// A lane is late when it has not come back so long after the deadline of what it does.
const GRACE: Duration = Duration::from_millis(100);

/// One worker's place in a target. Shared with whoever finds it late.
pub struct Lane {
    /// What it takes from the line must end by then: its worker's permit lasts no longer.
    pub by: Deadline,
    /// It has a worker.
    started: AtomicBool,
    late: AtomicBool,
    /// When what it does now must have ended.
    due: Mutex<Option<Deadline>>,
}

impl Lane {
    fn new(by: Deadline) -> Self {
        let (started, late, due) = Default::default();
        Lane { by, started, late, due }
    }

    /// It has a worker now.
    pub fn start(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// What it does now must have ended by then; `None`: it looks for more to do.
    pub fn set_due(&self, by: Option<Deadline>) {
        *self.due.lock() = by;
    }

    /// A scrape gave up on it. True for the first one.
    pub fn give_up(&self) -> bool {
        !self.late.swap(true, Ordering::AcqRel)
    }

    /// True when a scrape gave up on it, or should have.
    pub fn is_late(&self) -> bool {
        let overdue = |by: Deadline| Deadline::after(by.moment(), GRACE).passed();
        self.late.load(Ordering::Acquire) || self.due.lock().is_some_and(overdue)
    }
}

/// What waits for a session of one target, and who works on it.
#[derive(Default)]
pub struct Queue {
    waiting: Vec<Arc<Run>>,
    lanes: Vec<Arc<Lane>>,
}

impl Queue {
    /// Puts a run in line.
    pub fn push(&mut self, run: Arc<Run>) {
        self.waiting.push(run);
    }

    /// Takes a place for a new lane for each run that waits, as far as there are places (`most`) and lanes are `of_use`.
    /// All at once: a lane that has begun takes its run out of the line, which must not look as if fewer lanes were needed.
    pub fn enter(&mut self, most: usize, of_use: usize) -> Vec<Arc<Lane>> {
        self.waiting.retain(|run| !run.is_over());
        let Some(by) = self.waiting.iter().map(|run| run.by).max() else { return Vec::new() };
        let (quick, slow): (Vec<_>, Vec<_>) =
            self.waiting.iter().filter(|run| run.group.is_none()).partition(|run| run.is_quick());
        let wanted = slow.len() + self.snapshots() + quick.len().div_ceil(BATCH);
        let places = most.saturating_sub(self.lanes.len());
        let in_time = self.lanes.iter().filter(|lane| !lane.is_late()).count();
        let count = wanted.min(places).min(of_use.saturating_sub(in_time));
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

    /// Gives a place back.
    pub fn leave(&mut self, lane: &Arc<Lane>) {
        self.lanes.retain(|other| !Arc::ptr_eq(lane, other));
    }

    /// Gives a place back that got no worker; with no other lane left, hands out what would wait for ever.
    pub fn give_up(&mut self, lane: &Arc<Lane>) -> Vec<Arc<Run>> {
        self.leave(lane);
        if self.lanes.is_empty() { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    /// True when every place is held by a late lane.
    pub fn is_wedged(&self, most: usize) -> bool {
        self.lanes.len() >= most && self.lanes.iter().all(|lane| lane.is_late())
    }

    /// How many lanes have a worker and are in time.
    pub fn at_work(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.started.load(Ordering::Acquire) && !lane.is_late()).count()
    }

    /// True when another lane will see to what waits.
    pub fn has_other(&self, lane: &Arc<Lane>) -> bool {
        self.lanes.iter().any(|other| !Arc::ptr_eq(lane, other) && !other.is_late())
    }

    /// The place of the run whose turn it is: the first by rank of those that `lane` has the time for.
    fn first(&mut self, lane: &Lane) -> Option<usize> {
        self.waiting.retain(|run| !run.is_over());
        let fit = self.waiting.iter().enumerate().filter(|(_, run)| run.by <= lane.by);
        // Of equals the first: `max_by_key` gives the last.
        fit.rev().max_by_key(|(_, run)| run.cost).map(|(place, _)| place)
    }

    /// The deadline of the run whose turn it is.
    pub fn next_by(&mut self, lane: &Lane) -> Option<Deadline> {
        self.first(lane).map(|place| self.waiting[place].by)
    }

    /// The next batch for a session whose server is `distance` away: all of a snapshot, those last that were stopped
    /// before; else the first by rank alone, or, when it is quick, with a fair share of the other quick ones that have the
    /// same deadline. Behind a long way a few that never ran go together, too.
    pub fn next(&mut self, lane: &Lane, distance: Duration) -> Vec<Arc<Run>> {
        let Some(place) = self.first(lane) else { return Vec::new() };
        let first = self.waiting.remove(place);
        let most = match (first.is_quick(), first.has_run()) {
            (true, _) => BATCH,
            (false, false) if distance >= FAR => FIRST_RUNS,
            (false, _) => 1,
        };
        let share = (self.waiting.len() + 1).div_ceil(self.lanes.len().max(1)).min(most);
        let mut batch = vec![first];
        let mut place = 0;
        while let Some(run) = self.waiting.get(place) {
            if goes_with(run, &batch, share) {
                batch.push(self.waiting.remove(place));
            } else {
                place += 1;
            }
        }
        if batch[0].group.is_none() && batch.len() > 1 {
            batch.iter().for_each(|run| run.join());
        }
        if batch[0].group.is_some() {
            batch.sort_by_key(|run| Reverse(run.cost));
        }
        batch
    }

    /// The runs that `lane` may take, if nobody takes them before.
    pub fn in_reach(&self, lane: &Lane) -> Vec<Arc<Run>> {
        self.waiting.iter().filter(|run| run.by <= lane.by && !run.is_over()).cloned().collect()
    }

    /// Takes the runs out that must end by then.
    pub fn take_until(&mut self, by: Deadline) -> Vec<Arc<Run>> {
        self.waiting.extract_if(.., |run| run.by <= by).collect()
    }
}

/// Whether `run` joins a batch that has room for `share`: the same snapshot, or such as end together and are quick, or
/// never ran, as its first is.
fn goes_with(run: &Run, batch: &[Arc<Run>], share: usize) -> bool {
    let first = &batch[0];
    let kind = |run: &Run| (run.is_quick(), run.has_run());
    match (first.group, run.group) {
        (None, None) => kind(run) == kind(first) && run.by == first.by && batch.len() < share,
        (first, other) => first == other,
    }
}
