//! What a session knows of its statements: which may go out with others in one message, and which the server keeps
//! under a name for that.
//!
//! Owns names, not messages: `group` writes those. The names live as long as the server's session: a reset takes them.

use std::collections::HashMap;

use crate::driver::Sql;
use crate::driver::statement::{Dialect, check_read_only};

use super::learned::leaves_something;

/// A longer text stays alone: it travels as twice as many digits, and the server's longest message may be short.
const LONGEST: usize = 16 * 1024;

#[derive(Debug, Default)]
struct Statement {
    /// Its last run was good and gave few rows, whose cells are the same as text.
    good: bool,
    /// The server has it under its name.
    prepared: bool,
    /// The server does not keep it under a name.
    refused: bool,
    /// The turn of its last run.
    used: u64,
}

/// The statements of one session.
#[derive(Debug)]
pub(super) struct Known {
    statements: HashMap<String, Statement>,
    /// Names that the server has and that are not needed any more.
    dropped: Vec<String>,
    most: usize,
    turn: u64,
    /// A message of several statements was answered as it should be.
    proven: bool,
    /// Something on the way does not take such messages.
    refused: bool,
}

/// Why a statement in a message gave its job nothing, so that it must run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The server does not know the name, or its tables changed.
    Stale,
    /// The server, or a proxy, does not prepare it by name.
    Refused,
    /// The answer is not one to this message.
    Odd,
    /// Its columns are others now, whose cells would not be the same as text.
    Columns,
}

impl Known {
    /// Nothing is known; `most` statements will be.
    pub(super) fn new(most: usize) -> Self {
        Known {
            statements: HashMap::new(),
            dropped: Vec::new(),
            most,
            turn: 0,
            proven: false,
            refused: false,
        }
    }

    /// A statement ran. `good`: well, with few rows whose cells are the same as text.
    pub(super) fn ran(&mut self, sql: &Sql, good: bool) {
        self.turn += 1;
        if let Some(statement) = self.statements.get_mut(sql.name()) {
            (statement.good, statement.used) = (good, self.turn);
        } else if good && may_go_together(sql.text()) {
            self.make_room();
            let statement = Statement { good, used: self.turn, ..Statement::default() };
            self.statements.insert(sql.name().to_owned(), statement);
        }
    }

    /// Forgets the statement that was not used for longest, where there are too many.
    fn make_room(&mut self) {
        if self.statements.len() < self.most {
            return;
        }
        let oldest = self.statements.iter().min_by_key(|(_, statement)| statement.used);
        let Some(name) = oldest.map(|(name, _)| name.clone()) else { return };
        if self.statements.remove(&name).is_some_and(|statement| statement.prepared) {
            self.dropped.push(name);
        }
    }

    /// True when a statement may go out with others.
    pub(super) fn is_fit(&self, sql: &Sql) -> bool {
        let statement = self.statements.get(sql.name());
        !self.refused && statement.is_some_and(|statement| statement.good && !statement.refused)
    }

    /// True when the server has it under its name.
    pub(super) fn is_prepared(&self, sql: &Sql) -> bool {
        self.statements.get(sql.name()).is_some_and(|statement| statement.prepared)
    }

    /// It was executed by its name.
    pub(super) fn executed(&mut self, sql: &Sql) {
        self.proven = true;
        if let Some(statement) = self.statements.get_mut(sql.name()) {
            statement.prepared = true;
        }
    }

    /// True once a message was answered as it should be.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// It could not be executed by its name, and has run alone since. If that went well, and nothing could be executed
    /// by its name before, the whole way is to blame.
    pub(super) fn objected(&mut self, sql: &Sql, why: Why) {
        let ran_alone = self.statements.get(sql.name()).is_some_and(|statement| statement.good);
        match why {
            Why::Columns => {}
            Why::Refused if !ran_alone => {}
            Why::Stale if self.proven => self.forget_names(),
            Why::Refused if self.proven => {
                if let Some(statement) = self.statements.get_mut(sql.name()) {
                    statement.refused = true;
                }
            }
            Why::Stale | Why::Refused | Why::Odd => self.refused = true,
        }
    }

