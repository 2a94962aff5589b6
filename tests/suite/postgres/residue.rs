//! What a query's own failure, or a server that is configured anew, does to a session: no other query pays for it.

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::driver::{Health, Session, Sql};
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

/// What runs behind it goes to another session, and sessions keep what `session_sql` has set.
#[test]
fn a_function_that_deallocates_all_statements_is_no_pooler() {
    let server = Postgres::fresh("deallocates");
    make_function(&server, "deallocates", "EXECUTE 'DEALLOCATE ALL'");
    make_function(&server, "raises", "EXECUTE 'DEALLOCATE ALL'; RAISE 'on purpose'");
    let mut login = login(&server);
    login.session_sql = vec!["SET TimeZone = 'Asia/Tokyo'".to_owned()];
    let endpoint = endpoint(login);
    let connect = || endpoint.connect(Deadline::within(LONG)).unwrap_or_else(|error| panic!("{error}"));
    for (culprit, fail_at, message) in [
        ("SELECT deallocates()", None, "has deallocated"),
        ("SELECT deallocates()", Some(1), "the sink had enough"),
        ("SELECT raises()", None, "on purpose"),
    ] {
        let mut session = connect();
        let statements = [culprit, "SELECT 2"].map(Sql::new);
        // Known, they leave together.
        super::assert_clean(&session.prepare(&statements.each_ref()[..], Deadline::within(LONG)));
        let [mut one, mut other] = [(); 2].map(|()| Recorder::new());
        one.fail_at = fail_at;
        let jobs = &mut [job(&statements[0], LONG, &mut one), job(&statements[1], LONG, &mut other)];
        let health = session.run(jobs, Deadline::within(LONG));
        assert!(matches!(health, Health::Lost(_)), "{culprit}: {health:?}");
        assert!(one.error().message().contains(message), "{culprit}: {}", one.error());
        assert!(other.verdict.is_none(), "{culprit}: {:?}", other.verdict);
        assert_eq!(value(&mut *connect(), "SHOW TimeZone"), "Text(\"Asia/Tokyo\")");
    }
}

/// A query that was good before is in the first of two groups.
#[test]
fn a_function_that_deallocates_all_statements_from_now_on_is_no_pooler() {
    let server = Postgres::fresh("deallocates_later");
    make_function(&server, "culprit", "PERFORM 1");
    let endpoint = endpoint(login(&server));
    let mut session = endpoint.connect(Deadline::within(LONG)).unwrap();
    let mut statements = vec![Sql::new("SELECT culprit()")];
    statements.extend((1..=14).map(|number| Sql::new(&format!("SELECT {number}"))));
    let run = |session: &mut dyn Session| {
        let mut sinks: Vec<Recorder> = statements.iter().map(|_| Recorder::new()).collect();
        let mut jobs: Vec<_> =
            statements.iter().zip(&mut sinks).map(|(sql, sink)| job(sql, LONG, sink)).collect();
        let health = session.run(&mut jobs, Deadline::within(LONG));
        drop(jobs);
        (sinks, health)
    };
    super::assert_clean(&run(&mut *session).1);
    server.run(
        "CREATE OR REPLACE FUNCTION culprit() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RAISE 'on purpose'; END $$",
    );
    let (sinks, health) = run(&mut *session);
    assert!(matches!(health, Health::Lost(_)), "{health:?}");
    assert!(sinks[0].error().message().contains("on purpose"), "{}", sinks[0].error());
    assert!(sinks[1..].iter().all(|sink| sink.verdict.is_none()));
    // A session that expects a pooler has no prepared statements.
    let mut next = endpoint.connect(Deadline::within(LONG)).unwrap();
    assert_ne!(value(&mut *next, "SELECT count(*) FROM pg_prepared_statements"), "Int(0)");
}

/// Those behind it are read in the same snapshot.
#[test]
fn a_function_that_deallocates_all_statements_costs_a_snapshot_nothing_else() {
    let server = Postgres::fresh("deallocates_snapshot");
    server.run("CREATE TABLE prices AS SELECT 12.5::money AS price");
    make_function(&server, "deallocates", "EXECUTE 'DEALLOCATE ALL'");
    make_function(&server, "raises", "EXECUTE 'DEALLOCATE ALL'; RAISE 'on purpose'");
    let mut login = login(&server);
    login.session_sql = vec!["SET TimeZone = 'Asia/Tokyo'".to_owned()];
    let endpoint = endpoint(login);
    for (culprit, message) in [("SELECT deallocates()", "has deallocated"), ("SELECT raises()", "on purpose")]
    {
        let mut session = endpoint.connect(Deadline::within(LONG)).unwrap_or_else(|error| panic!("{error}"));
        super::assert_clean(&session.snapshot(true, Deadline::within(LONG)));
        let transaction = value(&mut *session, "SELECT pg_current_snapshot()::text");
        server.run("CREATE TABLE late (); DROP TABLE late");
        let statements =
            ["SELECT price FROM prices", culprit, "SELECT price + '1' FROM prices", "SHOW TimeZone"]
                .map(Sql::new);
        let mut sinks = [(); 4].map(|()| Recorder::new());
        let mut jobs: Vec<_> =
            statements.iter().zip(&mut sinks).map(|(sql, sink)| job(sql, LONG, sink)).collect();
        super::assert_clean(&session.run(&mut jobs, Deadline::within(LONG)));
        drop(jobs);
        let [first, failed, last, zone] = sinks;
        assert!(failed.error().message().contains(message), "{culprit}: {}", failed.error());
        assert_eq!(first.good(), [["Number(\"12.50\")"]], "{culprit}");
        assert_eq!(last.good(), [["Number(\"13.50\")"]], "{culprit}");
        assert_eq!(zone.good(), [["Text(\"Asia/Tokyo\")"]], "{culprit}");
        assert_eq!(value(&mut *session, "SELECT pg_current_snapshot()::text"), transaction, "{culprit}");
        let health = session.snapshot(false, Deadline::within(LONG));
        assert!(matches!(health, Health::Spent), "{culprit}: {health:?}");
    }
}

