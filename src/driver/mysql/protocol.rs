//! Commands and their answers: what is sent, where packets begin and end, and how an answer is read.
//!
//! Every queued command must be read by the function of its kind, in the order in which they were queued. Answers to the
//! driver's own questions are small and bounded; `result_reader` reads the rows of jobs.
//!
//! Commands are pipelined: a server reads the next one when it has answered the one before (seen with MySQL 9.7, MariaDB
//! 10.11 and 11.8). It does not read while its answer waits to be read, so both sides would wait for each other if the
//! socket buffers of both were full: never more than [`MAX_UNANSWERED_BYTES`] of commands wait for their answers.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::time::{Duration, Instant};

use mysql_common::constants::{ColumnType, Command};
use mysql_common::io::BufMutExt;

use crate::deadline::Deadline;
use crate::driver::Parameter;
use crate::driver::connection::read_buffer::ReadBuffer;
use crate::driver::connection::stream::ServerStream;
use crate::error::Error;

use super::errors::{CallError, unreadable};
use super::packet::{
    ColumnDefinition, MySqlError, MySqlValueSpans, PreparedStatement, ResultEnd, ResultHead, RowFormat,
    RowPacket, SessionTracking, is_end_of_columns,
};

/// The longest first packet of an answer, definition of a column, or error.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// All that a server may send in answer to a question of the driver. Before the end of a login its budget counts instead.
const MAX_TABLE_BYTES: usize = 1 << 20;
/// How many cells of such an answer are kept: an empty one is a byte on the wire and a hundred here.
const MAX_TABLE_CELLS: usize = 1 << 16;
/// All that a server may send in answer to a preparation: 4,096 columns with the longest names.
const MAX_PREPARED_BYTES: usize = 8 << 20;

/// What stands before each packet's payload: its length and its sequence number.
const HEADER_BYTES: usize = 4;
/// A payload of this length continues in the next packet.
const MAX_PACKET_PAYLOAD: usize = 0xff_ffff;
/// Bytes of commands that are sent and not answered; the buffers of any two sockets hold more.
const MAX_UNANSWERED_BYTES: usize = 32 * 1024;

/// The rows of an answer to a question of the driver, each cell as text.
pub(super) type TextRows = Vec<Vec<Option<String>>>;

/// What the server says to one of several commands that were sent together.
pub(super) type MySqlAnswer<T> = Result<T, MySqlError>;

/// The commands on one connection.
pub(super) struct ProtocolClient {
    stream: ServerStream,
    input: ReadBuffer,
    /// Bytes of the next payload that stand joined at the start of `input`, without their headers.
    joined: usize,
    /// The sequence number that the next packet must have.
    sequence: u8,
    /// Commands that the server does not answer, to be sent with the next one.
    unanswerable: Vec<u8>,
    /// Commands in order, each with the unanswerable ones before it.
    queued: VecDeque<Vec<u8>>,
    /// The lengths of those that were sent and not answered.
    in_flight: VecDeque<usize>,
    /// How long they may be together; a single one may be longer.
    most_in_flight: usize,
    /// When a command was sent while no other was in flight, until its answer begins.
    asked: Option<Instant>,
    /// The shortest time between such a command and its answer.
    round_trip: Option<Duration>,
    /// Where the server tells something, it sends no packet behind the columns.
    tracking: SessionTracking,
}

impl ProtocolClient {
    /// Of a connection whose login is still to come.
    pub(super) fn new(stream: ServerStream) -> Self {
        ProtocolClient {
            stream,
            input: ReadBuffer::default(),
            joined: 0,
            sequence: 0,
            unanswerable: Vec::new(),
            queued: VecDeque::new(),
            in_flight: VecDeque::new(),
            most_in_flight: MAX_UNANSWERED_BYTES,
            asked: None,
            round_trip: None,
            tracking: SessionTracking::default(),
        }
    }

    /// What the login has agreed on.
    pub(super) fn set_tracking(&mut self, tracking: SessionTracking) {
        self.tracking = tracking;
    }

    /// From now on sends no command before the one before it is answered.
    pub(super) fn send_one_by_one(&mut self) {
        self.most_in_flight = 0;
    }

    pub(super) fn stream(&mut self) -> &mut ServerStream {
        &mut self.stream
    }

