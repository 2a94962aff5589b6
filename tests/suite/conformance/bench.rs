//! One target `t` and its queries, from YAML through a plan to pages, in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sql_exporter::commands::run::start;
use sql_exporter::config;
use sql_exporter::deadline::Deadline;
use sql_exporter::driver::Drivers;
use sql_exporter::engine::scrape;
use sql_exporter::engine::scrape::ScrapeTime;
use sql_exporter::engine::targets::{ScrapeSelection, Targets};
use sql_exporter::error::{Error, Reason};
use sql_exporter::exposition::page::pieces;
use sql_exporter::exposition::text::Text;

use crate::checker::{Page, checked};
use crate::recorder::{Recorder, run};

/// Longer than any healthy scrape takes on a busy machine.
pub(super) const LONG: Duration = Duration::from_secs(30);

/// One `queries:` entry: a metric of the query's own name with the column `value`, unless told otherwise.
#[derive(Debug, Clone)]
pub(super) struct Query {
    name: String,
    sql: String,
    metrics: String,
    more: String,
}

impl Query {
    pub(super) fn new(name: &str, sql: &str) -> Self {
        let metrics = format!("{{name: {name}}}");
        Query { name: name.to_owned(), sql: sql.to_owned(), metrics, more: String::new() }
    }

    /// The same with these columns as labels.
    pub(super) fn labels(self, columns: &str) -> Self {
        let metrics = format!("{{name: {}, labels: [{columns}]}}", self.name);
        Query { metrics, ..self }
    }

    /// The same with this list of metrics.
    pub(super) fn metrics(self, list: &str) -> Self {
        Query { metrics: list.to_owned(), ..self }
    }

    /// The same with one more key: `timeout: 300ms`.
    pub(super) fn with(mut self, key: &str) -> Self {
        self.more += &format!("    {key}\n");
        self
    }

    fn yaml(&self) -> String {
        let Query { name, sql, metrics, more } = self;
        let sql = sql.replace('\n', "\n      ");
        format!("  - name: {name}\n    metrics: [{metrics}]\n{more}    sql: |\n      {sql}\n")
    }
}

/// The whole configuration; `exporter` is the section of that name in flow style.
pub(super) fn config(entry: &str, queries: &[Query], exporter: &str) -> String {
    let queries: String = queries.iter().map(Query::yaml).collect();
    let queries = if queries.is_empty() { queries } else { format!("queries:\n{queries}") };
    format!("databases:\n  t: {entry}\n{queries}exporter: {exporter}\n")
}

/// A fleet of one target. Its sessions are closed at drop.
pub(crate) struct Bench(Arc<Targets>);

impl Bench {
    pub(super) fn new(entry: &str, queries: &[Query]) -> Self {
        Self::with(entry, queries, "{}")
    }

    /// The same with a section `exporter`.
    pub(super) fn with(entry: &str, queries: &[Query], exporter: &str) -> Self {
        let folder = crate::process::folder();
        let path = folder.path().join("conformance.yaml");
        let text = config(entry, queries, exporter);
        std::fs::write(&path, &text).expect("a file");
        let plan = config::load(&path, &|_| None, &Drivers::built_in());
        let plan = plan.unwrap_or_else(|errors| panic!("{errors:?}\n--- in ---\n{text}"));
        Bench(Arc::new(start::make_targets(plan)))
    }

    /// True when a configuration with this query does not load because of its statement.
    pub(super) fn refuses(entry: &str, query: &Query) -> bool {
        let folder = crate::process::folder();
        let path = folder.path().join("conformance.yaml");
        std::fs::write(&path, config(entry, std::slice::from_ref(query), "{}")).expect("a file");
        match config::load(&path, &|_| None, &Drivers::built_in()) {
            Ok(_) => false,
            Err(faults) => {
                assert!(faults.iter().all(|fault| fault.query() == Some(&query.name)), "{faults:?}");
                true
            }
        }
    }

    /// Runs a statement in a session of its own, past the plan.
    pub(super) fn run_in_a_session(&self, sql: &str) -> Recorder {
        let by = Deadline::within(LONG);
        let target = self.0.targets.first().expect("the target");
        let endpoint = target.config.endpoint.as_ref().expect("its driver is built in");
        let mut session = endpoint.connect(by).expect("a session");
        run(&mut *session, sql, LONG).0
    }

