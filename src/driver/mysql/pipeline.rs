//! Jobs on their way: preparing statements, and running several of them, in one round trip each.
//!
//! Each job is two commands, the limits and the statement: the server's own deadline and read-only mode are set again
//! before each statement, whatever the last one did to them (a stored function may). All are sent together, and the
//! answers are read one by one. The server goes on after an error, so that a job which fails costs its neighbours nothing.
//! The server's limit comes first and leaves the connection usable; when the server does not answer, ours follows, and
//! the connection is closed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashlink::LruCache;

use crate::deadline::Deadline;
use crate::driver::sql_position::with_position;
use crate::driver::statement::{Dialect, check_read_only};
use crate::driver::{Job, RowSink, Sql, too_few_parameters};
use crate::error::{Error, Reason, Result};

use super::errors::CallError;
use super::login::LoginServer;
use super::packet::{ColumnDefinition, MySqlError, PreparedStatement, RowFormat};
use super::protocol::{MySqlAnswer, ProtocolClient, answer};
use super::result_reader::{ConnectionHealth, GRACE, JobAnswer, RowsRead, SentJob, SessionChange, read_rows};
use super::server_info::{ServerInfo, read_count};
use super::session_changes::Suspicion;

/// How long a session may take to reset what a query left behind.
const RESET_TIMEOUT: Duration = Duration::from_secs(1);

/// A session of this age may have fewer privileges than its user: global ones, roles and limits are those of the login.
const OLD_LOGIN: Duration = Duration::from_secs(20);

/// More than any configuration has queries for one target.
const MAX_STATEMENTS: usize = 4096;

/// Jobs that have not ended, in order.
pub(super) type Jobs<'j, 'q> = VecDeque<&'j mut Job<'q>>;

/// Jobs whose result may be incomplete, as the server's limit may have ended their statements.
type DoubtfulJobs<'j, 'q> = VecDeque<(&'j mut Job<'q>, JobAnswer)>;

/// How a statement is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Execution {
    /// By its number in the server, with so many parameters.
    Prepared { id: u32, parameters: usize },
    /// As text: the server does not prepare its kind.
    Text,
}

impl Execution {
    fn number(self) -> Option<u32> {
        match self {
            Execution::Prepared { id, .. } => Some(id),
            Execution::Text => None,
        }
    }
}

/// How the statements of one session are run, by name. The numbers are valid as long as the server's session: a reset ends
/// them.
type PreparedStatements = LruCache<String, Execution>;

/// Adds a statement. Returns the number of one that the server may forget: the statement's own one of before, or that of
/// the least recently used one.
fn remember(statements: &mut PreparedStatements, sql: &Sql, execution: Execution) -> Option<u32> {
    let is_full = statements.len() >= MAX_STATEMENTS && !statements.contains_key(sql.name());
    let removed = if is_full { statements.remove_lru().map(|(_, execution)| execution) } else { None };
    let before = statements.insert(sql.name().to_owned(), execution);
    removed.or(before).and_then(Execution::number)
}

/// What it takes to run statements on one connection.
pub(super) struct Pipeline {
    pub(super) client: ProtocolClient,
    pub(super) info: ServerInfo,
    server: Arc<LoginServer>,
    statements: PreparedStatements,
    /// How many statements the server's limit has ended, as it counts them; `None` while that is not known.
    timeouts: Option<u64>,
    /// One transaction is around what runs.
    pub(super) in_snapshot: bool,
    /// The session is not what it was after its login, or may not be.
    is_changed: bool,
    /// The query behind the batch found a variable or a lock.
    probe_found_change: bool,
    opened: Instant,
    /// What another login may allow: the last thing that the server refused to an old one.
    pub(super) refused_to_old: Option<Error>,
}

impl Pipeline {
    /// Of a connection that was set up.
    pub(super) fn new(client: ProtocolClient, info: ServerInfo, server: &Arc<LoginServer>) -> Self {
        Pipeline {
            client,
            info,
            server: Arc::clone(server),
            statements: PreparedStatements::new(MAX_STATEMENTS),
            timeouts: Some(0),
            in_snapshot: false,
            is_changed: false,
            probe_found_change: false,
            opened: Instant::now(),
            refused_to_old: None,
        }
    }

