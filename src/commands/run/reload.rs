//! Reading the configuration again: parse, check, swap. Requests that come while one is under way share the next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::commands::settings::process_environment;
use crate::config::Config;
use crate::config::exporter::Exporter;
use crate::engine::targets::ReloadSummary;
use crate::error::Error;
use crate::plain_text::counted;
use crate::server::endpoints::Endpoints;

/// Loads the configuration as at the start.
pub type LoadConfig = dyn Fn() -> Result<Config, Vec<Error>> + Send + Sync;

/// The result of a reload, shared by all that waited for it.
type ReloadResult = Result<(), Arc<Vec<Error>>>;

/// Runs reloads one at a time.
pub struct Reloader {
    load: Box<LoadConfig>,
    /// How many have started.
    started: AtomicU64,
    /// Locked while a reload runs.
    last: Mutex<LastReload>,
}

struct LastReload {
    number: u64,
    result: ReloadResult,
}

impl Reloader {
    /// Loads by `load`.
    pub fn new(load: Box<LoadConfig>) -> Self {
        Reloader {
            load,
            started: AtomicU64::new(0),
            last: Mutex::new(LastReload { number: 0, result: Ok(()) }),
        }
    }

    /// Reads the configuration and swaps the targets. Blocks. A reload that began before the call does not count: it
    /// may have read the file before it changed.
    ///
    /// # Errors
    /// The errors of the new configuration. The old one stays.
    pub fn reload(&self, endpoints: &Endpoints) -> ReloadResult {
        let before = self.started.load(Ordering::Acquire);
        let mut last = self.last.lock();
        if last.number > before {
            return last.result.clone();
        }
        let number = self.started.fetch_add(1, Ordering::AcqRel) + 1;
        // A panic is a failed reload: the thread that serves SIGHUP goes on, and the metric says so.
        let load = AssertUnwindSafe(|| (self.load)().and_then(|config| swap(endpoints, config)));
        let result = catch_unwind(load).unwrap_or_else(|_| Err(vec![unfinished()])).map_err(Arc::new);
        endpoints.telemetry().reloaded(result.is_ok());
        if let Err(errors) = &result {
            errors.iter().for_each(|error| log::error!("{}", error.headline()));
            log::error!("the configuration was not reloaded: the old one stays");
        }
        *last = LastReload { number, result: result.clone() };
        result
    }
}

fn unfinished() -> Error {
    Error::machine("a bug in sql-exporter, please report it: reading the configuration did not end")
}

fn swap(endpoints: &Endpoints, mut config: Config) -> Result<(), Vec<Error>> {
    let renewed = endpoints.change(|old| {
        keep_what_cannot_change(&old.exporter, &mut config.exporter);
        match old.hand_over(config, &process_environment) {
            Ok(config) => {
                crate::commands::log_warnings(&config);
                crate::logging::set_level(config.exporter.log_level);
                let (targets, summary) = old.renew(config);
                (Some(targets), Ok(summary))
            }
            Err(faults) => (None, Err(faults)),
        }
    });
    let ReloadSummary { unchanged, changed, started, ended } = renewed?;
    let unchanged = counted(unchanged, "target", "targets");
    log::info!(
        "configuration reloaded: {unchanged} unchanged, {changed} changed, {started} started, {ended} ended"
    );
    Ok(())
}

/// Keeps the settings that are read at the start only; a change of one is logged.
fn keep_what_cannot_change(old: &Exporter, new: &mut Exporter) {
    keep("listen", &old.listen, &mut new.listen);
    if old.http.follows_targets && new.http.follows_targets {
        new.http.max_connections = old.http.max_connections;
    }
    keep("http", &old.http, &mut new.http);
    keep("log_format", &old.log_format, &mut new.log_format);
    keep("web_config_file", &old.web_config_file, &mut new.web_config_file);
    keep("route_prefix", &old.route_prefix, &mut new.route_prefix);
}

fn keep<T: PartialEq + Clone>(key: &str, old: &T, new: &mut T) {
    if old != new {
        log::warn!("exporter.{key} has changed, which needs a restart; the old value holds");
        new.clone_from(old);
    }
}
