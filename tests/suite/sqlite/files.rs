//! What a session sees of its file: missing, replaced, broken, attached, immutable, changed.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::sqlite::SqliteFile;
use sql_exporter::driver::{Column, Endpoint, Flow, Health, Row, RowSink, Session, Sql};
use sql_exporter::engine::disposal::Disposal;
use sql_exporter::engine::pool::{Lease, Pool, PoolLimits, Scheduler};
use sql_exporter::error::{Error, Reason};

use crate::recorder::{Recorder, job, run, run_into};

use super::{LONG, Shop, file, open, refusal};

#[test]
fn session_sql_may_attach_another_file_and_reads_it_only() {
    let (shop, other) = (Shop::new(), Shop::new());
    let attach = format!("ATTACH '{}' AS other", other.path().display());
    let mut session = open(&SqliteFile { session_sql: vec![attach], ..shop.file() }).expect("a session");
    assert_eq!(run(&mut *session, "SELECT count(*) FROM other.orders", LONG).0.good(), [["Int(2)"]]);
    let (sink, _) = run(&mut *session, "WITH x AS (SELECT 1) DELETE FROM other.orders", LONG);
    assert_eq!(sink.reason(), Reason::ReadOnly);

    let by_expression = format!("ATTACH '{}' || '' AS other", other.path().display());
    let error = refusal(&SqliteFile { session_sql: vec![by_expression], ..shop.file() });
    assert!(error.to_string().contains("whose name is an expression; write"), "{error}");
    let broken = refusal(&SqliteFile { session_sql: vec!["SELEC 1".into()], ..shop.file() });
    assert_eq!(broken.to_string(), "session_sql failed: syntax error");
}

#[test]
fn a_missing_file_is_an_error_with_its_path_and_not_a_new_database() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.db");
    for read_only in [true, false] {
        let error = refusal(&SqliteFile { read_only, ..file(&path) });
        assert_eq!(error.reason(), Reason::Connect);
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(!path.exists());
    }
    let error = refusal(&file(folder.path()));
    assert!(error.to_string().ends_with("is not a regular file"), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_the_servers_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("letter.txt");
    std::fs::write(&path, "Dear Sir or Madam, ".repeat(100)).expect("a letter");
    let error = refusal(&file(&path));
    assert_eq!(error.reason(), Reason::Server);
    assert!(error.message().ends_with("file is not a database"), "{error}");
    assert_eq!(error.sqlstate(), Some("SQLITE_NOTADB"));
    assert!(error.hint().expect("a hint").contains("encrypted"), "{error}");
}

#[test]
fn a_file_replaced_or_removed_under_its_path_is_lost_and_the_next_session_sees_the_new_one() {
    let (shop, new) = (Shop::new(), Shop::new());
    new.write("DELETE FROM orders");
    let mut session = shop.session();
    assert_eq!(run(&mut *session, "SELECT count(*) FROM orders", LONG).0.good(), [["Int(2)"]]);
    std::fs::rename(new.path(), shop.path()).expect("a replacement");
    let (sink, health) = run(&mut *session, "SELECT count(*) FROM orders", LONG);
    assert!(sink.verdict.is_none(), "a lost job may be repeated: its sink is not ended");
    assert!(
        matches!(health, Health::Lost(error) if error.message().ends_with("was replaced by another file"))
    );
    let mut fresh = shop.session();
    assert_eq!(run(&mut *fresh, "SELECT count(*) FROM orders", LONG).0.good(), [["Int(0)"]]);

    std::fs::remove_file(shop.path()).expect("removed");
    assert!(
        matches!(fresh.ping(Deadline::within(LONG)), Health::Lost(error) if error.message().contains("is gone"))
    );
}

#[test]
fn an_attached_file_that_is_replaced_is_lost_too_however_it_is_named() {
    for [start, name, end] in [
        ["", "shop", ""],
        ["file:", "shop", "?mode=ro#x"],
        ["file://", "%73hop", ""],
        ["file://localhost", "shop", "?mode=ro"],
    ] {
        let (shop, other, new) = (Shop::new(), Shop::new(), Shop::new());
        new.write("DELETE FROM orders");
        let path = other.path().display().to_string().replace("shop.db", &format!("{name}.db"));
        let attach = format!("ATTACH '{start}{path}{end}' AS other");
        let config = SqliteFile { session_sql: vec![attach], ..shop.file() };
        let mut session = open(&config).expect("a session");
        assert_eq!(run(&mut *session, "SELECT count(*) FROM other.orders", LONG).0.good(), [["Int(2)"]]);
        std::fs::rename(new.path(), other.path()).expect("a replacement");
        let (_, health) = run(&mut *session, "SELECT count(*) FROM other.orders", LONG);
        assert!(
            matches!(&health, Health::Lost(error) if error.message().ends_with("was replaced by another file")),
            "{start}{path}{end}: {health:?}"
        );
        let mut fresh = open(&config).expect("a session");
        assert_eq!(run(&mut *fresh, "SELECT count(*) FROM other.orders", LONG).0.good(), [["Int(0)"]]);
    }
}

