//! `/probe`, `/sd`, `/config`, `/-/ready`, and what strangers see: who gets which rows, names and words.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sql_exporter::commands::run::start;
use sql_exporter::config;
use sql_exporter::driver::Drivers;
use sql_exporter::engine::scrape::{ScrapeTime, scrape};
use sql_exporter::server::endpoints::Endpoints;
use sql_exporter::server::{Method, Peer, Request, Response};
use sql_exporter::yaml::document::Document;

use crate::checker::{checked, openmetrics};
use crate::exporter::{Exporter, Setup};
use crate::process::wait_for;
use crate::prometheus::Prometheus;
use crate::servers::{CANARY, tls_file};

const CONFIG: &str = "
databases:
  shop: {driver: sqlite, database: ./shop.db, labels: {env: 'a\"b', site: hq}}
  mill: {driver: sqlite, database: ./shop.db}
  gone: {driver: sqlite, database: ./nothing/gone.db}
  off: {driver: sqlite, database: ./shop.db, enabled: false}
queries:
  - {name: one, databases: [shop, mill, off], sql: SELECT 1 AS value, metrics: [{name: one, help: One.}]}
  - {name: two, databases: [shop, gone], sql: SELECT 2 AS value, metrics: [{name: two, help: Two.}]}
";

fn exporter(more: &str) -> Exporter {
    Setup::new(&format!("{CONFIG}{more}")).file("shop.db", "").serve()
}

#[test]
fn a_probe_shows_one_target_with_its_own_rows_and_no_other() {
    let exporter = exporter("");
    let reply = exporter.get("/probe?target=shop");
    let page = checked(reply.text());
    assert_eq!(page.value("one", &[("target", "shop"), ("env", "a\"b"), ("site", "hq")]), Some(1.0));
    assert_eq!(page.value("sql_exporter_target_up", &[("target", "shop")]), Some(1.0));
    for own in ["duration_seconds", "timeout_seconds", "series", "series_limit"] {
        assert!(page.value(&format!("sql_exporter_scrape_{own}"), &[]).is_some(), "{own}");
    }
    for absent in
        ["mill", "gone", "process_", "sql_exporter_http_", "sql_exporter_sessions", "sql_exporter_build"]
    {
        assert!(!reply.text().contains(absent), "{absent} in {}", reply.text());
    }
    let narrow = exporter.get("/probe?target=shop&query=two");
    assert!(narrow.text().contains("\ntwo{") && !narrow.text().contains("\none{"), "{}", narrow.text());
    let down = checked(exporter.get("/probe?target=gone").text());
    assert_eq!(down.value("sql_exporter_target_up", &[("target", "gone")]), Some(0.0));
}

