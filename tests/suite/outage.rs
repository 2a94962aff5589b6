//! Outages of every kind, one exporter under all of them: the other targets are on time, what the outage cost comes back
//! (threads, descriptors, sessions), and the first scrape after the recovery is good.

mod ward;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use mysql::prelude::Queryable;

use crate::checker::checked;
use crate::command::setup;
use crate::exporter::{Exporter, Setup};
use crate::process::{is_root, wait_for};
use crate::proxy::{Mode, Proxy};
use crate::servers::own::{Access, Own, OwnMariaDb, OwnPostgres};
use crate::servers::{MariaDb, Postgres};

use ward::{CONNECT, Ward, config};

/// The entry of a server as seen through a proxy, with short connect times.
fn through(proxy: &Proxy, entry: &str, port: u16) -> String {
    entry.replace(&format!("port: {port}"), &format!("port: {}", proxy.port()))
}

fn a_network_that_fails(entry: &str, port: u16) {
    let proxy = Proxy::before(port);
    let ward = Ward::open(&through(&proxy, entry, port));
    // Under living sessions, then under logins: a session that saw a timeout is gone.
    for mode in [Mode::Freeze, Mode::Swallow] {
        proxy.set(mode);
        // Longer than a login may take: one that goes on would end well in between.
        ward.suffers("4", &["timeout", "lost", "connect", "wedged"]);
        proxy.set(Mode::Pass);
    }
    ward.recovers();
    ward.holds_no_more(0);
}

#[test]
fn a_silent_or_swallowing_network_before_postgres_costs_its_target_only() {
    let server = Postgres::fresh("outage_net");
    a_network_that_fails(&server.entry_with(CONNECT), server.port);
}

#[test]
fn a_silent_or_swallowing_network_before_mariadb_costs_its_target_only() {
    let server = MariaDb::fresh("outage_net");
    a_network_that_fails(&server.entry_with(CONNECT), server.port);
}

fn a_server_that_freezes_or_restarts<A: Access>(mut server: Own<A>, entry: &str) {
    let ward = Ward::open(entry);
    server.freeze();
    ward.suffers("1", &["timeout", "wedged"]);
    server.thaw();
    ward.recovers();
    server.kill();
    ward.suffers("5", &["connect", "lost"]);
    server.restart();
    assert!(ward.page("5").is_good(), "a refused connect is tried at every scrape: {}", ward.exporter.log());
    ward.recovers();
}

#[test]
fn a_postgres_that_freezes_or_restarts_costs_its_target_only() {
    let server = OwnPostgres::start(&[]);
    let entry = server.access().entry_with(CONNECT);
    a_server_that_freezes_or_restarts(server, &entry);
}

#[test]
fn a_mariadb_that_freezes_or_restarts_costs_its_target_only() {
    let server = OwnMariaDb::start(&[]);
    let entry = server.access().entry_with(CONNECT);
    a_server_that_freezes_or_restarts(server, &entry);
}

/// The server goes while a query of it runs.
fn restart_mid_scrape(
    entry: &str,
    gated: &str,
    open: impl Fn(),
    is_running: impl Fn() -> bool,
    restart: impl FnOnce(),
) {
    let ward = Ward::of(setup(&config(entry, gated)).serve());
    open();
    std::thread::scope(|scope| {
        let scrape = scope.spawn(|| ward.page("20"));
        wait_for("the query to run", || is_running().then_some(()));
        restart();
        let seen = scrape.join().expect("a page");
        let reason = seen.reason("sick_one");
        assert!(
            ["lost", "cancelled", "connect", "server"].contains(&&*reason),
            "{reason}: {}",
            ward.exporter.log()
        );
        assert!(seen.0.series("sick_one").is_empty());
    });
    ward.recovers();
}

#[test]
fn a_postgres_that_restarts_under_a_query_is_lost_and_then_good() {
    let mut server = OwnPostgres::start(&[]);
    let access = server.access().clone();
    let lock = std::cell::RefCell::new(access.client());
    // It sleeps while somebody holds an advisory lock, which no restart survives.
    let gated = "SELECT CASE WHEN count(*) > 0 THEN length(pg_sleep(60)::text) END IS NULL AS value \
                 FROM pg_locks AS gate_mark WHERE locktype = 'advisory'";
    let count = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%gate_mark%' \
                 AND pid <> pg_backend_pid()";
    restart_mid_scrape(
        &access.entry_with(CONNECT),
        gated,
        || drop(lock.borrow_mut().query("SELECT pg_advisory_lock(1)", &[]).expect("a lock")),
        || access.client().query_opt(count, &[]).expect("an answer").is_some(),
        || {
            server.kill();
            server.restart();
        },
    );
}

#[test]
fn a_mariadb_that_restarts_under_a_query_is_lost_and_then_good() {
    let mut server = OwnMariaDb::start(&[]);
    let access = server.access().clone();
    access.run("CREATE TABLE gate (pause double) ENGINE = MEMORY;\nINSERT INTO gate VALUES (0)");
    let watch = access.clone();
    let gated = "SELECT 1 + coalesce(sleep((SELECT max(pause) FROM gate)), 0) AS value";
    restart_mid_scrape(
        &access.entry_with(CONNECT),
        gated,
        || access.run("UPDATE gate SET pause = 60"),
        || {
            let count = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%gate%' AND id <> connection_id()";
            watch.client().query_first::<usize, _>(count).expect("an answer") > Some(0)
        },
        || {
            server.kill();
            server.restart();
        },
    );
}

