//! One session: how it is set up after its login, what it prepares, and what a target asks of it.
//!
//! How it runs jobs is `batch`'s. What is sent for one query is `request`'s, the answer `response`'s, bytes are
//! `connection`'s.
//!
//! At the set-up nothing that stays is sent before the first answer: on the server connection of a pooler it would reach
//! other clients. The prepared statements leave with what the session is asked to do first, which saves a round trip.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postgres_protocol::message::frontend;

use crate::deadline::{Deadline, server_limit};
use crate::driver::statement::{Dialect, check_read_only, has_second_statement};
use crate::driver::{
    Canceller, Column, Health, Job, Parameter, Privileges, RelationName, ServerFacts, ServerWork, Session,
    Sql, too_few_parameters,
};
use crate::error::{Error, Reason, Result};

use super::batch::Batch;
use super::cancel::PgCanceller;
use super::connection::{ExchangeError, PgConnection, TextRow};
use super::errors::ServerError;
use super::guard_statement::{
    self, GUARD, GUARD_ROWS, PgServerRole, QueryLimits, RESET, STATE, SessionLimits,
};
use super::objects;
use super::options::{PoolerMode, TargetSessionAttrs};
use super::privileges;
use super::request::{
    QueryProtocol, RequestWriter, UNDO, execute, execute_text, fetch_guard_row, open_guard_rows,
};
use super::response::check_role;
use super::result_shape::{PgValueSpans, ResultShape};
use super::session_sql::{self, SessionSql, SessionStatement};
use super::statement_cache::{KnownStatement, PgServerInfo, StatementCache};

/// How many bytes leave at once. With more, the server may answer before it has read them, and both sides would wait; these
/// fit the buffers on the way.
pub(super) const MAX_SENT_AT_ONCE: usize = 32 * 1024;
/// How many queries share a `Sync`: until then the server keeps its answers in a buffer of 8 KiB, and with several groups
/// we read one group's while it works on the next. An error or a slow query delays as many.
pub(super) const GROUP_SIZE: usize = 10;
/// How long a statement that is only prepared may wait for a lock: it is prepared again when it runs.
const PREPARE_TIME: Duration = Duration::from_millis(100);

/// A live connection to PostgreSQL or to PgBouncer's console.
pub(super) struct PgSession {
    pub(super) connection: PgConnection,
    pub(super) requests: RequestWriter,
    pub(super) statements: StatementCache,
    pub(super) spans: PgValueSpans,
    /// The first entry of `session_sql` that sets something for the whole session.
    lasting_entry: Option<usize>,
    /// A pooler may hand the server connection to other clients, and other ones to us.
    may_be_shared: bool,
    /// What a backslash in a text means, where the session knows: `standard_conforming_strings`.
    conforming_strings: Option<bool>,
    /// The session ends when the server is not such a one any more.
    pub(super) wanted: TargetSessionAttrs,
    /// What it prepares for itself waits to be sent.
    is_unprepared: bool,
    /// The answer to [`guard_statement::GuardOptions::state`] of a session that no query has changed; each batch ends with
    /// that question. Not asked behind a pooler.
    initial_state: Option<Vec<TextRow>>,
    facts: ServerFacts,
    canceller: Arc<PgCanceller>,
}

impl PgSession {
    /// A session that nothing was sent on yet.
    pub(super) fn new(
        connection: PgConnection,
        requests: RequestWriter,
        server: Arc<PgServerInfo>,
        facts: ServerFacts,
        canceller: PgCanceller,
        wanted: TargetSessionAttrs,
    ) -> Self {
        PgSession {
            connection,
            statements: StatementCache::new(requests.guard.read_only, server),
            requests,
            spans: PgValueSpans::default(),
            lasting_entry: None,
            may_be_shared: false,
            conforming_strings: None,
            wanted,
            is_unprepared: false,
            initial_state: None,
            facts,
            canceller: Arc::new(canceller),
        }
    }

