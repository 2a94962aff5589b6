//! `/`: the state of targets and queries as of the last scrapes, for people. Useful without JavaScript and on a phone; runs
//! no query, opens no connection. [`StatusView`] collects the state, [`render`] writes it as HTML.

mod render;

use std::time::Duration;

use super::{Endpoints, admit};
use crate::clock::Timestamp;
use crate::config::route_prefix::RoutePrefix;
use crate::engine::discovery::Discovery;
use crate::engine::target::Target;
use crate::engine::targets::Targets;
use crate::error::{Error, Reason};
use crate::server::{Request, Response};

/// Answers with the page, where `enable_pages` allows this peer to see it.
pub(super) fn answer(endpoints: &Endpoints, request: &Request) -> Response {
    endpoints.refresh();
    let targets = endpoints.targets();
    match admit(targets.exporter.enable_pages, request, "enable_pages") {
        Ok(()) => {
            let page = render::render(&StatusView::of(&targets), request.is_trusted());
            Response::html(page, render::SCRIPT)
        }
        Err(refusal) => refusal,
    }
}

/// What the page shows.
#[derive(Default)]
struct StatusView {
    /// What the paths of its links begin with.
    prefix: RoutePrefix,
    /// The worst first, else in configuration order.
    targets: Vec<TargetView>,
}

#[derive(Default)]
struct TargetView {
    name: String,
    driver: String,
    labels: Vec<(String, String)>,
    /// As of the last scrape.
    state: TargetState,
    /// Version, role and encryption as of the last login, each empty where it is not known.
    facts: [String; 3],
    /// Time until the next attempt to connect; zero when it may be now.
    backoff: Duration,
    /// Why it is down.
    failure: Option<ShownFailure>,
    /// Those that fail first, else in configuration order.
    queries: Vec<QueryView>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum TargetState {
    /// It was not scraped yet.
    #[default]
    New,
    /// A session was opened or answered.
    Up,
    /// None was.
    Down,
    /// Disabled in the configuration.
    Disabled,
}

#[derive(Default)]
struct QueryView {
    name: String,
    collector: String,
    enabled: bool,
    /// How long it took last time.
    took: Option<Duration>,
    /// Of its last good result.
    rows: Option<u64>,
    /// Of its last good result.
    series: Option<u64>,
    /// Time since it last succeeded.
    age: Option<Duration>,
    failure: Option<ShownFailure>,
    /// Why it is skipped: the reason, and in words.
    skipped: Option<(&'static str, String)>,
}

/// Why something fails: everybody sees the reason and the database's code, trusted clients also the message.
#[derive(Clone)]
struct ShownFailure {
    reason: Reason,
    sqlstate: Option<String>,
    /// Empty where it is not known.
    message: String,
}

impl From<&Error> for ShownFailure {
    fn from(error: &Error) -> Self {
        let sqlstate = error.sqlstate().map(str::to_owned);
        ShownFailure { reason: error.reason(), sqlstate, message: error.message().to_owned() }
    }
}

impl StatusView {
    /// The state as of the last scrapes, the worst first. A query of a target that is down keeps its last state.
    fn of(all: &Targets) -> StatusView {
        let mut targets: Vec<TargetView> = all.targets.iter().map(|target| TargetView::of(target)).collect();
        targets.sort_by_key(TargetView::rank);
        StatusView { prefix: all.exporter.route_prefix.clone(), targets }
    }
}

impl TargetView {
    fn of(target: &Target) -> TargetView {
        let database = &target.database;
        let (facts, down) = (target.facts(), target.down());
        let state = match (&facts, &down) {
            _ if !database.enabled => TargetState::Disabled,
            (_, Some(_)) => TargetState::Down,
            (Some(_), None) => TargetState::Up,
            (None, None) => TargetState::New,
        };
        let labels = target.labels().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let facts = facts.map(|facts| [facts.version, facts.role, facts.tls.as_str().to_owned()]);
        let mut queries: Vec<QueryView> =
            (0..database.queries.len()).filter_map(|index| QueryView::of(target, index)).collect();
        queries.extend(target.discovery().map(QueryView::of_discovery));
        queries.sort_by_key(|query| query.failure.is_none());
        TargetView {
            name: database.name.clone(),
            driver: database.driver.to_owned(),
            labels: labels.collect(),
            state,
            facts: facts.unwrap_or_default(),
            backoff: target.backoff(),
            failure: down.as_ref().map(ShownFailure::from),
            queries,
        }
    }

    /// How many queries fail.
    fn failing(&self) -> usize {
        self.queries.iter().filter(|query| query.failure.is_some()).count()
    }

    /// True when it needs attention.
    fn is_bad(&self) -> bool {
        self.rank() < 2
    }

    /// The lower, the worse.
    fn rank(&self) -> u8 {
        match self.state {
            TargetState::Down => 0,
            TargetState::Up if self.failing() > 0 => 1,
            TargetState::Up => 2,
            TargetState::New => 3,
            TargetState::Disabled => 4,
        }
    }
}

impl QueryView {
    /// The query that lists databases.
    fn of_discovery(discovery: &Discovery) -> QueryView {
        let past = discovery.cache.history();
        QueryView {
            name: "discover".to_owned(),
            enabled: true,
            took: past.took,
            rows: past.succeeded.map(|_| past.rows),
            age: past.succeeded.map(Timestamp::age),
            failure: discovery.error().as_ref().map(ShownFailure::from),
            ..QueryView::default()
        }
    }

    fn of(target: &Target, index: usize) -> Option<QueryView> {
        let query = target.database.queries.get(index)?;
        let past = target.history(index);
        Some(QueryView {
            name: query.name.to_string(),
            collector: query.collector.to_string(),
            enabled: query.enabled,
            took: past.took,
            rows: past.succeeded.map(|_| past.rows),
            series: past.succeeded.map(|_| past.series),
            age: past.succeeded.map(Timestamp::age),
            failure: past.failing.as_ref().map(ShownFailure::from),
            skipped: past.skipped.as_ref().map(|cause| (cause.reason(), cause.text().to_owned())),
        })
    }
}
