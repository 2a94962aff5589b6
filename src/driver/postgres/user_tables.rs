//! The user's tables on PostgreSQL, from the catalog: statistics of the planner, and sizes of files.
//!
//! A table that is partitioned or has children (a hypertable of TimescaleDB) is as large as all of them. A table that another
//! session has locked exclusively is not asked for its size, which would wait for the lock.

use crate::driver::Sql;
use crate::driver::user_tables::{StatisticsStatement, StatisticsValue, UserTable, UserTables};

const LIST: &str = "
WITH RECURSIVE own AS (
  SELECT c.oid, n.nspname, c.relname
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
    AND n.nspname !~ '^(pg_|_timescaledb_)' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.oid)
    AND NOT EXISTS (SELECT FROM pg_depend AS d
      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  ORDER BY c.relhassubclass DESC, c.relpages DESC, c.oid DESC LIMIT 1000
), parts AS (
  SELECT oid AS root, oid FROM own
  UNION
  SELECT p.root, i.inhrelid FROM parts AS p JOIN pg_inherits AS i ON i.inhparent = p.oid
), sizes AS (
  SELECT p.root, count(*) > 1 AS has_parts,
    sum(CASE WHEN EXISTS (SELECT FROM pg_locks AS l WHERE l.relation = c.oid AND l.mode = 'AccessExclusiveLock'
                            AND l.locktype = 'relation')
        THEN c.relpages::bigint * current_setting('block_size')::bigint ELSE pg_total_relation_size(c.oid) END) AS size
  FROM parts AS p JOIN pg_class AS c ON c.oid = p.oid
  GROUP BY p.root
)
SELECT o.nspname::text, o.relname::text, s.has_parts, NULL::text
FROM own AS o JOIN sizes AS s ON s.root = o.oid
ORDER BY s.size DESC NULLS LAST, 1, 2 LIMIT 1";

const OF_TABLE: &[StatisticsValue] = &[
    StatisticsValue {
        column: "row_estimate",
        suffix: "rows",
        help: "Rows in {}, as VACUUM or ANALYZE last estimated; absent before.",
    },
    StatisticsValue { column: "bytes", suffix: "bytes", help: "Size of {} with its indexes and TOAST." },
];
const OF_DATABASE: &[StatisticsValue] =
    &[StatisticsValue { column: "bytes", suffix: "bytes", help: "Size of the database on disk." }];

/// The tables of a PostgreSQL database.
pub(super) struct PostgresTables;

impl UserTables for PostgresTables {
    fn list(&self) -> Sql {
        Sql::of_catalog(LIST)
    }

    /// Names are compared in the catalog: a cast to `regclass` fails where the role may not use the schema.
    fn of_table(&self, table: &UserTable) -> StatisticsStatement {
        let (schema, name) = (literal(&table.schema), literal(&table.name));
        let sql = if table.has_parts {
            format!(
                "WITH RECURSIVE parts AS (
  SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname = {schema} AND c.relname = {name}
  UNION
  SELECT i.inhrelid FROM parts AS p JOIN pg_catalog.pg_inherits AS i ON i.inhparent = p.oid
)
SELECT pg_catalog.sum(c.reltuples) FILTER (WHERE c.relkind <> 'p' AND c.reltuples >= 0) AS row_estimate,
       pg_catalog.sum(pg_catalog.pg_total_relation_size(c.oid)) AS bytes
FROM parts AS p JOIN pg_catalog.pg_class AS c ON c.oid = p.oid"
            )
        } else {
            format!(
                "SELECT nullif(c.reltuples, -1) AS row_estimate, pg_catalog.pg_total_relation_size(c.oid) AS bytes
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = {schema} AND c.relname = {name}"
            )
        };
        StatisticsStatement { sql, values: OF_TABLE }
    }

    fn of_database(&self) -> StatisticsStatement {
        let sql = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database()) AS bytes";
        StatisticsStatement { sql: sql.to_owned(), values: OF_DATABASE }
    }

    /// The catalog is for everybody who may connect.
    fn grant(&self, database: &str, role: &str) -> Option<String> {
        Some(format!("GRANT CONNECT ON DATABASE \"{}\" TO {role};", database.replace('"', "\"\"")))
    }
}

/// A text in SQL, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', r"\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_quotes_and_backslashes() {
        for (text, expected) in
            [("orders", "'orders'"), ("it's", "'it''s'"), (r"a\'b", r"E'a\\''b'"), ("a\"b\n", "'a\"b\n'")]
        {
            assert_eq!(literal(text), expected);
        }
    }
}
