//! PgBouncer: pooling by transaction, and its console.

use std::time::Duration;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::Health;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::connection::tls::TlsMode;
use sql_exporter::driver::postgres::console;
use sql_exporter::error::Reason;
use sql_exporter::secret::Secret;

use super::{LONG, assert_clean, endpoint, login, open, rows, session, value};
use crate::proxy::Proxy;
use crate::recorder::run;
use crate::servers::Postgres;

fn pooled() -> Postgres {
    Postgres::fresh("pooled").through_pgbouncer()
}

#[test]
fn sessions_that_share_server_connections_do_not_meet() {
    let server = pooled();
    let mut sessions: Vec<_> = (0..4).map(|_| session(&server)).collect();
    for round in 0..5 {
        for session in &mut sessions {
            assert_eq!(value(&mut **session, "SELECT 41 + 1"), "Int(42)");
            assert_eq!(value(&mut **session, &format!("SELECT {round}")), format!("Int({round})"));
            let (recorder, health) = run(&mut **session, "SELECT 1 / 0", LONG);
            assert_clean(&health);
            assert_eq!(recorder.reason(), Reason::Value);
        }
    }
}

#[test]
fn a_deadline_holds_and_does_not_stay_behind_in_the_pool() {
    let server = pooled();
    let mut ours = session(&server);
    let (recorder, _) = run(&mut *ours, "SELECT pg_sleep(60)", Duration::from_millis(200));
    assert_eq!(recorder.reason(), Reason::Timeout);
    let mut client = server.client();
    for setting in ["statement_timeout", "transaction_read_only", "default_transaction_read_only"] {
        let shown = client.simple_query(&format!("SHOW {setting}")).unwrap();
        let ::postgres::SimpleQueryMessage::Row(row) = &shown[1] else { panic!("{shown:?}") };
        assert!(matches!(row.get(0), Some("0" | "off")), "{setting}: {:?}", row.get(0));
    }
}

#[test]
fn a_cancel_reaches_the_server_through_the_pool() {
    let server = pooled();
    let mut session = session(&server);
    let canceller = session.canceller();
    let runner = std::thread::spawn(move || run(&mut *session, "SELECT pg_sleep(60)", LONG).0);
    let mut watch = Postgres::shared(&server.database).client();
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = $1";
    crate::process::wait_for("the query", || {
        (watch.query_one(sleeping, &[&server.database]).unwrap().get::<_, i64>(0) > 0).then_some(())
    });
    canceller.cancel(Deadline::within(LONG)).unwrap();
    assert_eq!(runner.join().unwrap().reason(), Reason::Cancelled);
}

#[test]
fn a_changed_table_needs_no_second_try() {
    let server = pooled();
    let direct = Postgres::shared(&server.database);
    direct.run("CREATE TABLE stock (item text); INSERT INTO stock VALUES ('nail')");
    let mut session = session(&server);
    assert_eq!(rows(&mut *session, "SELECT * FROM stock"), [["Text(\"nail\")"]]);
    direct.run("ALTER TABLE stock ADD COLUMN pieces int DEFAULT 3");
    assert_eq!(rows(&mut *session, "SELECT * FROM stock"), [["Text(\"nail\")", "Int(3)"]]);
}

#[test]
fn the_simple_protocol_works_through_the_pool_too() {
    let mut login = login(&pooled());
    login.params = vec![("protocol".to_owned(), "simple".to_owned())];
    let mut session = open(login).unwrap();
    assert_clean(&session.ping(Deadline::within(LONG)));
    assert_eq!(value(&mut *session, "SELECT 1 -- and a comment"), "Int(1)");
    for broken in
        ["SELECT 'unfinished", "SELECT 1 /* unfinished", "SELECT nonsense", "SELECT $tag$ unfinished"]
    {
        let (recorder, health) = run(&mut *session, broken, LONG);
        assert_clean(&health);
        assert_eq!(recorder.reason(), Reason::Sql, "{broken}");
    }
    assert_eq!(value(&mut *session, "SELECT 2"), "Int(2)");
    assert_eq!(value(&mut *session, "SHOW transaction_read_only"), "Text(\"on\")");
    let (recorder, _) = run(&mut *session, "SELECT pg_sleep(60)", Duration::from_millis(200));
    assert_eq!(recorder.reason(), Reason::Timeout);
}

#[test]
fn a_wrong_password_is_auth_at_the_pooler_too() {
    let mut login = login(&pooled());
    login.password = PasswordSource::Given(Secret::new("c4nary-wrong".to_owned()));
    let error = super::refused(login);
    assert_eq!(error.reason(), Reason::Auth, "{error}");
}

#[test]
fn a_database_that_the_pooler_cannot_reach_has_a_reason() {
    let mut login = login(&Postgres::shared("no_such_database").through_pgbouncer());
    login.tls.mode = TlsMode::Disable;
    let error = match open(login) {
        Err(error) => error,
        Ok(mut session) => match run(&mut *session, "SELECT 1", LONG).1 {
            Health::Lost(error) => error,
            other => panic!("{other:?}"),
        },
    };
    assert!(error.message().contains("no_such_database"), "{error}");
}

#[test]
fn the_console_answers_show() {
    let mut login = login(&Postgres::shared("pgbouncer").through_pgbouncer());
    login.database = None;
    let mut session = console(login).unwrap().connect(Deadline::within(LONG)).unwrap();
    assert_eq!(session.facts().flavor, "pgbouncer");
    assert!(session.facts().version.contains("bouncer"), "{:?}", session.facts());
    assert_clean(&session.ping(Deadline::within(LONG)));
    for _ in 0..2 {
        let (recorder, health) = run(&mut *session, "SHOW POOLS", LONG);
        assert_clean(&health);
        let names: Vec<String> =
            recorder.columns.iter().flatten().map(|column| column.name.to_string()).collect();
        assert!(names.contains(&"cl_active".to_owned()), "{names:?}");
        assert!(!recorder.good().is_empty());
    }
    for (sql, reason) in
        [("RELOAD", Reason::ReadOnly), ("SHOW NONSENSE", Reason::Sql), ("SELECT 1", Reason::Sql)]
    {
        let (recorder, health) = run(&mut *session, sql, LONG);
        assert_clean(&health);
        assert!(
            matches!(recorder.reason(), found if found == reason || found == Reason::Protocol),
            "{sql}: {}",
            recorder.error()
        );
    }
    assert_clean(&session.ping(Deadline::within(LONG)));
}

/// The first session is refused its startup options and comes again without; the others know.
#[test]
fn the_pooler_is_found_once_for_all_sessions() {
    let server = pooled();
    let proxy = Proxy::before(server.port);
    let endpoint = endpoint(login(&Postgres { port: proxy.port(), ..server }));
    let connect = || endpoint.connect(Deadline::within(LONG)).expect("a session");
    let before = proxy.connections();
    let mut sessions = vec![connect()];
    assert_eq!(proxy.connections() - before, 2);
    sessions.extend((0..3).map(|_| connect()));
    assert_eq!(proxy.connections() - before, 5);
    for session in &mut sessions {
        assert_eq!(value(&mut **session, "SELECT 41 + 1"), "Int(42)");
        assert_eq!(value(&mut **session, "SELECT current_setting('DateStyle')"), "Text(\"ISO, MDY\")");
    }
}
