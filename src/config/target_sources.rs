//! The files of a configuration as they were read, and the targets that come and go while it is in use: those of
//! `target_files`, and databases that were discovered. Makes the configuration again with other such targets, without
//! reading its own files again.
//!
//! Knows no target at work. One broken target file, or one that does not go together with the rest, leaves the others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::driver::Drivers;
use crate::error::{Error, SourcePosition};
use crate::yaml::document::Document;
use crate::yaml::keys::{Environment, Keys, Reader};

use super::Config;
use super::aliases;
use super::assignment::{self, ConfigParts};
use super::collector;
use super::conflicts;
use super::database::{Database, DatabaseEntry};
use super::discover::{DatabaseList, FoundDatabase};
use super::exporter::Exporter;
use super::include::{self, IncludedFiles};
use super::selection::Overrides;
use super::server_sharing;
use super::target_files::{TargetFilePatterns, TargetFileWatch};

pub use super::target_files::TargetFileState;

/// The most targets of all target files together.
const MAX_TARGETS: usize = 10_000;

/// The databases that were found, by the name of the target that lists them.
pub type DatabaseLists = BTreeMap<String, DatabaseList>;

/// The targets beside those of the main file.
pub(super) struct AddedTargets<'a> {
    /// The contents of target files.
    pub(super) files: &'a [Arc<Document>],
    /// What is discovered.
    pub(super) discovered: Discovered<'a>,
}

/// Which targets below one with `discover` are meant.
#[derive(Clone, Copy)]
pub(super) enum Discovered<'a> {
    /// Two that stand for those found later: what is wrong with them is a fault of the configuration.
    Sample,
    /// Those that were found.
    Lists(&'a DatabaseLists),
}

impl Discovered<'_> {
    fn below(self, parent: &DatabaseEntry) -> Vec<DatabaseEntry> {
        let Some(discover) = &parent.discover else { return Vec::new() };
        let sample = |name: &str| FoundDatabase {
            name: name.to_owned(),
            labels: vec![String::new(); discover.labels.len()],
        };
        let samples = [sample("<database>"), sample("<another>")];
        let found = match self {
            Discovered::Sample => &samples[..],
            Discovered::Lists(lists) => lists.get(&parent.name).map_or(&[][..], |list| &**list),
        };
        found.iter().filter_map(|found| discover.child(parent, found)).collect()
    }
}

/// What was read once.
pub(super) struct LoadedFiles {
    main: Document,
    included: IncludedFiles,
    pub(super) patterns: TargetFilePatterns,
    drivers: Drivers,
}

impl LoadedFiles {
    /// Reads the files that the main one includes. Faults are recorded.
    pub(super) fn open(main: Document, path: &Path, drivers: &Drivers, reader: &Reader<'_>) -> LoadedFiles {
        let (mut included, mut patterns) = Default::default();
        if let Some(mut root) = Keys::root(&main, reader) {
            included = include::open(&mut root, path, reader);
            patterns = TargetFilePatterns::read(&mut root);
        }
        LoadedFiles { main, included, patterns, drivers: drivers.clone() }
    }

    /// The configuration with these targets, without what only the end of a load knows. `None` when the main file is not
    /// a mapping; the faults of what could be read are in `reader`.
    pub(super) fn read(&self, added: &AddedTargets<'_>, reader: &Reader<'_>) -> Option<Config> {
        let drivers = &self.drivers;
        let mut root = Keys::root(&self.main, reader)?;
        let section = root.inner("exporter");
        // Read already.
        root.texts("include");
        root.texts("target_files");
        let mut defaults = root.inner("defaults");
        let (mut targets, all_targets) = self.targets(&mut root, defaults.as_mut(), added, reader);
        server_sharing::set_defaults(&mut targets);
        let inherited = collector::defaults(defaults.as_mut(), drivers);
        if let Some(defaults) = defaults {
            defaults.finish();
        }
        let mut read = collector::queries(&mut root, &inherited, drivers);
        for file in &self.included.files {
            let included = collector::included(
                &file.document,
                &file.collector,
                file.statement,
                &inherited,
                drivers,
                reader,
            );
            read.add(included);
        }
        let collector::CollectorEntries { queries, query_tests, aliases, all_named } = read;
        let overrides = Overrides::read(&mut root);
        root.finish();

        let places: Vec<_> = targets.iter().map(|target| target.source.labels.clone()).collect();
        let all_queries = self.included.whole && all_named;
        let has_files = !self.patterns.is_empty();
        let awaits_files = has_files && added.files.is_empty();
        let parts =
            ConfigParts { targets, queries, overrides, has_files, awaits_files, all_targets, all_queries };
        let (mut targets, queries) = assignment::assign(parts, reader);
        aliases::assign(aliases, &mut targets, reader);
        let pairs = targets.iter().map(|target| target.queries.len()).sum();
        let (enabled, most) = counts(&targets);
        let exporter = Exporter::read(section, enabled, most, pairs);
        conflicts::check(&targets, &places, &exporter.target_label, reader);
        let targets = targets.into_iter().map(Arc::new).collect();
        let (warnings, files, secret_lines, sources) = Default::default();
        Some(Config { targets, exporter, query_tests, warnings, queries, files, secret_lines, sources })
    }

