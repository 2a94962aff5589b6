//! Results made by hand, and metrics read from a line of YAML: the way from a cell to a page without a database.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sql_exporter::config::query::Query;
use sql_exporter::driver::advice::Advice;
use sql_exporter::driver::{Column, ColumnContent, Flow, Row, RowSink, Sql};
use sql_exporter::engine::query_sink::{RenderedResult, SampleContext, SizeHint, sink};
use sql_exporter::error::{Error, Result};
use sql_exporter::exposition::Format;
use sql_exporter::exposition::openmetrics::OpenMetrics;
use sql_exporter::exposition::page::{Families, pieces};
use sql_exporter::exposition::text::Text;
use sql_exporter::metric::Metric;
use sql_exporter::metric::labels::LabelLimit;
use sql_exporter::value::Cell;
use sql_exporter::yaml::document::Document;
use sql_exporter::yaml::keys::{Keys, Reader};

/// A result: columns (all of type `any`) and rows.
pub(crate) struct Table<'t> {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell<'t>>>,
}

impl<'t> Table<'t> {
    pub(crate) fn new(columns: &[&str], rows: &[&[Cell<'t>]]) -> Self {
        Table { columns: self::columns(columns), rows: rows.iter().map(|row| row.to_vec()).collect() }
    }

    /// Hands everything to `sink`, as a session does.
    pub(crate) fn stream(&self, sink: &mut dyn RowSink) {
        let verdict = sink.columns(&self.columns).and_then(|()| {
            self.rows
                .iter()
                .try_for_each(|row| sink.row(&Cells(row)).map(|flow| assert_eq!(flow, Flow::Continue)))
        });
        sink.end(verdict, Duration::ZERO);
    }
}

/// Columns of type `any`.
pub(crate) fn columns(names: &[&str]) -> Vec<Column> {
    let column = |name: &&str| Column {
        name: (*name).into(),
        type_name: "any".into(),
        advice: Advice::Write("half({})"),
        quote: '"',
        content: ColumnContent::Unknown,
    };
    names.iter().map(column).collect()
}

/// One row.
pub(crate) struct Cells<'r, 't>(pub(crate) &'r [Cell<'t>]);

impl Row for Cells<'_, '_> {
    fn cell(&self, column: usize) -> Result<Cell<'_>> {
        Ok(self.0[column])
    }
}

/// The metrics of `metrics: [<yaml>]`, or the faults.
pub(crate) fn metrics(yaml: &str) -> Result<Vec<Metric>, Vec<String>> {
    let text = format!("metrics: [{yaml}]\n");
    let document =
        Document::parse("m.yaml", Path::new("."), text).map_err(|error| vec![error.to_string()])?;
    let reader = Reader::new(&|_| None);
    let mut keys = Keys::root(&document, &reader).expect("a mapping");
    let items = keys.items("metrics").expect("a list");
    let metrics: Vec<Option<Metric>> = items.into_iter().map(Metric::read).collect();
    keys.finish();
    let faults = reader.finish().faults;
    if faults.is_empty() {
        Ok(metrics.into_iter().map(|metric| metric.expect("no metric means a fault")).collect())
    } else {
        Err(faults
            .iter()
            .map(|fault| fault.to_string().lines().next().unwrap_or_default().to_owned())
            .collect())
    }
}

/// A query with these metrics and roomy limits.
pub(crate) fn query(yaml: &str) -> Query {
    Query {
        name: "q".into(),
        collector: "default".into(),
        sql: Arc::new(Sql::new("SELECT 1")),
        metrics: metrics(yaml).unwrap_or_else(|faults| panic!("{}", faults.join("\n"))).into(),
        max_rows: 1_000_000,
        max_series: 1_000_000,
        ..Query::default()
    }
}

/// No target labels, roomy limits.
pub(crate) fn bare() -> SampleContext {
    SampleContext::new(None, &[], LabelLimit { bytes: 100_000, truncate: false })
}

/// Runs `table` through a query.
pub(crate) fn render(query: &Query, context: &SampleContext, table: &Table<'_>) -> Result<RenderedResult> {
    let mut result = None;
    let mut sink =
        sink(query, context, &[], SizeHint::default(), Box::new(|rendered, _| result = Some(rendered)));
    table.stream(&mut *sink);
    drop(sink);
    result.expect("the end was told")
}

/// The page of one result, as text.
pub(crate) fn page(rendered: &RenderedResult) -> String {
    page_in(rendered, &Text)
}

/// The page of one result in OpenMetrics.
pub(crate) fn open_page(rendered: &RenderedResult) -> String {
    page_in(rendered, &OpenMetrics)
}

fn page_in(rendered: &RenderedResult, format: &dyn Format) -> String {
    let blocks = rendered.blocks.iter();
    let families: Families =
        blocks.map(|block| (Arc::clone(&block.family), vec![Arc::clone(block)])).collect();
    let bytes: Vec<u8> = pieces(&families, format).iter().flat_map(|piece| piece.as_ref().to_vec()).collect();
    String::from_utf8(bytes).expect("UTF-8")
}

/// The sample lines that metrics make of a table, without heads; or the error.
pub(crate) fn lines(yaml: &str, table: &Table<'_>) -> Result<String, Error> {
    let rendered = render(&query(yaml), &bare(), table)?;
    let page = page(&rendered);
    Ok(page.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect())
}
