//! What is sent for one query: guard statement, query, and the clock behind it, in each of the four protocols.
//!
//! [`RequestWriter::query`] ends with a `Sync`; a [`GroupWriter`] has one for several queries.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use crate::driver::{Parameter, Sql};

use super::guard_statement::{self, GUARD, GUARD_ROWS, GuardOptions, QueryLimits, SessionLimits};
use super::result_shape::ResultShape;
use super::session_sql;
use super::statement_cache::KnownStatement;

/// How queries are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryProtocol {
    /// Prepared once per session, by name.
    Named,
    /// Parsed each time: behind a pooler a prepared statement may be on another server connection.
    Unnamed,
    /// The simple protocol, in a transaction of its own.
    Simple,
    /// PgBouncer's console: the bare text.
    Console,
}

impl QueryProtocol {
    /// Why statements can have no parameters; `None` where they can.
    pub(super) fn refuses_parameters(self) -> Option<&'static str> {
        match self {
            QueryProtocol::Named | QueryProtocol::Unnamed => None,
            QueryProtocol::Simple => Some("statements have no parameters with params: {protocol: simple}"),
            QueryProtocol::Console => Some("PgBouncer's console has no parameters"),
        }
    }
}

/// Undoes a query of a snapshot; the savepoint stays for the next.
pub(super) const UNDO: &str = "ROLLBACK TO SAVEPOINT sqlexp";

/// What the answer to a query looks like.
pub(super) struct SentQuery {
    /// Known where the server keeps to it.
    pub(super) shape: Option<Arc<ResultShape>>,
    /// Results before the query's own.
    pub(super) results_before: usize,
    /// The end of its transaction, or of what it did in a snapshot, has a `Sync` of its own behind the query's.
    pub(super) undone: bool,
    pub(super) limits: QueryLimits,
}

/// What a session's queries have in common.
pub(super) struct RequestWriter {
    pub(super) protocol: QueryProtocol,
    pub(super) guard: GuardOptions,
    /// What each transaction sets anew.
    pub(super) local: Option<String>,
    /// A transaction is open, and each query is undone after it.
    pub(super) in_snapshot: bool,
    /// The limits that the session had before ours, where it keeps them.
    pub(super) own_limits: SessionLimits,
    /// The server has [`GuardOptions::guard_rows`] and they work.
    pub(super) has_guard_rows: bool,
}

impl RequestWriter {
    pub(super) fn new(protocol: QueryProtocol, guard: GuardOptions) -> Self {
        RequestWriter {
            protocol,
            guard,
            local: None,
            in_snapshot: false,
            own_limits: SessionLimits::default(),
            has_guard_rows: false,
        }
    }

    /// From now on each transaction may run on another server connection.
    pub(super) fn expect_pooler(&mut self) {
        self.guard.pooled = true;
        if self.protocol == QueryProtocol::Named {
            self.protocol = QueryProtocol::Unnamed;
        }
    }

    /// Opens the transaction of a snapshot: it sees the database at one moment, and each query starts from a savepoint and
    /// is undone to it, so that one that fails leaves the others alone. The answer is the server process, which serves all of it.
    /// <https://www.postgresql.org/docs/current/transaction-iso.html#XACT-REPEATABLE-READ>
    pub(super) fn open_snapshot(&self) -> String {
        let local = self.local.as_ref().map(|local| format!("{local}; ")).unwrap_or_default();
        format!(
            "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; {local}SAVEPOINT sqlexp; \
             SELECT pg_catalog.pg_backend_pid()"
        )
    }

    /// True where each query, or question for a shape, has the end of what it did right behind it.
    pub(super) fn is_undone_at_once(&self) -> bool {
        self.in_snapshot && self.protocol == QueryProtocol::Named
    }

    /// True where each query's own message ends with the end of all that it has set.
    pub(super) fn rolls_back_itself(&self) -> bool {
        self.protocol == QueryProtocol::Simple && self.guard.read_only
    }

