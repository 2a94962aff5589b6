//! A configuration file: a plan, or faults that say where; never a panic, and every load says the same.

use std::path::Path;

use sql_exporter::config;
use sql_exporter::driver::Drivers;

/// Files of the machine are not part of the input, and a walk through all of them takes its time.
pub(super) fn reads_the_machine(text: &str) -> bool {
    ["**", "..", "/dev", "/proc", "/sys", "/*", "~"].iter().any(|word| text.contains(word))
}

fn faults(path: &Path) -> Vec<String> {
    let environment = |name: &str| (name == "SET").then(|| "5".to_owned());
    match config::load(path, &environment, &Drivers::built_in()) {
        Ok(plan) => {
            let targets =
                plan.targets.iter().map(|target| format!("{} {}", target.name, target.queries.len()));
            targets.collect()
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "a load failed without a fault");
            faults.iter().map(ToString::to_string).inspect(|fault| placed(fault)).collect()
        }
    }
}

/// `file:line:column: …`; of a file without a line `file: …`.
pub(super) fn placed(fault: &str) {
    let place = fault.split_once("fuzz.yaml:").map(|(_, rest)| rest);
    let line = place.and_then(|rest| rest.split(':').next());
    let is_placed = line.is_some_and(|line| line.starts_with(' ') || line.parse::<usize>().is_ok());
    assert!(is_placed, "no place in {fault:?}");
}

pub(crate) fn run(data: &[u8]) {
    super::same_faults_twice(data, faults);
}
