//! Connection strings: a URL, `scheme://user:password@host:port,host:port/database?key=value`, or libpq's keywords,
//! `host=db.example port=5433 user=exporter password='a b'`. Both are read into libpq's parameters.
//!
//! No message holds any part of the text: where a password has an unescaped `@`, `/` or `#`, each part may be a piece of
//! it. Knows the meaning of no parameter; `address` does.

use std::fmt;
use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What a connection string says.
pub(super) struct ConnectionString {
    /// Of a URL.
    pub(super) scheme: Option<String>,
    /// In order. The parts of a URL before its `?` are the first ones: `user`, `password`, `host`, `port`, `dbname`. Hosts
    /// are names, addresses without brackets, or folders of a socket (`/run/postgresql`).
    pub(super) params: Vec<(String, String)>,
}

/// Why a text is not an address, as a sentence without its content, and what to write.
pub(super) type AddressError = (&'static str, &'static str);

const URL_HINT: &str = "write @ : / ? # % and blanks in a user or password as %40 %3A %2F %3F %23 %25 %20, or use the fields \
     `host`, `username`, `password` …";

const GO_HINT: &str = "write mysql://USER:PASSWORD@HOST:PORT/DATABASE, or mysql://USER:PASSWORD@/DATABASE?socket=PATH for a \
     Unix socket";

const KEYWORDS_HINT: &str =
    "write KEYWORD=VALUE, with '…' around a value that is empty or holds a blank, and \\ before a ' or a \\";

/// What a port is.
pub(super) const PORT: &str = "a port from 1 to 65535";

/// The syntax of an address, by its beginning; the rest of it is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressSyntax {
    /// `scheme:…`, the scheme in lower case.
    Url(String),
    /// libpq's `host=… user=…`.
    Keywords,
    /// The Go driver's `user:password@tcp(host:port)/database`.
    Go,
    /// Another text.
    Unknown,
}

impl AddressSyntax {
    /// The syntax of `text`.
    pub fn of(text: &str) -> AddressSyntax {
        let text = text.trim_start();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let rest = text.trim_start_matches(is_word);
        if rest.len() < text.len() && rest.trim_start().starts_with('=') {
            return AddressSyntax::Keywords;
        }
        if !text.contains("://") && has_go_host(text) {
            return AddressSyntax::Go;
        }
        let has_slashes = text.split_once(':').is_some_and(|(_, rest)| rest.starts_with("//"));
        match scheme(text) {
            // What stands before another `:` may be a user, with the password behind it.
            Some(scheme) if matches!(scheme.as_str(), "sqlite" | "jdbc") || has_slashes => {
                AddressSyntax::Url(scheme)
            }
            _ => AddressSyntax::Unknown,
        }
    }
}

fn has_go_host(text: &str) -> bool {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    ["tcp(", "tcp4(", "tcp6(", "unix("].iter().any(|form| host.starts_with(form))
}

/// The scheme of `text`, in lower case; the rest of it is not checked.
fn scheme(text: &str) -> Option<String> {
    let (scheme, _) = text.trim().split_once(':')?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (!scheme.is_empty() && scheme.chars().all(legal)).then(|| scheme.to_ascii_lowercase())
}

impl ConnectionString {
    /// Reads a URL, or keywords where they are accepted.
    pub(super) fn parse(text: &str, accepts_keywords: bool) -> Result<Self, AddressError> {
        match AddressSyntax::of(text) {
            AddressSyntax::Keywords if accepts_keywords => {
                Ok(ConnectionString { scheme: None, params: parse_keywords(text)? })
            }
            AddressSyntax::Go => Err(("this is the form of the Go driver for MySQL, not a URL", GO_HINT)),
            _ => ConnectionString::parse_url(text.trim()),
        }
    }