    /// Asks the first question: what the server is. The session then knows whether there is a pooler: where the mode is not
    /// known, there is none before a session that has the token of its login.
    ///
    /// # Errors
    /// What the server says; `timeout`, `lost`.
    pub(super) fn ask_first_question(
        &mut self,
        pooler: PoolerMode,
        token: Option<&str>,
        by: Deadline,
    ) -> Result<PgServerRole> {
        let asked = self.connection.ask(&guard_statement::first_question(), by);
        let asked =
            asked.map_err(|error| of_first_question(error.while_doing("the first question to the server")));
        let row = asked?.pop().unwrap_or_default();
        let value = |column: usize| row.get(column).and_then(Option::as_deref);
        let role = PgServerRole::of_row(&row);
        self.note_role(Some(role));
        let is_ours = match pooler {
            PoolerMode::Auto => token.is_some() && value(2) == token,
            PoolerMode::Session => true,
            PoolerMode::Transaction => false,
        };
        if is_ours {
            let backend = value(3).and_then(|pid| pid.parse().ok()).unwrap_or(0);
            self.canceller.backend.store(backend, Ordering::Relaxed);
        } else {
            self.expect_pooler();
        }
        Ok(role)
    }

    /// Runs `session_sql` and prepares what surrounds queries.
    ///
    /// # Errors
    /// What the server says to `session_sql`, or that a pooler would pass it on; `timeout`, `lost`.
    pub(super) fn set_up(&mut self, session_sql: &SessionSql, by: Deadline) -> Result<()> {
        self.lasting_entry = session_sql.lasting.first().map(|first| first.entry);
        self.check_sharing()?;
        self.requests.local = session_sql.local.as_ref().map(|local| local.sql.clone());
        self.run_session_sql(session_sql, by)?;
        match self.requests.protocol {
            QueryProtocol::Named => self.queue_preparations().map_err(unprepared),
            QueryProtocol::Simple => self.ask_initial_state(by),
            QueryProtocol::Unnamed | QueryProtocol::Console => Ok(()),
        }
    }

    /// Asks what a session of the simple protocol is like, where it is ours alone: it is reset as any other.
    fn ask_initial_state(&mut self, by: Deadline) -> Result<()> {
        if self.may_be_shared {
            return Ok(());
        }
        let question = self.requests.guard.state(self.can_be_reset());
        match self.connection.ask(&question, by) {
            Ok(state) => self.initial_state = Some(state),
            // Not everything that speaks PostgreSQL's protocol has all of this.
            Err(ExchangeError::Refused(_)) => {}
            Err(error) => return Err(unprepared(error)),
        }
        Ok(())
    }

    /// Runs `session_sql`, each statement in a message of its own; all are sent together.
    fn run_session_sql(&mut self, session_sql: &SessionSql, by: Deadline) -> Result<()> {
        let is_extended = matches!(self.requests.protocol, QueryProtocol::Named | QueryProtocol::Unnamed);
        let naming = (is_extended && !self.can_be_reset()).then(|| self.requests.guard.naming());
        let statements = || session_sql.lasting.iter().chain(&session_sql.local);
        // The name comes first, so that `session_sql` may set another.
        for sql in naming.iter().chain(statements().map(|statement| &statement.sql)) {
            frontend::query(sql, &mut self.connection.out).map_err(unprepared)?;
        }
        self.connection.send(by).map_err(unprepared)?;
        if naming.is_some() {
            self.connection.rows(by).map_err(unprepared)?;
        }
        for SessionStatement { entry, .. } in statements() {
            self.connection.rows(by).map_err(|error| in_session_sql(*entry, error))?;
        }
        Ok(())
    }

