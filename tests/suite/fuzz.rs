//! The corpora of `make fuzz` as ordinary tests. An input that broke something goes to `tests/fuzz/corpus/TARGET/`.

use std::panic::catch_unwind;
use std::path::Path;

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read = |path: std::path::PathBuf| (path.display().to_string(), std::fs::read(&path).expect("read"));
    entries.map(|entry| read(entry.expect("an entry").path())).collect()
}

#[test]
fn every_input_of_the_corpora_holds() {
    let mut broken = Vec::new();
    for (target, run) in targets::TARGETS {
        let inputs = inputs(target);
        assert!(inputs.len() >= 10, "{target} has {} inputs", inputs.len());
        broken.extend(inputs.into_iter().filter(|(_, data)| catch_unwind(|| run(data)).is_err()));
    }
    let names: Vec<&String> = broken.iter().map(|(name, _)| name).collect();
    assert!(names.is_empty(), "{names:#?}");
}

#[test]
fn every_target_has_its_bin_and_its_corpus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let names = |folder: &str| {
        let entries = std::fs::read_dir(root.join(folder)).expect("the folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .map(|name| name.trim_end_matches(".rs").to_owned())
            .collect();
        names.sort();
        names
    };
    let targets: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names("bins"), targets);
    assert_eq!(names("corpus"), targets);
}
