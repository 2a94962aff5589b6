//! What ends a statement early: the job's deadline, or a cancel from another thread.
//!
//! SQLite asks at two points: every 1,000 steps of its machine, and while it waits for a lock. It asks neither
//! within one step, so one slow function call (`zeroblob(1000000000)`) or a disk that hangs is not stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, InterruptHandle};

use crate::deadline::Deadline;
use crate::driver::Canceller;
use crate::error::Result;

/// Steps between two looks at the clock: about 1 % of a query's time (measured).
const STEPS: i32 = 1_000;
/// The longest nap while a lock is held by another process.
const NAP: Duration = Duration::from_millis(10);

/// Shared by a session, its connection's hooks and its canceller.
pub(super) struct Watch {
    start: Instant,
    /// Nanoseconds after `start`: an atomic, since the hooks must be `Send` and never wait.
    until: AtomicU64,
    cancelled: AtomicBool,
}

impl Watch {
    /// Hangs the two hooks into `connection`. Replaces its busy timeout, which would ignore an interrupt.
    pub(super) fn install(connection: &mut Connection) -> rusqlite::Result<Arc<Watch>> {
        let watch = Arc::new(Watch {
            start: Instant::now(),
            until: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
        });
        let progress = Arc::clone(&watch);
        connection.progress_handler(STEPS, Some(move || progress.over()))?;
        watch.hold_locks(connection)?;
        Ok(watch)
    }

    /// Hangs in the hook that waits for locks: also after a statement may have replaced it (`PRAGMA busy_timeout`).
    pub(super) fn hold_locks(self: &Arc<Self>, connection: &mut Connection) -> rusqlite::Result<()> {
        let watch = Arc::clone(self);
        connection.busy_handler(Some(move |_| watch.nap()))
    }

    /// A new job: forgets the last deadline.
    pub(super) fn arm(&self, by: Deadline) {
        let span = by.moment().saturating_duration_since(self.start).as_nanos();
        self.until.store(u64::try_from(span).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A new batch: forgets a cancel that came while nothing ran.
    pub(super) fn forget_cancel(&self) {
        self.cancelled.store(false, Ordering::Relaxed);
    }

    /// Whether another thread asked this session to stop.
    pub(super) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn left(&self) -> Duration {
        Duration::from_nanos(self.until.load(Ordering::Relaxed)).saturating_sub(self.start.elapsed())
    }

    fn over(&self) -> bool {
        self.cancelled() || self.left().is_zero()
    }

    /// Sleeps a little; false when the time is up, and SQLite then answers "locked".
    fn nap(&self) -> bool {
        if self.over() {
            return false;
        }
        std::thread::sleep(NAP.min(self.left()));
        true
    }
}

/// Stops a session's statement from another thread. Never blocks.
pub(super) struct Interrupt {
    pub(super) handle: InterruptHandle,
    pub(super) watch: Arc<Watch>,
}

impl Canceller for Interrupt {
    fn cancel(&self, _by: Deadline) -> Result<()> {
        self.watch.cancelled.store(true, Ordering::Relaxed);
        self.handle.interrupt();
        Ok(())
    }
}
