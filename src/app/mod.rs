//! The exporter as a whole: from settings to a fleet, and from a fleet to a server that runs until a signal.
//!
//! `settings` puts words, environment and file together. A reload (a later issue) swaps the fleet in `web::Site`.

pub mod allocator;
pub mod settings;

use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::deadline::Deadline;
use crate::disposal::Disposal;
use crate::error::Error;
use crate::fleet::Fleet;
use crate::http;
use crate::plan::Plan;
use crate::pool::Scheduler;
use crate::target::Shared;
use crate::telemetry::Telemetry;
use crate::web::{self, Site};
use crate::workers::Workers;

/// Requests in flight may take this long after a signal.
const DRAIN: Duration = Duration::from_secs(5);

/// Makes the targets of a plan and what they share. Opens no connection.
#[must_use]
pub fn fleet(plan: Plan) -> Fleet {
    let shared = Shared {
        workers: Workers::new(plan.exporter.max_workers),
        disposal: Disposal::new(),
        scheduler: Scheduler::start(),
        telemetry: Telemetry::new(),
    };
    Fleet::new(plan, &Arc::new(shared))
}

/// Serves until SIGTERM or SIGINT: then stops accepting, lets requests in flight end, and returns.
///
/// # Errors
/// An address that cannot be listened on; all faults of the web-config file.
pub fn serve(fleet: Fleet) -> Result<(), Vec<Error>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| vec![Error::machine(format!("signals cannot be handled: {error}"))])?;
    let site = Arc::new(Site::new(fleet));
    let (fleet, telemetry) = (site.fleet(), Arc::clone(site.telemetry()));
    let rejected = Arc::clone(&telemetry);
    let answering = Arc::clone(&site);
    let server = http::serve(http::Settings {
        listen: &fleet.exporter.listen,
        limits: fleet.exporter.http,
        web_config: fleet.exporter.web_config_file.as_deref(),
        open: web::OPEN,
        answer: Arc::new(move |request| answering.answer(request)),
        rejected: Arc::new(move |reason| rejected.rejected(reason)),
    })?;
    for address in server.addresses() {
        log::info!("listening on {address}");
    }
    if let Some(signal) = stop(&mut signals) {
        log::info!("signal {signal}: stopping");
    }
    // A second signal ends at once: there is nobody left who listens to it kindly.
    std::thread::spawn(move || {
        if stop(&mut signals).is_some() {
            std::process::exit(1);
        }
    });
    server.stop(Deadline::within(DRAIN));
    fleet.stop();
    Ok(())
}

/// For one scrape without a server: SIGTERM or SIGINT cancels in the servers what runs there, and ends the process with
/// the exit code that a shell gives that signal.
///
/// # Errors
/// Signals that cannot be handled.
pub fn cancel_on_signal(fleet: &Arc<Fleet>) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Error::machine(format!("signals cannot be handled: {error}")))?;
    let fleet = Arc::clone(fleet);
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            fleet.stop();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Waits for the signal to stop. A hang-up, by which other exporters reload, ends nothing.
fn stop(signals: &mut Signals) -> Option<i32> {
    let hang_up = |signal: &i32| {
        if *signal == SIGHUP {
            log::warn!(
                "signal {SIGHUP}: reload is not built yet, the configuration stays; restart to read it again"
            );
        }
        *signal != SIGHUP
    };
    signals.forever().find(hang_up)
}
