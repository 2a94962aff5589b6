//! Logins that fail: how often a server is asked with a password that it refused, what does not count as a refused password, and where
//! passwords come from.

use std::path::Path;

use mysql::prelude::Queryable;
use sql_exporter::error::Reason;

use crate::checker::{Page, checked};
use crate::exporter::{Exporter, Setup};
use crate::process::{folder, wait_for};
use crate::proxy::Proxy;
use crate::scrape::fails;
use crate::servers::own::{OwnMariaDb, OwnPostgres};
use crate::servers::{CANARY, MariaDb, Postgres};

const QUERY: &str =
    "queries:\n  - {name: q, databases: ['*'], sql: SELECT 1 AS value, metrics: [{name: q_value}]}\n";

const TARGETS: [&str; 4] = ["a", "b", "c", "d"];

/// Four targets on one server, each with its own database and password file.
fn four(driver: &str, user: &str, port: u16, databases: [&str; 4]) -> Setup {
    let entry = |(name, database): (&str, &str)| {
        format!(
            "  {name}: {{driver: {driver}, host: 127.0.0.1, port: {port}, username: {user}, database: {database}, \
             password_file: pw-{name}, tls: {{mode: disable}}}}\n"
        )
    };
    let entries: String = TARGETS.into_iter().zip(databases).map(entry).collect();
    let setup = Setup::new(&format!("databases:\n{entries}{QUERY}"));
    TARGETS.iter().fold(setup, |setup, name| setup.file(&format!("pw-{name}"), &format!("{CANARY}wrong\n")))
}

fn value(page: &Page, name: &str, target: &str) -> Option<f64> {
    page.value(name, &[("target", target)])
}

/// How many logins a MariaDB server has refused.
fn refusals(server: &MariaDb) -> u32 {
    let row: (String, u32) = server
        .client()
        .query_first("SHOW GLOBAL STATUS LIKE 'Access_denied_errors'")
        .expect("a status")
        .expect("a row");
    row.1
}

#[test]
fn a_refused_password_costs_a_server_one_login_whoever_has_it() {
    let server = OwnMariaDb::start(&[]);
    let databases = ["mysql", "information_schema", "mysql", "performance_schema"];
    let exporter = four("mysql", "root", server.access().port, databases).serve();
    let before = refusals(server.access());
    for _ in 0..2 {
        let page = checked(&exporter.metrics());
        for target in TARGETS {
            assert!(fails(&page, target, "q", Reason::Auth), "{target}: {}", exporter.log());
            let left = value(&page, "sql_exporter_target_backoff_seconds", target).expect("a time");
            assert!((1.0..=30.0).contains(&left), "{target}: {left}");
        }
        assert_eq!(refusals(server.access()) - before, 1, "{}", exporter.log());
    }
    // Who has another password is not held, and the others stay as they are.
    std::fs::write(exporter.file("pw-c"), &server.access().password).expect("a file");
    let page = checked(&exporter.metrics());
    let up = |page: &Page| TARGETS.map(|target| value(page, "sql_exporter_target_up", target));
    assert_eq!(up(&page), [Some(0.0), Some(0.0), Some(1.0), Some(0.0)], "{}", exporter.log());
    assert_eq!(refusals(server.access()) - before, 1);
    // A reload forgives, and one try shows that nothing has changed.
    assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
    assert_eq!(up(&checked(&exporter.metrics())), [Some(0.0), Some(0.0), Some(1.0), Some(0.0)]);
    assert_eq!(refusals(server.access()) - before, 2, "{}", exporter.log());
    assert!(exporter.log().contains("tried for target "), "{}", exporter.log());
}

#[test]
fn the_same_on_postgres_and_a_mended_server_is_found_after_a_reload() {
    let server = Postgres::fresh("login_backoff");
    let user = format!("{}_u", server.database);
    server.run(&format!("CREATE ROLE {user} LOGIN PASSWORD '{CANARY}right'"));
    let proxy = Proxy::before(server.port);
    let databases = [server.database.as_str(), "postgres", "template1", "postgres"];
    let exporter = four("postgres", &user, proxy.port(), databases).serve();
    for _ in 0..2 {
        let page = checked(&exporter.metrics());
        assert!(TARGETS.iter().all(|target| fails(&page, target, "q", Reason::Auth)), "{}", exporter.log());
        assert_eq!(proxy.connections(), 1, "{}", exporter.log());
    }
    server.run(&format!("ALTER ROLE {user} PASSWORD '{CANARY}wrong'"));
    assert_eq!(exporter.request("POST", "/-/reload", &[]).status, 200);
    let page = checked(&exporter.metrics());
    let up = TARGETS.map(|target| value(&page, "sql_exporter_target_up", target));
    assert_eq!(up, [Some(1.0); 4], "{}", exporter.log());
}

