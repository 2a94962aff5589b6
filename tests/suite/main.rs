//! The integration tests: one binary, one module a subject. `tests/run` starts the servers they speak to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it must be, also outside its own function"
)]

mod checker;
mod exporter;
mod judges;
mod process;
mod servers;
mod web_client;

mod broken;
mod config;
mod floors;
mod front;
mod harness;
mod disposal;
mod fault;
mod pool;
mod postgres;
mod examples;
mod prometheus;
mod recorder;
mod sqlite;
mod statement;
mod workers;
