//! PostgreSQL.

use crate::conformance::bench::Bench;
use crate::process::wait_for;
use crate::servers;
use crate::servers::own::OwnPostgres;

use super::Subject;

pub(crate) struct Postgres {
    database: servers::Postgres,
    own: Option<OwnPostgres>,
}

/// Sessions in this database other than the one that asks.
const OTHERS: &str = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

impl Subject for Postgres {
    const SHOP: &'static str = "
        CREATE TABLE t (a int); CREATE SEQUENCE s;
        CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING a';
        CREATE FUNCTION unlocks() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
            PERFORM set_config('statement_timeout', '0', false);
            PERFORM set_config('default_transaction_read_only', 'off', false);
            RETURN 1;
        END $$;
        CREATE FUNCTION unlocks_and_writes() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
            PERFORM set_config('transaction_read_only', 'off', true);
            INSERT INTO t VALUES (1);
            RETURN 1;
        END $$;
        CREATE PROCEDURE ends() LANGUAGE plpgsql AS $$ BEGIN COMMIT; INSERT INTO t VALUES (1); END $$";
    const STATE: &'static str = "SELECT concat_ws(' ', (SELECT count(*) FROM t), (SELECT is_called FROM s), \
         (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_largeobject))";
    const WRITING: &'static str = "SELECT writes() AS value";
    const ENDLESS: &'static str = "SELECT 1 AS value FROM pg_sleep(60)";

    fn fresh() -> Self {
        Postgres { database: servers::Postgres::fresh("conformance"), own: None }
    }

    fn own(options: &[&str]) -> Self {
        let own = OwnPostgres::start(options);
        Postgres { database: own.access().clone(), own: Some(own) }
    }

    fn entry(&self, changes: &[(&str, &str)]) -> String {
        let servers::Postgres { port, password, database } = &self.database;
        let (port, password) = (port.to_string(), format!("'{password}'"));
        let own = [
            ("driver", "postgres"),
            ("host", "127.0.0.1"),
            ("port", &port),
            ("database", database),
            ("username", "postgres"),
            ("password", &password),
        ];
        super::mapping(&own, changes)
    }

    fn lacks(&self, sql: &str) -> bool {
        const NEWER: [(&str, u32); 3] = [("xid8", 13), ("multirange", 14), ("'-Infinity'::numeric", 14)];
        let since = NEWER.iter().find(|(part, _)| sql.contains(part)).map(|(_, since)| *since);
        since.is_some_and(|since| {
            let version: u32 = self.ask("SHOW server_version_num").parse().expect("a number");
            version / 10_000 < since
        })
    }

    fn run(&self, sql: &str) {
        self.database.run(sql);
    }

    fn ask(&self, sql: &str) -> String {
        let answer =
            self.database.client().simple_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let value = answer.iter().find_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        value.unwrap_or_else(|| panic!("{sql}: no value")).to_owned()
    }

    fn is_running(&self, _bench: &Bench) -> bool {
        self.ask(&format!("SELECT count(*) {OTHERS} AND state = 'active'")) != "0"
    }

    fn end_idle_sessions(&self) {
        let ended = self.ask(&format!("SELECT count(pg_terminate_backend(pid)) {OTHERS}"));
        assert_ne!(ended, "0", "no session to end");
        wait_for("the sessions to end", || {
            (self.ask(&format!("SELECT count(*) {OTHERS}")) == "0").then_some(())
        });
    }

    fn kill(&mut self) {
        self.own.as_mut().expect("a server of its own").kill();
    }

    fn restart(&mut self) {
        self.own.as_mut().expect("a server of its own").restart();
    }
}
