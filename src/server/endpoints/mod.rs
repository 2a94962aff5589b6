//! What is answered under which path. One endpoint is one file and one line in [`ROUTES`].
//!
//! Endpoints read the fleet and know no socket. Whatever `answer` gives gets the headers all answers bear, and is
//! counted under a path of the table or `other`, never under what a client made up.

pub mod config;
pub mod healthy;
pub mod metrics;
pub mod own_metrics;
pub mod probe;
pub mod ready;
pub mod reload;
pub mod sd;
pub mod status_page;

use std::sync::Arc;

use parking_lot::RwLock;

use super::{LargeResponse, Method, Request, Response};
use crate::config::route_prefix::RoutePrefix;
use crate::engine::targets::Targets;
use crate::error::Error;
use crate::telemetry::Telemetry;

/// One path.
struct Route {
    path: &'static str,
    /// For the list of paths on the 404 page.
    about: &'static str,
    methods: &'static [Method],
    /// For whom it is.
    gives: Gives,
    answer: fn(&Endpoints, &Request) -> Response,
}

/// What a path has to give, which decides what a browser may be made to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gives {
    /// Nothing that costs much or is for people only: to everybody.
    Little,
    /// Pages that run queries: not to be embedded by another site's page.
    Queries,
    /// Pages for people: under our own names only.
    Pages,
    /// A change: under our own names only, and not to another site's page.
    Change,
}

/// Paths that need no login: an orchestrator's probes have none.
#[must_use]
pub fn public_paths(prefix: &RoutePrefix) -> Vec<String> {
    ["/-/healthy", "/-/ready"].map(|path| prefix.path(path)).to_vec()
}

/// The part of a scrape's time within which others take part in its runs.
const JOIN_SHARE: u32 = 10;
const READ: &[Method] = &[Method::Get, Method::Head];

const ROUTES: &[Route] = &[
    Route {
        path: "/",
        about: "status of the targets and queries",
        methods: READ,
        gives: Gives::Pages,
        answer: status_page::answer,
    },
    Route {
        path: "/metrics",
        about: "runs the queries of all targets",
        methods: READ,
        gives: Gives::Queries,
        answer: metrics::answer,
    },
    Route {
        path: "/probe",
        about: "runs the queries of one target: /probe?target=NAME",
        methods: READ,
        gives: Gives::Queries,
        answer: probe::answer,
    },
    Route {
        path: "/sd",
        about: "the targets for Prometheus' HTTP service discovery",
        methods: READ,
        gives: Gives::Little,
        answer: sd::answer,
    },
    Route {
        path: "/config",
        about: "the effective configuration without its secrets",
        methods: READ,
        gives: Gives::Pages,
        answer: config::answer,
    },
    Route {
        path: "/-/metrics",
        about: "the exporter's own metrics",
        methods: READ,
        gives: Gives::Little,
        answer: own_metrics::answer,
    },
    Route {
        path: "/-/healthy",
        about: "says that the exporter runs",
        methods: READ,
        gives: Gives::Little,
        answer: healthy::answer,
    },
    Route {
        path: "/-/ready",
        about: "says that scrapes are answered",
        methods: READ,
        gives: Gives::Little,
        answer: ready::answer,
    },
    Route {
        path: "/-/reload",
        about: "POST: reads the configuration again",
        methods: &[Method::Post],
        gives: Gives::Change,
        answer: reload::answer,
    },
];

/// Reads the configuration again and swaps the fleet. Blocks for as long as that takes; gives the faults.
pub type Reload = dyn Fn(&Endpoints) -> Result<(), Arc<Vec<Error>>> + Send + Sync;

/// What the endpoints answer from.
pub struct Endpoints {
    targets: RwLock<Arc<Targets>>,
    reload: Box<Reload>,
}

impl Endpoints {
    /// A site over a fleet, and how to get the next one.
    #[must_use]
    pub fn new(targets: Targets, reload: Box<Reload>) -> Self {
        Endpoints { targets: RwLock::new(Arc::new(targets)), reload }
    }

    /// The fleet now.
    #[must_use]
    pub fn targets(&self) -> Arc<Targets> {
        Arc::clone(&self.targets.read())
    }

