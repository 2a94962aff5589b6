//! What a scrape takes, `check --connect --strict` takes: a table of statements, each run by a scrape and looked at by
//! the check, on each database.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::exporter::Setup;
use crate::judges::judge;
use crate::servers::{MariaDb, Postgres};

/// A statement and the metrics of it, in YAML's flow style, `NAME` standing for a name of its own.
type Row = (&'static str, &'static str);

/// One value in the column `value`.
const VALUE: &str = "{name: NAME, help: x.}";

/// Statements that a scrape takes, on every database.
const ALL: &[Row] = &[
    ("SELECT 1 AS value", VALUE),
    (
        "SELECT 1 AS v, NULL AS k",
        "{name: NAME, help: x., value_column: v}, {name: NAME_k, help: x., value_column: k, 'null': 7}",
    ),
    ("SELECT NULL AS value", VALUE),
    ("SELECT NULL AS value", "{name: NAME, help: x., 'null': nan}"),
    ("SELECT NULL AS v, NULL AS l", "{name: NAME, help: x., labels: [l], value_column: v, 'null': 1}"),
    ("SELECT '7' AS value", VALUE),
    ("SELECT '7' AS Value", VALUE),
    ("SELECT 'on' AS value", "{name: NAME, help: x., map: {'on': 1}}"),
    ("SELECT 'x' AS value", "{name: NAME, help: x., invalid: skip}"),
    ("SELECT 1 AS a, '2' AS b", "{name: NAME, help: x., value_columns: [a, b], value_label: which}"),
    ("SELECT 'a' AS l", "{name: NAME, help: x., labels: [l], value: 1}"),
    ("SELECT 'a' AS state", "{name: NAME, help: x., type: stateset, state_column: state, states: [a, b]}"),
    ("SELECT '1' AS value, '1700000000' AS t", "{name: NAME, help: x., timestamp_column: t}"),
    ("SELECT 3 AS value", "{name: NAME, help: x., type: histogram, buckets: [1, 5]}"),
    ("SELECT '+Inf' AS le, '3' AS value", "{name: NAME, help: x., type: histogram, le_column: le}"),
    (
        "SELECT '1' AS a, '2' AS s, '3' AS c",
        "{name: NAME, help: x., type: summary, quantile_columns: {'0.5': a}, sum_column: s, count_column: c}",
    ),
    ("SELECT 'seven' AS kind, 8 AS value", "{name: 'NAME_{kind}', help: x.}"),
    ("SELECT 1 AS value WHERE 1 = 0", VALUE),
    ("VALUES (1)", "{name: NAME, help: x., value_column: FIRST}"),
    ("WITH w AS (SELECT 5 AS value) SELECT value FROM w", VALUE),
];

/// Statements that a scrape takes on PostgreSQL.
const POSTGRES: &[Row] = &[
    ("SELECT pg_catalog.decode('3432', 'hex') AS value", VALUE),
    (
        "SELECT 7::numeric AS value, now() AS t, now()::date AS d, '1h'::interval AS i, true AS b, '{}'::jsonb AS j, ARRAY[1] AS a, '\\x00ff'::bytea AS x",
        "{name: NAME, help: x., labels: [t, d, i, b, j, a, x]}, {name: NAME_t, help: x., value_column: t}, {name: NAME_d, help: x., value_column: d}, \
      {name: NAME_i, help: x., value_column: i}, {name: NAME_b, help: x., value_column: b}",
    ),
    ("SELECT 1 AS value, now() AS t", "{name: NAME, help: x., timestamp_column: t}"),
    ("SELECT 1 AS value, current_date AS t", "{name: NAME, help: x., timestamp_column: t}"),
    ("SELECT '7'::mood AS value", VALUE),
    ("SELECT 7::positive AS value", VALUE),
    ("SHOW max_connections", "{name: NAME, help: x., value_column: max_connections}"),
    ("SHOW ALL", "{name: NAME, help: x., labels: [name], value: 1}"),
    ("EXPLAIN SELECT 1", "{name: NAME, help: x., labels: {plan: 'QUERY PLAN'}, value: 1}"),
    ("EXPLAIN (FORMAT JSON) SELECT 1", "{name: NAME, help: x., labels: {plan: 'QUERY PLAN'}, value: 1}"),
    ("CALL told(1, 0)", "{name: NAME, help: x., value_column: b}"),
    ("TABLE seven", VALUE),
    ("INSERT INTO written VALUES (8) RETURNING value", VALUE),
    ("SELECT * FROM pair_of() AS (value int, label text)", "{name: NAME, help: x., labels: [label]}"),
];

