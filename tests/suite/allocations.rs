//! From a row to a block: nothing is allocated per sample, and memory is the page and little more.

use allocation_counter::{AllocationInfo, measure};
use sql_exporter::engine::query_sink::{RenderedResult, SizeHint, sink};
use sql_exporter::value::Cell;

use crate::table::{Cells, bare, columns, query};

const YAML: &str = "
    {name: x, labels: [n, text, day, bytes], value_column: value},
    {name: y_total, type: counter, labels: [n, text, day, bytes], value_column: number, scale: 2},
    {name: z, labels: [n, span, float], value_columns: [value, number], value_label: of, null: nan}";

/// The same number of series, by patterns that each row matches.
const PATTERNS: &str = "
    {name: x, labels: {n: n, text: {column: text, pattern: 'a (.+) t', lower: true}}, value_column: value},
    {name: y_total, type: counter, labels: {n: {column: n, pattern: '^.+$'}}, value_column: number},
    {name: 'z_{text|^a}', labels: [n], value_columns: [value, number], value_label: of, null: nan}";

/// Runs `rows` rows of all kinds of cells; what was allocated meanwhile on this thread, and the result.
fn run(rows: i64, room: &SizeHint) -> (AllocationInfo, RenderedResult) {
    run_metrics(YAML, rows, room)
}

fn run_metrics(yaml: &str, rows: i64, room: &SizeHint) -> (AllocationInfo, RenderedResult) {
    let columns = columns(&["n", "text", "day", "bytes", "value", "number", "span", "float"]);
    let (query, context) = (query(yaml), bare());
    let mut result: Option<RenderedResult> = None;
    let info = measure(|| {
        let mut sink =
            sink(&query, &context, &[], room.clone(), Box::new(|rendered, _| result = rendered.ok()));
        sink.columns(&columns).expect("the columns are there");
        for n in 0..rows {
            let cells = [
                Cell::Int(n),
                Cell::Text("a \"quoted\" text"),
                Cell::Date(n % 1000),
                Cell::Bytes(b"not UTF-8: \xff"),
                Cell::Float(n as f64 / 7.0),
                Cell::Number("12345678901234567890.5"),
                Cell::Interval { months: 1, days: 2, micros: n },
                Cell::Float32(0.1),
            ];
            sink.row(&Cells(&cells)).expect("a good row");
        }
        sink.end(Ok(()), std::time::Duration::ZERO);
    });
    let rendered = result.expect("a good result");
    assert_eq!(rendered.series, 4 * rows.unsigned_abs());
    (info, rendered)
}

#[test]
fn only_the_growth_of_blocks_and_their_sets_allocates() {
    let (few, _) = run(1000, &SizeHint::default());
    let (many, _) = run(16_000, &SizeHint::default());
    // Sixteen times the rows: four doublings of three blocks and three sets, and one more at the end each.
    let more = many.count_total - few.count_total;
    assert!(more <= 30, "{more} allocations more for 60,000 samples more: {few:?}, {many:?}");
}

#[test]
fn a_pattern_allocates_nothing_per_sample_either() {
    let (few, _) = run_metrics(PATTERNS, 1000, &SizeHint::default());
    let (many, _) = run_metrics(PATTERNS, 16_000, &SizeHint::default());
    let more = many.count_total - few.count_total;
    assert!(more <= 30, "{more} allocations more for 60,000 samples more: {few:?}, {many:?}");
}

/// From the second scrape on, buffers are as large as the result.
#[test]
fn a_run_like_the_last_one_allocates_as_much_for_many_rows_as_for_few() {
    let again = |rows| run(rows, &run(rows, &SizeHint::default()).1.size_hint).0.count_total;
    assert_eq!(again(16_000), again(100));
}

#[test]
fn memory_is_at_most_twice_the_page_and_a_few_bytes_a_series() {
    let rows = 25_000;
    let (info, rendered) = run(rows, &SizeHint::default());
    let page: usize = rendered.blocks.iter().map(|block| block.lines.len()).sum();
    // While a block grows its old and its new bytes are there, as this allocator copies where the system's moves pages.
    let bound = 3 * page as u64 + 24 * 4 * rows.unsigned_abs();
    assert!(info.bytes_max <= bound, "{} bytes for a page of {page}", info.bytes_max);
}
