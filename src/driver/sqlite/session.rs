//! A session on an open database: a batch is one read transaction, its jobs run one by one.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Statement};

use crate::deadline::Deadline;
use crate::driver::sql_position::with_position;
use crate::driver::statement::{Dialect, begins_with, check_read_only};
use crate::driver::{
    Canceller, Column, ColumnContent, Flow, Health, Job, Privileges, RelationName, Row, ServerFacts, Session,
    Sql, bounded_text, too_few_parameters, value_too_long,
};
use crate::error::{Error, Reason, Result};
use crate::value::Cell;

use super::advice::{self, is_date};
use super::allow_values;
use super::errors;
use super::file_access::FileAccess;
use super::stop_signal::{SqliteCanceller, StopSignal};

/// Prepared statements that a session keeps; with more queries on one file some of them are prepared again.
pub(super) const STATEMENTS: usize = 4_096;

/// How SQLite says that a file in another encoding was copied over this one: a connection takes its encoding once.
const OTHER_ENCODING: &str = "attached databases must use the same text encoding";

/// The longest name of a column that is reported: it may be an expression.
const LONGEST_COLUMN_NAME: usize = 1024;

/// A session on one file, or on a database in memory.
pub(super) struct SqliteSession {
    connection: Connection,
    stop_signal: Arc<StopSignal>,
    canceller: Arc<SqliteCanceller>,
    /// `None` for a database in memory. After the connection, which is closed before it.
    access: Option<FileAccess>,
    read_only: bool,
    /// Statements that passed the first-keyword check.
    checked: HashSet<Box<str>>,
    /// A statement that may write has changed the session, or may have.
    is_changed: bool,
    facts: ServerFacts,
}

impl SqliteSession {
    pub(super) fn new(
        connection: Connection,
        stop_signal: Arc<StopSignal>,
        access: Option<FileAccess>,
        read_only: bool,
    ) -> Self {
        let (handle, signal) = (connection.get_interrupt_handle(), Arc::clone(&stop_signal));
        let facts = ServerFacts {
            version: rusqlite::version().to_owned(),
            flavor: "sqlite".to_owned(),
            role: "primary".to_owned(),
            ..ServerFacts::default()
        };
        SqliteSession {
            connection,
            stop_signal,
            canceller: Arc::new(SqliteCanceller { handle, signal }),
            access,
            read_only,
            checked: HashSet::new(),
            is_changed: false,
            facts,
        }
    }

    /// Whether the session may go on. A file that was written since the last batch is read again, not taken from SQLite's cache.
    fn check_unchanged(&mut self) -> Result<()> {
        if !self.access.as_mut().map_or(Ok(false), FileAccess::check_unchanged)? {
            return Ok(());
        }
        // The schema too: that of a restored dump may have the number of the old one, and its tables on other pages.
        let schema = || self.connection.execute_batch("PRAGMA writable_schema = RESET");
        self.connection.release_memory().and_then(|()| schema()).map_err(|cause| self.error(&cause))
    }

    fn error(&self, cause: &rusqlite::Error) -> Error {
        errors::error(cause, self.access.as_ref().map(FileAccess::path))
    }

    fn check(&mut self, sql: &Sql) -> Result<()> {
        if self.read_only && !self.checked.contains(sql.text()) {
            check_read_only(sql.text(), Dialect::Sqlite)?;
            if self.checked.len() >= STATEMENTS {
                self.checked.clear();
            }
            self.checked.insert(sql.text().into());
        }
        Ok(())
    }

