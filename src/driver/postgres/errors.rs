//! The server's errors as an [`Error`]: SQLSTATE to reason, position to line and column.
//!
//! Source of the classes: PostgreSQL's documentation, appendix A. Knows neither session nor deadline.

use std::time::Duration;

use crate::driver::bounded_text;
use crate::driver::sql_lexer::position_of;
use crate::error::{Error, Reason, SqlPosition};

use super::connection::MessageFields;

/// A text is not in its encoding.
const BROKEN_TEXT: &str = "22021";
const BROKEN_TEXT_HINT: &str = "where the database's encoding is SQL_ASCII, or the text is a name that another database of the \
                                server wrote, `SET LOCAL client_encoding = 'SQL_ASCII'` in session_sql accepts every text: labels \
                                that are not UTF-8 are hexadecimal then";

/// `invalid_transaction_termination`: since PostgreSQL 18 also where a query calls the procedure outside of a snapshot.
const COMMIT_INSIDE: &str = "2D000";
const COMMIT_INSIDE_HINT: &str =
    "a query runs in one transaction with its limits: call a procedure without COMMIT and ROLLBACK";

/// `indeterminate_datatype`: nothing around a parameter tells its type.
const UNTYPED_PARAMETER: &str = "42P18";
const UNTYPED_PARAMETER_HINT: &str = "write its type where it stands, such as `$1::text`";

/// A standby ends queries that keep it from replaying what the primary has removed. Its functions that do so begin with this.
const ENDS_FOR_RECOVERY: &str = "Process";
const RECOVERY_CONFLICT_HINT: &str = "on the standby: hot_standby_feedback = on keeps the rows that queries need, and \
                                      max_standby_streaming_delay is how long replay waits for them";

/// How the names of all prepared statements and portals of a session begin.
const STATEMENT_PREFIX: &str = "sqlexp_";

/// An `ErrorResponse`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ServerError {
    /// FATAL or PANIC: the session is over.
    pub(super) fatal: bool,
    /// The SQLSTATE.
    pub(super) code: String,
    message: String,
    /// Shown of a login only: that of a statement may hold values of rows.
    detail: Option<Box<str>>,
    hint: Option<Box<str>>,
    /// The function of the server that raised it: not translated, as the message may be. PgBouncer sends none.
    routine: Option<Box<str>>,
    /// In characters of the statement, 1-based.
    position: Option<usize>,
}

impl ServerError {
    /// A prepared statement of ours that does not exist, or exists already: several server connections take turns behind
    /// this one. A function may fail so with statements of its own; no translation changes the name in the message.
    pub(super) fn is_of_a_pooler(&self) -> bool {
        matches!(self.code.as_str(), "26000" | "42P05") && self.message.contains(STATEMENT_PREFIX)
    }

    /// A portal of ours was closed: by `CLOSE ALL` in a function.
    pub(super) fn is_of_closed_portal(&self) -> bool {
        self.code == "34000" && self.message.contains(STATEMENT_PREFIX)
    }

    /// A limit on sessions: of the server, the database or the role (53300), or one of PgBouncer's, which have the code
    /// of whatever it refuses.
    fn is_of_full_server(&self) -> bool {
        const PGBOUNCER: &[&str] = &[
            "no more connections allowed",
            "client connections exceeded",
            "too many connections",
            "too many clients",
            "query_wait_timeout",
        ];
        self.code == "53300" || (self.fatal && PGBOUNCER.iter().any(|text| self.message.contains(text)))
    }

    /// The types of a statement's result have changed, with the server's own code for that.
    pub(super) fn of_changed_types() -> Self {
        let message = "the types of the result have changed".to_owned();
        ServerError { code: "0A000".to_owned(), message, ..ServerError::default() }
    }

    /// What is known of a statement may be out of date: its result, or how many columns it has.
    pub(super) fn is_of_another_shape(&self) -> bool {
        matches!(self.code.as_str(), "0A000" | "08P01")
    }

