//! One connection: messages in both directions, and the questions that the exporter asks for itself.
//!
//! Owns a read buffer, in which messages are read in place, and one buffer of what to send. It lets no message
//! in that is longer than its kind may be: a length is checked before anything is kept for it. What a query's messages mean
//! is `request`'s and `response`'s. Source: PostgreSQL's documentation, chapter "Message Formats".

use std::fmt;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::{backend as tags, frontend};

use crate::deadline::Deadline;
use crate::driver::ServerWork;
use crate::driver::connection::read_buffer::{BUSY_READ_BYTES, ReadBuffer};
use crate::driver::connection::stream::ServerStream;
use crate::error::{Error, Reason, Result};

use super::errors::ServerError;
use super::guard_statement;
use super::result_shape::{ResultShape, ServerTypes};

/// The longest error, notice, setting or description of a result.
const MAX_TEXT_MESSAGE: usize = 1 << 20;
/// The longest message of any other kind but rows.
const MAX_OTHER_MESSAGE: usize = 64 * 1024;
/// The longest row, where no single value may be longer.
const MAX_ROW: usize = 16 << 20;
/// The longest answer to a question of the exporter's own.
const MAX_ANSWER: usize = 1 << 20;
/// How much of what nobody reads any more is skipped in one call, and in all.
const MAX_SKIPPED_AT_ONCE: usize = 16 << 20;
const MAX_SKIPPED: usize = 64 << 20;

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

impl ExchangeError {
    /// The error of something that a session does for itself.
    pub(super) fn while_doing(self, what: &str) -> Error {
        match self {
            ExchangeError::Refused(error) => {
                let error = error.of_statement("");
                error.code_for(Error::new(error.reason(), format!("{what}: {}", error.message())))
            }
            ExchangeError::Late => Error::new(Reason::Timeout, format!("{what}: no answer in time")),
            ExchangeError::Lost(error) => error,
        }
    }

    /// A description of a result that cannot be read.
    pub(super) fn garbled() -> Self {
        let message = "the server's description of the result cannot be read, or has more than 4,096 columns";
        ExchangeError::Lost(Error::new(Reason::Protocol, message))
    }
}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> Self {
        if let Some(too_long) = TooLong::of(&error) {
            return ExchangeError::Lost(too_long.of_query(None));
        }
        ExchangeError::Lost(match error.kind() {
            io::ErrorKind::TimedOut => return ExchangeError::Late,
            io::ErrorKind::UnexpectedEof => Error::new(Reason::Lost, "the server closed the connection"),
            io::ErrorKind::InvalidData if error.get_ref().is_none() => {
                let message = "the server sent something that is not a message of PostgreSQL's protocol";
                Error::new(Reason::Protocol, message)
            }
            _ => Error::new(Reason::Lost, format!("the connection broke: {error}")),
        })
    }
}

/// How long rows may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowBounds {
    /// One value.
    pub(super) cell: usize,
    row: usize,
}

impl RowBounds {
    /// Of the answer to a question of the exporter's own.
    pub(super) const OF_ANSWER: RowBounds = RowBounds { cell: MAX_ANSWER, row: MAX_ANSWER };

    /// Of a query's rows.
    pub(super) fn of_query(max_cell_bytes: usize) -> Self {
        let row = MAX_ROW.max(max_cell_bytes.saturating_add(MAX_TEXT_MESSAGE));
        RowBounds { cell: max_cell_bytes, row }
    }
}

/// What a server sent is longer than it may be. It is not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong {
    pub(super) what: LongPart,
    pub(super) length: usize,
    pub(super) most: usize,
}

/// What is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LongPart {
    /// The value of a column.
    Cell(usize),
    /// A row, although each of its values is short enough, or the answer to a question of ours.
    Row,
    /// A message of another kind.
    Message,
    /// Notices between two rows.
    Notices,
}

impl TooLong {
    /// What an error of [`PgConnection::next`] says.
    pub(super) fn of(error: &io::Error) -> Option<TooLong> {
        error.get_ref()?.downcast_ref::<TooLong>().copied()
    }

    /// The error of a query whose result has this shape.
    pub(super) fn of_query(self, shape: Option<&ResultShape>) -> Error {
        let (column, hint) = match self.what {
            LongPart::Cell(column) => (
                shape.and_then(|shape| shape.columns.get(column)),
                "select less of it, as with left(…, 200), or raise exporter.max_cell_bytes",
            ),
            LongPart::Notices => {
                (None, "session_sql: \"SET LOCAL client_min_messages = 'warning'\" keeps them in the server")
            }
            LongPart::Row | LongPart::Message => {
                return Error::new(Reason::Limit, self.to_string());
            }
        };
        let named = column.map(|column| format!("column {} ({}): ", column.name, column.type_name));
        Error::new(Reason::Limit, format!("{}{self}", named.unwrap_or_default())).with_hint(hint)
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            LongPart::Cell(_) => "a value",
            LongPart::Row => "a row",
            LongPart::Message => "a message of the server",
            LongPart::Notices => "a flood of notices",
        };
        write!(f, "{what} has {} bytes, and at most {} are read", self.length, self.most)
    }
}

