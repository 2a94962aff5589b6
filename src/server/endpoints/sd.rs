//! `/sd`: the enabled targets for Prometheus' HTTP service discovery, each pointing at its `/probe`:
//! <https://prometheus.io/docs/prometheus/latest/http_sd/>. Touches no database.

use serde_json::{Map, Value, json};

use super::Endpoints;
use crate::engine::target::Target;
use crate::server::{Request, Response};

/// How the names of the labels begin that relabelling may use.
const META: &str = "__meta_sql_exporter_";

/// One entry per target; the address is `advertise`, else the one that the request was sent to.
pub(super) fn answer(endpoints: &Endpoints, request: &Request) -> Response {
    endpoints.refresh();
    let targets = endpoints.targets();
    let host = request.header("host").next().filter(|host| !host.is_empty());
    let Some(address) = targets.exporter.advertise.as_deref().or(host) else {
        return Response::text(400, "the request has no Host; set exporter.advertise\n");
    };
    let path = targets.exporter.route_prefix.path("/probe");
    let enabled = targets.targets.iter().filter(|target| target.config.enabled);
    let entries: Value = enabled.map(|target| entry(target, address, &path, request.over_tls)).collect();
    Response::owned(200, "application/json", entries.to_string())
}

fn entry(target: &Target, address: &str, path: &str, over_tls: bool) -> Value {
    let name = &target.config.name;
    let mut labels = Map::from_iter([
        ("__metrics_path__".to_owned(), path.into()),
        ("__param_target".to_owned(), name.as_str().into()),
        ("instance".to_owned(), name.as_str().into()),
        (format!("{META}target"), name.as_str().into()),
        (format!("{META}driver"), target.config.driver.into()),
    ]);
    if over_tls {
        labels.insert("__scheme__".to_owned(), "https".into());
    }
    labels.extend(target.labels().map(|(name, value)| (format!("{META}label_{name}"), value.into())));
    json!({"targets": [address], "labels": labels})
}
