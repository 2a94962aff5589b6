//! What live databases say about a configuration: each query is described on each of its targets, never run, and the
//! columns are held against what its metrics do with them.
//!
//! `columns` compares. How it is shown is `command/check`.

mod columns;

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::source_position::place_of;
use crate::config::Config;
use crate::config::conditions::When;
use crate::config::database::Database;
use crate::config::query::Query;
use crate::deadline::Deadline;
use crate::driver::{Facts, Health, Job, MAX_CELL_BYTES, Session};
use crate::engine::backoff::LoginBackoff;
use crate::engine::conditions::{BooleanSink, unmet_condition};
use crate::error::{Error, Reason, Result, SourcePosition};

/// Targets that are asked at once.
const AT_ONCE: usize = 64;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot work.
    Error,
    /// It works, and is not as it should be.
    Warning,
    /// Only rows would tell whether it works.
    Note,
}

impl Severity {
    /// As reports have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// What one target said.
#[derive(Debug)]
pub struct Reached {
    /// Its name.
    pub target: String,
    /// What it is; or why it could not be asked, or not to the end.
    pub server: Result<Facts>,
    /// How many of its queries were described.
    pub described: usize,
    /// Queries whose columns the server does not tell beforehand.
    pub untold: Vec<String>,
    /// Queries that would not run there, each with the condition of `when` that does not hold.
    pub skipped: Vec<(String, String)>,
}

/// One thing that is wrong with one query, odd, or not to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// How bad.
    pub severity: Severity,
    /// With the place in the file, the query and, where it is one only, the target.
    pub error: Error,
}

/// What all targets said.
#[derive(Debug, Default)]
pub struct Said {
    /// One a target that is enabled, in configuration order.
    pub targets: Vec<Reached>,
    /// What is wrong with queries; what several targets say of one is one remark.
    pub remarks: Vec<Remark>,
}

/// Asks all enabled targets at once. Blocks until `by` at most; `told` hears how many of how
/// many are done.
#[must_use]
pub fn run(plan: &Config, by: Deadline, told: impl Fn(usize, usize) + Sync) -> Said {
    let targets: Vec<&Database> =
        plan.targets.iter().map(|target| &**target).filter(|it| it.enabled).collect();
    let slots: Vec<Mutex<Option<OfTarget>>> = targets.iter().map(|_| Mutex::default()).collect();
    let logins = LoginBackoff::default();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    told(0, targets.len());
    let ask = || {
        while let Some((target, slot)) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            targets.get(place).zip(slots.get(place))
        } {
            *slot.lock() = Some(OfTarget::ask(target, &logins, by));
            told(done.fetch_add(1, Ordering::Relaxed) + 1, targets.len());
        }
    };
    std::thread::scope(|scope| {
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, ask).ok();
        // Where the system cannot start a thread, those that run do the work, this one in any case.
        let started = (0..targets.len().min(AT_ONCE)).map_while(start).count();
        if started == 0 {
            ask();
        }
    });
    let answers: Vec<OfTarget> = slots.into_iter().filter_map(Mutex::into_inner).collect();
    let remarks = merged(plan, &answers);
    Said { targets: answers.into_iter().map(|answer| answer.reached).collect(), remarks }
}

/// What one target said, with its remarks by query.
struct OfTarget {
    reached: Reached,
    remarks: Vec<Raw>,
}

/// A remark before it is known who else says the same.
struct Raw {
    place: SourcePosition,
    query: String,
    severity: Severity,
    error: Error,
}

impl OfTarget {
    fn ask(target: &Database, logins: &LoginBackoff, by: Deadline) -> OfTarget {
        let reached = Reached {
            target: target.name.clone(),
            server: Err(Error::new(Reason::Connect, "its driver is not built in")),
            described: 0,
            untold: Vec::new(),
            skipped: Vec::new(),
        };
        let mut answer = OfTarget { reached, remarks: Vec::new() };
        let Some(endpoint) = &target.endpoint else { return answer };
        answer.reached.server = logins
            .connect(&**endpoint, &target.name, by)
            .and_then(|mut session| answer.queries(target, &mut *session, by))
            .map_err(|error| error.on_target(&target.name));
        answer
    }

