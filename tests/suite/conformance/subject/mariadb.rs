//! MariaDB, for the MySQL driver.

use std::sync::LazyLock;

use mysql::prelude::Queryable;
use sql_exporter::error::Reason;

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

/// What MariaDB has as a virtual table.
const SEQUENCES: &str = "SET SESSION cte_max_recursion_depth = 100000;
    CREATE TABLE seq_1_to_100000 (seq INT PRIMARY KEY) AS
        WITH RECURSIVE n (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < 100000) SELECT seq FROM n;
    CREATE VIEW seq_1_to_3 AS SELECT seq FROM seq_1_to_100000 WHERE seq <= 3;
    CREATE VIEW seq_1_to_1000000 AS
        SELECT a.seq FROM seq_1_to_100000 a JOIN seq_1_to_100000 b ON b.seq <= 10";

/// True where `tests/versions/run` has the driver's other server in MariaDB's place.
fn is_mysql() -> bool {
    static IS: LazyLock<bool> = LazyLock::new(|| {
        let version: Option<String> =
            servers::MariaDb::shared("mysql").client().query_first("SELECT VERSION()").expect("asked");
        !version.expect("a version").contains("MariaDB")
    });
    *IS
}

/// A statement of the database's owner as MySQL has it: no sequences, other names of settings.
fn translated(sql: &str) -> String {
    const NAMES: [(&str, &str); 4] = [
        ("CREATE SEQUENCE s;\n", ""),
        ("(SELECT next_not_cached_value FROM s), ", ""),
        ("tx_read_only", "transaction_read_only"),
        ("max_statement_time", "max_execution_time"),
    ];
    let names = if is_mysql() { &NAMES[..] } else { &[] };
    names.iter().fold(sql.to_owned(), |sql, (theirs, its)| sql.replace(theirs, its))
}

impl Subject for MariaDb {
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
        let subject = MariaDb { database: servers::MariaDb::fresh("conformance"), own: None };
        if is_mysql() {
            subject.database.run(SEQUENCES);
        }
        subject
    }

    fn own(options: &[&str]) -> Self {
        let option = |option: &&str| match *option {
            "--skip-ssl" if is_mysql() => "--tls-version=".to_owned(),
            option => option.to_owned(),
        };
        let options: Vec<String> = options.iter().map(option).collect();
        let own = OwnMariaDb::start(&options.iter().map(String::as_str).collect::<Vec<_>>());
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

    fn lacks(&self, sql: &str) -> bool {
        // An UUID is a type since MariaDB 10.7.
        const NOT_OF_MYSQL: [&str; 7] =
            ["UUID", "INET6", "JSON", "NEXTVAL", "SETVAL", "EXTENDED", "LENGTH(ENCRYPT"];
        let lacks = |words: &[&str]| words.iter().any(|word| sql.contains(word));
        match sql {
            _ if is_mysql() => lacks(&NOT_OF_MYSQL),
            "UUID" => self.ask("SELECT VERSION()").starts_with("10.5."),
            _ => false,
        }
    }

    fn refusal(&self, sql: &str, reason: Reason) -> Reason {
        // Before DELETE and UPDATE it is syntax of MySQL only.
        if is_mysql() && sql.starts_with("WITH ") { Reason::ReadOnly } else { reason }
    }

    fn run(&self, sql: &str) {
        self.database.run(&format!("SET NAMES utf8mb4;\nSET sql_mode = '';\n{}", translated(sql)));
    }

    fn ask(&self, sql: &str) -> String {
        let sql = &translated(sql);
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
