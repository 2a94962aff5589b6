//! `idle_timeout: 0`: a session ends with its scrape, which keeps one for all its queries.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::checker::checked;
use crate::exporter::{Exporter, Setup};
use crate::fault::{Act, Call, Fault};
use crate::process::{signal, wait_for};
use crate::scrape::{LONG, fleet_with, query, scraped};
use crate::servers::{MariaDb, Postgres};

use sql_exporter::engine::scrape::ScrapeOutcome;

#[test]
fn all_queries_of_a_scrape_share_the_session_that_ends_with_it() {
    let fault = Fault::new(|call| match call {
        Call::Run(6) => Act::Fail(sql_exporter::error::Reason::Sql),
        _ => Act::Rows(1),
    });
    let queries: String = ["q", "r", "s"].map(|name| query(name, "a", "")).concat();
    let rest = format!("queries:\n{queries}");
    let fleet = fleet_with("max_connections: 1, idle_timeout: 0", &[("a", &fault)], &rest);
    for turn in 1..=3 {
        scraped(&fleet, LONG);
        fault.saw(Call::Drop(turn));
        let log = fault.log();
        let connects = log.iter().filter(|call| matches!(call, Call::Connect(_))).count();
        assert_eq!(connects, turn, "one session a scrape: {log:?}");
        assert!(!log.iter().any(|call| matches!(call, Call::Cancel(_))), "a clean end: {log:?}");
    }
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
}

/// A pooler may let another session in only when one has left.
#[test]
fn a_session_that_nothing_waits_for_ends_while_another_one_logs_in() {
    let both = std::sync::Barrier::new(2);
    let fault = Fault::new(move |call| match call {
        Call::Run(1) => {
            both.wait();
            Act::Rows(1)
        }
        Call::Connect(2) => {
            both.wait();
            Act::Hang
        }
        _ => Act::Rows(1),
    });
    let rest = format!("queries:\n{}", ["q", "r"].map(|name| query(name, "a", "")).concat());
    let fleet = fleet_with("max_connections: 2, idle_timeout: 0", &[("a", &fault)], &rest);
    assert_eq!(scraped(&fleet, LONG).1, ScrapeOutcome::Complete);
    let ended = Instant::now();
    fault.saw(Call::Drop(1));
    // The pool itself looks for old sessions every half a minute.
    assert!(ended.elapsed() < Duration::from_secs(5), "{:?}", ended.elapsed());
    fault.release();
    fault.saw(Call::Drop(2));
}

/// A target that runs three queries on one session.
fn serve(entry: &str, defaults: &str) -> Exporter {
    Setup::new(&config(entry, defaults)).serve()
}

fn config(entry: &str, defaults: &str) -> String {
    let query =
        |n: usize| format!("  - {{name: q{n}, sql: SELECT {n} AS value, metrics: [{{name: q{n}}}]}}\n");
    let queries: String = (1..=3).map(query).collect();
    format!("databases: {{db: {entry}}}\ndefaults: {{database: {{{defaults}}}}}\nqueries:\n{queries}")
}

fn scrape(exporter: &Exporter) {
    let page = checked(&exporter.metrics());
    let values = [1.0, 2.0, 3.0];
    for (name, value) in ["q1", "q2", "q3"].into_iter().zip(values) {
        assert_eq!(page.value(name, &[("target", "db")]), Some(value), "{}", exporter.log());
    }
}

/// How many sessions PostgreSQL had in the database since it was made, and how many did not end by a goodbye.
fn sessions_of(server: &Postgres) -> (i64, i64) {
    let sql = "SELECT sessions, sessions_abandoned + sessions_fatal + sessions_killed FROM pg_stat_database \
               WHERE datname = $1";
    let row = Postgres::shared("postgres").client().query_one(sql, &[&server.database]).expect("a row");
    (row.get(0), row.get(1))
}

/// How many sessions there are now.
fn open_sessions(server: &Postgres) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
    Postgres::shared("postgres").client().query_one(sql, &[&server.database]).expect("a count").get(0)
}

#[test]
fn postgresql_drops_a_database_between_two_scrapes() {
    let server = Postgres::fresh("idle_zero");
    let exporter = serve(&server.entry_with("max_connections: 1"), "idle_timeout: 0");
    for turn in 1..=3 {
        scrape(&exporter);
        wait_for("the goodbye", || (open_sessions(&server) == 0).then_some(()));
        wait_for("the statistics", || (sessions_of(&server) == (turn, 0)).then_some(()));
    }
    let drop = format!("DROP DATABASE {}", server.database);
    Postgres::shared("postgres").run(&drop);
    let page = checked(&exporter.metrics());
    assert_eq!(page.value("sql_exporter_target_up", &[("target", "db")]), Some(0.0));
}

#[test]
fn scrapes_that_join_share_the_session() {
    let server = Postgres::fresh("idle_zero_join");
    let config = format!(
        "databases: {{db: {}}}\nqueries:\n  - {{name: q, sql: SELECT 1 AS value FROM pg_sleep(1.5), metrics: [{{name: q}}]}}\n",
        server.entry_with("max_connections: 2, idle_timeout: 0")
    );
    let exporter = Exporter::serve(&config);
    let page = || checked(&exporter.metrics()).value("q", &[("target", "db")]);
    std::thread::scope(|scope| {
        let first = scope.spawn(page);
        let is_running = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND state = 'active'";
        let mut client = Postgres::shared("postgres").client();
        wait_for("the query", || {
            client.query_opt(is_running, &[&server.database]).expect("an answer").map(drop)
        });
        assert_eq!((page(), first.join().expect("a page")), (Some(1.0), Some(1.0)), "{}", exporter.log());
    });
    wait_for("the end of its only session", || (sessions_of(&server) == (1, 0)).then_some(()));
}

#[test]
fn a_reload_to_zero_closes_what_is_idle() {
    let server = Postgres::fresh("idle_zero_reload");
    let entry = server.entry_with("max_connections: 1");
    let exporter = serve(&entry, "idle_timeout: 1h");
    scrape(&exporter);
    assert_eq!(open_sessions(&server), 1);
    std::fs::write(exporter.file("sql-exporter.yaml"), config(&entry, "idle_timeout: 0")).expect("written");
    signal("HUP", &[exporter.pid()]);
    wait_for("no session", || (open_sessions(&server) == 0).then_some(()));
    scrape(&exporter);
    wait_for("no session again", || (open_sessions(&server) == 0).then_some(()));
}

#[test]
fn mariadb_has_no_session_between_two_scrapes() {
    let server = MariaDb::fresh("idle_zero");
    let exporter = serve(&server.entry_with("max_connections: 1, idle_timeout: 0"), "idle_timeout: 1h");
    let mut client = MariaDb::shared("mysql").client();
    let list =
        format!("SELECT count(*) FROM information_schema.processlist WHERE db = '{}'", server.database);
    for _ in 0..3 {
        scrape(&exporter);
        wait_for("the goodbye", || (client.query_first(&list).expect("a count") == Some(0)).then_some(()));
    }
}