    /// Puts what comes before a query into `out`: what each transaction sets, and the guard statement. Says how many results
    /// these have. `is_styled`: the query is read by the styles of its transaction.
    fn begin(
        &self,
        sql: &Sql,
        limits: QueryLimits,
        is_styled: bool,
        out: &mut BytesMut,
    ) -> io::Result<usize> {
        let is_named = self.protocol == QueryProtocol::Named;
        // A snapshot's transaction has set it once.
        let local = self.local.as_deref().filter(|_| !self.in_snapshot);
        match local {
            Some(_) if is_named => execute(session_sql::LOCAL, None, &[], out)?,
            Some(local) => execute_text(local, None, out)?,
            None => {}
        }
        if is_named && is_styled {
            execute_text(&self.guard.styled_text(sql.is_catalog_only()), Some(limits), out)?;
        } else if is_named && !sql.is_catalog_only() {
            execute(GUARD, Some(limits), &[], out)?;
        } else {
            execute_text(&self.guard.text(sql.is_catalog_only()), Some(limits), out)?;
        }
        Ok(1 + usize::from(local.is_some()))
    }

    /// Asks for the shape of a statement, to be prepared as `name`. The guard keeps it from waiting forever for a lock.
    pub(super) fn describe(
        &self,
        name: &str,
        sql: &Sql,
        limits: QueryLimits,
        out: &mut BytesMut,
    ) -> io::Result<()> {
        self.begin(sql, limits, false, out)?;
        frontend::parse(name, sql.text(), [], out)?;
        frontend::describe(b'S', name, out)?;
        frontend::sync(out);
        if self.is_undone_at_once() {
            execute_text(UNDO, None, out)?;
            frontend::sync(out);
        }
        Ok(())
    }

    /// Puts into `out` what runs `sql` once within `limits`, its parameters bound to the first of `parameters`. `known` is
    /// what is known of it in the extended protocol.
    pub(super) fn query(
        &self,
        sql: &Sql,
        parameters: &[Parameter],
        known: Option<&KnownStatement>,
        limits: QueryLimits,
        out: &mut BytesMut,
    ) -> io::Result<SentQuery> {
        let formats = known.map(|known| known.shape.formats.as_slice()).unwrap_or_default();
        let count = known.map_or(0, |known| known.shape.parameters);
        let values = parameters.get(..count).unwrap_or_default();
        let rolls_back = !self.in_snapshot && known.is_some_and(|known| known.undone);
        let mut sent = SentQuery { shape: None, results_before: 0, undone: false, limits };
        if rolls_back {
            execute_text("BEGIN", None, out)?;
            sent.results_before = 1;
        }
        match self.protocol {
            QueryProtocol::Named => {
                let is_styled = known.is_some_and(|known| known.shape.has_money());
                sent.results_before += self.begin(sql, limits, is_styled, out)?;
                execute_values(sql.name(), values, formats, out)?;
                execute(GUARD, Some(limits), &[], out)?;
                frontend::sync(out);
                sent.shape = known.map(|known| Arc::clone(&known.shape));
                sent.undone = rolls_back || self.in_snapshot;
                if sent.undone {
                    // Under a `Sync` of its own it is not skipped after an error.
                    execute_text(if rolls_back { "ROLLBACK" } else { UNDO }, None, out)?;
                    frontend::sync(out);
                }
            }
            QueryProtocol::Unnamed => {
                sent.results_before += self.begin(sql, limits, true, out)?;
                frontend::parse("", sql.text(), [], out)?;
                bind_values("", values, formats, out)?;
                // The result's shape may have changed: there is no plan that the server would have to keep to.
                frontend::describe(b'P', "", out)?;
                frontend::execute("", 0, out)?;
                execute_text(&guard_statement::clock(), None, out)?;
                if rolls_back {
                    execute_text("ROLLBACK", None, out)?;
                }
                frontend::sync(out);
            }
            QueryProtocol::Simple => {
                sent.results_before = self.simple_query(sql, limits, out)?;
            }
            QueryProtocol::Console => frontend::query(sql.text(), out)?,
        }
        Ok(sent)
    }

    /// One message, so that nothing runs where BEGIN or the guard statement fails. The line end closes a comment.
    fn simple_query(&self, sql: &Sql, limits: QueryLimits, out: &mut BytesMut) -> io::Result<usize> {
        let before = self.simple_begin(sql, limits);
        let (text, clock) = (sql.text(), guard_statement::clock());
        if self.in_snapshot {
            frontend::query(&format!("{before}{text}\n;{clock}"), out)?;
            return Ok(1);
        }
        let last = if self.guard.read_only { "ROLLBACK" } else { "COMMIT" };
        frontend::query(&format!("{before}{text}\n;{clock};{last}"), out)?;
        Ok(2 + usize::from(self.local.is_some()))
    }

