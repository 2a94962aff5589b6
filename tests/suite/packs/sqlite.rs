//! The SQLite packs on files of every kind: what a file lacks is skipped, and nothing fails.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;

use super::{failed, scrape};
use crate::checker::Page;
use crate::process::folder;

/// A page of all SQLite packs on a file that `script` makes, while `script`'s session has it open or after it.
fn page_of(path: &Path, script: &str, stays_open: bool) -> Page {
    let session = Connection::open(path).expect("a file can be made");
    session.execute_batch(script).expect("SQLite writes");
    let session = stays_open.then_some(session);
    let page = scrape(&format!("{{driver: sqlite, database: {}}}", path.display()), "sqlite/*");
    drop(session);
    page
}

fn families(page: &Page) -> BTreeSet<&str> {
    page.types.keys().map(String::as_str).filter(|name| name.starts_with("sqlite_")).collect()
}

/// The queries that a condition left out.
fn skipped(page: &Page) -> BTreeSet<&str> {
    let rows = page.series("sql_exporter_query_skipped").into_iter();
    rows.filter(|row| row.labels["reason"] == "when").map(|row| row.labels["query"].as_str()).collect()
}

const RICH: &str = "
    PRAGMA foreign_keys = OFF;
    PRAGMA auto_vacuum = incremental;
    PRAGMA application_id = 4711;
    CREATE TABLE customers (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT) STRICT;
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers (id), note TEXT);
    CREATE TABLE words (word TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE INDEX orders_by_customer ON orders (customer);
    CREATE VIEW names AS SELECT name FROM customers;
    CREATE VIRTUAL TABLE search USING fts5 (note);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
    INSERT INTO orders SELECT i, i % 10, 'note ' || i FROM n;
    INSERT INTO customers (name) VALUES ('a'), ('b');
    DELETE FROM orders WHERE id > 1000;
    ANALYZE;
";

#[test]
fn a_rich_file_has_all_families() {
    let folder = folder();
    let page = page_of(&folder.path().join("rich.db"), RICH, false);
    assert_eq!(failed(&page), [""; 0]);
    assert_eq!(skipped(&page), BTreeSet::new());
    assert!(families(&page).len() >= 30, "{:?}", families(&page));
    assert_eq!(page.value("sqlite_application_id", &[]), Some(4711.0));
    assert_eq!(page.value("sqlite_auto_vacuum", &[("sqlite_auto_vacuum", "incremental")]), Some(1.0));
    assert!(page.value("sqlite_free_pages", &[]).expect("pages") > 0.0);
    assert_eq!(page.value("sqlite_table_rows", &[("table", "orders")]), Some(1000.0));
    assert_eq!(page.value("sqlite_index_rows_per_key", &[("index", "orders_by_customer")]), Some(100.0));
    assert_eq!(page.value("sqlite_table_foreign_keys", &[("table", "orders")]), Some(1.0));
    assert_eq!(page.value("sqlite_autoincrement_last_value", &[("table", "customers")]), Some(2.0));
    assert_eq!(page.value("sqlite_strict_tables", &[]), Some(1.0));
    assert_eq!(page.value("sqlite_without_rowid_tables", &[]), Some(1.0));
    assert_eq!(page.value("sqlite_tables", &[("kind", "virtual")]), Some(1.0));
    let index = [("name", "orders_by_customer"), ("type", "index")];
    let ratio = page.value("sqlite_object_fragmentation_ratio", &index).expect("a ratio");
    assert!((0.0..=1.0).contains(&ratio), "{ratio}");
}

#[test]
fn what_a_file_lacks_is_skipped_and_nothing_fails() {
    let folder = folder();
    let of_analyze = ["sqlite_statistics", "sqlite_statistics_indexes", "sqlite_statistics_missing"];
    let expected: BTreeSet<&str> = of_analyze.into_iter().chain(["sqlite_sequences"]).collect();
    for (name, script, stays_open, least) in [
        ("empty.db", "", false, 13),
        ("plain.db", "CREATE TABLE a (x INTEGER)", false, 24),
        ("utf16.db", "PRAGMA encoding = 'UTF-16le'; CREATE TABLE a (x TEXT)", false, 24),
        ("wal.db", "PRAGMA journal_mode = wal; CREATE TABLE a (x INTEGER)", true, 24),
    ] {
        let page = page_of(&folder.path().join(name), script, stays_open);
        assert_eq!(failed(&page), [""; 0], "{name}");
        assert_eq!(skipped(&page), expected, "{name}");
        assert!(families(&page).len() >= least, "{name}: {:?}", families(&page));
        let wal = page.value("sqlite_journal_mode", &[("sqlite_journal_mode", "wal")]);
        assert_eq!(wal, Some(f64::from(stays_open)), "{name}");
    }
}

#[test]
fn the_checks_are_off_until_they_are_turned_on_and_find_rows_that_lead_nowhere() {
    let folder = folder();
    let path = folder.path().join("broken.db");
    let script = "PRAGMA foreign_keys = OFF; CREATE TABLE a (x INTEGER PRIMARY KEY);
        CREATE TABLE b (x INTEGER REFERENCES a (x)); INSERT INTO b VALUES (1)";
    let page = page_of(&path, script, false);
    assert_eq!(page.value("sqlite_foreign_key_violations", &[]), None);
    let config = format!(
        "databases: {{it: {{driver: sqlite, database: {}}}}}\ninclude: ['builtin:sqlite/checks']\n\
         overrides: {{'sqlite_check_*': {{enabled: true}}}}\n",
        path.display()
    );
    let output = crate::exporter::Setup::new(&config).once();
    assert_eq!(output.code(), 0, "{}", output.errors());
    let page = crate::judges::judge(output.text());
    assert_eq!(page.value("sqlite_foreign_key_violations", &[]), Some(1.0));
    assert_eq!(page.value("sqlite_check_problems", &[]), Some(0.0));
}
