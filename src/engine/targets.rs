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
use crate::config::Config;
use crate::config::discover::DatabaseLists;
use crate::config::exporter::{Exporter, LabelsTooLong};
use crate::config::query::Query;
use crate::config::server_sharing;
use crate::config::target::TargetConfig;
use crate::config::target_sources::{Refreshed, TargetFileState, TargetSources};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::exposition::page::Families;
use crate::metric::labels::LabelLimit;
use crate::name::LabelName;
use crate::plain_text;
use crate::telemetry::{DiscoveryGauges, Telemetry};
use crate::yaml::keys::{Environment, nearest_of};

/// Sessions have this long to be cancelled and closed at the end.
const DRAIN: Duration = Duration::from_secs(2);

/// All targets of one configuration.
pub struct Targets {
    /// The section `exporter`.
    pub exporter: Exporter,
    /// In configuration order, disabled ones too; without those whose driver is not built in.
    pub targets: Vec<Arc<Target>>,
    /// All of the configuration, those that no target runs too.
    queries: Vec<Query>,
    /// What makes other targets of the same configuration; `None` where they do not change.
    sources: Option<Arc<TargetSources>>,
    /// The databases that are among them.
    lists: DatabaseLists,
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

/// Why there are other targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    /// Somebody asked for it: what was refused before is tried again.
    Reload,
    /// A target file or a list of databases changed.
    Refresh,
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
        warn_of_descriptors(&config);
        let Config { targets, queries, exporter, sources, .. } = config;
        let target = |config: Arc<TargetConfig>| {
            let context = sample_context(&exporter, Some(&config));
            Target::new(config, context, shared).map(Arc::new)
        };
        let targets = targets.into_iter().filter_map(target).collect();
        let lists = sources.as_ref().map(|sources| sources.lists()).unwrap_or_default();
        let shared = Arc::clone(shared);
        Targets { targets, queries, exporter, sources, lists, shared, previous_owners: Mutex::default() }
    }

    /// The configuration of a reload with what is known of its targets: the last good content of its target files, and the
    /// databases that were found.
    ///
    /// # Errors
    /// The faults that it has with these targets, unless they are faults of the target files.
    pub fn hand_over(&self, config: Config, environment: &Environment) -> Result<Config, Vec<Error>> {
        let Some(sources) = &config.sources else { return Ok(config) };
        let lists = self.found_alike(&config.targets);
        let known = sources.inherit(self.sources.as_deref(), &lists, environment)?;
        Ok(known.with_exporter(config.exporter))
    }

    /// The databases that the targets found, as far as those of another configuration find them in the same way.
    fn found_alike(&self, configured: &[Arc<TargetConfig>]) -> DatabaseLists {
        let known: HashMap<&str, &Arc<Target>> =
            self.targets.iter().map(|target| (target.config.name.as_str(), target)).collect();
        let list = |config: &Arc<TargetConfig>| {
            let target = known.get(config.name.as_str())?;
            let is_alike = config.enabled && target.config.connection == config.connection;
            let (_, discovery) = target.discovery()?;
            let list = discovery.list(config.discover.as_ref().filter(|_| is_alike)?)?;
            Some((config.name.clone(), list))
        };
        configured.iter().filter_map(list).collect()
    }

    /// The databases that the targets found last.
    fn last_found(&self) -> DatabaseLists {
        let list = |target: &Arc<Target>| Some((target.config.name.clone(), target.found()?));
        self.targets.iter().filter(|target| target.config.enabled).filter_map(list).collect()
    }

    /// True when it is time to look whether there are other targets: [`Targets::refreshed`].
    pub fn may_have_changed(&self) -> bool {
        self.sources.as_ref().is_some_and(|sources| sources.is_due() || self.last_found() != self.lists)
    }

    /// The targets with what changed in the target files and in the lists of databases; `None` where nothing did. Those
    /// that did not change are the same ones. Reads files and opens no connection.
    pub fn refreshed(&self, environment: &Environment) -> Option<Self> {
        let sources = self.sources.as_ref()?;
        let before = sources.files();
        let Refreshed { config, refused } = sources.refresh(&self.last_found(), environment);
        log_changes(&before, &sources.files());
        if let Some(fault) = refused.first() {
            log::error!(
                "the databases that were found are not used, the last ones stay: {}",
                fault.headline()
            );
        }
        let config = config?.with_exporter(self.exporter.clone());
        let (targets, ReloadSummary { changed, started, ended, .. }) = self.renewed(config, Renewal::Refresh);
        // A target file with an error is a change too, which its own line tells.
        if started + changed + ended > 0 {
            log::info!("the targets have changed: {started} started, {changed} changed, {ended} ended");
        }
        Some(targets)
    }

    /// The targets of another configuration. They take over what did not change. Targets that are gone end with the
    /// last scrape that holds the old targets.
    pub fn renew(&self, config: Config) -> (Self, ReloadSummary) {
        self.renewed(config, Renewal::Reload)
    }

    fn renewed(&self, config: Config, cause: Renewal) -> (Self, ReloadSummary) {
        warn_of_descriptors(&config);
        let Config { targets, queries, exporter, sources, .. } = config;
        let known: HashMap<&str, &Arc<Target>> =
            self.targets.iter().map(|target| (target.config.name.as_str(), target)).collect();
        let mut renewal = ReloadSummary { unchanged: 0, changed: 0, started: 0, ended: 0 };
        let mut target = |config: Arc<TargetConfig>| {
            let context = sample_context(&exporter, Some(&config));
            let Some(old) = known.get(config.name.as_str()) else {
                let target = Target::new(config, context, &self.shared)?;
                renewal.started += 1;
                return Some(Arc::new(target));
            };
            // The default of `max_connections` depends on the other targets of the server.
            let is_same = old.owner().context == context
                && old.config.digest == config.digest
                && old.config.max_connections == config.max_connections;
            if is_same && cause == Renewal::Refresh {
                renewal.unchanged += 1;
                return Some(Arc::clone(old));
            }
            let target = old.renew(config, context, &self.shared)?;
            *(if is_same { &mut renewal.unchanged } else { &mut renewal.changed }) += 1;
            Some(Arc::new(target))
        };
        let targets: Vec<_> = targets.into_iter().filter_map(&mut target).collect();
        renewal.ended = self.targets.len() - renewal.unchanged - renewal.changed;
        match cause {
            Renewal::Reload => self.shared.logins.forgive(),
            Renewal::Refresh => {
                self.shared.logins.keep_only(targets.iter().filter_map(|target| target.config.login()));
            }
        }
        self.shared.workers.resize(exporter.max_workers);
        let kept: HashSet<_> = targets.iter().map(|target| Arc::as_ptr(target.owner())).collect();
        let gone = self
            .targets
            .iter()
            .map(|target| target.owner())
            .filter(|owner| !kept.contains(&Arc::as_ptr(owner)));
        let mut previous_owners = self.previous_owners.lock().clone();
        previous_owners.extend(gone.map(Arc::downgrade));
        let lists = sources.as_ref().map(|sources| sources.lists()).unwrap_or_default();
        let (shared, previous_owners) = (Arc::clone(&self.shared), Mutex::new(previous_owners));
        let renewed = Targets { targets, queries, exporter, sources, lists, shared, previous_owners };
        // Here, too: where only /probe is scraped, nobody reads the counters.
        renewed.forget_what_is_gone();
        (renewed, renewal)
    }

    /// Counters of the process's life.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.shared.telemetry
    }

    /// The exporter's own families of the process's life. Runs no query.
    pub fn own_metrics(&self) -> Families {
        let telemetry = self.telemetry();
        self.forget_what_is_gone();
        telemetry.workers(self.shared.workers.counts(), self.shared.workers.limit());
        let enabled = || self.targets.iter().filter(|target| target.config.enabled);
        enabled().for_each(|target| target.count_sessions());
        let found =
            enabled().filter_map(|target| Some((target.owner().labels(), self.discovery_gauges(target)?)));
        telemetry.discovered(&found.collect::<Vec<_>>());
        let files = self.sources.iter().flat_map(|sources| sources.files());
        let files: Vec<_> = files.map(|file| (file.name, file.error.is_none())).collect();
        telemetry.target_files(&files);
        telemetry.render()
    }

    /// The figures of a target's discovery; a list that is not used is not a success.
    fn discovery_gauges(&self, target: &Target) -> Option<DiscoveryGauges> {
        let (_, discovery) = target.discovery()?;
        let (gauges, list) = (discovery.gauges()?, target.found());
        let is_refused = |sources: &TargetSources| {
            list.as_ref().is_some_and(|list| sources.is_refused(&target.config.name, list))
        };
        let success = gauges.success && !self.sources.as_deref().is_some_and(is_refused);
        Some(DiscoveryGauges { success, ..gauges })
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
            self.targets.iter().map(|target| (target.config.name.as_str(), target)).collect();
        self.telemetry()
            .retain(|subject| here.get(subject.target.name).is_some_and(|target| target.has_row(subject)));
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
            log::warn!("sessions that did not end in time: {}", self.shared.disposal.pending());
        }
    }

    /// The selected targets and queries that are enabled, in configuration order. A query or a collector that no target
    /// runs selects nothing.
    ///
    /// # Errors
    /// A configuration error for an unknown name, with the three nearest.
    pub fn select(&self, selection: &ScrapeSelection) -> Result<Vec<SelectedTarget>, Error> {
        check_names("target", &selection.targets, || {
            self.targets.iter().map(|target| target.config.name.as_str())
        })?;
        check_names("collector", &selection.collectors, || {
            self.queries.iter().map(|query| &*query.collector)
        })?;
        check_names("query", &selection.queries, || self.queries.iter().map(|query| &*query.name))?;
        let names = [&selection.targets, &selection.collectors, &selection.queries];
        let [targets, collectors, queries] = names.map(|names| filter(names));
        let choose = |target: &Arc<Target>| {
            let all = target.config.queries.iter().enumerate();
            let chosen = all
                .filter(|(_, query)| collectors(&query.collector) && queries(&query.name))
                .map(|(index, _)| index)
                .collect();
            (Arc::clone(target), chosen)
        };
        let enabled = self.targets.iter().filter(|target| target.config.enabled);
        let chosen = enabled.filter(|target| targets(&target.config.name)).map(choose);
        let narrowed = !selection.collectors.is_empty() || !selection.queries.is_empty();
        // What a target has yet to find may run them: until then, it says itself whether it is up.
        let is_shown = |(target, queries): &SelectedTarget| {
            !narrowed || !queries.is_empty() || target.awaits_databases()
        };
        Ok(chosen.filter(is_shown).collect())
    }
}

