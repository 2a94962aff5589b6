//! PostgreSQL, and PgBouncer's console.
//!
//! Owns which host is taken and what the driver's own parameters mean. Below it: `login` (connect, TLS, password),
//! `entry` (what follows a login), `run` (jobs), `send` (a query), `reply` (its answer), `wire` (messages), `values`
//! (types). Another way to send
//! a query is one more [`QueryProtocol`]; another parameter is one line in [`Options::read`].

pub mod advice;
mod binary;
mod cancel;
pub mod datetime;
mod entry;
mod errors;
mod group;
mod guard_statement;
mod login;
mod options;
mod privileges;
mod reply;
mod run;
mod send;
mod server_info;
mod session;
mod setting;
mod snapshot;
mod statement_cache;
mod stream;
mod styles;
mod talk;
mod types;
mod values;
mod wire;

use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;
use crate::yaml::keys::Keys;

use super::connection::passfile;
use super::connection::passfile::Passfile;
use super::connection::password::Password;
use super::connection::refused_password::Refused;
use super::connection::tls::{Demand, Mode};
use super::connection::{HostPort, Login, Scheme};
use super::statement::Dialect;
use super::{AllowedStatements, Driver, Endpoint, Facts, Session, Sql, TlsState};

use self::cancel::PgCanceller;
use self::entry::{AssumedPooler, FirstAnswer};
use self::login::{Encryption, LoggedIn, ServerAddress, ServerRoute, TcpHost, log_in};
use self::options::{Options, PoolerMode, TargetSessionAttrs};
use self::send::QueryProtocol;
use self::server_info::ServerInfo;
use self::session::PgSession;
use self::setting::SessionSql;
use self::talk::Talk;
use self::wire::Link;

/// The driver.
pub struct Postgres;

impl Driver for Postgres {
    fn names(&self) -> &'static [&'static str] {
        &["postgres", "postgresql"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        read(keys, Scheme { schemes: &["postgres", "postgresql"], port: 5432, libpq: true }, endpoint)
    }
}

/// PgBouncer's own console (`SHOW POOLS`): the simple protocol and the bare text only.
pub struct PgBouncer;

impl Driver for PgBouncer {
    fn names(&self) -> &'static [&'static str] {
        &["pgbouncer"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        read(
            keys,
            Scheme { schemes: &["pgbouncer", "postgres", "postgresql"], port: 6432, libpq: true },
            console,
        )
    }
}

fn read(
    keys: &mut Keys<'_>,
    scheme: Scheme,
    make: fn(Login) -> Result<Arc<dyn Endpoint>, String>,
) -> Option<Arc<dyn Endpoint>> {
    let mut login = Login::read(keys, scheme)?;
    if matches!(login.password, Password::None) {
        login.password = passfile(keys, &login).map_or(Password::None, Password::Passfile);
    }
    make(login).map_err(|message| keys.fault("params", message)).ok()
}

/// libpq's password file: the one of the parameter, else of the environment, else the user's own.
fn passfile(keys: &Keys<'_>, login: &Login) -> Option<Passfile> {
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
pub fn endpoint(login: Login) -> Result<Arc<dyn Endpoint>, String> {
    PgEndpoint::new(login, false).map(|endpoint| Arc::new(endpoint) as Arc<dyn Endpoint>)
}

/// PgBouncer's console.
///
/// # Errors
/// A sentence about a parameter that is not known.
pub fn console(mut login: Login) -> Result<Arc<dyn Endpoint>, String> {
    login.database.get_or_insert_with(|| "pgbouncer".to_owned());
    PgEndpoint::new(login, true).map(|endpoint| Arc::new(endpoint) as Arc<dyn Endpoint>)
}

/// The folders in which libpq looks for a socket by itself, as it is built by its makers and by the distributions.
const SOCKETS: [&str; 3] = ["/tmp", "/run/postgresql", "/var/run/postgresql"];

struct PgEndpoint {
    login: Login,
    session_sql: SessionSql,
    options: Options,
    encryption: Encryption,
    console: bool,
    refused: Refused,
    learned: Arc<ServerInfo>,
}

impl Endpoint for PgEndpoint {
    fn connect(&self, by: Deadline) -> Result<Box<dyn Session>> {
        self.refused.enter(&self.login.password, by, |password| self.reach(password, by))
    }

    fn has_new_password(&self, by: Deadline) -> bool {
        self.refused.has_new(&self.login.password, by)
    }

    fn demand(&self) -> Demand {
        self.login.demand()
    }

    fn allows(&self) -> Option<AllowedStatements> {
        Some(match (self.console, self.login.read_only) {
            (true, _) => AllowedStatements::Show,
            (false, true) => AllowedStatements::Reading(Dialect::Postgres),
            (false, false) => AllowedStatements::Any(Dialect::Postgres),
        })
    }

    fn login(&self) -> Option<&Login> {
        Some(&self.login)
    }

    /// The console has no plans.
    fn explain(&self, sql: &Sql) -> Option<Sql> {
        (!self.console).then(|| sql.with_text(&format!("EXPLAIN {}", sql.text())))
    }

    fn epoch(&self) -> Option<&'static str> {
        Some("extract(epoch FROM {} AT TIME ZONE 'ZONE')")
    }

    fn shown(&self) -> String {
        self.login.shown(if self.console { "pgbouncer" } else { "postgres" })
    }
}

