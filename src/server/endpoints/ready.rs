//! `/-/ready`: a configuration is loaded and scrapes are answered. Touches no database.

use crate::server::{Request, Response};

use super::Endpoints;
use crate::server::negotiate;

/// Always 200: who can be asked is ready.
pub fn answer(_: &Endpoints, _: &Request) -> Response {
    negotiate::text(200, "sql-exporter is ready\n")
}