impl std::error::Error for TooLong {}

impl From<TooLong> for io::Error {
    fn from(too_long: TooLong) -> Self {
        io::Error::new(io::ErrorKind::QuotaExceeded, too_long)
    }
}

/// One message: its tag and where its body is. Valid until the next one is asked for.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// The first byte of the message.
    pub(super) tag: u8,
    body: Range<usize>,
}

impl Message {
    /// Bytes on the wire.
    pub(super) fn len(&self) -> usize {
        self.body.len() + 5
    }
}

/// One row as text.
pub(super) type TextRow = Vec<Option<String>>;

/// A connection to a server.
pub(super) struct PgConnection {
    stream: ServerStream,
    input: ReadBuffer,
    /// What [`PgConnection::send`] sends.
    pub(super) out: BytesMut,
    /// How often the server still has to say that it is ready until everything sent is answered.
    unanswered: usize,
    /// The connection has ended, or what follows cannot be understood.
    is_dead: bool,
    /// What is left of a message that nobody reads any more.
    to_skip: usize,
    skipped: usize,
    types: ServerTypes,
    /// The shortest round trip so far, once there was one.
    round_trip: Option<Duration>,
}

impl PgConnection {
    /// On a stream whose login is still to come.
    pub(super) fn new(stream: ServerStream) -> Self {
        PgConnection {
            stream,
            input: ReadBuffer::default(),
            out: BytesMut::new(),
            unanswered: 0,
            is_dead: false,
            to_skip: 0,
            skipped: 0,
            types: ServerTypes::default(),
            round_trip: None,
        }
    }

    pub(super) fn stream(&self) -> &ServerStream {
        &self.stream
    }

    /// Sends a message of a login.
    pub(super) fn send_login(&mut self, message: &[u8], by: Deadline) -> io::Result<()> {
        self.stream.write_all(message, by)
    }

    /// The login's budget ends; from now on each message has its bound alone.
    pub(super) fn end_login(&mut self) {
        self.stream.set_budget(None);
    }

    /// Sends what is in `out` and empties it. One round of messages always fits the socket's buffers, as the server
    /// reads a message whole before it answers: nothing is read meanwhile.
    pub(super) fn send(&mut self, by: Deadline) -> io::Result<()> {
        let sent = self.stream.write_all(&self.out, by);
        self.unanswered += expected_answers(&self.out);
        // A message that was sent in part is never answered.
        self.is_dead |= sent.is_err();
        self.out.clear();
        sent
    }

    /// The next message.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, `UnexpectedEof`, `InvalidData` for an impossible length; [`TooLong`], after which only
    /// [`PgConnection::server_work`] may be called.
    pub(super) fn next(&mut self, by: Deadline, bounds: RowBounds) -> io::Result<Message> {
        let message = self.await_message(by, bounds);
        match &message {
            Ok(message) => self.unanswered -= usize::from(self.is_answer(message.tag)),
            Err(error) => {
                self.is_dead |= error.kind() != io::ErrorKind::TimedOut && TooLong::of(error).is_none();
            }
        }
        message
    }

    fn is_answer(&self, tag: u8) -> bool {
        tag == tags::READY_FOR_QUERY_TAG && self.unanswered > 0
    }

    fn await_message(&mut self, by: Deadline, bounds: RowBounds) -> io::Result<Message> {
        loop {
            if let Some(message) = self.take_message(bounds)? {
                return Ok(message);
            }
            let longest = self.head()?.map_or(0, |(_, length)| length.saturating_add(1));
            self.input.fill(&mut self.stream, longest, by)?;
        }
    }

    /// Tag and length of the message at the start.
    fn head(&self) -> io::Result<Option<(u8, usize)>> {
        let [tag, a, b, c, d, ..] = *self.input.unread() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 4 { Err(io::ErrorKind::InvalidData.into()) } else { Ok(Some((tag, length))) }
    }

