//! The set-up of a session after its login: which server this is, whether a pooler stands before it, `session_sql`, and
//! the prepared statements that stand around queries.
//!
//! Nothing that stays is sent before the first answer: on the server connection of a pooler it would reach other clients.
//! The prepared statements leave with what the session is asked to do first, which saves a round trip.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::backend as tags;
use postgres_protocol::message::frontend;

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};

use super::guard_statement;
use super::guard_statement::{QueryLimits, ServerRole, SessionLimits};
use super::reply::ExchangeError;
use super::send::{QueryProtocol, open_ticks, tick};
use super::session::{PgSession, catalog_marker, role};
use super::setting;
use super::setting::SessionSql;
use super::talk::{Texts, execute, execute_text, failed, hushed};

/// So many queries of a group share a `Sync`: until then the server keeps its answers in a buffer of 8 KiB, and with
/// several groups we read one group's while it works on the next. An error or a slow query holds up as many.
pub(super) const UNDER_ONE_SYNC: usize = 10;

/// What is known of poolers from the configuration and from earlier sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AssumedPooler<'t> {
    /// The session is ours alone if it has this token.
    Unknown(&'t str),
    /// A pooler hands each transaction to any server connection.
    Transactions,
    /// A pooler keeps one server connection for each session.
    Sessions,
}

/// What the first answer said.
pub(super) struct FirstAnswer {
    pub(super) standby: bool,
    /// A new transaction may only read.
    pub(super) read_only: bool,
}

impl PgSession {
    /// Asks the first question. The session then knows its server's role, and whether a pooler is on the way.
    ///
    /// # Errors
    /// What the server says; `timeout`, `lost`.
    pub(super) fn greet(&mut self, through: AssumedPooler<'_>, by: Deadline) -> Result<FirstAnswer> {
        let asked = self.talk.ask(&guard_statement::greeting(), by);
        let mut rows = asked.map_err(|trouble| failed("the first question to the server", trouble))?;
        let row = rows.pop().unwrap_or_default();
        let value = |column: usize| row.get(column).and_then(Option::as_deref);
        let standby = value(0) == Some("t");
        let tells = self.marker_kind.tells_read_only;
        self.standing = ServerRole { standby, read_only: tells.then(|| value(1) == Some("on")) };
        self.facts.role = role(standby).to_owned();
        let is_ours = match through {
            AssumedPooler::Unknown(token) => value(3) == Some(token),
            AssumedPooler::Transactions => false,
            AssumedPooler::Sessions => true,
        };
        if is_ours {
            let backend = value(4).and_then(|pid| pid.parse().ok()).unwrap_or(0);
            self.canceller.backend.store(backend, Ordering::Relaxed);
        } else {
            self.behind_pooler();
        }
        Ok(FirstAnswer { standby, read_only: value(2) == Some("on") })
    }

    /// Runs `session_sql` and prepares what stands around queries.
    ///
    /// # Errors
    /// What the server says to `session_sql`, or that a pooler would pass it on; `timeout`, `lost`.
    pub(super) fn settle_in(&mut self, session_sql: &SessionSql, by: Deadline) -> Result<()> {
        if let (true, Some(entry)) = (self.may_be_shared, session_sql.lasting.first()) {
            return Err(would_be_shared(entry.place));
        }
        self.has_lasting_sql = !session_sql.lasting.is_empty();
        self.local = session_sql.local.as_ref().map(|entry| entry.sql.as_str().into());
        if self.style == QueryProtocol::Simple {
            let all = session_sql.lasting.iter().chain(&session_sql.local);
            return self.run_settings(all.map(|entry| (entry.place, entry.sql.as_str())), by);
        }
        let name = if self.style == QueryProtocol::Named { setting::NAME } else { "" };
        let naming = guard_statement::naming(&self.marker_kind.application_name, self.watches());
        let queued = queue_settings(session_sql, name, &naming, &mut self.talk.link.out);
        if queued.map_err(unprepared)? {
            self.talk.link.send(by).map_err(unprepared)?;
            self.read_settings(session_sql, by)?;
        }
        if self.style == QueryProtocol::Named {
            self.queue_preparations().map_err(unprepared)?;
        }
        Ok(())
    }

    /// Sends what the session has to prepare for itself, if it has not yet, and reads the answer.
    ///
    /// # Errors
    /// `lost`, `timeout`; what the server says to it.
    pub(super) fn prepare_itself(&mut self, by: Deadline) -> Result<()> {
        if self.is_unprepared {
            self.talk.link.send(by).map_err(unprepared)?;
        }
        self.read_preparations(by)
    }

    /// Reads the answer to what the session prepares for itself, once it was sent.
    pub(super) fn read_preparations(&mut self, by: Deadline) -> Result<()> {
        if !std::mem::take(&mut self.is_unprepared) {
            return Ok(());
        }
        match self.take_preparations(by) {
            Err(ExchangeError::Refused(error)) if error.is_of_a_pooler() => {
                self.behind_pooler();
                self.check_sharing()
            }
            done => done.map_err(|trouble| failed("preparing the session", trouble)),
        }
    }

    /// Runs statements of `session_sql` by the simple protocol, each by itself.
    ///
    /// # Errors
    /// What the server says; `timeout`, `lost`.
    pub(super) fn run_settings<'s>(
        &mut self,
        statements: impl Iterator<Item = (usize, &'s str)>,
        by: Deadline,
    ) -> Result<()> {
        for (place, sql) in statements {
            self.talk.ask(sql, by).map_err(|trouble| in_settings(place, trouble))?;
        }
        Ok(())
    }

    /// An error where `session_sql` has run on what turned out to be a pooler's server connection.
    pub(super) fn check_sharing(&self) -> Result<()> {
        if self.has_lasting_sql && self.may_be_shared { Err(would_be_shared(1)) } else { Ok(()) }
    }

