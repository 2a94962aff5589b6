//! Jobs on a session: which go together, what is asked of the server before and after them, the second tries and the
//! ways round a pooler.
//!
//! All that can leave at once does: statements that the session does not know are prepared in one message; then those
//! that it has seen go in groups (`group`), the others each under a `Sync` of its own, with what follows it.

use std::io;
use std::time::{Duration, Instant};

use crate::deadline::{Deadline, server_limit};
use crate::driver::{Health, Job, Sql};
use crate::error::{Error, Reason};

use super::errors::ServerError;
use super::guard_statement::QueryLimits;
use super::reply::{ExchangeError, JobFailure, JobOutcome, Remaining, ResponseReader, TransactionStatus};
use super::send::{QueryProtocol, SentQuery, queue};
use super::session::PgSession;
use super::snapshot;
use super::talk::failed;
use super::wire::ResultShape;

/// More bytes do not leave at once: the server may answer before it has read them, and both sides would wait. What is on
/// its way fits the buffers between us.
pub(super) const ROOM: usize = 32 * 1024;
/// How long past its query's deadline the end of its transaction may take.
const ROLLBACK_TIME: Duration = Duration::from_millis(20);
/// How long a statement that is only prepared may wait for a lock: it is tried again when it runs.
const PREPARE_TIME: Duration = Duration::from_millis(100);
/// So often one job is tried another way.
const TRIES: u8 = 2;

/// A job that has not ended.
pub(super) struct PendingJob<'j, 'q> {
    pub(super) job: &'j mut Job<'q>,
    /// How often it was tried.
    pub(super) tries: u8,
}

/// The jobs that have not ended, in order.
pub(super) type PendingJobs<'j, 'q> = Vec<PendingJob<'j, 'q>>;

/// What became of a job that was answered.
pub(super) enum Settled {
    /// Its sink knows. `left`: what the server still sends; `good`: it gave its result.
    Ended { left: Remaining, good: bool },
    /// It did not run; the next try goes another way.
    Again,
}