    /// Puts another fleet in the place of the one that serves. Scrapes in flight keep the one they began with.
    pub fn swap(&self, targets: Targets) {
        let old = std::mem::replace(&mut *self.targets.write(), Arc::new(targets));
        // Outside of the lock: what is gone may take a moment to end.
        drop(old);
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    /// Its faults; the old one stays.
    pub fn reload(&self) -> Result<(), Arc<Vec<Error>>> {
        (self.reload)(self)
    }

    /// Counters of the process's life.
    #[must_use]
    pub fn telemetry(&self) -> Arc<Telemetry> {
        Arc::clone(self.targets.read().telemetry())
    }

    /// Answers a request. Blocks until the scrape's deadline where the path runs queries.
    pub fn answer(&self, request: &Request) -> Response {
        let prefix = self.targets().exporter.route_prefix.clone();
        let (path, mut response) = route(ROUTES, &prefix, request, |route| {
            if let Err(refusal) = self.admit(route.gives, request) {
                self.telemetry().rejected("host");
                return refusal;
            }
            (route.answer)(self, request)
        });
        super::negotiate::dress(&mut response, request);
        if response.status == 405 {
            self.telemetry().rejected("method");
        }
        self.telemetry().requested(path, response.status);
        response
    }

    /// Whether a request's answer may be large: it runs queries, or shows all of the configuration. Scrapes with the same time that come within a tenth of it
    /// take part in the same runs (docs/scraping.md).
    #[must_use]
    pub fn large_response(&self, request: &Request) -> Option<LargeResponse> {
        let exporter = &self.targets().exporter;
        let path = exporter.route_prefix.strip(&request.path)?;
        let route = ROUTES.iter().find(|route| route.path == path)?;
        let is_large = matches!(route.gives, Gives::Queries | Gives::Pages);
        (is_large && request.method == Method::Get).then(|| LargeResponse {
            path: route.path.to_owned(),
            target: format!("{path} {:?}", request.query),
            together: metrics::budget(request, exporter) / JOIN_SHARE,
        })
    }

    /// Refuses what a page of another site has a browser ask for.
    fn admit(&self, gives: Gives, request: &Request) -> Result<(), Response> {
        let host = || super::browser::host(&self.targets().exporter.hosts, request);
        match gives {
            Gives::Little => Ok(()),
            Gives::Queries => super::browser::embedded(request),
            Gives::Pages => host(),
            Gives::Change => host().and_then(|()| super::browser::sender(request)),
        }
    }
}

/// The path to count under, without the prefix, and the answer: the route's own, 404 with the list of paths, or 405.
/// The root of the server and the prefix itself lead to the status page.
fn route(
    routes: &[Route],
    prefix: &RoutePrefix,
    request: &Request,
    answer: impl FnOnce(&Route) -> Response,
) -> (&'static str, Response) {
    let ours = match prefix.strip(&request.path) {
        Some("") => None,
        None if request.path == "/" => None,
        inside => Some(inside),
    };
    let Some(path) = ours else { return ("/", super::negotiate::redirect(&prefix.path("/"))) };
    match routes.iter().find(|route| Some(route.path) == path) {
        None => ("other", not_found(routes, prefix)),
        Some(route) if route.methods.contains(&request.method) => (route.path, answer(route)),
        Some(route) => (route.path, not_allowed(route, prefix)),
    }
}

fn not_found(routes: &[Route], prefix: &RoutePrefix) -> Response {
    let paths = || routes.iter().map(|route| (prefix.path(route.path), route.about));
    let width = paths().map(|(path, _)| path.len()).max().unwrap_or(0);
    let lines = paths().map(|(path, about)| format!("  {path:width$}  {about}\n"));
    super::negotiate::text(404, &format!("not found; there is\n{}", lines.collect::<String>()))
}

fn not_allowed(route: &Route, prefix: &RoutePrefix) -> Response {
    let words: Vec<&str> = route.methods.iter().map(|method| method.as_str()).collect();
    let message = format!("{} answers {}\n", prefix.path(route.path), words.join(" and "));
    let mut response = super::negotiate::text(405, &message);
    response.headers.push(("Allow", words.join(", ")));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::server::Peer;

    fn ask(method: Method, path: &str) -> (&'static str, Response) {
        ask_below("", method, path)
    }

    fn ask_below(prefix: &str, method: Method, path: &str) -> (&'static str, Response) {
        let prefix = RoutePrefix::parse(prefix).unwrap();
        let request = Request {
            method,
            path: path.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            peer: Peer::Unix,
            authenticated: false,
            over_tls: false,
            received: Instant::now(),
        };
        route(ROUTES, &prefix, &request, |route| crate::server::negotiate::text(200, route.path))
    }

    fn body(response: &Response) -> String {
        String::from_utf8(response.body.iter().flat_map(|part| part.bytes().to_vec()).collect()).unwrap()
    }

    #[test]
    fn a_known_path_is_counted_as_itself_and_answered() {
        let (path, response) = ask(Method::Get, "/-/healthy");
        assert_eq!((path, response.status), ("/-/healthy", 200));
        assert_eq!(ask(Method::Head, "/metrics").1.status, 200);
    }

    #[test]
    fn an_unknown_path_is_counted_as_other_and_lists_those_known() {
        for path in ["/metrics/", "/nothing", "//", "/METRICS", "/-/metrics2"] {
            let (counted, response) = ask(Method::Get, path);
            assert_eq!((counted, response.status), ("other", 404), "{path}");
            assert!(body(&response).contains("\n  /-/metrics  the exporter's own metrics\n"));
        }
    }

    #[test]
    fn a_method_that_a_path_does_not_know_is_405_with_allow() {
        let (path, response) = ask(Method::Post, "/metrics");
        assert_eq!((path, response.status), ("/metrics", 405));
        assert!(response.headers.contains(&("Allow", "GET, HEAD".to_owned())));
        assert_eq!(body(&response), "/metrics answers GET and HEAD\n");
    }

    #[test]
    fn with_a_prefix_all_paths_lie_below_it_and_are_counted_without() {
        for path in ["/metrics", "/-/healthy", "/sd"] {
            let (counted, response) = ask_below("/sql", Method::Get, &format!("/sql{path}"));
            assert_eq!((counted, response.status), (path, 200));
            assert_eq!(ask_below("/sql", Method::Get, path).0, "other", "{path}");
        }
        for path in ["/", "/sql"] {
            let (counted, response) = ask_below("/sql/", Method::Get, path);
            assert_eq!((counted, response.status), ("/", 302), "{path}");
            assert!(response.headers.contains(&("Location", "/sql/".to_owned())));
        }
        let (_, missing) = ask_below("a/b", Method::Get, "/a/metrics");
        assert_eq!(missing.status, 404);
        assert!(body(&missing).contains("\n  /a/b/metrics    runs"), "{}", body(&missing));
        assert_eq!(body(&ask_below("sql", Method::Post, "/sql/sd").1), "/sql/sd answers GET and HEAD\n");
    }

    #[test]
    fn paths_are_listed_once() {
        for route in ROUTES {
            assert_eq!(ROUTES.iter().filter(|other| other.path == route.path).count(), 1, "{}", route.path);
        }
    }
}
