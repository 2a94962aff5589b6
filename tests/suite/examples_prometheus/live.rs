//! A real Prometheus with the example rules scrapes all databases: the expressions have data, and what is provoked fires.

use std::collections::BTreeSet;
use std::thread::JoinHandle;
use std::time::Duration;

use mysql::prelude::Queryable;
use sql_exporter::commands::demo::write;

use super::expressions::{Expression, words};
use super::{alerts, all_expressions, examples, read, rule_files};
use crate::exporter::{Exporter, Setup};
use crate::process::{free_port, poll, signal, wait_for};
use crate::prometheus::Prometheus;
use crate::servers::own::{OwnMariaDb, OwnPgBouncer, OwnPostgres};
use crate::servers::{MariaDb, Postgres};

/// Metrics without data here (`*` stands for the rest of a name), and why.
const WITHOUT_DATA: &[(&str, &str)] = &[
    ("pg_io_*", "pg_stat_io is there from PostgreSQL 16 on"),
    ("pg_vacuum_progress_*", "a vacuum under way lasts milliseconds here"),
    ("pg_database_checksum_failures_total", "the server has no checksums"),
    ("mysql_replica_*", "the server is not a replica"),
    ("mysql_galera_*", "the server is not in a cluster"),
    ("mysql_group_*", "the server is not in a group, and MariaDB has no Group Replication"),
];

/// Thresholds that no test can wait for: the alert, what its expression says, and what it says here.
const LOWERED: &[(&str, &str, &str)] = &[
    ("PostgresLongTransaction", "> 3600", "> 1"),
    ("PostgresBlockedSessions", "> 60", "> 1"),
    ("PgBouncerClientsWaiting", "> 5", "> 1"),
    ("MysqlLongTransaction", "> 3600", "> 1"),
    ("MysqlLockWaits", "> 20", "> 1"),
];

/// One scrape lasts this long at most, and a rate looks at ten of them.
const INTERVAL: &str = "3s";
const RATE: &str = "30s";
const LIMIT: Duration = Duration::from_secs(120);

/// The example rules as this test runs them: what must last minutes lasts a second, and thresholds are lowered.
fn rules_of_the_test() -> Vec<(String, String)> {
    let shorter = |line: &str| match line.trim_start().strip_prefix("for: ") {
        Some(_) => format!("{}for: 1s\n", &line[..line.len() - line.trim_start().len()]),
        None => format!("{line}\n"),
    };
    let mut files = rule_files();
    for (_, text) in &mut files {
        *text = text.lines().map(shorter).collect();
    }
    for (alert, from, to) in LOWERED {
        let head = format!("- alert: {alert}\n");
        let file = files.iter_mut().find(|(_, text)| text.contains(&head)).expect(alert);
        let (before, rule) = file.1.split_once(&head).expect("it is there");
        let (expression, rest) = rule.split_once("for:").expect("how long");
        assert!(expression.contains(from), "{alert} no longer says {from}: {expression}");
        file.1 = format!("{before}{head}{}for:{rest}", expression.replacen(from, to, 1));
    }
    files
}

/// Large enough for an estimate of its bloat.
const TABLE: &str = "
    CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
    CREATE TABLE orders (id serial PRIMARY KEY, customer int, note text);
    CREATE INDEX orders_by_customer ON orders (customer);
    INSERT INTO orders (customer, note) SELECT i % 100, repeat('x', 50) FROM generate_series(1, 20000) i";

/// A table with dead rows, slots, and a subscription to another database of the same server.
fn fill_postgres(primary: &Postgres) {
    primary.run(TABLE);
    primary.run("VACUUM ANALYZE orders");
    primary.run("DELETE FROM orders WHERE id % 3 = 0");
    primary.run("SELECT pg_create_physical_replication_slot('spare', true)");
    primary.run("CREATE TABLE stock (sku int PRIMARY KEY)");
    primary.run("CREATE DATABASE publisher");
    let publisher = Postgres { database: "publisher".to_owned(), ..primary.clone() };
    publisher.run("CREATE TABLE stock (sku int PRIMARY KEY); CREATE PUBLICATION stock FOR TABLE stock");
    publisher.run("SELECT pg_create_logical_replication_slot('stock', 'pgoutput')");
    let Postgres { port, password, .. } = primary;
    primary.run(&format!(
        "CREATE SUBSCRIPTION stock CONNECTION 'host=127.0.0.1 port={port} user=postgres password={password} dbname=publisher' \
         PUBLICATION stock WITH (create_slot = false, copy_data = false)"
    ));
}

