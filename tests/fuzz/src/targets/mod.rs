//! What is fuzzed: one target is one file with a `run`, one line in [`TARGETS`] and a bin, and a folder of `corpus/`.
//! A target panics when what it holds is broken. It reads any bytes, and knows neither libfuzzer nor a server.

pub(crate) mod cells;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod import;
pub(crate) mod mysql;
pub(crate) mod pg_messages;
pub(crate) mod plan;
pub(crate) mod web_config;

/// Reads `data` as a file twice: the same faults each time. What reads files of the machine is left out.
fn same_faults_twice(data: &[u8], faults: impl Fn(&std::path::Path) -> Vec<String>) {
    if std::str::from_utf8(data).is_ok_and(plan::reads_the_machine) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fuzz.yaml");
    std::fs::write(&path, data).expect("written");
    assert_eq!(faults(&path), faults(&path));
}

/// Runs one input.
pub(crate) type Run = fn(&[u8]);

/// A target's name, as of its file and its corpus, and what runs one input.
#[allow(dead_code, reason = "libfuzzer has a bin a target")]
pub(crate) const TARGETS: &[(&str, Run)] = &[
    ("cells", cells::run),
    ("head", head::run),
    ("headers", headers::run),
    ("import", import::run),
    ("mysql", mysql::run),
    ("pg_messages", pg_messages::run),
    ("plan", plan::run),
    ("web_config", web_config::run),
];