    /// The types of a statement's parameters may be out of date: they stay what they were when it was prepared.
    pub(super) fn may_be_of_old_parameters(&self) -> bool {
        matches!(self.code.as_str(), "42883" | "42804" | "42846" | "22003" | "22P02")
    }

    /// Reads the fields of an `ErrorResponse`; what is missing stays empty.
    pub(super) fn read(body: &[u8]) -> Self {
        let mut error = ServerError::default();
        let mut fields = MessageFields(body);
        while let Some(code @ 1..) = fields.byte() {
            let Some(text) = fields.text() else { break };
            match code {
                // `V` is `S` untranslated, since PostgreSQL 9.6; PgBouncer has only `S`.
                b'S' | b'V' => error.fatal |= matches!(text, "FATAL" | "PANIC"),
                b'C' => bounded_text::sqlstate(text).clone_into(&mut error.code),
                b'M' => error.message = bounded_text::message(text),
                b'D' => error.detail = Some(bounded_text::message(text).into()),
                b'H' => error.hint = Some(bounded_text::message(text).into()),
                b'R' => error.routine = Some(bounded_text::name(text).into()),
                b'P' => error.position = text.parse().ok(),
                _ => {}
            }
        }
        error
    }

    /// Whether a `57014` comes from `statement_timeout`, not from a cancel. A translated message does not tell: then the
    /// statement, which had `limit`, has run for `here`.
    pub(super) fn is_statement_timeout(&self, here: Duration, limit: Duration) -> bool {
        // The server may have begun while the answer before was still on its way.
        let tolerance = (limit / 10).min(Duration::from_millis(50));
        self.code == "57014" && (self.message.contains("statement timeout") || here + tolerance >= limit)
    }

    /// The error of a statement; `sql` is what the position counts in.
    pub(super) fn of_statement(&self, sql: &str) -> Error {
        self.of_statement_behind(0, sql)
    }

    /// The same of a statement that was sent behind so many characters of ours.
    pub(super) fn of_statement_behind(&self, before: usize, sql: &str) -> Error {
        let Some(character) = self.position.and_then(|position| position.checked_sub(before + 1)) else {
            return self.error(self.reason(), self.message.clone());
        };
        let byte = sql.char_indices().nth(character).map_or(sql.len(), |(byte, _)| byte);
        let position = position_of(sql, byte);
        let SqlPosition { line, column } = position;
        let line = if sql.contains('\n') { format!("line {line}, ") } else { String::new() };
        let message = format!("{} ({line}column {column})", self.message);
        self.error(self.reason(), message).at_sql_position(position)
    }

    /// The error of a login. `encrypted`: the connection is. `asked`: the server has asked for a password.
    pub(super) fn of_login(&self, shown: &str, encrypted: bool, asked: bool) -> Error {
        let (reason, meaning, hint) = self.login_refusal(encrypted, asked);
        let detail = self.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        let mut error = self.error(reason, format!("login to {shown}: {}{detail}", self.message));
        if let (None, Some(hint)) = (&self.hint, hint) {
            error = error.with_hint(hint);
        }
        if !asked {
            error = error.before_password();
        }
        if meaning.is_empty() { error } else { error.with_meaning(meaning) }
    }

    /// `pg_hba.conf` has no line that lets this login in, or one that rejects it. The file's name is in every translation.
    pub(super) fn is_of_hba(&self) -> bool {
        self.code == "28000" && self.message.contains("pg_hba.conf")
    }