const SQLITE: &str = "
    CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, customer INTEGER, note TEXT);
    CREATE INDEX orders_by_customer ON orders (customer);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
    INSERT INTO orders (customer, note) SELECT i % 100, 'note ' || i FROM n;
    ANALYZE;
";

/// An exporter that serves the demo.
fn demo() -> Exporter {
    let setup = Setup::empty();
    write(setup.path()).expect("the demo is written");
    setup.serve()
}

/// The databases, two exporters (the second serves the demo), and Prometheus.
struct Site {
    primary: OwnPostgres,
    /// It lives as long as the site.
    _standby: OwnPostgres,
    pgbouncer: OwnPgBouncer,
    mariadb: OwnMariaDb,
    exporter: Exporter,
    demo: Exporter,
    prometheus: Prometheus,
}

impl Site {
    fn start() -> Self {
        let primary = OwnPostgres::start(&["wal_level=logical", "archive_mode=on", "archive_command=true"]);
        // Before anything is written: the standby needs all WAL.
        let standby = OwnPostgres::standby_of(primary.access());
        fill_postgres(primary.access());
        let pgbouncer = OwnPgBouncer::before(
            primary.access(),
            "transaction",
            &["default_pool_size = 1", "admin_users = postgres"],
        );
        let mariadb = OwnMariaDb::start(&["--performance-schema", "--log-bin=binlog", "--server-id=1"]);
        mariadb.access().run(
            "CREATE DATABASE shop;\nCREATE TABLE shop.t (a int PRIMARY KEY, n int AUTO_INCREMENT, KEY (n));\n\
             INSERT INTO shop.t (a) VALUES (1);\n",
        );
        let exporter = exporter(&primary, &standby, &pgbouncer, mariadb.access());
        let demo = demo();
        let config = format!(
            "global: {{scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL}, evaluation_interval: 1s}}\n\
             rule_files: ['recording.yml', 'alerts-*.yml']\n\
             scrape_configs: [{{job_name: sql, static_configs: [{{targets: ['{}', '{}']}}]}}]\n",
            exporter.address(),
            demo.address()
        );
        let prometheus = Prometheus::with_files(&config, &rules_of_the_test());
        Site { primary, _standby: standby, pgbouncer, mariadb, exporter, demo, prometheus }
    }
}

fn exporter(
    primary: &OwnPostgres,
    standby: &OwnPostgres,
    pgbouncer: &OwnPgBouncer,
    mariadb: &MariaDb,
) -> Exporter {
    let console = pgbouncer.access().entry().replace("driver: postgres", "driver: pgbouncer");
    let console = console.replace("database: postgres", "database: pgbouncer");
    let config = format!(
        "databases:\n  primary: {}\n  standby: {}\n  my: {}\n  bouncer: {console}\n\
         \x20 lite: {{driver: sqlite, database: lite.db}}\n\
         \x20 gone: {{driver: postgres, host: 127.0.0.1, port: {}, database: x, username: x}}\n\
         \x20 many: {}\n  unlisted: {}\n\
         target_files: [more.yaml]\n\
         include: ['builtin:postgres/*', 'builtin:mysql/*', 'builtin:mariadb/*', 'builtin:pgbouncer/*', 'builtin:sqlite/*']\n\
         overrides: {{'sqlite_check_*': {{enabled: true}}, 'mysql_digest*': {{interval: 0}}}}\n\
         queries:\n- {{name: broken, database: primary, sql: SELECT 1 / 0 AS value, metrics: [{{name: broken, help: None.}}]}}\n",
        primary.access().entry(),
        standby.access().entry(),
        mariadb.entry(),
        free_port(),
        primary.access().entry_with("collectors: [postgres/functions], discover: {max: 1}"),
        primary
            .access()
            .entry_with("collectors: [postgres/functions], discover: {sql: SELECT 1 / 0 AS database}"),
    );
    let setup = Setup::new(&config).file("more.yaml", "databases: broken\n");
    let lite = rusqlite::Connection::open(setup.path().join("lite.db")).expect("a file can be made");
    lite.execute_batch(SQLITE).expect("SQLite writes");
    setup.serve()
}

