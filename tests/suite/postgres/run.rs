//! What running queries does: rows, order, reuse, the ends of a job.

use std::time::{Duration, Instant};

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Health, Job, Sql};
use sql_exporter::error::Reason;

use super::{LONG, assert_clean, rows, session, value};
use crate::process::poll;
use crate::recorder::{Recorder, job, run, run_into};
use crate::servers::Postgres;

#[test]
fn a_text_larger_than_every_buffer_arrives_whole() {
    let mut session = session(&Postgres::shared("postgres"));
    let sql = Sql::new("SELECT repeat('0123456789', 1000000)");
    let mut sink = Recorder::new();
    let mut jobs =
        [Job { sql: &sql, allowance: LONG, parameters: &[], max_cell_bytes: 10_000_000, sink: &mut sink }];
    assert_clean(&session.run(&mut jobs, Deadline::within(LONG)));
    assert_eq!(sink.good()[0][0].len(), 10_000_000 + "Text(\"\")".len());
    assert_eq!(value(&mut *session, "SELECT 2"), "Int(2)");
}

/// Whichever value it is, and however much of the row has come; the server is free again soon.
#[test]
fn a_value_that_is_too_long_fails_its_query_before_it_is_held() {
    let server = Postgres::shared("postgres");
    for sql in [
        "SELECT 1 AS one, repeat('x', 400000000) AS huge",
        "SELECT 1 AS one, repeat('x', 1048577) AS huge, 2 AS two",
        "SELECT 1 AS one, decode(repeat('00', 2000000), 'hex') AS huge FROM generate_series(1, 1000)",
    ] {
        let mut session = session(&server);
        assert_eq!(value(&mut *session, "SELECT 1"), "Int(1)");
        let (sink, health) = run(&mut *session, sql, LONG);
        assert_eq!(sink.reason(), Reason::Limit, "{}", sink.error());
        let said = sink.error().to_string();
        assert!(said.starts_with("column huge (") && said.contains("exporter.max_cell_bytes"), "{said}");
        if !matches!(health, Health::Clean) {
            session.canceller().cancel(Deadline::within(LONG)).unwrap();
            poll("the end in the server", LONG, || session.server_work().has_ended().then_some(()));
        }
    }
    let mut session = session(&server);
    let (sink, _) = run(&mut *session, "SELECT repeat('x', 1048576) AS long", LONG);
    assert_eq!(sink.good().len(), 1);
    // Each value is short enough, the row is not.
    let (sink, _) =
        run(&mut *session, &format!("SELECT {}", vec!["repeat('x', 1000000)"; 20].join(", ")), LONG);
    assert_eq!(sink.reason(), Reason::Limit);
    assert!(sink.error().message().starts_with("a row has 20000"), "{}", sink.error());
}

#[test]
fn errors_name_the_place_and_what_to_change() {
    let server = Postgres::fresh("errors");
    server.run("CREATE TABLE orders (region text)");
    let mut session = session(&server);
    let cases = [
        (
            "SELECT *\nFROM order_s",
            "relation \"order_s\" does not exist (line 2, column 6) [42P01]",
            Reason::Sql,
        ),
        ("SELECT rgion FROM orders", "column \"rgion\" does not exist (column 8) [42703]", Reason::Sql),
        ("SELEC 1", "a statement may start with", Reason::ReadOnly),
        ("", "the statement is empty", Reason::ReadOnly),
        ("SELECT 'x'::int4", "invalid input syntax for type integer: \"x\"", Reason::Value),
        ("SELECT count(*) FROM orders WHERE", "syntax error at end of input", Reason::Sql),
        ("SELECT 1; SELECT 2", "", Reason::ReadOnly),
        ("SELECT $1::int4", "has 1 parameter, and there is no foreach", Reason::Sql),
        ("SELECT 1 -- \0", "zero byte", Reason::Sql),
    ];
    for _ in 0..2 {
        for (sql, message, reason) in cases {
            let (recorder, health) = run(&mut *session, sql, LONG);
            assert_clean(&health);
            assert_eq!(recorder.reason(), reason, "{sql}: {}", recorder.error());
            assert!(recorder.error().to_string().contains(message), "{sql}: {}", recorder.error());
        }
    }
    let (recorder, _) = run(&mut *session, "SELECT rgion FROM orders", LONG);
    assert_eq!(recorder.error().hint(), Some("Perhaps you meant to reference the column \"orders.region\"."));
}

