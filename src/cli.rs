//! The command line: arguments → one command → exit code.
//!
//! argh accepts options on their own level only, and no `--name=value`; [`arrange`] splits and reorders the arguments
//! first, so that the shared options work before and after the command.

use std::ffi::OsString;
use std::path::PathBuf;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs, SubCommands};

use crate::commands::settings::GlobalArgs;
use crate::commands::terminal::{BAD, TerminalText, message};
use crate::commands::{
    CommandErrors, CommandResult, check, collect, demo, health, import, init, nearest_or_all, packs,
    print_stderr, print_stdout, run, schema, test, try_query,
};
use crate::error::{Error, ErrorKind};
use crate::logging;
use crate::yaml::keys::nearest;

/// Runs SQL at scrape time and serves the results as Prometheus metrics. Without a command it is `run`; `--once` is `collect`.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    help_triggers("-h", "--help", "help"),
    example = "Serve the metrics of a configuration file:\n  {command_name} -c shop.yaml",
    example = "Print the metrics once, without a server:\n  {command_name} -c shop.yaml --once"
)]
struct Arguments {
    /// configuration file (default: ./sql-exporter.yaml, then /etc/sql-exporter/config.yaml)
    #[argh(option, short = 'c')]
    config: Option<PathBuf>,

    /// address to listen on instead of the configured ones: host:port, :port, unix:PATH or systemd
    #[argh(option)]
    listen: Option<String>,

    /// error, warn, info, debug, trace or off
    #[argh(option)]
    log_level: Option<String>,

    /// text or json
    #[argh(option)]
    log_format: Option<String>,

    /// the same as the command collect: one scrape to stdout
    #[argh(switch)]
    #[expect(dead_code, reason = "`arrange` reads it; here it stands for `--help`")]
    once: bool,

