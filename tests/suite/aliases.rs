//! Names that collectors give to the exporter's own metrics: `up`, `help`, `last_scrape`, `scrapes`.

use crate::checker::{Page, checked};
use crate::command::setup;
use crate::exporter::{Exporter, Setup};
use crate::servers::own::OwnPostgres;
use crate::servers::{MariaDb, Postgres};

/// Two good targets and one that is down, the collectors `one` and `two`, and one without names.
const CONFIG: &str = "databases:
  shop: {driver: sqlite, database: shop.db, labels: {env: prod}}
  other: {driver: sqlite, database: shop.db, collectors: [one, '!default']}
  gone: {driver: sqlite, database: nowhere/gone.db}
  off: {driver: sqlite, database: shop.db, enabled: false}
queries:
- {name: fine, databases: ['*'], sql: SELECT 1 AS value, metrics: [{name: fine, help: Fine.}]}
include: [one.yaml, two.yaml]
";

const ONE: &str = "
up: db_up
help: Whether it answers.
last_scrape: db_last_scrape
scrapes: db_scrapes_total
databases: ['*']
queries:
- {name: one, sql: SELECT 1 AS value, metrics: [{name: one, help: One.}]}
";

const TWO: &str = "
up: db_up
last_scrape: two
databases: [shop, gone]
queries:
- {name: two, sql: SELECT nothing, metrics: [{name: two_rows, help: Two.}]}
";

fn files(config: &str, one: &str, two: &str) -> Setup {
    setup(config).file("one.yaml", one).file("two.yaml", two)
}

fn page(exporter: &Exporter, path: &str) -> Page {
    let text = exporter.get(path).text().to_owned();
    assert!(text.contains("# TYPE"), "{path}: {text}");
    checked(&text)
}

/// The targets with their values, in the order of the page.
fn of(page: &Page, family: &str) -> Vec<(String, f64)> {
    page.series(family).iter().map(|row| (row.labels["target"].clone(), row.value)).collect()
}

fn pairs(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    expected.iter().map(|(target, value)| ((*target).to_owned(), *value)).collect()
}

#[test]
fn each_target_that_runs_a_collector_is_up_or_down_under_its_name() {
    let exporter = files(CONFIG, ONE, TWO).serve();
    let text = exporter.metrics();
    let all = checked(&text);
    assert_eq!(of(&all, "db_up"), pairs(&[("shop", 1.0), ("other", 1.0), ("gone", 0.0)]));
    let errors = pairs(&[("shop", 0.0), ("other", 0.0), ("gone", 1.0)]);
    assert_eq!(of(&all, "db_last_scrape_error"), errors);
    assert_eq!(
        of(&all, "two_error"),
        pairs(&[("shop", 1.0), ("gone", 1.0)]),
        "a query that fails, a target that is down"
    );
    let took = all.value("sql_exporter_scrape_duration_seconds", &[]).expect("a duration");
    for family in ["db_last_scrape_duration_seconds", "two_duration_seconds"] {
        assert!(
            !of(&all, family).is_empty() && of(&all, family).iter().all(|(_, value)| *value == took),
            "{text}"
        );
    }
    for family in [
        "db_up",
        "db_last_scrape_duration_seconds",
        "db_last_scrape_error",
        "two_duration_seconds",
        "two_error",
    ] {
        assert_eq!(all.types[family], "gauge");
        for row in all.series(family) {
            let own = all.series("sql_exporter_target_up").into_iter().any(|up| up.labels == row.labels);
            assert!(own, "not the labels of target_up: {row:?}");
        }
    }
    assert_eq!(of(&all, "db_scrapes_total"), pairs(&[("shop", 1.0), ("other", 1.0), ("gone", 1.0)]));
    assert_eq!(all.types["db_scrapes_total"], "counter");
    let narrowed = page(&exporter, "/probe?target=shop");
    assert_eq!(of(&narrowed, "db_scrapes_total"), pairs(&[("shop", 2.0)]));
    let open = exporter.get_with("/metrics", &[("Accept", "application/openmetrics-text")]).text().to_owned();
    assert!(open.contains("# TYPE db_scrapes counter\n"), "{open}");
    assert!(open.contains("\ndb_scrapes_total{target=\"other\"} 2\n"), "{open}");
    assert!(text.contains("# HELP db_up Whether it answers.\n"), "{text}");
    assert!(
        text.contains("# HELP two_error Whether a query failed in this scrape, or the target is down.\n"),
        "{text}"
    );
}

