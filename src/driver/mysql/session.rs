//! One connection that runs jobs: limits set, statement prepared once, rows streamed as they come. Known quick ones go
//! out together (`group`).
//!
//! Before each statement one message sets the server's own deadline and read-only mode again, whatever the last one
//! did to them (a stored function may). The server's deadline strikes first and leaves the connection usable; the
//! watchdog strikes [`GRACE`] later, when the server does not.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Binary, Conn, QueryResult};

use crate::deadline::Deadline;
use crate::driver::spot::placed;
use crate::driver::statement::{Dialect, check_read_only, has_second_statement};
use crate::driver::{Canceller, Column, Facts, Health, Job, Rights, RowSink, Session, Sql};
use crate::error::{Error, Reason, Result};

use super::errors::{Fault, is_stale, wants_text};
use super::known::Known;
use super::learned::{Learned, leaves_something};
use super::login::{STATEMENTS, Server};
use super::reply::{After, GRACE, Streamed, pump, tell};
use super::rights;
use super::time_zone::SessionZone;
use super::values::Columns;
use super::watchdog;

/// How long a session may take to forget what a query left behind.
const FORGETTING: Duration = Duration::from_secs(1);

/// A live connection.
pub(super) struct MySqlSession {
    pub(super) conn: Conn,
    pub(super) server: Arc<Server>,
    pub(super) learned: Learned,
    pub(super) known: Known,
    /// One transaction is around what runs.
    in_snapshot: bool,
    /// The connection was cut or broke: it is dropped without farewell. Its canceller knows as well.
    broken: Arc<AtomicBool>,
}

impl MySqlSession {
    /// Logs in, runs `session_sql`, learns the facts.
    pub(super) fn open(server: &Arc<Server>, by: Deadline) -> Result<Self> {
        let login = Arc::clone(server);
        server.with_connection(by, move |mut conn, tls| {
            let learned = Learned::set_up(&mut conn, &login.login.session_sql, tls)?;
            let known = Known::new(STATEMENTS);
            Ok(MySqlSession {
                conn,
                server: login,
                learned,
                known,
                in_snapshot: false,
                broken: Arc::default(),
            })
        })
    }

    /// Runs one job to its end, or until the connection breaks under it.
    pub(super) fn job(&mut self, job: &mut Job<'_>, by: Deadline) -> After {
        let start = Instant::now();
        let by = by.min(Deadline::after(start, job.allowance));
        let ready = self.check(job.sql.text(), by);
        let cut_at = Deadline::after(by.moment(), GRACE);
        let watch = match ready.and_then(|()| watchdog::arm(self.conn.as_raw_fd(), cut_at)) {
            Ok(watch) => watch,
            Err(error) => {
                job.sink.end(Err(error), start.elapsed());
                return After::Clean;
            }
        };
        let done = self.statement(job, by);
        let struck = watch.struck();
        drop(watch);
        let after = tell(&mut self.known, job, done, (start, by), struck);
        match after {
            After::Clean | After::Spent if leaves_something(job.sql.text()) && !self.forget() => After::Cut,
            after => after,
        }
    }

    /// Makes the session what it was after its login; false when that failed, and the connection is no more.
    fn forget(&mut self) -> bool {
        let socket = self.conn.as_raw_fd();
        let done = watchdog::arm(socket, Deadline::within(FORGETTING)).is_ok_and(|watch| {
            let reset = self.conn.reset().is_ok();
            self.known.forget_names();
            let session_sql = &self.server.login.session_sql;
            let prepared = reset && Learned::prepare(&mut self.conn, session_sql).is_ok();
            prepared && self.learned.ask_zone(&mut self.conn).is_ok() && !watch.struck()
        });
        self.broken.fetch_or(!done, Ordering::Relaxed);
        done
    }

