//! What holds a session beside the attempts to write, which stand in the table of `conformance`.

use mysql::prelude::Queryable;
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::driver::{Health, Job, Session, Sql};
use sql_exporter::error::Reason;

use super::{LONG, login, open, session};
use crate::recorder::{Recorder, job, run};
use crate::servers::MariaDb;

fn shop() -> MariaDb {
    let server = MariaDb::fresh("guard");
    server.run(
        "CREATE TABLE t (a INT);\n\
         CREATE FUNCTION writes() RETURNS INT BEGIN INSERT INTO t VALUES (1); RETURN 1; END",
    );
    server
}

fn written(server: &MariaDb) -> u64 {
    server.client().query_first("SELECT COUNT(*) FROM t").unwrap().unwrap()
}

#[test]
fn a_session_that_read_sees_what_others_commit_even_without_autocommit() {
    let server = shop();
    let mut login = login(&server);
    login.session_sql = vec!["SET SESSION autocommit = 0".to_owned()];
    let mut session = open(login).unwrap();
    for count in 0..3 {
        let (sink, _) = run(&mut *session, "SELECT COUNT(*) FROM t", LONG);
        assert_eq!(sink.good()[0], [format!("Int({count})")]);
        server.run("INSERT INTO t VALUES (1)");
    }
}

#[test]
fn read_only_false_lifts_both_protections() {
    let server = shop();
    let mut login = login(&server);
    login.read_only = false;
    let mut session = open(login).unwrap();
    for sql in ["SELECT writes()", "INSERT INTO t VALUES (2)", "SELECT 1 INTO @a", "DO 1"] {
        let (sink, health) = run(&mut *session, sql, LONG);
        sink.good();
        assert!(matches!(health, Health::Clean), "{sql}: {health:?}");
    }
    assert_eq!(written(&server), 2);
    // The server is not asked to take several statements at once.
    let (sink, _) = run(&mut *session, "DO 1; DO 2", LONG);
    assert_eq!(sink.reason(), Reason::Sql);
}

#[test]
fn a_query_leaves_no_variable_and_no_lock_behind() {
    let server = shop();
    let mut login = login(&server);
    login.session_sql = vec!["SET @mine = 7".to_owned()];
    let mut session = open(login).unwrap();
    for _ in 0..2 {
        let (sink, health) = run(&mut *session, "SELECT CAST(@a := COALESCE(@a, 0) + 1 AS SIGNED)", LONG);
        assert_eq!(sink.good()[0], ["Int(1)"]);
        assert!(matches!(health, Health::Clean), "{health:?}");
    }
    run(&mut *session, "SELECT GET_LOCK('guard', 0)", LONG).0.good();
    let free: Option<i64> = server.client().query_first("SELECT IS_FREE_LOCK('guard')").unwrap();
    assert_eq!(free, Some(1));
    assert_eq!(run(&mut *session, "SELECT @mine, '☃'", LONG).0.good()[0], ["Int(7)", "Text(\"☃\")"]);
    assert_eq!(run(&mut *session, "SELECT writes()", LONG).0.reason(), Reason::ReadOnly);
}

