//! One target at work: its sessions, its lanes, what it remembers between scrapes, and when it is left alone.
//!
//! A target ends runs, counts them and says once when it goes down or comes back. It knows no page.

pub mod apply;
pub mod backoff;
pub mod lane;
pub mod memory;
mod rooms;
pub mod run;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::deadline::Deadline;
use crate::driver::tls::Demand;
use crate::driver::{Endpoint, Facts};
use crate::error::{Error, Reason};
use crate::plan;
use crate::plan::query::Query;
use crate::pool::{Figures, Pool, Settings};
use crate::query::{Context, Rendered, Skipped};
use crate::telemetry::{Bearer, Left, Sessions, Subject};
use crate::workers::Line;

use backoff::Backoff;
use lane::Queue;
use memory::{Asked, Change, Memory, Past, Terms};
use rooms::Rooms;
use run::{End, Outcome, Run, Work};

pub use shared::Shared;

/// One configured database and everything that lives between its scrapes.
pub struct Target {
    /// The configuration.
    pub plan: Arc<plan::target::Target>,
    /// What all its samples bear.
    pub context: Context,
    /// The database shares this machine's cores.
    is_here: bool,
    pool: Pool,
    queue: Mutex<Queue>,
    memory: Memory,
    rooms: Rooms,
    backoff: Mutex<Backoff>,
    facts: Mutex<Option<Facts>>,
    down: Mutex<Option<Error>>,
    doubtful: AtomicBool,
    snapshots: AtomicU64,
    shared: Arc<Shared>,
}

impl Target {
    /// A target that has no session yet. `None` where its driver is not built in.
    #[must_use]
    pub fn new(plan: Arc<plan::target::Target>, context: Context, shared: Arc<Shared>) -> Option<Self> {
        let settings = Settings {
            max_connections: plan.max_connections,
            idle_timeout: plan.idle_timeout,
            max_lifetime: plan.max_lifetime,
        };
        let endpoint = Arc::clone(plan.endpoint.as_ref()?);
        let is_here = endpoint.demand() == Demand::Local;
        let pool = Pool::new(endpoint, &settings, &shared.scheduler, &shared.disposal);
        let memory = Memory::new(plan.queries.len());
        let (queue, backoff) = Default::default();
        let rooms = Rooms::new(plan.queries.len());
        let (facts, down, doubtful, snapshots) = Default::default();
        Some(Target {
            plan,
            context,
            is_here,
            pool,
            queue,
            memory,
            rooms,
            backoff,
            facts,
            down,
            doubtful,
            snapshots,
            shared,
        })
    }

    /// Reuses, joins or lines up one run for each work. New ones begin with [`Target::start`].
    pub fn ask(&self, works: &[Work], by: Deadline, budget: Duration) -> Vec<Asked> {
        let asked = if self.plan.snapshot && !works.contains(&Work::Ping) {
            let group = self.snapshots.fetch_add(1, Ordering::Relaxed);
            self.memory.ask_together(works, group, by, budget)
        } else {
            works.iter().map(|work| self.memory.ask(*work, self.terms(*work), by, budget)).collect()
        };
        let refusal = self.refusal();
        for asked in &asked {
            match (asked, &refusal) {
                (Asked::Started(run), Some(error)) => {
                    self.finish(run, End::Failed(error.clone()), Duration::ZERO, false);
                }
                (Asked::Started(run), None) => self.queue.lock().push(Arc::clone(run)),
                (Asked::Joined(_), _) => self.shared.telemetry.joined(),
                (Asked::Reused(_), _) => {}
            }
        }
        asked
    }

    /// The result that stands in for a query that failed (`keep_last`).
    #[must_use]
    pub fn kept(&self, index: usize) -> Option<Arc<Rendered>> {
        let work = Work::Query(index);
        self.memory.kept(work, self.terms(work))
    }

    /// Why nothing can run now: in back-off, or wedged. Whether a refused password was changed is for a lane to find
    /// out: a `password_command` takes time.
    fn refusal(&self) -> Option<Error> {
        let most = self.plan.max_connections as usize;
        let wedged = || {
            let text = format!("all {most} sessions are held by queries that did not stop at their deadline");
            self.queue.lock().is_wedged(most).then(|| Error::new(Reason::Wedged, text))
        };
        self.held_back().filter(|error| error.reason() != Reason::Auth).or_else(wedged)
    }

    /// Why the last attempt to open a session failed; `None` once one succeeded.
    fn last_refusal(&self) -> Option<Error> {
        self.backoff.lock().last().cloned()
    }

