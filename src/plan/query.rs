//! One `queries:` entry, cooked for one target.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::Sql;
use crate::metric::Metric;

/// One query as it runs on one target.
#[derive(Clone)]
pub struct Query {
    /// Unique in the whole configuration.
    pub name: Arc<str>,
    /// The group it belongs to; `default` for the main file's.
    pub collector: Arc<str>,
    /// What runs.
    pub sql: Arc<Sql>,
    /// What becomes of its rows.
    pub metrics: Arc<[Metric]>,
    /// False: a row `query_skipped{reason="disabled"}` and nothing else.
    pub enabled: bool,
    /// An upper bound inside the scrape's own deadline.
    pub timeout: Option<Duration>,
    /// A good result younger than 0.9 × this is reused; zero = fresh at every scrape.
    pub interval: Duration,
    /// More rows than this are an error.
    pub max_rows: u64,
    /// More series than this are an error.
    pub max_series: u64,
    /// Its place in the whole configuration: decides who loses on a duplicate, and the page's order.
    pub order: usize,
}
