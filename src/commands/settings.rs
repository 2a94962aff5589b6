//! What the arguments, the environment and the configuration file set together: a flag wins over `SQL_EXPORTER_*`, that
//! over the variables of Du-gui/export-sql, and that over the file (docs/command-line.md).

use std::path::{Path, PathBuf};

use log::LevelFilter;

use crate::config::listen::ListenAddress;
use crate::config::{self, Config, InvalidConfig, listen};
use crate::driver::Drivers;
use crate::error::Error;
use crate::logging::LogFormat;
pub use crate::yaml::keys::process_environment;
use crate::yaml::keys::{self, Reader};

const PORT: u16 = 9399;
const DEFAULT_FILES: [&str; 2] = ["./sql-exporter.yaml", "/etc/sql-exporter/config.yaml"];

/// The options that every command shares, as typed.
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

/// The variables in a text, `${NAME}` and `${NAME:-default}`, and whether each has a default. `$${` is not one.
pub(super) fn variables(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let pieces = text.split("${");
    let inside = pieces.clone().zip(pieces.skip(1)).filter_map(|(before, from)| {
        let (inside, _) = from.split_once('}')?;
        (!before.ends_with('$')).then_some(inside)
    });
    inside.map(|inside| inside.split_once(":-").map_or((inside, false), |(name, _)| (name, true)))
}

/// The names of those that have no default.
pub(super) fn variables_without_default(text: &str) -> impl Iterator<Item = &str> {
    variables(text).filter(|(_, has_default)| !has_default).map(|(name, _)| name)
}

/// A legal name of a variable for a text, in upper case.
pub(super) fn variable_name(text: &str) -> String {
    let upper = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    let name: String = upper.collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        format!("DB_{name}")
    } else {
        name
    }
}

/// What takes precedence over the configuration file.
#[derive(Debug, Clone, Default)]
pub struct CommandSettings {
    /// The file to read; `None` is the first default file that exists.
    pub config: Option<PathBuf>,
    /// Instead of the configured addresses.
    pub listen: Option<Vec<ListenAddress>>,
    /// Instead of the configured level.
    pub log_level: Option<LevelFilter>,
    /// Instead of the configured format.
    pub log_format: Option<LogFormat>,
    /// To be logged once logging runs.
    pub warnings: Vec<String>,
}

impl CommandSettings {
    /// Combines arguments and environment.
    ///
    /// # Errors
    /// A value that cannot be read, with the name of its flag or variable.
    pub fn new(
        args: &GlobalArgs,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<CommandSettings, Error> {
        if args.config.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            let error = Error::config("-c: the name of the file is empty");
            return Err(error.with_hint("is a variable that names it set?"));
        }
        let mut warnings = Vec::new();
        // Kubernetes injects `EXPORTER_PORT=tcp://…` for a service named `exporter`: that is not meant for us.
        let mut variable = |names: &[&str]| {
            names.iter().find_map(|name| {
                let value = environment(name).filter(|value| !value.is_empty())?;
                if value.starts_with("tcp://") {
                    warnings.push(format!(
                        "environment variable {name}={value} ignored: it looks injected by Kubernetes"
                    ));
                    return None;
                }
                Some(NamedValue { name: (*name).to_owned(), value })
            })
        };
        let mut flag_or = |flag: &str, value: &Option<String>, names: &[&str]| {
            let given = value.clone().map(|value| NamedValue { name: flag.to_owned(), value });
            given.or_else(|| variable(names))
        };
        let listen = flag_or("--listen", &args.listen, &["SQL_EXPORTER_LISTEN"]);
        let level = flag_or("--log-level", &args.log_level, &["SQL_EXPORTER_LOG_LEVEL", "LOG_LEVEL"]);
        let format = flag_or("--log-format", &args.log_format, &["SQL_EXPORTER_LOG_FORMAT"]);
        let config = args
            .config
            .clone()
            .or_else(|| variable(&["SQL_EXPORTER_CONFIG", "CONFIG_FILE"]).map(|named| named.value.into()))
            .map(|file| if file.as_os_str() == "-" { PathBuf::from("/dev/stdin") } else { file });
        let (host, port) = (variable(&["EXPORTER_HOST"]), variable(&["EXPORTER_PORT"]));
        let listen = match listen {
            // Relative paths of Unix sockets start from the current folder.
            Some(listen) => Some(listen.read(|text| listen::listen(text, Path::new(".")))?),
            None => listen_on(host, port)?,
        };
        Ok(CommandSettings {
            config,
            listen: listen.map(|address| vec![address]),
            log_level: level.map(|level| level.read(config::exporter::log_level)).transpose()?,
            log_format: format.map(|format| format.read(config::exporter::log_format)).transpose()?,
            warnings,
        })
    }

