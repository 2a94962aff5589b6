//! MariaDB's quick queries in groups.

use mysql::prelude::Queryable;

use super::{HANGING, Wire, hangs_alone, queries};
use crate::process::{retried_if_busy, wait_for};
use crate::servers::MariaDb;
use crate::turns::costs_at_most;

fn wire(setup: &str, more: &str, queries: &str) -> Wire<MariaDb> {
    let server = MariaDb::fresh("groups");
    server.run(setup);
    let (port, entry) = (server.port, server.entry_with(more));
    Wire::before(server, port, &entry, queries)
}

const ONE: &str = "max_connections: 1";

/// A target after its first page, on which one session ran all queries. Queries that never ran go four together where a round
/// trip takes 10 ms, and one that changes its session costs the session there, as others ran behind it. A machine that was
/// too busy for a shorter round trip tries once more.
fn on_one_session(wire: impl Fn() -> Wire<MariaDb>) -> Wire<MariaDb> {
    wait_for("a server that is near", || {
        let wire = wire();
        wire.good_but(&[]);
        (wire.proxy.connections() == 1).then_some(wire)
    })
}

#[test]
fn fifty_queries_are_six_round_trips_warm_and_one_each_cold() {
    for lanes in [ONE, "max_connections: 3"] {
        let wire = wire("", lanes, &queries(50, &[]));
        wire.good_but(&[]);
        let cold = wire.proxy.turns();
        // A login is three at most, and preparing all that waits is one or two, on each of up to three sessions.
        assert!(cold <= 50 + 3 * 5, "{cold} round trips on the first page, the logins included ({lanes})");
        for _ in 0..5 {
            wire.good_but(&[]);
        }
        costs_at_most(6, || wire.turns_of_a_page());
    }
}

#[test]
fn an_error_in_a_group_is_its_own_query_s() {
    let failing = (3, "SELECT (SELECT v FROM t) AS value");
    let wire = wire("CREATE TABLE t AS SELECT 1 AS v", ONE, &queries(12, &[failing]));
    wire.good_but(&[]);
    wire.good_but(&[]);
    wire.server.run("INSERT INTO t VALUES (2)");
    for _ in 0..3 {
        let page = wire.good_but(&["q3 sql"]);
        assert_eq!(page.value("q11", &[]), Some(11.0));
    }
    wire.server.run("DELETE FROM t WHERE v = 2");
    for _ in 0..3 {
        assert_eq!(wire.good_but(&[]).value("q3", &[]), Some(1.0));
    }
    assert_eq!(wire.proxy.connections(), 1, "a session was lost");
}

#[test]
fn a_statement_that_the_server_refuses_is_its_own_query_s() {
    let refused = [(0, "SELECT nonsense"), (7, "SELECT 1 +"), (8, "TABLE nowhere")];
    let wire = wire("", ONE, &queries(12, &refused));
    for _ in 0..3 {
        let page = wire.good_but(&["q0 sql", "q7 sql", "q8 sql"]);
        assert_eq!(page.value("q11", &[]), Some(11.0));
    }
    assert_eq!(wire.proxy.connections(), 1, "a session was lost");
}

#[test]
fn a_query_that_hangs_keeps_none_of_its_neighbours() {
    let hanging = (HANGING, "SELECT 1 AS value, SLEEP(60)");
    hangs_alone(|| wire("", "max_connections: 2", &queries(21, &[hanging])));
}

/// The server ends the statement in the group, and once more by itself.
#[test]
fn a_known_query_that_waits_for_a_lock_costs_nobody_a_session() {
    retried_if_busy(|| {
        let text = queries(12, &[(4, "SELECT COUNT(*) AS value FROM t")])
            .replace("name: q4, database", "name: q4, timeout: 500ms, database");
        let wire = wire("CREATE TABLE t (v INT)", ONE, &text);
        for _ in 0..3 {
            wire.good_but(&[]);
        }
        let mut locking = wire.server.client();
        locking.query_drop("LOCK TABLES t WRITE").unwrap();
        for _ in 0..3 {
            let page = wire.good_but(&["q4 timeout"]);
            assert_eq!(page.value("q11", &[]), Some(11.0));
        }
        locking.query_drop("INSERT INTO t VALUES (1)").unwrap();
        drop(locking);
        wait_for("the lock to be gone", || (wire.page().value("q4", &[]) == Some(1.0)).then_some(()));
        for _ in 0..3 {
            wire.good_but(&[]);
        }
        assert_eq!(wire.proxy.connections(), 1, "a session was lost");
    });
}

