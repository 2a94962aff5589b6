//! Messages on a stream: one reusable read buffer, frames and rows read in place, one buffer of what to send.
//!
//! Owns lengths and borders, not what a message means, and lets none in that is longer than its kind may be: what a
//! length announces is checked before anything is kept for it. Source: PostgreSQL's documentation, chapter "Message Formats".

use std::fmt;
use std::io;
use std::ops::Range;

use postgres_protocol::message::backend as tags;

use std::time::Duration;

use bytes::BytesMut;

use crate::deadline::Deadline;
use crate::driver::{Column, Row, bounded_text};
use crate::error::{Error, Reason, Result};
use crate::value::Cell;

use super::advice;
use super::stream::Stream;
use super::styles::TextStyles;
use super::values::{ValueType, settle};

/// The read buffer of a batch: what a server sends at once. A session that does nothing has none.
const READ: usize = 8 * 1024;
/// What it grows to while rows stream.
const BUSY: usize = 64 * 1024;
/// The longest error, notice or description of a result.
const LONGEST_TEXT: usize = 1 << 20;
/// The longest message of any other kind but rows.
const LONGEST_OTHER: usize = 64 * 1024;
/// The longest row, where no single value may be longer.
const LONGEST_ROW: usize = 16 << 20;
/// The most columns of a result: PostgreSQL itself has at most 1,664.
const MOST_COLUMNS: usize = 4_096;
/// So much is read at once of what nobody wants any more, and so much in all.
const UNWANTED: (usize, usize) = (16 << 20, 64 << 20);

/// How long rows may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowBounds {
    /// One value.
    cell: usize,
    /// A row.
    row: usize,
}

impl RowBounds {
    /// Of a query's rows.
    pub(super) fn of_rows(max_cell_bytes: usize) -> Self {
        RowBounds { cell: max_cell_bytes, row: LONGEST_ROW.max(max_cell_bytes.saturating_add(LONGEST_TEXT)) }
    }

    /// Of the answer to a question of the session's own.
    pub(super) fn of_answers(most: usize) -> Self {
        RowBounds { cell: most, row: most }
    }
}

/// What a server sent is longer than it may be. It is not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooLong {
    /// The value of a column.
    Cell { column: usize, length: usize, most: usize },
    /// A row, though each of its values is short enough, or the answer to a question of ours.
    Row { length: usize, most: usize },
    /// A message of another kind.
    Message { length: usize, most: usize },
}

impl TooLong {
    /// What an error of [`Link::next`] says.
    pub(super) fn of(error: &io::Error) -> Option<TooLong> {
        error.get_ref()?.downcast_ref::<TooLong>().copied()
    }

    /// The error of a query whose result looks so.
    pub(super) fn of_query(self, shape: Option<&ResultShape>) -> Error {
        let TooLong::Cell { column, .. } = self else { return Error::new(Reason::Limit, self.to_string()) };
        let column = shape.and_then(|shape| shape.columns.get(column));
        let named =
            column.map_or(String::new(), |column| format!("column {} ({}): ", column.name, column.type_name));
        Error::new(Reason::Limit, format!("{named}{self}"))
            .with_hint("select less of it, as with left(…, 200), or raise exporter.max_cell_bytes")
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, length, most) = match *self {
            TooLong::Cell { length, most, .. } => ("a value", length, most),
            TooLong::Row { length, most } => ("a row", length, most),
            TooLong::Message { length, most } => ("a message of the server", length, most),
        };
        write!(f, "{what} has {length} bytes, and at most {most} are taken")
    }
}

impl std::error::Error for TooLong {}

impl From<TooLong> for io::Error {
    fn from(too_long: TooLong) -> Self {
        io::Error::new(io::ErrorKind::QuotaExceeded, too_long)
    }
}

/// One message: its tag and where its body lies. Valid until the next one is asked for.
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

/// Both directions of one session.
pub(super) struct Link {
    stream: Stream,
    /// Read and not yet handed out: `input[start..end]`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// What [`Link::send`] sends.
    pub(super) out: BytesMut,
    /// So often the server has to say that it is ready until all is answered that it was asked.
    owed: usize,
    /// The connection has ended, or what follows cannot be understood.
    is_dead: bool,
    /// What is left of a message that nobody wants any more, and how much was read of such.
    unwanted: (usize, usize),
}

