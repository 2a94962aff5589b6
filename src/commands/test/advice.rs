//! A failure in words, what to try next, and what there is to say about the way to a server.
//!
//! Knows reasons and the target's own address, never a secret: of a password only where it comes from. Another reason is
//! one line in [`words`] and one in [`Way::tries`].

use std::time::Duration;

use crate::config::database::Database;
use crate::deadline::duration_text;
use crate::driver::connection::ConnectionConfig;
use crate::driver::connection::password::PasswordSource;
use crate::driver::connection::tls::{TLS_MODES, TlsMode, TlsRequirement};
use crate::driver::{ServerFacts, TlsState};
use crate::error::{Error, Reason};

/// What a failed login means: as the driver says it, else what its reason means.
pub(super) fn words(error: &Error) -> &'static str {
    error.meaning().unwrap_or_else(|| of_reason(error.reason()))
}

fn of_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Connect => "there is no connection",
        Reason::Resolve => "the host's name has no address",
        Reason::Auth => "the server does not accept user and password",
        Reason::Tls => "the connection cannot be encrypted as demanded",
        Reason::Lost => "the connection broke",
        Reason::Timeout => "no answer in time",
        Reason::Locked => "a lock is in the way",
        Reason::Permission => "the user may not enter",
        Reason::Protocol => "this is not the server that `driver` names",
        Reason::Sql | Reason::Type | Reason::Value | Reason::ReadOnly => "`session_sql` fails",
        Reason::Panic => "a bug of ours",
        Reason::Server
        | Reason::Wedged
        | Reason::Conflict
        | Reason::MissingColumn
        | Reason::Duplicate
        | Reason::Limit
        | Reason::Cancelled => "the server has a fault of its own",
    }
}

/// What to try next, the likeliest first: what the driver says, then what the reason says.
pub(super) fn tries(target: &Database, error: &Error, timeout: Duration) -> Vec<String> {
    let login = target.endpoint.as_ref().and_then(|endpoint| endpoint.connection_config());
    let known = login.map_or_else(Vec::new, |login| Way { target, login, timeout }.tries(error));
    let told = error.hint().map(str::to_owned);
    // Who knows what it means knows best what to do about it.
    let is_enough = error.meaning().is_some() && told.is_some();
    let mut tries: Vec<String> = told.into_iter().chain(known.into_iter().filter(|_| !is_enough)).collect();
    if tries.is_empty() {
        tries.push(
            match error.reason() {
                Reason::Panic => "please report it, with what stands above",
                Reason::Timeout => "give it more time with --timeout, or see what holds the file",
                _ => "check `database` and what this user may read",
            }
            .to_owned(),
        );
    }
    tries
}

/// What is worth knowing of the way to a server on the network, without being wrong.
pub(super) fn note(target: &Database, facts: &ServerFacts) -> Option<&'static str> {
    let endpoint = target.endpoint.as_ref()?;
    match (endpoint.tls_requirement(), facts.tls) {
        (TlsRequirement::Authority, TlsState::Verified) => Some(
            "`verify-ca` without `tls.ca` accepts a certificate of any public authority, for any name: use \
             `tls: {mode: verify-full}`",
        ),
        (TlsRequirement::WhatIsOffered, TlsState::Plain) => Some(
            "the server offers no TLS and `prefer` does not demand it: what is asked and answered travels in plain text",
        ),
        (_, TlsState::PlainByRule) => Some(
            "the server's pg_hba.conf refuses this user with TLS, so that `prefer` goes on in plain text: `tls: {mode: \
             require}` makes that an error",
        ),
        (TlsRequirement::WhatIsOffered | TlsRequirement::Encryption, TlsState::Encrypted) => {
            Some("nobody checks who the server is: `tls: {mode: verify-full, ca: FILE}` does")
        }
        _ => None,
    }
}

/// A server as configured.
struct Way<'t> {
    target: &'t Database,
    login: &'t ConnectionConfig,
    timeout: Duration,
}

