//! Jobs of one batch: one round trip, the same cells as alone, and what a cut, a limit or a full server does to them.

use std::time::Duration;

use mysql::prelude::Queryable;
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Health, Job, Session, Sql};
use sql_exporter::error::Reason;

use super::{LONG, login, open, session};
use crate::conformance::types::{MARIADB, Type};
use crate::process::wait_for;
use crate::proxy::{Mode, Proxy};
use crate::recorder::{Recorder, job};
use crate::servers::MariaDb;
use crate::servers::own::OwnMariaDb;

/// Runs all in one batch.
fn batch(session: &mut dyn Session, texts: &[String]) -> (Vec<Recorder>, Health) {
    let texts: Vec<Sql> = texts.iter().map(|text| Sql::new(text)).collect();
    let recorder = || Recorder { keep: 1000, ..Recorder::default() };
    let mut sinks: Vec<Recorder> = texts.iter().map(|_| recorder()).collect();
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for (sql, sink) in texts.iter().zip(&mut sinks) {
        jobs.push(job(sql, LONG, sink));
    }
    let health = session.run(&mut jobs, Deadline::within(LONG));
    (sinks, health)
}

fn clean(health: &Health) {
    assert!(matches!(health, Health::Clean), "{health:?}");
}

/// Runs all one by one, then together: columns and cells are the same.
fn both_ways(session: &mut dyn Session, texts: &[String]) {
    let alone: Vec<Recorder> = texts
        .iter()
        .map(|sql| {
            let (mut sinks, health) = batch(session, std::slice::from_ref(sql));
            clean(&health);
            sinks.remove(0)
        })
        .collect();
    let (together, health) = batch(session, texts);
    clean(&health);
    for ((sql, alone), together) in texts.iter().zip(&alone).zip(&together) {
        assert_eq!(alone.good(), together.good(), "{sql}");
        assert_eq!(alone.columns, together.columns, "{sql}");
    }
}

#[test]
fn each_type_is_the_same_alone_and_among_others() {
    let server = MariaDb::fresh("together");
    let list = |shown: fn(&Type) -> &str, name: bool| -> String {
        let column = |(at, known): (usize, &Type)| match name {
            true => format!(", c{at} {}", shown(known)),
            false => format!(", {}", shown(known)),
        };
        MARIADB.all.iter().enumerate().map(column).collect()
    };
    let (columns, literals) = (list(|known| known.declared, true), list(|known| known.literal, false));
    let setup = format!(
        "SET NAMES utf8mb4;\nSET sql_mode = '';\nCREATE TABLE types (id INT{columns});\n\
         INSERT INTO types VALUES (1{literals});\nINSERT INTO types (id) VALUES (2)"
    );
    server.run(&setup);
    let texts: Vec<String> =
        (0..MARIADB.all.len()).map(|at| format!("SELECT id, c{at} FROM types ORDER BY id")).collect();
    both_ways(&mut *session(&server), &texts);
}

#[test]
fn numbers_and_moments_at_their_ends_are_the_same_alone_and_among_others() {
    let server = MariaDb::fresh("together");
    server.run(
        "CREATE TABLE t (a DOUBLE(10,2), b DECIMAL(10,2) ZEROFILL, c FLOAT, d INT(5) ZEROFILL, e DOUBLE ZEROFILL, \
         f YEAR, g DATETIME(1), h TIME(3), i DOUBLE UNSIGNED, j BIGINT ZEROFILL, k BIT(9), l TIMESTAMP(3) NULL);\n\
         SET sql_mode = '';\n\
         INSERT INTO t VALUES (0.125, 1.5, 16777216, 42, 1.5, 0, '2026-01-00 00:00:00.5', '-00:00:01.005', 1e-300, 7, \
         b'101010101', '2026-01-02 03:04:05.006'), (1e7, 0, 0.1, 0, 0, 2155, '0000-00-00 00:00:00', '838:59:59', 0, \
         18446744073709551615, 0, '1970-01-01 12:00:01'), (-0.0, 0, -0.0, 0, 0, 1901, '9999-12-31 23:59:59.9', \
         '00:00:00', 0, 0, 0, NULL);\n\
         CREATE TABLE doubles (v DOUBLE);\n\
         INSERT INTO doubles SELECT (RAND(1) - 0.5) * POW(10, CAST(seq AS SIGNED) - 310) FROM seq_1_to_600;\n\
         INSERT INTO doubles VALUES (1.7976931348623157e308), (-1.7976931348623157e308), (2.2250738585072014e-308), \
         (5e-324), (-0.0), (0.1), (1e15), (1e16), (123456789012345678), (4503599627370497.5), (1e22), (1e23)",
    );
    let mut texts: Vec<String> = ('a'..='l').map(|column| format!("SELECT {column} FROM t")).collect();
    texts.extend(
        [
            "SELECT v FROM doubles",
            "SELECT v / 3, SQRT(ABS(v)), v * 1.0, COALESCE(v, 0), IF(1, v, 0), -v FROM doubles",
            "SELECT SUM(v / 1e300), MAX(v), MIN(v), AVG(v / 1e300), STDDEV(v / 1e300) FROM doubles",
            "SELECT NULL, TRUE, 1, -1, 18446744073709551615, 1.50, 1e300, 'a', x'ff', b'11', COUNT(*), 1 / 3",
            "SELECT NOW() > 0, DATE '2026-01-02', TIME '10:00', TIMESTAMP '2026-01-02 03:04:05.5', UNIX_TIMESTAMP(0)",
            "SELECT SUM(seq), AVG(seq), seq DIV 2, seq % 3, CAST(seq AS UNSIGNED) FROM seq_1_to_9 GROUP BY seq % 2",
            "SHOW COLUMNS FROM t",
            "SHOW VARIABLES LIKE 'max_connections'",
            "EXPLAIN SELECT 1",
            "SELECT table_name, table_rows, create_time, data_length FROM information_schema.tables \
             WHERE table_schema = DATABASE()",
            "VALUES (1, 'a'), (2, NULL)",
            "SELECT * FROM t WHERE 1 = 0",
            "WITH x AS (SELECT 'grüße ☃' AS a) SELECT a, LENGTH(a), HEX(a) FROM x",
        ]
        .map(str::to_owned),
    );
    texts.push("SELECT ROUND(v, 2) FROM doubles".to_owned());
    both_ways(&mut *session(&server), &texts);
}

