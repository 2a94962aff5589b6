//! `foreach`: a query that runs once for each of several values, on real databases and on one that fails on purpose.

use crate::checker::{Page, checked};
use crate::exporter::{Exporter, Setup};
use crate::fault::{Act, Call, Fault};
use crate::scrape::{LONG, fails, fleet_with, scraped, success};
use crate::servers::{MariaDb, Postgres};

use sql_exporter::error::Reason;

const TABLE: &str = "CREATE TABLE orders (region varchar(40), cents int);\n\
     INSERT INTO orders VALUES ('north', 250), ('north', 50), ('south', 7), ('x''; DROP TABLE orders; --', 1);\n";

/// A value that would do harm if it were pasted, one with NULL, and a label beyond the last parameter.
const VALUES: &str = "{values: [{region: north, least: 100, name: N}, {region: \"x'; DROP TABLE orders; --\", least: 0, name: '\"'}, \
                      {region: ~, least: 0, name: none}]}";

struct World {
    postgres: Postgres,
    mariadb: MariaDb,
}

impl World {
    fn new(module: &str) -> World {
        let world = World { postgres: Postgres::fresh(module), mariadb: MariaDb::fresh(module) };
        world.postgres.run(TABLE);
        world.mariadb.run(TABLE);
        world
    }

    /// A folder with targets `pg`, `my` and `lite`, and a query `q` on each.
    fn setup(&self, more: &str, foreach: &str, statement: impl Fn(&str) -> String) -> Setup {
        let targets = [
            ("pg", self.postgres.entry_with(more)),
            ("my", self.mariadb.entry_with(more)),
            ("lite", format!("{{driver: sqlite, database: shop.db, {more}}}")),
        ];
        let (mut databases, mut queries) = (String::new(), String::new());
        for (name, entry) in targets {
            databases += &format!("  {name}: {entry}\n");
            queries += &format!(
                "  - name: q_{name}\n    database: {name}\n    foreach: {foreach}\n    sql: |\n      {}\n    \
                 metrics: [{{name: q}}, {{name: r, value_column: value, labels: [a]}}]\n",
                statement(name)
            );
        }
        let setup = Setup::new(&format!("databases:\n{databases}queries:\n{queries}"));
        let shop = rusqlite::Connection::open(setup.path().join("shop.db")).expect("a database");
        shop.execute_batch(TABLE).expect("a table");
        setup
    }
}

/// Orders of a region of at least so many cents, with the parameters of a database.
fn orders(target: &str) -> String {
    let (one, two) = if target == "pg" { ("$1", "$2") } else { ("?", "?") };
    format!("SELECT count(*) AS value, 'x' AS a FROM orders WHERE region = {one} AND cents >= {two}")
}

/// The value of `q` for one value of `foreach`.
fn value(page: &Page, target: &str, labels: &[(&str, &str)]) -> Option<f64> {
    page.value("q", &[&[("target", target)], labels].concat())
}

fn holds_all_values(exporter: &Exporter, targets: &[&str]) {
    // The first scrape prepares, the next ones run what is known, in groups where the protocol has some.
    for turn in 1..=3 {
        let text = exporter.metrics();
        let page = checked(&text);
        for target in targets {
            let labels = |region, least, name| [("region", region), ("least", least), ("name", name)];
            for (expected, labels) in [
                (1.0, labels("north", "100", "N")),
                (1.0, labels("x'; DROP TABLE orders; --", "0", "\"")),
                (0.0, labels("", "0", "none")),
            ] {
                assert_eq!(
                    value(&page, target, &labels),
                    Some(expected),
                    "{turn}, {target}: {text}{}",
                    exporter.log()
                );
            }
            let query = format!("q_{target}");
            assert_eq!(success(&page, target, &query), Some(1.0), "{}", exporter.log());
            let labels = [("target", *target), ("query", &*query), ("collector", "default")];
            assert_eq!(page.value("sql_exporter_query_rows", &labels), Some(3.0));
            assert_eq!(page.value("sql_exporter_query_series", &labels), Some(6.0));
        }
        // Sorted by name, whether they come from a column or a value.
        assert!(
            text.contains("\nr{target=\"pg\",a=\"x\",least=\"100\",name=\"N\",region=\"north\"} 1\n"),
            "{text}"
        );
    }
}

