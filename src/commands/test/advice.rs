//! Explains a failed login and suggests what to try, and what to know about the connection to a server.
//!
//! Knows reasons and the target's own address, never a secret: of a password only where it comes from.

use std::time::Duration;

use serde::Serialize;

use crate::config::target::TargetConfig;
use crate::deadline::duration_text;
use crate::driver::connection::ConnectionConfig;
use crate::driver::connection::password::PasswordSource;
use crate::driver::connection::tls::{TlsMode, TlsRequirement};
use crate::driver::{ServerFacts, TlsState};
use crate::error::{Error, Reason};

/// Why a target does not work, and what to try.
#[derive(Serialize)]
pub(super) struct ExplainedFailure {
    pub(super) reason: &'static str,
    /// What it means.
    pub(super) words: &'static str,
    /// As the driver or the server writes it.
    pub(super) message: String,
    pub(super) sqlstate: Option<String>,
    /// The likeliest first.
    #[serde(rename = "try")]
    pub(super) suggestions: Vec<String>,
}

impl ExplainedFailure {
    pub(super) fn new(target: &TargetConfig, error: &Error, timeout: Duration) -> ExplainedFailure {
        ExplainedFailure {
            reason: error.reason().as_str(),
            words: error.meaning().unwrap_or_else(|| meaning(error)),
            message: error.message().to_owned(),
            sqlstate: error.sqlstate().map(str::to_owned),
            suggestions: suggestions(target, error, timeout),
        }
    }
}

/// A statement of the configuration has failed, not the login.
fn is_of_session_sql(error: &Error) -> bool {
    let is_of_statement =
        matches!(error.reason(), Reason::Sql | Reason::Type | Reason::Value | Reason::ReadOnly);
    is_of_statement || error.message().starts_with("session_sql")
}

fn meaning(error: &Error) -> &'static str {
    match error.reason() {
        _ if is_of_session_sql(error) => "`session_sql` fails",
        Reason::Connect => "there is no connection",
        Reason::Resolve => "the host name has no address",
        Reason::Auth => "the server does not accept user and password",
        Reason::Tls => "the connection cannot be encrypted as required",
        Reason::Lost => "the connection broke",
        Reason::Timeout => "no answer in time",
        Reason::Locked => "a lock is in the way",
        Reason::Permission => "the user is not allowed to connect",
        Reason::Protocol => "this is not the server that `driver` names",
        Reason::Panic => "a bug in sql-exporter",
        _ => "the server reports a problem of its own",
    }
}

/// What the driver suggests, then what the reason suggests.
fn suggestions(target: &TargetConfig, error: &Error, timeout: Duration) -> Vec<String> {
    let of_driver = error.hint().map(str::to_owned);
    // A driver that knows the meaning of an error knows best what to do about it.
    let is_enough = error.meaning().is_some() && of_driver.is_some();
    let login = target.login().filter(|_| !is_enough);
    let of_reason = login.map(|login| ConfiguredServer { target, login, timeout }.suggestions(error));
    let mut all: Vec<String> = of_driver.into_iter().chain(of_reason.unwrap_or_default()).collect();
    if all.is_empty() {
        let last = match error.reason() {
            _ if is_of_session_sql(error) => "run the target's `session_sql` by hand",
            Reason::Panic => "please report it, with the message above",
            Reason::Timeout => "allow more time with --timeout, or find out what holds the file",
            _ => "check `database` and what this user may read",
        };
        all.push(last.to_owned());
    }
    all
}

/// What to know about a network connection that is not wrong.
pub(super) fn tls_note(target: &TargetConfig, facts: &ServerFacts) -> Option<&'static str> {
    match (target.endpoint.as_ref()?.tls_requirement(), facts.tls) {
        (TlsRequirement::Authority, TlsState::Verified) => Some(
            "`verify-ca` without `tls.ca` accepts a certificate of any public authority, for any name: use \
             `tls: {mode: verify-full}`",
        ),
        (TlsRequirement::WhatIsOffered, TlsState::Plain) => Some(
            "the server offers no TLS and `prefer` does not require it: queries and results travel in plain text",
        ),
        (_, TlsState::PlainByRule) => Some(
            "the server's pg_hba.conf refuses this user with TLS, so that `prefer` goes on in plain text: `tls: {mode: \
             require}` makes that an error",
        ),
        (TlsRequirement::WhatIsOffered | TlsRequirement::Encryption, TlsState::Encrypted) => {
            Some("the server's identity is not verified: `tls: {mode: verify-full, ca: FILE}` verifies it")
        }
        _ => None,
    }
}

/// A server as configured.
struct ConfiguredServer<'t> {
    target: &'t TargetConfig,
    login: &'t ConnectionConfig,
    timeout: Duration,
}

