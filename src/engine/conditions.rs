//! `when` against one session: does a query apply to its server?
//!
//! Version, flavor and role are facts of the session. What the server has (extensions, relations) is asked in one statement
//! for all queries of the target, a `when.sql` in one of its own; the session notes the answers for five minutes.
//! Knows no lane and no page.

use std::time::Duration;

use super::guarded_session::GuardedSession;
use super::question::{self, NoAnswer};
use super::run::SkipCause;
use crate::config::conditions::{ExtensionBound, When, version_numbers};
use crate::deadline::Deadline;
use crate::driver::answer::AnswerSink;
use crate::driver::server_objects::{self, RelationState, ServerObjects};
use crate::driver::{Column, Flow, Health, MAX_CELL_BYTES, RelationName, Row, ServerFacts};
use crate::error::{Error, Reason, Result};
use crate::value::{Cell, Number};

/// How long a session's answer to a `when.sql`, and to the question what the server has, holds (docs/configuration.md).
const ANSWER_LIFETIME: Duration = Duration::from_secs(300);

/// The key of a condition that is a statement.
const WHEN_SQL: &str = "when.sql";

/// The first condition on the server's facts that does not hold.
pub(super) fn unmet_facts(when: &When, facts: &ServerFacts) -> Option<SkipCause> {
    let version = version_numbers(&facts.version);
    let ServerFacts { version: theirs, flavor, role, .. } = facts;
    let unmet = if !when.version.iter().all(|bound| bound.holds(&version)) {
        format!("when.version: the server's is {theirs}")
    } else if !(when.flavor.is_empty() || when.flavor.contains(&flavor.as_str())) {
        format!("when.flavor: the server's is {flavor}")
    } else if when.role.is_some_and(|wanted| wanted.as_str() != role) {
        format!("when.role: the server's is {}", if role.is_empty() { "not known" } else { role })
    } else {
        return None;
    };
    Some(SkipCause::Condition(unmet))
}

/// The first condition on what the server has that does not hold.
fn unmet_objects(when: &When, objects: &ServerObjects) -> Option<SkipCause> {
    for ExtensionBound { name, version } in when.extensions.iter() {
        let unmet = match objects.extension(name) {
            None => format!("when.extension: the server has no {name}"),
            Some(theirs) if !version.iter().all(|bound| bound.holds(&version_numbers(theirs))) => {
                format!("when.extension: the server has {name} {theirs}")
            }
            Some(_) => continue,
        };
        return Some(SkipCause::Condition(unmet));
    }
    when.relations.iter().find_map(|name| match objects.relation(name) {
        Some(RelationState::Readable) => None,
        Some(RelationState::Refused) => {
            let message = format!("when.relation: the user lacks a privilege to read {name}");
            Some(SkipCause::Unreadable(Error::new(Reason::Permission, message)))
        }
        Some(RelationState::Missing) | None => Some(SkipCause::Condition(format!(
            "when.relation: the server has no {name}, or hides it from the user"
        ))),
    })
}

/// True when `when` is about what the server has, and `objects` does not tell it.
fn needs_objects(when: &When, objects: Option<&ServerObjects>) -> bool {
    let is_asked = !(when.extensions.is_empty() && when.relations.is_empty());
    let tells = |objects: &ServerObjects| when.relations.iter().all(|name| objects.relation(name).is_some());
    is_asked && !objects.is_some_and(tells)
}

/// Whether a query applies to a server, and why not.
pub type Applies = Result<(), SkipCause>;

/// Whether a query applies to the server of a session.
pub struct WhenAnswer {
    /// The answer.
    pub applies: Applies,
    /// The server was asked now.
    pub is_fresh: bool,
}

/// Decides `when` on a session. Asks the server for what it has and for `when.sql`, unless it answered lately. `relations`:
/// all those of the target's conditions, so that one question serves them. Blocks until `by` at most. The session may have
/// ended with its answer ([`question::ask`]).
///
/// # Errors
/// A question has no answer.
pub fn decide(
    live: &mut GuardedSession,
    when: &When,
    relations: impl FnOnce() -> Vec<RelationName>,
    by: Deadline,
) -> Result<WhenAnswer, NoAnswer> {
    if let Some(applies) = known(live, when) {
        return Ok(WhenAnswer { applies, is_fresh: false });
    }
    let fresh = |applies| Ok(WhenAnswer { applies, is_fresh: true });
    if needs_objects(when, live.notes.objects(ANSWER_LIFETIME)) {
        ask_for_objects(live, &relations(), by)?;
        if let Some(applies) = known(live, when) {
            return fresh(applies);
        }
    }
    let Some(sql) = &when.sql else { return fresh(Ok(())) };
    if !live.is_clean() {
        return Err(NoAnswer { error: None, health: Health::Spent });
    }
    let sink = AnswerSink::new(WHEN_SQL, None, one_column, one_row);
    let found = question::ask(live, sql, sink, MAX_CELL_BYTES, None, by)?;
    let holds = found.ok_or_else(|| {
        let error = not_one("no row").about_key(WHEN_SQL);
        NoAnswer { error: Some(error), health: Health::Clean }
    })?;
    live.notes.set(sql.name(), holds);
    fresh(of_sql(holds))
}

