//! Several known quick queries in one message: `EXECUTE` of statements that the server keeps by name, each behind the
//! limits of its own, as a stored function may change them. The answers are read one by one.
//!
//! The server stops at the first error: that job ends with it, and what follows goes into the next message. A job
//! whose statement could not be executed that way, and whose sink was told nothing, runs alone at once.

use std::fmt::Write as _;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use mysql::prelude::Queryable;
use mysql::{QueryResult, Text};

use crate::deadline::Deadline;
use crate::driver::{Job, RowSink, Sql};
use crate::error::{Reason, Result};

use super::errors::{Fault, is_stale, wants_text};
use super::known::Why;
use super::reply::{After, GRACE, Streamed, pump, tell};
use super::session::MySqlSession;
use super::time_zone::SessionZone;
use super::values::Columns;
use super::watchdog;

/// A message is sent once it is longer: servers take 1 MiB and more.
const ROOM: usize = 64 * 1024;

/// What is sent at once.
#[derive(Default)]
struct Message {
    text: String,
    /// One a job.
    parts: Vec<Part>,
}

/// What stands before one job's `EXECUTE`.
#[derive(Default)]
struct Part {
    /// So many statements without rows.
    quiet: usize,
    /// One of them prepares the job's.
    prepares: bool,
}

impl Message {
    fn add(&mut self, statement: &str) {
        if !self.text.is_empty() {
            self.text.push(';');
        }
        self.text.push_str(statement);
    }
}

/// The time that a job of a message has.
struct Turn {
    start: Instant,
    by: Deadline,
    watch: watchdog::Armed,
}

impl Turn {
    fn of(job: &Job<'_>, socket: RawFd, by: Deadline) -> Result<Self> {
        let start = Instant::now();
        let by = by.min(Deadline::after(start, job.allowance));
        Ok(Turn { start, by, watch: watchdog::arm(socket, Deadline::after(by.moment(), GRACE))? })
    }
}

/// What came of a message.
struct Answered {
    /// So many of its jobs have ended.
    ended: usize,
    after: After,
    /// Why the job behind them was told nothing and must run alone.
    unsaid: Option<Why>,
    /// Of the last job that was looked at.
    turn: Turn,
}

/// What came for one job.
enum Answer {
    Rows(Streamed),
    Failed(Fault),
    /// Its sink was told nothing.
    Unsaid(Why),
}

