//! `/config`: the effective configuration, its secrets hidden.

use crate::config::redacted::redacted_config;
use crate::server::{Request, Response};

use super::Endpoints;
use crate::server::negotiate;

/// YAML as plain text, which a browser shows.
pub fn answer(site: &Endpoints, request: &Request) -> Response {
    let fleet = site.targets();
    if let Err(refusal) = negotiate::admit(fleet.exporter.enable_pages, request, "enable_pages") {
        return refusal;
    }
    let targets = fleet.targets.iter().map(|target| &*target.database);
    negotiate::text(200, &redacted_config(&fleet.exporter, targets).yaml())
}
