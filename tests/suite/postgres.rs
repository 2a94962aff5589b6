//! The PostgreSQL driver on real servers: what a session does, apart from configuration and scrapes.

mod certificates;
mod hostile;
mod login;
mod places;
mod pooler;
mod residue;
mod run;
mod safety;
mod server_role;
mod settings;
mod tls;
mod trouble;
mod values;

use std::sync::Arc;
use std::time::Duration;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::connection::tls::{TlsConfig, TlsMode};
use sql_exporter::driver::connection::{ConnectionConfig, HostPort};
use sql_exporter::driver::{Endpoint, Health, Session, postgres};
use sql_exporter::error::{Error, Result};
use sql_exporter::secret::Secret;

use crate::servers::Postgres;

/// Long enough for a machine with one busy core.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// How the superuser logs in, by address and without TLS unless the test says otherwise.
pub(crate) fn login(server: &Postgres) -> ConnectionConfig {
    ConnectionConfig {
        hosts: vec![HostPort { host: "127.0.0.1".to_owned(), port: server.port }],
        socket: None,
        database: Some(server.database.clone()),
        username: Some("postgres".to_owned()),
        password: PasswordSource::Given(Secret::new(server.password.clone())),
        tls: TlsConfig { mode: TlsMode::Prefer, ..TlsConfig::default() },
        params: Vec::new(),
        read_only: true,
        session_sql: Vec::new(),
        connect_timeout: Duration::from_secs(10),
    }
}

pub(crate) fn endpoint(login: ConnectionConfig) -> Arc<dyn Endpoint> {
    postgres::endpoint(login).expect("known parameters")
}

pub(crate) fn open(login: ConnectionConfig) -> Result<Box<dyn Session>> {
    endpoint(login).connect(Deadline::within(LONG))
}

pub(crate) fn session(server: &Postgres) -> Box<dyn Session> {
    open(login(server)).unwrap_or_else(|error| panic!("{error}"))
}

/// The error of a login that must not succeed.
pub(crate) fn refused(login: ConnectionConfig) -> Error {
    match open(login) {
        Ok(_) => panic!("the login succeeded"),
        Err(error) => error,
    }
}

#[track_caller]
pub(crate) fn assert_clean(health: &Health) {
    assert!(matches!(health, Health::Clean), "{health:?}");
}

/// Runs one statement that must succeed on a session that stays good, and gives back its rows.
pub(crate) fn rows(session: &mut dyn Session, sql: &str) -> Vec<Vec<String>> {
    let (recorder, health) = crate::recorder::run(session, sql, LONG);
    assert_clean(&health);
    recorder.good().to_vec()
}

/// The same for one row of one column.
pub(crate) fn value(session: &mut dyn Session, sql: &str) -> String {
    let rows = rows(session, sql);
    assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}: {rows:?}");
    rows[0][0].clone()
}
