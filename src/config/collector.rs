//! The queries of one file: the main file's own, or an included collector's.

use std::sync::Arc;

use crate::driver::{Drivers, Sql};
use crate::metric::lint_off::{LintSubject, SilencedLints};
use crate::yaml::document::Document;
use crate::yaml::keys::{Keys, Reader};

use super::collector_selection::MAIN;
use super::conditions;
use super::query::{Inherited, QueryEntry};
use super::query_keys::Settings;
use super::query_tests;
use super::query_tests::QueryTest;
use super::target_selector::TargetSelector;

/// Keys of the main file that an included file must not have.
const MAIN_ONLY: [&str; 5] = ["exporter", "include", "defaults", "overrides", "target_files"];

/// What `defaults.query` says, as the main file's queries inherit it.
pub(super) fn defaults(defaults: Option<&mut Keys<'_>>, drivers: &Drivers) -> Inherited {
    let mut behind = Inherited {
        collector: MAIN.into(),
        aim: None,
        settings: Settings::default(),
        when: None,
        lint_off: SilencedLints::default(),
        statement: Sql::new,
    };
    if let Some(mut keys) = defaults.and_then(|defaults| defaults.inner("query")) {
        behind.aim = TargetSelector::read(&mut keys, drivers);
        behind.settings = Settings::read(&mut keys);
        behind.when = conditions::read(&mut keys, Sql::new).map(Arc::new);
        behind.lint_off = SilencedLints::read(&mut keys, LintSubject::Query);
        keys.finish();
    }
    behind
}

/// What stands in one file, or in several.
#[derive(Default)]
pub(super) struct Read {
    pub(super) queries: Vec<QueryEntry>,
    pub(super) query_tests: Vec<QueryTest>,
    /// False when the name of a query could not be read: it may be one that is missing elsewhere.
    pub(super) all_named: bool,
}

impl Read {
    /// Adds what stands in another file.
    pub(super) fn add(&mut self, other: Read) {
        self.queries.extend(other.queries);
        self.query_tests.extend(other.query_tests);
        self.all_named &= other.all_named;
    }
}

/// Takes the keys `queries` and `tests`.
pub(super) fn queries(keys: &mut Keys<'_>, behind: &Inherited, drivers: &Drivers) -> Read {
    let items = keys.items("queries").unwrap_or_default();
    let queries: Vec<QueryEntry> =
        items.into_iter().map(|item| QueryEntry::read(item, behind, drivers)).collect();
    let named = queries.iter().filter(|query| !query.name.is_empty()).count();
    let all_named = named == keys.count("queries");
    // The tests of a query with a fault are not to blame.
    let query_tests = query_tests::read(keys, &queries, all_named);
    Read { queries, query_tests, all_named }
}

/// Reads one included file: its queries and its tests; `name` is its collector's where it names none, `statement` makes
/// its statements.
pub(super) fn included(
    document: &Document,
    name: &str,
    statement: fn(&str) -> Sql,
    defaults: &Inherited,
    drivers: &Drivers,
    reader: &Reader<'_>,
) -> Read {
    let Some(mut keys) = Keys::root(document, reader) else { return Read::default() };
    let collector = keys.text("collector").map_or_else(|| Arc::from(name), Arc::from);
    let aim = if keys.is_mapping("databases") {
        keys.forbid("databases", "targets stand in the main file; here it lists which of them are meant");
        None
    } else {
        TargetSelector::read(&mut keys, drivers)
    };
    let settings = Settings::read_times(&mut keys).or(defaults.settings);
    let when = conditions::read(&mut keys, statement).map(Arc::new).or_else(|| defaults.when.clone());
    let behind = Inherited {
        collector,
        aim: aim.or_else(|| defaults.aim.clone()),
        settings,
        when,
        lint_off: defaults.lint_off.clone(),
        statement,
    };
    let read = queries(&mut keys, &behind, drivers);
    keys.one_of(&["queries"]);
    if !keys.has("queries") {
        keys.lacks("", &["queries"], "has no `queries`", None);
    }
    for key in MAIN_ONLY {
        keys.forbid(key, "belongs in the main file");
    }
    keys.finish();
    read
}
