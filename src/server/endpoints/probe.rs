//! `/probe?target=NAME`: one target, for Prometheus' relabelling; narrowed by `collect[]` and `query` as `/metrics` is.
//! Only configured names, never an address: nobody makes us connect anywhere.

use crate::server::{Request, Response};

use super::Endpoints;
use super::metrics;
use crate::server::negotiate;

/// Answers as `/metrics` does, for the one target; with nothing for a disabled one.
pub fn answer(site: &Endpoints, request: &Request) -> Response {
    let selection = metrics::selection(request);
    let [name] = selection.targets.as_slice() else {
        let prefix = &site.targets().exporter.route_prefix;
        let [probe, sd] = ["/probe", "/sd"].map(|path| prefix.path(path));
        return negotiate::text(400, &format!("name one target: {probe}?target=NAME; {sd} lists them\n"));
    };
    let fleet = site.targets();
    if fleet.targets.iter().any(|target| target.database.name == *name && !target.database.enabled) {
        return negotiate::exposition(&Vec::new(), negotiate::format(request));
    }
    metrics::respond(site, request, &selection)
}
