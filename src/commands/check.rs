//! `check`: all that can be found out about a configuration without a database, and with `--connect` what its databases
//! report. Exit 0 without an error, 1 with `--strict` and a warning, 2 with an error or a failed test of a query.

use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use super::settings::{CommandSettings, GlobalArgs, process_environment};
use super::terminal::{
    BAD, BOLD, DEFAULT_WIDTH, DIM, GOOD, PLAIN, Progress, TerminalText, TextCell, TextTable, WARNING,
    message, width, wrap, wrap_width,
};
use super::{CommandResult, ReportFormat, print_report, print_stdout};
use crate::config::Config;
use crate::deadline::Deadline;
use crate::driver::Drivers;
use crate::error::Error;
use crate::inspect::describe::{self, DescribedTarget};
use crate::inspect::discovery;
use crate::inspect::lint;
use crate::inspect::query_tests::{self, QueryTestResult};
use crate::inspect::report::{Finding, Severity};
use crate::inspect::shared_families;
use crate::metric::lint_off::{LINTS, Lint};
use crate::plain_text::counted;
use crate::server;
use crate::yaml::keys::file_order;

/// An explanation is no wider than this on a wide terminal.
const MAX_TEXT_WIDTH: usize = 100;

/// Check the configuration without a database, or against its databases: exit 0 without errors, 1 with --strict and a warning, 2 with an error.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "check",
    help_triggers("-h", "--help", "help"),
    example = "Check before a commit; a warning fails it too:\n  {command_name} -c shop.yaml --strict",
    example = "Check the queries against their databases, running none:\n  {command_name} -c shop.yaml --connect"
)]
pub struct CheckArgs {
    /// exit 1 on a warning
    #[argh(switch)]
    strict: bool,

    /// describe every query on each of its targets, without running it, and compare columns and types
    #[argh(switch)]
    connect: bool,

    /// how long the databases have with --connect (default 60s)
    #[argh(option, default = "Duration::from_secs(60)", from_str_fn(super::read_timeout))]
    timeout: Duration,

    /// explain one lint, or `list` all of them, and check nothing
    #[argh(option)]
    rule: Option<String>,

    /// text (default) or json
    #[argh(option, default = "ReportFormat::Text", from_str_fn(ReportFormat::read))]
    format: ReportFormat,
}

/// Checks and prints. A host name in `exporter.listen` is resolved.
///
/// # Errors
/// Wrong arguments. What is wrong with the configuration is in the report and in the exit code.
pub fn run(args: &GlobalArgs, options: &CheckArgs) -> CommandResult {
    if let Some(code) = &options.rule {
        print_stdout(&explain(code)?)?;
        return Ok(0);
    }
    let settings = CommandSettings::new(args, &process_environment)?;
    let progress = Progress::start("checking the configuration");
    let by = options.connect.then(|| Deadline::within(options.timeout));
    let report = check(&settings, &progress, by);
    drop(progress);
    print_report(options.format, &report, render)?;
    let CheckSummary { errors, warnings, tests_failed, .. } = report.summary;
    Ok(match (errors + tests_failed, warnings) {
        (0, 0) => 0,
        (0, _) => u8::from(options.strict),
        _ => 2,
    })
}

/// What was found; as JSON the names and nulls of the fields are a promise to scripts.
#[derive(Default, Serialize)]
struct CheckReport {
    /// In the order of the files.
    findings: Vec<Finding>,
    /// With `--connect`.
    targets: Vec<DescribedTarget>,
    tests: Vec<QueryTestResult>,
    summary: CheckSummary,
}

/// Counts; null where the configuration does not load.
#[derive(Clone, Copy, Default, Serialize)]
struct CheckSummary {
    errors: usize,
    warnings: usize,
    notes: usize,
    silenced: usize,
    files: usize,
    targets: Option<usize>,
    queries: Option<usize>,
    loaded: bool,
    tests_passed: usize,
    tests_failed: usize,
}