/// As `cp backup.db shop.db` does: the same file, and by SQLite's rules nobody wrote it.
#[test]
fn a_backup_that_is_copied_over_the_file_is_read() {
    for (mode, is_open) in [("DELETE", false), ("WAL", false), ("WAL", true)] {
        let (shop, backup) = (Shop::new(), Shop::new());
        for (file, write) in [(&shop, "DELETE FROM orders WHERE id = 1"), (&backup, "DELETE FROM orders")] {
            file.write(&format!("PRAGMA journal_mode = {mode}; {write}"));
        }
        let _application = is_open.then(|| shop.application());
        // Long ago: on many systems the clock of files ticks every few milliseconds only.
        let aged = std::process::Command::new("touch").args(["-t", "200001010000"]).arg(shop.path()).status();
        assert!(aged.expect("touch").success());
        let mut session = shop.session();
        assert_eq!(run(&mut *session, "SELECT count(*) FROM orders", LONG).0.good(), [["Int(1)"]]);
        // Not by this process: closing the file would take its sessions' locks.
        let copied = std::process::Command::new("cp").args([backup.path(), shop.path()]).status();
        assert!(copied.expect("cp").success());
        let (sink, health) = run(&mut *session, "SELECT count(*) FROM orders", LONG);
        assert_eq!(sink.good(), [["Int(0)"]], "{mode}, {is_open}: {health:?}");
    }
}

/// A dump that was restored has its tables on other pages, and may have the number of the old schema.
#[test]
fn a_restored_dump_that_is_copied_over_the_file_has_its_own_schema() {
    let (shop, restored) = (Shop::new(), Shop::new());
    let fill = "INSERT INTO a WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5000) SELECT n FROM t";
    shop.write(&format!("CREATE TABLE a (x); CREATE TABLE b (x); {fill}; INSERT INTO b VALUES (1), (2)"));
    restored.write(&format!("CREATE TABLE a (x); {fill}; CREATE TABLE b (x); INSERT INTO b VALUES (1), (2)"));
    let mut session = shop.session();
    let query = "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)";
    assert_eq!(run(&mut *session, query, LONG).0.good(), [["Int(5000)", "Int(2)"]]);
    let copied = std::process::Command::new("cp").args([restored.path(), shop.path()]).status();
    assert!(copied.expect("cp").success());
    assert_eq!(run(&mut *session, query, LONG).0.good(), [["Int(5000)", "Int(2)"]]);
}

/// A connection takes the encoding of its first file.
#[test]
fn a_backup_in_another_encoding_is_read_by_a_new_session() {
    let (shop, backup) = (Shop::new(), tempfile::tempdir().expect("a folder"));
    let copy = backup.path().join("copy.db");
    let sql =
        "PRAGMA encoding = 'UTF-16le'; CREATE TABLE orders (id, region); INSERT INTO orders VALUES (1, 'é')";
    Connection::open(&copy).and_then(|made| made.execute_batch(sql)).expect("a backup");
    let (mut session, query) = (shop.session(), "SELECT max(region) FROM orders");
    assert_eq!(run(&mut *session, query, LONG).0.good(), [["Text(\"us\")"]]);
    let copied = std::process::Command::new("cp").args([copy, shop.path()]).status();
    assert!(copied.expect("cp").success());
    let (_, health) = run(&mut *session, query, LONG);
    assert!(matches!(health, Health::Lost(_)), "{health:?}");
    assert_eq!(run(&mut *shop.session(), query, LONG).0.good(), [["Text(\"é\")"]]);
}