    /// What keeps a statement from being sent: no time left, or the first-keyword check of a read-only target.
    fn check(&self, sql: &str, by: Deadline) -> Result<()> {
        if by.passed() {
            return Err(Error::new(Reason::Timeout, "no time was left to start"));
        }
        if !self.server.login.read_only {
            return Ok(());
        }
        if self.learned.other_strings && sql.contains('\\') {
            let message =
                "sql_mode holds NO_BACKSLASH_ESCAPES or ANSI_QUOTES: what a backslash means is not known";
            return Err(
                Error::new(Reason::ReadOnly, message).with_hint("write the statement without backslashes")
            );
        }
        check_read_only(sql, Dialect::MySql)
    }

    fn statement(&mut self, job: &mut Job<'_>, by: Deadline) -> Result<Streamed, Fault> {
        let socket = self.conn.as_raw_fd();
        self.conn.query_drop(self.learned.limits(by, self.server.login.read_only))?;
        let sql = job.sql.text();
        let prepared = match self.conn.prep(sql) {
            Ok(prepared) => match self.conn.exec_iter(&prepared, ()) {
                Ok(result) => return binary(result, &self.learned.zone, job.sink, socket),
                Err(error) if is_stale(&error) => Some(prepared),
                Err(error) if wants_text(&error) => None,
                Err(error) => return Err(error.into()),
            },
            Err(error) if wants_text(&error) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(stale) = prepared {
            self.conn.close(stale)?;
            let prepared = self.conn.prep(sql)?;
            let result = self.conn.exec_iter(&prepared, ())?;
            return binary(result, &self.learned.zone, job.sink, socket);
        }
        // The crate lets a text hold several statements.
        if has_second_statement(sql, Dialect::MySql) {
            return Err(Fault::answered(Error::new(Reason::Sql, "more than one statement")));
        }
        let mut result = self.conn.query_iter(sql)?;
        let columns = Columns::of(result.columns().as_ref(), &self.learned.zone);
        let mut streamed = pump(&columns, &mut result, job.sink, socket)?;
        // What the server does not prepare is not executed by name either.
        streamed.light = false;
        Ok(streamed)
    }
}

impl MySqlSession {
    /// Does something small between batches, cut by the watchdog at `by`; whatever fails costs the session.
    fn between(
        &mut self,
        what: &str,
        by: Deadline,
        act: impl FnOnce(&mut mysql::Conn, &mut Learned) -> Result<(), Fault>,
    ) -> Health {
        let watch = match watchdog::arm(self.conn.as_raw_fd(), by) {
            Ok(watch) => watch,
            Err(error) => return Health::Lost(error),
        };
        match act(&mut self.conn, &mut self.learned) {
            Ok(()) => Health::Clean,
            Err(fault) => {
                self.broken.store(true, Ordering::Relaxed);
                Health::Lost(match watch.struck() {
                    true => Error::new(Reason::Timeout, format!("the server did not answer {what} in time")),
                    false => fault.error,
                })
            }
        }
    }
}

impl Session for MySqlSession {
    fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        let together = jobs.len() > 1 && !self.in_snapshot;
        let mut spent = false;
        let mut left = jobs;
        while let Some(first) = left.first_mut() {
            let (ended, after) = if together && self.known.is_fit(first.sql) && !by.passed() {
                let fit = left.iter().take_while(|job| self.known.is_fit(job.sql)).count();
                self.group(&mut left[..fit], by)
            } else {
                (1, self.job(first, by))
            };
            left = &mut left[ended..];
            self.broken.fetch_or(matches!(after, After::Cut | After::Broken(_)), Ordering::Relaxed);
            match after {
                After::Clean => {}
                After::Spent => spent = true,
                After::Broken(error) => return Health::Lost(error),
                After::Cut if left.is_empty() => spent = true,
                After::Cut => {
                    let why = "the connection was cut to end the query before";
                    return Health::Lost(Error::new(Reason::Lost, why));
                }
            }
        }
        if spent { Health::Spent } else { Health::Clean }
    }

    fn ping(&mut self, by: Deadline) -> Health {
        self.between("a ping", by, |conn, _| Ok(conn.ping()?))
    }

