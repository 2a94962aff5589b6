//! `check --rule`: one lint explained, or all of them in a list.

use std::io::IsTerminal;

use crate::commands::terminal;
use crate::commands::terminal::{Cell, Paint, Table, TerminalText, Tint, WIDTH, wrap};
use crate::error::Error;
use crate::inspect::lint::rule as rule_of;
use crate::metric::lint_off::Lint;

/// A page is read best no wider than this.
const PAGE: usize = 100;

/// The text for `--rule CODE` or `--rule list`.
///
/// # Errors
/// There is no such lint; with the nearest.
pub(super) fn rule(code: &str) -> Result<TerminalText, Error> {
    let (paint, width) = (Paint::stdout(), terminal::width());
    if code.eq_ignore_ascii_case("list") {
        return Ok(list(paint, if std::io::stdout().is_terminal() { width } else { usize::MAX }));
    }
    let lint = Lint::find(code).ok_or_else(|| {
        Error::config(format!("--rule: there is no lint {code:?}")).with_hint(Lint::hint(code))
    })?;
    Ok(explained(lint, paint, width.clamp(WIDTH / 2, PAGE)))
}

fn list(paint: Paint, width: usize) -> TerminalText {
    let mut table = Table::default();
    for lint in Lint::ALL {
        table.row([Cell::tinted(Tint::Bold, lint.code()), lint.about().into()]);
    }
    table.render(paint, width)
}

fn explained(lint: Lint, paint: Paint, width: usize) -> TerminalText {
    let mut out = paint.bold(lint.code());
    out.line(&format!("  {}", lint.about()));
    if let Some(rule) = rule_of(lint) {
        out.end_line();
        out += wrap(rule.why, width, "");
        for (head, yaml) in [(paint.bad("Instead of"), rule.bad), (paint.good("write"), rule.good)] {
            out.end_line();
            out += head;
            out.end_line();
            yaml.lines().for_each(|line| out.line(&format!("    {line}")));
        }
    }
    out.end_line();
    out.line(&format!("Where it is meant so: `lint_off: [{}]` on {}.", lint.code(), lint.silenced_on()));
    out
}
