//! MariaDB, for the MySQL driver.

use mysql::prelude::Queryable;

use crate::conformance::bench::Bench;
use crate::process::wait_for;
use crate::servers;
use crate::servers::own::OwnMariaDb;

use super::Subject;

pub(crate) struct MariaDb {
    database: servers::MariaDb,
    own: Option<OwnMariaDb>,
}

/// Connections to this database other than the one that asks.
const OTHERS: &str = "FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";

impl Subject for MariaDb {
    const CAST: &'static str = "CAST(value AS DOUBLE)";
    const SHOP: &'static str = "\
        CREATE TABLE t (a INT);
        CREATE TABLE old (a INT) ENGINE=MyISAM;
        CREATE SEQUENCE s;
        CREATE FUNCTION writes() RETURNS INT BEGIN INSERT INTO t VALUES (1); RETURN 1; END;
        CREATE FUNCTION writes_old() RETURNS INT BEGIN INSERT INTO old VALUES (1); RETURN 1; END;
        CREATE FUNCTION unlocks() RETURNS INT BEGIN SET SESSION tx_read_only = 0; SET SESSION max_statement_time = 0; \
            RETURN 1; END;
        CREATE FUNCTION unlocks_and_writes() RETURNS INT BEGIN SET SESSION tx_read_only = 0; \
            INSERT INTO t VALUES (1); RETURN 1; END;
        CREATE FUNCTION unlocks_then(n INT) RETURNS INT BEGIN SET SESSION tx_read_only = 0; RETURN n; END;
        CREATE PROCEDURE ends() BEGIN COMMIT; INSERT INTO t VALUES (1); END";
    const STATE: &'static str = "SELECT CONCAT_WS(' ', (SELECT COUNT(*) FROM t), (SELECT COUNT(*) FROM old), \
         (SELECT next_not_cached_value FROM s), \
         (SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()), \
         (SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = DATABASE()))";
    const WRITING: &'static str = "SELECT writes() AS value";
    const ENDLESS: &'static str = "SELECT SLEEP(60) AS value";

    fn fresh() -> Self {
        MariaDb { database: servers::MariaDb::fresh("conformance"), own: None }
    }

    fn own(options: &[&str]) -> Self {
        let own = OwnMariaDb::start(options);
        MariaDb { database: own.access().clone(), own: Some(own) }
    }

    fn entry(&self, changes: &[(&str, &str)]) -> String {
        let servers::MariaDb { port, password, database } = &self.database;
        let (port, password) = (port.to_string(), format!("'{password}'"));
        let own = [
            ("driver", "mysql"),
            ("host", "127.0.0.1"),
            ("port", &port),
            ("database", database),
            ("username", "root"),
            ("password", &password),
        ];
        super::mapping(&own, changes)
    }

    fn run(&self, sql: &str) {
        self.database.run(&format!("SET NAMES utf8mb4;\nSET sql_mode = '';\n{sql}"));
    }

    fn ask(&self, sql: &str) -> String {
        let answer: Option<String> =
            self.database.client().query_first(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        answer.unwrap_or_else(|| panic!("{sql}: no value"))
    }

    fn is_running(&self, _bench: &Bench) -> bool {
        self.ask(&format!("SELECT COUNT(*) {OTHERS} AND command <> 'Sleep'")) != "0"
    }

    fn end_idle_sessions(&self) {
        let mut client = self.database.client();
        let found: Vec<u64> = client.query(format!("SELECT id {OTHERS}")).expect("the list");
        assert!(!found.is_empty(), "no session to end");
        // One that has ended by itself meanwhile is an error that does not matter.
        found.iter().for_each(|id| drop(client.query_drop(format!("KILL {id}"))));
        wait_for("the connections to end", || {
            (self.ask(&format!("SELECT COUNT(*) {OTHERS}")) == "1").then_some(())
        });
    }

    fn kill(&mut self) {
        self.own.as_mut().expect("a server of its own").kill();
    }

    fn restart(&mut self) {
        self.own.as_mut().expect("a server of its own").restart();
    }
}
