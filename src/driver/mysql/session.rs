//! One connection that runs jobs one by one: limits set, statement prepared once, rows streamed as they come.
//!
//! Before each statement one message sets the server's own deadline and read-only mode again, whatever the last one
//! did to them (a stored function may). The server's deadline strikes first and leaves the connection usable; the
//! watchdog strikes [`GRACE`] later, when the server does not.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql::prelude::{Protocol, Queryable};
use mysql::{Conn, QueryResult};

use crate::deadline::Deadline;
use crate::driver::statement::{Dialect, check_read_only, has_second_statement};
use crate::driver::{Canceller, Facts, Flow, Health, Job, RowSink, Session, TlsState};
use crate::error::{Error, Reason, Result};

use super::errors::Fault;
use super::login::Server;
use super::values::{Cells, Columns};
use super::watchdog;

/// How much later than the server we cut the connection, so that an answer in time is heard.
const GRACE: Duration = Duration::from_millis(20);

/// Rows that are read and dropped when a sink has enough, to keep the session. More cost more than a new login.
const SHORT_REST: usize = 1000;

/// Which dialect of session variables the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavor {
    MySql,
    MariaDb,
}

/// What was learned at login and stays.
struct Learned {
    facts: Facts,
    flavor: Flavor,
    /// `transaction_read_only`, or its older name.
    read_only_variable: &'static str,
    /// `NO_BACKSLASH_ESCAPES` or `ANSI_QUOTES`: a backslash may not mean what `statement` assumes.
    other_strings: bool,
}

/// A live connection.
pub(super) struct MySqlSession {
    conn: Conn,
    server: Arc<Server>,
    learned: Learned,
    /// The connection was cut or broke: it is dropped without farewell.
    broken: bool,
}

