//! A trial for people: rows, mapping and samples under their heads, then one line that counts and one that tells the time.

use std::io::IsTerminal;
use std::time::Duration;

use crate::commands::terminal;
use crate::commands::terminal::{Cell, Paint, Table, TerminalText, Tint, labelled, message};
use crate::exposition::page::pieces;
use crate::exposition::text::Text;
use crate::inspect::try_query::{Ask, Listing, Made, Mapped, Times, Trial};

/// Samples that are shown; `collect` prints all.
const SAMPLES: usize = 20;

/// How it is laid out.
struct Page {
    paint: Paint,
    /// Of a terminal.
    width: Option<usize>,
    out: TerminalText,
}

/// The text; tables are cut to the width of a terminal only.
pub(super) fn render(ask: &Ask<'_>, trial: &Trial) -> TerminalText {
    let (paint, width) = (Paint::stdout(), std::io::stdout().is_terminal().then(terminal::width));
    let mut page = Page { paint, width, out: TerminalText::new() };
    let what = ask.query().map_or_else(|| "the SQL".to_owned(), |query| format!("query {}", query.name));
    page.line(&format!("{what} on target {} ({})", ask.target.name, ask.target.driver));
    for why in &trial.skipped {
        page.warning(&format!("a scrape would leave it out: {why}"));
    }
    if ask.explain {
        page.plan(trial);
    }
    if let Some(listing) = &trial.listing {
        page.listing("Rows", listing, ask.rows);
    }
    page.mapping(&trial.mapping);
    if let Some(proposal) = &trial.proposal {
        page.head("Proposed, to be pasted under `queries:`");
        proposal.lines().for_each(|line| page.yaml(line));
    }
    if let Some(made) = &trial.made {
        page.samples(made);
    }
    page.out.end_line();
    page.counts(trial);
    trial.warnings.iter().for_each(|warning| page.warning(warning));
    if let Some(error) = &trial.error {
        page.out += message("error", Tint::Bad, error, paint, width);
    }
    page.times(&trial.times);
    page.out
}

impl Page {
    fn line(&mut self, text: &str) {
        self.out += labelled("", Tint::Plain, text, self.paint, self.width, "  ");
    }

    fn head(&mut self, text: &str) {
        self.out.end_line();
        self.out += self.paint.bold(text);
        self.out.end_line();
    }

    /// Never wrapped: it is to be pasted, tabs included.
    fn yaml(&mut self, line: &str) {
        self.out.tabbed(line);
        self.out.end_line();
    }

    fn warning(&mut self, text: &str) {
        self.out += labelled("warning", Tint::Warn, &format!(": {text}"), self.paint, self.width, "    ");
    }

    fn table(&mut self, table: &Table) {
        self.out += table.render(self.paint, self.width.unwrap_or(usize::MAX));
    }

    fn plan(&mut self, trial: &Trial) {
        let Some(plan) = &trial.plan else {
            if trial.error.is_none() {
                self.warning("--plan: this database tells no plan for it");
            }
            return;
        };
        if plan.columns.len() == 1 {
            self.head("Plan");
            for row in plan.rows.iter().flatten() {
                let row = row.as_deref().unwrap_or("NULL");
                row.lines().for_each(|line| self.out.line(line));
            }
        } else {
            self.listing("Plan", plan, usize::MAX);
        }
    }

    fn listing(&mut self, title: &str, listing: &Listing, wanted: usize) {
        self.head(title);
        if !listing.rows.is_empty() {
            let heads =
                listing.columns.iter().map(|column| format!("{} ({})", column.name, column.type_name));
            let heads: Vec<String> = heads.collect();
            let mut table = Table::new(&heads.iter().map(String::as_str).collect::<Vec<_>>());
            for row in &listing.rows {
                let cell = |cell: &Option<String>| match cell {
                    Some(text) => Cell::from(text),
                    None => Cell::tinted(Tint::Dim, "NULL"),
                };
                table.row(row.iter().map(cell));
            }
            self.table(&table);
        }
        let more = listing.count.saturating_sub(listing.rows.len() as u64);
        if listing.count == 0 {
            self.line("(no rows)");
        } else if listing.stopped && wanted > 0 {
            self.line("(stopped there)");
        } else if more > 0 {
            self.line(&format!("({} more {})", more, if more == 1 { "row" } else { "rows" }));
        }
    }

    fn mapping(&mut self, mapping: &[Mapped]) {
        if mapping.is_empty() {
            return;
        }
        self.head("Columns");
        let mut table = Table::new(&["column", "type", "becomes", "in", "rule"]);
        for Mapped { column, type_name, becomes, metrics, rule } in mapping {
            let (tint, becomes) = match (becomes.as_str(), type_name) {
                ("", _) => (Tint::Warn, "unused"),
                (becomes, None) => (Tint::Bad, becomes),
                (becomes, Some(_)) => (Tint::Plain, becomes),
            };
            table.row([
                Cell::from(column),
                type_name.as_deref().unwrap_or("missing").into(),
                Cell::tinted(tint, becomes),
                metrics.first().map_or("", String::as_str).into(),
                rule.into(),
            ]);
            // The same in other metrics: below it, for a list would be cut.
            for metric in metrics.iter().skip(1) {
                table.row(["", "", "", metric].map(Cell::from));
            }
        }
        self.table(&table);
    }

    /// As they stand on the page, without what a terminal would take for its own.
    fn samples(&mut self, made: &Made) {
        self.head("Exposition");
        let bytes: Vec<u8> =
            pieces(&made.families, &Text).iter().flat_map(|piece| piece.as_ref().to_vec()).collect();
        let text = String::from_utf8_lossy(&bytes);
        let (mut shown, mut more) = (0, 0);
        for line in text.lines() {
            if line.starts_with('#') {
                if shown < SAMPLES {
                    self.out += self.paint.dim(line);
                    self.out.end_line();
                }
            } else if shown < SAMPLES {
                shown += 1;
                self.out.line(line);
            } else {
                more += 1;
            }
        }
        if more > 0 {
            self.line(&format!("({more} more {})", if more == 1 { "sample" } else { "samples" }));
        }
    }

    /// `12 rows → 24 series in 2 families`
    fn counts(&mut self, trial: &Trial) {
        let Some(listing) = &trial.listing else { return };
        let mut text = counted(listing.count, "row", "rows");
        if let Some(made) = &trial.made {
            let series = counted(made.series, "series", "series");
            text += &format!(" → {series} in {}", counted(made.families.len() as u64, "family", "families"));
            let left_out = [
                ("NULL", made.skipped.null),
                ("no number", made.skipped.invalid),
                ("duplicate", made.skipped.duplicate),
            ];
            for (what, count) in left_out.into_iter().filter(|(_, count)| *count > 0) {
                text += &format!(", {} left out ({what})", counted(count, "value", "values"));
            }
        }
        self.line(&text);
    }

    fn times(&mut self, times: &Times) {
        let Times { connect, first_row, rows, render } = times;
        let parts = [("connect", connect), ("first row", first_row), ("rows", rows), ("render", render)];
        let parts = parts.into_iter().filter_map(|(what, time)| Some(format!("{what} {}", spent((*time)?))));
        let parts: Vec<String> = parts.collect();
        if !parts.is_empty() {
            self.line(&parts.join(", "));
        }
    }
}

fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// `0.02 ms`, `3.1 ms`, `2.35 s`
fn spent(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ..0.1 => format!("{ms:.2} ms"),
        ..1000.0 => format!("{ms:.1} ms"),
        _ => format!("{:.2} s", ms / 1000.0),
    }
}
