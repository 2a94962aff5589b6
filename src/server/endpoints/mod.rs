//! The paths that are answered. An endpoint is one function and one line of [`ROUTES`].
//!
//! Endpoints read the targets and know no socket. Each response gets the headers that all responses have, and is
//! counted under a path of the table or `other`, never under what a client made up.

pub mod metrics;
mod sd;
mod simple;
mod status_page;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::{LargeResponse, Method, Request, Response, browser, negotiate};
use crate::config::exporter::Access;
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
    rule: BrowserRule,
    answer: fn(&Endpoints, &Request) -> Response,
}

/// What a browser may be made to request, by what the path does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BrowserRule {
    /// Neither costly nor only for people: for everybody.
    Anyone,
    /// Runs queries: not embedded in a page of another site.
    Queries,
    /// For people: under our own host names only.
    Pages,
    /// Changes something: under our own host names only, and not from a page of another site.
    Change,
}

/// Paths that need no login: an orchestrator's health checks have none.
pub fn public_paths(prefix: &RoutePrefix) -> Vec<String> {
    ["/-/healthy", "/-/ready"].map(|path| prefix.path(path)).to_vec()
}

/// Scrapes join the runs of one that began within this fraction of their time.
const JOIN_FRACTION: u32 = 10;

/// How long a request waits for another one that looks for changed targets.
const REFRESH_WAIT: Duration = Duration::from_secs(1);

const ROUTES: &[Route] = &[
    get("/", "status of the targets and queries", BrowserRule::Pages, status_page::answer),
    get("/metrics", "runs the queries of all targets", BrowserRule::Queries, metrics::metrics),
    get("/probe", "runs the queries of one target: ?target=NAME", BrowserRule::Queries, metrics::probe),
    get("/sd", "the targets for Prometheus' HTTP service discovery", BrowserRule::Anyone, sd::answer),
    get("/config", "the effective configuration without its secrets", BrowserRule::Pages, simple::config),
    get("/-/metrics", "the exporter's own metrics", BrowserRule::Anyone, metrics::own_metrics),
    get("/-/healthy", "200 when the exporter runs", BrowserRule::Anyone, simple::healthy),
    get(
        "/-/ready",
        "200 when scrapes are answered, 503 before the exporter stops",
        BrowserRule::Anyone,
        simple::ready,
    ),
    Route {
        path: "/-/reload",
        about: "POST: reads the configuration again",
        methods: &[Method::Post],
        rule: BrowserRule::Change,
        answer: simple::reload,
    },
];

const fn get(
    path: &'static str,
    about: &'static str,
    rule: BrowserRule,
    answer: fn(&Endpoints, &Request) -> Response,
) -> Route {
    Route { path, about, methods: &[Method::Get, Method::Head], rule, answer }
}

/// Reads the configuration again and swaps the targets. Blocks for as long as that takes; returns the faults.
pub type Reload = dyn Fn(&Endpoints) -> Result<(), Arc<Vec<Error>>> + Send + Sync;

/// What the endpoints answer from.
pub struct Endpoints {
    targets: RwLock<Arc<Targets>>,
    /// Held while other targets are put in their place.
    changing: Mutex<()>,
    reload: Box<Reload>,
    /// The file that the configuration was read from, where it is known.
    config_file: Option<PathBuf>,
    /// The process is about to end.
    is_stopping: AtomicBool,
    environment: fn(&str) -> Option<String>,
}

impl Endpoints {
    /// Endpoints over the targets, how to reload these, and the variables that target files may use.
    pub fn new(targets: Targets, reload: Box<Reload>, environment: fn(&str) -> Option<String>) -> Self {
        let (targets, changing) = (RwLock::new(Arc::new(targets)), Mutex::new(()));
        let is_stopping = AtomicBool::new(false);
        Endpoints { targets, changing, reload, config_file: None, is_stopping, environment }
    }

