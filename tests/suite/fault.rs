//! A driver that does what a test tells it: fails, hangs, panics and lies at the n-th call.
//!
//! ```ignore
//! let fault = Fault::new(|call| match call { Call::Run(2) => Act::Hang, _ => Act::Rows(1) });
//! let drivers = Drivers::built_in().with(driver("faulty", [("a", &fault)]));   // databases: {x: {driver: faulty, database: a}}
//! // … or {driver: faulty, database: a, host: one}: on a server with other targets
//! fault.saw(Call::Run(2));  // waits for it
//! fault.release();          // ends every hang, now and later
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::advice::Advice;
use sql_exporter::driver::connection::password::PasswordSource;
use sql_exporter::driver::connection::tls::TlsConfig;
use sql_exporter::driver::connection::{ConnectionConfig, HostPort};
use sql_exporter::driver::{
    Canceller, Column, ColumnContent, Driver, Endpoint, Flow, Health, Job, Privileges, Row, ServerFacts,
    ServerWork, Session, Sql,
};
use sql_exporter::error::{Error, Reason, Result};
use sql_exporter::secret::Secret;
use sql_exporter::value::Cell;
use sql_exporter::yaml::keys::Keys;

/// A call into the driver; the number counts calls of its kind on this endpoint, from 1.
/// `Run` and `Ping` count over all sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Connect(usize),
    /// One job of a batch.
    Run(usize),
    Ping(usize),
    Refresh(usize),
    /// The preparation of several statements.
    Prepare(usize),
    Rights(usize),
    /// The opening and the closing of a snapshot.
    Snapshot(usize),
    Cancel(usize),
    Drop(usize),
}

/// What a call does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Goes well; a run gives so many rows of one column `value`: 1, 2, 3 …
    Rows(usize),
    /// Fails for this reason; the session stays clean.
    Fail(Reason),
    /// A run ends its job well, and the session is spent.
    Spend,
    /// The same, and the server goes on with it until [`Fault::release`], whatever it is told.
    GoOn,
    /// The same, and the question whether it goes on panics.
    PanicWhenAsked,
    /// The session dies with the job not ended.
    Lose,
    /// Blocks until [`Fault::release`], whatever the deadline; then goes well with one row.
    Hang,
    /// Blocks until a cancel (or release); then the job fails with `cancelled` and the session is spent.
    HangUntilCancelled,
    /// Fails as the server, or the pooler before it, gives no further session; under a run the session dies.
    Full,
    /// The same for the one database.
    FullDatabase,
    /// A run fails its job for this reason, and its session ends with it: the jobs behind it never ran.
    Cut(Reason),
    Panic,
    /// A run that is allowed less than this ends with `timeout`; else it goes well with one row.
    Needs(Duration),
    /// A run gives one row, then fails for this reason.
    FailAfterRow(Reason),
    /// Says `Clean` without having ended the job.
    Forget,
    /// A run gives one row, and the session dies with the job not ended.
    LoseAfterRow,
    /// A run gives rows without having told the columns.
    NoColumns,
    /// A run tells the columns twice, the second time others.
    ColumnsTwice,
    /// A run has another column than the one that is wanted.
    OtherColumn,
    /// A run gives a row whose cell cannot be read, and ends well all the same.
    BadCell,
    /// A run ends its job twice: well, then badly.
    EndTwice,
    /// A run goes on after the end of its job.
    RowAfterEnd,
}

type Script = Box<dyn Fn(Call) -> Act + Send + Sync>;

#[derive(Default)]
struct State {
    counts: HashMap<std::mem::Discriminant<Call>, usize>,
    log: Vec<Call>,
    released: bool,
    /// Sessions that were given up go on in the server.
    goes_on: bool,
    cancels: usize,
    canceller_panics: bool,
    /// The statements of each preparation.
    prepared: Vec<Vec<String>>,
    /// The number of jobs of each `run`.
    batches: Vec<usize>,
}

