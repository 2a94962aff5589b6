//! The status page in a real browser: what is seen, filtered, typed and never run. Pictures of both themes and of a
//! phone are written to `target/test-screenshots/`.

mod driver;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::exporter::{Exporter, Setup};
use driver::Browser;

const QUERIES: &str = "
queries:
  - {name: orders_by_region, databases: ['*'], sql: SELECT 1 AS value, metrics: [{name: orders, help: Orders.}]}
  - {name: sessions, databases: ['*'], sql: SELECT 2 AS value, metrics: [{name: sessions, help: Sessions.}]}
";

/// Three healthy targets, one whose query fails, one that is down, one disabled; scraped once.
fn few() -> Exporter {
    let config = format!(
        "databases:
  shop: {{driver: sqlite, database: shop.db, labels: {{env: prod, region: eu-west}}}}
  billing: {{driver: sqlite, database: shop.db}}
  stock: {{driver: sqlite, database: shop.db}}
  legacy: {{driver: mysql, host: 127.0.0.1, port: 1, username: u, password: p}}
  archive: {{driver: sqlite, database: shop.db, enabled: false}}
  warehouse: {{driver: sqlite, database: shop.db, labels: {{env: test}}}}
{QUERIES}  - {{name: broken, database: warehouse, sql: SELECT value FROM no_such_table, metrics: [{{name: b}}]}}
"
    );
    scraped(&config)
}

fn many(count: usize) -> Exporter {
    let target =
        |n| format!("  target-{n:03}: {{driver: sqlite, database: shop.db, labels: {{site: s{}}}}}\n", n % 7);
    scraped(&format!("databases:\n{}{QUERIES}", (0..count).map(target).collect::<String>()))
}

fn scraped(config: &str) -> Exporter {
    let exporter = Setup::new(config).file("shop.db", "").serve();
    exporter.metrics();
    exporter
}

fn open(exporter: &Exporter) -> Browser {
    let browser = Browser::start();
    browser.open(&format!("http://{}/", exporter.address()));
    browser
}

fn pictures(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-screenshots");
    std::fs::create_dir_all(&folder).expect("made");
    folder.join(name)
}

fn names(browser: &Browser) -> Vec<String> {
    let visible = "return [...document.querySelectorAll('details')].filter(d => !d.hidden && d.offsetHeight > 0).map(d => d.querySelector('h2').textContent)";
    serde_json::from_value(browser.run(visible)).expect("names")
}

fn assert_quiet(browser: &Browser) {
    assert_eq!(browser.console(), Vec::<Value>::new());
    assert_eq!(
        browser.run("return performance.getEntriesByType('resource').length"),
        json!(0),
        "something was loaded"
    );
}

fn theme(browser: &Browser, scheme: &str) {
    let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
    browser.devtools("Emulation.setEmulatedMedia", &features);
}

