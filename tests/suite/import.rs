//! `import`: each file under `tests/import/DIALECT/` is converted, and what comes out stands beside it.
//!
//! `NAME.yaml` is converted with the arguments in `NAME.args` (one line, if there is such a file): stdout, the exit code and
//! stderr are `NAME.expected`. What comes out passes `check --strict`. A new case is a file;
//! `TEST_BLESS=1 cargo test --test suite -- import` writes the missing texts, to be read before they are committed.

mod burningalchemist;
mod documents;
mod errors;
mod export_sql;
mod justwatch;
mod never_panics;
mod pg_exporter;
mod postgres_exporter;
mod psql_query_exporter;
mod query_exporter;
mod shared;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::exporter::{Output, Setup};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Converts files that are copied to a folder under their own names.
pub(crate) fn import(dialect: &str, files: &[&Path], args: &[&str]) -> Output {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let setup = files.iter().fold(Setup::empty(), |setup, path| setup.file(&name(path), &read(path)));
    let names: Vec<String> = files.iter().map(|path| name(path)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    setup.args(&["import", "--from", dialect]).args(&names).args(args).output()
}

/// What a run printed, as a snapshot has it.
pub(crate) fn shown(output: &Output) -> String {
    format!("{}--- exit {}\n{}", output.text(), output.code(), output.errors())
}

/// Compares with a snapshot below `tests/import/`; with `TEST_BLESS` a missing one is written.
pub(crate) fn compare(snapshot: &Path, text: &str) -> Result<(), String> {
    if std::env::var_os("TEST_BLESS").is_some() && !snapshot.exists() {
        std::fs::write(snapshot, text).expect("written");
    }
    let expected = std::fs::read_to_string(snapshot).unwrap_or_default();
    if text == expected {
        return Ok(());
    }
    Err(format!("--- {}\n{text}--- expected\n{expected}", snapshot.display()))
}

/// The variables that a run listed, each with a value that loads: the example behind `such as`, else 1.
pub(crate) fn variables(output: &Output) -> Vec<(String, String)> {
    let lines = output.errors().lines().skip_while(|line| *line != "Set these variables:").skip(1);
    let example = |line: &str| {
        let example = line.split_once("such as ").and_then(|(_, rest)| rest.split([',', ' ']).next());
        example.unwrap_or("1").to_owned()
    };
    lines
        .map_while(|line| Some((line.strip_prefix("  ")?.split_whitespace().next()?, line)))
        .map(|(name, line)| (name.to_owned(), example(line)))
        .collect()
}

/// A configuration of what came out: itself, or a file that includes it for a target of `driver`.
pub(crate) fn configuration(output: &Output, driver: &str) -> Setup {
    let text = output.text();
    let setup = if text.lines().any(|line| line == "databases:") {
        Setup::new(text)
    } else {
        let discover = if text.contains("databases: [\"*/") { ", discover: {}" } else { "" };
        let main = format!(
            "databases: {{db: {{driver: {driver}, database: db{discover}}}}}\ninclude: [imported.yaml]\n"
        );
        Setup::new(&main).file("imported.yaml", text)
    };
    variables(output).iter().fold(setup, |setup, (name, value)| setup.env(name, value))
}

/// Asserts that what came out passes `check --strict`.
pub(crate) fn assert_strict(output: &Output, driver: &str, what: &str) {
    let checked = configuration(output, driver).args(&["check", "--strict"]).output();
    assert_eq!(checked.code(), 0, "{what}\n{}{}{}", checked.text(), checked.errors(), output.text());
}

/// A sample line with its labels in the order of their names; other lines as they are. No label value holds a comma.
pub(crate) fn sorted_labels(line: &str) -> String {
    let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) else {
        return line.to_owned();
    };
    let (labels, value) = rest.rsplit_once('}').expect("a brace that closes");
    let mut labels: Vec<&str> = labels.split(',').filter(|label| !label.is_empty()).collect();
    labels.sort_unstable();
    format!("{name}{{{}}}{value}", labels.join(","))
}

/// The values of a page by their series, without the label `except`.
pub(crate) fn samples(page: &str, except: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let braced = if series.contains('{') { series.to_owned() } else { format!("{series}{{}}") };
        let (name, labels) = braced.split_once('{').expect("labels");
        let kept = labels.trim_end_matches('}').split(',');
        let kept: Vec<&str> = kept.filter(|label| !label.starts_with(&format!("{except}="))).collect();
        (sorted_labels(&format!("{name}{{{}}}", kept.join(","))), value.parse().expect("a number"))
    };
    lines.map(sample).collect()
}

/// The types of a page by their families.
pub(crate) fn types(page: &str) -> BTreeMap<String, String> {
    let heads = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    heads.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// The cases: dialect, and the input.
fn cases() -> Vec<(String, PathBuf)> {
    let mut cases = Vec::new();
    for dialect in std::fs::read_dir(folder()).expect("the folder") {
        let dialect = dialect.expect("an entry").path();
        let name = dialect.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "shared" {
            continue;
        }
        for input in std::fs::read_dir(&dialect).expect("a folder") {
            let input = input.expect("an entry").path();
            if input.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                cases.push((name.clone(), input));
            }
        }
    }
    cases.sort();
    cases
}

#[test]
fn every_case_comes_out_as_expected_and_passes_check_strict() {
    let mut wrong = String::new();
    let cases = cases();
    assert!(!cases.is_empty());
    for (dialect, input) in cases {
        let args = std::fs::read_to_string(input.with_extension("args")).unwrap_or_default();
        let output = import(&dialect, &[&input], &args.split_whitespace().collect::<Vec<_>>());
        wrong += &compare(&input.with_extension("expected"), &shown(&output)).err().unwrap_or_default();
        // Where all of it is left out there is nothing to load.
        if output.code() != 2 && !output.text().is_empty() {
            assert_strict(&output, "postgres", &input.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn auto_recognises_every_case() {
    for (dialect, input) in cases() {
        let args = std::fs::read_to_string(input.with_extension("args")).unwrap_or_default();
        let args: Vec<&str> = args.split_whitespace().collect();
        let (named, auto) = (import(&dialect, &[&input], &args), import("auto", &[&input], &args));
        assert_eq!(shown(&named), shown(&auto), "{}", input.display());
    }
}
