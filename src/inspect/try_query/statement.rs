//! A statement on an open session: `when`, the query plan, the rows, the samples that they make.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::column_mapping::mapping;
use super::proposal::propose;
use super::recording_sink::{OwnedValue, RecordedRows, RecordingSink};
use super::{ResultTable, TriedStatement, TryReport, TryRequest};
use crate::config;
use crate::config::foreach::Foreach;
use crate::config::query::Query;
use crate::deadline::Deadline;
use crate::driver::{MAX_CELL_BYTES, Parameter, RowSink, Sql};
use crate::engine::foreach::{ForeachRun, values_sink};
use crate::engine::query_sink::{self, RenderedResult, SampleContext, SizeHint};
use crate::engine::run::RunEnd;
use crate::engine::targets::sample_context;
use crate::error::{Error, Reason, Result};
use crate::exposition::page::{Families, pieces};
use crate::exposition::text::Text;
use crate::inspect::replay::replay;
use crate::inspect::runner::OpenSession;
use crate::metric::labels::LabelSource;
use crate::name::LabelName;

/// A query with more series gets a warning.
const MANY_SERIES: u64 = 1_000;

/// Runs it all; errors of the statement are in the report.
///
/// # Errors
/// The session is of no more use.
pub(super) fn run(request: &TryRequest<'_>, session: &mut OpenSession, report: &mut TryReport) -> Result<()> {
    let context = sample_context(&request.config.exporter, Some(request.target));
    let mut attempt = Attempt { request, session, report, context: &context };
    let mut values = None;
    if let Some(query) = request.query() {
        attempt.check_conditions(query)?;
        values = attempt.values(query).map_err(|error| error.in_query(&query.name))?;
    }
    let endpoint = request.target.endpoint.as_ref();
    let explain = endpoint.filter(|_| request.explain).and_then(|endpoint| endpoint.explain(request.sql()));
    if let Some(sql) = explain {
        let first = values.as_ref().and_then(|values| Some(values.parameters(*values.left().first()?)));
        attempt.explain(&sql, first.unwrap_or_default())?;
    }
    match (&request.statement, values) {
        // `foreach.sql` failed.
        (TriedStatement::Query(query), None) if query.foreach.is_some() => Ok(()),
        (TriedStatement::Query(query), values) => {
            attempt.run_query(query, values).map_err(|error| error.in_query(&query.name))
        }
        (TriedStatement::Sql(sql), _) => attempt.run_sql(sql),
    }
}

struct Attempt<'a> {
    request: &'a TryRequest<'a>,
    session: &'a mut OpenSession,
    report: &'a mut TryReport,
    context: &'a SampleContext,
}

