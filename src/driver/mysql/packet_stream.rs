//! Packets on a stream: one reusable read buffer, packets read in place, a queue of commands to send.
//!
//! Commands are pipelined: a server reads the next one when it has answered the one before (seen with MySQL 9.7, MariaDB
//! 10.11 and 11.8). It does not read while its answer waits to be read, so both sides would wait for each other if the
//! socket buffers of both were full: never more than [`MAX_UNANSWERED_BYTES`] of commands wait for their answers.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;

use super::stream::ServerStream;

/// The read buffer of a batch: what a server sends at once. An idle session has none.
const READ_BUFFER_BYTES: usize = 8 * 1024;
/// What it grows to while rows stream.
const MAX_READ_BUFFER_BYTES: usize = 64 * 1024;
/// A payload of this length continues in the next packet.
const MAX_PACKET_PAYLOAD: usize = 0xff_ffff;
/// Bytes of commands that are sent and not answered; the buffers of any two sockets hold more.
const MAX_UNANSWERED_BYTES: usize = 32 * 1024;

/// Both directions of one connection.
pub(super) struct PacketStream {
    stream: ServerStream,
    /// Read and not yet returned: `input[start..end]`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the next payload that stand joined at `start`, without their headers.
    joined: usize,
    /// The sequence number that the next packet must have.
    sequence: u8,
    /// Commands in order; the first `sent` bytes are sent.
    out: Vec<u8>,
    sent: usize,
    /// The lengths of the commands that were not answered; the first `in_flight` of them are sent.
    unanswered: VecDeque<usize>,
    in_flight: usize,
    /// When a command was sent while no other was in flight, until its answer begins.
    asked: Option<Instant>,
    /// The shortest time between such a command and its answer.
    round_trip: Option<Duration>,
}

