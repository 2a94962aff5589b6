//! `init`: a first configuration for databases that exist. Connects to each, and writes what fits.
//!
//! `targets` reads the addresses (`address` takes the secrets out, `variables` keeps them, `names` makes names), `questions`
//! asks for one where none is named, on a terminal (`terminal_input`). `inspect/server_profile` connects. `file` writes the
//! text, with `example` and `grants`. The text is loaded as the exporter would load it before it becomes a file.

mod address;
mod example;
mod file;
mod grants;
mod names;
mod questions;
mod targets;
mod terminal_input;
mod variables;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use parking_lot::Mutex;

use self::file::Contents;
use self::targets::{NewTarget, TypedTarget};
use self::terminal_input::Terminal;
use self::variables::Variables;
use super::run::start::{self, SignalExit};
use super::settings::{GlobalArgs, process_environment};
use super::terminal::{Progress, TerminalText};
use super::test::failure_text;
use super::{CommandErrors, CommandResult, print_stderr, print_stderr_line, print_stdout};
use crate::config::Config;
use crate::config::target::TargetConfig;
use crate::deadline::Deadline;
use crate::driver::connection::password::PasswordSource;
use crate::error::{Error, Reason, Result};
use crate::inspect::runner::Runner;
use crate::inspect::server_profile::{self, ServerProfile};
use crate::plain_text::{counted, is_unsafe};

/// What `run` reads without `-c`.
const DEFAULT_FILE: &str = "sql-exporter.yaml";
/// Exit code of a signal: nothing is written.
const INTERRUPTED: i32 = 1;

/// Write a first configuration: connects to each database, and includes what fits it. Without a URL it asks.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "init",
    help_triggers("-h", "--help", "help"),
    example = "Write sql-exporter.yaml for a database; quotes keep the variable for the file:\n  {command_name} 'postgres://exporter:${{DB_PASSWORD}}@db.example/shop'",
    example = "For two databases, without a connection to them:\n  {command_name} mysql://exporter@db.example/shop sqlite:app.db --offline -o shop.yaml"
)]
pub struct InitArgs {
    /// the new file (default ./sql-exporter.yaml); one that exists is never overwritten
    #[argh(option, short = 'o')]
    output: Option<PathBuf>,

    /// do not connect: include what fits the driver
    #[argh(switch)]
    offline: bool,

    /// how long it may take to connect and ask (default 10s); a target's connect_timeout applies too
    #[argh(option, default = "Duration::from_secs(10)", from_str_fn(super::read_timeout))]
    timeout: Duration,

    /// the databases, a URL each; a password becomes a variable in the file
    #[argh(positional, arg_name = "url")]
    urls: Vec<String>,
}

/// Writes the file and prints what to do next.
///
/// # Errors
/// Wrong arguments, a file that exists, a database that cannot be reached: nothing is written then.
pub fn run(args: &GlobalArgs, options: &InitArgs) -> CommandResult {
    if args.config.is_some() {
        let error = Error::config("init writes a new file and reads none");
        return Err(error.with_hint("name the new file with -o FILE instead of -c").into());
    }
    let output = options.output.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    check_output(&output)?;
    let interrupt = Interrupt::start()?;
    let typed = typed_targets(options, &interrupt.terminal)?;
    let urls: Vec<&str> = typed.iter().map(|typed| typed.url.as_str()).collect();
    let mut variables = Variables::new(&urls, options.offline);
    let mut targets = targets::read(typed, &output, &mut variables)?;
    let Some((config, profiles)) = profiles(&mut targets, &output, &mut variables, options, &interrupt)?
    else {
        return Ok(1);
    };
    let known: Vec<(&NewTarget, &TargetConfig, &ServerProfile)> = targets
        .iter()
        .zip(&config.targets)
        .zip(&profiles)
        .map(|((target, config), profile)| (target, &**config, profile))
        .collect();
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let text = Contents { targets: &known, draft: &config, date }.text();
    let written = targets::load(&output, text.clone(), &variables)?;
    create(&output, &text)?;
    print_stderr_line(&summary(&output, &written));
    print_stdout(&next_steps(&output, &variables.missing(&file::entries(&targets))))?;
    Ok(0)
}

