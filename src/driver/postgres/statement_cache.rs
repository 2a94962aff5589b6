//! What a session knows of its statements: which may be sent, what their results look like, which left it as it was; and
//! what the sessions of one endpoint pass on to those that come after them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::driver::Sql;

use super::guard_statement::sets_something;
use super::result_shape::ResultShape;
#[cfg(test)]
use super::values::ValueType;

/// What the sessions of one endpoint have learned of its server.
#[derive(Default)]
pub(super) struct PgServerInfo {
    /// There is a pooler: sessions begin as they must behind one, instead of each finding it again.
    pooler: AtomicBool,
    /// The names of statements that were seen to change the settings that others read by.
    changing_settings: Mutex<HashSet<String>>,
}

impl PgServerInfo {
    /// A pooler was found.
    pub(super) fn note_pooler(&self) {
        self.pooler.store(true, Ordering::Relaxed);
    }

    /// Whether one was.
    pub(super) fn has_pooler(&self) -> bool {
        self.pooler.load(Ordering::Relaxed)
    }
}

/// A statement that the server has accepted.
#[derive(Debug, Clone)]
pub(super) struct KnownStatement {
    pub(super) shape: Arc<ResultShape>,
    /// It runs in a transaction that is rolled back.
    pub(super) undone: bool,
    /// It was seen to leave the session as it was.
    leaves_no_trace: bool,
}

impl KnownStatement {
    /// It has run on this session and left it as it was, and may share the guard statement of others.
    pub(super) fn is_harmless(&self) -> bool {
        self.leaves_no_trace && !self.undone && !self.shape.has_money()
    }
}

#[cfg(test)]
impl KnownStatement {
    /// One with a result of these types.
    pub(super) fn of_types(value_types: Vec<ValueType>) -> Self {
        let mut shape = ResultShape::default();
        shape.value_types.extend(value_types);
        KnownStatement { shape: Arc::new(shape), undone: false, leaves_no_trace: true }
    }
}

/// The statements of one session, by name.
pub(super) struct StatementCache {
    known: HashMap<String, KnownStatement, RandomState>,
    read_only: bool,
    server: Arc<PgServerInfo>,
}

impl StatementCache {
    pub(super) fn new(read_only: bool, server: Arc<PgServerInfo>) -> Self {
        StatementCache { known: HashMap::default(), read_only, server }
    }

    /// There is a pooler: what was prepared on one server connection is not known to another.
    pub(super) fn expect_pooler(&mut self) {
        self.server.note_pooler();
    }

    /// The session has lost them.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    pub(super) fn get(&self, sql: &Sql) -> Option<&KnownStatement> {
        self.known.get(sql.name())
    }

    pub(super) fn contains(&self, sql: &Sql) -> bool {
        self.known.contains_key(sql.name())
    }

    /// The server has accepted it.
    pub(super) fn insert(&mut self, sql: &Sql, shape: ResultShape) {
        let undone = self.read_only && (sets_something(sql.text()) || self.changes_settings(sql));
        let known = KnownStatement { shape: Arc::new(shape), undone, leaves_no_trace: false };
        self.known.insert(sql.name().to_owned(), known);
    }

    /// Forgets a statement; false when it was not known.
    pub(super) fn remove(&mut self, sql: &Sql) -> bool {
        self.known.remove(sql.name()).is_some()
    }

    /// A good run of `sql` left the session as it was: that need not be asked again.
    pub(super) fn mark_harmless(&mut self, sql: &Sql) {
        if let Some(known) = self.known.get_mut(sql.name()) {
            known.leaves_no_trace = true;
        }
    }

    /// A statement has changed the settings that others read by: from now on it runs in a transaction that is rolled
    /// back, or, where it may write, as the last before the session is reset.
    pub(super) fn mark_changing_settings(&mut self, sql: &Sql) {
        self.server.changing_settings.lock().insert(sql.name().to_owned());
        if let Some(known) = self.known.get_mut(sql.name()) {
            (known.undone, known.leaves_no_trace) = (self.read_only, false);
        }
    }

    fn changes_settings(&self, sql: &Sql) -> bool {
        self.server.changing_settings.lock().contains(sql.name())
    }

    /// It was seen to change settings, and what it does stays: it may write.
    pub(super) fn keeps_changed_settings(&self, sql: &Sql) -> bool {
        !self.read_only && self.changes_settings(sql)
    }
}
