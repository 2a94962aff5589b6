//! What a statement answers: its rows on their way into the sink, and what follows for its job and its session.
//!
//! Knows no statement's text but for the place of an error. The rules of the verdict stand in [`tell`], for a job alone
//! and for one among others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::driver::spot::placed;
use crate::driver::{Flow, Job, RowSink};
use crate::error::{Error, Reason, Result};

use super::errors::Fault;
use super::learned::Limits;
use super::packet::{Form, Reply, RowPacket, Spans};
use super::talk::{Talk, Trouble};
use super::time_zone::SessionZone;
use super::values::{Cells, Columns};

/// How much later than its deadline an answer is still heard: the server's own verdict keeps the session.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// The longest row that is taken.
const LONGEST_ROW: usize = 64 << 20;

/// Rows that are read and dropped when a sink has enough, to keep the session. More cost more than a new login.
const SHORT_REST: usize = 1000;

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
}

/// Streams one answer into the sink: the rows of its only result.
pub(super) fn stream(
    talk: &mut Talk,
    form: Form,
    zone: &Arc<SessionZone>,
    sink: &mut dyn RowSink,
    by: Deadline,
) -> Result<Streamed, Trouble> {
    let mut rows = Rows {
        sink,
        form,
        zone,
        spans: Spans::default(),
        wants: true,
        given: false,
        verdict: Ok(()),
        rest: SHORT_REST,
    };
    talk.link.begin_answer(by)?;
    let ended = rows.results(talk, by);
    match ended {
        // What a statement says behind the rows that were wanted is no matter.
        Err(Trouble::Refused(_)) if !rows.wants => Ok(Streamed { verdict: rows.verdict, cut: false }),
        Err(trouble) => Err(trouble),
        Ok(false) => Ok(Streamed { verdict: rows.verdict, cut: true }),
        Ok(true) => {
            talk.link.end_answer();
            if !rows.given {
                rows.verdict = rows.sink.columns(&[]);
            }
            Ok(Streamed { verdict: rows.verdict, cut: false })
        }
    }
}

/// The results of one statement on their way.
struct Rows<'s> {
    sink: &'s mut dyn RowSink,
    form: Form,
    zone: &'s Arc<SessionZone>,
    spans: Spans,
    /// The sink wants more.
    wants: bool,
    /// A result was given to the sink.
    given: bool,
    verdict: Result<()>,
    /// So many more rows may be read and dropped.
    rest: usize,
}

impl Rows<'_> {
    /// Reads all results; false when too many rows were left.
    fn results(&mut self, talk: &mut Talk, by: Deadline) -> Result<bool, Trouble> {
        loop {
            let more = match talk.head(by)? {
                Reply::Done { more } => Some(more),
                Reply::Rows(count) => {
                    let columns = Columns::of(talk.columns(count, by)?, self.form, self.zone);
                    self.begin(&columns);
                    self.rows(talk, &columns, by)?
                }
            };
            match more {
                None => return Ok(false),
                Some(false) => return Ok(true),
                Some(true) => {}
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

    /// Reads the rows of one result. Says whether another follows; `None` when too many rows were left.
    fn rows(&mut self, talk: &mut Talk, columns: &Columns, by: Deadline) -> Result<Option<bool>, Trouble> {
        loop {
            let (kind, packet) = talk.row(LONGEST_ROW, by)?;
            if let RowPacket::End { more } = kind {
                return Ok(Some(more));
            }
            if !self.wants {
                if self.rest == 0 {
                    return Ok(None);
                }
                self.rest -= 1;
                continue;
            }
            let packet = talk.link.payload(&packet);
            if let Err(error) = columns.find(packet, &mut self.spans) {
                return Err(Trouble::Broken(error.into()));
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
            Err(Fault { error, .. }) => Err(placed(error, job.sql.text())),
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
