//! SQLite's result codes → our reasons, in words. A new mapping is one line in [`CODES`].

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::error::{Error, Reason, Spot};

/// Primary code, its name in SQLite's documentation, what it means to a query. Others are `sql`.
/// Source: <https://sqlite.org/rescode.html>.
const CODES: &[(ErrorCode, &str, Reason)] = &[
    (ErrorCode::DatabaseBusy, "SQLITE_BUSY", Reason::Locked),
    (ErrorCode::DatabaseLocked, "SQLITE_LOCKED", Reason::Locked),
    (ErrorCode::FileLockingProtocolFailed, "SQLITE_PROTOCOL", Reason::Locked),
    (ErrorCode::OperationInterrupted, "SQLITE_INTERRUPT", Reason::Cancelled),
    (ErrorCode::AuthorizationForStatementDenied, "SQLITE_AUTH", Reason::ReadOnly),
    (ErrorCode::ReadOnly, "SQLITE_READONLY", Reason::ReadOnly),
    (ErrorCode::PermissionDenied, "SQLITE_PERM", Reason::Permission),
    (ErrorCode::CannotOpen, "SQLITE_CANTOPEN", Reason::Connect),
    (ErrorCode::NotADatabase, "SQLITE_NOTADB", Reason::Server),
    (ErrorCode::DatabaseCorrupt, "SQLITE_CORRUPT", Reason::Server),
    (ErrorCode::SystemIoFailure, "SQLITE_IOERR", Reason::Server),
    (ErrorCode::DiskFull, "SQLITE_FULL", Reason::Server),
    (ErrorCode::OutOfMemory, "SQLITE_NOMEM", Reason::Server),
];

/// Our error for SQLite's: reason, message, and the code's name (with the extended number where it says more).
pub(super) fn error(cause: &rusqlite::Error) -> Error {
    let mut spot = None;
    let (code, message) = match cause {
        rusqlite::Error::SqliteFailure(code, message) => (code, message.clone()),
        rusqlite::Error::SqlInputError { error, msg, sql, offset } => {
            spot = spot_at(sql, *offset);
            (error, Some(near(msg, spot)))
        }
        rusqlite::Error::MultipleStatement => return Error::new(Reason::Sql, "more than one statement"),
        other => return Error::new(Reason::Sql, other.to_string()),
    };
    let (name, reason) = CODES
        .iter()
        .find(|(known, ..)| *known == code.code)
        .map_or(("SQLITE_ERROR", Reason::Sql), |&(_, name, reason)| (name, reason));
    let message = message.unwrap_or_else(|| ffi::code_to_str(code.extended_code).to_owned());
    let primary = code.extended_code & 0xff;
    let shown = if code.extended_code == primary {
        name.to_owned()
    } else {
        format!("{name} {}", code.extended_code)
    };
    let error = Error::new(reason, message).with_sqlstate(shown);
    match spot {
        Some(spot) => error.at_spot(spot),
        None => error,
    }
}

/// `error` as the reason why SQLite stopped a statement: with the code that it stopped with.
pub(super) fn interrupted(error: Error) -> Error {
    error.with_sqlstate("SQLITE_INTERRUPT")
}

/// SQLite's message with the line of the statement it means.
fn near(message: &str, spot: Option<Spot>) -> String {
    match spot {
        Some(Spot { line, column }) => {
            format!("{message} (line {line}, column {column} of the statement)")
        }
        None => message.to_owned(),
    }
}

/// The place of a byte in a statement.
fn spot_at(sql: &str, offset: i32) -> Option<Spot> {
    let before = sql.get(..usize::try_from(offset).ok()?)?;
    let last = before.rsplit('\n').next()?;
    Some(Spot { line: before.matches('\n').count() + 1, column: last.chars().count() + 1 })
}
