//! One version everywhere: `Cargo.toml` says which, and this module compares what else names it.

use std::path::Path;

use regex_lite::Regex;
use sql_exporter::VERSION;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a regular expression")
}

/// The date of this version in CHANGELOG.md, whose newest section but Unreleased it is.
pub(crate) fn released() -> String {
    let text = read("CHANGELOG.md");
    let newest = text.lines().filter_map(|line| line.strip_prefix("## ")).find(|head| *head != "Unreleased");
    let date = newest.and_then(|head| head.strip_prefix(VERSION)?.strip_prefix(" - "));
    let date = date.filter(|date| pattern(r"^\d{4}-\d{2}-\d{2}$").is_match(date));
    date.unwrap_or_else(|| panic!("the newest section of CHANGELOG.md is {newest:?}, not `{VERSION} - DATE`"))
        .to_owned()
}

#[test]
fn the_changelog_has_a_section_of_this_version() {
    released();
}

#[test]
fn files_that_name_the_version_name_this_one() {
    let files = [
        ("examples/helm/sql-exporter/Chart.yaml", r"(?m)^(?:appVersion|version): (\S+)$", 2),
        ("examples/kustomize/deployment.yaml", r"sql-exporter/sql-exporter:(\S+)", 1),
        ("examples/kustomize/kustomization.yaml", r"(?:newTag: |\?ref=v)([\w.-]+)", 2),
        ("examples/shell/sql-exporter.1", r#""sql\\-exporter (\S+)""#, 1),
    ];
    for (path, name, count) in files {
        assert_eq!(versions(path, name), vec![VERSION; count], "{path}");
    }
    // Names of packages, tags and images. Users do not install a release candidate.
    let released = VERSION.split('-').next().expect("a first part");
    let named = versions("docs/installing.md", r"(?:exporter[-_:]|/v|=v)(\d+\.\d+\.\d+)");
    assert!(
        named.len() >= 8 && named.iter().all(|version| version == released),
        "docs/installing.md: {named:?}"
    );
}

fn versions(path: &str, name: &str) -> Vec<String> {
    let text = read(path);
    let name = pattern(name);
    name.captures_iter(&text).map(|found| found.get(1).expect("a group").as_str().to_owned()).collect()
}

/// The dependencies of a package in a lock file, whose version is this one.
fn locked(path: &str) -> Vec<String> {
    let text = read(path);
    let own = format!("\nname = \"sql-exporter\"\nversion = \"{VERSION}\"\n");
    let (_, entry) = text.split_once(&own).unwrap_or_else(|| panic!("{path} has no sql-exporter {VERSION}"));
    let entry = entry.split("\n\n").next().unwrap_or_default();
    let names = entry.lines().filter_map(|line| line.strip_prefix(" \"")?.split(['"', ' ']).next());
    names.map(str::to_owned).collect()
}

#[test]
fn both_lock_files_are_those_of_the_manifest() {
    let (all, product) = (locked("Cargo.lock"), locked("tests/fuzz/Cargo.lock"));
    // Cargo refuses an old Cargo.lock; that of the fuzz targets, which need a nightly compiler, would stay unnoticed.
    let manifest = read("Cargo.toml");
    let (_, manifest) = manifest.split_once("\n[dependencies]\n").expect("dependencies");
    let (manifest, _) = manifest.split_once("\n[dev-dependencies]\n").expect("dependencies of the tests");
    let name = pattern(r"(?m)^([\w-]+) = ");
    let mut expected: Vec<&str> =
        name.captures_iter(manifest).map(|found| found.get(1).expect("a group").as_str()).collect();
    expected.sort_unstable();
    assert_eq!(product, expected, "tests/fuzz/Cargo.lock is old: cargo update --workspace in tests/fuzz");
    assert!(product.iter().all(|name| all.contains(name)), "{all:?}");
}
