//! MySQL and MariaDB by a session of our own: one endpoint per target, one session per connection.
//!
//! `login` connects and proves the password (`auth`; `refusals`: what a server means that lets nobody in), `learned` asks
//! what the server is, `session` is what the rest sees, `pipeline` sends jobs (`known` says which statements are prepared),
//! `reply` takes their rows, `values` reads cells (`time_zone`: the moment of a local time), `errors` names faults, `cancel`
//! stops. Below them `talk` knows the commands, `packet` what packets say, `link` where they begin and end, and `stream`
//! is the socket, plain or encrypted. Nothing here knows metrics. The two flavours differ in `learned` only.
//!
//! Why not the `mysql` crate, with a guard on its stream: the crate takes no stream from outside and shows of its own
//! one only the descriptor. A guard could cut that at a deadline, and did, from a thread of its own and with `shutdown`
//! by number. It could not do what else is needed, as all of it happens inside the crate. A login is a black box that
//! holds its thread until it ends, so that each needed a thread that might have to be left alone. The crate reserves
//! room for as many columns as a packet announces: nine bytes asked for 1.6 TB and ended the process. It answers
//! `caching_sha2_password` with the password under the key of whoever answers, and panics on plugins that it was not
//! built with. It learns that a server has no TLS by breaking a connection off, which servers count, until they refuse
//! the host. It trusts the public authorities beside a `ca`. It sends one command and waits: on a long way each
//! statement costs a round trip, and the prepared ones of a batch could only go out by name, as text that MySQL parses
//! anew, with values that the text form had rounded.
//!
//! What is left of the crates is `mysql_common`: constants, the hashes of passwords, RSA. The protocol that we need of
//! MySQL's is small, eleven packets and seven commands; each has one pure function in `packet` that reads it, and every
//! count and length in them is bounded before anything is reserved for it.

pub mod advice;
mod auth;
mod calendar;
mod cancel;
mod errors;
mod link;
mod login;
mod packet;
mod params;
mod pipeline;
mod privileges;
mod refusals;
mod reply;
mod residue;
mod server_info;
mod session;
mod statement_cache;
mod stream;
mod talk;
mod time_zone;
mod values;

use std::path::PathBuf;
use std::sync::Arc;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::yaml::keys::Keys;

use super::connection::tls::TlsRequirement;
use super::connection::{ConnectionConfig, UrlRules};
use super::statement::Dialect;
use super::{AllowedStatements, Driver, Endpoint, Session};

const URL_RULES: UrlRules = UrlRules { schemes: &["mysql", "mariadb"], port: 3306, libpq: false };

/// The driver.
pub struct MySql;

impl Driver for MySql {
    fn names(&self) -> &'static [&'static str] {
        &["mysql", "mariadb"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        let server_public_key = keys.file("server_public_key");
        let login = ConnectionConfig::read(keys, URL_RULES)?;
        let mut good = true;
        let mut fault = |key: &str, message: &str, hint: &str| {
            keys.fault_with_hint(key, message, hint);
            good = false;
        };
        for (name, value) in &login.params {
            if let Some((what, hint)) = params::refusal(name, value) {
                fault("params", &what, hint);
            }
        }
        good.then(|| endpoint_with_key(login, server_public_key))
    }
}

/// The endpoint of a login that was read already.
#[must_use]
pub fn endpoint(login: ConnectionConfig) -> Arc<dyn Endpoint> {
    endpoint_with_key(login, None)
}

fn endpoint_with_key(login: ConnectionConfig, server_public_key: Option<PathBuf>) -> Arc<dyn Endpoint> {
    Arc::new(MySqlEndpoint(Arc::new(login::Server::new(login, server_public_key))))
}

struct MySqlEndpoint(Arc<login::Server>);

impl Endpoint for MySqlEndpoint {
    fn connect(&self, by: Deadline) -> Result<Box<dyn Session>> {
        Ok(Box::new(session::MySqlSession::open(&self.0, by)?))
    }

    fn has_new_password(&self, by: Deadline) -> bool {
        self.0.refused.has_new(&self.0.login.password, by)
    }

    fn tls_requirement(&self) -> TlsRequirement {
        self.0.login.tls_requirement()
    }

    fn allows(&self) -> Option<AllowedStatements> {
        let allowed =
            if self.0.login.read_only { AllowedStatements::Reading } else { AllowedStatements::Any };
        Some(allowed(Dialect::MySql))
    }

    fn connection_config(&self) -> Option<&ConnectionConfig> {
        Some(&self.0.login)
    }

    fn redacted_url(&self) -> String {
        self.0.login.redacted_url("mysql")
    }
}
