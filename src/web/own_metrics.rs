//! `/-/metrics`: the exporter and its process alone. Runs nothing.

use crate::http::{Request, Response};

use super::Site;
use super::page;

/// The metrics of the process's life.
pub fn answer(site: &Site, request: &Request) -> Response {
    page::exposition(&site.fleet().own_metrics(true), page::format(request))
}
