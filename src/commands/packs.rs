//! `packs [NAME]`: lists the built-in collectors, or prints one.

use argh::FromArgs;

use super::terminal::TerminalText;
use crate::config::packs;
use crate::error::Error;
use crate::yaml::keys::nearest;

use super::print_text;

/// List the built-in collectors, or print one.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "packs",
    help_triggers("-h", "--help", "help"),
    example = "List the collectors inside the binary:\n  {command_name}",
    example = "Print one, to change it and include it as a file:\n  {command_name} postgres/locks"
)]
pub struct Options {
    /// the collector to print, as listed
    #[argh(positional)]
    name: Option<String>,
}

/// Prints the list, or one collector's file.
///
/// # Errors
/// An unknown name, with the nearest.
pub fn run(options: &Options) -> Result<u8, Vec<Error>> {
    let Some(name) = &options.name else {
        return done(&list());
    };
    let plain = name.strip_prefix("builtin:").unwrap_or(name);
    let text = packs::text(plain).ok_or_else(|| {
        let error = Error::config(format!("no built-in collector {name:?}"));
        let hint = match nearest(plain, packs::names()) {
            Some(near) => format!("did you mean {near}?"),
            None => "`sql-exporter packs` lists them".to_owned(),
        };
        vec![error.with_hint(hint)]
    })?;
    done(text)
}

fn done(text: &str) -> Result<u8, Vec<Error>> {
    print_text(&TerminalText::document(text)).map(|()| 0).map_err(|error| vec![error])
}

fn list() -> String {
    let packs = packs::list();
    let wide = packs.iter().map(|pack| pack.name.len()).max().unwrap_or(0);
    let line = |pack: &packs::Pack| {
        let counts = format!("{} queries, {} metrics", pack.queries, pack.metrics);
        format!("{:<wide$}  {counts:<24}  {}\n", pack.name, pack.about)
    };
    packs.iter().map(line).collect()
}
