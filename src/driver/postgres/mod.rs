//! PostgreSQL, and PgBouncer's console.
//!
//! Owns which host is taken and what the driver's own parameters mean. Below it: `login` (connect, TLS, password), `session`
//! (set-up, what a target asks of it), `batch` (jobs), `request` and `response` (a query and its answer), `connection`
//! (messages), `result_shape` and `values` (rows and types). Another way to send a query is one more
//! [`QueryProtocol`]; another parameter is one line in `PgOptions::set`.

pub mod advice;
mod batch;
mod binary;
mod cancel;
mod connection;
pub mod datetime;
mod errors;
mod guard_statement;
mod login;
mod objects;
mod options;
mod privileges;
mod request;
mod response;
mod result_shape;
mod session;
mod session_sql;
mod statement_cache;
mod user_tables;
mod values;

use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;
use crate::yaml::keys::Keys;

use super::connection::passfile::{self, Passfile};
use super::connection::password::{PasswordSource, RefusedPassword};
use super::connection::tls::TlsMode;
use super::connection::{ConnectionConfig, HostPort, UrlRules, log_in_at_one};
use super::statement::Dialect;
use super::user_tables::UserTables;
use super::{AllowedStatements, Driver, Endpoint, ServerFacts, Session, Sql, TlsState};

use self::cancel::PgCanceller;
use self::guard_statement::GuardOptions;
use self::login::{Encryption, PgServerAddress, ServerRoute, log_in};
use self::options::{PgOptions, PoolerMode, TargetSessionAttrs, user_of};
use self::request::{QueryProtocol, RequestWriter};
use self::session::PgSession;
use self::session_sql::SessionSql;
use self::statement_cache::PgServerInfo;
use self::user_tables::PostgresTables;

const POSTGRES: UrlRules = UrlRules { schemes: &["postgres", "postgresql"], port: 5432, libpq: true };
const PGBOUNCER: UrlRules =
    UrlRules { schemes: &["pgbouncer", "postgres", "postgresql"], port: 6432, libpq: true };

/// The driver.
pub struct Postgres;

impl Driver for Postgres {
    fn names(&self) -> &'static [&'static str] {
        &["postgres", "postgresql"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        read(keys, POSTGRES, endpoint)
    }
}

/// PgBouncer's own console (`SHOW POOLS`): the simple protocol and the bare text only.
pub struct PgBouncer;

impl Driver for PgBouncer {
    fn names(&self) -> &'static [&'static str] {
        &["pgbouncer"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        read(keys, PGBOUNCER, console)
    }
}

fn read(
    keys: &mut Keys<'_>,
    scheme: UrlRules,
    make: fn(ConnectionConfig) -> Result<Arc<dyn Endpoint>, String>,
) -> Option<Arc<dyn Endpoint>> {
    let mut login = ConnectionConfig::read(keys, scheme)?;
    let name = login.socket.as_deref().and_then(Path::file_name).unwrap_or_default();
    if name.to_string_lossy().starts_with(".s.PGSQL.") {
        let hint = "write the folder that it is in; the number behind the last dot is `port`";
        keys.fault_with_hint("socket", "this is the socket of PostgreSQL, not its folder", hint);
        return None;
    }
    if matches!(login.password, PasswordSource::None) {
        login.password = passfile(keys, &login).map_or(PasswordSource::None, PasswordSource::Passfile);
    }
    make(login).map_err(|message| keys.fault("params", message)).ok()
}

/// libpq's password file: the one of the parameter, else of the environment, else the user's own.
fn passfile(keys: &Keys<'_>, login: &ConnectionConfig) -> Option<Passfile> {
    let given = login.params.iter().rev().find(|(name, _)| name == "passfile");
    let named = given.map(|(_, path)| keys.folder("params").join(path));
    let named =
        named.or_else(|| keys.variable("PGPASSFILE").filter(|path| !path.is_empty()).map(PathBuf::from));
    let own = || keys.variable("HOME").map(|home| Path::new(&home).join(".pgpass"));
    match named {
        Some(path) => Some(Passfile { path, named: true }),
        None => own().map(|path| Passfile { path, named: false }),
    }
}

/// A PostgreSQL server, or a pooler in front of one.
///
/// # Errors
/// A sentence about a parameter that is not known.
pub fn endpoint(login: ConnectionConfig) -> Result<Arc<dyn Endpoint>, String> {
    Ok(Arc::new(PgEndpoint::new(login, None)?))
}

