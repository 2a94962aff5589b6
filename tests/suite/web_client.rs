//! A plain HTTP client over std: what the exporter sends is looked at byte by byte, nothing is repaired.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text; the exposition is UTF-8 whatever the database holds.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// Takes a whole answer apart. The body must be exactly as long as `Content-Length` says, except for HEAD.
    pub(crate) fn parse(bytes: &[u8], head_only: bool) -> Result<Reply, String> {
        let split = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or("the head does not end")?;
        let head = std::str::from_utf8(&bytes[..split]).map_err(|error| error.to_string())?;
        let body = bytes[split + 4..].to_vec();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| format!("no status in {first:?}"))?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("no header: {line:?}"))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers = lines.map(header).collect::<Result<Vec<_>, String>>()?;
        let reply = Reply { status, headers, body };
        reply.check_length(head_only)?;
        Ok(reply)
    }

    fn check_length(&self, head_only: bool) -> Result<(), String> {
        let said = self.header("content-length").and_then(|value| value.parse::<usize>().ok());
        match said {
            Some(said) if !head_only && said != self.body.len() => {
                Err(format!("Content-Length says {said}, the body has {} bytes", self.body.len()))
            }
            None if !head_only => Err(format!("no Content-Length in {:?}", self.headers)),
            _ => Ok(()),
        }
    }
}

/// Opens a connection that gives up after a minute of silence.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a read timeout can be set");
    stream
}

/// Sends bytes as they are and reads until the server closes.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    // The server may answer and close before it read all: what it answered counts.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// One request on a connection of its own.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let answer = exchange(address, text.as_bytes());
    Reply::parse(&answer, method == "HEAD")
        .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", String::from_utf8_lossy(&answer)))
}
