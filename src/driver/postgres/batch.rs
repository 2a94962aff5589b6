//! The jobs of one batch on a session: which are sent together, second tries, and what each job's sink is told.
//!
//! All that can leave at once does: statements that the session does not know are prepared in one message; then those
//! that it has seen leave in groups under one `Sync`, the others each under a `Sync` of its own, with what follows it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::driver::{Health, Job, Sql, too_few_parameters};
use crate::error::{Error, Reason};

use super::connection::ExchangeError;
use super::errors::ServerError;
use super::guard_statement::QueryLimits;
use super::request::{GroupWriter, QueryProtocol, SentQuery};
use super::response::{ExpectedResponse, JobFailure, JobOutcome, Remaining, ResponseReader};
use super::result_shape::ResultShape;
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

/// What became of a job that was answered.
enum JobProgress {
    /// Its sink knows. `succeeded`: it gave its result.
    Ended { remaining: Remaining, succeeded: bool },
    /// It did not run; the next try is another way.
    Again,
}

/// The shapes and limits of the queries under one `Sync`.
type SentGroup = Vec<(Arc<ResultShape>, QueryLimits)>;

/// The answer to one job.
struct PgJobAnswer {
    outcome: Result<JobOutcome, ExchangeError>,
    /// Since when the server has worked on it.
    start: Instant,
    limits: QueryLimits,
    until: Deadline,
}

