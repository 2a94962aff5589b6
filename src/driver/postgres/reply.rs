//! The server's answer to one query, message by message, into the job's sink.
//!
//! Knows neither how the query was sent nor what follows from a refusal: that is `session`'s.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres_protocol::message::backend as tags;

use crate::deadline::Deadline;
use crate::driver::{Flow, Job};
use crate::error::{Error, Reason, Result};

use super::errors::ServerError;
use super::guard_statement;
use super::guard_statement::ServerRole;
use super::styles::TextStyles;
use super::types::ServerTypes;
use super::wire::{Link, Message, PgRow, ResultShape, RowBounds, TooLong, ValueSpans};

/// `CopyBothResponse`, which only replication sends.
const COPY_BOTH_TAG: u8 = b'W';
/// A sink that wants no more rows lets the rest of a small result pass; a large one costs the session.
const REST_BYTES: usize = 256 * 1024;
const REST_TIME: Duration = Duration::from_millis(50);
/// So many bytes of notices and settings may come between two rows.
const CHATTER: usize = 1 << 20;

/// Why an exchange did not come to its end.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The server refuses what the session asked for itself, and is ready for more.
    Refused(ServerError),
    /// The deadline passed.
    Late,
    /// The session is dead.
    Lost(Error),
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> Self {
        if let Some(too_long) = TooLong::of(&error) {
            return ExchangeError::Lost(too_long.of_query(None));
        }
        let message = match error.kind() {
            io::ErrorKind::TimedOut => return ExchangeError::Late,
            io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
            io::ErrorKind::InvalidData if error.get_ref().is_none() => {
                let message = "the server sent what is no message of PostgreSQL's protocol";
                return ExchangeError::Lost(Error::new(Reason::Protocol, message));
            }
            _ => format!("the connection broke: {error}"),
        };
        ExchangeError::Lost(Error::new(Reason::Lost, message))
    }
}

/// A job that is over.
pub(super) struct JobOutcome {
    /// What its sink is told.
    pub(super) verdict: Result<(), JobFailure>,
    /// The sink was told of columns: the job cannot be tried another way.
    pub(super) begun: bool,
    /// When its last row came.
    pub(super) at: Instant,
    /// How long it took by the server's clock; unknown after an error.
    pub(super) took: Option<Duration>,
    /// What is still to be read.
    pub(super) left: Remaining,
}

impl JobOutcome {
    /// The server has run it, and nothing is left to be read of it.
    pub(super) fn has_run(&self) -> bool {
        let is_read =
            matches!(self.left, Remaining::GroupWriter | Remaining::Nothing(TransactionStatus::None));
        is_read && !matches!(self.verdict, Err(JobFailure::Server(_)))
    }

    /// An error that says nothing of the statements before it: the server has stopped it at one of the marker's limits, or
    /// its table is another one after DDL.
    pub(super) fn failed_by_itself(&self) -> bool {
        matches!(
            &self.verdict,
            Err(JobFailure::Server(error))
                if matches!(error.code.as_str(), "57014" | "55P03") || error.is_of_another_shape()
        )
    }
}

/// What the server still says after the answer to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remaining {
    /// A rest that is not worth reading: only a new session leads out of it.
    Unread,
    /// The answers to the jobs behind it in its group.
    GroupWriter,
    /// Nothing: it is ready for the next query, outside a transaction, or inside one that must be rolled back.
    Nothing(TransactionStatus),
}

/// Whose fault a failure is.
pub(super) enum JobFailure {
    /// The server's.
    Server(ServerError),
    /// The sink's, or ours.
    Ours(Error),
}

/// What a `ReadyForQuery` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransactionStatus {
    None,
    Open,
}

/// The answer being read.
pub(super) struct ResponseReader<'r, 'q> {
    job: &'r mut Job<'q>,
    types: &'r ServerTypes,
    /// What the rows look like; unknown until the server describes them where it was not asked before.
    shape: Option<Arc<ResultShape>>,
    /// Results before ours: those of the marker.
    before: usize,
    /// Other jobs come before the next `ReadyForQuery`.
    leads: bool,
    /// What the server is, as its session was opened for: another one must not answer.
    bound_to: Option<ServerRole>,
    /// The row of the marker before it.
    began: Option<guard_statement::GuardRow>,
    /// The row of the marker behind it.
    pub(super) ended: Option<guard_statement::GuardRow>,
    /// How the server writes texts, where a marker told.
    styles: TextStyles,
    bounds: RowBounds,
    /// The sink knows its columns.
    begun: bool,
    /// Our result is complete since.
    complete: Option<Instant>,
    /// The sink's own end.
    stopped: Option<Result<()>>,
    error: Option<ServerError>,
    rest: usize,
}

