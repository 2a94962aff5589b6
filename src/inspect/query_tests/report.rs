//! Outcomes for people, and for machines.

use serde_json::{Value, json};

use super::{Outcome, Verdict};

/// One line a case, what went wrong below it, and a summary at the end. Nothing without cases.
#[must_use]
pub fn lines(outcomes: &[Outcome]) -> Vec<String> {
    let mut lines: Vec<String> = outcomes.iter().flat_map(of_one).collect();
    if !outcomes.is_empty() {
        lines.push(summary(outcomes));
    }
    lines
}

fn of_one(outcome: &Outcome) -> Vec<String> {
    let Outcome { name, query, place, verdict } = outcome;
    let head = |word: &str| format!("{word} {}:{}: {query}: {name}", place.file, place.line);
    match verdict {
        Verdict::Pass => vec![head("PASS")],
        Verdict::Fail(why) => {
            let why = why.iter().flat_map(|why| why.lines()).map(|line| format!("     {line}"));
            std::iter::once(head("FAIL")).chain(why).collect()
        }
    }
}

fn failed(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| outcome.verdict != Verdict::Pass).count()
}

fn summary(outcomes: &[Outcome]) -> String {
    let (all, failed) = (outcomes.len(), failed(outcomes));
    let tests = if all == 1 { "test" } else { "tests" };
    format!("{all} {tests}: {} passed, {failed} failed", all - failed)
}

/// `{"tests": [{"name", "query", "file", "line", "passed", "why"}], "passed", "failed"}`; `why` is a list of lines.
#[must_use]
pub fn json(outcomes: &[Outcome]) -> Value {
    let one = |outcome: &Outcome| {
        let why = if let Verdict::Fail(why) = &outcome.verdict { why.as_slice() } else { &[] };
        json!({
            "name": outcome.name,
            "query": outcome.query,
            "file": outcome.place.file,
            "line": outcome.place.line,
            "passed": outcome.verdict == Verdict::Pass,
            "why": why,
        })
    };
    let failed = failed(outcomes);
    let tests: Vec<Value> = outcomes.iter().map(one).collect();
    json!({"tests": tests, "passed": outcomes.len() - failed, "failed": failed})
}
