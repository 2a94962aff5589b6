//! Lanes: at most `max_connections` workers of one target. Each takes batches of runs to a session of its own.
//!
//! Owns the retry rule: a run that did not end is repeated on a fresh session, until it was alone on one that died under
//! it. A lane opens its session before it takes a run out of the queue: where the server refuses a further session, the runs wait
//! for the sessions that exist.
//! A lane holds `Arc`s only: a late one safely outlives its scrape and its configuration.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::execution::BatchExecution;
use super::guarded_session::catching_panics;
use super::pool::Lease;
use super::queue::{Lane, LaneWork};
use super::run::{Run, StopAction};
use super::session_opening::{NoSession, NoSessionCause, SessionOpening};
use super::sessions::TargetSessions;
use super::workers::Priority;
use crate::deadline::Deadline;
use crate::driver::{Canceller, Health};
use crate::error::{Error, Reason};

/// Starts as many lanes as the queued runs need and the limits allow.
pub fn start(sessions: &Arc<TargetSessions>) {
    let most = sessions.places();
    let lanes = sessions.queue.lock().new_lanes(most, sessions.useful_lanes());
    let priority = if sessions.is_doubtful() { Priority::Low } else { Priority::Normal };
    for lane in lanes {
        let (own, place) = (Arc::clone(sessions), Arc::clone(&lane));
        if let Err(error) = sessions.start_worker(priority, lane.by, move || run_lane(&own, &place)) {
            let stranded = sessions.queue.lock().give_up(&lane);
            stranded.iter().for_each(|run| sessions.fail(run, &error, false));
        }
    }
}

/// Puts a run that was too slow for its batch back into the queue, to run alone.
pub(super) fn requeue_alone(sessions: &Arc<TargetSessions>, run: &Arc<Run>) {
    run.leave_batch();
    sessions.queue.lock().push(Arc::clone(run));
    start(sessions);
}

/// The life of one lane: batch after batch until nothing is left for it, until it gets no session while other lanes have
/// one, or until it is late.
fn run_lane(sessions: &Arc<TargetSessions>, lane: &Arc<Lane>) {
    lane.start();
    while !lane.is_late() {
        let Some(by) = sessions.queue.lock().next_by(lane) else { break };
        lane.begin(LaneWork::Batch(by));
        let mut batch = LaneBatch { sessions, lane, by, batch: Vec::new(), canceller: Arc::default() };
        // Else the target would have a lane less for ever.
        let goes_on = catching_panics(|| batch.run()).unwrap_or_else(|error| batch.fail(&error));
        if !lane.is_late() {
            lane.begin(LaneWork::None);
        }
        if !goes_on {
            break;
        }
    }
    sessions.queue.lock().leave(lane);
    sessions.no_longer_busy();
    // Runs that came meanwhile, and runs whose deadline is later than this lane's, are for a new lane.
    start(sessions);
    let queue = sessions.queue.lock();
    let is_unused = !queue.has_waiting() || !queue.has_other(lane);
    drop(queue);
    if is_unused {
        sessions.close_unused();
    }
}

/// What becomes of the runs that a session did not end.
enum NextStep {
    /// They go to another session together.
    Repeat,
    /// They go to another session one by one, which shows the one that kills it.
    Alone,
    /// The pooler had no server session for them.
    Full(Error),
}

/// One batch of a lane, on one session after another.
struct LaneBatch<'a> {
    sessions: &'a Arc<TargetSessions>,
    lane: &'a Arc<Lane>,
    /// The deadline of the batch; before there is one, of the next run in the queue.
    by: Deadline,
    batch: Vec<Arc<Run>>,
    canceller: CancelHandle,
}

/// What stops the session under a batch. Only whoever takes it may use it: a cancel after the session went back to the
/// pool would strike the next scrape's query.
type CancelHandle = Arc<Mutex<Option<Arc<dyn Canceller>>>>;

