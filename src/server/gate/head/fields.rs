//! The header lines of a request: read, checked, and those that are passed on.

use super::{Fault, is_token, malformed};

/// Headers between two neighbours (RFC 9110, 7.6.1), and those the gate has dealt with.
const HOP: [&str; 11] = [
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

/// Name and value, as sent.
type Field<'b> = (&'b str, &'b [u8]);

/// All of a head's, in order.
pub(super) struct Fields<'b>(Vec<Field<'b>>);

impl<'b> Fields<'b> {
    /// Reads lines without their ends.
    pub(super) fn parse(lines: impl Iterator<Item = &'b [u8]>) -> Result<Self, Fault> {
        lines.map(field).collect::<Result<_, _>>().map(Fields)
    }

    /// One `Host` (HTTP/1.0 may have none), no body, nothing expected.
    pub(super) fn check(&self, old: bool) -> Result<(), Fault> {
        self.check_host(old)?;
        self.check_body()?;
        // Without a body there is nothing to continue: the answer itself follows.
        let known = self.tokens("expect").all(|word| word.eq_ignore_ascii_case(b"100-continue"));
        if known { Ok(()) } else { Err(Fault::new(417, "malformed", "Expect knows 100-continue only")) }
    }

    /// Whether a header that lists words has this one.
    pub(super) fn has(&self, name: &str, word: &str) -> bool {
        self.tokens(name).any(|token| token.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// End-to-end headers. Those that are not ASCII are left out: tiny_http would end the connection, and none that
    /// we read is.
    pub(super) fn passed_on(&self) -> Vec<(&'b str, &'b str)> {
        let between =
            |name: &str| HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop)) || self.has("connection", name);
        let passed = self.0.iter().filter(|(name, value)| value.is_ascii() && !between(name));
        passed.filter_map(|(name, value)| Some((*name, std::str::from_utf8(value).ok()?))).collect()
    }

    fn values(&self, wanted: &str) -> impl Iterator<Item = &'b [u8]> {
        self.0.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
    }

    fn tokens(&self, wanted: &str) -> impl Iterator<Item = &'b [u8]> {
        self.values(wanted).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }

    fn check_host(&self, old: bool) -> Result<(), Fault> {
        let mut hosts = self.values("host");
        match (hosts.next(), hosts.next()) {
            (Some(host), None) if host.iter().copied().all(is_of_host) => Ok(()),
            (Some(_), None) => Err(malformed("the header Host is no host name")),
            (None, _) if old => Ok(()),
            (None, _) => Err(malformed("the header Host is missing")),
            (Some(_), Some(_)) => Err(malformed("there is more than one header Host")),
        }
    }

    fn check_body(&self) -> Result<(), Fault> {
        const BODY: Fault = Fault::new(413, "body", "requests have no body here");
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

/// A byte of a name or an address with its port (RFC 3986, 3.2.2): none that means something on a page.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%:[]!$()*+,;=".contains(&byte)
}

fn field(line: &[u8]) -> Result<Field<'_>, Fault> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(malformed("a header line has no colon"))?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(malformed("a header's name is not a word"));
    }
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(malformed("a header's value holds a control character"));
    }
    let name = std::str::from_utf8(name).map_err(|_| malformed("a header's name is not a word"))?;
    Ok((name, value))
}
