//! What may be said about a query without touching its SQL: by the entry, its file, `defaults` and `overrides`.
//!
//! Owns the seven keys and their defaults. A new one that all four places share is added here.

use std::time::Duration;

use crate::yaml::keys::Keys;

/// The keys as far as they were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// `enabled`
    enabled: Option<bool>,
    /// `interval`
    interval: Option<Duration>,
    /// `timeout`
    timeout: Option<Duration>,
    /// `keep_last`
    keep_last: Option<Duration>,
    /// `max_rows`
    max_rows: Option<u64>,
    /// `max_series`
    max_series: Option<u64>,
    /// `max_families`
    max_families: Option<u64>,
}

/// Rows of one result without `max_rows`.
const MAX_ROWS: u64 = 100_000;
/// Series of one query without `max_series`.
const MAX_SERIES: u64 = 20_000;
/// Families of one query without `max_families`.
const MAX_FAMILIES: u64 = 2000;

impl Settings {
    /// Takes all keys.
    pub(super) fn read(keys: &mut Keys<'_>) -> Settings {
        let keep_last = keys.duration("keep_last");
        let enabled = keys.flag("enabled");
        let Settings { interval, timeout, .. } = Settings::read_times(keys);
        let (max_rows, max_series) = (bound(keys, "max_rows"), bound(keys, "max_series"));
        let max_families = bound(keys, "max_families");
        Settings { enabled, interval, timeout, keep_last, max_rows, max_series, max_families }
    }

    /// Takes `interval` and `timeout`: what an included file says for all its queries.
    pub(super) fn read_times(keys: &mut Keys<'_>) -> Settings {
        let timeout = keys.duration("timeout");
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            let message = "a timeout of 0 would stop the query before it starts";
            keys.fault_with_hint("timeout", message, "leave it out: the scrape's own deadline always holds");
        }
        Settings { interval: keys.duration("interval"), timeout, ..Settings::default() }
    }

    /// These settings, and where they say nothing, `behind`.
    pub(super) fn or(self, behind: Settings) -> Settings {
        Settings {
            enabled: self.enabled.or(behind.enabled),
            interval: self.interval.or(behind.interval),
            timeout: self.timeout.or(behind.timeout),
            keep_last: self.keep_last.or(behind.keep_last),
            max_rows: self.max_rows.or(behind.max_rows),
            max_series: self.max_series.or(behind.max_series),
            max_families: self.max_families.or(behind.max_families),
        }
    }

    /// Whether the query runs: it does unless said otherwise.
    pub(super) fn enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    /// How long a good result is reused; zero = not at all.
    pub(super) fn interval(&self) -> Duration {
        self.interval.unwrap_or_default()
    }

    /// The bound inside the scrape's own deadline.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// How old a result may be that stands in after a failure; zero = none does.
    pub(super) fn keep_last(&self) -> Duration {
        self.keep_last.unwrap_or_default()
    }

    /// Rows beyond which the query fails.
    pub(super) fn max_rows(&self) -> u64 {
        self.max_rows.unwrap_or(MAX_ROWS)
    }

    /// Series beyond which the query fails.
    pub(super) fn max_series(&self) -> u64 {
        self.max_series.unwrap_or(MAX_SERIES)
    }

    /// Families beyond which the query fails.
    pub(super) fn max_families(&self) -> usize {
        self.max_families.unwrap_or(MAX_FAMILIES).try_into().unwrap_or(usize::MAX)
    }
}

fn bound(keys: &mut Keys<'_>, key: &'static str) -> Option<u64> {
    let bound = keys.number(key, "a whole number of at least 1")?;
    if bound == 0 {
        keys.fault(key, "0 would fail every query: write a whole number of at least 1");
    }
    Some(bound)
}
