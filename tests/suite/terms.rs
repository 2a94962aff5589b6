//! `keep_last`, `when` and `snapshot`: which results a page may show, on which servers, and as of when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use crate::checker::{Page, checked};
use crate::command::setup;
use crate::exporter::{Exporter, Setup};
use crate::fault::{Act, Call, Fault};
use crate::process::wait_for;
use crate::scrape::{LONG, fails, fleet, query, scraped, success, up};
use crate::servers::own::{OwnMariaDb, OwnPostgres};
use crate::servers::{MariaDb, Postgres};
use sql_exporter::error::Reason;

fn labels<'l>(target: &'l str, name: &'l str) -> [(&'l str, &'l str); 3] {
    [("target", target), ("query", name), ("collector", "default")]
}

fn last_success(page: &Page) -> f64 {
    page.value("sql_exporter_query_last_success_timestamp_seconds", &labels("a", "q")).expect("a time")
}

fn skipped(page: &Page, target: &str, name: &str) -> bool {
    let reason = [("target", target), ("query", name), ("collector", "default"), ("reason", "when")];
    page.value("sql_exporter_query_skipped", &reason) == Some(1.0) && success(page, target, name).is_none()
}

#[test]
fn the_last_good_result_stands_in_after_a_failure_marked_as_failed_and_old() {
    let fault = Fault::new(|call| match call {
        Call::Run(1) => Act::Rows(1),
        _ => Act::FailAfterRow(Reason::Sql),
    });
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", ", keep_last: 1h")));
    let (good, _) = scraped(&fleet, LONG);
    let (kept, _) = scraped(&fleet, LONG);
    assert_eq!(kept.value("q_value", &[("target", "a")]), Some(1.0), "the old value");
    assert_eq!(success(&kept, "a", "q"), Some(0.0));
    assert_eq!(kept.value("sql_exporter_query_rows", &labels("a", "q")), None, "no rows of this scrape");
    assert!((last_success(&kept) - last_success(&good)).abs() < 1e-6, "the old time");
}

#[test]
fn the_last_good_result_stands_in_for_a_target_that_is_down() {
    let fault = Fault::new(|call| match call {
        Call::Run(2..) => Act::Lose,
        Call::Connect(2..) => Act::Fail(Reason::Connect),
        _ => Act::Rows(1),
    });
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", ", keep_last: 1h")));
    scraped(&fleet, LONG);
    let (kept, _) = scraped(&fleet, LONG);
    assert_eq!(kept.value("q_value", &[("target", "a")]), Some(1.0));
    assert_eq!((success(&kept, "a", "q"), up(&kept, "a")), (Some(0.0), Some(0.0)));
}

#[test]
fn without_keep_last_a_failure_shows_nothing() {
    let fault = Fault::new(|call| match call {
        Call::Run(1) => Act::Rows(1),
        _ => Act::Fail(Reason::Sql),
    });
    let fleet = fleet(&[("a", &fault)], &format!("queries:\n{}", query("q", "a", "")));
    scraped(&fleet, LONG);
    assert!(fails(&scraped(&fleet, LONG).0, "a", "q", Reason::Sql));
}

#[test]
fn a_row_that_is_gone_is_gone_even_under_keep_last() {
    let config = "databases: {shop: {driver: sqlite, database: shop.db}}\nqueries:\n  - name: stock\n    \
                  sql: SELECT sku, units FROM stock\n    keep_last: 1h\n    \
                  metrics: [{name: stock_units, labels: [sku], value_column: units}]\n";
    let exporter = setup(config).serve();
    let shop = Connection::open(exporter.file("shop.db")).expect("the database");
    shop.execute_batch("CREATE TABLE stock (sku, units); INSERT INTO stock VALUES ('a', 1), ('b', 2)")
        .expect("rows");
    assert_eq!(checked(&exporter.metrics()).series("stock_units").len(), 2);
    shop.execute_batch("DELETE FROM stock WHERE sku = 'a'").expect("a row less");
    assert_eq!(checked(&exporter.metrics()).series("stock_units").len(), 1);
    shop.execute_batch("DROP TABLE stock").expect("no table");
    assert_eq!(checked(&exporter.metrics()).series("stock_units").len(), 1, "the last good result");
}