    /// Reads the file, and sets what flags and environment say instead.
    ///
    /// # Errors
    /// All errors of the load together.
    pub fn load(&self, environment: &keys::Environment, drivers: &Drivers) -> Result<Config, Vec<Error>> {
        self.load_or_invalid(environment, drivers).map_err(|invalid| invalid.faults)
    }

    /// As [`CommandSettings::load`], with what else is known about a configuration that does not load.
    ///
    /// # Errors
    /// All errors of the load, its warnings, and the files that were read.
    pub fn load_or_invalid(
        &self,
        environment: &keys::Environment,
        drivers: &Drivers,
    ) -> Result<Config, InvalidConfig> {
        let file = self
            .config
            .clone()
            .map_or_else(default_file, Ok)
            .map_err(|error| InvalidConfig { faults: vec![error], ..InvalidConfig::default() })?;
        let mut config = config::load_or_invalid(&file, None, drivers, Reader::new(environment))?;
        let exporter = &mut config.exporter;
        if let Some(listen) = &self.listen {
            exporter.listen.clone_from(listen);
        }
        exporter.log_level = self.log_level.unwrap_or(exporter.log_level);
        exporter.log_format = self.log_format.unwrap_or(exporter.log_format);
        Ok(config)
    }
}

fn default_file() -> Result<PathBuf, Error> {
    let found = DEFAULT_FILES.iter().find(|file| Path::new(file).exists());
    found.map(PathBuf::from).ok_or_else(|| {
        let message =
            format!("no configuration file: neither {} nor {} exists", DEFAULT_FILES[0], DEFAULT_FILES[1]);
        Error::config(message)
            .with_hint("name one with -c FILE or SQL_EXPORTER_CONFIG, or make one: sql-exporter init URL")
    })
}

/// A value with the flag or variable that it comes from.
struct NamedValue {
    name: String,
    value: String,
}

impl NamedValue {
    fn read<T>(&self, reader: impl Fn(&str) -> Result<T, String>) -> Result<T, Error> {
        reader(&self.value).map_err(|message| Error::config(format!("{}: {message}", self.name)))
    }
}

/// The address of the variables of Du-gui/export-sql, if one of them is set.
fn listen_on(host: Option<NamedValue>, port: Option<NamedValue>) -> Result<Option<ListenAddress>, Error> {
    let read_port = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a port from 0 to 65535"));
    let number = port.as_ref().map_or(Ok(PORT), |port| port.read(read_port))?;
    match host {
        None => Ok(port.map(|_| ListenAddress::AnyAddress(number))),
        Some(host) => host.read(|name| listen::at_host(name, number)).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &GlobalArgs, variables: &[(&str, &str)]) -> Result<CommandSettings, Error> {
        CommandSettings::new(args, &|name| {
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
    fn a_file_is_named_and_a_dash_is_stdin() {
        let file = |name: &str| {
            let args = GlobalArgs { config: Some(name.into()), ..GlobalArgs::default() };
            settings(&args, &[]).map(|settings| settings.config)
        };
        assert_eq!(file("-"), Ok(Some("/dev/stdin".into())));
        assert!(file("").unwrap_err().to_string().starts_with("-c: the name of the file is empty"));
    }

    #[test]
    fn variables_of_a_text_are_found() {
        let text = "${A} ${B:-x} $${C} $$${D} ${E";
        assert_eq!(variables(text).collect::<Vec<_>>(), [("A", false), ("B", true)]);
        assert_eq!(variables_without_default("${A}${B:-}${C}").collect::<Vec<_>>(), ["A", "C"]);
    }

    #[test]
    fn a_bad_value_names_its_variable() {
        let error = settings(&GlobalArgs::default(), &[("SQL_EXPORTER_LOG_LEVEL", "loud")]).unwrap_err();
        assert!(error.to_string().starts_with("SQL_EXPORTER_LOG_LEVEL: "), "{error}");
    }
}