#[test]
fn each_value_is_bound_and_becomes_labels() {
    let world = World::new("foreach");
    let exporter = world.setup("", VALUES, orders).serve();
    holds_all_values(&exporter, &["pg", "my", "lite"]);
    let config = exporter.get("/config").text().to_owned();
    assert!(config.contains("foreach:") && config.contains("region: north"), "{config}");
}

#[test]
fn values_of_a_snapshot_are_read_in_its_transaction() {
    let world = World::new("foreach_snapshot");
    holds_all_values(&world.setup("snapshot: true", VALUES, orders).serve(), &["pg", "my", "lite"]);
}

#[test]
fn a_pooler_passes_parameters_on() {
    let server = Postgres::fresh("foreach_pooler");
    server.run(TABLE);
    let exporter = Exporter::serve(&format!(
        "databases:\n  pg: {}\nqueries:\n  - {{name: q_pg, foreach: {VALUES}, sql: \"{}\", metrics: [{{name: q}}, {{name: r, labels: [a]}}]}}\n",
        server.through_pgbouncer().entry(),
        orders("pg")
    ));
    holds_all_values(&exporter, &["pg"]);
}

#[test]
fn a_thousand_values_are_one_result() {
    let world = World::new("foreach_many");
    let (n, rows) = ("foreach_n", 1_000);
    world.postgres.run(&format!("CREATE TABLE {n} AS SELECT generate_series(1, {rows}) AS n"));
    world.mariadb.run(&format!("CREATE TABLE {n} AS SELECT seq AS n FROM seq_1_to_{rows}"));
    let statement = |target: &str| {
        format!("SELECT 2 AS value, 'x' AS a FROM {n} WHERE n = {}", if target == "pg" { "$1" } else { "?" })
    };
    let setup = world.setup("", &format!("{{sql: SELECT n FROM {n}}}"), statement);
    let shop = rusqlite::Connection::open(setup.path().join("shop.db")).expect("a database");
    let numbers =
        format!("WITH RECURSIVE s(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM s WHERE n < {rows})");
    shop.execute_batch(&format!("CREATE TABLE {n} (n INTEGER); INSERT INTO {n} {numbers} SELECT n FROM s"))
        .expect("rows");
    let exporter = setup.serve();
    for _ in 0..2 {
        let header = [("X-Prometheus-Scrape-Timeout-Seconds", "120")];
        let page = checked(exporter.get_with("/metrics", &header).text());
        for target in ["pg", "my", "lite"] {
            let count = page.series("q").iter().filter(|row| row.labels["target"] == target).count();
            assert_eq!(count, rows, "{target}: {}", exporter.log());
            assert_eq!(success(&page, target, &format!("q_{target}")), Some(1.0));
        }
    }
}

/// A statement that fails for the value `bad`.
fn fails_for_bad(target: &str) -> String {
    let (parameter, failing) = match target {
        "pg" => ("$1", "(SELECT 1 UNION SELECT 2)"),
        "my" => ("?", "(SELECT 1 UNION SELECT 2)"),
        _ => ("?", "abs(-9223372036854775807 - 1)"),
    };
    format!("SELECT CASE WHEN {parameter} = 'bad' THEN {failing} ELSE 7 END AS value, 'x' AS a")
}

#[test]
fn a_value_that_fails_costs_its_own_series_and_is_named() {
    let world = World::new("foreach_bad");
    let values = "{values: [{v: good}, {v: bad}, {v: fine}]}";
    let exporter = world.setup("", values, fails_for_bad).serve();
    for turn in 1..=3 {
        let page = checked(&exporter.metrics());
        for target in ["pg", "my", "lite"] {
            for (name, expected) in [("good", Some(7.0)), ("bad", None), ("fine", Some(7.0))] {
                assert_eq!(
                    value(&page, target, &[("v", name)]),
                    expected,
                    "{turn}, {target}: {}",
                    exporter.log()
                );
            }
            let query = format!("q_{target}");
            assert_eq!(success(&page, target, &query), Some(0.0), "{turn}, {target}");
            let rows = page.value(
                "sql_exporter_query_rows",
                &[("target", target), ("query", &query), ("collector", "default")],
            );
            assert_eq!(rows, Some(2.0));
            assert_eq!(page.value("sql_exporter_target_up", &[("target", target)]), Some(1.0));
        }
    }
    let named = "1 of 3 values of foreach failed (v=\"bad\"): ";
    for target in ["pg", "my", "lite"] {
        exporter.wait_for_log(&format!("query q_{target} on"));
    }
    assert_eq!(exporter.log().matches(named).count(), 3, "one line a query: {}", exporter.log());
    let status = exporter.get("/").text().to_owned();
    assert!(status.contains("v=&quot;bad&quot;") || status.contains("v=\"bad\""), "{status}");
}

