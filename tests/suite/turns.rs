//! What passes between exporter and server, seen through a proxy: how many round trips a scrape costs, and what becomes
//! of an answer that ends in the middle.

use std::time::Duration;

use crate::checker::{Page, checked};
use crate::exporter::{Exporter, Setup};
use crate::proxy::{Mode, Proxy};
use crate::servers::{MariaDb, Postgres};

/// An exporter with one target behind a proxy, and one beside it that is well.
struct Wire {
    proxy: Proxy,
    exporter: Exporter,
}

impl Wire {
    /// `entry` is the target's as it is without the proxy. One session, so that turns are those of one after another.
    fn new(entry: &str, port: u16, queries: &str) -> Self {
        let proxy = Proxy::before(port);
        let entry = entry.replace(&format!("port: {port}"), &format!("port: {}", proxy.port()));
        let well = Postgres::fresh("turns_well").entry();
        let exporter = Exporter::serve(&format!(
            "databases:\n  db: {entry}\n  well: {well}\nqueries:\n{queries}\
             - {{name: well, database: well, sql: SELECT 3 AS value, metrics: [{{name: well}}]}}\n"
        ));
        Wire { proxy, exporter }
    }

    fn page(&self) -> Page {
        let reply = self.exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "5")]);
        let page = checked(reply.text());
        assert_eq!(page.value("well", &[]), Some(3.0), "{}", self.exporter.log());
        page
    }

    /// The turns of one more page.
    fn turns(&self) -> usize {
        let before = self.proxy.turns();
        let page = self.page();
        let failing = page.series("sql_exporter_query_failure_reason");
        assert!(failing.is_empty(), "{failing:?}\n{}", self.exporter.log());
        self.proxy.turns() - before
    }
}

const ONE: &str = "max_connections: 1";

fn queries(count: usize, more: &str) -> String {
    (0..count)
        .map(|n| {
            format!(
                "- {{name: q{n}, database: db, sql: SELECT {n} AS value, metrics: [{{name: q{n}}}]{more}}}\n"
            )
        })
        .collect()
}

/// A warm scrape of eight queries takes at most `most` turns, `with_role` more where a role is asked for, and one
/// without queries one: the ping.
fn costs(entry: &str, port: u16, most: usize, with_role: usize) {
    let wire = Wire::new(entry, port, &queries(8, ""));
    wire.turns();
    // The second page learns which statements are worth keeping.
    wire.turns();
    for _ in 0..3 {
        let turns = wire.turns();
        assert!(turns <= most, "{turns} turns for eight queries");
    }
    assert_eq!(wire.proxy.connections(), 1, "one session, which stays");
    let idle = Wire::new(entry, port, "");
    idle.turns();
    assert_eq!(idle.turns(), 1, "a ping");
    let role = Wire::new(entry, port, &queries(8, ", when: {role: primary}"));
    for _ in 0..2 {
        role.turns();
    }
    let turns = role.turns();
    assert!(turns <= most + with_role, "{turns} turns for eight queries and a role");
}

#[test]
fn a_warm_scrape_of_postgres_costs_its_queries_and_no_more() {
    let server = Postgres::fresh("turns");
    costs(&server.entry_with(ONE), server.port, 8, 1);
}

/// Without TLS a login is four turns and a session's set-up one; then the statements, with what the session prepares for
/// itself, and each first run by itself. A later page is one message a group or two.
#[test]
fn fifty_queries_of_postgres_are_one_turn_each_at_first_and_three_later() {
    let server = Postgres::fresh("turns_fifty");
    server.run("CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t AS SELECT 'sad'::mood AS m, now() AS at");
    let fifty = queries(50, "");
    let locally = "max_connections: 1, tls: {mode: disable}";
    let more = [
        ("", 6 + 50),
        (", session_sql: [SET search_path = public, SET work_mem = '8MB']", 7 + 50),
        (", session_sql: [SET LOCAL search_path = public]", 7 + 50),
    ];
    for (keys, most) in more {
        let wire = Wire::new(&server.entry_with(&format!("{locally}{keys}")), server.port, &fifty);
        let cold = wire.turns();
        assert!(cold <= most, "{cold} turns for a first page{keys}");
        costs_at_most(3, || wire.turns());
    }
    let snapshot = Wire::new(&server.entry_with(&format!("{locally}, snapshot: true")), server.port, &fifty);
    let cold = snapshot.turns();
    assert!(cold <= 6 + 4, "{cold} turns for a first page in a snapshot");
    // Its transaction begins and ends, and what a query left is looked at.
    costs_at_most(5, || snapshot.turns());
}

/// One of ten later pages costs so many turns. On a busy machine one may need another session, which does not know all statements yet,
/// and a query that was slow twice goes alone once.
pub(crate) fn costs_at_most(most: usize, mut turns: impl FnMut() -> usize) {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|turns| *turns > most) {
        assert!(seen.len() < 10, "{seen:?} turns for later pages, and none of {most}");
        seen.push(turns());
    }
}

