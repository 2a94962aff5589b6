//! Queries × targets: who runs what, with `collectors` and `overrides` applied; and the names that mean nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::driver::{AllowedStatements, Endpoint};
use crate::error::{Error, SourcePosition};
use crate::yaml::keys::Reader;

use super::conditions::When;
use super::glob::{self, Pattern};
use super::query::{Query, QueryEntry, WrittenQuery};
use super::selection::{KnownTargets, Overrides, TargetSelector};
use super::target::{TargetConfig, TargetEntry};

/// Everything read, before it is put together.
pub(super) struct ConfigParts {
    /// In configuration order.
    pub(super) targets: Vec<TargetEntry>,
    /// In configuration order: the main file's, then those of each included file.
    pub(super) queries: Vec<QueryEntry>,
    /// Those at top level.
    pub(super) overrides: Overrides,
    /// True where `target_files` may bring other targets.
    pub(super) has_files: bool,
    /// True where none of these files is there yet.
    pub(super) awaits_files: bool,
    /// False when an entry of `databases` could not be read: it may be the target that is missing.
    pub(super) all_targets: bool,
    /// False when an included file or a query's name could not be read: a name that is missing may stand there.
    pub(super) all_queries: bool,
}

/// Gives each target its queries; also all queries, whether a target runs them or not, without what targets change.
/// Faults are recorded.
pub(super) fn assign(parts: ConfigParts, reader: &Reader<'_>) -> (Vec<TargetConfig>, Vec<Query>) {
    check_names(&parts.queries, reader);
    // Without targets every query would be at fault, and none of them is to blame.
    if (!parts.targets.is_empty() || parts.has_files) && parts.all_targets {
        check_selectors(&parts, reader);
    }
    check_patterns(&parts, reader);
    let entries = (0..).zip(&parts.queries);
    let common: Vec<CommonQuery<'_>> =
        entries.map(|(order, query)| CommonQuery::new(query, order, &parts.overrides)).collect();
    let queries: Vec<_> = parts.targets.iter().map(|target| queries_of(target, &common)).collect();
    check_statements(&parts, &queries, reader);
    check_parameters(&parts, &queries, reader);
    check_drivers(&parts, &queries, reader);
    warn_of_intervals(&parts, &queries, reader);
    let all = common.iter().map(|common| common.query.as_ref().clone()).collect();
    let targets = parts.targets.into_iter().zip(queries).map(|(target, queries)| target.resolve(queries));
    (targets.collect(), all)
}

/// A query as most of its targets run it: they share it.
struct CommonQuery<'p> {
    entry: &'p QueryEntry,
    written: WrittenQuery,
    query: Arc<Query>,
}

impl<'p> CommonQuery<'p> {
    fn new(entry: &'p QueryEntry, order: usize, overrides: &Overrides) -> Self {
        let written = overrides.apply(&entry.name, entry.written.clone());
        let query = Arc::new(entry.resolve(&written, order));
        CommonQuery { entry, written, query }
    }

    fn on(&self, target: &TargetEntry) -> Arc<Query> {
        let written = target.overrides.apply(&self.entry.name, self.written.clone());
        if written == self.written {
            return Arc::clone(&self.query);
        }
        Arc::new(self.entry.resolve(&written, self.query.order))
    }
}

fn check_names(queries: &[QueryEntry], reader: &Reader<'_>) {
    let mut first: HashMap<&str, &SourcePosition> = HashMap::new();
    for query in queries.iter().filter(|query| !query.name.is_empty()) {
        if let Some(other) = first.get(&*query.name) {
            let message =
                format!("another query is called {:?}, at {}:{}", query.name, other.file, other.line);
            reader.fault_at(
                &query.place,
                message,
                "the name of a query is unique in the whole configuration",
            );
        } else {
            first.insert(&query.name, &query.place);
        }
    }
}

