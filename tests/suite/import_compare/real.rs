//! The exporters that people replace, beside what `import` makes of the very configuration that they run with: the comparison
//! finds nothing but what the import announced, which is ignored by name, and it finds what is changed on purpose.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::exporter::{Output, Setup};
use crate::import::{import, variables};
use crate::process::{end, folder, free_port, mortal, wait_for};
use crate::servers::Postgres;

/// An exporter of somebody else; ended at drop.
struct OldExporter {
    child: Child,
    url: String,
    /// Its configuration.
    file: PathBuf,
    _folder: tempfile::TempDir,
}

/// What `import` makes of the configuration of an old exporter.
#[derive(Clone)]
struct Imported {
    config: String,
    /// What it says on stderr.
    report: String,
    /// The variable that it wants for the password, and the password.
    password: (String, String),
}

impl Imported {
    /// These words stand in the report.
    fn announces(&self, announced: &[&str]) {
        for words in announced {
            assert!(self.report.contains(words), "{words}\n{}", self.report);
        }
    }

    /// With other text in place of some.
    fn changed(&self, changes: &[(&str, &str)]) -> Self {
        let mut changed = self.clone();
        for (from, to) in changes {
            assert_eq!(changed.config.matches(from).count(), 1, "{from}\n{}", self.config);
            changed.config = changed.config.replace(from, to);
        }
        changed
    }
}

impl OldExporter {
    /// Starts it with a file of configuration; `command` gets the file's path and the port.
    fn start(config: &str, command: impl FnOnce(&str, u16) -> Command) -> Self {
        let (folder, port) = (folder(), free_port());
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config).expect("written");
        let mut command = command(&file.to_string_lossy(), port);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("setpriv is part of util-linux");
        OldExporter { child, url: format!("http://127.0.0.1:{port}/metrics"), file, _folder: folder }
    }

    /// Imports its configuration, of which nothing may be left out.
    fn import(&self, dialect: &str, args: &[&str], shop: &Postgres) -> Imported {
        let output = import(dialect, &[&self.file], args);
        assert_eq!(output.code(), 0, "{}", output.errors());
        let variables = variables(&output);
        let [(variable, _)] = variables.as_slice() else { panic!("{}", output.errors()) };
        Imported {
            config: output.text().to_owned(),
            report: output.errors().to_owned(),
            password: (variable.clone(), shop.password.clone()),
        }
    }

    /// Waits until a page, which a request to another path may be, has this text.
    fn wait_for(&self, path: &str, text: &str) {
        let url = self.url.replace("/metrics", path);
        wait_for(text, || {
            let output = Command::new("curl").args(["-sf", &url]).output().expect("curl runs");
            String::from_utf8_lossy(&output.stdout).contains(text).then_some(())
        });
    }

    fn compare(&self, ours: &Imported, options: &[&str]) -> Output {
        let (variable, password) = &ours.password;
        Setup::new(&ours.config)
            .env(variable, password)
            .args(&["import", "--compare", &self.url])
            .args(options)
            .output()
    }

    /// Nothing differs but what the options leave out.
    fn is_equal(&self, ours: &Imported, options: &[&str], families: &str) {
        let output = self.compare(ours, options);
        assert_eq!(output.code(), 0, "{}{}", output.text(), output.errors());
        assert!(output.text().starts_with(&format!("no difference in {families}\n")), "{}", output.text());
        assert!(!output.text().contains("matches nothing"), "{}", output.text());
    }

    /// These rows, with one blank between their columns, are the table.
    fn differs(&self, ours: &Imported, options: &[&str], rows: &[&str]) {
        let output = self.compare(ours, options);
        assert_eq!(output.code(), 1, "{}{}", output.text(), output.errors());
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let table: Vec<String> =
            output.text().lines().skip(1).take_while(|line| !line.is_empty()).map(words).collect();
        assert_eq!(table, rows, "{}", output.text());
    }
}

impl Drop for OldExporter {
    fn drop(&mut self) {
        let _ = end(&mut self.child);
    }
}