#[test]
fn the_worst_stands_first_in_both_themes_and_on_a_phone() {
    let exporter = few();
    let browser = open(&exporter);
    assert_eq!(names(&browser), ["legacy", "warehouse", "shop", "billing", "stock", "archive"]);
    let colours = "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.down')).color, getComputedStyle(document.documentElement).colorScheme]";
    let mut seen = Vec::new();
    for scheme in ["light", "dark"] {
        theme(&browser, scheme);
        seen.push(browser.run(colours)[1].clone());
        browser.picture(&pictures(&format!("status-{scheme}.png")));
    }
    assert_ne!(seen[0], seen[1], "one red for both themes");
    theme(&browser, "light");
    let phone = json!({"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", &phone);
    let width = browser.run("return [document.documentElement.scrollWidth, innerWidth]");
    assert!(width[0].as_u64() <= width[1].as_u64(), "it scrolls sideways: {width}");
    browser.picture(&pictures("status-phone.png"));
    assert_quiet(&browser);
}

#[test]
fn what_failed_is_told_in_words_and_a_link_leads_to_the_probe() {
    let exporter = few();
    let browser = open(&exporter);
    let text = browser.run("return document.body.innerText").as_str().expect("text").to_owned();
    for part in [
        "6 targets, 1 down",
        "1 failing",
        "no such table: no_such_table",
        "the server cannot be reached",
        "env=\"prod\"",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let before = exporter
        .get("/-/metrics")
        .text()
        .matches("sql_exporter_scrapes_total{outcome=\"partial\"} 1\n")
        .count();
    assert_eq!(before, 1, "opening the page ran a query");
    browser.run("[...document.querySelectorAll('details')].find(d => d.querySelector('h2').textContent === 'shop').querySelector('a').click()");
    let probed = crate::process::wait_for("the probe", || {
        let text = browser.run("return document.body ? document.body.innerText : ''");
        text.as_str().filter(|text| text.contains("orders{target=\"shop\"")).map(str::to_owned)
    });
    assert!(probed.contains("sql_exporter_target_up{target=\"shop\""), "{probed}");
}

#[test]
fn hundreds_of_targets_are_filtered_by_text_and_by_keys_alone() {
    let exporter = many(300);
    let browser = open(&exporter);
    assert_eq!(names(&browser).len(), 300);
    assert_eq!(
        browser.run("return document.querySelectorAll('details[open]').length"),
        json!(0),
        "healthy ones are folded"
    );
    browser.press("/");
    browser.press("TARGET-01 s3");
    let found = names(&browser);
    assert_eq!(found, ["target-010", "target-017"], "all words, in any case");
    assert_eq!(browser.run("return document.querySelector('output').textContent"), json!("2 of 300"));
    browser.press("zzz");
    assert_eq!(names(&browser).len(), 0);
    // Escape.
    browser.press("\u{e00c}");
    assert_eq!(names(&browser).len(), 300);
    assert_eq!(browser.run("return document.activeElement.tagName"), json!("BODY"));
    // Tab goes on to the first target; Enter unfolds it.
    browser.press("/");
    browser.press("\u{e004}");
    browser.press("\u{e007}");
    let unfolded =
        "return [...document.querySelectorAll('details[open]')].map(d => d.querySelector('h2').textContent)";
    assert_eq!(browser.run(unfolded), json!(["target-000"]));
    assert_quiet(&browser);
}

#[test]
fn without_scripts_everything_can_be_read() {
    let exporter = many(30);
    let browser = Browser::start();
    browser.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.open(&format!("http://{}/", exporter.address()));
    assert_eq!(names(&browser).len(), 30);
    assert_eq!(
        browser.run("return document.querySelector('input').offsetHeight"),
        json!(0),
        "a field that does nothing"
    );
}

#[test]
fn names_and_messages_of_the_wicked_are_text() {
    let config = "
databases:
  '<img src=x onerror=alert(1)>\"''</h2>': {driver: sqlite, database: shop.db, labels: {a: '</code><script>alert(2)</script>'}}
queries:
  - name: '<svg onload=alert(3)>&amp;'
    sql: 'SELECT value FROM \"<script>alert(4)</script>\"'
    metrics: [{name: b}]
";
    let exporter = scraped(config);
    let browser = open(&exporter);
    assert!(!browser.alerts());
    assert_eq!(names(&browser), ["<img src=x onerror=alert(1)>\"'</h2>"]);
    assert_eq!(browser.run("return document.querySelectorAll('script, img, svg').length"), json!(0));
    let row = browser.run("return document.querySelector('tbody th').textContent");
    assert_eq!(row, json!("<svg onload=alert(3)>&amp;"));
    let link =
        browser.run("return new URL(document.querySelector('details a').href).searchParams.get('target')");
    assert_eq!(link, json!("<img src=x onerror=alert(1)>\"'</h2>"));
    // A script that came in all the same would not run: the policy names ours alone.
    browser.run("const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)");
    assert_eq!(browser.run("return window.ran ?? null"), Value::Null);
}
