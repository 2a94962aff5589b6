//! The endpoints as a browser, a probe and a stranger meet them: headers, refusals, the status page.

use crate::checker::checked;
use crate::exporter::{Exporter, Setup};
use crate::process::folder;
use crate::web_client::Reply;

const CONFIG: &str = "
databases:
  shop: {driver: sqlite, database: ./shop.db, labels: {env: '<prod>'}}
  gone: {driver: sqlite, database: ./nothing/gone.db}
  off: {driver: sqlite, database: ./shop.db, enabled: false}
queries:
  - name: good
    database: shop
    sql: SELECT 1 AS value UNION ALL SELECT 2
    metrics: [{name: shop_good, help: Good., type: gauge, value_column: value, duplicates: first}]
  - name: broken
    database: shop
    sql: SELECT value FROM no_such_table
    metrics: [{name: shop_broken, help: Broken.}]
  - name: unseen
    database: gone
    sql: SELECT 1 AS value
    metrics: [{name: gone_one, help: One.}]
";

fn exporter(extra: &str) -> Exporter {
    // An empty file is an empty SQLite database.
    Setup::new(&format!("{CONFIG}{extra}")).file("shop.db", "").serve()
}

fn section<'p>(page: &'p str, target: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("<h2>{target}</h2>")).expect("the target has a section");
    rest.split_once("</details>").map_or(rest, |(section, _)| section)
}

#[test]
fn the_status_page_tells_how_targets_and_queries_stand_and_runs_nothing() {
    let exporter = exporter("");
    let before = exporter.get("/").text().to_owned();
    assert!(section(&before, "shop").contains("not scraped yet"), "{before}");
    assert!(section(&before, "off").contains(">disabled<"), "{before}");
    let own = exporter.get("/-/metrics").text().to_owned();
    assert!(own.contains("sql_exporter_scrapes_total{outcome=\"partial\"} 0\n"), "{own}");

    exporter.metrics();
    let after = exporter.get("/").text().to_owned();
    let shop = section(&after, "shop");
    assert!(shop.contains("<span class=up>up</span>") && shop.contains("env=\"&lt;prod&gt;\""), "{shop}");
    let row = |name: &str| {
        let (_, rest) = shop.split_once(&format!("<tr><th>{name}<")).expect("a row");
        rest.split("<tr>").next().and_then(|row| row.split("</table>").next()).unwrap().to_owned()
    };
    let good = row("good");
    assert!(good.contains("<td>2<td>1<td>") && good.ends_with("<td>good"), "{good}");
    let broken = row("broken");
    assert!(
        broken.contains("<strong>sql</strong>") && broken.contains("no such table: no_such_table"),
        "{broken}"
    );
    let gone = section(&after, "gone");
    assert!(
        gone.contains("<span class=down>down</span>") && gone.contains("<strong>connect</strong>"),
        "{gone}"
    );
    let own = exporter.get("/-/metrics").text().to_owned();
    assert!(own.contains("sql_exporter_scrapes_total{outcome=\"partial\"} 1\n"), "{own}");
}

#[test]
fn pages_can_be_switched_off() {
    let exporter = exporter("exporter: {enable_pages: false}\n");
    assert_eq!(exporter.get("/").status, 404);
    assert_eq!(exporter.get("/-/healthy").status, 200);
}

/// A browser that shows it may do nothing with it.
fn protected(reply: &Reply, what: &str) {
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{what}: {name}");
    }
    let shared = reply.headers.iter().find(|(name, _)| name.starts_with("access-control-"));
    assert_eq!(shared, None, "{what}: another site may read it");
    let policy = reply.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none';"), "{what}: {policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
}

#[test]
fn a_login_that_fails_is_an_answer_that_forbids_as_much_and_the_web_config_wins() {
    let web = format!(
        "basic_auth_users: {{prom: {}}}\nhttp_server_config: {{headers: {{X-Frame-Options: sameorigin}}}}\n",
        bcrypt::hash("word", 5).expect("a hash")
    );
    let exporter = Setup::new(&format!("{CONFIG}exporter: {{web_config_file: web.yml}}\n"))
        .file("shop.db", "")
        .file("web.yml", &web)
        .serve();
    for path in ["/config", "/-/healthy"] {
        let reply = exporter.get(path);
        assert_eq!(reply.header("x-frame-options"), Some("sameorigin"), "{path}");
        assert!(
            reply.header("content-security-policy").is_some_and(|policy| policy.contains("frame-ancestors"))
        );
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
    }
    assert_eq!(exporter.get("/config").status, 401);
}

