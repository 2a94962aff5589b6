//! What a read-only session must not refuse; what it refuses stands in the table of `conformance`.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::sqlite::SqliteFile;
use sql_exporter::driver::{Health, Job, Session, Sql};
use sql_exporter::error::Reason;

use crate::recorder::{Recorder, run};

use super::{LONG, Shop, open};

#[test]
fn what_only_reads_is_allowed() {
    let shop = Shop::new();
    shop.write(
        "CREATE VIRTUAL TABLE boxes USING rtree(id, a, b); INSERT INTO boxes VALUES (1, 0, 2);
         CREATE VIRTUAL TABLE texts USING fts5(body); INSERT INTO texts VALUES ('hello world');
         CREATE VIRTUAL TABLE old USING fts4(body); INSERT INTO old VALUES ('hello world');",
    );
    let mut session = shop.session();
    for sql in [
        "SELECT page_count FROM pragma_page_count",
        "SELECT journal_mode FROM pragma_journal_mode",
        "SELECT count(*) FROM pragma_table_info('orders')",
        "SELECT integrity_check FROM pragma_integrity_check",
        "SELECT sum(pgsize) FROM dbstat",
        "SELECT count(*) FROM sqlite_schema",
        "SELECT id FROM boxes WHERE a < 1",
        "SELECT rowid FROM texts WHERE texts MATCH 'world'",
        "SELECT rowid FROM old WHERE old MATCH 'world'",
        "SELECT value FROM json_each('[1]')",
        "EXPLAIN QUERY PLAN SELECT * FROM orders",
        "VALUES (1)",
        "SELECT o.id FROM orders AS o ORDER BY random(), amount",
    ] {
        let (sink, health) = run(&mut *session, sql, LONG);
        assert_eq!(sink.verdict, Some(Ok(())), "{sql}");
        assert!(sink.seen > 0, "{sql}");
        assert!(matches!(health, Health::Clean), "{sql}: {health:?}");
    }
}

#[test]
fn what_would_write_is_refused_where_it_is_described_too() {
    let shop = Shop::new();
    let sql = Sql::new("WITH x AS (SELECT 9) INSERT INTO orders (id) SELECT * FROM x RETURNING id");
    let described = |session: &mut dyn Session| session.describe(&sql, 0, Deadline::within(LONG));
    assert_eq!(described(&mut *shop.session()).unwrap_err().reason(), Reason::ReadOnly);
    let mut writer = open(&SqliteFile { read_only: false, ..shop.file() }).expect("a session");
    assert!(described(&mut *writer).is_ok());
}

#[test]
fn a_target_that_may_write_writes_and_stays_in_time() {
    let shop = Shop::new();
    let mut session = open(&SqliteFile { read_only: false, ..shop.file() }).expect("a session");
    assert_eq!(
        run(&mut *session, "INSERT INTO orders VALUES (3, 'x', 1) RETURNING id", LONG).0.good(),
        [["Int(3)"]]
    );
    assert_eq!(run(&mut *session, "PRAGMA busy_timeout = 60000", LONG).0.good(), [["Int(60000)"]]);
    let writer = Connection::open(shop.path()).expect("a writer");
    writer.execute_batch("BEGIN EXCLUSIVE").expect("the lock");
    let start = Instant::now();
    assert_eq!(
        run(&mut *session, "SELECT * FROM orders", Duration::from_millis(100)).0.reason(),
        Reason::Locked
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    let (sink, _) = run(&mut *session, "SELECT 1; SELECT 2", LONG);
    assert_eq!(sink.error().to_string(), "more than one statement");
}

/// Values as long as SQLite makes them: the longest inside a statement, and the longest that are taken.
#[test]
fn values_are_bounded() {
    let shop = Shop::new();
    let mut session = shop.session();
    for (sql, says) in [
        ("SELECT zeroblob(1048577)", "column `zeroblob(1048577)` has more than 1048576 bytes"),
        ("SELECT 1, hex(zeroblob(600000)) AS x", "column `x` has more than 1048576 bytes"),
        ("SELECT zeroblob(1000000000)", "too big"),
        ("SELECT length(printf('%.*c', 1000000000, 'x'))", "too big"),
        ("SELECT length(randomblob(1000000000))", "too big"),
        ("SELECT length(replace(hex(zeroblob(8000000)), '0', 'xxxxxxxx'))", "too big"),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
             SELECT length(group_concat(hex(randomblob(100000)))) FROM n",
            "too big",
        ),
    ] {
        let (sink, health) = run(&mut *session, sql, LONG);
        assert_eq!(sink.reason(), Reason::Limit, "{sql}: {}", sink.error());
        assert!(sink.error().to_string().contains(says), "{sql}: {}", sink.error());
        assert!(matches!(health, Health::Clean), "{sql}: {health:?}");
    }
    run(&mut *shop.session(), "SELECT length(randomblob(16000000)), zeroblob(1048576)", LONG).0.good();
}

