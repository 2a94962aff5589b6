//! One budget for the bytes of all responses that are being made or sent: a client that does not read holds its response
//! for as long as the write timeout allows, and many of them must not fill the memory.
//!
//! A page's size is known when it is complete. Before that, what a page of this request took the last time is reserved;
//! where that does not fit, the request waits a moment for other clients to read. What several responses share (the
//! blocks of a run that many scrapes join) counts once, and requests that will share it reserve it once. Small responses
//! do not count, and a response always fits when it is the only one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{BodyPart, BodySize, LargeResponse, Response, SharedBytes};

/// Responses up to this size are not counted: error messages, health checks.
const SMALL: usize = 64 << 10;
/// Reserved for the first page of a path.
const FIRST_PAGE: usize = 4 << 20;
/// How long a request waits for memory.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// Requests whose size is remembered, up to a length; for others the path alone counts.
const MAX_REMEMBERED: usize = 1024;
const MAX_REMEMBERED_LENGTH: usize = 256;

/// The budget.
pub(super) struct ResponseBudget {
    limit: usize,
    state: Mutex<BudgetState>,
    freed: Condvar,
}

#[derive(Default)]
struct BudgetState {
    used: usize,
    /// Bytes that responses share, by their address: how many responses hold them.
    shared: HashMap<usize, usize>,
    /// The most that responses took, by path: there are few.
    by_path: HashMap<String, BodySize>,
    /// What responses took last, by the whole request.
    by_request: HashMap<String, BodySize>,
    /// Large responses that are being made.
    in_progress: HashMap<LargeResponse, InProgress>,
}

/// Responses to like requests that are being made.
struct InProgress {
    count: usize,
    /// When the last one began that reserved for what they share.
    began: Instant,
}

/// What one response takes of the budget; returned when dropped.
pub(super) struct Reservation<'b> {
    budget: &'b ResponseBudget,
    /// Bytes of its own.
    own: usize,
    /// The shared bytes that are counted for it. Held, as others could be at the same address once these are gone.
    shared: Vec<SharedBytes>,
    /// What is being made.
    large: Option<LargeResponse>,
}

impl ResponseBudget {
    /// A budget of `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        ResponseBudget { limit, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Reserves for a large response what such a response took before, and nothing for a small one (`None`). Blocks for
    /// a moment where that does not fit; returns `None` if it still does not fit then.
    pub(super) fn reserve(&self, large: Option<LargeResponse>) -> Option<Reservation<'_>> {
        let Some(large) = large else {
            return Some(Reservation { budget: self, own: 0, shared: Vec::new(), large: None });
        };
        let until = Instant::now() + MAX_WAIT;
        let mut state = self.state.lock();
        loop {
            let (own, shares) = state.expected(&large);
            if state.fits(own, self.limit) {
                state.used += own;
                state.begin(large.clone(), shares);
                return Some(Reservation { budget: self, own, shared: Vec::new(), large: Some(large) });
            }
            if self.freed.wait_until(&mut state, until).timed_out() {
                return None;
            }
        }
    }

    /// Remembers what a response took while it was made. For a path, this is the largest.
    pub(super) fn learn(&self, large: &LargeResponse, response: &Response) {
        let (body, before) = (size_of(response), response.uncompressed);
        let size = BodySize { own: body.own + before.own, shared: body.shared + before.shared };
        let mut state = self.state.lock();
        let of_path = state.by_path.entry(large.path.clone()).or_default();
        if size.sum() > of_path.sum() {
            *of_path = size;
        }
        if large.request.len() <= MAX_REMEMBERED_LENGTH {
            if state.by_request.len() >= MAX_REMEMBERED {
                state.by_request.clear();
            }
            state.by_request.insert(large.request.clone(), size);
        }
    }
}

impl BudgetState {
    fn fits(&self, bytes: usize, limit: usize) -> bool {
        bytes == 0 || self.used == 0 || self.used.saturating_add(bytes) <= limit
    }

    /// What a response will take, and whether others in progress share a part of it, which they have reserved.
    fn expected(&self, large: &LargeResponse) -> (usize, bool) {
        let known = self.by_request.get(&large.request).or_else(|| self.by_path.get(&large.path));
        let size = known.copied().unwrap_or(BodySize { own: FIRST_PAGE, shared: 0 });
        let shares =
            self.in_progress.get(large).is_some_and(|other| other.began.elapsed() <= large.shared_for);
        let bytes = if shares { size.own } else { size.sum() };
        (if bytes <= SMALL { 0 } else { bytes }, shares)
    }

