//! The command `try`: what it shows of a query and its rows on each database, in which form, and with which exit code.

mod faults;
mod proposals;

use serde_json::Value;

use crate::exporter::{Output, Setup};
use crate::process::free_port;
use crate::servers::{MariaDb, Postgres};

/// The three databases, each with the same table.
struct World {
    postgres: Postgres,
    mariadb: MariaDb,
}

const TARGETS: [&str; 3] = ["postgres", "mariadb", "sqlite"];

const TABLE: &str = "CREATE TABLE orders (region varchar(20), status varchar(20), cents int, note varchar(40));\n\
     INSERT INTO orders VALUES ('north', 'open', 250, NULL), ('north', 'paid', NULL, 'a'), ('south', 'open', 50, 'b');\n";

/// A query on all three, and how long its metric's name is.
const QUERY: &str = "queries:
  - name: orders
    databases: ['*']
    sql: |
      SELECT region, status, cents, note
      FROM orders
      ORDER BY region, status
    metrics:
      - {name: shop_order_euros, help: Euros., labels: [region, status], value_column: cents, scale: 0.01}
";

impl World {
    fn new() -> World {
        let world = World { postgres: Postgres::fresh("trial"), mariadb: MariaDb::fresh("trial") };
        world.postgres.run(TABLE);
        world.mariadb.run(TABLE);
        world
    }

    fn targets(&self) -> String {
        let (postgres, mariadb) = (self.postgres.entry(), self.mariadb.entry());
        format!(
            "databases:\n  postgres: {postgres}\n  mariadb: {mariadb}\n  sqlite: {{driver: sqlite, database: shop.db}}\n"
        )
    }

    /// A folder with these queries, and SQLite's table.
    fn setup(&self, queries: &str) -> Setup {
        let setup = Setup::new(&format!("{}{queries}", self.targets()));
        let shop = rusqlite::Connection::open(setup.path().join("shop.db")).expect("a database");
        shop.execute_batch(TABLE).expect("a table");
        setup.mode("sql-exporter.yaml", 0o600)
    }

    fn tried(&self, queries: &str, target: &str, args: &[&str]) -> Output {
        self.setup(queries).args(&["try", "--target", target]).args(args).output()
    }
}

/// One SQLite file without tables.
fn small(queries: &str) -> Setup {
    crate::command::setup(&format!("databases: {{shop: {{driver: sqlite, database: shop.db}}}}\n{queries}"))
}

fn document(output: &Output) -> Value {
    serde_json::from_str(output.text()).unwrap_or_else(|error| panic!("{error}: {}", output.text()))
}

#[test]
fn a_good_query_shows_rows_mapping_samples_counts_and_times_on_each_database() {
    let world = World::new();
    for target in TARGETS {
        let output = world.tried(QUERY, target, &["--query", "orders"]);
        let text = output.text();
        assert_eq!((output.code(), output.errors()), (0, ""), "{text}");
        let driver = if target == "mariadb" { "mysql" } else { target };
        assert!(text.starts_with(&format!("query orders on target {target} ({driver})\n")), "{text}");
        let squeezed: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let has = |start: &str| squeezed.iter().any(|line| line.starts_with(start));
        for line in [
            "north open 250 NULL",
            "north paid NULL a",
            "south open 50 b",
            "# HELP shop_order_euros Euros.",
            "# TYPE shop_order_euros gauge",
            "3 rows → 2 series in 1 family, 1 value left out (NULL)",
            "connect ",
        ] {
            assert!(has(line), "{target}: {line}\n{text}");
        }
        for (status, region, value) in [("open", "north", "2.5"), ("open", "south", "0.5")] {
            let sample = format!(
                "shop_order_euros{{target=\"{target}\",region=\"{region}\",status=\"{status}\"}} {value}"
            );
            assert!(text.lines().any(|line| line == sample), "{sample}\n{text}");
        }
        let column = |name: &str| {
            let mapping = squeezed.iter().skip_while(|line| !line.starts_with("column type becomes"));
            mapping.clone().find(|line| line.starts_with(&format!("{name} "))).cloned().unwrap_or_default()
        };
        assert!(column("region").ends_with("label `region` shop_order_euros"), "{text}");
        assert!(column("cents").ends_with("value shop_order_euros × 0.01; NULL is skipped"), "{text}");
        assert!(column("note").ends_with(" unused"), "{text}");
        let last = text.lines().last().unwrap_or_default();
        let parts: Vec<&str> = last
            .split(", ")
            .filter_map(|part| part.rsplit_once(' ')?.0.rsplit_once(' '))
            .map(|(what, _)| what)
            .collect();
        assert_eq!(parts, ["connect", "first row", "rows", "render"], "{last}");
    }
}

