//! `import`: brings a configuration over from another exporter, and compares what both export.

mod compare;

use std::time::Duration;

use argh::FromArgs;

use self::compare::{CompareOptions, Tolerance};
use super::CommandResult;
use super::settings::GlobalArgs;
use crate::error::Error;

/// Compare this configuration's metrics with those of the exporter that it replaces: exit 0 when they are equal, 1 when
/// they differ, 2 when one of them cannot be read.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "import",
    help_triggers("-h", "--help", "help"),
    example = "Compare with the old exporter:\n  {command_name} -c shop.yaml --compare http://localhost:9187/metrics",
    example = "Leave out what differs on purpose:\n  {command_name} -c shop.yaml --compare http://localhost:9187 --ignore 'pg_stat_*' --ignore-label server --tolerance 1%"
)]
pub struct ImportArgs {
    /// scrape the exporter at this http or https URL (USER:PASSWORD@ before the host for basic auth) and this
    /// configuration once, and print what differs
    #[argh(option, arg_name = "url")]
    compare: Option<String>,

    /// with --compare: leave out families and series whose name matches, such as 'pg_stat_*' (repeatable)
    #[argh(option, arg_name = "glob")]
    ignore: Vec<String>,

    /// with --compare: leave out this label on both sides (repeatable)
    #[argh(option, arg_name = "name")]
    ignore_label: Vec<String>,

    /// with --compare: how far two values may be apart, such as 1% (default: not at all)
    #[argh(option, default = "Tolerance::default()", from_str_fn(compare::read_tolerance))]
    tolerance: Tolerance,

    /// with --compare: how long all of it may take (default 60s)
    #[argh(option, default = "Duration::from_secs(60)", from_str_fn(super::read_timeout))]
    timeout: Duration,
}

/// Runs what the options ask for.
///
/// # Errors
/// Wrong arguments or a wrong configuration.
pub fn run(args: &GlobalArgs, options: ImportArgs) -> CommandResult {
    let ImportArgs { compare, ignore, ignore_label, tolerance, timeout } = options;
    let Some(url) = compare else {
        return Err(Error::config("nothing to do").with_hint("write --compare URL").into());
    };
    let options =
        CompareOptions { url: &url, ignore: &ignore, ignore_labels: ignore_label, tolerance, timeout };
    compare::run(args, options)
}
