//! One statement on one target, once and for people: its rows, what becomes of each column, the samples, the time.
//!
//! A configured query runs as a scrape runs it, through the production sink, on a session of its own. A statement of
//! nobody's is run once too; `propose` makes a definition of its rows, which then go through that. `choose` finds what is
//! meant by names, `tap` watches the rows, `mapping` tells columns. How it is shown is `command/trial`.

mod choose;
mod column_mapping;
mod owned_rows;
mod proposal;
mod recording_sink;
mod run;
mod yaml;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::source_position::place_of;
use crate::config::Config;
use crate::config::database::Database;
use crate::config::query::Query;
use crate::deadline::Deadline;
use crate::driver::{Canceller, Column, ServerFacts, Sql};
use crate::engine::disposal::Disposal;
use crate::engine::query_sink::SkippedValues;
use crate::error::{Error, Reason, SourcePosition};
use crate::exposition::page::Families;

pub use self::choose::{query, target};
pub use self::column_mapping::Mapped;

/// A session has this long to be cancelled and closed at the end.
const DRAIN: Duration = Duration::from_secs(2);

/// What is tried.
pub enum What {
    /// A query as it is configured for the target.
    Query(Arc<Query>),
    /// A statement without metrics.
    Statement(Sql),
}

/// One trial to be made.
pub struct Ask<'p> {
    /// The plan that the target is of.
    pub plan: &'p Config,
    /// Where.
    pub target: &'p Database,
    /// What.
    pub what: What,
    /// How many rows to keep as text.
    pub rows: usize,
    /// The database's own plan is wanted too.
    pub explain: bool,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// Rows as text; `None` is NULL.
#[derive(Debug, Default)]
pub struct Listing {
    /// The result's columns.
    pub columns: Vec<Column>,
    /// The first rows.
    pub rows: Vec<Vec<Option<String>>>,
    /// How many came.
    pub count: u64,
    /// Nobody waited for the others.
    pub stopped: bool,
}

/// What the rows became.
pub struct Made {
    /// In the order of the page.
    pub families: Families,
    /// Samples.
    pub series: u64,
    /// Values left out.
    pub skipped: SkippedValues,
}

/// Where the time went. `None` where it did not come to that.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Connect and login.
    pub connect: Option<Duration>,
    /// From the statement's start to its first row.
    pub first_row: Option<Duration>,
    /// From there to the last one, without `render`.
    pub rows: Option<Duration>,
    /// Rows to samples.
    pub render: Option<Duration>,
}

/// What came of it.
#[derive(Default)]
pub struct Trial {
    /// What the session learned at login.
    pub facts: Option<ServerFacts>,
    /// Why a scrape would not run it: in sentences.
    pub skipped: Vec<String>,
    /// The database's plan; `None` where it was not asked for, or where there is none.
    pub plan: Option<Listing>,
    /// The rows; `None` where the statement gave none to look at.
    pub listing: Option<Listing>,
    /// What becomes of the columns.
    pub mapping: Vec<Mapped>,
    /// The samples; `None` after an error.
    pub made: Option<Made>,
    /// What is odd about them: in sentences.
    pub warnings: Vec<String>,
    /// An entry to paste under `queries:`.
    pub proposal: Option<String>,
    /// Where the time went.
    pub times: Times,
    /// What failed, with the place in the file where it has one.
    pub error: Option<Error>,
    /// Somebody stopped it ([`Grip::stop`]).
    pub interrupted: bool,
}

/// What stops a trial from outside.
#[derive(Clone, Default)]
pub struct Grip {
    disposal: Disposal,
    canceller: Arc<Mutex<Option<Arc<dyn Canceller>>>>,
}

impl Grip {
    /// Stops in the server what runs there. Blocks for a moment at most.
    pub fn stop(&self) {
        if let Some(canceller) = self.canceller.lock().take() {
            self.disposal.cancel(canceller);
        }
        self.settle();
    }

    fn settle(&self) {
        if !self.disposal.settle(Deadline::within(DRAIN)) {
            log::warn!("the statement may run on in the server: the cancel did not reach it in time");
        }
    }
}

/// Makes the trial. Blocks, at most for its timeout and a moment.
#[must_use]
pub fn run(ask: &Ask<'_>, grip: &Grip) -> Trial {
    let mut trial = Trial::default();
    let by = Deadline::within(ask.timeout);
    let began = Instant::now();
    let connected = match &ask.target.endpoint {
        Some(endpoint) => endpoint.connect(by),
        None => Err(Error::config("its driver is not built in")),
    };
    match connected {
        Err(error) => trial.error = Some(error.on_target(&ask.target.name)),
        Ok(mut session) => {
            trial.times.connect = Some(began.elapsed());
            trial.facts = Some(session.facts().clone());
            *grip.canceller.lock() = Some(session.canceller());
            let ended = run::work(ask, &mut *session, by, &mut trial);
            trial.interrupted = grip.canceller.lock().take().is_none();
            grip.disposal.discard(session, ended.is_err());
            if let Err(Some(error)) = ended {
                trial.error.get_or_insert(error);
            }
            grip.settle();
        }
    }
    trial.error = trial.error.take().map(|error| ask.placed(error));
    trial
}

impl Ask<'_> {
    /// The statement.
    #[must_use]
    pub fn sql(&self) -> &Sql {
        match &self.what {
            What::Query(query) => &query.sql,
            What::Statement(sql) => sql,
        }
    }

    /// The query, where it is a configured one.
    #[must_use]
    pub fn query(&self) -> Option<&Query> {
        match &self.what {
            What::Query(query) => Some(query),
            What::Statement(_) => None,
        }
    }

    /// The error with target, query and the place that it is about.
    fn placed(&self, error: Error) -> Error {
        let error = error.on_target(&self.target.name);
        let place = match (self.query(), error.sql_position()) {
            _ if error.place().is_some() => None,
            (Some(query), Some(spot)) => Some(place_of(&query.sql_place, query.sql.text(), spot)),
            (Some(query), None) => place(query, &error),
            (None, Some(spot)) => {
                let source = self.sql().text().lines().nth(spot.line - 1).map(str::to_owned);
                let (file, path) = ("--sql".to_owned(), String::new());
                Some(SourcePosition { file, line: spot.line, column: spot.column, path, source })
            }
            (None, None) => None,
        };
        let Some(place) = place else { return error };
        let hidden = self.plan.secret_lines.contains(&(place.file.clone(), place.line));
        let place = SourcePosition { source: place.source.clone().filter(|_| !hidden), ..place };
        error.at(place)
    }
}

/// What of the configuration an error of rows or statements is about; nothing for one of the connection.
fn place(query: &Query, error: &Error) -> Option<SourcePosition> {
    match error.reason() {
        _ if error.message().starts_with("when.sql: ") => Some((*query.place).clone()),
        Reason::MissingColumn | Reason::Type | Reason::Value => {
            let names = |column: &str| error.message().contains(&format!("`{column}`"));
            let about =
                |metric: &&crate::metric::Metric| metric.uses().iter().any(|taken| names(&taken.column));
            let metric = query.metrics.iter().find(about);
            Some(metric.map_or_else(|| (*query.place).clone(), |metric| metric.place.clone()))
        }
        Reason::Duplicate | Reason::Limit => Some((*query.place).clone()),
        Reason::Sql | Reason::ReadOnly | Reason::Permission => Some((*query.sql_place).clone()),
        _ => None,
    }
}
