//! One session: sends each query with its marker and hands the answer to the job's sink.
//!
//! Owns the life of a session, the second tries and the ways round a pooler. What is sent for one query is `send`'s,
//! what it asks for itself `talk`'s, the answer `reply`'s, bytes are `wire`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use postgres_protocol::message::frontend;

use crate::deadline::Deadline;
use crate::driver::{Canceller, Column, Facts, Health, Job, Rights, Session, Sql};
use crate::error::{Error, Reason, Result};

use super::marker;
use super::reply::{Left, Over, Reply, Transaction, Trouble, Wrong};
use super::rights;
use super::send::{Statement, Style, Way, queue};
use super::snapshot;
use super::talk::{Talk, Texts, failed, hushed};
use super::wire::Spans;

/// How long past its query's deadline a `ROLLBACK` may take.
const ROLLBACK_TIME: Duration = Duration::from_millis(20);

/// A live connection to PostgreSQL or to PgBouncer's console.
pub(super) struct PgSession {
    pub(super) talk: Talk,
    pub(super) style: Style,
    /// A pooler drops the startup options: the marker sets them.
    pooled: bool,
    pub(super) read_only: bool,
    pub(super) known: HashMap<String, Statement, RandomState>,
    pub(super) spans: Spans,
    /// The server has [`marker::ticks`] and they work; `None`: not tried yet.
    pub(super) ticks: Option<bool>,
    /// The answer to [`marker::state`] of a session that no query has changed. Not asked for behind a pooler.
    pub(super) home: Option<Vec<Texts>>,
    /// As configured: PgBouncer's console does not tell.
    pub(super) user: Option<String>,
    facts: Facts,
    canceller: Arc<dyn Canceller>,
    /// Queries run in one transaction, each from its savepoint.
    in_snapshot: bool,
    /// Tells the next sessions of a pooler that was found.
    pooler: Arc<AtomicBool>,
    /// Nothing is under way: the server may be told goodbye.
    idle: bool,
}

impl PgSession {
    /// A session that nothing was sent on yet.
    pub(super) fn new(
        talk: Talk,
        style: Style,
        read_only: bool,
        facts: Facts,
        canceller: Arc<dyn Canceller>,
        pooler: Arc<AtomicBool>,
    ) -> Self {
        PgSession {
            talk,
            style,
            pooled: style == Style::Unnamed,
            read_only,
            known: HashMap::default(),
            spans: Spans::default(),
            ticks: None,
            home: None,
            user: None,
            facts,
            canceller,
            in_snapshot: false,
            pooler,
            idle: true,
        }
    }

    /// Runs `session_sql`, learns whether the startup options hold, prepares the marker. `with_options`: the server
    /// accepted them.
    ///
    /// # Errors
    /// What the server says to `session_sql`; `timeout`, `lost`.
    pub(super) fn prepare(&mut self, session_sql: &[String], with_options: bool, by: Deadline) -> Result<()> {
        for (index, sql) in session_sql.iter().enumerate() {
            let done = self.talk.ask(sql, by);
            done.map_err(|trouble| hushed(failed(&format!("session_sql {}", index + 1), trouble)))?;
        }
        match self.style {
            Style::Console => return Ok(()),
            Style::Simple => {
                self.pooled = true;
                return Ok(());
            }
            Style::Unnamed => return Ok(()),
            Style::Named => {}
        }
        match self.prepare_marker(with_options, by) {
            Err(Trouble::Refused(error)) if error.is_of_a_pooler() => self.behind_pooler(),
            done => done.map_err(|trouble| failed("preparing the session", trouble))?,
        }
        Ok(())
    }

    fn prepare_marker(&mut self, with_options: bool, by: Deadline) -> Result<(), Trouble> {
        if !with_options {
            self.behind_pooler();
            return Ok(());
        }
        // A pooler may also accept the options and forget them.
        self.pooled = self.ask(&marker::check(), by)?.as_deref() != Some("t");
        self.talk.describe(marker::NAME, &marker::text(self.read_only, self.pooled, false), by)?;
        if !self.pooled {
            self.talk.describe(marker::STATE, &marker::state(), by)?;
            self.home = Some(self.state(by)?);
        }
        Ok(())
    }

    pub(super) fn behind_pooler(&mut self) {
        self.pooler.store(true, Ordering::Relaxed);
        self.style = Style::Unnamed;
        self.pooled = true;
        self.home = None;
        self.known.clear();
    }

    /// One value that the session itself wants to know.
    pub(super) fn ask(&mut self, sql: &str, by: Deadline) -> Result<Option<String>, Trouble> {
        Ok(self.talk.ask(sql, by)?.pop().and_then(|mut row| row.pop()).flatten())
    }

