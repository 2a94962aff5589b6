//! Several quick queries under one `Sync`: their messages leave together, and the answers are read one by one.
//!
//! Only queries that the session has seen before. An error skips what follows it in its group; that goes into the next
//! message.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::deadline::Deadline;
use crate::driver::Health;

use super::entry::UNDER_ONE_SYNC;
use super::guard_statement::QueryLimits;
use super::reply::{JobOutcome, Remaining, ResponseReader, TransactionStatus};
use super::run::{PendingJobs, ROOM, Settled, lost};
use super::send::GroupWriter;
use super::session::PgSession;
use super::wire::ResultShape;

/// What a query and its marker usually take of [`ROOM`].
const QUERY_BYTES: usize = 192;

/// The shapes and limits of the queries under one `Sync`.
type SentGroup = Vec<(Arc<ResultShape>, QueryLimits)>;

impl PgSession {
    /// The first jobs, `count` at most, [`UNDER_ONE_SYNC`] at most under each `Sync`. What an error skips stays in line.
    pub(super) fn groups(
        &mut self,
        line: &mut PendingJobs<'_, '_>,
        count: usize,
        by: Deadline,
    ) -> Result<(), Health> {
        let sent = self.queue_groups(line, count, by).map_err(|error| lost(error.into()))?;
        let is_reset = self.queue_end().map_err(|error| lost(error.into()))?;
        self.talk.link.send(by).map_err(|error| lost(error.into()))?;
        // Jobs before this place are to be run once more.
        let mut place = 0;
        let mut start = Instant::now();
        for group in sent {
            // Nobody is told of its end before the group has one: a query that changed what others read by shows there.
            let (mut began, mut first, mut ran) = (None, None, Vec::with_capacity(group.len()));
            let mut failed = None;
            for (index, (shape, limits)) in group.iter().enumerate() {
                let bound = self.bound_to();
                let pending = &mut line[place + index];
                let until = pending.job.answer_due(start, by);
                let leads = index + 1 < group.len();
                let before = 1 + usize::from(index == 0 && self.local.is_some());
                let reply =
                    ResponseReader::new(pending.job, &self.talk.types, Some(Arc::clone(shape)), before);
                let mut reply = reply.grouped(leads, began).bound_to(bound);
                let over = reply.read(&mut self.talk.link, &mut self.spans, until);
                first = first.or(reply.settings_before());
                let (standing, last) = (reply.standing(), reply.settings_behind());
                began = reply.ended;
                self.hear(standing);
                let since = start;
                start = over.as_ref().map_or(start, |over| over.at);
                match over {
                    Ok(over) if over.has_run() => ran.push((over, since, *limits)),
                    over => {
                        failed = Some((index, over, since, *limits, until));
                        break;
                    }
                }
                if first.zip(last).is_some_and(|(first, last)| first != last) {
                    // Which query it was shows where they run one by one.
                    return Err(Health::Spent);
                }
            }
            match failed {
                None => {
                    for (over, since, limits) in ran {
                        self.tell(line.remove(place).job, over, since, limits, by);
                    }
                }
                // An error has skipped the rest of its group. What stands before it may have been read under settings
                // that went with its transaction. A limit of ours ends quick queries on a busy server now and then, and
                // tables change: there it is believed, or each would cost a session.
                Some((index, over, since, limits, until)) => {
                    let is_believed = over.as_ref().is_ok_and(JobOutcome::failed_by_itself);
                    let fate = self.settle(line, place + index, over, since, limits, until)?;
                    if !is_believed && !ran.is_empty() {
                        return Err(Health::Spent);
                    }
                    for (over, since, limits) in ran {
                        self.tell(line.remove(place).job, over, since, limits, by);
                    }
                    match fate {
                        Settled::Ended { left: Remaining::Nothing(TransactionStatus::None), .. } => {
                            place += group.len() - index - 1;
                        }
                        Settled::Ended { .. } => return Err(Health::Spent),
                        Settled::Again => place += group.len() - index,
                    }
                }
            }
        }
        if is_reset { self.read_end(by) } else { Ok(()) }
    }

    /// Gives the shapes and limits of as many as there was room for, group by group.
    fn queue_groups(
        &mut self,
        line: &PendingJobs<'_, '_>,
        count: usize,
        by: Deadline,
    ) -> io::Result<Vec<SentGroup>> {
        let mut groups = Vec::with_capacity(count.div_ceil(UNDER_ONE_SYNC));
        let mut sent = Vec::with_capacity(count.min(UNDER_ONE_SYNC));
        let way = self.way();
        let new = || GroupWriter::new(self.own, self.ticks);
        let longest = self.limits(std::time::Duration::MAX, by).ours;
        let longest = std::time::Duration::from_millis(longest.into());
        let mut group = new();
        let out = &mut self.talk.link.out;
        out.reserve(line.len().min(count) * QUERY_BYTES);
        for pending in line.iter().take(count) {
            let job = &pending.job;
            let Some(statement) = self.known.get(job.sql.name()).filter(|_| out.len() < ROOM) else { break };
            if sent.len() == UNDER_ONE_SYNC || !group.takes(job.sql) {
                std::mem::replace(&mut group, new()).end(out)?;
                groups.push(std::mem::take(&mut sent));
            }
            let span = job.allowance.min(longest);
            let limits = group.queue(&way, job.sql, &statement.shape, span, out)?;
            sent.push((Arc::clone(&statement.shape), limits));
        }
        if !sent.is_empty() {
            group.end(out)?;
            groups.push(sent);
        }
        Ok(groups)
    }
}
