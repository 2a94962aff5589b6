//! `tests:` of files with queries: those that we ship pass, wrong ones say what differs, and errors are production's.

use std::path::Path;
use std::sync::Arc;

use sql_exporter::config;
use sql_exporter::config::Config;
use sql_exporter::driver::Drivers;
use sql_exporter::inspect::query_tests;
use sql_exporter::inspect::query_tests::QueryTestResult;

use crate::exporter::Setup;

/// A configuration, loaded from a folder with more files.
fn load(folder: &Path, config: &str, files: &[(&str, &str)]) -> Config {
    for (name, text) in files.iter().chain(&[("config.yaml", config)]) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let config = config::load(&folder.join("config.yaml"), &|_| Some(String::new()), &Drivers::built_in());
    config.unwrap_or_else(|faults| panic!("{}", faults.iter().map(ToString::to_string).collect::<String>()))
}

/// Runs the cases of a configuration.
fn outcomes(config: &str, files: &[(&str, &str)]) -> Vec<QueryTestResult> {
    let folder = tempfile::tempdir().unwrap();
    let config = load(folder.path(), config, files);
    let shown = format!("{}/", folder.path().display());
    let mut outcomes = query_tests::run(&config);
    outcomes.iter_mut().for_each(|outcome| outcome.file = outcome.file.replace(&shown, ""));
    outcomes
}

/// Why one case with these keys, of one query `orders` with these metrics, fails; nothing where it passes.
fn one(metrics: &str, case: &str) -> Vec<String> {
    let config = format!(
        "databases: {{a: {{driver: sqlite, database: a.db}}}}\n\
         queries: [{{name: orders, sql: SELECT * FROM orders, metrics: {metrics}}}]\n\
         tests:\n- name: it\n  query: orders\n{case}\n"
    );
    let mut outcomes = outcomes(&config, &[]);
    assert_eq!(outcomes.len(), 1);
    let QueryTestResult { passed, why, .. } = outcomes.remove(0);
    assert_eq!(passed, why.is_empty());
    why
}

/// The lines of a case that fails.
fn why(metrics: &str, case: &str) -> Vec<String> {
    let lines = one(metrics, case);
    assert!(!lines.is_empty(), "it passes: {case}");
    lines
}

const ORDERS: &str = "[{name: shop_orders, help: Orders., labels: [region], value_column: orders}]";