    /// What a refused login means: the reason, what it means where the reason does not say it all, and a hint. Only a refused
    /// password is [`Reason::Auth`]: it is not tried again soon.
    fn login_refusal(&self, encrypted: bool, asked: bool) -> (Reason, &'static str, Option<&'static str>) {
        let says = |part: &str| self.message.contains(part);
        let is_raised_by = |name: &str| self.routine.as_deref() == Some(name);
        match self.code.as_str() {
            _ if self.is_of_hba() && encrypted => (
                Reason::Permission,
                "no line of the server's pg_hba.conf lets this user in from here",
                Some(
                    "add a line for this user, database and address to pg_hba.conf, and SELECT pg_reload_conf()",
                ),
            ),
            _ if self.is_of_hba() => (
                Reason::Permission,
                "no line of the server's pg_hba.conf lets this user in from here without encryption",
                Some(
                    "tls: {mode: require} where the server has a hostssl line for it; else add a line for this user, \
                     database and address to pg_hba.conf, and SELECT pg_reload_conf()",
                ),
            ),
            // What else it raises is about pg_hba.conf.
            "28000"
                if is_raised_by("ClientAuthentication")
                    || says("client certificate") && !is_raised_by("auth_failed") =>
            {
                (Reason::Tls, "the server requires a client certificate", Some("set tls.cert and tls.key"))
            }
            // "role … does not exist" and "role … is not permitted to log in".
            "28000" if is_raised_by("InitializeSessionUserId") || says("is not permitted to log in") => (
                Reason::Permission,
                "the role does not exist, or may not log in",
                Some("on the server: CREATE ROLE NAME LOGIN, or ALTER ROLE NAME LOGIN"),
            ),
            // PAM, LDAP and RADIUS have this code, too, and ask for a password before.
            "28000" if !asked && is_raised_by("auth_failed") => (
                Reason::Auth,
                "the server's pg_hba.conf tells this user without a password, and takes somebody else for it",
                Some(
                    "on the server: `peer` lets in the system user of this name, `cert` who has a certificate for it, and \
                     pg_ident.conf can map others; or write scram-sha-256 instead, and give this user a password",
                ),
            ),
            "3D000" => (Reason::Connect, "the server does not have this database", None),
            "42704" | "22023" | "55P02" => (
                Reason::Connect,
                "the server refuses a setting of the login",
                Some("check `options` in `params` or in the URL, and what the role and the database set"),
            ),
            "53300" => (
                Reason::Server,
                "the server has no connection left for this user",
                Some(
                    "lower `max_connections` of the targets on it, or raise the limit: max_connections of the server, \
                     ALTER ROLE … CONNECTION LIMIT, ALTER DATABASE … CONNECTION LIMIT",
                ),
            ),
            "42501" => (Reason::Permission, "", None),
            // PgBouncer has one code for nearly everything it refuses.
            code if code.starts_with("08") => self.pooler_refusal(),
            code => match code.get(..2).unwrap_or_default() {
                "28" => (Reason::Auth, "", None),
                "53" | "57" | "58" | "XX" => (Reason::Server, "", None),
                _ => (Reason::Connect, "", None),
            },
        }
    }

    /// The reason of a statement's failure.
    fn reason(&self) -> Reason {
        match self.code.as_str() {
            "57014" => Reason::Cancelled,
            "55P03" => Reason::Locked,
            "42501" => Reason::Permission,
            "25006" => Reason::ReadOnly,
            // idle_in_transaction_session_timeout, transaction_timeout.
            "25P03" | "25P04" => Reason::Timeout,
            // "bind message supplies 0 parameters": the statement has a `$1`. A pooler ends sessions with this code, too.
            "08P01" if !self.fatal => Reason::Sql,
            // A foreign server that cannot be reached.
            "HV00N" => Reason::Server,
            code => match code.get(..2).unwrap_or_default() {
                "40" => Reason::Conflict,
                "28" => Reason::Auth,
                // A connection to another server, of a foreign table for one. Too long a result for a memory limit is the
                // server's fault as well: 54 is "program limit exceeded".
                "08" | "53" | "54" | "57" | "58" | "F0" | "XX" => Reason::Server,
                "22" => Reason::Value,
                _ => Reason::Sql,
            },
        }
    }

