//! One `databases:` entry, cooked.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::Endpoint;
use crate::name::LabelName;

use super::query::Query;

/// One configured database with the queries that run on it.
pub struct Target {
    /// The key under `databases`, the value of the label `target`.
    pub name: String,
    /// The driver's label value: `postgres`, `pgbouncer`, `mysql`, `sqlite`.
    pub driver: &'static str,
    /// Makes sessions. `None` for a known driver that is not built in (then no enabled query needs the target).
    pub endpoint: Option<Arc<dyn Endpoint>>,
    /// False: nothing runs, nothing is shown but that it is disabled.
    pub enabled: bool,
    /// Constant labels on every sample of this target and on its `target_*` and `query_*` rows.
    pub labels: Vec<(LabelName, String)>,
    /// Lanes: sessions at once.
    pub max_connections: u32,
    /// The longest a connect and login may take.
    pub connect_timeout: Duration,
    /// An idle session is closed after this.
    pub idle_timeout: Duration,
    /// A session is closed after this, ± 10 %.
    pub max_lifetime: Duration,
    /// Its queries in configuration order, `overrides` applied.
    pub queries: Vec<Arc<Query>>,
}
