//! The driver's own parameters: those of a URL's query and of `params:`.

use tokio_postgres::Config;
use tokio_postgres::config::ChannelBinding;

use crate::driver::login::Login;
use crate::error::Result;

use super::marker;

/// Which servers of several are taken: libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Wanted {
    #[default]
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
}

/// What to try first, and what if no host suits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turns(Wanted, Option<Wanted>);

const WANTED: &[(&str, Turns)] = &[
    ("any", Turns(Wanted::Any, None)),
    ("read-write", Turns(Wanted::ReadWrite, None)),
    ("read-only", Turns(Wanted::ReadOnly, None)),
    ("primary", Turns(Wanted::Primary, None)),
    ("standby", Turns(Wanted::Standby, None)),
    ("prefer-standby", Turns(Wanted::Standby, Some(Wanted::Any))),
];

impl Turns {
    /// One round over the hosts for each.
    pub(super) fn in_turn(self) -> impl Iterator<Item = Wanted> {
        [Some(self.0), self.1].into_iter().flatten()
    }
}

impl Wanted {
    /// It asks whether sessions may write, and not for a role.
    pub(super) fn is_about_writes(self) -> bool {
        matches!(self, Wanted::ReadWrite | Wanted::ReadOnly)
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
    pub(super) pooler: Pooler,
    pub(super) application_name: String,
    options: Option<String>,
    channel_binding: ChannelBinding,
}

/// What the configuration says of a pooler on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooler {
    /// Nothing: it is found out.
    Auto,
    /// One whose sessions keep their server connection.
    Session,
    /// One whose transactions, or statements, go to any server connection.
    Transaction,
}

const KNOWN: &str = "target_session_attrs, application_name, options, channel_binding, protocol, pooler";

impl Options {
    /// Reads them; a later one wins.
    ///
    /// # Errors
    /// A sentence that names the parameter and what it may be.
    pub(super) fn read(params: &[(String, String)]) -> Result<Self, String> {
        let mut read = Options {
            wanted: Turns(Wanted::Any, None),
            simple: false,
            pooler: Pooler::Auto,
            application_name: "sql-exporter".to_owned(),
            options: None,
            channel_binding: ChannelBinding::Prefer,
        };
        for (name, value) in params {
            match name.as_str() {
                "target_session_attrs" => read.wanted = choose(name, value, WANTED)?,
                "protocol" => read.simple = choose(name, value, &[("extended", false), ("simple", true)])?,
                "pooler" => {
                    let words = [
                        ("auto", Pooler::Auto),
                        ("session", Pooler::Session),
                        ("transaction", Pooler::Transaction),
                    ];
                    read.pooler = choose(name, value, &words)?;
                }
                "application_name" => value.clone_into(&mut read.application_name),
                "options" => read.options = Some(value.clone()),
                "channel_binding" => {
                    let words = [
                        ("disable", ChannelBinding::Disable),
                        ("prefer", ChannelBinding::Prefer),
                        ("require", ChannelBinding::Require),
                    ];
                    read.channel_binding = choose(name, value, &words)?;
                }
                _ if name.starts_with("ssl") => {
                    return Err(format!("parameter {name:?}: set it under `tls`"));
                }
                _ => return Err(format!("unknown parameter {name:?}: PostgreSQL's are {KNOWN}")),
            }
        }
        Ok(read)
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
        let token = token.map(|token| format!("-c {}={token}", marker::TOKEN));
        let options: Vec<&str> = token.iter().chain(&self.options).map(String::as_str).collect();
        if !options.is_empty() {
            config.options(options.join(" "));
        }
        config
    }
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
        assert!(options.wanted.in_turn().eq([Wanted::Standby, Wanted::Any]));
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(read(&[("aplication_name", "x")]).unwrap_err().contains("\"aplication_name\""));
        let error = read(&[("target_session_attrs", "master")]).unwrap_err();
        assert!(error.contains("read-write") && !error.contains("master"), "{error}");
        assert!(read(&[("sslmode", "require")]).unwrap_err().contains("`tls`"));
    }
}