#[test]
fn an_immutable_file_is_read_without_its_wal_and_without_making_files() {
    let shop = Shop::new();
    shop.write(
        "PRAGMA journal_mode = WAL; INSERT INTO orders VALUES (3, 'x', 1); PRAGMA wal_checkpoint(TRUNCATE)",
    );
    let strange = shop.folder.path().join("50% ?a#b.db");
    std::fs::copy(shop.path(), &strange).expect("a copy");
    let mut session = open(&SqliteFile { immutable: true, ..file(&strange) }).expect("a session");
    assert_eq!(run(&mut *session, "SELECT count(*) FROM orders", LONG).0.good(), [["Int(3)"]]);
    let made = std::fs::read_dir(shop.folder.path()).expect("a folder").count();
    assert_eq!(made, 2, "shop.db and its copy");
}

#[test]
fn a_schema_that_changes_between_batches_is_seen() {
    let shop = Shop::new();
    let mut session = shop.session();
    assert_eq!(run(&mut *session, "SELECT * FROM orders WHERE id = 1", LONG).0.good()[0].len(), 3);
    shop.write("ALTER TABLE orders ADD COLUMN note TEXT");
    assert_eq!(run(&mut *session, "SELECT * FROM orders WHERE id = 1", LONG).0.good()[0].len(), 4);
}

#[test]
fn sessions_are_shared_out_to_threads_and_tell_their_facts() {
    let shop = Shop::new();
    let endpoint: Arc<dyn Endpoint> = Arc::new(shop.file());
    assert_eq!(endpoint.redacted_url(), format!("sqlite://{}", shop.path().display()));
    let sessions: Vec<_> = (0..4)
        .map(|_| {
            let endpoint = Arc::clone(&endpoint);
            std::thread::spawn(move || {
                endpoint.connect(Deadline::within(LONG)).map(|session| session.facts().clone())
            })
        })
        .collect();
    for session in sessions {
        let facts = session.join().expect("no panic").expect("a session");
        assert_eq!(
            (facts.flavor.as_str(), facts.role.as_str(), facts.tls.as_str()),
            ("sqlite", "primary", "local")
        );
        assert!(facts.version.starts_with("3."), "{}", facts.version);
    }
}

#[test]
fn a_wal_database_that_nobody_has_open_is_read_where_no_file_can_be_made() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL; PRAGMA wal_checkpoint(TRUNCATE)");
    // As on a read-only mount, also for root: the shared-memory file can be neither opened nor made.
    let shared_memory = shop.folder.path().join("shop.db-shm");
    std::os::unix::fs::symlink("nowhere/at/all", shared_memory).expect("a link in its place");
    for immutable in [false, true] {
        let mut session = open(&SqliteFile { immutable, ..shop.file() }).expect("a session");
        assert_eq!(run(&mut *session, "SELECT count(*) FROM orders", LONG).0.good(), [["Int(2)"]]);
    }
}

/// What lies in the shop's folder.
fn names(shop: &Shop) -> Vec<String> {
    let entries = std::fs::read_dir(shop.folder.path()).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_wal_database_that_nobody_has_open_is_read_without_making_files() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    for read_only in [true, false] {
        let mut session = open(&SqliteFile { read_only, ..shop.file() }).expect("a session");
        assert_eq!(run(&mut *session, "SELECT count(*) FROM orders", LONG).0.good(), [["Int(2)"]]);
        assert!(session.describe(&Sql::new("SELECT id FROM orders"), 0, Deadline::within(LONG)).is_ok());
        assert!(matches!(session.ping(Deadline::within(LONG)), Health::Clean));
        drop(session);
        assert_eq!(names(&shop), ["shop.db"]);
    }
}

#[test]
fn an_application_that_opens_the_database_is_noticed_and_its_commits_are_seen() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    let count = "SELECT count(*) FROM orders";
    let mut idle = shop.session();
    assert_eq!(run(&mut *idle, count, LONG).0.good(), [["Int(2)"]]);
    let application = shop.application();
    application.execute_batch("INSERT INTO orders VALUES (3, 'x', 1)").expect("the owner writes");
    let (sink, health) = run(&mut *idle, count, LONG);
    assert!(sink.verdict.is_none(), "a lost job is repeated: its sink is not ended");
    assert!(matches!(health, Health::Lost(_)), "{health:?}");
    assert!(matches!(idle.ping(Deadline::within(LONG)), Health::Lost(_)));
    assert!(idle.describe(&Sql::new(count), 0, Deadline::within(LONG)).is_err());
    let mut fresh = shop.session();
    assert_eq!(run(&mut *fresh, count, LONG).0.good(), [["Int(3)"]]);
    application.execute_batch("INSERT INTO orders VALUES (4, 'x', 1)").expect("the owner writes");
    assert_eq!(run(&mut *fresh, count, LONG).0.good(), [["Int(4)"]]);
    drop((idle, fresh, application));
    shop.write("SELECT 1 FROM orders");
    assert_eq!(names(&shop), ["shop.db"]);
}

