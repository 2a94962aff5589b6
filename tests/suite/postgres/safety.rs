//! What a query can do to the server (nothing), and what it can leave behind in its session (nothing).

use std::time::{Duration, Instant};

use sql_exporter::driver::{Health, Session};
use sql_exporter::error::Reason;

use super::{LONG, assert_clean, login, open, session, value};
use crate::recorder::run;
use crate::servers::Postgres;

/// A database with something to break in it.
fn shop() -> Postgres {
    let server = Postgres::fresh("safety");
    server.run(
        "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1);
         CREATE FUNCTION sell() RETURNS int LANGUAGE sql AS 'INSERT INTO orders VALUES (2) RETURNING id';
         CREATE FUNCTION unlock() RETURNS text LANGUAGE plpgsql AS
           $$ BEGIN SET TRANSACTION READ WRITE; INSERT INTO orders VALUES (3); RETURN 'done'; END $$;
         CREATE FUNCTION hide() RETURNS text LANGUAGE plpgsql AS
           $$ BEGIN PERFORM set_config('search_path', 'pg_temp', false);
              PERFORM set_config('statement_timeout', '0', false);
              PERFORM set_config('default_transaction_read_only', 'off', false); RETURN 'hidden'; END $$;
         CREATE FUNCTION keep() RETURNS text LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_advisory_lock(7); RETURN 'locked'; END $$;
         CREATE PROCEDURE ends() LANGUAGE plpgsql AS $$ BEGIN COMMIT; INSERT INTO orders VALUES (4); END $$;
         CREATE SEQUENCE numbers",
    );
    server
}

/// Statement, and the reason it is refused for.
const WRITES: &[(&str, Reason)] = &[
    ("INSERT INTO orders VALUES (9)", Reason::ReadOnly),
    ("CREATE TABLE loot (id int)", Reason::ReadOnly),
    ("WITH sold AS (INSERT INTO orders VALUES (9) RETURNING id) SELECT * FROM sold", Reason::ReadOnly),
    ("SELECT sell()", Reason::ReadOnly),
    ("SELECT unlock()", Reason::Sql),
    ("COMMIT", Reason::ReadOnly),
    ("DO $$ BEGIN COMMIT; INSERT INTO orders VALUES (9); END $$", Reason::ReadOnly),
    ("CALL ends()", Reason::ReadOnly),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", Reason::ReadOnly),
    ("COPY orders TO PROGRAM 'touch /tmp/sql-exporter-was-here'", Reason::ReadOnly),
    ("SELECT * INTO loot FROM orders", Reason::ReadOnly),
    ("SELECT 1; INSERT INTO orders VALUES (9)", Reason::ReadOnly),
    ("EXPLAIN ANALYZE INSERT INTO orders VALUES (9)", Reason::ReadOnly),
    ("SELECT nextval('numbers')", Reason::ReadOnly),
    ("SELECT id FROM orders FOR UPDATE", Reason::ReadOnly),
    ("SELECT set_config('transaction_read_only', 'off', true), sell()", Reason::Sql),
    ("VACUUM", Reason::ReadOnly),
    ("LISTEN news", Reason::ReadOnly),
];

fn refuses_all(server: &Postgres, session: &mut dyn Session) {
    for (sql, reason) in WRITES {
        let (recorder, health) = run(session, sql, LONG);
        assert_clean(&health);
        assert_eq!(recorder.reason(), *reason, "{sql}: {}", recorder.error());
    }
    let count = server.client().query_one("SELECT count(*) FROM orders", &[]).unwrap().get::<_, i64>(0);
    assert_eq!(count, 1);
}

#[test]
fn nothing_writes_through_a_pooler() {
    let server = shop();
    refuses_all(&server, &mut *session(&server.through_pgbouncer()));
}

#[test]
fn nothing_writes_in_the_simple_protocol() {
    let server = shop();
    let mut login = login(&server);
    login.params = vec![("protocol".to_owned(), "simple".to_owned())];
    refuses_all(&server, &mut *open(login).unwrap());
}

#[test]
fn read_only_false_lifts_both_protections() {
    let server = shop();
    for protocol in ["extended", "simple"] {
        let mut login = login(&server);
        login.read_only = false;
        login.params = vec![("protocol".to_owned(), protocol.to_owned())];
        let mut session = open(login).unwrap();
        let (recorder, health) = run(&mut *session, "INSERT INTO orders VALUES (5)", LONG);
        assert_clean(&health);
        assert_eq!(recorder.columns.as_deref(), Some([].as_slice()));
        assert_eq!(value(&mut *session, "WITH sold AS (SELECT sell()) SELECT 1 FROM sold"), "Int(1)");
    }
    let count = server.client().query_one("SELECT count(*) FROM orders", &[]).unwrap().get::<_, i64>(0);
    assert_eq!(count, 5);
}

