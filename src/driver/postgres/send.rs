//! What is sent for one query: marker, query, and the time behind it, in each of the four ways.
//!
//! [`queue`] ends with a `Sync`; a [`GroupWriter`] has one for several queries.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::driver::Sql;

use super::guard_statement;
use super::guard_statement::{QueryLimits, SessionLimits};
use super::setting;
use super::snapshot;
use super::talk::{bind, execute, execute_text};
use super::wire::ResultShape;

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

/// What a session's queries have in common.
#[derive(Debug, Clone)]
pub(super) struct RequestWriter {
    pub(super) style: QueryProtocol,
    pub(super) read_only: bool,
    /// The marker's text.
    pub(super) marker: Arc<str>,
    /// The same for catalog-only queries.
    pub(super) catalog_marker: Arc<str>,
    /// What each transaction sets anew.
    pub(super) local: Option<Arc<str>>,
    /// A transaction is open, and each query is undone after it.
    pub(super) in_snapshot: bool,
}

impl RequestWriter {
    /// Puts what each transaction sets into `out`; says how many results it has.
    fn open(&self, out: &mut BytesMut) -> io::Result<usize> {
        match &self.local {
            // A snapshot's transaction has set it once.
            Some(local) if !self.in_snapshot => {
                match self.style {
                    QueryProtocol::Named => execute(setting::NAME, None, &[], out)?,
                    _ => execute_text(local, None, &[], out)?,
                }
                Ok(1)
            }
            _ => Ok(0),
        }
    }

    /// The same and the marker.
    fn begin(&self, sql: &Sql, limits: QueryLimits, out: &mut BytesMut) -> io::Result<usize> {
        let before = self.open(out)?;
        match self.style {
            QueryProtocol::Named if !sql.is_catalog_only() => {
                execute(guard_statement::NAME, Some(limits), &[], out)?
            }
            _ => execute_text(self.marker_of(sql), Some(limits), &[], out)?,
        }
        Ok(before + 1)
    }

    fn marker_of(&self, sql: &Sql) -> &str {
        if sql.is_catalog_only() { &self.catalog_marker } else { &self.marker }
    }

    /// Asks for the shape of a statement, to be prepared as `name`. The marker keeps it from waiting for a lock for ever.
    pub(super) fn queue_description(
        &self,
        name: &str,
        sql: &Sql,
        limits: QueryLimits,
        out: &mut BytesMut,
    ) -> io::Result<()> {
        self.begin(sql, limits, out)?;
        frontend::parse(name, sql.text(), [], out)?;
        frontend::describe(b'S', name, out)?;
        frontend::sync(out);
        if self.is_undone_at_once() {
            execute_text(snapshot::UNDO, None, &[], out)?;
            frontend::sync(out);
        }
        Ok(())
    }

    /// True where each query, or question for a shape, has the end of what it did right behind it.
    pub(super) fn is_undone_at_once(&self) -> bool {
        self.in_snapshot && self.style == QueryProtocol::Named
    }
}

/// A statement that the server has accepted.
#[derive(Debug, Clone)]
pub(super) struct KnownStatement {
    pub(super) shape: Arc<ResultShape>,
    /// It runs in a transaction that is rolled back.
    pub(super) undone: bool,
    /// It was seen to leave the session as it was.
    pub(super) harmless: bool,
}

/// What the answer to a query looks like.
pub(super) struct SentQuery {
    /// Known where the server keeps to it.
    pub(super) shape: Option<Arc<ResultShape>>,
    /// Results before the query's own.
    pub(super) before: usize,
    /// The end of its transaction, or of what it did in a snapshot, has a `Sync` of its own behind the query's.
    pub(super) undone: bool,
    pub(super) limits: QueryLimits,
}

/// What is sent for the queries under one `Sync`.
pub(super) struct GroupWriter {
    own: SessionLimits,
    /// The server has [`guard_statement::ticks`].
    ticks: bool,
    /// Its first query is catalog-only, and so are all: the path holds until the `Sync`. `None`: it has none yet.
    catalog_only: Option<bool>,
    /// The limits that its open portal sets.
    portal: Option<QueryLimits>,
    /// The limits in force.
    limits: Option<QueryLimits>,
}

impl GroupWriter {
    /// Nothing was sent yet.
    pub(super) fn new(own: SessionLimits, ticks: bool) -> Self {
        GroupWriter { own, ticks, catalog_only: None, portal: None, limits: None }
    }

    /// Whether `sql` may run in the transaction of those before it.
    pub(super) fn takes(&self, sql: &Sql) -> bool {
        self.catalog_only.is_none_or(|only| only == sql.is_catalog_only())
    }

    /// Puts into `out` what runs a prepared statement once, for at most `span` of the server's time.
    pub(super) fn queue(
        &mut self,
        way: &RequestWriter,
        sql: &Sql,
        shape: &ResultShape,
        span: Duration,
        out: &mut BytesMut,
    ) -> io::Result<QueryLimits> {
        let limits = QueryLimits::new(span, self.own);
        let is_first = self.catalog_only.replace(sql.is_catalog_only()).is_none();
        if self.portal == Some(limits) && self.limits == Some(limits) {
            tick(out)?;
        } else {
            // A whole statement: the server counts on from a tick with the timeout that was in force at its begin.
            if is_first {
                way.begin(sql, limits, out)?;
            } else {
                execute(guard_statement::NAME, Some(limits), &[], out)?;
            }
            if self.ticks && self.portal.is_none() {
                open_ticks(limits, out)?;
                self.portal = Some(limits);
            }
        }
        self.limits = Some(limits);
        execute(sql.name(), None, &shape.formats, out)?;
        Ok(limits)
    }

