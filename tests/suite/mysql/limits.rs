//! Deadlines, long results, and what a session is worth afterwards.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::{Health, Job, Sql};
use sql_exporter::error::Reason;

use super::{LONG, login, open, session};
use crate::process::wait_for;
use crate::recorder::{Recorder, job, run, run_into};
use crate::servers::MariaDb;
use crate::servers::own::OwnMariaDb;

const SOON: Duration = Duration::from_millis(300);
/// More than any of these tests takes, less than the statements they stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many connections run a statement with this mark in it, by the server's own list.
fn running(server: &MariaDb, mark: &str) -> usize {
    listed(server, &format!("info LIKE '%{mark}%'"))
}

/// The same for one that is inside `SLEEP`. While it is only prepared, the server takes a KILL without any effect.
fn sleeping(server: &MariaDb, mark: &str) -> usize {
    listed(server, &format!("info LIKE '%{mark}%' AND state = 'User sleep'"))
}

fn listed(server: &MariaDb, condition: &str) -> usize {
    let list = "SELECT COUNT(*) FROM information_schema.processlist WHERE id <> CONNECTION_ID()";
    server.client().query_first(format!("{list} AND {condition}")).unwrap().unwrap()
}

#[test]
fn a_cancelled_query_has_ended_in_the_server_in_twenty_of_twenty_runs() {
    let server = MariaDb::fresh("limits");
    for turn in 0..20 {
        let mark = format!("cancel_{}_{turn}", server.database);
        let mut session = session(&server);
        let canceller = session.canceller();
        std::thread::scope(|scope| {
            let job = scope.spawn(|| run(&mut *session, &format!("SELECT SLEEP(60) AS {mark}"), LONG).0);
            wait_for("the statement to sleep", || (sleeping(&server, &mark) == 1).then_some(()));
            canceller.cancel(Deadline::within(PATIENCE)).unwrap();
            wait_for("the statement to end", || (running(&server, &mark) == 0).then_some(()));
            let sink = job.join().unwrap();
            assert_eq!(sink.reason(), Reason::Cancelled);
            assert!(sink.took < PATIENCE, "{:?}", sink.took);
        });
    }
}

#[test]
fn a_cancel_does_no_harm_to_an_idle_session_or_after_its_end() {
    let server = MariaDb::fresh("limits");
    let mut session = session(&server);
    let canceller = session.canceller();
    for _ in 0..20 {
        canceller.cancel(Deadline::within(PATIENCE)).unwrap();
        let (sink, health) = run(&mut *session, "SELECT 1", LONG);
        assert_eq!(sink.good()[0], ["Int(1)"]);
        assert!(matches!(health, Health::Clean), "{health:?}");
    }
    drop(session);
    wait_for("the server to forget the connection", || canceller.cancel(Deadline::within(PATIENCE)).ok());
}

#[test]
fn a_deadline_does_not_strike_the_neighbour() {
    let mut session = session(&MariaDb::fresh("limits"));
    let texts = ["SELECT 1", "SELECT SLEEP(60)", "SELECT 3"].map(Sql::new);
    let mut sinks = [Recorder::new(), Recorder::new(), Recorder::new()];
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for (sql, sink) in texts.iter().zip(&mut sinks) {
        jobs.push(job(sql, SOON, sink));
    }
    let health = session.run(&mut jobs, Deadline::within(LONG));
    // The server ended it: nothing of it is left.
    assert!(matches!(health, Health::Clean), "{health:?}");
    assert_eq!(sinks[0].good()[0], ["Int(1)"]);
    assert_eq!(sinks[1].reason(), Reason::Timeout);
    assert_eq!(sinks[2].good()[0], ["Int(3)"]);
}

