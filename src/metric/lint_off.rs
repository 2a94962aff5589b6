//! The lints by code, and the key `lint_off` that silences them on a metric, a query or a target (docs/configuration.md).
//!
//! Owns codes, names and what each lint looks at; why and how is in `inspect/lint`. A new lint is a line in [`lints!`] and
//! an entry there.

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
            LintSubject::Metric => "metrics",
            LintSubject::Query => "queries",
            LintSubject::Target => "targets",
        }
    }
}

macro_rules! lints {
    ($($variant:ident = $code:literal, $subjects:expr, $about:literal;)*) => {
        /// One lint.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Lint { $(#[doc = $about] $variant,)* }

        impl Lint {
            /// Every lint, by code.
            pub const ALL: &'static [Lint] = &[$(Lint::$variant,)*];

            /// `L001`
            pub fn code(self) -> &'static str {
                match self { $(Lint::$variant => $code,)* }
            }

            /// What it finds, in a few words.
            pub fn about(self) -> &'static str {
                match self { $(Lint::$variant => $about,)* }
            }

            fn subjects(self) -> &'static [LintSubject] {
                match self { $(Lint::$variant => $subjects,)* }
            }
        }
    };
}

lints! {
    CounterWithoutTotal = "L001", &[LintSubject::Metric], "a counter whose name does not end in `_total`";
    TotalWithoutCounter = "L002", &[LintSubject::Metric], "a gauge whose name ends in `_total`";
    BaseUnit = "L003", &[LintSubject::Metric], "a unit that is not a base unit: `_ms`, `_kb`, `_percent`";
    UnitDisagrees = "L004", &[LintSubject::Metric], "a name that says another unit than its column or its help";
    MissingHelp = "L005", &[LintSubject::Metric], "a metric without `help`";
    UnboundedLabel = "L006", &[LintSubject::Metric], "a label that may have a value a row: `id`, `uuid`, `email`, `url`";
    PrometheusLabel = "L007", &[LintSubject::Metric, LintSubject::Target], "a label `job` or `instance`, which Prometheus sets itself";
    MovingHistogram = "L008", &[LintSubject::Metric], "a histogram of rows that leave the result again";
    SlowCounter = "L009", &[LintSubject::Metric], "a counter read less often than once a minute";
    UnverifiedTls = "L010", &[LintSubject::Target], "a server on the network that need not prove who it is";
    WrittenPassword = "L011", &[LintSubject::Target], "a password that stands in the configuration";
    OpenFile = "L012", &[LintSubject::Target], "a file with a password that everybody on the machine may read";
    SharedSql = "L013", &[LintSubject::Query], "two queries over the same rows, which one SQL could read";
    SameSql = "L014", &[LintSubject::Query], "the same SQL twice on one target";
    SwallowingComment = "L015", &[LintSubject::Query, LintSubject::Target], "a comment that swallows the rest of the SQL: YAML joins its lines";
}

impl Lint {
    /// The lint of a code, in any case.
    pub fn find(code: &str) -> Option<Lint> {
        Lint::ALL.iter().copied().find(|lint| lint.code().eq_ignore_ascii_case(code.trim()))
    }

    /// What to write instead of an unknown code.
    pub fn hint(code: &str) -> String {
        match nearest(code.trim(), Lint::ALL.iter().map(|lint| lint.code())) {
            Some(near) => format!("did you mean {near}? `sql-exporter check --rule list` lists them"),
            None => "`sql-exporter check --rule list` lists them".to_owned(),
        }
    }

    /// The entries on which `lint_off` may name it: "the metric or its query".
    pub fn silenced_on(self) -> &'static str {
        match self.subjects() {
            [LintSubject::Metric] => "the metric or its query",
            [LintSubject::Query] => "the query",
            [LintSubject::Target] => "the target",
            [LintSubject::Query, LintSubject::Target] => "the query or the target",
            _ => "the metric, its query or the target",
        }
    }

    fn may_be_disabled_on(self, subject: LintSubject) -> bool {
        let of_a_metric = subject == LintSubject::Query && self.subjects().contains(&LintSubject::Metric);
        of_a_metric || self.subjects().contains(&subject)
    }
}

/// The lints that one entry silences.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DisabledLints(Vec<Lint>);

impl DisabledLints {
    /// Takes the key `lint_off` of an entry: one code or a list. An unknown code is a fault, and so is one that looks at
    /// something else.
    pub fn read(keys: &mut Keys<'_>, subject: LintSubject) -> DisabledLints {
        const KEY: &str = "lint_off";
        let mut silence = DisabledLints::default();
        for code in keys.texts(KEY).unwrap_or_default() {
            match Lint::find(&code) {
                None => keys.fault_with_hint(KEY, format!("there is no lint {code:?}"), Lint::hint(&code)),
                Some(lint) if lint.may_be_disabled_on(subject) => silence.0.push(lint),
                Some(lint) => {
                    let elsewhere: Vec<&str> =
                        lint.subjects().iter().map(|subject| subject.plural()).collect();
                    let elsewhere = elsewhere.join(" and ");
                    let message = format!("{} looks at {elsewhere}: it finds nothing here", lint.code());
                    keys.fault_with_hint(KEY, message, format!("write it on one of the {elsewhere}"));
                }
            }
        }
        silence
    }

    /// True when the entry silences `lint`.
    pub fn holds(&self, lint: Lint) -> bool {
        self.0.contains(&lint)
    }
}

#[cfg(test)]
mod tests {
    use super::Lint;

    #[test]
    fn codes_are_numbered_from_one_and_found_in_any_case() {
        for (lint, number) in Lint::ALL.iter().zip(1..) {
            assert_eq!(lint.code(), format!("L{number:03}"));
            assert_eq!(Lint::find(&lint.code().to_lowercase()), Some(*lint));
        }
        assert_eq!(Lint::find("L000"), None);
        assert!(Lint::hint("L07").starts_with("did you mean L007?"), "{}", Lint::hint("L07"));
    }
}
