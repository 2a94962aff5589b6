//! The command line: words of the user → one command to run. The only room that writes to stdout and stderr
//! beside the log.
//!
//! argh knows options on their own level only and no `--name=value`; [`arrange`] splits and reorders the words
//! first, so that the shared options work before and after the command.

use std::path::PathBuf;

use argh::FromArgs;

use crate::commands::settings::GlobalArgs;
use crate::commands::terminal::{Paint, TerminalText, Tint, message};
use crate::commands::{
    check, collect, health, packs, print_text, print_to_stderr, run, schema, test, try_query,
};
use crate::error::{Error, ErrorKind};

/// Runs SQL at scrape time and answers with Prometheus text. Without a command it serves; `--once` is `collect`.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help", "help"),
    example = "Serve what a file says, on its port:\n  {command_name} -c shop.yaml",
    example = "Print one page, without a server:\n  {command_name} -c shop.yaml --once"
)]
struct Line {
    /// configuration file (default: ./sql-exporter.yaml, then /etc/sql-exporter/config.yaml)
    #[argh(option, short = 'c')]
    config: Option<PathBuf>,

    /// address to listen on instead of the configured ones: host:port, :port or unix:PATH
    #[argh(option)]
    listen: Option<String>,

    /// error, warn, info, debug or trace
    #[argh(option)]
    log_level: Option<String>,

    /// text or json
    #[argh(option)]
    log_format: Option<String>,

    /// the command collect: one scrape to stdout
    #[argh(switch)]
    #[expect(dead_code, reason = "`arrange` reads it; here it stands for `--help`")]
    once: bool,

    /// print the version and leave
    #[argh(switch)]
    version: bool,

    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Run(run::Options),
    Collect(collect::Options),
    Test(test::Options),
    Check(check::Options),
    Try(try_query::Options),
    Packs(packs::Options),
    Schema(schema::Options),
    Health(health::Options),
}

const COMMANDS: &[&str] = &["run", "collect", "test", "check", "try", "packs", "schema", "health"];
const LATER: &[&str] = &["import"];
const SHARED: &[&str] = &["-c", "--config", "--listen", "--log-level", "--log-format"];

/// Runs what the words say and gives the exit code: 0 good, 1 something failed, 2 wrong configuration or words.
#[must_use]
pub fn run(words: &[String]) -> u8 {
    match arrange(words).and_then(|words| parse(&words)) {
        Ok(Parsed::Said(text)) => {
            outcome(print_text(&TerminalText::document(&text)).map(|()| 0).map_err(|error| vec![error]))
        }
        Ok(Parsed::Command(shared, command)) => outcome(match command {
            Command::Run(options) => run::run(&shared, &options),
            Command::Collect(options) => collect::run(&shared, &options),
            Command::Test(options) => test::run(&shared, &options),
            Command::Check(options) => check::run(&shared, &options),
            Command::Try(options) => try_query::run(&shared, &options),
            Command::Packs(options) => packs::run(&options),
            Command::Schema(options) => schema::run(&options),
            Command::Health(options) => health::run(&shared, &options),
        }),
        Err(error) => outcome(Err(vec![error])),
    }
}

fn outcome(result: Result<u8, Vec<Error>>) -> u8 {
    let errors = match result {
        Ok(code) => return code,
        Err(errors) => errors,
    };
    for error in &errors {
        print_to_stderr(&message("error", Tint::Bad, error, Paint::none(), None));
    }
    if errors.iter().any(|error| error.kind() == ErrorKind::Config) { 2 } else { 1 }
}

enum Parsed {
    Said(String),
    Command(Box<GlobalArgs>, Command),
}

fn parse(words: &[String]) -> Result<Parsed, Error> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words = match Line::from_args(&["sql-exporter"], &words) {
        Ok(words) => words,
        Err(early) if early.status.is_ok() => return Ok(Parsed::Said(early.output)),
        Err(early) => return Err(Error::config(sentence(&early.output))),
    };
    if words.version {
        return Ok(Parsed::Said(format!("sql-exporter {}\n", crate::VERSION)));
    }
    let Line { config, listen, log_level, log_format, command, .. } = words;
    let command = command.unwrap_or(Command::Run(run::Options {}));
    Ok(Parsed::Command(Box::new(GlobalArgs { config, listen, log_level, log_format }), command))
}

