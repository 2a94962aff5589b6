//! The line of logins that wait for their hash. A hash is slow on purpose and one is made at a time, so a flood of wrong
//! logins must not keep the others out: a known address goes first, then a known user, then strangers, and among equals
//! those who have failed least, and of whose address the fewest wait. The line is bounded, as is the part of one address in it; who is ahead of somebody who
//! waits takes his place when it is full.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::server::Peer;

/// Logins that wait, over all addresses.
const PLACES: usize = 64;
/// Of these, logins of one address.
const PLACES_OF_ADDRESS: usize = 16;
/// Addresses and names that are remembered; beyond, all are forgotten.
const REMEMBERED: usize = 1024;
/// Longer names are remembered by their first bytes: the memory for all is bounded.
const LONGEST_NAME: usize = 64;
/// Of an IPv6 address the part that names a network: a client has the rest to itself.
const NETWORK: u128 = !0 << 64;

/// Who asks to be let in. The earlier goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Somebody has logged in from there.
    KnownAddress,
    /// The user has logged in, from elsewhere.
    KnownUser,
    /// Nobody we have seen.
    Stranger,
}

/// Where a login comes from, as far as it is told apart: an address, a network of IPv6, a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin(Peer);

impl Origin {
    /// Of a peer.
    pub(crate) fn of(peer: Peer) -> Origin {
        Origin(match peer {
            Peer::Address(IpAddr::V6(address)) => {
                Peer::Address(Ipv6Addr::from_bits(address.to_bits() & NETWORK).into())
            }
            other => other,
        })
    }
}

/// Order in the line: rank, how often this origin has failed under this name, how many of it waited before, arrival.
type Order = (Rank, u32, usize, u64);

struct Waiting {
    order: Order,
    origin: Origin,
    turn: oneshot::Sender<Turn>,
}

#[derive(Default)]
struct State {
    /// Somebody has the turn.
    taken: bool,
    waiting: Vec<Waiting>,
    arrivals: u64,
    /// Where logins succeeded.
    known: HashSet<Origin>,
    failures: HashMap<(Origin, String), u32>,
}

/// All who wait.
#[derive(Default)]
pub(crate) struct Line {
    state: Mutex<State>,
}

/// The right to make a hash; passed to the next in the line when dropped.
pub(crate) struct Turn(Option<Arc<Line>>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.pass_on();
        }
    }
}

impl Line {
    /// Waits for the turn. `None`: the line is full.
    pub(crate) async fn enter(self: &Arc<Self>, origin: Origin, name: &str, known: bool) -> Option<Turn> {
        let next = {
            let mut state = self.state.lock();
            if !state.taken {
                state.taken = true;
                return Some(Turn(Some(Arc::clone(self))));
            }
            state.join(origin, name, known)?
        };
        // An error: somebody took the place.
        next.await.ok()
    }

    /// A login succeeded.
    pub(crate) fn succeeded(&self, origin: Origin, name: &str) {
        let mut state = self.state.lock();
        if state.known.len() >= REMEMBERED {
            state.known.clear();
        }
        state.known.insert(origin);
        state.failures.remove(&(origin, start(name)));
    }

    /// A login failed.
    pub(crate) fn failed(&self, origin: Origin, name: &str) {
        let mut state = self.state.lock();
        if state.failures.len() >= REMEMBERED {
            state.failures.clear();
        }
        let count = state.failures.entry((origin, start(name))).or_default();
        *count = count.saturating_add(1);
    }

    fn pass_on(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state.lock();
                let first = state.waiting.iter().enumerate().min_by_key(|(_, waiting)| waiting.order);
                let Some((at, _)) = first else {
                    state.taken = false;
                    return;
                };
                state.waiting.swap_remove(at)
            };
            match next.turn.send(Turn(Some(Arc::clone(self)))) {
                Ok(()) => return,
                // The client has gone: the next one in this loop, not in another one below it.
                Err(mut turn) => drop(turn.0.take()),
            }
        }
    }
}

impl State {
    /// A place in the line, if need be that of somebody who comes after the new one.
    fn join(&mut self, origin: Origin, name: &str, known: bool) -> Option<oneshot::Receiver<Turn>> {
        self.waiting.retain(|waiting| !waiting.turn.is_closed());
        let rank = match (self.known.contains(&origin), known) {
            (true, _) => Rank::KnownAddress,
            (false, true) => Rank::KnownUser,
            (false, false) => Rank::Stranger,
        };
        let failures = self.failures.get(&(origin, start(name))).copied().unwrap_or_default();
        self.arrivals += 1;
        let own = self.waiting.iter().filter(|waiting| waiting.origin == origin).count();
        let order = (rank, failures, own, self.arrivals);
        if own >= PLACES_OF_ADDRESS {
            self.displace(order, |waiting| waiting.origin == origin)?;
        } else if self.waiting.len() >= PLACES {
            self.displace(order, |_| true)?;
        }
        let (turn, next) = oneshot::channel();
        self.waiting.push(Waiting { order, origin, turn });
        Some(next)
    }

