//! psql-query-exporter's sources, on a real server as well: the pages of its own tests are what is expected.

use super::shared::{assert_shared, compat};
use super::{configuration, import, read, samples, sorted_labels};
use crate::exporter::{Output, Setup};
use crate::servers::Postgres;
use crate::servers::own::OwnPostgres;

/// The cases of its tests.
const CASES: [&str; 3] = ["single", "multi_labels", "multi_suffixes"];

#[test]
fn published_sources_are_converted() {
    assert_shared("psql-query-exporter", "psql-query-exporter-config", &["config.yaml"], &[], "postgres");
    for case in CASES {
        let name = format!("psql-query-exporter-{case}");
        assert_shared("psql-query-exporter", &name, &[&format!("{case}/config.yaml")], &[], "postgres");
    }
}

/// A page of the result, on a server of the test's own.
fn page(converted: &Output, server: &Postgres, more: &str) -> Output {
    assert_eq!(converted.code(), 0, "{}", converted.errors());
    let text =
        converted.text().replace("timeout: 1s", "timeout: 1m").replace("port: 5432", "port: ${TEST_PG_PORT}");
    let mut setup = Setup::new(&(text + more));
    for (name, value) in [
        ("TEST_PG_PORT", server.port.to_string().as_str()),
        ("TEST_PG_USER", "postgres"),
        ("TEST_PG_PASSWORD", &server.password),
        ("PG_USER", "postgres"),
        ("PG_PASSWORD", &server.password),
    ] {
        setup = setup.env(name, value);
    }
    let page = setup.args(&["collect", "--no-self-metrics"]).output();
    assert_eq!(page.code(), 0, "{}\n{}", page.errors(), page.text());
    page
}

#[test]
fn the_pages_of_its_own_tests_come_out() {
    let Some(folder) = compat("psql-query-exporter") else { return };
    let own = OwnPostgres::start(&[]);
    own.access().run("CREATE DATABASE exporter");
    let server = Postgres { database: "exporter".to_owned(), ..own.access().clone() };
    server.run("CREATE TABLE single (id bigint, name text); CREATE TABLE single_to_drop (id bigint)");
    server.run("INSERT INTO single VALUES (1, 'John'), (2, 'Jane'), (3, 'Jack')");
    for case in ["multi_labels", "multi_suffixes"] {
        let columns = "(int_field bigint, float_field double precision, name text)";
        server.run(&format!("CREATE TABLE {case} {columns}; CREATE TABLE {case}_to_drop {columns}"));
        let rows = "(1, 1.1, 'John'), (2, 2.2, 'Jane'), (3, 3.3, 'Jack')";
        server.run(&format!("INSERT INTO {case} VALUES {rows}; INSERT INTO {case}_to_drop VALUES {rows}"));
    }
    for case in CASES {
        let case_folder = folder.join(case);
        let converted = import("auto", &[&case_folder.join("config.yaml")], &[]);
        let found = page(&converted, &server, "exporter: {target_label: \"\"}\n");
        let expected = read(&case_folder.join("expected.snap"));
        let (_, expected) = expected.split_once("\n---\n").expect("a page below its head");
        let lines = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(sorted_labels).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(found.text()), lines(expected), "{case}");
    }
}

#[test]
fn its_example_runs_on_a_real_server() {
    let Some(folder) = compat("psql-query-exporter") else { return };
    let own = OwnPostgres::start(&[]);
    own.access().run("SELECT pg_create_physical_replication_slot('standby', true)");
    let page = page(&import("auto", &[&folder.join("config.yaml")], &[]), own.access(), "");
    let found = samples(page.text(), "target");
    let series =
        "postgres_state_replication_lag{active=\"false\",slot_name=\"standby\",slot_type=\"physical\"}";
    assert!(found.get(series).is_some_and(|lag| *lag >= 0.0) && found.len() == 1, "{}", page.text());
}

#[test]
fn the_queries_of_an_address_that_does_not_load_stay() {
    let source = "sources:\n  shop:\n    host: localhost\n    port: many\n    user: mon\n    password: pa${ss\n    databases:\n      \
                  - dbname: shop\n        queries:\n          - {query: select 1 as a, metric_name: a}\n          \
                  - {query: select 1 as b, metric_name: b}\n";
    let output = Setup::empty().file("shop.yaml", source).args(&["import", "shop.yaml"]).output();
    let lost: Vec<&str> =
        output.errors().lines().filter_map(|line| line.strip_prefix("left out: ")).collect();
    let place = "sources.shop.databases[0]";
    let expected = [format!(
        "shop.yaml:8:9: {place}: \"many\" is not a port from 1 to 65535; a variable stands for the address"
    )];
    assert_eq!(
        (output.code(), lost),
        (1, expected.iter().map(String::as_str).collect()),
        "{}",
        output.errors()
    );
    assert!(!output.errors().contains("pa${ss"), "{}", output.errors());
}

#[test]
fn the_first_column_is_the_value_whatever_it_is_called() {
    let own = OwnPostgres::start(&[]);
    let server = own.access();
    server.run("CREATE TABLE t (a text, n bigint); INSERT INTO t VALUES ('x', 2), ('y', 3)");
    let source = format!(
        "sources:\n  it:\n    host: 127.0.0.1\n    port: {}\n    user: postgres\n    password: ${{PG_PASSWORD}}\n    \
         sslmode: disable\n    databases:\n      - dbname: postgres\n        queries:\n          \
         - {{query: \"select coalesce(n, 0) + 1, a from t -- all;\", metric_name: more, var_labels: [a]}}\n",
        server.port
    );
    let setup = Setup::empty().file("source.yaml", &source).args(&["import", "source.yaml"]);
    let converted = setup.output();
    let found = page(&converted, server, "");
    let expected = [("more{a=\"x\"}".to_owned(), 3.0), ("more{a=\"y\"}".to_owned(), 4.0)];
    assert_eq!(samples(found.text(), "target").into_iter().collect::<Vec<_>>(), expected);
    assert!(configuration(&setup.output(), "postgres").args(&["check", "--strict"]).output().code() == 0);
}
