//! The mysql driver.

use std::sync::Arc;

use crate::yaml::keys::Keys;

use super::{Driver, Endpoint};

/// The driver.
pub struct MySql;

impl Driver for MySql {
    fn names(&self) -> &'static [&'static str] {
        &["mysql", "mariadb"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        let _ = keys;
        todo!()
    }
}
