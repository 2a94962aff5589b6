//! Request heads: bytes in, a checked [`Head`] or a [`Rejection`] out.
//!
//! `httparse` reads the syntax. The checks on top of it are stricter than HTTP where leniency is how requests are
//! smuggled (RFC 9112): one `Host`, no body at all. Pure functions over bounded bytes: no socket, no clock, no panic.

use std::borrow::Cow;
use std::collections::HashSet;

use httparse::{EMPTY_HEADER, Error, Header, Status};

use crate::config::exporter::HttpLimits;
use crate::server::Method;

/// Why a request is refused: the answer it gets, and the label `reason` of `http_requests_rejected_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// The status code of the answer.
    pub status: u16,
    /// `None` is not counted: the client did nothing wrong.
    pub reason: Option<&'static str>,
    /// The answer's text.
    pub message: &'static str,
}

impl Rejection {
    /// The client did something wrong.
    pub const fn new(status: u16, reason: &'static str, message: &'static str) -> Self {
        Rejection { status, reason: Some(reason), message }
    }

    /// The request is valid, but the exporter cannot answer it.
    pub const fn internal(status: u16, message: &'static str) -> Self {
        Rejection { status, reason: None, message }
    }
}

/// The bytes of a header line, at least: a name, a colon and a line feed.
const SHORTEST_LINE: usize = 3;

const fn malformed(message: &'static str) -> Rejection {
    Rejection::new(400, "malformed", message)
}

/// A request head that may be passed on.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'b> {
    /// The method.
    pub method: Method,
    /// Origin form: `/path?query`, visible ASCII.
    pub target: Cow<'b, str>,
    /// Whether the client keeps the connection open after the answer.
    pub keep_alive: bool,
    /// HTTP/1.0: the answer must say so when the connection stays open.
    pub is_http_1_0: bool,
    /// End-to-end headers, in order, ASCII.
    pub headers: Vec<(&'b str, &'b str)>,
}

impl<'b> Head<'b> {
    /// Reads the first head in `bytes` and returns it with its length; `None` while it is incomplete.
    ///
    /// # Errors
    /// What can never become a head of HTTP/1.x, or has a body, which is not supported here.
    pub fn parse(bytes: &'b [u8], limits: &HttpLimits) -> Result<Option<(Self, usize)>, Rejection> {
        // No more memory than for as many as there can be.
        let most = limits.max_header_lines.min(bytes.len() / SHORTEST_LINE + 1);
        let mut headers = vec![EMPTY_HEADER; most];
        let mut request = httparse::Request::new(&mut headers);
        let status = request.parse(bytes).map_err(|error| syntax_error(error, bytes))?;
        let method = request.method.map(method);
        let target = request.path.map(RequestTarget::parse).transpose()?;
        let (Status::Complete(end), Some(method), Some(target)) = (status, method, target) else {
            return Ok(None);
        };
        let RequestTarget { authority, origin_form: target } = target;
        let is_http_1_0 = request.version == Some(0);
        let fields = HeaderFields(request.headers);
        fields.check(is_http_1_0)?;
        let keep_alive =
            !fields.has("connection", "close") && (!is_http_1_0 || fields.has("connection", "keep-alive"));
        let headers = fields.end_to_end(authority);
        Ok(Some((Head { method, target, keep_alive, is_http_1_0, headers }, end)))
    }

    /// The first value of a header.
    pub fn header(&self, wanted: &str) -> Option<&'b str> {
        let found = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| *value)
    }
}

/// The length of the first head in `bytes`, which is all that has arrived; `None` while it is incomplete. An earlier
/// call has seen the first `seen` bytes: without a new line end there is nothing to parse again, so a client that
/// sends byte by byte costs no more than one that sends line by line.
///
/// # Errors
/// As [`Head::parse`], and a head above one of `limits`, each as soon as it shows.
pub fn find_end(bytes: &[u8], seen: usize, limits: &HttpLimits) -> Result<Option<usize>, Rejection> {
    const TOO_LARGE: Rejection = Rejection::new(431, "head_size", "the request head is too large");
    match bytes.iter().find(|byte| !matches!(byte, b'\r' | b'\n')) {
        Some(0x16) => return Err(malformed("this port speaks plain HTTP, not TLS")),
        Some(first) if !is_token(*first) => return Err(malformed("this is not an HTTP request")),
        _ => {}
    }
    let new = bytes.get(seen..).unwrap_or_default();
    if let Some(newline) = new.iter().rposition(|byte| *byte == b'\n') {
        let lines = bytes.get(..=seen + newline).unwrap_or_default();
        if let Some((_, end)) = Head::parse(lines, limits)? {
            return if end <= limits.max_head_bytes { Ok(Some(end)) } else { Err(TOO_LARGE) };
        }
    }
    if bytes.len() < limits.max_head_bytes { Ok(None) } else { Err(TOO_LARGE) }
}

