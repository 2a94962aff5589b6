//! The lints, one a file, each a [`Rule`] in the table below: why, a bad and a good example, and the look at the plan.

mod base_unit;
mod counter_without_total;
mod missing_help;
mod moving_histogram;
mod open_file;
mod prometheus_label;
mod same_sql;
mod shared_sql;
mod slow_counter;
mod swallowing_comment;
mod total_without_counter;
mod unbounded_label;
mod unit_disagrees;
mod unverified_tls;
mod written_password;

use crate::metric::lint_off::Lint;

use super::Rule;

/// All of them, by code.
pub static RULES: &[&Rule] = &[
    &counter_without_total::RULE,
    &total_without_counter::RULE,
    &base_unit::RULE,
    &unit_disagrees::RULE,
    &missing_help::RULE,
    &unbounded_label::RULE,
    &prometheus_label::RULE,
    &moving_histogram::RULE,
    &slow_counter::RULE,
    &unverified_tls::RULE,
    &written_password::RULE,
    &open_file::RULE,
    &shared_sql::RULE,
    &same_sql::RULE,
    &swallowing_comment::RULE,
];

/// The rule of a lint.
#[must_use]
pub fn rule(lint: Lint) -> Option<&'static Rule> {
    RULES.iter().copied().find(|rule| rule.lint == lint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lint_has_its_rule_in_the_order_of_codes() {
        assert!(RULES.iter().map(|rule| rule.lint).eq(Lint::ALL.iter().copied()));
        for rule in RULES {
            assert!(rule.why.len() > 80 && !rule.why.contains('\n'), "{}", rule.lint.code());
            assert!(rule.bad != rule.good && !rule.bad.is_empty(), "{}", rule.lint.code());
        }
    }
}
