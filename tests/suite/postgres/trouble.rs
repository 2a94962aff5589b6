//! Deadlines, cancels, dead and silent servers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::ConnectionConfig;
use sql_exporter::driver::connection::passfile::Passfile;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::{Health, Job, Session, Sql};
use sql_exporter::engine::disposal::Disposal;
use sql_exporter::error::Reason;

use super::{LONG, assert_clean, endpoint, login, session, value};
use crate::process::{poll, wait_for};
use crate::proxy::{Mode, Proxy};
use crate::recorder::{Recorder, job, run};
use crate::servers::Postgres;
use crate::servers::own::OwnPostgres;

fn backend(session: &mut dyn Session) -> i32 {
    let shown = value(session, "SELECT pg_backend_pid()");
    shown.trim_start_matches("Int(").trim_end_matches(')').parse().unwrap()
}

/// Whether the session runs a query: what it sends before one is none.
fn runs(watch: &mut ::postgres::Client, pid: i32) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active' \
               AND query NOT LIKE '%set_config%'";
    watch.query_one(sql, &[&pid]).unwrap().get::<_, i64>(0) > 0
}

#[test]
fn the_servers_own_timeout_leaves_the_session_good() {
    let server = Postgres::shared("postgres");
    poll("a moment in which the server is not late", Duration::from_secs(60), || {
        let mut session = session(&server);
        let (recorder, health) = run(&mut *session, "SELECT pg_sleep(60)", Duration::from_millis(400));
        assert_eq!(recorder.reason(), Reason::Timeout);
        (matches!(health, Health::Clean) && recorder.error().sqlstate() == Some("57014")).then(|| {
            assert_eq!(value(&mut *session, "SELECT 1"), "Int(1)");
        })
    });
}

#[test]
fn a_cancel_ends_the_query_in_the_server() {
    let server = Postgres::shared("postgres");
    let mut watch = server.client();
    for _ in 0..20 {
        let mut session = session(&server);
        let pid = backend(&mut *session);
        let canceller = session.canceller();
        let runner = std::thread::spawn(move || run(&mut *session, "SELECT pg_sleep(60)", LONG).0);
        wait_for("the query to run", || runs(&mut watch, pid).then_some(()));
        canceller.cancel(Deadline::within(LONG)).unwrap();
        assert_eq!(runner.join().unwrap().reason(), Reason::Cancelled);
        assert!(!runs(&mut watch, pid));
    }
}

#[test]
fn a_query_that_outlasts_its_limit_is_ended_by_the_clock_and_then_by_the_cancel() {
    let server = Postgres::fresh("deaf");
    // It swallows the server's own limit, as some extensions do.
    server.run(
        "CREATE FUNCTION deaf() RETURNS void LANGUAGE plpgsql AS
         $$ BEGIN FOR once IN 1..2 LOOP
              BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END;
            END LOOP; END $$",
    );
    let mut watch = server.client();
    for _ in 0..20 {
        let mut session = session(&server);
        let pid = backend(&mut *session);
        let (recorder, health) = run(&mut *session, "SELECT deaf()", Duration::from_millis(100));
        assert_eq!(recorder.reason(), Reason::Timeout);
        assert!(matches!(health, Health::Spent), "{health:?}");
        session.canceller().cancel(Deadline::within(LONG)).unwrap();
        drop(session);
        poll("the query to end", Duration::from_secs(10), || (!runs(&mut watch, pid)).then_some(()));
    }
}

#[test]
fn a_cancel_of_an_idle_session_is_harmless() {
    let server = Postgres::shared("postgres");
    let mut session = session(&server);
    for _ in 0..20 {
        session.canceller().cancel(Deadline::within(LONG)).unwrap();
        assert_clean(&session.ping(Deadline::within(LONG)));
        assert_eq!(value(&mut *session, "SELECT 1"), "Int(1)");
    }
}

#[test]
fn a_frozen_server_ends_the_job_by_the_clock_and_the_session_is_spent() {
    let server = OwnPostgres::start(&[]);
    let mut session = session(server.access());
    server.freeze();
    let start = Instant::now();
    let (recorder, health) = run(&mut *session, "SELECT 1", Duration::from_millis(300));
    assert_eq!(recorder.reason(), Reason::Timeout);
    assert!(matches!(health, Health::Spent), "{health:?}");
    let canceller = session.canceller();
    assert!(canceller.cancel(Deadline::within(Duration::from_millis(300))).is_err());
    drop(session);
    let connect = endpoint(login(server.access())).connect(Deadline::within(Duration::from_millis(300)));
    assert_eq!(connect.map(|_| ()).unwrap_err().reason(), Reason::Timeout);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    server.thaw();
}

