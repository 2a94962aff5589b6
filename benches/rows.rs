//! A driver's rows: SQLite's, which needs no server, once thrown away and once rendered.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Column, Flow, Health, Job, Row, RowSink, Session};
use sql_exporter::error::Result;
use sql_exporter::plan::query::Query;
use sql_exporter::query::sink;

use crate::rendering::context;
use crate::{ONE_QUERY, plan, write};

const ROWS: u32 = 100_000;
const HOUR: Duration = Duration::from_secs(3600);

/// Reads every cell and keeps none.
struct Reads(u64);

impl RowSink for Reads {
    fn columns(&mut self, _: &[Column]) -> Result<()> {
        Ok(())
    }

    fn row(&mut self, row: &dyn Row) -> Result<Flow> {
        for column in 0..3 {
            std::hint::black_box(row.cell(column)?);
        }
        self.0 += 1;
        Ok(Flow::Continue)
    }

    fn end(&mut self, verdict: Result<()>, _: Duration) {
        verdict.expect("a good result");
        assert_eq!(self.0, u64::from(ROWS));
    }
}

fn run(session: &mut dyn Session, query: &Query, sink: &mut dyn RowSink) {
    let job = Job { sql: &query.sql, allowance: HOUR, sink };
    let health = session.run(&mut [job], Deadline::after(Instant::now(), HOUR));
    assert!(matches!(health, Health::Clean), "{health:?}");
}

fn fill(file: &std::path::Path) {
    let database = rusqlite::Connection::open(file).expect("a file");
    let rows = format!(
        "CREATE TABLE series (k1 text, k2 text, v real);
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {} )
         INSERT INTO series SELECT printf('host-%04d', i % 1000), printf('metric-%06d', i), i * 1.0009765625 FROM n",
        ROWS - 1
    );
    database.execute_batch(&rows).expect("rows");
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(&folder.path().join("rows.db"));
    let plan = plan(&write(folder.path(), ONE_QUERY));
    let target = &plan.targets[0];
    let endpoint = target.endpoint.as_ref().expect("SQLite is built in");
    let mut session = endpoint.connect(Deadline::after(Instant::now(), HOUR)).expect("a session");
    let context = context();
    let mut group = criterion.benchmark_group("rows");
    group.sample_size(30).throughput(Throughput::Elements(ROWS.into()));
    group.bench_function("sqlite, read", |bencher| {
        bencher.iter(|| run(&mut *session, &target.queries[0], &mut Reads(0)));
    });
    group.bench_function("sqlite, rendered", |bencher| {
        bencher.iter(|| {
            let mut good = false;
            let mut sink = sink(&target.queries[0], &context, Box::new(|end, _| good = end.is_ok()));
            run(&mut *session, &target.queries[0], &mut *sink);
            drop(sink);
            assert!(good);
        });
    });
}
