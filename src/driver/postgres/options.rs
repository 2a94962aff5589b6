//! The driver's own parameters: those of a URL's query and of `params:`.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::str::FromStr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::driver::connection::ConnectionConfig;
use crate::error::Result;

use super::guard_statement::{self, PgServerRole};
use super::login::Startup;
use super::request::QueryProtocol;

/// Which servers of several are taken: libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetSessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
}

/// What each value looks for: one round over the hosts for each.
const TARGET_SESSION_ATTRS: &[(&str, &[TargetSessionAttrs])] = &[
    ("any", &[TargetSessionAttrs::Any]),
    ("read-write", &[TargetSessionAttrs::ReadWrite]),
    ("read-only", &[TargetSessionAttrs::ReadOnly]),
    ("primary", &[TargetSessionAttrs::Primary]),
    ("standby", &[TargetSessionAttrs::Standby]),
    ("prefer-standby", &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any]),
];

impl TargetSessionAttrs {
    /// What such a server is, where it is not taken.
    pub(super) fn refuses(self, role: PgServerRole) -> Option<&'static str> {
        let is_read_only = role.standby || role.read_only;
        match self {
            TargetSessionAttrs::Primary if role.standby => Some("a standby"),
            TargetSessionAttrs::Standby if !role.standby => Some("a primary"),
            TargetSessionAttrs::ReadWrite if is_read_only => Some("read-only"),
            TargetSessionAttrs::ReadOnly if !is_read_only => Some("read-write"),
            _ => None,
        }
    }

    /// As configured.
    pub(super) fn as_str(self) -> &'static str {
        TARGET_SESSION_ATTRS.iter().find(|(_, rounds)| rounds[0] == self).map_or("any", |(name, _)| name)
    }
}

/// What the configuration says of a pooler, and what is assumed of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoolerMode {
    /// Not known: it is detected.
    Auto,
    /// One whose sessions keep their server connection.
    Session,
    /// One whose transactions, or statements, go to any server connection.
    Transaction,
}

/// Whether SCRAM binds to the channel: libpq's `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelBindingMode {
    Disable,
    Prefer,
    Require,
}

/// The parameters, read.
#[derive(Debug, Clone)]
pub(super) struct PgOptions {
    pub(super) target_session_attrs: &'static [TargetSessionAttrs],
    /// `protocol`.
    pub(super) protocol: QueryProtocol,
    pub(super) pooler: PoolerMode,
    /// `hostaddr`: where each host is, without asking for its name. As many as hosts, or none.
    pub(super) addresses: Vec<Option<IpAddr>>,
    /// `sslnegotiation: direct`: TLS without asking for it first.
    pub(super) direct: bool,
    /// `sslsni`: the host's name is sent before the encryption begins.
    pub(super) sni: bool,
    /// `load_balance_hosts: random`.
    pub(super) at_random: bool,
    pub(super) keepalives: KeepaliveOptions,
    application_name: Option<String>,
    fallback_application_name: Option<String>,
    options: Option<String>,
    channel_binding: ChannelBindingMode,
}

/// How a connection notices that its peer is gone, where that differs from what every connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct KeepaliveOptions {
    /// `keepalives: 0`.
    off: bool,
    /// Seconds; zero is what every connection has.
    idle: Option<u64>,
    interval: Option<u64>,
    count: Option<u32>,
    /// Milliseconds; zero is the system's own.
    user_timeout: Option<u64>,
}

impl KeepaliveOptions {
    /// Sets what differs.
    pub(super) fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        if self.off {
            socket.set_keepalive(false)?;
        } else {
            let seconds = |given: Option<u64>| given.filter(|given| *given > 0).map(Duration::from_secs);
            let alive = TcpKeepalive::new();
            let alive = seconds(self.idle).into_iter().fold(alive, |alive, idle| alive.with_time(idle));
            let every = seconds(self.interval);
            let alive = every.into_iter().fold(alive, |alive, every| alive.with_interval(every));
            let count = self.count.filter(|count| *count > 0);
            let alive = count.into_iter().fold(alive, |alive, count| alive.with_retries(count));
            socket.set_tcp_keepalive(&alive)?;
        }
        let Some(millis) = self.user_timeout else { return Ok(()) };
        socket.set_tcp_user_timeout((millis > 0).then(|| Duration::from_millis(millis)))
    }
}