#[test]
fn every_answer_forbids_guessing_and_the_page_forbids_everything_else() {
    let exporter = exporter("");
    let answers = [
        ("GET", "/", 200),
        ("GET", "/config", 200),
        ("GET", "/sd", 200),
        ("GET", "/metrics", 200),
        ("GET", "/-/metrics", 200),
        ("GET", "/-/healthy", 200),
        ("GET", "/-/ready", 200),
        ("GET", "/probe", 400),
        ("GET", "/nothing", 404),
        ("POST", "/config", 405),
        ("BREW", "/config", 405),
        ("HEAD", "/config", 200),
    ];
    for (method, path, status) in answers {
        let reply = exporter.request(method, path, &[]);
        assert_eq!(reply.status, status, "{method} {path}");
        protected(&reply, &format!("{method} {path}"));
    }
    let page = exporter.get("/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none';"));
    assert_eq!(
        exporter.get("/-/metrics").header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
}

#[test]
fn what_is_not_there_and_what_is_not_done_are_said_and_counted() {
    let exporter = exporter("");
    let missing: Reply = exporter.get("/nothing?x=<script>");
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("\n  /metrics "), "{}", missing.text());
    assert!(!missing.text().contains("script"), "{}", missing.text());
    let post = exporter.request("POST", "/metrics", &[]);
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
    for (method, path, allowed) in
        [("BREW", "/", "GET, HEAD"), ("PUT", "/-/reload", "POST"), ("get", "/-/reload", "POST")]
    {
        let reply = exporter.request(method, path, &[]);
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allowed)), "{method} {path}");
    }
    assert_eq!(exporter.request("HEAD", "/-/healthy", &[]).body, b"");
    let own = exporter.get("/-/metrics").text().to_owned();
    for line in [
        "sql_exporter_http_requests_total{code=\"404\",path=\"other\"} 1\n",
        "sql_exporter_http_requests_total{code=\"405\",path=\"/metrics\"} 1\n",
        "sql_exporter_http_requests_total{code=\"200\",path=\"/-/healthy\"} 1\n",
        "sql_exporter_http_requests_rejected_total{reason=\"method\"} 4\n",
        "sql_exporter_http_requests_rejected_total{reason=\"body\"} 0\n",
    ] {
        assert!(own.contains(line), "{line} in {own}");
    }
}

#[test]
fn the_metrics_can_be_narrowed_to_targets_collectors_and_queries() {
    let exporter = exporter("");
    let all = checked(exporter.get("/metrics?other=x").text());
    assert!(all.value("sql_exporter_target_up", &[("target", "gone")]).is_some());
    assert!(all.value("sql_exporter_runs_joined_total", &[]).is_some());
    let narrowed = exporter.get("/metrics?target=shop&query=good&collect%5B%5D=default");
    let page = checked(narrowed.text());
    assert_eq!(page.value("sql_exporter_target_up", &[("target", "shop")]), Some(1.0));
    for other in ["gone", "broken", "process_", "sql_exporter_scrapes_total"] {
        assert!(!narrowed.text().contains(other), "{other} in {}", narrowed.text());
    }
    assert!(page.value("sql_exporter_scrape_timeout_seconds", &[]).is_some());
    let unknown = exporter.get("/metrics?target=shpo");
    assert_eq!(
        (unknown.status, unknown.text()),
        (400, "unknown target `shpo`; nearest: shop, gone, off\n"),
        "a name that is not configured does not give a silent empty page"
    );
}

#[test]
fn head_of_the_metrics_runs_no_query() {
    let exporter = exporter("");
    let head = exporter.request("HEAD", "/metrics", &[]);
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, None));
    let own = exporter.get("/-/metrics").text().to_owned();
    let scrapes: Vec<&str> =
        own.lines().filter(|line| line.starts_with("sql_exporter_scrapes_total")).collect();
    assert!(scrapes.len() == 3 && scrapes.iter().all(|line| line.ends_with(" 0")), "{scrapes:?}");
}

#[test]
fn an_exporter_that_is_killed_leaves_no_file_behind() {
    let folder = folder();
    let path = folder.path().to_str().unwrap().to_owned();
    let exporter = Setup::new(CONFIG).file("shop.db", "").env("TMPDIR", &path).serve();
    exporter.metrics();
    // Dropped, it is killed.
    drop(exporter);
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
}
