//! What a statement answers: its rows on their way into the sink, and what follows for its job and its session.
//!
//! Knows no statement's text but for the place of an error. The rules of the verdict stand in [`tell`], for a job alone
//! and for one among others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::driver::sql_position::with_position;
use crate::driver::{Flow, Job, RowSink};
use crate::error::{Error, Reason, Result};

use super::errors::Fault;
use super::packet::{Ending, Form, Reply, RowPacket, Spans};
use super::residue::may_have_run;
use super::server_info::Limits;
use super::talk::{Talk, Trouble};
use super::time_zone::SessionZone;
use super::values::{Cells, Columns};

/// How much later than its deadline an answer is still heard: the server's own verdict keeps the session.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// Rows that are read and dropped when a sink has enough, to keep the session. More cost more than a new login.
const SHORT_REST: usize = 1000;
/// Likewise their bytes.
const SHORT_REST_BYTES: usize = 1 << 20;

/// `ER_STATEMENT_TIMEOUT`'s SQLSTATE, for a statement that ended at its limit with a result instead of an error.
const INTERRUPTED: &str = "70100";

/// What is left of the connection after one job.
pub(super) enum After {
    /// The job ended, and so has its statement.
    Clean,
    /// The job ended, cancelled: the statement may have left something behind.
    Spent,
    /// The job ended, and what the server still sends is not the next one's answer.
    Cut,
    /// The connection broke; the job did not end.
    Broken(Error),
}

/// A statement whose rows, or as many as were wanted, are read.
pub(super) struct Streamed {
    verdict: Result<()>,
    /// The answer was not read to its end.
    cut: bool,
    change: Change,
}

/// Whether the session is what it was before a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is, as far as the server tells.
    No,
    /// The statement failed: nobody says what it has changed.
    Perhaps,
    /// The server says that it is not.
    Told,
}

/// Streams one answer into the sink: the rows of its only result. A value of more than `longest` bytes fails it.
pub(super) fn stream(
    talk: &mut Talk,
    form: Form,
    zone: &Arc<SessionZone>,
    longest: usize,
    sink: &mut dyn RowSink,
    by: Deadline,
) -> Result<Streamed, Trouble> {
    let mut rows = Rows {
        sink,
        form,
        zone,
        longest,
        spans: Spans::default(),
        wants: true,
        given: false,
        verdict: Ok(()),
        rest: SHORT_REST,
        rest_bytes: SHORT_REST_BYTES,
        changed: false,
    };
    talk.link.begin_answer(by)?;
    let ended = rows.results(talk, by);
    match ended {
        // What a statement says behind the rows that were wanted is no matter; what it has changed it does not say.
        Err(Trouble::Refused(_)) if !rows.wants => {
            Ok(Streamed { verdict: rows.verdict, cut: false, change: Change::Perhaps })
        }
        Err(trouble) => Err(trouble),
        Ok(false) => Ok(Streamed { verdict: rows.verdict, cut: true, change: Change::Perhaps }),
        Ok(true) => {
            talk.link.end_answer();
            if !rows.given {
                rows.verdict = rows.sink.columns(&[]);
            }
            let change = if rows.changed { Change::Told } else { Change::No };
            Ok(Streamed { verdict: rows.verdict, cut: false, change })
        }
    }
}

/// The results of one statement on their way.
struct Rows<'s> {
    sink: &'s mut dyn RowSink,
    form: Form,
    zone: &'s Arc<SessionZone>,
    /// No value may have more bytes.
    longest: usize,
    spans: Spans,
    /// The sink wants more.
    wants: bool,
    /// A result was given to the sink.
    given: bool,
    verdict: Result<()>,
    /// So many more rows may be read and dropped, and so many bytes of them.
    rest: usize,
    rest_bytes: usize,
    /// The server says that the session is not what it was before.
    changed: bool,
}

impl Rows<'_> {
    /// Reads all results; false when too many rows were left.
    fn results(&mut self, talk: &mut Talk, by: Deadline) -> Result<bool, Trouble> {
        loop {
            let ending = match talk.head(by)? {
                Reply::Done(ending) => Some(ending),
                Reply::Rows(count) => {
                    let columns = Columns::of(talk.columns(count, by)?, self.form, self.zone);
                    self.begin(&columns);
                    self.rows(talk, &columns, by)?
                }
            };
            let Some(Ending { more, changed }) = ending else { return Ok(false) };
            self.changed |= changed;
            if !more {
                return Ok(true);
            }
        }
    }

    fn begin(&mut self, columns: &Columns) {
        if self.given {
            // A procedure's: which of them is meant, nobody can know.
            let error = Error::new(Reason::Sql, "the statement gives more than one result with rows")
                .with_hint("a query has one: select from one statement, or write a procedure for each");
            self.fail(error);
        } else if let Err(error) = self.sink.columns(&columns.shown) {
            self.fail(error);
        }
        self.given = true;
    }

    fn fail(&mut self, error: Error) {
        if self.verdict.is_ok() {
            self.verdict = Err(error);
        }
        self.wants = false;
    }

    /// Reads the rows of one result, and its end; `None` when too much was left unread.
    fn rows(&mut self, talk: &mut Talk, columns: &Columns, by: Deadline) -> Result<Option<Ending>, Trouble> {
        loop {
            let Some((kind, packet)) = talk.row(columns.longest_row(self.longest), by)? else {
                self.fail(columns.row_too_long(self.longest));
                return Ok(None);
            };
            if let RowPacket::End(ending) = kind {
                return Ok(Some(ending));
            }
            if !self.wants {
                let left = self.rest.checked_sub(1).zip(self.rest_bytes.checked_sub(packet.len()));
                let Some(left) = left else { return Ok(None) };
                (self.rest, self.rest_bytes) = left;
                continue;
            }
            let packet = talk.link.payload(&packet);
            match columns.find(packet, &mut self.spans, self.longest) {
                Ok(()) => {}
                Err(error) if error.reason() == Reason::Limit => {
                    self.fail(error);
                    continue;
                }
                Err(error) => return Err(Trouble::Broken(error.into())),
            }
            match self.sink.row(&Cells::of(packet, &self.spans, columns)) {
                Ok(Flow::Continue) => {}
                Ok(Flow::Stop) => self.wants = false,
                Err(error) => self.fail(error),
            }
        }
    }
}

