//! The integration tests: one binary, one module a subject. `tests/run` starts the servers they speak to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it must be, also outside its own function"
)]

/// The attribute `#[test]` that leaves a test out when it needs servers and there are none.
#[macro_use(test)]
extern crate test_that_may_need_servers;

mod checker;
mod exporter;
mod judges;
mod process;
mod proxy;
mod servers;
mod table;
mod web_client;

mod aliases;
mod allocations;
mod attack;
mod broken;
mod browser;
mod cases;
mod check;
mod command;
mod config;
mod conformance;
mod connect;
mod deadline;
mod deploy;
mod discovery;
mod disposal;
mod documents;
mod endpoints;
mod engine;
mod examples;
mod examples_prometheus;
mod fault;
mod foreach;
mod foreign_text;
mod formats;
mod front;
mod fuzz;
mod groups;
mod harness;
mod idle_timeout;
mod import;
mod import_compare;
mod init;
mod joins;
mod lanes;
mod layering;
mod limits;
mod lint;
mod load;
mod login;
mod logs;
mod matrix;
mod merge;
mod metrics;
mod mysql;
mod names;
mod no_threads;
mod objects;
mod outage;
mod own;
mod packs;
mod patterns;
mod pool;
mod postgres;
mod prometheus;
mod property;
mod recorder;
mod regression;
mod reload;
mod schema;
mod scrape;
mod sessions;
mod sharing;
mod shell;
mod signals;
mod sink;
mod site;
mod soak;
mod special_files;
mod sqlite;
mod statement;
mod status_page;
mod systemd;
mod target_files;
mod terms;
mod test_command;
mod tls_and_logins;
mod try_query;
mod turns;
mod types;
mod versions;
mod webconfig;
mod whole;
mod workers;
