//! What the words, the environment and the file say together (DESIGN 2, "Precedence"): a flag, then
//! `SQL_EXPORTER_*`, then the variables of Du-gui/export-sql, then the file.

use std::path::{Path, PathBuf};

use log::LevelFilter;

use crate::config;
use crate::config::listen::ListenAddress;
use crate::config::{Config, InvalidConfig, listen};
use crate::driver::Drivers;
use crate::error::Error;
use crate::logging::LogFormat;
use crate::yaml::keys;

const PORT: u16 = 9399;
const DEFAULT_FILES: [&str; 2] = ["./sql-exporter.yaml", "/etc/sql-exporter/config.yaml"];

/// Looks up an environment variable.
pub type Environment<'e> = dyn Fn(&str) -> Option<String> + 'e;

/// The options that every command shares, as the words give them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GlobalArgs {
    /// `-c`, `--config`.
    pub config: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
}

/// The process's environment.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What stands above the file.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The file to read; `None` is the first default file that exists.
    pub config: Option<PathBuf>,
    /// Instead of the configured addresses.
    pub listen: Option<Vec<ListenAddress>>,
    /// Instead of the configured level.
    pub log_level: Option<LevelFilter>,
    /// Instead of the configured format.
    pub log_format: Option<LogFormat>,
    /// What was odd; logged once logging runs.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Puts words and environment together.
    ///
    /// # Errors
    /// A value that cannot be read, by the name of its flag or variable.
    pub fn new(words: &GlobalArgs, environment: &Environment<'_>) -> Result<Settings, Error> {
        let mut settings = Settings::default();
        let config = words.config.clone().or_else(|| {
            ["SQL_EXPORTER_CONFIG", "CONFIG_FILE"]
                .iter()
                .find_map(|name| settings.variable(name, environment))
                .map(|(_, value)| value.into())
        });
        settings.config = config;
        let flag = |value: &Option<String>, name: &str| value.clone().map(|value| (name.to_owned(), value));
        let mut choose = |flag: Option<(String, String)>, names: &[&str]| {
            flag.or_else(|| names.iter().find_map(|name| settings.variable(name, environment)))
        };
        let listen = choose(flag(&words.listen, "--listen"), &["SQL_EXPORTER_LISTEN"]);
        let level = choose(flag(&words.log_level, "--log-level"), &["SQL_EXPORTER_LOG_LEVEL", "LOG_LEVEL"]);
        let format = choose(flag(&words.log_format, "--log-format"), &["SQL_EXPORTER_LOG_FORMAT"]);
        let host = choose(None, &["EXPORTER_HOST"]);
        let port = choose(None, &["EXPORTER_PORT"]);
        settings.listen = match listen {
            Some(listen) => Some(read(listen, read_listen)?),
            None => seed_listen(host, port)?,
        };
        settings.log_level = level.map(|level| read(level, config::exporter::log_level)).transpose()?;
        settings.log_format = format.map(|format| read(format, config::exporter::log_format)).transpose()?;
        Ok(settings)
    }

    /// A variable's name and value. Kubernetes injects `EXPORTER_PORT=tcp://…` for a service named `exporter`:
    /// that is not meant for us.
    fn variable(&mut self, name: &str, environment: &Environment<'_>) -> Option<(String, String)> {
        let value = environment(name).filter(|value| !value.is_empty())?;
        if value.starts_with("tcp://") {
            self.warnings.push(format!(
                "environment variable {name}={value} ignored: it looks injected by Kubernetes"
            ));
            return None;
        }
        Some((name.to_owned(), value))
    }

    /// Reads the file and puts flags and environment above it.
    ///
    /// # Errors
    /// All faults of the load together.
    pub fn load(&self, environment: &keys::Environment, drivers: &Drivers) -> Result<Config, Vec<Error>> {
        self.examine(environment, drivers).map_err(|faulty| faulty.faults)
    }

    /// The same as [`Settings::load`] for who wants to know all that can be said about a faulty file.
    ///
    /// # Errors
    /// All faults of the load, and what else was seen.
    pub fn examine(
        &self,
        environment: &keys::Environment,
        drivers: &Drivers,
    ) -> Result<Config, InvalidConfig> {
        let file = self.config.clone().map_or_else(default_file, Ok).map_err(|error| InvalidConfig {
            faults: vec![error],
            warnings: Vec::new(),
            files: Vec::new(),
            web_config_file: None,
        })?;
        let mut plan = config::examine(&file, environment, drivers)?;
        let exporter = &mut plan.exporter;
        if let Some(listen) = &self.listen {
            exporter.listen.clone_from(listen);
        }
        exporter.log_level = self.log_level.unwrap_or(exporter.log_level);
        exporter.log_format = self.log_format.unwrap_or(exporter.log_format);
        Ok(plan)
    }
}

