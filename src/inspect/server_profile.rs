//! `init`: what a target's server is, which of its collectors apply there, and the largest of the user's tables.
//!
//! A collector's own conditions decide, as in a scrape. No row of a table is read.

use std::sync::Arc;

use indexmap::IndexMap;

use super::privileges::{self, ServerReport};
use super::runner::{OpenSession, Runner, WithoutThreads};
use crate::config::packs;
use crate::config::query::Query;
use crate::config::target::TargetConfig;
use crate::deadline::Deadline;
use crate::driver::answer::AnswerSink;
use crate::driver::user_tables::{self, ListedTable, MAX_TABLE_NAME_BYTES, UserTable};
use crate::driver::{Flow, Row, Sql};
use crate::engine::run::SkipCause;
use crate::error::{Error, Result};
use crate::value::Number;

/// The largest value in a list of tables: a statement with the longest name in it.
const MAX_LISTED_BYTES: usize = 3 * MAX_TABLE_NAME_BYTES;

/// What is known about one target.
pub struct ServerProfile {
    /// From the login; `None` where nobody connected.
    pub server: Option<ServerReport>,
    /// The collectors of the target, in configuration order.
    pub collectors: Vec<CollectorFit>,
    /// The largest table; `None` where there is none, or it is not known.
    pub largest_table: Option<UserTable>,
    /// Why it is not known.
    pub unknown_table: Option<Error>,
}

/// Whether a collector applies to a server.
pub struct CollectorFit {
    /// Its name.
    pub name: Arc<str>,
    /// The answer.
    pub fit: Fit,
}

/// Whether there is a query that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// One at least.
    Runs,
    /// None; what the server would need, as a sentence or a part of one.
    Lacks(String),
    /// None, as it is for another kind of server.
    OtherServer,
}

impl ServerProfile {
    /// What is known without a connection, about collectors that are `wanted` by their name.
    pub fn offline(target: &TargetConfig, wanted: fn(&str) -> bool) -> ServerProfile {
        let fit = |queries: &[&Query]| {
            if queries.iter().any(|query| query.enabled) { Fit::Runs } else { all_off() }
        };
        let collectors = collectors(target, wanted)
            .into_iter()
            .map(|(name, queries)| CollectorFit { name, fit: fit(&queries) })
            .collect();
        ServerProfile { server: None, collectors, largest_table: None, unknown_table: None }
    }
}

/// Connects to all targets at once, and decides about the collectors that are `wanted` by their name. Blocks until `by` at
/// most, and a moment; `progress` is called with the number of targets done.
pub fn run(
    targets: &[Arc<TargetConfig>],
    wanted: fn(&str) -> bool,
    runner: &Runner,
    by: Deadline,
    progress: impl Fn(usize),
) -> Vec<Result<ServerProfile>> {
    let work = move |target: &TargetConfig, session: &mut OpenSession| profile(target, wanted, session);
    let profiles = runner.on_each_target(targets, by, WithoutThreads::RunHere, progress, work);
    profiles.into_iter().map(|(profile, _)| profile.and_then(|profile| profile)).collect()
}

fn profile(
    target: &TargetConfig,
    wanted: fn(&str) -> bool,
    session: &mut OpenSession,
) -> Result<ServerProfile> {
    let server = privileges::report(session)?;
    let collectors = collectors(target, wanted)
        .into_iter()
        .map(|(name, queries)| Ok(CollectorFit { fit: fit(&name, &queries, session)?, name }))
        .collect::<Result<_>>()?;
    // The rest of the profile is right without it.
    let (largest_table, unknown_table) = match largest_table(target, session) {
        Ok(table) => (table, None),
        Err(error) => (None, Some(error)),
    };
    Ok(ServerProfile { server: Some(server), collectors, largest_table, unknown_table })
}

/// Those of a target with their queries.
fn collectors(target: &TargetConfig, wanted: fn(&str) -> bool) -> IndexMap<Arc<str>, Vec<&Query>> {
    let mut collectors: IndexMap<Arc<str>, Vec<&Query>> = IndexMap::new();
    for query in target.queries.iter().filter(|query| wanted(&query.collector)) {
        collectors.entry(Arc::clone(&query.collector)).or_default().push(query);
    }
    collectors
}

