//! The deadline of a scrape as Prometheus sends it: what the header may say, who is on the page, who shares a run.

use std::time::{Duration, Instant};

use crate::checker::{Page, checked};
use crate::command::setup;
use crate::exporter::{Exporter, Setup};
use crate::process::wait_for;
use crate::scrape::{fails, success};
use crate::servers::{MariaDb, Postgres};
use sql_exporter::error::Reason;

const HEADER: &str = "X-Prometheus-Scrape-Timeout-Seconds";

fn scrape(exporter: &Exporter, headers: &[(&str, &str)]) -> Page {
    let reply = exporter.get_with("/metrics", headers);
    assert_eq!(reply.status, 200, "{}", exporter.log());
    checked(reply.text())
}

#[test]
fn a_header_that_is_no_time_is_ignored_and_a_long_one_is_an_hour() {
    let exporter = setup("databases: {shop: {driver: sqlite, database: shop.db}}\n").serve();
    let timeout = |values: &[&str]| {
        let headers: Vec<(&str, &str)> = values.iter().map(|value| (HEADER, *value)).collect();
        scrape(&exporter, &headers).value("sql_exporter_scrape_timeout_seconds", &[]).expect("a time")
    };
    for values in [&["NaN"][..], &["-1"], &["inf"], &[""], &["0"], &["5 s"], &["5", "5"], &[]] {
        assert_eq!(timeout(values), 10.0, "{values:?}: the configured time");
    }
    assert_eq!(timeout(&["5"]), 4.5, "less the offset");
    assert_eq!(timeout(&["1"]), 0.75, "less a quarter at most");
    assert_eq!(timeout(&["1e300"]), 3599.5);
}

/// Ten healthy queries and one that hangs, on one target.
fn ten_and_one(entry: &str, hanging: &str) {
    let healthy: String = (0..10)
        .map(|n| format!("  - {{name: q{n}, sql: SELECT {n} AS value, metrics: [{{name: q{n}_value}}]}}\n"))
        .collect();
    let hanging = format!("  - {{name: stuck, sql: \"{hanging}\", metrics: [{{name: stuck_value}}]}}\n");
    let exporter = Setup::new(&format!("databases:\n  db: {entry}\nqueries:\n{hanging}{healthy}")).serve();
    for _ in 0..3 {
        let began = Instant::now();
        let page = scrape(&exporter, &[(HEADER, "3")]);
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        let good = (0..10).filter(|n| success(&page, "db", &format!("q{n}")) == Some(1.0)).count();
        assert_eq!(good, 10, "{}", exporter.log());
        assert!(fails(&page, "db", "stuck", Reason::Timeout), "{}", exporter.log());
    }
    let log = exporter.log();
    assert_eq!(log.matches("query stuck on target db fails: timeout").count(), 1, "said once:\n{log}");
}

#[test]
fn ten_of_ten_beside_one_that_hangs_on_postgres() {
    ten_and_one(&Postgres::fresh("deadline").entry(), "SELECT pg_sleep(60)::text AS value");
}

#[test]
fn ten_of_ten_beside_one_that_hangs_on_mariadb() {
    ten_and_one(&MariaDb::fresh("deadline").entry(), "SELECT sleep(60) AS value");
}

/// Ten scrapes at once of one query that runs for a second, while `running` counts it in the server's own list.
fn one_statement(entry: &str, sql: &str, mut running: impl FnMut() -> usize) {
    let config = format!(
        "databases:\n  db: {entry}\nqueries:\n  - {{name: q, sql: \"{sql}\", metrics: [{{name: q_value}}]}}\n"
    );
    let exporter = Exporter::serve(&config);
    let most = std::thread::scope(|scope| {
        let scrapes: Vec<_> = (0..10).map(|_| scope.spawn(|| scrape(&exporter, &[]))).collect();
        wait_for("the statement", || (running() > 0).then_some(()));
        let mut most = 0;
        while scrapes.iter().any(|scrape| !scrape.is_finished()) {
            most = most.max(running());
        }
        for scrape in scrapes {
            assert_eq!(success(&scrape.join().expect("a page"), "db", "q"), Some(1.0));
        }
        most
    });
    assert_eq!(most, 1, "statements at once");
    let joined = scrape(&exporter, &[]).value("sql_exporter_runs_joined_total", &[]).expect("a count");
    assert_eq!(joined, 9.0);
}

#[test]
fn ten_scrapes_at_once_are_one_statement_on_postgres() {
    let server = Postgres::fresh("together");
    let mut watch = server.client();
    let count = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%together_mark%' \
                 AND pid <> pg_backend_pid()";
    one_statement(&server.entry(), "SELECT 1 AS value FROM (SELECT pg_sleep(2)) AS together_mark", || {
        usize::try_from(watch.query_one(count, &[]).expect("a count").get::<_, i64>(0)).expect("small")
    });
}

#[test]
fn ten_scrapes_at_once_are_one_statement_on_mariadb() {
    use mysql::prelude::Queryable;
    let server = MariaDb::fresh("together");
    let mut watch = server.client();
    let count = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%together_mark%' \
                 AND id <> connection_id()";
    one_statement(&server.entry(), "SELECT sleep(2) + 1 AS value /* together_mark */", || {
        watch.query_first::<usize, _>(count).expect("a count").unwrap_or(0)
    });
}
