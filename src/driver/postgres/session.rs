//! One session: sends each query with its marker and hands the answer to the job's sink.
//!
//! Owns the order of messages and the ways round a pooler. One `Sync` per query: what is sent for one query is
//! [`PgSession::queue`], so that several may go under one `Sync` later. Bytes are `wire`'s, the answer is `reply`'s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres_protocol::message::backend as tags;
use postgres_protocol::message::frontend;

use crate::deadline::Deadline;
use crate::driver::statement::{Dialect, check_read_only, has_second_statement};
use crate::driver::{Canceller, Facts, Health, Job, Session, Sql};
use crate::error::{Error, Reason, Result};

use super::errors::ServerError;
use super::marker;
use super::reply::{Over, Reply, Transaction, Trouble, Wrong, garbled};
use super::types::Types;
use super::wire::{Fields, Link, Shape, Spans};

/// How queries are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Prepared once per session, by name.
    Named,
    /// Parsed each time: behind a pooler a prepared statement may be on another server connection.
    Unnamed,
    /// The simple protocol, in a transaction of its own.
    Simple,
    /// PgBouncer's console: the bare text.
    Console,
}

/// A live connection to PostgreSQL or to PgBouncer's console.
pub(super) struct PgSession {
    link: Link,
    style: Style,
    /// A pooler drops the startup options: the marker sets them.
    pooled: bool,
    read_only: bool,
    prepared: HashMap<String, Arc<Shape>>,
    types: Types,
    spans: Spans,
    facts: Facts,
    canceller: Arc<dyn Canceller>,
    /// Nothing is under way: the server may be told goodbye.
    idle: bool,
}

impl PgSession {
    /// A session on a stream that was logged in on. Nothing is sent yet.
    pub(super) fn new(
        link: Link,
        style: Style,
        read_only: bool,
        facts: Facts,
        canceller: Arc<dyn Canceller>,
    ) -> Self {
        PgSession {
            link,
            style,
            pooled: false,
            read_only,
            prepared: HashMap::new(),
            types: Types::default(),
            spans: Spans::default(),
            facts,
            canceller,
            idle: true,
        }
    }

    /// Runs `session_sql`, learns whether the startup options hold, prepares the marker. `with_options`: the server
    /// accepted them.
    ///
    /// # Errors
    /// What the server says to `session_sql`; `timeout`, `lost`.
    pub(super) fn prepare(&mut self, session_sql: &[String], with_options: bool, by: Deadline) -> Result<()> {
        for sql in session_sql {
            self.ask(sql, by).map_err(|trouble| failed("session_sql", sql, trouble))?;
        }
        if matches!(self.style, Style::Console | Style::Simple) {
            // Each transaction of the simple style sets them.
            self.pooled = self.style == Style::Simple;
            return Ok(());
        }
        let check = marker::check();
        let holds = self
            .ask(&check, by)
            .map_err(|trouble| failed("check of the session's settings", &check, trouble))?;
        self.pooled = !with_options || !matches!(holds.as_slice(), [row] if row == &[Some("t".to_owned())]);
        if self.pooled && !with_options {
            self.style = Style::Unnamed;
            return Ok(());
        }
        let text = marker::text(self.read_only, self.pooled);
        match self.describe(marker::NAME, &text, by) {
            Ok(_) => Ok(()),
            Err(Trouble::Refused(error)) if is_pooler(&error) => {
                self.behind_pooler();
                Ok(())
            }
            Err(trouble) => Err(failed("marker", &text, trouble)),
        }
    }

    fn behind_pooler(&mut self) {
        self.style = Style::Unnamed;
        self.pooled = true;
        self.prepared.clear();
    }

