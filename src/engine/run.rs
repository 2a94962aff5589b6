//! One run of one query on one target. It ends once, and all scrapes that wait for it get its outcome.
//!
//! Knows no session and no thread: `lane` ends runs, `result_cache` decides which scrape joins one.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::foreach::ForeachRun;
use super::query_sink::{RenderedResult, SampleContext};
use crate::clock::Timestamp;
use crate::config::discover::Discover;
use crate::config::query::{Query, WithoutPrivilege};
use crate::config::target::TargetConfig;
use crate::deadline::Deadline;
use crate::error::{Error, Reason};
use crate::telemetry::{QueryLabels, TargetLabels};

use super::result_cache::ResultCache;

/// Why a query does not run on a server, which is not a fault.
#[derive(Debug, Clone)]
pub enum SkipCause {
    /// A condition of `when` does not hold: which one, and what the server has instead.
    Condition(String),
    /// The user cannot read a relation of `when.relation`.
    Unreadable(Error),
    /// The server refused the statement for lack of a privilege (`without_privilege: skip`).
    Refused(Error),
}

impl SkipCause {
    /// The value of the label `reason` of `query_skipped`.
    pub fn reason(&self) -> &'static str {
        if self.lacks().is_some() { "permission" } else { "when" }
    }

    /// What the user may not do, where that is the cause.
    pub fn lacks(&self) -> Option<&Error> {
        match self {
            SkipCause::Condition(_) => None,
            SkipCause::Unreadable(error) | SkipCause::Refused(error) => Some(error),
        }
    }

    /// In words.
    pub fn text(&self) -> &str {
        match self {
            SkipCause::Condition(text) => text,
            SkipCause::Unreadable(error) | SkipCause::Refused(error) => error.message(),
        }
    }

    /// With the names of target and query on the error.
    pub fn named(self, name: impl FnOnce(Error) -> Error) -> SkipCause {
        match self {
            SkipCause::Condition(text) => SkipCause::Condition(text),
            SkipCause::Unreadable(error) => SkipCause::Unreadable(name(error)),
            SkipCause::Refused(error) => SkipCause::Refused(name(error)),
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone)]
pub enum RunEnd {
    /// Its blocks.
    Good(Arc<RenderedResult>),
    /// The blocks of some values of its `foreach`, and why there are none of the others.
    Partial(Arc<RenderedResult>, Error),
    /// It does not apply to the server as it is now.
    Skipped(SkipCause),
    /// Why there are none.
    Failed(Error),
}

impl RunEnd {
    /// The end of a query with this result.
    pub fn of_result(query: &Query, result: Result<RenderedResult, Error>) -> RunEnd {
        match result {
            Ok(rendered) => RunEnd::Good(Arc::new(rendered)),
            Err(error) => RunEnd::of_error(Some(query), error),
        }
    }

    /// The end of a query that the server answered with an error.
    pub fn of_error(query: Option<&Query>, error: Error) -> RunEnd {
        let skips = query.is_some_and(|query| query.without_privilege == WithoutPrivilege::Skip);
        if skips && error.reason() == Reason::Permission {
            RunEnd::Skipped(SkipCause::Refused(error))
        } else {
            RunEnd::Failed(error)
        }
    }

    /// Why blocks are missing, where that is a fault.
    pub fn error(&self) -> Option<&Error> {
        match self {
            RunEnd::Failed(error) | RunEnd::Partial(_, error) => Some(error),
            RunEnd::Good(_) | RunEnd::Skipped(_) => None,
        }
    }

    /// The blocks that there are.
    pub fn rendered(&self) -> Option<&Arc<RenderedResult>> {
        match self {
            RunEnd::Good(rendered) | RunEnd::Partial(rendered, _) => Some(rendered),
            RunEnd::Failed(_) | RunEnd::Skipped(_) => None,
        }
    }
}

/// True for a failure that the server itself reported: it is there. A timeout with the server's own code is one.
pub fn is_server_answer(error: &Error) -> bool {
    match error.reason() {
        Reason::Timeout => error.sqlstate().is_some(),
        reason => !matches!(reason, Reason::Lost | Reason::Connect | Reason::Wedged | Reason::Panic),
    }
}

/// How a run ended. Shared by all scrapes that waited for it.
#[derive(Debug, Clone)]
pub struct RunOutcome {
    /// Its result.
    pub end: RunEnd,
    /// How long the query took; zero when it never started.
    pub took: Duration,
    /// True when a session was opened or answered for this run: the target is up.
    pub reached: bool,
    /// When the run began, on the monotonic clock: the age of its result.
    pub began: Instant,
    /// When the run ended: for `query_last_success_timestamp_seconds`.
    pub ended: Timestamp,
}

