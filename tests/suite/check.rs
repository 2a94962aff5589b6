//! The command `check`: what it says about whole configurations, in which form, and with which exit code.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use sql_exporter::config::packs;
use sql_exporter::metric::lint_off::LINTS;

use crate::exporter::{Output, Setup};
use crate::servers::CANARY;

fn root(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn check(config: &str) -> Setup {
    Setup::new(config).args(&["check"])
}

/// The line that counts.
fn summary(output: &Output) -> &str {
    output.text().lines().last().unwrap_or_default()
}

/// One target, one query, one fault of a lint on each.
const ODD: &str = "databases:
  shop: {driver: postgres, host: db.example LINT_OFF_TARGET}
queries:
  - name: orders
    sql: SELECT region, count(*) AS value FROM orders GROUP BY region
    interval: 1s LINT_OFF_QUERY
    metrics:
      - {name: shop_orders_total, labels: [region] LINT_OFF_METRIC}
";

/// [`ODD`] with these codes silenced on target, query and metric.
fn silenced(target: &str, query: &str, metric: &str) -> Output {
    let flow = |codes: &str| if codes.is_empty() { String::new() } else { format!(", lint_off: {codes}") };
    let block = if query.is_empty() { String::new() } else { format!("\n    lint_off: {query}") };
    let config = ODD
        .replace(" LINT_OFF_TARGET", &flow(target))
        .replace(" LINT_OFF_QUERY", &block)
        .replace(" LINT_OFF_METRIC", &flow(metric));
    check(&config).output()
}

/// The codes found.
fn codes(output: &Output) -> Vec<&str> {
    output.text().lines().filter_map(|line| line.strip_prefix("warning[")?.get(..4)).collect()
}

#[test]
fn lint_off_silences_on_a_target_a_query_and_a_metric_and_is_counted() {
    let all = silenced("", "", "");
    assert_eq!(codes(&all), ["L010", "L002", "L005"]);
    assert_eq!(summary(&all), "0 errors, 3 warnings in 1 file: 1 target, 1 query");
    let of_target = silenced("[L010, L011]", "", "");
    assert_eq!(codes(&of_target), ["L002", "L005"]);
    assert_eq!(summary(&of_target), "0 errors, 2 warnings, 1 silenced in 1 file: 1 target, 1 query");
    assert_eq!(codes(&silenced("", "l002", "")), ["L010", "L005"]);
    assert_eq!(codes(&silenced("", "", "L005")), ["L010", "L002"]);
    let none = silenced("L010", "[L002]", "[L005]");
    assert_eq!(summary(&none), "0 errors, 0 warnings, 3 silenced in 1 file: 1 target, 1 query");
}

#[test]
fn a_target_whose_url_is_at_fault_brings_no_warning_about_its_driver() {
    let output = check(
        "databases: {shop: {url: \"postgres://u:${NOT_SET}@h/d\"}}\ninclude: [\"builtin:postgres/*\"]\n",
    )
    .output();
    assert_eq!((output.code(), output.text().matches("NOT_SET").count() > 0), (2, true), "{}", output.text());
    assert!(!output.text().contains("warning:"), "{}", output.text());
}

#[test]
fn warnings_end_with_0_and_with_strict_with_1_and_errors_with_2() {
    let code = |config: &str, more: &[&str]| check(config).args(more).output().code();
    let clean = "databases: {shop: {driver: sqlite, database: a.db}}\nqueries: []\n";
    assert_eq!((code(clean, &[]), code(clean, &["--strict"])), (0, 0));
    let odd =
        ODD.replace(" LINT_OFF_TARGET", "").replace(" LINT_OFF_QUERY", "").replace(" LINT_OFF_METRIC", "");
    assert_eq!((code(&odd, &[]), code(&odd, &["--strict"])), (0, 1));
    let load_warns = format!("{clean}include: [\"none/*.yaml\"]\n");
    assert_eq!((code(&load_warns, &[]), code(&load_warns, &["--strict"])), (0, 1));
    assert_eq!((code("databases: {}", &[]), code("databases: {}", &["--strict"])), (2, 2));
}

#[test]
fn faults_and_warnings_of_the_load_come_together_in_file_order() {
    let output = Setup::new(
        "databases: {shop: {driver: sqlite, database: a.db}}\ninclude: [\"none/*.yaml\", more.yaml]\n\
         queries: []\nexporter: {prt: 1}\n",
    )
    .file("more.yaml", "queries:\n  - {name: q, sqll: SELECT 1, metric_name: q}\n")
    .args(&["check"])
    .output();
    let starts = [
        "warning: sql-exporter.yaml:2:1: include: no file matches",
        "error: sql-exporter.yaml:4:12: exporter.prt: unknown key",
        "error: ./more.yaml:2:15: queries[0].sqll: unknown key; did you mean `sql`?",
        "2 errors, 1 warning in 2 files",
    ];
    let lines = output.text().lines().filter(|line| !line.starts_with("  |"));
    let pairs: Vec<(&str, &str)> = lines.zip(starts).collect();
    assert!(
        pairs.len() == 4 && pairs.iter().all(|(line, start)| line.starts_with(start)),
        "{}",
        output.text()
    );
    assert_eq!(summary(&output), "2 errors, 1 warning in 2 files; lints and tests run once it loads");
    assert_eq!((output.code(), output.errors()), (2, ""));
}

#[test]
fn the_web_config_file_is_checked_too() {
    let config = "databases: {shop: {driver: sqlite, database: a.db}}\nqueries: []\nexporter: {web_config_file: web.yml}\n";
    let output = check(config).file("web.yml", "basic_auth_users: {a: plain}\n").output();
    assert!(
        output.text().contains("error: web.yml:1:") || output.text().contains("error: ./web.yml:1:"),
        "{}",
        output.text()
    );
    assert_eq!(output.code(), 2);
    assert_eq!(summary(&output), "1 error, 0 warnings in 2 files: 1 target, 0 queries");
    // Also where the configuration has faults of its own.
    let faulty = check(&config.replace("queries", "querys"))
        .file("web.yml", "basic_auth_users: {a: plain}\n")
        .output();
    assert!(faulty.text().contains("web.yml:1:") && faulty.text().contains("querys"), "{}", faulty.text());
    assert_eq!((faulty.code(), summary(&faulty).starts_with("2 errors")), (2, true), "{}", faulty.text());
}

#[test]
fn a_missing_configuration_is_an_error_like_any_other() {
    let start = Setup::empty().output();
    let output = Setup::empty().args(&["check"]).output();
    assert!(output.text().starts_with(start.errors()), "{}\n{}", output.text(), start.errors());
    assert_eq!((output.code(), start.code()), (2, 2));
    let gone = Setup::empty().args(&["check", "-c", "gone.yaml"]).output();
    assert!(gone.text().starts_with("error: gone.yaml: cannot read the file"), "{}", gone.text());
}

/// The folder of broken configurations with one of them as the file to read.
fn broken(name: &str) -> Setup {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let parts =
        std::fs::read_dir(folder.join("parts")).expect("the folder").map(|entry| entry.expect("an entry"));
    let setup = Setup::empty()
        .file(name, &root(&format!("tests/broken/{name}")))
        .env("PORT", "5432")
        .env("EMPTY", "")
        .env("WORD", "word");
    parts.fold(setup, |setup, part| {
        let path = format!("parts/{}", part.file_name().to_string_lossy());
        setup.file(&path, &root(&format!("tests/broken/{path}")))
    })
}

#[test]
fn check_and_start_say_the_same_about_every_broken_configuration() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let names =
        std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").file_name());
    let names: BTreeSet<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let names: Vec<&String> = names.iter().filter(|name| name.ends_with(".yaml")).collect();
    assert!(names.len() > 60);
    for name in names {
        let start = broken(name).args(&["-c", name]).output();
        let check = broken(name).args(&["check", "-c", name]).output();
        assert_eq!((start.code(), check.code()), (2, 2), "{name}");
        assert!(start.errors().starts_with("error: "), "{name}: {}", start.errors());
        assert!(check.text().contains(start.errors()), "{name}\n{}\n{}", check.text(), start.errors());
        assert!(summary(&check).starts_with("1 error, "), "{name}: {}", summary(&check));
        assert_eq!((check.errors(), start.text()), ("", ""), "{name}");
        assert!(!check.text().contains("canary"), "{name}: {}", check.text());
    }
}

