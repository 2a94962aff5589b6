//! A connection URL, taken apart: `scheme://user:password@host:port,host:port/database?key=value`.
//!
//! No message holds any part of the URL: where a password has an unescaped `@`, `/` or `#`, each part may be a piece
//! of it. Knows no scheme's parameters; `address` gives them meaning.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::secret::Secret;

/// What a URL says. Hosts are names, addresses without brackets, or folders of a socket (`/run/postgresql`).
#[derive(Default, PartialEq)]
pub(super) struct Url {
    pub(super) scheme: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) hosts: Vec<(String, Option<u16>)>,
    pub(super) database: Option<String>,
    pub(super) params: Vec<(String, String)>,
}

/// Why a text is not an address, as a sentence without its content, and what to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) what: &'static str,
    pub(super) hint: &'static str,
}

impl From<&'static str> for Refusal {
    fn from(what: &'static str) -> Self {
        Refusal { what, hint: ESCAPES }
    }
}

/// What a URL's user or password must write as `%XX`.
const ESCAPES: &str = "write @ : / ? # % and blanks in a user or password as %40 %3A %2F %3F %23 %25 %20, or use the fields \
     `host`, `username`, `password` …";

/// What the Go driver's form is in a URL.
const NOT_GO: &str = "write mysql://USER:PASSWORD@HOST:PORT/DATABASE, or mysql://USER:PASSWORD@/DATABASE?socket=PATH for a \
     Unix socket";

/// What kind of address a text is, by its beginning; nothing else of it is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressSyntax {
    /// `scheme:…`, the scheme in lower case.
    Url(String),
    /// libpq's `host=… user=…`.
    Keywords,
    /// The Go driver's `user:password@tcp(host:port)/database`.
    Go,
    /// None of them.
    Unknown,
}

impl AddressSyntax {
    /// Looks at a text.
    #[must_use]
    pub fn of(text: &str) -> AddressSyntax {
        let text = text.trim_start();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let rest = text.trim_start_matches(word);
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

/// The scheme of `text`, in lower case, without judging the rest.
pub(super) fn scheme(text: &str) -> Option<String> {
    let (scheme, _) = text.trim().split_once(':')?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (!scheme.is_empty() && scheme.chars().all(legal)).then(|| scheme.to_ascii_lowercase())
}

impl Url {
    /// Takes `text` apart.
    pub(super) fn parse(text: &str) -> Result<Url, Refusal> {
        let text = text.trim();
        if AddressSyntax::of(text) == AddressSyntax::Go {
            let what = "this is the form of the Go driver for MySQL, not a URL";
            return Err(Refusal { what, hint: NOT_GO });
        }
        let scheme = scheme(text).ok_or("the URL has no scheme such as `postgres://`")?;
        let rest =
            text.split_once("://").map(|(_, rest)| rest).ok_or("the URL has no `://` after its scheme")?;
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, query),
            None => (rest, ""),
        };
        if rest.contains('#') || query.contains('#') {
            return Err("the URL holds a `#`".into());
        }
        let (authority, database) = match rest.split_once('/') {
            Some((authority, database)) => (authority, decode(database)?),
            None => (rest, String::new()),
        };
        if has_go_host(rest) {
            return Err(Refusal {
                what: "the URL has `tcp(…)` or `unix(…)` around its host", hint: NOT_GO
            });
        }
        // The last `@`: a password with a bare `@` in it works, too.
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (user, hosts),
            None => ("", authority),
        };
        let (username, password) = match user.split_once(':') {
            Some((username, password)) => (decode(username)?, decode(password)?),
            None => (decode(user)?, String::new()),
        };
        let some = |text: String| (!text.is_empty()).then_some(text);
        let hosts: Vec<_> = match hosts {
            "" => vec![],
            hosts => hosts.split(',').map(host).collect::<Result<_, _>>()?,
        };
        // Alone it is the default host, of which the port may be another.
        if hosts.len() > 1 && hosts.iter().any(|(host, _)| host.is_empty()) {
            let hint = "name each one: `localhost` is this machine";
            return Err(Refusal { what: "a host in the URL is empty", hint });
        }
        Ok(Url {
            scheme,
            username: some(username),
            password: some(password).map(Secret::new),
            hosts,
            database: some(database),
            params: query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect::<Result<_, _>>()?,
        })
    }
}

