//! MySQL and MariaDB through the `mysql` crate: one endpoint per target, one session per connection.
//!
//! `login` connects, `learned` asks what the server is, `session` runs jobs, `group` several in one message (`known`
//! says which), `reply` takes their rows, `watchdog` holds the deadline, `values` reads cells (`time_zone`:
//! the moment of a local time), `errors` names faults.
//! Nothing here knows metrics. The two flavours differ in `learned` only.

pub mod advice;
mod calendar;
mod errors;
mod group;
mod known;
mod learned;
mod login;
mod params;
mod refusals;
mod reply;
mod rights;
mod session;
mod time_zone;
mod values;
mod watchdog;

use std::sync::Arc;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::yaml::keys::Keys;

use super::login::{Login, Scheme};
use super::statement::Dialect;
use super::tls::{Demand, Mode};
use super::{Allowed, Driver, Endpoint, Session};

const SCHEME: Scheme = Scheme { schemes: &["mysql", "mariadb"], port: 3306, libpq: false };

/// The driver.
pub struct MySql;

impl Driver for MySql {
    fn names(&self) -> &'static [&'static str] {
        &["mysql", "mariadb"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        let login = Login::read(keys, SCHEME)?;
        let mut good = true;
        let mut fault = |key: &str, message: &str, hint: &str| {
            keys.fault_with_hint(key, message, hint);
            good = false;
        };
        if login.tls.server_name.is_some() {
            fault("tls", "server_name works with PostgreSQL only", "connect by the name in the certificate");
        }
        for (name, value) in &login.params {
            if let Some((what, hint)) = params::refusal(name, value) {
                fault("params", &what, hint);
            }
        }
        good.then(|| endpoint(login))
    }
}

/// The endpoint of a login that was read already.
#[must_use]
pub fn endpoint(login: Login) -> Arc<dyn Endpoint> {
    Arc::new(MySqlEndpoint(Arc::new(login::Server::new(login))))
}

struct MySqlEndpoint(Arc<login::Server>);

impl Endpoint for MySqlEndpoint {
    fn connect(&self, by: Deadline) -> Result<Box<dyn Session>> {
        Ok(Box::new(session::MySqlSession::open(&self.0, by)?))
    }

    fn has_new_password(&self, by: Deadline) -> bool {
        self.0.refused.has_new(&self.0.login.password, by)
    }

    /// Its crate trusts the public authorities beside a `ca`.
    fn demand(&self) -> Demand {
        match (self.0.login.demand(), self.0.login.tls.mode) {
            (Demand::Identity, Mode::VerifyFull) => Demand::Identity,
            (Demand::Identity, _) => Demand::Authority,
            (other, _) => other,
        }
    }

    fn allows(&self) -> Option<Allowed> {
        let allowed = if self.0.login.read_only { Allowed::Reading } else { Allowed::Any };
        Some(allowed(Dialect::MySql))
    }

    fn login(&self) -> Option<&Login> {
        Some(&self.0.login)
    }

    fn shown(&self) -> String {
        self.0.login.shown("mysql")
    }
}
