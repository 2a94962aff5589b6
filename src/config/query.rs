//! One `queries:` entry: as read ([`QueryEntry`]), and as it runs on one target ([`Query`]).

use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Drivers, Sql};
use crate::error::SourcePosition;
use crate::file;
use crate::metric::Metric;
use crate::metric::lint_off::{LintSubject, SilencedLints};
use crate::yaml::folds::Folded;
use crate::yaml::keys::Keys;
use crate::yaml::writer::{Digest, YamlValue, digest_of};

use super::conditions::{self, When};
use super::foreach::{self, Foreach};
use super::selection::TargetSelector;
use super::settings::{
    Choice, Settings, Show, Written, above_zero, at_least_one, choice, optional, settings,
};

settings! {
    /// One query as it runs on one target. Its keys may be said by the entry, its file, `defaults` and `overrides`.
    #[derive(Clone)]
    pub struct Query, as written WrittenQuery {
        keys {
            /// `false`: the query runs nowhere.
            enabled: bool = true, Keys::flag;
            /// The most time that the query may take, inside the timeout of the scrape.
            timeout: Option<Duration> = None, optional(above_zero);
            /// How long a good result is reused: while it is younger than 0.9 × this. `0` runs the query at every scrape.
            interval: Duration = Duration::ZERO, Keys::duration;
            /// After a failure, the last good result is shown while it is no older than this; `query_success` is 0.
            /// `0` shows none.
            keep_last: Duration = Duration::ZERO, Keys::duration;
            /// The most rows. A query with more fails.
            max_rows: u64 = 100_000, at_least_one;
            /// The most series. A query with more fails.
            max_series: u64 = 20_000, at_least_one;
            /// The most metric names with samples that the rows of the query make, where names hold columns.
            max_families: usize = 2000, at_least_one;
            /// What becomes of a query that the server refuses for lack of a privilege: it fails (`fail`), or it is skipped and
            /// asked again every 5 minutes (`skip`).
            without_privilege: WithoutPrivilege = WithoutPrivilege::Fail, choice;
        }
        fields {
            /// Unique in the whole configuration.
            name: Arc<str> = Arc::default();
            /// The group it belongs to; `default` for those of the main file.
            collector: Arc<str> = Arc::default();
            /// What runs.
            sql: Arc<Sql> = Arc::new(Sql::new(""));
            /// What becomes of its rows.
            metrics: Arc<[Metric]> = Arc::default();
            /// The values for each of which it runs once; `None` = it runs once, without parameters.
            foreach: Option<Arc<Foreach>> = None;
            /// The servers it applies to; `None` = all.
            when: Option<Arc<When>> = None;
            /// The entry as it may be shown.
            redacted: Arc<YamlValue> = Arc::default();
            /// Where the entry stands.
            place: Arc<SourcePosition> = Arc::default();
            /// Where its SQL stands: the key `sql` or `sql_file`.
            sql_place: Arc<SourcePosition> = Arc::default();
            /// Where `foreach` stands.
            foreach_place: Arc<SourcePosition> = Arc::default();
            /// Its `sql`, where lines of the file are joined in it.
            folded: Arc<[Folded]> = Arc::default();
            /// The lints that it silences, on itself and its metrics.
            lint_off: SilencedLints = SilencedLints::default();
            /// Of all that makes it what it is on this target.
            digest: Digest = Digest::default();
            /// Its place in the whole configuration: decides who loses on a duplicate, and the page's order.
            order: usize = 0;
        }
    }
}

/// What becomes of a query whose statement the server refuses for lack of a privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutPrivilege {
    /// It fails, with the reason `permission`.
    Fail,
    /// It is skipped: a pack shows what the user may see.
    Skip,
}

impl Choice for WithoutPrivilege {
    const WORDS: &'static [(&'static str, Self)] =
        &[("fail", WithoutPrivilege::Fail), ("skip", WithoutPrivilege::Skip)];
}

