//! Targets that log in to one server as one user share its limits on sessions: where it gives too few for all of them, an
//! idle session of one gives way to another that has none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::pool::Pool;
use crate::deadline::Deadline;

use super::queue::Queue;

/// The first pause before a full server is asked again.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// A server takes a while to notice that a session has ended.
const FREED_SOON: Duration = Duration::from_secs(1);

/// One of them.
pub struct ServerGroupMember {
    pool: Pool,
    queue: Arc<Mutex<Queue>>,
    /// Lanes that wait for a session of a neighbour.
    waits: AtomicUsize,
}

/// Those of one server and user. Alone where the way to the database is not a login.
#[derive(Default)]
pub struct ServerGroup(Mutex<GroupState>);

#[derive(Default)]
struct GroupState {
    members: Vec<Weak<ServerGroupMember>>,
    /// When an idle session last gave way, and to whom.
    freed: Option<(Instant, Weak<ServerGroupMember>)>,
}

impl ServerGroup {
    /// Adds a target with its sessions and its queue.
    pub fn join(&self, pool: Pool, queue: Arc<Mutex<Queue>>) -> Arc<ServerGroupMember> {
        let member = Arc::new(ServerGroupMember { pool, queue, waits: AtomicUsize::new(0) });
        let members = &mut self.0.lock().members;
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(&member));
        member
    }

    /// Waits until `member`, which has no session, may ask the full server again: an idle session of another target was closed.
    /// False when no other has one, or will have one soon. `pause` grows from call to call. Blocks until `by` at most.
    #[must_use]
    pub fn wait_for_room(&self, member: &Arc<ServerGroupMember>, pause: &mut Duration, by: Deadline) -> bool {
        member.waits.fetch_add(1, Ordering::AcqRel);
        let room = loop {
            let hope = self.look(member);
            if by.passed() || matches!(hope, RoomOutlook::None) {
                break false;
            }
            std::thread::sleep((*pause).min(by.left()));
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            if let RoomOutlook::Now = hope {
                break true;
            }
        };
        member.waits.fetch_sub(1, Ordering::AcqRel);
        room
    }

    fn look(&self, member: &Arc<ServerGroupMember>) -> RoomOutlook {
        let mut state = self.0.lock();
        if let Some((_, to)) = state.freed.as_ref().filter(|(when, _)| when.elapsed() < FREED_SOON) {
            let is_ours = std::ptr::eq(to.as_ptr(), Arc::as_ptr(member));
            return if is_ours { RoomOutlook::Now } else { RoomOutlook::Later };
        }
        let others: Vec<Arc<ServerGroupMember>> = state.members.iter().filter_map(Weak::upgrade).collect();
        let others = || others.iter().filter(|other| !Arc::ptr_eq(other, member));
        if others().any(|other| other.pool.close_idle()) {
            state.freed = Some((Instant::now(), Arc::downgrade(member)));
            return RoomOutlook::Now;
        }
        // Whoever waits like this one has no session either.
        let works = |other: &Arc<ServerGroupMember>| {
            other.queue.lock().at_work() > other.waits.load(Ordering::Acquire)
        };
        if others().any(works) { RoomOutlook::Later } else { RoomOutlook::None }
    }
}

/// What can be hoped of the others.
#[derive(Clone, Copy)]
enum RoomOutlook {
    /// One has just closed a session.
    Now,
    /// One works, and will have an idle session.
    Later,
    /// Nothing.
    None,
}