/// One query a condition, on one target of each database.
fn conditions() -> Exporter {
    let (postgres, mariadb) = (Postgres::fresh("terms"), MariaDb::fresh("terms"));
    let query = |name: &str, when: &str| {
        format!(
            "  - {{name: {name}, databases: ['*'], sql: SELECT 1 AS value, when: {{{when}}}, metrics: [{{name: {name}_value}}]}}\n"
        )
    };
    let queries = [
        query("old", "version: '<1'"),
        query("new", "version: '>=1 <1000'"),
        query("pg", "flavor: postgresql"),
        query("maria", "flavor: [mysql, mariadb]"),
        query("primary", "role: primary"),
        query("replica", "role: replica"),
        query("yes", "sql: SELECT 1 = 1"),
        query("no", "sql: SELECT 1 = 2"),
        query("unknown", "sql: SELECT NULL"),
        query("wrong", "sql: SELECT nothing FROM nowhere"),
        query("rows", "sql: SELECT 1 UNION ALL SELECT 0"),
        query("columns", "sql: 'SELECT 1, 0'"),
        query("nothing", "sql: SELECT a FROM (SELECT 1 AS a) AS t WHERE a = 2"),
    ];
    let (postgres, mariadb) = (postgres.entry(), mariadb.entry());
    let sqlite = "{driver: sqlite, database: shop.db}";
    setup(&format!(
        "databases:\n  pg: {postgres}\n  maria: {mariadb}\n  lite: {sqlite}\nqueries:\n{}",
        queries.concat()
    ))
    .serve()
}

#[test]
fn a_query_that_does_not_apply_is_skipped_not_an_error_on_all_three() {
    let exporter = conditions();
    for turn in ["first", "warm"] {
        let page = checked(&exporter.metrics());
        for target in ["pg", "maria", "lite"] {
            let applies = |name: &str| success(&page, target, name) == Some(1.0);
            assert!(
                applies("new") && applies("primary") && applies("yes"),
                "{turn} {target}\n{}",
                exporter.log()
            );
            for name in ["old", "replica", "no", "unknown"] {
                assert!(skipped(&page, target, name), "{turn} {target} {name}");
            }
            assert_eq!(
                (applies("pg"), applies("maria")),
                (target == "pg", target == "maria"),
                "{turn} {target}"
            );
            assert!(fails(&page, target, "wrong", Reason::Sql), "{turn} {target}");
            for name in ["rows", "columns", "nothing"] {
                assert!(
                    fails(&page, target, name, Reason::Value),
                    "{turn} {target} {name}\n{}",
                    exporter.log()
                );
            }
        }
    }
    for (name, found) in [("rows", "more than one row"), ("columns", "2 columns"), ("nothing", "no row")] {
        let line = format!("query {name} on target maria fails: value: when.sql: returns {found}");
        assert!(exporter.log().contains(&line), "{line} in {}", exporter.log());
    }
    assert!(
        exporter.log().contains("query wrong on target lite fails: sql: when.sql: "),
        "{}",
        exporter.log()
    );
}