fn check_selectors(parts: &ConfigParts, reader: &Reader<'_>) {
    let configured = || parts.targets.iter().filter(|target| target.discovered_by.is_none());
    let names = || configured().map(|target| target.name.as_str());
    let parents = configured().filter(|target| target.discover.is_some());
    let parents: Vec<&str> = parents.map(|target| target.name.as_str()).collect();
    // Which targets there are may change: then "the only one" says nothing.
    let may_change = parts.has_files || !parents.is_empty();
    let known = KnownTargets {
        names: names().collect(),
        drivers: parts.targets.iter().map(|target| target.driver).collect(),
        parents,
        has_files: parts.has_files,
        awaits_files: parts.awaits_files,
    };
    for query in &parts.queries {
        match &query.selector {
            Some(selector) => selector.check(&known, reader),
            None if may_change || names().count() > 1 => {
                let message = format!("{} does not say where it runs", query.named());
                let hint = match may_change {
                    true => "add `databases: [NAME or PATTERN]`: the targets may change".to_owned(),
                    false => format!("add `database: NAME`; {}", glob::hint("", names())),
                };
                reader.fault_at(&query.place, message, hint);
            }
            None => {}
        }
    }
}

/// Patterns in `collectors` and `overrides` that mean nothing: a fault for a plain name, else a warning.
fn check_patterns(parts: &ConfigParts, reader: &Reader<'_>) {
    let mut collectors: Vec<&str> = parts.queries.iter().map(|query| &*query.collector).collect();
    collectors.sort_unstable();
    collectors.dedup();
    let all: Vec<&str> =
        parts.queries.iter().map(|query| &*query.name).filter(|name| !name.is_empty()).collect();
    let note = |pattern: &Pattern, error: Error, known: &[&str]| {
        if !pattern.is_plain() {
            reader.warn(error);
        } else if parts.all_queries {
            reader.fault(error.with_hint(glob::hint(pattern.text(), known.iter().copied())));
        }
    };
    for target in &parts.targets {
        for pattern in target.collectors.idle(&collectors) {
            let error = Error::config(format!("no collector is called {:?}", pattern.text()));
            note(pattern, error.at(target.collectors.place.clone()), &collectors);
        }
    }
    let overrides = parts.targets.iter().map(|target| &target.overrides).chain([&parts.overrides]);
    for entry in overrides.flat_map(|overrides| overrides.idle(&all)) {
        let error = Error::config(format!("no query is called {:?}", entry.names.text()));
        note(&entry.names, error.at(entry.place.clone()), &all);
    }
}

/// The names by which patterns mean a target. `srv/*` means all databases of `srv`: in the name of one, a `/` separates
/// nothing.
fn names_in_patterns(target: &TargetEntry) -> Vec<String> {
    let mut names = vec![target.name.clone()];
    if let Some(by) = &target.discovered_by
        && let Some(database) = target.name.strip_prefix(&format!("{}/", by.target))
        && database.contains('/')
    {
        // No name has a control character.
        names.push(format!("{}/{}", by.target, database.replace('/', "\u{1}")));
    }
    names
}