/// Preparing waits for the lock as well, and no limit of a statement holds for that.
#[test]
fn a_locked_table_costs_a_fresh_session_nothing_but_its_own_query() {
    retried_if_busy(|| {
        let locked = |n| (n, "SELECT COUNT(*) AS value FROM t");
        let text =
            queries(12, &[locked(4)]).replace("name: q4, database", "name: q4, timeout: 500ms, database");
        let wire = wire("CREATE TABLE t (v INT)", ONE, &text);
        let mut locking = wire.server.client();
        locking.query_drop("LOCK TABLES t WRITE").unwrap();
        for _ in 0..2 {
            let page = wire.good_but(&["q4 timeout"]);
            assert_eq!(page.value("q11", &[]), Some(11.0));
        }
        drop(locking);
        wait_for("the lock to be gone", || (wire.page().value("q4", &[]) == Some(0.0)).then_some(()));
        assert_eq!(wire.proxy.connections(), 1, "a session was lost");
    });
}

#[test]
fn a_table_that_changes_is_read_right_in_the_same_scrape() {
    let wire = wire("CREATE TABLE t AS SELECT 5 AS value", ONE, &queries(12, &[(6, "SELECT * FROM t")]));
    let changes = [
        ("ALTER TABLE t MODIFY value DECIMAL(5,1)", 5.0),
        ("UPDATE t SET value = 5.5", 5.5),
        ("ALTER TABLE t ADD other INT FIRST", 5.5),
        // Its text would be another number.
        ("ALTER TABLE t MODIFY value FLOAT", 5.5),
        ("UPDATE t SET value = 16777216", 16_777_216.0),
        ("ALTER TABLE t MODIFY value BIGINT UNSIGNED", 16_777_216.0),
        ("DROP TABLE t;\nCREATE TABLE t AS SELECT 7 AS value", 7.0),
        ("DROP TABLE t;\nCREATE VIEW t AS SELECT 8.0 AS value", 8.0),
    ];
    for (change, value) in changes {
        for _ in 0..3 {
            wire.good_but(&[]);
        }
        wire.server.run(change);
        let page = wire.good_but(&[]);
        assert_eq!((page.value("q6", &[]), page.value("q11", &[])), (Some(value), Some(11.0)), "{change}");
    }
    assert_eq!(wire.proxy.connections(), 1, "a session was lost");
}

#[test]
fn a_column_that_goes_and_comes_is_missed_while_it_is_away() {
    let wire = wire("CREATE TABLE t AS SELECT 5 AS value", ONE, &queries(12, &[(6, "SELECT * FROM t")]));
    for _ in 0..2 {
        for _ in 0..3 {
            assert_eq!(wire.good_but(&[]).value("q6", &[]), Some(5.0));
        }
        wire.server.run("ALTER TABLE t CHANGE value away INT");
        wire.good_but(&["q6 missing_column"]);
        wire.server.run("ALTER TABLE t CHANGE away value INT");
    }
    assert_eq!(wire.proxy.connections(), 1, "a session was lost");
}

#[test]
fn the_same_sql_twice_is_one_statement() {
    let twin = "SELECT 7 AS value";
    let wire = wire("", ONE, &queries(12, &[(2, twin), (5, twin), (9, twin)]));
    for _ in 0..4 {
        let page = wire.good_but(&[]);
        assert_eq!((page.value("q2", &[]), page.value("q9", &[])), (Some(7.0), Some(7.0)));
    }
}

#[test]
fn a_function_that_lifts_the_limits_lifts_nobody_else_s() {
    retried_if_busy(|| {
        let one = |name: &str| format!("CREATE OR REPLACE FUNCTION {name}() RETURNS INT RETURN 1");
        let setup = format!(
            "CREATE TABLE t (v INT);\n{};\n{};\n{};\nCREATE FUNCTION unlocks() RETURNS INT BEGIN \
             SET SESSION tx_read_only = 0; SET SESSION max_statement_time = 0; RETURN 1; END",
            one("writes"),
            one("waits"),
            one("does_both")
        );
        let unlocks = "SELECT unlocks() AS value";
        let calls = [
            (1, unlocks),
            (2, "SELECT writes() AS value"),
            (3, unlocks),
            (4, "SELECT waits() AS value"),
            (5, unlocks),
            (6, "SELECT does_both() AS value"),
        ];
        let text = queries(12, &calls).replace("name: q4, database", "name: q4, timeout: 500ms, database");
        let wire = on_one_session(|| wire(&setup, ONE, &text));
        for _ in 0..2 {
            wire.good_but(&[]);
        }
        wire.server.run(
            "CREATE OR REPLACE FUNCTION writes() RETURNS INT BEGIN INSERT INTO t VALUES (1); RETURN 1; END;\n\
             CREATE OR REPLACE FUNCTION does_both() RETURNS INT BEGIN SET SESSION tx_read_only = 0; \
             SET SESSION max_statement_time = 0; INSERT INTO t VALUES (1); RETURN 1; END;\n\
             CREATE OR REPLACE FUNCTION waits() RETURNS INT BEGIN SET SESSION max_statement_time = 0; RETURN SLEEP(60); END",
        );
        for _ in 0..3 {
            wire.good_but(&["q2 read_only", "q4 timeout", "q6 read_only"]);
        }
        let written: Option<u64> = wire.server.client().query_first("SELECT COUNT(*) FROM t").unwrap();
        assert_eq!(written, Some(0));
        assert_eq!(wire.proxy.connections(), 1, "a session was lost");
    });
}

