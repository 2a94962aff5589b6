//! A report for people: each finding with its line and caret, the tests of queries, then one line that counts.

use std::io::IsTerminal;

use crate::commands::terminal;
use crate::commands::terminal::{Cell, Paint, Table, TerminalText, Tint, message};
use crate::inspect::describe::Reached;
use crate::inspect::query_tests;

use super::report::{Report, Severity};

/// The text, wrapped only where a terminal shows it: a line is a finding to whatever reads a pipe.
pub(super) fn render(report: &Report) -> TerminalText {
    let (paint, width) = (Paint::stdout(), std::io::stdout().is_terminal().then(terminal::width));
    let mut out = TerminalText::new();
    for entry in report.in_order() {
        let tint = match entry.severity {
            Severity::Error => Tint::Bad,
            Severity::Warning => Tint::Warn,
            Severity::Note => Tint::Dim,
        };
        let code = entry.lint.map(|lint| format!("[{}]", lint.code())).unwrap_or_default();
        let label = format!("{}{code}", entry.severity.word());
        out += message(&label, tint, &entry.error, paint, width);
    }
    out += servers(report, paint, width);
    for line in query_tests::lines(&report.cases) {
        out += tinted(&line, paint);
    }
    out += summary(report, paint);
    out.end_line();
    out
}

/// What was asked with `--connect`: a line a target, and the queries that would not run there.
fn servers(report: &Report, paint: Paint, width: Option<usize>) -> TerminalText {
    let mut table = Table::new(&["target", "server", "role", "described", "skipped"]);
    let mut skipped = TerminalText::new();
    for Reached { target, server, described, skipped: apart, untold: _ } in &report.reached {
        let Ok(facts) = server else { continue };
        let server = format!("{} {}", facts.flavor, facts.version);
        table.row([
            Cell::tinted(Tint::Good, target),
            server.as_str().into(),
            facts.role.as_str().into(),
            described.to_string().as_str().into(),
            apart.len().to_string().as_str().into(),
        ]);
        for (query, why) in apart {
            skipped.line(&format!("skipped: target {target}, query {query}: {why}"));
        }
    }
    let mut out = TerminalText::new();
    if !table.is_empty() {
        out += table.render(paint, width.unwrap_or(usize::MAX));
    }
    out += skipped;
    out
}

/// A line of a test's report.
fn tinted(line: &str, paint: Paint) -> TerminalText {
    let (tint, rest) = match line.split_once(' ') {
        Some(("PASS", rest)) => (Tint::Good, Some(rest)),
        Some(("FAIL", rest)) => (Tint::Bad, Some(rest)),
        _ if line.trim_start().starts_with("- ") => (Tint::Good, None),
        _ if line.trim_start().starts_with("+ ") => (Tint::Bad, None),
        _ => (Tint::Plain, None),
    };
    let head = if rest.is_some() { line.split(' ').next().unwrap_or_default() } else { line };
    let mut out = paint.tint(tint, head);
    out += &*rest.map(|rest| format!(" {rest}")).unwrap_or_default();
    out.end_line();
    out
}

/// `2 errors, 3 warnings, 1 silenced in 4 files: 12 targets, 33 queries`
fn summary(report: &Report, paint: Paint) -> TerminalText {
    let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
    let tint = |count, bad| if count > 0 { bad } else { Tint::Good };
    let mut out = paint.tint(tint(errors, Tint::Bad), &counted(errors, "error"));
    out += ", ";
    out += paint.tint(tint(warnings, Tint::Warn), &counted(warnings, "warning"));
    match report.count(Severity::Note) {
        0 => {}
        notes => out += &*format!(", {}", counted(notes, "note")),
    }
    if report.silenced > 0 {
        out += &*format!(", {} silenced", report.silenced);
    }
    if !report.files.is_empty() {
        out += &*format!(" in {}", counted(report.files.len(), "file"));
    }
    out += &*match report.size {
        Some(size) => format!(": {}, {}", counted(size.targets, "target"), queries(size.queries)),
        None => "; lints and tests run once it loads".to_owned(),
    };
    out
}

fn queries(count: usize) -> String {
    if count == 1 { "1 query".to_owned() } else { format!("{count} queries") }
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
