//! `import`: the configuration of another exporter → ours.
//!
//! `input` reads and unwraps the source, a dialect makes a [`model`] of it, `assemble` brings the model into the files that
//! were asked for, `settle` loads them as the exporter would, `writer` writes them. What is lost or changes in meaning is in
//! the `report`. A dialect knows nothing of files and of YAML that is written.

mod assemble;
mod budget;
mod cron;
mod dialect;
mod drivers;
mod export_sql;
mod input;
mod justwatch;
mod model;
mod postgres_exporter;
mod query_exporter;
mod report;
mod section;
mod settle;
mod url;
mod version_range;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::FromArgs;

use self::dialect::{Options, Source};
use self::report::Report;
use self::settle::Settled;
use super::settings::GlobalArgs;
use super::{CommandResult, counted, output, print_page, print_stderr};
use crate::commands::terminal::TerminalText;
use crate::deadline::Deadline;
use crate::error::Error;

/// A pipe as the output waits so long for its reader.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// Convert the configuration of another exporter: exit 0 when all of it is converted, 1 when something is left out, 2 when it cannot be read.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "import",
    help_triggers("-h", "--help", "help"),
    example = "Convert a file of custom queries for `include`:\n  {command_name} --from postgres_exporter queries.yaml -o collectors/queries.yaml",
    example = "Make a whole configuration of it:\n  {command_name} queries.yaml --url postgres://exporter@db.example/shop -o shop.yaml"
)]
pub struct ImportArgs {
    /// the dialect (default auto): export-sql, justwatch, postgres_exporter, query-exporter
    #[argh(option, default = "String::from(\"auto\")")]
    from: String,

    /// write here instead of stdout: a file, or a folder (`DIR/`) for several files
    #[argh(option, short = 'o')]
    output: Option<PathBuf>,

    /// the database, for a source that names none: makes a whole configuration
    #[argh(option)]
    url: Option<String>,

    /// keep the labels that the other exporter adds to every sample
    #[argh(switch)]
    keep_labels: bool,

    /// the files to convert
    #[argh(positional, arg_name = "file")]
    files: Vec<PathBuf>,
}

/// Converts the files and writes the result.
///
/// # Errors
/// The files cannot be read, or the result cannot be written.
pub fn run(_: &GlobalArgs, options: &ImportArgs) -> CommandResult {
    let destination = options.output.as_deref();
    let is_folder = destination.is_some_and(is_folder);
    let report = Report::default();
    let converting = Options { url: options.url.clone(), keep_labels: options.keep_labels, is_folder };
    let settled = convert(&options.from, &options.files, &converting, &report)?;
    write(&settled, destination, is_folder, &options.files)?;
    print_stderr(&report.render());
    print_stderr(&silenced(&settled));
    Ok(u8::from(report.has_losses()))
}

/// From files to files.
fn convert(
    from: &str,
    files: &[PathBuf],
    options: &Options,
    report: &Report,
) -> Result<Settled, super::CommandErrors> {
    if files.is_empty() {
        return Err(Error::config("no file to convert is named").into());
    }
    let named = dialect::named(from)?;
    let inputs = input::read(files, &|tree| dialect::is_recognised(named, tree))?;
    let dialect = named.map_or_else(|| dialect::recognised(&inputs), Ok)?;
    for fault in inputs.iter().flat_map(|input| &input.document.faults) {
        report.left_out(fault.place().cloned(), fault.message());
    }
    let imported = (dialect.convert)(&Source { inputs: &inputs, options, report });
    let files = assemble::files(imported, options, report)?;
    Ok(settle::settle(files, report)?)
}

/// A folder is there, or the name says that it is to be one.
fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Writes each file in one step; to stdout where no destination is named.
fn write(
    settled: &Settled,
    destination: Option<&Path>,
    is_folder: bool,
    sources: &[PathBuf],
) -> Result<(), Error> {
    let by = Deadline::within(WRITE_TIME);
    let sources: Vec<PathBuf> = sources.iter().filter_map(|source| source.canonicalize().ok()).collect();
    let is_source = |path: &Path| path.canonicalize().is_ok_and(|path| sources.contains(&path));
    for (name, text) in &settled.texts {
        let path = match destination {
            None => {
                print_page(&[text])?;
                continue;
            }
            Some(folder) if is_folder => folder.join(name),
            Some(file) => file.to_owned(),
        };
        if is_source(&path) {
            return Err(Error::config(format!(
                "--output {}: it is one of the files to convert",
                path.display()
            )));
        }
        if let Some(folder) = path.parent().filter(|_| is_folder) {
            let made = std::fs::create_dir_all(folder);
            made.map_err(|error| Error::machine(format!("--output {}: {error}", folder.display())))?;
        }
        output::write(&path, &[text], by, &|| false)?;
    }
    Ok(())
}

/// `silenced by lint_off: L001 (3 entries), L006 (1 entry)`
fn silenced(settled: &Settled) -> TerminalText {
    let mut out = TerminalText::default();
    if !settled.silenced.is_empty() {
        let each = settled.silenced.iter();
        let each: Vec<String> =
            each.map(|(code, count)| format!("{code} on {}", counted(*count, "entry", "entries"))).collect();
        let codes = each.join(", ");
        out.line(&format!(
            "silenced by `lint_off`: {codes}; `sql-exporter check --rule CODE` explains a lint"
        ));
    }
    out
}
