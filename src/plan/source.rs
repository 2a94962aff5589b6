//! Reads a file that the configuration names, and that is no YAML: bounded, UTF-8, with words for what goes wrong.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A longer file is an error; nobody writes one by hand, and `/dev/zero` has no end.
const LONGEST: u64 = 1 << 20;

/// The text of the file at `path`.
///
/// # Errors
/// A sentence that names the file and the reason.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| {
        let reason = error.to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default();
        format!("cannot read {}: {reason}", path.display())
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("{} is longer than 1 MiB", path.display()));
    }
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))
}
