//! Configurations that load, and what becomes of them. Those that do not are in `broken`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sql_exporter::deadline::Deadline;
use sql_exporter::driver::{Driver, Drivers, Endpoint, Session};
use sql_exporter::error::{Error, Reason, Result};
use sql_exporter::plan::exporter::{LogFormat, QueryMetrics};
use sql_exporter::plan::query::Query;
use sql_exporter::plan::target::Target;
use sql_exporter::plan::{self, Plan};
use sql_exporter::yaml::keys::Keys;

/// A driver that takes the keys of a network driver and remembers them; it connects nowhere.
struct Paper;

struct Sheet(String);

impl Driver for Paper {
    fn names(&self) -> &'static [&'static str] {
        &["paper", "parchment"]
    }

    fn endpoint(&self, keys: &mut Keys<'_>) -> Option<Arc<dyn Endpoint>> {
        let url = keys.text("url");
        let texts = ["host", "port", "database", "username"].map(|key| keys.text(key).unwrap_or_default());
        let password = keys.secret("password");
        let _ = keys.file("password_file");
        let params = keys.pairs("params").unwrap_or_default();
        let shown = url.unwrap_or_else(|| texts.join("|"));
        let password = password.map(|password| password.expose().to_owned()).unwrap_or_default();
        Some(Arc::new(Sheet(format!("{shown}|{password}|{params:?}"))))
    }
}

impl Endpoint for Sheet {
    fn connect(&self, _: Deadline) -> Result<Box<dyn Session>> {
        Err(Error::new(Reason::Connect, "paper"))
    }

    fn shown(&self) -> String {
        self.0.clone()
    }
}

/// A folder with one configuration, gone with the value.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }

    fn with(self, name: &str, text: &str) -> Folder {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self) -> Plan {
        load(&self.path("main.yaml"))
    }
}

fn load(path: &Path) -> Plan {
    let environment = |name: &str| (name == "NAME").then(|| "world".to_owned());
    let drivers = Drivers::built_in().with(&Paper);
    match plan::load(path, &environment, &drivers) {
        Ok(plan) => plan,
        Err(faults) => panic!("{}", faults.iter().map(|fault| format!("{fault}\n")).collect::<String>()),
    }
}

/// Loads one file.
fn main_file(text: &str) -> Plan {
    Folder::new().with("main.yaml", text).load()
}

fn target<'p>(plan: &'p Plan, name: &str) -> &'p Target {
    plan.targets.iter().find(|target| target.name == name).expect("the target")
}

fn query<'t>(target: &'t Target, name: &str) -> &'t Query {
    target.queries.iter().find(|query| &*query.name == name).expect("the query")
}

fn names(target: &Target) -> Vec<&str> {
    target.queries.iter().map(|query| &*query.name).collect()
}

fn shown(plan: &Plan, name: &str) -> String {
    target(plan, name).endpoint.as_ref().expect("an endpoint").shown()
}

fn warnings(plan: &Plan) -> Vec<&str> {
    plan.warnings.iter().map(Error::message).collect()
}

/// `  - {name: NAME, …}` with a metric of the same name.
fn entry(name: &str, more: &str) -> String {
    format!("  - {{name: {name}, {more} sql: SELECT 1 AS value, metrics: [{{name: {name}, help: H.}}]}}\n")
}

#[test]
fn the_seeds_file_loads_unchanged_with_a_warning_for_its_mssql_target() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/compat/export-sql/config.yaml");
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let plan = load(&path);
    assert_eq!(
        warnings(&plan),
        ["the driver mssql is not built in: target mssql_db is not read, no query needs it"]
    );
    assert_eq!(plan.targets.len(), 4);
    assert_eq!(names(target(&plan, "mysql_db")), ["user_count", "order_metrics", "database_health"]);
    assert_eq!(target(&plan, "postgres_db").driver, "postgres");
    assert!(target(&plan, "mssql_db").endpoint.is_none());
    assert_eq!(plan.exporter.log_level.as_str(), "INFO");
    assert_eq!(query(target(&plan, "mysql_db"), "user_count").interval, Duration::from_secs(60));
}

#[test]
fn the_mini_form_is_a_query_with_one_metric() {
    let plan = main_file(
        "databases: {a: {driver: paper}}\n\
         queries: [{name: q, sql: SELECT 1 AS n, metric_name: things, help: Things., value_column: n}]\n",
    );
    let metrics = &query(target(&plan, "a"), "q").metrics;
    assert_eq!(metrics.len(), 1);
    assert_eq!(metrics[0].family.name.as_str(), "things");
}

#[test]
fn defaults_fill_what_an_entry_leaves_out_and_the_entry_wins() {
    let plan = main_file(&format!(
        "defaults:\n  \
           database: {{driver: paper, username: reader, params: {{a: 1, b: 2}}, labels: {{env: prod}}, max_connections: 7}}\n  \
           query: {{databases: '*', timeout: 2s, max_rows: 5}}\n\
         databases:\n  \
           a: {{host: one}}\n  \
           b: {{host: two, username: owner, params: {{b: 3}}, labels: {{site: x}}, max_connections: 1}}\n\
         queries:\n{}{}",
        entry("q", ""),
        entry("r", "database: b, timeout: 9s,")
    ));
    assert_eq!(shown(&plan, "a"), r#"one|||reader||[("a", "1"), ("b", "2")]"#);
    assert_eq!(shown(&plan, "b"), r#"two|||owner||[("b", "3"), ("a", "1")]"#);
    assert_eq!((target(&plan, "a").max_connections, target(&plan, "b").max_connections), (7, 1));
    assert_eq!(target(&plan, "b").labels.len(), 2);
    assert_eq!(names(target(&plan, "a")), ["q"]);
    assert_eq!(names(target(&plan, "b")), ["q", "r"]);
    let (q, r) = (query(target(&plan, "b"), "q"), query(target(&plan, "b"), "r"));
    assert_eq!((q.timeout, r.timeout), (Some(Duration::from_secs(2)), Some(Duration::from_secs(9))));
    assert_eq!((q.max_rows, r.max_rows, r.max_series), (5, 5, 20_000));
}