    fn queue_preparations(&mut self) -> io::Result<()> {
        self.is_unprepared = true;
        let unlimited = QueryLimits::new(Duration::MAX, SessionLimits::default());
        let (guard, resets) = (&self.requests.guard, self.can_be_reset());
        let out = &mut self.connection.out;
        if resets {
            execute_text(&guard.naming(), None, out)?;
        }
        frontend::sync(out);
        frontend::parse(GUARD, &guard.text(false), [], out)?;
        frontend::parse(RESET, guard_statement::RESET_ALL, [], out)?;
        frontend::parse(STATE, &guard.state(resets), [], out)?;
        execute(STATE, None, &[], out)?;
        frontend::sync(out);
        if let Some(local) = &self.requests.local {
            frontend::parse(session_sql::LOCAL, local, [], out)?;
            execute(session_sql::LOCAL, None, &[], out)?;
        }
        execute_text(&guard_statement::own_settings_question(), None, out)?;
        frontend::sync(out);
        // Not everything that speaks PostgreSQL's protocol lets portals wait while another statement runs.
        frontend::parse(GUARD_ROWS, &guard.guard_rows(GROUP_SIZE + 1), [], out)?;
        open_guard_rows(unlimited, out)?;
        fetch_guard_row(out)?;
        execute(GUARD, Some(unlimited), &[], out)?;
        fetch_guard_row(out)?;
        frontend::sync(out);
        Ok(())
    }

    /// Sends what the session has to prepare for itself, if it has not yet, and reads the answer.
    ///
    /// # Errors
    /// `lost`, `timeout`; what the server says to it.
    pub(super) fn prepare_itself(&mut self, by: Deadline) -> Result<()> {
        if self.is_unprepared {
            self.connection.send(by).map_err(unprepared)?;
        }
        self.read_preparations(by)
    }

    /// Reads the answer to what the session prepares for itself, once it was sent.
    fn read_preparations(&mut self, by: Deadline) -> Result<()> {
        if !std::mem::take(&mut self.is_unprepared) {
            return Ok(());
        }
        match self.take_preparations(by) {
            Err(ExchangeError::Refused(error)) if error.is_of_a_pooler() => {
                self.expect_pooler();
                self.check_sharing()
            }
            done => done.map_err(unprepared),
        }
    }