/// What is left of the connection after one job.
enum After {
    /// The job ended.
    Clean,
    /// The job ended late: the statement may have left something behind.
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
            let learned = set_up(&mut conn, &login.login.session_sql, tls).map_err(|fault| fault.error)?;
            Ok(MySqlSession { conn, server: login, learned, broken: false })
        })
    }

    /// Runs one job to its end, or until the connection breaks under it.
    fn job(&mut self, job: &mut Job<'_>, by: Deadline) -> After {
        let start = Instant::now();
        let by = by.min(Deadline::after(start, job.allowance));
        if let Err(error) = self.check(job.sql.text()) {
            job.sink.end(Err(error), start.elapsed());
            return After::Clean;
        }
        let watch = match watchdog::arm(self.conn.as_raw_fd(), Deadline::after(by.moment(), GRACE)) {
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
        self.broken |= cut;
        let allowed = by.moment().saturating_duration_since(start);
        let too_late =
            || Err(Error::new(Reason::Timeout, format!("no complete result within {allowed:.3?}")));
        let verdict = match done {
            // What the deadline broke or interrupted: a result that came nevertheless may be half one (`SLEEP`).
            _ if late => too_late(),
            Ok(streamed) => streamed.verdict,
            Err(fault) if fault.broken => {
                self.broken = true;
                return After::Broken(fault.error);
            }
            // The server's clock was a moment ahead of ours.
            Err(fault) if fault.error.reason() == Reason::Timeout => too_late(),
            Err(fault) => Err(fault.error),
        };
        let spent = verdict.as_ref().is_err_and(|error| error.reason() == Reason::Timeout);
        job.sink.end(verdict, start.elapsed());
        match (cut, spent) {
            (true, _) => After::Cut,
            (false, true) => After::Spent,
            (false, false) => After::Clean,
        }
    }

    /// The first-keyword check, where the target is read-only.
    fn check(&self, sql: &str) -> Result<()> {
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
        self.conn.query_drop(self.limits(by))?;
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

    fn limits(&self, by: Deadline) -> String {
        let left = by.left().max(Duration::from_millis(1));
        let limit = match self.learned.flavor {
            Flavor::MySql => format!("SET max_execution_time={}", left.as_millis()),
            Flavor::MariaDb => format!("SET max_statement_time={:.6}", left.as_secs_f64()),
        };
        if !self.server.login.read_only {
            return limit;
        }
        // Without autocommit the first SELECT would open a transaction that never sees a later change.
        format!("{limit},autocommit=1,{}=1", self.learned.read_only_variable)
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
        let socket = self.conn.as_raw_fd();
        let pong = watchdog::arm(socket, by).map_err(Fault::answered);
        let pong = pong.and_then(|_armed| self.conn.ping().map_err(Fault::from));
        match pong {
            Ok(()) => Health::Clean,
            Err(fault) => {
                self.broken = true;
                Health::Lost(fault.error)
            }
        }
    }

    fn facts(&self) -> &Facts {
        &self.learned.facts
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::new(KillQuery { server: Arc::clone(&self.server), thread: self.conn.connection_id() })
    }
}

impl Drop for MySqlSession {
    fn drop(&mut self) {
        if self.broken {
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

/// Sets up a new connection and learns what it is.
fn set_up(conn: &mut Conn, session_sql: &[String], tls: TlsState) -> Result<Learned, Fault> {
    // The crate asks MariaDB for three-byte UTF-8.
    conn.query_drop("SET NAMES utf8mb4")?;
    for sql in session_sql {
        conn.query_drop(sql)?;
    }
    let row: Option<mysql::Row> = conn.query_first("SELECT @@version, @@sql_mode, @@read_only")?;
    let text =
        |column| row.as_ref().and_then(|row| row.get_opt::<String, _>(column)?.ok()).unwrap_or_default();
    let (version, sql_mode, read_only): (String, String, String) = (text(0), text(1), text(2));
    let flavor = if version.contains("MariaDB") { Flavor::MariaDb } else { Flavor::MySql };
    let role = match has_channel(conn, flavor)? {
        Some(replica) => replica,
        None => read_only == "1",
    };
    let facts = Facts {
        flavor: flavor.word().to_owned(),
        role: if role { "replica" } else { "primary" }.to_owned(),
        tls,
        version,
    };
    let read_only_variable = flavor.read_only_variable(&facts.version);
    let other_strings = sql_mode.contains("NO_BACKSLASH_ESCAPES") || sql_mode.contains("ANSI_QUOTES");
    Ok(Learned { facts, flavor, read_only_variable, other_strings })
}

/// Whether the server has a replica channel; `None` where we may not ask.
fn has_channel(conn: &mut Conn, flavor: Flavor) -> Result<Option<bool>, Fault> {
    for question in flavor.channel_questions() {
        match conn.query_first::<mysql::Row, _>(question) {
            Ok(channel) => return Ok(Some(channel.is_some())),
            // An older server knows the older words only; a plain user may ask neither.
            Err(mysql::Error::MySqlError(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

impl Flavor {
    fn word(self) -> &'static str {
        match self {
            Flavor::MySql => "mysql",
            Flavor::MariaDb => "mariadb",
        }
    }

    fn channel_questions(self) -> &'static [&'static str] {
        match self {
            Flavor::MySql => &["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"],
            Flavor::MariaDb => &["SHOW ALL SLAVES STATUS"],
        }
    }

    /// `tx_read_only` until MySQL 5.7.20 and MariaDB 11.1.
    fn read_only_variable(self, version: &str) -> &'static str {
        let mut parts =
            version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        let version = (next(), next(), next());
        let since = match self {
            Flavor::MySql => (5, 7, 20),
            Flavor::MariaDb => (11, 1, 0),
        };
        if version >= since { "transaction_read_only" } else { "tx_read_only" }
    }
}

/// Ends what one connection runs, by a login of its own. Another thread's number is never reused by the server.
struct KillQuery {
    server: Arc<Server>,
    thread: u32,
}

impl Canceller for KillQuery {
    fn cancel(&self, by: Deadline) -> Result<()> {
        let thread = self.thread;
        self.server.with_connection(by, move |mut conn, _| {
            match conn.query_drop(format!("KILL QUERY {thread}")) {
                // Unknown thread: the connection is gone, and what it ran with it.
                Err(mysql::Error::MySqlError(error)) if error.code == 1094 => Ok(()),
                done => done.map_err(|error| Fault::from(error).error),
            }
        })
    }
}