/// `by`: until when the databases may take; `None` connects to none.
fn check(settings: &CommandSettings, progress: &Progress, by: Option<Deadline>) -> CheckReport {
    let mut report = CheckReport::default();
    report.add(Severity::Warning, settings.warnings.iter().map(|text| Error::config(text.as_str())));
    let (mut files, web_config_file) =
        match settings.load_or_invalid(&process_environment, &Drivers::built_in()) {
            Ok(config) => {
                let known = (config.files.clone(), config.exporter.web_config_file.clone());
                report.check_loaded(config, progress, by);
                known
            }
            Err(invalid) => {
                report.add(Severity::Warning, invalid.warnings);
                report.add(Severity::Error, invalid.faults);
                (invalid.files, invalid.exporter.and_then(|exporter| exporter.web_config_file))
            }
        };
    if let Some(path) = web_config_file {
        files.push(path.display().to_string());
        report.add(Severity::Error, server::check_web_config(&path).err().into_iter().flatten());
    }
    report.findings.sort_by_cached_key(|finding| (file_order(&finding.error, &files), finding.code));
    report.sum_up(files.len());
    report
}

impl CheckReport {
    fn add(&mut self, severity: Severity, errors: impl IntoIterator<Item = Error>) {
        self.findings.extend(errors.into_iter().map(|error| Finding::new(severity, error)));
    }

    /// What only a configuration that loads can show.
    fn check_loaded(&mut self, config: Config, progress: &Progress, by: Option<Deadline>) {
        let summary = &mut self.summary;
        summary.loaded = true;
        (summary.targets, summary.queries) = (Some(config.targets.len()), Some(config.queries.len()));
        let lints = lint::run(&config);
        summary.silenced = lints.silenced;
        self.add(Severity::Warning, config.warnings.iter().cloned());
        self.findings.extend(lints.findings);
        self.findings.extend(shared_families::run(&config));
        progress.show(format!("running {}", counted(config.query_tests.len(), "test", "tests")));
        self.tests = query_tests::run(&config);
        self.add(Severity::Error, config.target_file_faults());
        let Some(by) = by else { return };
        let half = by.earlier_by(by.left() / 2);
        let (config, failures) = discovery::run(config, &[], half, &process_environment);
        self.add(Severity::Error, failures);
        let show = |done, all| progress.show(format!("checking the databases: {done} of {all} done"));
        let description = describe::run(&config, by, show);
        self.findings.extend(description.findings);
        self.targets = description.targets;
    }

    fn sum_up(&mut self, files: usize) {
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let [errors, warnings, notes] = [Severity::Error, Severity::Warning, Severity::Note].map(count);
        let tests_failed = self.tests.iter().filter(|test| !test.passed).count();
        let tests_passed = self.tests.len() - tests_failed;
        self.summary =
            CheckSummary { errors, warnings, notes, files, tests_passed, tests_failed, ..self.summary };
    }
}

/// The report as text, wrapped only where a terminal shows it: in a pipe a line is a finding.
fn render(report: &CheckReport) -> TerminalText {
    let width = wrap_width();
    let mut out = TerminalText::default();
    for Finding { severity, code, error } in &report.findings {
        let style = match severity {
            Severity::Error => BAD,
            Severity::Warning => WARNING,
            Severity::Note => DIM,
        };
        let code = code.map(|code| format!("[{code}]")).unwrap_or_default();
        out.append(message(&format!("{}{code}", severity.as_str()), style, error, width));
    }
    render_targets(&report.targets, width, &mut out);
    render_tests(report, &mut out);
    render_summary(&report.summary, &mut out);
    out
}

/// One line a target, and the queries that would not run there.
fn render_targets(targets: &[DescribedTarget], width: Option<usize>, out: &mut TerminalText) {
    let mut table = TextTable::new(&["target", "server", "role", "described", "skipped"]);
    let reached = || targets.iter().filter(|target| target.error.is_none());
    for DescribedTarget { target, flavor, version, role, described, skipped, .. } in reached() {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        table.row([
            TextCell::styled(GOOD, target),
            format!("{} {}", text(flavor), text(version)).into(),
            text(role).into(),
            described.to_string().into(),
            skipped.len().to_string().into(),
        ]);
    }
    if !table.is_empty() {
        out.append(table.render(width));
    }
    for target in reached() {
        for skipped in &target.skipped {
            let (query, why) = (&skipped.query, &skipped.why);
            out.line(&format!("skipped: target {}, query {query}: {why}", target.target));
        }
    }
}

