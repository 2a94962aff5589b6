//! What `test` found, target by target.

use std::sync::Arc;
use std::time::Duration;

use crate::config::database::Database;
use crate::driver::{Privileges, ServerFacts};
use crate::error::Error;

/// All of it, in configuration order.
pub struct Report {
    /// One a target.
    pub outcomes: Vec<Outcome>,
    /// What all of it was allowed.
    pub timeout: Duration,
}

/// One target.
pub struct Outcome {
    /// As configured.
    pub target: Arc<Database>,
    /// What came of it.
    pub verdict: Verdict,
    /// Login and questions.
    pub took: Duration,
}

/// What came of it.
pub enum Verdict {
    /// It works; there may be warnings.
    Pass(Found),
    /// It does not.
    Fail(Error),
    /// It was left alone, for this reason.
    Skip(String),
}

/// What a session told.
pub struct Found {
    /// What it said at login.
    pub facts: ServerFacts,
    /// What its user may do beyond reading.
    pub rights: Privileges,
    /// Why its rights are not known.
    pub unknown: Option<String>,
}

/// How many of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Targets that work.
    pub passed: usize,
    /// Those that do not.
    pub failed: usize,
    /// Those that were left alone.
    pub skipped: usize,
    /// Targets with a warning, of those that work.
    pub warned: usize,
}

impl Found {
    /// Everything to be warned of, a sentence each.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.rights.risks.iter().chain(&self.unknown).map(String::as_str)
    }

    /// True where there is one.
    #[must_use]
    pub fn warns(&self) -> bool {
        self.warnings().next().is_some()
    }

    /// `PostgreSQL 15.18`: the flavour as its makers write it, and the version's number alone.
    #[must_use]
    pub fn server(&self) -> String {
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
    /// How many of each.
    #[must_use]
    pub fn count(&self) -> Count {
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