#[test]
fn the_samples_are_those_of_a_scrape() {
    let world = World::new();
    for target in TARGETS {
        let tried = document(&world.tried(QUERY, target, &["--query", "orders", "--format", "json"]));
        let scraped = world
            .setup(QUERY)
            .args(&["collect", "--no-self-metrics", "--query", "orders", "--target", target])
            .output();
        assert_eq!(tried["exposition"].as_str(), Some(scraped.text()), "{target}");
    }
}

#[test]
fn the_plan_is_the_databases_own() {
    let world = World::new();
    for (target, word) in
        [("postgres", "Seq Scan on orders"), ("mariadb", "select_type"), ("sqlite", "SCAN orders")]
    {
        let output = world.tried(QUERY, target, &["--query", "orders", "--plan"]);
        let text = output.text();
        let plan =
            text.split("\nPlan\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
        assert!(plan.contains(word) && !plan.contains("actual time"), "{target}: {text}");
        assert!(text.contains("3 rows → 2 series") && output.code() == 0, "{target}: {text}");
        let without = world.tried(QUERY, target, &["--query", "orders"]);
        assert!(!without.text().contains("Plan"), "{target}");
    }
    let wrong = world.tried("queries: []\n", "postgres", &["--sql", "SELECT x FROM orders", "--plan"]);
    let text = wrong.text();
    assert!(
        text.contains("  | SELECT x FROM orders\n  |        ^\n"),
        "the statement's error, not the plan's: {text}"
    );
}

#[test]
fn where_there_is_no_plan_it_says_so() {
    let console =
        Postgres { database: "pgbouncer".to_owned(), ..Postgres::shared("postgres").through_pgbouncer() };
    let entry = console.entry_with("tls: {mode: disable}").replace("driver: postgres", "driver: pgbouncer");
    let setup =
        Setup::new(&format!("databases:\n  pool: {entry}\nqueries: []\n")).mode("sql-exporter.yaml", 0o600);
    let output = setup.args(&["try", "--sql", "SHOW VERSION", "--plan"]).output();
    assert_eq!(output.code(), 0, "{}{}", output.text(), output.errors());
    assert!(output.text().contains("warning: --plan: this database has no plan"), "{}", output.text());
    assert!(output.text().contains("PgBouncer 1."), "{}", output.text());
}

#[test]
fn rows_are_cut_where_asked_and_samples_after_twenty() {
    let numbers = "queries:
  - name: numbers
    sql: WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30) SELECT i AS value, 'n' || i AS label FROM n
    metrics: [{name: numbers, help: Numbers., labels: [label]}]
";
    let text = |args: &[&str]| {
        small(numbers).args(&["try", "--query=numbers"]).args(args).output().text().to_owned()
    };
    let whole = text(&[]);
    assert!(whole.contains("10  n10\n(20 more rows)\n"), "{whole}");
    assert_eq!(whole.lines().filter(|line| line.starts_with("numbers{")).count(), 20);
    assert!(
        whole.contains("\n(10 more samples)\n") && whole.contains("30 rows → 30 series in 1 family"),
        "{whole}"
    );
    assert!(text(&["--rows", "29"]).contains("\n(1 more row)\n"));
    assert!(text(&["--rows", "0"]).contains("\nRows\n(30 more rows)\n"));
    assert!(!text(&["--rows", "30"]).contains("more row"));
}

