//! What holds a session beside the attempts to write, which stand in the table of `conformance`.

use mysql::prelude::Queryable;
use sql_exporter::driver::Health;
use sql_exporter::error::Reason;

use super::{LONG, login, open};
use crate::recorder::run;
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