#[test]
fn the_command_test_tries_a_wrong_password_once() {
    let server = OwnMariaDb::start(&[]);
    let before = refusals(server.access());
    let output = four("mysql", "root", server.access().port, ["mysql"; 4]).args(&["test"]).output();
    assert_eq!(output.code(), 1, "{}", output.text());
    assert_eq!(refusals(server.access()) - before, 1, "{}", output.text());
    assert_eq!(output.text().matches("FAIL  ").count(), 8, "{}", output.text());
    assert_eq!(output.text().matches("and not again for this one").count(), 3, "{}", output.text());
}

/// A server that lets in whom `lines` let in, and `postgres` always.
fn with_hba(lines: &str) -> (OwnPostgres, tempfile::TempDir) {
    let folder = folder();
    let file = folder.path().join("pg_hba.conf");
    write_hba(&file, lines);
    (OwnPostgres::start(&[&format!("hba_file={}", file.display())]), folder)
}

fn write_hba(file: &Path, lines: &str) {
    std::fs::write(file, format!("host all postgres 127.0.0.1/32 scram-sha-256\n{lines}\n")).expect("a file");
}

#[test]
fn a_missing_line_in_pg_hba_conf_is_no_refused_password() {
    let (server, folder) = with_hba("");
    let access = server.access();
    access.run(&format!("CREATE ROLE exporter LOGIN PASSWORD '{CANARY}exporter'"));
    let entry = access.entry().replace("username: postgres", "username: exporter");
    let entry = entry.replace(&access.password, &format!("{CANARY}exporter"));
    let exporter = Exporter::serve(&format!("databases:\n  pg: {entry}\n{QUERY}"));
    let page = checked(&exporter.metrics());
    assert!(fails(&page, "pg", "q", Reason::Permission), "{}", exporter.log());
    assert_eq!(value(&page, "sql_exporter_target_backoff_seconds", "pg"), Some(0.0));
    write_hba(&folder.path().join("pg_hba.conf"), "host all exporter 127.0.0.1/32 scram-sha-256");
    access.run("SELECT pg_reload_conf()");
    wait_for("the login", || {
        (value(&checked(&exporter.metrics()), "q_value", "pg") == Some(1.0)).then_some(())
    });
}

#[test]
fn a_server_that_refuses_a_user_with_tls_is_spoken_to_in_plain_text_and_that_is_told() {
    let (server, _folder) = with_hba("hostnossl all exporter 127.0.0.1/32 scram-sha-256");
    let access = server.access();
    access.run(&format!("CREATE ROLE exporter LOGIN PASSWORD '{CANARY}exporter'"));
    let entry = |more: &str| {
        let entry = access.entry_with(more).replace("username: postgres", "username: exporter");
        entry.replace(&access.password, &format!("{CANARY}exporter"))
    };
    let exporter = Exporter::serve(&format!("databases:\n  pg: {}\n{QUERY}", entry("")));
    assert_eq!(value(&checked(&exporter.metrics()), "q_value", "pg"), Some(1.0), "{}", exporter.log());
    let told = "target pg is connected in plain text: the server's pg_hba.conf refuses its user with TLS";
    exporter.wait_for_log(told);
    let test = |more: &str| {
        Setup::new(&format!("databases:\n  pg: {}\n", entry(more))).args(&["test"]).output().text().to_owned()
    };
    assert!(
        test("").contains("plain text") && test("").contains("refuses this user with TLS"),
        "{}",
        test("")
    );
    let demanded = test("tls: {mode: require}");
    assert!(
        demanded.contains("no line of the server's pg_hba.conf lets this user in from here (permission)"),
        "{demanded}"
    );
}

/// One scrape with PostgreSQL's password file: how it went, and what was logged.
fn with_passfile(url: &str, environment: &[(&str, &str)], mode: u32) -> (i32, String) {
    let server = Postgres::shared("postgres");
    let Postgres { port, password, .. } = &server;
    let url = url.replace("PORT", &port.to_string());
    let lines = format!("\u{feff}elsewhere:*:*:*:{CANARY}other\n127.0.0.1:{port}:*:postgres:{password}\r\n");
    let setup = Setup::new(&format!("databases:\n  pg: {{url: '{url}'}}\n{QUERY}")).file(".pgpass", &lines);
    let setup = setup.mode(".pgpass", mode);
    let home = setup.path().display().to_string();
    let setup =
        environment.iter().fold(setup, |setup, (name, value)| setup.env(name, &value.replace("HOME", &home)));
    let output = setup.once();
    (output.code(), output.errors().to_owned())
}

