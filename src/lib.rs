//! sql-exporter: runs configured SQL at scrape time and answers with Prometheus text.
//!
//! What stands where, highest first; a module imports only from those below it (`tests/suite/layering.rs`):
//!
//! - [`cli`], [`commands`]: the command line, one command a file
//! - [`server`]: public sockets, the tiny_http behind them, the endpoints
//! - [`inspect`]: lints, query tests, `check --connect`, `try`
//! - [`engine`]: targets at work: pools, queues, cached results, one scrape
//! - [`config`]: YAML to a checked configuration
//! - [`metric`]: rows to samples
//! - [`driver`]: SQLite, PostgreSQL, MySQL and MariaDB
//! - [`exposition`], [`yaml`], [`telemetry`]: text formats, the strict reader, counters that live with the process
//! - [`value`], [`error`] and the other small modules that know none of the above

pub mod cli;
pub mod commands;

pub mod server;

pub mod inspect;

pub mod engine;

pub mod config;

pub mod metric;

pub mod driver;

pub mod exposition;
pub mod telemetry;
pub mod yaml;

pub mod clock;
pub mod deadline;
pub mod error;
pub mod file;
pub mod logging;
pub mod name;
pub mod pem;
pub mod plain_text;
pub mod secret;
pub mod value;

/// The version of this binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
