//! The MySQL driver on real MariaDB servers.

mod entering;
mod faults;
mod galera;
mod groups;
mod guard;
mod hostile;
mod limits;
mod settings;
mod tls;
mod types;
mod zones;

use std::time::Duration;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::connection::tls::{TlsConfig, TlsMode};
use sql_exporter::driver::connection::{ConnectionConfig, HostPort};
use sql_exporter::driver::{Session, mysql};
use sql_exporter::error::Error;
use sql_exporter::secret::Secret;

use crate::servers::MariaDb;

pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A login as root, in plain text.
pub(crate) fn login(server: &MariaDb) -> ConnectionConfig {
    ConnectionConfig {
        hosts: vec![HostPort { host: "127.0.0.1".to_owned(), port: server.port }],
        socket: None,
        database: Some(server.database.clone()),
        username: Some("root".to_owned()),
        password: PasswordSource::Given(Secret::new(server.password.clone())),
        tls: TlsConfig { mode: TlsMode::Disable, ..TlsConfig::default() },
        params: Vec::new(),
        read_only: true,
        session_sql: Vec::new(),
        connect_timeout: Duration::from_secs(10),
    }
}

pub(crate) fn open(login: ConnectionConfig) -> Result<Box<dyn Session>, Error> {
    mysql::endpoint(login).connect(Deadline::within(LONG))
}

pub(crate) fn session(server: &MariaDb) -> Box<dyn Session> {
    open(login(server)).expect("a session")
}
