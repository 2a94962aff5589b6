//! `/`: the state of targets and queries as of the last scrapes, for people. Useful without JavaScript and on a phone; runs
//! no query, opens no connection. [`StatusView`] collects the state that this viewer may see, `listing` selects and sorts,
//! `render` writes HTML. What is hidden from a viewer is not in the view: it can neither be shown nor searched for.

mod command_line;
mod failure;
mod listing;
mod render;
mod sparkline;

use std::path::Path;
use std::time::Duration;

use self::failure::ShownFailure;
use self::listing::Listing;
use super::{Endpoints, check_access};
use crate::clock::Timestamp;
use crate::config::route_prefix::RoutePrefix;
use crate::engine::discovery::Discovery;
use crate::engine::scrape_times::ScrapeTimes;
use crate::engine::target::Target;
use crate::engine::targets::Targets;
use crate::server::{Request, Response};

/// Answers with the page, where `enable_pages` allows this peer to see it.
pub(super) fn answer(endpoints: &Endpoints, request: &Request) -> Response {
    endpoints.refresh();
    let targets = endpoints.targets();
    match check_access(targets.exporter.enable_pages, request, "enable_pages") {
        Ok(()) => {
            let is_trusted = request.is_trusted();
            let config_file = endpoints.config_file.as_deref().filter(|_| is_trusted);
            let viewer = Viewer { is_trusted, config_file };
            let view = StatusView::of(&targets, Listing::of(&request.query), &viewer);
            Response::html(render::render(&view), &render::SCRIPT)
        }
        Err(refusal) => refusal,
    }
}

/// Whom the page is for.
struct Viewer<'r> {
    /// May read messages of databases.
    is_trusted: bool,
    /// The configuration, for a viewer who may know it.
    config_file: Option<&'r Path>,
}

/// What the page shows.
#[derive(Default)]
struct StatusView {
    /// What the paths of its links begin with.
    prefix: RoutePrefix,
    /// Messages of databases are left out.
    is_reduced: bool,
    /// Of all targets, found or not.
    totals: StatusTotals,
    listing: Listing,
    /// Those that fit the listing, in its order.
    targets: Vec<TargetView>,
}

#[derive(Debug, Default)]
struct StatusTotals {
    targets: usize,
    down: usize,
    queries: usize,
    failing: usize,
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
    scrapes: ScrapeTimes,
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

impl TargetState {
    fn as_str(self) -> &'static str {
        match self {
            TargetState::New => "not scraped yet",
            TargetState::Up => "up",
            TargetState::Down => "down",
            TargetState::Disabled => "disabled",
        }
    }
}

#[derive(Default)]
struct QueryView {
    name: String,
    collector: String,
    /// How long it took last time, or how long it had when it was stopped.
    took: Option<Duration>,
    /// Of its last good result.
    rows: Option<u64>,
    /// Of its last good result.
    series: Option<u64>,
    /// Time since it last succeeded.
    age: Option<Duration>,
    /// Why it fails, while it is enabled.
    failure: Option<ShownFailure>,
    /// The state of one that does not fail.
    state: String,
}

impl StatusView {
    /// The state as of the last scrapes. A query of a target that is down keeps its last state.
    fn of(all: &Targets, listing: Listing, viewer: &Viewer<'_>) -> StatusView {
        let mut targets: Vec<TargetView> =
            all.targets.iter().map(|target| TargetView::of(target, viewer)).collect();
        let totals = StatusTotals::of(&targets);
        listing.apply(&mut targets);
        let prefix = all.exporter.route_prefix.clone();
        StatusView { prefix, is_reduced: !viewer.is_trusted, totals, listing, targets }
    }
}

impl StatusTotals {
    fn of(targets: &[TargetView]) -> StatusTotals {
        StatusTotals {
            targets: targets.len(),
            down: targets.iter().filter(|target| target.state == TargetState::Down).count(),
            queries: targets.iter().map(|target| target.queries.len()).sum(),
            failing: targets.iter().map(TargetView::failing).sum(),
        }
    }
}