/// One scripted database.
pub(crate) struct Fault {
    script: Script,
    state: Mutex<State>,
    changed: Condvar,
}

/// Tests wait so long for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

impl Fault {
    pub(crate) fn new(script: impl Fn(Call) -> Act + Send + Sync + 'static) -> Arc<Fault> {
        Arc::new(Fault { script: Box::new(script), state: Mutex::default(), changed: Condvar::new() })
    }

    /// A database that always answers one row.
    pub(crate) fn none() -> Arc<Fault> {
        Fault::new(|_| Act::Rows(1))
    }

    pub(crate) fn endpoint(self: &Arc<Self>) -> Arc<dyn Endpoint> {
        Arc::new(FaultEndpoint { fault: Arc::clone(self), login: None })
    }

    /// Every call so far, in order.
    pub(crate) fn log(&self) -> Vec<Call> {
        self.state.lock().log.clone()
    }

    /// The statements of each preparation so far.
    pub(crate) fn prepared(&self) -> Vec<Vec<String>> {
        self.state.lock().prepared.clone()
    }

    /// The number of jobs of each `run` so far.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.state.lock().batches.clone()
    }

    /// Waits until the call has begun; panics when it does not within 20 s.
    pub(crate) fn saw(&self, call: Call) {
        let by = Deadline::within(PATIENCE);
        let mut state = self.state.lock();
        while !state.log.contains(&call) {
            assert!(
                !self.changed.wait_until(&mut state, by.moment()).timed_out(),
                "no {call:?} in {:?}",
                state.log
            );
        }
    }

    /// Whether sessions that are given up go on in the server, whatever they are told.
    pub(crate) fn goes_on(&self, goes_on: bool) {
        self.state.lock().goes_on = goes_on;
    }

    /// Whether the session's canceller can be had.
    pub(crate) fn canceller_panics(&self, panics: bool) {
        self.state.lock().canceller_panics = panics;
    }

    /// Ends every hang, now and later.
    pub(crate) fn release(&self) {
        self.state.lock().released = true;
        self.changed.notify_all();
    }

    fn begin(&self, call: fn(usize) -> Call) -> Act {
        let mut state = self.state.lock();
        let count = state.counts.entry(std::mem::discriminant(&call(0))).or_default();
        *count += 1;
        let call = call(*count);
        state.log.push(call);
        drop(state);
        self.changed.notify_all();
        (self.script)(call)
    }

    fn hang(&self, until: impl Fn(&State) -> bool) {
        let mut state = self.state.lock();
        while !state.released && !until(&state) {
            self.changed.wait(&mut state);
        }
    }

    /// A call without a job.
    fn between(&self, call: fn(usize) -> Call) -> Health {
        let act = self.begin(call);
        match self.suffer(act) {
            Err(error) => Health::Lost(error),
            Ok(Act::Lose) => Health::Lost(Error::new(Reason::Lost, "as the test wants it")),
            Ok(Act::Spend) => Health::Spent,
            Ok(_) => Health::Clean,
        }
    }

    /// What all kinds of calls have in common: hangs and panics.
    fn suffer(&self, act: Act) -> Result<Act> {
        match act {
            Act::Hang => self.hang(|_| false),
            Act::HangUntilCancelled => {
                let before = self.state.lock().cancels;
                self.hang(move |state| state.cancels > before);
                return Err(Error::new(Reason::Cancelled, "cancelled"));
            }
            Act::Panic => panic!("as the test wants it"),
            Act::Fail(reason) => return Err(Error::new(reason, "as the test wants it")),
            Act::Full => {
                return Err(Error::new(Reason::Server, "too many connections").with_full_server());
            }
            Act::FullDatabase => {
                let message = "too many connections for database";
                return Err(Error::new(Reason::Server, message).with_full_database());
            }
            _ => {}
        }
        Ok(act)
    }
}

struct FaultEndpoint {
    fault: Arc<Fault>,
    /// Where the entry names a `host`: targets with one of these are on one server.
    login: Option<ConnectionConfig>,
}

