//! `POST /-/reload`: reads the configuration again, as SIGHUP does.

use crate::server::{Request, Response};

use super::Endpoints;
use crate::server::negotiate;

/// 200 once the new configuration serves; 500 when it has faults, which this machine and who has logged in may read.
pub fn answer(site: &Endpoints, request: &Request) -> Response {
    if let Err(refusal) = negotiate::admit(site.targets().exporter.enable_reload, request, "enable_reload") {
        return refusal;
    }
    match site.reload() {
        Ok(()) => negotiate::text(200, "the configuration was read again\n"),
        Err(faults) if request.is_trusted() => {
            negotiate::text(500, &faults.iter().map(|fault| format!("{fault}\n")).collect::<String>())
        }
        Err(_) => {
            negotiate::text(500, "the new configuration has faults, which the log tells; the old one stays\n")
        }
    }
}
