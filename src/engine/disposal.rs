//! Cancels statements and closes sessions off the scrape's threads.
//!
//! Both may block for as long as a server or a network does, so they happen on workers of their own that nobody waits for, at
//! most [`MAX_THREADS`]. Beyond that, sessions queue. A session whose server goes on with its statement after the cancel is kept
//! until that has ended: one thread polls all of these. Knows no target and no pool: what counts a session comes with it
//! as a [`SessionPermit`] and is dropped when the session has ended.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::deadline::Deadline;
use crate::driver::{Canceller, ServerWork, Session};
use crate::error::{Error, Reason};

use super::workers::{Priority, Workers};

/// Sessions cancelled or closed at once.
const MAX_THREADS: usize = 16;
/// How many threads wait for servers at once, which may be frozen. The others only close sessions: other targets may wait for
/// what these hold.
const MAX_WAITING: usize = 12;
/// How long one cancel may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest and the longest pause between two looks at the sessions that go on in the server.
const POLL_PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// How long after its cancel the server is first asked on another connection whether a session goes on, and the longest
/// pause between two such questions. Each is a login.
const ASK_SERVER_PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// How long after its cancel a session is given up where its server cannot be asked: MySQL and MariaDB, or behind a pooler.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);
/// How many threads ask servers at once: the others are for cancels.
const MAX_ASKING: usize = 4;

/// What counts a session until it has ended in the server. Its drop must not block.
pub type SessionPermit = Box<dyn Send>;

enum DisposalAction {
    Cancel(Arc<dyn Canceller>),
    /// Keeps the session while its server goes on with its statement, which `cancel` stops first.
    Discard {
        session: Box<dyn Session>,
        cancel: bool,
    },
    /// Cancels once more and asks the server on another connection whether the session goes on.
    Ask(RunningSession),
    /// Closes the session, whatever goes on in the server.
    Close(Box<dyn Session>),
    /// The process or the target ends: the session is ended in the server, whatever it runs.
    Terminate(Box<dyn Session>),
}

struct DisposalTask {
    work: DisposalAction,
    /// The session's target.
    target: Option<Arc<DisposalTarget>>,
    permit: Option<SessionPermit>,
}

/// Whose sessions they are.
struct DisposalTarget {
    /// For the log.
    name: String,
    server: String,
}

/// A session that was cancelled and goes on in the server.
struct RunningSession {
    session: Box<dyn Session>,
    target: Option<Arc<DisposalTarget>>,
    permit: Option<SessionPermit>,
    /// When its cancel was sent.
    since: Instant,
    /// When the server is asked next, and how long after that once more.
    ask: (Instant, Duration),
}

#[derive(Default)]
struct DisposalState {
    queued: VecDeque<DisposalTask>,
    /// The server of each thread that waits for one.
    waiting: Vec<String>,
    /// Threads that take tasks, or are on their way to them.
    threads: usize,
    /// Queued and under way, and sessions that go on in the server.
    pending: usize,
    /// Sessions that go on in the server and are not being looked at.
    running: Vec<RunningSession>,
    /// A thread looks at them.
    is_watched: bool,
    /// Servers that are being asked about one.
    asking: usize,
    /// The process ends: sessions that go on in the server are ended there.
    is_ending: bool,
    /// Targets that have ended, while they have sessions: these are ended in the server, too.
    ended: Vec<Arc<DisposalTarget>>,
}

impl DisposalState {
    /// The next task that a thread may take. Of those that ask servers, no server gets a further thread while it has more
    /// than are free.
    fn next(&mut self) -> Option<DisposalTask> {
        let free = MAX_WAITING.saturating_sub(self.waiting.len());
        let held = |server: &str| self.waiting.iter().filter(|other| *other == server).count();
        let may_start = |task: &DisposalTask| task.is_quick() || (free > 0 && held(task.server()) <= free);
        let place = self.queued.iter().position(may_start)?;
        self.queued.remove(place)
    }

    fn is_to_end(&self, running: &RunningSession) -> bool {
        let is_its = |ended: &Arc<DisposalTarget>| {
            running.target.as_ref().is_some_and(|target| Arc::ptr_eq(target, ended))
        };
        self.is_ending || self.ended.iter().any(is_its)
    }
}

struct DisposalQueue {
    state: Mutex<DisposalState>,
    workers: Workers,
    /// Wakes the thread that looks at what goes on in the server.
    watch: Condvar,
    /// A task ended, or turned out to go on in the server.
    done: Condvar,
}

impl Default for DisposalQueue {
    fn default() -> Self {
        let (state, watch, done) = Default::default();
        DisposalQueue { state, workers: Workers::named("disposal", MAX_THREADS), watch, done }
    }
}

/// Where sessions end. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Disposal {
    shared: Arc<DisposalQueue>,
    target: Option<Arc<DisposalTarget>>,
}

impl Disposal {
    /// No threads yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same one, for the sessions that a target has on a server.
    pub fn of_target(&self, name: &str, server: String) -> Self {
        let target = DisposalTarget { name: name.to_owned(), server };
        Disposal { shared: Arc::clone(&self.shared), target: Some(Arc::new(target)) }
    }

