//! Results of several queries on one page: order, duplicates between queries, limits of the page.

use sql_exporter::config::query::Query;
use sql_exporter::engine::query_sink::RenderedResult;
use sql_exporter::engine::scrape::merge::{MergeEntry, MergedPage, PageLimits, merge};
use sql_exporter::error::Reason;
use sql_exporter::exposition::page::pieces;
use sql_exporter::exposition::text::Text as TextFormat;
use sql_exporter::value::Cell::{Int, Text};

use crate::checker::checked;
use crate::table::{Table, bare, query, render};

const ROOMY: PageLimits = PageLimits { series: 1000, bytes: 100_000 };

/// A query and its result: one row for each value of the label `of`.
struct Answer {
    target: usize,
    collector: &'static str,
    query: Query,
    rendered: Option<RenderedResult>,
}

impl Answer {
    /// The same of another collector.
    fn of(self, collector: &'static str) -> Answer {
        Answer { collector, ..self }
    }
}

fn answer(target: usize, metrics: &str, values: &[&'static str]) -> Answer {
    let rows: Vec<Vec<_>> = values.iter().map(|value| vec![Text(value), Int(1)]).collect();
    let rows: Vec<&[_]> = rows.iter().map(Vec::as_slice).collect();
    let query = query(metrics);
    let rendered = render(&query, &bare(), &Table::new(&["of", "value"], &rows)).expect("a good result");
    Answer { target, collector: "default", query, rendered: Some(rendered) }
}

/// The result of a query over these rows of the columns `of`, `part` and `value`.
fn answer_of_parts(
    collector: &'static str,
    metrics: &str,
    rows: &[(&'static str, &'static str, i64)],
) -> Answer {
    let rows: Vec<[_; 3]> =
        rows.iter().map(|(of, part, value)| [Text(of), Text(part), Int(*value)]).collect();
    let rows: Vec<&[_]> = rows.iter().map(|row| &row[..]).collect();
    let query = query(metrics);
    let table = Table::new(&["of", "part", "value"], &rows);
    let rendered = render(&query, &bare(), &table).expect("a good result");
    Answer { target: 0, collector, query, rendered: Some(rendered) }
}

fn failed(target: usize, metrics: &str) -> Answer {
    Answer { target, collector: "default", query: query(metrics), rendered: None }
}

fn merged(answers: &[Answer], limits: PageLimits, labelled: bool) -> MergedPage {
    let mut entries = Vec::new();
    for (query, answer) in answers.iter().enumerate() {
        let (metrics, rendered) = (&*answer.query.metrics, answer.rendered.as_ref());
        let (target, collector) = (answer.target, answer.collector);
        entries.push(MergeEntry { target, query, collector, metrics, rendered });
    }
    merge(&entries, limits, labelled, &[])
}

fn names(merged: &MergedPage) -> Vec<&str> {
    merged.families.iter().map(|(family, _)| family.name.as_str()).collect()
}

/// The samples on the page, which the checker finds good.
fn samples(merged: &MergedPage) -> Vec<String> {
    let pieces = pieces(&merged.families, &TextFormat);
    let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.as_ref().to_vec()).collect();
    let text = String::from_utf8(bytes).unwrap();
    checked(&text);
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.trim_end_matches(" 1").to_owned())
        .collect()
}

const A: &str = "{name: a, labels: [of]}";
const B: &str = "{name: b, labels: [of]}";
const BOTH: &str = "{name: b, labels: [of]}, {name: a, labels: [of]}";

