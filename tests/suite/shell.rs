//! What shells and `man` know of the command line: the files of `examples/shell/`, written from what `--help` declares.
//! `make docs` writes them; these tests compare them, and complete with them.

mod bash;
mod fish;
mod man;
mod zsh;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};
use sql_exporter::cli::declarations;
use sql_exporter::config::packs;
use sql_exporter::metric::lint_off::LINTS;

use crate::process::{folder, is_complete, mortal, poll};

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
    // What --help shows can be copied from the page as well.
    let page = man::page(&declared);
    assert!(
        page.contains("exporter:${DB_PASSWORD}@") && page.contains(".RI [ URL \" .\\|.\\|.]\"\n"),
        "{page}"
    );
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

/// A command line, and what the Tab key makes of it.
const COMPLETED: [(&str, &str); 17] = [
    ("col", "collect "),
    ("-c x.yaml col", "-c x.yaml collect "),
    ("--listen=:9400 col", "--listen=:9400 collect "),
    ("--log-level w", "--log-level warn "),
    ("--log-format=j", "--log-format=json "),
    ("-c Cargo.t", "-c Cargo.toml "),
    ("collect --format o", "collect --format openmetrics "),
    ("collect --format=o", "collect --format=openmetrics "),
    ("collect --query a --log-level w", "collect --query a --log-level warn "),
    ("test --format j", "test --format json "),
    ("check --conn", "check --connect "),
    ("check -c Cargo.t", "check -c Cargo.toml "),
    ("packs postgres/lo", "packs postgres/locks "),
    ("schema conf", "schema config "),
    ("import -o Cargo.t", "import -o Cargo.toml "),
    ("import --from just", "import --from justwatch "),
    ("import Cargo.t", "import Cargo.toml "),
];

/// A shell in a terminal of its own: Tab after a command line, then Ctrl-T, which writes the line to the file `line` and ends the shell.
fn typed(shell: &str, setup: &str, line: &str) -> Option<String> {
    let place = folder();
    let file = place.path().join("line");
    let mut terminal = mortal(None, "script");
    terminal.args(["--quiet", "--command", shell, "/dev/null"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    terminal.env("LINE", &file).env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut terminal = terminal.spawn().expect("script is part of bsdutils");
    let mut keys = terminal.stdin.take().expect("piped");
    write!(keys, "{setup}\nsql-exporter {line}\t\x14").expect("a shell that reads");
    let status = poll("the shell to end", Duration::from_secs(60), || terminal.try_wait().ok()?);
    drop(keys);
    assert!(status.success(), "{shell}: {status}");
    let text = std::fs::read_to_string(file).expect("the line");
    Some(text.strip_prefix("sql-exporter ")?.to_owned())
}

fn typed_in_bash(line: &str) -> Option<String> {
    let setup = "source examples/shell/sql-exporter.bash; finish() { printf %s \"$READLINE_LINE\" >\"$LINE\"; exit 0; }; \
                 bind -x '\"\\C-t\": finish'";
    typed("bash --norc --noprofile -i", setup, line)
}

fn typed_in_zsh(line: &str) -> Option<String> {
    let setup = "fpath=(examples/shell $fpath); autoload -Uz compinit; compinit -D -u; \
                 finish() { print -rn -- \"$BUFFER\" >\"$LINE\"; exit 0; }; zle -N finish; bindkey '^T' finish";
    typed("zsh -f -i", setup, line)
}

/// fish tells what it would complete the last word to.
fn typed_in_fish(line: &str) -> Option<String> {
    let script = "source examples/shell/sql-exporter.fish; complete -C $argv[1]";
    let done = Command::new("fish")
        .args(["--no-config", "-c", script, &format!("sql-exporter {line}")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("fish runs");
    let said = String::from_utf8(done.stdout).expect("text");
    let [found] = said.lines().collect::<Vec<_>>()[..] else { return None };
    let word = found.split('\t').next()?;
    let before = line.rsplit_once(' ').map_or(String::new(), |(before, _)| format!("{before} "));
    Some(format!("{before}{word} "))
}

/// What a shell makes of a command line; `None` where it proposes several words or none.
type Completion = fn(&str) -> Option<String>;

#[test]
fn shells_complete_commands_options_and_their_words() {
    let shells: [(&str, Completion); 3] =
        [("bash", typed_in_bash), ("zsh", typed_in_zsh), ("fish", typed_in_fish)];
    for (shell, typed) in
        shells.into_iter().filter(|(shell, _)| is_installed("script") && is_installed(shell))
    {
        for (line, expected) in COMPLETED {
            assert_eq!(typed(line).as_deref(), Some(expected), "{shell}: {line}");
        }
        // Only the user knows an address.
        assert!(typed("check --listen ").is_none_or(|line| line.trim_end() == "check --listen"), "{shell}");
    }
}

/// Whether a program can be had; `make test` installs all of them.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found || !is_complete(), "{program} is not installed");
    if !found {
        // Not eprintln: libtest hides what a test that passes prints.
        writeln!(std::io::stderr(), "left out: {program} is not installed").expect("stderr");
    }
    found
}

#[test]
fn shells_and_man_read_the_files() {
    let checks: [(&str, &[&str], &str); 6] = [
        ("bash", &["-n"], "sql-exporter.bash"),
        ("shellcheck", &["--shell=bash"], "sql-exporter.bash"),
        ("zsh", &["-n"], "_sql-exporter"),
        ("fish", &["--no-execute"], "sql-exporter.fish"),
        ("man", &["--warnings", "--local-file", "--encoding=UTF-8"], "sql-exporter.1"),
        ("mandoc", &["-Tlint", "-Wwarning"], "sql-exporter.1"),
    ];
    for (program, options, name) in checks.into_iter().filter(|(program, ..)| is_installed(program)) {
        let done = Command::new(program).args(options).arg(file(name)).env("MANROFFSEQ", "").output();
        let done = done.expect("it runs");
        assert!(done.status.success(), "{program}: {done:?}");
        assert_eq!(String::from_utf8_lossy(&done.stderr), "", "{program}");
    }
}
