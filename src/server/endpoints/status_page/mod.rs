//! `/`: how the targets and queries stood last time, for people. Useful without JavaScript and on a phone; runs no
//! query, opens no connection. [`view`] gathers, [`render`] writes.

mod reasons;
mod render;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::route_prefix::RoutePrefix;
use crate::engine::target::Target;
use crate::engine::targets::Targets;
use crate::error::{Error, Reason};
use crate::server::{Request, Response};

use super::Site;
use crate::server::negotiate;

/// What the page shows.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What the paths of its links begin with.
    pub prefix: RoutePrefix,
    /// The worst first, else in configuration order.
    pub targets: Vec<TargetView>,
}

/// One target.
#[derive(Debug, Clone, Default)]
pub struct TargetView {
    /// Its name.
    pub name: String,
    /// Its driver's label value.
    pub driver: String,
    /// Its own labels.
    pub labels: Vec<(String, String)>,
    /// How it stood at the last scrape.
    pub state: State,
    /// What it said of itself at its last login, each empty where it did not tell: version, role, encryption.
    pub facts: [String; 3],
    /// Time until the next attempt to connect; zero when it may be now.
    pub backoff: Duration,
    /// Why it is down.
    pub trouble: Option<Trouble>,
    /// Its queries, those that fail first, else in configuration order.
    pub queries: Vec<QueryView>,
}

impl TargetView {
    /// True when somebody should look at it.
    fn is_bad(&self) -> bool {
        self.rank() < 2
    }

    /// The lower, the worse.
    fn rank(&self) -> u8 {
        match self.state {
            State::Down => 0,
            State::Up if self.queries.iter().any(|query| query.trouble.is_some()) => 1,
            State::Up => 2,
            State::New => 3,
            State::Disabled => 4,
        }
    }
}

/// How a target stood at the last scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// It was not scraped yet.
    #[default]
    New,
    /// A session was opened or answered.
    Up,
    /// None was.
    Down,
    /// Switched off in the configuration.
    Disabled,
}

/// One query of a target.
#[derive(Debug, Clone, Default)]
pub struct QueryView {
    /// Its name.
    pub name: String,
    /// Its collector.
    pub collector: String,
    /// False: switched off in the configuration.
    pub enabled: bool,
    /// How long it took last time.
    pub took: Option<Duration>,
    /// Rows of its last good result.
    pub rows: Option<u64>,
    /// Series of its last good result.
    pub series: Option<u64>,
    /// Time since it last succeeded.
    pub age: Option<Duration>,
    /// Why it fails.
    pub trouble: Option<Trouble>,
}

/// Why something fails: for everybody the reason and the database's code, for this machine the message as well.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// From the closed set.
    pub reason: Reason,
    /// The database's own code.
    pub sqlstate: Option<String>,
    /// What the database, or we, say; empty where it is not known.
    pub message: String,
}

impl From<&Error> for Trouble {
    fn from(error: &Error) -> Self {
        let sqlstate = error.sqlstate().map(str::to_owned);
        Trouble { reason: error.reason(), sqlstate, message: error.message().to_owned() }
    }
}

/// Answers with the page, where `enable_pages` lets this peer see it.
pub fn answer(site: &Site, request: &Request) -> Response {
    let fleet = site.fleet();
    match negotiate::admit(fleet.exporter.enable_pages, request, "enable_pages") {
        Ok(()) => negotiate::html(render::render(&view(&fleet), request.is_trusted()), render::SCRIPT),
        Err(refusal) => refusal,
    }
}

/// What the fleet remembers of the last scrapes, the worst first. A query of a target that is down stands as it stood
/// before.
fn view(fleet: &Targets) -> View {
    let mut targets: Vec<TargetView> = fleet.targets.iter().map(|target| target_view(target)).collect();
    targets.sort_by_key(TargetView::rank);
    for target in &mut targets {
        target.queries.sort_by_key(|query| query.trouble.is_none());
    }
    View { prefix: fleet.exporter.route_prefix.clone(), targets }
}

fn target_view(target: &Target) -> TargetView {
    let plan = &target.database;
    let (facts, down) = (target.facts(), target.down());
    let state = match (&facts, &down) {
        _ if !plan.enabled => State::Disabled,
        (_, Some(_)) => State::Down,
        (Some(_), None) => State::Up,
        (None, None) => State::New,
    };
    let labels = target.labels().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let facts = facts.map(|facts| [facts.version, facts.role, facts.tls.word().to_owned()]);
    TargetView {
        name: plan.name.clone(),
        driver: plan.driver.to_owned(),
        labels: labels.collect(),
        state,
        facts: facts.unwrap_or_default(),
        backoff: target.backoff(),
        trouble: down.as_ref().map(Trouble::from),
        queries: (0..plan.queries.len()).filter_map(|index| query_view(target, index)).collect(),
    }
}

fn query_view(target: &Target, index: usize) -> Option<QueryView> {
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
        trouble: past.failing.as_ref().map(Trouble::from),
    })
}
