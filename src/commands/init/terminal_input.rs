//! Answers that a person types: bounded lines, and passwords that the terminal does not show.
//!
//! The terminal shows what is typed again when the answer is there, and before a signal ends the process. Crates for passwords
//! leave it silent after a signal.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::Error;
use crate::plain_text::one_line;
use crate::secret::Secret;

/// The longest answer, in bytes.
const LONGEST_ANSWER: u64 = 4096;

/// The terminal behind stdin and stderr. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Terminal {
    /// How it was before it became silent.
    before: Arc<Mutex<Option<Termios>>>,
}

impl Terminal {
    /// Whether somebody can answer.
    pub(super) fn is_there() -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Asks for a line; an empty one is the default.
    ///
    /// # Errors
    /// The input ended, is too long or not text.
    pub(super) fn line(&self, question: &str, default: &str) -> Result<String, Error> {
        let default_shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        show(&format!("{question}{default_shown}: "));
        let answer = read_line()?;
        let answer = answer.trim();
        Ok(if answer.is_empty() { default.to_owned() } else { answer.to_owned() })
    }

    /// Asks for a password, which is not shown.
    ///
    /// # Errors
    /// As [`Terminal::line`], or the terminal cannot be made silent.
    pub(super) fn password(&self, question: &str) -> Result<Secret, Error> {
        // Before the question: who answers at once must not be shown.
        self.set_silent()?;
        show(&format!("{question}: "));
        let answer = read_line();
        self.restore();
        answer.map(Secret::new)
    }

    fn set_silent(&self) -> Result<(), Error> {
        let failed = |error| Error::machine(format!("the terminal cannot hide a password: {error}"));
        let terminal = std::io::stdin();
        let mut before = self.before.lock();
        let mut silent = tcgetattr(&terminal).map_err(failed)?;
        *before = Some(silent.clone());
        silent.local_modes.remove(LocalModes::ECHO);
        // The end of the line is seen.
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&terminal, OptionalActions::Now, &silent).map_err(failed)
    }

    /// Makes the terminal as it was. Called from the thread of signals, too.
    pub(super) fn restore(&self) {
        if let Some(before) = self.before.lock().take() {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
        }
    }
}

/// Part of a line on stderr.
pub(super) fn show(text: &str) {
    drop(std::io::stderr().lock().write_all(one_line(text).as_bytes()));
}

/// Ends a line on stderr.
pub(super) fn end_line() {
    drop(std::io::stderr().lock().write_all(b"\n"));
}

/// One line without its end.
fn read_line() -> Result<String, Error> {
    let failed = |why: &str| Error::machine(format!("{why}; nothing is written"));
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(LONGEST_ANSWER + 1).read_until(b'\n', &mut bytes);
    read.map_err(|error| failed(&format!("stdin: {error}")))?;
    if !bytes.ends_with(b"\n") {
        end_line();
        let is_long = bytes.len() as u64 > LONGEST_ANSWER;
        return Err(failed(if is_long { "the answer is too long" } else { "the input ended" }));
    }
    bytes.pop();
    if bytes.ends_with(b"\r") {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_| failed("the answer is not UTF-8"))
}
