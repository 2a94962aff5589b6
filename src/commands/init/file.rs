//! The text of the new configuration: what a person reads first comes first, long comments come last.
//!
//! Texts of servers stand in comments on one line and cut, so that none ends its comment.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

use super::names::MetricNames;
use super::targets::NewTarget;
use super::{example, grants, variables};
use crate::commands::terminal::{cut, wrap_options};
use crate::commands::test::server_name;
use crate::config::target::TargetConfig;
use crate::config::{Config, packs};
use crate::driver::TlsState;
use crate::driver::bounded_text;
use crate::inspect::server_profile::{CollectorFit, Fit, ServerProfile};
use crate::plain_text::one_line;
use crate::yaml::writer::comment;

/// No comment is wider.
const WIDTH: usize = 110;
/// The longest text of a server in a comment, in bytes.
const LONGEST_TEXT: usize = 300;
/// Up to so many targets Prometheus scrapes as one page (docs/scraping.md).
const ONE_PAGE: usize = 20;
const DOCS: &str = "https://github.com/sql-exporter/sql-exporter/blob/main/docs";

/// A configuration with these targets and all packs.
pub(super) fn draft(targets: &[NewTarget]) -> String {
    format!("databases:\n{}include: [\"builtin:**\"]\n", entries(targets))
}

/// The entries of targets, without comments.
pub(super) fn entries<'t>(targets: impl IntoIterator<Item = &'t NewTarget>) -> String {
    let mut out = String::new();
    targets.into_iter().for_each(|target| target.write("", &mut out));
    out
}

/// Whether a pack has metric names of its own. The others have those of another exporter, for who moves from there.
pub(super) fn is_native(pack: &str) -> bool {
    !pack.starts_with("compat/")
}

/// What the file is made of.
pub(super) struct Contents<'c> {
    /// The targets, with what is known about each.
    pub(super) targets: &'c [(&'c NewTarget, &'c TargetConfig, &'c ServerProfile)],
    /// The draft, for the names that packs have.
    pub(super) draft: &'c Config,
    /// The day on which it is made.
    pub(super) date: String,
}

impl Contents<'_> {
    /// The file.
    pub(super) fn text(&self) -> String {
        let mut out = self.header();
        out.push_str("\ndatabases:\n");
        for (index, (target, config, profile)) in self.targets.iter().enumerate() {
            if index > 0 {
                out.push('\n');
            }
            target.write(&about_target(config, profile), &mut out);
        }
        self.include(&mut out);
        self.queries(&mut out);
        out += &grants::sections(self.targets);
        self.prometheus(&mut out);
        out
    }

    fn header(&self) -> String {
        let version = crate::VERSION;
        let mut out = wrapped(
            &format!(
                "Made by sql-exporter {version} (`sql-exporter init`) on {}. It is yours to change: init never writes to a file \
                 that exists. All keys: {DOCS}/configuration.md",
                self.date
            ),
            "# ",
            "# ",
        );
        let entries = entries(self.targets.iter().map(|(target, ..)| *target));
        let names = variables::names_in(&entries);
        if !names.is_empty() {
            let from = format!("From the environment: {}.", names.join(", "));
            out += &wrapped(&from, "# ", "# ");
        }
        out
    }

    /// The packs that fit a target, and those that could.
    fn include(&self, out: &mut String) {
        let mut fits: Vec<(&str, &Fit)> = Vec::new();
        for CollectorFit { name, fit } in self.targets.iter().flat_map(|(.., profile)| &profile.collectors) {
            match fits.iter_mut().find(|(known, _)| *known == &**name) {
                Some((_, known)) => *known = better(known, fit),
                None => fits.push((name, fit)),
            }
        }
        out.push_str("\n# Packs: metrics of the servers themselves, each with what it measures. Remove what you do not need.\n");
        out.push_str("# `sql-exporter packs NAME` prints one, with its cost and its privileges.\ninclude:\n");
        let width = fits.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, _) in fits.iter().filter(|(_, fit)| **fit == Fit::Runs) {
            let about = packs::text(name).and_then(|text| text.lines().next()).unwrap_or_default();
            let _ = writeln!(out, "{}", cut_at_word(&format!("  - builtin:{name:width$}  {about}")));
        }
        let mut is_first = true;
        for (name, fit) in fits {
            let Fit::Lacks(what) = fit else { continue };
            if std::mem::take(&mut is_first) {
                out.push_str("  # These would show nothing now. Behind each, what it needs:\n");
            }
            // In the columns of those above.
            let start = format!("  # - builtin:{name:0$}  # ", width.saturating_sub(2));
            let indent = format!("  # {:1$}# ", "", start.len() - 6);
            *out += &wrapped(&server_text(what), &start, &indent);
        }
        out.push_str("  # `sql-exporter packs` lists all, also those with the metric names of other exporters (compat/*).\n");
    }

    fn queries(&self, out: &mut String) {
        let queries = self.draft.queries.iter();
        let metrics = queries.clone().flat_map(|query| query.metrics.iter());
        let known: HashSet<String> = queries
            .map(|query| query.name.to_string())
            .chain(metrics.map(|metric| metric.naming.text().to_owned()))
            .collect();
        let mut names = MetricNames::new(known);
        let among_several = self.targets.len() > 1;
        let examples: Vec<String> = self
            .targets
            .iter()
            .filter_map(|(target, config, profile)| {
                example::query(target, config, profile, among_several, &mut names)
            })
            .collect();
        if examples.is_empty() {
            out.push_str(
                "\n# Queries of your own need a database with tables; PgBouncer's console has none.\n",
            );
            return;
        }
        out.push_str("\n# Queries of your own. `sql-exporter try --sql 'SELECT …'` shows what a statement returns, and proposes its metrics.\n");
        out.push_str("queries:\n");
        out.push_str(&examples.join("\n"));
    }

    /// One entry of Prometheus' configuration.
    fn prometheus(&self, out: &mut String) {
        out.push_str("\n# For prometheus.yml:\n");
        commented("scrape_configs:", out);
        commented("  - job_name: sql", out);
        if self.targets.len() > ONE_PAGE {
            commented("    http_sd_configs: [{url: \"http://localhost:9399/sd\"}]", out);
        } else {
            commented("    static_configs: [{targets: [\"localhost:9399\"]}]", out);
        }
    }
}

