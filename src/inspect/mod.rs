//! What people ask about a configuration: lints and tests of queries without a database; with its databases `test`
//! (`privileges`), `check --connect` (`describe`) and `try` (`try_query`).
//!
//! `runner` is the only part that talks to databases, `report` the form of findings and errors in JSON. How results look
//! as text is the commands' business.

pub mod describe;
pub mod discovery;
pub mod lint;
pub mod privileges;
pub mod query_tests;
mod replay;
pub mod report;
pub mod runner;
pub mod server_profile;
pub mod shared_families;
mod source_position;
pub mod sql_compare;
pub mod try_query;
