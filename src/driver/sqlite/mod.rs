//! SQLite: a file opened read-only, read in one transaction per batch.
//!
//! Owns the keys of a SQLite target and how its file is opened. `session` runs the jobs, `watch` ends them in
//! time, `guard` refuses what read-only mode lets through, `fault` puts result codes into words, `in_memory` makes databases
//! in memory for query tests, `text_date` knows dates that are text. `access` decides how a file is read so that the
//! numbers are true and its owner is not locked out, by `database_file`, its lock and header, and `side_files`, what lies
//! beside it.

mod access;
pub mod advice;
mod database_file;
mod fault;
mod guard;
mod in_memory;
mod keys;
mod privileges;
mod session;
mod side_files;
mod text_date;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::yaml::keys::Keys;

use self::access::{Access, Attached};
use self::session::FileSession;
use self::watch::Watch;
use super::statement::Dialect;
use super::{AllowedStatements, Driver, Endpoint, Session, Sql};

pub use self::in_memory::session_in_memory;

/// Bytes of a LIKE or GLOB pattern. SQLite recurses once for each `%` and allows 50,000, which is more stack than a
/// lane has, and a pattern may come from a table.
const PATTERN: i32 = 4_000;

/// Bytes of a value or a row inside a statement; SQLite allows a thousand million. A longer one is made in one step, which
/// nothing stops.
const LENGTH: usize = 16 << 20;

/// The driver.
pub struct Sqlite;

impl Driver for Sqlite {
    fn names(&self) -> &'static [&'static str] {
        &["sqlite", "sqlite3"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        keys::read(keys).map(|file| Arc::new(file) as Arc<dyn Endpoint>)
    }
}

/// One SQLite file as configured.
#[derive(Debug, Clone)]
pub struct File {
    /// Absolute.
    pub path: PathBuf,
    /// Nobody writes the file while it is open: no locks, no WAL file (`params: {immutable: true}`).
    pub immutable: bool,
    /// SQLite's read-only mode, the first-keyword check and the authorizer.
    pub read_only: bool,
    /// Run once on each new session, before the authorizer stands: `ATTACH` is allowed here, and reads only.
    pub session_sql: Vec<String>,
    /// The longest an open and its `session_sql` may take.
    pub connect_timeout: Duration,
}

impl File {
    fn open(&self, access: &Access) -> Result<Connection> {
        let writes =
            if self.read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        let flags = writes | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = if access.is_alone() {
            Connection::open_with_flags(immutable_uri(&self.path), flags | OpenFlags::SQLITE_OPEN_URI)
        } else {
            Connection::open_with_flags(&self.path, flags)
        };
        opened.map_err(|cause| self.explain(&cause))
    }

    /// SQLite's error as the reason why the file was not opened.
    fn explain(&self, cause: &rusqlite::Error) -> Error {
        fault::opening(&fault::error(cause, Some(&self.path)), &self.path)
    }

    /// Runs `session_sql`, and remembers which files it attaches.
    fn set_up(&self, connection: &mut Connection, access: &mut Access) -> Result<()> {
        let attached = Arc::new(Mutex::new(Attached::default()));
        let asked = Arc::clone(&attached);
        let watch = move |context: AuthContext<'_>| match context.action {
            AuthAction::Attach { filename } if !asked.lock().admit(filename) => Authorization::Deny,
            _ => Authorization::Allow,
        };
        connection.authorizer(Some(watch)).map_err(|cause| self.explain(&cause))?;
        for sql in &self.session_sql {
            connection.execute_batch(sql).map_err(|cause| {
                let told = fault::error(&cause, None);
                // `session_sql` may hold a secret, and a syntax error repeats the word it stumbled over.
                let repeats = |begin| told.message().starts_with(begin);
                let is_syntax = ["near ", "unrecognized token", "no such column"].into_iter().any(repeats);
                let said = if is_syntax { "syntax error" } else { told.message() };
                let failed = || Error::new(told.reason(), format!("session_sql failed: {said}"));
                attached.lock().refused().unwrap_or_else(failed)
            })?;
        }
        access.keep(&mut attached.lock());
        connection
            .authorizer(None::<fn(AuthContext<'_>) -> Authorization>)
            .map_err(|cause| self.explain(&cause))
    }
}

impl Endpoint for File {
    fn connect(&self, by: Deadline) -> Result<Box<dyn Session>> {
        let by = by.or_within(self.connect_timeout);
        let mut access = Access::open(self, by)?;
        let mut connection = self.open(&access)?;
        limited(&mut connection).map_err(|cause| self.explain(&cause))?;
        let watch = Watch::install(&mut connection).map_err(|cause| self.explain(&cause))?;
        watch.arm(by);
        if !self.session_sql.is_empty() {
            self.set_up(&mut connection, &mut access)?;
        }
        let guard = if self.read_only { guard::authorize } else { guard::authorize_writer };
        connection.authorizer(Some(guard)).map_err(|cause| self.explain(&cause))?;
        let session = FileSession::new(connection, watch, Some(access), self.read_only);
        session.probe().map_err(|cause| self.explain(&cause))?;
        Ok(Box::new(session))
    }

    fn allows(&self) -> Option<AllowedStatements> {
        let allowed = if self.read_only { AllowedStatements::Reading } else { AllowedStatements::Any };
        Some(allowed(Dialect::Sqlite))
    }

    fn explain(&self, sql: &Sql) -> Option<Sql> {
        Some(sql.with_text(&format!("EXPLAIN QUERY PLAN {}", sql.text())))
    }

    fn redacted_url(&self) -> String {
        format!("sqlite://{}", self.path.display())
    }
}

/// The same limits for every session.
fn limited(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(session::STATEMENTS);
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN)?;
    allow_values(connection, LENGTH)
}

/// Values of so many bytes, or [`LENGTH`], may be in a statement.
fn allow_values(connection: &Connection, bytes: usize) -> rusqlite::Result<()> {
    let most = i32::try_from(bytes.max(LENGTH)).unwrap_or(i32::MAX);
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, most).map(|_| ())
}

/// `file:` with what a URI gives a meaning to escaped: <https://sqlite.org/uri.html>.
fn immutable_uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri.push_str("?immutable=1");
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_uri_is_escaped() {
        assert_eq!(immutable_uri(Path::new("/a b/50%?#.db")), "file:/a%20b/50%25%3F%23.db?immutable=1");
    }
}
