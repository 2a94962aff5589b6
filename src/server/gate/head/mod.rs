//! Request heads: bytes in, a checked [`Head`] or a [`Fault`] out.
//!
//! Pure functions over bounded bytes; no socket, no clock, never a panic. Stricter than HTTP where leniency is how
//! requests are smuggled (RFC 9112): one `Host`, no folded lines, no body at all. A line may end in a bare LF.

mod fields;

use self::fields::Fields;
use crate::config::exporter::HttpLimits;
use crate::server::Method;

/// Why a request is refused: the answer it gets, and the label `reason` of `http_requests_rejected_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The status code of the answer.
    pub status: u16,
    /// `None` is not counted: the fault is ours.
    pub reason: Option<&'static str>,
    /// The answer's text.
    pub message: &'static str,
}

impl Fault {
    /// A fault of the client's.
    #[must_use]
    pub const fn new(status: u16, reason: &'static str, message: &'static str) -> Self {
        Fault { status, reason: Some(reason), message }
    }

    /// The request was good; we cannot answer it.
    #[must_use]
    pub const fn ours(status: u16, message: &'static str) -> Self {
        Fault { status, reason: None, message }
    }
}

const fn malformed(message: &'static str) -> Fault {
    Fault::new(400, "malformed", message)
}

/// Finds the end of a head while its bytes arrive; looks at each byte once.
#[derive(Default)]
pub struct Scanner {
    scanned: usize,
    line_start: usize,
    lines: usize,
}

impl Scanner {
    /// `bytes` is all that has arrived so far. `Some(end)`: `bytes[..end]` is a whole head.
    ///
    /// # Errors
    /// What can never become a head, or is over one of `limits`, as soon as that shows.
    pub fn advance(&mut self, bytes: &[u8], limits: &HttpLimits) -> Result<Option<usize>, Fault> {
        const SIZE: Fault = Fault::new(431, "head_size", "the request head is too large");
        while let Some(found) =
            bytes.get(self.scanned..).and_then(|rest| rest.iter().position(|b| *b == b'\n'))
        {
            let end = self.scanned + found;
            let line = bytes.get(self.line_start..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            (self.scanned, self.line_start) = (end + 1, end + 1);
            if end >= limits.max_head_bytes {
                return Err(SIZE);
            }
            match (line.is_empty(), self.lines) {
                // An empty line or two before the request are left over from sloppy clients (RFC 9112, 2.2).
                (true, 0) => continue,
                (true, _) => return Ok(Some(end + 1)),
                (false, 0) => {
                    RequestLine::parse(line)?;
                }
                (false, lines) if lines > limits.max_header_lines => {
                    return Err(Fault::new(431, "header_lines", "the request has too many header lines"));
                }
                (false, _) => {}
            }
            self.lines += 1;
        }
        self.scanned = bytes.len();
        match bytes.get(self.line_start) {
            Some(0x16) if self.lines == 0 => Err(malformed("this port speaks plain HTTP, not TLS")),
            Some(byte) if self.lines == 0 && *byte != b'\r' && !is_token(*byte) => {
                Err(malformed("this is not an HTTP request"))
            }
            _ if bytes.len() >= limits.max_head_bytes => Err(SIZE),
            _ => Ok(None),
        }
    }
}

/// A request head that may be passed on.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'b> {
    /// The method.
    pub method: Method,
    /// Origin form: `/path?query`, visible ASCII.
    pub target: &'b str,
    /// What the client asks for the connection after the answer.
    pub keep_alive: bool,
    /// HTTP/1.0: it needs to be told that the connection stays.
    pub old: bool,
    /// End-to-end headers, in order, ASCII.
    pub headers: Vec<(&'b str, &'b str)>,
}

impl<'b> Head<'b> {
    /// Reads what [`Scanner`] found to be a whole head.
    ///
    /// # Errors
    /// A head that is no HTTP/1.x, or that asks for what is not done here: a body, another method.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, Fault> {
        let mut lines = bytes
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .filter(|line| !line.is_empty());
        let line = RequestLine::parse(lines.next().unwrap_or_default())?;
        let fields = Fields::parse(lines)?;
        fields.check(line.old)?;
        let keep_alive =
            !fields.has("connection", "close") && (!line.old || fields.has("connection", "keep-alive"));
        let headers = fields.passed_on();
        Ok(Head { method: line.method, target: line.target, keep_alive, old: line.old, headers })
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, wanted: &str) -> Option<&'b str> {
        let found = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| *value)
    }
}

struct RequestLine<'b> {
    method: Method,
    target: &'b str,
    old: bool,
}

impl<'b> RequestLine<'b> {
    fn parse(line: &'b [u8]) -> Result<Self, Fault> {
        let mut words = line.split(|byte| *byte == b' ');
        let (method, target, version) = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(method), Some(target), Some(version), None) => (method, target, version),
            (Some(_), Some(_), None, None) => return Err(malformed("HTTP/0.9 is not spoken here")),
            _ => return Err(malformed("the request line is not METHOD TARGET VERSION")),
        };
        let old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ if version.starts_with(b"HTTP/") => {
                return Err(Fault::new(505, "malformed", "only HTTP/1.0 and HTTP/1.1 are spoken here"));
            }
            _ => return Err(malformed("the request line does not end in an HTTP version")),
        };
        let method = match method {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            _ if !method.is_empty() && method.iter().copied().all(is_token) => {
                return Err(Fault::new(405, "method", "only GET and HEAD are answered here"));
            }
            _ => return Err(malformed("the method is not a word")),
        };
        Ok(RequestLine { method, target: origin_form(target)?, old })
    }
}

/// `/path?query`, also out of `http://host/path?query` as sent to a proxy.
fn origin_form(target: &[u8]) -> Result<&str, Fault> {
    const BAD: Fault = malformed("the request target is not a path");
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(BAD);
    }
    let target = std::str::from_utf8(target).map_err(|_| BAD)?;
    if target.starts_with('/') {
        return Ok(target);
    }
    let (scheme, rest) = target.split_once("://").ok_or(BAD)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(BAD);
    }
    Ok(rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/"))
}

/// A byte of a token (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