#[test]
fn a_sink_that_has_enough_keeps_the_session_when_the_rest_is_short() {
    let mut session = session(&MariaDb::fresh("limits"));
    let stop = || Recorder { stop_at: Some(10), ..Recorder::new() };
    let fail = || Recorder { fail_at: Some(10), ..Recorder::new() };
    let mut stopped = stop();
    let health = run_into(&mut *session, "SELECT seq FROM seq_1_to_500", LONG, &mut stopped);
    assert!(matches!(health, Health::Clean), "{health:?}");
    assert_eq!((stopped.good().len(), stopped.seen), (10, 10));
    let mut failed = fail();
    let health = run_into(&mut *session, "SELECT seq FROM seq_1_to_500", LONG, &mut failed);
    assert!(matches!(health, Health::Clean), "{health:?}");
    assert_eq!((failed.reason(), failed.seen), (Reason::Value, 10));
    run(&mut *session, "SELECT 1", LONG).0.good();
}

#[test]
fn a_sink_that_has_enough_does_not_wait_for_a_long_rest() {
    let server = MariaDb::fresh("limits");
    // Days to send in full.
    let sql = "SELECT a.seq FROM seq_1_to_1000000 a, seq_1_to_1000000 b";
    for mut sink in
        [Recorder { stop_at: Some(10), ..Recorder::new() }, Recorder { fail_at: Some(10), ..Recorder::new() }]
    {
        let start = Instant::now();
        let mut session = session(&server);
        let health = run_into(&mut *session, sql, LONG, &mut sink);
        assert!(matches!(health, Health::Spent), "{health:?}");
        assert_eq!(sink.seen, 10);
        assert_eq!(
            sink.verdict.unwrap().map_err(|error| error.reason()),
            sink.stop_at.map(|_| ()).ok_or(Reason::Value)
        );
        session.canceller().cancel(Deadline::within(PATIENCE)).unwrap();
        drop(session);
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        wait_for("the statement to end", || (running(&server, "seq_1_to_1000000 b") == 0).then_some(()));
    }
}

#[test]
fn a_session_that_was_killed_while_idle_is_lost_under_its_next_job() {
    let server = MariaDb::fresh("limits");
    let mut session = session(&server);
    let (sink, _) = run(&mut *session, "SELECT CONNECTION_ID()", LONG);
    let number: String = sink.good()[0][0].chars().filter(char::is_ascii_digit).collect();
    server.run(&format!("KILL {number}"));
    let (sink, health) = run(&mut *session, "SELECT 1", LONG);
    let Health::Lost(error) = health else { panic!("{health:?}") };
    assert_eq!(error.reason(), Reason::Lost);
    assert_eq!(sink.verdict, None);
    assert!(matches!(session.ping(Deadline::within(LONG)), Health::Lost(_)));
}

#[test]
fn a_frozen_server_holds_nobody_past_the_deadline() {
    let server = OwnMariaDb::start(&[]);
    let login = login(server.access());
    let mut session = open(login.clone()).unwrap();
    let mut idle = open(login.clone()).unwrap();
    assert!(matches!(idle.ping(Deadline::within(LONG)), Health::Clean));
    server.freeze();
    let start = Instant::now();
    let (sink, health) = run(&mut *session, "SELECT 1", SOON);
    assert_eq!(sink.reason(), Reason::Timeout);
    assert!(matches!(health, Health::Spent), "{health:?}");
    assert!(matches!(idle.ping(Deadline::within(SOON)), Health::Lost(_)));
    let error = sql_exporter::driver::mysql::endpoint(login).connect(Deadline::within(SOON)).err().unwrap();
    assert_eq!(error.reason(), Reason::Timeout);
    assert!(session.canceller().cancel(Deadline::within(SOON)).is_err());
    drop((session, idle));
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    server.thaw();
}

#[test]
fn a_table_that_changed_shape_is_read_in_its_new_one() {
    let server = MariaDb::fresh("limits");
    server.run("CREATE TABLE t (a INT);\nINSERT INTO t VALUES (1)");
    let mut session = session(&server);
    assert_eq!(run(&mut *session, "SELECT * FROM t", LONG).0.good()[0], ["Int(1)"]);
    server.run("ALTER TABLE t ADD COLUMN b VARCHAR(5) DEFAULT 'x'");
    let (sink, _) = run(&mut *session, "SELECT * FROM t", LONG);
    assert_eq!(sink.good()[0], ["Int(1)", "Text(\"x\")"]);
    assert_eq!(sink.columns.unwrap().len(), 2);
}

