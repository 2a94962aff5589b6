//! One target at work: the runs that scrapes request, and what is known of it between them.
//!
//! Each reload makes a new target, which takes over what did not change: the sessions with their queue, and what is
//! remembered of each query. It logs once when it goes down or comes back. It knows no page.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::query_sink::{RenderedResult, SampleContext};
use crate::config::discover::{DatabaseList, Discover};
use crate::config::query::Query;
use crate::config::target::TargetConfig;
use crate::deadline::Deadline;
use crate::driver::ServerFacts;
use crate::error::{Error, Reason};
use crate::telemetry::{QueryLabels, SkipReason};

use super::conditions;
use super::discovery::Discovery;
use super::result_cache::{self, CacheLookup, CachePolicy, Change, QueryHistory, ResultCache};
use super::run::{Run, RunEnd, RunKind, RunOutcome, RunSpec, SampleOwner, SkipCause};
use super::scrape_times::{PastScrape, ScrapeTimes};
use super::sessions::TargetSessions;

pub use super::resources::SharedResources;

/// One configured database.
pub struct Target {
    /// The configuration.
    pub config: Arc<TargetConfig>,
    owner: Arc<SampleOwner>,
    sessions: Arc<TargetSessions>,
    /// One a query, in their order.
    caches: Vec<Arc<ResultCache>>,
    /// How many scrapes it had, under this name.
    scrapes: Arc<AtomicU64>,
}

impl Target {
    /// A target that has no session yet. `None` where its driver is not built in.
    pub fn new(
        config: Arc<TargetConfig>,
        context: SampleContext,
        shared: &Arc<SharedResources>,
    ) -> Option<Self> {
        let owner = Arc::new(SampleOwner { config, context });
        let sessions = TargetSessions::new(Arc::clone(&owner), owner.config.endpoint.as_ref()?, shared);
        Some(Target::with(owner, sessions))
    }

    /// A target whose queries have not run.
    fn with(owner: Arc<SampleOwner>, sessions: Arc<TargetSessions>) -> Self {
        let caches = owner.config.queries.iter().map(|_| Arc::default()).collect();
        let scrapes = Arc::default();
        Target { config: Arc::clone(&owner.config), owner, sessions, caches, scrapes }
    }

    /// The target as another configuration has it, under the same name. It keeps the sessions where the connection is the
    /// same, and what is remembered of a query where the query and the labels of its samples are the same.
    pub fn renew(
        &self,
        config: Arc<TargetConfig>,
        context: SampleContext,
        shared: &Arc<SharedResources>,
    ) -> Option<Self> {
        let is_reached_alike = self.config.connection == config.connection;
        let keeps_sessions = is_reached_alike && self.config.enabled && config.enabled;
        let mut new = if keeps_sessions {
            let owner = Arc::new(SampleOwner { config, context });
            self.sessions.renew(Arc::clone(&owner));
            Target::with(owner, Arc::clone(&self.sessions))
        } else {
            Target::new(config, context, shared)?
        };
        new.scrapes = Arc::clone(&self.scrapes);
        if keeps_sessions && self.owner.context == new.owner.context {
            let queries = self.config.queries.iter().zip(&self.caches);
            let known: HashMap<&str, _> = queries.map(|old| (&*old.0.name, old)).collect();
            for (query, cache) in new.config.queries.iter().zip(&mut new.caches) {
                if let Some((_, old)) = known.get(&*query.name).filter(|(old, _)| old.digest == query.digest)
                {
                    *cache = Arc::clone(old);
                    cache.forget_refusal();
                }
            }
        }
        Some(new)
    }

    /// Counts a scrape.
    pub fn count_scrape(&self) {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
    }

    /// How many scrapes it had.
    pub fn scrapes(&self) -> u64 {
        self.scrapes.load(Ordering::Relaxed)
    }

    /// Remembers how long a scrape of it took.
    pub fn note_scrape(&self, scrape: PastScrape) {
        self.sessions.scrape_times.lock().push(scrape);
    }

    /// How long its last scrapes took, while the connection was the same.
    pub fn scrape_times(&self) -> ScrapeTimes {
        self.sessions.scrape_times.lock().clone()
    }

    /// The target that its runs belong to.
    pub fn owner(&self) -> &Arc<SampleOwner> {
        &self.owner
    }