fn default_file() -> Result<PathBuf, Error> {
    let found = DEFAULT_FILES.iter().find(|file| Path::new(file).exists());
    found.map(PathBuf::from).ok_or_else(|| {
        let message =
            format!("no configuration file: neither {} nor {} exists", DEFAULT_FILES[0], DEFAULT_FILES[1]);
        Error::config(message).with_hint("name one with -c FILE or SQL_EXPORTER_CONFIG")
    })
}

fn read<T>((name, value): (String, String), reader: impl Fn(&str) -> Result<T, String>) -> Result<T, Error> {
    reader(&value).map_err(|message| Error::config(format!("{name}: {message}")))
}

fn seed_listen(
    host: Option<(String, String)>,
    port: Option<(String, String)>,
) -> Result<Option<Vec<ListenAddress>>, Error> {
    let name = match (&host, &port) {
        (None, None) => return Ok(None),
        (Some((name, _)), _) | (None, Some((name, _))) => name.clone(),
    };
    let port = match port {
        Some(port) => {
            read(port, |text| text.parse().map_err(|_| format!("{text:?} is not a port from 0 to 65535")))?
        }
        None => PORT,
    };
    let host = host.map_or_else(String::new, |(_, host)| host);
    read((name, host), |host| listen::at_host(host, port)).map(|address| Some(vec![address]))
}

/// Relative paths of Unix sockets start from the current folder.
fn read_listen(text: &str) -> Result<Vec<ListenAddress>, String> {
    listen::listen(text, Path::new(".")).map(|address| vec![address])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(words: &GlobalArgs, variables: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::new(words, &|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_flag_wins_over_our_variable_and_that_over_the_seeds() {
        let variables =
            [("SQL_EXPORTER_LOG_LEVEL", "warn"), ("LOG_LEVEL", "ERROR"), ("EXPORTER_PORT", "9000")];
        let flag = GlobalArgs { log_level: Some("debug".into()), ..GlobalArgs::default() };
        assert_eq!(settings(&flag, &variables).unwrap().log_level, Some(LevelFilter::Debug));
        assert_eq!(settings(&GlobalArgs::default(), &variables).unwrap().log_level, Some(LevelFilter::Warn));
        assert_eq!(
            settings(&GlobalArgs::default(), &variables[1..]).unwrap().log_level,
            Some(LevelFilter::Error)
        );
        assert_eq!(
            settings(&GlobalArgs::default(), &variables).unwrap().listen,
            Some(vec![ListenAddress::AnyAddress(9000)])
        );
    }

    #[test]
    fn a_value_injected_by_kubernetes_is_ignored_with_a_warning() {
        let settings = settings(&GlobalArgs::default(), &[("EXPORTER_PORT", "tcp://10.0.0.1:9399")]).unwrap();
        assert_eq!(settings.listen, None);
        assert_eq!(settings.warnings.len(), 1);
    }

    #[test]
    fn a_bad_value_names_its_variable() {
        let error = settings(&GlobalArgs::default(), &[("SQL_EXPORTER_LOG_LEVEL", "loud")]).unwrap_err();
        assert!(error.to_string().starts_with("SQL_EXPORTER_LOG_LEVEL: "), "{error}");
    }
}
