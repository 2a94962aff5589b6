//! One session: its life, and what a target asks of it.
//!
//! How it begins is `entry`'s, how it runs jobs `run`'s and `group`'s. What is sent for one query is `send`'s, what it asks
//! for itself `talk`'s, the answer `reply`'s, bytes are `wire`'s.

use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use postgres_protocol::message::frontend;

use crate::deadline::Deadline;
use crate::driver::{Canceller, Column, Facts, Health, Job, Rights, Session, Sql};
use crate::error::Result;

use super::cancel::PgCanceller;
use super::guard_statement;
use super::guard_statement::{ServerRole, SessionLimits};
use super::privileges;
use super::reply::{ExchangeError, has_changed};
use super::send::{KnownStatement, QueryProtocol, RequestWriter};
use super::server_info::ServerInfo;
use super::snapshot;
use super::talk::{Talk, Texts, failed};
use super::wire::ValueSpans;

/// A live connection to PostgreSQL or to PgBouncer's console.
pub(super) struct PgSession {
    pub(super) talk: Talk,
    pub(super) style: QueryProtocol,
    pub(super) read_only: bool,
    pub(super) marker_kind: guard_statement::GuardOptions,
    /// The marker's text.
    pub(super) marker: Arc<str>,
    /// The same for catalog-only queries.
    pub(super) catalog_marker: Arc<str>,
    /// What each transaction sets anew.
    pub(super) local: Option<Arc<str>>,
    /// `session_sql` has set something for the whole session.
    pub(super) has_lasting_sql: bool,
    /// A pooler may hand the server connection to other clients, and other ones to us.
    pub(super) may_be_shared: bool,
    /// The limits that the session had before ours, where it keeps them.
    pub(super) own: SessionLimits,
    /// What a backslash in a text means, where the session knows: `standard_conforming_strings`.
    pub(super) conforming_strings: Option<bool>,
    /// What the server is.
    pub(super) standing: ServerRole,
    /// `target_session_attrs` asked for such a server: the session ends when it is another.
    pub(super) is_bound: bool,
    pub(super) known: HashMap<String, KnownStatement, RandomState>,
    pub(super) spans: ValueSpans,
    /// What it prepares for itself waits to be sent.
    pub(super) is_unprepared: bool,
    /// The server has [`guard_statement::ticks`] and they work.
    pub(super) ticks: bool,
    /// The answer to [`guard_statement::state`] of a session that no query has changed; each batch ends with that question. Not
    /// asked behind a pooler.
    pub(super) home: Option<Vec<Texts>>,
    /// As configured: PgBouncer's console does not tell.
    pub(super) user: Option<String>,
    pub(super) facts: Facts,
    pub(super) canceller: Arc<PgCanceller>,
    /// Queries run in one transaction, each from its savepoint.
    pub(super) in_snapshot: bool,
    /// What it passes on to the next sessions.
    pub(super) learned: Arc<ServerInfo>,
}

impl PgSession {
    /// A session that nothing was sent on yet.
    pub(super) fn new(
        talk: Talk,
        style: QueryProtocol,
        marker_kind: guard_statement::GuardOptions,
        facts: Facts,
        canceller: Arc<PgCanceller>,
        learned: Arc<ServerInfo>,
    ) -> Self {
        PgSession {
            talk,
            style,
            read_only: marker_kind.read_only,
            marker: guard_statement::text(&marker_kind).into(),
            catalog_marker: catalog_marker(&marker_kind),
            marker_kind,
            local: None,
            has_lasting_sql: false,
            may_be_shared: false,
            own: SessionLimits::default(),
            conforming_strings: None,
            standing: ServerRole::default(),
            is_bound: false,
            known: HashMap::default(),
            spans: ValueSpans::default(),
            is_unprepared: false,
            ticks: false,
            home: None,
            user: None,
            facts,
            canceller,
            in_snapshot: false,
            learned,
        }
    }

    /// How its queries are sent.
    pub(super) fn way(&self) -> RequestWriter {
        RequestWriter {
            style: self.style,
            read_only: self.read_only,
            marker: Arc::clone(&self.marker),
            catalog_marker: Arc::clone(&self.catalog_marker),
            local: self.local.clone(),
            in_snapshot: self.in_snapshot,
        }
    }

    /// What the server has to be for its answers to count.
    pub(super) fn bound_to(&self) -> Option<ServerRole> {
        self.is_bound.then_some(self.standing)
    }