impl PgSession {
    /// Runs all jobs; `None` when the session serves the next batch.
    pub(super) fn run_all(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Option<Health> {
        let start = Instant::now();
        let due = jobs.first().map_or(by, |job| job.answer_due(start, by));
        match (self.prepare_itself(due), jobs.split_first_mut()) {
            (Err(error), Some((first, others))) if error.reason() == Reason::Timeout => {
                first.sink.end(Err(late(start)), start.elapsed());
                return Some(if others.is_empty() { Health::Spent } else { forsaken() });
            }
            (Err(error), _) => return Some(Health::Lost(error)),
            (Ok(()), _) => {}
        }
        let mut line: PendingJobs<'_, '_> = jobs.iter_mut().filter_map(|job| self.admitted(job)).collect();
        match self.run_line(&mut line, by) {
            Ok(()) => None,
            Err(Health::Spent) if !line.is_empty() => Some(forsaken()),
            Err(health) => Some(health),
        }
    }

    /// Ends a job whose statement may not be sent.
    fn admitted<'j, 'q>(&self, job: &'j mut Job<'q>) -> Option<PendingJob<'j, 'q>> {
        match self.admit(job.sql) {
            Ok(()) => Some(PendingJob { job, tries: 0 }),
            Err(error) => {
                job.sink.end(Err(error), Duration::ZERO);
                None
            }
        }
    }

    fn run_line(&mut self, line: &mut PendingJobs<'_, '_>, by: Deadline) -> Result<(), Health> {
        loop {
            self.check_sharing().map_err(Health::Lost)?;
            end_late(line, by);
            self.learn(line, by)?;
            if line.is_empty() {
                return Ok(());
            }
            // What goes in groups first: one message for them, and one for the others.
            line.sort_by_key(|pending| !self.is_seen(pending.job.sql));
            match line.iter().take_while(|pending| self.is_seen(pending.job.sql)).count() {
                seen @ 2.. => self.groups(line, seen, by)?,
                _ => self.apart(line, by)?,
            }
        }
    }

    /// It has run on this session and left it as it was.
    fn is_seen(&self, sql: &Sql) -> bool {
        let statement = self.known.get(sql.name());
        let harmless = statement.is_some_and(|statement| !statement.undone && statement.harmless);
        self.style == QueryProtocol::Named && !self.in_snapshot && harmless
    }

    /// What the server may spend on a query that has `span` of its time, and until `by` with the way there and back. The
    /// server is told a little less than what is left, so that its own answer comes first and the session lives on.
    pub(super) fn limits(&self, span: Duration, by: Deadline) -> QueryLimits {
        let left = by.left();
        // The way varies; and a busy server's first answers look more distant than it is.
        let way = (self.talk.distance() * 5 / 4).min(left / 2);
        QueryLimits::new(span.min(server_limit(left)).min(left - way), self.own)
    }

    /// Prepares statements that it will likely run. Those that the server refuses stay unknown.
    pub(super) fn prepare_all(&mut self, statements: &[&Sql], by: Deadline) -> Health {
        if self.style != QueryProtocol::Named || self.in_snapshot {
            return Health::Clean;
        }
        let wanted = |sql: &&&Sql| !self.known.contains_key(sql.name()) && self.admit(sql).is_ok();
        let mut wanted: Vec<&Sql> = statements.iter().filter(wanted).copied().collect();
        if wanted.is_empty() {
            return Health::Clean;
        }
        while !wanted.is_empty() {
            // What the session still has to prepare for itself leaves with them.
            let asked = match self.ask_shapes(&wanted, PREPARE_TIME, by) {
                Ok(asked) => asked,
                Err(trouble) => return lost(trouble),
            };
            if let Err(error) = self.read_preparations(by) {
                return Health::Lost(error);
            }
            let (asked, rest) = wanted.split_at(asked);
            match self.read_shapes(asked, |_| by) {
                Ok(_) => {}
                Err((_, trouble)) => return lost(trouble),
            }
            wanted = rest.to_vec();
        }
        self.talk.link.rest();
        Health::Clean
    }

    /// Prepares the statements of jobs that the session does not know, and ends those that the server refuses.
    fn learn(&mut self, line: &mut PendingJobs<'_, '_>, by: Deadline) -> Result<(), Health> {
        loop {
            let most = match self.style {
                QueryProtocol::Named => usize::MAX,
                // A pooler takes one `Sync` after the other.
                QueryProtocol::Unnamed => 1,
                QueryProtocol::Simple | QueryProtocol::Console => return Ok(()),
            };
            let in_reach = line.iter().take(most);
            let unknown = in_reach.filter(|pending| !self.known.contains_key(pending.job.sql.name()));
            let mut asked: Vec<&Sql> = Vec::new();
            let mut allowance = Duration::MAX;
            for pending in unknown {
                if !asked.iter().any(|sql| sql.name() == pending.job.sql.name()) {
                    asked.push(pending.job.sql);
                    allowance = allowance.min(pending.job.allowance);
                }
            }
            if asked.is_empty() {
                return Ok(());
            }
            let count = self.ask_shapes(&asked, allowance, by).map_err(lost)?;
            asked.truncate(count);
            let start = Instant::now();
            let due = |sql: &Sql| {
                let job = line.iter().find(|pending| pending.job.sql.name() == sql.name());
                job.map_or(by, |pending| pending.job.answer_due(start, by))
            };
            match self.read_shapes(&asked, due) {
                Ok(refused) => {
                    self.talk.note_distance(start.elapsed());
                    for (sql, error) in refused {
                        let limits = QueryLimits::new(allowance, self.own);
                        self.end_refused(line, sql, &error, start, limits, by);
                    }
                }
                Err((sql, ExchangeError::Late)) => {
                    let place = line.iter().position(|pending| pending.job.sql.name() == sql.name());
                    let pending = line.remove(place.unwrap_or_default());
                    pending.job.sink.end(Err(late(start)), start.elapsed());
                    return Err(Health::Spent);
                }
                Err((_, trouble)) => return Err(lost(trouble)),
            }
        }
    }

    /// Ends the jobs of a statement that cannot be prepared.
    fn end_refused(
        &mut self,
        line: &mut PendingJobs<'_, '_>,
        sql: &Sql,
        error: &ServerError,
        start: Instant,
        limits: QueryLimits,
        by: Deadline,
    ) {
        if self.adapt(sql, error) {
            return;
        }
        let mut place = 0;
        while let Some(pending) = line.get(place) {
            if pending.job.sql.name() == sql.name() {
                let left = Remaining::Nothing(TransactionStatus::None);
                let verdict = Err(JobFailure::Server(error.clone()));
                let over = JobOutcome { verdict, begun: false, at: Instant::now(), took: None, left };
                self.tell(line.remove(place).job, over, start, limits, by);
            } else {
                place += 1;
            }
        }
    }

    /// Asks for the shapes of as many statements as there is room for, and says how many.
    fn ask_shapes(
        &mut self,
        statements: &[&Sql],
        allowance: Duration,
        by: Deadline,
    ) -> Result<usize, ExchangeError> {
        let (way, limits) = (self.way(), self.limits(allowance, by));
        let out = &mut self.talk.link.out;
        let mut count = 0;
        for sql in statements {
            if count > 0 && out.len() + sql.text().len() > ROOM {
                break;
            }
            let name = if way.style == QueryProtocol::Named { sql.name() } else { "" };
            way.queue_description(name, sql, limits, out)?;
            count += 1;
        }
        self.talk.link.send(by)?;
        Ok(count)
    }

    /// Remembers the shapes that come; returns what the server refuses, or at which statement the answers end.
    #[expect(clippy::result_large_err, reason = "it ends the session: rare, and handed on once")]
    fn read_shapes<'s>(
        &mut self,
        asked: &[&'s Sql],
        due: impl Fn(&Sql) -> Deadline,
    ) -> Result<Vec<(&'s Sql, ServerError)>, (&'s Sql, ExchangeError)> {
        let is_undone = self.way().is_undone_at_once();
        let (mut refused, mut accepted, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
        for &sql in asked {
            let by = due(sql);
            match self.talk.read_shape(by) {
                Ok(shape) => {
                    accepted.push(sql);
                    shapes.push(shape);
                }
                Err(ExchangeError::Refused(error)) => refused.push((sql, error)),
                Err(trouble) => return Err((sql, trouble)),
            }
            if is_undone {
                self.talk.rows(by).map_err(|trouble| (sql, trouble))?;
            } else if self.in_snapshot && !refused.is_empty() {
                // The error of the statement is what matters, not that of the way back.
                let undone = self.roll_back(by);
                undone.map_err(|trouble| (sql, trouble))?;
            }
        }
        if let Some(&first) = accepted.first() {
            self.talk.complete(&mut shapes, due(first)).map_err(|trouble| (first, trouble))?;
        }
        for (sql, shape) in accepted.into_iter().zip(shapes) {
            self.remember(sql, shape);
        }
        Ok(refused)
    }

    /// The shape of a statement that is not kept.
    pub(super) fn describe_unnamed(&mut self, sql: &Sql, by: Deadline) -> Result<ResultShape, ExchangeError> {
        let (way, limits) = (self.way(), self.limits(by.left(), by));
        way.queue_description("", sql, limits, &mut self.talk.link.out)?;
        self.talk.link.send(by)?;
        let mut shapes = [self.talk.read_shape(by)?];
        self.talk.complete(&mut shapes, by)?;
        let [shape] = shapes;
        Ok(shape)
    }

    /// The first jobs, each under a `Sync` of its own with what follows it: as many as there is room for, and one alone
    /// where a pooler or the simple protocol is between.
    fn apart(&mut self, line: &mut PendingJobs<'_, '_>, by: Deadline) -> Result<(), Health> {
        let flight = self.queue_apart(line, by).map_err(|error| lost(error.into()))?;
        let is_reset = self.queue_end().map_err(|error| lost(error.into()))?;
        self.talk.link.send(by).map_err(|error| lost(error.into()))?;
        let count = flight.len();
        // Jobs before this place are to be tried once more.
        let mut place = 0;
        let mut start = Instant::now();
        for (index, sent) in flight.into_iter().enumerate() {
            let pending = &mut line[place];
            let (sql, until) = (pending.job.sql, pending.job.answer_due(start, by));
            let (before, undone, limits) = (sent.before, sent.undone, sent.limits);
            let reply = ResponseReader::new(pending.job, &self.talk.types, sent.shape, before);
            let mut reply = reply.bound_to(self.is_bound.then_some(self.standing));
            let mut over = reply.read(&mut self.talk.link, &mut self.spans, until);
            let (standing, has_changed) = (reply.standing(), reply.has_changed_settings());
            self.hear(standing);
            if let (0, Ok(JobOutcome { took: Some(took), at, .. })) = (index, &over) {
                self.talk.note_distance(at.saturating_duration_since(start).saturating_sub(*took));
            }
            let mut health = None;
            // The transaction that it left open is undone, with all that it set.
            let mut is_open = false;
            if let Ok(over @ JobOutcome { left: Remaining::Nothing(_), .. }) = &mut over {
                let soon = until.max(Deadline::within(ROLLBACK_TIME));
                let undo = undone.then(|| self.talk.rows(soon).map(drop));
                is_open = over.left == Remaining::Nothing(TransactionStatus::Open) && !undone;
                if is_open && is_reset && index + 1 == count {
                    // It ran within the query's own transaction.
                    let within = self.read_reset(soon);
                    health = within
                        .err()
                        .filter(|trouble| !matches!(trouble, ExchangeError::Refused(_)))
                        .map(lost);
                }
                health = health.or(self.close(over, undo, index + 1 == count, soon));
            }
            let good = match self.settle(line, place, over, start, limits, until)? {
                Settled::Ended { good, .. } => good,
                Settled::Again => {
                    place += 1;
                    false
                }
            };
            if let Some(health) = health {
                return Err(health);
            }
            match has_changed && !undone && !self.in_snapshot {
                true if !self.is_unruly(sql) => {
                    self.distrust(sql);
                    // Those behind it ran under what it left; behind a pooler nothing is.
                    if self.home.is_some() {
                        return Err(Health::Spent);
                    }
                }
                true => {}
                false if good => self.trust(sql),
                false => {}
            }
            if is_open && is_reset && index + 1 == count {
                return self.end_anew(by);
            }
            start = Instant::now();
        }
        if is_reset { self.read_end(by) } else { Ok(()) }
    }

    /// Puts the end of a batch behind what is sent, where the session is ours alone. A snapshot has its own.
    pub(super) fn queue_end(&mut self) -> io::Result<bool> {
        let is_ours = self.home.is_some() && !self.in_snapshot;
        if is_ours {
            self.queue_reset()?;
        }
        Ok(is_ours)
    }

    /// Reads its answer: a session that is not as it was serves no more.
    pub(super) fn read_end(&mut self, by: Deadline) -> Result<(), Health> {
        match self.read_reset(by) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Health::Spent),
            // The pooler that was just found does not know these statements either.
            Err(ExchangeError::Refused(_)) if self.home.is_none() => Ok(()),
            Err(trouble) => Err(lost(trouble)),
        }
    }

