//! Whatever an input is cut and changed to, no dialect panics; and a large input takes no longer than its size allows.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use sql_exporter::commands::import::{convert_text, dialects};

use super::{cases, read};
use crate::process::bound;

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

/// The time to convert a text that `piece` repeats so often.
fn time(count: usize, piece: impl Fn(usize) -> String) -> Duration {
    let text: String = (0..count).map(piece).collect();
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    drop(convert_text("postgres_exporter", folder.path(), &text));
    began.elapsed()
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
        let (small, large) = (time(100, piece), time(600, piece));
        assert!(large < bound(small * 15), "{small:?} for 100, {large:?} for 600");
    }
}
