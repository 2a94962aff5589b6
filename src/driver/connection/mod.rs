//! What the network drivers' `databases:` entries have in common: a URL or its fields, read into a [`ConnectionConfig`].
//!
//! Knows no protocol. `sqlite` uses `connect_timeout` alone. A key that every network driver has is read here; one that a single driver
//! has is read there. `connection_string` parses a URL, `address` merges it with the fields.

mod address;
mod connection_string;
pub mod passfile;
pub mod password;
pub(crate) mod read_buffer;
pub mod resolve;
pub(crate) mod socket;
pub(crate) mod stream;
pub mod tls;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::deadline::{Deadline, duration_text};
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;
use crate::yaml::keys::{Keys, Origin};

use self::address::{Address, only_one};
use self::connection_string::UrlPart;
use self::password::PasswordSource;
use self::tls::{TLS_MODES, TlsConfig, TlsMode, TlsRequirement};

pub use self::address::UrlRules;
pub use self::connection_string::{AddressSyntax, Keyword, keywords};

/// The default of `connect_timeout`.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// One `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name, an IPv4 or an IPv6 address (without brackets); or [a socket's folder](HostPort::is_socket).
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Everything needed to connect and log in to a server.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// At least one, in the order to try; `localhost` where none is named. With a `socket` they are not used: none, or one
    /// with the port that is part of a PostgreSQL socket's name.
    pub hosts: Vec<HostPort>,
    /// A Unix socket instead of hosts: the socket's own path (MySQL), or its folder (PostgreSQL).
    pub socket: Option<PathBuf>,
    /// The database; `None` is the server's default for the user.
    pub database: Option<String>,
    /// The user; `None` is the driver's default.
    pub username: Option<String>,
    /// Where the password comes from; read for every new session.
    pub password: PasswordSource,
    /// Encryption.
    pub tls: TlsConfig,
    /// The driver's own options, of the URL's query and of `params`: of two with one name the later one wins.
    pub params: Vec<(String, String)>,
    /// The database's read-only mode and the first-keyword check.
    pub read_only: bool,
    /// Statements run once on each new session.
    pub session_sql: Vec<String>,
    /// The longest that connecting and logging in may take (default 3 s).
    pub connect_timeout: Duration,
}

impl ConnectionConfig {
    /// Names the server, whoever logs in there to whatever database.
    pub fn server(&self) -> String {
        match &self.socket {
            Some(socket) => format!("{} {:?}", socket.display(), self.hosts),
            None => format!("{:?}", self.hosts).to_ascii_lowercase(),
        }
    }

    /// Takes `url`|`connection_string`|`url_file`, or `host`, `port`, `socket`, `database`, `username`, then the
    /// password keys, `params`, `tls`, `read_only`, `session_sql` and `connect_timeout`. `None` after a recorded fault.
    ///
    /// Own keys come before those of the defaults: a URL of the entry is filled from fields of the defaults, and
    /// fields of the entry replace parts of a URL of the defaults.
    pub fn read(keys: &mut Keys<'_>, scheme: UrlRules) -> Option<ConnectionConfig> {
        // Everything is read before a fault ends it: all faults are reported together, and no key is unknown.
        for key in ["params", "session_sql", "password_command"] {
            keys.conceal(key);
        }
        let (mut address, from) = address::read(keys, scheme);
        let password = password(keys, address.password.take(), from);
        let tls = tls(keys, &mut address, from);
        let timeout = connect_timeout(keys);
        let timeout = merged(from, keys.origin("connect_timeout"), address.connect_timeout, timeout);
        let params = params(keys, std::mem::take(&mut address.params), from);
        let config = ConnectionConfig {
            hosts: hosts(&address, scheme),
            socket: address.socket,
            database: address.database,
            username: address.username,
            password,
            tls,
            params,
            read_only: keys.flag("read_only").unwrap_or(true),
            session_sql: keys.texts("session_sql").unwrap_or_default(),
            connect_timeout: timeout.unwrap_or(CONNECT_TIMEOUT),
        };
        (!keys.faulted()).then_some(config)
    }

