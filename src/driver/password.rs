//! Where a password comes from: the configuration, a file, or a command; read for every new session.

use std::path::PathBuf;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::secret::Secret;

/// The source of a password.
#[derive(Debug, Clone, Default)]
pub enum Password {
    /// None: peer, trust or certificate authentication.
    #[default]
    None,
    /// In the configuration.
    Given(Secret),
    /// The file's content without its final line end.
    File(PathBuf),
    /// The standard output of a program: an argv, no shell, 5 s, shared 60 s by equal commands.
    Command(Vec<String>),
}

impl Password {
    /// Reads it now. Blocks for a command, at most until `by`.
    ///
    /// # Errors
    /// `auth`, when the file cannot be read or the command fails; the message never holds its output.
    pub fn read(&self, by: Deadline) -> Result<Option<Secret>> {
        let _ = by;
        todo!()
    }

    /// Reads it anew after the server refused it: a command's shared result is forgotten first.
    pub fn refused(&self) {
        todo!()
    }
}