    /// What the first keyword does not tell: `WITH x AS (…) INSERT …`.
    fn check_writes(&self, statement: &Statement<'_>) -> Result<()> {
        if self.read_only && !statement.readonly() {
            return Err(Error::new(Reason::ReadOnly, "the statement would write")
                .with_hint("set read_only: false on the target if it is meant to"));
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
        self.stop_signal.set_deadline(limit);
        allow_values(&self.connection, job.max_cell_bytes).map_err(|cause| self.error(&cause))?;
        if !self.read_only {
            let installed = self.stop_signal.install_busy_handler(&mut self.connection);
            installed.map_err(|cause| self.error(&cause))?;
        }
        let result = self.stream(job);
        if !self.read_only {
            let is_as_before = self.connection.is_autocommit() && leaves_session_unchanged(job.sql.text());
            self.is_changed |= !is_as_before;
        }
        result.map_err(|error| match error.reason() {
            Reason::Cancelled | Reason::Locked if self.stop_signal.is_cancelled() => {
                Error::new(Reason::Cancelled, "the query was cancelled")
            }
            Reason::Cancelled => late().with_sqlstate("SQLITE_INTERRUPT"),
            _ => error,
        })
    }

    fn stream(&self, job: &mut Job<'_>) -> Result<()> {
        let Job { sql, parameters, max_cell_bytes, ref mut sink, .. } = *job;
        let failed = |cause| with_position(self.error(&cause), sql.text());
        let mut statement = self.connection.prepare_cached(sql.text()).map_err(failed)?;
        self.check_writes(&statement)?;
        let numbers = parameter_numbers(&statement, parameters.len())?;
        let bound = numbers.iter().map(|number| &parameters[number - 1]);
        let mut rows = statement.query(rusqlite::params_from_iter(bound)).map_err(failed)?;
        // Columns after the first step, which is when SQLite notices that the schema has changed.
        let Some(mut row) = rows.next().map_err(failed)? else {
            drop(rows);
            return sink.columns(&columns(&statement, |_| "NULL")?);
        };
        sink.columns(&columns(row.as_ref(), |column| storage_class(row, column))?)?;
        let count = row.as_ref().column_count();
        while sink.row(&RowInPlace::checked(row, count, max_cell_bytes)?)? == Flow::Continue {
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
            let undisturbed = self.access.as_ref().map_or(Ok(()), FileAccess::check_undisturbed);
            if let Err(error) = undisturbed {
                return Health::Lost(error);
            }
            if let Err(error) = &verdict
                && error.message().starts_with(OTHER_ENCODING)
            {
                return Health::Lost(error.clone());
            }
            // After these the file or the connection is not what it was; a deadline of our own leaves nothing behind.
            if let Err(error) = &verdict
                && matches!(error.reason(), Reason::Server | Reason::Connect | Reason::Cancelled)
            {
                health = Health::Spent;
            }
            job.sink.end(verdict, start.elapsed());
        }
        if self.is_changed { Health::Spent } else { health }
    }

    /// `BEGIN` and `COMMIT` of the batch. A session that may write commits each statement by itself, so that one
    /// job's timeout does not take back another's work.
    fn transaction(&self, statement: &str) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        let done = self.connection.prepare_cached(statement).and_then(|mut statement| statement.execute([]));
        done.map(drop).map_err(|cause| self.error(&cause))
    }
}

/// Reads the file's first page, without waiting for a lock: proves that it is a database.
/// A file that is locked right now is one too: false, as SQLite does not have it open yet.
///
/// # Errors
/// `server` for what is not a database, `connect` for what cannot be opened.
pub(super) fn probe(connection: &Connection, stop_signal: &StopSignal) -> rusqlite::Result<bool> {
    stop_signal.set_deadline(Deadline::within(Duration::ZERO));
    match connection.query_row("PRAGMA schema_version", [], |_| Ok(())) {
        Ok(()) => Ok(true),
        Err(cause) => match errors::error(&cause, None).reason() {
            Reason::Locked | Reason::Cancelled => Ok(false),
            _ => Err(cause),
        },
    }
}

/// True for a statement after which its session is what it was before. A pragma, an attached file, a temporary table, an
/// open transaction are for no other query: the next batch has a session of its own.
fn leaves_session_unchanged(sql: &str) -> bool {
    ["SELECT", "WITH", "VALUES", "EXPLAIN", "INSERT", "REPLACE", "UPDATE", "DELETE"]
        .iter()
        .any(|word| begins_with(sql, &[word], Dialect::Sqlite))
}

