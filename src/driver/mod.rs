//! The interface to databases: drivers, endpoints, sessions, rows. Knows no metric, no file of the configuration, no HTTP.
//!
//! One driver is one file (or folder) plus one line in [`BUILT_IN`]. A driver turns the keys of one `databases:` entry into
//! an [`Endpoint`], an endpoint opens [`Session`]s, a session runs [`Job`]s one batch at a time.

pub mod advice;
pub mod answer;
pub mod bounded_text;
pub mod connection;
pub mod mysql;
pub mod postgres;
pub mod privileges;
pub mod refused_functions;
pub mod server_objects;
pub(crate) mod sql_lexer;
pub mod sql_position;
pub mod sqlite;
pub mod statement;
pub mod user_tables;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::error::{Error, Reason, Result};
use crate::value::Cell;
use crate::yaml::keys::Keys;

use self::connection::ConnectionConfig;
use self::connection::tls::TlsRequirement;

pub use self::privileges::Privileges;
pub use self::server_objects::RelationName;
pub use self::statement::AllowedStatements;

/// One SQL statement as configured, with the name its prepared form has on a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sql {
    text: String,
    name: String,
    catalog_only: bool,
}

impl Sql {
    /// The text without its surrounding blanks and final `;`; the name is a hash of what is left.
    pub fn new(text: &str) -> Self {
        let text = text.trim().trim_end_matches(';').trim_end().to_owned();
        // FNV-1a: stable between runs and machines, so that a server's statistics show one name per statement.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Sql { text, name: format!("sqlexp_{hash:016x}"), catalog_only: false }
    }

    /// A statement of the exporter: the names in it are those of the server's own catalog, whatever `search_path` says. The
    /// owner of a database may set that, and put functions and operators of the same names before the catalog's, which
    /// would run with the exporter's privileges.
    pub fn of_catalog(text: &str) -> Self {
        let Sql { text, name, .. } = Sql::new(text);
        // Prepared under another path it is another statement.
        Sql { text, name: name + "c", catalog_only: true }
    }

    /// Another text, in which names are resolved as in this one.
    pub fn with_text(&self, text: &str) -> Self {
        if self.catalog_only { Sql::of_catalog(text) } else { Sql::new(text) }
    }

    /// The statement.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True where `search_path` does not apply.
    pub fn is_catalog_only(&self) -> bool {
        self.catalog_only
    }

    /// The name of its prepared form: `sqlexp_`, 16 hexadecimal digits, and a `c` where it is catalog-only.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What the values of a column can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColumnContent {
    /// Numbers, booleans and spans of time.
    Number,
    /// Dates and timestamps: numbers too, in Unix seconds.
    Moment,
    /// Dates and timestamps of a time zone that is not known: no numbers.
    LocalTime,
    /// Text, in which a number may stand.
    Text,
    /// Bytes, in which text may stand, and in that a number.
    Bytes,
    /// Documents, lists, addresses: never a number.
    Other,
    /// Each value has a type of its own, there is no type (a bare NULL), or the driver cannot tell yet.
    #[default]
    Unknown,
}

/// One column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name as the database returns it.
    pub name: Arc<str>,
    /// The database's own name of the type, for error messages: `bigint`, `VARCHAR`, `numeric`.
    pub type_name: Arc<str>,
    /// What helps where its values are not numbers.
    pub advice: advice::Advice,
    /// What encloses a name in this database's SQL.
    pub quote: char,
    /// What its values can be.
    pub content: ColumnContent,
}

/// One row, valid until the next one is read. Cells are read in place, in any order, any number of times.
pub trait Row {
    /// The value in `column` (0-based).
    ///
    /// # Errors
    /// `protocol` where the server's bytes are not what the type says.
    fn cell(&self, column: usize) -> Result<Cell<'_>>;
}

/// Whether the sink wants more rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// More.
    Continue,
    /// Enough: the session stops the statement and ends the job with `Ok`.
    Stop,
}

/// Where the rows of one job go: `columns` once, `row` per row, `end` exactly once.
///
/// A job whose `end` was never called may be repeated once, on a fresh session with a fresh sink.
/// An `Err` from `columns` or `row` is the job's end: the session stops the statement and calls `end` with it.
pub trait RowSink {
    /// The result's columns, before the first row. Called for a result without rows too.
    ///
    /// # Errors
    /// A column that is missing or ambiguous.
    fn columns(&mut self, columns: &[Column]) -> Result<()>;

    /// One row.
    ///
    /// # Errors
    /// A value that cannot be used, a limit, a duplicate.
    fn row(&mut self, row: &dyn Row) -> Result<Flow>;

