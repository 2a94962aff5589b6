//! PostgreSQL's quick queries in groups: how few round trips they cost, and that what befalls one of them is nobody
//! else's. MariaDB's are beside it.

mod mariadb;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::checker::{Page, Sample, checked};
use crate::exporter::Exporter;
use crate::process::{bound, retried_if_busy};
use crate::proxy::Proxy;
use crate::servers::Postgres;
use crate::turns::costs_at_most;

/// A target behind a counting proxy.
struct Wire<S> {
    server: S,
    proxy: Proxy,
    exporter: Exporter,
}

impl Wire<Postgres> {
    fn new(setup: &str, more: &str, queries: &str) -> Self {
        let server = Postgres::fresh("groups");
        server.run(setup);
        let (port, entry) = (server.port, server.entry_with(more));
        Wire::before(server, port, &entry, queries)
    }
}

impl<S> Wire<S> {
    /// The server listens on `port`, and `entry` says so.
    fn before(server: S, port: u16, entry: &str, queries: &str) -> Self {
        let proxy = Proxy::before(port);
        let entry = entry.replace(&format!("port: {port}"), &format!("port: {}", proxy.port()));
        let exporter = Exporter::serve(&format!("databases:\n  db: {entry}\nqueries:\n{queries}"));
        Wire { server, proxy, exporter }
    }

    fn page(&self) -> Page {
        checked(self.exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "8")]).text())
    }

    /// A page on which every query but `failing` is good.
    fn good_but(&self, failing: &[&str]) -> Page {
        let page = self.page();
        let mut failed: Vec<String> = page
            .series("sql_exporter_query_failure_reason")
            .iter()
            .map(|row| format!("{} {}", row.labels["query"], row.labels["reason"]))
            .collect();
        failed.sort();
        assert_eq!(failed, failing, "{}", self.exporter.log());
        page
    }

    /// Of a page on which every query is good.
    fn turns_of_a_page(&self) -> usize {
        let before = self.proxy.turns();
        self.good_but(&[]);
        self.proxy.turns() - before
    }
}

/// `count` quick queries `q0`, `q1` …; `other` replaces the SQL of some.
fn queries(count: usize, other: &[(usize, &str)]) -> String {
    let sql = |n: usize| {
        let found = other.iter().find(|(place, _)| *place == n);
        found.map_or_else(|| format!("SELECT {n} AS value"), |(_, sql)| (*sql).to_owned())
    };
    let query =
        |n| format!("- {{name: q{n}, database: db, sql: \"{}\", metrics: [{{name: q{n}}}]}}\n", sql(n));
    (0..count).map(query).collect()
}

#[test]
fn fifty_queries_are_eight_flushes_warm_and_one_each_cold() {
    for lanes in ["max_connections: 1", "max_connections: 3"] {
        let wire = Wire::new("", lanes, &queries(50, &[]));
        wire.good_but(&[]);
        let cold = wire.proxy.turns();
        // A login with TLS and a session's set-up are eight on each lane.
        let logins = if lanes.ends_with('3') { 3 * 8 } else { 8 };
        assert!(cold <= 50 + logins, "{cold} flushes on the first page, the login's included ({lanes})");
        for _ in 0..5 {
            // A session that has not seen a query yet asks for it once.
            wire.good_but(&[]);
        }
        if lanes.ends_with('1') {
            costs_at_most(8, || wire.turns_of_a_page());
        }
    }
}

#[test]
fn an_error_in_a_group_is_its_own_query_s() {
    let failing = (3, "SELECT 1 / v AS value FROM t");
    let wire = Wire::new("CREATE TABLE t AS SELECT 1 AS v", "max_connections: 1", &queries(12, &[failing]));
    wire.good_but(&[]);
    wire.good_but(&[]);
    wire.server.run("UPDATE t SET v = 0");
    for _ in 0..3 {
        let page = wire.good_but(&["q3 value"]);
        assert_eq!(page.value("q11", &[]), Some(11.0));
    }
    wire.server.run("UPDATE t SET v = 1");
    wire.good_but(&[]);
    // What ran before it in its group may have been read under settings that went with the error: that runs again on
    // another session, when the error is new.
    let sessions = wire.proxy.connections();
    assert!(sessions <= 3, "{sessions} sessions: one is lost at each scrape");
}

