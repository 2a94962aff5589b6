//! postgres_exporter's custom queries, on a real server as well: each family, type, label and value is what that exporter makes
//! of the rows.

use std::collections::BTreeMap;

use postgres::SimpleQueryMessage;
use serde_yaml::Value;

use super::shared::{assert_shared, compat};
use super::{assert_strict, import, read};
use crate::checker::checked;
use crate::exporter::{Output, Setup};
use crate::process::wait_for;
use crate::servers::Postgres;

#[test]
fn published_queries_are_converted() {
    assert_shared("postgres_exporter", "postgres_exporter-queries", &["queries.yaml"], &[], "postgres");
    let url = ["--url", "postgres://exporter:secret@db.example/shop"];
    assert_shared("postgres_exporter", "postgres_exporter-ok", &["user_queries_ok.yaml"], &url, "postgres");
}

/// Percona's mysqld_exporter has custom queries of the same form.
#[test]
fn statements_of_mysql_are_for_mysql() {
    let output = import("auto", &[&super::folder().join("postgres_exporter/mysql.yaml")], &[]);
    assert_eq!(output.code(), 0, "{}", output.errors());
    assert!(output.text().contains("\ndriver: mysql\n"), "{}", output.text());
    assert!(output.text().contains("value_column: Sql_delay\n"), "{}", output.text());
}

/// The exporter that asks PgBouncer's console has a file of this form, too.
#[test]
fn statements_of_the_console_are_for_pgbouncer() {
    let source = "pools:\n  query: SHOW POOLS;\n  metrics:\n  - database: {usage: LABEL}\n  - cl_waiting: {usage: GAUGE}\n";
    let setup = Setup::empty().file("q.yaml", source).args(&["import", "q.yaml"]);
    let output = setup.output();
    assert_eq!(output.code(), 0, "{}", output.errors());
    assert!(output.text().starts_with("driver: pgbouncer\n"), "{}", output.text());
    assert_strict(&output, "pgbouncer", "the console");
    // Statements that read tables are for the database, whatever else is asked.
    let source = format!(
        "{source}size:\n  query: SELECT count(*) AS n FROM pg_class\n  metrics:\n  - n: {{usage: GAUGE}}\n"
    );
    let output = Setup::empty().file("q.yaml", &source).args(&["import", "q.yaml"]).output();
    assert!(output.text().starts_with("driver: postgres\n"), "{}", output.text());
}

/// Converts a file for a database, and runs one scrape.
fn scraped(file: &std::path::Path, database: &Postgres) -> Output {
    let Postgres { port, password, database } = database;
    let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}?sslmode=disable");
    let output = import("postgres_exporter", &[file], &["--url", &url]);
    assert_eq!(output.code(), 0, "{}", output.errors());
    let variable = format!("{}_PASSWORD", database.to_uppercase());
    Setup::new(output.text()).env(&variable, password).once()
}

/// A sample: its name, its labels without `target`, and its value.
type Samples = BTreeMap<(String, Vec<(String, String)>), f64>;

/// What postgres_exporter makes of the rows of one namespace, without histograms.
fn expected(database: &Postgres, name: &str, namespace: &Value) -> (Samples, BTreeMap<String, &'static str>) {
    let columns: Vec<(String, String)> = namespace["metrics"]
        .as_sequence()
        .unwrap()
        .iter()
        .flat_map(|column| column.as_mapping().unwrap())
        .map(|(column, options)| {
            (column.as_str().unwrap().to_owned(), options["usage"].as_str().unwrap().to_owned())
        })
        .collect();
    let (mut samples, mut types) = (Samples::new(), BTreeMap::new());
    let rows = database.client().simple_query(namespace["query"].as_str().unwrap()).unwrap();
    for row in rows {
        let SimpleQueryMessage::Row(row) = row else { continue };
        let of_usage = |wanted: &'static str| columns.iter().filter(move |(_, usage)| usage == wanted);
        let mut labels: Vec<(String, String)> = of_usage("LABEL")
            .map(|(column, _)| (column.clone(), row.get(column.as_str()).unwrap_or_default().to_owned()))
            .collect();
        labels.sort();
        for (column, usage) in &columns {
            let kind = match usage.as_str() {
                "GAUGE" => "gauge",
                "COUNTER" => "counter",
                _ => continue,
            };
            let family = format!("{name}_{column}");
            let value = match row.get(column.as_str()) {
                None if kind == "counter" => continue,
                None => f64::NAN,
                // A timestamp is compared by its presence: the text of the server has a zone.
                Some(text) => text.parse().unwrap_or(f64::INFINITY),
            };
            types.insert(family.clone(), kind);
            samples.insert((family, labels.clone()), value);
        }
    }
    (samples, types)
}

