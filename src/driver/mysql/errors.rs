//! What goes wrong between us and a server, as our reasons: by the server's error number, else by SQLSTATE class.
//!
//! Knows no session. Another number is one more entry in [`by_number`]. Numbers are those of MySQL's and MariaDB's
//! `mysqld_error.h`; where the two disagree they are MariaDB's from 1900 to 1999 and from 4000 on.

use std::io;

use crate::driver::connection::tls;
use crate::error::{Error, Reason};

use super::packet::ServerError;
use super::refusals;

/// A failed call: what to say, and whether the connection is still in step with the server.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: Error,
    /// True when the connection must not be used again.
    pub(super) broken: bool,
}

impl Fault {
    /// The error of a login: a connection that breaks there never was one, and no query is to blame.
    pub(super) fn at_login(self) -> Error {
        let instead = match self.error.reason() {
            Reason::Lost => Reason::Connect,
            Reason::Sql => Reason::Server,
            _ => return self.error,
        };
        self.error.with_reason(instead)
    }

    /// The connection cannot go on.
    pub(super) fn broken(reason: Reason, message: String) -> Self {
        Fault { error: Error::new(reason, message), broken: true }
    }

    /// The server's bytes are not what the protocol says.
    pub(super) fn unreadable(what: &str) -> Self {
        Fault::broken(Reason::Protocol, format!("the server sent what the driver cannot read: {what}"))
    }
}

/// What we found out ourselves ends the connection.
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault { error, broken: true }
    }
}

impl From<&ServerError> for Fault {
    fn from(answer: &ServerError) -> Self {
        let reason = by_number(answer.code).unwrap_or_else(|| by_state(&answer.state));
        let message = format!("{} (error {})", answer.message, answer.code);
        // 1053 shutdown, 1080 forced close, 1152 to 1161 aborted or out of step, 1927 and 3169 killed, 4031 idle too long.
        let broken = matches!(answer.code, 1053 | 1080 | 1152..=1161 | 1927 | 3169 | 4031);
        let error = Error::new(reason, message).with_sqlstate(answer.state.clone());
        // Limits on sessions: of the server, of all sessions of a user, of a user's resources.
        let is_full = matches!(answer.code, 1040 | 1203 | 1226);
        let error = if is_full { error.with_full_server() } else { error };
        Fault { error: refusals::explained(error, answer.code), broken }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if let Some(failure) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            let (said, hint) = tls::explain(failure);
            let error = Error::new(Reason::Tls, format!("TLS failed: {said}"));
            return hint.map_or(error.clone(), |hint| error.with_hint(hint)).into();
        }
        match error.kind() {
            io::ErrorKind::TimedOut => {
                Fault::broken(Reason::Timeout, "the server did not answer in time".to_owned())
            }
            io::ErrorKind::UnexpectedEof => {
                Fault::broken(Reason::Lost, "the server closed the connection".to_owned())
            }
            io::ErrorKind::FileTooLarge | io::ErrorKind::QuotaExceeded => {
                Fault::broken(Reason::Protocol, "the server sent more than it may here".to_owned())
            }
            io::ErrorKind::InvalidData => Fault::unreadable(&error.to_string()),
            _ => Fault::broken(Reason::Lost, format!("the connection broke: {error}")),
        }
    }
}

/// The reason of an error number, where its SQLSTATE does not tell.
fn by_number(number: u16) -> Option<Reason> {
    Some(match number {
        // Wrong password, unknown user. Others of a login are in `refusals`.
        1045 => Reason::Auth,
        // Database, command, table, column, routine, privilege denied.
        1044 | 1142 | 1143 | 1227 | 1345 | 1370 | 1410 | 1419 => Reason::Permission,
        1205 | 3572 => Reason::Locked,
        1020 | 1213 | 1614 | 3058 => Reason::Conflict,
        1969 | 3024 => Reason::Timeout,
        1317 => Reason::Cancelled,
        // --read-only, read-only transaction, read-only mode.
        1290 | 1792 | 1836 => Reason::ReadOnly,
        1927 | 3169 | 4031 | 1080 | 1152 | 1158..=1161 => Reason::Lost,
        1153..=1157 => Reason::Protocol,
        // Disk full, out of memory, too many threads, storage engine, shutdown, statement limit.
        3 | 5 | 23 | 28 | 1021 | 1030 | 1037 | 1038 | 1041 | 1053 | 1114 | 1135 | 1461 => Reason::Server,
        _ => return None,
    })
}

/// The reason of an SQLSTATE class; what is left is the statement's fault.
fn by_state(state: &str) -> Reason {
    match state.get(..2) {
        Some("08") => Reason::Lost,
        Some("25") => Reason::ReadOnly,
        Some("28") => Reason::Auth,
        Some("40") => Reason::Conflict,
        Some("70") => Reason::Cancelled,
        _ => Reason::Sql,
    }
}

/// The tables changed, or a proxy moved us to another server: the statement must be prepared anew.
pub(super) fn is_stale(error: &ServerError) -> bool {
    matches!(error.code, 1243 | 1615)
}

/// The server does not prepare statements of this kind.
pub(super) fn is_text_only(error: &ServerError) -> bool {
    error.code == 1295
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_number_comes_before_its_class() {
        for (code, state, reason, broken) in [
            (1045, "28000", Reason::Auth, false),
            (1044, "42000", Reason::Permission, false),
            (1142, "42000", Reason::Permission, false),
            (1064, "42000", Reason::Sql, false),
            (1690, "22003", Reason::Sql, false),
            (1205, "HY000", Reason::Locked, false),
            (1213, "40001", Reason::Conflict, false),
            (1317, "70100", Reason::Cancelled, false),
            (1969, "70100", Reason::Timeout, false),
            (3024, "HY000", Reason::Timeout, false),
            (1792, "25006", Reason::ReadOnly, false),
            (1290, "HY000", Reason::ReadOnly, false),
            (1040, "08004", Reason::Server, false),
            (1053, "08S01", Reason::Server, true),
            (1927, "70100", Reason::Lost, true),
            (4031, "HY000", Reason::Lost, true),
        ] {
            let answer = ServerError { state: state.to_owned(), message: "said".to_owned(), code };
            let fault = Fault::from(&answer);
            assert_eq!((fault.error.reason(), fault.broken), (reason, broken), "{code}");
            assert_eq!(fault.error.to_string(), format!("said (error {code}) [{state}]"));
        }
    }

    #[test]
    fn a_login_that_breaks_is_connect_and_one_that_is_rejected_is_no_querys_fault() {
        let cut = Fault::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert_eq!(cut.at_login().reason(), Reason::Connect);
        let unknown =
            ServerError { state: "42000".to_owned(), message: "Unknown database".to_owned(), code: 1049 };
        let error = Fault::from(&unknown).at_login();
        assert_eq!((error.reason(), error.sqlstate()), (Reason::Connect, Some("42000")));
    }
}
