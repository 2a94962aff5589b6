//! SQLite: a file opened read-only, read in one transaction per batch.
//!
//! Owns how a database is opened, a file or one in memory for query tests. `keys` reads the configuration, `session` runs
//! the jobs, `stop_signal` ends them in time, `authorizer` refuses what read-only mode lets through, `errors` knows result
//! codes. `file_access` has the files of a session: `open_database` decides how one is read so that the numbers are true and its
//! owner is not locked out, with `database_file`, its lock and header, and `side_files`, the files beside it; `attached` has
//! those of `session_sql`.

pub mod advice;
mod attached;
mod authorizer;
mod database_file;
mod errors;
mod file_access;
mod in_memory;
mod keys;
mod open_database;
mod session;
mod side_files;
mod stop_signal;
mod user_tables;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, ffi};

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};
use crate::yaml::keys::Keys;

use self::attached::AttachedFiles;
use self::file_access::FileAccess;
use self::session::{SqliteSession, probe};
use self::stop_signal::StopSignal;
use self::user_tables::SqliteTables;
use super::statement::Dialect;
use super::user_tables::UserTables;
use super::{AllowedStatements, Driver, Endpoint, Session, Sql};

pub use self::in_memory::session_in_memory;

/// Bytes of a LIKE or GLOB pattern. SQLite recurses once for each `%` and allows 50,000, which is more stack than a
/// lane has, and a pattern may come from a table.
const MAX_PATTERN_BYTES: i32 = 4_000;

/// Bytes of a value or a row inside a statement; SQLite allows a thousand million. A longer one is made in one step, which
/// nothing stops.
const MAX_VALUE_BYTES: usize = 16 << 20;

/// The pause before a file that others close meanwhile is opened again.
const REOPEN: Duration = Duration::from_millis(5);

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
pub struct SqliteFile {
    /// Absolute.
    pub path: PathBuf,
    /// Nobody writes the file while it is open: no locks, no WAL file (`params: {immutable: true}`).
    pub immutable: bool,
    /// SQLite's read-only mode, the first-keyword check and the authorizer.
    pub read_only: bool,
    /// Run once on each new session, before the authorizer is installed: `ATTACH` is allowed here, and reads only.
    pub session_sql: Vec<String>,
    /// The longest an open and its `session_sql` may take.
    pub connect_timeout: Duration,
}

impl SqliteFile {
    /// SQLite's error as the reason why the file was not opened.
    fn unopened(&self, cause: &rusqlite::Error) -> Error {
        errors::opening(&errors::error(cause, Some(&self.path)), &self.path)
    }

    /// A connection with its limits and its deadline.
    fn open(&self, access: &FileAccess, by: Deadline) -> rusqlite::Result<(Connection, Arc<StopSignal>)> {
        let writes =
            if self.read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        let flags = writes | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = if access.is_alone() {
            Connection::open_with_flags(immutable_uri(&self.path), flags | OpenFlags::SQLITE_OPEN_URI)?
        } else {
            Connection::open_with_flags(&self.path, flags)?
        };
        let stop_signal = limited(&mut connection, by)?;
        Ok((connection, stop_signal))
    }

