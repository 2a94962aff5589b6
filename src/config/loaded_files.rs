//! The files of a configuration as they were parsed, and how a configuration is made of them: again and again, as targets
//! of `target_files` and discovered databases come and go.
//!
//! Owns the order in which the sections are read.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::driver::Drivers;
use crate::error::SourcePosition;
use crate::yaml::document::Document;
use crate::yaml::keys::{Keys, Reader};

use super::Config;
use super::aliases;
use super::assignment::{self, ConfigParts};
use super::collector;
use super::conflicts;
use super::discover::{DatabaseLists, FoundDatabase};
use super::exporter::Exporter;
use super::include::{self, IncludedFiles};
use super::selection::Overrides;
use super::server_sharing;
use super::target::{TargetConfig, TargetEntry};
use super::target_files::TargetFilePatterns;

/// The most targets of all target files together.
const MAX_TARGETS: usize = 10_000;

/// Which targets below one with `discover` are meant.
#[derive(Clone, Copy)]
pub(super) enum Discovered<'a> {
    /// Two that stand for those found later: what is wrong with them is a fault of the configuration.
    Sample,
    /// Those that were found.
    Lists(&'a DatabaseLists),
}

impl Discovered<'_> {
    fn below(self, parent: &TargetEntry) -> Vec<TargetEntry> {
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

    /// The configuration with the targets of these target files and those that are discovered, without what only the end of
    /// a load knows. `None` when the main file is not a mapping; the faults of what could be read are in `reader`.
    pub(super) fn read(
        &self,
        target_files: &[Arc<Document>],
        discovered: Discovered<'_>,
        reader: &Reader<'_>,
    ) -> Option<Config> {
        let drivers = &self.drivers;
        let mut root = Keys::root(&self.main, reader)?;
        let section = root.inner("exporter");
        // Read already.
        root.texts("include");
        root.texts("target_files");
        let mut defaults = root.inner("defaults");
        let (targets, all_targets) = self.targets(&mut root, defaults.as_mut(), target_files, reader);
        let mut targets = with_discovered(targets, discovered);
        server_sharing::set_defaults(&mut targets);
        let inherited = collector::defaults(defaults.as_mut(), drivers);
        if let Some(defaults) = defaults {
            defaults.finish();
        }
        let mut read = collector::queries(&mut root, &inherited, drivers);
        for file in &self.included.files {
            read.add(collector::included(file, &inherited, drivers, reader));
        }
        let collector::CollectorEntries { queries, query_tests, aliases, all_named } = read;
        let overrides = Overrides::read(&mut root);
        root.finish();

        let all_queries = self.included.whole && all_named;
        let has_files = !self.patterns.is_empty();
        let awaits_files = has_files && target_files.is_empty();
        let parts =
            ConfigParts { targets, queries, overrides, has_files, awaits_files, all_targets, all_queries };
        let (mut targets, queries) = assignment::assign(parts, reader);
        aliases::assign(aliases, &mut targets, reader);
        let pairs = targets.iter().map(|target| target.queries.len()).sum();
        let (enabled, most) = counts(&targets);
        let exporter = Exporter::read(section, enabled, most, pairs);
        conflicts::check(&targets, &exporter.target_label, reader);
        let targets = targets.into_iter().map(Arc::new).collect();
        let (warnings, files, secret_lines, sources) = Default::default();
        Some(Config { targets, exporter, query_tests, warnings, queries, files, secret_lines, sources })
    }

    /// Takes the key `databases` of the main file and of the target files, each entry over `defaults.database`. Also whether
    /// all of the main file's could be read.
    fn targets<'d>(
        &'d self,
        root: &mut Keys<'d>,
        defaults: Option<&mut Keys<'d>>,
        target_files: &'d [Arc<Document>],
        reader: &'d Reader<'d>,
    ) -> (Vec<TargetEntry>, bool) {
        let inherited = defaults.and_then(|defaults| defaults.inner("database"));
        let entries = root.entries("databases");
        let is_faulty = root.has("databases") && entries.is_none();
        if !is_faulty && root.count("databases") == 0 && self.patterns.is_empty() {
            let hint = "add `databases: {NAME: {url: …}}`".to_owned();
            root.lacks("databases", &["databases"], "has no target", Some(hint));
        }
        let read = |(name, keys): (String, Keys<'d>)| {
            TargetEntry::read(name, keys.over(inherited.as_ref()), &self.drivers)
        };
        let mut targets: Vec<_> = entries.unwrap_or_default().into_iter().map(read).collect();
        let all_targets = targets.len() == root.count("databases");
        let named = |target: &TargetEntry| (target.name.clone(), target.source.place.clone());
        let mut places: HashMap<String, SourcePosition> = targets.iter().map(named).collect();
        for file in target_files {
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
            drop(TargetEntry::read(String::new(), inherited.rehearsal(), &self.drivers));
            for driver in self.drivers.names().filter_map(|name| self.drivers.find(name)) {
                driver.endpoint(&mut inherited.rehearsal());
            }
            inherited.finish_defaults();
        }
        (targets, all_targets)
    }
}

/// How many targets are enabled, and how many these are when each finds as many databases as it may.
fn counts(targets: &[TargetConfig]) -> (usize, usize) {
    let enabled = || targets.iter().filter(|target| target.enabled);
    let most = |target: &TargetConfig| 1 + target.discover.as_ref().map_or(0, |discover| discover.max);
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
fn check_new(entry: &TargetEntry, known: &HashMap<String, SourcePosition>, reader: &Reader<'_>) {
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
fn with_discovered(targets: Vec<TargetEntry>, discovered: Discovered<'_>) -> Vec<TargetEntry> {
    let names: HashSet<String> = targets.iter().map(|target| target.name.clone()).collect();
    let family = |parent: TargetEntry| {
        let mut below = discovered.below(&parent);
        below.retain(|child| !names.contains(&child.name));
        std::iter::once(parent).chain(below)
    };
    targets.into_iter().flat_map(family).collect()
}
