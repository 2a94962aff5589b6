//! The sessions of all databases that one target discovered share one bound, `discover.max_connections`. Where all places
//! are taken, an idle session of another database is closed.
//!
//! The bound stands around the endpoint: a session takes a place before it is opened and gives it back when it has ended.
//! Knows no query and no scrape.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::server_group::ServerGroupMember;
use crate::deadline::Deadline;
use crate::driver::connection::ConnectionConfig;
use crate::driver::connection::tls::TlsRequirement;
use crate::driver::privileges::Privileges;
use crate::driver::{AllowedStatements, Canceller, Column, Endpoint, Health, Job, ServerFacts, Session, Sql};
use crate::error::{Error, Reason, Result};

/// How long a session may take to end.
const SESSION_END_TIME: Duration = Duration::from_millis(100);
/// How often a login that waits for a place looks for an idle session.
const POLL: Duration = Duration::from_millis(20);

/// The bound of the sessions of several targets.
pub struct SharedBound {
    /// The target that discovered them.
    name: String,
    most: AtomicUsize,
    state: Mutex<BoundState>,
    freed: Condvar,
}

#[derive(Default)]
struct BoundState {
    taken: usize,
    members: Vec<Weak<ServerGroupMember>>,
    /// Whose idle session is looked for next: not always those of the same one.
    next: usize,
}

impl SharedBound {
    /// No session yet, of targets that `name` discovered.
    pub fn new(name: &str) -> Self {
        let (most, state, freed) = Default::default();
        SharedBound { name: name.to_owned(), most, state, freed }
    }

    /// Sets the number of sessions.
    pub fn set_most(&self, most: u32) {
        self.most.store(most as usize, Ordering::Relaxed);
        self.freed.notify_all();
    }

    /// Adds a target.
    pub fn join(&self, member: &Arc<ServerGroupMember>) {
        let members = &mut self.state.lock().members;
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
    }

    /// A place for one more session. Blocks until one is free, at most until `by`.
    fn place(self: &Arc<Self>, by: Deadline) -> Result<BoundPlace> {
        let mut state = self.state.lock();
        // When a session was last closed for this one, which another one may have taken the place of.
        let mut closed: Option<Instant> = None;
        loop {
            let most = self.most.load(Ordering::Relaxed);
            if state.taken < most {
                state.taken += 1;
                return Ok(BoundPlace(Arc::clone(self)));
            }
            if by.passed() {
                let text = format!("all {most} sessions of the databases of target {} are busy", self.name);
                let hint = "raise discover.max_connections, or the scrape interval";
                // Not `timeout`: the server is not asked less often for that.
                return Err(Error::new(Reason::Limit, text).with_hint(hint));
            }
            if closed.is_none_or(|moment| moment.elapsed() > SESSION_END_TIME) {
                let members: Vec<_> = state.members.iter().filter_map(Weak::upgrade).collect();
                let start = state.next % members.len().max(1);
                state.next = start + 1;
                let (before, after) = members.split_at(start);
                // Not under the lock: an idle session may be one that ends at once.
                MutexGuard::unlocked(&mut state, || {
                    if after.iter().chain(before).any(|member| member.close_idle()) {
                        closed = Some(Instant::now());
                    }
                });
                if closed.is_some() && state.taken < most {
                    continue;
                }
            }
            self.freed.wait_for(&mut state, POLL.min(by.left()));
        }
    }
}

/// One session's place.
struct BoundPlace(Arc<SharedBound>);

impl Drop for BoundPlace {
    fn drop(&mut self) {
        self.0.state.lock().taken -= 1;
        self.0.freed.notify_all();
    }
}

/// An endpoint whose sessions are within the bound.
pub struct BoundedEndpoint {
    /// The target's own.
    pub endpoint: Arc<dyn Endpoint>,
    /// The bound.
    pub bound: Arc<SharedBound>,
}

impl Endpoint for BoundedEndpoint {
    fn connect(&self, by: Deadline) -> Result<Box<dyn Session>> {
        let place = self.bound.place(by)?;
        let session = self.endpoint.connect(by)?;
        Ok(Box::new(BoundedSession { session, _place: place }))
    }

    fn tls_requirement(&self) -> TlsRequirement {
        self.endpoint.tls_requirement()
    }

    fn allows(&self) -> Option<AllowedStatements> {
        self.endpoint.allows()
    }

    fn connection_config(&self) -> Option<&ConnectionConfig> {
        self.endpoint.connection_config()
    }

    fn redacted_url(&self) -> String {
        self.endpoint.redacted_url()
    }

    fn with_database(&self, name: &str) -> Option<Arc<dyn Endpoint>> {
        self.endpoint.with_database(name)
    }

    fn databases_sql(&self) -> Option<Sql> {
        self.endpoint.databases_sql()
    }

    fn explain(&self, sql: &Sql) -> Option<Sql> {
        self.endpoint.explain(sql)
    }

    fn epoch_expression(&self) -> Option<&'static str> {
        self.endpoint.epoch_expression()
    }

    fn has_new_password(&self, by: Deadline) -> bool {
        self.endpoint.has_new_password(by)
    }
}

/// The session ends before its place is free.
struct BoundedSession {
    session: Box<dyn Session>,
    _place: BoundPlace,
}

impl Session for BoundedSession {
    fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        self.session.run(jobs, by)
    }

    fn prepare(&mut self, statements: &[&Sql], by: Deadline) -> Health {
        self.session.prepare(statements, by)
    }

    fn ping(&mut self, by: Deadline) -> Health {
        self.session.ping(by)
    }

    fn refresh(&mut self, by: Deadline) -> Health {
        self.session.refresh(by)
    }

    fn describe(&mut self, sql: &Sql, by: Deadline) -> Result<Option<Vec<Column>>> {
        self.session.describe(sql, by)
    }

    fn privileges(&mut self, by: Deadline) -> Result<Privileges> {
        self.session.privileges(by)
    }

    fn snapshot(&mut self, open: bool, by: Deadline) -> Health {
        self.session.snapshot(open, by)
    }

    fn facts(&self) -> &ServerFacts {
        self.session.facts()
    }

    fn round_trip_time(&self) -> Duration {
        self.session.round_trip_time()
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        self.session.canceller()
    }

    fn has_ended(&mut self) -> bool {
        self.session.has_ended()
    }
}