/// What a scrape needs of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// The target's query of this index.
    Query(usize),
    /// The query that lists databases (`discover`).
    Discovery,
    /// One protocol ping: no query needs the target, and `target_up` is to be known.
    Ping,
}

/// A run's number in a scrape, and its outcome.
pub type EndedRun = (usize, RunOutcome);

/// Where a scrape waits for its runs. Its thread wakes once, when the last of them has ended.
#[derive(Default)]
pub struct CompletionLatch {
    state: Mutex<LatchState>,
    all: Condvar,
}

#[derive(Default)]
struct LatchState {
    ended: Vec<EndedRun>,
    expected: usize,
}

impl CompletionLatch {
    fn report(&self, number: usize, outcome: RunOutcome) {
        let mut state = self.state.lock();
        state.ended.push((number, outcome));
        if state.ended.len() >= state.expected {
            self.all.notify_one();
        }
    }

    /// Waits until as many runs as expected have ended, at most until `by`. Returns those that have.
    pub fn wait(&self, expected: usize, by: Deadline) -> Vec<EndedRun> {
        let mut state = self.state.lock();
        state.expected = expected;
        while state.ended.len() < expected && !self.all.wait_until(&mut state, by.moment()).timed_out() {}
        std::mem::take(&mut state.ended)
    }
}

/// What to do about a run that is late: cancel its statement, give its worker's permit back. One for all runs of a
/// batch: what it does a second time has no effect.
pub type StopAction = Arc<dyn Fn() + Send + Sync>;

/// What is known of a query's time. The greatest starts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExpectedCost {
    /// It was stopped after this time when it last ran. Such queries come last, or a few of them would hold every session
    /// and starve the others at each scrape. The one that was stopped soonest goes first.
    Stopped(Reverse<Duration>),
    /// It never ended.
    Unknown,
    /// It took this time. The longest starts first.
    Took(Duration),
}

/// The target whose name and labels a run's samples and counters have, as one configuration has it. Outlives a reload
/// while runs that began before it are under way.
pub struct SampleOwner {
    /// The configuration.
    pub config: Arc<TargetConfig>,
    /// The labels that all its samples have.
    pub context: SampleContext,
}

impl SampleOwner {
    /// The target's name and labels on its counters.
    pub fn labels(&self) -> TargetLabels<'_> {
        TargetLabels { name: &self.config.name, labels: &self.config.labels }
    }

    /// The same for one of its queries.
    pub fn query_labels<'a>(&'a self, query: &'a Query) -> QueryLabels<'a> {
        QueryLabels { target: self.labels(), query: &query.name, collector: &query.collector }
    }

    /// `error` with the names of target and query.
    pub fn named(&self, query: Option<&Query>, error: Error) -> Error {
        let error = error.on_target(&self.config.name);
        match query {
            Some(query) => error.in_query(&query.name),
            None => error,
        }
    }
}

/// What a run executes, for which target, and where it is remembered. All of it stays with the run: a reload may change
/// the target's queries meanwhile.
#[derive(Clone)]
pub struct RunSpec {
    /// The target of the scrape that started it.
    pub owner: Arc<SampleOwner>,
    /// `None` for a ping.
    pub query: Option<Arc<Query>>,
    /// What is remembered of the query.
    pub cache: Arc<ResultCache>,
}

impl RunSpec {
    /// How the target finds databases, where the run is that of the query that lists them.
    pub fn discover(&self) -> Option<&Discover> {
        let discover = self.owner.config.discover.as_deref()?;
        let is_its = self.query.as_ref().is_some_and(|query| Arc::ptr_eq(query, &discover.query));
        is_its.then_some(discover)
    }
}

#[derive(Default)]
struct RunState {
    outcome: Option<RunOutcome>,
    /// The scrapes that wait for it, each with the number under which it knows the run.
    waiting: Vec<(usize, Arc<CompletionLatch>)>,
    stop: Option<StopAction>,
    /// A lane works on it since.
    working: Option<Instant>,
    /// A lane has tried to get a session for it.
    tried: bool,
    /// It is believed to be cheap, so that it may share a batch.
    quick: bool,
    /// A session was opened for it.
    reached: bool,
    /// Its `when` holds: the session that said so has ended.
    applies: bool,
    /// The values of its `foreach` that have ended, while no lane works on the others.
    values: Option<ForeachRun>,
}

/// A run under way, or ended.
pub struct Run {
    /// What is executed.
    pub spec: RunSpec,
    /// When the query must have ended.
    pub by: Deadline,
    /// When a scrape requested it.
    pub began: Instant,
    /// Decides when it starts.
    pub cost: ExpectedCost,
    /// The snapshot it belongs to: all runs of one number go to one session together. `None` = none.
    pub group: Option<u64>,
    /// Somebody ends it, or has ended it.
    ending: AtomicBool,
    state: Mutex<RunState>,
}

