//! The errors of a server and of the connection to it, as reasons: by the server's error number, else by SQLSTATE class.
//!
//! Knows no session. Another number is one more entry in [`by_number`] or [`LOGIN_ERRORS`]. Numbers are those of MySQL's
//! and MariaDB's `mysqld_error.h`; where the two disagree, numbers from 1900 to 1999 and from 4000 on are MariaDB's.

use std::io;

use crate::driver::connection::tls;
use crate::error::{Error, Reason};

use super::packet::MySqlError;

/// Why a command has no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// The server's own error. The connection serves the next command.
    Server(MySqlError),
    /// The connection must not be used again.
    Broken(Error),
}

impl CallError {
    pub(super) fn into_error(self) -> Error {
        match self {
            CallError::Server(error) => error.to_error(),
            CallError::Broken(error) => error,
        }
    }

    /// True where the server did not answer in time.
    pub(super) fn is_timeout(&self) -> bool {
        matches!(self, CallError::Broken(error) if error.reason() == Reason::Timeout)
    }

    /// The error of a login: a connection that breaks there was never established, and what the server rejects is a
    /// statement of ours, or of `session_sql`.
    pub(super) fn into_login_error(self) -> Error {
        let error = match self {
            CallError::Server(error) => error.to_login_error(),
            CallError::Broken(error) => error,
        };
        match error.reason() {
            Reason::Lost => error.with_reason(Reason::Connect),
            Reason::Sql if !error.message().starts_with("session_sql") => error.with_reason(Reason::Server),
            _ => error,
        }
    }
}

/// The server's bytes do not follow the protocol.
pub(super) fn unreadable(what: &str) -> Error {
    Error::new(Reason::Protocol, format!("the server sent what the driver cannot read: {what}"))
}

/// An error of our own ends the connection.
impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        CallError::Broken(error)
    }
}

impl From<MySqlError> for CallError {
    fn from(error: MySqlError) -> Self {
        if error.ends_connection() {
            CallError::Broken(error.to_login_error())
        } else {
            CallError::Server(error)
        }
    }
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        if let Some((message, hint)) = tls::explain(&error) {
            let error = Error::new(Reason::Tls, format!("TLS failed: {message}"));
            return CallError::Broken(error.with_hint_if_any(hint));
        }
        CallError::Broken(match error.kind() {
            io::ErrorKind::TimedOut => Error::new(Reason::Timeout, "the server did not answer in time"),
            io::ErrorKind::UnexpectedEof => Error::new(Reason::Lost, "the server closed the connection"),
            io::ErrorKind::FileTooLarge | io::ErrorKind::QuotaExceeded => {
                Error::new(Reason::Protocol, "the server sent more than it may here")
            }
            io::ErrorKind::InvalidData => unreadable(&error.to_string()),
            _ => Error::new(Reason::Lost, format!("the connection broke: {error}")),
        })
    }
}

impl MySqlError {
    /// The error for people.
    pub(super) fn to_error(&self) -> Error {
        let reason = match by_number(self.code) {
            // Any option of the server that forbids a statement has this number, such as max_session_mem_used.
            Some(Reason::ReadOnly) if self.code == 1290 && !self.message.contains("read-only") => {
                Reason::Server
            }
            Some(reason) => reason,
            None => by_state(&self.state),
        };
        let message = format!("{} (error {})", self.message, self.code);
        let error = Error::new(reason, message).with_sqlstate(self.state.clone());
        // Limits on sessions: of the server, of all sessions of a user, of a user's resources.
        if matches!(self.code, 1040 | 1203 | 1226) { error.with_full_server() } else { error }
    }

    /// The same of a login, with what the number means there: a statement may name a database that does not exist, too.
    fn to_login_error(&self) -> Error {
        let error = self.to_error();
        let known = LOGIN_ERRORS.iter().find(|(numbers, ..)| numbers.contains(&self.code));
        let Some((_, reason, meaning, hint)) = known else { return error };
        let error = error.with_reason(*reason).with_meaning(meaning);
        if hint.is_empty() { error } else { error.with_hint(*hint) }
    }

    /// 1053 shutdown, 1080 forced close, 1152 to 1161 and 1184 aborted or out of step, 1927 and 3169 killed, 4031 idle too
    /// long.
    fn ends_connection(&self) -> bool {
        matches!(self.code, 1053 | 1080 | 1184 | 1152..=1161 | 1927 | 3169 | 4031)
    }

    /// The tables changed, or a proxy moved us to another server: the statement must be prepared again.
    pub(super) fn is_stale_statement(&self) -> bool {
        matches!(self.code, 1243 | 1615)
    }

    /// The server does not prepare statements of this kind.
    pub(super) fn is_not_preparable(&self) -> bool {
        self.code == 1295
    }

