//! `discover`: the databases of a server as targets, on PostgreSQL and MariaDB.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::checker::{Page, checked};
use crate::command::setup;
use crate::exporter::Exporter;
use crate::process::{poll, wait_for};
use crate::servers::own::OwnPostgres;
use crate::servers::{MariaDb, Postgres};

/// Queries on the parent and on the databases.
const QUERIES: &str = "queries:
  - {name: of_server, database: srv, sql: SELECT 1 AS value, metrics: [{name: of_server}]}
  - {name: of_database, databases: ['srv/*'], sql: 'SELECT length(current_database()) AS value', metrics: [{name: of_database}]}
";

fn config(entry: &str) -> String {
    format!("databases:\n  srv: {entry}\n{QUERIES}")
}

/// Names that are legal in PostgreSQL and awkward anywhere else.
const ODD_NAMES: [&str; 8] =
    ["a b", "q\"uo'te", "sla/sh", "st*r?[x]{y}", "per%cent&=+", "ünï-ç", "UPPER", "back\\slash"];

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn listed(exporter: &Exporter) -> BTreeSet<String> {
    let entries: Value = serde_json::from_str(exporter.get("/sd").text()).expect("JSON");
    let entries = entries.as_array().expect("a list");
    entries
        .iter()
        .map(|entry| entry["labels"]["__param_target"].as_str().expect("a name").to_owned())
        .collect()
}