/// The first query that would run decides, else the one that comes nearest to it.
fn fit(collector: &str, queries: &[&Query], session: &mut OpenSession) -> Result<Fit> {
    let enabled: Vec<&&Query> = queries.iter().filter(|query| query.enabled).collect();
    if enabled.is_empty() {
        return Ok(all_off());
    }
    let mut lacks = None;
    for query in enabled {
        let Some(when) = &query.when else { return Ok(Fit::Runs) };
        let unmet = match session.unmet_condition(when) {
            Ok(None) => return Ok(Fit::Runs),
            Ok(Some(cause)) => cause,
            Err(error) if session.is_usable() => SkipCause::Refused(error),
            Err(error) => return Err(error),
        };
        if when.flavor.is_empty() || when.flavor.contains(&session.facts().flavor.as_str()) {
            lacks.get_or_insert_with(|| what_lacks(collector, &unmet, &session.facts().flavor));
        }
    }
    Ok(lacks.map_or(Fit::OtherServer, Fit::Lacks))
}

/// An extension, a relation and a privilege have names. Versions and settings are in the words of the collector.
fn what_lacks(collector: &str, cause: &SkipCause, flavor: &str) -> String {
    let text = cause.text();
    match text.split_once(": ") {
        _ if cause.lacks().is_some() => text.to_owned(),
        Some(("when.extension", rest)) => match rest.strip_prefix("the server has no ") {
            Some(name) if flavor == "postgresql" => format!("needs the extension {name}"),
            Some(name) => format!("needs the plugin {name}"),
            None => rest.to_owned(),
        },
        Some(("when.relation", rest)) => rest.to_owned(),
        _ => packs::remark(collector, "Versions")
            .map_or_else(|| text.to_owned(), |versions| condition(&versions).to_owned()),
    }
}

/// The part of a remark on versions that says where there is something to show, else its first sentence.
fn condition(versions: &str) -> &str {
    let sentences = || versions.split(". ").flat_map(|sentence| sentence.split("; "));
    let is_condition = |clause: &&str| clause.contains("where ");
    let clause = sentences().find(is_condition).or_else(|| sentences().next()).unwrap_or(versions);
    let clause = clause.trim_end_matches('.');
    match clause.find("where ") {
        Some(at) if !clause.contains("skipped") => clause.get(at..).unwrap_or(clause),
        _ => clause,
    }
}

fn all_off() -> Fit {
    Fit::Lacks("its queries are off until `overrides` turns them on".to_owned())
}

/// # Errors
/// The server does not say, or not in time.
fn largest_table(target: &TargetConfig, session: &mut OpenSession) -> Result<Option<UserTable>> {
    let Some(tables) = target.endpoint.as_ref().and_then(|endpoint| endpoint.user_tables()) else {
        return Ok(None);
    };
    let listed = session.ask(&tables.list(), None, MAX_LISTED_BYTES, user_tables::sink())?;
    let mut largest: Option<(f64, UserTable)> = None;
    for ListedTable { table, size } in listed {
        let size = match size {
            Some(sql) => size_of(&sql, session)?,
            None => return Ok(Some(table)),
        };
        if largest.as_ref().is_none_or(|(known, _)| size > *known) {
            largest = Some((size, table));
        }
    }
    Ok(largest.map(|(_, table)| table))
}

/// The number that a statement returns; 0 for a table that cannot be asked.
fn size_of(sql: &Sql, session: &mut OpenSession) -> Result<f64> {
    let take = |size: &mut f64, row: &dyn Row| {
        if let Number::Value(value) = row.cell(0)?.number() {
            *size = value;
        }
        Ok(Flow::Continue)
    };
    let sink = AnswerSink::new("", 0.0, |_, _| Ok(()), take);
    match session.ask(sql, None, MAX_LISTED_BYTES, sink) {
        Err(error) if !session.is_usable() => Err(error),
        size => Ok(size.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::condition;

    #[test]
    fn a_condition_is_where_something_is() {
        for (versions, expected) in [
            ("PostgreSQL 16 to 18. 18 adds WAL (object wal).", "PostgreSQL 16 to 18"),
            ("MariaDB 10.5 to 11.8 where userstat is ON; skipped elsewhere.", "where userstat is ON"),
            ("MySQL 5.7 to 9.7; skipped where log_bin is off.", "skipped where log_bin is off"),
            ("SQLite 3. The queries are skipped where x.", "The queries are skipped where x"),
        ] {
            assert_eq!(condition(versions), expected);
        }
    }
}