fn shop() -> Postgres {
    let database = Postgres::fresh("compare");
    database.run(
        "CREATE TABLE orders (region text, amount float8);
         INSERT INTO orders VALUES ('north', 1.5), ('north', 7), ('so\"u\\th', 20.25)",
    );
    database
}

fn url(scheme: &str, Postgres { port, password, database }: &Postgres) -> String {
    format!("{scheme}://postgres:{password}@127.0.0.1:{port}/{database}")
}

#[test]
fn postgres_exporter_and_its_import_are_equal() {
    let shop = shop();
    let queries = r#"
shop:
  query: |
    SELECT region, true AS paid, 7 AS shelf, count(*) AS orders, sum(amount)::numeric(9, 3) AS revenue, NULL::int AS gap,
      timestamptz '2026-01-02 03:04:05Z' AS seen, interval '90 seconds' AS wait, interval '90 seconds' AS age,
      'ok' AS health, '17.5' AS words, 'x' AS junk, 5 AS spare
    FROM orders GROUP BY region
  metrics:
    - region: {usage: LABEL, description: Region}
    - paid: {usage: LABEL, description: Paid}
    - shelf: {usage: LABEL, description: Shelf}
    - orders: {usage: GAUGE, description: Orders}
    - revenue: {usage: COUNTER, description: Revenue}
    - gap: {usage: GAUGE, description: Nothing}
    - seen: {usage: GAUGE, description: Seen}
    - wait: {usage: GAUGE, description: Wait}
    - age: {usage: DURATION, description: Age}
    - health: {usage: MAPPEDMETRIC, description: Health, metric_mapping: {ok: 1}}
    - words: {usage: GAUGE, description: A number as text}
    - junk: {usage: DISCARD, description: Junk}
shop_known:
  query: SELECT count(*) AS orders, true AS open FROM orders
  cache_seconds: 30
  master: true
  metrics:
    - orders: {usage: COUNTER, description: Known orders}
    - open: {usage: GAUGE, description: Open}
shop_size:
  query: |
    SELECT region, ARRAY[1, 5, 10]::float8[] AS amount, sum(amount) AS amount_sum, count(*) AS amount_count,
      ARRAY[count(*) FILTER (WHERE amount <= 1), count(*) FILTER (WHERE amount <= 5),
        count(*) FILTER (WHERE amount <= 10)] AS amount_bucket
    FROM orders GROUP BY region
  metrics:
    - region: {usage: LABEL, description: Region}
    - amount: {usage: HISTOGRAM, description: Amounts}
"#;
    let source = format!("{}?sslmode=disable", url("postgresql", &shop));
    let old = OldExporter::start(queries, |file, port| {
        let mut command = mortal(None, "prometheus-postgres-exporter");
        command.args(["--disable-default-metrics", "--disable-settings-metrics"]);
        command
            .arg(format!("--extend.query-path={file}"))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.env("DATA_SOURCE_NAME", &source);
        command
    });
    old.wait_for("/metrics", "shop_orders{");
    let import =
        |args: &[&str]| old.import("postgres_exporter", &[&["--url", &source], args].concat(), &shop);
    let ours = import(&["--keep-labels"]);
    ours.announces(&[
        "`metric_mapping` now has an effect",
        "an interval is its seconds as a value",
        "collectors (`pg_*`) are in the pack",
    ]);
    let options = ["--ignore", "pg_*", "--ignore", "shop_{health,wait,age_milliseconds}"];
    let families = "9 families with 26 series";
    old.is_equal(&ours, &options, families);
    let ours = import(&[]);
    ours.announces(&["the label `server` of all samples is left out"]);
    let without = old.compare(&ours, &options);
    assert!(without.text().contains("\nlabel    shop_orders "), "{}", without.text());
    let options = [&options[..], &["--ignore-label", "server"]].concat();
    old.is_equal(&ours, &options, families);
    let changed = ours.changed(&[
        ("name: shop_gap", "name: shop_hole"),
        ("count(*) AS orders, sum", "1 + count(*) AS orders, sum"),
        ("help: Revenue\n        type: counter\n", "help: Revenue\n"),
    ]);
    let rows = [
        "family shop_gap gauge, 2 series -",
        "family shop_hole - gauge, 2 series",
        "value shop_orders{paid=\"true\",region=\"north\",shelf=\"7\"} 2 3",
        "value shop_orders{paid=\"true\",region=\"so\\\"u\\\\th\",shelf=\"7\"} 1 2",
        "type shop_revenue counter gauge",
    ];
    old.differs(&changed, &options, &rows);
}