    /// Ends the group: a marker that tells the time and the fingerprint, and the `Sync`.
    pub(super) fn end(self, out: &mut BytesMut) -> io::Result<()> {
        execute(guard_statement::NAME, self.limits, &[], out)?;
        frontend::sync(out);
        Ok(())
    }
}

/// Opens a portal of [`guard_statement::ticks`]; the end of the transaction closes it.
pub(super) fn open_ticks(limits: QueryLimits, out: &mut BytesMut) -> io::Result<()> {
    bind(guard_statement::TICKS, guard_statement::TICKS, Some(limits), &[], out)
}

/// Fetches its next row.
pub(super) fn tick(out: &mut BytesMut) -> io::Result<()> {
    frontend::execute(guard_statement::TICKS, 1, out)
}

/// Puts into `out` what runs `sql` once within `limits`. `statement` is what is known of it in the extended protocol.
pub(super) fn queue(
    way: &RequestWriter,
    sql: &Sql,
    statement: Option<&KnownStatement>,
    limits: QueryLimits,
    out: &mut BytesMut,
) -> io::Result<SentQuery> {
    let formats = statement.map(|statement| statement.shape.formats.as_slice()).unwrap_or_default();
    let undone = !way.in_snapshot && statement.is_some_and(|statement| statement.undone);
    let sent = |shape, before, undone| Ok(SentQuery { shape, before, undone, limits });
    match way.style {
        QueryProtocol::Named | QueryProtocol::Unnamed => {
            if undone {
                execute_text("BEGIN", None, &[], out)?;
            }
            let before = usize::from(undone) + way.begin(sql, limits, out)?;
            if way.style == QueryProtocol::Unnamed {
                frontend::parse("", sql.text(), [], out)?;
                bind("", "", None, formats, out)?;
                // What it looks like may have changed: there is no plan that the server would have to keep to.
                frontend::describe(b'P', "", out)?;
                frontend::execute("", 0, out)?;
                execute_text(&guard_statement::clock(), None, &[], out)?;
                if undone {
                    execute_text("ROLLBACK", None, &[], out)?;
                }
                frontend::sync(out);
                return sent(None, before, false);
            }
            execute(sql.name(), None, formats, out)?;
            execute(guard_statement::NAME, Some(limits), &[], out)?;
            frontend::sync(out);
            let undo =
                if undone { Some("ROLLBACK") } else { way.is_undone_at_once().then_some(snapshot::UNDO) };
            if let Some(undo) = undo {
                // Under a `Sync` of its own it is not skipped after an error.
                execute_text(undo, None, &[], out)?;
                frontend::sync(out);
            }
            sent(statement.map(|statement| Arc::clone(&statement.shape)), before, undo.is_some())
        }
        QueryProtocol::Simple => {
            let marker = limits.written_into(way.marker_of(sql));
            let (text, clock) = (sql.text(), guard_statement::clock());
            if way.in_snapshot {
                frontend::query(&format!("{marker};\n{text}\n;{clock}"), out)?;
                return sent(None, 1, false);
            }
            let local = way.local.as_deref().map(|local| format!("{local};")).unwrap_or_default();
            let last = if way.read_only { "ROLLBACK" } else { "COMMIT" };
            // One message, so that nothing runs where BEGIN or the marker fails. The line end closes a comment.
            frontend::query(&format!("BEGIN;{local}{marker};\n{text}\n;{clock};{last}"), out)?;
            sent(None, 2 + usize::from(way.local.is_some()), false)
        }
        QueryProtocol::Console => {
            frontend::query(sql.text(), out)?;
            sent(None, 0, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way() -> RequestWriter {
        let marker = |catalog_only| {
            guard_statement::text(&guard_statement::GuardOptions { catalog_only, ..Default::default() })
                .into()
        };
        RequestWriter {
            style: QueryProtocol::Named,
            read_only: true,
            marker: marker(false),
            catalog_marker: marker(true),
            local: None,
            in_snapshot: false,
        }
    }

    #[test]
    fn a_catalog_only_query_shares_no_transaction_with_another() {
        let [mine, ours] = [Sql::new("SELECT 1"), Sql::of_catalog("SELECT 1")];
        assert_ne!(mine.name(), ours.name());
        for (first, other) in [(&mine, &ours), (&ours, &mine)] {
            let (mut group, mut out) = (GroupWriter::new(SessionLimits::default(), true), BytesMut::new());
            assert!(group.takes(first) && group.takes(other));
            group.queue(&way(), first, &ResultShape::default(), Duration::from_secs(1), &mut out).unwrap();
            assert!(group.takes(first) && !group.takes(other));
            let sets_path = String::from_utf8_lossy(&out).contains("search_path");
            assert_eq!(sets_path, first.is_catalog_only());
        }
    }

    #[test]
    fn only_a_query_with_the_timeout_of_the_one_before_has_a_tick_for_its_marker() {
        let (long, short) = (Duration::from_secs(10), Duration::from_millis(50));
        // What of the two markers stands before each query.
        let markers = |ticks: bool| {
            let mut group = GroupWriter::new(SessionLimits::default(), ticks);
            [long, long, short, long, long].map(|left| {
                let mut out = BytesMut::new();
                group.queue(&way(), &Sql::new("SELECT 1"), &ResultShape::default(), left, &mut out).unwrap();
                let text = String::from_utf8_lossy(&out).into_owned();
                (text.contains(guard_statement::NAME), text.contains(guard_statement::TICKS))
            })
        };
        let (whole, opens, tick) = ((true, false), (true, true), (false, true));
        assert_eq!(markers(true), [opens, tick, whole, whole, tick]);
        assert_eq!(markers(false), [whole; 5]);
    }
}
