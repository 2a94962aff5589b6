//! `import`: the configuration of another exporter → ours.
//!
//! `input` reads and unwraps the source, a dialect makes a [`model`] of it, `assemble` brings the model into the files that
//! were asked for, `settle` loads them as the exporter would, `layout` makes text of them. What is lost or changes in meaning is
//! in the `report`. A dialect knows nothing of files and of YAML that is written. `compare` compares the pages of both.

mod address;
mod assemble;
mod burningalchemist;
mod compare;
mod cron;
mod custom_query;
mod dialect;
mod drivers;
mod durations;
mod export_sql;
mod families;
mod foreign;
mod input;
mod justwatch;
mod layout;
mod model;
mod negative_columns;
mod pg_exporter;
mod postgres_exporter;
mod psql_query_exporter;
mod query_exporter;
mod report;
mod section;
mod settle;
mod shared_queries;
mod unique_names;
mod version_range;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use self::compare::Tolerance;
use self::dialect::{ImportDialect, ImportOptions, ImportSource};
use self::input::Input;
use self::report::Report;
use self::settle::SettledFiles;
use super::settings::GlobalArgs;
use super::{CommandResult, output, print_page, print_stderr, print_stderr_line};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::plain_text::counted;
use crate::yaml::document::Document;

/// A pipe as the output waits so long for its reader.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// Convert the configuration of another exporter: exit 0 when all of it is converted, 1 when something is left out, 2 when
/// it cannot be read. With --compare, compare this configuration's metrics with those of the other exporter: exit 0 when
/// they are equal, 1 when they differ, 2 when one of them cannot be read.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "import",
    help_triggers("-h", "--help", "help"),
    example = "Make a configuration of a file of custom queries:\n  {command_name} queries.yaml --url postgres://exporter@db.example/shop -o shop.yaml",
    example = "Compare with the old exporter:\n  {command_name} -c shop.yaml --compare http://localhost:9187/metrics"
)]
pub struct ImportArgs {
    /// the dialect (default auto): burningalchemist, export-sql, justwatch, pg_exporter, postgres_exporter,
    /// psql-query-exporter, query-exporter
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

    /// the files to convert
    #[argh(positional, arg_name = "file")]
    files: Vec<PathBuf>,
}

/// Converts the files and writes the result; with `--compare`, compares the pages.
///
/// # Errors
/// The files cannot be read, or the result cannot be written; wrong arguments or a wrong configuration.
pub fn run(args: &GlobalArgs, options: &ImportArgs) -> CommandResult {
    match &options.compare {
        Some(url) if options.files.is_empty() => compare::run(args, url, options),
        Some(_) => Err(Error::config("--compare converts no file")
            .with_hint("name the configuration with --config")
            .into()),
        None => convert_files(options),
    }
}

fn convert_files(options: &ImportArgs) -> CommandResult {
    let destination = options.output.as_deref();
    let is_folder = destination.is_some_and(is_folder);
    let report = Report::default();
    let converting = ImportOptions { url: options.url.clone(), keep_labels: options.keep_labels, is_folder };
    let settled = convert(&options.from, &options.files, &converting, &report)?;
    write(&settled, destination, is_folder, &options.files)?;
    print_stderr(&report.render(&settled.texts));
    report_silenced(&settled);
    if settled.texts.is_empty() {
        print_stderr_line("nothing is written: the result has no query and no target");
        return Ok(1);
    }
    Ok(u8::from(report.has_losses()))
}

/// From files to files.
fn convert(
    from: &str,
    files: &[PathBuf],
    options: &ImportOptions,
    report: &Report,
) -> Result<SettledFiles, super::CommandErrors> {
    if files.is_empty() {
        let hint = "name the files of the other exporter, or compare its page with --compare URL";
        return Err(Error::config("no file to convert is named").with_hint(hint).into());
    }
    let named = dialect::named(from)?;
    let inputs = input::read(files, &|tree| dialect::is_recognised(named, tree))?;
    settled(named, &inputs, options, report)
}

/// From inputs to files.
fn settled(
    named: Option<&'static ImportDialect>,
    inputs: &[Input],
    options: &ImportOptions,
    report: &Report,
) -> Result<SettledFiles, super::CommandErrors> {
    let dialect = named.map_or_else(|| dialect::recognised(inputs), Ok)?;
    let mut documents: Vec<&Rc<Document>> = inputs.iter().map(|input| &input.document).collect();
    documents.dedup_by(|one, other| Rc::ptr_eq(one, other));
    for document in documents {
        let places = document.repeated_alike.iter().map(|key| key.place().cloned());
        places.for_each(|place| report.note(place, "repeated key, with an equal value"));
        document.faults.iter().for_each(|fault| report.left_out(fault.place().cloned(), fault.message()));
    }
    let imported = (dialect.convert)(&ImportSource { inputs, options, report });
    let files = assemble::files(imported, options, report);
    Ok(settle::settle(files, report)?)
}

/// Converts one text, for the tests that no input makes it panic: the names and texts of the result.
///
/// # Errors
/// It is not YAML, or no dialect is recognised.
#[doc(hidden)]
pub fn convert_text(
    from: &str,
    folder: &Path,
    text: &str,
) -> Result<Vec<(String, String)>, super::CommandErrors> {
    let named = dialect::named(from)?;
    let inputs = input::read_text("fuzz.yaml", folder, text, &|tree| dialect::is_recognised(named, tree))?;
    let report = Report::default();
    let options = ImportOptions { url: None, keep_labels: false, is_folder: true };
    Ok(settled(named, &inputs, &options, &report)?.texts)
}

/// The names of the dialects.
#[doc(hidden)]
pub fn dialects() -> impl Iterator<Item = &'static str> {
    dialect::DIALECTS.iter().map(|dialect| dialect.name)
}

/// A folder is there, or the name says that it is to be one.
fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Writes each file in one step; to stdout where no destination is named.
fn write(
    settled: &SettledFiles,
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

/// `silenced by lint_off: L001 on 3 entries, L006 on 1 entry; …`
fn report_silenced(settled: &SettledFiles) {
    if settled.silenced.is_empty() {
        return;
    }
    let each = settled.silenced.iter();
    let each = each.map(|(code, count)| format!("{code} on {}", counted(*count, "entry", "entries")));
    let codes = each.collect::<Vec<_>>().join(", ");
    print_stderr_line(&format!(
        "silenced by `lint_off`: {codes}; `sql-exporter check --rule CODE` explains a lint"
    ));
}