    /// The job is over. `took` is the time from its start to its last row, by the server's own clock where the protocol
    /// tells it: whether a query is fast is judged by this, whatever the round trip.
    fn end(&mut self, result: Result<()>, took: Duration);
}

/// The value of a parameter of a statement, as text; `None` is NULL.
pub type Parameter = Option<String>;

/// The error of a statement that has more parameters than a job binds.
fn too_few_parameters(needed: usize, given: usize) -> Error {
    let s = if needed == 1 { "" } else { "s" };
    let (what_is_given, hint) = match given {
        0 => (
            "there is no foreach".to_owned(),
            "write the value in its place, or add `foreach`, whose columns are the parameters",
        ),
        _ => (format!("foreach gives {given}"), "each column of foreach is one parameter, in their order"),
    };
    let message = format!("the statement has {needed} parameter{s}, and {what_is_given}");
    Error::new(Reason::Sql, message).with_hint(hint)
}

/// The default of [`Job::max_cell_bytes`].
pub const MAX_CELL_BYTES: usize = 1 << 20;

/// One query handed to a session.
pub struct Job<'q> {
    /// What to run.
    pub sql: &'q Sql,
    /// What its parameters are bound to, as text, in their order; `None` is NULL. Those beyond the statement's own are left
    /// out; where there are fewer, the job fails.
    pub parameters: &'q [Parameter],
    /// How long the server may work on it: what the session tells the server as its limit. Round trips are not
    /// part of it; [`Job::answer_due`] is the client's own limit.
    pub allowance: Duration,
    /// A longer value fails the job with `limit`, before it is held in memory.
    pub max_cell_bytes: usize,
    /// Where its rows go.
    pub sink: &'q mut dyn RowSink,
}

/// The error of a value of more than `max_cell_bytes`. `what`: the value.
fn value_too_long(what: &str, longest: usize) -> Error {
    Error::new(Reason::Limit, format!("{what} has more than {longest} bytes"))
        .with_hint("select less of it (`LEFT(…)`, `substr(…)`), or raise exporter.max_cell_bytes")
}

/// How much longer than its allowance a session waits for the answer to a job: for the round trips to a distant server,
/// and for a server that ends a statement late.
const ANSWER_GRACE: Duration = Duration::from_secs(2);

impl Job<'_> {
    /// When the session stops waiting for the answer: at `by`, or earlier when the server ignores the allowance. `sent`
    /// is the moment when the job became the first of those that are not answered.
    pub fn answer_due(&self, sent: Instant, by: Deadline) -> Deadline {
        by.min(Deadline::after(sent, self.allowance.saturating_add(ANSWER_GRACE)))
    }
}

/// What is left of a session after a batch.
#[derive(Debug)]
#[must_use]
pub enum Health {
    /// All jobs ended; the session serves the next batch.
    Clean,
    /// All jobs ended; the session must not be used again (a timeout, a cancel, an unread rest).
    Spent,
    /// The session died under the first job that was not ended.
    Lost(Error),
}

impl Health {
    /// Nothing for a session that can go on.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn usable(self) -> Result<()> {
        match self {
            Health::Clean => Ok(()),
            Health::Spent => Err(Error::new(Reason::Lost, "the session could not go on")),
            Health::Lost(error) => Err(error),
        }
    }

    /// The same where runs that have not ended go to another session.
    pub fn or_lost(self) -> Health {
        self.usable().map_or_else(Health::Lost, |()| Health::Clean)
    }
}

/// What protects the bytes between the exporter and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsState {
    /// A file or a Unix socket: no byte leaves the machine.
    #[default]
    Local,
    /// Plain text over TCP.
    Plain,
    /// Plain text, as the server refuses this user over TLS (`hostnossl`), and TLS is only preferred.
    PlainByRule,
    /// Encrypted; the server's certificate was not verified.
    Encrypted,
    /// Encrypted, certificate verified (`verify-ca` or `verify-full`).
    Verified,
}

impl TlsState {
    /// The value of the label `tls` of `target_info`.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsState::Local => "local",
            TlsState::Plain | TlsState::PlainByRule => "plain text",
            TlsState::Encrypted => "encrypted, not verified",
            TlsState::Verified => "verified",
        }
    }
}

/// What a session learned of its server at login.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// As the server writes it: `15.18 (Debian 15.18-0+deb12u1)`, `10.11.6-MariaDB`, `3.50.2`.
    pub version: String,
    /// `postgresql`, `pgbouncer`, `mysql`, `mariadb`, `sqlite`.
    pub flavor: String,
    /// `primary` or `replica`; empty where the server does not say.
    pub role: String,
    /// What protects the connection.
    pub tls: TlsState,
}

