//! One open file: a batch is one read transaction, its jobs run one by one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Statement};

use crate::deadline::Deadline;
use crate::driver::sql_position::with_position;
use crate::driver::statement;
use crate::driver::statement::Dialect;
use crate::driver::{
    Canceller, Column, ColumnContent, Flow, Health, Job, Privileges, Row, RowSink, ServerFacts, Session, Sql,
    bounded_text, value_too_long,
};
use crate::error::{Error, Reason, Result};
use crate::value::Cell;

use super::access::Access;
use super::advice;
use super::allow_values;
use super::fault;
use super::privileges;
use super::text_date::is_date;
use super::watch::{Interrupt, Watch};

/// Prepared statements kept by a session; a plan with more queries on one file prepares some of them again.
pub(super) const STATEMENTS: usize = 4_096;

/// The longest name of a column that is told: it may be an expression.
const LONGEST_COLUMN: usize = 1024;

/// A session on one file.
pub(super) struct FileSession {
    connection: Connection,
    watch: Arc<Watch>,
    canceller: Arc<Interrupt>,
    /// `None` for a database in memory. After the connection, which is closed before it.
    access: Option<Access>,
    read_only: bool,
    /// Statements that passed the first-keyword check.
    checked: HashSet<Box<str>>,
    /// A statement that may write has changed the session, or may have.
    is_changed: bool,
    facts: ServerFacts,
}

impl FileSession {
    pub(super) fn new(
        connection: Connection,
        watch: Arc<Watch>,
        access: Option<Access>,
        read_only: bool,
    ) -> Self {
        let handle = connection.get_interrupt_handle();
        let canceller = Arc::new(Interrupt { handle, watch: Arc::clone(&watch) });
        let facts = ServerFacts {
            version: rusqlite::version().to_owned(),
            flavor: "sqlite".to_owned(),
            role: "primary".to_owned(),
            ..ServerFacts::default()
        };
        let checked = HashSet::new();
        FileSession { connection, watch, canceller, access, read_only, checked, is_changed: false, facts }
    }

    /// Reads the file's first page, without waiting for a lock: proves that it is a database.
    /// A file that is locked right now answers too.
    ///
    /// # Errors
    /// `server` for what is no database, `connect` for what cannot be opened.
    pub(super) fn probe(&self) -> rusqlite::Result<()> {
        self.watch.arm(Deadline::within(Duration::ZERO));
        match self.connection.query_row("PRAGMA schema_version", [], |_| Ok(())) {
            Err(cause) if !matches!(self.fault(&cause).reason(), Reason::Locked | Reason::Cancelled) => {
                Err(cause)
            }
            _ => Ok(()),
        }
    }

    /// Whether the session may go on; see [`Access::still`].
    fn still(&self) -> Result<()> {
        self.access.as_ref().map_or(Ok(()), Access::still)
    }

    /// Whether what was just read is true; see [`Access::undisturbed`].
    fn undisturbed(&self) -> Result<()> {
        self.access.as_ref().map_or(Ok(()), Access::undisturbed)
    }

    fn fault(&self, cause: &rusqlite::Error) -> Error {
        fault::error(cause, self.access.as_ref().map(Access::path))
    }

    fn check(&mut self, sql: &Sql) -> Result<()> {
        if self.read_only && !self.checked.contains(sql.text()) {
            statement::check_read_only(sql.text(), Dialect::Sqlite)?;
            if self.checked.len() >= STATEMENTS {
                self.checked.clear();
            }
            self.checked.insert(sql.text().into());
        }
        Ok(())
    }

    fn run_one(&mut self, job: &mut Job<'_>, by: Deadline) -> Result<()> {
        let limit = by.or_within(job.allowance);
        let late = || {
            let what = if limit < by { "its timeout" } else { "the scrape's deadline" };
            Error::new(Reason::Timeout, format!("the query was stopped at {what}"))
        };
        if limit.passed() {
            return Err(late());
        }
        self.check(job.sql)?;
        self.watch.arm(limit);
        allow_values(&self.connection, job.max_cell_bytes).map_err(|cause| self.fault(&cause))?;
        if !self.read_only {
            self.watch.hold_locks(&mut self.connection).map_err(|cause| self.fault(&cause))?;
        }
        let done = self.stream(job.sql, job.max_cell_bytes, job.sink);
        let is_as_before = self.connection.is_autocommit() && leaves_nothing(job.sql.text());
        self.is_changed |= !self.read_only && !is_as_before;
        done.map_err(|error| match error.reason() {
            Reason::Cancelled | Reason::Locked if self.watch.cancelled() => {
                Error::new(Reason::Cancelled, "the query was cancelled")
            }
            Reason::Cancelled => fault::interrupted(late()),
            _ => error,
        })
    }

    fn stream(&self, sql: &Sql, longest: usize, sink: &mut dyn RowSink) -> Result<()> {
        let failed = |cause| with_position(self.fault(&cause), sql.text());
        let mut statement = self.connection.prepare_cached(sql.text()).map_err(failed)?;
        if self.read_only && !statement.readonly() {
            return Err(Error::new(Reason::ReadOnly, "the statement would write")
                .with_hint("set read_only: false on the target if it is meant to"));
        }
        let mut rows = statement.query([]).map_err(failed)?;
        // Columns after the first step, which is when SQLite notices that the schema has changed.
        let Some(mut row) = rows.next().map_err(failed)? else {
            drop(rows);
            return sink.columns(&columns(&statement, |_| "NULL"));
        };
        sink.columns(&columns(row.as_ref(), |column| storage_class(row, column)))?;
        let count = row.as_ref().column_count();
        while sink.row(&InPlace::checked(row, count, longest)?)? == Flow::Continue {
            let Some(next) = rows.next().map_err(failed)? else { break };
            row = next;
        }
        Ok(())
    }

