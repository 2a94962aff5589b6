//! The tables of a database's users: which is the largest, and a statement about it, for the configuration that `init`
//! writes. Neither reads a row of a table; SQLite's counts some.
//!
//! Each driver has its statements in its file `user_tables`. A statement of these becomes part of a configuration, where
//! it is the user's own: names in it are quoted, and it says of which schema its relations are.

use super::answer::AnswerSink;
use super::{Column, Flow, Row, Sql};
use crate::error::{Error, Reason, Result};
use crate::value::{Cell, Number};

/// The longest name of a table that is used, in bytes: only SQLite allows more than 256.
pub const MAX_TABLE_NAME_BYTES: usize = 16 << 10;
/// How many candidates a driver may list.
const MAX_TABLES: usize = 1_000;

/// A table of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTable {
    /// Its schema, on MySQL and MariaDB its database.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// It has partitions or children, which hold its rows.
    pub has_parts: bool,
}

/// A statement about a table or a database, and the values that it selects.
pub struct StatisticsStatement {
    /// The statement.
    pub sql: String,
    /// At least one.
    pub values: &'static [StatisticsValue],
}

/// A column with a number.
pub struct StatisticsValue {
    /// Its name.
    pub column: &'static str,
    /// The end of a metric's name.
    pub suffix: &'static str,
    /// What it is, with `{}` for the table.
    pub help: &'static str,
}

/// A database with tables.
pub trait UserTables: Sync {
    /// Lists tables, the one that is the largest for all that is known first: schema, name, whether it has parts, and NULL
    /// or a statement that returns its size. With such a statement the table of the largest size is the largest.
    fn list(&self) -> Sql;

    /// About one table.
    fn of_table(&self, table: &UserTable) -> StatisticsStatement;

    /// About the database, on every server of this kind.
    fn of_database(&self) -> StatisticsStatement;

    /// What lets a role that may monitor run the statement, where it needs a privilege of its own; `database` is its database.
    fn grant(&self, database: &str, role: &str) -> Option<String>;
}

/// A table with the statement that tells its size.
pub struct ListedTable {
    /// The table.
    pub table: UserTable,
    /// The statement, where the order of the list does not tell.
    pub size: Option<Sql>,
}

/// Reads the answer of [`UserTables::list`].
pub fn sink() -> AnswerSink<Vec<ListedTable>> {
    AnswerSink::new("", Vec::new(), read_columns, read_row)
}

fn read_columns(_: &mut Vec<ListedTable>, columns: &[Column]) -> Result<()> {
    if columns.len() == 4 { Ok(()) } else { Err(Error::new(Reason::Protocol, "not four columns")) }
}

fn read_row(found: &mut Vec<ListedTable>, row: &dyn Row) -> Result<Flow> {
    let text = |column: usize| -> Result<String> {
        let (cell, mut scratch) = (row.cell(column)?, String::new());
        Ok(cell.label(&mut scratch).to_owned())
    };
    let (schema, name) = (text(0)?, text(1)?);
    let is_usable = !name.is_empty() && name.len() <= MAX_TABLE_NAME_BYTES;
    if is_usable && schema.len() <= MAX_TABLE_NAME_BYTES {
        let has_parts = matches!(row.cell(2)?.number(), Number::Value(value) if value != 0.0);
        let size = match row.cell(3)? {
            Cell::Null => None,
            _ => Some(Sql::new(&text(3)?)),
        };
        found.push(ListedTable { table: UserTable { schema, name, has_parts }, size });
    }
    Ok(if found.len() < MAX_TABLES { Flow::Continue } else { Flow::Stop })
}
