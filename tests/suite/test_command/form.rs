//! How it is told: text, JSON, colours, exit codes, which targets.

use super::{json, only, test, with_file};
use crate::exporter::Setup;
use crate::process::free_port;
use crate::servers::{MariaDb, Postgres, tls_file};

/// Four targets: one that warns, one that fails, one that passes and one that is disabled.
fn four() -> (Setup, u16) {
    let server = Postgres { database: "postgres".to_owned(), ..Postgres::fresh("test_form") };
    let port = free_port();
    let config = format!(
        "databases:\n  shop: {}\n  legacy: {{driver: mysql, host: 127.0.0.1, port: {port}, username: metrics, password: secret}}\n  \
         local: {{driver: sqlite, database: app.db}}\n  old: {{driver: sqlite, database: old.db, enabled: false}}\nqueries: []\n",
        server.entry_with("tls: {mode: require}")
    );
    (with_file(test(&config)), port)
}

/// Without what differs from run to run: times, versions, ports, and the widths that follow from them.
fn normal(text: &str, port: u16) -> String {
    let text = text.replace(&port.to_string(), "3306");
    let line = |line: &str| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if words.last() == Some(&"ms") {
            let last = words.len() - 2;
            words[last] = "N";
        }
        for server in ["PostgreSQL", "SQLite"] {
            if let Some(at) = words.iter().position(|word| *word == server) {
                words[at + 1] = "V";
            }
        }
        words.join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_of_the_documents_is_what_is_printed() {
    let (setup, port) = four();
    let output = setup.output();
    assert_eq!((output.code(), output.errors()), (1, ""));
    let page = crate::documents::read("docs/command-line.md");
    let block = page.split("$ sql-exporter test -c shop.yaml\n").nth(1).expect("the example");
    let block = block.split("```").next().expect("its end");
    assert_eq!(normal(block, port), normal(output.text(), port), "\n{}", output.text());
    assert!(!output.text().contains('\u{1b}'), "a pipe has no colours");
}

#[test]
fn a_terminal_has_colours_unless_it_wants_none_and_no_line_is_wider() {
    let (setup, _) = four();
    let seen = setup.terminal(70).output();
    assert!(seen.text().contains("\u{1b}[32mPASS\u{1b}[0m"), "{}", seen.text());
    assert!(seen.text().contains("\u{1b}[31mFAIL\u{1b}[0m"), "{}", seen.text());
    let (setup, _) = four();
    let plain = setup.terminal(70).env("NO_COLOR", "1").output();
    let statements = ["GRANT", "CREATE"];
    let lines = plain.text().lines().filter(|line| !statements.iter().any(|word| line.contains(word)));
    for line in lines {
        assert!(line.trim_end().chars().count() <= 70, "{line}");
        assert!(!line.contains("\u{1b}[3"), "{line}");
    }
}

#[test]
fn json_has_every_field_for_every_verdict() {
    let (code, told) = json(four().0);
    assert_eq!(code, 1);
    let fields = |index: usize| -> Vec<&str> {
        told["targets"][index].as_object().unwrap().keys().map(String::as_str).collect()
    };
    let expected = [
        "address",
        "driver",
        "duration_seconds",
        "error",
        "flavor",
        "grants",
        "note",
        "role",
        "skipped",
        "target",
        "tls",
        "user",
        "verdict",
        "version",
        "warnings",
    ];
    for index in 0..4 {
        let mut found = fields(index);
        found.sort_unstable();
        assert_eq!(found, expected, "{index}");
    }
    let shop = &told["targets"][0];
    assert_eq!(
        (&shop["tls"], &shop["role"]),
        (&"encrypted, not verified".into(), &"primary".into()),
        "{shop}"
    );
    assert!(shop["version"].as_str().unwrap().starts_with("15."), "{shop}");
    assert!(told["targets"][3]["skipped"].as_str().unwrap().contains("enabled: false"), "{told}");
    let summary =
        serde_json::json!({"targets": 4, "passed": 2, "failed": 1, "skipped": 1, "with_warnings": 1});
    assert_eq!(told["summary"], summary);
}

#[test]
fn target_chooses_and_an_unknown_one_is_exit_2() {
    let (setup, _) = four();
    let output = setup.args(&["--target", "local", "--target=shop"]).output();
    assert_eq!(output.code(), 0, "{}", output.text());
    let last = output.text().lines().last().unwrap();
    assert_eq!(last, "2 targets: 2 passed, 0 failed; 1 with warnings");
    let unknown = four().0.args(&["--target", "shp"]).output();
    assert_eq!((unknown.code(), unknown.text()), (2, ""));
    assert!(
        unknown.errors().starts_with("error: unknown target `shp`; nearest: shop"),
        "{}",
        unknown.errors()
    );
    let wrong = test("databases: {}\nqueries: {}\n").output();
    assert_eq!((wrong.code(), wrong.text()), (2, ""));
    let zero = four().0.args(&["--timeout", "0s"]).output();
    assert_eq!(zero.code(), 2, "{}", zero.errors());
}

#[test]
fn a_driver_that_is_not_built_in_is_skipped() {
    let config = "databases: {ours: {driver: sqlite, database: app.db}, theirs: {driver: oracle, host: h}}\nqueries: []\n";
    let output = with_file(test(config)).output();
    assert_eq!(output.code(), 0, "{}", output.text());
    assert!(output.text().contains("SKIP  theirs: the driver oracle is not built in"), "{}", output.text());
}

#[test]
fn a_way_that_nobody_can_stand_in_between_needs_no_note() {
    let tls = |mode| format!("tls: {{mode: {mode}, ca: {}}}", tls_file("ca.pem").display());
    // On Linux this address leads to this machine, and does not look like it.
    let away = |server: &str| server.replace("127.0.0.1", "0.0.0.0");
    let servers = [
        MariaDb::shared("mysql").entry_with(&tls("verify-ca")),
        Postgres::shared("postgres").entry_with(&tls("verify-ca")),
    ];
    for server in servers {
        let told = only(&away(&server));
        assert_eq!((&told["tls"], &told["note"]), (&"verified".into(), &serde_json::Value::Null), "{told}");
    }
    let told = only(&away(&MariaDb::shared("mysql").entry_with("tls: {mode: prefer}")));
    assert!(told["note"].as_str().unwrap().starts_with("the server's identity is not verified"), "{told}");
    let told = only(&MariaDb::shared("mysql").entry_with("tls: {mode: disable}"));
    assert_eq!((&told["tls"], &told["note"]), (&"plain text".into(), &serde_json::Value::Null), "{told}");
}