    /// Opens a session until `by`, within `connect_timeout`; the error says so where that ended it.
    pub(super) fn in_time<T>(&self, by: Deadline, open: impl FnOnce(Deadline) -> Result<T>) -> Result<T> {
        /// What a caller that has the same limit has spent of it.
        const TOLERANCE: Duration = Duration::from_millis(10);
        let is_shorter = self.connect_timeout <= by.left() + TOLERANCE;
        open(by.or_within(self.connect_timeout)).map_err(|error| match error.reason() {
            Reason::Timeout if is_shorter => {
                let limit = duration_text(self.connect_timeout);
                let message = format!("{} (connect_timeout is {limit})", error.message());
                error.with_message(message)
            }
            _ => error,
        })
    }

    /// The least that is demanded of the way to the server.
    pub fn tls_requirement(&self) -> TlsRequirement {
        let stays = self.socket.is_some() || self.hosts.iter().all(HostPort::is_loopback);
        if stays { TlsRequirement::Local } else { self.tls.tls_requirement() }
    }

    /// `postgres://user@host:port/database`, never with a password or a parameter's value.
    pub fn redacted_url(&self, scheme: &str) -> String {
        let user = self.username.as_ref().map(|user| format!("{}@", UrlPart(user))).unwrap_or_default();
        let hosts: Vec<String> = self.hosts.iter().map(HostPort::redacted_url).collect();
        let place = match &self.socket {
            Some(socket) => format!("unix({})", UrlPart(&socket.to_string_lossy())),
            None => hosts.join(","),
        };
        let database = self.database.as_ref().map(|name| format!("/{}", UrlPart(name))).unwrap_or_default();
        format!("{scheme}://{user}{place}{database}")
    }
}

impl HostPort {
    /// True for the folder of a PostgreSQL server's Unix socket: one of several places (`host=/run/postgresql,db`). `@` in
    /// front is Linux' abstract namespace, as in libpq.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with(['/', '@'])
    }

    /// True for a name or an address of this machine.
    fn is_loopback(&self) -> bool {
        if self.is_socket() {
            return true;
        }
        let address = self.host.parse::<IpAddr>();
        self.host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    fn redacted_url(&self) -> String {
        let HostPort { host, port } = self;
        if self.is_socket() {
            return format!("unix({}):{port}", UrlPart(host));
        }
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{}:{port}", UrlPart(host)) }
    }
}

/// Tries to log in at each of several places in turn, until one of them lets in or says what holds for all: `is_final`.
pub(super) fn log_in_at_one<P, T>(
    places: &[P],
    by: Deadline,
    is_final: fn(Reason) -> bool,
    log_in: impl Fn(&P, Deadline) -> Result<T>,
) -> Result<T> {
    let mut failures = Vec::new();
    for (tried, place) in places.iter().enumerate() {
        match log_in(place, by.share_of(places.len() - tried)) {
            Err(error) if !is_final(error.reason()) => failures.push(error),
            done => return done,
        }
    }
    Err(one_of_all(&failures))
}

/// One error of those that several servers gave: the last one's reason, code and hint.
fn one_of_all(failures: &[Error]) -> Error {
    let last = match failures {
        [] => return Error::new(Reason::Connect, "no host is configured"),
        [only] => return only.clone(),
        [.., last] => last,
    };
    let messages: Vec<&str> = failures.iter().map(Error::message).collect();
    let error = Error::new(last.reason(), messages.join("; "));
    let error = last.code_for(error).with_hint_if_any(last.hint());
    // One that is full takes a session later, whatever the others say.
    match failures.iter().find(|failure| failure.is_server_full()) {
        Some(full) if full.is_database_full() => error.with_full_database(),
        Some(_) => error.with_full_server(),
        None => error,
    }
}

fn hosts(address: &Address, scheme: UrlRules) -> Vec<HostPort> {
    let port = address.port.unwrap_or(scheme.port);
    let local = |port| HostPort { host: "localhost".to_owned(), port };
    if address.socket.is_some() {
        return address.port.map(local).into_iter().collect();
    }
    if address.hosts.is_empty() {
        return vec![local(port)];
    }
    let host =
        |(host, own): &(String, Option<u16>)| HostPort { host: host.clone(), port: own.unwrap_or(port) };
    address.hosts.iter().map(host).collect()
}

