//! `/-/ready`: a configuration is loaded and scrapes are answered. Touches no database.

use crate::http::{Request, Response};

use super::Site;
use super::page;

/// Always 200: who can be asked is ready.
pub fn answer(_: &Site, _: &Request) -> Response {
    page::text(200, "sql-exporter is ready\n")
}