    fn take_preparations(&mut self, by: Deadline) -> Result<(), ExchangeError> {
        // All are read, whatever the first says: what follows would find the rest of them.
        let [named, state, own, guard_rows] = [(); 4].map(|()| self.connection.rows(by));
        named?;
        self.initial_state = Some(state?);
        let own = own?.pop().unwrap_or_default();
        let value = |column: usize| own.get(column).and_then(Option::as_deref);
        let millis = |column| value(column).and_then(|text| text.parse().ok()).unwrap_or(0);
        self.requests.own_limits = SessionLimits { statement: millis(0), lock: millis(1) };
        if self.wanted == TargetSessionAttrs::ReadWrite && value(2) == Some("on") {
            // `session_sql` has set it: it does not tell what the server is any more.
            self.wanted = TargetSessionAttrs::Primary;
        }
        self.conforming_strings = Some(value(3) == Some("on"));
        self.requests.has_guard_rows = match guard_rows {
            Ok(rows) => rows.len() == 3,
            Err(ExchangeError::Refused(_)) => false,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// From now on each transaction may run on another server connection.
    fn expect_pooler(&mut self) {
        self.statements.expect_pooler();
        self.forget_statements();
        self.canceller.backend.store(0, Ordering::Relaxed);
        self.may_be_shared = true;
        self.conforming_strings = None;
        self.initial_state = None;
    }

    /// What it has prepared is gone: from now on no statement has a name.
    pub(super) fn forget_statements(&mut self) {
        self.statements.clear();
        self.requests.expect_pooler();
    }

    /// An error where `session_sql` sets what other clients of a pooler would get.
    pub(super) fn check_sharing(&self) -> Result<()> {
        match self.lasting_entry {
            Some(entry) if self.may_be_shared => Err(would_be_shared(entry)),
            _ => Ok(()),
        }
    }

    /// True where a reset of all settings undoes nothing that `session_sql` has set.
    fn can_be_reset(&self) -> bool {
        self.lasting_entry.is_none()
    }

    /// What the server was found to be.
    pub(super) fn note_role(&mut self, role: Option<PgServerRole>) {
        if let Some(label) = role.map(PgServerRole::label).filter(|label| *label != self.facts.role) {
            label.clone_into(&mut self.facts.role);
        }
    }

    /// Asks the server what it is.
    fn ask_role(&mut self, by: Deadline) -> Result<(), ExchangeError> {
        if self.requests.protocol == QueryProtocol::Console {
            return self.connection.ask("SHOW VERSION", by).map(drop);
        }
        let row = self.connection.ask(&guard_statement::role_question(), by)?.pop().unwrap_or_default();
        let found = PgServerRole::of_row(&row);
        self.note_role(Some(found));
        check_role(self.wanted, found)
    }

    /// The checks before a statement is sent for the first time.
    pub(super) fn check(&self, sql: &Sql) -> Result<()> {
        if self.statements.contains(sql) {
            return Ok(());
        }
        // The protocol's texts end at one.
        if sql.text().contains('\0') {
            return Err(Error::new(Reason::Sql, "the statement contains a zero byte"));
        }
        for dialect in self.dialects(sql) {
            if self.requests.guard.read_only {
                check_read_only(sql.text(), *dialect)?;
            }
            // The one message of the simple protocol would let a second statement end our transaction.
            let is_simple = self.requests.protocol == QueryProtocol::Simple;
            if is_simple && has_second_statement(sql.text(), *dialect) {
                let message = "protocol: simple runs one statement a query, this has several";
                return Err(Error::new(Reason::Sql, message));
            }
        }
        Ok(())
    }

    /// Refuses parameters where the protocol has none.
    pub(super) fn check_parameters(&self, parameters: &[Parameter]) -> Result<()> {
        match self.requests.protocol.refuses_parameters() {
            Some(why) if !parameters.is_empty() => Err(Error::new(Reason::Sql, why)),
            _ => Ok(()),
        }
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

    /// It has run on this session, left it as it was, and may run together with others.
    pub(super) fn is_harmless(&self, sql: &Sql) -> bool {
        self.requests.protocol == QueryProtocol::Named
            && !self.requests.in_snapshot
            && self.statements.get(sql).is_some_and(KnownStatement::is_harmless)
    }

    /// Finds another way to send what the server refuses; false when there is none.
    pub(super) fn adapt(&mut self, sql: &Sql, error: &ServerError) -> bool {
        if error.is_of_a_pooler() {
            // Of what has left together the first one shows it. A transaction stays on its server connection.
            match self.requests.protocol {
                QueryProtocol::Named if self.requests.in_snapshot => self.forget_statements(),
                QueryProtocol::Named => self.expect_pooler(),
                _ => {}
            }
            return true;
        }
        // After DDL. A statement that was prepared anew has not run well yet, and is not tried without end.
        let has_old_parameters = error.may_be_of_old_parameters()
            && self
                .statements
                .get(sql)
                .is_some_and(|known| known.shape.parameters > 0 && known.is_harmless());
        if !(error.is_of_another_shape() || has_old_parameters) || !self.statements.remove(sql) {
            return false;
        }
        self.requests.protocol != QueryProtocol::Named
            || frontend::close(b'S', sql.name(), &mut self.connection.out).is_ok()
    }

    /// What the server may spend on a query that has `span` of its time, and until `by` with the round trip. The
    /// server is told a little less than what is left, so that its own answer comes first and the session lives on.
    pub(super) fn limits(&self, span: Duration, by: Deadline) -> QueryLimits {
        let left = by.left();
        // Round trips vary; and a busy server's first answers look more distant than it is.
        let round_trip = (self.connection.round_trip() * 5 / 4).min(left / 2);
        QueryLimits::new(span.min(server_limit(left)).min(left - round_trip), self.requests.own_limits)
    }

    /// Prepares statements that it will likely run. Those that the server refuses stay unknown.
    fn prepare_all(&mut self, statements: &[&Sql], by: Deadline) -> Result<(), Health> {
        if self.requests.protocol != QueryProtocol::Named || self.requests.in_snapshot {
            return Ok(());
        }
        let is_wanted = |sql: &&&Sql| !self.statements.contains(sql) && self.check(sql).is_ok();
        let wanted: Vec<&Sql> = statements.iter().filter(is_wanted).copied().collect();
        let mut wanted = wanted.as_slice();
        while !wanted.is_empty() {
            // What the session still has to prepare for itself leaves with them.
            let count = self.ask_shapes(wanted, PREPARE_TIME, by).map_err(lost)?;
            self.read_preparations(by).map_err(Health::Lost)?;
            let (asked, rest) = wanted.split_at(count);
            self.read_shapes(asked, |_| by).map_err(|(_, error)| lost(error))?;
            wanted = rest;
        }
        Ok(())
    }

    /// Asks for the shapes of as many statements as there is room for, and says how many.
    pub(super) fn ask_shapes(
        &mut self,
        statements: &[&Sql],
        allowance: Duration,
        by: Deadline,
    ) -> Result<usize, ExchangeError> {
        let limits = self.limits(allowance, by);
        let is_named = self.requests.protocol == QueryProtocol::Named;
        let out = &mut self.connection.out;
        let mut count = 0;
        for sql in statements {
            if count > 0 && out.len() + sql.text().len() > MAX_SENT_AT_ONCE {
                break;
            }
            self.requests.describe(if is_named { sql.name() } else { "" }, sql, limits, out)?;
            count += 1;
        }
        self.connection.send(by)?;
        Ok(count)
    }

    /// Remembers the shapes that come; returns what the server refuses, or at which statement the answers end.
    #[expect(clippy::result_large_err, reason = "it ends the session: rare, and handed on once")]
    pub(super) fn read_shapes<'s>(
        &mut self,
        asked: &[&'s Sql],
        due: impl Fn(&Sql) -> Deadline,
    ) -> Result<Vec<(&'s Sql, ServerError)>, (&'s Sql, ExchangeError)> {
        let (mut refused, mut accepted, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
        for &sql in asked {
            let by = due(sql);
            match self.connection.read_shape(by) {
                Ok(shape) => {
                    accepted.push(sql);
                    shapes.push(shape);
                }
                Err(ExchangeError::Refused(error)) => refused.push((sql, error)),
                Err(error) => return Err((sql, error)),
            }
            if self.requests.is_undone_at_once() {
                self.connection.rows(by).map_err(|error| (sql, error))?;
            } else if self.requests.in_snapshot && !refused.is_empty() {
                // The error of the statement is what matters, not that of the way back.
                self.roll_back(by).map_err(|error| (sql, error))?;
            }
        }
        if let Some(&first) = accepted.first() {
            self.connection.complete(&mut shapes, due(first)).map_err(|error| (first, error))?;
        }
        for (sql, shape) in accepted.into_iter().zip(shapes) {
            self.statements.insert(sql, shape);
        }
        Ok(refused)
    }

    /// The shape of a statement that is not kept.
    fn describe_unnamed(&mut self, sql: &Sql, by: Deadline) -> Result<ResultShape, ExchangeError> {
        let limits = self.limits(by.left(), by);
        self.requests.describe("", sql, limits, &mut self.connection.out)?;
        self.connection.send(by)?;
        let mut shapes = [self.connection.read_shape(by)?];
        self.connection.complete(&mut shapes, by)?;
        let [shape] = shapes;
        Ok(shape)
    }

    /// Leaves a transaction, or undoes what a query of a snapshot did.
    pub(super) fn roll_back(&mut self, by: Deadline) -> Result<(), ExchangeError> {
        let statement = if self.requests.in_snapshot { UNDO } else { "ROLLBACK" };
        self.connection.ask(statement, by).map(drop)
    }

    /// Where the session is ours alone, it can be reset. A pooler's server connection is not.
    pub(super) fn is_ours_alone(&self) -> bool {
        self.initial_state.is_some()
    }

    /// Puts the end of a batch behind what is sent, where the session is ours alone. A snapshot has its own.
    pub(super) fn queue_end(&mut self) -> io::Result<bool> {
        let is_reset = self.is_ours_alone() && !self.requests.in_snapshot;
        if is_reset {
            self.queue_reset()?;
        }
        Ok(is_reset)
    }

    /// Resets the session, and asks what it is like.
    pub(super) fn queue_reset(&mut self) -> io::Result<()> {
        let resets = self.can_be_reset();
        let out = &mut self.connection.out;
        if self.requests.protocol == QueryProtocol::Simple {
            let reset = if resets { guard_statement::RESET_ALL } else { "" };
            return frontend::query(&format!("{reset};{}", self.requests.guard.state(resets)), out);
        }
        if resets {
            execute(RESET, None, &[], out)?;
        }
        execute(STATE, None, &[], out)?;
        frontend::sync(out);
        Ok(())
    }

    /// Reads the answer; true when the session is as it was after its login.
    pub(super) fn read_reset(&mut self, by: Deadline) -> Result<bool, ExchangeError> {
        let state = self.connection.rows(by)?;
        let first = |rows: &[TextRow]| rows.first().and_then(|row| row.first().cloned()).flatten();
        let initial = self.initial_state.as_deref().and_then(first);
        Ok(initial.is_some() && initial == first(&state))
    }

    /// Resets the session; true when it is as it was after its login.
    fn reset(&mut self, by: Deadline) -> Result<bool, ExchangeError> {
        self.queue_reset()?;
        self.connection.send(by)?;
        self.read_reset(by)
    }

    /// Ends a batch by what its reset says: a session that is not as it was serves no more.
    pub(super) fn end_batch(&mut self, by: Deadline) -> Result<(), Health> {
        match self.read_reset(by) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Health::Spent),
            // The pooler that was just found does not know these statements either.
            Err(ExchangeError::Refused(_)) if !self.is_ours_alone() => Ok(()),
            Err(error) => Err(lost(error)),
        }
    }

    /// Does something small between batches; a failure there costs the session.
    fn between_batches(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut Self) -> Result<(), ExchangeError>,
        by: Deadline,
    ) -> Health {
        let prepared = self.prepare_itself(by);
        match prepared.and_then(|()| work(self).map_err(|error| error.while_doing(what))) {
            Ok(()) => Health::Clean,
            Err(error) => Health::Lost(error),
        }
    }
}

impl Session for PgSession {
    fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        if let Err(health) = Batch::run(self, jobs, by) {
            return health;
        }
        self.connection.release_buffers();
        Health::Clean
    }

