//! PostgreSQL, and PgBouncer's console.
//!
//! Owns which host is taken and what the driver's own parameters mean. Below it: `login` (connect, TLS, password),
//! `session` (jobs), `send` (a query), `reply` (its answer), `wire` (messages), `values` (types). Another way to send
//! a query is one more [`Style`]; another parameter is one line in [`Options::read`].

pub mod advice;
mod cancel;
mod errors;
mod group;
mod known;
mod login;
mod marker;
pub mod moments;
mod options;
mod reply;
mod rights;
mod send;
mod session;
mod snapshot;
mod stream;
mod talk;
mod types;
mod values;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;
use crate::yaml::keys::Keys;

use super::login::{Login, Scheme};
use super::refused::Refused;
use super::statement::Dialect;
use super::tls::{Demand, Mode};
use super::{Allowed, Driver, Endpoint, Facts, Session, Sql};

use cancel::PgCanceller;
use login::{Entered, Place, Route, log_in};
use options::{Options, Wanted};
use send::Style;
use session::{PgSession, role};
use talk::{Talk, failed};
use wire::Link;

/// The driver.
pub struct Postgres;

impl Driver for Postgres {
    fn names(&self) -> &'static [&'static str] {
        &["postgres", "postgresql"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        read(keys, Scheme { schemes: &["postgres", "postgresql"], port: 5432 }, endpoint)
    }
}

/// PgBouncer's own console (`SHOW POOLS`): the simple protocol and the bare text only.
pub struct PgBouncer;

impl Driver for PgBouncer {
    fn names(&self) -> &'static [&'static str] {
        &["pgbouncer"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        read(keys, Scheme { schemes: &["pgbouncer", "postgres", "postgresql"], port: 6432 }, console)
    }
}

fn read(
    keys: &mut Keys<'_>,
    scheme: Scheme,
    make: fn(Login) -> Result<Arc<dyn Endpoint>, String>,
) -> Option<Arc<dyn Endpoint>> {
    let login = Login::read(keys, scheme)?;
    make(login).map_err(|message| keys.fault("params", message)).ok()
}

/// A PostgreSQL server, or a pooler in front of one.
///
/// # Errors
/// A sentence about a parameter that is not known.
pub fn endpoint(login: Login) -> Result<Arc<dyn Endpoint>, String> {
    let options = Options::read(&login.params)?;
    Ok(Arc::new(PgEndpoint {
        login,
        options,
        console: false,
        refused: Refused::default(),
        pooler: Arc::default(),
    }))
}

/// PgBouncer's console.
///
/// # Errors
/// A sentence about a parameter that is not known.
pub fn console(mut login: Login) -> Result<Arc<dyn Endpoint>, String> {
    let options = Options::read(&login.params)?;
    login.database.get_or_insert_with(|| "pgbouncer".to_owned());
    Ok(Arc::new(PgEndpoint {
        login,
        options,
        console: true,
        refused: Refused::default(),
        pooler: Arc::default(),
    }))
}

struct PgEndpoint {
    login: Login,
    options: Options,
    console: bool,
    refused: Refused,
    /// A pooler was found on the way: sessions begin as they must behind one, instead of each finding it again.
    pooler: Arc<AtomicBool>,
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