    /// The same, with the configuration's file for commands on the status page.
    pub fn with_config_file(self, file: Option<PathBuf>) -> Self {
        Endpoints { config_file: file, ..self }
    }

    /// The process is about to end: from now on `/-/ready` answers 503. Everything else is answered as before.
    pub fn announce_stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// The targets now.
    pub fn targets(&self) -> Arc<Targets> {
        Arc::clone(&self.targets.read())
    }

    /// Replaces the targets by those that `make` makes of them, if it does. Scrapes in flight keep those that they began
    /// with. One change at a time.
    pub fn change<T>(&self, make: impl FnOnce(&Targets) -> (Option<Targets>, T)) -> T {
        let _changing = self.changing.lock();
        let (targets, result) = make(&self.targets());
        if let Some(targets) = targets {
            self.swap(targets);
        }
        result
    }

    /// Looks whether target files or lists of databases changed, and replaces the targets where they did. Where somebody
    /// else looks for longer than a moment, the targets stay as they are.
    pub fn refresh(&self) {
        if !self.targets().may_have_changed() {
            return;
        }
        let Some(_changing) = self.changing.try_lock_for(REFRESH_WAIT) else { return };
        if let Some(targets) = self.targets().refreshed(&self.environment) {
            self.swap(targets);
        }
    }

    fn swap(&self, targets: Targets) {
        let old = std::mem::replace(&mut *self.targets.write(), Arc::new(targets));
        // Outside of the lock: to end what is gone may take a moment.
        drop(old);
    }

    /// Reads the configuration again.
    ///
    /// # Errors
    /// Its faults; the old one stays.
    pub fn reload(&self) -> Result<(), Arc<Vec<Error>>> {
        (self.reload)(self)
    }

    /// Counters that live as long as the process.
    pub fn telemetry(&self) -> Arc<Telemetry> {
        Arc::clone(self.targets.read().telemetry())
    }

    /// Answers a request. Blocks until the scrape's deadline where the path runs queries.
    pub fn answer(&self, request: &Request) -> Response {
        let prefix = self.targets().exporter.route_prefix.clone();
        let (path, mut response) = route(ROUTES, &prefix, request, |route| {
            if let Err(refusal) = self.check_browser(route.rule, request) {
                self.telemetry().rejected("host");
                return refusal;
            }
            (route.answer)(self, request)
        });
        negotiate::compress(&mut response, request);
        if response.status == 405 {
            self.telemetry().rejected("method");
        }
        self.telemetry().requested(path, response.status);
        response
    }

    /// Whether a request's response may be large: it runs queries, or shows all of the configuration.
    pub fn large_response(&self, request: &Request) -> Option<LargeResponse> {
        let exporter = &self.targets().exporter;
        let path = exporter.route_prefix.strip(&request.path)?;
        let route = ROUTES.iter().find(|route| route.path == path)?;
        let is_large = matches!(route.rule, BrowserRule::Queries | BrowserRule::Pages);
        (is_large && request.method == Method::Get).then(|| LargeResponse {
            path: route.path.to_owned(),
            request: format!("{path} {:?}", request.query),
            shared_for: metrics::time_budget(request, exporter) / JOIN_FRACTION,
        })
    }

    /// Refuses what a page of another site has a browser request.
    fn check_browser(&self, rule: BrowserRule, request: &Request) -> Result<(), Response> {
        let own_host = || browser::check_host(&self.targets().exporter.hosts, request);
        match rule {
            BrowserRule::Anyone => Ok(()),
            BrowserRule::Queries => browser::check_embedding(request),
            BrowserRule::Pages => own_host(),
            BrowserRule::Change => own_host().and_then(|()| browser::check_sender(request)),
        }
    }
}