fn host(text: &str) -> Result<(String, Option<u16>), Refusal> {
    let (name, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (name, after) = bracketed.split_once(']').ok_or("the URL has a `[` without its `]`")?;
            let port = after.strip_prefix(':').or(after.is_empty().then_some(""));
            (name, port.ok_or("after `]` the URL has something other than a port")?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let name = decode(name)?;
    // An `@` in front is a socket in Linux' abstract namespace.
    if name.contains(' ') || name.strip_prefix('@').unwrap_or(&name).contains('@') {
        return Err("a host in the URL holds a blank or an `@`".into());
    }
    Ok((name, if port.is_empty() { None } else { Some(port_number(port)?) }))
}

fn port_number(text: &str) -> Result<u16, Refusal> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { text.parse().ok() } else { None };
    port.filter(|port| *port > 0).ok_or_else(|| "a port in the URL is not a number from 1 to 65535".into())
}

fn pair(text: &str) -> Result<(String, String), Refusal> {
    let (key, value) = text.split_once('=').ok_or("a parameter in the URL has no `=`")?;
    Ok((decode(key)?, decode(value)?))
}

fn decode(text: &str) -> Result<String, Refusal> {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    if bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && !(hex(at + 1) && hex(at + 2))) {
        return Err("the URL holds a `%` that two hexadecimal digits do not follow".into());
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(String::from).map_err(|_| "the URL's percent-encoded bytes are not UTF-8".into())
}

/// Text as a part of a URL shown to people.
pub(super) struct Part<'a>(pub(super) &'a str);

/// What stays readable in a shown URL.
const KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b' ');

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        utf8_percent_encode(self.0, KEPT).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_url_is_taken_apart() {
        let url = Url::parse(
            "postgresql://ex%40porter:p%40%3A%2F%23%25%27%20w@h1:5432,[::1]:5433,h3/my%20db?a=b&c=d%26e",
        )
        .unwrap();
        assert_eq!(url.scheme, "postgresql");
        assert_eq!(url.username.as_deref(), Some("ex@porter"));
        assert_eq!(url.password.unwrap().expose(), "p@:/#%' w");
        let hosts = [("h1".into(), Some(5432)), ("::1".into(), Some(5433)), ("h3".into(), None)];
        assert_eq!(url.hosts, hosts);
        assert_eq!(url.database.as_deref(), Some("my db"));
        assert_eq!(url.params, [("a".into(), "b".into()), ("c".into(), "d&e".into())]);
    }

    #[test]
    fn what_is_left_out_stays_none() {
        let url = Url::parse("mysql://db").unwrap();
        assert_eq!(url.hosts, [("db".into(), None)]);
        assert!(
            url.username.is_none()
                && url.password.is_none()
                && url.database.is_none()
                && url.params.is_empty()
        );
        let url = Url::parse("POSTGRES:///shop").unwrap();
        assert_eq!(
            (url.scheme.as_str(), url.hosts.len(), url.database.as_deref()),
            ("postgres", 0, Some("shop"))
        );
    }

    #[test]
    fn a_bare_at_or_colon_in_a_password_still_works() {
        let url = Url::parse("postgres://u:a@b:c@db/x").unwrap();
        assert_eq!(url.password.unwrap().expose(), "a@b:c");
        assert_eq!(url.hosts, [("db".into(), None)]);
    }

    #[test]
    fn an_encoded_folder_is_a_host() {
        let url = Url::parse("postgres://%2Frun%2Fpostgresql:5433/x").unwrap();
        assert_eq!(url.hosts, [("/run/postgresql".into(), Some(5433))]);
    }

    #[test]
    fn an_empty_host_alone_may_have_a_port() {
        let url = Url::parse("postgres://u:p@:5433/x?host=/run/postgresql").unwrap();
        assert_eq!(url.hosts, [(String::new(), Some(5433))]);
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
            let refusal = Url::parse(text).err().unwrap();
            assert!(refusal.hint.starts_with("write mysql://USER"), "{refusal:?}");
        }
    }

    #[test]
    fn a_refusal_never_holds_a_part_of_the_url() {
        for text in [
            "hunter2",
            "postgres:hunter2",
            "postgres://u:hunter2/x@db/shop",
            "postgres://u:hunter2#x@db/shop",
            "postgres://u:hunter2?x@db/shop",
            "postgres://u:hunter2%@db/shop",
            "postgres://u:hunter2%ff@db/shop",
            "postgres://db:70000/shop",
            "postgres://db:0/shop",
            "postgres://db:+1/shop",
            "postgres://[::1/shop",
            "postgres://[::1]x/shop",
            "postgres://a,,b/shop",
            "postgres://a b/shop",
            "postgres://db/shop?hunter2",
        ] {
            let refusal = Url::parse(text).err().unwrap_or_else(|| panic!("{text} was taken"));
            assert!(!format!("{refusal:?}").contains("hunter"), "{refusal:?}");
        }
    }
}