#[test]
fn a_session_that_may_write_still_does_not_copy() {
    let server = shop();
    let mut login = login(&server);
    login.read_only = false;
    let mut session = open(login).unwrap();
    let (recorder, health) = run(&mut *session, "COPY orders FROM STDIN", LONG);
    assert!(matches!(health, Health::Spent), "{health:?}");
    assert_eq!(recorder.reason(), Reason::Sql);
}

#[test]
fn a_transaction_left_open_is_rolled_back() {
    let server = shop();
    let mut login = login(&server);
    login.read_only = false;
    let mut session = open(login).unwrap();
    let (recorder, health) = run(&mut *session, "BEGIN", LONG);
    assert_clean(&health);
    assert_eq!(recorder.verdict, Some(Ok(())));
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND state LIKE 'idle in%'";
    assert_eq!(server.client().query_one(open, &[&server.database]).unwrap().get::<_, i64>(0), 0);
}

/// Whatever the query before did, this one reads the right table, may not write and ends in time.
fn is_unharmed(session: &mut dyn Session) {
    assert_eq!(value(session, "SELECT count(*) FROM orders"), "Int(1)");
    let (recorder, health) = run(session, "SELECT sell()", LONG);
    assert_clean(&health);
    assert_eq!(recorder.reason(), Reason::ReadOnly);
    let limit = value(session, "SELECT current_setting('statement_timeout')");
    assert_ne!(limit, "Text(\"0\")");
}

const CHANGES: &[&str] = &[
    "SELECT set_config('search_path', 'pg_temp', false)",
    "SELECT set_config('statement_timeout', '0', false), set_config('default_transaction_read_only', 'off', false)",
    "SELECT set_config('role', 'pg_monitor', false)",
    "SELECT set_config('session_authorization', 'pg_monitor', false)",
    "SELECT SET_CONFIG('DateStyle', 'German', false), set_config('bytea_output', 'escape', false)",
];

#[test]
fn what_a_query_sets_by_its_own_words_is_undone() {
    let server = shop();
    for through in [server.clone(), server.through_pgbouncer()] {
        let mut session = session(&through);
        for _ in 0..2 {
            for sql in CHANGES {
                let (recorder, health) = run(&mut *session, sql, LONG);
                assert_clean(&health);
                assert_eq!(recorder.good().len(), 1, "{sql}");
                is_unharmed(&mut *session);
            }
        }
        assert_eq!(value(&mut *session, "SELECT set_config('my.tenant', '5', false)"), "Text(\"5\")");
        let tenant = value(&mut *session, "SELECT coalesce(current_setting('my.tenant', true), '')");
        assert_eq!(tenant, "Text(\"\")");
    }
}

#[test]
fn a_function_that_changes_its_session_costs_it() {
    let server = shop();
    for (sql, expected) in [("SELECT hide()", "Text(\"hidden\")"), ("SELECT keep()", "Text(\"locked\")")] {
        let mut session = session(&server);
        let (recorder, health) = run(&mut *session, sql, LONG);
        assert_eq!(recorder.good(), [[expected]]);
        assert!(matches!(health, Health::Spent), "{health:?}");
    }
}

#[test]
fn a_role_that_a_configuration_sets_stays() {
    let server = shop();
    server.run("GRANT SELECT ON orders TO pg_monitor");
    let mut login = login(&server);
    login.session_sql =
        vec!["SET ROLE pg_monitor".to_owned(), "SET search_path = public; SET my.app = 'x'".to_owned()];
    let mut session = open(login).unwrap();
    for _ in 0..2 {
        assert_eq!(
            value(&mut *session, "SELECT current_user || current_setting('my.app')"),
            "Text(\"pg_monitorx\")"
        );
        let (_, health) = run(&mut *session, "SELECT set_config('role', 'none', false)", LONG);
        assert_clean(&health);
    }
}

#[test]
fn session_sql_that_fails_fails_the_connect_and_says_which() {
    let server = shop();
    let mut login = login(&server);
    login.session_sql = vec!["SET search_path = public".to_owned(), "SET nonsense = 1".to_owned()];
    let error = super::refused(login);
    assert_eq!(error.reason(), Reason::Sql);
    assert!(error.message().starts_with("session_sql 2: unrecognized configuration parameter"), "{error}");
}

#[test]
fn a_lock_is_waited_for_at_most_two_seconds_and_the_reason_says_so() {
    let server = shop();
    let mut client = server.client();
    client.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").unwrap();
    let mut session = session(&server);
    let start = Instant::now();
    let (recorder, health) = run(&mut *session, "SELECT * FROM orders", LONG);
    assert_clean(&health);
    assert_eq!(recorder.reason(), Reason::Locked);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn permission_denied_is_its_own_reason() {
    let server = shop();
    let mut login = login(&server);
    login.session_sql = vec!["SET ROLE pg_monitor".to_owned()];
    let (recorder, _) = run(&mut *open(login).unwrap(), "SELECT * FROM orders", LONG);
    assert_eq!(recorder.reason(), Reason::Permission);
}
