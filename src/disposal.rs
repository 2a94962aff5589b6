//! Cancels statements and closes sessions off the scrape's threads.
//!
//! Both may block for as long as a server or a network likes, so they happen on threads that nobody waits for:
//! started on demand, at most [`THREADS`], never joined. Beyond that sessions queue. Knows no target and no pool.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::deadline::Deadline;
use crate::driver::{Canceller, Session};
use crate::error::Reason;

/// Sessions cancelled or closed at once.
const THREADS: usize = 16;
/// How long one cancel may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

enum Work {
    Drop(Box<dyn Session>),
    Cancel(Arc<dyn Canceller>),
    CancelAndDrop(Box<dyn Session>),
}

struct Task {
    work: Work,
    /// The target that it is of, for the log.
    target: Option<Arc<str>>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Task>,
    threads: usize,
    /// Threads that run nothing: they wait for work, or are on their way to it.
    free: usize,
    /// Threads that stay without work.
    kept: usize,
    /// Queued and under way.
    pending: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Work for an idle thread.
    work: Condvar,
    /// A task ended.
    done: Condvar,
}

/// Where sessions end. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Disposal {
    shared: Arc<Shared>,
    target: Option<Arc<str>>,
}

impl Disposal {
    /// No threads yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same one, for the sessions of a target: the log names it.
    #[must_use]
    pub fn of_target(&self, name: &str) -> Self {
        Disposal { shared: Arc::clone(&self.shared), target: Some(name.into()) }
    }

    /// Closes a session; with `cancel` its statement is stopped in the server first. Does not block.
    pub fn discard(&self, session: Box<dyn Session>, cancel: bool) {
        self.push(if cancel { Work::CancelAndDrop(session) } else { Work::Drop(session) });
    }

    /// Stops the statement of a session that a late thread still owns. Does not block.
    pub fn cancel(&self, canceller: Arc<dyn Canceller>) {
        self.push(Work::Cancel(canceller));
    }

    /// Cancels and closes that have not ended.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.state.lock().pending
    }

    /// Waits until nothing is pending, at most until `by`: the last call of a process, so that no statement runs on
    /// in a server because its cancel was still on the way. True when nothing is left.
    #[must_use]
    pub fn settle(&self, by: Deadline) -> bool {
        let mut state = self.shared.state.lock();
        while state.pending > 0 {
            if self.shared.done.wait_until(&mut state, by.moment()).timed_out() {
                return state.pending == 0;
            }
        }
        true
    }

    /// Starts one thread that stays, so that sessions can be closed where the system gives no other.
    pub fn keep_a_thread(&self) {
        let mut state = self.shared.state.lock();
        state.kept = 1;
        if state.threads == 0 {
            self.start_thread(&mut state);
        }
    }

    fn push(&self, work: Work) {
        let task = Task { work, target: self.target.clone() };
        let mut state = self.shared.state.lock();
        state.pending += 1;
        state.queue.push_back(task);
        if state.free >= state.queue.len() {
            self.shared.work.notify_one();
        } else if state.threads < THREADS {
            // Without it the task stays queued: a thread that runs takes it, or the next push tries again.
            self.start_thread(&mut state);
        }
    }

    fn start_thread(&self, state: &mut State) {
        let shared = Arc::clone(&self.shared);
        let name = format!("disposal-{}", state.threads + 1);
        match std::thread::Builder::new().name(name).spawn(move || shared.serve()) {
            Ok(_) => {
                state.threads += 1;
                state.free += 1;
            }
            Err(cause) => log::warn!("cannot start a thread that closes sessions: {cause}"),
        }
    }
}

impl Shared {
    /// A thread's life: tasks until there are none for a while.
    fn serve(&self) {
        let mut state = self.state.lock();
        while let Some(task) = self.take(&mut state) {
            state.free -= 1;
            let ended =
                MutexGuard::unlocked(&mut state, || catch_unwind(AssertUnwindSafe(|| task.perform())));
            state.free += 1;
            if ended.is_err() {
                // A panic in a driver's drop ends that session and nothing else.
                log::error!("a session panicked while it was closed");
            }
            state.pending -= 1;
            self.done.notify_all();
        }
        state.free -= 1;
        state.threads -= 1;
    }

    fn take(&self, state: &mut MutexGuard<'_, State>) -> Option<Task> {
        loop {
            if let Some(task) = state.queue.pop_front() {
                return Some(task);
            }
            let idle = self.work.wait_for(state, IDLE).timed_out() && state.queue.is_empty();
            if idle && state.threads > state.kept {
                return None;
            }
        }
    }
}

impl Task {
    fn perform(self) {
        let target = self.target.as_deref();
        let cancel = |canceller: Arc<dyn Canceller>| {
            if let Err(error) = canceller.cancel(Deadline::within(PATIENCE)) {
                let error = target.map_or(error.clone(), |target| error.on_target(target));
                // Nobody listens any more: nothing runs on.
                let level =
                    if error.reason() == Reason::Connect { log::Level::Debug } else { log::Level::Warn };
                log::log!(level, "{error}; a statement may run on in the server");
            }
        };
        match self.work {
            Work::Drop(session) => drop(session),
            Work::Cancel(canceller) => cancel(canceller),
            Work::CancelAndDrop(session) => {
                cancel(session.canceller());
                drop(session);
            }
        }
    }
}