#[test]
fn an_answer_that_is_cut_ends_the_jobs_before_the_cut_only() {
    let server = MariaDb::fresh("together");
    let proxy = Proxy::before(server.port);
    let mut login = login(&server);
    login.hosts[0].port = proxy.port();
    let texts: Vec<String> = (0..10).map(|n| format!("SELECT {n}")).collect();
    let mut lengths = Vec::new();
    for bytes in (0..1200).step_by(41) {
        proxy.set(Mode::Pass);
        let mut session = open(login.clone()).unwrap();
        clean(&batch(&mut *session, &texts).1);
        proxy.set(Mode::CutAfter(bytes));
        let (sinks, health) = batch(&mut *session, &texts);
        let ended = sinks.iter().take_while(|sink| sink.verdict.is_some()).count();
        for (n, sink) in sinks.iter().enumerate() {
            assert_eq!(sink.verdict.is_some(), n < ended, "{bytes}");
            if n < ended {
                assert_eq!(sink.good()[0], [format!("Int({n})")]);
            }
        }
        match health {
            Health::Clean => assert_eq!(ended, 10),
            Health::Lost(error) => assert!(ended < 10, "{error}"),
            // Cut in the answer to the question behind the batch.
            Health::Spent => assert_eq!(ended, 10),
        }
        lengths.push(ended);
    }
    assert!(lengths.contains(&0) && lengths.iter().any(|ended| (1..10).contains(ended)), "{lengths:?}");
}

/// A counter of the whole server.
fn status(server: &MariaDb, name: &str) -> u64 {
    let row: Option<(String, u64)> =
        server.client().query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'")).unwrap();
    row.unwrap().1
}

#[test]
fn a_server_keeps_each_statement_once_and_is_asked_one_by_one_when_it_keeps_no_more() {
    let own = OwnMariaDb::start(&[]);
    let server = own.access();
    let texts: Vec<String> = (0..10).map(|n| format!("SELECT {n}")).collect();
    let all = |session: &mut dyn Session| {
        let (sinks, health) = batch(session, &texts);
        clean(&health);
        for (n, sink) in sinks.iter().enumerate() {
            assert_eq!(sink.good()[0], [format!("Int({n})")]);
        }
    };
    let mut first = session(server);
    (0..3).for_each(|_| all(&mut *first));
    let counts = || (status(server, "Prepared_stmt_count"), status(server, "Com_stmt_execute"));
    assert_eq!(counts(), (10, 30));
    let mut second = session(server);
    server.run("SET GLOBAL max_prepared_stmt_count = 0");
    (0..3).for_each(|_| all(&mut *second));
    assert_eq!(counts(), (10, 30), "the second session's went as text");
    // What it has, it keeps.
    all(&mut *first);
    assert_eq!(counts(), (10, 40));
    drop((first, second));
    wait_for("the statements to go with their session", || (counts().0 == 0).then_some(()));
}