    /// The message at the start, once it is there as a whole.
    fn take_message(&mut self, bounds: RowBounds) -> io::Result<Option<Message>> {
        let Some((tag, length)) = self.head()? else { return Ok(None) };
        let is_row = tag == tags::DATA_ROW_TAG;
        let most = match tag {
            tags::DATA_ROW_TAG => bounds.row,
            tags::ERROR_RESPONSE_TAG
            | tags::NOTICE_RESPONSE_TAG
            | tags::PARAMETER_STATUS_TAG
            | tags::ROW_DESCRIPTION_TAG
            | tags::PARAMETER_DESCRIPTION_TAG => MAX_TEXT_MESSAGE,
            _ => MAX_OTHER_MESSAGE,
        };
        if length > most && !is_row {
            return Err(TooLong { what: LongPart::Message, length, most }.into());
        }
        if length < self.input.unread().len() {
            let whole = self.input.take(length + 1);
            return Ok(Some(Message { tag, body: whole.start + 5..whole.end }));
        }
        if is_row && length > bounds.cell.min(most) {
            // Which value it is: its length comes before it.
            let arrived = self.input.unread().get(5..).unwrap_or_default();
            if let Some(too_long) = first_long_cell(arrived, bounds.cell) {
                return Err(too_long.into());
            }
            if length > most {
                return Err(TooLong { what: LongPart::Row, length, most }.into());
            }
        }
        Ok(None)
    }

    /// Takes what has come, without keeping it, and does not wait. From then on the connection serves for nothing else.
    pub(super) fn server_work(&mut self) -> ServerWork {
        self.is_dead |= self.unanswered > 0 && self.stream.do_not_wait().is_err();
        let before = self.skipped;
        loop {
            self.skip_messages();
            if self.unanswered == 0 {
                return ServerWork::Answered;
            }
            // A server that sends on and on notices that nobody reads any more when the connection closes.
            if self.is_dead || self.skipped > MAX_SKIPPED {
                return ServerWork::Disconnected;
            }
            if self.skipped - before > MAX_SKIPPED_AT_ONCE {
                return ServerWork::GoesOn;
            }
            let soon = Deadline::within(Duration::from_secs(1));
            match self.input.fill(&mut self.stream, BUSY_READ_BYTES, soon) {
                Ok(count) => self.skipped += count,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return ServerWork::GoesOn,
                Err(_) => self.is_dead = true,
            }
        }
    }

    /// Passes over the messages that have come, whole or in part.
    fn skip_messages(&mut self) {
        loop {
            self.to_skip -= self.input.take(self.to_skip).len();
            if self.to_skip > 0 {
                return;
            }
            match self.head() {
                Ok(Some((tag, length))) => {
                    self.unanswered -= usize::from(self.is_answer(tag));
                    self.input.take(5);
                    self.to_skip = length - 4;
                }
                Ok(None) => return,
                Err(_) => {
                    self.is_dead = true;
                    return;
                }
            }
        }
    }

    /// The body of a message.
    pub(super) fn body(&self, message: &Message) -> &[u8] {
        self.input.get(&message.body)
    }

    /// The body of a message, to rewrite values in.
    pub(super) fn body_mut(&mut self, message: &Message) -> &mut [u8] {
        self.input.get_mut(&message.body)
    }

    /// Gives memory back between batches.
    pub(super) fn release_buffers(&mut self) {
        self.input.release();
        self.out = BytesMut::new();
    }

    /// An answer was on its way, there and back, no longer than this.
    pub(super) fn note_round_trip(&mut self, took: Duration) {
        self.round_trip = Some(self.round_trip.map_or(took, |shortest| shortest.min(took)));
    }

