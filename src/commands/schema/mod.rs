//! `schema [KIND]`: prints the JSON Schema of a file that users write, for editors and for who generates files.
//!
//! The keys, what they hold and what they are for come from `config::schema`; `json` writes them. A new kind of file is
//! one line in [`KINDS`].

mod json;

use std::rc::Rc;

use argh::FromArgs;

use crate::config::schema;
use crate::driver::Drivers;
use crate::error::Error;
use crate::yaml::keys::nearest;
use crate::yaml::recording::MappingRecord;

use super::print_json;

/// Print the JSON Schema (draft-07) of the configuration, or of an included file.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "schema",
    help_triggers("-h", "--help", "help"),
    example = "Write the schema that editors complete and check with:\n  {command_name} > sql-exporter.schema.json",
    example = "The same for included files:\n  {command_name} collector > collector.schema.json"
)]
pub struct Options {
    /// config (default), or collector: an included file
    #[argh(positional)]
    kind: Option<String>,
}

/// A kind of file.
struct FileKind {
    name: &'static str,
    title: &'static str,
    record: fn(&Drivers) -> Rc<MappingRecord>,
}

const KINDS: [FileKind; 2] = [
    FileKind { name: "config", title: "sql-exporter: configuration", record: schema::config },
    FileKind { name: "collector", title: "sql-exporter: included file", record: schema::collector },
];

/// Prints it.
///
/// # Errors
/// An unknown kind, with the nearest.
pub fn run(options: &Options) -> Result<u8, Vec<Error>> {
    let name = options.kind.as_deref().unwrap_or("config");
    let kind = KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names = KINDS.map(|kind| kind.name);
        let error = Error::config(format!("no file is of the kind {name:?}"));
        vec![error.with_hint(match nearest(name, names) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("one of: {}", names.join(", ")),
        })]
    })?;
    let record = (kind.record)(&Drivers::built_in());
    print_json(&json::text(&record, kind.name, kind.title)).map(|()| 0).map_err(|error| vec![error])
}