#[test]
fn the_packs_and_the_examples_are_clean() {
    let packs: Vec<String> = packs::names().iter().map(|name| format!("\"builtin:{name}\"")).collect();
    let all = format!(
        "databases:\n  a: {{driver: postgres, host: localhost}}\n  b: {{driver: mysql, host: localhost}}\n  \
         c: {{driver: sqlite, database: a.db}}\n  d: {{driver: pgbouncer, host: localhost}}\nqueries: []\ninclude: [{}]\n",
        packs.join(", ")
    );
    let output = check(&all).args(&["--strict"]).output();
    assert_eq!(output.code(), 0, "{}", output.text());
    let examples =
        ["full.yaml", "demo/sql-exporter.yaml", "business/sql-exporter.yaml", "kustomize/sql-exporter.yaml"];
    for example in examples {
        let output = Setup::empty()
            .file(example, &root(&format!("examples/{example}")))
            .file("business/stock.sql", &root("examples/business/stock.sql"))
            .env("POSTGRES_PASSWORD", CANARY)
            .env("MYSQL_PASSWORD", CANARY)
            .args(&["check", "--strict", "-c", example])
            .output();
        assert_eq!((output.code(), output.errors()), (0, ""), "{example}: {}", output.text());
        assert!(summary(&output).starts_with("0 errors, 0 warnings in "), "{}", output.text());
    }
}

