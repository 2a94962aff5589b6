//! Commands and their answers: what is sent, and how an answer is read.
//!
//! Every queued command must be read by the function of its kind, in the order in which they were queued. Answers to the
//! driver's own questions are small and bounded; `result_reader` reads the rows of jobs.

use std::io::ErrorKind;
use std::ops::Range;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::Error;

use super::errors::CallError;
use super::packet::{
    ColumnDefinition, MySqlError, PreparedStatement, ResultEnd, ResultHead, RowFormat, RowPacket, ValueSpans,
    is_end_of_columns,
};
use super::packet_stream::PacketStream;
use super::stream::ServerStream;

/// The longest first packet of an answer, definition of a column, or error.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// All that a server may send in answer to a question of the driver. Before the end of a login its budget counts instead.
const MAX_TABLE_BYTES: usize = 1 << 20;
/// How many cells of such an answer are kept: an empty one is a byte on the wire and a hundred here.
const MAX_TABLE_CELLS: usize = 1 << 16;
/// All that a server may send in answer to a preparation: 4,096 columns with the longest names.
const MAX_PREPARED_BYTES: usize = 8 << 20;

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;
const COM_PING: u8 = 0x0e;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_CLOSE: u8 = 0x19;
const COM_RESET_CONNECTION: u8 = 0x1f;

/// The rows of an answer to a question of the driver, each cell as text.
pub(super) type Table = Vec<Vec<Option<String>>>;

/// What the server says to one of several commands that were sent together.
pub(super) type Answer<T> = Result<T, MySqlError>;

/// The commands on one connection.
pub(super) struct ProtocolClient {
    packets: PacketStream,
    /// The server tells at the end of each answer whether the session changed, and sends no packet behind the columns.
    tracks_session: bool,
}

impl ProtocolClient {
    /// Takes over after the login.
    pub(super) fn new(packets: PacketStream, tracks_session: bool) -> Self {
        ProtocolClient { packets, tracks_session }
    }

    pub(super) fn tracks_session(&self) -> bool {
        self.tracks_session
    }

    pub(super) fn stream(&mut self) -> &mut ServerStream {
        self.packets.stream()
    }

    /// The shortest time in which the server has answered a command.
    pub(super) fn round_trip(&self) -> Duration {
        self.packets.round_trip()
    }

    /// True where every command was answered.
    pub(super) fn is_answered(&self) -> bool {
        self.packets.is_answered()
    }

    /// Frees memory between batches.
    pub(super) fn free_buffers(&mut self) {
        self.packets.free_buffers();
    }

    /// Queues a statement as text.
    pub(super) fn queue_query(&mut self, sql: &str) {
        self.queue(COM_QUERY, sql.as_bytes());
    }

