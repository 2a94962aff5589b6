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

/// Why a text is not a URL, as a sentence without its content.
pub(super) type Refusal = &'static str;

/// What a URL's user or password must write as `%XX`.
pub(super) const ESCAPES: &str = "write @ : / ? # % and blanks in a user or password as %40 %3A %2F %3F %23 %25 %20, or use the fields \
     `host`, `username`, `password` …";

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
        let scheme = scheme(text).ok_or("the URL has no scheme such as `postgres://`")?;
        let rest =
            text.split_once("://").map(|(_, rest)| rest).ok_or("the URL has no `://` after its scheme")?;
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, query),
            None => (rest, ""),
        };
        if rest.contains('#') || query.contains('#') {
            return Err("the URL holds a `#`");
        }
        let (authority, database) = match rest.split_once('/') {
            Some((authority, database)) => (authority, decode(database)?),
            None => (rest, String::new()),
        };
        // The last `@`: a password with a bare `@` in it still works, as in libpq.
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (user, hosts),
            None => ("", authority),
        };
        let (username, password) = match user.split_once(':') {
            Some((username, password)) => (decode(username)?, decode(password)?),
            None => (decode(user)?, String::new()),
        };
        let some = |text: String| (!text.is_empty()).then_some(text);
        Ok(Url {
            scheme,
            username: some(username),
            password: some(password).map(Secret::new),
            hosts: if hosts.is_empty() {
                vec![]
            } else {
                hosts.split(',').map(host).collect::<Result<_, _>>()?
            },
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
    if name.is_empty() {
        return Err("a host in the URL is empty");
    }
    if name.contains([' ', '@']) {
        return Err("a host in the URL holds a blank or an `@`");
    }
    Ok((name, if port.is_empty() { None } else { Some(port_number(port)?) }))
}

fn port_number(text: &str) -> Result<u16, Refusal> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { text.parse().ok() } else { None };
    port.filter(|port| *port > 0).ok_or("a port in the URL is not a number from 1 to 65535")
}

fn pair(text: &str) -> Result<(String, String), Refusal> {
    let (key, value) = text.split_once('=').ok_or("a parameter in the URL has no `=`")?;
    Ok((decode(key)?, decode(value)?))
}

fn decode(text: &str) -> Result<String, Refusal> {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    if bytes.iter().enumerate().any(|(at, byte)| *byte == b'%' && !(hex(at + 1) && hex(at + 2))) {
        return Err("the URL holds a `%` that two hexadecimal digits do not follow");
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(String::from).map_err(|_| "the URL's percent-encoded bytes are not UTF-8")
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
            assert!(!refusal.contains("hunter"), "{refusal}");
        }
    }
}
