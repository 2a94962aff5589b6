//! The logins that wait for their password hash to be checked. A hash is slow on purpose and one is checked at a time, so
//! a flood of wrong logins must not keep the others out: a known address goes first, then a known user, then strangers;
//! among equals those that have failed least, then those whose address has the fewest logins in the queue. The queue is
//! bounded, as is the share of one address in it; when it is full, a login that would go first displaces the last one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::server::Peer;

/// Logins that wait, over all addresses.
const MAX_QUEUED: usize = 64;
/// Of these, logins from one address.
const MAX_QUEUED_PER_ADDRESS: usize = 16;
/// Addresses and names that are remembered; beyond, all are forgotten.
const MAX_REMEMBERED: usize = 1024;
/// Longer names are remembered by their first characters, so that the memory for all is bounded.
const MAX_NAME_CHARS: usize = 64;
/// The part of an IPv6 address that names a network: a client may use all of the rest.
const IPV6_NETWORK: u128 = !0 << 64;

/// How well a client is known. The earlier goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A login from this address has succeeded.
    KnownAddress,
    /// This user has logged in, from elsewhere.
    KnownUser,
    Stranger,
}

/// Where a login comes from, as far as it is told apart: an IPv4 address, an IPv6 network, a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LoginOrigin(Peer);

impl LoginOrigin {
    pub(super) fn of(peer: Peer) -> LoginOrigin {
        LoginOrigin(match peer {
            Peer::Address(IpAddr::V6(address)) => {
                Peer::Address(Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into())
            }
            other => other,
        })
    }
}

/// Rank, failures of this origin under this name, logins of this origin in the queue before, arrival.
type QueueOrder = (Rank, u32, usize, u64);

struct QueuedLogin {
    origin: LoginOrigin,
    permit: oneshot::Sender<LoginPermit>,
}

#[derive(Default)]
struct LoginQueueState {
    /// A hash is being checked.
    is_busy: bool,
    queued: BTreeMap<QueueOrder, QueuedLogin>,
    arrivals: u64,
    /// Where logins succeeded.
    known: HashSet<LoginOrigin>,
    failures: HashMap<(LoginOrigin, String), u32>,
}

/// The queue.
#[derive(Default)]
pub(super) struct LoginQueue {
    state: Mutex<LoginQueueState>,
}

/// The right to check a hash; passed to the next login in the queue when dropped.
pub(super) struct LoginPermit(Option<Arc<LoginQueue>>);

impl Drop for LoginPermit {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.pass_on();
        }
    }
}

impl LoginQueue {
    /// Waits for a permit. `None`: the queue is full.
    pub(super) async fn enter(
        self: &Arc<Self>,
        origin: LoginOrigin,
        name: &str,
        is_known_user: bool,
    ) -> Option<LoginPermit> {
        let permit = {
            let mut state = self.state.lock();
            if !state.is_busy {
                state.is_busy = true;
                return Some(LoginPermit(Some(Arc::clone(self))));
            }
            state.join(origin, name, is_known_user)?
        };
        // An error: another login displaced this one.
        permit.await.ok()
    }

    pub(super) fn succeeded(&self, origin: LoginOrigin, name: &str) {
        let mut state = self.state.lock();
        if state.known.len() >= MAX_REMEMBERED {
            state.known.clear();
        }
        state.known.insert(origin);
        state.failures.remove(&(origin, remembered(name)));
    }

    pub(super) fn failed(&self, origin: LoginOrigin, name: &str) {
        let mut state = self.state.lock();
        if state.failures.len() >= MAX_REMEMBERED {
            state.failures.clear();
        }
        let count = state.failures.entry((origin, remembered(name))).or_default();
        *count = count.saturating_add(1);
    }

    fn pass_on(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state.lock();
                let Some((_, first)) = state.queued.pop_first() else {
                    state.is_busy = false;
                    return;
                };
                first
            };
            match next.permit.send(LoginPermit(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // The client has left: this loop passes it on, not the permit's own drop.
                Err(mut permit) => drop(permit.0.take()),
            }
        }
    }
}

impl LoginQueueState {
    /// A place in the queue, if need be that of a login that would come after the new one.
    fn join(
        &mut self,
        origin: LoginOrigin,
        name: &str,
        is_known_user: bool,
    ) -> Option<oneshot::Receiver<LoginPermit>> {
        self.queued.retain(|_, login| !login.permit.is_closed());
        let rank = match (self.known.contains(&origin), is_known_user) {
            (true, _) => Rank::KnownAddress,
            (false, true) => Rank::KnownUser,
            (false, false) => Rank::Stranger,
        };
        let failures = self.failures.get(&(origin, remembered(name))).copied().unwrap_or_default();
        self.arrivals += 1;
        let of_origin = self.queued.values().filter(|login| login.origin == origin).count();
        let order = (rank, failures, of_origin, self.arrivals);
        if of_origin >= MAX_QUEUED_PER_ADDRESS {
            self.displace(order, |login| login.origin == origin)?;
        } else if self.queued.len() >= MAX_QUEUED {
            self.displace(order, |_| true)?;
        }
        let (permit, receiver) = oneshot::channel();
        self.queued.insert(order, QueuedLogin { origin, permit });
        Some(receiver)
    }