/// MariaDB ends BENCHMARK at its limit with a value and no error.
#[test]
fn a_result_that_the_limit_has_cut_short_is_a_timeout_and_its_neighbours_are_not() {
    const CUT: &str = "SELECT BENCHMARK(1000000000000, SHA2('a', 256))";
    let server = MariaDb::fresh("together");
    let mut session = session(&server);
    for snapshot in [false, true] {
        if snapshot {
            clean(&session.snapshot(true, Deadline::within(LONG)));
        }
        for place in [0, 3, 5] {
            let texts: Vec<Sql> = (0..6)
                .map(|n| if n == place { Sql::new(CUT) } else { Sql::new(&format!("SELECT {n}")) })
                .collect();
            let mut sinks: Vec<Recorder> = texts.iter().map(|_| Recorder::new()).collect();
            let mut jobs: Vec<Job<'_>> = Vec::new();
            for (sql, sink) in texts.iter().zip(&mut sinks) {
                jobs.push(job(sql, Duration::from_millis(200), sink));
            }
            clean(&session.run(&mut jobs, Deadline::within(LONG)));
            assert_eq!(sinks[place].reason(), Reason::Timeout, "{snapshot} {place}");
            // Behind a cut one a result is doubtful: it is asked about, or repeated alone, never shown when it may be cut.
            for (n, sink) in sinks.iter().enumerate().take(place) {
                assert_eq!(sink.good()[0], [format!("Int({n})")], "{snapshot} {place}");
            }
        }
        if snapshot {
            clean(&session.snapshot(false, Deadline::within(LONG)));
        }
    }
    // One that only was slow is good.
    let slow: Vec<String> = (0..6).map(|n| format!("SELECT SLEEP(0.06) + {n}")).collect();
    let texts: Vec<Sql> = slow.iter().map(|text| Sql::new(text)).collect();
    let mut sinks: Vec<Recorder> = texts.iter().map(|_| Recorder::new()).collect();
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for (sql, sink) in texts.iter().zip(&mut sinks) {
        jobs.push(job(sql, Duration::from_millis(300), sink));
    }
    clean(&session.run(&mut jobs, Deadline::within(LONG)));
    for (n, sink) in sinks.iter().enumerate() {
        assert_eq!(sink.good()[0], [format!("Int({n})")]);
    }
}

/// What the session takes to be good, prepared or not, costs one round trip each time.
#[test]
fn fifty_statements_are_prepared_in_one_round_trip_and_run_in_one() {
    let server = MariaDb::fresh("together");
    let proxy = Proxy::before(server.port);
    let mut login = login(&server);
    login.hosts[0].port = proxy.port();
    let turns = |work: &mut dyn FnMut()| {
        let before = proxy.turns();
        work();
        proxy.turns() - before
    };
    let mut session = None;
    let entering = turns(&mut || session = Some(open(login.clone()).unwrap()));
    assert!(entering <= 3, "{entering} round trips for a login");
    let mut session = session.unwrap();
    let texts: Vec<String> = (0..50).map(|n| format!("SELECT {n}")).collect();
    let sql: Vec<Sql> = texts.iter().map(|text| Sql::new(text)).collect();
    let by = Deadline::within(LONG);
    let preparing = turns(&mut || clean(&session.prepare(&sql.iter().collect::<Vec<_>>(), by)));
    assert!(preparing <= 2, "{preparing} round trips to prepare fifty statements");
    for _ in 0..2 {
        let running = turns(&mut || {
            let (sinks, health) = batch(&mut *session, &texts);
            clean(&health);
            assert_eq!(sinks[49].good()[0], ["Int(49)"]);
        });
        assert!(running <= 2, "{running} round trips to run fifty statements");
    }
    let alone = turns(&mut || clean(&batch(&mut *session, &texts[..1]).1));
    assert_eq!(alone, 1);
}

/// More than the socket buffers of both sides hold, both ways.
#[test]
fn neither_side_waits_for_the_other_when_both_have_much_to_say() {
    let server = MariaDb::fresh("together");
    let mut session = session(&server);
    let texts: Vec<String> =
        (0..40).map(|n| format!("SELECT {n} AS n, '{}' AS text", "x".repeat(100_000))).collect();
    let sql: Vec<Sql> = texts.iter().map(|text| Sql::new(text)).collect();
    clean(&session.prepare(&sql.iter().collect::<Vec<_>>(), Deadline::within(LONG)));
    let (sinks, health) = batch(&mut *session, &texts);
    clean(&health);
    for (n, sink) in sinks.iter().enumerate() {
        assert_eq!(sink.good()[0][0], format!("Int({n})"));
    }
}

/// The server's own time, which is what decides whether a query is quick.
#[test]
fn the_way_to_the_server_is_no_part_of_what_a_query_took() {
    let server = MariaDb::fresh("together");
    let mut session = session(&server);
    for together in [false, true] {
        let texts = ["SELECT 1".to_owned(), "SELECT SLEEP(0.2)".to_owned(), "SELECT 3".to_owned()];
        let (sinks, health) = match together {
            true => batch(&mut *session, &texts),
            false => batch(&mut *session, &texts[1..2]),
        };
        clean(&health);
        let slow = if together { &sinks[1] } else { &sinks[0] };
        assert!(slow.took >= Duration::from_millis(150), "{:?}", slow.took);
    }
}
