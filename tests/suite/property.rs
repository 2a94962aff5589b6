//! Whatever cells a database may hand over, the page is legal and reads back as the same numbers and label text.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sql_exporter::engine::query_sink::{RenderedResult, SampleContext};
use sql_exporter::error::Reason;
use sql_exporter::metric::labels::LabelLimit;
use sql_exporter::value::Cell;

use crate::checker::{Page, Sample, checked, openmetrics};
use crate::judges::{prometheus_client, promtool};
use crate::table::{Table, bare, open_page, page, query, render};

/// A cell that owns its text, with the label text and the number that docs/metrics.md gives it where std can tell.
#[derive(Debug, Clone)]
enum Made {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Single(f32),
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    Date(i64),
    Time(i64),
    DateTime(i64, bool),
    Interval(i32, i32, i64),
    Other(String),
}

impl Made {
    fn cell(&self) -> Cell<'_> {
        match self {
            Made::Null => Cell::Null,
            Made::Bool(value) => Cell::Bool(*value),
            Made::Int(value) => Cell::Int(*value),
            Made::UInt(value) => Cell::UInt(*value),
            Made::Float(value) => Cell::Float(*value),
            Made::Single(value) => Cell::Float32(*value),
            Made::Number(text) => Cell::Number(text),
            Made::Text(text) => Cell::Text(text),
            Made::Bytes(bytes) => Cell::Bytes(bytes),
            Made::Date(days) => Cell::Date(*days),
            Made::Time(micros) => Cell::Time(*micros),
            Made::DateTime(micros, zoned) => Cell::DateTime { micros: *micros, zoned: *zoned },
            Made::Interval(months, days, micros) => {
                Cell::Interval { months: *months, days: *days, micros: *micros }
            }
            Made::Other(text) => Cell::Other(text),
        }
    }

    /// Holds `read`, a label value from the page, against the cell.
    fn check_label(&self, read: &str) {
        match self {
            Made::Null => assert_eq!(read, ""),
            Made::Bool(value) => assert_eq!(read, value.to_string()),
            Made::Int(value) => assert_eq!(read, value.to_string()),
            Made::UInt(value) => assert_eq!(read, value.to_string()),
            Made::Float(value) => same_number(*value, read.parse().expect("a number")),
            Made::Single(value) => {
                same_number((*value).into(), f64::from(read.parse::<f32>().expect("a number")));
            }
            Made::Number(text) | Made::Text(text) | Made::Other(text) => assert_eq!(read, text),
            Made::Bytes(bytes) => assert_eq!(read, text_or_hexadecimal(bytes)),
            Made::Date(_) | Made::Time(_) | Made::DateTime(..) | Made::Interval(..) => {
                assert!(read.bytes().all(|byte| b"0123456789-+:.PTZYMDHS".contains(&byte)), "{read}");
            }
        }
    }

    /// The number, where this cell surely has one.
    fn number(&self) -> Option<f64> {
        match self {
            Made::Bool(value) => Some(f64::from(*value)),
            Made::Int(value) => Some(*value as f64),
            Made::UInt(value) => Some(*value as f64),
            Made::Float(value) => Some(*value),
            Made::Single(value) => Some(value.to_string().parse().expect("a number")),
            Made::Number(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        }
    }
}

/// What bytes are as a label: text without control characters, else two digits a byte.
fn text_or_hexadecimal(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn same_number(left: f64, right: f64) {
    assert!(left == right || (left.is_nan() && right.is_nan()), "{left} is not {right}");
}

/// The shortest decimal that is this number as 4 bytes; of two that are equally near (1619720.25) either may be it.
fn shortest(read: f64, single: f32) {
    #[expect(clippy::cast_possible_truncation, reason = "the nearest one is what is asked for")]
    same_number(f64::from(read as f32), single.into());
    assert!(read.to_string().len() <= single.to_string().len(), "{read} for {single}");
}

fn any_cell() -> impl Strategy<Value = Made> {
    prop_oneof![
        Just(Made::Null),
        any::<bool>().prop_map(Made::Bool),
        any::<i64>().prop_map(Made::Int),
        any::<u64>().prop_map(Made::UInt),
        (-1000_i64..1000).prop_map(Made::Int),
        any::<u64>().prop_map(|bits| Made::Float(f64::from_bits(bits))),
        (-1e6..1e6).prop_map(Made::Float),
        any::<u32>().prop_map(|bits| Made::Single(f32::from_bits(bits))),
        "-?[0-9]{1,45}(\\.[0-9]{1,30})?".prop_map(Made::Number),
        any_text().prop_map(Made::Text),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Made::Bytes),
        any::<i64>().prop_map(Made::Date),
        any::<i64>().prop_map(Made::Time),
        (any::<i64>(), any::<bool>()).prop_map(|(micros, zoned)| Made::DateTime(micros, zoned)),
        (any::<i32>(), any::<i32>(), any::<i64>()).prop_map(|(m, d, us)| Made::Interval(m, d, us)),
        any_text().prop_map(Made::Other),
    ]
}