#[test]
fn postgresqls_password_file_serves_where_no_other_password_is() {
    let url = "postgres://postgres@127.0.0.1:PORT/postgres";
    let home = [("HOME", "HOME")];
    let named = format!("{url}?passfile=.pgpass");
    for (url, environment) in [
        (url, &[("PGPASSFILE", "HOME/.pgpass")][..]),
        (url, &home),
        (&named, &[]),
        ("host=127.0.0.1 port=PORT user=postgres dbname=postgres", &home),
        // The parameter counts more than the environment.
        (&named, &[("PGPASSFILE", "/nowhere")]),
    ] {
        let (code, errors) = with_passfile(url, environment, 0o600);
        assert_eq!(code, 0, "{url}: {errors}");
    }
    for (url, environment, mode, said) in [
        (url, &home[..], 0o644, "others may read it (mode 0644)"),
        (&url.replace("127.0.0.1", "localhost"), &home, 0o600, ".pgpass has no line for localhost:"),
        (url, &[("PGPASSFILE", "/nowhere/pgpass")], 0o600, "/nowhere/pgpass cannot be read: No such file"),
        (url, &[], 0o600, "password missing"),
        (&url.replace("postgres@", "postgres:other@"), &home, 0o600, "password authentication failed"),
    ] {
        let (code, errors) = with_passfile(url, environment, mode);
        assert!(code == 1 && errors.contains(said), "{url}: {said}: {errors}");
    }
}

#[test]
fn a_byte_order_mark_and_a_last_line_end_are_left_out_of_every_file() {
    let server = Postgres::shared("postgres");
    let Postgres { port, password, .. } = &server;
    let config = "\u{feff}include: [more.yaml]\r\ndatabases:\r\n  pg: {url_file: url, password_file: pw, tls: {mode: verify-ca, ca: ca.pem}}\r\n  \
                  lite: {url_file: lite}\r\n";
    let ca = std::fs::read_to_string(crate::servers::tls_file("ca.pem")).expect("a certificate");
    let output = Setup::new(config)
        .file("more.yaml", "\u{feff}databases: ['*']\r\nqueries:\r\n  - {name: q, sql_file: q.sql, metrics: [{name: q_value}]}\r\n")
        .file("q.sql", "\u{feff}SELECT 1 AS value\r\n")
        .file("url", &format!("\u{feff}postgres://postgres@127.0.0.1:{port}/postgres\r\n"))
        .file("pw", &format!("\u{feff}{password}\r\n"))
        .file("ca.pem", &format!("\u{feff}{ca}"))
        .file("lite", "\u{feff}sqlite:app.db\r\n")
        .file("app.db", "")
        .once();
    assert_eq!((output.code(), output.errors()), (0, ""));
    assert_eq!(
        output.text().lines().filter(|line| line.starts_with("q_value{")).count(),
        2,
        "{}",
        output.text()
    );
}

#[test]
fn a_file_in_utf_16_is_told_what_it_is() {
    let config = "databases:\n  lite: {driver: sqlite, database: app.db}\nqueries:\n  - {name: q, sql_file: q.sql, metrics: [{name: q_value}]}\n";
    let setup = Setup::new(config);
    let text: Vec<u8> = "\u{feff}SELECT 1".encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(setup.path().join("q.sql"), text).expect("a file");
    let output = setup.once();
    assert!(
        output.code() == 2 && output.errors().contains("q.sql is UTF-16 text: save it as UTF-8"),
        "{}",
        output.errors()
    );
}

#[test]
fn a_failing_password_command_is_told_in_its_own_words() {
    let server = Postgres::shared("postgres");
    let config = |script: &str| {
        let entry = server
            .entry()
            .replace(&format!("password: '{}'", server.password), "password_command: [sh, -c, SCRIPT]");
        format!("databases:\n  pg: {}\n{QUERY}", entry.replace("SCRIPT", script))
    };
    for (script, said) in [
        (
            "echo Unable to locate credentials >&2; exit 255",
            "failed: exit status: 255; it wrote: Unable to locate credentials",
        ),
        ("kill -TERM $$", "failed: signal: 15 (SIGTERM)"),
        ("'true'", "printed what is empty"),
        ("echo one; echo two", "printed more than one line"),
    ] {
        let output =
            Setup::new(&config(&format!("\"{}\"", script.replace('"', "'")))).args(&["test"]).output();
        let text = output.text();
        assert!(text.contains("FAIL  pg: there is no password to log in with (auth)"), "{text}");
        assert!(text.contains(said) && !text.contains("the server does not accept"), "{said}: {text}");
    }
}
