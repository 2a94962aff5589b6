//! Labels and names from parts of texts: which rows a metric takes, and what it reads of the others.

use sql_exporter::engine::query_sink::SampleContext;
use sql_exporter::error::Reason;
use sql_exporter::metric::labels::LabelLimit;
use sql_exporter::value::Cell;
use sql_exporter::value::Cell::{Int, Null, Text};

use crate::checker::checked;
use crate::command::setup;
use crate::exporter::Exporter;
use crate::scrape::success;
use crate::servers::MariaDb;
use crate::table::{Table, bare, lines, metrics, query, render};

const COLUMNS: &[&str] = &["name", "value", "more"];
const COMMAND: &str = "labels: {command: {column: name, pattern: '^Com_(.+)$', lower: true}}";

/// Rows of which only the first and the last but one match `^Com_`, and where everything else of the others is wrong.
const ROWS: &[&[Cell<'_>]] = &[
    &[Text("Com_Select"), Int(7), Int(1)],
    &[Text("Uptime"), Text("not a number"), Text("not a number")],
    &[Null, Text("not a number"), Null],
    &[Text("Com_alter_table"), Int(8), Int(2)],
    &[Int(5), Null, Null],
];

fn made(yaml: &str) -> String {
    lines(yaml, &Table::new(COLUMNS, ROWS)).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

#[test]
fn a_label_takes_a_part_and_other_rows_are_left_out() {
    let expected = "x{command=\"select\"} 7\nx{command=\"alter_table\"} 8\n";
    assert_eq!(made(&format!("{{name: x, {COMMAND}}}")), expected);
    let whole = made("{name: x, labels: {command: {column: name, pattern: '^Com_'}, n: value}}");
    assert_eq!(whole, "x{command=\"Com_\",n=\"7\"} 7\nx{command=\"Com_\",n=\"8\"} 8\n");
    let lower =
        lines("{name: x, labels: {n: {column: name, lower: true}}}", &Table::new(COLUMNS, &ROWS[..1]));
    assert_eq!(lower.unwrap(), "x{n=\"com_select\"} 7\n");
}

#[test]
fn a_name_takes_a_part_and_other_rows_are_left_out() {
    assert_eq!(made("{name: 'x_{name|^Com_(.+)$}_total'}"), "x_select_total 7\nx_alter_table_total 8\n");
    assert_eq!(made("{name: 'x_{name|^Com_(Select|Insert)$}s'}"), "x_selects 7\n");
    assert_eq!(
        made("{name: 'x_{name|_([a-z]{5})_}', labels: {n: {column: name, pattern: 'Com'}}}"),
        "x_alter{n=\"Com\"} 8\n"
    );
    // Two patterns, both of which a row must match.
    assert_eq!(made("{name: '{name|^(C)om}_{name|(table)$}'}"), "c_table 8\n");
}

/// A row that does not match is left out whatever the type makes of rows, and whatever else the row holds.
#[test]
fn every_type_leaves_rows_out_before_it_reads_them() {
    for (keys, samples) in [
        ("type: gauge", 2),
        ("type: counter", 2),
        ("type: unknown, null: 0", 2),
        ("type: gauge, value_columns: [value, more], value_label: of", 4),
        ("type: gauge, duplicates: sum", 2),
        ("type: gauge, value: 3", 2),
        ("type: histogram, buckets: [1]", 8),
        ("type: gaugehistogram, bucket_columns: {\"+Inf\": value}, sum_column: more", 6),
        ("type: histogram, le_column: more, cumulative: false", 4),
        ("type: summary, quantile_columns: {\"0.5\": value}, sum_column: more", 4),
        ("type: gauge, timestamp_column: more", 2),
    ] {
        let text = made(&format!("{{name: x, {keys}, {COMMAND}}}"));
        assert_eq!(text.lines().count(), samples, "{keys}: {text}");
        assert!(text.contains("command=\"alter_table\"") && !text.contains("command=\"\""), "{text}");
    }
    assert_eq!(made(&format!("{{name: x_info, type: info, {COMMAND}}}")).lines().count(), 2);
    let state = "type: stateset, state_column: more, states: ['1', '2']";
    let text = made(&format!("{{name: x, {state}, {COMMAND}}}"));
    assert!(text.contains("x{command=\"select\",x=\"1\"} 1\n") && text.lines().count() == 4, "{text}");
}

#[test]
fn a_row_left_out_counts_nowhere_and_has_no_faulty_label() {
    let limit = LabelLimit { bytes: 12, truncate: false };
    let context = SampleContext::new(None, &[], limit);
    let rows: &[&[Cell<'_>]] = &[
        &[Text("Com_a"), Null, Text("short")],
        &[Text("Uptime"), Null, Text("longer than a label may be")],
        // As long as a label may be once the part is taken.
        &[Text("Com_12345678901_"), Int(1), Text("short")],
    ];
    let yaml = "{name: x, labels: {c: {column: name, pattern: '^Com_(.+)_?$'}, more: more}}, \
                {name: 'y_{name|^Com_(.)$}', labels: [more], null: 1}";
    let rendered = render(&query(yaml), &context, &Table::new(COLUMNS, rows)).expect("no fault");
    assert_eq!((rendered.rows, rendered.series, rendered.skipped.null), (3, 2, 1));
    // Of a row that matches, everything is read.
    let long = &[Text("Com_a"), Int(1), Text("longer than a label may be")];
    let error = render(&query(yaml), &context, &Table::new(COLUMNS, &[long])).unwrap_err();
    assert_eq!(error.reason(), Reason::Limit);
}

#[test]
fn what_a_pattern_takes_can_be_a_duplicate_or_no_name() {
    let two = [ROWS[0], ROWS[3]];
    let duplicate = "{name: x, labels: {c: {column: name, pattern: 'Com'}}}";
    let error = lines(duplicate, &Table::new(COLUMNS, &two)).unwrap_err();
    assert_eq!(error.reason(), Reason::Duplicate);
    let first = "{name: x, labels: {c: {column: name, pattern: 'Com'}}, duplicates: first}";
    assert_eq!(lines(first, &Table::new(COLUMNS, &two)).unwrap(), "x{c=\"Com\"} 7\n");
    let empty = "{name: 'x_{name|^Com_Select(.*)$}'}";
    let error = lines(empty, &Table::new(COLUMNS, &two)).unwrap_err();
    let said = "the pattern finds an empty text in column `name`, which makes no metric name";
    assert!(error.reason() == Reason::Value && error.to_string().contains(said), "{error}");
    let ours =
        lines("{name: '{name|^Com_(.+)$}_x'}", &Table::new(COLUMNS, &[&[Text("Com_process"), Int(1), Null]]));
    assert!(ours.unwrap_err().to_string().contains("are the exporter's own"));
}

#[test]
fn a_column_that_only_a_pattern_needs_must_be_there() {
    for yaml in ["{name: x, labels: {c: {column: gone, pattern: x}}}", "{name: 'x_{gone|y}'}"] {
        let error = lines(yaml, &Table::new(COLUMNS, &[])).unwrap_err();
        assert_eq!(error.reason(), Reason::MissingColumn, "{yaml}");
    }
}

/// Metrics with equal labels share their bytes only where their patterns are equal too.
#[test]
fn metrics_with_other_patterns_take_other_rows() {
    let label = |pattern: &str| format!("labels: {{c: {{column: name, pattern: '{pattern}'}}}}");
    let yaml = format!(
        "{{name: a, {0}}}, {{name: b, {1}}}, {{name: c, {0}, value_column: more}}, {{name: d, labels: {{c: name}}, value: 1, duplicates: first}}",
        label("^Com_(S.+)$"),
        label("^Com_(a.+)$")
    );
    let expected = "a{c=\"Select\"} 7\nb{c=\"alter_table\"} 8\nc{c=\"Select\"} 1\nd{c=\"Com_Select\"} 1\nd{c=\"Uptime\"} 1\nd{c=\"\"} 1\nd{c=\"Com_alter_table\"} 1\nd{c=\"5\"} 1\n";
    assert_eq!(made(&yaml), expected);
}

#[test]
fn the_long_form_of_a_label_is_checked() {
    let faults = |yaml: &str| metrics(yaml).err().unwrap_or_default();
    assert_eq!(faults("{name: x, labels: {c: {column: name, lower: maybe}}}").len(), 1);
    assert_eq!(faults("{name: x, labels: {c: {column: [name]}}}").len(), 1);
    assert_eq!(faults("{name: x, labels: {c: [name]}}").len(), 1);
    assert_eq!(faults("{name: x, labels: {c: {column: name, pattern: '('}, le: {column: name}}}").len(), 2);
    assert_eq!(faults("{name: x, labels: [{column: name}]}").len(), 1);
    assert!(metrics("{name: x, labels: {c: {column: name, pattern: , lower: }}}").is_ok());
    drop(
        render(&query("{name: x, labels: {c: {column: name}}}"), &bare(), &Table::new(COLUMNS, &[])).unwrap(),
    );
}

const SHOP: &str = "databases: {shop: {driver: sqlite, database: shop.db}}\nqueries:\n- name: parts\n  \
    sql: SELECT 'Com_Select' AS name, 1 AS value UNION ALL SELECT 'Uptime', 'x'\n  \
    metrics: [{name: 'x_{name|^(Com)_.+$}s', help: Parts., labels: {command: {column: name, pattern: '^Com_(.+)$', lower: true}}}]\n";

#[test]
fn try_check_and_config_know_of_patterns() {
    let said = setup(SHOP).args(&["try", "--query", "parts", "--target", "shop"]).output();
    let text = said.text().replace('\n', " ");
    let rule = "the part that matches ^Com_(.+)$; in lower case";
    assert!(text.contains(rule), "{}{}", said.text(), said.errors());
    assert!(text.contains("x_coms{target=\"shop\",command=\"select\"} 1"), "{}", said.text());
    let checked = setup(SHOP).args(&["check", "--connect", "--strict"]).output();
    assert_eq!(checked.code(), 0, "{}{}", checked.text(), checked.errors());
    let config = setup(SHOP).serve().get("/config").text().to_owned();
    for part in ["x_{name|^(Com)_.+$}s", "pattern: ", "^Com_(.+)$", "lower: true"] {
        assert!(config.contains(part), "{part} in {config}");
    }
}

#[test]
fn the_status_of_a_server_is_taken_apart() {
    let server = MariaDb::fresh("patterns");
    let exporter = Exporter::serve(&format!(
        "databases:\n  one: {}\nqueries:\n- name: status\n  sql: SHOW GLOBAL STATUS\n  metrics:\n\
         \x20 - {{name: mysql_global_status_commands_total, help: Commands., type: counter, labels: {{command: {{column: Variable_name, pattern: '^Com_(.+)$'}}}}, value_column: Value}}\n\
         \x20 - {{name: 'mysql_global_status_{{Variable_name|^(Uptime|Innodb_page_size)$}}', help: From SHOW GLOBAL STATUS., value_column: Value}}\n",
        server.entry()
    ));
    let text = exporter.metrics();
    let page = checked(&text);
    assert_eq!(success(&page, "one", "status"), Some(1.0), "{}", exporter.log());
    let commands =
        page.value("mysql_global_status_commands_total", &[("target", "one"), ("command", "select")]);
    assert!(commands.is_some_and(|count| count >= 0.0), "{commands:?}");
    let size = page.value("mysql_global_status_innodb_page_size", &[("target", "one")]);
    assert_eq!(size, Some(16384.0), "{text}");
    let heads = text.lines().filter(|line| line.starts_with("# TYPE mysql_"));
    assert_eq!(heads.count(), 3, "{text}");
}
