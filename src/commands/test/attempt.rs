//! One login to each target, all at once, and the questions to the session.
//!
//! Knows nothing of how it is told. Threads that do not come back by the deadline are left alone: the process ends soon.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::commands::terminal::Progress;
use crate::config::database::Database;
use crate::deadline::Deadline;
use crate::driver::{Endpoint, Health, Rights, Session};
use crate::engine::backoff::LoginBackoff;
use crate::engine::disposal::Disposal;
use crate::engine::workers::{Priority, Workers};
use crate::error::{Error, Reason, Result};

use super::report::{Found, Outcome, Verdict};

/// LoginBackoff at once; the others wait for their turn.
const AT_ONCE: usize = 64;
/// How long after the deadline an answer that says so is waited for.
const GRACE: Duration = Duration::from_millis(250);
/// How long the farewells to the servers may take.
const FAREWELL: Duration = Duration::from_secs(1);

type Answer = (usize, Result<Found>, Duration);

/// Tests every target, in that order. Blocks, for hardly longer than until `by`.
#[must_use]
pub fn all(targets: &[Arc<Database>], by: Deadline, progress: &Progress) -> Vec<Outcome> {
    let start = Instant::now();
    let (workers, disposal) = (Workers::new(AT_ONCE), Disposal::new());
    let logins = Arc::new(LoginBackoff::default());
    let (sender, receiver) = mpsc::channel();
    let mut answers: Vec<Option<(Verdict, Duration)>> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let begun = match (&target.endpoint, target.enabled) {
            (_, false) => Err(Verdict::Skip("`enabled: false`".to_owned())),
            (None, true) => Err(Verdict::Skip(format!("the driver {} is not built in", target.driver))),
            (Some(endpoint), true) => {
                let (endpoint, logins) = (Arc::clone(endpoint), Arc::clone(&logins));
                let (name, disposal) = (target.name.clone(), disposal.clone());
                let attempt = move || attempt(&*endpoint, &logins, &name, by, &disposal);
                let task = task(index, attempt, sender.clone());
                workers.start(Priority::Normal, by, task).map_err(Verdict::Fail)
            }
        };
        answers.push(begun.err().map(|verdict| (verdict, Duration::ZERO)));
    }
    let end = Deadline::after(by.moment(), GRACE);
    while answers.iter().any(Option::is_none) {
        let Ok((index, found, took)) = receiver.recv_timeout(end.left()) else { break };
        if let Some(answer) = answers.get_mut(index) {
            *answer = Some((found.map_or_else(Verdict::Fail, Verdict::Pass), took));
        }
        let done = answers.iter().filter(|answer| answer.is_some()).count();
        progress.say(format!("{done} of {} targets tested", targets.len()));
    }
    let late = || (Verdict::Fail(Error::new(Reason::Timeout, "nothing by the deadline")), start.elapsed());
    let outcomes = targets.iter().zip(answers).map(|(target, answer)| {
        let (verdict, took) = answer.unwrap_or_else(late);
        Outcome { target: Arc::clone(target), verdict, took }
    });
    let outcomes = outcomes.collect();
    // What is not closed by then ends with the process.
    let _ = disposal.settle(Deadline::within(FAREWELL));
    outcomes
}

fn task(
    index: usize,
    attempt: impl FnOnce() -> Result<Found> + Send + 'static,
    answers: mpsc::Sender<Answer>,
) -> impl FnOnce() + Send + 'static {
    move || {
        let start = Instant::now();
        let tested = catch_unwind(AssertUnwindSafe(attempt));
        let found = tested.unwrap_or_else(|_| Err(Error::new(Reason::Panic, "the driver panicked")));
        // Nobody listens after the deadline.
        let _ = answers.send((index, found, start.elapsed()));
    }
}

fn attempt(
    endpoint: &dyn Endpoint,
    logins: &LoginBackoff,
    target: &str,
    by: Deadline,
    disposal: &Disposal,
) -> Result<Found> {
    if by.passed() {
        return Err(Error::new(Reason::Timeout, "its turn did not come before the deadline"));
    }
    let mut session = logins.connect(endpoint, target, by)?;
    let found = ask(&mut *session, by);
    let runs_on = found.as_ref().is_err_and(|error| error.reason() == Reason::Timeout);
    disposal.discard(session, runs_on);
    found
}

fn ask(session: &mut dyn Session, by: Deadline) -> Result<Found> {
    // PostgreSQL before 14 does not tell its role at login.
    if session.facts().role.is_empty()
        && let Health::Lost(error) = session.refresh(by)
    {
        return Err(error);
    }
    let (rights, unknown) = match session.rights(by) {
        Ok(rights) => (rights, None),
        // A session that dies or falls silent serves no query either.
        Err(error) if matches!(error.reason(), Reason::Timeout | Reason::Lost | Reason::Protocol) => {
            return Err(error);
        }
        Err(error) => (Rights::default(), Some(format!("what its user may do is not known: {error}"))),
    };
    Ok(Found { facts: session.facts().clone(), rights, unknown })
}
