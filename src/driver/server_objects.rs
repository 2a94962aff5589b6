//! What a server has besides its version: extensions, and the relations of which `when` asks. A driver writes one statement
//! that tells all of it ([`super::Session::objects_question`]); the answer is read here.
//!
//! Rows of the answer: `relation`, its place among those that were asked for, `readable` or `refused`; and `extension`, its
//! name, its version. A relation without a row does not exist.

use super::answer::AnswerSink;
use super::{Column, Flow, Row, bounded_text};
use crate::error::{Error, Reason, Result};

/// No server has more extensions or plugins.
const MAX_EXTENSIONS: usize = 10_000;

/// A table or view, as the server's catalog has its name. It may stand between quotes in SQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelationName {
    schema: String,
    name: String,
}

impl RelationName {
    /// Reads `schema.name`.
    ///
    /// # Errors
    /// A sentence that says what a name looks like.
    pub fn new(text: &str) -> std::result::Result<RelationName, String> {
        let is_name = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | '#'))
        };
        match text.split_once('.').filter(|(schema, name)| is_name(schema) && is_name(name)) {
            Some((schema, name)) => Ok(RelationName { schema: schema.to_owned(), name: name.to_owned() }),
            None => Err(format!(
                "{text:?} is not a relation: write SCHEMA.NAME as the catalog has them, without quotes (in SQLite main.NAME)"
            )),
        }
    }

    /// The schema; in MySQL the database.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The name in its schema.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Display for RelationName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// What the user can do with a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationState {
    /// There is none, or the server does not show it to this user.
    Missing,
    /// It exists, and the user lacks a privilege to read it.
    Refused,
    /// The user can read it, or some of its columns.
    Readable,
}

/// What one server said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerObjects {
    extensions: Vec<(String, String)>,
    relations: Vec<(RelationName, RelationState)>,
}

impl ServerObjects {
    /// None of these relations exists, nor any extension: for a server without a question to ask.
    pub fn none(relations: &[RelationName]) -> ServerObjects {
        let relations = relations.iter().map(|name| (name.clone(), RelationState::Missing));
        ServerObjects { extensions: Vec::new(), relations: relations.collect() }
    }

    /// The version of an extension; `None` where the server has none of this name.
    pub fn extension(&self, name: &str) -> Option<&str> {
        let found = self.extensions.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, version)| version.as_str())
    }

    /// The state of a relation; `None` where it was not asked for.
    pub fn relation(&self, name: &RelationName) -> Option<RelationState> {
        self.relations.iter().find(|(known, _)| known == name).map(|(_, state)| *state)
    }
}

/// Reads the answer to a question about these relations.
pub fn sink(relations: &[RelationName]) -> AnswerSink<ServerObjects> {
    let key = "when.extension, when.relation";
    AnswerSink::new(key, ServerObjects::none(relations), read_columns, read_row)
}

fn read_columns(_: &mut ServerObjects, columns: &[Column]) -> Result<()> {
    if columns.len() == 3 { Ok(()) } else { Err(odd("another number of columns")) }
}

fn read_row(found: &mut ServerObjects, row: &dyn Row) -> Result<Flow> {
    let text = |column: usize| -> Result<String> {
        let (cell, mut scratch) = (row.cell(column)?, String::new());
        Ok(bounded_text::name(cell.label(&mut scratch)))
    };
    let (kind, name, detail) = (text(0)?, text(1)?, text(2)?);
    match kind.as_str() {
        "extension" if found.extensions.len() < MAX_EXTENSIONS => found.extensions.push((name, detail)),
        "relation" => {
            let place: usize = name.parse().map_err(|_| odd("a relation that was not asked for"))?;
            if let Some((_, state)) = found.relations.get_mut(place) {
                *state = if detail == "readable" { RelationState::Readable } else { RelationState::Refused };
            }
        }
        _ => return Err(odd("an odd or endless list")),
    }
    Ok(Flow::Continue)
}

fn odd(what: &str) -> Error {
    Error::new(Reason::Protocol, format!("the server answers with {what}"))
}

#[cfg(test)]
mod tests {
    use crate::value::Cell;

    use super::*;

    #[test]
    fn a_relation_is_two_names_that_need_no_escape() {
        let name = RelationName::new("heartbeat.heartbeat").unwrap();
        assert_eq!(
            (name.schema(), name.name(), name.to_string().as_str()),
            ("heartbeat", "heartbeat", "heartbeat.heartbeat")
        );
        assert!(RelationName::new("Überblick.t$1-a").is_ok());
        for text in ["", "t", ".t", "a.", "a.b.c", "a.'b", "a.\"b\"", "a.b`", "a. b", "a.b\\", "a.b;"] {
            assert!(RelationName::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_not_asked_for_is_not_known_and_what_has_no_row_is_missing() {
        let (asked, other) = (RelationName::new("a.b").unwrap(), RelationName::new("a.c").unwrap());
        let none = ServerObjects::none(std::slice::from_ref(&asked));
        assert_eq!((none.relation(&asked), none.relation(&other)), (Some(RelationState::Missing), None));
        assert_eq!(none.extension("x"), None);
    }

    #[test]
    fn a_server_cannot_fill_the_memory_with_names() {
        struct LongRow(String);
        impl Row for LongRow {
            fn cell(&self, column: usize) -> Result<Cell<'_>> {
                Ok(Cell::Text(if column == 0 { "extension" } else { &self.0 }))
            }
        }
        let mut found = ServerObjects::default();
        read_row(&mut found, &LongRow("x".repeat(1 << 20))).unwrap();
        let (name, version) = &found.extensions[0];
        assert_eq!((name.len(), version.len()), (bounded_text::MAX_NAME_BYTES, bounded_text::MAX_NAME_BYTES));
    }
}
