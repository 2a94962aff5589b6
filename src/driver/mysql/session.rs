//! One connection that runs jobs one by one: limits set, statement prepared once, rows streamed as they come.
//!
//! Before each statement one message sets the server's own deadline and read-only mode again, whatever the last one
//! did to them (a stored function may). The server's deadline strikes first and leaves the connection usable; the
//! watchdog strikes [`GRACE`] later, when the server does not.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::{Protocol, Queryable};
use mysql::{Conn, QueryResult};

use crate::deadline::Deadline;
use crate::driver::statement::{Dialect, check_read_only, has_second_statement};
use crate::driver::{Canceller, Facts, Flow, Health, Job, RowSink, Session};
use crate::error::{Error, Reason, Result};

use super::errors::Fault;
use super::learned::{Learned, leaves_something};
use super::login::Server;
use super::values::{Cells, Columns};
use super::watchdog;

/// How much later than the server we cut the connection, so that an answer in time is heard.
const GRACE: Duration = Duration::from_millis(20);

/// How long a session may take to forget what a query left behind.
const FORGETTING: Duration = Duration::from_secs(1);

/// Rows that are read and dropped when a sink has enough, to keep the session. More cost more than a new login.
const SHORT_REST: usize = 1000;

/// `ER_STATEMENT_TIMEOUT`'s SQLSTATE, for a statement that ended at its deadline with a result instead of an error.
const INTERRUPTED: &str = "70100";

/// A live connection.
pub(super) struct MySqlSession {
    conn: Conn,
    server: Arc<Server>,
    learned: Learned,
    /// The connection was cut or broke: it is dropped without farewell. Its canceller knows as well.
    broken: Arc<AtomicBool>,
}

/// What is left of the connection after one job.
enum After {
    /// The job ended.
    Clean,
    /// The job ended, late or interrupted: the statement may have left something behind.
    Spent,
    /// The job ended and the connection is no more.
    Cut,
    /// The connection broke; the job did not end.
    Broken(Error),
}

/// A statement whose rows, or as many as were wanted, are read.
struct Streamed {
    verdict: Result<()>,
    /// An unread rest was cut off, and the connection with it.
    cut: bool,
}

impl MySqlSession {
    /// Logs in, runs `session_sql`, learns the facts.
    pub(super) fn open(server: &Arc<Server>, by: Deadline) -> Result<Self> {
        let login = Arc::clone(server);
        server.with_connection(by, move |mut conn, tls| {
            let learned = Learned::set_up(&mut conn, &login.login.session_sql, tls)?;
            Ok(MySqlSession { conn, server: login, learned, broken: Arc::default() })
        })
    }

    /// Runs one job to its end, or until the connection breaks under it.
    fn job(&mut self, job: &mut Job<'_>, by: Deadline) -> After {
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
        let late = by.passed();
        let cut = watch.struck() || matches!(done, Ok(Streamed { cut: true, .. }));
        drop(watch);
        self.broken.fetch_or(cut, Ordering::Relaxed);
        let allowed = by.moment().saturating_duration_since(start).as_millis();
        let too_late = Error::new(Reason::Timeout, format!("no complete result within {allowed} ms"));
        let verdict = match done {
            // What the deadline broke or interrupted: a result that came nevertheless may be half one (`SLEEP`).
            Ok(_) if late && !cut => Err(too_late.with_sqlstate(INTERRUPTED)),
            Err(Fault { error, broken: false }) if late => Err(error.code_for(too_late)),
            _ if late => Err(too_late),
            Ok(streamed) => streamed.verdict,
            Err(fault) if fault.broken => {
                self.broken.store(true, Ordering::Relaxed);
                return After::Broken(fault.error);
            }
            // The server's clock was a moment ahead of ours.
            Err(fault) if fault.error.reason() == Reason::Timeout => Err(fault.error.code_for(too_late)),
            Err(fault) => Err(fault.error),
        };
        let interrupted = |error: &Error| matches!(error.reason(), Reason::Timeout | Reason::Cancelled);
        let spent = verdict.as_ref().is_err_and(interrupted);
        job.sink.end(verdict, start.elapsed());
        let forgotten = cut || !leaves_something(job.sql.text()) || self.forget();
        match (cut || !forgotten, spent) {
            (true, _) => After::Cut,
            (false, true) => After::Spent,
            (false, false) => After::Clean,
        }
    }

    /// Makes the session what it was after its login; false when that failed, and the connection is no more.
    fn forget(&mut self) -> bool {
        let socket = self.conn.as_raw_fd();
        let done = watchdog::arm(socket, Deadline::within(FORGETTING)).is_ok_and(|watch| {
            let reset = self.conn.reset().is_ok();
            let session_sql = &self.server.login.session_sql;
            reset && Learned::prepare(&mut self.conn, session_sql).is_ok() && !watch.struck()
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
                Ok(result) => return pump(result, job.sink, socket),
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
            return pump(self.conn.exec_iter(&prepared, ())?, job.sink, socket);
        }
        // The crate lets a text hold several statements.
        if has_second_statement(sql, Dialect::MySql) {
            return Err(Fault::answered(Error::new(Reason::Sql, "more than one statement")));
        }
        pump(self.conn.query_iter(sql)?, job.sink, socket)
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
        let mut spent = false;
        let mut jobs = jobs.iter_mut();
        while let Some(job) = jobs.next() {
            match self.job(job, by) {
                After::Clean => {}
                After::Spent => spent = true,
                After::Broken(error) => return Health::Lost(error),
                After::Cut if jobs.len() == 0 => spent = true,
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

    fn snapshot(&mut self, open: bool, by: Deadline) -> Health {
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

/// The tables changed, or a proxy moved us to another server: the statement must be prepared anew.
fn is_stale(error: &mysql::Error) -> bool {
    matches!(error, mysql::Error::MySqlError(error) if matches!(error.code, 1243 | 1615))
}

/// The statement runs as text only: the server does not prepare its kind (1295) or no more statements at all (1461),
/// or the crate takes something in it (`:x`, `?`) for a parameter, rightly or not. It did not run yet.
fn wants_text(error: &mysql::Error) -> bool {
    use mysql::DriverError::{MismatchedStmtParams, MixedParams, Params};
    match error {
        mysql::Error::MySqlError(error) => matches!(error.code, 1295 | 1461),
        mysql::Error::DriverError(Params(_) | MixedParams | MismatchedStmtParams(..)) => true,
        _ => false,
    }
}

/// Streams one result set into the sink.
fn pump<P: Protocol>(
    mut result: QueryResult<'_, '_, '_, P>,
    sink: &mut dyn RowSink,
    socket: RawFd,
) -> Result<Streamed, Fault> {
    let columns = Columns::of(result.columns().as_ref());
    let verdict = match sink.columns(&columns.shown) {
        Ok(()) => rows(&mut result, &columns, sink)?,
        Err(error) => Err(error),
    };
    // The crate reads a result to its end when it is dropped, however long that is.
    let cut = result.by_ref().take(SHORT_REST).count() == SHORT_REST;
    if cut {
        watchdog::cut(socket);
    }
    Ok(Streamed { verdict, cut })
}

/// Until the last row, or until the sink wants no more.
fn rows<P: Protocol>(
    result: &mut QueryResult<'_, '_, '_, P>,
    columns: &Columns,
    sink: &mut dyn RowSink,
) -> Result<Result<()>, Fault> {
    for row in result.by_ref() {
        let row = row?;
        match sink.row(&Cells::of(&row, columns)) {
            Ok(Flow::Continue) => {}
            Ok(Flow::Stop) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
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
