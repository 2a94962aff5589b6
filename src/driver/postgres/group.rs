//! Several quick queries in one round trip: their messages leave together, and the answers are read one by one.
//!
//! Queries that the session has seen before go in groups, each under one `Sync`. An error skips what follows it in its
//! group; that goes into the next message.
//! First runs have a `Sync` each, and behind it the question whether the session is as it was.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use postgres_protocol::message::frontend;

use crate::deadline::Deadline;
use crate::driver::{Health, Job};

use super::marker;
use super::reply::{Left, Over, Reply, Transaction, Trouble, Wrong};
use super::send::{Group, Style, open_ticks, queue, tick};
use super::session::{PgSession, forsaken, late, tell};
use super::talk::{execute, failed};
use super::wire::Shape;

/// More bytes do not leave at once: the server may answer before it has read them, and both sides would wait.
const ROOM: usize = 16 * 1024;
/// What a query and its marker usually take of that.
const QUERY_BYTES: usize = 192;

/// So many share a `Sync`: until then the server keeps its answers in a buffer of 8 KiB, and with several we read one
/// group's while it works on the next. An error or a slow query holds up as many.
const UNDER_ONE_SYNC: usize = 10;

/// The jobs that have not ended, in order.
type Jobs<'j, 'q> = Vec<&'j mut Job<'q>>;