/// What a signal ends.
struct Interrupt {
    terminal: Terminal,
    /// The one at work.
    runner: Arc<Mutex<Runner>>,
    _exit: SignalExit,
}

impl Interrupt {
    /// At a signal the terminal is as it was, nothing runs in a server, and nothing is written.
    fn start() -> Result<Interrupt> {
        let (terminal, runner) = (Terminal::default(), Arc::<Mutex<Runner>>::default());
        let (silent, running) = (terminal.clone(), Arc::clone(&runner));
        let exit = start::exit_at_signal(move || {
            silent.restore();
            terminal_input::end_line();
            let runner = running.lock().clone();
            runner.stop();
            std::process::exit(INTERRUPTED);
        })?;
        Ok(Interrupt { terminal, runner, _exit: exit })
    }

    /// Does not return after a signal, whose thread ends the process.
    fn check(&self) {
        while self.runner.lock().is_stopped() {
            std::thread::park();
        }
    }
}

fn typed_targets(options: &InitArgs, terminal: &Terminal) -> Result<Vec<TypedTarget>, CommandErrors> {
    if !options.urls.is_empty() {
        let typed = options.urls.iter().map(|url| TypedTarget { url: url.clone(), password: None });
        return Ok(typed.collect());
    }
    if !Terminal::is_there() {
        let error = Error::config("no database is named, and there is no terminal to ask on");
        return Err(error
            .with_hint("name one: sql-exporter init postgres://exporter@db.example/shop")
            .into());
    }
    Ok(vec![questions::ask(terminal)?])
}

/// A configuration with all packs, and what is known about each of its targets. `None` where a target cannot be reached,
/// which is printed.
fn profiles(
    targets: &mut [NewTarget],
    output: &Path,
    variables: &mut Variables,
    options: &InitArgs,
    interrupt: &Interrupt,
) -> Result<Option<(Config, Vec<ServerProfile>)>, CommandErrors> {
    let config = targets::load(output, file::draft(targets), variables)?;
    if options.offline {
        let profiles =
            config.targets.iter().map(|target| ServerProfile::offline(target, file::is_native)).collect();
        return Ok(Some((config, profiles)));
    }
    let found = connect(&config, options.timeout, interrupt);
    let asked: Vec<bool> = config
        .targets
        .iter()
        .zip(&found)
        .map(|(target, found)| found.as_ref().is_err_and(|error| wants_password(target, error)))
        .collect();
    if !Terminal::is_there() || !asked.contains(&true) {
        return Ok(all_or_failures(config, found, options.timeout));
    }
    for (target, _) in targets.iter_mut().zip(asked).filter(|(_, is_asked)| *is_asked) {
        if let Some(password) = questions::ask_password(&interrupt.terminal, &target.name)? {
            target.set_password(password, variables);
        }
    }
    let config = targets::load(output, file::draft(targets), variables)?;
    let found = connect(&config, options.timeout, interrupt);
    Ok(all_or_failures(config, found, options.timeout))
}

fn connect(config: &Config, timeout: Duration, interrupt: &Interrupt) -> Vec<Result<ServerProfile>> {
    let runner = Runner::default();
    *interrupt.runner.lock() = runner.clone();
    let count = counted(config.targets.len(), "database", "databases");
    let progress = Progress::start(format!("connecting to {count}"));
    let show = |done| progress.show(format!("{done} of {count} asked"));
    let by = Deadline::within(timeout);
    let profiles = server_profile::run(&config.targets, file::is_native, &runner, by, show);
    drop(progress);
    interrupt.check();
    profiles
}

fn wants_password(target: &TargetConfig, error: &Error) -> bool {
    error.reason() == Reason::Auth && has_no_password(target)
}

