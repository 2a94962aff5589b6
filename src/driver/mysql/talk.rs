//! Commands and their answers: what is sent, and how an answer is taken apart.
//!
//! Every queued command must be read by the function of its kind, in the order in which they were queued. Own questions
//! have small answers, and a bound on them; the rows of jobs are `reply`'s.

use std::io::ErrorKind;
use std::ops::Range;

use crate::deadline::Deadline;

use super::errors::Fault;
use super::link::Link;
use super::packet::{Column, Ending, Fields, Prepared, Reply, RowPacket, ServerError, is_end};

/// The longest first packet of an answer, definition of a column, or error.
const HEAD: usize = 64 * 1024;
/// All that a server may send in answer to a question of our own. Before the end of a login its budget counts instead.
const BUDGET: usize = 1 << 20;
/// So many cells are kept of such an answer: an empty one is a byte on its way and a hundred here.
const MOST_CELLS: usize = 1 << 16;
/// All that a server may send in answer to a preparation: 4,096 columns with the longest names.
const PREPARED_BUDGET: usize = 8 << 20;

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_PING: u8 = 0x0e;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_CLOSE: u8 = 0x19;
const COM_RESET_CONNECTION: u8 = 0x1f;

/// Why a command gave nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server objects. The session goes on.
    Refused(ServerError),
    /// The connection cannot go on.
    Broken(Fault),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Trouble::Broken(error.into())
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(error) => Fault::from(&error),
            Trouble::Broken(fault) => fault,
        }
    }
}

/// The answer to a question of our own: its rows, each cell as text.
pub(super) type Table = Vec<Vec<Option<String>>>;

/// The protocol on one connection.
pub(super) struct Talk {
    pub(super) link: Link,
    /// The server tells at the end of each answer what has become of the session, and no end of the columns.
    tracks: bool,
}

impl Talk {
    /// Takes over after the login; what follows is set-up.
    pub(super) fn new(link: Link, tracks: bool) -> Self {
        Talk { link, tracks }
    }

    /// True where the server tells what becomes of the session.
    pub(super) fn tracks(&self) -> bool {
        self.tracks
    }

    /// Queues a statement as text.
    pub(super) fn queue_query(&mut self, sql: &str) {
        self.queue(COM_QUERY, sql.as_bytes());
    }

    /// Queues the preparation of a statement.
    pub(super) fn queue_prepare(&mut self, sql: &str) {
        self.queue(COM_STMT_PREPARE, sql.as_bytes());
    }

    /// Queues a run of a prepared statement without parameters.
    pub(super) fn queue_execute(&mut self, id: u32) {
        let [a, b, c, d] = id.to_le_bytes();
        // No cursor, and once: the only number of runs that there is.
        self.queue(COM_STMT_EXECUTE, &[a, b, c, d, 0, 1, 0, 0, 0]);
    }

    /// Queues a ping.
    pub(super) fn queue_ping(&mut self) {
        self.queue(COM_PING, &[]);
    }

    /// Queues the end of everything that the session has: variables, locks, statements.
    pub(super) fn queue_reset(&mut self) {
        self.queue(COM_RESET_CONNECTION, &[]);
    }

    /// Queues the end of a prepared statement, which the server does not answer.
    pub(super) fn queue_close(&mut self, id: u32) {
        let [a, b, c, d] = id.to_le_bytes();
        self.link.command_without_answer(&[COM_STMT_CLOSE, a, b, c, d]);
    }

    /// Says goodbye, so that the server does not count us as lost.
    pub(super) fn quit(&mut self, by: Deadline) {
        self.link.command_without_answer(&[COM_QUIT]);
        // A server that does not hear it finds the connection closed.
        let _ = self.link.send_all(by).and_then(|()| self.link.stream.close(by));
    }

    fn queue(&mut self, command: u8, body: &[u8]) {
        let mut payload = Vec::with_capacity(body.len() + 1);
        payload.push(command);
        payload.extend_from_slice(body);
        self.link.command(&payload);
    }

    /// The first packet of an answer, or of the next one to the same command.
    pub(super) fn head(&mut self, by: Deadline) -> Result<Reply, Trouble> {
        let packet = self.link.next(HEAD, by)?;
        let reply = Reply::read(self.link.payload(&packet), self.tracks);
        self.unless_refused(reply.ok_or_else(|| unreadable("the head of a result"))?)
    }

    /// The definitions of so many columns, and the packet behind them.
    pub(super) fn columns(&mut self, count: usize, by: Deadline) -> Result<Vec<Column>, Trouble> {
        let mut columns = Vec::new();
        for _ in 0..count {
            let packet = self.link.next(HEAD, by)?;
            let column = Column::read(self.link.payload(&packet));
            columns.push(column.ok_or_else(|| unreadable("the definition of a column"))?);
        }
        self.end_of_columns(by)?;
        Ok(columns)
    }

