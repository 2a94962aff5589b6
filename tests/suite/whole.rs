//! The built exporter over all three databases: a slow query, a frozen server and a large result, from outside.

use std::time::{Duration, Instant};

use crate::checker::Page;
use crate::exporter::{Exporter, Setup};
use crate::judges::judge;
use crate::process::wait_for;
use crate::servers::own::OwnPostgres;
use crate::servers::{MariaDb, Postgres};

/// One page under a scrape timeout as Prometheus sends it, and how long it took.
fn within(exporter: &Exporter, seconds: &str) -> (Page, Duration) {
    let asked = Instant::now();
    let reply = exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", seconds)]);
    let took = asked.elapsed();
    assert_eq!(reply.status, 200, "{}", reply.text());
    (judge(reply.text()), took)
}

fn reason(page: &Page, query: &str, reason: &str) -> Option<f64> {
    page.value("sql_exporter_query_failure_reason", &[("query", query), ("reason", reason)])
}

/// Statements of the server that hold `mark`, beside the one that asks.
fn running(postgres: &Postgres, mark: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity \
         WHERE state = 'active' AND query LIKE '%' || $1 || '%' AND pid <> pg_backend_pid()";
    postgres.client().query_one(sql, &[&mark]).expect("PostgreSQL answers").get(0)
}

#[test]
fn a_page_leaves_in_time_and_what_was_too_slow_has_ended_in_the_servers() {
    let (postgres, mariadb) = (Postgres::fresh("whole"), MariaDb::fresh("whole"));
    let exporter = Exporter::serve(&format!(
        "databases:\n  pg: {}\n  my: {}\n\
         queries:\n\
         - {{name: slow_pg, database: pg, sql: SELECT 1 AS value FROM pg_sleep(60) AS whole_mark, metrics: [{{name: slow_pg}}]}}\n\
         - {{name: slow_my, database: my, sql: SELECT sleep(60) AS value, metrics: [{{name: slow_my}}]}}\n\
         - {{name: fast, databases: ['*'], sql: SELECT 1 AS value, metrics: [{{name: fast}}]}}\n",
        postgres.entry(),
        mariadb.entry(),
    ));
    let (page, took) = within(&exporter, "2");
    assert!(took < Duration::from_millis(1950), "Prometheus would have given up: {took:?}");
    assert_eq!(reason(&page, "slow_pg", "timeout"), Some(1.0));
    assert_eq!(reason(&page, "slow_my", "timeout"), Some(1.0));
    for target in ["pg", "my"] {
        assert_eq!(page.value("fast", &[("target", target)]), Some(1.0), "{target}");
    }
    wait_for("the slow statement to end in PostgreSQL", || {
        (running(&postgres, "whole_mark") == 0).then_some(())
    });
    wait_for("the slow statement to end in MariaDB", || {
        let mut client = mariadb.client();
        let list = "SELECT count(*) FROM information_schema.processlist \
             WHERE info LIKE '%sleep(60)%' AND id <> connection_id()";
        let left: Option<i64> =
            mysql::prelude::Queryable::query_first(&mut client, list).expect("MariaDB answers");
        (left == Some(0)).then_some(())
    });
}

#[test]
fn a_frozen_server_costs_its_own_rows_and_nobody_elses() {
    let frozen = OwnPostgres::start(&[]);
    let mariadb = MariaDb::fresh("whole");
    let exporter = Exporter::serve(&format!(
        "databases:\n  pg: {}\n  my: {}\n\
         queries: [{{name: fast, databases: ['*'], sql: SELECT 1 AS value, metrics: [{{name: fast}}]}}]\n",
        frozen.access().entry(),
        mariadb.entry()
    ));
    let (page, _) = within(&exporter, "10");
    assert_eq!(page.series("fast").len(), 2);
    frozen.freeze();
    for _ in 0..2 {
        let (page, took) = within(&exporter, "1");
        assert!(took < Duration::from_millis(950), "{took:?}");
        assert_eq!(page.value("fast", &[("target", "my")]), Some(1.0));
        assert_eq!(page.value("fast", &[("target", "pg")]), None);
        assert_eq!(page.value("sql_exporter_query_success", &[("target", "pg")]), Some(0.0));
    }
    frozen.thaw();
    wait_for("the thawed server to be good again", || {
        let (page, _) = within(&exporter, "5");
        page.value("fast", &[("target", "pg")]).map(|_| ())
    });
}

/// Most memory that the exporter ever held, in bytes.
fn peak(exporter: &Exporter) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.pid())).expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let digits: String = line.chars().filter(char::is_ascii_digit).collect();
    digits.parse::<usize>().expect("a number") * 1024
}

const LARGE: &str = "
queries:
  - name: large
    sql: SELECT n, label FROM large
    max_series: 200000
    metrics: [{name: large, labels: [label], value_column: n}]
";

/// 100,000 rows cost the page and 8 MiB, not the rows. The first page, without rows, has opened the session.
fn streams(setup: Setup, fill: impl FnOnce()) {
    let exporter = setup.serve();
    judge(&exporter.metrics());
    let before = peak(&exporter);
    fill();
    let text = exporter.metrics();
    let used = peak(&exporter) - before;
    assert_eq!(text.matches("\nlarge{").count(), 100_000);
    assert!(used <= text.len() + (8 << 20), "{} KiB for a page of {} KiB", used >> 10, text.len() >> 10);
}

#[test]
fn a_hundred_thousand_rows_of_postgres_stream_through() {
    let postgres = Postgres::fresh("whole");
    postgres.run("CREATE TABLE large (n int, label text)");
    let setup = Setup::new(&format!("databases:\n  db: {}{LARGE}", postgres.entry()));
    streams(setup, || {
        let rows = "SELECT n, 'some text that is long enough ' || n FROM generate_series(1, 100000) AS n";
        postgres.run(&format!("INSERT INTO large {rows}"));
    });
}

#[test]
fn a_hundred_thousand_rows_of_mariadb_stream_through() {
    let mariadb = MariaDb::fresh("whole");
    mariadb.run("CREATE TABLE large (n int, label text)");
    let setup = Setup::new(&format!("databases:\n  db: {}{LARGE}", mariadb.entry()));
    streams(setup, || {
        let rows = "SELECT seq, concat('some text that is long enough ', seq) FROM seq_1_to_100000";
        mariadb.run(&format!("INSERT INTO large {rows}"));
    });
}

#[test]
fn a_hundred_thousand_rows_of_sqlite_stream_through() {
    let setup = Setup::new(&format!("databases: {{db: {{driver: sqlite, database: a.db}}}}{LARGE}"));
    let file = rusqlite::Connection::open(setup.path().join("a.db")).expect("a file can be made");
    file.execute_batch("CREATE TABLE large (n int, label text)").expect("SQLite writes");
    streams(setup, || {
        let rows = "WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 100000) \
             SELECT n, 'some text that is long enough ' || n FROM s";
        file.execute_batch(&format!("INSERT INTO large {rows}")).expect("SQLite writes");
    });
}
