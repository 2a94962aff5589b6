//! The integration tests: one binary, one module a subject. `tests/run` starts the servers they speak to.

mod checker;
mod exporter;
mod judges;
mod process;
mod servers;
mod web_client;

mod harness;
