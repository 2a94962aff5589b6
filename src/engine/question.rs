//! A statement that runs for the sake of queries and is none itself: `when.sql`, what the server has, `foreach.sql`.
//!
//! Owns what is left where there is no answer. Knows no query and no retry rule.

use std::time::Duration;

use super::guarded_session::GuardedSession;
use crate::deadline::Deadline;
use crate::driver::answer::AnswerSink;
use crate::driver::{Health, Job, Sql};
use crate::error::{Error, Reason};

/// Why there is no answer.
pub struct NoAnswer {
    /// The statement failed: so does the query. `None` where the session ended under it, so that another one is asked.
    pub error: Option<Error>,
    /// What is left of the session.
    pub health: Health,
}

impl NoAnswer {
    /// Why, for whoever asks no other session.
    pub fn into_error(self) -> Error {
        let unended = || Error::new(Reason::Lost, "the session left the statement without an end");
        self.error.or_else(|| self.health.usable().err()).unwrap_or_else(unended)
    }
}

/// Asks the server, which may take as long as `timeout` says. An answer counts where the session has ended with it, too:
/// [`GuardedSession::is_clean`] tells whether anything else may run there.
///
/// # Errors
/// There is no answer.
pub fn ask<A>(
    live: &mut GuardedSession,
    sql: &Sql,
    mut sink: AnswerSink<A>,
    max_cell_bytes: usize,
    timeout: Option<Duration>,
    by: Deadline,
) -> Result<A, NoAnswer> {
    let allowance = by.left().min(timeout.unwrap_or(Duration::MAX));
    let job = Job { sql, parameters: &[], allowance, max_cell_bytes, sink: &mut sink };
    match (live.run(&mut [job], by), sink.answer()) {
        (_, Some(Ok(answer))) => Ok(answer),
        (health, failed) => Err(NoAnswer { error: failed.and_then(Result::err), health }),
    }
}