    fn prepare(&mut self, statements: &[&Sql], by: Deadline) -> Health {
        if let Err(health) = self.prepare_all(statements, by) {
            return health;
        }
        if !self.is_unprepared {
            self.connection.release_buffers();
        }
        Health::Clean
    }

    fn ping(&mut self, by: Deadline) -> Health {
        self.between_batches("the question for its role", |session| session.ask_role(by), by)
    }

    fn describe(&mut self, sql: &Sql, parameters: usize, by: Deadline) -> Result<Option<Vec<Column>>> {
        if self.requests.protocol == QueryProtocol::Console {
            return Ok(None);
        }
        self.prepare_itself(by)?;
        self.check(sql)?;
        match self.describe_unnamed(sql, by) {
            Ok(shape) if shape.parameters > parameters => {
                Err(too_few_parameters(shape.parameters, parameters))
            }
            Ok(shape) => Ok(Some(shape.columns)),
            Err(ExchangeError::Refused(error)) => Err(error.of_statement(sql.text())),
            Err(error) => Err(error.while_doing("describing the statement")),
        }
    }

    fn privileges(&mut self, by: Deadline) -> Result<Privileges> {
        self.prepare_itself(by)?;
        let asked = match self.requests.protocol {
            // The console does not tell its user.
            QueryProtocol::Console => {
                privileges::ask_console(&mut self.connection, &self.canceller.startup.user, by)
            }
            _ => privileges::ask(&mut self.connection, by),
        };
        asked.map_err(|error| error.while_doing("the question for its rights"))
    }