/// The portal that tells the time in a group is among them.
#[test]
fn a_function_that_closes_all_portals_costs_one_session() {
    let server = Postgres::fresh("closes");
    make_function(&server, "closes", "EXECUTE 'CLOSE ALL'");
    let endpoint = endpoint(login(&server));
    let statements = ["SELECT 1", "SELECT closes()", "SELECT 2"].map(Sql::new);
    let run = |session: &mut dyn Session| {
        let mut sinks = [(); 3].map(|()| Recorder::new());
        let mut jobs: Vec<_> =
            statements.iter().zip(&mut sinks).map(|(sql, sink)| job(sql, LONG, sink)).collect();
        let health = session.run(&mut jobs, Deadline::within(LONG));
        drop(jobs);
        (sinks.map(|sink| sink.verdict), health)
    };
    let mut session = endpoint.connect(Deadline::within(LONG)).unwrap();
    assert_eq!(run(&mut *session).0, [Some(Ok(())), Some(Ok(())), Some(Ok(()))]);
    let (verdicts, health) = run(&mut *session);
    assert!(matches!(health, Health::Lost(_)), "{health:?}");
    assert_eq!(verdicts, [None, None, None], "they are to run again");
    let mut session = endpoint.connect(Deadline::within(LONG)).unwrap();
    for _ in 0..2 {
        let (verdicts, health) = run(&mut *session);
        super::assert_clean(&health);
        assert_eq!(verdicts, [Some(Ok(())), Some(Ok(())), Some(Ok(()))]);
    }
}

/// Where the one who logs in is a superuser, a function can become anybody.
#[test]
fn a_function_that_takes_another_user_leaves_it_to_no_other_query() {
    let server = Postgres::fresh("authorization");
    make_function(&server, "becomes", "EXECUTE 'SET SESSION AUTHORIZATION pg_monitor'");
    let statements = ["SELECT 1", "SELECT becomes()", "SELECT session_user::text"].map(Sql::new);
    let endpoint = endpoint(login(&server));
    let mut session = endpoint.connect(Deadline::within(LONG)).unwrap();
    for _ in 0..4 {
        let mut sinks = [(); 3].map(|()| Recorder::new());
        let mut jobs: Vec<_> =
            statements.iter().zip(&mut sinks).map(|(sql, sink)| job(sql, LONG, sink)).collect();
        let health = session.run(&mut jobs, Deadline::within(LONG));
        drop(jobs);
        let [_, _, user] = sinks;
        if !matches!(health, Health::Clean) {
            assert!(user.verdict.is_none(), "it is to run again: {:?}", user.verdict);
            session = endpoint.connect(Deadline::within(LONG)).unwrap();
        } else {
            assert_eq!(user.good(), [["Text(\"postgres\")"]]);
        }
    }
    assert_eq!(value(&mut *session, "SELECT session_user::text"), "Text(\"postgres\")");
}

/// It would hide a table of the same name. Where a query may write, one session is lost before that is known.
#[test]
fn a_temporary_table_of_a_function_hides_no_table_from_other_queries() {
    let server = Postgres::fresh("temporary");
    server.run("CREATE TABLE orders AS SELECT generate_series(1, 3) AS id");
    make_function(&server, "reports", "CREATE TEMP TABLE IF NOT EXISTS orders (id int)");
    let statements = ["SELECT reports()", "SELECT count(*) FROM orders"].map(Sql::new);
    for login in [login(&server), simple(login(&server))] {
        let endpoint = endpoint(ConnectionConfig { read_only: false, ..login });
        for round in 0..3 {
            let mut session = endpoint.connect(Deadline::within(LONG)).unwrap();
            let mut sinks = [(); 2].map(|()| Recorder::new());
            let mut jobs: Vec<_> =
                statements.iter().zip(&mut sinks).map(|(sql, sink)| job(sql, LONG, sink)).collect();
            let health = session.run(&mut jobs, Deadline::within(LONG));
            drop(jobs);
            let [reported, counted] = sinks;
            assert_eq!(reported.good(), [["Int(1)"]]);
            if round == 0 {
                assert!(matches!(health, Health::Lost(_)), "{health:?}");
                assert_eq!(counted.verdict, None, "it is to run again");
            } else {
                assert!(matches!(health, Health::Spent), "{health:?}");
                assert_eq!(counted.good(), [["Int(3)"]]);
            }
        }
    }
}

#[test]
fn a_flood_of_notices_is_kept_in_the_server_as_the_error_says() {
    let server = Postgres::fresh("notices");
    make_function(&server, "talks", "FOR i IN 1..1100 LOOP RAISE NOTICE '%', repeat('x', 1000); END LOOP");
    let mut login = login(&server);
    let (recorder, _) = run(&mut *open(login.clone()).unwrap(), "SELECT talks()", LONG);
    let error = recorder.error();
    assert!(error.reason() == Reason::Limit && error.message().contains("notices"), "{error}");
    let advice = "SET LOCAL client_min_messages = 'warning'";
    assert!(error.hint().is_some_and(|hint| hint.contains(advice)), "{error}");
    login.session_sql = vec![advice.to_owned()];
    assert_eq!(value(&mut *open(login).unwrap(), "SELECT talks()"), "Int(1)");
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