impl Session for SqliteSession {
    fn run(&mut self, jobs: &mut [Job<'_>], by: Deadline) -> Health {
        self.stop_signal.forget_cancel();
        if let Err(error) = self.check_unchanged().and_then(|()| self.transaction("BEGIN")) {
            return Health::Lost(error);
        }
        let health = self.run_all(jobs, by);
        if self.transaction("COMMIT").is_err() { Health::Spent } else { health }
    }

    fn ping(&mut self, _by: Deadline) -> Health {
        let probed = |session: &mut Self| {
            probe(&session.connection, &session.stop_signal).map_err(|cause| session.error(&cause))
        };
        match self.check_unchanged().and_then(|()| probed(self)) {
            Ok(_) => Health::Clean,
            Err(error) => Health::Lost(error),
        }
    }

    /// A file's role never changes.
    fn refresh(&mut self, _: Deadline) -> Health {
        Health::Clean
    }

    fn describe(&mut self, sql: &Sql, parameters: usize, by: Deadline) -> Result<Option<Vec<Column>>> {
        self.check_unchanged()?;
        self.check(sql)?;
        self.stop_signal.forget_cancel();
        self.stop_signal.set_deadline(by);
        let failed = |cause| with_position(self.error(&cause), sql.text());
        let statement = self.connection.prepare(sql.text()).map_err(failed)?;
        self.check_writes(&statement)?;
        parameter_numbers(&statement, parameters)?;
        columns(&statement, |_| "any").map(Some)
    }

    /// SQLite has no users: what the file's mode allows counts, and only where `read_only` is false. SQLite itself reports
    /// what came of that.
    fn privileges(&mut self, _: Deadline) -> Result<Privileges> {
        let may_only_read = self.connection.is_readonly("main").map_err(|cause| self.error(&cause))?;
        let risk =
            "`read_only: false`, and this process may write the file: leave the key out if no query writes";
        let risks = if may_only_read { Vec::new() } else { vec![risk.to_owned()] };
        Ok(Privileges { user: None, risks, grants: Vec::new() })
    }

    /// Every batch is one read transaction already.
    fn snapshot(&mut self, _: bool, _: Deadline) -> Health {
        Health::Clean
    }

    /// SQLite has no list of extensions.
    fn objects_question(&self, relations: &[RelationName]) -> Option<Sql> {
        let in_main = |relation: &RelationName| relation.schema().eq_ignore_ascii_case("main");
        let asked = relations.iter().enumerate().filter(|(_, relation)| in_main(relation));
        let asked: Vec<String> =
            asked.map(|(place, relation)| format!("('{place}', '{}')", relation.name())).collect();
        // Not one SELECT for each: SQLite joins 500 at most.
        let question = format!(
            "SELECT 'relation', asked.column1, 'readable' FROM (VALUES {}) AS asked JOIN main.sqlite_schema AS known \
             ON known.name = asked.column2 COLLATE NOCASE WHERE known.type IN ('table', 'view')",
            asked.join(", ")
        );
        (!asked.is_empty()).then(|| Sql::of_catalog(&question))
    }

    fn is_outdated(&self) -> bool {
        self.access.as_ref().is_some_and(FileAccess::is_outdated)
    }

    fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::clone(&self.canceller) as Arc<dyn Canceller>
    }
}

/// A row where SQLite keeps it, valid until the next step.
struct RowInPlace<'r>(&'r rusqlite::Row<'r>);

impl<'r> RowInPlace<'r> {
    /// The row, unless one of its values is too long.
    fn checked(row: &'r rusqlite::Row<'r>, columns: usize, max_cell_bytes: usize) -> Result<Self> {
        for column in 0..columns {
            if let Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) = row.get_ref(column)
                && bytes.len() > max_cell_bytes
            {
                let name = row.as_ref().column_name(column).unwrap_or_default();
                let what = format!("the value of column `{}`", bounded_text::name(name));
                return Err(value_too_long(&what, max_cell_bytes));
            }
        }
        Ok(RowInPlace(row))
    }
}

impl Row for RowInPlace<'_> {
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

/// Which of so many values each parameter of a statement is, from 1: `?` and `?2` by its place, `$2` by its number, as on
/// PostgreSQL. To SQLite that is a name, and names count in the order in which they stand in the text.
fn parameter_numbers(statement: &Statement<'_>, given: usize) -> Result<Vec<usize>> {
    let number = |place: usize| {
        let named = statement.parameter_name(place).filter(|name| !name.starts_with('?'));
        let Some(name) = named else { return Ok(place) };
        let number = name.strip_prefix('$').and_then(|digits| digits.parse().ok());
        number.filter(|number| *number > 0).ok_or_else(|| {
            let message = format!(
                "the parameter `{}` is a name, and parameters are numbered",
                bounded_text::name(name)
            );
            Error::new(Reason::Sql, message).with_hint("write `?`, or `?2` for the second one")
        })
    };
    let numbers = (1..=statement.parameter_count()).map(number).collect::<Result<Vec<usize>>>()?;
    match numbers.iter().max() {
        Some(needed) if *needed > given => Err(too_few_parameters(*needed, given)),
        _ => Ok(numbers),
    }
}

/// The result's columns. The type is the declared one, or for an expression what `class` says.
///
/// # Errors
/// `sql` for a name or a declared type that is not UTF-8, at which rusqlite panics: they are what the table's maker wrote.
fn columns(statement: &Statement<'_>, class: impl Fn(usize) -> &'static str) -> Result<Vec<Column>> {
    let column = |(index, column): (usize, rusqlite::Column<'_>)| {
        let declared = column.decl_type().unwrap_or_else(|| class(index));
        Column {
            name: bounded_text::cut(column.name(), LONGEST_COLUMN_NAME).into(),
            type_name: bounded_text::name(declared).into(),
            advice: advice::DATE,
            quote: '"',
            // Whatever is declared, a cell holds what was put there.
            content: ColumnContent::Unknown,
        }
    };
    let mut all = Vec::new();
    let read = || statement.columns().enumerate().map(column).for_each(|column| all.push(column));
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| {
        let message =
            format!("column {} of the result has a name or a declared type that is not UTF-8", all.len() + 1);
        Error::new(Reason::Sql, message)
            .with_hint("select it as an expression with a name of its own: `+x AS x`")
    })?;
    Ok(all)
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