    fn allows(&self) -> Option<Allowed> {
        Some(match (self.console, self.login.read_only) {
            (true, _) => Allowed::Show,
            (false, true) => Allowed::Reading(Dialect::Postgres),
            (false, false) => Allowed::Any(Dialect::Postgres),
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
    /// Enters the first place that lets us in.
    fn reach(&self, password: Option<&Secret>, by: Deadline) -> Result<Box<dyn Session>> {
        let mut failures: Vec<Error> = Vec::new();
        for wanted in self.options.wanted.in_turn() {
            for place in self.places() {
                let by = by.or_within(self.login.connect_timeout);
                match self.enter(&place, wanted, password, by) {
                    Ok(session) => return Ok(Box::new(session)),
                    // As libpq: a refused password is refused everywhere.
                    Err(error) if error.reason() == Reason::Auth => return Err(error),
                    Err(error) => failures.push(error),
                }
            }
        }
        Err(together(failures))
    }

    fn places(&self) -> Vec<Place> {
        let port = self.login.hosts.first().map_or(5432, |host| host.port);
        match &self.login.socket {
            Some(folder) => vec![Place::in_folder(folder, port)],
            None => self.login.hosts.iter().cloned().map(Place::Host).collect(),
        }
    }

    /// A session at one place that has the role wanted.
    fn enter(
        &self,
        place: &Place,
        wanted: Wanted,
        password: Option<&Secret>,
        by: Deadline,
    ) -> Result<PgSession> {
        let configured = self.login.tls.mode;
        match self.enter_as(place, configured, wanted, password, by) {
            // As libpq: what is only preferred must not stand in the way.
            Err(error) if configured == Mode::Prefer && is_about_tls(&error) => self
                .enter_as(place, Mode::Disable, wanted, password, by)
                .map_err(|second| if second.reason() == Reason::Tls { error } else { second }),
            done => done,
        }
    }

    fn enter_as(
        &self,
        place: &Place,
        mode: Mode,
        wanted: Wanted,
        password: Option<&Secret>,
        by: Deadline,
    ) -> Result<PgSession> {
        let with_options = !self.console && !self.pooler.load(Ordering::Relaxed);
        match self.start(place, mode, wanted, password, with_options, by) {
            // A pooler that knows no startup options.
            Err(error) if with_options && is_about_options(&error) => {
                self.start(place, mode, wanted, password, false, by)
            }
            done => done,
        }
    }

    fn start(
        &self,
        place: &Place,
        mode: Mode,
        wanted: Wanted,
        password: Option<&Secret>,
        with_options: bool,
        by: Deadline,
    ) -> Result<PgSession> {
        let tls = &self.login.tls;
        let (route, wire) = Route::find(place, by)?;
        let stream = route.secure(wire, tls, mode, by)?;
        let config = self.options.config(&self.login, with_options);
        let entered = log_in(stream, &route, &config, tls.mode, password, by)?;
        let facts = self.facts(&entered, &route);
        let mode = if entered.stream.is_encrypted() { mode } else { Mode::Disable };
        let canceller = PgCanceller { route, tls: tls.clone(), mode, token: entered.token };
        let style = match (self.console, self.options.simple) {
            (true, _) => Style::Console,
            (false, true) => Style::Simple,
            (false, false) if self.pooler.load(Ordering::Relaxed) => Style::Unnamed,
            (false, false) => Style::Named,
        };
        let mut talk = Talk::new(Link::new(entered.stream));
        talk.standby = entered.in_hot_standby;
        let (read_only, pooler) = (self.login.read_only, Arc::clone(&self.pooler));
        let mut session = PgSession::new(talk, style, read_only, facts, Arc::new(canceller), pooler);
        session.user.clone_from(&self.login.username);
        session.prepare(&self.login.session_sql, with_options, by)?;
        let known = (entered.in_hot_standby, entered.read_only);
        suits(&mut session, place, wanted, known, by)?;
        Ok(session)
    }

    fn facts(&self, entered: &Entered, route: &Route) -> Facts {
        Facts {
            version: entered.version.clone(),
            flavor: if self.console { "pgbouncer" } else { "postgresql" }.to_owned(),
            role: entered.in_hot_standby.map(role).unwrap_or_default().to_owned(),
            tls: route.tls_state(&entered.stream, &self.login.tls),
        }
    }
}

/// Checks `target_session_attrs`; asks the server for what it did not tell by itself.
fn suits(
    session: &mut PgSession,
    place: &Place,
    wanted: Wanted,
    (standby, read_only): (Option<bool>, Option<bool>),
    by: Deadline,
) -> Result<()> {
    let mut ask = |sql| {
        let answer = session.ask(sql, by).map_err(|trouble| failed("target_session_attrs", trouble))?;
        Ok(matches!(answer.as_deref(), Some("t" | "on")))
    };
    let mut is_standby = || standby.map_or_else(|| ask("SELECT pg_catalog.pg_is_in_recovery()"), Ok);
    let (suited, found) = match wanted {
        Wanted::Any => (true, ""),
        Wanted::Primary => (!is_standby()?, "a standby"),
        Wanted::Standby => (is_standby()?, "a primary"),
        Wanted::ReadWrite | Wanted::ReadOnly => {
            let known = standby.zip(read_only).map(|(standby, read_only)| standby || read_only);
            let writable = !known.map_or_else(|| ask("SHOW transaction_read_only"), Ok)?;
            (writable == (wanted == Wanted::ReadWrite), if writable { "read-write" } else { "read-only" })
        }
    };
    if suited {
        return Ok(());
    }
    let message = format!("{} is {found}, target_session_attrs wants {}", place.shown(), wanted.word());
    Err(Error::new(Reason::Connect, message))
}

/// A handshake that failed, or a server that wants this user unencrypted.
fn is_about_tls(error: &Error) -> bool {
    error.reason() == Reason::Tls || error.sqlstate() == Some("28000")
}

/// PgBouncer: "unsupported startup parameter: options" (or "… in options: …").
fn is_about_options(error: &Error) -> bool {
    error.message().contains("unsupported startup parameter")
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
