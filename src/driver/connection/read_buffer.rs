//! What was read from a server and not taken yet, in one buffer a connection: messages are read in place.
//!
//! It grows with what has arrived, not with what a length announces. Knows no message.

use std::io;
use std::ops::Range;

use crate::deadline::Deadline;

use super::stream::ServerStream;

/// What a server sends at once. A session that does nothing has no buffer.
const READ_BYTES: usize = 8 * 1024;
/// What it grows to while rows stream.
pub(crate) const BUSY_READ_BYTES: usize = 64 * 1024;

/// The buffer.
#[derive(Default)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    /// What was not taken: `bytes[start..end]`.
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// What was not taken.
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes so many bytes, which must have arrived: where they are until more is read.
    pub(crate) fn take(&mut self, count: usize) -> Range<usize> {
        let taken = self.start..(self.start + count).min(self.end);
        self.start = taken.end;
        taken
    }

    /// Removes bytes that stand so far behind the first one that was not taken.
    pub(crate) fn remove(&mut self, after: usize, count: usize) {
        let at = self.start + after;
        self.bytes.copy_within(at + count..self.end, at);
        self.end -= count;
    }

    /// What was taken.
    pub(crate) fn get(&self, taken: &Range<usize>) -> &[u8] {
        self.bytes.get(taken.clone()).unwrap_or_default()
    }

    /// What was taken, to rewrite values in.
    pub(crate) fn get_mut(&mut self, taken: &Range<usize>) -> &mut [u8] {
        self.bytes.get_mut(taken.clone()).unwrap_or_default()
    }

    /// Reads what has come, and waits until `by` for at least one byte; returns how many. `longest`: the bytes of the longest
    /// message that is wanted.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end of the stream, and those of [`ServerStream::read`].
    pub(crate) fn fill(
        &mut self,
        stream: &mut ServerStream,
        longest: usize,
        by: Deadline,
    ) -> io::Result<usize> {
        let was_full = self.end == self.bytes.len() && self.bytes.len() < BUSY_READ_BYTES;
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if was_full || self.end == self.bytes.len() {
            let size = (self.bytes.len() * 2).clamp(READ_BYTES, longest.max(BUSY_READ_BYTES));
            self.bytes.resize(size, 0);
        }
        let count = stream.read(self.bytes.get_mut(self.end..).unwrap_or_default(), by)?;
        self.end += count;
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }

    /// Gives memory back; what was taken is gone.
    pub(crate) fn release(&mut self) {
        self.bytes = self.unread().to_vec();
        (self.start, self.end) = (0, self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use crate::driver::connection::socket::TimedSocket;

    use super::*;

    #[test]
    fn it_grows_with_what_arrives_and_keeps_what_was_not_taken() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut stream = ServerStream::new(TimedSocket::new(OwnedFd::from(ours)));
        let mut buffer = ReadBuffer::default();
        let soon = || Deadline::within(Duration::from_secs(20));
        theirs.write_all(b"0123456789").unwrap();
        assert_eq!(buffer.fill(&mut stream, 1 << 30, soon()).unwrap(), 10);
        assert_eq!(buffer.bytes.len(), READ_BYTES, "whatever length is announced");
        let taken = buffer.take(3);
        assert_eq!((buffer.get(&taken), buffer.unread()), (&b"012"[..], &b"3456789"[..]));
        buffer.remove(1, 2);
        assert_eq!(buffer.unread(), b"36789");
        buffer.release();
        assert_eq!((buffer.unread(), buffer.bytes.len()), (&b"36789"[..], 5));
        let sent = vec![7; 3 * BUSY_READ_BYTES];
        let sender = std::thread::spawn(move || theirs.write_all(&sent));
        while buffer.unread().len() < 5 + 3 * BUSY_READ_BYTES {
            buffer.fill(&mut stream, 1 << 30, soon()).unwrap();
        }
        assert!(buffer.bytes.len() <= 2 * (5 + 3 * BUSY_READ_BYTES));
        assert!(buffer.unread().starts_with(b"36789\x07"));
        sender.join().unwrap().unwrap();
        assert_eq!(buffer.fill(&mut stream, 9, soon()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