impl<'r, 'q> ResponseReader<'r, 'q> {
    /// `before` counts the results that come before the job's own.
    pub(super) fn new(
        job: &'r mut Job<'q>,
        types: &'r ServerTypes,
        shape: Option<Arc<ResultShape>>,
        before: usize,
    ) -> Self {
        let bounds = RowBounds::of_rows(job.max_cell_bytes);
        ResponseReader {
            job,
            types,
            bounds,
            shape,
            before,
            leads: false,
            bound_to: None,
            began: None,
            ended: None,
            styles: TextStyles::default(),
            begun: false,
            complete: None,
            stopped: None,
            error: None,
            rest: 0,
        }
    }

    /// Of a job in a group, each having the next one's marker behind it, the last one a marker alone. Where others
    /// follow under one `Sync` (`leads`), a good answer ends with the row of that marker. `began` is its own marker's
    /// row, when the job before it has read that.
    pub(super) fn grouped(mut self, leads: bool, began: Option<guard_statement::GuardRow>) -> Self {
        (self.leads, self.began) = (leads, began);
        self
    }

    /// Lets only a server answer that is still this.
    pub(super) fn bound_to(mut self, standing: Option<ServerRole>) -> Self {
        self.bound_to = standing;
        self
    }

    /// What the server is by the latest marker.
    pub(super) fn standing(&self) -> Option<ServerRole> {
        self.ended.or(self.began).and_then(|row| row.standing)
    }

    /// A fingerprint of the settings that others read by, where the marker before the query told.
    pub(super) fn settings_before(&self) -> Option<u64> {
        self.began.and_then(|row| row.fingerprint)
    }

    /// The same of the marker behind it.
    pub(super) fn settings_behind(&self) -> Option<u64> {
        self.ended.and_then(|row| row.fingerprint)
    }

    /// They are not those behind the query that they were before it.
    pub(super) fn has_changed_settings(&self) -> bool {
        self.settings_before().zip(self.settings_behind()).is_some_and(|(before, behind)| before != behind)
    }

    /// Ends the session of a server that has become another: what it answers is not what was asked for.
    fn check_standing(&self) -> Result<(), ExchangeError> {
        match (self.bound_to, self.began.and_then(|row| row.standing)) {
            (Some(wanted), Some(found)) if wanted != found => Err(ExchangeError::Lost(has_changed(found))),
            _ => Ok(()),
        }
    }

