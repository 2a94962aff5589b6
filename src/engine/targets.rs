//! All targets of one configuration, which live between scrapes, and the selection of some of them by name.
//!
//! Knows no page. A reload makes new `Targets`, which take over what did not change.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::query_sink::SampleContext;
use super::run::SampleOwner;
use super::target::{SharedResources, Target};
use super::workers::WorkerCounts;
use crate::config::Config;
use crate::config::database::Database;
use crate::config::exporter::{Exporter, LabelsTooLong};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::exposition::page::Families;
use crate::metric::column::cut;
use crate::metric::labels::LabelLimit;
use crate::name::LabelName;
use crate::telemetry::{Telemetry, WorkerGauges};
use crate::yaml::keys::nearest_of;

/// Sessions have this long to be cancelled and closed at the end.
const DRAIN: Duration = Duration::from_secs(2);

/// All targets of one configuration.
pub struct Targets {
    /// The section `exporter`.
    pub exporter: Exporter,
    /// In configuration order, disabled ones too; without those whose driver is not built in.
    pub targets: Vec<Arc<Target>>,
    shared: Arc<SharedResources>,
    /// The owners of earlier configurations, while their runs may count under names and labels that are gone.
    previous_owners: Mutex<Vec<Weak<SampleOwner>>>,
}

/// What a reload did to the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReloadSummary {
    /// The same as before.
    pub unchanged: usize,
    /// Changed. What is the same stays: sessions, results of queries.
    pub changed: usize,
    /// New.
    pub started: usize,
    /// Gone.
    pub ended: usize,
}

/// The part of a page that a request selects. An empty list means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrapeSelection {
    /// Names of targets.
    pub targets: Vec<String>,
    /// Names of collectors.
    pub collectors: Vec<String>,
    /// Names of queries.
    pub queries: Vec<String>,
}

/// One target with the indexes of the selected queries.
pub type SelectedTarget = (Arc<Target>, Vec<usize>);

impl Targets {
    /// Makes the targets. Opens no connection.
    pub fn new(config: Config, shared: &Arc<SharedResources>) -> Self {
        let Config { targets, exporter, .. } = config;
        let target = |database: Arc<Database>| {
            let context = sample_context(&exporter, &database);
            Target::new(database, context, shared).map(Arc::new)
        };
        let targets = targets.into_iter().filter_map(target).collect();
        Targets { targets, exporter, shared: Arc::clone(shared), previous_owners: Mutex::default() }
    }

    /// The targets of another configuration. They take over what did not change. Targets that are gone end with the
    /// last scrape that holds the old targets.
    pub fn renew(&self, config: Config) -> (Self, ReloadSummary) {
        let Config { targets, exporter, .. } = config;
        let sampled_alike = sampling(&self.exporter) == sampling(&exporter);
        let known: HashMap<&str, &Arc<Target>> =
            self.targets.iter().map(|target| (target.database.name.as_str(), target)).collect();
        let mut renewal = ReloadSummary { unchanged: 0, changed: 0, started: 0, ended: 0 };
        let mut target = |database: Arc<Database>| {
            let context = sample_context(&exporter, &database);
            let Some(old) = known.get(database.name.as_str()) else {
                let target = Target::new(database, context, &self.shared)?;
                renewal.started += 1;
                return Some(Arc::new(target));
            };
            let is_same = sampled_alike && old.database.digest == database.digest;
            let target = old.renew(database, context, &self.shared)?;
            *(if is_same { &mut renewal.unchanged } else { &mut renewal.changed }) += 1;
            Some(Arc::new(target))
        };
        let targets: Vec<_> = targets.into_iter().filter_map(&mut target).collect();
        renewal.ended = self.targets.len() - renewal.unchanged - renewal.changed;
        self.shared.logins.forgive();
        self.shared.workers.resize(exporter.max_workers);
        let mut previous_owners = self.previous_owners.lock().clone();
        previous_owners.extend(self.targets.iter().map(|target| Arc::downgrade(target.owner())));
        let (shared, previous_owners) = (Arc::clone(&self.shared), Mutex::new(previous_owners));
        (Targets { targets, exporter, shared, previous_owners }, renewal)
    }

