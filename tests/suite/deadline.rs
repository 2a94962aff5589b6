//! The deadline of a scrape as Prometheus sends it: what the header may say, who is on the page, who shares a run.

use std::time::{Duration, Instant};

use crate::checker::{Page, checked};
use crate::command::setup;
use crate::conformance::subject::Subject;
use crate::conformance::subject::sqlite::Sqlite;
use crate::exporter::Exporter;
use crate::process::wait_for;
use crate::scrape::success;
use crate::servers::{MariaDb, Postgres};

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

/// How many scrapes with a header of one second; `DEADLINE_SCRAPES=100` is the whole claim, in 75 s.
fn short_scrapes() -> usize {
    std::env::var("DEADLINE_SCRAPES").ok().and_then(|count| count.parse().ok()).unwrap_or(10)
}

/// On each of three targets ten healthy queries and one that hangs.
fn ten_and_one() -> Exporter {
    let hanging = [
        ("pg", Postgres::fresh("deadline").entry(), "SELECT pg_sleep(60)::text AS value"),
        ("my", MariaDb::fresh("deadline").entry(), "SELECT sleep(60) AS value"),
        ("lite", "{driver: sqlite, database: shop.db}".to_owned(), Sqlite::ENDLESS),
    ];
    let mut config = "databases:\n".to_owned();
    for (target, entry, _) in &hanging {
        config.push_str(&format!("  {target}: {entry}\n"));
    }
    config.push_str("queries:\n");
    for (target, _, sql) in hanging {
        let stuck = format!(
            "{{name: stuck_{target}, database: {target}, sql: \"{sql}\", metrics: [{{name: stuck}}]}}"
        );
        config.push_str(&format!("  - {stuck}\n"));
    }
    for n in 0..10 {
        config.push_str(&format!(
            "  - {{name: q{n}, databases: ['*'], sql: SELECT {n} AS value, metrics: [{{name: q{n}_value}}]}}\n"
        ));
    }
    setup(&config).serve()
}

/// Every healthy query is on the page with its value, the hanging one is named, and the page is there in time.
fn has_ten_of_ten(exporter: &Exporter, header: &str, turn: usize) {
    let began = Instant::now();
    let page = scrape(exporter, &[(HEADER, header)]);
    let (took, time) = (began.elapsed(), Duration::from_secs(header.parse().expect("seconds")));
    assert!(took < time, "scrape {turn}: {took:?} of {time:?}");
    for target in ["pg", "my", "lite"] {
        for n in 0..10 {
            let value = page.value(&format!("q{n}_value"), &[("target", target)]);
            assert_eq!(value, Some(f64::from(n)), "scrape {turn}, q{n} on {target}:\n{}", exporter.log());
        }
        let stuck = format!("stuck_{target}");
        let labels = [("target", target), ("query", stuck.as_str()), ("reason", "timeout")];
        let named = page.value("sql_exporter_query_failure_reason", &labels);
        assert_eq!(named, Some(1.0), "scrape {turn}, {stuck}:\n{}", exporter.log());
        assert_eq!(success(&page, target, &stuck), Some(0.0));
    }
    assert!(page.series("stuck").is_empty());
}

/// The log names each hanging query once, and nothing else.
fn names_each_once(exporter: &Exporter) {
    let log = exporter.log();
    for target in ["pg", "my", "lite"] {
        let line = format!("query stuck_{target} on target {target} fails: timeout");
        assert_eq!(log.matches(&line).count(), 1, "{line}, said once:\n{log}");
    }
    assert_eq!(log.matches(" fails: ").count(), 3, "{log}");
}

#[test]
fn ten_of_ten_beside_one_that_hangs_within_five_seconds() {
    let exporter = ten_and_one();
    (0..3).for_each(|turn| has_ten_of_ten(&exporter, "5", turn));
    names_each_once(&exporter);
}

#[test]
fn ten_of_ten_beside_one_that_hangs_within_one_second() {
    let exporter = ten_and_one();
    (0..short_scrapes()).for_each(|turn| has_ten_of_ten(&exporter, "1", turn));
    names_each_once(&exporter);
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
