//! On a terminal `init` asks. `terminal.py` is the person.

use std::process::Stdio;

use serde_json::{Value, json};

use super::Place;
use crate::exporter::{assert_clean, program};
use crate::process::{mortal, variable};
use crate::servers::{MariaDb, Postgres};

/// What the terminal showed, and how it ended. `steps`: what to wait for, and what to type then.
fn on_terminal(place: &Place, arguments: &[&str], steps: &[(&str, &str)]) -> Value {
    let mut command = mortal(None, &variable("TEST_PYTHON"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/init/terminal.py");
    command.arg(script).arg(json!(steps).to_string()).arg(program()).arg("init").args(arguments);
    command.current_dir(place.folder.path()).env_clear().env("TERM", "xterm");
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let done = command.stdin(Stdio::null()).output().expect("Python runs");
    assert_clean("the terminal", &done.stdout);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

#[test]
fn answers_become_a_configuration() {
    let server = Postgres::fresh("init");
    server.run("CREATE TABLE orders (x int)");
    let Postgres { port, password, database } = &server;
    let mut place = Place::new();
    let ended = on_terminal(
        &place,
        &[],
        &[
            ("Driver (", "oracel\n"),
            ("There is no driver", "\n"),
            ("Host [localhost]: ", "127.0.0.1\n"),
            ("Port [5432]: ", "many\n"),
            ("A port is a number", &format!("{port}\n")),
            ("User [", "postgres\n"),
            ("Database [postgres]: ", &format!("{database}\n")),
            ("Password (not shown; Enter for none): ", &format!("{password}\n")),
        ],
    );
    assert_eq!((&ended["code"], &ended["echoes"]), (&json!(0), &json!(true)), "{ended}");
    let name = format!("{}_PASSWORD", database.to_ascii_uppercase());
    assert_eq!(ended["stdout"], format!("export {name}=…\nsql-exporter test\nsql-exporter\n"));
    place.set(&name, password);
    place.page();
}

#[test]
fn mysql_and_sqlite_are_asked_for_what_they_have() {
    let server = MariaDb::fresh("init");
    let MariaDb { port, password, .. } = &server;
    let mut place = Place::new();
    let steps = [
        ("Driver (", "mariadb\n"),
        ("Host [localhost]: ", "127.0.0.1\n"),
        ("Port [3306]: ", &format!("{port}\n")),
        ("User [", "root\n"),
        ("[none]: ", "\n"),
        ("Password", "${MY_PASSWORD}\n"),
    ];
    // The variable is not set there.
    let ended = on_terminal(&place, &[], &steps);
    assert_eq!(ended["code"], 2, "{ended}");
    assert!(ended["shown"].as_str().is_some_and(|shown| shown.contains("MY_PASSWORD is not set")), "{ended}");
    let ended = on_terminal(&place, &["--offline"], &steps);
    assert_eq!(ended["code"], 0, "{ended}");
    assert!(place.written("sql-exporter.yaml").contains("    password: ${MY_PASSWORD}\n"));
    place.set("MY_PASSWORD", password);
    assert_eq!(place.run(&["test"]).code(), 0);

    place.sqlite("it's 100% ü.db", "CREATE TABLE t (x)");
    let steps = [("Driver (", "sqlite\n"), ("File: ", "\n"), ("Write the path", "it's 100% ü.db\n")];
    let ended = on_terminal(&place, &["-o", "lite.yaml"], &steps);
    assert_eq!(ended["code"], 0, "{ended}");
    assert_eq!(place.run(&["-c", "lite.yaml", "collect"]).code(), 0);
}

#[test]
fn a_server_that_wants_a_password_is_asked_once_more() {
    let server = Postgres::fresh("init");
    let Postgres { port, password, database } = &server;
    let mut place = Place::new();
    let url = format!("postgres://postgres@127.0.0.1:{port}/{database}");
    let question = format!("Password for {database} (not shown): ");
    let ended = on_terminal(&place, &[&url], &[(&question, "wrong\n")]);
    assert_eq!((&ended["code"], &ended["stdout"]), (&json!(1), &json!("")), "{ended}");
    assert!(ended["shown"].as_str().is_some_and(|shown| shown.contains("(auth)")), "{ended}");
    assert!(!place.path("sql-exporter.yaml").exists());
    let ended = on_terminal(&place, &[&url], &[(&question, &format!("{password}\n"))]);
    assert_eq!((&ended["code"], &ended["echoes"]), (&json!(0), &json!(true)), "{ended}");
    place.set(&format!("{}_PASSWORD", database.to_ascii_uppercase()), password);
    place.page();
}

#[test]
fn an_interrupt_and_the_end_of_the_input_write_nothing_and_leave_the_terminal_as_it_was() {
    let before_password =
        [("Driver", "\n"), ("Host", "\n"), ("Port", "\n"), ("User", "x\n"), ("Database", "\n")];
    for last in [("Password", "\x03"), ("Password", "EOF")] {
        let place = Place::new();
        let steps: Vec<(&str, &str)> = before_password.into_iter().chain([last]).collect();
        let ended = on_terminal(&place, &[], &steps);
        assert_eq!((&ended["code"], &ended["echoes"]), (&json!(1), &json!(true)), "{last:?}: {ended}");
        assert_eq!(std::fs::read_dir(place.folder.path()).expect("the folder").count(), 0, "{last:?}");
    }
    for last in ["\x03", "EOF"] {
        let place = Place::new();
        let ended = on_terminal(&place, &[], &[("Driver", last)]);
        assert_eq!((&ended["code"], &ended["stdout"]), (&json!(1), &json!("")), "{ended}");
    }
    let long = "x".repeat(4000);
    let place = Place::new();
    let ended = on_terminal(&place, &[], &[("Driver", &format!("{long}\n")), ("There is no driver", "EOF")]);
    assert_eq!(ended["code"], 1, "{ended}");
}

#[test]
fn an_interrupt_while_it_connects_writes_nothing() {
    // Accepts, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let place = Place::new();
    let url = format!("postgres://u:x@127.0.0.1:{port}/d?connect_timeout=30");
    let ended = on_terminal(&place, &[&url, "--timeout", "30s"], &[("connecting to 1 database", "\x03")]);
    assert_eq!((&ended["code"], &ended["stdout"]), (&json!(1), &json!("")), "{ended}");
    assert!(!place.path("sql-exporter.yaml").exists());
}
