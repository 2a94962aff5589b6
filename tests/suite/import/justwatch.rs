//! justwatch's published configuration, converted and run on a real server.

use std::collections::BTreeSet;

use super::shared::{assert_shared, compat};
use super::{configuration, import};
use crate::checker::{Page, checked};
use crate::process::wait_for;
use crate::servers::Postgres;

#[test]
fn the_published_configuration_is_converted() {
    assert_shared("justwatch", "justwatch-config", &["config.yml"], &[], "postgres");
}

/// What the published configuration shows of a server with a table `orders` of three rows; `None` without the file.
fn page(module: &str, args: &[&str]) -> Option<(Page, Postgres)> {
    let file = compat("justwatch")?.join("config.yml");
    let server = Postgres::fresh(module);
    server.run("CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1), (2), (3)");
    let inserted = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'orders'";
    wait_for("the statistics", || {
        let row = server.client().query_one(inserted, &[]).ok()?;
        (row.get::<_, i64>(0) == 3).then_some(())
    });
    let output = import("justwatch", &[&file], args);
    assert_eq!(output.code(), 1, "{}", output.errors());
    let Postgres { port, password, database } = &server;
    let mut text = output.text().to_owned();
    for theirs in ["postgres", "mydb"] {
        let theirs = format!("postgres://postgres@localhost/{theirs}?sslmode=disable");
        assert!(text.contains(&theirs), "{text}");
        let ours = format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}");
        text = text.replace(&theirs, &ours);
    }
    let ours = configuration(&output, "postgres").file("sql-exporter.yaml", &text);
    let run = ours.args(&["collect", "--target", "postgres", "--target", "mydb"]).output();
    Some((checked(run.text()), server))
}

fn labels(page: &Page, name: &str) -> BTreeSet<String> {
    let series = page.series(name);
    assert!(!series.is_empty(), "{name}");
    series.iter().flat_map(|sample| sample.labels.keys().cloned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn it_shows_on_a_server_what_the_other_exporter_defines() {
    let Some((page, server)) = page("justwatch", &[]) else { return };
    let metrics = [
        ("sql_running_queries", set(&["target", "datname", "usename"])),
        ("sql_db_sizes", set(&["target", "dbname"])),
        ("sql_pg_stat_user_tables", set(&["target", "schemaname", "relname", "col"])),
        ("sql_pg_statio_user_tables", set(&["target", "schemaname", "relname", "col"])),
    ];
    for (name, expected) in metrics {
        assert_eq!(page.types.get(name).map(String::as_str), Some("gauge"), "{name}");
        assert_eq!(labels(&page, name), expected, "{name}");
    }
    let table = |col| page.value("sql_pg_stat_user_tables", &[("relname", "orders"), ("col", col)]);
    assert_eq!(
        (table("n_tup_ins"), table("n_live_tup"), table("n_tup_del")),
        (Some(3.0), Some(3.0), Some(0.0))
    );
    assert_eq!(page.series("sql_pg_stat_user_tables").len(), 14, "a sample for each of `values`");
    let database = server.database.as_str();
    let size = server.client().query_one("SELECT pg_database_size('template0')::float8", &[]).unwrap();
    assert_eq!(page.value("sql_db_sizes", &[("dbname", "template0")]), Some(size.get(0)));
    let queries = page.value("sql_running_queries", &[("datname", database), ("usename", "postgres")]);
    assert!(queries >= Some(1.0), "{queries:?}");
    // Functions of PostgreSQL 9: this query fails there, too.
    assert_eq!(page.value("sql_exporter_query_success", &[("query", "replication_lag")]), Some(0.0));
}

/// The label of an iterator is one of `labels` there, and one of `foreach` here.
#[test]
fn an_iterator_runs_with_the_label_that_its_queries_name() {
    let server = Postgres::fresh("justwatch_iterator");
    server.run("CREATE TABLE orders (region text, state text); INSERT INTO orders VALUES ('n', 'open'), ('s', 'open'), ('s', 'done')");
    let output = import("justwatch", &[&super::folder().join("justwatch/iterator.yaml")], &[]);
    let Postgres { port, password, database } = &server;
    let theirs = "postgres://exporter@db.example/shop?sslmode=verify-full";
    let ours = format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}");
    assert!(output.text().contains(theirs), "{}", output.text());
    let text = output.text().replace(theirs, &ours);
    let run = configuration(&output, "postgres").file("sql-exporter.yaml", &text).once();
    assert_eq!(run.code(), 0, "{}", run.errors());
    let page = checked(run.text());
    let orders = |state| page.value("sql_orders", &[("region", "s"), ("state", state)]);
    assert_eq!((orders("open"), orders("done"), page.series("sql_orders").len()), (Some(1.0), Some(1.0), 3));
    assert_eq!(page.value("sql_only", &[("region", "s")]), Some(2.0));
    assert_eq!(page.value("sql_all", &[("region", "n")]), Some(1.0));
}

#[test]
fn its_labels_stay_where_they_are_to_be_kept() {
    let Some((page, _)) = page("justwatch_labels", &["--keep-labels"]) else { return };
    let forced = ["target", "driver", "host", "database", "user", "sql_job", "col"];
    let with = |more: &[&str]| set(&[&forced, more].concat());
    assert_eq!(labels(&page, "sql_db_sizes"), with(&["dbname"]));
    assert_eq!(labels(&page, "sql_pg_stat_user_tables"), with(&["schemaname", "relname"]));
    let sizes = page.series("sql_db_sizes");
    let first = &sizes.first().expect("a sample").labels;
    let value = |name: &str| first.get(name).map(String::as_str);
    assert_eq!(
        (value("sql_job"), value("col"), value("driver")),
        (Some("global"), Some("dbsize"), Some("postgres"))
    );
    assert_eq!(
        (value("host"), value("database"), value("user")),
        (Some("localhost"), Some("postgres"), Some("postgres"))
    );
}