    fn parse_url(text: &str) -> Result<Self, AddressError> {
        let scheme = scheme(text).ok_or(("the URL has no scheme such as `postgres://`", URL_HINT))?;
        let (_, rest) = text.split_once("://").ok_or(("the URL has no `://` after its scheme", URL_HINT))?;
        if rest.contains('#') {
            return Err(("the URL holds a `#`", URL_HINT));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if has_go_host(rest) {
            return Err(("the URL has `tcp(…)` or `unix(…)` around its host", GO_HINT));
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        // The last `@`: a password with a bare `@` in it works, too.
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let hosts = hosts.split(',').map(split_host).collect::<Result<Vec<_>, _>>()?;
        let (hosts, ports): (Vec<String>, Vec<&str>) = hosts.into_iter().unzip();
        // A password with a bare `/`, of which a piece would be the database, and known to everybody.
        if database.contains('@') {
            return Err(("the database in the URL holds an `@`", URL_HINT));
        }
        let mut params = vec![
            ("user".to_owned(), decode(user)?),
            ("password".to_owned(), decode(password)?),
            ("host".to_owned(), hosts.join(",")),
            ("port".to_owned(), ports.join(",")),
            ("dbname".to_owned(), decode(database)?),
        ];
        params.retain(|(_, value)| !value.is_empty());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or(("a parameter in the URL has no `=`", URL_HINT))?;
            params.push((decode(name)?, decode(value)?));
        }
        Ok(ConnectionString { scheme: Some(scheme), params })
    }
}

/// A host of a URL and its port, which may be empty.
fn split_host(text: &str) -> Result<(String, &str), AddressError> {
    let (name, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (name, after) =
                bracketed.split_once(']').ok_or(("the URL has a `[` without its `]`", URL_HINT))?;
            let port = after.strip_prefix(':').or(after.is_empty().then_some(""));
            (name, port.ok_or(("after `]` the URL has something other than a port", URL_HINT))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let name = decode(name)?;
    // An `@` in front is a socket in Linux' abstract namespace.
    if name.contains(' ') || name.strip_prefix('@').unwrap_or(&name).contains('@') {
        return Err(("a host in the URL holds a blank or an `@`", URL_HINT));
    }
    match port.is_empty() || port_number(port).is_some() {
        true => Ok((name, port)),
        false => Err(("a port in the URL is not a number from 1 to 65535", URL_HINT)),
    }
}

/// `None` for what is not [`PORT`].
pub(super) fn port_number(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port > 0)
}

fn decode(text: &str) -> Result<String, AddressError> {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    if bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && !(hex(at + 1) && hex(at + 2))) {
        return Err(("the URL holds a `%` that two hexadecimal digits do not follow", URL_HINT));
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(String::from).map_err(|_| ("the URL's percent-encoded bytes are not UTF-8", URL_HINT))
}

/// `NAME=VALUE` or `NAME = 'VALUE'` in a text of libpq's keywords.
pub struct Keyword<'t> {
    /// Its name; a text that is none where the syntax is wrong.
    pub name: &'t str,
    /// Where the value stands, inside its quotes and with its backslashes.
    pub value: Range<usize>,
    /// Where all of it stands.
    pub whole: Range<usize>,
    /// False where the quote that begins the value does not end.
    is_closed: bool,
}

/// The keywords of a text, by the rules of libpq's `conninfo_parse`: a value without quotes ends at a blank, and a backslash takes
/// the next character as it is. What is behind the last one is no keyword.
pub fn keywords(text: &str) -> Vec<Keyword<'_>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some((name, after)) = text.get(from..).and_then(|rest| rest.split_once('=')) {
        let start = from + name.len() - name.trim_start().len();
        let after = after.trim_start();
        let value = after.strip_prefix('\'');
        let is_quoted = value.is_some();
        let (value, mut is_escaped) = (value.unwrap_or(after), false);
        let length = value.find(|c: char| {
            let is_end = !is_escaped && if is_quoted { c == '\'' } else { c.is_whitespace() };
            is_escaped = !is_escaped && c == '\\';
            is_end
        });
        let begin = text.len() - value.len();
        let end = begin + length.unwrap_or(value.len());
        let is_closed = length.is_some() || !is_quoted;
        from = end + usize::from(is_quoted && is_closed);
        found.push(Keyword { name: name.trim(), value: begin..end, whole: start..from, is_closed });
    }
    found
}

fn parse_keywords(text: &str) -> Result<Vec<(String, String)>, AddressError> {
    let no_value = ("a keyword of the connection string has no `=`", KEYWORDS_HINT);
    let unclosed = ("a value of the connection string has no closing `'`", KEYWORDS_HINT);
    let (mut pairs, mut end) = (Vec::new(), 0);
    for Keyword { name, value, whole, is_closed } in keywords(text) {
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(no_value);
        }
        if !is_closed {
            return Err(unclosed);
        }
        pairs.push((name.to_owned(), unescaped(text.get(value).unwrap_or_default())));
        end = whole.end;
    }
    let rest = text.get(end..).unwrap_or_default();
    if rest.trim().is_empty() { Ok(pairs) } else { Err(no_value) }
}

/// Without the backslashes that escape characters.
fn unescaped(text: &str) -> String {
    let mut characters = text.chars();
    let mut value = String::with_capacity(text.len());
    while let Some(c) = characters.next() {
        value.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    value
}

/// A part of a redacted URL.
pub(super) struct UrlPart<'a>(pub(super) &'a str);

/// What stays readable in a redacted URL.
const READABLE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b' ');