const NAMES_SHOWN: &str =
    "target_session_attrs, application_name, options, channel_binding, protocol, pooler";

/// libpq's parameters that have no meaning here and do no harm: every value is accepted.
const IGNORED: &[&str] =
    &["passfile", "krbsrvname", "gsslib", "gssdelegation", "sslcompression", "max_protocol_version"];

/// libpq's parameters of which only these values, in any case, mean what happens here anyway; and what to do about another.
#[rustfmt::skip]
const FIXED: &[(&str, &[&str], &str)] = &[
    ("client_encoding", &["utf8", "utf-8", "unicode", "auto"], "it is always UTF8: leave it out"),
    ("gssencmode", &["disable", "prefer"],
        "Kerberos is not supported: leave it out, and encrypt with sslmode=verify-full"),
    ("sslcertmode", &["allow"],
        "leave it out: a certificate is shown where sslcert and sslkey name one, and only then"),
    ("requiressl", &["0"], "write sslmode=require"),
    ("replication", &["false", "off", "no", "0"], "leave it out: such a connection runs no queries"),
    ("min_protocol_version", &["3.0"], "leave it out: the exporter uses 3.0, which every server accepts"),
    ("ssl_min_protocol_version", &["tlsv1", "tlsv1.1", "tlsv1.2"],
        "leave it out: 1.2 is the least here; the server's ssl_min_protocol_version can require 1.3"),
    ("ssl_max_protocol_version", &["tlsv1.3"],
        "leave it out: 1.3 is the most here; the server's ssl_max_protocol_version can require 1.2"),
];

/// libpq's parameters that are not supported, and what to write instead.
#[rustfmt::skip]
const UNSUPPORTED: &[(&[&str], &str)] = &[
    (&["service", "servicefile"],
        "service files are not read: write the section's host, port, dbname and user here"),
    (&["require_auth"], "channel_binding=require with sslmode=require requires SCRAM of the server"),
    (&["requirepeer"],
        "leave it out, and make sure that only the server's user may write the socket's folder"),
    (&["sslpassword"],
        "write the key without a password (`openssl pkey -in FILE -out PLAIN`) and name that file by sslkey"),
    (&["sslcrl", "sslcrldir"], "lists of revoked certificates are not read: leave it out"),
    (&["sslkeylogfile"], "leave it out"),
    (&["scram_client_key", "scram_server_key"], "write the password, for example with `password_file`"),
    (&["oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"],
        "OAuth is not supported: leave it out, and use a password or a client certificate"),
    (&["sslmode"], "set it under `tls`, as `mode`"),
    (&["sslrootcert"], "set it under `tls`, as `ca`"),
    (&["sslcert"], "set it under `tls`, as `cert`"),
    (&["sslkey"], "set it under `tls`, as `key`"),
    (&["ssl"], "write sslmode=require"),
    (&["host", "port", "password", "connect_timeout"], "it is a key of its own, beside `params`"),
    (&["user"], "it is a key of its own, beside `params`: `username`"),
    (&["dbname"], "it is a key of its own, beside `params`: `database`"),
];

