//! What a session asks the server for itself: the shape of a statement, its own types, one setting or another.
//!
//! Each question is a round trip of its own; the queries of a job are `session`'s.

use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend as tags;
use postgres_protocol::message::frontend;

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};

use super::errors::ServerError;
use super::guard_statement;
use super::guard_statement::QueryLimits;
use super::reply::{ExchangeError, garbled};
use super::styles;
use super::styles::TextStyles;
use super::types::ServerTypes;
use super::values::ValueType;
use super::wire::{Fields, Link, ResultShape, RowBounds};

/// How many bytes the answer to one question may have.
const ANSWER: usize = 1 << 20;

/// One row as text.
pub(super) type Texts = Vec<Option<String>>;

/// A link, and what was learned over it of the server's own types.
pub(super) struct Talk {
    pub(super) link: Link,
    pub(super) types: ServerTypes,
    /// How the server writes money, once that was asked.
    money: Option<TextStyles>,
    /// The shortest round trip so far, once there was one.
    shortest: Option<Duration>,
}

impl Talk {
    /// On a stream that was logged in on. Nothing is sent yet.
    pub(super) fn new(link: Link) -> Self {
        Talk { link, types: ServerTypes::default(), money: None, shortest: None }
    }

    /// An answer was on its way, there and back, no longer than this.
    pub(super) fn note_distance(&mut self, took: Duration) {
        self.shortest = Some(self.shortest.map_or(took, |shortest| shortest.min(took)));
    }

    /// How long the way to the server and back takes, as far as is known.
    pub(super) fn distance(&self) -> Duration {
        self.shortest.unwrap_or_default()
    }

    /// Runs `sql` by the simple protocol and collects its rows.
    pub(super) fn ask(&mut self, sql: &str, by: Deadline) -> Result<Vec<Texts>, ExchangeError> {
        let start = Instant::now();
        frontend::query(sql, &mut self.link.out)?;
        self.link.send(by)?;
        let rows = self.rows(by);
        self.note_distance(start.elapsed());
        rows
    }

    /// The same where the names in `sql` are those of the server's catalog, whatever `search_path` says. Not in a
    /// snapshot, whose transaction would keep the path.
    pub(super) fn ask_catalog(&mut self, sql: &str, by: Deadline) -> Result<Vec<Texts>, ExchangeError> {
        // One message is one transaction.
        let mut rows = self.ask(&format!("{}; {sql}", guard_statement::catalog_only()), by)?;
        rows.drain(..rows.len().min(1));
        Ok(rows)
    }

    /// Waits for the answer to what was sent, up to the next `ReadyForQuery`, and collects its rows.
    pub(super) fn rows(&mut self, by: Deadline) -> Result<Vec<Texts>, ExchangeError> {
        let mut rows = Vec::new();
        self.collect(by, |tag, body| {
            if tag == tags::DATA_ROW_TAG {
                rows.push(texts(body)?);
            }
            Some(())
        })?;
        Ok(rows)
    }

    /// The answer to the question for a statement's shape; types that only this server knows have no name yet.
    pub(super) fn read_shape(&mut self, by: Deadline) -> Result<ResultShape, ExchangeError> {
        let mut shape = ResultShape::default();
        self.collect(by, |tag, body| {
            if tag == tags::ROW_DESCRIPTION_TAG {
                shape = ResultShape::read(body)?;
            }
            Some(())
        })?;
        Ok(shape)
    }

    /// Asks for the names of the types that are not known, and how money is written where one of `shapes` has any.
    pub(super) fn complete(&mut self, shapes: &mut [ResultShape], by: Deadline) -> Result<(), ExchangeError> {
        if let Some(question) = self.types.question(shapes) {
            for row in self.ask(&question, by)? {
                self.types.learn(&row);
            }
        }
        if self.money.is_none() && shapes.iter().any(|shape| shape.kinds.contains(&ValueType::Money)) {
            let unit = self.ask(styles::MONEY, by)?.pop().and_then(|mut row| row.pop()).flatten();
            self.money = Some(TextStyles::of_money(&unit.unwrap_or_default()));
        }
        for shape in shapes {
            self.types.complete(shape);
            shape.choose_formats();
            shape.styles = self.money.clone().unwrap_or_default();
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
            let frame = self.link.next(by, RowBounds::of_answers(ANSWER))?;
            length += frame.len();
            if length > ANSWER {
                return Err(ExchangeError::Lost(too_much()));
            }
            let body = self.link.body(&frame);
            match frame.tag {
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
                tag => take(tag, body).ok_or_else(garbled)?,
            }
        }
    }
}

fn too_much() -> Error {
    Error::new(Reason::Limit, "the server's answer to a question of the exporter's own is longer than 1 MiB")
}

/// Parses, binds and executes a statement without a name.
pub(super) fn execute_text(
    sql: &str,
    limits: Option<QueryLimits>,
    formats: &[i16],
    out: &mut BytesMut,
) -> io::Result<()> {
    frontend::parse("", sql, [], out)?;
    execute("", limits, formats, out)
}

/// Binds and executes a prepared statement. `limits` are a marker's parameters.
pub(super) fn execute(
    name: &str,
    limits: Option<QueryLimits>,
    formats: &[i16],
    out: &mut BytesMut,
) -> io::Result<()> {
    bind("", name, limits, formats, out)?;
    frontend::execute("", 0, out)
}

/// Opens a portal of a prepared statement. `formats` has a 1 for each column that is wanted in binary; none: all as text.
pub(super) fn bind(
    portal: &str,
    name: &str,
    limits: Option<QueryLimits>,
    formats: &[i16],
    out: &mut BytesMut,
) -> io::Result<()> {
    let write = |value: u32, out: &mut BytesMut| {
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        Ok(IsNull::No)
    };
    let parameters = limits.into_iter().flat_map(|limits| [limits.statement, limits.lock]);
    // Too long a message is all that can fail here.
    frontend::bind(portal, name, [], parameters, write, formats.iter().copied(), out)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// The error of what a session does for itself.
pub(super) fn failed(what: &str, trouble: ExchangeError) -> Error {
    match trouble {
        ExchangeError::Refused(error) => {
            let error = error.of_statement("");
            let named = Error::new(error.reason(), format!("{what}: {}", error.message()));
            match error.sqlstate() {
                Some(code) => named.with_sqlstate(code),
                None => named,
            }
        }
        ExchangeError::Late => Error::new(Reason::Timeout, format!("{what}: no answer in time")),
        ExchangeError::Lost(error) => error,
    }
}

/// `session_sql` may hold a secret, and some of the server's messages repeat what stands in quotes.
pub(super) fn hushed(error: Error) -> Error {
    // Syntax errors and refused values.
    let Some(code) = error.sqlstate().filter(|code| *code == "42601" || code.starts_with("22")) else {
        return error;
    };
    let what = error.message().split(':').next().unwrap_or("session_sql");
    let said = Error::new(error.reason(), format!("{what}: the server refuses the statement"));
    said.with_sqlstate(code).with_hint("the server's log has its message, which may repeat a secret")
}

/// A row's values as text.
fn texts(body: &[u8]) -> Option<Texts> {
    let mut fields = Fields(body);
    let count = fields.short()?;
    let value = |_| Some(fields.value()?.map(|value| String::from_utf8_lossy(value).into_owned()));
    (0..count).map(value).collect()
}
