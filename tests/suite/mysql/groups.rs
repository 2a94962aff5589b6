//! Jobs of one batch that a session knows: one message, the same cells, and what a cut or a proxy does to them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use mysql::prelude::Queryable;
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Health, Job, Session, Sql};

use super::faults::scripted;
use super::{LONG, login, open, session};
use crate::conformance::types::{MARIADB, Type};
use crate::proxy::{Mode, Proxy};
use crate::recorder::{Recorder, run};
use crate::servers::MariaDb;
use crate::servers::own::OwnMariaDb;

/// Runs all in one batch.
fn batch(session: &mut dyn Session, texts: &[String]) -> (Vec<Recorder>, Health) {
    let texts: Vec<Sql> = texts.iter().map(|text| Sql::new(text)).collect();
    let recorder = || Recorder { keep: 1000, ..Recorder::default() };
    let mut sinks: Vec<Recorder> = texts.iter().map(|_| recorder()).collect();
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for (sql, sink) in texts.iter().zip(&mut sinks) {
        jobs.push(Job { sql, allowance: LONG, sink });
    }
    let health = session.run(&mut jobs, Deadline::within(LONG));
    (sinks, health)
}

/// How many statements this session has executed by name.
fn executed(session: &mut dyn Session) -> usize {
    let (sink, _) = run(session, "SHOW SESSION STATUS LIKE 'Com_execute_sql'", LONG);
    let shown = &sink.good()[0][1];
    shown.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

fn clean(health: &Health) {
    assert!(matches!(health, Health::Clean), "{health:?}");
}

/// Runs all one by one, then together: columns and cells are the same. Gives how many went together.
fn both_ways(session: &mut dyn Session, texts: &[String]) -> usize {
    let (alone, health) = batch(session, texts);
    clean(&health);
    assert_eq!(executed(session), 0);
    let (together, health) = batch(session, texts);
    clean(&health);
    for ((sql, alone), together) in texts.iter().zip(&alone).zip(&together) {
        assert_eq!(alone.good(), together.good(), "{sql}");
        assert_eq!(alone.columns, together.columns, "{sql}");
    }
    executed(session)
}

#[test]
fn each_type_is_the_same_alone_and_in_a_message() {
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
    let floats = MARIADB.all.iter().filter(|known| known.declared.starts_with("FLOAT")).count();
    let count = both_ways(&mut *session(&server), &texts);
    assert_eq!(count, texts.len() - floats);
}

#[test]
fn numbers_and_moments_at_their_ends_are_the_same_alone_and_in_a_message() {
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
    let lossy = ["a", "b", "c"].len();
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
    // Those of a table with lossy columns stay alone, and what gives a rounded double does.
    let rounded = "SELECT ROUND(v, 2) FROM doubles".to_owned();
    texts.push(rounded);
    let alone = lossy + ["SELECT * FROM t", "SELECT ROUND"].len();
    assert_eq!(both_ways(&mut *session(&server), &texts), texts.len() - alone);
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
            other @ Health::Spent => panic!("{other:?}"),
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
    assert_eq!((status(server, "Prepared_stmt_count"), status(server, "Com_execute_sql")), (10, 20));
    let mut second = session(server);
    all(&mut *second);
    server.run("SET GLOBAL max_prepared_stmt_count = 0");
    (0..3).for_each(|_| all(&mut *second));
    assert_eq!(status(server, "Com_execute_sql"), 20);
    // What it has, it keeps.
    all(&mut *first);
    assert_eq!(status(server, "Com_execute_sql"), 30);
}

/// A proxy that reads such a message as one statement that it does not know.
#[test]
fn a_proxy_that_takes_one_statement_a_message_gets_them_one_by_one() {
    const SYNTAX: &[u8] = b"\x17\0\0\x01\xff\x28\x04#42000no such syntax";
    let real = MariaDb::shared("mysql").port;
    let port = scripted(move |mut client| {
        let mut server = TcpStream::connect(("127.0.0.1", real)).unwrap();
        let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut answers, &mut back));
        let mut buffer = vec![0; 65_536];
        while let Ok(size @ 1..) = client.read(&mut buffer) {
            let several = buffer[..size].windows(8).any(|part| part == b"PREPARE ");
            let done = if several { client.write_all(SYNTAX) } else { server.write_all(&buffer[..size]) };
            if done.is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    });
    let server = MariaDb::fresh("together");
    let mut login = login(&server);
    login.hosts[0].port = port;
    let mut session = open(login).unwrap();
    let texts: Vec<String> = (0..10).map(|n| format!("SELECT {n}")).collect();
    for _ in 0..3 {
        let (sinks, health) = batch(&mut *session, &texts);
        clean(&health);
        for (n, sink) in sinks.iter().enumerate() {
            assert_eq!(sink.good()[0], [format!("Int({n})")]);
        }
    }
    assert_eq!(executed(&mut *session), 0);
}
