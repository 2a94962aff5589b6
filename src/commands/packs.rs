//! `packs [NAME]`: lists the built-in collectors, or prints one.

use argh::FromArgs;

use super::terminal::TerminalText;
use super::{CommandResult, print_stdout};
use crate::config::packs;
use crate::error::Error;
use crate::yaml::keys::nearest;

/// List the built-in collectors, or print one.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "packs",
    help_triggers("-h", "--help", "help"),
    example = "List the collectors inside the binary:\n  {command_name}",
    example = "Print one, to change it and include it as a file:\n  {command_name} postgres/locks"
)]
pub struct PacksArgs {
    /// the collector to print, as listed
    #[argh(positional)]
    name: Option<String>,
}

/// Prints the list, or the file of one collector.
///
/// # Errors
/// An unknown name, with the nearest.
pub fn run(options: &PacksArgs) -> CommandResult {
    let text = match &options.name {
        None => list(),
        Some(name) => {
            let plain = name.strip_prefix("builtin:").unwrap_or(name);
            let unknown = || {
                let hint = match nearest(plain, packs::names()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "`sql-exporter packs` lists them".to_owned(),
                };
                Error::config(format!("no built-in collector {name:?}")).with_hint(hint)
            };
            packs::text(plain).ok_or_else(unknown)?.to_owned()
        }
    };
    print_stdout(&TerminalText::document(&text))?;
    Ok(0)
}

fn list() -> String {
    let packs = packs::list();
    let widest = packs.iter().map(|pack| pack.name.len()).max().unwrap_or(0);
    let line = |pack: &packs::Pack| {
        let counts = format!("{} queries, {} metrics", pack.queries, pack.metrics);
        format!("{:<widest$}  {counts:<24}  {}\n", pack.name, pack.about)
    };
    packs.iter().map(line).collect()
}
