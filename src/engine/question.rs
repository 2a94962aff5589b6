//! A statement that runs for the sake of queries and is none itself: `when.sql`, what the server has, `foreach.sql`.
//!
//! Owns what is left where there is no answer. Knows no query and no retry rule.

use super::pool::LeasedSession;
use crate::deadline::Deadline;
use crate::driver::answer::AnswerSink;
use crate::driver::{Health, Job, Sql};
use crate::error::Error;

/// Why there is no answer.
pub struct NoAnswer {
    /// The statement failed: so does the query. `None` where the session ended under it, so that another one is asked.
    pub error: Option<Error>,
    /// What is left of the session.
    pub health: Health,
}

/// Asks the server.
///
/// # Errors
/// There is no answer.
pub(super) fn ask<A>(
    live: &mut LeasedSession<'_>,
    sql: &Sql,
    mut sink: AnswerSink<A>,
    max_cell_bytes: usize,
    by: Deadline,
) -> Result<A, NoAnswer> {
    let job = Job { sql, parameters: &[], allowance: by.left(), max_cell_bytes, sink: &mut sink };
    match (live.run(&mut [job], by), sink.answer()) {
        (Health::Clean, Some(Ok(answer))) => Ok(answer),
        (health, Some(Err(error))) => Err(NoAnswer { error: Some(error), health }),
        (health, _) => Err(NoAnswer { error: None, health }),
    }
}