impl Attempt<'_> {
    /// Notes why a scrape would leave the query out.
    fn check_conditions(&mut self, query: &Query) -> Result<()> {
        for (enabled, what) in [(self.request.target.enabled, "target"), (query.enabled, "query")] {
            if !enabled {
                self.report.skipped.push(format!("enabled: false on the {what}"));
            }
        }
        let Some(when) = query.when.as_deref() else { return Ok(()) };
        match self.session.unmet_condition(when) {
            Ok(unmet) => self.report.skipped.extend(unmet.map(|cause| cause.text().to_owned())),
            // A scrape fails with it; here the rows are shown all the same.
            Err(error) if self.session.is_usable() => {
                self.report.error = Some(error.in_query(&query.name));
            }
            Err(error) => return Err(error.in_query(&query.name)),
        }
        Ok(())
    }

    /// The values of a query's `foreach`, if it has one; `None` too where `foreach.sql` failed, which is noted.
    ///
    /// # Errors
    /// The session is of no more use.
    fn values(&mut self, query: &Query) -> Result<Option<ForeachRun>> {
        let by = Deadline::within(self.request.timeout.min(query.timeout.unwrap_or(Duration::MAX)));
        let begin = |values| ForeachRun::new(values, self.context, by);
        let sql = match query.foreach.as_deref() {
            None => return Ok(None),
            Some(Foreach::Values(values)) => return Ok(Some(begin(Arc::clone(values)))),
            Some(Foreach::Sql { sql, .. }) => sql,
        };
        let sink = values_sink(query, self.context);
        match self.session.ask(sql, Some(by.left()), self.context.max_cell_bytes, sink) {
            Ok(reader) => Ok(Some(begin(reader.into_values()))),
            Err(error) if !self.session.is_usable() => Err(error),
            Err(error) => {
                self.report.error.get_or_insert(error.in_query(&query.name));
                Ok(None)
            }
        }
    }

    /// Runs a query as a worker runs it: once, or for each of its values, one after the other.
    ///
    /// # Errors
    /// The session is of no more use, and no value says so.
    fn run_query(&mut self, query: &Query, values: Option<ForeachRun>) -> Result<()> {
        let start = Instant::now();
        let mut rows = RecordedRows::default();
        let (end, ended) = match values {
            None => {
                let mut end = None;
                let ended = self.in_snapshot(|attempt| {
                    let (result, ran) = attempt.run_value(query, &[], &[], query.timeout, &mut rows);
                    end = result.map(|(result, _)| RunEnd::of_result(query, result));
                    ran
                });
                (end, ended)
            }
            Some(values) => {
                let ended = self.in_snapshot(|attempt| {
                    values.left().into_iter().try_for_each(|index| {
                        let (labels, parameters) = (values.labels(index), values.parameters(index));
                        // That of all values together.
                        let timeout = Some(values.by.left());
                        let (result, ran) = attempt.run_value(query, labels, parameters, timeout, &mut rows);
                        if let Some((result, took)) = result {
                            values.end_value(query, index, result, took);
                        }
                        ran
                    })
                });
                if let Err(error) = ended {
                    values.fail_rest(&error);
                }
                (Some(values.end(query)), Ok(()))
            }
        };
        let failed = match &end {
            Some(RunEnd::Skipped(cause)) => {
                self.report.skipped.push("without_privilege: skip".to_owned());
                cause.lacks()
            }
            end => end.as_ref().and_then(RunEnd::error),
        };
        if let Some(error) = failed {
            // A failed `when.sql` comes first, and may have left no time.
            self.report.error.get_or_insert(error.clone().in_query(&query.name));
        }
        self.note_result(query, &rows, end.as_ref().and_then(RunEnd::rendered).map(|rendered| &**rendered));
        rows.note_times(start, &mut self.report.times);
        self.note_rows(rows);
        ended
    }

    /// Does `work` inside a snapshot, where the target has them.
    fn in_snapshot(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if !self.request.target.snapshot {
            return work(self);
        }
        self.session.snapshot(true)?;
        work(self)?;
        self.session.snapshot(false)
    }

    /// Runs a query once, with these labels on its samples and values for its parameters.
    fn run_value(
        &mut self,
        query: &Query,
        labels: &[(LabelName, String)],
        parameters: &[Parameter],
        timeout: Option<Duration>,
        rows: &mut RecordedRows,
    ) -> (Option<(Result<RenderedResult>, Duration)>, Result<()>) {
        let max_cell_bytes = self.context.max_cell_bytes;
        self.make_samples(query, labels, rows, |attempt, sink| {
            attempt.session.run(&query.sql, parameters, timeout, max_cell_bytes, sink)
        })
    }

    /// Notes the database's query plan. An error here comes again from the statement, with the right place.
    fn explain(&mut self, sql: &Sql, parameters: &[Parameter]) -> Result<()> {
        let mut rows = RecordedRows::default();
        let ended = {
            let mut sink = RecordingSink::new(None, usize::MAX, &[], &mut rows);
            self.session.run(sql, parameters, None, MAX_CELL_BYTES, &mut sink)
        };
        let failed = rows.verdict.take().and_then(Result::err);
        if failed.is_none() && ended.is_ok() {
            let columns = rows.result_columns();
            self.report.plan = Some(ResultTable { columns, rows: rows.rows });
        }
        ended.map_err(|lost| failed.unwrap_or(lost))
    }

    /// A statement without metrics: its rows, and what a proposed definition makes of them.
    fn run_sql(&mut self, sql: &Sql) -> Result<()> {
        let mut rows = RecordedRows::default();
        let start = Instant::now();
        let ended = {
            let mut sink = RecordingSink::new(None, self.request.rows, &[], &mut rows);
            self.session.run(sql, &[], None, self.context.max_cell_bytes, &mut sink)
        };
        rows.note_times(start, &mut self.report.times);
        self.report.times.render = None;
        match rows.verdict.take() {
            Some(Ok(())) if rows.columns.is_empty() => {
                let error = Error::new(Reason::Protocol, "the statement has no result");
                self.report.error = Some(error.with_hint("a query for metrics returns rows"));
            }
            Some(Ok(())) => self.propose(sql, &rows),
            Some(Err(error)) => self.report.error = Some(error),
            // The session died: `ended` says why.
            None => {}
        }
        self.note_rows(rows);
        ended
    }

    fn propose(&mut self, sql: &Sql, rows: &RecordedRows) {
        let TryRequest { config, target, .. } = self.request;
        let Some(yaml) = propose(config, target, sql, &rows.columns, &rows.kept) else { return };
        let query = match config::one_query(&format!("queries:\n{yaml}")) {
            Ok(query) => query,
            Err(errors) => {
                let why: Vec<String> = errors.iter().map(Error::headline).collect();
                self.report.warnings.push(format!("the proposal does not load: {}", why.join("; ")));
                return;
            }
        };
        self.report.proposal = Some(yaml);
        let mut replayed = RecordedRows::default();
        let (ended, ()) = self.make_samples(&query, &[], &mut replayed, |_, sink| {
            replay(&rows.columns, &rows.kept, OwnedValue::cell, sink);
        });
        let result = ended.map(|(result, _)| result).transpose();
        self.note_result(&query, &replayed, result.as_ref().ok().and_then(Option::as_ref));
        self.report.times.render = Some(replayed.render);
        if let Err(error) = result {
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            let warning = format!("the proposal fails on these rows: {}{hint}", error.message());
            self.report.warnings.push(warning);
        }
    }

    /// Sends the rows of `feed` through the production sink of a query, whose samples all have these labels, and keeps in
    /// `rows` what is to be shown of them. Without a result, the session died under them.
    fn make_samples<T>(
        &mut self,
        query: &Query,
        labels: &[(LabelName, String)],
        rows: &mut RecordedRows,
        feed: impl FnOnce(&mut Self, &mut dyn RowSink) -> T,
    ) -> (Option<(Result<RenderedResult>, Duration)>, T) {
        let columns: Vec<String> = label_columns(query).into_iter().map(|(_, column)| column).collect();
        let mut ended = None;
        let on_end = Box::new(|result, took| ended = Some((result, took)));
        let production = query_sink::sink(query, self.context, labels, SizeHint::default(), on_end);
        let mut sink = RecordingSink::new(Some(production), self.request.rows, &columns, rows);
        let fed = feed(self, &mut sink);
        drop(sink);
        (ended, fed)
    }

    /// Notes what becomes of the columns, and the samples.
    fn note_result(&mut self, query: &Query, rows: &RecordedRows, rendered: Option<&RenderedResult>) {
        if !rows.columns.is_empty() {
            let endpoint = self.request.target.endpoint.as_ref();
            let epoch = endpoint.and_then(|endpoint| endpoint.epoch_expression());
            self.report.mapping = mapping(query, &rows.columns, &rows.unzoned, epoch);
        }
        let Some(rendered) = rendered else { return };
        let labels = label_columns(query);
        let values = labels.iter().zip(&rows.values).map(|((label, _), values)| (label, values.len()));
        let most = values.max_by_key(|(_, count)| *count);
        self.report.warnings.extend(series_warning(rendered.series, query.max_series, most));
        self.report.note_samples(rendered);
    }

    fn note_rows(&mut self, rows: RecordedRows) {
        if !rows.columns.is_empty() {
            self.report.columns = Some(rows.result_columns());
            self.report.row_count = Some(rows.count);
            self.report.stopped = rows.stopped;
            self.report.rows = Some(rows.rows);
        }
    }
}

