//! From a row to a sample: what each key of a metric does, and what is said of what cannot be used.

use sql_exporter::engine::query_sink::SampleContext;
use sql_exporter::error::Reason;
use sql_exporter::metric::labels::LabelLimit;
use sql_exporter::name::LabelName;
use sql_exporter::value::Cell;
use sql_exporter::value::Cell::{Bool, Bytes, Float, Int, Null, Number, Other, Text};

use crate::checker::checked;
use crate::table::{Table, bare, lines, metrics, page, query, render};

fn orders() -> Table<'static> {
    Table::new(
        &["region", "status", "orders", "revenue"],
        &[
            &[Text("eu"), Text("paid"), Int(3), Number("10.50")],
            &[Text("us"), Null, Int(-4), Null],
            &[Text("a\"b\\c\nd"), Text("open"), Int(0), Float(0.1)],
        ],
    )
}

/// The reason and the text of the error that these metrics end with.
fn error(yaml: &str, table: &Table<'_>) -> (Reason, String) {
    let error = lines(yaml, table).expect_err("the query fails");
    (error.reason(), error.to_string())
}

fn faults(yaml: &str) -> String {
    match metrics(yaml) {
        Ok(_) => panic!("{yaml} is accepted"),
        Err(faults) => faults.join("\n"),
    }
}

/// As any key with nothing after it.
#[test]
fn a_type_that_is_left_empty_is_the_default() {
    let table = Table::new(&["value"], &[&[Int(1)]]);
    assert_eq!(lines("{name: x, type: , value_column: }", &table).unwrap(), "x 1\n");
}