/// What a server does with what a session asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerWork {
    /// It may still work on it: the answer has not come, and the connection lives. Until that ends the session counts
    /// against `max_connections` of its target.
    GoesOn,
    /// Everything was answered: there is nothing to cancel.
    Answered,
    /// The connection has ended without the answer.
    Disconnected,
}

impl ServerWork {
    /// The server is done with the session, as far as the session can tell.
    #[must_use]
    pub fn has_ended(self) -> bool {
        self != ServerWork::GoesOn
    }
}

/// One live connection. It blocks; every call returns soon after its deadline.
pub trait Session: Send {
    /// Runs the jobs in order. Each job's sink gets its `end`, save those that a dead session left (`Lost`).
    /// A job that the server stopped at its allowance ends with `timeout` and the server's code. One whose answer did
    /// not come until [`Job::answer_due`] ends with `timeout`, too; its statement may still run in the server: `Spent`
    /// tells the caller to cancel and destroy this session.
    fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health;

    /// Prepares statements that this session has not run yet, all in one round trip where the protocol can: with a distant
    /// server each would cost a round trip of its own. Runs none of them. A statement that the server refuses here is
    /// refused again, with its own error, when it runs. Called at most once, before the first `run`; the names of the
    /// statements differ. `Lost` when no answer comes until `by` (a locked table delays even this) or the session dies:
    /// the caller then runs the queries on another session, which prepares nothing beforehand.
    fn prepare(&mut self, _statements: &[&Sql], _by: Deadline) -> Health {
        Health::Clean
    }

    /// One round trip that proves the server answers.
    fn ping(&mut self, by: Deadline) -> Health;

    /// Asks the server for what may have changed since the login and the protocol does not report by itself (the
    /// role); [`Session::facts`] returns it afterwards. One round trip at most, none where nothing can change.
    fn refresh(&mut self, by: Deadline) -> Health {
        self.ping(by)
    }

    /// One statement that tells the server's extensions, and whether these relations exist and the user can read them
    /// ([`server_objects`] has the form of its rows). `None` where there is nothing to ask.
    fn objects_question(&self, _relations: &[RelationName]) -> Option<Sql> {
        None
    }

    /// The columns that a statement would return, without running it; `None` where the server does not say beforehand
    /// (PgBouncer's console; MySQL's `CALL` and some `SHOW`). `parameters` is how many a job binds. The session stays as it
    /// is.
    ///
    /// # Errors
    /// `sql`, `permission`, `read_only`: as a run would fail; `timeout`, `lost`.
    fn describe(&mut self, sql: &Sql, parameters: usize, by: Deadline) -> Result<Option<Vec<Column>>>;

    /// What the user that logged in may do beyond reading. A few round trips.
    ///
    /// # Errors
    /// The server's own error; `timeout` and `lost` leave a session that must not be used again.
    fn privileges(&mut self, by: Deadline) -> Result<Privileges>;

    /// Opens (`true`) or closes one read-only transaction around the batches that follow: all jobs in it see the
    /// database at one moment, and one that fails does not affect the others.
    fn snapshot(&mut self, open: bool, by: Deadline) -> Health;

    /// True where what the session has open is gone, and a new session waits for its end. May look at files.
    fn is_outdated(&self) -> bool {
        false
    }

    /// What was learned at login.
    fn facts(&self) -> &ServerFacts;

    /// The shortest round trip to the server that was measured.
    fn round_trip_time(&self) -> Duration {
        Duration::ZERO
    }

    /// A handle that stops, from another thread, what this session runs.
    fn canceller(&self) -> Arc<dyn Canceller>;

    /// What the server does with what this session asked of it. Asked only of a session that serves no more, again and
    /// again after its cancel. Takes what has come and does not wait for more. By default the answer of a database that has
    /// stopped when [`Session::run`] returns.
    fn server_work(&mut self) -> ServerWork {
        ServerWork::Disconnected
    }
}

/// Stops what one session runs in the server. Only `disposal` calls it.
pub trait Canceller: Send + Sync {
    /// Asks the server to stop. Blocks until the server has the request, at most until `by`. Harmless on an idle session.
    ///
    /// # Errors
    /// The server could not be reached.
    fn cancel(&self, by: Deadline) -> Result<()>;