    pub(super) fn behind_pooler(&mut self) {
        self.learned.note_pooler();
        self.canceller.backend.store(0, Ordering::Relaxed);
        if self.style == QueryProtocol::Named {
            self.style = QueryProtocol::Unnamed;
        }
        self.may_be_shared = true;
        self.marker_kind.pooled = true;
        self.marker = guard_statement::text(&self.marker_kind).into();
        self.catalog_marker = catalog_marker(&self.marker_kind);
        self.conforming_strings = None;
        self.home = None;
        self.known.clear();
    }

    /// The server can look during a statement whether its client is still there.
    fn watches(&self) -> bool {
        let digits: String = self.facts.version.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().is_ok_and(|major: u32| major >= guard_statement::WATCHES_SINCE)
    }

    fn queue_preparations(&mut self) -> io::Result<()> {
        self.is_unprepared = true;
        let unlimited = QueryLimits::new(Duration::MAX, SessionLimits::default());
        let (watches, resets) = (self.watches(), !self.has_lasting_sql);
        let out = &mut self.talk.link.out;
        if resets {
            execute_text(
                &guard_statement::naming(&self.marker_kind.application_name, watches),
                None,
                &[],
                out,
            )?;
        }
        frontend::sync(out);
        frontend::parse(guard_statement::NAME, &self.marker, [], out)?;
        frontend::parse(guard_statement::RESET, guard_statement::RESET_ALL, [], out)?;
        frontend::parse(
            guard_statement::STATE,
            &guard_statement::state(&self.marker_kind, resets, watches),
            [],
            out,
        )?;
        execute(guard_statement::STATE, None, &[], out)?;
        frontend::sync(out);
        if self.local.is_some() {
            execute(setting::NAME, None, &[], out)?;
        }
        execute_text(&guard_statement::own(), None, &[], out)?;
        frontend::sync(out);
        // Not everything that speaks PostgreSQL's protocol lets portals wait while another statement runs.
        frontend::parse(
            guard_statement::TICKS,
            &guard_statement::ticks(&self.marker_kind, UNDER_ONE_SYNC + 1),
            [],
            out,
        )?;
        open_ticks(unlimited, out)?;
        tick(out)?;
        execute(guard_statement::NAME, Some(unlimited), &[], out)?;
        tick(out)?;
        frontend::sync(out);
        Ok(())
    }

    /// The answers to `session_sql`. The first error ends them.
    fn read_settings(&mut self, session_sql: &SessionSql, by: Deadline) -> Result<()> {
        if !session_sql.lasting.is_empty() {
            // The name comes first, so that `session_sql` may give another.
            let mut done = 0;
            let read = self.talk.collect(by, |tag, _| {
                let ends = matches!(tag, tags::COMMAND_COMPLETE_TAG | tags::EMPTY_QUERY_RESPONSE_TAG);
                done += usize::from(ends);
                Some(())
            });
            let failed: usize = done.saturating_sub(1);
            let place = session_sql.lasting.get(failed).map_or(0, |entry| entry.place);
            read.map_err(|trouble| in_settings(place, trouble))?;
        }
        if let Some(entry) = &session_sql.local {
            self.talk.rows(by).map_err(|trouble| in_settings(entry.place, trouble))?;
        }
        Ok(())
    }

    fn take_preparations(&mut self, by: Deadline) -> Result<(), ExchangeError> {
        // All are read, whatever the first says: what follows would find the rest of them.
        let [named, home, own, ticks] = [(); 4].map(|()| self.talk.rows(by));
        named?;
        self.home = Some(home?);
        let own: Texts = own?.pop().unwrap_or_default();
        let value = |column: usize| own.get(column).and_then(Option::as_deref);
        let millis = |column| value(column).and_then(|text| text.parse().ok()).unwrap_or(0);
        self.own = SessionLimits { statement: millis(0), lock: millis(1) };
        self.standing.read_only = self.standing.read_only.map(|_| value(2) == Some("on"));
        self.conforming_strings = Some(value(3) == Some("on"));
        self.ticks = match ticks {
            Ok(rows) => rows.len() == 3,
            Err(ExchangeError::Refused(_)) => false,
            Err(trouble) => return Err(trouble),
        };
        Ok(())
    }
}

/// Puts `session_sql` into `out`; false when there is none. `name` is what the `SET LOCAL` ones are prepared as.
fn queue_settings(
    session_sql: &SessionSql,
    name: &str,
    naming: &str,
    out: &mut BytesMut,
) -> io::Result<bool> {
    if !session_sql.lasting.is_empty() {
        execute_text(naming, None, &[], out)?;
    }
    for entry in &session_sql.lasting {
        execute_text(&entry.sql, None, &[], out)?;
    }
    if !session_sql.lasting.is_empty() {
        frontend::sync(out);
    }
    if let Some(local) = &session_sql.local {
        frontend::parse(name, &local.sql, [], out)?;
        execute(name, None, &[], out)?;
        frontend::sync(out);
    }
    Ok(!out.is_empty())
}

fn in_settings(place: usize, trouble: ExchangeError) -> Error {
    hushed(failed(&format!("session_sql {place}"), trouble))
}

fn unprepared(error: io::Error) -> Error {
    failed("preparing the session", error.into())
}

fn would_be_shared(place: usize) -> Error {
    let message = format!(
        "session_sql {place}: the server is behind a pooler, whose other clients would get this setting, and this target's \
         queries may run without it"
    );
    let hint = "write SET LOCAL, which holds for each query alone; or, where the pooler's pool_mode is session, set \
                params: {pooler: session}";
    Error::new(Reason::Sql, message).with_hint(hint)
}
