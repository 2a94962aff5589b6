//! A configuration from its file to a plan.

use std::fmt::Write;

use criterion::{Criterion, Throughput};

use crate::{plan, write};

const QUERIES: u32 = 1000;

fn yaml() -> String {
    let mut yaml = "databases: {one: {driver: sqlite, database: rows.db}}\nqueries:\n".to_owned();
    for number in 0..QUERIES {
        write!(
            yaml,
            "  - name: q{number}
    sql: |
      SELECT region, status, count(*) AS orders, sum(amount) AS revenue
      FROM orders WHERE shard = {number}
      GROUP BY region, status
    timeout: 2s
    metrics:
      - {{name: orders_{number}, help: Orders., labels: [region, status], value_column: orders}}
      - {{name: revenue_{number}_total, help: Revenue., type: counter, labels: [region, status], value_column: revenue}}
"
        )
        .expect("a string takes everything");
    }
    yaml
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = write(folder.path(), &yaml());
    let mut group = criterion.benchmark_group("loading");
    group.sample_size(20).throughput(Throughput::Elements(QUERIES.into()));
    group.bench_function("1,000 queries", |bencher| bencher.iter(|| plan(&path)));
}
