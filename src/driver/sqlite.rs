//! The sqlite driver.

use std::sync::Arc;

use crate::yaml::keys::Keys;

use super::{Driver, Endpoint};

/// The driver.
pub struct Sqlite;

impl Driver for Sqlite {
    fn names(&self) -> &'static [&'static str] {
        &["sqlite", "sqlite3"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        let _ = keys;
        todo!()
    }
}