    /// The names that the next message takes from the server.
    pub(super) fn take_dropped(&mut self) -> Vec<String> {
        std::mem::take(&mut self.dropped)
    }

    /// The server has forgotten all names.
    pub(super) fn forget_names(&mut self) {
        self.dropped.clear();
        self.statements.values_mut().for_each(|statement| statement.prepared = false);
    }
}

/// One result to a statement, nothing left in the session, and an end at the deadline: an interrupted `SLEEP` may give
/// a result instead of an error, and in a message it is not known to the moment when a statement began.
fn may_go_together(sql: &str) -> bool {
    sql.len() <= LONGEST
        && !sleeps(sql)
        && !leaves_something(sql)
        && check_read_only(sql, Dialect::MySql).is_ok()
}

/// The statement may hold a `SLEEP`.
pub(super) fn sleeps(sql: &str) -> bool {
    sql.as_bytes().windows(5).any(|part| part.eq_ignore_ascii_case(b"sleep"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(known: &Known, texts: &[&str]) -> Vec<bool> {
        texts.iter().map(|text| known.is_fit(&Sql::new(text))).collect()
    }

    #[test]
    fn only_what_reads_leaves_nothing_and_ran_well_goes_together() {
        let mut known = Known::new(10);
        let long = format!("SELECT '{}'", "x".repeat(LONGEST));
        for sql in ["SELECT @a := 1", "SELECT Sleep(0)", "CALL p()", "SELECT 1; SELECT 2", &long] {
            known.ran(&Sql::new(sql), true);
            assert_eq!(fit(&known, &[sql]), [false], "{sql}");
        }
        known.ran(&Sql::new("SELECT 1"), false);
        assert_eq!(fit(&known, &["SELECT 1"]), [false]);
        known.ran(&Sql::new("SELECT 1"), true);
        assert_eq!(fit(&known, &["SELECT 1", "SELECT 2"]), [true, false]);
        known.ran(&Sql::new("SELECT 1"), false);
        assert_eq!(fit(&known, &["SELECT 1"]), [false]);
    }

    #[test]
    fn the_statement_that_was_not_used_for_longest_makes_room() {
        let mut known = Known::new(2);
        let [one, two, three] = ["SELECT 1", "SELECT 2", "SELECT 3"].map(Sql::new);
        for sql in [&one, &two] {
            known.ran(sql, true);
            known.executed(sql);
        }
        known.ran(&one, true);
        known.ran(&three, true);
        assert_eq!(fit(&known, &["SELECT 1", "SELECT 2", "SELECT 3"]), [true, false, true]);
        assert_eq!(known.take_dropped(), [two.name()]);
        assert!(known.take_dropped().is_empty() && known.is_prepared(&one) && !known.is_prepared(&three));
        known.forget_names();
        assert!(!known.is_prepared(&one));
    }

    #[test]
    fn the_way_is_held_responsible_until_one_message_came_through() {
        let [one, two] = ["SELECT 1", "SELECT 2"].map(Sql::new);
        let mut known = Known::new(10);
        known.ran(&one, true);
        known.ran(&two, true);
        known.ran(&one, false);
        known.objected(&one, Why::Refused);
        assert_eq!(fit(&known, &["SELECT 1", "SELECT 2"]), [false, true], "it was its own fault");
        for (proven, why, left) in [
            (false, Why::Refused, [false, false]),
            (false, Why::Stale, [false, false]),
            (false, Why::Columns, [true, true]),
            (true, Why::Refused, [false, true]),
            (true, Why::Stale, [true, true]),
            (true, Why::Odd, [false, false]),
        ] {
            let mut known = Known::new(10);
            known.ran(&one, true);
            known.ran(&two, true);
            if proven {
                known.executed(&two);
            }
            known.objected(&one, why);
            assert_eq!(fit(&known, &["SELECT 1", "SELECT 2"]), left, "{proven} {why:?}");
        }
    }
}