fn has_no_password(target: &TargetConfig) -> bool {
    target.login().is_some_and(|login| match &login.password {
        PasswordSource::None => true,
        PasswordSource::Passfile(file) => !file.path.exists(),
        _ => false,
    })
}

fn all_or_failures(
    config: Config,
    found: Vec<Result<ServerProfile>>,
    timeout: Duration,
) -> Option<(Config, Vec<ServerProfile>)> {
    let mut failures = TerminalText::default();
    for (target, found) in config.targets.iter().zip(&found) {
        if let Err(error) = found {
            failures.append(failure_text(target, error, timeout));
            if wants_password(target, error) {
                failures.line(
                    "      here: as a variable of the URL, in quotes: 'postgres://USER:${DB_PASSWORD}@HOST/DATABASE'",
                );
            }
        }
    }
    let profiles: Result<Vec<ServerProfile>> = found.into_iter().collect();
    if let Ok(profiles) = profiles {
        return Some((config, profiles));
    }
    failures.line("nothing is written; with --offline, init writes a configuration without a connection");
    print_stderr(&failures);
    None
}

/// Before anybody connects. A file that appears later is not overwritten either.
fn check_output(output: &Path) -> Result<()> {
    if output.as_os_str() == "-" || output.as_os_str().is_empty() {
        let error = Error::config(format!("--output {}: init writes a file", output.display()));
        return Err(error.with_hint("name the new file: -o FILE"));
    }
    if output.to_str().is_none_or(|name| name.contains(is_unsafe)) {
        let error =
            Error::config(format!("--output {}: no command can be shown for this name", output.display()));
        return Err(error.with_hint("choose a name in UTF-8 without control characters"));
    }
    if output.symlink_metadata().is_ok() {
        return Err(exists(output));
    }
    let folder = crate::file::folder(output);
    if folder.is_dir() {
        Ok(())
    } else {
        Err(Error::config(format!("--output {}: there is no folder {}", output.display(), folder.display())))
    }
}

fn exists(output: &Path) -> Error {
    let error = Error::config(format!("{} exists already, and init overwrites no file", output.display()));
    error.with_hint("name another one: -o OTHER")
}

fn create(output: &Path, text: &str) -> Result<()> {
    let failed = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(output),
        _ => Error::machine(format!("{}: {error}", output.display())),
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(output).map_err(|error| failed(&error))?;
    file.write_all(text.as_bytes()).map_err(|error| {
        // Half a file helps nobody.
        let _ = std::fs::remove_file(output);
        failed(&error)
    })
}

/// `sql-exporter.yaml is written: 1 target, 25 packs, 1 query of your own. Next:`
fn summary(output: &Path, config: &Config) -> String {
    let own = config.queries.iter().filter(|query| &*query.collector == "default").count();
    let packs = config.files.len().saturating_sub(1);
    format!(
        "{} is written: {}, {}, {} of your own. Next:",
        output.display(),
        counted(config.targets.len(), "target", "targets"),
        counted(packs, "pack", "packs"),
        counted(own, "query", "queries"),
    )
}

/// The next two commands, and the variables that they need.
fn next_steps(output: &Path, missing: &[String]) -> TerminalText {
    let is_default = Path::new(".").join(output) == Path::new(".").join(DEFAULT_FILE)
        && ["SQL_EXPORTER_CONFIG", "CONFIG_FILE"].iter().all(|name| process_environment(name).is_none());
    // Invariant: a path holds no NUL, the only character that cannot be quoted.
    let word = shlex::try_quote(&output.to_string_lossy()).unwrap_or_default().into_owned();
    let with_file = if is_default { String::new() } else { format!(" -c {word}") };
    let mut out = TerminalText::default();
    missing.iter().for_each(|name| out.line(&format!("export {name}=…")));
    out.line(&format!("sql-exporter{with_file} test"));
    out.line(&format!("sql-exporter{with_file}"));
    out
}