    /// Runs `sql` by the simple protocol, without marker, and collects its rows as text: for what the session itself
    /// wants to know.
    pub(super) fn ask(&mut self, sql: &str, by: Deadline) -> Result<Vec<Vec<Option<String>>>, Trouble> {
        frontend::query(sql, &mut self.link.out)?;
        self.link.send(by)?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            let frame = self.link.next(by)?;
            match frame.tag {
                tags::DATA_ROW_TAG => rows.push(texts(self.link.body(&frame)).ok_or_else(garbled)?),
                tags::ERROR_RESPONSE_TAG => {
                    let error = ServerError::read(self.link.body(&frame));
                    if error.fatal {
                        return Err(Trouble::Lost(error.of_statement(sql)));
                    }
                    refused = Some(error);
                }
                tags::READY_FOR_QUERY_TAG => break,
                _ => {}
            }
        }
        refused.map_or(Ok(rows), |error| Err(Trouble::Refused(error)))
    }

    /// Parses `text` as `name` in a `Sync` of its own and learns the shape of its result.
    fn describe(&mut self, name: &str, text: &str, by: Deadline) -> Result<Shape, Trouble> {
        let out = &mut self.link.out;
        frontend::parse(name, text, [], out)?;
        frontend::describe(b'S', name, out)?;
        frontend::sync(out);
        self.link.send(by)?;
        let mut shape = Shape::default();
        let mut refused = None;
        loop {
            let frame = self.link.next(by)?;
            match frame.tag {
                tags::ROW_DESCRIPTION_TAG => {
                    shape = Shape::read(self.link.body(&frame)).ok_or_else(garbled)?;
                }
                tags::ERROR_RESPONSE_TAG => {
                    let error = ServerError::read(self.link.body(&frame));
                    if error.fatal {
                        return Err(Trouble::Lost(error.of_statement(text)));
                    }
                    refused = Some(error);
                }
                tags::READY_FOR_QUERY_TAG => break,
                _ => {}
            }
        }
        if let Some(error) = refused {
            return Err(Trouble::Refused(error));
        }
        if let Some(question) = self.types.question(&shape) {
            for row in self.ask(&question, by)? {
                self.types.learn(&row);
            }
        }
        Ok(self.types.complete(shape))
    }

    /// Runs one job to its end; `None` when the session serves the next.
    fn one(&mut self, job: &mut Job<'_>, by: Deadline) -> Option<Health> {
        let start = Instant::now();
        let by = by.min(Deadline::after(start, job.allowance));
        if let Err(error) = self.admit(job.sql) {
            job.sink.end(Err(error), Duration::ZERO);
            return None;
        }
        let mut tries = 0;
        let trouble = loop {
            if by.passed() {
                // Nothing was sent, or the server has answered: the session is as good as before.
                job.sink.end(Err(late(start)), start.elapsed());
                return None;
            }
            match self.attempt(job, by) {
                Ok(over) => return self.end(job, over, start, by),
                Err(Trouble::Refused(error)) if tries < 2 && self.adapt(job.sql, &error) => tries += 1,
                Err(trouble) => break trouble,
            }
        };
        match trouble {
            Trouble::Refused(error) => {
                let at = Instant::now();
                let over = Over { verdict: Err(Wrong::Server(error)), at, ready: Some(Transaction::Open) };
                self.end(job, over, start, by)
            }
            Trouble::Late => {
                job.sink.end(Err(late(start)), start.elapsed());
                Some(Health::Spent)
            }
            Trouble::Lost(error) => Some(Health::Lost(error)),
        }
    }

    /// The checks before a statement is sent for the first time.
    fn admit(&self, sql: &Sql) -> Result<()> {
        if self.prepared.contains_key(sql.name()) {
            return Ok(());
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
    fn adapt(&mut self, sql: &Sql, error: &ServerError) -> bool {
        if self.style != Style::Named {
            return false;
        }
        if is_pooler(error) {
            self.behind_pooler();
            return true;
        }
        // "cached plan must not change result type", after DDL.
        let stale = error.code == "0A000" && self.prepared.remove(sql.name()).is_some();
        stale && frontend::close(b'S', sql.name(), &mut self.link.out).is_ok()
    }

    /// Sends the query and reads its answer.
    fn attempt(&mut self, job: &mut Job<'_>, by: Deadline) -> Result<Over, Trouble> {
        let shape = self.queue(job.sql, by)?;
        self.link.send(by)?;
        let before = match self.style {
            Style::Console => 0,
            Style::Named | Style::Unnamed => 1,
            // BEGIN and the marker.
            Style::Simple => 2,
        };
        let mut reply = Reply::new(job, &self.types, shape, before);
        let over = reply.read(&mut self.link, &mut self.spans, by);
        if let Some(standby) = reply.standby {
            self.facts.role = role(standby).to_owned();
        }
        over
    }

    /// Puts into `out` what runs the query once. The shape is known where the server keeps to it.
    fn queue(&mut self, sql: &Sql, by: Deadline) -> Result<Option<Arc<Shape>>, Trouble> {
        if matches!(self.style, Style::Named | Style::Unnamed) && !self.prepared.contains_key(sql.name()) {
            let name = if self.style == Style::Named { sql.name() } else { "" };
            let shape = Arc::new(self.describe(name, sql.text(), by)?);
            self.prepared.insert(sql.name().to_owned(), shape);
        }
        let timeout = marker::timeout_millis(by.left());
        let out = &mut self.link.out;
        match self.style {
            Style::Named => {
                execute(marker::NAME, Some(&timeout), out)?;
                execute(sql.name(), None, out)?;
                frontend::sync(out);
                return Ok(self.prepared.get(sql.name()).cloned());
            }
            Style::Unnamed => {
                frontend::parse("", &marker::text(self.read_only, self.pooled), [], out)?;
                execute("", Some(&timeout), out)?;
                frontend::parse("", sql.text(), [], out)?;
                // What it looks like may have changed since: there is no plan that the server would have to keep to.
                frontend::describe(b'S', "", out)?;
                execute("", None, out)?;
                frontend::sync(out);
            }
            Style::Simple => {
                let marker = marker::text(self.read_only, self.pooled).replace("$1", &format!("'{timeout}'"));
                let last = if self.read_only { "ROLLBACK" } else { "COMMIT" };
                // The line end closes a comment.
                frontend::query(&format!("BEGIN;{marker};\n{}\n;{last}", sql.text()), out)?;
            }
            Style::Console => frontend::query(sql.text(), out)?,
        }
        Ok(None)
    }

    /// Tells the sink, and leaves a transaction that the query left open.
    fn end(&mut self, job: &mut Job<'_>, over: Over, start: Instant, by: Deadline) -> Option<Health> {
        let verdict = over.verdict.map_err(|wrong| match wrong {
            Wrong::Ours(error) => error,
            Wrong::Server(error) if error.is_statement_timeout() => late(start).with_sqlstate(error.code),
            Wrong::Server(error) if error.code == "57014" && by.passed() => {
                late(start).with_sqlstate(error.code)
            }
            Wrong::Server(error) => error.of_statement(job.sql.text()),
        });
        job.sink.end(verdict, over.at.saturating_duration_since(start));
        match over.ready {
            None => Some(Health::Spent),
            Some(Transaction::None) => None,
            Some(Transaction::Open) if self.style == Style::Console => None,
            Some(Transaction::Open) => self.ask("ROLLBACK", by).is_err().then_some(Health::Spent),
        }
    }

    fn exchange_nothing(&mut self, by: Deadline) -> Result<(), Trouble> {
        match self.style {
            Style::Named | Style::Unnamed => {
                frontend::sync(&mut self.link.out);
                self.link.send(by)?;
                while self.link.next(by)?.tag != tags::READY_FOR_QUERY_TAG {}
                Ok(())
            }
            Style::Simple => self.ask("", by).map(drop),
            Style::Console => self.ask("SHOW VERSION", by).map(drop),
        }
    }
}

impl Session for PgSession {
    fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        let last = jobs.len().saturating_sub(1);
        for (index, job) in jobs.iter_mut().enumerate() {
            self.idle = false;
            match self.one(job, by) {
                None => self.idle = true,
                // The neighbours' turn never came.
                Some(Health::Spent) if index < last => {
                    return Health::Lost(Error::new(Reason::Lost, "the session ended with the query before"));
                }
                Some(health) => return health,
            }
        }
        self.link.rest();
        Health::Clean
    }

    fn ping(&mut self, by: Deadline) -> Health {
        self.idle = false;
        match self.exchange_nothing(by) {
            Ok(()) => {
                self.idle = true;
                Health::Clean
            }
            Err(trouble) => Health::Lost(failed("ping", "", trouble)),
        }
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::clone(&self.canceller)
    }
}