impl Link {
    /// Takes over after the login.
    pub(super) fn new(stream: Stream) -> Self {
        stream.allow_all();
        let (owed, is_dead, unwanted) = Default::default();
        Link { stream, input: Vec::new(), start: 0, end: 0, out: BytesMut::new(), owed, is_dead, unwanted }
    }

    /// Sends what is in `out` and empties it. One round of messages always fits the socket's buffers, as the server
    /// reads a message whole before it answers: nothing is read meanwhile.
    pub(super) fn send(&mut self, by: Deadline) -> io::Result<()> {
        let sent = self.stream.write_all(&self.out, by);
        self.owed += questions(&self.out);
        // What was sent in part is never answered.
        self.is_dead |= sent.is_err();
        self.out.clear();
        sent
    }

    /// The next message.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, `UnexpectedEof`, `InvalidData` for an impossible length; [`TooLong`], after which only
    /// [`Link::has_ended`] is of use.
    pub(super) fn next(&mut self, by: Deadline, bounds: RowBounds) -> io::Result<Message> {
        let frame = self.await_frame(by, bounds);
        match &frame {
            Ok(frame) if frame.tag == tags::READY_FOR_QUERY_TAG => self.owed = self.owed.saturating_sub(1),
            Ok(_) => {}
            Err(error) => {
                self.is_dead |= error.kind() != io::ErrorKind::TimedOut && TooLong::of(error).is_none();
            }
        }
        frame
    }

    fn await_frame(&mut self, by: Deadline, bounds: RowBounds) -> io::Result<Message> {
        loop {
            if let Some(frame) = self.split(bounds)? {
                return Ok(frame);
            }
            self.fill(by)?;
        }
    }

    /// Tag and length of the message at the start.
    fn head(&self) -> io::Result<Option<(u8, usize)>> {
        let Some(&[tag, a, b, c, d, ..]) = self.input.get(self.start..self.end) else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 4 { Err(io::ErrorKind::InvalidData.into()) } else { Ok(Some((tag, length))) }
    }

    fn split(&mut self, bounds: RowBounds) -> io::Result<Option<Message>> {
        let Some((tag, length)) = self.head()? else { return Ok(None) };
        let most = match tag {
            tags::DATA_ROW_TAG => bounds.row,
            tags::ERROR_RESPONSE_TAG
            | tags::NOTICE_RESPONSE_TAG
            | tags::ROW_DESCRIPTION_TAG
            | tags::PARAMETER_DESCRIPTION_TAG => LONGEST_TEXT,
            _ => LONGEST_OTHER,
        };
        if length > most && tag != tags::DATA_ROW_TAG {
            return Err(TooLong::Message { length, most }.into());
        }
        let body = self.start + 5..self.start.saturating_add(1).saturating_add(length);
        if body.end <= self.end {
            self.start = body.end;
            return Ok(Some(Message { tag, body }));
        }
        if tag == tags::DATA_ROW_TAG && length > bounds.cell.min(most) {
            // Which value it is: its length comes before it.
            if let Some(too_long) =
                long_cell(self.input.get(body.start..self.end).unwrap_or_default(), bounds.cell)
            {
                return Err(too_long.into());
            }
            if length > most {
                return Err(TooLong::Row { length, most }.into());
            }
        }
        Ok(None)
    }

    fn fill(&mut self, by: Deadline) -> io::Result<()> {
        // The buffer grows by what has arrived, not by what a length promises, and not beyond the message.
        let was_full = self.end == self.input.len() && self.input.len() < BUSY;
        self.input.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if was_full || self.end == self.input.len() {
            let wanted = self.head()?.map_or(0, |(_, length)| length.saturating_add(1)).max(BUSY);
            self.input.resize((self.input.len() * 2).clamp(READ, wanted), 0);
        }
        let count = self.stream.read(self.input.get_mut(self.end..).unwrap_or_default(), by)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += count;
        Ok(())
    }

