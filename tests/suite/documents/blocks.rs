//! The blocks of the documents: shell commands are named as they are, and run where they are marked `sh run`; YAML is
//! YAML, and loads where it is a configuration or an included file.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_yaml::Value;

use super::{Block, Page, pages, quoted, read, root};
use crate::exporter::{Setup, assert_clean, program};
use crate::process::{folder, mortal, variable};
use crate::servers::Postgres;
use crate::servers::own::OwnPostgres;

/// Options before or after any command.
const SHARED: &[&str] =
    &["-c", "--config", "--listen", "--log-level", "--log-format", "--once", "--version", "--help"];

/// The help of each command, by its name; that of the program by "".
fn helps() -> BTreeMap<String, String> {
    let help = |args: &[&str]| Setup::empty().args(args).output().text().to_owned();
    let main = help(&["--help"]);
    let list =
        main.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    let named = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = named.filter_map(|line| line.split_whitespace().next());
    let mut helps: BTreeMap<String, String> =
        names.map(|name| (name.to_owned(), help(&[name, "--help"]))).collect();
    helps.insert(String::new(), main.clone());
    helps
}

/// What is wrong with a call of the exporter: an unknown command or option.
fn call_faults(helps: &BTreeMap<String, String>, words: &[&str]) -> Option<String> {
    let mut words = words.iter().copied().peekable();
    let mut command = String::new();
    while let Some(word) = words.next() {
        let option = word.split(['=', '|']).next().unwrap_or_default();
        if SHARED.contains(&option) {
            if !["--once", "--version", "--help"].contains(&option) {
                words.next();
            }
        } else if option.starts_with('-') {
            let help = &helps[&command];
            // `-o, --output` is one line.
            if ![format!("  {option} "), format!("  {option}, "), format!(", {option} ")]
                .iter()
                .any(|line| help.contains(line))
            {
                return Some(format!("`{command}` has no option {option}"));
            }
        } else if command.is_empty() && word.chars().all(|c| c.is_ascii_lowercase()) {
            if !helps.contains_key(word) {
                return Some(format!("there is no command {word}"));
            }
            word.clone_into(&mut command);
        }
    }
    None
}

/// What is wrong with one command of a shell block or in backquotes.
fn command_fault(helps: &BTreeMap<String, String>, line: &str) -> Option<String> {
    let words: Vec<&str> =
        line.split_whitespace().take_while(|word| !["#", "|", ">"].contains(word)).collect();
    let is_setting = |word: &&&str| word.contains('=') && !word.starts_with('-');
    let settings = words.iter().take_while(is_setting).count();
    match words[settings..] {
        ["make", target, ..] => {
            let rule = format!("\n{target}:");
            (!read("Makefile").contains(&rule)).then(|| format!("the Makefile has no target {target}"))
        }
        ["sql-exporter", ref arguments @ ..] => call_faults(helps, arguments),
        // A script has no suffix; files and folders are another test's.
        [path, ref arguments @ ..]
            if path.starts_with("tests/") && !path.ends_with('/') && !path.contains('.') =>
        {
            let missing = !root().join(path).is_file();
            missing
                .then(|| format!("{path} is not there"))
                .or_else(|| command_fault(helps, &arguments.join(" ")))
        }
        _ => None,
    }
}

/// The commands of a shell block, without what belongs to a quoted text or another line's end.
fn commands(block: &Block) -> impl Iterator<Item = &str> {
    block.text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty())
}

fn is_shell(block: &Block) -> bool {
    block.info == "sh" || block.info == "sh run"
}

#[test]
fn what_shell_blocks_and_commands_in_backquotes_name_is_there() {
    let helps = helps();
    let (mut count, mut faults) = (0, Vec::new());
    for page in pages().iter().filter(|page| page.name != "CHANGELOG.md") {
        let mut check = |line: usize, command: &str| {
            count += 1;
            if let Some(fault) = command_fault(&helps, command) {
                faults.push(format!("{}:{line}: {command}: {fault}", page.name));
            }
        };
        for (line, text) in page.prose() {
            quoted(text).for_each(|command| check(line, command));
        }
        for block in page.blocks() {
            if is_shell(&block) {
                commands(&block).for_each(|command| check(block.line, command));
            }
            let shown = block.text.lines().filter_map(|line| line.strip_prefix("$ "));
            shown.for_each(|command| check(block.line, command));
        }
    }
    assert!(count > 500, "{count}");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn commands_and_options_that_are_not_there_are_found() {
    let helps = helps();
    let fault = |line| command_fault(&helps, line).unwrap_or_default();
    assert_eq!(fault("make nothing"), "the Makefile has no target nothing");
    assert_eq!(fault("A=1 sql-exporter chek -c x.yaml"), "there is no command chek");
    assert_eq!(fault("sql-exporter -c x.yaml check --conect"), "`check` has no option --conect");
    assert_eq!(fault("tests/ruin cargo test"), "tests/ruin is not there");
    assert_eq!(fault("tests/run make nothing"), "the Makefile has no target nothing");
    assert_eq!(fault("sql-exporter collect --format text|openmetrics --timeout=5s # -x"), "");
}

#[test]
fn every_shell_block_is_bash() {
    let mut count = 0;
    for page in pages() {
        for block in page.blocks().iter().filter(|block| is_shell(block)) {
            count += 1;
            let done = Command::new("bash").args(["-n", "-c", &block.text]).output().expect("bash runs");
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success() && said.is_empty(), "{}:{}: {said}", page.name, block.line);
        }
    }
    assert!(count >= 15, "{count}");
}