/// The time of one job.
pub(super) struct Turn {
    /// When it was sent, or became the head of the line.
    pub(super) start: Instant,
    /// When its answer must be there.
    pub(super) by: Deadline,
    /// What of that is the way to the server and back.
    pub(super) way: Duration,
    /// How long the server may work on it.
    pub(super) allowed: Duration,
    /// What the server was told.
    pub(super) limits: Limits,
}

/// What came for one job, and how late.
pub(super) struct Answered {
    pub(super) done: Result<Streamed, Trouble>,
    /// The server's own time.
    took: Duration,
    late: bool,
    turn: Turn,
}

impl Turn {
    /// The answer was read now.
    pub(super) fn answered(self, done: Result<Streamed, Trouble>) -> Answered {
        let took = self.start.elapsed().saturating_sub(self.way);
        Answered { done, took, late: self.by.passed() || took > self.allowed, turn: self }
    }

    fn too_late(&self) -> Error {
        let Limits { limit, is_theirs, .. } = &self.limits;
        let message = match is_theirs {
            true => format!(
                "no complete result within {} ms, the limit that the server, its user or session_sql sets",
                limit.as_millis()
            ),
            false => format!("no complete result within {} ms", self.allowed.as_millis()),
        };
        Error::new(Reason::Timeout, message)
    }
}

impl Answered {
    /// A result in time. `longest`: its statement has not run for longer. Where that is the server's limit, the result
    /// may be half one: `SLEEP`, `BENCHMARK` and the like end with a value instead of an error.
    pub(super) fn is_doubtful(&self, longest: Duration) -> bool {
        !self.late
            && matches!(self.done, Ok(Streamed { cut: false, .. }))
            && longest >= at_limit(self.turn.limits.limit)
    }

    /// The server says that its limit ended the statement.
    pub(super) fn is_by_limit(&self) -> bool {
        let Err(Trouble::Refused(error)) = &self.done else { return false };
        Fault::from(error).error.reason() == Reason::Timeout
    }

    /// A result that came too late: whether the server's limit has ended its statement is not known.
    pub(super) fn is_unclear(&self) -> bool {
        self.late && self.done.is_ok()
    }

    /// What has become of the session.
    pub(super) fn change(&self) -> Change {
        match &self.done {
            Ok(streamed) => streamed.change,
            Err(Trouble::Refused(error)) if may_have_run(error) => Change::Perhaps,
            Err(_) => Change::No,
        }
    }

    /// What the server was told.
    pub(super) fn limit(&self) -> Duration {
        self.turn.limits.limit
    }

    /// Ends the job, unless the connection broke under it. `interrupted`: its result is a half one.
    pub(super) fn tell(self, job: &mut Job<'_>, interrupted: bool) -> After {
        let Answered { done, took, late, turn } = self;
        let done = done.map_err(Fault::from);
        let dead = matches!(done, Ok(Streamed { cut: true, .. }) | Err(Fault { broken: true, .. }));
        let verdict = match done {
            Ok(Streamed { cut: false, .. }) if late || interrupted => {
                Err(turn.too_late().with_sqlstate(INTERRUPTED))
            }
            Ok(streamed) => streamed.verdict,
            Err(Fault { broken: true, .. }) if turn.by.passed() => Err(turn.too_late()),
            Err(Fault { error, broken: true }) => return After::Broken(error),
            // The server's clock was a moment ahead of ours.
            Err(Fault { error, .. }) if late || error.reason() == Reason::Timeout => {
                Err(error.code_for(turn.too_late()))
            }
            Err(Fault { error, .. }) => Err(with_position(error, job.sql.text())),
        };
        let cancelled = verdict.as_ref().is_err_and(|error| error.reason() == Reason::Cancelled);
        job.sink.end(verdict, took);
        match (dead, cancelled) {
            (true, _) => After::Cut,
            (false, true) => After::Spent,
            (false, false) => After::Clean,
        }
    }
}

/// What has run for so long may have been ended by the limit: a server's clock may be a little ahead of ours.
fn at_limit(limit: Duration) -> Duration {
    limit - (limit / 100).min(Duration::from_millis(1))
}