/// The result of the query for a primary is not shown beside that for a replica until its interval is over.
#[test]
fn what_applied_before_a_failover_does_not_stand_in_the_way_for_its_interval() {
    let server = OwnMariaDb::start(&[]);
    let query = |role: &str| {
        format!(
            "- {{name: {role}, sql: SELECT 1 AS v, interval: 1h, when: {{role: {role}}}, metrics: [{{name: q, value_column: v}}]}}\n"
        )
    };
    let config = format!(
        "databases: {{it: {}}}\nqueries:\n{}{}",
        server.access().entry_with("max_connections: 1"),
        query("primary"),
        query("replica")
    );
    let exporter = Exporter::serve(&config);
    let assert_role = |role: &str, other: &str| {
        let page = checked(&exporter.metrics());
        assert!(
            success(&page, "it", role) == Some(1.0) && skipped(&page, "it", other),
            "{role}: {}",
            exporter.log()
        );
        assert_eq!(page.series("q").len(), 1);
    };
    assert_role("primary", "replica");
    server.access().run("SET GLOBAL read_only = 1");
    // The page that notices it.
    exporter.metrics();
    assert_role("replica", "primary");
}

#[test]
fn a_standby_that_is_promoted_is_noticed_at_the_next_scrape() {
    let primary = OwnPostgres::start(&[]);
    let standby = OwnPostgres::standby_of(primary.access());
    let entry = standby.access().entry();
    let exporter = Exporter::serve(&format!(
        "databases:\n  pg: {entry}\nqueries:\n  - {{name: first, sql: SELECT 1 AS value, when: {{role: primary}}, metrics: [{{name: first_value}}]}}\n  \
         - {{name: second, sql: SELECT 1 AS value, when: {{role: replica}}, metrics: [{{name: second_value}}]}}\n"
    ));
    let page = checked(&exporter.metrics());
    assert!(
        skipped(&page, "pg", "first") && success(&page, "pg", "second") == Some(1.0),
        "{}",
        exporter.log()
    );
    standby.access().run("SELECT pg_promote(true)");
    let page = checked(&exporter.metrics());
    assert!(
        skipped(&page, "pg", "second") && success(&page, "pg", "first") == Some(1.0),
        "{}",
        exporter.log()
    );
    let role = &page.series("sql_exporter_target_info")[0].labels["role"];
    assert_eq!(role, "primary", "target_info has the role as last seen");
}

/// Ten queries of one count, each taking a while, while a writer adds rows.
fn agreeing(name: &str, entry: &str, count: &str, write: impl Fn() + Send + 'static) {
    let queries: String = (0..10)
        .map(|n| {
            format!("  - {{name: q{n}, database: {name}, sql: \"{count}\", metrics: [{{name: rows_{n}}}]}}\n")
        })
        .collect();
    let bad = format!(
        "  - {{name: bad, database: {name}, sql: SELECT x FROM nowhere, metrics: [{{name: bad_value}}]}}\n"
    );
    let exporter = Setup::new(&format!("databases:\n  {name}: {entry}\nqueries:\n{bad}{queries}")).serve();
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let writer = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            write();
        }
    });
    for _ in 0..5 {
        let page = checked(&exporter.metrics());
        let counts: Vec<Option<f64>> =
            (0..10).map(|n| page.value(&format!("rows_{n}"), &[("target", name)])).collect();
        assert!(
            counts[0].is_some() && counts.iter().all(|count| count == &counts[0]),
            "{counts:?}\n{}",
            exporter.log()
        );
        assert!(fails(&page, name, "bad", Reason::Sql), "one failing query loses no other");
    }
    done.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends");
}

#[test]
fn the_queries_of_a_snapshot_agree_while_a_writer_runs_on_postgres() {
    let server = Postgres::fresh("snapshot_pg");
    server.run("CREATE TABLE t (x int)");
    let (entry, writer) = (server.entry_with("snapshot: true"), std::sync::Mutex::new(server.client()));
    agreeing("pg", &entry, "SELECT count(*) AS value FROM t, (SELECT pg_sleep(0.01)) AS pause", move || {
        writer.lock().expect("a writer").batch_execute("INSERT INTO t VALUES (1)").expect("a row");
    });
}

