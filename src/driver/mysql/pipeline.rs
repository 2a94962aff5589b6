//! Jobs on their way: preparing statements, and running several of them, in one round trip each.
//!
//! Each job is two commands, the limits and the statement: the server's own deadline and read-only mode are set again
//! before each statement, whatever the last one did to them (a stored function may). All leave together, and the answers
//! are read one by one. The server goes on after an error, so that a job which fails costs its neighbours nothing. The
//! server's deadline strikes first and leaves the connection usable; when the server does not answer, ours follows, and
//! the connection is given up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::driver::statement::{Dialect, check_read_only};
use crate::driver::{Column, Flow, Job, Row, RowSink, Sql};
use crate::error::{Error, Reason, Result};

use super::errors::{Fault, is_stale, is_text_only};
use super::login::{Doubt, Server};
use super::packet;
use super::packet::{Form, Prepared, ServerError};
use super::reply::{After, Answered, Change, GRACE, Streamed, Turn, stream};
use super::residue::leaves_something;
use super::server_info::{Learned, Limits, read_count};
use super::statement_cache::{Known, Way};
use super::talk::{Talk, Trouble};

/// How long a session may take to forget what a query left behind.
const FORGETTING: Duration = Duration::from_secs(1);

/// Jobs that have not ended, in order.
pub(super) type Jobs<'j, 'q> = VecDeque<&'j mut Job<'q>>;

/// What was sent for one job.
struct Sent {
    limits: Limits,
    /// How long the server may work on it.
    allowed: Duration,
    form: Form,
}

/// The time of jobs that were sent together: when the server began with one of them it does not tell. The way is not
/// taken off: on a busy machine it is not known well enough, and what is too long here costs a question at most.
struct Clock {
    sent: Instant,
    /// So many were ended by the server's limit, with an error.
    by_limit: u64,
    /// That took at least so long.
    by_limit_took: Duration,
}

impl Clock {
    /// The last statement that was answered has not run for longer.
    fn longest(&self) -> Duration {
        self.sent.elapsed().saturating_sub(self.by_limit_took)
    }

    fn note(&mut self, answered: &Answered) {
        if answered.is_by_limit() {
            self.by_limit += 1;
            self.by_limit_took += answered.limit();
        }
    }
}

/// What the server made of one statement.
type Answer<T> = Result<T, ServerError>;

/// What it takes to run statements on one connection.
pub(super) struct Pipeline {
    pub(super) talk: Talk,
    pub(super) learned: Learned,
    server: Arc<Server>,
    known: Known,
    /// How many statements the server's limit has ended, as it counts them; `None` while that is not known.
    ended_by_limit: Option<u64>,
    /// One transaction is around what runs.
    pub(super) in_snapshot: bool,
    /// The session is not what it was after its login, or may not be.
    is_changed: bool,
    /// The batch has left a variable or a lock.
    has_residue: bool,
}

impl Pipeline {
    /// Of a connection that was set up.
    pub(super) fn new(talk: Talk, learned: Learned, server: &Arc<Server>) -> Self {
        Pipeline {
            talk,
            learned,
            server: Arc::clone(server),
            known: Known::default(),
            ended_by_limit: Some(0),
            in_snapshot: false,
            is_changed: false,
            has_residue: false,
        }
    }

    /// What keeps a statement from being sent: the first-keyword check of a read-only target.
    pub(super) fn check(&self, sql: &str) -> Result<()> {
        if !self.server.login.read_only {
            return Ok(());
        }
        if self.learned.other_strings && sql.contains('\\') {
            let message = "sql_mode holds NO_BACKSLASH_ESCAPES or ANSI_QUOTES, or character_set_client is one in which a backslash may \
                 be half a character: what a backslash means is not known";
            return Err(
                Error::new(Reason::ReadOnly, message).with_hint("write the statement without backslashes")
            );
        }
        check_read_only(sql, Dialect::MySql)
    }

    /// Makes the session what it was after its login, where it is not; false when that failed, and the connection is no
    /// more.
    pub(super) fn is_as_before(&mut self) -> bool {
        if !std::mem::take(&mut self.is_changed) {
            return true;
        }
        self.known.clear();
        let session_sql = &self.server.login.session_sql;
        let count = self.learned.reset(&mut self.talk, session_sql, Deadline::within(FORGETTING));
        self.ended_by_limit = count.as_ref().ok().copied().flatten();
        count.is_ok()
    }

    /// Ends a job whose statement may not be sent.
    pub(super) fn admitted<'j, 'q>(&self, job: &'j mut Job<'q>) -> Option<&'j mut Job<'q>> {
        match self.check(job.sql.text()) {
            Ok(()) => Some(job),
            Err(error) => {
                job.sink.end(Err(error), Duration::ZERO);
                None
            }
        }
    }