#[test]
fn a_narrowed_page_has_the_names_of_what_it_shows() {
    let exporter = files(CONFIG, ONE, TWO).serve();
    for (path, up, two) in [
        ("/metrics?target=shop", vec![("shop", 1.0)], vec![("shop", 1.0)]),
        ("/probe?target=gone", vec![("gone", 0.0)], vec![("gone", 1.0)]),
        ("/metrics?collect[]=one", vec![("shop", 1.0), ("other", 1.0), ("gone", 0.0)], vec![]),
        ("/metrics?collect[]=two&target=shop", vec![("shop", 1.0)], vec![("shop", 1.0)]),
        ("/metrics?collect[]=default", vec![], vec![]),
        ("/metrics?query=fine&target=shop", vec![], vec![]),
        ("/metrics?query=one&target=shop", vec![("shop", 1.0)], vec![]),
    ] {
        let page = page(&exporter, path);
        assert_eq!((of(&page, "db_up"), of(&page, "two_error")), (pairs(&up), pairs(&two)), "{path}");
    }
    let once = files(CONFIG, ONE, TWO).once();
    assert_eq!(of(&checked(once.text()), "db_up").len(), 3, "{}", once.text());
    let bare = files(CONFIG, ONE, TWO).args(&["collect", "--no-self-metrics"]).output();
    assert_eq!(of(&checked(bare.text()), "db_up").len(), 3, "they are asked for by name: {}", bare.text());
    let types = exporter.get("/-/metrics").text().to_owned();
    assert!(!types.contains("db_up"), "{types}");
}

#[test]
fn names_that_two_collectors_give_are_one_family_and_a_different_help_is_a_warning() {
    let check = |two: &str| files(CONFIG, ONE, two).args(&["check"]).output();
    let same = check(&TWO.replace("db_up", "db_up\nhelp: Whether it answers."));
    assert_eq!(same.code(), 0, "{}", same.text());
    assert!(!same.text().contains("different help"), "{}", same.text());
    let other = check(&TWO.replace("db_up", "db_up\nhelp: Another."));
    assert_eq!(other.code(), 0, "{}", other.text());
    let said = other.text();
    assert!(
        said.contains("two.yaml:2")
            && said.contains("db_up has a different help at")
            && said.contains("one.yaml:2"),
        "{said}"
    );
    // Two collectors that share `last_scrape`: an error of one is an error of the name.
    let shared = files(CONFIG, ONE, &TWO.replace("last_scrape: two", "last_scrape: db_last_scrape")).once();
    let page = checked(shared.text());
    assert_eq!(of(&page, "db_last_scrape_error"), pairs(&[("shop", 1.0), ("other", 0.0), ("gone", 1.0)]));
}

#[test]
fn a_collector_that_runs_nowhere_gives_no_names_and_clashes_with_nothing() {
    let config = CONFIG.replace("{name: fine, help", "{name: two_error, help");
    let idle = TWO.replace("databases: [shop, gone]", "databases: [off]");
    let output = files(&config, ONE, &idle).once();
    assert!(output.code() < 2, "{}", output.errors());
    assert!(!output.text().contains("two_duration_seconds"), "{}", output.text());
    let off = TWO.replace("name: two,", "name: two, enabled: false,");
    let output = files(&config, ONE, &off).once();
    assert!(output.code() < 2 && !output.text().contains("two_duration_seconds"), "{}", output.errors());
    let clash = files(&config, ONE, TWO).args(&["check"]).output();
    assert_eq!(clash.code(), 2, "{}", clash.text());
    assert!(clash.text().contains("two_error clashes with the metric two_error"), "{}", clash.text());
}

#[test]
fn a_query_whose_rows_make_the_name_loses() {
    let sql = "SELECT 'up' AS n, 5 AS value";
    for (metric, said) in [
        ("{name: 'db_{n}', help: Made.}", "the metric db_up is the exporter's own"),
        (
            "{name: 'db_{n}_total', help: Made., type: counter}",
            "the metrics db_up_total and db_up both own the name db_up",
        ),
    ] {
        let two =
            format!("databases: [shop]\nqueries:\n- {{name: two, sql: \"{sql}\", metrics: [{metric}]}}\n");
        let exporter = files(CONFIG, ONE, &two).serve();
        let page = page(&exporter, "/metrics");
        assert_eq!(page.value("db_up", &[("target", "shop"), ("env", "prod")]), Some(1.0));
        let failed = page.value("sql_exporter_query_success", &[("target", "shop"), ("query", "two")]);
        assert_eq!(failed, Some(0.0), "{}", exporter.log());
        exporter.wait_for_log(said);
    }
}