/// PgBouncer's console.
///
/// # Errors
/// A sentence about a parameter that is not known.
pub fn console(mut login: ConnectionConfig) -> Result<Arc<dyn Endpoint>, String> {
    login.database.get_or_insert_with(|| "pgbouncer".to_owned());
    Ok(Arc::new(PgEndpoint::new(login, Some(QueryProtocol::Console))?))
}

/// The folders in which libpq looks for a socket by itself, as its makers and the distributions build it.
const SOCKET_FOLDERS: [&str; 3] = ["/tmp", "/run/postgresql", "/var/run/postgresql"];

/// The databases that the user may connect to, without templates and those that a broken-off DROP left behind.
const DATABASES: &str = "SELECT datname AS database FROM pg_catalog.pg_database WHERE datallowconn \
    AND NOT datistemplate AND datconnlimit <> -2 AND pg_catalog.has_database_privilege(oid, 'CONNECT')";

struct PgEndpoint {
    login: ConnectionConfig,
    session_sql: SessionSql,
    options: PgOptions,
    encryption: Encryption,
    refused: RefusedPassword,
    server: Arc<PgServerInfo>,
}

impl Endpoint for PgEndpoint {
    fn connect(&self, by: Deadline) -> Result<Box<dyn Session>> {
        self.refused.log_in(&self.login.password, by, |password| self.try_all(password, by))
    }

    fn has_new_password(&self, by: Deadline) -> bool {
        self.refused.has_new(&self.login.password, by)
    }

    fn allows(&self) -> Option<AllowedStatements> {
        Some(match self.is_console() {
            true => AllowedStatements::Show,
            false => AllowedStatements::of(self.login.read_only, Dialect::Postgres),
        })
    }

    fn refuses_parameters(&self) -> Option<&'static str> {
        self.options.protocol.refuses_parameters()
    }

    fn connection_config(&self) -> Option<&ConnectionConfig> {
        Some(&self.login)
    }

    fn with_database(&self, name: &str) -> Option<Arc<dyn Endpoint>> {
        let login = ConnectionConfig { database: Some(name.to_owned()), ..self.login.clone() };
        if self.is_console() { None } else { endpoint(login).ok() }
    }

    fn databases_sql(&self) -> Option<Sql> {
        (!self.is_console()).then(|| Sql::of_catalog(DATABASES))
    }

    fn user_tables(&self) -> Option<&'static dyn UserTables> {
        (!self.is_console()).then_some(&PostgresTables as &dyn UserTables)
    }

    /// The console has no plans.
    fn explain(&self, sql: &Sql) -> Option<Sql> {
        (!self.is_console()).then(|| sql.with_text(&format!("EXPLAIN {}", sql.text())))
    }

    fn epoch_expression(&self) -> Option<&'static str> {
        Some("extract(epoch FROM {} AT TIME ZONE 'ZONE')")
    }

    fn redacted_url(&self) -> String {
        self.login.redacted_url(if self.is_console() { "pgbouncer" } else { "postgres" })
    }
}

/// One try to open a session.
#[derive(Clone, Copy)]
struct ConnectAttempt<'a> {
    address: &'a PgServerAddress,
    attrs: TargetSessionAttrs,
    password: Option<&'a Secret>,
    mode: TlsMode,
    by: Deadline,
}

impl PgEndpoint {
    /// `protocol`: instead of the configured one.
    fn new(login: ConnectionConfig, protocol: Option<QueryProtocol>) -> Result<Self, String> {
        let mut options = PgOptions::read(&login.params)?;
        options.protocol = protocol.unwrap_or(options.protocol);
        if !options.addresses.is_empty() && options.addresses.len() != login.hosts.len() {
            return Err("parameter hostaddr: write one address for each host".to_owned());
        }
        if options.direct && login.tls.mode < TlsMode::Require {
            return Err(
                "parameter sslnegotiation=direct needs sslmode=require or a stronger one, as in libpq"
                    .to_owned(),
            );
        }
        let encryption = Encryption { tls: login.tls.clone(), direct: options.direct, sni: options.sni };
        Ok(PgEndpoint {
            session_sql: SessionSql::read(&login.session_sql),
            login,
            options,
            encryption,
            refused: RefusedPassword::default(),
            server: Arc::default(),
        })
    }

    fn is_console(&self) -> bool {
        self.options.protocol == QueryProtocol::Console
    }