/// What the better one of two targets makes of a collector.
fn better<'f>(one: &'f Fit, other: &'f Fit) -> &'f Fit {
    match (one, other) {
        (Fit::Runs, _) | (Fit::Lacks(_), Fit::Lacks(_) | Fit::OtherServer) | (_, Fit::OtherServer) => one,
        _ => other,
    }
}

/// What the server is and how the session got there.
fn about_target(config: &TargetConfig, profile: &ServerProfile) -> String {
    let Some(server) = &profile.server else {
        return "  # Nobody connected (--offline): packs find out at each scrape what fits the server.\n"
            .to_owned();
    };
    let facts = &server.facts;
    let name = server_name(&facts.flavor, &facts.version);
    let mut parts = vec![name];
    if !facts.role.is_empty() && config.driver != "sqlite" {
        parts.push(facts.role.clone());
    }
    if facts.tls != TlsState::Local {
        parts.push(format!("connection: {}", facts.tls.as_str()));
    }
    if let Some(user) = &server.privileges.user {
        parts.push(format!("logged in as {user}"));
    }
    let mut out = wrapped(&server_text(&parts.join(", ")), "  # ", "  # ");
    for risk in server.warnings() {
        out += &wrapped(&format!("{}.", server_text(risk)), "  # ! ", "  #   ");
    }
    if !server.privileges.risks.is_empty() {
        out += "  # ! The end of this file has a user that may only monitor.\n";
    }
    out
}

/// A text of a server: on one line, and cut.
fn server_text(text: &str) -> String {
    comment(&one_line(&bounded_text::cut(text, LONGEST_TEXT)))
}

/// A line that fits, and `…` for the words that do not.
fn cut_at_word(line: &str) -> String {
    if line.width() <= WIDTH {
        return line.to_owned();
    }
    let cut = cut(line, WIDTH);
    let kept = cut.rsplit_once(' ').map_or(&*cut, |(kept, _)| kept);
    format!("{} …", kept.trim_end_matches([',', ';', ':']))
}

/// Lines of a comment.
pub(super) fn wrapped(text: &str, first: &str, later: &str) -> String {
    let text: Cow<'_, str> = one_line(text);
    let options = wrap_options(WIDTH.max(first.width() + 20)).initial_indent(first).subsequent_indent(later);
    textwrap::wrap(&text, options).iter().map(|line| format!("{}\n", comment(line))).collect()
}

/// A line to copy, which is not wrapped.
pub(super) fn commented(line: &str, out: &mut String) {
    let _ = writeln!(out, "#   {}", comment(line));
}