/// No limit of ours includes the way: every query is on every page, and is known as the quick one that it is. A first page
/// with the default number of sessions costs 25 round trips one after another, a later one `warm`.
fn is_whole_from_afar(entry: &str, port: u16, warm: usize) {
    let far = Wire::new(entry, port, &queries(50, ""));
    far.proxy.set_round_trip(Duration::from_millis(120));
    let page = || {
        checked(far.exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "20")]).text())
    };
    for turn in 0..3 {
        let page = page();
        let failing = page.series("sql_exporter_query_failure_reason");
        assert!(failing.is_empty(), "{failing:?}\n{}", far.exporter.log());
        let rows = page.series("sql_exporter_query_duration_seconds").into_iter();
        let mut took: Vec<f64> =
            rows.filter(|row| row.labels["target"] != "well").map(|row| row.value).collect();
        took.sort_by(f64::total_cmp);
        // If the network counted, no query would be below; a busy machine holds up a few.
        assert!(took[took.len() * 3 / 4] < 0.1, "the network counts: {took:?}");
        let cold = far.proxy.most_turns();
        assert!(turn > 0 || cold <= 25, "{cold} turns for a first page on one connection");
    }
    costs_at_most(warm, || {
        let before = far.proxy.turns();
        page();
        far.proxy.turns() - before
    });
}

#[test]
fn fifty_queries_of_a_postgres_far_away_are_on_the_first_page() {
    let server = Postgres::fresh("turns_far");
    is_whole_from_afar(&server.entry_with("tls: {mode: disable}"), server.port, 4);
    is_whole_from_afar(&server.entry(), server.port, 4);
    is_whole_from_afar(&server.entry_with(ONE), server.port, 4);
}

#[test]
fn fifty_queries_of_a_mariadb_far_away_are_on_the_first_page() {
    let server = MariaDb::fresh("turns_far");
    is_whole_from_afar(&server.entry(), server.port, 6);
    is_whole_from_afar(&server.entry_with(ONE), server.port, 6);
}

/// Sessions end with PostgreSQL's goodbye when the process ends, after SIGTERM and after `--once`.
#[test]
fn the_last_that_postgres_hears_of_an_exporter_is_a_goodbye() {
    let server = Postgres::fresh("turns_goodbye");
    // One session: another may still be on its way in when the page is complete.
    let keys = "tls: {mode: disable}, max_connections: 1";
    let wire = Wire::new(&server.entry_with(keys), server.port, &queries(8, ""));
    wire.turns();
    let Wire { proxy, exporter } = wire;
    exporter.stop("TERM");
    all_said_goodbye(&proxy);
    let proxy = Proxy::before(server.port);
    let entry = server.entry_with(keys);
    let entry = entry.replace(&format!("port: {}", server.port), &format!("port: {}", proxy.port()));
    let once = Setup::new(&format!("databases:\n  db: {entry}\nqueries:\n{}", queries(8, ""))).once();
    assert_eq!(once.code(), 0, "{}", once.errors());
    all_said_goodbye(&proxy);
}

fn all_said_goodbye(proxy: &Proxy) {
    let words = crate::process::wait_for("the sessions to end", || {
        let words = proxy.last_words();
        (words.len() >= proxy.connections()).then_some(words)
    });
    assert!(words.iter().all(|words| words.ends_with(b"X\0\0\0\x04")), "{words:?}");
}

#[test]
fn a_warm_scrape_of_mariadb_costs_its_queries_and_no_more() {
    let server = MariaDb::fresh("turns");
    // The statement's own time limit goes before each; a role is two statements, and their limit.
    costs(&server.entry_with(ONE), server.port, 16, 3);
}

/// The answer to a query of a few rows ends after every so many bytes: it is whole, after one more try, or it is not there.
fn cut_everywhere(entry: &str, port: u16, sql: &str, bytes: usize) {
    let query = format!(
        "- {{name: rows, database: db, sql: \"{sql}\", metrics: [{{name: rows, labels: [n], value_column: v}}]}}\n"
    );
    let wire = Wire::new(entry, port, &query);
    wire.turns();
    let mut lost = 0;
    for cut in (0..bytes).step_by(7) {
        wire.proxy.set(Mode::CutAfter(cut));
        let page = wire.page();
        let rows = page.series("rows").len();
        assert!(rows == 0 || rows == 20, "cut after {cut} bytes: {rows} rows of 20\n{}", wire.exporter.log());
        if rows == 0 {
            let failed = page.series("sql_exporter_query_failure_reason");
            assert_eq!(failed.len(), 1);
            let reason = failed[0].labels["reason"].as_str();
            assert!(
                ["lost", "connect", "protocol", "timeout"].contains(&reason),
                "cut after {cut}: {reason}"
            );
            lost += 1;
        }
        wire.proxy.set(Mode::Pass);
        let page = wire.page();
        assert_eq!(page.series("rows").len(), 20, "after a cut after {cut} bytes: {}", wire.exporter.log());
    }
    assert!(lost > bytes / 14, "{lost}: nearly every cut is felt");
}

#[test]
fn half_an_answer_of_postgres_is_no_answer() {
    let server = Postgres::fresh("turns_cut");
    let sql = "SELECT n, n * 2 AS v FROM generate_series(1, 20) AS n";
    cut_everywhere(&server.entry_with(ONE), server.port, sql, 400);
}

#[test]
fn half_an_answer_of_mariadb_is_no_answer() {
    let server = MariaDb::fresh("turns_cut");
    let sql = "SELECT seq AS n, seq * 2 AS v FROM seq_1_to_20";
    cut_everywhere(&server.entry_with(ONE), server.port, sql, 400);
}
