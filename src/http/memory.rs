//! One budget for the bytes of all answers that are made or under way: clients that do not read hold their answers for as
//! long as the write deadline allows, and many of them must not fill the memory.
//!
//! A page's size is known when it is complete. Before that, what a page of this request took the last time is reserved;
//! where that does not fit, the request waits a moment for others to be read. What several answers share (the blocks of a
//! run that many scrapes take part in) counts once. Small answers do not count, and one alone always fits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Part, Response};

/// Answers up to this size are not counted: pages of errors, probes.
const SMALL: usize = 64 << 10;
/// Reserved for the first page of a path.
const UNKNOWN: usize = 4 << 20;
/// How long a request waits for memory.
const PATIENCE: Duration = Duration::from_secs(1);
/// Requests whose size is remembered, by targets up to a length; beyond, the path alone counts.
const REMEMBERED: usize = 1024;
const LONGEST_TARGET: usize = 256;

/// The budget.
pub(super) struct Memory {
    limit: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    used: usize,
    /// Bytes that answers share, by where they lie: how many answers hold them.
    shared: HashMap<usize, usize>,
    /// What answers took, by path and by the whole target.
    sizes: HashMap<String, usize>,
}

impl State {
    fn fits(&self, bytes: usize, limit: usize) -> bool {
        bytes == 0 || self.used == 0 || self.used.saturating_add(bytes) <= limit
    }
}

/// What one answer takes of the budget; given back when dropped.
pub(super) struct Hold<'m> {
    memory: &'m Memory,
    /// Bytes of its own.
    own: usize,
    /// Where shared bytes lie, and how many.
    shared: Vec<(usize, usize)>,
}

/// Bytes that count: none of what is small.
fn counted(bytes: usize) -> usize {
    if bytes <= SMALL { 0 } else { bytes }
}

impl Memory {
    /// A budget of so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Memory { limit, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Nothing, for an answer that is small before it is known.
    pub(super) fn nothing(&self) -> Hold<'_> {
        Hold { memory: self, own: 0, shared: Vec::new() }
    }

    /// Room for the answer to a request, by what such an answer took before. Blocks for a moment where there is none;
    /// `None`: there is still none.
    pub(super) fn reserve(&self, path: &str, query: &str) -> Option<Hold<'_>> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        let known = state.sizes.get(&target(path, query)).or_else(|| state.sizes.get(path));
        let own = counted(known.copied().unwrap_or(UNKNOWN));
        while !state.fits(own, self.limit) {
            if self.freed.wait_until(&mut state, until).timed_out() {
                return None;
            }
        }
        state.used += own;
        Some(Hold { memory: self, own, shared: Vec::new() })
    }

    /// Remembers what an answer took while it was made. The path alone stands for the largest.
    pub(super) fn learn(&self, path: &str, query: &str, response: &Response) {
        let size = response.rendered.saturating_add(length(response));
        let mut state = self.state.lock();
        if state.sizes.len() >= REMEMBERED {
            state.sizes.clear();
        }
        let of_path = state.sizes.entry(path.to_owned()).or_default();
        *of_path = size.max(*of_path);
        let target = target(path, query);
        if target.len() <= LONGEST_TARGET {
            state.sizes.insert(target, size);
        }
    }
}

impl Hold<'_> {
    /// Holds what an answer really takes instead of what was reserved; false when that does not fit.
    pub(super) fn settle(&mut self, response: &Response) -> bool {
        let mut state = self.memory.state.lock();
        state.used -= std::mem::take(&mut self.own);
        let shared = response.body.iter().filter_map(shared);
        let shared: Vec<(usize, usize)> =
            if length(response) <= SMALL { Vec::new() } else { shared.collect() };
        let all_shared: usize = shared.iter().map(|(_, bytes)| bytes).sum();
        let own = counted(length(response)).saturating_sub(all_shared);
        let mut new: HashMap<usize, usize> = shared.iter().copied().collect();
        new.retain(|at, _| !state.shared.contains_key(at));
        let more = own + new.values().sum::<usize>();
        let fits = state.fits(more, self.memory.limit);
        if fits {
            state.used += more;
            self.own = own;
            for (at, _) in &shared {
                *state.shared.entry(*at).or_default() += 1;
            }
            self.shared = shared;
        }
        drop(state);
        self.memory.freed.notify_all();
        fits
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut state = self.memory.state.lock();
        state.used -= self.own;
        for (at, bytes) in self.shared.drain(..) {
            let holders = state.shared.get_mut(&at);
            // Invariant: whoever is in `self.shared` was counted there, and is counted once.
            let Some(holders) = holders else { continue };
            *holders -= 1;
            if *holders == 0 {
                state.shared.remove(&at);
                state.used -= bytes;
            }
        }
        drop(state);
        self.memory.freed.notify_all();
    }
}

