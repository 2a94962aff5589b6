//! The exporters that people replace, beside ours with the same queries written by hand: the comparison finds nothing but
//! what is ignored by name, and it finds what is changed on purpose.

use std::process::{Child, Command, Stdio};

use crate::exporter::{Output, Setup};
use crate::process::{end, folder, free_port, mortal, wait_for};
use crate::servers::Postgres;

/// An exporter of somebody else; ended at drop.
struct OldExporter {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
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
        OldExporter { child, url: format!("http://127.0.0.1:{port}/metrics"), _folder: folder }
    }

    /// Waits until a page, which a request to another path may be, has this text.
    fn wait_for(&self, path: &str, text: &str) {
        let url = self.url.replace("/metrics", path);
        wait_for(text, || {
            let output = Command::new("curl").args(["-sf", &url]).output().expect("curl runs");
            String::from_utf8_lossy(&output.stdout).contains(text).then_some(())
        });
    }

    fn compare(&self, config: &str, options: &[&str]) -> Output {
        Setup::new(config).args(&["import", "--compare", &self.url]).args(options).output()
    }

    /// Nothing differs but what the options leave out.
    fn is_equal(&self, config: &str, options: &[&str], families: &str) {
        let output = self.compare(config, options);
        assert_eq!(output.code(), 0, "{}{}", output.text(), output.errors());
        assert!(output.text().starts_with(&format!("no difference in {families}\n")), "{}", output.text());
        assert!(!output.text().contains("matches nothing"), "{}", output.text());
    }

    /// These rows, with one blank between their columns, are the table.
    fn differs(&self, config: &str, options: &[&str], rows: &[&str]) {
        let output = self.compare(config, options);
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
fn postgres_exporter_and_ours_are_equal() {
    let shop = shop();
    let queries = "
shop:
  query: SELECT region, count(*) AS orders, sum(amount)::numeric(9, 3) AS revenue, NULL::int AS gap, timestamptz '2026-01-02 03:04:05Z' AS seen FROM orders GROUP BY region
  metrics:
    - region: {usage: LABEL, description: Region}
    - orders: {usage: GAUGE, description: Orders}
    - revenue: {usage: COUNTER, description: Revenue}
    - gap: {usage: GAUGE, description: Nothing}
    - seen: {usage: GAUGE, description: Seen}
";
    let source = format!("{}?sslmode=disable", url("postgresql", &shop));
    let old = OldExporter::start(queries, |file, port| {
        let mut command = mortal(None, "prometheus-postgres-exporter");
        command.args(["--disable-default-metrics", "--disable-settings-metrics"]);
        command
            .arg(format!("--extend.query-path={file}"))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.env("DATA_SOURCE_NAME", source);
        command
    });
    old.wait_for("/metrics", "shop_orders{");
    let config = format!(
        "databases: {{shop: {}}}
queries:
  - name: shop
    sql: SELECT region, count(*) AS orders, sum(amount)::numeric(9, 3) AS revenue, NULL::int AS gap, timestamptz '2026-01-02 03:04:05Z' AS seen FROM orders GROUP BY region
    metrics:
      - {{name: shop_orders, help: Orders, labels: [region], value_column: orders}}
      - {{name: shop_revenue, help: Revenue, type: counter, labels: [region], value_column: revenue}}
      - {{name: shop_gap, help: Nothing, labels: [region], value_column: gap, 'null': nan}}
      - {{name: shop_seen, help: Seen, labels: [region], value_column: seen}}
",
        shop.entry()
    );
    // What its built-in collectors show beside the file, and the label that it adds.
    let options = ["--ignore", "pg_{database_size_bytes,stat_bgwriter_*,up}", "--ignore-label", "server"];
    old.is_equal(&config, &options, "4 families with 8 series");
    let changed = config
        .replace("name: shop_gap", "name: shop_hole")
        .replace("count(*) AS orders", "1 + count(*) AS orders")
        .replace("type: counter, ", "");
    let rows = [
        "family shop_gap gauge, 2 series -",
        "family shop_hole - gauge, 2 series",
        "value shop_orders{region=\"north\"} 2 3",
        "value shop_orders{region=\"so\\\"u\\\\th\"} 1 2",
        "type shop_revenue counter gauge",
    ];
    old.differs(&changed, &options, &rows);
    old.is_equal(
        &changed
            .replace("1 + count", "count")
            .replace("shop_hole", "shop_gap")
            .replace("Revenue, ", "Revenue, type: counter, "),
        &options,
        "4 families with 8 series",
    );
    let without = old.compare(&config, &[]);
    assert!(without.text().contains("\nlabel    shop_orders "), "{}", without.text());
    assert!(without.text().contains("pg_exporter_*"), "{}", without.text());
}

#[test]
fn justwatch_sql_exporter_and_ours_are_equal() {
    let shop = shop();
    let jobs = format!(
        "jobs:
- name: shop
  interval: 1s
  connections: ['{}?sslmode=disable']
  queries:
  - name: orders
    help: Orders.
    labels: [region]
    values: [orders, revenue]
    query: SELECT region, count(*)::float AS orders, sum(amount) AS revenue FROM orders GROUP BY region
  - name: stock
    help: Stock.
    values: [pieces]
    query: SELECT 42.5::float AS pieces
",
        url("postgres", &shop)
    );
    let old = OldExporter::start(&jobs, |file, port| {
        let mut command = mortal(None, "prometheus-sql-exporter");
        command.args(["-config.file", file, "-web.listen-address", &format!("127.0.0.1:{port}")]);
        command
    });
    old.wait_for("/metrics", "sql_orders{");
    old.wait_for("/metrics", "sql_stock{");
    let config = format!(
        "databases: {{shop: {}}}
queries:
  - name: orders
    sql: SELECT region, count(*) AS orders, sum(amount) AS revenue FROM orders GROUP BY region
    metrics: [{{name: sql_orders, help: Orders., labels: [region], value_columns: [orders, revenue], value_label: col}}]
  - name: stock
    sql: SELECT 42.5 AS pieces
    metrics: [{{name: sql_stock, help: Stock., static_labels: {{col: pieces}}, value_column: pieces}}]
",
        shop.entry()
    );
    let forced = ["driver", "host", "database", "user", "sql_job"];
    let options: Vec<&str> = forced.iter().flat_map(|label| ["--ignore-label", label]).collect();
    old.is_equal(&config, &options, "2 families with 5 series");
    let changed = config.replace("42.5 AS", "42 AS").replace("GROUP BY", "WHERE region = 'north' GROUP BY");
    let rows = [
        "series sql_orders{col=\"orders\",region=\"so\\\"u\\\\th\"} 1 -",
        "series sql_orders{col=\"revenue\",region=\"so\\\"u\\\\th\"} 20.25 -",
        "value sql_stock{col=\"pieces\"} 42.5 42",
    ];
    old.differs(&changed, &options, &rows);
    let near = [&options[..], &["--ignore", "sql_orders", "--tolerance", "2%"]].concat();
    old.is_equal(&changed, &near, "1 family with 1 series");
    // The forced labels, one by one.
    old.differs(&config, &options[2..], &["label sql_orders driver -", "label sql_stock driver -"]);
}

#[test]
fn query_exporter_and_ours_are_equal() {
    let shop = shop();
    let Ok(program) = std::env::var("TEST_QUERY_EXPORTER") else {
        eprintln!("left out: query-exporter could not be installed");
        return;
    };
    let queries = format!(
        "databases:
  shop: {{dsn: '{}', labels: {{env: test}}}}
metrics:
  shop_orders: {{type: gauge, description: Orders., labels: [region]}}
  shop_sold: {{type: counter, description: Sold., labels: [region], increment: false}}
  shop_amounts: {{type: histogram, description: Amounts., buckets: [1, 5, 10]}}
  shop_state: {{type: enum, description: State., states: [open, closed]}}
queries:
  orders:
    databases: [shop]
    metrics: [shop_orders, shop_sold]
    sql: SELECT region, count(*) AS shop_orders, 10 * count(*) AS shop_sold FROM orders GROUP BY region
  amounts: {{databases: [shop], metrics: [shop_amounts], sql: SELECT amount AS shop_amounts FROM orders}}
  state: {{databases: [shop], metrics: [shop_state], sql: SELECT 'open' AS shop_state}}
",
        url("postgresql+psycopg", &shop)
    );
    let old = OldExporter::start(&queries, |file, port| {
        let mut command = mortal(None, &program);
        command.args(["--config", file, "-H", "127.0.0.1", "-p", &port.to_string()]);
        command
    });
    // Not its page of metrics: each request for that adds the rows to its histogram.
    old.wait_for("/", "query-exporter");
    let config = format!(
        "databases: {{shop: {}}}
queries:
  - name: orders
    sql: SELECT region, count(*) AS shop_orders, 10 * count(*) AS shop_sold FROM orders GROUP BY region
    metrics:
      - {{name: shop_orders, help: Orders., labels: [region], value_column: shop_orders}}
      - {{name: shop_sold_total, help: Sold., type: counter, labels: [region], value_column: shop_sold}}
  - name: amounts
    sql: SELECT amount AS shop_amounts FROM orders
    metrics: [{{name: shop_amounts, help: Amounts., type: histogram, value_column: shop_amounts, buckets: [1, 5, 10]}}]
  - name: state
    sql: SELECT 'open' AS shop_state
    metrics: [{{name: shop_state, help: State., type: stateset, state_column: shop_state, states: [open, closed]}}]
",
        shop.entry_with("labels: {env: test}")
    );
    let options = ["--ignore-label", "database"];
    old.is_equal(&config, &options, "4 families with 12 series");
    // Its histogram accumulates, ours shows the rows of one scrape.
    let again = old.compare(&config, &options);
    assert!(again.text().contains("value    shop_amounts_count{env=\"test\"}"), "{}", again.text());
    let options = [&options[..], &["--ignore", "shop_amounts*"]].concat();
    let changed = config
        .replace("'open' AS", "'closed' AS")
        .replace("shop_sold_total", "shop_sold")
        .replace("SELECT region, count", "SELECT upper(region) AS region, count");
    let rows = [
        "series shop_orders{env=\"test\",region=\"NORTH\"} - 2",
        "series shop_orders{env=\"test\",region=\"SO\\\"U\\\\TH\"} - 1",
        "series shop_orders{env=\"test\",region=\"north\"} 2 -",
        "series shop_orders{env=\"test\",region=\"so\\\"u\\\\th\"} 1 -",
        "family shop_sold - unknown, 2 series",
        "family shop_sold_total counter, 2 series -",
        "value shop_state{env=\"test\",shop_state=\"closed\"} 0 1",
        "value shop_state{env=\"test\",shop_state=\"open\"} 1 0",
    ];
    old.differs(&changed, &options, &rows);
}
