//! The plan: a configuration read, checked and cooked. Everything in it is legal; nothing in it is text to be
//! parsed again. Raw keys live in `yaml::keys` while a file is read, and nowhere after.

pub mod exporter;
pub mod query;
pub mod target;

use std::path::Path;
use std::sync::Arc;

use crate::driver::Drivers;
use crate::error::Error;
use crate::yaml::keys::Environment;

use exporter::Exporter;
use target::Target;

/// A configuration as the rest of the program sees it.
pub struct Plan {
    /// Enabled and disabled targets, in configuration order.
    pub targets: Vec<Arc<Target>>,
    /// The section `exporter`.
    pub exporter: Exporter,
    /// What was odd and did not stop the load; the caller logs it.
    pub warnings: Vec<Error>,
}

/// Reads a configuration and all it includes. Runs no query and opens no connection.
///
/// # Errors
/// All faults of all files together, in file order.
pub fn load(path: &Path, environment: &Environment, drivers: &Drivers) -> Result<Plan, Vec<Error>> {
    let _ = (path, environment, drivers);
    todo!()
}