    /// The end of a batch once more, where the first was lost in a transaction that was left open.
    fn end_anew(&mut self, by: Deadline) -> Result<(), Health> {
        match self.reset(by) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Health::Spent),
            Err(trouble) => Err(lost(trouble)),
        }
    }

    /// What was sent for each job.
    fn queue_apart(&mut self, line: &PendingJobs<'_, '_>, by: Deadline) -> io::Result<Vec<SentQuery>> {
        let way = self.way();
        let most = if way.style == QueryProtocol::Named { usize::MAX } else { 1 };
        let mut flight = Vec::new();
        for (index, pending) in line.iter().take(most).enumerate() {
            let job = &pending.job;
            let statement = self.known.get(job.sql.name());
            let is_next = statement.is_some() && !self.is_seen(job.sql) && self.talk.link.out.len() < ROOM;
            if index > 0 && !is_next {
                break;
            }
            let limits = self.limits(job.allowance, by);
            let out = &mut self.talk.link.out;
            flight.push(queue(&way, job.sql, statement, limits, out)?);
            if self.is_unruly(job.sql) {
                break;
            }
        }
        Ok(flight)
    }

    /// Judges the end of a job's transaction, or brings it about. What fails there is the job's failure, unless it had
    /// one; then the session is of no more use.
    fn close(
        &mut self,
        over: &mut JobOutcome,
        undo: Option<Result<(), ExchangeError>>,
        is_last: bool,
        by: Deadline,
    ) -> Option<Health> {
        let closed = match (undo, over.left) {
            (Some(undo), _) => undo,
            (None, Remaining::Nothing(TransactionStatus::Open)) if self.style == QueryProtocol::Console => {
                return None;
            }
            // What was sent behind it has run, or failed, in its transaction.
            (None, Remaining::Nothing(TransactionStatus::Open)) if !is_last => return Some(Health::Spent),
            (None, Remaining::Nothing(TransactionStatus::Open)) => self.roll_back(by),
            _ => return None,
        };
        let trouble = closed.err()?;
        if over.verdict.is_ok() {
            over.verdict = Err(match trouble {
                ExchangeError::Refused(error) => JobFailure::Server(error),
                trouble => JobFailure::Ours(failed("the end of its transaction", trouble)),
            });
        }
        // It is told: there is no other try on this session.
        over.begun = true;
        Some(Health::Spent)
    }

    /// Leaves a transaction, or undoes what a query of a snapshot did.
    fn roll_back(&mut self, by: Deadline) -> Result<(), ExchangeError> {
        let statement = if self.in_snapshot { snapshot::UNDO } else { "ROLLBACK" };
        self.talk.ask(statement, by).map(drop)
    }

    /// Ends the job at `place`, or leaves it there for another try when there is a way round the refusal.
    pub(super) fn settle(
        &mut self,
        line: &mut PendingJobs<'_, '_>,
        place: usize,
        over: Result<JobOutcome, ExchangeError>,
        start: Instant,
        limits: QueryLimits,
        by: Deadline,
    ) -> Result<Settled, Health> {
        match over {
            Ok(JobOutcome {
                verdict: Err(JobFailure::Server(error)),
                begun: false,
                left: Remaining::Nothing(_),
                ..
            }) if line[place].tries < TRIES && self.adapt(line[place].job.sql, &error) => {
                line[place].tries += 1;
                Ok(Settled::Again)
            }
            Ok(over) => {
                let left = over.left;
                let good = self.tell(line.remove(place).job, over, start, limits, by);
                if left == Remaining::Unread { Err(Health::Spent) } else { Ok(Settled::Ended { left, good }) }
            }
            Err(ExchangeError::Late | ExchangeError::Refused(_)) => {
                line.remove(place).job.sink.end(Err(late(start)), start.elapsed());
                Err(Health::Spent)
            }
            Err(ExchangeError::Lost(error)) => Err(Health::Lost(error)),
        }
    }

    /// Tells the sink what became of its job; true for a good one.
    pub(super) fn tell(
        &self,
        job: &mut Job<'_>,
        over: JobOutcome,
        start: Instant,
        limits: QueryLimits,
        by: Deadline,
    ) -> bool {
        let here = over.at.saturating_duration_since(start);
        let mut took = over.took.unwrap_or_else(|| here.saturating_sub(self.talk.distance()));
        let verdict = over.verdict.map_err(|wrong| match wrong {
            JobFailure::Ours(error) => error,
            JobFailure::Server(error) if error.is_statement_timeout() => {
                let is_own = match self.own.statement {
                    0 => self.marker_kind.pooled && here < Duration::from_millis(limits.ours.into()),
                    own => own < limits.ours,
                };
                if is_own {
                    stopped_by_its_own(took).with_sqlstate(error.code)
                } else {
                    // It ran that long; the way here may have looked longer than it was.
                    took = took.max(Duration::from_millis(limits.ours.into()));
                    late(start).with_sqlstate(error.code)
                }
            }
            JobFailure::Server(error) if error.code == "57014" && by.passed() => {
                late(start).with_sqlstate(error.code)
            }
            JobFailure::Server(error) => error.of_statement(job.sql.text()),
        });
        let good = verdict.is_ok();
        job.sink.end(verdict, took);
        good
    }
}

/// Ends the jobs that have no time left. Nothing was sent for them: the session is as good as before.
fn end_late(line: &mut PendingJobs<'_, '_>, by: Deadline) {
    line.retain_mut(|pending| {
        let has_time = !by.passed() && !pending.job.allowance.is_zero();
        if !has_time {
            pending.job.sink.end(Err(late(Instant::now())), Duration::ZERO);
        }
        has_time
    });
}

fn late(start: Instant) -> Error {
    Error::new(
        Reason::Timeout,
        format!("not finished after {:.1?}: stopped at its deadline", start.elapsed()),
    )
}

/// A limit of the administrator's or of `session_sql` was smaller than ours.
fn stopped_by_its_own(took: Duration) -> Error {
    Error::new(Reason::Timeout, format!("not finished after {took:.1?}: stopped by the session's statement_timeout"))
        .with_hint("it is set for the role, the database, in session_sql, in params.options or in the server's configuration")
}

/// The session ended with the job before: the turn of its neighbours never came.
fn forsaken() -> Health {
    Health::Lost(Error::new(Reason::Lost, "the session ended with the query before"))
}

pub(super) fn lost(trouble: ExchangeError) -> Health {
    Health::Lost(failed("running queries together", trouble))
}
