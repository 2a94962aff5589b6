//! The driver's own parameters: those of a URL's query and of `params:`.

use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};
use tokio_postgres::Config;
use tokio_postgres::config::ChannelBinding;

use crate::driver::connection::Login;
use crate::error::Result;

use super::guard_statement;

/// Which servers of several are taken: libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum TargetSessionAttrs {
    #[default]
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
}

/// What to try first, and what if no host suits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turns(TargetSessionAttrs, Option<TargetSessionAttrs>);

const WANTED: &[(&str, Turns)] = &[
    ("any", Turns(TargetSessionAttrs::Any, None)),
    ("read-write", Turns(TargetSessionAttrs::ReadWrite, None)),
    ("read-only", Turns(TargetSessionAttrs::ReadOnly, None)),
    ("primary", Turns(TargetSessionAttrs::Primary, None)),
    ("standby", Turns(TargetSessionAttrs::Standby, None)),
    ("prefer-standby", Turns(TargetSessionAttrs::Standby, Some(TargetSessionAttrs::Any))),
];

impl Turns {
    /// One round over the hosts for each.
    pub(super) fn in_turn(self) -> impl Iterator<Item = TargetSessionAttrs> {
        [Some(self.0), self.1].into_iter().flatten()
    }
}

impl TargetSessionAttrs {
    /// It asks whether sessions may write, and not for a role.
    pub(super) fn is_about_writes(self) -> bool {
        matches!(self, TargetSessionAttrs::ReadWrite | TargetSessionAttrs::ReadOnly)
    }

    /// As configured.
    pub(super) fn word(self) -> &'static str {
        WANTED.iter().find(|(_, turns)| turns.0 == self).map_or("any", |(word, _)| word)
    }
}

/// The parameters, read.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) wanted: Turns,
    /// `protocol: simple`.
    pub(super) simple: bool,
    /// What is said to be between us and the server.
    pub(super) pooler: PoolerMode,
    /// `hostaddr`: where each host is, without asking for its name. As many as hosts, or none.
    pub(super) addresses: Vec<Option<IpAddr>>,
    /// `sslnegotiation: direct`: TLS without asking for it first.
    pub(super) direct: bool,
    /// `sslsni`: the host's name is told before the encryption begins.
    pub(super) sni: bool,
    /// `load_balance_hosts: random`.
    pub(super) at_random: bool,
    pub(super) liveness: KeepaliveOptions,
    application_name: Option<String>,
    fallback_application_name: Option<String>,
    options: Option<String>,
    channel_binding: ChannelBinding,
}

/// What the configuration says of a pooler on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoolerMode {
    /// Nothing: it is found out.
    Auto,
    /// One whose sessions keep their server connection.
    Session,
    /// One whose transactions, or statements, go to any server connection.
    TransactionStatus,
}

/// How a connection notices that its peer is gone, where that differs from what every connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct KeepaliveOptions {
    /// `keepalives: 0`.
    off: bool,
    /// Seconds; zero is the system's own, as in libpq.
    idle: Option<u64>,
    interval: Option<u64>,
    count: Option<u32>,
    /// Milliseconds; zero is the system's own.
    user_timeout: Option<u64>,
}

impl KeepaliveOptions {
    /// Sets what differs.
    pub(super) fn apply(&self, socket: &Socket) -> io::Result<()> {
        if self.off {
            socket.set_keepalive(false)?;
        } else {
            let seconds = |given: Option<u64>| given.filter(|given| *given > 0).map(Duration::from_secs);
            let mut alive = TcpKeepalive::new();
            alive = seconds(self.idle).map_or(alive.clone(), |idle| alive.with_time(idle));
            alive = seconds(self.interval).map_or(alive.clone(), |every| alive.with_interval(every));
            alive = self
                .count
                .filter(|count| *count > 0)
                .map_or(alive.clone(), |count| alive.with_retries(count));
            socket.set_tcp_keepalive(&alive)?;
        }
        match self.user_timeout {
            None => Ok(()),
            Some(millis) => socket
                .set_tcp_user_timeout(Some(Duration::from_millis(millis)).filter(|time| !time.is_zero())),
        }
    }
}

const KNOWN: &str = "target_session_attrs, application_name, options, channel_binding, protocol, pooler";

/// libpq's parameters that have no meaning here and do no harm: each value is taken.
const NO_MATTER: &[&str] =
    &["passfile", "krbsrvname", "gsslib", "gssdelegation", "sslcompression", "max_protocol_version"];