    /// Removes the last one among some; `None` if it does not come after `order`.
    fn displace(&mut self, order: QueueOrder, among: impl Fn(&QueuedLogin) -> bool) -> Option<()> {
        let last = *self.queued.iter().rfind(|(_, login)| among(login))?.0;
        if last <= order {
            return None;
        }
        self.queued.remove(&last).map(drop)
    }
}

/// What of a name is remembered.
fn remembered(name: &str) -> String {
    name.chars().take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Waiting<'l> = Pin<Box<dyn Future<Output = Option<LoginPermit>> + 'l>>;

    fn from(last: u8) -> LoginOrigin {
        LoginOrigin::of(Peer::Address([192, 0, 2, last].into()))
    }

    /// Enters the queue; who does not have the permit at once waits in it.
    fn enter<'l>(queue: &'l Arc<LoginQueue>, last: u8, name: &'l str, known: bool) -> Waiting<'l> {
        let mut waiting: Waiting<'l> = Box::pin(queue.enter(from(last), name, known));
        assert!(look(&mut waiting).is_pending());
        waiting
    }

    fn look(waiting: &mut Waiting<'_>) -> Poll<Option<LoginPermit>> {
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// The first permit, which is there at once.
    fn first(queue: &Arc<LoginQueue>) -> LoginPermit {
        let mut waiting: Waiting<'_> = Box::pin(queue.enter(from(250), "", false));
        match look(&mut waiting) {
            Poll::Ready(Some(permit)) => permit,
            _ => panic!("somebody has the permit"),
        }
    }

    /// The names in the order in which they get their permit.
    fn served(mut permit: LoginPermit, logins: Vec<(&'static str, Waiting<'_>)>) -> Vec<&'static str> {
        let mut waiting = logins;
        let mut names = Vec::new();
        while !waiting.is_empty() {
            drop(permit);
            let mut next = None;
            waiting.retain_mut(|(name, waiting)| match look(waiting) {
                Poll::Pending => true,
                Poll::Ready(Some(permit)) => {
                    next = Some((*name, permit));
                    false
                }
                Poll::Ready(None) => panic!("{name} lost its place"),
            });
            let (name, its) = next.unwrap();
            names.push(name);
            permit = its;
        }
        names
    }

    #[test]
    fn a_known_address_goes_first_then_a_known_user_then_who_failed_least() {
        let queue = Arc::new(LoginQueue::default());
        queue.succeeded(from(1), "prom");
        (0..3).for_each(|_| queue.failed(from(2), "guess"));
        let permit = first(&queue);
        let logins = vec![
            ("guesser", enter(&queue, 2, "guess", false)),
            ("stranger", enter(&queue, 3, "new", false)),
            ("the same guesser's neighbour", enter(&queue, 2, "new", false)),
            ("known user", enter(&queue, 4, "prom", true)),
            ("known address", enter(&queue, 1, "other", false)),
        ];
        let expected = ["known address", "known user", "stranger", "the same guesser's neighbour", "guesser"];
        assert_eq!(served(permit, logins), expected);
        // The queue is empty: the next one has the permit at once.
        first(&queue);
    }

    #[test]
    fn one_address_has_its_part_of_the_line_and_the_line_its_end() {
        let queue = Arc::new(LoginQueue::default());
        let permit = first(&queue);
        let is_full = |last: u8, name: &str| {
            let mut waiting: Waiting<'_> = Box::pin(queue.enter(from(last), name, false));
            matches!(look(&mut waiting), Poll::Ready(None))
        };
        let mut held: Vec<Waiting<'_>> =
            (0..MAX_QUEUED_PER_ADDRESS).map(|_| enter(&queue, 1, "x", false)).collect();
        assert!(is_full(1, "x"));
        for last in 2..=4 {
            held.extend((0..MAX_QUEUED_PER_ADDRESS).map(|_| enter(&queue, last, "x", false)));
        }
        assert!(is_full(1, "y"));
        // Somebody who comes before them takes the last one's place: of an address of which nobody waits, or known.
        let stranger = enter(&queue, 5, "x", false);
        let known = enter(&queue, 5, "prom", true);
        let before = held.len();
        held.retain_mut(|waiting| look(waiting).is_pending());
        assert_eq!(before - held.len(), 2);
        assert!(is_full(1, "x"));
        // Who leaves frees his own.
        held.truncate(1);
        let late = enter(&queue, 6, "x", false);
        let logins =
            vec![("late", late), ("first", held.remove(0)), ("stranger", stranger), ("known", known)];
        assert_eq!(served(permit, logins), ["known", "first", "stranger", "late"]);
    }

    #[test]
    fn who_left_with_the_turn_gives_it_to_the_next() {
        let queue = Arc::new(LoginQueue::default());
        let permit = first(&queue);
        let (gone, leaves) = (enter(&queue, 1, "x", false), enter(&queue, 1, "x", false));
        let mut stays = enter(&queue, 1, "x", false);
        drop(gone);
        drop(permit);
        // This one has the permit, and has not looked yet.
        drop(leaves);
        assert!(matches!(look(&mut stays), Poll::Ready(Some(_))));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |text: &str| LoginOrigin::of(Peer::Address(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
