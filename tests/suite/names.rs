//! Metric names with columns in them: one family a row value.

use sql_exporter::engine::query_sink::SampleContext;
use sql_exporter::error::Reason;
use sql_exporter::metric::labels::LabelLimit;
use sql_exporter::value::Cell;
use sql_exporter::value::Cell::{Int, Null, Text};

use crate::checker::checked;
use crate::exporter::Exporter;
use crate::scrape::success;
use crate::servers::MariaDb;
use crate::table::{Table, bare, lines, page, query, render};

const STATUS: &str = "{name: 'db_{name}', labels: [zone]}";
const COLUMNS: &[&str] = &["name", "zone", "value"];

fn error(yaml: &str, rows: &[&[Cell<'_>]]) -> (Reason, String) {
    let error = lines(yaml, &Table::new(COLUMNS, rows)).expect_err(yaml);
    (error.reason(), error.to_string())
}

#[test]
fn each_row_value_is_a_family_of_its_own() {
    let rows: &[&[Cell<'_>]] = &[
        &[Text("Bytes_Received"), Text("a"), Int(1)],
        &[Text("Com-select 2"), Text("a"), Int(2)],
        &[Text("bytes_received"), Text("b"), Int(3)],
    ];
    let text = page(&render(&query(STATUS), &bare(), &Table::new(COLUMNS, rows)).unwrap());
    let expected = "\
# TYPE db_bytes_received gauge
db_bytes_received{zone=\"a\"} 1
db_bytes_received{zone=\"b\"} 3
# TYPE db_com_select_2 gauge
db_com_select_2{zone=\"a\"} 2
";
    assert_eq!(text, expected);
}

#[test]
fn a_name_of_columns_alone_is_made_legal() {
    let rows: &[&[Cell<'_>]] = &[&[Text("9 lives é"), Text("z"), Int(1)], &[Int(7), Text("z"), Int(2)]];
    let text = lines("{name: '{name}{zone}'}", &Table::new(COLUMNS, rows)).unwrap();
    assert_eq!(text, "_9_lives__z 1\n_7z 2\n");
}

#[test]
fn a_histogram_is_kept_apart_for_each_name() {
    let yaml = "{name: '{name}_seconds', type: histogram, unit: seconds, buckets: [1]}";
    let rows: &[&[Cell<'_>]] =
        &[&[Text("a"), Null, Int(1)], &[Text("b"), Null, Int(5)], &[Text("a"), Null, Int(2)]];
    let text = lines(yaml, &Table::new(COLUMNS, rows)).unwrap();
    for line in
        ["a_seconds_count 2", "a_seconds_sum 3", "b_seconds_count 1", "b_seconds_bucket{le=\"1.0\"} 0"]
    {
        assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
    }
}

#[test]
fn a_row_that_makes_no_name_fails_the_query() {
    for empty in [Null, Text("")] {
        let (reason, text) = error(STATUS, &[&[empty, Text("a"), Int(1)]]);
        assert_eq!(reason, Reason::Value);
        assert!(text.contains("column `name` is empty and makes no metric name"), "{text}");
    }
    let (reason, text) = error("{name: '{name}'}", &[&[Text("process_cpu"), Text("a"), Int(1)]]);
    assert_eq!(reason, Reason::Value);
    assert!(
        text.contains("a row makes the metric name process_cpu; process_… are the exporter's own"),
        "{text}"
    );
    let (reason, _) = error("{name: '{nothing}'}", &[]);
    assert_eq!(reason, Reason::MissingColumn);
}

#[test]
fn two_values_that_make_one_name_are_a_duplicate() {
    let rows: &[&[Cell<'_>]] = &[&[Text("a b"), Text("z"), Int(1)], &[Text("A_B"), Text("z"), Int(2)]];
    let (reason, text) = error(STATUS, rows);
    assert_eq!(reason, Reason::Duplicate);
    assert!(text.contains("two samples of db_a_b{zone=\"z\"}"), "{text}");
    let two = format!("{STATUS}, {{name: db_fixed, help: Another., labels: [zone]}}");
    let (reason, text) = error(&two, &[&[Text("fixed"), Text("z"), Int(1)]]);
    assert_eq!(reason, Reason::Duplicate);
    assert!(text.contains("two metrics of this query make the name db_fixed"), "{text}");
}

#[test]
fn max_families_is_held_at_its_limit() {
    let names: Vec<String> = (0..4).map(|n| format!("n{n}")).collect();
    let rows: Vec<[Cell<'_>; 3]> = names.iter().map(|name| [Text(name), Text("z"), Int(1)]).collect();
    for (count, fits) in [(2, true), (3, true), (4, false)] {
        let rows: Vec<&[Cell<'_>]> = rows.iter().take(count).map(<[_; 3]>::as_slice).collect();
        let mut query = query(STATUS);
        query.max_families = 3;
        let rendered = render(&query, &bare(), &Table::new(COLUMNS, &rows));
        match rendered {
            Ok(rendered) => assert!(fits && rendered.blocks.len() == count),
            Err(error) => {
                assert!(!fits && error.reason() == Reason::Limit, "{error}");
                assert!(error.to_string().contains("more than 3 metric names (max_families)"), "{error}");
            }
        }
    }
}

#[test]
fn a_name_counts_once_it_has_a_sample() {
    let names: Vec<String> = (0..3000).map(|n| format!("n{n}")).collect();
    let skipped = [Text("text"), Null];
    let row = |(at, name): (usize, &'static str)| {
        [Text(name), Text("z"), if at < 1000 { skipped[at % 2] } else { Int(1) }]
    };
    let names: Vec<&'static str> = names.into_iter().map(|name| &*name.leak()).collect();
    let rows: Vec<[Cell<'_>; 3]> = names.into_iter().enumerate().map(row).collect();
    let rows: Vec<&[Cell<'_>]> = rows.iter().map(<[_; 3]>::as_slice).collect();
    for more in ["", ", duplicates: sum", ", type: histogram, unit: x, buckets: [1]"] {
        let name = if more.contains("unit") { "db_{name}_x" } else { "db_{name}" };
        let mut query = query(&format!("{{name: '{name}', labels: [zone], invalid: skip{more}}}"));
        assert_eq!(query.max_families, 2000, "the default");
        let rendered = render(&query, &bare(), &Table::new(COLUMNS, &rows)).expect("2000 names with samples");
        assert_eq!(
            (rendered.blocks.len(), rendered.skipped.null, rendered.skipped.invalid),
            (2000, 500, 500)
        );
        query.max_families = 1999;
        let error = render(&query, &bare(), &Table::new(COLUMNS, &rows)).unwrap_err();
        assert!(error.to_string().contains("more than 1999 metric names (max_families)"), "{error}");
    }
    // A name that is skipped first and good later, and one that two metrics make.
    let rows: &[&[Cell<'_>]] =
        &[&[Text("a"), Text("z"), Text("x")], &[Text("a"), Text("z"), Int(1)], &[Text("a"), Text("y"), Null]];
    let yaml = "{name: 'db_{name}', labels: [zone], invalid: skip}, {name: 'db_{name}', labels: [zone], static_labels: {k: v}, invalid: skip}";
    let text = lines(yaml, &Table::new(COLUMNS, rows)).unwrap();
    assert_eq!(text, "db_a{zone=\"z\"} 1\ndb_a{k=\"v\",zone=\"z\"} 1\n");
}

#[test]
fn a_name_is_as_long_as_a_label_value_at_most() {
    let limit = |bytes, truncate| SampleContext::new(None, &[], LabelLimit { bytes, truncate });
    let long = "x".repeat(20);
    let rows: &[&[Cell<'_>]] = &[&[Text(&long), Text("z"), Int(1)]];
    let table = Table::new(COLUMNS, rows);
    let made = query("{name: 'db_{name}'}");
    assert_eq!(
        page(&render(&made, &limit(23, false), &table).unwrap()),
        format!("# TYPE db_{long} gauge\ndb_{long} 1\n")
    );
    for truncate in [false, true] {
        let error = render(&made, &limit(22, truncate), &table).unwrap_err();
        assert_eq!(error.reason(), Reason::Limit);
        let expected = "column `name`: 20 bytes make a metric name that is too long, max_label_length is 22";
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn the_status_of_a_server_becomes_one_metric_a_variable() {
    let server = MariaDb::fresh("names");
    let exporter = Exporter::serve(&format!(
        "databases:\n  one: {0}\n  two: {0}\nqueries:\n\
         - name: status\n  databases: ['*']\n  sql: SHOW GLOBAL STATUS\n\
         \x20 metrics: [{{name: 'mysql_global_status_{{Variable_name}}', help: From SHOW GLOBAL STATUS., value_column: Value, invalid: skip}}]\n",
        server.entry()
    ));
    let text = exporter.metrics();
    let page = checked(&text);
    for target in ["one", "two"] {
        assert_eq!(success(&page, target, "status"), Some(1.0), "{}", exporter.log());
        let uptime = page.value("mysql_global_status_uptime", &[("target", target)]);
        assert!(uptime.is_some_and(|uptime| uptime >= 0.0), "{uptime:?}");
    }
    // Families stand in the order of their names, whatever the order of the rows.
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE mysql_global_status_")?.strip_suffix(" gauge"))
        .collect();
    assert!(names.len() > 200 && names.is_sorted(), "{names:?}");
    let again: String = exporter.metrics();
    let heads = |text: &str| {
        text.lines().filter(|line| line.starts_with("# TYPE mysql")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(heads(&text), heads(&again));
}

/// Queries on an empty SQLite file, and which of them are on the page.
fn successes(queries: &[(&str, &str, &str)]) -> (Vec<Option<f64>>, Exporter) {
    let entries: String = queries
        .iter()
        .map(|(name, sql, metric)| format!("- {{name: {name}, sql: \"{sql}\", metrics: [{metric}]}}\n"))
        .collect();
    let exporter = crate::command::setup(&format!(
        "databases: {{shop: {{driver: sqlite, database: shop.db}}}}\nqueries:\n{entries}"
    ))
    .serve();
    let page = checked(&exporter.metrics());
    (queries.iter().map(|(name, ..)| success(&page, "shop", name)).collect(), exporter)
}

#[test]
fn a_name_that_another_family_has_or_owns_makes_the_later_query_lose() {
    let rows = "SELECT 'x' AS n, 1 AS value";
    let (found, exporter) = successes(&[
        ("fixed", "SELECT 1 AS value", "{name: db_x, help: Fixed.}"),
        ("other_type", rows, "{name: 'db_{ n }', type: counter, help: Made.}"),
        ("summary", "SELECT 1 AS s", "{name: db_y, type: summary, sum_column: s}"),
        ("owned", "SELECT 'y_sum' AS n, 1 AS value", "{name: 'db_{n}', help: Made.}"),
        ("fine", "SELECT 'z' AS n, 1 AS value", "{name: 'db_{n}', help: Made.}"),
    ]);
    let (yes, no) = (Some(1.0), Some(0.0));
    assert_eq!(found, [yes, no, yes, no, yes], "{}", exporter.log());
    exporter.wait_for_log("an earlier query makes the metric db_x with another type or unit");
    exporter.wait_for_log("the metrics db_y_sum and db_y both own the name db_y_sum");
}