#[test]
fn justwatch_sql_exporter_and_its_import_are_equal() {
    let shop = shop();
    let jobs = format!(
        "jobs:
- name: shop
  interval: 1s
  connections: ['{}?sslmode=disable']
  startup_sql: ['SET lock_timeout = 1000']
  queries:
  - name: orders
    help: Orders.
    labels: [region]
    values: [orders, revenue, words]
    query: SELECT region, count(*)::float AS orders, sum(amount) AS revenue, '17.5' AS words FROM orders GROUP BY region;
  - name: stock-pieces
    help: Stock.
    values: [pieces]
    query: SELECT 42.5::numeric AS pieces, NULL::int AS nothing
  - name: flags
    help: Flags.
    values: [open]
    query: SELECT true AS open
  - name: none
    help: None.
    values: [n]
    allow_zero_rows: true
    query: SELECT 1 AS n WHERE false
  - name: last
    help: Last.
    labels: [kind]
    values: [n]
    query_ref: last
queries:
  last: SELECT 'a'::text AS kind, 7 AS n
",
        url("postgres", &shop)
    );
    let old = OldExporter::start(&jobs, |file, port| {
        let mut command = mortal(None, "prometheus-sql-exporter");
        command.args(["-config.file", file, "-web.listen-address", &format!("127.0.0.1:{port}")]);
        command
    });
    for family in ["sql_orders{", "sql_stockpieces{", "sql_last{"] {
        old.wait_for("/metrics", family);
    }
    let ours = old.import("justwatch", &["--keep-labels"], &shop);
    ours.announces(&[
        "a boolean, a time or an interval as a value is a number: there such a sample is left out",
    ]);
    let flags = ["--ignore", "sql_flags"];
    old.is_equal(&ours, &flags, "3 families with 8 series");
    let ours = old.import("justwatch", &[], &shop);
    ours.announces(&[
        "the labels `driver`, `host`, `database`, `user` and `sql_job` of all samples are left out",
        "the label `col` of a query with one value is left out",
    ]);
    let forced = ["driver", "host", "database", "user", "sql_job"];
    let options = forced.iter().flat_map(|label| ["--ignore-label", label]);
    let options: Vec<&str> = flags.into_iter().chain(options).collect();
    old.differs(&ours, &options, &["label sql_last col -", "label sql_stockpieces col -"]);
    let several = [&options[..], &["--ignore-label", "col"]].concat();
    // Without `col` the values of a row are one series.
    old.is_equal(&ours, &several, "3 families with 4 series");
    // The forced labels, one by one.
    let rows = ["label sql_orders sql_job -"];
    let lone = [&options[..options.len() - 2], &["--ignore", "sql_{last,stockpieces}"]].concat();
    old.differs(&ours, &lone, &rows);
    let changed = ours.changed(&[("42.5::numeric", "42"), ("GROUP BY", "WHERE region = 'north' GROUP BY")]);
    let options = [&options[..], &["--ignore", "sql_last"]].concat();
    let rows = [
        "series sql_orders{col=\"orders\",region=\"so\\\"u\\\\th\"} 1 -",
        "series sql_orders{col=\"revenue\",region=\"so\\\"u\\\\th\"} 20.25 -",
        "series sql_orders{col=\"words\",region=\"so\\\"u\\\\th\"} 17.5 -",
        "label sql_stockpieces col -",
        "value sql_stockpieces 42.5 42",
    ];
    old.differs(&changed, &options, &rows);
    let near = [&several[..], &["--ignore", "sql_{orders,last}", "--tolerance", "2%"]].concat();
    old.is_equal(&changed, &near, "1 family with 1 series");
}

