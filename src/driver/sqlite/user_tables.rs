//! The user's tables in a SQLite file. It keeps no sizes. Up to a bound the rows are counted; beyond it the highest row ID, which
//! is at the end of a table's tree, stands for their number, those that were deleted included.

use crate::driver::Sql;
use crate::driver::user_tables::{StatisticsStatement, StatisticsValue, UserTable, UserTables};

/// A column called `rowid` would stand for the row ID, and may have no index.
const LIST: &str = r#"
SELECT l.schema, l.name, 0, replace(
  'SELECT CASE WHEN n < 10000 THEN n ELSE (SELECT max(rowid) FROM main."NAME") END
   FROM (SELECT count(*) AS n FROM (SELECT 1 FROM main."NAME" LIMIT 10000))', 'NAME', replace(l.name, '"', '""'))
FROM pragma_table_list AS l
WHERE l.schema = 'main' AND l.type = 'table' AND l.wr = 0 AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\'
  AND NOT EXISTS (SELECT 1 FROM pragma_table_xinfo(l.name, l.schema) AS c WHERE lower(c.name) = 'rowid')
ORDER BY l.name LIMIT 1000"#;

const OF_TABLE: &[StatisticsValue] = &[StatisticsValue {
    column: "last_row_id",
    suffix: "last_row_id",
    help: "Highest row ID in {}: its rows, and those deleted before the last one; absent while it is empty.",
}];
const OF_DATABASE: &[StatisticsValue] =
    &[StatisticsValue { column: "bytes", suffix: "bytes", help: "Size of the database." }];

/// The tables of a SQLite file.
pub(super) struct SqliteTables;

impl UserTables for SqliteTables {
    fn list(&self) -> Sql {
        Sql::new(LIST)
    }

    fn of_table(&self, table: &UserTable) -> StatisticsStatement {
        let name = table.name.replace('"', "\"\"");
        let sql = format!("SELECT max(rowid) AS last_row_id FROM main.\"{name}\"");
        StatisticsStatement { sql, values: OF_TABLE }
    }

    fn of_database(&self) -> StatisticsStatement {
        let sql = "SELECT c.page_count * s.page_size AS bytes FROM pragma_page_count() AS c, pragma_page_size() AS s";
        StatisticsStatement { sql: sql.to_owned(), values: OF_DATABASE }
    }

    /// A file has no roles.
    fn grant(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}
