//! What the `mysql` crate reports, as our reasons: by the server's error number, else by SQLSTATE class.
//!
//! Knows no session. Another number is one more entry in [`by_number`]. Numbers are those of MySQL's and MariaDB's
//! `mysqld_error.h`; where the two disagree they are MariaDB's from 1900 to 1999 and from 4000 on.

use std::io;

use mysql::{DriverError, MySqlError};

use crate::driver::tls;
use crate::error::{Error, Reason};

use super::refusals;

/// A failed call: what to say, and whether the connection is still in step with the server.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: Error,
    /// True when the connection must not be used again.
    pub(super) broken: bool,
}

impl Fault {
    /// The server answered, the connection goes on.
    pub(super) fn answered(error: Error) -> Self {
        Fault { error, broken: false }
    }

    /// The error of a login: a connection that breaks there never was one, and no query is to blame.
    pub(super) fn at_login(self) -> Error {
        let instead = match self.error.reason() {
            Reason::Lost => Reason::Connect,
            Reason::Sql => Reason::Server,
            _ => return self.error,
        };
        self.error.with_reason(instead)
    }

    fn broken(reason: Reason, message: String) -> Self {
        Fault { error: Error::new(reason, message), broken: true }
    }
}

impl From<mysql::Error> for Fault {
    fn from(error: mysql::Error) -> Self {
        match error {
            mysql::Error::MySqlError(answer) => from_answer(&answer),
            // Not the connection: a message that ends before its time.
            mysql::Error::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                unreadable(&error)
            }
            mysql::Error::IoError(error) => from_io(&error),
            mysql::Error::TlsError(error) => Fault::broken(Reason::Tls, format!("TLS failed: {error}")),
            mysql::Error::DriverError(error) => from_driver(error),
            mysql::Error::CodecError(error) => {
                match std::error::Error::source(&error).map(<dyn std::error::Error>::downcast_ref) {
                    Some(Some(error)) => from_io(error),
                    _ => Fault::broken(Reason::Protocol, error.to_string()),
                }
            }
            error => Fault::broken(Reason::Protocol, error.to_string()),
        }
    }
}

fn from_answer(answer: &MySqlError) -> Fault {
    let reason = by_number(answer.code).unwrap_or_else(|| by_state(&answer.state));
    let message = format!("{} (error {})", answer.message, answer.code);
    // 1053 shutdown, 1080 forced close, 1152 to 1161 aborted or out of step, 1927 and 3169 killed, 4031 idle too long.
    let broken = matches!(answer.code, 1053 | 1080 | 1152..=1161 | 1927 | 3169 | 4031);
    let error = Error::new(reason, message).with_sqlstate(answer.state.clone());
    // Limits on sessions: of the server, of all sessions of a user, of a user's resources.
    let is_full = matches!(answer.code, 1040 | 1203 | 1226);
    let error = if is_full { error.of_full_server() } else { error };
    Fault { error: refusals::explained(error, answer.code), broken }
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

fn from_io(error: &io::Error) -> Fault {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return Fault::handshake(tls);
    }
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Fault::broken(Reason::Timeout, "the server was silent for too long".to_owned())
        }
        // The crate's words for an end of file: between two messages, and within one.
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
            Fault::broken(Reason::Lost, "the server closed the connection".to_owned())
        }
        io::ErrorKind::InvalidData => unreadable(error),
        _ => Fault::broken(Reason::Lost, format!("the connection broke: {error}")),
    }
}

fn unreadable(error: &io::Error) -> Fault {
    Fault::broken(Reason::Protocol, format!("the server sent what the driver cannot read: {error}"))
}

fn from_driver(error: DriverError) -> Fault {
    match error {
        DriverError::ConnectTimeout => Fault::broken(Reason::Timeout, "no TCP connection in time".to_owned()),
        DriverError::CouldNotConnect(Some((address, why, _))) => {
            Fault::broken(Reason::Connect, format!("cannot connect to {address}: {why}"))
        }
        DriverError::TlsNotSupported => {
            Fault::broken(Reason::Tls, "TLS is demanded and the server does not offer it".to_owned())
        }
        DriverError::CleartextPluginDisabled => Fault::clear_text(),
        DriverError::UnknownAuthPlugin(plugin) if plugin == "mysql_clear_password" => Fault::clear_text(),
        DriverError::UnknownAuthPlugin(plugin) => Fault::broken(
            Reason::Auth,
            format!("the server asks for the unknown authentication plugin {plugin}"),
        ),
        DriverError::OldMysqlPasswordDisabled => {
            Fault::broken(Reason::Auth, "the server asks for a password hash of before MySQL 4.1".to_owned())
        }
        error => Fault::broken(Reason::Protocol, error.to_string()),
    }
}

impl Fault {
    fn handshake(error: &rustls::Error) -> Self {
        let (said, hint) = tls::explain(error);
        let error = Error::new(Reason::Tls, format!("TLS failed: {said}"));
        Fault { error: hint.map_or(error.clone(), |hint| error.with_hint(hint)), broken: true }
    }

    fn clear_text() -> Self {
        let message = "the server asks for a clear-text password on an unencrypted connection";
        let error = Error::new(Reason::Auth, message)
            .with_hint("use tls, or write tls: {mode: disable} to send it in clear text")
            .with_meaning("the server asks for the password in clear text, and others could read it")
            .before_password();
        Fault { error, broken: true }
    }
}

/// The tables changed, or a proxy moved us to another server: the statement must be prepared anew.
pub(super) fn is_stale(error: &mysql::Error) -> bool {
    matches!(error, mysql::Error::MySqlError(error) if matches!(error.code, 1243 | 1615))
}

/// The statement runs as text only: the server does not prepare its kind (1295) or no more statements at all (1461),
/// or the crate takes something in it (`:x`, `?`) for a parameter, rightly or not. It did not run yet.
pub(super) fn wants_text(error: &mysql::Error) -> bool {
    use mysql::DriverError::{MismatchedStmtParams, MixedParams, Params};
    match error {
        mysql::Error::MySqlError(error) => matches!(error.code, 1295 | 1461),
        mysql::Error::DriverError(Params(_) | MixedParams | MismatchedStmtParams(..)) => true,
        _ => false,
    }
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
            let answer = MySqlError { state: state.to_owned(), message: "said".to_owned(), code };
            let fault = Fault::from(mysql::Error::MySqlError(answer));
            assert_eq!((fault.error.reason(), fault.broken), (reason, broken), "{code}");
            assert_eq!(fault.error.to_string(), format!("said (error {code}) [{state}]"));
        }
    }

    #[test]
    fn a_login_that_breaks_is_connect_and_one_that_is_rejected_is_no_querys_fault() {
        let cut = mysql::Error::IoError(io::ErrorKind::BrokenPipe.into());
        assert_eq!(Fault::from(cut).at_login().reason(), Reason::Connect);
        let unknown =
            MySqlError { state: "42000".to_owned(), message: "Unknown database".to_owned(), code: 1049 };
        let error = Fault::from(mysql::Error::MySqlError(unknown)).at_login();
        assert_eq!((error.reason(), error.sqlstate()), (Reason::Connect, Some("42000")));
    }

    #[test]
    fn a_clear_text_password_is_refused_with_what_to_change() {
        let fault = Fault::from(mysql::Error::DriverError(DriverError::CleartextPluginDisabled));
        assert_eq!(fault.error.reason(), Reason::Auth);
        assert!(fault.error.hint().is_some_and(|hint| hint.contains("mode: disable")), "{}", fault.error);
    }
}