    /// What stands before a statement in the simple protocol.
    fn simple_begin(&self, sql: &Sql, limits: QueryLimits) -> String {
        let guard = limits.written_into(&self.guard.text(sql.is_catalog_only()));
        if self.in_snapshot {
            return format!("{guard};\n");
        }
        let local = self.local.as_ref().map(|local| format!("{local};")).unwrap_or_default();
        format!("BEGIN;{local}{guard};\n")
    }

    /// How many characters of ours the server counts before a statement, where it tells the place of an error.
    pub(super) fn characters_before(&self, sql: &Sql, limits: QueryLimits) -> usize {
        match self.protocol {
            QueryProtocol::Simple => self.simple_begin(sql, limits).chars().count(),
            _ => 0,
        }
    }
}

/// Writes what is sent for the queries under one `Sync`.
pub(super) struct GroupWriter<'w> {
    writer: &'w RequestWriter,
    /// Its first query is catalog-only, and so are all: the path holds until the `Sync`. `None`: it has none yet.
    catalog_only: Option<bool>,
    /// The limits that its open portal sets.
    portal: Option<QueryLimits>,
    /// The limits in force.
    limits: Option<QueryLimits>,
}

impl<'w> GroupWriter<'w> {
    /// Nothing was sent yet.
    pub(super) fn new(writer: &'w RequestWriter) -> Self {
        GroupWriter { writer, catalog_only: None, portal: None, limits: None }
    }

    /// Whether `sql` may run in the transaction of those before it.
    pub(super) fn takes(&self, sql: &Sql) -> bool {
        self.catalog_only.is_none_or(|only| only == sql.is_catalog_only())
    }

    /// Puts into `out` what runs a prepared statement once, for at most `span` of the server's time.
    pub(super) fn query(
        &mut self,
        sql: &Sql,
        parameters: &[Parameter],
        known: &KnownStatement,
        span: Duration,
        out: &mut BytesMut,
    ) -> io::Result<SentQuery> {
        let shape = &known.shape;
        let mut results_before = 1;
        let limits = QueryLimits::new(span, self.writer.own_limits);
        let is_first = self.catalog_only.replace(sql.is_catalog_only()).is_none();
        if self.portal == Some(limits) && self.limits == Some(limits) {
            fetch_guard_row(out)?;
        } else {
            // A whole statement: the server counts on from a row with the timeout that was in force at its begin.
            if is_first {
                results_before = self.writer.begin(sql, limits, false, out)?;
            } else {
                execute(GUARD, Some(limits), &[], out)?;
            }
            if self.writer.has_guard_rows && self.portal.is_none() {
                open_guard_rows(limits, out)?;
                self.portal = Some(limits);
            }
        }
        self.limits = Some(limits);
        let values = parameters.get(..shape.parameters).unwrap_or_default();
        execute_values(sql.name(), values, &shape.formats, out)?;
        Ok(SentQuery { shape: Some(Arc::clone(shape)), results_before, undone: false, limits })
    }

    /// Ends the group: a guard statement that tells the time and the fingerprint, and the `Sync`.
    pub(super) fn end(self, out: &mut BytesMut) -> io::Result<()> {
        execute(GUARD, self.limits, &[], out)?;
        frontend::sync(out);
        Ok(())
    }
}

/// Opens a portal of the guard rows; the end of the transaction closes it.
pub(super) fn open_guard_rows(limits: QueryLimits, out: &mut BytesMut) -> io::Result<()> {
    bind(GUARD_ROWS, GUARD_ROWS, Some(limits), &[], out)
}

/// Fetches its next row.
pub(super) fn fetch_guard_row(out: &mut BytesMut) -> io::Result<()> {
    frontend::execute(GUARD_ROWS, 1, out)
}

/// Parses, binds and executes a statement without a name.
pub(super) fn execute_text(sql: &str, limits: Option<QueryLimits>, out: &mut BytesMut) -> io::Result<()> {
    frontend::parse("", sql, [], out)?;
    execute("", limits, &[], out)
}

/// Binds and executes a prepared statement. `limits` are a guard statement's parameters.
pub(super) fn execute(
    name: &str,
    limits: Option<QueryLimits>,
    formats: &[i16],
    out: &mut BytesMut,
) -> io::Result<()> {
    bind("", name, limits, formats, out)?;
    frontend::execute("", 0, out)
}

