//! `collect` (= `--once`): one scrape to stdout or into a file, without a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use argh::FromArgs;

use super::run::start;
use super::settings::{GlobalArgs, Settings, environment};
use crate::deadline::Deadline;
use crate::driver::Drivers;
use crate::engine::scrape;
use crate::engine::scrape::{ScrapeOutcome, ScrapeTime};
use crate::engine::targets::ScrapeSelection;
use crate::error::Error;
use crate::exposition::page::pieces;
use crate::exposition::{FORMATS, Format};

use super::{output, print_page};

/// The reader of a pipe has so much time at least, however long the scrape took.
const AT_LEAST: Duration = Duration::from_secs(1);

/// Run one scrape and print it: exit 0 when all is good, 1 when something failed, 2 for a bad configuration.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "collect",
    help_triggers("-h", "--help", "help"),
    example = "Print a page of all targets:\n  {command_name} -c shop.yaml",
    example = "Write one query's samples for node_exporter's textfile collector:\n  {command_name} -c shop.yaml --query orders --no-self-metrics --output /var/lib/node/shop.prom"
)]
pub struct Options {
    /// only this query (repeatable)
    #[argh(option)]
    query: Vec<String>,

    /// only this target (repeatable)
    #[argh(option)]
    target: Vec<String>,

    /// only this collector (repeatable)
    #[argh(option)]
    collector: Vec<String>,

    /// text (default) or openmetrics
    #[argh(option, default = "String::from(\"text\")")]
    format: String,

    /// how long all of it may take (default 60s)
    #[argh(option, default = "Duration::from_secs(60)", from_str_fn(super::read_timeout))]
    timeout: Duration,

    /// write the page to this file, as a whole, also when a query failed
    #[argh(option)]
    output: Option<PathBuf>,

    /// leave out the rows about the exporter itself
    #[argh(switch)]
    no_self_metrics: bool,
}

/// Runs the scrape. Blocks, at most for `--timeout`; interrupted by a signal, it writes what is complete.
///
/// # Errors
/// Wrong words, a wrong configuration, a file that cannot be written.
pub fn run(words: &GlobalArgs, options: &Options) -> Result<u8, Vec<Error>> {
    let began = Instant::now();
    let format = format(&options.format).map_err(|error| vec![error])?;
    let settings = Settings::new(words, &environment).map_err(|error| vec![error])?;
    let plan = settings.load(&environment, &Drivers::built_in())?;
    super::start_logging(&plan, &settings.warnings);
    let selection = ScrapeSelection {
        targets: options.target.clone(),
        collectors: options.collector.clone(),
        queries: options.query.clone(),
    };
    start::threads_are_given(1).map_err(|error| vec![error])?;
    let fleet = Arc::new(start::fleet(plan));
    let interrupted = start::interrupt_at_signal(&fleet).map_err(|error| vec![error])?;
    let time = ScrapeTime { began, budget: options.timeout };
    let page = scrape::scrape(&fleet, &selection, time).map_err(|error| vec![error])?;
    let mut families = page.families;
    if options.no_self_metrics {
        families.retain(|(family, _)| !family.name.as_str().starts_with("sql_exporter_"));
    } else {
        fleet.telemetry().scraped(page.outcome.as_str());
        families.extend(fleet.own_metrics());
    }
    let pieces = pieces(&families, format);
    let written = match &options.output {
        Some(file) => {
            let by = time.deadline().max(Deadline::within(AT_LEAST));
            output::write(file, &pieces, by, &|| interrupted.code().is_some())
        }
        None => print_page(&pieces),
    };
    fleet.stop();
    match (interrupted.code(), written) {
        (Some(code), Ok(())) => Ok(code),
        (Some(code), Err(error)) => {
            log::error!("{error}");
            Ok(code)
        }
        (None, written) => {
            written.map(|()| u8::from(page.outcome != ScrapeOutcome::Complete)).map_err(|error| vec![error])
        }
    }
}

fn format(name: &str) -> Result<&'static dyn Format, Error> {
    FORMATS.iter().copied().find(|format| format.name() == name).ok_or_else(|| {
        let known: Vec<&str> = FORMATS.iter().map(|format| format.name()).collect();
        Error::config(format!("--format {name:?}: the formats are {}", known.join(" and ")))
    })
}
