//! The configuration of another exporter, in each dialect and in the one that is recognised: files that load, or errors that
//! say where; never a panic, and the same each time.

use std::path::Path;

use sql_exporter::commands::import::{convert_text, dialects};

fn converted(from: &str, folder: &Path, text: &str) -> Result<Vec<(String, String)>, Vec<String>> {
    convert_text(from, folder, text).map_err(|errors| {
        errors.0.iter().map(ToString::to_string).inspect(|error| assert!(!error.is_empty())).collect()
    })
}

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if super::plan::reads_the_machine(text) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for from in dialects().chain(["auto"]) {
        let first = converted(from, folder.path(), text);
        assert_eq!(first, converted(from, folder.path(), text), "{from}");
    }
}
