//! The report for people: a line a target, then what is wrong and what to do about it, then one line that counts.

use std::io::IsTerminal;
use std::time::Duration;

use crate::commands::terminal;
use crate::commands::terminal::{Cell, Paint, Table, TerminalText, Tint, labelled};
use crate::error::Error;
use crate::plain_text::shortened;

use super::advice;
use super::report::{Found, Outcome, Report, Verdict};

/// Behind the first line of what is said of a target.
const INDENT: &str = "      ";

/// Cut and wrapped only where a terminal shows it.
pub(super) fn render(report: &Report) -> TerminalText {
    let width = std::io::stdout().is_terminal().then(terminal::width);
    Page { report, paint: Paint::stdout(), width }.render()
}

struct Page<'r> {
    report: &'r Report,
    paint: Paint,
    width: Option<usize>,
}

impl Page<'_> {
    fn render(&self) -> TerminalText {
        let mut table = Table::new(&["", "target", "server", "role", "TLS", "user", "time"]);
        for outcome in &self.report.outcomes {
            table.row(row(outcome));
        }
        let mut out = table.render(self.paint, self.width.unwrap_or(usize::MAX));
        for outcome in &self.report.outcomes {
            self.details(outcome, &mut out);
        }
        out.end_line();
        out += self.summary();
        out.end_line();
        out
    }

    /// What is not said in the target's line.
    fn details(&self, outcome: &Outcome, out: &mut TerminalText) {
        let name = &outcome.target.name;
        match &outcome.verdict {
            Verdict::Pass(found) => self.found(outcome, found, out),
            Verdict::Fail(error) => self.failure(outcome, error, out),
            Verdict::Skip(why) => {
                out.end_line();
                self.headline(Tint::Dim, "SKIP", &format!("{name}: {why}"), out);
            }
        }
    }

    fn failure(&self, outcome: &Outcome, error: &Error, out: &mut TerminalText) {
        let reason = error.reason();
        let said = format!("{}: {} ({})", outcome.target.name, advice::words(error), reason.as_str());
        out.end_line();
        self.headline(Tint::Bad, "FAIL", &said, out);
        let code = error.sqlstate().map(|code| format!(" [{code}]")).unwrap_or_default();
        self.line(&format!("{}{code}", shortened(error.message())), out);
        for attempt in advice::tries(&outcome.target, error, self.report.timeout) {
            self.line(&format!("try: {attempt}"), out);
        }
    }

    fn found(&self, outcome: &Outcome, found: &Found, out: &mut TerminalText) {
        let name = &outcome.target.name;
        for (index, warning) in found.warnings().enumerate() {
            // Those of one target stand together.
            if index == 0 {
                out.end_line();
            }
            self.headline(Tint::Warn, "WARN", &format!("{name}: {warning}"), out);
        }
        if !found.rights.grants.is_empty() {
            self.line("a user who may do enough:", out);
        }
        for grant in &found.rights.grants {
            // To be copied: never wrapped.
            out.line(&format!("        {grant}"));
        }
        if let Some(note) = advice::note(&outcome.target, &found.facts) {
            out.end_line();
            self.headline(Tint::Dim, "note", &format!("{name}: {note}"), out);
        }
    }

    fn headline(&self, tint: Tint, word: &str, text: &str, out: &mut TerminalText) {
        *out += labelled(word, tint, &format!("  {text}"), self.paint, self.room(), INDENT);
    }

    fn line(&self, text: &str, out: &mut TerminalText) {
        *out += INDENT;
        *out += labelled("", Tint::Plain, text, self.paint, self.room(), INDENT);
    }

    /// Columns of a line behind its indent.
    fn room(&self) -> Option<usize> {
        self.width.map(|width| width.saturating_sub(INDENT.len()).max(20))
    }

    /// `12 targets: 10 passed, 1 failed, 1 skipped; 2 with warnings`
    fn summary(&self) -> TerminalText {
        let count = self.report.count();
        let targets = self.report.outcomes.len();
        let plural = if targets == 1 { "" } else { "s" };
        let tint = |count, some| if count > 0 { some } else { Tint::Plain };
        let mut out = TerminalText::of(&format!("{targets} target{plural}: "));
        out += self.paint.tint(tint(count.passed, Tint::Good), &format!("{} passed", count.passed));
        out += ", ";
        out += self.paint.tint(tint(count.failed, Tint::Bad), &format!("{} failed", count.failed));
        if count.skipped > 0 {
            out += &*format!(", {} skipped", count.skipped);
        }
        if count.warned > 0 {
            out += "; ";
            out += self.paint.warn(&format!("{} with warnings", count.warned));
        }
        out
    }
}

fn row(outcome: &Outcome) -> Vec<Cell> {
    let target = &outcome.target;
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let configured = || {
        let login = target.endpoint.as_ref().and_then(|endpoint| endpoint.connection_config());
        dash(login.and_then(|login| login.username.as_deref()).unwrap_or_default())
    };
    let (tint, word, server, role, tls, user) = match &outcome.verdict {
        Verdict::Pass(found) => {
            let (tint, word) = if found.warns() { (Tint::Warn, "WARN") } else { (Tint::Good, "PASS") };
            let user = dash(found.rights.user.as_deref().unwrap_or_default());
            (tint, word, found.server(), dash(&found.facts.role), found.facts.tls.as_str().to_owned(), user)
        }
        Verdict::Fail(_) => (Tint::Bad, "FAIL", target.driver.to_owned(), dash(""), dash(""), configured()),
        Verdict::Skip(_) => (Tint::Dim, "SKIP", target.driver.to_owned(), dash(""), dash(""), configured()),
    };
    let time = match outcome.verdict {
        Verdict::Skip(_) => dash(""),
        _ => millis(outcome.took),
    };
    let rest = [target.name.clone(), server, role, tls, user, time];
    std::iter::once(Cell::tinted(tint, word)).chain(rest.into_iter().map(Cell::from)).collect()
}

/// `3.2 ms`, `12 ms`: so many digits as mean anything.
fn millis(took: Duration) -> String {
    let millis = took.as_secs_f64() * 1000.0;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}