    fn refresh(&mut self, by: Deadline) -> Health {
        self.between("the question for its role", by, |conn, learned| learned.ask_role(conn))
    }

    fn describe(&mut self, sql: &Sql, by: Deadline) -> Result<Option<Vec<Column>>> {
        self.check(sql.text(), by)?;
        let watch = watchdog::arm(self.conn.as_raw_fd(), by)?;
        let described = match self.conn.prep(sql.text()) {
            Ok(statement) => {
                let columns = Columns::of(&statement.columns(), &self.learned.zone).shown;
                // Of CALL, and MariaDB of several SHOW, the server tells no columns before it has run.
                let told = (!columns.is_empty()).then_some(columns);
                self.conn.close(statement).map(|()| told).map_err(Fault::from)
            }
            // It runs as text only.
            Err(error) if wants_text(&error) => Ok(None),
            Err(error) => Err(Fault::from(error)),
        };
        self.broken.fetch_or(watch.struck(), Ordering::Relaxed);
        described.map_err(|fault| {
            self.broken.fetch_or(fault.broken, Ordering::Relaxed);
            match watch.struck() {
                true => Error::new(Reason::Timeout, "the server did not describe the statement in time"),
                false => placed(fault.error, sql.text()),
            }
        })
    }

    fn rights(&mut self, by: Deadline) -> Result<Rights> {
        let mut told = Ok(Rights::default());
        let health = self.between("the question for its rights", by, |conn, learned| {
            match rights::ask(conn, learned.reads_binlog()) {
                // The server refuses the question; the connection goes on.
                Err(fault) if !fault.broken => told = Err(fault.error),
                Err(fault) => return Err(fault),
                Ok(rights) => told = Ok(rights),
            }
            Ok(())
        });
        if let Health::Lost(error) = health { Err(error) } else { told }
    }

    fn snapshot(&mut self, open: bool, by: Deadline) -> Health {
        self.in_snapshot = open;
        self.between("the snapshot's statements", by, |conn, _| {
            if open {
                conn.query_drop("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
                conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")?;
            } else {
                conn.query_drop("ROLLBACK")?;
            }
            Ok(())
        })
    }

    fn facts(&self) -> &Facts {
        &self.learned.facts
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        let thread = self.conn.connection_id();
        Arc::new(Kill { server: Arc::clone(&self.server), thread, broken: Arc::clone(&self.broken) })
    }
}

impl Drop for MySqlSession {
    fn drop(&mut self) {
        if self.broken.load(Ordering::Relaxed) {
            // The crate's farewell would block on a server that does not read.
            watchdog::cut(self.conn.as_raw_fd());
        }
    }
}

fn binary(
    mut result: QueryResult<'_, '_, '_, Binary>,
    zone: &Arc<SessionZone>,
    sink: &mut dyn RowSink,
    socket: RawFd,
) -> Result<Streamed, Fault> {
    let columns = Columns::of(result.columns().as_ref(), zone);
    pump(&columns, &mut result, sink, socket)
}

/// Ends what one connection runs, by a login of its own. Another thread's number is never reused by the server.
struct Kill {
    server: Arc<Server>,
    thread: u32,
    broken: Arc<AtomicBool>,
}

impl Canceller for Kill {
    fn cancel(&self, by: Deadline) -> Result<()> {
        // A server that is sending to a connection we cut waits for a minute; only the end of the connection, not
        // that of the query, wakes it.
        let what = if self.broken.load(Ordering::Relaxed) { "CONNECTION" } else { "QUERY" };
        let kill = format!("KILL {what} {}", self.thread);
        self.server.with_connection(by, move |mut conn, _| match conn.query_drop(kill) {
            // Unknown thread: the connection is gone, and what it ran with it.
            Err(mysql::Error::MySqlError(error)) if error.code == 1094 => Ok(()),
            done => Ok(done?),
        })
    }
}