    /// Runs `session_sql`, and remembers which files it attaches.
    fn run_session_sql(&self, connection: &mut Connection, access: &mut FileAccess) -> Result<()> {
        let attached = Arc::new(Mutex::new(AttachedFiles::default()));
        let seen = Arc::clone(&attached);
        let authorize = move |context: AuthContext<'_>| match context.action {
            AuthAction::Attach { filename } if !seen.lock().admit(filename) => Authorization::Deny,
            AuthAction::Unknown { code: ffi::SQLITE_ATTACH, .. } => {
                seen.lock().refused = Some(attached::attached_by_expression());
                Authorization::Deny
            }
            action if authorizer::maps_file(&action) => Authorization::Ignore,
            _ => Authorization::Allow,
        };
        connection.authorizer(Some(authorize)).map_err(|cause| self.unopened(&cause))?;
        for sql in &self.session_sql {
            let Err(cause) = connection.execute_batch(sql) else { continue };
            if let Some(refused) = attached.lock().refused.take() {
                return Err(refused);
            }
            let error = errors::error(&cause, None);
            // `session_sql` may hold a secret, and a syntax error repeats the word that it found.
            let repeats = ["near ", "unrecognized token", "no such column"];
            let is_syntax = repeats.iter().any(|start| error.message().starts_with(start));
            let message = if is_syntax { "syntax error" } else { error.message() };
            return Err(Error::new(error.reason(), format!("session_sql failed: {message}")));
        }
        access.keep(&mut attached.lock());
        Ok(())
    }

    fn open_session(&self, by: Deadline) -> Result<SqliteSession> {
        let mut access = FileAccess::open(self, by)?;
        let (mut connection, stop_signal) = self.open(&access, by).map_err(|cause| self.unopened(&cause))?;
        if !self.session_sql.is_empty() {
            self.run_session_sql(&mut connection, &mut access)?;
        }
        let authorize =
            if self.read_only { authorizer::authorize_reader } else { authorizer::authorize_writer };
        connection.authorizer(Some(authorize)).map_err(|cause| self.unopened(&cause))?;
        // SQLite opens the `-wal` with the first statement.
        if probe(&connection, &stop_signal).map_err(|cause| self.unopened(&cause))? {
            access.share_wal(by)?;
        } else {
            access.forget_wal();
        }
        Ok(SqliteSession::new(connection, stop_signal, Some(access), self.read_only))
    }
}

impl Endpoint for SqliteFile {
    fn connect(&self, by: Deadline) -> Result<Box<dyn Session>> {
        let by = by.or_within(self.connect_timeout);
        loop {
            match self.open_session(by) {
                // The last user of the database closed it at that moment, and SQLite removed the `-wal`.
                Err(error) if error.reason() == Reason::Lost && !by.passed() => std::thread::sleep(REOPEN),
                opened => return Ok(Box::new(opened?)),
            }
        }
    }

    fn allows(&self) -> Option<AllowedStatements> {
        Some(AllowedStatements::of(self.read_only, Dialect::Sqlite))
    }

    fn user_tables(&self) -> Option<&'static dyn UserTables> {
        Some(&SqliteTables)
    }

    fn explain(&self, sql: &Sql) -> Option<Sql> {
        Some(sql.with_text(&format!("EXPLAIN QUERY PLAN {}", sql.text())))
    }

    fn redacted_url(&self) -> String {
        format!("sqlite://{}", self.path.display())
    }
}

/// rusqlite panics at names that are not UTF-8. The session makes errors of these panics: nothing more is to be said.
pub fn hide_expected_panics() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|place| place.file().contains("/rusqlite-")) {
            say(panic);
        }
    }));
}

/// Gives every connection the same limits, and `by` as the end of what it does first.
fn limited(connection: &mut Connection, by: Deadline) -> rusqlite::Result<Arc<StopSignal>> {
    connection.set_prepared_statement_cache_capacity(session::STATEMENTS);
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES)?;
    allow_values(connection, MAX_VALUE_BYTES)?;
    let stop_signal = StopSignal::install(connection)?;
    stop_signal.set_deadline(by);
    Ok(stop_signal)
}

/// Values of so many bytes, or [`MAX_VALUE_BYTES`], may be in a statement.
fn allow_values(connection: &Connection, bytes: usize) -> rusqlite::Result<()> {
    let most = i32::try_from(bytes.max(MAX_VALUE_BYTES)).unwrap_or(i32::MAX);
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, most).map(|_| ())
}

/// A path as an URI (<https://sqlite.org/uri.html>) that says that nobody writes the file.
fn immutable_uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    const ESCAPED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    format!("file:{}?immutable=1", percent_encode(path.as_os_str().as_bytes(), ESCAPED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_uri_is_escaped() {
        assert_eq!(immutable_uri(Path::new("/a b/50%?#.db")), "file:/a%20b/50%25%3F%23.db?immutable=1");
    }
}
