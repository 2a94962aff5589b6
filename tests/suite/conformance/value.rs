//! What a value is as a number and as a label (docs/metrics.md).

use sql_exporter::error::Reason;

use super::bench::{Bench, Query, Seen};
use super::subject::Subject;
use super::types::{Type, Types};

/// What becomes of an SQL value in `value_column`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    /// This number.
    Is(f64),
    /// A value that is not a number: `value`.
    NoNumber,
    /// The type has no meaning as a number: `type`.
    NoType,
}

/// Each type is a column of a table.
pub(super) fn types<S: Subject>(types: &Types) {
    let subject = S::fresh();
    let types = types.of(|known| !subject.lacks(known.declared));
    make_types(&subject, &types);
    check_types::<S>(&subject.entry(&[]), &types, |_| true);
}

/// A table `types` with a column for each type, a row of their values and a row of NULLs.
pub(crate) fn make_types<S: Subject>(subject: &S, types: &Types) {
    let columns = list(types, |at, known| format!("c{at} {}", known.declared));
    let literals = list(types, |_, known| known.literal.to_owned());
    subject.run(types.before);
    subject.run(&format!(
        "CREATE TABLE types (id INT, {columns});\nINSERT INTO types VALUES (1, {literals});\n\
         INSERT INTO types (id) VALUES (2)"
    ));
}

/// Reads what [`make_types`] made, on the target of `entry`; only types that are `wanted`.
pub(crate) fn check_types<S: Subject>(entry: &str, types: &Types, wanted: impl Fn(&Type) -> bool) {
    let wanted: Vec<(usize, &Type)> =
        types.all.iter().enumerate().filter(|(_, known)| wanted(known)).collect();
    let mut queries: Vec<Query> = Vec::new();
    for (at, _) in &wanted {
        queries.extend(pair(*at, &format!("c{at}"), "FROM types WHERE id = 1"));
    }
    let nulls = Query::new("nulls", "SELECT *, 1 AS value FROM types WHERE id = 2");
    queries.push(nulls.labels(&list(types, |at, _| format!("c{at}"))));
    let seen = Bench::new(entry, &queries).scrape();
    for (at, known) in &wanted {
        let shown = format!("{} {}", known.declared, known.literal);
        check(&seen, *at, &shown, known.value, known.label, Some(known.name));
    }
    assert_eq!(seen.value("nulls"), 1.0);
    let labels = &seen.page.series("nulls")[0].labels;
    let filled = labels.iter().find(|(name, value)| *name != "target" && !value.is_empty());
    assert!(filled.is_none() && labels.len() == types.all.len() + 1, "{labels:?}");
}

fn list(types: &Types, part: impl Fn(usize, &Type) -> String) -> String {
    types.all.iter().enumerate().map(|(at, known)| part(at, known)).collect::<Vec<_>>().join(", ")
}

/// Reads expressions: the value of each, and its label.
pub(super) fn read<S: Subject>(readings: &[(&str, Value, &str)]) {
    let subject = S::fresh();
    let known = readings.iter().filter(|(expression, ..)| !subject.lacks(expression));
    let readings: Vec<_> = known.collect();
    let queries = readings.iter().enumerate().flat_map(|(at, reading)| pair(at, reading.0, ""));
    let seen = Bench::new(&subject.entry(&[]), &queries.collect::<Vec<_>>()).scrape();
    for (at, (expression, value, label)) in readings.iter().enumerate() {
        check(&seen, at, expression, *value, label, None);
    }
}

/// One query for the value and one for the label: where the first fails, its whole query does.
fn pair(at: usize, expression: &str, from: &str) -> [Query; 2] {
    let value = format!("SELECT {expression} AS value {from}");
    let label = format!("SELECT {expression} AS label, 1 AS value {from}");
    [Query::new(&format!("value{at}"), &value), Query::new(&format!("label{at}"), &label).labels("label")]
}

/// `shown` is what a failure calls the value, `name` its type where an error must name it.
fn check(seen: &Seen, at: usize, shown: &str, value: Value, label: &str, name: Option<&str>) {
    let query = format!("value{at}");
    match value {
        Value::Is(number) => {
            let found = seen.value(&query);
            let same = found == number || (found.is_nan() && number.is_nan());
            assert!(same, "{shown}: the value is {found}, not {number}");
        }
        Value::NoNumber => {
            let error = seen.failed(&query, Reason::Value).message();
            let start =
                name.map_or("column `value` (".to_owned(), |name| format!("column `value` ({name}): "));
            assert!(error.starts_with(&start), "{shown}: {error}");
        }
        Value::NoType => {
            let error = seen.failed(&query, Reason::Type);
            let name = name.unwrap_or_default();
            assert_eq!(
                error.message(),
                format!("column `value` is of type {name}, which is not a number"),
                "{shown}"
            );
        }
    }
    let query = format!("label{at}");
    seen.good(&query);
    let samples = seen.page.series(&query);
    assert_eq!(samples.len(), 1, "{shown}: {samples:?}");
    assert_eq!(samples[0].labels["label"], label, "{shown} as a label");
}
