//! `test`: connects to every target at once and reports whether it works, as which user, how the connection is protected, and
//! which privileges the user has that a reader does not need. Exit 0 when all work, 1 when one does not, 2 for a wrong
//! configuration.
//!
//! `advice` explains a failure and suggests what to try.

mod advice;

use std::sync::Arc;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use self::advice::ExplainedFailure;
use super::settings::GlobalArgs;
use super::terminal::{
    BAD, DIM, GOOD, PLAIN, Progress, TerminalText, TextCell, TextTable, WARNING, labelled, wrap_width,
};
use super::{CommandResult, ReportFormat, print_report};
use crate::config::Config;
use crate::config::target::TargetConfig;
use crate::deadline::Deadline;
use crate::engine::targets;
use crate::error::Error;
use crate::inspect::privileges::{self, TestOutcome, TestedTarget};
use crate::plain_text::{counted, shortened};

/// Before the lines about one target.
const INDENT: &str = "      ";

/// Connect to every target and report what works: exit 0 when all do, 1 when one fails, 2 for a bad configuration.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "test",
    help_triggers("-h", "--help", "help"),
    example = "Test all targets before the exporter starts:\n  {command_name} -c shop.yaml",
    example = "Test one, for a script, with two seconds at most:\n  {command_name} -c shop.yaml --target shop --timeout 2s --format json"
)]
pub struct TestArgs {
    /// only this target (repeatable)
    #[argh(option)]
    target: Vec<String>,

    /// how long all of it may take (default 10s); a target's connect_timeout applies too
    #[argh(option, default = "Duration::from_secs(10)", from_str_fn(super::read_timeout))]
    timeout: Duration,

    /// text (default) or json
    #[argh(option, default = "ReportFormat::Text", from_str_fn(ReportFormat::read))]
    format: ReportFormat,
}

/// Connects and prints. Blocks for hardly longer than `--timeout`.
///
/// # Errors
/// Wrong arguments, a wrong configuration. What is wrong with a target is in the report and in the exit code.
pub fn run(args: &GlobalArgs, options: &TestArgs) -> CommandResult {
    let config = super::load(args)?;
    let lacks_files = options.target.is_empty() && !config.target_file_faults().is_empty();
    let by = Deadline::within(options.timeout);
    let config = super::discovered(config, &options.target, by.earlier_by(options.timeout / 2));
    let targets = choose(&config, &options.target)?;
    let count = counted(targets.len(), "target", "targets");
    let progress = Progress::start(format!("connecting to {count}"));
    let show = |done| progress.show(format!("{done} of {count} tested"));
    let tested = privileges::test(&targets, by, show);
    drop(progress);
    let targets = tested.into_iter().map(|tested| TargetReport::new(tested, options.timeout));
    let report = TestReport::new(targets.collect());
    print_report(options.format, &report, render)?;
    Ok(u8::from(lacks_files || report.summary.failed > 0))
}

/// The named targets, disabled ones too, in configuration order.
fn choose(config: &Config, wanted: &[String]) -> Result<Vec<Arc<TargetConfig>>, Error> {
    targets::check_names("target", wanted, || config.targets.iter().map(|target| target.name.as_str()))?;
    let is_wanted = |target: &&Arc<TargetConfig>| wanted.is_empty() || wanted.contains(&target.name);
    Ok(config.targets.iter().filter(is_wanted).cloned().collect())
}

/// The outcome; as JSON the names and nulls of the fields are a promise to scripts.
#[derive(Serialize)]
struct TestReport {
    /// In configuration order.
    targets: Vec<TargetReport>,
    summary: TestSummary,
}

#[derive(Serialize)]
struct TestSummary {
    targets: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
    with_warnings: usize,
}

