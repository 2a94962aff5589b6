//! Which targets a query runs on: `database` | `databases` | `driver`.

use std::collections::BTreeSet;

use crate::driver::Drivers;
use crate::error::{Error, SourcePosition};
use crate::yaml::keys::{Keys, Reader};

use super::driver_name::DriverName;
use super::glob;
use super::glob::Pattern;

/// The names and drivers of all targets.
pub(super) struct Known<'t> {
    pub(super) names: BTreeSet<&'t str>,
    pub(super) drivers: BTreeSet<&'static str>,
}

/// The keys that say it; one of them at a time.
const KEYS: [&str; 3] = ["database", "databases", "driver"];

/// What an entry, its file or `defaults` says.
#[derive(Debug, Clone)]
pub(super) struct TargetSelector {
    at: At,
    /// The key that says it.
    pub(super) place: SourcePosition,
}

#[derive(Debug, Clone)]
enum At {
    /// Targets by name.
    Names(Vec<Pattern>),
    /// Every target of a driver, by its one name.
    Driver(&'static str),
    /// Was written and is wrong: recorded, and nothing follows from it.
    InvalidConfig,
}

impl TargetSelector {
    /// Takes the three keys. `None` when none is there.
    pub(super) fn read(keys: &mut Keys<'_>, drivers: &Drivers) -> Option<TargetSelector> {
        let written: Vec<&str> = KEYS.iter().copied().filter(|key| keys.has(key)).collect();
        // All are asked for, so that a misspelt one gets the right hint.
        let names = ["database", "databases"].map(|key| glob::patterns(keys, key));
        DriverName::names("driver", keys, drivers);
        let driver = keys.text("driver").and_then(|name| DriverName::find(&name, "driver", keys, drivers));
        let place = keys.place(written.first()?);
        if let [first, second, ..] = written.as_slice() {
            keys.fault_with_hint(second, format!("stands beside `{first}`"), "one of them says where to run");
        }
        let at = match (names.into_iter().flatten().next(), driver) {
            (Some(names), _) => At::Names(names),
            (None, Some(driver)) => At::Driver(driver.label()),
            (None, None) => At::InvalidConfig,
        };
        Some(TargetSelector { at, place })
    }

    /// Of an entry of which an unknown key was likely meant to say where it runs; `meant` are the keys that were meant.
    pub(super) fn misspelt(meant: &[&str], place: &SourcePosition) -> Option<TargetSelector> {
        let is_meant = KEYS.iter().any(|key| meant.contains(key));
        is_meant.then(|| TargetSelector { at: At::InvalidConfig, place: place.clone() })
    }

    /// True when the target of this name and driver is meant.
    pub(super) fn means(&self, name: &str, driver: &str) -> bool {
        match &self.at {
            At::Names(names) => names.iter().any(|pattern| pattern.matches(name)),
            At::Driver(meant) => driver == *meant,
            At::InvalidConfig => false,
        }
    }

    /// Records plain names that no target bears, and warns of patterns and drivers without a target.
    pub(super) fn check(&self, targets: &Known<'_>, reader: &Reader<'_>) {
        let names = || targets.names.iter().copied();
        match &self.at {
            At::Names(patterns) => {
                let bears = |pattern: &Pattern| match pattern.is_plain() {
                    true => targets.names.contains(pattern.text()),
                    false => names().any(|name| pattern.matches(name)),
                };
                let idle = |pattern: &&Pattern| !bears(pattern);
                for pattern in patterns.iter().filter(idle) {
                    let error = |message: String| Error::config(message).at(self.place.clone());
                    if pattern.is_plain() {
                        let hint = glob::hint(pattern.text(), names());
                        reader.fault(
                            error(format!("no target is called {:?}", pattern.text())).with_hint(hint),
                        );
                    } else {
                        reader.warn(error(format!("no target fits {:?}", pattern.text())));
                    }
                }
            }
            At::Driver(meant) if !targets.drivers.contains(meant) => {
                let message = format!("no target has the driver {meant}: nothing runs here");
                reader.warn(Error::config(message).at(self.place.clone()));
            }
            At::Driver(_) | At::InvalidConfig => {}
        }
    }
}