    /// `ER_NO_SUCH_THREAD`.
    pub(super) fn is_no_such_thread(&self) -> bool {
        self.code == 1094
    }
}

/// The reason of an error number, where its SQLSTATE does not tell.
fn by_number(number: u16) -> Option<Reason> {
    Some(match number {
        // Wrong password, unknown user. Others of a login are in [`LOGIN_ERRORS`].
        1045 => Reason::Auth,
        // Database, command, table, column, routine, privilege denied.
        1044 | 1142 | 1143 | 1227 | 1345 | 1370 | 1410 | 1419 => Reason::Permission,
        1205 | 3572 => Reason::Locked,
        1020 | 1213 | 1614 | 3058 => Reason::Conflict,
        1969 | 3024 => Reason::Timeout,
        1317 => Reason::Cancelled,
        // --read-only, read-only transaction, read-only mode.
        1290 | 1792 | 1836 | 1874 => Reason::ReadOnly,
        // A proxy in front of the server.
        2002 | 2003 | 2005 => Reason::Connect,
        // Those from 2000 on are of a proxy's connection to the server.
        1927 | 3169 | 4031 | 1080 | 1152 | 1158..=1161 | 2006 | 2013 => Reason::Lost,
        1153..=1157 => Reason::Protocol,
        // Of the system and the storage engines: a file that is missing, a disk that is full, an index that is corrupt.
        ..1000 => Reason::Server,
        // Disk full, out of memory, too many threads, storage engine and its files, a node that has left its Galera cluster,
        // shutdown, limits on sessions and statements, another server that a table is on.
        1016 | 1017 | 1021 | 1024 | 1030 | 1034 | 1035 | 1037 | 1038 | 1040 | 1041 | 1047 | 1053 | 1114
        | 1135 | 1194 | 1195 | 1203 | 1226 | 1296 | 1429 | 1430 | 1461 | 1712 | 1812 | 1877 | 3000 | 3015 => {
            Reason::Server
        }
        _ => return None,
    })
}

/// The reason of an SQLSTATE class; the rest is the statement's fault.
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

