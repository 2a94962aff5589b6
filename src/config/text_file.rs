//! Reads a file that the configuration names, and that is no YAML: bounded, UTF-8, with words for what goes wrong.

use std::path::Path;

use crate::file;
use crate::file::ReadError;

/// A longer file is an error; nobody writes one by hand, and `/dev/zero` has no end.
const LONGEST: u64 = 1 << 20;

/// The text of the file at `path`.
///
/// # Errors
/// A sentence that names the file and the reason.
pub(super) fn read(path: &Path) -> Result<String, String> {
    file::read_text(path, LONGEST).map_err(|unread| match unread {
        ReadError::System(error) => {
            let reason = error.to_string();
            let reason = reason.split(" (os error").next().unwrap_or_default();
            format!("cannot read {}: {reason}", path.display())
        }
        other => format!("{} {other}", path.display()),
    })
}
