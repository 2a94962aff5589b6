//! The servers that `tests/run` started, a fresh database on them per caller, and servers of a test's own.

pub(crate) mod own;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use mysql::prelude::Queryable;

use crate::process::variable;

/// The word that no output may hold: every test password begins with it.
pub(crate) const CANARY: &str = "c4nary-";

/// The folder of test certificates: `ca.pem`, `server.pem`, `other.pem`, `client.pem`, `stranger-ca.pem`, `*.key`.
pub(crate) fn tls_file(name: &str) -> PathBuf {
    PathBuf::from(variable("TEST_TLS")).join(name)
}

/// Gives each database a name of its own, also when modules or tests ask twice.
fn unique(module: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{module}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn port(name: &str) -> u16 {
    variable(name).parse().unwrap_or_else(|_| panic!("{name} is not a port"))
}

/// A database on a PostgreSQL server.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pub(crate) port: u16,
    pub(crate) password: String,
    pub(crate) database: String,
}

impl Postgres {
    /// A fresh database on the shared server.
    pub(crate) fn fresh(module: &str) -> Self {
        let admin = Self::shared("postgres");
        let database = unique(module);
        admin.run(&format!("CREATE DATABASE {database} TEMPLATE template0"));
        Postgres { database, ..admin }
    }

    /// An existing database on the shared server.
    pub(crate) fn shared(database: &str) -> Self {
        Postgres {
            port: port("TEST_POSTGRES_PORT"),
            password: variable("TEST_POSTGRES_PASSWORD"),
            database: database.to_owned(),
        }
    }

    /// The same database through PgBouncer, which pools by transaction; database `pgbouncer` is its console.
    pub(crate) fn through_pgbouncer(&self) -> Self {
        Postgres { port: port("TEST_PGBOUNCER_PORT"), ..self.clone() }
    }

    /// The `postgres` crate's client, logged in as superuser.
    pub(crate) fn client(&self) -> postgres::Client {
        self.try_client().unwrap_or_else(|error| panic!("PostgreSQL on port {}: {error}", self.port))
    }

    /// The same, where the server may be down.
    pub(crate) fn try_client(&self) -> Result<postgres::Client, postgres::Error> {
        postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user("postgres")
            .password(&self.password)
            .dbname(&self.database)
            .connect(postgres::NoTls)
    }

    /// Runs statements.
    pub(crate) fn run(&self, sql: &str) {
        self.client().batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The value of one `databases:` entry, in YAML's flow style: `{driver: postgres, host: …}`.
    pub(crate) fn entry(&self) -> String {
        self.entry_with("")
    }

    /// The same with more keys: `max_connections: 1, tls: {mode: require}`.
    pub(crate) fn entry_with(&self, more: &str) -> String {
        let Postgres { port, password, database } = self;
        format!(
            "{{driver: postgres, host: 127.0.0.1, port: {port}, database: {database}, username: postgres, \
             password: '{password}', {more}}}"
        )
    }
}

/// A database on a MariaDB server.
#[derive(Debug, Clone)]
pub(crate) struct MariaDb {
    pub(crate) port: u16,
    pub(crate) password: String,
    pub(crate) database: String,
}

impl MariaDb {
    /// A fresh database on the shared server.
    pub(crate) fn fresh(module: &str) -> Self {
        let admin = Self::shared("mysql");
        let database = unique(module);
        admin.run(&format!("CREATE DATABASE {database}"));
        MariaDb { database, ..admin }
    }

    /// An existing database on the shared server.
    pub(crate) fn shared(database: &str) -> Self {
        MariaDb {
            port: port("TEST_MARIADB_PORT"),
            password: variable("TEST_MARIADB_PASSWORD"),
            database: database.to_owned(),
        }
    }

    /// The `mysql` crate's connection, logged in as root.
    pub(crate) fn client(&self) -> mysql::Conn {
        self.try_client().unwrap_or_else(|error| panic!("MariaDB on port {}: {error}", self.port))
    }

    /// The same, where the server may be down.
    pub(crate) fn try_client(&self) -> mysql::Result<mysql::Conn> {
        let options = mysql::OptsBuilder::new()
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(self.port)
            .user(Some("root"))
            .pass(Some(&self.password))
            .db_name(Some(&self.database))
            .prefer_socket(false);
        mysql::Conn::new(options)
    }

    /// Runs statements, separated by `;` at a line's end.
    pub(crate) fn run(&self, sql: &str) {
        let mut client = self.client();
        for statement in sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
            client.query_drop(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    /// The value of one `databases:` entry, in YAML's flow style.
    pub(crate) fn entry(&self) -> String {
        self.entry_with("")
    }

    /// The same with more keys.
    pub(crate) fn entry_with(&self, more: &str) -> String {
        let MariaDb { port, password, database } = self;
        format!(
            "{{driver: mysql, host: 127.0.0.1, port: {port}, database: {database}, username: root, \
             password: '{password}', {more}}}"
        )
    }
}
