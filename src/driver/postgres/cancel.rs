//! Stops what a session runs: a cancel request on a connection of its own. Where that does not help and the process ends,
//! a login that ends the session's backend.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::deadline::Deadline;
use crate::driver::Canceller;
use crate::driver::connection::stream::ServerStream;
use crate::driver::connection::tls::TlsMode;
use crate::error::{Error, Reason, Result};
use crate::secret::Secret;

use super::login::{CancelKey, Encryption, PgLoggedIn, ServerRoute, Startup, log_in};

/// What it takes to reach the session's server again.
pub(super) struct PgCanceller {
    pub(super) route: ServerRoute,
    pub(super) encryption: Encryption,
    /// `Disable` where the session itself is not encrypted.
    pub(super) mode: TlsMode,
    pub(super) cancel_key: CancelKey,
    /// The process that serves the session in the server; 0 where that is not known, or a pooler's.
    pub(super) backend: AtomicI32,
    /// How the session logged in.
    pub(super) startup: Startup,
    pub(super) password: Option<Secret>,
}

impl Canceller for PgCanceller {
    /// The server closes the connection once it has passed the cancel on: until then it was not told.
    fn cancel(&self, by: Deadline) -> Result<()> {
        let failed = |error: &io::Error| {
            Error::new(Reason::Connect, format!("cancel at {}: {error}", self.route.address.shown()))
        };
        let mut stream = self.route.connect_again(&self.encryption, self.mode, by)?;
        let mut request = BytesMut::new();
        frontend::cancel_request(self.cancel_key.process, self.cancel_key.secret, &mut request);
        stream.write_all(&request, by).map_err(|error| failed(&error))?;
        let mut rest = [0; 256];
        loop {
            match stream.read(&mut rest, by) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(failed(&error)),
                // A reset: it is closed.
                Err(_) => return Ok(()),
            }
        }
    }

    fn has_ended(&self, by: Deadline) -> Result<Option<bool>> {
        if self.backend.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        let what = format!("asking {} for a cancelled statement", self.route.address.shown());
        // Another session has the number by now where it is another's, or works on something else.
        let found = self.ask_about_backend("'t'", &what, by)?;
        Ok(Some(found.is_none()))
    }

    /// A user may end its own backends.
    fn terminate(&self, by: Deadline) -> Result<()> {
        let address = self.route.address.shown();
        if self.backend.load(Ordering::Relaxed) == 0 {
            self.cancel(by)?;
            let message = format!(
                "a statement at {address} continues after its cancel, and behind a pooler it cannot be ended"
            );
            return Err(Error::new(Reason::Server, message));
        }
        let what = format!("ending a statement at {address} that continues after its cancel");
        match self.ask_about_backend("pg_catalog.pg_terminate_backend(pid)", &what, by)?.as_deref() {
            // No such backend: it has ended.
            Some("t") | None => Ok(()),
            Some(_) => Err(Error::new(Reason::Permission, format!("{what}: the server refuses"))),
        }
    }
}

impl PgCanceller {
    /// With the mode of the configuration: that the session itself is not encrypted allows no password in clear text.
    pub(super) fn log_in(&self, stream: ServerStream, by: Deadline) -> Result<PgLoggedIn> {
        let configured = self.encryption.tls.mode;
        log_in(stream, &self.route, &self.startup, configured, self.password.as_ref(), by)
    }

    /// The value of `column` for the session's backend on a connection of its own; `None` where it does nothing more.
    fn ask_about_backend(&self, column: &str, what: &str, by: Deadline) -> Result<Option<String>> {
        let stream = self.route.connect_again(&self.encryption, self.mode, by)?;
        let mut connection = self.log_in(stream, by)?.connection;
        let question = format!(
            "SELECT {column} FROM pg_catalog.pg_stat_activity WHERE pid = {} AND usename = session_user \
             AND datname = pg_catalog.current_database() AND state = 'active'",
            self.backend.load(Ordering::Relaxed)
        );
        let rows = connection.ask_catalog(&question, by);
        connection.terminate(by);
        Ok(rows.map_err(|error| error.while_doing(what))?.pop().and_then(|mut row| row.pop()).flatten())
    }
}
