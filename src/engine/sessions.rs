//! The database side of a target: its sessions and lanes, its queue, and when it is left alone. A reload hands all of it
//! to the target's next configuration while the way to the database is the same.
//!
//! Ends runs and counts them. Knows no scrape and no page.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::pool::{self, Pool, PoolLimits};
use super::query_sink::SkippedValues;
use crate::config::query::Query;
use crate::config::target::TargetConfig;
use crate::deadline::Deadline;
use crate::driver::{Endpoint, ServerFacts, TlsState};
use crate::error::{Error, Reason};
use crate::telemetry::SkipReason;

use super::backoff::{LoginAttempt, LoginHeldBack, TargetBackoff};
use super::discovery::Discovery;
use super::queue::Queue;
use super::result_cache::{CachePolicy, ResultCache};
use super::run::{Run, RunEnd, SampleOwner};
use super::scrape_times::ScrapeTimes;
use super::session_bound::{BoundMember, FULL_PAUSE, NoPlace, SessionPlace};
use super::target::SharedResources;
use super::workers::{Priority, ServerShare};

/// How long no further session is tried after a failure, while other sessions live and the server is not full.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// The server allows fewer sessions than `max_connections`.
struct SessionShortfall {
    /// How many lanes are useful.
    lanes: usize,
    /// No further session is tried before.
    until: Instant,
    /// The server said that it is full, and the log has it.
    is_logged: bool,
}

/// The sessions of one target and everything around them that outlives its configuration.
pub struct TargetSessions {
    /// The target as configured now.
    owner: RwLock<Arc<SampleOwner>>,
    /// Makes the sessions.
    pub endpoint: Arc<dyn Endpoint>,
    /// The sessions.
    pub pool: Pool,
    /// What waits for a session, and the lanes.
    pub queue: Arc<Mutex<Queue>>,
    /// When no connection is tried.
    pub backoff: Mutex<TargetBackoff>,
    /// What it reported at its last login.
    pub facts: Mutex<Option<ServerFacts>>,
    /// Why the last scrape found it down.
    pub down: Mutex<Option<Error>>,
    /// The last scrape that tried it found it down.
    pub doubtful: AtomicBool,
    /// How long its last scrapes took.
    pub scrape_times: Mutex<ScrapeTimes>,
    /// What is remembered of its ping.
    pub ping: Arc<ResultCache>,
    /// The databases that it found.
    pub discovery: Discovery,
    /// This target among those that log in to the same server as the same user.
    pub on_server: Arc<BoundMember>,
    /// This target among the databases of the one that discovered it.
    discovered: Option<Arc<BoundMember>>,
    /// What all targets share.
    pub shared: Arc<SharedResources>,
    /// Targets of the same server, whoever logs in there.
    share: Arc<ServerShare>,
    shortfall: Mutex<Option<SessionShortfall>>,
    snapshots: AtomicU64,
    /// Runs that have not ended, and some that have.
    under_way: Mutex<Vec<Weak<Run>>>,
}

/// The bounds of a target's sessions.
fn pool_limits(config: &TargetConfig) -> PoolLimits {
    PoolLimits {
        max_connections: config.max_connections,
        idle_timeout: config.idle_timeout,
        max_lifetime: config.max_lifetime,
    }
}

/// How many sessions the targets of its server and user may have together. A file has no such bound, and a target where
/// nothing runs bounds nobody.
fn most_on_server(config: &TargetConfig) -> usize {
    if config.login().is_some() && config.enabled {
        config.max_server_connections as usize
    } else {
        usize::MAX
    }
}

impl Drop for TargetSessions {
    fn drop(&mut self) {
        self.pool.disposal().end_target();
    }
}

impl TargetSessions {
    /// A target without a session.
    pub fn new(
        owner: Arc<SampleOwner>,
        endpoint: &Arc<dyn Endpoint>,
        shared: &Arc<SharedResources>,
    ) -> Arc<Self> {
        let login = endpoint.connection_config();
        let server = login.map_or_else(|| owner.config.name.clone(), |login| login.server());
        let disposal = shared.disposal.of_target(&owner.config.name, server);
        let pool = Pool::new(Arc::clone(endpoint), &pool_limits(&owner.config), &shared.scheduler, &disposal);
        let queue = Arc::<Mutex<Queue>>::default();
        let on_server = shared.server_bound(owner.config.driver, login);
        let on_server = on_server.join(&pool, &queue, most_on_server(&owner.config));
        let discovered =
            owner.config.discovered_by.as_ref().map(|by| {
                shared.discovery_bound(&by.target).join(&pool, &queue, by.max_connections as usize)
            });
        let share = shared.server_share(login);
        let sessions = Arc::new(TargetSessions {
            owner: RwLock::new(owner),
            endpoint: Arc::clone(endpoint),
            pool,
            queue,
            backoff: Mutex::default(),
            facts: Mutex::default(),
            down: Mutex::default(),
            doubtful: AtomicBool::new(false),
            scrape_times: Mutex::default(),
            ping: Arc::default(),
            discovery: Discovery::default(),
            on_server,
            discovered,
            shared: Arc::clone(shared),
            share,
            shortfall: Mutex::default(),
            snapshots: AtomicU64::new(0),
            under_way: Mutex::default(),
        });
        shared.add(&sessions);
        sessions
    }

