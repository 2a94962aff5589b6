//! The sink of the query that lists databases (`discover`): rows → names with labels.
//!
//! Knows no session and no target.

use std::time::Duration;

use crate::config::discover::{DATABASE_COLUMN, Discover, FoundDatabase, MAX_NAME_BYTES};
use crate::driver::{Column, Flow, Row, RowSink};
use crate::error::{Error, Reason, Result};
use crate::metric::column::BoundColumn;
use crate::plain_text::{self, counted};

use super::query_sink::{OnEnd, RenderedResult};

/// The most bytes of all names and labels together.
const MAX_BYTES: usize = 4 << 20;

/// The sink for one run. `on_end` is called as that of a query's sink.
pub fn sink<'q>(discover: &'q Discover, on_end: OnEnd<'q>) -> Box<dyn RowSink + 'q> {
    let (columns, found, bytes) = Default::default();
    Box::new(DatabaseListSink { discover, columns, found, bytes, on_end: Some(on_end) })
}

struct DatabaseListSink<'q> {
    discover: &'q Discover,
    /// The name, then the labels; empty before the columns are known.
    columns: Vec<BoundColumn>,
    found: Vec<FoundDatabase>,
    bytes: usize,
    on_end: Option<OnEnd<'q>>,
}

impl RowSink for DatabaseListSink<'_> {
    fn columns(&mut self, columns: &[Column]) -> Result<()> {
        let names =
            std::iter::once(DATABASE_COLUMN).chain(self.discover.labels.iter().map(|label| label.as_str()));
        self.columns = names.map(|name| BoundColumn::new(columns, name)).collect::<Result<_>>()?;
        Ok(())
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        let mut scratch = String::new();
        let mut texts = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            let cell = column.cell(row)?;
            // A name that is not UTF-8 cannot be asked for: it is empty, and not served. One that is too long stays so.
            let is_lost = index == 0 && cell.is_not_text();
            let text = if is_lost { "" } else { cell.label(&mut scratch) };
            texts.push(plain_text::start(text, MAX_NAME_BYTES + 1).to_owned());
        }
        self.bytes += texts.iter().map(String::len).sum::<usize>();
        if self.found.len() as u64 >= self.discover.query.max_rows || self.bytes > MAX_BYTES {
            let message = format!(
                "the list of databases has more than {} or {MAX_BYTES} bytes",
                counted(self.found.len(), "row", "rows")
            );
            return Err(Error::new(Reason::Limit, message).with_hint("list fewer databases in discover.sql"));
        }
        let mut texts = texts.into_iter();
        if let Some(name) = texts.next() {
            self.found.push(FoundDatabase { name, labels: texts.collect() });
        }
        Ok(Flow::Continue)
    }

    fn end(&mut self, result: Result<()>, took: Duration) {
        let databases = std::mem::take(&mut self.found);
        let rows = databases.len() as u64;
        let listed = result.map(|()| RenderedResult { rows, databases, ..RenderedResult::default() });
        if let Some(on_end) = self.on_end.take() {
            on_end(listed, took);
        }
    }
}