    /// The shortest time in which the server has answered a command.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or_default()
    }

    /// Sends one packet of a login, at once.
    pub(super) fn send_login(&mut self, payload: &[u8], by: Deadline) -> io::Result<()> {
        let mut packet = Vec::with_capacity(payload.len() + 4);
        self.sequence = frame(&mut packet, payload, self.sequence);
        self.stream.write_all(&packet, by)
    }

    fn queue_packet(&mut self, payload: &[u8]) {
        let mut bytes = std::mem::take(&mut self.unanswerable);
        frame(&mut bytes, payload, 0);
        self.queued.push_back(bytes);
    }

    /// Queues a command that the server does not answer; it is sent with the next one.
    fn queue_without_answer(&mut self, payload: &[u8]) {
        frame(&mut self.unanswerable, payload, 0);
    }

    /// Sends the queued commands that may be on their way together.
    fn send_queued(&mut self, by: Deadline) -> io::Result<()> {
        let mut bytes = Vec::new();
        let before: usize = self.in_flight.iter().sum();
        let was_idle = before == 0;
        while let Some(next) = self.queued.front()
            && (self.in_flight.is_empty() || before + bytes.len() + next.len() <= self.most_in_flight)
        {
            self.in_flight.push_back(next.len());
            bytes.extend(self.queued.pop_front().unwrap_or_default());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if was_idle {
            self.asked = Some(Instant::now());
        }
        self.stream.write_all(&bytes, by)
    }

    /// The answer to the next command begins.
    pub(super) fn begin_answer(&mut self, by: Deadline) -> io::Result<()> {
        self.send_queued(by)?;
        self.sequence = 1;
        Ok(())
    }

    /// The answer to a command was read to its end.
    pub(super) fn end_answer(&mut self) {
        self.in_flight.pop_front();
        self.asked = None;
    }

    /// The next packet, of at most `longest` bytes.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, `UnexpectedEof`, `FileTooLarge` beyond `longest`, `InvalidData` for a packet that is not
    /// the next one, and what the stream says.
    pub(super) fn next_packet(&mut self, longest: usize, by: Deadline) -> io::Result<Range<usize>> {
        loop {
            if let Some(payload) = self.split(longest)? {
                return Ok(payload);
            }
            // With the header of the packet behind it, where that is its end.
            let most = longest.saturating_add(2 * HEADER_BYTES);
            self.input.fill(&mut self.stream, most, by)?;
        }
    }

    fn split(&mut self, longest: usize) -> io::Result<Option<Range<usize>>> {
        loop {
            let packet = self.input.unread().get(self.joined..).unwrap_or_default();
            let [a, b, c, sequence, ..] = *packet else { return Ok(None) };
            let length = u32::from_le_bytes([a, b, c, 0]) as usize;
            if self.joined + length > longest {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            if packet.len() < HEADER_BYTES + length {
                return Ok(None);
            }
            // A server that closes an idle session sends an error that answers no command.
            let is_goodbye = packet.get(HEADER_BYTES) == Some(&0xff);
            if sequence != self.sequence && !is_goodbye {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet out of order"));
            }
            self.sequence = sequence.wrapping_add(1);
            if let Some(asked) = self.asked.take() {
                let took = asked.elapsed();
                self.round_trip = Some(self.round_trip.map_or(took, |shortest| shortest.min(took)));
            }
            if self.joined == 0 && length < MAX_PACKET_PAYLOAD {
                let whole = self.input.take(HEADER_BYTES + length);
                return Ok(Some(whole.start + HEADER_BYTES..whole.end));
            }
            // A payload in several packets: remove their headers.
            self.input.remove(self.joined, HEADER_BYTES);
            self.joined += length;
            if length < MAX_PACKET_PAYLOAD {
                return Ok(Some(self.input.take(std::mem::take(&mut self.joined))));
            }
        }
    }

    /// A packet's bytes, until the next one is read.
    pub(super) fn payload(&self, packet: &Range<usize>) -> &[u8] {
        self.input.get(packet)
    }

    /// True where every command was answered.
    pub(super) fn is_answered(&self) -> bool {
        self.in_flight.is_empty() && self.queued.is_empty()
    }

    /// Frees memory between batches.
    pub(super) fn free_buffers(&mut self) {
        self.input.release();
    }

    /// Queues a statement as text.
    pub(super) fn queue_query(&mut self, sql: &str) {
        self.queue(Command::COM_QUERY, sql.as_bytes());
    }

    /// Queues several of them.
    pub(super) fn queue_queries(&mut self, statements: &[impl AsRef<str>]) {
        statements.iter().for_each(|sql| self.queue_query(sql.as_ref()));
    }

    /// Queues the preparation of a statement.
    pub(super) fn queue_prepare(&mut self, sql: &str) {
        self.queue(Command::COM_STMT_PREPARE, sql.as_bytes());
    }

    /// Queues a run of a prepared statement, with a value for each of its parameters.
    /// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_stmt_execute.html>
    pub(super) fn queue_execute(&mut self, id: u32, parameters: &[Parameter]) {
        const TEXT: [u8; 2] = [ColumnType::MYSQL_TYPE_VAR_STRING as u8, 0];
        const TYPES_FOLLOW: u8 = 1;
        let [a, b, c, d] = id.to_le_bytes();
        // No cursor, and once: the only number of runs that there is.
        let mut body = vec![a, b, c, d, 0, 1, 0, 0, 0];
        if !parameters.is_empty() {
            body.extend(parameters.chunks(8).map(|eight| {
                let bits = eight.iter().rev();
                bits.fold(0_u8, |bits, value| bits << 1 | u8::from(value.is_none()))
            }));
            body.push(TYPES_FOLLOW);
            body.extend(parameters.iter().flat_map(|_| TEXT));
            for value in parameters.iter().flatten() {
                body.put_lenenc_str(value.as_bytes());
            }
        }
        self.queue(Command::COM_STMT_EXECUTE, &body);
    }

    /// Queues the end of a prepared statement, which the server does not answer.
    pub(super) fn queue_close(&mut self, id: u32) {
        let [a, b, c, d] = id.to_le_bytes();
        self.queue_without_answer(&[Command::COM_STMT_CLOSE as u8, a, b, c, d]);
    }

    /// Ends the session, so that the server does not count it as aborted.
    pub(super) fn quit(&mut self, by: Deadline) {
        self.queue_without_answer(&[Command::COM_QUIT as u8]);
        // A server that does not read it finds the connection closed.
        let _ = self.stream.write_all(&self.unanswerable, by).and_then(|()| self.stream.close(by));
    }

    /// Queues a command that the server answers.
    pub(super) fn queue(&mut self, command: Command, body: &[u8]) {
        self.queue_packet(&[&[command as u8], body].concat());
    }

    /// The first packet of an answer, or of the next one to the same command.
    pub(super) fn read_head(&mut self, by: Deadline) -> Result<ResultHead, CallError> {
        let packet = self.next_packet(MAX_HEAD_BYTES, by)?;
        let head = ResultHead::read(self.payload(&packet), &self.tracking);
        self.unless_error(head.ok_or_else(|| unreadable("the head of a result"))?)
    }

    /// The definitions of so many columns, and the packet behind them.
    pub(super) fn read_columns(
        &mut self,
        count: usize,
        by: Deadline,
    ) -> Result<Vec<ColumnDefinition>, CallError> {
        let mut columns = Vec::new();
        for _ in 0..count {
            let packet = self.next_packet(MAX_HEAD_BYTES, by)?;
            let column = ColumnDefinition::read(self.payload(&packet));
            columns.push(column.ok_or_else(|| unreadable("the definition of a column"))?);
        }
        self.read_end_of_columns(by)?;
        Ok(columns)
    }

    fn read_end_of_columns(&mut self, by: Deadline) -> Result<(), CallError> {
        if self.tracking != SessionTracking::Nothing {
            return Ok(());
        }
        let packet = self.next_packet(MAX_HEAD_BYTES, by)?;
        match is_end_of_columns(self.payload(&packet)) {
            true => Ok(()),
            false => Err(unreadable("more columns than it announced").into()),
        }
    }

    /// The next packet of a result's rows; `None` where it is longer than `longest`, and the connection of no more use.
    pub(super) fn read_row(
        &mut self,
        longest: usize,
        by: Deadline,
    ) -> Result<Option<(RowPacket, Range<usize>)>, CallError> {
        let packet = match self.next_packet(longest, by) {
            Err(error) if error.kind() == ErrorKind::FileTooLarge => return Ok(None),
            packet => packet?,
        };
        let kind = RowPacket::read(self.payload(&packet), &self.tracking);
        let kind = kind.ok_or_else(|| unreadable("a row"))?;
        Ok(Some((self.unless_error(kind)?, packet)))
    }

    /// An error is the last packet of an answer.
    fn unless_error<T>(&mut self, answer: MySqlAnswer<T>) -> Result<T, CallError> {
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
    ) -> Result<Vec<MySqlAnswer<TextRows>>, Error> {
        self.queue_queries(statements);
        self.read_tables(statements.len(), by)
    }

    /// The answers to so many statements that were queued.
    pub(super) fn read_tables(
        &mut self,
        count: usize,
        by: Deadline,
    ) -> Result<Vec<MySqlAnswer<TextRows>>, Error> {
        (0..count).map(|_| answer(self.read_table(by))).collect()
    }

    /// The answer to a statement of the driver, sent as text: the rows of all its results.
    pub(super) fn read_table(&mut self, by: Deadline) -> Result<TextRows, CallError> {
        self.within_budget(MAX_TABLE_BYTES, |client| {
            let (mut table, mut cells) = (TextRows::new(), 0);
            client.read_each_row(by, |row| {
                cells += row.len();
                table.push(row);
                if cells > MAX_TABLE_CELLS { Err(too_much()) } else { Ok(()) }
            })?;
            Ok(table)
        })
    }

    /// Reads an answer of which the server may send `budget` bytes; during a login the login's own budget applies.
    fn within_budget<T>(
        &mut self,
        budget: usize,
        read: impl FnOnce(&mut Self) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        if self.stream.has_budget() {
            return read(self);
        }
        self.stream.set_budget(Some(budget));
        let answer = read(self);
        self.stream.set_budget(None);
        answer
    }

    /// The same row by row, of which there may be any number.
    pub(super) fn read_each_row(
        &mut self,
        by: Deadline,
        mut keep: impl FnMut(Vec<Option<String>>) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        self.begin_answer(by)?;
        let mut spans = MySqlValueSpans::default();
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
                        let packet = self.payload(&packet);
                        let found = spans.find(packet, &columns, RowFormat::Text, usize::MAX);
                        found.map_err(|_| unreadable("a row"))?;
                        let value = |column| spans.value(packet, column).flatten();
                        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                        keep((0..count).map(|column| value(column).map(text)).collect())?;
                    }
                }
            };
            if !more {
                self.end_answer();
                return Ok(());
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
            _ => Err(unreadable("rows where there are none").into()),
        }
    }

    /// The answer to a preparation.
    pub(super) fn read_prepared(
        &mut self,
        by: Deadline,
    ) -> Result<(PreparedStatement, Vec<ColumnDefinition>), CallError> {
        self.within_budget(MAX_PREPARED_BYTES, |client| {
            client.begin_answer(by)?;
            let packet = client.next_packet(MAX_HEAD_BYTES, by)?;
            let prepared = PreparedStatement::read(client.payload(&packet));
            let prepared = prepared.ok_or_else(|| unreadable("a prepared statement"))?;
            let prepared = client.unless_error(prepared)?;
            if prepared.params > 0 {
                // Only a run would need to know the parameters.
                for _ in 0..prepared.params {
                    client.next_packet(MAX_HEAD_BYTES, by)?;
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

/// Appends a payload as packets; returns the sequence number of the packet after them.
fn frame(out: &mut Vec<u8>, payload: &[u8], mut sequence: u8) -> u8 {
    let mut left = payload;
    loop {
        let (now, rest) = left.split_at(left.len().min(MAX_PACKET_PAYLOAD));
        let [a, b, c, ..] = now.len().to_le_bytes();
        out.extend_from_slice(&[a, b, c, sequence]);
        out.extend_from_slice(now);
        sequence = sequence.wrapping_add(1);
        left = rest;
        if now.len() < MAX_PACKET_PAYLOAD {
            return sequence;
        }
    }
}

/// Separates the server's own error, after which the next answer follows, from a broken connection.
pub(super) fn answer<T>(result: Result<T, CallError>) -> Result<MySqlAnswer<T>, Error> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(CallError::Server(error)) => Ok(Err(error)),
        Err(CallError::Broken(error)) => Err(error),
    }
}

/// An answer to a question of the driver that is longer than any such answer.
fn too_much() -> CallError {
    io::Error::from(ErrorKind::FileTooLarge).into()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use crate::driver::connection::socket::TimedSocket;

    use super::*;

    fn pair() -> (ProtocolClient, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = TimedSocket::new(OwnedFd::from(ours));
        let mut stream = ServerStream::new(socket);
        stream.set_budget(None);
        (ProtocolClient::new(stream), theirs)
    }

    fn soon() -> Deadline {
        Deadline::within(Duration::from_secs(20))
    }

    #[test]
    fn a_payload_of_several_packets_is_one() {
        for length in [
            0,
            1,
            MAX_PACKET_PAYLOAD - 1,
            MAX_PACKET_PAYLOAD,
            MAX_PACKET_PAYLOAD + 1,
            2 * MAX_PACKET_PAYLOAD,
            2 * MAX_PACKET_PAYLOAD + 5,
        ] {
            let (mut client, mut theirs) = pair();
            let payload: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
            let mut bytes = Vec::new();
            let after = frame(&mut bytes, &payload, 0);
            frame(&mut bytes, b"next", after);
            let sender = std::thread::spawn(move || theirs.write_all(&bytes).map(|()| theirs));
            let packet = client.next_packet(1 << 30, soon()).unwrap();
            assert!(client.payload(&packet) == payload, "{length}");
            let packet = client.next_packet(1 << 30, soon()).unwrap();
            assert_eq!(client.payload(&packet), b"next", "{length}");
            drop(sender.join().unwrap());
        }
    }

    #[test]
    fn a_length_may_not_pass_its_bound() {
        let (mut client, mut theirs) = pair();
        theirs.write_all(&[0xfe, 0xff, 0xff, 0]).unwrap();
        assert_eq!(client.next_packet(1 << 20, soon()).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let late = Deadline::within(Duration::from_millis(20));
        assert_eq!(client.next_packet(1 << 30, late).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // One that goes on and on.
        let (mut client, mut theirs) = pair();
        std::thread::spawn(move || {
            while theirs
                .write_all(&[&[0xff, 0xff, 0xff, 0][..], &vec![0; MAX_PACKET_PAYLOAD]].concat())
                .is_ok()
            {}
        });
        assert_eq!(
            client.next_packet(MAX_PACKET_PAYLOAD + 100, soon()).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }

    #[test]
    fn a_packet_out_of_order_is_refused_and_a_farewell_is_heard() {
        let (mut client, mut theirs) = pair();
        client.queue_packet(&[14]);
        client.begin_answer(soon()).unwrap();
        theirs.write_all(&[1, 0, 0, 7, 0]).unwrap();
        assert_eq!(client.next_packet(100, soon()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (mut client, mut theirs) = pair();
        client.queue_packet(&[14]);
        client.begin_answer(soon()).unwrap();
        theirs.write_all(&[1, 0, 0, 0, 0xff]).unwrap();
        assert_eq!(client.next_packet(100, soon()).unwrap(), 4..5);
    }

    /// Never more on its way than the window, all of it in the end, in order, and what has no answer with the next.
    #[test]
    fn commands_leave_as_answers_come() {
        let (mut client, mut theirs) = pair();
        let payloads: Vec<Vec<u8>> = (0..40_u8).map(|at| vec![at; 5000]).collect();
        for payload in &payloads {
            client.queue_without_answer(&[99]);
            client.queue_packet(payload);
        }
        let mut heard = Vec::new();
        theirs.set_nonblocking(true).unwrap();
        for answered in 0..payloads.len() {
            client.begin_answer(soon()).unwrap();
            let _ = theirs.read_to_end(&mut heard);
            let ahead = heard.len() - answered * 5009;
            assert!((5009..=MAX_UNANSWERED_BYTES).contains(&ahead), "{ahead} bytes after {answered} answers");
            theirs.write_all(&[1, 0, 0, 1, 0]).unwrap();
            client.next_packet(10, soon()).unwrap();
            client.end_answer();
        }
        let mut expected = Vec::new();
        for payload in &payloads {
            frame(&mut expected, &[99], 0);
            frame(&mut expected, payload, 0);
        }
        assert!(heard == expected);
        assert!(client.round_trip() > Duration::ZERO && client.queued.is_empty());
    }
}