#[test]
fn a_batch_runs_in_order_and_each_job_has_its_own_end() {
    let mut session = session(&Postgres::shared("postgres"));
    let statements = ["SELECT 1", "SELECT nonsense", "SELECT 2", "SELECT 1 / 0", "SELECT 3"].map(Sql::new);
    let mut sinks: Vec<Recorder> = statements.iter().map(|_| Recorder::new()).collect();
    let jobs = statements.iter().zip(&mut sinks);
    let mut jobs: Vec<Job<'_>> = jobs.map(|(sql, sink)| job(sql, LONG, sink)).collect();
    assert_clean(&session.run(&mut jobs, Deadline::within(LONG)));
    assert_eq!(sinks[0].good()[0], ["Int(1)"]);
    assert_eq!(sinks[1].reason(), Reason::Sql);
    assert_eq!(sinks[2].good()[0], ["Int(2)"]);
    assert_eq!(sinks[3].reason(), Reason::Value);
    assert_eq!(sinks[4].good()[0], ["Int(3)"]);
}

#[test]
fn a_sink_that_has_enough_of_a_small_result_keeps_the_session() {
    let mut session = session(&Postgres::shared("postgres"));
    let mut stop = Recorder { stop_at: Some(3), ..Recorder::new() };
    assert_clean(&run_into(&mut *session, "SELECT i FROM generate_series(1, 1000) i", LONG, &mut stop));
    assert_eq!((stop.seen, &stop.verdict), (3, &Some(Ok(()))));
    let mut fail = Recorder { fail_at: Some(3), ..Recorder::new() };
    assert_clean(&run_into(&mut *session, "SELECT i FROM generate_series(1, 1000) i", LONG, &mut fail));
    assert_eq!((fail.seen, fail.reason()), (3, Reason::Value));
    assert_eq!(value(&mut *session, "SELECT 4"), "Int(4)");
}

#[test]
fn a_sink_that_has_enough_of_an_endless_result_is_told_at_once_and_the_session_goes() {
    for endless in [
        "SELECT generate_series(1, 1000000000)",
        // Few rows, then a long silence.
        "SELECT CASE WHEN i > 3000 THEN pg_sleep(60)::text ELSE repeat('x', 10) END FROM generate_series(1, 5000) i",
    ] {
        let mut session = session(&Postgres::shared("postgres"));
        let mut sink = Recorder { fail_at: Some(3), ..Recorder::new() };
        let start = Instant::now();
        let health = run_into(&mut *session, endless, LONG, &mut sink);
        assert!(matches!(health, Health::Spent), "{health:?}");
        assert_eq!(sink.reason(), Reason::Value);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        session.canceller().cancel(Deadline::within(LONG)).unwrap();
    }
}

#[test]
fn a_known_statement_is_parsed_once() {
    let server = Postgres::shared("postgres");
    let mut session = session(&server);
    for _ in 0..3 {
        rows(&mut *session, "SELECT 41 + 1");
    }
    let prepared = rows(
        &mut *session,
        "SELECT name, generic_plans + custom_plans FROM pg_prepared_statements WHERE statement = 'SELECT 41 + 1'",
    );
    let name = Sql::new("SELECT 41 + 1").name().to_owned();
    assert_eq!(prepared, [[format!("Text({name:?})"), "Int(3)".to_owned()]]);
}

#[test]
fn a_statement_survives_a_change_of_its_table() {
    let server = Postgres::fresh("ddl");
    server.run("CREATE TABLE stock (item text, pieces int); INSERT INTO stock VALUES ('nail', 7)");
    let mut session = session(&server);
    assert_eq!(rows(&mut *session, "SELECT * FROM stock"), [["Text(\"nail\")", "Int(7)"]]);
    server.run("ALTER TABLE stock ADD COLUMN price numeric DEFAULT 0.5");
    assert_eq!(rows(&mut *session, "SELECT * FROM stock"), [["Text(\"nail\")", "Int(7)", "Number(\"0.5\")"]]);
    server.run("ALTER TABLE stock RENAME pieces TO amount");
    let (recorder, _) = run(&mut *session, "SELECT * FROM stock", LONG);
    assert_eq!(&*recorder.columns.unwrap()[1].name, "amount");
    server.run("DROP TABLE stock");
    let (recorder, health) = run(&mut *session, "SELECT * FROM stock", LONG);
    assert_clean(&health);
    assert_eq!(recorder.error().sqlstate(), Some("42P01"));
    server.run("CREATE TABLE stock (item int); INSERT INTO stock VALUES (1)");
    assert_eq!(rows(&mut *session, "SELECT * FROM stock"), [["Int(1)"]]);
}