#[test]
fn a_larger_value_is_taken_where_it_is_allowed() {
    let shop = Shop::new();
    let sql = Sql::new("SELECT replace(hex(zeroblob(10000000)), '0', 'x')");
    let mut sink = Recorder { keep: 0, ..Recorder::default() };
    let mut jobs =
        [Job { sql: &sql, allowance: LONG, parameters: &[], max_cell_bytes: 20_100_000, sink: &mut sink }];
    let health = shop.session().run(&mut jobs, Deadline::within(LONG));
    assert!(matches!(health, Health::Clean), "{health:?}");
    sink.good();
}

/// A database may be anybody's: its views, triggers and tables say what they like.
#[test]
fn texts_of_a_database_are_kept_in_bounds() {
    let shop = Shop::new();
    let long = "y".repeat(5000);
    shop.write(&format!(
        "CREATE TABLE wide (a \"{long}\"); INSERT INTO wide VALUES (1);
         CREATE VIEW named AS SELECT 1 AS \"{long}\";
         CREATE VIEW broken AS SELECT json_extract('{{' || '{long}', '$') AS a;
         CREATE VIEW unknown AS SELECT \"{long}\".b FROM wide"
    ));
    let mut session = shop.session();
    let (sink, _) = run(&mut *session, "SELECT wide.a, named.* FROM wide, named", LONG);
    let columns = sink.columns.expect("columns");
    assert!(columns[0].type_name.len() <= 256 && columns[1].name.len() <= 1024);
    for view in ["broken", "unknown"] {
        let (sink, _) = run(&mut *session, &format!("SELECT * FROM {view}"), LONG);
        assert!(sink.error().message().len() < 2200, "{} bytes", sink.error().message().len());
    }
}

#[test]
fn functions_that_reach_outside_are_refused() {
    let shop = Shop::new();
    shop.write("CREATE VIRTUAL TABLE texts USING fts4(body); INSERT INTO texts VALUES ('hello')");
    let before = std::fs::read(shop.path()).expect("read");
    for read_only in [true, false] {
        let mut session = open(&SqliteFile { read_only, ..shop.file() }).expect("a session");
        for sql in [
            "SELECT load_extension('/tmp/x')",
            "SELECT Fts3_Tokenizer('simple', x'4141414141414141')",
            "SELECT \"load_extension\"('/tmp/x')",
            "SELECT writefile('/tmp/x', 'y')",
        ] {
            assert!(run(&mut *session, sql, LONG).0.verdict.is_some_and(|verdict| verdict.is_err()), "{sql}");
        }
        if read_only {
            for sql in [
                "SELECT optimize(texts) FROM texts LIMIT 1",
                "PRAGMA query_only = 0",
                "SELECT * FROM pragma_query_only(0)",
                "ATTACH ':memory:' AS x",
                "CREATE TEMP TABLE x (a)",
                "INSERT INTO texts (texts) VALUES ('optimize')",
            ] {
                assert!(
                    run(&mut *session, sql, LONG).0.verdict.is_some_and(|verdict| verdict.is_err()),
                    "{sql}"
                );
            }
        } else {
            // They hold for the whole process.
            for sql in ["PRAGMA soft_heap_limit = 1000", "PRAGMA Hard_Heap_Limit(1000)"] {
                assert!(
                    run(&mut *session, sql, LONG).0.verdict.is_some_and(|verdict| verdict.is_err()),
                    "{sql}"
                );
            }
        }
    }
    assert!(std::fs::read(shop.path()).expect("read") == before);
}

/// One that is cut meanwhile, as by `cp backup.db shop.db`, would end the process.
#[test]
fn no_file_is_mapped_into_memory() {
    let (shop, set) = (Shop::new(), "PRAGMA main.MMAP_SIZE = 1000000");
    for read_only in [true, false] {
        let config = SqliteFile { read_only, session_sql: vec![set.into()], ..shop.file() };
        let mut session = open(&config).expect("a session");
        if !read_only {
            assert_eq!(run(&mut *session, set, LONG).0.verdict, Some(Ok(())));
        }
        assert_eq!(run(&mut *session, "SELECT count(*) FROM orders", LONG).0.good(), [["Int(2)"]]);
        let mapped = std::fs::read_to_string("/proc/self/maps").expect("read");
        assert!(!mapped.contains(&shop.path().display().to_string()), "{mapped}");
    }
}

/// What a statement of a session that may write leaves there is not for the next one.
#[test]
fn a_session_that_was_changed_is_not_used_again() {
    let shop = Shop::new();
    for (sql, is_changed) in [
        ("PRAGMA busy_timeout = 1", true),
        ("PRAGMA foreign_keys = 0", true),
        ("ATTACH ':memory:' AS x", true),
        ("CREATE TEMP TABLE x (a)", true),
        ("BEGIN", true),
        ("SAVEPOINT s", true),
        ("INSERT INTO orders VALUES (9, 'x', 1)", false),
        ("DELETE FROM orders WHERE id = 9", false),
        ("SELECT 1", false),
    ] {
        let mut session = open(&SqliteFile { read_only: false, ..shop.file() }).expect("a session");
        let (sink, health) = run(&mut *session, sql, LONG);
        assert_eq!(sink.verdict, Some(Ok(())), "{sql}");
        assert_eq!(matches!(health, Health::Spent), is_changed, "{sql}: {health:?}");
    }
}
