//! `check --connect`: what live databases say about queries that are never run.

mod agreement;

use std::net::TcpListener;

use serde_json::Value;

use crate::exporter::{Output, Setup};
use crate::servers::own::OwnPostgres;
use crate::servers::{MariaDb, Postgres};

/// One target on each of the three, and these queries.
struct Three {
    postgres: Postgres,
    mariadb: MariaDb,
}

const TABLE: &str = "CREATE TABLE orders (region varchar(20), amount numeric(10,2), note text);";

impl Three {
    fn new() -> Self {
        let three = Three { postgres: Postgres::fresh("connect"), mariadb: MariaDb::fresh("connect") };
        three.postgres.run(TABLE);
        three.mariadb.run(TABLE.trim_end_matches(';'));
        three
    }

    fn check(&self, queries: &str, more: &[&str]) -> Output {
        let config = format!(
            "databases:\n  pg: {}\n  my: {}\n  lite: {{driver: sqlite, database: shop.db}}\nqueries:\n{queries}",
            self.postgres.entry(),
            self.mariadb.entry(),
        );
        let folder = Setup::new(&config).file("shop.db", "");
        let database = rusqlite::Connection::open(folder.path().join("shop.db")).expect("a file");
        database.execute_batch(TABLE).expect("a table");
        folder.args(&["check", "--connect"]).args(more).output()
    }
}

const ALL: &str = "databases: [pg, my, lite]";

/// The findings of a target's queries, without the lints, each up to its `;`.
fn found(output: &Output) -> Vec<String> {
    let lines = output.text().lines().filter(|line| line.contains("queries[") && !line.contains("[L0"));
    lines.map(|line| line.split(';').next().unwrap_or_default().to_owned()).collect()
}

/// The marked piece of each finding: what stands above its caret.
fn marked(output: &Output) -> Vec<String> {
    let lines: Vec<&str> = output.text().lines().collect();
    let pairs = lines.windows(2).filter(|pair| pair[1].trim_start_matches(['|', ' ']) == "^");
    let word = |pair: &[&str]| {
        let rest = pair[0].chars().skip(pair[1].chars().count() - 1).collect::<String>();
        rest.split([' ', ',', '(']).next().unwrap_or_default().to_owned()
    };
    pairs.map(word).collect()
}

#[test]
fn a_good_query_is_described_on_each_target_and_not_run() {
    let three = Three::new();
    // It would fail in the first row.
    let query = format!(
        "  - {{name: orders, {ALL}, sql: 'SELECT region, 1 / 0 AS value FROM orders', metrics: [{{name: orders, help: x., labels: [region]}}]}}\n"
    );
    let output = three.check(&query, &[]);
    assert_eq!(output.code(), 0, "{}", output.text());
    let table: Vec<&str> = output.text().lines().skip_while(|line| !line.starts_with("target ")).collect();
    assert!(table[0].ends_with("described  skipped"), "{table:?}");
    for (line, (target, flavor)) in
        table[1..].iter().zip([("pg", "postgresql 15"), ("my", "mariadb 10"), ("lite", "sqlite 3")])
    {
        assert!(line.starts_with(target) && line.contains(flavor) && line.contains("primary"), "{line}");
        assert!(line.ends_with("        1        0"), "{line}");
    }
}

