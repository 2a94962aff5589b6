//! The exporter as a whole: from settings to a fleet, and from a fleet to a server that runs until a signal.
//!
//! `settings` puts words, environment and file together; `reload` swaps the fleet in `endpoints::Site`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::iterator::Signals;

use crate::config::Config;
use crate::deadline::Deadline;
use crate::engine::resources::SharedResources;
use crate::engine::targets::Targets;
use crate::error::Error;
use crate::server;
use crate::server::endpoints;
use crate::server::endpoints::Site;

use super::reload::Reloader;

/// Requests in flight may take this long after a signal.
const DRAIN: Duration = Duration::from_secs(5);
/// So long before, queries under way are cancelled: pages leave with what is complete.
const LAST_PAGES: Duration = Duration::from_secs(1);

/// So many threads an exporter at rest has.
pub const AT_REST: usize = 12;

/// Whether the system gives so many threads: what starts them at once has no word for it.
///
/// # Errors
/// It does not.
pub fn threads_are_given(count: usize) -> Result<(), Error> {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let wait = |_| {
        let ended = Arc::clone(&ended);
        std::thread::Builder::new().spawn(move || {
            let _ = ended.lock().recv();
        })
    };
    let tried: std::io::Result<Vec<_>> = (0..count).map(wait).collect();
    drop(end);
    tried.map(|threads| threads.into_iter().for_each(|thread| drop(thread.join()))).map_err(|error| {
        Error::machine(format!("the system cannot start a thread, where {count} are needed at once: {error}"))
            .with_hint(
                "raise the limit of processes for this user (`ulimit -u`) or this container (`pids.max`)",
            )
    })
}

/// Makes the targets of a plan and what they share. Opens no connection.
#[must_use]
pub fn fleet(plan: Config) -> Targets {
    let shared = SharedResources::new(plan.exporter.max_workers);
    Targets::new(plan, &Arc::new(shared))
}

/// Serves until SIGTERM or SIGINT: then stops accepting, lets requests in flight end, and returns. `load` reads the
/// configuration again.
///
/// # Errors
/// An address that cannot be listened on; all faults of the web-config file.
pub fn serve(fleet: Targets, load: Box<super::reload::Load>) -> Result<(), Vec<Error>> {
    // All that the end needs is made now: then there may be no thread and no descriptor left for it.
    let unhandled = |error| vec![Error::machine(format!("signals cannot be handled: {error}"))];
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(unhandled)?;
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, 1, Arc::clone(&stopping)).map_err(unhandled)?;
    }
    fleet.keep_a_thread_for_the_end();
    let reloader = Reloader::new(load);
    let site = Arc::new(Site::new(fleet, Box::new(move |site| reloader.reload(site))));
    let rejected = site.telemetry();
    let (answering, sized) = (Arc::clone(&site), Arc::clone(&site));
    let exporter = site.fleet().exporter.clone();
    let server = server::serve(server::Settings {
        listen: &exporter.listen,
        limits: exporter.http,
        web_config: exporter.web_config_file.as_deref(),
        open: endpoints::open_paths(&exporter.route_prefix),
        large: Arc::new(move |request| sized.large(request)),
        answer: Arc::new(move |request| answering.answer(request)),
        rejected: Arc::new(move |reason| rejected.rejected(reason)),
    })?;
    for address in server.addresses() {
        log::info!("listening on {address}");
    }
    let reload = reload_aside(&site)?;
    for signal in signals.forever() {
        if signal != SIGHUP {
            // A second signal ends at once: there is nobody left who listens to it kindly.
            stopping.store(true, Ordering::Relaxed);
            log::info!("signal {signal}: stopping");
            break;
        }
        let _ = reload.try_send(());
    }
    let drained = Deadline::within(DRAIN);
    let fleet = site.fleet();
    server.stop_with(drained, drained.earlier_by(LAST_PAGES), || fleet.interrupt());
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

/// Calls `stop` at SIGTERM or SIGINT, and ends the process with the exit code that a shell gives that signal.
///
/// # Errors
/// Signals that cannot be handled, no thread for them.
pub fn at_signal(stop: impl FnOnce() + Send + 'static) -> Result<Interruption, Error> {
    let interruption = Interruption(Arc::default());
    let ending = Arc::clone(&interruption.0);
    first_signal(move |signal| {
        let _ending = ending.lock();
        stop();
        std::process::exit(exit_code(signal).into());
    })?;
    Ok(interruption)
}

/// Keeps work that a signal has cancelled from ending the process first, with a result and an exit code of its own.
#[must_use]
pub struct Interruption(Arc<Mutex<()>>);

impl Drop for Interruption {
    /// Does not return once a signal has come: the process ends.
    fn drop(&mut self) {
        drop(self.0.lock());
    }
}

/// For one scrape without a server: SIGTERM or SIGINT cancels in the servers what runs there, and the page is what is
/// complete. Who still works some seconds later, as nobody reads the page, is ended.
///
/// # Errors
/// Signals that cannot be handled, no thread for them.
pub fn interrupt_at_signal(fleet: &Arc<Targets>) -> Result<Interrupted, Error> {
    let interrupted = Interrupted(Arc::default());
    let (fleet, code) = (Arc::clone(fleet), Arc::clone(&interrupted.0));
    first_signal(move |signal| {
        *code.lock() = Some(exit_code(signal));
        fleet.interrupt();
        std::thread::sleep(DRAIN);
        fleet.stop();
        std::process::exit(exit_code(signal).into());
    })?;
    Ok(interrupted)
}

/// Whether a signal has come.
pub struct Interrupted(Arc<Mutex<Option<u8>>>);

impl Interrupted {
    /// The exit code that a shell gives the signal.
    #[must_use]
    pub fn code(&self) -> Option<u8> {
        *self.0.lock()
    }
}

/// Calls `act` with the first SIGTERM or SIGINT, on a thread of its own.
fn first_signal(act: impl FnOnce(i32) + Send + 'static) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Error::machine(format!("signals cannot be handled: {error}")))?;
    let listening = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            act(signal);
        }
    });
    listening.map(drop).map_err(|error| Error::machine(format!("no thread for signals: {error}")))
}

/// As shells have it.
fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
