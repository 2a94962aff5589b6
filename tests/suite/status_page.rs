//! The status page as text: what it remembers of scrapes, what it finds, and commands that show a failure again.

use std::process::Command;

use crate::exporter::{Exporter, Output, Setup, assert_clean, program};
use crate::process::{folder, free_port};
use crate::servers::Postgres;

/// The names of the targets, in the page's order.
pub(crate) fn names(page: &str) -> Vec<&str> {
    page.split("<h2>").skip(1).filter_map(|rest| rest.split("</h2>").next()).collect()
}

fn page(exporter: &Exporter, query: &str) -> String {
    let reply = exporter.get(&format!("/{query}"));
    assert_eq!(reply.status, 200, "{query}: {}", reply.text());
    reply.text().to_owned()
}

/// The commands of a page, as a browser copies them.
fn commands(page: &str) -> Vec<String> {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    let text = |html: &str| entities.iter().fold(html.to_owned(), |text, (of, to)| text.replace(of, to));
    let parts = page.split("<code class=command>").skip(1);
    parts.filter_map(|rest| rest.split("</code>").next()).map(text).collect()
}

/// What a shell in another folder makes of a command.
fn run(command: &str) -> Output {
    let folder = folder();
    std::os::unix::fs::symlink(program(), folder.path().join("sql-exporter")).expect("a link");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir("/").env_clear();
    let done = shell.env("PATH", format!("{}:{path}", folder.path().display())).output().expect("a shell");
    assert_clean(command, &[done.stdout.as_slice(), &done.stderr].concat());
    Output { status: done.status, stdout: done.stdout, stderr: done.stderr }
}

fn sqlite(config: &str) -> Exporter {
    Setup::new(config).file("shop.db", "").serve()
}

#[test]
fn the_command_of_a_failing_query_fails_in_the_same_way_whatever_the_names_are() {
    let exporter = sqlite(
        r#"
databases:
  shop: {driver: sqlite, database: shop.db}
  "it's  odd/ü $(touch x) \\ ^": {driver: sqlite, database: shop.db}
queries:
  - {name: plain, database: shop, sql: SELECT value FROM no_such_table, metrics: [{name: a, help: A.}]}
  - {name: -dash, database: shop, sql: SELECT value FROM no_such_table, metrics: [{name: d, help: D.}]}
  - {name: "'\"!\" `id` & $HOME <b>", databases: ["it's  odd/**"], sql: SELECT value FROM no_such_table, metrics: [{name: b, help: B.}]}
  - {name: text, database: shop, sql: "SELECT 'many' AS value", metrics: [{name: c, help: C.}]}
"#,
    );
    exporter.metrics();
    let commands = commands(&page(&exporter, ""));
    let file = exporter.file("sql-exporter.yaml").display().to_string();
    assert_eq!(commands[0], format!("sql-exporter -c {file} try --query plain --target shop"));
    assert_eq!(commands.len(), 4, "{commands:?}");
    for command in &commands {
        let output = run(command);
        let why =
            if command.contains("--query text") { "is not a number" } else { "no such table: no_such_table" };
        assert_eq!(output.code(), 1, "{command}: {}", output.errors());
        assert!(output.text().contains(why), "{command}: {}{}", output.text(), output.errors());
    }
}

#[test]
fn the_command_of_a_target_that_is_down_says_why() {
    let port = free_port();
    let exporter = Exporter::serve(&format!(
        "databases:\n  legacy: {{driver: mysql, host: 127.0.0.1, port: {port}, username: u, password: p}}\n\
         queries: [{{name: q, sql: SELECT 1 AS value, metrics: [{{name: a}}]}}]\n"
    ));
    assert!(commands(&page(&exporter, "")).is_empty(), "nothing failed yet");
    exporter.metrics();
    let commands = commands(&page(&exporter, ""));
    assert!(commands.len() == 1 && commands[0].ends_with(" test --target legacy"), "{commands:?}");
    let output = run(&commands[0]);
    assert_eq!(output.code(), 1, "{}", output.errors());
    assert!(output.text().contains("Connection refused"), "{}", output.text());
}