/// Sessions that hold transactions and locks, and others that wait for them; at its end the waiting ones get theirs.
struct Trouble {
    holders: Vec<postgres::Client>,
    mysql_holder: mysql::Conn,
    waiting: Vec<JoinHandle<()>>,
}

impl Trouble {
    fn make(site: &Site) -> Self {
        let primary = site.primary.access().clone();
        let pooled = site.pgbouncer.access().clone();
        let mariadb = site.mariadb.access().clone();
        let mut blocker = primary.client();
        blocker.batch_execute("BEGIN; LOCK TABLE orders").expect("locked");
        let mut pool_holder = pooled.client();
        pool_holder.batch_execute("BEGIN; SELECT 1").expect("a transaction");
        let mut mysql_holder = mariadb.client();
        mysql_holder.query_drop("BEGIN").expect("a transaction");
        mysql_holder.query_drop("UPDATE shop.t SET a = 2").expect("a lock");
        let waiting = vec![
            std::thread::spawn(move || primary.run("BEGIN; LOCK TABLE orders; COMMIT")),
            std::thread::spawn(move || pooled.run("SELECT 1")),
            std::thread::spawn(move || {
                let mut client = mariadb.client();
                client.query_drop("SET innodb_lock_wait_timeout = 300").expect("set");
                client.query_drop("UPDATE shop.t SET a = 3").expect("the lock is given");
            }),
        ];
        Trouble { holders: vec![blocker, pool_holder], mysql_holder, waiting }
    }

    fn end(mut self) {
        self.holders.iter_mut().for_each(|holder| holder.batch_execute("COMMIT").expect("ended"));
        self.mysql_holder.query_drop("ROLLBACK").expect("ended");
        self.waiting.into_iter().for_each(|waiting| waiting.join().expect("it gets what it waited for"));
    }
}

fn is_without_data(metric: &str) -> bool {
    WITHOUT_DATA.iter().any(|(name, _)| match name.strip_suffix('*') {
        Some(prefix) => metric.starts_with(prefix),
        None => metric == *name,
    })
}

/// What must be answered: expressions of panels, variables and recording rules; of alerts, which have a result only while
/// something is wrong, each selector.
fn questions() -> Vec<Expression> {
    let alerts: BTreeSet<String> = alerts().iter().map(|rule| rule.place.clone()).collect();
    let mut questions = Vec::new();
    for expression in all_expressions() {
        let found = words(&expression.text);
        if found.metrics.iter().any(|metric| is_without_data(metric)) {
            continue;
        }
        if !alerts.contains(&expression.place) {
            questions.push(expression);
            continue;
        }
        let place = &expression.place;
        questions.extend(found.selectors.into_iter().map(|text| Expression { place: place.clone(), text }));
    }
    questions
}