/// Warns where the sessions of all targets would take more descriptors than the process may open.
fn warn_of_descriptors(config: &Config) {
    let Ok((_, limit)) = rlimit::Resource::NOFILE.get() else { return };
    let sessions = server_sharing::descriptors(config.targets.iter().map(|target| &**target));
    if u64::try_from(sessions).is_ok_and(|sessions| sessions > limit) {
        log::warn!(
            "the sessions of all targets may take {sessions} files and sockets, and the process may open {limit} \
             (ulimit -n, LimitNOFILE): raise that limit, or lower max_connections or max_server_connections"
        );
    }
}

/// One line for each target file that is not used any more, or is used again.
fn log_changes(before: &[TargetFileState], now: &[TargetFileState]) {
    for TargetFileState { name, error } in now {
        let known = before.iter().find(|file| file.name == *name).and_then(|file| file.error.as_ref());
        match (known, error) {
            (known, Some(error)) if known != Some(error) => log_unused(error),
            (Some(_), None) => log::info!("target file {name} is used again"),
            _ => {}
        }
    }
}

/// One line for a target file whose present content is not used.
pub fn log_unused(error: &Error) {
    log::error!("a target file is not used as it is now: {}", error.headline());
}

/// What all samples of a target have; without one, what those of a test have.
pub fn sample_context(exporter: &Exporter, target: Option<&TargetConfig>) -> SampleContext {
    let label = LabelName::new(&exporter.target_label).ok();
    let limit = LabelLimit {
        bytes: exporter.max_label_length,
        truncate: exporter.labels_too_long == LabelsTooLong::Truncate,
    };
    let named = label.as_ref().zip(target).map(|(label, target)| (label, target.name.as_str()));
    let own = target.map_or(&[][..], |target| &target.labels);
    let mut context = SampleContext::new(named, own, limit);
    context.max_cell_bytes = exporter.max_cell_bytes;
    context
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
    let shown = plain_text::start(unknown, SHOWN);
    let more = if shown.len() < unknown.len() { "…" } else { "" };
    let error = Error::config(format!("unknown {what} `{shown}{more}`"));
    Err(if close.is_empty() { error } else { error.with_hint(format!("nearest: {}", close.join(", "))) })
}
