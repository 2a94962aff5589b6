//! `try`: one query, or any SQL, once on one target. Exit 0 when it worked, 1 when the query or the connection failed, 2 for
//! wrong arguments or a wrong configuration. (`try` is a keyword of Rust.)

use std::io::Read;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use super::run::start;
use super::settings::GlobalArgs;
use super::terminal::{
    BAD, BOLD, DIM, PLAIN, Progress, TerminalText, TextCell, TextTable, WARNING, labelled, message,
    wrap_width,
};
use super::{CommandResult, ReportFormat, print_report, print_stderr};
use crate::config::Config;
use crate::config::target::TargetConfig;
use crate::deadline::Deadline;
use crate::driver::Sql;
use crate::error::{Error, Reason};
use crate::file::{self, ReadError};
use crate::inspect::runner::Runner;
use crate::inspect::try_query::{
    self, MappedColumn, ResultColumn, StepTimes, TriedStatement, TryReport, TryRequest,
};
use crate::plain_text::counted;

/// The longest SQL that stdin may hold.
const MAX_SQL_BYTES: u64 = 1 << 20;
/// How long after its deadline a statement may take to end, and its session to be closed.
const OVERRUN: Duration = Duration::from_secs(3);
/// Samples that are shown; `collect` prints all.
const MAX_SAMPLES: usize = 20;

/// Run one query once and show its rows, what becomes of them and where the time goes: exit 0 good, 1 it failed, 2 wrong arguments or configuration.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "try",
    help_triggers("-h", "--help", "help"),
    example = "Look at a configured query, and at the database's plan for it:\n  {command_name} -c shop.yaml --query orders --plan",
    example = "Start a new query with its SQL; a definition to copy is proposed:\n  {command_name} -c shop.yaml --target shop --sql 'SELECT status, count(*) AS orders FROM orders GROUP BY status'"
)]
pub struct TryArgs {
    /// the query, by its name
    #[argh(option)]
    query: Option<String>,

    /// any SQL instead; `-` reads it from stdin
    #[argh(option)]
    sql: Option<String>,

    /// the target; may be left out when there is only one
    #[argh(option)]
    target: Option<String>,

    /// how many rows to show (default 10)
    #[argh(option, default = "10")]
    rows: usize,

    /// show how the database would run it, without running it for that
    #[argh(switch)]
    plan: bool,

    /// how long all of it may take (default 60s)
    #[argh(option, default = "Duration::from_secs(60)", from_str_fn(super::read_timeout))]
    timeout: Duration,

    /// text (default) or json
    #[argh(option, default = "ReportFormat::Text", from_str_fn(ReportFormat::read))]
    format: ReportFormat,
}

/// Runs it and prints. Blocks for `--timeout` at most, and a moment to close the session.
///
/// # Errors
/// Wrong arguments, a wrong configuration. Errors of the database are in the report and in the exit code.
pub fn run(args: &GlobalArgs, options: &TryArgs) -> CommandResult {
    let sql = options.sql.as_deref().map(read_sql).transpose()?;
    let config = super::load(args)?;
    let by = Deadline::within(options.timeout);
    let is_known = |name: &String| config.targets.iter().any(|target| target.name == *name);
    let config = match &options.target {
        Some(name) if !is_known(name) => {
            super::discovered(config, std::slice::from_ref(name), by.earlier_by(options.timeout / 2))
        }
        _ => config,
    };
    let (target, statement) = choose(&config, options, sql)?;
    let TryArgs { rows, plan: explain, .. } = *options;
    let request = TryRequest { config: &config, target, statement, rows, explain, timeout: by.left() };
    let runner = Runner::default();
    let stopped = runner.clone();
    let _exit = start::exit_at_signal(move || stopped.stop())?;
    let running = exit_at_overrun(by, target.name.clone());
    let progress = Progress::start(format!("running on target {}", target.name));
    let report = try_query::run(&request, &runner);
    drop((running, progress));
    while runner.is_stopped() {
        // The signal's thread ends the process, with the exit code of the signal.
        std::thread::park();
    }
    print_report(options.format, &report, |report| {
        TryText { report, width: wrap_width(), out: TerminalText::default() }.render(rows, explain)
    })?;
    Ok(u8::from(report.error.is_some()))
}

