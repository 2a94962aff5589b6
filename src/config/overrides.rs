//! `overrides`: changes to queries by name, at top level and on a target, without copying them.

use crate::error::SourcePosition;
use crate::yaml::keys::Keys;

use super::glob::Pattern;
use super::query_keys::Settings;

/// One mapping of patterns to settings, in file order; the later entry wins.
#[derive(Default)]
pub(super) struct Overrides(Vec<Override>);

/// One entry.
pub(super) struct Override {
    /// Which queries.
    pub(super) names: Pattern,
    /// Where it stands.
    pub(super) place: SourcePosition,
    settings: Settings,
}

impl Overrides {
    /// Takes the key `overrides`.
    pub(super) fn read(keys: &mut Keys<'_>) -> Overrides {
        let entries = keys.entries("overrides").unwrap_or_default();
        Overrides(entries.into_iter().filter_map(|(name, entry)| Override::read(&name, entry)).collect())
    }

    /// `settings` as changed for the query `name`.
    pub(super) fn apply(&self, name: &str, settings: Settings) -> Settings {
        let meant = self.0.iter().filter(|entry| entry.names.matches(name));
        meant.fold(settings, |settings, entry| entry.settings.or(settings))
    }

    /// The entries that mean none of the queries named.
    pub(super) fn idle<'a>(&'a self, names: &[&str]) -> Vec<&'a Override> {
        let idle = |entry: &&Override| !names.iter().any(|name| entry.names.matches(name));
        self.0.iter().filter(idle).collect()
    }
}

impl Override {
    fn read(name: &str, mut keys: Keys<'_>) -> Option<Override> {
        let names = Pattern::new(name).map_err(|message| keys.fault("", message)).ok();
        let (settings, place) = (Settings::read(&mut keys), keys.place(""));
        keys.finish();
        Some(Override { names: names?, place, settings })
    }
}
