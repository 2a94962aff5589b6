//! The jobs of one batch on a session: which are sent together, second tries, and what each job's sink is told.
//!
//! All that can leave at once does: statements that the session does not know are prepared in one message; then those
//! that it has seen leave in groups under one `Sync`, the others each under a `Sync` of its own, with what follows it.
//! A job that was sent belongs to its group until it has ended or goes back to those that are still to run.

use std::io;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::driver::{Health, Job, Sql, too_few_parameters};
use crate::error::{Error, Reason, Result};

use super::connection::ExchangeError;
use super::errors::ServerError;
use super::guard_statement::{GuardRow, QueryLimits};
use super::request::{GroupWriter, QueryProtocol, SentQuery};
use super::response::{JobOutcome, Remaining, ResponseReader};
use super::session::{GROUP_SIZE, MAX_SENT_AT_ONCE, PgSession, lost};

/// How long past its query's deadline the end of its transaction may take.
const ROLLBACK_TIME: Duration = Duration::from_millis(20);
/// How often one job is tried another way.
const MAX_TRIES: u8 = 2;
/// What a query and its guard statement usually take of [`MAX_SENT_AT_ONCE`].
const QUERY_BYTES: usize = 192;

/// A job that has not ended.
struct PendingJob<'j, 'q> {
    job: &'j mut Job<'q>,
    /// How often it was tried.
    tries: u8,
}

/// The jobs under one `Sync`, and what was sent for each. Where there are several, each is harmless.
type SentGroup<'j, 'q> = Vec<(PendingJob<'j, 'q>, SentQuery)>;

/// A job and its answer.
struct AnsweredJob<'j, 'q> {
    pending: PendingJob<'j, 'q>,
    outcome: JobOutcome,
    /// Since when the server has worked on it.
    start: Instant,
    limits: QueryLimits,
    until: Deadline,
}

/// What was sent right behind a job that is alone under its `Sync`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follower {
    Job,
    /// The end of the batch.
    Reset,
    Nothing,
}

/// The jobs that are still to be sent, in order, and the session that runs them.
pub(super) struct Batch<'s, 'j, 'q> {
    session: &'s mut PgSession,
    jobs: Vec<PendingJob<'j, 'q>>,
    /// How many jobs have not ended.
    left: usize,
    by: Deadline,
    /// The server has refused one of them.
    has_refused: bool,
}