/// A sink in whose rows an application opens the database.
struct Meanwhile<'s>(&'s Shop, Recorder);

impl RowSink for Meanwhile<'_> {
    fn columns(&mut self, columns: &[Column]) -> Result<(), Error> {
        self.1.columns(columns)
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow, Error> {
        drop(self.0.application());
        self.1.row(row)
    }

    fn end(&mut self, verdict: Result<(), Error>, took: Duration) {
        self.1.end(verdict, took);
    }
}

#[test]
fn a_result_is_not_used_where_an_application_opened_the_database_meanwhile() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    let mut session = shop.session();
    let mut late = Meanwhile(&shop, Recorder::new());
    let health = run_into(&mut *session, "SELECT id FROM orders", LONG, &mut late);
    assert!(late.1.verdict.is_none() && matches!(health, Health::Lost(_)), "{health:?}");
}

#[test]
fn a_change_of_the_journal_mode_between_batches_makes_no_files_of_ours() {
    let shop = Shop::new();
    let mut session = shop.session();
    let count = "SELECT count(*) FROM orders";
    assert_eq!(run(&mut *session, count, LONG).0.good(), [["Int(2)"]]);
    shop.write("PRAGMA journal_mode = WAL; INSERT INTO orders VALUES (3, 'x', 1)");
    assert!(matches!(run(&mut *session, count, LONG).1, Health::Lost(_)));
    assert_eq!(names(&shop), ["shop.db"]);
    drop(session);
    let mut session = shop.session();
    assert_eq!(run(&mut *session, count, LONG).0.good(), [["Int(3)"]]);
    drop(session);
    shop.write("PRAGMA journal_mode = DELETE; INSERT INTO orders VALUES (4, 'x', 1)");
    assert_eq!(run(&mut *shop.session(), count, LONG).0.good(), [["Int(4)"]]);
}

/// A database with the journal of a write that was interrupted: in the file stands what was never committed.
fn interrupted() -> Shop {
    let shop = Shop::new();
    let writer = rusqlite::Connection::open(shop.path()).expect("opened");
    let spill = "PRAGMA cache_size = 5; CREATE TABLE big (x); BEGIN; UPDATE orders SET amount = 999; \
                 WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 500) \
                 INSERT INTO big SELECT randomblob(1000) FROM c";
    writer.execute_batch(spill).expect("written");
    let copy = Shop { folder: tempfile::tempdir().expect("a folder") };
    for name in ["shop.db", "shop.db-journal"] {
        std::fs::copy(shop.folder.path().join(name), copy.folder.path().join(name)).expect("a copy");
    }
    copy
}

#[test]
fn the_journal_of_an_interrupted_write_is_named_and_what_it_undoes_is_never_shown() {
    let shop = interrupted();
    let error = refusal(&shop.file());
    assert_eq!((error.reason(), error.sqlstate()), (Reason::Connect, Some("SQLITE_READONLY_ROLLBACK")));
    assert!(error.message().contains("shop.db-journal"), "{error}");
    assert!(!error.to_string().contains("immutable"), "{error}");
    let error = refusal(&SqliteFile { immutable: true, ..shop.file() });
    assert!(error.message().contains("shop.db-journal holds"), "{error}");
    // The advice: its owner opens it once.
    shop.write("SELECT 1 FROM orders");
    for immutable in [false, true] {
        let mut session = open(&SqliteFile { immutable, ..shop.file() }).expect("a session");
        let sql = "SELECT count(*) FROM orders WHERE amount = 999";
        assert_eq!(run(&mut *session, sql, LONG).0.good(), [["Int(0)"]]);
    }
}

#[test]
fn a_session_that_is_open_is_told_of_an_interrupted_write() {
    let (shop, broken) = (Shop::new(), interrupted());
    let mut session = shop.session();
    for name in ["shop.db-journal", "shop.db"] {
        let bytes = std::fs::read(broken.folder.path().join(name)).expect("read");
        std::fs::write(shop.folder.path().join(name), bytes).expect("written in place");
    }
    let (sink, health) = run(&mut *session, "SELECT count(*) FROM orders", LONG);
    assert!(sink.error().message().contains("shop.db-journal"), "{}", sink.error());
    assert!(matches!(health, Health::Spent), "{health:?}");
}

