//! Which queries run where: `database`, `databases` or `driver` of a query, `collectors` and `overrides` of a target.

use std::collections::BTreeSet;

use crate::driver::Drivers;
use crate::error::{Error, SourcePosition};
use crate::yaml::keys::{Keys, Reader};

use super::driver_name::DriverName;
use super::glob::{self, Pattern};
use super::query::WrittenQuery;
use super::settings::Written;

/// The names and drivers of all targets.
pub(super) struct KnownTargets<'t> {
    /// Of those that are configured themselves.
    pub(super) names: BTreeSet<&'t str>,
    /// Empty for a target whose driver is not known, because of a fault that is recorded.
    pub(super) drivers: BTreeSet<&'static str>,
    /// Those that discover others.
    pub(super) parents: Vec<&'t str>,
    /// There are files that may name others later.
    pub(super) has_files: bool,
    /// None of these files is there yet.
    pub(super) awaits_files: bool,
}

impl KnownTargets<'_> {
    /// True where a target has this driver, or may have it.
    fn may_have_driver(&self, driver: &str) -> bool {
        self.has_files || self.drivers.contains(driver) || self.drivers.contains("")
    }

    /// True for a name or a pattern of targets that may be discovered: `srv/*`.
    fn may_be_discovered(&self, text: &str) -> bool {
        let is_below = |parent: &&str| text.strip_prefix(*parent).is_some_and(|rest| rest.starts_with('/'));
        // `*/shop`: the part before the `/` may be a pattern, too.
        let pattern = text.split_once('/').and_then(|(before, _)| Pattern::new(before).ok());
        let is_matched = |parent: &&str| pattern.as_ref().is_some_and(|pattern| pattern.matches(parent));
        self.parents.iter().any(|parent| is_below(parent) || is_matched(parent))
    }
}

/// The keys that say it; one of them at a time.
const KEYS: [&str; 3] = ["database", "databases", "driver"];

/// What an entry, its file or `defaults` says.
#[derive(Debug, Clone)]
pub(super) struct TargetSelector {
    targets: SelectedTargets,
    /// The key that says it.
    pub(super) place: SourcePosition,
}

#[derive(Debug, Clone)]
enum SelectedTargets {
    /// Targets by name.
    Names(Vec<Pattern>),
    /// Every target of a driver, by its one name.
    Driver(&'static str),
    /// Was written and is wrong: recorded, and nothing follows from it.
    Invalid,
}

impl TargetSelector {
    /// Takes the three keys. `None` when none is there.
    pub(super) fn read(keys: &mut Keys<'_>, drivers: &Drivers) -> Option<TargetSelector> {
        let written: Vec<&str> = KEYS.iter().copied().filter(|key| keys.has(key)).collect();
        // All are asked for, so that a misspelt one gets the right hint.
        let names = ["database", "databases"].map(|key| keys.parsed(key, Pattern::new));
        DriverName::names("driver", keys, drivers);
        let driver = keys.text("driver").and_then(|name| DriverName::find(&name, "driver", keys, drivers));
        let place = keys.place(written.first()?);
        if let [first, second, ..] = written.as_slice() {
            keys.fault_with_hint(second, format!("cannot be combined with `{first}`"), "write one of them");
        }
        let targets = match (names.into_iter().flatten().next(), driver) {
            (Some(names), _) => SelectedTargets::Names(names),
            (None, Some(driver)) => SelectedTargets::Driver(driver.label()),
            (None, None) => SelectedTargets::Invalid,
        };
        Some(TargetSelector { targets, place })
    }

    /// Of an entry of which an unknown key was likely meant to say where it runs; `meant` are the keys that were meant.
    pub(super) fn misspelt(meant: &[&str], place: &SourcePosition) -> Option<TargetSelector> {
        let is_meant = KEYS.iter().any(|key| meant.contains(key));
        is_meant.then(|| TargetSelector { targets: SelectedTargets::Invalid, place: place.clone() })
    }

    /// True when the target of this name and driver is meant.
    pub(super) fn means(&self, name: &str, driver: &str) -> bool {
        match &self.targets {
            SelectedTargets::Names(names) => names.iter().any(|pattern| pattern.matches(name)),
            SelectedTargets::Driver(meant) => driver == *meant,
            SelectedTargets::Invalid => false,
        }
    }

