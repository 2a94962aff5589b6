//! Limits, each one below, at and above itself; and ten million rows against one of them.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use sql_exporter::engine::query_sink::SampleContext;
use sql_exporter::error::Reason;
use sql_exporter::metric::labels::LabelLimit;
use sql_exporter::value::Cell;
use sql_exporter::value::Cell::{Int, Text};

use crate::checker::checked;
use crate::command::setup;
use crate::exporter::{Exporter, Setup};
use crate::process::{bound, peak_memory, wait_for};
use crate::scrape::{fails, success};
use crate::servers::{MariaDb, Postgres};
use crate::table::{Table, bare, page, query, render};

/// Which counts of rows are good under a limit that `set` sets to 3 on the query of `yaml`.
fn fits(yaml: &str, part: &str, set: impl Fn(&mut sql_exporter::config::query::Query)) -> [bool; 3] {
    [2, 3, 4].map(|count| {
        let rows: Vec<[Cell<'_>; 2]> = (0..count).map(|n| [Int(n), Int(1)]).collect();
        let rows: Vec<&[Cell<'_>]> = rows.iter().map(<[_; 2]>::as_slice).collect();
        let mut query = query(yaml);
        set(&mut query);
        match render(&query, &bare(), &Table::new(&["n", "value"], &rows)) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.reason(), Reason::Limit);
                assert!(error.to_string().contains(part), "{error}");
                false
            }
        }
    })
}

#[test]
fn rows_and_series_of_a_query_are_held_at_their_limit() {
    let yaml = "{name: x, labels: [n]}";
    assert_eq!(fits(yaml, "more than 3 rows (max_rows)", |query| query.max_rows = 3), [true, true, false]);
    assert_eq!(
        fits(yaml, "more than 3 series (max_series)", |query| query.max_series = 3),
        [true, true, false]
    );
}

#[test]
fn a_label_is_held_at_its_length_or_cut_there() {
    let table = |text| Table::new(&["n", "value"], &[&[Text(text), Int(1)]]);
    let made = |text: &'static str, truncate| {
        let context = SampleContext::new(None, &[], LabelLimit { bytes: 4, truncate });
        render(&query("{name: x, labels: [n]}"), &context, &table(text)).map(|rendered| page(&rendered))
    };
    for text in ["abc", "abcd"] {
        assert!(made(text, false).unwrap().contains(&format!("x{{n=\"{text}\"}} 1\n")));
        assert!(made(text, true).unwrap().contains(&format!("x{{n=\"{text}\"}} 1\n")));
    }
    let error = made("abcde", false).unwrap_err();
    assert_eq!(error.reason(), Reason::Limit);
    assert!(error.to_string().contains("a label value of 5 bytes, max_label_length is 4"), "{error}");
    assert!(made("abcde", true).unwrap().contains("x{n=\"abcd\"} 1\n"));
    assert!(made("abcé", true).unwrap().contains("x{n=\"abc\"} 1\n"), "cut at a character's border");
}

/// Which of two queries, of three series each, are on a page under `limit`.
fn on_page(limit: &str) -> (Option<f64>, Option<f64>) {
    let rows = "SELECT 1 AS n, 1 AS value UNION ALL SELECT 2, 1 UNION ALL SELECT 3, 1";
    let exporter = setup(&format!(
        "databases: {{a: {{driver: sqlite, database: shop.db}}}}\nqueries:\n\
         - {{name: one, sql: \"{rows}\", metrics: [{{name: one, labels: [n]}}]}}\n\
         - {{name: two, sql: \"{rows}\", metrics: [{{name: two, labels: [n]}}]}}\nexporter: {{{limit}}}\n"
    ))
    .serve();
    let page = checked(&exporter.metrics());
    let found = (success(&page, "a", "one"), success(&page, "a", "two"));
    if found.1 == Some(0.0) {
        assert!(fails(&page, "a", "two", Reason::Limit), "{}", exporter.log());
    }
    found
}