    /// Opens a session at the first address that accepts one.
    fn try_all(&self, password: Option<&Secret>, by: Deadline) -> Result<Box<dyn Session>> {
        let addresses = self.addresses();
        let rounds = self.options.target_session_attrs.iter();
        let tries: Vec<_> =
            rounds.flat_map(|attrs| addresses.iter().map(|address| (*attrs, address))).collect();
        // As libpq: a refused password is refused everywhere.
        let is_final = |reason| reason == Reason::Auth;
        log_in_at_one(&tries, by, is_final, |&(attrs, address), by| {
            let mode = self.login.tls.mode;
            let open = |by| self.try_with_passfile(ConnectAttempt { address, attrs, password, mode, by });
            Ok(Box::new(self.login.in_time(by, open)?) as Box<dyn Session>)
        })
    }

    /// In the order to try.
    fn addresses(&self) -> Vec<PgServerAddress> {
        if let Some(folder) = &self.login.socket {
            let default = if self.is_console() { PGBOUNCER.port } else { POSTGRES.port };
            let port = self.login.hosts.first().map_or(default, |host| host.port);
            return vec![PgServerAddress::Unix { folder: folder.clone(), port }];
        }
        let address = |(index, name): (usize, &HostPort)| {
            if name.is_socket() {
                return PgServerAddress::Unix { folder: PathBuf::from(&name.host), port: name.port };
            }
            let address = self.options.addresses.get(index).copied().flatten();
            PgServerAddress::Host { name: name.clone(), address, keepalives: self.options.keepalives }
        };
        let mut addresses: Vec<PgServerAddress> = self.login.hosts.iter().enumerate().map(address).collect();
        if self.options.at_random {
            // Each of these hashers has a seed of its own.
            addresses.sort_by_cached_key(|_| foldhash::fast::RandomState::default().hash_one(0));
        }
        addresses
    }

    /// Of a password file, the line for this address is the password.
    fn try_with_passfile(&self, attempt: ConnectAttempt<'_>) -> Result<PgSession> {
        let PasswordSource::Passfile(file) = &self.login.password else {
            return self.try_preferred(attempt);
        };
        let user = user_of(&self.login);
        let database = self.login.database.as_ref().unwrap_or(&user);
        let (host, port) = match attempt.address {
            PgServerAddress::Host { name, .. } => (name.host.clone(), name.port),
            // As libpq: the folder that it looks into by itself is called so.
            PgServerAddress::Unix { folder, port }
                if SOCKET_FOLDERS.iter().any(|known| Path::new(known) == folder) =>
            {
                ("localhost".to_owned(), *port)
            }
            PgServerAddress::Unix { folder, port } => (folder.to_string_lossy().into_owned(), *port),
        };
        let line = [host.as_str(), &port.to_string(), database, &user];
        let found = attempt.password.and_then(|content| passfile::find(content, line));
        self.try_preferred(ConnectAttempt { password: found.as_ref(), ..attempt }).map_err(|error| {
            // One with a hint is not about the password that is missing.
            if found.is_some() || error.reason() != Reason::Auth || error.hint().is_some() {
                return error;
            }
            let path = file.path.display();
            match file.read() {
                Ok(_) => error.with_hint(format!("{path} has no line for {}", line.join(":"))),
                Err(why) if file.named || file.path.exists() => error.with_hint(format!("{path} {why}")),
                Err(_) => error.with_hint("set `password_file` or `password`"),
            }
        })
    }

    /// As libpq: a line `hostnossl` lets this user in without encryption only, and `prefer` accepts that. Any other
    /// problem with encryption stays an error.
    fn try_preferred(&self, attempt: ConnectAttempt<'_>) -> Result<PgSession> {
        match self.try_assuming(attempt) {
            Err(error) if attempt.mode == TlsMode::Prefer && is_of_hba(&error) => {
                let plain = self.try_assuming(ConnectAttempt { mode: TlsMode::Disable, ..attempt });
                plain.map_err(|second| if is_of_hba(&second) { error } else { second })
            }
            done => done,
        }
    }

    /// With what is assumed of a pooler; once more where it shows itself.
    fn try_assuming(&self, attempt: ConnectAttempt<'_>) -> Result<PgSession> {
        let assumed = match self.options.pooler {
            PoolerMode::Auto if self.is_console() || self.server.has_pooler() => PoolerMode::Transaction,
            mode => mode,
        };
        let opened = match self.open(attempt, assumed) {
            // A pooler that knows no startup options.
            Err(error) if assumed == PoolerMode::Auto && is_about_options(&error) => {
                self.server.note_pooler();
                self.open(attempt, PoolerMode::Transaction)
            }
            done => done,
        };
        let hint = "the pooler accepts no options: leave out params.options, and write SET LOCAL … in session_sql instead";
        opened.map_err(|error| if is_about_options(&error) { error.with_hint(hint) } else { error })
    }

