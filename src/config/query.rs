//! One `queries:` entry: as read ([`QueryEntry`]), and cooked for one target ([`Query`]).

use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Drivers, Sql};
use crate::error::SourcePosition;
use crate::metric::Metric;
use crate::metric::lint_off::{LintSubject, SilencedLints};
use crate::yaml::folds::Folded;
use crate::yaml::keys::Keys;
use crate::yaml::writer::{Digest, YamlValue, digest_of};

use super::conditions;
use super::conditions::When;
use super::query_keys::Settings;
use super::target_selector::TargetSelector;
use super::text_file;

/// One query as it runs on one target.
#[derive(Clone)]
pub struct Query {
    /// Unique in the whole configuration.
    pub name: Arc<str>,
    /// The group it belongs to; `default` for the main file's.
    pub collector: Arc<str>,
    /// What runs.
    pub sql: Arc<Sql>,
    /// What becomes of its rows.
    pub metrics: Arc<[Metric]>,
    /// False: a row `query_skipped{reason="disabled"}` and nothing else.
    pub enabled: bool,
    /// An upper bound inside the scrape's own deadline.
    pub timeout: Option<Duration>,
    /// A good result younger than 0.9 × this is reused; zero = fresh at every scrape.
    pub interval: Duration,
    /// After a failure the last good result stands in while it is no older than this; zero = none does.
    pub keep_last: Duration,
    /// The servers it applies to; `None` = all.
    pub when: Option<Arc<When>>,
    /// More rows than this are an error.
    pub max_rows: u64,
    /// More series than this are an error.
    pub max_series: u64,
    /// More families fail it.
    pub max_families: usize,
    /// The entry as it may be shown.
    pub redacted: Arc<YamlValue>,
    /// Where the entry stands.
    pub place: Arc<SourcePosition>,
    /// Where its SQL stands: the key `sql` or `sql_file`.
    pub sql_place: Arc<SourcePosition>,
    /// Its `sql`, where lines of the file are joined in it.
    pub folded: Arc<[Folded]>,
    /// The lints that it silences, on itself and its metrics.
    pub lint_off: SilencedLints,
    /// Of all that makes it what it is on this target.
    pub digest: Digest,
    /// Its place in the whole configuration: decides who loses on a duplicate, and the page's order.
    pub order: usize,
}

/// What an entry inherits from its file and from `defaults`.
#[derive(Clone)]
pub(super) struct Inherited {
    /// The collector of the file.
    pub(super) collector: Arc<str>,
    /// Where its queries run unless they say so themselves.
    pub(super) aim: Option<TargetSelector>,
    /// What holds unless they say otherwise.
    pub(super) settings: Settings,
    /// The servers they apply to unless they say otherwise.
    pub(super) when: Option<Arc<When>>,
    /// The lints that they silence unless they say otherwise.
    pub(super) lint_off: SilencedLints,
    /// What makes their statements: [`Sql::new`], or [`Sql::of_catalog`] in a pack inside the binary.
    pub(super) statement: fn(&str) -> Sql,
}

/// One entry as read, before it is known where it runs.
pub(super) struct QueryEntry {
    pub(super) name: Arc<str>,
    pub(super) collector: Arc<str>,
    /// `None`: the only target there is.
    pub(super) aim: Option<TargetSelector>,
    /// Without `overrides`.
    pub(super) settings: Settings,
    /// The entry.
    pub(super) place: Arc<SourcePosition>,
    sql_place: Arc<SourcePosition>,
    folded: Arc<[Folded]>,
    lint_off: SilencedLints,
    sql: Arc<Sql>,
    when: Option<Arc<When>>,
    metrics: Arc<[Metric]>,
    redacted: Arc<YamlValue>,
    digest: Digest,
}

impl QueryEntry {
    /// Takes all keys of one entry. Faults are recorded; without a name or SQL it goes on with an empty one, so that what
    /// else is wrong with it comes out too.
    pub(super) fn read(mut keys: Keys<'_>, behind: &Inherited, drivers: &Drivers) -> QueryEntry {
        let place = Arc::new(keys.place(""));
        let name = name(&mut keys);
        let sql = sql(&mut keys);
        let sql_place = Arc::new(sql_place(&mut keys));
        let aim = TargetSelector::read(&mut keys, drivers).or_else(|| behind.aim.clone());
        let settings = Settings::read(&mut keys).or(behind.settings);
        let metrics = metrics(&mut keys);
        let when =
            conditions::read(&mut keys, behind.statement).map(Arc::new).or_else(|| behind.when.clone());
        let folded = keys.folded("sql");
        let own = keys.has("lint_off");
        let silence = SilencedLints::read(&mut keys, LintSubject::Query);
        let lint_off = if own { silence } else { behind.lint_off.clone() };
        let (redacted, digest) = (Arc::new(keys.redacted()), keys.digest());
        let meant = keys.finish();
        QueryEntry {
            name: name.unwrap_or_default(),
            collector: behind.collector.clone(),
            aim: aim.or_else(|| TargetSelector::misspelt(&meant, &place)),
            settings,
            place,
            sql_place,
            folded: folded.into(),
            lint_off,
            sql: Arc::new((behind.statement)(&sql.unwrap_or_default())),
            when,
            metrics: metrics.into(),
            redacted,
            digest,
        }
    }

