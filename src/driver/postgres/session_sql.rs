//! `session_sql`: what stays with a session, and what each transaction sets again.
//!
//! Behind a pooler that hands a server connection to another client after each transaction, what stays would reach
//! those clients, and our own query may run without it. `SET LOCAL` ends with its transaction.

use crate::driver::statement::{Dialect, begins_with, split_statements};

/// The name of the prepared [`SessionSql::local`].
pub(super) const LOCAL: &str = "sqlexp_local";

/// One statement and the number of its entry in the configuration, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionStatement {
    pub(super) entry: usize,
    pub(super) sql: String,
}

/// The statements of `session_sql`, by how long they hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SessionSql {
    /// For the session.
    pub(super) lasting: Vec<SessionStatement>,
    /// The `SET LOCAL` ones, as one statement, and the number of the first.
    pub(super) local: Option<SessionStatement>,
}

impl SessionSql {
    /// Splits the entries into statements, by how long these hold.
    pub(super) fn read(entries: &[String]) -> Self {
        let (mut lasting, mut local) = (Vec::new(), Vec::new());
        for (index, text) in entries.iter().enumerate() {
            for sql in split_statements(text, Dialect::Postgres) {
                let is_local = begins_with(sql, &["SET", "LOCAL"], Dialect::Postgres);
                let list = if is_local { &mut local } else { &mut lasting };
                list.push(SessionStatement { entry: index + 1, sql: sql.to_owned() });
            }
        }
        SessionSql { lasting, local: block(&local) }
    }
}

/// One statement that runs them all. Outside a transaction block the server would warn of each by itself, in its log
/// too, and a pooler in statement mode allows no such block.
fn block(local: &[SessionStatement]) -> Option<SessionStatement> {
    let first = local.first()?;
    let mut tag = "sqlexp".to_owned();
    while local.iter().any(|entry| entry.sql.contains(&tag)) {
        tag.push('x');
    }
    // The line end closes a comment.
    let lines: String = local.iter().map(|entry| format!("{}\n;", entry.sql)).collect();
    Some(SessionStatement { entry: first.entry, sql: format!("DO ${tag}$BEGIN {lines}END${tag}$") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[&str]) -> SessionSql {
        SessionSql::read(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_ends_with_its_transaction_is_told_from_what_stays() {
        let read = read(&["SET ROLE reader; /* now */ set  local search_path = 'a;b' -- mine", "SELECT 1;;"]);
        let entry = |entry, sql: &str| SessionStatement { entry, sql: sql.to_owned() };
        assert_eq!(read.lasting, [entry(1, "SET ROLE reader"), entry(2, "SELECT 1")]);
        let block = "DO $sqlexp$BEGIN /* now */ set  local search_path = 'a;b' -- mine\n;END$sqlexp$";
        assert_eq!(read.local, Some(entry(1, block)));
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(read(&[]), SessionSql::default());
        assert_eq!(read(&[" ; -- nothing", ""]), SessionSql::default());
    }

    #[test]
    fn the_quotes_around_the_block_are_no_others() {
        let local = read(&["SET LOCAL my.x = '$sqlexp$'"]).local.expect("a block");
        assert!(
            local.sql.starts_with("DO $sqlexpx$BEGIN") && local.sql.ends_with("END$sqlexpx$"),
            "{local:?}"
        );
    }
}