fn wait_for_data(site: &Site) {
    let prometheus = &site.prometheus;
    // The pool of the other database is full.
    let mut client =
        Postgres { database: "publisher".to_owned(), ..site.pgbouncer.access().clone() }.client();
    let mut open = questions();
    assert!(open.len() > 250, "{}", open.len());
    let start = std::time::Instant::now();
    while !open.is_empty() {
        client.batch_execute("SELECT 1").expect("a query through PgBouncer");
        open.retain(|question| prometheus.query(&question.resolved(RATE)).is_empty());
        let list = || {
            open.iter().map(|one| format!("{}\n    {}", one.place, one.text)).collect::<Vec<_>>().join("\n")
        };
        assert!(start.elapsed() < LIMIT, "{} expressions have no data:\n{}", open.len(), list());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until an alert with this label fires.
fn wait_for_alert(prometheus: &Prometheus, alert: &str, label: (&str, &str)) {
    let (name, value) = label;
    let firing = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\", {name}=\"{value}\"}}");
    poll(&firing, LIMIT, || (!prometheus.query(&firing).is_empty()).then_some(()));
}

/// The texts of alerts that are there: each template found what it shows.
fn assert_texts_are_complete(prometheus: &Prometheus) {
    let answer = prometheus.get("/api/v1/alerts");
    let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
    assert!(!alerts.is_empty(), "{answer}");
    for alert in alerts {
        for text in
            ["summary", "description"].map(|name| alert["annotations"][name].as_str().unwrap_or_default())
        {
            let broken = text.is_empty() || text.contains("error expanding") || text.contains("no value");
            assert!(!broken, "{}: {text:?}", alert["labels"]);
        }
    }
}

/// The lists of exceptions hold nothing that is not needed.
#[test]
fn every_exception_is_about_a_metric_that_the_examples_use() {
    let used: BTreeSet<String> =
        all_expressions().iter().flat_map(|expression| words(&expression.text).metrics).collect();
    for (name, reason) in WITHOUT_DATA {
        let prefix = name.trim_end_matches('*');
        assert!(used.iter().any(|metric| metric.starts_with(prefix)), "{name}: {reason}");
    }
}

#[test]
fn expressions_have_data_and_what_is_provoked_fires() {
    let mut site = Site::start();
    let trouble = Trouble::make(&site);
    wait_for_data(&site);
    for (alert, label) in [
        ("SqlQueryFailing", ("query", "broken")),
        ("SqlTargetDown", ("target", "gone")),
        ("SqlTargetFileBroken", ("job", "sql")),
        ("SqlDiscoveryFailing", ("target", "unlisted")),
        ("SqlDatabasesDropped", ("target", "many")),
        ("PostgresLongTransaction", ("target", "primary")),
        ("PostgresBlockedSessions", ("datname", "postgres")),
        ("PgBouncerClientsWaiting", ("target", "bouncer")),
        ("PgBouncerPoolFull", ("target", "bouncer")),
        ("MysqlLongTransaction", ("target", "my")),
        ("MysqlLockWaits", ("target", "my")),
    ] {
        wait_for_alert(&site.prometheus, alert, label);
    }
    assert_texts_are_complete(&site.prometheus);
    trouble.end();

    let instance = site.demo.address().to_string();
    site.primary.kill();
    let (code, log) = site.demo.stop("TERM");
    assert_eq!(code, Some(0), "{log}");
    std::fs::write(site.exporter.file("sql-exporter.yaml"), "databases: nothing\n").expect("written");
    signal("HUP", &[site.exporter.pid()]);
    for (alert, label) in [
        ("SqlTargetDown", ("target", "primary")),
        ("PostgresReplicationStreamCut", ("target", "standby")),
        ("SqlExporterDown", ("instance", instance.as_str())),
        ("SqlReloadFailed", ("job", "sql")),
    ] {
        wait_for_alert(&site.prometheus, alert, label);
    }
    // The failing query of a target that is down is the target's alert alone.
    let silent = "ALERTS{alertname=\"SqlQueryFailing\", alertstate=\"firing\", target=\"primary\"}";
    wait_for("the query's alert to end", || site.prometheus.query(silent).is_empty().then_some(()));
    assert_texts_are_complete(&site.prometheus);
}

/// Each configuration as it is in the examples, but for addresses, the names of targets, and how often.
#[test]
fn each_scrape_configuration_reaches_the_targets() {
    let demo = demo();
    let address = demo.address().to_string();
    for name in ["prometheus.yml", "probe.yml", "sd.yml"] {
        let text = read(&examples("prometheus").join(name));
        let ours = [
            ("localhost:9399", address.as_str()),
            ("[shop, billing]", "[shop]"),
            ("scrape_interval: 30s", "scrape_interval: 1s"),
            ("scrape_timeout: 10s", "scrape_timeout: 1s"),
            ("refresh_interval: 1m", "refresh_interval: 1s"),
        ];
        let text = ours.iter().fold(text, |text, (from, to)| text.replace(from, to));
        let prometheus = Prometheus::with_files(&text, &rule_files());
        let instance = if name == "prometheus.yml" { address.as_str() } else { "shop" };
        for expression in [
            format!("up{{job=\"sql\", instance=\"{instance}\"}} == 1"),
            format!("shop_orders{{job=\"sql\", instance=\"{instance}\", target=\"shop\", env=\"demo\"}}"),
            format!("sql_exporter_build_info{{instance=\"{address}\"}}"),
        ] {
            wait_for(&format!("{name}: {expression}"), || {
                (!prometheus.query(&expression).is_empty()).then_some(())
            });
        }
    }
}
