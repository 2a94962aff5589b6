//! The plan at work: the targets that live between scrapes, and the choice of some of them by name.
//!
//! Knows no page. A reload makes a new fleet that keeps the targets which did not change.

use std::sync::Arc;
use std::time::Duration;

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
use crate::yaml::keys::nearest;

/// Sessions have this long to be cancelled and closed at the end.
const DRAIN: Duration = Duration::from_secs(2);

/// All targets of one plan.
pub struct Fleet {
    /// The section `exporter`.
    pub exporter: Exporter,
    /// In configuration order, disabled ones too; not those whose driver is not built in.
    pub targets: Vec<Arc<Target>>,
    shared: Arc<Shared>,
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
        let Plan { targets, exporter, .. } = plan;
        let target = |planned: &Arc<planned::Target>| {
            let context = context(&exporter, planned);
            Target::new(Arc::clone(planned), context, Arc::clone(shared)).map(Arc::new)
        };
        Fleet { targets: targets.iter().filter_map(target).collect(), exporter, shared: Arc::clone(shared) }
    }

    /// Counters of the process's life.
    #[must_use]
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.shared.telemetry
    }

    /// The exporter's own families of the process's life; `process_*` too, where asked for. Runs no query.
    #[must_use]
    pub fn own_metrics(&self, process: bool) -> Families {
        let telemetry = self.telemetry();
        telemetry.late_workers(self.shared.workers.figures().late);
        for target in self.targets.iter().filter(|target| target.plan.enabled) {
            target.count_sessions();
        }
        telemetry.render(process)
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

fn context(exporter: &Exporter, target: &planned::Target) -> Context {
    let label = LabelName::new(&exporter.target_label).ok();
    let limit = LabelLimit {
        bytes: exporter.max_label_length,
        truncate: exporter.labels_too_long == LabelsTooLong::Truncate,
    };
    Context::new(label.as_ref().map(|label| (label, target.name.as_str())), &target.labels, limit)
}

fn known<'n, N: Iterator<Item = &'n str>>(
    what: &str,
    wanted: &[String],
    names: impl Fn() -> N,
) -> Result<(), Error> {
    let Some(unknown) = wanted.iter().find(|wanted| !names().any(|name| name == wanted.as_str())) else {
        return Ok(());
    };
    let mut left: Vec<&str> = names().collect();
    left.sort_unstable();
    left.dedup();
    let mut close = Vec::new();
    while let (true, Some(near)) = (close.len() < 3, nearest(unknown, left.iter().copied())) {
        left.retain(|name| *name != near);
        close.push(near);
    }
    let error = Error::config(format!("unknown {what} `{unknown}`"));
    Err(if close.is_empty() { error } else { error.with_hint(format!("nearest: {}", close.join(", "))) })
}
