//! What shells and `man` know of the command line: the files of `examples/shell/`, written from what `--help` declares.
//! `make docs` writes them; these tests compare them, and complete with them.

mod bash;
mod fish;
mod man;
mod zsh;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};
use sql_exporter::cli::declarations;
use sql_exporter::config::packs;
use sql_exporter::metric::lint_off::LINTS;

/// What follows an option, or is the argument of a command.
enum Values {
    /// No value: a switch.
    None,
    /// Only the user knows: a query, an address.
    Any,
    Files,
    Words(Vec<&'static str>),
}

/// Options of the command `collect` that its own level does not declare.
const SHARED: [&str; 4] = ["--config", "--listen", "--log-level", "--log-format"];

/// The dialects of `import`, which `--help` has in a sentence only.
const DIALECTS: [&str; 8] = [
    "auto",
    "burningalchemist",
    "export-sql",
    "justwatch",
    "pg_exporter",
    "postgres_exporter",
    "psql-query-exporter",
    "query-exporter",
];

/// Words that `--help` has in sentences only.
fn values(command: &str, flag: &FlagInfo<'_>) -> Values {
    if matches!(flag.kind, FlagInfoKind::Switch) {
        return Values::None;
    }
    match (command, flag.long) {
        (_, "--config" | "--output") => Values::Files,
        ("import", "--from") => Values::Words(DIALECTS.to_vec()),
        (_, "--log-level") => Values::Words(vec!["error", "warn", "info", "debug", "trace", "off"]),
        ("collect", "--format") => Values::Words(vec!["text", "openmetrics"]),
        (_, "--log-format" | "--format") => Values::Words(vec!["text", "json"]),
        (_, "--rule") => {
            Values::Words(LINTS.iter().map(|lint| lint.code).chain(std::iter::once("list")).collect())
        }
        _ => Values::Any,
    }
}

/// The argument of a command, if it has one.
fn argument(command: &CommandInfoWithArgs) -> Values {
    match (command.name, command.positionals) {
        (_, []) => Values::None,
        ("import", _) => Values::Files,
        ("packs", _) => Values::Words(packs::names()),
        ("schema", _) => Values::Words(vec!["config", "collector"]),
        _ => Values::Any,
    }
}

/// All options and commands.
struct Declared {
    all: CommandInfoWithArgs,
}

impl Declared {
    fn new() -> Self {
        Declared { all: declarations() }
    }

    fn options(&self) -> impl Iterator<Item = &FlagInfo<'static>> {
        self.all.flags.iter().filter(|flag| !flag.hidden)
    }

    /// The options that stand before and after a command.
    fn shared(&self) -> impl Iterator<Item = &FlagInfo<'static>> {
        self.options().filter(|flag| SHARED.contains(&flag.long))
    }

    fn commands(&self) -> impl Iterator<Item = &CommandInfoWithArgs> {
        self.all.commands.iter().map(|command| &command.command)
    }

    /// The options of a command, its own first.
    fn options_of<'d>(
        &'d self,
        command: &'d CommandInfoWithArgs,
    ) -> impl Iterator<Item = &'d FlagInfo<'static>> {
        command.flags.iter().filter(|flag| !flag.hidden).chain(self.shared())
    }
}

fn is_repeatable(flag: &FlagInfo<'_>) -> bool {
    flag.optionality == Optionality::Repeating
}

/// The first sentence, or all of a description that has only one.
fn sentence(text: &str) -> &str {
    let text = text.lines().next().unwrap_or_default();
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shell").join(name)
}

#[test]
fn the_manual_page_and_the_completions_are_what_the_command_line_declares() {
    let declared = Declared::new();
    let files = [
        ("sql-exporter.1", man::page(&declared)),
        ("sql-exporter.bash", bash::script(&declared)),
        ("_sql-exporter", zsh::script(&declared)),
        ("sql-exporter.fish", fish::script(&declared)),
    ];
    for (name, text) in files {
        if std::env::var_os("TEST_BLESS").is_some() {
            std::fs::write(file(name), &text).expect("written");
        }
        let found = std::fs::read_to_string(file(name)).unwrap_or_default();
        assert!(found == text, "examples/shell/{name} is old: run make docs");
    }
}

#[test]
fn every_word_that_completes_is_one_the_command_line_takes() {
    let declared = Declared::new();
    for flag in SHARED {
        assert!(declared.options().any(|known| known.long == flag), "{flag}");
    }
    let program = |arguments: &[&str]| {
        let done =
            Command::new(env!("CARGO_BIN_EXE_sql-exporter")).args(arguments).output().expect("it runs");
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    for word in ["config", "collector"] {
        assert_eq!(program(&["schema", word]), "", "schema {word}");
    }
    // An unknown word is reported as such; known ones only miss the file.
    for command in declared.commands() {
        for flag in declared.options_of(command) {
            let Values::Words(words) = values(command.name, flag) else { continue };
            for word in words.into_iter().filter(|_| flag.long != "--rule") {
                let said = program(&[command.name, "-c", "/nowhere.yaml", flag.long, word]);
                assert!(
                    !said.contains(&format!("\"{word}\"")),
                    "{} {} {word}: {said}",
                    command.name,
                    flag.long
                );
            }
        }
    }
}

/// What bash proposes for the last word.
fn completed(words: &[&str]) -> Vec<String> {
    let run = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _sql_exporter 2>/dev/null; \
               printf '%s\\n' \"${COMPREPLY[@]}\"";
    let done =
        Command::new("bash").args(["-c", run, "bash"]).arg(file("sql-exporter.bash")).args(words).output();
    let said = String::from_utf8(done.expect("bash runs").stdout).expect("text");
    said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_their_words() {
    assert_eq!(completed(&["sql-exporter", "col"]), ["collect"]);
    assert_eq!(completed(&["sql-exporter", "-c", "x.yaml", "col"]), ["collect"]);
    assert_eq!(completed(&["sql-exporter", "collect", "--format", "o"]), ["openmetrics"]);
    assert_eq!(completed(&["sql-exporter", "test", "--format", "j"]), ["json"]);
    assert_eq!(completed(&["sql-exporter", "--log-level", "w"]), ["warn"]);
    assert_eq!(completed(&["sql-exporter", "check", "--conn"]), ["--connect"]);
    assert_eq!(completed(&["sql-exporter", "packs", "postgres/lo"]), ["postgres/locks"]);
    assert_eq!(completed(&["sql-exporter", "check", "--listen", ""]), [""; 0]);
    let files = completed(&["sql-exporter", "-c", &format!("{}/Cargo.t", env!("CARGO_MANIFEST_DIR"))]);
    assert_eq!(files, [concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
}

#[test]
fn shells_and_man_read_the_files() {
    let checks: [(&str, &[&str], &str); 5] = [
        ("bash", &["-n"], "sql-exporter.bash"),
        ("shellcheck", &["--shell=bash"], "sql-exporter.bash"),
        ("zsh", &["-n"], "_sql-exporter"),
        ("fish", &["--no-execute"], "sql-exporter.fish"),
        ("man", &["--warnings", "--local-file", "--encoding=UTF-8"], "sql-exporter.1"),
    ];
    for (program, options, name) in checks {
        let run = Command::new(program).args(options).arg(file(name)).env("MANROFFSEQ", "").output();
        match run {
            Ok(done) => {
                assert!(done.status.success(), "{program}: {done:?}");
                assert_eq!(String::from_utf8_lossy(&done.stderr), "", "{program}");
            }
            // Not eprintln: libtest hides what a test that passes prints.
            Err(_) => writeln!(std::io::stderr(), "left out: {program} is not installed").expect("stderr"),
        }
    }
}
