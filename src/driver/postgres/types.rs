//! The types that only one server has (enums, extensions): their names and categories, learned once per session.

use std::collections::HashMap;

use crate::driver::advice::Advice;
use crate::driver::bounded_text;

use super::advice;
use super::values::ValueType;
use super::wire::ResultShape;

/// What is known of a server's own types, by OID.
#[derive(Debug, Default)]
pub(super) struct ServerTypes(HashMap<u32, (String, ValueType, Advice)>);

impl ServerTypes {
    /// The statement that tells of those that `shapes` have and nobody asked for yet. Rows: OID, name, category.
    pub(super) fn question(&self, shapes: &[ResultShape]) -> Option<String> {
        let unknown: Vec<String> = shapes
            .iter()
            .flat_map(|shape| &shape.unknown)
            .filter(|(_, oid)| !self.0.contains_key(oid))
            .map(|(_, oid)| oid.to_string())
            .collect();
        (!unknown.is_empty()).then(|| {
            format!(
                "SELECT oid, pg_catalog.format_type(oid, NULL), typcategory FROM pg_catalog.pg_type \
                 WHERE oid OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.oid[])",
                unknown.join(",")
            )
        })
    }

    /// Keeps one row of the answer.
    pub(super) fn learn(&mut self, row: &[Option<String>]) {
        if let [Some(oid), Some(name), Some(category)] = row
            && let Ok(oid) = oid.parse()
        {
            self.0.insert(
                oid,
                (
                    bounded_text::cut(name, bounded_text::NAME),
                    ValueType::of_category(category),
                    advice::of_category(category),
                ),
            );
        }
    }

    /// Fills in what is known.
    pub(super) fn complete(&self, shape: &mut ResultShape) {
        for (column, oid) in &shape.unknown {
            let Some((name, kind, advice)) = self.0.get(oid) else { continue };
            if let (Some(column), Some(slot)) = (shape.columns.get_mut(*column), shape.kinds.get_mut(*column))
            {
                column.type_name = name.as_str().into();
                column.content = kind.content();
                column.advice = *advice;
                *slot = *kind;
            }
        }
    }
}