#[test]
fn a_file_called_immutable_is_refused_while_changes_lie_beside_it_or_come() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    let immutable = SqliteFile { immutable: true, ..shop.file() };
    let count = "SELECT count(*) FROM orders";
    let mut idle = open(&immutable).expect("a session");
    assert_eq!(run(&mut *idle, count, LONG).0.good(), [["Int(2)"]]);
    let application = shop.application();
    assert!(open(&immutable).is_ok(), "an empty -wal holds no change");
    application.execute_batch("INSERT INTO orders VALUES (3, 'x', 1)").expect("written");
    let error = refusal(&immutable);
    assert!(error.message().contains("shop.db-wal holds committed changes"), "{error}");
    let Health::Lost(error) = run(&mut *idle, count, LONG).1 else { panic!("it goes on") };
    assert!(error.message().contains("shop.db-wal"), "{error}");
    drop(application);
    assert_eq!(run(&mut *open(&immutable).expect("merged"), count, LONG).0.good(), [["Int(3)"]]);
    assert!(matches!(run(&mut *idle, count, LONG).1, Health::Lost(_)), "it was written");
}

#[test]
fn an_application_in_exclusive_mode_is_said_to_lock_the_database() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    let application = rusqlite::Connection::open(shop.path()).expect("opened");
    application
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; INSERT INTO orders VALUES (3, 'x', 1)")
        .expect("written");
    let error = refusal(&SqliteFile { connect_timeout: Duration::from_millis(50), ..shop.file() });
    assert_eq!(error.reason(), Reason::Locked);
    assert!(error.message().ends_with("is locked exclusively by another process"), "{error}");
    drop(application);
    assert_eq!(run(&mut *shop.session(), "SELECT count(*) FROM orders", LONG).0.good(), [["Int(3)"]]);
}

/// An application that opens, writes and closes all the time, as one process a request does.
#[test]
fn pages_are_true_and_no_write_fails_while_an_application_comes_and_goes() {
    const WRITES: usize = 150;
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    let script = "
import sqlite3, sys
for n in range(int(sys.argv[2])):
    database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
    database.execute('INSERT INTO orders(region) VALUES (1)')
    database.close()
";
    let mut application = std::process::Command::new("python3")
        .args(["-c", script, &shop.path().display().to_string(), &WRITES.to_string()])
        .spawn()
        .expect("python3 is installed");
    let mut last = 0;
    let mut session = None;
    let mut ended = false;
    while !ended {
        ended = application.try_wait().expect("a child").is_some();
        let mut open = session.take().unwrap_or_else(|| shop.session());
        let (sink, health) = run(&mut *open, "SELECT count(*) FROM orders", LONG);
        match health {
            Health::Clean => {
                let number = sink.good()[0][0].trim_start_matches("Int(").trim_end_matches(')').to_owned();
                let number: usize = number.parse().expect("a count");
                assert!(number >= last, "{number} after {last}");
                last = number;
                // Each third one is closed, so that the application is sometimes alone.
                session = (!number.is_multiple_of(3)).then_some(open);
            }
            Health::Lost(_) => ended = false,
            Health::Spent => panic!("{}", sink.error()),
        }
    }
    assert!(application.wait().expect("a child").success());
    assert_eq!(last, WRITES + 2);
}

/// An application of its own: SQLite knows which files this process has open.
struct OtherProcess(std::process::Child);

impl OtherProcess {
    /// Has the database open until it is dropped, and has written.
    fn open(shop: &Shop) -> Self {
        const APPLICATION: &str = "import sqlite3, sys\n\
            shop = sqlite3.connect(sys.argv[1])\n\
            shop.execute(\"INSERT INTO orders VALUES (7, 'eu', 1)\")\n\
            shop.commit()\n\
            print('written', flush=True)\n\
            sys.stdin.read()\n";
        let mut command = std::process::Command::new("python3");
        command.args(["-c", APPLICATION]).arg(shop.path());
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut process = command.spawn().expect("python3");
        let mut said = [0; 7];
        process.stdout.as_mut().expect("a pipe").read_exact(&mut said).expect("its word");
        assert_eq!(&said, b"written");
        OtherProcess(process)
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("the application ends").success());
    }
}

