//! The postgres driver.

use std::sync::Arc;

use crate::yaml::keys::Keys;

use super::{Driver, Endpoint};

/// The driver.
pub struct Postgres;

impl Driver for Postgres {
    fn names(&self) -> &'static [&'static str] {
        &["postgres", "postgresql"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        let _ = keys;
        todo!()
    }
}

/// PgBouncer's own console (`SHOW POOLS`): the simple protocol and the bare text only.
pub struct PgBouncer;

impl Driver for PgBouncer {
    fn names(&self) -> &'static [&'static str] {
        &["pgbouncer"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        let _ = keys;
        todo!()
    }
}
