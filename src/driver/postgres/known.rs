//! What a session knows of its statements: which may be sent, what their results look like, which left it as it was.

use std::sync::Arc;

use postgres_protocol::message::frontend;

use crate::deadline::Deadline;
use crate::driver::Sql;
use crate::driver::statement::{Dialect, check_read_only, has_second_statement};
use crate::error::{Error, Reason, Result};

use super::errors::ServerError;
use super::marker;
use super::reply::Trouble;
use super::send::{Statement, Style};
use super::session::PgSession;
use super::talk::{Texts, execute};
use super::wire::Shape;

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
        if self.read_only {
            check_read_only(sql.text(), Dialect::Postgres)?;
        }
        // The one message of the simple style would let a second statement end our transaction.
        if self.style == Style::Simple && has_second_statement(sql.text(), Dialect::Postgres) {
            return Err(Error::new(
                Reason::Sql,
                "protocol: simple runs one statement a query, this has several",
            ));
        }
        Ok(())
    }

    /// Another way round what the server refuses; false when there is none.
    pub(super) fn adapt(&mut self, sql: &Sql, error: &ServerError) -> bool {
        if self.style != Style::Named {
            return false;
        }
        if error.is_of_a_pooler() {
            self.behind_pooler();
            return true;
        }
        // "cached plan must not change result type", after DDL.
        let stale = error.code == "0A000" && self.known.remove(sql.name()).is_some();
        stale && frontend::close(b'S', sql.name(), &mut self.talk.link.out).is_ok()
    }

    /// What is known of a statement; asks the server the first time.
    pub(super) fn learn(&mut self, name: &str, sql: &Sql, by: Deadline) -> Result<Statement, Trouble> {
        if let Some(known) = self.known.get(sql.name()) {
            return Ok(known.clone());
        }
        let shape = self.talk.describe_query(name, sql, by)?;
        Ok(self.remember(sql, shape))
    }

    /// A statement that the server has accepted.
    pub(super) fn remember(&mut self, sql: &Sql, shape: Shape) -> Statement {
        let undone = self.read_only && marker::sets_something(sql.text());
        let statement = Statement { shape: Arc::new(shape), undone, harmless: undone };
        self.known.insert(sql.name().to_owned(), statement.clone());
        statement
    }

    /// After a good run: looks once, as soon as there is time, whether a statement left the session as it was.
    pub(super) fn is_harmed(&mut self, sql: &Sql, by: Deadline) -> bool {
        let unseen = self.known.get(sql.name()).is_some_and(|statement| !statement.harmless);
        if self.home.is_none() || !unseen || by.passed() {
            return false;
        }
        let home = self.state(by).is_ok_and(|state| self.is_home(&state));
        if home {
            self.trust(sql);
        }
        !home
    }

    /// True when the session is as it was after its login.
    pub(super) fn is_home(&self, state: &[Texts]) -> bool {
        self.home.as_deref() == Some(state)
    }

    /// A good run of `sql` left the session as it was: that need not be asked again.
    pub(super) fn trust(&mut self, sql: &Sql) {
        if let Some(statement) = self.known.get_mut(sql.name()) {
            statement.harmless = true;
        }
    }

    pub(super) fn state(&mut self, by: Deadline) -> Result<Vec<Texts>, Trouble> {
        execute(marker::STATE, None, &mut self.talk.link.out)?;
        frontend::sync(&mut self.talk.link.out);
        self.talk.link.send(by)?;
        self.talk.rows(by)
    }
}