impl Endpoint for FaultEndpoint {
    fn connect(&self, _by: Deadline) -> Result<Box<dyn Session>> {
        let act = self.fault.begin(Call::Connect);
        self.fault.suffer(act)?;
        let facts = ServerFacts {
            version: "1".into(),
            flavor: "fault".into(),
            role: "primary".into(),
            ..ServerFacts::default()
        };
        Ok(Box::new(FaultSession { fault: Arc::clone(&self.fault), facts, left: Act::Rows(1) }))
    }

    fn connection_config(&self) -> Option<&ConnectionConfig> {
        self.login.as_ref()
    }

    fn redacted_url(&self) -> String {
        "fault://".into()
    }
}

struct FaultSession {
    fault: Arc<Fault>,
    facts: ServerFacts,
    /// What its last run was.
    left: Act,
}

struct Value(i64);

impl Row for Value {
    fn cell(&self, _column: usize) -> Result<Cell<'_>> {
        Ok(Cell::Int(self.0))
    }
}

struct Unreadable;

impl Row for Unreadable {
    fn cell(&self, _column: usize) -> Result<Cell<'_>> {
        Err(Error::new(Reason::Protocol, "as the test wants it"))
    }
}

fn column(name: &str) -> Column {
    Column {
        name: name.into(),
        type_name: "int".into(),
        advice: Advice::Label,
        quote: '"',
        content: ColumnContent::Unknown,
    }
}

/// What a session does that breaks its contract with the sink; how it ends.
fn lie(job: &mut Job<'_>, act: Act) -> Result<()> {
    match act {
        Act::NoColumns => drop(job.sink.row(&Value(7))),
        Act::ColumnsTwice => {
            give(job, 1)?;
            drop(job.sink.columns(&[column("other")]));
        }
        Act::OtherColumn => drop(job.sink.columns(&[column("other")]).and_then(|()| job.sink.row(&Value(7)))),
        Act::BadCell => drop(job.sink.columns(&[column("value")]).and_then(|()| job.sink.row(&Unreadable))),
        Act::EndTwice | Act::RowAfterEnd => {
            give(job, 1)?;
            job.sink.end(Ok(()), Duration::from_millis(1));
            drop(job.sink.row(&Value(7)));
            return Err(Error::new(Reason::Sql, "a second end"));
        }
        _ => return give(job, 1),
    }
    Ok(())
}

fn give(job: &mut Job<'_>, rows: usize) -> Result<()> {
    job.sink.columns(&[column("value")])?;
    for row in 1..=rows {
        if job.sink.row(&Value(i64::try_from(row).expect("small")))? == Flow::Stop {
            break;
        }
    }
    Ok(())
}