    /// Takes the key `databases` of the main file and of the target files, each entry over `defaults.database`, and puts
    /// behind each target those that it discovers. Also whether all of the main file's could be read.
    fn targets<'d>(
        &'d self,
        root: &mut Keys<'d>,
        defaults: Option<&mut Keys<'d>>,
        added: &AddedTargets<'d>,
        reader: &'d Reader<'d>,
    ) -> (Vec<DatabaseEntry>, bool) {
        let inherited = defaults.and_then(|defaults| defaults.inner("database"));
        let entries = root.entries("databases");
        let is_faulty = root.has("databases") && entries.is_none();
        if !is_faulty && root.count("databases") == 0 && self.patterns.is_empty() {
            let hint = "add `databases: {NAME: {url: …}}`".to_owned();
            root.lacks("databases", &["databases"], "has no target", Some(hint));
        }
        let read = |(name, keys): (String, Keys<'d>)| {
            DatabaseEntry::read(name, keys.over(inherited.as_ref()), &self.drivers)
        };
        let mut targets: Vec<_> = entries.unwrap_or_default().into_iter().map(read).collect();
        let all_targets = targets.len() == root.count("databases");
        let named = |target: &DatabaseEntry| (target.name.clone(), target.source.place.clone());
        let mut places: HashMap<String, SourcePosition> = targets.iter().map(named).collect();
        for file in added.files {
            for (name, keys) in entries_of(file, reader) {
                let entry = read((name, keys));
                check_new(&entry, &places, reader);
                places.entry(entry.name.clone()).or_insert_with(|| entry.source.place.clone());
                targets.push(entry);
            }
        }
        if let Some(inherited) = inherited {
            // A default may be meant for a driver that no entry uses today, or for entries that are still to come: what reads
            // an entry, and each driver, is asked which keys it knows.
            drop(DatabaseEntry::read(String::new(), inherited.rehearsal(), &self.drivers));
            for driver in self.drivers.names().filter_map(|name| self.drivers.find(name)) {
                driver.endpoint(&mut inherited.rehearsal());
            }
            inherited.finish_defaults();
        }
        (with_discovered(targets, added.discovered), all_targets)
    }
}

/// How many targets are enabled, and how many these are when each finds as many databases as it may.
fn counts(targets: &[Database]) -> (usize, usize) {
    let enabled = || targets.iter().filter(|target| target.enabled);
    let most = |target: &Database| 1 + target.discover.as_ref().map_or(0, |discover| discover.max);
    (enabled().count(), enabled().filter(|target| target.discovered_by.is_none()).map(most).sum())
}

/// The entries of one target file.
fn entries_of<'d>(file: &'d Document, reader: &'d Reader<'d>) -> Vec<(String, Keys<'d>)> {
    let Some(mut root) = Keys::root(file, reader) else { return Vec::new() };
    let entries = root.entries("databases");
    if !root.has("databases") {
        let hint = "write `databases: {NAME: {url: …}}`, or `databases: {}` for none".to_owned();
        root.lacks("", &["databases"], "has no `databases`", Some(hint));
    }
    root.finish();
    entries.unwrap_or_default()
}

/// Refuses a target that another file has already, and one too many.
fn check_new(entry: &DatabaseEntry, known: &HashMap<String, SourcePosition>, reader: &Reader<'_>) {
    if let Some(other) = known.get(&entry.name) {
        let at = conflicts::file_and_line(other);
        let message = format!("another target is called {:?}, at {at}", entry.name);
        reader.fault_at(&entry.source.place, message, "give one of them another name");
    } else if known.len() >= MAX_TARGETS {
        let message = format!("there are more than {MAX_TARGETS} targets");
        reader.fault_at(&entry.source.place, message, "share them among several exporters");
    }
}

/// The targets, each with those that it discovers behind it. One that is configured itself comes before one of the same
/// name that is discovered.
fn with_discovered(targets: Vec<DatabaseEntry>, discovered: Discovered<'_>) -> Vec<DatabaseEntry> {
    let names: HashSet<String> = targets.iter().map(|target| target.name.clone()).collect();
    let family = |parent: DatabaseEntry| {
        let mut below = discovered.below(&parent);
        below.retain(|child| !names.contains(&child.name));
        std::iter::once(parent).chain(below)
    };
    targets.into_iter().flat_map(family).collect()
}

/// What became of a configuration whose targets may have changed.
pub struct Refreshed {
    /// The configuration; `None` where nothing changed.
    pub config: Option<Config>,
    /// The faults that new databases make: those of before stay.
    pub refused: Vec<Error>,
}

/// What can change in a configuration while it is in use.
pub struct TargetSources {
    loaded: LoadedFiles,
    state: Mutex<SourceState>,
}

