//! What `check` found, in the order in which it is told.

use std::collections::HashMap;

use crate::error::Error;
use crate::inspect::Found;
pub(super) use crate::inspect::describe::Severity;
use crate::inspect::describe::{Reached, Said};
use crate::inspect::query_tests::{Outcome, Verdict};
use crate::metric::lint_off::Lint;

/// One thing that was found.
pub(super) struct Entry {
    pub(super) severity: Severity,
    /// Which lint found it; none did what the load says.
    pub(super) lint: Option<Lint>,
    pub(super) error: Error,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) targets: usize,
    pub(super) queries: usize,
}

/// All of it.
#[derive(Default)]
pub(super) struct Report {
    entries: Vec<Entry>,
    /// What a `lint_off` silences.
    pub(super) silenced: usize,
    /// Files as they were named, in the order of reading.
    pub(super) files: Vec<String>,
    /// What the databases are, where they were asked.
    pub(super) reached: Vec<Reached>,
    /// The tests of queries, run.
    pub(super) cases: Vec<Outcome>,
    /// `None`: the configuration does not load, and neither lints nor tests ran.
    pub(super) size: Option<Size>,
}

impl Report {
    pub(super) fn error(&mut self, error: Error) {
        self.entries.push(Entry { severity: Severity::Error, lint: None, error });
    }

    pub(super) fn warning(&mut self, error: Error) {
        self.entries.push(Entry { severity: Severity::Warning, lint: None, error });
    }

    pub(super) fn lints(&mut self, found: Found) {
        self.silenced += found.silenced;
        let entry = |finding: crate::inspect::Finding| Entry {
            severity: Severity::Warning,
            lint: Some(finding.lint),
            error: finding.error,
        };
        self.entries.extend(found.findings.into_iter().map(entry));
    }

    /// By file as read, line and column; what has no place comes last.
    pub(super) fn in_order(&self) -> Vec<&Entry> {
        let files: HashMap<&str, usize> = self.files.iter().map(String::as_str).zip(0..).collect();
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by_key(|entry| {
            let place = entry.error.place();
            let file = place.and_then(|place| files.get(place.file.as_str()).copied());
            let (line, column) = place.map_or((0, 0), |place| (place.line, place.column));
            (file.unwrap_or(usize::MAX), line, column, entry.lint)
        });
        entries
    }

    pub(super) fn count(&self, severity: Severity) -> usize {
        self.entries.iter().filter(|entry| entry.severity == severity).count()
    }

    pub(super) fn connected(&mut self, said: Said) {
        for remark in said.remarks {
            self.entries.push(Entry { severity: remark.severity, lint: None, error: remark.error });
        }
        let failures = said.targets.iter().filter_map(|reached| reached.server.as_ref().err());
        failures.for_each(|failure| self.error(failure.clone()));
        self.reached = said.targets;
    }

    pub(super) fn exit_code(&self, strict: bool) -> u8 {
        let failed = self.cases.iter().any(|case| case.verdict != Verdict::Pass);
        match (self.count(Severity::Error) + usize::from(failed), self.count(Severity::Warning)) {
            (0, 0) => 0,
            (0, _) => u8::from(strict),
            _ => 2,
        }
    }
}
