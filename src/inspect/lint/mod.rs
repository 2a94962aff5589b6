//! The lints: what is legal in a configuration and still probably wrong. They need no database.
//!
//! [`LINT_DETAILS`] is the table: why, a bad and a good example, and a check. `checks` has the checks. A new lint is an entry in
//! `metric/lint_off`, a text in details.txt, a line here and a function there.

mod checks;
mod units;

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::config::Config;
use crate::config::query::Query;
use crate::config::target::TargetConfig;
use crate::error::{Error, SourcePosition};
use crate::inspect::report::{Finding, Severity, without_secrets};
use crate::metric::Metric;
use crate::metric::lint_off::{LINTS, Lint};

use self::LintCheck::{EveryMetric, WholeConfig};

/// A message, and what to change.
type LintMessage = (String, String);

/// How a lint looks at a configuration.
#[derive(Clone, Copy)]
enum LintCheck {
    /// At every metric, also of queries that are disabled.
    EveryMetric(fn(&Query, &Metric) -> Option<LintMessage>),
    /// At everything that it is about.
    WholeConfig(fn(&Config, &mut FindingSink<'_>)),
}

/// What belongs to a lint of [`LINTS`]: its explanation and its check.
pub struct LintDetails {
    /// The lint.
    pub lint: &'static Lint,
    /// Why, in a paragraph without line breaks.
    pub why: String,
    /// What it finds: part of a configuration.
    pub bad: &'static str,
    /// The same without the finding.
    pub good: &'static str,
    check: LintCheck,
}

/// By code, as in `metric/lint_off`.
const CHECKS: [LintCheck; 15] = [
    EveryMetric(checks::counter_without_total),
    EveryMetric(checks::total_without_counter),
    EveryMetric(checks::base_unit),
    EveryMetric(checks::unit_disagrees),
    EveryMetric(checks::missing_help),
    WholeConfig(checks::unbounded_label),
    WholeConfig(checks::prometheus_name),
    EveryMetric(checks::moving_histogram),
    WholeConfig(checks::slow_counter),
    WholeConfig(checks::unverified_tls),
    WholeConfig(checks::written_password),
    WholeConfig(checks::open_file),
    WholeConfig(checks::shared_sql),
    WholeConfig(checks::same_sql),
    WholeConfig(checks::hiding_comment),
];

/// Those of all lints, by code, as in details.txt, which has their texts.
pub static LINT_DETAILS: LazyLock<Vec<LintDetails>> = LazyLock::new(|| {
    let texts = include_str!("details.txt").split("## ").skip(1);
    let details = |((lint, check), text): ((&'static Lint, LintCheck), &'static str)| {
        let (why, examples) = text.split_once("\n--- instead of\n").unwrap_or_default();
        let (bad, good) = examples.split_once("\n--- write\n").unwrap_or_default();
        let why = why.lines().skip(1).collect::<Vec<_>>().join(" ");
        LintDetails { lint, why, bad, good: good.trim_end(), check }
    };
    LINTS.iter().zip(CHECKS).zip(texts).map(details).collect()
});

/// What all lints found.
#[derive(Debug, Default)]
pub struct LintFindings {
    /// By lint, then in configuration order.
    pub findings: Vec<Finding>,
    /// How many more a `lint_off` silences.
    pub silenced: usize,
}

/// Runs every lint. Reads the modes of files that hold secrets; blocks for nothing else.
pub fn run(config: &Config) -> LintFindings {
    let mut found = LintFindings::default();
    for LintDetails { lint, check, .. } in LINT_DETAILS.iter() {
        let mut sink = FindingSink { code: lint.code, config, reported: HashSet::new(), found: &mut found };
        match check {
            WholeConfig(check) => check(config, &mut sink),
            EveryMetric(check) => {
                for (query, metric) in metrics(config) {
                    if let Some(advice) = check(query, metric) {
                        sink.metric(query, metric, advice);
                    }
                }
            }
        }
    }
    found
}

/// The metrics of all queries, in configuration order.
fn metrics(config: &Config) -> impl Iterator<Item = (&Query, &Metric)> {
    config.queries.iter().flat_map(|query| query.metrics.iter().map(move |metric| (query, metric)))
}

/// Takes the findings of one lint. The same finding at the same place, which several entries may share, counts once.
struct FindingSink<'c> {
    code: &'static str,
    config: &'c Config,
    reported: HashSet<(String, String)>,
    found: &'c mut LintFindings,
}

impl FindingSink<'_> {
    /// At the name of a metric.
    fn metric(&mut self, query: &Query, metric: &Metric, advice: LintMessage) {
        let silenced = metric.lint_off.contains(self.code) || query.lint_off.contains(self.code);
        self.add(silenced, &metric.place, advice);
    }

    /// At the labels of a metric.
    fn labels(&mut self, query: &Query, metric: &Metric, advice: LintMessage) {
        let silenced = metric.lint_off.contains(self.code) || query.lint_off.contains(self.code);
        self.add(silenced, metric.labels_place.as_ref().unwrap_or(&metric.place), advice);
    }

    /// At a place of a query.
    fn query(&mut self, query: &Query, place: &SourcePosition, advice: LintMessage) {
        self.add(query.lint_off.contains(self.code), place, advice);
    }

    /// At a place of a target.
    fn target(&mut self, target: &TargetConfig, place: &SourcePosition, advice: LintMessage) {
        self.add(target.source.lint_off.contains(self.code), place, advice);
    }

    fn add(&mut self, silenced: bool, place: &SourcePosition, (message, hint): LintMessage) {
        if silenced {
            self.found.silenced += 1;
        } else if self.reported.insert((place.to_string(), message.clone())) {
            let place = without_secrets(self.config, place.clone());
            let error = Error::config(message).at(place).with_hint(hint);
            self.found.findings.push(Finding { severity: Severity::Warning, code: Some(self.code), error });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LINT_DETAILS, LintDetails};
    use crate::metric::lint_off::LINTS;

    #[test]
    fn every_lint_has_its_details_in_the_order_of_codes() {
        let codes = || LINTS.iter().map(|lint| lint.code);
        assert!(LINT_DETAILS.iter().map(|details| details.lint.code).eq(codes()));
        let headings = include_str!("details.txt").lines().filter_map(|line| line.strip_prefix("## "));
        assert!(headings.eq(codes()));
        for LintDetails { lint, why, bad, good, .. } in LINT_DETAILS.iter() {
            assert!(why.len() > 80 && !why.contains('\n'), "{}", lint.code);
            assert!(bad != good && !bad.is_empty(), "{}", lint.code);
        }
    }
}
