//! The names that `driver:` and a URL's scheme may have: built in, known elsewhere, or wrong.

use crate::driver::{Driver, Drivers, KNOWN_ELSEWHERE};
use crate::yaml::keys::{Keys, nearest};

/// What a driver's name means.
pub(super) enum DriverName {
    /// A driver of this binary.
    BuiltIn(&'static dyn Driver),
    /// A driver that other exporters have: its targets load as long as nothing needs them.
    Elsewhere(&'static str),
    /// A slip for a driver of this binary. That is a fault, and the rest of the entry is read as if it were right.
    Slip(&'static dyn Driver),
}

impl DriverName {
    /// Says which names `key` may have.
    pub(super) fn names(key: &'static str, keys: &Keys<'_>, drivers: &Drivers) {
        keys.words(key, drivers.names().chain(KNOWN_ELSEWHERE.iter().copied()));
    }

    /// Finds the driver called `name`; a wrong name is recorded at `key` with the nearest one.
    pub(super) fn find(name: &str, key: &str, keys: &Keys<'_>, drivers: &Drivers) -> Option<DriverName> {
        let lower = name.to_ascii_lowercase();
        if let Some(driver) = drivers.find(&lower) {
            return Some(DriverName::BuiltIn(driver));
        }
        if let Some(known) = KNOWN_ELSEWHERE.iter().copied().find(|known| *known == lower) {
            return Some(DriverName::Elsewhere(known));
        }
        let names: Vec<&str> = drivers.names().collect();
        let near = nearest(&lower, names.iter().chain(KNOWN_ELSEWHERE).copied());
        let hint = match near {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("drivers: {}", names.join(", ")),
        };
        keys.fault_with_hint(key, format!("there is no driver {name:?}"), hint);
        drivers.find(near?).map(DriverName::Slip)
    }

    /// The driver's one name: the label value `driver`.
    pub(super) fn label(&self) -> &'static str {
        match self {
            DriverName::BuiltIn(driver) | DriverName::Slip(driver) => {
                driver.names().first().copied().unwrap_or_default()
            }
            DriverName::Elsewhere(name) => name,
        }
    }
}