impl TargetView {
    fn of(target: &Target, viewer: &Viewer<'_>) -> TargetView {
        let config = &target.config;
        let (facts, down) = (target.facts(), target.down());
        let state = match (&facts, &down) {
            _ if !config.enabled => TargetState::Disabled,
            (_, Some(_)) => TargetState::Down,
            (Some(_), None) => TargetState::Up,
            (None, None) => TargetState::New,
        };
        let labels = target.labels().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let facts = facts.map(|facts| [facts.version, facts.role, facts.tls.as_str().to_owned()]);
        let mut queries: Vec<QueryView> =
            (0..config.queries.len()).filter_map(|index| QueryView::of(target, index, viewer)).collect();
        let of_discovery = |(_, discovery)| QueryView::of_discovery(target, discovery, viewer);
        queries.extend(target.discovery().map(of_discovery));
        let test = ["test", "--target", &config.name];
        TargetView {
            name: config.name.clone(),
            driver: config.driver.to_owned(),
            labels: labels.collect(),
            state,
            facts: facts.unwrap_or_default(),
            backoff: target.backoff(),
            failure: down.as_ref().map(|error| ShownFailure::of(error, &test, viewer)),
            scrapes: target.scrape_times(),
            queries,
        }
    }

    /// How many queries fail.
    fn failing(&self) -> usize {
        self.queries.iter().filter(|query| query.failure.is_some()).count()
    }

    /// How long its last scrape took.
    fn took(&self) -> Option<Duration> {
        self.scrapes.last().map(|scrape| scrape.took)
    }

    /// The series of the last good results of its queries; `None` where there is no result.
    fn series(&self) -> Option<u64> {
        self.queries.iter().filter_map(|query| query.series).reduce(u64::saturating_add)
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

    /// What can be searched for: all that the page shows of the target but numbers. `script.js` searches the same.
    fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}", self.name, self.state.as_str(), self.driver);
        let mut add = |parts: &[&str]| {
            text.push('\n');
            text.extend(parts.iter().copied());
        };
        self.facts.iter().for_each(|fact| add(&[fact]));
        self.labels.iter().for_each(|(name, value)| add(&[name, "=\"", value, "\""]));
        self.failure.iter().for_each(|failure| add(&failure.words()));
        for QueryView { name, collector, failure, state, .. } in &self.queries {
            add(&[name, "\n", collector]);
            match failure {
                Some(failure) => add(&failure.words()),
                None => add(&[state]),
            }
        }
        text
    }
}

impl QueryView {
    /// The query that lists databases.
    fn of_discovery(target: &Target, discovery: &Discovery, viewer: &Viewer<'_>) -> QueryView {
        let past = discovery.cache.history();
        // It lists the databases, too.
        let test = ["test", "--target", &target.config.name];
        let state = if past.succeeded.is_some() { "good" } else { "not run yet" };
        QueryView {
            name: "discover".to_owned(),
            took: past.stopped.or(past.took),
            rows: past.succeeded.map(|_| past.rows),
            age: past.succeeded.map(Timestamp::age),
            failure: discovery.error().map(|error| ShownFailure::of(&error, &test, viewer)),
            state: state.to_owned(),
            ..QueryView::default()
        }
    }

    fn of(target: &Target, index: usize, viewer: &Viewer<'_>) -> Option<QueryView> {
        let query = target.config.queries.get(index)?;
        let past = target.history(index);
        let again = ["try", "--query", &query.name, "--target", &target.config.name];
        let failing = past.failing.filter(|_| query.enabled);
        let state = match &past.skipped {
            _ if !query.enabled => "disabled".to_owned(),
            // The text may be the database's, as the message of a failure is.
            Some(cause) if viewer.is_trusted => format!("skipped: {}, {}", cause.reason(), cause.text()),
            Some(cause) => format!("skipped: {}", cause.reason()),
            None if past.succeeded.is_some() => "good".to_owned(),
            None => "not run yet".to_owned(),
        };
        Some(QueryView {
            name: query.name.to_string(),
            collector: query.collector.to_string(),
            took: past.stopped.or(past.took),
            rows: past.succeeded.map(|_| past.rows),
            series: past.succeeded.map(|_| past.series),
            age: past.succeeded.map(Timestamp::age),
            failure: failing.map(|error| ShownFailure::of(&error, &again, viewer)),
            state,
        })
    }
}