#[test]
fn json_holds_the_same_findings_with_every_field() {
    let config = format!(
        "{}exporter: {{listen: \":9399\"}}\n",
        ODD.replace(" LINT_OFF_TARGET", ", password: c4nary-x")
    )
    .replace(" LINT_OFF_QUERY", "")
    .replace(" LINT_OFF_METRIC", "");
    let setup = || check(&config).mode("sql-exporter.yaml", 0o600);
    let (text, json) = (setup().output(), setup().args(&["--format=json"]).output());
    let document: Value = serde_json::from_str(json.text()).expect("JSON");
    let findings = document["findings"].as_array().expect("a list");
    let found: Vec<&str> = findings.iter().filter_map(|finding| finding["code"].as_str()).collect();
    assert_eq!(found, codes(&text));
    for finding in findings {
        let keys: Vec<&String> = finding.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["code", "column", "file", "hint", "line", "message", "path", "severity"]);
        assert!(finding["line"].is_u64() && finding["column"].is_u64(), "{finding}");
        assert_eq!(
            (finding["file"].as_str(), finding["severity"].as_str()),
            (Some("sql-exporter.yaml"), Some("warning"))
        );
    }
    let summary = document["summary"].to_string();
    let expected = r#"{"errors":0,"files":1,"loaded":true,"notes":0,"queries":1,"silenced":0,"targets":1,"tests_failed":0,"tests_passed":0,"warnings":4}"#;
    assert_eq!(summary, expected);
    let broken = check("databases: 1").args(&["--format", "json"]).output();
    let document: Value = serde_json::from_str(broken.text()).expect("JSON");
    assert_eq!(
        (&document["summary"]["loaded"], &document["summary"]["targets"]),
        (&Value::Bool(false), &Value::Null)
    );
    assert_eq!((broken.code(), &document["findings"][0]["code"]), (2, &Value::Null));
}

