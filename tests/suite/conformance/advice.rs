//! Follows what an error advises about a value, to the letter: a `SELECT` around the statement, a label, a `map`.

use sql_exporter::driver::advice::{Advice, LENGTH, applied};
use sql_exporter::error::Reason;

use super::bench::{Bench, Query, Seen};
use super::subject::Subject;
use super::types::{Type, Types};
use super::value::{Value, make_types};

/// An expression to write, which some alternative of a hint says.
fn expression(hint: &str) -> Option<String> {
    let (expression, _) = hint.split_once("write `")?.1.split_once("` in the SELECT")?;
    Some(expression.replace("FIELD", "a"))
}

/// Each of `types` that is not a number fails with an advice, and each alternative of it works. `numbers` has some of the
/// numbers that come out, by the declared type whose first refused value it is. Of `table`, the product's own list,
/// nothing is left that no hint said and `elsewhere` does not try: expression, value, number.
pub(super) fn followed<S: Subject>(
    types: &Types,
    table: &[(&str, Advice)],
    quote: char,
    numbers: &[(&str, f64)],
    elsewhere: &[(&str, &str, f64)],
) {
    let subject = S::fresh();
    let types = &types.of(|known| !subject.lacks(known.declared));
    make_types(&subject, types);
    let refused: Vec<(usize, &Type, Reason)> = (0..)
        .zip(types.all.iter())
        .filter_map(|(at, known)| match known.value {
            Value::Is(_) => None,
            Value::NoNumber => Some((at, known, Reason::Value)),
            Value::NoType => Some((at, known, Reason::Type)),
        })
        .collect();
    let of = |at: usize| format!("SELECT c{at} AS value FROM types WHERE id = 1");
    let queries: Vec<Query> =
        refused.iter().map(|(at, ..)| Query::new(&format!("value{at}"), &of(*at))).collect();
    let seen = Bench::new(&subject.entry(&[]), &queries).scrape();
    let hints: Vec<(usize, &Type, String)> = refused
        .iter()
        .map(|(at, known, reason)| {
            let error = seen.failed(&format!("value{at}"), *reason);
            let hint = error.hint().unwrap_or_else(|| panic!("{}: no advice: {error}", known.declared));
            (*at, *known, hint.to_owned())
        })
        .collect();
    let mut queries: Vec<Query> = hints.iter().flat_map(|hint| ways(hint, &of(hint.0))).collect();
    queries.extend(elsewhere.iter().enumerate().map(|(at, (expression, value, _))| {
        let sql = expression.replace("{}", value).replace("FIELD", "a");
        Query::new(&format!("else{at}"), &format!("SELECT {sql} AS value"))
    }));
    let seen = Bench::new(&subject.entry(&[]), &queries).scrape();
    for hint in &hints {
        check(&seen, hint);
    }
    for (declared, number) in numbers.iter().filter(|(declared, _)| !subject.lacks(declared)) {
        let found = hints.iter().find(|(_, known, _)| known.declared == *declared);
        let (at, ..) = found.unwrap_or_else(|| panic!("{declared} is not refused"));
        assert_eq!(seen.value(&format!("write{at}")), *number, "{declared}");
    }
    for (at, (expression, _, number)) in elsewhere.iter().enumerate() {
        assert_eq!(seen.value(&format!("else{at}")), *number, "{expression}");
    }
    for expression in table.iter().flat_map(|(_, advice)| expressions(*advice)) {
        let written = format!("`{} AS value`", applied(expression, "value", quote));
        let is_said = hints.iter().any(|(.., hint)| hint.contains(&written));
        let is_elsewhere = elsewhere.iter().any(|(other, ..)| *other == expression);
        assert!(is_said || is_elsewhere, "nothing tries {expression}");
    }
}

fn expressions(advice: Advice) -> Vec<&'static str> {
    match advice {
        Advice::Write(expression) => vec![expression],
        Advice::Convert { moment, or_null } => vec![moment, or_null],
        Advice::Bytes => vec![LENGTH],
        Advice::Label => vec![],
    }
}

/// A query for each alternative of the hint.
fn ways((at, known, hint): &(usize, &Type, String), sql: &str) -> Vec<Query> {
    let text = known.label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut ways = Vec::new();
    if let Some(expression) = expression(hint) {
        ways.push(Query::new(&format!("write{at}"), &format!("SELECT {expression} FROM ({sql}) AS q")));
    }
    if hint.contains("as a label") {
        let metric = format!("{{name: label{at}, labels: [value], value: 1}}");
        ways.push(Query::new(&format!("label{at}"), sql).metrics(&metric));
    }
    if hint.contains("`map`") {
        let metric = format!("{{name: map{at}, map: {{\"{text}\": 2}}}}");
        ways.push(Query::new(&format!("map{at}"), sql).metrics(&metric));
    }
    if hint.contains("`invalid: skip`") {
        ways.push(
            Query::new(&format!("skip{at}"), sql).metrics(&format!("{{name: skip{at}, invalid: skip}}")),
        );
    }
    assert!(!ways.is_empty(), "{}: nothing to follow in {hint:?}", known.declared);
    ways
}

fn check(seen: &Seen, (at, known, hint): &(usize, &Type, String)) {
    let shown = format!("{} {}: {hint}", known.declared, known.literal);
    let samples = |way: &str| {
        let query = format!("{way}{at}");
        seen.good(&query);
        seen.page.series(&query)
    };
    if expression(hint).is_some() {
        let found = samples("write");
        // What is not a date and what has no bounds is NULL, which makes no sample.
        let may_be_null = hint.contains("to make it NULL") || matches!(known.label, "empty" | "{}");
        assert!(found.len() == 1 || (may_be_null && found.is_empty()), "{shown}: {found:?}");
        assert!(found.iter().all(|sample| sample.value.is_finite()), "{shown}: {found:?}");
    }
    if hint.contains("as a label") {
        let found = samples("label");
        assert!(found.len() == 1 && found[0].labels["value"] == known.label, "{shown}: {found:?}");
    }
    if hint.contains("`map`") {
        let found = samples("map");
        assert!(found.len() == 1 && found[0].value == 2.0, "{shown}: {found:?}");
    }
    if hint.contains("`invalid: skip`") {
        assert!(samples("skip").is_empty(), "{shown}");
    }
}