impl Run {
    /// A run that nobody executes yet.
    pub fn new(spec: RunSpec, by: Deadline, cost: ExpectedCost, quick: bool, group: Option<u64>) -> Self {
        Run {
            spec,
            by,
            began: Instant::now(),
            cost,
            group,
            ending: AtomicBool::new(false),
            state: Mutex::new(RunState { quick, ..RunState::default() }),
        }
    }

    /// The query that is executed; `None` for a ping.
    pub fn query(&self) -> Option<&Query> {
        self.spec.query.as_deref()
    }

    /// Takes what is known of the values of its `foreach`.
    pub fn take_values(&self) -> Option<ForeachRun> {
        self.state.lock().values.take()
    }

    /// Some of its values have ended; the others go to another session.
    pub fn keep_values(&self, values: ForeachRun) {
        self.state.lock().values = Some(values);
    }

    /// Its `when` holds, as a session said that ended with that.
    pub fn keep_applies(&self) {
        self.state.lock().applies = true;
    }

    /// Takes what [`Run::keep_applies`] has kept.
    pub fn take_applies(&self) -> bool {
        std::mem::take(&mut self.state.lock().applies)
    }

    /// True where it has answers of sessions that have ended, and goes on with them on another one.
    pub fn has_answers_kept(&self) -> bool {
        let state = self.state.lock();
        state.values.is_some() || state.applies
    }

    /// True while it may share a batch.
    pub fn is_quick(&self) -> bool {
        self.state.lock().quick
    }

    /// False for one that never ended.
    pub fn has_run(&self) -> bool {
        self.cost != ExpectedCost::Unknown
    }

    /// It is in a batch with others.
    pub fn join(&self) {
        self.state.lock().quick = true;
    }

    /// It was too slow for a batch: it waits again, to run alone.
    pub fn leave_batch(&self) {
        self.state.lock().quick = false;
        self.wait_again();
    }

    /// It goes back into the queue: the session that it was taken for is not there.
    pub fn wait_again(&self) {
        let mut state = self.state.lock();
        (state.stop, state.working) = (None, None);
    }

    /// A lane tries to get a session, on which this run may be the first.
    pub fn note_try(&self) {
        self.state.lock().tried = true;
    }

    /// A session was opened for this run: whatever becomes of it, its target is up.
    pub fn reach(&self) {
        self.state.lock().reached = true;
    }

    /// How this run ended, ending now.
    pub fn outcome(&self, end: RunEnd, took: Duration, reached: bool) -> RunOutcome {
        let reached = reached || self.state.lock().reached;
        RunOutcome { end, took, reached, began: self.began, ended: Timestamp::now() }
    }

    /// Hands the outcome to `scrape` under `number` when the run has ended; at once when it has.
    pub fn tell(&self, number: usize, scrape: &Arc<CompletionLatch>) {
        let mut state = self.state.lock();
        match &state.outcome {
            Some(outcome) => scrape.report(number, outcome.clone()),
            None => state.waiting.push((number, Arc::clone(scrape))),
        }
    }

    /// Takes the right to end the run: the first call returns true, and its caller ends it. From then on it counts as over;
    /// those who wait get the outcome after the result cache has it.
    #[must_use]
    pub fn claim(&self) -> bool {
        !self.ending.swap(true, Ordering::AcqRel)
    }

    /// Ends the run and hands the outcome to all who wait for it. Only for whoever has claimed it.
    pub fn end(&self, outcome: RunOutcome) {
        let mut state = self.state.lock();
        for (number, scrape) in state.waiting.drain(..) {
            scrape.report(number, outcome.clone());
        }
        state.outcome = Some(outcome);
        state.stop = None;
    }

    /// True when it has ended with a result.
    pub fn is_good(&self) -> bool {
        self.state.lock().outcome.as_ref().is_some_and(|outcome| outcome.end.rendered().is_some())
    }

