//! `/-/metrics`: the exporter and its process alone. Runs nothing.

use crate::http::{Request, Response};
use crate::telemetry;

use super::Site;
use super::page;

/// The metrics of the process's life.
pub fn answer(site: &Site, request: &Request) -> Response {
    let mut families = site.fleet().own_metrics();
    families.extend(telemetry::process());
    page::exposition(&families, page::format(request))
}