/// `PostgreSQL 15.18`: the name as its makers write it, and the version's number alone.
pub(super) fn server_name(flavor: &str, version: &str) -> String {
    let name = match flavor {
        "postgresql" => "PostgreSQL",
        "pgbouncer" => "PgBouncer",
        "mysql" => "MySQL",
        "mariadb" => "MariaDB",
        "sqlite" => "SQLite",
        other => other,
    };
    let number = version.split([' ', '-', '/']).next().unwrap_or_default();
    format!("{name} {number}").trim_end().to_owned()
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum TargetVerdict {
    #[default]
    Pass,
    Fail,
    Skip,
}

/// One target; null is what is not known.
#[derive(Default, Serialize)]
struct TargetReport {
    target: String,
    verdict: TargetVerdict,
    driver: &'static str,
    address: Option<String>,
    flavor: Option<String>,
    version: Option<String>,
    role: Option<String>,
    tls: Option<&'static str>,
    user: Option<String>,
    duration_seconds: Option<f64>,
    warnings: Vec<String>,
    grants: Vec<String>,
    note: Option<&'static str>,
    error: Option<ExplainedFailure>,
    skipped: Option<String>,
    /// Of the configuration, for a target without a session.
    #[serde(skip)]
    configured_user: Option<String>,
}

impl TargetReport {
    fn new(tested: TestedTarget, timeout: Duration) -> TargetReport {
        let TestedTarget { target, outcome, took } = tested;
        let mut report = TargetReport {
            target: target.name.clone(),
            driver: target.driver,
            address: target.endpoint.as_ref().map(|endpoint| endpoint.redacted_url()),
            duration_seconds: Some(took.as_secs_f64()),
            configured_user: target.login().and_then(|login| login.username.clone()),
            ..TargetReport::default()
        };
        match outcome {
            TestOutcome::Pass(server) => {
                report.warnings = server.warnings().map(str::to_owned).collect();
                report.note = advice::tls_note(&target, &server.facts);
                report.flavor = Some(server.facts.flavor);
                report.version = Some(server.facts.version);
                report.role = Some(server.facts.role).filter(|role| !role.is_empty());
                report.tls = Some(server.facts.tls.as_str());
                report.user = server.privileges.user;
                report.grants = server.privileges.grants;
            }
            TestOutcome::Fail(error) => {
                report.verdict = TargetVerdict::Fail;
                report.error = Some(ExplainedFailure::new(&target, &error, timeout));
            }
            TestOutcome::Skip(why) => {
                report.verdict = TargetVerdict::Skip;
                report.duration_seconds = None;
                report.skipped = Some(why);
            }
        }
        report
    }

    fn server(&self) -> String {
        let Some(flavor) = &self.flavor else { return self.driver.to_owned() };
        server_name(flavor, self.version.as_deref().unwrap_or_default())
    }

    fn row(&self) -> [TextCell; 7] {
        let verdict = match self.verdict {
            TargetVerdict::Pass if self.warnings.is_empty() => TextCell::styled(GOOD, "PASS"),
            TargetVerdict::Pass => TextCell::styled(WARNING, "WARN"),
            TargetVerdict::Fail => TextCell::styled(BAD, "FAIL"),
            TargetVerdict::Skip => TextCell::styled(DIM, "SKIP"),
        };
        let or_dash = |text: Option<&str>| TextCell::from(text.unwrap_or("-"));
        let user = if self.verdict == TargetVerdict::Pass { &self.user } else { &self.configured_user };
        let user = user.as_deref().filter(|user| !user.is_empty());
        let time = self.duration_seconds.map(milliseconds);
        [
            verdict,
            self.target.as_str().into(),
            self.server().into(),
            or_dash(self.role.as_deref()),
            or_dash(self.tls),
            or_dash(user),
            or_dash(time.as_deref()),
        ]
    }
}

impl TestReport {
    fn new(targets: Vec<TargetReport>) -> TestReport {
        let count = |verdict| targets.iter().filter(|target| target.verdict == verdict).count();
        let summary = TestSummary {
            targets: targets.len(),
            passed: count(TargetVerdict::Pass),
            failed: count(TargetVerdict::Fail),
            skipped: count(TargetVerdict::Skip),
            with_warnings: targets.iter().filter(|target| !target.warnings.is_empty()).count(),
        };
        TestReport { targets, summary }
    }
}

/// `3.2 ms`, `12 ms`: as many digits as are meaningful.
fn milliseconds(seconds: f64) -> String {
    let milliseconds = seconds * 1000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.1} ms") } else { format!("{milliseconds:.0} ms") }
}

