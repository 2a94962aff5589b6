//! Each driver's rows, once thrown away and once rendered. PostgreSQL and MariaDB are those that `tests/run` starts:
//! `tests/run cargo bench -- rows`; without them there is SQLite alone.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use sql_exporter::config::query::Query;
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Column, Flow, Health, Job, Row, RowSink, Session};
use sql_exporter::engine::query_sink::{SizeHint, sink};
use sql_exporter::error::Result;

use crate::rendering::context;
use crate::{one_query, plan, write};

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
    let job = Job {
        sql: &query.sql,
        parameters: &[],
        allowance: HOUR,
        max_cell_bytes: sql_exporter::driver::MAX_CELL_BYTES,
        sink,
    };
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

/// The name of a driver, its entry under `databases:`, and the SQL that gives the rows.
type Source = (&'static str, String, &'static str);

fn sources() -> Vec<Source> {
    let mut sources =
        vec![("sqlite", "{driver: sqlite, database: rows.db}".to_owned(), "SELECT k1, k2, v FROM series")];
    let server = |name: &'static str, driver: &str, database: &str, user: &str, sql| {
        let port = std::env::var(format!("TEST_{name}_PORT")).ok()?;
        let password = std::env::var(format!("TEST_{name}_PASSWORD")).ok()?;
        let entry = format!(
            "{{driver: {driver}, host: 127.0.0.1, port: {port}, database: {database}, username: {user}, \
             password: {password}, tls: {{mode: disable}}}}"
        );
        Some((name, entry, sql))
    };
    sources.extend(server(
        "POSTGRES",
        "postgres",
        "postgres",
        "postgres",
        "SELECT 'host-' || i % 1000 AS k1, 'metric-' || i AS k2, i * 1.0009765625::float8 AS v FROM generate_series(0, 99999) AS i",
    ));
    sources.extend(server(
        "MARIADB",
        "mysql",
        "mysql",
        "root",
        "SELECT concat('host-', seq % 1000) AS k1, concat('metric-', seq) AS k2, seq * 1.0009765625e0 AS v FROM seq_0_to_99999",
    ));
    sources
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(&folder.path().join("rows.db"));
    let mut group = criterion.benchmark_group("rows");
    group.sample_size(30).throughput(Throughput::Elements(ROWS.into()));
    for (name, entry, sql) in sources() {
        let plan = plan(&write(folder.path(), &one_query(&entry, sql)));
        let target = &plan.targets[0];
        let endpoint = target.endpoint.as_ref().expect("the driver is built in");
        let mut session = endpoint.connect(Deadline::after(Instant::now(), HOUR)).expect("a session");
        let context = context();
        group.bench_function(format!("{name}, read"), |bencher| {
            bencher.iter(|| run(&mut *session, &target.queries[0], &mut Reads(0)));
        });
        group.bench_function(format!("{name}, rendered"), |bencher| {
            bencher.iter(|| {
                let mut good = false;
                let mut sink = sink(
                    &target.queries[0],
                    &context,
                    &[],
                    SizeHint::default(),
                    Box::new(|end, _| good = end.is_ok()),
                );
                run(&mut *session, &target.queries[0], &mut *sink);
                drop(sink);
                assert!(good);
            });
        });
    }
}
