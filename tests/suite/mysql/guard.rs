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
    // The crate lets a text hold several statements; the driver does not.
    let (sink, _) = run(&mut *session, "DO 1; DO 2", LONG);
    assert_eq!(sink.reason(), Reason::Sql);
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