#[test]
fn rows_of_a_statement_are_values() {
    let world = World::new("foreach_sql");
    let values = "{sql: 'SELECT region, min(cents) AS least FROM orders GROUP BY region ORDER BY 1'}";
    let exporter = world.setup("", values, orders).serve();
    for _ in 0..2 {
        let page = checked(&exporter.metrics());
        for target in ["pg", "my", "lite"] {
            let of = |region, least| value(&page, target, &[("region", region), ("least", least)]);
            assert_eq!(
                (of("north", "50"), of("south", "7")),
                (Some(2.0), Some(1.0)),
                "{target}: {}",
                exporter.log()
            );
            assert_eq!(success(&page, target, &format!("q_{target}")), Some(1.0));
        }
    }
    world.postgres.run("DELETE FROM orders");
    let page = checked(&exporter.metrics());
    assert_eq!(success(&page, "pg", "q_pg"), Some(1.0), "an empty list is not an error: {}", exporter.log());
    assert!(page.series("q").iter().all(|row| row.labels["target"] != "pg"));
}

#[test]
fn a_statement_whose_rows_cannot_be_values_fails_the_query() {
    let server = Postgres::fresh("foreach_sql_bad");
    let cases = [
        ("SELECT 1 AS \"the region\"", "foreach.sql: the column `the region` cannot be a label"),
        ("SELECT 1 AS a", "metric m1 has a label of this name"),
        ("SELECT 1 AS env", "the target has a label of this name"),
        ("SELECT 1 AS target", "the target has a label of this name"),
        ("SELECT 1 AS le", "reserved for histograms"),
        ("SELECT generate_series(1, 1001) AS n", "more than 1000 values"),
        ("SELECT repeat('x', 600000) AS n UNION ALL SELECT repeat('y', 600000)", "more than 1048576 bytes"),
        ("SELECT nonsense", "foreach.sql: column \"nonsense\" does not exist"),
        ("SELECT 1 AS n UNION ALL SELECT 1", "another value has the same labels"),
        ("SELECT repeat('x', 2000) AS n", "max_label_length is 1024"),
        (r"SELECT '\x00ff'::bytea AS n", "the column `n` holds bytes that are not text"),
    ];
    let query = |(index, (sql, _)): (usize, &(&str, &str))| {
        format!(
            "  - name: q{index}\n    foreach:\n      sql: {sql}\n    sql: SELECT 1 AS value, 2 AS a WHERE $1 <> ''\n    \
             metrics: [{{name: m{index}, labels: [a]}}]\n"
        )
    };
    let queries: String = cases.iter().enumerate().map(query).collect();
    let exporter = Exporter::serve(&format!(
        "databases:\n  db: {}\nqueries:\n{queries}",
        server.entry_with("labels: {env: prod}")
    ));
    exporter.metrics();
    for index in 0..cases.len() {
        exporter.wait_for_log(&format!("query q{index} on"));
    }
    let log = exporter.log();
    for (index, (sql, message)) in cases.iter().enumerate() {
        let line = log.lines().find(|line| line.contains(&format!("query q{index} on")));
        assert!(line.is_some_and(|line| line.contains(message)), "{sql}, {message}: {line:?}\n{log}");
    }
}

#[test]
fn the_timeout_is_for_all_values_together() {
    let server = Postgres::fresh("foreach_timeout");
    let exporter = Exporter::serve(&format!(
        "databases:\n  db: {}\nqueries:\n  - {{name: q, timeout: 2s, foreach: {{values: [{{s: 0}}, {{s: 60}}]}},\n     \
         sql: 'SELECT 7 AS value FROM pg_sleep($1)', metrics: [{{name: q}}]}}\n",
        server.entry()
    ));
    for _ in 0..2 {
        let page = checked(&exporter.metrics());
        assert_eq!(page.value("q", &[("target", "db"), ("s", "0")]), Some(7.0), "{}", exporter.log());
        assert!(fails(&page, "db", "q", Reason::Timeout), "{}", exporter.log());
    }
}

