//! What can be found about a configuration: the lints and the tests of queries, without a database; and what the
//! databases say about its queries.
//!
//! Owns what a finding is and whether an entry silences it. It reads the plan and never a database; how findings are
//! shown is `command/check`. A new lint is a file in `lint/` and a line in its table.

pub mod describe;
pub mod lint;
pub mod query_tests;
mod source_position;
mod sql_compare;
pub mod try_query;
mod units;

use std::collections::HashSet;

use crate::config::Config;
use crate::config::database::Database;
use crate::config::query::Query;
use crate::error::{Error, SourcePosition};
use crate::metric::Metric;
use crate::metric::lint_off::Lint;

/// What one lint found at one place: never more than a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which lint.
    pub lint: Lint,
    /// Where, what and what to change.
    pub error: Error,
}

/// What all lints found.
#[derive(Debug, Default)]
pub struct Found {
    /// By lint, then in configuration order.
    pub findings: Vec<Finding>,
    /// How many more a `lint_off` silences.
    pub silenced: usize,
}

/// One lint: why, and how it looks at a plan.
pub struct Rule {
    /// Its code and name.
    pub lint: Lint,
    /// Why, in a paragraph without line breaks.
    pub why: &'static str,
    /// What it finds: part of a configuration.
    pub bad: &'static str,
    /// What it does not find: the same, done well.
    pub good: &'static str,
    /// Looks at everything it is about.
    check: fn(&Config, &mut Sink<'_>),
}

/// Runs every lint. Reads the modes of files that hold secrets; blocks for nothing else.
#[must_use]
pub fn run(plan: &Config) -> Found {
    let mut found = Found::default();
    for rule in lint::RULES {
        let mut sink = Sink { lint: rule.lint, plan, seen: HashSet::new(), found: &mut found };
        (rule.check)(plan, &mut sink);
    }
    found
}

/// Every metric of every query, in configuration order; those that are not enabled too: they are one word away.
fn metrics(plan: &Config) -> impl Iterator<Item = (&Query, &Metric)> {
    plan.queries.iter().flat_map(|query| query.metrics.iter().map(move |metric| (query, metric)))
}

/// Where one lint leaves what it finds. One place is reported once, whoever shares it.
struct Sink<'p> {
    lint: Lint,
    plan: &'p Config,
    seen: HashSet<(String, String)>,
    found: &'p mut Found,
}

/// What was found, and what to change.
struct Said {
    message: String,
    hint: String,
}

impl Said {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Said {
        Said { message: message.into(), hint: hint.into() }
    }
}

impl Sink<'_> {
    /// At the name of a metric.
    fn metric(&mut self, query: &Query, metric: &Metric, said: Said) {
        self.within(query, metric, &metric.place, said);
    }

    /// At the labels of a metric.
    fn labels(&mut self, query: &Query, metric: &Metric, said: Said) {
        self.within(query, metric, metric.labels_place.as_ref().unwrap_or(&metric.place), said);
    }

    fn within(&mut self, query: &Query, metric: &Metric, place: &SourcePosition, said: Said) {
        let silent = metric.lint_off.holds(self.lint) || query.lint_off.holds(self.lint);
        self.add(silent, place, said);
    }

    /// At a query.
    fn query(&mut self, query: &Query, said: Said) {
        self.add(query.lint_off.holds(self.lint), &query.place, said);
    }

    /// At the SQL of a query.
    fn sql(&mut self, query: &Query, said: Said) {
        self.add(query.lint_off.holds(self.lint), &query.sql_place, said);
    }

    /// At something of a target.
    fn target(&mut self, target: &Database, place: &SourcePosition, said: Said) {
        self.add(target.source.lint_off.holds(self.lint), place, said);
    }

    fn add(&mut self, silent: bool, place: &SourcePosition, said: Said) {
        if silent {
            self.found.silenced += 1;
        } else if self.seen.insert((place.to_string(), said.message.clone())) {
            let hidden = self.plan.secret_lines.contains(&(place.file.clone(), place.line));
            let place = SourcePosition { source: place.source.clone().filter(|_| !hidden), ..place.clone() };
            let error = Error::config(said.message).at(place).with_hint(said.hint);
            self.found.findings.push(Finding { lint: self.lint, error });
        }
    }
}
