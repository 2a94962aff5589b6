//! Stops what a session runs: a cancel request on a connection of its own.

use std::io;

use tokio_postgres::CancelToken;

use crate::deadline::Deadline;
use crate::driver::Canceller;
use crate::driver::tls::Mode;
use crate::error::{Error, Reason, Result};

use super::login::{Encryption, Route};
use super::stream::{Done, Shared, drive};

/// What it takes to reach the session's server again.
pub(super) struct PgCanceller {
    pub(super) route: Route,
    pub(super) encryption: Encryption,
    /// `Disable` where the session itself is not encrypted.
    pub(super) mode: Mode,
    pub(super) token: CancelToken,
}

impl Canceller for PgCanceller {
    /// The server closes the connection once it has passed the cancel on: until then it was not told.
    fn cancel(&self, by: Deadline) -> Result<()> {
        let wire = self.route.again(by)?;
        let stream = self.route.secure(wire.clone(), &self.encryption, self.mode, by)?;
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(Reason::Connect, format!("cancel at {}: {error}", self.route.place.shown()))
        };
        drive(&wire, by, self.token.cancel_query_raw(Shared::new(stream), Done))
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))?;
        let mut rest = [0; 256];
        loop {
            match wire.read_now(&mut rest) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(failed(&error)),
                // A reset: it is closed.
                Err(_) => return Ok(()),
            }
        }
    }
}