    fn open(&self, attempt: ConnectAttempt<'_>, pooler: PoolerMode) -> Result<PgSession> {
        let ConnectAttempt { address, attrs, password, mode, by } = attempt;
        let (route, stream) = ServerRoute::connect(address, &self.encryption, mode, by)?;
        // Where a pooler may be, the session is ours alone if it still has this.
        let token = (pooler == PoolerMode::Auto).then(token);
        let mut startup = self.options.startup(&self.login, token.as_deref());
        if pooler == PoolerMode::Session || self.is_console() {
            startup.parameters.push(("application_name", self.options.application_name().to_owned()));
        }
        let logged_in = log_in(stream, &route, &startup, self.login.tls.mode, password, by)?;
        let tls = match route.tls_state(logged_in.connection.stream(), &self.login.tls) {
            TlsState::Plain if mode != self.login.tls.mode => TlsState::PlainByRule,
            tls => tls,
        };
        let protocol = self.options.protocol;
        let guard = GuardOptions {
            read_only: self.login.read_only,
            pooled: protocol == QueryProtocol::Simple,
            application_name: self.options.application_name().to_owned(),
            checks_client: guard_statement::checks_client(&logged_in.version),
        };
        let facts = ServerFacts {
            version: logged_in.version,
            flavor: if self.is_console() { "pgbouncer" } else { "postgresql" }.to_owned(),
            // The first question tells.
            role: String::new(),
            tls,
        };
        let canceller = PgCanceller {
            route,
            encryption: self.encryption.clone(),
            mode: if logged_in.connection.stream().is_encrypted() { mode } else { TlsMode::Disable },
            cancel_key: logged_in.cancel_key,
            backend: AtomicI32::new(0),
            startup: self.options.startup(&self.login, None),
            password: password.cloned(),
        };
        let requests = RequestWriter::new(protocol, guard);
        let server = Arc::clone(&self.server);
        let mut session = PgSession::new(logged_in.connection, requests, server, facts, canceller, attrs);
        if !self.is_console() {
            let role = session.ask_first_question(pooler, token.as_deref(), by)?;
            if let Some(found) = attrs.refuses(role) {
                let (address, wanted) = (address.shown(), attrs.as_str());
                let message = format!("{address} is {found}, target_session_attrs wants {wanted}");
                return Err(Error::new(Reason::Connect, message));
            }
        }
        session.set_up(&self.session_sql, by)?;
        Ok(session)
    }
}

/// A value that no other session has.
fn token() -> String {
    format!("{:016x}", foldhash::fast::RandomState::default().hash_one(0))
}

/// A login that `pg_hba.conf` does not let in the way it came.
fn is_of_hba(error: &Error) -> bool {
    error.sqlstate() == Some("28000") && error.message().contains("pg_hba.conf")
}

/// PgBouncer: "unsupported startup parameter: options" (or "… in options: …"); Amazon's proxy: "RDS Proxy currently
/// doesn't support command-line options".
fn is_about_options(error: &Error) -> bool {
    ["unsupported startup parameter", "command-line options"]
        .iter()
        .any(|text| error.message().contains(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::connection::tls::TlsConfig;
    use super::*;

    #[test]
    fn a_socket_without_a_port_has_that_of_its_driver() {
        let login = ConnectionConfig {
            hosts: Vec::new(),
            socket: Some("/run/x".into()),
            database: None,
            username: None,
            password: PasswordSource::None,
            tls: TlsConfig::default(),
            params: Vec::new(),
            read_only: true,
            session_sql: Vec::new(),
            connect_timeout: Duration::from_secs(3),
        };
        for (protocol, path) in
            [(None, "/run/x/.s.PGSQL.5432"), (Some(QueryProtocol::Console), "/run/x/.s.PGSQL.6432")]
        {
            let endpoint = PgEndpoint::new(login.clone(), protocol).unwrap();
            let addresses: Vec<String> = endpoint.addresses().iter().map(PgServerAddress::shown).collect();
            assert_eq!(addresses, [path]);
        }
    }
}