impl fmt::Display for UrlPart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        utf8_percent_encode(self.0, READABLE).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ConnectionString {
        ConnectionString::parse(text, false).unwrap()
    }

    fn params(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_full_url_is_taken_apart() {
        let url =
            url("postgresql://ex%40porter:p%40%3A%2F%23%25%27%20w@h1:5432,[::1]:5433,h3/my%20db?a=b&c=d%26e");
        assert_eq!(url.scheme.as_deref(), Some("postgresql"));
        let expected = params(&[
            ("user", "ex@porter"),
            ("password", "p@:/#%' w"),
            ("host", "h1,::1,h3"),
            ("port", "5432,5433,"),
            ("dbname", "my db"),
            ("a", "b"),
            ("c", "d&e"),
        ]);
        assert_eq!(url.params, expected);
    }

    #[test]
    fn what_is_left_out_stays_none() {
        assert_eq!(url("mysql://db").params, params(&[("host", "db")]));
        let url = url("POSTGRES:///shop");
        assert_eq!((url.scheme.as_deref(), url.params), (Some("postgres"), params(&[("dbname", "shop")])));
    }

    #[test]
    fn a_bare_at_or_colon_in_a_password_still_works() {
        let expected = params(&[("user", "u"), ("password", "a@b:c"), ("host", "db"), ("dbname", "x")]);
        assert_eq!(url("postgres://u:a@b:c@db/x").params, expected);
    }

    #[test]
    fn an_encoded_folder_is_a_host() {
        let expected = params(&[("host", "/run/postgresql"), ("port", "5433"), ("dbname", "x")]);
        assert_eq!(url("postgres://%2Frun%2Fpostgresql:5433/x").params, expected);
    }

    #[test]
    fn an_empty_host_alone_may_have_a_port() {
        let read = url("postgres://u:p@:5433/x?host=/run/postgresql").params;
        assert!(read.ends_with(&params(&[("port", "5433"), ("dbname", "x"), ("host", "/run/postgresql")])));
    }

    #[test]
    fn each_form_is_known_by_its_beginning() {
        for (text, form) in [
            (" postgres://u:p@h/d?a=b", AddressSyntax::Url("postgres".into())),
            ("SQLite:x=y", AddressSyntax::Url("sqlite".into())),
            ("host=db user=x password='a@tcp(b'", AddressSyntax::Keywords),
            ("dbname = shop", AddressSyntax::Keywords),
            ("u:p=w@tcp(db:3306)/shop?x=y", AddressSyntax::Go),
            ("u:p@x@unix(/run/mysqld.sock)/shop", AddressSyntax::Go),
            ("tcp(db)/shop", AddressSyntax::Go),
            ("db.example", AddressSyntax::Unknown),
            ("user:password@db", AddressSyntax::Unknown),
            ("=x", AddressSyntax::Unknown),
            ("", AddressSyntax::Unknown),
        ] {
            assert_eq!(AddressSyntax::of(text), form, "{text}");
        }
    }

    #[test]
    fn the_go_drivers_form_is_told_what_to_write() {
        for text in
            ["u:hunter2@tcp(db:3306)/shop", "mysql://u:hunter2@tcp(db:3306)/shop", "mysql://u@unix(/x)/shop"]
        {
            let (_, hint) = ConnectionString::parse(text, true).err().unwrap();
            assert!(hint.starts_with("write mysql://USER"), "{hint}");
        }
    }

    #[test]
    fn a_refusal_never_holds_a_part_of_the_url() {
        for text in [
            "hunter2",
            "postgres:hunter2",
            "postgres://u:hunter2/x@db/shop",
            "postgres://u:/hunter2@db/shop",
            "mysql://u:x@1/hunter2@db/shop",
            "postgres://u:hunter2#x@db/shop",
            "postgres://u:hunter2?x@db/shop",
            "postgres://u:hunter2%@db/shop",
            "postgres://u:hunter2%ff@db/shop",
            "postgres://db:70000/shop",
            "postgres://db:0/shop",
            "postgres://db:+1/shop",
            "postgres://[::1/shop",
            "postgres://[::1]x/shop",
            "postgres://a b/shop",
            "postgres://db/shop?hunter2",
        ] {
            let refusal =
                ConnectionString::parse(text, false).err().unwrap_or_else(|| panic!("{text} was taken"));
            assert!(!format!("{refusal:?}").contains("hunter"), "{refusal:?}");
        }
    }

    fn read(text: &str) -> Vec<(String, String)> {
        parse_keywords(text).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"))
    }

    #[test]
    fn values_are_quoted_and_escaped_as_libpq_reads_them() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, expected) in [
            ("host=db port=5433", vec![pair("host", "db"), pair("port", "5433")]),
            ("  host = db\n\tuser=x ", vec![pair("host", "db"), pair("user", "x")]),
            ("password='a b' user=x", vec![pair("password", "a b"), pair("user", "x")]),
            (r"password='it\'s \\ ='", vec![pair("password", r"it's \ =")]),
            (r"password=a\ b\'c\\ user=x", vec![pair("password", r"a b'c\"), pair("user", "x")]),
            ("password='' user=x", vec![pair("password", ""), pair("user", "x")]),
            ("password='a'user=x", vec![pair("password", "a"), pair("user", "x")]),
            ("a=b=c", vec![pair("a", "b=c")]),
            ("", vec![]),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_its_text() {
        for text in [
            "hunter2",
            "host=db hunter2",
            "user x=hunter2",
            "password='hunter2",
            r"password='hunter2\'",
            "=hunter2",
        ] {
            let refusal = parse_keywords(text).err().unwrap_or_else(|| panic!("{text} was taken"));
            assert!(!format!("{refusal:?}").contains("hunter"), "{refusal:?}");
        }
    }
}
