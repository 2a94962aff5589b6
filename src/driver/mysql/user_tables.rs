//! The user's tables on MySQL and MariaDB, from `information_schema`: estimates and sizes of the storage engine.

use std::fmt::Write as _;

use crate::driver::Sql;
use crate::driver::user_tables::{StatisticsStatement, StatisticsValue, UserTable, UserTables};

/// In the session's database, where it has one: each table may cost the server a look at its file.
const LIST: &str = "
SELECT table_schema, table_name, 0, NULL
FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')
  AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')
  AND (DATABASE() IS NULL OR table_schema = DATABASE())
ORDER BY coalesce(data_length, 0) + coalesce(index_length, 0) DESC, table_schema, table_name LIMIT 1";

const OF_ALL: &str = "SELECT coalesce(sum(data_length + index_length), 0) AS bytes
FROM information_schema.tables
WHERE table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')";

const OF_TABLE: &[StatisticsValue] = &[
    StatisticsValue {
        column: "row_estimate",
        suffix: "rows",
        help: "Rows in {}, as the storage engine estimates.",
    },
    StatisticsValue { column: "bytes", suffix: "bytes", help: "Size of {} with its indexes." },
];
const OF_DATABASE: &[StatisticsValue] = &[StatisticsValue {
    column: "bytes",
    suffix: "bytes",
    help: "Size of all tables with their indexes that the user sees.",
}];

/// The tables of a MySQL or MariaDB server.
pub(super) struct MySqlTables;

impl UserTables for MySqlTables {
    fn list(&self) -> Sql {
        Sql::new(LIST)
    }

    fn of_table(&self, table: &UserTable) -> StatisticsStatement {
        let (schema, name) = (literal(&table.schema), literal(&table.name));
        let sql = format!(
            "SELECT sum(table_rows) AS row_estimate, sum(data_length + index_length) AS bytes
FROM information_schema.tables
WHERE table_schema = {schema} AND table_name = {name}"
        );
        StatisticsStatement { sql, values: OF_TABLE }
    }

    fn of_database(&self) -> StatisticsStatement {
        StatisticsStatement { sql: OF_ALL.to_owned(), values: OF_DATABASE }
    }

    /// `information_schema` shows tables on which a user has any privilege. This one reads nothing.
    fn grant(&self, database: &str, role: &str) -> Option<String> {
        Some(format!("GRANT REFERENCES ON `{}`.* TO {role};", database.replace('`', "``")))
    }
}

/// A text in SQL. With a backslash it is written in hexadecimal: what one means depends on `NO_BACKSLASH_ESCAPES`.
fn literal(text: &str) -> String {
    if !text.contains('\\') {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let mut out = "_utf8mb4 X'".to_owned();
    for byte in text.bytes() {
        // Writing to a text cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_quotes_and_backslashes() {
        for (text, expected) in
            [("orders", "'orders'"), ("it's `a`", "'it''s `a`'"), (r"a\'b", "_utf8mb4 X'615c2762'")]
        {
            assert_eq!(literal(text), expected);
        }
    }
}
