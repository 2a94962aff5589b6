//! What the network drivers' `databases:` entries have in common: a URL or its fields, read into a [`Login`].
//!
//! Knows no protocol. `sqlite` does not use it.

use std::path::PathBuf;
use std::time::Duration;

use crate::yaml::keys::Keys;

use super::password::Password;
use super::tls::Tls;

/// One `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name, an IPv4 or an IPv6 address (without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Everything needed to reach and enter a server.
#[derive(Debug, Clone)]
pub struct Login {
    /// At least one, in the order to try. Empty only where `socket` is given.
    pub hosts: Vec<HostPort>,
    /// A Unix socket instead of hosts: the socket's own path (MySQL), or its folder (PostgreSQL).
    pub socket: Option<PathBuf>,
    /// The database; `None` is the server's default for the user.
    pub database: Option<String>,
    /// The user; `None` is the driver's default.
    pub username: Option<String>,
    /// Where the password comes from; read for every new session.
    pub password: Password,
    /// Encryption.
    pub tls: Tls,
    /// The driver's own options: those of the URL's query, then `params`, in order.
    pub params: Vec<(String, String)>,
    /// The database's read-only mode and the first-keyword check.
    pub read_only: bool,
    /// Statements run once on each new session.
    pub session_sql: Vec<String>,
    /// The longest a connect and login may take (default 3 s).
    pub connect_timeout: Duration,
}

/// What differs between drivers when a login is read.
#[derive(Debug, Clone, Copy)]
pub struct Scheme {
    /// The URL schemes accepted, without `://`.
    pub schemes: &'static [&'static str],
    /// The port when none is given.
    pub port: u16,
}

impl Login {
    /// Takes `url`|`connection_string`|`url_file`, or `host`, `port`, `socket`, `database`, `username`, then the
    /// password keys, `params`, `tls`, `read_only`, `session_sql` and `connect_timeout`. `None` after a recorded fault.
    pub fn read(keys: &mut Keys<'_>, scheme: Scheme) -> Option<Login> {
        let _ = (keys, scheme);
        todo!()
    }

    /// `postgres://user@host:port/database`, never with a password or a parameter's value.
    #[must_use]
    pub fn shown(&self, scheme: &str) -> String {
        let _ = scheme;
        todo!()
    }
}