    fn run_all(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        let mut health = Health::Clean;
        for job in jobs {
            let start = Instant::now();
            let verdict = self.run_one(job, by);
            // Also after an error, which may come of what was read in the middle of a write.
            if let Err(error) = self.undisturbed() {
                return Health::Lost(error);
            }
            if verdict.as_ref().is_err_and(|error| spoils(error.reason())) {
                health = Health::Spent;
            }
            job.sink.end(verdict, start.elapsed());
        }
        if self.is_changed { Health::Spent } else { health }
    }

    /// `BEGIN` and `COMMIT` of the batch. A session that may write commits each statement by itself, so that one
    /// job's timeout does not take back another's work.
    fn transaction(&self, word: &str) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        let failed = |cause| self.fault(&cause);
        self.connection.prepare_cached(word).and_then(|mut done| done.execute([])).map_err(failed).map(|_| ())
    }
}

/// After these the file or the connection is not what it was; a deadline of our own leaves nothing behind.
fn spoils(reason: Reason) -> bool {
    matches!(reason, Reason::Server | Reason::Connect | Reason::Cancelled)
}

/// True for a statement after which its session is what it was before. A pragma, an attached file, a temporary table, an
/// open transaction are for nobody else: the next batch has a session of its own.
fn leaves_nothing(sql: &str) -> bool {
    ["SELECT", "WITH", "VALUES", "EXPLAIN", "INSERT", "REPLACE", "UPDATE", "DELETE"]
        .iter()
        .any(|word| statement::begins_with(sql, &[word], Dialect::Sqlite))
}

impl Session for FileSession {
    fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        self.watch.forget_cancel();
        if let Err(error) = self.still().and_then(|()| self.transaction("BEGIN")) {
            return Health::Lost(error);
        }
        let health = self.run_all(jobs, by);
        if self.transaction("COMMIT").is_err() { Health::Spent } else { health }
    }

    fn ping(&mut self, _by: Deadline) -> Health {
        match self.still().and_then(|()| self.probe().map_err(|cause| self.fault(&cause))) {
            Ok(()) => Health::Clean,
            Err(error) => Health::Lost(error),
        }
    }

    /// A file's role never changes.
    fn refresh(&mut self, _: Deadline) -> Health {
        Health::Clean
    }

    fn describe(&mut self, sql: &Sql, by: Deadline) -> Result<Option<Vec<Column>>> {
        self.still()?;
        self.check(sql)?;
        self.watch.forget_cancel();
        self.watch.arm(by);
        let failed = |cause| with_position(self.fault(&cause), sql.text());
        let statement = self.connection.prepare(sql.text()).map_err(failed)?;
        Ok(Some(columns(&statement, |_| "any")))
    }

    fn privileges(&mut self, _: Deadline) -> Result<Privileges> {
        privileges::of(&self.connection).map_err(|cause| self.fault(&cause))
    }

    /// Every batch is one read transaction already.
    fn snapshot(&mut self, _: bool, _: Deadline) -> Health {
        Health::Clean
    }

    fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::clone(&self.canceller) as Arc<dyn Canceller>
    }
}

/// A row where SQLite keeps it, valid until the next step.
struct InPlace<'r>(&'r rusqlite::Row<'r>);

impl<'r> InPlace<'r> {
    /// The row, unless one of its values is too long.
    fn checked(row: &'r rusqlite::Row<'r>, columns: usize, longest: usize) -> Result<Self> {
        for column in 0..columns {
            if let Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) = row.get_ref(column)
                && bytes.len() > longest
            {
                let name = row.as_ref().column_name(column).unwrap_or_default();
                let what = format!(
                    "the value of column `{}`",
                    bounded_text::cut(name, bounded_text::MAX_NAME_BYTES)
                );
                return Err(value_too_long(&what, longest));
            }
        }
        Ok(InPlace(row))
    }
}

impl Row for InPlace<'_> {
    fn cell(&self, column: usize) -> Result<Cell<'_>> {
        let value =
            self.0.get_ref(column).map_err(|cause| Error::new(Reason::Protocol, cause.to_string()))?;
        Ok(match value {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(number) => Cell::Int(number),
            ValueRef::Real(number) => Cell::Float(number),
            ValueRef::Text(bytes) => match str::from_utf8(bytes) {
                Ok(text) if is_date(text) => Cell::TextDate(text),
                Ok(text) => Cell::Text(text),
                Err(_) => Cell::Bytes(bytes),
            },
            ValueRef::Blob(bytes) => Cell::Bytes(bytes),
        })
    }
}

/// The result's columns. The type is the declared one, or for an expression what `class` says.
fn columns(statement: &Statement<'_>, class: impl Fn(usize) -> &'static str) -> Vec<Column> {
    let described = statement.columns().enumerate();
    described
        .map(|(index, column)| Column {
            name: bounded_text::cut(column.name(), LONGEST_COLUMN).into(),
            type_name: bounded_text::cut(
                column.decl_type().unwrap_or_else(|| class(index)),
                bounded_text::MAX_NAME_BYTES,
            )
            .into(),
            advice: advice::DATE,
            quote: '"',
            // Whatever is declared, a cell holds what was put there.
            content: ColumnContent::Unknown,
        })
        .collect()
}

fn storage_class(row: &rusqlite::Row<'_>, column: usize) -> &'static str {
    match row.get_ref(column).map(|value| value.data_type()) {
        Ok(Type::Integer) => "INTEGER",
        Ok(Type::Real) => "REAL",
        Ok(Type::Text) => "TEXT",
        Ok(Type::Blob) => "BLOB",
        Ok(Type::Null) | Err(_) => "NULL",
    }
}