    /// # Errors
    /// The session died or ran out of time: the rest is not known.
    fn queries(&mut self, target: &Database, session: &mut dyn Session, by: Deadline) -> Result<Facts> {
        let queries = || target.queries.iter().filter(|query| query.enabled);
        if queries().any(|query| query.when.as_ref().is_some_and(|when| when.role.is_some())) {
            usable(session.refresh(by))?;
        }
        for query in queries() {
            if by.passed() {
                return Err(Error::new(Reason::Timeout, "not all queries were described in time"));
            }
            if let Some(when) = &query.when
                && let Some(why) = self.skips(when, query, session, by)?
            {
                self.reached.skipped.push((query.name.to_string(), why));
                continue;
            }
            match session.describe(&query.sql, by) {
                Ok(None) => {
                    self.reached.untold.push(query.name.to_string());
                    self.remarks.push(raw(query, Severity::Note, untold(&query.name)));
                }
                Ok(Some(columns)) => {
                    self.reached.described += 1;
                    let found = columns::compare(query, &columns);
                    let raw = |columns::Found { severity, place, error }| {
                        let known = raw(query, severity, error);
                        Raw { place: place.unwrap_or(known.place), ..known }
                    };
                    self.remarks.extend(found.into_iter().map(raw));
                }
                Err(error) if ends(&error) => return Err(error),
                Err(error) => self.remarks.push(raw(query, Severity::Error, error)),
            }
        }
        Ok(session.facts().clone())
    }

    /// Why `when` keeps the query from running here; an error of its statement is a remark.
    ///
    /// # Errors
    /// The session died.
    fn skips(
        &mut self,
        when: &When,
        query: &Query,
        session: &mut dyn Session,
        by: Deadline,
    ) -> Result<Option<String>> {
        if let Some(why) = unmet_condition(when, session.facts()) {
            return Ok(Some(why));
        }
        let Some(sql) = &when.sql else { return Ok(None) };
        let mut truth = BooleanSink::default();
        let health = session.run(
            &mut [Job { sql, allowance: by.left(), max_cell_bytes: MAX_CELL_BYTES, sink: &mut truth }],
            by,
        );
        match truth.verdict() {
            Some(Ok(true)) => {}
            Some(Ok(false)) => return Ok(Some("when.sql says no".to_owned())),
            Some(Err(error)) => {
                self.remarks.push(raw(query, Severity::Error, error));
            }
            None => {}
        }
        usable(health).map(|()| None)
    }
}

fn untold(query: &str) -> Error {
    let text =
        "the server does not tell its columns before it has run: they are not compared with its metrics";
    Error::new(Reason::Sql, text).with_hint(format!("`sql-exporter try --query {query}` runs it once"))
}

fn raw(query: &Query, severity: Severity, error: Error) -> Raw {
    let place = error.sql_position().map_or_else(
        || (*query.sql_place).clone(),
        |spot| place_of(&query.sql_place, query.sql.text(), spot),
    );
    Raw { place, query: query.name.to_string(), severity, error }
}

fn usable(health: Health) -> Result<()> {
    match health {
        Health::Clean => Ok(()),
        Health::Spent => Err(Error::new(Reason::Lost, "the session could not go on")),
        Health::Lost(error) => Err(error),
    }
}

/// The session is of no more use after it.
fn ends(error: &Error) -> bool {
    matches!(error.reason(), Reason::Timeout | Reason::Lost | Reason::Cancelled | Reason::Protocol)
}

/// One remark for what several targets say of one query in the same words, in configuration order.
fn merged(plan: &Config, answers: &[OfTarget]) -> Vec<Remark> {
    let mut remarks: Vec<(&Raw, Vec<&str>)> = Vec::new();
    for answer in answers {
        for raw in &answer.remarks {
            let same = |known: &&mut (&Raw, Vec<&str>)| {
                known.0.query == raw.query && known.0.place == raw.place && known.0.error == raw.error
            };
            match remarks.iter_mut().find(same) {
                Some((_, targets)) => targets.push(&answer.reached.target),
                None => remarks.push((raw, vec![&answer.reached.target])),
            }
        }
    }
    remarks.into_iter().map(|(raw, targets)| remark(plan, raw, &targets)).collect()
}

fn remark(plan: &Config, raw: &Raw, targets: &[&str]) -> Remark {
    let hidden = plan.secret_lines.contains(&(raw.place.file.clone(), raw.place.line));
    let place = SourcePosition { source: raw.place.source.clone().filter(|_| !hidden), ..raw.place.clone() };
    let on = match targets {
        [first, second, _, more @ ..] if !more.is_empty() => {
            format!("{first}, {second} and {} more", targets.len() - 2)
        }
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        few => few.concat(),
    };
    Remark { severity: raw.severity, error: raw.error.clone().at(place).on_target(&on).in_query(&raw.query) }
}
