//! The exporter as a whole: from settings to a fleet, and from a fleet to a server that runs until a signal.
//!
//! `settings` puts words, environment and file together; `reload` swaps the fleet in `web::Site`.

pub mod allocator;
pub mod reload;
pub mod settings;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
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

use reload::Reloader;

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

/// Serves until SIGTERM or SIGINT: then stops accepting, lets requests in flight end, and returns. `load` reads the
/// configuration again.
///
/// # Errors
/// An address that cannot be listened on; all faults of the web-config file.
pub fn serve(fleet: Fleet, load: Box<reload::Load>) -> Result<(), Vec<Error>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| vec![Error::machine(format!("signals cannot be handled: {error}"))])?;
    let reloader = Reloader::new(load);
    let site = Arc::new(Site::new(fleet, Box::new(move |site| reloader.reload(site))));
    let rejected = site.telemetry();
    let answering = Arc::clone(&site);
    let exporter = site.fleet().exporter.clone();
    let server = http::serve(http::Settings {
        listen: &exporter.listen,
        limits: exporter.http,
        web_config: exporter.web_config_file.as_deref(),
        open: web::open_paths(&exporter.route_prefix),
        answer: Arc::new(move |request| answering.answer(request)),
        rejected: Arc::new(move |reason| rejected.rejected(reason)),
    })?;
    for address in server.addresses() {
        log::info!("listening on {address}");
    }
    let reload = reload_aside(&site)?;
    for signal in signals.forever() {
        if signal != SIGHUP {
            log::info!("signal {signal}: stopping");
            break;
        }
        let _ = reload.try_send(());
    }
    // A second signal ends at once: there is nobody left who listens to it kindly.
    std::thread::spawn(move || {
        if signals.forever().any(|signal| signal != SIGHUP) {
            std::process::exit(1);
        }
    });
    server.stop(Deadline::within(DRAIN));
    site.fleet().stop();
    Ok(())
}

/// A thread that reads the configuration again whenever it is asked to: a file that does not answer (NFS, a pipe) must
/// not keep us from hearing the signal to stop. While one question waits, another adds nothing.
///
/// # Errors
/// No thread.
fn reload_aside(site: &Arc<Site>) -> Result<SyncSender<()>, Vec<Error>> {
    let (ask, asked) = sync_channel(1);
    let site = Arc::clone(site);
    // What came of it is logged.
    let reload = move || asked.iter().for_each(|()| drop(site.reload()));
    let started = std::thread::Builder::new().name("reload".to_owned()).spawn(reload);
    started.map_err(|error| vec![Error::machine(format!("no thread for reloads: {error}"))])?;
    Ok(ask)
}

/// For one scrape without a server: SIGTERM or SIGINT cancels in the servers what runs there, and ends the process with
/// the exit code that a shell gives that signal.
///
/// # Errors
/// Signals that cannot be handled.
pub fn cancel_on_signal(fleet: &Arc<Fleet>) -> Result<Interruption, Error> {
    let fleet = Arc::clone(fleet);
    at_signal(move || fleet.stop())
}

/// Calls `stop` at SIGTERM or SIGINT, and ends the process with the exit code that a shell gives that signal.
///
/// # Errors
/// Signals that cannot be handled.
pub fn at_signal(stop: impl FnOnce() + Send + 'static) -> Result<Interruption, Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Error::machine(format!("signals cannot be handled: {error}")))?;
    let interruption = Interruption(Arc::default());
    let ending = Arc::clone(&interruption.0);
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _ending = ending.lock();
            stop();
            std::process::exit(128 + signal);
        }
    });
    Ok(interruption)
}

/// Keeps work that a signal has cancelled from ending the process first, with a result and an exit code of its own.
#[must_use]
pub struct Interruption(Arc<Mutex<()>>);

impl Interruption {
    /// Does not return once a signal has come: the process ends.
    pub fn settle(&self) {
        drop(self.0.lock());
    }
}

impl Drop for Interruption {
    fn drop(&mut self) {
        self.settle();
    }
}