    /// Takes the place of the last one among some, who must come after `order`.
    fn displace(&mut self, order: Order, among: impl Fn(&Waiting) -> bool) -> Option<()> {
        let candidates = self.waiting.iter().enumerate().filter(|(_, waiting)| among(waiting));
        let (at, last) = candidates.max_by_key(|(_, waiting)| waiting.order)?;
        if last.order <= order {
            return None;
        }
        self.waiting.swap_remove(at);
        Some(())
    }
}

/// What of a name is remembered.
fn start(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Entry<'l> = Pin<Box<dyn Future<Output = Option<Turn>> + 'l>>;

    fn from(last: u8) -> Origin {
        Origin::of(Peer::Address([192, 0, 2, last].into()))
    }

    /// Enters the line; who does not have the turn at once waits in it.
    fn enter<'l>(line: &'l Arc<Line>, last: u8, name: &'l str, known: bool) -> Entry<'l> {
        let mut entry: Entry<'l> = Box::pin(line.enter(from(last), name, known));
        assert!(look(&mut entry).is_pending());
        entry
    }

    fn look(entry: &mut Entry<'_>) -> Poll<Option<Turn>> {
        entry.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// The first turn, which is there at once.
    fn first(line: &Arc<Line>) -> Turn {
        let mut entry: Entry<'_> = Box::pin(line.enter(from(250), "", false));
        match look(&mut entry) {
            Poll::Ready(Some(turn)) => turn,
            _ => panic!("somebody has the turn"),
        }
    }

    /// The names in the order in which they get their turn.
    fn served(mut turn: Turn, entries: Vec<(&'static str, Entry<'_>)>) -> Vec<&'static str> {
        let mut waiting = entries;
        let mut names = Vec::new();
        while !waiting.is_empty() {
            drop(turn);
            let mut next = None;
            waiting.retain_mut(|(name, entry)| match look(entry) {
                Poll::Pending => true,
                Poll::Ready(Some(turn)) => {
                    next = Some((*name, turn));
                    false
                }
                Poll::Ready(None) => panic!("{name} lost its place"),
            });
            let (name, its) = next.unwrap();
            names.push(name);
            turn = its;
        }
        names
    }

    #[test]
    fn a_known_address_goes_first_then_a_known_user_then_who_failed_least() {
        let line = Arc::new(Line::default());
        line.succeeded(from(1), "prom");
        (0..3).for_each(|_| line.failed(from(2), "guess"));
        let turn = first(&line);
        let entries = vec![
            ("guesser", enter(&line, 2, "guess", false)),
            ("stranger", enter(&line, 3, "new", false)),
            ("the same guesser's neighbour", enter(&line, 2, "new", false)),
            ("known user", enter(&line, 4, "prom", true)),
            ("known address", enter(&line, 1, "other", false)),
        ];
        let expected = ["known address", "known user", "stranger", "the same guesser's neighbour", "guesser"];
        assert_eq!(served(turn, entries), expected);
        // The line is empty: the next one has the turn at once.
        first(&line);
    }

    #[test]
    fn one_address_has_its_part_of_the_line_and_the_line_its_end() {
        let line = Arc::new(Line::default());
        let turn = first(&line);
        let is_full = |last: u8, name: &str| {
            let mut entry: Entry<'_> = Box::pin(line.enter(from(last), name, false));
            matches!(look(&mut entry), Poll::Ready(None))
        };
        let mut held: Vec<Entry<'_>> = (0..PLACES_OF_ADDRESS).map(|_| enter(&line, 1, "x", false)).collect();
        assert!(is_full(1, "x"));
        for last in 2..=4 {
            held.extend((0..PLACES_OF_ADDRESS).map(|_| enter(&line, last, "x", false)));
        }
        assert!(is_full(1, "y"));
        // Somebody who comes before them takes the last one's place: of an address of which nobody waits, or known.
        let stranger = enter(&line, 5, "x", false);
        let known = enter(&line, 5, "prom", true);
        let before = held.len();
        held.retain_mut(|entry| look(entry).is_pending());
        assert_eq!(before - held.len(), 2);
        assert!(is_full(1, "x"));
        // Who leaves frees his own.
        held.truncate(1);
        let late = enter(&line, 6, "x", false);
        let entries =
            vec![("late", late), ("first", held.remove(0)), ("stranger", stranger), ("known", known)];
        assert_eq!(served(turn, entries), ["known", "first", "stranger", "late"]);
    }

    #[test]
    fn who_left_with_the_turn_gives_it_to_the_next() {
        let line = Arc::new(Line::default());
        let turn = first(&line);
        let (gone, leaves) = (enter(&line, 1, "x", false), enter(&line, 1, "x", false));
        let mut stays = enter(&line, 1, "x", false);
        drop(gone);
        drop(turn);
        // This one has the turn, and has not looked yet.
        drop(leaves);
        assert!(matches!(look(&mut stays), Poll::Ready(Some(_))));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |text: &str| Origin::of(Peer::Address(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
