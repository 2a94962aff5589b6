//! The sessions of all databases that one target discovered share one bound, `discover.max_connections`. Where all places
//! are taken, an idle session of another database is closed.
//!
//! A session takes a place before its place on the server, and both end with it. Knows no query and no scrape.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::server_group::{NoPlace, ServerGroupMember};
use crate::deadline::Deadline;
use crate::error::{Error, Reason};

/// How long a session may take to end.
const SESSION_END_TIME: Duration = Duration::from_millis(100);
/// How often a login that waits for a place looks for an idle session.
const POLL: Duration = Duration::from_millis(20);

/// The bound of the sessions of several targets.
pub struct SharedBound {
    /// The target that discovered them.
    name: String,
    most: AtomicUsize,
    state: Mutex<BoundState>,
    freed: Condvar,
}

#[derive(Default)]
struct BoundState {
    taken: usize,
    members: Vec<Weak<ServerGroupMember>>,
    /// Whose idle session is looked for next: not always those of the same one.
    next: usize,
}

impl SharedBound {
    /// No session yet, of targets that `name` discovered.
    pub fn new(name: &str) -> Self {
        let (most, state, freed) = Default::default();
        SharedBound { name: name.to_owned(), most, state, freed }
    }

    /// Sets the number of sessions.
    pub fn set_most(&self, most: u32) {
        self.most.store(most as usize, Ordering::Relaxed);
        self.freed.notify_all();
    }

    /// Adds a target.
    pub fn join(&self, member: &Arc<ServerGroupMember>) {
        let members = &mut self.state.lock().members;
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
    }

    /// A place for one more session. `waits`: until `by` for a place that another target leaves; an idle session of one is
    /// closed.
    ///
    /// # Errors
    /// There is no place.
    pub fn place(self: &Arc<Self>, waits: bool, by: Deadline) -> Result<BoundPlace, NoPlace> {
        let mut state = self.state.lock();
        // When a session was last closed for this one, which another one may have taken the place of.
        let mut closed: Option<Instant> = None;
        loop {
            let most = self.most.load(Ordering::Relaxed);
            if state.taken < most {
                state.taken += 1;
                return Ok(BoundPlace(Arc::clone(self)));
            }
            if !waits {
                return Err(NoPlace::NotNow(self.busy(most)));
            }
            if by.passed() {
                return Err(NoPlace::Failed(self.busy(most)));
            }
            if closed.is_none_or(|moment| moment.elapsed() > SESSION_END_TIME) {
                let members: Vec<_> = state.members.iter().filter_map(Weak::upgrade).collect();
                let start = state.next % members.len().max(1);
                state.next = start + 1;
                let (before, after) = members.split_at(start);
                // Not under the lock: an idle session may be one that ends at once.
                MutexGuard::unlocked(&mut state, || {
                    if after.iter().chain(before).any(|member| member.close_idle()) {
                        closed = Some(Instant::now());
                    }
                });
                if closed.is_some() && state.taken < most {
                    continue;
                }
            }
            self.freed.wait_for(&mut state, POLL.min(by.left()));
        }
    }

    fn busy(&self, most: usize) -> Error {
        let text = format!("all {most} sessions of the databases of target {} are busy", self.name);
        // Not `timeout`: the server is not asked less often for that.
        Error::new(Reason::Limit, text).with_hint("raise discover.max_connections, or the scrape interval")
    }
}

/// One session's place.
pub struct BoundPlace(Arc<SharedBound>);

impl Drop for BoundPlace {
    fn drop(&mut self) {
        self.0.state.lock().taken -= 1;
        self.0.freed.notify_all();
    }
}
