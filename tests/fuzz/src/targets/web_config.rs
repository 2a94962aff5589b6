//! A web-config file: settings, or faults that say where; never a panic, and every read says the same.

use std::path::Path;

use sql_exporter::server::check_web_config;

use super::plan::placed;

fn faults(path: &Path) -> Vec<String> {
    let faults = check_web_config(path).err();
    assert!(faults.as_ref().is_none_or(|faults| !faults.is_empty()), "refused without a fault");
    faults.into_iter().flatten().map(|fault| fault.to_string()).inspect(|fault| placed(fault)).collect()
}

pub(crate) fn run(data: &[u8]) {
    super::same_faults_twice(data, faults);
}