    /// Reads up to the server's `ReadyForQuery`, or until the rest is not worth reading.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub(super) fn read(
        &mut self,
        link: &mut Link,
        spans: &mut ValueSpans,
        by: Deadline,
    ) -> Result<JobOutcome, ExchangeError> {
        let mut by = by;
        let mut chatter = 0;
        self.check_standing()?;
        loop {
            let next = link.next(by, self.bounds).and_then(|frame| {
                chatter = if frame.tag == tags::DATA_ROW_TAG { 0 } else { chatter + frame.len() };
                match chatter {
                    ..=CHATTER => Ok(frame),
                    length => Err(TooLong::Message { length, most: CHATTER }.into()),
                }
            });
            let frame = match next {
                Ok(frame) => frame,
                Err(error) if self.stopped.is_some() && error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(self.over(Remaining::Unread));
                }
                Err(error) => {
                    let Some(too_long) = TooLong::of(&error) else { return Err(error.into()) };
                    let shape = self.shape.as_deref().filter(|_| self.before == 0);
                    self.stopped.get_or_insert_with(|| Err(too_long.of_query(shape)));
                    self.begun = true;
                    return Ok(self.over(Remaining::Unread));
                }
            };
            let had_stopped = self.stopped.is_some();
            if let Some(left) = self.take(link, spans, &frame)? {
                return Ok(self.over(left));
            }
            if self.stopped.is_some() {
                self.rest += frame.len();
                if !had_stopped {
                    by = by.or_within(REST_TIME);
                }
                if self.rest > REST_BYTES {
                    return Ok(self.over(Remaining::Unread));
                }
            }
        }
    }

    fn over(&mut self, left: Remaining) -> JobOutcome {
        let verdict = match (self.stopped.take(), self.error.take()) {
            (Some(end), _) => end.map_err(JobFailure::Ours),
            (None, Some(error)) => Err(JobFailure::Server(error)),
            (None, None) => Ok(()),
        };
        let seconds = self.began.zip(self.ended).map(|(began, ended)| (ended.clock - began.clock).max(0.0));
        let took = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        JobOutcome { verdict, begun: self.begun, at: self.complete.unwrap_or_else(Instant::now), took, left }
    }

    /// One message; `Some` at the end of the answer.
    fn take(
        &mut self,
        link: &mut Link,
        spans: &mut ValueSpans,
        frame: &Message,
    ) -> Result<Option<Remaining>, ExchangeError> {
        let open = self.before == 0 && self.complete.is_none() && self.error.is_none();
        let ours = open && self.stopped.is_none();
        match frame.tag {
            tags::DATA_ROW_TAG if ours => self.row(link, spans, frame),
            tags::DATA_ROW_TAG if self.before > 0 => {
                self.began = guard_statement::row(link.body(frame)).or(self.began);
                if self.shape.is_none() {
                    self.styles = guard_statement::styles(link.body(frame)).unwrap_or_default();
                }
                self.check_standing()?;
            }
            tags::DATA_ROW_TAG if self.complete.is_some() => {
                self.ended = self.ended.or_else(|| guard_statement::row(link.body(frame)));
                if self.leads {
                    return Ok(Some(Remaining::GroupWriter));
                }
            }
            tags::ROW_DESCRIPTION_TAG if ours => {
                let mut shape = ResultShape::read(link.body(frame)).ok_or_else(garbled)?;
                self.types.complete(&mut shape);
                if !shape.has_chosen_formats() {
                    // Its types are not those that the formats were chosen for.
                    self.error.get_or_insert_with(ServerError::of_changed_types);
                }
                shape.styles = std::mem::take(&mut self.styles);
                self.shape = Some(Arc::new(shape));
            }
            tags::COMMAND_COMPLETE_TAG | tags::EMPTY_QUERY_RESPONSE_TAG | tags::PORTAL_SUSPENDED_TAG
                if self.before > 0 =>
            {
                self.before -= 1;
            }
            tags::COMMAND_COMPLETE_TAG | tags::EMPTY_QUERY_RESPONSE_TAG if open => {
                self.complete = Some(Instant::now());
                if ours {
                    self.begin();
                }
            }
            tags::ERROR_RESPONSE_TAG => {
                let error = ServerError::read(link.body(frame));
                if error.fatal {
                    return Err(ExchangeError::Lost(error.of_statement(self.job.sql.text())));
                }
                self.error.get_or_insert(error);
            }
            tags::READY_FOR_QUERY_TAG => {
                return Ok(Some(Remaining::Nothing(TransactionStatus::read(link.body(frame)))));
            }
            tags::COPY_IN_RESPONSE_TAG | tags::COPY_OUT_RESPONSE_TAG | COPY_BOTH_TAG => {
                // The server now expects or sends a stream of its own; only a new session leads out of it.
                self.stopped = Some(Err(Error::new(Reason::Sql, "COPY has no rows to export")));
                self.rest = REST_BYTES;
            }
            _ => {}
        }
        Ok(None)
    }

    fn begin(&mut self) {
        if self.begun {
            return;
        }
        self.begun = true;
        let columns = self.shape.as_ref().map(|shape| shape.columns.as_slice()).unwrap_or_default();
        if let Err(error) = self.job.sink.columns(columns) {
            self.stopped = Some(Err(error));
        }
    }

    fn row(&mut self, link: &mut Link, spans: &mut ValueSpans, frame: &Message) {
        self.begin();
        let (None, Some(shape)) = (&self.stopped, &self.shape) else { return };
        let flow = spans.find(link.body_mut(frame), shape, self.bounds).and_then(|()| {
            let line = PgRow { body: link.body(frame), spans, shape };
            self.job.sink.row(&line)
        });
        match flow {
            Ok(Flow::Continue) => {}
            Ok(Flow::Stop) => self.stopped = Some(Ok(())),
            Err(error) => self.stopped = Some(Err(error)),
        }
    }
}

impl TransactionStatus {
    /// The status byte of `ReadyForQuery`: anything but idle must be rolled back.
    pub(super) fn read(body: &[u8]) -> Self {
        if body == b"I" { TransactionStatus::None } else { TransactionStatus::Open }
    }
}

/// The server's role or its mode is not the one that the session was opened for.
pub(super) fn has_changed(found: ServerRole) -> Error {
    let now = match found {
        ServerRole { standby: true, .. } => "a standby",
        ServerRole { read_only: Some(true), .. } => "read-only",
        ServerRole { read_only: Some(false), .. } => "read-write",
        ServerRole { .. } => "a primary",
    };
    Error::new(
        Reason::Connect,
        format!("the server is {now} now, and target_session_attrs asked for another"),
    )
}

pub(super) fn garbled() -> ExchangeError {
    ExchangeError::Lost(Error::new(
        Reason::Protocol,
        "the server's description of the result cannot be read, or has more than 4,096 columns",
    ))
}
