//! What a statement leaves in its session for the next one to see, or for other clients to wait for, and how that is
//! noticed: by the statement's text, by what the server says with its result, and by a question behind each batch.
//!
//! The text tells of a user variable, a lock by name, `LAST_INSERT_ID(…)`. Servers from MySQL 5.7 and MariaDB 10.2 on say
//! at the end of a result that a variable, the schema or a temporary table has changed, also where a function did it. They
//! do not tell of a lock that a view takes, nor of `:=` and `SELECT … INTO` in a function: for these is the question, which
//! also gives the locks back. It costs no round trip, and nothing that a page waits for.

use crate::deadline::Deadline;

use super::errors::Fault;
use super::packet::ServerError;
use super::talk::{Table, Talk, Trouble};

/// Where the user variables of a session stand.
const OF_MARIADB: &str = "information_schema.user_variables";
/// Only where the user may read it.
const OF_MYSQL: &str = "performance_schema.user_variables_by_thread WHERE thread_id=PS_CURRENT_THREAD_ID()";

/// The question behind each batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Residue {
    sql: String,
    /// What stands for the user variables while there are only those of `session_sql`.
    usual: Option<String>,
}

/// The questions that a server may answer, the best one first.
pub(super) struct Questions([String; 2]);

impl Questions {
    /// The questions of a flavour.
    pub(super) fn of(is_mariadb: bool, session_sql: &[String]) -> Self {
        // A lock of `session_sql` is meant to be held.
        let keeps_locks = session_sql.iter().any(|sql| has(sql, b"get_lock"));
        let locks = if keeps_locks { "0" } else { "RELEASE_ALL_LOCKS()" };
        // Without variables of `session_sql` there is none to be overwritten.
        let what = match session_sql.iter().any(|sql| sql.contains('@')) {
            true => "COALESCE(SUM(CRC32(CONCAT_WS('=',variable_name,variable_value))),0)",
            false => "COUNT(*)",
        };
        let table = if is_mariadb { OF_MARIADB } else { OF_MYSQL };
        Questions([format!("SELECT {locks},(SELECT {what} FROM {table})"), format!("SELECT {locks},0")])
    }

    /// Asks all of them, behind `session_sql`.
    pub(super) fn queue(&self, talk: &mut Talk) {
        self.0.iter().for_each(|sql| talk.queue_query(sql));
    }

    /// The first one that the server answers.
    pub(super) fn read(self, talk: &mut Talk, by: Deadline) -> Result<Option<Residue>, Fault> {
        let mut best = None;
        for sql in self.0 {
            match talk.read_table(by) {
                Ok(table) if best.is_none() && variables(&table).is_some() => {
                    best = Some(Residue { sql, usual: variables(&table) });
                }
                // A proxy may answer with something else.
                Ok(_) | Err(Trouble::Refused(_)) => {}
                Err(Trouble::Broken(fault)) => return Err(fault),
            }
        }
        Ok(best)
    }
}

impl Residue {
    /// Asks.
    pub(super) fn queue(&self, talk: &mut Talk) {
        talk.queue_query(&self.sql);
    }

    /// Whether something was left.
    pub(super) fn is_left(&self, answer: &Table) -> bool {
        let released = answer.first().and_then(|row| row.first()?.as_deref());
        !matches!(released, None | Some("0")) || variables(answer) != self.usual
    }
}

fn variables(answer: &Table) -> Option<String> {
    answer.first()?.get(1)?.clone()
}

/// True for a statement that leaves something, by its text. Strings and comments count too: that costs little.
pub(super) fn leaves_something(sql: &str) -> bool {
    const MARKS: &[&[u8]] = &[b":=", b"get_lock", b"last_insert_id"];
    MARKS.iter().any(|mark| has(sql, mark))
}

/// True for an error of a statement that had begun to run: its result would have told what it has changed.
pub(super) fn may_have_run(error: &ServerError) -> bool {
    // Syntax, names, privileges, read-only mode: found before.
    !error.state.starts_with("42") && !error.state.starts_with("25")
}

fn has(sql: &str, mark: &[u8]) -> bool {
    sql.as_bytes().windows(mark.len()).any(|part| part.eq_ignore_ascii_case(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_depends_on_what_session_sql_leaves() {
        let asked = |is_mariadb, session_sql: &[&str]| {
            let session_sql: Vec<String> = session_sql.iter().map(|sql| (*sql).to_owned()).collect();
            Questions::of(is_mariadb, &session_sql).0
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
        let residue = Residue { sql: String::new(), usual: Some("7".to_owned()) };
        let row = |locks: Option<&str>, variables: &str| {
            vec![vec![locks.map(str::to_owned), Some(variables.to_owned())]]
        };
        assert!(!residue.is_left(&row(Some("0"), "7")) && !residue.is_left(&row(None, "7")));
        assert!(residue.is_left(&row(Some("1"), "7")) && residue.is_left(&row(Some("0"), "8")));
        assert!(residue.is_left(&Table::new()), "an answer that is none");
    }

    #[test]
    fn the_text_tells_of_variables_and_locks() {
        for sql in ["SELECT @a := 1", "SELECT `Get_Lock` ('x', 1)", "SELECT LAST_INSERT_ID(7)"] {
            assert!(leaves_something(sql), "{sql}");
        }
        assert!(!leaves_something("SELECT @@version"));
    }
}
