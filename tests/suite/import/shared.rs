//! The published files in `../shared/compat`, which a plain clone does not have.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{assert_strict, compare, folder, import, shown};

/// The folder of a dialect; `None`, said once, where it is absent.
pub(crate) fn compat(dialect: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/compat").join(dialect);
    if !folder.is_dir() {
        // Not eprintln: libtest hides what a test that passes prints.
        let line = format!("left out: {} is absent\n", folder.display());
        let _ = std::io::stderr().write_all(line.as_bytes());
        return None;
    }
    Some(folder)
}

/// Converts files of `../shared/compat/DIALECT/` and compares with `tests/import/shared/NAME.expected`.
pub(crate) fn assert_shared(dialect: &str, name: &str, files: &[&str], args: &[&str], driver: &str) {
    let Some(compat) = compat(dialect) else { return };
    let files: Vec<PathBuf> = files.iter().map(|file| compat.join(file)).collect();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let output = import(dialect, &files, args);
    let snapshot = folder().join("shared").join(format!("{name}.expected"));
    compare(&snapshot, &shown(&output)).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_strict(&output, driver, name);
}