/// The same where the server need not be asked.
pub fn known(live: &GuardedSession, when: &When) -> Option<Applies> {
    if let Some(cause) = unmet_facts(when, live.facts()) {
        return Some(Err(cause));
    }
    let objects = live.notes.objects(ANSWER_LIFETIME);
    if needs_objects(when, objects) {
        return None;
    }
    if let Some(cause) = objects.and_then(|objects| unmet_objects(when, objects)) {
        return Some(Err(cause));
    }
    match &when.sql {
        None => Some(Ok(())),
        Some(sql) => live.notes.get(sql.name(), ANSWER_LIFETIME).map(of_sql),
    }
}

/// What the answer of a `when.sql` means.
fn of_sql(holds: bool) -> Applies {
    if holds { Ok(()) } else { Err(SkipCause::Condition("when.sql returns false".to_owned())) }
}

fn ask_for_objects(
    live: &mut GuardedSession,
    relations: &[RelationName],
    by: Deadline,
) -> Result<(), NoAnswer> {
    let objects = match live.objects_question(relations) {
        None => ServerObjects::none(relations),
        Some(sql) => question::ask(live, &sql, server_objects::sink(relations), MAX_CELL_BYTES, None, by)?,
    };
    live.notes.set_objects(objects);
    Ok(())
}

fn one_column(_: &mut Option<bool>, columns: &[Column]) -> Result<()> {
    if columns.len() == 1 { Ok(()) } else { Err(not_one(format!("{} columns", columns.len()))) }
}

/// Takes the value of the only row as yes or no.
fn one_row(found: &mut Option<bool>, row: &dyn Row) -> Result<Flow> {
    match found.replace(truth(&row.cell(0)?)?) {
        None => Ok(Flow::Continue),
        Some(_) => Err(not_one("more than one row")),
    }
}

fn not_one(found: impl std::fmt::Display) -> Error {
    Error::new(Reason::Value, format!("returns {found}")).with_hint("select one boolean")
}

/// NULL is no; numbers are yes unless 0.
fn truth(cell: &Cell<'_>) -> Result<bool> {
    match cell.number() {
        Number::Null => Ok(false),
        Number::Value(value) => Ok(value != 0.0),
        Number::Overflow | Number::NotNumber => {
            Err(Error::new(Reason::Type, "returns neither a boolean nor a number")
                .with_hint("select one boolean"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::conditions::{ServerRole, VersionBound};

    fn facts(version: &str, flavor: &str, role: &str) -> ServerFacts {
        ServerFacts {
            version: version.into(),
            flavor: flavor.into(),
            role: role.into(),
            ..ServerFacts::default()
        }
    }

    #[test]
    fn every_condition_must_hold() {
        let version = vec![VersionBound::new(">=10.6").expect("a bound")];
        let when = When {
            version: version.into(),
            flavor: ["mariadb"].into(),
            role: Some(ServerRole::Replica),
            ..When::default()
        };
        assert!(unmet_facts(&when, &facts("10.11.6-MariaDB", "mariadb", "replica")).is_none());
        assert!(unmet_facts(&when, &facts("10.5.1-MariaDB", "mariadb", "replica")).is_some());
        assert!(unmet_facts(&when, &facts("10.11.6", "mysql", "replica")).is_some());
        assert!(unmet_facts(&when, &facts("10.11.6-MariaDB", "mariadb", "primary")).is_some());
        assert!(unmet_facts(&when, &facts("", "", "")).is_some());
    }

    #[test]
    fn null_and_zero_are_no() {
        assert_eq!(truth(&Cell::Null), Ok(false));
        assert_eq!(truth(&Cell::Int(0)), Ok(false));
        assert_eq!(truth(&Cell::Bool(true)), Ok(true));
        assert_eq!(truth(&Cell::Text("yes")).map_err(|error| error.reason()), Err(Reason::Type));
    }
}