    /// True when the server has answered all that it was asked, or nothing more will come. Takes what has come, without
    /// keeping it, and does not wait. From then on the link serves for nothing else.
    pub(super) fn has_ended(&mut self) -> bool {
        if self.owed == 0 || self.is_dead || self.stream.do_not_wait().is_err() {
            return true;
        }
        let before = self.unwanted.1;
        loop {
            self.pass_over();
            let (at_once, in_all) = UNWANTED;
            // Who sends on and on notices that nobody reads any more when the connection closes.
            if self.owed == 0 || self.is_dead || self.unwanted.1 > in_all {
                return true;
            }
            if self.unwanted.1 - before > at_once {
                return false;
            }
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.input.resize(BUSY, 0);
            let unread = self.input.get_mut(self.end..).unwrap_or_default();
            match self.stream.read(unread, Deadline::within(Duration::from_secs(1))) {
                Ok(0) => self.is_dead = true,
                Ok(count) => {
                    self.end += count;
                    self.unwanted.1 += count;
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return false,
                Err(_) => self.is_dead = true,
            }
        }
    }

    /// Passes over the messages that have come, whole or in part.
    fn pass_over(&mut self) {
        loop {
            let part = self.unwanted.0.min(self.end - self.start);
            self.start += part;
            self.unwanted.0 -= part;
            if self.unwanted.0 > 0 {
                return;
            }
            match self.head() {
                Ok(Some((tag, length))) => {
                    self.owed -= usize::from(tag == tags::READY_FOR_QUERY_TAG && self.owed > 0);
                    self.start += 5;
                    self.unwanted.0 = length - 4;
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
    pub(super) fn body(&self, frame: &Message) -> &[u8] {
        self.input.get(frame.body.clone()).unwrap_or_default()
    }

    /// The body of a message, to settle values in.
    pub(super) fn body_mut(&mut self, frame: &Message) -> &mut [u8] {
        self.input.get_mut(frame.body.clone()).unwrap_or_default()
    }

    /// Gives memory back between batches.
    pub(super) fn rest(&mut self) {
        self.input = self.input.get(self.start..self.end).unwrap_or_default().to_vec();
        (self.start, self.end) = (0, self.input.len());
        self.out = BytesMut::new();
    }
}

/// How many of these messages the server answers by saying that it is ready.
fn questions(mut messages: &[u8]) -> usize {
    let mut count = 0;
    while let [tag, a, b, c, d, ..] = *messages {
        count += usize::from(matches!(tag, b'Q' | b'S'));
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        messages = messages.get(length.saturating_add(1)..).unwrap_or_default();
    }
    count
}

/// The first value of a row that is longer than `most`, as far as the row's body has come.
fn long_cell(body: &[u8], most: usize) -> Option<TooLong> {
    let mut fields = Fields(body);
    for column in 0..usize::from(fields.short()?) {
        match fields.long()? {
            u32::MAX => {}
            length if length as usize > most => {
                return Some(TooLong::Cell { column, length: length as usize, most });
            }
            length => drop(fields.bytes(length as usize)?),
        }
    }
    None
}

/// Reads the fields of a message's body one after the other; `None` where it ends too early.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
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

    /// A value with its length before it; `None` inside for NULL.
    pub(super) fn value(&mut self) -> Option<Option<&'a [u8]>> {
        match self.long()? {
            u32::MAX => Some(None),
            length => self.bytes(length as usize).map(Some),
        }
    }

    /// So many bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    /// Text up to a zero byte; what is not UTF-8 is left out.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = rest.get(1..)?;
        Some(match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(text.get(..error.valid_up_to())?).unwrap_or_default(),
        })
    }
}

/// What a statement's result looks like.
#[derive(Debug, Clone, Default)]
pub(super) struct ResultShape {
    /// Name and type of each column.
    pub(super) columns: Vec<Column>,
    /// What each column's values mean.
    pub(super) kinds: Vec<ValueType>,
    /// For each column whether its values come in binary (1) or as text (0); empty when all are text.
    pub(super) formats: Vec<i16>,
    /// How the server writes what comes as text.
    pub(super) styles: TextStyles,
    /// The type OIDs of columns that only this server knows, by column.
    pub(super) unknown: Vec<(usize, u32)>,
}

impl ResultShape {
    /// Reads a `RowDescription`. A domain comes as its base type.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let mut shape = ResultShape::default();
        let count = usize::from(fields.short()?);
        if count > MOST_COLUMNS {
            return None;
        }
        for column in 0..count {
            let name = bounded_text::cut(fields.text()?, bounded_text::NAME).into();
            let (_table, _number) = (fields.long()?, fields.short()?);
            let oid = fields.long()?;
            let (_size, _modifier, format) = (fields.short()?, fields.long()?, fields.short()?);
            let kind = ValueType::of(oid);
            if kind.is_none() {
                shape.unknown.push((column, oid));
            }
            let kind = kind.unwrap_or(ValueType::Other);
            let (type_name, content) = (super::values::type_name(oid).into(), kind.content());
            shape.kinds.push(kind);
            shape.formats.push(i16::from(format == 1));
            shape.columns.push(Column { name, type_name, advice: advice::of(oid), quote: '"', content });
        }
        Some(shape)
    }

