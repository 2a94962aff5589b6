//! What the sessions of one endpoint pass on to those that come after them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::driver::Sql;

/// What the sessions of one endpoint have learned for those that come after them.
#[derive(Default)]
pub(super) struct ServerInfo {
    /// A pooler is on the way: sessions begin as they must behind one, instead of each finding it again.
    pooler: AtomicBool,
    /// The names of statements that were seen to change the settings that others read by.
    restless: Mutex<HashSet<String>>,
}

impl ServerInfo {
    /// A pooler was found on the way.
    pub(super) fn note_pooler(&self) {
        self.pooler.store(true, Ordering::Relaxed);
    }

    /// Whether one was.
    pub(super) fn has_pooler(&self) -> bool {
        self.pooler.load(Ordering::Relaxed)
    }

    /// A statement was seen to do so.
    pub(super) fn note_restless(&self, sql: &Sql) {
        self.restless.lock().insert(sql.name().to_owned());
    }

    /// Whether it was.
    pub(super) fn is_restless(&self, sql: &Sql) -> bool {
        self.restless.lock().contains(sql.name())
    }
}
