//! `packs [NAME]`: lists the built-in collectors, or prints one.

use argh::{ArgsInfo, FromArgs};

use super::terminal::TerminalText;
use super::{CommandResult, print_stdout};
use crate::config::packs;
use crate::error::Error;
use crate::yaml::keys::nearest;

/// List the built-in collectors, or print one.
#[derive(FromArgs, ArgsInfo)]
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
                let folder = plain.trim_end_matches('/');
                let hint = match (packs::in_folder(folder), nearest(plain, packs::names())) {
                    (names, _) if !names.is_empty() => {
                        format!("the folder {folder} has {}", names.join(", "))
                    }
                    (_, Some(near)) => format!("did you mean {near}?"),
                    (_, None) => "`sql-exporter packs` lists them".to_owned(),
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
    let mut text = String::new();
    for group in packs.chunk_by(|one, next| folder(one) == folder(next)) {
        if !text.is_empty() {
            text.push('\n');
        }
        add_group(&mut text, group);
    }
    text
}

/// A folder of packs under the pattern that includes them all; names, numbers and sentences are columns.
fn add_group(text: &mut String, packs: &[packs::Pack]) {
    let widest = packs.iter().map(|pack| pack.name.len()).max().unwrap_or(0);
    let folder = packs.first().map(folder).unwrap_or_default();
    *text += &format!("builtin:{folder}/*\n");
    for pack in packs {
        let packs::Pack { name, about, metrics, .. } = pack;
        *text += &format!("  {name:<widest$}  {metrics:>3} metrics  {about}\n");
    }
}

/// `postgres` of `postgres/locks`.
fn folder(pack: &packs::Pack) -> &'static str {
    pack.name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_a_group_per_folder_and_a_line_per_pack() {
        let list = list();
        let groups: Vec<&str> = list.lines().filter(|line| line.starts_with("builtin:")).collect();
        assert!(groups.contains(&"builtin:postgres/*") && groups.contains(&"builtin:compat/*"), "{groups:?}");
        let mut once = groups.clone();
        once.dedup();
        assert_eq!(once, groups);
        let lines = list.lines().filter(|line| line.starts_with("  ")).count();
        assert_eq!(lines, packs::names().len());
    }
}
