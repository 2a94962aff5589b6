//! Du-gui/export-sql, from which this exporter started: its files load as they are, but for drivers that we lack.

use super::dialect::{Dialect, Source, child, entries, items};
use super::model::{Entry, Imported, OutputFile, Query, Target, Value};
use super::section::Section;
use crate::yaml::document::Node;

pub(super) const DIALECT: Dialect = Dialect { name: "export-sql", signs, convert };

fn signs(tree: &Node) -> Vec<String> {
    let mut signs = Vec::new();
    let databases = child(tree, "databases").map(entries).unwrap_or_default();
    if databases.iter().any(|database| {
        child(&database.node, "driver").is_some() || child(&database.node, "connection_string").is_some()
    }) {
        signs.push("`databases` have a `driver`".to_owned());
    }
    let queries = child(tree, "queries").map(items).unwrap_or_default();
    if queries.iter().any(|query| child(query, "sql").is_some() && child(query, "name").is_some()) {
        signs.push("`queries` is a list with `name` and `sql`".to_owned());
    }
    // One alone is the mark of other dialects.
    if signs.len() == 2 { signs } else { Vec::new() }
}

fn convert(source: &Source<'_>) -> Imported {
    let mut main = OutputFile::default();
    for input in source.inputs {
        let Some(root) = Section::root(input, source.report) else { continue };
        main.top.comments.extend(input.head_comments());
        let databases = root.section("databases");
        main.databases.extend(databases.iter().flat_map(Section::named).map(|(name, section)| {
            let mut entry = Entry::at(section.place());
            entry.comments = section.comments();
            entry.set_if("driver", section.text("driver"));
            Target { name: name.to_owned(), entry }
        }));
        main.queries.extend(root.sections("queries").iter().map(|section| {
            let mut entry = Entry::at(section.place());
            entry.set_if("name", section.text("name"));
            entry.set_if("sql", section.text("sql").map(Value::Sql));
            Query { entry, metrics: Vec::new() }
        }));
    }
    Imported { main: Some(main), ..Imported::default() }
}