/// What an error means that ends a login: numbers, reason, meaning, hint. Only what may be a wrong password is `auth`,
/// which is not tried again soon. Without a hint the command `test` has more to say.
#[rustfmt::skip]
const LOGIN_ERRORS: &[(&[u16], Reason, &str, &str)] = &[
    (&[1049], Reason::Connect, "the server has no such database", ""),
    (&[1129], Reason::Connect, "the server has blocked this machine",
        "on the server: FLUSH HOSTS (MySQL from 8.4 on: TRUNCATE TABLE performance_schema.host_cache); then look in its \
         log for what breaks off its connections, and raise max_connect_errors"),
    (&[1130], Reason::Permission, "the server has no user for this machine",
        "on the server: CREATE USER '…'@'HOST', HOST being this machine's address as the message shows it, or '%'"),
    (&[1153], Reason::Server, "the statement is longer than the server's max_allowed_packet",
        "on the server: raise max_allowed_packet and net_buffer_length to the length of the longest statement, and to 16384 at least"),
    (&[1184], Reason::Server, "the server's init_connect fails for this user",
        "on the server: SELECT @@init_connect; its statements need privileges of the user, and the server's log has the error"),
    (&[1251], Reason::Auth, "the user's login plugin is not supported here",
        "on the server: ALTER USER … to the plugin caching_sha2_password (MySQL) or mysql_native_password (MariaDB)"),
    (&[1275], Reason::Auth, "the user's password is stored in the form of before MySQL 4.1",
        "on the server: ALTER USER … IDENTIFIED BY '…', with the same password or a new one"),
    (&[1524], Reason::Server, "the server lacks the user's login plugin",
        "on the server: INSTALL PLUGIN, or ALTER USER … to a plugin that SHOW PLUGINS lists"),
    (&[1698], Reason::Auth, "the server lets this user in without a password, and only as the system's user of that name",
        "set `socket` and run as that user, or make another user with a password: CREATE USER … IDENTIFIED BY '…'"),
    (&[1820, 1862], Reason::Permission, "the user's password has expired",
        "on the server: ALTER USER … IDENTIFIED BY '…' PASSWORD EXPIRE NEVER, with the same password or a new one"),
    (&[3032], Reason::Server, "the server is in offline mode", "on the server: SET GLOBAL offline_mode = OFF"),
    (&[3118, 4151], Reason::Permission, "the user's account is locked", "on the server: ALTER USER … ACCOUNT UNLOCK"),
    (&[3159], Reason::Tls, "the server demands an encrypted connection (require_secure_transport)",
        "tls: {mode: require}, or {mode: verify-full, ca: FILE}, which also checks who the server is"),
    (&[3922], Reason::Server, "the server demands compression, which is not supported here",
        "on the server: add `uncompressed` to protocol_compression_algorithms"),
    (&[3955, 4150], Reason::Auth, "the user's account is locked after failed logins",
        "put the password right first; on the server: ALTER USER … ACCOUNT UNLOCK"),
    (&[1040], Reason::Server, "the server has no connection left",
        "lower `max_connections` of the targets on it, or raise max_connections of the server"),
    (&[1203], Reason::Server, "the server has no connection left for this user",
        "lower `max_connections` of the targets on it, or raise max_user_connections of the server"),
    (&[1226], Reason::Server, "the server grants this user no more at the moment",
        "on the server: ALTER USER … WITH the resource that the message names (MAX_USER_CONNECTIONS, \
         MAX_CONNECTIONS_PER_HOUR, MAX_QUERIES_PER_HOUR) and a higher number, or 0 for no limit"),
    // ProxySQL, where a rule for SELECT names another hostgroup than the one that a SET has bound the session to.
    (&[9005], Reason::Server, "ProxySQL sends the statements of the session to several hostgroups",
        "in ProxySQL: a rule in mysql_query_rules before all others, with the user's name, one destination_hostgroup and apply = 1"),
    // A proxy in front of the server: it cannot be reached from there.
    (&[2002, 2003, 2005, 2006, 2013], Reason::Connect, "the proxy does not reach the server behind it", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, state: &str) -> MySqlError {
        MySqlError { state: state.to_owned(), message: "said".to_owned(), code }
    }

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
            (1290, "HY000", Reason::Server, false),
            (1184, "08S01", Reason::Lost, true),
            (2013, "HY000", Reason::Lost, false),
            (1040, "08004", Reason::Server, false),
            (126, "HY000", Reason::Server, false),
            (1047, "08S01", Reason::Server, false),
            (3015, "HY000", Reason::Server, false),
            (1053, "08S01", Reason::Server, true),
            (1927, "70100", Reason::Lost, true),
            (4031, "HY000", Reason::Lost, true),
            // A statement's: what they mean to a login is another thing.
            (1049, "42000", Reason::Sql, false),
            (1226, "42000", Reason::Server, false),
        ] {
            let answer = answer(code, state);
            let error = answer.to_error();
            assert_eq!((error.reason(), answer.ends_connection()), (reason, broken), "{code}");
            assert_eq!(error.to_string(), format!("said (error {code}) [{state}]"));
        }
        let message =
            "The MariaDB server is running with the --read-only option so it cannot execute this statement";
        let forbidden = MySqlError { message: message.to_owned(), ..answer(1290, "HY000") };
        assert_eq!(forbidden.to_error().reason(), Reason::ReadOnly);
    }

    #[test]
    fn a_login_that_breaks_is_connect_and_one_that_is_rejected_is_no_querys_fault() {
        let cut = CallError::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert_eq!(cut.into_login_error().reason(), Reason::Connect);
        let error = CallError::from(answer(1049, "42000")).into_login_error();
        assert_eq!((error.reason(), error.sqlstate()), (Reason::Connect, Some("42000")));
        let rejected = CallError::from(answer(1064, "42000")).into_login_error();
        assert_eq!(rejected.reason(), Reason::Server);
    }

    #[test]
    fn only_what_may_be_a_wrong_password_is_auth() {
        for (number, reason) in [
            (1049, Reason::Connect),
            (1129, Reason::Connect),
            (1130, Reason::Permission),
            (1524, Reason::Server),
            (1698, Reason::Auth),
            (1862, Reason::Permission),
            (3118, Reason::Permission),
            (3159, Reason::Tls),
            (3922, Reason::Server),
            (3955, Reason::Auth),
            (4150, Reason::Auth),
            (1153, Reason::Server),
            (1184, Reason::Server),
            (1040, Reason::Server),
            (1226, Reason::Server),
            (9005, Reason::Server),
        ] {
            let error = answer(number, "HY000").to_login_error();
            assert_eq!((error.reason(), error.sqlstate()), (reason, Some("HY000")));
            assert!(error.message().starts_with("said"), "{error}");
            assert!(error.meaning().is_some(), "{number}");
        }
        let other = answer(1045, "28000").to_login_error();
        assert_eq!((other.reason(), other.meaning(), other.hint()), (Reason::Auth, None, None));
    }

    #[test]
    fn a_blocked_machine_is_told_how_to_be_let_in_again() {
        let error = answer(1129, "HY000").to_login_error();
        assert!(error.hint().unwrap().contains("FLUSH HOSTS"), "{error}");
    }
}