    fn begin(&mut self, large: LargeResponse, shares: bool) {
        let now = Instant::now();
        let progress = self.in_progress.entry(large).or_insert(InProgress { count: 0, began: now });
        progress.count += 1;
        if !shares {
            progress.began = now;
        }
    }

    fn end(&mut self, large: Option<LargeResponse>) {
        let Some(large) = large else { return };
        if let Some(progress) = self.in_progress.get_mut(&large) {
            progress.count -= 1;
            if progress.count == 0 {
                self.in_progress.remove(&large);
            }
        }
    }
}

impl Reservation<'_> {
    /// Replaces what was reserved by what the response really takes; false when that does not fit.
    pub(super) fn settle(&mut self, response: &Response) -> bool {
        let size = size_of(response);
        let (mut own, mut shared) = (0, Vec::new());
        if size.sum() > SMALL {
            own = size.own;
            shared = response.body.iter().filter_map(shared_bytes).map(Arc::clone).collect();
        }
        let mut state = self.budget.state.lock();
        state.used -= std::mem::take(&mut self.own);
        state.end(self.large.take());
        let mut new: HashMap<usize, usize> =
            shared.iter().map(|bytes| (address(bytes), length(bytes))).collect();
        new.retain(|address, _| !state.shared.contains_key(address));
        let more = own + new.values().sum::<usize>();
        let fits = state.fits(more, self.budget.limit);
        if fits {
            state.used += more;
            self.own = own;
            for bytes in &shared {
                *state.shared.entry(address(bytes)).or_default() += 1;
            }
            self.shared = shared;
        }
        drop(state);
        self.budget.freed.notify_all();
        fits
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock();
        state.used -= self.own;
        state.end(self.large.take());
        for bytes in &self.shared {
            let holders = state.shared.get_mut(&address(bytes));
            // Invariant: what is in `self.shared` was counted there, and is counted once.
            let Some(holders) = holders else { continue };
            *holders -= 1;
            if *holders == 0 {
                state.shared.remove(&address(bytes));
                state.used -= length(bytes);
            }
        }
        drop(state);
        self.budget.freed.notify_all();
    }
}

fn size_of(response: &Response) -> BodySize {
    let mut size = BodySize::default();
    for part in &response.body {
        match part {
            BodyPart::Owned(owned) => size.own += owned.len(),
            BodyPart::Shared(_) => size.shared += part.bytes().len(),
        }
    }
    size
}

fn shared_bytes(part: &BodyPart) -> Option<&SharedBytes> {
    match part {
        BodyPart::Owned(_) => None,
        BodyPart::Shared(bytes) => Some(bytes),
    }
}

/// By which they are known.
fn address(bytes: &SharedBytes) -> usize {
    Arc::as_ptr(bytes).addr()
}