    /// Why no session may be opened now: the last attempt failed, and its pause is not over.
    fn held_back(&self) -> Option<Error> {
        self.backoff.lock().left().map(|(left, error)| {
            error.clone().with_hint(format!("next attempt in {:.0} s", left.as_secs_f64().ceil()))
        })
    }

    /// The same, unless a refused password was replaced by now. Blocks for a `password_command`, at most until `by`.
    fn locked_out(&self, by: Deadline) -> Option<Error> {
        let error = self.held_back()?;
        let changed = |endpoint: &Arc<dyn Endpoint>| endpoint.has_new_password(by);
        if error.reason() == Reason::Auth && self.plan.endpoint.as_ref().is_some_and(changed) {
            self.backoff.lock().succeeded();
            return None;
        }
        Some(error)
    }

    /// Starts as many lanes as there is work and room for.
    pub fn start(self: &Arc<Self>) {
        let most = self.plan.max_connections as usize;
        let (lanes, quick) = self.queue.lock().enter(most);
        let line = match self.is_doubtful() {
            true => Line::Doubtful,
            false if quick && self.is_here => Line::InTurns,
            false => Line::Regular,
        };
        for lane in lanes {
            let (target, place) = (Arc::clone(self), Arc::clone(&lane));
            let work = move || lane::work(&target, &place);
            if let Err(error) = self.shared.workers.start(line, lane.by, work) {
                let stranded = self.queue.lock().give_up(&lane);
                stranded
                    .iter()
                    .for_each(|run| self.finish(run, End::Failed(error.clone()), Duration::ZERO, false));
            }
        }
    }

    /// Gives up on a run at a scrape's deadline: what that scrape sees is a timeout. A run whose own deadline
    /// has passed too is stopped in the server; a joined one with a later deadline goes on for others.
    pub fn abandon(&self, run: &Arc<Run>, budget: Duration) -> Outcome {
        let stop = if run.by.passed() { run.take_stop() } else { None };
        let text = match stop {
            None if run.by.passed() => {
                format!("waited {budget:.1?} in line: every session or worker was busy")
            }
            _ => format!("no end within {budget:.1?}"),
        };
        let error = self.named(run.work, Error::new(Reason::Timeout, text));
        let outcome = run.outcome(End::Failed(error.clone()), run.worked(), false);
        if let Some(stop) = stop {
            stop();
        }
        if run.by.passed() {
            self.finish(run, End::Failed(error), outcome.took, false);
        }
        outcome
    }

    /// Ends a run: remembers, counts and tells everybody who waits.
    pub fn finish(&self, run: &Run, end: End, took: Duration, reached: bool) {
        if run.is_over() {
            return;
        }
        let end = match end {
            End::Failed(error) => End::Failed(self.named(run.work, error)),
            good => good,
        };
        if let Work::Query(index) = run.work {
            match &end {
                End::Good(rendered) => {
                    self.rooms.keep(index, rendered);
                    self.count_skipped(&self.plan.queries[index], rendered.skipped);
                }
                End::Skipped => {}
                End::Failed(error) => self.count_error(index, error.reason()),
            }
        }
        let outcome = run.outcome(end, took, reached);
        self.memory.keep(run, self.terms(run.work), &outcome);
        run.end(outcome);
    }

    /// Counts a failed query that had run well, too: one that lost against another at merge.
    pub fn count_error(&self, index: usize, reason: Reason) {
        self.shared.telemetry.failed(self.subject(&self.plan.queries[index]), reason);
    }

    fn count_skipped(&self, query: &Query, skipped: Skipped) {
        let counts = [
            (Left::Null, skipped.null),
            (Left::Invalid, skipped.invalid),
            (Left::Duplicate, skipped.duplicate),
        ];
        for (left, count) in counts {
            self.shared.telemetry.skipped(self.subject(query), left, count);
        }
    }

    /// Writes the sessions' figures into the counters.
    pub fn count_sessions(&self) {
        let Figures { idle, busy, late } = self.pool.figures();
        let limit = self.plan.max_connections as usize;
        self.shared.telemetry.sessions(self.bearer(), Sessions { idle, busy, late, limit });
    }

