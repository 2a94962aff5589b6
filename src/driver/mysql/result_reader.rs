//! The answer to a job: its rows on their way into the sink, and what its result means for the job and the session.
//!
//! Knows no statement's text except for the position of an error. The rules for a job's result are in
//! [`JobAnswer::end_job`].

use std::sync::Arc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::driver::sql_position::with_position;
use crate::driver::{Flow, Job, RowSink};
use crate::error::{Error, Reason, Result};

use super::errors::CallError;
use super::packet::{MySqlValueSpans, ResultEnd, ResultHead, RowFormat, RowPacket};
use super::protocol::{MySqlAnswer, ProtocolClient};
use super::server_info::StatementLimits;
use super::session_changes::may_have_run;
use super::time_zone::SessionZone;
use super::values::{ResultColumns, ResultRow};

/// How long after its deadline an answer is still read: the server's own error keeps the session usable.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// Bytes of rows that are read and dropped when a sink has enough, to keep the session. More cost more than a new login.
const MAX_DROPPED_BYTES: usize = 1 << 20;
/// What a row counts besides its bytes.
const DROPPED_ROW_BYTES: usize = 1 << 10;

/// `ER_STATEMENT_TIMEOUT`'s SQLSTATE, for a statement that ended at its limit with a result instead of an error.
const INTERRUPTED: &str = "70100";

/// What a statement did to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionChange {
    /// Nothing, as far as the server tells.
    None,
    /// The statement failed: what it has changed is not known.
    Possible,
    /// The server reports a change.
    Reported,
}

/// A statement whose rows, or as many as were wanted, were read.
pub(super) struct RowsRead {
    result: Result<()>,
    /// The answer was read to its end.
    pub(super) is_complete: bool,
    change: SessionChange,
}

/// Streams one answer into the sink: the rows of its only result. A value of more than `longest` bytes fails it. Without
/// a sink the rows are dropped.
pub(super) fn read_rows<'s>(
    client: &mut ProtocolClient,
    format: RowFormat,
    zone: &'s Arc<SessionZone>,
    longest: usize,
    sink: Option<&'s mut dyn RowSink>,
    by: Deadline,
) -> Result<RowsRead, CallError> {
    let mut reader = ResultReader {
        sink,
        format,
        zone,
        longest,
        spans: MySqlValueSpans::default(),
        has_columns: false,
        result: Ok(()),
        dropped: 0,
        changed_session: false,
    };
    client.begin_answer(by)?;
    let (is_complete, change) = match reader.read_results(client, by) {
        // An error behind the rows that were wanted does not matter; it does not say what the statement has changed.
        Err(CallError::Server(_)) if reader.sink.is_none() => (true, SessionChange::Possible),
        Err(error) => return Err(error),
        Ok(false) => (false, SessionChange::Possible),
        Ok(true) => {
            client.end_answer();
            if let (false, Some(sink)) = (reader.has_columns, &mut reader.sink) {
                reader.result = sink.columns(&[]);
            }
            (true, if reader.changed_session { SessionChange::Reported } else { SessionChange::None })
        }
    };
    Ok(RowsRead { result: reader.result, is_complete, change })
}

/// Reads the results of one statement.
struct ResultReader<'s> {
    /// `None` once it wants no more rows.
    sink: Option<&'s mut dyn RowSink>,
    format: RowFormat,
    zone: &'s Arc<SessionZone>,
    /// No value may have more bytes.
    longest: usize,
    spans: MySqlValueSpans,
    /// The sink has the columns of a result.
    has_columns: bool,
    result: Result<()>,
    dropped: usize,
    /// The server reports that the session is not what it was before.
    changed_session: bool,
}