fn probe(exporter: &Exporter, target: &str) -> Page {
    let reply = exporter.get(&format!("/probe?target={}", encoded(target)));
    assert_eq!(reply.status, 200, "{target}: {}", reply.text());
    checked(reply.text())
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A figure of the parent's discovery.
fn figure(exporter: &Exporter, name: &str) -> Option<f64> {
    let page = checked(exporter.get("/-/metrics").text());
    page.value(&format!("sql_exporter_discovery_{name}"), &[("target", "srv")])
}

/// A server of its own with these databases.
fn server_with(names: &[&str]) -> OwnPostgres {
    let server = OwnPostgres::start(&[]);
    let mut client = server.access().client();
    for name in names {
        client.batch_execute(&format!("CREATE DATABASE {}", quoted(name))).expect("a database");
    }
    server
}

#[test]
fn every_database_of_a_postgres_is_a_target_on_the_first_page_already() {
    let names: Vec<String> = (0..30).map(|number| format!("db{number:02}")).collect();
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.extend(ODD_NAMES);
    let server = server_with(&all);
    server.access().run("CREATE DATABASE tpl IS_TEMPLATE true");
    server.access().run("CREATE DATABASE closed ALLOW_CONNECTIONS false");
    let exporter = Exporter::serve(&config(&server.access().entry_with("discover: {}")));
    assert_eq!(listed(&exporter), BTreeSet::from(["srv".to_owned()]), "no database is asked for /sd");
    assert_eq!(figure(&exporter, "success"), None);
    let page = checked(&exporter.metrics());
    assert_eq!(page.value("of_server", &[("target", "srv")]), Some(1.0));
    for name in &all {
        let length = f64::from(u32::try_from(name.chars().count()).unwrap());
        assert_eq!(page.value("of_database", &[("target", &format!("srv/{name}"))]), Some(length), "{name}");
    }
    // Those of the test and `postgres`.
    assert_eq!(page.series("of_database").len(), all.len() + 1, "{:?}", page.series("of_database"));
    let wanted = all.iter().chain(&["postgres"]).map(|name| format!("srv/{name}"));
    assert_eq!(listed(&exporter), wanted.chain(["srv".to_owned()]).collect());
    for name in ODD_NAMES {
        let page = probe(&exporter, &format!("srv/{name}"));
        assert_eq!(page.value("sql_exporter_target_up", &[("target", &format!("srv/{name}"))]), Some(1.0));
        assert_eq!(page.series("of_database").len(), 1);
    }
    for (name, value) in [("success", 1.0), ("dropped", 0.0), ("targets", 39.0)] {
        assert_eq!(figure(&exporter, name), Some(value), "{name}");
    }
    assert!(figure(&exporter, "timestamp_seconds").is_some_and(|moment| moment > 1.7e9));
    let shown = exporter.get("/config").text().to_owned();
    assert!(shown.contains("srv/db07") && shown.contains("discovered_by: srv"), "{shown}");
    // As many clients as for all databases that may come: `discover.max` is 200.
    assert!(shown.contains("max_connections: 402"), "{shown}");
    let limits = checked(exporter.get("/-/metrics").text());
    for name in ["srv", "srv/db07"] {
        let limit = limits.value("sql_exporter_sessions_limit", &[("target", name)]);
        assert_eq!(limit, Some(1.0), "{name}: there are more than 20 targets on the server");
    }
    assert!(exporter.get("/").text().contains("srv/db07"));
}

/// Each database has an encoding of its own, and the catalog is shared: another database sees the bytes of the name.
#[test]
fn a_database_whose_name_is_not_utf8_is_counted_and_no_target() {
    let server = server_with(&["one"]);
    server
        .access()
        .run("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    Postgres { database: "latin".to_owned(), ..server.access().clone() }.run("CREATE DATABASE \"café\"");
    let exporter = Exporter::serve(&config(&server.access().entry_with("discover: {}")));
    let page = checked(&exporter.metrics());
    assert_eq!(page.series("of_database").len(), 3, "{:?}", page.series("of_database"));
    assert_eq!(listed(&exporter), ["srv", "srv/latin", "srv/one", "srv/postgres"].map(str::to_owned).into());
    assert_eq!((figure(&exporter, "targets"), figure(&exporter, "dropped")), (Some(3.0), Some(1.0)));
}

#[test]
fn a_database_asked_for_by_name_is_discovered_on_demand_and_an_unknown_one_is_not() {
    let server = server_with(&["one", "two", "three"]);
    let entry = server.access().entry_with(
        "discover: {sql: 'SELECT datname AS database, datdba::regrole::text AS owner, 42 AS more FROM pg_database WHERE NOT datistemplate', labels: [owner, more], max: 2}",
    );
    let exporter = Exporter::serve(&config(&entry));
    let page = probe(&exporter, "srv/one");
    assert_eq!(
        page.value("of_database", &[("target", "srv/one"), ("owner", "postgres"), ("more", "42")]),
        Some(3.0)
    );
    // The first by name: one, postgres.
    assert_eq!(listed(&exporter), ["srv", "srv/one", "srv/postgres"].map(str::to_owned).into());
    assert_eq!((figure(&exporter, "targets"), figure(&exporter, "dropped")), (Some(2.0), Some(2.0)));
    for missing in ["srv/two", "srv/", "srv/none", "srv/one/x", "other/one", "srv2"] {
        let reply = exporter.get(&format!("/probe?target={}", encoded(missing)));
        assert_eq!(reply.status, 400, "{missing}: {}", reply.text());
        assert!(reply.text().contains("unknown target"), "{}", reply.text());
    }
    exporter.wait_for_log("target srv finds more databases than are served: 2 are left out");
}

#[test]
fn databases_that_are_made_and_dropped_come_and_go() {
    let server = server_with(&["one", "two"]);
    let exporter = Exporter::serve(&config(&server.access().entry_with("discover: {interval: 1s}")));
    let page = checked(&exporter.metrics());
    assert_eq!(page.series("of_database").len(), 3);
    let sessions = || {
        let sql = "SELECT pid FROM pg_stat_activity WHERE datname = 'one'";
        let rows = server.access().client().query(sql, &[]).expect("rows");
        rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>()
    };
    let before = sessions();
    assert_eq!(before.len(), 1);
    server.access().run("CREATE DATABASE three");
    wait_for("the new database", || {
        checked(&exporter.metrics()).value("of_database", &[("target", "srv/three")])
    });
    assert_eq!(sessions(), before, "the others keep their sessions");
    server.access().run("DROP DATABASE two WITH (FORCE)");
    // Before it is known to be gone it is down.
    let page = probe(&exporter, "srv/one");
    assert_eq!(page.value("of_database", &[("target", "srv/one")]), Some(3.0));
    wait_for("the old database to go", || {
        (!listed(&exporter).contains("srv/two")).then_some(()).or_else(|| {
            exporter.metrics();
            None
        })
    });
    assert!(!exporter.metrics().contains("srv/two"));
    assert_eq!(exporter.get("/probe?target=srv/two").status, 400);
}

/// Long before the list is old, the server says that there is no such database any more.
#[test]
fn a_database_that_was_dropped_fails_as_connect_and_then_goes() {
    let server = server_with(&["one", "two"]);
    let exporter = Exporter::serve(&config(&server.access().entry_with("discover: {interval: 1h}")));
    exporter.metrics();
    server.access().run("DROP DATABASE two WITH (FORCE)");
    let page = probe(&exporter, "srv/two");
    assert_eq!(page.value("sql_exporter_target_up", &[("target", "srv/two")]), Some(0.0));
    let failure = [("target", "srv/two"), ("query", "of_database"), ("reason", "connect")];
    assert_eq!(page.value("sql_exporter_query_failure_reason", &failure), Some(1.0), "{}", exporter.log());
    poll("the database to go", Duration::from_secs(30), || {
        std::thread::sleep(Duration::from_millis(200));
        exporter.get("/probe?target=srv/one");
        (!listed(&exporter).contains("srv/two")).then_some(())
    });
    assert_eq!(exporter.get("/probe?target=srv/two").status, 400);
}

#[test]
fn while_the_server_is_down_the_last_list_stays() {
    let mut server = server_with(&["one"]);
    let exporter = Exporter::serve(&config(&server.access().entry_with("discover: {interval: 1s}")));
    assert_eq!(checked(&exporter.metrics()).series("of_database").len(), 2);
    server.kill();
    poll("the failure to be seen", Duration::from_secs(30), || {
        let page = checked(&exporter.metrics());
        assert!(page.value("sql_exporter_target_up", &[("target", "srv/one")]).is_some());
        (figure(&exporter, "success") == Some(0.0)).then_some(())
    });
    let page = checked(&exporter.metrics());
    assert_eq!(page.value("sql_exporter_target_up", &[("target", "srv/one")]), Some(0.0));
    assert_eq!(listed(&exporter), ["srv", "srv/one", "srv/postgres"].map(str::to_owned).into());
    // A reload keeps it, too.
    assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
    assert!(listed(&exporter).contains("srv/one"));
    server.restart();
    poll("the next list", Duration::from_secs(60), || {
        exporter.metrics();
        (figure(&exporter, "success") == Some(1.0)).then_some(())
    });
}

/// A scraper that narrows its pages sees that the server is down, not a mistake of its own.
#[test]
fn the_names_of_queries_that_no_target_runs_yet_are_known() {
    let entry = "{url: 'postgres://u:p@127.0.0.1:1/x', discover: {}}";
    let file = "queries: [{name: of_file, databases: ['new-*'], sql: SELECT 1 AS value, metrics: [{name: of_file}]}]";
    let main = format!("{}include: [later.yaml]\ntarget_files: [none/*.yaml]\n", config(entry));
    let exporter = setup(&main).file("later.yaml", file).serve();
    for selection in ["query=of_database", "query=of_database&target=srv", "collect[]=later"] {
        let reply = exporter.get(&format!("/metrics?{selection}"));
        assert_eq!(reply.status, 200, "{selection}: {}", reply.text());
        let up = checked(reply.text()).value("sql_exporter_target_up", &[("target", "srv")]);
        assert_eq!(up, Some(0.0), "{selection}: its databases may run it");
    }
    let unknown = exporter.get("/metrics?query=of_databases");
    assert_eq!(
        (unknown.status, unknown.text()),
        (400, "unknown query `of_databases`; nearest: of_database, of_file, of_server\n")
    );
}

#[test]
fn a_list_that_fails_is_told_and_the_target_itself_works() {
    let server = Postgres::fresh("discover");
    let entry = server.entry_with("discover: {sql: SELECT nothing AS database}");
    let exporter = Exporter::serve(&config(&entry));
    let page = checked(&exporter.metrics());
    assert_eq!(page.value("of_server", &[("target", "srv")]), Some(1.0));
    assert_eq!((figure(&exporter, "success"), figure(&exporter, "targets")), (Some(0.0), Some(0.0)));
    exporter.metrics();
    exporter.wait_for_log("target srv finds no databases");
    assert_eq!(exporter.log().matches("target srv finds no databases").count(), 1, "{}", exporter.log());
    assert!(!exporter.get("/-/metrics").text().contains("query=\"discover\""));
    // Who gives it up is not told of its failure for ever.
    std::fs::write(exporter.file("sql-exporter.yaml"), config(&server.entry_with(""))).expect("written");
    assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
    assert_eq!(figure(&exporter, "success"), None);
    assert!(!exporter.get("/-/metrics").text().contains("discovery_"));
}

#[test]
fn a_target_that_a_file_and_the_main_file_have_costs_no_database() {
    let server = server_with(&["one"]);
    let text = |more: &str| {
        let entry = server.access().entry_with("discover: {}");
        format!("databases:\n  srv: {entry}\n{more}target_files: [targets/*.yaml]\n{QUERIES}")
    };
    let moving = "databases: {x: {driver: sqlite, database: ../lite.db}}\n";
    let exporter = setup(&text("")).file("lite.db", "").file("targets/a.yaml", moving).serve();
    exporter.metrics();
    let all: BTreeSet<String> = ["srv", "srv/one", "srv/postgres", "x"].map(str::to_owned).into();
    assert_eq!(listed(&exporter), all);
    let main = text("  x: {driver: sqlite, database: lite.db}\n");
    std::fs::write(exporter.file("sql-exporter.yaml"), main).expect("written");
    assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
    assert_eq!(listed(&exporter), all, "{}", exporter.log());
}

#[test]
fn scrapes_at_once_share_one_list() {
    let server = server_with(&["one"]);
    let sql =
        "SELECT datname AS database, pg_sleep(0.5)::text AS slept FROM pg_database WHERE datname = $$one$$";
    let exporter =
        Exporter::serve(&config(&server.access().entry_with(&format!("discover: {{sql: '{sql}'}}"))));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(probe(&exporter, "srv/one").series("of_database").len(), 1));
        }
    });
    let joined = checked(exporter.get("/-/metrics").text()).value("sql_exporter_runs_joined_total", &[]);
    assert!(joined.is_some_and(|count| count >= 7.0), "{joined:?}");
}

