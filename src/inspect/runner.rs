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
use crate::config::database::Database;
use crate::deadline::Deadline;
use crate::driver::answer::AnswerSink;
use crate::driver::{
    Canceller, Column, Health, Job, Parameter, Privileges, RelationName, RowSink, ServerFacts, Session, Sql,
};
use crate::engine::backoff::LoginBackoff;
use crate::engine::conditions::{WhenAnswer, decide};
use crate::engine::disposal::Disposal;
use crate::engine::pool::{LeasedSession, Notes, SessionCondition};
use crate::engine::question::NoAnswer;
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
        target: &Database,
        by: Deadline,
        work: impl FnOnce(&mut OpenSession) -> T,
    ) -> Result<T> {
        let RunnerState { disposal, logins, cancellers, .. } = &*self.0;
        let endpoint = target.endpoint.as_ref();
        let endpoint = endpoint.ok_or_else(|| Error::new(Reason::Connect, "its driver is not built in"))?;
        let session = logins.connect(&**endpoint, &target.name, by)?;
        let canceller = session.canceller();
        cancellers.lock().push(Arc::clone(&canceller));
        let (relations, notes) = (target.relations(), Notes::default());
        let mut session =
            OpenSession { session, by, relations, notes, role_is_known: false, is_usable: true };
        let result = work(&mut session);
        cancellers.lock().retain(|known| !Arc::ptr_eq(known, &canceller));
        disposal.discard(session.session, !session.is_usable);
        Ok(result)
    }

    /// The same on many targets at once, in order, with the time that each took. A target whose work does not return soon
    /// after `by` is left alone. `progress` is called with the number of targets done. Where the system gives no thread, the
    /// work fails, or is done on this one.
    pub fn on_each_target<T: Send + 'static>(
        &self,
        targets: &[Arc<Database>],
        by: Deadline,
        without_threads: WithoutThreads,
        progress: impl Fn(usize),
        work: impl Fn(&Database, &mut OpenSession) -> T + Send + Sync + 'static,
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
        target: &Database,
        by: Deadline,
        work: &impl Fn(&Database, &mut OpenSession) -> T,
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
    #[must_use]
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
    session: Box<dyn Session>,
    by: Deadline,
    /// Those of the target's conditions.
    relations: Vec<RelationName>,
    notes: Notes,
    role_is_known: bool,
    is_usable: bool,
}

impl OpenSession {
    /// What the server says about itself.
    #[must_use]
    pub fn facts(&self) -> &ServerFacts {
        self.session.facts()
    }

    /// Whether another statement can run on it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.is_usable && !self.by.passed()
    }

    /// Asks the server for its role, once.
    ///
    /// # Errors
    /// The session died.
    pub fn refresh_role(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.role_is_known, true) {
            return Ok(());
        }
        let health = self.session.refresh(self.by);
        self.check(health)
    }

    /// What the user may do beyond reading.
    ///
    /// # Errors
    /// The server refuses to say, or the session died.
    pub fn privileges(&mut self) -> Result<Privileges> {
        let privileges = self.session.privileges(self.by);
        self.check_error(privileges)
    }

    /// The columns of a statement with so many parameters, which is not run; `None` where the server does not tell them.
    ///
    /// # Errors
    /// The server refuses the statement, or the session died.
    pub fn describe(&mut self, sql: &Sql, parameters: usize) -> Result<Option<Vec<Column>>> {
        let columns = self.session.describe(sql, parameters, self.by);
        self.check_error(columns)
    }

    /// Opens or closes a snapshot.
    ///
    /// # Errors
    /// The session died.
    pub fn snapshot(&mut self, open: bool) -> Result<()> {
        let health = self.session.snapshot(open, self.by);
        self.check(health)
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
        let health =
            self.session.run(&mut [Job { sql, parameters, allowance, max_cell_bytes, sink }], self.by);
        self.check(health)
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
        mut sink: AnswerSink<A>,
    ) -> Result<A> {
        let ended = self.run(sql, &[], timeout, max_cell_bytes, &mut sink);
        let lost = || Err(Error::new(Reason::Lost, "the session left the statement without an end"));
        match (sink.answer(), ended) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (answer, Ok(())) => answer.unwrap_or_else(lost),
        }
    }

    /// The condition of `when` that keeps a query from running here, if there is one.
    ///
    /// # Errors
    /// A question fails, or the session died.
    pub fn unmet_condition(&mut self, when: &When) -> Result<Option<SkipCause>> {
        if when.role.is_some() {
            self.refresh_role()?;
        }
        let OpenSession { session, by, relations, notes, .. } = self;
        // Those of a disabled query are not among the target's.
        let relations = || {
            let more = when.relations.iter().filter(|name| !relations.contains(name));
            relations.iter().chain(more).cloned().collect()
        };
        let mut condition = SessionCondition::Clean;
        let mut live = LeasedSession::unpooled(session, notes, &mut condition);
        match decide(&mut live, when, relations, *by) {
            Ok(WhenAnswer { applies, .. }) => Ok(applies.err()),
            Err(NoAnswer { error, health }) => {
                let checked = self.check(health);
                // The statement's own error tells more.
                error.map_or(checked.map(|()| None), Err)
            }
        }
    }

    fn check(&mut self, health: Health) -> Result<()> {
        let usable = health.usable();
        self.is_usable &= usable.is_ok();
        usable
    }

    /// After some errors the session is of no more use.
    fn check_error<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && matches!(error.reason(), Reason::Timeout | Reason::Lost | Reason::Cancelled | Reason::Protocol)
        {
            self.is_usable = false;
        }
        result
    }
}
