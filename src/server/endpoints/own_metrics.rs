//! `/-/metrics`: the exporter and its process alone. Runs nothing.

use crate::server::{Request, Response};
use crate::telemetry;

use super::Site;
use crate::server::negotiate;

/// The metrics of the process's life.
pub fn answer(site: &Site, request: &Request) -> Response {
    let mut families = site.fleet().own_metrics();
    families.extend(telemetry::process());
    negotiate::exposition(&families, negotiate::format(request))
}
