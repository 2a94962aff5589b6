//! `run` (the default): serve until a signal.

pub mod allocator;
pub mod reload;
pub mod start;

use argh::FromArgs;

use super::settings::{GlobalArgs, Settings, environment};
use crate::driver::Drivers;
use crate::error::Error;

/// Serve the metrics over HTTP (the default).
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "run",
    help_triggers("-h", "--help", "help"),
    example = "Serve the first default file that exists:\n  {command_name}",
    example = "Serve a file on another port, and say more:\n  {command_name} -c shop.yaml --listen :9400 --log-level debug"
)]
pub struct Options {}

/// Serves. Blocks until SIGTERM or SIGINT.
///
/// # Errors
/// Wrong words, a wrong configuration, an address that cannot be listened on.
pub fn run(words: &GlobalArgs, _: &Options) -> Result<u8, Vec<Error>> {
    allocator::set();
    let settings = Settings::new(words, &environment).map_err(|error| vec![error])?;
    let plan = settings.load(&environment, &Drivers::built_in())?;
    super::start_logging(&plan, &settings.warnings);
    let load = move || settings.load(&environment, &Drivers::built_in());
    start::threads_are_given(start::AT_REST).map_err(|error| vec![error])?;
    start::serve(start::make_targets(plan), Box::new(load))?;
    Ok(0)
}
