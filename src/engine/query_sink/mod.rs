//! One run of one query: binds columns, streams rows into blocks, holds the limits, ends all or nothing.
//!
//! Knows queries and metrics; knows no session, no thread, no page.

mod families;

use std::sync::Arc;
use std::time::Duration;

use crate::config::discover::FoundDatabase;
use crate::config::query::Query;
use crate::driver::{Column, Flow, MAX_CELL_BYTES, Parameter, Row, RowSink};
use crate::error::{Error, Reason, Result};
use crate::exposition::block::{Block, BlockBuilder};
use crate::exposition::line::LabelBytes;
use crate::metric::column;
use crate::metric::labels::{BoundLabels, LabelLimit, Labels};
use crate::metric::samples::{Samples, Tally};
use crate::metric::{Emit, Metric};
use crate::name::LabelName;
use crate::plain_text::{self, counted};

use self::families::{BlockBuilders, FamilyWriter, MetricWriters};

pub use self::families::SizeHint;
pub use crate::metric::samples::SkippedValues;

/// A whole, good result. A failed query has none.
#[derive(Debug, Default)]
pub struct RenderedResult {
    /// One block a family, in the order of `metrics:`; a family without samples has none.
    pub blocks: Vec<Arc<Block>>,
    /// Rows read.
    pub rows: u64,
    /// Series written.
    pub series: u64,
    /// Values left out, per reason of `values_skipped_total`.
    pub skipped: SkippedValues,
    /// Its sizes, for the buffers of the next run.
    pub size_hint: SizeHint,
    /// The databases that it lists, for the query of `discover`; no other query has any.
    pub databases: Vec<FoundDatabase>,
}

/// Takes the result of a run. The duration is the one of `query_duration_seconds`.
pub type OnEnd<'q> = Box<dyn FnOnce(Result<RenderedResult, Error>, Duration) + Send + 'q>;

/// The labels that all samples of one target have, and the limits of labels and values: the same for all its queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleContext {
    labels: LabelBytes,
    limit: LabelLimit,
    /// A longer value fails its query.
    pub max_cell_bytes: usize,
}

impl SampleContext {
    /// `target_label` is `(label, name of the target)`, written first; the labels of its configuration follow, sorted by name
    /// whatever their order in the configuration, so that equal label sets are equal bytes on every target.
    pub fn new(
        target_label: Option<(&LabelName, &str)>,
        labels: &[(LabelName, String)],
        limit: LabelLimit,
    ) -> SampleContext {
        let mut labels: Vec<(&LabelName, &str)> =
            labels.iter().map(|(name, value)| (name, value.as_str())).collect();
        labels.sort_unstable();
        let mut bytes = LabelBytes::default();
        for (name, value) in target_label.into_iter().chain(labels) {
            bytes.push(name, value);
        }
        bytes.mark_gap();
        SampleContext { labels: bytes, limit, max_cell_bytes: MAX_CELL_BYTES }
    }

    /// True when the target has a label of this name.
    pub fn has_label(&self, name: &LabelName) -> bool {
        // In a value, a quote is escaped.
        let open = format!(",{name}=\"");
        self.labels.as_bytes().windows(open.len()).any(|bytes| bytes == open.as_bytes())
    }

    /// The labels of one value of a query's `foreach`.
    ///
    /// # Errors
    /// `limit` for a text that is too long.
    pub fn labels_of(&self, names: &[LabelName], value: &[Parameter]) -> Result<Vec<(LabelName, String)>> {
        let label = |(name, text): (&LabelName, &Parameter)| {
            let text = text.as_deref().unwrap_or_default();
            let LabelLimit { bytes, truncate } = self.limit;
            if text.len() > bytes && !truncate {
                let message = format!("label `{name}` has {} bytes, max_label_length is {bytes}", text.len());
                return Err(Error::new(Reason::Limit, message)
                    .with_hint("shorten it, raise the limit or set `labels_too_long: truncate`"));
            }
            Ok((name.clone(), plain_text::start(text, bytes).to_owned()))
        };
        names.iter().zip(value).map(label).collect()
    }
}

/// The sink for one run, or for one value of the query's `foreach`, whose `labels` all samples have. `size_hint`: the sizes of
/// an earlier result. `on_end` is called exactly once, from `RowSink::end`; not at all when the sink is dropped before its
/// `end` (a dead session: the run may be repeated with a fresh sink).
pub fn sink<'q>(
    query: &'q Query,
    context: &'q SampleContext,
    labels: &'q [(LabelName, String)],
    size_hint: SizeHint,
    on_end: OnEnd<'q>,
) -> Box<dyn RowSink + 'q> {
    let (on_end, state) = (Some(on_end), SinkState::Unbound);
    Box::new(QuerySink { query, context, labels, size_hint, on_end, state })
}

