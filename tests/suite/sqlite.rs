//! The SQLite driver on real files.

mod files;
mod guard;
mod keys;
mod owner;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::sqlite::SqliteFile;
use sql_exporter::driver::{Endpoint, Health, Job, Session, Sql};
use sql_exporter::error::{Error, Reason};

use crate::recorder::{Recorder, job, run, run_into};

const LONG: Duration = Duration::from_secs(30);
/// Runs for hours.
const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

/// A folder with a database in it.
pub(crate) struct Shop {
    folder: tempfile::TempDir,
}

impl Shop {
    pub(crate) fn new() -> Self {
        let shop = Shop { folder: tempfile::tempdir().expect("a folder") };
        shop.write(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, region VARCHAR(20), amount DECIMAL(10,2));
                    INSERT INTO orders VALUES (1, 'eu', 10.5), (2, 'us', NULL);",
        );
        shop
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }

    pub(crate) fn write(&self, sql: &str) {
        Connection::open(self.path()).and_then(|connection| connection.execute_batch(sql)).expect("set-up");
    }

    /// Somebody who has the database open.
    fn application(&self) -> Connection {
        let application = Connection::open(self.path()).expect("opened");
        application.execute_batch("SELECT * FROM orders").expect("a reader");
        application
    }

    pub(crate) fn file(&self) -> SqliteFile {
        file(&self.path())
    }

    pub(crate) fn session(&self) -> Box<dyn Session> {
        open(&self.file()).expect("a session")
    }
}

fn file(path: &Path) -> SqliteFile {
    SqliteFile {
        path: path.to_owned(),
        immutable: false,
        read_only: true,
        session_sql: Vec::new(),
        connect_timeout: Duration::from_secs(3),
    }
}

fn open(file: &SqliteFile) -> Result<Box<dyn Session>, Error> {
    file.connect(Deadline::within(LONG))
}

fn refusal(file: &SqliteFile) -> Error {
    open(file).err().expect("an error")
}

#[test]
fn a_column_has_its_declared_type_or_its_storage_class() {
    let shop = Shop::new();
    let (sink, _) =
        run(&mut *shop.session(), "SELECT region, amount AS x, 1 + id, 'a', NULL FROM orders", LONG);
    let columns = sink.columns.expect("columns");
    let described: Vec<_> = columns.iter().map(|column| (&*column.name, &*column.type_name)).collect();
    let expected = [
        ("region", "VARCHAR(20)"),
        ("x", "DECIMAL(10,2)"),
        ("1 + id", "INTEGER"),
        ("'a'", "TEXT"),
        ("NULL", "NULL"),
    ];
    assert_eq!(described, expected);
}

/// Old applications write their tables in the encoding of their time.
#[test]
fn a_declared_type_that_is_not_utf_8_is_an_error_that_says_what_to_write() {
    let shop = Shop::new();
    shop.write("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'VARCHAR', CAST(x'e4' AS TEXT))");
    let mut session = shop.session();
    let (sink, health) = run(&mut *session, "SELECT id, region FROM orders", LONG);
    assert_eq!(
        sink.error().to_string(),
        "column 2 of the result has a name or a declared type that is not UTF-8; \
         select it as an expression with a name of its own: `+x AS x`"
    );
    assert!(matches!(health, Health::Clean), "{health:?}");
    let told = session.describe(&Sql::new("SELECT region FROM orders"), 0, Deadline::within(LONG));
    assert_eq!(told.map(drop).unwrap_err().reason(), Reason::Sql);
    let (sink, _) = run(&mut *session, "SELECT +region AS region FROM orders WHERE id = 1", LONG);
    assert_eq!(sink.good(), [["Text(\"eu\")"]]);
}