    fn bearer(&self) -> Bearer<'_> {
        Bearer { target: &self.plan.name, labels: &self.plan.labels }
    }

    fn subject<'a>(&'a self, query: &'a Query) -> Subject<'a> {
        Subject { bearer: self.bearer(), query: &query.name, collector: &query.collector }
    }

    /// A session was opened.
    pub fn connected(&self, facts: &Facts) {
        self.backoff.lock().succeeded();
        *self.facts.lock() = Some(facts.clone());
    }

    /// A session learned of its server anew.
    pub fn learned(&self, facts: &Facts) {
        *self.facts.lock() = Some(facts.clone());
    }

    /// A session could not be opened. `judged`: that says something of the server.
    pub fn refused(&self, error: &Error, judged: bool) {
        self.shared.telemetry.connect_failed(self.bearer(), error.reason());
        if judged {
            self.backoff.lock().failed(error);
        }
    }

    /// A run that was too slow for its batch waits for a session of its own.
    pub fn part(self: &Arc<Self>, run: &Arc<Run>) {
        run.part();
        self.queue.lock().push(Arc::clone(run));
        self.start();
    }

    /// One log line when the target goes down, fails for another reason, or comes back. A target that was not `tried`,
    /// as it waited for a worker all the time, is as doubtful as before: else those that are sick would keep it so.
    pub fn note_target(&self, down: Option<&Error>, tried: bool) {
        if tried {
            self.doubtful.store(down.is_some(), Ordering::Relaxed);
        }
        let reason = down.map(Error::reason);
        let before = std::mem::replace(&mut *self.down.lock(), down.cloned()).map(|error| error.reason());
        let name = self.plan.name.as_str();
        match (before, down) {
            (before, Some(error)) if before != reason => {
                log::warn!(target = name, reason = error.reason().word(); "target {name} is down: {}", error.said());
            }
            (Some(_), None) => log::info!(target = name; "target {name} is back"),
            _ => {}
        }
    }

    /// One log line when a query fails, fails for another reason, or works again; none for a target that is
    /// down, which has its own.
    pub fn note_query(&self, index: usize, error: Option<&Error>, target_is_up: bool, budget: Duration) {
        if !target_is_up {
            return;
        }
        let (target, query) = (self.plan.name.as_str(), &*self.plan.queries[index].name);
        match (self.memory.note(Work::Query(index), error, budget), error) {
            (Change::Fails, Some(error)) => {
                log::warn!(target = target, query = query, reason = error.reason().word(), sqlstate = error.sqlstate().unwrap_or("");
                    "query {query} on target {target} fails: {}", error.said());
            }
            (Change::Recovered, _) => {
                log::info!(target = target, query = query; "query {query} on target {target} works again");
            }
            _ => {}
        }
    }

    /// Why the last scrape found the target down.
    #[must_use]
    pub fn down(&self) -> Option<Error> {
        self.down.lock().clone()
    }

    /// True when the last scrape that tried the target found it down.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Relaxed)
    }

    /// What it said of itself at its last login.
    #[must_use]
    pub fn facts(&self) -> Option<Facts> {
        self.facts.lock().clone()
    }

    /// The time until the next attempt to connect; zero when it may be now.
    #[must_use]
    pub fn backoff(&self) -> Duration {
        self.backoff.lock().left().map_or(Duration::ZERO, |(left, _)| left)
    }

    /// What is known of one query from earlier scrapes.
    #[must_use]
    pub fn past(&self, work: Work) -> Past {
        self.memory.past(work)
    }

    /// The target's own labels, as on its samples.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.plan.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// True for a row of this target, and of one of its queries if it names one.
    #[must_use]
    pub fn bears(&self, subject: &Subject<'_>) -> bool {
        let is_query = |query: &Arc<Query>| *query.name == *subject.query;
        subject.bearer.labels == self.plan.labels
            && (subject.query.is_empty() || self.plan.queries.iter().any(is_query))
    }

    /// Cancels in the server what still runs: the process ends.
    pub fn stop(&self) {
        for run in self.memory.running() {
            if let Some(stop) = run.take_stop() {
                stop();
            }
        }
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn queue(&self) -> &Mutex<Queue> {
        &self.queue
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn terms(&self, work: Work) -> Terms {
        match work {
            Work::Query(index) => {
                let query = &self.plan.queries[index];
                Terms { interval: query.interval, keep_last: query.keep_last }
            }
            Work::Ping => Terms::default(),
        }
    }

    fn named(&self, work: Work, error: Error) -> Error {
        let error = error.on_target(&self.plan.name);
        match work {
            Work::Query(index) => error.in_query(&self.plan.queries[index].name),
            Work::Ping => error,
        }
    }
}