    /// Asks the server, on a connection of its own, whether it has ended what the session asked of it: the answer, or the
    /// cancel, may have been lost. `None` where nobody knows. Blocks as [`Canceller::cancel`] does.
    ///
    /// # Errors
    /// The server could not be asked.
    fn has_ended(&self, _by: Deadline) -> Result<Option<bool>> {
        Ok(None)
    }

    /// Ends the session in the server, whatever it runs: the process ends, and a cancel did not stop the statement.
    /// Blocks as [`Canceller::cancel`] does.
    ///
    /// # Errors
    /// The server could not be reached, or refuses; or this kind of session can only be cancelled.
    fn terminate(&self, by: Deadline) -> Result<()> {
        self.cancel(by)
    }
}

/// One configured database: makes sessions. Shared by all threads, holds no connection.
pub trait Endpoint: Send + Sync {
    /// Connects and logs in, at most until `by`. Blocks.
    ///
    /// # Errors
    /// `connect`, `resolve`, `auth`, `tls`, `timeout` (a login that did not end), `server`.
    fn connect(&self, by: Deadline) -> Result<Box<dyn Session>>;

    /// Which statements it may run; `None` where only the server knows.
    fn allows(&self) -> Option<AllowedStatements> {
        None
    }

    /// Why its statements can have no parameters; `None` where they can.
    fn refuses_parameters(&self) -> Option<&'static str> {
        None
    }

    /// How to connect and log in; `None` for a file.
    fn connection_config(&self) -> Option<&ConnectionConfig> {
        None
    }

    /// The least protection that the configuration requires of a connection.
    fn tls_requirement(&self) -> TlsRequirement {
        self.connection_config().map_or(TlsRequirement::Local, ConnectionConfig::tls_requirement)
    }

    /// The address without a secret, for people: `postgres://exporter@db.example:5432/shop`.
    fn redacted_url(&self) -> String;

    /// The same server, user and way to it with another database; `None` where a connection has none to choose.
    fn with_database(&self, _name: &str) -> Option<Arc<dyn Endpoint>> {
        None
    }

    /// The statement that lists the databases that the user may connect to, without those that are the server's own, in a
    /// column `database`; `None` where a connection has none to choose.
    fn databases_sql(&self) -> Option<Sql> {
        None
    }

    /// What to ask about the tables of the database's users; `None` where there are no tables.
    fn user_tables(&self) -> Option<&'static dyn user_tables::UserTables> {
        None
    }

    /// The statement that shows how the database would run `sql`, without running it; `None` where there is none.
    fn explain(&self, sql: &Sql) -> Option<Sql> {
        Some(sql.with_text(&format!("EXPLAIN {}", sql.text())))
    }

    /// The expression that turns a local date and time without a zone into Unix seconds, with `{}` for the column; `None`
    /// where there is no such type.
    fn epoch_expression(&self) -> Option<&'static str> {
        None
    }

    /// True when the password differs from the one that the server refused last: its file or command returns a new one. A
    /// back-off after `auth` then ends early. Blocks for a command, at most until `by`.
    fn has_new_password(&self, _by: Deadline) -> bool {
        false
    }
}

/// A kind of database.
pub trait Driver: Sync {
    /// The values of `driver:` and the URL schemes that mean it; the first one is its label value.
    fn names(&self) -> &'static [&'static str];

    /// Reads this driver's keys of a `databases:` entry: address, user, password, `tls`, `params`,
    /// `read_only`, `session_sql`. Faults are recorded in `keys`; `None` when there was one.
    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>>;
}

/// The drivers inside the binary: a new one is one line here.
static BUILT_IN: &[&dyn Driver] =
    &[&postgres::Postgres, &postgres::PgBouncer, &mysql::MySql, &sqlite::Sqlite];

/// Drivers that are known by name and not built in. An enabled query on one is an error, else a warning.
pub const UNSUPPORTED_DRIVERS: &[&str] = &["mssql", "sqlserver", "oracle", "clickhouse", "snowflake", "db2"];

/// The drivers that a configuration may name. A value, so that tests add a driver of their own.
#[derive(Clone)]
pub struct Drivers(Vec<&'static dyn Driver>);

impl Drivers {
    /// Those inside the binary.
    pub fn built_in() -> Self {
        Drivers(BUILT_IN.to_vec())
    }

    /// These and one more.
    #[must_use]
    pub fn with(mut self, driver: &'static dyn Driver) -> Self {
        self.0.push(driver);
        self
    }

    /// The driver called `name`.
    pub fn find(&self, name: &str) -> Option<&'static dyn Driver> {
        self.0.iter().copied().find(|driver| driver.names().contains(&name))
    }

    /// Every name, for hints.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().flat_map(|driver| driver.names().iter().copied())
    }
}
