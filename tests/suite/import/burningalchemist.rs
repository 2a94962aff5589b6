//! sql_exporter's collectors and targets: the published files, and both kinds of output on a real server.
//!
//! What is expected on a page is computed from the source by its own rules, with another client and another YAML reader.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use postgres::SimpleQueryMessage;
use serde_yaml::Value;

use super::shared::{assert_shared, compat};
use super::{compare, folder, import, read, shown, variables};
use crate::checker::{Page, checked};
use crate::exporter::{Output, Setup};
use crate::servers::Postgres;

const DIALECT: &str = "burningalchemist";

#[test]
fn published_files_are_converted() {
    let postgres = ["postgres/sql_exporter.yml", "postgres/postgres_database.yml"];
    assert_shared(DIALECT, "burningalchemist-postgres", &postgres, &[], "postgres");
    let pgmonitor = ["pgmonitor/sql_exporter.yml", "pgmonitor/crunchy_global_collector.yml"];
    assert_shared(DIALECT, "burningalchemist-pgmonitor", &pgmonitor, &[], "postgres");
    assert_shared(DIALECT, "burningalchemist-pgmonitor-collector", &pgmonitor[1..], &[], "postgres");
}

#[test]
fn published_files_for_sql_server_have_a_line_for_each_query() {
    let Some(compat) = compat(DIALECT) else { return };
    for (file, queries) in [("sql_exporter.yml", 3), ("mssql_standard.collector.yml", 14)] {
        let output = import(DIALECT, &[&compat.join(file)], &[]);
        assert_eq!((output.code(), output.text()), (1, ""), "{file}: {}", output.errors());
        let told = |line: &&str| line.starts_with("left out: ") && line.contains(" needs SQL Server, ");
        let lines: Vec<&str> = output.errors().lines().filter(told).collect();
        let of_queries = lines.iter().filter(|line| line.contains(": the query ")).count();
        assert_eq!(of_queries, queries, "{file}: {}", output.errors());
        let name = format!("burningalchemist-{}", file.split('.').next().unwrap_or_default());
        let snapshot = folder().join("shared").join(format!("{name}.expected"));
        compare(&snapshot, &shown(&output)).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

/// A source whose targets are on the private server.
struct Source {
    /// Names of files and texts, the main one first.
    files: Vec<(String, String)>,
    /// Of the collectors.
    collectors: Vec<Value>,
}

impl Source {
    fn new(main: String, collectors: &[(&str, String)]) -> Source {
        let parsed = collectors.iter().map(|(_, text)| serde_yaml::from_str(text).expect("YAML")).collect();
        let collectors = collectors.iter().map(|(name, text)| ((*name).to_owned(), text.clone()));
        let files = std::iter::once(("sql_exporter.yml".to_owned(), main)).chain(collectors).collect();
        Source { files, collectors: parsed }
    }

    fn import(&self, args: &[&str]) -> (Setup, Output) {
        let setup = self.files.iter().fold(Setup::empty(), |setup, (name, text)| setup.file(name, text));
        let setup = setup.args(&["import", "--from", DIALECT, "sql_exporter.yml"]).args(args);
        let output = setup.output();
        (setup, output)
    }
}

/// Samples by name and labels, and the types of their families.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
    types: BTreeMap<String, String>,
}

impl Expected {
    /// What sql_exporter makes of a collector's rows: one sample for each value that is not NULL.
    fn of(collector: &Value, server: &Postgres) -> Expected {
        let mut expected = Expected::default();
        let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
        let list = |value: &Value| -> Vec<String> {
            let items = value.as_sequence().into_iter().flatten();
            items.map(|item| item.as_str().expect("a text").to_owned()).collect()
        };
        for metric in collector["metrics"].as_sequence().expect("metrics") {
            let name = text(metric, "metric_name").expect("a name");
            let sql = text(metric, "query").unwrap_or_else(|| {
                let queries = collector["queries"].as_sequence().expect("queries");
                let named = queries.iter().find(|query| query["query_name"] == metric["query_ref"]);
                text(named.expect("the query"), "query").expect("its text")
            });
            let kind = text(metric, "type").expect("a type").to_lowercase();
            let mut fixed = BTreeMap::new();
            for (key, value) in metric["static_labels"].as_mapping().into_iter().flatten() {
                fixed.insert(key.as_str().unwrap().to_owned(), value.as_str().unwrap().to_owned());
            }
            for row in rows(server, &sql) {
                let mut labels = fixed.clone();
                for label in list(&metric["key_labels"]) {
                    labels.insert(label.clone(), row[&label].clone().unwrap_or_default());
                }
                let values = list(&metric["values"]).into_iter().map(|column| {
                    (column.clone(), row[&column].as_ref().map(|text| text.parse::<f64>().expect("a number")))
                });
                let fixed = metric["static_value"].as_f64().map(|value| (String::new(), Some(value)));
                for (column, value) in values.chain(fixed).collect::<Vec<_>>() {
                    let Some(value) = value else { continue };
                    let mut labels = labels.clone();
                    if let Some(label) = text(metric, "value_label") {
                        labels.insert(label, column);
                    }
                    labels.retain(|_, value| !value.is_empty());
                    expected.types.insert(name.clone(), kind.clone());
                    let twice = expected.samples.insert((name.clone(), labels), value);
                    assert!(twice.is_none(), "{name} has a sample twice");
                }
            }
        }
        expected
    }

    /// What a page shows for a target, without its label and without metrics of the exporter's own.
    fn shown(page: &Page, target: &str, own_labels: &[&str]) -> Expected {
        let mut expected = Expected::default();
        for sample in page.samples.iter().filter(|sample| !is_own(&sample.name)) {
            let mut labels = sample.labels.clone();
            if labels.remove("target").as_deref() != Some(target) {
                continue;
            }
            labels.retain(|name, value| !own_labels.contains(&name.as_str()) && !value.is_empty());
            expected.types.insert(sample.name.clone(), page.types[&sample.name].clone());
            expected.samples.insert((sample.name.clone(), labels), sample.value);
        }
        expected
    }
}

fn is_own(name: &str) -> bool {
    ["sql_exporter_", "process_"].iter().any(|prefix| name.starts_with(prefix))
}

/// The rows of a statement as the server writes them.
fn rows(server: &Postgres, sql: &str) -> Vec<BTreeMap<String, Option<String>>> {
    let messages = server.client().simple_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let columns = row.columns().iter().enumerate();
            Some(
                columns
                    .map(|(at, column)| (column.name().to_owned(), row.get(at).map(str::to_owned)))
                    .collect(),
            )
        }
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// The page of one scrape of what came out.
fn page(output: &Output, server: &Postgres) -> Page {
    let setup = Setup::new(output.text());
    let setup = variables(output).iter().fold(setup, |setup, (name, _)| setup.env(name, &server.password));
    let scraped = setup.once();
    assert_eq!(scraped.code(), 0, "{}\n{}", scraped.errors(), output.text());
    checked(scraped.text())
}

fn url(server: &Postgres) -> String {
    let Postgres { port, password, database } = server;
    format!("pg://postgres:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
}

/// A table with rows and some statistics of it.
fn shop(module: &str) -> Postgres {
    let server = Postgres::fresh(module);
    server.run(
        "CREATE TABLE orders (region text, amount numeric, paid boolean, created_at timestamptz);
         INSERT INTO orders VALUES ('north', 10.5, true, '2026-01-02 03:04:05Z'), ('north', 3, false, '2026-01-01 00:00Z'),
             ('south', NULL, false, '2026-01-01 00:00Z'), (NULL, 4, true, '2026-01-01 00:00Z');
         ANALYZE orders;",
    );
    server
}

const ORDERS: &str = "collector_name: shop
metrics:
  - metric_name: shop_orders
    type: gauge
    help: Orders by region and state.
    key_labels: [region]
    static_labels: {source: orders}
    value_label: state
    values: [open, paid]
    query_ref: orders
  - metric_name: shop_revenue_euros_total
    type: Counter
    help: Revenue.
    key_labels: [region]
    values: [revenue]
    query_ref: orders
  - metric_name: shop_region
    type: gauge
    help: The regions.
    key_labels: [region]
    value_label: nothing
    static_value: 1
    query: SELECT DISTINCT region FROM orders
queries:
  - query_name: orders
    query: |
      SELECT region, count(*) FILTER (WHERE NOT paid) AS open, count(*) FILTER (WHERE paid) AS paid, sum(amount) AS revenue
      FROM orders GROUP BY region
";

#[test]
fn a_page_has_the_families_labels_and_values_that_sql_exporter_defines() {
    let server = shop("import_ba");
    let main = format!(
        "jobs:\n  - job_name: shops\n    collectors: [s*]\n    static_configs:\n      - targets: {{one: '{}'}}\n        labels: {{env: test}}\n\
         collector_files: ['*.collector.yml']\n",
        url(&server)
    );
    let source = Source::new(main, &[("shop.collector.yml", ORDERS.to_owned())]);
    let expected = Expected::of(&source.collectors[0], &server);
    assert_eq!(expected.samples.len(), 11, "{expected:?}");

    let (_, output) = source.import(&[]);
    assert_eq!(output.code(), 0, "{}", output.errors());
    let page = page(&output, &server);
    assert!(page.samples.iter().all(|sample| is_own(&sample.name) || sample.labels["env"] == "test"));
    assert_eq!(Expected::shown(&page, "one", &["env"]), expected);

    let (_, kept) = source.import(&["--keep-labels"]);
    let page = self::page(&kept, &server);
    assert!(page.samples.iter().all(|sample| is_own(&sample.name) || sample.labels["job"] == "shops"));
    assert_eq!(Expected::shown(&page, "one", &["env", "job"]), expected);
}

#[test]
fn a_folder_has_a_file_for_each_collector_and_runs_them_where_the_source_does() {
    let (one, two) = (shop("import_ba_one"), shop("import_ba_two"));
    let main = format!(
        "jobs:\n  - job_name: both\n    collectors: [shop]\n    static_configs:\n      - targets: {{one: '{}', two: '{}'}}\n\
         \x20 - job_name: second\n    collectors: [size]\n    static_configs:\n      - targets: {{two: '{}'}}\n\
         collector_files: [shop.collector.yml, size.yml]\n",
        url(&one),
        url(&two),
        url(&two)
    );
    let size = "collector_name: size\nmetrics:\n  - metric_name: orders_count\n    type: gauge\n    help: Orders.\n    values: [n]\n    query: SELECT count(*) AS n FROM orders\n";
    let source =
        Source::new(main, &[("shop.collector.yml", ORDERS.to_owned()), ("size.yml", size.to_owned())]);
    let (setup, output) = source.import(&["-o", "out/"]);
    assert_eq!((output.code(), output.text()), (0, ""), "{}", output.errors());
    let out = setup.path().join("out");
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names(&out), ["collectors", "sql-exporter.yaml"].map(str::to_owned).into());
    assert_eq!(names(&out.join("collectors")), ["shop.yaml", "size.yaml"].map(str::to_owned).into());

    let files = ["collectors/shop.yaml", "collectors/size.yaml"];
    let run = |args: &[&str]| {
        let setup = files.iter().fold(Setup::new(&read(&out.join("sql-exporter.yaml"))), |setup, file| {
            setup.file(file, &read(&out.join(file)))
        });
        let setup = variables(&output).iter().fold(setup, |setup, (name, _)| setup.env(name, &one.password));
        setup.args(args).output()
    };
    let strict = run(&["check", "--strict"]);
    assert_eq!(strict.code(), 0, "{}{}", strict.text(), strict.errors());
    let scraped = run(&["--once"]);
    assert_eq!(scraped.code(), 0, "{}", scraped.errors());
    let page = checked(scraped.text());
    let mut of_two = Expected::of(&source.collectors[0], &two);
    assert_eq!(Expected::shown(&page, "one", &[]), of_two);
    let size = Expected::of(&source.collectors[1], &two);
    of_two.samples.extend(size.samples);
    of_two.types.extend(size.types);
    assert_eq!(Expected::shown(&page, "two", &[]), of_two);
}

/// What two readings before and after a scrape agree on is on the page; what they do not agree on changes by itself.
fn assert_between(before: &Expected, shown: &Expected, after: &Expected, volatile: &[&str]) {
    let is_steady = |name: &str| !volatile.contains(&name);
    let types = |expected: &Expected| -> BTreeMap<String, String> { expected.types.clone() };
    assert_eq!(types(shown), types(after));
    let steady: Vec<_> = before
        .samples
        .iter()
        .filter(|(series, value)| is_steady(&series.0) && after.samples.get(*series) == Some(value))
        .collect();
    let wrong: Vec<_> =
        steady.iter().filter(|(series, value)| shown.samples.get(*series) != Some(*value)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{shown:#?}");
    assert!(steady.len() * 10 >= before.samples.len() * 8, "{} of {}", steady.len(), before.samples.len());
    let series = |expected: &Expected| expected.samples.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(series(shown), series(after));
}

#[test]
fn the_published_collector_for_postgresql_gives_what_sql_exporter_defines() {
    let Some(compat) = compat(DIALECT) else { return };
    let server = shop("import_ba_published");
    server.run("CREATE UNIQUE INDEX orders_once ON orders (region, amount); SELECT count(*) FROM orders");
    let main = read(&compat.join("postgres/sql_exporter.yml"));
    let address = url(&server);
    let main = ["foo", "bar"].iter().fold(main, |main, name| {
        main.replace(&format!("postgresql://postgres@/var/run/postgresql/{name}?sslmode=disable"), &address)
    });
    let main = main.replace("postgresql://postgres@/var/run/postgresql?sslmode=disable", &address);
    let source =
        Source::new(main, &[("postgres_database.yml", read(&compat.join("postgres/postgres_database.yml")))]);
    let (_, output) = source.import(&[]);
    // The collector `server` is not among the files.
    assert_eq!(output.code(), 1, "{}", output.errors());
    let before = Expected::of(&source.collectors[0], &server);
    let page = page(&output, &server);
    let after = Expected::of(&source.collectors[0], &server);
    let of_sessions = ["pg_db_stat_activity_transactions", "pg_db_stat_activity_oldest_timestamp_seconds"];
    for target in ["foo", "bar"] {
        assert_between(&before, &Expected::shown(&page, target, &[]), &after, &of_sessions);
    }
}

/// Tables in the place of pgMonitor's extension: for each table that a query reads, the columns that metrics use.
fn pgmonitor_tables(collector: &Value) -> String {
    let mut sql = "CREATE SCHEMA pgmonitor_ext;\n".to_owned();
    let metrics = collector["metrics"].as_sequence().expect("metrics");
    for query in collector["queries"].as_sequence().expect("queries") {
        let text = query["query"].as_str().expect("text");
        let Some((_, after)) = text.split_once("pgmonitor_ext.") else { continue };
        let name = after.split(|c: char| !c.is_alphanumeric() && c != '_').next().expect("a name");
        if after[name.len()..].starts_with('(') {
            let (arguments, result) = if name == "sequence_exhaustion" {
                ("integer, OUT count bigint", "SELECT 7")
            } else {
                ("", "SELECT 0")
            };
            let returns = if arguments.is_empty() { "RETURNS integer" } else { "" };
            sql += &format!(
                "CREATE FUNCTION pgmonitor_ext.{name}({arguments}) {returns} LANGUAGE sql AS '{result}';\n"
            );
            continue;
        }
        let mut columns: BTreeMap<&str, &str> = BTreeMap::new();
        for metric in metrics.iter().filter(|metric| metric["query_ref"] == query["query_name"]) {
            for label in metric["key_labels"].as_sequence().into_iter().flatten() {
                columns.insert(label.as_str().expect("text"), "text");
            }
            for value in metric["values"].as_sequence().expect("values") {
                columns.insert(value.as_str().expect("text"), "numeric");
            }
        }
        let typed: Vec<String> = columns.iter().map(|(name, kind)| format!("\"{name}\" {kind}")).collect();
        sql += &format!("CREATE TABLE pgmonitor_ext.{name} ({});\n", typed.join(", "));
        let has_labels = columns.values().any(|kind| *kind == "text");
        for row in 0..if has_labels { 2 } else { 1 } {
            let values = columns.values().enumerate().map(|(at, kind)| match (*kind, (at + row) % 5) {
                ("text", _) => format!("'{row}-{at}'"),
                (_, 4) => "NULL".to_owned(),
                _ => format!("{row}{at}.25"),
            });
            let values: Vec<String> = values.collect();
            sql += &format!("INSERT INTO pgmonitor_ext.{name} VALUES ({});\n", values.join(", "));
        }
    }
    sql
}

#[test]
fn pgmonitors_collector_gives_what_sql_exporter_defines() {
    let Some(compat) = compat(DIALECT) else { return };
    let collector = read(&compat.join("pgmonitor/crunchy_global_collector.yml"));
    let server = Postgres::fresh("import_pgmonitor");
    server.run(&pgmonitor_tables(&serde_yaml::from_str(&collector).expect("YAML")));
    let main = read(&compat.join("pgmonitor/sql_exporter.yml"));
    let main = main.replace("pg://ccp_monitoring@127.0.0.1:5432/postgres?sslmode=disable", &url(&server));
    let source = Source::new(main, &[("crunchy_global_collector.yml", collector)]);
    let (_, output) = source.import(&[]);
    assert_eq!(output.code(), 1, "{}", output.errors());
    let expected = Expected::of(&source.collectors[0], &server);
    assert!(expected.samples.len() > 60, "{}", expected.samples.len());
    let shown = Expected::shown(&page(&output, &server), "pg1", &[]);
    assert_between(&expected, &shown, &expected, &["ccp_autovacuum_workers_count"]);
}

#[test]
fn files_that_a_source_names_are_read_from_its_own_folder() {
    let main = "target: {name: shop, data_source_name: 'pg://db/shop?sslmode=disable', collectors: [a, b]}\n\
                collector_files: ['*.collector.yml', /etc/elsewhere/b.yml, /etc/elsewhere/c.yml]\n";
    let collector = |name: &str| {
        format!(
            "collector_name: {name}\nmetrics: [{{metric_name: {name}, type: gauge, help: x, values: [n], query: SELECT 1 AS n}}]\n"
        )
    };
    let collectors = [("a.collector.yml", collector("a")), ("b.yml", collector("b"))];
    let (_, output) = Source::new(main.to_owned(), &collectors).import(&[]);
    assert_eq!(output.code(), 1);
    for name in ["name: a\n", "name: b\n"] {
        assert!(output.text().contains(name), "{}", output.text());
    }
    let missing = "sql_exporter.yml:2:1: collector_files: there is no file /etc/elsewhere/c.yml";
    assert!(output.errors().contains(missing), "{}", output.errors());
    // Named on the command line as well, a file counts once.
    let (_, twice) = Source::new(main.to_owned(), &collectors).import(&["a.collector.yml", "b.yml"]);
    assert_eq!(twice.text(), output.text(), "{}", twice.errors());
}

/// The path is that of a container into which the folder is mounted.
#[test]
fn files_of_a_mounted_folder_are_read_beside_the_main_file() {
    let main = "target: {name: shop, data_source_name: 'pg://db/shop?sslmode=disable', collectors: [a]}\n\
                collector_files: [/etc/sql_exporter/collectors/*.collector.yml]\n";
    let collector = "collector_name: a\nmetrics: [{metric_name: a, type: gauge, help: x, values: [n], query: SELECT 1 AS n}]\n";
    let setup = Setup::empty().file("main.yml", main).file("collectors/a.collector.yml", collector);
    let output = setup.args(&["import", "main.yml"]).output();
    assert_eq!(output.code(), 0, "{}", output.errors());
    assert!(output.text().contains("name: a\n"), "{}", output.text());
}

#[test]
fn peekjef72s_target_files_are_read() {
    let main = "targets: [{targets_files: ['targets/*.yml']}]\nauth_configs: {reader: {user: exporter, password: s3cr3t}}\n\
                collectors:\n  - collector_name: up\n    metrics: [{metric_name: x, help: x, values: [n], query: 'SELECT 1::int AS n'}]\n";
    let target = |name: &str| {
        format!(
            "name: {name}\ndata_source_name: postgres://{name}.example/shop?sslmode=disable\nauth_name: reader\ncollectors: [~^u]\n"
        )
    };
    let setup = Setup::empty().file("main.yml", main).file("targets/fra.yml", &target("fra"));
    let output = setup.file("targets/ams.yml", &target("ams")).args(&["import", "main.yml"]).output();
    assert_eq!(output.code(), 0, "{}", output.errors());
    for text in ["  ams:", "  fra:", "postgres://exporter@fra.example/shop", "${FRA_PASSWORD}"] {
        assert!(output.text().contains(text), "{text}: {}", output.text());
    }
    assert!(!output.text().contains("s3cr3t") && !output.errors().contains("s3cr3t"));
}
