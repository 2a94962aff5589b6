//! What a session knows of its statements: which may be sent, what their results look like, which left it as it was.

use std::io;
use std::sync::Arc;

use postgres_protocol::message::frontend;

use crate::deadline::Deadline;
use crate::driver::Sql;
use crate::driver::statement::{Dialect, check_read_only, has_second_statement};
use crate::error::{Error, Reason, Result};

use super::errors::ServerError;
use super::guard_statement;
use super::reply::ExchangeError;
use super::send::{KnownStatement, QueryProtocol};
use super::session::PgSession;
use super::talk::{Texts, execute};
use super::wire::ResultShape;

impl PgSession {
    /// The checks before a statement is sent for the first time.
    pub(super) fn admit(&self, sql: &Sql) -> Result<()> {
        if self.known.contains_key(sql.name()) {
            return Ok(());
        }
        // The protocol's texts end at one.
        if sql.text().contains('\0') {
            return Err(Error::new(Reason::Sql, "the statement holds a zero byte"));
        }
        for dialect in self.dialects(sql) {
            if self.read_only {
                check_read_only(sql.text(), *dialect)?;
            }
            // The one message of the simple style would let a second statement end our transaction.
            if self.style == QueryProtocol::Simple && has_second_statement(sql.text(), *dialect) {
                return Err(Error::new(
                    Reason::Sql,
                    "protocol: simple runs one statement a query, this has several",
                ));
            }
        }
        Ok(())
    }

    /// What a backslash may mean here; where the session does not know, the statement must be good either way.
    fn dialects(&self, sql: &Sql) -> &'static [Dialect] {
        match self.conforming_strings {
            _ if !sql.text().contains('\\') => &[Dialect::Postgres],
            Some(true) => &[Dialect::Postgres],
            Some(false) => &[Dialect::PostgresWithEscapes],
            None => &[Dialect::Postgres, Dialect::PostgresWithEscapes],
        }
    }

    /// Another way round what the server refuses; false when there is none.
    pub(super) fn adapt(&mut self, sql: &Sql, error: &ServerError) -> bool {
        if self.style == QueryProtocol::Named && error.is_of_a_pooler() {
            self.behind_pooler();
            return true;
        }
        // After DDL.
        if !error.is_of_another_shape() || self.known.remove(sql.name()).is_none() {
            return false;
        }
        self.style != QueryProtocol::Named
            || frontend::close(b'S', sql.name(), &mut self.talk.link.out).is_ok()
    }

    /// A statement that the server has accepted.
    pub(super) fn remember(&mut self, sql: &Sql, shape: ResultShape) {
        let undone =
            self.read_only && (guard_statement::sets_something(sql.text()) || self.learned.is_restless(sql));
        let statement = KnownStatement { shape: Arc::new(shape), undone, harmless: undone };
        self.known.insert(sql.name().to_owned(), statement);
    }

    /// A good run of `sql` left the session as it was: that need not be asked again.
    pub(super) fn trust(&mut self, sql: &Sql) {
        if let Some(statement) = self.known.get_mut(sql.name()) {
            statement.harmless = true;
        }
    }

    /// A statement has changed the settings that others read by: from now on it runs in a transaction that is rolled
    /// back, or, where it may write, as the last before the session is reset.
    pub(super) fn distrust(&mut self, sql: &Sql) {
        self.learned.note_restless(sql);
        if let Some(statement) = self.known.get_mut(sql.name()) {
            (statement.undone, statement.harmless) = (self.read_only, false);
        }
    }

    /// It was seen to change settings, and what it does stays: it may write.
    pub(super) fn is_unruly(&self, sql: &Sql) -> bool {
        !self.read_only && self.learned.is_restless(sql)
    }

    /// What ends a batch where the session is ours alone: it is reset, and asked what it is like.
    pub(super) fn queue_reset(&mut self) -> io::Result<()> {
        let out = &mut self.talk.link.out;
        if !self.has_lasting_sql {
            execute(guard_statement::RESET, None, &[], out)?;
        }
        execute(guard_statement::STATE, None, &[], out)?;
        frontend::sync(out);
        Ok(())
    }

    /// Reads the answer to [`PgSession::queue_reset`]; true when the session is as it was after its login.
    pub(super) fn read_reset(&mut self, by: Deadline) -> Result<bool, ExchangeError> {
        let state = self.talk.rows(by)?;
        Ok(self.home.as_deref().is_some_and(|home| is_same_state(home, &state)))
    }

    /// Both.
    pub(super) fn reset(&mut self, by: Deadline) -> Result<bool, ExchangeError> {
        self.queue_reset()?;
        self.talk.link.send(by)?;
        self.read_reset(by)
    }
}

/// Whether two answers to [`guard_statement::state`] tell of the same state.
fn is_same_state(one: &[Texts], other: &[Texts]) -> bool {
    let first = |rows: &[Texts]| rows.first().and_then(|row| row.first().cloned()).flatten();
    first(one).is_some() && first(one) == first(other)
}