fn length(response: &Response) -> usize {
    response.body.iter().map(|part| part.bytes().len()).sum()
}

/// Where bytes lie that others may hold too, and how many. While an answer holds them no others can lie there.
fn shared(part: &Part) -> Option<(usize, usize)> {
    match part {
        Part::Owned(_) => None,
        Part::Shared(bytes) => Some((Arc::as_ptr(bytes).addr(), part.bytes().len())),
    }
}

fn target(path: &str, query: &str) -> String {
    format!("{path}?{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    fn owned(bytes: usize) -> Response {
        Response { status: 200, headers: Vec::new(), body: vec![Part::Owned(vec![0; bytes])], rendered: 0 }
    }

    fn used(memory: &Memory) -> usize {
        memory.state.lock().used
    }

    #[test]
    fn what_does_not_fit_is_refused_and_fits_when_others_have_gone() {
        let memory = Memory::new(10 * MB);
        let (mut first, mut second) = (memory.nothing(), memory.nothing());
        assert!(first.settle(&owned(6 * MB)));
        assert!(!second.settle(&owned(5 * MB)));
        assert!(memory.nothing().settle(&owned(SMALL)), "a small one always fits");
        drop(first);
        assert!(second.settle(&owned(5 * MB)));
        drop(second);
        assert_eq!(used(&memory), 0);
    }

    #[test]
    fn one_alone_fits_whatever_its_size() {
        let memory = Memory::new(MB);
        let mut alone = memory.nothing();
        assert!(alone.settle(&owned(3 * MB)));
        assert!(!memory.nothing().settle(&owned(MB)));
    }

    #[test]
    fn what_answers_share_counts_once() {
        let memory = Memory::new(10 * MB);
        let block: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(vec![0_u8; 8 * MB]);
        let page = || {
            let body = vec![Part::Owned(vec![0; 100]), Part::Shared(Arc::clone(&block))];
            Response { status: 200, headers: Vec::new(), body, rendered: 0 }
        };
        let mut holds: Vec<Hold<'_>> = (0..20).map(|_| memory.nothing()).collect();
        assert!(holds.iter_mut().all(|hold| hold.settle(&page())));
        assert_eq!(used(&memory), 8 * MB + 20 * 100);
        holds.truncate(1);
        assert_eq!(used(&memory), 8 * MB + 100);
        drop(holds);
        assert_eq!(used(&memory), 0);
    }

    #[test]
    fn room_is_reserved_by_what_the_same_request_took() {
        let memory = Memory::new(100 * MB);
        let compressed = Response { rendered: 50 * MB, ..owned(10 * MB) };
        memory.learn("/metrics", "", &compressed);
        let hold = memory.reserve("/metrics", "").unwrap();
        assert_eq!(used(&memory), 60 * MB);
        assert!(memory.reserve("/metrics", "").is_none(), "waits, and does not fit");
        assert!(memory.reserve("/metrics", "junk=1").is_none(), "an unknown query is as large as any");
        memory.learn("/metrics", "target=small", &owned(100));
        let small = memory.reserve("/metrics", "target=small").unwrap();
        assert_eq!((small.own, used(&memory)), (0, 60 * MB));
        assert_eq!(memory.reserve("/probe", "").unwrap().own, UNKNOWN);
        drop((hold, small));
        assert_eq!(used(&memory), 0);
    }

    #[test]
    fn who_waits_gets_the_room_that_comes_free() {
        let memory = Memory::new(MB);
        let mut first = memory.nothing();
        assert!(first.settle(&owned(MB)));
        memory.learn("/metrics", "", &owned(MB));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| memory.reserve("/metrics", "").is_some());
            // Before or while it waits.
            drop(first);
            assert!(waits.join().unwrap());
        });
    }
}