fn assert_same(database: &Postgres, file: &std::path::Path) {
    let output = scraped(file, database);
    // The published histogram counts sessions of every state in its buckets, and idle ones in its count: beside a session at
    // work it is not a histogram.
    let is_unexpected = |line: &&str| line.contains(" fails: ") && !line.contains("query pg_process_idle ");
    let unexpected: Vec<&str> = output.errors().lines().filter(is_unexpected).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}\n{}", output.text());
    let page = checked(output.text());
    let document: Value = serde_yaml::from_str(&read(file)).unwrap();
    let mut count = 0;
    for (name, namespace) in document.as_mapping().unwrap() {
        let (samples, types) = expected(database, name.as_str().unwrap(), namespace);
        for (family, kind) in types {
            let line = format!("# TYPE {family} {kind}\n");
            assert!(output.text().contains(&line), "{line}{}", output.text());
        }
        for ((family, labels), expected) in samples {
            count += 1;
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
            let found = page.value(&family, &labels);
            let is_same = match (found, expected) {
                (Some(found), expected) if expected.is_nan() => found.is_nan(),
                (Some(found), f64::INFINITY) => found.is_finite(),
                (Some(found), expected) => (found - expected).abs() <= 1e-9 * expected.abs(),
                (None, _) => false,
            };
            assert!(is_same, "{family} {labels:?}: {found:?} instead of {expected}\n{}", output.text());
        }
    }
    assert!(count > 0);
}

#[test]
fn the_families_types_labels_and_values_are_those_of_postgres_exporter() {
    let database = Postgres::fresh("import");
    database.run(
        "CREATE TABLE orders (state text, amount numeric, taken timestamptz);
         INSERT INTO orders VALUES ('open', 1.5, now()), ('open', 2, now()), ('paid', NULL, now()), (NULL, 7, now());",
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yaml");
    let queries = "shop_orders:\n  query: SELECT state, count(*) AS n, sum(amount) AS amount, sum(amount) AS level, '12.5' AS text, true AS known FROM orders GROUP BY state\n  metrics:\n    - state: {usage: LABEL, description: s}\n    - n: {usage: GAUGE, description: n}\n    - amount: {usage: COUNTER, description: a}\n    - level: {usage: GAUGE, description: l}\n    - text: {usage: GAUGE, description: t}\n";
    std::fs::write(&file, queries).unwrap();
    assert_same(&database, &file);
}

#[test]
fn published_queries_run_with_their_families_and_values() {
    let Some(compat) = compat("postgres_exporter") else { return };
    let database = Postgres::fresh("import");
    database.run(
        "CREATE TABLE orders (a int); INSERT INTO orders SELECT generate_series(1, 10); ANALYZE orders;",
    );
    // The server gathers statistics a moment later.
    let mut client = database.client();
    wait_for("statistics of the table", || {
        let row = client.query_opt("SELECT 1 FROM pg_stat_user_tables WHERE n_live_tup = 10", &[]).unwrap();
        row.map(|_| ())
    });
    assert_same(&database, &compat.join("queries.yaml"));
}

#[test]
fn a_histogram_of_arrays_is_the_same_histogram() {
    let database = Postgres::fresh("import");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yaml");
    let queries = "shop_wait:\n  query: |\n    SELECT 'north' AS region, ARRAY[1, 5] AS seconds, ARRAY[2, 4] AS seconds_bucket,\n      17.5 AS seconds_sum, 5 AS seconds_count -- all;\n  metrics:\n    - region: {usage: LABEL, description: r}\n    - seconds: {usage: HISTOGRAM, description: s}\n";
    std::fs::write(&file, queries).unwrap();
    let output = scraped(&file, &database);
    assert_eq!(output.code(), 0, "{}\n{}", output.errors(), output.text());
    let page = checked(output.text());
    let region = ("region", "north");
    for (name, labels, expected) in [
        ("shop_wait_seconds_bucket", vec![region, ("le", "1.0")], 2.0),
        ("shop_wait_seconds_bucket", vec![region, ("le", "5.0")], 4.0),
        ("shop_wait_seconds_bucket", vec![region, ("le", "+Inf")], 5.0),
        ("shop_wait_seconds_sum", vec![region], 17.5),
        ("shop_wait_seconds_count", vec![region], 5.0),
    ] {
        assert_eq!(page.value(name, &labels), Some(expected), "{name} {labels:?}\n{}", output.text());
    }
}

/// CloudNativePG's predicate, mapped words, durations and databases.
#[test]
fn cloud_native_pg_runs_in_the_databases_that_it_names() {
    let (database, other) = (Postgres::fresh("import"), Postgres::fresh("import_other"));
    database
        .run("CREATE TABLE orders (region text, state text); INSERT INTO orders VALUES ('north', 'paid');");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yaml");
    let queries = read(&super::folder().join("postgres_exporter/cloud-native-pg.yaml"));
    let queries = queries.replace("[\"*\", template1]", &format!("[\"import*\", {}]", other.database));
    std::fs::write(&file, queries).unwrap();
    let output = scraped(&file, &database);
    assert_eq!(output.code(), 0, "{}\n{}", output.errors(), output.text());
    let page = checked(output.text());
    let target = ("target", database.database.as_str());
    assert_eq!(page.value("cnpg_orders_waiting", &[target, ("region", "north")]), Some(1.0));
    assert_eq!(page.value("cnpg_orders_state", &[target, ("region", "north")]), Some(1.0));
    assert_eq!(
        page.value("cnpg_orders_oldest_milliseconds", &[target, ("region", "north")]),
        Some(5_400_000.0)
    );
    let child = format!("{}/{}", database.database, other.database);
    let labels = [("target", child.as_str()), ("datname", other.database.as_str())];
    assert!(page.value("cnpg_tables_tables", &labels).is_some(), "{}", output.text());
}