    /// The same of a pooler, which has one code for all that it refuses.
    fn pooler_refusal(&self) -> (Reason, &'static str, Option<&'static str>) {
        let says = |part: &str| self.message.contains(part);
        match () {
            () if says("SSL required") || says("TLS required") => {
                (Reason::Tls, "the pooler requires an encrypted connection", Some("tls: {mode: require}"))
            }
            () if says("no such database") => (
                Reason::Connect,
                "the pooler does not have this database",
                Some("check `database`: it must be under [databases] in pgbouncer.ini"),
            ),
            () if self.is_of_full_server() => (
                Reason::Server,
                "the pooler has no connection left",
                Some("lower `max_connections` of the targets on it, or raise its max_client_conn"),
            ),
            () if says("auth") || says("password") => (Reason::Auth, "", None),
            () => (Reason::Connect, "", None),
        }
    }

    fn error(&self, reason: Reason, message: String) -> Error {
        let mut error = Error::new(reason, message).with_sqlstate(self.code.clone());
        if self.is_of_full_server() {
            // ALTER DATABASE … CONNECTION LIMIT. A pooler passes on the message alone.
            let is_of_database = self.routine.as_deref() == Some("CheckMyDatabase")
                || self.message.contains("too many connections for database");
            error = if is_of_database { error.with_full_database() } else { error.with_full_server() };
        }
        let ours = match self.code.as_str() {
            BROKEN_TEXT => Some(BROKEN_TEXT_HINT),
            COMMIT_INSIDE => Some(COMMIT_INSIDE_HINT),
            UNTYPED_PARAMETER => Some(UNTYPED_PARAMETER_HINT),
            "40001" if self.routine.as_deref().is_some_and(|name| name.starts_with(ENDS_FOR_RECOVERY)) => {
                Some(RECOVERY_CONFLICT_HINT)
            }
            _ => None,
        };
        error.with_hint_if_any(self.hint.as_deref().or(ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(fields: &[(u8, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (code, text) in fields {
            body.push(*code);
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        body
    }

    #[test]
    fn an_error_names_line_column_and_hint() {
        let body = response(&[
            (b'S', "FEHLER"),
            (b'V', "ERROR"),
            (b'C', "42703"),
            (b'M', "column \"rgion\" does not exist"),
            (b'H', "Perhaps you meant \"region\"."),
            (b'P', "12"),
        ]);
        let error = ServerError::read(&body);
        assert!(!error.fatal);
        assert_eq!(
            error.of_statement("SELECT a,\n rgion").to_string(),
            "column \"rgion\" does not exist (line 2, column 2) [42703]; Perhaps you meant \"region\"."
        );
        assert_eq!(error.of_statement("").reason(), Reason::Sql);
    }

    #[test]
    fn a_truncated_response_is_still_an_error() {
        let error = ServerError::read(b"SFATAL\0C57P01\0Mterminat");
        assert!(error.fatal);
        assert_eq!(error.of_statement("x").reason(), Reason::Server);
        assert_eq!(ServerError::read(b""), ServerError::default());
    }

    #[test]
    fn limits_on_sessions_are_known_from_the_server_and_from_pgbouncer() {
        let cases = [
            ("53300", "too many connections for role \"exporter\"", true),
            ("53300", "too many connections for database \"shop\"", true),
            ("53300", "zu viele Verbindungen", true),
            ("08P01", "no more connections allowed (max_client_conn)", true),
            ("08P01", "client connections exceeded for user (max_user_client_connections)", true),
            ("08P01", "query_wait_timeout", true),
            ("08P01", "server login failed: FATAL too many connections for role \"exporter\"", true),
            ("28P01", "password authentication failed", false),
            ("57P03", "the database system is starting up", false),
        ];
        for (code, message, full) in cases {
            let error = ServerError::read(&response(&[(b'S', "FATAL"), (b'C', code), (b'M', message)]));
            assert_eq!(error.of_login("x", true, true).is_server_full(), full, "{message}");
            assert_eq!(error.of_statement("SELECT 1").is_server_full(), full, "{message}");
            assert_eq!(
                error.of_login("x", true, true).is_database_full(),
                message.contains("shop"),
                "{message}"
            );
        }
        let of_a_function =
            response(&[(b'S', "ERROR"), (b'C', "P0001"), (b'M', "too many clients of the shop")]);
        assert!(!ServerError::read(&of_a_function).of_statement("").is_server_full());
    }

    #[test]
    fn only_a_refused_password_is_auth() {
        let refused = |code: &str, routine: &str, message: &str, encrypted: bool| {
            let error = ServerError::read(&response(&[
                (b'S', "FATAL"),
                (b'C', code),
                (b'R', routine),
                (b'M', message),
            ]));
            let error = error.of_login("db:5432", encrypted, true);
            assert_eq!(error.sqlstate(), Some(code));
            (error.reason(), error.meaning().unwrap_or_default(), error.hint().unwrap_or_default().to_owned())
        };
        for (code, routine, message, reason) in [
            ("28P01", "auth_failed", "password authentication failed for user \"x\"", Reason::Auth),
            ("28000", "auth_failed", "LDAP authentication failed for user \"x\"", Reason::Auth),
            ("28000", "auth_failed", "certificate authentication failed for user \"x\"", Reason::Auth),
            ("28000", "ClientAuthentication", "no pg_hba.conf entry for host \"h\"", Reason::Permission),
            (
                "28000",
                "ClientAuthentication",
                "pg_hba.conf rejects connection for host \"h\"",
                Reason::Permission,
            ),
            ("28000", "ClientAuthentication", "kein pg_hba.conf-Eintrag für Host »h«", Reason::Permission),
            ("28000", "ClientAuthentication", "connection requires a valid client certificate", Reason::Tls),
            ("28000", "InitializeSessionUserId", "Rolle »x« darf nicht einloggen", Reason::Permission),
            ("28000", "", "role \"x\" is not permitted to log in", Reason::Permission),
            ("3D000", "InitPostgres", "database \"x\" does not exist", Reason::Connect),
            ("42501", "CheckMyDatabase", "permission denied for database \"x\"", Reason::Permission),
            (
                "55000",
                "CheckMyDatabase",
                "database \"x\" is not currently accepting connections",
                Reason::Connect,
            ),
            // A trigger of the database that runs at the login.
            ("42P01", "parserOpenTable", "relation \"logins\" does not exist", Reason::Connect),
            ("42704", "find_option", "unrecognized configuration parameter \"x\"", Reason::Connect),
            ("53300", "InitProcess", "sorry, too many clients already", Reason::Server),
            ("57P03", "ProcessStartupPacket", "the database system is starting up", Reason::Server),
            ("08P01", "", "password authentication failed", Reason::Auth),
            ("08P01", "", "SSL required", Reason::Tls),
            ("08P01", "", "no such database: x", Reason::Connect),
            ("08P01", "", "no more connections allowed (max_client_conn)", Reason::Server),
        ] {
            assert_eq!(refused(code, routine, message, true).0, reason, "{message}");
        }
        let entry = "no pg_hba.conf entry for host \"h\", no encryption";
        assert!(refused("28000", "ClientAuthentication", entry, false).2.contains("tls: {mode: require}"));
        assert!(!refused("28000", "ClientAuthentication", entry, true).2.contains("tls:"));
    }

    #[test]
    fn a_translated_message_means_the_same() {
        let read = |code: &str, routine: &str, message: &str| {
            ServerError::read(&response(&[(b'S', "FATAL"), (b'C', code), (b'R', routine), (b'M', message)]))
        };
        let login = |code, routine, message| read(code, routine, message).of_login("x", true, true);
        let database = login("53300", "CheckMyDatabase", "zu viele Verbindungen für Datenbank »shop«");
        let role = login("53300", "InitializeSessionUserId", "zu viele Verbindungen von Rolle »x«");
        assert!(database.is_database_full() && !role.is_database_full());
        let certificate =
            login("28000", "ClientAuthentication", "Verbindung erfordert ein gültiges Client-Zertifikat");
        assert_eq!(certificate.reason(), Reason::Tls);
        let limit = Duration::from_secs(1);
        let timeout =
            read("57014", "ProcessInterrupts", "storniere Anfrage wegen Zeitüberschreitung der Anfrage");
        assert!(timeout.is_statement_timeout(Duration::from_millis(980), limit));
        let cancel = read("57014", "ProcessInterrupts", "storniere Anfrage wegen Benutzeraufforderung");
        assert!(!cancel.is_statement_timeout(Duration::from_millis(900), limit));
    }

    #[test]
    fn only_statements_of_ours_show_a_pooler() {
        let is_of_a_pooler = |code: &str, name: &str| {
            let message = format!("prepared statement \"{name}\" does not exist");
            ServerError::read(&response(&[(b'C', code), (b'M', &message)])).is_of_a_pooler()
        };
        assert!(
            is_of_a_pooler("26000", "sqlexp_guard") && is_of_a_pooler("42P05", "sqlexp_0123456789abcdef")
        );
        assert!(!is_of_a_pooler("26000", "pgsql_fdw_prep_1") && !is_of_a_pooler("42P01", "sqlexp_guard"));
        assert!(crate::driver::Sql::new("SELECT 1").name().starts_with(STATEMENT_PREFIX));
    }

    #[test]
    fn a_procedure_that_commits_is_told_to_leave_that_out() {
        let error = ServerError::read(&response(&[
            (b'S', "ERROR"),
            (b'C', "2D000"),
            (b'M', "invalid transaction termination"),
        ]));
        assert_eq!(error.of_statement("CALL p()").hint(), Some(COMMIT_INSIDE_HINT));
    }

    #[test]
    fn a_parameter_without_a_type_is_told_to_have_one() {
        let message = "could not determine data type of parameter $1";
        let error = ServerError::read(&response(&[(b'S', "ERROR"), (b'C', "42P18"), (b'M', message)]));
        assert_eq!(error.of_statement("SELECT $1 IS NULL").hint(), Some(UNTYPED_PARAMETER_HINT));
    }

    #[test]
    fn a_login_tells_its_detail_and_a_statement_does_not() {
        let error = ServerError::read(&response(&[
            (b'S', "FATAL"),
            (b'C', "57P03"),
            (b'M', "the database system is not accepting connections"),
            (b'D', "Hot standby mode is disabled."),
        ]));
        let message =
            "login to x: the database system is not accepting connections: Hot standby mode is disabled.";
        assert_eq!(error.of_login("x", true, false).message(), message);
        assert!(!error.of_statement("").message().contains("Hot"));
    }

    #[test]
    fn only_a_conflict_with_recovery_is_told_about_the_standby() {
        for (routine, hint) in [
            ("ProcessInterrupts", Some(RECOVERY_CONFLICT_HINT)),
            // PostgreSQL 16 and later.
            ("ProcessRecoveryConflictInterrupt", Some(RECOVERY_CONFLICT_HINT)),
            ("CheckForSerializableConflictOut", None),
        ] {
            let error = ServerError::read(&response(&[(b'C', "40001"), (b'R', routine), (b'M', "x")]));
            assert_eq!(error.of_statement("").hint(), hint, "{routine}");
        }
    }

    #[test]
    fn each_class_has_its_reason() {
        let cases = [
            ("57014", Reason::Cancelled),
            ("55P03", Reason::Locked),
            ("40P01", Reason::Conflict),
            ("40001", Reason::Conflict),
            ("42501", Reason::Permission),
            ("25006", Reason::ReadOnly),
            ("53200", Reason::Server),
            ("57P03", Reason::Server),
            ("58030", Reason::Server),
            ("22012", Reason::Value),
            ("42P01", Reason::Sql),
            ("0A000", Reason::Sql),
            ("25P03", Reason::Timeout),
            ("25P04", Reason::Timeout),
            ("", Reason::Sql),
            ("08P01", Reason::Sql),
            ("08001", Reason::Server),
            ("HV00N", Reason::Server),
        ];
        let of = |code: &str, fatal| ServerError { code: code.to_owned(), fatal, ..ServerError::default() };
        for (code, expected) in cases {
            assert_eq!(of(code, false).reason(), expected, "{code}");
        }
        assert_eq!(of("08P01", true).reason(), Reason::Server, "a pooler's end of a session");
    }
}
