//! What ends a statement early: the job's deadline, or a cancel from another thread.
//!
//! SQLite asks at two points: every 1,000 steps of its machine, and while it waits for a lock. It does not ask within one
//! step, so one slow function call (`zeroblob(1000000000)`) or a disk that hangs is not stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, InterruptHandle};

use crate::deadline::Deadline;
use crate::driver::Canceller;
use crate::error::Result;

/// Steps between two looks at the clock: about 1 % of a query's time (measured).
const STEPS: i32 = 1_000;
/// The longest sleep while another process holds a lock.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// Shared by a session, its connection's hooks and its canceller.
pub(super) struct StopSignal {
    start: Instant,
    /// Nanoseconds after `start`: an atomic, since the hooks must be `Send` and never wait.
    until: AtomicU64,
    cancelled: AtomicBool,
}

impl StopSignal {
    /// Installs the two hooks of `connection`. Replaces its busy timeout, which would ignore an interrupt.
    pub(super) fn install(connection: &mut Connection) -> rusqlite::Result<Arc<StopSignal>> {
        let signal = Arc::new(StopSignal {
            start: Instant::now(),
            until: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
        });
        let progress = Arc::clone(&signal);
        connection.progress_handler(STEPS, Some(move || progress.is_over()))?;
        signal.install_busy_handler(connection)?;
        Ok(signal)
    }

    /// Installs the hook that waits for locks: also after a statement may have replaced it (`PRAGMA busy_timeout`).
    pub(super) fn install_busy_handler(
        self: &Arc<Self>,
        connection: &mut Connection,
    ) -> rusqlite::Result<()> {
        let signal = Arc::clone(self);
        // Where the time is up, SQLite answers "locked".
        connection.busy_handler(Some(move |_| {
            let goes_on = !signal.is_over();
            if goes_on {
                std::thread::sleep(LOCK_RETRY.min(signal.left()));
            }
            goes_on
        }))
    }

    /// A new job: forgets the last deadline.
    pub(super) fn set_deadline(&self, by: Deadline) {
        let span = by.moment().saturating_duration_since(self.start).as_nanos();
        self.until.store(u64::try_from(span).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A new batch: forgets a cancel that came while nothing ran.
    pub(super) fn forget_cancel(&self) {
        self.cancelled.store(false, Ordering::Relaxed);
    }

    /// Whether another thread asked this session to stop.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn left(&self) -> Duration {
        Duration::from_nanos(self.until.load(Ordering::Relaxed)).saturating_sub(self.start.elapsed())
    }

    fn is_over(&self) -> bool {
        self.is_cancelled() || self.left().is_zero()
    }
}

/// Stops a session's statement from another thread. Never blocks.
pub(super) struct SqliteCanceller {
    pub(super) handle: InterruptHandle,
    pub(super) signal: Arc<StopSignal>,
}

impl Canceller for SqliteCanceller {
    fn cancel(&self, _by: Deadline) -> Result<()> {
        self.signal.cancelled.store(true, Ordering::Relaxed);
        self.handle.interrupt();
        Ok(())
    }
}
