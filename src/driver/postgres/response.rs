//! The server's answer to one query, message by message, into the job's sink.
//!
//! Knows neither how a query is sent (`request`) nor what follows from a refusal (`batch`).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres_protocol::message::backend as tags;

use crate::deadline::Deadline;
use crate::driver::{Flow, Job};
use crate::error::{Error, Reason, Result};

use super::connection::{ExchangeError, LongPart, Message, PgConnection, RowBounds, TooLong};
use super::errors::ServerError;
use super::guard_statement::{self, GuardRow, PgServerRole};
use super::options::TargetSessionAttrs;
use super::request::SentQuery;
use super::result_shape::{PgRow, PgValueSpans, ResultShape};
use super::values::TextStyles;

/// `CopyBothResponse`, which only replication sends.
const COPY_BOTH_TAG: u8 = b'W';
/// Where a sink wants no more rows, the rest of a small result is read; a large one costs the session.
const REST_BYTES: usize = 256 * 1024;
const REST_TIME: Duration = Duration::from_millis(50);
/// How many bytes of notices and settings may come between two rows. The deadline bounds what else comes.
const MAX_NOTICE_BYTES: usize = 1 << 20;

/// A job that is over.
pub(super) struct JobOutcome {
    /// The end that its sink, or we, made of it, whatever the server says.
    pub(super) stopped: Option<Result<()>>,
    /// The server's own error: what follows it in its group was skipped.
    pub(super) refusal: Option<ServerError>,
    /// The sink was told of columns: the job cannot be tried another way.
    pub(super) has_begun: bool,
    /// When its last row came.
    pub(super) at: Instant,
    /// The row of the guard statement before it.
    pub(super) before: Option<GuardRow>,
    /// The same of the one behind it; there is none after an error.
    pub(super) behind: Option<GuardRow>,
    /// What is still to be read.
    pub(super) remaining: Remaining,
}

impl JobOutcome {
    /// Of one whose answer is still to be read.
    fn new(before: Option<GuardRow>) -> Self {
        JobOutcome {
            stopped: None,
            refusal: None,
            has_begun: false,
            at: Instant::now(),
            before,
            behind: None,
            remaining: Remaining::Unread,
        }
    }

    /// Of a statement that the server refuses to prepare.
    pub(super) fn refused(error: ServerError) -> Self {
        JobOutcome { refusal: Some(error), remaining: Remaining::Nothing, ..JobOutcome::new(None) }
    }

    /// What the server is by the latest guard statement.
    pub(super) fn role(&self) -> Option<PgServerRole> {
        self.behind.or(self.before).and_then(|row| row.role)
    }

    /// How long it took by the server's clock; unknown after an error.
    pub(super) fn took(&self) -> Option<Duration> {
        let (before, behind) = self.before.zip(self.behind)?;
        Duration::try_from_secs_f64((behind.clock - before.clock).max(0.0)).ok()
    }

    /// Whether it has changed the settings that others read by.
    pub(super) fn has_changed_settings(&self) -> bool {
        let [before, behind] = [self.before, self.behind].map(|row| row.and_then(|row| row.fingerprint));
        before.zip(behind).is_some_and(|(before, behind)| before != behind)
    }

    /// The end of its transaction failed, and so did the job, unless it had failed before. There is no other try.
    pub(super) fn fail(&mut self, error: ExchangeError) {
        self.has_begun = true;
        let had_failed = match &self.stopped {
            Some(end) => end.is_err(),
            None => self.refusal.is_some(),
        };
        if had_failed {
            return;
        }
        (self.stopped, self.refusal) = match error {
            ExchangeError::Refused(error) => (None, Some(error)),
            error => (Some(Err(error.while_doing("the end of its transaction"))), None),
        };
    }

    /// The server's error, where the job can be sent another way.
    pub(super) fn refused_before_it_began(&self) -> Option<&ServerError> {
        let can_be_sent = self.stopped.is_none() && !self.has_begun && self.remaining.is_nothing();
        self.refusal.as_ref().filter(|_| can_be_sent)
    }

    /// The server has run it, and nothing is left to be read of it.
    pub(super) fn has_run(&self) -> bool {
        let is_read = matches!(self.remaining, Remaining::Group | Remaining::Nothing);
        is_read && self.refusal.is_none()
    }

    /// A statement of the session's own is gone behind its result, within one transaction: no pooler does that.
    pub(super) fn has_deallocated(&self) -> bool {
        self.has_begun && self.is_of_a_pooler()
    }

    /// Its failure looks like that of a pooler.
    pub(super) fn is_of_a_pooler(&self) -> bool {
        self.refusal.as_ref().is_some_and(ServerError::is_of_a_pooler)
    }

    /// It has closed what its group needs.
    pub(super) fn has_closed_portals(&self) -> bool {
        self.refusal.as_ref().is_some_and(ServerError::is_of_closed_portal)
    }

