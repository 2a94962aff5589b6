//! Whatever an input is cut and changed to, no dialect panics; and a large input takes no longer than its size allows.

use proptest::prelude::*;
use sql_exporter::commands::import::{convert_text, dialects};

use super::{cases, read};
use crate::load::cost;

/// An input with a piece taken out, doubled, or replaced by something of another kind.
fn changed(text: &str, from: usize, length: usize, change: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let from = from % (characters.len() + 1);
    let to = (from + length).min(characters.len());
    let piece: String = characters[from..to].iter().collect();
    let (before, after): (String, String) =
        (characters[..from].iter().collect(), characters[to..].iter().collect());
    match change {
        "double" => format!("{before}{piece}{piece}{after}"),
        change => format!("{before}{change}{after}"),
    }
}

const CHANGES: [&str; 14] = [
    "",
    "double",
    "\n",
    ": ",
    "- ",
    "{}",
    "[x]",
    "~",
    "&a *a",
    "!tag ",
    "|\n",
    "${X}",
    "\u{e9}\u{1f600}",
    "'",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn changed_inputs_are_converted_or_refused(
        case in any::<prop::sample::Index>(),
        from in any::<usize>(),
        length in 0_usize..40,
        change in prop::sample::select(&CHANGES[..]),
    ) {
        let cases = cases();
        let (dialect, input) = case.get(&cases);
        let text = changed(&read(input), from, length, change);
        let folder = tempfile::tempdir().unwrap();
        for from in [dialect.as_str(), "auto"] {
            drop(convert_text(from, folder.path(), &text));
        }
    }
}

#[test]
fn every_dialect_refuses_or_converts_the_files_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    for (_, input) in cases() {
        for dialect in dialects() {
            drop(convert_text(dialect, folder.path(), &read(&input)));
        }
    }
}

/// Six times as much costs no more than 15 times as much: far less than the 36 times of a square.
fn assert_grows(dialect: &str, count: usize, text: impl Fn(usize) -> String) {
    let [small, large] = [count, 6 * count].map(|count| {
        let text = text(count);
        cost(|| {
            let folder = tempfile::tempdir().unwrap();
            drop(convert_text(dialect, folder.path(), &text));
        })
    });
    assert!(large < small * 15.0, "{dialect} {}: {small} ns, then {large} ns", text(1));
}

#[test]
fn time_grows_no_faster_than_the_input() {
    let good = |index: usize| {
        format!(
            "# one\nq{index}:\n  query: \"SELECT {index} AS n,\n    2\"\n  metrics: [{{n: {{usage: GAUGE, description: x}}}}]\n"
        )
    };
    let bad =
        |index: usize| format!("q{index}:\n  query: SELECT 1\n  metrics: [{{a b: {{usage: GAUGE}}}}]\n");
    let folded = |index: usize| {
        format!("q{index}: {{query: \"\\x53\n ELECT\", metrics: [{{n: {{usage: GAUGE}}}}]}}\n")
    };
    let pieces: [fn(usize) -> String; 3] = [good, bad, folded];
    for piece in pieces {
        assert_grows("postgres_exporter", 100, |count| (0..count).map(piece).collect());
    }
}

/// globset panics where it cannot build the matcher of a pattern.
#[test]
fn endless_patterns_of_collectors_name_none() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["?", "*a", "[!a]", "{}"] {
        let pattern = part.repeat(200_000);
        let text = format!(
            "target: {{data_source_name: 'postgres://h/d', collectors: ['{pattern}', a]}}\n\
             collectors:\n- collector_name: a\n  metrics:\n  - {{metric_name: m, type: gauge, help: h, values: [v], query: 'SELECT 1 AS v'}}\n"
        );
        let made = convert_text("burningalchemist", folder.path(), &text);
        let files = made.unwrap_or_else(|errors| panic!("{part}: {:.300}", format!("{errors:?}")));
        assert!(files.iter().any(|(_, text)| text.contains("SELECT 1 AS v")), "{part}");
    }
}

#[test]
fn many_keys_that_are_not_known_are_reported_in_time() {
    let text = |count: usize| (0..count).map(|index| format!("unknown_{index}: x\n")).collect::<String>();
    assert_grows("psql-query-exporter", 3000, |count| format!("sources: {{}}\n{}", text(count)));
}

/// Each of many keys on one line once had all the comments above it.
#[test]
fn comments_above_many_keys_are_given_once() {
    assert_grows("query-exporter", 300, |count| {
        let keys: Vec<String> = (0..count).map(|index| format!("a{index}: {{type: gauge}}")).collect();
        format!(
            "databases: {{}}\nmetrics: {{\n{}{}}}\nqueries: {{}}\n",
            "# c\n".repeat(count),
            keys.join(", ")
        )
    });
}
