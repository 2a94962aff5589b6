//! The statements that a session knows: which of them the server has prepared under which number.
//!
//! The numbers live as long as the server's session: a reset takes them.

use std::collections::HashMap;

use crate::driver::Sql;

/// More than any configuration has queries for one target.
const MOST: usize = 4096;

/// How a statement is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By its number in the server.
    Prepared(u32),
    /// As text: the server does not prepare its kind.
    Text,
}

#[derive(Debug)]
struct Statement {
    way: Way,
    /// The turn of its last use.
    used: u64,
}

/// The statements of one session.
#[derive(Debug, Default)]
pub(super) struct Known {
    statements: HashMap<String, Statement>,
    turn: u64,
}

impl Known {
    /// How a statement is run; `None` where it is not known yet.
    pub(super) fn way(&mut self, sql: &Sql) -> Option<Way> {
        self.turn += 1;
        let statement = self.statements.get_mut(sql.name())?;
        statement.used = self.turn;
        Some(statement.way)
    }

    /// True when it is known.
    pub(super) fn has(&self, sql: &Sql) -> bool {
        self.statements.contains_key(sql.name())
    }

    /// Learns how a statement is run. Gives the number of one that the server may forget: the statement's own one of
    /// before, or that which was not used for longest.
    pub(super) fn learn(&mut self, sql: &Sql, way: Way) -> Option<u32> {
        self.turn += 1;
        let full = self.statements.len() >= MOST && !self.has(sql);
        let oldest = || self.statements.iter().min_by_key(|(_, statement)| statement.used);
        let oldest = if full { oldest().map(|(name, _)| name.clone()) } else { None };
        let gone = oldest.and_then(|name| self.statements.remove(&name));
        let before = self.statements.insert(sql.name().to_owned(), Statement { way, used: self.turn });
        number(gone.or(before))
    }

    /// Forgets a statement, and gives its number.
    pub(super) fn forget(&mut self, sql: &Sql) -> Option<u32> {
        number(self.statements.remove(sql.name()))
    }

    /// The server has forgotten all of them.
    pub(super) fn clear(&mut self) {
        self.statements.clear();
    }
}

fn number(statement: Option<Statement>) -> Option<u32> {
    match statement?.way {
        Way::Prepared(id) => Some(id),
        Way::Text => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_that_was_not_used_for_longest_makes_room() {
        let mut known = Known::default();
        let texts: Vec<Sql> = (0..=MOST).map(|at| Sql::new(&format!("SELECT {at}"))).collect();
        for (id, sql) in (0..).zip(texts.iter().take(MOST)) {
            assert_eq!(known.learn(sql, Way::Prepared(id)), None);
        }
        assert_eq!(known.way(&texts[0]), Some(Way::Prepared(0)));
        assert_eq!(known.learn(&texts[MOST], Way::Text), Some(1));
        assert!(known.has(&texts[0]) && !known.has(&texts[1]) && known.has(&texts[MOST]));
        assert_eq!(known.learn(&texts[0], Way::Prepared(9)), Some(0), "prepared again");
        assert_eq!(known.forget(&texts[0]), Some(9));
        assert_eq!(known.forget(&texts[MOST]), None);
        known.clear();
        assert!(!known.has(&texts[2]));
    }
}
