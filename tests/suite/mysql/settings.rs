//! Settings of the server, its users and `session_sql` that must change no number, and must not be lost.

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::{Health, Job, MAX_CELL_BYTES, RelationName, Session, Sql};
use sql_exporter::error::Reason;

use super::{LONG, login, open};
use crate::recorder::{Recorder, run};
use crate::servers::MariaDb;
use crate::servers::own::OwnMariaDb;

/// A login of a user for whom `init_connect` runs, on a server with a table of one row.
fn plain(server: &OwnMariaDb) -> ConnectionConfig {
    server.access().run(
        "CREATE USER plain@'%';\nCREATE DATABASE shop;\nCREATE TABLE shop.t (a INT) ENGINE = InnoDB;\n\
         INSERT INTO shop.t VALUES (1);\nGRANT SELECT ON shop.* TO plain@'%'",
    );
    ConnectionConfig {
        username: Some("plain".to_owned()),
        password: PasswordSource::None,
        database: Some("shop".to_owned()),
        ..login(server.access())
    }
}

fn only(session: &mut dyn Session, sql: &str) -> String {
    run(session, sql, LONG).0.good()[0].join(" ")
}

#[test]
fn a_limit_on_rows_cuts_no_result() {
    let server = OwnMariaDb::start(&[]);
    let endpoint = sql_exporter::driver::mysql::endpoint(plain(&server));
    server.access().run("SET GLOBAL sql_select_limit = 1");
    let mut session = endpoint.connect(Deadline::within(LONG)).unwrap();
    for change in ["SELECT 1", "SELECT @a := 1"] {
        only(&mut *session, change);
        let rows = run(&mut *session, "SELECT 1 UNION ALL SELECT 2", LONG).0;
        assert_eq!(rows.good().len(), 2, "after {change}");
    }
    let date = only(&mut *session, "SELECT DATE '2026-01-02'");
    assert_eq!(date, "LocalDate { days: 20455, moment: Ok(1767312000000000) }");
    server.access().run("CREATE DATABASE second;\nGRANT SELECT ON second.* TO plain@'%'");
    let databases = run(&mut *session, endpoint.databases_sql().unwrap().text(), LONG).0;
    assert_eq!(databases.good().len(), 2, "{:?}", databases.rows);
    let relations = ["shop.t", "information_schema.tables"].map(|name| RelationName::new(name).unwrap());
    let question = session.objects_question(&relations).unwrap();
    let objects = run(&mut *session, question.text(), LONG).0;
    let readable = objects.good().iter().filter(|row| row[0].contains("relation")).count();
    assert_eq!(readable, 2, "{:?}", objects.rows);
}

/// A session that a query has changed cannot be made what `init_connect` made of it.
#[test]
fn what_init_connect_sets_holds_for_every_query() {
    let server = OwnMariaDb::start(&["--init-connect=SET time_zone = '+05:00'"]);
    let login = plain(&server);
    let zone = "SELECT @@time_zone, TIMESTAMP '2026-01-02 05:00:00'";
    let expected =
        "Text(\"+05:00\") LocalDateTime { micros: 1767330000000000, moment: Ok(1767312000000000) }";
    for change in ["SELECT @a := 1", "SELECT GET_LOCK('settings', 0)"] {
        let mut session = open(login.clone()).unwrap();
        assert_eq!(only(&mut *session, zone), expected);
        let (sink, health) = run(&mut *session, change, LONG);
        sink.good();
        assert!(matches!(health, Health::Spent), "{health:?}");
    }
    server.access().run("SET GLOBAL init_connect = 'INSERT INTO shop.t VALUES (1)'");
    let error = open(login).err().unwrap();
    assert_eq!(error.reason(), Reason::Server, "{error}");
    assert!(error.message().contains("init_connect command failed"), "{error}");
    assert!(error.meaning().unwrap().contains("init_connect"), "{error}");
}

/// Behind a function of another schema the server tells that the schema was set, to what it was before.
#[test]
fn a_function_of_another_schema_changes_nothing_unless_it_sets_something() {
    let server = OwnMariaDb::start(&["--init-connect=SET NAMES utf8mb4"]);
    let shop = plain(&server);
    server.access().run(
        "CREATE FUNCTION shop.quiet() RETURNS INT RETURN 1;\n\
         CREATE FUNCTION shop.sets() RETURNS INT BEGIN SET div_precision_increment = 0; RETURN 1; END;\n\
         CREATE DATABASE other;\nGRANT ALL ON other.* TO plain@'%';\nGRANT EXECUTE ON shop.* TO plain@'%'",
    );
    for database in [None, Some("other".to_owned())] {
        let login = ConnectionConfig { database, ..shop.clone() };
        let mut session = open(login.clone()).unwrap();
        for sql in ["SELECT shop.quiet()", "SELECT MAX(data_length) FROM information_schema.tables"] {
            for _ in 0..2 {
                let (sink, health) = run(&mut *session, sql, LONG);
                sink.good();
                assert!(matches!(health, Health::Clean), "{sql}: {health:?}");
            }
        }
        let (sink, health) = run(&mut *session, "SELECT shop.sets()", LONG);
        sink.good();
        assert!(matches!(health, Health::Spent), "{health:?}");
    }
}