#[test]
fn a_gauge_writes_one_sample_a_row_with_its_labels_sorted() {
    let yaml = "{name: x, labels: [status, region], static_labels: {kind: all}, value_column: orders}";
    let expected = "\
x{kind=\"all\",region=\"eu\",status=\"paid\"} 3
x{kind=\"all\",region=\"us\",status=\"\"} -4
x{kind=\"all\",region=\"a\\\"b\\\\c\\nd\",status=\"open\"} 0
";
    assert_eq!(lines(yaml, &orders()).unwrap(), expected);
}

#[test]
fn labels_may_be_a_map_from_label_to_column() {
    let yaml = "{name: x, labels: {area: region, state: STATUS}, value_column: Orders}";
    let text = lines(yaml, &orders()).unwrap();
    assert!(text.starts_with("x{area=\"eu\",state=\"paid\"} 3\n"), "{text}");
}

#[test]
fn a_page_of_all_types_passes_the_checker() {
    let yaml = "{name: g, help: 'A \"gauge\" \\ of', labels: [region], value_column: orders},
        {name: c_total, type: counter, labels: [region], value: 2},
        {name: u, type: unknown, labels: [region], value_column: revenue},
        {name: h, type: histogram, labels: [region], value_column: revenue, buckets: [1, 100]}";
    let text = page(&render(&query(yaml), &bare(), &orders()).unwrap());
    assert!(text.starts_with("# HELP g A \"gauge\" \\\\ of\n# TYPE g gauge\ng{"), "{text}");
    assert!(text.contains("# TYPE c_total counter\n") && text.contains("# TYPE u untyped\n"), "{text}");
    let page = checked(&text);
    assert_eq!(page.value("g", &[("region", "a\"b\\c\nd")]), Some(0.0));
    assert_eq!(page.value("u", &[("region", "eu")]), Some(10.5));
    assert_eq!(page.value("h_bucket", &[("region", "eu"), ("le", "100.0")]), Some(1.0));
}

#[test]
fn null_is_skipped_or_nan_or_a_number() {
    let table = Table::new(&["value"], &[&[Null]]);
    let text = |null: &str| lines(&format!("{{name: x, null: {null}}}"), &table).unwrap();
    assert_eq!(
        (text("skip"), text("nan"), text("-1.5")),
        (String::new(), "x NaN\n".into(), "x -1.5\n".into())
    );
    let rendered = render(&query("{name: x}"), &bare(), &table).unwrap();
    assert_eq!((rendered.skipped.null, rendered.series, rendered.rows), (1, 0, 1));
}

#[test]
fn a_result_without_rows_shows_nothing_unless_empty_says_a_number() {
    let none = Table::new(&["value", "other"], &[]);
    assert_eq!(lines("{name: x}", &none).unwrap(), "");
    assert_eq!(lines("{name: x, empty: 0, static_labels: {a: b}}", &none).unwrap(), "x{a=\"b\"} 0\n");
    let several = "{name: x, empty: 7, value_columns: [value, other], value_label: column}";
    assert_eq!(lines(several, &none).unwrap(), "x{column=\"value\"} 7\nx{column=\"other\"} 7\n");
    let some = Table::new(&["value"], &[&[Null]]);
    assert_eq!(lines("{name: x, empty: 0}", &some).unwrap(), "", "a row of NULL is a row");
}

#[test]
fn values_are_a_constant_or_one_sample_a_column() {
    let table = Table::new(&["op", "reads", "writes"], &[&[Text("db"), Int(1), Int(2)]]);
    assert_eq!(lines("{name: x, labels: [op], value: 1}", &table).unwrap(), "x{op=\"db\"} 1\n");
    let several =
        "{name: x, labels: [op], static_labels: {z: end}, value_columns: [reads, Writes], value_label: p}";
    let expected = "x{op=\"db\",p=\"reads\",z=\"end\"} 1\nx{op=\"db\",p=\"Writes\",z=\"end\"} 2\n";
    assert_eq!(lines(several, &table).unwrap(), expected);
}

#[test]
fn scale_and_map_make_the_number() {
    let table = Table::new(&["state", "ms"], &[&[Text("up"), Int(1500)]]);
    assert_eq!(lines("{name: x, value_column: ms, scale: 0.001}", &table).unwrap(), "x 1.5\n");
    assert_eq!(
        lines("{name: x, value_column: state, map: {up: 1, down: 0}, scale: 2}", &table).unwrap(),
        "x 2\n"
    );
    let (reason, text) = error("{name: x, value_column: state, map: {down: 0}}", &table);
    assert_eq!(reason, Reason::Value);
    let expected = "column `state` (any): \"up\" is not in `map` and is not a number; add it to `map`, or set `invalid: skip`";
    assert!(text.contains(expected), "{text}");
    let bools = Table::new(&["value"], &[&[Bool(true)]]);
    assert_eq!(lines("{name: x, map: {true: 5}}", &bools).unwrap(), "x 5\n");
}

/// What a database's own client shows as a number is one, whatever the map says of others.
#[test]
fn what_a_map_does_not_hold_may_be_a_number() {
    let rows: &[&[Cell<'_>]] = &[
        &[Text("a"), Text("ON")],
        &[Text("b"), Text("151")],
        &[Text("c"), Text(" 2.5 ")],
        &[Text("d"), Int(7)],
        &[Text("e"), Float(1.5)],
        &[Text("f"), Bool(true)],
        &[Text("g"), Number("12345678901.5")],
        &[Text("h"), Null],
        &[Text("i"), Text("1")],
    ];
    let table = Table::new(&["n", "value"], rows);
    let yaml = "{name: x, labels: [n], map: {ON: 1, OFF: 0, 1: 100, yes: 5, ~: 9}}";
    let expected = "x{n=\"a\"} 1\nx{n=\"b\"} 151\nx{n=\"c\"} 2.5\nx{n=\"d\"} 7\nx{n=\"e\"} 1.5\nx{n=\"f\"} 1\n\
                    x{n=\"g\"} 12345678901.5\nx{n=\"i\"} 100\n";
    assert_eq!(lines(yaml, &table).unwrap(), expected);
    assert_eq!(
        lines(&yaml.replace("map:", "scale: 2, map:"), &table).unwrap().lines().nth(1),
        Some("x{n=\"b\"} 302")
    );
    let null = lines(&yaml.replace("map:", "null: -1, map:"), &table).unwrap();
    assert!(null.contains("x{n=\"h\"} -1\n"), "{null}");
}

/// Only what is neither is `invalid`, whatever that says.
#[test]
fn what_is_neither_in_the_map_nor_a_number_is_invalid() {
    for cell in [Text("on"), Text(""), Text("0x10"), Other("{1}"), Bytes(b"\xff")] {
        let table = Table::new(&["n", "value"], &[&[Int(1), Text("151")], &[Int(2), cell]]);
        let yaml = "{name: x, labels: [n], map: {ON: 1, OFF: 0}}";
        let (reason, text) = error(yaml, &table);
        assert_eq!(reason, Reason::Value, "{text}");
        assert!(text.contains("is not in `map` and is not a number"), "{text}");
        let skipping = yaml.replace("map:", "invalid: skip, map:");
        let rendered = render(&query(&skipping), &bare(), &table).unwrap();
        assert_eq!(
            (rendered.skipped.invalid, page(&rendered).as_str()),
            (1, "# TYPE x gauge\nx{n=\"1\"} 151\n")
        );
    }
    let (reason, text) = error("{name: x, map: {ON: 1}}", &Table::new(&["value"], &[&[Number("1e400")]]));
    assert_eq!((reason, text.contains("too large")), (Reason::Value, true), "{text}");
    let counter = "{name: x_total, type: counter, map: {ON: 1}}";
    let (_, text) = error(counter, &Table::new(&["value"], &[&[Text("-3")]]));
    assert!(text.contains("is negative"), "a number of the column keeps the rules of its type: {text}");
    let columns = "{name: x, value_columns: [a, b], value_label: of, map: {ON: 1}}";
    let table = Table::new(&["a", "b"], &[&[Text("ON"), Text("7")]]);
    assert_eq!(lines(columns, &table).unwrap(), "x{of=\"a\"} 1\nx{of=\"b\"} 7\n");
    let histogram = "{name: x, type: histogram, buckets: [5], map: {fast: 1}}";
    let table = Table::new(&["value"], &[&[Text("fast")], &[Text("9")]]);
    assert!(lines(histogram, &table).unwrap().contains("x_sum 10\n"));
}

#[test]
fn duplicates_are_added_up_where_that_is_said() {
    let rows: &[&[Cell<'_>]] =
        &[&[Text("k"), Int(1)], &[Text("l"), Int(5)], &[Text("k"), Float(2.5)], &[Text("k"), Null]];
    let table = Table::new(&["a", "value"], rows);
    for kind in ["gauge", "unknown", "counter"] {
        let yaml = format!("{{name: x, type: {kind}, labels: [a], duplicates: sum}}");
        let rendered = render(&query(&yaml), &bare(), &table).unwrap();
        assert_eq!((rendered.series, rendered.skipped.duplicate, rendered.skipped.null), (2, 0, 1));
        assert_eq!(lines(&yaml, &table).unwrap(), "x{a=\"k\"} 3.5\nx{a=\"l\"} 5\n");
    }
    let sum = |values: &[Cell<'_>]| {
        let rows: Vec<Vec<Cell<'_>>> = values.iter().map(|value| vec![*value]).collect();
        let rows: Vec<&[Cell<'_>]> = rows.iter().map(Vec::as_slice).collect();
        lines("{name: x, duplicates: sum}", &Table::new(&["value"], &rows)).map_err(|error| error.to_string())
    };
    assert_eq!(sum(&[Int(1), Float(f64::NAN)]).as_deref(), Ok("x NaN\n"));
    assert_eq!(sum(&[Int(1), Float(f64::INFINITY)]).as_deref(), Ok("x +Inf\n"));
    assert_eq!(sum(&[]).as_deref(), Ok(""));
    assert_eq!(sum(&[Null, Null]).as_deref(), Ok(""), "a sum of nothing is nothing");
    let text = sum(&[Float(1e308), Float(1e308)]).unwrap_err();
    assert!(text.contains("the sum of x is too large for a 64-bit float"), "{text}");
}

#[test]
fn columns_and_buckets_are_added_up_each_by_itself() {
    let table = Table::new(&["a", "b"], &[&[Int(1), Int(10)], &[Int(2), Null]]);
    let yaml = "{name: x, value_columns: [a, b], value_label: of, duplicates: sum, static_labels: {z: y}}";
    assert_eq!(lines(yaml, &table).unwrap(), "x{of=\"a\",z=\"y\"} 3\nx{of=\"b\",z=\"y\"} 10\n");
    let table = Table::new(
        &["k", "low", "all", "s"],
        &[
            &[Int(1), Int(2), Int(3), Float(0.5)],
            &[Int(1), Int(4), Int(4), Float(1.5)],
            &[Int(2), Int(0), Int(1), Int(9)],
        ],
    );
    let yaml = "{name: x, type: histogram, labels: [k], bucket_columns: {1: low, +Inf: all}, sum_column: s, duplicates: sum}";
    let text = lines(yaml, &table).unwrap();
    for line in [
        "x_bucket{k=\"1\",le=\"1.0\"} 6",
        "x_bucket{k=\"1\",le=\"+Inf\"} 7",
        "x_sum{k=\"1\"} 2",
        "x_count{k=\"1\"} 7",
        "x_sum{k=\"2\"} 9",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
    }
    let names =
        Table::new(&["n", "value"], &[&[Text("a"), Int(1)], &[Text("b"), Int(2)], &[Text("A"), Int(3)]]);
    assert_eq!(lines("{name: 'x_{n}', duplicates: sum}", &names).unwrap(), "x_a 4\nx_b 2\n");
}

#[test]
fn sums_count_as_the_series_that_they_are() {
    let rows: Vec<Vec<Cell<'_>>> = (0..100).map(|n| vec![Int(n % 4), Int(1)]).collect();
    let rows: Vec<&[Cell<'_>]> = rows.iter().map(Vec::as_slice).collect();
    let table = Table::new(&["n", "value"], &rows);
    let mut limited = query("{name: x, labels: [n], duplicates: sum}");
    limited.max_series = 4;
    assert_eq!(render(&limited, &bare(), &table).expect("four series").series, 4);
    limited.max_series = 3;
    assert_eq!(render(&limited, &bare(), &table).unwrap_err().reason(), Reason::Limit);
}

#[test]
fn what_is_no_number_fails_the_query_or_is_skipped() {
    let table = Table::new(&["n", "value"], &[&[Int(1), Text("12 EUR")], &[Int(2), Text(" 12 ")]]);
    let (reason, text) = error("{name: x, labels: [n]}", &table);
    assert_eq!(reason, Reason::Value);
    assert!(text.starts_with("query q: column `value` (any): \"12 EUR\" is not a number; "), "{text}");
    assert_eq!(lines("{name: x, labels: [n], invalid: skip}", &table).unwrap(), "x{n=\"2\"} 12\n");
    let (reason, text) = error("{name: x}", &Table::new(&["value"], &[&[Other("{1}")]]));
    assert_eq!(reason, Reason::Type);
    assert!(text.contains("write `half(value) AS value` in the SELECT"), "{text}");
    let (reason, text) = error("{name: x}", &Table::new(&["value"], &[&[Number("1e400")]]));
    assert_eq!((reason, text.contains("too large")), (Reason::Value, true), "{text}");
    let (reason, _) = error("{name: x, scale: 1e300}", &Table::new(&["value"], &[&[Float(1e300)]]));
    assert_eq!(reason, Reason::Value);
}

#[test]
fn a_counter_is_neither_negative_nor_nan() {
    for (cell, why) in [(Int(-1), "is negative"), (Float(f64::NAN), "is not a number")] {
        let table = Table::new(&["value"], &[&[cell]]);
        let (reason, text) = error("{name: x_total, type: counter}", &table);
        assert_eq!(reason, Reason::Value);
        assert!(text.contains(why), "{text}");
        assert_eq!(lines("{name: x_total, type: counter, invalid: skip}", &table).unwrap(), "");
    }
    let (_, text) = error("{name: x_total, type: counter, scale: -2}", &Table::new(&["value"], &[&[Int(1)]]));
    assert!(text.contains("\"1\" × -2 is negative"), "{text}");
}

#[test]
fn a_missing_column_lists_those_found() {
    let (reason, text) = error("{name: x, value_column: total}", &orders());
    assert_eq!(reason, Reason::MissingColumn);
    let expected =
        "query q: the result has no column `total`; it has `region`, `status`, `orders`, `revenue`";
    assert_eq!(text, expected);
    assert_eq!(error("{name: x, labels: [city], value: 1}", &orders()).0, Reason::MissingColumn);
}

#[test]
fn a_duplicate_fails_the_query_and_names_the_series_or_the_first_one_stays() {
    let table = Table::new(&["a", "value"], &[&[Text("k"), Int(1)], &[Text("k"), Int(2)]]);
    let (reason, text) = error("{name: x, labels: [a]}", &table);
    assert_eq!(reason, Reason::Duplicate);
    assert!(text.starts_with("query q: two samples of x{a=\"k\"}; "), "{text}");
    let rendered = render(&query("{name: x, labels: [a], duplicates: first}"), &bare(), &table).unwrap();
    assert_eq!(page(&rendered), "# TYPE x gauge\nx{a=\"k\"} 1\n");
    assert_eq!(rendered.skipped.duplicate, 1);
}

#[test]
fn metrics_of_one_family_share_a_block() {
    let table = Table::new(&["a", "b"], &[&[Int(1), Int(2)]]);
    let yaml = "{name: x, static_labels: {of: a}, value_column: a}, {name: x, static_labels: {of: b}, value_column: b}";
    let rendered = render(&query(yaml), &bare(), &table).unwrap();
    assert_eq!(rendered.blocks.len(), 1);
    assert_eq!(page(&rendered), "# TYPE x gauge\nx{of=\"a\"} 1\nx{of=\"b\"} 2\n");
    let same = "{name: x, value_column: a}, {name: x, value_column: b}";
    assert_eq!(error(same, &table).0, Reason::Duplicate);
}

#[test]
fn target_labels_stand_first_and_sorted() {
    let name = |name| LabelName::new(name).unwrap();
    let own = [(name("zone"), "z\"1".to_owned()), (name("env"), "prod".to_owned())];
    let limit = LabelLimit { bytes: 100, truncate: false };
    let context = SampleContext::new(Some((&name("target"), "shop")), &own, limit);
    let table = Table::new(&["a", "value"], &[&[Text("k"), Int(1)]]);
    let rendered = render(&query("{name: x, labels: [a]}"), &context, &table).unwrap();
    let expected = "# TYPE x gauge\nx{target=\"shop\",env=\"prod\",zone=\"z\\\"1\",a=\"k\"} 1\n";
    assert_eq!(page(&rendered), expected);
}

#[test]
fn limits_of_rows_series_and_label_bytes_fail_the_query() {
    let table = Table::new(&["a", "value"], &[&[Text("ééé"), Int(1)], &[Text("k"), Int(2)]]);
    let mut limited = query("{name: x, labels: [a]}");
    let reason = |query: &_, context: &SampleContext| {
        let error = render(query, context, &table).expect_err("a limit is passed");
        (error.reason(), error.message().to_owned())
    };
    limited.max_rows = 1;
    assert_eq!(reason(&limited, &bare()), (Reason::Limit, "more than 1 row (max_rows)".into()));
    (limited.max_rows, limited.max_series) = (2, 1);
    assert_eq!(reason(&limited, &bare()), (Reason::Limit, "more than 1 series (max_series)".into()));
    limited.max_series = 2;
    let strict = SampleContext::new(None, &[], LabelLimit { bytes: 5, truncate: false });
    let expected = "column `a`: a label value of 6 bytes, max_label_length is 5";
    assert_eq!(reason(&limited, &strict), (Reason::Limit, expected.into()));
    let cutting = SampleContext::new(None, &[], LabelLimit { bytes: 5, truncate: true });
    assert!(page(&render(&limited, &cutting, &table).unwrap()).contains("x{a=\"éé\"} 1\n"));
}

#[test]
fn a_histogram_counts_raw_observations() {
    let rows: &[&[_]] = &[
        &[Text("get"), Int(50)],
        &[Text("get"), Int(100)],
        &[Text("put"), Int(5000)],
        &[Text("get"), Int(101)],
        &[Text("get"), Null],
    ];
    let table = Table::new(&["verb", "ms"], rows);
    let yaml =
        "{name: t, type: histogram, labels: [verb], value_column: ms, scale: 0.001, buckets: [0.1, '1']}";
    let expected = "\
t_bucket{verb=\"get\",le=\"0.1\"} 2
t_bucket{verb=\"get\",le=\"1.0\"} 3
t_bucket{verb=\"get\",le=\"+Inf\"} 3
t_sum{verb=\"get\"} 0.251
t_count{verb=\"get\"} 3
t_bucket{verb=\"put\",le=\"0.1\"} 0
t_bucket{verb=\"put\",le=\"1.0\"} 0
t_bucket{verb=\"put\",le=\"+Inf\"} 1
t_sum{verb=\"put\"} 5
t_count{verb=\"put\"} 1
";
    assert_eq!(lines(yaml, &table).unwrap(), expected);
}

#[test]
fn a_histogram_with_a_bound_below_zero_has_neither_sum_nor_count() {
    let table = Table::new(&["value"], &[&[Int(-3)], &[Float(f64::INFINITY)]]);
    let expected = "t_bucket{le=\"-1.0\"} 1\nt_bucket{le=\"0.0\"} 1\nt_bucket{le=\"+Inf\"} 2\n";
    assert_eq!(lines("{name: t, type: histogram, buckets: [-1, 0]}", &table).unwrap(), expected);
}

#[test]
fn a_histogram_has_prometheus_default_bounds_refuses_nan_and_may_be_empty() {
    let table = Table::new(&["value"], &[&[Float(f64::NAN)]]);
    assert_eq!(error("{name: t, type: histogram}", &table).0, Reason::Value);
    let text = lines("{name: t, type: histogram, empty: 0}", &Table::new(&["value"], &[])).unwrap();
    assert!(
        text.starts_with("t_bucket{le=\"0.005\"} 0\n") && text.ends_with("t_sum 0\nt_count 0\n"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 14);
}

#[test]
fn a_histogram_with_too_many_series_fails_before_its_end() {
    let rows: Vec<Vec<_>> = (0..10).map(|n| vec![Int(n), Int(1)]).collect();
    let rows: Vec<&[_]> = rows.iter().map(Vec::as_slice).collect();
    let mut limited = query("{name: t, type: histogram, labels: [n], buckets: [1]}");
    limited.max_series = 39;
    let result = render(&limited, &bare(), &Table::new(&["n", "value"], &rows));
    assert_eq!(result.expect_err("40 series").reason(), Reason::Limit);
    limited.max_series = 40;
    let result = render(&limited, &bare(), &Table::new(&["n", "value"], &rows));
    assert_eq!(result.expect("40 series").series, 40);
}

/// One fault a metric, and what is said of it.
const FAULTY: &[(&str, &str)] = &[
    ("{help: x}", "metrics[0]: `name` is missing: the name of the metric"),
    ("{name: 1x}", "metrics[0].name: \"1x\" is not a legal metric name"),
    ("{name: 'a_{b'}", "metrics[0].name: \"a_{b\": `{` is not closed"),
    ("{name: 'a_{b}', empty: 0}", "a number for a result without rows needs a name without columns"),
    (
        "{name: 'a_{b}', type: stateset, state_column: s, states: [x]}",
        "a stateset's name is a label name too",
    ),
    ("{name: 'a_info_{b}', type: info}", "the name of an info ends in `_info`"),
    (
        "{name: x, type: guage}",
        "metrics[0].type: \"guage\" is not a metric type; the types are gauge, counter, histogram, gaugehistogram, summary, info, stateset, unknown; did you mean `gauge`?",
    ),
    ("{name: x, labels: [a, a]}", "metrics[0].labels: label `a` is given twice"),
    ("{name: x, labels: [a], static_labels: {a: b}}", "metrics[0].static_labels: label `a` is given twice"),
    (
        "{name: x, labels: ['a b']}",
        "is not a legal label name: letters, digits and `_`, not starting with a digit; name it with a map",
    ),
    ("{name: x, labels: [le]}", "label `le` is reserved"),
    ("{name: x, static_labels: {quantile: '1'}}", "label `quantile` is reserved"),
    ("{name: x, labels: {__name__: a}}", "label `__name__` is reserved"),
    ("{name: x, value: 1, value_column: a}", "a metric has `value_column` or `value`, not both"),
    ("{name: x, value_columns: [a]}", "`value_label` is missing"),
    ("{name: x, value_label: a}", "`value_label` goes with `value_columns`"),
    ("{name: x, value_columns: [a, a], value_label: b}", "column `a` is named twice"),
    ("{name: x, value_columns: [], value_label: b}", "no column is named"),
    (
        "{name: x, value_columns: [a], value_label: b, labels: [b]}",
        "metrics[0].value_label: label `b` is given twice",
    ),
    ("{name: x, value: 1, scale: 2}", "`value` is a constant: `scale` has nothing to work on"),
    ("{name: x, scale: 0}", "a factor is a finite number other than 0"),
    ("{name: x, map: {a: b}}", "\"a\" is mapped to \"b\", which is not a number"),
    ("{name: x, null: zero}", "metrics[0].null: expected skip, nan or a number, found \"zero\""),
    ("{name: x, invalid: ignore}", "metrics[0].invalid"),
    ("{name: x, duplicates: last}", "metrics[0].duplicates"),
    (
        "{name: x, duplicates: sum, timestamp_column: t}",
        "metrics[0].timestamp_column: `duplicates: sum` adds several rows: no row's time is the time of their sum",
    ),
    ("{name: x_info, type: info, duplicates: sum}", "metrics[0].duplicates: an info is always 1"),
    (
        "{name: x, type: stateset, state_column: s, states: [a], duplicates: sum}",
        "metrics[0].duplicates: states are 0 or 1",
    ),
    (
        "{name: x, type: summary, sum_column: s, duplicates: sum}",
        "metrics[0].duplicates: quantiles cannot be added up",
    ),
    (
        "{name: x, type: histogram, le_column: b, duplicates: sum}",
        "metrics[0].duplicates: rows of one histogram may have other bounds",
    ),
    // What follows from another fault is not told: the keys of the type that was meant, a name that is there misspelt.
    ("{name: x, type: guage, value_column: v, scale: 2}", "did you mean `gauge`?"),
    ("{name: x, type: mood, value_column: v, states: [a], buckets: [1]}", "\"mood\" is not a metric type"),
    ("{nmae: x, value: 1}", "unknown key; did you mean `name`?"),
    ("{name: x, value_columns: [a], value_lable: b}", "unknown key; did you mean `value_label`?"),
    ("{name: 1x, type: stateset, state_column: s, states: [a]}", "\"1x\" is not a legal metric name"),
    ("{name: x, type: histogram, bucket_columns: {a: b}}", "\"a\" is not a bound"),
    (
        "{name: x, empty: 0, labels: [a]}",
        "a number for a result without rows needs a metric without label columns",
    ),
    ("{name: x, empty: nil}", "expected none or a number, found \"nil\""),
    ("{name: x, type: counter, value: -1}", "-1 is negative"),
    ("{name: x, type: counter, null: nan}", "NaN is not a number"),
    ("{name: x, type: counter, empty: -1}", "-1 is negative"),
    ("{name: x, type: histogram, empty: 1}", "1 is not a histogram"),
    ("{name: x, type: histogram, buckets: [1, 1]}", "1 comes after 1: bounds rise"),
    ("{name: x, type: histogram, buckets: [2, 1]}", "1 comes after 2: bounds rise"),
    (
        "{name: x, type: histogram, buckets: [1, +Inf]}",
        "\"+Inf\" is not a finite number (the bucket +Inf is always there)",
    ),
    ("{name: x, type: histogram, buckets: []}", "no bound is given"),
    (
        "{name: x, type: histogram, value: 1}",
        "metrics[0].value: is a key of gauge, counter, unknown, not of histogram",
    ),
    ("{name: x, buckets: [1]}", "metrics[0].buckets: is a key of histogram, gaugehistogram, not of gauge"),
    ("{name: x, lint_off: [L7]}", "there is no lint \"L7\""),
    ("{name: x, valu_column: a}", "unknown key; did you mean `value_column`?"),
];

#[test]
fn a_faulty_metric_is_refused_at_load() {
    for (yaml, expected) in FAULTY {
        let faults = faults(yaml);
        assert!(faults.contains(expected), "{yaml}\n{faults}");
        assert_eq!(faults.lines().count(), 1, "{yaml}\n{faults}");
    }
}

#[test]
fn all_faults_of_a_metric_come_together() {
    // The type hides nothing: not the name, not what the type that was meant says of its keys.
    let text =
        faults("{name: 1x, type: guage, scale: 0, labels: [le], map: {a: b}, duplicates: last, empty: nil}");
    for part in ["\"1x\" is not a legal", "\"guage\"", "factor", "label `le`", "mapped", "last", "nil"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.lines().count(), 7, "{text}");
    let text = faults("{name: 1x, type: mood, labels: ['a b'], valu: 1}");
    assert_eq!(text.lines().count(), 4, "{text}");
    let text = faults("{name: x, value_columns: [a, a], value_label: 'b c', value: 1, value_column: z}");
    assert_eq!(text.lines().count(), 3, "{text}");
    let text =
        faults("{name: x, type: histogram, bucket_columns: {a: b, 1: c, 1.0: d, x: e}, count_column: f}");
    assert_eq!(text.lines().count(), 3, "{text}");
    let text = faults("{name: x, type: histogram, buckets: [a, 2, 1, b]}");
    assert_eq!(text.lines().count(), 3, "{text}");
    let faults = faults("{type: summary, scale: x, labels: [le], lint_off: s}");
    for part in ["`name` is missing", "a summary without", "scale", "label `le`", "there is no lint \"s\""] {
        assert!(faults.contains(part), "{part}: {faults}");
    }
}

#[test]
fn the_label_names_of_a_metric_are_told() {
    let metric = |yaml| metrics(yaml).unwrap().remove(0);
    let names = |yaml| metric(yaml).label_names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names("{name: x, labels: [m, a], value_columns: [v], value_label: k}"), ["a", "k", "m"]);
    assert_eq!(names("{name: x, labels: [z], type: histogram}"), ["z", "le"]);
}