    /// An error that says nothing of the statements before it: the server has stopped it at one of its own limits, or
    /// its table is another one after DDL.
    pub(super) fn failed_by_itself(&self) -> bool {
        self.refusal.as_ref().is_some_and(|error| {
            matches!(error.code.as_str(), "57014" | "55P03") || error.is_of_another_shape()
        })
    }
}

/// What the server still sends after the answer to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remaining {
    /// A rest that is not worth reading: only a new session leads out of it.
    Unread,
    /// The answers to the jobs behind it in its group.
    Group,
    /// Nothing: it is ready for the next query.
    Nothing,
    /// Nothing, and it is inside a transaction that must be rolled back.
    OpenTransaction,
}

impl Remaining {
    /// It is ready.
    pub(super) fn is_nothing(self) -> bool {
        matches!(self, Remaining::Nothing | Remaining::OpenTransaction)
    }
}

/// Which result of the answer comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// One of so many before the job's own.
    Before(usize),
    /// The job's own.
    Own,
    /// One behind it.
    Behind,
}

impl Stage {
    fn before_own(results: usize) -> Self {
        if results == 0 { Stage::Own } else { Stage::Before(results) }
    }
}

/// The answer being read.
pub(super) struct ResponseReader<'r, 'q> {
    job: &'r mut Job<'q>,
    /// Unknown until the server describes the rows where it was not asked before.
    shape: Option<Arc<ResultShape>>,
    stage: Stage,
    /// Others of its group come before the next `ReadyForQuery`.
    leads: bool,
    /// Only such a server may answer.
    wanted: TargetSessionAttrs,
    /// How the server writes texts, where a guard statement told.
    styles: TextStyles,
    bounds: RowBounds,
    /// What has come of it so far.
    pub(super) outcome: JobOutcome,
    /// What was read after the sink's own end.
    rest: usize,
}

impl<'r, 'q> ResponseReader<'r, 'q> {
    /// `before`: the row of its guard statement, where the job before it in its group has read that. `leads`: others of its
    /// group follow, and a good answer ends with the row of the next one's guard statement.
    pub(super) fn new(
        job: &'r mut Job<'q>,
        sent: SentQuery,
        before: Option<GuardRow>,
        leads: bool,
        wanted: TargetSessionAttrs,
    ) -> Self {
        let bounds = RowBounds::of_query(job.max_cell_bytes);
        ResponseReader {
            job,
            shape: sent.shape,
            stage: Stage::before_own(sent.results_before),
            leads,
            wanted,
            styles: TextStyles::default(),
            bounds,
            outcome: JobOutcome::new(before),
            rest: 0,
        }
    }

    /// Ends the session of a server that has another role now: its answer is not from the server that was asked for.
    fn check_role(&self) -> Result<(), ExchangeError> {
        let role = self.outcome.before.and_then(|row| row.role);
        role.map_or(Ok(()), |role| check_role(self.wanted, role))
    }