#[test]
fn a_wrong_statement_is_marked_in_its_block_and_beside_its_key() {
    let three = Three::new();
    let block = format!(
        "  - name: block\n    {ALL}\n    sql: |\n      SELECT region,\n        amnt AS value\n      FROM orders\n    metrics: [{{name: block, help: x., labels: [region]}}]\n"
    );
    let output = three.check(&block, &[]);
    assert_eq!(output.code(), 2);
    assert_eq!(marked(&output), ["amnt"; 3], "{}", output.text());
    assert!(
        found(&output).iter().all(|line| line.starts_with("error: sql-exporter.yaml:10:")),
        "{}",
        output.text()
    );
    let beside = format!(
        "  - {{name: beside, {ALL}, sql: SELECT 1 AS value FORM orders, metrics: [{{name: beside, help: x.}}]}}\n"
    );
    let output = three.check(&beside, &[]);
    assert_eq!(marked(&output), ["FORM"; 3], "{}", output.text());
    for (line, part) in found(&output).iter().zip([
        "target pg, query beside: syntax error at or near \"FORM\"",
        "target my, query beside: You have an error in your SQL syntax",
        "target lite, query beside: near \"FORM\": syntax error",
    ]) {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn columns_that_are_missing_unused_or_no_numbers_are_told_once_for_all_targets_that_say_so() {
    let three = Three::new();
    let queries = format!(
        "  - {{name: missing, {ALL}, sql: 'SELECT region, amount FROM orders', metrics: [{{name: missing, help: x., labels: [regoin], value_column: amount}}]}}
  - {{name: unused, {ALL}, sql: 'SELECT region, amount AS value, note FROM orders', metrics: [{{name: unused, help: x., labels: [region]}}]}}
  - {{name: text, {ALL}, sql: SELECT region AS value FROM orders, metrics: [{{name: text, help: x.}}]}}
  - {{name: mapped, {ALL}, sql: SELECT region AS value FROM orders, metrics: [{{name: mapped, help: x., map: {{a: 1}}}}]}}
  - {{name: json, databases: [pg], sql: \"SELECT '{{}}'::jsonb AS value\", metrics: [{{name: json, help: x.}}]}}
  - {{name: twice, databases: [pg], sql: 'SELECT region, region, amount AS value FROM orders', metrics: [{{name: twice, help: x., labels: [region]}}]}}
  - {{name: all, {ALL}, sql: 'SELECT * FROM orders WHERE amount > 0', metrics: [{{name: all, help: x., labels: [region], value_column: amount}}]}}
"
    );
    let output = three.check(&queries, &[]);
    let expected = [
        "error: sql-exporter.yaml:6:110: queries[0].metrics[0].name: target pg, my and lite, query missing: the result has no column `regoin`",
        "warning: sql-exporter.yaml:7:52: queries[1].sql: target pg, my and lite, query unused: column `note` is selected and used by no metric",
        "note: sql-exporter.yaml:8:102: queries[2].metrics[0].name: target pg, query text: column `value` is of type varchar, and value of text needs a number: each text must be one",
        "note: sql-exporter.yaml:8:102: queries[2].metrics[0].name: target my, query text: column `value` is of type VARCHAR, and value of text needs a number: each text must be one",
        "error: sql-exporter.yaml:10:94: queries[4].metrics[0].name: target pg, query json: column `value` is of type jsonb, which is not a number",
        // Nor is either of two columns unused where a label comes from one of them.
        "error: sql-exporter.yaml:11:106: queries[5].metrics[0].name: target pg, query twice: more than one column is called `region`",
    ];
    // Columns of the lines are another matter.
    let without = |line: &str| {
        let (place, rest) = line.split_once(": queries").unwrap_or_default();
        format!("{}: queries{rest}", place.rsplit_once(':').unwrap_or_default().0)
    };
    let told: Vec<String> = found(&output).iter().map(|line| without(line)).collect();
    let expected: Vec<String> = expected.iter().map(|line| without(line)).collect();
    assert_eq!(told, expected, "{}", output.text());
    assert!(output.text().contains("did you mean `region`?"), "{}", output.text());
    assert_eq!(output.code(), 2);
}

#[test]
fn what_when_decides_is_told() {
    let three = Three::new();
    let queries = "  - {name: old, databases: [pg, my], when: {version: '<10'}, sql: SELECT 1 AS value, metrics: [{name: old, help: x.}]}
  - {name: flavor, databases: [pg, my], when: {flavor: mariadb}, sql: SELECT 1 AS value, metrics: [{name: flavor, help: x.}]}
  - {name: replica, databases: [pg, my], when: {role: replica}, sql: SELECT 1 AS value, metrics: [{name: replica, help: x.}]}
  - {name: asked, databases: [pg, lite], when: {sql: SELECT 1 = 2}, sql: SELECT nonsense, metrics: [{name: asked, help: x.}]}
";
    let output = three.check(queries, &[]);
    assert_eq!(output.code(), 0, "{}", output.text());
    let skipped: Vec<&str> =
        output.text().lines().filter_map(|line| line.strip_prefix("skipped: ")).collect();
    let version = |line: &str| line.split(" 1").next().unwrap_or_default().to_owned();
    assert_eq!(
        skipped.iter().map(|line| version(line)).collect::<Vec<_>>(),
        [
            "target pg, query old: when.version: the server's is",
            "target pg, query flavor: when.flavor: the server's is postgresql",
            "target pg, query replica: when.role: the server's is primary",
            "target pg, query asked: when.sql returns false",
            "target my, query old: when.version: the server's is",
            "target my, query replica: when.role: the server's is primary",
            "target lite, query asked: when.sql returns false",
        ]
    );
}

#[test]
fn a_write_is_refused_and_nothing_is_written() {
    let three = Three::new();
    let writes = format!(
        "  - {{name: write, {ALL}, sql: DELETE FROM orders, metrics: [{{name: write, help: x.}}]}}\n"
    );
    let output = three.check(&writes, &[]);
    let lines = found(&output);
    assert!(
        lines.len() == 1
            && lines[0].contains("target pg, my and lite, query write: a statement may start with"),
        "{}",
        output.text()
    );
}

#[test]
fn a_target_that_cannot_be_reached_costs_no_other_one() {
    let three = Three::new();
    let query =
        "  - {name: one, databases: [pg, gone], sql: SELECT 1 AS value, metrics: [{name: one, help: x.}]}\n";
    let config = format!(
        "databases:\n  pg: {}\n  gone: {{driver: postgres, host: 127.0.0.1, port: 1, database: x, username: x}}\nqueries:\n{query}",
        three.postgres.entry()
    );
    let output = Setup::new(&config).args(&["check", "--connect", "--format", "json"]).output();
    assert_eq!(output.code(), 2, "{}", output.text());
    let document: Value = serde_json::from_str(output.text()).expect("JSON");
    let [pg, gone] = &document["targets"].as_array().expect("a list")[..] else { panic!("two targets") };
    assert_eq!((pg["target"].as_str(), pg["described"].as_u64()), (Some("pg"), Some(1)));
    assert_eq!((pg["flavor"].as_str(), pg["error"].is_null()), (Some("postgresql"), true));
    let error = gone["error"].as_str().unwrap_or_default();
    assert!(error.starts_with("target gone: connect to 127.0.0.1:1"), "{error}");
    assert!(gone["version"].is_null());
}

#[test]
fn a_standby_is_asked_as_what_it_is() {
    let primary = OwnPostgres::start(&[]);
    let standby = OwnPostgres::standby_of(primary.access());
    let config = format!(
        "databases:\n  pg: {}\nqueries:\n  - {{name: first, sql: SELECT nonsense, when: {{role: primary}}, metrics: [{{name: first, help: x.}}]}}\n  \
         - {{name: second, sql: SELECT 1 AS value, when: {{role: replica}}, metrics: [{{name: second, help: x.}}]}}\n",
        standby.access().entry()
    );
    let output = Setup::new(&config).args(&["check", "--connect"]).output();
    assert_eq!(output.code(), 0, "{}", output.text());
    assert!(output.text().contains("  replica          1        1\n"), "{}", output.text());
    assert!(output.text().contains("skipped: target pg, query first: when.role: the server's is replica\n"));
}

/// A configuration of one target that accepts connections and says nothing.
fn mute() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let config = format!(
        "databases:\n  mute: {{driver: postgres, host: 127.0.0.1, port: {port}, database: x, username: x, connect_timeout: 30s}}\nqueries:\n  - {{name: one, sql: SELECT 1 AS value, metrics: [{{name: one, help: x.}}]}}\n"
    );
    (listener, config)
}

/// A line on the terminal says what is waited for, and is wiped before the report.
#[test]
fn who_waits_at_a_terminal_sees_for_what() {
    let (_listener, config) = mute();
    let words = ["check", "--connect", "--timeout", "3s"];
    let output = Setup::new(&config).terminal(80).env("TERM", "xterm").args(&words).output();
    let text = output.text();
    let shown = text.find("checking the databases: 0 of 1 done");
    let wiped = text.rfind("\r\u{1b}[K");
    let report = text.find("target mute: ");
    assert!(shown.is_some() && shown < wiped && wiped < report, "{text:?}");
}

/// The databases have the time of `--timeout` and no more.
#[test]
fn a_server_that_is_silent_ends_at_the_deadline() {
    let (_listener, config) = mute();
    let began = std::time::Instant::now();
    let output = Setup::new(&config).args(&["check", "--connect", "--timeout", "1s"]).output();
    assert!(began.elapsed() < std::time::Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(output.text().contains("error: target mute: "), "{}", output.text());
    assert_eq!(output.code(), 2);
}
