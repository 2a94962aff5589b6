//! `run` (the default): serves until a signal.

pub mod allocator;
pub mod reload;
pub mod start;
mod systemd;

use argh::{ArgsInfo, FromArgs};
use log::LevelFilter;

use super::CommandResult;
use super::settings::{CommandSettings, GlobalArgs, process_environment};
use crate::config::InvalidConfig;
use crate::driver::Drivers;
use crate::error::Error;
use crate::logging;

/// Serve the metrics over HTTP (the default).
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "run",
    help_triggers("-h", "--help", "help"),
    example = "Serve the first default file that exists:\n  {command_name}",
    example = "Serve a file on another port, with a detailed log:\n  {command_name} -c shop.yaml --listen :9400 --log-level debug"
)]
pub struct RunArgs {}

/// Serves. Blocks until SIGTERM or SIGINT.
///
/// # Errors
/// Wrong arguments, a wrong configuration, an address that cannot be listened on.
pub fn run(args: &GlobalArgs, _: &RunArgs) -> CommandResult {
    serve(CommandSettings::new(args, &process_environment)?, |_| Ok(()))
}

/// The same with settings. `on_listening` gets the addresses, such as `http://127.0.0.1:9399`, once clients can connect.
pub(super) fn serve(
    settings: CommandSettings,
    on_listening: impl FnOnce(&[String]) -> Result<(), Error>,
) -> CommandResult {
    allocator::set();
    let signals = start::note_reloads()?;
    let config = settings.load_or_invalid(&process_environment, &Drivers::built_in());
    let config = config.map_err(|InvalidConfig { faults, exporter, .. }| {
        let format = settings.log_format.or(exporter.map(|exporter| exporter.log_format));
        logging::start(LevelFilter::Error, format.unwrap_or_default());
        faults
    })?;
    super::start_logging(&config, &settings.warnings);
    start::check_thread_limit(start::IDLE_THREADS)?;
    // Whole, so that it is found from any folder.
    let file = config.files.first().and_then(|file| std::path::absolute(file).ok());
    let load = move || settings.load(&process_environment, &Drivers::built_in());
    start::serve(start::make_targets(config), file, Box::new(load), signals, on_listening)?;
    Ok(0)
}