/// Ends the process some time after the deadline, for a statement that nothing ends: one long step of SQLite, a disk that
/// hangs. Not any more once what it returns is dropped.
fn exit_at_overrun(by: Deadline, target: String) -> Sender<()> {
    let (running, ended) = mpsc::channel();
    let watch = move || {
        if ended.recv_timeout(by.left() + OVERRUN) == Err(RecvTimeoutError::Timeout) {
            let error = Error::new(Reason::Timeout, "the statement has not ended, and cannot be stopped");
            print_stderr(&message("error", BAD, &error.on_target(&target), None));
            std::process::exit(1);
        }
    };
    // Without a thread it takes as long as it takes.
    drop(std::thread::Builder::new().name("overrun".to_owned()).spawn(watch));
    running
}

/// The SQL of `--sql`.
fn read_sql(argument: &str) -> Result<Sql, Error> {
    let mut text = argument.to_owned();
    if argument == "-" {
        let mut bytes = Vec::new();
        let failed = |why: &dyn std::fmt::Display| Error::config(format!("--sql -: stdin: {why}"));
        let read = std::io::stdin().lock().take(MAX_SQL_BYTES + 1).read_to_end(&mut bytes);
        if read.map_err(|error| failed(&error))? as u64 > MAX_SQL_BYTES {
            return Err(failed(&ReadError::TooLong(MAX_SQL_BYTES)));
        }
        text = file::decode_text(bytes).map_err(|unread| failed(&unread))?;
    }
    let sql = Sql::new(&text);
    if sql.text().is_empty() { Err(Error::config("--sql holds no statement")) } else { Ok(sql) }
}

fn choose<'c>(
    config: &'c Config,
    options: &TryArgs,
    sql: Option<Sql>,
) -> Result<(&'c TargetConfig, TriedStatement), Error> {
    let target = options.target.as_deref();
    let (target, statement) = match (&options.query, sql) {
        (Some(query), None) => {
            let (target, query) = try_query::query(config, query, target)?;
            (target, TriedStatement::Query(query))
        }
        (None, Some(sql)) => (try_query::target(config, target)?, TriedStatement::Sql(sql)),
        (Some(_), Some(_)) => return Err(Error::config("--query and --sql do not go together: name one")),
        (None, None) => {
            let error = Error::config("there is nothing to try");
            return Err(error.with_hint("write --query NAME or --sql 'SELECT …'"));
        }
    };
    if target.endpoint.is_none() {
        let driver = target.driver;
        return Err(Error::config(format!("target {}: the driver {driver} is not built in", target.name)));
    }
    Ok((target, statement))
}

/// The report as text: rows, mapping and samples under their headings, then a line of counts and one of times. Tables are
/// cut to the width of a terminal only.
struct TryText<'r> {
    report: &'r TryReport,
    width: Option<usize>,
    out: TerminalText,
}

