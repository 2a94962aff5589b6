//! `foreach`: the values of one run, and what became of each. A value that fails costs its own series only.
//!
//! Reads the values of `foreach.sql`, and puts the results of all values together, within the limits of the query. Knows
//! no session and no retry rule: `lane` and `try` run the statements.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::query_sink::{RenderedResult, SampleContext};
use super::run::{RunEnd, is_server_answer};
use crate::config::foreach::ForeachValues;
use crate::config::query::Query;
use crate::deadline::Deadline;
use crate::driver::answer::AnswerSink;
use crate::driver::{Column, Flow, Parameter, Row};
use crate::error::{Error, Reason, Result};
use crate::exposition::Family;
use crate::exposition::block::Block;
use crate::metric::labels::reserved_label;
use crate::name::{LabelName, MetricName};
use crate::value::Cell;

/// Values that an error names.
const MAX_NAMED: usize = 3;

/// The values of one run, each with its result.
pub struct ForeachRun {
    values: Arc<ForeachValues>,
    /// The labels of each value.
    labels: Vec<Vec<(LabelName, String)>>,
    /// When all values must have ended.
    pub by: Deadline,
    /// Sessions that died under it. From then on, each value goes alone.
    pub lost_sessions: usize,
    /// Locked, as a value ends while others are lent to a session.
    progress: Mutex<ForeachProgress>,
}

/// What became of the values so far.
#[derive(Default)]
struct ForeachProgress {
    /// `None` for a value that has not ended.
    results: Vec<Option<Result<RenderedResult>>>,
    /// How long those that ended took.
    took: Duration,
    /// The server has answered.
    is_reached: bool,
    totals: Totals,
}

/// What the values have made so far, of what the query limits.
#[derive(Default)]
struct Totals {
    rows: u64,
    series: u64,
    families: HashMap<MetricName, Arc<Family>>,
}

impl ForeachRun {
    /// Nothing has run yet. A value whose labels are another's, or too long, has failed.
    pub fn new(values: Arc<ForeachValues>, context: &SampleContext, by: Deadline) -> Self {
        let (mut labels, mut results, mut known) = (Vec::new(), Vec::new(), HashSet::new());
        for value in &values.values {
            let own = context.labels_of(&values.labels, value).and_then(|own| {
                let message = "another value has the same labels";
                let is_new = known.insert(own.clone());
                if is_new { Ok(own) } else { Err(Error::new(Reason::Duplicate, message)) }
            });
            results.push(own.as_ref().err().cloned().map(Err));
            labels.push(own.unwrap_or_default());
        }
        let progress = Mutex::new(ForeachProgress { results, ..ForeachProgress::default() });
        ForeachRun { values, labels, by, lost_sessions: 0, progress }
    }

    /// The values that have not ended.
    pub fn left(&self) -> Vec<usize> {
        let results = &self.progress.lock().results;
        (0..results.len()).filter(|index| results[*index].is_none()).collect()
    }

    /// What a value binds.
    pub fn parameters(&self, index: usize) -> &[Parameter] {
        &self.values.values[index]
    }

    /// The labels of a value.
    pub fn labels(&self, index: usize) -> &[(LabelName, String)] {
        &self.labels[index]
    }

    /// How long the values that ended took.
    pub fn took(&self) -> Duration {
        self.progress.lock().took
    }

    /// True once the server has answered.
    pub fn is_reached(&self) -> bool {
        self.progress.lock().is_reached
    }

    /// A value has ended. One that is beyond the limits of its query fails, and what it made is dropped at once.
    pub fn end_value(&self, query: &Query, index: usize, result: Result<RenderedResult>, took: Duration) {
        let mut progress = self.progress.lock();
        progress.took += took;
        progress.is_reached |= result.as_ref().err().is_none_or(is_server_answer);
        let result = result.and_then(|rendered| progress.totals.add(query, &rendered).map(|()| rendered));
        progress.results[index] = Some(result);
    }