    /// How long a message to the server and its answer travel, as far as is known.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or_default()
    }

    /// What is known of the types that only this server has.
    pub(super) fn types(&self) -> &ServerTypes {
        &self.types
    }

    /// Runs `sql` by the simple protocol and collects its rows.
    pub(super) fn ask(&mut self, sql: &str, by: Deadline) -> Result<Vec<TextRow>, ExchangeError> {
        let start = Instant::now();
        frontend::query(sql, &mut self.out)?;
        self.send(by)?;
        let rows = self.rows(by);
        self.note_round_trip(start.elapsed());
        rows
    }

    /// The same where the names in `sql` are those of the server's catalog, whatever `search_path` says. Not in a
    /// snapshot, whose transaction would keep the path.
    pub(super) fn ask_catalog(&mut self, sql: &str, by: Deadline) -> Result<Vec<TextRow>, ExchangeError> {
        // One message is one transaction.
        let mut rows = self.ask(&format!("{}; {sql}", guard_statement::catalog_only()), by)?;
        rows.drain(..rows.len().min(1));
        Ok(rows)
    }

    /// Waits for the answer to what was sent, up to the next `ReadyForQuery`, and collects its rows.
    pub(super) fn rows(&mut self, by: Deadline) -> Result<Vec<TextRow>, ExchangeError> {
        let mut rows = Vec::new();
        self.collect(by, |tag, body| {
            if tag == tags::DATA_ROW_TAG {
                rows.push(text_row(body)?);
            }
            Some(())
        })?;
        Ok(rows)
    }

    /// The description of a statement's result; types that only this server has are without a name yet.
    pub(super) fn read_shape(&mut self, by: Deadline) -> Result<ResultShape, ExchangeError> {
        let mut shape = ResultShape::default();
        let mut parameters = 0;
        self.collect(by, |tag, body| {
            match tag {
                tags::ROW_DESCRIPTION_TAG => shape = ResultShape::read(body)?,
                tags::PARAMETER_DESCRIPTION_TAG => parameters = usize::from(MessageFields(body).short()?),
                _ => {}
            }
            Some(())
        })?;
        shape.parameters = parameters;
        Ok(shape)
    }

    /// Asks for the names of the types that are not known.
    pub(super) fn complete(&mut self, shapes: &mut [ResultShape], by: Deadline) -> Result<(), ExchangeError> {
        if let Some(question) = self.types.question(shapes) {
            for row in self.ask(&question, by)? {
                self.types.learn(&row);
            }
        }
        for shape in shapes {
            self.types.complete(shape);
            shape.choose_formats();
        }
        Ok(())
    }

    /// Reads up to the next `ReadyForQuery`. `take` gets every other message; `None` is one that it cannot read.
    pub(super) fn collect(
        &mut self,
        by: Deadline,
        mut take: impl FnMut(u8, &[u8]) -> Option<()>,
    ) -> Result<(), ExchangeError> {
        let mut refused = None;
        let mut length = 0;
        loop {
            let message = self.next(by, RowBounds::OF_ANSWER)?;
            if message.tag != tags::NOTIFICATION_RESPONSE_TAG {
                length += message.len();
            }
            if length > MAX_ANSWER {
                let message = "the server's answer to a question of the exporter's own is longer than 1 MiB";
                return Err(ExchangeError::Lost(Error::new(Reason::Limit, message)));
            }
            let body = self.body(&message);
            match message.tag {
                tags::ERROR_RESPONSE_TAG => {
                    let error = ServerError::read(body);
                    if error.fatal {
                        return Err(ExchangeError::Lost(error.of_statement("")));
                    }
                    refused = Some(error);
                }
                tags::READY_FOR_QUERY_TAG => {
                    return refused.map_or(Ok(()), |error| Err(ExchangeError::Refused(error)));
                }
                tag => take(tag, body).ok_or_else(ExchangeError::garbled)?,
            }
        }
    }

    /// Ends the session, so that neither the server nor a pooler logs a broken connection. It does not matter whether this
    /// arrives.
    pub(super) fn terminate(&mut self, by: Deadline) {
        self.out.clear();
        frontend::terminate(&mut self.out);
        let _ = self.send(by);
    }
}

/// How many of these messages the server answers by saying that it is ready.
fn expected_answers(mut messages: &[u8]) -> usize {
    let mut count = 0;
    while let [tag, a, b, c, d, ..] = *messages {
        count += usize::from(matches!(tag, b'Q' | b'S'));
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        messages = messages.get(length.saturating_add(1)..).unwrap_or_default();
    }
    count
}

/// The first value of a row that is longer than `most`, as far as the row's body has come.
fn first_long_cell(body: &[u8], most: usize) -> Option<TooLong> {
    let mut fields = MessageFields(body);
    for column in 0..usize::from(fields.short()?) {
        match fields.long()? {
            u32::MAX => {}
            length if length as usize > most => {
                return Some(TooLong { what: LongPart::Cell(column), length: length as usize, most });
            }
            length => drop(fields.bytes(length as usize)?),
        }
    }
    None
}

/// A row's values as text.
fn text_row(body: &[u8]) -> Option<TextRow> {
    let mut fields = MessageFields(body);
    let count = fields.short()?;
    let value = |_| Some(fields.value()?.map(|value| String::from_utf8_lossy(value).into_owned()));
    (0..count).map(value).collect()
}

/// Reads the fields of a message's body one after the other; `None` where it ends too early.
pub(super) struct MessageFields<'a>(pub(super) &'a [u8]);

impl<'a> MessageFields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// An unsigned 16-bit number.
    pub(super) fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// An unsigned 32-bit number.
    pub(super) fn long(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// So many bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    /// A value with its length before it; `None` inside for NULL.
    pub(super) fn value(&mut self) -> Option<Option<&'a [u8]>> {
        match self.long()? {
            u32::MAX => Some(None),
            length => self.bytes(length as usize).map(Some),
        }
    }

    /// Text up to a zero byte; from the first byte that is not UTF-8 on it is left out.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.bytes(end)?;
        self.byte()?;
        Some(str::from_utf8(text).unwrap_or_else(|error| {
            text.get(..error.valid_up_to()).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
        }))
    }
}
