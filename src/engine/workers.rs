//! Threads for lanes, and for disposal: started on demand, at most so many at work, never joined.
//!
//! A task holds one permit from its start until it returns, or until its deadline has passed: then it is *late*, its
//! permit goes to the next task, and its thread goes on alone until whatever holds it lets go. Tasks without a permit
//! wait in order. Those of [`Priority::Low`] come last and hold at most a quarter of the permits.
//! Where there are several servers, none of them gets a further permit while it holds more than are free: one takes about
//! half of all, two of them a third each, and what is left is for servers that have few.
//! Knows no target, no session, no query.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};

pub use crate::telemetry::WorkerCounts;

/// How long a thread without work stays.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a task that starts near its deadline, or after it, has before it counts as late.
const GRACE: Duration = Duration::from_millis(100);
/// Late threads per permit before new work is refused.
const LATE_PER_PERMIT: usize = 2;
/// SQLite recurses for each view within a view, 1,000 at most, and for each SELECT of a compound one. The deepest views with up
/// to three SELECTs each need between 2 and 4 MiB (measured). Only what is touched costs memory.
const STACK: usize = 4 * 1024 * 1024;

/// Which tasks start first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// First come, first served.
    Normal,
    /// For targets that failed last time: after all normal tasks, on at most a quarter of the workers.
    Low,
}

/// The permits that the tasks of one server hold.
pub struct ServerShare {
    held: AtomicUsize,
    /// How many servers there are.
    servers: Arc<AtomicUsize>,
}

impl ServerShare {
    /// Whether it may have one of `free` permits.
    fn allows_one_of(&self, free: usize) -> bool {
        self.servers.load(Ordering::Relaxed) == 1 || self.held.load(Ordering::Relaxed) <= free
    }
}

impl Drop for ServerShare {
    fn drop(&mut self) {
        self.servers.fetch_sub(1, Ordering::Relaxed);
    }
}

type Task = Box<dyn FnOnce() + Send>;

struct QueuedTask {
    task: Task,
    by: Deadline,
    least: Duration,
    priority: Priority,
    share: Option<Arc<ServerShare>>,
}

struct RunningTask {
    by: Deadline,
    priority: Priority,
    late: bool,
    share: Option<HeldPermit>,
}

/// One of the permits of a server.
struct HeldPermit(Arc<ServerShare>);

impl HeldPermit {
    fn new(share: Arc<ServerShare>) -> Self {
        share.held.fetch_add(1, Ordering::Relaxed);
        HeldPermit(share)
    }
}

impl Drop for HeldPermit {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct WorkerState {
    max: usize,
    normal: VecDeque<QueuedTask>,
    low: VecDeque<QueuedTask>,
    /// Tasks that have their permit and wait for a thread to pick them up.
    assigned: VecDeque<(u64, Task)>,
    running: HashMap<u64, RunningTask>,
    threads: usize,
    /// Threads that run nothing: they wait for work, or are on their way to it.
    idle: usize,
    /// Those of them that wait, in the order in which they began. The last is woken first: threads that a burst needed have
    /// nothing to do, and end.
    parked: Vec<Thread>,
    tasks_started: u64,
    threads_started: u64,
    panics: u64,
    /// Threads that stay without work.
    kept: usize,
    closed: bool,
}

struct WorkerPool {
    /// Of each thread, before its number.
    name: &'static str,
    state: Mutex<WorkerState>,
    servers: Arc<AtomicUsize>,
}

/// The threads. Dropping it ends those that are idle; the others end with their work.
pub struct Workers(Arc<WorkerPool>);

impl Workers {
    /// At most `max` (at least one) tasks at once, late ones aside. Starts no thread yet.
    pub fn new(max: usize) -> Self {
        Workers::named("lane", max)
    }

    /// The same, with threads of another name than `lane`.
    pub fn named(name: &'static str, max: usize) -> Self {
        let (state, servers) = Default::default();
        let workers = Workers(Arc::new(WorkerPool { name, state, servers }));
        workers.resize(max);
        workers
    }

    /// Starts one thread that stays, so that there is one where the system cannot start another.
    pub fn keep_a_thread(&self) {
        let mut state = self.0.state.lock();
        state.kept = 1;
        if state.threads == 0
            && let Err(cause) = self.0.spawn(&mut state)
        {
            log::warn!("cannot start a thread: {cause}");
        }
    }

    /// At most `max` (at least one) tasks at once from now on. Those at work go on, and those that wait begin as far as there
    /// is a permit.
    pub fn resize(&self, max: usize) {
        self.0.state.lock().max = max.max(1);
        self.release_late();
    }

    /// How many tasks there may be at once.
    pub fn limit(&self) -> usize {
        self.0.state.lock().max
    }

    /// The share of another server.
    pub fn share(&self) -> Arc<ServerShare> {
        let servers = Arc::clone(&self.0.servers);
        servers.fetch_add(1, Ordering::Relaxed);
        Arc::new(ServerShare { held: AtomicUsize::new(0), servers })
    }

    /// Runs `task` on a thread of its own as soon as there is a permit. Returns at once.
    ///
    /// It should return by `by`, also when that has passed while it waited: it looks at the clock itself.
    /// A panic in it is caught and counted.
    ///
    /// # Errors
    /// `wedged` when twice as many threads as permits are late; `server` when the system cannot start a thread.
    /// The task is then dropped without having run.
    pub fn start(
        &self,
        priority: Priority,
        by: Deadline,
        task: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        self.start_for(None, priority, by, GRACE, task)
    }

