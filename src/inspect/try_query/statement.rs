//! A statement on an open session: `when`, the query plan, the rows, the samples that they make.

use std::sync::Arc;
use std::time::Instant;

use super::column_mapping::mapping;
use super::proposal::propose;
use super::recording_sink::{RecordedRows, RecordingSink, replay};
use super::{ResultTable, SkippedValueCounts, TriedStatement, TryReport, TryRequest};
use crate::config;
use crate::config::foreach::Foreach;
use crate::config::query::Query;
use crate::deadline::Deadline;
use crate::driver::{MAX_CELL_BYTES, Parameter, RowSink, Sql};
use crate::engine::foreach::{ForeachRun, ValuesSink};
use crate::engine::query_sink::{RenderedResult, SampleContext, sink, sink_of_value};
use crate::engine::targets::sample_context;
use crate::error::{Error, Reason, Result};
use crate::exposition::page::{Families, pieces};
use crate::exposition::text::Text;
use crate::inspect::runner::OpenSession;
use crate::metric::labels::LabelSource;

/// A query with more series gets a warning.
const MANY_SERIES: u64 = 1_000;

/// Runs it all; errors of the statement are in the report.
///
/// # Errors
/// The session is of no more use.
pub(super) fn run(request: &TryRequest<'_>, session: &mut OpenSession, report: &mut TryReport) -> Result<()> {
    let context = sample_context(&request.config.exporter, request.target);
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
        (TriedStatement::Query(query), Some(values)) => attempt.run_values(query, values),
        (TriedStatement::Query(query), None) if query.foreach.is_none() => {
            attempt.run_query(query).map_err(|error| error.in_query(&query.name))
        }
        (TriedStatement::Query(_), None) => Ok(()),
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
        let begin = |values| ForeachRun::new(values, self.context, Deadline::within(self.request.timeout));
        let sql = match query.foreach.as_deref() {
            None => return Ok(None),
            Some(Foreach::Values(values)) => return Ok(Some(begin(Arc::clone(values)))),
            Some(Foreach::Sql { sql, .. }) => sql,
        };
        let mut sink = ValuesSink::new(query, self.context);
        let ended = self.session.run(sql, query.timeout, self.context.max_cell_bytes, &mut sink);
        match sink.result() {
            Some(Ok(values)) => ended.map(|()| Some(begin(Arc::new(values)))),
            Some(Err(error)) => {
                self.report.error.get_or_insert(error.in_query(&query.name));
                ended.map(|()| None)
            }
            None => ended.map(|()| None),
        }
    }

    /// Runs a query for each of its values, one after the other.
    fn run_values(&mut self, query: &Query, values: ForeachRun) -> Result<()> {
        let start = Instant::now();
        let labels = label_columns(query);
        let columns: Vec<String> = labels.iter().map(|(_, column)| column.clone()).collect();
        let mut rows = RecordedRows::default();
        let is_snapshot = self.request.target.snapshot;
        let mut ended = if is_snapshot { self.session.snapshot(true) } else { Ok(()) };
        for index in values.left() {
            if ended.is_err() {
                break;
            }
            let mut result = None;
            {
                let on_end = Box::new(|rendered, took| result = Some((rendered, took)));
                let production = sink_of_value(query, self.context, values.labels(index), on_end);
                let mut sink = RecordingSink::new(Some(production), self.request.rows, &columns, &mut rows);
                let (parameters, most) = (values.parameters(index), self.context.max_cell_bytes);
                ended = self.session.run_bound(&query.sql, parameters, query.timeout, most, &mut sink);
            }
            if let Some((rendered, took)) = result {
                values.end_value(query, index, rendered, took);
            }
        }
        if is_snapshot && ended.is_ok() {
            ended = self.session.snapshot(false);
        }
        if let Err(error) = &ended {
            values.fail_rest(error);
        }
        let end = values.end(query);
        if let Some(error) = end.error() {
            self.report.error.get_or_insert(error.clone().in_query(&query.name));
        }
        self.note_result(query, &rows, &labels, end.rendered().map(|rendered| &**rendered));
        rows.note_times(start, &mut self.report.times);
        self.note_rows(rows);
        Ok(())
    }

    /// Notes the database's query plan. An error here comes again from the statement, with the right place.
    fn explain(&mut self, sql: &Sql, parameters: &[Parameter]) -> Result<()> {
        let mut rows = RecordedRows::default();
        let ended = {
            let mut sink = RecordingSink::new(None, usize::MAX, &[], &mut rows);
            self.session.run_bound(sql, parameters, None, MAX_CELL_BYTES, &mut sink)
        };
        let failed = rows.verdict.take().and_then(Result::err);
        if failed.is_none() && ended.is_ok() {
            let columns = rows.result_columns();
            self.report.plan = Some(ResultTable { columns, rows: rows.rows });
        }
        ended.map_err(|lost| failed.unwrap_or(lost))
    }

    fn run_query(&mut self, query: &Query) -> Result<()> {
        let max_cell_bytes = self.request.config.exporter.max_cell_bytes;
        let start = Instant::now();
        let (rows, result, ended) = self.make_samples(query, |attempt, sink| {
            // As a worker runs it.
            let is_snapshot = attempt.request.target.snapshot;
            if is_snapshot {
                attempt.session.snapshot(true)?;
            }
            attempt.session.run(&query.sql, query.timeout, max_cell_bytes, sink)?;
            if is_snapshot { attempt.session.snapshot(false) } else { Ok(()) }
        });
        if let Err(error) = result {
            if query.is_skipped_after(&error) {
                self.report.skipped.push("without_privilege: skip".to_owned());
            }
            // A failed `when.sql` comes first, and may have left no time.
            self.report.error.get_or_insert(error);
        }
        rows.note_times(start, &mut self.report.times);
        self.note_rows(rows);
        ended
    }

    /// A statement without metrics: its rows, and what a proposed definition makes of them.
    fn run_sql(&mut self, sql: &Sql) -> Result<()> {
        let mut rows = RecordedRows::default();
        let start = Instant::now();
        let ended = {
            let mut sink = RecordingSink::new(None, self.request.rows, &[], &mut rows);
            self.session.run(sql, None, self.request.config.exporter.max_cell_bytes, &mut sink)
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
        let (replayed, result, ()) =
            self.make_samples(&query, |_, sink| replay(&rows.columns, &rows.kept, sink));
        self.report.times.render = Some(replayed.render);
        if let Err(error) = result {
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            let warning = format!("the proposal fails on these rows: {}{hint}", error.message());
            self.report.warnings.push(warning);
        }
    }

    /// Sends the rows of `feed` through the production sink of a query, and notes what they make. The error is that of the
    /// rows; a session that dies under them leaves none.
    fn make_samples<T>(
        &mut self,
        query: &Query,
        feed: impl FnOnce(&mut Self, &mut dyn RowSink) -> T,
    ) -> (RecordedRows, Result<()>, T) {
        let labels = label_columns(query);
        let columns: Vec<String> = labels.iter().map(|(_, column)| column.clone()).collect();
        let (mut rows, mut rendered) = (RecordedRows::default(), None);
        let fed = {
            let production = sink(query, self.context, Box::new(|result, _| rendered = Some(result)));
            let mut recording = RecordingSink::new(Some(production), self.request.rows, &columns, &mut rows);
            feed(self, &mut recording)
        };
        let result = rendered.transpose();
        self.note_result(query, &rows, &labels, result.as_ref().ok().and_then(Option::as_ref));
        (rows, result.map(drop), fed)
    }

    /// Notes what becomes of the columns, and the samples.
    fn note_result(
        &mut self,
        query: &Query,
        rows: &RecordedRows,
        labels: &[(String, String)],
        rendered: Option<&RenderedResult>,
    ) {
        if !rows.columns.is_empty() {
            let endpoint = self.request.target.endpoint.as_ref();
            let epoch = endpoint.and_then(|endpoint| endpoint.epoch_expression());
            self.report.mapping = mapping(query, &rows.columns, &rows.unzoned, epoch);
        }
        let Some(rendered) = rendered else { return };
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
        let (null, invalid, duplicate) = (skipped.null, skipped.invalid, skipped.duplicate);
        self.values_skipped = Some(SkippedValueCounts { null, invalid, duplicate });
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