/// The server keeps the types that its parameters had when it was prepared.
#[test]
fn a_statement_survives_a_change_of_its_parameters_types() {
    let server = Postgres::fresh("parameter_types");
    server.run("CREATE TABLE stock (id int); INSERT INTO stock VALUES (1), (2)");
    let mut session = session(&server);
    let sql = Sql::new("SELECT count(*) FROM stock WHERE id = $1");
    let mut count = |id: &str| {
        let (parameters, mut sink) = ([Some(id.to_owned())], Recorder::new());
        let job = Job { parameters: &parameters, ..job(&sql, LONG, &mut sink) };
        assert_clean(&session.run(&mut [job], Deadline::within(LONG)));
        sink
    };
    for _ in 0..2 {
        assert_eq!(count("1").good(), [["Int(1)"]]);
    }
    // What has never fitted stays an error.
    assert_eq!(count("5000000000").reason(), Reason::Value);
    assert_eq!(count("1").good(), [["Int(1)"]]);
    server.run("ALTER TABLE stock ALTER id TYPE bigint; INSERT INTO stock VALUES (5000000000)");
    assert_eq!(count("5000000000").good(), [["Int(1)"]]);
    server.run("ALTER TABLE stock ALTER id TYPE text");
    assert_eq!(count("2").good(), [["Int(1)"]]);
}

#[test]
fn what_is_feature_not_supported_by_itself_is_an_error_and_no_loop() {
    let mut session = session(&Postgres::shared("postgres"));
    for _ in 0..3 {
        let (recorder, health) = run(&mut *session, "SELECT 1 FROM pg_class FOR UPDATE OF pg_class", LONG);
        assert_clean(&health);
        assert!(recorder.verdict.unwrap().is_err());
    }
}

#[test]
fn the_time_a_job_took_is_its_own() {
    let mut session = session(&Postgres::shared("postgres"));
    let (recorder, _) = run(&mut *session, "SELECT pg_sleep(0.2)", LONG);
    assert!(recorder.took >= Duration::from_millis(200) && recorder.took < Duration::from_secs(5));
}

#[test]
fn a_ping_answers_and_facts_tell_of_the_server() {
    let mut session = session(&Postgres::shared("postgres"));
    assert_clean(&session.ping(Deadline::within(LONG)));
    let facts = session.facts();
    assert!(facts.version.starts_with(|digit: char| digit.is_ascii_digit()), "{facts:?}");
    assert_eq!((facts.flavor.as_str(), facts.role.as_str()), ("postgresql", "primary"));
}

#[test]
fn a_query_of_a_snapshot_whose_way_back_fails_has_failed_and_an_error_of_its_own_stays() {
    let server = Postgres::shared("postgres");
    for protocol in ["extended", "simple"] {
        let mut login = super::login(&server);
        login.read_only = false;
        login.params = vec![("protocol".to_owned(), protocol.to_owned())];
        let mut session = super::open(login).unwrap();
        assert_clean(&session.snapshot(true, Deadline::within(LONG)));
        assert_eq!(value(&mut *session, "SELECT 1"), "Int(1)");
        let (recorder, health) = run(&mut *session, "RELEASE SAVEPOINT sqlexp", LONG);
        assert!(matches!(health, Health::Spent), "{protocol}: {health:?}");
        assert_eq!(recorder.error().sqlstate(), Some("3B001"), "{protocol}: {}", recorder.error());
        // The transaction is of no use any more, and that is what is said.
        for sql in ["SELECT 2", "SELECT nonsense"] {
            let (recorder, health) = run(&mut *session, sql, LONG);
            assert!(!matches!(health, Health::Clean), "{protocol}: {health:?}");
            if let Some(verdict) = recorder.verdict {
                assert_eq!(verdict.unwrap_err().sqlstate(), Some("25P02"), "{protocol}: {sql}");
            }
        }
    }
}

