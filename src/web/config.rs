//! `/config`: the effective configuration, its secrets hidden.

use crate::http::{Request, Response};
use crate::plan::shown::shown;

use super::Site;
use super::page;

/// YAML as plain text, which a browser shows.
pub fn answer(site: &Site, request: &Request) -> Response {
    let fleet = site.fleet();
    if let Err(refusal) = page::admit(fleet.exporter.enable_pages, request, "enable_pages") {
        return refusal;
    }
    let targets = fleet.targets.iter().map(|target| &*target.plan);
    page::text(200, &shown(&fleet.exporter, targets).yaml())
}
