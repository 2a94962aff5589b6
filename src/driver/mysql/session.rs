//! One connection as the rest of the exporter sees it. What runs on it is `pipeline`'s; here is what a session is worth
//! afterwards, and what is asked of it between batches.

use std::sync::Arc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::driver::sql_position::with_position;
use crate::driver::{Canceller, Column, Health, Job, Privileges, ServerFacts, Session, Sql};
use crate::error::{Error, Reason, Result};

use super::cancel::Kill;
use super::errors::{Fault, is_text_only};
use super::login::{Entered, Route, Server};
use super::packet::Form;
use super::pipeline::{Jobs, Pipeline};
use super::privileges;
use super::reply::After;
use super::server_info::Learned;
use super::talk::{Talk, Trouble};
use super::values::Columns;

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// A live connection.
pub(super) struct MySqlSession {
    pipeline: Pipeline,
    server: Arc<Server>,
    route: Route,
    /// The number of the server's thread.
    thread: u32,
    /// What the server sends is not the answer to what is asked next.
    broken: bool,
}

impl MySqlSession {
    /// Logs in, runs `session_sql`, learns the facts.
    pub(super) fn open(server: &Arc<Server>, by: Deadline) -> Result<Self> {
        let by = by.or_within(server.login.connect_timeout);
        let Entered { link, route, tls, thread, version, tracks } = server.enter(by)?;
        let mut talk = Talk::new(link, tracks);
        match Learned::set_up(&mut talk, &server.login, &version, tls, by) {
            Ok(learned) => {
                // The login's ends here; from now on each question has its own.
                talk.link.stream.set_budget(None);
                Ok(MySqlSession {
                    pipeline: Pipeline::new(talk, learned, server),
                    server: Arc::clone(server),
                    route,
                    thread,
                    broken: false,
                })
            }
            Err(fault) => {
                if !fault.broken {
                    talk.quit(by.or_within(GOODBYE));
                }
                Err(fault.at_login())
            }
        }
    }

    /// Does something small between batches; whatever fails costs the session.
    fn between(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Talk, &mut Learned) -> Result<(), Fault>,
    ) -> Health {
        let Err(fault) = act(&mut self.pipeline.talk, &mut self.pipeline.learned) else {
            self.pipeline.talk.link.rest();
            return Health::Clean;
        };
        self.give_up();
        Health::Lost(match fault.error.reason() {
            Reason::Timeout => {
                Error::new(Reason::Timeout, format!("the server did not answer {what} in time"))
            }
            _ => fault.error,
        })
    }

    fn give_up(&mut self) {
        self.broken = true;
        self.pipeline.talk.link.stream.give_up();
    }
}

