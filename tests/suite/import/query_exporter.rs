//! query-exporter's published configuration, converted and run on a real server. Its files are under the GPL: nothing of them is
//! here, and what comes out is compared with them as they lie in `../shared/compat`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_yaml::Value;

use super::shared::compat;
use super::{assert_strict, read};
use crate::checker::{Page, checked};
use crate::exporter::{Output, Setup};
use crate::process::wait_for;
use crate::servers::Postgres;

/// Some tables, one of them without statistics of TOAST, indexes and sequences.
const TABLES: &str = "CREATE TABLE orders (id serial PRIMARY KEY, n int);\n\
     CREATE TABLE notes (id serial PRIMARY KEY, note text);\n\
     INSERT INTO orders (n) SELECT generate_series(1, 30);\n\
     INSERT INTO notes (note) VALUES ('a'), ('b');\n\
     DELETE FROM orders WHERE id <= 10";

fn convert(folder: &Path, from: &str, args: &[&str]) -> Output {
    let mut setup = Setup::empty();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        setup = setup.file(path.file_name().unwrap().to_str().unwrap(), &read(&path));
    }
    setup.args(&["import", "--from", from, "config.yaml"]).args(args).output()
}

/// `metrics` of the source: type and labels by name.
fn metrics(folder: &Path) -> BTreeMap<String, (String, Vec<String>)> {
    let text = read(&folder.join("config.yaml"));
    // One key stands there twice, with the same value.
    let text = text.replace("daemon\n    type: counter\n  pg_table_io", "daemon\n  pg_table_io");
    let source: Value = serde_yaml::from_str(&text).expect("YAML");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let metric = |(name, metric): (&Value, &Value)| {
        let labels = metric["labels"].as_sequence().map(|labels| labels.iter().map(text).collect());
        (text(name), (text(&metric["type"]), labels.unwrap_or_default()))
    };
    source["metrics"].as_mapping().expect("metrics").iter().map(metric).collect()
}

#[test]
fn the_published_configuration_is_converted() {
    let Some(folder) = compat("query-exporter") else { return };
    let (named, auto) = (convert(&folder, "query-exporter", &[]), convert(&folder, "auto", &[]));
    assert_eq!((named.text(), named.errors()), (auto.text(), auto.errors()));
    assert_strict(&named, "postgres", "query-exporter");
    // One key stands there twice, with the same value: that loses nothing.
    let repeated = "pg_table_autoanalyze.type: repeated key, with an equal value";
    assert!(
        named.errors().contains(repeated) && !named.errors().contains("left out: "),
        "{}",
        named.errors()
    );
    assert_eq!(named.code(), 0);
    assert!(named.errors().contains("\n  PG_DATABASE_DSN "), "{}", named.errors());
    assert!(named.text().contains("\n  pg: {url: \"${PG_DATABASE_DSN}\"}\n"), "{}", named.text());
}

/// What the configuration shows of a server.
fn page(server: &Postgres, output: &Output) -> Page {
    let Postgres { port, password, database } = server;
    let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}");
    let run = Setup::new(output.text()).env("PG_DATABASE_DSN", &url).once();
    assert_eq!(run.code(), 0, "{}", run.errors());
    checked(run.text())
}

#[test]
fn it_shows_on_a_server_what_the_other_exporter_defines() {
    let Some(folder) = compat("query-exporter") else { return };
    let server = Postgres::fresh("query_exporter");
    server.run(TABLES);
    wait_for("the statistics", || {
        let row =
            server.client().query_one("SELECT sum(n_tup_ins)::int FROM pg_stat_user_tables", &[]).ok()?;
        (row.get::<_, Option<i32>>(0) == Some(32)).then_some(())
    });
    let page = page(&server, &convert(&folder, "query-exporter", &[]));
    let metrics = metrics(&folder);
    assert!(metrics.len() > 50, "{}", metrics.len());
    for (name, (kind, labels)) in &metrics {
        let (family, series) = match kind.as_str() {
            "counter" => (format!("{name}_total"), format!("{name}_total")),
            "summary" => (name.clone(), format!("{name}_sum")),
            _ => (name.clone(), name.clone()),
        };
        assert_eq!(page.types.get(&family), Some(kind), "{name}");
        let expected: BTreeSet<&str> = labels.iter().map(String::as_str).chain(["target"]).collect();
        for sample in page.series(&series) {
            let found: BTreeSet<&str> = sample.labels.keys().map(String::as_str).collect();
            assert_eq!(found, expected, "{name}");
        }
        assert!(!page.series(&series).is_empty(), "{series}");
    }
    // Statements whose results do not change while nobody uses the tables.
    for statement in ["table", "table-io", "idx", "idx-io", "idx-usage", "seq", "cache"] {
        assert_rows(&page, &server, &read(&folder.join(format!("{statement}.sql"))), &metrics);
    }
}

