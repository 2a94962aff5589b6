//! The lints by code, and the key `lint_off` that silences them on a metric, a query or a target.
//!
//! Owns codes and what each lint looks at; the checks and their reasons are in `inspect/lint`. A new lint is an entry here
//! and one there.

use self::LintSubject::{Metric, Query, Target};
use crate::yaml::keys::{Keys, nearest};

/// What a lint looks at: where `lint_off` may name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LintSubject {
    /// An entry of `metrics`; its query may silence it too.
    Metric,
    /// An entry of `queries`.
    Query,
    /// An entry of `databases`.
    Target,
}

impl LintSubject {
    fn plural(self) -> &'static str {
        match self {
            Metric => "metrics",
            Query => "queries",
            Target => "targets",
        }
    }
}

/// One lint.
#[derive(Debug, PartialEq, Eq)]
pub struct Lint {
    /// `L001`
    pub code: &'static str,
    subjects: &'static [LintSubject],
    /// What it finds, in a few words.
    pub about: &'static str,
}

const fn lint(code: &'static str, subjects: &'static [LintSubject], about: &'static str) -> Lint {
    Lint { code, subjects, about }
}

/// Every lint, by code.
pub static LINTS: &[Lint] = &[
    lint("L001", &[Metric], "a counter whose name does not end in `_total`"),
    lint("L002", &[Metric], "a gauge whose name ends in `_total`"),
    lint("L003", &[Metric], "a unit that is not a base unit: `_ms`, `_kb`, `_percent`"),
    lint("L004", &[Metric], "a name with another unit than its column or its help"),
    lint("L005", &[Metric], "a metric without `help`"),
    lint("L006", &[Metric], "a label that may have one value per row: `id`, `uuid`, `email`, `url`"),
    lint("L007", &[Metric, Target], "a name that Prometheus itself writes: `job`, `instance`, `up` …"),
    lint("L008", &[Metric], "a histogram of rows that leave the result again"),
    lint("L009", &[Metric], "a counter read less often than once a minute"),
    lint("L010", &[Target], "a server on the network whose identity is not verified"),
    lint("L011", &[Target], "a password in the configuration file"),
    lint("L012", &[Target], "a file with a password that every user of the machine can read"),
    lint("L013", &[Query], "two queries over the same rows, which one query could read"),
    lint("L014", &[Query], "the same SQL twice on one target"),
    lint("L015", &[Query, Target], "a comment that hides the rest of the SQL, because YAML joins its lines"),
];

impl Lint {
    /// The lint of a code, in upper or lower case.
    pub fn find(code: &str) -> Option<&'static Lint> {
        LINTS.iter().find(|lint| lint.code.eq_ignore_ascii_case(code.trim()))
    }

    /// What to write instead of an unknown code.
    pub fn hint(code: &str) -> String {
        match nearest(code.trim(), LINTS.iter().map(|lint| lint.code)) {
            Some(near) => format!("did you mean {near}? `sql-exporter check --rule list` lists them"),
            None => "`sql-exporter check --rule list` lists them".to_owned(),
        }
    }

    /// The entries on which `lint_off` may name it: "the metric or its query".
    pub fn silenced_on(&self) -> &'static str {
        match self.subjects {
            [Metric] => "the metric or its query",
            [Query] => "the query",
            [Target] => "the target",
            [Query, Target] => "the query or the target",
            _ => "the metric, its query or the target",
        }
    }

    fn may_stand_on(&self, subject: LintSubject) -> bool {
        let of_a_metric = subject == Query && self.subjects.contains(&Metric);
        of_a_metric || self.subjects.contains(&subject)
    }
}

/// The lints that one entry silences, by code.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SilencedLints(Vec<&'static str>);

impl SilencedLints {
    /// Takes the key `lint_off` of an entry: one code or a list. An unknown code is an error, and so is a lint that looks at
    /// other entries.
    pub fn read(keys: &mut Keys<'_>, subject: LintSubject) -> SilencedLints {
        const KEY: &str = "lint_off";
        let mut silenced = SilencedLints::default();
        for code in keys.texts(KEY).unwrap_or_default() {
            match Lint::find(&code) {
                None => keys.fault_with_hint(KEY, format!("there is no lint {code:?}"), Lint::hint(&code)),
                Some(lint) if lint.may_stand_on(subject) => silenced.0.push(lint.code),
                Some(lint) => {
                    let others: Vec<&str> = lint.subjects.iter().map(|subject| subject.plural()).collect();
                    let others = others.join(" and ");
                    let message = format!("{} looks at {others}: it finds nothing here", lint.code);
                    keys.fault_with_hint(KEY, message, format!("write it on one of the {others}"));
                }
            }
        }
        silenced
    }

    /// Whether the entry silences the lint of a code.
    pub fn contains(&self, code: &str) -> bool {
        self.0.contains(&code)
    }
}

#[cfg(test)]
mod tests {
    use super::{LINTS, Lint};

    #[test]
    fn codes_are_numbered_from_one_and_found_in_any_case() {
        for (lint, number) in LINTS.iter().zip(1..) {
            assert_eq!(lint.code, format!("L{number:03}"));
            assert_eq!(Lint::find(&lint.code.to_lowercase()), Some(lint));
        }
        assert_eq!(Lint::find("L000"), None);
        assert!(Lint::hint("L07").starts_with("did you mean L007?"), "{}", Lint::hint("L07"));
    }
}