    /// Queues several of them.
    pub(super) fn queue_queries(&mut self, statements: &[impl AsRef<str>]) {
        statements.iter().for_each(|sql| self.queue_query(sql.as_ref()));
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

    pub(super) fn queue_ping(&mut self) {
        self.queue(COM_PING, &[]);
    }

    /// Queues a reset of the session: variables, locks, prepared statements.
    pub(super) fn queue_reset(&mut self) {
        self.queue(COM_RESET_CONNECTION, &[]);
    }

    /// Queues the end of a prepared statement, which the server does not answer.
    pub(super) fn queue_close(&mut self, id: u32) {
        let [a, b, c, d] = id.to_le_bytes();
        self.packets.queue_without_answer(&[COM_STMT_CLOSE, a, b, c, d]);
    }

    /// Ends the session, so that the server does not count it as aborted.
    pub(super) fn quit(&mut self, by: Deadline) {
        self.packets.queue_without_answer(&[COM_QUIT]);
        // A server that does not read it finds the connection closed.
        let _ = self.packets.send_all(by).and_then(|()| self.stream().close(by));
    }

    fn queue(&mut self, command: u8, body: &[u8]) {
        self.packets.queue(&[&[command], body].concat());
    }

    /// The next answer begins.
    pub(super) fn begin_answer(&mut self, by: Deadline) -> Result<(), CallError> {
        Ok(self.packets.begin_answer(by)?)
    }

    /// An answer was read to its end.
    pub(super) fn end_answer(&mut self) {
        self.packets.end_answer();
    }

    /// The first packet of an answer, or of the next one to the same command.
    pub(super) fn read_head(&mut self, by: Deadline) -> Result<ResultHead, CallError> {
        let packet = self.packets.next(MAX_HEAD_BYTES, by)?;
        let head = ResultHead::read(self.packets.payload(&packet), self.tracks_session);
        self.unless_error(head.ok_or_else(|| CallError::unreadable("the head of a result"))?)
    }

    /// The definitions of so many columns, and the packet behind them.
    pub(super) fn read_columns(
        &mut self,
        count: usize,
        by: Deadline,
    ) -> Result<Vec<ColumnDefinition>, CallError> {
        let mut columns = Vec::new();
        for _ in 0..count {
            let packet = self.packets.next(MAX_HEAD_BYTES, by)?;
            let column = ColumnDefinition::read(self.packets.payload(&packet));
            columns.push(column.ok_or_else(|| CallError::unreadable("the definition of a column"))?);
        }
        self.read_end_of_columns(by)?;
        Ok(columns)
    }

    fn read_end_of_columns(&mut self, by: Deadline) -> Result<(), CallError> {
        if self.tracks_session {
            return Ok(());
        }
        let packet = self.packets.next(MAX_HEAD_BYTES, by)?;
        match is_end_of_columns(self.packets.payload(&packet)) {
            true => Ok(()),
            false => Err(CallError::unreadable("more columns than it announced")),
        }
    }

    /// The next packet of a result's rows; `None` where it is longer than `longest`, and the connection of no more use.
    pub(super) fn read_row(
        &mut self,
        longest: usize,
        by: Deadline,
    ) -> Result<Option<(RowPacket, Range<usize>)>, CallError> {
        let packet = match self.packets.next(longest, by) {
            Err(error) if error.kind() == ErrorKind::FileTooLarge => return Ok(None),
            packet => packet?,
        };
        let kind = RowPacket::read(self.packets.payload(&packet), self.tracks_session);
        let kind = kind.ok_or_else(|| CallError::unreadable("a row"))?;
        Ok(Some((self.unless_error(kind)?, packet)))
    }

    /// The bytes of a row, until the next packet is read.
    pub(super) fn payload(&self, packet: &Range<usize>) -> &[u8] {
        self.packets.payload(packet)
    }

    /// An error is the last packet of an answer.
    fn unless_error<T>(&mut self, answer: Answer<T>) -> Result<T, CallError> {
        answer.map_err(|error| {
            self.end_answer();
            error.into()
        })
    }

    /// The answers to several questions of the driver, sent together.
    pub(super) fn ask_all(
        &mut self,
        statements: &[impl AsRef<str>],
        by: Deadline,
    ) -> Result<Vec<Answer<Table>>, Error> {
        self.queue_queries(statements);
        self.read_tables(statements.len(), by)
    }

    /// The answers to so many statements that were queued.
    pub(super) fn read_tables(&mut self, count: usize, by: Deadline) -> Result<Vec<Answer<Table>>, Error> {
        (0..count).map(|_| answer(self.read_table(by))).collect()
    }

    /// The answer to a statement of the driver, sent as text: the rows of all its results.
    pub(super) fn read_table(&mut self, by: Deadline) -> Result<Table, CallError> {
        self.within_budget(MAX_TABLE_BYTES, |client| client.read_all_rows(by))
    }

    /// Reads an answer of which the server may send `budget` bytes; during a login the login's own budget applies.
    fn within_budget<T>(
        &mut self,
        budget: usize,
        read: impl FnOnce(&mut Self) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        if self.stream().has_budget() {
            return read(self);
        }
        self.stream().set_budget(Some(budget));
        let answer = read(self);
        self.stream().set_budget(None);
        answer
    }

    fn read_all_rows(&mut self, by: Deadline) -> Result<Table, CallError> {
        self.begin_answer(by)?;
        let (mut table, mut cells, mut spans) = (Table::new(), 0, ValueSpans::default());
        loop {
            let more = match self.read_head(by)? {
                ResultHead::Done(ResultEnd { more, .. }) => more,
                ResultHead::Rows(count) => {
                    let columns = self.read_columns(count, by)?;
                    loop {
                        let (kind, packet) = self.read_row(MAX_TABLE_BYTES, by)?.ok_or_else(too_much)?;
                        if let RowPacket::End(ResultEnd { more, .. }) = kind {
                            break more;
                        }
                        cells += count;
                        if cells > MAX_TABLE_CELLS {
                            return Err(too_much());
                        }
                        let packet = self.payload(&packet);
                        let found = spans.find(packet, &columns, RowFormat::Text, usize::MAX);
                        found.map_err(|_| CallError::unreadable("a row"))?;
                        let value = |column| spans.value(packet, column).flatten();
                        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                        table.push((0..count).map(|column| value(column).map(text)).collect());
                    }
                }
            };
            if !more {
                self.end_answer();
                return Ok(table);
            }
        }
    }

    /// The answer to a command that has no rows.
    pub(super) fn read_done(&mut self, by: Deadline) -> Result<(), CallError> {
        self.begin_answer(by)?;
        match self.read_head(by)? {
            ResultHead::Done(ResultEnd { more: false, .. }) => {
                self.end_answer();
                Ok(())
            }
            _ => Err(CallError::unreadable("rows where there are none")),
        }
    }

    /// The answer to a preparation.
    pub(super) fn read_prepared(
        &mut self,
        by: Deadline,
    ) -> Result<(PreparedStatement, Vec<ColumnDefinition>), CallError> {
        self.within_budget(MAX_PREPARED_BYTES, |client| {
            client.begin_answer(by)?;
            let packet = client.packets.next(MAX_HEAD_BYTES, by)?;
            let prepared = PreparedStatement::read(client.payload(&packet));
            let prepared = prepared.ok_or_else(|| CallError::unreadable("a prepared statement"))?;
            let prepared = client.unless_error(prepared)?;
            if prepared.params > 0 {
                // Only a run would need to know the parameters.
                for _ in 0..prepared.params {
                    client.packets.next(MAX_HEAD_BYTES, by)?;
                }
                client.read_end_of_columns(by)?;
            }
            let columns = match prepared.columns {
                0 => Vec::new(),
                count => client.read_columns(count, by)?,
            };
            client.end_answer();
            Ok((prepared, columns))
        })
    }
}

/// Separates the server's own error, after which the next answer follows, from a broken connection.
pub(super) fn answer<T>(result: Result<T, CallError>) -> Result<Answer<T>, Error> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(CallError::Server(error)) => Ok(Err(error)),
        Err(CallError::Broken(error)) => Err(error),
    }
}

/// An answer to a question of the driver that is longer than any such answer.
fn too_much() -> CallError {
    std::io::Error::from(ErrorKind::FileTooLarge).into()
}
