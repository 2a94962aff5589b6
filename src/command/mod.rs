//! The commands, one a file. A new one is a file here, a line in `cli` and a line in the README.
//!
//! A command answers with an exit code, or with the errors that `cli` prints.

pub mod collect;
pub mod health;
pub mod packs;
pub mod run;
pub mod schema;

use std::io::{ErrorKind, Write};

use crate::error::Error;

/// Writes to stdout. A closed pipe is the reader's choice (`| head`), no error.
///
/// # Errors
/// A machine error: the disk behind stdout is full, for one.
pub fn say<B: AsRef<[u8]>>(pieces: &[B]) -> Result<(), Error> {
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

/// Writes a line to stderr. A closed stderr is harmless.
pub fn complain(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
