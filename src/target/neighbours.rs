//! Targets that log in to one server as one user share its limits on sessions: where it gives too few for all of them, an
//! idle session of one gives way to another that has none.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::deadline::Deadline;

use super::sessions::Sessions;

/// The first pause before a full server is asked again.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// A server takes a while to notice that a session has ended.
const FREED_SOON: Duration = Duration::from_secs(1);

/// Those of one server and user. Alone where the way to the database is not a login.
#[derive(Default)]
pub struct Neighbours(Mutex<State>);

#[derive(Default)]
struct State {
    members: Vec<Weak<Sessions>>,
    /// When an idle session last gave way, and to whom.
    freed: Option<(Instant, Weak<Sessions>)>,
}

impl Neighbours {
    /// Adds a target.
    pub fn join(&self, sessions: &Arc<Sessions>) {
        let members = &mut self.0.lock().members;
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(sessions));
    }

    /// Waits until `sessions`, which has none, may ask the full server again: an idle session of another target was closed.
    /// False when no other has one, or will have one soon. `pause` grows from call to call. Blocks until `by` at most.
    #[must_use]
    pub fn wait_for_room(&self, sessions: &Arc<Sessions>, pause: &mut Duration, by: Deadline) -> bool {
        let waits = &sessions.waits_for_neighbours;
        waits.fetch_add(1, Ordering::AcqRel);
        let room = loop {
            let hope = self.look(sessions);
            if by.passed() || matches!(hope, Hope::None) {
                break false;
            }
            std::thread::sleep((*pause).min(by.left()));
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            if let Hope::Room = hope {
                break true;
            }
        };
        waits.fetch_sub(1, Ordering::AcqRel);
        room
    }

    fn look(&self, sessions: &Arc<Sessions>) -> Hope {
        let mut state = self.0.lock();
        if let Some((_, to)) = state.freed.as_ref().filter(|(when, _)| when.elapsed() < FREED_SOON) {
            let is_ours = std::ptr::eq(to.as_ptr(), Arc::as_ptr(sessions));
            return if is_ours { Hope::Room } else { Hope::Later };
        }
        let others: Vec<Arc<Sessions>> = state.members.iter().filter_map(Weak::upgrade).collect();
        let others = || others.iter().filter(|other| !Arc::ptr_eq(other, sessions));
        if others().any(|other| other.pool.close_idle()) {
            state.freed = Some((Instant::now(), Arc::downgrade(sessions)));
            return Hope::Room;
        }
        // Whoever waits like this one has no session either.
        let works = |other: &Arc<Sessions>| {
            other.queue.lock().at_work() > other.waits_for_neighbours.load(Ordering::Acquire)
        };
        if others().any(works) { Hope::Later } else { Hope::None }
    }
}

/// What can be hoped of the others.
#[derive(Clone, Copy)]
enum Hope {
    /// One has just closed a session.
    Room,
    /// One works, and will have an idle session.
    Later,
    /// Nothing.
    None,
}
