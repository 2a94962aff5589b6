//! `check`: everything that can be said about a configuration without a database, and with `--connect` what its
//! databases say. Exit 0 when there is no error, 1 with
//! `--strict` and a warning, 2 with an error or a test of a query that fails.
//!
//! It puts together what the load, the web-config file, the lints and the tests of queries say; `text` and `json` print it. What else can be
//! found wrong is one more function that adds to the report.

mod explain;
mod json;
mod report;
mod text;

use std::path::Path;
use std::time::Duration;

use argh::FromArgs;

use super::settings::{GlobalArgs, Settings, environment};
use super::terminal::Progress;
use crate::deadline::Deadline;
use crate::driver::Drivers;
use crate::error::Error;
use crate::{inspect, server};

use self::report::{Report, Size};
use super::{Print, print_json, print_text};

/// Check the configuration without a database, or against its databases: exit 0 without errors, 1 with --strict and a warning, 2 with an error.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "check",
    help_triggers("-h", "--help", "help"),
    example = "Check before a commit; a warning fails it too:\n  {command_name} -c shop.yaml --strict",
    example = "Check the queries against their databases, running none:\n  {command_name} -c shop.yaml --connect"
)]
pub struct Options {
    /// a warning is as bad as an error: exit 1
    #[argh(switch)]
    strict: bool,

    /// describe every query on each of its targets, without running it, and compare columns and types
    #[argh(switch)]
    connect: bool,

    /// how long the databases have with --connect (default 60s)
    #[argh(option, default = "Duration::from_secs(60)", from_str_fn(super::read_timeout))]
    timeout: Duration,

    /// explain one lint, or `list` all of them, and check nothing
    #[argh(option)]
    rule: Option<String>,

    /// text (default) or json
    #[argh(option, default = "Print::Text", from_str_fn(Print::read))]
    format: Print,
}

/// Checks and prints. Reads files only; a host name in `exporter.listen` is resolved.
///
/// # Errors
/// Wrong words; what is wrong with the configuration is printed and told by the exit code.
pub fn run(words: &GlobalArgs, options: &Options) -> Result<u8, Vec<Error>> {
    if let Some(rule) = &options.rule {
        let text = explain::rule(rule).map_err(|error| vec![error])?;
        return print_text(&text).map(|()| 0).map_err(|error| vec![error]);
    }
    let settings = Settings::new(words, &environment).map_err(|error| vec![error])?;
    let progress = Progress::start("checking the configuration");
    let by = options.connect.then(|| Deadline::within(options.timeout));
    let report = examine(&settings, &progress, by);
    drop(progress);
    match options.format {
        Print::Text => print_text(&text::render(&report)),
        Print::Json => print_json(&json::document(&report)),
    }
    .map_err(|error| vec![error])?;
    Ok(report.exit_code(options.strict))
}

/// `by`: until when the databases are asked; `None` asks none.
fn examine(settings: &Settings, progress: &Progress, by: Option<Deadline>) -> Report {
    let mut report = Report::default();
    for warning in &settings.warnings {
        report.warning(Error::config(warning.as_str()));
    }
    match settings.examine(&environment, &Drivers::built_in()) {
        Ok(plan) => {
            report.files.clone_from(&plan.files);
            report.size = Some(Size { targets: plan.targets.len(), queries: plan.queries.len() });
            plan.warnings.iter().cloned().for_each(|warning| report.warning(warning));
            web_config(plan.exporter.web_config_file.as_deref(), &mut report);
            report.lints(inspect::run(&plan));
            progress.say(format!("running {} tests of queries", plan.query_tests.len()));
            report.cases = inspect::query_tests::run(&plan);
            if let Some(by) = by {
                let told = |done, all| progress.say(format!("asking the databases: {done} of {all} done"));
                report.connected(inspect::describe::run(&plan, by, told));
            }
        }
        Err(faulty) => {
            report.files = faulty.files;
            faulty.warnings.into_iter().for_each(|warning| report.warning(warning));
            faulty.faults.into_iter().for_each(|fault| report.error(fault));
            web_config(faulty.web_config_file.as_deref(), &mut report);
        }
    }
    report
}

fn web_config(path: Option<&Path>, report: &mut Report) {
    let Some(path) = path else { return };
    report.files.push(path.display().to_string());
    server::check_web_config(path).err().into_iter().flatten().for_each(|error| report.error(error));
}