/// What those who read the log can use: no panic of a library.
#[test]
fn a_table_whose_name_is_not_utf_8_is_told_as_such() {
    let setup = crate::command::setup(
        "databases: {shop: {driver: sqlite, database: shop.db}}\nqueries:\n  \
         - {name: name, sql: SELECT v FROM land_view, metrics: [{name: a, value_column: v}]}\n  \
         - {name: type, sql: SELECT t FROM typed, metrics: [{name: b, value_column: t}]}\n",
    );
    let path = setup.path().join("shop.db");
    let shop = Connection::open(&path).expect("a database");
    shop.execute_batch(
        "CREATE TABLE LAND (v); CREATE VIEW land_view AS SELECT v FROM LAND; CREATE TABLE typed (t TEYP)",
    )
    .expect("tables");
    drop(shop);
    let mut bytes = std::fs::read(&path).expect("read");
    for at in 0..bytes.len() - 4 {
        if matches!(&bytes[at..at + 4], b"LAND" | b"TEYP") {
            bytes[at + 1] = 0xe4;
        }
    }
    std::fs::write(&path, bytes).expect("written");
    let output = setup.once();
    let said = output.errors();
    assert!(
        said.contains("a table or a column has a name that is not UTF-8 [SQLITE_AUTH]; rename it"),
        "{said}"
    );
    assert!(
        said.contains("column 1 of the result has a name or a declared type that is not UTF-8"),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
}

/// `$2` is a name to SQLite, and would be the first value where it stands first.
#[test]
fn a_numbered_parameter_is_the_value_of_that_number_and_a_named_one_is_none() {
    let shop = Shop::new();
    let mut session = shop.session();
    let values = ["one", "two", "three"].map(|text| Some(text.to_owned()));
    let mut bound = |sql: &str| {
        let (sql, mut sink) = (Sql::new(sql), Recorder::new());
        let health = session
            .run(&mut [Job { parameters: &values, ..job(&sql, LONG, &mut sink) }], Deadline::within(LONG));
        assert!(matches!(health, Health::Clean), "{health:?}");
        match sink.verdict.as_ref() {
            Some(Ok(())) => sink.good()[0].join(" "),
            _ => sink.error().to_string(),
        }
    };
    for (sql, row) in [
        ("SELECT ?, ?", "Text(\"one\") Text(\"two\")"),
        ("SELECT $2, $1, $2", "Text(\"two\") Text(\"one\") Text(\"two\")"),
        ("SELECT $3", "Text(\"three\")"),
        ("SELECT ?3, ?1", "Text(\"three\") Text(\"one\")"),
        (
            "SELECT $4",
            "the statement has 4 parameters, and foreach gives 3; each column of foreach is one parameter, in their order",
        ),
        (
            "SELECT :b",
            "the parameter `:b` is a name, and parameters are numbered; write `?`, or `?2` for the second one",
        ),
        (
            "SELECT $0",
            "the parameter `$0` is a name, and parameters are numbered; write `?`, or `?2` for the second one",
        ),
    ] {
        assert_eq!(bound(sql), row, "{sql}");
    }
}

#[test]
fn a_sink_may_stop_or_fail_and_the_session_goes_on() {
    let shop = Shop::new();
    let mut session = shop.session();
    let mut stopping = Recorder { stop_at: Some(1), ..Recorder::new() };
    assert!(matches!(run_into(&mut *session, "SELECT * FROM orders", LONG, &mut stopping), Health::Clean));
    assert_eq!(stopping.good().len(), 1);
    let mut failing = Recorder { fail_at: Some(2), ..Recorder::new() };
    assert!(matches!(run_into(&mut *session, "SELECT * FROM orders", LONG, &mut failing), Health::Clean));
    assert_eq!(failing.reason(), Reason::Value);
    assert!(matches!(session.ping(Deadline::within(LONG)), Health::Clean));
}

#[test]
fn a_deadline_spares_the_neighbours() {
    let shop = Shop::new();
    let mut session = shop.session();
    let texts = [Sql::new("SELECT 1"), Sql::new(ENDLESS), Sql::new("SELECT 3")];
    let mut sinks = [Recorder::new(), Recorder::new(), Recorder::new()];
    let mut jobs: Vec<_> =
        texts.iter().zip(&mut sinks).map(|(sql, sink)| job(sql, Duration::from_millis(200), sink)).collect();
    assert!(matches!(session.run(&mut jobs, Deadline::within(LONG)), Health::Clean));
    assert_eq!(sinks[0].good(), [["Int(1)"]]);
    assert_eq!(sinks[1].error().to_string(), "the query was stopped at its timeout [SQLITE_INTERRUPT]");
    assert_eq!(sinks[2].good(), [["Int(3)"]]);
}

#[test]
fn a_job_whose_deadline_has_passed_does_not_start() {
    let shop = Shop::new();
    let sql = Sql::new("SELECT 1");
    let mut sink = Recorder::new();
    let mut jobs = [job(&sql, LONG, &mut sink)];
    assert!(matches!(shop.session().run(&mut jobs, Deadline::within(Duration::ZERO)), Health::Clean));
    assert_eq!(sink.error().to_string(), "the query was stopped at the scrape's deadline");
    assert_eq!(sink.columns, None);
}

#[test]
fn a_cancel_from_another_thread_ends_the_query_and_spends_the_session() {
    let shop = Shop::new();
    let mut session = shop.session();
    let canceller = session.canceller();
    canceller.cancel(Deadline::within(LONG)).expect("harmless on an idle session");
    assert_eq!(run(&mut *session, "SELECT 1", LONG).0.good(), [["Int(1)"]]);

    let start = Instant::now();
    assert_eq!(cancelled(session, ENDLESS), Reason::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// Runs `sql` until a cancel from this thread ends it; the reason it ended for.
fn cancelled(mut session: Box<dyn Session>, sql: &'static str) -> Reason {
    let canceller = session.canceller();
    let running = std::thread::spawn(move || run(&mut *session, sql, LONG));
    while !running.is_finished() {
        canceller.cancel(Deadline::within(LONG)).expect("a cancel");
        std::thread::yield_now();
    }
    match running.join().expect("no panic") {
        (sink, Health::Spent) => sink.reason(),
        // The cancel struck before the job had begun.
        (_, Health::Lost(error)) => error.reason(),
        (_, Health::Clean) => panic!("a session that was cancelled is used again"),
    }
}

#[test]
fn a_lock_is_waited_for_as_long_as_the_job_has_and_no_longer() {
    let shop = Shop::new();
    let mut session = shop.session();
    let writer = Connection::open(shop.path()).expect("a writer");
    writer.execute_batch("BEGIN EXCLUSIVE").expect("the lock");
    let start = Instant::now();
    let (sink, health) = run(&mut *session, "SELECT count(*) FROM orders", Duration::from_millis(100));
    assert_eq!(sink.reason(), Reason::Locked);
    assert_eq!(sink.error().to_string(), "database is locked [SQLITE_BUSY]");
    assert!(matches!(health, Health::Clean), "{health:?}");
    assert!((100..2_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    // A locked file is there: it opens and answers a ping.
    assert!(matches!(session.ping(Deadline::within(LONG)), Health::Clean));
    assert!(open(&shop.file()).is_ok());

    let waiting = std::thread::spawn(move || run(&mut *session, "SELECT count(*) FROM orders", LONG).0);
    writer.execute_batch("COMMIT").expect("the lock is let go");
    assert_eq!(waiting.join().expect("no panic").good(), [["Int(2)"]]);
}

#[test]
fn a_cancel_ends_the_wait_for_a_lock() {
    let shop = Shop::new();
    let session = shop.session();
    let writer = Connection::open(shop.path()).expect("a writer");
    writer.execute_batch("BEGIN EXCLUSIVE").expect("the lock");
    assert_eq!(cancelled(session, "SELECT count(*) FROM orders"), Reason::Cancelled);
}

#[test]
fn a_batch_is_one_read_transaction() {
    struct Writer<'a>(&'a Shop, Recorder);
    impl sql_exporter::driver::RowSink for Writer<'_> {
        fn columns(&mut self, columns: &[sql_exporter::driver::Column]) -> Result<(), Error> {
            self.1.columns(columns)
        }
        fn row(&mut self, row: &dyn sql_exporter::driver::Row) -> Result<sql_exporter::driver::Flow, Error> {
            self.0.write("INSERT INTO orders VALUES (3, 'asia', 1)");
            self.1.row(row)
        }
        fn end(&mut self, verdict: Result<(), Error>, took: Duration) {
            self.1.end(verdict, took);
        }
    }
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    let _application = shop.application();
    let mut session = shop.session();
    let count = Sql::new("SELECT count(*) FROM orders");
    let (mut first, mut second) = (Writer(&shop, Recorder::new()), Recorder::new());
    let mut jobs = [job(&count, LONG, &mut first), job(&count, LONG, &mut second)];
    assert!(matches!(session.run(&mut jobs, Deadline::within(LONG)), Health::Clean));
    assert_eq!(
        (first.1.good(), second.good()),
        (&[vec!["Int(2)".to_owned()]][..], &[vec!["Int(2)".to_owned()]][..])
    );
    assert_eq!(run(&mut *session, count.text(), LONG).0.good(), [["Int(3)"]]);
}

#[test]
fn an_error_in_the_sql_says_where() {
    let shop = Shop::new();
    let (sink, health) = run(&mut *shop.session(), "SELECT id,\n  nope FROM orders", LONG);
    assert_eq!(sink.reason(), Reason::Sql);
    assert_eq!(
        sink.error().to_string(),
        "no such column: nope (line 2, column 3 of the statement) [SQLITE_ERROR]"
    );
    assert!(matches!(health, Health::Clean), "{health:?}");
    let too_large = "SELECT sum(x) FROM (SELECT 9223372036854775807 AS x UNION ALL SELECT 1)";
    let (sink, _) = run(&mut *shop.session(), too_large, LONG);
    assert_eq!(sink.error().hint(), Some("write `total(x)` for a sum beyond 64 bits"));
}

/// Whoever owns the file writes its views, and a stack that is too small ends the process.
#[test]
fn views_within_views_fit_on_the_stack_of_a_worker() {
    let setup = crate::command::setup(
        "databases: {shop: {driver: sqlite, database: shop.db}}\nqueries:\n  \
         - {name: q, sql: SELECT v FROM v600, metrics: [{name: m, value_column: v}]}\n",
    );
    let shop = Connection::open(setup.path().join("shop.db")).expect("a database");
    let view = |number: usize| {
        let below = number - 1;
        let rows = format!("SELECT v FROM v{below} UNION SELECT 1 EXCEPT SELECT 3 ORDER BY 1");
        format!("CREATE VIEW v{number} AS SELECT v FROM ({rows}) LIMIT 1;")
    };
    let views: String = (1..=600).map(view).collect();
    shop.execute_batch(&format!("CREATE VIEW v0 AS SELECT 1 AS v; {views}")).expect("views");
    let output = setup.once();
    assert!(output.text().contains("m{target=\"shop\"} 1\n"), "{}", output.errors());
}

/// What the sqlite3 of a distribution has compiled in, so that a query that works there works here.
#[test]
fn functions_and_modules_that_sqlite3_has_are_there() {
    let shop = Shop::new();
    shop.write(
        "CREATE VIRTUAL TABLE three USING fts3(a); CREATE VIRTUAL TABLE four USING fts4(a); \
         CREATE VIRTUAL TABLE five USING fts5(a); CREATE VIRTUAL TABLE tree USING rtree(id, low, high); \
         INSERT INTO five VALUES ('orders of today')",
    );
    let mut session = shop.session();
    for (sql, expected) in [
        ("sqrt(16) + ceil(1.5) + floor(1.5) + trunc(-1.5)", "Float(6.0)"),
        ("pow(2, 10) + power(2, 3) + mod(7, 4)", "Float(1035.0)"),
        ("ln(exp(1)) + log(100) + log10(1000) + log2(8) + log(2, 8)", "Float(12.0)"),
        ("round(degrees(pi()) + radians(0) + sin(0) + cos(0) + tan(0))", "Float(181.0)"),
        ("asin(0) + acos(1) + atan(0) + atan2(0, 1)", "Float(0.0)"),
        ("sinh(0) + cosh(0) + tanh(0) + asinh(0) + acosh(1) + atanh(0)", "Float(1.0)"),
        ("sqrt(-1)", "Null"),
        ("sign(-3) + iif(1, 2, 3)", "Int(1)"),
        ("(SELECT median(id) + percentile(id, 100) FROM orders)", "Float(3.5)"),
        ("(SELECT count(*) FROM five WHERE five MATCH 'orders')", "Int(1)"),
        (
            "(SELECT count(*) FROM tree) + (SELECT count(*) FROM three) + (SELECT count(*) FROM four)",
            "Int(0)",
        ),
        ("(SELECT count(*) > 0 FROM dbstat)", "Int(1)"),
        ("json_extract('{\"a\": [1, 2]}', '$.a[1]')", "Int(2)"),
        ("soundex('Robert')", "Text(\"R163\")"),
        ("unixepoch('2026-01-02')", "Int(1767312000)"),
    ] {
        let (sink, _) = run(&mut *session, &format!("SELECT {sql}"), LONG);
        assert_eq!(sink.good(), [[expected]], "{sql}");
    }
}
