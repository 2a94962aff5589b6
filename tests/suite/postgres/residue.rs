//! What a query's own failure, or a server that is configured anew, does to a session: no other query pays for it.

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::driver::{Health, Sql};
use sql_exporter::error::Reason;

use super::{LONG, endpoint, login, open, value};
use crate::process::wait_for;
use crate::recorder::{Recorder, job, run};
use crate::servers::Postgres;
use crate::servers::own::OwnPostgres;

fn simple(mut login: ConnectionConfig) -> ConnectionConfig {
    login.params.push(("protocol".to_owned(), "simple".to_owned()));
    login
}

fn make_function(server: &Postgres, name: &str, body: &str) {
    server.run(&format!(
        "CREATE FUNCTION {name}() RETURNS int LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN 1; END $$"
    ));
}

#[test]
fn a_prepared_statement_that_a_function_lacks_is_no_pooler() {
    let server = Postgres::fresh("not_pooled");
    make_function(&server, "lacks", "EXECUTE 'DEALLOCATE nothing'");
    make_function(
        &server,
        "repeats",
        "EXECUTE 'PREPARE again AS SELECT 1'; EXECUTE 'PREPARE again AS SELECT 1'",
    );
    let mut login = login(&server);
    login.session_sql = vec!["SET TimeZone = 'Asia/Tokyo'".to_owned()];
    let endpoint = endpoint(login);
    // The second session begins with what the first one has learned.
    for _ in 0..2 {
        let mut session = endpoint.connect(Deadline::within(LONG)).unwrap_or_else(|error| panic!("{error}"));
        for (sql, named) in [("SELECT lacks()", "nothing"), ("SELECT repeats()", "again")] {
            let (recorder, _) = run(&mut *session, sql, LONG);
            assert_eq!(recorder.reason(), Reason::Sql);
            assert!(recorder.error().message().contains(named), "{}", recorder.error());
            assert_eq!(value(&mut *session, "SHOW TimeZone"), "Text(\"Asia/Tokyo\")");
        }
    }
}

/// Its neighbour goes to another session, and sessions keep what `session_sql` has set.
#[test]
fn a_function_that_deallocates_all_statements_is_no_pooler() {
    let server = Postgres::fresh("deallocates");
    make_function(&server, "deallocates", "EXECUTE 'DEALLOCATE ALL'");
    let mut login = login(&server);
    login.session_sql = vec!["SET TimeZone = 'Asia/Tokyo'".to_owned()];
    let endpoint = endpoint(login);
    let connect = || endpoint.connect(Deadline::within(LONG)).unwrap_or_else(|error| panic!("{error}"));
    let [culprit, neighbour] = ["SELECT deallocates()", "SELECT 2"].map(Sql::new);
    for in_snapshot in [false, true] {
        let mut session = connect();
        if in_snapshot {
            super::assert_clean(&session.snapshot(true, Deadline::within(LONG)));
        }
        let (mut one, mut other) = (Recorder::new(), Recorder::new());
        let jobs = &mut [job(&culprit, LONG, &mut one), job(&neighbour, LONG, &mut other)];
        let health = session.run(jobs, Deadline::within(LONG));
        assert!(matches!(health, Health::Lost(_)), "{health:?}");
        assert!(one.error().message().contains("deallocated"), "{}", one.error());
        assert!(other.verdict.is_none(), "{:?}", other.verdict);
        assert_eq!(value(&mut *connect(), "SHOW TimeZone"), "Text(\"Asia/Tokyo\")");
    }
}

#[test]
fn a_session_of_the_simple_protocol_is_reset_too() {
    let server = Postgres::fresh("simple_residue");
    make_function(
        &server,
        "leaves",
        "PERFORM pg_advisory_lock(7), set_config('TimeZone', 'Asia/Tokyo', false), set_config('role', 'pg_monitor', false)",
    );
    let mut writing = simple(login(&server));
    writing.read_only = false;
    let zone = value(&mut *open(login(&server)).unwrap(), "SHOW TimeZone");
    for login in [simple(login(&server)), writing] {
        let (endpoint, can_write) = (endpoint(login.clone()), !login.read_only);
        let mut session = endpoint.connect(Deadline::within(LONG)).unwrap();
        let (recorder, health) = run(&mut *session, "SELECT leaves()", LONG);
        assert_eq!(recorder.good(), [["Int(1)"]]);
        let locks = format!(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database \
             WHERE locktype = 'advisory' AND datname = '{}'",
            server.database
        );
        let mut watch = server.client();
        wait_for("the lock to go", || {
            (watch.query_one(&locks, &[]).unwrap().get::<_, i64>(0) == 0).then_some(())
        });
        // The role outlives a reset: that session serves no more.
        if !matches!(health, sql_exporter::driver::Health::Clean) {
            assert!(can_write, "{health:?}");
            session = endpoint.connect(Deadline::within(LONG)).unwrap();
        }
        assert_eq!(value(&mut *session, "SHOW TimeZone"), zone);
        assert_eq!(value(&mut *session, "SELECT current_user::text"), "Text(\"postgres\")");
    }
}

#[test]
fn an_error_is_at_its_place_however_the_statement_was_sent() {
    let server = Postgres::fresh("places_of_errors");
    for login in [login(&server), login(&server.through_pgbouncer())] {
        for login in [login.clone(), simple(login)] {
            let mut session = open(login).unwrap();
            for is_open in [false, true] {
                if is_open {
                    super::assert_clean(&session.snapshot(true, Deadline::within(LONG)));
                }
                let (recorder, _) = run(&mut *session, "SELECT 'é',\n  nosuch FROM pg_class", LONG);
                let message = recorder.error().message();
                assert!(message.ends_with("(line 2, column 3)"), "{message}");
            }
        }
    }
}

#[test]
fn limits_that_the_server_is_given_hold_from_the_next_session_on() {
    let server = OwnPostgres::start(&[]);
    let access = Postgres { database: "postgres".to_owned(), ..server.access().clone() };
    let endpoint = endpoint(login(&access));
    let mut session = endpoint.connect(Deadline::within(LONG)).unwrap();
    assert_ne!(value(&mut *session, "SELECT current_setting('statement_timeout')"), "Text(\"300ms\")");
    access.run("ALTER SYSTEM SET statement_timeout = '300ms'");
    access.run("SELECT pg_reload_conf()");
    // Until the server's process has heard of it.
    wait_for("the session to end", || {
        let (_, health) = run(&mut *session, "SELECT 1", LONG);
        matches!(health, sql_exporter::driver::Health::Spent).then_some(())
    });
    let mut session = endpoint.connect(Deadline::within(LONG)).unwrap();
    assert_eq!(value(&mut *session, "SELECT current_setting('statement_timeout')"), "Text(\"300ms\")");
}