impl WrittenQuery {
    /// Takes the keys that an included file may say for all its queries.
    pub(super) fn read_of_file(keys: &mut Keys<'_>) -> WrittenQuery {
        let (timeout, interval) = (above_zero(keys, "timeout").map(Some), keys.duration("interval"));
        let without_privilege = choice(keys, "without_privilege");
        WrittenQuery { timeout, interval, without_privilege, ..WrittenQuery::default() }
    }
}

/// What an entry inherits from its file and from `defaults`.
#[derive(Clone)]
pub(super) struct Inherited {
    /// The collector of the file.
    pub(super) collector: Arc<str>,
    /// Where its queries run unless they say so themselves.
    pub(super) selector: Option<TargetSelector>,
    /// What holds unless they say otherwise.
    pub(super) written: WrittenQuery,
    /// The servers they apply to unless they say otherwise.
    pub(super) when: Option<Arc<When>>,
    /// The same by `defaults`, of which a `when` of their own keeps what it does not say.
    pub(super) default_when: Option<Arc<When>>,
    /// The lints that they silence unless they say otherwise.
    pub(super) lint_off: SilencedLints,
    /// What makes their statements: [`Sql::new`], or [`Sql::of_catalog`] in a pack inside the binary.
    pub(super) statement: fn(&str) -> Sql,
}

/// One entry as read, before it is known where it runs.
pub(super) struct QueryEntry {
    /// Without its keys, and with the digest of the entry.
    query: Query,
    /// Its keys, without `overrides`.
    pub(super) written: WrittenQuery,
    /// `None`: the only target there is.
    pub(super) selector: Option<TargetSelector>,
}

impl std::ops::Deref for QueryEntry {
    type Target = Query;

    fn deref(&self) -> &Query {
        &self.query
    }
}

impl QueryEntry {
    /// Takes all keys of one entry. Faults are recorded; without a name or SQL it goes on with an empty one, so that what
    /// else is wrong with it is found too.
    pub(super) fn read(mut keys: Keys<'_>, inherited: &Inherited, drivers: &Drivers) -> QueryEntry {
        let place = Arc::new(keys.place(""));
        let name = name(&mut keys).unwrap_or_default();
        let (sql, sql_place) = sql(&mut keys);
        let selector = TargetSelector::read(&mut keys, drivers).or_else(|| inherited.selector.clone());
        let written = WrittenQuery::read(&mut keys).or(inherited.written.clone());
        let mut metrics = metrics(&mut keys);
        let foreach = foreach::read(&mut keys, inherited.statement).map(Arc::new);
        if let Some(foreach) = foreach.as_deref() {
            check_parameters(&keys, &sql);
            add_labels(&keys, foreach, &mut metrics);
        }
        let when = conditions::read(&mut keys, inherited.statement, inherited.default_when.as_deref());
        let own_silence = keys.has("lint_off");
        let silence = SilencedLints::read(&mut keys, LintSubject::Query);
        let query = Query {
            name,
            collector: inherited.collector.clone(),
            sql: Arc::new((inherited.statement)(&sql)),
            metrics: metrics.into(),
            foreach_place: if foreach.is_some() { keys.place("foreach").into() } else { Arc::default() },
            foreach,
            when: when.or_else(|| inherited.when.clone()),
            redacted: Arc::new(keys.redacted()),
            place: Arc::clone(&place),
            sql_place: Arc::new(sql_place),
            folded: keys.folded("sql").into(),
            lint_off: if own_silence { silence } else { inherited.lint_off.clone() },
            digest: keys.digest(),
            ..Query::default()
        };
        let meant = keys.finish();
        let selector = selector.or_else(|| TargetSelector::misspelt(&meant, &place));
        QueryEntry { query, written, selector }
    }

    /// As a message calls it.
    pub(super) fn named(&self) -> String {
        if self.name.is_empty() { "the query".to_owned() } else { format!("query {}", self.name) }
    }

