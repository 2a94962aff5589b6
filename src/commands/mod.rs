//! The commands, one a file. A new one is a file here, a line in `cli` and a line in `docs/command-line.md`.
//!
//! A command answers with an exit code, or with the errors that `cli` prints.

pub mod check;
pub mod collect;
pub mod health;
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

use self::terminal::TerminalText;
use crate::config::Config;
use crate::deadline::parse_duration;
use crate::error::Error;
use crate::logging;
use crate::plain_text;
use crate::yaml::keys::nearest;

/// Starts logging as the configuration says, and logs what was odd while loading.
fn start_logging(plan: &Config, warnings: &[String]) {
    logging::start(plan.exporter.log_level, plan.exporter.log_format);
    for warning in warnings {
        log::warn!("{warning}");
    }
    log_warnings(plan);
}

/// Logs what was odd in a configuration, without the source lines and their carets.
fn log_warnings(plan: &Config) {
    for warning in &plan.warnings {
        let warning = warning.to_string();
        log::warn!("{}", warning.lines().next().unwrap_or_default());
    }
}

/// How a command prints what it found: the option `--format` of commands that make no exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Print {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON document.
    Json,
}

/// The values of `--format`.
const PRINTS: &[(&str, Print)] = &[("text", Print::Text), ("json", Print::Json)];

impl Print {
    /// Reads the value of `--format`.
    ///
    /// # Errors
    /// A sentence that lists the values.
    pub fn read(text: &str) -> Result<Print, String> {
        let names = || PRINTS.iter().map(|(name, _)| *name);
        PRINTS.iter().find(|(name, _)| *name == text).map(|(_, print)| *print).ok_or_else(|| {
            let near = nearest(text, names()).map(|near| format!("; did you mean {near}?"));
            let names: Vec<&str> = names().collect();
            format!("{text:?} is not one of {}{}", names.join(", "), near.unwrap_or_default())
        })
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

/// Prints text for people.
///
/// # Errors
/// A machine error: the disk behind stdout is full, for one.
pub fn print_text(text: &TerminalText) -> Result<(), Error> {
    print(&[text.as_bytes()])
}

/// Prints a JSON document; what a terminal may obey stands in escapes, which mean the same.
///
/// # Errors
/// As [`print_text`].
pub fn print_json(document: &str) -> Result<(), Error> {
    print(&[plain_text::json(document).as_bytes()])
}

/// Prints an exposition byte by byte, but for a terminal: that gets each line without what it may obey.
///
/// # Errors
/// As [`print_text`].
pub fn print_page<B: AsRef<[u8]>>(pieces: &[B]) -> Result<(), Error> {
    if !std::io::stdout().is_terminal() {
        return print(pieces);
    }
    // A piece ends with a line.
    pieces
        .iter()
        .try_for_each(|piece| print_text(&TerminalText::document(&String::from_utf8_lossy(piece.as_ref()))))
}

/// Writes to stdout. A closed pipe is the reader's choice (`| head`), no error.
fn print<B: AsRef<[u8]>>(pieces: &[B]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let written =
        pieces.iter().try_for_each(|piece| out.write_all(piece.as_ref())).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::machine(format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes to stderr. A closed stderr is harmless.
pub fn print_to_stderr(text: &TerminalText) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}
