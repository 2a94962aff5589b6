//! Lanes: at most `max_connections` workers of one target. Each takes batches of runs to a session of its own.
//!
//! Owns the retry rule, and catches panics of drivers. The rule: a run that did not end is repeated on a fresh session,
//! until it was alone on one that died under it. A lane opens its session before it takes a run out of the queue: where the
//! server refuses a further session, the runs wait for the sessions that exist.
//! A lane holds `Arc`s only: a late one safely outlives its scrape and its configuration.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::backoff::LoginAttempt;
use super::database_list;
use super::pool::{GuardedSession, Lease};
use super::query_sink;
use super::value_batch;
use super::workers::Priority;
use crate::config::conditions::When;
use crate::config::foreach::Foreach;
use crate::config::query::Query;
use crate::deadline::Deadline;
use crate::driver::{Canceller, Health, Job, RowSink, Sql};
use crate::error::{Error, Reason};

use super::conditions::{self, WhenAnswer};
use super::question::NoAnswer;
use super::queue::Lane;
use super::run::{Run, RunEnd, RunSpec, StopAction, is_server_answer};
use super::session_bound::{NoPlace, SessionPlace};
use super::sessions::TargetSessions;

/// The server's own time that each query of a batch has. One that needs more runs again alone: otherwise one slow query
/// would delay its whole batch.
const BATCH_ALLOWANCE: Duration = Duration::from_millis(100);
/// The first and the last pause before a full server is asked again: it takes a moment to notice that a session has ended.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(640);
/// How many refusals of a full server one login survives, as others may take each session that was closed for it.
const MAX_REFUSALS: usize = 5;

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
fn requeue_alone(sessions: &Arc<TargetSessions>, run: &Arc<Run>) {
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
        lane.set_due(Some(by));
        let mut turn = BatchExecution {
            sessions,
            lane,
            by,
            batch: Vec::new(),
            canceller: Arc::default(),
            has_failed_beside_others: false,
            waits_for_others: false,
        };
        let goes_on = turn.run();
        if !lane.is_late() {
            lane.set_due(None);
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

/// One batch of a lane on its session.
struct BatchExecution<'a> {
    sessions: &'a Arc<TargetSessions>,
    lane: &'a Arc<Lane>,
    /// The deadline of the batch; before there is one, of the next run in the queue.
    by: Deadline,
    batch: Vec<Arc<Run>>,
    canceller: CancelHandle,
    /// Its connect failed while other lanes were at work. Counts for the back-off if none of them gets a session either.
    has_failed_beside_others: bool,
    /// It got no session as the server has no place for one more, and left the work to the target's other lanes.
    waits_for_others: bool,
}

/// What stops the session under a batch. Only whoever takes it may use it: a cancel after the session went back to the
/// pool would strike the next scrape's query.
type CancelHandle = Arc<Mutex<Option<Arc<dyn Canceller>>>>;

impl BatchExecution<'_> {
    /// False when the lane is of no more use: other lanes take what waits.
    fn run(&mut self) -> bool {
        if self.by.passed() {
            let late = || self.sessions.waited_in_line("until its deadline", self.by);
            return self.fail(&self.sessions.last_refusal().unwrap_or_else(late));
        }
        let mut lease = match self.sessions.pool.lease(self.by) {
            Ok(lease) => lease,
            Err(error) => return self.fail(&error),
        };
        let mut prepared = false;
        // After a session that died under several, each of them goes alone.
        let mut alone = false;
        loop {
            let reused = match self.open(&mut lease) {
                Ok(reused) => reused,
                Err(error) => return self.without_session(&error, lease),
            };
            if let Some(facts) = lease.facts().filter(|_| !reused) {
                self.sessions.connected(facts);
            }
            if self.batch.is_empty() {
                self.take_batch(lease.round_trip_time());
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
            let ready = reused || std::mem::replace(&mut prepared, true) || self.prepare(live, &left);
            let batch = if alone { &left[..1] } else { &left[..] };
            let health = ready.then(|| self.execute(live, batch, !reused));
            if self.canceller.lock().take().is_none() {
                live.spoil();
            }
            // A promoted standby says so with its answers.
            self.sessions.learned(live.facts());
            match health.map(|health| self.settle(batch, health, reused)) {
                None | Some(NextStep::Repeat) => {}
                Some(NextStep::Alone) => alone = true,
                Some(NextStep::Full(error)) => return self.without_session(&error, lease),
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
        if proves_nothing || batch.iter().any(|run| run.has_values_left()) {
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
        self.lane.set_due(Some(self.by));
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

    /// Opens a session where there is none; true when it was there before. A full server is asked again where another
    /// target of that server and user closes an idle session.
    fn open(&mut self, lease: &mut Lease) -> Result<bool, Error> {
        if !lease.is_empty() {
            return Ok(true);
        }
        // Where the target's own sessions fill the server, that says nothing about connecting.
        lease.reserve(self.by)?;
        if !lease.is_empty() {
            return Ok(true);
        }
        self.sessions.queue.lock().available_to(self.lane).iter().for_each(|run| run.connecting());
        let mut place = Some(self.place()?);
        // How often the server refused a place that was free, and the next pause for it to notice that it is.
        let (mut refusals, mut pause) = (0, FIRST_PAUSE);
        loop {
            // One refused password is enough: those that wait behind it fail with its reason.
            let attempt = self.sessions.admit(self.is_alone(), self.by)?;
            let error = match self.log_in(lease, &mut place, attempt) {
                Ok(reused) => return Ok(reused),
                Err(error) => error,
            };
            let alone = self.is_alone();
            let waits = refusals > 0 && pause <= LAST_PAUSE;
            // At its deadline the page would say `timeout`, and not what the server said.
            let has_time = if waits { pause <= self.by.left() / 2 } else { !self.by.passed() };
            if !error.is_server_full() || error.is_database_full() || !has_time {
                return Err(self.refused(error, alone));
            }
            if waits {
                std::thread::sleep(pause);
                pause *= 2;
                continue;
            }
            let name = &self.sessions.owner().database.name;
            let has_others =
                place.take().is_some_and(|place| self.sessions.on_server.refused(place, &error, name));
            if !alone || !has_others || refusals == MAX_REFUSALS {
                return Err(self.refused(error, alone));
            }
            place = Some(self.place()?);
            (refusals, pause) = (refusals + 1, FIRST_PAUSE);
        }
    }

    /// The server refused a session: counts for the back-off where the target has no other lane.
    fn refused(&mut self, error: Error, alone: bool) -> Error {
        if alone {
            self.sessions.backoff.lock().failed(&error);
        } else {
            self.waits_for_others = error.is_server_full();
            self.has_failed_beside_others = !self.waits_for_others;
        }
        error
    }

    /// A place for one more session on the server.
    fn place(&mut self) -> Result<SessionPlace, Error> {
        self.sessions.place(self.is_alone(), self.by).map_err(|none| match none {
            NoPlace::NotNow(error) => {
                self.waits_for_others = true;
                error
            }
            NoPlace::Held(error, _) | NoPlace::Failed(error) => error,
        })
    }

    /// Logs in once. A login goes on when the scrape that began it has left: the next one finds its session.
    fn log_in(
        &self,
        lease: &mut Lease,
        place: &mut Option<SessionPlace>,
        attempt: Option<LoginAttempt>,
    ) -> Result<bool, Error> {
        let login_by = self.by.max(Deadline::within(self.sessions.login_time()));
        lease.until(login_by);
        self.lane.log_in_until(login_by);
        let opened = lease.open(place, login_by);
        lease.until(self.by);
        self.lane.set_due(Some(self.by));
        if let Some(attempt) = attempt {
            attempt.end(opened.as_ref().err());
        }
        match &opened {
            Ok(_) => self.sessions.on_server.opened(),
            Err(error) => self.sessions.count_refusal(error),
        }
        opened
    }

    /// True when the target has no session for what waits, and no other lane that may get one.
    fn is_alone(&self) -> bool {
        self.sessions.pool.counts().idle == 0 && !self.sessions.queue.lock().has_other(self.lane)
    }

    /// No session could be opened. Where the target has others, the batch waits for those.
    fn without_session(&mut self, error: &Error, lease: Lease) -> bool {
        drop(lease);
        let idle = self.sessions.pool.counts().idle;
        let mut queue = self.sessions.queue.lock();
        let has_other = queue.has_other(self.lane);
        let is_alone = !has_other && idle == 0;
        // Where the others gave up meanwhile, this lane waits for a place in its next turn.
        let waits = is_alone && self.waits_for_others;
        if (is_alone && !waits) || self.by.passed() {
            drop(queue);
            if is_alone && self.has_failed_beside_others {
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

    /// Has a fresh session prepare what it will likely run, the batch and what waits, so that each first run is one round
    /// trip. False when that cost the session.
    fn prepare(&self, live: &mut GuardedSession, runs: &[Arc<Run>]) -> bool {
        let waiting = self.sessions.queue.lock().available_to(self.lane);
        let runs = runs.iter().chain(&waiting).filter(|run| !run.spec.cache.is_failing());
        let queries = runs.filter_map(|run| run.query());
        // A statement for another server would be an error in this one's log.
        let is_known_to_apply = |query: &&Query| {
            query.when.as_deref().is_none_or(|when| matches!(conditions::known(live, when), Some(Ok(()))))
        };
        let mut statements: Vec<&Sql> = queries.filter(is_known_to_apply).map(|query| &*query.sql).collect();
        statements.sort_unstable_by_key(|sql| sql.name());
        statements.dedup_by_key(|sql| sql.name());
        if statements.len() < 2 {
            return true;
        }
        // A locked table delays this, too. Half of the time stays for running the others unprepared.
        let by = self.by.or_within(self.by.left() / 2);
        matches!(guarded(|| live.prepare(&statements, by)), Health::Clean)
    }

    fn execute(&self, live: &mut GuardedSession, runs: &[Arc<Run>], fresh: bool) -> Health {
        guarded(|| match runs {
            [run] if run.query().is_none() => self.ping(live, run),
            _ => match self.applying(live, runs, fresh) {
                Ok(runs) if runs.is_empty() => Health::Clean,
                Ok(runs) if runs[0].group.is_some() => self.snapshot(live, &runs, fresh),
                Ok(runs) => self.queries(live, &runs, fresh),
                Err(error) => Health::Lost(error),
            },
        })
    }

    fn ping(&self, live: &mut GuardedSession, run: &Arc<Run>) -> Health {
        let health = live.ping(self.by);
        if let Health::Clean | Health::Spent = health {
            self.sessions.finish(run, RunEnd::Good(Arc::default()), Duration::ZERO, true);
        }
        health
    }

    /// Ends the runs whose `when` does not hold on this session, and returns the others.
    fn applying<'r>(
        &self,
        live: &mut GuardedSession,
        runs: &'r [Arc<Run>],
        fresh: bool,
    ) -> Result<Vec<&'r Arc<Run>>, Error> {
        let mut answered = fresh;
        if runs.iter().any(|run| when(run).is_some_and(|when| when.role.is_some())) {
            // Once a scrape on each session, however many batches it serves.
            let since = runs.iter().map(|run| run.began.elapsed()).min().unwrap_or_default();
            if !fresh && live.notes.get(conditions::ROLE_NOTE, since).is_none() {
                live.refresh(self.by).usable()?;
                live.notes.set(conditions::ROLE_NOTE, true);
                self.sessions.learned(live.facts());
            }
            answered = true;
        }
        let (mut apply, mut skipped) = (Vec::new(), Vec::new());
        for run in runs {
            let Some(when) = when(run) else {
                apply.push(run);
                continue;
            };
            let relations = || run.spec.owner.database.relations();
            match conditions::decide(live, when, relations, self.by) {
                Err(none) => self.without_answer(run, none, fresh).usable()?,
                Ok(WhenAnswer { applies, is_fresh }) => {
                    answered |= is_fresh;
                    match applies {
                        Ok(()) => apply.push(run),
                        Err(cause) => skipped.push((run, cause)),
                    }
                }
            }
        }
        // Facts of an old session do not prove that the target is up.
        if !answered && apply.is_empty() && !skipped.is_empty() {
            live.ping(self.by).usable()?;
        }
        for (run, cause) in skipped {
            self.sessions.finish(run, RunEnd::Skipped(cause), Duration::ZERO, true);
        }
        Ok(apply)
    }

    fn snapshot(&self, live: &mut GuardedSession, runs: &[&Arc<Run>], fresh: bool) -> Health {
        match live.snapshot(true, self.by) {
            Health::Clean => {}
            other => return other,
        }
        match self.queries(live, runs, fresh) {
            Health::Clean => live.snapshot(false, self.by),
            other => other,
        }
    }

    /// Runs of one statement go together, each with `foreach` by itself.
    fn queries(&self, live: &mut GuardedSession, runs: &[&Arc<Run>], fresh: bool) -> Health {
        let mut parts =
            runs.chunk_by(|one, other| foreach(one).is_none() && foreach(other).is_none()).peekable();
        while let Some(part) = parts.next() {
            let health = match (part, foreach(part[0])) {
                ([run], Some((query, values))) => self.values(live, run, query, values, fresh),
                _ => self.statements(live, part, fresh),
            };
            if parts.peek().is_none() {
                return health;
            }
            // The other parts go to another session.
            if let Err(error) = health.usable() {
                return Health::Lost(error);
            }
        }
        Health::Clean
    }

    /// Runs a query for each value of its `foreach`, but for those that have ended on a session before.
    fn values(
        &self,
        live: &mut GuardedSession,
        run: &Arc<Run>,
        query: &Query,
        foreach: &Foreach,
        fresh: bool,
    ) -> Health {
        let by = self.by.or_within(query.timeout.unwrap_or(Duration::MAX));
        let context = &run.spec.owner.context;
        let mut values = match run.take_values() {
            Some(values) => values,
            None => match value_batch::read(live, query, foreach, context, by) {
                Ok(values) => values,
                Err(none) => {
                    let health = self.without_answer(run, none, fresh);
                    // Else the values are read again, on another session.
                    return if run.is_over() { health } else { health.or_lost() };
                }
            },
        };
        if fresh || foreach.sql().is_some() {
            run.reach();
        }
        let has_none = values.left().is_empty();
        let health = value_batch::run(live, run, query, &mut values, fresh);
        let is_pinged = has_none && matches!(health, Health::Clean);
        if is_pinged || values.is_reached() {
            run.reach();
        }
        if values.left().is_empty() {
            let took = values.took();
            self.sessions.finish(run, values.end(query), took, false);
            return health;
        }
        run.keep_values(values);
        health.or_lost()
    }

    /// Ends a run for which a question failed. One whose session died under it goes on on another one.
    fn without_answer(&self, run: &Arc<Run>, NoAnswer { error, health }: NoAnswer, fresh: bool) -> Health {
        if let Some(error) = error {
            let reached = fresh || is_server_answer(&error);
            let end = RunEnd::of_error(run.query(), error);
            self.sessions.finish(run, end, Duration::ZERO, reached);
        }
        health
    }

    fn statements(&self, live: &mut GuardedSession, runs: &[&Arc<Run>], fresh: bool) -> Health {
        let together = runs.len() > 1 && runs[0].group.is_none();
        let whole = |query: &Query| query.timeout.unwrap_or(Duration::MAX).min(self.by.left());
        let queries = runs.iter().filter_map(|run| Some((run.query()?, *run)));
        let mut sinks: Vec<(&Query, Duration, Box<dyn RowSink + '_>)> = queries
            .map(|(query, run)| {
                let limited = together && run.has_run() && whole(query) > BATCH_ALLOWANCE;
                let ended: query_sink::OnEnd<'_> = Box::new(move |verdict, took| {
                    if limited && verdict.as_ref().is_err_and(|error| error.reason() == Reason::Timeout) {
                        return requeue_alone(self.sessions, run);
                    }
                    let reached = fresh || verdict.as_ref().err().is_none_or(is_server_answer);
                    self.sessions.finish(run, RunEnd::of_result(query, verdict), took, reached);
                });
                let RunSpec { owner, cache, .. } = &run.spec;
                let allowance = if limited { BATCH_ALLOWANCE } else { whole(query) };
                let sink = match run.spec.discover() {
                    Some(discover) => database_list::sink(discover, ended),
                    None => query_sink::sink(query, &owner.context, &[], cache.size_hint(), ended),
                };
                (query, allowance, sink)
            })
            .collect();
        let max_cell_bytes = runs[0].spec.owner.context.max_cell_bytes;
        let jobs = sinks.iter_mut().map(|(query, allowance, sink)| Job {
            sql: &query.sql,
            allowance: *allowance,
            parameters: &[],
            max_cell_bytes,
            sink: sink.as_mut(),
        });
        live.run(&mut jobs.collect::<Vec<_>>(), self.by)
    }
}

fn foreach(run: &Run) -> Option<(&Query, &Foreach)> {
    run.query().and_then(|query| Some((query, query.foreach.as_deref()?)))
}

fn when(run: &Run) -> Option<&When> {
    run.query().and_then(|query| query.when.as_deref())
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

/// A panic in a driver costs the session.
pub(super) fn guarded(work: impl FnOnce() -> Health) -> Health {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Health::Lost(Error::new(Reason::Panic, panic_text(panic.as_ref()))))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("a bug in sql-exporter, please report it: {}", text.unwrap_or_else(|| "no message".to_owned()))
}
