//! Targets that log in to one server as one user share its limits on sessions. Where the server allows too few for all of
//! them, an idle session of one target is closed for another target that has none.

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
/// How long a server may take to notice that a session has ended.
const SESSION_END_TIME: Duration = Duration::from_secs(1);

/// One target of a group.
pub struct ServerGroupMember {
    pool: Pool,
    queue: Arc<Mutex<Queue>>,
    /// Lanes that wait for a session of another target.
    waits: AtomicUsize,
}

impl ServerGroupMember {
    /// Closes one idle session; false when there is none.
    pub fn close_idle(&self) -> bool {
        self.pool.close_idle()
    }
}

/// The targets of one server and user. A target without a login is alone in its group.
#[derive(Default)]
pub struct ServerGroup(Mutex<GroupState>);

#[derive(Default)]
struct GroupState {
    members: Vec<Weak<ServerGroupMember>>,
    /// When an idle session was last closed, and for whom.
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
            let outlook = self.outlook(member);
            if by.passed() || matches!(outlook, RoomOutlook::None) {
                break false;
            }
            std::thread::sleep((*pause).min(by.left()));
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            if let RoomOutlook::Now = outlook {
                break true;
            }
        };
        member.waits.fetch_sub(1, Ordering::AcqRel);
        room
    }

    fn outlook(&self, member: &Arc<ServerGroupMember>) -> RoomOutlook {
        let mut state = self.0.lock();
        if let Some((_, to)) = state.freed.as_ref().filter(|(when, _)| when.elapsed() < SESSION_END_TIME) {
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

/// When another target will make room.
#[derive(Clone, Copy)]
enum RoomOutlook {
    /// It has just closed a session.
    Now,
    /// It is at work, and will have an idle session.
    Later,
    /// There is none that could.
    None,
}