    /// All queries.
    pub(super) fn scrape(&self) -> Seen {
        self.select(&ScrapeSelection::default(), LONG)
    }

    /// One query alone.
    pub(super) fn only(&self, query: &str) -> Seen {
        self.only_within(query, LONG)
    }

    /// One query alone, in a scrape with a deadline of its own.
    pub(super) fn only_within(&self, query: &str, budget: Duration) -> Seen {
        self.select(
            &ScrapeSelection { queries: vec![query.to_owned()], ..ScrapeSelection::default() },
            budget,
        )
    }

    fn select(&self, selection: &ScrapeSelection, budget: Duration) -> Seen {
        let time = ScrapeTime { began: Instant::now(), budget };
        let page = scrape::scrape(&self.0, selection, time).expect("the names exist");
        let text = text(&page.families);
        Seen { page: checked(&text), text, failures: page.failures, took: time.began.elapsed() }
    }

    /// How many sessions the target has in `state`: idle, busy, late.
    pub(super) fn sessions(&self, state: &str) -> f64 {
        let page = checked(&text(&self.0.own_metrics()));
        page.value("sql_exporter_sessions", &[("target", "t"), ("state", state)]).unwrap_or(0.0)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn text(families: &sql_exporter::exposition::page::Families) -> String {
    let bytes = pieces(families, &Text).iter().flat_map(|piece| piece.as_ref().to_vec()).collect();
    String::from_utf8(bytes).expect("a page is UTF-8")
}

/// What one scrape showed.
pub(super) struct Seen {
    pub(super) page: Page,
    /// The page's bytes.
    pub(super) text: String,
    /// How long the scrape took.
    pub(super) took: Duration,
    failures: Vec<Error>,
}

impl Seen {
    /// True when the page says that the target is up.
    pub(super) fn up(&self) -> bool {
        let up = self.page.value("sql_exporter_target_up", &[("target", "t")]);
        up.unwrap_or_else(|| panic!("no target_up\n{}", self.text)) == 1.0
    }

    /// Whether the query's samples are on the page, by its own word.
    pub(super) fn is_good(&self, query: &str) -> bool {
        let success = self.page.value("sql_exporter_query_success", &[("query", query)]);
        success.unwrap_or_else(|| panic!("no query_success of {query}\n{}", self.text)) == 1.0
    }

    /// Fails unless the query succeeded.
    pub(super) fn good(&self, query: &str) -> &Self {
        assert!(self.is_good(query), "{query} failed: {:?}", self.failures);
        assert!(self.reason(query).is_none(), "{query} succeeded and has a reason\n{}", self.text);
        self
    }

    /// The error of a query that must have failed for `reason`: the page says so, and shows none of its samples.
    pub(super) fn failed(&self, query: &str, reason: Reason) -> &Error {
        let own = |error: &&Error| error.query() == Some(query);
        let error = self.failures.iter().find(own);
        let error = error.unwrap_or_else(|| panic!("{query} did not fail\n{}", self.text));
        assert_eq!(error.reason(), reason, "{error}");
        assert!(!self.is_good(query), "{query} failed and is good");
        assert_eq!(self.reason(query), Some(reason.as_str()), "{error}");
        assert!(self.page.series(query).is_empty(), "{query} failed and has samples\n{}", self.text);
        error
    }

    fn reason(&self, query: &str) -> Option<&str> {
        let rows = self.page.series("sql_exporter_query_failure_reason");
        let mut rows = rows.into_iter().filter(|row| row.labels["query"] == query);
        let found = rows.next().map(|row| row.labels["reason"].as_str());
        assert!(rows.next().is_none(), "{query} has two reasons\n{}", self.text);
        found
    }

    /// The value of the only sample of the query's metric.
    pub(super) fn value(&self, query: &str) -> f64 {
        self.good(query);
        let samples = self.page.series(query);
        assert_eq!(samples.len(), 1, "{query}: {samples:?}");
        samples[0].value
    }

    /// One of our own rows about a query: `query_rows`, `query_series`.
    pub(super) fn own(&self, row: &str, query: &str) -> Option<f64> {
        self.page.value(&format!("sql_exporter_{row}"), &[("query", query)])
    }
}