/// All of Unicode, with more of what a parser may trip over than chance would bring.
fn any_text() -> impl Strategy<Value = String> {
    let hard =
        prop::sample::select(vec!['\\', '"', '\n', '\r', '\0', ' ', '{', '}', ',', '=', '#', 'n', '\u{85}']);
    let character = prop_oneof![any::<char>(), hard, prop::char::range('\0', '\u{7f}')];
    prop::collection::vec(character, 0..20).prop_map(String::from_iter)
}

/// One page of these rows: a gauge with two labels and the row's number as a third.
fn page_of(rows: &[(Made, Made, Made)]) -> RenderedResult {
    let yaml = "{name: x, help: 'H', labels: [n, a, b], invalid: skip},
        {name: y_total, type: counter, labels: [n, a], invalid: skip},
        {name: h, type: histogram, labels: [a], value_column: one}";
    let cells: Vec<Vec<Cell<'_>>> = rows
        .iter()
        .zip(0..)
        .map(|((a, b, value), n)| vec![Cell::Int(n), a.cell(), b.cell(), value.cell(), Cell::Int(1)])
        .collect();
    let cells: Vec<&[Cell<'_>]> = cells.iter().map(Vec::as_slice).collect();
    let table = Table::new(&["n", "a", "b", "value", "one"], &cells);
    render(&query(yaml), &bare(), &table).expect("no cell fails the query")
}

fn holds(rows: &[(Made, Made, Made)], page: &Page) {
    let samples: HashMap<&str, &Sample> =
        page.series("x").into_iter().map(|sample| (sample.labels["n"].as_str(), sample)).collect();
    for ((a, b, value), n) in rows.iter().zip(0..) {
        let sample = samples.get(n.to_string().as_str());
        match (value.number(), sample) {
            (Some(number), Some(sample)) => match value {
                Made::Single(single) => shortest(sample.value, *single),
                _ => same_number(sample.value, number),
            },
            (Some(_), None) => panic!("row {n} is missing: {value:?}"),
            _ => {}
        }
        if let Some(sample) = sample {
            a.check_label(&sample.labels["a"]);
            b.check_label(&sample.labels["b"]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_make_a_legal_page_that_reads_back_the_same(
        rows in prop::collection::vec((any_cell(), any_cell(), any_cell()), 0..20)
    ) {
        let rendered = page_of(&rows);
        let page_of_text = checked(&page(&rendered));
        holds(&rows, &page_of_text);
        let open = openmetrics::check(&open_page(&rendered)).expect("legal");
        let same = open.iter().zip(&page_of_text.samples).all(|(one, other)| {
            (&one.name, &one.labels) == (&other.name, &other.labels) && one.value.total_cmp(&other.value).is_eq()
        });
        assert!(same && open.len() == page_of_text.samples.len(), "the formats differ");
    }

    #[test]
    fn any_rows_are_a_legal_histogram_or_an_error_that_says_why(
        rows in prop::collection::vec((0..2_i64, -2..4_i64, -1..6_i64, -3..9_i64), 0..12),
        kind in prop::sample::select(vec!["histogram", "gaugehistogram"]),
        shape in prop::sample::select(vec![
            "buckets: [-1, 0, 2]",
            "buckets: [0, 2]",
            "le_column: le, sum_column: sum",
            "le_column: le, sum_column: sum, count_column: value, cumulative: false",
            "bucket_columns: {'0': le, '3': value, '+Inf': sum}, sum_column: sum",
        ]),
    ) {
        let value = if shape.starts_with("bucket_") { "" } else { ", value_column: value" };
        let yaml = format!("{{name: h, type: {kind}, labels: [a]{value}, {shape}}}");
        let cells: Vec<Vec<Cell<'_>>> = rows
            .iter()
            .map(|&(a, le, value, sum)| {
                let le = if le == 3 { Cell::Text("+Inf") } else { Cell::Int(le) };
                vec![Cell::Int(a), le, Cell::Int(value), Cell::Int(sum)]
            })
            .collect();
        let cells: Vec<&[Cell<'_>]> = cells.iter().map(Vec::as_slice).collect();
        match render(&query(&yaml), &bare(), &Table::new(&["a", "le", "value", "sum"], &cells)) {
            Ok(rendered) => {
                checked(&page(&rendered));
                let open = open_page(&rendered);
                openmetrics::check(&open).unwrap_or_else(|fault| panic!("{fault}\n{yaml}\n{open}"));
            }
            Err(error) => assert!(matches!(error.reason(), Reason::Value | Reason::Duplicate), "{error}"),
        }
    }
}

/// As a driver gives it.
fn text_or_bytes(bytes: &[u8]) -> Cell<'_> {
    std::str::from_utf8(bytes).map_or(Cell::Bytes(bytes), Cell::Text)
}

/// One gauge whose label takes each of `values` in turn, the sample's value being its number.
fn page_of_labels(values: &[Vec<u8>]) -> RenderedResult {
    let rows: Vec<Vec<Cell<'_>>> =
        values.iter().zip(0..).map(|(bytes, n)| vec![text_or_bytes(bytes), Cell::Int(n)]).collect();
    let rows: Vec<&[Cell<'_>]> = rows.iter().map(Vec::as_slice).collect();
    let yaml = "{name: x, labels: {n: value, text: bytes}}";
    let context = SampleContext::new(None, &[], LabelLimit { bytes: 4 << 20, truncate: false });
    render(&query(yaml), &context, &Table::new(&["bytes", "value"], &rows)).expect("all are legal")
}

/// Holds pages of labels in both formats against our checkers, prometheus_client and promtool.
fn judge_labels(values: &[Vec<u8>]) {
    let rendered = page_of_labels(values);
    let open = crate::judges::openmetrics(&open_page(&rendered));
    for (bytes, theirs) in values.iter().zip(&open) {
        assert_eq!(theirs.labels["text"], text_or_bytes(bytes).label(&mut String::new()), "OpenMetrics");
    }
    let text = page(&rendered);
    promtool(&text).unwrap_or_else(|error| panic!("promtool: {error}"));
    let ours = checked(&text);
    let theirs = prometheus_client(&text).unwrap_or_else(|error| panic!("prometheus_client: {error}"));
    assert_eq!((ours.samples.len(), theirs.len()), (values.len(), values.len()));
    for ((bytes, ours), theirs) in values.iter().zip(&ours.samples).zip(&theirs) {
        let (cell, mut scratch) = (text_or_bytes(bytes), String::new());
        let expected = cell.label(&mut scratch);
        assert_eq!(ours.labels["text"], expected);
        assert_eq!(theirs.labels["text"], expected, "prometheus_client");
    }
}

#[test]
fn every_character_of_unicode_is_a_label_value_for_all_judges() {
    let all: Vec<char> = ('\0'..=char::MAX).collect();
    let values: Vec<Vec<u8>> = all.chunks(100).map(|chunk| String::from_iter(chunk).into_bytes()).collect();
    judge_labels(&values);
}

#[test]
fn a_label_of_a_megabyte_is_a_label_value_for_all_judges() {
    judge_labels(&["\\é\"\n".repeat(200_000).into_bytes()]);
}

#[test]
fn every_pair_of_bytes_is_a_label_value_for_all_judges() {
    let pairs = (0..=u16::MAX).map(|pair| pair.to_be_bytes().to_vec());
    judge_labels(&pairs.collect::<Vec<_>>());
}

#[test]
fn any_rows_are_legal_for_all_judges() {
    let mut runner = TestRunner::deterministic();
    let rows = prop::collection::vec((any_cell(), any_cell(), any_cell()), 2000..2001);
    let rows = rows.new_tree(&mut runner).expect("a tree").current();
    holds(&rows, &crate::judges::judge(&page(&page_of(&rows))));
}
