//! The queries of one file: the main file's own, or an included collector's.

use std::sync::Arc;

use crate::driver::{Drivers, Sql};
use crate::metric::lint_off::{LintSubject, SilencedLints};
use crate::yaml::keys::{Keys, Reader};

use super::aliases::{self, AliasEntry};
use super::conditions;
use super::include::IncludedFile;
use super::query::{Inherited, QueryEntry, WrittenQuery};
use super::query_tests::{self, QueryTest};
use super::selection::MAIN;
use super::selection::TargetSelector;
use super::settings::Written;

/// Keys of the main file that an included file must not have.
const MAIN_ONLY: [&str; 5] = ["exporter", "include", "defaults", "overrides", "target_files"];

/// What `defaults.query` says, as the main file's queries inherit it.
pub(super) fn defaults(defaults: Option<&mut Keys<'_>>, drivers: &Drivers) -> Inherited {
    let mut inherited = Inherited {
        collector: MAIN.into(),
        selector: None,
        written: WrittenQuery::default(),
        when: None,
        default_when: None,
        lint_off: SilencedLints::default(),
        statement: Sql::new,
    };
    if let Some(mut keys) = defaults.and_then(|defaults| defaults.inner("query")) {
        inherited.selector = TargetSelector::read(&mut keys, drivers);
        inherited.written = WrittenQuery::read(&mut keys);
        inherited.default_when = conditions::read(&mut keys, Sql::new, None);
        inherited.when = inherited.default_when.clone();
        inherited.lint_off = SilencedLints::read(&mut keys, LintSubject::Query);
        keys.finish();
    }
    inherited
}

/// What stands in one file, or in several.
#[derive(Default)]
pub(super) struct CollectorEntries {
    pub(super) queries: Vec<QueryEntry>,
    pub(super) query_tests: Vec<QueryTest>,
    /// Names that the files give to the exporter's own metrics.
    pub(super) aliases: Vec<AliasEntry>,
    /// False when the name of a query could not be read: it may be one that is missing elsewhere.
    pub(super) all_named: bool,
}

impl CollectorEntries {
    /// Adds what stands in another file.
    pub(super) fn add(&mut self, other: CollectorEntries) {
        self.queries.extend(other.queries);
        self.query_tests.extend(other.query_tests);
        self.aliases.extend(other.aliases);
        self.all_named &= other.all_named;
    }
}

/// Takes the keys `queries` and `tests`.
pub(super) fn queries(keys: &mut Keys<'_>, inherited: &Inherited, drivers: &Drivers) -> CollectorEntries {
    let items = keys.items("queries").unwrap_or_default();
    let queries: Vec<QueryEntry> =
        items.into_iter().map(|item| QueryEntry::read(item, inherited, drivers)).collect();
    let named = queries.iter().filter(|query| !query.name.is_empty()).count();
    let all_named = named == keys.count("queries");
    // The tests of a query with a fault are not to blame.
    let query_tests = query_tests::read(keys, &queries, all_named);
    CollectorEntries { queries, query_tests, aliases: Vec::new(), all_named }
}

/// Reads one included file: its queries and its tests.
pub(super) fn included(
    file: &IncludedFile,
    defaults: &Inherited,
    drivers: &Drivers,
    reader: &Reader<'_>,
) -> CollectorEntries {
    let IncludedFile { collector: name, statement, document } = file;
    let Some(mut keys) = Keys::root(document, reader) else { return CollectorEntries::default() };
    let collector = keys.text("collector").map_or_else(|| Arc::from(name.as_str()), Arc::from);
    let selector = if keys.is_mapping("databases") {
        keys.forbid(
            "databases",
            "targets belong in the main file; here, `databases` lists the names of those to use",
        );
        None
    } else {
        TargetSelector::read(&mut keys, drivers)
    };
    let written = WrittenQuery::read_of_file(&mut keys);
    let when = conditions::read(&mut keys, *statement, defaults.default_when.as_deref());
    let aliases = aliases::read(&mut keys, &collector);
    let inherited = Inherited {
        collector,
        selector: selector.or_else(|| defaults.selector.clone()),
        written: written.or(defaults.written.clone()),
        when: when.or_else(|| defaults.when.clone()),
        statement: *statement,
        ..defaults.clone()
    };
    let read = queries(&mut keys, &inherited, drivers);
    keys.require_one(&["queries"], "has no `queries`", None);
    for key in MAIN_ONLY {
        keys.forbid(key, "belongs in the main file");
    }
    keys.finish();
    CollectorEntries { aliases, ..read }
}
