//! The commands, one a file. A new one is a file here and a line in `cli`.
//!
//! A command returns its exit code, or the errors that `cli` prints. Everything that it prints itself goes through the
//! functions here, which keep foreign text from controlling a terminal.

mod address_text;
pub mod check;
pub mod collect;
pub mod demo;
pub mod health;
pub mod import;
pub mod init;
mod output;
pub mod packs;
pub mod run;
pub mod schema;
pub mod settings;
pub mod terminal;
pub mod test;
pub mod try_query;

use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

use self::settings::{CommandSettings, GlobalArgs, process_environment};
use self::terminal::{TerminalText, has_colors};
use crate::config::Config;
use crate::deadline::{Deadline, parse_duration};
use crate::driver::Drivers;
use crate::engine::targets;
use crate::error::Error;
use crate::inspect::discovery;
use crate::logging;
use crate::plain_text;
use crate::yaml::keys::{nearest, word};

/// The exit code of a command: 0 good, 1 something failed, 2 an error was found.
pub type CommandResult = Result<u8, CommandErrors>;

/// What kept a command from its work: one error, or all of a configuration.
#[derive(Debug)]
pub struct CommandErrors(pub Vec<Error>);

impl From<Error> for CommandErrors {
    fn from(error: Error) -> Self {
        CommandErrors(vec![error])
    }
}

impl From<Vec<Error>> for CommandErrors {
    fn from(errors: Vec<Error>) -> Self {
        CommandErrors(errors)
    }
}

/// Loads the configuration that the arguments and the environment name, and starts logging.
fn load(args: &GlobalArgs) -> Result<Config, CommandErrors> {
    let settings = CommandSettings::new(args, &process_environment)?;
    let config = settings.load(&process_environment, &Drivers::built_in())?;
    start_logging(&config, &settings.warnings);
    Ok(config)
}

/// The configuration with the databases that its targets find, for the targets of these names; none means all. What could
/// not be found is logged. Blocks until `by` at most, and a moment.
fn discovered(config: Config, wanted: &[String], by: Deadline) -> Config {
    let (config, failures) = discovery::run(config, wanted, by, &process_environment);
    failures.iter().for_each(|error| log::warn!("databases are not discovered: {}", error.headline()));
    config
}

/// Starts logging as configured, and logs the warnings of the load.
fn start_logging(config: &Config, warnings: &[String]) {
    logging::start(config.exporter.log_level, config.exporter.log_format);
    for warning in warnings {
        log::warn!("{warning}");
    }
    log_warnings(config);
}

/// Logs the warnings of a configuration, without source lines and carets.
fn log_warnings(config: &Config) {
    config.warnings.iter().for_each(|warning| log::warn!("{}", warning.headline()));
    config.target_file_faults().iter().for_each(targets::log_unused);
}

/// `--format` of the commands that print a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

impl ReportFormat {
    /// Reads the value of `--format`.
    ///
    /// # Errors
    /// A sentence that lists the values.
    pub fn read(text: &str) -> Result<ReportFormat, String> {
        word(text, &[("text", ReportFormat::Text), ("json", ReportFormat::Json)])
    }
}

/// Reads the value of `--timeout`.
///
/// # Errors
/// A sentence that says what a duration looks like.
pub fn read_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    if timeout.is_zero() { Err("0 leaves no time: write a duration above 0".to_owned()) } else { Ok(timeout) }
}

/// The hint for a word that is not one of `known`: the nearest one, else all.
pub(crate) fn nearest_or_all(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("one of: {}", known.join(", ")),
    }
}

/// Prints a report in the format that was asked for.
fn print_report<R: Serialize>(
    format: ReportFormat,
    report: &R,
    text: impl FnOnce(&R) -> TerminalText,
) -> Result<(), Error> {
    match format {
        ReportFormat::Text => print_stdout(&text(report)),
        ReportFormat::Json => {
            let document = serde_json::to_value(report)
                .map_err(|error| Error::machine(format!("the report cannot be written as JSON: {error}")))?;
            print_json(&format!("{document:#}\n"))
        }
    }
}

/// Prints text for people. A closed pipe is the reader's choice (`| head`) and not an error.
///
/// # Errors
/// A machine error, for example a full disk behind stdout.
pub fn print_stdout(text: &TerminalText) -> Result<(), Error> {
    let colors = has_colors(std::io::stdout().is_terminal(), &process_environment);
    write_stdout(&[text.render(colors)])
}

/// Prints text for people to stderr, without colours. A closed stderr is harmless.
pub fn print_stderr(text: &TerminalText) {
    drop(std::io::stderr().lock().write_all(text.render(false).as_bytes()));
}

/// Prints a line for people to stderr.
fn print_stderr_line(text: &str) {
    let mut line = TerminalText::default();
    line.line(text);
    print_stderr(&line);
}

/// Prints a JSON document. Characters that control a terminal are escaped, which does not change what a reader gets.
///
/// # Errors
/// As [`print_stdout`].
pub fn print_json(document: &str) -> Result<(), Error> {
    write_stdout(&[plain_text::json(document).as_bytes()])
}

/// Prints an exposition byte for byte; a terminal gets each line without control characters.
///
/// # Errors
/// As [`print_stdout`].
pub fn print_page<B: AsRef<[u8]>>(pieces: &[B]) -> Result<(), Error> {
    if !std::io::stdout().is_terminal() {
        return write_stdout(pieces);
    }
    // A piece ends with a line.
    let text = |piece: &B| TerminalText::document(&String::from_utf8_lossy(piece.as_ref()));
    pieces.iter().try_for_each(|piece| print_stdout(&text(piece)))
}

fn write_stdout<B: AsRef<[u8]>>(pieces: &[B]) -> Result<(), Error> {
    write_all(&mut std::io::stdout().lock(), pieces)
        .map_err(|error| Error::machine(format!("stdout: {error}")))
}

fn write_all<B: AsRef<[u8]>>(out: &mut dyn Write, pieces: &[B]) -> std::io::Result<()> {
    let written =
        pieces.iter().try_for_each(|piece| out.write_all(piece.as_ref())).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
