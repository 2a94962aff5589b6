//! A database in memory for a query test: a script makes it, then it is read as any file is.

use rusqlite::Connection;

use crate::deadline::Deadline;
use crate::driver::Session;
use crate::error::{Error, Reason, Result};

use super::authorizer::{authorize_reader, authorize_script};
use super::session::SqliteSession;
use super::{errors, limited};

/// A session on a new database, made by `script`, which reaches no file: no `ATTACH`, no `VACUUM INTO`, no pragma of the
/// process. Blocks until `by` at most; the session is read-only, with the same checks as one on a file.
///
/// # Errors
/// The script's first fault, with its place in the script.
pub fn session_in_memory(script: &str, by: Deadline) -> Result<Box<dyn Session>> {
    let session = make(script, by).map_err(|cause| {
        let error = errors::error(&cause, None);
        let message = match error.reason() {
            Reason::Cancelled => "it was stopped: a test has ten seconds",
            _ => error.message(),
        };
        error.code_for(Error::new(error.reason(), format!("the script failed: {message}")))
    })?;
    let session =
        session.ok_or_else(|| Error::new(Reason::Sql, "the script failed: it leaves a transaction open"))?;
    Ok(Box::new(session))
}

/// `None` where the script leaves a transaction open.
fn make(script: &str, by: Deadline) -> rusqlite::Result<Option<SqliteSession>> {
    let mut connection = Connection::open_in_memory()?;
    let stop_signal = limited(&mut connection, by)?;
    // What does not fit in memory is not put into files either.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.authorizer(Some(authorize_script))?;
    connection.execute_batch(script)?;
    connection.authorizer(Some(authorize_reader))?;
    let is_closed = connection.is_autocommit();
    Ok(is_closed.then(|| SqliteSession::new(connection, stop_signal, None, true)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn refused(script: &str) -> String {
        let made = session_in_memory(script, Deadline::within(Duration::from_secs(20)));
        made.err().unwrap_or_else(|| panic!("{script} ran")).to_string()
    }

    #[test]
    fn a_script_reaches_no_file_and_changes_nothing_of_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db").display().to_string();
        for script in [
            format!("ATTACH '{path}' AS x"),
            format!("CREATE TABLE t (a); VACUUM INTO '{path}'"),
            "PRAGMA soft_heap_limit = 1000000".to_owned(),
            format!("PRAGMA temp_store_directory = '{}'", folder.path().display()),
            format!("SELECT load_extension('{path}')"),
        ] {
            let message = refused(&script);
            assert!(message.contains("authoriz"), "{script}: {message}");
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_fault_is_told_with_its_line_and_an_endless_script_is_stopped() {
        assert_eq!(
            refused("CREATE TABLE t (a);\nINSERT INTO u VALUES (1)"),
            "the script failed: no such table: u [SQLITE_ERROR]"
        );
        assert!(refused("BEGIN; CREATE TABLE t (a)").ends_with("it leaves a transaction open"));
        let endless =
            "CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT i FROM n";
        let made = session_in_memory(endless, Deadline::within(Duration::from_millis(50)));
        assert!(made.err().unwrap().to_string().contains("it was stopped"));
    }
}
