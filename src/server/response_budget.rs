//! One budget for the bytes of all answers that are made or under way: clients that do not read hold their answers for as
//! long as the write deadline allows, and many of them must not fill the memory.
//!
//! A page's size is known when it is complete. Before that, what a page of this request took the last time is reserved;
//! where that does not fit, the request waits a moment for others to be read. What several answers share (the blocks of a
//! run that many scrapes take part in) counts once, and requests that will share it reserve it once. Small answers do not
//! count, and one alone always fits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{BodyPart, BodySize, LargeResponse, Response};

/// Answers up to this size are not counted: pages of errors, probes.
const SMALL: usize = 64 << 10;
/// Reserved for the first page of a path.
const UNKNOWN: usize = 4 << 20;
/// How long a request waits for memory.
const PATIENCE: Duration = Duration::from_secs(1);
/// Targets whose size is remembered, up to a length; for others the path alone counts.
const REMEMBERED: usize = 1024;
const LONGEST_TARGET: usize = 256;

/// The budget.
pub(super) struct ResponseBudget {
    limit: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    used: usize,
    /// BodySize that answers share, by where they lie: how many answers hold them.
    shared: HashMap<usize, usize>,
    /// The most that answers took, by path: there are few.
    paths: HashMap<String, BodySize>,
    /// What answers took last, by the whole target.
    targets: HashMap<String, BodySize>,
    /// LargeResponse answers that are being made.
    making: HashMap<LargeResponse, Making>,
}

/// Answers to like requests that are being made.
struct Making {
    count: usize,
    /// When the last one began that reserved for what they share.
    began: Instant,
}

impl State {
    fn fits(&self, bytes: usize, limit: usize) -> bool {
        bytes == 0 || self.used == 0 || self.used.saturating_add(bytes) <= limit
    }
}

/// What one answer takes of the budget; given back when dropped.
pub(super) struct Hold<'m> {
    memory: &'m ResponseBudget,
    /// BodySize of its own.
    own: usize,
    /// Where shared bytes lie, and how many.
    shared: Vec<(usize, usize)>,
    /// What is being made.
    making: Option<LargeResponse>,
}

/// BodySize that count: none of what is small.
fn counted(bytes: usize) -> usize {
    if bytes <= SMALL { 0 } else { bytes }
}

impl ResponseBudget {
    /// A budget of so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        ResponseBudget { limit, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Nothing, for an answer that is small, or whose size nobody can tell.
    pub(super) fn nothing(&self) -> Hold<'_> {
        Hold { memory: self, own: 0, shared: Vec::new(), making: None }
    }

    /// Room for a large answer, by what such an answer took before. Blocks for a moment where there is none; `None`: there
    /// is still none.
    pub(super) fn reserve(&self, large: LargeResponse) -> Option<Hold<'_>> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        loop {
            let (bytes, shares) = state.expected(&large);
            if state.fits(bytes, self.limit) {
                state.used += bytes;
                state.begin(large.clone(), shares);
                return Some(Hold { memory: self, own: bytes, shared: Vec::new(), making: Some(large) });
            }
            if self.freed.wait_until(&mut state, until).timed_out() {
                return None;
            }
        }
    }

    /// Remembers what an answer took while it was made. The path alone stands for the largest.
    pub(super) fn learn(&self, large: &LargeResponse, response: &Response) {
        let now = bytes_of(response);
        let size = BodySize {
            own: now.own + response.uncompressed.own,
            shared: now.shared + response.uncompressed.shared,
        };
        let mut state = self.state.lock();
        let of_path = state.paths.entry(large.path.clone()).or_default();
        if size.sum() > of_path.sum() {
            *of_path = size;
        }
        if large.target.len() <= LONGEST_TARGET {
            if state.targets.len() >= REMEMBERED {
                state.targets.clear();
            }
            state.targets.insert(large.target.clone(), size);
        }
    }
}

impl State {
    /// What an answer will take, and whether others that are being made share a part of it, which is theirs then.
    fn expected(&self, large: &LargeResponse) -> (usize, bool) {
        let known = self.targets.get(&large.target).or_else(|| self.paths.get(&large.path));
        let size = known.copied().unwrap_or(BodySize { own: UNKNOWN, shared: 0 });
        let shares = self.making.get(large).is_some_and(|making| making.began.elapsed() <= large.together);
        (counted(if shares { size.own } else { size.sum() }), shares)
    }

    fn begin(&mut self, large: LargeResponse, shares: bool) {
        let now = Instant::now();
        let making = self.making.entry(large).or_insert(Making { count: 0, began: now });
        making.count += 1;
        if !shares {
            making.began = now;
        }
    }

    fn made(&mut self, large: &LargeResponse) {
        if let Some(making) = self.making.get_mut(large) {
            making.count -= 1;
            if making.count == 0 {
                self.making.remove(large);
            }
        }
    }
}