/// A run of one query, from its columns to its end.
struct QuerySink<'q> {
    query: &'q Query,
    context: &'q SampleContext,
    /// Of all its samples.
    labels: &'q [(LabelName, String)],
    size_hint: SizeHint,
    on_end: Option<OnEnd<'q>>,
    state: SinkState<'q>,
}

enum SinkState<'q> {
    Unbound,
    BoundQuery(Box<BoundQuery<'q>>),
    /// What failed; nothing of the result is kept.
    Failed(Error),
}

impl QuerySink<'_> {
    /// Drops what was made so far: a failed query shows nothing.
    fn fail(&mut self, error: Error) -> Error {
        self.state = SinkState::Failed(error.clone());
        error
    }
}

impl RowSink for QuerySink<'_> {
    fn columns(&mut self, columns: &[Column]) -> Result<()> {
        match BoundQuery::new(self.query, self.context, self.labels, &self.size_hint, columns) {
            Ok(bound) => {
                self.state = SinkState::BoundQuery(Box::new(bound));
                Ok(())
            }
            Err(error) => Err(self.fail(error.in_query(&self.query.name))),
        }
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        let taken = match &mut self.state {
            SinkState::BoundQuery(bound) => bound.row(row, self.query.max_rows),
            SinkState::Unbound => Err(Error::new(Reason::Protocol, "a row came before the columns")),
            SinkState::Failed(error) => return Err(error.clone()),
        };
        match taken {
            Ok(()) => Ok(Flow::Continue),
            Err(error) => Err(self.fail(error.in_query(&self.query.name))),
        }
    }

    fn end(&mut self, verdict: Result<()>, took: Duration) {
        let state = std::mem::replace(&mut self.state, SinkState::Unbound);
        let result = verdict.and_then(|()| match state {
            SinkState::BoundQuery(bound) => bound.end(),
            SinkState::Failed(error) => Err(error),
            SinkState::Unbound => Err(Error::new(Reason::Protocol, "the statement has no result")
                .with_hint("a query for metrics returns rows")),
        });
        if let Some(on_end) = self.on_end.take() {
            on_end(result.map_err(|error| error.in_query(&self.query.name)), took);
        }
    }
}

/// Bytes of the labels of a usual row.
const LABEL_BYTES: usize = 128;

/// The metrics of one query bound to the columns of its result, and what they have written.
struct BoundQuery<'q> {
    context: &'q SampleContext,
    /// Of all its samples.
    labels: &'q [(LabelName, String)],
    /// Each set of labels once, however many metrics have it.
    sets: Vec<LabelSet<'q>>,
    metrics: Vec<BoundMetric<'q>>,
    builders: BlockBuilders,
    tally: Tally,
    rows: u64,
    scratch: String,
}

struct LabelSet<'q> {
    labels: &'q Labels,
    bound: BoundLabels<'q>,
    /// What is known of the row at hand.
    state: RowLabels,
    /// Of the row at hand, once they are written.
    bytes: LabelBytes,
}

/// The labels of one row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowLabels {
    Unread,
    /// The row does not match a pattern: metrics with these labels leave it out.
    Missing,
    Found,
    Written,
}

impl LabelSet<'_> {
    /// False when the row does not match the pattern of a label. A row is searched once for all metrics with these
    /// labels.
    fn find(&mut self, row: &dyn Row, scratch: &mut String) -> Result<bool> {
        if self.state == RowLabels::Unread {
            self.state = if self.bound.find(row, scratch)? { RowLabels::Found } else { RowLabels::Missing };
        }
        Ok(self.state != RowLabels::Missing)
    }

    /// The labels of a row that [`LabelSet::find`] let pass, behind those of the target.
    fn write(&mut self, row: &dyn Row, context: &SampleContext, scratch: &mut String) -> Result<&LabelBytes> {
        if self.state != RowLabels::Written {
            self.bytes.clone_from(&context.labels);
            self.bound.write(row, context.limit, scratch, &mut self.bytes)?;
            self.state = RowLabels::Written;
        }
        Ok(&self.bytes)
    }
}

struct BoundMetric<'q> {
    metric: &'q Metric,
    writers: MetricWriters<'q>,
    /// Position in `sets`.
    set: usize,
    /// The column of explicit timestamps.
    timestamp: Option<column::BoundColumn>,
}