/// The databases share their sessions: a query that waits for them is not told to raise `max_connections`.
#[test]
fn a_query_that_waited_for_a_session_of_the_databases_is_told_which_bound_to_raise() {
    let server = server_with(&["one"]);
    let entry = "discover: {sql: \"SELECT 'one' AS database\", max_connections: 1}";
    let slow = |number: u32| {
        format!(
            "  - {{name: q{number}, databases: ['srv/*'], sql: 'SELECT 1 AS value FROM pg_sleep(0.6)', metrics: [{{name: m{number}}}]}}\n"
        )
    };
    // Some are begun with a moment left each, and stopped at once: enough of them stay in line.
    let queries: String = (0..24).map(slow).collect();
    let entry = server.access().entry_with(entry);
    let exporter = Exporter::serve(&format!("databases:\n  srv: {entry}\nqueries:\n{queries}"));
    exporter.get_with("/probe?target=srv/one", &[("X-Prometheus-Scrape-Timeout-Seconds", "2")]);
    exporter.wait_for_log("in line: ");
    let log = exporter.log();
    assert!(log.contains("; raise discover.max_connections"), "{log}");
    assert!(!log.contains("; raise max_connections"), "{log}");
}

/// Sessions on the databases of the list: all but that of the parent, and the one that asks.
#[test]
fn all_databases_together_have_no_more_sessions_than_allowed() {
    let names: Vec<String> = (0..20).map(|number| format!("db{number:02}")).collect();
    let server = server_with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let sql = "SELECT datname AS database FROM pg_database WHERE datname LIKE $$db%$$";
    let entry = server.access().entry_with(&format!("discover: {{sql: '{sql}', max_connections: 3}}"));
    let exporter = Exporter::serve(&config(&entry).replace(
        "SELECT length(current_database()) AS value",
        "SELECT length(current_database()) AS value FROM pg_sleep(0.02)",
    ));
    let (over, access) = (AtomicBool::new(false), server.access().clone());
    let (most, pages) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut client = access.client();
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'db%' AND backend_type = 'client backend'";
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                let now: i64 = client.query_one(sql, &[]).expect("a row").get(0);
                most = most.max(now);
            }
            most
        });
        let pages = [(); 3].map(|()| exporter.metrics());
        over.store(true, Ordering::Relaxed);
        (watch.join().expect("a count"), pages)
    });
    for page in pages.iter().map(|page| checked(page)) {
        assert_eq!(page.series("of_database").len(), 20, "{}", exporter.log());
        let down = page.series("sql_exporter_target_up").iter().filter(|row| row.value == 0.0).count();
        assert_eq!(down, 0, "{}", exporter.log());
    }
    // A session that has said goodbye is there for a moment.
    assert!((1..=6).contains(&most), "{most} sessions");
    let open: f64 = checked(exporter.get("/-/metrics").text())
        .series("sql_exporter_sessions")
        .iter()
        .filter(|row| row.labels["target"].starts_with("srv/"))
        .map(|row| row.value)
        .sum();
    assert!(open <= 3.0, "{open} sessions");
    // One waits for another no longer than its scrape, and the server is not left alone for it.
    let one = probe(&exporter, "srv/db00");
    assert_eq!(one.series("of_database").len(), 1);
}

