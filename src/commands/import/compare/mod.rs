//! `import --compare URL`: the page of the exporter that is replaced beside one scrape of this configuration.
//!
//! Owns the order of things and the report. How the other page is fetched, read and compared is in the modules below.

mod difference;
mod old_exporter;
mod page;

use std::time::Instant;

use self::difference::{CompareRules, ComparedPages, DifferenceRow};
pub(super) use self::difference::{Tolerance, read_tolerance};
use self::old_exporter::{FetchedPage, OldExporter};
use self::page::{Page, Syntax};
use super::ImportArgs;
use crate::commands::collect::{self, OnceScraped};
use crate::commands::settings::GlobalArgs;
use crate::commands::terminal::{BAD, DIM, TerminalText, TextCell, TextTable, message, wrap_width};
use crate::commands::{CommandErrors, CommandResult, print_stderr, print_stdout};
use crate::config::Config;
use crate::config::glob::Pattern;
use crate::engine::scrape::{ScrapeOutcome, ScrapeTime};
use crate::engine::targets::ScrapeSelection;
use crate::error::Error;
use crate::exposition::page::pieces;
use crate::plain_text::counted;

/// The exit code when one of the two pages cannot be had.
const UNREADABLE: u8 = 2;

/// Scrapes both, the old exporter at `url`, and prints what differs. Blocks for at most the timeout, and a moment.
///
/// # Errors
/// Wrong arguments or a wrong configuration.
pub(super) fn run(args: &GlobalArgs, url: &str, options: &ImportArgs) -> CommandResult {
    let time = ScrapeTime { began: Instant::now(), budget: options.timeout };
    let exporter = OldExporter::new(url)?;
    let patterns = options.ignore.iter().map(|text| Pattern::new(text));
    let ignore = patterns
        .collect::<Result<Vec<_>, String>>()
        .map_err(|fault| Error::config(format!("--ignore {fault}")))?;
    let config = crate::commands::load(args)?;
    let rules = CompareRules {
        ignore,
        ignore_labels: options.ignore_label.clone(),
        tolerance: options.tolerance,
        target_label: config.exporter.target_label.clone(),
    };
    let fetched =
        exporter.fetch(time.deadline(), options.timeout).and_then(|FetchedPage { text, syntax }| {
            let old = page::read(&text, syntax).map_err(|fault| exporter.unreadable(&fault))?;
            Ok((old, syntax))
        });
    let (old, syntax) = match fetched {
        Ok(read) => read,
        Err(error) => return Ok(unusable(&error)),
    };
    let (ours, outcome) = match scrape(config, time, syntax)? {
        Ok(scraped) => scraped,
        Err(code) => return Ok(code),
    };
    let compared = difference::compare(old, ours, &rules);
    print_stdout(&report(&compared, outcome))?;
    Ok(u8::from(compared.differences > 0 || outcome != ScrapeOutcome::Complete))
}

/// Why there is nothing to compare.
fn unusable(error: &Error) -> u8 {
    print_stderr(&message("error", BAD, error, None));
    UNREADABLE
}

/// Scrapes this configuration once, as `collect` does, without the metrics about the exporter itself. The page is read back
/// in the format of the old one, so that both have the same types. Without one, an exit code.
fn scrape(
    config: Config,
    time: ScrapeTime,
    syntax: Syntax,
) -> Result<Result<(Page, ScrapeOutcome), u8>, CommandErrors> {
    let OnceScraped { targets, page, interrupted } =
        collect::scrape_once(config, &ScrapeSelection::default(), time)?;
    targets.stop();
    if let Some(&code) = interrupted.get() {
        return Ok(Err(code));
    }
    if page.outcome == ScrapeOutcome::Failed {
        let error = Error::machine("no query of this configuration succeeded: the log says why");
        return Ok(Err(unusable(&error)));
    }
    let mut families = page.families;
    collect::remove_self_metrics(&mut families);
    let bytes: Vec<u8> = pieces(&families, syntax.format()).iter().flat_map(AsRef::as_ref).copied().collect();
    let read = page::read(&String::from_utf8_lossy(&bytes), syntax)
        .map_err(|fault| unusable(&Error::machine(format!("our own page cannot be read: {fault}"))));
    Ok(read.map(|read| (read, page.outcome)))
}

/// A table of what differs, then what was compared and what was not.
fn report(compared: &ComparedPages, outcome: ScrapeOutcome) -> TerminalText {
    let mut out = TerminalText::default();
    if !compared.rows.is_empty() {
        let mut table = TextTable::new(&["differs", "of", "old", "ours"]);
        for DifferenceRow { what, of, old, ours } in &compared.rows {
            table.row([TextCell::styled(BAD, what), of.into(), old.into(), ours.into()]);
        }
        out.append(table.render(wrap_width()));
        out.end_line();
    }
    let families = counted(compared.families, "family", "families");
    let found = match compared.differences {
        0 => "no difference".to_owned(),
        count => counted(count, "difference", "differences"),
    };
    out.line(&format!("{found} in {families} with {} series", compared.series));
    for note in compared.notes() {
        out.styled_line(DIM, &note);
    }
    if outcome != ScrapeOutcome::Complete {
        out.styled_line(BAD, "our scrape is not complete: the log says which queries failed");
    }
    out
}