    /// Reuses, joins or queues one run of each kind. New ones begin with [`Target::start`].
    pub fn request(&self, kinds: &[RunKind], by: Deadline, budget: Duration) -> Vec<CacheLookup> {
        let specs: Vec<RunSpec> = kinds.iter().map(|kind| self.spec(*kind)).collect();
        let are_queries = kinds.iter().all(|kind| matches!(kind, RunKind::Query(_)));
        let lookups = if self.config.snapshot && are_queries {
            result_cache::lookup_snapshot(&specs, self.sessions.next_snapshot(), by, budget)
        } else {
            let facts = self.facts();
            let lookup = |spec: &RunSpec| {
                // After a failover or an upgrade another query of the family may apply in place of this one.
                let when = spec.query.as_ref().and_then(|query| query.when.as_deref());
                let is_of_another_server = when
                    .zip(facts.as_ref())
                    .is_some_and(|(when, facts)| conditions::unmet_facts(when, facts).is_some());
                let policy = match is_of_another_server {
                    true => CachePolicy::default(),
                    false => CachePolicy::of(spec.query.as_deref()),
                };
                result_cache::lookup(spec, policy, by, budget)
            };
            specs.iter().map(lookup).collect()
        };
        let mut started = Vec::new();
        for lookup in &lookups {
            match lookup {
                CacheLookup::Started(run) => started.push(Arc::clone(run)),
                CacheLookup::Joined(_) => self.sessions.shared.telemetry.joined(),
                CacheLookup::Reused(_) => {}
            }
        }
        self.sessions.push(started);
        lookups
    }

    fn spec(&self, kind: RunKind) -> RunSpec {
        let owner = Arc::clone(&self.owner);
        match kind {
            RunKind::Query(index) => {
                let query = Some(Arc::clone(&self.config.queries[index]));
                RunSpec { owner, query, cache: Arc::clone(&self.caches[index]) }
            }
            RunKind::Discovery => {
                let query = self.config.discover.as_ref().map(|discover| Arc::clone(&discover.query));
                RunSpec { owner, query, cache: Arc::clone(&self.sessions.discovery.cache) }
            }
            RunKind::Ping => RunSpec { owner, query: None, cache: Arc::clone(&self.sessions.ping) },
        }
    }

    /// The result that stands in for a query that failed (`keep_last`).
    pub fn kept(&self, index: usize) -> Option<Arc<RenderedResult>> {
        self.caches[index].kept(CachePolicy::of(self.config.queries.get(index).map(|query| &**query)))
    }

    /// Starts as many lanes as the queued runs need and the limits allow.
    pub fn start(&self) {
        super::lane::start(&self.sessions);
    }

    /// Gives up on a run at a scrape's deadline: that scrape sees a timeout. A run whose own deadline has passed, too, is
    /// stopped in the server; a joined one with a later deadline goes on for others.
    pub fn abandon(&self, run: &Arc<Run>, budget: Duration) -> RunOutcome {
        let stop = if run.by.passed() { run.take_stop() } else { None };
        let error = match stop {
            None if run.by.passed() => self.sessions.waited_in_line(&format!("{budget:.1?}"), run.by),
            _ => Error::new(Reason::Timeout, format!("no end within {budget:.1?}")),
        };
        let outcome = run.outcome(RunEnd::Failed(run.explained(error.clone())), run.worked(), false);
        match stop {
            Some(stop) => stop(),
            None => self.sessions.shared.workers.release_late(),
        }
        if run.by.passed() {
            self.sessions.finish(run, RunEnd::Failed(error), outcome.took, false);
        }
        outcome
    }

    /// Ends a run: records it, counts it and hands the outcome to all who wait.
    pub fn finish(&self, run: &Run, end: RunEnd, took: Duration, reached: bool) {
        self.sessions.finish(run, end, took, reached);
    }

    /// Counts a query that ran well but is not on the page: the merge dropped it.
    pub fn count_error(&self, index: usize, reason: Reason) {
        self.sessions.shared.telemetry.failed(self.owner.query_labels(&self.config.queries[index]), reason);
    }

    /// Counts series of a good result that are not on the page, as another collector has them; one log line for the first.
    pub fn note_hidden(&self, index: usize, count: u64, example: &str, shown: &str) {
        let Some(query) = self.config.queries.get(index) else { return };
        self.sessions.shared.telemetry.skipped(self.owner.query_labels(query), SkipReason::Duplicate, count);
        if self.caches.get(index).is_some_and(|cache| cache.note_hidden_series()) {
            let (target, name) = (self.config.name.as_str(), &*query.name);
            log::info!(target = target, query = name; "query {name} on target {target}: series left out because \
                collector {shown} has them too: {count}, {example} for one");
        }
    }