impl Session for MySqlSession {
    fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        let mut left: Jobs<'_, '_> = jobs.iter_mut().filter_map(|job| self.pipeline.admitted(job)).collect();
        let mut spent = false;
        while !left.is_empty() {
            match self.pipeline.next_jobs(&mut left, by) {
                After::Clean => {}
                After::Spent => spent = true,
                After::Broken(error) => {
                    self.give_up();
                    return Health::Lost(error);
                }
                After::Cut => {
                    self.give_up();
                    if left.is_empty() {
                        return Health::Spent;
                    }
                    let why = "the connection was given up to end the query before";
                    return Health::Lost(Error::new(Reason::Lost, why));
                }
            }
        }
        self.pipeline.talk.link.rest();
        if spent { Health::Spent } else { Health::Clean }
    }

    fn prepare(&mut self, statements: &[&Sql], by: Deadline) -> Health {
        let statements: Vec<&Sql> =
            statements.iter().copied().filter(|sql| self.pipeline.check(sql.text()).is_ok()).collect();
        match self.pipeline.learn(&statements, by) {
            Ok(()) => Health::Clean,
            Err((_, fault)) => {
                self.give_up();
                Health::Lost(fault.error)
            }
        }
    }

    fn ping(&mut self, by: Deadline) -> Health {
        self.between("a ping", |talk, _| {
            talk.queue_ping();
            Ok(talk.read_done(by)?)
        })
    }

    fn refresh(&mut self, by: Deadline) -> Health {
        self.between("the question for its role", |talk, learned| learned.ask_role(talk, by))
    }

    fn describe(&mut self, sql: &Sql, by: Deadline) -> Result<Option<Vec<Column>>> {
        self.pipeline.check(sql.text())?;
        let answer = match self.pipeline.prepare_all(&[sql], by, |prepared, columns| (prepared, columns)) {
            Ok(mut answers) => answers.pop(),
            Err((_, fault)) => {
                self.give_up();
                return Err(match fault.error.reason() {
                    Reason::Timeout => {
                        Error::new(Reason::Timeout, "the server did not describe the statement in time")
                    }
                    _ => fault.error,
                });
            }
        };
        match answer {
            Some(Ok((prepared, columns))) => {
                self.pipeline.talk.queue_close(prepared.id);
                if prepared.params > 0 {
                    let error =
                        Error::new(Reason::Sql, "the statement has a parameter `?`, and nothing fills it");
                    return Err(error);
                }
                // CALL and many a SHOW tell their columns only when they run.
                let columns = Columns::of(columns, Form::Binary, &self.pipeline.learned.zone).shown;
                Ok(Some(columns).filter(|columns| !columns.is_empty()))
            }
            Some(Err(error)) if !is_text_only(&error) => {
                Err(with_position(Fault::from(&error).error, sql.text()))
            }
            // It runs as text only.
            _ => Ok(None),
        }
    }

    fn privileges(&mut self, by: Deadline) -> Result<Privileges> {
        let mut told = Ok(Privileges::default());
        let health = self.between("the question for its rights", |talk, learned| {
            learned.queue_limits(talk, by);
            match privileges::ask(talk, learned.reads_binlog(), by) {
                Ok(rights) => told = Ok(rights),
                // The server refuses the question; the connection goes on.
                Err(Trouble::Refused(error)) => told = Err(Fault::from(&error).error),
                Err(Trouble::Broken(fault)) => return Err(fault),
            }
            Ok(())
        });
        if let Health::Lost(error) = health { Err(error) } else { told }
    }

    fn snapshot(&mut self, open: bool, by: Deadline) -> Health {
        const OPEN: &[&str] = &[
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ];
        self.pipeline.in_snapshot = open;
        let statements = if open { OPEN } else { &["ROLLBACK"] };
        let health = self.between("the snapshot's statements", |talk, _| {
            statements.iter().for_each(|sql| talk.queue_query(sql));
            statements.iter().try_for_each(|_| Ok(talk.read_done(by)?))
        });
        // A reset would have ended the transaction.
        if open || !matches!(health, Health::Clean) || self.pipeline.is_as_before() {
            return health;
        }
        self.give_up();
        Health::Lost(Error::new(Reason::Lost, "the session could not be made what it was"))
    }

    fn facts(&self) -> &ServerFacts {
        &self.pipeline.learned.facts
    }

    fn round_trip_time(&self) -> Duration {
        self.pipeline.talk.link.round_trip()
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::new(Kill { server: Arc::clone(&self.server), route: self.route.clone(), thread: self.thread })
    }

    /// A server that still works on something has not closed its side: whatever it answers to a KILL, and whether the KILL
    /// got there. What stands behind the statement that was ended runs, each in its limit; then the server reads the end.
    fn has_ended(&mut self) -> bool {
        if !self.broken && self.pipeline.talk.link.is_answered() {
            return true;
        }
        self.give_up();
        self.pipeline.talk.link.stream.has_ended()
    }
}

impl Drop for MySqlSession {
    fn drop(&mut self) {
        if !self.broken {
            self.pipeline.talk.quit(Deadline::within(GOODBYE));
        }
    }
}