const COUNT: &str = "SELECT count(*) FROM orders";

/// As SQLite's documentation says: the application is ended, and an old `-wal` is removed before the backup takes the place.
/// The new application has one order.
fn restore(shop: &Shop, application: OtherProcess) -> OtherProcess {
    drop(application);
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", shop.path().display())).expect("removed");
    }
    let backup = Shop::new();
    backup.write("PRAGMA journal_mode = WAL; DELETE FROM orders");
    let copied = std::process::Command::new("cp").args([backup.path(), shop.path()]).status();
    assert!(copied.expect("cp").success());
    OtherProcess::open(shop)
}

#[test]
fn a_backup_that_is_restored_beside_open_sessions_is_read() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    let query = COUNT;
    let application = OtherProcess::open(&shop);
    let (mut session, mut other) = (shop.session(), shop.session());
    for session in [&mut session, &mut other] {
        assert_eq!(run(&mut **session, query, LONG).0.good(), [["Int(3)"]]);
    }
    let _application = restore(&shop, application);

    let lost = |session: &mut dyn Session| {
        let (_, health) = run(session, query, LONG);
        let said =
            matches!(&health, Health::Lost(error) if error.message().contains("has another shop.db-wal"));
        assert!(said, "{health:?}");
    };
    lost(&mut *session);
    drop(session);
    // SQLite would map the old `-shm` into this session too.
    let error = refusal(&shop.file());
    assert!(error.message().contains("other sessions of the exporter have a shop.db-wal open"), "{error}");
    lost(&mut *other);
    drop(other);
    assert_eq!(run(&mut *shop.session(), query, LONG).0.good(), [["Int(1)"]]);
}

/// SQLite maps the `-shm` into memory: a read of what was cut off is the end of the process.
#[test]
fn a_shm_that_is_cut_costs_its_session_and_not_the_process() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    let _application = OtherProcess::open(&shop);
    let mut session = shop.session();
    assert_eq!(run(&mut *session, COUNT, LONG).0.good(), [["Int(3)"]]);
    let shm = format!("{}-shm", shop.path().display());
    // Not by this process: closing the file would take its sessions' locks.
    let cut = std::process::Command::new("truncate").args(["-s", "0", &shm]).status();
    assert!(cut.expect("truncate").success());
    assert!(matches!(run(&mut *session, COUNT, LONG).1, Health::Lost(_)));
    drop(session);
    assert_eq!(run(&mut *shop.session(), COUNT, LONG).0.good(), [["Int(3)"]]);
}

/// A new session waits for the end of those that have the old `-wal` open, and nobody uses the idle ones.
#[test]
fn a_target_whose_database_is_restored_needs_no_more_than_its_own_sessions() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    let application = OtherProcess::open(&shop);
    let limits = PoolLimits {
        max_connections: 3,
        idle_timeout: Duration::from_secs(600),
        max_lifetime: Duration::from_secs(1800),
    };
    let (scheduler, by) = (Scheduler::start(), || Deadline::within(LONG));
    let pool = Pool::new(Arc::new(shop.file()), &limits, &scheduler, &Disposal::new());
    let count = |lease: &mut Lease| {
        let (sql, mut sink) = (Sql::new(COUNT), Recorder::new());
        let session = lease.session(by()).expect("a session");
        let health = session.run(&mut [job(&sql, LONG, &mut sink)], by());
        (sink, health)
    };
    let mut leases: Vec<Lease> = (0..3).map(|_| pool.lease(by()).expect("a lease")).collect();
    for lease in &mut leases {
        assert_eq!(count(lease).0.good(), [["Int(3)"]]);
    }
    drop(leases);
    let _application = restore(&shop, application);
    let mut lease = pool.lease(by()).expect("a lease");
    assert!(matches!(count(&mut lease).1, Health::Lost(_)));
    assert_eq!(count(&mut lease).0.good(), [["Int(1)"]]);
    assert_eq!(pool.open(), 1);
}