/// One line a test, the differences below it, and a line of counts. Those of packs, which nobody here wrote, only where they
/// fail.
fn render_tests(report: &CheckReport, out: &mut TerminalText) {
    let shown = report.tests.iter().filter(|test| !(test.passed && test.file.starts_with("builtin:")));
    for QueryTestResult { name, query, file, line, passed, why } in shown {
        let (style, verdict) = if *passed { (GOOD, "PASS") } else { (BAD, "FAIL") };
        out.styled(style, verdict);
        out.line(&format!(" {file}:{line}: {query}: {name}"));
        for difference in why.iter().flat_map(|why| why.lines()) {
            let style = match difference.trim_start() {
                line if line.starts_with("- ") => GOOD,
                line if line.starts_with("+ ") => BAD,
                _ => PLAIN,
            };
            out.styled_line(style, &format!("     {difference}"));
        }
    }
    if !report.tests.is_empty() {
        let CheckSummary { tests_passed, tests_failed, .. } = report.summary;
        let tests = counted(report.tests.len(), "test", "tests");
        out.line(&format!("{tests}: {tests_passed} passed, {tests_failed} failed"));
    }
}

/// `2 errors, 3 warnings, 1 silenced in 4 files: 12 targets, 33 queries`
fn render_summary(summary: &CheckSummary, out: &mut TerminalText) {
    let CheckSummary { errors, warnings, notes, silenced, files, targets, queries, .. } = *summary;
    out.styled(if errors > 0 { BAD } else { GOOD }, &counted(errors, "error", "errors"));
    out.text(", ");
    out.styled(if warnings > 0 { WARNING } else { GOOD }, &counted(warnings, "warning", "warnings"));
    if notes > 0 {
        out.text(&format!(", {}", counted(notes, "note", "notes")));
    }
    if silenced > 0 {
        out.text(&format!(", {silenced} silenced"));
    }
    if files > 0 {
        out.text(&format!(" in {}", counted(files, "file", "files")));
    }
    match (targets, queries) {
        (Some(targets), Some(queries)) => {
            let targets = counted(targets, "target", "targets");
            out.line(&format!(": {targets}, {}", counted(queries, "query", "queries")));
        }
        _ => out.line("; lints and tests run once it loads"),
    }
}

/// The text of `--rule CODE` or `--rule list`.
///
/// # Errors
/// There is no such lint; with the nearest.
fn explain(code: &str) -> Result<TerminalText, Error> {
    if code.eq_ignore_ascii_case("list") {
        let mut table = TextTable::default();
        for lint in LINTS {
            table.row([TextCell::styled(BOLD, lint.code), lint.about.into()]);
        }
        return Ok(table.render(wrap_width()));
    }
    let lint = Lint::find(code).ok_or_else(|| {
        Error::config(format!("--rule: there is no lint {code:?}")).with_hint(Lint::hint(code))
    })?;
    let mut out = TerminalText::default();
    out.styled(BOLD, lint.code);
    out.line(&format!("  {}", lint.about));
    for details in lint::LINT_DETAILS.iter().filter(|details| details.lint == lint) {
        out.end_line();
        let width = width().clamp(DEFAULT_WIDTH / 2, MAX_TEXT_WIDTH);
        wrap(&details.why, Some(width), "").iter().for_each(|line| out.line(line));
        for (style, heading, yaml) in [(BAD, "Instead of", details.bad), (GOOD, "write", details.good)] {
            out.end_line();
            out.styled_line(style, heading);
            yaml.lines().for_each(|line| out.line(&format!("    {line}")));
        }
    }
    out.end_line();
    out.line(&format!("To keep it as it is: `lint_off: [{}]` on {}.", lint.code, lint.silenced_on()));
    Ok(out)
}