impl ConfiguredServer<'_> {
    fn suggestions(&self, error: &Error) -> Vec<String> {
        let address = self.address();
        let suggestion = match error.reason() {
            // A hint of the error itself is enough.
            _ if is_of_session_sql(error) && error.hint().is_some() => return Vec::new(),
            _ if is_of_session_sql(error) => {
                format!("run the target's `session_sql` by hand as {}", self.user())
            }
            Reason::Resolve => format!(
                "check `host`; `getent hosts {}` shows how this machine resolves the name",
                self.login.hosts.first().map_or("NAME", |host| &host.host)
            ),
            // Unknown database: PostgreSQL's code, and MySQL's, whose other errors of that class do not end here.
            Reason::Connect if matches!(error.sqlstate(), Some("3D000" | "42000")) => {
                format!("check `database`: {} must exist on {address}", self.database())
            }
            // The server has answered.
            Reason::Connect if error.sqlstate().is_some() => {
                format!("check `database` ({}), and the log of the server on {address}", self.database())
            }
            Reason::Connect if self.login.socket.is_some() => {
                format!("check `socket`: is the server up, and may this user open {address}?")
            }
            Reason::Connect => format!(
                "is the server up, and does it listen on {address}? check `host` and `port`; a firewall may refuse, too"
            ),
            Reason::Auth if !error.is_refused_login() => self.password(),
            Reason::Auth => {
                let entry = self.entry(error.sqlstate());
                return self.encryption_required().into_iter().chain([self.password(), entry]).collect();
            }
            Reason::Tls => match (&self.login.tls.ca, error.hint()) {
                (Some(ca), Some(_)) => format!("`tls.ca` is {}", ca.display()),
                (None, Some(_)) => return Vec::new(),
                (_, None) => format!("the log of the server on {address} may say why"),
            },
            Reason::Timeout => {
                let more_time = format!(
                    "more time: `connect_timeout` is {}, --timeout {}",
                    duration_text(self.login.connect_timeout),
                    duration_text(self.timeout)
                );
                let unreachable = format!(
                    "can {address} be reached from here? a firewall that drops packets looks like this, and so does another \
                     server on that port"
                );
                return vec![unreachable, more_time];
            }
            Reason::Permission => self.grant(),
            Reason::Protocol => {
                format!("something else may listen on {address}: check `driver`, `host` and `port`")
            }
            Reason::Panic => return Vec::new(),
            _ => format!("check `database`, and the log of the server on {address}"),
        };
        vec![suggestion]
    }

    fn address(&self) -> String {
        match &self.login.socket {
            Some(socket) => socket.display().to_string(),
            None => {
                let hosts = self.login.hosts.iter().map(|host| format!("{}:{}", host.host, host.port));
                hosts.collect::<Vec<_>>().join(" or ")
            }
        }
    }

    fn user(&self) -> &str {
        self.login.username.as_deref().unwrap_or("the default user")
    }

    fn database(&self) -> &str {
        self.login.database.as_deref().unwrap_or("the user's default")
    }

    /// Where the password comes from, never what it is.
    fn password(&self) -> String {
        let user = self.user();
        let source = match &self.login.password {
            PasswordSource::File(path) => format!("`password_file` {}", path.display()),
            PasswordSource::Passfile(file) if file.named || file.path.exists() => {
                format!("the password file {}", file.path.display())
            }
            PasswordSource::None | PasswordSource::Passfile(_) => {
                return format!("no password is configured for {user}: add `password_file` or `password`");
            }
            PasswordSource::Command(command) => {
                format!("`password_command` {}", command.first().map_or("", String::as_str))
            }
            PasswordSource::Given(_) => match self.target.source.secrets.first() {
                Some(stored) => format!("`{}` at {}:{}", stored.key, stored.place.file, stored.place.line),
                None => "the configuration".to_owned(),
            },
        };
        format!("check `username` ({user}) and the password, which comes from {source}")
    }

    /// MySQL and MariaDB have one error for a wrong password and for a user that must use TLS.
    fn encryption_required(&self) -> Option<String> {
        let plain = self.target.driver == "mysql" && self.login.tls.mode == TlsMode::Disable;
        plain.then(|| {
            "a user made with REQUIRE SSL, and on MariaDB every user under require_secure_transport, gets the same error \
             without encryption: tls: {mode: require} shows whether that is the cause"
                .to_owned()
        })
    }

    /// What the server must have to accept the user.
    fn entry(&self, sqlstate: Option<&str>) -> String {
        let user = self.user();
        match self.target.driver {
            "mysql" => format!(
                "on the server: SELECT user, host, plugin, ssl_type FROM mysql.user WHERE user = '{user}'; `host` must fit \
                 this machine, an `ssl_type` of ANY needs TLS, which a socket does not have, and one of X509 or SPECIFIED \
                 also a certificate: `tls.cert` and `tls.key`"
            ),
            "pgbouncer" => {
                format!("in pgbouncer.ini: {user} must be in admin_users or stats_users, and in auth_file")
            }
            // One error, so that nobody can find out which roles there are.
            _ if sqlstate == Some("28P01") => format!(
                "on the server: its log says whether {user} has another password, has none, is past its VALID UNTIL or does \
                 not exist"
            ),
            _ => format!(
                "on the server: pg_hba.conf must let {user} into {} from this machine, and the role needs LOGIN",
                self.login.database.as_deref().unwrap_or("its database")
            ),
        }
    }

    fn grant(&self) -> String {
        let (user, database) = (self.user(), self.database());
        match self.target.driver {
            "mysql" => format!("on the server: GRANT SELECT ON `{database}`.* TO '{user}'@'…';"),
            _ => format!("on the server: GRANT CONNECT ON DATABASE \"{database}\" TO \"{user}\";"),
        }
    }
}