#[test]
fn the_later_query_loses_where_a_page_is_full() {
    let (both, first) = ((Some(1.0), Some(1.0)), (Some(1.0), Some(0.0)));
    for (limit, expected) in [(7, both), (6, both), (5, first)] {
        assert_eq!(on_page(&format!("max_series: {limit}")), expected, "{limit}");
    }
    // A sample here is `one{target="a",n="1"} 1` and a line feed, 24 bytes; heads count too.
    let bytes = |limit: usize| on_page(&format!("max_page_bytes: {limit}"));
    let needed = (144..1000).step_by(8).find(|limit| bytes(*limit) == both).expect("a page has a size");
    assert!(needed > 144, "two heads and six samples: {needed}");
    assert_eq!(bytes(needed - 8), first, "just below {needed}");
}

/// A query of ten million rows fails soon, with flat memory, and nothing of it runs on.
fn ten_million(setup: Setup, is_running: impl Fn() -> bool) {
    let exporter = setup.serve();
    exporter.get("/metrics?query=quick");
    let before = peak_memory(exporter.pid());
    let began = Instant::now();
    let reply = exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "30")]);
    assert!(began.elapsed() < bound(Duration::from_secs(10)), "{:?}", began.elapsed());
    let page = checked(reply.text());
    assert!(fails(&page, "db", "many", Reason::Limit), "{}", exporter.log());
    assert_eq!(success(&page, "db", "quick"), Some(1.0));
    let used = peak_memory(exporter.pid()) - before;
    assert!(used < 16 << 20, "{} KiB", used >> 10);
    wait_for("the statement to end", || (!is_running()).then_some(()));
    assert!(is_good_again(&exporter), "{}", exporter.log());
}

fn is_good_again(exporter: &Exporter) -> bool {
    let page = checked(exporter.get("/metrics?query=quick").text());
    success(&page, "db", "quick") == Some(1.0)
}

fn queries(sql: &str) -> String {
    format!(
        "queries:\n- {{name: many, max_rows: 1000, sql: \"{sql}\", metrics: [{{name: many, labels: [n]}}]}}\n\
         - {{name: quick, sql: SELECT 1 AS value, metrics: [{{name: quick}}]}}\n"
    )
}

#[test]
fn ten_million_rows_of_postgres_stop_at_the_limit() {
    let server = Postgres::fresh("limits");
    let sql = queries("SELECT n, 1 AS value FROM generate_series(1, 10000000) AS limits_mark(n)");
    let count = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%limits_mark%' \
                 AND pid <> pg_backend_pid()";
    ten_million(Setup::new(&format!("databases:\n  db: {}\n{sql}", server.entry())), || {
        server.client().query_opt(count, &[]).expect("an answer").is_some()
    });
}

#[test]
fn ten_million_rows_of_mariadb_stop_at_the_limit() {
    let server = MariaDb::fresh("limits");
    let sql = queries("SELECT seq AS n, 1 AS value FROM seq_1_to_10000000 AS limits_mark");
    let count = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%limits_mark%' \
                 AND id <> connection_id()";
    ten_million(Setup::new(&format!("databases:\n  db: {}\n{sql}", server.entry())), || {
        server.client().query_first::<usize, _>(count).expect("an answer") > Some(0)
    });
}

#[test]
fn ten_million_rows_of_sqlite_stop_at_the_limit() {
    let sql = queries(
        "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 10000000) SELECT n, 1 AS value FROM s",
    );
    ten_million(setup(&format!("databases: {{db: {{driver: sqlite, database: shop.db}}}}\n{sql}")), || false);
}

/// Each limit stands in the README with its default.
#[test]
fn the_readme_tells_each_limit_and_its_default() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(path).expect("a README");
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with('|')).collect();
    for (key, default) in [
        ("max_rows", "100000"),
        ("max_series", "20000"),
        ("max_families", "2000"),
        ("max_label_length", "1024"),
        ("max_page_bytes", "64MiB"),
        ("exporter.max_series", "200000"),
    ] {
        let told = rows.iter().any(|row| row.contains(&format!("{key}`")) && row.contains(default));
        assert!(told, "{key}, {default}");
    }
}