impl<'s, 'j, 'q> Batch<'s, 'j, 'q> {
    /// Runs all jobs.
    ///
    /// # Errors
    /// The health of a session that does not serve the next batch.
    pub(super) fn run(
        session: &'s mut PgSession,
        jobs: &'j mut [Job<'q>],
        by: Deadline,
    ) -> Result<(), Health> {
        let left = jobs.len();
        let jobs = jobs.iter_mut().map(|job| PendingJob { job, tries: 0 }).collect();
        let mut batch = Batch { session, jobs, left, by, has_refused: false };
        match batch.run_all() {
            Err(Health::Spent) if batch.left > 0 => {
                Err(Health::Lost(Error::new(Reason::Lost, "the session ended with the query before")))
            }
            done => done,
        }
    }

    fn run_all(&mut self) -> Result<(), Health> {
        let start = Instant::now();
        let due = self.jobs.first().map_or(self.by, |first| first.job.answer_due(start, self.by));
        match self.session.prepare_itself(due) {
            Err(error) if error.reason() == Reason::Timeout && !self.jobs.is_empty() => {
                let first = self.jobs.remove(0);
                self.end(first.job, Err(timed_out(start)), start.elapsed());
                return Err(Health::Spent);
            }
            prepared => prepared.map_err(Health::Lost)?,
        }
        self.end_where(|session, job| {
            session.check(job.sql).and_then(|()| session.check_parameters(job.parameters))
        });
        loop {
            self.session.check_sharing().map_err(Health::Lost)?;
            let by = self.by;
            self.end_where(|_, job| {
                let is_late = by.passed() || job.allowance.is_zero();
                if is_late { Err(timed_out(Instant::now())) } else { Ok(()) }
            });
            self.prepare()?;
            self.end_where(|session, job| {
                let needed = session.statements.get(job.sql).map_or(0, |known| known.shape.parameters);
                let given = job.parameters.len();
                if needed <= given { Ok(()) } else { Err(too_few_parameters(needed, given)) }
            });
            if self.jobs.is_empty() {
                return Ok(());
            }
            self.run_next()?;
        }
    }

    fn end(&mut self, job: &mut Job<'q>, verdict: Result<()>, took: Duration) {
        self.left -= 1;
        job.sink.end(verdict, took);
    }

    /// Ends the jobs that do not pass a check. Nothing was sent for them: the session is as good as before.
    fn end_where(&mut self, check: impl Fn(&PgSession, &Job<'_>) -> Result<()>) {
        for pending in std::mem::take(&mut self.jobs) {
            match check(self.session, pending.job) {
                Ok(()) => self.jobs.push(pending),
                Err(error) => self.end(pending.job, Err(error), Duration::ZERO),
            }
        }
    }

    /// Prepares the statements that the session does not know, and ends the jobs of those that the server refuses.
    fn prepare(&mut self) -> Result<(), Health> {
        loop {
            let most = match self.session.requests.protocol {
                QueryProtocol::Named => usize::MAX,
                // A pooler takes one `Sync` after the other.
                QueryProtocol::Unnamed => 1,
                QueryProtocol::Simple | QueryProtocol::Console => return Ok(()),
            };
            let mut unknown: Vec<&Sql> = Vec::new();
            let mut allowance = Duration::MAX;
            for PendingJob { job, .. } in self.jobs.iter().take(most) {
                let is_new = !unknown.iter().any(|sql| sql.name() == job.sql.name());
                if is_new && !self.session.statements.contains(job.sql) {
                    unknown.push(job.sql);
                    allowance = allowance.min(job.allowance);
                }
            }
            if unknown.is_empty() {
                return Ok(());
            }
            let count = self.session.ask_shapes(&unknown, allowance, self.by).map_err(lost)?;
            unknown.truncate(count);
            let start = Instant::now();
            let (jobs, by) = (&self.jobs, self.by);
            let place_of = |sql: &Sql| jobs.iter().position(|pending| pending.job.sql.name() == sql.name());
            let due = |sql: &Sql| {
                let pending = place_of(sql).and_then(|place| jobs.get(place));
                pending.map_or(by, |pending| pending.job.answer_due(start, by))
            };
            match self.session.read_shapes(&unknown, due) {
                Ok(refused) => {
                    self.session.connection.note_round_trip(start.elapsed());
                    for (sql, error) in refused {
                        let limits = QueryLimits::new(allowance, self.session.requests.own_limits);
                        self.end_refused(sql, &error, start, limits);
                    }
                }
                Err((sql, ExchangeError::Late)) => {
                    let place = place_of(sql).unwrap_or_default();
                    let pending = self.jobs.remove(place);
                    self.end(pending.job, Err(timed_out(start)), start.elapsed());
                    return Err(Health::Spent);
                }
                Err((_, error)) => return Err(lost(error)),
            }
        }
    }

    /// Ends the jobs of a statement that cannot be prepared.
    fn end_refused(&mut self, sql: &Sql, error: &ServerError, start: Instant, limits: QueryLimits) {
        let is_refused = |pending: &PendingJob<'_, '_>| pending.job.sql.name() == sql.name();
        let mut again: Vec<_> = self.jobs.iter_mut().filter(|pending| is_refused(pending)).collect();
        if again.iter().all(|pending| pending.tries < MAX_TRIES) && self.session.adapt(sql, error) {
            again.iter_mut().for_each(|pending| pending.tries += 1);
            return;
        }
        let refused: Vec<_> = self.jobs.extract_if(.., |pending| is_refused(pending)).collect();
        for pending in refused {
            let outcome = JobOutcome::refused(error.clone());
            self.tell(AnsweredJob { pending, outcome, start, limits, until: self.by });
        }
    }

    /// Sends the next jobs in one message, and reads the answers.
    fn run_next(&mut self) -> Result<(), Health> {
        let session = &*self.session;
        // What leaves a trace is the last before the session is reset.
        let order = |sql: &Sql| (!session.is_harmless(sql), session.statements.keeps_changed_settings(sql));
        self.jobs.sort_by_key(|pending| order(pending.job.sql));
        // What leaves in groups first: one message for them, and one for the others.
        let is_group = self.jobs.get(1).is_some_and(|second| session.is_harmless(second.job.sql));
        let groups = if is_group { self.queue_groups() } else { self.queue_apart() };
        let groups = groups.map_err(lost)?;
        let is_reset = self.session.queue_end().map_err(lost)?;
        self.session.connection.send(self.by).map_err(lost)?;
        let mut again = Vec::new();
        let mut start = Instant::now();
        let last = groups.len() - 1;
        for (index, group) in groups.into_iter().enumerate() {
            match <[_; 1]>::try_from(group) {
                Ok([alone]) => {
                    let follower = if index < last {
                        Follower::Job
                    } else if is_reset {
                        Follower::Reset
                    } else {
                        Follower::Nothing
                    };
                    again.extend(self.read_alone(alone, follower, index == 0, start)?);
                    start = Instant::now();
                }
                Err(group) => again.append(&mut self.read_group(group, &mut start)?),
            }
        }
        self.jobs.splice(..0, again);
        if is_reset { self.session.end_batch(self.by) } else { Ok(()) }
    }

    /// Queues the harmless jobs, [`GROUP_SIZE`] at most under each `Sync`, as far as there is room.
    fn queue_groups(&mut self) -> io::Result<Vec<SentGroup<'j, 'q>>> {
        let longest = Duration::from_millis(self.session.limits(Duration::MAX, self.by).ours.into());
        let PgSession { requests, statements, connection, .. } = &mut *self.session;
        let out = &mut connection.out;
        let mut jobs = std::mem::take(&mut self.jobs).into_iter().peekable();
        out.reserve(jobs.len() * QUERY_BYTES);
        let (mut groups, mut group) = (Vec::new(), Vec::with_capacity(GROUP_SIZE));
        let mut writer = GroupWriter::new(requests);
        while let Some(next) = jobs.peek()
            && let Some(known) = statements.get(next.job.sql).filter(|known| known.is_harmless())
            && out.len() < MAX_SENT_AT_ONCE
            && let Some(pending) = jobs.next()
        {
            let Job { sql, parameters, allowance, .. } = *pending.job;
            if group.len() == GROUP_SIZE || !writer.takes(sql) {
                std::mem::replace(&mut writer, GroupWriter::new(requests)).end(out)?;
                groups.push(std::mem::replace(&mut group, Vec::with_capacity(GROUP_SIZE)));
            }
            let sent = writer.query(sql, parameters, known, allowance.min(longest), out)?;
            group.push((pending, sent));
        }
        writer.end(out)?;
        groups.push(group);
        self.jobs = jobs.collect();
        Ok(groups)
    }

    /// Queues the first jobs, each under a `Sync` of its own: as many as there is room for, and one behind a pooler, in the
    /// simple protocol, or where what it sets stays.
    fn queue_apart(&mut self) -> io::Result<Vec<SentGroup<'j, 'q>>> {
        let session = &mut *self.session;
        let is_named = session.requests.protocol == QueryProtocol::Named;
        let mut groups = Vec::new();
        let mut jobs = std::mem::take(&mut self.jobs).into_iter().peekable();
        while let Some(next) = jobs.peek() {
            let known = session.statements.get(next.job.sql);
            let has_room = session.connection.out.len() < MAX_SENT_AT_ONCE;
            if !(groups.is_empty() || is_named && known.is_some() && has_room) {
                break;
            }
            let Some(pending) = jobs.next() else { break };
            let Job { sql, parameters, allowance, .. } = *pending.job;
            let limits = session.limits(allowance, self.by);
            let sent = session.requests.query(sql, parameters, known, limits, &mut session.connection.out)?;
            groups.push(vec![(pending, sent)]);
            if session.statements.keeps_changed_settings(sql) {
                break;
            }
        }
        self.jobs = jobs.collect();
        Ok(groups)
    }

    /// Reads the answer to one job. One without an answer has ended. `before` and `leads` are [`ResponseReader::new`]'s.
    fn read_answer(
        &mut self,
        pending: PendingJob<'j, 'q>,
        sent: SentQuery,
        before: Option<GuardRow>,
        leads: bool,
        start: Instant,
    ) -> Result<AnsweredJob<'j, 'q>, Health> {
        let until = pending.job.answer_due(start, self.by);
        let limits = sent.limits;
        let mut reader = ResponseReader::new(pending.job, sent, before, leads, self.session.wanted);
        let read = reader.read(&mut self.session.connection, &mut self.session.spans, until);
        let outcome = reader.outcome;
        self.session.note_role(outcome.role());
        match read {
            Ok(()) => Ok(AnsweredJob { pending, outcome, start, limits, until }),
            Err(ExchangeError::Lost(error)) => Err(Health::Lost(error)),
            Err(ExchangeError::Late | ExchangeError::Refused(_)) => {
                self.end(pending.job, Err(timed_out(start)), start.elapsed());
                Err(Health::Spent)
            }
        }
    }

    /// Reads the answer to the one job under its `Sync`; returns it where it is to be tried another way.
    fn read_alone(
        &mut self,
        (pending, sent): (PendingJob<'j, 'q>, SentQuery),
        follower: Follower,
        is_first: bool,
        start: Instant,
    ) -> Result<Option<PendingJob<'j, 'q>>, Health> {
        let (sql, is_undone) = (pending.job.sql, sent.undone);
        let mut answered = self.read_answer(pending, sent, None, false, start)?;
        let AnsweredJob { outcome, until, .. } = &mut answered;
        if is_first && let Some(took) = outcome.took() {
            let elapsed = outcome.at.saturating_duration_since(start);
            self.session.connection.note_round_trip(elapsed.saturating_sub(took));
        }
        let soon = (*until).max(Deadline::within(ROLLBACK_TIME));
        let left_open = outcome.remaining == Remaining::OpenTransaction && !is_undone;
        let ended = if is_undone && outcome.remaining.is_nothing() {
            self.session.connection.rows(soon).map(drop)
        } else if left_open {
            self.leave_transaction(follower, soon)
        } else {
            Ok(())
        };
        let is_spent = ended.is_err() || left_open && follower == Follower::Job;
        if let Err(error) = ended {
            outcome.fail(error);
        }
        let is_gone = is_undone || self.session.requests.rolls_back_itself();
        let has_changed = outcome.has_changed_settings() && !is_gone && !self.session.requests.in_snapshot;
        let again = self.settle(answered)?;
        if is_spent {
            return Err(Health::Spent);
        }
        // A statement that changed the settings that others read by is not trusted; those behind it in its batch ran under
        // what it left. Behind a pooler there are none.
        if has_changed && !self.session.statements.keeps_changed_settings(sql) {
            self.session.statements.mark_changing_settings(sql);
            if self.session.is_ours_alone() {
                return Err(Health::Spent);
            }
        }
        Ok(again)
    }

    /// Leaves the transaction that a job has left open. A reset that was sent behind it ran in there: it is sent again.
    /// Where another job was, the session cannot go on.
    fn leave_transaction(&mut self, follower: Follower, by: Deadline) -> Result<(), ExchangeError> {
        let session = &mut *self.session;
        if follower == Follower::Job || session.requests.protocol == QueryProtocol::Console {
            return Ok(());
        }
        if follower == Follower::Reset {
            match session.read_reset(by) {
                Ok(_) | Err(ExchangeError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        session.roll_back(by)?;
        if follower == Follower::Reset {
            session.queue_reset()?;
            session.connection.send(by)?;
        }
        Ok(())
    }

    /// Reads the answers to several jobs under one `Sync`; returns those that are to run once more.
    fn read_group(
        &mut self,
        group: SentGroup<'j, 'q>,
        start: &mut Instant,
    ) -> Result<Vec<PendingJob<'j, 'q>>, Health> {
        // No sink is told of its end before the group has one: a query that changed what others read by shows there.
        let (mut ran, mut failed) = (Vec::with_capacity(group.len()), None);
        let (mut last, mut first_settings): (Option<GuardRow>, _) = (None, None);
        let mut rest = group.into_iter();
        while let Some((pending, sent)) = rest.next() {
            let leads = rest.len() > 0;
            let answered = self.read_answer(pending, sent, last, leads, *start)?;
            *start = answered.outcome.at;
            if !answered.outcome.has_run() {
                failed = Some(answered);
                break;
            }
            let JobOutcome { before, behind, .. } = answered.outcome;
            first_settings = first_settings.or(before.and_then(|row| row.fingerprint));
            let last_settings = behind.and_then(|row| row.fingerprint);
            if first_settings.zip(last_settings).is_some_and(|(first, last)| first != last) {
                // Which query it was shows where they run one by one.
                return Err(Health::Spent);
            }
            last = behind;
            ran.push(answered);
        }
        let (mut again, mut is_over) = (Vec::new(), false);
        if let Some(failed) = failed {
            // An error has skipped the rest of its group. What comes before it may have been read under settings
            // that went with its transaction. A limit of ours ends quick queries on a busy server now and then, and
            // tables change: there it is believed, or each would cost a session.
            let is_believed = ran.is_empty() || failed.outcome.failed_by_itself();
            if !ran.is_empty() && failed.outcome.is_of_a_pooler() {
                // Or one before it has deallocated its statement: that shows where they run one by one.
                return Err(Health::Spent);
            }
            let is_ready = failed.outcome.remaining == Remaining::Nothing;
            again.extend(self.settle(failed)?);
            if !is_believed {
                return Err(Health::Spent);
            }
            is_over = again.is_empty() && !is_ready;
            again.extend(rest.map(|(pending, _)| pending));
        }
        ran.into_iter().for_each(|answered| self.tell(answered));
        if is_over { Err(Health::Spent) } else { Ok(again) }
    }

    /// Ends a job that was answered, or returns it for another try when there is another way to send it.
    fn settle(&mut self, mut answered: AnsweredJob<'j, 'q>) -> Result<Option<PendingJob<'j, 'q>>, Health> {
        let (sql, outcome) = (answered.pending.job.sql, &answered.outcome);
        let in_snapshot = self.session.requests.in_snapshot;
        if outcome.has_closed_portals() {
            // It is read again elsewhere, and runs outside of groups from then on.
            self.session.statements.mark_changing_settings(sql);
            return Err(Health::Spent);
        }
        // The one that was refused before it may have deallocated the session's statements: nothing undoes that.
        if self.has_refused && !in_snapshot && outcome.is_of_a_pooler() && !outcome.has_begun {
            return Err(Health::Spent);
        }
        if let Some(error) = outcome.refused_before_it_began()
            && answered.pending.tries < MAX_TRIES
            && self.session.adapt(sql, error)
        {
            answered.pending.tries += 1;
            return Ok(Some(answered.pending));
        }
        let has_deallocated = outcome.has_deallocated();
        if has_deallocated {
            self.session.forget_statements();
        }
        let is_over = outcome.remaining == Remaining::Unread || has_deallocated && !in_snapshot;
        self.has_refused |= outcome.refusal.is_some();
        self.tell(answered);
        if is_over { Err(Health::Spent) } else { Ok(None) }
    }

    /// Tells the sink what became of its job. A good run that left the session as it was need not be looked at again.
    fn tell(&mut self, answered: AnsweredJob<'j, 'q>) {
        let AnsweredJob { pending, outcome, start, limits, until } = answered;
        let here = outcome.at.saturating_duration_since(start);
        let round_trip = self.session.connection.round_trip();
        let mut took = outcome.took().unwrap_or_else(|| here.saturating_sub(round_trip));
        let has_deallocated = outcome.has_deallocated();
        let leaves_no_trace = !outcome.has_changed_settings();
        let verdict = match (outcome.stopped, outcome.refusal) {
            (Some(end), _) => end,
            (None, None) => Ok(()),
            (None, Some(error)) => {
                let limit = Duration::from_millis(limits.statement.into());
                let ours = Duration::from_millis(limits.ours.into());
                let requests = &self.session.requests;
                let is_session_limit = match requests.own_limits.statement {
                    0 => requests.guard.pooled && here < ours,
                    own => own < limits.ours,
                };
                Err(if error.is_statement_timeout(here, limit) && is_session_limit {
                    stopped_by_session_limit(took).with_sqlstate(error.code)
                } else if error.is_statement_timeout(here, limit) {
                    // It ran that long; the round trip may have looked longer than it was.
                    took = took.max(ours);
                    timed_out(start).with_sqlstate(error.code)
                } else if error.code == "57014" && until.passed() {
                    timed_out(start).with_sqlstate(error.code)
                } else if has_deallocated {
                    let message = "the query has deallocated the session's prepared statements";
                    let error = Error::new(Reason::Sql, message).with_sqlstate(error.code);
                    error.with_hint("leave out DEALLOCATE ALL in the functions that it calls")
                } else {
                    let before = requests.characters_before(pending.job.sql, limits);
                    error.of_statement_behind(before, pending.job.sql.text())
                })
            }
        };
        if verdict.is_ok() && leaves_no_trace {
            self.session.statements.mark_harmless(pending.job.sql);
        }
        self.end(pending.job, verdict, took);
    }
}

fn timed_out(start: Instant) -> Error {
    let message = format!("not finished after {:.1?}: stopped at its deadline", start.elapsed());
    Error::new(Reason::Timeout, message)
}

/// A limit of the administrator's or of `session_sql` was smaller than ours.
fn stopped_by_session_limit(took: Duration) -> Error {
    let message = format!("not finished after {took:.1?}: stopped by the session's statement_timeout");
    Error::new(Reason::Timeout, message).with_hint(
        "it is set for the role, the database, in session_sql, in params.options or in the server's configuration",
    )
}