    /// The values that have not ended fail.
    pub fn fail_rest(&self, error: &Error) {
        self.progress.lock().results.iter_mut().for_each(|result| {
            result.get_or_insert_with(|| Err(error.clone()));
        });
    }

    /// The end of the run: all values have ended.
    pub fn end(self, query: &Query) -> RunEnd {
        let (mut good, mut failed) = (Vec::new(), Vec::new());
        for (value, result) in self.values.values.iter().zip(self.progress.into_inner().results) {
            match result {
                Some(Ok(rendered)) => good.push(rendered),
                Some(Err(error)) => failed.push((value, error)),
                None => {}
            }
        }
        let is_all = good.is_empty() && !failed.is_empty();
        let rendered = Arc::new(joined(query, good));
        match error(&self.values, &failed) {
            None => RunEnd::Good(rendered),
            Some(error) if is_all => RunEnd::of_error(Some(query), error),
            Some(error) => RunEnd::Partial(rendered, error),
        }
    }
}

impl Totals {
    fn add(&mut self, query: &Query, rendered: &RenderedResult) -> Result<()> {
        let limit = |what: &str, most: u64| {
            let message = format!("with this value, the query has more than {most} {what}");
            Err(Error::new(Reason::Limit, message).with_hint("the limit holds for all values together"))
        };
        let (rows, series) = (self.rows + rendered.rows, self.series + rendered.series);
        if rows > query.max_rows {
            return limit("rows (max_rows)", query.max_rows);
        }
        if series > query.max_series {
            return limit("series (max_series)", query.max_series);
        }
        let families = rendered.blocks.iter().map(|block| &block.family);
        if let Some(family) = families.clone().find(|family| self.clashes(family)) {
            let message = format!("another value makes the metric {} with another type or help", family.name);
            return Err(Error::new(Reason::Duplicate, message));
        }
        let is_fixed = |name: &MetricName| {
            query.metrics.iter().any(|metric| metric.naming.fixed().is_some_and(|fixed| fixed.name == *name))
        };
        let new = families.filter(|family| !self.families.contains_key(&family.name));
        let new: Vec<Arc<Family>> = new.filter(|family| !is_fixed(&family.name)).cloned().collect();
        if self.families.len() + new.len() > query.max_families {
            return limit("metric names (max_families)", query.max_families as u64);
        }
        self.families.extend(new.into_iter().map(|family| (family.name.clone(), family)));
        (self.rows, self.series) = (rows, series);
        Ok(())
    }

    fn clashes(&self, family: &Arc<Family>) -> bool {
        self.families.get(&family.name).is_some_and(|known| known != family)
    }
}

/// One result of several, with one block a family, in the order of the query's metrics.
fn joined(query: &Query, results: Vec<RenderedResult>) -> RenderedResult {
    let mut all = RenderedResult::default();
    let mut blocks: Vec<Block> = Vec::new();
    let mut places: HashMap<MetricName, usize> = HashMap::new();
    for result in results {
        all.rows += result.rows;
        all.series += result.series;
        all.skipped.null += result.skipped.null;
        all.skipped.invalid += result.skipped.invalid;
        all.skipped.duplicate += result.skipped.duplicate;
        for block in result.blocks {
            let place = *places.entry(block.family.name.clone()).or_insert_with(|| {
                blocks.push(Block::new(Arc::clone(&block.family)));
                blocks.len() - 1
            });
            blocks[place].append(&block);
        }
    }
    let place = |block: &Block| {
        let is_of = |family: &&Arc<Family>| family.name == block.family.name;
        query.metrics.iter().position(|metric| metric.naming.fixed().filter(is_of).is_some())
    };
    // Names that rows make come last, in the order first met.
    blocks.sort_by_cached_key(|block| place(block).unwrap_or(usize::MAX));
    all.blocks = blocks.into_iter().map(Arc::new).collect();
    all
}