/// Statements that a scrape takes on MariaDB.
const MARIADB: &[Row] = &[
    ("SELECT CAST('42' AS BINARY) AS value", VALUE),
    (
        "SELECT NOW() AS n, CURDATE() AS d, CURTIME() AS t, x'00ff' AS x, JSON_OBJECT('a', 1) AS j",
        "{name: NAME, help: x., labels: [n, d, x, j], value_column: t}",
    ),
    ("SELECT 1 AS value, UNIX_TIMESTAMP() AS t", "{name: NAME, help: x., timestamp_column: t}"),
    ("SELECT @unset AS value", VALUE),
    ("SELECT IF(RAND() < 2, 7, NULL) AS value", VALUE),
    ("SELECT b'101' + 0 AS value", VALUE),
    ("SHOW ENGINES", "{name: NAME, help: x., labels: [Engine], value: 1}"),
    ("SHOW GLOBAL STATUS LIKE 'Uptime'", "{name: NAME, help: x., value_column: Value}"),
    (
        "SHOW GLOBAL VARIABLES LIKE 'max_connections'",
        "{name: NAME, help: x., labels: [Variable_name], value_column: Value}",
    ),
    ("SHOW PROCESSLIST", "{name: NAME, help: x., labels: [Id], value: 1}"),
    ("SHOW DATABASES", "{name: NAME, help: x., labels: [Database], value: 1}"),
    ("SHOW TABLE STATUS LIKE 'seven'", "{name: NAME, help: x., labels: [Name], value_column: Rows}"),
    ("SHOW CREATE TABLE seven", "{name: NAME, help: x., labels: [Table], value: 1}"),
    ("SHOW INDEX FROM seven", "{name: NAME, help: x., labels: [Key_name], value: 1}"),
    ("SHOW PLUGINS", "{name: NAME, help: x., labels: [Name, Type], value: 1}"),
    ("SHOW WARNINGS", "{name: NAME, help: x., labels: [Level], value: 1}"),
    ("SHOW ENGINE INNODB STATUS", "{name: NAME, help: x., labels: [Type], value: 1}"),
    ("EXPLAIN SELECT 1", "{name: NAME, help: x., labels: [select_type], value_column: id}"),
    ("EXPLAIN FORMAT=JSON SELECT 1", "{name: NAME, help: x., labels: [EXPLAIN], value: 1}"),
    ("ANALYZE FORMAT=JSON SELECT 1", "{name: NAME, help: x., labels: [ANALYZE], value: 1}"),
    ("CALL mails()", "{name: NAME, help: x., labels: [mail], value_column: opens}"),
    ("CHECK TABLE seven", "{name: NAME, help: x., labels: [Msg_text], value: 1}"),
    ("DESCRIBE seven", "{name: NAME, help: x., labels: [Field], value: 1}"),
    ("INSERT INTO written VALUES (8) RETURNING value", VALUE),
    ("EXECUTE IMMEDIATE 'SELECT 7 AS value'", VALUE),
];

/// Statements that a scrape takes on SQLite.
const SQLITE: &[Row] = &[
    ("SELECT value, note FROM seven", "{name: NAME, help: x., labels: [note]}"),
    ("SELECT CAST('42' AS BLOB) AS value", VALUE),
    ("SELECT untyped AS value FROM seven", VALUE),
    ("SELECT 1 AS value, unixepoch() AS t", "{name: NAME, help: x., timestamp_column: t}"),
    ("PRAGMA page_count", "{name: NAME, help: x., value_column: page_count}"),
    ("EXPLAIN QUERY PLAN SELECT 1", "{name: NAME, help: x., labels: [detail], value_column: id}"),
    ("INSERT INTO written VALUES (8) RETURNING value", VALUE),
    ("SELECT * FROM (VALUES (1, 'a'))", "{name: NAME, help: x., labels: [column2], value_column: column1}"),
];