    /// Records plain names that no target has, and warns of patterns and drivers without a target.
    pub(super) fn check(&self, known: &KnownTargets<'_>, reader: &Reader<'_>) {
        let names = || known.names.iter().copied();
        match &self.targets {
            // What matches nothing yet may match what the files bring.
            SelectedTargets::Names(_) if known.awaits_files => {}
            SelectedTargets::Names(patterns) => {
                let is_known = |pattern: &Pattern| match pattern.is_plain() {
                    true => known.names.contains(pattern.text()),
                    false => names().any(|name| pattern.matches(name)),
                };
                let may_come = |pattern: &&Pattern| known.may_be_discovered(pattern.text());
                for pattern in patterns.iter().filter(|pattern| !is_known(pattern) && !may_come(pattern)) {
                    let (text, hint) = (pattern.text(), || glob::hint(pattern.text(), names()));
                    let message = format!("no target is called {text:?}");
                    match (pattern.is_plain(), known.has_files) {
                        (true, false) => reader.fault_at(&self.place, message, hint()),
                        (true, true) => {
                            let hint = format!("{}; one of `target_files` may bring it", hint());
                            reader.warn_at(&self.place, format!("{message} now"), hint);
                        }
                        (false, _) => {
                            let warning = Error::config(format!("no target matches {text:?}"));
                            reader.warn(warning.at(self.place.clone()));
                        }
                    }
                }
            }
            SelectedTargets::Driver(meant) if !known.may_have_driver(meant) => {
                let message = format!("no target has the driver {meant}: nothing runs here");
                reader.warn(Error::config(message).at(self.place.clone()));
            }
            SelectedTargets::Driver(_) | SelectedTargets::Invalid => {}
        }
    }
}

/// The collector of the main file's own queries.
pub(super) const MAIN: &str = "default";

/// The patterns of one target. Without any that selects, every collector is meant.
#[derive(Debug, Clone, Default)]
pub(super) struct CollectorSelection {
    wanted: Vec<Pattern>,
    unwanted: Vec<Pattern>,
    /// The key, for messages about its patterns.
    pub(super) place: SourcePosition,
}

impl CollectorSelection {
    /// Takes the key `collectors`.
    pub(super) fn read(keys: &mut Keys<'_>) -> CollectorSelection {
        let mut selection =
            CollectorSelection { place: keys.place("collectors"), ..CollectorSelection::default() };
        for text in keys.texts("collectors").unwrap_or_default() {
            let (list, text) = match text.strip_prefix('!') {
                Some(rest) => (&mut selection.unwanted, rest),
                None => (&mut selection.wanted, text.as_str()),
            };
            list.extend(keys.valid("collectors", Pattern::new(text)));
        }
        selection
    }

    /// True where nothing is written.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.unwanted.is_empty()
    }

    /// True when the collector runs on this target. The main file's does unless `!default` says no.
    pub(super) fn takes(&self, collector: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(collector));
        let wanted = self.wanted.is_empty() || collector == MAIN || any(&self.wanted);
        wanted && !any(&self.unwanted)
    }

    /// The patterns that mean none of `collectors`.
    pub(super) fn idle<'s>(&'s self, collectors: &[&str]) -> Vec<&'s Pattern> {
        let idle = |pattern: &&Pattern| {
            pattern.text() != MAIN && !collectors.iter().any(|collector| pattern.matches(collector))
        };
        self.wanted.iter().chain(&self.unwanted).filter(idle).collect()
    }
}

/// One mapping of patterns to settings, in file order; the later entry wins.
#[derive(Clone, Default)]
pub(super) struct Overrides(Vec<Override>);

/// One entry.
#[derive(Clone)]
pub(super) struct Override {
    /// Which queries.
    pub(super) names: Pattern,
    /// Where it stands.
    pub(super) place: SourcePosition,
    written: WrittenQuery,
}

impl Overrides {
    /// Takes the key `overrides`.
    pub(super) fn read(keys: &mut Keys<'_>) -> Overrides {
        let entries = keys.entries("overrides").unwrap_or_default();
        Overrides(entries.into_iter().filter_map(|(name, entry)| Override::read(&name, entry)).collect())
    }

    /// The keys of the query `name`, changed.
    pub(super) fn apply(&self, name: &str, written: WrittenQuery) -> WrittenQuery {
        let meant = self.0.iter().filter(|entry| entry.names.matches(name));
        meant.fold(written, |written, entry| entry.written.clone().or(written))
    }

    /// The entries that mean none of the queries named.
    pub(super) fn idle<'a>(&'a self, names: &[&str]) -> Vec<&'a Override> {
        let idle = |entry: &&Override| !names.iter().any(|name| entry.names.matches(name));
        self.0.iter().filter(idle).collect()
    }
}

impl Override {
    fn read(name: &str, mut keys: Keys<'_>) -> Option<Override> {
        let names = keys.valid("", Pattern::new(name));
        let (written, place) = (WrittenQuery::read(&mut keys), keys.place(""));
        keys.finish();
        Some(Override { names: names?, place, written })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(wanted: &[&str], unwanted: &[&str]) -> CollectorSelection {
        let read = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text).unwrap()).collect();
        CollectorSelection {
            wanted: read(wanted),
            unwanted: read(unwanted),
            place: SourcePosition::default(),
        }
    }

    #[test]
    fn the_main_files_queries_stay_in_unless_they_are_excluded() {
        assert!(selection(&["postgres/*"], &[]).takes(MAIN));
        assert!(!selection(&["postgres/*"], &["default"]).takes(MAIN));
        assert!(!selection(&[], &["*"]).takes(MAIN));
    }

    #[test]
    fn exclusions_alone_leave_everything_else() {
        let selection = selection(&[], &["postgres/locks"]);
        assert!(selection.takes("postgres/databases"));
        assert!(!selection.takes("postgres/locks"));
    }
}