/// The error of a run whose values have failed in part.
fn error(values: &ForeachValues, failed: &[(&Vec<Parameter>, Error)]) -> Option<Error> {
    let (_, first) = failed.first()?;
    let is_same = failed.iter().all(|(_, error)| error.message() == first.message());
    let named = failed.iter().take(MAX_NAMED).map(|(value, error)| match (values.named(value), is_same) {
        (name, true) => name,
        (name, false) => format!("{name}: {}", error.message()),
    });
    let mut texts: Vec<String> = named.collect();
    if failed.len() > MAX_NAMED {
        texts.push(format!("and {} more", failed.len() - MAX_NAMED));
    }
    let (count, all, texts) = (failed.len(), values.values.len(), texts.join("; "));
    let message = match is_same {
        true => format!("{count} of {all} values of foreach failed ({texts}): {}", first.message()),
        false => format!("{count} of {all} values of foreach failed: {texts}"),
    };
    Some(first.clone().with_message(message))
}

/// What the rows of `foreach.sql` are read with, and their values so far.
pub struct ValuesReader<'q> {
    query: &'q Query,
    context: &'q SampleContext,
    values: ForeachValues,
}

/// Takes the rows of `foreach.sql` as the values of a query.
pub fn values_sink<'q>(query: &'q Query, context: &'q SampleContext) -> AnswerSink<ValuesReader<'q>> {
    let reader = ValuesReader { query, context, values: ForeachValues::default() };
    AnswerSink::new("foreach.sql", reader, ValuesReader::columns, ValuesReader::row)
}

impl ValuesReader<'_> {
    /// What has come.
    pub fn into_values(self) -> Arc<ForeachValues> {
        Arc::new(self.values)
    }
}

/// The labels that the columns of `foreach.sql` become.
///
/// # Errors
/// `sql`, for a column that cannot be a label of the query's samples.
pub fn labels_of_columns(
    query: &Query,
    columns: &[Column],
    is_of_target: impl Fn(&LabelName) -> bool,
) -> Result<Vec<LabelName>> {
    let mut labels: Vec<LabelName> = Vec::new();
    for Column { name, .. } in columns {
        let refuse = |why: &str| {
            let message = format!("foreach.sql: the column `{name}` cannot be a label: {why}");
            Err(Error::new(Reason::Sql, message).with_hint("give it another name with AS"))
        };
        let label = match LabelName::new(name) {
            Ok(label) => label,
            Err(rule) => return refuse(&rule),
        };
        if let Some(why) = reserved_label(name) {
            return refuse(&format!("the name {why}"));
        }
        if labels.contains(&label) {
            return refuse("another column has the same name");
        }
        let owner = query.metrics.iter().find(|metric| metric.label_names.contains(&label));
        if let Some(metric) = owner {
            return refuse(&format!("metric {} has a label of this name", metric.naming.text()));
        }
        if is_of_target(&label) {
            return refuse("the target has a label of this name");
        }
        labels.push(label);
    }
    Ok(labels)
}

impl ValuesReader<'_> {
    fn columns(&mut self, columns: &[Column]) -> Result<()> {
        let labels = labels_of_columns(self.query, columns, |label| self.context.has_label(label))?;
        self.values = ForeachValues::new(labels);
        Ok(())
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        let mut scratch = String::new();
        let mut text = |column| {
            let cell = row.cell(column)?;
            if cell.is_not_text() {
                let name = self.values.labels.get(column).map_or("", LabelName::as_str);
                let message = format!(
                    "foreach.sql: the column `{name}` holds bytes that are not text, and values are bound as text"
                );
                return Err(Error::new(Reason::Value, message).with_hint(
                    "select HEX(…) and write UNHEX(?); on PostgreSQL encode(…, 'hex') and decode($1, 'hex')",
                ));
            }
            Ok((cell != Cell::Null).then(|| cell.label(&mut scratch).to_owned()))
        };
        let value = (0..self.values.labels.len()).map(&mut text).collect::<Result<_>>()?;
        self.values.add(value)?;
        Ok(Flow::Continue)
    }
}