/// A query with three values on a scripted database.
fn scripted(more: &str, act: impl Fn(Call) -> Act + Send + Sync + 'static) -> (Page, std::sync::Arc<Fault>) {
    let fault = Fault::new(act);
    let rest = format!(
        "queries:\n  - {{name: q, database: a, foreach: {{values: [{{v: a}}, {{v: b}}, {{v: c}}]}}, sql: 'SELECT ?', {more}\
         metrics: [{{name: q, duplicates: first}}]}}\n"
    );
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], &rest);
    (scraped(&fleet, LONG).0, fault)
}

fn shown(page: &Page) -> Vec<&str> {
    ["a", "b", "c"].into_iter().filter(|v| value(page, "a", &[("v", v)]).is_some()).collect()
}

#[test]
fn a_value_that_kills_its_session_fails_alone() {
    // Together with the first one, as the first of a fresh session, and alone.
    let (page, fault) =
        scripted("", |call| if let Call::Run(2..=4) = call { Act::Lose } else { Act::Rows(1) });
    assert_eq!(shown(&page), ["a", "c"], "{:?}", fault.log());
    assert!(fails(&page, "a", "q", Reason::Lost), "{:?}", fault.log());
}

#[test]
fn a_session_that_is_spent_under_a_value_leaves_the_others_to_the_next_one() {
    let (page, fault) = scripted("", |call| match call {
        Call::Run(2) => Act::Cut(Reason::Timeout),
        _ => Act::Rows(1),
    });
    assert_eq!(shown(&page), ["a", "c"], "{:?}", fault.log());
    assert!(fails(&page, "a", "q", Reason::Timeout), "{:?}", fault.log());
}

#[test]
fn values_that_kill_every_session_open_no_login_storm() {
    let (page, fault) = scripted("", |call| if let Call::Run(_) = call { Act::Lose } else { Act::Rows(1) });
    assert_eq!(shown(&page), [""; 0]);
    assert!(fails(&page, "a", "q", Reason::Lost), "{:?}", fault.log());
    let connects = fault.log().iter().filter(|call| matches!(call, Call::Connect(_))).count();
    assert!(connects <= 5, "{:?}", fault.log());
}

#[test]
fn the_good_values_stay_when_no_further_session_opens() {
    let (page, fault) = scripted("", |call| match call {
        Call::Run(2) => Act::Lose,
        Call::Connect(2..) => Act::Fail(Reason::Connect),
        _ => Act::Rows(1),
    });
    assert_eq!(shown(&page), ["a"], "{:?}", fault.log());
    assert!(fails(&page, "a", "q", Reason::Connect), "{:?}", fault.log());
}

#[test]
fn limits_hold_over_all_values() {
    for limit in ["max_rows: 4, ", "max_series: 2, "] {
        let (page, fault) = scripted(limit, |_| Act::Rows(2));
        assert_eq!(shown(&page), ["a", "b"], "{limit}: {:?}", fault.log());
        assert!(fails(&page, "a", "q", Reason::Limit));
    }
}

#[test]
fn a_query_of_which_a_value_fails_is_not_reused() {
    let fault = Fault::new(|call| if call == Call::Run(2) { Act::Fail(Reason::Sql) } else { Act::Rows(1) });
    let rest = "queries:\n  - {name: q, database: a, interval: 1h, keep_last: 1h, foreach: {values: [{v: a}, {v: b}, {v: c}]}, \
                sql: 'SELECT ?', metrics: [{name: q}]}\n";
    let fleet = fleet_with("max_connections: 1", &[("a", &fault)], rest);
    assert_eq!(shown(&scraped(&fleet, LONG).0), ["a", "c"]);
    assert_eq!(shown(&scraped(&fleet, LONG).0), ["a", "b", "c"], "{:?}", fault.log());
    let runs = fault.log().len();
    assert_eq!(shown(&scraped(&fleet, LONG).0), ["a", "b", "c"]);
    assert!(
        !fault.log()[runs..].iter().any(|call| matches!(call, Call::Run(_))),
        "reused: {:?}",
        fault.log()
    );
}