#[test]
fn json_has_every_field_and_null_for_what_is_not_known() {
    let world = World::new();
    let good = document(&world.tried(QUERY, "sqlite", &["--query", "orders", "--format", "json", "--plan"]));
    let fields = "columns driver error exposition families mapping plan proposal query row_count rows seconds series \
                  skipped_because sql target values_skipped version warnings";
    let keys: Vec<&String> = good.as_object().expect("an object").keys().collect();
    assert_eq!(keys, fields.split_whitespace().collect::<Vec<_>>());
    assert_eq!(good["rows"][0], serde_json::json!(["north", "open", "250", null]));
    assert_eq!(good["columns"][2], serde_json::json!({"name": "cents", "type": "INT"}));
    assert_eq!(good["mapping"][3]["becomes"], Value::Null);
    assert_eq!((&good["series"], &good["values_skipped"]["null"]), (&2.into(), &1.into()));
    assert!(good["plan"]["rows"].as_array().is_some_and(|rows| !rows.is_empty()));
    for time in ["connect", "first_row", "rows", "render"] {
        assert!(good["seconds"][time].as_f64().is_some_and(|time| time >= 0.0), "{time}");
    }
    let output = world.tried(QUERY, "sqlite", &["--sql", "SELECT x", "--format", "json"]);
    let bad = document(&output);
    assert_eq!((output.code(), bad["error"]["reason"].as_str()), (1, Some("sql")));
    let keys: Vec<&String> = bad["error"].as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["column", "file", "hint", "line", "message", "path", "reason", "sqlstate"]);
    assert_eq!((&bad["series"], &bad["exposition"]), (&Value::Null, &Value::Null));
}

#[test]
fn many_series_are_worth_a_warning_that_names_the_label() {
    let query = |rows: u32, max: u32| {
        format!(
            "queries:\n  - name: many\n    max_series: {max}\n    sql: WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
             WHERE i < {rows}) SELECT i AS value, i % 3 AS few, i AS each_row FROM n\n    metrics: [{{name: many, help: Many., \
             labels: [each_row, few]}}]\n"
        )
    };
    let text =
        |rows, max| small(&query(rows, max)).args(&["try", "--query", "many"]).output().text().to_owned();
    let many = "warning: 1001 series from one query are many: label `each_row` has the most values, 1001\n";
    assert!(text(1001, 20_000).contains(many), "{}", text(1001, 20_000));
    let near = "warning: 90 series, and max_series is 100: label `each_row` has the most values, 90\n";
    assert!(text(90, 100).contains(near), "{}", text(90, 100));
    assert!(!text(80, 100).contains("warning"));
    let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) \
               SELECT i AS value, 'x' AS few, 'n' || i AS name FROM n";
    let loose = small("queries: []\n").args(&["try", "--sql", sql]).output();
    let many = "warning: 1500 series from one query are many: label `name` has the most values, 1500\n";
    assert!(loose.text().contains(many), "{}", loose.text());
}

#[test]
fn a_column_of_several_metrics_has_a_line_for_each() {
    let queries = "queries:
  - name: two
    sql: SELECT 'a' AS label, 1 AS one, 2 AS two
    metrics: [{name: m_one, help: O., labels: [label], value_column: one}, {name: m_two, help: T., labels: [label], value_column: two, \
                   'null': 0}]
";
    let output = small(queries).args(&["try", "--query", "two"]).output();
    let mapping = "
column  type     becomes        in     rule
label   TEXT     label `label`  m_one
                                m_two
one     INTEGER  value          m_one  NULL is skipped
two     INTEGER  value          m_two  NULL is 0
";
    assert!(output.text().contains(mapping), "{}{}", output.text(), output.errors());
}

/// Rows that a terminal must not be given as they are.
const ODD: &str = "queries:
  - name: odd
    sql: |
      SELECT '日本語' AS label, 1 AS value, NULL AS none
      UNION ALL SELECT char(27) || '[2J' || char(10) || char(155) || 'x', 22, 'b'
    metrics: [{name: odd, help: Odd., labels: [label]}]
