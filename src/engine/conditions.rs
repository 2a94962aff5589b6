//! `when` against one session: does a query apply to its server?
//!
//! Version, flavor and role are facts of the session. The boolean of `when.sql` is read on it and noted for five minutes.
//! Knows no lane and no page.

use std::time::Duration;

use super::pool::LeasedSession;
use crate::config::conditions::{When, version_numbers};
use crate::deadline::Deadline;
use crate::driver::{Column, Flow, Health, Job, MAX_CELL_BYTES, Row, RowSink, ServerFacts};
use crate::error::{Error, Reason, Result};
use crate::value::{Cell, Number};

/// How long a session's answer to a `when.sql` holds (docs/configuration.md).
const WHEN_SQL_LIFETIME: Duration = Duration::from_secs(300);

/// The first condition on the server's facts that does not hold, as a message.
pub fn unmet_condition(when: &When, facts: &ServerFacts) -> Option<String> {
    let version = version_numbers(&facts.version);
    let ServerFacts { version: theirs, flavor, role, .. } = facts;
    if !when.version.iter().all(|bound| bound.holds(&version)) {
        Some(format!("when.version: the server's is {theirs}"))
    } else if !(when.flavor.is_empty() || when.flavor.contains(&flavor.as_str())) {
        Some(format!("when.flavor: the server's is {flavor}"))
    } else if when.role.is_some_and(|wanted| wanted.as_str() != role) {
        Some(format!("when.role: the server's is {}", if role.is_empty() { "not known" } else { role }))
    } else {
        None
    }
}

/// Whether a query applies to the server of a session.
pub enum WhenAnswer {
    /// Known without a question to the server.
    Known(bool),
    /// The server answered now.
    Asked(bool),
    /// The statement failed: so does the query. The session may be of no more use.
    Failed(Error, Health),
    /// The session died under the question.
    Broken(Health),
}

/// Under what a session notes that it was asked for its role. No statement has this name.
pub const ROLE_NOTE: &str = "role";

/// Decides `when` on a session. Asks the server for `when.sql`, unless it answered lately. Blocks until `by` at most.
pub fn decide(live: &mut LeasedSession<'_>, when: &When, by: Deadline) -> WhenAnswer {
    if let Some(applies) = known(live, when) {
        return WhenAnswer::Known(applies);
    }
    let Some(sql) = &when.sql else { return WhenAnswer::Known(true) };
    let mut sink = BooleanSink::default();
    let job =
        Job { sql, parameters: &[], allowance: by.left(), max_cell_bytes: MAX_CELL_BYTES, sink: &mut sink };
    let health = live.run(&mut [job], by);
    match (sink.verdict, health) {
        (Some(Ok(applies)), Health::Clean) => {
            live.notes.set(sql.name(), applies);
            WhenAnswer::Asked(applies)
        }
        (Some(Err(error)), health) => WhenAnswer::Failed(error, health),
        (_, health) => WhenAnswer::Broken(health),
    }
}

/// The same where the server need not be asked.
pub fn known(live: &LeasedSession<'_>, when: &When) -> Option<bool> {
    match &when.sql {
        _ if unmet_condition(when, live.facts()).is_some() => Some(false),
        None => Some(true),
        Some(sql) => live.notes.get(sql.name(), WHEN_SQL_LIFETIME),
    }
}

/// Takes the first value of the first row as yes or no.
#[derive(Default)]
pub struct BooleanSink {
    found: Option<bool>,
    verdict: Option<Result<bool>>,
}

impl BooleanSink {
    /// What came; `None` while the job has not ended.
    pub fn verdict(self) -> Option<Result<bool>> {
        self.verdict
    }
}

impl RowSink for BooleanSink {
    fn columns(&mut self, _: &[Column]) -> Result<()> {
        Ok(())
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        if self.found.is_none() {
            self.found = Some(truth(&row.cell(0)?)?);
        }
        Ok(Flow::Continue)
    }

    fn end(&mut self, verdict: Result<()>, _: Duration) {
        let none = || Error::new(Reason::Value, "returns no row").with_hint("select one boolean");
        let verdict = verdict.and_then(|()| self.found.ok_or_else(none));
        self.verdict = Some(verdict.map_err(|error| {
            let message = format!("when.sql: {}", error.message());
            let named = error.code_for(Error::new(error.reason(), message));
            error.hint().map_or_else(|| named.clone(), |hint| named.clone().with_hint(hint))
        }));
    }
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
            version,
            flavor: vec!["mariadb"],
            role: Some(ServerRole::Replica),
            sql: None,
            folded: Vec::new(),
        };
        assert!(unmet_condition(&when, &facts("10.11.6-MariaDB", "mariadb", "replica")).is_none());
        assert!(unmet_condition(&when, &facts("10.5.1-MariaDB", "mariadb", "replica")).is_some());
        assert!(unmet_condition(&when, &facts("10.11.6", "mysql", "replica")).is_some());
        assert!(unmet_condition(&when, &facts("10.11.6-MariaDB", "mariadb", "primary")).is_some());
        assert!(unmet_condition(&when, &facts("", "", "")).is_some());
    }

    #[test]
    fn null_and_zero_are_no() {
        assert_eq!(truth(&Cell::Null), Ok(false));
        assert_eq!(truth(&Cell::Int(0)), Ok(false));
        assert_eq!(truth(&Cell::Bool(true)), Ok(true));
        assert_eq!(truth(&Cell::Text("yes")).map_err(|error| error.reason()), Err(Reason::Type));
    }
}