#[test]
fn query_exporter_and_its_import_are_equal() {
    let shop = shop();
    let Ok(program) = std::env::var("TEST_QUERY_EXPORTER") else {
        eprintln!("left out: query-exporter could not be installed");
        return;
    };
    let queries = format!(
        "databases:
  shop: {{dsn: '{}', labels: {{env: test}}}}
metrics:
  shop_orders: {{type: gauge, description: Orders., labels: [region, shelf]}}
  shop_sold: {{type: counter, description: Sold., labels: [region, shelf], increment: false}}
  shop_gap: {{type: gauge, description: Nothing.}}
  shop_amounts: {{type: histogram, description: Amounts., buckets: [1, 5, 10]}}
  shop_euros: {{type: summary, description: Euros., labels: [region]}}
  shop_state: {{type: enum, description: State., states: [open, closed]}}
  shop_of_region: {{type: gauge, description: Of a region., labels: [region]}}
queries:
  orders:
    databases: [shop]
    metrics: [shop_orders, shop_sold]
    sql: SELECT region, 7 AS shelf, count(*) AS shop_orders, 10 * count(*) AS shop_sold FROM orders GROUP BY region
  gap: {{databases: [shop], metrics: [shop_gap], sql: 'SELECT NULL::int AS shop_gap'}}
  amounts: {{databases: [shop], metrics: [shop_amounts], sql: SELECT amount AS shop_amounts FROM orders}}
  euros: {{databases: [shop], metrics: [shop_euros], sql: 'SELECT region, amount AS shop_euros FROM orders'}}
  state: {{databases: [shop], metrics: [shop_state], sql: SELECT 'open' AS shop_state}}
  of_region:
    databases: [shop]
    metrics: [shop_of_region]
    sql: SELECT :region AS region, count(*) AS shop_of_region FROM orders WHERE region = :region
    parameters: [{{region: north}}, {{region: south}}]
",
        url("postgresql+psycopg", &shop)
    );
    let old = OldExporter::start(&queries, |file, port| {
        let mut command = mortal(None, &program);
        command.args(["--config", file, "-H", "127.0.0.1", "-p", &port.to_string()]);
        command
    });
    // Not its page of metrics: each request for that adds the rows to its histogram and its summary.
    old.wait_for("/", "query-exporter");
    let ours = old.import("query-exporter", &["--keep-labels"], &shop);
    old.is_equal(&ours, &[], "7 families with 19 series");
    let ours = old.import("query-exporter", &[], &shop);
    ours.announces(&[
        "the rows of each run are what is observed: there the observations of all runs add up",
        "the label `database` of all samples is called `target`",
    ]);
    let options = ["--ignore-label", "database"];
    let again = old.compare(&ours, &options);
    assert!(again.text().contains("value    shop_amounts_count{env=\"test\"}"), "{}", again.text());
    let options = [&options[..], &["--ignore", "shop_{amounts,euros}"]].concat();
    old.is_equal(&ours, &options, "5 families with 9 series");
    let changed = ours.changed(&[
        ("'open' AS", "'closed' AS"),
        ("shop_sold_total", "shop_sold"),
        ("SELECT region, 7", "SELECT upper(region) AS region, 7"),
    ]);
    let rows = [
        "series shop_orders{env=\"test\",region=\"NORTH\",shelf=\"7\"} - 2",
        "series shop_orders{env=\"test\",region=\"SO\\\"U\\\\TH\",shelf=\"7\"} - 1",
        "series shop_orders{env=\"test\",region=\"north\",shelf=\"7\"} 2 -",
        "series shop_orders{env=\"test\",region=\"so\\\"u\\\\th\",shelf=\"7\"} 1 -",
        "family shop_sold - unknown, 2 series",
        "family shop_sold_total counter, 2 series -",
        "value shop_state{env=\"test\",shop_state=\"closed\"} 0 1",
        "value shop_state{env=\"test\",shop_state=\"open\"} 1 0",
    ];
    old.differs(&changed, &options, &rows);
}