    /// Closes a session; with `cancel` its statement is stopped in the server first. Does not block.
    pub fn discard(&self, session: Box<dyn Session>, cancel: bool) {
        self.discard_from(Box::new(()), session, cancel);
    }

    /// The same for a session that holds a permit until its server is done with it.
    pub fn discard_from(&self, permit: SessionPermit, session: Box<dyn Session>, cancel: bool) {
        self.push(DisposalAction::Discard { session, cancel }, Some(permit));
    }

    /// Stops the statement of a session that a late thread still owns. Does not block.
    pub fn cancel(&self, canceller: Arc<dyn Canceller>) {
        self.push(DisposalAction::Cancel(canceller), None);
    }

    /// Cancels and closes that have not ended.
    pub fn pending(&self) -> usize {
        self.shared.state.lock().pending
    }

    /// Waits until nothing is pending, at most until `by`: the last call of a process, so that every cancel reaches its
    /// server. A session that goes on after its cancel is ended in the server when half of the time is over. True when
    /// nothing is left.
    #[must_use]
    pub fn settle(&self, by: Deadline) -> bool {
        let half = Deadline::within(by.left() / 2);
        let mut state = self.shared.state.lock();
        while state.pending > 0 && !self.shared.done.wait_until(&mut state, half.moment()).timed_out() {}
        state.is_ending = true;
        self.shared.end_running(&mut state);
        while state.pending > 0 && !self.shared.done.wait_until(&mut state, by.moment()).timed_out() {}
        state.is_ending = false;
        state.pending == 0
    }

    /// The target has ended: no scrape waits for what goes on in its server, and nobody counts it. Does not block.
    pub fn end_target(&self) {
        let Some(target) = &self.target else { return };
        let mut state = self.shared.state.lock();
        state.ended.retain(|ended| Arc::strong_count(ended) > 1);
        state.ended.push(Arc::clone(target));
        self.shared.end_running(&mut state);
    }

    /// Starts one thread that stays, so that sessions can be closed where the system cannot start another.
    pub fn keep_a_thread(&self) {
        self.shared.workers.keep_a_thread();
    }

    fn push(&self, work: DisposalAction, permit: Option<SessionPermit>) {
        let task = DisposalTask { work, target: self.target.clone(), permit };
        let mut state = self.shared.state.lock();
        state.pending += 1;
        self.shared.add(&mut state, task);
    }
}

impl DisposalQueue {
    /// Queues a task, and has a thread take it.
    fn add(self: &Arc<Self>, state: &mut DisposalState, task: DisposalTask) {
        state.queued.push_back(task);
        if state.threads == MAX_THREADS {
            return;
        }
        let shared = Arc::clone(self);
        match self.workers.start(Priority::Normal, Deadline::within(Duration::MAX), move || shared.serve()) {
            Ok(()) => state.threads += 1,
            // The task stays queued: the next push tries again.
            Err(error) => log::warn!("a session is not closed yet: {error}"),
        }
    }

    /// A thread's work: tasks until there are none.
    fn serve(self: &Arc<Self>) {
        let mut state = self.state.lock();
        while let Some(task) = state.next() {
            let (asks, waits) = (matches!(task.work, DisposalAction::Ask(_)), !task.is_quick());
            let server = task.server().to_owned();
            state.waiting.extend(waits.then(|| server.clone()));
            let ended =
                MutexGuard::unlocked(&mut state, || catch_unwind(AssertUnwindSafe(|| task.perform())));
            state.asking -= usize::from(asks);
            let place = state.waiting.iter().position(|other| waits && *other == server);
            if let Some(place) = place {
                state.waiting.swap_remove(place);
            }
            match ended {
                Ok(None) => state.pending -= 1,
                Ok(Some(running)) => {
                    state.running.push(running);
                    self.end_running(&mut state);
                    self.wake_watcher(&mut state);
                }
                Err(_) => {
                    // A panic in a driver's drop ends that session and nothing else.
                    log::error!("a session panicked while it was closed");
                    state.pending -= 1;
                }
            }
            self.done.notify_all();
        }
        state.threads -= 1;
    }

    /// Has the sessions ended in the server that go on there and whose process or target ends.
    fn end_running(self: &Arc<Self>, state: &mut DisposalState) {
        let running = std::mem::take(&mut state.running);
        let (to_end, running) = running.into_iter().partition(|running| state.is_to_end(running));
        state.running = running;
        for one in to_end {
            self.add(state, one.into_task(DisposalAction::Terminate));
        }
    }

    /// Wakes or starts the thread that looks at what goes on in the server.
    fn wake_watcher(self: &Arc<Self>, state: &mut DisposalState) {
        if state.running.is_empty() {
            return;
        }
        if state.is_watched {
            self.watch.notify_one();
            return;
        }
        let shared = Arc::clone(self);
        match std::thread::Builder::new()
            .name("disposal-watch".to_owned())
            .spawn(move || shared.watch_running())
        {
            Ok(_) => state.is_watched = true,
            // Nobody would notice their end: they are closed, and no longer counted.
            Err(cause) => {
                log::warn!("cannot start a thread that waits for cancelled statements: {cause}");
                for one in std::mem::take(&mut state.running) {
                    self.add(state, one.into_task(DisposalAction::Close));
                }
            }
        }
    }