    /// Asks for the formats that are read best. A statement's own description does not tell them.
    pub(super) fn choose_formats(&mut self) {
        let binary = |kind: &ValueType| i16::from(kind.is_binary());
        self.formats = match self.kinds.iter().any(|kind| kind.is_binary()) {
            true => self.kinds.iter().map(binary).collect(),
            false => Vec::new(),
        };
    }

    /// True where values come as they were asked for; false after the statement's types have changed.
    pub(super) fn has_chosen_formats(&self) -> bool {
        self.kinds.iter().zip(&self.formats).all(|(kind, format)| *format == 0 || kind.is_binary())
    }

    fn is_binary(&self, column: usize) -> bool {
        self.formats.get(column) == Some(&1)
    }
}

/// Where one value lies in a row's body; `None` is NULL.
type Span = Option<(usize, usize)>;

/// The spans of one row after the other, in one allocation.
#[derive(Default)]
pub(super) struct ValueSpans(Vec<Span>);

impl ValueSpans {
    /// Finds the values of a `DataRow` and settles those that are rewritten in place.
    ///
    /// # Errors
    /// `protocol`, when the row is not what its description says; `limit`.
    pub(super) fn find(&mut self, body: &mut [u8], shape: &ResultShape, bounds: RowBounds) -> Result<()> {
        self.0.clear();
        let wrong =
            || Error::new(Reason::Protocol, "the server sent a row that its description does not fit");
        let mut fields = Fields(body);
        let count = usize::from(fields.short().ok_or_else(wrong)?);
        if count != shape.kinds.len() {
            return Err(wrong());
        }
        let mut at = 2;
        for column in 0..count {
            let length = fields.long().ok_or_else(wrong)?;
            at += 4;
            if length == u32::MAX {
                self.0.push(None);
                continue;
            }
            let length = length as usize;
            if length > bounds.cell {
                return Err(TooLong::Cell { column, length, most: bounds.cell }.of_query(Some(shape)));
            }
            let end = at + length;
            fields.0 = body.get(end..).ok_or_else(wrong)?;
            self.0.push(Some((at, end)));
            at = end;
        }
        for (column, (span, kind)) in self.0.iter_mut().zip(&shape.kinds).enumerate() {
            if let (Some((start, end)), true) = (span, kind.is_rewritten() && !shape.is_binary(column)) {
                let bytes = body.get_mut(*start..*end).ok_or_else(wrong)?;
                *end =
                    *start + settle(*kind, &shape.styles, bytes).ok_or_else(|| unreadable(shape, column))?;
            }
        }
        Ok(())
    }
}

fn unreadable(shape: &ResultShape, column: usize) -> Error {
    let (name, type_name) =
        shape.columns.get(column).map_or(("?", "?"), |column| (&column.name, &column.type_name));
    let kind = shape.kinds.get(column).filter(|_| !shape.is_binary(column));
    match kind.and_then(|kind| kind.unreadable_in(&shape.styles)) {
        Some(setting) => Error::new(
            Reason::Value,
            format!("column {name} ({type_name}): with {setting} its text cannot be read exactly"),
        )
        .with_hint(format!("select extract(epoch FROM {name}), or leave out params: {{protocol: simple}}")),
        None => {
            Error::new(Reason::Protocol, format!("column {name}: the server sent what is not a {type_name}"))
        }
    }
}

/// One row, read in place.
pub(super) struct PgRow<'a> {
    pub(super) body: &'a [u8],
    pub(super) spans: &'a ValueSpans,
    pub(super) shape: &'a ResultShape,
}

impl Row for PgRow<'_> {
    fn cell(&self, column: usize) -> Result<Cell<'_>> {
        let wrong = || unreadable(self.shape, column);
        let (span, kind) = self.spans.0.get(column).zip(self.shape.kinds.get(column)).ok_or_else(wrong)?;
        let Some((start, end)) = span else { return Ok(Cell::Null) };
        let bytes = self.body.get(*start..*end).ok_or_else(wrong)?;
        let cell = match self.shape.is_binary(column) {
            true => kind.binary_cell(bytes),
            false => kind.cell(bytes, &self.shape.styles),
        };
        cell.ok_or_else(wrong)
    }
}
