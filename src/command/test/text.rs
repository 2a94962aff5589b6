//! The report for people: a line a target, then what is wrong and what to do about it, then one line that counts.

use std::io::IsTerminal;
use std::time::Duration;

use crate::error::Error;
use crate::terminal::{self, Cell, Paint, Table, Tint, clean, wrap};

use super::advice;
use super::report::{Found, Outcome, Report, Verdict};

/// Cut and wrapped only where a terminal shows it.
pub(super) fn print(report: &Report) -> String {
    let width = std::io::stdout().is_terminal().then(terminal::width);
    Page { report, paint: Paint::stdout(), width }.render()
}

struct Page<'r> {
    report: &'r Report,
    paint: Paint,
    width: Option<usize>,
}

impl Page<'_> {
    fn render(&self) -> String {
        let mut table = Table::new(&["", "target", "server", "role", "TLS", "user", "time"]);
        for outcome in &self.report.outcomes {
            table.row(row(outcome));
        }
        let mut out = table.render(self.paint, self.width.unwrap_or(usize::MAX));
        for outcome in &self.report.outcomes {
            out += &self.details(outcome);
        }
        format!("{out}\n{}\n", self.summary())
    }

    /// What is not said in the target's line.
    fn details(&self, outcome: &Outcome) -> String {
        let name = &outcome.target.name;
        match &outcome.verdict {
            Verdict::Pass(found) => self.found(outcome, found),
            Verdict::Fail(error) => self.failure(outcome, error),
            Verdict::Skip(why) => self.headline(Tint::Dim, "SKIP", &format!("{name}: {why}")),
        }
    }

    fn failure(&self, outcome: &Outcome, error: &Error) -> String {
        let reason = error.reason();
        let said = format!("{}: {} ({})", outcome.target.name, advice::words(error), reason.word());
        let mut out = self.headline(Tint::Bad, "FAIL", &said);
        let code = error.sqlstate().map(|code| format!(" [{code}]")).unwrap_or_default();
        out += &self.line("", &format!("{}{code}", error.message()));
        for attempt in advice::tries(&outcome.target, error, self.report.timeout) {
            out += &self.line("try: ", &attempt);
        }
        out
    }

    fn found(&self, outcome: &Outcome, found: &Found) -> String {
        let name = &outcome.target.name;
        let mut out = String::new();
        for warning in found.warnings() {
            let said = self.headline(Tint::Warn, "WARN", &format!("{name}: {warning}"));
            // Those of one target stand together.
            out += if out.is_empty() { &said } else { said.trim_start_matches('\n') };
        }
        if !found.rights.grants.is_empty() {
            out += &self.line("", "a user who may do enough:");
        }
        for grant in &found.rights.grants {
            // To be copied: never wrapped.
            out += &format!("        {}\n", clean(grant));
        }
        if let Some(note) = advice::note(&outcome.target, &found.facts) {
            out += &self.headline(Tint::Dim, "note", &format!("{name}: {note}"));
        }
        out
    }

    fn headline(&self, tint: Tint, word: &str, text: &str) -> String {
        let text = self.wrapped(&format!("{word}  {text}"));
        let rest = text.strip_prefix(word).unwrap_or(&text);
        format!("\n{}{rest}\n", self.paint.tint(tint, word))
    }

    fn line(&self, label: &str, text: &str) -> String {
        format!("      {}\n", self.wrapped(&format!("{label}{text}")))
    }

    fn wrapped(&self, text: &str) -> String {
        match self.width {
            Some(width) => wrap(text, width.saturating_sub(6).max(20), "      "),
            None => clean(text).into_owned(),
        }
    }

    /// `12 targets: 10 passed, 1 failed, 1 skipped; 2 with warnings`
    fn summary(&self) -> String {
        let count = self.report.count();
        let targets = self.report.outcomes.len();
        let plural = if targets == 1 { "" } else { "s" };
        let tint = |count, some| if count > 0 { some } else { Tint::Plain };
        let mut out = format!("{targets} target{plural}: ");
        out += &self.paint.tint(tint(count.passed, Tint::Good), &format!("{} passed", count.passed));
        out += ", ";
        out += &self.paint.tint(tint(count.failed, Tint::Bad), &format!("{} failed", count.failed));
        if count.skipped > 0 {
            out += &format!(", {} skipped", count.skipped);
        }
        if count.warned > 0 {
            let warned = format!("{} with warnings", count.warned);
            out += &format!("; {}", self.paint.warn(&warned));
        }
        out
    }
}

fn row(outcome: &Outcome) -> Vec<Cell> {
    let target = &outcome.target;
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let configured = || {
        let login = target.endpoint.as_ref().and_then(|endpoint| endpoint.login());
        dash(login.and_then(|login| login.username.as_deref()).unwrap_or_default())
    };
    let (tint, word, server, role, tls, user) = match &outcome.verdict {
        Verdict::Pass(found) => {
            let (tint, word) = if found.warns() { (Tint::Warn, "WARN") } else { (Tint::Good, "PASS") };
            let user = dash(found.rights.user.as_deref().unwrap_or_default());
            (tint, word, found.server(), dash(&found.facts.role), found.facts.tls.word().to_owned(), user)
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
