//! What a session may do to its file. SQLite knows no users: what the file's mode allows counts, and only where
//! `read_only` is false. SQLite itself says what came of that.

use rusqlite::Connection;

use crate::driver::Privileges;

/// Asks for no lock and reads nothing.
pub(super) fn of(connection: &Connection) -> rusqlite::Result<Privileges> {
    let mut risks = Vec::new();
    if !connection.is_readonly("main")? {
        risks.push(
            "`read_only: false`, and this process may write the file: leave the key out if no query writes"
                .to_owned(),
        );
    }
    Ok(Privileges { user: None, risks, grants: Vec::new() })
}