impl Session for FaultSession {
    fn run(&mut self, jobs: &mut [Job<'_>], _by: Deadline) -> Health {
        let mut health = Health::Clean;
        self.fault.state.lock().batches.push(jobs.len());
        for job in jobs {
            let act = self.fault.begin(Call::Run);
            let verdict = match self.fault.suffer(act) {
                Err(error) if error.is_server_full() => return Health::Lost(error),
                Err(error) => Err(error),
                Ok(Act::Lose) => return Health::Lost(Error::new(Reason::Lost, "as the test wants it")),
                Ok(Act::Cut(reason)) => {
                    job.sink.end(Err(Error::new(reason, "as the test wants it")), Duration::from_millis(1));
                    return Health::Lost(Error::new(Reason::Lost, "the session ended with the query before"));
                }
                Ok(Act::Forget) => continue,
                Ok(Act::LoseAfterRow) => {
                    // A sink that refuses the row is as lost as one that took it.
                    drop(give(job, 1));
                    return Health::Lost(Error::new(Reason::Lost, "as the test wants it"));
                }
                Ok(Act::Rows(rows)) => give(job, rows),
                Ok(Act::Needs(time)) if job.allowance < time => Err(Error::new(Reason::Timeout, "too slow")),
                Ok(Act::FailAfterRow(reason)) => {
                    give(job, 1).and(Err(Error::new(reason, "as the test wants it")))
                }
                Ok(act) => lie(job, act),
            };
            if matches!(act, Act::Spend | Act::GoOn | Act::PanicWhenAsked | Act::HangUntilCancelled) {
                health = Health::Spent;
                self.left = act;
            }
            job.sink.end(verdict, Duration::from_millis(1));
        }
        health
    }

    fn prepare(&mut self, statements: &[&Sql], _by: Deadline) -> Health {
        let statements = statements.iter().map(|sql| sql.text().to_owned()).collect();
        self.fault.state.lock().prepared.push(statements);
        self.fault.between(Call::Prepare)
    }

    fn ping(&mut self, _by: Deadline) -> Health {
        self.fault.between(Call::Ping)
    }

    fn refresh(&mut self, _by: Deadline) -> Health {
        self.fault.between(Call::Refresh)
    }

    fn describe(&mut self, _: &Sql, _: usize, _: Deadline) -> Result<Option<Vec<Column>>> {
        Ok(Some(vec![column("value")]))
    }

    fn privileges(&mut self, _by: Deadline) -> Result<Privileges> {
        let act = self.fault.begin(Call::Rights);
        self.fault.suffer(act)?;
        Ok(Privileges::default())
    }

    fn snapshot(&mut self, _open: bool, _by: Deadline) -> Health {
        self.fault.between(Call::Snapshot)
    }

    fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        assert!(!self.fault.state.lock().canceller_panics, "as the test wants it");
        Arc::new(FaultCanceller(Arc::clone(&self.fault)))
    }

    fn server_work(&mut self) -> ServerWork {
        let state = self.fault.state.lock();
        let has_ended = match self.left {
            Act::PanicWhenAsked => panic!("as the test wants it"),
            Act::GoOn => state.released,
            _ => !state.goes_on,
        };
        if has_ended { ServerWork::Disconnected } else { ServerWork::GoesOn }
    }
}

impl Drop for FaultSession {
    fn drop(&mut self) {
        let act = self.fault.begin(Call::Drop);
        // A failed drop has nobody to tell.
        let _ = self.fault.suffer(act);
    }
}

struct FaultCanceller(Arc<Fault>);

impl Canceller for FaultCanceller {
    fn cancel(&self, _by: Deadline) -> Result<()> {
        let act = self.0.begin(Call::Cancel);
        self.0.suffer(act)?;
        self.0.state.lock().cancels += 1;
        self.0.changed.notify_all();
        Ok(())
    }
}

fn login(host: String) -> ConnectionConfig {
    ConnectionConfig {
        hosts: vec![HostPort { host, port: 1 }],
        socket: None,
        database: None,
        username: None,
        password: PasswordSource::Given(Secret::new("none".to_owned())),
        tls: TlsConfig::default(),
        params: Vec::new(),
        read_only: true,
        session_sql: Vec::new(),
        connect_timeout: PATIENCE,
    }
}

struct FaultDriver {
    names: &'static [&'static str],
    faults: HashMap<String, Arc<Fault>>,
}

impl Driver for FaultDriver {
    fn names(&self) -> &'static [&'static str] {
        self.names
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        let database = keys.text("database")?;
        let login = keys.text("host").map(login);
        let Some(fault) = self.faults.get(&database).cloned() else {
            keys.fault("database", format!("the test has no fault {database:?}"));
            return None;
        };
        Some(Arc::new(FaultEndpoint { fault, login }))
    }
}

/// A driver for `Drivers::with`; `database:` chooses the fault. Lives as long as the process.
pub(crate) fn driver<'f>(
    name: &'static str,
    faults: impl IntoIterator<Item = (&'static str, &'f Arc<Fault>)>,
) -> &'static dyn Driver {
    let faults =
        faults.into_iter().map(|(database, fault)| (database.to_owned(), Arc::clone(fault))).collect();
    Box::leak(Box::new(FaultDriver { names: Box::leak(Box::new([name])), faults }))
}
