//! `demo`: serves a small shop in SQLite from a temporary folder, so that the binary alone is enough to try the exporter.

use std::path::Path;

use argh::{ArgsInfo, FromArgs};

use super::settings::{CommandSettings, GlobalArgs, process_environment};
use super::terminal::{BOLD, TerminalText};
use super::{CommandResult, print_stdout, run};
use crate::error::Error;

const SHOP: &str = include_str!("../../examples/demo/shop.sql");
const CONFIGURATION: &str = include_str!("../../examples/demo/sql-exporter.yaml");
const CONFIGURATION_FILE: &str = "sql-exporter.yaml";

/// Serve a demo shop (SQLite in a temporary folder, which is removed at the end).
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "demo",
    help_triggers("-h", "--help", "help"),
    example = "Serve the demo on port 9399:\n  {command_name}",
    example = "Serve it on another port:\n  {command_name} --listen 127.0.0.1:9400"
)]
pub struct DemoArgs {}

/// Writes the demo and serves it. Blocks until SIGTERM or SIGINT.
///
/// # Errors
/// `-c`, which the demo does not take; a folder that cannot be written; an address that cannot be listened on.
pub fn run(args: &GlobalArgs, _: &DemoArgs) -> CommandResult {
    if args.config.is_some() {
        let error = Error::config("the demo has its own configuration");
        return Err(error.with_hint("leave out -c, or serve your configuration with `run`").into());
    }
    let folder = tempfile::Builder::new().prefix("sql-exporter-demo-").tempdir();
    let folder = folder.map_err(|error| {
        Error::machine(format!("no temporary folder for the demo: {error}"))
            .with_hint("name one that exists in TMPDIR")
    })?;
    write(folder.path())?;
    let config = Some(folder.path().join(CONFIGURATION_FILE));
    let settings = CommandSettings::new(&GlobalArgs { config, ..args.clone() }, &process_environment)?;
    // The folder is removed when it goes out of scope, after the last request has ended.
    run::serve(settings, |addresses| {
        addresses.first().map_or(Ok(()), |address| print_stdout(&introduction(address, folder.path())))
    })
}

/// Writes the demo's database and configuration into a folder.
///
/// # Errors
/// A machine error: a file cannot be written.
pub fn write(folder: &Path) -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::machine(format!("cannot write the demo to {}: {error}", folder.display()))
    };
    std::fs::write(folder.join(CONFIGURATION_FILE), CONFIGURATION).map_err(|error| failed(&error))?;
    rusqlite::Connection::open(folder.join("shop.db"))
        .and_then(|database| database.execute_batch(&format!("BEGIN;\n{SHOP}\nCOMMIT;")))
        .map_err(|error| failed(&error))
}

fn introduction(address: &str, folder: &Path) -> TerminalText {
    let url = address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//127.0.0.1:");
    let curl = match address.strip_prefix("unix:") {
        Some(path) => {
            let path = shlex::try_quote(path).unwrap_or(path.into());
            format!("curl --unix-socket {path} http://localhost")
        }
        None => format!("curl {url}"),
    };
    let mut out = TerminalText::default();
    out.styled_line(BOLD, "Try in a second terminal (Ctrl-C ends the demo):");
    out.line(&format!("  {curl}/metrics      the demo shop as Prometheus metrics"));
    out.line(&format!("  {curl}/-/healthy    for health checks"));
    if url.starts_with("http") {
        out.line(&format!("In a browser, {url}/ shows the status of targets and queries."));
    }
    out.line(&format!("The configuration and the database are in {} until the demo ends.", folder.display()));
    out.end_line();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_try_is_written_for_a_shell() {
        let text = introduction("unix:/tmp/x y.sock", Path::new("/tmp/demo")).render(false);
        assert!(text.contains("  curl --unix-socket '/tmp/x y.sock' http://localhost/metrics "), "{text}");
    }
}
