//! What a database, a file or the environment says never steers a terminal and never forges a line: in the output of every
//! command, to a terminal, to a pipe and as JSON, and in the log.

use crate::command::setup;
use crate::exporter::{Output, Setup};
use crate::servers::{MariaDb, Postgres};

/// Clears the screen, colours, begins lines of its own (LF, CR, NEL, Unicode's separator), turns the direction, rings.
const HOSTILE: &str = "\u{1b}[2J\u{1b}[31m\nPASS forged\rPASS forged\u{85}PASS forged\u{2028}PASS forged\u{9b}2J\u{202e}\u{2066}\u{7}\u{7f}";

/// The same as YAML writes it between double quotes.
const IN_YAML: &str =
    r"\e[2J\e[31m\nPASS forged\rPASS forged\x85PASS forged\u2028PASS forged\x9b2J\u202e\u2066\x07\x7f";

/// The colours of ours, and what wipes the line of progress.
const OURS: [&str; 7] = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\r\x1b[K"];

/// True where a terminal or a reader of lines would obey.
fn is_obeyed(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn assert_harmless(what: &str, text: &str, on_terminal: bool) {
    let mut text = text.to_owned();
    if on_terminal {
        text = OURS.iter().fold(text, |text, ours| text.replace(ours, "")).replace("\r\n", "\n");
    }
    assert!(!text.contains(is_obeyed), "{what}: {text:?}");
    assert!(text.lines().all(|line| !line.starts_with("PASS forged")), "{what}: {text}");
}

/// Runs `arguments` to a pipe and to terminals; all that it prints must be harmless, and hold `word`.
fn every_way(setup: impl Fn() -> Setup, arguments: &[&str], word: &str) {
    let what = format!("{arguments:?}");
    let Output { stdout, stderr, .. } = setup().args(arguments).output();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    assert_harmless(&what, &stdout, false);
    assert_harmless(&what, &stderr, false);
    assert!(stdout.contains(word) || stderr.contains(word), "{what}: {stdout}{stderr}");
    for columns in [30, 200] {
        let output = setup().terminal(columns).env("TERM", "xterm").args(arguments).output();
        assert_harmless(&format!("{what} on a terminal"), output.text(), true);
    }
}

/// A query that a database answers with an error that repeats [`HOSTILE`], and one that gives it as cells.
fn queries(failing: &str, cells: &str) -> String {
    let block = |sql: &str| sql.replace('\n', "\n      ");
    format!(
        "queries:\n  - name: failing\n    sql: |\n      {}\n    metrics: [{{name: failing}}]\n\
         \x20 - name: cells\n    sql: |\n      {}\n    metrics: [{{name: cells, labels: [label]}}]\n",
        block(failing),
        block(cells)
    )
}

fn of_a_database(database: &str, queries: &str) {
    let config = format!("databases:\n  shop: {database}\n{queries}");
    let setup = || setup(&config);
    every_way(setup, &["try", "--query", "failing"], "PASS forged");
    every_way(setup, &["try", "--query", "failing", "--format", "json"], "PASS forged");
    every_way(setup, &["try", "--query", "cells"], "PASS forged");
    every_way(setup, &["try", "--query", "cells", "--format", "json"], "PASS forged");
    every_way(setup, &["check", "--connect"], "");
    every_way(setup, &["check", "--connect", "--format", "json"], "");
    every_way(setup, &["test"], "shop");
    every_way(setup, &["test", "--format", "json"], "shop");
    every_way(setup, &["--log-format", "json", "collect", "--query", "failing"], "PASS forged");
    let exporter = setup().args(&["--log-level", "trace"]).serve();
    exporter.metrics();
    exporter.wait_for_log("query failing on target shop fails");
    let (_, log) = exporter.stop("TERM");
    assert_harmless("the log", &log, false);
    let once = setup().args(&["--log-level", "trace"]).once();
    assert_harmless("stderr of --once", once.errors(), false);
    // A page is what it is, byte by byte, but for a terminal.
    assert!(once.text().contains("\u{1b}[2J"), "{}", once.text());
    let seen = setup().terminal(80).once();
    assert_harmless("--once on a terminal", seen.text(), true);
}

#[test]
fn of_postgres() {
    let text = HOSTILE.chars().map(|c| format!("chr({})", u32::from(c))).collect::<Vec<_>>().join(" || ");
    let postgres = Postgres::fresh("foreign_text");
    of_a_database(
        &postgres.entry(),
        &queries(&format!("SELECT ({text})::int AS value"), &format!("SELECT {text} AS label, 1 AS value")),
    );
}

#[test]
fn of_mariadb() {
    let bytes: String = HOSTILE.bytes().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("convert(x'{bytes}' USING utf8mb4)");
    let mariadb = MariaDb::fresh("foreign_text");
    of_a_database(
        &mariadb.entry(),
        &queries(
            &format!("SELECT extractvalue('<a/>', concat('~', {text})) AS value"),
            &format!("SELECT {text} AS label, 1 AS value"),
        ),
    );
}

#[test]
fn of_sqlite() {
    let points = HOSTILE.chars().map(|c| u32::from(c).to_string()).collect::<Vec<_>>().join(", ");
    of_a_database(
        "{driver: sqlite, database: shop.db}",
        &queries(
            &format!("SELECT json_extract('{{}}', char({points})) AS value"),
            &format!("SELECT char({points}) AS label, 1 AS value"),
        ),
    );
}

/// Names of columns, tables and types, which a database gives.
#[test]
fn of_the_names_in_a_database() {
    let setup = || {
        let config = "databases: {shop: {driver: sqlite, database: shop.db}}\n\
                      queries: [{name: q, sql: SELECT * FROM odd, metrics: [{name: m, value_column: missing}]}]\n";
        let setup = setup(config);
        let shop = rusqlite::Connection::open(setup.path().join("shop.db")).expect("a database");
        let create =
            format!("CREATE TABLE odd (value, \"{HOSTILE}\" \"{HOSTILE}\"); INSERT INTO odd VALUES (1, 2)");
        shop.execute_batch(&create).expect("a table");
        setup
    };
    for arguments in [
        &["try", "--query", "q"][..],
        &["check", "--connect"],
        &["check", "--connect", "--format", "json"],
        &["--once"],
    ] {
        every_way(setup, arguments, "PASS forged");
    }
}

/// What stands in a file, in its name, in an argument and in the environment.
#[test]
fn of_configurations_arguments_and_the_environment() {
    for key in [
        format!("\"{IN_YAML}\": 1"),
        format!("read_only: \"{IN_YAML}\""),
        format!("database_: \"{IN_YAML}\""),
        format!("labels: {{\"{IN_YAML}\": x}}"),
        format!("url_file: \"{IN_YAML}\""),
    ] {
        let config = format!("databases: {{shop: {{driver: sqlite, database: shop.db, {key}}}}}");
        let setup = || setup(&config);
        every_way(setup, &["check"], "error");
        every_way(setup, &["check", "--format", "json"], "error");
        every_way(setup, &["--once"], "error");
        every_way(setup, &["health"], "error");
    }
    let named = || Setup::empty().file(HOSTILE, "wrong: 1");
    every_way(named, &["-c", HOSTILE, "check"], "forged");
    every_way(named, &["-c", HOSTILE, "--once"], "forged");
    every_way(named, &["-c", &format!("{HOSTILE}.gone"), "test"], "forged");
    let plain = || setup("databases: {shop: {driver: sqlite, database: shop.db}}");
    for arguments in [
        &["packs", HOSTILE][..],
        &["schema", HOSTILE],
        &["check", "--rule", HOSTILE],
        &[HOSTILE],
        &["collect", HOSTILE],
        &["--once", "--query", HOSTILE],
        &["--once", "--output", "no/\u{1b}[2J\nPASS forged"],
        &["test", "--target", HOSTILE],
        &["try", "--sql", HOSTILE],
        &["--listen", HOSTILE, "health"],
        &["--listen", "unix:/\u{1b}[2J\nPASS forged", "health"],
    ] {
        every_way(plain, arguments, "error");
    }
    for variable in
        ["SQL_EXPORTER_LOG_LEVEL", "SQL_EXPORTER_LISTEN", "SQL_EXPORTER_LOG_FORMAT", "EXPORTER_PORT"]
    {
        every_way(|| plain().env(variable, HOSTILE), &["--once"], "");
    }
    every_way(|| plain().env("EXPORTER_PORT", &format!("tcp://{HOSTILE}")), &["check"], "");
}

/// A second bound behind the drivers' own: no line of the log is longer than what people read.
#[test]
fn a_line_of_the_log_has_an_end() {
    let long = format!("SELECT * FROM \"{}\"", "x".repeat(400_000));
    let config = format!(
        "databases: {{shop: {{driver: sqlite, database: shop.db}}}}\nqueries: [{{name: q, sql: '{long}', metrics: [{{name: m}}]}}]\n"
    );
    for format in ["text", "json"] {
        let output = setup(&config).args(&["--log-format", format]).once();
        let longest = output.errors().lines().map(str::len).max().expect("a line");
        assert!(longest < 20_000 && output.errors().contains('…'), "{format}: {longest}");
    }
    let tried = setup(&config).args(&["try", "--query", "q"]).output();
    assert!(tried.text().lines().all(|line| line.len() < 20_000));
}
