//! Threads for lanes: started on demand, at most so many at work, never joined.
//!
//! A piece of work holds one permit from its start until it returns, or until its deadline has passed: then it is
//! *late*, its permit goes to the next, and its thread goes on alone until whatever holds it lets go. Work without
//! a permit waits in order; that of [`Line::Doubtful`] comes last and holds at most a quarter of the permits.
//!
//! Work of [`Line::InTurns`] is for this machine's own cores: more of it at once than there are cores would not end
//! sooner, only take the cores from each other, and some would wait long by bad luck. So little of it begins at once,
//! and each has a *turn* of some milliseconds only: it may turn out to wait for something else.
//! Knows no target, no session, no query.

use std::collections::{HashMap, VecDeque};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};

/// How long a thread without work stays.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// What work has at least before it counts as late, when it starts near its deadline or after it.
const GRACE: Duration = Duration::from_millis(100);
/// Late threads per permit before new work is refused.
const LATE_PER_PERMIT: usize = 2;
/// The deepest SQL that SQLite accepts needs between 256 and 512 KiB (measured). Only what is touched costs memory.
const STACK: usize = 1024 * 1024;

/// How long a turn counts: twice what fifty cheap queries take on a busy machine.
const TURN: Duration = Duration::from_millis(15);

/// Which line the work waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// First come, first served.
    Regular,
    /// The same, for quick work on this machine's cores: one turn a core, and one for what waits for an answer.
    InTurns,
    /// For targets that failed last time: after all regular work, on at most a quarter of the workers.
    Doubtful,
}

/// A moment's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerCounts {
    /// Pieces of work that hold a permit.
    pub busy: usize,
    /// Pieces of work past their deadline that have not returned.
    pub late: usize,
    /// Pieces of work that wait for a permit.
    pub waiting: usize,
    /// Threads, idle ones included.
    pub threads: usize,
    /// Pieces of work that panicked, since the start.
    pub panics: u64,
}

type Task = Box<dyn FnOnce() + Send>;

struct QueuedTask {
    task: Task,
    by: Deadline,
    line: Line,
}

struct RunningTask {
    by: Deadline,
    line: Line,
    late: bool,
    /// When its turn ceases to count.
    turn: Option<Instant>,
}

#[derive(Default)]
struct WorkerState {
    regular: VecDeque<QueuedTask>,
    doubtful: VecDeque<QueuedTask>,
    /// Work that has its permit and waits for a thread to pick it up.
    assigned: VecDeque<(u64, Task)>,
    running: HashMap<u64, RunningTask>,
    threads: usize,
    /// Threads that run nothing: they wait for work, or are on their way to it.
    free: usize,
    /// What wakes those that wait, who came last at the end.
    parked: Vec<Arc<Condvar>>,
    /// One of those that wait will look when the next turn ceases to count.
    watched: bool,
    started: u64,
    /// Threads ever started, for their names.
    born: u64,
    panics: u64,
    closed: bool,
}

struct WorkerPool {
    max: usize,
    turns: usize,
    turn: Duration,
    state: Mutex<WorkerState>,
}

/// The threads. Dropping it ends those that are idle; the others end with their work.
pub struct Workers(Arc<WorkerPool>);

impl Workers {
    /// At most `max` (at least one) pieces of work at once, late ones aside. Starts no thread yet.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Workers::with_turns(max, cores + 1, TURN)
    }

    /// The same, with so many turns at once, each of which counts for so long.
    #[must_use]
    pub fn with_turns(max: usize, turns: usize, turn: Duration) -> Self {
        let (max, turns, state) = (max.max(1), turns.max(1), Mutex::default());
        Workers(Arc::new(WorkerPool { max, turns, turn, state }))
    }

    /// Runs `task` on a thread of its own as soon as there is a permit. Returns at once.
    ///
    /// It should return by `by`, also when that has passed while it waited: it looks at the clock itself.
    /// A panic in it is caught and counted.
    ///
    /// # Errors
    /// `wedged` when twice as many threads as permits are late; `server` when the system gives no thread.
    /// The task is then dropped unrun.
    pub fn start(&self, line: Line, by: Deadline, task: impl FnOnce() + Send + 'static) -> Result<()> {
        let mut state = self.0.state.lock();
        state.mark_late();
        let late = state.late();
        if late >= LATE_PER_PERMIT * self.0.max {
            let message = format!("{late} workers are held by queries that do not let go");
            return Err(
                Error::new(Reason::Wedged, message).with_hint("new work starts when some of them return")
            );
        }
        let work = QueuedTask { task: Box::new(task), by, line };
        match line {
            Line::Regular | Line::InTurns => state.regular.push_back(work),
            Line::Doubtful => state.doubtful.push_back(work),
        }
        self.0.dispatch(&mut state, 0)
    }

    /// Takes the permits of work whose deadline has passed and starts what waits. A scrape calls this at its
    /// deadline; so does every start and every end of work.
    pub fn release_late(&self) {
        let mut state = self.0.state.lock();
        state.mark_late();
        // A thread that cannot be started is reported to whoever starts the next work.
        let _ = self.0.dispatch(&mut state, 0);
    }

    /// How things stand now.
    #[must_use]
    pub fn counts(&self) -> WorkerCounts {
        let mut state = self.0.state.lock();
        state.mark_late();
        let late = state.late();
        WorkerCounts {
            busy: state.running.len() - late,
            late,
            waiting: state.regular.len() + state.doubtful.len(),
            threads: state.threads,
            panics: state.panics,
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        state.parked.iter().for_each(|bell| {
            bell.notify_one();
        });
    }
}