impl Way<'_> {
    fn tries(&self, error: &Error) -> Vec<String> {
        let place = self.place();
        let one = |text: String| vec![text];
        match error.reason() {
            Reason::Resolve => one(format!(
                "check `host`; `getent hosts {}` says what this machine makes of the name",
                self.login.hosts.first().map_or("NAME", |host| &host.host)
            )),
            // Unknown database: PostgreSQL's code, and MySQL's, whose other errors of that class are no reason to be here.
            Reason::Connect if matches!(error.sqlstate(), Some("3D000" | "42000")) => {
                one(format!("check `database`: {} must be one that {place} has", self.database()))
            }
            // The server has answered.
            Reason::Connect if error.sqlstate().is_some() => {
                one(format!("check `database` ({}), and the log of the server on {place}", self.database()))
            }
            Reason::Connect if self.login.socket.is_some() => {
                one(format!("check `socket`: is the server up, and may this user open {place}?"))
            }
            Reason::Connect => one(format!(
                "is the server up, and does it listen on {place}? check `host` and `port`; a firewall may refuse, too"
            )),
            Reason::Auth if !error.is_refused_login() => one(self.password()),
            Reason::Auth => self.encrypted().into_iter().chain([self.password(), self.entry()]).collect(),
            Reason::Tls => one(self.encryption()),
            Reason::Timeout => vec![
                format!(
                    "can {place} be reached from here? a firewall that drops packets looks like this, and so does another \
                     server on that port"
                ),
                format!(
                    "more time: `connect_timeout` is {}, --timeout {}",
                    duration_text(self.login.connect_timeout),
                    duration_text(self.timeout)
                ),
            ],
            Reason::Permission => one(self.grant()),
            Reason::Protocol => {
                one(format!("something else may listen on {place}: check `driver`, `host` and `port`"))
            }
            // An error that says what to do is followed.
            Reason::Sql | Reason::Type | Reason::Value | Reason::ReadOnly if error.hint().is_some() => {
                Vec::new()
            }
            Reason::Sql | Reason::Type | Reason::Value | Reason::ReadOnly => {
                one(format!("run the target's `session_sql` by hand as {}", self.user()))
            }
            Reason::Panic => Vec::new(),
            Reason::Lost
            | Reason::Server
            | Reason::Wedged
            | Reason::Locked
            | Reason::Conflict
            | Reason::MissingColumn
            | Reason::Duplicate
            | Reason::Limit
            | Reason::Cancelled => one(format!("check `database`, and the log of the server on {place}")),
        }
    }

    fn place(&self) -> String {
        match &self.login.socket {
            Some(socket) => socket.display().to_string(),
            None => {
                let hosts: Vec<String> =
                    self.login.hosts.iter().map(|host| format!("{}:{}", host.host, host.port)).collect();
                hosts.join(" or ")
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
            PasswordSource::Command(words) => {
                format!("`password_command` {}", words.first().map_or("", String::as_str))
            }
            PasswordSource::Given(_) => {
                let stored = self.target.source.secrets.first();
                stored.map_or_else(
                    || "the configuration".to_owned(),
                    |stored| format!("`{}` at {}:{}", stored.key, stored.place.file, stored.place.line),
                )
            }
        };
        format!("check `username` ({user}) and the password, which comes from {source}")
    }

    /// MySQL and MariaDB have one error for a wrong password and for a user that must come encrypted.
    fn encrypted(&self) -> Option<String> {
        let plain = self.target.driver == "mysql" && self.login.tls.mode == TlsMode::Disable;
        plain.then(|| {
            "a user made with REQUIRE SSL, and on MariaDB every user under require_secure_transport, is refused in the same \
             words without encryption: tls: {mode: require} shows whether that is it"
                .to_owned()
        })
    }

    /// What the server must say to let the user in.
    fn entry(&self) -> String {
        let user = self.user();
        match self.target.driver {
            "mysql" => format!(
                "on the server: SELECT user, host, plugin FROM mysql.user WHERE user = '{user}'; `host` must fit this machine"
            ),
            "pgbouncer" => {
                format!("in pgbouncer.ini: {user} must stand in admin_users or stats_users, and in auth_file")
            }
            _ => format!(
                "on the server: pg_hba.conf must let {user} into {} from this machine, and the role needs LOGIN",
                self.login.database.as_deref().unwrap_or("its database")
            ),
        }
    }

    fn encryption(&self) -> String {
        let tls = &self.login.tls;
        let mode = TLS_MODES.iter().find(|(_, mode)| *mode == tls.mode).map_or("", |(name, _)| name);
        match &tls.ca {
            Some(ca) => format!(
                "`tls.mode` is {mode}: `tls.ca` ({}) must hold the authority that signed the server's certificate, which \
                 for verify-full must name the host",
                ca.display()
            ),
            None => format!(
                "`tls.mode` is {mode}: does the server offer TLS? an authority of your own is named by `tls.ca`"
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