    /// Writes the sessions' figures into the counters.
    pub fn count_sessions(&self) {
        let TargetSessions { pool, shared, .. } = &*self.sessions;
        shared.telemetry.sessions(self.owner.labels(), pool.counts(), self.config.max_connections);
    }

    /// One log line when the target goes down, fails for another reason, or comes back. A target that was not `tried`, as it
    /// waited for a worker all the time, is as doubtful as before: otherwise sick targets would keep it doubtful.
    pub fn note_target(&self, down: Option<&Error>, tried: bool) {
        if tried {
            self.sessions.doubtful.store(down.is_some(), Ordering::Relaxed);
        }
        let reason = down.map(Error::reason);
        let before =
            std::mem::replace(&mut *self.sessions.down.lock(), down.cloned()).map(|error| error.reason());
        let name = self.config.name.as_str();
        match (before, down) {
            (before, Some(error)) if before != reason => {
                log::warn!(target = name, reason = error.reason().as_str(); "target {name} is down: {}", error.summary());
            }
            (Some(_), None) => log::info!(target = name; "target {name} is back"),
            _ => {}
        }
    }

    /// One log line when a query fails, fails for another reason, works again, or is skipped as the user lacks a privilege;
    /// none for a target that is down, which has its own.
    pub fn note_query(
        &self,
        index: usize,
        error: Option<&Error>,
        skipped: Option<&SkipCause>,
        target_is_up: bool,
        budget: Duration,
    ) {
        if !target_is_up {
            return;
        }
        let (target, query) = (self.config.name.as_str(), &*self.config.queries[index].name);
        match (self.caches[index].note(error, skipped, budget), error) {
            (Change::Fails, Some(error)) => {
                log::warn!(target = target, query = query, reason = error.reason().as_str(), sqlstate = error.sqlstate().unwrap_or("");
                    "query {query} on target {target} fails: {}", error.summary());
            }
            (Change::Lacks(error), _) => {
                log::info!(target = target, query = query, reason = error.reason().as_str(), sqlstate = error.sqlstate().unwrap_or("");
                    "query {query} on target {target} is skipped, and asked again every 5 minutes: grant what it needs \
                     (docs/packs.md lists the grants of packs), or turn it off: {}", error.summary());
            }
            (Change::Recovered, _) => {
                log::info!(target = target, query = query; "query {query} on target {target} works again");
            }
            _ => {}
        }
    }

    /// Why the last scrape found the target down.
    pub fn down(&self) -> Option<Error> {
        self.sessions.down.lock().clone()
    }

    /// True when the last scrape that tried the target found it down.
    pub fn is_doubtful(&self) -> bool {
        self.sessions.is_doubtful()
    }

    /// How it finds databases and what came of it; `None` for a target without `discover`.
    pub fn discovery(&self) -> Option<(&Discover, &Discovery)> {
        Some((self.config.discover.as_deref()?, &self.sessions.discovery))
    }

    /// True while it has not found its databases yet.
    pub fn awaits_databases(&self) -> bool {
        self.config.discover.is_some() && self.found().is_none()
    }

    /// The databases that it found last.
    pub fn found(&self) -> Option<DatabaseList> {
        self.discovery().and_then(|(discover, discovery)| discovery.list(discover))
    }

    /// What it reported at its last login.
    pub fn facts(&self) -> Option<ServerFacts> {
        self.sessions.facts.lock().clone()
    }

    /// The time until the next attempt to connect; zero when it may be now.
    pub fn backoff(&self) -> Duration {
        self.sessions.backoff.lock().left().map_or(Duration::ZERO, |(left, _)| left)
    }

    /// What is known of one query from earlier scrapes.
    pub fn history(&self, index: usize) -> QueryHistory {
        self.caches[index].history()
    }

    /// The target's own labels, as on its samples.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// True for a row of this target, and of one of its queries if it names one.
    pub fn has_row(&self, subject: &QueryLabels<'_>) -> bool {
        let same = |named: &str, own: &str| named.is_empty() || named == own;
        let is_query = |query: &Arc<Query>| {
            same(subject.query, &query.name) && same(subject.collector, &query.collector)
        };
        let is_its = subject.query.is_empty() || self.config.queries.iter().any(is_query);
        self.config.enabled && subject.target.labels == self.config.labels && is_its
    }
}