impl TryReport {
    fn note_samples(&mut self, rendered: &RenderedResult) {
        let &RenderedResult { ref blocks, series, skipped, .. } = rendered;
        let families: Families =
            blocks.iter().map(|block| (Arc::clone(&block.family), vec![Arc::clone(block)])).collect();
        let page: Vec<u8> =
            pieces(&families, &Text).iter().flat_map(|piece| piece.as_ref().to_vec()).collect();
        self.exposition = Some(String::from_utf8_lossy(&page).into_owned());
        self.series = Some(series);
        self.families = Some(families.len());
        self.values_skipped = Some(skipped);
    }
}

/// The labels that are whole texts of columns, each once, with the column.
fn label_columns(query: &Query) -> Vec<(String, String)> {
    let all = query.metrics.iter().flat_map(|metric| metric.labels.iter());
    let mut labels: Vec<(String, String)> = all
        .filter_map(|(name, origin)| match origin {
            LabelSource::Column(text) if !text.has_pattern() => Some((name.to_string(), text.column.clone())),
            _ => None,
        })
        .collect();
    labels.sort();
    labels.dedup();
    labels
}

fn series_warning(series: u64, max: u64, most_values: Option<(&String, usize)>) -> Option<String> {
    let is_near_max = series.saturating_mul(10) > max.saturating_mul(8);
    let mut text = match (series > MANY_SERIES, is_near_max) {
        (false, false) => return None,
        (_, true) => format!("{series} series, and max_series is {max}"),
        (true, false) => format!("{series} series from one query are many"),
    };
    if let Some((label, values)) = most_values {
        text += &format!(": label `{label}` has the most values, {values}");
    }
    Some(text)
}
