//! What a read-only session must not refuse; what it refuses stands in the table of `conformance`.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use sql_exporter::driver::Health;
use sql_exporter::driver::sqlite::File;
use sql_exporter::error::Reason;

use crate::recorder::run;

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
fn a_target_that_may_write_writes_and_stays_in_time() {
    let shop = Shop::new();
    let mut session = open(&File { read_only: false, ..shop.file() }).expect("a session");
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
