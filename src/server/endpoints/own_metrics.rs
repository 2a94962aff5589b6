//! `/-/metrics`: the exporter and its process alone. Runs nothing.

use crate::server::{Request, Response};
use crate::telemetry;

use super::Endpoints;
use crate::server::negotiate;

/// The metrics of the process's life.
pub fn answer(site: &Endpoints, request: &Request) -> Response {
    let mut families = site.targets().own_metrics();
    families.extend(telemetry::process());
    negotiate::exposition(&families, negotiate::format(request))
}