    fn snapshot(&mut self, open: bool, by: Deadline) -> Health {
        let statement = if open { self.requests.open_snapshot() } else { "ROLLBACK".to_owned() };
        let mut answer = Vec::new();
        let ask = |session: &mut Self| session.connection.ask(&statement, by).map(|rows| answer = rows);
        let health = self.between_batches("the snapshot's transaction", ask, by);
        self.requests.in_snapshot = open;
        let found: Option<i32> =
            answer.pop().and_then(|mut row| row.pop()?).and_then(|backend| backend.parse().ok());
        let own = self.canceller.backend.load(Ordering::Relaxed);
        if own != 0 && found.is_some_and(|found| found != own) {
            self.expect_pooler();
        }
        // What a function set for the whole session went with its savepoint; a lock did not.
        let needs_reset = matches!(health, Health::Clean) && !open && self.is_ours_alone();
        if needs_reset && !self.reset(by).unwrap_or(false) { Health::Spent } else { health }
    }

    fn objects_question(&self, relations: &[RelationName]) -> Option<Sql> {
        // The console has neither.
        (self.facts.flavor == "postgresql").then(|| objects::objects_question(relations))
    }

    fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    fn round_trip_time(&self) -> Duration {
        self.connection.round_trip()
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::clone(&self.canceller) as Arc<dyn Canceller>
    }