    /// The statements that may run, each with its key and a place. An empty one is a fault already.
    pub(super) fn statements(&self) -> impl Iterator<Item = (&'static str, &Sql, &SourcePosition)> {
        let condition = self.when.as_ref().and_then(|when| when.sql.as_deref());
        let values = self.foreach.as_ref().and_then(|foreach| foreach.sql());
        let all = [
            ("sql", Some(&*self.sql), &*self.sql_place),
            ("when.sql", condition, &*self.place),
            ("foreach.sql", values, &*self.foreach_place),
        ];
        let written = all.into_iter().filter_map(|(key, sql, place)| Some((key, sql?, place)));
        written.filter(|(_, sql, _)| !sql.text().is_empty())
    }

    /// The key that says where it runs; the entry where nothing does.
    pub(super) fn selector_place(&self) -> SourcePosition {
        self.selector.as_ref().map_or(&*self.place, |selector| &selector.place).clone()
    }

    /// The query as it runs with these keys.
    pub(super) fn resolve(&self, written: &WrittenQuery, order: usize) -> Query {
        let inherited = format!("{} {} {written:?} {:?}", self.collector, self.sql.name(), self.when);
        let digest = digest_of(&[&self.digest, self.sql.text().as_bytes(), inherited.as_bytes()]);
        let mut query = Query { digest, order, ..self.query.clone() };
        query.set(written.clone());
        query
    }
}

/// A query with `foreach` runs with other parameters each time: it has some.
fn check_parameters(keys: &Keys<'_>, sql: &str) {
    // `:name` and `@name` are SQLite's. What stands in a string is the database's to tell.
    if !sql.is_empty() && !sql.contains(['?', '$', ':', '@']) {
        let hint = "write `$1` (PostgreSQL) or `?` (MySQL, SQLite) where a value goes";
        keys.fault_with_hint("foreach", "the statement has no parameter", hint);
    }
}

/// The labels of `foreach` are on all samples of the query.
fn add_labels(keys: &Keys<'_>, foreach: &Foreach, metrics: &mut [Metric]) {
    for metric in metrics {
        for label in foreach.labels() {
            if metric.label_names.contains(label) {
                let message = format!("metric {}: the label {label} is one of its own", metric.naming.text());
                keys.fault_with_hint("foreach", message, "give one of them another name");
            } else {
                metric.label_names.push(label.clone());
            }
        }
    }
}

fn name(keys: &mut Keys<'_>) -> Option<Arc<str>> {
    keys.require_one(&["name"], "has no `name`", None);
    let name = keys.text("name")?;
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        keys.fault("name", "a name is one line of printable text");
    }
    Some(name.into())
}

/// The text of `sql` or of the file that `sql_file` names, and where it stands: in the entry, or in that file.
fn sql(keys: &mut Keys<'_>) -> (String, SourcePosition) {
    let hint = Some("write `sql: SELECT …` or `sql_file: PATH`");
    keys.require_one(&["sql", "sql_file"], "has no SQL", hint);
    let here = keys.literal("sql");
    let (key, text, place) = match keys.file("sql_file").filter(|_| !keys.has("sql")) {
        Some(path) => {
            let (file, path_of_key) = (path.display().to_string(), keys.place("sql_file").path);
            let place = SourcePosition { file, line: 1, column: 1, path: path_of_key, source: None };
            ("sql_file", keys.valid("sql_file", file::small_text(&path)), place)
        }
        None => ("sql", here, keys.place("sql")),
    };
    if text.as_ref().is_some_and(|text| Sql::new(text).text().is_empty()) {
        keys.fault(key, "has no statement");
    }
    (text.unwrap_or_default(), place)
}

/// The entries of `metrics`, or the one of the mini form. Faulty ones are recorded and left out.
fn metrics(keys: &mut Keys<'_>) -> Vec<Metric> {
    const NONE: &str = "has no metrics";
    const HINT: &str = "add `metrics: [{name: …, help: …}]`";
    keys.require_one(&["metrics", "metric_name"], NONE, Some(HINT));
    let one = Metric::read_mini(keys);
    let items = keys.items("metrics");
    if items.is_some() && keys.has("metrics") && keys.count("metrics") == 0 {
        keys.lacks("", &["metrics", "metric_name"], NONE, Some(HINT.to_owned()));
    }
    one.into_iter().chain(items.into_iter().flatten().filter_map(Metric::read)).collect()
}
