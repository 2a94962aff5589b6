//! Taking rows of literals out of [`Keys`]: what a query test says a database answers.

use crate::error::Error;

use super::audit::join;
use super::document::{Node, NodeValue};
use super::keys::Keys;
use super::shape::Kind;
use super::source::Found;

/// One value of a row, as typed and never expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// `~` or nothing.
    Nothing,
    /// Without quotes: its look says what it is.
    Plain(String),
    /// In quotes or a block: text, whatever it looks like.
    Quoted(String),
}

/// Columns with their values, in the order written.
pub type LiteralRow = Vec<(String, Literal)>;

impl<'d> Keys<'d> {
    /// A list of mappings of columns to scalars.
    pub fn rows(&mut self, key: &'static str) -> Option<Vec<LiteralRow>> {
        self.ask(key);
        self.note(key, &Kind::Cells);
        let found = self.look(key)?;
        let NodeValue::List(items) = found.value() else {
            return self.wrong(&found, "a list of mappings");
        };
        let row = |(index, item): (usize, &'d Node)| {
            self.literal_row(&found, item, &format!("{}[{index}]", found.path()))
        };
        // All of them are read first, so that every fault is found.
        items.iter().enumerate().map(row).collect::<Vec<_>>().into_iter().collect()
    }

    fn literal_row(&self, found: &Found<'_, 'd>, item: &'d Node, path: &str) -> Option<LiteralRow> {
        let NodeValue::Map(entries) = &item.value else {
            let message = format!("expected a mapping of columns to values, found {}", item.value.kind());
            self.record(Error::config(message).at(found.place_of(item.at, path)));
            return None;
        };
        let text = &found.source.document.text;
        let cell = |tree: &Node| match &tree.value {
            NodeValue::Null => Ok(Literal::Nothing),
            NodeValue::Scalar(typed) if is_plain(text, tree.at) => Ok(Literal::Plain(typed.clone())),
            NodeValue::Scalar(typed) => Ok(Literal::Quoted(typed.clone())),
            other => Err(other.kind()),
        };
        let cells = entries.iter().map(|entry| match cell(&entry.tree) {
            Ok(literal) => Some((entry.key.clone(), literal)),
            Err(kind) => {
                let place = found.place_of(entry.at, &join(path, &entry.key));
                self.record(Error::config(format!("expected a value, found {kind}")).at(place));
                None
            }
        });
        cells.collect::<Vec<_>>().into_iter().collect()
    }
}

/// True for a scalar without quotes. One in quotes stands behind its quote; blocks, and texts with escapes, have no
/// place.
fn is_plain(text: &str, at: Option<usize>) -> bool {
    let before = at.and_then(|at| text.get(..at));
    before.is_some_and(|before| !before.ends_with(['"', '\'']))
}
