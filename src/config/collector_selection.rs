//! `collectors` on a target: which groups of queries run there.

use crate::error::SourcePosition;
use crate::yaml::keys::Keys;

use super::glob::Pattern;

/// The collector of the main file's own queries.
pub(super) const MAIN: &str = "default";

/// The patterns of one target. Without any that selects, every collector is meant.
#[derive(Debug, Default)]
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
            match Pattern::new(text) {
                Ok(pattern) => list.push(pattern),
                Err(message) => keys.fault("collectors", message),
            }
        }
        selection
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