#[test]
fn the_queries_of_a_snapshot_agree_while_a_writer_runs_on_mariadb() {
    use mysql::prelude::Queryable;
    let server = MariaDb::fresh("snapshot_my");
    server.run("CREATE TABLE t (x int) ENGINE=InnoDB");
    let (entry, writer) = (server.entry_with("snapshot: true"), std::sync::Mutex::new(server.client()));
    agreeing("my", &entry, "SELECT count(*) + sleep(0.01) AS value FROM t", move || {
        writer.lock().expect("a writer").query_drop("INSERT INTO t VALUES (1)").expect("a row");
    });
}

#[test]
fn the_queries_of_a_snapshot_agree_while_a_writer_runs_on_sqlite() {
    let folder = crate::process::folder();
    let path = folder.path().join("snapshot.db");
    let writer = Connection::open(&path).expect("a database");
    writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").expect("a table");
    let writer = std::sync::Mutex::new(writer);
    let entry = format!("{{driver: sqlite, database: {}, snapshot: true}}", path.display());
    agreeing("lite", &entry, "SELECT count(*) AS value FROM t", move || {
        writer.lock().expect("a writer").execute_batch("INSERT INTO t VALUES (1)").expect("a row");
    });
}

/// A target whose password comes from a file: refused at first, then right.
/// `from` is the key that tells where the password is: in the file `pw`.
fn password_that_changes(entry: &str, password: &str, from: &str) {
    let entry = entry.replace(&format!("'{password}'"), "NOTHING").replace("password: NOTHING", from);
    let config = format!(
        "databases:\n  db: {entry}\nqueries:\n  - {{name: q, sql: SELECT 1 AS value, metrics: [{{name: q_value}}]}}\n"
    );
    let exporter = Setup::new(&config).file("pw", "c4nary-wrong\n").serve();
    for _ in 0..2 {
        let page = checked(&exporter.metrics());
        assert!(fails(&page, "db", "q", Reason::Auth), "{}", exporter.log());
        let wait = page.value("sql_exporter_target_backoff_seconds", &[("target", "db")]).expect("a time");
        assert!((20.0..=30.0).contains(&wait), "{wait}");
    }
    std::fs::write(exporter.file("pw"), password).expect("a new password");
    if from.starts_with("password_file") {
        assert_eq!(success(&checked(&exporter.metrics()), "db", "q"), Some(1.0), "{}", exporter.log());
    }
    // A command is not run again within a second.
    wait_for("a good page", || {
        (success(&checked(&exporter.metrics()), "db", "q") == Some(1.0)).then_some(())
    });
}

#[test]
fn a_new_password_ends_the_back_off_on_postgres() {
    let server = Postgres::fresh("password_pg");
    password_that_changes(&server.entry(), &server.password, "password_file: pw");
}

#[test]
fn a_new_password_of_a_command_ends_the_back_off() {
    let server = Postgres::fresh("password_command");
    password_that_changes(&server.entry(), &server.password, "password_command: [cat, pw]");
}

#[test]
fn a_new_password_ends_the_back_off_on_mariadb() {
    let server = MariaDb::fresh("password_my");
    password_that_changes(&server.entry(), &server.password, "password_file: pw");
}

#[test]
fn a_condition_that_does_not_end_costs_its_own_query_only() {
    let server = Postgres::fresh("slow_condition");
    let queries = "  - {name: stuck, sql: SELECT 1 AS value, when: {sql: SELECT pg_sleep(60) IS NULL}, metrics: [{name: stuck_value}]}\n  \
                   - {name: fine, sql: SELECT 1 AS value, metrics: [{name: fine_value}]}\n";
    let exporter = Exporter::serve(&format!("databases:\n  pg: {}\nqueries:\n{queries}", server.entry()));
    let header = [("X-Prometheus-Scrape-Timeout-Seconds", "2")];
    for _ in 0..2 {
        let page = checked(exporter.get_with("/metrics", &header).text());
        assert!(fails(&page, "pg", "stuck", Reason::Timeout), "{}", exporter.log());
        assert_eq!(success(&page, "pg", "fine"), Some(1.0), "{}", exporter.log());
    }
}