    /// Runs one job to its end; `None` when the session serves the next.
    pub(super) fn one(&mut self, job: &mut Job<'_>, by: Deadline) -> Option<Health> {
        let start = Instant::now();
        let by = by.min(Deadline::after(start, job.allowance));
        if let Err(error) = self.admit(job.sql) {
            job.sink.end(Err(error), Duration::ZERO);
            return None;
        }
        let mut tries = 0;
        let trouble = loop {
            if by.passed() {
                // Nothing was sent, or the server has answered: the session is as good as before.
                job.sink.end(Err(late(start)), start.elapsed());
                return None;
            }
            let refused = match self.attempt(job, by) {
                Ok(Over {
                    verdict: Err(Wrong::Server(error)),
                    begun: false,
                    left: Left::Nothing(ready),
                    at,
                    ..
                }) => {
                    if ready == Transaction::Open && !self.roll_back(by) {
                        let verdict = Err(Wrong::Server(error));
                        let over = Over { verdict, begun: false, at, took: None, left: Left::Unread };
                        return self.end(job, over, start, by);
                    }
                    (error, at)
                }
                Ok(over) => return self.end(job, over, start, by),
                // Within a snapshot even a statement that cannot be parsed ends the transaction's use.
                Err(Trouble::Refused(_)) if self.in_snapshot && !self.roll_back(by) => break Trouble::Late,
                Err(Trouble::Refused(error)) => (error, Instant::now()),
                Err(trouble) => break trouble,
            };
            let (error, at) = refused;
            if tries < 2 && self.adapt(job.sql, &error) {
                tries += 1;
                continue;
            }
            let left = Left::Nothing(Transaction::None);
            let over = Over { verdict: Err(Wrong::Server(error)), begun: false, at, took: None, left };
            return self.end(job, over, start, by);
        };
        match trouble {
            Trouble::Late | Trouble::Refused(_) => {
                job.sink.end(Err(late(start)), start.elapsed());
                Some(Health::Spent)
            }
            Trouble::Lost(error) => Some(Health::Lost(error)),
        }
    }

    /// Sends the query and reads its answer.
    fn attempt(&mut self, job: &mut Job<'_>, by: Deadline) -> Result<Over, Trouble> {
        let statement = match self.style {
            Style::Named => Some(self.learn(job.sql.name(), job.sql, by)?),
            Style::Unnamed => Some(self.learn("", job.sql, by)?),
            Style::Simple | Style::Console => None,
        };
        let sent = queue(self.way(), job.sql, statement.as_ref(), by.left(), &mut self.talk.link.out)?;
        self.talk.link.send(by)?;
        let mut reply = Reply::new(job, &self.talk.types, sent.shape, sent.before);
        let over = reply.read(&mut self.talk.link, &mut self.spans, by)?;
        let standby = reply.standby;
        self.hear(standby);
        Ok(over)
    }

    /// How its queries are sent.
    pub(super) fn way(&self) -> Way {
        let Self { style, read_only, pooled, in_snapshot, .. } = *self;
        Way { style, read_only, pooled, in_snapshot }
    }

    /// The server said that it was promoted.
    pub(super) fn hear(&mut self, standby: Option<bool>) {
        if let Some(standby) = standby {
            self.talk.standby = Some(standby);
            role(standby).clone_into(&mut self.facts.role);
        }
    }

    /// Leaves a transaction, or undoes what a query of a snapshot did; false when the session is of no more use. A
    /// query that used up its time leaves a little for this.
    pub(super) fn roll_back(&mut self, by: Deadline) -> bool {
        let statement = if self.in_snapshot { snapshot::UNDO } else { "ROLLBACK" };
        self.talk.ask(statement, by.max(Deadline::within(ROLLBACK_TIME))).is_ok()
    }

    /// The server's role, where it did not come by itself with an answer.
    fn ask_role(&mut self, by: Deadline) -> Result<(), Trouble> {
        if self.style == Style::Console {
            return self.talk.ask("SHOW VERSION", by).map(drop);
        }
        if self.home.is_some() && self.talk.standby.is_some() {
            self.talk.sync(by)?;
        } else {
            self.talk.standby = self.ask("SELECT pg_catalog.pg_is_in_recovery()", by)?.map(|yes| yes == "t");
        }
        Ok(())
    }

    /// The session after something small between batches; whatever fails there costs it.
    fn between(&mut self, what: &str, done: Result<(), Trouble>) -> Health {
        if let Err(trouble) = done {
            return Health::Lost(failed(what, trouble));
        }
        if let Some(standby) = self.talk.standby {
            role(standby).clone_into(&mut self.facts.role);
        }
        self.idle = true;
        Health::Clean
    }

    /// Tells the sink, and leaves a transaction that the query left open: no result is good before its end.
    fn end(&mut self, job: &mut Job<'_>, over: Over, start: Instant, by: Deadline) -> Option<Health> {
        let left = over.left;
        let good = tell(job, over, start, by);
        match left {
            Left::Unread => Some(Health::Spent),
            Left::Group => None,
            Left::Nothing(Transaction::None) => {
                (good && self.is_harmed(job.sql, by)).then_some(Health::Spent)
            }
            Left::Nothing(Transaction::Open) if self.style == Style::Console => None,
            Left::Nothing(Transaction::Open) => (!self.roll_back(by)).then_some(Health::Spent),
        }
    }

