//! What a statement answers: its rows on their way into the sink, and what follows for its job and its session.
//!
//! Knows no statement's text. The rules of the verdict stand in [`tell`], for a job alone and for one among others.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use crate::deadline::{Deadline, server_limit};
use crate::driver::spot::placed;
use crate::driver::{Flow, Job, RowSink};
use crate::error::{Error, Reason, Result};

use super::errors::Fault;
use super::known::{Known, sleeps};
use super::values::{Cells, Columns};
use super::watchdog;

/// How much later than the server we cut the connection, so that an answer in time is heard.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// Rows that are read and dropped when a sink has enough, to keep the session. More cost more than a new login.
const SHORT_REST: usize = 1000;

/// A result of more rows travels in the binary protocol, which costs less.
const FEW_ROWS: usize = 1000;

/// `ER_STATEMENT_TIMEOUT`'s SQLSTATE, for a statement that ended at its deadline with a result instead of an error.
const INTERRUPTED: &str = "70100";

/// What is left of the connection after one job.
pub(super) enum After {
    /// The job ended, and so has its statement.
    Clean,
    /// The job ended, cancelled: the statement may have left something behind.
    Spent,
    /// The job ended and the connection is no more.
    Cut,
    /// The connection broke; the job did not end.
    Broken(Error),
}

/// A statement whose rows, or as many as were wanted, are read.
pub(super) struct Streamed {
    verdict: Result<()>,
    /// An unread rest was cut off, and the connection with it.
    cut: bool,
    /// The result may come as text the next time.
    pub(super) light: bool,
}

/// Streams one result set into the sink.
pub(super) fn pump(
    columns: &Columns,
    rows: &mut dyn Iterator<Item = mysql::Result<mysql::Row>>,
    sink: &mut dyn RowSink,
    socket: RawFd,
) -> Result<Streamed, Fault> {
    let mut count = 0;
    let verdict = match sink.columns(&columns.shown) {
        Ok(()) => stream(columns, rows, sink, &mut count)?,
        Err(error) => Err(error),
    };
    // The crate reads a result to its end when it is dropped, however long that is.
    let cut = rows.take(SHORT_REST).count() == SHORT_REST;
    if cut {
        watchdog::cut(socket);
    }
    Ok(Streamed { verdict, cut, light: columns.same_as_text && count <= FEW_ROWS })
}

/// Until the last row, or until the sink wants no more.
fn stream(
    columns: &Columns,
    rows: &mut dyn Iterator<Item = mysql::Result<mysql::Row>>,
    sink: &mut dyn RowSink,
    count: &mut usize,
) -> Result<Result<()>, Fault> {
    for row in rows {
        let row = row?;
        *count += 1;
        match sink.row(&Cells::of(&row, columns)) {
            Ok(Flow::Continue) => {}
            Ok(Flow::Stop) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

/// Ends a job that was sent at `start` and had until `by`, unless the connection broke under it. `struck`: the
/// watchdog has cut the connection.
pub(super) fn tell(
    known: &mut Known,
    job: &mut Job<'_>,
    done: Result<Streamed, Fault>,
    (start, by): (Instant, Deadline),
    struck: bool,
) -> After {
    let (sql, allowed) = (job.sql.text(), by.moment().saturating_duration_since(start));
    // An interrupted `SLEEP` may give a result, and the server interrupts a little before our deadline.
    let late = by.passed() || (sleeps(sql) && start.elapsed() >= server_limit(allowed));
    let cut = struck || matches!(done, Ok(Streamed { cut: true, .. }));
    let dead = cut || matches!(done, Err(Fault { broken: true, .. }));
    let light = matches!(done, Ok(Streamed { light: true, .. }));
    let too_late =
        Error::new(Reason::Timeout, format!("no complete result within {} ms", allowed.as_millis()));
    let verdict = match done {
        // What the deadline broke or interrupted: a result that came nevertheless may be half one (`SLEEP`).
        Ok(_) if late && !cut => Err(too_late.with_sqlstate(INTERRUPTED)),
        Err(Fault { error, broken: false }) if late => Err(error.code_for(too_late)),
        _ if late => Err(too_late),
        Ok(streamed) => streamed.verdict,
        Err(fault) if fault.broken => return After::Broken(fault.error),
        // The server's clock was a moment ahead of ours.
        Err(fault) if fault.error.reason() == Reason::Timeout => Err(fault.error.code_for(too_late)),
        Err(fault) => Err(placed(fault.error, sql)),
    };
    known.ran(job.sql, light && verdict.is_ok());
    let cancelled = verdict.as_ref().is_err_and(|error| error.reason() == Reason::Cancelled);
    job.sink.end(verdict, start.elapsed());
    match (dead, cancelled) {
        (true, _) => After::Cut,
        (false, true) => After::Spent,
        (false, false) => After::Clean,
    }
}
