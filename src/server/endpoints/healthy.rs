//! `/-/healthy`: the exporter runs and answers. Touches no database.

use crate::server::{Request, Response};

use super::Endpoints;
use crate::server::negotiate;

/// Always 200.
pub fn answer(_: &Endpoints, _: &Request) -> Response {
    negotiate::text(200, "sql-exporter is healthy\n")
}
