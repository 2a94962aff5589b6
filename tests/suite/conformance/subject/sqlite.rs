//! SQLite: a file, so that its server is the folder it lies in.

use std::path::PathBuf;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::conformance::bench::Bench;

use super::Subject;

pub(crate) struct Sqlite {
    folder: tempfile::TempDir,
}

impl Sqlite {
    fn file(&self) -> PathBuf {
        self.folder.path().join("conformance.db")
    }

    fn away(&self) -> PathBuf {
        self.folder.path().join("away.db")
    }

    fn connection(&self) -> Connection {
        Connection::open(self.file()).expect("a database")
    }
}

impl Subject for Sqlite {
    const SHOP: &'static str = "
        CREATE TABLE t (a INTEGER); CREATE VIEW v AS SELECT 1 AS a;
        CREATE TRIGGER writes INSTEAD OF INSERT ON v BEGIN INSERT INTO t VALUES (1); END";
    const STATE: &'static str = "SELECT (SELECT count(*) FROM t) || ' ' || (SELECT count(*) FROM sqlite_schema) \
         || ' ' || (SELECT user_version FROM pragma_user_version)";
    const WRITING: &'static str =
        "WITH x AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM x RETURNING a AS value";
    const ENDLESS: &'static str =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS value FROM n";

    fn fresh() -> Self {
        let sqlite = Sqlite { folder: crate::process::folder() };
        sqlite.run("PRAGMA user_version = 0");
        std::fs::OpenOptions::new().create(true).append(true).open(sqlite.file()).expect("a file");
        sqlite
    }

    fn own(options: &[&str]) -> Self {
        assert!(options.is_empty(), "a file has no server options");
        Self::fresh()
    }

    fn entry(&self, changes: &[(&str, &str)]) -> String {
        let file = self.file().display().to_string();
        super::mapping(&[("driver", "sqlite"), ("database", &file)], changes)
    }

    fn run(&self, sql: &str) {
        self.connection().execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn ask(&self, sql: &str) -> String {
        let text = |row: &rusqlite::Row<'_>| {
            Ok(match row.get_ref(0)? {
                ValueRef::Null => "NULL".to_owned(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            })
        };
        self.connection().query_row(sql, [], text).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn is_running(&self, bench: &Bench) -> bool {
        bench.sessions("busy") + bench.sessions("late") > 0.0
    }

    /// Puts a copy in the file's place: what the idle session has open is not there any more.
    fn end_idle_sessions(&self) {
        std::fs::copy(self.file(), self.away()).expect("a copy");
        std::fs::rename(self.away(), self.file()).expect("the copy in its place");
    }

    fn kill(&mut self) {
        std::fs::rename(self.file(), self.away()).expect("the file leaves");
    }

    fn restart(&mut self) {
        std::fs::rename(self.away(), self.file()).expect("the file returns");
    }
}
