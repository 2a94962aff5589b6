//! One connection of an attacker: says anything, reads as much as it likes, leaves as rudely as it likes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::CLOSED;
use super::dial::{Dial, Wire};
use crate::web_client::Reply;

/// Silence or deafness after which a client gives up, far longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);
/// How long a client that polls waits for a byte.
const SHORT: Duration = Duration::from_millis(1);
/// A receive buffer that is full at once; the kernel doubles it.
const NARROW: usize = 4096;

/// How the socket is made.
#[derive(Default, Clone, Copy)]
pub(super) struct Way {
    /// The address it comes from.
    pub(super) from: Option<IpAddr>,
    /// It takes in a few kilobytes, then waits to be read.
    pub(super) narrow: bool,
}

/// A connection, and what was read of it.
pub(super) struct Client {
    wire: Box<dyn Wire>,
    taken: Vec<u8>,
    ended: bool,
}

impl Client {
    /// A connection of the usual kind.
    pub(super) fn connect(dial: Dial, to: SocketAddr) -> Self {
        Self::connect_by(dial, to, Way::default())
    }

    /// A connection made in a certain way.
    pub(super) fn connect_by(dial: Dial, to: SocketAddr, way: Way) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        if way.narrow {
            socket.set_recv_buffer_size(NARROW).expect("a buffer's size");
        }
        if let Some(from) = way.from {
            socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of this machine");
        }
        socket.connect(&to.into()).expect("the exporter accepts");
        let socket = TcpStream::from(socket);
        // Without it what follows a handshake waits for an ACK.
        socket.set_nodelay(true).expect("TCP_NODELAY");
        socket.set_read_timeout(Some(LONG)).expect("a timeout");
        socket.set_write_timeout(Some(LONG)).expect("a timeout");
        Client { wire: dial.over(socket), taken: Vec::new(), ended: false }
    }

    /// False when the other side no longer takes it.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.write_all(bytes.as_ref()).and_then(|()| self.wire.flush()).is_ok()
    }

    /// A whole request that asks for the connection's end after its answer; with a login, for who asks for one.
    pub(super) fn get(&mut self, path: &str) -> bool {
        self.get_as("dTpw", path)
    }

    /// The same with any login, in base64.
    pub(super) fn get_as(&mut self, login: &str, path: &str) -> bool {
        let head = "HTTP/1.1\r\nHost: a\r\nConnection: close";
        self.send(format!("GET {path} {head}\r\nAuthorization: Basic {login}\r\n\r\n"))
    }

    /// Reads at most `most` bytes, waiting for the first.
    pub(super) fn take(&mut self, most: usize) {
        let mut bytes = vec![0; most];
        match self.wire.read(&mut bytes) {
            Ok(count @ 1..) => self.taken.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(_) | Err(_) => self.ended = true,
        }
    }

    /// True when a byte came by now, or the end.
    pub(super) fn was_answered(&mut self) -> bool {
        self.wire.socket().set_read_timeout(Some(SHORT)).expect("a timeout");
        self.take(1);
        self.wire.socket().set_read_timeout(Some(LONG)).expect("a timeout");
        self.ended || !self.taken.is_empty()
    }

    /// Reads until the connection ends; all that ever came.
    pub(super) fn rest(mut self) -> Vec<u8> {
        let _ = self.wire.read_to_end(&mut self.taken);
        self.taken
    }

    /// Reads until the connection ends; the status of the first answer.
    pub(super) fn status(self) -> u16 {
        status(&self.rest())
    }

    /// Half a close: the exporter reads the end of the stream.
    pub(super) fn half_close(&self) {
        let _ = self.wire.socket().shutdown(std::net::Shutdown::Write);
    }

    /// Leaves with a reset.
    pub(super) fn reset(self) {
        SockRef::from(self.wire.socket()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }
}

/// The status of the first answer in `bytes`; [`CLOSED`] where there is none.
pub(super) fn status(bytes: &[u8]) -> u16 {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    if line.is_empty() {
        return CLOSED;
    }
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("an answer begins with {line:?}"))
}

/// Takes answers that came one after another apart.
pub(super) fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head's end") + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
        let length: usize = length.trim().parse().expect("a number");
        let (reply, rest) = bytes.split_at(end + length);
        replies.push(Reply::parse(reply, false).expect("an answer"));
        bytes = rest;
    }
    replies
}