fn length(bytes: &SharedBytes) -> usize {
    (**bytes).as_ref().len()
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
        LargeResponse { path: path.to_owned(), request: target, shared_for: Duration::from_secs(60) }
    }

    fn nothing(budget: &ResponseBudget) -> Reservation<'_> {
        budget.reserve(None).unwrap()
    }

    fn used(budget: &ResponseBudget) -> usize {
        budget.state.lock().used
    }

    #[test]
    fn what_does_not_fit_is_refused_and_fits_when_others_have_gone() {
        let budget = ResponseBudget::new(10 * MB);
        let (mut first, mut second) = (nothing(&budget), nothing(&budget));
        assert!(first.settle(&owned(6 * MB)));
        assert!(!second.settle(&owned(5 * MB)));
        assert!(nothing(&budget).settle(&owned(SMALL)), "a small one always fits");
        drop(first);
        assert!(second.settle(&owned(5 * MB)));
        drop(second);
        assert_eq!(used(&budget), 0);
    }

    #[test]
    fn one_alone_fits_whatever_its_size() {
        let budget = ResponseBudget::new(MB);
        let mut alone = nothing(&budget);
        assert!(alone.settle(&owned(3 * MB)));
        assert!(!nothing(&budget).settle(&owned(MB)));
    }

    #[test]
    fn what_answers_share_counts_once() {
        let budget = ResponseBudget::new(10 * MB);
        let block: SharedBytes = Arc::new(vec![0_u8; 8 * MB]);
        let page = || {
            let body = vec![BodyPart::Owned(vec![0; 100]), BodyPart::Shared(Arc::clone(&block))];
            Response::new(200, Vec::new(), body)
        };
        let mut holds: Vec<Reservation<'_>> = (0..20).map(|_| nothing(&budget)).collect();
        assert!(holds.iter_mut().all(|hold| hold.settle(&page())));
        assert_eq!(used(&budget), 8 * MB + 20 * 100);
        holds.truncate(1);
        assert_eq!(used(&budget), 8 * MB + 100);
        drop(holds);
        assert_eq!(used(&budget), 0);
    }

    /// As soon as a response is sent, the allocator may give the address of its rows to those of another one.
    #[test]
    fn rows_at_the_address_of_others_that_are_gone_count_for_themselves() {
        let budget = ResponseBudget::new(10 * MB);
        let page = |bytes: usize| {
            let rows: SharedBytes = Arc::new(vec![0_u8; bytes]);
            Response::new(200, Vec::new(), vec![BodyPart::Shared(rows)])
        };
        let (mut first, mut second) = (nothing(&budget), nothing(&budget));
        let sent = page(MB);
        assert!(first.settle(&sent));
        drop(sent);
        let next = page(3 * MB);
        assert!(second.settle(&next));
        assert_eq!(used(&budget), 4 * MB);
        drop(first);
        assert_eq!(used(&budget), 3 * MB);
        drop((second, next));
        assert_eq!(used(&budget), 0);
    }

    #[test]
    fn no_number_of_other_requests_makes_a_path_forget_its_size() {
        let budget = ResponseBudget::new(100 * MB);
        budget.learn(&large("/probe", "target=a"), &owned(30 * MB));
        for junk in 0..MAX_REMEMBERED + 10 {
            budget.learn(&large("/probe", &format!("target=b&x={junk}")), &owned(100));
        }
        assert_eq!(budget.reserve(Some(large("/probe", "target=c"))).unwrap().own, 30 * MB);
    }

    #[test]
    fn room_is_reserved_by_what_the_same_request_took() {
        let budget = ResponseBudget::new(100 * MB);
        let compressed = Response { uncompressed: BodySize { own: 50 * MB, shared: 0 }, ..owned(10 * MB) };
        budget.learn(&large("/metrics", ""), &compressed);
        let hold = budget.reserve(Some(large("/metrics", ""))).unwrap();
        assert_eq!(used(&budget), 60 * MB);
        assert!(budget.reserve(Some(large("/metrics", ""))).is_none(), "waits, and does not fit");
        assert!(
            budget.reserve(Some(large("/metrics", "junk=1"))).is_none(),
            "an unknown query is as large as any"
        );
        budget.learn(&large("/metrics", "target=small"), &owned(100));
        let small = budget.reserve(Some(large("/metrics", "target=small"))).unwrap();
        assert_eq!((small.own, used(&budget)), (0, 60 * MB));
        assert_eq!(budget.reserve(Some(large("/probe", ""))).unwrap().own, FIRST_PAGE);
        drop((hold, small));
        assert_eq!(used(&budget), 0);
        assert!(budget.state.lock().in_progress.is_empty());
    }

    #[test]
    fn like_requests_reserve_once_what_they_will_share() {
        let budget = ResponseBudget::new(100 * MB);
        let page = Response { uncompressed: BodySize { own: 0, shared: 60 * MB }, ..owned(MB) };
        budget.learn(&large("/metrics", ""), &page);
        let holds: Vec<_> = (0..20).map(|_| budget.reserve(Some(large("/metrics", ""))).unwrap()).collect();
        assert_eq!(used(&budget), (60 + 20) * MB);
        let later = LargeResponse { shared_for: Duration::ZERO, ..large("/metrics", "") };
        assert!(budget.reserve(Some(later)).is_none(), "a run of its own");
        drop(holds);
        assert_eq!(used(&budget), 0);
        let mut alone = budget.reserve(Some(large("/metrics", ""))).unwrap();
        assert!(alone.settle(&owned(MB)));
        let next = budget.reserve(Some(large("/metrics", ""))).unwrap();
        assert_eq!(next.own, 61 * MB, "nobody makes such a page any more");
    }

    #[test]
    fn who_waits_gets_the_room_that_comes_free() {
        let budget = ResponseBudget::new(MB);
        let mut first = nothing(&budget);
        assert!(first.settle(&owned(MB)));
        budget.learn(&large("/metrics", ""), &owned(MB));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| budget.reserve(Some(large("/metrics", ""))).is_some());
            // Before or while it waits.
            drop(first);
            assert!(waits.join().unwrap());
        });
    }
}
