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
    query: Query,
    rendered: Option<RenderedResult>,
}

fn answer(target: usize, metrics: &str, values: &[&'static str]) -> Answer {
    let rows: Vec<Vec<_>> = values.iter().map(|value| vec![Text(value), Int(1)]).collect();
    let rows: Vec<&[_]> = rows.iter().map(Vec::as_slice).collect();
    let query = query(metrics);
    let rendered = render(&query, &bare(), &Table::new(&["of", "value"], &rows)).expect("a good result");
    Answer { target, query, rendered: Some(rendered) }
}

fn failed(target: usize, metrics: &str) -> Answer {
    Answer { target, query: query(metrics), rendered: None }
}

fn merged(answers: &[Answer], limits: PageLimits, labelled: bool) -> MergedPage {
    let mut entries = Vec::new();
    for (query, answer) in answers.iter().enumerate() {
        let (metrics, rendered) = (&*answer.query.metrics, answer.rendered.as_ref());
        entries.push(MergeEntry { target: answer.target, query, metrics, rendered });
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
        // Nothing of the loser is there, so the third query's series is no duplicate.
        assert_eq!(samples(&merged), [r#"a{of="1"}"#, r#"a{of="2"}"#, r#"a{of="3"}"#]);
    }
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
    let answers = [Answer { target: 0, query, rendered: Some(rendered) }];
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
