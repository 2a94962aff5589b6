//! The status page in a real browser: what is seen, filtered, typed and never run. Pictures of both themes and of a
//! phone are written to `target/test-screenshots/`.

mod driver;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::exporter::{Exporter, Setup};
use crate::status_page;
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
    let config = format!("databases:\n{}{QUERIES}", (0..count).map(target).collect::<String>());
    let exporter = Setup::new(&config).file("shop.db", "").serve();
    // A busy machine may take longer than a scrape has for so many.
    crate::process::wait_for("a page without failures", || {
        (!exporter.metrics().contains("\nsql_exporter_query_failure_reason{")).then_some(())
    });
    exporter
}

fn scraped(config: &str) -> Exporter {
    let exporter = Setup::new(config).file("shop.db", "").serve();
    exporter.metrics();
    exporter
}

fn open(exporter: &Exporter) -> Browser {
    open_at(exporter, "")
}

fn open_at(exporter: &Exporter, rest: &str) -> Browser {
    let browser = Browser::start();
    browser.open(&address(exporter, rest));
    browser
}

fn address(exporter: &Exporter, rest: &str) -> String {
    format!("http://{}/{rest}", exporter.address())
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
    phone(&browser);
    browser.picture(&pictures("status-phone.png"));
    assert_quiet(&browser);
}