/// The two queries make one family in two ways, which shows where both run.
#[test]
fn a_list_that_contradicts_the_configuration_is_not_used_and_the_page_says_so() {
    let server = server_with(&["one"]);
    let contradiction = "  - {name: as_gauge, databases: ['srv/bad*'], sql: SELECT 1 AS value, metrics: [{name: bad_value}]}\n  \
                         - {name: as_counter, databases: ['srv/bad*'], sql: SELECT 2 AS value, metrics: [{name: bad_value, type: counter}]}\n";
    let exporter = Exporter::serve(&format!(
        "{}{contradiction}",
        config(&server.access().entry_with("discover: {interval: 1s}"))
    ));
    exporter.metrics();
    assert_eq!(figure(&exporter, "success"), Some(1.0), "{}", exporter.log());
    server.access().run("CREATE DATABASE bad");
    wait_for("the list to be refused", || {
        exporter.metrics();
        (figure(&exporter, "success") == Some(0.0)).then_some(())
    });
    exporter.wait_for_log("the databases that were found are not used, the last ones stay");
    assert!(listed(&exporter).contains("srv/one") && !listed(&exporter).contains("srv/bad"));
    assert_eq!(probe(&exporter, "srv/one").series("of_database").len(), 1);
    server.access().run("DROP DATABASE bad");
    wait_for("the list to be used again", || {
        exporter.metrics();
        (figure(&exporter, "success") == Some(1.0)).then_some(())
    });
}

