//! `/-/healthy`: the exporter runs and answers. Touches no database.

use crate::http::{Request, Response};

use super::Site;
use super::page;

/// Always 200.
pub fn answer(_: &Site, _: &Request) -> Response {
    page::text(200, "sql-exporter is healthy\n")
}
