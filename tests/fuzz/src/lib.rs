//! The fuzz targets, as `bins/` hands them to libfuzzer. What they do is in `targets/`, which the test suite compiles
//! too: there the corpora run as ordinary tests.

#[path = "../../suite"]
mod suite {
    #![allow(dead_code, reason = "the suite's own tests use the rest")]
    pub(crate) mod checker;
    pub(crate) mod table;
}
mod targets;

use suite::{checker, table};

/// Cells of any kind through metrics of any type to both formats.
pub fn cells(data: &[u8]) {
    targets::cells::run(data);
}

/// The headers that decide about format, coding and time.
pub fn headers(data: &[u8]) {
    targets::headers::run(data);
}

/// The configuration of another exporter.
pub fn import(data: &[u8]) {
    targets::import::run(data);
}

/// A configuration file.
pub fn plan(data: &[u8]) {
    targets::plan::run(data);
}

/// What a MySQL server says.
pub fn mysql(data: &[u8]) {
    targets::mysql::run(data);
}

/// Request heads as they come from the network.
pub fn head(data: &[u8]) {
    targets::head::run(data);
}

/// The bytes of a PostgreSQL server.
pub fn pg_messages(data: &[u8]) {
    targets::pg_messages::run(data);
}

/// A web-config file.
pub fn web_config(data: &[u8]) {
    targets::web_config::run(data);
}
