//! What `test` found, target by target.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Facts, Rights};
use crate::error::Error;
use crate::plan::target::Target;

/// All of it, in configuration order.
pub(super) struct Report {
    pub(super) outcomes: Vec<Outcome>,
    /// What all of it was allowed.
    pub(super) timeout: Duration,
}

/// One target.
pub(super) struct Outcome {
    pub(super) target: Arc<Target>,
    pub(super) verdict: Verdict,
    /// Login and questions.
    pub(super) took: Duration,
}

/// What came of it.
pub(super) enum Verdict {
    /// It works; there may be warnings.
    Pass(Found),
    /// It does not.
    Fail(Error),
    /// It was left alone, for this reason.
    Skip(String),
}

/// What a session told.
pub(super) struct Found {
    pub(super) facts: Facts,
    pub(super) rights: Rights,
    /// Why its rights are not known.
    pub(super) unknown: Option<String>,
}

/// How many of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    /// Of those that passed.
    pub(super) warned: usize,
}

impl Found {
    /// Everything to be warned of, a sentence each.
    pub(super) fn warnings(&self) -> impl Iterator<Item = &str> {
        self.rights.risks.iter().chain(&self.unknown).map(String::as_str)
    }

    pub(super) fn warns(&self) -> bool {
        self.warnings().next().is_some()
    }

    /// `PostgreSQL 15.18`: the flavour as its makers write it, and the version's number alone.
    pub(super) fn server(&self) -> String {
        let name = match self.facts.flavor.as_str() {
            "postgresql" => "PostgreSQL",
            "pgbouncer" => "PgBouncer",
            "mysql" => "MySQL",
            "mariadb" => "MariaDB",
            "sqlite" => "SQLite",
            other => other,
        };
        let number = self.facts.version.split([' ', '-', '/']).next().unwrap_or_default();
        format!("{name} {number}").trim_end().to_owned()
    }
}

impl Report {
    pub(super) fn count(&self) -> Count {
        let mut count = Count::default();
        for outcome in &self.outcomes {
            match &outcome.verdict {
                Verdict::Pass(found) => {
                    count.passed += 1;
                    count.warned += usize::from(found.warns());
                }
                Verdict::Fail(_) => count.failed += 1,
                Verdict::Skip(_) => count.skipped += 1,
            }
        }
        count
    }
}