#[test]
fn head_has_the_status_of_get_and_runs_no_query() {
    let exporter = exporter("");
    for (path, status) in [
        ("/metrics", 200),
        ("/metrics?target=shop&query=two&collect[]=default", 200),
        ("/metrics?target=wrong", 400),
        ("/metrics?collect[]=wrong", 400),
        ("/metrics?query=wrong", 400),
        ("/probe?target=shop", 200),
        ("/probe?target=off", 200),
        ("/probe?target=wrong", 400),
        ("/probe?target=shop&query=wrong", 400),
        ("/probe?target=shop&target=mill", 400),
        ("/probe", 400),
        ("/", 200),
        ("/sd", 200),
        ("/config", 200),
        ("/-/metrics", 200),
        ("/-/ready", 200),
        ("/-/reload", 405),
        ("/nothing", 404),
    ] {
        let head = exporter.request("HEAD", path, &[]);
        assert_eq!((head.status, head.text()), (status, ""), "HEAD {path}");
        if !path.contains("metrics") || status != 200 {
            let get = exporter.get(path);
            assert_eq!(get.status, status, "GET {path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        }
    }
}

#[test]
fn only_a_configured_name_is_probed() {
    let exporter = exporter("");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let address = listener.local_addr().expect("bound");
    let asked = |path: &str| {
        let reply = exporter.get(path);
        (reply.status, reply.text().to_owned())
    };
    for path in ["/probe", "/probe?target=shop&target=mill", "/probe?collect[]=default"] {
        assert_eq!(
            asked(path),
            (400, "name one target: /probe?target=NAME; /sd lists them\n".to_owned()),
            "{path}"
        );
    }
    assert_eq!(
        asked("/probe?target=shpo"),
        (400, "unknown target `shpo`; nearest: shop, gone, mill\n".to_owned())
    );
    assert_eq!(
        asked("/probe?target=shop&query=on"),
        (400, "unknown query `on`; nearest: one, two\n".to_owned())
    );
    for dsn in [format!("postgres://{address}/x"), format!("{address}"), "sqlite:shop.db".to_owned()] {
        let (status, text) = asked(&format!("/probe?target={dsn}"));
        assert_eq!(status, 400, "{text}");
    }
    assert!(listener.accept().is_err(), "somebody was connected to");
}

#[test]
fn pages_and_reload_take_the_words_of_flags() {
    let exporter = exporter("exporter: {enable_pages: OFF, enable_reload: yes}\n");
    assert_eq!(exporter.get("/config").status, 404);
    assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
}

#[test]
fn a_disabled_target_answers_with_nothing() {
    let exporter = exporter("");
    let reply = exporter.get("/probe?target=off");
    assert_eq!((reply.status, reply.text()), (200, ""));
    let open =
        exporter.get_with("/probe?target=off", &[("Accept", "application/openmetrics-text; version=1.0.0")]);
    assert_eq!(open.text(), "# EOF\n");
    openmetrics::check(open.text()).expect("legal");
}

#[test]
fn discovery_lists_enabled_targets_at_the_address_that_was_asked() {
    let exporter = exporter("");
    let asked = |path: &str, host: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        crate::web_client::Reply::parse(
            &crate::web_client::exchange(exporter.address(), text.as_bytes()),
            false,
        )
        .expect("a reply")
    };
    let reply = asked("/sd", "exporter.example:9399");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let entries: Value = serde_json::from_str(reply.text()).expect("JSON");
    let names: Vec<&str> = entries
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["labels"]["instance"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["shop", "mill", "gone"]);
    let expected = json!({
        "targets": ["exporter.example:9399"],
        "labels": {
            "__metrics_path__": "/probe", "__param_target": "shop", "instance": "shop",
            "__meta_sql_exporter_target": "shop", "__meta_sql_exporter_driver": "sqlite",
            "__meta_sql_exporter_label_env": "a\"b", "__meta_sql_exporter_label_site": "hq",
        }
    });
    assert_eq!(entries[0], expected);
    assert_eq!(asked("/sd", "<script>").status, 400);
    assert_eq!(asked("/sd", "").status, 400);
    let own = exporter.get("/-/metrics").text().to_owned();
    assert!(own.contains("sql_exporter_scrapes_total{outcome=\"complete\"} 0\n"), "a query ran: {own}");

    let behind = self::exporter("exporter: {advertise: 'metrics.example:443'}\n");
    let entries: Value = serde_json::from_str(behind.get("/sd").text()).expect("JSON");
    assert_eq!(entries[1]["targets"], json!(["metrics.example:443"]));
}

#[test]
fn prometheus_discovers_the_targets_and_scrapes_each_by_itself_over_tls_with_a_login() {
    let password = format!("{CANARY}sd");
    let hash = bcrypt::hash(&password, 5).expect("a hash");
    let read = |name: &str| std::fs::read_to_string(tls_file(name)).expect("made");
    let web = format!(
        "tls_server_config: {{cert_file: c.pem, key_file: k.pem}}\nbasic_auth_users: {{prom: {hash}}}\n"
    );
    let exporter = Setup::new(&format!("{CONFIG}exporter: {{web_config_file: web.yml}}\n"))
        .file("shop.db", "")
        .file("web.yml", &web)
        .file("c.pem", &read("server.pem"))
        .file("k.pem", &read("server.key"))
        .serve();
    let access = format!(
        "basic_auth: {{username: prom, password: {password}}}, tls_config: {{ca_file: '{}'}}",
        tls_file("ca.pem").display()
    );
    let port = exporter.address().port();
    let prometheus = Prometheus::with_jobs(&format!(
        "- {{job_name: sql, {access}, http_sd_configs: [{{url: 'https://localhost:{port}/sd', refresh_interval: 1s, {access}}}]}}\n"
    ));
    for (series, value) in [
        ("one{instance=\"shop\",exported_target=\"\",target=\"shop\"}", "1"),
        ("two{instance=\"shop\"}", "2"),
        ("one{instance=\"mill\"}", "1"),
        ("sql_exporter_target_up{instance=\"gone\"}", "0"),
        ("count(up == 1)", "3"),
    ] {
        wait_for(series, || {
            let found = prometheus.query(series);
            found.iter().any(|found| found["value"][1] == value).then_some(())
        });
    }
}

/// A login, and a prefix: what needs no login and what does lies below it.
#[test]
fn with_a_prefix_everything_lies_below_it() {
    let web = format!("basic_auth_users: {{prom: {}}}\n", bcrypt::hash("word", 5).expect("a hash"));
    let exporter =
        Setup::new(&format!("{CONFIG}exporter: {{route_prefix: a/sql/, web_config_file: web.yml}}\n"))
            .file("shop.db", "")
            .file("web.yml", &web)
            .serve();
    let login = [("Authorization", "Basic cHJvbTp3b3Jk")];
    let get = |path: &str| exporter.get_with(path, &login);
    for path in ["/a/sql/-/healthy", "/a/sql/-/ready"] {
        assert_eq!(exporter.get(path).status, 200, "{path}");
    }
    for path in ["/", "/a/sql/", "/a/sql/metrics", "/-/healthy", "/a/sql/-/metrics"] {
        assert_eq!(exporter.get(path).status, 401, "{path}");
    }
    for path in ["/metrics", "/a/metrics", "/-/healthy", "/a", "/a/sqlx", "/a/sql/nothing"] {
        let reply = get(path);
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.text().contains("\n  /a/sql/metrics "), "{}", reply.text());
    }
    for path in ["/", "/a/sql"] {
        let reply = get(&format!("{path}?q=shop"));
        assert_eq!((reply.status, reply.header("location")), (302, Some("/a/sql/?q=shop")), "{path}");
    }
    assert!(
        checked(get("/a/sql/metrics").text())
            .value("sql_exporter_target_up", &[("target", "shop")])
            .is_some()
    );
    let page = get("/a/sql/").text().to_owned();
    for link in
        ["/a/sql/metrics", "/a/sql/-/metrics", "/a/sql/sd", "/a/sql/config", "/a/sql/probe?target=shop"]
    {
        assert!(page.contains(&format!("<a href=\"{link}\"")), "{link} in {page}");
    }
    let mut links = page.match_indices("href=\"/").map(|(at, _)| &page[at + 6..]);
    assert!(links.all(|link| link.starts_with("/a/sql/")), "{page}");
    assert!(get("/a/sql/probe").text().contains("/a/sql/probe?target=NAME; /a/sql/sd lists them"));
    assert!(get("/a/sql/config").text().contains("  route_prefix: /a/sql/\n"));
    let entries: Value = serde_json::from_str(get("/a/sql/sd").text()).expect("JSON");
    assert_eq!(entries[0]["labels"]["__metrics_path__"], "/a/sql/probe");
    assert_eq!(exporter.request("POST", "/a/sql/-/reload", &login).status, 200);
    let own = get("/a/sql/-/metrics").text().to_owned();
    for line in [
        "sql_exporter_http_requests_total{code=\"302\",path=\"/\"} 2\n",
        "sql_exporter_http_requests_total{code=\"200\",path=\"/metrics\"} 1\n",
        "sql_exporter_http_requests_total{code=\"200\",path=\"/-/healthy\"} 1\n",
        "sql_exporter_http_requests_total{code=\"404\",path=\"other\"} 6\n",
    ] {
        assert!(own.contains(line), "{line} in {own}");
    }
}