#[test]
fn try_runs_each_value() {
    let world = World::new("foreach_try");
    for target in ["pg", "my", "lite"] {
        let setup = world.setup("", VALUES, orders);
        let output = setup.args(&["try", "--query", &format!("q_{target}"), "--plan"]).output();
        assert_eq!(output.code(), 0, "{}{}", output.text(), output.errors());
        assert!(
            output.text().contains("q{target=\"") && output.text().contains("name=\"N\",region=\"north\"} 1"),
            "{}",
            output.text()
        );
        let setup = world.setup("", "{values: [{v: good}, {v: bad}]}", fails_for_bad);
        let output = setup.args(&["try", "--query", &format!("q_{target}")]).output();
        let all = format!("{}{}", output.text(), output.errors());
        assert_eq!(output.code(), 1, "{all}");
        assert!(
            all.contains("v=\"good\"} 7") && all.contains("1 of 2 values of foreach failed (v=\"bad\"): "),
            "{all}"
        );
    }
}

#[test]
fn check_describes_statements_with_parameters() {
    let world = World::new("foreach_check");
    let output = world.setup("", VALUES, orders).args(&["check", "--connect"]).output();
    assert_eq!(output.code(), 0, "{}{}", output.text(), output.errors());
    let sql = "{sql: SELECT DISTINCT region FROM orders}";
    let output = world.setup("", sql, orders).args(&["check", "--connect"]).output();
    let too_few = "the statement has 2 parameters, and foreach gives 1";
    assert_eq!(output.text().matches(too_few).count(), 3, "{}{}", output.text(), output.errors());
    // So says a scrape.
    let exporter = world.setup("", sql, orders).serve();
    exporter.metrics();
    for target in ["pg", "my", "lite"] {
        exporter.wait_for_log(&format!("query q_{target} on"));
    }
    assert_eq!(exporter.log().matches(too_few).count(), 3, "once for all values: {}", exporter.log());
}

#[test]
fn a_parameter_without_foreach_is_told_on_every_database() {
    let world = World::new("foreach_none");
    let setup = world.setup("", VALUES, orders);
    let path = setup.path().join("sql-exporter.yaml");
    let config = std::fs::read_to_string(&path).expect("a configuration");
    let line = format!("    foreach: {VALUES}\n");
    assert_eq!(config.matches(&line).count(), 3);
    let output = setup.file("sql-exporter.yaml", &config.replace(&line, "")).args(&["--once"]).output();
    let message = "the statement has 2 parameters, and there is no foreach; write the value in its place";
    assert_eq!(output.errors().matches(message).count(), 3, "{}", output.errors());
}

/// Tests in files with queries: with rows, with a script, and with the values of `foreach.sql`.
#[test]
fn query_tests_run_each_value() {
    let query = |foreach: &str| {
        format!(
            "databases: {{shop: {{driver: sqlite, database: shop.db}}}}\nqueries:\n\
             \x20 - {{name: q, foreach: {foreach}, sql: 'SELECT count(*) AS n FROM orders WHERE region = ?', \
             metrics: [{{name: q, value_column: n}}]}}\ntests:\n"
        )
    };
    let expected = |north: u8, south: u8| {
        format!(
            "    exposition: |\n      q{{region=\"north\"}} {north}\n      q{{region=\"south\"}} {south}\n"
        )
    };
    let script = "    sqlite: |\n      CREATE TABLE orders (region TEXT);\n      CREATE TABLE regions (region TEXT);\n      \
                  INSERT INTO regions VALUES ('north'), ('south');\n      INSERT INTO orders VALUES ('north'), ('north');\n";
    let rows = "    rows: [{n: 3}]\n";
    let values = "{values: [{region: north}, {region: south}]}";
    let sql = "{sql: SELECT region FROM regions}";
    let given = "    foreach: [{region: north}, {region: south}]\n";
    let test = |name: &str, body: &str| format!("  - name: {name}\n    query: q\n{body}");
    for config in [
        query(values)
            + &test("rows", &(rows.to_owned() + &expected(3, 3)))
            + &test("script", &(script.to_owned() + &expected(2, 0))),
        query(sql)
            + &test("rows", &(given.to_owned() + rows + &expected(3, 3)))
            + &test("script", &(script.to_owned() + &expected(2, 0)))
            + &test(
                "no such table",
                "    sqlite: CREATE TABLE orders (region TEXT)\n    error: 'foreach.sql: no such table'\n",
            ),
    ] {
        let output = Setup::new(&config).args(&["check"]).output();
        assert_eq!(output.code(), 0, "{config}\n{}{}", output.text(), output.errors());
        let wrong = config.replace("\"south\"} 0", "\"south\"} 1");
        assert_ne!(Setup::new(&wrong).args(&["check"]).output().code(), 0, "{wrong}");
    }
}
