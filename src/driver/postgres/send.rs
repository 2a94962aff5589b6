//! What is sent for one query: marker, query, `Sync`, in each of the four ways.
//!
//! [`queue`] ends with a `Sync`; [`queue_in_group`] leaves it to its caller, as several queries go under one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::driver::Sql;

use super::marker;
use super::talk::{bind, execute, execute_text};
use super::wire::Shape;

/// How queries are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
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
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) style: Style,
    pub(super) read_only: bool,
    /// The startup options do not hold: the marker sets them.
    pub(super) pooled: bool,
    /// A transaction is open, and each query is undone after it.
    pub(super) in_snapshot: bool,
}

/// A statement that the server has accepted.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) shape: Arc<Shape>,
    /// It runs in a transaction that is rolled back.
    pub(super) undone: bool,
    /// It was seen to leave the session as it was.
    pub(super) harmless: bool,
}

/// What the answer to a query looks like.
pub(super) struct Sent {
    /// Known where the server keeps to it.
    pub(super) shape: Option<Arc<Shape>>,
    /// Results before the query's own.
    pub(super) before: usize,
}

/// What is sent for the queries under one `Sync`.
pub(super) struct Group {
    /// The server has [`marker::ticks`].
    ticks: bool,
    /// What [`marker::text`] takes.
    read_only: bool,
    /// Its first query is catalog-only, and so are all: the path holds until the `Sync`. `None`: it has none yet.
    catalog_only: Option<bool>,
    /// The timeout that its open portal sets, in milliseconds.
    portal: Option<u32>,
    /// The timeout in force.
    timeout: Option<u32>,
}

impl Group {
    /// Nothing was sent yet.
    pub(super) fn new(ticks: bool, read_only: bool) -> Self {
        Group { ticks, read_only, catalog_only: None, portal: None, timeout: None }
    }

    /// Whether `sql` may run in the transaction of those before it.
    pub(super) fn takes(&self, sql: &Sql) -> bool {
        self.catalog_only.is_none_or(|only| only == sql.is_catalog_only())
    }

    /// Puts into `out` what runs a prepared `sql` once, for at most about `left`.
    pub(super) fn queue(&mut self, sql: &Sql, left: Duration, out: &mut BytesMut) -> io::Result<()> {
        let timeout = marker::timeout_millis(left);
        let is_first = self.catalog_only.replace(sql.is_catalog_only()).is_none();
        if self.portal == Some(timeout) && self.timeout == Some(timeout) {
            tick(out)?;
        } else {
            // A whole statement: the server counts on from a tick with the timeout that was in force at its begin.
            if is_first && sql.is_catalog_only() {
                execute_text(&marker::text(self.read_only, false, true), Some(timeout), out)?;
            } else {
                execute(marker::NAME, Some(timeout), out)?;
            }
            if self.ticks && self.portal.is_none() {
                open_ticks(timeout, out)?;
                self.portal = Some(timeout);
            }
        }
        self.timeout = Some(timeout);
        execute(sql.name(), None, out)
    }

    /// Ends the group: a marker that tells the time, and the `Sync`.
    pub(super) fn end(self, left: Duration, out: &mut BytesMut) -> io::Result<()> {
        match self.portal {
            Some(_) => tick(out)?,
            None => execute(marker::NAME, Some(marker::timeout_millis(left)), out)?,
        }
        frontend::sync(out);
        Ok(())
    }
}

/// Opens a portal of [`marker::ticks`]; the end of the transaction closes it.
pub(super) fn open_ticks(timeout: u32, out: &mut BytesMut) -> io::Result<()> {
    bind(marker::TICKS, marker::TICKS, Some(timeout), out)
}

/// Fetches its next row.
pub(super) fn tick(out: &mut BytesMut) -> io::Result<()> {
    frontend::execute(marker::TICKS, 1, out)
}

/// Puts into `out` what runs `sql` once, for at most about `left`. `statement` is what is known of it in the extended
/// protocol.
pub(super) fn queue(
    way: Way,
    sql: &Sql,
    statement: Option<&Statement>,
    left: Duration,
    out: &mut BytesMut,
) -> io::Result<Sent> {
    let timeout = marker::timeout_millis(left);
    let undone = !way.in_snapshot && statement.is_some_and(|statement| statement.undone);
    if undone {
        execute_text("BEGIN", None, out)?;
    }
    let mut shape = None;
    let marker = || marker::text(way.read_only, way.pooled, sql.is_catalog_only());
    match way.style {
        Style::Named => {
            if sql.is_catalog_only() {
                execute_text(&marker(), Some(timeout), out)?;
            } else {
                execute(marker::NAME, Some(timeout), out)?;
            }
            execute(sql.name(), None, out)?;
            shape = statement.map(|statement| Arc::clone(&statement.shape));
        }
        Style::Unnamed => {
            execute_text(&marker(), Some(timeout), out)?;
            frontend::parse("", sql.text(), [], out)?;
            // What it looks like may have changed: there is no plan that the server would have to keep to.
            frontend::describe(b'S', "", out)?;
            execute("", None, out)?;
        }
        Style::Simple => {
            let marker = marker().replace("$1", &format!("'{timeout}'"));
            if way.in_snapshot {
                frontend::query(&format!("{marker};\n{}", sql.text()), out)?;
                return Ok(Sent { shape, before: 1 });
            }
            let last = if way.read_only { "ROLLBACK" } else { "COMMIT" };
            // One message, so that nothing runs where BEGIN or the marker fails. The line end closes a comment.
            frontend::query(&format!("BEGIN;{marker};\n{}\n;{last}", sql.text()), out)?;
            return Ok(Sent { shape, before: 2 });
        }
        Style::Console => {
            frontend::query(sql.text(), out)?;
            return Ok(Sent { shape, before: 0 });
        }
    }
    if undone {
        execute_text("ROLLBACK", None, out)?;
    }
    frontend::sync(out);
    Ok(Sent { shape, before: if undone { 2 } else { 1 } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_only_query_shares_no_transaction_with_another() {
        let [mine, ours] = [Sql::new("SELECT 1"), Sql::of_catalog("SELECT 1")];
        assert_ne!(mine.name(), ours.name());
        for (first, other) in [(&mine, &ours), (&ours, &mine)] {
            let (mut group, mut out) = (Group::new(true, true), BytesMut::new());
            assert!(group.takes(first) && group.takes(other));
            group.queue(first, Duration::from_secs(1), &mut out).unwrap();
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
            let mut group = Group::new(ticks, true);
            [long, long, short, long, long].map(|left| {
                let mut out = BytesMut::new();
                group.queue(&Sql::new("SELECT 1"), left, &mut out).unwrap();
                let text = String::from_utf8_lossy(&out).into_owned();
                (text.contains(marker::NAME), text.contains(marker::TICKS))
            })
        };
        let (whole, opens, tick) = ((true, false), (true, true), (false, true));
        assert_eq!(markers(true), [opens, tick, whole, whole, tick]);
        assert_eq!(markers(false), [whole; 5]);
    }
}
