//! The steps of a scrape and of a start by themselves: `cargo bench`, or `cargo bench -- rows` for one of them. The
//! whole of it against real servers is `make bench`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod loading;
mod rendering;
mod rows;

use std::path::{Path, PathBuf};

use criterion::{criterion_group, criterion_main};
use sql_exporter::config::{Config, load};
use sql_exporter::driver::Drivers;

criterion_group!(steps, rendering::bench, rows::bench, loading::bench);
criterion_main!(steps);

fn write(folder: &Path, yaml: &str) -> PathBuf {
    let path = folder.join("main.yaml");
    std::fs::write(&path, yaml).expect("the folder takes files");
    path
}

fn plan(path: &Path) -> Config {
    load(path, &|_| None, &Drivers::built_in()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// One target and its one query of 100,000 series.
fn one_query(entry: &str, sql: &str) -> String {
    format!(
        "databases: {{one: {entry}}}
queries:
  - name: series
    sql: \"{sql}\"
    max_rows: 10000000
    max_series: 10000000
    timeout: 1h
    metrics: [{{name: series, labels: [k1, k2], value_column: v}}]
"
    )
}
