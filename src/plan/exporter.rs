//! The section `exporter:`, cooked.

use std::time::Duration;

use crate::http::{Limits, Listen};

/// How `/metrics` and its neighbours are served, and the bounds of one scrape.
#[derive(Debug, Clone)]
pub struct Exporter {
    /// Addresses to listen on.
    pub listen: Vec<Listen>,
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub log_level: log::LevelFilter,
    /// One line of text, or one JSON object a line.
    pub log_format: LogFormat,
    /// The deadline of a scrape without the header.
    pub scrape_timeout: Duration,
    /// No scrape may take longer, whatever the header says.
    pub max_scrape_timeout: Option<Duration>,
    /// Taken off the header's time for the way back.
    pub scrape_timeout_offset: Duration,
    /// Threads that run queries, over all targets.
    pub max_workers: usize,
    /// The front door's limits.
    pub http: Limits,
    /// More series on one page are dropped, query by query from the end.
    pub max_series: u64,
    /// More bytes on one page likewise.
    pub max_page_bytes: u64,
    /// Longer label values (in bytes) are an error, or cut.
    pub max_label_length: usize,
    /// Which of the two.
    pub labels_too_long: LabelsTooLong,
    /// The label that names the target on user series; empty = none.
    pub target_label: String,
    /// Whether rows of healthy queries are shown.
    pub query_metrics: QueryMetrics,
    /// Whether `/` is served.
    pub enable_pages: Pages,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// What a label value beyond `max_label_length` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelsTooLong {
    /// Fails the query.
    #[default]
    Error,
    /// Is cut at a character's border.
    Truncate,
}

/// Which `query_*` rows a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueryMetrics {
    /// All.
    #[default]
    Full,
    /// Those of failing queries.
    Failing,
}

/// Who may see `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// Everybody.
    #[default]
    Everybody,
    /// Peers on this machine.
    Loopback,
    /// Nobody.
    Nobody,
}