    /// Takes the target's next configuration. What the server refused before is tried again at once.
    pub fn renew(&self, owner: Arc<SampleOwner>) {
        self.pool.set(&pool_limits(&owner.config));
        self.on_server.renew(most_on_server(&owner.config));
        if let Some((member, by)) = self.discovered.as_ref().zip(owner.config.discovered_by.as_ref()) {
            member.renew(by.max_connections as usize);
        }
        *self.owner.write() = owner;
        self.backoff.lock().succeeded();
        if let Some(shortfall) = &mut *self.shortfall.lock() {
            shortfall.until = Instant::now();
        }
        self.close_unused();
    }

    /// `idle_timeout: 0`: closes the sessions that no lane uses. Called where no query waits for one: a lane that still logs
    /// in may wait for what they hold, as behind a pooler.
    pub fn close_unused(&self) {
        if self.owner().config.idle_timeout.is_zero() {
            while self.pool.close_idle() {}
        }
    }

    /// The target as it is configured now.
    pub fn owner(&self) -> Arc<SampleOwner> {
        Arc::clone(&self.owner.read())
    }

    /// The number of the next snapshot.
    pub fn next_snapshot(&self) -> u64 {
        self.snapshots.fetch_add(1, Ordering::Relaxed)
    }

    /// True when the last scrape that tried the target found it down.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Relaxed)
    }

    /// Queues new runs, or ends them where nothing can run now. They begin with `lane::start`.
    pub fn push(&self, runs: Vec<Arc<Run>>) {
        if runs.is_empty() {
            return;
        }
        let mut under_way = self.under_way.lock();
        under_way.retain(|run| run.upgrade().is_some_and(|run| !run.is_over()));
        under_way.extend(runs.iter().map(Arc::downgrade));
        drop(under_way);
        match self.refusal() {
            Some(error) => runs.iter().for_each(|run| self.fail(run, &error, false)),
            None => {
                let mut queue = self.queue.lock();
                runs.into_iter().for_each(|run| queue.push(run));
            }
        }
    }

    /// Why nothing can run now: the process ends, the target is in back-off, or it is wedged. A lane finds out whether a
    /// refused password was changed: a `password_command` takes time.
    fn refusal(&self) -> Option<Error> {
        if self.shared.is_stopping() {
            return Some(stopping());
        }
        let wedged = || {
            let is_wedged = self.queue.lock().is_wedged(self.places());
            is_wedged.then(|| pool::wedged(self.owner().config.max_connections))
        };
        self.held_back().filter(|error| error.reason() != Reason::Auth).or_else(wedged)
    }

    /// Why no session may be opened now: the last attempt failed, and its pause is not over.
    fn held_back(&self) -> Option<Error> {
        self.backoff.lock().left().map(|(left, error)| {
            error.clone().with_hint(format!("next attempt in {:.0} s", left.as_secs_f64().ceil()))
        })
    }

    /// Whether a session may be opened now. Where the database has users, the result is an attempt whose end other targets
    /// wait for. The last failure no longer counts where a refused password was replaced. `alone`: without this session the
    /// target is down. Blocks for a `password_command` and for other targets' attempts, at most until `by`.
    ///
    /// # Errors
    /// The process ends; the back-off; the refusal of another target's attempt with the same password; a password that
    /// cannot be read.
    pub fn admit(&self, alone: bool, by: Deadline) -> Result<Option<LoginAttempt>, Error> {
        if self.shared.is_stopping() {
            return Err(stopping());
        }
        if let Some(error) = self.held_back() {
            if error.reason() != Reason::Auth || !self.endpoint.has_new_password(by) {
                return Err(error);
            }
            self.backoff.lock().succeeded();
        }
        let Some(login) = self.endpoint.connection_config() else { return Ok(None) };
        let held = match self.shared.logins.admit(login, &self.owner().config.name, by) {
            Ok(attempt) => return Ok(Some(attempt)),
            Err(held) => held,
        };
        Err(match held {
            LoginHeldBack { error, by: Some((other, left)) } => {
                if alone {
                    self.backoff.lock().held(&error, left);
                }
                let next = left.as_secs_f64().ceil();
                error.with_hint(format!("tried for target {other}; next attempt in {next:.0} s"))
            }
            LoginHeldBack { error, by: None } => {
                self.count_refusal(&error);
                if alone {
                    self.backoff.lock().failed(&error);
                }
                error
            }
        })
    }

    /// How many sessions it may have besides those that were given up and still run in the server.
    pub fn places(&self) -> usize {
        (self.owner().config.max_connections as usize).saturating_sub(self.pool.running_on())
    }

    /// How many lanes at once are useful: as many as the server allows sessions, and from time to time one more that tries
    /// for another session.
    pub fn useful_lanes(&self) -> usize {
        match &*self.shortfall.lock() {
            Some(shortfall) if shortfall.until > Instant::now() => shortfall.lanes,
            Some(shortfall) if shortfall.is_logged => shortfall.lanes + 1,
            _ => usize::MAX,
        }
    }

    /// Runs `task` on a worker, of which the target's server has a fair share.
    ///
    /// # Errors
    /// As [`Workers::start`](super::workers::Workers::start).
    pub fn start_worker(
        &self,
        priority: Priority,
        by: Deadline,
        task: impl FnOnce() + Send + 'static,
    ) -> Result<(), Error> {
        self.shared.workers.start_for(Some(&self.share), priority, by, self.login_time(), task)
    }

    /// Why a run that waited in the queue so long (`10.0s`, `until its deadline`), until `by`, was taken by no lane, and what
    /// to raise.
    pub fn waited_in_line(&self, how_long: &str, by: Deadline) -> Error {
        let queue = self.queue.lock();
        let (had_worker, logs_in) = (queue.had_worker_before(by), queue.logs_in());
        let lacks_workers = queue.has_lane_without_worker();
        drop(queue);
        if !had_worker {
            let most = self.shared.workers.limit();
            let text =
                format!("waited {how_long} for one of the {most} workers, of which each server has a share");
            return Error::new(Reason::Timeout, text)
                .with_hint("raise exporter.max_workers; sql_exporter_workers shows how many are busy");
        }
        if logs_in {
            return Error::new(Reason::Timeout, format!("waited {how_long} for a session"));
        }
        let busy = |what: String, hint| Error::new(Reason::Timeout, format!("{what} busy")).with_hint(hint);
        let (most, open) = (self.owner().config.max_connections as usize, self.pool.open());
        let cause = if lacks_workers {
            busy("the workers that the target had were".to_owned(), "raise exporter.max_workers")
        } else if let Some(taken) = self.bounds().find_map(|member| member.refusal(open, most)) {
            taken
        } else if open < most && self.is_server_full() {
            busy(format!("all {open} sessions that the server allows the target are"), "raise its limit")
        } else {
            busy(format!("all {most} sessions of the target were"), pool::RAISE_MAX_CONNECTIONS)
        };
        let text = format!("waited {how_long} in line: {}", cause.message());
        cause.with_message(text)
    }

    /// The server said that it allows no further session of the target.
    fn is_server_full(&self) -> bool {
        self.shortfall.lock().as_ref().is_some_and(|shortfall| shortfall.is_logged)
    }

    /// Where its sessions take places.
    fn bounds(&self) -> impl Iterator<Item = &Arc<BoundMember>> {
        self.discovered.iter().chain([&self.on_server])
    }

    /// A session has new facts about its server.
    pub fn learned(&self, facts: &ServerFacts) {
        let mut known = self.facts.lock();
        if known.as_ref() != Some(facts) {
            *known = Some(facts.clone());
        }
    }

    /// A session was opened.
    pub fn connected(&self, facts: &ServerFacts) {
        self.backoff.lock().succeeded();
        let before = self.facts.lock().replace(facts.clone());
        if facts.tls == TlsState::PlainByRule && before.is_none_or(|before| before.tls != facts.tls) {
            let owner = self.owner();
            let name = owner.config.name.as_str();
            log::warn!(target = name; "target {name} is connected in plain text: the server's pg_hba.conf refuses its user \
                with TLS, and tls.mode prefer allows that");
        }
        let (config, open) = (&self.owner().config, self.pool.open());
        let mut shortfall = self.shortfall.lock();
        let Some(known) = shortfall.as_mut().filter(|known| open > known.lanes) else { return };
        // The server may allow more than that: the next lane tries at once.
        (known.lanes, known.until) = (open, Instant::now());
        if open >= config.max_connections as usize || !known.is_logged {
            if known.is_logged {
                log::info!(target = config.name.as_str(); "target {} has all sessions of its max_connections again", config.name);
            }
            *shortfall = None;
        }
    }

    /// Takes a place for one more session on the server. `alone`: without it the target is down. Blocks until `by` at most.
    ///
    /// # Errors
    /// There is no place.
    pub fn place(&self, alone: bool, by: Deadline) -> Result<SessionPlace, NoPlace> {
        // Before the place on the server, which is not held while this one is waited for.
        let discovered = self.discovered.as_ref().map(|member| member.place(None, alone, by)).transpose()?;
        let place = self.on_server.place(discovered, alone, by);
        if let Err(NoPlace::Held(error, left)) = &place
            && alone
        {
            self.backoff.lock().held(error, *left);
        }
        place
    }

    /// A lane has ended: idle sessions may be for others that wait.
    pub fn no_longer_busy(&self) {
        self.bounds().for_each(|member| member.no_longer_busy());
    }

    /// How long a login may take. It goes on after the scrape that began it, or each scrape of a slow server would begin
    /// another one.
    pub fn login_time(&self) -> Duration {
        self.endpoint.connection_config().map_or(Duration::ZERO, |login| login.connect_timeout)
    }

    /// No further session could be opened, while the target has others: its queries wait for those.
    pub fn fell_short(&self, error: &Error) {
        let lanes = self.pool.open().max(1);
        let mut shortfall = self.shortfall.lock();
        let was_logged = shortfall.as_ref().is_some_and(|shortfall| shortfall.is_logged);
        let pause = if error.is_server_full() { FULL_PAUSE } else { FAILED_PAUSE };
        let is_logged = was_logged || error.is_server_full();
        *shortfall = Some(SessionShortfall { lanes, until: Instant::now() + pause, is_logged });
        if is_logged && !was_logged {
            let config = &self.owner().config;
            let (name, most) = (config.name.as_str(), config.max_connections);
            log::warn!(target = name, reason = error.reason().as_str();
                "target {name} gets fewer sessions than its max_connections {most}, and its queries wait for those that it \
                 has; set max_connections to what the server allows, or raise the server's limit: {}", error.summary());
        }
    }

    /// A session could not be opened.
    pub fn count_refusal(&self, error: &Error) {
        self.shared.telemetry.connect_failed(self.owner().labels(), error.reason());
    }

    /// Ends a run that has no result.
    pub fn fail(&self, run: &Run, error: &Error, reached: bool) {
        self.finish(run, RunEnd::Failed(error.clone()), Duration::ZERO, reached);
    }

    /// Ends a run: records it, counts it and hands the outcome to all who wait. Of several threads, the first one does it.
    pub fn finish(&self, run: &Run, end: RunEnd, took: Duration, reached: bool) {
        if !run.claim() {
            return;
        }
        let (owner, query) = (&run.spec.owner, run.query());
        let end = match (end, run.take_values().zip(query)) {
            // Values of its `foreach` that have ended are good whatever becomes of the others.
            (RunEnd::Failed(error), Some((values, query))) => {
                values.fail_rest(&error);
                values.end(query)
            }
            (end, _) => end,
        };
        let end = match end {
            RunEnd::Failed(error) => RunEnd::Failed(run.explained(error)),
            RunEnd::Partial(rendered, error) => RunEnd::Partial(rendered, owner.named(query, error)),
            RunEnd::Skipped(cause) => RunEnd::Skipped(cause.named(|error| owner.named(query, error))),
            good => good,
        };
        if let Some(discover) = run.spec.discover() {
            self.discovery.learn(&owner.config.name, discover, &end);
        } else if let Some(query) = query {
            self.count(query, owner, &end);
        }
        let outcome = run.outcome(end, took, reached);
        run.spec.cache.record(run, CachePolicy::of(query), &outcome);
        run.end(outcome);
    }

    /// Counts the end of a query's run.
    fn count(&self, query: &Query, owner: &SampleOwner, end: &RunEnd) {
        let telemetry = &self.shared.telemetry;
        if let Some(rendered) = end.rendered() {
            let SkippedValues { null, invalid, duplicate } = rendered.skipped;
            let reasons = [SkipReason::Null, SkipReason::Invalid, SkipReason::Duplicate];
            for (reason, count) in reasons.into_iter().zip([null, invalid, duplicate]) {
                telemetry.skipped(owner.query_labels(query), reason, count);
            }
        }
        if let Some(error) = end.error() {
            telemetry.failed(owner.query_labels(query), error.reason());
        }
    }

    /// Ends what has not ended, and cancels in the server what runs there: the process ends.
    pub fn interrupt(&self) {
        let under_way: Vec<Arc<Run>> = self.under_way.lock().iter().filter_map(Weak::upgrade).collect();
        for run in under_way.iter().filter(|run| !run.is_over()) {
            let stop = run.take_stop();
            // The target was there: its other results, reused ones too, stay on the page.
            let took = run.worked();
            self.finish(run, RunEnd::Failed(stopping()), took, stop.is_some());
            if let Some(stop) = stop {
                stop();
            }
        }
    }
}

/// Why a query has no result when the process ends.
fn stopping() -> Error {
    Error::new(Reason::Cancelled, "the exporter stops")
}