    /// The first-keyword check of a read-only target, before a statement is sent.
    pub(super) fn check(&self, sql: &Sql) -> Result<()> {
        // One that the session knows was checked before.
        if !self.server.config.read_only || self.statements.contains_key(sql.name()) {
            return Ok(());
        }
        if self.info.has_ambiguous_backslash && sql.text().contains('\\') {
            let message = "sql_mode holds NO_BACKSLASH_ESCAPES or ANSI_QUOTES, or character_set_client is one in which a backslash may \
                 be half a character: what a backslash means is not known";
            return Err(
                Error::new(Reason::ReadOnly, message).with_hint("write the statement without backslashes")
            );
        }
        check_read_only(sql.text(), Dialect::MySql)
    }

    /// Resets a session that was changed; false when that failed or is not possible, or another login may be allowed more: the
    /// connection must not be used again.
    pub(super) fn reset_if_changed(&mut self) -> bool {
        if self.refused_to_old.is_some() {
            return false;
        }
        if !std::mem::take(&mut self.is_changed) {
            return true;
        }
        if !self.info.can_reset() {
            return false;
        }
        self.statements.clear();
        let session_sql = &self.server.config.session_sql;
        let timeouts = self.info.reset(&mut self.client, session_sql, Deadline::within(RESET_TIMEOUT));
        self.timeouts = timeouts.as_ref().ok().copied().flatten();
        timeouts.is_ok()
    }

