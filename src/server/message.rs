//! Requests and responses as the endpoints see them. Knows no socket.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use crate::exposition::Format;
use crate::exposition::page::{Families, PagePiece, pieces};
use crate::plain_text::one_line;

/// The client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Over TCP.
    Address(IpAddr),
    /// Over a Unix socket: this machine.
    Unix,
}

impl Peer {
    /// True for this machine.
    pub fn is_loopback(self) -> bool {
        match self {
            Peer::Address(address) => address.to_canonical().is_loopback(),
            Peer::Unix => true,
        }
    }
}

/// A request as the endpoints see it: small, checked, decoded.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD` or `POST`.
    pub method: Method,
    /// The path without the query, as sent.
    pub path: String,
    /// The query's pairs in order, percent-decoded.
    pub query: Vec<(String, String)>,
    /// Header names in lower case, values trimmed, in order.
    pub headers: Vec<(String, String)>,
    /// The client.
    pub peer: Peer,
    /// True when the client has logged in or has shown a certificate.
    pub authenticated: bool,
    /// True over TLS.
    pub over_tls: bool,
    /// When the head's last byte had arrived: deadlines count from here.
    pub received: Instant,
}

impl Request {
    /// True when the client may read messages of databases: it is this machine, or authenticated.
    pub fn is_trusted(&self) -> bool {
        self.authenticated || self.peer.is_loopback()
    }

    /// The header's values, in order.
    pub fn header<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The methods that pass the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: an answer without a body.
    Head,
    /// POST, without a body.
    Post,
    /// One that no path knows: each says which it does.
    Other,
}

impl Method {
    /// As in a request line, from the gate to the backend.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Other => "OTHER",
        }
    }
}

/// Bytes that several responses may hold.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A part of a body. Shared parts are written without being copied together.
#[derive(Clone)]
pub enum BodyPart {
    /// Of this response only.
    Owned(Vec<u8>),
    /// Other responses may hold it too: a block of a scrape.
    Shared(SharedBytes),
}

impl BodyPart {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            BodyPart::Owned(bytes) => bytes,
            BodyPart::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

/// A response. Its length is the sum of the parts and is always sent.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header names and values without line ends; `Content-Length` is added by `backend`, `Connection` by the gate.
    pub headers: Vec<(&'static str, String)>,
    /// The body. For HEAD it is not sent; its length is, unless it is empty: then the length is not known.
    pub body: Vec<BodyPart>,
    /// What was in memory beside the body while it was made: the page before its compression.
    pub uncompressed: BodySize,
}

/// Bytes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BodySize {
    /// Its own.
    pub own: usize,
    /// Those that other responses may hold too.
    pub shared: usize,
}

impl BodySize {
    /// All of them.
    pub fn sum(self) -> usize {
        self.own.saturating_add(self.shared)
    }
}

impl Response {
    /// A response that is not compressed.
    pub fn new(status: u16, headers: Vec<(&'static str, String)>, body: Vec<BodyPart>) -> Self {
        Response { status, headers, body, uncompressed: BodySize::default() }
    }

    /// A short plain text. It may contain names from a request or from a file, and is read in terminals, so control
    /// characters are replaced.
    pub fn text(status: u16, text: impl AsRef<str>) -> Self {
        let lines: Vec<_> = text.as_ref().split('\n').map(one_line).collect();
        Response::owned(status, "text/plain; charset=utf-8", lines.join("\n"))
    }

    /// A text that no other response shares.
    pub(super) fn owned(status: u16, content_type: &str, body: String) -> Self {
        let headers = vec![("Content-Type", content_type.to_owned())];
        Response::new(status, headers, vec![BodyPart::Owned(body.into_bytes())])
    }

    /// A page of families. Blocks are passed on as they are, not copied together.
    pub fn exposition(families: &Families, format: &dyn Format) -> Self {
        let part = |piece| match piece {
            PagePiece::Text(bytes) => BodyPart::Owned(bytes),
            PagePiece::Lines(block) => BodyPart::Shared(block as SharedBytes),
        };
        let headers = vec![("Content-Type", format.content_type().to_owned()), ("Vary", "Accept".to_owned())];
        Response::new(200, headers, pieces(families, format).into_iter().map(part).collect())
    }

    /// A page for people. It may load nothing, send its form to nobody but this server, and be framed nowhere; its style is
    /// in it, and of scripts only `script` runs.
    pub(super) fn html(html: String, script: &str) -> Self {
        let hash = STANDARD.encode(digest(&SHA256, script.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; img-src data:; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        );
        let mut response = Response::owned(200, "text/html; charset=utf-8", html);
        response.headers.push(("Content-Security-Policy", policy));
        response
    }

    /// Sends a browser to another path of this server.
    pub(super) fn redirect(path: &str) -> Self {
        let mut response = Response::text(302, format!("see {path}\n"));
        response.headers.push(("Location", path.to_owned()));
        response
    }

    /// The bytes of the body.
    pub fn length(&self) -> usize {
        self.body.iter().map(|part| part.bytes().len()).sum()
    }
}

/// What every response tells a browser: load, send and frame nothing, guess no type, send no referrer, store nothing, and
/// show it on no page of another site. A response's own header of the same name takes precedence.
const DEFAULT_HEADERS: &[(&str, &str)] = &[
    (
        "Content-Security-Policy",
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

/// The lines of a response's date, of its `own` headers, and of those of [`DEFAULT_HEADERS`] that are not among them.
pub(super) fn header_lines<N: AsRef<str>>(own: &[(N, String)]) -> String {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let own = own.iter().map(|(name, value)| (name.as_ref(), value.as_str()));
    let is_own = |name: &str| own.clone().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let defaults = DEFAULT_HEADERS.iter().copied().filter(|(name, _)| !is_own(name));
    let all = std::iter::once(("Date", date.as_str())).chain(own.clone()).chain(defaults);
    all.map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// The reason phrase of a status.
pub(super) fn reason_phrase(status: u16) -> &'static str {
    tiny_http::StatusCode(status).default_reason_phrase()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A GET without headers, from a Unix socket.
    pub(in crate::server) fn get(path: &str) -> Request {
        Request {
            method: Method::Get,
            path: path.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            peer: Peer::Unix,
            authenticated: false,
            over_tls: false,
            received: Instant::now(),
        }
    }

    #[test]
    fn a_text_answer_steers_no_terminal() {
        let answer = Response::text(400, "no target a\u{1b}[31m\u{202e}\r\nthe nearest: b\n");
        let [BodyPart::Owned(body)] = &answer.body[..] else { panic!("one part") };
        assert_eq!(String::from_utf8_lossy(body), "no target a␛[31m\u{fffd}␍\nthe nearest: b\n");
    }
}