/// The server has fewer sessions for the role than `max_connections` allows.
#[test]
fn discovered_databases_beside_a_full_server_are_all_on_the_page() {
    let server = OwnPostgres::start(&["max_connections=8", "superuser_reserved_connections=3"]);
    let access = server.access();
    access.run("CREATE ROLE monitor LOGIN PASSWORD 'c4nary-monitor'");
    for n in 0..12 {
        access.run(&format!("CREATE DATABASE d{n:02} STRATEGY file_copy"));
    }
    // Two of the five sessions that are left for ordinary users.
    let mut other = postgres::Config::new();
    other.host("127.0.0.1").port(access.port).user("monitor").password("c4nary-monitor").dbname("d00");
    let _others = [(); 2].map(|()| other.connect(postgres::NoTls).expect("a login"));
    let entry = access.entry_with("discover: {max_connections: 10}");
    let entry =
        entry.replace("username: postgres", "username: monitor").replace(&access.password, "c4nary-monitor");
    let exporter = Exporter::serve(&config(&entry));
    let timeout = [("X-Prometheus-Scrape-Timeout-Seconds", "60")];
    for _ in 0..3 {
        let page = checked(exporter.get_with("/metrics", &timeout).text());
        // Those of the list, and that of the entry.
        assert_eq!(page.series("of_database").len(), 13, "{}", exporter.log());
    }
}

