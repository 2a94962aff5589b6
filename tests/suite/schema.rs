//! The JSON Schema: what it takes and refuses beside what the reader does, by a library that is not ours; and that
//! schema, code, documents and examples say the same.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sql_exporter::config;
use sql_exporter::driver::Drivers;

use crate::process::variable;

mod keys;

/// Kinds of files, and where their committed schema lies.
const KINDS: [&str; 2] = ["config", "collector"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the command prints.
fn printed(kind: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sql-exporter")).args(["schema", kind]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn schema(kind: &str) -> Value {
    serde_json::from_str(&printed(kind)).expect("the schema is JSON")
}

const VALIDATOR: &str = r"
import json, sys, jsonschema
given = json.load(sys.stdin)
jsonschema.Draft7Validator.check_schema(given['schema'])
validator = jsonschema.Draft7Validator(given['schema'])
json.dump([[f'{error.json_path}: {error.message}' for error in validator.iter_errors(one)]
           for one in given['instances']], sys.stdout)
";

/// The faults that the library `jsonschema` finds in each instance; fails where the schema itself is not a valid schema.
fn validate(schema: &Value, instances: &[Value]) -> Vec<Vec<String>> {
    let mut python = Command::new(variable("TEST_PYTHON"))
        .args(["-c", VALIDATOR])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let given = json!({"schema": schema, "instances": instances}).to_string();
    python.stdin.take().unwrap().write_all(given.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "jsonschema failed, see above");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A file as an editor sees it. `None` for what is no YAML.
fn parsed(text: &str) -> Option<Value> {
    serde_yaml::from_str(text).ok()
}

/// Whether the exporter reads this file. Below these folders of `examples/` most YAML is that of other programs.
fn is_ours(path: &Path) -> bool {
    let is_below = |folder| path.starts_with(root().join("examples").join(folder));
    !["docker", "helm", "kustomize"].iter().any(is_below) || path.ends_with("sql-exporter.yaml")
}

/// The `.yaml` files below a folder that the exporter reads.
fn files(folder: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "yaml") && is_ours(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn assert_valid(kind: &str, files: &[PathBuf]) {
    let instances: Vec<Value> = files.iter().map(|file| parsed(&read(file)).expect("YAML")).collect();
    for (file, faults) in files.iter().zip(validate(&schema(kind), &instances)) {
        assert!(faults.is_empty(), "{}: {faults:#?}", file.display());
    }
}

#[test]
fn every_example_and_every_pack_fits_its_schema() {
    let examples = files("examples");
    assert!(examples.len() >= 3);
    assert_valid("config", &examples);
    let packs = files("queries");
    assert!(packs.len() >= 9);
    assert_valid("collector", &packs);
}

#[test]
fn the_committed_schemas_are_what_the_command_prints() {
    for kind in KINDS {
        let path = root().join(format!("examples/schema/{kind}.json"));
        let text = printed(kind);
        if std::env::var_os("TEST_BLESS").is_some() {
            std::fs::write(&path, &text).expect("written");
        }
        assert!(read(&path) == text, "{kind}: run with TEST_BLESS=1, and commit the file");
    }
}

#[test]
fn each_example_names_the_schema_that_lies_beside_it() {
    for example in files("examples") {
        let text = read(&example);
        let first = text.lines().next().unwrap_or_default();
        let named = first.strip_prefix("# yaml-language-server: $schema=");
        let named = named.unwrap_or_else(|| panic!("{}: {first}", example.display()));
        let schema = example.parent().unwrap().join(named).canonicalize().expect("the schema is there");
        assert_eq!(schema, root().join("examples/schema/config.json").canonicalize().unwrap());
    }
}

/// What the messages of faults say that a schema sees. The others are listed in `docs/command-line.md`.
const SEEN: &[&str] = &[
    "unknown key",
    "is not built yet",
    ": expected ",
    "is neither true nor false",
    "is not one of",
    "is not a duration",
    "is not a size",
    "there is no driver",
    "has no `name`",
    "has no SQL",
    "has no metrics",
    "cannot be combined with `sql`",
    "cannot be combined with `metrics`",
    "is missing: the name of the metric",
];

/// Broken files whose messages say such a thing of what no schema sees: a URL, a range, a list of at least one.
const UNSEEN: &[&str] =
    &["login-command-is-text", "login-connect-timeout-0", "login-url-sslmode", "plan-url-scheme-unknown"];

/// The broken files with their messages, without those of included files and those that are no YAML.
fn broken() -> Vec<(String, String, Value)> {
    let with_message = |file: &PathBuf| {
        let message = read(&file.with_extension("expected"));
        let name = file.file_name()?.to_string_lossy().into_owned();
        Some((name.clone(), message, parsed(&read(file))?))
            .filter(|(_, message, _)| message.starts_with(&name))
    };
    let files = files("tests/broken");
    files.iter().filter(|file| file.with_extension("expected").exists()).filter_map(with_message).collect()
}

#[test]
fn the_schema_refuses_unknown_keys_wrong_kinds_and_what_is_missing() {
    let broken = broken();
    let instances: Vec<Value> = broken.iter().map(|(.., value)| value.clone()).collect();
    let (mut refused, mut wrong) = (0, Vec::new());
    for ((name, message, _), faults) in broken.iter().zip(validate(&schema("config"), &instances)) {
        // A variable may turn out to be anything.
        let is_seen = SEEN.iter().any(|part| message.contains(part)) && !message.contains("${");
        let is_seen = is_seen && !UNSEEN.iter().any(|unseen| name.starts_with(unseen));
        refused += usize::from(!faults.is_empty());
        if is_seen && faults.is_empty() {
            wrong.push(format!("{name} fits: {message}"));
        }
    }
    assert!(refused >= 40, "{refused}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_schema_of_included_files_refuses_what_belongs_in_the_main_file() {
    let parts = ["with-databases", "with-exporter", "without-queries", "name-taken"];
    let part =
        |name: &&str| parsed(&read(&root().join(format!("tests/broken/parts/{name}.yaml")))).expect("YAML");
    let verdicts = validate(&schema("collector"), &parts.iter().map(part).collect::<Vec<_>>());
    let fits: Vec<bool> = verdicts.iter().map(Vec::is_empty).collect();
    assert_eq!(fits, [false, false, false, true], "{verdicts:#?}");
}

/// The README and the pages of `docs/`.
fn documents() -> Vec<PathBuf> {
    let pages = std::fs::read_dir(root().join("docs")).expect("docs");
    let pages = pages.map(|page| page.expect("an entry").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain([root().join("README.md")]).collect()
}

/// Configurations that lie about: those of the golden pages, of the fuzzer, of the documents.
fn texts() -> Vec<(String, String)> {
    let mut texts: Vec<(String, String)> = Vec::new();
    for folder in ["tests/golden", "tests/fuzz/corpus/plan", "tests/broken", "examples"] {
        let files = files(folder).into_iter().map(|file| (file.display().to_string(), read(&file)));
        texts.extend(files);
    }
    for page in documents() {
        let text = read(&page);
        let blocks = text.split("```yaml").skip(1).filter_map(|rest| rest.split("```").next());
        texts.extend(blocks.map(|block| (page.display().to_string(), block.to_owned())));
    }
    texts
}

#[test]
fn what_loads_fits_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    let loads = |text: &String| {
        std::fs::write(&path, text).unwrap();
        config::load(&path, &|_| Some("1".to_owned()), &Drivers::built_in()).is_ok()
    };
    let good: Vec<(String, String)> = texts().into_iter().filter(|(_, text)| loads(text)).collect();
    assert!(good.len() >= 12, "{}", good.len());
    let instances: Vec<Value> = good.iter().map(|(_, text)| parsed(text).expect("YAML")).collect();
    for ((name, text), faults) in good.iter().zip(validate(&schema("config"), &instances)) {
        assert!(faults.is_empty(), "{name}: {faults:#?}\n{text}");
    }
}

/// Values of `exporter` as a user may write them. The schema and the load must agree on each.
const VALUES: &[&str] = &[
    "scrape_timeout: 10",
    "scrape_timeout: '10'",
    "scrape_timeout: 1.5s",
    "scrape_timeout: 5 s",
    "scrape_timeout: 5x",
    "scrape_timeout: -1",
    "scrape_timeout: .5m",
    "scrape_timeout: 1d",
    "scrape_timeout: [1]",
    "scrape_timeout: ${T:-5s}",
    "scrape_timeout: true",
    "scrape_timeout: ~",
    "max_workers: 3",
    "max_workers: '3'",
    "max_workers: 3.5",
    "max_workers: -3",
    "max_workers: three",
    "max_workers: ${N:-3}",
    "port: 70000",
    "port: 9399",
    "max_page_bytes: 64MiB",
    "max_page_bytes: 64 mib",
    "max_page_bytes: 1.5GB",
    "max_page_bytes: 1.5",
    "max_page_bytes: 64M",
    "max_page_bytes: 100",
    "max_page_bytes: 1 B",
    "log_level: INFO",
    "log_level: warn",
    "log_level: loud",
    "log_level: ${L:-info}",
    "enable_pages: true",
    "enable_pages: 'False'",
    "enable_pages: loopback",
    "enable_pages: maybe",
    "enable_pages: yes",
    "listen: [':9399']",
    "listen: ':9399'",
    "listen: {a: b}",
    "listen: [~]",
    "target_label: site",
    "target_label: {}",
    "http: ~",
    "http: x",
    "http: {idle_timeout: 5m}",
    "http: {idle_timeout: 5m, x: 1}",
    "labels_too_long: truncate",
];

#[test]
fn schema_and_load_agree_on_values() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        |value: &str| format!("databases: {{a: {{driver: sqlite, database: a.db}}}}\nexporter:\n  {value}\n");
    let instances: Vec<Value> = VALUES.iter().map(|value| parsed(&text(value)).expect("YAML")).collect();
    let mut wrong = Vec::new();
    for (value, faults) in VALUES.iter().zip(validate(&schema("config"), &instances)) {
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, text(value)).unwrap();
        let loads = config::load(&path, &|_| None, &Drivers::built_in()).is_ok();
        if loads != faults.is_empty() {
            wrong.push(format!(
                "{value}: {}, the schema says {faults:?}",
                if loads { "loads" } else { "does not load" }
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_unknown_kind_of_file_is_refused_with_the_nearest() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sql-exporter")).args(["schema", "colector"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim(), "error: no file is of the kind \"colector\"; did you mean `collector`?");
}