#[test]
fn families_are_contiguous_and_in_configuration_order() {
    let answers = [answer(0, A, &["1"]), answer(0, BOTH, &["2"]), answer(1, A, &["3"])];
    let merged = merged(&answers, ROOMY, true);
    assert_eq!(names(&merged), ["a", "b"]);
    assert_eq!(samples(&merged), [r#"a{of="1"}"#, r#"a{of="2"}"#, r#"a{of="3"}"#, r#"b{of="2"}"#]);
    assert_eq!((merged.series, merged.dropped.len()), (4, 0));
}

#[test]
fn a_failed_query_keeps_the_place_of_its_families() {
    let answers = [failed(0, BOTH), answer(0, A, &["1"]), answer(0, B, &["1"])];
    assert_eq!(names(&merged(&answers, ROOMY, true)), ["b", "a"]);
}

#[test]
fn the_later_query_loses_as_a_whole_when_it_repeats_a_series() {
    let answers = [answer(0, A, &["1", "2"]), answer(0, BOTH, &["2", "3"]), answer(0, A, &["3"])];
    for _ in 0..3 {
        let merged = merged(&answers, ROOMY, true);
        let [loser] = &merged.dropped[..] else { panic!("one loses: {:?}", merged.dropped) };
        assert_eq!((loser.target, loser.query, loser.error.reason()), (0, 1, Reason::Duplicate));
        assert!(loser.error.message().ends_with(r#"a{of="2"} too"#), "{}", loser.error);
        // Nothing of the loser is there, so the third query's series is not a duplicate.
        assert_eq!(samples(&merged), [r#"a{of="1"}"#, r#"a{of="2"}"#, r#"a{of="3"}"#]);
    }
}

#[test]
fn of_two_collectors_the_first_has_the_series_and_the_rest_of_the_later_one_stays() {
    let answers = [
        answer(0, A, &["1", "2"]),
        answer(0, BOTH, &["2", "3"]).of("other"),
        answer(0, A, &["3", "4"]).of("third"),
    ];
    let merged = merged(&answers, ROOMY, true);
    assert!(merged.dropped.is_empty(), "{:?}", merged.dropped);
    let expected =
        [r#"a{of="1"}"#, r#"a{of="2"}"#, r#"a{of="3"}"#, r#"a{of="4"}"#, r#"b{of="2"}"#, r#"b{of="3"}"#];
    assert_eq!(samples(&merged), expected);
    assert_eq!(merged.series, 6);
    let hidden: Vec<_> = merged
        .hidden
        .iter()
        .map(|hidden| (hidden.query, hidden.count, hidden.example.as_str(), hidden.shown.as_str()))
        .collect();
    assert_eq!(hidden, [(1, 1, r#"a{of="2"}"#, "default"), (2, 1, r#"a{of="3"}"#, "other")]);
}

#[test]
fn a_query_loses_as_a_whole_to_its_own_collector_and_to_another_target() {
    let own = [answer(0, A, &["1"]).of("x"), answer(0, A, &["2"]).of("y"), answer(0, A, &["1", "2"]).of("y")];
    let own = merged(&own, ROOMY, true);
    assert_eq!(own.dropped.iter().map(|loser| loser.query).collect::<Vec<_>>(), [2]);
    assert!(own.hidden.is_empty());
    let targets = [answer(0, A, &["1"]).of("x"), answer(1, A, &["1", "2"]).of("y")];
    let targets = merged(&targets, ROOMY, false);
    assert_eq!(targets.dropped.iter().map(|loser| loser.query).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_query_of_which_nothing_is_left_is_good_and_leaves_no_family_without_samples() {
    let answers = [answer(0, A, &["1", "2"]), answer(0, A, &["2", "1"]).of("other")];
    let merged = merged(&answers, PageLimits { series: 2, ..ROOMY }, true);
    assert!(merged.dropped.is_empty(), "what is left out takes nothing of the page: {:?}", merged.dropped);
    assert_eq!((merged.series, merged.hidden[0].count), (2, 2));
    assert_eq!(samples(&merged), [r#"a{of="1"}"#, r#"a{of="2"}"#]);
}

#[test]
fn a_histogram_stays_whole_whoever_has_it() {
    const HISTOGRAM: &str = "{name: h, type: histogram, labels: [of], le_column: part, cumulative: false}";
    let first = [("1", "1", 3), ("1", "5", 4)];
    let later = [("1", "2", 7), ("1", "5", 8), ("2", "2", 9)];
    let answers =
        [answer_of_parts("default", HISTOGRAM, &first), answer_of_parts("other", HISTOGRAM, &later)];
    let merged = merged(&answers, ROOMY, true);
    let samples = samples(&merged);
    let of = |label: &str| samples.iter().filter(|line| line.contains(label)).count();
    assert!(!samples.iter().any(|line| line.contains(r#"of="1",le="2.0""#)), "half a histogram: {samples:?}");
    assert!(samples.iter().any(|line| line.starts_with(r#"h_bucket{of="1",le="1.0"}"#)), "{samples:?}");
    assert!(of(r#"of="1""#) >= 3 && of(r#"of="2""#) >= 2, "{samples:?}");
    assert_eq!(merged.series, samples.len() as u64);
}

#[test]
fn what_was_left_out_of_one_query_is_no_duplicate_for_the_next() {
    const STATES: &str = "{name: s, type: stateset, labels: [of], state_column: part, states: [a, b]}";
    const ONE_STATE: &str = "{name: s, type: stateset, labels: [of], state_column: part, states: [b]}";
    const OTHER: &str = "{name: s, type: stateset, labels: [of], state_column: part, states: [a]}";
    let answers = [
        answer_of_parts("x", OTHER, &[("1", "a", 1)]),
        answer_of_parts("y", STATES, &[("1", "b", 1)]),
        answer_of_parts("z", ONE_STATE, &[("1", "b", 1)]),
    ];
    let merged = merged(&answers, ROOMY, true);
    assert_eq!(merged.hidden.len(), 1, "only y's: {:?}", merged.hidden);
    assert_eq!(samples(&merged), [r#"s{of="1",s="a"}"#, r#"s{of="1",s="b"}"#]);
}

#[test]
fn families_of_rows_with_another_help_are_one_and_with_another_type_are_not() {
    let by_rows = |help: &str, kind: &str| format!("{{name: 'm_{{of}}', help: {help}, type: {kind}}}");
    let answers = [
        answer(0, &by_rows("One.", "gauge"), &["a"]),
        answer(0, &by_rows("Another.", "gauge"), &["a", "b"]).of("other"),
        answer(0, &by_rows("One.", "counter"), &["b"]).of("third"),
    ];
    let merged = merged(&answers, ROOMY, true);
    assert_eq!(merged.dropped.iter().map(|loser| loser.query).collect::<Vec<_>>(), [2]);
    assert_eq!(samples(&merged), ["m_a", "m_b"]);
    let helps: Vec<&str> = merged.families.iter().map(|(family, _)| family.help.as_str()).collect();
    assert_eq!(&helps[..2], ["One.", "Another."]);
}

#[test]
fn two_targets_collide_only_where_no_label_names_them() {
    let answers = [answer(0, A, &["1"]), answer(1, A, &["1"])];
    let unlabelled = merged(&answers, ROOMY, false);
    let dropped: Vec<usize> = unlabelled.dropped.iter().map(|loser| loser.target).collect();
    assert_eq!(dropped, [1]);
    assert!(merged(&answers, ROOMY, true).dropped.is_empty());
}

#[test]
fn a_query_that_does_not_fit_is_left_out_and_smaller_ones_stay() {
    let answers = [answer(0, A, &["1", "2"]), answer(0, B, &["1", "2", "3"]), answer(0, A, &["4"])];
    let merged = merged(&answers, PageLimits { series: 4, ..ROOMY }, true);
    let [loser] = &merged.dropped[..] else { panic!("one loses: {:?}", merged.dropped) };
    assert_eq!((loser.query, loser.error.reason()), (1, Reason::Limit));
    assert!(loser.error.to_string().contains("5 series, more than max_series 4"), "{}", loser.error);
    assert_eq!((merged.series, samples(&merged).len()), (3, 3));
}

#[test]
fn a_page_is_never_longer_than_its_limit() {
    let answers = [answer(0, A, &["1"]), answer(0, B, &["1"]), answer(0, A, &["2"])];
    let page = |bytes| {
        let merged = merged(&answers, PageLimits { bytes, ..ROOMY }, true);
        let length: usize =
            pieces(&merged.families, &TextFormat).iter().map(|piece| piece.as_ref().len()).sum();
        (length as u64, merged.dropped.len())
    };
    let (whole, dropped) = page(1000);
    assert_eq!(dropped, 0);
    for limit in 0..whole {
        let (length, dropped) = page(limit);
        assert!(length <= limit && dropped > 0, "{length} bytes, {dropped} dropped at {limit}");
    }
}

/// Bytes allocated while a query of so many metrics, each of which makes names from rows, is put on a page of 4,000
/// families: a measure of the work that no busy machine changes.
fn work(metrics: usize) -> u64 {
    let values: Vec<String> = (0..4_000 / metrics).map(|n| n.to_string()).collect();
    let rows: Vec<Vec<_>> = values.iter().map(|value| vec![Text(value), Int(1)]).collect();
    let rows: Vec<&[_]> = rows.iter().map(Vec::as_slice).collect();
    let yaml: Vec<String> = (0..metrics).map(|n| format!("{{name: 'm{n}_{{of}}'}}")).collect();
    let mut query = query(&yaml.join(", "));
    (query.max_families, query.max_series) = (10_000, 10_000);
    let rendered = render(&query, &bare(), &Table::new(&["of", "value"], &rows)).expect("a good result");
    let answers = [Answer { target: 0, collector: "default", query, rendered: Some(rendered) }];
    let mut count = 0;
    let roomy = PageLimits { series: 10_000, bytes: 10_000_000 };
    let info = allocation_counter::measure(|| count = merged(&answers, roomy, true).families.len());
    assert_eq!(count, 4_000);
    info.bytes_total
}

#[test]
fn the_work_for_a_page_goes_by_its_families_and_not_by_its_metrics_too() {
    let (few, many) = (work(4), work(400));
    assert!(many < few * 2, "{few} bytes for 4 metrics, {many} for 400");
}