#[test]
fn commands_know_discovered_databases() {
    let server = server_with(&["one", "a b"]);
    let run = |arguments: &[&str]| {
        let output = setup(&config(&server.access().entry_with("discover: {}"))).args(arguments).output();
        assert_eq!(output.code(), 0, "{arguments:?}: {}{}", output.text(), output.errors());
        output.text().to_owned()
    };
    let once = checked(&run(&["--once"]));
    assert_eq!(once.value("of_database", &[("target", "srv/a b")]), Some(3.0));
    let one = checked(&run(&["collect", "--target", "srv/one"]));
    assert_eq!(one.series("of_database").len(), 1);
    run(&["check"]);
    assert!(run(&["check", "--connect"]).contains("srv/one"));
    let tested = run(&["test"]);
    assert!(tested.contains("srv/one") && tested.contains("srv/a b"), "{tested}");
    assert!(!run(&["test", "--target", "srv/one"]).contains("srv/a b"));
    assert!(
        run(&["try", "--target", "srv/one", "--query", "of_database"])
            .contains("of_database{target=\"srv/one\"} 3")
    );
    assert!(run(&["try", "--target", "srv/a b", "--sql", "SELECT current_database()"]).contains("a b"));
    for arguments in
        [&["try", "--query", "of_database"][..], &["try", "--query", "of_database", "--target", "srv"]]
    {
        let output = setup(&config(&server.access().entry_with("discover: {}"))).args(arguments).output();
        assert_eq!(output.code(), 2, "{arguments:?}: {}", output.text());
        assert!(output.errors().contains("name a database: --target srv/DATABASE"), "{}", output.errors());
    }
}

#[test]
fn every_schema_of_a_mariadb_is_a_target() {
    let server = MariaDb::fresh("discover");
    let prefix = server.database.clone();
    let odd = ["", "_two", "_st*r?[x]", "_sla/sh", "_per%c&nt", "_ünï"];
    for name in &odd[1..] {
        server.run(&format!("CREATE DATABASE `{prefix}{name}`"));
    }
    let sql = format!(
        "SELECT schema_name AS `database` FROM information_schema.schemata WHERE schema_name LIKE ''{}%''",
        prefix.replace('_', "\\_")
    );
    let queries = QUERIES.replace("length(current_database())", "char_length(database())");
    let config = |discover: &str| format!("databases:\n  srv: {}\n{queries}", server.entry_with(discover));
    let exporter = Exporter::serve(&config(&format!("discover: {{sql: '{sql}', interval: 1s}}")));
    let page = checked(&exporter.metrics());
    for name in odd {
        let name = format!("{prefix}{name}");
        let length = f64::from(u32::try_from(name.chars().count()).unwrap());
        assert_eq!(page.value("of_database", &[("target", &format!("srv/{name}"))]), Some(length), "{name}");
        assert_eq!(probe(&exporter, &format!("srv/{name}")).series("of_database").len(), 1);
    }
    assert_eq!(page.series("of_database").len(), odd.len());
    server.run(&format!("DROP DATABASE `{prefix}_two`"));
    wait_for("the schema to go", || {
        exporter.metrics();
        (!listed(&exporter).contains(&format!("srv/{prefix}_two"))).then_some(())
    });
    // Without SQL of its own: all but the server's.
    let all = Exporter::serve(&config("discover: {}"));
    let page = checked(&all.metrics());
    assert!(page.value("of_database", &[("target", &format!("srv/{prefix}"))]).is_some());
    for own in ["mysql", "sys", "information_schema", "performance_schema"] {
        assert!(!listed(&all).contains(&format!("srv/{own}")), "{own}");
    }
}