/// Opens a portal of a prepared statement. `formats` has a 1 for each column that is wanted in binary; none: all as text.
fn bind(
    portal: &str,
    name: &str,
    limits: Option<QueryLimits>,
    formats: &[i16],
    out: &mut BytesMut,
) -> io::Result<()> {
    let write = |value: u32, out: &mut BytesMut| {
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        Ok(IsNull::No)
    };
    let parameters = limits.into_iter().flat_map(|limits| [limits.statement, limits.lock]);
    // Too long a message is all that can fail here.
    frontend::bind(portal, name, [], parameters, write, formats.iter().copied(), out)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Binds a prepared statement to `values`, and executes it.
fn execute_values(name: &str, values: &[Parameter], formats: &[i16], out: &mut BytesMut) -> io::Result<()> {
    bind_values(name, values, formats, out)?;
    frontend::execute("", 0, out)
}

/// Opens the portal without a name of a prepared statement whose parameters are `values`.
fn bind_values(name: &str, values: &[Parameter], formats: &[i16], out: &mut BytesMut) -> io::Result<()> {
    let write = |value: &Parameter, out: &mut BytesMut| {
        out.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
        Ok(if value.is_none() { IsNull::Yes } else { IsNull::No })
    };
    // Too long a message is all that can fail here.
    frontend::bind("", name, [], values, write, formats.iter().copied(), out)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::driver::postgres::values::ValueType;

    fn writer(has_guard_rows: bool) -> RequestWriter {
        let guard = GuardOptions { read_only: true, ..GuardOptions::default() };
        RequestWriter { has_guard_rows, ..RequestWriter::new(QueryProtocol::Named, guard) }
    }

    #[test]
    fn a_catalog_only_query_shares_no_transaction_with_another() {
        let [mine, ours] = [Sql::new("SELECT 1"), Sql::of_catalog("SELECT 1")];
        assert_ne!(mine.name(), ours.name());
        for (first, other) in [(&mine, &ours), (&ours, &mine)] {
            let writer = writer(true);
            let (mut group, mut out) = (GroupWriter::new(&writer), BytesMut::new());
            assert!(group.takes(first) && group.takes(other));
            let known = KnownStatement::of_types(Vec::new());
            group.query(first, &[], &known, Duration::from_secs(1), &mut out).unwrap();
            assert!(group.takes(first) && !group.takes(other));
            let sets_path = String::from_utf8_lossy(&out).contains("search_path");
            assert_eq!(sets_path, first.is_catalog_only());
        }
    }

    #[test]
    fn a_query_of_money_is_read_by_the_styles_of_its_transaction() {
        for (value_type, is_styled) in [(ValueType::Money, true), (ValueType::Int, false)] {
            let known = KnownStatement::of_types(vec![ValueType::Int, value_type]);
            let (writer, mut out) = (writer(true), BytesMut::new());
            let limits = QueryLimits::new(Duration::from_secs(1), SessionLimits::default());
            writer.query(&Sql::new("SELECT 1"), &[], Some(&known), limits, &mut out).unwrap();
            assert_eq!(String::from_utf8_lossy(&out).contains("1::pg_catalog.money"), is_styled);
        }
    }

    #[test]
    fn only_a_query_with_the_limits_of_the_one_before_has_a_row_for_its_guard() {
        let (long, short) = (Duration::from_secs(10), Duration::from_millis(50));
        // Which of the two guard statements is before each query.
        let guards = |has_guard_rows: bool| {
            let writer = writer(has_guard_rows);
            let mut group = GroupWriter::new(&writer);
            [long, long, short, long, long].map(|left| {
                let mut out = BytesMut::new();
                let known = KnownStatement::of_types(Vec::new());
                group.query(&Sql::new("SELECT 1"), &[], &known, left, &mut out).unwrap();
                let text = String::from_utf8_lossy(&out).into_owned();
                (text.contains("sqlexp_guard\0"), text.contains(GUARD_ROWS))
            })
        };
        let (whole, opens, row) = ((true, false), (true, true), (false, true));
        assert_eq!(guards(true), [opens, row, whole, whole, row]);
        assert_eq!(guards(false), [whole; 5]);
    }
}
