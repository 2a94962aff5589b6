//! `test`: one login to each target, all at once: what the server is, and what its user may do beyond reading.

use std::sync::Arc;
use std::time::Duration;

use super::runner::{OpenSession, Runner, WithoutThreads};
use crate::config::target::TargetConfig;
use crate::deadline::Deadline;
use crate::driver::{Privileges, ServerFacts};
use crate::error::{Error, Result};

/// One target.
pub struct TestedTarget {
    /// As configured.
    pub target: Arc<TargetConfig>,
    /// The outcome.
    pub outcome: TestOutcome,
    /// For login and questions.
    pub took: Duration,
}

/// Whether a target works.
pub enum TestOutcome {
    /// It works; there may be warnings.
    Pass(ServerReport),
    /// It does not work.
    Fail(Error),
    /// It was left out, for this reason.
    Skip(String),
}

/// What a session reports.
pub struct ServerReport {
    /// From the login.
    pub facts: ServerFacts,
    /// What the user may do beyond reading.
    pub privileges: Privileges,
    /// Why the privileges are not known.
    pub unknown_privileges: Option<String>,
}

impl ServerReport {
    /// All warnings, a sentence each.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.privileges.risks.iter().chain(&self.unknown_privileges).map(String::as_str)
    }
}

/// Tests all targets, in this order. Blocks for hardly longer than until `by`; `progress` is called with the number of
/// targets tested.
pub fn test(targets: &[Arc<TargetConfig>], by: Deadline, progress: impl Fn(usize)) -> Vec<TestedTarget> {
    let skipped = |target: &TargetConfig| match (&target.endpoint, target.enabled) {
        (_, false) => Some("`enabled: false`".to_owned()),
        (None, true) => Some(format!("the driver {} is not built in", target.driver)),
        (Some(_), true) => None,
    };
    let enabled: Vec<Arc<TargetConfig>> =
        targets.iter().filter(|target| skipped(target).is_none()).cloned().collect();
    let runner = Runner::default();
    let tested =
        runner.on_each_target(&enabled, by, WithoutThreads::Fail, progress, |_, session| report(session));
    let mut tested = tested.into_iter();
    let one = |target: &Arc<TargetConfig>| {
        let (outcome, took) = match skipped(target) {
            Some(why) => (TestOutcome::Skip(why), Duration::ZERO),
            None => match tested.next()? {
                (Ok(Ok(report)), took) => (TestOutcome::Pass(report), took),
                (Ok(Err(error)) | Err(error), took) => (TestOutcome::Fail(error), took),
            },
        };
        Some(TestedTarget { target: Arc::clone(target), outcome, took })
    };
    targets.iter().filter_map(one).collect()
}

/// What the server is, and what its user may do.
///
/// # Errors
/// The session is of no more use.
pub(super) fn report(session: &mut OpenSession) -> Result<ServerReport> {
    // PostgreSQL before 14 does not report its role at login.
    if session.facts().role.is_empty() {
        session.refresh_role()?;
    }
    let (privileges, unknown_privileges) = match session.privileges() {
        Ok(privileges) => (privileges, None),
        Err(error) if session.is_usable() => {
            (Privileges::default(), Some(format!("the privileges of its user are not known: {error}")))
        }
        // Such a session serves no query either.
        Err(error) => return Err(error),
    };
    Ok(ServerReport { facts: session.facts().clone(), privileges, unknown_privileges })
}