#[test]
fn the_tests_of_packs_and_examples_pass() {
    let include = "databases: {a: {driver: sqlite, database: a.db}}\ninclude: ['builtin:**']\n";
    let packs = outcomes(include, &[]);
    assert!(packs.len() >= 5, "{}", packs.len());
    let example = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path);
        let files = [("business/stock.sql", "SELECT 1"), ("password", "x")];
        outcomes(&std::fs::read_to_string(path).unwrap(), &files)
    };
    let (demo, full) = (example("demo/sql-exporter.yaml"), example("full.yaml"));
    let own = |outcomes: &[QueryTestResult]| {
        outcomes.iter().filter(|outcome| outcome.file == "config.yaml").count()
    };
    assert_eq!((own(&demo), own(&full)), (2, 1));
    let all = [packs, demo, full].concat();
    let failed: Vec<&QueryTestResult> = all.iter().filter(|outcome| !outcome.passed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_documented_tests_pass_and_their_report_is_real() {
    let page = crate::documents::read("docs/configuration.md");
    let section = page.split("## Tests of queries").nth(1).unwrap();
    let file = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let report = section.split("```\nPASS").nth(1).unwrap().split("```").next().unwrap();
    let config = "databases: {a: {driver: sqlite, database: a.db}}\ninclude: [collector.yaml]\n";
    // What `check` prints about tests.
    let lines = |file: &str| -> Vec<String> {
        let output = Setup::new(config).file("collector.yaml", file).args(&["check"]).output();
        let lines = output.text().lines().skip_while(|line| !line.starts_with("PASS"));
        lines.take_while(|line| !line.contains(" errors, ")).map(str::to_owned).collect()
    };
    let good = lines(file);
    assert_eq!(good.last().map(String::as_str), Some("3 tests: 3 passed, 0 failed"), "{good:#?}");
    let another = file.replace("('south', 3);", "('south', 3), ('south', 0);");
    assert_eq!(lines(&another).join("\n").replace("./", "") + "\n", format!("PASS{report}"));
}

#[test]
fn order_spelling_and_what_is_not_given_do_not_count() {
    let rows = "  rows: [{region: b, orders: 1000}, {region: a, orders: ~}, {region: c, orders: '2'}]\n";
    for exposition in [
        "shop_orders{region=\"c\"} 2\nshop_orders{region=\"b\"} 1e3\n",
        "# HELP shop_orders Orders.\n# TYPE shop_orders gauge\nshop_orders{region=\"b\"} 1000\nshop_orders{region=\"c\"} 2.0",
        "# so\n\n shop_orders{ region = \"b\", } 1000\nshop_orders{region=\"c\"} 2\n# EOF\n",
    ] {
        let exposition = exposition.replace('\n', "\n    ");
        assert_eq!(one(ORDERS, &format!("{rows}  exposition: |\n    {exposition}")), [""; 0], "{exposition}");
    }
}

#[test]
fn missing_unexpected_and_other_samples_and_heads_are_shown_by_family() {
    let metrics = "[{name: shop_orders, help: Orders., labels: [region], value_column: orders}, \
                    {name: shop_sizes, type: histogram, buckets: [1], value_column: orders}]";
    let case = "  rows: [{region: a, orders: 1}, {region: b, orders: 2}]\n  exposition: |\n    \
                # HELP shop_orders Order.\n    shop_orders{region=\"a\"} 3\n    shop_orders{region=\"z\"} 1\n    \
                shop_sizes_bucket{le=\"1\"} 1\n    shop_sizes_bucket{le=\"+Inf\"} 2\n    shop_sizes_sum 3\n    \
                shop_sizes_count 2\n    shop_other 5\n";
    let expected = [
        "shop_orders: 0 of 2 samples as expected",
        "- # HELP shop_orders Order.",
        "+ # HELP shop_orders Orders.",
        "- shop_orders{region=\"a\"} 3",
        "+ shop_orders{region=\"a\"} 1",
        "- shop_orders{region=\"z\"} 1",
        "+ shop_orders{region=\"b\"} 2",
        "shop_other: 0 of 1 sample as expected",
        "- shop_other 5",
    ];
    assert_eq!(why(metrics, case), expected);
    let nothing = why(ORDERS, "  rows: [{region: a, orders: 1}]\n  exposition: ''");
    assert_eq!(nothing, ["shop_orders: 0 of 0 samples as expected", "+ shop_orders{region=\"a\"} 1"]);
    let unreadable = why(ORDERS, "  rows: [{region: a, orders: 1}]\n  exposition: shop_orders = 1");
    let sentence = "line 1 of `exposition`: not a sample, `name{label=\"value\"} number`: shop_orders = 1";
    assert_eq!(unreadable, [sentence]);
}

#[test]
fn explicit_timestamps_are_compared_in_the_unit_of_the_format() {
    let metrics = "[{name: x, value_column: v, timestamp_column: at}]";
    let rows = "  rows: [{v: 1, at: 2026-01-02T03:04:05.5Z}]\n";
    assert_eq!(one(metrics, &format!("{rows}  exposition: x 1 1767323045500")), [""; 0]);
    assert_eq!(one(metrics, &format!("{rows}  exposition: \"x 1 1767323045.5\\n# EOF\"")), [""; 0]);
    let lines = why(metrics, &format!("{rows}  exposition: x 1"));
    assert_eq!(lines, ["x: 0 of 1 sample as expected", "- x 1", "+ x 1 1767323045500"]);
}

#[test]
fn typed_rows_go_the_way_of_a_databases_types() {
    let metrics = "[{name: x, labels: [a, b, c, d], value_column: v}]";
    let rows =
        "  rows: [{a: true, b: 1.50, c: 2026-01-02, d: '2026-01-02T03:04:05Z', v: 2026-01-02T00:00:00Z}]\n";
    let sample = "x{a=\"true\",b=\"1.50\",c=\"2026-01-02\",d=\"2026-01-02T03:04:05Z\"} 1767312000";
    assert_eq!(one(metrics, &format!("{rows}  exposition: '{sample}'")), [""; 0]);
    // No row needs names for its columns; a row may leave out what `columns` name.
    let empty = "[{name: x, empty: 0}]";
    assert_eq!(one(empty, "  rows: []\n  columns: [value]\n  exposition: x 0"), [""; 0]);
    assert_eq!(one(ORDERS, "  rows: [{region: a}]\n  columns: [region, orders]\n  exposition: ''"), [""; 0]);
}

#[test]
fn an_error_is_the_one_that_a_scrape_gives() {
    let script = "CREATE TABLE orders (region TEXT, orders);\\nINSERT INTO orders VALUES ('north', 'many');";
    let case = |expected: &str| format!("  sqlite: \"{script}\"\n  {expected}");
    let lines = why(ORDERS, &case("exposition: ''"));
    let [message] = &lines[..] else { panic!("{lines:?}") };
    let setup = Setup::new(&format!(
        "databases: {{a: {{driver: sqlite, database: a.db}}}}\n\
         queries: [{{name: orders, sql: SELECT * FROM orders, metrics: {ORDERS}}}]\n"
    ));
    let database = rusqlite::Connection::open(setup.path().join("a.db")).unwrap();
    database.execute_batch(&script.replace("\\n", "\n")).unwrap();
    drop(database);
    let output = setup.once();
    let (_, said) = message.split_once("query orders: ").unwrap();
    assert!(output.errors().contains(said), "{message}\n{}", output.errors());

    assert_eq!(one(ORDERS, &case("error: column `orders`")), [""; 0]);
    assert_eq!(
        why(ORDERS, &case("error: duplicate")),
        ["- error: duplicate".to_owned(), format!("+ error: {message}")]
    );
    let good = "  rows: [{region: a, orders: 1}]\n  error: column";
    assert_eq!(why(ORDERS, good), ["- error: column", "+ no error; 1 sample made"]);
}

#[test]
fn missing_columns_duplicates_and_limits_fail_a_case() {
    let row = |row: &str, part: &str| format!("  rows: {row}\n  error: \"{part}\"");
    for case in [
        row("[{orders: 1}]", "the result has no column `region`; it has `orders`"),
        row("[]", "it has no columns at all"),
        row("[{region: a, orders: 1}, {region: a, orders: 2}]", "shop_orders{region=\\\"a\\\"}"),
        row("[{region: a, orders: many}]", "text"),
    ] {
        assert_eq!(one(ORDERS, &case), [""; 0], "{case}");
    }
    let many = "  rows: [{region: a, orders: 1}, {region: b, orders: 1}]\n  error: max_rows";
    let config = format!(
        "databases: {{a: {{driver: sqlite, database: a.db}}}}\nqueries: [{{name: orders, sql: SELECT 1, enabled: false, \
         max_rows: 1, metrics: {ORDERS}}}]\ntests:\n- name: it\n  query: orders\n{many}\n"
    );
    assert_eq!(outcomes(&config, &[])[0].why, [""; 0]);
}

#[test]
fn a_script_runs_offline_and_the_query_on_it_read_only() {
    let failed = |script: &str| why(ORDERS, &format!("  sqlite: {script}\n  exposition: ''")).concat();
    assert!(failed("ATTACH '/tmp/x.db' AS x").starts_with("the script failed: "));
    assert!(failed("CREATE TABLE t (a)").contains("no such table: orders"));
    let config = "databases: {a: {driver: sqlite, database: a.db, read_only: false}}\n\
         queries: [{name: q, sql: DELETE FROM t, metrics: [{name: x}]}]\n\
         tests: [{name: it, query: q, sqlite: CREATE TABLE t (a), error: read_only}]\n";
    assert_eq!(outcomes(config, &[])[0].why, [""; 0]);
}

#[test]
fn outcomes_are_json_too() {
    let config = "databases: {a: {driver: sqlite, database: a.db}}\n\
         queries: [{name: q, sql: SELECT 1, metrics: [{name: x}]}]\n\
         tests:\n- {name: good, query: q, rows: [{value: 1}], exposition: x 1}\n\
         - {name: bad, query: q, rows: [{value: 1}], exposition: x 2}\n";
    let found = serde_json::to_value(outcomes(config, &[])).unwrap();
    let expected = serde_json::json!([
        {"name": "good", "query": "q", "file": "config.yaml", "line": 4, "passed": true, "why": []},
        {"name": "bad", "query": "q", "file": "config.yaml", "line": 5, "passed": false,
         "why": ["x: 0 of 1 sample as expected", "- x 2", "+ x 1"]},
    ]);
    assert_eq!(found, expected);
}

#[test]
fn serving_keeps_nothing_of_the_cases() {
    let folder = tempfile::tempdir().unwrap();
    let config = "databases: {a: {driver: sqlite, database: a.db}}\n\
         queries: [{name: q, sql: SELECT 1, metrics: [{name: x}]}]\n\
         tests: [{name: it, query: q, rows: [], columns: [value], exposition: ''}]\n";
    let config = load(folder.path(), config, &[]);
    let kept = Arc::downgrade(&config.query_tests[0].query);
    let fleet = sql_exporter::commands::run::start::make_targets(config);
    assert_eq!((kept.strong_count(), fleet.targets.len()), (0, 1));
}

#[test]
fn the_faults_of_a_file_come_with_those_of_its_cases() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    let text = "databases: {a: {driver: sqlit}}\nqueries: [{name: q, sql: SELECT 1, metrics: [{name: x}]}]\n\
         tests: [{name: it, query: p, rows: [], exposition: ''}]\n";
    std::fs::write(&path, text).unwrap();
    let faults = config::load(&path, &|_| None, &Drivers::built_in()).err().unwrap();
    let said: Vec<&str> = faults.iter().map(|fault| fault.message()).collect();
    let expected =
        ["a SQLite target needs a file", "there is no driver \"sqlit\"", "this file has no query \"p\""];
    assert_eq!(said, expected);
}