/// At most one of the three keys, and not beside a password in the URL; the entry's own comes first.
fn password(keys: &mut Keys<'_>, in_url: Option<Secret>, url: Option<Origin>) -> PasswordSource {
    let given = keys.secret("password");
    let file = keys.file("password_file");
    let command = command(keys);
    let key = only_one(keys, &["password", "password_file", "password_command"]);
    let key_from = key.and_then(|key| keys.origin(key));
    if let (Some(secret), Some(url)) = (in_url.filter(|secret| !secret.is_empty()), url) {
        match (key, key_from) {
            (Some(key), Some(from)) if from == url => {
                let message = format!("`{key}` beside a password in the URL");
                keys.fault_with_hint(key, message, "one of them is enough");
            }
            (Some(_), Some(Origin::Own)) => {}
            _ => return PasswordSource::Given(secret),
        }
    }
    let chosen = match key {
        Some("password") => given.filter(|secret| !secret.is_empty()).map(PasswordSource::Given),
        Some("password_file") => file.map(PasswordSource::File),
        Some(_) => command.map(PasswordSource::Command),
        None => None,
    };
    chosen.unwrap_or_default()
}

/// An argv; a program named with a `/` is a path like any other in the file.
fn command(keys: &mut Keys<'_>) -> Option<Vec<String>> {
    const KEY: &str = "password_command";
    let mut argv = keys.texts(KEY)?;
    if !keys.is_list(KEY) {
        let hint = "there is no shell: write [program, argument]";
        keys.fault_with_hint(KEY, "expected a list: a program and its arguments", hint);
        return None;
    }
    let folder = keys.folder(KEY);
    match argv.first_mut() {
        Some(program) if !program.is_empty() => {
            if program.contains('/') {
                *program = folder.join(&*program).to_string_lossy().into_owned();
            }
            Some(argv)
        }
        _ => {
            keys.fault(KEY, "no program is named");
            None
        }
    }
}

/// `tls` and what the URL says of it. Without a mode it is `verify-full` where a `ca` is given, else `prefer`.
fn tls(keys: &mut Keys<'_>, address: &mut Address, url: Option<Origin>) -> TlsConfig {
    let (mut tls, mut mode) = (std::mem::take(&mut address.tls), address.tls_mode);
    let section = keys.origin("tls");
    if let Some(mut keys) = keys.inner("tls") {
        // A section of the entry takes from that of the defaults what it does not say.
        let origin = |key| section.max(keys.origin(key));
        let [of_mode, of_ca, of_cert, of_key] = ["mode", "ca", "cert", "key"].map(origin);
        mode = merged(url, of_mode, mode, keys.choice("mode", TLS_MODES));
        tls.ca = merged(url, of_ca, tls.ca, keys.file("ca"));
        tls.cert = merged(url, of_cert, tls.cert, keys.file("cert"));
        tls.key = merged(url, of_key, tls.key, keys.file("key"));
        tls.server_name = keys.text("server_name");
        keys.finish();
    }
    let default = if tls.ca.is_some() { TlsMode::VerifyFull } else { TlsMode::Prefer };
    tls.mode = mode.unwrap_or(default);
    if tls.cert.is_some() != tls.key.is_some() {
        keys.fault("tls", "a client certificate needs both `cert` and `key`");
    }
    tls
}

/// `params` and those of the URL, of which a later one wins.
fn params(keys: &mut Keys<'_>, in_url: Vec<(String, String)>, url: Option<Origin>) -> Vec<(String, String)> {
    let [own, default] = keys.pairs_by_origin("params").unwrap_or_default();
    if url == Some(Origin::Own) { [default, in_url, own] } else { [in_url, own, default] }.concat()
}

/// The key of every driver.
pub(super) fn connect_timeout(keys: &mut Keys<'_>) -> Option<Duration> {
    let timeout = keys.duration("connect_timeout");
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        keys.fault("connect_timeout", "expected more than 0");
    }
    timeout
}

/// The value of a key, else that of the URL; an entry's own URL comes before a key of the defaults.
fn merged<T>(url: Option<Origin>, key: Option<Origin>, in_url: Option<T>, in_key: Option<T>) -> Option<T> {
    let url_first = url == Some(Origin::Own) && key == Some(Origin::Default);
    if url_first { in_url.or(in_key) } else { in_key.or(in_url) }
}

#[cfg(test)]
mod tests;