#[test]
fn each_lint_is_explained_and_all_are_listed() {
    for lint in LINTS {
        let output = Setup::empty().args(&["check", "--rule", lint.code]).output();
        let text = output.text();
        assert!(text.starts_with(&format!("{}  {}\n", lint.code, lint.about)), "{text}");
        assert!(text.contains(&format!("`lint_off: [{}]`", lint.code)) && output.code() == 0, "{text}");
        assert!(text.lines().all(|line| line.starts_with("    ") || line.chars().count() <= 80), "{text}");
    }
    let list = Setup::empty().args(&["check", "--rule", "list"]).output();
    let expected: String = LINTS.iter().map(|lint| format!("{}  {}\n", lint.code, lint.about)).collect();
    assert_eq!(list.text(), expected);
    let unknown = Setup::empty().args(&["check", "--rule", "L07"]).output();
    assert!(
        unknown.errors().contains("there is no lint \"L07\"; did you mean L007?"),
        "{}",
        unknown.errors()
    );
    assert_eq!(unknown.code(), 2);
}

#[test]
fn the_documents_list_every_lint() {
    let page = crate::documents::read("docs/command-line.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `L0")).collect();
    let expected: Vec<String> =
        LINTS.iter().map(|lint| format!("| `{}` | {} |", lint.code, lint.about)).collect();
    assert_eq!(rows, expected);
}

#[test]
fn a_line_that_lends_its_text_to_a_password_is_not_shown() {
    let config = format!(
        "databases:\n  shop:\n    driver: postgres\n    host: localhost\n    labels: {{job: &lent {CANARY}x}}\n    \
         password: *lent\nqueries: []\n"
    );
    let output = check(&config).mode("sql-exporter.yaml", 0o600).output();
    assert_eq!(codes(&output), ["L007", "L011"]);
    assert!(!output.text().contains("  |"), "{}", output.text());
}

#[test]
fn defaults_silence_for_every_target_and_every_query_that_says_nothing_itself() {
    let config = "defaults:
  database: {lint_off: L010}
  query: {lint_off: [L002, L005]}
databases:
  a: {driver: postgres, host: a.example}
  b: {driver: postgres, host: b.example, lint_off: []}
queries:
  - {name: q, database: a, sql: SELECT 1 AS value, metric_name: q_total}
  - {name: r, database: a, sql: SELECT 2 AS value, metric_name: r_total, lint_off: L005}
";
    let output = check(config).output();
    assert_eq!(codes(&output), ["L010", "L002"], "{}", output.text());
    assert_eq!(summary(&output), "0 errors, 2 warnings, 4 silenced in 1 file: 2 targets, 2 queries");
}

#[test]
fn what_is_odd_about_the_environment_is_a_warning_without_a_place() {
    let clean = "databases: {shop: {driver: sqlite, database: a.db}}\nqueries: []\n";
    let output = check(clean).env("EXPORTER_PORT", "tcp://10.0.0.1:9399").args(&["--strict"]).output();
    assert!(output.text().starts_with("warning: environment variable EXPORTER_PORT="), "{}", output.text());
    assert_eq!(output.code(), 1);
}

#[test]
fn the_documents_show_what_check_prints() {
    let config = "databases:
  shop: {driver: sqlite, database: shop.db}
queries:
  - name: orders
    sql: SELECT count(*) AS value FROM orders
    metrics:
      - {name: shop_orders_total, help: Orders.}
";
    let output = Setup::empty().file("shop.yaml", config).args(&["check", "-c", "shop.yaml"]).output();
    let page = crate::documents::read("docs/command-line.md");
    let block =
        page.split("```").find_map(|block| block.strip_prefix("\n$ sql-exporter check -c shop.yaml\n"));
    assert_eq!(block, Some(output.text()));
}

/// A configuration with an error in a long line.
fn long() -> Setup {
    check(&format!(
        "databases: {{shop: {{driver: sqlite, database: a.db}}}}\nqueries:\n  - {{name: q, sql: \"SELECT '{}' AS value\", \
         metrics: [{{name: q_total, help: A text that is long enough to be cut away at the end of the line.}}]}}\n",
        "long ".repeat(20)
    ))
}

