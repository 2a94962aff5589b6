//! What a session asks the server for itself: the shape of a statement, its own types, one setting or another.
//!
//! Each question is a round trip of its own; the queries of a job are `session`'s.

use std::io;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend as tags;
use postgres_protocol::message::frontend;

use crate::deadline::Deadline;
use crate::driver::Sql;
use crate::error::{Error, Reason, Result};

use super::errors::ServerError;
use super::marker;
use super::reply::{Trouble, garbled, standby};
use super::types::Types;
use super::wire::{Fields, Link, Shape};

/// One row as text.
pub(super) type Texts = Vec<Option<String>>;

/// A link, and what was learned over it of the server's own types.
pub(super) struct Talk {
    pub(super) link: Link,
    pub(super) types: Types,
    /// What the server last said of itself (`in_hot_standby`): true for a standby.
    pub(super) standby: Option<bool>,
}

impl Talk {
    /// On a stream that was logged in on. Nothing is sent yet.
    pub(super) fn new(link: Link) -> Self {
        Talk { link, types: Types::default(), standby: None }
    }

    /// Runs `sql` by the simple protocol and collects its rows.
    pub(super) fn ask(&mut self, sql: &str, by: Deadline) -> Result<Vec<Texts>, Trouble> {
        frontend::query(sql, &mut self.link.out)?;
        self.link.send(by)?;
        self.rows(by)
    }

    /// The same where the names in `sql` are those of the server's catalog, whatever `search_path` says. Not in a
    /// snapshot, whose transaction would keep the path.
    pub(super) fn ask_catalog(&mut self, sql: &str, by: Deadline) -> Result<Vec<Texts>, Trouble> {
        // One message is one transaction.
        let mut rows = self.ask(&format!("{}; {sql}", marker::catalog_only()), by)?;
        rows.drain(..rows.len().min(1));
        Ok(rows)
    }

    /// Waits for the answer to what was sent, up to the next `ReadyForQuery`, and collects its rows.
    pub(super) fn rows(&mut self, by: Deadline) -> Result<Vec<Texts>, Trouble> {
        let mut rows = Vec::new();
        self.collect(by, |tag, body| {
            if tag == tags::DATA_ROW_TAG {
                rows.push(texts(body)?);
            }
            Some(())
        })?;
        Ok(rows)
    }

    /// Parses `text` as `name` in a `Sync` of its own and learns the shape of its result.
    pub(super) fn describe(&mut self, name: &str, text: &str, by: Deadline) -> Result<Shape, Trouble> {
        queue_description(name, text, &mut self.link.out)?;
        self.read_description(by)
    }

    /// The same for the statement of a query.
    pub(super) fn describe_query(&mut self, name: &str, sql: &Sql, by: Deadline) -> Result<Shape, Trouble> {
        self.queue_query_description(name, sql)?;
        self.read_description(by)
    }

    fn read_description(&mut self, by: Deadline) -> Result<Shape, Trouble> {
        self.link.send(by)?;
        let shape = self.read_shape(by)?;
        self.complete(shape, by)
    }

    /// The question of [`Talk::describe_query`], to be sent with others. In a snapshot the path of a catalog-only
    /// statement holds until that query is undone.
    pub(super) fn queue_query_description(&mut self, name: &str, sql: &Sql) -> io::Result<()> {
        let out = &mut self.link.out;
        if sql.is_catalog_only() {
            execute_text(&marker::catalog_only(), None, out)?;
        }
        queue_description(name, sql.text(), out)
    }

    /// The answer to it; types that only this server knows have no name yet.
    pub(super) fn read_shape(&mut self, by: Deadline) -> Result<Shape, Trouble> {
        let mut shape = Shape::default();
        self.collect(by, |tag, body| {
            if tag == tags::ROW_DESCRIPTION_TAG {
                shape = Shape::read(body)?;
            }
            Some(())
        })?;
        Ok(shape)
    }

    /// Asks for the names of the types that are not known.
    pub(super) fn complete(&mut self, shape: Shape, by: Deadline) -> Result<Shape, Trouble> {
        if let Some(question) = self.types.question(&shape) {
            for row in self.ask(&question, by)? {
                self.types.learn(&row);
            }
        }
        Ok(self.types.complete(shape))
    }

    /// A round trip that asks for nothing.
    pub(super) fn sync(&mut self, by: Deadline) -> Result<(), Trouble> {
        frontend::sync(&mut self.link.out);
        self.link.send(by)?;
        self.collect(by, |_, _| Some(()))
    }

    /// Reads up to the next `ReadyForQuery`. `take` gets every other message; `None` is one that it cannot read.
    fn collect(
        &mut self,
        by: Deadline,
        mut take: impl FnMut(u8, &[u8]) -> Option<()>,
    ) -> Result<(), Trouble> {
        let mut refused = None;
        loop {
            let frame = self.link.next(by)?;
            let body = self.link.body(&frame);
            match frame.tag {
                tags::ERROR_RESPONSE_TAG => {
                    let error = ServerError::read(body);
                    if error.fatal {
                        return Err(Trouble::Lost(error.of_statement("")));
                    }
                    refused = Some(error);
                }
                tags::READY_FOR_QUERY_TAG => {
                    return refused.map_or(Ok(()), |error| Err(Trouble::Refused(error)));
                }
                tags::PARAMETER_STATUS_TAG => self.standby = standby(body).or(self.standby),
                tag => take(tag, body).ok_or_else(garbled)?,
            }
        }
    }
}

fn queue_description(name: &str, text: &str, out: &mut BytesMut) -> io::Result<()> {
    frontend::parse(name, text, [], out)?;
    frontend::describe(b'S', name, out)?;
    frontend::sync(out);
    Ok(())
}

/// Parses, binds and executes a statement without a name.
pub(super) fn execute_text(sql: &str, parameter: Option<u32>, out: &mut BytesMut) -> io::Result<()> {
    frontend::parse("", sql, [], out)?;
    execute("", parameter, out)
}

/// Binds and executes a prepared statement, with text results and at most one parameter, a number as text.
pub(super) fn execute(name: &str, parameter: Option<u32>, out: &mut BytesMut) -> io::Result<()> {
    bind("", name, parameter, out)?;
    frontend::execute("", 0, out)
}

/// Opens a portal of a prepared statement.
pub(super) fn bind(portal: &str, name: &str, parameter: Option<u32>, out: &mut BytesMut) -> io::Result<()> {
    let write = |value: u32, out: &mut BytesMut| {
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        Ok(IsNull::No)
    };
    // Too long a message is all that can fail here.
    frontend::bind(portal, name, [], parameter, write, [], out)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// The error of what a session does for itself.
pub(super) fn failed(what: &str, trouble: Trouble) -> Error {
    match trouble {
        Trouble::Refused(error) => {
            let error = error.of_statement("");
            let named = Error::new(error.reason(), format!("{what}: {}", error.message()));
            match error.sqlstate() {
                Some(code) => named.with_sqlstate(code),
                None => named,
            }
        }
        Trouble::Late => Error::new(Reason::Timeout, format!("{what}: no answer in time")),
        Trouble::Lost(error) => error,
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
    let value = |_| match fields.long()? {
        u32::MAX => Some(None),
        length => {
            fields.bytes(length as usize).map(|value| Some(String::from_utf8_lossy(value).into_owned()))
        }
    };
    (0..count).map(value).collect()
}