/// As where a container has the file alone mounted: the changes are in a `-wal` elsewhere.
#[test]
fn a_file_whose_wal_is_elsewhere_is_refused_while_an_application_has_it_open() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    let mounted = shop.path().with_file_name("mounted.db");
    std::fs::hard_link(shop.path(), &mounted).expect("a link");
    let mut session = open(&file(&mounted)).expect("nobody has it open");
    assert_eq!(run(&mut *session, COUNT, LONG).0.good(), [["Int(2)"]]);
    let application = OtherProcess::open(&shop);
    let (_, health) = run(&mut *session, COUNT, LONG);
    assert!(matches!(&health, Health::Lost(error) if error.message().contains("opened by")), "{health:?}");
    drop(session);
    let attach = format!("ATTACH '{}' AS other", mounted.display());
    for config in [
        file(&mounted),
        SqliteFile { read_only: false, ..file(&mounted) },
        SqliteFile { session_sql: vec![attach], ..Shop::new().file() },
    ] {
        let error = refusal(&config).to_string();
        assert!(error.contains("has it open, and its mounted.db-wal is not beside it"), "{error}");
        assert!(error.ends_with("a hard link of the file is no better"), "{error}");
        assert!(!mounted.with_file_name("mounted.db-wal").exists());
    }
    drop(application);
    let mut session = open(&file(&mounted)).expect("all is in the file again");
    assert_eq!(run(&mut *session, COUNT, LONG).0.good(), [["Int(3)"]]);
}

/// SQLite has the `-wal` beside the file that the link leads to.
#[test]
fn a_database_that_a_session_of_its_own_has_open_is_attached_by_a_link() {
    let (shop, other) = (Shop::new(), Shop::new());
    other.write("PRAGMA journal_mode = WAL");
    let _application = OtherProcess::open(&other);
    let _own = other.session();
    let link = shop.path().with_file_name("link.db");
    std::os::unix::fs::symlink(other.path(), &link).expect("a link");
    let attach = format!("ATTACH '{}' AS other", link.display());
    let mut session = open(&SqliteFile { session_sql: vec![attach], ..shop.file() }).expect("a session");
    for _ in 0..2 {
        assert_eq!(run(&mut *session, "SELECT count(*) FROM other.orders", LONG).0.good(), [["Int(3)"]]);
    }
}

#[test]
fn an_attached_database_that_is_restored_is_read() {
    let (shop, other) = (Shop::new(), Shop::new());
    other.write("PRAGMA journal_mode = WAL");
    let attach = format!("ATTACH '{}' AS other", other.path().display());
    let config = SqliteFile { session_sql: vec![attach], ..shop.file() };
    let application = OtherProcess::open(&other);
    let mut session = open(&config).expect("a session");
    assert_eq!(run(&mut *session, "SELECT count(*) FROM other.orders", LONG).0.good(), [["Int(3)"]]);
    drop(application);
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", other.path().display())).expect("removed");
    }
    let (_, health) = run(&mut *session, "SELECT count(*) FROM other.orders", LONG);
    assert!(matches!(&health, Health::Lost(error) if error.message().contains("-wal")), "{health:?}");
}

/// SQLite keeps the `-wal` beside the file that a link leads to.
#[test]
fn a_link_to_a_database_is_attached_while_another_session_reads_it() {
    let (shop, other) = (Shop::new(), Shop::new());
    other.write("PRAGMA journal_mode = WAL");
    let link = shop.folder.path().join("link.db");
    std::os::unix::fs::symlink(other.path(), &link).expect("a link");
    let _application = OtherProcess::open(&other);
    let _reader = other.session();
    let attach = format!("ATTACH '{}' AS other", link.display());
    let config = SqliteFile { session_sql: vec![attach], ..shop.file() };
    let mut session = open(&config).expect("a session");
    assert_eq!(run(&mut *session, "SELECT count(*) FROM other.orders", LONG).0.good(), [["Int(3)"]]);
}

/// Each last one that may write removes the `-wal`, also while the next one opens it.
#[test]
fn a_session_that_opens_a_file_while_others_close_it_is_not_lost() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL");
    let config = SqliteFile { read_only: false, ..shop.file() };
    let script = "
import sqlite3, sys
for _ in range(1500):
    shop = sqlite3.connect(sys.argv[1], timeout=10)
    shop.execute('SELECT count(*) FROM orders').fetchone()
    shop.close()
";
    let mut application = std::process::Command::new("python3")
        .args(["-c", script, &shop.path().display().to_string()])
        .spawn()
        .expect("python3 is installed");
    while application.try_wait().expect("a child").is_none() {
        let mut session = open(&config).expect("a session");
        assert_eq!(run(&mut *session, "SELECT count(*) FROM orders", LONG).0.good(), [["Int(2)"]]);
    }
    assert!(application.wait().expect("a child").success());
}
