//! What goes wrong: in the arguments, in the SQL, in the mapping, on the way to the server.

use std::process::Stdio;
use std::time::Instant;

use crate::exporter::{Output, Setup};
use crate::process::{mortal, signal, wait_for};

use super::{QUERY, TARGETS, World, document, nobody, small};

fn one_query(sql: &str, metrics: &str) -> String {
    format!(
        "queries:\n  - name: q\n    databases: ['*']\n    sql: |\n      {sql}\n    metrics: [{metrics}]\n"
    )
}

const PLAIN: &str = "{name: q_value, help: Q.}";

#[test]
fn wrong_sql_is_told_with_its_line_in_the_file_and_a_caret() {
    let world = World::new();
    for target in TARGETS {
        let queries = one_query("SELECT 1 AS value,\n      rgion FROM orders", PLAIN);
        let output = world.tried(&queries, target, &["--query", "q"]);
        let text = output.text();
        assert_eq!(output.code(), 1, "{target}: {text}");
        assert!(text.contains(&format!("target {target}, query q: ")) && text.contains("rgion"), "{text}");
        assert!(text.contains("error: sql-exporter.yaml:"), "{text}");
        // MariaDB tells the word, not its place.
        if target != "mariadb" {
            let place = "sql-exporter.yaml:10:7: queries[0].sql: ";
            assert!(text.contains(&format!("error: {place}")), "{text}");
            assert!(text.contains("  |       rgion FROM orders\n  |       ^\n"), "{text}");
        }
        let loose = world.tried(&queries, target, &["--sql", "SELECT 1 FROM orders WHERE"]);
        assert_eq!(loose.code(), 1, "{target}: {}", loose.text());
        assert!(loose.text().contains("error: "), "{}", loose.text());
    }
}

#[test]
fn a_mapping_that_fails_shows_the_rows_first_and_then_why() {
    let world = World::new();
    let missing = QUERY.replace("value_column: cents", "value_column: euros");
    let text_value = QUERY.replace("value_column: cents", "value_column: region");
    for target in TARGETS {
        let output = world.tried(&missing, target, &["--query", "orders"]);
        let text = output.text();
        let (rows, error) = text.split_once("error: ").expect("an error");
        assert_eq!(output.code(), 1, "{text}");
        assert!(rows.contains("south") && rows.contains("euros") && rows.contains("missing"), "{text}");
        assert!(
            error.starts_with("sql-exporter.yaml:13:") && error.contains("has no column `euros`"),
            "{text}"
        );
        assert!(error.contains("  |       - {name: shop_order_euros") && error.contains("^\n"), "{text}");
        let output = world.tried(&text_value, target, &["--query", "orders", "--rows", "2"]);
        let text = output.text();
        assert_eq!(output.code(), 1, "{text}");
        assert!(text.contains("north") && !text.contains("south  "), "{text}");
        assert!(text.contains("(stopped there)") && text.contains("\"north\" is not a number"), "{text}");
        assert!(text.contains("error: sql-exporter.yaml:13:"), "{text}");
    }
}

#[test]
fn a_column_of_the_wrong_type_names_the_cast() {
    let world = World::new();
    let queries = one_query("SELECT '{}'::jsonb AS value", PLAIN);
    let text = world.tried(&queries, "postgres", &["--query", "q"]).text().to_owned();
    assert!(
        text.contains("value (jsonb)")
            && text.contains("write `(value ->> 'FIELD')::numeric AS value` in the SELECT"),
        "{text}"
    );
}

#[test]
fn two_rows_of_one_series_are_told() {
    let queries = one_query("SELECT 1 AS value UNION ALL SELECT 2", PLAIN);
    let output = small(&queries).args(&["try", "--query", "q"]).output();
    assert_eq!(output.code(), 1);
    assert!(output.text().contains("two samples of q_value"), "{}", output.text());
    assert!(output.text().lines().any(|line| line.trim() == "2"), "{}", output.text());
}

#[test]
fn nothing_is_written() {
    let world = World::new();
    for target in TARGETS {
        for sql in
            ["DELETE FROM orders", "WITH x AS (SELECT 1) DELETE FROM orders", "SELECT 1; DELETE FROM orders"]
        {
            let output = world.tried(QUERY, target, &["--sql", sql]);
            assert_eq!(output.code(), 1, "{target} {sql}: {}", output.text());
        }
        let configured = world.tried(&one_query("DELETE FROM orders", PLAIN), target, &["--query", "q"]);
        assert_eq!(configured.code(), 2, "the configuration does not load");
        assert!(
            configured.errors().contains("found DELETE; if that is wanted, set read_only: false"),
            "{}",
            configured.errors()
        );
        let left = world.tried(QUERY, target, &["--query", "orders"]);
        assert!(left.text().contains("3 rows → 2 series"), "{target}: {}", left.text());
    }
}

