//! What a session sees of its file: missing, replaced, broken, attached, immutable, changed.

use std::sync::Arc;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::sqlite::File;
use sql_exporter::driver::{Endpoint, Health};
use sql_exporter::error::Reason;

use crate::recorder::run;

use super::{LONG, Shop, file, open, refusal};

#[test]
fn session_sql_may_attach_another_file_and_reads_it_only() {
    let (shop, other) = (Shop::new(), Shop::new());
    let attach = format!("ATTACH '{}' AS other", other.path().display());
    let mut session = open(&File { session_sql: vec![attach], ..shop.file() }).expect("a session");
    assert_eq!(run(&mut *session, "SELECT count(*) FROM other.orders", LONG).0.good(), [["Int(2)"]]);
    let (sink, _) = run(&mut *session, "WITH x AS (SELECT 1) DELETE FROM other.orders", LONG);
    assert_eq!(sink.reason(), Reason::ReadOnly);

    let broken = refusal(&File { session_sql: vec!["SELEC 1".into()], ..shop.file() });
    assert_eq!(broken.to_string(), "session_sql failed: syntax error");
}

#[test]
fn a_missing_file_is_an_error_with_its_path_and_not_a_new_database() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.db");
    for read_only in [true, false] {
        let error = refusal(&File { read_only, ..file(&path) });
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
    assert!(error.to_string().ends_with("file is not a database [SQLITE_NOTADB]"), "{error}");
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
fn an_immutable_file_is_read_without_its_wal_and_without_making_files() {
    let shop = Shop::new();
    shop.write(
        "PRAGMA journal_mode = WAL; INSERT INTO orders VALUES (3, 'x', 1); PRAGMA wal_checkpoint(TRUNCATE)",
    );
    let strange = shop.folder.path().join("50% ?a#b.db");
    std::fs::copy(shop.path(), &strange).expect("a copy");
    let mut session = open(&File { immutable: true, ..file(&strange) }).expect("a session");
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
    assert_eq!(endpoint.shown(), format!("sqlite://{}", shop.path().display()));
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
            (facts.flavor.as_str(), facts.role.as_str(), facts.tls.word()),
            ("sqlite", "primary", "local")
        );
        assert!(facts.version.starts_with("3."), "{}", facts.version);
    }
}

#[test]
fn a_wal_database_whose_wal_cannot_be_opened_names_the_way_out() {
    let shop = Shop::new();
    shop.write("PRAGMA journal_mode = WAL; PRAGMA wal_checkpoint(TRUNCATE)");
    // As on a read-only mount, also for root: the shared-memory file can be neither opened nor made.
    let shared_memory = shop.folder.path().join("shop.db-shm");
    std::os::unix::fs::symlink("nowhere/at/all", shared_memory).expect("a link in its place");
    let error = refusal(&shop.file());
    assert_eq!(error.reason(), Reason::Connect);
    assert!(error.to_string().contains("on a read-only mount set params: {immutable: true}"), "{error}");
    let mut session = open(&File { immutable: true, ..shop.file() }).expect("a session");
    assert_eq!(run(&mut *session, "SELECT count(*) FROM orders", LONG).0.good(), [["Int(2)"]]);
}