/// `check` runs the cases: one that fails is an error.
#[test]
fn check_tells_each_case_and_ends_with_2_when_one_fails() {
    let config = "databases: {lite: {driver: sqlite, database: x.db}}
queries:
  - {name: one, sql: SELECT 1 AS value, metrics: [{name: one, help: One.}]}
tests:
  - {name: it is one, query: one, rows: [{value: 1}], exposition: one 1}
  - {name: it is two, query: one, sqlite: '', exposition: one 2}
";
    let output = Setup::new(config).args(&["check"]).output();
    let expected = "PASS sql-exporter.yaml:5: one: it is one
FAIL sql-exporter.yaml:6: one: it is two
     one: 0 of 1 sample as expected
     - one 2
     + one 1
2 tests: 1 passed, 1 failed
0 errors, 0 warnings in 1 file: 1 target, 1 query
";
    assert_eq!((output.code(), output.text()), (2, expected));
    let json = Setup::new(config).args(&["check", "--format", "json"]).output();
    let document: serde_json::Value = serde_json::from_str(json.text()).expect("JSON");
    let summary = &document["summary"];
    assert_eq!((json.code(), &summary["tests_passed"], &summary["tests_failed"]), (2, &1.into(), &1.into()));
    assert_eq!(document["tests"][1]["why"][1], "- one 2");
    let good = Setup::new(&config.replace("one 2", "one 1")).args(&["check", "--strict"]).output();
    assert_eq!(good.code(), 0, "{}", good.text());
    // The tests of a pack run, and do not hide the lines of one's own.
    let pack = format!("{}include: ['builtin:sqlite/tables']\n", config.replace("one 2", "one 1"));
    let pack = Setup::new(&pack).args(&["check"]).output();
    let lines: Vec<&str> = pack.text().lines().collect();
    let [one, two, count, _] = lines.as_slice() else { panic!("{}", pack.text()) };
    assert!(
        one.starts_with("PASS sql-exporter.yaml:5:") && two.starts_with("PASS sql-exporter.yaml:6:"),
        "{lines:?}"
    );
    let all: usize = count.split(' ').next().and_then(|count| count.parse().ok()).expect("a number");
    assert!(all > 2 && count.ends_with(&format!(" tests: {all} passed, 0 failed")), "{count}");
}