/// libpq's parameters of which only these values, in any case, mean what happens here anyway; and what to do about another.
const AS_IT_IS: &[(&str, &[&str], &str)] = &[
    ("client_encoding", &["utf8", "utf-8", "unicode", "auto"], "it is always UTF8: leave it out"),
    (
        "gssencmode",
        &["disable", "prefer"],
        "Kerberos is not spoken: leave it out, and encrypt with sslmode=verify-full",
    ),
    (
        "sslcertmode",
        &["allow"],
        "leave it out: a certificate is shown where sslcert and sslkey name one, and then only",
    ),
    ("requiressl", &["0"], "write sslmode=require"),
    ("replication", &["false", "off", "no", "0"], "leave it out: such a connection runs no queries"),
    ("min_protocol_version", &["3.0"], "leave it out: 3.0 is spoken, which every server takes"),
    (
        "ssl_min_protocol_version",
        &["tlsv1", "tlsv1.1", "tlsv1.2"],
        "leave it out: 1.2 is the least here; the server's ssl_min_protocol_version can demand 1.3",
    ),
    (
        "ssl_max_protocol_version",
        &["tlsv1.3"],
        "leave it out: 1.3 is the most here; the server's ssl_max_protocol_version can demand 1.2",
    ),
];

/// libpq's parameters that are not supported, and what to write instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("service", "service files are not read: write the section's host, port, dbname and user here"),
    ("servicefile", "service files are not read: write the section's host, port, dbname and user here"),
    ("require_auth", "channel_binding=require with sslmode=require demands SCRAM of the server"),
    ("requirepeer", "leave it out, and see to it that only the server's user may write the socket's folder"),
    (
        "sslpassword",
        "write the key without a password (`openssl pkey -in FILE -out PLAIN`) and name that file by sslkey",
    ),
    ("sslcrl", "lists of revoked certificates are not read: leave it out"),
    ("sslcrldir", "lists of revoked certificates are not read: leave it out"),
    ("sslkeylogfile", "leave it out"),
    ("scram_client_key", "write the password, by `password_file` for one"),
    ("scram_server_key", "write the password, by `password_file` for one"),
    ("oauth_issuer", "OAuth is not supported: leave it out, and use a password or a client certificate"),
    ("oauth_client_id", "OAuth is not supported: leave it out, and use a password or a client certificate"),
    (
        "oauth_client_secret",
        "OAuth is not supported: leave it out, and use a password or a client certificate",
    ),
    ("oauth_scope", "OAuth is not supported: leave it out, and use a password or a client certificate"),
    ("sslmode", "set it under `tls`, as `mode`"),
    ("sslrootcert", "set it under `tls`, as `ca`"),
    ("sslcert", "set it under `tls`, as `cert`"),
    ("sslkey", "set it under `tls`, as `key`"),
    ("ssl", "write sslmode=require"),
    ("host", "it is a key of its own, beside `params`"),
    ("port", "it is a key of its own, beside `params`"),
    ("user", "it is a key of its own, beside `params`: `username`"),
    ("password", "it is a key of its own, beside `params`"),
    ("dbname", "it is a key of its own, beside `params`: `database`"),
    ("connect_timeout", "it is a key of its own, beside `params`"),
];

impl Options {
    /// Reads them; a later one wins.
    ///
    /// # Errors
    /// A sentence that names the parameter and what it may be.
    pub(super) fn read(params: &[(String, String)]) -> Result<Self, String> {
        let mut read = Options {
            wanted: Turns(TargetSessionAttrs::Any, None),
            simple: false,
            pooler: PoolerMode::Auto,
            addresses: Vec::new(),
            direct: false,
            sni: true,
            at_random: false,
            liveness: KeepaliveOptions::default(),
            application_name: None,
            fallback_application_name: None,
            options: None,
            channel_binding: ChannelBinding::Prefer,
        };
        for (name, value) in params {
            read.take(name, value)?;
        }
        Ok(read)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        const BITS: &[(&str, bool)] = &[("1", true), ("0", false)];
        let named = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match name {
            "target_session_attrs" => self.wanted = choose(name, value, WANTED)?,
            "protocol" => self.simple = choose(name, value, &[("extended", false), ("simple", true)])?,
            "pooler" => {
                let words = [
                    ("auto", PoolerMode::Auto),
                    ("session", PoolerMode::Session),
                    ("transaction", PoolerMode::TransactionStatus),
                ];
                self.pooler = choose(name, value, &words)?;
            }
            "hostaddr" => {
                let address = |text: &str| match text {
                    "" => Ok(None),
                    text => text
                        .parse()
                        .map(Some)
                        .map_err(|_| "parameter hostaddr may be IP addresses".to_owned()),
                };
                self.addresses =
                    value.split(',').map(|text| address(text.trim())).collect::<Result<_, _>>()?;
            }
            "sslnegotiation" => self.direct = choose(name, value, &[("postgres", false), ("direct", true)])?,
            "sslsni" => self.sni = choose(name, value, BITS)?,
            "load_balance_hosts" => {
                self.at_random = choose(name, value, &[("disable", false), ("random", true)])?;
            }
            "keepalives" => self.liveness.off = !choose(name, value, BITS)?,
            "keepalives_idle" => self.liveness.idle = Some(count(name, value)?),
            "keepalives_interval" => self.liveness.interval = Some(count(name, value)?),
            "keepalives_count" => self.liveness.count = Some(count(name, value)?),
            "tcp_user_timeout" => self.liveness.user_timeout = Some(count(name, value)?),
            "application_name" => self.application_name = named(),
            "fallback_application_name" => self.fallback_application_name = named(),
            "options" => self.options = Some(value.to_owned()),
            "channel_binding" => {
                let words = [
                    ("disable", ChannelBinding::Disable),
                    ("prefer", ChannelBinding::Prefer),
                    ("require", ChannelBinding::Require),
                ];
                self.channel_binding = choose(name, value, &words)?;
            }
            _ if NO_MATTER.contains(&name) => {}
            _ => return other(name, value),
        }
        Ok(())
    }

