//! `overrides`: changes to queries by name, at top level and on a target, without copying them.

use crate::error::Place;
use crate::yaml::keys::Keys;

use super::glob::Pattern;
use super::query::WrittenQuery;
use super::settings::Written;

/// One mapping of patterns to settings, in file order; the later entry wins.
#[derive(Default)]
pub(super) struct Overrides(Vec<Override>);

/// One entry.
pub(super) struct Override {
    /// Which queries.
    pub(super) names: Pattern,
    /// Where it stands.
    pub(super) place: Place,
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
        let names = Pattern::new(name).map_err(|message| keys.fault("", message)).ok();
        let (written, place) = (WrittenQuery::read(&mut keys), keys.place(""));
        keys.finish();
        Some(Override { names: names?, place, written })
    }
}