/// Shows the page on a small phone, where nothing is wider than the screen.
fn phone(browser: &Browser) {
    let phone = json!({"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", &phone);
    let width = browser.run("return [document.documentElement.scrollWidth, innerWidth]");
    assert!(width[0].as_u64() <= Some(360) && width[1] == json!(360), "it scrolls sideways: {width}");
}

/// The texts that are read with difficulty on what is behind them, by the rule of WCAG 2 (4.5:1), and how many there are.
const CONTRAST: &str = r#"
const canvas = document.createElement("i");
canvas.style.background = "Canvas";
document.body.append(canvas);
const rgba = (text) => text.match(/[\d.]+/g).map(Number).concat(1).slice(0, 4);
const over = ([r, g, b, a], under) => [r, g, b].map((part, index) => part * a + under[index] * (1 - a));
const behind = (element) => {
  if (!element) return rgba(getComputedStyle(canvas).backgroundColor).slice(0, 3);
  return over(rgba(getComputedStyle(element).backgroundColor), behind(element.parentElement));
};
const light = (rgb) => {
  const [r, g, b] = rgb.map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (one, other) => {
  const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
  return (bright + 0.05) / (dark + 0.05);
};
const texts = [...document.querySelectorAll("body *")].filter((element) =>
  element.offsetHeight > 0 && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
const faint = texts.filter((element) => {
  const back = behind(element);
  return ratio(over(rgba(getComputedStyle(element).color), back), back) < 4.5;
});
const paths = [...document.querySelectorAll("path")].map((path) => {
  const style = getComputedStyle(path);
  return ratio(rgba(style.stroke === "none" ? style.fill : style.stroke).slice(0, 3), behind(path.closest("details")));
});
canvas.remove();
return [faint.map((element) => element.outerHTML), texts.length, Math.min(...paths)];
"#;

#[test]
fn texts_and_drawings_stand_out_in_both_themes() {
    let exporter = few();
    let browser = open(&exporter);
    for scheme in ["light", "dark"] {
        theme(&browser, scheme);
        let found = browser.run(CONTRAST);
        assert_eq!(found[0], json!([]), "{scheme}");
        assert!(found[1].as_u64() > Some(60), "{scheme}: {found}");
        // WCAG asks for 3:1 of what is not text.
        assert!(found[2].as_f64() >= Some(3.0), "{scheme}: {found}");
    }
}

#[test]
fn a_screen_reader_finds_headings_labels_and_the_order() {
    let exporter = status_page::uneven();
    let browser = open_at(&exporter, "?sort=series");
    let tree = browser.devtools("Accessibility.getFullAXTree", &json!({}));
    let nodes = tree["nodes"].as_array().expect("nodes");
    let named = |role: &str| -> Vec<&str> {
        let has_role =
            |node: &&Value| node["role"]["value"] == json!(role) && node["ignored"] == json!(false);
        nodes.iter().filter(has_role).filter_map(|node| node["name"]["value"].as_str()).collect()
    };
    assert_eq!(named("searchbox"), ["Search"]);
    assert_eq!(named("search").len(), 1);
    assert_eq!(named("navigation"), ["Pages", "Sort by"]);
    assert_eq!(named("heading"), ["sql-exporter", "Big", "small", "off", "bad"]);
    assert_eq!(named("rowheader"), ["many", "one", "one", "costly", "one", "broken"]);
    assert_eq!(named("columnheader").len(), 7 * 4);
    assert!(
        !named("DisclosureTriangle").iter().any(|name| name.is_empty()),
        "{:?}",
        named("DisclosureTriangle")
    );
    let sorted =
        "return [...document.querySelectorAll('[aria-sort]')].map(h => h.textContent + ' ' + h.ariaSort)";
    assert_eq!(browser.run(sorted), json!(["series descending"].repeat(4)));
    assert_eq!(browser.run("return document.querySelector('[aria-current]').textContent"), json!("series"));
}

#[test]
fn each_order_is_one_link_away_and_keeps_what_is_searched_for() {
    let exporter = status_page::uneven();
    let browser = open(&exporter);
    browser.press("/");
    browser.press("i");
    // `driver: sqlite` has it, too.
    browser.press("g");
    assert_eq!(names(&browser), ["Big"]);
    browser.press("\u{e003}");
    for (sort, first) in [("duration", "small"), ("series", "Big"), ("name", "Big"), ("failure", "bad")] {
        browser.run(&format!(
            "[...document.querySelectorAll('nav.sort a')].find(a => a.textContent === '{sort}').click()"
        ));
        let current = || browser.run("return document.querySelector('[aria-current]')?.textContent");
        crate::process::wait_for("the order", || (current() == json!(sort)).then_some(()));
        assert_eq!(names(&browser).first().map(String::as_str), Some(first), "{sort}");
        assert_eq!(browser.run("return document.querySelector('input[type=search]').value"), json!("i"));
        let listed =
            browser.run("const p = new URL(location).searchParams; return [p.get('search'), p.get('sort')]");
        assert_eq!(listed, json!(["i", (sort != "failure").then_some(sort)]));
        browser.picture(&pictures(&format!("status-sort-{sort}.png")));
    }
    assert_quiet(&browser);
}

#[test]
fn the_script_finds_what_the_server_finds() {
    let exporter = status_page::uneven();
    let browser = open(&exporter);
    let searches = [
        "small",
        "BIG up",
        "env=\"pro<d>\"",
        "no_such_table",
        "try broken",
        "disabled",
        "good",
        "duration",
        "rows",
        "probe",
    ];
    for search in searches {
        let query: String = form_urlencoded::byte_serialize(search.as_bytes()).collect();
        let page = exporter.get(&format!("/?search={query}"));
        browser.run(&format!(
            "const f = document.querySelector('input[type=search]'); f.value = {}; f.dispatchEvent(new Event('input'))",
            json!(search)
        ));
        assert_eq!(names(&browser), status_page::names(page.text()), "{search}");
        assert_eq!(browser.run("return location.search"), json!(format!("?search={query}")), "{search}");
    }
}

#[test]
fn a_page_that_was_searched_is_filtered_further_and_searched_again_by_enter() {
    let exporter = many(30);
    let browser = open_at(&exporter, "?search=target-01");
    assert_eq!(names(&browser).len(), 10);
    let output = || browser.run("return document.querySelector('output').textContent");
    assert_eq!(output(), json!("10 of 30"));
    browser.press("/");
    // End, and one more digit.
    browser.press("\u{e010}7");
    assert_eq!((names(&browser), output()), (vec!["target-017".to_owned()], json!("1 of 30")));
    // What the page does not have is asked of the server.
    browser.press("\u{e003}\u{e003}");
    assert_eq!(output(), json!("Enter searches all targets"));
    browser.press("29\u{e007}");
    crate::process::wait_for("the page", || (names(&browser) == ["target-029"]).then_some(()));
    assert_eq!(browser.run("return location.search"), json!("?search=target-029"));
    browser.press("/");
    browser.press("\u{e00c}");
    crate::process::wait_for("all targets", || (names(&browser).len() == 30).then_some(()));
    assert_quiet(&browser);
}

#[test]
fn the_last_scrapes_are_drawn_and_told_and_failures_have_a_dot() {
    let exporter = few();
    (0..20).for_each(|_| drop(exporter.metrics()));
    let browser = open(&exporter);
    let of = |target: &str, what: &str| {
        browser.run(&format!("const target = document.getElementById('target-{target}'); return {what}"))
    };
    let failed = of("warehouse", "target.querySelector('.failed').getAttribute('d')");
    assert_eq!(failed.as_str().map(|path| path.matches(" 0v3").count()), Some(21), "{failed}");
    assert_eq!(of("shop", "target.querySelectorAll('.failed').length"), json!(0));
    let bars = of("shop", "target.querySelector('path').getAttribute('d')");
    assert_eq!(bars.as_str().map(|path| path.matches("h4").count()), Some(21), "{bars}");
    let text = of("warehouse", "target.innerText");
    let text = text.as_str().expect("text");
    for part in ["of the last 21 scrapes: min ", "median ", "max ", "21 failed (dotted)"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let size = of("shop", "(r => [r.width, r.height])(target.querySelector('svg').getBoundingClientRect())");
    assert_eq!(size, json!([240, 27]), "and a base line");
    assert_eq!(of("archive", "target.querySelectorAll('svg').length"), json!(0), "it was never scraped");
    browser.picture(&pictures("status-sparklines.png"));
    theme(&browser, "dark");
    browser.picture(&pictures("status-sparklines-dark.png"));
    phone(&browser);
    browser.picture(&pictures("status-sparklines-phone-dark.png"));
}

#[test]
fn one_click_selects_a_whole_command_and_another_copies_it() {
    let exporter = few();
    let browser = open(&exporter);
    let command = browser.run("return document.querySelector('td .command').textContent");
    let text = command.as_str().expect("a command");
    assert!(
        text.starts_with("sql-exporter -c /") && text.ends_with(" try --query broken --target warehouse"),
        "{text}"
    );
    let place = browser.run(
        "const r = document.querySelector('td .command').getClientRects()[0]; return [r.x + 20, r.y + 8]",
    );
    for kind in ["mousePressed", "mouseReleased"] {
        let click = json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
        browser.devtools("Input.dispatchMouseEvent", &click);
    }
    assert_eq!(browser.run("return getSelection().toString()"), command);
    browser.run("navigator.clipboard.writeText = async (text) => { window.copied = text }");
    browser.run("document.querySelector('td .command + button').click()");
    assert_eq!(browser.run("return window.copied"), command);
    let said = || browser.run("return document.querySelector('td .command + button').textContent");
    crate::process::wait_for("the button", || (said() == json!("Copied")).then_some(()));
}

#[test]
fn a_target_is_linked_by_its_name_and_unfolded_there() {
    let exporter = many(30);
    let browser = open_at(&exporter, "#target-target-021");
    let unfolded = "return [...document.querySelectorAll('details[open]')].map(d => d.id)";
    assert_eq!(browser.run(unfolded), json!(["target-target-021"]));
    let seen = "const r = document.querySelector('details[open]').getBoundingClientRect(); return r.top >= 0 && r.top < innerHeight";
    assert_eq!(browser.run(seen), json!(true));
    browser.run("document.querySelector('#target-target-003 p a:last-child').click()");
    assert_eq!(browser.run(unfolded), json!(["target-target-003", "target-target-021"]));
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
    browser.run("document.querySelector('input[type=search]').focus()");
    browser.press("TARGET-01 s3\u{e007}");
    let found = ["target-010", "target-017"];
    crate::process::wait_for("what was searched for", || (names(&browser) == found).then_some(()));
    let current = || browser.run("return document.querySelector('[aria-current]').textContent");
    assert_eq!(current(), json!("failure"));
    browser.run("[...document.querySelectorAll('nav.sort a')].find(a => a.textContent === 'name').click()");
    crate::process::wait_for("the order", || (current() == json!("name")).then_some(()));
    assert_eq!(names(&browser), found);
    assert_eq!(
        browser.run("return document.querySelectorAll('button').length"),
        json!(1),
        "nothing to copy by"
    );
    phone(&browser);
    browser.picture(&pictures("status-phone-without-script.png"));
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
    let foreign =
        "return [...document.querySelectorAll('script, img, svg')].map(e => e.outerHTML.slice(0, 30))";
    let own = json!(["<svg aria-hidden=\"true\" viewBo", "<script>\"use strict\";\nconst fo"]);
    assert_eq!(browser.run(foreign), own);
    let row = browser.run("return document.querySelector('tbody th').textContent");
    assert_eq!(row, json!("<svg onload=alert(3)>&amp;"));
    let link =
        browser.run("return new URL(document.querySelector('details a').href).searchParams.get('target')");
    assert_eq!(link, json!("<img src=x onerror=alert(1)>\"'</h2>"));
    // A script that came in all the same would not run: the policy names ours alone.
    browser.run("const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)");
    assert_eq!(browser.run("return window.ran ?? null"), Value::Null);
    // What a link of another site may search for.
    browser.open(&address(
        &exporter,
        "?search=%22%3E%3Csvg+onload%3Dalert(5)%3E&sort=%22%3E%3Cscript%3Ealert(6)%3C/script%3E",
    ));
    assert!(!browser.alerts());
    assert_eq!(
        browser.run("return document.querySelector('input[type=search]').value"),
        json!("\"><svg onload=alert(5)>")
    );
    assert_eq!(browser.run("return document.querySelectorAll('svg').length"), json!(0), "no target has that");
}