#[test]
fn the_command_works_for_a_database_that_was_discovered_and_for_a_list_that_fails() {
    let server = Postgres::fresh("status");
    let odd = format!("{} o'dd $x", server.database);
    server.run(&format!("CREATE DATABASE \"{odd}\""));
    let list = format!(
        "discover: {{sql: \"SELECT datname AS database FROM pg_database WHERE datname LIKE '{}%'\"}}",
        server.database
    );
    let queries = "queries: [{name: lost, databases: ['srv/**'], sql: SELECT value FROM no_such_table, metrics: [{name: a, help: A.}]}]";
    let exporter = Setup::new(&format!(
        "databases:\n  srv: {}\n  bad: {}\n{queries}\n",
        server.entry_with(&list),
        server.entry_with("discover: {sql: SELECT datname FROM no_such_list}")
    ))
    .mode("sql-exporter.yaml", 0o600)
    .serve();
    exporter.metrics();
    let page = page(&exporter, "");
    let found = commands(&page);
    let tries: Vec<&String> = found.iter().filter(|command| command.contains(" try ")).collect();
    let named = tries.iter().filter_map(|command| shlex::split(command)?.pop());
    let wanted = [&server.database, &odd].map(|database| format!("srv/{database}"));
    assert_eq!(named.collect::<Vec<String>>(), wanted, "{found:?}");
    for command in tries {
        let output = run(command);
        assert_eq!(output.code(), 1, "{command}: {}", output.errors());
        assert!(
            output.text().contains("relation \"no_such_table\" does not exist"),
            "{command}: {}{}",
            output.text(),
            output.errors()
        );
    }
    let test: Vec<&String> = found.iter().filter(|command| command.contains(" test ")).collect();
    assert!(test.len() == 1 && test[0].ends_with("test --target bad"), "{found:?}");
    let said = run(test[0]);
    assert!(said.errors().contains("no_such_list"), "{}{}", said.text(), said.errors());
    server.run(&format!("DROP DATABASE \"{odd}\" WITH (FORCE)"));
}

const SHOP: &str = "
databases:
  shop: {driver: sqlite, database: shop.db}
queries:
  - {name: good, sql: SELECT 1 AS value, metrics: [{name: good, help: Good.}]}
";

/// What the page says of the scrapes of its only target.
fn remembered(exporter: &Exporter) -> Option<String> {
    let page = page(exporter, "");
    let (_, rest) = page.split_once(" · last scrape ")?;
    Some(rest.split("</p>").next().unwrap_or_default().to_owned())
}

#[test]
fn the_last_sixty_scrapes_are_remembered_across_reloads_while_the_connection_is_the_same() {
    let exporter = Setup::new(SHOP).file("shop.db", "").file("other.db", "").serve();
    assert_eq!(remembered(&exporter), None);
    exporter.metrics();
    let one = remembered(&exporter).expect("a scrape");
    assert!(one.contains("; of 1 scrape: min ") && !one.contains("failed"), "{one}");
    exporter.get("/probe?target=shop&query=good");
    let reload = |config: &str| {
        std::fs::write(exporter.file("sql-exporter.yaml"), config).expect("written");
        assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
    };
    // The target has another query, and its connection is as before.
    reload(&format!("{SHOP}  - {{name: bad, sql: SELECT nothing, metrics: [{{name: bad, help: Bad.}}]}}\n"));
    exporter.metrics();
    let three = remembered(&exporter).expect("scrapes");
    assert!(three.contains("; of the last 3 scrapes: ") && three.ends_with("; 1 failed (dotted)"), "{three}");
    for _ in 0..60 {
        exporter.metrics();
    }
    let all = remembered(&exporter).expect("scrapes");
    assert!(all.contains("; of the last 60 scrapes: ") && all.ends_with("; 60 failed (dotted)"), "{all}");
    reload(&SHOP.replace("database: shop.db", "database: other.db"));
    assert_eq!(remembered(&exporter), None, "another connection");
}