    /// As a message calls it.
    pub(super) fn named(&self) -> String {
        if self.name.is_empty() { "the query".to_owned() } else { format!("query {}", self.name) }
    }

    /// The statements that may run, `sql` and `when.sql`, each with its place.
    pub(super) fn statements(&self) -> impl Iterator<Item = (&Sql, &SourcePosition)> {
        let condition = self.when.as_ref().and_then(|when| when.sql.as_ref());
        let own = Some((&*self.sql, &*self.sql_place)).filter(|(sql, _)| !sql.text().is_empty());
        own.into_iter().chain(condition.map(|sql| (sql, &*self.place)))
    }

    /// The key that says where it runs; the entry where nothing does.
    pub(super) fn aim_place(&self) -> SourcePosition {
        self.aim.as_ref().map_or(&*self.place, |aim| &aim.place).clone()
    }

    /// The query as it runs with `settings`.
    pub(super) fn resolve(&self, settings: Settings, order: usize) -> Query {
        let inherited = format!("{} {} {settings:?} {:?}", self.collector, self.sql.name(), self.when);
        let digest = digest_of(&[&self.digest, self.sql.text().as_bytes(), inherited.as_bytes()]);
        Query {
            name: self.name.clone(),
            collector: self.collector.clone(),
            sql: self.sql.clone(),
            metrics: self.metrics.clone(),
            enabled: settings.enabled(),
            timeout: settings.timeout(),
            interval: settings.interval(),
            keep_last: settings.keep_last(),
            when: self.when.clone(),
            max_rows: settings.max_rows(),
            max_series: settings.max_series(),
            max_families: settings.max_families(),
            redacted: self.redacted.clone(),
            place: self.place.clone(),
            sql_place: self.sql_place.clone(),
            folded: self.folded.clone(),
            lint_off: self.lint_off.clone(),
            digest,
            order,
        }
    }
}

fn name(keys: &mut Keys<'_>) -> Option<Arc<str>> {
    keys.one_of(&["name"]);
    let Some(name) = keys.text("name") else {
        if !keys.has("name") {
            keys.lacks("", &["name"], "has no `name`", None);
        }
        return None;
    };
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        keys.fault("name", "a name is one line of printable text");
    }
    Some(name.into())
}

/// The text of `sql` or of the file that `sql_file` names.
fn sql(keys: &mut Keys<'_>) -> Option<String> {
    keys.one_of(&["sql", "sql_file"]);
    let (written, from_file) = (keys.has("sql"), keys.has("sql_file"));
    if written && from_file {
        keys.fault_with_hint("sql_file", "stands beside `sql`", "write one of them");
    } else if !written && !from_file {
        keys.lacks(
            "",
            &["sql", "sql_file"],
            "has no SQL",
            Some("write `sql: SELECT …` or `sql_file: PATH`".to_owned()),
        );
    }
    let here = keys.literal("sql");
    let file = keys.file("sql_file");
    let (key, text) = match (here, file) {
        (Some(text), _) => ("sql", text),
        (None, Some(path)) => {
            let text = text_file::read(&path).map_err(|message| keys.fault("sql_file", message));
            ("sql_file", text.ok()?)
        }
        (None, None) => return None,
    };
    if Sql::new(&text).text().is_empty() {
        keys.fault(key, "holds no statement");
    }
    Some(text)
}

/// Where the statement itself stands: in the entry, or in a file of its own.
fn sql_place(keys: &mut Keys<'_>) -> SourcePosition {
    match keys.file("sql_file").filter(|_| !keys.has("sql")) {
        Some(path) => {
            let file = path.display().to_string();
            SourcePosition { file, line: 1, column: 1, path: keys.place("sql_file").path, source: None }
        }
        None => keys.place("sql"),
    }
}

/// The entries of `metrics`, or the one of the mini form. InvalidConfig ones are recorded and left out.
fn metrics(keys: &mut Keys<'_>) -> Vec<Metric> {
    keys.one_of(&["metrics", "metric_name"]);
    let mini = keys.has("metric_name");
    if mini && keys.has("metrics") {
        keys.fault_with_hint("metric_name", "stands beside `metrics`", "move it into the list");
    }
    let written = mini || keys.has("metrics");
    let one = if mini { Metric::read_mini(keys) } else { None };
    let items = keys.items("metrics");
    if !written || (items.is_some() && keys.count("metrics") == 0) {
        let hint = "add `metrics: [{name: …, help: …}]`".to_owned();
        keys.lacks("", &["metrics", "metric_name"], "makes no metric", Some(hint));
    }
    one.into_iter().chain(items.into_iter().flatten().filter_map(Metric::read)).collect()
}