impl PgOptions {
    /// Reads them; a later one wins.
    ///
    /// # Errors
    /// A sentence that names the parameter and what it may be.
    pub(super) fn read(params: &[(String, String)]) -> Result<Self, String> {
        let mut options = PgOptions {
            target_session_attrs: &[TargetSessionAttrs::Any],
            protocol: QueryProtocol::Named,
            pooler: PoolerMode::Auto,
            addresses: Vec::new(),
            direct: false,
            sni: true,
            at_random: false,
            keepalives: KeepaliveOptions::default(),
            application_name: None,
            fallback_application_name: None,
            options: None,
            channel_binding: ChannelBindingMode::Prefer,
        };
        for (name, value) in params {
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        const BITS: &[(&str, bool)] = &[("1", true), ("0", false)];
        const PROTOCOLS: &[(&str, QueryProtocol)] =
            &[("extended", QueryProtocol::Named), ("simple", QueryProtocol::Simple)];
        const POOLERS: &[(&str, PoolerMode)] = &[
            ("auto", PoolerMode::Auto),
            ("session", PoolerMode::Session),
            ("transaction", PoolerMode::Transaction),
        ];
        const BINDINGS: &[(&str, ChannelBindingMode)] = &[
            ("disable", ChannelBindingMode::Disable),
            ("prefer", ChannelBindingMode::Prefer),
            ("require", ChannelBindingMode::Require),
        ];
        let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match name {
            "target_session_attrs" => {
                self.target_session_attrs = choose(name, value, TARGET_SESSION_ATTRS)?;
            }
            "protocol" => self.protocol = choose(name, value, PROTOCOLS)?,
            "pooler" => self.pooler = choose(name, value, POOLERS)?,
            "hostaddr" => self.addresses = addresses(value)?,
            "sslnegotiation" => self.direct = choose(name, value, &[("postgres", false), ("direct", true)])?,
            "sslsni" => self.sni = choose(name, value, BITS)?,
            "load_balance_hosts" => {
                self.at_random = choose(name, value, &[("disable", false), ("random", true)])?;
            }
            "keepalives" => self.keepalives.off = !choose(name, value, BITS)?,
            "keepalives_idle" => self.keepalives.idle = Some(count(name, value)?),
            "keepalives_interval" => self.keepalives.interval = Some(count(name, value)?),
            "keepalives_count" => self.keepalives.count = Some(count(name, value)?),
            "tcp_user_timeout" => self.keepalives.user_timeout = Some(count(name, value)?),
            "application_name" => self.application_name = text(),
            "fallback_application_name" => self.fallback_application_name = text(),
            "options" => self.options = Some(value.to_owned()),
            "channel_binding" => self.channel_binding = choose(name, value, BINDINGS)?,
            _ if IGNORED.contains(&name) => {}
            _ => return check_other(name, value),
        }
        Ok(())
    }

    /// The name that the server shows for our sessions.
    pub(super) fn application_name(&self) -> &str {
        let name = self.application_name.as_deref().or(self.fallback_application_name.as_deref());
        name.unwrap_or("sql-exporter")
    }

    /// How a session introduces itself. `token` is a setting by which the session is recognized, where there is no pooler.
    pub(super) fn startup(&self, login: &ConnectionConfig, token: Option<&str>) -> Startup {
        let mut parameters = vec![("client_encoding", "UTF8".to_owned())];
        parameters.extend(login.database.clone().map(|name| ("database", name)));
        let token = token.map(|token| format!("-c {}={token}", guard_statement::TOKEN));
        let options: Vec<&str> = token.iter().chain(&self.options).map(String::as_str).collect();
        if !options.is_empty() {
            parameters.push(("options", options.join(" ")));
        }
        Startup { user: user_of(login), parameters, channel_binding: self.channel_binding }
    }
}

/// As libpq: without a configured one the system's user.
pub(super) fn user_of(login: &ConnectionConfig) -> String {
    login.username.clone().unwrap_or_else(|| whoami::username().unwrap_or_default())
}

/// Accepts or refuses a parameter of libpq's that changes nothing here; refuses all others. Values are never shown.
fn check_other(name: &str, value: &str) -> Result<(), String> {
    if let Some((_, values, advice)) = FIXED.iter().find(|(known, ..)| *known == name) {
        let is_meant = values.iter().any(|known| known.eq_ignore_ascii_case(value));
        return if is_meant { Ok(()) } else { Err(format!("parameter {name} with this value: {advice}")) };
    }
    if let Some((_, advice)) = UNSUPPORTED.iter().find(|(names, _)| names.contains(&name)) {
        return Err(format!("parameter {name}: {advice}"));
    }
    Err(format!(
        "unknown parameter {name:?}: PostgreSQL's are {NAMES_SHOWN} and others of libpq's; a setting of the server goes into \
         options: `-c NAME=VALUE`, in a URL options=-c%20NAME%3DVALUE"
    ))
}

fn addresses(value: &str) -> Result<Vec<Option<IpAddr>>, String> {
    let address = |text: &str| match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| "parameter hostaddr may be IP addresses".to_owned()),
    };
    value.split(',').map(address).collect()
}

fn count<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.trim().parse().map_err(|_| format!("parameter {name} may be a whole number"))
}