#[test]
fn rows_beyond_a_limit_cost_their_query_alone() {
    let many = (5, "SELECT seq AS value FROM seq_1_to_200");
    let text = queries(12, &[many])
        .replace("metrics: [{name: q5}]", "max_rows: 100, metrics: [{name: q5, labels: [value]}]");
    let wire = wire("", ONE, &text);
    for _ in 0..3 {
        let page = wire.good_but(&["q5 limit"]);
        assert_eq!(page.value("q11", &[]), Some(11.0));
    }
    assert_eq!(wire.proxy.connections(), 1, "a session was lost");
}

/// It grows beyond the limit in a group, and to so many rows that it is large.
#[test]
fn a_result_that_grows_costs_its_query_alone() {
    let many = (5, "SELECT seq AS value FROM seq_1_to_2000 WHERE seq <= (SELECT v FROM t)");
    let text = queries(12, &[many])
        .replace("metrics: [{name: q5}]", "max_rows: 1900, metrics: [{name: q5, labels: [value]}]");
    let wire = wire("CREATE TABLE t AS SELECT 100 AS v", ONE, &text);
    for rows in [100, 1800, 100] {
        wire.server.run(&format!("UPDATE t SET v = {rows}"));
        for _ in 0..3 {
            assert_eq!(wire.good_but(&[]).series("q5").len(), rows);
        }
    }
    wire.server.run("UPDATE t SET v = 1950");
    for _ in 0..3 {
        let page = wire.good_but(&["q5 limit"]);
        assert_eq!(page.value("q11", &[]), Some(11.0));
    }
    assert_eq!(wire.proxy.connections(), 1, "a session was lost");
}

/// Its session is made new after it, and knows no name any more.
#[test]
fn a_query_that_leaves_something_stays_alone_and_the_others_are_prepared_again() {
    let leaving = (3, "SELECT CAST(@a := COALESCE(@a, 0) + 1 AS SIGNED) AS value");
    let wire = on_one_session(|| wire("", ONE, &queries(12, &[leaving])));
    for _ in 0..4 {
        let page = wire.good_but(&[]);
        assert_eq!((page.value("q3", &[]), page.value("q11", &[])), (Some(1.0), Some(11.0)));
    }
    assert_eq!(wire.proxy.connections(), 1, "a session was lost");
}

#[test]
fn quotes_backslashes_and_snowmen_arrive_as_they_are() {
    let sql = r#"SELECT 1 AS value, 'it''s a "\\" \u2603 `x`; -- no' AS l"#;
    let text = queries(12, &[]).replace(
        "sql: \"SELECT 5 AS value\", metrics: [{name: q5}]",
        &format!("sql: \"{}\", metrics: [{{name: q5, labels: [l]}}]", sql.replace('"', "\\\"")),
    );
    for mode in ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ORACLE"] {
        for names in ["utf8mb4", "latin1", "gbk"] {
            let more = format!(
                "max_connections: 1, read_only: false, session_sql: [\"SET sql_mode = '{mode}'\", \"SET NAMES {names}\"]"
            );
            let wire = wire("", &more, &text);
            let label = |page: crate::checker::Page| page.series("q5")[0].labels["l"].clone();
            let alone = label(wire.good_but(&[]));
            assert!(alone.contains("it's a"), "{alone}");
            for _ in 0..2 {
                assert_eq!(label(wire.good_but(&[])), alone, "{mode} {names}");
            }
            assert_eq!(wire.proxy.connections(), 1, "a session was lost");
        }
    }
}

#[test]
fn a_session_that_was_killed_meanwhile_costs_no_query() {
    let wire = wire("", ONE, &queries(12, &[]));
    for _ in 0..3 {
        wire.good_but(&[]);
        wire.good_but(&[]);
        let sql = format!(
            "SELECT id FROM information_schema.processlist WHERE db = '{}' AND id <> CONNECTION_ID()",
            wire.server.database
        );
        let mut client = wire.server.client();
        wait_for("the sessions to end", || {
            let sessions: Vec<u64> = client.query(&sql).unwrap();
            // One that has ended by itself meanwhile is an error that does not matter.
            sessions.iter().for_each(|id| drop(client.query_drop(format!("KILL {id}"))));
            sessions.is_empty().then_some(())
        });
    }
    wire.good_but(&[]);
}