impl TryText<'_> {
    fn render(mut self, rows: usize, explain: bool) -> TerminalText {
        let report = self.report;
        let what =
            report.query.as_ref().map_or_else(|| "the SQL".to_owned(), |query| format!("query {query}"));
        self.line(&format!("{what} on target {} ({})", report.target, report.driver));
        for why in &report.skipped {
            self.warning(&format!("a scrape would leave it out: {why}"));
        }
        if explain {
            self.plan();
        }
        if let (Some(columns), Some(shown)) = (&report.columns, &report.rows) {
            self.heading("Rows");
            self.table(columns, shown);
            self.rows_left_out(shown.len(), rows);
        }
        self.mapping();
        if let Some(proposal) = &report.proposal {
            self.heading("Proposed, to be copied below `queries:`");
            // Never wrapped, tabs included.
            self.out.append(TerminalText::document(proposal));
        }
        self.samples();
        self.out.end_line();
        self.counts();
        report.warnings.iter().for_each(|warning| self.warning(warning));
        if let Some(error) = &report.error {
            self.out.append(message("error", BAD, error, self.width));
        }
        self.times();
        self.out
    }

    fn line(&mut self, text: &str) {
        self.out.append(labelled("", PLAIN, text, self.width, "  "));
    }

    fn heading(&mut self, text: &str) {
        self.out.end_line();
        self.out.styled_line(BOLD, text);
    }

    fn warning(&mut self, text: &str) {
        self.out.append(labelled("warning", WARNING, &format!(": {text}"), self.width, "    "));
    }

    fn plan(&mut self) {
        match &self.report.plan {
            Some(plan) if plan.columns.len() == 1 => {
                self.heading("Plan");
                for row in plan.rows.iter().flatten() {
                    row.as_deref().unwrap_or("NULL").lines().for_each(|line| self.out.line(line));
                }
            }
            Some(plan) => {
                self.heading("Plan");
                self.table(&plan.columns, &plan.rows);
            }
            None if self.report.error.is_none() => self.warning("--plan: this database has no plan for it"),
            None => {}
        }
    }

    fn table(&mut self, columns: &[ResultColumn], rows: &[Vec<Option<String>>]) {
        if rows.is_empty() {
            return;
        }
        let heads: Vec<String> =
            columns.iter().map(|column| format!("{} ({})", column.name, column.type_name)).collect();
        let mut table = TextTable::new(&heads.iter().map(String::as_str).collect::<Vec<_>>());
        for row in rows {
            let cell = |value: &Option<String>| match value {
                Some(text) => TextCell::from(text),
                None => TextCell::styled(DIM, "NULL"),
            };
            table.row(row.iter().map(cell));
        }
        self.out.append(table.render(self.width));
    }

    fn rows_left_out(&mut self, shown: usize, wanted: usize) {
        let count = self.report.row_count.unwrap_or(0);
        let more = count.saturating_sub(shown as u64);
        if count == 0 {
            self.line("(no rows)");
        } else if self.report.stopped && wanted > 0 {
            self.line("(stopped there)");
        } else if more > 0 {
            self.line(&format!("({})", counted(more, "more row", "more rows")));
        }
    }

    fn mapping(&mut self) {
        if self.report.mapping.is_empty() {
            return;
        }
        self.heading("Columns");
        let mut table = TextTable::new(&["column", "type", "becomes", "in", "rule"]);
        for MappedColumn { column, type_name, becomes, metrics, rule } in &self.report.mapping {
            let becomes = match (becomes, type_name) {
                (None, _) => TextCell::styled(WARNING, "unused"),
                (Some(becomes), None) => TextCell::styled(BAD, becomes),
                (Some(becomes), Some(_)) => TextCell::from(becomes),
            };
            let type_name = type_name.as_deref().unwrap_or("missing");
            let metric = metrics.first().map_or("", String::as_str);
            table.row([column.into(), type_name.into(), becomes, metric.into(), rule.into()]);
            // The same in other metrics: below it, because a list would be cut.
            for metric in metrics.iter().skip(1) {
                table.row(["", "", "", metric].map(TextCell::from));
            }
        }
        self.out.append(table.render(self.width));
    }

    fn samples(&mut self) {
        let Some(exposition) = &self.report.exposition else { return };
        self.heading("Exposition");
        let (mut shown, mut more) = (0, 0);
        for line in exposition.lines() {
            match (line.starts_with('#'), shown < MAX_SAMPLES) {
                (true, true) => self.out.styled_line(DIM, line),
                (true, false) => {}
                (false, true) => {
                    shown += 1;
                    self.out.line(line);
                }
                (false, false) => more += 1,
            }
        }
        if more > 0 {
            self.line(&format!("({})", counted(more, "more sample", "more samples")));
        }
    }

    /// `12 rows → 24 series in 2 families`
    fn counts(&mut self) {
        let TryReport { row_count, series, families, values_skipped, .. } = self.report;
        let Some(rows) = row_count else { return };
        let mut text = counted(*rows, "row", "rows");
        if let (Some(series), Some(families)) = (series, families) {
            let families = counted(*families, "family", "families");
            text += &format!(" → {} in {families}", counted(*series, "series", "series"));
        }
        if let Some(skipped) = values_skipped {
            let all =
                [("NULL", skipped.null), ("not a number", skipped.invalid), ("duplicate", skipped.duplicate)];
            for (what, count) in all.into_iter().filter(|(_, count)| *count > 0) {
                text += &format!(", {} left out ({what})", counted(count, "value", "values"));
            }
        }
        self.line(&text);
    }

    fn times(&mut self) {
        let StepTimes { connect, first_row, rows, render } = self.report.times;
        let steps = [("connect", connect), ("first row", first_row), ("rows", rows), ("render", render)];
        let steps = steps.into_iter().filter_map(|(step, time)| Some(format!("{step} {}", duration(time?))));
        let steps: Vec<String> = steps.collect();
        if !steps.is_empty() {
            self.line(&steps.join(", "));
        }
    }
}

/// `0.02 ms`, `3.1 ms`, `2.35 s`
fn duration(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ..0.1 => format!("{ms:.2} ms"),
        ..1000.0 => format!("{ms:.1} ms"),
        _ => format!("{:.2} s", ms / 1000.0),
    }
}