impl PgSession {
    /// Runs all jobs; `None` when the session serves the next batch.
    pub(super) fn together(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Option<Health> {
        let mut jobs: Jobs<'_, '_> = jobs.iter_mut().filter_map(|job| self.admitted(job)).collect();
        let ended = self.run_groups(&mut jobs, by);
        match ended {
            Ok(()) => None,
            Err(Health::Spent) if !jobs.is_empty() => Some(forsaken()),
            Err(health) => Some(health),
        }
    }

    /// Ends a job whose statement may not be sent.
    fn admitted<'j, 'q>(&self, job: &'j mut Job<'q>) -> Option<&'j mut Job<'q>> {
        match self.admit(job.sql) {
            Ok(()) => Some(job),
            Err(error) => {
                job.sink.end(Err(error), std::time::Duration::ZERO);
                None
            }
        }
    }

    fn run_groups(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> Result<(), Health> {
        self.learn_all(jobs, by)?;
        while !jobs.is_empty() {
            let seen = jobs.iter().take_while(|job| self.is_seen(job)).count();
            let new = jobs.iter().take_while(|job| self.is_new(job)).count();
            match (seen, new) {
                (2.., _) => self.groups(jobs, seen, by)?,
                (_, 2..) => self.first_runs(jobs, new, by)?,
                // By itself, in one of the ways that a session has.
                _ => {
                    let job = jobs.remove(0);
                    self.one(job, by).map_or(Ok(()), Err)?;
                }
            }
        }
        Ok(())
    }

    /// It has run on this session, and left it as it was.
    fn is_seen(&self, job: &Job<'_>) -> bool {
        let statement = self.known.get(job.sql.name());
        self.style == Style::Named && statement.is_some_and(|it| !it.undone && it.harmless)
    }

    /// It is prepared, and has not run yet.
    fn is_new(&self, job: &Job<'_>) -> bool {
        let statement = self.known.get(job.sql.name());
        let is_new = statement.is_some_and(|it| !it.undone && !it.harmless);
        self.style == Style::Named && self.home.is_some() && is_new
    }

    /// Prepares the statements that the session does not know, and ends the jobs whose statements the server refuses.
    fn learn_all(&mut self, jobs: &mut Jobs<'_, '_>, by: Deadline) -> Result<(), Health> {
        let mut from = 0;
        while self.style == Style::Named && from < jobs.len() {
            let mut asked: Vec<usize> = Vec::new();
            while let Some(job) = jobs.get(from).filter(|_| self.talk.link.out.len() < ROOM) {
                let twin = asked.iter().any(|&other| jobs[other].sql.name() == job.sql.name());
                if !twin && !self.known.contains_key(job.sql.name()) {
                    let queued = self.talk.queue_query_description(job.sql.name(), job.sql);
                    queued.map_err(|error| lost(error.into()))?;
                    asked.push(from);
                }
                from += 1;
            }
            let refused = self.read_shapes(jobs, &asked, by)?;
            from -= refused.len();
            for place in refused.into_iter().rev() {
                jobs.remove(place);
            }
        }
        Ok(())
    }

    /// Gives the places of the jobs that have ended.
    fn read_shapes(
        &mut self,
        jobs: &mut Jobs<'_, '_>,
        asked: &[usize],
        by: Deadline,
    ) -> Result<Vec<usize>, Health> {
        let mut refused = Vec::new();
        if asked.is_empty() {
            return Ok(refused);
        }
        self.talk.link.send(by).map_err(|error| lost(error.into()))?;
        let mut shapes = Vec::new();
        for &place in asked {
            let (start, job) = (Instant::now(), &mut jobs[place]);
            match self.talk.read_shape(by.min(Deadline::after(start, job.allowance))) {
                Ok(shape) => shapes.push((place, shape)),
                Err(Trouble::Refused(error)) if self.adapt(job.sql, &error) => {}
                Err(Trouble::Refused(error)) => {
                    job.sink.end(Err(error.of_statement(job.sql.text())), start.elapsed());
                    refused.push(place);
                }
                Err(Trouble::Late) => {
                    job.sink.end(Err(late(start)), start.elapsed());
                    jobs.remove(place);
                    return Err(Health::Spent);
                }
                Err(Trouble::Lost(error)) => return Err(Health::Lost(error)),
            }
        }
        if self.style != Style::Named {
            // A pooler: it knows none of them.
            return Ok(refused);
        }
        for (place, shape) in shapes {
            let shape = self.talk.complete(shape, by).map_err(lost)?;
            self.remember(jobs[place].sql, shape);
        }
        Ok(refused)
    }

    /// The first jobs, `count` at most, [`UNDER_ONE_SYNC`] at most under each `Sync`. What an error skips stays in line.
    fn groups(&mut self, jobs: &mut Jobs<'_, '_>, count: usize, by: Deadline) -> Result<(), Health> {
        self.learn_ticks(by)?;
        let groups = self.queue_groups(jobs, count, by).map_err(|error| lost(error.into()))?;
        self.talk.link.send(by).map_err(|error| lost(error.into()))?;
        // Jobs before this place are to be run once more.
        let mut place = 0;
        let mut start = Instant::now();
        for group in groups {
            let mut began = None;
            for (index, shape) in group.iter().enumerate() {
                let until = by.min(Deadline::after(start, jobs[place].allowance));
                let leads = index + 1 < group.len();
                let reply = Reply::new(jobs[place], &self.talk.types, Some(Arc::clone(shape)), 1);
                let mut reply = reply.grouped(leads, began);
                let over = reply.read(&mut self.talk.link, &mut self.spans, until);
                let standby = reply.standby;
                began = reply.ended;
                self.hear(standby);
                start = over.as_ref().map_or(start, |over| over.at);
                match self.settle(jobs, place, over, start, until)? {
                    Fate::Ended { left: Left::Group, .. } => {}
                    Fate::Ended { left: Left::Nothing(Transaction::Open), .. } => return Err(Health::Spent),
                    fate => {
                        // An error has skipped the rest of its group.
                        place += group.len() - index - 1 + usize::from(matches!(fate, Fate::Again));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Prepares the ticks and tries them once, with a statement between two of them: not everything that speaks
    /// PostgreSQL's protocol lets portals wait.
    fn learn_ticks(&mut self, by: Deadline) -> Result<(), Health> {
        if self.ticks.is_some() {
            return Ok(());
        }
        let text = marker::ticks(self.read_only, UNDER_ONE_SYNC + 1);
        let (timeout, out) = (marker::timeout_millis(by.left()), &mut self.talk.link.out);
        let queued = frontend::parse(marker::TICKS, &text, [], out)
            .and_then(|()| open_ticks(timeout, out))
            .and_then(|()| tick(out))
            .and_then(|()| execute(marker::NAME, Some(timeout), out))
            .and_then(|()| tick(out));
        queued.map_err(|error| lost(error.into()))?;
        frontend::sync(out);
        self.talk.link.send(by).map_err(|error| lost(error.into()))?;
        match self.talk.rows(by) {
            Ok(rows) => self.ticks = Some(rows.len() == 3),
            Err(Trouble::Refused(_)) => self.ticks = Some(false),
            Err(trouble) => return Err(lost(trouble)),
        }
        Ok(())
    }

    /// Gives the shapes of as many as there was room for, group by group.
    fn queue_groups(
        &mut self,
        jobs: &Jobs<'_, '_>,
        count: usize,
        by: Deadline,
    ) -> io::Result<Vec<Vec<Arc<Shape>>>> {
        let mut groups: Vec<Vec<Arc<Shape>>> = Vec::with_capacity(count.div_ceil(UNDER_ONE_SYNC));
        let (ticks, read_only, left) = (self.ticks == Some(true), self.read_only, by.left());
        let mut shapes = Vec::with_capacity(count.min(UNDER_ONE_SYNC));
        let mut group = Group::new(ticks, read_only);
        let out = &mut self.talk.link.out;
        out.reserve(jobs.len().min(count) * QUERY_BYTES);
        for job in jobs.iter().take(count) {
            let Some(statement) = self.known.get(job.sql.name()).filter(|_| out.len() < ROOM) else { break };
            if shapes.len() == UNDER_ONE_SYNC || !group.takes(job.sql) {
                std::mem::replace(&mut group, Group::new(ticks, read_only)).end(left, out)?;
                groups.push(std::mem::take(&mut shapes));
            }
            group.queue(job.sql, job.allowance.min(left), out)?;
            shapes.push(Arc::clone(&statement.shape));
        }
        if !shapes.is_empty() {
            group.end(left, out)?;
            groups.push(shapes);
        }
        Ok(groups)
    }

    /// The first jobs, `count` at most, each under a `Sync` of its own with a look at the session behind it.
    fn first_runs(&mut self, jobs: &mut Jobs<'_, '_>, count: usize, by: Deadline) -> Result<(), Health> {
        let mut shapes = Vec::with_capacity(count);
        for job in jobs.iter().take(count) {
            let Some(statement) = self.known.get(job.sql.name()) else { break };
            let (way, out) = (self.way(), &mut self.talk.link.out);
            let queued = queue(way, job.sql, Some(statement), job.allowance.min(by.left()), out)
                .and_then(|_| execute(marker::STATE, None, out));
            queued.map_err(|error| lost(error.into()))?;
            frontend::sync(out);
            shapes.push(statement.shape.clone());
            if out.len() > ROOM {
                break;
            }
        }
        self.talk.link.send(by).map_err(|error| lost(error.into()))?;
        // Jobs before this place are to be run once more.
        let mut place = 0;
        let mut start = Instant::now();
        for shape in shapes {
            let sql = jobs[place].sql;
            let until = by.min(Deadline::after(start, jobs[place].allowance));
            let mut reply = Reply::new(jobs[place], &self.talk.types, Some(shape), 1);
            let over = reply.read(&mut self.talk.link, &mut self.spans, until);
            let standby = reply.standby;
            self.hear(standby);
            let good = match self.settle(jobs, place, over, start, until)? {
                Fate::Ended { left: Left::Nothing(Transaction::None), good } => good,
                // The next answers are of statements in its transaction.
                Fate::Ended { .. } => return Err(Health::Spent),
                Fate::Again => {
                    place += 1;
                    false
                }
            };
            match self.talk.rows(by) {
                Ok(state) if self.home.is_some() && !self.is_home(&state) => return Err(Health::Spent),
                Ok(_) if good => self.trust(sql),
                Ok(_) => {}
                // The pooler that was just found does not know this statement either.
                Err(Trouble::Refused(_)) if self.home.is_none() => {}
                Err(trouble) => return Err(lost(trouble)),
            }
            start = Instant::now();
        }
        Ok(())
    }

    /// Ends the job at `place`, or leaves it there for another try when there is a way round the refusal.
    fn settle(
        &mut self,
        jobs: &mut Jobs<'_, '_>,
        place: usize,
        over: Result<Over, Trouble>,
        start: Instant,
        by: Deadline,
    ) -> Result<Fate, Health> {
        match over {
            Ok(Over {
                verdict: Err(Wrong::Server(error)),
                begun: false,
                left: Left::Nothing(Transaction::None),
                ..
            }) if self.adapt(jobs[place].sql, &error) => Ok(Fate::Again),
            Ok(over) => {
                let left = over.left;
                let good = tell(jobs.remove(place), over, start, by);
                if left == Left::Unread { Err(Health::Spent) } else { Ok(Fate::Ended { left, good }) }
            }
            Err(Trouble::Late | Trouble::Refused(_)) => {
                jobs.remove(place).sink.end(Err(late(start)), start.elapsed());
                Err(Health::Spent)
            }
            Err(Trouble::Lost(error)) => Err(Health::Lost(error)),
        }
    }
}

/// What became of a job that was answered.
enum Fate {
    /// Its sink knows. `left`: what the server still sends; `good`: it gave its result.
    Ended { left: Left, good: bool },
    /// It did not run; the next try goes another way.
    Again,
}

fn lost(trouble: Trouble) -> Health {
    Health::Lost(failed("running queries together", trouble))
}
