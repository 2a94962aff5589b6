//! One run of one query: binds columns, streams rows into blocks, holds the limits, ends all or nothing.
//!
//! Knows plan and metrics; knows no session, no thread, no page.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::RowSink;
use crate::error::Error;
use crate::exposition::block::Block;
use crate::plan::query::Query;

/// A whole, good result. A failed query has none.
#[derive(Debug, Default)]
pub struct Rendered {
    /// One block a family, in the order of `metrics:`; a family without samples has none.
    pub blocks: Vec<Arc<Block>>,
    /// Rows read.
    pub rows: u64,
    /// Series written.
    pub series: u64,
    /// Values left out, per reason of `values_skipped_total`.
    pub skipped: Skipped,
}

/// Values left out of a good result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// NULL with `null: skip`.
    pub null: u64,
    /// Not a number, with `invalid: skip`.
    pub invalid: u64,
    /// A second sample of one label set, with `duplicates: first`.
    pub duplicate: u64,
}

/// How a run ended, handed to whoever waits for it. The duration is the one of `query_duration_seconds`.
pub type Ended<'q> = Box<dyn FnOnce(Result<Rendered, Error>, Duration) + Send + 'q>;

/// What all samples of one target bear, and the bounds of a label: the same for all its queries.
#[derive(Debug, Clone)]
pub struct Context {
    /// `(label, value)` in the order written: the target label first (where there is one), then the target's own.
    pub labels: Vec<(String, String)>,
    /// Bytes of a label value.
    pub max_label_length: usize,
    /// True: cut at a character's border; false: an error.
    pub truncate_labels: bool,
}

/// The sink for one run. `ended` is called exactly once, from `RowSink::end`; not at all when the sink is dropped
/// before its `end` (a dead session: the run may be repeated with a fresh sink).
#[must_use]
pub fn sink<'q>(query: &'q Query, context: &'q Context, ended: Ended<'q>) -> Box<dyn RowSink + 'q> {
    let _ = (query, context, ended);
    todo!()
}