impl ResultReader<'_> {
    /// Reads all results; false when too many rows were left.
    fn read_results(&mut self, client: &mut ProtocolClient, by: Deadline) -> Result<bool, CallError> {
        loop {
            let end = match client.read_head(by)? {
                ResultHead::Done(end) => Some(end),
                ResultHead::Rows(count) => {
                    let columns = client.read_columns(count, by)?;
                    let columns = ResultColumns::new(columns, self.format, self.zone);
                    self.begin_result(&columns);
                    self.read_result_rows(client, &columns, by)?
                }
            };
            let Some(ResultEnd { more, changed_session }) = end else { return Ok(false) };
            self.changed_session |= changed_session;
            if !more {
                return Ok(true);
            }
        }
    }

    fn begin_result(&mut self, columns: &ResultColumns) {
        let Some(sink) = &mut self.sink else { return };
        let begun = if self.has_columns {
            // A procedure's: which of them is meant is not known.
            Err(Error::new(Reason::Sql, "the statement returns more than one result with rows")
                .with_hint("a query has one: select from one statement, or write a procedure for each"))
        } else {
            sink.columns(columns.as_columns())
        };
        self.has_columns = true;
        begun.unwrap_or_else(|error| self.fail(error));
    }

    fn fail(&mut self, error: Error) {
        if self.result.is_ok() {
            self.result = Err(error);
        }
        self.sink = None;
    }

    /// Reads the rows of one result, and its end; `None` when too much was left unread.
    fn read_result_rows(
        &mut self,
        client: &mut ProtocolClient,
        columns: &ResultColumns,
        by: Deadline,
    ) -> Result<Option<ResultEnd>, CallError> {
        loop {
            let Some((kind, packet)) = client.read_row(columns.longest_row(self.longest), by)? else {
                self.fail(columns.row_too_long(self.longest));
                return Ok(None);
            };
            if let RowPacket::End(end) = kind {
                return Ok(Some(end));
            }
            let Some(sink) = &mut self.sink else {
                self.dropped += packet.len() + DROPPED_ROW_BYTES;
                if self.dropped > MAX_DROPPED_BYTES {
                    return Ok(None);
                }
                continue;
            };
            let packet = client.payload(&packet);
            match columns.find(packet, &mut self.spans, self.longest) {
                Ok(()) => match sink.row(&ResultRow::new(packet, &self.spans, columns)) {
                    Ok(Flow::Continue) => {}
                    Ok(Flow::Stop) => self.sink = None,
                    Err(error) => self.fail(error),
                },
                Err(error) if error.reason() == Reason::Limit => self.fail(error),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What was sent for one job.
pub(super) struct SentJob {
    /// What the server was told.
    pub(super) limits: StatementLimits,
    /// How long the server may work on it.
    pub(super) allowed: Duration,
    pub(super) format: RowFormat,
}

impl SentJob {
    pub(super) fn too_late(&self) -> Error {
        let StatementLimits { time, is_administrators, .. } = &self.limits;
        let message = match is_administrators {
            true => format!(
                "no complete result within {} ms, the limit that the server, its user or session_sql sets",
                time.as_millis()
            ),
            false => format!("no complete result within {} ms", self.allowed.as_millis()),
        };
        Error::new(Reason::Timeout, message)
    }
}

/// What was read for one job, and how late.
pub(super) struct JobAnswer {
    result: MySqlAnswer<RowsRead>,
    /// The server's own time.
    took: Duration,
    is_late: bool,
    /// The server's limit may have ended the statement.
    may_be_at_limit: bool,
    pub(super) sent: SentJob,
}

impl JobAnswer {
    /// The answer was read just now. `longest`: its statement has not run for longer.
    pub(super) fn new(
        result: MySqlAnswer<RowsRead>,
        took: Duration,
        longest: Duration,
        due: Deadline,
        sent: SentJob,
    ) -> Self {
        let limit = sent.limits.time;
        // A server's clock may be a little ahead of ours.
        let tolerance = (limit / 100).min(Duration::from_millis(1));
        let may_be_at_limit = longest >= limit - tolerance;
        let is_late = due.passed() || took > sent.allowed;
        JobAnswer { result, took, is_late, may_be_at_limit, sent }
    }

    /// A result in time that may be incomplete: at the server's limit `SLEEP`, `BENCHMARK` and the like end with a value
    /// instead of an error.
    pub(super) fn is_doubtful(&self) -> bool {
        !self.is_late && self.result.is_ok() && self.is_complete() && self.may_be_at_limit
    }

    /// The answer was read to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.result.as_ref().map_or(true, |rows| rows.is_complete)
    }

    /// The server says that its limit ended the statement. MySQL ends `COUNT(*)` there with the error of a cancel.
    pub(super) fn is_server_timeout(&self) -> bool {
        match self.result.as_ref().map_err(|error| error.to_error().reason()) {
            Err(Reason::Timeout) => true,
            Err(Reason::Cancelled) => self.may_be_at_limit,
            _ => false,
        }
    }

    /// A result that came too late: whether the server's limit has ended its statement is not known.
    pub(super) fn is_late_result(&self) -> bool {
        self.is_late && self.result.is_ok()
    }

    pub(super) fn session_change(&self) -> SessionChange {
        match &self.result {
            Ok(rows) => rows.change,
            // A prepared one is refused as it runs, a function in it by whatever error.
            Err(error) if self.sent.format == RowFormat::Binary || may_have_run(error) => {
                SessionChange::Possible
            }
            Err(_) => SessionChange::None,
        }
    }

    /// Ends the job, and returns why it failed. `interrupted`: its result is incomplete.
    pub(super) fn end_job(self, job: &mut Job<'_>, interrupted: bool) -> Option<Reason> {
        let is_timeout = self.is_late || self.is_server_timeout();
        let JobAnswer { result, took, is_late, sent, .. } = self;
        let result = match result {
            Ok(rows) if rows.is_complete && (is_late || interrupted) => {
                Err(sent.too_late().with_sqlstate(INTERRUPTED))
            }
            Ok(rows) => rows.result,
            // The server's clock may be a little ahead of ours.
            Err(error) if is_timeout => Err(error.to_error().code_for(sent.too_late())),
            Err(error) => Err(with_position(error.to_error(), job.sql.text())),
        };
        let reason = result.as_ref().err().map(Error::reason);
        job.sink.end(result, took);
        reason
    }
}