";

#[test]
fn control_characters_reach_no_terminal_and_wide_ones_keep_the_table_straight() {
    let output = small(ODD).args(&["try", "--query", "odd"]).output();
    let text = output.text();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(
        text.contains("\n日本語                      1  NULL\n␛[2J␊\u{fffd}x                    22  b\n"),
        "{text}"
    );
    assert!(text.contains("odd{target=\"shop\",label=\"␛[2J\\n\u{fffd}x\"} 22\n"), "{text}");
    let json = small(ODD).args(&["try", "--query", "odd", "--format", "json"]).output();
    assert!(json.text().chars().all(|c| c == '\n' || !c.is_control()), "{:?}", json.text());
    assert_eq!(document(&json)["rows"][1][0].as_str(), Some("\u{1b}[2J\n\u{9b}x"));
}

#[test]
fn colour_is_for_a_terminal_and_tables_are_no_wider_than_it() {
    let wide = QUERY.replace("note\n", "'a text that is far too long to stand beside the others' AS note\n");
    let world = World::new();
    let setup = || world.setup(&wide).args(&["try", "--target", "sqlite", "--query", "orders"]);
    assert!(!setup().env("TERM", "xterm").output().text().contains('\x1b'));
    let text = setup().terminal(80).env("TERM", "xterm").output().text().replace("\r\n", "\n");
    assert!(text.contains("\x1b[1mRows\x1b[0m\n") && text.contains("\x1b[33munused\x1b[0m"), "{text:?}");
    let plain =
        ["\x1b[33m", "\x1b[1m", "\x1b[2m", "\x1b[0m"].iter().fold(text, |text, code| text.replace(code, ""));
    let tables = plain.split("Exposition\n").next().unwrap_or_default();
    assert!(tables.lines().all(|line| line.chars().count() <= 80) && tables.contains('…'), "{tables}");
    let none = setup().terminal(80).env("TERM", "xterm").env("NO_COLOR", "1").output();
    assert!(!none.text().contains('\x1b'));
}

#[test]
fn a_query_that_a_scrape_would_leave_out_runs_all_the_same_and_it_is_said() {
    let query = |more: &str| format!("{QUERY}    {more}\n");
    let world = World::new();
    let cases = [
        ("when: {flavor: mysql}", "leave it out: when.flavor: the server's is sqlite"),
        ("when: {version: \">=99\"}", "leave it out: when.version: the server's is 3."),
        ("when: {role: replica}", "leave it out: when.role: the server's is primary"),
        ("when: {sql: SELECT 0}", "leave it out: when.sql returns false"),
        ("enabled: false", "leave it out: enabled: false on the query"),
    ];
    for (more, why) in cases {
        let output = world.tried(&query(more), "sqlite", &["--query", "orders"]);
        let text = output.text();
        assert!(text.contains(&format!("warning: a scrape would {why}")), "{more}: {text}");
        assert!(text.contains("3 rows → 2 series") && output.code() == 0, "{more}: {text}");
    }
    let broken = world.tried(&query("when: {sql: SELECT nowhere}"), "sqlite", &["--query", "orders"]);
    assert!(
        broken.text().contains("target sqlite, query orders: when.sql: no such column: nowhere"),
        "{}",
        broken.text()
    );
    assert!(broken.text().contains("3 rows → 2 series") && broken.code() == 1, "{}", broken.text());
    let fits = world.tried(&query("when: {flavor: sqlite, sql: SELECT 1}"), "sqlite", &["--query", "orders"]);
    assert!(!fits.text().contains("leave it out"), "{}", fits.text());
}