#[test]
fn a_query_that_takes_too_long_is_stopped_in_the_server() {
    let world = World::new();
    let slow = [
        ("postgres", "SELECT 1 AS value FROM pg_sleep(60)"),
        ("mariadb", "SELECT sleep(60) AS value"),
        (
            "sqlite",
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS value FROM n",
        ),
    ];
    for (target, sql) in slow {
        let began = Instant::now();
        for args in [["--query", "q"], ["--sql", sql]] {
            let output = world
                .setup(&one_query(sql, PLAIN))
                .args(&["try", "--target", target, "--timeout", "1s", "--format", "json"])
                .args(&args)
                .output();
            let reason = document(&output)["error"]["reason"].as_str().map(str::to_owned);
            assert_eq!(
                (output.code(), reason.as_deref()),
                (1, Some("timeout")),
                "{target}: {}",
                output.text()
            );
        }
        assert!(began.elapsed().as_secs() < 30, "{target}");
    }
    let running = "SELECT count(*)::int FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' \
                   AND datname = current_database() AND pid <> pg_backend_pid()";
    let left: i32 = world.postgres.client().query_one(running, &[]).expect("an answer").get(0);
    assert_eq!(left, 0);
}

#[test]
fn a_condition_that_takes_too_long_is_what_failed() {
    let world = World::new();
    let queries = format!("{QUERY}    when: {{sql: SELECT true FROM pg_sleep(61)}}\n");
    let args = ["--query", "orders", "--timeout", "1s", "--format", "json"];
    let output = world.tried(&queries, "postgres", &args);
    let found = document(&output);
    assert_eq!((output.code(), found["error"]["reason"].as_str()), (1, Some("timeout")), "{found}");
    assert!(found["error"]["message"].as_str().is_some_and(|text| text.starts_with("when.sql: ")), "{found}");
}

#[test]
fn a_signal_stops_the_statement_in_the_server() {
    let world = World::new();
    let setup = world.setup("queries: []\n");
    let mut child = mortal(None, env!("CARGO_BIN_EXE_sql-exporter"))
        .args([
            "try",
            "-c",
            "sql-exporter.yaml",
            "--target",
            "postgres",
            "--sql",
            "SELECT 1 FROM pg_sleep(62)",
        ])
        .current_dir(setup.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("setpriv is part of util-linux");
    let running = "SELECT count(*)::int FROM pg_stat_activity WHERE query LIKE '%pg_sleep(62)%' AND state = 'active' \
                   AND datname = current_database() AND pid <> pg_backend_pid()";
    let mut client = world.postgres.client();
    let mut count = || client.query_one(running, &[]).expect("an answer").get::<_, i32>(0);
    wait_for("the statement to run", || (count() == 1).then_some(()));
    signal("INT", &[child.id()]);
    let status = wait_for("the end", || child.try_wait().ok()?);
    assert_eq!(status.code(), Some(130));
    wait_for("the statement to end", || (count() == 0).then_some(()));
}

#[test]
fn a_server_that_is_not_there_is_exit_1() {
    let output = Setup::new(&nobody()).args(&["try", "--sql", "SELECT 1"]).output();
    assert_eq!(output.code(), 1, "{}", output.text());
    assert!(
        output.text().contains("error: target far: ") && !output.text().contains("connect 0"),
        "{}",
        output.text()
    );
    let json = Setup::new(&nobody()).args(&["try", "--sql", "SELECT 1", "--format=json"]).output();
    assert_eq!(document(&json)["error"]["reason"].as_str(), Some("connect"));
}

/// What a run with these arguments says on stderr, which must be one line and exit code 2.
fn refused(output: &Output) -> &str {
    assert_eq!((output.code(), output.text()), (2, ""), "{}", output.errors());
    output.errors().trim_end()
}

#[test]
fn wrong_words_are_exit_2_and_say_what_was_meant() {
    let world = World::new();
    let queries =
        format!("{QUERY}  - {{name: one, database: sqlite, sql: SELECT 1 AS value, metrics: [{PLAIN}]}}\n");
    let cases: [(&[&str], &str); 9] = [
        (&[], "there is nothing to try; write --query NAME or --sql 'SELECT …'"),
        (&["--query", "one", "--sql", "SELECT 1"], "--query and --sql do not go together: name one"),
        (&["--query", "ordrs"], "unknown query `ordrs`; nearest: orders, one"),
        (
            &["--query", "orders"],
            "query `orders` runs on 3 targets; name one with --target: postgres, mariadb, sqlite",
        ),
        (&["--query", "orders", "--target", "sqlit"], "unknown target `sqlit`; nearest: sqlite, "),
        (
            &["--query", "one", "--target", "mariadb"],
            "query `one` does not run on target `mariadb`; it runs on: sqlite",
        ),
        (&["--sql", "SELECT 1"], "there are 3 targets; name one with --target: postgres, mariadb, sqlite"),
        (&["--sql", " ; "], "--sql holds no statement"),
        (&["--query", "one", "--rows", "many"], "Error parsing option '--rows' with value 'many'"),
    ];
    for (args, message) in cases {
        let output = world.setup(&queries).args(&["try"]).args(args).output();
        assert!(refused(&output).starts_with(&format!("error: {message}")), "{args:?}: {}", output.errors());
    }
    let only = world.setup(&queries).args(&["try", "--query", "one"]).output();
    assert_eq!(only.code(), 0, "it runs on one target only: {}", only.errors());
}
