//! What a statement leaves in its session for the next one to see, or for other clients to wait for, and how that is
//! noticed: by the statement's text, by what the server says with its result, and by a query behind each batch.
//!
//! The text shows a user variable, a lock by name, `LAST_INSERT_ID(…)`. Servers from MySQL 5.7 and MariaDB 10.2 on say at
//! the end of a result that a variable, the schema or a temporary table has changed, also where a function did it. They
//! do not tell of a lock that a view takes, nor of `:=` and `SELECT … INTO` in a function: the query finds these, and
//! releases the locks. It costs no round trip, and no page waits for it.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::driver::Sql;

use super::packet::MySqlError;
use super::protocol::{MySqlAnswer, TextRows};

/// Where the user variables of a session are.
const OF_MARIADB: &str = "information_schema.user_variables";
/// Only where the user may read it.
const OF_MYSQL: &str = "performance_schema.user_variables_by_thread WHERE thread_id=PS_CURRENT_THREAD_ID()";

/// The query behind each batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChangeProbe {
    sql: String,
    /// What it returns for the user variables while there are only those of `session_sql`.
    expected: String,
}

impl ChangeProbe {
    /// The queries that a server may answer, the best one first.
    pub(super) fn candidates(is_mariadb: bool, session_sql: &[String]) -> [String; 2] {
        // A lock that `session_sql` takes is to stay.
        let keeps_locks = session_sql.iter().any(|sql| contains(sql, b"get_lock"));
        let locks = if keeps_locks { "0" } else { "RELEASE_ALL_LOCKS()" };
        // Without variables of `session_sql` there is none to be overwritten.
        let what = match session_sql.iter().any(|sql| sql.contains('@')) {
            true => "COALESCE(SUM(CRC32(CONCAT_WS('=',variable_name,variable_value))),0)",
            false => "COUNT(*)",
        };
        let table = if is_mariadb { OF_MARIADB } else { OF_MYSQL };
        [format!("SELECT {locks},(SELECT {what} FROM {table})"), format!("SELECT {locks},0")]
    }

    /// The first one that the server answers; a proxy may answer with something else.
    pub(super) fn chosen(candidates: [String; 2], answers: [MySqlAnswer<TextRows>; 2]) -> Option<Self> {
        let probe = |(sql, answer): (String, MySqlAnswer<TextRows>)| {
            let expected = variables(&answer.ok()?)?;
            Some(ChangeProbe { sql, expected })
        };
        candidates.into_iter().zip(answers).find_map(probe)
    }

    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    /// Whether something was left.
    pub(super) fn finds_change(&self, answer: &TextRows) -> bool {
        let released = answer.first().and_then(|row| row.first()?.as_deref());
        !matches!(released, None | Some("0")) || variables(answer).as_ref() != Some(&self.expected)
    }
}

fn variables(answer: &TextRows) -> Option<String> {
    answer.first()?.get(1)?.clone()
}

/// How sure it is that a statement changes its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// It, or another one of its batch, changed the session. Alone it shows which.
    Possible,
    Proven,
}

/// More suspects than any configuration has queries: reloads that change queries do not add up without end.
const MAX_SUSPECTS: usize = 4096;

/// The statements of one server that may change their session, by name: each runs alone.
#[derive(Debug, Default)]
pub(super) struct SuspectStatements(Mutex<HashMap<String, Suspicion>>);

impl SuspectStatements {
    /// What the query behind a batch found.
    pub(super) fn record_batch(&self, batch: &[&Sql], found_change: bool) {
        match (batch, found_change) {
            ([sql], true) => self.record(sql, Suspicion::Proven),
            (several, true) => several.iter().for_each(|sql| self.record(sql, Suspicion::Possible)),
            ([sql], false) if self.get(sql) == Some(Suspicion::Possible) => {
                self.0.lock().remove(sql.name());
            }
            (_, false) => {}
        }
    }

    /// Records a suspicion; the stronger of two counts.
    pub(super) fn record(&self, sql: &Sql, suspicion: Suspicion) {
        let mut statements = self.0.lock();
        let is_known = statements.contains_key(sql.name());
        if is_known && suspicion == Suspicion::Proven || !is_known && statements.len() < MAX_SUSPECTS {
            statements.insert(sql.name().to_owned(), suspicion);
        }
    }

    /// Whether a statement changes its session, as far as its text or an earlier run shows.
    pub(super) fn get(&self, sql: &Sql) -> Option<Suspicion> {
        match changes_by_text(sql.text()) {
            true => Some(Suspicion::Proven),
            false => self.0.lock().get(sql.name()).copied(),
        }
    }
}

/// True for a statement that changes its session, by its text. Strings and comments count too: that costs little.
fn changes_by_text(sql: &str) -> bool {
    const MARKS: &[&[u8]] = &[b":=", b"get_lock", b"last_insert_id"];
    MARKS.iter().any(|mark| contains(sql, mark))
}

/// True for an error of a statement, sent as text, that had begun to run: its result would have told what it has changed.
pub(super) fn may_have_run(error: &MySqlError) -> bool {
    // Syntax, names, privileges, read-only mode: found before.
    !error.state.starts_with("42") && !error.state.starts_with("25")
}

fn contains(sql: &str, mark: &[u8]) -> bool {
    sql.as_bytes().windows(mark.len()).any(|part| part.eq_ignore_ascii_case(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_depends_on_what_session_sql_leaves() {
        let asked = |is_mariadb, session_sql: &[&str]| {
            let session_sql: Vec<String> = session_sql.iter().map(|sql| (*sql).to_owned()).collect();
            ChangeProbe::candidates(is_mariadb, &session_sql)
        };
        assert_eq!(
            asked(true, &["SET sql_mode = ''"]),
            [
                "SELECT RELEASE_ALL_LOCKS(),(SELECT COUNT(*) FROM information_schema.user_variables)",
                "SELECT RELEASE_ALL_LOCKS(),0"
            ]
        );
        let [best, bare] = asked(false, &["SET @a = Get_Lock('held', 1)"]);
        assert!(best.starts_with("SELECT 0,(SELECT COALESCE(SUM(") && best.contains("PS_CURRENT_THREAD_ID"));
        assert_eq!(bare, "SELECT 0,0");
    }

    #[test]
    fn a_lock_or_another_variable_is_something() {
        let probe = ChangeProbe { sql: String::new(), expected: "7".to_owned() };
        let row = |locks: Option<&str>, variables: &str| {
            vec![vec![locks.map(str::to_owned), Some(variables.to_owned())]]
        };
        assert!(!probe.finds_change(&row(Some("0"), "7")) && !probe.finds_change(&row(None, "7")));
        assert!(probe.finds_change(&row(Some("1"), "7")) && probe.finds_change(&row(Some("0"), "8")));
        assert!(probe.finds_change(&TextRows::new()), "an answer without rows");
    }

    #[test]
    fn the_text_tells_of_variables_and_locks() {
        for sql in ["SELECT @a := 1", "SELECT `Get_Lock` ('x', 1)", "SELECT LAST_INSERT_ID(7)"] {
            assert!(changes_by_text(sql), "{sql}");
        }
        assert!(!changes_by_text("SELECT @@version"));
    }
}