#[test]
fn without_autocommit_nothing_is_stale_and_a_snapshot_is_one() {
    let server = OwnMariaDb::start(&["--autocommit=0"]);
    let count = "SELECT COUNT(*) FROM t";
    let more = || server.access().run("INSERT INTO shop.t VALUES (1);\nCOMMIT");
    let login = plain(&server);
    server.access().run("GRANT ALL ON shop.* TO plain@'%'");
    for read_only in [true, false] {
        let mut session = open(ConnectionConfig { read_only, ..login.clone() }).unwrap();
        for _ in 0..2 {
            let before = only(&mut *session, count);
            more();
            assert_ne!(only(&mut *session, count), before, "read_only: {read_only}");
            let by = Deadline::within(LONG);
            assert!(matches!(session.snapshot(true, by), Health::Clean));
            let before = only(&mut *session, count);
            more();
            // What it leaves is reset at the snapshot's end.
            only(&mut *session, "SELECT @a := 1");
            assert_eq!(only(&mut *session, count), before, "read_only: {read_only}");
            assert!(matches!(session.snapshot(false, by), Health::Clean));
        }
    }
}

#[test]
fn a_snapshot_keeps_its_session_where_a_transaction_would_end_it() {
    let server = OwnMariaDb::start(&["--completion-type=RELEASE"]);
    let mut session = open(plain(&server)).unwrap();
    for _ in 0..2 {
        assert!(matches!(session.snapshot(true, Deadline::within(LONG)), Health::Clean));
        only(&mut *session, "SELECT COUNT(*) FROM t");
        let health = session.snapshot(false, Deadline::within(LONG));
        assert!(matches!(health, Health::Clean), "{health:?}");
    }
    only(&mut *session, "SELECT COUNT(*) FROM t");
}

#[test]
fn results_are_read_whatever_character_set_session_sql_sets() {
    let server = MariaDb::fresh("settings");
    for set in ["utf16", "latin1", "NULL", "'binary'"] {
        let session_sql = vec![format!("SET character_set_results = {set}")];
        let mut session = open(ConnectionConfig { session_sql, ..login(&server) }).unwrap();
        for _ in 0..2 {
            assert_eq!(only(&mut *session, "SELECT 'é', _latin1 X'E9'"), "Text(\"é\") Text(\"é\")", "{set}");
            let (sink, _) = run(&mut *session, "SELECT nothing", LONG);
            assert!(sink.error().message().contains("'nothing'"), "{set}: {}", sink.error());
            only(&mut *session, "SELECT @a := 1");
        }
    }
}

/// As text it would have no parameters, and the server's complaint would be about the `?`.
#[test]
fn a_statement_with_parameters_that_is_not_prepared_says_why() {
    let server = OwnMariaDb::start(&[]);
    let mut session = open(plain(&server)).unwrap();
    let fails = |session: &mut dyn Session, sql: &str| {
        let (sql, mut sink, parameters) = (Sql::new(sql), Recorder::new(), [Some("1".to_owned())]);
        let job = Job {
            sql: &sql,
            parameters: &parameters,
            allowance: LONG,
            max_cell_bytes: MAX_CELL_BYTES,
            sink: &mut sink,
        };
        let health = session.run(&mut [job], Deadline::within(LONG));
        assert!(matches!(health, Health::Clean), "{health:?}");
        (sink.reason(), sink.error().message().to_owned())
    };
    let (reason, message) = fails(&mut *session, "SELECT * FROM missing WHERE a = ?");
    assert!(reason == Reason::Sql && message.contains("(error 1146)"), "{message}");
    let (reason, message) = fails(&mut *session, "SELECT * FROM mysql.db WHERE db = ?");
    assert!(reason == Reason::Permission && message.contains("(error 1142)"), "{message}");
    server.access().run("SET GLOBAL max_prepared_stmt_count = 0");
    let (reason, message) = fails(&mut *session, "SELECT * FROM t WHERE a = ?");
    assert!(reason == Reason::Server && message.contains("max_prepared_stmt_count"), "{message}");
}
