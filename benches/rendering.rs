//! From rows in memory to the bytes of a page, with duplicate detection.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use sql_exporter::config::query::Query;
use sql_exporter::driver::advice::Advice;
use sql_exporter::driver::{Column, ColumnContent, Row};
use sql_exporter::engine::query_sink::{RenderedResult, SampleContext, SizeHint, sink};
use sql_exporter::error::Result;
use sql_exporter::exposition::page::{Families, pieces};
use sql_exporter::exposition::text::Text;
use sql_exporter::metric::labels::LabelLimit;
use sql_exporter::value::Cell;

use crate::{one_query, plan, write};

/// Two label columns and a number.
struct Line(String, String, f64);

impl Row for Line {
    fn cell(&self, column: usize) -> Result<Cell<'_>> {
        Ok(match column {
            0 => Cell::Text(&self.0),
            1 => Cell::Text(&self.1),
            _ => Cell::Float(self.2),
        })
    }
}

pub(crate) fn context() -> SampleContext {
    SampleContext::new(None, &[], LabelLimit { bytes: 1024, truncate: false })
}

fn columns() -> Vec<Column> {
    let column = |name: &str| Column {
        name: name.into(),
        type_name: "any".into(),
        advice: Advice::Label,
        quote: '"',
        content: ColumnContent::Unknown,
    };
    ["k1", "k2", "v"].map(column).into()
}

fn lines(count: u32) -> Vec<Line> {
    let line = |n: u32| {
        Line(format!("host-{:04}", n % 1000), format!("metric-{n:06}"), f64::from(n) * 1.000_976_562_5)
    };
    (0..count).map(line).collect()
}

fn render(query: &Query, context: &SampleContext, columns: &[Column], lines: &[Line]) -> RenderedResult {
    let mut result = None;
    let mut sink =
        sink(query, context, &[], SizeHint::default(), Box::new(|rendered, _| result = rendered.ok()));
    sink.columns(columns).expect("the columns are there");
    for line in lines {
        sink.row(line).expect("a good row");
    }
    sink.end(Ok(()), Duration::ZERO);
    drop(sink);
    result.expect("a good result")
}

fn page(rendered: &RenderedResult) -> usize {
    let blocks = rendered.blocks.iter();
    let families: Families =
        blocks.map(|block| (Arc::clone(&block.family), vec![Arc::clone(block)])).collect();
    pieces(&families, &Text).iter().map(|piece| piece.as_ref().len()).sum()
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = plan(&write(
        folder.path(),
        &one_query("{driver: sqlite, database: rows.db}", "SELECT k1, k2, v FROM series"),
    ));
    let (query, context, columns) = (&plan.targets[0].queries[0], context(), columns());
    let mut group = criterion.benchmark_group("rendering");
    group.sample_size(20);
    for count in [1_000, 10_000, 100_000, 1_000_000] {
        let lines = lines(count);
        group.throughput(Throughput::Elements(count.into()));
        group.bench_with_input(BenchmarkId::from_parameter(count), &lines, |bencher, lines| {
            bencher.iter(|| page(&render(query, &context, &columns, lines)));
        });
    }
}