/// Queries that the session has prepared, and those of a snapshot, leave together: an error costs its own query.
#[test]
fn jobs_of_a_snapshot_run_in_one_message_and_an_error_is_one_jobs_own() {
    let mut session = session(&Postgres::shared("postgres"));
    assert_clean(&session.snapshot(true, Deadline::within(LONG)));
    for _ in 0..2 {
        let statements =
            ["SELECT 1", "SELECT nonsense", "SELECT 2", "SELECT 1 / 0", "SELECT 3"].map(Sql::new);
        let mut sinks: Vec<Recorder> = statements.iter().map(|_| Recorder::new()).collect();
        let jobs = statements.iter().zip(&mut sinks);
        let mut jobs: Vec<Job<'_>> = jobs.map(|(sql, sink)| job(sql, LONG, sink)).collect();
        assert_clean(&session.run(&mut jobs, Deadline::within(LONG)));
        let reasons = [None, Some(Reason::Sql), None, Some(Reason::Value), None];
        for (sink, reason) in sinks.iter().zip(reasons) {
            let failed = sink.verdict.as_ref().and_then(|verdict| verdict.as_ref().err());
            assert_eq!(failed.map(sql_exporter::error::Error::reason), reason);
        }
    }
    assert_clean(&session.snapshot(false, Deadline::within(LONG)));
    assert_eq!(value(&mut *session, "SELECT 4"), "Int(4)");
}

/// Its sink has failed before: the server skips what follows it in its group all the same.
#[test]
fn an_error_of_the_server_behind_that_of_the_sink_shifts_no_results() {
    let server = Postgres::fresh("shifts");
    server.run("CREATE TABLE t AS SELECT * FROM (VALUES (1, 1), (2, 1)) AS t (id, divisor)");
    let mut statements = vec![Sql::new("SELECT id / divisor FROM t")];
    statements.extend((1..25).map(|number| Sql::new(&format!("SELECT {number}"))));
    let mut session = session(&server);
    let mut run = |fail_at: Option<usize>| {
        let mut sinks: Vec<Recorder> = statements.iter().map(|_| Recorder::new()).collect();
        sinks[0].fail_at = fail_at;
        let jobs = statements.iter().zip(&mut sinks);
        let mut jobs: Vec<Job<'_>> = jobs.map(|(sql, sink)| job(sql, LONG, sink)).collect();
        assert_clean(&session.run(&mut jobs, Deadline::within(LONG)));
        drop(jobs);
        for (number, sink) in sinks.iter().enumerate().skip(1) {
            assert_eq!(sink.good(), [[format!("Int({number})")]]);
        }
        sinks.swap_remove(0)
    };
    assert_eq!(run(None).good().len(), 2);
    server.run("UPDATE t SET divisor = 0 WHERE id = 2");
    assert_eq!(run(Some(1)).error().message(), "the sink had enough");
}

#[test]
fn statements_are_prepared_together_and_an_error_among_them_is_told_when_it_runs() {
    let server = Postgres::fresh("prepared");
    server.run("CREATE TABLE t AS SELECT 5 AS value; CREATE TABLE locked ()");
    let mut holder = server.client();
    holder.batch_execute("BEGIN; LOCK TABLE locked").unwrap();
    let mut session = session(&server);
    let texts = [
        "SELECT value FROM t",
        "SELECT nonsense",
        "SELECT count(*) FROM locked",
        "DELETE FROM t",
        "SELECT now()",
    ];
    let statements = texts.map(Sql::new);
    let start = Instant::now();
    assert_clean(&session.prepare(&statements.each_ref()[..], Deadline::within(LONG)));
    assert!(start.elapsed() < Duration::from_secs(2), "a lock was waited for: {:?}", start.elapsed());
    assert_eq!(value(&mut *session, texts[0]), "Int(5)");
    for (sql, reason) in [(texts[1], Reason::Sql), (texts[2], Reason::Locked), (texts[3], Reason::ReadOnly)] {
        let (recorder, health) = run(&mut *session, sql, LONG);
        assert_clean(&health);
        assert_eq!(recorder.reason(), reason, "{sql}: {}", recorder.error());
    }
    assert_eq!(rows(&mut *session, texts[4]).len(), 1);
}