#[test]
fn a_reload_and_the_shown_configuration_know_the_names() {
    let exporter = files(CONFIG, ONE, TWO).serve();
    exporter.metrics();
    let config = exporter.get("/config").text().to_owned();
    for line in
        ["db_up: target_up", "two_error: scrape_error", "two_duration_seconds: scrape_duration_seconds"]
    {
        assert!(config.contains(line), "{line}: {config}");
    }
    std::fs::write(exporter.file("one.yaml"), ONE.replace("db_up", "base_up")).expect("written");
    let reply = exporter.request("POST", "/-/reload", &[]);
    assert_eq!(reply.status, 200, "{}", reply.text());
    exporter.wait_for_log("configuration reloaded: 1 target unchanged, 3 changed, 0 started, 0 ended");
    let page = page(&exporter, "/metrics");
    assert_eq!(of(&page, "base_up").len(), 3);
    // A reload does not count as a start.
    assert_eq!(page.value("db_scrapes_total", &[("target", "gone")]), Some(2.0));
    assert_eq!(of(&page, "db_up"), pairs(&[("shop", 1.0), ("gone", 0.0)]), "that of the other collector");
}

#[test]
fn the_names_of_postgres_exporter_tell_of_a_server_that_stops_within_one_scrape() {
    let mut server = OwnPostgres::start(&[]);
    let exporter = Setup::new(&format!(
        "databases: {{main: {}}}\ninclude: ['builtin:compat/postgres_exporter']\n",
        server.access().entry()
    ))
    .serve();
    let facts = || {
        let page = page(&exporter, "/metrics");
        ["pg_up", "pg_exporter_last_scrape_error"].map(|name| page.value(name, &[("target", "main")]))
    };
    assert_eq!(facts(), [Some(1.0), Some(0.0)], "{}", exporter.log());
    server.kill();
    assert_eq!(facts(), [Some(0.0), Some(1.0)], "{}", exporter.log());
    server.restart();
    assert_eq!(facts()[0], Some(1.0), "{}", exporter.log());
}

#[test]
fn the_names_of_pgbouncer_exporter_are_there() {
    let console = Postgres::shared("pgbouncer").through_pgbouncer();
    let entry = console.entry().replace("driver: postgres", "driver: pgbouncer");
    let config = format!("databases: {{pool: {entry}}}\ninclude: ['builtin:compat/pgbouncer_exporter']\n");
    let exporter = Setup::new(&config).serve();
    let page = page(&exporter, "/metrics");
    assert_eq!(page.value("pgbouncer_up", &[("target", "pool")]), Some(1.0), "{}", exporter.log());
    for family in [
        "pgbouncer_databases",
        "pgbouncer_used_servers",
        "pgbouncer_cached_dns_names",
        "pgbouncer_cached_dns_zones",
        "pgbouncer_in_flight_dns_queries",
        "pgbouncer_config_max_client_connections",
        "pgbouncer_config_max_user_connections",
    ] {
        assert_eq!(page.series(family).len(), 1, "{family}");
        assert_eq!(page.types[family], "gauge");
    }
    for family in
        ["pgbouncer_dns_names", "pgbouncer_dns_queries", "pgbouncer_cached_dns_queries", "pgbouncer_peers"]
    {
        assert!(page.series(family).is_empty(), "{family}");
    }
    let failed = page.series("sql_exporter_query_success").iter().filter(|row| row.value < 1.0).count();
    assert_eq!(failed, 0, "{}", exporter.log());
    for query in ["compat_pgbouncer_lists", "compat_pgbouncer_config"] {
        let success = page.value("sql_exporter_query_success", &[("query", query), ("target", "pool")]);
        assert_eq!(success, Some(1.0), "{query}");
    }
}

#[test]
fn targets_of_several_kinds_have_their_own_names() {
    let (postgres, mysql) = (Postgres::fresh("aliases"), MariaDb::fresh("aliases"));
    let config = format!(
        "databases:\n  a: {}\n  b: {}\ninclude: [one.yaml, two.yaml]\n",
        postgres.entry(),
        mysql.entry()
    );
    let of_driver = |driver: &str, name: &str| {
        format!(
            "driver: {driver}\nup: {name}_up\nqueries:\n- {{name: {name}, sql: SELECT 1 AS value, metrics: [{{name: {name}, help: It.}}]}}\n"
        )
    };
    let output = Setup::new(&config)
        .file("one.yaml", &of_driver("postgres", "pg"))
        .file("two.yaml", &of_driver("mysql", "mysql"))
        .once();
    let page = checked(output.text());
    assert_eq!((of(&page, "pg_up"), of(&page, "mysql_up")), (pairs(&[("a", 1.0)]), pairs(&[("b", 1.0)])));
}