/// Scrapes, and checks; every row must be taken by both. `first` is what the database calls the first column of `VALUES`.
fn agree(target: &str, first: &str, rows: &[Row], setup: impl Fn(Setup) -> Setup) {
    let mut config = format!("databases:\n  it: {target}\nqueries:\n");
    let rows: Vec<&Row> = ALL.iter().chain(rows).collect();
    for (index, (sql, metrics)) in rows.iter().enumerate() {
        let (name, sql) = (format!("row_{index}"), sql.replace('\'', "''"));
        let metrics = metrics.replace("NAME", &name).replace("FIRST", first);
        config += &format!("  - {{name: {name}, sql: '{sql}', metrics: [{metrics}]}}\n");
    }
    config += "defaults: {query: {lint_off: [L001, L002, L003, L004, L005, L006, L007, L008, L009, L013, L014]}, \
               database: {lint_off: [L010, L011, L012]}}\n";

    let output = setup(Setup::new(&config)).once();
    let page = judge(output.text());
    let refused: Vec<&str> = page
        .series("sql_exporter_query_success")
        .into_iter()
        .filter(|row| row.value < 1.0)
        .map(|row| row.labels["query"].as_str())
        .collect();
    assert!(refused.is_empty(), "the scrape refuses {refused:?}\n{}", output.errors());

    let output =
        setup(Setup::new(&config)).args(&["check", "--connect", "--strict", "--format", "json"]).output();
    let document: Value = serde_json::from_str(output.text()).expect("JSON");
    let told = document["findings"].as_array().expect("a list").iter();
    let wrong: BTreeSet<&str> = told
        .filter(|finding| finding["severity"] != "note")
        .filter_map(|finding| finding["message"].as_str())
        .collect();
    assert!(wrong.is_empty(), "the check refuses {wrong:#?}\n{}", output.text());
    assert_eq!(output.code(), 0, "{}", output.text());
    let target = &document["targets"][0];
    let untold = target["untold"].as_array().expect("a list").len() as u64;
    assert_eq!(target["described"].as_u64(), Some(rows.len() as u64 - untold), "{}", output.text());
}

#[test]
fn what_a_scrape_takes_the_check_takes_on_postgresql() {
    let server = Postgres::fresh("agreement");
    server.run(
        "CREATE TABLE written (value text); CREATE TABLE seven (value text); INSERT INTO seven VALUES ('7'); CREATE TYPE mood AS ENUM ('7');
         CREATE DOMAIN positive AS int CHECK (VALUE > 0);
         CREATE PROCEDURE told(a int, INOUT b int) LANGUAGE plpgsql AS $$ BEGIN b := a + 1; END $$;
         CREATE FUNCTION pair_of() RETURNS record LANGUAGE sql AS $$ SELECT 1, 'a'::text $$",
    );
    agree(&server.entry_with("read_only: false"), "column1", POSTGRES, |setup| setup);
}

#[test]
fn what_a_scrape_takes_the_check_takes_on_mariadb() {
    let server = MariaDb::fresh("agreement");
    server.run(
        "CREATE TABLE written (value TEXT);\nCREATE TABLE seven (value TEXT);\nINSERT INTO seven VALUES ('7');\n\
         CREATE PROCEDURE mails() READS SQL DATA SELECT 'id_14' AS mail, 7 AS opens",
    );
    agree(&server.entry_with("read_only: false"), "'1'", MARIADB, |setup| setup);
}

#[test]
fn what_a_scrape_takes_the_check_takes_on_sqlite() {
    agree("{driver: sqlite, database: shop.db, read_only: false}", "column1", SQLITE, |setup| {
        let setup = setup.file("shop.db", "");
        let database = rusqlite::Connection::open(setup.path().join("shop.db")).expect("a file");
        database
            .execute_batch(
                "CREATE TABLE written (value TEXT); CREATE TABLE seven (value TEXT, note, untyped); INSERT INTO seven VALUES ('7', x'00ff', '9')",
            )
            .expect("a table");
        setup
    });
}

/// PgBouncer's console describes nothing.
#[test]
fn what_cannot_be_told_is_a_note_that_is_counted_and_no_warning() {
    let console = Postgres::shared("pgbouncer").through_pgbouncer();
    let entry =
        console.entry_with("lint_off: [L010, L011, L012]").replace("driver: postgres", "driver: pgbouncer");
    let config = format!(
        "databases:\n  it: {entry}\nqueries:\n  - {{name: pools, sql: SHOW POOLS, metrics: [{{name: pools, help: x., \
         labels: [database, user], value_column: cl_active}}]}}\n"
    );
    let output = Setup::new(&config).args(&["check", "--connect", "--strict"]).output();
    assert_eq!(output.code(), 0, "{}", output.text());
    assert!(
        output.text().ends_with("0 errors, 0 warnings, 1 note, 2 silenced in 1 file: 1 target, 1 query\n"),
        "{}",
        output.text()
    );
    let note =
        "queries[0].sql: target it, query pools: the server reports the columns only when it runs the query";
    assert!(
        output.text().lines().any(|line| line.starts_with("note: ") && line.contains(note)),
        "{}",
        output.text()
    );
}