impl Hold<'_> {
    /// Holds what an answer really takes instead of what was reserved; false when that does not fit.
    pub(super) fn settle(&mut self, response: &Response) -> bool {
        let size = bytes_of(response);
        let is_small = size.sum() <= SMALL;
        let own = if is_small { 0 } else { size.own };
        let shared: Vec<(usize, usize)> = match is_small {
            true => Vec::new(),
            false => response.body.iter().filter_map(shared).collect(),
        };
        let mut state = self.memory.state.lock();
        state.used -= std::mem::take(&mut self.own);
        if let Some(large) = self.making.take() {
            state.made(&large);
        }
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
        if let Some(large) = self.making.take() {
            state.made(&large);
        }
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

fn bytes_of(response: &Response) -> BodySize {
    let mut bytes = BodySize::default();
    for part in &response.body {
        match part {
            BodyPart::Owned(owned) => bytes.own += owned.len(),
            BodyPart::Shared(_) => bytes.shared += part.bytes().len(),
        }
    }
    bytes
}

/// Where bytes lie that others may hold too, and how many. While an answer holds them no others can lie there.
fn shared(part: &BodyPart) -> Option<(usize, usize)> {
    match part {
        BodyPart::Owned(_) => None,
        BodyPart::Shared(bytes) => Some((Arc::as_ptr(bytes).addr(), part.bytes().len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    fn owned(bytes: usize) -> Response {
        Response::new(200, Vec::new(), vec![BodyPart::Owned(vec![0; bytes])])
    }

    /// A request for a page, which shares its rows with those that come within a minute.
    fn large(path: &str, query: &str) -> LargeResponse {
        let target = format!("{path}?{query}");
        LargeResponse { path: path.to_owned(), target, together: Duration::from_secs(60) }
    }

    fn used(memory: &ResponseBudget) -> usize {
        memory.state.lock().used
    }

    #[test]
    fn what_does_not_fit_is_refused_and_fits_when_others_have_gone() {
        let memory = ResponseBudget::new(10 * MB);
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
        let memory = ResponseBudget::new(MB);
        let mut alone = memory.nothing();
        assert!(alone.settle(&owned(3 * MB)));
        assert!(!memory.nothing().settle(&owned(MB)));
    }

    #[test]
    fn what_answers_share_counts_once() {
        let memory = ResponseBudget::new(10 * MB);
        let block: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(vec![0_u8; 8 * MB]);
        let page = || {
            let body = vec![BodyPart::Owned(vec![0; 100]), BodyPart::Shared(Arc::clone(&block))];
            Response::new(200, Vec::new(), body)
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
    fn no_number_of_other_requests_makes_a_path_forget_its_size() {
        let memory = ResponseBudget::new(100 * MB);
        memory.learn(&large("/probe", "target=a"), &owned(30 * MB));
        for junk in 0..REMEMBERED + 10 {
            memory.learn(&large("/probe", &format!("target=b&x={junk}")), &owned(100));
        }
        assert_eq!(memory.reserve(large("/probe", "target=c")).unwrap().own, 30 * MB);
    }

    #[test]
    fn room_is_reserved_by_what_the_same_request_took() {
        let memory = ResponseBudget::new(100 * MB);
        let compressed = Response { uncompressed: BodySize { own: 50 * MB, shared: 0 }, ..owned(10 * MB) };
        memory.learn(&large("/metrics", ""), &compressed);
        let hold = memory.reserve(large("/metrics", "")).unwrap();
        assert_eq!(used(&memory), 60 * MB);
        assert!(memory.reserve(large("/metrics", "")).is_none(), "waits, and does not fit");
        assert!(memory.reserve(large("/metrics", "junk=1")).is_none(), "an unknown query is as large as any");
        memory.learn(&large("/metrics", "target=small"), &owned(100));
        let small = memory.reserve(large("/metrics", "target=small")).unwrap();
        assert_eq!((small.own, used(&memory)), (0, 60 * MB));
        assert_eq!(memory.reserve(large("/probe", "")).unwrap().own, UNKNOWN);
        drop((hold, small));
        assert_eq!(used(&memory), 0);
        assert!(memory.state.lock().making.is_empty());
    }

    #[test]
    fn like_requests_reserve_once_what_they_will_share() {
        let memory = ResponseBudget::new(100 * MB);
        let page = Response { uncompressed: BodySize { own: 0, shared: 60 * MB }, ..owned(MB) };
        memory.learn(&large("/metrics", ""), &page);
        let holds: Vec<_> = (0..20).map(|_| memory.reserve(large("/metrics", "")).unwrap()).collect();
        assert_eq!(used(&memory), (60 + 20) * MB);
        let later = LargeResponse { together: Duration::ZERO, ..large("/metrics", "") };
        assert!(memory.reserve(later).is_none(), "a run of its own");
        drop(holds);
        assert_eq!(used(&memory), 0);
        let mut alone = memory.reserve(large("/metrics", "")).unwrap();
        assert!(alone.settle(&owned(MB)));
        let next = memory.reserve(large("/metrics", "")).unwrap();
        assert_eq!(next.own, 61 * MB, "nobody makes such a page any more");
    }

    #[test]
    fn who_waits_gets_the_room_that_comes_free() {
        let memory = ResponseBudget::new(MB);
        let mut first = memory.nothing();
        assert!(first.settle(&owned(MB)));
        memory.learn(&large("/metrics", ""), &owned(MB));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| memory.reserve(large("/metrics", "")).is_some());
            // Before or while it waits.
            drop(first);
            assert!(waits.join().unwrap());
        });
    }
}