#[test]
fn moments_without_a_zone_are_told_with_the_cast_to_write() {
    let world = World::new();
    let queries = "queries:
  - {name: since, database: mariadb, sql: 'SELECT timestamp ''2026-01-02 03:04:05'' AS at', metrics: [{name: a, help: A., value_column: at}]}
  - {name: zoned, database: postgres, sql: 'SELECT now() AS at', metrics: [{name: b, help: B., value_column: at}]}
  - {name: plain, database: postgres, sql: 'SELECT now()::timestamp AS at', metrics: [{name: c, help: C., value_column: at}]}
";
    let text = |target, query| world.tried(queries, target, &["--query", query]).text().to_owned();
    let since = text("mariadb", "since");
    assert!(since.contains("Unix seconds; NULL is skipped\n"), "{since}");
    let zoned = text("postgres", "zoned");
    assert!(zoned.contains("Unix seconds; NULL is skipped\n"), "{zoned}");
    assert!(text("postgres", "plain").contains("select extract(epoch FROM at AT TIME ZONE 'ZONE')"));
}

#[test]
fn the_documents_show_what_try_prints() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("a file");
    let setup = Setup::new(&read("examples/demo/sql-exporter.yaml"));
    let shop = rusqlite::Connection::open(setup.path().join("shop.db")).expect("a database");
    shop.execute_batch(&read("examples/demo/shop.sql")).expect("the demo's script");
    let output = setup.args(&["try", "--query", "customers", "--rows", "3"]).output();
    let page = crate::documents::read("docs/command-line.md");
    let block = page.split("```").find_map(|block| {
        block.strip_prefix("\n$ sql-exporter try -c sql-exporter.yaml --query customers --rows 3\n")
    });
    let without_times = |text: &str| {
        text.lines().filter(|line| !line.starts_with("connect ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(block.map(without_times), Some(without_times(output.text())), "{}", output.text());
}

/// SQLite looks at no clock within one step, and this one takes minutes.
#[test]
fn a_statement_that_nothing_stops_ends_with_the_command() {
    let sql = "SELECT instr(hex(zeroblob(8000000)), hex(zeroblob(4000000)) || '1')";
    let began = std::time::Instant::now();
    let output = small("queries: []\n").args(&["try", "--timeout", "1s", "--sql", sql]).output();
    assert_eq!(output.code(), 1, "{}", output.errors());
    assert_eq!(output.errors(), "error: target shop: the statement has not ended, and cannot be stopped\n");
    assert!(began.elapsed() < std::time::Duration::from_secs(60));
}

/// A server that is not there.
fn nobody() -> String {
    format!("databases: {{far: {{driver: postgres, host: 127.0.0.1, port: {}}}}}\nqueries: []\n", free_port())
}

/// What a server sends is kept in memory up to a bound, however many rows of whatever size there are.
#[test]
fn the_values_that_are_kept_are_bounded() {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) \
               SELECT i, hex(zeroblob(500000)) AS text FROM n";
    let output = small("queries: []\n").args(&["try", "--rows", "0", "--sql", sql]).output();
    assert_eq!(output.code(), 1, "{} bytes", output.text().len());
    let said = format!("{}{}", output.text(), output.errors());
    assert!(said.contains("more than 64 MiB of values; select fewer columns or rows"), "{said}");
    // Rows to show only end the showing.
    let query = format!(
        "queries:\n  - {{name: q, sql: \"{sql}\", metrics: [{{name: m, labels: [i], value_column: i}}]}}\n"
    );
    let args = ["try", "--query", "q", "--rows", "100", "--format", "json"];
    let output = small(&query).args(&args).output();
    let tried = document(&output);
    assert_eq!(
        (output.code(), tried["row_count"].as_u64(), tried["series"].as_u64()),
        (0, Some(100), Some(100))
    );
    assert!(tried["rows"].as_array().is_some_and(|rows| (60..80).contains(&rows.len())));
}

#[test]
fn the_label_with_the_most_values_is_that_of_all_values_of_foreach() {
    let queries = "queries:
  - name: q
    foreach: {values: [{most: \"1200\"}, {most: \"3\"}]}
    sql: WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < CAST(? AS INTEGER)) SELECT i, 1 AS value FROM n
    metrics: [{name: m, labels: [i]}]
";
    let output = small(queries).args(&["try", "--query", "q"]).output();
    assert!(output.text().contains("label `i` has the most values, 1200"), "{}", output.text());
}
