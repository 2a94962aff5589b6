//! What a configuration may say: the shapes of its files, asked of the code that reads them.
//!
//! Which keys an entry has may depend on another of its keys: each driver and each metric type reads its own. So a
//! tour is read, whose entries open every such door. A new door (a key whose presence makes others be read) is one
//! line in [`DOORS`].

use std::fmt::Write;
use std::path::Path;

use crate::driver::{Drivers, Sql};
use crate::metric::TYPES;
use crate::yaml::keys::Reader;
use crate::yaml::shape::Shape;
use crate::yaml::tree::Document;

use super::collector;

/// Keys of a metric that make others be read.
const DOORS: [&str; 3] = ["", ", bucket_columns: x", ", le_column: x"];

/// The main configuration.
#[must_use]
pub fn config(drivers: &Drivers) -> Shape {
    let databases: String = drivers.names().fold("databases:\n".to_owned(), |text, driver| {
        text + &format!("  {driver}: {{driver: {driver}}}\n")
    });
    toured(&(databases + &queries()), |document, reader| {
        super::read(document, Path::new(""), drivers, reader);
    })
}

/// An included file.
#[must_use]
pub fn collector(drivers: &Drivers) -> Shape {
    toured(&queries(), |document, reader| {
        collector::included(document, "", Sql::new, &collector::defaults(None, drivers), drivers, reader);
    })
}

/// A query for each kind of metric, in the list and in the mini form.
fn queries() -> String {
    let (mut metrics, mut mini) = (String::new(), String::new());
    for kind in TYPES {
        for door in DOORS {
            // Writing to a text cannot fail.
            let _ = writeln!(metrics, "    - {{type: {}{door}}}", kind.name);
            let _ = writeln!(mini, "- {{metric_name: x, type: {}{door}}}", kind.name);
        }
    }
    format!("queries:\n- metrics:\n{metrics}{mini}")
}

fn toured(text: &str, read: impl Fn(&Document, &Reader<'_>)) -> Shape {
    let environment = |_: &str| None;
    let reader = Reader::survey(&environment);
    // Invariant: a tour is YAML; one that was not would make an empty schema, which a test would see.
    if let Ok(document) = Document::parse("tour", Path::new(""), text.to_owned()) {
        read(&document, &reader);
    }
    reader.shape()
}
