//! What `try --sql` proposes: it loads where it is pasted, and makes the samples that were shown.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::exporter::Setup;

use super::{TARGETS, World, document, small};

/// Pastes what is proposed for `sql`, tries that, and gives both documents.
fn pasted(setup: &dyn Fn(&str) -> Setup, target: &str, sql: &str) -> (Value, Value) {
    let args = ["try", "--target", target, "--format", "json"];
    let output = setup("queries: []\n").args(&args).args(&["--sql", sql]).output();
    assert_eq!(output.code(), 0, "{sql}: {}{}", output.text(), output.errors());
    let first = document(&output);
    let yaml = first["proposal"].as_str().unwrap_or_else(|| panic!("no proposal: {}", output.text()));
    let name =
        yaml.lines().next().and_then(|line| line.strip_prefix("  - name: ")).expect("a name").to_owned();
    let output = setup(&format!("queries:\n{yaml}")).args(&args).args(&["--query", &name]).output();
    assert_eq!(output.code(), 0, "{sql}\n{yaml}: {}{}", output.text(), output.errors());
    (first, document(&output))
}

const STATEMENTS: [&str; 8] = [
    "SELECT status, count(*) AS orders, sum(cents) AS cents_total FROM orders GROUP BY status",
    "SELECT count(*) FROM orders",
    "-- with a comment: ${HOME}\nSELECT region AS \"The Region\",\n\n  max(cents) AS \"max: cents\"\nFROM orders\nWHERE region <> '\"#'\nGROUP BY region",
    "SELECT DISTINCT region, status FROM orders",
    "SELECT region AS target, status AS le, 1 AS value FROM orders WHERE note IS NOT NULL",
    "SELECT 7 AS order_id, 1.5 AS value",
    "SELECT NULL AS empty_one, 'x' AS label, 1 AS \"true\", 2 AS \"1st\"",
    "SELECT 5 AS sql_exporter_total, 6 AS total",
];

#[test]
fn a_proposal_loads_where_it_is_pasted_and_makes_what_was_shown() {
    let world = World::new();
    for target in TARGETS {
        for sql in STATEMENTS {
            let sql = if target == "mariadb" {
                sql.replace('"', "`").replace("'`#'", "'\"#'")
            } else {
                sql.to_owned()
            };
            let (first, again) = pasted(&|queries| world.setup(queries), target, &sql);
            assert!(first["series"].as_u64() > Some(0), "{target} {sql}: {first}");
            assert_eq!(first["exposition"], again["exposition"], "{target} {sql}");
            assert_eq!(first["warnings"], serde_json::json!([]), "{target} {sql}");
        }
    }
}

#[test]
fn texts_become_labels_numbers_values_totals_counters_and_moments_seconds() {
    let world = World::new();
    let sql = "SELECT region, 7 AS account_id, count(*) AS n, sum(cents) AS cents_total, max(timestamp '2026-01-02 03:04:05') AS last \
               FROM orders GROUP BY region";
    for target in ["postgres", "mariadb"] {
        let (first, _) = pasted(&|queries| world.setup(queries), target, sql);
        let yaml = first["proposal"].as_str().expect("YAML");
        let expected = format!(
            "  - name: orders
    database: {target}
    sql: |
      {sql}
    metrics:
      - name: orders_n
        help: \"Column n of orders: say here what it counts.\"
        labels: [region, account_id]
        value_column: \"n\"
      - name: orders_cents_total
        help: \"Column cents_total of orders: say here what it counts.\"
        type: counter
        labels: [region, account_id]
        value_column: cents_total
      - name: orders_last_timestamp_seconds
        help: \"Column last of orders: say here what it counts.\"
        labels: [region, account_id]
        value_column: last
"
        );
        assert_eq!(yaml, expected);
        assert!(first["exposition"].as_str().is_some_and(|page| page.contains("} 1767323045\n")), "{first}");
    }
}

#[test]
fn texts_alone_become_an_info_and_documents_are_left_out() {
    let world = World::new();
    let sql = "SELECT 'x' AS label, '{}'::jsonb AS doc FROM orders LIMIT 1";
    let (first, _) = pasted(&|queries| world.setup(queries), "postgres", sql);
    let yaml = first["proposal"].as_str().expect("YAML");
    assert!(yaml.contains("- name: orders_info\n") && yaml.contains("        type: info\n"), "{yaml}");
    assert!(yaml.contains("    # column doc (jsonb) is left out: "), "{yaml}");
}

#[test]
fn names_that_the_configuration_has_are_not_proposed_again() {
    let config = "databases: {shop: {driver: sqlite, database: shop.db, labels: {env: x}}}
queries:
  - {name: t, sql: SELECT 1 AS value, metrics: [{name: t_a_total, help: A., type: counter}, {name: t_b, help: B.}]}
";
    let sql = "SELECT 1 AS a_total, 2 AS b, 'e' AS env FROM t";
    let setup = || {
        let setup = crate::command::setup(config);
        let shop = rusqlite::Connection::open(setup.path().join("shop.db")).expect("a database");
        shop.execute_batch("INSERT INTO t VALUES (1)").expect("a row");
        setup
    };
    let output = setup().args(&["try", "--sql", sql, "--format", "json"]).output();
    let yaml = document(&output)["proposal"].as_str().expect("YAML").to_owned();
    for line in ["  - name: t_2\n", "- name: t_a_2_total\n", "- name: t_b_2\n", "labels: {t_env: env}\n"] {
        assert!(yaml.contains(line), "{line}: {yaml}");
    }
    let again = crate::command::setup(&format!("{config}{yaml}")).args(&["check"]).output();
    assert_eq!(again.code(), 0, "{yaml}\n{}", again.text());
}

#[test]
fn rows_that_no_definition_could_take_are_told() {
    let output = small("queries: []\n").args(&["try", "--sql", "SELECT 1 AS a UNION ALL SELECT 2"]).output();
    let text = output.text();
    assert!(text.contains("warning: the proposal fails on these rows: two samples of shop_a"), "{text}");
    assert!(text.contains("\n  - name: shop\n") && output.code() == 0, "{text}");
    let none = small("queries: []\n").args(&["try", "--sql", "SELECT x AS a, x AS a FROM t"]).output();
    assert!(none.text().contains("(no rows)") && none.code() == 0, "{}", none.text());
}

#[test]
fn sql_is_read_from_stdin_where_a_dash_stands_for_it() {
    let output = try_stdin("-- twelve\nSELECT 12 AS dozen;\n");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("shop_dozen{target=\"shop\"} 12\n") && output.status.success(), "{text}");
    assert!(text.contains("    sql: |\n      -- twelve\n      SELECT 12 AS dozen\n"), "{text}");
}

/// Its last statement would be cut off, and what is left could mean something else.
#[test]
fn sql_from_stdin_that_is_too_long_is_not_cut() {
    let output = try_stdin(&format!("SELECT 1 AS one{}", " ".repeat(1 << 20)));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "error: --sql -: stdin: has more than 1 MiB\n");
    assert_eq!(output.status.code(), Some(2));
}

/// `try --sql -` with this on its stdin.
fn try_stdin(sql: &str) -> std::process::Output {
    let setup = small("queries: []\n");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_sql-exporter"))
        .args(["try", "-c", "sql-exporter.yaml", "--sql", "-"])
        .current_dir(setup.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the exporter runs");
    // It need not read all of a text that is too long.
    drop(child.stdin.take().expect("a pipe").write_all(sql.as_bytes()));
    child.wait_with_output().expect("an end")
}
