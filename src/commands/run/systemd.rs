//! Tells systemd how the service is (`Type=notify`, `WatchdogSec=`): ready, reloading, stopping, alive. Without systemd,
//! that is without `NOTIFY_SOCKET`, nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::error::Error;
use crate::server::LivenessCheck;

/// Not more often, whatever `WATCHDOG_USEC` says.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

const SERVING: NotifyState<'_> = NotifyState::Status("serving");
const NOT_RELOADED: NotifyState<'_> =
    NotifyState::Status("serving; the configuration was not reloaded, see the log");

/// All addresses are open.
pub(super) fn ready() {
    send(&[NotifyState::Ready, SERVING]);
}

/// What a reload has come to, whoever asked for it, as `systemctl status` shows it.
pub(super) fn reloaded(succeeded: bool) {
    send(&[if succeeded { SERVING } else { NOT_RELOADED }]);
}

/// The end of a reload that [`reloading`] has told of.
pub(super) fn ready_again() {
    send(&[NotifyState::Ready]);
}

/// A reload has begun; [`ready_again`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => log::debug!("systemd is not told of a reload: {error}"),
    }
}

/// The service is about to end.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Where systemd watches the service, starts a thread that reports it alive until the process ends, as long as the thread
/// that serves all connections responds.
///
/// # Errors
/// No thread.
pub(super) fn start_watchdog(gate: LivenessCheck) -> Result<(), Error> {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return Ok(()) };
    let report = move || report_liveness(&gate, SHORTEST_INTERVAL.max(limit / 3));
    let started = std::thread::Builder::new().name("watchdog".to_owned()).spawn(report);
    started.map(drop).map_err(|error| Error::machine(format!("no thread for systemd's watchdog: {error}")))
}

/// Two intervals at most between two reports: one to wait, one for a slow response.
fn report_liveness(gate: &LivenessCheck, interval: Duration) {
    loop {
        if gate.responds_within(interval) {
            // One that fails every time has failed at the start, too, where it was logged.
            let told = sd_notify::notify(&[NotifyState::Watchdog]);
            told.unwrap_or_else(|error| log::debug!("systemd's watchdog is not told: {error}"));
        }
        std::thread::sleep(interval);
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("systemd cannot be told how the service is: {error}");
    }
}