/// The guard statements of a group are rows of one portal, and each still limits time and writes.
#[test]
fn every_query_of_a_group_is_limited_though_the_guard_statements_share_a_portal() {
    let portals = "SELECT count(*) AS value FROM pg_cursors WHERE name = 'sqlexp_guard_rows'";
    let timeout = "SELECT setting::int AS value FROM pg_settings WHERE name = 'statement_timeout'";
    let writes =
        "SELECT (setting = 'off')::int AS value FROM pg_settings WHERE name = 'transaction_read_only'";
    // Two groups, at both ends and in the middle of each.
    let (first, second) = ([1, 4, 9], [11, 15, 19]);
    let other: Vec<(usize, &str)> =
        first.into_iter().chain(second).zip([portals, timeout, writes].into_iter().cycle()).collect();
    let wire = Wire::new("", "max_connections: 1", &queries(20, &other));
    (0..3).for_each(|_| drop(wire.good_but(&[])));
    let page = wire.good_but(&[]);
    for [portals, timeout, writes] in [first, second] {
        let value = |query: usize| page.value(&format!("q{query}"), &[]).expect("a value");
        let (portals, timeout, writes) = (value(portals), value(timeout), value(writes));
        assert!(
            portals == 1.0 && (1.0..=8000.0).contains(&timeout) && writes == 0.0,
            "{portals} {timeout} {writes}"
        );
    }
}

/// The server's clock stands between the queries of a group: what arrives together did not take the same time.
#[test]
fn each_query_of_a_group_has_its_own_duration() {
    let slow = (5, "SELECT 1 AS value, pg_sleep(0.004)");
    let wire = Wire::new("", "max_connections: 1", &queries(12, &[slow]));
    wire.good_but(&[]);
    let mut least = [f64::INFINITY; 12];
    for _ in 0..5 {
        for row in wire.good_but(&[]).series("sql_exporter_query_duration_seconds") {
            let place: usize = row.labels["query"][1..].parse().expect("a number");
            least[place] = least[place].min(row.value);
        }
    }
    for (place, seconds) in least.iter().enumerate() {
        assert_eq!(*seconds >= 0.004, place == 5, "q{place}: {least:?}");
        assert!(*seconds > 0.0, "q{place}: {least:?}");
    }
}

#[test]
fn a_statement_that_the_server_refuses_is_its_own_query_s() {
    let wire = Wire::new(
        "",
        "max_connections: 1",
        &queries(12, &[(0, "SELECT nonsense"), (7, "SELECT 1 +"), (8, "TABLE nowhere")]),
    );
    for _ in 0..3 {
        let page = wire.good_but(&["q0 sql", "q7 sql", "q8 sql"]);
        assert_eq!(page.value("q11", &[]), Some(11.0));
    }
    assert_eq!(wire.proxy.connections(), 1, "a session was lost");
}

#[test]
fn a_query_that_hangs_keeps_none_of_its_neighbours() {
    let hanging = (HANGING, "SELECT 1 AS value, pg_sleep(60)");
    hangs_alone(|| Wire::new("", "max_connections: 2", &queries(12, &[hanging])));
}

/// The number of the query that hangs.
const HANGING: usize = 4;

/// The query hangs, the others come in a moment, and sessions are not lost at each scrape. Queries that never ran go four together
/// where a round trip takes 10 ms, as on a busy machine, and those behind the one that hangs wait for it then.
fn hangs_alone<S>(wire: impl Fn() -> Wire<S>) {
    retried_if_busy(|| {
        let wire = wire();
        let mut sessions = 0;
        for round in 0..4 {
            let late = late_queries(&wire);
            assert!(late.is_empty(), "{late:?} are late, or failed, in round {round}");
            if round == 0 {
                sessions = wire.proxy.connections();
            }
        }
        // The server's own limit ends the query, so its session stays; now and then ours is earlier.
        assert!(
            wire.proxy.connections() <= sessions + 2,
            "{sessions}, then {} sessions",
            wire.proxy.connections()
        );
    });
}

/// The queries of a page that failed or did not come in a moment, without the one that hangs, which fails.
fn late_queries<S>(wire: &Wire<S>) -> Vec<String> {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let started = Instant::now();
    let page =
        checked(wire.exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "2")]).text());
    assert!(started.elapsed() < bound(Duration::from_secs(2)));
    let hanging = format!("q{HANGING}");
    let ended = page.series("sql_exporter_query_success");
    let failed: Vec<&str> =
        ended.iter().filter(|row| row.value == 0.0).map(|row| &*row.labels["query"]).collect();
    assert!(failed.contains(&&*hanging), "{failed:?}");
    let is_in_time = |row: &&Sample| {
        let after = Duration::from_secs_f64((row.value - began).max(0.0));
        after < bound(Duration::from_millis(150)) && !failed.contains(&&*row.labels["query"])
    };
    let rows = page.series("sql_exporter_query_last_success_timestamp_seconds");
    let in_time: Vec<&str> = rows.into_iter().filter(is_in_time).map(|row| &*row.labels["query"]).collect();
    let queries = ended.iter().map(|row| row.labels["query"].clone());
    queries.filter(|query| *query != hanging && !in_time.contains(&&**query)).collect()
}

