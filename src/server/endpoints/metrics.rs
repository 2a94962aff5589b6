//! `/metrics`, `/probe` and `/-/metrics`: the queries of the targets, run within the scraper's own timeout, and the
//! exporter's own metrics.

use std::time::Duration;

use crate::config::exporter::Exporter;
use crate::engine::discovery;
use crate::engine::scrape::{self, ScrapeTime};
use crate::engine::targets::ScrapeSelection;
use crate::exposition::page::Families;
use crate::server::{Method, Request, Response, negotiate};
use crate::telemetry;

use super::Endpoints;

/// Prometheus says with every scrape how long it waits, in seconds:
/// <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#scrape_config>.
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";
/// A shorter timeout is ignored (`docs/scraping.md`).
const MIN_TIMEOUT: f64 = 0.01;
/// A longer one counts as this.
const MAX_TIMEOUT: f64 = 3600.0;
/// The offset is at most this fraction of the header's time.
const MAX_OFFSET_FRACTION: f64 = 0.25;

/// `/metrics`: a fresh page of all targets, or of the part of them that the parameters select. 200, even when every query
/// failed; 400 for a name that is not configured.
pub(super) fn metrics(endpoints: &Endpoints, request: &Request) -> Response {
    scrape_selection(endpoints, request, &selection(request))
}

/// `/probe?target=NAME`: as `/metrics`, for one target; empty for a disabled one. Only configured names, never an
/// address: no client makes the exporter connect anywhere.
pub(super) fn probe(endpoints: &Endpoints, request: &Request) -> Response {
    let selection = selection(request);
    endpoints.refresh();
    let targets = endpoints.targets();
    let [name] = selection.targets.as_slice() else {
        let [probe, sd] = ["/probe", "/sd"].map(|path| targets.exporter.route_prefix.path(path));
        return Response::text(400, format!("name one target: {probe}?target=NAME; {sd} lists them\n"));
    };
    if targets.targets.iter().any(|target| target.config.name == *name && !target.config.enabled) {
        return Response::exposition(&Families::new(), negotiate::format(request));
    }
    scrape_selection(endpoints, request, &selection)
}

/// `/-/metrics`: the metrics of the exporter and its process. Runs nothing.
pub(super) fn own_metrics(endpoints: &Endpoints, request: &Request) -> Response {
    endpoints.refresh();
    let mut families = endpoints.targets().own_metrics();
    families.extend(telemetry::process());
    Response::exposition(&families, negotiate::format(request))
}

/// The page of a selection; the exporter's own metrics are on that of everything.
fn scrape_selection(endpoints: &Endpoints, request: &Request, selection: &ScrapeSelection) -> Response {
    let format = negotiate::format(request);
    let unknown_name = |error| Response::text(400, format!("{error}\n"));
    endpoints.refresh();
    let targets = endpoints.targets();
    if request.method == Method::Head {
        // No query runs, so a name that a discovery may still find is not refused.
        return match targets.select(selection) {
            Err(error) if !discovery::is_outstanding(&targets) => unknown_name(error),
            _ => Response::exposition(&Families::new(), format),
        };
    }
    let time = ScrapeTime { began: request.received, budget: time_budget(request, &targets.exporter) };
    discovery::run(&targets, selection, time);
    endpoints.refresh();
    let targets = endpoints.targets();
    let is_everything = *selection == ScrapeSelection::default();
    let mut process = Families::new();
    let meanwhile = || {
        if is_everything {
            process = telemetry::process();
        }
    };
    match scrape::scrape_while(&targets, selection, time, meanwhile) {
        Ok(scraped) => {
            targets.telemetry().scraped(scraped.outcome.as_str());
            let mut families = scraped.families;
            if is_everything {
                families.extend(targets.own_metrics());
                families.extend(process);
            }
            Response::exposition(&families, format)
        }
        Err(error) => unknown_name(error),
    }
}

/// `target=…`, `collect[]=…` and `query=…`, each as often as needed. Other parameters are ignored.
fn selection(request: &Request) -> ScrapeSelection {
    let values = |key: &str| {
        let pairs = request.query.iter().filter(|(known, _)| known == key);
        pairs.map(|(_, value)| value.clone()).collect()
    };
    ScrapeSelection { targets: values("target"), collectors: values("collect[]"), queries: values("query") }
}

/// The time that a scrape has: the header less the offset, else `scrape_timeout`; at most `max_scrape_timeout`.
pub fn time_budget(request: &Request, exporter: &Exporter) -> Duration {
    let budget = match header_timeout(request) {
        Some(timeout) => timeout - exporter.scrape_timeout_offset.min(timeout.mul_f64(MAX_OFFSET_FRACTION)),
        None => exporter.scrape_timeout,
    };
    exporter.max_scrape_timeout.map_or(budget, |most| budget.min(most))
}

/// The header's time; `None` unless the header is there once, as one finite number of at least [`MIN_TIMEOUT`].
fn header_timeout(request: &Request) -> Option<Duration> {
    let mut values = request.header(TIMEOUT_HEADER);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let seconds: f64 = value.parse().ok()?;
    (seconds.is_finite() && seconds >= MIN_TIMEOUT).then(|| Duration::from_secs_f64(seconds.min(MAX_TIMEOUT)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::message::tests::get;

    fn time(values: &[&str]) -> Option<Duration> {
        let headers = values.iter().map(|value| (TIMEOUT_HEADER.to_owned(), (*value).to_owned())).collect();
        header_timeout(&Request { headers, ..get("/metrics") })
    }

    #[test]
    fn one_finite_number_of_at_least_a_hundredth_counts() {
        assert_eq!(time(&["5"]), Some(Duration::from_secs(5)));
        assert_eq!(time(&["0.01"]), Some(Duration::from_millis(10)));
        assert_eq!(time(&["1e300"]), Some(Duration::from_secs(3600)));
        for values in
            [&["NaN"][..], &["-1"], &["inf"], &[""], &["0"], &["0.001"], &["five"], &["5", "5"], &[]]
        {
            assert_eq!(time(values), None, "{values:?}");
        }
    }
}