    /// The name that the server shows for our sessions.
    pub(super) fn application_name(&self) -> &str {
        let name = self.application_name.as_deref().or(self.fallback_application_name.as_deref());
        name.unwrap_or("sql-exporter")
    }

    /// What tokio-postgres logs in with, but for the password and TLS.
    /// `token` is a setting by which the session is known again, where no pooler is between.
    pub(super) fn config(&self, login: &Login, token: Option<&str>) -> Config {
        let mut config = Config::new();
        config.channel_binding(self.channel_binding);
        if let Some(user) = &login.username {
            config.user(user);
        }
        if let Some(database) = &login.database {
            config.dbname(database);
        }
        let token = token.map(|token| format!("-c {}={token}", guard_statement::TOKEN));
        let options: Vec<&str> = token.iter().chain(&self.options).map(String::as_str).collect();
        if !options.is_empty() {
            config.options(options.join(" "));
        }
        config
    }
}

/// A parameter of libpq's that changes nothing here, or is not supported; or none of libpq's.
fn other(name: &str, value: &str) -> Result<(), String> {
    if let Some((_, values, advice)) = AS_IT_IS.iter().find(|(known, ..)| *known == name) {
        let is_meant = values.iter().any(|known| known.eq_ignore_ascii_case(value));
        // Values of parameters are never shown.
        return if is_meant { Ok(()) } else { Err(format!("parameter {name} with this value: {advice}")) };
    }
    if let Some((_, advice)) = ELSEWHERE.iter().find(|(known, _)| *known == name) {
        return Err(format!("parameter {name}: {advice}"));
    }
    Err(format!(
        "unknown parameter {name:?}: PostgreSQL's are {KNOWN} and others of libpq's; a setting of the server goes into \
         options: `-c NAME=VALUE`, in a URL options=-c%20NAME%3DVALUE"
    ))
}

fn count<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.trim().parse().map_err(|_| format!("parameter {name} may be a whole number"))
}

fn choose<T: Copy>(name: &str, value: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == value).map(|(_, chosen)| *chosen).ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        // Values of parameters are never shown.
        format!("parameter {name} may be {}", all.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(params: &[(&str, &str)]) -> Result<Options, String> {
        let params: Vec<_> = params.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Options::read(&params)
    }

    #[test]
    fn a_later_parameter_wins() {
        let options = read(&[("protocol", "simple"), ("protocol", "extended")]).unwrap();
        assert!(!options.simple);
    }

    #[test]
    fn prefer_standby_takes_any_server_in_a_second_round() {
        let options = read(&[("target_session_attrs", "prefer-standby")]).unwrap();
        assert!(options.wanted.in_turn().eq([TargetSessionAttrs::Standby, TargetSessionAttrs::Any]));
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
        let config = |options: &Options| {
            options.application_name.clone().or(options.fallback_application_name.clone())
        };
        let fallback = ("fallback_application_name", "fallback");
        assert_eq!(config(&name(&[fallback])).as_deref(), Some("fallback"));
        assert_eq!(config(&name(&[("application_name", "own"), fallback])).as_deref(), Some("own"));
        assert_eq!(config(&name(&[("application_name", ""), fallback])).as_deref(), Some("fallback"));
    }
}