#[test]
fn a_frozen_server_behind_tls_is_no_different() {
    let server = OwnPostgres::start(&[]);
    let mut session = session(server.access());
    assert_eq!(session.facts().tls.as_str(), "encrypted, not verified");
    server.freeze();
    let (recorder, health) = run(&mut *session, "SELECT 1", Duration::from_millis(300));
    assert_eq!(recorder.reason(), Reason::Timeout);
    assert!(matches!(health, Health::Spent), "{health:?}");
    assert!(matches!(session.ping(Deadline::within(Duration::from_millis(100))), Health::Lost(_)));
    server.thaw();
}

#[test]
fn a_session_that_died_idle_loses_the_first_job_that_was_not_ended() {
    let server = Postgres::shared("postgres");
    let mut session = session(&server);
    let pid = backend(&mut *session);
    server.run(&format!("SELECT pg_terminate_backend({pid})"));
    let statements = ["SELECT 1", "SELECT 2"].map(Sql::new);
    let mut sinks = [Recorder::new(), Recorder::new()];
    let mut jobs: Vec<Job<'_>> =
        statements.iter().zip(&mut sinks).map(|(sql, sink)| job(sql, LONG, sink)).collect();
    let health = session.run(&mut jobs, Deadline::within(LONG));
    assert!(matches!(health, Health::Lost(_)), "{health:?}");
    assert!(sinks.iter().all(|sink| sink.verdict.is_none()));
}

#[test]
fn a_session_killed_in_mid_result_leaves_the_job_without_an_end() {
    let server = Postgres::shared("postgres");
    // Read-only targets run no such function.
    let mut session = super::open(ConnectionConfig { read_only: false, ..login(&server) }).unwrap();
    let sql = "SELECT CASE WHEN i = 90000 THEN pg_terminate_backend(pg_backend_pid()) END FROM generate_series(1, 100000) i";
    let (recorder, health) = run(&mut *session, sql, LONG);
    assert!(matches!(&health, Health::Lost(error) if error.sqlstate() == Some("57P01")), "{health:?}");
    assert!(recorder.seen > 0 && recorder.verdict.is_none());
}

#[test]
fn what_has_no_time_left_is_not_sent() {
    let mut session = session(&Postgres::shared("postgres"));
    let (recorder, health) = run(&mut *session, "SELECT 1", Duration::ZERO);
    assert_clean(&health);
    assert_eq!(recorder.reason(), Reason::Timeout);
}

#[test]
fn neighbours_of_a_query_that_cost_the_session_have_no_end() {
    let server = OwnPostgres::start(&[]);
    let mut session = session(server.access());
    let statements = ["SELECT 1", "SELECT pg_sleep(0.5)", "SELECT 3"].map(Sql::new);
    let mut sinks = [Recorder::new(), Recorder::new(), Recorder::new()];
    // Dropped last: its goodbye waits for the server.
    let mut watch = server.access().client();
    let health = std::thread::scope(|scope| {
        let (session, sinks, statements) = (&mut session, &mut sinks, &statements);
        let run = scope.spawn(move || {
            let jobs = statements.iter().zip(sinks);
            let mut jobs: Vec<Job<'_>> =
                jobs.map(|(sql, sink)| job(sql, Duration::from_secs(2), sink)).collect();
            session.run(&mut jobs, Deadline::within(LONG))
        });
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        wait_for("the sleep", || (watch.query_one(sleeping, &[]).ok()?.get::<_, i64>(0) > 0).then_some(()));
        server.freeze();
        run.join().unwrap()
    });
    server.thaw();
    assert!(matches!(health, Health::Lost(_)), "{health:?}");
    assert_eq!(sinks[0].verdict, Some(Ok(())));
    assert_eq!(sinks[1].reason(), Reason::Timeout);
    assert_eq!(sinks[2].verdict, None);
}

/// Whatever a session was used for, the last that its server hears is PostgreSQL's goodbye.
#[test]
fn every_session_ends_with_a_goodbye() {
    let server = Postgres::fresh("goodbye");
    server.run(
        "CREATE FUNCTION hides() RETURNS void LANGUAGE plpgsql AS
         $$ BEGIN PERFORM set_config('search_path', 'pg_temp', false); END $$",
    );
    let proxy = Proxy::before(server.port);
    let mut login = login(&Postgres { port: proxy.port(), ..server });
    login.tls.mode = sql_exporter::driver::connection::tls::TlsMode::Disable;
    let open = || super::open(login.clone()).unwrap();
    drop(open());
    let mut used = open();
    assert_eq!(value(&mut *used, "SELECT 1"), "Int(1)");
    drop(used);
    let mut left = open();
    let (_, health) = run(&mut *left, "SELECT generate_series(1, 10000000)", Duration::from_millis(50));
    drop((left, health));
    let mut harmed = open();
    let (_, health) = run(&mut *harmed, "SELECT hides()", LONG);
    assert!(matches!(health, Health::Spent), "{health:?}");
    drop(harmed);
    let mut unsuited = login.clone();
    unsuited.params = vec![("target_session_attrs".to_owned(), "standby".to_owned())];
    drop(super::refused(unsuited));
    let mut wrong = login.clone();
    wrong.session_sql = vec!["SET nonsense = 1".to_owned()];
    drop(super::refused(wrong));
    let words = wait_for("the sessions to end", || {
        let words = proxy.last_words();
        (words.len() >= proxy.connections()).then_some(words)
    });
    assert_eq!(words.len(), 6);
    assert!(words.iter().all(|words| words.ends_with(b"X\0\0\0\x04")), "{words:?}");
}

