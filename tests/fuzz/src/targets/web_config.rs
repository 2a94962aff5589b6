//! A web-config file: settings, or faults that say where; never a panic, and every read says the same.

use std::path::Path;

use sql_exporter::http::check_web_config;

use super::plan::{placed, reads_the_machine};

fn faults(path: &Path) -> Vec<String> {
    let faults = check_web_config(path).err();
    assert!(faults.as_ref().is_none_or(|faults| !faults.is_empty()), "refused without a fault");
    faults.into_iter().flatten().map(|fault| fault.to_string()).inspect(|fault| placed(fault)).collect()
}

pub(crate) fn run(data: &[u8]) {
    if std::str::from_utf8(data).is_ok_and(reads_the_machine) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fuzz.yaml");
    std::fs::write(&path, data).expect("written");
    assert_eq!(faults(&path), faults(&path));
}
