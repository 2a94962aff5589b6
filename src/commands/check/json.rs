//! A report for machines. The fields are a promise; what is not known is null.

use serde_json::{Value, json};

use crate::inspect::describe::Reached;
use crate::inspect::query_tests;

use super::report::{Entry, Report, Severity};

/// One document: `findings` in the order of the text, `targets` that were asked, `tests` and `summary`.
pub(super) fn document(report: &Report) -> String {
    let findings: Vec<Value> = report.in_order().into_iter().map(finding).collect();
    let mut tests = query_tests::json(&report.cases);
    let document = json!({
        "findings": findings,
        "targets": report.reached.iter().map(target).collect::<Vec<_>>(),
        "tests": tests["tests"].take(),
        "summary": {
            "errors": report.count(Severity::Error),
            "warnings": report.count(Severity::Warning),
            "notes": report.count(Severity::Note),
            "silenced": report.silenced,
            "files": report.files.len(),
            "targets": report.size.map(|size| size.targets),
            "queries": report.size.map(|size| size.queries),
            "loaded": report.size.is_some(),
            "tests_passed": tests["passed"],
            "tests_failed": tests["failed"],
        },
    });
    format!("{document:#}\n")
}

/// A target that was asked.
fn target(reached: &Reached) -> Value {
    let facts = reached.server.as_ref().ok();
    let skipped = |(query, why): &(String, String)| json!({"query": query, "why": why});
    json!({
        "target": reached.target,
        "flavor": facts.map(|facts| &facts.flavor),
        "version": facts.map(|facts| &facts.version),
        "role": facts.map(|facts| &facts.role),
        "error": reached.server.as_ref().err().map(ToString::to_string),
        "described": reached.described,
        "untold": reached.untold,
        "skipped": reached.skipped.iter().map(skipped).collect::<Vec<_>>(),
    })
}

fn finding(entry: &Entry) -> Value {
    let error = &entry.error;
    let place = error.place();
    let known = place.filter(|place| place.line > 0);
    json!({
        "file": place.map(|place| &place.file),
        "line": known.map(|place| place.line),
        "column": known.map(|place| place.column),
        "path": place.map(|place| &place.path).filter(|path| !path.is_empty()),
        "code": entry.lint.map(|lint| lint.code()),
        "severity": entry.severity.word(),
        "message": error.message(),
        "hint": error.hint(),
    })
}
