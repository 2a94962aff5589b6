//! The metric types beyond one value, one sample: histograms in three shapes, gaugehistogram, summary, info, stateset;
//! units and explicit timestamps.

use sql_exporter::error::Reason;
use sql_exporter::value::Cell;
use sql_exporter::value::Cell::{Bool, DateTime, Float, Int, Null, Number, Text, Time};

use crate::table::{Table, lines, metrics};

/// The lines that one metric makes of a table.
fn written(yaml: &str, columns: &[&str], rows: &[&[Cell<'_>]]) -> String {
    lines(yaml, &Table::new(columns, rows)).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

/// The reason and the text of the error that one metric ends with.
fn error(yaml: &str, columns: &[&str], rows: &[&[Cell<'_>]]) -> (Reason, String) {
    let error = lines(yaml, &Table::new(columns, rows)).expect_err(yaml);
    (error.reason(), error.to_string())
}

/// Holds that it is a `value` error that says `part`.
fn no_value(yaml: &str, columns: &[&str], rows: &[&[Cell<'_>]], part: &str) {
    let (reason, text) = error(yaml, columns, rows);
    assert_eq!(reason, Reason::Value, "{text}");
    assert!(text.contains(part), "{part}: {text}");
}

const BY_COLUMN: &str = "{name: t, type: histogram, labels: [verb], sum_column: s, count_column: n, \
                         bucket_columns: {'1': b1, '0.1': b0}}";
const COLUMNS: &[&str] = &["verb", "b0", "b1", "s", "n"];

#[test]
fn a_row_with_a_bucket_a_column_is_a_whole_histogram() {
    let rows: &[&[Cell<'_>]] = &[
        &[Text("GET"), Int(1), Int(3), Number("4.5"), Int(4)],
        &[Text("PUT"), Int(0), Int(0), Null, Int(0)],
    ];
    let expected = "\
t_bucket{verb=\"GET\",le=\"0.1\"} 1
t_bucket{verb=\"GET\",le=\"1.0\"} 3
t_bucket{verb=\"GET\",le=\"+Inf\"} 4
t_sum{verb=\"GET\"} 4.5
t_count{verb=\"GET\"} 4
t_bucket{verb=\"PUT\",le=\"0.1\"} 0
t_bucket{verb=\"PUT\",le=\"1.0\"} 0
t_bucket{verb=\"PUT\",le=\"+Inf\"} 0
t_sum{verb=\"PUT\"} 0
t_count{verb=\"PUT\"} 0
";
    assert_eq!(written(BY_COLUMN, COLUMNS, rows), expected);
}

#[test]
fn columns_that_are_no_histogram_say_why() {
    let row = |b0, b1, s, n| [Text("GET"), b0, b1, s, n];
    let refused = |row: [Cell<'_>; 5], part: &str| no_value(BY_COLUMN, COLUMNS, &[&row], part);
    refused(
        row(Int(3), Int(2), Int(1), Int(4)),
        "t{verb=\"GET\"}: the bucket up to 1 holds 2, the one before it 3",
    );
    refused(row(Int(1), Int(5), Int(1), Int(4)), "the bucket up to +Inf holds 4, the one before it 5");
    refused(row(Int(-1), Int(5), Int(1), Int(5)), "is negative, which a count cannot be");
    refused(row(Float(0.5), Int(5), Int(1), Int(5)), "is not a whole number");
    refused(row(Int(1), Float(f64::NAN), Int(1), Int(5)), "is not a number");
    refused(row(Int(1), Int(5), Int(-1), Int(5)), "the sum -1 is negative");
    refused(row(Int(1), Int(5), Float(f64::NAN), Int(5)), "the sum NaN is not a number");
    refused(row(Int(1), Int(5), Null, Int(5)), "its sum, column `s`, is NULL");
    refused(row(Int(1), Null, Int(1), Int(5)), "column `b1` is NULL while other buckets are not");
    refused(row(Int(1), Text("many"), Int(1), Int(5)), "column `b1` (any): \"many\" is not a number");
}

#[test]
fn a_row_without_any_bucket_is_left_out() {
    assert_eq!(written(BY_COLUMN, COLUMNS, &[&[Text("GET"), Null, Null, Null, Null]]), "");
}

#[test]
fn the_bucket_of_all_must_agree_with_the_count() {
    let yaml =
        "{name: t, type: histogram, bucket_columns: {'1': a, '+Inf': b}, sum_column: s, count_column: n}";
    let columns = &["a", "b", "s", "n"];
    assert!(written(yaml, columns, &[&[Int(1), Int(2), Int(3), Int(2)]]).ends_with("t_sum 3\nt_count 2\n"));
    let part = "column `n` counts 3, the bucket up to +Inf holds 2";
    no_value(yaml, columns, &[&[Int(1), Int(2), Int(3), Int(3)]], part);
}

#[test]
fn without_a_sum_there_is_no_count_and_a_scale_multiplies_the_sum_alone() {
    let yaml = "{name: t, type: histogram, bucket_columns: {'1': a, '+Inf': b}}";
    let bare = "t_bucket{le=\"1.0\"} 1\nt_bucket{le=\"+Inf\"} 2\n";
    assert_eq!(written(yaml, &["a", "b"], &[&[Int(1), Int(2)]]), bare);
    let yaml =
        "{name: t, type: histogram, scale: 0.001, bucket_columns: {'1': a, '+Inf': b}, sum_column: ms}";
    let scaled = format!("{bare}t_sum 1.5\nt_count 2\n");
    assert_eq!(written(yaml, &["a", "b", "ms"], &[&[Int(1), Int(2), Int(1500)]]), scaled);
}

const BY_ROW: &str = "{name: t, type: histogram, labels: [verb], le_column: le, value_column: c, sum_column: s, count_column: n}";
const ROWS: &[&str] = &["verb", "le", "c", "s", "n"];

#[test]
fn rows_of_one_label_set_are_one_histogram_in_any_order() {
    let rows: &[&[Cell<'_>]] = &[
        &[Text("GET"), Text("+Inf"), Int(5), Number("2.5"), Int(5)],
        &[Text("PUT"), Float(0.5), Int(1), Int(1), Int(1)],
        &[Text("GET"), Float(0.5), Int(2), Null, Null],
        &[Text("GET"), Int(1), Int(5), Number("2.5"), Null],
    ];
    let expected = "\
t_bucket{verb=\"GET\",le=\"0.5\"} 2
t_bucket{verb=\"GET\",le=\"1.0\"} 5
t_bucket{verb=\"GET\",le=\"+Inf\"} 5
t_sum{verb=\"GET\"} 2.5
t_count{verb=\"GET\"} 5
t_bucket{verb=\"PUT\",le=\"0.5\"} 1
t_bucket{verb=\"PUT\",le=\"+Inf\"} 1
t_sum{verb=\"PUT\"} 1
t_count{verb=\"PUT\"} 1
";
    assert_eq!(written(BY_ROW, ROWS, rows), expected);
}

#[test]
fn rows_of_their_own_observations_are_added_up() {
    let yaml = "{name: t, type: histogram, le_column: le, value_column: c, cumulative: false, sum_column: s, scale: 0.001}";
    let rows: &[&[Cell<'_>]] = &[&[Int(1000), Int(2), Int(1500)], &[Int(500), Int(1), Null]];
    let expected = "\
t_bucket{le=\"0.5\"} 1
t_bucket{le=\"1.0\"} 3
t_bucket{le=\"+Inf\"} 3
t_sum 1.5
t_count 3
";
    assert_eq!(written(yaml, &["le", "c", "s"], rows), expected);
}

#[test]
fn rows_that_are_no_histogram_say_why() {
    let refused = |rows: &[&[Cell<'_>]], part: &str| no_value(BY_ROW, ROWS, rows, part);
    let get = |le, c, s, n| [Text("GET"), le, c, s, n];
    refused(&[&get(Int(1), Int(2), Int(1), Null)], "t{verb=\"GET\"}: no row has the bound +Inf");
    refused(
        &[&get(Int(1), Int(3), Int(1), Null), &get(Text("inf"), Int(2), Int(1), Null)],
        "the bucket up to +Inf holds 2, the one before it 3: buckets are cumulative",
    );
    refused(
        &[&get(Text("+Inf"), Int(2), Int(1), Int(3))],
        "its count is 3, but the bucket up to +Inf holds 2",
    );
    refused(
        &[&get(Int(1), Int(2), Int(1), Null), &get(Text("+Inf"), Int(2), Int(7), Null)],
        "column `s` is 1 in one row and 7 in another",
    );
    refused(&[&get(Text("+Inf"), Int(2), Null, Null)], "its sum is NULL in every row");
    refused(&[&get(Text("+Inf"), Int(-2), Null, Null)], "is negative, which a count cannot be");
    refused(&[&get(Null, Int(2), Null, Null)], "column `le` is NULL, which bounds no bucket");
    refused(&[&get(Text("+Inf"), Int(2), Int(-1), Null)], "the sum -1 is negative though no bound is");
    let twice = [&get(Int(1), Int(2), Int(1), Int(3))[..], &get(Float(1.0), Int(2), Int(1), Int(3))];
    let (reason, text) = error(BY_ROW, ROWS, &twice);
    assert_eq!(reason, Reason::Duplicate);
    assert!(text.contains("two rows of t{verb=\"GET\"} have the bound 1"), "{text}");
    let first = BY_ROW.replace("type:", "duplicates: first, type:");
    assert!(
        written(&first, ROWS, &twice)
            .starts_with("t_bucket{verb=\"GET\",le=\"1.0\"} 2\nt_bucket{verb=\"GET\",le=\"+Inf\"} 3\n")
    );
}

#[test]
fn bounds_below_zero_leave_a_histogram_without_sum_and_a_gaugehistogram_with_one() {
    let rows: &[&[Cell<'_>]] = &[&[Int(-1), Int(1), Int(-5)], &[Text("+Inf"), Int(2), Int(-5)]];
    let yaml = |kind| format!("{{name: t, type: {kind}, le_column: le, value_column: c, sum_column: s}}");
    let buckets = "t_bucket{le=\"-1.0\"} 1\nt_bucket{le=\"+Inf\"} 2\n";
    assert_eq!(written(&yaml("histogram"), &["le", "c", "s"], rows), buckets);
    let both = format!("{buckets}t_gsum -5\nt_gcount 2\n");
    assert_eq!(written(&yaml("gaugehistogram"), &["le", "c", "s"], rows), both);
}

#[test]
fn a_gaugehistogram_counts_what_is_there_now() {
    let yaml = "{name: age, type: gaugehistogram, value_column: a, buckets: [1, 10]}";
    let expected = "\
age_bucket{le=\"1.0\"} 1
age_bucket{le=\"10.0\"} 2
age_bucket{le=\"+Inf\"} 3
age_gsum 55.5
age_gcount 3
";
    assert_eq!(written(yaml, &["a"], &[&[Float(0.5)], &[Int(5)], &[Int(50)]]), expected);
    no_value(yaml, &["a"], &[&[Int(-5)]], "the sum -5 is negative though no bound is");
}

#[test]
fn histograms_hold_the_limit_of_series() {
    for yaml in [
        "{name: t, type: histogram, labels: [n], le_column: n, value_column: c, sum_column: c}",
        "{name: t, type: histogram, labels: [n], bucket_columns: {'+Inf': c}, sum_column: c}",
    ] {
        let mut query = crate::table::query(yaml);
        let table = Table::new(&["n", "c"], &[&[Text("+Inf"), Int(1)], &[Text("Infinity"), Int(1)]]);
        for (limit, fits) in [(5, false), (6, true), (7, true)] {
            query.max_series = limit;
            let rendered = crate::table::render(&query, &crate::table::bare(), &table);
            assert_eq!(rendered.is_ok(), fits, "{limit}: {yaml}");
            let reason = rendered.err().map(|error| error.reason());
            assert!(reason.is_none_or(|reason| reason == Reason::Limit));
        }
    }
}

const SUMMARY: &str = "{name: t_seconds, type: summary, unit: seconds, labels: [verb], scale: 0.001, \
                       quantile_columns: {'0.99': p99, '0.5': p50}, sum_column: s, count_column: n}";
const QUANTILES: &[&str] = &["verb", "p50", "p99", "s", "n"];

#[test]
fn a_summary_has_quantiles_sum_and_count() {
    let rows: &[&[Cell<'_>]] = &[
        &[Text("GET"), Int(10), Int(500), Int(1250), Int(9)],
        &[Text("PUT"), Null, Float(f64::NAN), Null, Int(0)],
    ];
    let expected = "\
t_seconds{quantile=\"0.5\",verb=\"GET\"} 0.01
t_seconds{quantile=\"0.99\",verb=\"GET\"} 0.5
t_seconds_sum{verb=\"GET\"} 1.25
t_seconds_count{verb=\"GET\"} 9
t_seconds{quantile=\"0.99\",verb=\"PUT\"} NaN
t_seconds_count{verb=\"PUT\"} 0
";
    assert_eq!(written(SUMMARY, QUANTILES, rows), expected);
    let empty = "{name: t, type: summary, sum_column: s, count_column: n, empty: 0}";
    assert_eq!(written(empty, &["s", "n"], &[]), "t_sum 0\nt_count 0\n");
}

#[test]
fn two_rows_make_no_summary_together() {
    let rows: &[&[Cell<'_>]] = &[
        &[Text("GET"), Int(10), Null, Null, Null],
        &[Text("PUT"), Int(10), Null, Null, Null],
        &[Text("GET"), Null, Int(500), Int(1250), Int(9)],
    ];
    let error = lines(SUMMARY, &Table::new(QUANTILES, rows)).expect_err("a summary in two pieces");
    assert_eq!(error.reason(), Reason::Duplicate);
    assert_eq!(error.message(), "two rows of t_seconds{verb=\"GET\"}");
    let first = SUMMARY.replace("name:", "duplicates: first, name:");
    let expected =
        "t_seconds{quantile=\"0.5\",verb=\"GET\"} 0.01\nt_seconds{quantile=\"0.5\",verb=\"PUT\"} 0.01\n";
    assert_eq!(written(&first, QUANTILES, rows), expected);
}

#[test]
fn numbers_that_no_summary_has_say_why() {
    let refused = |row: [Cell<'_>; 5], part: &str| no_value(SUMMARY, QUANTILES, &[&row], part);
    refused([Text("a"), Int(-1), Int(1), Int(1), Int(1)], "column `p50` (any): \"-1\" is negative");
    refused([Text("a"), Int(1), Int(1), Int(-1), Int(1)], "which the sum of a summary cannot be");
    refused([Text("a"), Int(1), Int(1), Float(f64::NAN), Int(1)], "which a sum cannot be");
    refused([Text("a"), Int(1), Int(1), Int(1), Int(-1)], "which a count cannot be");
    refused([Text("a"), Int(1), Int(1), Int(1), Float(1.5)], "is not a whole number");
}

#[test]
fn an_info_is_its_labels() {
    let yaml = "{name: db_info, type: info, labels: [version], static_labels: {kind: a}}";
    assert_eq!(written(yaml, &["version"], &[&[Text("15.2")]]), "db_info{kind=\"a\",version=\"15.2\"} 1\n");
}

#[test]
fn a_stateset_has_one_sample_a_state() {
    let yaml = "{name: job, type: stateset, labels: [id], state_column: state, states: [idle, busy]}";
    let columns = &["id", "state"];
    let rows: &[&[Cell<'_>]] = &[&[Int(1), Text("busy")], &[Int(2), Null]];
    let expected = "job{id=\"1\",job=\"idle\"} 0\njob{id=\"1\",job=\"busy\"} 1\n";
    assert_eq!(written(yaml, columns, rows), expected);
    no_value(yaml, columns, &[&[Int(1), Text("lost")]], "\"lost\" is not one of the states idle, busy");
    let skipping = yaml.replace("states:", "invalid: skip, states:");
    assert_eq!(written(&skipping, columns, &[&[Int(1), Text("lost")]]), "");
    let strict = yaml.replace("states:", "null: error, states:");
    no_value(&strict, columns, rows, "is not one of the states");
    let empty = "{name: job, type: stateset, state_column: state, states: [a, b], empty: 0}";
    assert_eq!(written(empty, &["state"], &[]), "job{job=\"a\"} 0\njob{job=\"b\"} 0\n");
}

#[test]
fn a_column_of_moments_stamps_the_samples_of_its_row() {
    let yaml = "{name: x, labels: [a], timestamp_column: at}";
    let rows: &[&[Cell<'_>]] = &[
        &[Text("t"), Int(1), DateTime { micros: 1_700_000_000_123_456, zoned: true }],
        &[Text("n"), Int(2), Number("1700000000.5")],
        &[Text("d"), Int(3), Cell::Date(1)],
    ];
    let page = crate::table::page(
        &crate::table::render(
            &crate::table::query(yaml),
            &crate::table::bare(),
            &Table::new(&["a", "value", "at"], rows),
        )
        .unwrap(),
    );
    let expected = "\
# TYPE x gauge
x{a=\"t\"} 1 1700000000123
x{a=\"n\"} 2 1700000000500
x{a=\"d\"} 3 86400000
";
    assert_eq!(page, expected);
}

#[test]
fn what_is_no_moment_fails_the_query() {
    let yaml = "{name: x, timestamp_column: at}";
    let at = |cell| [Int(1), cell];
    let columns = &["value", "at"];
    no_value(yaml, columns, &[&at(Null)], "is NULL, and its sample would seem to be current");
    no_value(yaml, columns, &[&at(Text("yesterday"))], "is not a number");
    no_value(yaml, columns, &[&at(Float(1e18))], "is not a time that a sample can have");
    no_value(yaml, columns, &[&at(Float(f64::NAN))], "is not a time that a sample can have");
    for cell in [Bool(true), Time(0)] {
        let (reason, text) = error(yaml, columns, &[&at(cell)]);
        assert_eq!(reason, Reason::Type, "{text}");
        assert!(text.contains("column `at` is of type any, which is not a time"), "{text}");
    }
    assert_eq!(error(yaml, &["value"], &[&[Int(1)]]).0, Reason::MissingColumn);
}

/// A `metrics:` entry, and what is said of it at load.
const FAULTY: &[(&str, &str)] = &[
    (
        "{name: x, unit: seconds}",
        "metrics[0].unit: \"seconds\" is not what x ends in: a unit is the name's suffix",
    ),
    (
        "{name: x_total, type: counter, unit: total}",
        "is not what x_total ends in: a unit is the name's suffix (before",
    ),
    ("{name: seconds, unit: seconds}", "\"seconds\" is not what seconds ends in"),
    ("{name: x_bytes_info, type: info, unit: bytes}", "an info and a stateset have no unit"),
    (
        "{name: x, type: info}",
        "metrics[0].type: the name of an info ends in `_info`, in both formats; call it `x_info`",
    ),
    ("{name: x_info, type: info, value_column: a}", "metrics[0].value_column: is a key of gauge, counter"),
    ("{name: x_info, type: info, empty: 0}", "0 is not what an info is: always 1"),
    ("{name: x, type: stateset, states: [a]}", "a stateset needs `state_column`"),
    ("{name: x, type: stateset, state_column: a}", "a stateset needs `states`"),
    ("{name: x, type: stateset, state_column: a, states: [b, b]}", "\"b\" is given twice"),
    ("{name: x, type: stateset, state_column: a, states: []}", "no state is given"),
    ("{name: 'a:b', type: stateset, state_column: a, states: [b]}", "a stateset's name is a label name too"),
    (
        "{name: x, type: stateset, labels: [x], state_column: a, states: [b]}",
        "metrics[0].labels: label `x` is given twice",
    ),
    ("{name: x, type: summary}", "a summary without a column shows nothing; write `quantile_columns"),
    (
        "{name: x, type: summary, quantile_columns: {'1.5': a}}",
        "\"1.5\" is not a quantile: a number from 0 to 1",
    ),
    ("{name: x, type: summary, quantile_columns: {p99: a}}", "\"p99\" is not a quantile"),
    ("{name: x, type: summary, quantile_columns: {'0.5': a, '.5': b}}", "the quantile .5 is given twice"),
    ("{name: x, type: summary, sum_column: a, scale: -1}", "a negative factor"),
    ("{name: x, type: summary, sum_column: a, empty: 0}", "0 stands for no rows only as a count of 0"),
    (
        "{name: x, type: histogram, bucket_columns: {'1': a}}",
        "nothing says how many there are in all; add the bucket",
    ),
    (
        "{name: x, type: histogram, bucket_columns: {a: b}, count_column: n}",
        "\"a\" is not a bound: a number or +Inf",
    ),
    (
        "{name: x, type: histogram, bucket_columns: {'1': a, '1.0': b}, count_column: n}",
        "the bound 1.0 is given twice",
    ),
    ("{name: x, type: histogram, bucket_columns: {}, count_column: n}", "no bucket is given"),
    (
        "{name: x, type: histogram, bucket_columns: {'+Inf': a}, le_column: le}",
        "metrics[0].le_column: a histogram has one bucket a column (`bucket_columns`) or one a row",
    ),
    ("{name: x, type: histogram, bucket_columns: {'+Inf': a}, buckets: [1]}", "buckets: is of no use beside"),
    ("{name: x, type: histogram, le_column: le, buckets: [1]}", "buckets: is of no use beside `le_column`"),
    ("{name: x, type: histogram, le_column: le, scale: -1}", "would turn the order of the bounds"),
    ("{name: x, type: histogram, sum_column: s}", "sum_column: goes with `bucket_columns` or `le_column`"),
    ("{name: x, type: histogram, timestamp_column: t}", "several rows make one histogram here"),
    ("{name: x, type: gauge, quantile_columns: {'0.5': a}}", "is a key of summary, not of gauge"),
];

#[test]
fn faulty_types_are_refused_at_load() {
    for (yaml, expected) in FAULTY {
        let faults = metrics(yaml).map(drop).expect_err(yaml);
        assert_eq!(faults.len(), 1, "{yaml}: {faults:?}");
        assert!(faults[0].contains(expected), "{yaml}\n{}", faults[0]);
    }
}

#[test]
fn a_unit_stands_before_total() {
    let unit = |yaml| metrics(yaml).unwrap().remove(0).naming.unit().map(str::to_owned);
    assert_eq!(unit("{name: x_seconds, unit: seconds}").as_deref(), Some("seconds"));
    assert_eq!(unit("{name: x_seconds_total, type: counter, unit: seconds}").as_deref(), Some("seconds"));
    assert_eq!(unit("{name: x_seconds, type: counter, unit: seconds}").as_deref(), Some("seconds"));
}
