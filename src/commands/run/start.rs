//! The exporter as a whole: from a configuration to targets, and from targets to a server that runs until a signal.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::iterator::Signals;

use super::reload::{LoadConfig, Reloader};
use super::systemd;
use crate::commands::settings::process_environment;
use crate::config::Config;
use crate::deadline::{Deadline, duration_text};
use crate::engine::resources::SharedResources;
use crate::engine::targets::Targets;
use crate::error::Error;
use crate::server;
use crate::server::endpoints::{Endpoints, public_paths};

/// Requests in flight may take this long after a signal.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Queries under way are cancelled this long before its end, so that their scrapes can still be answered.
const CANCEL_BEFORE_END: Duration = Duration::from_secs(1);

/// How often a delayed stop looks for another signal.
const SIGNAL_POLL: Duration = Duration::from_millis(20);

/// The threads of an exporter without requests.
pub const IDLE_THREADS: usize = 12;

/// Checks that the system allows this many more threads: tiny_http has no error for it.
///
/// # Errors
/// It does not.
pub fn check_thread_limit(count: usize) -> Result<(), Error> {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let wait = |_| {
        let ended = Arc::clone(&ended);
        std::thread::Builder::new().spawn(move || {
            let _ = ended.lock().recv();
        })
    };
    let started: std::io::Result<Vec<_>> = (0..count).map(wait).collect();
    drop(end);
    let threads = started.map_err(|error| {
        Error::machine(format!("the system cannot start a thread, and {count} are needed at once: {error}"))
            .with_hint(
                "raise the limit of processes for this user (`ulimit -u`) or this container (`pids.max`)",
            )
    })?;
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

/// Makes the targets of a configuration and what they share. Opens no connection.
pub fn make_targets(config: Config) -> Targets {
    let shared = SharedResources::new(config.exporter.max_workers);
    Targets::new(config, &Arc::new(shared))
}

/// Takes note of SIGHUP from now on, for [`serve`]. Until then it ends the process, and a start can take a second and more:
/// target files that have just been written, files on a slow disk.
///
/// # Errors
/// Signals cannot be handled.
pub fn note_reloads() -> Result<Signals, Error> {
    Signals::new([SIGHUP]).map_err(|error| unhandled(&error))
}

fn unhandled(error: &std::io::Error) -> Error {
    Error::machine(format!("signals cannot be handled: {error}"))
}

/// Serves until SIGTERM, and `shutdown_delay` longer, or SIGINT; then stops accepting, lets requests in flight end, and
/// returns. `load` reads the configuration again, from `file` where it comes from a file; a SIGHUP that `signals` has noted
/// asks for that, too. `on_listening` gets the addresses.
///
/// # Errors
/// An address that cannot be listened on; all errors of the web-config file; that of `on_listening`.
pub fn serve(
    targets: Targets,
    file: Option<PathBuf>,
    load: Box<LoadConfig>,
    mut signals: Signals,
    on_listening: impl FnOnce(&[String]) -> Result<(), Error>,
) -> Result<(), Vec<Error>> {
    // What the end needs is made now: then there may be no thread and no descriptor left for it.
    let unhandled = |error| vec![unhandled(&error)];
    // A signal runs the actions in the order in which they are registered, on any thread. Were it told to `signals` first, the
    // main thread could set `ends_at_once` before the same signal looks at it. Until `signals` waits for it, it ends the process.
    let ends_at_once = Arc::new(AtomicBool::new(true));
    for signal in [SIGTERM, SIGINT] {
        register_conditional_shutdown(signal, 1, Arc::clone(&ends_at_once)).map_err(unhandled)?;
    }
    [SIGTERM, SIGINT].into_iter().try_for_each(|signal| signals.add_signal(signal)).map_err(unhandled)?;
    ends_at_once.store(false, Ordering::Relaxed);
    targets.keep_a_thread_for_the_end();
    let reloader = Reloader::new(load);
    let reload = move |endpoints: &Endpoints| {
        let result = reloader.reload(endpoints);
        systemd::reloaded(result.is_ok());
        result
    };
    let endpoints = Endpoints::new(targets, Box::new(reload), process_environment);
    let endpoints = Arc::new(endpoints.with_config_file(file));
    let telemetry = endpoints.telemetry();
    let (answering, sized) = (Arc::clone(&endpoints), Arc::clone(&endpoints));
    let exporter = endpoints.targets().exporter.clone();
    let server = server::serve(server::ServeOptions {
        listen: &exporter.listen,
        limits: exporter.http,
        web_config: exporter.web_config_file.as_deref(),
        public_paths: public_paths(&exporter.route_prefix),
        large_response: Arc::new(move |request| sized.large_response(request)),
        handler: Arc::new(move |request| answering.answer(request)),
        on_rejected: Arc::new(move |reason| telemetry.rejected(reason)),
    })?;
    for address in server.addresses() {
        log::info!("listening on {address}");
    }
    on_listening(server.addresses()).map_err(|error| vec![error])?;
    let reload = start_reload_thread(&endpoints)?;
    systemd::start_watchdog(server.liveness_check()).map_err(|error| vec![error])?;
    systemd::ready();
    let signal = wait_for_stop(&mut signals, &endpoints, &reload);
    ends_at_once.store(true, Ordering::Relaxed);
    log::info!("signal {signal}: stopping");
    let drained = Deadline::within(DRAIN_TIMEOUT);
    let targets = endpoints.targets();
    server.stop(drained, drained.earlier_by(CANCEL_BEFORE_END), || targets.interrupt());
    endpoints.targets().stop();
    Ok(())
}

/// Waits for SIGTERM or SIGINT, and returns it. SIGTERM counts `shutdown_delay` later, or at the next of these signals.
fn wait_for_stop(signals: &mut Signals, endpoints: &Endpoints, reload: &SyncSender<()>) -> i32 {
    let mut is_stop = |signal: &i32| match *signal {
        SIGHUP => {
            let _ = reload.try_send(());
            false
        }
        _ => true,
    };
    // `forever` has no end: nobody closes it.
    let signal = signals.forever().find(&mut is_stop).unwrap_or(SIGTERM);
    systemd::stopping();
    let delay = endpoints.targets().exporter.shutdown_delay;
    if signal != SIGTERM || delay.is_zero() {
        return signal;
    }
    endpoints.announce_stop();
    log::info!("signal {signal}: stopping in {}, or at the next signal", duration_text(delay));
    let by = Deadline::within(delay);
    // The iterator has no wait with a deadline.
    while !by.passed() && signals.pending().find(&mut is_stop).is_none() {
        std::thread::sleep(SIGNAL_POLL.min(by.left()));
    }
    signal
}

/// Starts a thread that reads the configuration again for each message: a file that does not answer (NFS, a pipe) must
/// not delay the signal to stop. One message may wait; more are dropped.
///
/// # Errors
/// No thread.
fn start_reload_thread(endpoints: &Arc<Endpoints>) -> Result<SyncSender<()>, Vec<Error>> {
    let (sender, receiver) = sync_channel(1);
    let endpoints = Arc::clone(endpoints);
    // The outcome is logged.
    let reload = move || {
        for () in receiver {
            systemd::reloading();
            let _ = endpoints.reload();
            systemd::ready_again();
        }
    };
    let started = std::thread::Builder::new().name("reload".to_owned()).spawn(reload);
    started.map_err(|error| vec![Error::machine(format!("no thread for reloads: {error}"))])?;
    Ok(sender)
}

/// Calls `stop` at SIGTERM or SIGINT, then ends the process with the exit code that a shell reports for the signal.
///
/// # Errors
/// Signals that cannot be handled, no thread for them.
pub fn exit_at_signal(stop: impl FnOnce() + Send + 'static) -> Result<SignalExit, Error> {
    let exit = SignalExit(Arc::default());
    let ending = Arc::clone(&exit.0);
    on_first_signal(move |signal| {
        let _ending = ending.lock();
        stop();
        std::process::exit(exit_code(signal).into());
    })?;
    Ok(exit)
}

/// Keeps the main thread, whose work a signal has cancelled, from ending the process first with another exit code.
#[must_use]
pub struct SignalExit(Arc<Mutex<()>>);

impl Drop for SignalExit {
    /// Does not return once a signal has come: the process ends.
    fn drop(&mut self) {
        drop(self.0.lock());
    }
}

/// For one scrape without a server: at SIGTERM or SIGINT its statements are cancelled in the servers, and the page is what
/// is complete. The process ends some seconds later in any case, for example when nobody reads the page. What is returned is
/// set to the exit code that a shell reports for the signal.
///
/// # Errors
/// Signals that cannot be handled, no thread for them.
pub fn interrupt_at_signal(targets: &Arc<Targets>) -> Result<Arc<OnceLock<u8>>, Error> {
    let interrupted = Arc::<OnceLock<u8>>::default();
    let (targets, code) = (Arc::clone(targets), Arc::clone(&interrupted));
    on_first_signal(move |signal| {
        let _ = code.set(exit_code(signal));
        targets.interrupt();
        std::thread::sleep(DRAIN_TIMEOUT);
        targets.stop();
        std::process::exit(exit_code(signal).into());
    })?;
    Ok(interrupted)
}

/// Calls `act` with the first SIGTERM or SIGINT, on a thread of its own.
fn on_first_signal(act: impl FnOnce(i32) + Send + 'static) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| unhandled(&error))?;
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            act(signal);
        }
    });
    thread.map(drop).map_err(|error| Error::machine(format!("no thread for signals: {error}")))
}

/// As shells report it.
fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