    /// print the version and exit
    #[argh(switch)]
    version: bool,

    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum Command {
    Run(run::RunArgs),
    Collect(collect::CollectArgs),
    Test(test::TestArgs),
    Check(check::CheckArgs),
    Try(try_query::TryArgs),
    Packs(packs::PacksArgs),
    Schema(schema::SchemaArgs),
    Health(health::HealthArgs),
    Init(init::InitArgs),
    Import(import::ImportArgs),
    Demo(demo::DemoArgs),
}

const SHARED: &[&str] = &["-c", "--config", "--listen", "--log-level", "--log-format"];

/// All commands and options as `--help` shows them: the manual page and the shells' completions are written from it.
pub fn declarations() -> CommandInfoWithArgs {
    Arguments::get_args_info()
}

/// Runs the command and returns the exit code: 0 good, 1 something failed, 2 a wrong configuration or wrong arguments.
pub fn run(args: impl Iterator<Item = OsString>) -> u8 {
    let CommandErrors(errors) = match texts(args).and_then(|args| execute(&args)) {
        Ok(code) => return code,
        Err(errors) => errors,
    };
    if !logging::end(&errors) {
        for error in &errors {
            print_stderr(&message("error", BAD, error, None));
        }
    }
    if errors.iter().any(|error| error.kind() == ErrorKind::Config) { 2 } else { 1 }
}

/// Another text than the one that was meant could be the name of another file.
fn texts(args: impl Iterator<Item = OsString>) -> Result<Vec<String>, CommandErrors> {
    let text = |arg: OsString| {
        arg.into_string().map_err(|arg| {
            let error = Error::config(format!("the argument {:?} is not UTF-8", arg.to_string_lossy()));
            error.with_hint("change into a folder whose path is not, and name files from there").into()
        })
    };
    args.map(text).collect()
}

fn execute(args: &[String]) -> CommandResult {
    let args = arrange(args)?;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let args = match Arguments::from_args(&["sql-exporter"], &args) {
        Ok(args) => args,
        Err(early) if early.status.is_ok() => return print(&early.output),
        Err(early) => {
            let message = on_one_line(&early.output);
            let hint = hint_for_file(&message).or_else(|| hint_for_option(&message, &args));
            return Err(Error::config(message).with_hint_if_any(hint).into());
        }
    };
    let Arguments { config, listen, log_level, log_format, version, command, .. } = args;
    if version {
        return print(&format!("sql-exporter {}\n", crate::VERSION));
    }
    let global = GlobalArgs { config, listen, log_level, log_format };
    match command.unwrap_or(Command::Run(run::RunArgs {})) {
        Command::Run(options) => run::run(&global, &options),
        Command::Collect(options) => collect::run(&global, &options),
        Command::Test(options) => test::run(&global, &options),
        Command::Check(options) => check::run(&global, &options),
        Command::Try(options) => try_query::run(&global, &options),
        Command::Packs(options) => packs::run(&options),
        Command::Schema(options) => schema::run(&options),
        Command::Health(options) => health::run(&global, &options),
        Command::Init(options) => init::run(&global, &options),
        Command::Import(options) => import::run(&global, &options),
        Command::Demo(options) => demo::run(&global, &options),
    }
}

fn print(text: &str) -> CommandResult {
    print_stdout(&TerminalText::document(text))?;
    Ok(0)
}

/// What to write where a file stands alone that is likely the configuration.
fn hint_for_file(text: &str) -> Option<String> {
    let is_file = [".yaml", ".yml"].iter().any(|end| text.ends_with(end));
    is_file.then(|| "write `-c FILE` for a configuration".to_owned())
}

/// The options nearest to one that is misspelt.
fn hint_for_option(message: &str, args: &[&str]) -> Option<String> {
    let option = message.strip_prefix("Unrecognized argument: ").filter(|option| option.starts_with("--"))?;
    let all = declarations();
    let command = all.commands.iter().find(|command| args.contains(&command.name));
    let flags = command.map_or(all.flags, |command| command.command.flags).iter();
    let known: Vec<&str> = flags.map(|flag| flag.long).chain(SHARED.iter().copied()).collect();
    nearest(option, known).map(|near| format!("did you mean `{near}`?"))
}

/// argh's message, which has several lines.
fn on_one_line(lines: &str) -> String {
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Splits `--name=value`, turns `--once` into the command `collect` and puts the shared options first.
fn arrange(args: &[String]) -> Result<Vec<String>, Error> {
    let mut split = Vec::new();
    for arg in args {
        match arg.split_once('=') {
            // SQL may begin with a comment, `--`, and hold a `=`.
            Some((name, value)) if name.starts_with("--") && !name.contains(char::is_whitespace) => {
                split.extend([name.to_owned(), value.to_owned()]);
            }
            _ => split.push(arg.clone()),
        }
    }
    let (mut shared, mut rest) = (Vec::new(), Vec::new());
    let mut once = false;
    let mut args = split.into_iter();
    while let Some(arg) = args.next() {
        if SHARED.contains(&arg.as_str()) {
            let value = args.next().ok_or_else(|| Error::config(format!("{arg} needs a value")))?;
            shared.extend([arg, value]);
        } else if arg == "--once" {
            once = true;
        } else if arg == "--version" {
            shared.push(arg);
        } else {
            rest.push(arg);
        }
    }
    let command = rest.first().filter(|arg| !arg.starts_with('-')).cloned();
    check_command(command.as_deref(), once)?;
    if once && command.is_none() {
        rest.insert(0, "collect".to_owned());
    }
    shared.append(&mut rest);
    Ok(shared)
}

fn check_command(command: Option<&str>, once: bool) -> Result<(), Error> {
    match command {
        None => Ok(()),
        Some(name) if once && name != "collect" => {
            Err(Error::config(format!("--once is the command `collect`: it does not go with `{name}`")))
        }
        Some("help") => Ok(()),
        Some(name) => {
            let known: Vec<&str> = Command::COMMANDS.iter().map(|command| command.name).collect();
            if known.contains(&name) {
                return Ok(());
            }
            let hint = hint_for_file(name).unwrap_or_else(|| nearest_or_all(name, &known));
            Err(Error::config(format!("unknown command `{name}`")).with_hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(line: &str) -> String {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        arrange(&args).map_or_else(|error| format!("error: {error}"), |args| args.join(" "))
    }

    #[test]
    fn shared_options_work_before_and_after_the_command() {
        assert_eq!(arranged("collect --query a -c x.yaml"), "-c x.yaml collect --query a");
        assert_eq!(
            arranged("--config=x.yaml run --log-level=debug"),
            "--config x.yaml --log-level debug run"
        );
        assert_eq!(arranged("check --strict --version"), "--version check --strict");
    }

    #[test]
    fn sql_that_begins_with_a_comment_is_one_word() {
        let args = ["try", "--sql", "-- a\nSELECT 1=1", "--rows=3"].map(str::to_owned);
        let expected = ["try", "--sql", "-- a\nSELECT 1=1", "--rows", "3"].map(str::to_owned);
        assert_eq!(arrange(&args), Ok(expected.to_vec()));
    }

    #[test]
    fn once_is_the_command_collect() {
        assert_eq!(arranged("--once -c x.yaml --query a"), "-c x.yaml collect --query a");
        assert_eq!(arranged("-c x.yaml --once collect"), "-c x.yaml collect");
        assert!(arranged("packs --once").starts_with("error: --once"));
    }

    #[test]
    fn an_option_that_is_misspelt_brings_the_nearest_of_its_command() {
        let hint = |option: &str, args: &[&str]| {
            hint_for_option(&format!("Unrecognized argument: {option}"), args).unwrap_or_default()
        };
        assert_eq!(hint("--strit", &["check", "--strit"]), "did you mean `--strict`?");
        assert_eq!(hint("--strit", &["packs", "--strit"]), "");
        assert_eq!(hint("--lisen", &["--lisen", ":1"]), "did you mean `--listen`?");
        assert_eq!(hint("--confg", &["health", "--confg"]), "did you mean `--config`?");
        assert_eq!(hint("word", &["check", "word"]), "");
    }

    #[test]
    fn unknown_commands_are_refused_by_name() {
        assert_eq!(arranged("collct"), "error: unknown command `collct`; did you mean `collect`?");
        assert_eq!(arranged("-c"), "error: -c needs a value");
        let expected = "error: unknown command `a.yml`; write `-c FILE` for a configuration";
        assert_eq!(arranged("a.yml"), expected);
    }
}
