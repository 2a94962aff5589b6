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
use super::result_reader::{GRACE, JobAnswer, RowsRead, SentJob, SessionChange, read_rows};
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

/// What the server has prepared in one session, by the statement's name; `None` for one of a kind that it does not prepare,
/// which runs as text. The numbers are valid as long as the server's session: a reset ends them.
type PreparedStatements = LruCache<String, Option<PreparedStatement>>;

/// Adds a statement. Returns the number of one that the server may forget: the statement's own one of before, or that of
/// the least recently used one.
fn remember(
    statements: &mut PreparedStatements,
    sql: &Sql,
    prepared: Option<PreparedStatement>,
) -> Option<u32> {
    let is_full = statements.len() >= MAX_STATEMENTS && !statements.contains_key(sql.name());
    let removed = if is_full { statements.remove_lru().map(|(_, prepared)| prepared) } else { None };
    let before = statements.insert(sql.name().to_owned(), prepared);
    removed.or(before).flatten().map(|prepared| prepared.id)
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
    /// A statement was cancelled: the connection serves no other batch, as the cancel may strike that, too.
    pub(super) was_cancelled: bool,
    opened: Instant,
    /// The last thing that the server refused to an old login: another one may be allowed it.
    refused_to_old: Option<Error>,
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
            was_cancelled: false,
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

    /// Makes a session that was changed what it was after its login.
    ///
    /// # Errors
    /// It cannot be, or another login may be allowed more: nothing else may run on the connection.
    pub(super) fn reset_if_changed(&mut self) -> Result<()> {
        if let Some(error) = self.refused_to_old.take() {
            return Err(error);
        }
        if !std::mem::take(&mut self.is_changed) {
            return Ok(());
        }
        let failed = || Error::new(Reason::Lost, "the session could not be reset");
        if !self.info.can_reset() {
            return Err(failed());
        }
        self.statements.clear();
        let session_sql = &self.server.config.session_sql;
        let reset = self.info.reset(&mut self.client, session_sql, Deadline::within(RESET_TIMEOUT));
        self.timeouts = reset.map_err(|_| failed())?;
        Ok(())
    }

    /// Runs the jobs; those that did not end stay.
    ///
    /// # Errors
    /// Why no more of them may run on this connection: it broke, a statement of it goes on, or its session is not what they
    /// have to run in.
    pub(super) fn run(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> Result<()> {
        if self.info.zone_was_refused && !jobs.is_empty() {
            self.info.ask_zone(&mut self.client, by)?;
        }
        while !jobs.is_empty() {
            if by.passed() {
                for job in jobs.drain(..) {
                    let error = Error::new(Reason::Timeout, "no time was left to start");
                    job.sink.end(Err(error), Duration::ZERO);
                }
                break;
            }
            self.run_first(jobs, by)?;
        }
        Ok(())
    }

    /// Runs the first jobs, as many as may go together.
    fn run_first(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> Result<()> {
        let suspects = &self.server.suspects;
        let runs_alone = |job: &Job<'_>| self.in_snapshot || suspects.get(job.sql).is_some();
        let together = jobs.iter().take_while(|job| !runs_alone(job)).count();
        let changes = jobs.front().is_some_and(|job| suspects.get(job.sql) == Some(Suspicion::Proven));
        let mut batch: Jobs<'_, '_> = jobs.drain(..together.max(1)).collect();
        let statements: Vec<&Sql> = batch.iter().map(|job| job.sql).collect();
        let ran = self.run_together(&mut batch, by);
        self.is_changed |= changes;
        while let Some(job) = batch.pop_back() {
            jobs.push_front(job);
        }
        self.server.suspects.record_batch(&statements, ran?);
        // In a snapshot the reset waits for its end.
        if self.in_snapshot { Ok(()) } else { self.reset_if_changed() }
    }

    /// Runs all jobs; those whose statement went stale meanwhile once more. Those that did not end stay, and so do those that
    /// another login may allow. Returns whether something was left in the session.
    fn run_together(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> Result<bool> {
        let mut again = Jobs::new();
        let first = self.send_and_read(jobs, Some(&mut again), by);
        jobs.extend(again);
        let found_change = first?;
        if jobs.is_empty() || self.refused_to_old.is_some() {
            return Ok(found_change);
        }
        Ok(self.send_and_read(jobs, None, by)? || found_change)
    }

    /// One round trip, and one before it where a statement is not prepared yet. A job that is to run `again` goes there,
    /// untouched. Returns whether something was left in the session.
    fn send_and_read<'j, 'q>(
        &mut self,
        jobs: &mut Jobs<'j, 'q>,
        again: Option<&mut Jobs<'j, 'q>>,
        by: Deadline,
    ) -> Result<bool> {
        self.prepare_jobs(jobs, by)?;
        if jobs.is_empty() {
            return Ok(false);
        }
        // No limit includes the round trip: neither the server's, nor how long we wait for an answer.
        let round_trip = self.client.round_trip();
        let sent: Vec<SentJob> = jobs.iter().map(|job| self.queue_job(job, round_trip, by)).collect();
        if let Some(probe) = self.info.probe() {
            self.client.queue_query(probe.sql());
        }
        // On a slow network most results would be doubtful: then the question about them is sent along.
        let asks_along = sent.iter().any(|sent| sent.limits.time < round_trip * 4);
        if asks_along {
            self.queue_timeout_count(by);
        }
        let doubtful = self.read_answers(sent, round_trip, jobs, again, by)?;
        let found_change = self.read_probe(by)?;
        if !asks_along && !doubtful.is_empty() {
            self.queue_timeout_count(by);
        }
        if asks_along || !doubtful.is_empty() {
            self.end_doubtful(jobs, doubtful, by)?;
        }
        Ok(found_change)
    }

    fn queue_job(&mut self, job: &Job<'_>, round_trip: Duration, by: Deadline) -> SentJob {
        let allowed = job.allowance.min(by.left().saturating_sub(round_trip));
        let limits = self.info.limits(allowed, self.server.config.read_only);
        self.client.queue_query(&limits.sql);
        let format = match self.statements.get(job.sql.name()).copied() {
            Some(Some(PreparedStatement { id, params, .. })) if params <= job.parameters.len() => {
                self.client.queue_execute(id, &job.parameters[..params]);
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

    /// Whether a statement that the server refused is to run again: it went stale, or another login may be allowed it. Not in a
    /// snapshot, which goes on to its end, and not where it may have written before.
    fn runs_again(&mut self, sql: &Sql, format: RowFormat, error: &MySqlError, is_old: bool) -> bool {
        if format == RowFormat::Binary && error.is_stale_statement() {
            if let Some(prepared) = self.statements.remove(sql.name()).flatten() {
                self.client.queue_close(prepared.id);
            }
            return true;
        }
        let refusal = error.to_error();
        if !is_old || refusal.reason() != Reason::Permission {
            return false;
        }
        self.refused_to_old = Some(refusal);
        !self.in_snapshot && self.server.config.read_only
    }

    /// Reads the answers to the jobs and ends them. Those whose result may be incomplete, as the server's limit may have ended
    /// their statements, stay, and their answers are returned.
    fn read_answers<'j, 'q>(
        &mut self,
        sent: Vec<SentJob>,
        mut round_trip: Duration,
        jobs: &mut Jobs<'j, 'q>,
        mut again: Option<&mut Jobs<'j, 'q>>,
        by: Deadline,
    ) -> Result<Vec<JobAnswer>> {
        let batch_start = Instant::now();
        let mut start = batch_start;
        // A statement that takes long does not make the login of before it an old one.
        let is_old = self.opened.elapsed() >= OLD_LOGIN;
        // The least time that the statements took which the server's limit ended with an error.
        let mut timeouts_took = Duration::ZERO;
        let mut doubtful = Vec::new();
        let mut all = sent.into_iter();
        while let Some(sent) = all.next()
            && let Some(job) = jobs.pop_front()
        {
            let (sql, due) = (job.sql, job.answer_due(start, by));
            let result = self.read_answer(job, sent.format, Deadline::after(due.moment(), GRACE));
            let took = start.elapsed().saturating_sub(round_trip);
            (start, round_trip) = (Instant::now(), Duration::ZERO);
            let result = match answer(result) {
                Ok(result) => result,
                Err(_) if due.passed() => {
                    job.sink.end(Err(sent.too_late()), took);
                    return Err(goes_on());
                }
                Err(error) => {
                    jobs.push_front(job);
                    return Err(error);
                }
            };
            if let (Err(error), Some(again)) = (&result, &mut again)
                && self.runs_again(sql, sent.format, error, is_old)
            {
                again.push_back(job);
                continue;
            }
            // When the server began with a statement it does not tell, but the last one has not run for longer than this. The
            // round trip is not subtracted: on a busy machine it is not known well enough, and a doubt costs one question.
            let longest = batch_start.elapsed().saturating_sub(timeouts_took);
            let answer = JobAnswer::new(result, took, longest, due, sent);
            if answer.is_server_timeout() {
                timeouts_took += answer.sent.limits.time;
                self.count_timeout(&answer, is_old);
            }
            let change = answer.session_change();
            self.is_changed |= change != SessionChange::None;
            if answer.is_doubtful() {
                jobs.push_back(job);
                doubtful.push(answer);
            } else {
                if answer.is_late_result() {
                    // Whether its limit ended it is not known; the reset asks for the count.
                    (self.timeouts, self.is_changed) = (None, true);
                }
                let is_complete = answer.is_complete();
                self.was_cancelled |= answer.end_job(job, false) == Some(Reason::Cancelled);
                if !is_complete {
                    return Err(goes_on());
                }
            }
            if change == SessionChange::Reported {
                self.server.suspects.record(sql, Suspicion::Proven);
                if all.len() > 0 && !self.in_snapshot {
                    // Those behind it ran in a session that was not what it should be.
                    return Err(goes_on());
                }
            }
        }
        Ok(doubtful)
    }

    fn count_timeout(&mut self, answer: &JobAnswer, is_old: bool) {
        self.timeouts = self.timeouts.map(|count| count + 1);
        if answer.sent.limits.is_administrators && is_old {
            let why = "the limits of its user may be others now";
            self.refused_to_old = Some(Error::new(Reason::Lost, why));
        }
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
            Err(error) if !rows.is_complete => Err(CallError::Broken(error.to_error())),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(rows),
        }
    }

    /// Whether the query behind the batch found something that was left in the session.
    fn read_probe(&mut self, by: Deadline) -> Result<bool> {
        let Some(probe) = self.info.probe() else { return Ok(false) };
        let found = answer(self.client.read_table(Deadline::after(by.moment(), GRACE)))?;
        let found_change = found.as_ref().is_ok_and(|table| probe.finds_change(table));
        // Under the limit of the last statement, which may be short: without an answer it is not known.
        self.is_changed |= found_change || found.is_err();
        Ok(found_change)
    }

    /// Asks how many statements the server's limit has ended.
    fn queue_timeout_count(&mut self, by: Deadline) {
        self.client.queue_query(&self.info.own_limits(by));
        self.client.queue_query(&self.info.timeout_count_question());
    }

    /// Reads whether the server's limit has ended one of these statements, and ends their jobs; which of several it was
    /// is not known.
    fn end_doubtful(
        &mut self,
        jobs: &mut Jobs<'_, '_>,
        doubtful: Vec<JobAnswer>,
        by: Deadline,
    ) -> Result<()> {
        let answers = self.client.read_tables(2, Deadline::after(by.moment(), GRACE))?;
        let timeouts = answers.into_iter().nth(1).and_then(MySqlAnswer::ok).as_ref().and_then(read_count);
        let interrupted = timeouts.is_none() || timeouts != self.timeouts;
        self.timeouts = timeouts;
        for (job, answer) in jobs.drain(..).zip(doubtful) {
            answer.end_job(job, interrupted);
        }
        Ok(())
    }

    /// Prepares the statements that the session does not know. One that is refused runs as text, which has no parameters: its
    /// jobs that bind some have ended, and so have those that bind too few. On an error, the job that caused it has ended.
    fn prepare_jobs(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> Result<()> {
        let start = Instant::now();
        let due = jobs.iter().map(|job| job.answer_due(start, by)).max().unwrap_or(by);
        let statements: Vec<&Sql> = jobs.iter().map(|job| job.sql).collect();
        let refused = match self.prepare_new(&statements, due) {
            Ok(refused) => refused,
            Err((slow, error)) if error.reason() == Reason::Timeout => {
                let slow = jobs.iter().position(|job| job.sql.name() == slow.name());
                if let Some(job) = slow.and_then(|index| jobs.remove(index)) {
                    let error =
                        Error::new(Reason::Timeout, "the server did not prepare the statement in time");
                    job.sink.end(Err(error), start.elapsed());
                }
                return Err(goes_on());
            }
            Err((_, error)) => return Err(error),
        };
        jobs.retain_mut(|job| {
            let given = job.parameters.len();
            let refusal = refused.iter().find(|(sql, _)| sql.name() == job.sql.name());
            let error = match (refusal, self.statements.peek(job.sql.name())) {
                (None, Some(Some(PreparedStatement { params, .. }))) if *params > given => {
                    too_few_parameters(*params, given)
                }
                // Without parameters it runs as text, and the server says what is wrong.
                (Some((sql, error)), _) if given > 0 => with_position(error.to_error(), sql.text()),
                _ => return true,
            };
            job.sink.end(Err(error), start.elapsed());
            false
        });
        Ok(())
    }

    /// Prepares the statements that the session does not know, and returns those that the server refused. An error says at
    /// which one the connection broke.
    pub(super) fn prepare_new<'s>(
        &mut self,
        statements: &[&'s Sql],
        by: Deadline,
    ) -> Result<Vec<(&'s Sql, MySqlError)>, (&'s Sql, Error)> {
        let mut new: Vec<&'s Sql> = Vec::new();
        for sql in statements {
            let is_known = self.statements.contains_key(sql.name());
            if !is_known && !new.iter().any(|other| other.name() == sql.name()) {
                new.push(sql);
            }
        }
        let mut refused = Vec::new();
        if new.is_empty() {
            return Ok(refused);
        }
        let answers = self.prepare_all(&new, by, |prepared, _| prepared);
        let answers = answers.map_err(|(index, error)| (new[index], error))?;
        for (sql, answer) in new.into_iter().zip(answers) {
            let prepared = match answer {
                Ok(prepared) => Some(prepared),
                Err(error) if error.is_not_preparable() => None,
                // Refused, or no memory for it, or a lock: the next run tries again.
                Err(error) => {
                    refused.push((sql, error));
                    continue;
                }
            };
            if let Some(id) = remember(&mut self.statements, sql, prepared) {
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
        let mut limits_set = answer(self.client.read_done(by)).map_err(|error| (0, error))?;
        let mut answers = Vec::new();
        for index in 0..statements.len() {
            let prepared = answer(self.client.read_prepared(by)).map_err(|error| (index, error))?;
            answers.push(prepared.map(|(prepared, columns)| keep(prepared, columns)));
        }
        if reset.is_some() {
            let last = statements.len().saturating_sub(1);
            limits_set = limits_set.and(answer(self.client.read_done(by)).map_err(|error| (last, error))?);
        }
        // Now that all answers are read, whatever the server said.
        limits_set.map(|()| answers).map_err(|error| (0, error.to_error()))
    }
}

/// For the jobs behind one whose statement may go on: what the server still sends is not their answer.
fn goes_on() -> Error {
    Error::new(Reason::Lost, "the connection was closed to end the query before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_that_was_not_used_for_longest_makes_room() {
        let prepared = |id| Some(PreparedStatement { id, columns: 0, params: 0 });
        let mut cache = PreparedStatements::new(MAX_STATEMENTS);
        let texts: Vec<Sql> = (0..=MAX_STATEMENTS).map(|at| Sql::new(&format!("SELECT {at}"))).collect();
        for (id, sql) in (0..).zip(texts.iter().take(MAX_STATEMENTS)) {
            assert_eq!(remember(&mut cache, sql, prepared(id)), None);
        }
        assert_eq!(cache.get(texts[0].name()), Some(&prepared(0)));
        assert_eq!(remember(&mut cache, &texts[MAX_STATEMENTS], None), Some(1));
        assert!(
            cache.contains_key(texts[0].name())
                && !cache.contains_key(texts[1].name())
                && cache.contains_key(texts[MAX_STATEMENTS].name())
        );
        assert_eq!(remember(&mut cache, &texts[0], prepared(9)), Some(0), "prepared again");
        assert_eq!(cache.remove(texts[0].name()).flatten().map(|prepared| prepared.id), Some(9));
        assert_eq!(cache.remove(texts[MAX_STATEMENTS].name()).flatten(), None);
        cache.clear();
        assert!(!cache.contains_key(texts[2].name()));
    }
}
