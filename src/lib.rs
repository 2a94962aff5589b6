//! sql-exporter: runs configured SQL at scrape time and answers with Prometheus text.
//!
//! Floors, lowest first: words (`error`, `secret`, `name`, `deadline`, `clock`, `float`,
//! `plain_text`, `file`, `stamp`, `cell`) · `exposition`, `yaml` ·
//! `telemetry`, `lint` · `driver`, `http` · `disposal`, `pool`, `workers`, `metric` · `plan` · `query`, `target` ·
//! `fleet`, `scrape` · `web`, `check` · `log`, `app`, `terminal`, `command`, `cli`. A module imports from lower floors only;
//! `tests/suite/floors.rs` holds that.

pub mod cell;
pub mod clock;
pub mod deadline;
pub mod error;
pub mod file;
pub mod float;
pub mod name;
pub mod plain_text;
pub mod secret;
pub mod stamp;

pub mod exposition;
pub mod yaml;

pub mod lint;
pub mod telemetry;

pub mod driver;
pub mod http;

pub mod disposal;
pub mod metric;
pub mod pool;
pub mod workers;

pub mod plan;

pub mod query;
pub mod target;

pub mod fleet;
pub mod scrape;

pub mod check;
pub mod web;

pub mod app;
pub mod cli;
pub mod command;
pub mod log;
pub mod terminal;

/// The version of this binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
