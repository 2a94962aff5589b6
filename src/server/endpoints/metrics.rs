//! `/metrics`: all targets, then the exporter's own counters; or the part of the targets that is asked for, alone.
//! Runs the queries, within the scraper's own timeout.

use std::time::Duration;

use crate::config::exporter::Exporter;
use crate::engine::scrape;
use crate::engine::scrape::ScrapeTime;
use crate::engine::targets::ScrapeSelection;
use crate::exposition::page::Families;
use crate::server::{Method, Request, Response};
use crate::telemetry;

use super::Site;
use crate::server::negotiate;

/// Prometheus says with every scrape how long it will wait, in seconds:
/// <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#scrape_config>.
const TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
/// A shorter timeout is no timeout (DESIGN 4.1).
const SHORTEST: f64 = 0.01;
/// A longer one counts as this.
const LONGEST: f64 = 3600.0;
/// The offset is at most this part of the header's time.
const OFFSET_SHARE: f64 = 0.25;

/// Answers with a fresh page: 200, even when every query failed; 400 for a name that is not configured.
pub fn answer(site: &Site, request: &Request) -> Response {
    respond(site, request, &selection(request))
}

/// The page of a selection; the exporter's own metrics are on that of everything.
pub(super) fn respond(site: &Site, request: &Request, selection: &ScrapeSelection) -> Response {
    if request.method == Method::Head {
        return negotiate::exposition(&Vec::new(), negotiate::format(request));
    }
    let fleet = site.fleet();
    let time = ScrapeTime { began: request.received, budget: budget(request, &fleet.exporter) };
    let whole = *selection == ScrapeSelection::default();
    let mut process = Families::new();
    let meanwhile = || {
        if whole {
            process = telemetry::process();
        }
    };
    match scrape::scrape_while(&fleet, selection, time, meanwhile) {
        Ok(scraped) => {
            fleet.telemetry().scraped(scraped.outcome.as_str());
            let mut families = scraped.families;
            if whole {
                families.extend(fleet.own_metrics());
                families.extend(process);
            }
            negotiate::exposition(&families, negotiate::format(request))
        }
        Err(error) => negotiate::text(400, &format!("{error}\n")),
    }
}

/// `target=…`, `collect[]=…` and `query=…`, each as often as wanted. Other parameters mean nothing to us.
pub(super) fn selection(request: &Request) -> ScrapeSelection {
    let named = |key: &str| {
        let meant = request.query.iter().filter(|(known, _)| known == key);
        meant.map(|(_, name)| name.clone()).collect()
    };
    ScrapeSelection { targets: named("target"), collectors: named("collect[]"), queries: named("query") }
}

/// The time that a scrape has: the header less the offset, else `scrape_timeout`; at most `max_scrape_timeout`.
#[must_use]
pub fn budget(request: &Request, exporter: &Exporter) -> Duration {
    let budget = match header(request) {
        Some(timeout) => timeout - exporter.scrape_timeout_offset.min(timeout.mul_f64(OFFSET_SHARE)),
        None => exporter.scrape_timeout,
    };
    exporter.max_scrape_timeout.map_or(budget, |most| budget.min(most))
}

/// The header's time; `None` unless it stands there once, as one finite number of at least [`SHORTEST`].
fn header(request: &Request) -> Option<Duration> {
    let mut values = request.header(TIMEOUT);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let seconds: f64 = value.parse().ok()?;
    (seconds.is_finite() && seconds >= SHORTEST).then(|| Duration::from_secs_f64(seconds.min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::server::Peer;

    fn time(values: &[&str]) -> Option<Duration> {
        let headers = values.iter().map(|value| (TIMEOUT.to_owned(), (*value).to_owned())).collect();
        let (method, path, query) = (Method::Get, "/metrics".to_owned(), Vec::new());
        header(&Request {
            method,
            path,
            query,
            headers,
            peer: Peer::Unix,
            known: false,
            secure: false,
            received: Instant::now(),
        })
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