/// What argh says on several lines, on one.
fn sentence(lines: &str) -> String {
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Splits `--name=value`, turns `--once` into the command `collect` and puts the shared options first.
fn arrange(words: &[String]) -> Result<Vec<String>, Error> {
    let mut split = Vec::new();
    for word in words {
        match word.split_once('=') {
            // SQL may begin with a comment, `--`, and hold a `=`.
            Some((name, value)) if name.starts_with("--") && !name.contains(char::is_whitespace) => {
                split.extend([name.to_owned(), value.to_owned()]);
            }
            _ => split.push(word.clone()),
        }
    }
    let (mut shared, mut rest) = (Vec::new(), Vec::new());
    let mut once = false;
    let mut words = split.into_iter();
    while let Some(word) = words.next() {
        if SHARED.contains(&word.as_str()) {
            let value = words.next().ok_or_else(|| Error::config(format!("{word} needs a value")))?;
            shared.extend([word, value]);
        } else if word == "--once" {
            once = true;
        } else {
            rest.push(word);
        }
    }
    place_command(&mut rest, once)?;
    shared.append(&mut rest);
    Ok(shared)
}

fn place_command(rest: &mut Vec<String>, once: bool) -> Result<(), Error> {
    let command = rest.first().filter(|word| !word.starts_with('-')).cloned();
    match command.as_deref() {
        Some(word) if LATER.contains(&word) => {
            Err(Error::config(format!("the command `{word}` is not built yet")))
        }
        Some("collect") | None if once => {
            if command.is_none() {
                rest.insert(0, "collect".to_owned());
            }
            Ok(())
        }
        Some(word) if once => {
            Err(Error::config(format!("--once is the command `collect`: it does not go with `{word}`")))
        }
        Some(word) if !COMMANDS.contains(&word) && word != "help" => {
            let near = crate::yaml::keys::nearest(word, COMMANDS.iter().copied());
            let error = Error::config(format!("unknown command `{word}`"));
            Err(match near {
                Some(near) => error.with_hint(format!("did you mean `{near}`?")),
                None => error.with_hint(format!("one of: {}", COMMANDS.join(", "))),
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(line: &str) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        arrange(&words).map_or_else(|error| format!("error: {error}"), |words| words.join(" "))
    }

    #[test]
    fn shared_options_work_before_and_after_the_command() {
        assert_eq!(arranged("collect --query a -c x.yaml"), "-c x.yaml collect --query a");
        assert_eq!(
            arranged("--config=x.yaml run --log-level=debug"),
            "--config x.yaml --log-level debug run"
        );
    }

    #[test]
    fn sql_that_begins_with_a_comment_is_one_word() {
        let words = ["try", "--sql", "-- a\nSELECT 1=1", "--rows=3"].map(str::to_owned);
        let expected = ["try", "--sql", "-- a\nSELECT 1=1", "--rows", "3"].map(str::to_owned);
        assert_eq!(arrange(&words), Ok(expected.to_vec()));
    }

    #[test]
    fn once_is_the_command_collect() {
        assert_eq!(arranged("--once -c x.yaml --query a"), "-c x.yaml collect --query a");
        assert_eq!(arranged("-c x.yaml --once collect"), "-c x.yaml collect");
        assert!(arranged("packs --once").starts_with("error: --once"));
    }

    #[test]
    fn later_and_unknown_commands_are_refused_by_name() {
        assert_eq!(arranged("import"), "error: the command `import` is not built yet");
        assert_eq!(arranged("collct"), "error: unknown command `collct`; did you mean `collect`?");
        assert_eq!(arranged("-c"), "error: -c needs a value");
    }
}
