//! Work on sessions of targets outside of a scrape: connects, decides `when`, runs statements, closes.
//!
//! `test`, `check --connect` and `try` share it. It knows nothing of what they report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::conditions::When;
use crate::config::target::TargetConfig;
use crate::deadline::Deadline;
use crate::driver::answer::AnswerSink;
use crate::driver::{Canceller, Column, Job, Parameter, Privileges, RelationName, RowSink, ServerFacts, Sql};
use crate::engine::backoff::LoginBackoff;
use crate::engine::conditions::decide;
use crate::engine::disposal::Disposal;
use crate::engine::guarded_session::GuardedSession;
use crate::engine::question::{NoAnswer, ask};
use crate::engine::run::SkipCause;
use crate::engine::workers::{Priority, Workers};
use crate::error::{Error, Reason, Result};

/// Targets at once; the others wait.
const MAX_PARALLEL: usize = 64;
/// How long after the deadline the results of work that keeps to it are awaited.
const GRACE: Duration = Duration::from_millis(250);
/// How long sessions have to be cancelled and closed at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What happens where the system gives no thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutThreads {
    /// The work of that target fails.
    Fail,
    /// The work is done on the calling thread.
    RunHere,
}

/// Connects and runs. Clones share everything.
#[derive(Clone, Default)]
pub struct Runner(Arc<RunnerState>);

#[derive(Default)]
struct RunnerState {
    disposal: Disposal,
    logins: LoginBackoff,
    /// Of the sessions in use.
    cancellers: Mutex<Vec<Arc<dyn Canceller>>>,
    is_stopped: AtomicBool,
}

impl Runner {
    /// Connects to one target and calls `work` with the session, which is cancelled if it may still run a statement, and
    /// closed. Blocks until `by`, and for as long as `work` ignores it.
    ///
    /// # Errors
    /// There is no session.
    pub fn on_target<T>(
        &self,
        target: &TargetConfig,
        by: Deadline,
        work: impl FnOnce(&mut OpenSession) -> T,
    ) -> Result<T> {
        let RunnerState { disposal, logins, cancellers, .. } = &*self.0;
        let endpoint = target.endpoint.as_ref();
        let endpoint = endpoint.ok_or_else(|| Error::new(Reason::Connect, "its driver is not built in"))?;
        let session = logins.connect(&**endpoint, &target.name, by)?;
        let canceller = session.canceller();
        cancellers.lock().push(Arc::clone(&canceller));
        let (live, relations) = (GuardedSession::new(session), target.relations());
        let mut session = OpenSession { live, by, relations, role_is_known: false };
        let result = work(&mut session);
        cancellers.lock().retain(|known| !Arc::ptr_eq(known, &canceller));
        let is_dirty = !session.live.is_clean();
        disposal.discard(session.live.into_inner(), is_dirty);
        Ok(result)
    }

    /// The same on many targets at once, in order, with the time that each took. A target whose work does not return soon
    /// after `by` is left alone. `progress` is called with the number of targets done. Where the system gives no thread, the
    /// work fails, or is done on this one.
    pub fn on_each_target<T: Send + 'static>(
        &self,
        targets: &[Arc<TargetConfig>],
        by: Deadline,
        without_threads: WithoutThreads,
        progress: impl Fn(usize),
        work: impl Fn(&TargetConfig, &mut OpenSession) -> T + Send + Sync + 'static,
    ) -> Vec<(Result<T>, Duration)> {
        let start = Instant::now();
        let workers = Workers::new(MAX_PARALLEL);
        let (sender, receiver) = mpsc::channel();
        let work = Arc::new(work);
        let mut results: Vec<Option<(Result<T>, Duration)>> = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let (runner, here, work, sender) =
                (self.clone(), Arc::clone(&work), Arc::clone(&work), sender.clone());
            let own_target = Arc::clone(target);
            let task = move || {
                // Nobody waits for it after the deadline.
                let _ = sender.send((index, runner.guarded(&own_target, by, &*work)));
            };
            let refused = workers.start(Priority::Normal, by, task).err();
            results.push(refused.map(|error| match without_threads {
                WithoutThreads::Fail => (Err(error), Duration::ZERO),
                WithoutThreads::RunHere => self.guarded(target, by, &*here),
            }));
        }
        progress(0);
        let end = Deadline::after(by.moment(), GRACE);
        while results.iter().any(Option::is_none) {
            let Ok((index, result)) = receiver.recv_timeout(end.left()) else { break };
            if let Some(slot) = results.get_mut(index) {
                *slot = Some(result);
            }
            progress(results.iter().flatten().count());
        }
        self.close();
        let late = || (Err(Error::new(Reason::Timeout, "nothing by the deadline")), start.elapsed());
        results.into_iter().map(|result| result.unwrap_or_else(late)).collect()
    }

    /// The result of the work on one target, whatever happens, and how long it took.
    fn guarded<T>(
        &self,
        target: &TargetConfig,
        by: Deadline,
        work: &impl Fn(&TargetConfig, &mut OpenSession) -> T,
    ) -> (Result<T>, Duration) {
        let start = Instant::now();
        if by.passed() {
            let late = Error::new(Reason::Timeout, "its turn did not come before the deadline");
            return (Err(late), Duration::ZERO);
        }
        let done =
            catch_unwind(AssertUnwindSafe(|| self.on_target(target, by, |session| work(target, session))));
        let panicked = |_| Err(Error::new(Reason::Panic, "the driver panicked"));
        (done.unwrap_or_else(panicked), start.elapsed())
    }

    /// Cancels in the servers what runs there, for a signal. Blocks for a moment at most.
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Release);
        let running = std::mem::take(&mut *self.0.cancellers.lock());
        running.into_iter().for_each(|canceller| self.0.disposal.cancel(canceller));
        self.close();
    }

    /// Whether [`Runner::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::Acquire)
    }

    /// Waits until the sessions are cancelled and closed, for a moment at most. The others end with the process.
    pub fn close(&self) {
        if !self.0.disposal.settle(Deadline::within(CLOSE_TIMEOUT)) {
            log::warn!("a statement may still run in a server: its cancel did not arrive in time");
        }
    }
}