#[test]
fn a_scrape_takes_until_its_last_query_ends_or_until_its_deadline() {
    let endless =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS value FROM n";
    let exporter = sqlite(&format!(
        "{SHOP}  - {{name: endless, sql: \"{endless}\", metrics: [{{name: endless, help: Endless.}}]}}\n"
    ));
    exporter.get_with("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "1")]);
    let said = remembered(&exporter).expect("a scrape");
    let (took, rest) = said.split_once(';').expect("words");
    // A quarter of the timeout is the offset. On a busy machine the scrape begins late, or ends after a second.
    let millis = took.strip_suffix(" ms").map_or(f64::INFINITY, |millis| millis.parse().expect("a number"));
    assert!(millis >= 300.0 && rest.ends_with("; 1 failed (dotted)"), "{said}");
    // Its duration is the time after which it was stopped, which is longer than that of the others.
    let page = page(&exporter, "?sort=duration");
    let row = page.split("<tr><th>endless<td>default<td>").nth(1).expect("a row");
    let duration = row.split('<').next().unwrap_or_default();
    assert!(duration.ends_with(" ms") && duration.len() > 5 || duration.ends_with(" s"), "{duration:?}");
    assert!(page.find("<th>endless<") < page.find("<th>good<"), "{page}");
}

/// Three targets that differ in everything that can be sorted by.
pub(crate) fn uneven() -> Exporter {
    let exporter = sqlite(
        "
databases:
  small: {driver: sqlite, database: shop.db, labels: {env: 'pro<d>'}}
  Big: {driver: sqlite, database: shop.db, labels: {env: test}}
  off: {driver: sqlite, database: shop.db, enabled: false}
  bad: {driver: sqlite, database: shop.db}
queries:
  - {name: one, databases: [small, Big, off], sql: SELECT 1 AS value, metrics: [{name: one, help: One.}]}
  - {name: many, database: Big, sql: SELECT 1 AS value UNION ALL SELECT 2, metrics: [{name: many, help: M., labels: [value], value: 1}]}
  - name: costly
    database: small
    sql: WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500000) SELECT count(*) AS value FROM n
    metrics: [{name: costly, help: Costly.}]
  - {name: broken, database: bad, sql: SELECT value FROM no_such_table, metrics: [{name: broken, help: B.}]}
",
    );
    exporter.metrics();
    // One after the other: the time of each is its own.
    for target in ["small", "Big", "bad"] {
        exporter.get(&format!("/probe?target={target}"));
    }
    exporter
}

#[test]
fn the_page_is_searched_and_sorted_by_requests() {
    let exporter = uneven();
    let shown = |query: &str| names(&page(&exporter, query)).join(" ");
    for (query, expected) in [
        ("", "bad small Big off"),
        ("?sort=failure", "bad small Big off"),
        ("?sort=series", "Big small off bad"),
        ("?sort=name", "Big bad off small"),
        ("?sort=nonsense", "bad small Big off"),
        ("?sort=%00%ff&search=", "bad small Big off"),
        ("?search=small", "small"),
        ("?search=BIG+up&sort=name", "Big"),
        ("?search=env%3D%22pro%3Cd%3E%22", "small"),
        ("?search=no_such_table", "bad"),
        ("?search=try+broken", "bad"),
        ("?search=disabled", "off"),
        ("?search=good&sort=name", "Big small"),
        ("?search=duration", ""),
        ("?search=nowhere", ""),
    ] {
        assert_eq!(shown(query), expected, "{query}");
    }
    assert!(shown("?sort=duration").starts_with("small "), "{}", shown("?sort=duration"));
    let found = page(&exporter, "?search=small");
    assert!(found.contains("4 targets, 0 down; ") && found.contains(">1 of 4</output>"), "of all: {found}");
    let long = format!("?search={}", "small+".repeat(2000));
    assert_eq!(shown(&long), "small", "what is too long is cut");
}
