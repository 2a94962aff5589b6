//! The targets that stay well: one of each database, with a value that the soak moves on before each round.

use std::path::Path;

use mysql::prelude::Queryable;
use rusqlite::Connection;

use crate::servers::{MariaDb, Postgres};

/// Their names.
pub(crate) const TARGETS: [&str; 3] = ["lite", "pg", "maria"];
/// Rows of the table `bulk`, which the wires cut.
pub(crate) const BULK: usize = 200;

/// Databases on the shared servers and a file, each with a table `tick` of one value.
pub(crate) struct Steady {
    pub(crate) postgres: Postgres,
    pub(crate) mariadb: MariaDb,
    pg: postgres::Client,
    maria: mysql::Conn,
    lite: Option<Connection>,
    tick: u64,
}

impl Steady {
    /// Makes the databases on the servers; `add_file` follows when there is a folder.
    pub(crate) fn new() -> Self {
        let (postgres, mariadb) = (Postgres::fresh("soak"), MariaDb::fresh("soak"));
        let (mut pg, mut maria) = (postgres.client(), mariadb.client());
        let text = "a text of some length, so that answers are cut in the middle of a row";
        pg.batch_execute(&format!(
            "CREATE TABLE tick (value bigint); INSERT INTO tick VALUES (0); \
             CREATE TABLE bulk AS SELECT n::text || ' {text}' AS label, n AS value FROM generate_series(1, {BULK}) AS n"
        ))
        .expect("tables");
        for sql in [
            "CREATE TABLE tick (value bigint)".to_owned(),
            "INSERT INTO tick VALUES (0)".to_owned(),
            format!(
                "CREATE TABLE bulk AS SELECT concat(seq, ' {text}') AS label, seq AS value FROM seq_1_to_{BULK}"
            ),
        ] {
            maria.query_drop(sql).expect("tables");
        }
        Steady { postgres, mariadb, pg, maria, lite: None, tick: 0 }
    }

    pub(crate) fn add_file(&mut self, path: &Path) {
        let lite = Connection::open(path).expect("a database");
        lite.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE tick (value); INSERT INTO tick VALUES (0)",
        )
        .expect("a table");
        self.lite = Some(lite);
    }

    /// Moves the value on, everywhere, and gives it.
    pub(crate) fn advance(&mut self) -> u64 {
        self.tick += 1;
        let sql = format!("UPDATE tick SET value = {}", self.tick);
        self.pg.batch_execute(&sql).expect("an update");
        self.maria.query_drop(&sql).expect("an update");
        self.lite.iter().for_each(|lite| lite.execute_batch(&sql).expect("an update"));
        self.tick
    }

    /// The exporter's sessions in both databases, those through the wires too.
    pub(crate) fn sessions(&mut self) -> usize {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let pg: i64 = self.pg.query_one(count, &[]).expect("a count").get(0);
        let count = "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND id <> connection_id()";
        let maria: usize = self.maria.query_first(count).expect("a count").unwrap_or(0);
        usize::try_from(pg).expect("small") + maria
    }
}
