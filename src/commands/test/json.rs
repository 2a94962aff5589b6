//! The report for machines. The fields are a promise; what is not known is null.

use serde_json::{Value, json};

use super::advice;
use super::report::{Outcome, Report, Verdict};

/// One document: `targets` in configuration order, and `summary`.
pub(super) fn document(report: &Report) -> String {
    let targets: Vec<Value> = report.outcomes.iter().map(|outcome| target(outcome, report)).collect();
    let count = report.count();
    let document = json!({
        "targets": targets,
        "summary": {
            "targets": report.outcomes.len(),
            "passed": count.passed,
            "failed": count.failed,
            "skipped": count.skipped,
            "with_warnings": count.warned,
        },
    });
    format!("{document:#}\n")
}

fn target(outcome: &Outcome, report: &Report) -> Value {
    let Outcome { target, verdict, took } = outcome;
    let (word, found, error, skipped) = match verdict {
        Verdict::Pass(found) => ("pass", Some(found), None, None),
        Verdict::Fail(error) => ("fail", None, Some(error), None),
        Verdict::Skip(why) => ("skip", None, None, Some(why)),
    };
    let facts = found.map(|found| &found.facts);
    let rights = found.map(|found| &found.rights);
    json!({
        "target": target.name,
        "verdict": word,
        "driver": target.driver,
        "address": target.endpoint.as_ref().map(|endpoint| endpoint.redacted_url()),
        "flavor": facts.map(|facts| &facts.flavor),
        "version": facts.map(|facts| &facts.version),
        "role": facts.map(|facts| &facts.role).filter(|role| !role.is_empty()),
        "tls": facts.map(|facts| facts.tls.as_str()),
        "user": rights.and_then(|rights| rights.user.as_ref()),
        "duration_seconds": skipped.is_none().then_some(took.as_secs_f64()),
        "warnings": found.map(|found| found.warnings().collect::<Vec<_>>()).unwrap_or_default(),
        "grants": rights.map(|rights| rights.grants.as_slice()).unwrap_or_default(),
        "note": facts.and_then(|facts| advice::note(target, facts)),
        "error": error.map(|error| json!({
            "reason": error.reason().as_str(),
            "words": advice::words(error),
            "message": error.message(),
            "sqlstate": error.sqlstate(),
            "try": advice::tries(target, error, report.timeout),
        })),
        "skipped": skipped,
    })
}