impl PgEndpoint {
    fn new(login: Login, console: bool) -> Result<Self, String> {
        let options = Options::read(&login.params)?;
        if !options.addresses.is_empty() && options.addresses.len() != login.hosts.len() {
            return Err("parameter hostaddr: write one address for each host".to_owned());
        }
        if options.direct && login.tls.mode < Mode::Require {
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
            console,
            refused: Refused::default(),
            learned: Arc::default(),
        })
    }

    /// Enters the first place that lets us in.
    fn reach(&self, password: Option<&Secret>, by: Deadline) -> Result<Box<dyn Session>> {
        let mut failures: Vec<Error> = Vec::new();
        for wanted in self.options.wanted.in_turn() {
            for place in self.places() {
                let by = by.or_within(self.login.connect_timeout);
                match self.enter_with(&place, wanted, password, by) {
                    Ok(session) => return Ok(Box::new(session)),
                    // As libpq: a refused password is refused everywhere.
                    Err(error) if error.reason() == Reason::Auth => return Err(error),
                    Err(error) => failures.push(error),
                }
            }
        }
        Err(together(failures))
    }

    /// In the order to try.
    fn places(&self) -> Vec<ServerAddress> {
        if let Some(folder) = &self.login.socket {
            let port = self.login.hosts.first().map_or(5432, |host| host.port);
            return vec![ServerAddress::in_folder(folder, port)];
        }
        let place = |(index, name): (usize, &HostPort)| {
            if name.is_socket() {
                return ServerAddress::in_folder(Path::new(&name.host), name.port);
            }
            let address = self.options.addresses.get(index).copied().flatten();
            ServerAddress::Host(TcpHost { name: name.clone(), address, liveness: self.options.liveness })
        };
        let mut places: Vec<ServerAddress> = self.login.hosts.iter().enumerate().map(place).collect();
        if self.options.at_random {
            // Each of these hashers has a seed of its own.
            places.sort_by_cached_key(|_| foldhash::fast::RandomState::default().hash_one(0));
        }
        places
    }

    /// Of a password file, the line for this place is the password.
    fn enter_with(
        &self,
        place: &ServerAddress,
        wanted: TargetSessionAttrs,
        password: Option<&Secret>,
        by: Deadline,
    ) -> Result<PgSession> {
        let Password::Passfile(file) = &self.login.password else {
            return self.enter(place, wanted, password, by);
        };
        let user = match &self.login.username {
            Some(user) => user.clone(),
            None => whoami::username().unwrap_or_default(),
        };
        let database = self.login.database.as_ref().unwrap_or(&user);
        let (host, port) = match place {
            ServerAddress::Host(TcpHost { name, .. }) => (name.host.clone(), name.port),
            ServerAddress::Unix { folder, port, .. } => {
                // As libpq: the folder that it looks into by itself is called so.
                let is_default = SOCKETS.iter().any(|known| Path::new(known) == folder);
                let shown =
                    if is_default { "localhost".to_owned() } else { folder.to_string_lossy().into_owned() };
                (shown, *port)
            }
        };
        let port = port.to_string();
        let wanted_line = [host.as_str(), port.as_str(), database, &user];
        let found = password.and_then(|content| passfile::find(content, wanted_line));
        self.enter(place, wanted, found.as_ref(), by).map_err(|error| {
            if found.is_some() || error.reason() != Reason::Auth {
                return error;
            }
            let path = file.path.display();
            match file.read() {
                Ok(_) => error.with_hint(format!("{path} has no line for {}", wanted_line.join(":"))),
                Err(why) if file.named || file.path.exists() => error.with_hint(format!("{path} {why}")),
                Err(_) => error.with_hint("set `password_file` or `password`"),
            }
        })
    }

    /// A session at one place that has the role wanted.
    fn enter(
        &self,
        place: &ServerAddress,
        wanted: TargetSessionAttrs,
        password: Option<&Secret>,
        by: Deadline,
    ) -> Result<PgSession> {
        let configured = self.login.tls.mode;
        match self.enter_as(place, configured, wanted, password, by) {
            // As libpq: a line `hostnossl` lets this user in without encryption only, and `prefer` takes that. Whatever
            // else goes wrong with encryption stays an error.
            Err(error) if configured == Mode::Prefer && is_of_hba(&error) => {
                let plain = self.enter_as(place, Mode::Disable, wanted, password, by);
                plain.map_err(|second| if is_of_hba(&second) { error } else { second })
            }
            done => done,
        }
    }

    fn enter_as(
        &self,
        place: &ServerAddress,
        mode: Mode,
        wanted: TargetSessionAttrs,
        password: Option<&Secret>,
        by: Deadline,
    ) -> Result<PgSession> {
        let token = token();
        let is_pooled = self.options.pooler == PoolerMode::TransactionStatus || self.learned.has_pooler();
        let through = match self.options.pooler {
            PoolerMode::Session => AssumedPooler::Sessions,
            _ if is_pooled || self.console => AssumedPooler::Transactions,
            _ => AssumedPooler::Unknown(&token),
        };
        match self.start(place, mode, wanted, password, through, by) {
            // A pooler that knows no startup options.
            Err(error) if matches!(through, AssumedPooler::Unknown(_)) && is_about_options(&error) => {
                self.learned.note_pooler();
                self.start(place, mode, wanted, password, AssumedPooler::Transactions, by)
            }
            done => done,
        }
        .map_err(|error| match is_about_options(&error) {
            true => error.with_hint(
                "the pooler takes no options: leave out params.options, and write SET LOCAL … in session_sql instead",
            ),
            false => error,
        })
    }

    fn start(
        &self,
        place: &ServerAddress,
        mode: Mode,
        wanted: TargetSessionAttrs,
        password: Option<&Secret>,
        through: AssumedPooler<'_>,
        by: Deadline,
    ) -> Result<PgSession> {
        let (route, wire) = ServerRoute::find(place, by)?;
        let stream = route.secure(wire, &self.encryption, mode, by)?;
        let token = match through {
            AssumedPooler::Unknown(token) => Some(token),
            AssumedPooler::Transactions | AssumedPooler::Sessions => None,
        };
        let mut config = self.options.config(&self.login, token);
        if through == AssumedPooler::Sessions || self.console {
            config.application_name(self.options.application_name());
        }
        let entered = log_in(stream, &route, &config, self.login.tls.mode, password, by)?;
        let facts = self.facts(&entered, &route, mode);
        let mode = if entered.stream.is_encrypted() { mode } else { Mode::Disable };
        let canceller = Arc::new(PgCanceller {
            route,
            encryption: self.encryption.clone(),
            mode,
            token: entered.token,
            backend: AtomicI32::new(0),
            config: self.options.config(&self.login, None),
            password: password.cloned(),
        });
        let style = match (self.console, self.options.simple) {
            (true, _) => QueryProtocol::Console,
            (false, true) => QueryProtocol::Simple,
            (false, false) => QueryProtocol::Named,
        };
        let marker = guard_statement::GuardOptions {
            read_only: self.login.read_only,
            pooled: style == QueryProtocol::Simple,
            application_name: self.options.application_name().to_owned(),
            tells_read_only: wanted.is_about_writes(),
            catalog_only: false,
        };
        let talk = Talk::new(Link::new(entered.stream));
        let learned = Arc::clone(&self.learned);
        let mut session = PgSession::new(talk, style, marker, facts, canceller, learned);
        session.user.clone_from(&self.login.username);
        if self.console {
            let all = self.login.session_sql.iter().enumerate();
            session.run_settings(all.map(|(index, sql)| (index + 1, sql.as_str())), by)?;
            return Ok(session);
        }
        let greeting = session.greet(through, by)?;
        check_role(place, wanted, &greeting)?;
        session.is_bound = wanted != TargetSessionAttrs::Any;
        session.settle_in(&self.session_sql, by)?;
        Ok(session)
    }

    fn facts(&self, entered: &LoggedIn, route: &ServerRoute, mode: Mode) -> Facts {
        let tls = match route.tls_state(&entered.stream, &self.login.tls) {
            TlsState::Plain if mode != self.login.tls.mode => TlsState::PlainByRule,
            tls => tls,
        };
        Facts {
            version: entered.version.clone(),
            flavor: if self.console { "pgbouncer" } else { "postgresql" }.to_owned(),
            // The first question tells.
            role: String::new(),
            tls,
        }
    }
}

/// Checks `target_session_attrs`.
fn check_role(place: &ServerAddress, wanted: TargetSessionAttrs, greeting: &FirstAnswer) -> Result<()> {
    let FirstAnswer { standby, read_only } = *greeting;
    let (suited, found) = match wanted {
        TargetSessionAttrs::Any => (true, ""),
        TargetSessionAttrs::Primary => (!standby, "a standby"),
        TargetSessionAttrs::Standby => (standby, "a primary"),
        TargetSessionAttrs::ReadWrite => (!read_only, "read-only"),
        TargetSessionAttrs::ReadOnly => (read_only, "read-write"),
    };
    if suited {
        return Ok(());
    }
    let message = format!("{} is {found}, target_session_attrs wants {}", place.shown(), wanted.word());
    Err(Error::new(Reason::Connect, message))
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

/// One error of all that were met; the last one's reason.
fn together(mut failures: Vec<Error>) -> Error {
    match (failures.pop(), failures.is_empty()) {
        (Some(only), true) => only,
        (Some(last), false) => {
            let messages: Vec<&str> = failures.iter().chain([&last]).map(Error::message).collect();
            Error::new(last.reason(), messages.join("; "))
        }
        (None, _) => Error::new(Reason::Connect, "no host is configured"),
    }
}