#[test]
fn a_session_sql_that_fails_is_not_repeated() {
    let mut login = login(&MariaDb::fresh("guard"));
    for sql in ["SELEC 'hush-hush'", "SET sql_mode = 'hush-hush'"] {
        login.session_sql = vec!["SET @a = 1".to_owned(), sql.to_owned()];
        let Err(error) = open(login.clone()) else { panic!("{sql}") };
        assert!(error.to_string().starts_with("session_sql 2: "), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[test]
fn session_sql_runs_once_on_each_session() {
    let mut login = login(&MariaDb::fresh("guard"));
    login.session_sql = vec!["SET @a = 41".to_owned(), "SET @a = @a + 1".to_owned()];
    let mut session = open(login.clone()).unwrap();
    for _ in 0..2 {
        assert_eq!(run(&mut *session, "SELECT @a", LONG).0.good()[0], ["Int(42)"]);
    }
    login.session_sql = vec!["SELECT nothing".to_owned()];
    let error = open(login).err().unwrap();
    assert_eq!(error.sqlstate(), Some("42S22"));
    assert!(error.message().contains("nothing"), "{error}");
}

#[test]
fn strings_that_the_check_cannot_read_are_refused() {
    let server = MariaDb::fresh("guard");
    for mode in ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"] {
        let mut login = login(&server);
        login.session_sql = vec![format!("SET SESSION sql_mode = '{mode}'")];
        let mut session = open(login).unwrap();
        let (sink, _) = run(&mut *session, "SELECT '\\' INTO OUTFILE '/tmp/sqlx-guard' -- '", LONG);
        assert_eq!(sink.reason(), Reason::ReadOnly, "{mode}");
        run(&mut *session, "SELECT 'plain'", LONG).0.good();
    }
}

/// Functions and a view that leave something, each in its own way, and only where the table `todo` has a row.
fn leaving() -> MariaDb {
    let server = MariaDb::fresh("guard");
    server.run(
        "CREATE TABLE todo (id INT);
         CREATE FUNCTION it_zone() RETURNS INT READS SQL DATA BEGIN IF EXISTS (SELECT * FROM todo) THEN \
            SET time_zone = '+05:00'; END IF; RETURN 1; END;
         CREATE FUNCTION it_mode() RETURNS INT READS SQL DATA BEGIN IF EXISTS (SELECT * FROM todo) THEN \
            SET sql_mode = 'ANSI_QUOTES'; END IF; RETURN 1; END;
         CREATE FUNCTION it_sets() RETURNS INT READS SQL DATA BEGIN IF EXISTS (SELECT * FROM todo) THEN \
            SET @left = 1; END IF; RETURN 1; END;
         CREATE FUNCTION it_assigns() RETURNS INT READS SQL DATA RETURN IF(EXISTS (SELECT * FROM todo), @left := 1, 1);
         CREATE FUNCTION it_selects() RETURNS INT READS SQL DATA BEGIN IF EXISTS (SELECT * FROM todo) THEN \
            SELECT 5 INTO @left; END IF; RETURN 1; END;
         CREATE FUNCTION it_makes() RETURNS INT MODIFIES SQL DATA BEGIN IF EXISTS (SELECT * FROM todo) THEN \
            CREATE TEMPORARY TABLE kept (a INT); END IF; RETURN 1; END;
         CREATE FUNCTION it_takes() RETURNS INT READS SQL DATA \
            RETURN IF(EXISTS (SELECT * FROM todo), GET_LOCK(DATABASE(), 0), 1);
         CREATE FUNCTION it_fails() RETURNS INT READS SQL DATA BEGIN IF EXISTS (SELECT * FROM todo) THEN \
            SET sql_mode = 'ANSI_QUOTES'; SIGNAL SQLSTATE '45000'; END IF; RETURN 1; END;
         CREATE FUNCTION it_fails_as_denied() RETURNS INT READS SQL DATA BEGIN IF EXISTS (SELECT * FROM todo) THEN \
            SET div_precision_increment = 0; SIGNAL SQLSTATE '42000'; END IF; RETURN 1; END;
         CREATE VIEW seen AS SELECT it_takes() AS v",
    );
    server
}

/// What a neighbour and another client see of what was left.
const REST: [(&str, &str); 3] = [
    (
        "SELECT @@time_zone = '+05:00', @@sql_mode LIKE '%ANSI_QUOTES%', @@div_precision_increment, @left",
        "0 0 4 NULL",
    ),
    ("SELECT IS_USED_LOCK(DATABASE())", "NULL"),
    ("SELECT COUNT(*) FROM kept", "no table"),
];

fn nothing_left(server: &MariaDb, session: &mut dyn Session, after: &str) {
    for (sql, expected) in REST {
        let (sink, health) = run(session, sql, LONG);
        assert!(matches!(health, Health::Clean), "{after}, {sql}: {health:?}");
        let seen = match &sink.verdict {
            Some(Err(error)) => error.sqlstate().map(|_| "no table".to_owned()).unwrap_or_default(),
            _ => sink.good()[0].join(" ").replace("Int(", "").replace("Text(\"", "").replace(['"', ')'], ""),
        };
        assert_eq!(seen.replace("Null", "NULL"), expected, "{after}, {sql}");
    }
    let free: Option<i64> = server.client().query_first("SELECT IS_FREE_LOCK(DATABASE())").unwrap();
    assert_eq!(free, Some(1), "{after}");
}

/// At the first run or at a later one, alone or among others.
#[test]
fn what_a_function_or_a_view_leaves_is_gone_after_its_batch() {
    let calls = [
        "it_zone()",
        "it_mode()",
        "it_sets()",
        "it_assigns()",
        "it_selects()",
        "it_takes()",
        "v FROM seen",
        "it_fails()",
        "it_fails_as_denied()",
    ];
    let server = leaving();
    let mut sessions: Vec<(String, Box<dyn Session>)> = Vec::new();
    for read_only in [true, false] {
        for call in calls.iter().chain(if read_only { &[][..] } else { &["it_makes()"] }) {
            let session = open(ConnectionConfig { read_only, ..login(&server) }).unwrap();
            sessions.push((format!("SELECT {call}"), session));
        }
    }
    for round in 0..3 {
        for (sql, session) in &mut sessions {
            let (sink, health) = run(&mut **session, sql, LONG);
            assert!(matches!(health, Health::Clean), "{sql}: {health:?}");
            assert_eq!(
                sink.verdict.is_some_and(|verdict| verdict.is_err()),
                round > 0 && sql.contains("it_fails")
            );
            nothing_left(&server, &mut **session, sql);
        }
        if round == 0 {
            server.run("INSERT INTO todo VALUES (1)");
        }
    }
}

/// The statements behind one that changes a session went out with it: they run again elsewhere, and from then on it goes
/// alone.
#[test]
fn neighbours_of_a_function_that_changes_the_session_are_not_taken() {
    let server = leaving();
    server.run("INSERT INTO todo VALUES (1)");
    let endpoint = sql_exporter::driver::mysql::endpoint(login(&server));
    let texts = ["SELECT 1", "SELECT it_mode()", "SELECT @@sql_mode LIKE '%ANSI_QUOTES%'"].map(Sql::new);
    let batch = |session: &mut dyn Session| {
        let mut sinks = [Recorder::new(), Recorder::new(), Recorder::new()];
        let mut jobs: Vec<Job<'_>> = Vec::new();
        for (sql, sink) in texts.iter().zip(&mut sinks) {
            jobs.push(job(sql, LONG, sink));
        }
        let health = session.run(&mut jobs, Deadline::within(LONG));
        (sinks, health)
    };
    let mut first = endpoint.connect(Deadline::within(LONG)).unwrap();
    let (sinks, health) = batch(&mut *first);
    assert!(matches!(health, Health::Lost(_)), "{health:?}");
    assert_eq!((sinks[0].good().len(), sinks[1].good().len(), &sinks[2].verdict), (1, 1, &None));
    let mut second = endpoint.connect(Deadline::within(LONG)).unwrap();
    for _ in 0..2 {
        let (sinks, health) = batch(&mut *second);
        assert!(matches!(health, Health::Clean), "{health:?}");
        assert_eq!(sinks[2].good()[0], ["Int(0)"]);
    }
}

/// A variable that a function assigns is seen behind the batch only, where nobody knows whose it is: each of the batch runs
/// alone then, and whose it was does so for good.
#[test]
fn a_function_that_assigns_a_variable_is_found_and_goes_alone() {
    let server = leaving();
    server.run("INSERT INTO todo VALUES (1)");
    for call in ["it_selects()", "it_assigns()"] {
        let call = format!("SELECT {call}");
        let texts = [call.as_str(), "SELECT @left", "SELECT 1"].map(Sql::new);
        let mut session = open(login(&server)).unwrap();
        for round in 0..4 {
            let mut sinks = [Recorder::new(), Recorder::new(), Recorder::new()];
            let mut jobs: Vec<Job<'_>> = Vec::new();
            for (sql, sink) in texts.iter().zip(&mut sinks) {
                jobs.push(job(sql, LONG, sink));
            }
            let health = session.run(&mut jobs, Deadline::within(LONG));
            assert!(matches!(health, Health::Clean), "{call}: {health:?}");
            if round > 0 {
                assert_eq!(sinks[1].good()[0], ["Null"], "{call}, round {round}");
            }
        }
    }
}

#[test]
fn variables_and_locks_of_session_sql_stay() {
    let server = leaving();
    server.run("INSERT INTO todo VALUES (1)");
    let mut login = login(&server);
    let lock = format!("{}_kept", server.database);
    login.session_sql = vec!["SET @left = 9".to_owned(), format!("SELECT GET_LOCK('{lock}', 0)")];
    let mut session = open(login).unwrap();
    for sql in ["SELECT it_assigns()", "SELECT it_selects()", "SELECT it_sets()", "SELECT 1"] {
        run(&mut *session, sql, LONG).0.good();
        assert_eq!(run(&mut *session, "SELECT @left", LONG).0.good()[0], ["Int(9)"], "{sql}");
        let free = format!("SELECT IS_FREE_LOCK('{lock}')");
        assert_eq!(server.client().query_first::<i64, _>(free).unwrap(), Some(0), "{sql}");
    }
}

/// In a snapshot a reset would end the transaction: it comes at its end.
#[test]
fn a_snapshot_outlives_what_a_function_changes_in_it() {
    let server = leaving();
    server.run("INSERT INTO todo VALUES (1)");
    let mut session = session(&server);
    let by = Deadline::within(LONG);
    assert!(matches!(session.snapshot(true, by), Health::Clean));
    for sql in ["SELECT it_mode()", "SELECT it_takes()", "SELECT @a := 1"] {
        run(&mut *session, sql, LONG).0.good();
    }
    server.run("INSERT INTO todo VALUES (2)");
    assert_eq!(run(&mut *session, "SELECT COUNT(*) FROM todo", LONG).0.good()[0], ["Int(1)"]);
    assert!(matches!(session.snapshot(false, by), Health::Clean));
    assert_eq!(run(&mut *session, "SELECT COUNT(*) FROM todo", LONG).0.good()[0], ["Int(2)"]);
    nothing_left(&server, &mut *session, "a snapshot");
}