#[test]
fn a_server_that_cannot_prepare_more_is_asked_in_text() {
    let server = OwnMariaDb::start(&["--max-prepared-stmt-count=0"]);
    let mut session = session(server.access());
    let (sink, health) = run(&mut *session, "SELECT 1, 'a'", LONG);
    assert_eq!(sink.good()[0], ["Int(1)", "Text(\"a\")"]);
    assert!(matches!(health, Health::Clean), "{health:?}");
}

#[test]
fn the_facts_name_version_flavour_and_role() {
    let server = OwnMariaDb::start(&[]);
    let version: String = server.access().client().query_first("SELECT @@version").unwrap().unwrap();
    let facts = |login| open(login).unwrap().facts().clone();
    let primary = facts(login(server.access()));
    assert_eq!(
        (primary.version, primary.flavor, primary.role),
        (version, "mariadb".to_owned(), "primary".to_owned())
    );
    server.access().run("CREATE USER plain@'%';\nSET GLOBAL read_only = 1");
    let mut plain = login(server.access());
    plain.username = Some("plain".to_owned());
    plain.password = PasswordSource::None;
    plain.database = None;
    assert_eq!(facts(plain).role, "replica", "by read_only, where nobody may ask for channels");
    assert_eq!(facts(login(server.access())).role, "replica", "read-only, though without a channel");
    server.access().run("SET GLOBAL read_only = 0");
    assert_eq!(facts(login(server.access())).role, "primary");
    server.access().run("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1");
    assert_eq!(facts(login(server.access())).role, "replica");
}

/// Of the user, or set by `session_sql`: ours never lifts it.
#[test]
fn a_limit_of_the_administrator_is_an_upper_bound() {
    let server = MariaDb::fresh("limits");
    let user = format!("l_{}", server.database.chars().rev().take(20).collect::<String>());
    server.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'c4nary-limit' WITH MAX_STATEMENT_TIME 0.3"));
    let mut of_user = login(&server);
    of_user.username = Some(user);
    of_user.password = PasswordSource::Given(sql_exporter::secret::Secret::new("c4nary-limit".to_owned()));
    of_user.database = None;
    let mut of_session = login(&server);
    of_session.session_sql = vec!["SET max_statement_time = 0.3".to_owned()];
    for login in [of_user, of_session] {
        let mut session = open(login).unwrap();
        for _ in 0..2 {
            let (sink, health) = run(&mut *session, "SELECT SLEEP(20)", LONG);
            assert_eq!(sink.reason(), Reason::Timeout);
            assert!(sink.error().message().contains("within 300 ms"), "{}", sink.error());
            assert!(sink.took < PATIENCE / 2, "{:?}", sink.took);
            assert!(matches!(health, Health::Clean), "{health:?}");
            run(&mut *session, "SELECT SLEEP(0.01)", LONG).0.good();
            // One that leaves something is followed by a reset, which must not lose it.
            run(&mut *session, "SELECT @a := 1", LONG).0.good();
        }
        // Ours holds where it is the smaller one.
        let (sink, _) = run(&mut *session, "SELECT SLEEP(20)", Duration::from_millis(100));
        assert!(sink.error().message().contains("within 100 ms"), "{}", sink.error());
    }
}