fn choose<T: Copy>(name: &str, value: &str, values: &[(&str, T)]) -> Result<T, String> {
    values.iter().find(|(known, _)| *known == value).map(|(_, chosen)| *chosen).ok_or_else(|| {
        let all: Vec<&str> = values.iter().map(|(known, _)| *known).collect();
        format!("parameter {name} may be {}", all.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(params: &[(&str, &str)]) -> Result<PgOptions, String> {
        let params: Vec<_> = params.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        PgOptions::read(&params)
    }

    #[test]
    fn a_later_parameter_wins() {
        let options = read(&[("protocol", "simple"), ("protocol", "extended")]).unwrap();
        assert_eq!(options.protocol, QueryProtocol::Named);
    }

    #[test]
    fn prefer_standby_takes_any_server_in_a_second_round() {
        let options = read(&[("target_session_attrs", "prefer-standby")]).unwrap();
        assert_eq!(options.target_session_attrs, [TargetSessionAttrs::Standby, TargetSessionAttrs::Any]);
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(read(&[("aplication_name", "x")]).unwrap_err().contains("\"aplication_name\""));
        let error = read(&[("target_session_attrs", "master")]).unwrap_err();
        assert!(error.contains("read-write") && !error.contains("master"), "{error}");
        assert!(read(&[("sslmode", "require")]).unwrap_err().contains("`tls`"));
    }

    /// PostgreSQL 18's table of parameters (documentation, 32.1.2), but for those that a URL's reader takes.
    #[test]
    fn every_parameter_of_libpq_is_taken_or_refused_with_advice() {
        let refused = "; refused";
        for (name, taken, not) in [
            ("hostaddr", "127.0.0.1,,::1", "db"),
            ("passfile", "/x", refused),
            ("require_auth", refused, "scram-sha-256"),
            ("channel_binding", "require", "maybe"),
            ("client_encoding", "UTF8", "latin1"),
            ("options", "-c a=b", refused),
            ("application_name", "x", refused),
            ("fallback_application_name", "x", refused),
            ("keepalives", "0", "yes"),
            ("keepalives_idle", "60", "soon"),
            ("keepalives_interval", "6", "-1"),
            ("keepalives_count", "6", "x"),
            ("tcp_user_timeout", "30000", "x"),
            ("replication", "off", "database"),
            ("gssencmode", "prefer", "require"),
            ("sslnegotiation", "direct", "tls"),
            ("sslcompression", "1", refused),
            ("sslpassword", refused, "x"),
            ("sslcertmode", "allow", "require"),
            ("sslcrl", refused, "x"),
            ("sslcrldir", refused, "x"),
            ("sslsni", "0", "no"),
            ("sslkeylogfile", refused, "x"),
            ("requirepeer", refused, "postgres"),
            ("ssl_min_protocol_version", "TLSv1.2", "TLSv1.3"),
            ("ssl_max_protocol_version", "TLSv1.3", "TLSv1.2"),
            ("min_protocol_version", "3.0", "3.2"),
            ("max_protocol_version", "latest", refused),
            ("krbsrvname", "postgres", refused),
            ("gsslib", "gssapi", refused),
            ("gssdelegation", "0", refused),
            ("scram_client_key", refused, "x"),
            ("scram_server_key", refused, "x"),
            ("service", refused, "shop"),
            ("servicefile", refused, "shop"),
            ("target_session_attrs", "prefer-standby", "master"),
            ("load_balance_hosts", "random", "always"),
            ("oauth_issuer", refused, "x"),
            ("oauth_client_id", refused, "x"),
            ("oauth_client_secret", refused, "x"),
            ("oauth_scope", refused, "x"),
        ] {
            if taken != refused {
                assert!(read(&[(name, taken)]).is_ok(), "{name}={taken}");
            }
            if not != refused {
                let error = read(&[(name, not)]).unwrap_err();
                assert!(error.starts_with(&format!("parameter {name}")), "{error}");
                assert!(error.len() > name.len() + 15, "{error}");
            }
        }
    }

    #[test]
    fn a_servers_setting_is_told_where_it_goes() {
        assert!(read(&[("search_path", "x")]).unwrap_err().contains("options=-c%20NAME%3DVALUE"));
    }

    #[test]
    fn the_fallback_name_serves_where_there_is_no_other() {
        let name = |params: &[(&str, &str)]| read(params).unwrap();
        let config = |options: &PgOptions| {
            options.application_name.clone().or(options.fallback_application_name.clone())
        };
        let fallback = ("fallback_application_name", "fallback");
        assert_eq!(config(&name(&[fallback])).as_deref(), Some("fallback"));
        assert_eq!(config(&name(&[("application_name", "own"), fallback])).as_deref(), Some("own"));
        assert_eq!(config(&name(&[("application_name", ""), fallback])).as_deref(), Some("fallback"));
    }
}
