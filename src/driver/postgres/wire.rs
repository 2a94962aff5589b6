//! Messages on a stream: one reusable read buffer, frames and rows read in place, one buffer of what to send.
//!
//! Owns lengths and borders, not what a message means. Source: PostgreSQL's documentation, chapter "Message Formats".

use std::io;
use std::ops::Range;

use bytes::BytesMut;

use crate::cell::Cell;
use crate::deadline::Deadline;
use crate::driver::{Column, Row};
use crate::error::{Error, Reason, Result};

use super::advice;
use super::stream::Stream;
use super::styles::Styles;
use super::values::{Kind, settle};

/// The read buffer of a batch: what a server sends at once. A session that does nothing has none.
const READ: usize = 8 * 1024;
/// What it grows to while rows stream.
const BUSY: usize = 64 * 1024;
/// The longest message a server sends: a value has at most 1 GiB.
const LONGEST: usize = (1 << 30) + (1 << 20);

/// One message: its tag and where its body lies. Valid until the next one is asked for.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// The first byte of the message.
    pub(super) tag: u8,
    body: Range<usize>,
}

impl Frame {
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
}

impl Link {
    /// Takes over after the login.
    pub(super) fn new(stream: Stream) -> Self {
        stream.allow_all();
        Link { stream, input: Vec::new(), start: 0, end: 0, out: BytesMut::new() }
    }

    /// Sends what is in `out` and empties it. One round of messages always fits the socket's buffers, as the server
    /// reads a message whole before it answers: nothing is read meanwhile.
    pub(super) fn send(&mut self, by: Deadline) -> io::Result<()> {
        let sent = self.stream.write_all(&self.out, by);
        self.out.clear();
        sent
    }

    /// The next message.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, `UnexpectedEof`, `InvalidData` for an impossible length.
    pub(super) fn next(&mut self, by: Deadline) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.split()? {
                return Ok(frame);
            }
            self.fill(by)?;
        }
    }

    fn split(&mut self) -> io::Result<Option<Frame>> {
        let Some(&[tag, a, b, c, d, ..]) = self.input.get(self.start..self.end) else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..=LONGEST).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let body = self.start + 5..self.start + 1 + length;
        if body.end > self.end {
            return Ok(None);
        }
        self.start = body.end;
        Ok(Some(Frame { tag, body }))
    }

    fn fill(&mut self, by: Deadline) -> io::Result<()> {
        // The buffer grows by what has arrived, not by what a length promises.
        let was_full = self.end == self.input.len() && self.input.len() < BUSY;
        self.input.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if was_full || self.end == self.input.len() {
            self.input.resize((self.input.len() * 2).max(READ), 0);
        }
        let count = self.stream.read(self.input.get_mut(self.end..).unwrap_or_default(), by)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += count;
        Ok(())
    }

    /// The body of a message.
    pub(super) fn body(&self, frame: &Frame) -> &[u8] {
        self.input.get(frame.body.clone()).unwrap_or_default()
    }

    /// The body of a message, to settle values in.
    pub(super) fn body_mut(&mut self, frame: &Frame) -> &mut [u8] {
        self.input.get_mut(frame.body.clone()).unwrap_or_default()
    }

    /// Gives memory back between batches.
    pub(super) fn rest(&mut self) {
        if self.start == self.end {
            self.input = Vec::new();
            (self.start, self.end) = (0, 0);
        }
        self.out = BytesMut::new();
    }
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
pub(super) struct Shape {
    /// Name and type of each column.
    pub(super) columns: Vec<Column>,
    /// What each column's values mean.
    pub(super) kinds: Vec<Kind>,
    /// For each column whether its values come in binary (1) or as text (0); empty when all are text.
    pub(super) formats: Vec<i16>,
    /// How the server writes what comes as text.
    pub(super) styles: Styles,
    /// The type OIDs of columns that only this server knows, by column.
    pub(super) unknown: Vec<(usize, u32)>,
}

impl Shape {
    /// Reads a `RowDescription`. A domain comes as its base type.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let mut shape = Shape::default();
        for column in 0..usize::from(fields.short()?) {
            let name = fields.text()?.into();
            let (_table, _number) = (fields.long()?, fields.short()?);
            let oid = fields.long()?;
            let (_size, _modifier, format) = (fields.short()?, fields.long()?, fields.short()?);
            let kind = Kind::of(oid);
            if kind.is_none() {
                shape.unknown.push((column, oid));
            }
            let kind = kind.unwrap_or(Kind::Other);
            let (type_name, content) = (super::values::type_name(oid).into(), kind.content());
            shape.kinds.push(kind);
            shape.formats.push(i16::from(format == 1));
            shape.columns.push(Column { name, type_name, advice: advice::of(oid), quote: '"', content });
        }
        Some(shape)
    }

    /// Asks for the formats that are read best. A statement's own description does not tell them.
    pub(super) fn choose_formats(&mut self) {
        let binary = |kind: &Kind| i16::from(kind.is_binary());
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
pub(super) struct Spans(Vec<Span>);

impl Spans {
    /// Finds the values of a `DataRow` and settles those that are rewritten in place.
    ///
    /// # Errors
    /// `protocol`, when the row is not what its description says.
    pub(super) fn find(&mut self, body: &mut [u8], shape: &Shape) -> Result<()> {
        self.0.clear();
        let wrong =
            || Error::new(Reason::Protocol, "the server sent a row that its description does not fit");
        let mut fields = Fields(body);
        let count = usize::from(fields.short().ok_or_else(wrong)?);
        if count != shape.kinds.len() {
            return Err(wrong());
        }
        let mut at = 2;
        for _ in 0..count {
            let length = fields.long().ok_or_else(wrong)?;
            at += 4;
            if length == u32::MAX {
                self.0.push(None);
                continue;
            }
            let end = at + length as usize;
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

fn unreadable(shape: &Shape, column: usize) -> Error {
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
pub(super) struct Line<'a> {
    pub(super) body: &'a [u8],
    pub(super) spans: &'a Spans,
    pub(super) shape: &'a Shape,
}

impl Row for Line<'_> {
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