/// A server that does with its one connection what the test says.
fn scripted(script: impl FnOnce(TcpStream) + Send + 'static) -> Postgres {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            script(stream);
        }
    });
    Postgres { port, ..Postgres::shared("postgres") }
}

/// Reads until the peer closes.
fn swallow(mut stream: TcpStream) {
    let mut buffer = [0; 512];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

#[test]
fn a_server_that_sends_half_a_message_costs_no_more_than_the_deadline() {
    let mut login = login(&scripted(|mut stream| {
        stream.write_all(b"R\0\0").unwrap();
        swallow(stream);
    }));
    login.tls.mode = sql_exporter::driver::connection::tls::TlsMode::Disable;
    login.connect_timeout = Duration::from_millis(200);
    let error = super::refused(login);
    assert_eq!(error.reason(), Reason::Timeout);
    assert!(error.message().ends_with("(connect_timeout is 200ms)"), "{error}");
}

/// A cancel takes one more connection, which a small pooler may not have.
#[test]
fn a_session_that_has_its_answer_is_closed_without_a_cancel() {
    let server = Postgres::shared("postgres");
    let proxy = Proxy::before(server.port);
    let connect = || session(&Postgres { port: proxy.port(), ..Postgres::shared("postgres") });
    let (disposal, soon) = (Disposal::new(), || Deadline::within(LONG));
    let mut answered = connect();
    assert_eq!(value(&mut *answered, "SELECT 1"), "Int(1)");
    disposal.discard(answered, true);
    assert!(disposal.settle(soon()));
    assert_eq!(proxy.connections(), 1);
    let mut silent = connect();
    proxy.set(Mode::Freeze);
    let (recorder, _) = run(&mut *silent, "SELECT 1", Duration::from_millis(100));
    assert_eq!(recorder.reason(), Reason::Timeout);
    disposal.discard(silent, true);
    poll("the cancel", LONG, || (proxy.connections() == 3).then_some(()));
    proxy.set(Mode::Pass);
    assert!(disposal.settle(soon()));
}

/// PostgreSQL 18's `oauth`, and `peer`, `ident` or `cert`.
#[test]
fn a_login_that_asks_for_no_password_is_no_matter_of_the_password() {
    const OAUTH: &[u8] = b"R\0\0\0\x15\0\0\0\x0aOAUTHBEARER\0\0";
    const PEER: &[u8] = b"E\0\0\0\x43SFATAL\0VFATAL\0C28000\0MPeer authentication failed\0Rauth_failed\0\0";
    for (said, message, advice) in [
        (OAUTH, "unsupported authentication method", "scram-sha-256, md5, password or cert"),
        (PEER, "Peer authentication failed", "pg_ident.conf"),
    ] {
        let none = Passfile { path: "/nowhere/.pgpass".into(), named: false };
        for password in [None, Some(PasswordSource::None), Some(PasswordSource::Passfile(none))] {
            let mut login = login(&scripted(move |mut stream| {
                stream.write_all(said).unwrap();
                swallow(stream);
            }));
            login.tls.mode = sql_exporter::driver::connection::tls::TlsMode::Disable;
            login.password = password.unwrap_or(login.password);
            let error = super::refused(login);
            assert_eq!((error.reason(), error.is_refused_login()), (Reason::Auth, false));
            assert!(error.message().ends_with(message), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains(advice)), "{error}");
        }
    }
}

#[test]
fn notifications_are_no_part_of_an_answer() {
    let server = Postgres::fresh("notifications");
    server
        .run("CREATE FUNCTION listens() RETURNS int LANGUAGE plpgsql AS 'BEGIN LISTEN here; RETURN 1; END'");
    let mut session = session(&server);
    assert_eq!(value(&mut *session, "SELECT listens()"), "Int(1)");
    server.run("SELECT pg_notify('here', g || repeat('x', 7000)) FROM generate_series(1, 600) g");
    for _ in 0..3 {
        assert_eq!(value(&mut *session, "SELECT 7"), "Int(7)");
    }
}

#[test]
fn what_is_no_postgresql_is_told_apart() {
    let mut login = login(&scripted(|mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    }));
    login.tls.mode = sql_exporter::driver::connection::tls::TlsMode::Require;
    let error = super::refused(login);
    assert_eq!(error.reason(), Reason::Protocol);
    assert!(error.message().ends_with("does not speak PostgreSQL's protocol"), "{error}");
}