/// A session with the deadline of everything that is done on it.
pub struct OpenSession {
    live: GuardedSession,
    by: Deadline,
    /// Those of the target's conditions.
    relations: Vec<RelationName>,
    role_is_known: bool,
}

impl OpenSession {
    /// What the server says about itself.
    pub fn facts(&self) -> &ServerFacts {
        self.live.facts()
    }

    /// Whether another statement can run on it.
    pub fn is_usable(&self) -> bool {
        self.live.is_clean() && !self.by.passed()
    }

    /// Asks the server for its role, once.
    ///
    /// # Errors
    /// The session died.
    pub fn refresh_role(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.role_is_known, true) {
            return Ok(());
        }
        self.live.refresh(self.by).usable()
    }

    /// What the user may do beyond reading.
    ///
    /// # Errors
    /// The server refuses to say, or the session died.
    pub fn privileges(&mut self) -> Result<Privileges> {
        self.live.privileges(self.by)
    }

    /// The columns of a statement with so many parameters, which is not run; `None` where the server does not tell them.
    ///
    /// # Errors
    /// The server refuses the statement, or the session died.
    pub fn describe(&mut self, sql: &Sql, parameters: usize) -> Result<Option<Vec<Column>>> {
        self.live.describe(sql, parameters, self.by)
    }

    /// Opens or closes a snapshot.
    ///
    /// # Errors
    /// The session died.
    pub fn snapshot(&mut self, open: bool) -> Result<()> {
        self.live.snapshot(open, self.by).usable()
    }

    /// Runs a statement with values for its parameters into a sink, which gets the statement's own error.
    ///
    /// # Errors
    /// The session is of no more use.
    pub fn run(
        &mut self,
        sql: &Sql,
        parameters: &[Parameter],
        timeout: Option<Duration>,
        max_cell_bytes: usize,
        sink: &mut dyn RowSink,
    ) -> Result<()> {
        let allowance = timeout.unwrap_or(Duration::MAX).min(self.by.left());
        self.live.run(&mut [Job { sql, parameters, allowance, max_cell_bytes, sink }], self.by).usable()
    }

    /// The answer of a statement.
    ///
    /// # Errors
    /// The statement's own error, or that of the session: [`OpenSession::is_usable`] tells whether it is of any use.
    pub fn ask<A>(
        &mut self,
        sql: &Sql,
        timeout: Option<Duration>,
        max_cell_bytes: usize,
        sink: AnswerSink<A>,
    ) -> Result<A> {
        ask(&mut self.live, sql, sink, max_cell_bytes, timeout, self.by).map_err(NoAnswer::into_error)
    }

    /// The condition of `when` that keeps a query from running here, if there is one.
    ///
    /// # Errors
    /// A question fails, or the session died.
    pub fn unmet_condition(&mut self, when: &When) -> Result<Option<SkipCause>> {
        if when.role.is_some() {
            self.refresh_role()?;
        }
        // Those of a disabled query are not among the target's.
        let relations = || {
            let more = when.relations.iter().filter(|name| !self.relations.contains(name));
            self.relations.iter().chain(more).cloned().collect()
        };
        let answer = decide(&mut self.live, when, relations, self.by).map_err(NoAnswer::into_error)?;
        Ok(answer.applies.err())
    }
}