fn queries_of(target: &TargetEntry, common: &[CommonQuery<'_>]) -> Vec<Arc<Query>> {
    let names = names_in_patterns(target);
    let runs = |query: &QueryEntry| {
        let is_meant =
            |selector: &TargetSelector| names.iter().any(|name| selector.means(name, target.driver));
        let aimed = query.selector.as_ref().is_none_or(is_meant);
        aimed && target.collectors.takes(&query.collector)
    };
    common.iter().filter(|common| runs(common.entry)).map(|common| common.on(target)).collect()
}

/// Statements that never run, whatever their server says: several in one, a first word that a read-only target refuses
/// or that nobody knows. What is disabled, or made for another kind of server, may say what it likes.
fn check_statements(parts: &ConfigParts, queries: &[Vec<Arc<Query>>], reader: &Reader<'_>) {
    let mut runs: BTreeMap<usize, BTreeMap<AllowedStatements, Vec<usize>>> = BTreeMap::new();
    for (place, (target, running)) in running(parts, queries).enumerate() {
        let Some(allowed) = target.endpoint.as_deref().and_then(Endpoint::allows) else { continue };
        for query in running {
            runs.entry(query.order).or_default().entry(allowed).or_default().push(place);
        }
    }
    for (order, runs) in runs {
        let Some(query) = parts.queries.get(order) else { continue };
        for (key, sql, place) in query.statements() {
            // What several kinds of targets refuse in the same words is one fault.
            let mut refusals: Vec<(Error, Vec<usize>)> = Vec::new();
            for (allowed, targets) in &runs {
                let Err(refused) = allowed.check(sql.text()) else { continue };
                match refusals.iter_mut().find(|(known, _)| *known == refused) {
                    Some((_, known)) => known.extend(targets),
                    None => refusals.push((refused, targets.clone())),
                }
            }
            for (refused, mut targets) in refusals {
                targets.sort_unstable();
                let names = targets.iter().filter_map(|place| parts.targets.get(*place));
                let names: Vec<&str> = names.map(|target| target.name.as_str()).collect();
                let error = Error::config(refused.message()).at(place.clone()).on_target(&several(&names));
                let error = error.with_hint_if_any(refused.hint());
                let error = if key == "sql" { error } else { error.about_key(key) };
                reader.fault(if query.name.is_empty() { error } else { error.in_query(&query.name) });
            }
        }
    }
}

/// Queries with `foreach` on targets whose statements have no parameters.
fn check_parameters(parts: &ConfigParts, queries: &[Vec<Arc<Query>>], reader: &Reader<'_>) {
    for (target, running) in running(parts, queries) {
        let refusal = target.endpoint.as_deref().and_then(Endpoint::refuses_parameters);
        let Some(refusal) = refusal else { continue };
        for query in running.filter(|query| query.foreach.is_some()) {
            let place = query.place.as_ref().clone();
            let error = Error::config(format!("`foreach` cannot be used: {refusal}")).at(place);
            reader.fault(error.on_target(&target.name).in_query(&query.name));
        }
    }
}

/// Each target with its queries that may run there: none of a target that is disabled.
fn running<'p>(
    parts: &'p ConfigParts,
    queries: &'p [Vec<Arc<Query>>],
) -> impl Iterator<Item = (&'p TargetEntry, impl Iterator<Item = &'p Arc<Query>>)> {
    parts.targets.iter().zip(queries).map(|(target, queries)| {
        let may_run = move |query: &&Arc<Query>| {
            target.enabled && query.enabled && may_apply(query.when.as_deref(), target.driver)
        };
        (target, queries.iter().filter(may_run))
    })
}

/// False where `when` names flavours, and no server of this driver is of one.
fn may_apply(when: Option<&When>, driver: &str) -> bool {
    let is_of = |flavor: &str| match flavor {
        "postgresql" => driver == "postgres",
        "mysql" | "mariadb" => driver == "mysql",
        other => driver == other,
    };
    when.is_none_or(|when| when.flavor.is_empty() || when.flavor.iter().any(|flavor| is_of(flavor)))
}

/// `a`, `a and b`, `a, b and c`, `a, b and 7 more`
pub fn several(names: &[&str]) -> String {
    match names {
        [first, second, _, _, ..] => format!("{first}, {second} and {} more", names.len() - 2),
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        few => few.concat(),
    }
}

/// An `interval` on a target with `snapshot`: there every scrape is of one moment, nothing of an older one.
fn warn_of_intervals(parts: &ConfigParts, queries: &[Vec<Arc<Query>>], reader: &Reader<'_>) {
    for (target, queries) in parts.targets.iter().zip(queries).filter(|(target, _)| target.snapshot) {
        for query in queries.iter().filter(|query| !query.interval.is_zero()) {
            let place =
                parts.queries.get(query.order).map(|query| query.place.as_ref().clone()).unwrap_or_default();
            let message =
                format!("query {}: `interval` does not apply on target {}", query.name, target.name);
            let hint = "its `snapshot: true` makes all queries of a scrape run at one moment";
            reader.warn_at(&place, message, hint);
        }
    }
}

/// Targets of a driver that is not built in: a fault for each enabled query that needs one, else one warning.
fn check_drivers(parts: &ConfigParts, queries: &[Vec<Arc<Query>>], reader: &Reader<'_>) {
    for (target, queries) in parts.targets.iter().zip(queries).filter(|(target, _)| target.is_not_built_in())
    {
        let mut needed = queries.iter().filter(|query| query.enabled && target.enabled).peekable();
        let message = format!("the driver {} is not built in", target.driver);
        if needed.peek().is_none() {
            let message = format!("{message}: target {} is ignored, no query needs it", target.name);
            reader.warn(Error::config(message).at(target.driver_place.clone()));
        }
        for query in needed {
            let place = parts.queries.get(query.order).map(QueryEntry::selector_place).unwrap_or_default();
            let message = format!("{message}, and query {} needs it on target {}", query.name, target.name);
            let hint = format!("write `enabled: false` on the query or on databases.{}", target.name);
            reader.fault_at(&place, message, hint);
        }
    }
}
