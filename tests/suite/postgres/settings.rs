//! The settings of a session: the administrator's stay, their limits hold, and what `session_sql` says reaches nobody
//! else.

use std::time::Duration;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::Session;
use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::error::Reason;

use super::{LONG, assert_clean, login, open, refused, rows, value};
use crate::recorder::run;
use crate::servers::Postgres;
use crate::servers::own::{OwnPgBouncer, OwnPostgres};

fn simple(mut login: ConnectionConfig) -> ConnectionConfig {
    login.params.push(("protocol".to_owned(), "simple".to_owned()));
    login
}

fn with_sql(server: &Postgres, session_sql: &[&str]) -> ConnectionConfig {
    let mut login = login(server);
    login.session_sql = session_sql.iter().map(|&sql| sql.to_owned()).collect();
    login
}

/// The ways to one database: directly, through a pooler, and by the simple protocol.
fn ways(server: &Postgres) -> [(&'static str, ConnectionConfig); 3] {
    [
        ("direct", login(server)),
        ("pooled", login(&server.through_pgbouncer())),
        ("simple", simple(login(server))),
    ]
}

const STYLES: [(&str, &str); 6] = [
    ("DateStyle", "SQL, DMY"),
    ("IntervalStyle", "sql_standard"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "0"),
    ("standard_conforming_strings", "off"),
    ("TimeZone", "Asia/Kolkata"),
];

#[test]
fn the_administrators_styles_decide_what_sql_computes() {
    let server = Postgres::fresh("styles");
    for (name, setting) in STYLES {
        server.run(&format!("ALTER DATABASE {} SET \"{name}\" = '{setting}'", server.database));
    }
    for (way, login) in ways(&server) {
        let mut session = open(login).unwrap_or_else(|error| panic!("{way}: {error}"));
        // Twice: alone, and as a statement that the session knows.
        for _ in 0..2 {
            for (name, setting) in STYLES {
                let shown = value(&mut *session, &format!("SHOW \"{name}\""));
                assert_eq!(shown, format!("Text({setting:?})"), "{way}: {name}");
            }
            // The fourth of March, as psql gives it in this session.
            let epoch = value(&mut *session, "SELECT extract(epoch FROM '04/03/2026'::date)::int8");
            assert_eq!(epoch, "Int(1772582400)", "{way}");
            assert_eq!(value(&mut *session, "SELECT '\\\\x41'::bytea"), "Bytes([65])", "{way}");
            assert_eq!(value(&mut *session, "SELECT length('a\\\\b')"), "Int(3)", "{way}");
            let float = value(&mut *session, "SELECT 0.1::float8 + 0.2::float8");
            let expected = if way == "simple" { "Float(0.3)" } else { "Float(0.30000000000000004)" };
            assert_eq!(float, expected, "{way}");
        }
        let dates = ["SELECT '04/03/2026'::date", "SELECT now()", "SELECT interval '1 day'"];
        for sql in dates {
            let (recorder, health) = run(&mut *session, sql, LONG);
            assert_clean(&health);
            if way != "simple" {
                assert_eq!(recorder.good().len(), 1, "{way}: {sql}");
                continue;
            }
            let error = recorder.error();
            assert_eq!(error.reason(), Reason::Value, "{sql}: {error}");
            assert!(error.message().contains("Style S") || error.message().contains("Style s"), "{error}");
        }
    }
}

#[test]
fn money_is_a_number_in_every_locale() {
    let server = Postgres::fresh("money");
    for (way, login) in ways(&server) {
        let mut session = open(login).unwrap_or_else(|error| panic!("{way}: {error}"));
        let money = value(&mut *session, "SELECT '-1234567.5'::money");
        assert_eq!(money, "Number(\"-1234567.50\")", "{way}");
    }
}

#[test]
fn a_backslash_means_what_the_session_says() {
    let server = Postgres::fresh("backslash");
    let off = ["SET standard_conforming_strings = off"];
    // A string without the setting, two statements with it.
    let text = "SELECT '\\'; SELECT 2 -- '";
    let mut session = open(with_sql(&server, &off)).unwrap();
    assert_eq!(value(&mut *session, text), r#"Text("'; SELECT 2 -- ")"#);
    assert_eq!(value(&mut *session, r"SELECT length('it\'s')"), "Int(4)");
    // Where the session does not know, a statement must be one either way.
    let mut session = open(simple(with_sql(&server, &off))).unwrap();
    assert_eq!(run(&mut *session, text, LONG).0.reason(), Reason::ReadOnly);
    assert_eq!(value(&mut *session, r"SELECT length('a\\b')"), "Int(3)");
    let mut session = open(login(&server)).unwrap();
    let (recorder, health) = run(&mut *session, text, LONG);
    assert_clean(&health);
    assert_eq!(recorder.reason(), Reason::ReadOnly, "a second statement");
    assert_eq!(value(&mut *session, "SELECT length('a\\b')"), "Int(3)");
}

/// Whoever sets a limit, the smaller one holds: theirs, or ours.
#[test]
fn the_smaller_limit_holds() {
    let server = Postgres::fresh("limits");
    let timeout = "statement_timeout = '300ms'";
    let as_role = |name: &str| {
        let name = format!("{}_{name}", server.database);
        server.run(&format!("CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{}'", server.password));
        name
    };
    let limited = as_role("limited");
    server.run(&format!("ALTER ROLE {limited} SET {timeout}"));
    let mut by_role = login(&server);
    by_role.username = Some(limited.clone());
    let mut by_options = login(&server);
    by_options.params.push(("options".to_owned(), "-c statement_timeout=300".to_owned()));
    let by_session = with_sql(&server, &[&format!("SET {timeout}")]);
    let by_transaction = with_sql(&server, &[&format!("SET LOCAL {timeout}")]);
    let pooled = with_sql(&server.through_pgbouncer(), &[&format!("SET LOCAL {timeout}")]);
    for (who, login) in [
        ("role", by_role.clone()),
        ("role, simple", simple(by_role)),
        ("options", by_options),
        ("session_sql", by_session.clone()),
        ("session_sql, simple", simple(by_session)),
        ("SET LOCAL", by_transaction.clone()),
        ("SET LOCAL, simple", simple(by_transaction)),
        ("SET LOCAL, pooled", pooled),
    ] {
        let mut session = open(login).unwrap_or_else(|error| panic!("{who}: {error}"));
        for _ in 0..2 {
            let (recorder, health) = run(&mut *session, "SELECT pg_sleep(20)", Duration::from_secs(10));
            assert_clean(&health);
            let error = recorder.error();
            assert_eq!(
                (error.reason(), error.sqlstate()),
                (Reason::Timeout, Some("57014")),
                "{who}: {error}"
            );
            assert!(error.message().contains("the session's statement_timeout"), "{who}: {error}");
            let ours = value(&mut *session, "SELECT current_setting('statement_timeout')");
            assert_eq!(ours, "Text(\"300ms\")", "{who}");
            // Ours is smaller.
            let (recorder, _) = run(&mut *session, "SHOW statement_timeout", Duration::from_millis(200));
            assert_eq!(recorder.good(), [["Text(\"200ms\")"]], "{who}");
        }
        let lock = value(&mut *session, "SHOW lock_timeout");
        assert_eq!(lock, "Text(\"2s\")", "{who}");
    }
    server.run(&format!("DROP ROLE {limited}"));
}

#[test]
fn the_smaller_wait_for_a_lock_holds() {
    let server = Postgres::fresh("lock");
    server.run(&format!("ALTER DATABASE {} SET lock_timeout = '150ms'", server.database));
    server.run("CREATE TABLE t ()");
    let mut holder = server.client();
    holder.batch_execute("BEGIN; LOCK TABLE t").unwrap();
    for (way, login) in ways(&server) {
        let mut session = open(login).unwrap();
        let (recorder, health) = run(&mut *session, "SELECT count(*) FROM t", LONG);
        assert_clean(&health);
        assert_eq!(recorder.reason(), Reason::Locked, "{way}: {}", recorder.error());
        assert_eq!(value(&mut *session, "SHOW lock_timeout"), "Text(\"150ms\")", "{way}");
    }
}

/// A database where the search path decides what is read.
fn tenants() -> Postgres {
    let server = Postgres::fresh("tenants");
    server.run(
        "CREATE SCHEMA tenant; CREATE TABLE public.t AS SELECT 1 AS value; CREATE TABLE tenant.t AS SELECT 2 AS value",
    );
    server
}

/// Another client of the pool, on its only server connection, finds nothing of ours.
#[track_caller]
fn is_untouched(pool: &Postgres, how: &str) {
    let mut client = pool.client();
    for (question, answer) in [
        ("SHOW search_path", "\"$user\", public"),
        ("SHOW statement_timeout", "0"),
        ("SHOW lock_timeout", "0"),
        ("SHOW transaction_read_only", "off"),
        ("SHOW application_name", ""),
        ("SELECT count(*) FROM pg_prepared_statements", "0"),
        ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0"),
        ("SELECT coalesce(current_setting('my.x', true), '')", ""),
    ] {
        let said = client.simple_query(question).unwrap_or_else(|error| panic!("{how}: {question}: {error}"));
        let row = said.iter().find_map(|message| match message {
            ::postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        assert_eq!(row.as_deref(), Some(answer), "{how}: {question}");
    }
}

const ONE: &str = "default_pool_size = 1";
const IGNORING: &str = "ignore_startup_parameters = options";

#[test]
fn what_would_stay_behind_a_pooler_is_refused_before_it_is_sent() {
    let server = tenants();
    for mode in ["transaction", "statement", "session"] {
        for settings in [&[ONE][..], &[ONE, IGNORING]] {
            let pool = OwnPgBouncer::before(&server, mode, settings);
            let how = format!("{mode} {settings:?}");
            let lasting = with_sql(pool.access(), &["SET LOCAL my.x = '1'", "SET search_path TO tenant"]);
            for login in [lasting.clone(), simple(lasting)] {
                let endpoint = super::endpoint(login);
                // The second time it knows of the pooler.
                for _ in 0..2 {
                    let error = endpoint.connect(Deadline::within(LONG)).map(drop).unwrap_err();
                    assert_eq!(error.reason(), Reason::Sql, "{how}: {error}");
                    assert!(
                        error.message().starts_with("session_sql 2: the server is behind a pooler"),
                        "{error}"
                    );
                    assert!(error.hint().is_some_and(|hint| hint.contains("SET LOCAL")), "{error}");
                    is_untouched(pool.access(), &how);
                }
            }
        }
    }
}

#[test]
fn what_ends_with_its_transaction_runs_with_each_query_on_every_server() {
    let server = tenants();
    let local =
        ["SET LOCAL search_path TO tenant; set local my.x = 'y -- z' -- mine", "SET LOCAL ROLE pg_monitor"];
    server.run("GRANT USAGE ON SCHEMA tenant TO pg_monitor; GRANT SELECT ON tenant.t TO pg_monitor");
    let check = |session: &mut dyn Session, how: &str| {
        for _ in 0..3 {
            assert_eq!(value(session, "SELECT value FROM t"), "Int(2)", "{how}");
            let more = "SELECT current_setting('my.x') || current_user";
            assert_eq!(value(session, more), "Text(\"y -- zpg_monitor\")", "{how}");
            let (recorder, health) = run(session, "SELECT 1 / 0 FROM t", LONG);
            assert_clean(&health);
            assert_eq!(recorder.reason(), Reason::Value, "{how}");
        }
        let described =
            session.describe(&sql_exporter::driver::Sql::new("TABLE t"), 0, Deadline::within(LONG));
        assert_eq!(described.unwrap().map(|columns| columns.len()), Some(1), "{how}");
        assert_clean(&session.snapshot(true, Deadline::within(LONG)));
        for _ in 0..2 {
            assert_eq!(value(session, "SELECT value FROM t"), "Int(2)", "{how}");
        }
        assert_clean(&session.snapshot(false, Deadline::within(LONG)));
    };
    for (how, login) in [("direct", with_sql(&server, &local)), ("simple", simple(with_sql(&server, &local)))]
    {
        check(&mut *open(login).unwrap(), how);
    }
    for mode in ["transaction", "session"] {
        let pool = OwnPgBouncer::before(&server, mode, &[ONE]);
        for login in [with_sql(pool.access(), &local), simple(with_sql(pool.access(), &local))] {
            check(&mut *open(login).unwrap(), mode);
            is_untouched(pool.access(), mode);
        }
    }
    // A pooler in statement mode allows no transaction block, and so no snapshot.
    let pool = OwnPgBouncer::before(&server, "statement", &[ONE]);
    let mut session = open(with_sql(pool.access(), &local)).unwrap();
    for _ in 0..3 {
        assert_eq!(value(&mut *session, "SELECT value FROM t"), "Int(2)");
        let (recorder, health) = run(&mut *session, "SELECT 1 / 0 FROM t", LONG);
        assert_clean(&health);
        assert_eq!(recorder.reason(), Reason::Value);
    }
    is_untouched(pool.access(), "statement");
}

#[test]
fn a_setting_local_to_a_transaction_is_no_warning_in_the_servers_log() {
    let own = OwnPostgres::start(&["log_min_messages=notice"]);
    let mut login = with_sql(own.access(), &["SET LOCAL my.x = 'y'"]);
    login.database = Some("postgres".to_owned());
    let mut session = open(login).unwrap();
    for _ in 0..3 {
        assert_eq!(value(&mut *session, "SELECT current_setting('my.x')"), "Text(\"y\")");
    }
    drop(session);
    assert!(!own.log().contains("WARNING"), "{}", own.log());
}

#[test]
fn a_wrong_statement_that_is_local_fails_the_connect_and_says_which() {
    let server = tenants();
    for server in [server.clone(), server.through_pgbouncer()] {
        for make in [|login| login, simple] {
            let error = refused(make(with_sql(&server, &["SET LOCAL my.x = '1'", "SET LOCAL nonsense = 1"])));
            assert_eq!(error.reason(), Reason::Sql);
            let start = "session_sql 1: unrecognized configuration parameter";
            assert!(error.message().starts_with(start), "{error}");
        }
    }
}

#[test]
fn a_pooler_of_sessions_is_one_where_the_configuration_says_so() {
    let server = tenants();
    let pool = OwnPgBouncer::before(&server, "session", &[ONE, "server_reset_query = DISCARD ALL"]);
    for pooler in ["session", "transaction"] {
        let mut login = with_sql(pool.access(), &["SET search_path TO tenant"]);
        login.params.push(("pooler".to_owned(), pooler.to_owned()));
        if pooler == "transaction" {
            assert_eq!(refused(login).reason(), Reason::Sql);
            continue;
        }
        let mut session = open(login).unwrap();
        for _ in 0..2 {
            assert_eq!(rows(&mut *session, "SELECT value FROM t"), [["Int(2)"]]);
        }
        drop(session);
        is_untouched(pool.access(), "after the session");
    }
}