#[derive(Default)]
struct SourceState {
    watch: TargetFileWatch,
    /// Of the configuration in use.
    lists: DatabaseLists,
    /// Those that made faults when they were last tried.
    refused: Option<DatabaseLists>,
}

impl TargetSources {
    /// Of a configuration that was just read. Reads the target files: blocks until those that have just been written have
    /// not changed for a second.
    pub(super) fn new(loaded: LoadedFiles) -> TargetSources {
        let mut watch = TargetFileWatch::default();
        watch.look_settled(&loaded.patterns);
        let state = SourceState { watch, ..SourceState::default() };
        TargetSources { loaded, state: Mutex::new(state) }
    }

    /// True when it is time to look at the target files again.
    pub fn is_due(&self) -> bool {
        !self.loaded.patterns.is_empty() && self.state.try_lock().is_some_and(|state| state.watch.is_due())
    }

    /// The databases that the configuration in use was made with.
    pub fn lists(&self) -> DatabaseLists {
        self.state.lock().lists.clone()
    }

    /// True where this list of databases of a target made faults, and is not in use.
    pub fn is_refused(&self, target: &str, list: &DatabaseList) -> bool {
        let state = self.state.lock();
        let refused = state.refused.as_ref().and_then(|refused| refused.get(target));
        refused == Some(list) && state.lists.get(target) != Some(list)
    }

    /// The target files with their states, in order.
    pub fn files(&self) -> Vec<TargetFileState> {
        self.state.lock().watch.states(&self.loaded.patterns)
    }

    /// Looks at the target files, if it is time to. Makes the configuration with what changed in them and with these
    /// databases.
    pub fn refresh(self: &Arc<Self>, lists: &DatabaseLists, environment: &Environment) -> Refreshed {
        let mut state = self.state.lock();
        let has_changed = state.watch.is_due() && state.watch.look(&self.loaded.patterns);
        let is_known = state.lists == *lists || state.refused.as_ref() == Some(lists);
        if !has_changed && is_known {
            return Refreshed { config: None, refused: Vec::new() };
        }
        if has_changed {
            self.accept(&mut state.watch, environment);
        }
        let files = state.watch.good();
        let made = self.with(&files, Discovered::Lists(lists), environment);
        match made {
            Ok(config) => {
                (state.lists, state.refused) = (lists.clone(), None);
                Refreshed { config: Some(config), refused: Vec::new() }
            }
            Err(refused) => {
                state.refused = Some(lists.clone());
                let config = self.with(&files, Discovered::Lists(&state.lists), environment).ok();
                Refreshed { config: config.filter(|_| has_changed), refused }
            }
        }
    }

    /// The configuration with the target files as they are now, and with the targets of another one: its last good
    /// target files, as far as they go together with it, and these databases.
    ///
    /// # Errors
    /// The faults that it has with these targets, but for those of target files.
    pub fn inherit(
        self: &Arc<Self>,
        other: Option<&TargetSources>,
        lists: &DatabaseLists,
        environment: &Environment,
    ) -> Result<Config, Vec<Error>> {
        let mut state = self.state.lock();
        if let Some(other) = other {
            state.watch.inherit(&other.state.lock().watch);
        }
        self.accept(&mut state.watch, environment);
        state.lists.clone_from(lists);
        let with = |watch: &TargetFileWatch| self.with(&watch.good(), Discovered::Lists(lists), environment);
        with(&state.watch).or_else(|faults| match state.watch.forget_old(&faults) {
            true => with(&state.watch),
            false => Err(faults),
        })
    }

    /// Takes as many of the new contents of target files as go together; the others are refused.
    fn accept(self: &Arc<Self>, watch: &mut TargetFileWatch, environment: &Environment) {
        let with = |files: &[Arc<Document>]| self.with(files, Discovered::Sample, environment);
        let mut good: Vec<usize> = Vec::new();
        // Halves, and halves of these, until each file that does not go with the others is alone.
        let mut parts = vec![watch.changed()];
        while let Some(mut part) = parts.pop().filter(|part| !part.is_empty()) {
            let places = [good.as_slice(), &part].concat();
            match with(&watch.with_new(&places)) {
                Ok(_) => good = places,
                Err(_) if part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                Err(faults) => {
                    if let (Some(place), Some(fault)) = (part.first(), faults.into_iter().next()) {
                        watch.refuse(*place, fault);
                    }
                }
            }
        }
        watch.accept(&good);
    }

    fn with(
        self: &Arc<Self>,
        files: &[Arc<Document>],
        discovered: Discovered<'_>,
        environment: &Environment,
    ) -> Result<Config, Vec<Error>> {
        let reader = Reader::new(environment);
        let config = self.loaded.read(&AddedTargets { files, discovered }, &reader);
        let config = super::finished(config, reader).map_err(|invalid| invalid.faults)?;
        Ok(Config { sources: Some(Arc::clone(self)), ..config })
    }
}
