//! `run` (the default): serve until a signal.

use argh::FromArgs;

use crate::app;
use crate::cli::Shared;
use crate::error::Error;

use super::{Environment, Settings};

/// Serve the metrics over HTTP (the default).
#[derive(FromArgs)]
#[argh(subcommand, name = "run", help_triggers("-h", "--help", "help"))]
pub struct Options {}

/// Serves. Blocks until SIGTERM or SIGINT.
///
/// # Errors
/// Wrong words, a wrong configuration, an address that cannot be listened on.
pub fn run(shared: &Shared, _: &Options) -> Result<u8, Vec<Error>> {
    let environment: &Environment<'_> = &|name| std::env::var(name).ok();
    let settings = Settings::new(shared, environment).map_err(|error| vec![error])?;
    let plan = app::load_plan(&settings)?;
    app::start_log(&settings, &plan);
    app::serve(app::fleet(plan)).map_err(|error| vec![error])?;
    Ok(0)
}
