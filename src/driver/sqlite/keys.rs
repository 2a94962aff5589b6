//! The keys of a SQLite target.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use crate::driver::connection::{CONNECT_TIMEOUT, connect_timeout};
use crate::file;
use crate::file::ReadError;
use crate::yaml::keys::{Keys, Origin};

use super::SqliteFile;

/// Keys of other databases that mean nothing for a file.
const FOR_SERVERS: &[&str] =
    &["host", "port", "socket", "username", "password", "password_file", "password_command", "tls"];

/// Keys that name the file; a target has one of them.
const NAMING: [&str; 4] = ["url", "connection_string", "url_file", "database"];

/// The file and what its URL's query says.
#[derive(Debug, Default, PartialEq, Eq)]
struct SqliteAddress {
    path: PathBuf,
    immutable: bool,
}

/// Takes `url`|`connection_string`|`url_file` or `database`, then `params`, `read_only`, `session_sql` and
/// `connect_timeout`. `None` after a recorded fault.
pub(super) fn read(keys: &mut Keys<'_>) -> Option<SqliteFile> {
    let address = address(keys);
    let immutable = params(keys);
    let read_only = keys.flag("read_only").unwrap_or(true);
    // `PRAGMA key` holds a password.
    keys.conceal("session_sql");
    let session_sql = keys.texts("session_sql").unwrap_or_default();
    let connect_timeout = connect_timeout(keys).unwrap_or(CONNECT_TIMEOUT);
    for key in FOR_SERVERS {
        keys.forbid(key, &format!("`{key}` has no meaning for SQLite, which reads a file: remove it"));
        if key.starts_with("password") {
            keys.conceal(key);
        }
    }
    let address = address?;
    let immutable = immutable? || address.immutable;
    if immutable && !read_only {
        keys.fault("params", "an immutable file cannot be written: `immutable: true` and `read_only: false` exclude each other");
        return None;
    }
    Some(SqliteFile { path: address.path, immutable, read_only, session_sql, connect_timeout })
}

fn address(keys: &mut Keys<'_>) -> Option<SqliteAddress> {
    let own: Vec<&str> = NAMING.into_iter().filter(|key| keys.origin(key) == Some(Origin::Own)).collect();
    if let [first, second, ..] = own.as_slice() {
        keys.fault(second, format!("`{first}` and `{second}` both name the file: keep one"));
    }
    // The entry's own key before one of the defaults. All are read, or those left over would be reported as unknown.
    let key = own.first().copied().or_else(|| NAMING.into_iter().find(|key| keys.origin(key).is_some()));
    // A URL that is meant for another driver may hold a password, so none is shown.
    let [url, connection_string] = ["url", "connection_string"].map(|key| keys.secret(key));
    let database = keys.text("database");
    let file = keys.file("url_file");
    let parsed = match key {
        Some("database") => plain(&database?),
        Some("url") => address_of(url?.expose()),
        Some("connection_string") => address_of(connection_string?.expose()),
        Some("url_file") => from_file(&file?),
        _ => {
            keys.fault_with_hint("", "a SQLite target needs a file", "add `database: ./data/app.db`");
            return None;
        }
    };
    let key = key.unwrap_or_default();
    match parsed {
        Ok(mut address) => {
            let path = keys.folder(key).join(&address.path);
            address.path = std::path::absolute(&path).unwrap_or(path);
            Some(address)
        }
        Err(message) => {
            keys.fault(key, message);
            None
        }
    }
}

/// A longer file does not contain a path.
const LONGEST_URL: u64 = 64 << 10;

fn from_file(path: &Path) -> Result<SqliteAddress, String> {
    let text = file::read_text(path, LONGEST_URL).map_err(|unread| match unread {
        ReadError::System(cause) => format!("cannot read {}: {cause}", path.display()),
        other => format!("{} {other}", path.display()),
    })?;
    address_of(text.trim())
}

fn params(keys: &mut Keys<'_>) -> Option<bool> {
    let mut immutable = Some(false);
    for (name, value) in keys.pairs("params").unwrap_or_default() {
        match parameter(&name, &value) {
            Ok(value) => immutable = immutable.map(|_| value),
            Err(message) => {
                keys.fault("params", message);
                immutable = None;
            }
        }
    }
    immutable
}

fn parameter(name: &str, value: &str) -> Result<bool, String> {
    if name != "immutable" {
        return Err(format!("SQLite knows no parameter `{name}`, only `immutable`"));
    }
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`immutable` is true or false, not `{value}`")),
    }
}

/// The path in `database`.
fn plain(text: &str) -> Result<SqliteAddress, String> {
    if text == ":memory:" || text.is_empty() {
        return Err("a database in memory is a new, empty one in each session: name a file".to_owned());
    }
    if text.starts_with("file:") {
        return Err(
            "SQLite's own `file:` URIs are not read here: write the path, and options under `params`"
                .to_owned(),
        );
    }
    Ok(SqliteAddress { path: PathBuf::from(text), immutable: false })
}

/// `sqlite:RELATIVE` or `sqlite:///ABSOLUTE`, with `%41` escapes and `?immutable=true`.
fn address_of(text: &str) -> Result<SqliteAddress, String> {
    let form = || "write sqlite:RELATIVE/PATH or sqlite:///ABSOLUTE/PATH".to_owned();
    let rest = text.strip_prefix("sqlite3:").or_else(|| text.strip_prefix("sqlite:")).ok_or_else(form)?;
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let path = match path.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => return Err(format!("a file has no host, which would follow `//`: {}", form())),
        None => path,
    };
    let mut address = plain(&unescape(path)?)?;
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        address.immutable = parameter(name, value)?;
    }
    Ok(address)
}

fn unescape(text: &str) -> Result<String, String> {
    let is_escape =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !text.split('%').skip(1).all(is_escape) {
        let message = "`%` in a URL starts an escape of two hexadecimal digits: write `%25` for itself";
        return Err(message.to_owned());
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(String::from).map_err(|_| "the URL's escapes are not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<String, String> {
        address_of(text).map(|address| address.path.display().to_string())
    }

    #[test]
    fn a_url_names_a_relative_or_an_absolute_file() {
        assert_eq!(path("sqlite:data/app.db").as_deref(), Ok("data/app.db"));
        assert_eq!(path("sqlite:./app.db").as_deref(), Ok("./app.db"));
        assert_eq!(path("sqlite:///var/lib/app.db").as_deref(), Ok("/var/lib/app.db"));
        assert_eq!(path("sqlite:///a%20b%25.db").as_deref(), Ok("/a b%.db"));
        assert_eq!(address_of("sqlite:a.db?immutable=true").map(|address| address.immutable), Ok(true));
    }

    #[test]
    fn a_url_that_names_no_file_is_refused_in_words() {
        for (text, message) in [
            ("sqlite://data/app.db", "a file has no host"),
            ("sqlite::memory:", "a database in memory"),
            ("sqlite:", "a database in memory"),
            ("postgres://x/y", "write sqlite:RELATIVE/PATH"),
            ("sqlite:a%2", "`%` in a URL"),
            ("sqlite:a.db?mode=rw", "SQLite knows no parameter `mode`"),
            ("sqlite:a.db?immutable=maybe", "`immutable` is true or false"),
        ] {
            let found = path(text);
            assert!(found.as_ref().is_err_and(|found| found.starts_with(message)), "{text}: {found:?}");
        }
    }
}