    fn end_of_columns(&mut self, by: Deadline) -> Result<(), Trouble> {
        if self.tracks {
            return Ok(());
        }
        let packet = self.link.next(HEAD, by)?;
        match is_end(self.link.payload(&packet)) {
            true => Ok(()),
            false => Err(unreadable("more columns than it told")),
        }
    }

    /// The next packet of a result's rows; `None` where it is longer than `longest`, and the connection of no more use.
    pub(super) fn row(
        &mut self,
        longest: usize,
        by: Deadline,
    ) -> Result<Option<(RowPacket, Range<usize>)>, Trouble> {
        let packet = match self.link.next(longest, by) {
            Err(error) if error.kind() == ErrorKind::FileTooLarge => return Ok(None),
            packet => packet?,
        };
        let kind = RowPacket::read(self.link.payload(&packet), self.tracks);
        let kind = kind.ok_or_else(|| unreadable("a row"))?;
        Ok(Some((self.unless_refused(kind)?, packet)))
    }

    /// An objection is the last packet of an answer.
    fn unless_refused<T>(&mut self, answer: Result<T, ServerError>) -> Result<T, Trouble> {
        answer.map_err(|error| {
            self.link.end_answer();
            Trouble::Refused(error)
        })
    }

    /// The answer to a statement of our own, sent as text: the rows of all its results.
    pub(super) fn read_table(&mut self, by: Deadline) -> Result<Table, Trouble> {
        self.within(BUDGET, |talk| talk.table(by))
    }

    /// Reads an answer of which the server may send so many bytes; a login's own budget goes on.
    fn within<T>(
        &mut self,
        budget: usize,
        read: impl FnOnce(&mut Self) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        if self.link.stream.has_budget() {
            return read(self);
        }
        self.link.stream.set_budget(Some(budget));
        let answer = read(self);
        self.link.stream.set_budget(None);
        answer
    }

    fn table(&mut self, by: Deadline) -> Result<Table, Trouble> {
        self.link.begin_answer(by)?;
        let mut table = Table::new();
        let mut cells = 0;
        loop {
            let more = match self.head(by)? {
                Reply::Done(Ending { more, .. }) => more,
                Reply::Rows(count) => {
                    self.columns(count, by)?;
                    loop {
                        let (kind, packet) = self.row(BUDGET, by)?.ok_or_else(too_much)?;
                        if let RowPacket::End(Ending { more, .. }) = kind {
                            break more;
                        }
                        cells += count;
                        if cells > MOST_CELLS {
                            return Err(too_much());
                        }
                        let row = texts(self.link.payload(&packet), count);
                        table.push(row.ok_or_else(|| unreadable("a row"))?);
                    }
                }
            };
            if !more {
                self.link.end_answer();
                return Ok(table);
            }
        }
    }

    /// The answer to a command that gives no rows.
    pub(super) fn read_done(&mut self, by: Deadline) -> Result<(), Trouble> {
        self.link.begin_answer(by)?;
        match self.head(by)? {
            Reply::Done(Ending { more: false, .. }) => {
                self.link.end_answer();
                Ok(())
            }
            _ => Err(unreadable("rows that nobody asked for")),
        }
    }

    /// The answer to a preparation.
    pub(super) fn read_prepared(&mut self, by: Deadline) -> Result<(Prepared, Vec<Column>), Trouble> {
        self.within(PREPARED_BUDGET, |talk| talk.prepared(by))
    }

    fn prepared(&mut self, by: Deadline) -> Result<(Prepared, Vec<Column>), Trouble> {
        self.link.begin_answer(by)?;
        let packet = self.link.next(HEAD, by)?;
        let prepared = Prepared::read(self.link.payload(&packet));
        let prepared = self.unless_refused(prepared.ok_or_else(|| unreadable("a prepared statement"))?)?;
        if prepared.params > 0 {
            // What a parameter is, only running it would want to know.
            for _ in 0..prepared.params {
                self.link.next(HEAD, by)?;
            }
            self.end_of_columns(by)?;
        }
        let columns = if prepared.columns > 0 { self.columns(prepared.columns, by)? } else { Vec::new() };
        self.link.end_answer();
        Ok((prepared, columns))
    }

    /// Asks one question of our own.
    pub(super) fn ask(&mut self, sql: &str, by: Deadline) -> Result<Table, Trouble> {
        self.queue_query(sql);
        self.read_table(by)
    }
}

/// A row in the text form.
fn texts(packet: &[u8], columns: usize) -> Option<Vec<Option<String>>> {
    let mut fields = Fields(packet);
    let mut row = Vec::new();
    for _ in 0..columns {
        if fields.0.first() == Some(&0xfb) {
            fields.byte()?;
            row.push(None);
        } else {
            row.push(Some(String::from_utf8_lossy(fields.counted()?).into_owned()));
        }
    }
    Some(row)
}

/// An answer to a question of our own that is longer than any such answer.
fn too_much() -> Trouble {
    std::io::Error::from(ErrorKind::FileTooLarge).into()
}

/// The server's bytes are not what the protocol says.
pub(super) fn unreadable(what: &str) -> Trouble {
    Trouble::Broken(Fault::unreadable(what))
}
