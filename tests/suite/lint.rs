//! The lints: `tests/lint/LNNN.bad.yaml` holds what one finds, `LNNN.good.yaml` what it must leave alone.
//!
//! Beside a bad file stand its texts: `.expected` as a person reads it, `.json` as a machine. A new lint is four files;
//! `TEST_BLESS=1 tests/run cargo test lint` writes the missing texts, to be read before they are committed.

use std::path::{Path, PathBuf};

use sql_exporter::config;
use sql_exporter::driver::Drivers;
use sql_exporter::inspect::lint;
use sql_exporter::inspect::lint::{LINT_DETAILS, LintDetails, LintFindings};
use sql_exporter::metric::lint_off::{LINTS, Lint};

use crate::exporter::{Output, Setup};
use crate::process::folder;
use crate::servers::CANARY;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint").join(name)
}

/// The folder of a fixture, with files of every kind that a password may stand in. Only a bad one of the lint about
/// open files is open itself.
fn setup(name: &str) -> Setup {
    let text = std::fs::read_to_string(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let secret = format!("{CANARY}secret\n");
    let url = format!("postgres://exporter:{CANARY}url@localhost/shop\n");
    Setup::empty()
        .file(name, &text)
        .mode(name, if name == "L012.bad.yaml" { 0o644 } else { 0o600 })
        .file("secret", &secret)
        .mode("secret", 0o640)
        .file("open", &secret)
        .mode("open", 0o644)
        .file("open-url", &url)
        .mode("open-url", 0o604)
        .file("closed/open", &secret)
        .mode("closed/open", 0o644)
        .mode("closed", 0o750)
        .env("PASSWORD", &secret)
        .env("URL", url.trim())
        .args(&["check", "-c", name])
}

fn checked(name: &str, more: &[&str]) -> Output {
    let output = setup(name).args(more).output();
    assert_eq!(output.errors(), "", "{name}");
    output
}

/// Compares with the text beside the fixture.
fn compare(file: &str, text: &str, wrong: &mut String) {
    let path = fixture(file);
    if std::env::var_os("TEST_BLESS").is_some() && !path.exists() {
        std::fs::write(&path, text).expect("written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if text != expected {
        *wrong += &format!("--- {file}\n{text}--- expected\n{expected}");
    }
}

#[test]
fn every_lint_finds_what_is_bad_and_nothing_else() {
    let mut wrong = String::new();
    for code in LINTS.iter().map(|lint| lint.code) {
        let name = format!("{code}.bad.yaml");
        let (text, json) = (checked(&name, &[]), checked(&name, &["--format", "json"]));
        assert_eq!((text.code(), json.code()), (0, 0), "{name}");
        compare(&format!("{code}.bad.expected"), text.text(), &mut wrong);
        compare(&format!("{code}.bad.json"), json.text(), &mut wrong);
        let document: serde_json::Value = serde_json::from_str(json.text()).expect("JSON");
        let findings = document["findings"].as_array().expect("a list");
        assert!(!findings.is_empty(), "{name}");
        assert!(findings.iter().all(|finding| finding["code"] == code), "{name}: {}", text.text());
        assert_eq!(checked(&name, &["--strict"]).code(), 1, "{name}");
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_lint_leaves_alone_what_is_good() {
    for code in LINTS.iter().map(|lint| lint.code) {
        let output = checked(&format!("{code}.good.yaml"), &["--strict"]);
        assert_eq!(output.code(), 0, "{}", output.text());
        assert!(output.text().starts_with("0 errors, 0 warnings"), "{}", output.text());
    }
}

#[test]
fn each_fixture_belongs_to_a_lint() {
    let entries = std::fs::read_dir(fixture("")).expect("the folder");
    for entry in entries {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        let (code, kind) = name.split_once('.').unwrap_or_default();
        let kinds = ["bad.yaml", "good.yaml", "bad.expected", "bad.json"];
        assert!(Lint::find(code).is_some() && kinds.contains(&kind), "{name}");
    }
}

/// What the lints say about a part of a configuration as an explanation shows it: the rest is filled in.
fn found(part: &str) -> LintFindings {
    let mut text = String::new();
    if !part.contains("databases:") {
        text += "databases: {shop: {driver: sqlite, database: shop.db}}\n";
    }
    if part.starts_with("metrics:") || part.starts_with("sql:") {
        let sql = if part.contains("sql:") { "" } else { "sql: SELECT 1 AS value\n" };
        let keys: String = format!("{sql}{part}").lines().map(|line| format!("    {line}\n")).collect();
        text += &format!("queries:\n  - name: q\n{keys}");
    } else {
        text += &format!("{part}\n{}", if part.contains("queries:") { "" } else { "queries: []\n" });
    }
    let folder = folder();
    let path = folder.path().join("part.yaml");
    std::fs::write(&path, &text).expect("written");
    let mode = if part.contains("0644") { 0o644 } else { 0o600 };
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&path, mode).expect("a mode can be set");
    match config::load(&path, &|_| None, &Drivers::built_in()) {
        Ok(config) => lint::run(&config),
        Err(faults) => panic!("{text}\n{faults:?}"),
    }
}

#[test]
fn what_an_explanation_shows_is_found_and_its_better_form_is_not() {
    for LintDetails { lint, bad, good, .. } in LINT_DETAILS.iter() {
        let code = lint.code;
        let finds = |part| found(part).findings.iter().any(|finding| finding.code == Some(code));
        assert!(finds(bad), "{code}: nothing is found in\n{bad}");
        assert!(!finds(good), "{code}: something is found in\n{good}");
    }
}