    /// One job after the other, each in round trips of its own.
    fn in_turn(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Option<Health> {
        let last = jobs.len().saturating_sub(1);
        for (index, job) in jobs.iter_mut().enumerate() {
            match self.one(job, by) {
                None => {}
                Some(Health::Spent) if index < last => return Some(forsaken()),
                health => return health,
            }
        }
        None
    }
}

/// Tells the sink what became of its job; true for a good one.
pub(super) fn tell(job: &mut Job<'_>, over: Over, start: Instant, by: Deadline) -> bool {
    let verdict = over.verdict.map_err(|wrong| match wrong {
        Wrong::Ours(error) => error,
        Wrong::Server(error) if error.is_statement_timeout() => late(start).with_sqlstate(error.code),
        Wrong::Server(error) if error.code == "57014" && by.passed() => late(start).with_sqlstate(error.code),
        Wrong::Server(error) => error.of_statement(job.sql.text()),
    });
    let good = verdict.is_ok();
    job.sink.end(verdict, over.took.unwrap_or_else(|| over.at.saturating_duration_since(start)));
    good
}

/// The session ended with the job before: the turn of its neighbours never came.
pub(super) fn forsaken() -> Health {
    Health::Lost(Error::new(Reason::Lost, "the session ended with the query before"))
}

impl Session for PgSession {
    fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        self.idle = false;
        let together = jobs.len() > 1 && self.style == Style::Named && !self.in_snapshot;
        let ended = if together { self.together(jobs, by) } else { self.in_turn(jobs, by) };
        if let Some(health) = ended {
            return health;
        }
        self.idle = true;
        self.talk.link.rest();
        Health::Clean
    }

    fn ping(&mut self, by: Deadline) -> Health {
        self.idle = false;
        let answer = match self.style {
            Style::Named | Style::Unnamed => self.talk.sync(by),
            Style::Simple => self.talk.ask("", by).map(drop),
            Style::Console => self.talk.ask("SHOW VERSION", by).map(drop),
        };
        self.between("ping", answer)
    }

    fn refresh(&mut self, by: Deadline) -> Health {
        self.idle = false;
        let asked = self.ask_role(by);
        self.between("the question for its role", asked)
    }

    fn describe(&mut self, sql: &Sql, by: Deadline) -> Result<Option<Vec<Column>>> {
        if self.style == Style::Console {
            return Ok(None);
        }
        self.idle = false;
        self.admit(sql)?;
        // Without a name, so that nothing of it stays.
        match self.talk.describe_query("", sql, by) {
            Ok(shape) => {
                self.idle = true;
                Ok(Some(shape.columns))
            }
            Err(Trouble::Refused(error)) => {
                self.idle = true;
                Err(error.of_statement(sql.text()))
            }
            Err(trouble) => Err(failed("describing the statement", trouble)),
        }
    }

    fn rights(&mut self, by: Deadline) -> Result<Rights> {
        self.idle = false;
        let asked = match self.style {
            Style::Console => rights::ask_console(&mut self.talk, self.user.as_deref(), by),
            _ => rights::ask(&mut self.talk, by),
        };
        self.idle = matches!(asked, Ok(_) | Err(Trouble::Refused(_)));
        asked.map_err(|trouble| failed("the question for its rights", trouble))
    }

    fn snapshot(&mut self, open: bool, by: Deadline) -> Health {
        self.idle = false;
        let asked = self.talk.ask(if open { snapshot::OPEN } else { "ROLLBACK" }, by).map(drop);
        self.in_snapshot = open;
        // What a function set for the whole session went with its savepoint; an advisory lock did not.
        let harmed = !open && asked.is_ok() && self.home.is_some() && self.state(by).ok() != self.home;
        match self.between("the snapshot's transaction", asked) {
            Health::Clean if harmed => Health::Spent,
            health => health,
        }
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::clone(&self.canceller)
    }
}

impl Drop for PgSession {
    /// Says goodbye to a server that waits for us, so that neither it nor a pooler logs a broken connection. Five
    /// bytes into an empty socket do not block; the deadline is for the case that they would.
    fn drop(&mut self) {
        if self.idle {
            frontend::terminate(&mut self.talk.link.out);
            let _ = self.talk.link.send(Deadline::within(Duration::from_millis(5)));
        }
    }
}

/// The role as `target_info` has it.
pub(super) fn role(standby: bool) -> &'static str {
    if standby { "replica" } else { "primary" }
}

pub(super) fn late(start: Instant) -> Error {
    Error::new(
        Reason::Timeout,
        format!("not finished after {:.1?}: stopped at its deadline", start.elapsed()),
    )
}