    /// Counters of the process's life.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.shared.telemetry
    }

    /// The exporter's own families of the process's life. Runs no query.
    pub fn own_metrics(&self) -> Families {
        let telemetry = self.telemetry();
        self.forget_what_is_gone();
        let WorkerCounts { busy, late, waiting, .. } = self.shared.workers.counts();
        telemetry.workers(WorkerGauges { busy, waiting, late, limit: self.shared.workers.limit() });
        for target in self.targets.iter().filter(|target| target.database.enabled) {
            target.count_sessions();
        }
        telemetry.render()
    }

    /// Drops the counters of targets, queries and labels that are gone, until no run can count under them any more.
    fn forget_what_is_gone(&self) {
        let mut previous_owners = self.previous_owners.lock();
        if previous_owners.is_empty() {
            return;
        }
        // Before the counters: a run that counts between the two steps is looked at again on the next page.
        let alive: Vec<_> = previous_owners.drain(..).filter(|owner| owner.strong_count() > 0).collect();
        *previous_owners = alive;
        let here: HashMap<_, _> =
            self.targets.iter().map(|target| (target.database.name.as_str(), target)).collect();
        self.telemetry()
            .retain(|subject| here.get(subject.target.name).is_some_and(|target| target.bears(subject)));
    }

    /// Cancels the queries under way, and lets none begin: the pages that wait for them leave with what is complete. Does
    /// not block.
    pub fn interrupt(&self) {
        self.shared.interrupt();
    }

    /// Starts the thread by which [`Targets::stop`] cancels and closes, in case there is none to be had then.
    pub fn keep_a_thread_for_the_end(&self) {
        self.shared.disposal.keep_a_thread();
    }

    /// Stops what still runs in the servers and closes the sessions. Blocks for a moment at most.
    pub fn stop(&self) {
        self.interrupt();
        let by = Deadline::within(DRAIN);
        self.shared.close_sessions(by.earlier_by(DRAIN / 2));
        if !self.shared.disposal.settle(by) {
            log::warn!("{} sessions did not end in time", self.shared.disposal.pending());
        }
    }

    /// The selected targets and queries that are enabled, in configuration order.
    ///
    /// # Errors
    /// A configuration error for an unknown name, with the three nearest.
    pub fn select(&self, selection: &ScrapeSelection) -> Result<Vec<SelectedTarget>, Error> {
        let queries = || self.targets.iter().flat_map(|target| &target.database.queries);
        check_names("target", &selection.targets, || {
            self.targets.iter().map(|target| target.database.name.as_str())
        })?;
        check_names("collector", &selection.collectors, || queries().map(|query| &*query.collector))?;
        check_names("query", &selection.queries, || queries().map(|query| &*query.name))?;
        let names = [&selection.targets, &selection.collectors, &selection.queries];
        let [targets, collectors, queries] = names.map(|names| filter(names));
        let choose = |target: &Arc<Target>| {
            let all = target.database.queries.iter().enumerate();
            let chosen = all
                .filter(|(_, query)| collectors(&query.collector) && queries(&query.name))
                .map(|(index, _)| index)
                .collect();
            (Arc::clone(target), chosen)
        };
        let enabled = self.targets.iter().filter(|target| target.database.enabled);
        let chosen = enabled.filter(|target| targets(&target.database.name)).map(choose);
        let narrowed = !selection.collectors.is_empty() || !selection.queries.is_empty();
        Ok(chosen.filter(|(_, queries): &SelectedTarget| !narrowed || !queries.is_empty()).collect())
    }
}

/// What of the exporter's section the targets' samples depend on.
fn sampling(exporter: &Exporter) -> (&str, usize, LabelsTooLong, usize) {
    let Exporter { target_label, max_label_length, labels_too_long, max_cell_bytes, .. } = exporter;
    (target_label, *max_label_length, *labels_too_long, *max_cell_bytes)
}

/// What all samples of a target bear.
pub fn sample_context(exporter: &Exporter, target: &Database) -> SampleContext {
    let label = LabelName::new(&exporter.target_label).ok();
    let limit = LabelLimit {
        bytes: exporter.max_label_length,
        truncate: exporter.labels_too_long == LabelsTooLong::Truncate,
    };
    SampleContext::new(label.as_ref().map(|label| (label, target.name.as_str())), &target.labels, limit)
        .with_max_cell_bytes(exporter.max_cell_bytes)
}

/// Whether a name is one of `names`, of which there may be thousands; every name is, where there are none.
fn filter(names: &[String]) -> impl Fn(&str) -> bool {
    let names: HashSet<&str> = names.iter().map(String::as_str).collect();
    move |name| names.is_empty() || names.contains(name)
}

/// Bytes of an unknown name that a message shows.
const SHOWN: usize = 128;

/// Refuses names that do not exist; `what` they are names of. Looks at each of `names` at most once, however many are
/// wanted.
///
/// # Errors
/// A configuration error for the first unknown one, with the three nearest.
pub fn check_names<'n, N: Iterator<Item = &'n str>>(
    what: &str,
    wanted: &[String],
    names: impl Fn() -> N,
) -> Result<(), Error> {
    let mut missing: HashSet<&str> = wanted.iter().map(String::as_str).collect();
    let mut all = names();
    while !missing.is_empty()
        && let Some(name) = all.next()
    {
        missing.remove(name);
    }
    let Some(unknown) = wanted.iter().find(|wanted| missing.contains(wanted.as_str())) else {
        return Ok(());
    };
    let close = nearest_of(unknown, names(), 3);
    let shown = cut(unknown, SHOWN);
    let more = if shown.len() < unknown.len() { "…" } else { "" };
    let error = Error::config(format!("unknown {what} `{shown}{more}`"));
    Err(if close.is_empty() { error } else { error.with_hint(format!("nearest: {}", close.join(", "))) })
}