/// The jobs that have not ended, in order, and the session that runs them.
pub(super) struct Batch<'s, 'j, 'q> {
    session: &'s mut PgSession,
    jobs: Vec<PendingJob<'j, 'q>>,
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
        let start = Instant::now();
        let due = jobs.first().map_or(by, |job| job.answer_due(start, by));
        if let Err(error) = session.prepare_itself(due) {
            return Err(match jobs.split_first_mut() {
                Some((first, others)) if error.reason() == Reason::Timeout => {
                    first.sink.end(Err(timed_out(start)), start.elapsed());
                    if others.is_empty() { Health::Spent } else { abandoned() }
                }
                _ => Health::Lost(error),
            });
        }
        let mut pending = Vec::with_capacity(jobs.len());
        for job in jobs {
            match session.check(job.sql).and_then(|()| session.check_parameters(job.parameters)) {
                Ok(()) => pending.push(PendingJob { job, tries: 0 }),
                Err(error) => job.sink.end(Err(error), Duration::ZERO),
            }
        }
        let mut batch = Batch { session, jobs: pending, by, has_refused: false };
        match batch.run_pending() {
            Err(Health::Spent) if !batch.jobs.is_empty() => Err(abandoned()),
            done => done,
        }
    }

    fn run_pending(&mut self) -> Result<(), Health> {
        loop {
            self.session.check_sharing().map_err(Health::Lost)?;
            self.end_late();
            self.prepare()?;
            self.end_unbound();
            if self.jobs.is_empty() {
                return Ok(());
            }
            // What leaves in groups first: one message for them, and one for the others.
            let session = &*self.session;
            let is_harmless = |pending: &PendingJob<'_, '_>| session.is_harmless(pending.job.sql);
            self.jobs.sort_by_key(|pending| !is_harmless(pending));
            match self.jobs.iter().take_while(|pending| is_harmless(pending)).count() {
                harmless @ 2.. => self.run_in_groups(harmless)?,
                _ => self.run_apart()?,
            }
        }
    }

    /// Ends the jobs that have no time left. Nothing was sent for them: the session is as good as before.
    fn end_late(&mut self) {
        let by = self.by;
        self.jobs.retain_mut(|pending| {
            let has_time = !by.passed() && !pending.job.allowance.is_zero();
            if !has_time {
                pending.job.sink.end(Err(timed_out(Instant::now())), Duration::ZERO);
            }
            has_time
        });
    }

    /// Ends the jobs that bind fewer parameters than their statements have. Of one that binds none, the server says it.
    fn end_unbound(&mut self) {
        let statements = &self.session.statements;
        self.jobs.retain_mut(|PendingJob { job, .. }| {
            let needed = statements.get(job.sql).map_or(0, |known| known.shape.parameters);
            let is_bound = job.parameters.is_empty() || needed <= job.parameters.len();
            if !is_bound {
                job.sink.end(Err(too_few_parameters(needed, job.parameters.len())), Duration::ZERO);
            }
            is_bound
        });
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
                    pending.job.sink.end(Err(timed_out(start)), start.elapsed());
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
            let outcome = JobOutcome {
                verdict: Err(JobFailure::Server(error.clone())),
                has_begun: false,
                at: Instant::now(),
                took: None,
                remaining: Remaining::Nothing,
                refusal: None,
            };
            self.tell(pending.job, outcome, start, limits, self.by);
        }
    }

    /// The first jobs, each under a `Sync` of its own with what follows it: as many as there is room for, and one alone
    /// behind a pooler or in the simple protocol.
    fn run_apart(&mut self) -> Result<(), Health> {
        let all_sent = self.queue_apart().map_err(lost)?;
        let is_reset = self.session.queue_end().map_err(lost)?;
        self.session.connection.send(self.by).map_err(lost)?;
        let count = all_sent.len();
        // Jobs before this place are to be tried once more.
        let mut place = 0;
        let mut start = Instant::now();
        for (index, sent) in all_sent.into_iter().enumerate() {
            let (is_last, is_undone) = (index + 1 == count, sent.undone);
            let expected = ExpectedResponse {
                shape: sent.shape,
                results_before: sent.results_before,
                began: None,
                leads: false,
                bound_to: self.session.bound_to(),
            };
            let (sql, until) = (self.jobs[place].job.sql, self.jobs[place].job.answer_due(start, self.by));
            let mut reader = ResponseReader::new(self.jobs[place].job, expected);
            let mut outcome = reader.read(&mut self.session.connection, &mut self.session.spans, until);
            let (role, has_changed) = (reader.role(), reader.has_changed_settings());
            self.session.note_role(role);
            if let (0, Ok(JobOutcome { took: Some(took), at, .. })) = (index, &outcome) {
                let elapsed = at.saturating_duration_since(start);
                self.session.connection.note_round_trip(elapsed.saturating_sub(*took));
            }
            let (mut health, mut left_open) = (None, false);
            if let Ok(outcome) = &mut outcome
                && outcome.remaining.is_nothing()
            {
                let soon = until.max(Deadline::within(ROLLBACK_TIME));
                left_open = outcome.remaining == Remaining::OpenTransaction && !is_undone;
                health = self.end_transaction(outcome, is_undone, is_last, left_open && is_reset, soon);
            }
            let settled = self.settle(place, PgJobAnswer { outcome, start, limits: sent.limits, until })?;
            if let Some(health) = health {
                return Err(health);
            }
            let is_gone = is_undone || self.session.requests.rolls_back_itself();
            self.note_settings_change(sql, &settled, has_changed && !is_gone)?;
            if left_open && is_reset && is_last {
                return self.session.end_batch(true, self.by);
            }
            place += usize::from(matches!(settled, JobProgress::Again));
            start = Instant::now();
        }
        if is_reset { self.session.end_batch(false, self.by) } else { Ok(()) }
    }

    /// Queues the first jobs; says what was sent for each.
    fn queue_apart(&mut self) -> io::Result<Vec<SentQuery>> {
        let is_named = self.session.requests.protocol == QueryProtocol::Named;
        let mut all_sent = Vec::new();
        for (index, PendingJob { job, .. }) in self.jobs.iter().enumerate() {
            let known = self.session.statements.get(job.sql);
            let has_room = self.session.connection.out.len() < MAX_SENT_AT_ONCE;
            let is_next = is_named && known.is_some() && !self.session.is_harmless(job.sql) && has_room;
            if index > 0 && !is_next {
                break;
            }
            let limits = self.session.limits(job.allowance, self.by);
            let out = &mut self.session.connection.out;
            all_sent.push(self.session.requests.query(job.sql, job.parameters, known, limits, out)?);
            if self.session.statements.keeps_changed_settings(job.sql) {
                break;
            }
        }
        Ok(all_sent)
    }

    /// Judges the end of a job's transaction, or brings it about. What fails there is the job's failure, unless it had
    /// one; then the session is of no more use. `is_reset`: the end of the batch ran within that transaction.
    fn end_transaction(
        &mut self,
        outcome: &mut JobOutcome,
        is_undone: bool,
        is_last: bool,
        is_reset: bool,
        by: Deadline,
    ) -> Option<Health> {
        let ended = if is_undone {
            self.session.connection.rows(by).map(drop)
        } else if outcome.remaining == Remaining::Nothing {
            return None;
        } else {
            if is_reset && is_last {
                match self.session.read_reset(by) {
                    Ok(_) | Err(ExchangeError::Refused(_)) => {}
                    Err(error) => return Some(lost(error)),
                }
            }
            if self.session.requests.protocol == QueryProtocol::Console {
                return None;
            }
            // What was sent behind it has run, or failed, in its transaction.
            if !is_last {
                return Some(Health::Spent);
            }
            self.session.roll_back(by)
        };
        let error = ended.err()?;
        if outcome.verdict.is_ok() {
            outcome.verdict = Err(match error {
                ExchangeError::Refused(error) => JobFailure::Server(error),
                error => JobFailure::Ours(error.while_doing("the end of its transaction")),
            });
        }
        // Its sink is told: there is no other try on this session.
        outcome.has_begun = true;
        Some(Health::Spent)
    }

    /// A statement that changed the settings that others read by is not trusted; those behind it in its batch ran under what
    /// it left. Behind a pooler there are none.
    fn note_settings_change(
        &mut self,
        sql: &Sql,
        settled: &JobProgress,
        has_changed: bool,
    ) -> Result<(), Health> {
        if !has_changed || self.session.requests.in_snapshot {
            if matches!(settled, JobProgress::Ended { succeeded: true, .. }) {
                self.session.statements.mark_harmless(sql);
            }
        } else if !self.session.statements.keeps_changed_settings(sql) {
            self.session.statements.mark_changing_settings(sql);
            if self.session.is_ours_alone() {
                return Err(Health::Spent);
            }
        }
        Ok(())
    }

    /// The first jobs, `count` at most, [`GROUP_SIZE`] at most under each `Sync`. Only queries that the session has seen
    /// before. An error skips what follows it in its group; that goes into the next message.
    fn run_in_groups(&mut self, count: usize) -> Result<(), Health> {
        let groups = self.queue_groups(count).map_err(lost)?;
        let is_reset = self.session.queue_end().map_err(lost)?;
        self.session.connection.send(self.by).map_err(lost)?;
        // Jobs before this place are to be run once more.
        let mut place = 0;
        let mut start = Instant::now();
        for group in groups {
            // No sink is told of its end before the group has one: a query that changed what others read by shows there.
            let (ran, failed) = self.read_group(&group, place, &mut start)?;
            let Some(answer) = failed else {
                self.tell_all(place, ran);
                continue;
            };
            // An error has skipped the rest of its group. What comes before it may have been read under settings
            // that went with its transaction. A limit of ours ends quick queries on a busy server now and then, and
            // tables change: there it is believed, or each would cost a session.
            let is_believed = answer.outcome.as_ref().is_ok_and(JobOutcome::failed_by_itself);
            if !ran.is_empty() && answer.outcome.as_ref().is_ok_and(JobOutcome::is_of_a_pooler) {
                // Or one before it has deallocated its statement: that shows where they run one by one.
                return Err(Health::Spent);
            }
            let skipped = group.len() - ran.len();
            let settled = self.settle(place + ran.len(), answer)?;
            if !is_believed && !ran.is_empty() {
                return Err(Health::Spent);
            }
            self.tell_all(place, ran);
            match settled {
                JobProgress::Ended { remaining: Remaining::Nothing, .. } => place += skipped - 1,
                JobProgress::Ended { .. } => return Err(Health::Spent),
                JobProgress::Again => place += skipped,
            }
        }
        if is_reset { self.session.end_batch(false, self.by) } else { Ok(()) }
    }

    /// Reads the answers of a group whose first job is at `place`: those of the jobs that have run, and of one that has not.
    fn read_group(
        &mut self,
        group: &SentGroup,
        place: usize,
        start: &mut Instant,
    ) -> Result<(Vec<PgJobAnswer>, Option<PgJobAnswer>), Health> {
        let (mut began, mut first_settings) = (None, None);
        let mut ran = Vec::with_capacity(group.len());
        for (index, (shape, limits)) in group.iter().enumerate() {
            let pending = &mut self.jobs[place + index];
            let until = pending.job.answer_due(*start, self.by);
            let has_local = self.session.requests.local.is_some();
            let expected = ExpectedResponse {
                shape: Some(Arc::clone(shape)),
                results_before: 1 + usize::from(index == 0 && has_local),
                began,
                leads: index + 1 < group.len(),
                bound_to: self.session.bound_to(),
            };
            let mut reader = ResponseReader::new(pending.job, expected);
            let outcome = reader.read(&mut self.session.connection, &mut self.session.spans, until);
            first_settings = first_settings.or(reader.settings_before());
            let (role, last_settings) = (reader.role(), reader.settings_behind());
            began = reader.ended();
            self.session.note_role(role);
            let answer = PgJobAnswer { start: *start, limits: *limits, until, outcome };
            match &answer.outcome {
                Ok(outcome) if outcome.has_run() => *start = outcome.at,
                outcome => {
                    *start = outcome.as_ref().map_or(*start, |outcome| outcome.at);
                    return Ok((ran, Some(answer)));
                }
            }
            ran.push(answer);
            if first_settings.zip(last_settings).is_some_and(|(first, last)| first != last) {
                // Which query it was shows where they run one by one.
                return Err(Health::Spent);
            }
        }
        Ok((ran, None))
    }

    /// Queues the first jobs; says the shape and limits of each, group by group.
    fn queue_groups(&mut self, count: usize) -> io::Result<Vec<SentGroup>> {
        let longest = Duration::from_millis(self.session.limits(Duration::MAX, self.by).ours.into());
        let (requests, statements) = (&self.session.requests, &self.session.statements);
        let out = &mut self.session.connection.out;
        out.reserve(self.jobs.len().min(count) * QUERY_BYTES);
        let mut groups = Vec::with_capacity(count.div_ceil(GROUP_SIZE));
        let mut sent = Vec::with_capacity(count.min(GROUP_SIZE));
        let mut group = GroupWriter::new(requests);
        for PendingJob { job, .. } in self.jobs.iter().take(count) {
            let Some(known) = statements.get(job.sql).filter(|_| out.len() < MAX_SENT_AT_ONCE) else { break };
            if sent.len() == GROUP_SIZE || !group.takes(job.sql) {
                std::mem::replace(&mut group, GroupWriter::new(requests)).end(out)?;
                groups.push(std::mem::take(&mut sent));
            }
            let allowance = job.allowance.min(longest);
            let limits = group.query(job.sql, job.parameters, &known.shape, allowance, out)?;
            sent.push((Arc::clone(&known.shape), limits));
        }
        if !sent.is_empty() {
            group.end(out)?;
            groups.push(sent);
        }
        Ok(groups)
    }

    /// Ends the job at `place`, or leaves it there for another try when there is another way to send it.
    fn settle(&mut self, place: usize, answer: PgJobAnswer) -> Result<JobProgress, Health> {
        let PgJobAnswer { outcome, start, limits, until } = answer;
        let in_snapshot = self.session.requests.in_snapshot;
        match outcome {
            Ok(outcome) if outcome.has_closed_portals() => {
                // It is read again elsewhere, and runs outside of groups from then on.
                self.session.statements.mark_changing_settings(self.jobs[place].job.sql);
                Err(Health::Spent)
            }
            // The one that was refused before it may have deallocated the session's statements: nothing undoes that.
            Ok(outcome) if self.has_refused && !in_snapshot && outcome.lacks_statement() => {
                Err(Health::Spent)
            }
            Ok(JobOutcome {
                verdict: Err(JobFailure::Server(error)), has_begun: false, remaining, ..
            }) if remaining.is_nothing()
                && self.jobs[place].tries < MAX_TRIES
                && self.session.adapt(self.jobs[place].job.sql, &error) =>
            {
                self.jobs[place].tries += 1;
                Ok(JobProgress::Again)
            }
            Ok(outcome) => {
                let remaining = outcome.remaining;
                let has_deallocated = outcome.has_deallocated();
                if has_deallocated {
                    self.session.forget_statements();
                }
                let is_over = remaining == Remaining::Unread || has_deallocated && !in_snapshot;
                self.has_refused |= outcome.refusal.is_some();
                let job = self.jobs.remove(place).job;
                let succeeded = self.tell(job, outcome, start, limits, until);
                if is_over { Err(Health::Spent) } else { Ok(JobProgress::Ended { remaining, succeeded }) }
            }
            Err(ExchangeError::Late | ExchangeError::Refused(_)) => {
                self.jobs.remove(place).job.sink.end(Err(timed_out(start)), start.elapsed());
                Err(Health::Spent)
            }
            Err(ExchangeError::Lost(error)) => Err(Health::Lost(error)),
        }
    }

    /// Tells the sinks of the jobs from `place` on, which have run.
    fn tell_all(&mut self, place: usize, ran: Vec<PgJobAnswer>) {
        for PgJobAnswer { outcome, start, limits, .. } in ran {
            if let Ok(outcome) = outcome {
                let job = self.jobs.remove(place).job;
                self.tell(job, outcome, start, limits, self.by);
            }
        }
    }

    /// Tells the sink what became of its job; true for a success.
    fn tell(
        &self,
        job: &mut Job<'_>,
        outcome: JobOutcome,
        start: Instant,
        limits: QueryLimits,
        by: Deadline,
    ) -> bool {
        let here = outcome.at.saturating_duration_since(start);
        let round_trip = self.session.connection.round_trip();
        let mut took = outcome.took.unwrap_or_else(|| here.saturating_sub(round_trip));
        let ours = Duration::from_millis(limits.ours.into());
        let limit = Duration::from_millis(limits.statement.into());
        let has_deallocated = outcome.has_deallocated();
        let verdict = outcome.verdict.map_err(|failure| match failure {
            JobFailure::Ours(error) => error,
            JobFailure::Server(error) if error.is_statement_timeout(here, limit) => {
                let is_session_limit = match self.session.requests.own_limits.statement {
                    0 => self.session.requests.guard().pooled && here < ours,
                    own => own < limits.ours,
                };
                if is_session_limit {
                    stopped_by_session_limit(took).with_sqlstate(error.code)
                } else {
                    // It ran that long; the round trip may have looked longer than it was.
                    took = took.max(ours);
                    timed_out(start).with_sqlstate(error.code)
                }
            }
            JobFailure::Server(error) if error.code == "57014" && by.passed() => {
                timed_out(start).with_sqlstate(error.code)
            }
            JobFailure::Server(error) if has_deallocated => {
                let message = "the query has deallocated the session's prepared statements";
                let error = Error::new(Reason::Sql, message).with_sqlstate(error.code);
                error.with_hint("leave out DEALLOCATE ALL in the functions that it calls")
            }
            JobFailure::Server(error) => {
                let before = self.session.requests.characters_before(job.sql, limits);
                error.of_statement_behind(before, job.sql.text())
            }
        });
        let succeeded = verdict.is_ok();
        job.sink.end(verdict, took);
        succeeded
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

/// The session ended with the job before: the others were never sent.
fn abandoned() -> Health {
    Health::Lost(Error::new(Reason::Lost, "the session ended with the query before"))
}
