//! `/sd`: the enabled targets for Prometheus' HTTP service discovery, each pointing at its `/probe`:
//! <https://prometheus.io/docs/prometheus/latest/http_sd/>. Touches no database.

use serde_json::{Map, Value};

use crate::engine::target::Target;
use crate::server::{BodyPart, Request, Response};

use super::Endpoints;
use crate::server::negotiate;

/// How the names of the labels begin that relabelling may use.
const META: &str = "__meta_sql_exporter_";

/// One entry a target; the address is `advertise`, else the one that was asked.
pub fn answer(site: &Endpoints, request: &Request) -> Response {
    let fleet = site.targets();
    let host = request.header("host").next().filter(|host| !host.is_empty());
    let Some(address) = fleet.exporter.advertise.as_deref().or(host) else {
        return negotiate::text(400, "the request has no Host; set exporter.advertise\n");
    };
    let path = fleet.exporter.route_prefix.path("/probe");
    let enabled = fleet.targets.iter().filter(|target| target.database.enabled);
    let entries: Vec<Value> = enabled.map(|target| entry(target, address, &path, request.over_tls)).collect();
    let headers = vec![("Content-Type", "application/json".to_owned())];
    Response::new(200, headers, vec![BodyPart::Owned(Value::from(entries).to_string().into_bytes())])
}

fn entry(target: &Target, address: &str, path: &str, secure: bool) -> Value {
    let plan = &target.database;
    let mut labels = Map::new();
    let mut set = |name: String, value: &str| {
        labels.insert(name, Value::from(value));
    };
    set("__metrics_path__".into(), path);
    set("__param_target".into(), &plan.name);
    set("instance".into(), &plan.name);
    if secure {
        set("__scheme__".into(), "https");
    }
    set(format!("{META}target"), &plan.name);
    set(format!("{META}driver"), plan.driver);
    for (name, value) in target.labels() {
        set(format!("{META}label_{name}"), value);
    }
    let address = Value::from(vec![address]);
    Value::from(Map::from_iter([("targets".into(), address), ("labels".into(), Value::from(labels))]))
}