/// Each value that the statement returns is on the page: NULL is 0, and of a summary each row is one observation.
fn assert_rows(page: &Page, server: &Postgres, sql: &str, metrics: &BTreeMap<String, (String, Vec<String>)>) {
    let sql = format!(
        "SELECT key, value #>> '{{}}', (row_to_json(q)->>'relname'), (row_to_json(q)->>'indexrelname') \
                       FROM ({sql}) AS q, LATERAL json_each(row_to_json(q))"
    );
    let rows = server.client().query(&sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut count = 0;
    for row in &rows {
        let (name, value): (String, Option<String>) = (row.get(0), row.get(1));
        let (relname, indexrelname): (Option<String>, Option<String>) = (row.get(2), row.get(3));
        let Some((kind, labels)) = metrics.get(&name) else { continue };
        // Without labels it has the first row's value.
        if labels.is_empty() && relname.is_some() {
            continue;
        }
        let value: f64 = value.map_or(0.0, |value| value.parse().expect("a number"));
        let columns = [("relname", &relname), ("indexrelname", &indexrelname)];
        let selected: Vec<(&str, &str)> =
            columns.iter().filter_map(|(label, text)| Some((*label, text.as_deref()?))).collect();
        let shown = |suffix: &str| page.value(&format!("{name}{suffix}"), &selected);
        match kind.as_str() {
            "counter" => assert_eq!(shown("_total"), Some(value), "{name}{selected:?}"),
            "summary" => {
                assert_eq!((shown("_sum"), shown("_count")), (Some(value), Some(1.0)), "{name}{selected:?}");
            }
            _ => assert_eq!(shown(""), Some(value), "{name}{selected:?}"),
        }
        count += 1;
    }
    assert!(count > 1, "{sql}");
}

#[test]
fn the_label_of_the_database_stays_where_it_is_to_be_kept() {
    let Some(folder) = compat("query-exporter") else { return };
    let server = Postgres::fresh("query_exporter_labels");
    let page = page(&server, &convert(&folder, "query-exporter", &["--keep-labels"]));
    let sample = page.series("pg_db_numbackends");
    assert!(!sample.is_empty());
    assert!(sample.iter().all(|sample| sample.labels.get("database").map(String::as_str) == Some("pg")));
}

/// Types of its own, and parameters, on a real server: what query-exporter 5 showed of the same statements.
#[test]
fn types_and_parameters_mean_the_same() {
    let source = "databases:\n  pg: {dsn: !env PG_DATABASE_DSN}\n\
        metrics:\n  g: {type: gauge, labels: [a]}\n  c: {type: counter, labels: [a]}\n\
        \x20 h: {type: histogram, labels: [a]}\n  s: {type: summary, labels: [a]}\n  e: {type: enum, states: [open, shut], labels: [a]}\n\
        \x20 n: {type: gauge, labels: [v]}\n\
        queries:\n  q:\n    databases: [pg]\n    metrics: [g, c, h, s, e]\n    sql: >-\n      SELECT 'x' AS a, 1 AS g, 2 AS c, 0.07 AS h, 5 AS s,\n      \
        'open' AS e UNION ALL SELECT 'y', NULL, NULL, NULL, NULL, NULL\n\
        \x20 p:\n    databases: [pg]\n    metrics: [n]\n    parameters: [{v: \"it's\", w: 3}, {v: b, w: 4}]\n    \
        sql: \"SELECT :v AS v, 'a\\\\:b' = :v OR length(:v) > :w AS n\"\n";
    let output = Setup::empty().file("config.yaml", source).args(&["import", "config.yaml"]).output();
    assert_eq!(output.code(), 0, "{}", output.errors());
    let page = page(&Postgres::fresh("query_exporter_types"), &output);
    for (name, labels, value) in [
        ("g", &[("a", "x")][..], 1.0),
        ("g", &[("a", "y")], 0.0),
        ("c_total", &[("a", "x")], 2.0),
        ("c_total", &[("a", "y")], 0.0),
        ("h_bucket", &[("a", "x"), ("le", "0.05")], 0.0),
        ("h_bucket", &[("a", "x"), ("le", "0.075")], 1.0),
        ("h_sum", &[("a", "x")], 0.07),
        ("h_bucket", &[("a", "y"), ("le", "0.005")], 1.0),
        ("s_sum", &[("a", "x")], 5.0),
        ("s_count", &[("a", "y")], 1.0),
        ("e", &[("a", "x"), ("e", "open")], 1.0),
        ("e", &[("a", "x"), ("e", "shut")], 0.0),
        ("n", &[("v", "it's")], 1.0),
        ("n", &[("v", "b")], 0.0),
    ] {
        assert_eq!(page.value(name, labels), Some(value), "{name}{labels:?}");
    }
    assert!(page.series("e").iter().all(|sample| sample.labels.get("a").map(String::as_str) == Some("x")));
}
