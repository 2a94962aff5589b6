//! What the last result of each query of a target took.

use parking_lot::Mutex;

use crate::query::{Rendered, Room};

use super::run::Work;

/// One room a query, by its index.
pub(super) struct Rooms(Vec<Mutex<Room>>);

impl Rooms {
    /// Nothing is known yet of so many queries.
    pub(super) fn new(queries: usize) -> Self {
        Rooms((0..queries).map(|_| Mutex::default()).collect())
    }

    /// The room for the next result.
    pub(super) fn of(&self, work: Work) -> Room {
        match work {
            Work::Query(index) => self.0.get(index).map(|room| room.lock().clone()).unwrap_or_default(),
            Work::Ping => Room::default(),
        }
    }

    /// Remembers a good result's.
    pub(super) fn keep(&self, query: usize, rendered: &Rendered) {
        if let Some(room) = self.0.get(query) {
            room.lock().clone_from(&rendered.room);
        }
    }
}