    /// True once the run has ended, or ends now.
    pub fn is_over(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// A lane works on it from now on. `stop` is what to do when the run is late; it replaces that of an earlier call.
    pub fn working(&self, stop: StopAction) {
        let mut state = self.state.lock();
        state.tried = true;
        if state.outcome.is_none() {
            state.stop = Some(stop);
            state.working.get_or_insert_with(Instant::now);
        }
    }

    /// For how long a lane has worked on it; zero while none does.
    pub fn worked(&self) -> Duration {
        self.state.lock().working.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Why it failed, with the names of target and query. Of a timeout also how long it waited, where that was most of the
    /// time: else the time that it had seems to be all of the scrape's.
    pub fn explained(&self, error: Error) -> Error {
        let (age, worked) = (self.began.elapsed(), self.worked());
        let error = if error.reason() == Reason::Timeout && !worked.is_zero() && worked < age / 2 {
            let waited = age.saturating_sub(worked);
            let message = format!("{}; it had waited {waited:.1?} for a session", error.message());
            error.with_message(message)
        } else {
            error
        };
        self.spec.owner.named(self.query(), error)
    }

    /// True once a lane has taken it, or has tried to get a session for it: it did not only wait for a worker.
    pub fn was_tried(&self) -> bool {
        self.state.lock().tried
    }

    /// Takes what is to be done about a run that is late; `None` when it is queued, has ended or was taken before.
    #[must_use]
    pub fn take_stop(&self) -> Option<StopAction> {
        self.state.lock().stop.take()
    }
}

/// A ping of a target that is configured nowhere.
#[cfg(test)]
pub(crate) fn spec() -> RunSpec {
    use crate::metric::labels::LabelLimit;
    let config = TargetConfig { name: "a".to_owned(), driver: "sqlite", ..TargetConfig::default() };
    let context = SampleContext::new(None, &[], LabelLimit { bytes: 1024, truncate: false });
    RunSpec {
        owner: Arc::new(SampleOwner { config: Arc::new(config), context }),
        query: None,
        cache: Arc::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        Run::new(spec(), Deadline::within(Duration::from_secs(1)), ExpectedCost::Unknown, false, None)
    }

    fn skipped() -> RunEnd {
        RunEnd::Skipped(SkipCause::Condition("when.role".to_owned()))
    }

    fn end(run: &Run, end: RunEnd) {
        assert!(run.claim());
        run.end(run.outcome(end, Duration::ZERO, true));
    }

    #[test]
    fn everybody_who_waits_is_told_once_and_late_comers_at_once() {
        let scrape = Arc::default();
        let run = run();
        run.tell(3, &scrape);
        end(&run, skipped());
        run.tell(4, &scrape);
        let ended = scrape.wait(2, Deadline::within(Duration::from_secs(20)));
        let numbers: Vec<usize> = ended.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [3, 4]);
    }

    /// Whether the server ended it, or its scrape gave it up.
    #[test]
    fn a_timeout_says_how_long_the_run_waited_where_that_was_most_of_its_time() {
        let mut run = run();
        let explained = |run: &Run, reason| run.explained(Error::new(reason, "no end")).message().to_owned();
        run.began = Instant::now().checked_sub(Duration::from_secs(60)).expect("an uptime of a minute");
        assert_eq!(explained(&run, Reason::Timeout), "no end", "no lane worked on it");
        run.working(Arc::new(|| {}));
        while run.worked().is_zero() {}
        assert!(explained(&run, Reason::Timeout).starts_with("no end; it had waited "));
        assert_eq!(explained(&run, Reason::Sql), "no end");
        run.began = Instant::now();
        assert_eq!(explained(&run, Reason::Timeout), "no end", "it had all of the time");
    }

    #[test]
    fn one_of_many_threads_ends_a_run() {
        let run = run();
        let claims = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| run.claim())).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .filter(|claimed| *claimed)
                .count()
        });
        assert_eq!(claims, 1);
        assert!(run.is_over(), "nobody begins it anew while it ends");
    }

    #[test]
    fn who_waits_while_a_run_ends_is_told_of_its_end() {
        let (run, scrape) = (run(), Arc::default());
        assert!(run.claim());
        run.tell(0, &scrape);
        run.end(run.outcome(skipped(), Duration::ZERO, true));
        assert_eq!(scrape.wait(1, Deadline::within(Duration::from_secs(20))).len(), 1);
    }

    #[test]
    fn who_waits_leaves_at_the_deadline_with_what_has_come() {
        let scrape = Arc::default();
        let (one, other) = (run(), run());
        one.tell(0, &scrape);
        other.tell(1, &scrape);
        end(&one, skipped());
        let ended = scrape.wait(2, Deadline::within(Duration::from_millis(20)));
        assert_eq!(ended.len(), 1);
    }

    #[test]
    fn only_the_time_on_a_session_counts_as_work() {
        let run = run();
        assert!(!run.was_tried());
        run.note_try();
        assert!(run.was_tried() && run.worked().is_zero());
        run.working(Arc::new(|| {}));
        std::thread::sleep(Duration::from_millis(1));
        assert!(!run.worked().is_zero());
        run.wait_again();
        assert!(run.was_tried() && run.worked().is_zero() && run.take_stop().is_none());
    }
}
