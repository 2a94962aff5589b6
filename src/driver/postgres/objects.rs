//! The statement that tells the extensions of a database, and which relations the role can read.

use crate::driver::{RelationName, Sql};

const EXTENSIONS: &str = "SELECT 'extension'::text, extname::text, extversion::text FROM pg_extension";

/// The question. A name is looked up in the catalog: `to_regclass` fails where the role may not use the schema. A privilege
/// on some columns is enough, as only the query knows which of them it reads.
pub(super) fn objects_question(relations: &[RelationName]) -> Sql {
    if relations.is_empty() {
        return Sql::of_catalog(EXTENSIONS);
    }
    let row = |(place, name): (usize, &RelationName)| {
        format!("('{place}', '{}', '{}')", name.schema(), name.name())
    };
    let rows: Vec<String> = relations.iter().enumerate().map(row).collect();
    let rows = rows.join(", ");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_name_their_places() {
        let names = [RelationName::new("a.b").unwrap(), RelationName::new("c.d").unwrap()];
        assert!(objects_question(&names).text().contains("(VALUES ('0', 'a', 'b'), ('1', 'c', 'd'))"));
    }
}
