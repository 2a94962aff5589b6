//! The statement that tells the extensions of a database, and which relations the role can read.

use crate::driver::server_objects::relation_rows;
use crate::driver::{RelationName, Sql};

const EXTENSIONS: &str = "SELECT 'extension'::text, extname::text, extversion::text FROM pg_extension";

/// The question. A name is looked up in the catalog: `to_regclass` fails where the role may not use the schema. A privilege
/// on some columns is enough, as only the query knows which of them it reads.
pub(super) fn objects_question(relations: &[RelationName]) -> Sql {
    if relations.is_empty() {
        return Sql::of_catalog(EXTENSIONS);
    }
    let rows = relation_rows(relations, "");
    Sql::of_catalog(&format!(
        "{EXTENSIONS} UNION ALL \
         SELECT 'relation', asked.place, CASE WHEN has_schema_privilege(n.oid, 'USAGE') \
         AND has_any_column_privilege(c.oid, 'SELECT') THEN 'readable' ELSE 'refused' END \
         FROM (VALUES {rows}) AS asked (place, schema, name) \
         JOIN pg_namespace AS n ON n.nspname = asked.schema \
         JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = asked.name \
         AND c.relkind IN ('r', 'v', 'm', 'f', 'p')"
    ))
}