    /// What the server was found to be. What a session is bound to stays.
    pub(super) fn hear(&mut self, standing: Option<ServerRole>) {
        let Some(found) = standing.filter(|standing| *standing != self.standing) else { return };
        role(found.standby).clone_into(&mut self.facts.role);
        if !self.is_bound {
            self.standing = found;
        }
    }

    /// Asks the server what it is.
    fn ask_standing(&mut self, by: Deadline) -> Result<(), ExchangeError> {
        if self.style == QueryProtocol::Console {
            return self.talk.ask("SHOW VERSION", by).map(drop);
        }
        let tells = self.marker_kind.tells_read_only;
        let row = self.talk.ask(&guard_statement::standing(tells), by)?.pop().unwrap_or_default();
        let value = |column: usize| row.get(column).and_then(Option::as_deref);
        let found =
            ServerRole { standby: value(0) == Some("t"), read_only: tells.then(|| value(1) == Some("on")) };
        self.hear(Some(found));
        if self.is_bound && found != self.standing {
            return Err(ExchangeError::Lost(has_changed(found)));
        }
        Ok(())
    }

    /// Does something small between batches; whatever fails there costs the session.
    fn between(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut Self) -> Result<(), ExchangeError>,
        by: Deadline,
    ) -> Health {
        if let Err(error) = self.prepare_itself(by) {
            return Health::Lost(error);
        }
        match work(self) {
            Ok(()) => Health::Clean,
            Err(trouble) => Health::Lost(failed(what, trouble)),
        }
    }
}

impl Session for PgSession {
    fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        if let Some(health) = self.run_all(jobs, by) {
            return health;
        }
        self.talk.link.rest();
        Health::Clean
    }

    fn prepare(&mut self, statements: &[&Sql], by: Deadline) -> Health {
        self.prepare_all(statements, by)
    }

    fn ping(&mut self, by: Deadline) -> Health {
        self.between("ping", |session| session.ask_standing(by), by)
    }

    fn refresh(&mut self, by: Deadline) -> Health {
        self.between("the question for its role", |session| session.ask_standing(by), by)
    }

    fn describe(&mut self, sql: &Sql, by: Deadline) -> Result<Option<Vec<Column>>> {
        if self.style == QueryProtocol::Console {
            return Ok(None);
        }
        self.prepare_itself(by)?;
        self.admit(sql)?;
        match self.describe_unnamed(sql, by) {
            Ok(shape) => Ok(Some(shape.columns)),
            Err(ExchangeError::Refused(error)) => Err(error.of_statement(sql.text())),
            Err(trouble) => Err(failed("describing the statement", trouble)),
        }
    }

    fn rights(&mut self, by: Deadline) -> Result<Rights> {
        self.prepare_itself(by)?;
        let asked = match self.style {
            QueryProtocol::Console => privileges::ask_console(&mut self.talk, self.user.as_deref(), by),
            _ => privileges::ask(&mut self.talk, by),
        };
        asked.map_err(|trouble| failed("the question for its rights", trouble))
    }

    fn snapshot(&mut self, open: bool, by: Deadline) -> Health {
        let statement = if open { snapshot::open(self.local.as_deref()) } else { "ROLLBACK".to_owned() };
        let ask = |session: &mut Self| session.talk.ask(&statement, by).map(drop);
        let health = self.between("the snapshot's transaction", ask, by);
        self.in_snapshot = open;
        match health {
            // What a function set for the whole session went with its savepoint; a lock did not.
            Health::Clean if !open && self.home.is_some() && !self.reset(by).is_ok_and(|is_home| is_home) => {
                Health::Spent
            }
            health => health,
        }
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn distance(&self) -> Duration {
        self.talk.distance()
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::clone(&self.canceller) as Arc<dyn Canceller>
    }

    fn has_ended(&mut self) -> bool {
        self.talk.link.has_ended()
    }
}

impl Drop for PgSession {
    /// Says goodbye, so that neither the server nor a pooler logs a broken connection: a server that still works on a
    /// statement, which was cancelled before, reads it afterwards. Five bytes into an empty socket do not block; the
    /// deadline is for the case that they would.
    fn drop(&mut self) {
        self.talk.link.out.clear();
        frontend::terminate(&mut self.talk.link.out);
        let _ = self.talk.link.send(Deadline::within(Duration::from_millis(5)));
    }
}

pub(super) fn catalog_marker(kind: &guard_statement::GuardOptions) -> Arc<str> {
    guard_statement::text(&guard_statement::GuardOptions { catalog_only: true, ..kind.clone() }).into()
}

/// The role as `target_info` has it.
pub(super) fn role(standby: bool) -> &'static str {
    if standby { "replica" } else { "primary" }
}