    /// The same, within the share of a server. Wherever it starts, the task is not late before it had `least`.
    ///
    /// # Errors
    /// As [`Workers::start`].
    pub fn start_for(
        &self,
        share: Option<&Arc<ServerShare>>,
        priority: Priority,
        by: Deadline,
        least: Duration,
        task: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        let mut state = self.0.state.lock();
        state.mark_late();
        let late = state.late();
        if late >= state.max.saturating_mul(LATE_PER_PERMIT) {
            let message = format!("{late} workers are held by queries that do not let go");
            return Err(
                Error::new(Reason::Wedged, message).with_hint("new work starts when some of them return")
            );
        }
        let least = least.max(GRACE);
        let task = QueuedTask { task: Box::new(task), by, least, priority, share: share.cloned() };
        match priority {
            Priority::Normal => state.normal.push_back(task),
            Priority::Low => state.low.push_back(task),
        }
        self.0.dispatch(&mut state)
    }

    /// Takes the permits of tasks whose deadline has passed and starts what waits. A scrape calls this at its
    /// deadline; so does every start and every end of a task.
    pub fn release_late(&self) {
        let mut state = self.0.state.lock();
        state.mark_late();
        // A thread that cannot be started is reported to whoever starts the next task.
        let _ = self.0.dispatch(&mut state);
    }

    /// How things stand now.
    pub fn counts(&self) -> WorkerCounts {
        let mut state = self.0.state.lock();
        state.mark_late();
        let late = state.late();
        WorkerCounts {
            busy: state.running.len() - late,
            late,
            waiting: state.normal.len() + state.low.len(),
            threads: state.threads,
            panics: state.panics,
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        state.parked.iter().for_each(Thread::unpark);
    }
}

impl WorkerState {
    fn mark_late(&mut self) {
        for running in self.running.values_mut().filter(|running| !running.late && running.by.passed()) {
            running.late = true;
            running.share = None;
        }
    }

    fn late(&self) -> usize {
        self.running.values().filter(|running| running.late).count()
    }

    /// The next task that may have a permit now.
    fn next(&mut self) -> Option<QueuedTask> {
        let late = self.late();
        let free = self.max.saturating_sub(self.running.len() - late);
        if free == 0 || late >= self.max.saturating_mul(LATE_PER_PERMIT) {
            return None;
        }
        if let Some(task) = take_allowed(&mut self.normal, free) {
            return Some(task);
        }
        let is_low = |running: &&RunningTask| !running.late && running.priority == Priority::Low;
        let low = self.running.values().filter(is_low).count();
        if low < (self.max / 4).max(1) { take_allowed(&mut self.low, free) } else { None }
    }
}

/// The first task whose server may have one of `free` permits.
fn take_allowed(queue: &mut VecDeque<QueuedTask>, free: usize) -> Option<QueuedTask> {
    let may_start = |task: &QueuedTask| task.share.as_ref().is_none_or(|share| share.allows_one_of(free));
    let place = queue.iter().position(may_start)?;
    queue.remove(place)
}

impl WorkerPool {
    /// Hands permits to tasks that wait and finds threads for them.
    fn dispatch(self: &Arc<Self>, state: &mut WorkerState) -> Result<()> {
        while let Some(QueuedTask { task, by, least, priority, share }) = state.next() {
            state.tasks_started += 1;
            let number = state.tasks_started;
            let by = by.max(Deadline::within(least));
            let share = share.map(HeldPermit::new);
            state.running.insert(number, RunningTask { by, priority, late: false, share });
            state.assigned.push_back((number, task));
            if state.idle >= state.assigned.len() {
                state.parked.pop().iter().for_each(Thread::unpark);
            } else if let Err(cause) = self.spawn(state)
                && state.threads == 0
            {
                // Nobody would ever take it.
                state.assigned.pop_back();
                state.running.remove(&number);
                return Err(Error::new(Reason::Server, format!("the system cannot start a thread: {cause}")));
            }
        }
        Ok(())
    }

    fn spawn(self: &Arc<Self>, state: &mut WorkerState) -> std::io::Result<()> {
        let pool = Arc::clone(self);
        let name = format!("{}-{}", self.name, state.threads_started + 1);
        std::thread::Builder::new().name(name).stack_size(STACK).spawn(move || pool.serve())?;
        state.threads_started += 1;
        state.threads += 1;
        state.idle += 1;
        Ok(())
    }

    /// A thread's life: tasks until there is none for a while.
    fn serve(self: &Arc<Self>) {
        let mut state = self.state.lock();
        while let Some((number, task)) = self.take(&mut state) {
            state.idle -= 1;
            let panicked = MutexGuard::unlocked(&mut state, || catch_unwind(AssertUnwindSafe(task)).is_err());
            state.idle += 1;
            state.running.remove(&number);
            state.panics += u64::from(panicked);
            state.mark_late();
            // A thread that cannot be started is reported to whoever starts the next task; this one is free.
            let _ = self.dispatch(&mut state);
        }
        state.idle -= 1;
        state.threads -= 1;
    }

    /// Waits for a task; `None` for a thread that is to end: after ten seconds without one, or when the workers were dropped.
    fn take(&self, state: &mut MutexGuard<'_, WorkerState>) -> Option<(u64, Task)> {
        let idle_until = Instant::now() + IDLE_TIMEOUT;
        loop {
            if let Some(task) = state.assigned.pop_front() {
                return Some(task);
            }
            let left = idle_until.saturating_duration_since(Instant::now());
            if state.closed || (left.is_zero() && state.threads > state.kept) {
                return None;
            }
            let own = std::thread::current();
            state.parked.push(own.clone());
            let pause = if left.is_zero() { IDLE_TIMEOUT } else { left };
            MutexGuard::unlocked(state, || std::thread::park_timeout(pause));
            state.parked.retain(|parked| parked.id() != own.id());
        }
    }
}
