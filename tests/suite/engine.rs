//! One slow or broken query, one refused password: what each may cost, and what it may not.

use std::ops::Not;
use std::time::Duration;

use crate::checker::Page;
use crate::exporter::{Exporter, Setup};
use crate::judges::judge;
use crate::process::wait_for;
use crate::servers::{MariaDb, Postgres};

fn within(exporter: &Exporter, seconds: &str) -> Page {
    let reply = exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", seconds)]);
    assert_eq!(reply.status, 200, "{}", reply.text());
    judge(reply.text())
}

fn query(name: &str, targets: &str, sql: &str) -> String {
    format!("- {{name: {name}, databases: [{targets}], sql: \"{sql}\", metrics: [{{name: {name}}}]}}\n")
}

#[test]
fn a_slow_query_puts_no_target_into_back_off_and_starves_no_other() {
    let (postgres, mariadb) = (Postgres::fresh("engine"), MariaDb::fresh("engine"));
    let one = "max_connections: 1";
    let exporter = Exporter::serve(&format!(
        "databases:\n  pg: {}\n  my: {}\nqueries:\n{}{}{}",
        postgres.entry_with(one),
        mariadb.entry_with(one),
        query("fast", "pg, my", "SELECT 1 AS value"),
        query("slow_pg", "pg", "SELECT 1 AS value FROM pg_sleep(60)"),
        query("slow_my", "my", "SELECT sleep(60) AS value"),
    ));
    within(&exporter, "1");
    for _ in 0..3 {
        let page = within(&exporter, "1");
        for target in ["pg", "my"] {
            let value = |name| page.value(name, &[("target", target)]);
            assert_eq!(value("fast"), Some(1.0), "{target}: {}", exporter.log());
            assert_eq!(value("sql_exporter_target_up"), Some(1.0), "{target}: {}", exporter.log());
            assert_eq!(value("sql_exporter_target_backoff_seconds"), Some(0.0), "{target}");
        }
    }
    assert!(!exporter.log().contains("is down"), "{}", exporter.log());
}

/// On a busy machine an answer in time may be read too late, and nothing then tells that the server is there.
#[test]
fn a_target_that_stopped_its_only_query_in_time_is_up() {
    wait_for("a page on which all three are up", || {
        ups_under_slow_queries().contains(&Some(0.0)).not().then_some(())
    });
}

fn ups_under_slow_queries() -> [Option<f64>; 3] {
    let (postgres, mariadb) = (Postgres::fresh("engine"), MariaDb::fresh("engine"));
    postgres.run("CREATE TABLE gate AS SELECT 0.0::float8 AS pause");
    mariadb.run("CREATE TABLE gate AS SELECT CAST(0 AS double) AS pause");
    let setup = Setup::new(&format!(
        "databases:\n  pg: {}\n  my: {}\n  lite: {{driver: sqlite, database: a.db}}\nqueries:\n{}{}{}",
        postgres.entry(),
        mariadb.entry(),
        query("gated_pg", "pg", "SELECT 1 AS value FROM gate WHERE pg_sleep(pause) IS NOT NULL"),
        query("gated_my", "my", "SELECT sleep(pause) AS value FROM gate"),
        query(
            "gated_lite",
            "lite",
            "WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s, gate WHERE n < pause) SELECT count(*) AS value FROM s"
        ),
    ));
    let file = rusqlite::Connection::open(setup.path().join("a.db")).expect("a file can be made");
    file.execute_batch("CREATE TABLE gate AS SELECT 0 AS pause").expect("SQLite writes");
    let exporter = setup.serve();
    let targets = ["pg", "my", "lite"];
    let success =
        |page: &Page| targets.map(|target| page.value("sql_exporter_query_success", &[("target", target)]));
    assert_eq!(success(&within(&exporter, "5")), [Some(1.0); 3], "{}", exporter.log());
    postgres.run("UPDATE gate SET pause = 60");
    mariadb.run("UPDATE gate SET pause = 60");
    file.execute_batch("UPDATE gate SET pause = 1000000000000").expect("SQLite writes");
    let page = within(&exporter, "2");
    assert_eq!(success(&page), [Some(0.0); 3], "{}", exporter.log());
    targets.map(|target| page.value("sql_exporter_target_up", &[("target", target)]))
}

#[test]
fn a_refused_password_is_not_tried_once_a_query() {
    let postgres = Postgres::fresh("engine");
    let queries: String =
        (0..20).map(|number| query(&format!("q{number}"), "db", "SELECT 1 AS value")).collect();
    let entry = postgres.entry_with("max_connections: 2").replace(&postgres.password, "wrong");
    let exporter = Exporter::serve(&format!("databases:\n  db: {entry}\nqueries:\n{queries}"));
    let page = within(&exporter, "5");
    let tried =
        page.value("sql_exporter_target_connect_failures_total", &[("target", "db"), ("reason", "auth")]);
    assert!(tried.is_some_and(|tried| tried <= 2.0), "{tried:?}: {}", exporter.log());
    for number in 0..20 {
        let labels = [("query", &*format!("q{number}")), ("reason", "auth")];
        assert_eq!(page.value("sql_exporter_query_failure_reason", &labels), Some(1.0), "q{number}");
    }
}

#[test]
fn a_short_deadline_says_nothing_of_the_server() {
    let postgres = Postgres::fresh("engine");
    let exporter = Exporter::serve(&format!(
        "databases:\n  db: {}\nqueries:\n{}",
        postgres.entry(),
        query("fast", "db", "SELECT 1 AS value"),
    ));
    let page = within(&exporter, "0.01");
    assert_eq!(page.value("sql_exporter_target_backoff_seconds", &[("target", "db")]), Some(0.0));
    wait_for("a good page", || within(&exporter, "5").value("fast", &[]).map(|_| Duration::ZERO));
}