impl WorkerState {
    fn mark_late(&mut self) {
        let now = Instant::now();
        for running in self.running.values_mut().filter(|running| running.by.moment() <= now) {
            running.late = true;
        }
    }

    fn late(&self) -> usize {
        self.running.values().filter(|running| running.late).count()
    }

    /// Wakes one of those that wait, who has waited for the shortest time: the others leave one day.
    fn wake_one(&mut self) -> bool {
        self.parked.pop().is_some_and(|bell| {
            bell.notify_one();
            true
        })
    }

    fn permits(&self, line: Option<Line>) -> usize {
        let holds = |running: &&RunningTask| !running.late && line.is_none_or(|line| running.line == line);
        self.running.values().filter(holds).count()
    }

    /// The turns that count now: when each will cease to.
    fn turns(&self) -> impl Iterator<Item = Instant> {
        let now = Instant::now();
        let in_time = self.running.values().filter(|running| !running.late);
        in_time.filter_map(|running| running.turn).filter(move |turn| *turn > now)
    }

    /// When work that waits for a turn may have one, if no other ends before.
    fn next_turn(&self) -> Option<Instant> {
        self.regular.iter().find(|work| work.line == Line::InTurns)?;
        self.turns().min()
    }

    /// The next work that may have a permit now.
    fn next(&mut self, max: usize, turns: usize) -> Option<QueuedTask> {
        if self.permits(None) >= max || self.late() >= LATE_PER_PERMIT * max {
            return None;
        }
        let free_turn = self.turns().count() < turns;
        let may = |work: &QueuedTask| free_turn || work.line != Line::InTurns;
        if let Some(work) = self.regular.iter().position(may).and_then(|place| self.regular.remove(place)) {
            return Some(work);
        }
        let quarter = (max / 4).max(1);
        if self.permits(Some(Line::Doubtful)) < quarter { self.doubtful.pop_front() } else { None }
    }
}

impl WorkerPool {
    /// Gives permits to work that waits and finds it threads; `awake` of those that are free come by themselves.
    fn dispatch(self: &Arc<Self>, state: &mut WorkerState, awake: usize) -> Result<()> {
        while let Some(QueuedTask { task, by, line }) = state.next(self.max, self.turns) {
            state.started += 1;
            let number = state.started;
            let by = by.max(Deadline::within(GRACE));
            let turn = (line == Line::InTurns).then(|| Instant::now() + self.turn);
            state.running.insert(number, RunningTask { by, line, late: false, turn });
            state.assigned.push_back((number, task));
            if state.free >= state.assigned.len() {
                if state.assigned.len() > awake {
                    state.wake_one();
                }
            } else if let Err(cause) = self.spawn(state)
                && state.threads == 0
            {
                // Nobody would ever take it.
                state.assigned.pop_back();
                state.running.remove(&number);
                return Err(Error::new(Reason::Server, format!("the system gives no thread: {cause}")));
            }
        }
        let one_comes_to_watch = state.free > state.parked.len() + state.assigned.len();
        if state.next_turn().is_some() && !state.watched && !one_comes_to_watch && !state.wake_one() {
            // Without a thread for it, the next end of work gives the turn.
            let _ = self.spawn(state);
        }
        Ok(())
    }

    fn spawn(self: &Arc<Self>, state: &mut WorkerState) -> std::io::Result<()> {
        let shared = Arc::clone(self);
        let name = format!("lane-{}", state.born + 1);
        std::thread::Builder::new().name(name).stack_size(STACK).spawn(move || shared.serve())?;
        state.born += 1;
        state.threads += 1;
        state.free += 1;
        Ok(())
    }

    /// A thread's life: work until there is none for a while.
    fn serve(self: &Arc<Self>) {
        let bell = Arc::new(Condvar::new());
        let mut state = self.state.lock();
        while let Some((number, task)) = self.take(&mut state, &bell) {
            state.free -= 1;
            let panicked = MutexGuard::unlocked(&mut state, || catch_unwind(AssertUnwindSafe(task)).is_err());
            state.free += 1;
            state.running.remove(&number);
            state.panics += u64::from(panicked);
            state.mark_late();
            // A thread that cannot be started is reported to whoever starts the next work; this one is free.
            let _ = self.dispatch(&mut state, 1);
        }
        state.free -= 1;
        state.threads -= 1;
    }

    /// Waits for work, to be woken by `bell`; `None` after ten seconds without, or when the workers were dropped.
    fn take(
        self: &Arc<Self>,
        state: &mut MutexGuard<'_, WorkerState>,
        bell: &Arc<Condvar>,
    ) -> Option<(u64, Task)> {
        loop {
            if let Some(work) = state.assigned.pop_front() {
                return Some(work);
            }
            if state.closed {
                return None;
            }
            let turn = state.next_turn().filter(|_| !state.watched);
            state.watched |= turn.is_some();
            state.parked.push(Arc::clone(bell));
            let until = turn.unwrap_or_else(|| Instant::now() + IDLE_TIMEOUT);
            let timed_out = bell.wait_until(state, until).timed_out();
            state.parked.retain(|other| !Arc::ptr_eq(other, bell));
            if turn.is_some() {
                state.watched = false;
                let _ = self.dispatch(state, 1);
            } else if timed_out && state.assigned.is_empty() {
                return None;
            }
        }
    }
}
