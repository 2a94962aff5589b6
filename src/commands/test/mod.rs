//! `test`: connects to every target at once and says of each whether it works, as whom, how the bytes travel, and what
//! its user may do that no reader needs. Exit 0 when all work, 1 when one does not, 2 for a wrong configuration.
//!
//! `attempt` connects and asks, `report` is what came of it, `advice` puts a failure into words and says what to try,
//! `text` and `json` print it. What else a session can be asked is one more line in `attempt`.

mod advice;
pub mod attempt;
mod json;
pub mod report;
mod text;

use std::sync::Arc;
use std::time::Duration;

use argh::FromArgs;

use super::settings::{GlobalArgs, Settings, environment};
use super::terminal::Progress;
use crate::config::Config;
use crate::config::database::Database;
use crate::deadline::Deadline;
use crate::driver::Drivers;
use crate::engine::targets;
use crate::error::Error;

use self::report::Report;
use super::{Print, print_json, print_text};

/// Connect to every target and say what works: exit 0 when all do, 1 when one fails, 2 for a bad configuration.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "test",
    help_triggers("-h", "--help", "help"),
    example = "Test all targets before the exporter starts:\n  {command_name} -c shop.yaml",
    example = "Test one, for a script, with two seconds at most:\n  {command_name} -c shop.yaml --target shop --timeout 2s --format json"
)]
pub struct Options {
    /// only this target (repeatable)
    #[argh(option)]
    target: Vec<String>,

    /// how long all of it may take (default 10s); a target's connect_timeout holds too
    #[argh(option, default = "Duration::from_secs(10)", from_str_fn(super::read_timeout))]
    timeout: Duration,

    /// text (default) or json
    #[argh(option, default = "Print::Text", from_str_fn(Print::read))]
    format: Print,
}

/// Connects and prints. Blocks, for hardly more than `--timeout`.
///
/// # Errors
/// Wrong words, a wrong configuration; what is wrong with a target is printed and told by the exit code.
pub fn run(words: &GlobalArgs, options: &Options) -> Result<u8, Vec<Error>> {
    let settings = Settings::new(words, &environment).map_err(|error| vec![error])?;
    let plan = settings.load(&environment, &Drivers::built_in())?;
    super::start_logging(&plan, &settings.warnings);
    let targets = chosen(&plan, &options.target).map_err(|error| vec![error])?;
    let progress = Progress::start(format!("connecting to {} targets", targets.len()));
    let report = Report {
        outcomes: attempt::all(&targets, Deadline::within(options.timeout), &progress),
        timeout: options.timeout,
    };
    drop(progress);
    match options.format {
        Print::Text => print_text(&text::render(&report)),
        Print::Json => print_json(&json::document(&report)),
    }
    .map_err(|error| vec![error])?;
    Ok(u8::from(report.count().failed > 0))
}

/// The targets asked for, disabled ones too, in configuration order.
fn chosen(plan: &Config, wanted: &[String]) -> Result<Vec<Arc<Database>>, Error> {
    targets::check_names("target", wanted, || plan.targets.iter().map(|target| target.name.as_str()))?;
    let is_wanted = |target: &&Arc<Database>| wanted.is_empty() || wanted.contains(&target.name);
    Ok(plan.targets.iter().filter(is_wanted).cloned().collect())
}