/// Refuses a client that the setting `key` excludes.
///
/// # Errors
/// The answer: 403, or 404 for what is disabled.
fn check_access(access: Access, request: &Request, key: &str) -> Result<(), Response> {
    match access {
        Access::Everybody => Ok(()),
        Access::Loopback if request.peer.is_loopback() => Ok(()),
        Access::Loopback => Err(Response::text(403, format!("for this machine only (exporter.{key})\n"))),
        Access::Nobody => Err(Response::text(404, format!("disabled (exporter.{key})\n"))),
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
    let path = match prefix.strip(&request.path) {
        Some("") => return ("/", to_status_page(prefix, request)),
        None if request.path == "/" => return ("/", to_status_page(prefix, request)),
        path => path,
    };
    match routes.iter().find(|route| Some(route.path) == path) {
        None => ("other", not_found(routes, prefix)),
        Some(route) if route.methods.contains(&request.method) => (route.path, answer(route)),
        Some(route) => (route.path, not_allowed(route, prefix)),
    }
}

/// With the request's parameters, where these fit into the head of a response.
fn to_status_page(prefix: &RoutePrefix, request: &Request) -> Response {
    const LONGEST: usize = 4096;
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&request.query).finish();
    let page = prefix.path("/");
    match query.len() {
        1..=LONGEST => Response::redirect(&format!("{page}?{query}")),
        _ => Response::redirect(&page),
    }
}

fn not_found(routes: &[Route], prefix: &RoutePrefix) -> Response {
    let paths = || routes.iter().map(|route| (prefix.path(route.path), route.about));
    let width = paths().map(|(path, _)| path.len()).max().unwrap_or(0);
    let lines = paths().map(|(path, about)| format!("  {path:width$}  {about}\n"));
    Response::text(404, format!("not found; the paths are\n{}", lines.collect::<String>()))
}

fn not_allowed(route: &Route, prefix: &RoutePrefix) -> Response {
    let methods: Vec<&str> = route.methods.iter().map(|method| method.as_str()).collect();
    let message = format!("{} answers {}\n", prefix.path(route.path), methods.join(" and "));
    let mut response = Response::text(405, message);
    response.headers.push(("Allow", methods.join(", ")));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::message;

    fn ask(method: Method, path: &str) -> (&'static str, Response) {
        ask_below("", method, path)
    }

    fn ask_below(prefix: &str, method: Method, path: &str) -> (&'static str, Response) {
        let prefix = RoutePrefix::parse(prefix).unwrap();
        let request = Request { method, ..message::tests::get(path) };
        route(ROUTES, &prefix, &request, |route| Response::text(200, route.path))
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
        let of_ours = |word: &str| word.starts_with('/') && !word.starts_with("/a/b/");
        assert!(!body(&missing).split_whitespace().any(of_ours), "{}", body(&missing));
        assert!(body(&missing).contains("\n  /a/b/metrics    runs"), "{}", body(&missing));
        assert_eq!(body(&ask_below("sql", Method::Post, "/sql/sd").1), "/sql/sd answers GET and HEAD\n");
    }

    #[test]
    fn a_redirect_keeps_the_parameters() {
        let query = [("q", "a b&c"), ("order", "name"), ("q", "é\r\n")];
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let request = Request { query, ..message::tests::get("/") };
        let (_, response) =
            route(ROUTES, &RoutePrefix::parse("sql").unwrap(), &request, |_| panic!("routed"));
        let expected = "/sql/?q=a+b%26c&order=name&q=%C3%A9%0D%0A";
        assert!(response.headers.contains(&("Location", expected.to_owned())), "{:?}", response.headers);
        let request = Request { query: vec![("q".to_owned(), "{".repeat(4096))], ..request };
        let (_, response) =
            route(ROUTES, &RoutePrefix::parse("sql").unwrap(), &request, |_| panic!("routed"));
        assert!(response.headers.contains(&("Location", "/sql/".to_owned())), "{:?}", response.headers);
    }

    #[test]
    fn paths_are_listed_once() {
        for route in ROUTES {
            assert_eq!(ROUTES.iter().filter(|other| other.path == route.path).count(), 1, "{}", route.path);
        }
    }
}