    /// Runs the first jobs, as many as may go together; those that did not end stay.
    pub(super) fn run_next(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> ConnectionHealth {
        if by.passed() {
            for job in jobs.drain(..) {
                let error = Error::new(Reason::Timeout, "no time was left to start");
                job.sink.end(Err(error), Duration::ZERO);
            }
            return ConnectionHealth::InStep;
        }
        let suspects = &self.server.suspects;
        let runs_alone = |job: &Job<'_>| self.in_snapshot || suspects.get(job.sql).is_some();
        let together = jobs.iter().take_while(|job| !runs_alone(job)).count();
        let changes = jobs.front().is_some_and(|job| suspects.get(job.sql) == Some(Suspicion::Proven));
        let mut batch: Jobs<'_, '_> = jobs.drain(..together.max(1)).collect();
        let statements: Vec<&Sql> = batch.iter().map(|job| job.sql).collect();
        let state = self.run_batch(&mut batch, by);
        self.server.suspects.record_batch(&statements, std::mem::take(&mut self.probe_found_change));
        self.is_changed |= changes;
        while let Some(job) = batch.pop_back() {
            jobs.push_front(job);
        }
        match state {
            // In a snapshot the reset waits for its end.
            ConnectionHealth::InStep | ConnectionHealth::Spent
                if !self.in_snapshot && !self.reset_if_changed() =>
            {
                ConnectionHealth::Outdated
            }
            state => state,
        }
    }

    /// Runs all jobs; those whose statement went stale meanwhile once more. Those that did not end stay, and so do those that
    /// another login may allow.
    fn run_batch(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> ConnectionHealth {
        let mut stale = Jobs::new();
        let first = self.send_and_read(jobs, Some(&mut stale), by);
        jobs.extend(stale);
        if jobs.is_empty()
            || self.refused_to_old.is_some()
            || !matches!(first, ConnectionHealth::InStep | ConnectionHealth::Spent)
        {
            return first;
        }
        match (first, self.send_and_read(jobs, None, by)) {
            (ConnectionHealth::Spent, ConnectionHealth::InStep) => ConnectionHealth::Spent,
            (_, second) => second,
        }
    }

    /// One round trip, and one before it where a statement is not prepared yet. A job whose statement or session is stale
    /// goes to `stale`, untouched.
    fn send_and_read<'j, 'q>(
        &mut self,
        jobs: &mut Jobs<'j, 'q>,
        stale: Option<&mut Jobs<'j, 'q>>,
        by: Deadline,
    ) -> ConnectionHealth {
        if let Err(state) = self.prepare_jobs(jobs, by) {
            return state;
        }
        self.end_unbound(jobs);
        if jobs.is_empty() {
            return ConnectionHealth::InStep;
        }
        // No limit includes the round trip: neither the server's, nor how long we wait for an answer.
        let round_trip = self.client.round_trip();
        let (sent, asks_count) = self.queue_jobs(jobs, round_trip, by);
        let mut doubtful = DoubtfulJobs::new();
        let read = self.read_answers(sent, round_trip, jobs, stale, &mut doubtful, by);
        let spent = match read.and_then(|spent| self.read_probe(by).map(|()| spent)) {
            Ok(spent) => spent,
            Err(state) => {
                // Nobody can be asked about them any more: they run again.
                doubtful.into_iter().rev().for_each(|(job, _)| jobs.push_front(job));
                return if jobs.is_empty() { ConnectionHealth::OutOfStep } else { state };
            }
        };
        if !asks_count && !doubtful.is_empty() {
            self.queue_timeout_count(by);
        }
        let state = match asks_count || !doubtful.is_empty() {
            true => self.resolve_doubts(jobs, doubtful, by),
            false => ConnectionHealth::InStep,
        };
        if spent && matches!(state, ConnectionHealth::InStep) { ConnectionHealth::Spent } else { state }
    }

    /// Queues the jobs. On a slow network most results would be doubtful: then the question about them is sent along.
    fn queue_jobs(
        &mut self,
        jobs: &Jobs<'_, '_>,
        round_trip: Duration,
        by: Deadline,
    ) -> (Vec<SentJob>, bool) {
        let sent: Vec<SentJob> = jobs.iter().map(|job| self.queue_job(job, round_trip, by)).collect();
        if let Some(probe) = self.info.probe() {
            self.client.queue_query(probe.sql());
        }
        let asks_count = sent.iter().any(|sent| sent.limits.time < round_trip * 4);
        if asks_count {
            self.queue_timeout_count(by);
        }
        (sent, asks_count)
    }

    fn queue_job(&mut self, job: &Job<'_>, round_trip: Duration, by: Deadline) -> SentJob {
        let allowed = job.allowance.min(by.left().saturating_sub(round_trip));
        let limits = self.info.limits(allowed, self.server.config.read_only);
        self.client.queue_query(&limits.sql);
        let format = match self.statements.get(job.sql.name()).copied() {
            Some(Execution::Prepared { id, parameters }) if parameters <= job.parameters.len() => {
                self.client.queue_execute(id, &job.parameters[..parameters]);
                RowFormat::Binary
            }
            // What the server refused to prepare it refuses again, or runs.
            Some(_) | None => {
                self.client.queue_query(job.sql.text());
                RowFormat::Text
            }
        };
        SentJob { limits, allowed, format }
    }

    /// Notes what an old login was refused. True where the statement is to run again after another one: not in a snapshot,
    /// which goes on to its end, and not where it may have written before.
    fn may_be_allowed_later(&mut self, error: &MySqlError, is_old: bool) -> bool {
        let refusal = error.to_error();
        if !is_old || refusal.reason() != Reason::Permission {
            return false;
        }
        self.refused_to_old = Some(refusal);
        !self.in_snapshot && self.server.config.read_only
    }

    /// Reads the answers to the jobs and ends them, except for the doubtful ones. Returns whether one was cancelled, or the
    /// state in which no more can be read.
    fn read_answers<'j, 'q>(
        &mut self,
        all: Vec<SentJob>,
        mut round_trip: Duration,
        jobs: &mut Jobs<'j, 'q>,
        mut stale: Option<&mut Jobs<'j, 'q>>,
        doubtful: &mut DoubtfulJobs<'j, 'q>,
        by: Deadline,
    ) -> Result<bool, ConnectionHealth> {
        let (batch_start, mut spent) = (Instant::now(), false);
        let mut start = batch_start;
        // A statement that takes long does not make the login of before it an old one.
        let is_old = self.opened.elapsed() >= OLD_LOGIN;
        // What the server's limit ended with an error: how many statements, and the least time that they took.
        let (mut timeouts, mut timeouts_took) = (0, Duration::ZERO);
        for sent in all {
            let Some(job) = jobs.pop_front() else { break };
            let (sql, due, format) = (job.sql, job.answer_due(start, by), sent.format);
            let result = self.read_answer(job, format, Deadline::after(due.moment(), GRACE));
            let took = start.elapsed().saturating_sub(round_trip);
            (start, round_trip) = (Instant::now(), Duration::ZERO);
            if let (Err(CallError::Server(error)), Some(stale)) = (&result, &mut stale) {
                let is_stale_statement = format == RowFormat::Binary && error.is_stale_statement();
                if is_stale_statement {
                    self.close_stale(sql);
                }
                if is_stale_statement || self.may_be_allowed_later(error, is_old) {
                    stale.push_back(job);
                    continue;
                }
            }
            // When the server began with a statement it does not tell, but the last one has not run for longer than this. The
            // round trip is not subtracted: on a busy machine it is not known well enough, and a doubt costs one question.
            let longest = batch_start.elapsed().saturating_sub(timeouts_took);
            let answer = JobAnswer::new(result, took, longest, due, sent);
            if answer.is_server_timeout() {
                timeouts += 1;
                timeouts_took += answer.time_limit();
                if answer.is_at_administrators_limit() && is_old {
                    let why = "the limits of its user may be others now";
                    self.refused_to_old = Some(Error::new(Reason::Lost, why));
                }
            }
            let change = answer.session_change();
            self.is_changed |= change != SessionChange::None;
            if answer.is_doubtful() {
                doubtful.push_back((job, answer));
            } else {
                if answer.is_late_result() {
                    // Whether its limit ended it is not known; the reset asks for the count.
                    (self.timeouts, self.is_changed) = (None, true);
                }
                match answer.end_job(job, false) {
                    ConnectionHealth::InStep => {}
                    ConnectionHealth::Spent => spent = true,
                    state @ (ConnectionHealth::OutOfStep | ConnectionHealth::Outdated) => return Err(state),
                    state @ ConnectionHealth::Broken(_) => {
                        jobs.push_front(job);
                        return Err(state);
                    }
                }
            }
            if change == SessionChange::Reported {
                self.server.suspects.record(sql, Suspicion::Proven);
                if !jobs.is_empty() && !self.in_snapshot {
                    // Those behind it ran in a session that was not what it should be.
                    return Err(ConnectionHealth::OutOfStep);
                }
            }
        }
        self.timeouts = self.timeouts.map(|before| before + timeouts);
        Ok(spent)
    }

    /// Reads both answers of a job.
    fn read_answer(
        &mut self,
        job: &mut Job<'_>,
        format: RowFormat,
        by: Deadline,
    ) -> Result<RowsRead, CallError> {
        let limits_set = answer(self.client.read_done(by))?;
        let sink: &mut dyn RowSink = &mut *job.sink;
        // Without its limits a statement ran unbounded: its result is not used.
        let sink = limits_set.is_ok().then_some(sink);
        let rows = read_rows(&mut self.client, format, &self.info.zone, job.max_cell_bytes, sink, by)?;
        match limits_set {
            Err(error) if !rows.is_complete() => Err(CallError::Broken(error.to_error())),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(rows),
        }
    }

    /// Reads what the query behind the batch found.
    fn read_probe(&mut self, by: Deadline) -> Result<(), ConnectionHealth> {
        let Some(probe) = self.info.probe() else { return Ok(()) };
        match answer(self.client.read_table(Deadline::after(by.moment(), GRACE))) {
            Ok(Ok(table)) if probe.finds_change(&table) => {
                (self.is_changed, self.probe_found_change) = (true, true);
            }
            Ok(Ok(_)) => {}
            // Under the limit of the last statement, which may be short: the answer is not known.
            Ok(Err(_)) => self.is_changed = true,
            Err(error) if error.reason() == Reason::Timeout => return Err(ConnectionHealth::OutOfStep),
            Err(error) => return Err(ConnectionHealth::Broken(error)),
        }
        Ok(())
    }

    fn close_stale(&mut self, sql: &Sql) {
        if let Some(id) = self.statements.remove(sql.name()).and_then(Execution::number) {
            self.client.queue_close(id);
        }
    }

    /// Asks how many statements the server's limit has ended.
    fn queue_timeout_count(&mut self, by: Deadline) {
        self.client.queue_query(&self.info.own_limits(by));
        self.client.queue_query(&self.info.timeout_count_question());
    }

    /// Reads whether the server's limit has ended one of these statements, and ends their jobs; which of several it was
    /// is not known.
    fn resolve_doubts<'j, 'q>(
        &mut self,
        jobs: &mut Jobs<'j, 'q>,
        doubtful: DoubtfulJobs<'j, 'q>,
        by: Deadline,
    ) -> ConnectionHealth {
        let answers = self.client.read_tables(2, Deadline::after(by.moment(), GRACE));
        let (timeouts, mut state) = match answers {
            Ok(answers) => {
                let count = answers.into_iter().nth(1).and_then(MySqlAnswer::ok);
                (count.as_ref().and_then(read_count), ConnectionHealth::InStep)
            }
            Err(error) if error.reason() == Reason::Timeout => (None, ConnectionHealth::OutOfStep),
            Err(error) => {
                doubtful.into_iter().rev().for_each(|(job, _)| jobs.push_front(job));
                return ConnectionHealth::Broken(error);
            }
        };
        let interrupted = timeouts.is_none() || timeouts != self.timeouts;
        self.timeouts = timeouts;
        for (job, answer) in doubtful {
            let is_spent = !matches!(answer.end_job(job, interrupted), ConnectionHealth::InStep);
            if is_spent && matches!(state, ConnectionHealth::InStep) {
                state = ConnectionHealth::Spent;
            }
        }
        state
    }

    /// Prepares the statements that the session does not know. One that is refused runs as text, which has no parameters: its
    /// jobs that bind some have ended. On an error, the job that caused it has ended.
    fn prepare_jobs(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> Result<(), ConnectionHealth> {
        let start = Instant::now();
        let due = jobs.iter().map(|job| job.answer_due(start, by)).max().unwrap_or(by);
        let statements: Vec<&Sql> = jobs.iter().map(|job| job.sql).collect();
        let (index, error) = match self.prepare_new(&statements, due) {
            Ok(refused) => {
                jobs.retain_mut(|job| {
                    let error = refused.iter().find(|(sql, _)| sql.name() == job.sql.name());
                    let Some((sql, error)) = error.filter(|_| !job.parameters.is_empty()) else {
                        return true;
                    };
                    job.sink.end(Err(with_position(error.to_error(), sql.text())), start.elapsed());
                    false
                });
                return Ok(());
            }
            Err(broken) => broken,
        };
        if error.reason() != Reason::Timeout {
            return Err(ConnectionHealth::Broken(error));
        }
        if let Some(job) = jobs.remove(index) {
            let error = Error::new(Reason::Timeout, "the server did not prepare the statement in time");
            job.sink.end(Err(error), start.elapsed());
        }
        Err(ConnectionHealth::OutOfStep)
    }

    /// Ends the jobs that bind fewer parameters than their statements have. Of one that binds none, the server says it.
    fn end_unbound(&self, jobs: &mut Jobs<'_, '_>) {
        jobs.retain_mut(|job| match self.statements.peek(job.sql.name()) {
            Some(Execution::Prepared { parameters, .. })
                if !job.parameters.is_empty() && *parameters > job.parameters.len() =>
            {
                let error = too_few_parameters(*parameters, job.parameters.len());
                job.sink.end(Err(error), Duration::ZERO);
                false
            }
            _ => true,
        });
    }

    /// Prepares the statements that the session does not know, and returns those that the server refused. An error says at
    /// which one the connection broke.
    pub(super) fn prepare_new<'s>(
        &mut self,
        statements: &[&'s Sql],
        by: Deadline,
    ) -> Result<Vec<(&'s Sql, MySqlError)>, (usize, Error)> {
        let mut new: Vec<(usize, &'s Sql)> = Vec::new();
        for (index, sql) in statements.iter().enumerate() {
            if !self.statements.contains_key(sql.name())
                && !new.iter().any(|(_, other)| other.name() == sql.name())
            {
                new.push((index, sql));
            }
        }
        let mut refused = Vec::new();
        if new.is_empty() {
            return Ok(refused);
        }
        let asked: Vec<&'s Sql> = new.iter().map(|(_, sql)| *sql).collect();
        let answers = self.prepare_all(&asked, by, |prepared, _| prepared);
        let answers =
            answers.map_err(|(asked, error)| (new.get(asked).map_or(0, |(index, _)| *index), error))?;
        for (sql, answer) in asked.into_iter().zip(answers) {
            let execution = match answer {
                Ok(prepared) => Execution::Prepared { id: prepared.id, parameters: prepared.params },
                Err(error) if error.is_not_preparable() => Execution::Text,
                // Refused, or no memory for it, or a lock: the next run tries again.
                Err(error) => {
                    refused.push((sql, error));
                    continue;
                }
            };
            if let Some(id) = remember(&mut self.statements, sql, execution) {
                self.client.queue_close(id);
            }
        }
        Ok(refused)
    }

    /// Prepares all statements in one round trip, and returns `keep` of each answer. An error says at which one the
    /// connection broke.
    pub(super) fn prepare_all<T>(
        &mut self,
        statements: &[&Sql],
        by: Deadline,
        keep: impl Fn(PreparedStatement, Vec<ColumnDefinition>) -> T,
    ) -> Result<Vec<MySqlAnswer<T>>, (usize, Error)> {
        let reset = self.info.after_preparing();
        let limits = self.info.before_preparing(by.left(), self.server.config.read_only);
        self.client.queue_query(&limits);
        statements.iter().for_each(|sql| self.client.queue_prepare(sql.text()));
        reset.iter().for_each(|sql| self.client.queue_query(sql));
        self.client.read_done(by).map_err(|error| (0, error.into_error()))?;
        let mut answers = Vec::new();
        for index in 0..statements.len() {
            let prepared = answer(self.client.read_prepared(by)).map_err(|error| (index, error))?;
            answers.push(prepared.map(|(prepared, columns)| keep(prepared, columns)));
        }
        if reset.is_some() {
            let last = statements.len().saturating_sub(1);
            self.client.read_done(by).map_err(|error| (last, error.into_error()))?;
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_that_was_not_used_for_longest_makes_room() {
        let prepared = |id| Execution::Prepared { id, parameters: 0 };
        let mut cache = PreparedStatements::new(MAX_STATEMENTS);
        let texts: Vec<Sql> = (0..=MAX_STATEMENTS).map(|at| Sql::new(&format!("SELECT {at}"))).collect();
        for (id, sql) in (0..).zip(texts.iter().take(MAX_STATEMENTS)) {
            assert_eq!(remember(&mut cache, sql, prepared(id)), None);
        }
        assert_eq!(cache.get(texts[0].name()), Some(&prepared(0)));
        assert_eq!(remember(&mut cache, &texts[MAX_STATEMENTS], Execution::Text), Some(1));
        assert!(
            cache.contains_key(texts[0].name())
                && !cache.contains_key(texts[1].name())
                && cache.contains_key(texts[MAX_STATEMENTS].name())
        );
        assert_eq!(remember(&mut cache, &texts[0], prepared(9)), Some(0), "prepared again");
        assert_eq!(cache.remove(texts[0].name()).and_then(Execution::number), Some(9));
        assert_eq!(cache.remove(texts[MAX_STATEMENTS].name()).and_then(Execution::number), None);
        cache.clear();
        assert!(!cache.contains_key(texts[2].name()));
    }
}