impl MySqlSession {
    /// Runs the first of these jobs in one message, as many as fit into it, until one of them stops it. Gives how many
    /// have ended.
    pub(super) fn group(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> (usize, After) {
        let Some(first) = jobs.first() else { return (0, After::Clean) };
        let turn = match Turn::of(first, self.conn.as_raw_fd(), by) {
            Ok(turn) => turn,
            Err(error) => return (0, After::Broken(error)),
        };
        let message = self.message(jobs, by);
        let Answered { ended, after, unsaid, turn } = self.answers(jobs, &message, turn, by);
        if matches!(after, After::Clean) {
            let parts = jobs.iter().zip(&message.parts).take(ended);
            parts.filter(|(_, part)| part.prepares).for_each(|(job, _)| self.close_other(job.sql));
        }
        drop(turn);
        match unsaid.zip(jobs.get_mut(ended)) {
            Some((why, job)) => {
                let after = self.job(job, by);
                self.known.objected(job.sql, why);
                (ended + 1, after)
            }
            None => (ended, after),
        }
    }

    /// Sends the message and hands each job its answer. `turn` is the first job's.
    fn answers(&mut self, jobs: &mut [Job<'_>], message: &Message, mut turn: Turn, by: Deadline) -> Answered {
        let socket = self.conn.as_raw_fd();
        let (mut ended, mut refused) = (0, None);
        let refuse = |error| refused = Some(of_quiet(error));
        let mut sent = self.conn.query_iter(&message.text).map_err(refuse).ok();
        let (after, unsaid) = loop {
            let Some((job, part)) = jobs.get_mut(ended).zip(message.parts.get(ended)) else {
                break (After::Clean, None);
            };
            if ended > 0 {
                // The last one goes after that: it holds the watchdog's thread.
                turn = match Turn::of(job, socket, by) {
                    Ok(turn) => turn,
                    Err(error) => break (After::Broken(error), None),
                };
            }
            let answer = match &mut sent {
                Some(result) => read(result, part.quiet, &self.learned.zone, job.sink, socket),
                None => refused.take().unwrap_or(Answer::Unsaid(Why::Odd)),
            };
            let done = match answer {
                // Whether it is the statement's own, it says alone.
                Answer::Failed(fault) if !self.known.is_proven() && is_objection(&fault) => {
                    break (After::Clean, Some(Why::Refused));
                }
                Answer::Unsaid(why) => break (After::Clean, Some(why)),
                Answer::Rows(streamed) => Ok(streamed),
                Answer::Failed(fault) => Err(fault),
            };
            let goes_on = done.is_ok();
            if goes_on {
                self.known.executed(job.sql);
            }
            let struck = turn.watch.struck();
            let after = tell(&mut self.known, job, done, (turn.start, turn.by), struck);
            ended += usize::from(!matches!(after, After::Broken(_)));
            if !goes_on || !matches!(after, After::Clean) {
                break (after, None);
            }
        };
        // Reads what is left, while the watchdog watches.
        drop(sent);
        Answered { ended, after, unsaid, turn }
    }

    /// Closes what the statement was while it ran alone: servers keep so many for all their clients.
    fn close_other(&mut self, sql: &Sql) {
        // The crate has it still, so that this asks nothing. A connection that breaks here is found by its next use.
        if let Ok(statement) = self.conn.prep(sql.text()) {
            let _ = self.conn.close(statement);
        }
    }

    /// The first jobs' statements, until the message is long enough.
    fn message(&mut self, jobs: &[Job<'_>], by: Deadline) -> Message {
        let mut message = Message::default();
        let mut part = Part::default();
        for name in self.known.take_dropped() {
            message.add(&format!("DEALLOCATE PREPARE {name}"));
            part.quiet += 1;
        }
        let read_only = self.server.login.read_only;
        for (place, job) in jobs.iter().enumerate() {
            let name = job.sql.name();
            let by = by.min(Deadline::within(job.allowance));
            let twin = jobs[..place].iter().any(|other| other.sql.name() == name);
            part.prepares = !twin && !self.known.is_prepared(job.sql);
            // `SET STATEMENT … FOR EXECUTE` would be a packet less, but does not bring back a read-only mode that a
            // function has lifted.
            message.add(&self.learned.limits(by, read_only));
            part.quiet += 1;
            if part.prepares {
                // Digits mean the same in every sql_mode and character set, and the server reads the bytes of a
                // binary string as those of any other statement that we send.
                message.text.push_str(",@sqlx_text=x'");
                job.sql.text().bytes().for_each(|byte| {
                    // Writing to a string does not fail.
                    let _ = write!(message.text, "{byte:02x}");
                });
                message.text.push('\'');
                message.add(&format!("PREPARE {name} FROM @sqlx_text"));
                part.quiet += 1;
            }
            message.add("EXECUTE ");
            message.text.push_str(name);
            message.parts.push(std::mem::take(&mut part));
            if message.text.len() > ROOM {
                break;
            }
        }
        message
    }
}

/// Reads the answers that have no rows, then those rows.
fn read(
    result: &mut QueryResult<'_, '_, '_, Text>,
    quiet: usize,
    zone: &Arc<SessionZone>,
    sink: &mut dyn RowSink,
    socket: RawFd,
) -> Answer {
    for _ in 0..quiet {
        let Some(mut set) = result.iter() else { return Answer::Unsaid(Why::Odd) };
        if !set.columns().as_ref().is_empty() {
            return Answer::Unsaid(Why::Odd);
        }
        match set.next() {
            None => {}
            Some(Err(error)) => return of_quiet(error),
            Some(Ok(_)) => return Answer::Unsaid(Why::Odd),
        }
    }
    let Some(mut set) = result.iter() else { return Answer::Unsaid(Why::Odd) };
    if set.columns().as_ref().is_empty() {
        return match set.next() {
            Some(Err(error)) if is_stale(&error) => Answer::Unsaid(Why::Stale),
            Some(Err(error)) if wants_text(&error) => Answer::Unsaid(Why::Refused),
            Some(Err(error)) => Answer::Failed(error.into()),
            _ => Answer::Unsaid(Why::Odd),
        };
    }
    let columns = Columns::of(set.columns().as_ref(), zone);
    if !columns.same_as_text {
        return Answer::Unsaid(Why::Columns);
    }
    match pump(&columns, &mut set, sink, socket) {
        Ok(streamed) => Answer::Rows(streamed),
        Err(fault) => Answer::Failed(fault),
    }
}

/// What it means that a statement failed which is ours, or prepares the job's.
fn of_quiet(error: mysql::Error) -> Answer {
    let stale = is_stale(&error);
    let fault = Fault::from(error);
    match is_objection(&fault) {
        false => Answer::Failed(fault),
        true => Answer::Unsaid(if stale { Why::Stale } else { Why::Refused }),
    }
}

/// The server did not want the statement; it was not that one came to its end, by time or with its connection.
fn is_objection(fault: &Fault) -> bool {
    !fault.broken && !matches!(fault.error.reason(), Reason::Timeout | Reason::Cancelled)
}