/// Global privileges and limits are those of the login: a session that lives on would go on without them.
#[test]
fn what_the_user_is_given_later_needs_no_restart() {
    let server = MariaDb::fresh("limits");
    let user = format!("g_{}", server.database.chars().rev().take(20).collect::<String>());
    server.run(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'c4nary-later' WITH MAX_STATEMENT_TIME 0.3"));
    let mut login = login(&server);
    login.username = Some(user.clone());
    login.password = PasswordSource::Given(sql_exporter::secret::Secret::new("c4nary-later".to_owned()));
    login.database = None;
    let denied = "SELECT COUNT(*) FROM information_schema.innodb_trx";
    let long = "SELECT COUNT(*) FROM information_schema.plugins a, information_schema.plugins b, \
                information_schema.plugins c, information_schema.plugins d, information_schema.plugins e";
    // What is refused late has written before: it runs once.
    server.run(&format!(
        "CREATE TABLE written (a INT);
         CREATE PROCEDURE writing() SQL SECURITY INVOKER BEGIN INSERT INTO written VALUES (1); SELECT * FROM mysql.user; END;
         GRANT INSERT, EXECUTE ON {}.* TO '{user}'@'%'",
        server.database
    ));
    let writing =
        ConnectionConfig { read_only: false, database: Some(server.database.clone()), ..login.clone() };
    let mut writer = open(writing).unwrap();
    // The one that is asked again and again is the youngest.
    let mut sessions = [open(login.clone()).unwrap(), open(login.clone()).unwrap()];
    let (sink, health) = run(&mut *sessions[1], denied, LONG);
    assert_eq!(sink.reason(), Reason::Permission);
    assert!(matches!(health, Health::Clean), "{health:?}");
    server.run(&format!("GRANT PROCESS ON *.* TO '{user}'@'%'"));
    wait_for("the refusal not to count any more", || {
        let (sink, health) = run(&mut *sessions[1], denied, LONG);
        match health {
            Health::Lost(ref error) => assert_eq!((sink.verdict, error.reason()), (None, Reason::Permission)),
            _ => assert_eq!(sink.reason(), Reason::Permission),
        }
        matches!(health, Health::Lost(_)).then_some(())
    });
    let (sink, health) = run(&mut *writer, "CALL writing()", LONG);
    assert_eq!(sink.reason(), Reason::Permission);
    assert!(matches!(health, Health::Spent), "{health:?}");
    let (sink, health) = run(&mut *sessions[0], long, LONG);
    assert!(sink.error().message().contains("within 300 ms"), "{}", sink.error());
    assert!(matches!(health, Health::Spent), "{health:?}");
    run(&mut *open(login).unwrap(), denied, LONG).0.good();
}

#[test]
fn more_than_one_result_with_rows_is_an_error_and_the_session_goes_on() {
    let server = MariaDb::fresh("limits");
    server.run(
        "CREATE TABLE t (a INT);\n\
         CREATE PROCEDURE one() BEGIN INSERT INTO t VALUES (1); SELECT 1 AS a; DELETE FROM t; END;\n\
         CREATE PROCEDURE two() BEGIN SELECT 1 AS a; SELECT 2 AS b; END;\n\
         CREATE PROCEDURE many() BEGIN SELECT 1 AS a; SELECT seq FROM seq_1_to_100000; END;\n\
         CREATE PROCEDURE none() BEGIN DO 1; END;\n\
         CREATE PROCEDURE fails() BEGIN SELECT 1 AS a; SELECT nothing; END",
    );
    let mut login = login(&server);
    login.read_only = false;
    let mut session = open(login).unwrap();
    for _ in 0..2 {
        assert_eq!(run(&mut *session, "CALL one()", LONG).0.good()[0], ["Int(1)"]);
        assert!(run(&mut *session, "CALL none()", LONG).0.good().is_empty());
        let (sink, health) = run(&mut *session, "CALL two()", LONG);
        assert!(sink.error().message().contains("more than one result"), "{}", sink.error());
        assert!(matches!(health, Health::Clean), "{health:?}");
        let (sink, health) = run(&mut *session, "CALL fails()", LONG);
        assert_eq!(sink.error().sqlstate(), Some("42S22"));
        assert!(matches!(health, Health::Clean), "{health:?}");
    }
    let (sink, health) = run(&mut *session, "CALL many()", LONG);
    assert!(sink.error().message().contains("more than one result"), "{}", sink.error());
    assert!(matches!(health, Health::Spent), "{health:?}");
}