#[test]
fn a_connection_limit_costs_its_target_until_there_is_room() {
    let postgres = Postgres::fresh("outage_limit");
    postgres.run(
        "DROP ROLE IF EXISTS narrow; CREATE ROLE narrow LOGIN PASSWORD 'c4nary-narrow' CONNECTION LIMIT 9",
    );
    let entry = postgres
        .entry_with(CONNECT)
        .replace("username: postgres", "username: narrow")
        .replace(&postgres.password, "c4nary-narrow");
    let ward = Ward::open(&entry);
    postgres.run(
        "ALTER ROLE narrow CONNECTION LIMIT 0; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'narrow'",
    );
    ward.suffers("5", &["connect", "server", "lost"]);
    ward.exporter.wait_for_log("too many connections");
    postgres.run("ALTER ROLE narrow CONNECTION LIMIT 9");
    // A full server is left alone for a while, as a silent one is.
    wait_for("room again", || ward.page("5").is_good().then_some(()));
    ward.recovers();
}

#[test]
fn a_mariadb_without_room_costs_its_target_until_there_is_some() {
    // Root keeps one connection beyond the limit.
    let server = OwnMariaDb::start(&["--max-connections=10"]);
    let access = server.access();
    access.run("CREATE USER narrow IDENTIFIED BY 'c4nary-narrow'");
    let entry = access
        .entry_with(CONNECT)
        .replace("username: root", "username: narrow")
        .replace(&access.password, "c4nary-narrow")
        .replace("database: mysql", "database: information_schema");
    let ward = Ward::open(&entry);
    let mut root = access.client();
    root.query_drop("SET GLOBAL max_connections = 10").expect("a limit");
    let list = "SELECT id FROM information_schema.processlist WHERE user = 'narrow'";
    for id in root.query::<u64, _>(list).expect("a list") {
        root.query_drop(format!("KILL {id}")).expect("a session ends");
    }
    let narrow = |_| {
        let options = mysql::OptsBuilder::new()
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(access.port)
            .prefer_socket(false)
            .user(Some("narrow"))
            .pass(Some("c4nary-narrow"));
        mysql::Conn::new(options).ok()
    };
    let taken: Vec<mysql::Conn> = (0..10).filter_map(narrow).collect();
    assert!(!taken.is_empty(), "some connections fill the limit");
    ward.suffers("5", &["connect", "server"]);
    ward.exporter.wait_for_log("Too many connections");
    drop(taken);
    wait_for("room again", || ward.page("5").is_good().then_some(()));
    ward.recovers();
}

#[test]
fn a_name_that_nobody_resolves_costs_its_target_until_it_is_known() {
    if !is_root() {
        eprintln!("skipped: a name server of its own is given to the exporter by mounting, which needs root");
        return;
    }
    // A name server that takes questions and never answers.
    let silent = (1..255).find_map(|n| UdpSocket::bind(SocketAddr::from(([127, 53, 0, n], 53))).ok());
    let silent = silent.expect("root may bind port 53");
    let address = silent.local_addr().expect("it is bound").ip();
    let server = Postgres::fresh("outage_dns");
    let known = "127.0.0.1 localhost\n127.0.0.1 db.example\n";
    let entry = server.entry_with(CONNECT).replace("host: 127.0.0.1", "host: db.example");
    let setup: Setup = setup(&config(&entry, "SELECT 1 AS value"))
        .file("hosts", known)
        .file("resolv.conf", &format!("nameserver {address}\noptions timeout:2 attempts:1\n"))
        .mount("/etc/hosts", "hosts")
        .mount("/etc/resolv.conf", "resolv.conf");
    let ward = Ward::of(setup.serve());
    let hosts = ward.exporter.file("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").expect("a file");
    // The addresses of a name are kept for 20 times as long as the resolver took, at most 5 s.
    std::thread::sleep(Duration::from_secs(5));
    server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
    ward.suffers("5", &["timeout", "wedged"]);
    ward.exporter.wait_for_log("db.example");
    std::fs::write(&hosts, known).expect("a file");
    ward.recovers();
}

#[test]
fn a_failover_to_other_columns_gives_no_value_of_the_old_ones() {
    let first = Postgres::fresh("outage_first");
    let second = Postgres::fresh("outage_second");
    first.run("CREATE TABLE orders AS SELECT 'old' AS state, 1 AS value");
    second.run("CREATE TABLE orders AS SELECT 7.5::numeric AS amount, 'new' AS state, now() AS made");
    let proxies = [first.port, second.port];
    assert_eq!(
        proxies[0], proxies[1],
        "both are on the shared server: what changes is the database behind a name"
    );
    let entry = first.entry_with(CONNECT);
    let exporter = Exporter::serve(&format!(
        "databases:\n  db: {entry}\nqueries:\n\
         - {{name: orders, sql: SELECT * FROM orders, metrics: [{{name: orders, labels: [state]}}]}}\n\
         - {{name: states, sql: SELECT * FROM orders, metrics: [{{name: states, labels: [state], value: 1}}]}}\n"
    ));
    let page = || checked(&exporter.metrics());
    assert_eq!(page().value("orders", &[("state", "old")]), Some(1.0));
    let server = Postgres::shared("postgres");
    for (from, to) in [(&first.database, "outage_old"), (&second.database, first.database.as_str())] {
        server.run(&format!("DROP DATABASE IF EXISTS {to}"));
        server
            .run(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{from}'"));
        server.run(&format!("ALTER DATABASE {from} RENAME TO {to}"));
    }
    let page = page();
    assert!(page.series("orders").is_empty(), "{}", exporter.log());
    let reason = [("query", "orders"), ("reason", "missing_column")];
    assert_eq!(page.value("sql_exporter_query_failure_reason", &reason), Some(1.0), "{}", exporter.log());
    exporter.wait_for_log("no column `value`; it has `amount`, `state`, `made`");
    assert_eq!(page.value("states", &[("state", "new")]), Some(1.0), "columns that are there are found anew");
    server.run("DROP DATABASE outage_old");
}