impl<'q> BoundQuery<'q> {
    fn new(
        query: &'q Query,
        context: &'q SampleContext,
        labels: &'q [(LabelName, String)],
        size_hint: &SizeHint,
        columns: &[Column],
    ) -> Result<BoundQuery<'q>> {
        let tally = Tally { series: 0, max_series: query.max_series, skipped: SkippedValues::default() };
        let count = query.metrics.len();
        let (sets, metrics) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let builders = BlockBuilders::new(query.max_families, count, size_hint);
        let mut bound =
            BoundQuery { context, labels, sets, metrics, builders, tally, rows: 0, scratch: String::new() };
        for metric in query.metrics.iter() {
            bound.add(metric, columns)?;
        }
        Ok(bound)
    }

    fn add(&mut self, metric: &'q Metric, columns: &[Column]) -> Result<()> {
        let labels = &metric.labels;
        let set = match self.sets.iter().position(|set| set.labels == labels) {
            Some(set) => set,
            None => {
                let bytes = LabelBytes::with_capacity(LABEL_BYTES);
                let (bound, state) = (labels.bind(columns, self.labels)?, RowLabels::Unread);
                self.sets.push(LabelSet { labels, bound, state, bytes });
                self.sets.len() - 1
            }
        };
        let writers = MetricWriters::new(metric, columns, &mut self.builders)?;
        let column = metric.timestamp_column.as_ref();
        let timestamp = column.map(|name| column::BoundColumn::new(columns, name)).transpose()?;
        self.metrics.push(BoundMetric { metric, writers, set, timestamp });
        Ok(())
    }

    fn row(&mut self, row: &dyn Row, max_rows: u64) -> Result<()> {
        self.rows += 1;
        if self.rows > max_rows {
            let message = format!("more than {} (max_rows)", counted(max_rows, "row", "rows"));
            return Err(
                Error::new(Reason::Limit, message).with_hint("group or filter in the SQL, or raise max_rows")
            );
        }
        let BoundQuery { context, sets, metrics, builders, tally, scratch, .. } = self;
        sets.iter_mut().for_each(|set| set.state = RowLabels::Unread);
        for BoundMetric { metric, writers, set, timestamp } in metrics {
            let Some(set) = sets.get_mut(*set) else { continue };
            // A row that does not match is left out before anything else of it is read.
            if !(writers.find(row)? && set.find(row, scratch)?) {
                continue;
            }
            let labels = set.write(row, context, scratch)?;
            let FamilyWriter { emit, builder, sums } = writers.of_row(row, builders, context.limit.bytes)?;
            let Some(builder) = builders.all.get_mut(*builder) else { continue };
            let timestamp = timestamp.as_ref().map(|column| column.moment(row)).transpose()?;
            let (duplicates, sums) = (metric.duplicates, sums.as_mut());
            emit.row(row, labels, &mut Samples { builder, tally, duplicates, sums, timestamp })?;
            writers.settle(builders)?;
        }
        Ok(())
    }

    /// Calls `call` for each metric in each of its families, with the labels that need no row.
    fn each_writer(
        &mut self,
        mut call: impl FnMut(&Metric, &mut dyn Emit, &LabelBytes, &mut Samples<'_>) -> Result<()>,
    ) -> Result<()> {
        let BoundQuery { sets, metrics, builders, tally, .. } = self;
        for BoundMetric { metric, writers, set, .. } in metrics {
            let Some(set) = sets.get(*set) else { continue };
            writers.each(|FamilyWriter { emit, builder, sums }| {
                let Some(builder) = builders.all.get_mut(*builder) else { return Ok(()) };
                let (duplicates, sums) = (metric.duplicates, sums.as_mut());
                let mut samples = Samples { builder, tally, duplicates, sums, timestamp: None };
                call(metric, &mut **emit, &set.bytes, &mut samples)
            })?;
        }
        Ok(())
    }

    fn end(mut self) -> Result<RenderedResult> {
        if self.rows == 0 {
            for set in &mut self.sets {
                set.bytes.clone_from(&self.context.labels);
                set.bound.write_fixed(&mut set.bytes);
            }
            self.each_writer(|metric, emit, labels, samples| match metric.empty {
                Some(value) => emit.empty(value, labels, samples),
                None => Ok(()),
            })?;
        }
        self.each_writer(|_, emit, _, samples| emit.end(samples))?;
        let BoundQuery { metrics, builders, .. } = &mut self;
        for BoundMetric { writers, .. } in metrics {
            writers.each(|FamilyWriter { builder, sums, .. }| {
                match (builders.all.get_mut(*builder), sums.take()) {
                    (Some(builder), Some(sums)) => sums.write(builder),
                    _ => Ok(()),
                }
            })?;
        }
        let builders = self.builders.all;
        let size_hint = SizeHint::of(&builders);
        let blocks = builders.into_iter().filter_map(BlockBuilder::finish).map(Arc::new).collect();
        Ok(RenderedResult {
            blocks,
            rows: self.rows,
            series: self.tally.series,
            skipped: self.tally.skipped,
            size_hint,
            databases: Vec::new(),
        })
    }
}