impl PacketStream {
    pub(super) fn new(stream: ServerStream) -> Self {
        PacketStream {
            stream,
            input: Vec::new(),
            start: 0,
            end: 0,
            joined: 0,
            sequence: 0,
            out: Vec::new(),
            sent: 0,
            unanswered: VecDeque::new(),
            in_flight: 0,
            asked: None,
            round_trip: None,
        }
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

    /// Queues a command that the server answers.
    pub(super) fn queue(&mut self, payload: &[u8]) {
        let before: usize = self.sent + self.unanswered.iter().skip(self.in_flight).sum::<usize>();
        frame(&mut self.out, payload, 0);
        // Commands without an answer that were queued before it are sent with it.
        self.unanswered.push_back(self.out.len() - before);
    }

    /// Queues a command that the server does not answer; it is sent with the next one.
    pub(super) fn queue_without_answer(&mut self, payload: &[u8]) {
        frame(&mut self.out, payload, 0);
    }

    /// Sends the queued commands that fit into [`MAX_UNANSWERED_BYTES`].
    pub(super) fn push(&mut self, by: Deadline) -> io::Result<()> {
        let was_idle = self.in_flight == 0;
        let before: usize = self.unanswered.iter().take(self.in_flight).sum();
        let mut length = 0;
        while let Some(next) = self.unanswered.get(self.in_flight)
            && (self.in_flight == 0 || before + length + next <= MAX_UNANSWERED_BYTES)
        {
            length += next;
            self.in_flight += 1;
        }
        if length == 0 {
            return Ok(());
        }
        if was_idle {
            self.asked = Some(Instant::now());
        }
        let bytes = self.out.get(self.sent..self.sent + length).unwrap_or_default();
        self.stream.write_all(bytes, by)?;
        self.sent += length;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        Ok(())
    }

    /// Sends everything that is queued.
    pub(super) fn send_all(&mut self, by: Deadline) -> io::Result<()> {
        let bytes = self.out.get(self.sent..).unwrap_or_default();
        self.stream.write_all(bytes, by)
    }

    /// The answer to the next command begins.
    pub(super) fn begin_answer(&mut self, by: Deadline) -> io::Result<()> {
        self.push(by)?;
        self.sequence = 1;
        Ok(())
    }

    /// The answer to a command was read to its end.
    pub(super) fn end_answer(&mut self) {
        self.unanswered.pop_front();
        self.in_flight = self.in_flight.saturating_sub(1);
        self.asked = None;
    }

    /// The next packet, of at most `longest` bytes.
    ///
    /// # Errors
    /// `TimedOut` at the deadline, `UnexpectedEof`, `FileTooLarge` beyond `longest`, `InvalidData` for a packet that is not
    /// the next one, and what the stream says.
    pub(super) fn next(&mut self, longest: usize, by: Deadline) -> io::Result<Range<usize>> {
        loop {
            if let Some(payload) = self.split(longest)? {
                return Ok(payload);
            }
            self.fill(longest, by)?;
        }
    }

    fn split(&mut self, longest: usize) -> io::Result<Option<Range<usize>>> {
        loop {
            let header = self.start + self.joined;
            let Some(&[a, b, c, sequence, ..]) = self.input.get(header..self.end) else { return Ok(None) };
            let length = u32::from_le_bytes([a, b, c, 0]) as usize;
            if self.joined + length > longest {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let payload = header + 4..header + 4 + length;
            if payload.end > self.end {
                return Ok(None);
            }
            // A server that closes an idle session sends an error that answers no command.
            let is_goodbye = self.input.get(payload.start) == Some(&0xff);
            if sequence != self.sequence && !is_goodbye {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet out of order"));
            }
            self.sequence = sequence.wrapping_add(1);
            if let Some(asked) = self.asked.take() {
                let took = asked.elapsed();
                self.round_trip = Some(self.round_trip.map_or(took, |shortest| shortest.min(took)));
            }
            if self.joined == 0 && length < MAX_PACKET_PAYLOAD {
                self.start = payload.end;
                return Ok(Some(payload));
            }
            // A payload in several packets: remove their headers.
            self.input.copy_within(payload.start..self.end, header);
            self.end -= 4;
            self.joined += length;
            if length < MAX_PACKET_PAYLOAD {
                let payload = self.start..self.start + self.joined;
                (self.start, self.joined) = (payload.end, 0);
                return Ok(Some(payload));
            }
        }
    }

    fn fill(&mut self, longest: usize, by: Deadline) -> io::Result<()> {
        // The buffer grows by what has arrived, not by what a length promises, and not far beyond what is taken.
        // The buffer grows with what has arrived, not with what a length announces.
        let was_full = self.end == self.input.len() && self.input.len() < MAX_READ_BUFFER_BYTES;
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if was_full || self.end == self.input.len() {
            let now = self.input.len();
            self.input.resize(
                (now * 2).min(longest.saturating_add(MAX_READ_BUFFER_BYTES)).max(now + READ_BUFFER_BYTES),
                0,
            );
        }
        let count = self.stream.read(self.input.get_mut(self.end..).unwrap_or_default(), by)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += count;
        Ok(())
    }

    /// A packet's bytes, until the next one is read.
    pub(super) fn payload(&self, packet: &Range<usize>) -> &[u8] {
        self.input.get(packet.clone()).unwrap_or_default()
    }

    /// True where every command was answered.
    pub(super) fn is_answered(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Frees memory between batches.
    pub(super) fn free_buffers(&mut self) {
        if self.start == self.end {
            self.input = Vec::new();
            (self.start, self.end) = (0, 0);
        }
        self.out = Vec::new();
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use socket2::Socket;

    use crate::driver::connection::socket::TimedSocket;

    use super::*;

    fn pair() -> (PacketStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = TimedSocket::new(Socket::from(OwnedFd::from(ours)));
        (PacketStream::new(ServerStream::new(socket, usize::MAX)), theirs)
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
            let (mut link, mut theirs) = pair();
            let payload: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
            let mut bytes = Vec::new();
            let after = frame(&mut bytes, &payload, 0);
            frame(&mut bytes, b"next", after);
            let sender = std::thread::spawn(move || theirs.write_all(&bytes).map(|()| theirs));
            let packet = link.next(1 << 30, soon()).unwrap();
            assert!(link.payload(&packet) == payload, "{length}");
            let packet = link.next(1 << 30, soon()).unwrap();
            assert_eq!(link.payload(&packet), b"next", "{length}");
            drop(sender.join().unwrap());
        }
    }

    #[test]
    fn a_length_reserves_nothing_and_may_not_pass_its_bound() {
        let (mut link, mut theirs) = pair();
        theirs.write_all(&[0xfe, 0xff, 0xff, 0]).unwrap();
        assert_eq!(link.next(1 << 20, soon()).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let late = Deadline::within(Duration::from_millis(20));
        assert_eq!(link.next(1 << 30, late).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(link.input.len() <= READ_BUFFER_BYTES, "{}", link.input.len());
        // One that goes on and on.
        let (mut link, mut theirs) = pair();
        std::thread::spawn(move || {
            while theirs
                .write_all(&[&[0xff, 0xff, 0xff, 0][..], &vec![0; MAX_PACKET_PAYLOAD]].concat())
                .is_ok()
            {}
        });
        assert_eq!(
            link.next(MAX_PACKET_PAYLOAD + 100, soon()).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }

    #[test]
    fn a_packet_out_of_order_is_refused_and_a_farewell_is_heard() {
        let (mut link, mut theirs) = pair();
        link.queue(&[14]);
        link.begin_answer(soon()).unwrap();
        theirs.write_all(&[1, 0, 0, 7, 0]).unwrap();
        assert_eq!(link.next(100, soon()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (mut link, mut theirs) = pair();
        link.queue(&[14]);
        link.begin_answer(soon()).unwrap();
        theirs.write_all(&[1, 0, 0, 0, 0xff]).unwrap();
        assert_eq!(link.next(100, soon()).unwrap(), 4..5);
    }

    /// Never more on its way than the window, all of it in the end, in order, and what has no answer with the next.
    #[test]
    fn commands_leave_as_answers_come() {
        let (mut link, mut theirs) = pair();
        let payloads: Vec<Vec<u8>> = (0..40_u8).map(|at| vec![at; 5000]).collect();
        for payload in &payloads {
            link.queue_without_answer(&[99]);
            link.queue(payload);
        }
        let mut heard = Vec::new();
        theirs.set_nonblocking(true).unwrap();
        for answered in 0..payloads.len() {
            link.begin_answer(soon()).unwrap();
            let _ = theirs.read_to_end(&mut heard);
            let ahead = heard.len() - answered * 5009;
            assert!((5009..=MAX_UNANSWERED_BYTES).contains(&ahead), "{ahead} bytes after {answered} answers");
            theirs.write_all(&[1, 0, 0, 1, 0]).unwrap();
            link.next(10, soon()).unwrap();
            link.end_answer();
        }
        let mut expected = Vec::new();
        for payload in &payloads {
            frame(&mut expected, &[99], 0);
            frame(&mut expected, payload, 0);
        }
        assert!(heard == expected);
        assert!(link.round_trip() > Duration::ZERO && link.out.is_empty());
    }
}