    fn server_work(&mut self) -> ServerWork {
        self.connection.server_work()
    }
}

impl Drop for PgSession {
    /// Says goodbye: a server that still works on a statement, which was cancelled before, reads it afterwards. Five bytes
    /// into an empty socket do not block; the deadline is for the case that they would.
    fn drop(&mut self) {
        self.connection.terminate(Deadline::within(Duration::from_millis(5)));
    }
}

/// The session died.
pub(super) fn lost(error: impl Into<ExchangeError>) -> Health {
    Health::Lost(error.into().while_doing("running queries together"))
}

fn unprepared(error: impl Into<ExchangeError>) -> Error {
    error.into().while_doing("preparing the session")
}

/// `session_sql` may hold a secret, and some of the server's messages repeat what is in quotes: syntax errors and refused
/// values.
fn in_session_sql(entry: usize, error: ExchangeError) -> Error {
    let what = format!("session_sql {entry}");
    let error = error.while_doing(&what);
    match error.sqlstate() {
        Some(code) if code == "42601" || code.starts_with("22") => {
            let message = format!("{what}: the server refuses the statement");
            let hint = "the server's log has its message, which may repeat a secret";
            Error::new(error.reason(), message).with_sqlstate(code).with_hint(hint)
        }
        _ => error,
    }
}

fn would_be_shared(entry: usize) -> Error {
    let message = format!(
        "session_sql {entry}: the server is behind a pooler, whose other clients would get this setting, and this target's \
         queries may run without it"
    );
    let hint = "write SET LOCAL, which holds for each query alone; or, where the pooler's pool_mode is session, set \
                params: {pooler: session}";
    Error::new(Reason::Sql, message).with_hint(hint)
}

/// Says what to do where a login was accepted and the first question is not: by a pooler that has no server connection yet,
/// by a standby, by the console of PgBouncer, which knows nothing but its own commands.
fn of_first_question(error: Error) -> Error {
    if error.reason() == Reason::Timeout {
        return error.with_hint(
            "the login was accepted: a server that is far away takes a longer connect_timeout; or a pooler has no free server \
             connection, as with pool_mode session and more sessions than its pool_size: set max_server_connections to no more \
             than that",
        );
    }
    if error.sqlstate() == Some("0A000") && error.message().to_lowercase().contains("standby") {
        // A standby whose default is serializable: session_sql would come too late. Others have this code for what they lack.
        return error.with_hint(
            "on the primary: ALTER ROLE … SET default_transaction_isolation = 'repeatable read', for this target's user",
        );
    }
    if !error.message().contains("use SHOW HELP") {
        return error;
    }
    let error = error.with_reason(Reason::Protocol).with_meaning("this is the console of PgBouncer");
    error.with_hint("write `driver: pgbouncer`, in a URL pgbouncer:// instead of postgres://")
}