impl Drop for PgSession {
    /// Says goodbye to a server that waits for us, so that neither it nor a pooler logs a broken connection. Five
    /// bytes into an empty socket do not block; the deadline is for the case that they would.
    fn drop(&mut self) {
        if self.idle {
            frontend::terminate(&mut self.link.out);
            let _ = self.link.send(Deadline::within(Duration::from_millis(5)));
        }
    }
}

/// The role as `target_info` has it.
pub(super) fn role(standby: bool) -> &'static str {
    if standby { "replica" } else { "primary" }
}

/// A prepared statement that is not there, or is already: several server connections take turns behind this one.
fn is_pooler(error: &ServerError) -> bool {
    matches!(error.code.as_str(), "26000" | "42P05")
}

fn late(start: Instant) -> Error {
    Error::new(
        Reason::Timeout,
        format!("not finished after {:.1?}: stopped at its deadline", start.elapsed()),
    )
}

/// An error of what the session does for itself.
pub(super) fn failed(what: &str, sql: &str, trouble: Trouble) -> Error {
    match trouble {
        Trouble::Refused(error) => {
            let error = error.of_statement(sql);
            let named = Error::new(error.reason(), format!("{what}: {}", error.message()));
            match error.sqlstate() {
                Some(code) => named.with_sqlstate(code),
                None => named,
            }
        }
        Trouble::Late => Error::new(Reason::Timeout, format!("{what}: no answer in time")),
        Trouble::Lost(error) => error,
    }
}

/// Binds and executes a prepared statement, with text results and at most one text parameter.
fn execute(name: &str, parameter: Option<&str>, out: &mut bytes::BytesMut) -> Result<(), Trouble> {
    let write = |value: &str, out: &mut bytes::BytesMut| {
        out.extend_from_slice(value.as_bytes());
        Ok(postgres_protocol::IsNull::No)
    };
    // Only a statement's text could hold a zero byte, and that was parsed before.
    let bound = frontend::bind("", name, [], parameter, write, [], out);
    bound.map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    frontend::execute("", 0, out)?;
    Ok(())
}

/// A row's values as text.
fn texts(body: &[u8]) -> Option<Vec<Option<String>>> {
    let mut fields = Fields(body);
    let count = fields.short()?;
    (0..count)
        .map(|_| match fields.long()? {
            u32::MAX => Some(None),
            length => {
                fields.bytes(length as usize).map(|value| Some(String::from_utf8_lossy(value).into_owned()))
            }
        })
        .collect()
}