/// The files that a page shows: YAML whose first line is a comment with a file name.
fn write_files(page: &Page, into: &Path) {
    for block in page.blocks().iter().filter(|block| block.info == "yaml") {
        let name = block.text.lines().next().and_then(|line| line.strip_prefix("# "));
        if let Some(name) = name.filter(|name| name.ends_with(".yaml") && !name.contains([' ', '/', ':'])) {
            std::fs::write(into.join(name), &block.text).expect("written");
        }
    }
}

/// Runs the blocks of a page that are marked for it, in order, in a folder with the page's files.
pub(super) fn run(page: &Page, place: &Path, variables: &[(&str, String)]) {
    write_files(page, place);
    let blocks = page.blocks();
    let script: String =
        blocks.iter().filter(|block| block.info == "sh run").map(|block| block.text.as_str()).collect();
    assert!(!script.is_empty(), "{} has no block to run", page.name);
    run_script(&script, place, variables);
}

/// Runs a script of bash in a folder. It finds the exporter, and no variable but these.
pub(super) fn run_script(script: &str, place: &Path, variables: &[(&str, String)]) {
    let programs = folder();
    std::os::unix::fs::symlink(program(), programs.path().join("sql-exporter")).expect("a link");
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut bash = mortal(None, "bash");
    bash.args(["-eu", "-o", "pipefail", "-c", script]).current_dir(place).stdin(Stdio::null());
    bash.env_clear().env("PATH", &path).envs(variables.iter().map(|(name, value)| (name, value)));
    let output = bash.output().expect("bash runs");
    assert_clean("stdout", &output.stdout);
    assert_clean("stderr", &output.stderr);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}\n{}\n{out}{err}", output.status);
}

/// Pages whose blocks run without a server.
const WITHOUT_SERVER: [&str; 2] = ["docs/command-line.md", "docs/packs.md"];
/// Pages whose blocks run on a fresh server; [`super::getting_started`] runs the second.
const ON_A_SERVER: [&str; 2] = ["README.md", "docs/getting-started.md"];

#[test]
fn blocks_that_need_no_server_run() {
    WITHOUT_SERVER.map(Page::read).iter().for_each(|page| run(page, folder().path(), &[]));
}

#[test]
fn the_first_steps_of_the_readme_work_on_a_fresh_server() {
    let server = OwnPostgres::start(&[]);
    let Postgres { port, password, .. } = server.access();
    let variables = [
        ("DB_HOST", "127.0.0.1".to_owned()),
        ("DB_PORT", port.to_string()),
        ("DB_PASSWORD", password.clone()),
    ];
    run(&Page::read(ON_A_SERVER[0]), folder().path(), &variables);
}

#[test]
fn no_other_page_has_blocks_to_run() {
    let runs = |page: &Page| page.blocks().iter().any(|block| block.info == "sh run");
    let found: Vec<String> = pages().into_iter().filter(runs).map(|page| page.name).collect();
    let mut expected = [WITHOUT_SERVER, ON_A_SERVER].concat();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// A configuration that gives a fragment of one what it lacks, and the files beside it. `None` for YAML of another kind.
fn completed(text: &str) -> Option<(String, Vec<(&'static str, String)>)> {
    let Ok(Value::Mapping(keys)) = serde_yaml::from_str::<Value>(text) else { return None };
    let has = |key: &str| keys.contains_key(key);
    if has("databases") || has("target_files") {
        return Some((text.to_owned(), vec![]));
    }
    if has("queries") {
        let config = "databases: {a: {driver: sqlite, database: a.db}}\ninclude: [part.yaml]\n";
        return Some((config.to_owned(), vec![("part.yaml", text.to_owned())]));
    }
    if !["include", "defaults", "overrides", "exporter"].iter().any(|key| has(key)) {
        return None;
    }
    let include = if has("include") { "" } else { "include: ['builtin:postgres/*']\n" };
    let targets =
        "databases: {a: {driver: postgres, host: localhost}, b: {driver: sqlite, database: a.db}}\n";
    Some((format!("{targets}{include}{text}"), vec![]))
}

#[test]
fn every_yaml_block_is_yaml_and_loads_where_it_is_configuration() {
    let mut count = 0;
    for (place, text) in super::yaml_blocks() {
        let value: Result<Value, _> = serde_yaml::from_str(&text);
        assert!(value.is_ok(), "{place}: {value:?}");
        let Some((config, files)) = completed(&text) else { continue };
        count += 1;
        let setup = Setup::empty().file("config.yaml", &config).env("DB_PASSWORD", "x");
        let setup = files.iter().fold(setup, |setup, (name, text)| setup.file(name, text));
        let output = setup.args(&["check", "-c", "config.yaml"]).output();
        assert!(output.code() < 2, "{place}:\n{}{}", output.text(), output.errors());
        assert!(!output.text().contains("FAIL "), "{place}: its tests fail:\n{}", output.text());
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn prometheus_takes_every_scrape_configuration() {
    let scraping: Vec<_> =
        super::yaml_blocks().into_iter().filter(|(_, text)| text.contains("scrape_configs:")).collect();
    assert!(scraping.len() >= 2);
    for (place, text) in scraping {
        let file = folder();
        let path = file.path().join("prometheus.yml");
        std::fs::write(&path, text).expect("written");
        let promtool = Command::new(variable("TEST_PROMTOOL")).args(["check", "config"]).arg(&path).output();
        let output = promtool.expect("promtool runs");
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
