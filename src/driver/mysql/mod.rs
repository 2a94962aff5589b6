//! MySQL and MariaDB: one endpoint per target, one session per connection. Knows no metrics.
//!
//! From the top: `session` is what the rest of the exporter uses, `pipeline` sends batches of jobs, `result_reader` reads
//! their rows, `session_changes` notices what a statement leaves behind, `server_info` asks what the server is (the only
//! file in which the two flavours differ), `values` and `time_zone` read cells, `errors` names errors, `login` and `auth`
//! open a connection. Below them `protocol` sends commands and splits answers into packets, and `packet` knows what they
//! say.
//!
//! Why not the `mysql` crate: it takes no stream from outside, so no login and no read ends at a deadline. It reserves
//! memory for as many columns as a packet announces: nine bytes asked for 1.6 TB and ended the process. It answers
//! `caching_sha2_password` with the password under the key of whoever answers, and panics on plugins that it was not
//! built with. It learns that a server has no TLS by breaking a connection off, which servers count until they block the
//! host. It trusts the public authorities beside a `ca`. It sends one command and waits: on a slow network each statement
//! costs a round trip. `mysql_common` provides constants, packets that we send, and the hashes of passwords; each packet
//! that we read has one pure function in `packet`, which bounds every count and length before it allocates memory.

pub mod advice;
mod auth;
mod errors;
mod login;
mod packet;
mod params;
mod pipeline;
mod privileges;
mod protocol;
mod result_reader;
mod server_info;
mod session;
mod session_changes;
mod time_zone;
mod user_tables;
mod values;

use std::path::PathBuf;
use std::sync::Arc;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::yaml::keys::Keys;

use self::user_tables::MySqlTables;
use super::connection::{ConnectionConfig, UrlRules};
use super::statement::Dialect;
use super::user_tables::UserTables;
use super::{AllowedStatements, Driver, Endpoint, Session, Sql};

const URL_RULES: UrlRules = UrlRules { schemes: &["mysql", "mariadb"], port: 3306, libpq: false };

/// The driver.
pub struct MySql;

impl Driver for MySql {
    fn names(&self) -> &'static [&'static str] {
        &["mysql", "mariadb"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        let server_public_key = keys.file("server_public_key");
        let config = ConnectionConfig::read(keys, URL_RULES)?;
        for (name, value) in &config.params {
            if let Some((message, hint)) = params::refusal(name, value) {
                keys.fault_with_hint("params", message, hint);
            }
        }
        (!keys.faulted()).then(|| endpoint_with_key(config, server_public_key))
    }
}

/// The endpoint of a configuration that was read already.
pub fn endpoint(config: ConnectionConfig) -> Arc<dyn Endpoint> {
    endpoint_with_key(config, None)
}

fn endpoint_with_key(config: ConnectionConfig, server_public_key: Option<PathBuf>) -> Arc<dyn Endpoint> {
    Arc::new(MySqlEndpoint(Arc::new(login::LoginServer::new(config, server_public_key))))
}

/// The databases that the user sees; what is stored in those of the server itself is for packs. MariaDB lists the folder
/// `lost+found` of a file system as one.
const DATABASES: &str = "SELECT schema_name AS `database` FROM information_schema.schemata \
    WHERE schema_name NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys', '#mysql50#lost+found')";

struct MySqlEndpoint(Arc<login::LoginServer>);

impl Endpoint for MySqlEndpoint {
    fn connect(&self, by: Deadline) -> Result<Box<dyn Session>> {
        let session = self.0.config.in_time(by, |by| session::MySqlSession::open(&self.0, by))?;
        Ok(Box::new(session))
    }

    fn has_new_password(&self, by: Deadline) -> bool {
        self.0.refused_password.has_new(&self.0.config.password, by)
    }

    fn allows(&self) -> Option<AllowedStatements> {
        Some(AllowedStatements::of(self.0.config.read_only, Dialect::MySql))
    }

    fn connection_config(&self) -> Option<&ConnectionConfig> {
        Some(&self.0.config)
    }

    fn with_database(&self, name: &str) -> Option<Arc<dyn Endpoint>> {
        let config = ConnectionConfig { database: Some(name.to_owned()), ..self.0.config.clone() };
        Some(endpoint_with_key(config, self.0.server_public_key.clone()))
    }

    fn databases_sql(&self) -> Option<Sql> {
        Some(Sql::new(DATABASES))
    }

    fn user_tables(&self) -> Option<&'static dyn UserTables> {
        Some(&MySqlTables)
    }

    fn redacted_url(&self) -> String {
        self.0.config.redacted_url("mysql")
    }
}