    /// Runs the first jobs, as many as may go together; those that did not end stay.
    pub(super) fn next_jobs(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> After {
        if by.passed() {
            for job in jobs.drain(..) {
                let error = Error::new(Reason::Timeout, "no time was left to start");
                job.sink.end(Err(error), Duration::ZERO);
            }
            return After::Clean;
        }
        let doubt = |sql: &Sql| match leaves_something(sql.text()) {
            true => Some(Doubt::Changing),
            false => self.server.doubt_of(sql),
        };
        let alone = |job: &Job<'_>| self.in_snapshot || doubt(job.sql).is_some();
        let together = jobs.iter().take_while(|job| !alone(job)).count();
        let changes = jobs.front().is_some_and(|job| doubt(job.sql) == Some(Doubt::Changing));
        let mut now: Jobs<'_, '_> = jobs.drain(..together.max(1)).collect();
        let batch: Vec<&Sql> = now.iter().map(|job| job.sql).collect();
        let after = self.round(&mut now, by);
        self.server.judge(&batch, std::mem::take(&mut self.has_residue));
        self.is_changed |= changes;
        while let Some(job) = now.pop_back() {
            jobs.push_front(job);
        }
        match after {
            // In a snapshot that waits for its end.
            After::Clean | After::Spent if !self.in_snapshot && !self.is_as_before() => After::Cut,
            after => after,
        }
    }

    /// Runs all jobs; those whose statement went stale meanwhile once more. Those that did not end stay.
    fn round(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> After {
        let mut stale = Jobs::new();
        let first = self.send_and_read(jobs, Some(&mut stale), by);
        jobs.extend(stale);
        match first {
            After::Clean if !jobs.is_empty() => self.send_and_read(jobs, None, by),
            After::Spent if !jobs.is_empty() => match self.send_and_read(jobs, None, by) {
                After::Clean => After::Spent,
                after => after,
            },
            after => after,
        }
    }

    /// One round trip, and one before it where a statement is not prepared yet. A job whose statement is stale goes
    /// to `stale`, untouched.
    fn send_and_read<'j, 'q>(
        &mut self,
        jobs: &mut Jobs<'j, 'q>,
        stale: Option<&mut Jobs<'j, 'q>>,
        by: Deadline,
    ) -> After {
        if let Err(after) = self.learn_jobs(jobs, by) {
            return after;
        }
        // The way is in no limit of ours: neither in the server's, nor in what we wait for an answer.
        let way = self.talk.link.round_trip();
        let (all, asks_along) = self.queue_all(jobs, way, by);
        let mut doubtful = VecDeque::new();
        let heard = self.read_answers(all, way, jobs, stale, &mut doubtful, by);
        let spent = match heard.and_then(|spent| self.hear_residue(by).map(|()| spent)) {
            Ok(spent) => spent,
            Err(end) => {
                // Nobody can be asked about them any more: they run again.
                doubtful.into_iter().rev().for_each(|(job, _)| jobs.push_front(job));
                return if jobs.is_empty() { After::Cut } else { end };
            }
        };
        let after = match (asks_along, doubtful.is_empty()) {
            (false, true) => After::Clean,
            (false, false) => {
                self.queue_count(by);
                self.clear_doubts(jobs, doubtful, by)
            }
            (true, _) => self.clear_doubts(jobs, doubtful, by),
        };
        if spent && matches!(after, After::Clean) { After::Spent } else { after }
    }

    /// Reads the answers to the jobs and ends them, but for the doubtful ones. Says whether one was cancelled; or why no
    /// more can be read.
    fn read_answers<'j, 'q>(
        &mut self,
        all: Vec<Sent>,
        mut way: Duration,
        jobs: &mut Jobs<'j, 'q>,
        mut stale: Option<&mut Jobs<'j, 'q>>,
        doubtful: &mut VecDeque<(&'j mut Job<'q>, Answered)>,
        by: Deadline,
    ) -> Result<bool, After> {
        let mut clock = Clock { sent: Instant::now(), by_limit: 0, by_limit_took: Duration::ZERO };
        let (mut start, mut spent) = (clock.sent, false);
        for Sent { limits, allowed, form } in all {
            let Some(job) = jobs.pop_front() else { break };
            let sql = job.sql;
            let turn = Turn { start, by: job.answer_due(start, by), way, allowed, limits };
            let done = self.answer(job, form, Deadline::after(turn.by.moment(), GRACE));
            (start, way) = (Instant::now(), Duration::ZERO);
            if let (Err(Trouble::Refused(error)), Some(stale)) = (&done, &mut stale)
                && form == Form::Binary
                && is_stale(error)
            {
                self.close_stale(sql);
                stale.push_back(job);
                continue;
            }
            let answered = turn.answered(done);
            let longest = clock.longest();
            clock.note(&answered);
            let change = answered.change();
            self.is_changed |= change != Change::No;
            if answered.is_doubtful(longest) {
                doubtful.push_back((job, answered));
            } else {
                if answered.is_unclear() {
                    // A reset asks for it.
                    (self.ended_by_limit, self.is_changed) = (None, true);
                }
                match answered.tell(job, false) {
                    After::Clean => {}
                    After::Spent => spent = true,
                    After::Cut => return Err(After::Cut),
                    After::Broken(error) => {
                        jobs.push_front(job);
                        return Err(After::Broken(error));
                    }
                }
            }
            if change == Change::Told {
                self.server.doubt(sql, Doubt::Changing);
                if !jobs.is_empty() && !self.in_snapshot {
                    // Those behind it ran in a session that was not what it should be.
                    return Err(After::Cut);
                }
            }
        }
        self.ended_by_limit = self.ended_by_limit.map(|before| before + clock.by_limit);
        Ok(spent)
    }

    /// Queues the jobs. On a long way most results would be doubtful: then the question about them goes along.
    fn queue_all(&mut self, jobs: &Jobs<'_, '_>, way: Duration, by: Deadline) -> (Vec<Sent>, bool) {
        let all: Vec<Sent> = jobs.iter().map(|job| self.queue(job, way, by)).collect();
        if let Some(residue) = &self.learned.residue {
            residue.queue(&mut self.talk);
        }
        let asks_along = all.iter().any(|sent| sent.limits.limit < way * 4);
        if asks_along {
            self.queue_count(by);
        }
        (all, asks_along)
    }

    /// Hears what the batch has left behind.
    fn hear_residue(&mut self, by: Deadline) -> Result<(), After> {
        let Some(residue) = &self.learned.residue else { return Ok(()) };
        match self.talk.read_table(Deadline::after(by.moment(), GRACE)) {
            Ok(table) if residue.is_left(&table) => (self.is_changed, self.has_residue) = (true, true),
            Ok(_) => {}
            // Under the limit of the last statement, which may be short: nobody knows.
            Err(Trouble::Refused(_)) => self.is_changed = true,
            Err(Trouble::Broken(fault)) if fault.error.reason() == Reason::Timeout => return Err(After::Cut),
            Err(Trouble::Broken(fault)) => return Err(After::Broken(fault.error)),
        }
        Ok(())
    }

    fn close_stale(&mut self, sql: &Sql) {
        if let Some(id) = self.known.forget(sql) {
            self.talk.queue_close(id);
        }
    }

    /// Asks how many statements the server's limit has ended.
    fn queue_count(&mut self, by: Deadline) {
        self.learned.queue_limits(&mut self.talk, by);
        self.talk.queue_query(self.learned.ended_by_limit());
    }

    /// Hears whether the server's limit has ended one of these statements, and ends their jobs; which of several it was
    /// nobody can tell.
    fn clear_doubts<'j, 'q>(
        &mut self,
        jobs: &mut Jobs<'j, 'q>,
        mut doubtful: VecDeque<(&'j mut Job<'q>, Answered)>,
        by: Deadline,
    ) -> After {
        let by = Deadline::after(by.moment(), GRACE);
        let told = self.talk.read_done(by).and_then(|()| self.talk.read_table(by));
        let count = match told {
            Ok(table) => read_count(&table),
            Err(Trouble::Refused(_)) => None,
            Err(Trouble::Broken(fault)) if fault.error.reason() != Reason::Timeout => {
                while let Some((job, _)) = doubtful.pop_back() {
                    jobs.push_front(job);
                }
                return After::Broken(fault.error);
            }
            Err(Trouble::Broken(_)) => {
                for (job, answered) in doubtful {
                    let _ = answered.tell(job, true);
                }
                return After::Cut;
            }
        };
        let interrupted = count.is_none() || count != self.ended_by_limit;
        self.ended_by_limit = count;
        let mut spent = false;
        for (job, answered) in doubtful {
            spent |= !matches!(answered.tell(job, interrupted), After::Clean);
        }
        if spent { After::Spent } else { After::Clean }
    }

    fn queue(&mut self, job: &Job<'_>, way: Duration, by: Deadline) -> Sent {
        let allowed = job.allowance.min(by.left().saturating_sub(way));
        let limits = self.learned.limits(allowed, self.server.login.read_only);
        self.talk.queue_query(&limits.sql);
        let form = match self.known.way(job.sql) {
            Some(Way::Prepared(id)) => {
                self.talk.queue_execute(id);
                Form::Binary
            }
            // What the server did not want to prepare it refuses again, or runs.
            Some(Way::Text) | None => {
                self.talk.queue_query(job.sql.text());
                Form::Text
            }
        };
        Sent { limits, allowed, form }
    }

    /// Reads both answers of a job.
    fn answer(&mut self, job: &mut Job<'_>, form: Form, by: Deadline) -> Result<Streamed, Trouble> {
        match self.talk.read_done(by) {
            Ok(()) => {
                let longest = job.max_cell_bytes;
                stream(&mut self.talk, form, &self.learned.zone, longest, job.sink, by)
            }
            Err(Trouble::Refused(error)) => {
                // It ran without its limits: what it gives is not taken.
                let longest = job.max_cell_bytes;
                stream(&mut self.talk, form, &self.learned.zone, longest, &mut Nobody, by)?;
                Err(Trouble::Refused(error))
            }
            Err(broken) => Err(broken),
        }
    }

    /// Prepares the statements that the session does not know. On an error, the job that is to blame for it has ended.
    fn learn_jobs(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> Result<(), After> {
        let start = Instant::now();
        let due = jobs.iter().map(|job| job.answer_due(start, by)).max().unwrap_or(by);
        let statements: Vec<&Sql> = jobs.iter().map(|job| job.sql).collect();
        let Err((place, fault)) = self.learn(&statements, due) else { return Ok(()) };
        if fault.error.reason() != Reason::Timeout {
            return Err(After::Broken(fault.error));
        }
        if let Some(job) = jobs.remove(place) {
            let error = Error::new(Reason::Timeout, "the server did not prepare the statement in time");
            job.sink.end(Err(error), start.elapsed());
        }
        Err(After::Cut)
    }

    /// Prepares the statements that the session does not know. An error says at which one the connection broke.
    pub(super) fn learn(&mut self, statements: &[&Sql], by: Deadline) -> Result<(), (usize, Fault)> {
        let mut new: Vec<(usize, &Sql)> = Vec::new();
        for (place, sql) in statements.iter().enumerate() {
            if !self.known.has(sql) && !new.iter().any(|(_, other)| other.name() == sql.name()) {
                new.push((place, sql));
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let asked: Vec<&Sql> = new.iter().map(|(_, sql)| *sql).collect();
        let answers = self.prepare_all(&asked, by, |prepared, _| prepared);
        let answers =
            answers.map_err(|(place, fault)| (new.get(place).map_or(0, |(place, _)| *place), fault))?;
        for (sql, answer) in asked.into_iter().zip(answers) {
            let way = match answer {
                Ok(prepared) if prepared.params == 0 => Way::Prepared(prepared.id),
                // As text, the server says what is wrong with a parameter.
                Ok(prepared) => {
                    self.talk.queue_close(prepared.id);
                    Way::Text
                }
                Err(error) if is_text_only(&error) => Way::Text,
                // Refused, or without room for it, or a lock: the next run tries again.
                Err(_) => continue,
            };
            if let Some(id) = self.known.learn(sql, way) {
                self.talk.queue_close(id);
            }
        }
        Ok(())
    }

    /// Prepares all statements in one round trip, and keeps `kept` of each answer. An error says at which one the
    /// connection broke.
    pub(super) fn prepare_all<T>(
        &mut self,
        statements: &[&Sql],
        by: Deadline,
        kept: impl Fn(Prepared, Vec<packet::Column>) -> T,
    ) -> Result<Vec<Answer<T>>, (usize, Fault)> {
        let read_only = self.server.login.read_only;
        let back = self.learned.after_preparing();
        self.talk.queue_query(&self.learned.before_preparing(by.left(), read_only));
        statements.iter().for_each(|sql| self.talk.queue_prepare(sql.text()));
        back.iter().for_each(|sql| self.talk.queue_query(sql));
        self.talk.read_done(by).map_err(|trouble| (0, trouble.into()))?;
        let mut answers = Vec::new();
        for place in 0..statements.len() {
            answers.push(match self.talk.read_prepared(by) {
                Ok((prepared, columns)) => Ok(kept(prepared, columns)),
                Err(Trouble::Refused(error)) => Err(error),
                Err(Trouble::Broken(fault)) => return Err((place, fault)),
            });
        }
        if back.is_some() {
            let last = statements.len().saturating_sub(1);
            self.talk.read_done(by).map_err(|trouble| (last, trouble.into()))?;
        }
        Ok(answers)
    }
}

/// Takes no row.
struct Nobody;

impl RowSink for Nobody {
    fn columns(&mut self, _: &[Column]) -> Result<()> {
        Ok(())
    }

    fn row(&mut self, _: &dyn Row) -> Result<Flow> {
        Ok(Flow::Stop)
    }

    fn end(&mut self, _: Result<()>, _: Duration) {}
}
