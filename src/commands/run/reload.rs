//! Reading the configuration again: parse, check, swap. Requests that come while one is under way share the next.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::config::Config;
use crate::config::exporter::Exporter;
use crate::engine::targets::ReloadSummary;
use crate::error::Error;
use crate::server::endpoints::Endpoints;

/// Loads the configuration as at the start.
pub type Load = dyn Fn() -> Result<Config, Vec<Error>> + Send + Sync;

/// What came of a reload; shared by all that waited for it.
type Verdict = Result<(), Arc<Vec<Error>>>;

/// Takes reloads one at a time.
pub struct Reloader {
    load: Box<Load>,
    turn: Mutex<Turn>,
    over: Condvar,
}

#[derive(Default)]
struct Turn {
    running: bool,
    /// How many are over.
    count: u64,
    last: Option<Verdict>,
}

impl Reloader {
    /// Loads by `load`.
    #[must_use]
    pub fn new(load: Box<Load>) -> Self {
        Reloader { load, turn: Mutex::default(), over: Condvar::new() }
    }

    /// Reads the configuration and swaps the site's fleet. Blocks; a reload that began before the call does not count,
    /// as it may have read the file before it changed.
    ///
    /// # Errors
    /// The faults of the new configuration. The old one stays.
    pub fn reload(&self, site: &Endpoints) -> Verdict {
        let mut turn = self.turn.lock();
        let wanted = turn.count + if turn.running { 2 } else { 1 };
        while turn.running {
            self.over.wait(&mut turn);
            if turn.count >= wanted {
                return turn.last.clone().unwrap_or(Ok(()));
            }
        }
        turn.running = true;
        drop(turn);
        let mut over = Over { reloader: self, verdict: Err(Arc::new(vec![unfinished()])) };
        let verdict = (self.load)().map(|plan| swap(site, plan)).map_err(Arc::new);
        site.telemetry().reloaded(verdict.is_ok());
        if let Err(faults) = &verdict {
            faults.iter().for_each(|fault| log::error!("{fault}"));
            log::error!("the configuration was not reloaded: the old one stays");
        }
        over.verdict.clone_from(&verdict);
        verdict
    }
}

/// Gives the turn to the next when it goes, also when the load panics.
struct Over<'r> {
    reloader: &'r Reloader,
    verdict: Verdict,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut turn = self.reloader.turn.lock();
        turn.running = false;
        turn.count += 1;
        turn.last = Some(self.verdict.clone());
        self.reloader.over.notify_all();
    }
}

fn unfinished() -> Error {
    Error::machine("a bug in sql-exporter, please report it: reading the configuration did not end")
}

fn swap(site: &Endpoints, mut plan: Config) {
    crate::commands::log_warnings(&plan);
    let old = site.targets();
    keep_what_cannot_change(&old.exporter, &mut plan.exporter);
    crate::logging::set_level(plan.exporter.log_level);
    let (fleet, renewal) = old.renew(plan);
    site.swap(fleet);
    let ReloadSummary { unchanged, changed, started, ended } = renewal;
    log::info!(
        "configuration reloaded: {unchanged} targets unchanged, {changed} changed, {started} started, {ended} ended"
    );
}

/// Some settings are read at the start only: a change of one is a warning, and the old value holds.
fn keep_what_cannot_change(old: &Exporter, new: &mut Exporter) {
    let keep = |key: &str, changed: bool| {
        if changed {
            log::warn!("exporter.{key} has changed, which needs a restart; the old value holds");
        }
    };
    keep("listen", old.listen != new.listen);
    keep("max_workers", old.max_workers != new.max_workers);
    keep("http", old.http != new.http);
    keep("log_format", old.log_format != new.log_format);
    keep("web_config_file", old.web_config_file != new.web_config_file);
    keep("route_prefix", old.route_prefix != new.route_prefix);
    new.listen.clone_from(&old.listen);
    new.max_workers = old.max_workers;
    new.http = old.http;
    new.log_format = old.log_format;
    new.web_config_file.clone_from(&old.web_config_file);
    new.route_prefix.clone_from(&old.route_prefix);
}