#[test]
fn a_table_that_changes_is_read_right_in_the_same_scrape() {
    let wire = Wire::new(
        "CREATE TABLE t AS SELECT 5 AS value",
        "max_connections: 1",
        &queries(12, &[(6, "TABLE t")]),
    );
    for _ in 0..3 {
        assert_eq!(wire.good_but(&[]).value("q6", &[]), Some(5.0));
    }
    wire.server.run("ALTER TABLE t ALTER value TYPE numeric USING value + 0.5");
    assert_eq!(wire.good_but(&[]).value("q6", &[]), Some(5.5));
    assert_eq!(wire.proxy.connections(), 1, "a session was lost");
}

#[test]
fn the_same_sql_twice_is_one_statement() {
    let twin = "SELECT 7 AS value";
    let wire = Wire::new("", "max_connections: 1", &queries(12, &[(2, twin), (5, twin), (9, twin)]));
    for _ in 0..3 {
        let page = wire.good_but(&[]);
        assert_eq!((page.value("q2", &[]), page.value("q9", &[])), (Some(7.0), Some(7.0)));
    }
}

/// What a function does to its session is seen before a neighbour's first result counts.
#[test]
fn a_query_that_changes_its_session_changes_no_neighbour() {
    let setup = "CREATE SCHEMA trap; CREATE TABLE public.t AS SELECT 1 AS value; CREATE TABLE trap.t AS SELECT 666 AS value; \
                 CREATE FUNCTION harm() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', 'trap', false); RETURN 1; END $$";
    let harm = (1, "SELECT public.harm() AS value");
    let reads: Vec<(usize, &str)> = (2..12).map(|n| (n, "SELECT value FROM t")).collect();
    let wire = Wire::new(setup, "max_connections: 1", &queries(12, &[&[harm], reads.as_slice()].concat()));
    for _ in 0..4 {
        let page = wire.good_but(&[]);
        for n in 2..12 {
            assert_eq!(page.value(&format!("q{n}"), &[]), Some(1.0), "q{n}");
        }
    }
}

/// Only a good run shows what a statement does to its session.
#[test]
fn a_query_that_failed_at_first_is_looked_at_when_it_runs() {
    let setup = "CREATE SCHEMA trap; CREATE TABLE public.t AS SELECT 1 AS value; CREATE TABLE trap.t AS SELECT 666 AS value; \
                 CREATE TABLE mood AS SELECT 'good' AS now; \
                 CREATE FUNCTION harm() RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
                 IF (SELECT now FROM public.mood) = 'good' THEN RAISE division_by_zero; END IF; \
                 PERFORM set_config('search_path', 'trap', false); RETURN 1; END $$";
    let harm = (1, "SELECT public.harm() AS value");
    let reads: Vec<(usize, &str)> = (2..12).map(|n| (n, "SELECT value FROM t")).collect();
    let wire = Wire::new(setup, "max_connections: 1", &queries(12, &[&[harm], reads.as_slice()].concat()));
    wire.good_but(&["q1 value"]);
    wire.good_but(&["q1 value"]);
    wire.server.run("UPDATE mood SET now = 'bad'");
    for _ in 0..3 {
        let page = wire.good_but(&[]);
        for n in 2..12 {
            assert_eq!(page.value(&format!("q{n}"), &[]), Some(1.0), "q{n}");
        }
    }
}

#[test]
fn rows_beyond_a_limit_cost_their_query_alone() {
    let many = (5, "SELECT generate_series(1, 200) AS value, 'x' AS l");
    let text = queries(12, &[many])
        .replace("metrics: [{name: q5}]", "max_rows: 100, metrics: [{name: q5, labels: [value]}]");
    let wire = Wire::new("", "max_connections: 1", &text);
    for _ in 0..3 {
        let page = wire.good_but(&["q5 limit"]);
        assert_eq!(page.value("q11", &[]), Some(11.0));
    }
    assert_eq!(wire.proxy.connections(), 1, "a session was lost");
}