    /// Reads up to the server's `ReadyForQuery`, or until the rest is not worth reading.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub(super) fn read(
        &mut self,
        connection: &mut PgConnection,
        spans: &mut PgValueSpans,
        by: Deadline,
    ) -> Result<(), ExchangeError> {
        self.outcome.remaining = self.read_messages(connection, spans, by)?;
        if self.stage != Stage::Behind {
            self.outcome.at = Instant::now();
        }
        Ok(())
    }

    fn read_messages(
        &mut self,
        connection: &mut PgConnection,
        spans: &mut PgValueSpans,
        mut by: Deadline,
    ) -> Result<Remaining, ExchangeError> {
        let mut notices = 0;
        self.check_role()?;
        loop {
            let next = connection.next(by, self.bounds).and_then(|message| {
                notices = match message.tag {
                    tags::DATA_ROW_TAG => 0,
                    // From other sessions, to one whose function has said LISTEN.
                    tags::NOTIFICATION_RESPONSE_TAG => notices,
                    _ => notices + message.len(),
                };
                match notices {
                    ..=MAX_NOTICE_BYTES => Ok(message),
                    length => Err(TooLong { what: LongPart::Notices, length, most: MAX_NOTICE_BYTES }.into()),
                }
            });
            let message = match next {
                Ok(message) => message,
                Err(error) if self.has_stopped() && error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(Remaining::Unread);
                }
                Err(error) => {
                    let Some(too_long) = TooLong::of(&error) else { return Err(error.into()) };
                    let is_own = !matches!(self.stage, Stage::Before(_));
                    let shape = self.shape.as_deref().filter(|_| is_own);
                    self.outcome.stopped.get_or_insert_with(|| Err(too_long.of_query(shape)));
                    self.outcome.has_begun = true;
                    return Ok(Remaining::Unread);
                }
            };
            let had_stopped = self.has_stopped();
            if let Some(remaining) = self.take(connection, spans, &message)? {
                return Ok(remaining);
            }
            if self.has_stopped() {
                self.rest += message.len();
                if !had_stopped {
                    by = by.or_within(REST_TIME);
                }
                if self.rest > REST_BYTES {
                    return Ok(Remaining::Unread);
                }
            }
        }
    }

    fn has_stopped(&self) -> bool {
        self.outcome.stopped.is_some()
    }

    /// One message; `Some` at the end of the answer.
    fn take(
        &mut self,
        connection: &mut PgConnection,
        spans: &mut PgValueSpans,
        message: &Message,
    ) -> Result<Option<Remaining>, ExchangeError> {
        let is_wanted = self.outcome.refusal.is_none() && !self.has_stopped();
        match message.tag {
            tags::DATA_ROW_TAG => match self.stage {
                Stage::Before(_) => {
                    let body = connection.body(message);
                    self.outcome.before = GuardRow::read(body).or(self.outcome.before);
                    if self.shape.as_ref().is_none_or(|shape| shape.has_money()) {
                        self.styles = guard_statement::styles(body).unwrap_or_default();
                    }
                    self.check_role()?;
                }
                Stage::Own if is_wanted => self.row(connection, spans, message),
                Stage::Own => {}
                Stage::Behind => {
                    let row = || GuardRow::read(connection.body(message));
                    self.outcome.behind = self.outcome.behind.or_else(row);
                    if self.leads {
                        return Ok(Some(Remaining::Group));
                    }
                }
            },
            tags::ROW_DESCRIPTION_TAG if self.stage == Stage::Own && is_wanted => {
                self.describe(ResultShape::read(connection.body(message)), connection)?;
            }
            tags::COMMAND_COMPLETE_TAG | tags::EMPTY_QUERY_RESPONSE_TAG | tags::PORTAL_SUSPENDED_TAG => {
                match self.stage {
                    Stage::Before(results) => self.stage = Stage::before_own(results - 1),
                    Stage::Own if self.outcome.refusal.is_none() => {
                        self.stage = Stage::Behind;
                        self.outcome.at = Instant::now();
                        if is_wanted {
                            self.begin();
                        }
                    }
                    Stage::Own | Stage::Behind => {}
                }
            }
            tags::ERROR_RESPONSE_TAG => {
                let error = ServerError::read(connection.body(message));
                if error.fatal {
                    return Err(ExchangeError::Lost(error.of_statement(self.job.sql.text())));
                }
                self.outcome.refusal.get_or_insert(error);
            }
            tags::READY_FOR_QUERY_TAG => {
                let is_idle = connection.body(message) == b"I";
                return Ok(Some(if is_idle { Remaining::Nothing } else { Remaining::OpenTransaction }));
            }
            tags::COPY_IN_RESPONSE_TAG | tags::COPY_OUT_RESPONSE_TAG | COPY_BOTH_TAG => {
                // The server now expects or sends a stream of its own; only a new session leads out of it.
                self.outcome.stopped = Some(Err(Error::new(Reason::Sql, "COPY has no rows to export")));
                self.rest = REST_BYTES;
            }
            _ => {}
        }
        Ok(None)
    }

    /// The server describes the rows.
    fn describe(
        &mut self,
        shape: Option<ResultShape>,
        connection: &PgConnection,
    ) -> Result<(), ExchangeError> {
        let mut shape = shape.ok_or_else(ExchangeError::garbled)?;
        connection.types().complete(&mut shape);
        if !shape.has_chosen_formats() {
            // Its types are not those that the formats were chosen for.
            self.outcome.refusal.get_or_insert_with(ServerError::of_changed_types);
        }
        self.shape = Some(Arc::new(shape));
        Ok(())
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.outcome.has_begun, true) {
            return;
        }
        let shape = self.shape.as_ref();
        let columns = shape.map(|shape| shape.columns.as_slice()).unwrap_or_default();
        self.outcome.stopped = self.job.sink.columns(columns).err().map(Err);
    }

    fn row(&mut self, connection: &mut PgConnection, spans: &mut PgValueSpans, message: &Message) {
        self.begin();
        let (None, Some(shape)) = (&self.outcome.stopped, &self.shape) else { return };
        let styles = &self.styles;
        let found = spans.find(connection.body_mut(message), shape, styles, self.bounds);
        let flow = found.and_then(|()| {
            self.job.sink.row(&PgRow { body: connection.body(message), spans, shape, styles })
        });
        self.outcome.stopped = match flow {
            Ok(Flow::Continue) => None,
            Ok(Flow::Stop) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        };
    }
}

/// Ends the session of a server that is not what it was opened for any more.
///
/// # Errors
/// [`ExchangeError::Lost`], so that another server is looked for.
pub(super) fn check_role(wanted: TargetSessionAttrs, role: PgServerRole) -> Result<(), ExchangeError> {
    wanted.refuses(role).map_or(Ok(()), |now| {
        let message = format!("the server is {now} now, and target_session_attrs asked for another");
        Err(ExchangeError::Lost(Error::new(Reason::Connect, message)))
    })
}