impl LaneBatch<'_> {
    /// False when the lane is of no more use: other lanes take what waits.
    fn run(&mut self) -> bool {
        if self.by.passed() {
            let late = || self.sessions.waited_in_line("until its deadline", self.by);
            return self.fail(&self.sessions.backoff.lock().last().cloned().unwrap_or_else(late));
        }
        let mut lease = match self.sessions.pool.lease(self.by) {
            Ok(lease) => lease,
            Err(error) => return self.fail(&error),
        };
        let mut prepared = false;
        // After a session that died under several, each of them goes alone.
        let mut alone = false;
        loop {
            let opening = SessionOpening { sessions: self.sessions, lane: self.lane, by: self.by };
            let reused = match opening.open(&mut lease) {
                Ok(reused) => reused,
                Err(none) => return self.without_session(&none, lease),
            };
            if self.batch.is_empty() {
                self.take_batch(lease.opened().map_or(Duration::ZERO, |live| live.round_trip_time()));
                lease.until(self.by);
            }
            let left: Vec<Arc<Run>> = self.left().cloned().collect();
            if left.is_empty() {
                // Another lane was quicker, or the scrape has given up.
                return true;
            }
            if !reused {
                left.iter().for_each(|run| run.reach());
            }
            let live = match lease.session(self.by) {
                Ok(live) => live,
                Err(error) => return self.fail(&error),
            };
            *self.canceller.lock() = Some(live.canceller());
            let (sessions, by, fresh) = (self.sessions, self.by, !reused);
            let mut execution = BatchExecution { sessions, live: &mut *live, by, fresh };
            let ready = reused || std::mem::replace(&mut prepared, true) || {
                let waiting = self.sessions.queue.lock().available_to(self.lane);
                execution.prepare(left.iter().chain(&waiting))
            };
            let batch = if alone { &left[..1] } else { &left[..] };
            let health = ready.then(|| execution.run(batch));
            if self.canceller.lock().take().is_none() {
                live.note_stop();
            }
            // A promoted standby says so with its answers.
            self.sessions.learned(live.facts());
            match health.map(|health| self.settle(batch, health, reused)) {
                None | Some(NextStep::Repeat) => {}
                Some(NextStep::Alone) => alone = true,
                Some(NextStep::Full(error)) => return self.without_session(&error.into(), lease),
            }
            if self.left().next().is_none() {
                return true;
            }
            if self.by.passed() {
                let text = "its session ended, and no time was left to run it on another one";
                return self.fail_batch(&Error::new(Reason::Timeout, text));
            }
        }
    }

    /// Ends the run that is to blame for a dead session, and says what becomes of the rest.
    fn settle(&self, batch: &[Arc<Run>], health: Health, reused: bool) -> NextStep {
        let Health::Lost(error) = health else {
            let odd = Error::new(Reason::Protocol, "the session left the query without an end");
            batch.iter().filter(|run| self.has(run)).for_each(|run| self.sessions.fail(run, &odd, true));
            return NextStep::Repeat;
        };
        if batch.iter().any(|run| !self.has(run)) {
            // A run before them ended with the session. What is left never ran, or is read again.
            if let Some(error) = broken_snapshot(batch, &error) {
                self.fail_batch(&error);
            }
            return NextStep::Repeat;
        }
        if error.is_server_full() {
            return NextStep::Full(error);
        }
        let proves_nothing = reused && error.reason() != Reason::Panic;
        if proves_nothing || batch.iter().any(|run| run.has_answers_kept()) {
            return NextStep::Repeat;
        }
        match batch {
            // In a snapshot the others cannot be read at the same moment as one that goes alone.
            [head, ..] if batch.len() == 1 || head.group.is_some() => {
                self.sessions.fail(head, &error, !reused);
                NextStep::Repeat
            }
            _ => NextStep::Alone,
        }
    }

    /// Takes the next batch for the session that is there, if there still is one.
    fn take_batch(&mut self, round_trip: Duration) {
        if self.lane.is_late() {
            return;
        }
        self.batch = self.sessions.queue.lock().next(self.lane, round_trip);
        let Some(first) = self.batch.first() else { return };
        self.by = first.by;
        self.lane.begin(LaneWork::Batch(self.by));
        let stop = self.stop();
        self.batch.iter().for_each(|run| run.working(Arc::clone(&stop)));
    }

    /// The runs of the batch that this lane still has to end.
    fn left(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.batch.iter().filter(|run| self.has(run))
    }

    /// True for a run of the batch that has not ended, and did not leave it for a session of its own.
    fn has(&self, run: &Run) -> bool {
        let together = self.batch.len() > 1 && run.group.is_none();
        !run.is_over() && (run.is_quick() || !together)
    }

    /// No session could be opened. Where the target has others, the batch waits for those.
    fn without_session(&mut self, NoSession { error, cause }: &NoSession, lease: Lease) -> bool {
        drop(lease);
        let idle = self.sessions.pool.counts().idle;
        let mut queue = self.sessions.queue.lock();
        let has_other = queue.has_other(self.lane);
        let is_alone = !has_other && idle == 0;
        // Where the others gave up meanwhile, this lane waits for a place in its next turn.
        let waits = is_alone && *cause == NoSessionCause::NoPlaceBesideOthers;
        if (is_alone && !waits) || self.by.passed() {
            drop(queue);
            if is_alone && *cause == NoSessionCause::LoginBesideOthers {
                // The others gave up meanwhile.
                self.sessions.backoff.lock().failed(error);
            }
            return self.fail(error);
        }
        if !waits {
            self.sessions.fell_short(error);
        }
        for run in std::mem::take(&mut self.batch).into_iter().filter(|run| !run.is_over()) {
            run.wait_again();
            queue.push(run);
        }
        if has_other {
            // At once: of lanes that fail together the last one must not wait for the others.
            queue.leave(self.lane);
        }
        // Without another lane the next turn of this one has the session that is idle.
        !has_other
    }

    /// Ends the batch and what waits for a session like it: all of it, or what has no time left.
    fn fail(&mut self, error: &Error) -> bool {
        let by = if self.by.passed() { self.by } else { self.lane.by };
        self.batch.extend(self.sessions.queue.lock().take_until(by));
        self.batch.iter().for_each(|run| self.sessions.fail(run, error, false));
        true
    }

    /// Ends what is left of the batch.
    fn fail_batch(&self, error: &Error) -> bool {
        self.left().for_each(|run| self.sessions.fail(run, error, true));
        true
    }

    /// What happens when the scrape gives up on runs of the batch while this lane still works on them.
    fn stop(&self) -> StopAction {
        let (lane, canceller) = (Arc::clone(self.lane), Arc::clone(&self.canceller));
        let (shared, disposal) = (Arc::clone(&self.sessions.shared), self.sessions.pool.disposal().clone());
        Arc::new(move || {
            if lane.give_up() {
                shared.workers.release_late();
            }
            if let Some(canceller) = canceller.lock().take() {
                disposal.cancel(canceller);
            }
        })
    }
}

/// Why the rest of a snapshot cannot be read any more: its session ended, and some of it was read and delivered. Where
/// nothing was, the rest starts a new snapshot.
fn broken_snapshot(batch: &[Arc<Run>], error: &Error) -> Option<Error> {
    batch[0].group?;
    if !batch.iter().any(|run| run.is_good()) {
        return None;
    }
    let text = format!("the snapshot ended before this query was read from it: {}", error.message());
    Some(error.clone().with_message(text))
}
