//! The plan at work: the targets that live between scrapes, and the choice of some of them by name.
//!
//! Knows no page. A reload makes a new fleet that keeps the targets which did not change.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::error::Error;
use crate::exposition::page::Families;
use crate::metric::labels::LabelLimit;
use crate::name::LabelName;
use crate::plan::Plan;
use crate::plan::exporter::{Exporter, LabelsTooLong};
use crate::plan::target as planned;
use crate::query::Context;
use crate::target::{Shared, Target};
use crate::telemetry::Telemetry;
use crate::yaml::keys::nearest_of;

/// Sessions have this long to be cancelled and closed at the end.
const DRAIN: Duration = Duration::from_secs(2);

/// After a reload, runs of targets that are gone end within this time; until then their rows are forgotten anew.
const AFTERMATH: Duration = Duration::from_secs(300);

/// All targets of one plan.
pub struct Fleet {
    /// The section `exporter`.
    pub exporter: Exporter,
    /// In configuration order, disabled ones too; not those whose driver is not built in.
    pub targets: Vec<Arc<Target>>,
    shared: Arc<Shared>,
    /// Since when it stands in for another one; until some time after, runs of targets that are gone may still end.
    renewed: Option<Instant>,
}

/// What a reload did to the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// They keep sessions, results and back-off.
    pub unchanged: usize,
    /// New, or not as they were.
    pub started: usize,
    /// Gone, or not as they were.
    pub ended: usize,
}

/// Which part of a page is asked for. An empty list means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names of targets.
    pub targets: Vec<String>,
    /// Names of collectors.
    pub collectors: Vec<String>,
    /// Names of queries.
    pub queries: Vec<String>,
}

/// One target with the queries asked for (their indexes).
pub type Chosen = (Arc<Target>, Vec<usize>);

impl Fleet {
    /// Makes the targets. Opens no connection.
    #[must_use]
    pub fn new(plan: Plan, shared: &Arc<Shared>) -> Self {
        Fleet::keeping(plan, shared, |_| None)
    }

    /// The targets that `kept` gives stay as they are; the others are made.
    fn keeping(
        plan: Plan,
        shared: &Arc<Shared>,
        kept: impl Fn(&planned::Target) -> Option<Arc<Target>>,
    ) -> Self {
        let Plan { targets, exporter, .. } = plan;
        let target = |planned: &Arc<planned::Target>| {
            let made = || {
                let context = context(&exporter, planned);
                Target::new(Arc::clone(planned), context, Arc::clone(shared)).map(Arc::new)
            };
            kept(planned).or_else(made)
        };
        let targets = targets.iter().filter_map(target).collect();
        Fleet { targets, exporter, shared: Arc::clone(shared), renewed: None }
    }

    /// The fleet of another plan. Targets that did not change go on as they are; those that are gone end with the last
    /// scrape that holds the old fleet.
    #[must_use]
    pub fn renew(&self, plan: Plan) -> (Self, Renewal) {
        let sampled_alike = sampling(&self.exporter) == sampling(&plan.exporter);
        let known: HashMap<_, _> = self.targets.iter().map(|target| (&target.plan.name, target)).collect();
        let unchanged = Cell::new(0);
        let kept = |planned: &planned::Target| {
            let old =
                known.get(&planned.name).filter(|old| sampled_alike && old.plan.digest == planned.digest)?;
            unchanged.set(unchanged.get() + 1);
            Some(Arc::clone(old))
        };
        let mut fleet = Fleet::keeping(plan, &self.shared, kept);
        fleet.renewed = Some(Instant::now());
        let unchanged = unchanged.get();
        let (started, ended) = (fleet.targets.len() - unchanged, self.targets.len() - unchanged);
        (fleet, Renewal { unchanged, started, ended })
    }

    /// Counters of the process's life.
    #[must_use]
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.shared.telemetry
    }

    /// The exporter's own families of the process's life. Runs no query.
    #[must_use]
    pub fn own_metrics(&self) -> Families {
        let telemetry = self.telemetry();
        if self.renewed.is_some_and(|since| since.elapsed() < AFTERMATH) {
            let here: HashMap<_, _> =
                self.targets.iter().map(|target| (target.plan.name.as_str(), target)).collect();
            telemetry
                .keep(|subject| here.get(subject.bearer.target).is_some_and(|target| target.bears(subject)));
        }
        telemetry.late_workers(self.shared.workers.figures().late);
        for target in self.targets.iter().filter(|target| target.plan.enabled) {
            target.count_sessions();
        }
        telemetry.render()
    }

    /// Stops what still runs in the servers and closes the sessions. Blocks for a moment at most.
    pub fn stop(&self) {
        for target in &self.targets {
            target.stop();
        }
        if !self.shared.disposal.settle(Deadline::within(DRAIN)) {
            log::warn!("{} cancels did not reach their servers in time", self.shared.disposal.pending());
        }
    }

    /// The enabled targets and queries asked for, in configuration order.
    ///
    /// # Errors
    /// A configuration error for an unknown name, with the three nearest.
    pub fn select(&self, selection: &Selection) -> Result<Vec<Chosen>, Error> {
        let queries = || self.targets.iter().flat_map(|target| &target.plan.queries);
        known("target", &selection.targets, || self.targets.iter().map(|target| target.plan.name.as_str()))?;
        known("collector", &selection.collectors, || queries().map(|query| &*query.collector))?;
        known("query", &selection.queries, || queries().map(|query| &*query.name))?;
        let wanted =
            |names: &[String], name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
        let choose = |target: &Arc<Target>| {
            let queries = target.plan.queries.iter().enumerate();
            let chosen = queries
                .filter(|(_, query)| wanted(&selection.collectors, &query.collector))
                .filter(|(_, query)| wanted(&selection.queries, &query.name))
                .map(|(index, _)| index)
                .collect();
            (Arc::clone(target), chosen)
        };
        let targets = self.targets.iter().filter(|target| target.plan.enabled);
        let chosen = targets.filter(|target| wanted(&selection.targets, &target.plan.name)).map(choose);
        let narrowed = !selection.collectors.is_empty() || !selection.queries.is_empty();
        Ok(chosen.filter(|(_, queries): &Chosen| !narrowed || !queries.is_empty()).collect())
    }
}

/// What of the exporter's section the targets' samples depend on.
fn sampling(exporter: &Exporter) -> (&str, usize, LabelsTooLong) {
    (&exporter.target_label, exporter.max_label_length, exporter.labels_too_long)
}

/// What all samples of a target bear.
#[must_use]
pub fn context(exporter: &Exporter, target: &planned::Target) -> Context {
    let label = LabelName::new(&exporter.target_label).ok();
    let limit = LabelLimit {
        bytes: exporter.max_label_length,
        truncate: exporter.labels_too_long == LabelsTooLong::Truncate,
    };
    Context::new(label.as_ref().map(|label| (label, target.name.as_str())), &target.labels, limit)
}

/// Refuses names that do not exist; `what` they are names of.
///
/// # Errors
/// A configuration error for the first unknown one, with the three nearest.
pub fn known<'n, N: Iterator<Item = &'n str>>(
    what: &str,
    wanted: &[String],
    names: impl Fn() -> N,
) -> Result<(), Error> {
    let Some(unknown) = wanted.iter().find(|wanted| !names().any(|name| name == wanted.as_str())) else {
        return Ok(());
    };
    let close = nearest_of(unknown, names(), 3);
    let error = Error::config(format!("unknown {what} `{unknown}`"));
    Err(if close.is_empty() { error } else { error.with_hint(format!("nearest: {}", close.join(", "))) })
}
