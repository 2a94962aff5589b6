//! The commands, one a file. A new one is a file here, a line in `cli` and a line in the README.
//!
//! A command answers with an exit code, or with the errors that `cli` prints.

pub mod collect;
pub mod health;
pub mod packs;
pub mod run;

use std::io::Write;

/// Writes to stdout. A closed pipe is the reader's choice, no error.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Writes a line to stderr. A closed stderr is harmless.
pub fn complain(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
