//! The endpoints without parts of their own. None of them touches a database.

use std::sync::atomic::Ordering;

use super::{Endpoints, check_access};
use crate::config::redacted::redacted_config;
use crate::server::{Request, Response};

/// `/config`: the effective configuration, its secrets hidden; YAML as plain text, which a browser shows.
pub(super) fn config(endpoints: &Endpoints, request: &Request) -> Response {
    endpoints.refresh();
    let targets = endpoints.targets();
    if let Err(refusal) = check_access(targets.exporter.enable_pages, request, "enable_pages") {
        return refusal;
    }
    let configs = targets.targets.iter().map(|target| &*target.config);
    Response::text(200, redacted_config(&targets.exporter, configs).yaml())
}

/// `/-/healthy`: the exporter runs and answers.
pub(super) fn healthy(_: &Endpoints, _: &Request) -> Response {
    Response::text(200, "sql-exporter is healthy\n")
}

/// `/-/ready`: a configuration is loaded and scrapes are answered. 503 when the process is about to end.
pub(super) fn ready(endpoints: &Endpoints, _: &Request) -> Response {
    if endpoints.is_stopping.load(Ordering::Acquire) {
        return Response::text(503, "sql-exporter stops\n");
    }
    Response::text(200, "sql-exporter is ready\n")
}

/// `POST /-/reload`: reads the configuration again, as SIGHUP does. 200 once the new configuration is in use; 500 when it
/// has faults, which are shown to this machine and to authenticated clients.
pub(super) fn reload(endpoints: &Endpoints, request: &Request) -> Response {
    if let Err(refusal) = check_access(endpoints.targets().exporter.enable_reload, request, "enable_reload") {
        return refusal;
    }
    match endpoints.reload() {
        Ok(()) => Response::text(200, "the configuration was read again\n"),
        Err(faults) if request.is_trusted() => {
            Response::text(500, faults.iter().map(|fault| format!("{fault}\n")).collect::<String>())
        }
        Err(_) => Response::text(500, "the new configuration has faults, see the log; the old one stays\n"),
    }
}
