//! What the targets of one process have in common.

use std::sync::Arc;

use crate::disposal::Disposal;
use crate::pool::Scheduler;
use crate::telemetry::Telemetry;
use crate::workers::Workers;

/// What all targets share.
pub struct Shared {
    /// The threads that run queries.
    pub workers: Workers,
    /// Where sessions end.
    pub disposal: Disposal,
    /// The one thread of all pools.
    pub scheduler: Scheduler,
    /// Counters of the process's life.
    pub telemetry: Arc<Telemetry>,
}
