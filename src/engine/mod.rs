//! Databases at work: the targets of a configuration, their sessions and queues, the results that scrapes share, and one
//! scrape over all of them.
//!
//! Knows no HTTP and no command line. A reload builds new targets from a new configuration and hands unchanged ones on.

pub mod backoff;
pub mod conditions;
pub mod database_list;
pub mod discovery;
pub mod disposal;
pub(crate) mod execution;
pub mod foreach;
pub mod guarded_session;
pub mod lane;
pub mod pool;
pub mod query_sink;
pub mod question;
pub(crate) mod queue;
pub(crate) mod resources;
pub mod result_cache;
pub mod run;
pub mod scrape;
pub mod scrape_times;
pub(crate) mod session_bound;
pub(crate) mod session_opening;
pub(crate) mod sessions;
pub mod target;
pub mod targets;
pub(crate) mod value_batch;
pub mod workers;