#[test]
fn a_terminal_gets_colour_and_lines_no_wider_than_itself() {
    for columns in [80, 50] {
        let output = long().terminal(columns).env("TERM", "xterm").output();
        let text = output.text().replace("\r\n", "\n");
        assert!(text.contains("\x1b[33mwarning[L002]\x1b[0m: sql-exporter.yaml:"), "{text:?}");
        let plain = ["\x1b[33m", "\x1b[32m", "\x1b[2m", "\x1b[0m"]
            .iter()
            .fold(text, |text, code| text.replace(code, ""));
        assert!(!plain.contains('\x1b'), "{plain:?}");
        let widest = plain.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(usize::from(columns)), "{columns}: {plain}");
        let lines: Vec<&str> = plain.lines().collect();
        let caret = lines.iter().position(|line| line.ends_with('^')).expect("a caret");
        let under = lines[caret - 1].chars().skip(lines[caret].chars().count() - 1).collect::<String>();
        assert!(under.starts_with("q_total"), "{plain}");
    }
}

#[test]
fn there_is_no_colour_where_it_is_not_wanted() {
    let outputs = [
        long().env("TERM", "xterm").output(),
        long().terminal(80).env("TERM", "xterm").env("NO_COLOR", "1").output(),
        long().terminal(80).env("TERM", "dumb").output(),
    ];
    for output in outputs {
        assert!(
            output.text().contains("warning[L002]") && !output.text().contains('\x1b'),
            "{}",
            output.text()
        );
    }
    let piped = long().output();
    assert!(piped.text().lines().next().is_some_and(|line| line.ends_with("name it q")), "{}", piped.text());
}

/// The commands, as `--help` lists them.
fn commands() -> Vec<String> {
    let help = Setup::empty().args(&["--help"]).output();
    let list = help
        .text()
        .split("Commands:\n")
        .nth(1)
        .and_then(|rest| rest.split("\n\n").next())
        .unwrap_or_default();
    let named = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    named.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_help_of_every_command_ends_with_two_examples() {
    let commands = commands();
    assert!(commands.len() >= 5 && commands.contains(&"check".to_owned()), "{commands:?}");
    for command in std::iter::once(String::new()).chain(commands) {
        let args = if command.is_empty() { vec!["--help"] } else { vec![&command, "--help"] };
        let output = Setup::empty().args(&args).output();
        let start = format!("    sql-exporter {command}").trim_end().to_owned();
        let examples = output.text().split("Examples:\n").nth(1).unwrap_or_default();
        let lines = examples.lines().filter(|line| line.starts_with(&start)).count();
        assert_eq!((lines, examples.lines().count()), (2, 4), "{command}: {}", output.text());
    }
}

/// Two collectors with one family on the targets `a` and `b`, each with a fixed label.
fn two_collectors(one: &str, other: &str) -> Output {
    let file = |query: &str, label: &str| {
        format!(
            "queries:\n  - name: {query}\n    driver: sqlite\n    sql: SELECT 1 AS value, '{query}'\n    metrics:\n      \
             - {{name: shared, help: Things., static_labels: {{of: {label}}}}}\n"
        )
    };
    Setup::new(
        "databases:\n  a: {driver: sqlite, database: a.db}\n  b: {driver: sqlite, database: b.db}\n\
         include: [one.yaml, other.yaml]\n",
    )
    .file("one.yaml", &file("one", one))
    .file("other.yaml", &file("other", other))
    .args(&["check", "--strict"])
    .output()
}

#[test]
fn a_family_of_two_collectors_on_one_target_is_a_note_which_strict_accepts() {
    let output = two_collectors("x", "x");
    let note = "collectors one and other both make shared on target a and 1 more; where both have a series, the one of one \
                is shown";
    assert!(output.text().contains(note), "{}", output.text());
    assert_eq!(output.text().matches("note: ").count(), 1, "{}", output.text());
    assert_eq!(output.code(), 0);
    assert_eq!(summary(&output), "0 errors, 0 warnings, 1 note in 3 files: 2 targets, 2 queries");
    let apart = two_collectors("x", "y");
    assert_eq!(summary(&apart), "0 errors, 0 warnings in 3 files: 2 targets, 2 queries");
}