    /// The life of the thread that looks at what goes on in the server: until nothing does.
    fn watch_running(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let (first, longest) = POLL_PAUSES;
        let mut pause = first;
        while !state.running.is_empty() {
            let is_new = !self.watch.wait_for(&mut state, pause).timed_out();
            let running = std::mem::take(&mut state.running);
            let check = || {
                running
                    .into_iter()
                    .map(|mut one| (server_work(&mut *one.session).has_ended(), one))
                    .partition(|(ended, _)| *ended)
            };
            let (ended, running): (Vec<(bool, RunningSession)>, Vec<_>) =
                MutexGuard::unlocked(&mut state, check);
            pause = if is_new || !ended.is_empty() { first } else { (pause * 2).min(longest) };
            for (_, one) in ended {
                self.add(&mut state, one.into_task(DisposalAction::Close));
            }
            for (_, one) in running {
                if one.ask.0 > Instant::now() || state.asking >= MAX_ASKING {
                    state.running.push(one);
                    continue;
                }
                state.asking += 1;
                let target = one.target.clone();
                self.add(&mut state, DisposalTask { work: DisposalAction::Ask(one), target, permit: None });
            }
            self.end_running(&mut state);
        }
        state.is_watched = false;
    }
}

impl RunningSession {
    /// What is to be done with it.
    fn into_task(self, action: fn(Box<dyn Session>) -> DisposalAction) -> DisposalTask {
        let RunningSession { session, target, permit, .. } = self;
        DisposalTask { work: action(session), target, permit }
    }

    /// Cancels once more and asks the server; the session, where it goes on, or may.
    fn ask_server(mut self) -> Option<RunningSession> {
        let canceller = self.session.canceller();
        // Whether it worked shows in the answer.
        let _ = canceller.cancel(Deadline::within(CANCEL_TIMEOUT));
        let has_ended = server_work(&mut *self.session).has_ended()
            || match canceller.has_ended(Deadline::within(CANCEL_TIMEOUT)) {
                Ok(Some(has_ended)) => has_ended,
                Ok(None) => self.since.elapsed() > GIVE_UP_AFTER,
                // A refused login is not repeated soon. A server that cannot be reached may go on.
                Err(error) => {
                    self.ask.1 = if error.reason() == Reason::Auth { GIVE_UP_AFTER } else { self.ask.1 };
                    false
                }
            };
        let (_, longest) = ASK_SERVER_PAUSES;
        self.ask = (Instant::now() + self.ask.1, (self.ask.1 * 2).min(longest));
        (!has_ended).then_some(self)
    }
}

/// What the session's server still does. A driver that panics cannot tell: the session is given up.
pub(super) fn server_work(session: &mut dyn Session) -> ServerWork {
    catch_unwind(AssertUnwindSafe(|| session.server_work())).unwrap_or(ServerWork::Disconnected)
}

impl DisposalTask {
    /// It asks no server.
    fn is_quick(&self) -> bool {
        matches!(self.work, DisposalAction::Discard { cancel: false, .. } | DisposalAction::Close(_))
    }

    fn server(&self) -> &str {
        self.target.as_ref().map_or("", |target| &target.server)
    }

    /// The session, where it goes on in the server.
    fn perform(self) -> Option<RunningSession> {
        let DisposalTask { work, target, permit } = self;
        let name = target.as_deref().map(|target| target.name.as_str());
        let log_failure = |error: Error| {
            let error = name.map_or(error.clone(), |target| error.on_target(target));
            // Where nobody listens, nothing runs.
            let level = if error.reason() == Reason::Connect { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "{error}; a statement may run on in the server");
        };
        let cancel = |canceller: Arc<dyn Canceller>| {
            canceller.cancel(Deadline::within(CANCEL_TIMEOUT)).unwrap_or_else(log_failure);
        };
        let session = match work {
            DisposalAction::Cancel(canceller) => {
                cancel(canceller);
                return None;
            }
            DisposalAction::Close(session) => {
                drop(session);
                return None;
            }
            DisposalAction::Ask(running) => return running.ask_server(),
            DisposalAction::Discard { mut session, cancel: is_wanted } => {
                // The answer may have come while the task was queued; and a cancel takes a connection more, for which a
                // pooler may have no place.
                if is_wanted && server_work(&mut *session) != ServerWork::Answered {
                    cancel(session.canceller());
                }
                session
            }
            DisposalAction::Terminate(session) => {
                session.canceller().terminate(Deadline::within(CANCEL_TIMEOUT)).unwrap_or_else(log_failure);
                // Nobody waits for the result.
                return None;
            }
        };
        let (since, pause) = (Instant::now(), ASK_SERVER_PAUSES.0);
        let mut running = RunningSession { session, target, permit, since, ask: (since + pause, pause) };
        if server_work(&mut *running.session).has_ended() { None } else { Some(running) }
    }
}
