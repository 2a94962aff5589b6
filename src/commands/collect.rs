//! `collect` (= `--once`): one scrape to stdout or into a file, without a server.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use argh::{ArgsInfo, FromArgs};

use super::run::start;
use super::settings::{GlobalArgs, process_environment};
use super::{CommandResult, output, print_page};
use crate::config::Config;
use crate::deadline::Deadline;
use crate::engine::discovery;
use crate::engine::scrape::{self, ScrapeOutcome, ScrapeTime, ScrapedPage};
use crate::engine::targets::{ScrapeSelection, Targets};
use crate::error::Error;
use crate::exposition::page::{Families, pieces};
use crate::exposition::{FORMATS, Format};

/// The reader of a pipe has at least this long, however long the scrape took.
const LEAST_WRITE_TIME: Duration = Duration::from_secs(1);

/// Run one scrape and print it: exit 0 when all is good, 1 when something failed, 2 for a bad configuration.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "collect",
    help_triggers("-h", "--help", "help"),
    example = "Print the metrics of all targets:\n  {command_name} -c shop.yaml",
    example = "Write one query's samples for node_exporter's textfile collector:\n  {command_name} -c shop.yaml --query orders --no-self-metrics --output /var/lib/node/shop.prom"
)]
pub struct CollectArgs {
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

    /// write the page to this file in one step, also when a query failed
    #[argh(option)]
    output: Option<PathBuf>,

    /// leave out the metrics about the exporter itself
    #[argh(switch)]
    no_self_metrics: bool,
}

/// Runs the scrape. Blocks for at most `--timeout`; after a signal it writes what is complete.
///
/// # Errors
/// Wrong arguments, a wrong configuration, a file that cannot be written.
pub fn run(args: &GlobalArgs, options: &CollectArgs) -> CommandResult {
    let began = Instant::now();
    let format = read_format(&options.format)?;
    let config = super::load(args)?;
    // Their targets are missing on the page.
    let lacks_files = options.target.is_empty() && !config.target_file_faults().is_empty();
    let selection = ScrapeSelection {
        targets: options.target.clone(),
        collectors: options.collector.clone(),
        queries: options.query.clone(),
    };
    let time = ScrapeTime { began, budget: options.timeout };
    let OnceScraped { targets, page, interrupted } = scrape_once(config, &selection, time)?;
    let mut families = page.families;
    if options.no_self_metrics {
        remove_self_metrics(&mut families);
    } else {
        targets.telemetry().scraped(page.outcome.as_str());
        // As on `/metrics`: those that count since the start are on the page of everything.
        if selection == ScrapeSelection::default() {
            families.extend(targets.own_metrics());
        }
    }
    let pieces = pieces(&families, format);
    let written = match &options.output {
        Some(file) => {
            let by = time.deadline().max(Deadline::within(LEAST_WRITE_TIME));
            output::write(file, &pieces, by, &|| interrupted.get().is_some())
        }
        None => print_page(&pieces),
    };
    targets.stop();
    let Some(code) = interrupted.get() else {
        written?;
        return Ok(u8::from(lacks_files || page.outcome != ScrapeOutcome::Complete));
    };
    if let Err(error) = written {
        log::error!("{error}");
    }
    Ok(*code)
}

/// What one scrape has left. The targets are to be stopped.
pub(super) struct OnceScraped {
    /// Their sessions are still open.
    pub(super) targets: Arc<Targets>,
    /// What is complete.
    pub(super) page: ScrapedPage,
    /// The exit code of the signal that ended it.
    pub(super) interrupted: Arc<OnceLock<u8>>,
}

/// Runs one scrape without a server, with the databases that its targets find. Blocks until the deadline at most; a signal
/// ends it early.
///
/// # Errors
/// A selection of names that do not exist; no threads, no signals.
pub(super) fn scrape_once(
    config: Config,
    selection: &ScrapeSelection,
    time: ScrapeTime,
) -> Result<OnceScraped, Error> {
    start::check_thread_limit(1)?;
    let targets = Arc::new(start::make_targets(config));
    let interrupted = start::interrupt_at_signal(&targets)?;
    discovery::run(&targets, selection, time);
    let targets = targets.refreshed(&process_environment).map_or(targets, Arc::new);
    let page = scrape::scrape(&targets, selection, time)?;
    Ok(OnceScraped { targets, page, interrupted })
}

/// Leaves out the metrics about the exporter itself.
pub(super) fn remove_self_metrics(families: &mut Families) {
    families.retain(|(family, _)| !family.name.as_str().starts_with("sql_exporter_"));
}

fn read_format(name: &str) -> Result<&'static dyn Format, Error> {
    FORMATS.iter().copied().find(|format| format.name() == name).ok_or_else(|| {
        let known: Vec<&str> = FORMATS.iter().map(|format| format.name()).collect();
        Error::config(format!("--format {name:?}: the formats are {}", known.join(" and ")))
    })
}
