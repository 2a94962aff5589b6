//! One open session, which knows whether it can be used again, and what its users noted about it.
//!
//! It is *dirty* from before each call until that came back clean: also after a panic. Knows no pool, no query and no retry rule.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::driver::server_objects::ServerObjects;
use crate::driver::{Column, Health, Job, Privileges, Session, Sql};
use crate::error::{Error, Reason, Result};

/// What its users noted about one session. The notes end with the session.
#[derive(Default)]
pub struct Notes {
    /// Yes or no, by name.
    answers: HashMap<String, (bool, Instant)>,
    objects: Option<(ServerObjects, Instant)>,
    /// When it was last asked for its server's role.
    pub role_asked: Option<Instant>,
}

impl Notes {
    /// What was noted under `name` no longer than `age` ago.
    pub fn get(&self, name: &str, age: Duration) -> Option<bool> {
        self.answers.get(name).filter(|(_, since)| since.elapsed() <= age).map(|(answer, _)| *answer)
    }

    /// Notes an answer.
    pub fn set(&mut self, name: &str, answer: bool) {
        self.answers.insert(name.to_owned(), (answer, Instant::now()));
    }

    /// What the server was noted to have no longer than `age` ago.
    pub fn objects(&self, age: Duration) -> Option<&ServerObjects> {
        self.objects.as_ref().filter(|(_, since)| since.elapsed() <= age).map(|(objects, _)| objects)
    }

    /// Notes what the server has.
    pub fn set_objects(&mut self, objects: ServerObjects) {
        self.objects = Some((objects, Instant::now()));
    }
}

/// What a session may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionCondition {
    /// Anything.
    Clean,
    /// Nothing: it may still run a statement, and is cancelled before it is closed.
    Dirty,
    /// Nothing: a cancel is on its way to it.
    Stopped,
}

/// An open session that knows whether it can be used again: not after a call that did not end `Clean`, or panicked.
pub struct GuardedSession {
    session: Box<dyn Session>,
    condition: SessionCondition,
    /// What was noted about it.
    pub notes: Notes,
}

/// What only looks at the session needs no guard.
impl std::ops::Deref for GuardedSession {
    type Target = dyn Session;

    fn deref(&self) -> &Self::Target {
        &*self.session
    }
}

impl GuardedSession {
    /// A session that has just been opened.
    pub fn new(session: Box<dyn Session>) -> Self {
        GuardedSession { session, condition: SessionCondition::Clean, notes: Notes::default() }
    }

    /// True where it can be used again. If not, its pool opens a fresh one.
    pub fn is_clean(&self) -> bool {
        self.condition == SessionCondition::Clean
    }

    /// True where it may still run a statement, and nobody cancels it yet.
    pub fn is_dirty(&self) -> bool {
        self.condition == SessionCondition::Dirty
    }

    /// The session, which nobody guards any more.
    pub fn into_inner(self) -> Box<dyn Session> {
        self.session
    }

    /// [`Session::run`].
    pub fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        self.guarded(|session| session.run(jobs, by))
    }

    /// [`Session::prepare`].
    pub fn prepare(&mut self, statements: &[&Sql], by: Deadline) -> Health {
        self.guarded(|session| session.prepare(statements, by))
    }

    /// [`Session::ping`].
    pub fn ping(&mut self, by: Deadline) -> Health {
        self.guarded(|session| session.ping(by))
    }

    /// Somebody has taken its canceller and stops it, at a moment that nobody knows: it is not used again.
    pub fn note_stop(&mut self) {
        self.condition = SessionCondition::Stopped;
    }

    /// [`Session::refresh`].
    pub fn refresh(&mut self, by: Deadline) -> Health {
        self.guarded(|session| session.refresh(by))
    }

    /// [`Session::snapshot`]. An open one leaves the session dirty until it is closed.
    pub fn snapshot(&mut self, open: bool, by: Deadline) -> Health {
        let health = self.guarded(|session| session.snapshot(open, by));
        if open {
            self.condition = SessionCondition::Dirty;
        }
        health
    }

    /// [`Session::describe`].
    ///
    /// # Errors
    /// As there.
    pub fn describe(&mut self, sql: &Sql, parameters: usize, by: Deadline) -> Result<Option<Vec<Column>>> {
        self.asking(|session| session.describe(sql, parameters, by))
    }

    /// [`Session::privileges`].
    ///
    /// # Errors
    /// As there.
    pub fn privileges(&mut self, by: Deadline) -> Result<Privileges> {
        self.asking(|session| session.privileges(by))
    }

    fn guarded(&mut self, work: impl FnOnce(&mut dyn Session) -> Health) -> Health {
        self.condition = SessionCondition::Dirty;
        let health = work(&mut *self.session);
        if let Health::Clean = health {
            self.condition = SessionCondition::Clean;
        }
        health
    }

    fn asking<T>(&mut self, ask: impl FnOnce(&mut dyn Session) -> Result<T>) -> Result<T> {
        let before = std::mem::replace(&mut self.condition, SessionCondition::Dirty);
        let answer = ask(&mut *self.session);
        // After other errors the session can be used as before.
        let is_over =
            |reason| matches!(reason, Reason::Timeout | Reason::Lost | Reason::Cancelled | Reason::Protocol);
        if !answer.as_ref().is_err_and(|error| is_over(error.reason())) {
            self.condition = before;
        }
        answer
    }
}

/// Does `work` with a driver.
///
/// # Errors
/// `panic`: for one in the driver, or in who receives its rows.
pub(super) fn catching_panics<T>(work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text =
            text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        Error::new(Reason::Panic, format!("a bug in sql-exporter, please report it: {text}"))
    })
}