/// The report as text: a line a target, then what is wrong and what to do about it, then a line of counts. Cut and wrapped
/// only where a terminal shows it.
fn render(report: &TestReport) -> TerminalText {
    let mut table = TextTable::new(&["", "target", "server", "role", "TLS", "user", "time"]);
    report.targets.iter().for_each(|target| table.row(target.row()));
    let mut details = DetailLines::new(table.render(wrap_width()));
    report.targets.iter().for_each(|target| details.target(target));
    let mut out = details.out;
    out.end_line();
    render_summary(&report.summary, &mut out);
    out
}

/// A target that does not work, as this command prints it.
pub(super) fn failure_text(target: &TargetConfig, error: &Error, timeout: Duration) -> TerminalText {
    let mut details = DetailLines::new(TerminalText::default());
    details.failure(&target.name, &ExplainedFailure::new(target, error, timeout));
    details.out
}

/// What is not in the table.
struct DetailLines {
    out: TerminalText,
    width: Option<usize>,
}

impl DetailLines {
    fn new(out: TerminalText) -> DetailLines {
        // The lines are indented.
        DetailLines { out, width: wrap_width().map(|width| width.saturating_sub(INDENT.len()).max(20)) }
    }

    fn target(&mut self, report: &TargetReport) {
        let name = &report.target;
        if let Some(why) = &report.skipped {
            self.out.end_line();
            self.headline(DIM, "SKIP", &format!("{name}: {why}"));
        }
        if let Some(failure) = &report.error {
            self.out.end_line();
            self.failure(name, failure);
        }
        for (index, warning) in report.warnings.iter().enumerate() {
            if index == 0 {
                self.out.end_line();
            }
            self.headline(WARNING, "WARN", &format!("{name}: {warning}"));
        }
        if !report.grants.is_empty() {
            self.line("a user with enough privileges:");
        }
        for grant in &report.grants {
            // To be copied: never wrapped.
            self.out.line(&format!("        {grant}"));
        }
        if let Some(note) = report.note {
            self.out.end_line();
            self.headline(DIM, "note", &format!("{name}: {note}"));
        }
    }

    fn failure(&mut self, name: &str, failure: &ExplainedFailure) {
        self.headline(BAD, "FAIL", &format!("{name}: {} ({})", failure.words, failure.reason));
        let code = failure.sqlstate.as_ref().map(|code| format!(" [{code}]")).unwrap_or_default();
        self.line(&format!("{}{code}", shortened(&failure.message)));
        for suggestion in &failure.suggestions {
            self.line(&format!("try: {suggestion}"));
        }
    }

    fn headline(&mut self, style: anstyle::Style, label: &str, text: &str) {
        self.out.append(labelled(label, style, &format!("  {text}"), self.width, INDENT));
    }

    fn line(&mut self, text: &str) {
        self.out.text(INDENT);
        self.out.append(labelled("", PLAIN, text, self.width, INDENT));
    }
}

/// `12 targets: 10 passed, 1 failed, 1 skipped; 2 with warnings`
fn render_summary(summary: &TestSummary, out: &mut TerminalText) {
    let TestSummary { targets, passed, failed, skipped, with_warnings } = *summary;
    out.text(&format!("{}: ", counted(targets, "target", "targets")));
    out.styled(if passed > 0 { GOOD } else { PLAIN }, &format!("{passed} passed"));
    out.text(", ");
    out.styled(if failed > 0 { BAD } else { PLAIN }, &format!("{failed} failed"));
    if skipped > 0 {
        out.text(&format!(", {skipped} skipped"));
    }
    if with_warnings > 0 {
        out.text("; ");
        out.styled(WARNING, &format!("{with_warnings} with warnings"));
    }
    out.end_line();
}