fn syntax_error(error: Error, bytes: &[u8]) -> Rejection {
    let request_line = || bytes.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    match error {
        Error::TooManyHeaders => Rejection::new(431, "header_lines", "the request has too many header lines"),
        Error::Version
            if request_line().is_some_and(|line| line.windows(6).any(|part| part == b" HTTP/")) =>
        {
            Rejection::new(505, "malformed", "only HTTP/1.0 and HTTP/1.1 are supported")
        }
        Error::HeaderName => malformed("a header line has no colon, or its name is not a token"),
        Error::HeaderValue => malformed("a header's value contains a control character"),
        Error::NewLine => malformed("a line does not end in CR LF"),
        _ => malformed("the request line is not METHOD TARGET HTTP/1.1"),
    }
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        _ => Method::Other,
    }
}

/// `/path?query`, or `http://host/path?query` as clients send it to a proxy.
struct RequestTarget<'b> {
    /// Of the second form.
    authority: Option<&'b str>,
    origin_form: Cow<'b, str>,
}

impl<'b> RequestTarget<'b> {
    fn parse(target: &'b str) -> Result<Self, Rejection> {
        const NOT_A_PATH: Rejection = malformed("the request target is not a path");
        if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(NOT_A_PATH);
        }
        if target.starts_with('/') {
            return Ok(RequestTarget { authority: None, origin_form: target.into() });
        }
        let (scheme, rest) = target.split_once("://").ok_or(NOT_A_PATH)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) || authority.is_empty() {
            return Err(NOT_A_PATH);
        }
        if !authority.bytes().all(is_of_host) {
            return Err(malformed("the host of the request target is not a host name"));
        }
        let origin_form = if path.starts_with('/') { path.into() } else { format!("/{path}").into() };
        Ok(RequestTarget { authority: Some(authority), origin_form })
    }
}

/// A byte of a token (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Headers between two neighbours (RFC 9110, 7.6.1), and those that the gate has dealt with.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "content-length",
];

/// The headers of a request, in order.
struct HeaderFields<'h, 'b>(&'h [Header<'b>]);

impl<'h, 'b> HeaderFields<'h, 'b> {
    /// One `Host` (HTTP/1.0 may have none), no body, nothing expected.
    fn check(&self, is_http_1_0: bool) -> Result<(), Rejection> {
        self.check_host(is_http_1_0)?;
        self.check_body()?;
        // Without a body there is nothing to continue: the answer itself follows.
        let supported = self.tokens("expect").all(|token| token.eq_ignore_ascii_case(b"100-continue"));
        if supported {
            Ok(())
        } else {
            Err(Rejection::new(417, "malformed", "only 100-continue can be expected"))
        }
    }

    /// Whether a header that lists tokens has this one.
    fn has(&self, name: &str, wanted: &str) -> bool {
        self.tokens(name).any(|token| token.eq_ignore_ascii_case(wanted.as_bytes()))
    }

    /// Those that are passed on; `authority` takes the place of `Host` (RFC 9112, 3.2.2). One that is not ASCII is left
    /// out: tiny_http would close the connection, and no endpoint reads such a header.
    fn end_to_end(&self, authority: Option<&'b str>) -> Vec<(&'b str, &'b str)> {
        // A set, as there may be thousands.
        let named: HashSet<Vec<u8>> = self.tokens("connection").map(<[u8]>::to_ascii_lowercase).collect();
        let is_hop_by_hop = |name: &str| {
            let name = name.to_ascii_lowercase();
            let is_replaced = authority.is_some() && name == "host";
            is_replaced || HOP_BY_HOP.contains(&name.as_str()) || named.contains(name.as_bytes())
        };
        let passed = self.0.iter().filter(|field| field.value.is_ascii() && !is_hop_by_hop(field.name));
        let passed = passed.filter_map(|field| Some((field.name, std::str::from_utf8(field.value).ok()?)));
        authority.map(|authority| ("Host", authority)).into_iter().chain(passed).collect()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    fn tokens(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.values(name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }

    fn check_host(&self, is_http_1_0: bool) -> Result<(), Rejection> {
        let mut hosts = self.values("host");
        match (hosts.next(), hosts.next()) {
            (Some(host), None) if host.iter().copied().all(is_of_host) => Ok(()),
            (Some(_), None) => Err(malformed("the header Host is not a host name")),
            (None, _) if is_http_1_0 => Ok(()),
            (None, _) => Err(malformed("the header Host is missing")),
            (Some(_), Some(_)) => Err(malformed("there is more than one header Host")),
        }
    }

    fn check_body(&self) -> Result<(), Rejection> {
        const BODY: Rejection = Rejection::new(413, "body", "requests must not have a body");
        let chunked = self.values("transfer-encoding").next().is_some();
        let mut lengths = self.values("content-length");
        match (lengths.next(), lengths.next()) {
            (None, _) if chunked => Err(BODY),
            (None, _) => Ok(()),
            (Some(_), _) if chunked => {
                Err(malformed("Content-Length and Transfer-Encoding contradict each other"))
            }
            (Some(_), Some(_)) => Err(malformed("there is more than one header Content-Length")),
            (Some(length), None) if length.is_empty() || !length.iter().all(u8::is_ascii_digit) => {
                Err(malformed("Content-Length is not a number"))
            }
            (Some(length), None) if length.iter().all(|digit| *digit == b'0') => Ok(()),
            (Some(_), None) => Err(BODY),
        }
    }
}

/// A byte of a name or an address with its port (RFC 3986, 3.2.2): none that has a meaning in HTML.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%:[]!$()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests;
