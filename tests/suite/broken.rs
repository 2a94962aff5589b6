//! Configurations with one fault each: `tests/broken/NAME.yaml`, and beside it in `NAME.expected` the message.
//!
//! A new one is two files; `TEST_BLESS=1 cargo test broken` writes the missing messages, to be read before they
//! are committed. Files that others include lie in folders.

use std::collections::BTreeSet;
use std::path::Path;

use sql_exporter::config;
use sql_exporter::driver::Drivers;

const FOLDER: &str = "tests/broken";

/// Variables that the files may use.
fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("5432".to_owned()),
        "EMPTY" => Some(String::new()),
        "WORD" => Some("word".to_owned()),
        _ => None,
    }
}

/// The names, without their suffix, of the files that end in `suffix`.
fn names(suffix: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER)).expect("the folder");
    let files = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    files.filter_map(|name| name.strip_suffix(suffix).map(str::to_owned)).collect()
}

/// Every fault of one file, as the user sees it but for the folder.
fn faults(name: &str) -> Vec<String> {
    // Relative, as tests run in the package's folder: messages name the file as it was given.
    let path = format!("{FOLDER}/{name}.yaml");
    match config::load(Path::new(&path), &environment, &Drivers::built_in()) {
        Ok(_) => Vec::new(),
        Err(faults) => {
            faults.iter().map(|fault| fault.to_string().replace(&format!("{FOLDER}/"), "")).collect()
        }
    }
}

#[test]
fn each_broken_file_gives_its_one_message() {
    let mut wrong = String::new();
    for name in names(".yaml") {
        let file = format!("{}/{FOLDER}/{name}.expected", env!("CARGO_MANIFEST_DIR"));
        let found = faults(&name);
        let text = found.iter().map(|fault| format!("{fault}\n")).collect::<String>();
        if std::env::var_os("TEST_BLESS").is_some() && !Path::new(&file).exists() {
            std::fs::write(&file, &text).expect("written");
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if text != expected || found.len() != 1 {
            wrong += &format!("--- {name}: {} faults\n{text}--- expected\n{expected}", found.len());
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The files write `canary` where a password, a URL or a parameter stands.
#[test]
fn no_message_about_a_broken_file_shows_a_secret() {
    let showing: Vec<_> =
        names(".yaml").into_iter().filter(|name| faults(name).concat().contains("canary")).collect();
    assert!(showing.is_empty(), "{showing:?}");
}

#[test]
fn every_broken_file_has_its_message_and_there_are_enough_of_them() {
    let (files, messages) = (names(".yaml"), names(".expected"));
    assert_eq!(files, messages, "a file without its message, or a message without its file");
    assert!(files.len() >= 60, "{} broken files", files.len());
}

#[test]
fn faults_of_all_files_and_kinds_come_together_in_file_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write(
        "main.yaml",
        "databases:\n  a: {driver: sqlite, database: a.db, colour: red}\nqueries:\n  - {name: q, databse: a, sql: SELECT 1, \
         metric_name: 1st}\n  - {name: r, database: b, sql: SELECT 1, metric_name: r, timeout: soon}\n\
         include: [more.yaml]\nexporter: {port: 70000}\n",
    );
    write(
        "more.yaml",
        "queries:\n  - {name: q, sql: SELECT 1, metric_name: s}\n  - {sql: SELECT 1, metric_name: t}\n",
    );
    let faults = config::load(&folder.path().join("main.yaml"), &environment, &Drivers::built_in());
    let places: Vec<String> = faults
        .err()
        .expect("faults")
        .iter()
        .map(|fault| fault.place().expect("a place"))
        .map(|place| {
            format!("{}:{} {}", place.file.rsplit('/').next().unwrap_or_default(), place.line, place.path)
        })
        .collect();
    let expected = [
        "main.yaml:2 databases.a.colour",
        "main.yaml:4 queries[0].databse",
        "main.yaml:4 queries[0].metric_name",
        "main.yaml:5 queries[1].database",
        "main.yaml:5 queries[1].timeout",
        "main.yaml:7 exporter.port",
        "more.yaml:2 queries[0]",
        "more.yaml:3 queries[1]",
    ];
    assert_eq!(places, expected);
}