#[test]
fn prometheus_discovers_and_scrapes_the_targets_below_a_prefix() {
    let exporter = exporter("exporter: {route_prefix: /sql}\n");
    let port = exporter.address().port();
    let prometheus = Prometheus::with_jobs(&format!(
        "- {{job_name: sql, http_sd_configs: [{{url: 'http://localhost:{port}/sql/sd', refresh_interval: 1s}}]}}\n\
         - {{job_name: own, metrics_path: /sql/-/metrics, static_configs: [{{targets: ['localhost:{port}']}}]}}\n"
    ));
    for (series, value) in [
        ("one{instance=\"shop\"}", "1"),
        ("one{instance=\"mill\"}", "1"),
        ("sql_exporter_target_up{instance=\"gone\"}", "0"),
        ("count(up{job=\"sql\"} == 1)", "3"),
        ("up{job=\"own\"}", "1"),
    ] {
        wait_for(series, || {
            let found = prometheus.query(series);
            found.iter().any(|found| found["value"][1] == value).then_some(())
        });
    }
}

const SECRETS: &str = "
defaults: {database: {session_sql: ['SELECT ''SECRET-SQL''']}}
databases:
  pg:
    url: 'postgres://exporter:SECRET-URL@db.example:6543/shop?application_name=SECRET-PARAM'
    max_connections: 5
  my: {driver: mysql, host: my.example, username: u, password: '${SECRET}', params: {charset: utf8mb4}}
  cmd: {driver: postgres, host: h, username: u, password_command: [/bin/vault, SECRET-ARG], enabled: false}
  lite: {driver: sqlite, database: x.db, session_sql: \"PRAGMA key = 'SECRET-KEY'\"}
  list: {driver: sqlite, database: x.db, session_sql: [\"PRAGMA key = 'SECRET-KEY'\", SELECT 'SECRET-TOO']}
  maria: {driver: mariadb, host: m.example, username: u, session_sql: SELECT 'SECRET-SQL'}
  bounce: {driver: pgbouncer, host: b.example, username: u, session_sql: SET LOCAL x = 'SECRET-SQL'}
  later: {driver: mssql, host: h.example, session_sql: SELECT 'SECRET-SQL', enabled: false}
queries:
  - name: q
    database: pg
    sql: |
      SELECT 1 AS value
      FROM t
    timeout: 1500ms
    metrics: [{name: q, help: 'A: b'}]
overrides: {q: {max_rows: 7}}
exporter: {scrape_timeout: 5s}
";

#[test]
fn the_effective_configuration_is_shown_without_its_secrets() {
    let exporter = Setup::new(SECRETS).env("SECRET", "SECRET-WORD").serve();
    let page = exporter.get("/config").text().to_owned();
    assert!(!page.contains("SECRET"), "{page}");
    let document = Document::parse("config", Path::new("."), page.clone()).expect("it is YAML");
    assert!(document.faults.is_empty());
    for part in [
        "  pg:\n    url: postgres://exporter@db.example:6543/shop\n",
        "      - /bin/vault\n      - <hidden>\n",
        "    password: <hidden>\n    params:\n      charset: <hidden>\n",
        "    session_sql:\n      - <hidden>\n",
        "  lite:\n    driver: sqlite\n    database: x.db\n    session_sql: <hidden>\n",
        "    database: x.db\n    session_sql:\n      - <hidden>\n      - <hidden>\n",
        "      q:\n        enabled: true\n        timeout: 1500ms\n        interval: 0s\n        keep_last: 0s\n        max_rows: 7\n",
        "    max_connections: 5\n",
        "    idle_timeout: 10m\n    max_lifetime: 30m\n",
        "  scrape_timeout: 5s\n  max_scrape_timeout: none\n",
        "    sql: |-\n      SELECT 1 AS value\n      FROM t\n",
        "        help: \"A: b\"\n",
        "    head_timeout: 5s\n",
    ] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
}

/// The endpoints as a peer elsewhere meets them, who cannot come over loopback.
fn site(more: &str) -> (tempfile::TempDir, Arc<Endpoints>) {
    let folder = crate::process::folder();
    let path = folder.path().join("test.yaml");
    std::fs::write(folder.path().join("shop.db"), "").expect("written");
    let text = CONFIG.replace("SELECT 2 AS value", "SELECT value FROM nowhere");
    std::fs::write(&path, format!("{text}{more}")).expect("written");
    let plan =
        config::load(&path, &|_| None, &Drivers::built_in()).unwrap_or_else(|faults| panic!("{faults:?}"));
    let fleet = start::make_targets(plan);
    let time = ScrapeTime { began: Instant::now(), budget: Duration::from_secs(20) };
    scrape(&fleet, &Default::default(), time).expect("a page");
    let faults = Arc::new(vec![sql_exporter::error::Error::config("password: oops")]);
    (folder, Arc::new(Endpoints::new(fleet, Box::new(move |_| Err(Arc::clone(&faults))), |_| None)))
}

fn ask(
    site: &Endpoints,
    method: Method,
    path: &str,
    peer: &str,
    known: bool,
    headers: &[(&str, &str)],
) -> (u16, String) {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let peer = Peer::Address(peer.parse::<IpAddr>().expect("an address"));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let (path, received) = (path.to_owned(), Instant::now());
    let Response { status, body, .. } = site.answer(&Request {
        method,
        path,
        query,
        headers,
        peer,
        authenticated: known,
        over_tls: false,
        received,
    });
    (status, body.iter().map(|part| String::from_utf8_lossy(part.bytes()).into_owned()).collect())
}

const STRANGER: &str = "192.0.2.7";

#[test]
fn strangers_see_reasons_and_no_words_of_a_database() {
    let (_folder, site) = site("");
    let page = |peer, known| ask(&site, Method::Get, "/", peer, known, &[]).1;
    for (peer, known) in [("127.0.0.1", false), ("::1", false), (STRANGER, true)] {
        let seen = page(peer, known);
        assert!(seen.contains("no such table: nowhere"), "{peer}: {seen}");
    }
    let seen = page(STRANGER, false);
    assert!(seen.contains("<strong>sql</strong>") && !seen.contains("no such table"), "{seen}");
}

#[test]
fn strangers_can_neither_search_what_they_do_not_see_nor_read_the_path_of_the_configuration() {
    let (_folder, site) = site("");
    let site =
        Arc::into_inner(site).expect("one owner").with_config_file(Some("/etc/secret place.yaml".into()));
    let page = |path, peer, known| ask(&site, Method::Get, path, peer, known, &[]).1;
    for (peer, known) in [("127.0.0.1", false), (STRANGER, true)] {
        let seen = page("/?search=nowhere", peer, known);
        assert!(seen.contains("<details"), "{peer}: {seen}");
        assert!(
            seen.contains("<code class=command>sql-exporter -c &#39;/etc/secret place.yaml&#39; try "),
            "{seen}"
        );
    }
    for path in ["/?search=nowhere", "/?search=secret", "/?search=-c"] {
        let seen = page(path, STRANGER, false);
        assert!(!seen.contains("<details"), "{path}: {seen}");
    }
    let seen = page("/", STRANGER, false);
    assert!(
        seen.contains("<code class=command>sql-exporter try --query ") && !seen.contains("secret"),
        "{seen}"
    );
    assert!(page("/?search=sql", STRANGER, false).contains("<details"), "reasons are for everybody");
}

#[test]
fn pages_and_reload_are_for_whom_the_configuration_says() {
    let statuses = |more: &str, peer: &str| {
        let (_folder, site) = site(more);
        let get = |path| ask(&site, Method::Get, path, peer, false, &[]).0;
        [get("/"), get("/config"), ask(&site, Method::Post, "/-/reload", peer, false, &[]).0]
    };
    assert_eq!(statuses("", STRANGER), [200, 200, 403]);
    assert_eq!(statuses("", "127.0.0.1"), [200, 200, 500]);
    let narrow = "exporter: {enable_pages: loopback, enable_reload: true}\n";
    assert_eq!(statuses(narrow, STRANGER), [403, 403, 500]);
    assert_eq!(statuses(narrow, "::1"), [200, 200, 500]);
    assert_eq!(
        statuses("exporter: {enable_pages: false, enable_reload: false}\n", "127.0.0.1"),
        [404, 404, 404]
    );
}

#[test]
fn faults_of_a_reload_are_read_by_who_is_trusted_and_no_other_site_may_ask() {
    let (_folder, site) = site("exporter: {enable_reload: true}\n");
    let post =
        |peer, known, headers: &[(&str, &str)]| ask(&site, Method::Post, "/-/reload", peer, known, headers);
    assert_eq!(post("127.0.0.1", false, &[]).1, "password: oops\n");
    assert_eq!(post(STRANGER, true, &[]).1, "password: oops\n");
    assert!(!post(STRANGER, false, &[]).1.contains("oops"));
    for from in ["cross-site", "same-site"] {
        assert_eq!(post("127.0.0.1", false, &[("sec-fetch-site", from)]).0, 403);
    }
    assert_eq!(post("127.0.0.1", false, &[("sec-fetch-site", "same-origin")]).0, 500);
    assert_eq!(post("127.0.0.1", true, &[("origin", "http://evil.example")]).0, 403);
    assert_eq!(ask(&site, Method::Get, "/-/reload", "127.0.0.1", false, &[]).0, 405);
}

/// A page whose own name resolves to this machine reads nothing that is for people, unless the name is listed; with a
/// login any name will do.
#[test]
fn pages_are_shown_under_our_own_names_only() {
    let shown = |more: &str, known: bool, host: &str| {
        let (_folder, site) = site(more);
        let get = |path| ask(&site, Method::Get, path, "127.0.0.1", known, &[("host", host)]);
        let refused = get("/").1.contains("exporter.http.hosts");
        ([get("/").0, get("/config").0], refused, ["/metrics", "/sd", "/-/ready"].map(|path| get(path).0))
    };
    let (yes, no, always) = ([200, 200], [403, 403], [200, 200, 200]);
    assert_eq!(shown("", false, "evil.example:9399"), (no, true, always));
    assert_eq!(shown("", false, "localhost:9399"), (yes, false, always));
    assert_eq!(shown("", true, "metrics.example"), (yes, false, always));
    let listed = "exporter: {http: {hosts: [metrics.example, '*.corp.example']}}\n";
    assert_eq!(shown(listed, false, "metrics.example"), (yes, false, always));
    assert_eq!(shown(listed, false, "a.corp.example"), (yes, false, always));
    assert_eq!(shown(listed, true, "evil.example"), (no, true, always));
    assert_eq!(shown(listed, false, "192.0.2.7"), (yes, false, always));
}

#[test]
fn health_and_readiness_are_answered_at_once() {
    let exporter = exporter("");
    assert_eq!(exporter.get("/-/healthy").text(), "sql-exporter is healthy\n");
    assert_eq!(exporter.get("/-/ready").text(), "sql-exporter is ready\n");
}
